/* model_stock.c – the mean of fine-tuned models, drawn to the base by how far they disagree: with N models whose changes
 * have a mean cosine c, t = N c / (1 + (N − 1) c), y = t · mean + (1 − t) · base.
 * Jang et al. 2024, Model Stock. */
#include <math.h>

#include "merge_private.h"

enum { FILTER_WISE };
static const merge_param params[] = {
    [FILTER_WISE] = {"filter_wise", true, MERGE_SHARED, 0, "a t for each row of a matrix"}, {0}};

static int other(const merge_tensor *t, int i) /* the i-th input but the base */
{
    return i + (t->base <= i);
}

static int64_t n_products(const merge_tensor *t)
{
    const int64_t n = t->n - 1;
    return n * (n + 1) / 2;
}

/* Products of all changes with each other, themselves first: values [k, end) of the tile */
static void add(const merge_tensor *t, const merge_rows *r, int64_t k, int64_t end, double *sum)
{
    const float *base = r->x[t->base];
    for (; k < end; k++) {
        double *to = sum;
        for (int i = 0; i < t->n - 1; i++) {
            const double a = (double)(r->x[other(t, i)][k] - base[k]);
            for (int j = i; j < t->n - 1; j++)
                *to++ += a * (double)(r->x[other(t, j)][k] - base[k]);
        }
    }
}

static void add_all(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    (void)ctx;
    add(t, r, 0, r->rows * r->cols, sum);
}

static float ratio(const merge_tensor *t, const double *product)
{
    const int n = t->n - 1;
    double norm[MERGE_MODELS], sum = 0;
    int at = 0;
    for (int i = 0; i < n; at += n - i, i++) norm[i] = sqrt(product[at]);
    at = 0;
    for (int i = 0; i < n; i++) {
        at++; /* its own norm */
        for (int j = i + 1; j < n; j++, at++)
            sum += fmin(fmax(product[at] / fmax(norm[i] * norm[j], 1e-6), -1), 1);
    }
    const double c = sum / (0.5 * n * (n - 1)), d = 1 + (n - 1) * c;
    return fabs(d) < 1e-6 ? 0 : (float)(n * c / d);
}

static ft_status look(merge_tensor *t)
{
    if (t->value[FILTER_WISE] != 0) return FT_OK; /* each row by itself */
    double *product = arena_get(t->mem, (size_t)n_products(t) * sizeof *product);
    float *state = arena_get(t->mem, sizeof *state);
    if (!product || !state) return FT_EMEM;
    FT_TRY(merge_scan(t, merge_all(t), add_all, NULL, product, n_products(t)));
    *state = ratio(t, product);
    t->state = state;
    return FT_OK;
}

static float row_ratio(const merge_tensor *t, const merge_rows *r, int64_t row)
{
    double *product = pool_scratch(r->thread, 2, (size_t)n_products(t) * sizeof *product);
    if (!product) return 0;
    for (int64_t i = 0; i < n_products(t); i++) product[i] = 0;
    add(t, r, row * r->cols, (row + 1) * r->cols, product);
    return ratio(t, product);
}

static void mix(const merge_tensor *t, const merge_rows *r, float *y)
{
    const float *all = t->state, n = (float)(t->n - 1);
    for (int64_t row = 0; row < r->rows; row++) {
        const float s = all ? *all : row_ratio(t, r, row);
        for (int64_t k = row * r->cols; k < (row + 1) * r->cols; k++) {
            float sum = 0;
            for (int i = 0; i < t->n - 1; i++) sum += r->x[other(t, i)][k];
            y[k] = s * (sum / n) + (1 - s) * r->x[t->base][k];
        }
    }
}

const merge_method merge_model_stock = {
    .name = "model_stock",
    .help = "mean of models, drawn to the base by the angles between their changes",
    .paper = "Jang et al. 2024, Model Stock",
    .params = params,
    .base = MERGE_NEEDS_BASE,
    .least = 3,
    .look = look,
    .mix = mix,
};
