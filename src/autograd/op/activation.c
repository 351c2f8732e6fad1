/* activation.c – gated units (act(gate) ⊙ up, SwiGLU and relatives) and plain activations. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct act_attr {
    const kn_act *act;
} act_attr;

static act_attr *new_attr(ag_tape *t, const kn_act *act)
{
    act_attr *a = ag_meta(t, sizeof *a);
    if (a) a->act = act;
    return a;
}

static void glu_forward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    if (!t->dry) kn_glu(a->act, tn_f32(n->out), tn_f32(n->in[0]), tn_rows(n->out), tn_cols(n->out));
}

static void glu_backward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    if (dx)
        kn_glu_back(a->act, dx, n->out->grad, tn_f32(n->in[0]), tn_rows(n->out), tn_cols(n->out));
}

const ag_op ag_op_glu = {.name = "glu", .forward = glu_forward, .backward = glu_backward};

tn_tensor *ag_glu(ag_tape *t, tn_tensor *gate_up, const kn_act *act)
{
    act_attr *a = new_attr(t, act);
    OP_ASSERT(t, tn_cols(gate_up) % 2 == 0);
    return ag_call(t, &ag_op_glu, a ? ag_new(t, tn_rows(gate_up), tn_cols(gate_up) / 2) : NULL, a,
                   1, &gate_up);
}

static void act_forward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    if (!t->dry) kn_act_rows(a->act, tn_f32(n->out), tn_f32(n->in[0]), tn_count(n->out));
}

static void act_backward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    if (dx) kn_act_back(a->act, dx, n->out->grad, tn_f32(n->in[0]), tn_count(n->out));
}

const ag_op ag_op_act = {.name = "act", .forward = act_forward, .backward = act_backward};

tn_tensor *ag_act(ag_tape *t, tn_tensor *x, const kn_act *act)
{
    act_attr *a = new_attr(t, act);
    return ag_call(t, &ag_op_act, a ? ag_new(t, tn_rows(x), tn_cols(x)) : NULL, a, 1, &x);
}
