/* op_weigh.c – y[t, :] = g[t, col] · x[t, :]: an operation of the tests, as a router weighs an expert's rows. */
#include "doubles.h"

typedef struct weigh {
    int64_t col;
} weigh;

static void forward(ag_tape *t, ag_node *n)
{
    const weigh *a = n->attr;
    const tn_tensor *x = n->in[0], *g = n->in[1];
    int64_t cols = tn_cols(x);
    if (t->dry) return;
    for (int64_t r = 0; r < tn_rows(x); r++) {
        float f = tn_f32(g)[r * tn_cols(g) + a->col];
        for (int64_t c = 0; c < cols; c++)
            tn_f32(n->out)[r * cols + c] = f * tn_f32(x)[r * cols + c];
    }
}

static void backward(ag_tape *t, ag_node *n)
{
    const weigh *a = n->attr;
    tn_tensor *x = n->in[0], *g = n->in[1];
    const float *dy = n->out->grad;
    float *dx = ag_grad(t, x), *dg = ag_grad(t, g);
    int64_t cols = tn_cols(x);
    for (int64_t r = 0; r < tn_rows(x); r++) {
        int64_t at = r * tn_cols(g) + a->col;
        float f = tn_f32(g)[at], sum = 0.0f;
        for (int64_t c = r * cols; c < (r + 1) * cols; c++) {
            if (dx) dx[c] += f * dy[c];
            sum += tn_f32(x)[c] * dy[c];
        }
        if (dg) dg[at] += sum;
    }
}

const ag_op ag_op_weigh = {.name = "weigh", .forward = forward, .backward = backward};

tn_tensor *op_weigh(ag_tape *t, tn_tensor *x, tn_tensor *g, int64_t col)
{
    weigh *a = ag_meta(t, sizeof *a);
    tn_tensor *y = ag_new(t, tn_rows(x), tn_cols(x));
    if (!a || !y) return x;
    a->col = col;
    return ag_call(t, &ag_op_weigh, y, a, 2, (tn_tensor *const[]){x, g});
}
