/* activation.c – gated units (act(gate) ⊙ up, SwiGLU and relatives) and plain activations.
 *
 * Where products round their operands to bf16, what the backward keeps of the input is rounded too, and the forward
 * starts from the rounded values whether there will be a backward or not. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct act_attr {
    const kn_act *act;
    uint16_t *kept; /* the input in bf16; NULL: in[0] is read */
    int64_t floats; /* of a buffer for it where nothing is kept; 0: none */
} act_attr;

/* What the op reads: in[0], or its rounded copy, which the first forward makes. */
static kn_rows input(ag_tape *t, const ag_node *n, float **buffer)
{
    const act_attr *a = n->attr;
    const tn_tensor *x = n->in[0];
    *buffer = a->floats > 0 ? ag_temp(t, a->floats) : NULL;
    if (!a->kept && a->floats == 0) return ag_rows_of(x);
    const kn_rows rounded = {a->kept ? (void *)a->kept : *buffer, tn_cols(x), true};
    if (rounded.data && x->data) kn_convert_rows(rounded, ag_rows_of(x), tn_rows(x), tn_cols(x));
    return rounded;
}

/* What the backward reads. */
static kn_rows kept(const ag_node *n)
{
    const act_attr *a = n->attr;
    return a->kept ? (kn_rows){a->kept, tn_cols(n->in[0]), true} : ag_rows_of(n->in[0]);
}

static int64_t temp(const ag_node *n)
{
    return ((const act_attr *)n->attr)->floats;
}

static void glu_forward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *buffer;
    if (t->dry) return;
    const kn_rows x = input(t, n, &buffer);
    if (t->status == FT_OK) kn_glu(a->act, ag_rows_of(n->out), x, tn_rows(n->out), tn_cols(n->out));
    ag_temp_free(t, buffer, a->floats);
}

static void glu_backward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    if (dx) kn_glu_back(a->act, dx, n->out->grad, kept(n), tn_rows(n->out), tn_cols(n->out));
}

const ag_op ag_op_glu = {.name = "glu",
                         .forward = glu_forward,
                         .backward = glu_backward,
                         .again = true,
                         .blind = 1 << 0, /* where it is read, `new_call` says so */
                         .temp = temp};

static void act_forward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *buffer;
    if (t->dry) return;
    const kn_rows x = input(t, n, &buffer);
    if (t->status == FT_OK)
        kn_act_rows(a->act, ag_rows_of(n->out), x, tn_rows(n->out), tn_cols(n->out));
    ag_temp_free(t, buffer, a->floats);
}

static void act_backward(ag_tape *t, ag_node *n)
{
    const act_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    if (dx) kn_act_back(a->act, dx, n->out->grad, kept(n), tn_rows(n->out), tn_cols(n->out));
}

const ag_op ag_op_act = {.name = "act",
                         .forward = act_forward,
                         .backward = act_backward,
                         .again = true,
                         .blind = 1 << 0,
                         .temp = temp};

static tn_tensor *new_call(ag_tape *t, const ag_op *op, tn_tensor *x, const kn_act *act,
                           int64_t cols, const dt_type *type)
{
    act_attr *a = ag_meta(t, sizeof *a);
    const int64_t n = tn_count(x);
    const bool rounds = type == &dt_bf16, records = ag_recording(t, 1, &x);
    if (!a || t->status != FT_OK) return x;
    a->act = act;
    if (rounds && records) a->kept = ag_keep(t, (size_t)n * sizeof *a->kept);
    if (rounds && !records) a->floats = (n + 1) / 2;
    if (!rounds && records) x->needed = true;
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
