/* elementwise.c – sums and scalings: add, scale, and the dot with a constant that seeds tests and combines losses. */
#include "ft/autograd.h"
#include "op_private.h"

static void add_forward(ag_tape *t, ag_node *n)
{
    if (!t->dry) kn_add(tn_f32(n->out), tn_f32(n->in[0]), tn_f32(n->in[1]), tn_count(n->out));
}

static void add_backward(ag_tape *t, ag_node *n)
{
    float *da = ag_grad(t, n->in[0]);
    if (da) kn_axpy(da, 1.0f, n->out->grad, tn_count(n->out));
    ag_grad_pass(t, n, n->in[1]);
}

const ag_op ag_op_add = {.name = "add",
                         .forward = add_forward,
                         .backward = add_backward,
                         .blind = 1 << 0 | 1 << 1,
                         .passes = 1};

tn_tensor *ag_add(ag_tape *t, tn_tensor *a, tn_tensor *b)
{
    OP_ASSERT(t, tn_rows(a) == tn_rows(b) && tn_cols(a) == tn_cols(b));
    return ag_call(t, &ag_op_add, ag_new(t, tn_rows(a), tn_cols(a)), NULL, 2,
                   (tn_tensor *[]){a, b});
}

static void scale_forward(ag_tape *t, ag_node *n)
{
    int64_t cols = tn_cols(n->out);
    if (!t->dry)
        kn_mul_cols(tn_f32(n->out), cols, tn_f32(n->in[0]), cols, NULL, *(const float *)n->attr,
                    tn_rows(n->out), cols, false);
}

static void scale_backward(ag_tape *t, ag_node *n)
{
    float *dx = ag_grad(t, n->in[0]);
    if (dx) kn_axpy(dx, *(const float *)n->attr, n->out->grad, tn_count(n->out));
}

const ag_op ag_op_scale = {
    .name = "scale", .forward = scale_forward, .backward = scale_backward, .blind = 1 << 0};

tn_tensor *ag_scale(ag_tape *t, tn_tensor *x, float s)
{
    float *attr = ag_meta(t, sizeof *attr);
    if (attr) *attr = s;
    return ag_call(t, &ag_op_scale, attr ? ag_new(t, tn_rows(x), tn_cols(x)) : NULL, attr, 1, &x);
}

typedef struct dot_attr {
    const float *c;
} dot_attr;

static void dot_forward(ag_tape *t, ag_node *n)
{
    const dot_attr *a = n->attr;
    if (!t->dry) tn_f32(n->out)[0] = (float)kn_dot(tn_f32(n->in[0]), a->c, tn_count(n->in[0]));
}

static void dot_backward(ag_tape *t, ag_node *n)
{
    const dot_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    if (dx) kn_axpy(dx, n->out->grad[0], a->c, tn_count(n->in[0]));
}

const ag_op ag_op_dot_const = {
    .name = "dot_const", .forward = dot_forward, .backward = dot_backward, .blind = 1 << 0};

tn_tensor *ag_dot_const(ag_tape *t, tn_tensor *x, const float *c)
{
    dot_attr *a = ag_meta(t, sizeof *a);
    if (a) a->c = c;
    return ag_call(t, &ag_op_dot_const, a ? ag_new(t, 1, 1) : NULL, a, 1, &x);
}
