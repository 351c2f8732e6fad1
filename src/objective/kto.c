/* kto.c – Kahneman-Tversky optimisation (Ethayarajh et al. 2024): answers judged good or bad, one by one.
 *
 *   good: weight · (1 − σ(β(Δ − z))),  bad: weight · (1 − σ(β(z − Δ)))
 * z, without a gradient, is the mean of Δ over prompts with answers of others: each with that of the record before it in the
 * step, as TRL pairs them; not below 0. apo_zero_unpaired (D'Oosterlinck et al. 2024) has no z; its weights are TRL's. */
#include "pairs.h"

#include <string.h>

typedef struct kto_cfg {
    pairs_cfg pairs;
    double desirable_weight, undesirable_weight;
    const char *loss_type;
} kto_cfg;

#define AT(member) offsetof(kto_cfg, member)
#define WEIGHT(k, h)                                                                               \
    {                                                                                              \
        .key = #k, .type = CFG_FLOAT, .offset = AT(k), .def = "1", .low = 0, .high = 1e6,          \
        .help = h                                                                                  \
    }
static const char *const types[] = {"kto", "apo_zero_unpaired", NULL};
static const cfg_field fields[] = {
    PAIRS_BETA("0.1", "how strongly the policy is held to the reference"),
    PAIRS_REFERENCE,
    WEIGHT(desirable_weight, "weight of good answers"),
    WEIGHT(undesirable_weight, "weight of bad answers"),
    {.key = "loss_type",
     .type = CFG_ENUM,
     .offset = AT(loss_type),
     .def = "\"kto\"",
     .choices = types,
     .help = "with the term that is shared by the step, or without"},
    CFG_END};

static void step(pairs *p)
{
    double sum = 0;
    for (int i = 0; p->kind.mismatched && i < p->n; i++)
        sum += (p->other[i].side[0].logp - p->other[i].side[0].ref) / p->n;
    p->shared = sum > 0 ? sum : 0;
}

static void each(pairs *p, pairs_sample *x)
{
    const kto_cfg *c = p->c->cfg;
    pairs_side *y = &x->side[0];
    const double delta = y->logp - y->ref, b = c->pairs.beta;
    const bool good = x->value != 0, plain = strcmp(c->loss_type, "kto") != 0;
    const double z = plain ? b * delta : b * (delta - p->shared);
    const double weight = good ? c->desirable_weight : c->undesirable_weight;
    x->loss = weight * pairs_sigmoid(good ? -z : z);
    y->slope = (good ? -1 : 1) * weight * b * pairs_bell(z);
}

static void log_answer(pairs *p, const pairs_sample *x, obj_stats *stats)
{
    const kto_cfg *c = p->c->cfg;
    const bool good = x->value != 0;
    const pairs_side *y = &x->side[0];
    obj_pairs_log(p, stats, good ? PAIRS_REWARD_CHOSEN : PAIRS_REWARD_REJECTED,
                  c->pairs.beta * (y->logp - y->ref), 1);
    obj_pairs_log(p, stats, good ? PAIRS_LOGPS_CHOSEN : PAIRS_LOGPS_REJECTED, y->logp, 1);
    obj_pairs_log(p, stats, PAIRS_KL, p->shared, 1);
}

enum { CHOSEN, REJECTED, MARGINS };
static const char *const metrics[] = {[CHOSEN] = "rewards/chosen",
                                      [REJECTED] = "rewards/rejected",
                                      [MARGINS] = "rewards/margins",
                                      "logps/chosen",
                                      "logps/rejected",
                                      "entropy",
                                      "kl",
                                      NULL};

/* Good and bad answers are no pairs: the margin is that of their means. */
static void derive(double *values)
{
    values[MARGINS] = values[CHOSEN] - values[REJECTED];
}

static ft_status open(obj_ctx *c, bool weights)
{
    const kto_cfg *cfg = c->cfg;
    const pairs_kind kind = {.reference = true,
                             .tail = 1,
                             .mismatched = strcmp(cfg->loss_type, "kto") == 0,
                             .step = step,
                             .each = each,
                             .log = log_answer};
    return obj_pairs_open(c, weights, &kind);
}

const obj_objective obj_kto = {
    .name = "kto",
    .help = "answers judged good or bad one by one, held to a reference (KTO)",
    .fields = fields,
    .cfg_size = sizeof(kto_cfg),
    .wants = DATA_LABELLED,
    .unit = OBJ_SAMPLES,
    .reference = true,
    .calm = true,
    .learning_rate = 1e-6,
    .adapter_rate = 1e-5,
    .metrics = metrics,
    .telling = "rewards/margins",
    .derive = derive,
    .open = open,
    .close = obj_pairs_close,
    .prepare = obj_pairs_prepare,
    .loss = obj_pairs_loss,
};
