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
