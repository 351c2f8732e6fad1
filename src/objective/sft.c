/* sft.c – supervised fine-tuning: mean cross-entropy over the supervised tokens of the optimizer step, whatever its
 * micro-batches (Σ over all ÷ their number). Continued pretraining is the same over `text` sources. */
#include "ft/objective.h"

static const cfg_field fields[] = {CFG_END};

static tn_tensor *loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    float *logprob = ag_meta(r->t, (size_t)(r->supervised + 1) * sizeof *logprob);
    float scale = units > 0 ? (float)(1.0 / units) : 0.0f;
    (void)b;
    if (!logprob) return NULL;
    tn_tensor *h = model_hidden(c->m, r);
    tn_tensor *sum = model_loss(c->m, r, h, scale, logprob, NULL);
    if (r->t->status != FT_OK) return NULL;
    for (int64_t i = 0; i < r->supervised && !r->t->dry; i++) stats->loss -= (double)logprob[i];
    stats->units += (double)r->supervised;
    stats->tokens += r->supervised;
    return sum;
}

const obj_objective obj_sft = {
    .name = "sft",
    .help = "cross-entropy of the supervised tokens",
    .fields = fields,
    .wants = DATA_TOKENS,
    .unit = OBJ_TOKENS,
    .loss = loss,
};
