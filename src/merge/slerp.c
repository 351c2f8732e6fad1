/* slerp.c – spherical interpolation between two models: along the great circle through them, θ the angle between,
 * y = [sin((1 − t) θ) a + sin(t θ) b] / sin θ; along the line where they point the same way.
 * Shoemake 1985. `slerp` takes the base as t = 0; `nuslerp` takes t from two weights, may go between the changes of a base,
 * and by rows or columns. */
#include <math.h>

#include "merge_private.h"

typedef struct blend { /* y = a · x_a + b · x_b */
    float a, b;
} blend;

static blend line(double t)
{
    return (blend){(float)(1 - t), (float)t};
}

static blend arc(double t, double cosine)
{
    const double theta = acos(cosine), s = sin(theta);
    return (blend){(float)(sin((1 - t) * theta) / s), (float)(sin(t * theta) / s)};
}

/* Norms squared and product of two inputs, each less the base's where there is one. */
typedef struct ends {
    int a, b, base; /* base −1: none */
} ends;
static inline double value_at(const merge_rows *r, int i, int base, int64_t k)
{
    return base < 0 ? (double)r->x[i][k] : (double)(r->x[i][k] - r->x[base][k]);
}

static void add_one(const ends *e, const merge_rows *r, int64_t k, double sum[3])
{
    const double a = value_at(r, e->a, e->base, k), b = value_at(r, e->b, e->base, k);
    sum[0] += a * a;
    sum[1] += b * b;
    sum[2] += a * b;
}

static void add_all(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    (void)t;
    for (int64_t k = 0; k < r->rows * r->cols; k++) add_one(ctx, r, k, sum);
}

/* The cosine, where norms below `least` count as so large. */
static double cosine_of(const double sum[3], double least, double small)
{
    const double a = sqrt(sum[0]), b = sqrt(sum[1]);
    const double c = sum[2] / (a > least ? a : small) / (b > least ? b : small);
    return fmin(fmax(c, -1), 1);
}

static ft_status keep(merge_tensor *t, blend b)
{
    blend *to = arena_get(t->mem, sizeof *to);
    if (!to) return FT_EMEM;
    *to = b;
    t->state = to;
    return FT_OK;
}

/* --- slerp -------------------------------------------------------------------------------------------------- */
enum { T };
static const merge_param slerp_params[] = {
    [T] = {"t", false, MERGE_SHARED, (double)NAN, "0: the base, 1: the other model"}, {0}};

static ft_status slerp_look(merge_tensor *t)
{
    double sum[3];
    const ends e = {t->base, 1 - t->base, -1};
    const double at = t->value[T];
    FT_TRY(merge_scan(t, merge_all(t), add_all, (void *)(uintptr_t)&e, sum, 3));
    const double c = cosine_of(sum, 1e-8, 1);
    return keep(t, fabs(c) > 0.9995 ? line(at) : arc(at, c));
}

static void slerp_mix(const merge_tensor *t, const merge_rows *r, float *y)
{
    const blend *m = t->state;
    const float *a = r->x[t->base], *b = r->x[1 - t->base];
    for (int64_t k = 0; k < r->rows * r->cols; k++) y[k] = m->a * a[k] + m->b * b[k];
}

const merge_method merge_slerp = {
    .name = "slerp",
    .help = "spherical interpolation between the base and one model",
    .paper = "Shoemake 1985, Animating rotation with quaternion curves",
    .params = slerp_params,
    .base = MERGE_NEEDS_BASE,
    .least = 2,
    .most = 2,
    .look = slerp_look,
    .mix = slerp_mix,
};

/* --- nuslerp ------------------------------------------------------------------------------------------------ */
enum { WEIGHT, FLATTEN, ROW_WISE };
static const merge_param nuslerp_params[] = {
    [WEIGHT] = {"weight", false, MERGE_OTHERS, (double)NAN, "t is the second one's share"},
    [FLATTEN] = {"nuslerp_flatten", true, MERGE_SHARED, 1, "one angle for the whole tensor"},
    [ROW_WISE] = {"nuslerp_row_wise", true, MERGE_SHARED, 0,
                  "an angle a column instead of one a row, where it is not flattened"},
    {0}};

static ends others(const merge_tensor *t)
{
    const int a = t->base == 0 ? 1 : 0, b = t->base == a + 1 ? a + 2 : a + 1;
    return (ends){a, b, t->base};
}

static double share(const merge_tensor *t, const ends *e)
{
    const double a = t->in[e->a].value[WEIGHT], b = t->in[e->b].value[WEIGHT];
    return fabs(a + b) < 1e-6 ? 0.5 : b / (a + b);
}

static blend nuslerp_blend(double at, const double sum[3])
{
    const double c = cosine_of(sum, 1e-7, 1e-7);
    return 1 - c * c <= 1e-16 ? line(at) : arc(at, c);
}

static bool by_columns(const merge_tensor *t)
{
    return t->value[FLATTEN] == 0 && t->value[ROW_WISE] != 0 && t->rows > 1;
}

static void add_columns(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    (void)t;
    for (int64_t k = 0; k < r->rows; k++)
        for (int64_t c = 0; c < r->cols; c++) add_one(ctx, r, k * r->cols + c, sum + 3 * c);
}

static ft_status nuslerp_look(merge_tensor *t)
{
    const ends e = others(t);
    const bool columns = by_columns(t);
    const int64_t n = columns ? t->cols : 1;
    if (t->value[FLATTEN] == 0 && !columns) return FT_OK; /* each row by itself */
    double *sum = arena_get(t->mem, (size_t)n * 3 * sizeof *sum);
    blend *m = arena_get(t->mem, (size_t)n * sizeof *m);
    if (!sum || !m) return FT_EMEM;
    FT_TRY(merge_scan(t, merge_all(t), columns ? add_columns : add_all, (void *)(uintptr_t)&e, sum,
                      3 * n));
    for (int64_t i = 0; i < n; i++) m[i] = nuslerp_blend(share(t, &e), sum + 3 * i);
    t->state = m;
    return FT_OK;
}

static blend row_blend(const merge_tensor *t, const ends *e, const merge_rows *r, int64_t row)
{
    double sum[3] = {0};
    for (int64_t c = 0; c < r->cols; c++) add_one(e, r, row * r->cols + c, sum);
    return nuslerp_blend(share(t, e), sum);
}

static void nuslerp_mix(const merge_tensor *t, const merge_rows *r, float *y)
{
    const ends e = others(t);
    const blend *all = t->state;
    const bool columns = by_columns(t);
    for (int64_t row = 0; row < r->rows; row++) {
        const blend one = all ? all[0] : row_blend(t, &e, r, row);
        for (int64_t c = 0; c < r->cols; c++) {
            const int64_t k = row * r->cols + c;
            const blend m = columns ? all[c] : one;
            const float a = r->x[e.a][k], b = r->x[e.b][k];
            const float base = e.base < 0 ? 0 : r->x[e.base][k];
            y[k] = e.base < 0 ? m.a * a + m.b * b : base + (m.a * (a - base) + m.b * (b - base));
        }
    }
}

const merge_method merge_nuslerp = {
    .name = "nuslerp",
    .help = "spherical interpolation by weights, whole, by rows or columns, of changes of a base",
    .params = nuslerp_params,
    .base = MERGE_MAY_BASE,
    .least = 2,
    .most = 2, /* beside the base */
    .look = nuslerp_look,
    .mix = nuslerp_mix,
};
