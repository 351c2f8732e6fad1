/* tensor.c – shapes of tensors and reading their rows as f32. */
#include "ft/tensor.h"

int64_t tn_count(const tn_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= t->dim[i];
    return n;
}

int64_t tn_cols(const tn_tensor *t)
{
    return t->nd > 0 ? t->dim[t->nd - 1] : 1;
}

int64_t tn_rows(const tn_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t->nd; i++) n *= t->dim[i];
    return n;
}

static size_t row_bytes(const tn_tensor *t)
{
    size_t bytes = 0;
    bool whole = dt_bytes(t->type, tn_cols(t), &bytes);
    assert(whole); /* whoever made the tensor from a file has checked it */
    (void)whole;
    return bytes;
}

const void *tn_row(const tn_tensor *t, int64_t row)
{
    assert(!t->type->read); /* its rows begin anywhere */
    if (t->row_of) row = t->row_of[row];
    return (const char *)t->data + (size_t)row * row_bytes(t);
}

void tn_unpack_rows(float *dst, const tn_tensor *t, int64_t row0, int64_t n)
{
    const int64_t cols = tn_cols(t);
    const dt_data src = {t->data, t->side};
    if (!t->row_of) {
        dt_read(t->type, dst, &src, row0 * cols, n * cols);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        dt_read(t->type, dst + i * cols, &src, t->row_of[row0 + i] * cols, cols);
}
