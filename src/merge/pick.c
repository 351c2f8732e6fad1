/* pick.c – the k largest changes of a tensor without a copy of them: the bits of a magnitude are counted, the upper half and
 * then the lower one among those that share the upper, which gives the smallest one that is kept; of equal ones those at
 * the lower places are. */
#include <math.h>
#include <string.h>

#include "merge_private.h"

enum { HALVES = 1 << 16 };

typedef struct count {
    int input;
    int64_t *bins; /* [threads][HALVES] */
    uint32_t high; /* of those whose lower half is counted */
    bool lower;
    uint32_t bits;  /* of the smallest: */
    int64_t *equal; /* [tiles] how many are equal to it */
} count;

static uint32_t bits_of(float x)
{
    uint32_t u;
    x = fabsf(x);
    memcpy(&u, &x, sizeof u);
    return u;
}

static uint32_t bits_at(const merge_tensor *t, const merge_rows *r, int i, int64_t k)
{
    return bits_of(r->x[i][k] - r->x[t->base][k]);
}

static void fill_bins(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    const count *c = ctx;
    int64_t *bin = c->bins + (int64_t)r->thread * HALVES;
    (void)sum;
    for (int64_t k = 0; k < r->rows * r->cols; k++) {
        const uint32_t u = bits_at(t, r, c->input, k);
        if (!c->lower)
            bin[u >> 16]++;
        else if (u >> 16 == c->high)
            bin[u & (HALVES - 1)]++;
    }
}

static void count_equal(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    const count *c = ctx;
    (void)sum;
    for (int64_t k = 0; k < r->rows * r->cols; k++)
        c->equal[r->tile] += bits_at(t, r, c->input, k) == c->bits;
}

/* The bin from the top in which the k-th one is, and how many of it are wanted. */
static ft_status find_bin(const merge_tensor *t, count *c, int64_t *k, uint32_t *bin)
{
    const int threads = pool_threads();
    memset(c->bins, 0, (size_t)threads * HALVES * sizeof *c->bins);
    FT_TRY(merge_scan(t, (uint64_t)1 << c->input | (uint64_t)1 << t->base, fill_bins, c, NULL, 0));
    for (*bin = HALVES; (*bin)-- > 0;) {
        int64_t n = 0;
        for (int i = 0; i < threads; i++) n += c->bins[(int64_t)i * HALVES + *bin];
        if (n >= *k) return FT_OK;
        *k -= n;
    }
    return ft_fail(FT_EINTERNAL, "\"%s\": fewer values than are kept", t->name);
}

typedef struct place {
    const count *c;
    int64_t tile, left, found;
} place;

static void find_place(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    place *p = ctx;
    (void)sum;
    if (r->tile != p->tile) return;
    for (int64_t k = 0; k < r->rows * r->cols; k++) {
        if (bits_at(t, r, p->c->input, k) != p->c->bits || --p->left > 0) continue;
        p->found = r->row0 * r->cols + k + 1;
        return;
    }
}

/* The place behind the k-th value that is equal to the smallest. */
static ft_status find_end(const merge_tensor *t, count *c, int64_t k, int64_t *end)
{
    const uint64_t reads = (uint64_t)1 << c->input | (uint64_t)1 << t->base;
    place p = {.c = c, .left = k};
    memset(c->equal, 0, (size_t)merge_tiles(t) * sizeof *c->equal);
    FT_TRY(merge_scan(t, reads, count_equal, c, NULL, 0));
    int64_t all = 0;
    for (int64_t i = 0; i < merge_tiles(t); i++) all += c->equal[i];
    *end = INT64_MAX;
    if (k >= all) return FT_OK;
    while (c->equal[p.tile] < p.left) p.left -= c->equal[p.tile++];
    FT_TRY(merge_scan(t, reads, find_place, &p, NULL, 0));
    *end = p.found;
    return FT_OK;
}

ft_status merge_pick(const merge_tensor *t, int i, int64_t k, merge_top *out)
{
    count c = {.input = i};
    uint32_t low = 0;
    *out = (merge_top){.bits = UINT32_MAX};
    if (k <= 0) return FT_OK;
    *out = (merge_top){.end = INT64_MAX};
    if (k >= t->rows * t->cols) return FT_OK;
    c.bins = ft_alloc((size_t)pool_threads() * HALVES, sizeof *c.bins);
    c.equal = ft_alloc((size_t)merge_tiles(t), sizeof *c.equal);
    ft_status rc = c.bins && c.equal ? find_bin(t, &c, &k, &c.high) : FT_EMEM;
    c.lower = true;
    if (rc == FT_OK) rc = find_bin(t, &c, &k, &low);
    out->bits = c.bits = c.high << 16 | low;
    if (rc == FT_OK) rc = find_end(t, &c, k, &out->end);
    ft_free(c.bins);
    ft_free(c.equal);
    return rc;
}

bool merge_is_top(const merge_top *p, float x, int64_t at)
{
    const uint32_t u = bits_of(x);
    return u > p->bits || (u == p->bits && at < p->end);
}
