/* score.c – what a head says of labels: cross-entropy and log-probabilities, over labelled rows only, a chunk of logits at a
 * time.
 *
 * Logits over the vocabulary are the largest thing of a step (T × V), so they exist for one chunk only. One walk serves all
 * losses over them: rows are picked into a leaf, the head runs on the tape as anything else does, the softmax turns the
 * logits into their gradient where they lie, the walk goes back through the chunk's nodes, and the memory is reset. What
 * remains is the gradient of the picked rows ([S, C] in all) and what the head's own parameters got.
 *
 * Another model's head may run beside it over the same rows: its logits become the gradient of a divergence between the two,
 * which joins that of the softmax. */
#include "ft/autograd.h"
#include "op_private.h"

#include <string.h>

typedef struct score_attr {
    ag_score s;
    int64_t *row;   /* [n] labelled rows of x */
    int32_t *label; /* [n] */
    int64_t n;
    int64_t *start; /* [chunks + 1] first labelled row of each chunk, and n */
    int64_t chunks;
    float scale; /* of the gradients that the forward takes; 0: none */
    float **
        dx; /* [chunks] gradients of each chunk's rows, from the free list; NULL where nothing below wants them */
    float *logprob; /* [n] */
    int64_t *there; /* [n] of other.x: the row that stands for each, */
    uint8_t *none;  /* or that there is none */
    float *apart;   /* [n] divergences */
} score_attr;

/* What the gradient of a chunk is taken times: of the cross-entropy, of the divergence. */
typedef struct factors {
    float own, other;               /* 0: not taken */
    const float *own_of, *other_of; /* [rows] further ones; NULL: 1 */
} factors;

/* The head is unpacked once for each chunk, forward and for dx, so a chunk has as many rows as 64 MB of logits allow:
 * at 85 rows unpacking took a tenth of a LoRA step on SmolLM2, at 256 it is lost in the products. */
static int64_t chunk_rows(int64_t vocab)
{
    int64_t rows = ((int64_t)16 << 20) / (vocab > 0 ? vocab : 1);
    return rows < 32 ? 32 : rows > 256 ? 256 : rows;
}

/* Cuts the labelled rows into chunks of at most `most`. The sum over tokens of a trained head may end after KN_GRAD_UNIT
 * tokens of a sequence, so a sequence is cut at a multiple of it from its own first row, which no other cut of the step
 * moves. */
static void cut_chunks(const ag_tape *t, score_attr *a, int64_t most)
{
    const ag_rows *of = t->rows;
    int64_t end = 0, first = 0,
            at = 0; /* of a sequence: past its last row, its first labelled row */
    int seq = 0;
    if (of && most < KN_GRAD_UNIT) most = KN_GRAD_UNIT;
    for (int64_t i = 0; i < a->n; i++) {
        for (; of && a->row[i] >= end; end += of->len[seq++]) first = i;
        if (i - at < most) continue;
        at = of ? first + (i - first) / KN_GRAD_UNIT * KN_GRAD_UNIT : i;
        a->start[++a->chunks] = at;
    }
    if (a->n > 0) a->start[++a->chunks] = a->n;
}

/* Where the other model's hidden states of the labelled rows are. */
static void find_others(ag_tape *t, score_attr *a)
{
    const size_t n = (size_t)a->n + 1;
    a->there = ag_meta(t, n * sizeof *a->there);
    a->none = ag_meta(t, n);
    a->apart = ag_meta(t, n * sizeof *a->apart);
    for (int64_t i = 0; i < a->n && t->status == FT_OK; i++) {
        const int64_t row = a->s.other.row ? a->s.other.row[a->row[i]] : a->row[i];
        a->none[i] = row < 0;
        a->there[i] = row < 0 ? 0 : row;
    }
}

static score_attr *new_attr(ag_tape *t, const tn_tensor *x, const ag_score *s)
{
    score_attr *a = ag_meta(t, sizeof *a);
    int64_t rows = tn_rows(x);
    if (!a || t->status != FT_OK) return NULL;
    a->s = *s;
    a->row = ag_meta(t, (size_t)(rows + 1) * sizeof *a->row);
    a->label = ag_meta(t, (size_t)(rows + 1) * sizeof *a->label);
    a->start = ag_meta(t, (size_t)(rows + 2) * sizeof *a->start);
    if (!a->row || !a->label || !a->start) return NULL;
    for (int64_t i = 0; i < rows; i++) {
        if (s->label[i] < 0) continue;
        a->row[a->n] = i;
        a->label[a->n++] = s->label[i];
    }
    cut_chunks(t, a, s->chunk > 0 ? s->chunk : chunk_rows(s->head.vocab));
    a->dx = ag_meta(t, (size_t)(a->chunks + 1) * sizeof *a->dx);
    if (s->other.x) find_others(t, a);
    return t->status == FT_OK ? a : NULL;
}

static int64_t rows_of_chunk(const score_attr *a, int64_t chunk)
{
    return a->start[chunk + 1] - a->start[chunk];
}

/* The other model's logits of a chunk. */
static tn_tensor *other_logits(ag_tape *t, const score_attr *a, int64_t first, int64_t rows)
{
    const ag_other *o = &a->s.other;
    const bool record = t->record;
    t->record = false;
    tn_tensor *part = ag_new(t, rows, tn_cols(o->x)), *logits = part;
    if (part && !t->dry)
        kn_gather_rows(ag_rows_of(part), ag_rows_of(o->x), a->there + first, rows, tn_cols(o->x));
    if (part) logits = o->head.fn(o->head.ctx, part);
    OP_ASSERT(t, tn_rows(logits) == rows && tn_cols(logits) == a->s.head.vocab);
    t->record = record;
    return logits;
}

/* With factors the other's logits become the gradient of the divergence. */
static void diverge(const score_attr *a, const tn_tensor *logits, tn_tensor *other, int64_t first,
                    const factors *f)
{
    kn_divergence d = {.v = a->s.head.vocab,
                       .ld_x = tn_cols(logits),
                       .ld_y = tn_cols(other),
                       .beta = a->s.other.beta,
                       .temperature = a->s.other.temperature,
                       .none = a->none + first,
                       .out = a->apart + first,
                       .scale = f->other,
                       .weight = f->other_of};
    kn_divergence_rows(tn_f32(other), tn_f32(logits), &d, tn_rows(logits));
}

/* The softmax of one chunk's logits; with factors they become their gradient. */
static void softmax(const score_attr *a, tn_tensor *logits, const tn_tensor *other, int64_t first,
                    const factors *f, bool half)
{
    const bool again = f->own_of != NULL; /* the results are there already */
    kn_softmax s = {.v = a->s.head.vocab,
                    .ld = tn_cols(logits),
                    .temperature = a->s.temperature,
                    .target = a->label + first,
                    .logprob = a->logprob + first,
                    .entropy = a->s.entropy && !again ? a->s.entropy + first : NULL,
                    .power = a->s.power && !again ? a->s.power + first : NULL,
                    .smoothing = a->s.smoothing,
                    .smooth = a->s.smooth ? a->s.smooth + first : NULL,
                    .best = a->s.best && !again ? a->s.best + first : NULL,
                    .scale = f->own,
                    .weight = f->own_of,
                    .more = other && f->other != 0.0f ? tn_f32(other) : NULL,
                    .half = half};
    kn_softmax_rows(tn_f32(logits), &s, tn_rows(logits));
}

/* One chunk forward, and back with factors. Returns the gradient of the picked rows, NULL when x wants none. */
static float *run_chunk(ag_tape *t, const score_attr *a, const tn_tensor *x, int64_t chunk,
                        const factors *f)
{
    int64_t first = a->start[chunk], rows = rows_of_chunk(a, chunk), cols = tn_cols(x);
    const bool taken = f->own != 0.0f || f->other != 0.0f;
    ag_mark mark = ag_enter(t);
    const ag_rows *before = ag_set_rows(t, ag_pick_rows(t, a->row + first, rows));
    tn_tensor *other = a->s.other.x ? other_logits(t, a, first, rows) : NULL;
    tn_tensor *part = ag_new(t, rows, cols), *logits = part;
    float *dx = NULL;
    if (part) {
        part->wants_grad = taken && x->wants_grad;
        if (!t->dry) kn_gather_rows(ag_rows_of(part), ag_rows_of(x), a->row + first, rows, cols);
        logits = a->s.head.fn(a->s.head.ctx, part);
    }
    if (t->status == FT_OK) {
        assert(tn_rows(logits) == rows && tn_cols(logits) == a->s.head.vocab);
        const bool back = taken && logits->wants_grad;
        const bool half = back && ag_reads_rounded(t, t->last, logits);
        if (!t->dry && other) diverge(a, logits, other, first, f);
        if (!t->dry) softmax(a, logits, other, first, f, half);
        if (back) {
            ag_grad_turned(t, logits, half);
            ag_walk(t);
            t->turned = NULL;
            dx = part->grad;
        }
    }
    ag_set_rows(t, before);
    ag_leave(t, &mark);
    return dx;
}

static void run_chunks(ag_tape *t, score_attr *a, const tn_tensor *x)
{
    const bool two = a->s.other.x != NULL;
    const factors f = {.own = a->scale * (two ? a->s.other.own : 1.0f),
                       .other = two ? a->scale * a->s.other.weight : 0.0f};
    for (int64_t k = 0; k < a->chunks && t->status == FT_OK; k++)
        a->dx[k] = run_chunk(t, a, x, k, &f);
    if (two && a->s.other.divergence && !t->dry)
        memcpy(a->s.other.divergence, a->apart, (size_t)a->n * sizeof *a->apart);
}

/* dx += the gradients of the picked rows, times their weights. */
static void give_chunk(ag_tape *t, const score_attr *a, float *dx, int64_t chunk, float *part,
                       const float *weight, int64_t cols)
{
    int64_t rows = rows_of_chunk(a, chunk), first = a->start[chunk];
    if (!t->dry) {
        if (weight) kn_scale_rows(part, weight, rows, cols);
        kn_scatter_rows(dx, part, a->row + first, rows, cols);
    }
    ag_temp_free(t, part, rows * cols);
}

/* --- cross-entropy ----------------------------------------------------------------------------------------- */
static void entropy_forward(ag_tape *t, ag_node *n)
{
    score_attr *a = n->attr;
    const float *each = a->s.smoothing > 0 ? a->s.smooth : a->logprob;
    double sum = 0.0;
    run_chunks(t, a, n->in[0]);
    const double own = a->s.other.x ? (double)a->s.other.own : 1.0;
    for (int64_t i = 0; i < a->n && !t->dry; i++) {
        sum -= own * (double)each[i];
        if (a->s.other.x) sum += (double)a->s.other.weight * (double)a->apart[i];
    }
    if (!t->dry) tn_f32(n->out)[0] = (float)sum;
}

/* The gradients already hold grad_scale, which is what the caller multiplies the loss by: loss->grad is 1 here. */
static void entropy_backward(ag_tape *t, ag_node *n)
{
    const score_attr *a = n->attr;
    float *dx = ag_grad(t, n->in[0]);
    for (int64_t k = 0; dx && k < a->chunks; k++) {
        if (a->dx[k]) give_chunk(t, a, dx, k, a->dx[k], NULL, tn_cols(n->in[0]));
    }
}

const ag_op ag_op_cross_entropy = {.name = "cross_entropy",
                                   .forward = entropy_forward,
                                   .backward = entropy_backward,
                                   .replays = true,
                                   .by_rows = true,
                                   .blind = 1 << 0,
                                   .part = AG_LOSS};

tn_tensor *ag_cross_entropy(ag_tape *t, tn_tensor *x, const ag_score *s, float grad_scale)
{
    score_attr *a = new_attr(t, x, s);
    bool keep = t->record && (x->wants_grad || s->head.trained);
    assert(!s->other.x || s->smoothing == 0.0f);
    if (!a) return x;
    a->scale = keep ? grad_scale : 0.0f;
    a->logprob = s->logprob ? s->logprob : ag_meta(t, (size_t)(a->n + 1) * sizeof *a->logprob);
    if (s->smoothing > 0 && !s->smooth) {
        a->s.smooth = ag_meta(t, (size_t)(a->n + 1) * sizeof *a->s.smooth);
        if (!a->s.smooth) return x;
    }
    return ag_call_kept(t, &ag_op_cross_entropy, a->logprob ? ag_new(t, 1, 1) : NULL, a, 1, &x,
                        keep);
}

/* --- log-probabilities ------------------------------------------------------------------------------------- */
static void logprob_forward(ag_tape *t, ag_node *n)
{
    score_attr *a = n->attr;
    a->logprob = tn_f32(n->out);
    run_chunks(t, a, n->in[0]);
    if (t->dry) return;
    const size_t bytes = (size_t)a->n * sizeof *a->logprob;
    if (a->s.logprob) memcpy(a->s.logprob, a->logprob, bytes);
    if (a->s.other.x) memcpy(a->logprob + a->n, a->apart, bytes);
}

static void logprob_backward(ag_tape *t, ag_node *n)
{
    const score_attr *a = n->attr;
    const float *weight = n->out->grad;
    int64_t cols = tn_cols(n->in[0]);
    float *dx = ag_grad(t, n->in[0]);
    for (int64_t k = 0; k < a->chunks && t->status == FT_OK; k++) {
        int64_t first = a->start[k];
        bool taken = a->scale != 0.0f, two = a->s.other.x != NULL;
        const factors f = {.own = -1.0f,
                           .own_of = weight + first,
                           .other = two ? 1.0f : 0.0f,
                           .other_of = two ? weight + a->n + first : NULL};
        float *part = taken ? a->dx[k] : run_chunk(t, a, n->in[0], k, &f);
        if (dx && part) give_chunk(t, a, dx, k, part, taken ? weight + first : NULL, cols);
    }
}

const ag_op ag_op_logprob = {.name = "logprob",
                             .forward = logprob_forward,
                             .backward = logprob_backward,
                             .replays = true,
                             .by_rows = true,
                             .part = AG_LOSS};

tn_tensor *ag_logprob(ag_tape *t, tn_tensor *x, const ag_score *s)
{
    score_attr *a = new_attr(t, x, s);
    bool keep = t->record && (x->wants_grad || s->head.trained);
    assert(s->smoothing == 0.0f);
    if (!a) return x;
    a->scale = keep && !s->head.trained && !s->other.x ? -1.0f : 0.0f;
    tn_tensor *out = s->other.x ? ag_new(t, 2, a->n) : ag_new(t, a->n, 1);
    return ag_call_kept(t, &ag_op_logprob, out, a, 1, &x, keep);
}
