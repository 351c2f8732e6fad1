/* linear.c – the only op that reads a packed weight (beside embed):
 * y [T, ΣO_i] = out_i ⊙ ((in_i ⊙ x [T, I]) · W_iᵀ + b_i), side by side for the weights of a group, (+ add, the residual).
 *
 * Weights are unpacked per panel inside the product, forward and for dx; frozen ones cost no dW, and x is then not read in
 * the backward. With g = dL/dy ⊙ out, u the product before out (kept where out is trained) and d = g W: dout = Σ_t dL/dy ⊙ u,
 * din = Σ_t d ⊙ x, dx = d ⊙ in. */
#include "ft/autograd.h"
#include "op_private.h"

_Static_assert((int)AG_MAX_GROUP <= (int)KN_GEMV_GROUP, "a group is one pass over the weights");

typedef struct linear_attr {
    ag_weight w[AG_MAX_GROUP];
    int n;
    bool residual;
    float *u[AG_MAX_GROUP]; /* [T, O_i]; NULL: not kept */
    const op_low_rank *low; /* terms that are further steps of the products; NULL: none */
    const kn_tokens
        *codes; /* of x, where W is multiplied with them; NULL: it is multiplied with x */
} linear_attr;

static int64_t in_of(const ag_weight *w)
{
    return w->in_out ? w->w->dim[0] : w->w->dim[1];
}

static int64_t out_of(const ag_weight *w)
{
    return w->in_out ? w->w->dim[1] : w->w->dim[0];
}

/* --- factors of inputs and outputs ----------------------------------------------------------------------------------- */
/* x of a weight, times its factors where it has some (`factors`): in `wide` [T, I], where it is not as it is. */
static kn_rows input_of(const ag_node *n, const ag_weight *w, bool factors, float *wide)
{
    const tn_tensor *x = n->in[0];
    const int64_t rows = tn_rows(x), in = tn_cols(x);
    const kn_rows as_it_is = ag_rows_of(x);
    const float *from = as_it_is.bf16 ? wide : as_it_is.data;
    if (!w->in || !wide) return as_it_is;
    if (as_it_is.bf16) kn_convert_rows(op_rows(wide, in), as_it_is, rows, in);
    if (factors) kn_mul_cols(wide, in, from, in, tn_f32(w->in), 1.0f, rows, in, false);
    return op_rows(factors ? wide : from, in);
}

/* x is not in f32, or dW needs it times its factors. */
static bool needs_wide(const ag_node *n, const ag_weight *w)
{
    return n->in[0]->type != &dt_f32 || w->w->wants_grad;
}

/* d [T, I] = g · W: the gradient of the factors, and dx = or += d ⊙ in. */
static void through_in(ag_tape *t, const ag_node *n, const ag_weight *w, float *dx, bool accumulate,
                       const float *d, float *wide)
{
    const int64_t rows = tn_rows(n->out), in = in_of(w);
    float *din = ag_grad(t, w->in);
    if (din) kn_col_dot_add(din, d, in, input_of(n, w, false, wide).data, in, rows, in);
    if (dx) kn_mul_cols(dx, in, d, in, tn_f32(w->in), 1.0f, rows, in, accumulate);
}

/* g = dy ⊙ out in a temp [T, O] of the caller's; the gradient of the factors. NULL: failed. */
static float *through_out(ag_tape *t, const ag_node *n, const ag_weight *w, const float *u,
                          int64_t col)
{
    const int64_t rows = tn_rows(n->out), out = out_of(w), ld = tn_cols(n->out);
    const float *dy = n->out->grad + col;
    float *dout = ag_grad(t, w->out), *g = ag_temp(t, rows * out);
    if (dout && g) kn_col_dot_add(dout, dy, ld, u, out, rows, out);
    if (g) kn_mul_cols(g, out, dy, ld, tn_f32(w->out), 1.0f, rows, out, false);
    return g;
}

/* --- one weight --------------------------------------------------------------------------------------------------------- */
/* Columns col … of y [rows, ·] of weight i. */
static void apply(ag_tape *t, const ag_node *n, int i, int64_t col)
{
    const linear_attr *a = n->attr;
    const ag_weight *w = &a->w[i];
    const int64_t ld = tn_cols(n->out), rows = tn_rows(n->out), out = out_of(w), in = in_of(w);
    const float *add = a->residual ? tn_f32(n->in[1]) + col : NULL;
    float *y = tn_f32(n->out) + col, *u = a->u[i] ? a->u[i] : y;
    float *wide = w->in ? ag_temp(t, rows * in) : NULL;
    const int64_t ldu = u == y ? ld : out;
    kn_mat mat = op_mat(w->w), b;
    kn_term term;
    bool more = a->low && op_low_rank_term(a->low, col, &term, &b);
    if (t->status != FT_OK) return;
    /* The residual is added to the finished sum: starting the chain at it would lose the small products. */
    kn_gemm(&(kn_product){.precision = t->precision,
                          .y = {u, ldu, false},
                          .x = input_of(n, w, true, wide),
                          .m = rows,
                          .w = &mat,
                          .in_out = w->in_out,
                          .term = more ? &term : NULL,
                          .bias = w->b ? tn_f32(w->b) : NULL,
                          .add = w->out ? NULL : add,
                          .ld_add = ld});
    ag_temp_free(t, wide, rows * in);
    if (!w->out) return;
    kn_mul_cols(y, ld, u, ldu, tn_f32(w->out), 1.0f, rows, out, false);
    if (add) kn_mul_cols(y, ld, add, ld, NULL, 1.0f, rows, out, true);
}

/* Of weight i, whose output begins at column `col`: dx (may be NULL) = or += dy · W (+ term); the gradients of W, b and
 * factors where they are wanted. */
static void apply_back(ag_tape *t, const ag_node *n, int i, float *dx, bool accumulate, int64_t col,
                       const kn_term *term)
{
    const linear_attr *a = n->attr;
    const ag_weight *w = &a->w[i];
    kn_mat mat = op_mat(w->w);
    const int64_t out = out_of(w), in = in_of(w), rows = tn_rows(n->out), n_x = rows * in;
    float *g = w->out ? through_out(t, n, w, a->u[i], col) : NULL;
    const kn_rows dy = w->out ? op_rows(g, out) : op_columns(ag_grad_rows(t, n), col);
    float *dw = ag_grad(t, w->w), *db = w->b ? ag_grad(t, w->b) : NULL;
    float *wide = w->in && needs_wide(n, w) ? ag_temp(t, n_x) : NULL,
          *d = w->in ? ag_temp(t, n_x) : dx;
    if (t->status != FT_OK) return;
    if (d)
        kn_gemm(&(kn_product){.precision = t->precision,
                              .y = {d, in, false},
                              .x = dy,
                              .m = rows,
                              .w = &mat,
                              .in_out = !w->in_out,
                              .accumulate = accumulate && d == dx,
                              .term = term});
    if (w->in) through_in(t, n, w, dx, accumulate, d, wide);
    const kn_rows x = dw ? input_of(n, w, true, wide) : ag_rows_of(n->in[0]);
    if (dw && w->in_out)
        op_gemm_tn(t, dw, out, x, in, dy, out, rows, n->rows);
    else if (dw)
        op_gemm_tn(t, dw, in, dy, out, x, in, rows, n->rows);
    if (db) kn_col_sum_add(db, g ? g : n->out->grad + col, g ? out : tn_cols(n->out), rows, out);
    ag_temp_free(t, wide, n_x);
    if (d != dx) ag_temp_free(t, d, n_x);
    ag_temp_free(t, g, rows * out);
}

/* Of a few rows: all weights in one pass, or one after another where their inputs differ. */
static void apply_few(ag_tape *t, const ag_node *n)
{
    const linear_attr *a = n->attr;
    const int64_t rows = tn_rows(n->out), ld = tn_cols(n->out), in = tn_cols(n->in[0]);
    const float *bias[AG_MAX_GROUP], *x = tn_f32(n->in[0]);
    float *y = tn_f32(n->out), *wide = NULL;
    kn_mat mat[AG_MAX_GROUP];
    int64_t col = 0;
    for (int i = 0; i < a->n; i++) {
        mat[i] = op_mat(a->w[i].w);
        bias[i] = a->w[i].b ? tn_f32(a->w[i].b) : NULL;
        if (a->w[i].in && !wide) wide = ag_temp(t, rows * in);
    }
    float *codes = a->codes ? ag_temp(t, kn_codes_floats(rows, in)) : NULL;
    if (codes)
        kn_codes_group(y, ld, x, in, a->codes, mat, bias, a->n, rows, codes);
    else if (!wide && !a->codes)
        kn_gemv_group(y, ld, x, in, mat, bias, a->n, rows);
    for (int i = 0; i < a->n && t->status == FT_OK; col += out_of(&a->w[i++])) {
        const ag_weight *w = &a->w[i];
        if (wide) kn_gemv(y + col, ld, input_of(n, w, true, wide).data, in, &mat[i], rows, bias[i]);
        if (w->out)
            kn_mul_cols(y + col, ld, y + col, ld, tn_f32(w->out), 1.0f, rows, out_of(w), false);
    }
    ag_temp_free(t, wide, rows * in);
    ag_temp_free(t, codes, kn_codes_floats(rows, in));
}

static void forward(ag_tape *t, ag_node *n)
{
    const linear_attr *a = n->attr;
    int64_t col = 0;
    bool few = t->few;
    if (t->dry) return;
    for (int i = 0; i < a->n; i++) few = few && !a->w[i].in_out;
    if (few) {
        apply_few(t, n);
        if (a->residual) kn_axpy(tn_f32(n->out), 1.0f, tn_f32(n->in[1]), tn_count(n->out));
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
        apply_back(t, n, i, dx, !fresh || i > 0, col, all && i == 0 ? &term : NULL);
        col += out_of(&a->w[i]);
    }
    if (all) ag_temp_free(t, all, mat.rows * in);
    if (dh) ag_temp_free(t, dh, mat.rows * rows);
    if (a->residual) ag_grad_pass(t, n, n->in[1]);
}

static int64_t temp(const ag_node *n)
{
    const linear_attr *a = n->attr;
    const int64_t rows = tn_rows(n->out), n_x = tn_count(n->in[0]);
    int64_t most = a->low     ? op_low_rank_temp(a->low, rows, tn_cols(n->in[0]))
                   : a->codes ? kn_codes_floats(rows, tn_cols(n->in[0]))
                              : 0;
    for (int i = 0; i < a->n; i++) {
        const ag_weight *w = &a->w[i];
        const int64_t own =
            (w->out ? rows * out_of(w) : 0) + (w->in ? (1 + needs_wide(n, w)) * n_x : 0);
        if (own > most) most = own;
    }
    return most;
}

/* x, for the gradients of weights, factors of inputs and A's. */
static bool sees(const ag_node *n, int i)
{
    const linear_attr *a = n->attr;
    if (i != 0) return true;
    for (int k = 0; k < a->n; k++)
        if (a->w[k].w->wants_grad || (a->w[k].in && a->w[k].in->wants_grad)) return true;
    return a->low && op_low_rank_sees(a->low);
}

const ag_op ag_op_linear = {.name = "linear",
                            .forward = forward,
                            .backward = backward,
                            .by_rows = true,
                            .rounds = true,
                            .blind = 1 << 1, /* the residual; weights are not brief */
                            .sees = sees,
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

int ag_take_low(ag_weight *w, int n, ag_low_rank *low)
{
    const int n_low = terms_of(w, n, low);
    for (int i = 0; i < n; i++) w[i].low = (ag_low_rank){0};
    return n_low;
}

/* They are steps of the products' sums, where each has the shape of its weight; what does not fit is told by
 * ag_low_rank_add. */
static bool take_terms(ag_tape *t, linear_attr *a, const tn_tensor *x, const ag_low_rank *low,
                       int n_low)
{
    bool chain = !t->few;
    for (int i = 0; i < a->n; i++) {
        const ag_low_rank *s = &a->w[i].low;
        if (!s->a) continue;
        chain = chain && s->width == 0 && s->b->dim[0] == out_of(&a->w[i]) &&
                s->b->dim[1] == s->a->dim[0] && (!s->mid || tn_count(s->mid) == s->a->dim[0]);
    }
    if (!chain || n_low == 0 || !op_low_rank_plain(low, n_low, tn_cols(x))) return false;
    a->low = op_low_rank_of(t, tn_rows(x), low, n_low);
    return true;
}

static tn_tensor *linear(ag_tape *t, tn_tensor *x, const kn_tokens *codes, const ag_weight *w,
                         int n, tn_tensor *add)
{
    linear_attr *a = ag_meta(t, sizeof *a);
    ag_low_rank low[AG_MAX_GROUP];
    tn_tensor *in[2 + 6 * AG_MAX_GROUP] = {x};
    int n_in = 1;
    int64_t out = 0;
    bool rounds = add == NULL; /* nothing reads the gradient of y but products */
    bool plain = true;         /* no factors */
    if (!a || t->status != FT_OK) return x;
    OP_ASSERT(t, n <= AG_MAX_GROUP);
    int n_low = terms_of(w, n, low);
    a->n = n;
    a->residual = add != NULL;
    a->codes = codes;
    if (add) in[n_in++] = add;
    for (int i = 0; i < n; i++) {
        a->w[i] = w[i];
        OP_ASSERT(t, w[i].w->nd == 2 && in_of(&w[i]) == tn_cols(x));
        OP_ASSERT(t, !w[i].b || tn_count(w[i].b) == out_of(&w[i]));
        OP_ASSERT(t, !w[i].in || tn_count(w[i].in) == in_of(&w[i]));
        OP_ASSERT(t, !w[i].out || tn_count(w[i].out) == out_of(&w[i]));
        out += out_of(&w[i]);
        in[n_in++] = w[i].w;
        if (w[i].b) in[n_in++] = w[i].b;
        if (w[i].in) in[n_in++] = w[i].in;
        if (w[i].out) in[n_in++] = w[i].out;
        if (w[i].out && t->record && w[i].out->wants_grad)
            a->u[i] = ag_keep(t, (size_t)(tn_rows(x) * out_of(&w[i])) * sizeof(float));
        rounds = rounds && !(w[i].b && w[i].b->wants_grad) && !w[i].out;
        plain = plain && !w[i].in && !w[i].out;
    }
    if (plain && take_terms(t, a, x, low, n_low)) {
        for (int i = 0; i < n_low; i++) {
            in[n_in++] = low[i].a;
            in[n_in++] = low[i].b;
            if (low[i].mid) in[n_in++] = low[i].mid;
        }
        n_low = 0;
    }
    OP_ASSERT(t, !add || (tn_rows(add) == tn_rows(x) && tn_cols(add) == out));
    tn_tensor *y = add ? ag_new(t, tn_rows(x), out) : ag_brief(t, tn_rows(x), out, &dt_f32);
    y = ag_call(t, &ag_op_linear, y, a, n_in, in);
    if (t->status == FT_OK) y->rounds = rounds;
    return ag_low_rank_add(t, y, x, low, n_low);
}

tn_tensor *ag_linear(ag_tape *t, tn_tensor *x, const ag_weight *w, int n, tn_tensor *add)
{
    return linear(t, x, NULL, w, n, add);
}

/* What a product of codes needs: ternary matrices, and one x for all of them. */
static bool meets_codes(const ag_tape *t, const kn_tokens *how, const ag_weight *w, int n)
{
    bool all = t->few && !t->record && how->symmetric;
    for (int i = 0; i < n; i++)
        all = all && w[i].w->type == &dt_ternary && !w[i].w->row_of && !w[i].in_out && !w[i].in;
    return all;
}

tn_tensor *ag_linear_codes(ag_tape *t, tn_tensor *x, const kn_tokens *how, const ag_weight *w,
                           int n, tn_tensor *add)
{
    if (meets_codes(t, how, w, n)) return linear(t, x, how, w, n, add);
    tn_tensor *codes = ag_fake(t, x, how), *y = linear(t, codes, NULL, w, n, add);
    ag_drop(t, codes);
    return y;
}
