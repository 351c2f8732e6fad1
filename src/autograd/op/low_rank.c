/* low_rank.c – what the low-rank family adds, in place: y[:, col …] += s · out ⊙ (M · A x̃) Bᵀ with x̃ = dropout(x) and M
 * nothing (LoRA, Hu et al. 2021), a diagonal `mid` (AdaLoRA's Λ, VeRA's d) or a matrix `core` (LoTR's G).
 *
 * With g = dL/dy ⊙ out, u = x̃ Aᵀ and h = s · u Mᵀ (kept, [T, r]):  dB = gᵀ h,  dv = s · g B,  dM = dvᵀ u,  du = dv M,
 * dA = duᵀ x̃,  dx += mask(du A),  dout = Σ_t dL/dy ⊙ (h Bᵀ). Dropped inputs are not kept: the mask is a pure function of its
 * key and is drawn again. */
#include "ft/autograd.h"
#include "op_private.h"

#include <string.h>

static int64_t width_of(const ag_low_rank *s)
{
    return s->width > 0 ? s->width : s->b->dim[0];
}

static kn_mat b_mat(const ag_low_rank *s)
{
    kn_mat b = op_mat(s->b);
    b.rows = width_of(s);
    return b;
}

/* The first `in` columns of A, or of its gradient, as a matrix: where it has more, they are copied into *temp [r, in]. */
static kn_mat a_mat(ag_tape *t, const ag_low_rank *s, int64_t in, bool grad, float **temp)
{
    const tn_tensor *a = s->a;
    kn_mat m = op_mat(a);
    *temp = NULL;
    if (grad) m.data = a->grad;
    if (a->dim[1] == in) return m;
    *temp = ag_temp(t, m.rows * in);
    if (*temp) kn_copy_block(*temp, in, m.data, m.cols, m.rows, in);
    m.data = *temp;
    m.cols = in;
    return m;
}

/* diag(out) B in *temp [width, r], or B as it is. No data: failed. */
static kn_mat b_scaled(ag_tape *t, const ag_low_rank *s, float **temp)
{
    kn_mat b = b_mat(s);
    *temp = NULL;
    if (!s->out) return b;
    *temp = ag_temp(t, b.rows * b.cols);
    if (*temp) {
        kn_copy_block(*temp, b.cols, b.data, b.cols, b.rows, b.cols);
        kn_scale_rows(*temp, tn_f32(s->out), b.rows, b.cols);
    }
    b.data = *temp;
    return b;
}

/* One pass over a site's rows. */
typedef struct site_run {
    const ag_low_rank *s;
    const ag_rows *of;
    int64_t rows, in, ld; /* ld: row distance of h and u */
    bool has_u;           /* of a site before, which has the same A */
    float *h, *u;
    kn_rows x; /* [rows, in], dropped out already */
} site_run;

static void site_forward(ag_tape *t, const site_run *q, float *y, int64_t ldy)
{
    const ag_low_rank *s = q->s;
    float *own = NULL, *first = s->mid || s->core ? q->u : q->h, *scaled;
    const int64_t r = s->a->dim[0];
    if (!q->has_u) {
        kn_mat a = a_mat(t, s, q->in, false, &own);
        if (a.data) op_product(t, first, q->ld, q->x, &a, false, q->rows, false);
        ag_temp_free(t, own, r * q->in);
    }
    if (s->core) {
        kn_mat core = op_mat(s->core);
        op_product(t, q->h, q->ld, op_rows(q->u, q->ld), &core, false, q->rows, false);
        first = q->h;
    }
    kn_mul_cols(q->h, q->ld, first, q->ld, s->mid ? tn_f32(s->mid) : NULL, s->scale, q->rows, r,
                false);
    kn_mat b = b_scaled(t, s, &scaled);
    if (b.data) op_product(t, y, ldy, op_rows(q->h, q->ld), &b, false, q->rows, true);
    ag_temp_free(t, scaled, b.rows * b.cols);
}

/* dout; and g = dy ⊙ out where B is trained: a buffer [rows, width] the caller frees. */
static float *through_out(ag_tape *t, const site_run *q, const float *dy, int64_t ldy)
{
    const ag_low_rank *s = q->s;
    kn_mat b = b_mat(s);
    float *dout = ag_grad(t, s->out), *g = ag_temp(t, q->rows * b.rows);
    if (!g) return NULL;
    if (dout) {
        op_product(t, g, b.rows, op_rows(q->h, q->ld), &b, false, q->rows, false);
        kn_col_dot_add(dout, dy, ldy, g, b.rows, q->rows, b.rows);
    }
    if (s->b->wants_grad)
        kn_mul_cols(g, b.rows, dy, ldy, tn_f32(s->out), 1.0f, q->rows, b.rows, false);
    return g;
}

/* dv [rows, r] → du in its place (spare [rows, r] is scratch): back through mid or core. */
static void through_middle(ag_tape *t, const site_run *q, float *dv, float *spare)
{
    const ag_low_rank *s = q->s;
    int64_t r = s->a->dim[0];
    if (s->mid) {
        float *dmid = ag_grad(t, s->mid);
        if (dmid) kn_col_dot_add(dmid, dv, r, q->u, q->ld, q->rows, r);
        kn_mul_cols(dv, r, dv, r, tn_f32(s->mid), 1.0f, q->rows, r, false);
    }
    if (s->core) {
        kn_mat core = op_mat(s->core);
        float *dcore = ag_grad(t, s->core);
        if (dcore)
            op_gemm_tn(t, dcore, r, op_rows(dv, r), r, op_rows(q->u, q->ld), r, q->rows, q->of);
        op_product(t, spare, r, op_rows(dv, r), &core, true, q->rows, false);
        kn_copy_block(dv, r, spare, r, q->rows, r);
    }
}

static void add_da(ag_tape *t, const site_run *q, const float *du)
{
    float *own;
    int64_t r = q->s->a->dim[0];
    if (!ag_grad(t, q->s->a)) return;
    kn_mat da = a_mat(t, q->s, q->in, true, &own);
    float *to = own ? own : q->s->a->grad;
    if (!da.data) return;
    op_gemm_tn(t, to, q->in, op_rows(du, r), r, q->x, q->in, q->rows, q->of);
    if (own) kn_copy_block(q->s->a->grad, q->s->a->dim[1], own, q->in, r, q->in);
    ag_temp_free(t, own, r * q->in);
}

/* All gradients of a site, and dx += du · A where dx is wanted; dh [rows, 2r] is scratch. */
static void site_backward(ag_tape *t, const site_run *q, float *dx, const ag_node *n, float *dh)
{
    const ag_low_rank *s = q->s;
    kn_mat b = b_mat(s);
    int64_t r = b.cols;
    const float *grad = n->out->grad + s->col;
    float *g = s->out ? through_out(t, q, grad, tn_cols(n->out)) : NULL, *own, *scaled;
    float *db = ag_grad(t, s->b);
    const int64_t ld = tn_cols(n->out);
    const kn_rows dy = s->out ? op_rows(grad, ld) : op_columns(ag_grad_rows(t, n), s->col);
    if (t->status != FT_OK) return;
    if (db)
        op_gemm_tn(t, db, r, g ? op_rows(g, b.rows) : dy, b.rows, op_rows(q->h, q->ld), r, q->rows,
                   q->of);
    if (g) ag_temp_free(t, g, q->rows * b.rows);
    if (dx || s->a->wants_grad || s->mid || s->core) {
        b = b_scaled(t, s, &scaled);
        if (b.data) op_product(t, dh, r, dy, &b, true, q->rows, false);
        ag_temp_free(t, scaled, b.rows * b.cols);
        kn_scale(dh, s->scale, q->rows * r);
        through_middle(t, q, dh, dh + q->rows * r);
        add_da(t, q, dh);
    }
    if (dx) {
        kn_mat a = a_mat(t, s, q->in, false, &own);
        if (a.data) op_product(t, dx, q->in, op_rows(dh, r), &a, true, q->rows, true);
        ag_temp_free(t, own, r * q->in);
    }
}

/* Key of a site's dropout mask over these rows. */
static uint64_t mask_key(const ag_rows *of, const ag_low_rank *s)
{
    return rng_key(of->mask_key, s->key, 0);
}

/* Sites of a group share x: without dropout their A's are stacked into one matrix [Σr, I], so that x is read once instead
 * of once a site. The chains of additions are the same. */
static float *stack(ag_tape *t, const op_low_rank *a, int64_t in, bool grads)
{
    float *all = ag_temp(t, a->rank * in);
    int64_t row = 0;
    for (int i = 0; i < a->n && all; i++) {
        const tn_tensor *m = a->s[i].a;
        kn_copy_block(all + row * in, in, grads ? m->grad : tn_f32(m), in, m->dim[0], in);
        row += m->dim[0];
    }
    return all;
}

float *op_low_rank_stack(ag_tape *t, const op_low_rank *a, int64_t in)
{
    return stack(t, a, in, false);
}

bool op_low_rank_plain(const ag_low_rank *s, int n, int64_t in)
{
    for (int i = 0; i < n; i++) {
        if (s[i].dropout > 0.0f || s[i].core || s[i].out || s[i].a->dim[1] != in) return false;
    }
    return true;
}

static bool is_plain(const ag_node *n)
{
    const op_low_rank *a = n->attr;
    return op_low_rank_plain(a->s, a->n, tn_cols(n->in[1]));
}

static const float *mid_of(const ag_low_rank *s)
{
    return s->mid ? tn_f32(s->mid) : NULL;
}

/* h = scale · u ⊙ mid, site by site. */
static void scale_columns(float *h, const float *u, const op_low_rank *a, int64_t rows)
{
    int64_t col = 0;
    for (int i = 0; i < a->n; col += a->s[i++].a->dim[0])
        kn_mul_cols(h + col, a->rank, u + col, a->rank, mid_of(&a->s[i]), a->s[i].scale, rows,
                    a->s[i].a->dim[0], false);
}

/* The same of dh, back; and dmid. */
static void scale_columns_back(ag_tape *t, float *dh, const op_low_rank *a, int64_t rows)
{
    int64_t col = 0;
    for (int i = 0; i < a->n; col += a->s[i++].a->dim[0]) {
        const ag_low_rank *s = &a->s[i];
        const int64_t r = s->a->dim[0], ld = a->rank;
        float *d = dh + col, *dmid = s->mid ? ag_grad(t, s->mid) : NULL;
        kn_mul_cols(d, ld, d, ld, NULL, s->scale, rows, r, false);
        if (dmid) kn_col_dot_add(dmid, d, ld, a->u + col, ld, rows, r);
        if (s->mid) kn_mul_cols(d, ld, d, ld, mid_of(s), 1.0f, rows, r, false);
    }
}

void op_low_rank_hidden(ag_tape *t, const op_low_rank *a, const tn_tensor *x)
{
    const int64_t rows = tn_rows(x), in = tn_cols(x);
    float *all = stack(t, a, in, false);
    if (!all) return;
    kn_mat m = {.type = &dt_f32, .data = all, .rows = a->rank, .cols = in};
    float *u = a->u ? a->u : a->h;
    op_product(t, u, a->rank, ag_rows_of(x), &m, false, rows, false);
    scale_columns(a->h, u, a, rows);
    ag_temp_free(t, all, a->rank * in);
}

bool op_low_rank_term(const op_low_rank *a, int64_t col, kn_term *term, kn_mat *b)
{
    int64_t at = 0;
    for (int i = 0; i < a->n; at += a->s[i++].a->dim[0]) {
        if (a->s[i].col != col) continue;
        *b = b_mat(&a->s[i]);
        *term = (kn_term){.x = op_rows(a->h + at, a->rank), .w = b};
        return true;
    }
    return false;
}

static void forward_stacked(ag_tape *t, ag_node *n)
{
    const op_low_rank *a = n->attr;
    op_low_rank_hidden(t, a, n->in[1]);
    for (int i = 0; i < a->n; i++) {
        kn_term term;
        kn_mat b;
        if (t->status == FT_OK && op_low_rank_term(a, a->s[i].col, &term, &b))
            op_product(t, tn_f32(n->out) + a->s[i].col, tn_cols(n->out), term.x, &b, false,
                       tn_rows(n->out), true);
    }
}

static void add_stacked_grads(ag_tape *t, const ag_node *n, const op_low_rank *a,
                              const tn_tensor *x, const float *dh)
{
    int64_t in = tn_cols(x), row = 0;
    for (int i = 0; i < a->n; i++) {
        if (!ag_grad(t, a->s[i].a)) return; /* all of them are trained, or none */
    }
    float *all = stack(t, a, in, true);
    if (!all) return;
    op_gemm_tn(t, all, in, op_rows(dh, a->rank), a->rank, ag_rows_of(x), in, tn_rows(x), n->rows);
    for (int i = 0; i < a->n; i++) {
        tn_tensor *m = a->s[i].a;
        kn_copy_block(m->grad, in, all + row * in, in, m->dim[0], in);
        row += m->dim[0];
    }
    ag_temp_free(t, all, a->rank * in);
}

float *op_low_rank_back(ag_tape *t, const ag_node *n, const op_low_rank *a, const tn_tensor *x)
{
    const kn_rows all_dy = ag_grad_rows(t, n);
    const int64_t rows = tn_rows(x);
    int64_t col = 0;
    float *dh = ag_temp(t, rows * a->rank);
    if (t->status != FT_OK) return NULL;
    for (int i = 0; i < a->n; col += a->s[i++].a->dim[0]) {
        const ag_low_rank *s = &a->s[i];
        const kn_rows dy = op_columns(all_dy, s->col);
        kn_mat b = b_mat(s);
        float *db = ag_grad(t, s->b);
        if (db)
            op_gemm_tn(t, db, b.cols, dy, b.rows, op_rows(a->h + col, a->rank), b.cols, rows,
                       n->rows);
        op_product(t, dh + col, a->rank, dy, &b, true, rows, false);
    }
    scale_columns_back(t, dh, a, rows);
    add_stacked_grads(t, n, a, x, dh);
    return dh;
}

static void backward_stacked(ag_tape *t, ag_node *n)
{
    const op_low_rank *a = n->attr;
    const int64_t rows = tn_rows(n->out), in = tn_cols(n->in[1]);
    bool fresh;
    float *dx = ag_grad_fresh(t, n->in[1], &fresh), *dh = op_low_rank_back(t, n, a, n->in[1]);
    float *all = dh && dx ? stack(t, a, in, false) : NULL;
    if (all) {
        kn_mat m = {.type = &dt_f32, .data = all, .rows = a->rank, .cols = in};
        op_product(t, dx, in, op_rows(dh, a->rank), &m, true, rows, !fresh);
        ag_temp_free(t, all, a->rank * in);
    }
    ag_temp_free(t, dh, rows * a->rank);
}

/* One frozen A for all sites, before their diagonals (VeRA): u is made once, and the gradients with regard to it are added
 * up before they go back through A. */
static bool shares_a(const op_low_rank *a)
{
    for (int i = 0; i < a->n; i++) {
        const ag_low_rank *s = &a->s[i];
        if (s->a != a->s[0].a || s->a->wants_grad || !s->mid || s->dropout > 0.0f) return false;
    }
    return a->n > 1;
}

static site_run site_of(const ag_node *n, int i, int64_t col)
{
    const op_low_rank *a = n->attr;
    const bool shared = shares_a(a);
    return (site_run){.s = &a->s[i],
                      .of = n->rows,
                      .rows = tn_rows(n->out),
                      .in = tn_cols(n->in[1]),
                      .ld = a->rank,
                      .h = a->h + col,
                      .u = a->u ? a->u + (shared ? 0 : col) : NULL,
                      .has_u = shared && i > 0,
                      .x = ag_rows_of(n->in[1])};
}

/* x of the site becomes its dropout, in `dropped` [rows, in]. */
static void draw(float *dropped, site_run *q, const ag_rows *of)
{
    const float *x = q->x.data;
    if (q->x.bf16) {
        kn_convert_rows(op_rows(dropped, q->in), q->x, q->rows, q->in);
        x = dropped;
    }
    kn_dropout(dropped, x, q->rows, q->in, q->s->dropout, mask_key(of, q->s), of->key);
    q->x = op_rows(dropped, q->in);
}

static void forward_each(ag_tape *t, ag_node *n)
{
    const op_low_rank *a = n->attr;
    int64_t count = tn_count(n->in[1]), col = 0;
    float *dropped = NULL;
    for (int i = 0; i < a->n; col += a->s[i++].a->dim[0]) {
        const ag_low_rank *s = &a->s[i];
        site_run q = site_of(n, i, col);
        if (s->dropout > 0.0f) {
            if (!dropped) dropped = ag_temp(t, count);
            if (!dropped) return;
            draw(dropped, &q, n->rows);
        }
        site_forward(t, &q, tn_f32(n->out) + s->col, tn_cols(n->out));
    }
    ag_temp_free(t, dropped, count);
}

/* du of a site, in dh, joins the sum of all, which lies behind what site_backward needs of it; after the last: dx += sum · A. */
static void add_shared(ag_tape *t, const site_run *q, float *dx, float *dh, bool begins, bool ends)
{
    const int64_t r = q->s->a->dim[0], n = q->rows * r;
    float *sum = dh + 2 * n, *own;
    if (t->status != FT_OK || !dx) return;
    if (begins)
        kn_copy_block(sum, r, dh, r, q->rows, r);
    else
        kn_axpy(sum, 1.0f, dh, n);
    if (!ends) return;
    kn_mat a = a_mat(t, q->s, q->in, false, &own);
    if (a.data) op_product(t, dx, q->in, op_rows(sum, r), &a, true, q->rows, true);
    ag_temp_free(t, own, r * q->in);
}

static void backward_each(ag_tape *t, ag_node *n)
{
    const op_low_rank *a = n->attr;
    int64_t count = tn_count(n->in[1]), scratch = 2 * tn_rows(n->out) * a->rank, col = 0;
    float *dx = ag_grad(t, n->in[1]), *dh = ag_temp(t, scratch);
    float *dropped = NULL, *ddropped = NULL;
    const bool shared = shares_a(a);
    for (int i = 0; i < a->n && dh; col += a->s[i++].a->dim[0]) {
        const ag_low_rank *s = &a->s[i];
        site_run q = site_of(n, i, col);
        const bool drops = s->dropout > 0.0f;
        if (drops) {
            if (!dropped) dropped = ag_temp(t, count);
            if (dx && !ddropped) ddropped = ag_temp(t, count);
            if (!dropped || (dx && !ddropped)) return;
            if (dx) memset(ddropped, 0, (size_t)count * sizeof(float));
            if (s->a->wants_grad) draw(dropped, &q, n->rows);
        }
        site_backward(t, &q, shared ? NULL : drops && dx ? ddropped : dx, n, dh);
        if (shared) add_shared(t, &q, dx, dh, i == 0, i + 1 == a->n);
        if (drops && dx)
            kn_dropout_back(dx, ddropped, q.rows, q.in, s->dropout, mask_key(n->rows, s),
                            n->rows->key);
    }
    ag_temp_free(t, dh, scratch);
    ag_temp_free(t, dropped, count);
    ag_temp_free(t, ddropped, count);
}

static void forward(ag_tape *t, ag_node *n)
{
    if (t->dry) return;
    if (is_plain(n))
        forward_stacked(t, n);
    else
        forward_each(t, n);
}

static void backward(ag_tape *t, ag_node *n)
{
    if (is_plain(n))
        backward_stacked(t, n);
    else
        backward_each(t, n);
}

int64_t op_low_rank_temp(const op_low_rank *a, int64_t rows, int64_t in)
{
    return rows * a->rank + a->rank * in;
}

static int64_t temp(const ag_node *n)
{
    const op_low_rank *a = n->attr;
    int64_t rows = tn_rows(n->out), in = tn_cols(n->in[1]), most = 0;
    bool drops = false;
    if (is_plain(n)) return op_low_rank_temp(a, rows, in);
    for (int i = 0; i < a->n; i++) {
        const ag_low_rank *s = &a->s[i];
        const int64_t r = s->a->dim[0], width = width_of(s), of_a = s->a->dim[1] != in ? r * in : 0;
        int64_t own = s->out ? (rows > r ? rows : r) * width : 0; /* one after another */
        own = own > of_a ? own : of_a;
        drops = drops || s->dropout > 0.0f;
        if (own > most) most = own;
    }
    return 2 * rows * a->rank + (drops ? 2 * rows * in : 0) + most;
}

bool op_low_rank_sees(const op_low_rank *a)
{
    for (int i = 0; i < a->n; i++)
        if (a->s[i].a->wants_grad) return true;
    return false;
}

static bool sees(const ag_node *n, int i)
{
    return i != 1 || op_low_rank_sees(n->attr);
}

const ag_op ag_op_low_rank = {.name = "low_rank",
                              .forward = forward,
                              .backward = backward,
                              .by_rows = true,
                              .rounds = true,
                              .blind = 1 << 0,
                              .sees = sees,
                              .temp = temp,
                              .part = AG_PRODUCTS};

/* Shapes of a site: A [r, ≥ I], B [≥ width, r]. */
static bool fits(const ag_tape *t, const tn_tensor *y, const tn_tensor *x, const ag_low_rank *s)
{
    int64_t r = s->a->dim[0], width = width_of(s);
    return s->a->dim[1] >= tn_cols(x) && s->b->dim[1] == r && s->b->dim[0] >= width &&
           s->col + width <= tn_cols(y) && !(s->mid && s->core) &&
           (!s->mid || tn_count(s->mid) == r) &&
           (!s->core || (tn_rows(s->core) == r && tn_cols(s->core) == r)) &&
           (!s->out || tn_count(s->out) == width) &&
           (s->dropout == 0.0f || (t->rows && t->rows->key));
}

op_low_rank *op_low_rank_of(ag_tape *t, int64_t rows, const ag_low_rank *s, int n)
{
    op_low_rank *a = ag_meta(t, sizeof *a);
    bool middle = false;
    if (!a || t->status != FT_OK) return NULL;
    a->n = n;
    for (int i = 0; i < n; i++) {
        a->s[i] = s[i];
        a->rank += s[i].a->dim[0];
        middle = middle || s[i].core || s[i].mid;
    }
    size_t bytes = (size_t)(rows * a->rank) * sizeof(float);
    a->h = ag_keep(t, bytes);
    if (middle) a->u = ag_keep(t, bytes);
    return a;
}

tn_tensor *ag_low_rank_add(ag_tape *t, tn_tensor *y, tn_tensor *x, const ag_low_rank *s, int n)
{
    tn_tensor *in[2 + 5 * AG_MAX_GROUP] = {y, x};
    int n_in = 2;
    if (t->status != FT_OK || n == 0) return y;
    OP_ASSERT(t, n <= AG_MAX_GROUP && tn_rows(y) == tn_rows(x));
    op_low_rank *a = op_low_rank_of(t, tn_rows(y), s, n);
    for (int i = 0; i < n; i++) {
        tn_tensor *const parts[] = {s[i].a, s[i].b, s[i].core, s[i].mid, s[i].out};
        OP_ASSERT(t, fits(t, y, x, &s[i]));
        for (size_t k = 0; k < FT_COUNT_OF(parts); k++) {
            if (parts[k]) in[n_in++] = parts[k];
        }
        if (s[i].out) y->rounds = false;
    }
    return ag_call(t, &ag_op_low_rank, t->status == FT_OK ? y : NULL, a, n_in, in);
}
