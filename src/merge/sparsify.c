/* sparsify.c – what of a task vector is kept: its largest values (TIES), random ones (DARE), large ones without the largest
 * (Model Breadcrumbs), or random ones by their rank in a row (DELLA's MAGPRUNE). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "merge_private.h"

static int64_t share(double part, const merge_tensor *t)
{
    const double n = (double)(t->rows * t->cols);
    return (int64_t)(fmin(fmax(part, 0), 1) * n);
}

/* --- magnitude: max(1, ⌊density n⌋) of n values ---------------------------------------------------------------- */
static ft_status magnitude_look(const merge_tensor *t, int i, merge_cut *cut)
{
    const int64_t k = share(cut->density, t);
    return merge_pick(t, i, k > 0 ? k : 1, &cut->top);
}

static void magnitude_cut(const merge_cut *cut, const merge_rows *r, float *delta)
{
    const int64_t at = r->row0 * r->cols;
    for (int64_t k = 0; k < r->rows * r->cols; k++)
        if (!merge_is_top(&cut->top, delta[k], at + k)) delta[k] = 0;
}
const merge_sparse merge_magnitude = {.look = magnitude_look, .cut = magnitude_cut};

/* --- outliers: ⌊density n⌋ values below the largest ⌊gamma n⌋, or as few below as there is room for ----------------- */
static ft_status outliers_look(const merge_tensor *t, int i, merge_cut *cut)
{
    const int64_t n = t->rows * t->cols, k = share(cut->density, t), top = share(cut->gamma, t);
    const int64_t above = k + top < n ? top : n - k;
    FT_TRY(merge_pick(t, i, above, &cut->outlier));
    return merge_pick(t, i, above + k, &cut->top);
}

static void outliers_cut(const merge_cut *cut, const merge_rows *r, float *delta)
{
    const int64_t at = r->row0 * r->cols;
    for (int64_t k = 0; k < r->rows * r->cols; k++)
        if (!merge_is_top(&cut->top, delta[k], at + k) ||
            merge_is_top(&cut->outlier, delta[k], at + k))
            delta[k] = 0;
}
const merge_sparse merge_outliers = {.look = outliers_look, .cut = outliers_cut};

/* --- random: each with probability density ------------------------------------------------------------------------ */
static void random_cut(const merge_cut *cut, const merge_rows *r, float *delta)
{
    const int64_t at = r->row0 * r->cols;
    for (int64_t k = 0; k < r->rows * r->cols; k++)
        if (!(rng_uniform(cut->key, (uint64_t)(at + k)) < cut->density)) delta[k] = 0;
}
const merge_sparse merge_random = {.cut = random_cut};

/* --- magprune: with rank r of c in its row, 1 the smallest, with probability density − ε + 2 ε (r − 1) / (c − 1) --- */
static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void magprune_cut(const merge_cut *cut, const merge_rows *r, float *delta)
{
    const int64_t n = r->cols;
    uint64_t *order = pool_scratch(r->thread, 3, (size_t)n * sizeof *order);
    if (!order) return;
    for (int64_t row = 0; row < r->rows; row++) {
        float *d = delta + row * n;
        const int64_t at = (r->row0 + row) * n;
        for (int64_t c = 0; c < n; c++) {
            const float size = fabsf(d[c]);
            uint32_t bits;
            memcpy(&bits, &size, sizeof bits);
            order[c] = (uint64_t)bits << 32 | (uint64_t)c;
        }
        qsort(order, (size_t)n, sizeof *order, by_size);
        for (int64_t rank = 0; rank < n; rank++) {
            const int64_t c = (int64_t)(order[rank] & UINT32_MAX);
            const double up = n > 1 ? (double)rank / (double)(n - 1) : 0.5;
            const double p = cut->density - cut->epsilon + 2 * cut->epsilon * up;
            if (!(rng_uniform(cut->key, (uint64_t)(at + c)) < p)) d[c] = 0;
        }
    }
}
const merge_sparse merge_magprune = {.cut = magprune_cut};
