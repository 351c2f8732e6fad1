/* columns.c – what methods share that change a matrix column by column, each making good what those before it lost (gptq.c,
 * sparsegpt.c), and how the loss of a change is told: ‖(W − Ŵ)X‖² by H. */
#include <string.h>

#include "compress_private.h"
#include "ft/kernel.h"

ft_status cmp_change_linear(cmp_block *b, cmp_linear *l, const float *h, cmp_change change,
                            void *ctx)
{
    const int64_t in = l->site->in, out = l->site->out, n = in * out;
    const size_t mark = arena_mark(b->mem);
    float *before = arena_raw(b->mem, (size_t)n * sizeof *before);
    if (!before) return FT_EMEM;
    memcpy(before, l->w, (size_t)n * sizeof *before);
    FT_TRY(cmp_hessian_norm(h, before, out, in, &l->whole));
    FT_TRY(change(b, l, ctx));
    kn_axpy(before, -1.0f, l->w, n);
    FT_TRY(cmp_hessian_norm(h, before, out, in, &l->lost));
    arena_reset(b->mem, mark);
    return FT_OK;
}

void cmp_drop_dead(float *w, const float *h, int64_t out, int64_t in)
{
    for (int64_t i = 0; i < in; i++)
        for (int64_t r = 0; h[i * in + i] == 0.0f && r < out; r++) w[r * in + i] = 0.0f;
}

/* U's rows there are copied, as products read whole matrices. */
ft_status cmp_bring_up(float *w, int64_t out, int64_t in, const float *u, int64_t from, int64_t to,
                       const float *lost, int64_t ld)
{
    const int64_t n = to - from, behind = in - to;
    if (behind == 0) return FT_OK;
    float *copy = ft_alloc((size_t)(n * behind), sizeof *copy);
    if (!copy) return FT_EMEM;
    for (int64_t i = 0; i < n; i++)
        memcpy(copy + i * behind, u + (from + i) * in + to, (size_t)behind * sizeof *copy);
    const kn_mat m = {.type = &dt_f32, .data = copy, .rows = n, .cols = behind};
    kn_gemm_nn(w + to, in, lost, ld, &m, out, NULL, true);
    ft_free(copy);
    return pool_failed() ? FT_EMEM : FT_OK;
}
