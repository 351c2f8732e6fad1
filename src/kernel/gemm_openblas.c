/* gemm_openblas.c – the row `openblas`: the library's f32 product, one thread a call, on tiles of constant height.
 *
 * For machines without an own vector level, and to compare with. Its kernels choose the order of additions by
 * the shape of the call, so every call has 192 rows (the last tile is padded with zeros): then a row's bits
 * do not depend on the rows around it. Weight gradients are summed KN_GRAD_UNIT tokens of a sequence at a time. */
#include "kern.h"
#include "openblas.h"

#include <string.h>

enum {
    TILE_ROWS = 192,
    TILE_COLS = 256, /* a multiple of every storage block */
    TILE_K = 2048,
    ROW_MAJOR = 101,
    NO_TRANS = 111,
    TRANS = 112,
};

static const openblas *lib; /* once the row was asked for */

typedef struct product {
    float *c;
    int64_t ldc;
    const float *a;
    int64_t lda, m, n, k;
    kern_src w; /* weights, or the second operand of a weight gradient */
    bool transposed, accumulate;
    const float *bias;
    int64_t n_tiles;
    const int32_t *seg;
    int n_seg;
} product;

/* Unpacks W's part: transposed [n, kc], else [kc, n]; the row distance is returned. */
static int64_t unpack_w(const product *g, float *dst, int64_t n0, int64_t n, int64_t k0, int64_t kc)
{
    int64_t row0 = g->transposed ? n0 : k0, rows = g->transposed ? n : kc;
    int64_t col0 = g->transposed ? k0 : n0, cols = g->transposed ? kc : n;
    for (int64_t r = 0; r < rows; r++) kern_src_values(&g->w, dst + r * cols, row0 + r, col0, cols);
    return cols;
}

/* One panel of n columns against all rows; W is unpacked once for each block of k. */
static void wx_tile(void *ctx, int64_t tile, int thread)
{
    const product *g = ctx;
    int64_t n0 = tile * TILE_COLS, n = g->n - n0 < TILE_COLS ? g->n - n0 : TILE_COLS;
    int64_t c_floats = TILE_ROWS * TILE_COLS, a_floats = TILE_ROWS * TILE_K;
    float *w =
        pool_scratch(thread, 0, (size_t)(TILE_COLS * TILE_K + c_floats + a_floats) * sizeof(float));
    if (!w) return;
    float *c = w + TILE_COLS * TILE_K, *a = c + c_floats;
    kern_openblas_one_thread(lib);
    for (int64_t k0 = 0; k0 < g->k; k0 += TILE_K) {
        int64_t kc = g->k - k0 < TILE_K ? g->k - k0 : TILE_K;
        int64_t ldw = unpack_w(g, w, n0, n, k0, kc);
        const float *bias = g->bias && k0 + kc == g->k ? g->bias + n0 : NULL;
        for (int64_t m0 = 0; m0 < g->m; m0 += TILE_ROWS) {
            int64_t rows = g->m - m0 < TILE_ROWS ? g->m - m0 : TILE_ROWS;
            const float *from = g->a + m0 * g->lda + k0;
            int64_t lda = g->lda;
            if (rows < TILE_ROWS) {
                for (int64_t r = 0; r < rows; r++)
                    memcpy(a + r * kc, from + r * lda, (size_t)kc * sizeof(float));
                memset(a + rows * kc, 0, (size_t)((TILE_ROWS - rows) * kc) * sizeof(float));
                from = a;
                lda = kc;
            }
            const bool load = g->accumulate || k0 > 0;
            memset(c, 0, (size_t)c_floats * sizeof(float));
            float *out = g->c + m0 * g->ldc + n0;
            for (int64_t r = 0; load && r < rows; r++)
                memcpy(c + r * n, out + r * g->ldc, (size_t)n * sizeof(float));
            lib->sgemm(ROW_MAJOR, NO_TRANS, g->transposed ? TRANS : NO_TRANS, TILE_ROWS, (int)n,
                       (int)kc, 1.0f, from, (int)lda, w, (int)ldw, load ? 1.0f : 0.0f, c, (int)n);
            for (int64_t r = 0; r < rows; r++) {
                if (bias) kern->add(c + r * n, c + r * n, bias, n);
                memcpy(out + r * g->ldc, c + r * n, (size_t)n * sizeof(float));
            }
        }
    }
}

static void add_part(const kn_product *p, kn_rows x, const kn_mat *w, bool in_out, bool accumulate,
                     const float *bias)
{
    product g = {.c = p->y.data,
                 .ldc = p->y.ld,
                 .a = x.data,
                 .lda = x.ld,
                 .m = p->m,
                 .n = in_out ? w->cols : w->rows,
                 .k = in_out ? w->rows : w->cols,
                 .transposed = !in_out,
                 .accumulate = accumulate,
                 .bias = bias};
    if (p->m <= 0 || g.n <= 0) return;
    kern_src_of(&g.w, w);
    pool_run(wx_tile, &g, (g.n + TILE_COLS - 1) / TILE_COLS);
}

static void openblas_wx(const kn_product *p)
{
    const kn_term *term = p->term;
    const int64_t n = p->in_out ? p->w->cols : p->w->rows;
    add_part(p, p->x, p->w, p->in_out, p->accumulate, term ? NULL : p->bias);
    if (term) add_part(p, term->x, term->w, term->in_out, true, p->bias);
    if (p->add) kn_mul_cols(p->y.data, p->y.ld, p->add, p->ld_add, NULL, 1.0f, p->m, n, true);
}

static void tn_tile(void *ctx, int64_t tile, int thread)
{
    const product *g = ctx;
    int64_t m0 = tile / g->n_tiles * TILE_ROWS, n0 = tile % g->n_tiles * TILE_COLS;
    int64_t m = g->m - m0 < TILE_ROWS ? g->m - m0 : TILE_ROWS;
    int64_t n = g->n - n0 < TILE_COLS ? g->n - n0 : TILE_COLS;
    const float *a = g->a + m0;
    const float *b = (const float *)(const void *)g->w.data + n0;
    const int64_t ldb = (int64_t)(g->w.row_bytes / sizeof(float));
    (void)thread;
    kern_openblas_one_thread(lib);
    for (int i = 0; i < g->n_seg; i++) {
        for (int64_t left = g->seg[i]; left > 0; left -= KN_GRAD_UNIT) {
            const int64_t k = left < KN_GRAD_UNIT ? left : KN_GRAD_UNIT;
            lib->sgemm(ROW_MAJOR, TRANS, NO_TRANS, (int)m, (int)n, (int)k, 1.0f, a, (int)g->lda, b,
                       (int)ldb, 1.0f, g->c + m0 * g->ldc + n0, (int)g->ldc);
            a += k * g->lda;
            b += k * ldb;
        }
    }
}

static void openblas_tn(float *c, int64_t ldc, const float *a, int64_t lda, int64_t m,
                        const float *b, int64_t ldb, int64_t n, int64_t t, const int32_t *seg,
                        int n_seg)
{
    const int32_t whole = (int32_t)t;
    product g = {
        .c = c, .ldc = ldc, .a = a, .lda = lda, .m = m, .n = n, .seg = seg, .n_seg = n_seg};
    if (!seg) {
        g.seg = &whole;
        g.n_seg = 1;
    }
    kern_src_f32(&g.w, b, ldb);
    g.n_tiles = (n + TILE_COLS - 1) / TILE_COLS;
    pool_run(tn_tile, &g, (m + TILE_ROWS - 1) / TILE_ROWS * g.n_tiles);
}

static const kern_gemm row = {"openblas", openblas_wx, openblas_tn, (size_t)4 << 20};

const kern_gemm *kern_openblas(void)
{
    if (!lib && kern_openblas_open(&lib) != FT_OK) lib = NULL;
    if (!lib) return NULL;
    if (strcmp(lib->core, "Haswell") == 0 || strcmp(lib->core, "Zen") == 0) {
        log_warn("OpenBLAS's core %s sums a row in another order when other rows are beside it; "
                 "not used",
                 lib->core);
        return NULL;
    }
    return &row;
}

const char *kern_openblas_core(void)
{
    return lib ? lib->core : "";
}

const char *kern_openblas_config(void)
{
    return lib ? lib->config : "";
}
