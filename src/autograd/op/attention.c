/* attention.c – causal attention over packed sequences: qkv [T, (H + 2K)·d] → [T, H·d]. Keeps log-sum-exp, not T×T. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct attention_attr {
    kn_attn a;
    float *lse; /* [T, H] */
    op_rounded qkv;
} attention_attr;

/* Columns of q, k and v in rows of qkv. */
typedef struct heads {
    kn_rows q, k, v;
} heads;

static heads split(const kn_attn *a, kn_rows x)
{
    const int64_t k = (int64_t)a->n_head * a->head_dim, v = k + (int64_t)a->n_kv * a->head_dim;
    return (heads){x, op_columns(x, k), op_columns(x, v)};
}

static void forward(ag_tape *t, ag_node *n)
{
    const attention_attr *a = n->attr;
    float *buffer;
    if (t->dry) return;
    const kn_rows qkv = op_input(t, &a->qkv, n->in[0], &buffer);
    if (t->status == FT_OK) {
        const heads h = split(&a->a, qkv);
        kn_attention(&a->a, ag_rows_of(n->out), a->lse, h.q, h.k, h.v);
    }
    ag_temp_free(t, buffer, a->qkv.floats);
}

static void backward(ag_tape *t, ag_node *n)
{
    const attention_attr *a = n->attr;
    float *dq = ag_grad(t, n->in[0]);
    if (!dq) return;
    const heads h = split(&a->a, op_kept(&a->qkv, n->in[0]));
    const heads d = split(&a->a, op_rows(dq, tn_cols(n->in[0])));
    kn_attention_back(&a->a, dq, d.k.data, d.v.data, n->out->grad, tn_cols(n->out),
                      ag_rows_of(n->out), a->lse, h.q, h.k, h.v);
}

static int64_t temp(const ag_node *n)
{
    return ((const attention_attr *)n->attr)->qkv.floats;
}

const ag_op ag_op_attention = {.name = "attention",
                               .forward = forward,
                               .backward = backward,
                               .by_rows = true,
                               .blind = 1 << 0, /* see op_round_input */
                               .temp = temp,
                               .part = AG_ATTENTION};

tn_tensor *ag_attention(ag_tape *t, tn_tensor *qkv, const kn_attn *attn, const dt_type *type)
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
    op_round_input(t, &a->qkv, qkv, type == &dt_bf16);
    if (ag_recording(t, 1, &qkv)) {
        a->lse = ag_keep(t, (size_t)(rows * attn->n_head) * sizeof(float));
        if (!a->lse) return qkv;
    }
    return ag_call(t, &ag_op_attention,
                   ag_typed(t, rows, (int64_t)attn->n_head * attn->head_dim, type), a, 1, &qkv);
}
