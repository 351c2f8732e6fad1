/* op_private.h – what the ops share: assertions, applying weights (linear, low_rank, cross_entropy). */
#ifndef FT_OP_PRIVATE_H
#define FT_OP_PRIVATE_H

#include "ft/autograd.h"

#include <assert.h>

/* What only a bug of a caller can break. After a failure ops return their input, so shapes mean nothing any more. */
#define OP_ASSERT(t, cond) assert((t)->status != FT_OK || (cond))

kn_mat op_mat(const tn_tensor *w);
/* c [M, N] += aᵀ [T, M] · b [T, N] over the rows of a node. */
void op_gemm_tn(float *c, int64_t ldc, const float *a, int64_t lda, int64_t m, const float *b,
                int64_t ldb, int64_t n, int64_t rows, const ag_rows *of);
/* y [rows, O] = x · Wᵀ + b */
void op_apply(float *y, int64_t ldy, const float *x, int64_t ldx, const ag_weight *w, int64_t rows);
/* dx (may be NULL) = or += dy · W; the gradients of W and b where they are wanted. */
void op_apply_back(ag_tape *t, float *dx, int64_t ldx, bool accumulate, const float *dy,
                   int64_t ldy, const float *x, const ag_weight *w, int64_t rows,
                   const ag_rows *of);

/* The low-rank part of y += s · x̃ Aᵀ Bᵀ. h [rows, r] (row distance ldh) = s · x̃ · Aᵀ is what backward needs. */
void op_low_rank(float *y, int64_t ldy, float *h, int64_t ldh, const float *x, int64_t ldx,
                 const ag_low_rank *s, int64_t rows);
/* dA, dB, and dx += (dy · B · s) · A; dh [rows, r] is scratch. */
void op_low_rank_back(ag_tape *t, float *dx, int64_t lddx, const float *dy, int64_t ldy,
                      const float *h, int64_t ldh, float *dh, const float *x, int64_t ldx,
                      const ag_low_rank *s, int64_t rows, const ag_rows *of);
/* Key of a site's dropout mask over these rows. */
uint64_t op_mask_key(const ag_rows *of, const ag_low_rank *s);
#endif
