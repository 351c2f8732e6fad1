/* kernel.h – the arithmetic: plain loops on float pointers, matrix products, attention, and the choice
 * of instruction set. Knows no tensors.
 *
 * THE SAME BITS. Every function below gives each element of its result by a computation that depends
 * on that element's operands only: not on the number of threads, nor on how many other rows
 * (tokens, sequences) are in the call. For products the rule is: one chain of fused multiply-adds in
 * ascending index of the summed dimension, starting from the old value (accumulate) or 0; so splitting
 * a batch into micro-batches, or the summed tokens of a weight gradient into calls, keeps the bits.
 * (The row `openblas` keeps them over threads and over row splits by a constant tile height only; it and bf16 sum
 * weight gradients in pieces of KN_GRAD_UNIT tokens of a sequence, so nothing may cut a sequence elsewhere.)
 *
 * Matrices are row-major; ld* are distances between rows in elements. All functions run on the pool. */
#ifndef FT_KERNEL_H
#define FT_KERNEL_H

#include "ft/base.h"
#include "ft/tensor.h"

/* --- dispatch ------------------------------------------------------------------------------------ */
/* Picks the vector level by CPUID (FT_CPU=generic|avx2|avx512|neon lowers it), the row of matrix products
 * (FT_GEMM=name forces one that works here) and that of products in bf16 (FT_BF16=amx|avx512_bf16|portable; a name
 * that does not work here is refused). Opens OpenBLAS (dlopen) only where its row is the one chosen or asked for. Call
 * once, before the pool starts. */
FT_MUST_USE ft_status kn_init(void);
const char *kn_level(void);     /* "generic", "avx2", "avx512", "neon" */
const char *kn_gemm_name(void); /* the level, or "openblas" */
size_t kn_scratch_bytes(void); /* that a thread takes in products and attention */
/* What the operands of matrix products are rounded to. KN_BF16: to bf16 (to nearest, ties to even); their products, which
 * are exact, are added in f32. There are instructions for it (AMX, AVX512-BF16, Arm's BF16), and the order in which a few
 * neighbouring k are added is the instruction's. */
typedef enum kn_precision { KN_F32, KN_BF16 } kn_precision;
/* "f32", "bf16", "auto": bf16 where this CPU multiplies it faster (by its instructions, never by a measurement). */
kn_precision kn_precision_of(const char *name);
/* What identifies the arithmetic in logs and checkpoints: level and row (+ OpenBLAS core), with KN_BF16 the row of its
 * products too. */
const char *kn_core_name(kn_precision precision);
const char *kn_library(void); /* the library that the row of products calls, with its version; NULL: none */

/* Rows of activations: f32, or bf16 (where KN_BF16 products read or make them). ld in elements. */
typedef struct kn_rows {
    void *data;
    int64_t ld;
    bool bf16;
} kn_rows;
/* y = x, rounded or widened: one of them is f32 and the other bf16. */
void kn_convert_rows(kn_rows y, kn_rows x, int64_t t, int64_t c);

/* --- matrix products --------------------------------------------------------------------------------
 * A weight matrix as it lies in the file: any dtype; unpacked panel by panel inside the product. */
typedef struct kn_mat {
    const dt_type *type;
    const void *data, *side; /* side: of a format with `read`, else NULL */
    int64_t rows, cols;      /* as stored; a row is cols elements, whole blocks without `read` */
    const int32_t *row_of; /* NULL or the permutation of stored rows */
} kn_mat;

/* y[m, n] = (accumulate ? y : 0) + Σ_k x[m, k] · W[n, k] (+ bias[n], added last) W [N, K] */
void kn_gemm_nt(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w, int64_t m,
                const float *bias, bool accumulate);
/* y[m, n] = (accumulate ? y : 0) + Σ_k x[m, k] · W[k, n] (+ bias[n], added last)  W [K, N] */
void kn_gemm_nn(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w, int64_t m,
                const float *bias, bool accumulate);
/* The same in either precision, with what may follow a finished sum. */
typedef struct kn_term { /* + x2 · W2ᵀ in the same chains, behind the last k of W */
    kn_rows x;           /* [m, R] */
    const kn_mat *w;     /* [N, R], or [R, N] with in_out */
    bool in_out;
} kn_term;
typedef struct kn_product { /* y [m, N] = (accumulate ? y : 0) + x · Wᵀ (+ term) (+ bias) (+ add) */
    kn_precision precision;
    kn_rows y, x; /* [m, N], [m, K] */
    int64_t m;
    const kn_mat *w; /* [N, K], or [K, N] with in_out */
    bool in_out, accumulate; /* accumulate: y is f32 */
    const kn_term *term;     /* NULL: none */
    const float *bias;       /* [N] or NULL */
    const float *add;        /* [m, N] at row distance ld_add, added last (a residual); NULL: none */
    int64_t ld_add;
} kn_product;
void kn_gemm(const kn_product *p);
/* c[i, j] += Σ_t a[t, i] · b[t, j]: weight gradients. a [T, M], b [T, N], c [M, N]. seg: tokens of each sequence (n_seg of
 * them, summing to T; NULL: one). A sum may end with the last token of a sequence and after KN_GRAD_UNIT of it. */
#define KN_GRAD_UNIT 64
void kn_gemm_tn(float *c, int64_t ldc, const float *a, int64_t lda, int64_t m, const float *b,
                int64_t ldb, int64_t n, int64_t t, const int32_t *seg, int n_seg);
/* The same in either precision. */
void kn_gemm_grad(kn_precision precision, float *c, int64_t ldc, kn_rows a, int64_t m, kn_rows b,
                  int64_t n, int64_t t, const int32_t *seg, int n_seg);
/* y[m, n] = Σ_k x[m, k] · W[n, k] (+ bias[n]) for a few rows (generation): reads W once, as it is
 * stored, and makes no panels. Its bits may differ from kn_gemm_nt's, but a row has the same ones for
 * every m, and those of W unpacked to floats. Up to about KN_GEMV_ROWS rows it is the faster of the two. */
#define KN_GEMV_ROWS 8
void kn_gemv(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w, int64_t m,
             const float *bias);
/* The same of n ≤ KN_GEMV_GROUP matrices with equal columns, their results side by side in y; bias:
 * NULL, or n pointers that may be NULL. */
#define KN_GEMV_GROUP 4
void kn_gemv_group(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w,
                   const float *const *bias, int n, int64_t m);

/* --- attention ---------------------------------------------------------------------------------------
 * Causal, grouped-query, exact, in tiles; keeps log-sum-exp and never a T×T matrix. */
enum { KN_HEAD_DIM_MAX = 512 };
typedef struct kn_attn {
    int n_head, n_kv, head_dim; /* head_dim ≤ KN_HEAD_DIM_MAX */
    float scale;                /* of the scores, d^−½ unless the family says otherwise */
    int64_t window;             /* 0: none; else query p sees keys p−window < k ≤ p */
    float softcap;              /* 0: none; else scores = c·tanh(scores/c) before the mask */
    const int32_t *q_len;       /* per sequence: queries (rows of q and out) */
    const int32_t *k_len;       /* per sequence: keys; the last q_len keys are the queries' own
                                  positions. NULL: the same as q_len (training) */
    int n_seq;
    /* Keys and values in pages (generation); NULL: they lie in k and v. For one sequence after
     * another ⌈k_len / page_rows⌉ pages, each with page_rows rows of keys from its element k_at on
     * and as many rows of values from v_at on. The bits are those of contiguous ones. */
    const float *const *page;
    int64_t page_rows, k_at, v_at;
} kn_attn;
/* q [Tq, n_head·d], k and v [Tk, n_kv·d], sequences one after another (no data where they lie in pages, but ld);
 * out [Tq, n_head·d]; lse [Tq, n_head]: log Σ exp(score), may be NULL when nothing is kept. q, k, v and out are all f32 or
 * all bf16: then probabilities and their gradients, too, are rounded where a product reads them, and sums are f32. */
void kn_attention(const kn_attn *a, kn_rows out, float *lse, kn_rows q, kn_rows k, kn_rows v);
/* Adds into dq, dk, dv (f32, row distances as q, k, v). Requires k_len = q_len and no pages. `out` and `lse` as the
 * forward left them. */
void kn_attention_back(const kn_attn *a, float *dq, float *dk, float *dv, const float *dout,
                       int64_t lddo, kn_rows out, const float *lse, kn_rows q, kn_rows k, kn_rows v);

/* --- rows ---------------------------------------------------------------------------------------------
 * [T, C] row-major, contiguous unless a row distance is given. "_back" functions add into dx, dw, db;
 * a NULL destination is skipped. Sums over tokens run in ascending token order, one chain a column. */
void kn_rmsnorm(kn_rows y, float *rstd, const float *x, const float *w, int64_t t, int64_t c,
                float eps);
void kn_rmsnorm_back(float *dx, float *dw, const float *dy, const float *x, const float *w,
                     const float *rstd, int64_t t, int64_t c);
void kn_layernorm(kn_rows y, float *mean, float *rstd, const float *x, const float *w,
                  const float *b, int64_t t, int64_t c, float eps);
void kn_layernorm_back(float *dx, float *dw, float *db, const float *dy, const float *x,
                       const float *w, const float *mean, const float *rstd, int64_t t, int64_t c);

/* RoPE, half-split ("rotate half") layout, in place on n_head heads of head_dim that start at column
 * 0 of x (row distance ldx); rotates the first 2·half entries of each head. cos, sin [max_pos, half]
 * are indexed by pos[t]. sign −1 gives the transpose (the gradient). */
void kn_rope(float *x, int64_t ldx, int64_t t, int n_head, int head_dim, int half, const float *cos,
             const float *sin, const int32_t *pos, float sign);

/* Activations by name: "silu", "gelu", "gelu_new" (= gelu_pytorch_tanh), "quick_gelu", "relu", "relu2", "tanh",
 * "leaky_relu" (0.01 below 0). */
typedef struct kn_act kn_act;
const kn_act *kn_act_by_name(const char *name); /* NULL when unknown */
/* y [T, I] = act(gate) ⊙ up, gu [T, 2I] with gate in the first I columns. */
void kn_glu(const kn_act *act, kn_rows y, kn_rows gu, int64_t t, int64_t i);
void kn_glu_back(const kn_act *act, kn_rows dgu, const float *dy, kn_rows gu, int64_t t, int64_t i,
                 bool accumulate); /* into f32; or dgu is overwritten */
void kn_act_rows(const kn_act *act, kn_rows y, kn_rows x, int64_t t, int64_t c);
void kn_act_back(const kn_act *act, kn_rows dx, const float *dy, kn_rows x, int64_t t, int64_t c,
                 bool accumulate);

/* Rows of a table: y[t] = W[ids[t]], zeros for an id below 0; and dw[ids[t]] += dy[t] in ascending t, except for ids
 * below 0 and `frozen`. */
void kn_embed(float *y, const kn_mat *w, const int32_t *ids, int64_t n);
void kn_embed_back(float *dw, const float *dy, const int32_t *ids, int64_t n, int64_t c,
                   int32_t frozen);
/* Rows picked by index: y [n, C] = x[row[i]], both of one format; y[row[i]] = x[i] (x NULL: zeros); y[row[i]] += x[i] in
 * ascending i, where rows may repeat. */
void kn_gather_rows(kn_rows y, kn_rows x, const int64_t *row, int64_t n, int64_t c);
void kn_put_rows(float *y, int64_t ldy, const float *x, const int64_t *row, int64_t n, int64_t c);
void kn_scatter_rows(float *y, const float *x, const int64_t *row, int64_t n, int64_t c);
void kn_scale_rows(float *x, const float *s, int64_t t, int64_t c); /* x[t, :] *= s[t] */
void kn_copy_block(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t t, int64_t c);
/* y [T, C] = or += s · x ⊙ v for v [C] (NULL: 1), and dv [C] += Σ_t a ⊙ b; row distances ld*. y may be x. */
void kn_mul_cols(float *y, int64_t ldy, const float *x, int64_t ldx, const float *v, float s,
                 int64_t t, int64_t c, bool accumulate);
void kn_col_dot_add(float *dv, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t t,
                    int64_t c);
/* u [T, C] ⊙= inverse [C]; then y = or += u ⊙ m [C] (+ b [C], NULL: none) */
void kn_magnify(float *y, int64_t ldy, float *u, int64_t ldu, const float *inverse, const float *m,
                const float *b, int64_t t, int64_t c, bool accumulate);
void kn_add(float *y, const float *a, const float *b, int64_t n); /* y = a + b */
void kn_axpy(float *y, float s, const float *x, int64_t n);       /* y += s·x */
void kn_scale(float *x, float s, int64_t n);
void kn_col_sum_add(float *db, const float *dy, int64_t ld, int64_t t,
                    int64_t c); /* bias gradients */
/* y = x ⊙ mask/(1−p), the mask a pure function of (key, row_key[t], column). */
void kn_dropout(float *y, const float *x, int64_t t, int64_t c, float p, uint64_t key,
                const uint64_t *row_key);
void kn_dropout_back(float *dx, const float *dy, int64_t t, int64_t c, float p, uint64_t key,
                     const uint64_t *row_key);
/* y += amount · u, u uniform in [−1, 1), a pure function of (key, row_key[t], column). */
void kn_noise(float *y, float amount, int64_t t, int64_t c, uint64_t key, const uint64_t *row_key);

/* What scores and losses need of the softmax over rows of logits [T, V]: p = softmax(logits/temperature). A target
 * outside the vocabulary counts for nothing: log-probability 0, no gradient. Sums run in a fixed lane order. */
typedef struct kn_softmax {
    int64_t v, ld;         /* columns, row distance */
    float temperature;     /* 0: 1 */
    const int32_t *target; /* [T] */
    float *logprob;        /* out [T]: log p(target) */
    float *entropy;        /* out [T]: −Σ p log p; may be NULL */
    float *power;          /* out [T]: log Σ p²; may be NULL */
    float smoothing;       /* ε: the target counts 1 − ε, and every column ε/V besides, in `smooth` and the gradient */
    float *smooth;         /* out [T], with ε: (1 − ε) log p(target) + ε/V Σ log p */
    int32_t *best;         /* out [T]: smallest index of the largest logit; may be NULL */
    float scale;           /* ≠ 0: the logits are replaced by scale·weight[t]·d(−log p(target))/d logits */
    const float *weight;   /* [T]; NULL: 1 */
    const float *more;     /* [T, V], row distance ld: a gradient that joins that one; NULL: none */
    bool half;             /* the gradient is rounded to bf16: row t is the first half of row t */
} kn_softmax;
void kn_softmax_rows(float *logits, const kn_softmax *s, int64_t t);

/* How far p = softmax(x/τ) is from q = softmax(y/τ), rows x, y [T, V] of logits (Agarwal et al. 2023): at β = 0 KL(q‖p), at
 * β = 1 KL(p‖q), between them β KL(q‖m) + (1 − β) KL(p‖m) of m = (1 − β) p + β q. */
typedef struct kn_divergence {
    int64_t v, ld_x, ld_y; /* columns, row distances */
    float beta, temperature; /* τ 0: 1 */
    const uint8_t *none;   /* [T] ≠ 0: nothing is known of y there: 0, and a gradient of zeros */
    float *out;            /* [T] */
    float scale;           /* ≠ 0: y is replaced by scale·weight[t]·d out/d x */
    const float *weight;   /* [T]; NULL: 1 */
} kn_divergence;
void kn_divergence_rows(float *y, const float *x, const kn_divergence *d, int64_t t);

/* --- simulated quantisation (dt_steps) ----------------------------------------------------------------- */
/* Rows of x as codes of eight bits give them back, a step for each. Not symmetric: step (max(x, 0) − min(x, 0)) / 255, and a
 * code for 0, all rounded as torchao does; symmetric: 127 / max|x|, as BitNet does. norm: of x / √(mean x² + eps), without a
 * gain. stat [T, 2]: what the backward needs; NULL: none follows. */
typedef struct kn_tokens {
    bool symmetric, norm;
    float eps;
} kn_tokens;
void kn_fake_rows(kn_rows y, float *stat, kn_rows x, int64_t t, int64_t c, const kn_tokens *how);
/* dx = or += dy, straight through: of not symmetric ones 0 where a code was clamped. */
void kn_fake_rows_back(float *dx, const float *dy, kn_rows x, const float *stat, int64_t t,
                       int64_t c, const kn_tokens *how, bool accumulate);
/* y as kn_gemv_group has it, of matrices "ternary" without row_of and of rows of x in codes (symmetric): sums of whole
 * numbers, the same bits on every level, and but for rounding those of kn_fake_rows and kn_gemv. codes: memory of
 * kn_codes_floats(m, k). */
void kn_codes_group(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_tokens *how,
                    const kn_mat *w, const float *const *bias, int n, int64_t m, float *codes);
int64_t kn_codes_floats(int64_t m, int64_t k);
/* Of a matrix w [rows, cols] of s->type; on the calling thread, so that several may go side by side. s->step of all groups:
 * factor · mean|w| / divisor or factor · max|w| / divisor, at least `least`. */
typedef struct kn_first_step {
    bool mean;
    float factor, divisor, least;
} kn_first_step;
void kn_fake_steps(const dt_steps *s, const void *w, int64_t rows, int64_t cols,
                   const kn_first_step *how);
/* g [rows, cols], the gradient of the values given back: dstep += scale · Σ g ∂value/∂step (NULL: not wanted); then with
 * `mask` g is 0 where a code was clamped. */
void kn_fake_back(float *g, float *dstep, float scale, const dt_steps *s, const void *w,
                  int64_t rows, int64_t cols, bool mask);

/* AdamW on a flat range (Loshchilov & Hutter 2019, PyTorch's order of operations): decoupled decay,
 * c1 = 1−β1^s, c2 = 1−β2^s computed by the caller. g is multiplied by gscale (clipping) first. */
void kn_adamw(float *w, const float *g, float *m, float *v, int64_t n, float lr, double beta1,
              double beta2, float eps, float decay, double c1, double c2, float gscale);
/* Σ x² in double, in a fixed order of blocks of 4096 whatever the threads. */
double kn_sum_squares(const float *x, int64_t n);
double kn_dot(const float *a, const float *b, int64_t n); /* Σ a·b in double, one chain */
/* out[i] = number of bound[0 … bounds) that x[i] is above (0 for a NaN): the nearest entry of a table by the midpoints of
 * its neighbours, ties to the lower one. Not on the pool: a part of someone's tile. bounds ≤ 255 */
void kn_count_below(uint8_t *out, const float *x, int64_t n, const float *bound, int bounds);
/* Index of the first NaN or Inf, −1 when all are finite. */
int64_t kn_find_nonfinite(const float *x, int64_t n);

/* --- decompositions of single matrices -------------------------------------------------------------------
 * In double, on the calling thread; several may run side by side on the pool. Matrices are contiguous. SVD and QR are
 * LAPACK's: FT_EMEM, naming the package, where there is none (kn_linalg_open tells so beforehand; it comes first, off the
 * pool); FT_EDATA for a NaN or an Inf. With k = min(m, n): */
FT_MUST_USE ft_status kn_linalg_open(void);
/* a [m, n] = u [m, k] · diag(s [k], falling) · vt [k, n]; a is overwritten. */
FT_MUST_USE ft_status kn_svd(double *u, double *s, double *vt, double *a, int64_t m, int64_t n);
/* a [m, n] = q [m, k] · r [k, n], signs as torch.linalg.qr has them. q or r may be a. */
FT_MUST_USE ft_status kn_qr(double *q, double *r, double *a, int64_t m, int64_t n);
/* a [n, n] → its inverse, for small n; false: it is not positive definite. Needs no library. */
bool kn_spd_inverse(double *a, int64_t n);

/* --- measured ceilings, for `ft bench` -----------------------------------------------------------------
 * The best rate over `seconds` (three calls of a product at least) on random data: zeros draw less power and run faster. */
/* The products of a weight W [out, in] over so many rows: y = x · Wᵀ, dx = dy · W, dW += dyᵀ · x. */
typedef enum kn_form { KN_FORM_Y, KN_FORM_DX, KN_FORM_DW, KN_FORMS } kn_form;
typedef struct kn_shape {
    int64_t rows, out, in;
} kn_shape;
/* GFLOP/s (two operations a multiply-add); 0: there is no memory for the operands. */
double kn_bench_gemm(kn_precision precision, kn_form form, const kn_shape *s, double seconds);
double kn_bench_bandwidth(double seconds,
                          bool alone); /* bytes a second, read by all threads, or one; 0 likewise */
#endif
