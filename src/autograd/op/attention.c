/* attention.c – causal attention over packed sequences: qkv [T, (H + 2K)·d] → [T, H·d]. Keeps log-sum-exp, not T×T. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct attention_attr {
    kn_attn a;
    float *lse; /* [T, H] */
} attention_attr;

static void forward(ag_tape *t, ag_node *n)
{
    const attention_attr *a = n->attr;
    int64_t ld = tn_cols(n->in[0]), d = a->a.head_dim;
    const float *q = tn_f32(n->in[0]), *k = q + a->a.n_head * d, *v = k + a->a.n_kv * d;
    if (!t->dry) kn_attention(&a->a, tn_f32(n->out), tn_cols(n->out), a->lse, q, ld, k, ld, v, ld);
}

static void backward(ag_tape *t, ag_node *n)
{
    const attention_attr *a = n->attr;
    int64_t ld = tn_cols(n->in[0]), ldo = tn_cols(n->out), d = a->a.head_dim;
    int64_t k0 = a->a.n_head * d, v0 = k0 + a->a.n_kv * d;
    const float *q = tn_f32(n->in[0]);
    float *dq = ag_grad(t, n->in[0]);
    if (!dq) return;
    kn_attention_back(&a->a, dq, dq + k0, dq + v0, n->out->grad, ldo, tn_f32(n->out), ldo, a->lse,
                      q, ld, q + k0, ld, q + v0, ld);
}

const ag_op ag_op_attention = {.name = "attention",
                               .forward = forward,
                               .backward = backward,
                               .by_rows = true,
                               .part = AG_ATTENTION};

tn_tensor *ag_attention(ag_tape *t, tn_tensor *qkv, const kn_attn *attn)
{
    attention_attr *a = ag_meta(t, sizeof *a);
    int64_t rows = tn_rows(qkv);
    if (!a || t->status != FT_OK) return qkv;
    OP_ASSERT(t, t->rows != NULL);
    OP_ASSERT(t, tn_cols(qkv) == (int64_t)(attn->n_head + 2 * attn->n_kv) * attn->head_dim);
    a->a = *attn;
    a->a.q_len = t->rows->len;
    a->a.k_len = NULL;
    a->a.n_seq = t->rows->n_seq;
    if (ag_recording(t, 1, &qkv)) {
        a->lse = ag_keep(t, (size_t)(rows * attn->n_head) * sizeof(float));
        if (!a->lse) return qkv;
    }
    return ag_call(t, &ag_op_attention, ag_new(t, rows, (int64_t)attn->n_head * attn->head_dim), a,
                   1, &qkv);
}
