/* lstm.c – a layer of an LSTM (Hochreiter & Schmidhuber 1997) over one sequence, forward and backward in time side by side, in
 * torch's order of gates: what encodes prompts in P-tuning.
 *
 *   a_t = W_ih x̃_t + b_ih + W_hh h_t' + b_hh [4H];  i, f, o = σ(a), u = tanh(a);  c_t = f ⊙ c_t' + i ⊙ u;  h_t = o ⊙ tanh(c_t)
 *
 * with t' the step before, which the other way is t + 1, and x̃ = dropout(x). Gates and cells are kept. Backward in the other
 * order of time: with dh = dL/dh_t + W_hhᵀ da of the step after and dc += dh ⊙ o ⊙ (1 − tanh² c_t):
 *   da_i = dc ⊙ u ⊙ i(1 − i), da_f = dc ⊙ c_t' ⊙ f(1 − f), da_u = dc ⊙ i ⊙ (1 − u²), da_o = dh ⊙ tanh(c_t) ⊙ o(1 − o), dc ← dc ⊙ f
 * and then dx̃ = da W_ih, dW_ih = daᵀ x̃, dW_hh = daᵀ h', both biases: Σ_t da. */
#include "ft/autograd.h"
#include "op_private.h"

#include <math.h>
#include <string.h>

enum { W_IH, W_HH, B_IH, B_HH, OF_A_WAY, WAYS = 2 };

typedef struct lstm_attr {
    float dropout;
    uint64_t key;
    float *x;          /* [T, I] x̃; NULL: x as it is */
    float *gate[WAYS]; /* [T, 4H] i, f, u, o */
    float *cell[WAYS]; /* [T, H] */
} lstm_attr;

/* One way through the sequence. */
typedef struct way {
    tn_tensor *const *w;    /* OF_A_WAY of them */
    float *gate, *cell, *h; /* h [T, ·] at row distance ld */
    int64_t steps, size, ld;
    bool back;
} way;

static way way_of(const ag_node *n, int k)
{
    const lstm_attr *a = n->attr;
    const int64_t size = tn_cols(n->out) / WAYS;
    return (way){.w = n->in + 1 + (ptrdiff_t)k * OF_A_WAY,
                 .gate = a->gate[k],
                 .cell = a->cell[k],
                 .h = tn_f32(n->out) + k * size,
                 .steps = tn_rows(n->out),
                 .size = size,
                 .ld = tn_cols(n->out),
                 .back = k == 1};
}

/* The row of step k, and of the one before it; −1: there is none. */
static int64_t row_at(const way *y, int64_t k)
{
    if (k < 0) return -1;
    return y->back ? y->steps - 1 - k : k;
}

static uint64_t mask_key(const ag_node *n)
{
    return rng_key(n->rows->mask_key, ((const lstm_attr *)n->attr)->key, 0);
}

static const float *input(const ag_node *n)
{
    const lstm_attr *a = n->attr;
    return a->x ? a->x : tn_f32(n->in[0]);
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void cell_forward(float *gate, float *c, float *h, const float *before, int64_t n)
{
    float *i = gate, *f = gate + n, *u = gate + 2 * n, *o = gate + 3 * n;
    for (int64_t j = 0; j < n; j++) {
        i[j] = sigmoid(i[j]);
        f[j] = sigmoid(f[j]);
        u[j] = tanhf(u[j]);
        o[j] = sigmoid(o[j]);
        c[j] = i[j] * u[j] + (before ? f[j] * before[j] : 0.0f);
        h[j] = o[j] * tanhf(c[j]);
    }
}

static void way_forward(const ag_tape *t, const way *y)
{
    const kn_mat w = op_mat(y->w[W_HH]);
    for (int64_t k = 0; k < y->steps; k++) {
        const int64_t at = row_at(y, k), before = row_at(y, k - 1);
        float *gate = y->gate + at * 4 * y->size;
        kn_axpy(gate, 1.0f, tn_f32(y->w[B_HH]), 4 * y->size);
        if (before >= 0)
            op_product(t, gate, 4 * y->size, op_rows(y->h + before * y->ld, y->ld), &w, false, 1,
                       true);
        cell_forward(gate, y->cell + at * y->size, y->h + at * y->ld,
                     before < 0 ? NULL : y->cell + before * y->size, y->size);
    }
}

static void forward(ag_tape *t, ag_node *n)
{
    const lstm_attr *a = n->attr;
    const int64_t rows = tn_rows(n->in[0]), in = tn_cols(n->in[0]);
    if (t->dry) return;
    if (a->x) kn_dropout(a->x, tn_f32(n->in[0]), rows, in, a->dropout, mask_key(n), n->rows->key);
    for (int k = 0; k < WAYS; k++) {
        const way y = way_of(n, k);
        const kn_mat w = op_mat(y.w[W_IH]);
        kn_gemm(&(kn_product){.precision = t->precision,
                              .y = {y.gate, 4 * y.size, false},
                              .x = op_rows(input(n), in),
                              .m = rows,
                              .w = &w,
                              .bias = tn_f32(y.w[B_IH])});
        way_forward(t, &y);
    }
}

/* da [4H] of one step from dh and dc, which becomes that of the step before. */
static void cell_backward(float *da, float *dc, const float *dh, const float *gate, const float *c,
                          const float *before, int64_t n)
{
    const float *i = gate, *f = gate + n, *u = gate + 2 * n, *o = gate + 3 * n;
    for (int64_t j = 0; j < n; j++) {
        const float s = tanhf(c[j]);
        dc[j] += dh[j] * o[j] * (1.0f - s * s);
        da[j] = dc[j] * u[j] * i[j] * (1.0f - i[j]);
        da[n + j] = before ? dc[j] * before[j] * f[j] * (1.0f - f[j]) : 0.0f;
        da[2 * n + j] = dc[j] * i[j] * (1.0f - u[j] * u[j]);
        da[3 * n + j] = dh[j] * s * o[j] * (1.0f - o[j]);
        dc[j] *= f[j];
    }
}

/* da [T, 4H] of all steps; dy: dL/dh at h's row distance; both [H] are of the steps that come. */
static void way_backward(const ag_tape *t, const way *y, float *da, const float *dy, float *dh,
                         float *dc)
{
    const kn_mat w = op_mat(y->w[W_HH]);
    memset(dc, 0, (size_t)y->size * sizeof *dc);
    memset(dh, 0, (size_t)y->size * sizeof *dh);
    for (int64_t k = y->steps - 1; k >= 0; k--) {
        const int64_t at = row_at(y, k), before = row_at(y, k - 1);
        float *now = da + at * 4 * y->size;
        kn_axpy(dh, 1.0f, dy + at * y->ld, y->size);
        cell_backward(now, dc, dh, y->gate + at * 4 * y->size, y->cell + at * y->size,
                      before < 0 ? NULL : y->cell + before * y->size, y->size);
        op_product(t, dh, y->size, op_rows(now, 4 * y->size), &w, true, 1, false);
    }
}

/* Gradients of a way's parameters. A step's h' is the row beside it. */
static void weights_backward(ag_tape *t, const ag_node *n, const way *y, const float *da)
{
    const int64_t wide = 4 * y->size, in = tn_cols(n->in[0]), steps = y->steps;
    const float *later = da + (y->back ? 0 : wide), *before = y->h + (y->back ? y->ld : 0);
    float *g[OF_A_WAY];
    for (int i = 0; i < OF_A_WAY; i++) g[i] = ag_grad(t, y->w[i]);
    if (g[W_IH])
        op_gemm_tn(t, g[W_IH], in, op_rows(da, wide), wide, op_rows(input(n), in), in, steps, NULL);
    if (g[W_HH] && steps > 1)
        op_gemm_tn(t, g[W_HH], y->size, op_rows(later, wide), wide, op_rows(before, y->ld), y->size,
                   steps - 1, NULL);
    if (g[B_IH]) kn_col_sum_add(g[B_IH], da, wide, steps, wide);
    if (g[B_HH]) kn_col_sum_add(g[B_HH], da, wide, steps, wide);
}

static int64_t temp(const ag_node *n)
{
    const lstm_attr *a = n->attr;
    const int64_t size = tn_cols(n->out) / WAYS, rows = tn_rows(n->out);
    return rows * 4 * size + 2 * size + (a->x ? tn_count(n->in[0]) : 0);
}

static void backward(ag_tape *t, ag_node *n)
{
    const lstm_attr *a = n->attr;
    const int64_t rows = tn_rows(n->in[0]), in = tn_cols(n->in[0]), size = tn_cols(n->out) / WAYS;
    float *dx = ag_grad(t, n->in[0]), *buffer = ag_temp(t, temp(n));
    if (!buffer) return;
    float *da = buffer, *dh = da + rows * 4 * size, *dc = dh + size, *dropped = dc + size;
    for (int k = 0; k < WAYS; k++) {
        const way y = way_of(n, k);
        const kn_mat w = op_mat(y.w[W_IH]);
        way_backward(t, &y, da, n->out->grad + k * size, dh, dc);
        weights_backward(t, n, &y, da);
        if (!dx) continue;
        op_product(t, a->x ? dropped : dx, in, op_rows(da, 4 * size), &w, true, rows, !a->x);
        if (a->x) kn_dropout_back(dx, dropped, rows, in, a->dropout, mask_key(n), n->rows->key);
    }
    ag_temp_free(t, buffer, temp(n));
}

const ag_op ag_op_lstm = {
    .name = "lstm", .forward = forward, .backward = backward, .temp = temp, .part = AG_PRODUCTS};

static bool fits(const tn_tensor *x, int64_t size, tn_tensor *const *w)
{
    if (x->type != &dt_f32) return false;
    for (int k = 0; k < WAYS; k++, w += OF_A_WAY) {
        if (w[W_IH]->dim[0] != 4 * size || w[W_IH]->dim[1] != tn_cols(x) ||
            w[W_HH]->dim[0] != 4 * size || w[W_HH]->dim[1] != size ||
            tn_count(w[B_IH]) != 4 * size || tn_count(w[B_HH]) != 4 * size)
            return false;
    }
    return true;
}

tn_tensor *ag_lstm(ag_tape *t, tn_tensor *x, tn_tensor *const *w, float dropout, uint64_t key)
{
    const int64_t rows = tn_rows(x), size = w[W_HH]->dim[1];
    lstm_attr *a = ag_meta(t, sizeof *a);
    tn_tensor *in[1 + WAYS * OF_A_WAY] = {x};
    const bool drops = t->record && dropout > 0.0f;
    OP_ASSERT(t, fits(x, size, w));
    OP_ASSERT(t, !drops || (t->rows && t->rows->key && t->rows->n == rows));
    if (!a) return x;
    *a = (lstm_attr){.dropout = dropout, .key = key};
    if (drops) a->x = ag_keep(t, (size_t)tn_count(x) * sizeof(float));
    for (int k = 0; k < WAYS; k++) {
        a->gate[k] = ag_keep(t, (size_t)(rows * 4 * size) * sizeof(float));
        a->cell[k] = ag_keep(t, (size_t)(rows * size) * sizeof(float));
    }
    memcpy(in + 1, w, WAYS * OF_A_WAY * sizeof *in);
    return ag_call(t, &ag_op_lstm, ag_new(t, rows, WAYS * size), a, 1 + WAYS * OF_A_WAY, in);
}
