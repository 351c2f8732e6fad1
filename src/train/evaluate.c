/* evaluate.c – the mean loss of every evaluation source: no dropout, no tape, batches of about MICRO_TOKENS.
 *
 * Losses are added in the order of samples and tokens, so the figure does not depend on how they are batched. */
#include "train_private.h"

#include <math.h>
#include <string.h>

/* Samples from `first` on that fill a batch; at least one. "concat" sets are taken one by one, so that an evaluated
 * sample never depends on its neighbours. */
static ft_status take(const train_session *s, int64_t first, int64_t end, data_sample *out, int *n,
                      arena *mem)
{
    int64_t tokens = 0;
    for (*n = 0; first + *n < end && *n < MICRO_TOKENS; ++*n) {
        if (*n && cJSON_IsString(s->cfg.data.packing)) break;
        FT_TRY(data_get(s->eval, first + *n, &out[*n], mem));
        tokens += out[*n].len;
        if (*n && tokens > MICRO_TOKENS) break;
    }
    return FT_OK;
}

static ft_status evaluate_source(train_session *s, int source, obj_stats *stats, arena *mem)
{
    static const data_split whole = {0};
    const data_source_stats *info = data_stats(s->eval, source);
    int64_t end = info->first + info->samples;
    for (int64_t first = info->first; first < end;) {
        size_t mark = arena_mark(mem);
        data_sample *samples = arena_get(mem, MICRO_TOKENS * sizeof *samples);
        data_step step;
        data_batch b;
        nn_run r;
        int n;
        FT_TRY(train_stop(s));
        if (!samples) return FT_EMEM;
        FT_TRY(take(s, first, end, samples, &n, mem));
        FT_TRY(data_step_plan(samples, n, &whole, &step, mem));
        FT_TRY(data_batch_make(samples, &step.micro[0], 0, &b, mem));
        ag_reset(s->tape);
        FT_TRY(nn_run_open(&r, s->tape, &b.in, &s->pe->over, 0));
        s->cfg.objective->loss(s->cfg.objective_cfg, s->m, &r, &b, 0, stats);
        FT_TRY(s->tape->status);
        arena_reset(mem, mark);
        first += n;
        log_progress("evaluating %s: %lld of %lld samples", info->name,
                     (long long)(first - info->first), (long long)info->samples);
    }
    return FT_OK;
}

ft_status train_evaluate(train_session *s, train_eval *out, arena *mem)
{
    ft_status rc = FT_OK;
    int n = s->state.n_evals;
    double sum = 0;
    *out = (train_eval){0};
    out->loss = arena_get(mem, (size_t)n * sizeof *out->loss);
    out->tokens = arena_get(mem, (size_t)n * sizeof *out->tokens);
    if (!out->loss || !out->tokens) return FT_EMEM;
    for (int i = 0; i < n && rc == FT_OK; i++) {
        obj_stats stats = {0};
        rc = evaluate_source(s, i, &stats, mem);
        out->tokens[i] = stats.tokens;
        out->loss[i] = stats.loss_sum / (double)stats.tokens;
        out->total += stats.tokens;
        sum += stats.loss_sum;
    }
    FT_TRY(rc);
    out->mean = sum / (double)out->total;
    FT_CHECK(isfinite(out->mean), FT_EDIVERGED,
             "step %lld: the eval_loss is %s: the trained values or the base model hold what is no "
             "number",
             (long long)s->state.step, isnan(out->mean) ? "NaN" : "infinite");
    return FT_OK;
}
