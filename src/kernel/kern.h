/* kern.h – private to kernel: the table of vector loops that each instruction set exports, and the
 * geometry of packed panels.
 *
 * The loops stand once in kern_*.inc; kern_generic.c and kern_neon.c compile them for 4 lanes, kern_avx2.c and
 * kern_avx512.c for 8 and 16. gemm.c, attn.c and rows.c divide the work into tiles and call through the table.
 *
 * Packed panel of a product: `kc` rows of `w` floats, w = nr, for n columns ceil(n / nr) panels one after
 * another; the last one is `lanes` wide when that suffices. Missing columns are zero. Products in
 * bf16 have panels of their own (kern_bf16.h).
 *
 * Scratch slots of the pool: 0 products, 1 attention, 2 rows; 3 is free for callers. */
#ifndef FT_KERN_H
#define FT_KERN_H

#include "ft/kernel.h"

enum {
    KERN_KC = 576, /* most k of one block: A's rows (KERN_KS · mr) stay in L1, panels in L2 */
    KERN_KS = 592, /* row distance of a packed block of A and of a tile of scores: an odd number of
                       cache lines, so that rows spread over the sets of L1 */
    KERN_MR = 16,  /* no level has more rows in its register block */
    KERN_FEW = 8,  /* rows of W that a call of kern_few takes at most */
    KERN_ACTS = 8,
};

typedef void (*kern_unpack)(float *dst, const void *src, int64_t n);

struct kern_src;
/* out [rows, C] = Σ_k w[n0 + i, k] · x[c][k] of whole rows of w, C the number that the function is for. rows ≤ KERN_FEW; out
 * has room for a multiple of four values. */
typedef void (*kern_few)(float *out, const struct kern_src *w, int64_t n0, int rows,
                         const float *const *x, int64_t k);

/* Rows of weights as they lie in memory. */
typedef struct kern_src {
    kern_unpack unpack;
    void (*read)(float *dst, const dt_data *src, int64_t first, int64_t n); /* dt_type.read */
    const char *data;
    const void *side;
    int64_t cols; /* of a stored row */
    size_t row_bytes;
    const int32_t *row_of;    /* NULL or the stored row of each row */
    const float *const *page; /* NULL or the places of page_rows rows each; data is NULL then */
    int64_t page_rows, column;
    int block,
        bytes; /* elements and bytes of one block; with `read` a piece may begin anywhere: 1 */
    void (*halves)(uint16_t *dst, const struct kern_src *w, int64_t row, int64_t col,
                   int64_t n); /* values rounded to bf16; NULL: by floats */
    bool plain, bf16;          /* aligned floats, read in place; bf16 */
    const kern_few *few;       /* [3] for one, two and four rows of x; NULL: unpack first */
} kern_src;

typedef struct kern_format {
    const char *name; /* of a dt_type */
    kern_unpack unpack;
    void (*read)(float *dst, const dt_data *src, int64_t first, int64_t n);
    kern_few few[3];                                 /* as in kern_src */
    bool (*few_fit)(const void *side, int64_t cols); /* NULL: always */
    void (*halves)(uint16_t *dst, const kern_src *w, int64_t row, int64_t col, int64_t n);
} kern_format;

/* The rows of A that a product needs next, fetched into L2 piece by piece between the panels; rows 0: none. */
typedef struct kern_ahead {
    const float *at;
    int64_t ld;
    int rows;
} kern_ahead;

typedef struct kern_table {
    const char *name;
    int lanes;
    int mr, nr; /* register block of products */
    int mr1;    /* rows of the block when all columns fit into one vector */

    /* c [rows, n] = (load ? c : 0) + a · panels (+ bias). rows ≤ mr (mr1 when n ≤ lanes).
     * a_cols = 0: a holds rows at distance KERN_KS; else a holds columns: element (i, k) at
     * a[k · a_cols + i]. packed ≥ kc: rows of k that the panels hold.
     * next: the rows that will be packed into `a` after this call. */
    void (*panels)(float *c, int64_t ldc, const float *a, int64_t a_cols, int rows,
                   const float *panel, int64_t packed, int64_t kc, int64_t n, bool load,
                   const float *bias, kern_ahead next);
    /* Panels of rows n0 … n0+n of w, columns k0 … k0+kc (for x · Wᵀ), and of rows k0 … k0+kc, columns
     * n0 … n0+n (for x · W). tmp: kern_pack_tmp floats. */
    void (*pack_t)(float *dst, const kern_src *w, int64_t n0, int64_t n, int64_t k0, int64_t kc,
                   float *tmp);
    void (*pack_n)(float *dst, const kern_src *w, int64_t n0, int64_t n, int64_t k0, int64_t kc,
                   float *tmp);
    /* dst [rows, KERN_KS] = the first n columns of src [rows, lds]. */
    void (*copy_rows)(float *dst, const float *src, int64_t lds, int64_t rows, int64_t n);
    /* dst [blocks][kc, width] = columns start[b] … of a [kc, lda], of which `cols` exist; width: whole vectors.
     * Several blocks at once use the cache lines of a row while they are there. */
    void (*copy_cols)(float *dst, int width, const float *a, int64_t lda, int64_t kc,
                      const int *start, int blocks, int cols);
    const kern_format *format; /* formats with vector loops, ended by a NULL name */
    kern_few few[3];           /* of floats */
    /* few[2] of rows ≤ KERN_FEW rows of floats, an even number, for when more rows of x follow */
    void (*many)(float *out, const float *const *w, int rows, const float *const *x, int64_t k);
    float (*inner)(const float *a, const float *b, int64_t n); /* Σ a·b */

    /* attention, see kern_attn.inc */
    float (*attn_softmax)(float *s, int64_t n, int64_t lo, int64_t hi, float scale, float softcap,
                          float *max, float *sum);
    void (*attn_probs)(float *p, float *s, int64_t n, int64_t lo, int64_t hi, float scale,
                       float softcap, float lse);
    void (*attn_dscore)(float *dp, const float *p, const float *s, int64_t n, float delta,
                        float scale, float softcap);
    void (*attn_out)(float *out, const float *acc, float factor, int64_t n);

    /* rows */
    void (*rmsnorm)(float *y, float *rstd, const float *x, const float *w, int64_t c, float eps);
    void (*rmsnorm_dx)(float *dx, const float *dy, const float *x, const float *w, float rstd,
                       int64_t c);
    void (*layernorm)(float *y, float *mean, float *rstd, const float *x, const float *w,
                      const float *b, int64_t c, float eps);
    void (*layernorm_dx)(float *dx, const float *dy, const float *x, const float *w, float mean,
                         float rstd, int64_t c);
    /* dw[j] += Σ_t dy[t, j] · (x[t, j] − mean[t]) · rstd[t], db[j] += Σ_t dy[t, j], for n columns at
     * row distance ld; mean, rstd, dw, db may be NULL. */
    void (*norm_dw)(float *dw, float *db, const float *dy, const float *x, const float *mean,
                    const float *rstd, int64_t ld, int64_t t, int64_t n);
    void (*rope)(float *x, const float *cos, const float *sin, int64_t half, float sign);
    void (*glu[KERN_ACTS])(float *y, const float *gate, const float *up, int64_t n);
    void (*glu_back[KERN_ACTS])(float *dgate, float *dup, const float *dy, const float *gate,
                                const float *up, int64_t n, bool add); /* add: to what is there */
    void (*act[KERN_ACTS])(float *y, const float *x, int64_t n);
    void (*act_back[KERN_ACTS])(float *dx, const float *dy, const float *x, int64_t n, bool add);
    void (*add)(float *y, const float *a, const float *b, int64_t n);
    void (*axpy)(float *y, float s, const float *x, int64_t n);
    void (*scale)(float *x, float s, int64_t n);
    /* y = or += s · (x ⊙ v), v NULL: s · x */
    void (*mul)(float *y, float s, const float *x, const float *v, int64_t n, bool accumulate);
    void (*dropout)(float *y, const float *x, int64_t c, uint32_t limit, float gain, uint64_t row,
                    bool accumulate);
    /* Returns the sum of exp(x − max); with `keep` x becomes exp(x − max). */
    float (*exp_sum)(float *x, int64_t n, float max, bool keep);
    float (*max)(const float *x, int64_t n);
    int64_t (*find)(const float *x, int64_t n, float value); /* −1: not there */
    void (*count_below)(uint8_t *out, const float *x, int64_t n, const float *bound, int bounds);
    void (*adamw)(float *w, const float *g, float *m, float *v, int64_t n, const float *coef);
    const struct kern_dot *dot; /* products in bf16 without an instruction for them (kern_bf16.h) */
    double (*sum_squares)(const float *x, int64_t n);
    /* simulated quantisation, see kern_fake.inc */
    void (*fake)(float *y, const float *x, const dt_steps *s, int64_t first, int64_t n);
    void (*fake_back)(float *g, float *dstep, const float *x, const dt_steps *s, int64_t first,
                      int64_t n, float scale, bool mask);
    void (*fake_row)(float *y, float *stat, const float *x, int64_t n, bool symmetric);
    void (*fake_row_back)(float *dx, const float *dy, const float *x, const float *stat, int64_t n,
                          bool accumulate);
    /* ternary matrices and tokens in codes, see kern_trits.inc */
    float (*codes_row)(int8_t *q, const float *x, int64_t n);
    void (*trits)(int32_t *out, const uint8_t *w, int64_t rows, int64_t blocks, const int8_t *q,
                  int64_t ldq, int m);
    float (*max_abs)(const float *x, int64_t n);
    bool (*all_finite)(const float *x, int64_t n);
} kern_table;

/* Coefficients of the AdamW loop. */
enum {
    ADAMW_GSCALE, /* of the gradient */
    ADAMW_KEEP,   /* 1 − lr·decay */
    ADAMW_B1C,    /* 1 − β1 */
    ADAMW_B2,
    ADAMW_B2C,  /* 1 − β2 */
    ADAMW_ROOT, /* √(1 − β2^s) */
    ADAMW_EPS,
    ADAMW_STEP, /* lr / (1 − β1^s) */
    ADAMW_COEFS
};

extern const kern_table kern_generic;
#if defined(__x86_64__)
extern const kern_table kern_avx2, kern_avx512;
#elif defined(__aarch64__)
extern const kern_table kern_neon;
#endif

/* A row of matrix products. */
typedef struct kern_gemm {
    const char *name;
    void (*wx)(const kn_product *p); /* all in f32 */
    void (*tn)(float *c, int64_t ldc, const float *a, int64_t lda, int64_t m, const float *b,
               int64_t ldb, int64_t n, int64_t t, const int32_t *seg, int n_seg);
    size_t scratch; /* bytes that a thread touches in them, at most, in whole huge pages */
} kern_gemm;

extern const kern_gemm kern_gemm_own;

/* The library row: opens it on the first call; NULL when it is not there or unfit. */
const kern_gemm *kern_openblas(void);
const char *kern_openblas_core(void);
const char *kern_openblas_config(void); /* "OpenBLAS 0.3.21 NO_LAPACKE …"; "": not open */

extern const kern_table *kern; /* the chosen level */

/* The level whose loops suit a product of n columns best; its bits are those of `kern`. */
const kern_table *kern_for_width(int64_t n);

/* Chooses by name; NULL: the best. For tests, which go through all levels; not while the pool runs. */
FT_MUST_USE ft_status kern_use(const char *level, const char *gemm);
/* The i-th level this machine can run, best last; NULL past the end. */
const kern_table *kern_level_at(int i);

/* The rows of w, for the level in use. */
void kern_src_of(kern_src *s, const kn_mat *w);
void kern_src_f32(kern_src *s, const float *data, int64_t ld);
/* Columns from `column` on of rows in pages of page_rows each. */
void kern_src_pages(kern_src *s, const float *const *page, int64_t page_rows, int64_t column,
                    int64_t ld);
/* A row's first byte, of all but formats with `read`. */
static inline const char *kern_src_row(const kern_src *w, int64_t row)
{
    if (w->page)
        return (const char *)(w->page[row / w->page_rows] + w->column) +
               (size_t)(row % w->page_rows) * w->row_bytes;
    return w->data + (size_t)(w->row_of ? w->row_of[row] : row) * w->row_bytes;
}
/* Values col … col + n of a row, whole blocks: one call for each piece of a row that a panel takes. */
static inline void kern_src_values(const kern_src *w, float *dst, int64_t row, int64_t col,
                                   int64_t n)
{
    if (w->read) {
        const dt_data src = {w->data, w->side};
        w->read(dst, &src, (w->row_of ? w->row_of[row] : row) * w->cols + col, n);
        return;
    }
    w->unpack(dst, kern_src_row(w, row) + col / w->block * w->bytes, n);
}
/* Floats of scratch that pack_t and pack_n need for n columns. */
static inline int64_t kern_pack_tmp(int64_t n)
{
    int64_t rows = 16 * KERN_KS; /* the lanes' rows of one block of k */
    int64_t cols = n + 2 * 256;  /* a row segment widened to whole blocks */
    return rows > cols ? rows : cols;
}
#endif
