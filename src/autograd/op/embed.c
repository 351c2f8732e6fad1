/* embed.c – rows of a table: w [V, C] (any dtype), ids [T] → y [T, C]. An id below 0 gives zeros. */
#include "ft/autograd.h"
#include "op_private.h"

#include <string.h>

typedef struct embed_attr {
    const int32_t *ids;
    int64_t n;
    int32_t frozen; /* id whose row gets no gradient; −1: none */
} embed_attr;

typedef struct embed_job {
    const embed_attr *a;
    const tn_tensor *w;
    float *y;
    const float *dy;
    float *dw;
    int64_t cols;
} embed_job;

enum { ROWS = 64, COLS = 64 };

static void copy_rows(void *ctx, int64_t tile, int thread)
{
    const embed_job *j = ctx;
    int64_t end = (tile + 1) * ROWS < j->a->n ? (tile + 1) * ROWS : j->a->n;
    (void)thread;
    for (int64_t t = tile * ROWS; t < end; t++) {
        if (j->a->ids[t] < 0)
            memset(j->y + t * j->cols, 0, (size_t)j->cols * sizeof(float));
        else
            tn_unpack_rows(j->y + t * j->cols, j->w, j->a->ids[t], 1);
    }
}

static void forward(ag_tape *t, ag_node *n)
{
    const embed_attr *a = n->attr;
    embed_job j = {.a = a, .w = n->in[0], .y = tn_f32(n->out), .cols = tn_cols(n->in[0])};
    if (t->dry) return;
    pool_run(copy_rows, &j, (a->n + ROWS - 1) / ROWS);
}

/* A thread owns a slice of columns and adds all tokens in order: rows may repeat. */
static void add_rows(void *ctx, int64_t tile, int thread)
{
    const embed_job *j = ctx;
    int64_t c0 = tile * COLS, c1 = c0 + COLS < j->cols ? c0 + COLS : j->cols;
    (void)thread;
    for (int64_t t = 0; t < j->a->n; t++) {
        if (j->a->ids[t] < 0 || j->a->ids[t] == j->a->frozen) continue;
        float *dw = j->dw + (int64_t)j->a->ids[t] * j->cols;
        const float *dy = j->dy + t * j->cols;
        for (int64_t c = c0; c < c1; c++) dw[c] += dy[c];
    }
}

static void backward(ag_tape *t, ag_node *n)
{
    embed_job j = {
        .a = n->attr, .dy = n->out->grad, .dw = ag_grad(t, n->in[0]), .cols = tn_cols(n->in[0])};
    if (j.dw) pool_run(add_rows, &j, (j.cols + COLS - 1) / COLS);
}

const ag_op ag_op_embed = {.name = "embed", .forward = forward, .backward = backward};

tn_tensor *ag_embed(ag_tape *t, tn_tensor *w, const int32_t *ids, int64_t n, int32_t frozen)
{
    embed_attr *a = ag_meta(t, sizeof *a);
    for (int64_t i = 0; i < n; i++) OP_ASSERT(t, ids[i] < w->dim[0]);
    OP_ASSERT(t, w->nd == 2);
    tn_tensor *y = ag_new(t, n, tn_cols(w));
    if (a) *a = (embed_attr){ids, n, frozen};
    return ag_call(t, &ag_op_embed, a ? y : NULL, a, 1, &w);
}
