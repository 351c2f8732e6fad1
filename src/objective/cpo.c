/* cpo.c – preference losses without a reference: contrastive (CPO, Xu et al. 2024), simple (SimPO, Meng et al. 2024), AlphaPO
 * (Gupta et al. 2025), and triple preference optimisation (TPO, Saeidi et al. 2024), each with the cross-entropy of an answer
 * beside it: of the chosen, or (TPO) of a third one.
 *
 * d = log π(chosen) − log π(rejected), of means over tokens where the loss is by length. */
#include "pairs.h"

#include <string.h>

typedef struct cpo_cfg {
    pairs_cfg pairs;
    const char *loss_type;
    double nll, gamma, label_smoothing, alpha;
} cpo_cfg;

#define AT(member) offsetof(cpo_cfg, member)
#define NUMBER(k, member, d, lo, hi, h)                                                            \
    {                                                                                              \
        .key = k, .type = CFG_FLOAT, .offset = AT(member), .def = d, .low = lo, .high = hi,        \
        .help = h                                                                                  \
    }
#define TYPE(names)                                                                                \
    {                                                                                              \
        .key = "loss_type", .type = CFG_ENUM, .offset = AT(loss_type), .def = "\"sigmoid\"",       \
        .choices = names, .help = "what is made of the difference of the two answers"              \
    }
#define SMOOTHING                                                                                  \
    NUMBER("label_smoothing", label_smoothing, "0", 0, 0.4999999,                                  \
           "share of pairs that are the wrong way round")
static const char *const cpo_types[] = {"sigmoid", "hinge", "ipo", "simpo", NULL};
static const char *const tpo_types[] = {"sigmoid", "hinge", "ipo", "tpo-l", NULL};
static const cfg_field cpo_fields[] = {
    PAIRS_BETA("0.1", "scale of the difference"),
    TYPE(cpo_types),
    NUMBER("cpo_alpha", nll, "1", 0, 1e6, "weight of the chosen answer's cross-entropy"),
    NUMBER("simpo_gamma", gamma, "0.5", -1e6, 1e6, "margin that simpo asks for"),
    SMOOTHING,
    NUMBER("alpha", alpha, "0", -1e3, 1e3, "AlphaPO's bend of log-probabilities; 0: none"),
    CFG_END};
static const cfg_field simpo_fields[] = {
    PAIRS_BETA("2", "scale of the difference"),
    NUMBER("simpo_gamma", gamma, "1", -1e6, 1e6, "margin that is asked for"), SMOOTHING, CFG_END};
static const cfg_field tpo_fields[] = {
    PAIRS_BETA("0.01", "scale of the difference"),
    TYPE(tpo_types),
    NUMBER("tpo_alpha", nll, "1", 0, 1e6, "weight of the reference answer's cross-entropy"),
    NUMBER("tpo_l_gamma", gamma, "0.5", -1e6, 1e6, "margin that tpo-l asks for"),
    SMOOTHING,
    CFG_END};

static bool is(const cpo_cfg *c, const char *type)
{
    return strcmp(c->loss_type ? c->loss_type : "simpo", type) == 0;
}

static bool has_margin(const cpo_cfg *c)
{
    return is(c, "simpo") || is(c, "tpo-l");
}

static bool by_length(const cpo_cfg *c)
{
    return has_margin(c) || is(c, "ipo");
}

/* The answer's score, and its slope by the sum of log-probabilities. */
static double score_of(const cpo_cfg *c, const pairs_side *y, double *slope)
{
    const double n = by_length(c) ? (double)y->n : 1, l = y->logp / n;
    *slope = 1 / n;
    if (c->alpha == 0) return l;
    *slope *= exp(-c->alpha * l);
    return -expm1(-c->alpha * l) / c->alpha;
}

/* Of a difference d: the loss, and its slope. */
static double loss_of(const cpo_cfg *c, double d, double *slope)
{
    const double b = c->pairs.beta, e = c->label_smoothing;
    const double z = b * d - (has_margin(c) ? c->gamma : 0), u = d - 1 / (2 * b);
    if (is(c, "hinge")) {
        *slope = z < 1 ? -b : 0;
        return z < 1 ? 1 - z : 0;
    }
    if (is(c, "ipo")) {
        *slope = 2 * u;
        return u * u;
    }
    *slope = b * (e * pairs_sigmoid(z) - (1 - e) * pairs_sigmoid(-z));
    return -(1 - e) * pairs_log_sigmoid(z) - e * pairs_log_sigmoid(-z);
}

static void each(pairs *p, pairs_sample *x)
{
    const cpo_cfg *c = p->c->cfg;
    pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    double sw, sl, slope;
    const double d = score_of(c, w, &sw) - score_of(c, l, &sl);
    x->loss = loss_of(c, d, &slope);
    w->slope = slope * sw;
    l->slope = -slope * sl;
}

static void log_pair(pairs *p, const pairs_sample *x, obj_stats *stats)
{
    const cpo_cfg *c = p->c->cfg;
    const pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    const double nw = by_length(c) ? (double)w->n : 1, nl = by_length(c) ? (double)l->n : 1;
    double unused;
    obj_pairs_log_rewards(p, stats, c->pairs.beta * score_of(c, w, &unused),
                          c->pairs.beta * score_of(c, l, &unused));
    obj_pairs_log(p, stats, PAIRS_LOGPS_CHOSEN, w->logp / nw, 1);
    obj_pairs_log(p, stats, PAIRS_LOGPS_REJECTED, l->logp / nl, 1);
}

static void check(cfg_doc *d, const cJSON *object, void *cfg)
{
    const cpo_cfg *c = cfg;
    static const char *const margins[] = {"simpo_gamma", "tpo_l_gamma"};
    if (is(c, "hinge") || is(c, "ipo"))
        cfg_idle(d, object, "objective", cpo_fields, "label_smoothing", "with loss_type \"%s\"",
                 c->loss_type);
    for (size_t i = 0; i < FT_COUNT_OF(margins) && !has_margin(c); i++)
        cfg_idle(d, object, "objective", i == 0 ? cpo_fields : tpo_fields, margins[i],
                 "with loss_type \"%s\"", c->loss_type);
}

static ft_status open_side(obj_ctx *c, bool weights, int side)
{
    const cpo_cfg *cfg = c->cfg;
    const pairs_kind kind = {
        .tail = 1, .nll = cfg->nll, .nll_side = side, .each = each, .log = log_pair};
    return obj_pairs_open(c, weights, &kind);
}

static ft_status open_cpo(obj_ctx *c, bool weights)
{
    return open_side(c, weights, PAIRS_CHOSEN);
}

static ft_status open_tpo(obj_ctx *c, bool weights)
{
    return open_side(c, weights, PAIRS_GOLD);
}

#define REWARDS                                                                                    \
    "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", \
        "logps/rejected"
static const char *const cpo_metrics[] = {REWARDS, "nll_loss", NULL};
static const char *const tpo_metrics[] = {REWARDS, "entropy", NULL};

#define ROW                                                                                        \
    .cfg_size = sizeof(cpo_cfg), .unit = OBJ_SAMPLES, .calm = true, .close = obj_pairs_close,      \
    .prepare = obj_pairs_prepare, .loss = obj_pairs_loss, .check = check

const obj_objective obj_cpo = {
    .name = "cpo",
    .help = "chosen rather than rejected answers, without a reference (CPO, SimPO, AlphaPO)",
    .fields = cpo_fields,
    ROW,
    .wants = DATA_PAIRS,
    .learning_rate = 1e-6,
    .adapter_rate = 1e-5,
    .metrics = cpo_metrics,
    .telling = "rewards/margins",
    .open = open_cpo,
};
const obj_objective obj_simpo = {
    .name = "simpo",
    .help = "cpo by the mean log-probability of a token, with a margin (SimPO)",
    .fields = simpo_fields,
    ROW,
    .wants = DATA_PAIRS,
    .learning_rate = 1e-6,
    .adapter_rate = 1e-5,
    .metrics = cpo_metrics,
    .telling = "rewards/margins",
    .open = open_cpo,
};
const obj_objective obj_tpo = {
    .name = "tpo",
    .help = "cpo beside the cross-entropy of a third, reference answer (triple preference, TPO)",
    .fields = tpo_fields,
    ROW,
    .wants = DATA_TRIPLES,
    .learning_rate = 5e-7,
    .adapter_rate = 5e-6,
    .metrics = tpo_metrics,
    .telling = "rewards/margins",
    .open = open_tpo,
};
