/* elementwise.c – sums and scalings: add, scale, what a branch adds to a stream, and the dot with a constant that seeds tests
 * and combines losses. */
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

tn_tensor *ag_add_brief(ag_tape *t, tn_tensor *a, tn_tensor *b)
{
    OP_ASSERT(t, tn_rows(a) == tn_rows(b) && tn_cols(a) == tn_cols(b));
    return ag_call(t, &ag_op_add, ag_brief(t, tn_rows(a), tn_cols(a), &dt_f32), NULL, 2,
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

/* y = a + s · dropout(x), in: x, a */
typedef struct add_scaled_attr {
    float scale, dropout;
    uint64_t key;
} add_scaled_attr;

static void drop(const ag_node *n, float *y, const float *x)
{
    const add_scaled_attr *a = n->attr;
    kn_dropout(y, x, tn_rows(n->out), tn_cols(n->out), a->dropout,
               rng_key(n->rows->mask_key, a->key, 0), n->rows->key);
}

static void add_scaled_forward(ag_tape *t, ag_node *n)
{
    const add_scaled_attr *a = n->attr;
    const int64_t cols = tn_cols(n->out);
    float *y = tn_f32(n->out);
    if (t->dry) return;
    kn_mul_cols(y, cols, tn_f32(n->in[0]), cols, NULL, a->scale, tn_rows(n->out), cols, false);
    if (a->dropout > 0.0f) drop(n, y, y);
    kn_axpy(y, 1.0f, tn_f32(n->in[1]), tn_count(n->out));
}

static int64_t add_scaled_temp(const ag_node *n)
{
    return ((const add_scaled_attr *)n->attr)->dropout > 0.0f ? tn_count(n->out) : 0;
}

static void add_scaled_backward(ag_tape *t, ag_node *n)
{
    const add_scaled_attr *a = n->attr;
    const int64_t cols = tn_cols(n->out);
    bool fresh;
    float *dx = ag_grad_fresh(t, n->in[0], &fresh);
    float *dropped = dx && a->dropout > 0.0f ? ag_temp(t, tn_count(n->out)) : NULL;
    if (t->status != FT_OK) return;
    if (dropped) drop(n, dropped, n->out->grad);
    if (dx)
        kn_mul_cols(dx, cols, dropped ? dropped : n->out->grad, cols, NULL, a->scale,
                    tn_rows(n->out), cols, !fresh);
    ag_temp_free(t, dropped, tn_count(n->out));
    ag_grad_pass(t, n, n->in[1]);
}

const ag_op ag_op_add_scaled = {.name = "add_scaled",
                                .forward = add_scaled_forward,
                                .backward = add_scaled_backward,
                                .by_rows = true,
                                .blind = 1 << 0 | 1 << 1,
                                .temp = add_scaled_temp,
                                .passes = 1};

tn_tensor *ag_add_scaled(ag_tape *t, tn_tensor *a, tn_tensor *x, float scale, float dropout,
                         uint64_t key)
{
    add_scaled_attr *attr = ag_meta(t, sizeof *attr);
    OP_ASSERT(t, tn_rows(a) == tn_rows(x) && tn_cols(a) == tn_cols(x));
    OP_ASSERT(t, dropout == 0.0f || (t->rows && t->rows->key));
    if (!attr || t->status != FT_OK) return a;
    *attr = (add_scaled_attr){scale, dropout, key};
    return ag_call(t, &ag_op_add_scaled, ag_new(t, tn_rows(a), tn_cols(a)), attr, 2,
                   (tn_tensor *[]){x, a});
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
