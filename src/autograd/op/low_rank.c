/* low_rank.c – LoRA's addition (Hu et al. 2021), in place: y[:, col …] += s · dropout(x) · Aᵀ · Bᵀ.
 *
 * With g = dL/dy and h = s · x̃ Aᵀ (kept, [T, r]):  dB = gᵀ h,  dh = s · g B,  dA = dhᵀ x̃,  dx += mask(dh A).
 * Dropped inputs are not kept: the mask is a pure function of its key and is drawn again. */
#include "ft/autograd.h"
#include "op_private.h"

#include <string.h>

enum { MAX_SITES = 4 };
typedef struct low_rank_attr {
    ag_low_rank s[MAX_SITES];
    int n;
    int64_t rank; /* sum over sites */
    float *h;     /* [T, rank] */
} low_rank_attr;

void op_low_rank(float *y, int64_t ldy, float *h, int64_t ldh, const float *x, int64_t ldx,
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

void op_low_rank_back(ag_tape *t, float *dx, int64_t lddx, const float *dy, int64_t ldy,
                      const float *h, int64_t ldh, float *dh, const float *x, int64_t ldx,
                      const ag_low_rank *s, int64_t rows, const int32_t *seg, int n_seg)
{
    kn_mat a = op_mat(s->a), b = op_mat(s->b);
    int64_t r = a.rows, in = a.cols, out = b.rows;
    float *da = ag_grad(t, s->a), *db = ag_grad(t, s->b);
    if (db) kn_gemm_tn(db, r, dy, ldy, out, h, ldh, r, seg, n_seg);
    if (!da && !dx) return;
    kn_gemm_nn(dh, r, dy, ldy, &b, rows, NULL, false);
    kn_scale(dh, s->scale, rows * r);
    if (da) kn_gemm_tn(da, in, dh, r, r, x, ldx, in, seg, n_seg);
    if (dx) kn_gemm_nn(dx, lddx, dh, r, &a, rows, NULL, true);
}

uint64_t op_mask_key(const ag_tape *t, const ag_low_rank *s)
{
    return rng_key(t->rng_key, s->key, 0);
}

static void forward(ag_tape *t, ag_node *n)
{
    const low_rank_attr *a = n->attr;
    const float *x = tn_f32(n->in[1]);
    int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), in = tn_cols(n->in[1]);
    float *h = a->h, *dropped = NULL;
    if (t->dry) return;
    for (int i = 0; i < a->n; i++) {
        const ag_low_rank *s = &a->s[i];
        const float *input = x;
        if (s->dropout > 0.0f) {
            if (!dropped) dropped = ag_temp(t, rows * in);
            if (!dropped) return;
            kn_dropout(dropped, x, rows, in, s->dropout, op_mask_key(t, s), t->row_key);
            input = dropped;
        }
        op_low_rank(tn_f32(n->out) + s->col, ldy, h, a->rank, input, in, s, rows);
        h += s->a->dim[0];
    }
    ag_temp_free(t, dropped, rows * in);
}

static void backward(ag_tape *t, ag_node *n)
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
            kn_dropout(dropped, x, rows, in, s->dropout, op_mask_key(t, s), t->row_key);
            if (dx) memset(ddropped, 0, (size_t)(rows * in) * sizeof(float));
            input = dropped;
            dinput = ddropped;
        }
        op_low_rank_back(t, dinput, in, n->out->grad + s->col, ldy, h, a->rank, dh, input, in, s,
                         rows, t->seq_len, t->n_seq);
        if (s->dropout > 0.0f && dx)
            kn_dropout_back(dx, ddropped, rows, in, s->dropout, op_mask_key(t, s), t->row_key);
        h += s->a->dim[0];
    }
    ag_temp_free(t, dh, rows * a->rank);
    ag_temp_free(t, dropped, rows * in);
    ag_temp_free(t, ddropped, rows * in);
}

const ag_op ag_op_low_rank = {.name = "low_rank", .forward = forward, .backward = backward};

tn_tensor *ag_low_rank_add(ag_tape *t, tn_tensor *y, tn_tensor *x, const ag_low_rank *s, int n)
{
    low_rank_attr *a = ag_meta(t, sizeof *a);
    tn_tensor *in[2 + 2 * MAX_SITES] = {y, x};
    if (!a || t->status != FT_OK || n == 0) return y;
    a->n = n;
    for (int i = 0; i < n; i++) {
        a->s[i] = s[i];
        a->rank += s[i].a->dim[0];
        in[2 + 2 * i] = s[i].a;
        in[3 + 2 * i] = s[i].b;
    }
    a->h = ag_keep(t, (size_t)(tn_rows(y) * a->rank) * sizeof(float));
    return ag_call(t, &ag_op_low_rank, a->h ? y : NULL, a, 2 + 2 * n, in);
}
