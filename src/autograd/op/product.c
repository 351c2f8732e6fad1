/* product.c – products as ops call them: tensors as the kernels' matrices, in the tape's precision. */
#include "op_private.h"

kn_mat op_mat(const tn_tensor *w)
{
    return (kn_mat){.type = w->type,
                    .data = w->data,
                    .side = w->side,
                    .rows = w->dim[0],
                    .cols = w->dim[1],
                    .row_of = w->row_of};
}

kn_rows op_rows(const float *x, int64_t ld)
{
    return (kn_rows){(float *)x, ld, false};
}

kn_rows op_columns(kn_rows x, int64_t from)
{
    x.data = x.bf16 ? (void *)((uint16_t *)x.data + from) : (void *)((float *)x.data + from);
    return x;
}

void op_product(const ag_tape *t, float *y, int64_t ldy, kn_rows x, const kn_mat *w, bool in_out,
                int64_t rows, bool accumulate)
{
    kn_gemm(&(kn_product){.precision = t->precision,
                          .y = {y, ldy, false},
                          .x = x,
                          .m = rows,
                          .w = w,
                          .in_out = in_out,
                          .accumulate = accumulate});
}

void op_gemm_tn(const ag_tape *t, float *c, int64_t ldc, kn_rows a, int64_t m, kn_rows b, int64_t n,
                int64_t rows, const ag_rows *of)
{
    kn_gemm_grad(t->precision, c, ldc, a, m, b, n, rows, of ? of->len : NULL, of ? of->n_seq : 0);
}
