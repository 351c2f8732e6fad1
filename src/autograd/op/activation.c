/* activation.c – gated units (act(gate) ⊙ up, SwiGLU and relatives) and plain activations.
 * With a result in bf16 the input is rounded too. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct act_attr {
    const kn_act *act;
    op_rounded x;
} act_attr;

static int64_t temp(const ag_node *n)
{
    return ((const act_attr *)n->attr)->x.floats;
}

/* Where that of the input goes; no data: it wants none. */
static kn_rows gradient(ag_tape *t, const ag_node *n, bool *fresh)
{
    tn_tensor *x = n->in[0];
    const kn_rows direct = ag_grad_direct(t, n);
    *fresh = direct.data != NULL;
    return *fresh ? direct : op_rows(ag_grad_fresh(t, x, fresh), tn_cols(x));
}

static void glu_forward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *buffer;
    if (t->dry) return;
    const kn_rows x = op_input(t, &a->x, n->in[0], &buffer);
    if (t->status == FT_OK) kn_glu(a->act, ag_rows_of(n->out), x, tn_rows(n->out), tn_cols(n->out));
    ag_temp_free(t, buffer, a->x.floats);
}

static void glu_backward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    bool fresh;
    const kn_rows dx = gradient(t, n, &fresh);
    kn_glu_back(a->act, dx, n->out->grad, op_kept(&a->x, n->in[0]), tn_rows(n->out),
                tn_cols(n->out), !fresh);
}

const ag_op ag_op_glu = {.name = "glu",
                         .forward = glu_forward,
                         .backward = glu_backward,
                         .again = true,
                         .blind = 1 << 0, /* see op_round_input */
                         .direct = true,
                         .temp = temp};

static void act_forward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *buffer;
    if (t->dry) return;
    const kn_rows x = op_input(t, &a->x, n->in[0], &buffer);
    if (t->status == FT_OK)
        kn_act_rows(a->act, ag_rows_of(n->out), x, tn_rows(n->out), tn_cols(n->out));
    ag_temp_free(t, buffer, a->x.floats);
}

static void act_backward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    bool fresh;
    const kn_rows dx = gradient(t, n, &fresh);
    kn_act_back(a->act, dx, n->out->grad, op_kept(&a->x, n->in[0]), tn_rows(n->out),
                tn_cols(n->out), !fresh);
}

const ag_op ag_op_act = {.name = "act",
                         .forward = act_forward,
                         .backward = act_backward,
                         .again = true,
                         .blind = 1 << 0,
                         .direct = true,
                         .temp = temp};

static tn_tensor *new_call(ag_tape *t, const ag_op *op, tn_tensor *x, const kn_act *act,
                           int64_t cols, const dt_type *type)
{
    act_attr *a = ag_meta(t, sizeof *a);
    if (!a || t->status != FT_OK) return x;
    a->act = act;
    op_round_input(t, &a->x, x, type == &dt_bf16);
    return ag_call(t, op, ag_brief(t, tn_rows(x), cols, type), a, 1, &x);
}

tn_tensor *ag_glu(ag_tape *t, tn_tensor *gate_up, const kn_act *act, const dt_type *type)
{
    OP_ASSERT(t, tn_cols(gate_up) % 2 == 0);
    return new_call(t, &ag_op_glu, gate_up, act, tn_cols(gate_up) / 2, type);
}

tn_tensor *ag_act(ag_tape *t, tn_tensor *x, const kn_act *act, const dt_type *type)
{
    return new_call(t, &ag_op_act, x, act, tn_cols(x), type);
}
