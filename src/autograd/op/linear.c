/* linear.c – the only op that reads a packed weight (beside embed):
 * y [T, ΣO_i] = x [T, I] · W_iᵀ + b_i, side by side for the weights of a group, (+ add, the residual).
 *
 * Weights are unpacked per panel inside the product, forward and for dx; frozen ones cost no dW. */
#include "ft/autograd.h"
#include "op_private.h"

_Static_assert((int)AG_MAX_GROUP <= (int)KN_GEMV_GROUP, "a group is one pass over the weights");

typedef struct linear_attr {
    ag_weight w[AG_MAX_GROUP];
    int n;
    bool residual;
} linear_attr;

kn_mat op_mat(const tn_tensor *w)
{
    return (kn_mat){.type = w->type,
                    .data = w->data,
                    .side = w->side,
                    .rows = w->dim[0],
                    .cols = w->dim[1],
                    .row_of = w->row_of};
}

kn_rows op_rows(const float *x, int64_t ld)
{
    return (kn_rows){(float *)x, ld, false};
}

kn_rows op_columns(kn_rows x, int64_t from)
{
    x.data = x.bf16 ? (void *)((uint16_t *)x.data + from) : (void *)((float *)x.data + from);
    return x;
}

void op_product(const ag_tape *t, float *y, int64_t ldy, kn_rows x, const kn_mat *w, bool in_out,
                int64_t rows, bool accumulate)
{
    kn_gemm(&(kn_product){.precision = t->precision,
                          .y = {y, ldy, false},
                          .x = x,
                          .m = rows,
                          .w = w,
                          .in_out = in_out,
                          .accumulate = accumulate});
}

void op_gemm_tn(const ag_tape *t, float *c, int64_t ldc, kn_rows a, int64_t m, kn_rows b, int64_t n,
                int64_t rows, const ag_rows *of)
{
    kn_gemm_grad(t->precision, c, ldc, a, m, b, n, rows, of ? of->len : NULL, of ? of->n_seq : 0);
}

static int64_t in_of(const ag_weight *w)
{
    return w->in_out ? w->w->dim[0] : w->w->dim[1];
}

static int64_t out_of(const ag_weight *w)
{
    return w->in_out ? w->w->dim[1] : w->w->dim[0];
}

/* y [rows, O] = x · Wᵀ + b (+ add, rows of ld_add) */
static void apply(const ag_tape *t, float *y, int64_t ldy, kn_rows x, const ag_weight *w,
                  int64_t rows, const float *add, int64_t ld_add)
{
    kn_mat mat = op_mat(w->w);
    kn_gemm(&(kn_product){.precision = t->precision,
                          .y = {y, ldy, false},
                          .x = x,
                          .m = rows,
                          .w = &mat,
                          .in_out = w->in_out,
                          .bias = w->b ? tn_f32(w->b) : NULL,
                          .add = add,
                          .ld_add = ld_add});
}

/* Of the weight whose output begins at column `col`: dx (may be NULL) = or += dy · W; the gradients of W and b where they
 * are wanted. */
static void apply_back(ag_tape *t, const ag_node *n, float *dx, bool accumulate, int64_t col,
                       const ag_weight *w, int64_t rows)
{
    kn_mat mat = op_mat(w->w);
    const int64_t out = out_of(w), in = in_of(w);
    const kn_rows dy = op_columns(ag_grad_rows(t, n), col);
    float *dw = ag_grad(t, w->w), *db = w->b ? ag_grad(t, w->b) : NULL;
    if (t->status != FT_OK) return;
    if (dx) op_product(t, dx, in, dy, &mat, !w->in_out, rows, accumulate);
    if (dw && w->in_out)
        op_gemm_tn(t, dw, out, ag_rows_of(n->in[0]), in, dy, out, rows, n->rows);
    else if (dw)
        op_gemm_tn(t, dw, in, dy, out, ag_rows_of(n->in[0]), in, rows, n->rows);
    if (db) kn_col_sum_add(db, n->out->grad + col, tn_cols(n->out), rows, out);
}

/* Of a few rows: all weights in one pass. */
static void apply_few(float *y, int64_t ldy, const float *x, int64_t ldx, const linear_attr *a,
                      int64_t rows)
{
    kn_mat mat[AG_MAX_GROUP];
    const float *bias[AG_MAX_GROUP];
    for (int i = 0; i < a->n; i++) {
        mat[i] = op_mat(a->w[i].w);
        bias[i] = a->w[i].b ? tn_f32(a->w[i].b) : NULL;
    }
    kn_gemv_group(y, ldy, x, ldx, mat, bias, a->n, rows);
}

static void forward(ag_tape *t, ag_node *n)
{
    const linear_attr *a = n->attr;
    int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), in = tn_cols(n->in[0]), col = 0;
    bool few = t->few;
    if (t->dry) return;
    for (int i = 0; i < a->n; i++) few = few && !a->w[i].in_out;
    /* The residual is added to the finished sum: starting the chain at it would lose the small products. */
    if (few) {
        apply_few(tn_f32(n->out), ldy, tn_f32(n->in[0]), in, a, rows);
        if (a->residual) kn_axpy(tn_f32(n->out), 1.0f, tn_f32(n->in[1]), rows * ldy);
        return;
    }
    for (int i = 0; i < a->n; i++) {
        const float *add = a->residual ? tn_f32(n->in[1]) + col : NULL;
        apply(t, tn_f32(n->out) + col, ldy, ag_rows_of(n->in[0]), &a->w[i], rows, add, ldy);
        col += out_of(&a->w[i]);
    }
}

static void backward(ag_tape *t, ag_node *n)
{
    const linear_attr *a = n->attr;
    const int64_t rows = tn_rows(n->out);
    int64_t col = 0;
    bool fresh;
    float *dx = ag_grad_fresh(t, n->in[0], &fresh);
    for (int i = 0; i < a->n; i++) {
        apply_back(t, n, dx, !fresh || i > 0, col, &a->w[i], rows);
        col += out_of(&a->w[i]);
    }
    if (a->residual) ag_grad_pass(t, n, n->in[1]);
}

const ag_op ag_op_linear = {.name = "linear",
                            .forward = forward,
                            .backward = backward,
                            .by_rows = true,
                            .rounds = true,
                            .blind = 1 << 1, /* the residual; weights are not brief */
                            .passes = 1,
                            .part = AG_PRODUCTS};

tn_tensor *ag_linear(ag_tape *t, tn_tensor *x, const ag_weight *w, int n, tn_tensor *add)
{
    linear_attr *a = ag_meta(t, sizeof *a);
    tn_tensor *in[2 + 2 * AG_MAX_GROUP] = {x};
    int n_in = 1;
    int64_t out = 0;
    if (!a || t->status != FT_OK) return x;
    OP_ASSERT(t, n <= AG_MAX_GROUP);
    a->n = n;
    a->residual = add != NULL;
    if (add) in[n_in++] = add;
    for (int i = 0; i < n; i++) {
        a->w[i] = w[i];
        OP_ASSERT(t, w[i].w->nd == 2 && in_of(&w[i]) == tn_cols(x));
        OP_ASSERT(t, !w[i].b || tn_count(w[i].b) == out_of(&w[i]));
        out += out_of(&w[i]);
        in[n_in++] = w[i].w;
        if (w[i].b) in[n_in++] = w[i].b;
    }
    OP_ASSERT(t, !add || (tn_rows(add) == tn_rows(x) && tn_cols(add) == out));
    tn_tensor *y = add ? ag_new(t, tn_rows(x), out) : ag_brief(t, tn_rows(x), out, &dt_f32);
    return ag_call(t, &ag_op_linear, y, a, n_in, in);
}
