/* ppo.c – proximal policy optimisation (Schulman et al. 2017) of sampled completions as Ziegler et al. 2019 and Ouyang et al.
 * 2022 (InstructGPT) have it: a reward at the end, a penalty at every token for leaving the reference, and a value head that
 * says what is expected from there on.
 *
 *   reward_t = −kl_coef · kl_t, + R at the last token;  kl_t = log π_old − log r, or its k3 form
 *   δ_t = reward_t + γ V_{t+1} − V_t,  A_t = δ_t + γ λ A_{t+1},  returns = A + V;  A whitened over the batch's tokens
 *   loss = mean max(−Aρ, −A clip(ρ, 1 ± cliprange)) + vf_coef · ½ mean max((v − returns)², (clip(v, V ± cliprange_value) − returns)²)
 * with ρ = π/π_old, and V, log π_old and log r from before the batch's first step. Means run over the tokens of a mini-batch,
 * which is a share of the batch's completions in an order drawn from the seed, anew in every epoch over the batch. */
#include "rollouts.h"
#include "value_head.h"

#include <string.h>

typedef struct ppo_cfg {
    roll_cfg roll;
    double kl_coef, cliprange, cliprange_value, vf_coef, gamma, lam, missing_eos_penalty;
    const char *kl_estimator, *value_head;
    int64_t num_ppo_epochs, num_mini_batches;
    bool whiten_rewards;
} ppo_cfg;

#define AT(member) offsetof(ppo_cfg, member)
#define NUMBER(k, d, most, h)                                                                      \
    {                                                                                              \
        .key = #k, .type = CFG_FLOAT, .offset = AT(k), .def = d, .low = 0, .high = most, .help = h \
    }
#define COUNT(k, d, h)                                                                             \
    {                                                                                              \
        .key = #k, .type = CFG_INT, .offset = AT(k), .def = d, .low = 1, .high = 1e6, .help = h    \
    }
static const char *const estimators[] = {"k1", "k3", NULL};
static const cfg_field fields[] = {
    ROLL_KEYS("1", 1),
    ROLL_DROPOUT("true"),
    NUMBER(kl_coef, "0.05", 1e6, "weight of the penalty for leaving the reference"),
    {.key = "kl_estimator",
     .type = CFG_ENUM,
     .offset = AT(kl_estimator),
     .def = "\"k1\"",
     .choices = estimators,
     .help = "of that penalty by token: log π − log r, or a form of less variance that is never "
             "negative"},
    NUMBER(cliprange, "0.2", 1e6, "how far the probability ratio counts from 1"),
    NUMBER(cliprange_value, "0.2", 1e6, "how far a value counts from what it was"),
    NUMBER(vf_coef, "0.1", 1e6, "weight of the value loss"),
    NUMBER(gamma, "1", 1, "discount of later rewards"),
    NUMBER(lam, "0.95", 1, "of generalised advantage estimation: 0 trusts values, 1 rewards"),
    COUNT(num_ppo_epochs, "4", "times that a batch of completions is trained on"),
    COUNT(num_mini_batches, "1", "optimizer steps in each of them, of a share of the completions"),
    {.key = "whiten_rewards",
     .type = CFG_BOOL,
     .offset = AT(whiten_rewards),
     .def = "false",
     .help = "rewards by token are brought to a deviation of 1, their mean kept"},
    {.key = "missing_eos_penalty",
     .type = CFG_FLOAT,
     .offset = AT(missing_eos_penalty),
     .low = 0,
     .high = 1e6,
     .help = "taken off the reward of a completion that does not end; default: nothing"},
    {.key = "value_head",
     .type = CFG_PATH,
     .offset = AT(value_head),
     .help = "value head to begin with: a value_head.safetensors, or the folder of a run; default: "
             "zero"},
    CFG_END};

/* --- what is kept by token ------------------------------------------------------------------------------------------ */
enum { VALUES, ADVANTAGES, RETURNS };
static const char *const figures[] = {
    [VALUES] = "values", [ADVANTAGES] = "advantages", [RETURNS] = "returns", NULL};

typedef struct ppo {
    value_head head;
    int64_t *order; /* [completions of a batch] */
} ppo;

/* --- the batch -------------------------------------------------------------------------------------------------------- */
static double kl_of(const ppo_cfg *c, double old, double ref)
{
    const double x = ref - old;
    return strcmp(c->kl_estimator, "k3") == 0 ? expm1(x) - x : -x;
}

/* What the completion is worth as a whole. */
static double score_of(const ppo_cfg *c, const roll_one *y)
{
    const bool missing = !y->finished && !isnan(c->missing_eos_penalty);
    return y->reward - (missing ? c->missing_eos_penalty : 0);
}

static ft_status see(roll *p, roll_batch *b, nn_run *r, tn_tensor *hidden, const roll_rows *rows)
{
    const ppo *own = p->own;
    const tn_tensor *v = obj_value(r, &own->head, hidden);
    FT_TRY(r->t->status);
    for (int64_t i = 0; i < rows->n && !r->t->dry; i++)
        b->figure[VALUES][b->one[rows->one[i]].at + rows->place[i]] = tn_f32(v)[i];
    return FT_OK;
}

/* x − its mean, over the deviation of those tokens that count (n − 1), + `keep` of the mean. */
static void whiten(const roll_batch *b, double *x, double keep)
{
    double mean = 0, var = 0;
    for (int i = 0; i < b->n; i++)
        for (int64_t t = 0; t < b->one[i].n && b->one[i].counts; t++)
            mean += x[b->one[i].at + t] / (double)b->counted;
    for (int i = 0; i < b->n && b->counted > 1; i++)
        for (int64_t t = 0; t < b->one[i].n && b->one[i].counts; t++)
            var += (x[b->one[i].at + t] - mean) * (x[b->one[i].at + t] - mean) /
                   (double)(b->counted - 1);
    for (int64_t t = 0; t < b->tokens; t++) x[t] = (x[t] - mean) / sqrt(var + 1e-8) + keep * mean;
}

static void rewards_by_token(const ppo_cfg *c, const roll_batch *b, double *out)
{
    for (int i = 0; i < b->n; i++) {
        const roll_one *y = &b->one[i];
        for (int64_t t = y->at; t < y->at + y->n; t++)
            out[t] = -c->kl_coef * kl_of(c, (double)b->old[t], (double)b->ref[t]);
        out[y->at + y->n - 1] += score_of(c, y);
    }
}

/* Rewards of a completion become its advantages, from the end on. */
static void estimate(const ppo_cfg *c, const roll_batch *b, const roll_one *y, double *x)
{
    const float *value = b->figure[VALUES];
    double after = 0, next = 0;
    for (int64_t t = y->at + y->n - 1; t >= y->at; t--) {
        const double v = (double)value[t];
        x[t] = after = x[t] + c->gamma * next - v + c->gamma * c->lam * after;
        b->figure[RETURNS][t] = (float)(after + v);
        next = v;
    }
}

static ft_status judge(roll *p, roll_batch *b)
{
    const ppo_cfg *c = p->c->cfg;
    double *x = arena_get(p->c->step_mem, ((size_t)b->tokens + 1) * sizeof *x);
    if (!x) return FT_EMEM;
    rewards_by_token(c, b, x);
    if (c->whiten_rewards) whiten(b, x, 1);
    for (int i = 0; i < b->n; i++) estimate(c, b, &b->one[i], x);
    whiten(b, x, 0);
    for (int i = 0; i < b->n; i++) {
        roll_one *y = &b->one[i];
        y->advantage = 0;
        for (int64_t t = y->at; t < y->at + y->n; t++) {
            b->figure[ADVANTAGES][t] = (float)x[t];
            y->advantage += x[t] / (double)y->n;
        }
    }
    return FT_OK;
}

/* --- mini-batches ------------------------------------------------------------------------------------------------------ */
#define ORDER_KEY 0x70706fu /* identity of their random numbers: "ppo" */

static int pick(const roll *p, const roll_batch *b, int64_t turn, int32_t *out)
{
    const ppo_cfg *c = p->c->cfg;
    const ppo *own = p->own;
    const int64_t many = c->num_mini_batches, k = turn % many;
    const uint64_t key = rng_key(p->c->seed, ORDER_KEY, (uint64_t)b->number);
    const int first = (int)(k * b->n / many), end = (int)((k + 1) * b->n / many);
    rng_permute(own->order, b->n, rng_key(key, (uint64_t)(turn / many), 0));
    for (int i = first; i < end; i++) out[i - first] = (int32_t)own->order[i];
    return end - first;
}

static int64_t reuse(const void *cfg)
{
    const ppo_cfg *c = cfg;
    return c->num_ppo_epochs * c->num_mini_batches;
}

/* --- the loss ------------------------------------------------------------------------------------------------------------ */
enum {
    KL,
    SCORES,
    RLHF_REWARD,
    POLICY,
    VALUE,
    CLIPFRAC,
    VALUE_CLIPFRAC,
    APPROXKL,
    ENTROPY,
};
static const char *const metrics[] = {[KL] = "objective/kl",
                                      [SCORES] = "objective/scores",
                                      [RLHF_REWARD] = "objective/rlhf_reward",
                                      [POLICY] = "loss/policy_avg",
                                      [VALUE] = "loss/value_avg",
                                      [CLIPFRAC] = "policy/clipfrac_avg",
                                      [VALUE_CLIPFRAC] = "val/clipfrac_avg",
                                      [APPROXKL] = "policy/approxkl_avg",
                                      [ENTROPY] = "policy/entropy_avg",
                                      NULL};

static double clip(double x, double from, double range)
{
    return fmin(fmax(x, from - range), from + range);
}

static void note(obj_stats *stats, int metric, double value)
{
    stats->metric[metric].sum += value;
    stats->metric[metric].weight++;
}

/* One token: its loss, and the slopes by its log-probability and its value. */
typedef struct token {
    double logp, value, entropy; /* in */
    double loss, by_logp, by_value;
} token;

static void weigh(const ppo_cfg *c, const roll_batch *b, int64_t at, token *x, obj_stats *stats)
{
    const double advantage = (double)b->figure[ADVANTAGES][at], old = (double)b->figure[VALUES][at];
    const double returns = (double)b->figure[RETURNS][at], moved = x->logp - (double)b->old[at];
    const double ratio = exp(moved), plain = -advantage * ratio,
                 held = -advantage * clip(ratio, 1, c->cliprange);
    const double v = x->value, near = clip(v, old, c->cliprange_value);
    const double far_loss = (v - returns) * (v - returns),
                 near_loss = (near - returns) * (near - returns);
    const double policy = fmax(plain, held), value = 0.5 * fmax(far_loss, near_loss);
    x->loss = policy + c->vf_coef * value;
    x->by_logp = plain >= held ? plain : 0;
    x->by_value = far_loss >= near_loss ? c->vf_coef * (v - returns) : 0;
    note(stats, POLICY, policy);
    note(stats, VALUE, value);
    note(stats, CLIPFRAC, held > plain);
    note(stats, VALUE_CLIPFRAC, near_loss > far_loss);
    note(stats, APPROXKL, 0.5 * moved * moved);
    note(stats, ENTROPY, x->entropy);
}

/* Of the completions as wholes. */
static void log_completion(const ppo_cfg *c, const roll_batch *b, const roll_one *y,
                           obj_stats *stats)
{
    double kl = 0;
    for (int64_t t = y->at; t < y->at + y->n; t++)
        kl += kl_of(c, (double)b->old[t], (double)b->ref[t]);
    note(stats, KL, kl);
    note(stats, SCORES, score_of(c, y));
    note(stats, RLHF_REWARD, score_of(c, y) - c->kl_coef * kl);
}

/* Of the step's completions that count. */
static int64_t step_tokens(const roll *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->n_picked; i++) {
        const roll_one *y = &p->now->one[p->picked[i]];
        n += y->counts ? y->n : 0;
    }
    return n;
}

/* Slopes of all rows, and the sums of the batch's completions. */
static void add_up(const roll *p, const data_batch *b, const roll_rows *rows, const float *value,
                   float *by_logp, float *by_value, obj_stats *stats)
{
    const ppo_cfg *c = p->c->cfg;
    const roll_batch *now = p->now;
    const double tokens = (double)step_tokens(p);
    for (int q = 0; q < b->in.n_seq; q++)
        log_completion(c, now, &now->one[p->picked[b->seq_slot[q]]], stats);
    for (int64_t i = 0; i < rows->n; i++) {
        const roll_one *y = &now->one[rows->one[i]];
        token x = {.logp = (double)rows->logprob[i],
                   .value = (double)value[i],
                   .entropy = (double)rows->entropy[i]};
        if (!y->counts) continue;
        weigh(c, now, y->at + rows->place[i], &x, stats);
        by_logp[i] = (float)(x.by_logp / tokens);
        by_value[i] = (float)(x.by_value / tokens);
        stats->loss += x.loss / tokens * p->n_picked;
        stats->tokens++;
    }
    stats->units += b->in.n_seq;
    obj_roll_log_rewards(p, b, stats);
}

static tn_tensor *loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    const roll *p = c->priv;
    const ppo *own = p->own;
    roll_rows rows;
    (void)units; /* an evaluation wants no gradient, whatever these are */
    if (!obj_roll_find(p, r, b, &rows)) return NULL;
    tn_tensor *h = model_hidden(c->m, r);
    tn_tensor *logp = obj_roll_score(p, r, h, c->m, true, &rows);
    tn_tensor *v = obj_value(r, &own->head, h);
    float *by_logp = ag_meta(r->t, ((size_t)rows.n + 1) * sizeof *by_logp);
    float *by_value = ag_meta(r->t, ((size_t)rows.n + 1) * sizeof *by_value);
    if (r->t->status != FT_OK) return NULL;
    if (!r->t->dry) add_up(p, b, &rows, tn_f32(v), by_logp, by_value, stats);
    return ag_add(r->t, ag_dot_const(r->t, logp, by_logp), ag_dot_const(r->t, v, by_value));
}

/* --- the row --------------------------------------------------------------------------------------------------------------- */
static ft_status open(obj_ctx *c, bool weights)
{
    const ppo_cfg *cfg = c->cfg;
    const int64_t n = c->batch_size * cfg->roll.num_generations;
    const roll_kind kind = {.reference = true,
                            .old = true,
                            .figures = figures,
                            .see = see,
                            .judge = judge,
                            .pick = pick};
    FT_CHECK(cfg->num_mini_batches <= n, FT_ECONFIG,
             "objective.num_mini_batches: %lld, where a batch has %lld completions "
             "(train.batch_size · objective.num_generations)",
             (long long)cfg->num_mini_batches, (long long)n);
    FT_TRY(obj_roll_open(c, weights, &kind));
    roll *p = c->priv;
    ppo *own = p->own = arena_get(c->mem, sizeof *own);
    if (!own) return FT_EMEM;
    own->order = arena_get(c->mem, (size_t)n * sizeof *own->order);
    if (!own->order) return FT_EMEM;
    return obj_value_open(c, cfg->value_head, weights, &own->head);
}

static ft_status save(const obj_ctx *c, const char *dir)
{
    const roll *p = c->priv;
    const ppo *own = p->own;
    return obj_value_save(c, &own->head, dir);
}

const obj_objective obj_ppo = {
    .name = "ppo",
    .help = "sampled completions, their rewards, and a value head that expects them (PPO)",
    .fields = fields,
    .example = "{\"type\": \"ppo\", \"rewards\": [{\"type\": \"contains\"}], "
               "\"max_completion_length\": 64}",
    .cfg_size = sizeof(ppo_cfg),
    .reference = true,
    .learning_rate = 1e-6,
    .adapter_rate = 1e-5,
    .metrics = metrics,
    .telling = "objective/scores",
    .check = obj_roll_check,
    .open = open,
    .reuse = reuse,
    .loss = loss,
    .save = save,
    .files = obj_value_files,
    ROLL_ROW,
};
