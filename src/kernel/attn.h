/* attn.h – what the forward and backward of attention share: where a tile's sequence lies. */
#ifndef FT_KERNEL_ATTN_H
#define FT_KERNEL_ATTN_H

#include "kern.h"

enum { ATTN_KEYS = 256 }; /* keys of a tile; tiles start at multiples of it in each sequence */
_Static_assert((int)ATTN_KEYS <= (int)KERN_KC, "a tile of scores is the A of the next product");

typedef struct attn_seq {
    int64_t q0, k0;       /* first row of the sequence in q and in k */
    int64_t page0;        /* its first page */
    int64_t q_len, k_len; /* its queries are the last q_len of its keys */
} attn_seq;

static inline attn_seq attn_next(const kn_attn *a, int i, const attn_seq *before)
{
    attn_seq s = {0};
    if (before) {
        s.q0 = before->q0 + before->q_len;
        s.k0 = before->k0 + before->k_len;
        if (a->page) s.page0 = before->page0 + (before->k_len + a->page_rows - 1) / a->page_rows;
    }
    s.q_len = a->q_len[i];
    s.k_len = a->k_len ? a->k_len[i] : a->q_len[i];
    return s;
}

/* First key that a query at position p sees; the last is p. */
static inline int64_t attn_first_key(const kn_attn *a, int64_t p)
{
    return a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
}

static inline int64_t attn_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t attn_round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* --- operands of the products, all f32 or all bf16 -------------------------------------------------------------------
 * c [rows, n] (+)= A · panel: A has rows of kc values, the panel kc rows for n columns. In bf16 both are filled up with
 * zeros to a multiple of ATTN_UNIT in k, and panels of keys in their columns too; c is f32. */
enum { ATTN_UNIT = 32 }; /* a multiple of each row's k_unit and of two panels */

/* Queries, keys, values or gradients of one head. */
typedef struct attn_rows {
    kern_src f32;
    const uint16_t *bf16; /* NULL: f32 */
    int64_t ld;
} attn_rows;

typedef struct attn_a {
    const void *at;
    int64_t ld; /* of bf16 */
    bool bf16;
    bool columns; /* f32: element (i, k) at k · KERN_KS + i */
} attn_a;

/* Room for a panel of n columns and k, in floats. */
int64_t kern_attn_panel_floats(int64_t n, int64_t k);
int64_t kern_attn_k(bool bf16, int64_t k); /* k with its filling */
int64_t kern_attn_columns(bool bf16, int64_t keys,
                          int64_t nk); /* of scores of the first `keys` of nk keys in a panel */
attn_rows kern_attn_rows_of(kn_rows x, int64_t row, int64_t column);
/* The rows r0 … r0 + n as columns of a panel, over d; as its k, over d columns. tmp: kern_pack_tmp(ATTN_KEYS) floats */
void kern_attn_pack_t(float *panel, const attn_rows *x, int64_t r0, int64_t n, int64_t d,
                      float *tmp);
void kern_attn_pack_n(float *panel, const attn_rows *x, int64_t r0, int64_t n, int64_t d,
                      float *tmp);
/* A of rows r0 … r0 + n of x, where they lie or in `copy` [n, KERN_KS]. */
attn_a kern_attn_of_rows(const attn_rows *x, int64_t r0, int64_t n, int64_t d, float *copy);
/* A of scores [n, KERN_KS], `cols` of each row, and of their transpose: f32 as they are, bf16 rounded into `copy` [n, KERN_KS] or turned by way of `turned` [ATTN_KEYS, n] floats. */
attn_a kern_attn_of_scores(bool bf16, const float *s, int64_t n, int64_t cols, float *copy);
attn_a kern_attn_of_scores_t(bool bf16, const float *s, int64_t n, int64_t cols, float *copy,
                             float *turned);
void kern_attn_product(float *c, int64_t ldc, const attn_a *a, int64_t rows, const float *panel,
                       int64_t packed, int64_t kc, int64_t n, bool load);
void kern_attn_end(bool bf16); /* after the last product of a task */
#endif
