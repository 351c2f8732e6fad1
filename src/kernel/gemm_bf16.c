/* gemm_bf16.c – matrix products in bf16 on the pool: tiles, and the packing of panels from every storage format.
 *
 * A tile is a range of rows and a range of columns. For each block of its columns it packs the panels of W for as many
 * k as L2 holds, then goes over its rows in blocks: rows in f32 are rounded into scratch, rows in bf16 are read where they
 * lie; after the last k a block of y is in cache and gets bias, residual and rounding. A weight gradient sums over
 * tokens: words pair neighbours of one sequence, and its last one is filled up with zeros, so that the bits do not
 * depend on which sequences share a call. */
#include "grid.h"
#include "kern_bf16.h"

#include <string.h>

enum {
    PACK = 1024,  /* values of a row unpacked at a time: whole blocks of every format */
    THIN = 32,    /* columns of a weight gradient that is made turned: ranks of adapters */
    WIDEST = 2048 /* columns of a block, however short k is: a block of y stays in L2 too */
};

static int64_t round_up(int64_t n, int64_t unit)
{
    return kern_ceil_div(n, unit) * unit;
}

/* --- y = x · W ------------------------------------------------------------------------------------------------ */

typedef struct product {
    const kn_product *p;
    const kern_dot *dot;
    kn_rows x;
    kern_src w;
    bool in_out;
    const struct product *term; /* x, w, in_out, k and padding of a further term; NULL: none */
    int64_t n, k, padded;       /* padded: k with its padding */
    int64_t packed;             /* of it, what one set of panels holds */
    int64_t unit;               /* columns that a split of n keeps together */
    kern_grid grid;
} product;

typedef struct scratch {
    uint16_t *panel, *a, *row; /* row: values of DOT_NR rows, or of two */
    float *tmp, *c;            /* an unpacked piece of a row; a block of y */
    uint16_t *term_panel;      /* those of the term */
} scratch;

static uint16_t *take(char **at, int64_t bytes)
{
    char *p = *at;
    *at += round_up(bytes, 64);
    return (uint16_t *)(void *)p;
}

/* Columns of a block: as many as L2 allows, in equal pairs of panels. */
static int64_t block_columns(const product *g, int64_t n)
{
    const int64_t deep = g->packed + (g->term ? g->term->padded : 0);
    int64_t most = g->dot->panel_values / deep / (2 * DOT_NR) * 2 * DOT_NR;
    if (most < 2 * DOT_NR) most = 2 * DOT_NR;
    if (most > WIDEST) most = WIDEST;
    return round_up(kern_ceil_div(n, kern_ceil_div(n, most)), 2 * DOT_NR);
}

static bool get_scratch(const product *g, scratch *s, int thread, int64_t width)
{
    const int64_t wide = width + 2 * DT_BLOCK_MAX; /* a piece of a row in whole blocks */
    const int64_t term = g->term ? g->term->padded : 0;
    const int64_t panel = 2 * width * g->packed, term_panel = 2 * width * term;
    const int64_t a = 2 * DOT_MR * (g->packed > term ? g->packed : term);
    const int64_t row = 2 * (DOT_NR * PACK > 2 * wide ? DOT_NR * PACK : 2 * wide);
    const int64_t tmp = 4 * (PACK > wide ? PACK : wide), c = 4 * DOT_MR * width;
    char *p = pool_scratch(thread, 0, (size_t)(panel + term_panel + a + row + tmp + c + 6 * 64));
    if (!p) return false;
    s->panel = take(&p, panel);
    s->term_panel = take(&p, term_panel);
    s->a = take(&p, a);
    s->row = take(&p, row);
    s->tmp = (float *)(void *)take(&p, tmp);
    s->c = (float *)(void *)take(&p, c);
    return true;
}

/* Values col … col + n of a row of w as bf16: where they lie, or in dst. */
static const uint16_t *bf16_values(const product *g, uint16_t *dst, float *tmp, int64_t row,
                                   int64_t col, int64_t n)
{
    const kern_src *w = &g->w;
    if (w->bf16) {
        const char *at = kern_src_row(w, row) + col * 2;
        if ((uintptr_t)at % sizeof(uint16_t) == 0) return (const uint16_t *)(const void *)at;
        memcpy(dst, at, (size_t)n * sizeof *dst);
        return dst;
    }
    if (w->plain) {
        g->dot->round(dst, (const float *)(const void *)kern_src_row(w, row) + col, n);
        return dst;
    }
    if (w->halves) {
        w->halves(dst, w, row, col, n);
        return dst;
    }
    kern_src_values(w, tmp, row, col, n);
    g->dot->round(dst, tmp, n);
    return dst;
}

/* Where the panels of a block stand in W: columns of y, and k. */
typedef struct place {
    int64_t n0, n, k0, kc; /* kc: with padding */
} place;

/* Panels of rows n0 … n0 + n of w. */
static void pack_rows(const product *g, const scratch *s, const place *at)
{
    static const uint16_t zeros[PACK];
    for (int64_t j = 0; j < at->n; j += DOT_NR) {
        uint16_t *panel = s->panel + j * at->kc;
        for (int64_t k0 = 0; k0 < at->kc; k0 += PACK) {
            const int64_t kc = at->kc - k0 < PACK ? at->kc - k0 : PACK;
            const int64_t left = g->k - at->k0 - k0, there = left < kc ? left : kc;
            const uint16_t *row[DOT_NR];
            for (int64_t i = 0; i < DOT_NR; i++) {
                uint16_t *copy = s->row + i * PACK;
                row[i] = zeros;
                if (j + i >= at->n) continue;
                row[i] = bf16_values(g, copy, s->tmp, at->n0 + j + i, at->k0 + k0, there);
                if (there == kc) continue;
                if (row[i] != copy) memcpy(copy, row[i], (size_t)there * sizeof *copy);
                memset(copy + there, 0, (size_t)(kc - there) * sizeof *copy);
                row[i] = copy;
            }
            g->dot->pack_t(panel + k0 * DOT_NR, row, kc);
        }
    }
}

/* Panels of columns n0 … n0 + n of w, whose rows are k. */
static void pack_columns(const product *g, const scratch *s, const place *at)
{
    const int64_t block = g->w.block, first = at->n0 / block * block, end = at->k0 + at->kc;
    const int64_t wide = round_up(at->n0 + at->n, block) - first, skip = at->n0 - first;
    uint16_t *spare = s->row + wide;
    for (int64_t k = at->k0; k < end; k += 2) {
        const uint16_t *even = NULL, *odd = NULL;
        if (k < g->k) even = bf16_values(g, s->row, s->tmp, k, first, wide) + skip;
        if (k + 1 < g->k) odd = bf16_values(g, spare, s->tmp, k + 1, first, wide) + skip;
        if (!odd) {
            memset(spare, 0, (size_t)at->n * sizeof *spare);
            odd = spare;
            if (!even) even = spare;
        }
        g->dot->pack_n(s->panel + (k - at->k0) * DOT_NR, at->kc * DOT_NR, even, odd, at->n);
    }
}

/* Rows m0 … m0 + rows of x in bf16, at the place's k and padded; *lda is their distance. */
static const uint16_t *rows_of_x(const product *g, const scratch *s, const place *at, int64_t m0,
                                 int rows, int64_t *lda)
{
    const kn_rows *x = &g->x;
    const int64_t left = g->k - at->k0, there = left < at->kc ? left : at->kc;
    *lda = x->ld;
    if (x->bf16 && there == at->kc) return (const uint16_t *)x->data + m0 * x->ld + at->k0;
    *lda = at->kc;
    for (int i = 0; i < rows; i++) {
        uint16_t *to = s->a + i * at->kc;
        const int64_t from = (m0 + i) * x->ld + at->k0;
        if (x->bf16)
            memcpy(to, (const uint16_t *)x->data + from, (size_t)there * sizeof *to);
        else
            g->dot->round(to, (const float *)x->data + from, there);
        memset(to + there, 0, (size_t)(at->kc - there) * sizeof *to);
    }
    return s->a;
}

/* What follows the sums of a block of y. */
static void finish_rows(const product *g, float *c, int64_t ldc, int64_t m0, int rows, int64_t n0,
                        int64_t n)
{
    const kn_product *p = g->p;
    for (int i = 0; i < rows; i++, c += ldc) {
        if (p->bias) kern->add(c, c, p->bias + n0, n);
        if (p->add) kern->add(c, c, p->add + (m0 + i) * p->ld_add + n0, n);
        if (p->y.bf16) g->dot->round((uint16_t *)p->y.data + (m0 + i) * p->y.ld + n0, c, n);
    }
}

/* Start of block i of a tile's rows. */
static int64_t block_start(const product *g, const kern_tile *of, int64_t blocks, int64_t i)
{
    const int64_t unit = g->dot->row_unit, units = kern_ceil_div(of->m1 - of->m0, unit);
    const int64_t at = of->m0 + units * i / blocks * unit;
    return at < of->m1 ? at : of->m1;
}

/* The rows of x from `row` to `end`, which the next block takes. */
static kern_next next_rows(const product *g, const place *at, int64_t row, int64_t end)
{
    const kn_rows *x = &g->x;
    const int64_t size = x->bf16 ? 2 : 4, left = g->k - at->k0,
                  there = left < at->kc ? left : at->kc;
    return (kern_next){.at = (const char *)x->data + (row * x->ld + at->k0) * size,
                       .ld = x->ld * size,
                       .bytes = there * size,
                       .rows = (int)(end - row)};
}

/* The term of a block of y that has its other sums. */
static void add_term(const product *g, const scratch *s, float *c, int64_t ldc, int64_t m0,
                     int rows, int64_t n0, int64_t n)
{
    const place at = {.n0 = n0, .n = n, .kc = g->term->padded};
    int64_t lda;
    const uint16_t *a = rows_of_x(g->term, s, &at, m0, rows, &lda);
    g->dot->panels(c, ldc, a, lda, rows, s->term_panel, at.kc, at.kc, n, true, NULL);
}

static void rows_of_tile(const product *g, const scratch *s, const kern_tile *of, const place *at)
{
    const kn_product *p = g->p;
    const int64_t blocks = kern_ceil_div(of->m1 - of->m0, g->dot->mr);
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t r0 = block_start(g, of, blocks, b), r1 = block_start(g, of, blocks, b + 1);
        const int64_t r2 = b + 1 < blocks ? block_start(g, of, blocks, b + 2) : r1;
        const kern_next next = next_rows(g, at, r1, r2);
        const int rows = (int)(r1 - r0);
        float *c = p->y.bf16 ? s->c : (float *)p->y.data + r0 * p->y.ld + at->n0;
        const int64_t ldc = p->y.bf16 ? at->n : p->y.ld;
        int64_t lda;
        const uint16_t *a = rows_of_x(g, s, at, r0, rows, &lda);
        g->dot->panels(c, ldc, a, lda, rows, s->panel, at->kc, at->kc, at->n,
                       p->accumulate || at->k0 > 0, &next);
        if (at->k0 + at->kc < g->padded) continue;
        if (g->term) add_term(g, s, c, ldc, r0, rows, at->n0, at->n);
        finish_rows(g, c, ldc, r0, rows, at->n0, at->n);
    }
}

/* The panels of a place. */
static void pack(const product *g, const scratch *s, const place *at)
{
    (g->in_out ? pack_columns : pack_rows)(g, s, at);
}

static void pack_term(const product *g, const scratch *s, int64_t n0, int64_t n)
{
    scratch own = *s;
    own.panel = s->term_panel;
    pack(g->term, &own, &(place){.n0 = n0, .n = n, .kc = g->term->padded});
}

static void run_tile(void *ctx, int64_t tile, int thread)
{
    const product *g = ctx;
    kern_tile of;
    scratch s;
    if (!kern_tile_of(&of, &g->grid, tile, g->p->m, g->dot->mr, g->n, g->unit)) return;
    const int64_t width = block_columns(g, of.n1 - of.n0);
    if (!get_scratch(g, &s, thread, width)) return;
    for (int64_t n0 = of.n0; n0 < of.n1; n0 += width) {
        place at = {.n0 = n0, .n = of.n1 - n0 < width ? of.n1 - n0 : width};
        if (g->term) pack_term(g, &s, at.n0, at.n);
        for (; at.k0 < g->padded; at.k0 += g->packed) {
            at.kc = g->padded - at.k0 < g->packed ? g->padded - at.k0 : g->packed;
            pack(g, &s, &at);
            rows_of_tile(g, &s, &of, &at);
        }
    }
    if (g->dot->end) g->dot->end();
}

/* One operand pair: y's columns and its own k. */
static product pair_of(const kn_product *p, kn_rows x, const kn_mat *w, bool in_out)
{
    product g = {.p = p, .dot = kern_dot_row, .x = x, .in_out = in_out};
    g.n = in_out ? w->cols : w->rows;
    g.k = in_out ? w->rows : w->cols;
    kern_src_of(&g.w, w);
    g.padded = g.packed = round_up(g.k > 0 ? g.k : 1, g.dot->k_unit);
    return g;
}

void kern_bf16_product(const kn_product *p)
{
    product g = pair_of(p, p->x, p->w, p->in_out), term;
    if (p->m <= 0 || g.n <= 0) return;
    if (p->term) {
        term = pair_of(p, p->term->x, p->term->w, p->term->in_out);
        g.term = &term;
    }
    if (g.packed > g.dot->k_most && !p->y.bf16) g.packed = g.dot->k_most; /* sums wait in y */
    g.unit = p->in_out && g.w.block > 2 * DOT_NR ? g.w.block : 2 * DOT_NR;
    g.grid = kern_grid_for(p->m, g.n, g.k, g.dot->mr, g.unit, 2 * DOT_NR,
                           p->x.bf16 ? 0.5 : (double)g.dot->round_cost, (double)g.dot->pack_cost);
    pool_run(run_tile, &g, (int64_t)g.grid.m_parts * g.grid.n_parts);
}

/* --- c += aᵀ · b over tokens ------------------------------------------------------------------------------------ */

typedef struct grad {
    const kern_dot *dot;
    float *c;
    int64_t ldc, m, n, t;
    kn_rows a, b;
    bool turned; /* a and b have changed places: the result is cᵀ */
    const int32_t *seg;
    int n_seg;
    kern_grid grid;
} grad;

/* A walk over the tokens in blocks of places, of which those behind a sequence's end are empty. */
typedef struct walk {
    int seg;
    int64_t in_seg, token;  /* done of the sequence, of all */
    int64_t places;         /* of the block, a multiple of k_unit */
    int64_t at[DOT_TOKENS]; /* the token of each place, −1: none */
} walk;

static bool next_block(const grad *g, walk *w)
{
    const int unit = g->dot->k_unit, tokens = g->dot->tokens;
    w->places = 0;
    while (w->seg < g->n_seg && w->places < tokens) {
        const int64_t left = g->seg[w->seg] - w->in_seg, room = tokens - w->places;
        const int64_t n = left < room ? left : room;
        for (int64_t i = 0; i < n; i++) w->at[w->places++] = w->token++;
        w->in_seg += n;
        if (w->in_seg < g->seg[w->seg]) break;
        while (w->places % unit) w->at[w->places++] = -1;
        w->seg++;
        w->in_seg = 0;
    }
    return w->places > 0;
}

/* Columns j0 … j0 + n of a token's row as bf16: where they lie, or in dst. */
static const uint16_t *token_values(const grad *g, const kn_rows *x, uint16_t *dst, int64_t token,
                                    int64_t j0, int64_t n)
{
    if (token < 0) {
        memset(dst, 0, (size_t)n * sizeof *dst);
        return dst;
    }
    if (x->bf16) return (const uint16_t *)x->data + token * x->ld + j0;
    g->dot->round(dst, (const float *)x->data + token * x->ld + j0, n);
    return dst;
}

/* Panels of columns j0 … j0 + n of x over the block's places; row: room for two rows. */
static void pack_tokens(const grad *g, const kn_rows *x, uint16_t *panel, uint16_t *row,
                        const walk *w, int64_t j0, int64_t n)
{
    for (int64_t k = 0; k < w->places; k += 2) {
        const uint16_t *even = token_values(g, x, row, w->at[k], j0, n);
        const uint16_t *odd = token_values(g, x, row + n, w->at[k + 1], j0, n);
        g->dot->pack_n(panel + k * DOT_NR, w->places * DOT_NR, even, odd, n);
    }
}

typedef struct grad_scratch {
    uint16_t *panel, *columns, *a, *row; /* of b; of a; a turned into rows */
    float *c;                            /* the turned block [THIN, width] */
} grad_scratch;

/* Row distance of A in a block: an odd number of cache lines. */
static int64_t grad_ld(const kern_dot *d)
{
    return d->tokens + 32;
}

static bool get_grad_scratch(grad_scratch *s, const kern_dot *d, int thread, int64_t width)
{
    const int64_t panel = 2 * width * d->tokens, columns = 2 * (int64_t)d->grad_rows * d->tokens;
    const int64_t a = 2 * d->grad_rows * grad_ld(d);
    const int64_t row = 4 * (width > d->grad_rows ? width : d->grad_rows);
    const int64_t c = 4 * THIN * width;
    char *p = pool_scratch(thread, 0, (size_t)(panel + columns + a + row + c + 5 * 64));
    if (!p) return false;
    s->c = (float *)(void *)take(&p, c);
    s->panel = take(&p, panel);
    s->columns = take(&p, columns);
    s->a = take(&p, a);
    s->row = take(&p, row);
    return true;
}

/* One block of tokens into the n columns of c from row m0 to m1, those of the packed panels. */
static void grad_rows(const grad *g, const grad_scratch *s, const walk *w, int64_t m0, int64_t m1,
                      float *c, int64_t ldc, int64_t n)
{
    const int mr = g->dot->mr, at_once = g->dot->grad_rows;
    const int64_t ld = grad_ld(g->dot);
    for (int64_t i0 = m0; i0 < m1; i0 += at_once) {
        const int64_t rows = m1 - i0 < at_once ? m1 - i0 : at_once;
        pack_tokens(g, &g->a, s->columns, s->row, w, i0, rows);
        for (int64_t i = 0; i < rows; i += DOT_NR)
            g->dot->turn(s->a + i * ld, ld, s->columns + i * w->places, w->places);
        for (int64_t i = 0; i < rows; i += mr) {
            const int count = (int)(rows - i < mr ? rows - i : mr);
            g->dot->panels(c + (i0 + i - m0) * ldc, ldc, s->a + i * ld, ld, count, s->panel,
                           w->places, w->places, n, true, NULL);
        }
    }
}

/* The block [rows of the tile, n columns from `at`] of cᵀ out of c, or back. */
static void turn_block(const grad *g, float *block, int64_t width, const kern_tile *of, int64_t at,
                       int64_t n, bool back)
{
    for (int64_t j = 0; j < n; j++) {
        float *c = g->c + (at + j) * g->ldc + of->m0;
        for (int64_t i = 0; i < of->m1 - of->m0; i++) {
            if (back)
                c[i] = block[i * width + j];
            else
                block[i * width + j] = c[i];
        }
    }
}

static void grad_tile(void *ctx, int64_t tile, int thread)
{
    const grad *g = ctx;
    const int64_t most = g->dot->panel_values / g->dot->tokens;
    kern_tile of;
    grad_scratch s;
    if (!kern_tile_of(&of, &g->grid, tile, g->m, DOT_NR, g->n, 2 * DOT_NR)) return;
    const int64_t all = of.n1 - of.n0;
    const int64_t width = round_up(kern_ceil_div(all, kern_ceil_div(all, most)), 2 * DOT_NR);
    if (!get_grad_scratch(&s, g->dot, thread, width)) return;
    for (int64_t at = of.n0; at < of.n1; at += width) {
        const int64_t n = of.n1 - at < width ? of.n1 - at : width;
        float *c = g->turned ? s.c : g->c + of.m0 * g->ldc + at;
        const int64_t ldc = g->turned ? width : g->ldc;
        walk w = {0};
        if (g->turned) turn_block(g, s.c, width, &of, at, n, false);
        while (next_block(g, &w)) {
            pack_tokens(g, &g->b, s.panel, s.row, &w, at, n);
            grad_rows(g, &s, &w, of.m0, of.m1, c, ldc, n);
        }
        if (g->turned) turn_block(g, s.c, width, &of, at, n, true);
    }
    if (g->dot->end) g->dot->end();
}

void kern_bf16_grad(float *c, int64_t ldc, kn_rows a, int64_t m, kn_rows b, int64_t n, int64_t t,
                    const int32_t *seg, int n_seg)
{
    const int32_t all = (int32_t)t;
    grad g = {.dot = kern_dot_row,
              .c = c,
              .ldc = ldc,
              .m = m,
              .n = n,
              .t = t,
              .a = a,
              .b = b,
              .seg = seg ? seg : &all,
              .n_seg = seg ? n_seg : 1};
    if (m <= 0 || n <= 0 || t <= 0) return;
    if (n <= THIN && m > n) { /* turning a into rows would cost more than the products */
        g = (grad){.dot = g.dot,
                   .c = c,
                   .ldc = ldc,
                   .m = n,
                   .n = m,
                   .t = t,
                   .a = b,
                   .b = a,
                   .turned = true,
                   .seg = g.seg,
                   .n_seg = g.n_seg};
    }
    g.grid = kern_grid_for(g.m, g.n, t, DOT_NR, 2 * DOT_NR, 2 * DOT_NR,
                           2 * (double)g.dot->round_cost, (double)g.dot->pack_cost);
    pool_run(grad_tile, &g, (int64_t)g.grid.m_parts * g.grid.n_parts);
}
