/* loop.c – optimizer steps: order, micro-batches, accumulation, update; and around them evaluation, logs and checkpoints.
 *
 * The loss of a step is the sum over its units (tokens, samples) divided by their number, which is known before the first
 * micro-batch; so how a step is cut never changes it. A step that is interrupted is dropped whole: nothing of the state
 * changes before its update, and the same step runs again on resume. */
#include "train_private.h"

#include "ft/kernel.h"

#include <math.h>
#include <string.h>

#define STEP_KEY 0x73746570u /* identity of an optimizer step's random numbers: "step" */

/* --- the samples of a step ----------------------------------------------------------------------------------- */
/* Batch `at` of the run. One that goes on where an epoch ends is drawn sample by sample. */
static ft_status draw(train_session *s, int64_t at, obj_step *step)
{
    const uint64_t seed = (uint64_t)s->cfg.train.seed;
    int one;
    if (!s->objective.unbroken)
        return data_take(s->train, seed, at, s->drawn, step->sample, &step->n, s->batch);
    for (; step->n < s->drawn; step->n++)
        FT_TRY(data_take(s->train, seed, at * s->drawn + step->n, 1, &step->sample[step->n], &one,
                         s->batch));
    return FT_OK;
}

/* Draws the samples, lets the objective look at all of them, and cuts the step. */
static ft_status take_step(train_session *s, obj_step *step, data_step *plan)
{
    int64_t at = s->state.step;
    *step = (obj_step){.step = at,
                       .turn = at % s->reuse,
                       .sample = arena_get(s->batch, (size_t)s->drawn * sizeof *step->sample),
                       .split = train_split(s, &s->pe->over)};
    if (!step->sample) return FT_EMEM;
    FT_TRY(draw(s, at / s->reuse, step));
    FT_TRY(train_cut(s, step, plan));
    for (int i = 0; i < step->n; i++)
        s->state.step_sources[step->sample[i].source] += step->sample[i].len;
    return FT_OK;
}

/* --- one optimizer step ------------------------------------------------------------------------------------------ */
/* Gradients of all micro-batches, and the sums over the step. */
static ft_status accumulate(train_session *s, obj_stats *stats, train_record *rec,
                            train_seconds *spent)
{
    double t0 = ft_seconds();
    obj_step step;
    data_step plan;
    FT_TRY(take_step(s, &step, &plan));
    spent->data += ft_seconds() - t0;
    train_pass pass = {.sample = step.sample,
                       .over = &s->pe->over,
                       .how = train_recording(s),
                       .key =
                           rng_key((uint64_t)s->cfg.train.seed, STEP_KEY, (uint64_t)s->state.step),
                       .units = step.units,
                       .stats = stats};
    t0 = ft_seconds();
    nn_store_begin(&s->pe->store);
    spent->optimizer += ft_seconds() - t0;
    for (int i = 0; i < plan.n_micro; i++) FT_TRY(train_micro(s, &pass, &plan.micro[i]));
    t0 = ft_seconds();
    FT_TRY(pe_finish(s->pe));
    spent->optimizer += ft_seconds() - t0;
    double counted = s->cfg.objective->unit == OBJ_TOKENS ? (double)plan.supervised : step.n;
    FT_CHECK(stats->units == counted, FT_EINTERNAL,
             "step %lld: %.0f units were planned, %.0f were seen", (long long)rec->step, counted,
             stats->units);
    spent->data += pass.spent.data;
    spent->forward += pass.spent.forward;
    spent->backward += pass.spent.backward;
    rec->tokens = pass.tokens;
    rec->supervised = stats->tokens;
    rec->loss = obj_mean(stats);
    return FT_OK;
}

/* From whole gradients to new values, with the method's say before, between and after. */
static ft_status update(train_session *s, train_record *rec)
{
    const pe_method *method = s->cfg.method;
    const obj_objective *objective = s->cfg.objective;
    double own = method->gradients ? method->gradients(s->pe) : 0;
    FT_CHECK(isfinite(own), FT_EDIVERGED,
             "step %lld: what %s adds to the loss is %s; stopped before the update",
             (long long)rec->step, method->name, isnan(own) ? "NaN" : "infinite");
    FT_TRY(opt_grad_norm(s->optimizer, rec->step, &rec->grad_norm));
    if (method->transform) method->transform(s->pe);
    rec->rate = opt_rate_at(s->optimizer, s->state.step);
    opt_step(s->optimizer, s->state.step, rec->grad_norm);
    pe_update done = {.step = rec->step,
                      .steps = s->total_steps,
                      .rate = rec->rate,
                      .norm = rec->grad_norm,
                      .gscale = opt_clip(s->cfg.optim, rec->grad_norm)};
    FT_TRY(pe_after_update(s->pe, &done));
    FT_TRY(train_log_artifact(s));
    return objective->after_update ? objective->after_update(&s->objective, s->state.step) : FT_OK;
}

/* The fields of log.jsonl that objective and method add. */
static void take_metrics(train_session *s, const obj_stats *stats)
{
    const int own = s->n_own;
    obj_metric_values(s->cfg.objective, stats->metric, own, s->state.metric);
    for (int i = own; i < s->state.n_metrics; i++) s->state.metric[i] = s->pe->metric[i - own];
}

ft_status train_step(train_session *s, train_seconds *spent)
{
    train_state *st = &s->state;
    train_record rec = {.step = st->step + 1};

    arena_reset(s->batch, 0);
    memset(st->step_sources, 0, (size_t)st->n_sources * sizeof *st->step_sources);
    obj_stats stats = {.metric =
                           arena_get(s->batch, (size_t)(st->n_metrics + 1) * sizeof *stats.metric)};
    if (!stats.metric) return FT_EMEM;
    for (int i = 0; i < PE_MAX_METRICS; i++) s->pe->metric[i] = (double)NAN;
    FT_TRY(train_before_step(s));
    FT_TRY(accumulate(s, &stats, &rec, spent));
    double t0 = ft_seconds();
    FT_CHECK(isfinite((float)rec.loss), FT_EDIVERGED, "step %lld: the loss is infinite",
             (long long)rec.step);
    FT_TRY(update(s, &rec));
    spent->optimizer += ft_seconds() - t0;
    st->step = rec.step;
    st->rates = train_rates_add(st->rates, rec.rate);
    st->tokens += rec.tokens;
    st->supervised += rec.supervised;
    for (int i = 0; i < st->n_sources; i++) st->source_tokens[i] += st->step_sources[i];
    take_metrics(s, &stats);
    if (rec.step == 1) st->first_loss = rec.loss;
    st->last_loss = rec.loss;
    st->record = rec;
    st->pending = true;
    return FT_OK;
}

/* --- what follows a step --------------------------------------------------------------------------------------------- */
typedef struct loop_clock {
    double step_seconds; /* since the last logged step */
    int64_t step_tokens;
    double checkpoint_at;         /* clock of the newest checkpoint, or of the start */
    double fail_first, fail_last; /* clock of failed attempts to write one; 0: none */
    int fails;
    bool best; /* the values at hand are the best ones so far and must be kept */
} loop_clock;

static void note_eval(train_session *s, const train_eval *e, loop_clock *c)
{
    train_state *st = &s->state;
    memcpy(st->eval_last, e->loss, (size_t)st->n_evals * sizeof *e->loss);
    if (isnan(st->best_loss) || e->mean < st->best_loss) {
        st->best_loss = e->mean;
        st->best_step = st->step;
        st->bad_evals = 0;
        c->best = s->cfg.train.keep_best;
        return;
    }
    st->bad_evals++;
    if (s->cfg.train.patience > 0 && st->bad_evals >= s->cfg.train.patience) {
        log_info("step %lld: %lld evaluations without gain: stopped early", (long long)st->step,
                 (long long)st->bad_evals);
        st->finished = true;
    }
}

/* Evaluates, logs and counts the pending step. A stop during the evaluation leaves it pending. */
static ft_status finish_step(train_session *s, loop_clock *c)
{
    train_state *st = &s->state;
    const loop_cfg *t = &s->cfg.train;
    train_eval eval = {0};
    bool last = st->step >= s->total_steps;
    bool point = last || (t->eval_every > 0 && st->step % t->eval_every == 0);
    bool due = s->eval && point;
    arena_reset(s->batch, 0);
    if (due) FT_TRY(train_evaluate(s, &eval, s->batch));
    if (point) FT_TRY(train_samples_take(s));
    if (due) {
        note_eval(s, &eval, c);
    }
    if (due || last || st->step % t->log_every == 0) {
        FT_TRY(train_log_step(s, due ? &eval : NULL, c->step_seconds, c->step_tokens));
        c->step_seconds = 0;
        c->step_tokens = 0;
    }
    if (last) st->finished = true;
    st->pending = false;
    return FT_OK;
}

/* A disk that is full may have room again: a failed checkpoint is tried again while training goes on, and given up after
 * three more attempts over a minute. Values that are the best so far, or the last, are gone after the next step: the saving
 * itself waits for those. */
static bool must_save_now(const train_session *s, const loop_clock *c)
{
    return c->best || s->state.finished;
}

static ft_status save_failed(train_session *s, loop_clock *c, ft_status rc)
{
    double now = ft_seconds();
    if (rc != FT_EIO || must_save_now(s, c)) return rc;
    if (c->fails++ == 0) c->fail_first = now;
    c->fail_last = now;
    if (c->fails > FILE_RETRIES && now - c->fail_first >= FILE_RETRIES * file_retry_seconds())
        return rc;
    log_warn("step %lld: the checkpoint could not be written (%s); trying again in %.0f s",
             (long long)s->state.step, ft_error(), file_retry_seconds());
    return FT_OK;
}

static ft_status checkpoint_if_due(train_session *s, loop_clock *c)
{
    const loop_cfg *t = &s->cfg.train;
    double now = ft_seconds();
    int64_t step = s->state.step;
    bool due =
        t->checkpoint_every > 0 ? step % t->checkpoint_every == 0 : now - c->checkpoint_at >= 600;
    if (s->state.finished && s->saved_step >= 0) due = true;
    if (c->fails > 0) due = now - c->fail_last >= file_retry_seconds();
    if (s->saved_step == step) c->best = due = false; /* before its evaluation */
    if (!due && !c->best) return FT_OK;
    ft_status rc = train_checkpoint_save(s, must_save_now(s, c));
    if (rc != FT_OK) return save_failed(s, c, rc);
    c->checkpoint_at = ft_seconds();
    c->fails = 0;
    c->best = false;
    return FT_OK;
}

ft_status train_save_and_stop(train_session *s, ft_status why)
{
    const char *name = train_stop_name(why);
    const int64_t step = s->state.step, from = s->resumed_from < 0 ? 0 : s->resumed_from;
    /* with such a limit the next part gets no further either */
    const char *idle = why == FT_ETIME && step == from
                           ? " (loading counts: this part had no time for a step; raise it)"
                           : "";
    if (step == 0)
        return ft_fail(why, "stopped by %s before the first step%s; start again with: %s", name,
                       idle, s->command);
    if (s->saved_step != step) FT_TRY(train_checkpoint_save(s, true));
    return ft_fail(why, "stopped by %s after step %lld of %lld, saved%s; go on with: %s", name,
                   (long long)step, (long long)s->total_steps, idle, s->command);
}

/* The losses before step 1: a line of the log, and what the summary's changes count from. */
static ft_status first_evaluation(train_session *s)
{
    train_eval eval;
    train_state *st = &s->state;
    if (!s->cfg.train.eval_on_start || st->step > 0) return FT_OK;
    arena_reset(s->batch, 0);
    if (s->eval) FT_TRY(train_evaluate(s, &eval, s->batch));
    FT_TRY(train_samples_take(s));
    if (!s->eval) return FT_OK;
    FT_TRY(train_log_first(s, &eval));
    memcpy(st->eval_first, eval.loss, (size_t)st->n_evals * sizeof *eval.loss);
    return FT_OK;
}

/* The last step is saved as it was before its evaluation, which a longer run would not have made: with more steps it is the
 * checkpoint that such a run would have left. */
static ft_status save_last(train_session *s)
{
    if (s->state.step < s->total_steps || s->saved_step == s->state.step) return FT_OK;
    return train_checkpoint_save(s, true);
}

static ft_status steps(train_session *s, loop_clock *c)
{
    train_state *st = &s->state;
    FT_TRY(train_prepare(s));
    FT_TRY(first_evaluation(s));
    if (st->pending) {
        FT_TRY(finish_step(s, c));
        FT_TRY(checkpoint_if_due(s, c));
    }
    while (!st->finished && st->step < s->total_steps) {
        train_seconds spent = {0};
        double t0 = ft_seconds();
        FT_TRY(train_stop());
        FT_TRY(train_step(s, &spent));
        c->step_seconds += ft_seconds() - t0;
        c->step_tokens += st->record.tokens;
        s->step_seconds += ft_seconds() - t0;
        s->part_tokens += st->record.tokens;
        train_show_step(s, ft_seconds() - t0);
        FT_TRY(save_last(s));
        FT_TRY(finish_step(s, c));
        FT_TRY(checkpoint_if_due(s, c));
    }
    return FT_OK;
}

ft_status train_loop(train_session *s)
{
    enum { SAVING = 15 }; /* seconds: a step under way ends, and the state is saved */
    loop_clock clock = {.checkpoint_at = ft_seconds()};
    ft_stop_allow(SAVING);
    ft_status rc = steps(s, &clock);
    if (rc == FT_ESIGNAL || rc == FT_ETIME) return train_save_and_stop(s, rc);
    return rc;
}
