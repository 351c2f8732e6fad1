/* gemm.c – matrix products on the pool with the level's own register block: tiles, packing, and the products of
 * a few rows.
 *
 * A tile is a range of rows and a range of columns. For each block of its columns and each block of k it
 * packs the panels of W (in L2), then goes over its rows: a block of A (in L1) against all panels. A short second
 * part (an adapter's) joins the last block of k, and bias and residual follow while the rows of c are in cache. The bits
 * do not depend on the tiles (kern_gemm.inc), so the grid is whatever costs least on this many threads. */
#include "grid.h"

enum {
    PANEL_FLOATS = 200 * KERN_KC, /* panels of one block: 450 KB, half of the smallest usual L2 */
    TERM_K = 64,                  /* a second part this short shares the last pass of the first, */
    TERM_FLOATS = PANEL_FLOATS / 8, /* with panels of its own */
    GROUP = 8,                      /* row blocks of a weight gradient copied together */
};

/* a · B, a part of the sum. */
typedef struct part {
    const float *a; /* rows [m, k], or with `tn` columns: [k, m] */
    int64_t lda;
    kern_src b;
    bool b_rows_are_n; /* B holds rows of n (x · Wᵀ), else rows of k */
    int64_t k, kc;     /* kc: of a block */
} part;

typedef struct product {
    const kern_table *kern; /* the level in use or, for thin products, one with fewer lanes */
    float *c;
    int64_t ldc;
    part part[2]; /* one chain of additions after the other */
    int n_parts;
    bool tn, accumulate;
    const float *bias, *add;
    int64_t ld_add;
    int64_t m, n;
    int mr, a_width; /* a_width: of a copied block of A's columns, whole vectors */
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
    float *panel, *term, *a, *tmp;
} scratch;

static bool get_scratch(scratch *s, int thread, int64_t cols)
{
    int64_t a = (int64_t)GROUP * KERN_MR * KERN_KS, tmp = kern_pack_tmp(cols);
    int64_t panel = PANEL_FLOATS + 2 * 16 * KERN_KC, term = TERM_FLOATS + 2 * 16 * TERM_K;
    float *p = pool_scratch(thread, 0, (size_t)(panel + term + a + tmp) * sizeof(float));
    if (!p) return false;
    *s = (scratch){p, p + panel, p + panel + term, p + panel + term + a};
    return true;
}

/* A block of k of a part, and its panels. */
typedef struct step {
    const part *of;
    int64_t k0, kc;
    float *panel;
} step;

/* The columns of c that are made in one go, and how far their sums are. */
typedef struct columns {
    int64_t n0, n;
    bool load, ends; /* there is something to add to; nothing follows */
} columns;

/* A group of row blocks of A's columns is copied together; rows are copied one block at a time. */
static int copy_blocks(const product *g, const step *b, float *dst, const int64_t *row, int left)
{
    int start[GROUP], n = left < GROUP ? left : GROUP;
    const part *p = b->of;
    const int64_t cols = g->m - row[0];
    if (!g->tn) {
        g->kern->copy_rows(dst, p->a + row[0] * p->lda + b->k0, p->lda, row[1] - row[0], b->kc);
        return 1;
    }
    for (int i = 0; i < n; i++) start[i] = (int)(row[i] - row[0]);
    g->kern->copy_cols(dst, g->a_width, p->a + b->k0 * p->lda + row[0], p->lda, b->kc, start, n,
                       cols < INT32_MAX ? (int)cols : INT32_MAX);
    return n;
}

/* Steps against rows m0 … m1: every row block packs its A and meets all panels. */
static void rows_of_steps(const product *g, const scratch *s, const kern_tile *at,
                          const columns *to, const step *b, int n_b)
{
    const int64_t height = at->m1 - at->m0, blocks = kern_ceil_div(height, g->mr);
    const float *bias = g->bias && to->ends ? g->bias + to->n0 : NULL;
    for (int64_t i = 0, done = 1; i < blocks; i += done) {
        int64_t row[GROUP + 1] = {0}, left = blocks - i < GROUP ? blocks - i : GROUP;
        for (int64_t j = 0; j <= left; j++) row[j] = at->m0 + height * (i + j) / blocks;
        float *c = g->c + to->n0;
        for (int q = 0; q < n_b; q++) {
            const part *p = b[q].of;
            kern_ahead next = {0};
            if (!g->tn && left > 1)
                next =
                    (kern_ahead){p->a + row[1] * p->lda + b[q].k0, p->lda, (int)(row[2] - row[1])};
            done = copy_blocks(g, &b[q], s->a, row, (int)left);
            for (int64_t j = 0; j < done; j++)
                g->kern->panels(c + row[j] * g->ldc, g->ldc, s->a + j * b[q].kc * g->a_width,
                                g->tn ? g->a_width : 0, (int)(row[j + 1] - row[j]), b[q].panel,
                                b[q].kc, b[q].kc, to->n, to->load || q > 0,
                                q + 1 == n_b ? bias : NULL, next);
        }
        for (int64_t r = row[0]; g->add && to->ends && r < row[done]; r++)
            g->kern->add(c + r * g->ldc, c + r * g->ldc, g->add + r * g->ld_add + to->n0, to->n);
    }
}

static step packed(const product *g, const scratch *s, const columns *to, const part *p, int64_t k0,
                   float *panel)
{
    const step b = {p, k0, p->k - k0 < p->kc ? p->k - k0 : p->kc, panel};
    (p->b_rows_are_n ? g->kern->pack_t : g->kern->pack_n)(panel, &p->b, to->n0, to->n, k0, b.kc,
                                                          s->tmp);
    return b;
}

static bool shares_pass(const product *g)
{
    return g->n_parts > 1 && g->part[1].k <= TERM_K;
}

/* Columns of a block: as many as L2 allows, in equal blocks of whole panels. */
static int64_t block_columns(const product *g, int64_t n)
{
    const int64_t nr = g->kern->nr;
    int64_t most = PANEL_FLOATS / g->part[0].kc;
    if (g->n_parts > 1 && PANEL_FLOATS / g->part[1].kc < most) most = PANEL_FLOATS / g->part[1].kc;
    if (shares_pass(g) && TERM_FLOATS / g->part[1].k < most) most = TERM_FLOATS / g->part[1].k;
    most = most / nr * nr;
    return kern_ceil_div(kern_ceil_div(n, kern_ceil_div(n, most)), nr) * nr;
}

static void run_tile(void *ctx, int64_t tile, int thread)
{
    const product *g = ctx;
    kern_tile at;
    scratch s;
    if (!kern_tile_of(&at, &g->grid, tile, g->m, g->mr, g->n, g->unit)) return;
    const int64_t width = block_columns(g, at.n1 - at.n0);
    const int passes = shares_pass(g) ? 1 : g->n_parts;
    if (!get_scratch(&s, thread, width)) return;
    for (int64_t n0 = at.n0; n0 < at.n1; n0 += width) {
        columns to = {.n0 = n0, .n = at.n1 - n0 < width ? at.n1 - n0 : width};
        for (int i = 0; i < passes; i++) {
            const part *p = &g->part[i];
            for (int64_t k0 = 0; k0 < p->k; k0 += p->kc) {
                const bool last = k0 + p->kc >= p->k;
                step b[2];
                int n_b = 0;
                to.load = g->accumulate || i > 0 || k0 > 0;
                to.ends = last && i + 1 == passes;
                b[n_b++] = packed(g, &s, &to, p, k0, s.panel);
                if (last && shares_pass(g)) b[n_b++] = packed(g, &s, &to, p + 1, 0, s.term);
                rows_of_steps(g, &s, &at, &to, b, n_b);
            }
        }
    }
}

static void run(product *g)
{
    const part *first = &g->part[0];
    if (g->m <= 0 || g->n <= 0) return;
    g->kern = kern_for_width(g->n);
    g->mr = g->n <= g->kern->lanes ? g->kern->mr1 : g->kern->mr;
    g->a_width = (int)kern_ceil_div(g->mr, g->kern->lanes) * g->kern->lanes;
    g->unit = !first->b_rows_are_n && first->b.block > g->kern->nr ? first->b.block : g->kern->nr;
    for (int i = 0; i < g->n_parts; i++) {
        part *p = &g->part[i];
        p->kc = block_of_k(p->k, p->b_rows_are_n && p->b.block > 32 ? p->b.block : 32);
    }
    g->grid = kern_grid_for(g->m, g->n, first->k, g->mr, g->unit, g->kern->lanes, 0.5, 0.5);
    pool_run(run_tile, g, (int64_t)g->grid.m_parts * g->grid.n_parts);
}

static part part_of(kn_rows x, const kn_mat *w, bool in_out)
{
    part p = {.a = x.data, .lda = x.ld, .b_rows_are_n = !in_out, .k = in_out ? w->rows : w->cols};
    kern_src_of(&p.b, w);
    return p;
}

static void own_wx(const kn_product *p)
{
    product g = {.c = p->y.data,
                 .ldc = p->y.ld,
                 .part = {part_of(p->x, p->w, p->in_out)},
                 .n_parts = 1,
                 .accumulate = p->accumulate,
                 .bias = p->bias,
                 .add = p->add,
                 .ld_add = p->ld_add,
                 .m = p->m,
                 .n = p->in_out ? p->w->cols : p->w->rows};
    if (p->term) g.part[g.n_parts++] = part_of(p->term->x, p->term->w, p->term->in_out);
    run(&g);
}

static void own_tn(float *c, int64_t ldc, const float *a, int64_t lda, int64_t m, const float *b,
                   int64_t ldb, int64_t n, int64_t t, const int32_t *seg, int n_seg)
{
    product g = {.c = c,
                 .ldc = ldc,
                 .part = {{.a = a, .lda = lda, .k = t}},
                 .n_parts = 1,
                 .tn = true,
                 .accumulate = true,
                 .m = m,
                 .n = n};
    (void)seg;
    (void)n_seg;
    if (t == 0) return;
    kern_src_f32(&g.part[0].b, b, ldb);
    run(&g);
}

const kern_gemm kern_gemm_own = {"own", own_wx, own_tn, (size_t)2 << 20};
