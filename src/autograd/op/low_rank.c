/* low_rank.c – LoRA's addition (Hu et al. 2021), in place: y[:, col …] += s · dropout(x) · Aᵀ · Bᵀ.
 *
 * With g = dL/dy and h = s · x̃ Aᵀ (kept, [T, r]):  dB = gᵀ h,  dh = s · g B,  dA = dhᵀ x̃,  dx += mask(dh A).
 * Dropped inputs are not kept: the mask is a pure function of its key and is drawn again. */
#include "ft/autograd.h"
#include "op_private.h"

#include <string.h>

typedef struct low_rank_attr {
    ag_low_rank s[AG_MAX_GROUP];
    int n;
    int64_t rank; /* sum over sites */
    float *h;     /* [T, rank] */
} low_rank_attr;

/* One site: h [T, r] (row distance ldh) = s · x̃ · Aᵀ is what backward needs. */
static void low_rank(float *y, int64_t ldy, float *h, int64_t ldh, const float *x, int64_t ldx,
                     const ag_low_rank *s, int64_t rows)
{
    kn_mat a = op_mat(s->a), b = op_mat(s->b);
    int64_t r = a.rows;
    kn_gemm_nt(h, ldh, x, ldx, &a, rows, NULL, false);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = 0; k < r; k++) h[i * ldh + k] *= s->scale;
    }
    kn_gemm_nt(y, ldy, h, ldh, &b, rows, NULL, true);
}

/* dA, dB, and dx += (dy · B · s) · A; dh [T, r] is scratch. */
static void low_rank_back(ag_tape *t, float *dx, int64_t lddx, const float *dy, int64_t ldy,
                          const float *h, int64_t ldh, float *dh, const float *x, int64_t ldx,
                          const ag_low_rank *s, int64_t rows, const ag_rows *of)
{
    kn_mat a = op_mat(s->a), b = op_mat(s->b);
    int64_t r = a.rows, in = a.cols, out = b.rows;
    float *da = ag_grad(t, s->a), *db = ag_grad(t, s->b);
    if (db) op_gemm_tn(db, r, dy, ldy, out, h, ldh, r, rows, of);
    if (!da && !dx) return;
    kn_gemm_nn(dh, r, dy, ldy, &b, rows, NULL, false);
    kn_scale(dh, s->scale, rows * r);
    if (da) op_gemm_tn(da, in, dh, r, r, x, ldx, in, rows, of);
    if (dx) kn_gemm_nn(dx, lddx, dh, r, &a, rows, NULL, true);
}

/* Key of a site's dropout mask over these rows. */
static uint64_t mask_key(const ag_rows *of, const ag_low_rank *s)
{
    return rng_key(of->mask_key, s->key, 0);
}

/* Sites of a group share x: without dropout their A's are stacked into one matrix [Σr, I], so that x is read once instead
 * of once a site. The chains of additions are the same. */
static float *stack(ag_tape *t, const low_rank_attr *a, int64_t in, bool grads)
{
    float *all = ag_temp(t, a->rank * in);
    int64_t row = 0;
    for (int i = 0; i < a->n && all; i++) {
        const tn_tensor *m = a->s[i].a;
        memcpy(all + row * in, grads ? m->grad : tn_f32(m),
               (size_t)(m->dim[0] * in) * sizeof(float));
        row += m->dim[0];
    }
    return all;
}

static bool any_dropout(const low_rank_attr *a)
{
    for (int i = 0; i < a->n; i++) {
        if (a->s[i].dropout > 0.0f) return true;
    }
    return false;
}

static void scale_columns(float *h, const low_rank_attr *a, int64_t rows)
{
    int64_t col = 0;
    for (int i = 0; i < a->n; col += a->s[i++].a->dim[0]) {
        for (int64_t t = 0; t < rows; t++) {
            for (int64_t k = 0; k < a->s[i].a->dim[0]; k++)
                h[t * a->rank + col + k] *= a->s[i].scale;
        }
    }
}

static void forward_stacked(ag_tape *t, ag_node *n)
{
    const low_rank_attr *a = n->attr;
    int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), in = tn_cols(n->in[1]), col = 0;
    float *all = stack(t, a, in, false);
    if (!all) return;
    kn_mat m = {.type = &dt_f32, .data = all, .rows = a->rank, .cols = in};
    kn_gemm_nt(a->h, a->rank, tn_f32(n->in[1]), in, &m, rows, NULL, false);
    scale_columns(a->h, a, rows);
    for (int i = 0; i < a->n; col += a->s[i++].a->dim[0]) {
        kn_mat b = op_mat(a->s[i].b);
        kn_gemm_nt(tn_f32(n->out) + a->s[i].col, ldy, a->h + col, a->rank, &b, rows, NULL, true);
    }
    ag_temp_free(t, all, a->rank * in);
}

static void add_stacked_grads(ag_tape *t, const ag_node *n, const float *dh, const float *x,
                              int64_t in)
{
    const low_rank_attr *a = n->attr;
    int64_t row = 0;
    for (int i = 0; i < a->n; i++) {
        if (!ag_grad(t, a->s[i].a)) return; /* all of them are trained, or none */
    }
    float *all = stack(t, a, in, true);
    if (!all) return;
    op_gemm_tn(all, in, dh, a->rank, a->rank, x, in, in, tn_rows(n->out), n->rows);
    for (int i = 0; i < a->n; i++) {
        tn_tensor *m = a->s[i].a;
        memcpy(m->grad, all + row * in, (size_t)(m->dim[0] * in) * sizeof(float));
        row += m->dim[0];
    }
    ag_temp_free(t, all, a->rank * in);
}

static void backward_stacked(ag_tape *t, ag_node *n)
{
    const low_rank_attr *a = n->attr;
    int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), in = tn_cols(n->in[1]), col = 0;
    float *dx = ag_grad(t, n->in[1]), *dh = ag_temp(t, rows * a->rank);
    if (!dh) return;
    for (int i = 0; i < a->n; col += a->s[i++].a->dim[0]) {
        const ag_low_rank *s = &a->s[i];
        const float *dy = n->out->grad + s->col;
        kn_mat b = op_mat(s->b);
        float *db = ag_grad(t, s->b);
        if (db) op_gemm_tn(db, b.cols, dy, ldy, b.rows, a->h + col, a->rank, b.cols, rows, n->rows);
        kn_gemm_nn(dh + col, a->rank, dy, ldy, &b, rows, NULL, false);
    }
    scale_columns(dh, a, rows);
    add_stacked_grads(t, n, dh, tn_f32(n->in[1]), in);
    float *all = dx ? stack(t, a, in, false) : NULL;
    if (all) {
        kn_mat m = {.type = &dt_f32, .data = all, .rows = a->rank, .cols = in};
        kn_gemm_nn(dx, in, dh, a->rank, &m, rows, NULL, true);
        ag_temp_free(t, all, a->rank * in);
    }
    ag_temp_free(t, dh, rows * a->rank);
}

static void forward_each(ag_tape *t, ag_node *n)
{
    const low_rank_attr *a = n->attr;
    const float *x = tn_f32(n->in[1]);
    int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), in = tn_cols(n->in[1]);
    float *h = a->h, *dropped = NULL;
    for (int i = 0; i < a->n; i++) {
        const ag_low_rank *s = &a->s[i];
        const float *input = x;
        if (s->dropout > 0.0f) {
            if (!dropped) dropped = ag_temp(t, rows * in);
            if (!dropped) return;
            kn_dropout(dropped, x, rows, in, s->dropout, mask_key(n->rows, s), n->rows->key);
            input = dropped;
        }
        low_rank(tn_f32(n->out) + s->col, ldy, h, a->rank, input, in, s, rows);
        h += s->a->dim[0];
    }
    ag_temp_free(t, dropped, rows * in);
}

static void backward_each(ag_tape *t, ag_node *n)
{
    const low_rank_attr *a = n->attr;
    const float *h = a->h, *x = tn_f32(n->in[1]);
    int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), in = tn_cols(n->in[1]);
    float *dx = ag_grad(t, n->in[1]), *dh = ag_temp(t, rows * a->rank);
    float *dropped = NULL, *ddropped = NULL;
    for (int i = 0; i < a->n && dh; i++) {
        const ag_low_rank *s = &a->s[i];
        const float *input = x;
        float *dinput = dx;
        if (s->dropout > 0.0f) {
            if (!dropped) dropped = ag_temp(t, rows * in);
            if (dx && !ddropped) ddropped = ag_temp(t, rows * in);
            if (!dropped || (dx && !ddropped)) return;
            kn_dropout(dropped, x, rows, in, s->dropout, mask_key(n->rows, s), n->rows->key);
            if (dx) memset(ddropped, 0, (size_t)(rows * in) * sizeof(float));
            input = dropped;
            dinput = ddropped;
        }
        low_rank_back(t, dinput, in, n->out->grad + s->col, ldy, h, a->rank, dh, input, in, s, rows,
                      n->rows);
        if (s->dropout > 0.0f && dx)
            kn_dropout_back(dx, ddropped, rows, in, s->dropout, mask_key(n->rows, s), n->rows->key);
        h += s->a->dim[0];
    }
    ag_temp_free(t, dh, rows * a->rank);
    ag_temp_free(t, dropped, rows * in);
    ag_temp_free(t, ddropped, rows * in);
}

static void forward(ag_tape *t, ag_node *n)
{
    if (t->dry) return;
    if (any_dropout(n->attr))
        forward_each(t, n);
    else
        forward_stacked(t, n);
}

static void backward(ag_tape *t, ag_node *n)
{
    if (any_dropout(n->attr))
        backward_each(t, n);
    else
        backward_stacked(t, n);
}

const ag_op ag_op_low_rank = {
    .name = "low_rank", .forward = forward, .backward = backward, .by_rows = true};

tn_tensor *ag_low_rank_add(ag_tape *t, tn_tensor *y, tn_tensor *x, const ag_low_rank *s, int n)
{
    low_rank_attr *a = ag_meta(t, sizeof *a);
    tn_tensor *in[2 + 2 * AG_MAX_GROUP] = {y, x};
    if (!a || t->status != FT_OK || n == 0) return y;
    OP_ASSERT(t, n <= AG_MAX_GROUP && tn_rows(y) == tn_rows(x));
    a->n = n;
    for (int i = 0; i < n; i++) {
        OP_ASSERT(t, s[i].a->dim[1] == tn_cols(x) && s[i].b->dim[1] == s[i].a->dim[0]);
        OP_ASSERT(t, s[i].col + s[i].b->dim[0] <= tn_cols(y));
        OP_ASSERT(t, s[i].dropout == 0.0f || (t->rows && t->rows->key));
        a->s[i] = s[i];
        a->rank += s[i].a->dim[0];
        in[2 + 2 * i] = s[i].a;
        in[3 + 2 * i] = s[i].b;
    }
    a->h = ag_keep(t, (size_t)(tn_rows(y) * a->rank) * sizeof(float));
    return ag_call(t, &ag_op_low_rank, a->h ? y : NULL, a, 2 + 2 * n, in);
}
