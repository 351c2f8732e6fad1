/* sft.c – supervised fine-tuning: mean cross-entropy over the supervised tokens of the optimizer step, whatever its
 * micro-batches (Σ over all ÷ their number). Continued pretraining is the same over `text` sources.
 *
 * With label_smoothing_factor ε a token costs (1 − ε) · −log p(label) + ε · the mean of −log p over the vocabulary, in training
 * and in evaluations, as transformers' Trainer has it. */
#include "ft/objective.h"

typedef struct sft_cfg {
    double label_smoothing_factor;
} sft_cfg;

static const cfg_field fields[] = {
    {.key = "label_smoothing_factor",
     .type = CFG_FLOAT,
     .offset = offsetof(sft_cfg, label_smoothing_factor),
     .def = "0",
     .low = 0,
     .high = 0.999,
     .help = "share of every target that is spread over the whole vocabulary, in evaluations "
             "too; 0: none"},
    CFG_END};

static tn_tensor *loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    const sft_cfg *cfg = c->cfg;
    const float smoothing = (float)cfg->label_smoothing_factor;
    float *logprob = ag_meta(r->t, (size_t)(r->supervised + 1) * sizeof *logprob);
    float scale = units > 0 ? (float)(1.0 / units) : 0.0f;
    (void)b;
    if (!logprob) return NULL;
    tn_tensor *h = model_hidden(c->m, r);
    ag_score s = {.head = model_head(c->m, r),
                  .label = r->label,
                  .logprob = smoothing > 0 ? NULL : logprob,
                  .smoothing = smoothing,
                  .smooth = smoothing > 0 ? logprob : NULL};
    tn_tensor *sum = ag_cross_entropy(r->t, h, &s, scale);
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
    .cfg_size = sizeof(sft_cfg),
    .wants = DATA_TOKENS,
    .unit = OBJ_TOKENS,
    .loss = loss,
};
