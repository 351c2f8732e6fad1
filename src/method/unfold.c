/* unfold.c – the way back through a fold of the low-rank family: gradients of the factors of
 *   ΔW = s · diag(out) · B · M · A,  M nothing, a diagonal or a matrix, of those of ΔW, G [out, in].
 * With T = G Aᵀ and B' = s · diag(out) · B:
 *   dB = s · diag(out) · T Mᵀ,  dout_o = s · Σ_k B_ok (T Mᵀ)_ok,  dM = B'ᵀ T,  dA = (B' M)ᵀ G. */
#include "lora_private.h"
#include "method_private.h"

#include <string.h>

typedef struct factors { /* [r, in], [out, r], rows one behind the other */
    const ag_low_rank *low;
    const nn_site *s;
    const float *g; /* [out, in] */
    int64_t r, in, out;
    float *a, *t, *tm, *b; /* A; T and T Mᵀ; B', then B' M */
} factors;

static kn_mat mat_of(const float *x, int64_t rows, int64_t cols)
{
    return (kn_mat){.type = &dt_f32, .data = x, .rows = rows, .cols = cols};
}

/* The columns of x [rows, r] through M: y = x Mᵀ, or x M. */
static void through_middle(const factors *f, float *y, const float *x, bool turned)
{
    const tn_tensor *core = f->low->core, *mid = f->low->mid;
    if (core) {
        const kn_mat m = mat_of(tn_f32(core), f->r, f->r);
        (turned ? kn_gemm_nt : kn_gemm_nn)(y, f->r, x, f->r, &m, f->out, NULL, false);
        return;
    }
    kn_mul_cols(y, f->r, x, f->r, mid ? tn_f32(mid) : NULL, 1.0f, f->out, f->r, false);
}

static void middle_gradients(const factors *f)
{
    const tn_tensor *core = f->low->core, *mid = f->low->mid;
    if (core && core->grad)
        kn_gemm_tn(core->grad, f->r, f->b, f->r, f->r, f->t, f->r, f->r, f->out, NULL, 0);
    if (mid && mid->grad) kn_col_dot_add(mid->grad, f->b, f->r, f->t, f->r, f->out, f->r);
}

static void outer_gradients(const factors *f)
{
    const ag_low_rank *low = f->low;
    const float *b = tn_f32(low->b), *out = low->out ? tn_f32(low->out) : NULL;
    for (int64_t o = 0; o < f->out; o++) {
        const float *tm = f->tm + o * f->r, scale = low->scale * (out ? out[o] : 1.0f);
        if (low->out && low->out->grad)
            low->out->grad[o] += low->scale * (float)kn_dot(b + o * f->r, tm, f->r);
        if (low->b->wants_grad && low->b->grad) kn_axpy(low->b->grad + o * f->r, scale, tm, f->r);
    }
}

static void all_gradients(factors *f)
{
    const ag_low_rank *low = f->low;
    const kn_mat a = mat_of(f->a, f->r, f->in);
    kn_copy_block(f->a, f->in, tn_f32(low->a), low->a->dim[1], f->r, f->in);
    kn_gemm_nt(f->t, f->r, f->g, f->in, &a, f->out, NULL, false);
    through_middle(f, f->tm, f->t, true);
    outer_gradients(f);
    memcpy(f->b, tn_f32(low->b), (size_t)(f->out * f->r) * sizeof(float));
    kn_scale(f->b, low->scale, f->out * f->r);
    if (low->out) kn_scale_rows(f->b, tn_f32(low->out), f->out, f->r);
    middle_gradients(f);
    if (!low->a->wants_grad || !low->a->grad) return;
    through_middle(f, f->tm, f->b, false);
    kn_gemm_tn(low->a->grad, f->in, f->tm, f->r, f->r, f->g, f->in, f->in, f->out, NULL, 0);
}

/* G as [out, in], where the file holds [in, out]. */
static float *turned(const nn_site *s, const float *dw)
{
    float *g = ft_alloc((size_t)(s->out * s->in), sizeof *g);
    for (int64_t i = 0; g && i < s->in; i++)
        for (int64_t o = 0; o < s->out; o++) g[o * s->in + i] = dw[i * s->out + o];
    return g;
}

ft_status pe_low_rank_unfold(pe_ctx *c, const nn_site *s, const float *w, float *dw)
{
    ag_weight of = {0};
    nn_run run = {.over = &c->over};
    pe_keep_method_hooks(c)->weight(&run, s, &of);
    const ag_low_rank *low = &of.low;
    (void)w;
    if (!low->a) return FT_OK;
    const int64_t r = low->a->dim[0], n = s->out * r;
    factors f = {.low = low, .s = s, .g = dw, .r = r, .in = s->in, .out = s->out};
    float *g = s->in_out ? turned(s, dw) : NULL, *all = ft_alloc((size_t)(3 * n + r * s->in), 4);
    const bool good = all && (g || !s->in_out);
    if (g) f.g = g;
    f.a = all;
    if (good) {
        f.t = all + r * s->in;
        f.tm = f.t + n;
        f.b = f.tm + n;
        all_gradients(&f);
    }
    ft_free(g);
    ft_free(all);
    return good ? FT_OK : FT_EMEM;
}
