/* feed.c – what a method may do outside of a step: passes and updates before step 1 (nn_feed), and what it makes anew when values
 * have changed.
 *
 * A pass is cut and divided as a step is, so what a method learns from it depends neither on threads nor on micro-batches. */
#include "train_private.h"

#include "ft/kernel.h"

#include <string.h>

#define FEED_KEY 0x66656564u /* identity of a pass's random numbers: "feed" */

typedef struct feed {
    train_session *s;
    int64_t passes, updates;
} feed;

/* Sample i of the run's order stands in optimizer step i / batch_size. */
static ft_status take(train_session *s, const int64_t *sample, int n, obj_step *out)
{
    int64_t batch = s->cfg.train.batch_size, at = -1;
    int have = 0;
    data_sample *step = arena_get(s->batch, (size_t)batch * sizeof *step);
    out->sample = arena_get(s->batch, (size_t)n * sizeof *out->sample);
    if (!step || !out->sample) return FT_EMEM;
    for (int i = 0; i < n; i++) {
        FT_CHECK(sample[i] >= 0 && sample[i] < data_epoch_length(s->train), FT_EINTERNAL,
                 "sample %lld of an epoch of %lld", (long long)sample[i],
                 (long long)data_epoch_length(s->train));
        if (sample[i] / batch != at) {
            at = sample[i] / batch;
            FT_TRY(
                data_take(s->train, (uint64_t)s->cfg.train.seed, at, batch, step, &have, s->batch));
        }
        out->sample[out->n++] = step[sample[i] % batch];
    }
    return FT_OK;
}

static ft_status run(feed *f, const int64_t *sample, int n, const nn_overlay *over, bool gradients,
                     double *loss)
{
    train_session *s = f->s;
    obj_step step = {.step = -1, .split = train_split(s, over)};
    data_step plan;
    obj_stats stats = {.metric =
                           arena_get(s->batch, (size_t)(s->n_own + 1) * sizeof *stats.metric)};
    if (!stats.metric) return FT_EMEM;
    FT_TRY(take(s, sample, n, &step));
    FT_TRY(train_cut(s, &step, &plan));
    train_pass pass = {.sample = step.sample,
                       .over = over,
                       .how = gradients ? train_recording(s) : 0,
                       .key = rng_key((uint64_t)s->cfg.train.seed, FEED_KEY, (uint64_t)f->passes++),
                       .units = gradients ? step.units : 0,
                       .stats = &stats};
    FT_TRY(pe_keep_make(s->pe));
    pe_qat_ready(s->pe->qat, 1, false);
    if (gradients) nn_store_begin(&s->pe->store);
    for (int i = 0; i < plan.n_micro; i++) FT_TRY(train_micro(s, &pass, &plan.micro[i]));
    if (gradients) FT_TRY(pe_finish(s->pe));
    if (loss) *loss = obj_mean(&stats);
    return FT_OK;
}

static ft_status feed_pass(const nn_feed *f, const int64_t *sample, int n, const nn_overlay *over,
                           bool gradients, double *loss)
{
    feed *own = f->ctx;
    size_t mark = arena_mark(own->s->batch);
    ft_status rc = run(own, sample, n, over, gradients, loss);
    arena_reset(own->s->batch, mark);
    return rc;
}

static ft_status feed_update(const nn_feed *f, double rate)
{
    feed *own = f->ctx;
    double norm;
    FT_TRY(opt_grad_norm(own->s->optimizer, 0, &norm));
    opt_update(own->s->optimizer, rate, ++own->updates, norm);
    return FT_OK;
}

ft_status train_prepare(train_session *s)
{
    const pe_method *method = s->cfg.method;
    feed own = {.s = s};
    if (!method->prepare || s->state.step > 0) return FT_OK;
    arena_reset(s->batch, 0);
    FT_TRY(method->prepare(s->pe, &(nn_feed){.samples = data_epoch_length(s->train),
                                             .batch_size = s->cfg.train.batch_size,
                                             .steps = s->total_steps,
                                             .learning_rate = s->cfg.optim->learning_rate,
                                             .pass = feed_pass,
                                             .update = feed_update,
                                             .ctx = &own}));
    opt_forget(s->optimizer);
    return FT_OK;
}

ft_status train_before_step(train_session *s)
{
    return pe_before_step(s->pe, s->state.step + 1);
}

ft_status train_before_look(train_session *s)
{
    FT_TRY(train_before_step(s));
    pe_qat_ready(s->pe->qat, s->state.step + 1, true);
    return FT_OK;
}
