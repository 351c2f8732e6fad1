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

static ft_status measure(train_session *s, int steps, train_bench_result *r)
{
    train_seconds spent = {0}, warm = {0};
    FT_TRY(train_prepare(s));
    FT_TRY(train_step(s, &warm));
    int64_t before = s->state.tokens;
    double t0 = ft_seconds();
    for (int i = 0; i < steps; i++) {
        FT_TRY(train_step(s, &spent));
        train_show_step(s, (ft_seconds() - t0) / (i + 1));
    }
    double seconds = ft_seconds() - t0, tokens = (double)(s->state.tokens - before);
    *r = (train_bench_result){
        .steps = steps,
        .tokens_per_s = tokens / seconds,
        .tokens_per_step = tokens / steps,
        .data = spent.data / steps,
        .forward = spent.forward / steps,
        .backward = spent.backward / steps,
        .optimizer = spent.optimizer / steps,
        .flop_per_token = flop_per_token(s),
        .planned_bytes = s->plan.total,
        .peak_rss_bytes = ft_peak_rss(),
        .trainable = s->plan.trainable_count,
        .micro_tokens = s->plan.micro_tokens,
    };
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
