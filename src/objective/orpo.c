/* orpo.c – odds-ratio preference optimisation (Hong et al. 2024): cross-entropy of the prompt and the chosen answer, and the odds
 * of the chosen over those of the rejected, by the mean log-probability l of a token. No reference.
 *
 *   NLL − β · log σ(o),  o = (l_w − l_l) − (log(1 − e^l_w) − log(1 − e^l_l)) */
#include "pairs.h"

static const cfg_field fields[] = {
    PAIRS_BETA("0.1", "weight of the odds ratio (the paper's lambda)"), CFG_END};

static double average(const pairs_side *y)
{
    return y->logp / (double)y->n;
}

/* log(1 − e^l) for l < 0. */
static double log_rest(double l)
{
    return log(-expm1(l < -1e-12 ? l : -1e-12));
}

static double log_odds(const pairs_sample *x)
{
    const double w = average(&x->side[PAIRS_CHOSEN]), l = average(&x->side[PAIRS_REJECTED]);
    return (w - l) - (log_rest(w) - log_rest(l));
}

static void each(pairs *p, pairs_sample *x)
{
    const pairs_cfg *c = p->c->cfg;
    pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    const double o = log_odds(x), slope = -c->beta * pairs_sigmoid(-o);
    x->loss = -c->beta * pairs_log_sigmoid(o);
    w->slope = slope / exp(log_rest(average(w))) / (double)w->n;
    l->slope = -slope / exp(log_rest(average(l))) / (double)l->n;
}

static void log_pair(pairs *p, const pairs_sample *x, obj_stats *stats)
{
    const pairs_cfg *c = p->c->cfg;
    const double w = average(&x->side[PAIRS_CHOSEN]), l = average(&x->side[PAIRS_REJECTED]);
    const double o = log_odds(x);
    obj_pairs_log_rewards(p, stats, c->beta * w, c->beta * l);
    obj_pairs_log(p, stats, PAIRS_LOGPS_CHOSEN, w, 1);
    obj_pairs_log(p, stats, PAIRS_LOGPS_REJECTED, l, 1);
    obj_pairs_log(p, stats, PAIRS_ODDS_RATIO, pairs_log_sigmoid(o), 1);
    obj_pairs_log(p, stats, PAIRS_ODDS_CHOSEN, o, 1);
}

static ft_status open(obj_ctx *c, bool weights)
{
    const pairs_kind kind = {.tail = 1,
                             .nll = 1,
                             .nll_side = PAIRS_CHOSEN,
                             .nll_prompt = true,
                             .each = each,
                             .log = log_pair};
    return obj_pairs_open(c, weights, &kind);
}

static const char *const metrics[] = {
    "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
    "logps/rejected", "nll_loss",         "log_odds_ratio",  "log_odds_chosen",    NULL};

const obj_objective obj_orpo = {
    .name = "orpo",
    .help = "cross-entropy of the chosen, and its odds over the rejected; no reference (ORPO)",
    .fields = fields,
    .cfg_size = sizeof(pairs_cfg),
    .wants = DATA_PAIRS,
    .unit = OBJ_SAMPLES,
    .calm = true,
    .learning_rate = 1e-6,
    .adapter_rate = 1e-5,
    .metrics = metrics,
    .telling = "rewards/margins",
    .open = open,
    .close = obj_pairs_close,
    .prepare = obj_pairs_prepare,
    .loss = obj_pairs_loss,
};
