/* rows.c – rows picked out of an activation and put back: gather x[row], scatter y[row] += x, put y[row, col …] = x. What a
 * router, an expert, a head over some tokens or a prefix is made of. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct rows_attr {
    const int64_t *row;
    int64_t col; /* put_rows only */
} rows_attr;

static rows_attr *new_attr(ag_tape *t, const int64_t *row, int64_t n, int64_t below)
{
    rows_attr *a = ag_meta(t, sizeof *a);
    for (int64_t i = 0; i < n; i++) OP_ASSERT(t, row[i] >= 0 && row[i] < below);
    (void)below;
    if (a) a->row = row;
    return a;
}

static void gather_forward(ag_tape *t, ag_node *n)
{
    const rows_attr *a = n->attr;
    if (!t->dry)
        kn_gather_rows(ag_rows_of(n->out), ag_rows_of(n->in[0]), a->row, tn_rows(n->out),
                       tn_cols(n->out));
}

static void gather_backward(ag_tape *t, ag_node *n)
{
    const rows_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    if (dx) kn_scatter_rows(dx, n->out->grad, a->row, tn_rows(n->out), tn_cols(n->out));
}

const ag_op ag_op_gather_rows = {
    .name = "gather_rows", .forward = gather_forward, .backward = gather_backward, .blind = 1 << 0};

tn_tensor *ag_gather_rows(ag_tape *t, tn_tensor *x, const int64_t *row, int64_t n)
{
    rows_attr *a = new_attr(t, row, n, tn_rows(x));
    return ag_call(t, &ag_op_gather_rows, a ? ag_brief(t, n, tn_cols(x), x->type) : NULL, a, 1, &x);
}

static void scatter_forward(ag_tape *t, ag_node *n)
{
    const rows_attr *a = n->attr;
    const tn_tensor *x = n->in[1];
    if (!t->dry) kn_scatter_rows(tn_f32(n->out), tn_f32(x), a->row, tn_rows(x), tn_cols(x));
}

/* The gradient of y passes where it is. */
static void scatter_backward(ag_tape *t, ag_node *n)
{
    const rows_attr *a = n->attr;
    tn_tensor *x = n->in[1];
    bool fresh;
    float *dx = ag_grad_fresh(t, x, &fresh), *part;
    int64_t rows = tn_rows(x), cols = tn_cols(x);
    if (!dx) return;
    part = fresh ? dx : ag_temp(t, rows * cols);
    if (!part) return;
    kn_gather_rows((kn_rows){part, cols, false}, (kn_rows){n->out->grad, cols, false}, a->row, rows,
                   cols);
    if (fresh) return;
    kn_axpy(dx, 1.0f, part, rows * cols);
    ag_temp_free(t, part, rows * cols);
}

static int64_t picked(const ag_node *n)
{
    return tn_count(n->in[1]);
}

const ag_op ag_op_scatter_rows = {.name = "scatter_rows",
                                  .forward = scatter_forward,
                                  .backward = scatter_backward,
                                  .blind = 1 << 0 | 1 << 1,
                                  .temp = picked};

tn_tensor *ag_scatter_rows(ag_tape *t, tn_tensor *y, tn_tensor *x, const int64_t *row)
{
    rows_attr *a = new_attr(t, row, tn_rows(x), tn_rows(y));
    OP_ASSERT(t, tn_cols(y) == tn_cols(x));
    return ag_call(t, &ag_op_scatter_rows, a ? y : NULL, a, 2, (tn_tensor *[]){y, x});
}

static void put_forward(ag_tape *t, ag_node *n)
{
    const rows_attr *a = n->attr;
    const tn_tensor *x = n->in[1];
    if (!t->dry)
        kn_put_rows(tn_f32(n->out) + a->col, tn_cols(n->out), tn_f32(x), a->row, tn_rows(x),
                    tn_cols(x));
}

/* What was overwritten has no part in the loss. */
static void put_backward(ag_tape *t, ag_node *n)
{
    const rows_attr *a = n->attr;
    tn_tensor *x = n->in[1];
    float *dy = n->out->grad + a->col, *dx = ag_grad(t, x);
    int64_t rows = tn_rows(x), cols = tn_cols(x), ldy = tn_cols(n->out);
    float *part = dx ? ag_temp(t, rows * cols) : NULL;
    if (dx && !part) return;
    if (dx) {
        kn_gather_rows((kn_rows){part, cols, false}, (kn_rows){dy, ldy, false}, a->row, rows, cols);
        kn_axpy(dx, 1.0f, part, rows * cols);
        ag_temp_free(t, part, rows * cols);
    }
    kn_put_rows(dy, ldy, NULL, a->row, rows, cols);
}

const ag_op ag_op_put_rows = {.name = "put_rows",
                              .forward = put_forward,
                              .backward = put_backward,
                              .blind = 1 << 0 | 1 << 1,
                              .temp = picked};

tn_tensor *ag_put_rows(ag_tape *t, tn_tensor *y, tn_tensor *x, const int64_t *row, int64_t col)
{
    rows_attr *a = new_attr(t, row, tn_rows(x), tn_rows(y));
    OP_ASSERT(t, col + tn_cols(x) <= tn_cols(y));
    if (a) a->col = col;
    return ag_call(t, &ag_op_put_rows, a ? y : NULL, a, 2, (tn_tensor *[]){y, x});
}
