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
    const op_low_rank *low; /* terms that are further steps of the products; NULL: none */
} linear_attr;

static int64_t in_of(const ag_weight *w)
{
    return w->in_out ? w->w->dim[0] : w->w->dim[1];
}

static int64_t out_of(const ag_weight *w)
{
    return w->in_out ? w->w->dim[1] : w->w->dim[0];
}

/* Columns col … of y [rows, ·] = x · Wᵀ + b (+ the residual), of weight i. */
static void apply(const ag_tape *t, const ag_node *n, int i, int64_t col)
{
    const linear_attr *a = n->attr;
    const ag_weight *w = &a->w[i];
    const int64_t ld = tn_cols(n->out);
    kn_mat mat = op_mat(w->w), b;
    kn_term term;
    bool more = a->low && op_low_rank_term(a->low, col, &term, &b);
    /* The residual is added to the finished sum: starting the chain at it would lose the small products. */
    kn_gemm(&(kn_product){.precision = t->precision,
                          .y = {tn_f32(n->out) + col, ld, false},
                          .x = ag_rows_of(n->in[0]),
                          .m = tn_rows(n->out),
                          .w = &mat,
                          .in_out = w->in_out,
                          .term = more ? &term : NULL,
                          .bias = w->b ? tn_f32(w->b) : NULL,
                          .add = a->residual ? tn_f32(n->in[1]) + col : NULL,
                          .ld_add = ld});
}

/* Of the weight whose output begins at column `col`: dx (may be NULL) = or += dy · W (+ term); the gradients of W and b
 * where they are wanted. */
static void apply_back(ag_tape *t, const ag_node *n, float *dx, bool accumulate, int64_t col,
                       const ag_weight *w, const kn_term *term)
{
    kn_mat mat = op_mat(w->w);
    const int64_t out = out_of(w), in = in_of(w), rows = tn_rows(n->out);
    const kn_rows dy = op_columns(ag_grad_rows(t, n), col);
    float *dw = ag_grad(t, w->w), *db = w->b ? ag_grad(t, w->b) : NULL;
    if (t->status != FT_OK) return;
    if (dx)
        kn_gemm(&(kn_product){.precision = t->precision,
                              .y = {dx, in, false},
                              .x = dy,
                              .m = rows,
                              .w = &mat,
                              .in_out = !w->in_out,
                              .accumulate = accumulate,
                              .term = term});
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
    if (few) {
        apply_few(tn_f32(n->out), ldy, tn_f32(n->in[0]), in, a, rows);
        if (a->residual) kn_axpy(tn_f32(n->out), 1.0f, tn_f32(n->in[1]), rows * ldy);
        return;
    }
    if (a->low) op_low_rank_hidden(t, a->low, n->in[0]);
    for (int i = 0; i < a->n && t->status == FT_OK; i++) {
        apply(t, n, i, col);
        col += out_of(&a->w[i]);
    }
}

static void backward(ag_tape *t, ag_node *n)
{
    const linear_attr *a = n->attr;
    const op_low_rank *low = a->low;
    const int64_t rows = tn_rows(n->out), in = tn_cols(n->in[0]);
    int64_t col = 0;
    bool fresh;
    float *dx = ag_grad_fresh(t, n->in[0], &fresh);
    float *dh = low ? op_low_rank_back(t, n, low, n->in[0]) : NULL;
    float *all = dx && dh ? op_low_rank_stack(t, low, in) : NULL;
    kn_mat mat = {.type = &dt_f32, .data = all, .rows = low ? low->rank : 0, .cols = in};
    kn_term term = {.x = op_rows(dh, mat.rows), .w = &mat, .in_out = true};
    for (int i = 0; i < a->n; i++) {
        apply_back(t, n, dx, !fresh || i > 0, col, &a->w[i], all && i == 0 ? &term : NULL);
        col += out_of(&a->w[i]);
    }
    if (all) ag_temp_free(t, all, mat.rows * in);
    if (dh) ag_temp_free(t, dh, mat.rows * rows);
    if (a->residual) ag_grad_pass(t, n, n->in[1]);
}

static int64_t temp(const ag_node *n)
{
    const linear_attr *a = n->attr;
    return a->low ? op_low_rank_temp(a->low, tn_rows(n->out), tn_cols(n->in[0])) : 0;
}

/* x, where nothing that multiplies it is trained. */
static unsigned also_blind(const ag_node *n)
{
    const linear_attr *a = n->attr;
    for (int i = 0; i < a->n; i++)
        if (a->w[i].w->wants_grad) return 0;
    return a->low ? op_low_rank_blind(a->low, 0) : 1 << 0;
}

const ag_op ag_op_linear = {.name = "linear",
                            .forward = forward,
                            .backward = backward,
                            .by_rows = true,
                            .rounds = true,
                            .blind = 1 << 1, /* the residual; weights are not brief */
                            .also_blind = also_blind,
                            .passes = 1,
                            .temp = temp,
                            .part = AG_PRODUCTS};

/* The low-rank terms of a group, at their columns. */
static int terms_of(const ag_weight *w, int n, ag_low_rank *low)
{
    int64_t col = 0;
    int n_low = 0;
    for (int i = 0; i < n; col += out_of(&w[i++])) {
        if (!w[i].low.a) continue;
        low[n_low] = w[i].low;
        low[n_low++].col = col;
    }
    return n_low;
}

/* They are steps of the products' sums. */
static bool take_terms(ag_tape *t, linear_attr *a, const tn_tensor *x, const ag_low_rank *low,
                       int n_low)
{
    bool chain = t->precision == KN_BF16 && !t->few;
    for (int i = 0; i < n_low; i++) chain = chain && low[i].width == 0;
    if (!chain || n_low == 0 || !op_low_rank_plain(low, n_low, tn_cols(x))) return false;
    a->low = op_low_rank_of(t, tn_rows(x), low, n_low);
    return true;
}

tn_tensor *ag_linear(ag_tape *t, tn_tensor *x, const ag_weight *w, int n, tn_tensor *add)
{
    linear_attr *a = ag_meta(t, sizeof *a);
    ag_low_rank low[AG_MAX_GROUP];
    tn_tensor *in[2 + 4 * AG_MAX_GROUP] = {x};
    int n_in = 1;
    int64_t out = 0;
    bool rounds = add == NULL; /* nothing reads the gradient of y but products */
    if (!a || t->status != FT_OK) return x;
    OP_ASSERT(t, n <= AG_MAX_GROUP);
    int n_low = terms_of(w, n, low);
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
        rounds = rounds && !(w[i].b && w[i].b->wants_grad);
    }
    if (take_terms(t, a, x, low, n_low)) {
        for (int i = 0; i < n_low; i++) {
            in[n_in++] = low[i].a;
            in[n_in++] = low[i].b;
        }
        n_low = 0;
    }
    OP_ASSERT(t, !add || (tn_rows(add) == tn_rows(x) && tn_cols(add) == out));
    tn_tensor *y = add ? ag_new(t, tn_rows(x), out) : ag_brief(t, tn_rows(x), out, &dt_f32);
    y = ag_call(t, &ag_op_linear, y, a, n_in, in);
    if (t->status == FT_OK) y->rounds = rounds;
    return ag_low_rank_add(t, y, x, low, n_low);
}
