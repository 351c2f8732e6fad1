/* rollouts.c – objectives over sampled completions: opening, the passes that score a batch, and the loss of a micro-batch, for
 * which a row of the objective turns a completion's log-probabilities into a loss and its slopes.
 *
 * log π_old is that of the training forward before the batch's first step. Where nothing before that step reads it, the step's
 * own forward gives it, so it costs no pass; where there is no dropout its bits are the same. */
#include "rollouts_private.h"

#include <stdio.h>
#include <string.h>

const char *const obj_roll_references[] = {"base", NULL};

const char *const obj_roll_metric_names[ROLL_METRICS] = {
    [ROLL_REWARD] = "reward",
    [ROLL_REWARD_STD] = "reward_std",
    [ROLL_ZERO_STD] = "frac_reward_zero_std",
    [ROLL_LENGTH] = "completions/mean_length",
    [ROLL_CLIPPED] = "completions/clipped_ratio",
    [ROLL_KL] = "kl",
    [ROLL_ENTROPY] = "entropy",
    [ROLL_CLIP_LOW] = "clip_ratio/low_mean",
    [ROLL_CLIP_HIGH] = "clip_ratio/high_mean",
    [ROLL_CLIP_REGION] = "clip_ratio/region_mean",
};

double obj_roll_mean(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return n > 0 ? sum / n : 0;
}

double obj_roll_deviation(const double *x, int n)
{
    const double mean = obj_roll_mean(x, n);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sqrt(sum / (n - 1)) : 0;
}

/* --- the config ---------------------------------------------------------------------------------------------------- */
int64_t obj_roll_replays(const void *cfg)
{
    const roll_cfg *c = cfg;
    return c->rollouts ? c->num_generations : 0;
}

const char *obj_roll_reads(const void *cfg, int i)
{
    return rw_path_at(((const roll_cfg *)cfg)->list, i);
}

void obj_roll_check(cfg_doc *d, const cJSON *object, void *cfg)
{
    roll_cfg *c = cfg;
    const int before = d->errors;
    const ft_status rc = rw_read(&c->list, d, c->rewards, c->reward_weights, "objective.rewards");
    if (rc != FT_OK) {
        cfg_fatal(d, rc);
        return;
    }
    if (rw_count(c->list) == 0 && !c->rollouts && d->errors == before)
        cfg_missing(d, object, "objective.rewards",
                    "this key is required: a list of what completions are worth, such as "
                    "[{\"type\": \"exact\"}]");
}

/* --- of objectives with groups -------------------------------------------------------------------------------------- */
void obj_roll_group_check(cfg_doc *d, const cJSON *object, void *cfg)
{
    static const cfg_field no_default[] = { CFG_END };
    const roll_group_cfg *c = cfg;
    obj_roll_check(d, object, cfg);
    if (c->beta == 0) cfg_idle(d, object, "objective", no_default, "reference", "while beta is 0");
}

double obj_roll_high(const roll_group_cfg *c)
{
    return isnan(c->epsilon_high) ? c->epsilon : c->epsilon_high;
}

int64_t obj_roll_group_reuse(const void *cfg)
{
    return ((const roll_group_cfg *)cfg)->num_iterations;
}

bool obj_roll_group_refers(const void *cfg)
{
    return ((const roll_group_cfg *)cfg)->beta != 0;
}

const char *const obj_roll_group_metrics[] = {"reward",
                                              "reward_std",
                                              "frac_reward_zero_std",
                                              "completions/mean_length",
                                              "completions/clipped_ratio",
                                              "kl",
                                              "entropy",
                                              "clip_ratio/low_mean",
                                              "clip_ratio/high_mean",
                                              "clip_ratio/region_mean",
                                              NULL};

void obj_roll_log_clip(const roll *p, obj_stats *stats, bool low, bool high)
{
    obj_roll_log(p, stats, ROLL_CLIP_LOW, low, 1);
    obj_roll_log(p, stats, ROLL_CLIP_HIGH, high, 1);
    obj_roll_log(p, stats, ROLL_CLIP_REGION, low || high, 1);
}

/* The names of the rewards: of the config's list, else of the first record that is replayed. */
static ft_status reward_names(const roll_cfg *cfg, data_set *train, arena *mem,
                              const char *const **out)
{
    const int n = rw_count(cfg->list);
    const char **name = arena_get(mem, ((size_t)n + 1) * sizeof *name);
    data_sample first;
    js_doc r;
    if (!name) return FT_EMEM;
    for (int i = 0; i < n; i++) name[i] = rw_name(cfg->list, i);
    *out = name;
    if (n > 0 || !cfg->rollouts || data_count(train) == 0) return FT_OK;
    FT_TRY(data_get(train, 0, &first, mem));
    FT_TRY(obj_roll_record(&first, &r));
    const cJSON *all = js_get(r.root, "rewards"), *v;
    int k = 0;
    name = arena_get(mem, ((size_t)cJSON_GetArraySize(all) + 1) * sizeof *name);
    cJSON_ArrayForEach(v, all)
    {
        if (name && !(name[k++] = arena_str(mem, v->string))) name = NULL;
    }
    js_close(&r);
    *out = name;
    return name ? FT_OK : FT_EMEM;
}

ft_status obj_roll_names(const void *cfg, data_set *train, arena *mem, const char *const **out)
{
    const char *const *name;
    int n = 0;
    FT_TRY(reward_names(cfg, train, mem, &name));
    while (name[n]) n++;
    const char **all = arena_get(mem, ((size_t)n + 1) * sizeof *all);
    if (!all) return FT_EMEM;
    for (int i = 0; i < n; i++)
        if (!(all[i] = arena_printf(mem, "rewards/%s/mean", name[i]))) return FT_EMEM;
    *out = all;
    return FT_OK;
}

/* --- opening --------------------------------------------------------------------------------------------------------- */
/* It has an answer that the rewards can compare with. */
static ft_status check_answer(const roll *p, const data_sample *d)
{
    const roll_cfg *cfg = p->c->cfg;
    const char *const *answers;
    bool listed;
    FT_TRY(obj_roll_answers(d, p->c->step_mem, &answers, &listed));
    FT_CHECK(answers, FT_EDATA,
             "%s:%lld: answer: is missing, and objective.rewards compares with it",
             ft_shows(d->path), (long long)d->line);
    const ft_status rc = rw_check_answers(cfg->list, answers);
    const char *why = rc == FT_EDATA ? arena_str(p->c->step_mem, ft_error()) : NULL;
    if (!why) return rc;
    return ft_fail(rc, "%s:%lld: answer: %s", ft_shows(d->path), (long long)d->line, why);
}

/* Records that are replayed say what they are worth, by the rewards that are weighed; those that nobody has judged have what
 * the rewards want. *open: there are such. */
static ft_status check_records(const roll *p, data_set *set, bool replays, bool *open)
{
    const roll_cfg *cfg = p->c->cfg;
    arena *mem = p->c->step_mem;
    const bool wants = rw_wants_answer(cfg->list);
    for (int64_t i = 0; set && (replays || wants) && i < data_count(set); i++) {
        const size_t mark = arena_mark(mem);
        data_sample d;
        double *each = arena_get(mem, ((size_t)p->n_rewards + 1) * sizeof *each), reward;
        bool judged = false;
        if (!each) return FT_EMEM;
        FT_TRY(data_get(set, i, &d, mem));
        if (replays) FT_TRY(obj_roll_worth(p, &d, each, &reward, &judged));
        if (!judged && wants) FT_TRY(check_answer(p, &d));
        FT_CHECK(judged || rw_count(cfg->list) > 0, FT_EDATA,
                 "%s:%lld: reward: is missing, and there are no objective.rewards to judge it by",
                 ft_shows(d.path), (long long)d.line);
        *open = *open || !judged;
        arena_reset(mem, mark);
    }
    if (replays && !*open && !p->dry && rw_count(cfg->list) > 0)
        log_info("%s: every completion has its reward there; objective.rewards are not asked",
                 ft_shows(cfg->rollouts));
    *open = *open || (set && !replays);
    return FT_OK;
}

ft_status obj_roll_positions(const obj_ctx *c, int64_t prompt, int64_t answer, bool tell)
{
    const int64_t holds = c->m->d.max_position - nn_virtual(c->tuned),
                  room = c->max_length - prompt;
    if (answer > room) answer = room;
    if (c->m->d.max_position <= 0 || prompt + answer <= holds) return FT_OK;
    FT_CHECK(prompt <= holds, FT_EDATA,
             "data: a prompt has %lld tokens; the model has positions for %lld; lower "
             "data.max_length, which leaves longer ones out",
             (long long)prompt, (long long)holds);
    FT_CHECK(!c->m->position, FT_ECONFIG,
             "objective.max_completion_length: a prompt of %lld tokens and an answer of up to %lld "
             "do not fit into the model's %lld positions; lower it, or data.max_length",
             (long long)prompt, (long long)answer, (long long)holds);
    if (tell)
        log_warn("a prompt has %lld tokens, its answer up to %lld, and the model was made for %lld",
                 (long long)prompt, (long long)answer, (long long)holds);
    return FT_OK;
}

static ft_status check_room(roll *p)
{
    const obj_ctx *c = p->c;
    const roll_cfg *cfg = c->cfg;
    p->longest = p->replays ? 0 : data_longest_sequence(c->train, 1);
    if (c->eval && data_longest_sequence(c->eval, 1) > p->longest)
        p->longest = data_longest_sequence(c->eval, 1);
    if (p->longest >= c->max_length) p->longest = c->max_length - 1; /* others are left out */
    if (p->longest == 0) return FT_OK;
    return obj_roll_positions(c, p->longest, cfg->max_completion_length, p->dry);
}

/* Ids, labels, log-probabilities of policy and reference, and what answers take before they are put together. */
static size_t batch_bytes(const roll *p)
{
    enum { ARRAYS = 6 };
    const roll_cfg *cfg = p->c->cfg;
    const int64_t one = p->replays ? data_longest_sequence(p->c->train, 1)
                                   : p->longest + obj_roll_room(p, p->longest);
    return (size_t)(p->c->batch_size * cfg->num_generations * one) * ARRAYS * sizeof(float);
}

/* Lines of rollouts.jsonl: ids, text and figures of each completion, were all as long as they may be. */
static size_t line_bytes(const roll *p)
{
    enum { NUMBER = 16, REST = 256 }; /* a float and its comma; names of members, small numbers */
    const roll_cfg *cfg = p->c->cfg;
    const size_t id = obj_roll_id_bytes(p->c->m->d.vocab_size);
    const int64_t room =
        p->replays ? data_longest_sequence(p->c->train, 1) : obj_roll_room(p, p->longest);
    size_t token = id + OBJ_ROLL_TEXT + NUMBER + (p->kind.reference ? NUMBER : 0), rest = REST;
    for (int k = 0; p->kind.figures && p->kind.figures[k]; k++) token += NUMBER;
    for (int k = 0; k < p->n_rewards; k++) rest += strlen(p->reward[k]) + 2 * NUMBER;
    return (size_t)(p->c->batch_size * cfg->num_generations) *
           ((size_t)p->longest * id + (size_t)room * token + rest);
}

/* For the plan: what is made of the samples, and what the passes of prepare take. */
static ft_status plan(roll *p)
{
    obj_ctx *c = p->c;
    const roll_cfg *cfg = c->cfg;
    const obj_made made = {cfg->num_generations, cfg->max_completion_length};
    c->bytes += batch_bytes(p);
    c->batch_line_bytes = line_bytes(p);
    if (!p->replays) c->made = made;
    c->made_of_eval = made;
    if (p->longest == 0) return FT_OK; /* nothing is sampled */
    return obj_roll_plan(p, p->judge_ctx.tape);
}

static ft_status open_judges(roll *p, bool weights)
{
    const roll_cfg *cfg = p->c->cfg;
    bool wanted = false;
    FT_TRY(check_records(p, p->c->train, p->replays, &wanted));
    FT_TRY(check_records(p, p->c->eval, false, &wanted));
    FT_CHECK(!wanted || rw_count(cfg->list) > 0, FT_EDATA,
             "data.eval: there are no objective.rewards to judge its answers by");
    if (!wanted) return FT_OK;
    p->judge_ctx = (rw_ctx){.mem = p->c->mem,
                            .dir = p->c->dir,
                            .policy = p->c->m,
                            .tok = p->c->tok,
                            .tape = p->judge_ctx.tape,
                            .dry = !weights};
    FT_TRY(rw_open(&p->judges, cfg->list, &p->judge_ctx));
    p->c->bytes += p->judge_ctx.bytes;
    return FT_OK;
}

static void find_metrics(roll *p)
{
    const char *const *own = p->c->row->metrics;
    for (int m = 0; m < ROLL_METRICS; m++) {
        p->at[m] = -1;
        for (int i = 0; own[i]; i++)
            if (strcmp(own[i], obj_roll_metric_names[m]) == 0) p->at[m] = i;
    }
    p->first_reward = obj_metrics(p->c->row);
    while (p->reward[p->n_rewards]) p->n_rewards++;
}

static ft_status open(roll *p, bool weights)
{
    obj_ctx *c = p->c;
    const roll_cfg *cfg = c->cfg;
    const int64_t longest = p->replays ? data_longest_sequence(c->train, 1) : c->max_length;
    FT_TRY(arena_open(&p->mem, "rollouts", (size_t)1 << 40));
    FT_TRY(reward_names(cfg, c->train, c->mem, &p->reward));
    find_metrics(p);
    FT_TRY(check_room(p));
    FT_CHECK(c->tok || p->longest == 0, FT_ECONFIG,
             "objective.type: \"%s\" samples answers, and the model has no tokenizer to say what "
             "ends them",
             c->row->name);
    if (p->longest > 0) FT_TRY(obj_roll_measure(p, weights ? NULL : p->judge_ctx.tape));
    FT_TRY(open_judges(p, weights));
    const char *reference = obj_other_reference(c, cfg->reference);
    if (p->kind.reference && reference)
        FT_TRY(obj_other_open(c, "the reference", reference, NULL, longest, weights, &p->ref));
    c->bytes += p->ref.bytes;
    return weights ? FT_OK : plan(p);
}

ft_status obj_roll_open(obj_ctx *c, bool weights, const roll_kind *kind)
{
    const roll_cfg *cfg = c->cfg;
    roll *p = c->priv = arena_get(c->mem, sizeof *p);
    if (!p) return FT_EMEM;
    p->c = c;
    p->kind = *kind;
    p->replays = cfg->rollouts != NULL;
    p->reuse = c->row->reuse ? c->row->reuse(cfg) : 1;
    p->ref = obj_other_base(c);
    p->dry = !weights;
    c->calm = cfg->disable_dropout;
    p->judge_ctx.tape = c->tape;
    if (!weights) FT_TRY(ag_open(&p->judge_ctx.tape, 0));
    return open(p, weights);
}

void obj_roll_close(obj_ctx *c)
{
    roll *p = c->priv;
    if (!p) return;
    rw_close(p->judges);
    obj_other_close(&p->ref);
    arena_close(p->mem);
    if (p->dry) ag_close(p->judge_ctx.tape);
}

/* --- rows that are scored -------------------------------------------------------------------------------------------- */
static bool find(const roll *p, nn_run *r, const data_batch *b, roll_rows *out)
{
    const size_t n = (size_t)r->tokens + 1;
    *out = (roll_rows){.one = ag_meta(r->t, n * sizeof *out->one),
                       .place = ag_meta(r->t, n * sizeof *out->place),
                       .logprob = ag_meta(r->t, n * sizeof *out->logprob),
                       .entropy = ag_meta(r->t, n * sizeof *out->entropy)};
    if (r->t->status != FT_OK) return false;
    for (int32_t q = 0, at = 0; q < r->rows->n_seq; q++) {
        const int32_t end = at + r->rows->len[q];
        for (int32_t place = 0; at < end; at++) {
            if (r->label[at] < 0) continue;
            out->one[out->n] = r->t->dry ? 0 : p->picked[b->seq_slot[q]];
            out->place[out->n++] = place++;
        }
    }
    return true;
}

tn_tensor *obj_roll_score(const roll *p, nn_run *r, tn_tensor *hidden, model *m, bool entropy,
                          roll_rows *rows)
{
    const roll_cfg *cfg = p->c->cfg;
    const ag_score what = {.head = model_head(m, r),
                           .label = r->label,
                           .temperature = (float)cfg->temperature,
                           .logprob = rows->logprob,
                           .entropy = entropy ? rows->entropy : NULL};
    return ag_logprob(r->t, hidden, &what);
}

/* One run of the policy, or of the reference, over the completions of a micro-batch. */
static ft_status run_alone(const roll *p, ag_tape *t, const data_batch *d, bool reference,
                           nn_run *r, roll_rows *rows, tn_tensor **hidden)
{
    const obj_ctx *c = p->c;
    model *m = reference ? p->ref.m : c->m;
    FT_TRY(nn_run_open(r, t, &d->in, reference ? p->ref.over : c->tuned, 0));
    if (!find(p, r, d, rows)) return t->status;
    *hidden = model_hidden(m, r);
    obj_roll_score(p, r, *hidden, m, false, rows);
    return t->status;
}

static ft_status reference_alone(const void *with, ag_tape *t, const data_batch *d)
{
    nn_run r;
    roll_rows rows;
    tn_tensor *hidden = NULL;
    return run_alone(with, t, d, true, &r, &rows, &hidden);
}

bool obj_roll_find(const roll *p, nn_run *r, const data_batch *b, roll_rows *out)
{
    if (r->t->dry && p->kind.reference) obj_other_count(r, b, reference_alone, p);
    return find(p, r, b, out);
}

/* --- passes before the first step ------------------------------------------------------------------------------------ */
static ft_status score_run(roll *p, roll_batch *b, const data_batch *d, bool reference)
{
    nn_run r;
    roll_rows rows;
    tn_tensor *hidden = NULL;
    ag_reset(p->c->tape);
    FT_TRY(run_alone(p, p->c->tape, d, reference, &r, &rows, &hidden));
    float *to = reference ? b->ref : b->old;
    for (int64_t i = 0; i < rows.n; i++)
        to[b->one[rows.one[i]].at + rows.place[i]] = rows.logprob[i];
    return !reference && p->kind.see ? p->kind.see(p, b, &r, hidden, &rows) : FT_OK;
}

static ft_status score(roll *p, roll_batch *b, const obj_step *s, bool reference)
{
    arena *mem = p->c->step_mem;
    const nn_overlay *over = reference ? p->ref.over : p->c->tuned;
    data_split split = s->split;
    data_step cut;
    split.virtual_rows = nn_virtual(over);
    split.count_first = over && over->virtual_predict;
    FT_TRY(data_step_plan(s->sample, s->n, &split, &cut, mem));
    for (int i = 0; i < cut.n_micro; i++) {
        const size_t mark = arena_mark(mem);
        data_batch d;
        FT_TRY(ft_stop());
        log_progress("%s: %d of %d passes",
                     reference ? "log-probabilities of the reference" : "log-probabilities", i,
                     cut.n_micro);
        FT_TRY(data_batch_make(s->sample, &cut.micro[i], 0, &d, mem));
        FT_TRY(score_run(p, b, &d, reference));
        arena_reset(mem, mark);
    }
    return FT_OK;
}

/* --- the step -------------------------------------------------------------------------------------------------------- */
/* The samples of the picked completions, all their tokens supervised. */
static ft_status put_samples(roll *p, const roll_batch *b, obj_step *s)
{
    arena *mem = p->c->step_mem;
    data_sample *d = arena_get(mem, ((size_t)p->n_picked + 1) * sizeof *d);
    const int drawn = s->n;
    if (!d) return FT_EMEM;
    for (int k = 0; k < p->n_picked; k++) {
        const roll_one *x = &b->one[p->picked[k]];
        const data_sample *from = &s->sample[drawn == b->n      ? p->picked[k]
                                             : x->group < drawn ? x->group
                                                                : 0];
        const int64_t n = x->prompt + x->n;
        int32_t *labels = arena_get(mem, ((size_t)n + 1) * sizeof *labels);
        if (!labels) return FT_EMEM;
        for (int64_t i = 0; i < n; i++) labels[i] = i < x->prompt ? DATA_IGNORE : x->ids[i];
        labels[n] = (int32_t)n;
        d[k] = *from;
        d[k].ids = x->ids;
        d[k].labels = labels;
        d[k].seq_len = &labels[n];
        d[k].len = d[k].whole = n;
        d[k].n_seq = 1;
    }
    s->sample = d;
    s->n = p->n_picked;
    return FT_OK;
}

static ft_status pick(roll *p, const roll_batch *b, bool all)
{
    p->picked = arena_get(p->c->step_mem, ((size_t)b->n + 1) * sizeof *p->picked);
    if (!p->picked) return FT_EMEM;
    p->n_picked = b->n;
    for (int i = 0; i < b->n; i++) p->picked[i] = i;
    if (!all && p->kind.pick) p->n_picked = p->kind.pick(p, b, p->turn, p->picked);
    return FT_OK;
}

static void spread(roll_batch *b, double *reward)
{
    for (int i = 0; i < b->n; i++) reward[i] = b->one[i].reward;
    b->spread = obj_roll_deviation(reward, b->n);
    b->even = 0;
    const int groups = (b->n + b->generations - 1) / b->generations;
    for (int g = 0; g < groups; g++) {
        const int first = g * b->generations;
        const int n = b->n - first < b->generations ? b->n - first : b->generations;
        b->even += obj_roll_deviation(reward + first, n) < 1e-8 ? 1.0 / groups : 0;
    }
}

static ft_status make(roll *p, const obj_step *s, roll_batch *b, arena *mem)
{
    obj_step all = *s;
    double *reward;
    FT_TRY(obj_roll_make(p, s, b, mem));
    FT_TRY(obj_roll_reward(p, b, p->c->step_mem));
    FT_TRY(pick(p, b, true));
    FT_TRY(put_samples(p, b, &all));
    if (p->kind.old) FT_TRY(score(p, b, &all, false));
    if (p->kind.reference) FT_TRY(score(p, b, &all, true));
    reward = arena_get(p->c->step_mem, ((size_t)b->n + 1) * sizeof *reward);
    if (!reward) return FT_EMEM;
    spread(b, reward);
    return p->kind.judge(p, b);
}

ft_status obj_roll_prepare(obj_ctx *c, obj_step *s)
{
    roll *p = c->priv;
    p->turn = s->step < 0 ? 0 : s->turn;
    p->now = &p->held;
    if (s->step < 0) {
        p->now = arena_get(c->step_mem, sizeof *p->now);
        if (!p->now) return FT_EMEM;
        FT_TRY(make(p, s, p->now, c->step_mem));
    } else if (s->turn == 0) {
        arena_reset(p->mem, 0);
        FT_TRY(make(p, s, p->now, p->mem));
    }
    FT_CHECK(p->now->n > 0, FT_EDATA,
             "the checkpoint has none of the completions that step %lld goes on with",
             (long long)s->step + 1);
    FT_TRY(pick(p, p->now, s->step < 0));
    return put_samples(p, p->now, s);
}

ft_status obj_roll_after_update(obj_ctx *c, int64_t step)
{
    roll *p = c->priv;
    (void)step;
    p->held.fresh = false;
    p->left = p->reuse - 1 - p->turn;
    return FT_OK;
}

/* --- the loss -------------------------------------------------------------------------------------------------------- */
void obj_roll_log(const roll *p, obj_stats *stats, roll_metric m, double value, double weight)
{
    if (p->at[m] < 0) return;
    stats->metric[p->at[m]].sum += value * weight;
    stats->metric[p->at[m]].weight += weight;
}

void obj_roll_log_rewards(const roll *p, const data_batch *b, obj_stats *stats)
{
    const roll_batch *now = p->now;
    for (int q = 0; q < b->in.n_seq; q++) {
        const int i = p->picked[b->seq_slot[q]];
        const roll_one *x = &now->one[i];
        if (b->seq_slot[q] == 0) { /* of all, once */
            obj_roll_log(p, stats, ROLL_REWARD_STD, now->spread, 1);
            obj_roll_log(p, stats, ROLL_ZERO_STD, now->even, 1);
        }
        obj_roll_log(p, stats, ROLL_REWARD, x->reward, 1);
        obj_roll_log(p, stats, ROLL_LENGTH, (double)x->n, 1);
        obj_roll_log(p, stats, ROLL_CLIPPED, !x->finished, 1);
        for (int k = 0; k < p->n_rewards; k++) {
            const double v = now->rewards[(size_t)i * (size_t)p->n_rewards + (size_t)k];
            obj_metric *to = &stats->metric[p->first_reward + k];
            to->sum += isnan(v) ? 0 : v;
            to->weight += !isnan(v);
        }
    }
}

/* The rows of one completion: its loss, and of every row d loss / d log-probability. */
static void weigh_one(roll *p, const roll_rows *rows, int64_t from, int64_t n, double units,
                      double *slope, float *weight, obj_stats *stats)
{
    roll_batch *now = p->now;
    const roll_one *x = &now->one[rows->one[from]];
    if (now->fresh) memcpy(&now->old[x->at], &rows->logprob[from], (size_t)n * sizeof(float));
    roll_view view = {.one = x,
                      .logp = &rows->logprob[from],
                      .old = &now->old[x->at],
                      .ref = now->ref ? &now->ref[x->at] : NULL,
                      .slope = slope};
    memset(slope, 0, (size_t)n * sizeof *slope);
    p->kind.each(p, &view, stats);
    stats->loss += x->counts ? view.loss : 0;
    stats->units++;
    for (int64_t i = 0; i < n; i++)
        weight[from + i] = (float)(units > 0 && x->counts ? slope[i] / units : 0);
    if (!x->counts) return;
    stats->tokens += n;
    for (int64_t i = 0; i < n; i++)
        obj_roll_log(p, stats, ROLL_ENTROPY, (double)rows->entropy[from + i], 1);
}

tn_tensor *obj_roll_loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    roll *p = c->priv;
    roll_rows rows;
    if (!obj_roll_find(p, r, b, &rows)) return NULL;
    float *weight = ag_meta(r->t, ((size_t)rows.n + 1) * sizeof *weight);
    double *slope = ag_meta(r->t, ((size_t)rows.n + 1) * sizeof *slope);
    tn_tensor *y = obj_roll_score(p, r, model_hidden(c->m, r), c->m, true, &rows);
    if (r->t->status != FT_OK || !weight || !slope) return NULL;
    if (r->t->dry) return ag_dot_const(r->t, y, weight);
    for (int64_t i = 0, next; i < rows.n; i = next) {
        for (next = i; next < rows.n && rows.one[next] == rows.one[i];) next++;
        weigh_one(p, &rows, i, next - i, units, slope, weight, stats);
    }
    obj_roll_log_rewards(p, b, stats);
    return ag_dot_const(r->t, y, weight);
}
