/* fake.c – activations as codes of eight bits would give them back, each row (a token) with a step of its own; the gradient
 * goes straight through (Bengio et al. 2013), but where a code was clamped.
 *
 * Two statistics a row are kept; the result is made again for products that need it in their backward. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct fake_attr {
    kn_tokens how;
    float *stat; /* [T, 2] */
} fake_attr;

static void forward(ag_tape *t, ag_node *n)
{
    const fake_attr *a = n->attr;
    if (!t->dry)
        kn_fake_rows(ag_rows_of(n->out), a->stat, ag_rows_of(n->in[0]), tn_rows(n->out),
                     tn_cols(n->out), &a->how);
}

static void backward(ag_tape *t, ag_node *n)
{
    const fake_attr *a = n->attr;
    bool fresh;
    float *dx = ag_grad_fresh(t, n->in[0], &fresh);
    if (dx)
        kn_fake_rows_back(dx, n->out->grad, ag_rows_of(n->in[0]), a->stat, tn_rows(n->out),
                          tn_cols(n->out), &a->how, !fresh);
}

const ag_op ag_op_fake = {.name = "fake", .forward = forward, .backward = backward, .again = true};

tn_tensor *ag_fake(ag_tape *t, tn_tensor *x, const kn_tokens *how)
{
    fake_attr *a = ag_meta(t, sizeof *a);
    if (!a || t->status != FT_OK) return x;
    a->how = *how;
    a->stat = ag_keep(t, (size_t)(2 * tn_rows(x)) * sizeof(float));
    return ag_call(t, &ag_op_fake, ag_brief(t, tn_rows(x), tn_cols(x), ag_fed_type(t)), a, 1, &x);
}
