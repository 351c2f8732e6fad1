/* grpo.c – group relative policy optimisation (Shao et al. 2024, DeepSeekMath) and its relatives, with TRL's names.
 *
 * The advantage of a completion is its reward beside those of the same prompt's others, A = (R − mean)/(s + 1e-4). With
 * ρ = π/π_old of a token, or the geometric mean over the completion (GSPO, Zheng et al. 2025),
 *   L = −min(min(ρ, delta)·A, clip(ρ, 1 − epsilon, 1 + epsilon_high)·A) + beta·k,  k = r/π − log(r/π) − 1 (· ρ)
 *   cispo (MiniMax 2025): −sg(min(ρ, epsilon_high))·A·log π + beta·k
 * Σ over tokens ÷ own length, then the mean (grpo), ÷ the batch's tokens (dapo, Yu et al. 2025; bnpo, cispo), or ÷ the most
 * tokens that there could be (dr_grpo, Liu et al. 2025). */
#include "rollouts.h"

#include <string.h>

typedef struct grpo_cfg {
    roll_group_cfg group;
    const char *loss_type, *scale_rewards, *importance_sampling_level;
    double delta;
    bool use_bias_correction_kl;
} grpo_cfg;

#define AT(member) offsetof(grpo_cfg, member)
static const char *const losses[] = {"dapo", "grpo", "bnpo", "dr_grpo", "cispo", NULL};
static const char *const scales[] = {"group", "batch", "none", NULL};
static const char *const levels[] = {"token", "sequence", NULL};
static const cfg_field fields[] = {
    ROLL_GROUP_KEYS("8", "0", "how strongly the policy is held to the reference; 0: none is read"),
    {.key = "loss_type",
     .type = CFG_ENUM,
     .offset = AT(loss_type),
     .def = "\"dapo\"",
     .choices = losses,
     .help = "what the sum over tokens is divided by, and how it is clipped"},
    {.key = "delta",
     .type = CFG_FLOAT,
     .offset = AT(delta),
     .low = 0,
     .high = 1e6,
     .low_open = true,
     .help = "bound of the ratio where it is not clipped; default: none"},
    {.key = "scale_rewards",
     .type = CFG_ENUM,
     .offset = AT(scale_rewards),
     .def = "\"group\"",
     .choices = scales,
     .help = "whose deviation advantages are divided by"},
    {.key = "importance_sampling_level",
     .type = CFG_ENUM,
     .offset = AT(importance_sampling_level),
     .def = "\"token\"",
     .choices = levels,
     .help = "whether each token has a ratio of its own, or the completion one"},
    {.key = "use_bias_correction_kl",
     .type = CFG_BOOL,
     .offset = AT(use_bias_correction_kl),
     .def = "true",
     .help = "the divergence times the ratio"},
    CFG_END};

static bool says(const char *value, const char *name)
{
    return strcmp(value, name) == 0;
}

/* --- advantages ---------------------------------------------------------------------------------------------------- */
static ft_status judge(roll *p, roll_batch *b)
{
    const grpo_cfg *c = p->c->cfg;
    double *reward = arena_get(p->c->step_mem, ((size_t)b->n + 1) * sizeof *reward);
    if (!reward) return FT_EMEM;
    for (int i = 0; i < b->n; i++) reward[i] = b->one[i].reward;
    const double all = obj_roll_deviation(reward, b->n);
    if (says(c->scale_rewards, "batch")) b->even = all < 1e-8;
    for (int first = 0; first < b->n; first += b->generations) {
        const int n = b->n - first < b->generations ? b->n - first : b->generations;
        const double mean = obj_roll_mean(reward + first, n);
        const double own = obj_roll_deviation(reward + first, n);
        const double by = says(c->scale_rewards, "none")    ? 1
                          : says(c->scale_rewards, "batch") ? all + 1e-4
                                                            : own + 1e-4;
        for (int i = first; i < first + n; i++) b->one[i].advantage = (reward[i] - mean) / by;
    }
    return FT_OK;
}

/* --- the loss -------------------------------------------------------------------------------------------------------- */
/* What every token of a completion is multiplied with, of the mean over completions. */
static double share(const roll *p, const roll_one *x)
{
    const grpo_cfg *c = p->c->cfg;
    if (says(c->loss_type, "grpo")) return 1 / (double)x->n;
    if (says(c->loss_type, "dr_grpo")) return 1 / (double)c->group.roll.max_completion_length;
    return p->n_picked / (double)(p->now->counted > 0 ? p->now->counted : 1);
}

/* The surrogate as a function of a ratio. */
typedef struct surrogate {
    double loss;
    double by_ratio; /* d loss / d log ρ, */
    double by_logp;  /* and by log π where ρ is no part of it */
    bool low, high;  /* the ratio is clipped there */
} surrogate;

static surrogate clipped(const grpo_cfg *c, double ratio, double a)
{
    const double top = 1 + obj_roll_high(&c->group), bottom = 1 - c->group.epsilon;
    const double free = ratio > c->delta ? c->delta : ratio; /* no delta: NAN is above nothing */
    const double bound = ratio < bottom ? bottom : ratio > top ? top : ratio;
    const bool moves = free * a <= bound * a ? free == ratio : bound == ratio;
    return (surrogate){.loss = -(free * a < bound * a ? free * a : bound * a),
                       .by_ratio = moves ? -ratio * a : 0,
                       .low = free < bottom && a<0, .high = free> top && a > 0};
}

static surrogate cispo(const grpo_cfg *c, double ratio, double a, double logp)
{
    const double weight = ratio < obj_roll_high(&c->group) ? ratio : obj_roll_high(&c->group);
    return (surrogate){.loss = -weight * a * logp,
                       .by_logp = -weight * a,
                       .high = ratio > obj_roll_high(&c->group) && a > 0};
}

/* k of a token, without the ratio, and its slope. */
static double divergence(const roll_view *x, int64_t i, double *slope)
{
    const double d = (double)x->ref[i] - (double)x->logp[i];
    *slope = 1 - exp(d);
    return exp(d) - d - 1;
}

/* Mean of log π − log π_old. */
static double mean_ratio(const roll_view *x)
{
    double sum = 0;
    for (int64_t i = 0; i < x->one->n; i++) sum += (double)x->logp[i] - (double)x->old[i];
    return sum / (double)x->one->n;
}

static void each(roll *p, roll_view *x, obj_stats *stats)
{
    const grpo_cfg *c = p->c->cfg;
    const bool whole = says(c->importance_sampling_level, "sequence");
    const bool soft = says(c->loss_type, "cispo");
    const double w = share(p, x->one), a = x->one->advantage, log_mean = whole ? mean_ratio(x) : 0;
    const int64_t n = x->one->n;
    double of_all = 0;     /* d loss / d log ρ of the completion's one */
    if (!x->one->counts) { /* among the completions still */
        if (whole) obj_roll_log_clip(p, stats, false, false);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const double logp = (double)x->logp[i];
        const double ratio = exp(whole ? log_mean : logp - (double)x->old[i]);
        surrogate s = soft ? cispo(c, ratio, a, logp) : clipped(c, ratio, a);
        if (!whole || i == 0) obj_roll_log_clip(p, stats, s.low, s.high);
        if (c->group.beta != 0) {
            double slope, k = divergence(x, i, &slope);
            const double by = c->use_bias_correction_kl ? ratio : 1;
            s.loss += c->group.beta * k * by;
            s.by_logp += c->group.beta * slope * by;
            if (c->use_bias_correction_kl) s.by_ratio += c->group.beta * k * ratio;
            obj_roll_log(p, stats, ROLL_KL, k * by, 1);
        }
        x->loss += w * s.loss;
        x->slope[i] += w * (s.by_logp + (whole ? 0 : s.by_ratio));
        of_all += whole ? w * s.by_ratio : 0;
    }
    for (int64_t i = 0; i < n; i++) x->slope[i] += of_all / (double)n;
}

static ft_status open(obj_ctx *c, bool weights)
{
    const grpo_cfg *cfg = c->cfg;
    const roll_kind kind = {.reference = cfg->group.beta != 0, .judge = judge, .each = each};
    return obj_roll_open(c, weights, &kind);
}

const obj_objective obj_grpo = {
    .name = "grpo",
    .help = "sampled completions by their rewards beside those of the same prompt's others (GRPO "
            "and its relatives)",
    .fields = fields,
    .example =
        "{\"type\": \"grpo\", \"rewards\": [{\"type\": \"contains\"}], \"num_generations\": 4, "
        "\"max_completion_length\": 64}",
    .cfg_size = sizeof(grpo_cfg),
    ROLL_GROUP_ROW,
    .check = obj_roll_group_check,
    .open = open,
};
