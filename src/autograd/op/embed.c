/* embed.c – rows of a table: w [V, C] (any dtype), ids [T] → y [T, C]. An id below 0 gives zeros. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct embed_attr {
    const int32_t *ids;
    int64_t n;
    int32_t frozen; /* id whose row gets no gradient; −1: none */
} embed_attr;

static void forward(ag_tape *t, ag_node *n)
{
    const embed_attr *a = n->attr;
    kn_mat w = op_mat(n->in[0]);
    if (!t->dry) kn_embed(tn_f32(n->out), &w, a->ids, a->n);
}

static void backward(ag_tape *t, ag_node *n)
{
    const embed_attr *a = n->attr;
    float *dw = ag_grad(t, n->in[0]);
    if (dw) kn_embed_back(dw, n->out->grad, a->ids, a->n, tn_cols(n->in[0]), a->frozen);
}

const ag_op ag_op_embed = {.name = "embed", .forward = forward, .backward = backward};

tn_tensor *ag_embed(ag_tape *t, tn_tensor *w, const int32_t *ids, int64_t n, int32_t frozen)
{
    embed_attr *a = ag_meta(t, sizeof *a);
    for (int64_t i = 0; i < n; i++) OP_ASSERT(t, ids[i] < w->dim[0]);
    OP_ASSERT(t, w->nd == 2);
    tn_tensor *y = ag_new(t, n, tn_cols(w));
    if (a) *a = (embed_attr){ids, n, frozen};
    return ag_call(t, &ag_op_embed, a ? y : NULL, a, 1, &w);
}
