/* op_private.h – what the ops share: assertions, matrices of tensors, sums over a node's rows. */
#ifndef FT_OP_PRIVATE_H
#define FT_OP_PRIVATE_H

#include "ft/autograd.h"

#include <assert.h>

/* What only a bug of a caller can break. After a failure ops return their input, so shapes mean nothing any more. */
#define OP_ASSERT(t, cond) assert((t)->status != FT_OK || (cond))

kn_mat op_mat(const tn_tensor *w);
kn_rows op_rows(const float *x, int64_t ld); /* f32, not written to where it is an operand */
kn_rows op_columns(kn_rows x, int64_t from); /* x without its first columns */
/* y [rows, N] = (accumulate ? y : 0) + x · Wᵀ, or x · W with in_out, in the tape's precision. */
void op_product(const ag_tape *t, float *y, int64_t ldy, kn_rows x, const kn_mat *w, bool in_out,
                int64_t rows, bool accumulate);
/* c [M, N] += aᵀ [T, M] · b [T, N] over the rows of a node. */
void op_gemm_tn(const ag_tape *t, float *c, int64_t ldc, kn_rows a, int64_t m, kn_rows b, int64_t n,
                int64_t rows, const ag_rows *of);

/* Low-rank terms of one x (low_rank.c). Plain ones, without dropout and a matrix between or anything behind A and B, are a
 * product of the stacked A's, and then one product each with B: their last steps can be those of another product. */
typedef struct op_low_rank {
    ag_low_rank s[AG_MAX_GROUP];
    int n;
    int64_t rank; /* sum over sites */
    float *h,
        *u; /* [T, rank] kept: s · u Mᵀ; u = x̃ Aᵀ where some site has mid or core, else NULL */
} op_low_rank;
/* For a y of `rows` rows; NULL: the tape has failed. */
op_low_rank *op_low_rank_of(ag_tape *t, int64_t rows, const ag_low_rank *s, int n);
bool op_low_rank_sees(const op_low_rank *a); /* the backward reads x: some A wants a gradient */
bool op_low_rank_plain(const ag_low_rank *s, int n, int64_t in);
/* Of plain ones: h; the gradients of A, B and mid of a node's output, and dh = dL/d(x Aᵀ) [T, rank], a temp of the caller's (NULL:
 * failed); the stacked A's [rank, in], the same. */
void op_low_rank_hidden(ag_tape *t, const op_low_rank *a, const tn_tensor *x);
float *op_low_rank_back(ag_tape *t, const ag_node *n, const op_low_rank *a, const tn_tensor *x);
float *op_low_rank_stack(ag_tape *t, const op_low_rank *a, int64_t in);
int64_t op_low_rank_temp(const op_low_rank *a, int64_t rows, int64_t in); /* of all these */
/* The site whose columns begin at col: its term of y; false: there is none. */
bool op_low_rank_term(const op_low_rank *a, int64_t col, kn_term *term, kn_mat *b);

/* The input of an op in bf16, or f32 as it is (rounded.c). The op's `blind` has the bit of the input: where its values are
 * needed, op_round_input says so. `floats` is the op's temp. */
typedef struct op_rounded {
    uint16_t *kept; /* for the backward; NULL: not */
    int64_t floats; /* of a buffer for the time of the forward, where nothing is kept; 0: none */
} op_rounded;
void op_round_input(ag_tape *t, op_rounded *r, tn_tensor *x, bool rounds); /* before the call */
/* What the forward reads, made by its first run; *buffer is to be freed. */
kn_rows op_input(ag_tape *t, const op_rounded *r, const tn_tensor *x, float **buffer);
kn_rows op_kept(const op_rounded *r, const tn_tensor *x); /* what the backward reads */
#endif
