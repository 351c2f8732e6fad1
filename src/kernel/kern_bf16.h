/* kern_bf16.h – private to kernel: products of operands rounded to bf16, with sums in f32.
 *
 * Both operands are packed as words: a word is a pair of neighbours in k, the even one in the low half. Panels of W
 * are DOT_NR columns wide, [kc / 2][DOT_NR] words, for n columns ⌈n / DOT_NR⌉ panels one after another; missing
 * columns are zero. A has rows of bf16. Both are padded with zeros to a multiple of the row's k_unit.
 *
 * A row of this table is an instruction set. They differ in how they add the products of a word (one after the other,
 * or 32 k at once in a tile), so bits belong to the row; within it an element's chain runs over ascending k from the
 * old value or 0, whatever the block it falls into. */
#ifndef FT_KERN_BF16_H
#define FT_KERN_BF16_H

#include "ft/kernel.h"

enum {
    DOT_NR = 16,
    DOT_MR = 32,     /* no row has more rows in its block */
    DOT_UNIT = 32,   /* a multiple of every k_unit */
    DOT_TOKENS = 512 /* no row has more tokens in a block of a weight gradient */
};

/* What is read after a call: `rows` times `bytes` at distance ld (bytes), to be fetched into L2 meanwhile. */
typedef struct kern_next {
    const void *at;
    int64_t ld, bytes;
    int rows; /* 0: nothing */
} kern_next;

typedef struct kern_dot {
    const char *name; /* as in kn_core_name */
    int mr;           /* rows of a block */
    int k_unit;
    /* How gemm_bf16.c feeds it; no bit depends on these. */
    int row_unit;                /* rows that a cut between blocks keeps together */
    int64_t k_most;              /* of one set of panels */
    int64_t panel_values;        /* of the panels that stay in L2 */
    int tokens, grad_rows;       /* of a block of a weight gradient; rows of A packed at a time */
    float round_cost, pack_cost; /* of a value of A, of W, in the time of 32 multiply-adds */
    /* After the last call of a task on a thread, whose state the tiles are; NULL: there is none. */
    void (*end)(void);
    /* c [rows, n] = (load ? c : 0) + a · panels. a: rows of bf16 at distance lda (elements), rows ≤ mr; panels at
     * distance `packed` ≥ kc; kc a multiple of k_unit. Writes nothing beside the n columns, reads no row of a beside
     * the `rows`. next: a hint, or NULL. */
    void (*panels)(float *c, int64_t ldc, const uint16_t *a, int64_t lda, int rows,
                   const uint16_t *panel, int64_t packed, int64_t kc, int64_t n, bool load,
                   const kern_next *next);
    /* To nearest, ties to even; a NaN stays one. Rows with an instruction for it take denormals as zero, as their
     * products do. And back. */
    void (*round)(uint16_t *dst, const float *src, int64_t n);
    void (*widen)(float *dst, const uint16_t *src, int64_t n);
    /* One panel from the first kc (even) values of DOT_NR rows: dst [kc / 2][DOT_NR] words. */
    void (*pack_t)(uint16_t *dst, const uint16_t *const *row, int64_t kc);
    /* One word row of ⌈n / DOT_NR⌉ panels at distance `panel` from two rows of n values. */
    void (*pack_n)(uint16_t *dst, int64_t panel, const uint16_t *even, const uint16_t *odd,
                   int64_t n);
    /* The columns of a panel as rows at distance ld: the reverse of pack_t. */
    void (*turn)(uint16_t *dst, int64_t ld, const uint16_t *panel, int64_t kc);
} kern_dot;

extern const kern_dot *kern_dot_row; /* in use */
/* The i-th row with instructions of its own that this machine has, best first; NULL past the end. */
const kern_dot *kern_dot_at(int i);
void kern_dot_use(
    const kern_dot *
        row); /* for tests, which go through all (NULL: the level's own); not while the pool runs */
extern const kern_dot kern_dot_generic;
#if defined(__x86_64__)
extern const kern_dot kern_dot_avx2, kern_dot_avx512, kern_dot_avx512bf16, kern_dot_amx;
#elif defined(__aarch64__)
extern const kern_dot kern_dot_neon;
#endif

void kern_bf16_product(const kn_product *p);
void kern_bf16_grad(float *c, int64_t ldc, kn_rows a, int64_t m, kn_rows b, int64_t n, int64_t t,
                    const int32_t *seg, int n_seg);
#endif
