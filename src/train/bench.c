/* bench.c – steps of a config against the clock, and the arithmetic they stand for.
 *
 * Floating-point operations a token, counted as useful products only (two a multiply-add):
 *   blocks   N weights that a token is multiplied with in the layers (of experts: those it is sent to): 2N forward, 2N for
 *            the gradient of the inputs; 2N more for the gradient of the weights where they are trained
 *   head     the same over V·C, at supervised positions only
 *   adapter  6 a trainable value (forward, gradients of input and of value)
 *   virtual  rows before each sequence take part in blocks and attention as tokens do
 *   besides  what a part does without weights (attention: 4·H·d a pair of tokens that see each other), twice that backward
 * so LoRA costs about 4N, full training 6N. */
#include "train_private.h"

#include <string.h>

/* The matrices themselves are trained. */
static bool trains_weights(const train_session *s)
{
    const model *m = s->m;
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *site = &m->site[i];
        if (site->layer >= 0 && !s->pe->over.own[site->w->index]) return false;
    }
    return true;
}

static double flop_per_token(const train_session *s)
{
    const model *m = s->m;
    bool adapter = !trains_weights(s);
    double per_weight = adapter ? 4 : 6, blocks, tokens = 0, supervised = 0, seen = 0, seqs = 0;
    for (int i = 0; i < data_sources(s->train); i++) {
        tokens += (double)data_stats(s->train, i)->tokens;
        supervised += (double)data_stats(s->train, i)->supervised;
        seen += data_stats(s->train, i)->seen;
        seqs += (double)data_stats(s->train, i)->sequences;
    }
    double before = (double)s->plan.virtual_rows, rows = tokens + seqs * before;
    seen += tokens * before + 0.5 * seqs * before * (before + 1);
    double head = (double)m->d.vocab_size * (double)m->d.hidden_size * supervised / tokens;
    double other = model_flop(m, seen / rows, &blocks);
    return per_weight * head + (per_weight * blocks + 3 * other) * rows / tokens +
           (adapter && before == 0 ? 6.0 * (double)s->plan.trainable_count : 0);
}

/* Each kind of matrix once. The head works on a chunk of the labelled rows at a time. */
static void list_shapes(const train_session *s, train_bench_result *r)
{
    enum { CHUNK = 256 };
    for (int64_t i = 0; i < s->m->n_site && r->shapes < TRAIN_BENCH_SHAPES; i++) {
        const nn_site *site = &s->m->site[i];
        const kn_shape now = {.rows = site->role == NN_HEAD && s->plan.micro_tokens > CHUNK
                                          ? CHUNK
                                          : s->plan.micro_tokens,
                              .out = site->out,
                              .in = site->in};
        int k = 0;
        if (site->role < NN_Q) continue;
        while (k < r->shapes && memcmp(&r->shape[k], &now, sizeof now) != 0) k++;
        r->shape[k] = now;
        r->shapes += k == r->shapes;
    }
}

/* Sums of all steps to seconds a step. What the loss took of its gradients counts as backward. */
static void per_step(train_bench_result *r, const train_seconds *spent, const ag_clock *clock)
{
    const double each = 1.0 / r->steps;
    r->data = spent->data * each;
    r->forward = (spent->forward - clock->early) * each;
    r->backward = (spent->backward + clock->early) * each;
    r->optimizer = spent->optimizer * each;
    r->clock = *clock;
    for (int i = 0; i < r->clock.n; i++) {
        r->clock.row[i].forward *= each;
        r->clock.row[i].backward *= each;
    }
}

static ft_status measure(train_session *s, int steps, train_bench_result *r)
{
    train_seconds spent = {0}, warm = {0};
    FT_TRY(train_prepare(s));
    FT_TRY(train_step(s, &warm));
    ag_clock clock = {0};
    int64_t before = s->state.tokens;
    s->tape->clock = &clock;
    double t0 = ft_seconds();
    for (int i = 0; i < steps; i++) {
        FT_TRY(train_step(s, &spent));
        train_show_step(s, (ft_seconds() - t0) / (i + 1));
    }
    s->tape->clock = NULL;
    double seconds = ft_seconds() - t0, tokens = (double)(s->state.tokens - before);
    *r = (train_bench_result){
        .steps = steps,
        .tokens_per_s = tokens / seconds,
        .tokens_per_step = tokens / steps,
        .seconds = seconds / steps,
        .flop_per_token = flop_per_token(s),
        .planned_bytes = s->plan.total,
        .peak_rss_bytes = ft_peak_rss(),
        .trainable = s->plan.trainable_count,
        .micro_tokens = s->plan.micro_tokens,
        .trains_weights = trains_weights(s),
        .precision = s->tape->precision,
    };
    per_step(r, &spent, &clock);
    list_shapes(s, r);
    r->gflops = r->flop_per_token * r->tokens_per_s * 1e-9;
    return FT_OK;
}

static ft_status bench(train_session *s, const train_options *opt, int steps, train_bench_result *r)
{
    FT_TRY(train_session_config(s, opt));
    FT_TRY(train_session_open(s, true, true));
    FT_TRY(train_plan_make(s));
    FT_TRY(train_plan_memory(s));
    FT_TRY(train_session_attach(s));
    train_show_header(s);
    return measure(s, steps, r);
}

ft_status train_bench(const train_options *opt, int steps, train_bench_result *result)
{
    train_session s;
    train_options o = *opt;
    o.out = ""; /* nothing is written */
    ft_status rc = bench(&s, &o, steps, result);
    train_session_close(&s);
    return rc;
}
