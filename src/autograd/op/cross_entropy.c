/* cross_entropy.c – head and softmax cross-entropy in one, over supervised rows only, a chunk of logits at a time.
 *
 * Logits over the vocabulary are the largest thing of a step (T × V), so they exist for one chunk only and their
 * gradient is taken while they are there: dx of the supervised rows is kept ([S, C]), the head's own gradients are added
 * at once. That needs the factor of the loss beforehand: attr->grad_scale. */
#include "ft/autograd.h"
#include "op_private.h"

#include <string.h>

typedef struct ce_attr {
    ag_ce ce;
    int64_t *row; /* [n] supervised rows of x */
    int64_t n;
    float *dx; /* [n, C]; NULL when nothing below wants it */
    int64_t chunk;
} ce_attr;

/* The head is unpacked once for each chunk, forward and for dx, so a chunk has as many rows as 64 MB of logits allow:
 * at 85 rows unpacking took a tenth of a LoRA step on SmolLM2, at 256 it is lost in the products. */
static int64_t chunk_rows(int64_t vocab)
{
    int64_t rows = ((int64_t)16 << 20) / (vocab > 0 ? vocab : 1);
    return rows < 32 ? 32 : rows > 256 ? 256 : rows;
}

typedef struct ce_chunk {
    float *x, *logits, *h, *dh; /* [chunk, C], [chunk, V], [chunk, Σr] */
    float *dropped, *ddropped;  /* [chunk, C], where an adapter has dropout */
    uint64_t *key;              /* [chunk] row keys of the gathered rows */
    const int32_t *label;
    int64_t rows, first;
} ce_chunk;

static void chunk_forward(const ag_tape *t, const ce_attr *a, const ce_chunk *c, int64_t hidden,
                          int64_t vocab)
{
    int64_t rank = 0;
    op_apply(c->logits, vocab, c->x, hidden, &a->ce.head, c->rows);
    for (int i = 0; i < a->ce.n_low_rank; i++) {
        const ag_low_rank *s = &a->ce.low_rank[i];
        const float *x = c->x;
        if (s->dropout > 0.0f) {
            kn_dropout(c->dropped, x, c->rows, hidden, s->dropout, op_mask_key(t->rows, s), c->key);
            x = c->dropped;
        }
        op_low_rank(c->logits, vocab, c->h + rank * a->chunk, s->a->dim[0], x, hidden, s, c->rows);
        rank += s->a->dim[0];
    }
}

static void chunk_backward(ag_tape *t, const ce_attr *a, const ce_chunk *c, int64_t hidden,
                           int64_t vocab)
{
    float *dx = a->dx ? a->dx + c->first * hidden : NULL;
    int64_t rank = 0;
    op_apply_back(t, dx, hidden, false, c->logits, vocab, c->x, &a->ce.head, c->rows, NULL);
    for (int i = 0; i < a->ce.n_low_rank; i++) {
        const ag_low_rank *s = &a->ce.low_rank[i];
        bool drops = s->dropout > 0.0f;
        if (drops) {
            kn_dropout(c->dropped, c->x, c->rows, hidden, s->dropout, op_mask_key(t->rows, s),
                       c->key);
            memset(c->ddropped, 0, (size_t)(c->rows * hidden) * sizeof(float));
        }
        op_low_rank_back(t, drops && dx ? c->ddropped : dx, hidden, c->logits, vocab,
                         c->h + rank * a->chunk, s->a->dim[0], c->dh, drops ? c->dropped : c->x,
                         hidden, s, c->rows, NULL);
        if (drops && dx)
            kn_dropout_back(dx, c->ddropped, c->rows, hidden, s->dropout, op_mask_key(t->rows, s),
                            c->key);
        rank += s->a->dim[0];
    }
}

static void forward(ag_tape *t, ag_node *n)
{
    ce_attr *a = n->attr;
    const float *x = tn_f32(n->in[0]);
    int64_t hidden = tn_cols(n->in[0]);
    int64_t vocab = a->ce.head.in_out ? a->ce.head.w->dim[1] : a->ce.head.w->dim[0], rank = 0;
    float scale = n->out->wants_grad ? a->ce.grad_scale : 0.0f;
    double sum = 0.0;
    for (int i = 0; i < a->ce.n_low_rank; i++) rank += a->ce.low_rank[i].a->dim[0];
    int64_t sizes[3] = {a->chunk * hidden, a->chunk * vocab, a->chunk * (rank + 1)};
    float *xs = ag_temp(t, sizes[0]), *logits = ag_temp(t, sizes[1]);
    float *h = ag_temp(t, sizes[2]), *dh = ag_temp(t, sizes[2]);
    bool drops = false;
    for (int i = 0; i < a->ce.n_low_rank; i++) drops |= a->ce.low_rank[i].dropout > 0.0f;
    float *dropped = drops ? ag_temp(t, 2 * sizes[0]) : NULL;
    uint64_t *key = ag_meta(t, (size_t)a->chunk * sizeof *key);
    int32_t *target = ag_meta(t, (size_t)a->chunk * sizeof *target);
    for (int64_t i0 = 0; i0 < a->n && t->status == FT_OK && !t->dry; i0 += a->chunk) {
        ce_chunk c = {.x = xs, .logits = logits, .h = h, .dh = dh, .label = target, .first = i0};
        c.dropped = dropped;
        c.ddropped = dropped ? dropped + sizes[0] : NULL;
        c.key = key;
        c.rows = a->n - i0 < a->chunk ? a->n - i0 : a->chunk;
        for (int64_t i = 0; i < c.rows; i++) {
            memcpy(xs + i * hidden, x + a->row[i0 + i] * hidden, (size_t)hidden * sizeof(float));
            target[i] = a->ce.label[a->row[i0 + i]];
            if (drops) key[i] = t->rows->key[a->row[i0 + i]];
        }
        chunk_forward(t, a, &c, hidden, vocab);
        kn_softmax_ce(logits, vocab, a->ce.logprob + i0, a->ce.best ? a->ce.best + i0 : NULL,
                      target, c.rows, vocab, scale);
        if (scale != 0.0f) chunk_backward(t, a, &c, hidden, vocab);
        for (int64_t i = 0; i < c.rows; i++) sum -= (double)a->ce.logprob[i0 + i];
    }
    if (!t->dry) tn_f32(n->out)[0] = (float)sum;
    ag_temp_free(t, xs, sizes[0]);
    ag_temp_free(t, logits, sizes[1]);
    ag_temp_free(t, h, sizes[2]);
    ag_temp_free(t, dh, sizes[2]);
    ag_temp_free(t, dropped, 2 * sizes[0]);
}

/* The gradients already hold grad_scale, which is what the caller multiplies the loss by: loss->grad is 1 here. */
static void backward(ag_tape *t, ag_node *n)
{
    const ce_attr *a = n->attr;
    int64_t hidden = tn_cols(n->in[0]);
    float *dx = ag_grad(t, n->in[0]);
    for (int64_t i = 0; dx && i < a->n; i++) {
        const float *from = a->dx + i * hidden;
        float *to = dx + a->row[i] * hidden;
        for (int64_t c = 0; c < hidden; c++) to[c] += from[c];
    }
}

const ag_op ag_op_cross_entropy = {
    .name = "cross_entropy", .forward = forward, .backward = backward};

tn_tensor *ag_cross_entropy(ag_tape *t, tn_tensor *x, const ag_ce *ce)
{
    ce_attr *a = ag_meta(t, sizeof *a);
    tn_tensor *in[3 + 2 * 4] = {x, ce->head.w};
    int n_in = 2;
    int64_t rows = tn_rows(x), hidden = tn_cols(x);
    if (!a || t->status != FT_OK) return x;
    a->ce = *ce;
    a->row = ag_meta(t, (size_t)(rows + 1) * sizeof *a->row);
    if (!a->row) return x;
    for (int64_t i = 0; i < rows; i++) {
        if (ce->label[i] >= 0) a->row[a->n++] = i;
    }
    a->chunk = chunk_rows(ce->head.in_out ? ce->head.w->dim[1] : ce->head.w->dim[0]);
    if (a->chunk > a->n) a->chunk = a->n > 0 ? a->n : 1;
    if (ce->head.b) in[n_in++] = ce->head.b;
    if (ce->n_low_rank > 0) {
        ag_low_rank *copy = ag_meta(t, (size_t)ce->n_low_rank * sizeof *copy);
        if (!copy) return x;
        for (int i = 0; i < ce->n_low_rank; i++) {
            copy[i] = ce->low_rank[i];
            in[n_in++] = copy[i].a;
            in[n_in++] = copy[i].b;
        }
        a->ce.low_rank = copy;
    }
    if (t->record && x->wants_grad) {
        a->dx = ag_keep(t, (size_t)(a->n * hidden) * sizeof(float));
        if (!a->dx) return x;
    }
    return ag_call(t, &ag_op_cross_entropy, ag_new(t, 1, 1), a, n_in, in);
}
