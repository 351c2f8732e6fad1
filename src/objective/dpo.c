/* dpo.c – direct preference optimisation (Rafailov et al. 2023) and the losses of its shape, with TRL's names.
 *
 * Δ = log π − log r of an answer, r the reference; δ = s(Δ of the chosen) − s(Δ of the rejected), s by the f-divergence (Wang et
 * al. 2023). Further: weights for what goes beyond the shorter answer (LD-DPO, Liu et al. 2024), and for pairs that the policy
 * itself would have written (WPO, Zhou et al. 2024). Sorted losses (AOT, Melnyk et al. 2024) run over the step. Token-level
 * ones (TDPO, Zeng et al. 2024) read K of an answer, Σ KL(r ‖ π) over its tokens; a reference may follow the policy (TR-DPO). */
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LOSSES = 16 };

typedef struct dpo_cfg {
    pairs_cfg pairs;
    const cJSON *loss_type, *loss_weights;
    double label_smoothing, discopop_tau, ld_alpha, f_alpha_divergence_coef;
    const char *f_divergence_type;
    bool use_weighting;
    double tdpo_alpha;
    bool sync_ref_model;
    double ref_model_mixup_alpha;
    int64_t ref_model_sync_steps;
} dpo_cfg;

#define AT(member) offsetof(dpo_cfg, member)
static const char *const divergences[] = {"reverse_kl", "forward_kl", "js_divergence",
                                          "alpha_divergence", NULL};
#define COMMON                                                                                     \
    PAIRS_BETA("0.1", "how strongly the policy is held to the reference"), PAIRS_REFERENCE,        \
    {                                                                                              \
        .key = "ld_alpha", .type = CFG_FLOAT, .offset = AT(ld_alpha), .low = 0, .high = 1,         \
        .help = "weight of tokens beyond the shorter answer's length (LD-DPO)"                     \
    }
static const cfg_field dpo_fields[] = {
    COMMON,
    {.key = "loss_type",
     .type = CFG_JSON,
     .offset = AT(loss_type),
     .def = "\"sigmoid\"",
     .help = "a name or a list: sigmoid, hinge, ipo, sigmoid_norm, robust, exo_pair, nca_pair, "
             "bco_pair, sppo_hard, apo_zero, apo_down, discopop, aot, aot_unpaired, sft, tdpo1, "
             "tdpo2"},
    {.key = "loss_weights",
     .type = CFG_JSON,
     .offset = AT(loss_weights),
     .help = "a weight for each loss of the list; default: all 1"},
    {.key = "label_smoothing",
     .type = CFG_FLOAT,
     .offset = AT(label_smoothing),
     .def = "0",
     .low = 0,
     .high = 0.4999999,
     .help = "share of pairs that are the wrong way round (robust, exo_pair, aot)"},
    {.key = "discopop_tau",
     .type = CFG_FLOAT,
     .offset = AT(discopop_tau),
     .def = "0.05",
     .low = 0,
     .high = 1e6,
     .low_open = true,
     .help = "temperature of discopop's mixture"},
    {.key = "f_divergence_type",
     .type = CFG_ENUM,
     .offset = AT(f_divergence_type),
     .def = "\"reverse_kl\"",
     .choices = divergences,
     .help = "divergence between policy and reference"},
    {.key = "f_alpha_divergence_coef",
     .type = CFG_FLOAT,
     .offset = AT(f_alpha_divergence_coef),
     .def = "0.5",
     .low = -1e3,
     .high = 1e3,
     .help = "alpha of alpha_divergence"},
    {.key = "use_weighting",
     .type = CFG_BOOL,
     .offset = AT(use_weighting),
     .def = "false",
     .help = "weights pairs by how likely the policy writes them (WPO)"},
    {.key = "tdpo_alpha",
     .type = CFG_FLOAT,
     .offset = AT(tdpo_alpha),
     .def = "0.5",
     .low = 0,
     .high = 1e3,
     .help = "tdpo2: weight of how far the policy is from the reference at each token"},
    {.key = "sync_ref_model",
     .type = CFG_BOOL,
     .offset = AT(sync_ref_model),
     .def = "false",
     .help = "the reference follows the policy (TR-DPO); method full only"},
    {.key = "ref_model_mixup_alpha",
     .type = CFG_FLOAT,
     .offset = AT(ref_model_mixup_alpha),
     .def = "0.6",
     .low = 0,
     .high = 1,
     .help = "the policy's share in it then"},
    {.key = "ref_model_sync_steps",
     .type = CFG_INT,
     .offset = AT(ref_model_sync_steps),
     .def = "512",
     .low = 1,
     .high = 1e9,
     .help = "after every so many steps"},
    CFG_END};
static const cfg_field ipo_fields[] = {COMMON, CFG_END};

/* --- the losses -------------------------------------------------------------------------------------------------- */
/* What a loss sees of a pair, and its slopes by w and l. */
typedef struct pair {
    const dpo_cfg *c;
    double b, w, l; /* beta; s(Δ) of both */
    double nw, nl;  /* lengths */
    double kw, kl;  /* K of both */
    double gw, gl;  /* out */
    double hw, hl;  /* out: the slopes by kw and kl; 0 where a loss says nothing */
} pair;

/* A loss of z = β(w − l): its slope by z. */
static double by_z(pair *p, double value, double slope)
{
    p->gw = p->b * slope;
    p->gl = -p->gw;
    return value;
}

static double sigmoid(pair *p)
{
    const double z = p->b * (p->w - p->l);
    return by_z(p, -pairs_log_sigmoid(z), -pairs_sigmoid(-z));
}

static double hinge(pair *p)
{
    const double z = p->b * (p->w - p->l);
    return by_z(p, z < 1 ? 1 - z : 0, z < 1 ? -1 : 0);
}

static double ipo(pair *p)
{
    const double u = p->w / p->nw - p->l / p->nl - 1 / (2 * p->b);
    p->gw = 2 * u / p->nw;
    p->gl = -2 * u / p->nl;
    return u * u;
}

static double sigmoid_norm(pair *p)
{
    const double z = p->b * (p->w / p->nw - p->l / p->nl), slope = -p->b * pairs_sigmoid(-z);
    p->gw = slope / p->nw;
    p->gl = -slope / p->nl;
    return -pairs_log_sigmoid(z);
}

static double robust(pair *p)
{
    const double z = p->b * (p->w - p->l), e = p->c->label_smoothing, all = 1 - 2 * e;
    return by_z(p, (-(1 - e) * pairs_log_sigmoid(z) + e * pairs_log_sigmoid(-z)) / all,
                (-(1 - e) * pairs_sigmoid(-z) - e * pairs_sigmoid(z)) / all);
}

static double exo_pair(pair *p)
{
    const double z = p->b * (p->w - p->l), e = p->c->label_smoothing;
    const double lq = pairs_log_sigmoid(z) - log(1 - e), lr = pairs_log_sigmoid(-z) - log(e);
    return by_z(p, pairs_sigmoid(z) * lq + pairs_sigmoid(-z) * lr, pairs_bell(z) * (lq - lr));
}

static double nca_pair(pair *p)
{
    const double w = p->b * p->w, l = p->b * p->l;
    p->gw = p->b * (0.5 * pairs_sigmoid(w) - pairs_sigmoid(-w));
    p->gl = p->b * 0.5 * pairs_sigmoid(l);
    return -pairs_log_sigmoid(w) - 0.5 * pairs_log_sigmoid(-w) - 0.5 * pairs_log_sigmoid(-l);
}

static double bco_pair(pair *p)
{
    const double w = p->b * p->w, l = p->b * p->l;
    p->gw = -p->b * pairs_sigmoid(-w);
    p->gl = p->b * pairs_sigmoid(l);
    return -pairs_log_sigmoid(w) - pairs_log_sigmoid(-l);
}

static double sppo_hard(pair *p)
{
    const double w = p->w - 0.5 / p->b, l = p->l + 0.5 / p->b;
    p->gw = 2 * w;
    p->gl = 2 * l;
    return w * w + l * l;
}

static double apo_zero(pair *p)
{
    const double w = p->b * p->w, l = p->b * p->l;
    p->gw = -p->b * pairs_bell(w);
    p->gl = p->b * pairs_bell(l);
    return 1 - pairs_sigmoid(w) + pairs_sigmoid(l);
}

static double apo_down(pair *p)
{
    const double w = p->b * p->w, z = w - p->b * p->l;
    p->gw = p->b * (pairs_bell(w) - pairs_bell(z));
    p->gl = p->b * pairs_bell(z);
    return pairs_sigmoid(w) + 1 - pairs_sigmoid(z);
}

static double discopop(pair *p)
{
    const double z = p->b * (p->w - p->l), tau = p->c->discopop_tau;
    const double m = pairs_sigmoid(z / tau), dm = pairs_bell(z / tau) / tau;
    const double logistic = -pairs_log_sigmoid(z), exponential = exp(-z);
    return by_z(p, (1 - m) * logistic + m * exponential,
                dm * (exponential - logistic) - (1 - m) * pairs_sigmoid(-z) - m * exponential);
}

/* −log σ(β(δ − a (Kl − Kw))), Kw being held fixed in tdpo2. */
static double token_level(pair *p, double a)
{
    const double z = p->b * (p->w - p->l - a * (p->kl - p->kw));
    by_z(p, 0, -pairs_sigmoid(-z));
    p->hl = -a * p->gw;
    return -pairs_log_sigmoid(z);
}

static double tdpo1(pair *p)
{
    const double loss = token_level(p, 1);
    p->hw = p->gw;
    return loss;
}

static double tdpo2(pair *p)
{
    return token_level(p, p->c->tdpo_alpha);
}

enum { DIVERGENCE = 1, SORTED = 2, SORTED_SIDES = 4, SFT = 8, SMOOTHED = 16, APART = 32 };
static const struct loss {
    const char *name;
    double (*of)(pair *p); /* NULL: not of a pair alone */
    unsigned
        traits; /* DIVERGENCE: with any; SMOOTHED: label_smoothing must be given; APART: of K */
} losses[] = {{"sigmoid", sigmoid, DIVERGENCE},
              {"hinge", hinge, DIVERGENCE},
              {"ipo", ipo, DIVERGENCE},
              {"sigmoid_norm", sigmoid_norm, DIVERGENCE},
              {"robust", robust, DIVERGENCE},
              {"exo_pair", exo_pair, DIVERGENCE | SMOOTHED},
              {"nca_pair", nca_pair, 0},
              {"bco_pair", bco_pair, 0},
              {"sppo_hard", sppo_hard, 0},
              {"apo_zero", apo_zero, 0},
              {"apo_down", apo_down, 0},
              {"discopop", discopop, DIVERGENCE},
              {"aot", NULL, SORTED},
              {"aot_unpaired", NULL, SORTED | SORTED_SIDES},
              {"sft", NULL, DIVERGENCE | SFT},
              {"tdpo1", tdpo1, APART},
              {"tdpo2", tdpo2, APART}};

static const struct loss *loss_named(const char *name)
{
    for (size_t i = 0; name && i < FT_COUNT_OF(losses); i++)
        if (strcmp(losses[i].name, name) == 0) return &losses[i];
    return NULL;
}

/* --- the config ---------------------------------------------------------------------------------------------------- */
static const cJSON *loss_at(const dpo_cfg *c, int i)
{
    if (cJSON_IsArray(c->loss_type)) return cJSON_GetArrayItem(c->loss_type, i);
    return i == 0 ? c->loss_type : NULL;
}

static double weight_at(const dpo_cfg *c, int i)
{
    const cJSON *w = cJSON_IsArray(c->loss_weights) ? cJSON_GetArrayItem(c->loss_weights, i) : NULL;
    return w ? w->valuedouble : 1;
}

static void check_loss(cfg_doc *d, const dpo_cfg *c, const cJSON *v)
{
    static const char key[] = "objective.loss_type";
    const char *names[FT_COUNT_OF(losses) + 1] = {NULL};
    for (size_t i = 0; i < FT_COUNT_OF(losses); i++) names[i] = losses[i].name;
    if (!cJSON_IsString(v)) {
        cfg_fail(d, v, key, "must be a name or a list of names");
        return;
    }
    const struct loss *row = loss_named(v->valuestring);
    if (!row) {
        const char *near = cfg_nearest(v->valuestring, names);
        cfg_fail(d, v, key, "\"%s\" is no loss of dpo%s%s%s", ft_shows(v->valuestring),
                 near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        return;
    }
    if ((row->traits & SMOOTHED) && c->label_smoothing == 0)
        cfg_fail(d, v, "objective.label_smoothing", "must be above 0 with loss_type \"%s\"",
                 row->name);
    if (!(row->traits & DIVERGENCE) && c->f_divergence_type &&
        strcmp(c->f_divergence_type, "reverse_kl") != 0)
        cfg_fail(d, v, "objective.f_divergence_type",
                 "\"%s\" does not go with loss_type \"%s\", which is made for reverse_kl",
                 c->f_divergence_type, row->name);
    if ((row->traits & SORTED) && c->use_weighting)
        cfg_fail(d, v, "objective.use_weighting",
                 "does not go with loss_type \"%s\", whose pairs are sorted", row->name);
}

/* Is one of the losses among those names? */
static bool takes(const dpo_cfg *c, const char *const *names)
{
    for (int i = 0; loss_at(c, i); i++)
        for (int k = 0; names[k]; k++)
            if (cJSON_IsString(loss_at(c, i)) && strcmp(loss_at(c, i)->valuestring, names[k]) == 0)
                return true;
    return false;
}

static void check_idle(cfg_doc *d, const cJSON *object, const dpo_cfg *c)
{
    static const struct {
        const char *key, *losses[5];
    } of[] = {{"label_smoothing", {"robust", "exo_pair", "aot", "aot_unpaired"}},
              {"discopop_tau", {"discopop"}},
              {"tdpo_alpha", {"tdpo2"}}};
    static const char *const of_sync[] = {"ref_model_mixup_alpha", "ref_model_sync_steps"};
    for (size_t i = 0; i < FT_COUNT_OF(of); i++)
        if (!takes(c, of[i].losses))
            cfg_idle(d, object, "objective", dpo_fields, of[i].key, "with this loss_type");
    if (!c->f_divergence_type || strcmp(c->f_divergence_type, "alpha_divergence") != 0)
        cfg_idle(d, object, "objective", dpo_fields, "f_alpha_divergence_coef",
                 "without f_divergence_type \"alpha_divergence\"");
    for (size_t i = 0; i < FT_COUNT_OF(of_sync) && !c->sync_ref_model; i++)
        cfg_idle(d, object, "objective", dpo_fields, of_sync[i], "without sync_ref_model");
}

static void check(cfg_doc *d, const cJSON *object, void *cfg)
{
    const dpo_cfg *c = cfg;
    const cJSON *w;
    check_idle(d, object, c);
    const int n = cJSON_IsArray(c->loss_type) ? cJSON_GetArraySize(c->loss_type) : 1;
    if (n == 0 || n > MAX_LOSSES)
        cfg_fail(d, c->loss_type, "objective.loss_type", "must name 1 to %d losses", MAX_LOSSES);
    for (int i = 0; i < n && n <= MAX_LOSSES; i++) check_loss(d, c, loss_at(c, i));
    if (c->sync_ref_model && c->pairs.precompute_ref_log_probs)
        cfg_fail(d, js_get(object, "sync_ref_model"), "objective.sync_ref_model",
                 "does not go with precompute_ref_log_probs: the reference changes");
    if (!c->loss_weights || cJSON_IsNull(c->loss_weights)) return;
    bool numbers = cJSON_IsArray(c->loss_weights);
    cJSON_ArrayForEach(w, c->loss_weights) numbers = numbers && cJSON_IsNumber(w);
    if (!numbers || cJSON_GetArraySize(c->loss_weights) != n)
        cfg_fail(d, c->loss_weights, "objective.loss_weights",
                 "must be a list of %d number%s, one for each loss_type", n, n == 1 ? "" : "s");
}

/* --- a pair --------------------------------------------------------------------------------------------------------- */
/* s(Δ) and its slope. */
static double divergence(const dpo_cfg *c, double d, double *slope)
{
    const char *type = c->f_divergence_type;
    const double a = c->f_alpha_divergence_coef - 1;
    *slope = 1;
    if (!type || strcmp(type, "reverse_kl") == 0) return d;
    if (strcmp(type, "forward_kl") == 0) {
        *slope = exp(-d);
        return 1 - exp(-d);
    }
    if (strcmp(type, "js_divergence") == 0) {
        *slope = pairs_sigmoid(-d);
        return log(2) + pairs_log_sigmoid(d);
    }
    if (fabs(a) < 1e-6) return d;
    *slope = exp(a * d);
    return expm1(a * d) / a;
}

static double wpo_weight(const dpo_cfg *c, const pairs_sample *x)
{
    const pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    if (!c->use_weighting) return 1;
    return exp(w->aligned / (double)w->n + l->aligned / (double)l->n);
}

/* Of sorted losses, from the step: value and slopes of each pair. */
typedef struct sorted {
    double loss, gw, gl;
} sorted;

static void each(pairs *p, pairs_sample *x)
{
    const dpo_cfg *c = p->c->cfg;
    pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    const sorted *own = p->own;
    double sw, sl;
    pair q = {.c = c,
              .b = c->pairs.beta,
              .w = divergence(c, w->logp - w->ref, &sw),
              .l = divergence(c, l->logp - l->ref, &sl),
              .nw = (double)w->n,
              .nl = (double)l->n,
              .kw = w->apart,
              .kl = l->apart};
    const double all = wpo_weight(c, x);
    x->loss = w->slope = l->slope = w->apart_slope = l->apart_slope = 0;
    for (int i = 0; loss_at(c, i); i++) {
        const struct loss *row = loss_named(loss_at(c, i)->valuestring);
        const double weight = weight_at(c, i) * all;
        if (!row->of) continue;
        q.hw = q.hl = 0;
        x->loss += weight * row->of(&q);
        w->slope += weight * q.gw * sw;
        l->slope += weight * q.gl * sl;
        w->apart_slope += weight * q.hw;
        l->apart_slope += weight * q.hl;
    }
    if (!own) return;
    x->loss += own[x->slot].loss;
    w->slope += own[x->slot].gw;
    l->slope += own[x->slot].gl;
}

/* --- over the step -------------------------------------------------------------------------------------------------- */
typedef struct ranked {
    double value;
    int slot;
} ranked;

static int by_value(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->slot - y->slot;
}

static double value_of(const pairs_sample *x, bool sides, bool second)
{
    const pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    if (sides) return second ? l->logp - l->ref : w->logp - w->ref;
    return second ? w->ref - l->ref : w->logp - l->logp;
}

/* The i-th smallest of one side against the i-th of the other; the loss stands at the first one's pair. */
static void sort_step(pairs *p, bool sides, double weight, sorted *out, ranked *a, ranked *b)
{
    const dpo_cfg *c = p->c->cfg;
    const double beta = c->pairs.beta, e = c->label_smoothing;
    for (int i = 0; i < p->n; i++) {
        a[i] = (ranked){value_of(&p->sample[i], sides, false), i};
        b[i] = (ranked){value_of(&p->sample[i], sides, true), i};
    }
    qsort(a, (size_t)p->n, sizeof *a, by_value);
    qsort(b, (size_t)p->n, sizeof *b, by_value);
    for (int i = 0; i < p->n; i++) {
        const double z = beta * (a[i].value - b[i].value);
        const double slope = beta * (e * pairs_sigmoid(z) - (1 - e) * pairs_sigmoid(-z));
        out[a[i].slot].loss +=
            weight * (-(1 - e) * pairs_log_sigmoid(z) - e * pairs_log_sigmoid(-z));
        out[a[i].slot].gw += weight * slope;
        out[sides ? b[i].slot : a[i].slot].gl -= weight * slope;
    }
}

static void step(pairs *p)
{
    const dpo_cfg *c = p->c->cfg;
    const size_t n = (size_t)p->n;
    double mean = 0;
    for (int i = 0; i < p->n; i++) mean += wpo_weight(c, &p->sample[i]) / p->n;
    sorted *out = arena_get(p->c->step_mem, n * sizeof *out);
    ranked *a = arena_get(p->c->step_mem, n * sizeof *a),
           *b = arena_get(p->c->step_mem, n * sizeof *b);
    p->own = out;
    p->kind.nll = 0;
    if (!out || !a || !b) return;
    for (int i = 0; loss_at(c, i); i++) {
        const struct loss *row = loss_named(loss_at(c, i)->valuestring);
        if (row->traits & SORTED)
            sort_step(p, row->traits & SORTED_SIDES, weight_at(c, i), out, a, b);
        if (row->traits & SFT) p->kind.nll += weight_at(c, i) * mean;
    }
}

static void log_pair(pairs *p, const pairs_sample *x, obj_stats *stats)
{
    const dpo_cfg *c = p->c->cfg;
    const pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    obj_pairs_log_rewards(p, stats, c->pairs.beta * (w->logp - w->ref + w->apart),
                          c->pairs.beta * (l->logp - l->ref + l->apart));
    obj_pairs_log(p, stats, PAIRS_LOGPS_CHOSEN, w->logp, 1);
    obj_pairs_log(p, stats, PAIRS_LOGPS_REJECTED, l->logp, 1);
}

static ft_status open(obj_ctx *c, bool weights)
{
    const dpo_cfg *cfg = c->cfg;
    pairs_kind kind = {.reference = true,
                       .asked = cfg->sync_ref_model,
                       .aligned = cfg->use_weighting,
                       .tail = isnan(cfg->ld_alpha) ? 1 : cfg->ld_alpha,
                       .nll_side = PAIRS_CHOSEN,
                       .each = each,
                       .log = log_pair};
    for (int i = 0; loss_at(cfg, i); i++) {
        const struct loss *row = loss_named(loss_at(cfg, i)->valuestring);
        if (row->traits & APART) kind.apart = kind.asked = true;
        if (row->of) continue;
        kind.step = step;
        kind.whole = kind.whole || (row->traits & SORTED) || cfg->use_weighting;
        if (row->traits & SFT) kind.nll += weight_at(cfg, i);
    }
    FT_TRY(obj_pairs_open(c, weights, &kind));
    pairs *p = c->priv;
    return cfg->sync_ref_model ? obj_other_follow(c, "sync_ref_model", weights, &p->ref) : FT_OK;
}

/* The step is done: the reference follows. */
static ft_status after_update(obj_ctx *c, int64_t step)
{
    const dpo_cfg *cfg = c->cfg;
    pairs *p = c->priv;
    if (cfg->sync_ref_model && (step + 1) % cfg->ref_model_sync_steps == 0)
        obj_other_move(c, &p->ref, cfg->ref_model_mixup_alpha);
    return FT_OK;
}

/* --- ipo: dpo with one loss ------------------------------------------------------------------------------------------ */
static void each_ipo(pairs *p, pairs_sample *x)
{
    const dpo_cfg *c = p->c->cfg;
    pairs_side *w = &x->side[PAIRS_CHOSEN], *l = &x->side[PAIRS_REJECTED];
    pair q = {.c = c,
              .b = c->pairs.beta,
              .w = w->logp - w->ref,
              .l = l->logp - l->ref,
              .nw = (double)w->n,
              .nl = (double)l->n};
    x->loss = ipo(&q);
    w->slope = q.gw;
    l->slope = q.gl;
}

static ft_status open_ipo(obj_ctx *c, bool weights)
{
    const dpo_cfg *cfg = c->cfg;
    const pairs_kind kind = {.reference = true,
                             .tail = isnan(cfg->ld_alpha) ? 1 : cfg->ld_alpha,
                             .each = each_ipo,
                             .log = log_pair};
    return obj_pairs_open(c, weights, &kind);
}

static const char *const metrics[] = {
    "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
    "logps/chosen",   "logps/rejected",   "entropy",         NULL};

#define ROW                                                                                        \
    .cfg_size = sizeof(dpo_cfg), .wants = DATA_PAIRS, .unit = OBJ_SAMPLES, .reference = true,      \
    .calm = true, .learning_rate = 1e-6, .adapter_rate = 1e-5, .metrics = metrics,                 \
    .telling = "rewards/margins", .close = obj_pairs_close, .prepare = obj_pairs_prepare,          \
    .loss = obj_pairs_loss

const obj_objective obj_dpo = {
    .name = "dpo",
    .help = "chosen answers rather than rejected ones, held to a reference (DPO and its relatives)",
    .fields = dpo_fields,
    ROW,
    .check = check,
    .open = open,
    .after_update = after_update,
};
const obj_objective obj_ipo = {
    .name = "ipo",
    .help = "dpo with the squared loss of length-averaged log-ratios (IPO)",
    .fields = ipo_fields,
    ROW,
    .open = open_ipo,
};
