/* dropout.c – y = x ⊙ mask / (1 − p), the mask a pure function of the step, the row and the key: drawn again in the backward,
 * not kept. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct dropout_attr {
    float p;
    uint64_t key;
} dropout_attr;

static uint64_t mask_key(const ag_node *n)
{
    return rng_key(n->rows->mask_key, ((const dropout_attr *)n->attr)->key, 0);
}

static void forward(ag_tape *t, ag_node *n)
{
    const dropout_attr *a = n->attr;
    const int64_t rows = tn_rows(n->out), cols = tn_cols(n->out);
    const kn_rows x = ag_rows_of(n->in[0]);
    float *y = tn_f32(n->out);
    if (t->dry) return;
    if (x.bf16) kn_convert_rows(op_rows(y, cols), x, rows, cols);
    kn_dropout(y, x.bf16 ? y : x.data, rows, cols, a->p, mask_key(n), n->rows->key);
}

static void backward(ag_tape *t, ag_node *n)
{
    const dropout_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    if (dx)
        kn_dropout_back(dx, n->out->grad, tn_rows(n->out), tn_cols(n->out), a->p, mask_key(n),
                        n->rows->key);
}

const ag_op ag_op_dropout = {
    .name = "dropout", .forward = forward, .backward = backward, .by_rows = true, .blind = 1 << 0};

tn_tensor *ag_dropout(ag_tape *t, tn_tensor *x, float p, uint64_t key)
{
    dropout_attr *a = ag_meta(t, sizeof *a);
    OP_ASSERT(t, t->rows && t->rows->key);
    if (!a || t->status != FT_OK) return x;
    *a = (dropout_attr){p, key};
    return ag_call(t, &ag_op_dropout, ag_brief(t, tn_rows(x), tn_cols(x), &dt_f32), a, 1, &x);
}
