/* score.c – the pass over ragged sequences that everything shares which reads probabilities.
 *
 * Sequences are packed one after another without padding; a token attends to its own sequence only and the
 * kernels give every row the same bits whatever else is in the call, so batching is free of consequences. */
#include <math.h>
#include <string.h>

#include "infer_private.h"

double inf_lse(const float *logits, int64_t n)
{
    float top = logits[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > top) top = logits[i];
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - (double)top);
    return (double)top + log(sum);
}

ft_status inf_check_ids(const inf_ctx *c, const int32_t *id, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        FT_CHECK(id[i] >= 0 && id[i] < c->m->d.vocab_size, FT_EDATA,
                 "token id %d is outside the model's vocabulary of %lld", (int)id[i],
                 (long long)c->m->d.vocab_size);
    return FT_OK;
}

ft_status inf_go_on(void)
{
    FT_TRY(ft_stop());
    FT_CHECK(ft_stop_asked() == FT_OK, FT_ETIME, "stopped by the time limit");
    return FT_OK;
}

ft_status inf_hidden(const inf_ctx *c, const int32_t *id, int64_t n, nn_run *run,
                     tn_tensor **hidden)
{
    FT_TRY(inf_check_ids(c, id, n));
    ag_reset(c->tape);
    int32_t *pos = ag_meta(c->tape, (size_t)n * sizeof *pos);
    int32_t *len = ag_meta(c->tape, sizeof *len);
    if (!pos || !len) return c->tape->status;
    for (int64_t i = 0; i < n; i++) pos[i] = (int32_t)i;
    *len = (int32_t)n;
    nn_batch b = {.n_seq = 1, .len = len, .tokens = n, .ids = id, .pos = pos};
    FT_TRY(nn_run_open(run, c->tape, &b, c->over, 0));
    *hidden = model_hidden(c->m, run);
    return c->tape->status;
}

/* Tokens of a sequence of which something is wanted. */
static int64_t seq_scored(const inf_seq *s)
{
    return (s->logprob || s->best) && s->from < s->n ? s->n - s->from : 0;
}

/* Rows a sequence takes in a pass: its last token is an input only when its logits are wanted. */
static int64_t seq_rows(const inf_seq *s)
{
    if (s->logits) return s->n;
    return seq_scored(s) ? s->n - 1 : 0;
}

typedef struct pass {
    int32_t *ids, *pos, *label, *len, *best;
    int64_t *last; /* rows whose logits are wanted */
    float *logprob;
    int64_t rows, scored, wanted;
    int n_seq;
} pass;

static ft_status make_pass(const inf_ctx *c, pass *p, const inf_seq *seq, int64_t n)
{
    ag_tape *t = c->tape;
    *p = (pass){0};
    for (int64_t i = 0; i < n; i++) p->rows += seq_rows(&seq[i]);
    size_t rows = (size_t)p->rows;
    ag_reset(t);
    p->ids = ag_meta(t, rows * sizeof *p->ids);
    p->pos = ag_meta(t, rows * sizeof *p->pos);
    p->label = ag_meta(t, rows * sizeof *p->label);
    p->best = ag_meta(t, rows * sizeof *p->best);
    p->logprob = ag_meta(t, rows * sizeof *p->logprob);
    p->len = ag_meta(t, (size_t)n * sizeof *p->len);
    p->last = ag_meta(t, (size_t)n * sizeof *p->last);
    FT_TRY(t->status);
    int64_t row = 0;
    for (int64_t i = 0; i < n; i++) {
        const inf_seq *s = &seq[i];
        int64_t k = seq_rows(s), first = s->n - seq_scored(s);
        if (k == 0) continue;
        FT_TRY(inf_check_ids(c, s->id, s->n));
        for (int64_t j = 0; j < k; j++, row++) {
            bool scored = j + 1 < s->n && j + 1 >= first;
            p->ids[row] = s->id[j];
            p->pos[row] = (int32_t)j;
            p->label[row] = scored ? s->id[j + 1] : -100;
            p->scored += scored;
        }
        p->len[p->n_seq++] = (int32_t)k;
        if (s->logits) p->last[p->wanted++] = row - 1;
    }
    return FT_OK;
}

/* The pass is made again over this sequence alone, to find where it begins. */
static ft_status name_nonfinite(const inf_ctx *c, const inf_seq *s, int64_t token)
{
    str_buf where = {0};
    int32_t len = (int32_t)(s->n > 1 ? s->n - 1 : 1), *pos = ft_alloc((size_t)len, sizeof *pos);
    if (!pos) return FT_EMEM;
    for (int32_t i = 0; i < len; i++) pos[i] = i;
    nn_batch b = {.n_seq = 1, .len = &len, .tokens = len, .ids = s->id, .pos = pos};
    ft_status rc = inf_find_nonfinite(c, &b, &where);
    if (rc == FT_OK)
        rc = ft_fail(FT_EDIVERGED, "the log-probability of token %lld is not a finite number: %s",
                     (long long)token, where.data);
    ft_free(pos);
    str_free(&where);
    return rc;
}

static ft_status take_results(const inf_ctx *c, const pass *p, nn_run *r, tn_tensor *hidden,
                              inf_seq *seq, int64_t n)
{
    const float *logprob = p->logprob;
    const int32_t *best = p->best;
    int64_t wanted = 0;
    for (int64_t i = 0; i < n; i++) {
        inf_seq *s = &seq[i];
        int64_t k = seq_scored(s);
        if (k > 0) {
            if (s->logprob) memcpy(s->logprob, logprob, (size_t)k * sizeof *logprob);
            if (s->best) memcpy(s->best, best, (size_t)k * sizeof *best);
            int64_t bad = kn_find_nonfinite(logprob, k);
            if (bad >= 0) return name_nonfinite(c, s, s->from + bad);
            logprob += k;
            best += k;
        }
        if (s->logits)
            FT_TRY(model_logits(c->m, r, hidden, &p->last[wanted++], 1, s->logits, false));
    }
    return FT_OK;
}

static ft_status run_pass(const inf_ctx *c, inf_seq *seq, int64_t n)
{
    pass p;
    nn_run r;
    FT_TRY(make_pass(c, &p, seq, n));
    if (p.rows == 0) return FT_OK;
    nn_batch b = {.n_seq = p.n_seq,
                  .len = p.len,
                  .tokens = p.rows,
                  .ids = p.ids,
                  .pos = p.pos,
                  .label = p.label};
    FT_TRY(nn_run_open(&r, c->tape, &b, c->over, 0));
    tn_tensor *hidden = model_hidden(c->m, &r);
    FT_TRY(c->tape->status);
    if (p.scored > 0) {
        model_loss(c->m, &r, hidden, 0.0f, p.logprob, p.best);
        FT_TRY(c->tape->status);
    }
    return take_results(c, &p, &r, hidden, seq, n);
}

/* How many of the sequences go into the next pass. */
static int64_t fill_pass(const inf_ctx *c, const inf_seq *seq, int64_t n)
{
    int64_t end = 0, rows = 0;
    while (end < n && (end == 0 || rows + seq_rows(&seq[end]) <= INF_PASS_TOKENS))
        rows += seq_rows(&seq[end++]) + nn_virtual(c->over);
    return end;
}

/* The largest of the passes, in each way. */
static void add_shape(inf_shape *s, const inf_seq *seq, int64_t n)
{
    int64_t rows = 0, scored = 0, seqs = 0;
    for (int64_t i = 0; i < n; i++) {
        rows += seq_rows(&seq[i]);
        scored += seq_scored(&seq[i]);
        seqs += seq_rows(&seq[i]) > 0;
        if (seq[i].logits) s->wanted = 1;
    }
    if (rows > s->rows) s->rows = rows;
    if (scored > s->scored) s->scored = scored;
    if (seqs > s->seqs) s->seqs = seqs;
}

static ft_status plan(const inf_ctx *c, const inf_seq *seq, int64_t n)
{
    inf_shape s = {0};
    if (!c->plan) return FT_OK;
    for (int64_t first = 0, k; first < n; first += k) {
        k = fill_pass(c, seq + first, n - first);
        add_shape(&s, seq + first, k);
    }
    for (int64_t i = 0; i < n; i++)
        if (seq[i].logits) s.buffers += (size_t)c->m->d.vocab_size * sizeof(float);
    return inf_plan_for(c, &s);
}

ft_status inf_score(const inf_ctx *c, inf_seq *seq, int64_t n)
{
    FT_TRY(plan(c, seq, n));
    for (int64_t first = 0; first < n;) {
        int64_t end = first + fill_pass(c, seq + first, n - first);
        FT_TRY(inf_go_on());
        FT_TRY(run_pass(c, seq + first, end - first));
        first = end;
    }
    return FT_OK;
}
