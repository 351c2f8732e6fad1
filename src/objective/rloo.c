/* rloo.c – REINFORCE leave-one-out (Kool et al. 2019; Ahmadian et al. 2024): a completion's reward against the mean of the
 * same prompt's others.
 *
 *   R ← clip(R) − beta · Σ (log π_old − log r),  A = R − mean of the others,  ρ = exp(Σ log π − Σ log π_old)
 *   L = −min(ρ·A, clip(ρ, 1 − epsilon, 1 + epsilon_high)·A), the mean over completions */
#include "rollouts.h"

typedef struct rloo_cfg {
    roll_group_cfg group;
    const cJSON *reward_clip_range;
    bool normalize_advantages;
} rloo_cfg;

#define AT(member) offsetof(rloo_cfg, member)
static const cfg_field fields[] = {
    ROLL_GROUP_KEYS(
        "2", "0.05",
        "how much the divergence from the reference takes off a reward; 0: none is read"),
    {.key = "normalize_advantages",
     .type = CFG_BOOL,
     .offset = AT(normalize_advantages),
     .def = "false",
     .help = "advantages of the batch to mean 0 and deviation 1"},
    {.key = "reward_clip_range",
     .type = CFG_JSON,
     .offset = AT(reward_clip_range),
     .help = "[least, most]: rewards are brought between them"},
    CFG_END};

static bool has_range(const cJSON *v)
{
    return v && !cJSON_IsNull(v);
}

static void check(cfg_doc *d, const cJSON *object, void *cfg)
{
    const rloo_cfg *c = cfg;
    const cJSON *v = c->reward_clip_range, *low = cJSON_IsArray(v) ? v->child : NULL;
    const cJSON *high = low ? low->next : NULL;
    obj_roll_group_check(d, object, cfg);
    if (!has_range(v)) return;
    if (!cJSON_IsNumber(low) || !cJSON_IsNumber(high) || high->next ||
        low->valuedouble > high->valuedouble)
        cfg_fail(d, v, "objective.reward_clip_range", "must be [least, most], two numbers");
}

/* --- advantages ---------------------------------------------------------------------------------------------------- */
static double within(const rloo_cfg *c, double reward)
{
    if (!has_range(c->reward_clip_range)) return reward;
    const double low = c->reward_clip_range->child->valuedouble;
    const double high = c->reward_clip_range->child->next->valuedouble;
    return reward < low ? low : reward > high ? high : reward;
}

/* Σ (log π_old − log r); of one that is masked nothing is left. */
static double divergence(const roll_batch *b, const roll_one *x)
{
    double sum = 0;
    for (int64_t i = x->at; x->counts && i < x->at + x->n; i++)
        sum += (double)b->old[i] - (double)b->ref[i];
    return sum;
}

static void normalize(roll_batch *b, double *a)
{
    for (int i = 0; i < b->n; i++) a[i] = b->one[i].advantage;
    const double mean = obj_roll_mean(a, b->n), by = obj_roll_deviation(a, b->n) + 1e-4;
    for (int i = 0; i < b->n; i++) b->one[i].advantage = (a[i] - mean) / by;
}

static ft_status judge(roll *p, roll_batch *b)
{
    const rloo_cfg *c = p->c->cfg;
    double *reward = arena_get(p->c->step_mem, ((size_t)b->n + 1) * sizeof *reward);
    const int groups = (b->n + b->generations - 1) / b->generations;
    if (!reward) return FT_EMEM;
    for (int i = 0; i < b->n; i++) {
        reward[i] = within(c, b->one[i].reward);
        if (c->group.beta != 0) reward[i] -= c->group.beta * divergence(b, &b->one[i]);
    }
    b->even = 0;
    for (int first = 0; first < b->n; first += b->generations) {
        const int n = b->n - first < b->generations ? b->n - first : b->generations;
        const double sum = obj_roll_mean(reward + first, n) * n;
        b->even += obj_roll_deviation(reward + first, n) < 1e-8 ? 1.0 / groups : 0;
        for (int i = first; i < first + n; i++)
            b->one[i].advantage = n > 1 ? reward[i] - (sum - reward[i]) / (n - 1) : 0;
    }
    if (c->normalize_advantages) normalize(b, reward);
    return FT_OK;
}

/* --- the loss -------------------------------------------------------------------------------------------------------- */
static void each(roll *p, roll_view *x, obj_stats *stats)
{
    const rloo_cfg *c = p->c->cfg;
    const double a = x->one->advantage;
    const double top = 1 + obj_roll_high(&c->group), bottom = 1 - c->group.epsilon;
    double sum = 0;
    for (int64_t i = 0; x->one->counts && i < x->one->n; i++) {
        sum += (double)x->logp[i] - (double)x->old[i];
        if (x->ref) obj_roll_log(p, stats, ROLL_KL, (double)x->old[i] - (double)x->ref[i], 1);
    }
    const double ratio = exp(sum), bound = ratio < bottom ? bottom : ratio > top ? top : ratio;
    const bool moves = ratio * a <= bound * a;
    if (x->one->counts) x->loss = -(moves ? ratio * a : bound * a);
    for (int64_t i = 0; moves && i < x->one->n; i++) x->slope[i] = -ratio * a;
    obj_roll_log_clip(p, stats, ratio < bottom && a<0, ratio> top && a > 0);
}

static ft_status open(obj_ctx *c, bool weights)
{
    const rloo_cfg *cfg = c->cfg;
    const bool held = cfg->group.beta != 0;
    const roll_kind kind = {.reference = held, .old = held, .judge = judge, .each = each};
    return obj_roll_open(c, weights, &kind);
}

const obj_objective obj_rloo = {
    .name = "rloo",
    .help = "sampled completions by their rewards against the mean of the same prompt's others "
            "(RLOO)",
    .fields = fields,
    .example =
        "{\"type\": \"rloo\", \"rewards\": [{\"type\": \"contains\"}], \"num_generations\": 4, "
        "\"max_completion_length\": 64}",
    .cfg_size = sizeof(rloo_cfg),
    ROLL_GROUP_ROW,
    .check = check,
    .open = open,
};
