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

/* c [rows, n] = (load ? c : 0) + a · panel, in blocks of the level's height. a_cols as in kern_table. */
static inline void attn_product(float *c, int64_t ldc, const float *a, int64_t a_cols, int64_t rows,
                                const float *panel, int64_t packed, int64_t kc, int64_t n,
                                bool load)
{
    int64_t height = n <= kern->lanes ? kern->mr1 : kern->mr;
    int64_t blocks = (rows + height - 1) / height;
    for (int64_t i = 0; i < blocks; i++) {
        int64_t r0 = rows * i / blocks, r1 = rows * (i + 1) / blocks;
        const float *ar = a_cols ? a + r0 : a + r0 * KERN_KS;
        kern->panels(c + r0 * ldc, ldc, ar, a_cols, (int)(r1 - r0), panel, packed, kc, n, load,
                     NULL, (kern_ahead){0});
    }
}
#endif
