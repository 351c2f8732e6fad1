/* gemm.c – matrix products on the pool with the level's own register block: tiles, packing, and the products of
 * a few rows.
 *
 * A tile is a range of rows and a range of columns. For each block of its columns and each block of k it
 * packs the panels of W (in L2), then goes over its rows: a block of A (in L1) against all panels. The bits do
 * not depend on the tiles (kern_gemm.inc), so the grid is whatever costs least on this many threads. */
#include "grid.h"

enum {
    PANEL_FLOATS = 200 * KERN_KC, /* panels of one block: 450 KB, half of the smallest usual L2 */
    GROUP = 8,                    /* row blocks of a weight gradient copied together */
};

typedef struct product {
    const kern_table *kern; /* the level in use or, for thin products, one with fewer lanes */
    float *c;
    int64_t ldc;
    const float *a; /* rows [m, k], or with `tn` columns: [k, m] */
    int64_t lda;
    kern_src b;
    bool b_rows_are_n; /* B holds rows of n (x · Wᵀ), else rows of k */
    bool tn, accumulate;
    const float *bias;
    int64_t m, n, k;
    int mr, a_width; /* a_width: of a copied block of A's columns, whole vectors */
    int64_t kc;      /* of a block */
    int64_t unit;    /* columns that a split of n keeps together */
    kern_grid grid;
} product;

/* Equal blocks of k, at most KERN_KC, whole blocks of the storage format. */
static int64_t block_of_k(int64_t k, int64_t multiple)
{
    int64_t blocks = kern_ceil_div(k, KERN_KC);
    int64_t kc = kern_ceil_div(kern_ceil_div(k, blocks), multiple) * multiple;
    if (kc > KERN_KC) kc = KERN_KC / multiple * multiple;
    return kc;
}

typedef struct scratch {
    float *panel, *a, *tmp;
} scratch;

static bool get_scratch(scratch *s, int thread, int64_t cols)
{
    int64_t a = (int64_t)GROUP * KERN_MR * KERN_KS, tmp = kern_pack_tmp(cols);
    int64_t panel = PANEL_FLOATS + 2 * 16 * KERN_KC;
    float *p = pool_scratch(thread, 0, (size_t)(panel + a + tmp) * sizeof(float));
    if (!p) return false;
    *s = (scratch){p, p + panel, p + panel + a};
    return true;
}

/* A group of row blocks of A's columns is copied together; rows are copied one block at a time. */
static int copy_blocks(const product *g, float *dst, const int64_t *row, int left, int64_t k0,
                       int64_t kc)
{
    int start[GROUP], n = left < GROUP ? left : GROUP;
    const float *a = g->a + k0 * g->lda + row[0];
    const int64_t cols = g->m - row[0];
    if (!g->tn) {
        g->kern->copy_rows(dst, g->a + row[0] * g->lda + k0, g->lda, row[1] - row[0], kc);
        return 1;
    }
    for (int i = 0; i < n; i++) start[i] = (int)(row[i] - row[0]);
    g->kern->copy_cols(dst, g->a_width, a, g->lda, kc, start, n,
                       cols < INT32_MAX ? (int)cols : INT32_MAX);
    return n;
}

/* One block of k against rows m0 … m1: every row block packs its A and meets all panels. */
static void rows_of_block(const product *g, const scratch *s, int64_t m0, int64_t m1, int64_t n0,
                          int64_t n, int64_t k0, int64_t kc)
{
    const bool load = g->accumulate || k0 > 0;
    const float *bias = g->bias && k0 + kc == g->k ? g->bias + n0 : NULL;
    const int64_t blocks = kern_ceil_div(m1 - m0, g->mr);
    for (int64_t i = 0; i < blocks;) {
        int64_t row[GROUP + 1], left = blocks - i < GROUP ? blocks - i : GROUP;
        for (int64_t j = 0; j <= left; j++) row[j] = m0 + (m1 - m0) * (i + j) / blocks;
        const int n_blocks = copy_blocks(g, s->a, row, (int)left, k0, kc);
        for (int j = 0; j < n_blocks; j++) {
            kern_ahead next = {0};
            if (!g->tn && left > 1)
                next = (kern_ahead){g->a + row[1] * g->lda + k0, g->lda, (int)(row[2] - row[1])};
            g->kern->panels(g->c + row[j] * g->ldc + n0, g->ldc, s->a + j * kc * g->a_width,
                            g->tn ? g->a_width : 0, (int)(row[j + 1] - row[j]), s->panel, kc, kc, n,
                            load, bias, next);
        }
        i += n_blocks;
    }
}

static void run_tile(void *ctx, int64_t tile, int thread)
{
    const product *g = ctx;
    kern_tile at;
    int64_t width = PANEL_FLOATS / g->kc / g->kern->nr * g->kern->nr;
    scratch s;
    if (!kern_tile_of(&at, &g->grid, tile, g->m, g->mr, g->n, g->unit)) return;
    const int64_t columns = at.n1 - at.n0;
    /* equal blocks of columns, whole panels */
    width = kern_ceil_div(kern_ceil_div(columns, kern_ceil_div(columns, width)), g->kern->nr) *
            g->kern->nr;
    if (!get_scratch(&s, thread, width)) return;
    for (int64_t n0 = at.n0; n0 < at.n1; n0 += width) {
        int64_t n = at.n1 - n0 < width ? at.n1 - n0 : width;
        for (int64_t k0 = 0; k0 < g->k; k0 += g->kc) {
            int64_t kc = g->k - k0 < g->kc ? g->k - k0 : g->kc;
            (g->b_rows_are_n ? g->kern->pack_t : g->kern->pack_n)(s.panel, &g->b, n0, n, k0, kc,
                                                                  s.tmp);
            rows_of_block(g, &s, at.m0, at.m1, n0, n, k0, kc);
        }
    }
}

static void run(product *g)
{
    if (g->m <= 0 || g->n <= 0) return;
    g->kern = kern_for_width(g->n);
    g->mr = g->n <= g->kern->lanes ? g->kern->mr1 : g->kern->mr;
    g->a_width = (int)kern_ceil_div(g->mr, g->kern->lanes) * g->kern->lanes;
    g->unit = !g->b_rows_are_n && g->b.block > g->kern->nr ? g->b.block : g->kern->nr;
    g->kc = block_of_k(g->k, g->b_rows_are_n && g->b.block > 32 ? g->b.block : 32);
    g->grid = kern_grid_for(g->m, g->n, g->k, g->mr, g->unit, g->kern->lanes, 0.5, 0.5);
    pool_run(run_tile, g, (int64_t)g->grid.m_parts * g->grid.n_parts);
}

static void own_wx(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w, int64_t m,
                   const float *bias, bool accumulate, bool transposed)
{
    product g = {.c = y,
                 .ldc = ldy,
                 .a = x,
                 .lda = ldx,
                 .b_rows_are_n = transposed,
                 .accumulate = accumulate,
                 .bias = bias,
                 .m = m,
                 .n = transposed ? w->rows : w->cols,
                 .k = transposed ? w->cols : w->rows};
    kern_src_of(&g.b, w);
    run(&g);
}

static void own_tn(float *c, int64_t ldc, const float *a, int64_t lda, int64_t m, const float *b,
                   int64_t ldb, int64_t n, int64_t t, const int32_t *seg, int n_seg)
{
    product g = {.c = c,
                 .ldc = ldc,
                 .a = a,
                 .lda = lda,
                 .tn = true,
                 .accumulate = true,
                 .m = m,
                 .n = n,
                 .k = t};
    (void)seg;
    (void)n_seg;
    if (t == 0) return;
    kern_src_f32(&g.b, b, ldb);
    run(&g);
}

const kern_gemm kern_gemm_own = {"own", own_wx, own_tn, (size_t)2 << 20};
