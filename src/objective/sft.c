/* sft.c – supervised fine-tuning: mean cross-entropy over the supervised tokens of the optimizer step, whatever its
 * micro-batches (Σ over all ÷ their number). Continued pretraining is the same over `text` sources. */
#include "ft/objective.h"

static const cfg_field fields[] = {CFG_END};

static tn_tensor *loss(const void *cfg, model *m, nn_run *r, const data_batch *b,
                       int64_t step_tokens, obj_stats *stats)
{
    float *logprob = ag_meta(r->t, (size_t)(r->supervised + 1) * sizeof *logprob);
    float scale = step_tokens > 0 ? (float)(1.0 / (double)step_tokens) : 0.0f;
    (void)cfg;
    (void)b;
    if (!logprob) return NULL;
    tn_tensor *h = model_hidden(m, r);
    tn_tensor *sum = model_loss(m, r, h, scale, logprob, NULL);
    if (r->t->status != FT_OK) return NULL;
    for (int64_t i = 0; i < r->supervised && !r->t->dry; i++) stats->loss_sum -= (double)logprob[i];
    stats->tokens += r->supervised;
    return sum;
}

const obj_objective obj_sft = {
    .name = "sft",
    .help = "cross-entropy of the supervised tokens",
    .fields = fields,
    .loss = loss,
};
