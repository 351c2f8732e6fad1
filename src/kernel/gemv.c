/* gemv.c – products of a few rows: generation. W is read once, as it is stored, and never packed; a pass over the weights is
 * what a token costs, so the tiles are pieces of W and one wake-up serves all matrices of a group.
 *
 * A tile takes a few rows of W at a time against all rows of x (kern_few.inc). Formats without loops of their own are
 * unpacked into a buffer first, and so are all where there are many rows of x: the bits are the same. */
#include "kern.h"

enum {
    /* of W: long runs are what memory delivers fastest, but all threads shall end together */
    LEAST_BYTES = 8 << 10,
    MOST_BYTES = 96 << 10,
    TILES = 16,
    FUSED = 7,   /* rows of x up to which W is multiplied as it is stored; */
    BLOCKS = 16, /* of blocks of codes */
};

typedef struct few {
    float *y;
    int64_t ldy;
    const float *x;
    int64_t ldx, k, m;
    int n; /* matrices */
    struct {
        kern_src w;
        int64_t rows, step; /* of W; of a tile */
        int64_t tile, at;   /* its first tile; its first column of y */
        const float *bias;
    } part[KN_GEMV_GROUP];
} few;

/* The rows of x from i on, the last again where there are no four. */
static int four_rows(const few *f, int64_t i, const float **x)
{
    const int m = (int)(f->m - i < 4 ? f->m - i : 4);
    for (int j = 0; j < 4; j++) x[j] = f->x + (i + (j < m ? j : m - 1)) * f->ldx;
    return m;
}

/* y [m rows of x from i on, rows of W] = out [rows, c] + bias */
static void put(const few *f, float *y, const float *bias, const float *out, int c, int64_t i,
                int m, int rows)
{
    for (int j = 0; j < m; j++)
        for (int r = 0; r < rows; r++)
            y[(i + j) * f->ldy + r] = out[r * c + j] + (bias ? bias[r] : 0.0f);
}

/* Rows n0 … n0 + rows of w against all rows of x; y and bias begin at n0. */
static void few_rows(const few *f, float *y, const float *bias, const kern_src *w, int64_t n0,
                     int rows)
{
    float out[KERN_FEW * 4];
    const float *x[4];
    for (int64_t i = 0; i < f->m; i += 4) {
        const int m = four_rows(f, i, x), kind = m > 2 ? 2 : m - 1;
        w->few[kind](out, w, n0, rows, x, f->k);
        put(f, y, bias, out, 1 << kind, i, m, rows);
    }
}

/* The same of floats, for many rows of x. */
static void many_rows(const few *f, float *y, const float *bias, const kern_src *w, int64_t n0,
                      int rows)
{
    float out[KERN_FEW * 4];
    const float *x[4], *row[KERN_FEW];
    const int even = rows + rows % 2;
    for (int r = 0; r < even; r++)
        row[r] = (const float *)(const void *)kern_src_row(w, n0 + (r < rows ? r : rows - 1));
    for (int64_t i = 0; i < f->m; i += 4) {
        const int m = four_rows(f, i, x);
        kern->many(out, row, even, x, f->k);
        put(f, y, bias, out, 4, i, m, rows);
    }
}

static void few_tile(void *ctx, int64_t tile, int thread)
{
    const few *f = ctx;
    int p = f->n - 1;
    while (f->part[p].tile > tile) p--;
    const kern_src *w = &f->part[p].w;
    const int64_t start = (tile - f->part[p].tile) * f->part[p].step;
    const int64_t end =
        start + f->part[p].step < f->part[p].rows ? start + f->part[p].step : f->part[p].rows;
    const bool codes = w->block > 1 || w->read, many = f->m > FUSED && (!codes || f->m > BLOCKS),
               unpack = !w->few || (many && !w->plain);
    float *copy = NULL;
    kern_src unpacked = {0};
    if (unpack) {
        copy = pool_scratch(thread, 0, (size_t)(KERN_FEW * f->k) * sizeof(float));
        if (!copy) return;
        kern_src_f32(&unpacked, copy, f->k);
    }
    for (int64_t n = start; n < end; n += KERN_FEW) {
        const int rows = (int)(end - n < KERN_FEW ? end - n : KERN_FEW);
        const kern_src *from = unpack ? &unpacked : w;
        const int64_t n0 = unpack ? 0 : n;
        float *y = f->y + f->part[p].at + n;
        const float *bias = f->part[p].bias ? f->part[p].bias + n : NULL;
        for (int r = 0; unpack && r < rows; r++)
            kern_src_values(w, copy + r * f->k, n + r, 0, f->k);
        (many ? many_rows : few_rows)(f, y, bias, from, n0, rows);
    }
}

void kn_gemv_group(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w,
                   const float *const *bias, int n, int64_t m)
{
    few f = {.y = y, .ldy = ldy, .x = x, .ldx = ldx, .k = n > 0 ? w[0].cols : 0, .m = m, .n = n};
    int64_t tiles = 0, at = 0, bytes = 0;
    if (m <= 0) return;
    for (int i = 0; i < n; i++) {
        kern_src_of(&f.part[i].w, &w[i]);
        bytes += w[i].rows * (int64_t)f.part[i].w.row_bytes;
    }
    bytes /= TILES;
    if (bytes < LEAST_BYTES) bytes = LEAST_BYTES;
    if (bytes > MOST_BYTES) bytes = MOST_BYTES;
    for (int i = 0; i < n; i++) {
        const int64_t rows = bytes / (int64_t)(f.part[i].w.row_bytes + 1);
        f.part[i].rows = w[i].rows;
        f.part[i].step = (1 + rows / KERN_FEW) * KERN_FEW;
        f.part[i].tile = tiles;
        f.part[i].at = at;
        f.part[i].bias = bias ? bias[i] : NULL;
        tiles += (w[i].rows + f.part[i].step - 1) / f.part[i].step;
        at += w[i].rows;
    }
    pool_run(few_tile, &f, tiles);
}

void kn_gemv(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w, int64_t m,
             const float *bias)
{
    kn_gemv_group(y, ldy, x, ldx, w, &bias, 1, m);
}
