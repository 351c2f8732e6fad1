/* norm.c – RMSNorm, LayerNorm, and RMSNorm of each head (Qwen3's q_norm and k_norm).
 * One statistic a row is kept; the input itself is kept by whoever made it. */
#include "ft/autograd.h"
#include "op_private.h"

#include <string.h>

typedef struct norm_attr {
    float eps;
    int n_q, n_k;       /* heads, head_norm only */
    float *rstd, *mean; /* [rows] */
    float *heads;       /* [T·(n_q + n_k), d]: q heads of all tokens, then k heads */
} norm_attr;

static norm_attr *new_attr(ag_tape *t, float eps, int64_t n_rows, bool mean)
{
    norm_attr *a = ag_meta(t, sizeof *a);
    if (!a) return NULL;
    a->eps = eps;
    a->rstd = ag_keep(t, (size_t)n_rows * sizeof(float));
    if (mean) a->mean = ag_keep(t, (size_t)n_rows * sizeof(float));
    return a->rstd && (!mean || a->mean) ? a : NULL;
}

static void rms_forward(ag_tape *t, ag_node *n)
{
    const norm_attr *a = n->attr;
    if (t->dry) return;
    kn_rmsnorm(ag_rows_of(n->out), a->rstd, tn_f32(n->in[0]), tn_f32(n->in[1]), tn_rows(n->out),
               tn_cols(n->out), a->eps);
}

static void rms_backward(ag_tape *t, ag_node *n)
{
    const norm_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]), *dw = ag_grad(t, n->in[1]);
    kn_rmsnorm_back(dx, dw, n->out->grad, tn_f32(n->in[0]), tn_f32(n->in[1]), a->rstd,
                    tn_rows(n->out), tn_cols(n->out));
}

const ag_op ag_op_rmsnorm = {
    .name = "rmsnorm", .forward = rms_forward, .backward = rms_backward, .again = true};

tn_tensor *ag_rmsnorm(ag_tape *t, tn_tensor *x, tn_tensor *w, float eps, const dt_type *type)
{
    norm_attr *a = new_attr(t, eps, tn_rows(x), false);
    OP_ASSERT(t, tn_count(w) == tn_cols(x));
    return ag_call(t, &ag_op_rmsnorm, a ? ag_brief(t, tn_rows(x), tn_cols(x), type) : NULL, a, 2,
                   (tn_tensor *[]){x, w});
}

static void layer_forward(ag_tape *t, ag_node *n)
{
    const norm_attr *a = n->attr;
    if (t->dry) return;
    kn_layernorm(ag_rows_of(n->out), a->mean, a->rstd, tn_f32(n->in[0]), tn_f32(n->in[1]),
                 tn_f32(n->in[2]), tn_rows(n->out), tn_cols(n->out), a->eps);
}

static void layer_backward(ag_tape *t, ag_node *n)
{
    const norm_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]), *dw = ag_grad(t, n->in[1]), *db = ag_grad(t, n->in[2]);
    kn_layernorm_back(dx, dw, db, n->out->grad, tn_f32(n->in[0]), tn_f32(n->in[1]), a->mean,
                      a->rstd, tn_rows(n->out), tn_cols(n->out));
}

const ag_op ag_op_layernorm = {
    .name = "layernorm", .forward = layer_forward, .backward = layer_backward, .again = true};

tn_tensor *ag_layernorm(ag_tape *t, tn_tensor *x, tn_tensor *w, tn_tensor *b, float eps,
                        const dt_type *type)
{
    norm_attr *a = new_attr(t, eps, tn_rows(x), true);
    OP_ASSERT(t, tn_count(w) == tn_cols(x) && tn_count(b) == tn_cols(x));
    return ag_call(t, &ag_op_layernorm, a ? ag_brief(t, tn_rows(x), tn_cols(x), type) : NULL, a, 3,
                   (tn_tensor *[]){x, w, b});
}

/* Heads [h0, h0 + count) of rows of width ld ↔ a contiguous [T·count, d] block. */
static void gather_heads(float *block, const float *x, int64_t ld, int64_t t, int h0, int count,
                         int64_t d)
{
    for (int64_t i = 0; i < t; i++)
        memcpy(block + i * count * d, x + i * ld + h0 * d, (size_t)(count * d) * sizeof(float));
}

static void scatter_heads(float *x, const float *block, int64_t ld, int64_t t, int h0, int count,
                          int64_t d, bool add)
{
    for (int64_t i = 0; i < t; i++) {
        float *to = x + i * ld + h0 * d;
        const float *from = block + i * count * d;
        for (int64_t c = 0; c < count * d; c++) to[c] = add ? to[c] + from[c] : from[c];
    }
}

static void head_forward(ag_tape *t, ag_node *n)
{
    const norm_attr *a = n->attr;
    int64_t rows = tn_rows(n->out), ld = tn_cols(n->out), d = tn_count(n->in[1]);
    int parts[2] = {a->n_q, a->n_k};
    if (t->dry) return;
    memcpy(tn_f32(n->out), tn_f32(n->in[0]), (size_t)(rows * ld) * sizeof(float));
    float *normed = ag_temp(t, rows * (a->n_q + a->n_k) * d);
    if (!normed) return;
    for (int p = 0; p < 2; p++) {
        int64_t off = p ? rows * a->n_q : 0, count = rows * parts[p];
        gather_heads(a->heads + off * d, tn_f32(n->in[0]), ld, rows, p ? a->n_q : 0, parts[p], d);
        kn_rmsnorm((kn_rows){normed + off * d, d, false}, a->rstd + off, a->heads + off * d,
                   tn_f32(n->in[1 + p]), count, d, a->eps);
        scatter_heads(tn_f32(n->out), normed + off * d, ld, rows, p ? a->n_q : 0, parts[p], d,
                      false);
    }
    ag_temp_free(t, normed, rows * (a->n_q + a->n_k) * d);
}

static void head_backward(ag_tape *t, ag_node *n)
{
    const norm_attr *a = n->attr;
    int64_t rows = tn_rows(n->out), ld = tn_cols(n->out), d = tn_count(n->in[1]);
    int64_t heads = a->n_q + a->n_k, v0 = heads * d;
    int parts[2] = {a->n_q, a->n_k};
    float *dx = ag_grad(t, n->in[0]);
    float *dy = ag_temp(t, rows * heads * d), *dh = ag_temp(t, rows * heads * d);
    if (!dy || !dh) return;
    memset(dh, 0, (size_t)(rows * heads * d) * sizeof(float));
    for (int p = 0; p < 2; p++) {
        int64_t off = p ? rows * a->n_q : 0, count = rows * parts[p];
        int h0 = p ? a->n_q : 0;
        gather_heads(dy + off * d, n->out->grad, ld, rows, h0, parts[p], d);
        kn_rmsnorm_back(dx ? dh + off * d : NULL, ag_grad(t, n->in[1 + p]), dy + off * d,
                        a->heads + off * d, tn_f32(n->in[1 + p]), a->rstd + off, count, d);
        if (dx) scatter_heads(dx, dh + off * d, ld, rows, h0, parts[p], d, true);
    }
    for (int64_t i = 0; dx && i < rows; i++) {
        for (int64_t c = v0; c < ld; c++) dx[i * ld + c] += n->out->grad[i * ld + c];
    }
    ag_temp_free(t, dy, rows * heads * d);
    ag_temp_free(t, dh, rows * heads * d);
}

static int64_t head_temp(const ag_node *n)
{
    const norm_attr *a = n->attr;
    return 2 * tn_rows(n->out) * (a->n_q + a->n_k) * tn_count(n->in[1]);
}

const ag_op ag_op_head_norm = {.name = "head_norm",
                               .forward = head_forward,
                               .backward = head_backward,
                               .blind = 1 << 0,
                               .temp = head_temp};

tn_tensor *ag_head_norm(ag_tape *t, tn_tensor *qkv, tn_tensor *wq, tn_tensor *wk, int n_q, int n_k,
                        float eps)
{
    int64_t rows = tn_rows(qkv), d = tn_count(wq);
    norm_attr *a = new_attr(t, eps, rows * (n_q + n_k), false);
    OP_ASSERT(t, tn_count(wk) == d && (n_q + n_k) * d <= tn_cols(qkv));
    if (a) {
        a->n_q = n_q;
        a->n_k = n_k;
        a->heads = ag_keep(t, (size_t)(rows * (n_q + n_k) * d) * sizeof(float));
        if (!a->heads) a = NULL;
    }
    return ag_call(t, &ag_op_head_norm, a ? ag_brief(t, rows, tn_cols(qkv), &dt_f32) : NULL, a, 3,
                   (tn_tensor *[]){qkv, wq, wk});
}
