/* pass.c – micro-batches, for steps, evaluations and passes before training alike: how samples are cut into them, and the one
 * place where one runs. */
#include "train_private.h"

#include <math.h>

data_split train_split(const train_session *s, const nn_overlay *over)
{
    bool given = s->cfg.train.micro_batch_size != CFG_AUTO;
    return (data_split){.micro_samples = given ? s->cfg.train.micro_batch_size : 0,
                        .micro_tokens = given ? 0 : s->plan.micro_bound,
                        .row_tokens =
                            cJSON_IsString(s->cfg.data.packing) ? s->cfg.data.max_length : 0,
                        .virtual_rows = nn_virtual(over),
                        .count_first = over && over->virtual_predict};
}

ft_status train_cut(train_session *s, obj_step *step, data_step *plan)
{
    const obj_objective *row = s->cfg.objective;
    if (row->prepare) FT_TRY(row->prepare(&s->objective, step));
    FT_TRY(data_step_plan(step->sample, step->n, &step->split, plan, s->batch));
    if (step->units > 0) return FT_OK;
    step->units = row->unit == OBJ_TOKENS ? (double)plan->supervised : (double)step->n;
    FT_CHECK(step->units > 0, FT_EDATA, "step %lld: no token of its samples is supervised",
             (long long)s->state.step + 1);
    return FT_OK;
}

unsigned train_recording(const train_session *s)
{
    return NN_RECORD | (s->plan.checkpointing ? NN_CHECKPOINT : 0);
}

ft_status train_micro(train_session *s, train_pass *p, const data_micro *micro)
{
    ft_status rc;
    data_batch b;
    nn_run r;
    size_t mark = arena_mark(s->batch);
    double t0 = ft_seconds(), t1, t2;

    FT_TRY_OUT(train_stop());
    FT_TRY_OUT(data_batch_make(p->sample, micro, p->key, &b, s->batch));
    b.in.calm = s->objective.calm;
    b.in.noise = (float)s->cfg.train.neftune_noise_alpha;
    t1 = ft_seconds();
    ag_reset(s->tape);
    FT_TRY_OUT(nn_run_open(&r, s->tape, &b.in, p->over, p->how));
    tn_tensor *loss = s->cfg.objective->loss(&s->objective, &r, &b, p->units, p->stats);
    FT_TRY_OUT(s->tape->status);
    if (loss && !isfinite(tn_f32(loss)[0])) {
        bool training = p->how & NN_RECORD;
        rc = train_not_finite(s, s->state.step + training, training ? "loss" : "eval_loss",
                              (double)tn_f32(loss)[0], &b.in);
        goto out;
    }
    t2 = ft_seconds();
    if (p->how & NN_RECORD) FT_TRY_OUT(ag_backward(s->tape, loss));
    p->tokens += b.in.tokens;
    p->spent.data += t1 - t0;
    p->spent.forward += t2 - t1;
    p->spent.backward += ft_seconds() - t2;
out:
    arena_reset(s->batch, mark);
    return rc;
}
