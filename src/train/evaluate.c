/* evaluate.c – the mean loss of every evaluation source: no dropout, no backward, batches of about
 * MICRO_TOKENS.
 *
 * Losses are added in the order of samples and tokens, so the figure does not depend on how they are batched. Products are
 * in f32 whatever the steps' precision: a model is judged exactly, here as by `ft eval`. Rounding the weights of a fully
 * trained SmolLM2 to bf16 moves its loss by 0.6 %, more than two such runs differ by. */
#include "train_private.h"

#include <math.h>
#include <string.h>

/* Samples from `first` on that fill a batch, at least one; as many as a step of training has where the objective looks at
 * them together. "concat" sets are taken one by one, so that an evaluated sample never depends on its neighbours. */
static ft_status take(const train_session *s, int64_t first, int64_t end, obj_step *step,
                      arena *mem)
{
    bool together = s->cfg.objective->prepare != NULL;
    int64_t tokens = 0, most = together ? s->cfg.train.batch_size : MICRO_TOKENS;
    *step = (obj_step){
        .step = -1,
        .sample = arena_get(mem, (size_t)most * sizeof *step->sample),
        .split = {.micro_tokens = MICRO_TOKENS, .virtual_rows = nn_virtual(&s->pe->over)}};
    if (!step->sample) return FT_EMEM;
    for (; first + step->n < end && step->n < most; step->n++) {
        if (step->n && cJSON_IsString(s->cfg.data.packing)) break;
        FT_TRY(data_get(s->eval, first + step->n, &step->sample[step->n], mem));
        tokens += step->sample[step->n].len;
        if (step->n && !together && tokens > MICRO_TOKENS) break;
    }
    return FT_OK;
}

static ft_status evaluate_step(train_session *s, obj_step *step, obj_stats *stats, arena *mem)
{
    data_step plan;
    const obj_objective *row = s->cfg.objective;
    train_pass pass = {.over = &s->pe->over, .stats = stats};
    if (row->prepare) FT_TRY(row->prepare(&s->objective, step));
    FT_TRY(data_step_plan(step->sample, step->n, &step->split, &plan, mem));
    pass.sample = step->sample;
    for (int i = 0; i < plan.n_micro; i++) FT_TRY(train_micro(s, &pass, &plan.micro[i]));
    return FT_OK;
}

static ft_status evaluate_source(train_session *s, int source, obj_stats *stats, arena *mem)
{
    const data_source_stats *info = data_stats(s->eval, source);
    int64_t end = info->first + info->samples;
    for (int64_t first = info->first; first < end;) {
        size_t mark = arena_mark(mem);
        obj_step step;
        FT_TRY(train_stop());
        FT_TRY(take(s, first, end, &step, mem));
        first += step.n;
        FT_TRY(evaluate_step(s, &step, stats, mem));
        arena_reset(mem, mark);
        log_progress("evaluating %s: %lld of %lld samples%s", info->name,
                     (long long)(first - info->first), (long long)info->samples,
                     train_left_text(s));
    }
    return FT_OK;
}

static ft_status evaluate(train_session *s, train_eval *out, arena *mem)
{
    ft_status rc = FT_OK;
    int n = s->state.n_evals, metrics = s->n_own;
    obj_stats all = {0};
    obj_metric *metric = arena_get(mem, (size_t)(metrics + 1) * sizeof *metric);
    *out = (train_eval){0};
    out->loss = arena_get(mem, (size_t)n * sizeof *out->loss);
    out->tokens = arena_get(mem, (size_t)n * sizeof *out->tokens);
    out->metric = arena_get(mem, (size_t)(metrics + 1) * sizeof *out->metric);
    if (!out->loss || !out->tokens || !out->metric || !metric) return FT_EMEM;
    FT_TRY(train_before_look(s));
    for (int i = 0; i < n && rc == FT_OK; i++) {
        obj_stats stats = {.metric = metric};
        rc = evaluate_source(s, i, &stats, mem);
        out->tokens[i] = stats.tokens;
        out->loss[i] = obj_mean(&stats);
        out->total += stats.tokens;
        all.loss += stats.loss;
        all.units += stats.units;
        all.more.sum += stats.more.sum;
        all.more.weight += stats.more.weight;
    }
    FT_TRY(rc);
    out->mean = obj_mean(&all);
    FT_CHECK(isfinite(out->mean), FT_EDIVERGED, "step %lld: the eval_loss is %s",
             (long long)s->state.step, isnan(out->mean) ? "NaN" : "infinite");
    obj_metric_values(s->cfg.objective, metric, metrics, out->metric);
    return FT_OK;
}

ft_status train_evaluate(train_session *s, train_eval *out, arena *mem)
{
    const kn_precision before = s->tape->precision;
    s->tape->precision = KN_F32;
    const ft_status rc = evaluate(s, out, mem);
    s->tape->precision = before;
    return rc;
}
