/* evaluate.c – the mean loss of every evaluation source: no dropout, no tape, batches of about MICRO_TOKENS.
 *
 * Losses are added in the order of samples and tokens, so the figure does not depend on how they are batched. */
#include "train_private.h"

#include <math.h>
#include <string.h>

/* Samples from `first` on that fill a batch; at least one. "concat" sets are taken one by one, so that an evaluated
 * sample never depends on its neighbours. */
static int batch_size(const train_session *s, int64_t first, int64_t end)
{
    data_sample d;
    int64_t tokens = 0, n = 0;
    if (cJSON_IsString(s->cfg.data.packing)) return 1;
    for (; first + n < end && n < MICRO_TOKENS; n++) {
        data_get(s->eval, first + n, &d);
        tokens += d.len;
        if (tokens > MICRO_TOKENS) break;
    }
    return n > 0 ? (int)n : 1;
}

static ft_status evaluate_source(train_session *s, int source, obj_stats *stats, arena *mem)
{
    const data_source_stats *info = data_stats(s->eval, source);
    int64_t end = info->first + info->samples;
    for (int64_t first = info->first; first < end;) {
        int n = batch_size(s, first, end);
        size_t mark = arena_mark(mem);
        data_batch b;
        nn_run r;
        FT_TRY(train_stop(s));
        int64_t *samples = arena_get(mem, (size_t)n * sizeof *samples);
        if (!samples) return FT_EMEM;
        for (int i = 0; i < n; i++) samples[i] = first + i;
        FT_TRY(data_batch_make(s->eval, samples, NULL, n, 0, &b, mem));
        train_bind(s->tape, s->pe, &r, &b, 0, TRAIN_EVAL);
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
