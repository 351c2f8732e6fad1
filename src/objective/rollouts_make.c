/* rollouts_make.c – completions of a batch's prompts, and what each is worth.
 *
 * They are sampled by the policy as it is, all together; a token is a pure function of the seed, the number of the batch, the
 * prompt's place in it, the completion's number and the token's place, whatever is sampled beside it. Or they stand in
 * the samples already. Rewards come from the judges, or with the record. */
#include "rollouts_private.h"

#include "ft/io.h"

#include <string.h>

#define ROLL_KEY 0x726f6c6cu /* identity of a training batch's random numbers: "roll"; */
#define EVAL_KEY 0x6576616cu /* of an evaluation's: "eval" */

int64_t obj_roll_prompt(const data_sample *d)
{
    int64_t n = 0;
    while (n < d->len && d->labels[n] == DATA_IGNORE) n++;
    return n;
}

int64_t obj_roll_room(const roll *p, int64_t prompt)
{
    const roll_cfg *cfg = p->c->cfg;
    const model *m = p->c->m;
    int64_t most = p->c->max_length;
    if (m->position && m->d.max_position - nn_virtual(p->c->tuned) < most)
        most = m->d.max_position - nn_virtual(p->c->tuned);
    const int64_t left = most - prompt;
    return left < cfg->max_completion_length ? left : cfg->max_completion_length;
}

/* --- records ---------------------------------------------------------------------------------------------------- */
ft_status obj_roll_record(const data_sample *d, js_doc *out)
{
    const char *text = d->extra ? d->extra : "{}";
    *out = (js_doc){0};
    return js_parse(out, text, strlen(text), d->path, (int)d->line, JS_BIG_NUMBERS, FT_EDATA);
}

/* A text, or a number as one, in mem. */
static ft_status answer_text(const data_sample *d, const cJSON *v, arena *mem, const char **out)
{
    str_buf s = {0};
    FT_CHECK(cJSON_IsString(v) || cJSON_IsNumber(v), FT_EDATA,
             "%s:%lld: answer: must be a text, a number, or a list of them", ft_shows(d->path),
             (long long)d->line);
    if (cJSON_IsNumber(v)) js_print(&s, v, false);
    const ft_status rc = str_ok(&s);
    *out = rc == FT_OK ? arena_str(mem, cJSON_IsString(v) ? v->valuestring : s.data) : NULL;
    str_free(&s);
    return rc == FT_OK && !*out ? FT_EMEM : rc;
}

static ft_status read_answers(const data_sample *d, const cJSON *v, arena *mem,
                              const char *const **out)
{
    const bool list = cJSON_IsArray(v);
    const int n = list ? cJSON_GetArraySize(v) : 1;
    FT_CHECK(n > 0, FT_EDATA, "%s:%lld: answer: an empty list: nothing is right", ft_shows(d->path),
             (long long)d->line);
    const char **all = arena_get(mem, ((size_t)n + 1) * sizeof *all);
    if (!all) return FT_EMEM;
    *out = all;
    for (const cJSON *e = list ? v->child : v; e; e = list ? e->next : NULL)
        FT_TRY(answer_text(d, e, mem, all++));
    return FT_OK;
}

ft_status obj_roll_answers(const data_sample *d, arena *mem, const char *const **out, bool *listed)
{
    js_doc r;
    *out = NULL;
    FT_TRY(obj_roll_record(d, &r));
    const cJSON *v = js_get(r.root, "answer");
    *listed = cJSON_IsArray(v);
    const ft_status rc = v && !cJSON_IsNull(v) ? read_answers(d, v, mem, out) : FT_OK;
    js_close(&r);
    return rc;
}

/* A NUL, which ends a text for judges and readers, is no character of one. */
static void add_without_nul(str_buf *out, const str_buf *text)
{
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i])
            str_addc(out, text->data[i]);
        else
            str_adds(out, "\xef\xbf\xbd"); /* U+FFFD */
    }
}

ft_status obj_roll_decode(const tok_tokenizer *tok, const int32_t *id, int64_t n, str_buf *out)
{
    tok_ids shown = {0};
    str_buf text = {0};
    ft_status rc = FT_OK;
    for (int64_t i = 0; tok && rc == FT_OK && i < n; i++)
        if (tok_text(tok, id[i]) && !tok_is_special(tok, id[i])) rc = tok_ids_push(&shown, id[i]);
    if (rc == FT_OK && tok) rc = tok_decode(tok, shown.id, shown.n, &text);
    if (rc == FT_OK) rc = str_ok(&text);
    if (rc == FT_OK) add_without_nul(out, &text);
    tok_ids_free(&shown);
    str_free(&text);
    return rc == FT_OK ? str_ok(out) : rc;
}

bool obj_roll_ends(const tok_tokenizer *tok, int32_t id)
{
    int n = 0;
    const int32_t *stop = tok ? tok_stops(tok, &n) : NULL;
    while (n > 0 && stop[n - 1] != id) n--;
    return n > 0;
}

ft_status obj_roll_text(const roll *p, const roll_one *x, str_buf *out)
{
    return obj_roll_decode(p->c->tok, x->ids + x->prompt, x->n, out);
}

/* --- a batch ------------------------------------------------------------------------------------------------------ */
static ft_status room(const roll *p, roll_batch *b, int64_t ids, int64_t tokens, arena *mem,
                      int32_t **out)
{
    const size_t n = (size_t)b->n, t = (size_t)tokens + 1;
    *out = arena_get(mem, ((size_t)ids + 1) * sizeof **out);
    b->tokens = tokens;
    b->old = arena_get(mem, t * sizeof *b->old);
    b->ref = p->kind.reference ? arena_get(mem, t * sizeof *b->ref) : NULL;
    b->rewards = arena_get(mem, (n * (size_t)p->n_rewards + 1) * sizeof *b->rewards);
    bool ok = *out && b->old && b->rewards && (b->ref || !p->kind.reference);
    for (int k = 0; p->kind.figures && p->kind.figures[k]; k++) {
        b->figure[k] = arena_get(mem, t * sizeof *b->figure[k]);
        ok = ok && b->figure[k];
    }
    return ok ? FT_OK : FT_EMEM;
}

/* Prompt and completion, side by side at ids, as completion i of the batch. */
static void put(const roll *p, roll_batch *b, int i, const data_sample *from, int64_t prompt,
                const int32_t *completion, int64_t n, int32_t *ids)
{
    const roll_cfg *cfg = p->c->cfg;
    roll_one *x = &b->one[i];
    memcpy(ids, from->ids, (size_t)prompt * sizeof *ids);
    memcpy(ids + prompt, completion, (size_t)n * sizeof *ids);
    *x = (roll_one){.ids = ids,
                    .prompt = prompt,
                    .n = n,
                    .at = i > 0 ? x[-1].at + x[-1].n : 0,
                    .group = i / b->generations,
                    .finished = obj_roll_ends(p->c->tok, completion[n - 1]),
                    .from = from};
    x->counts = x->finished || !cfg->mask_truncated_completions;
}

/* --- completions that are there ------------------------------------------------------------------------------------ */
/* What the record says of its end goes before what its last token says. */
static ft_status read_end(const roll *p, roll_one *x)
{
    const roll_cfg *cfg = p->c->cfg;
    js_doc r;
    FT_TRY(obj_roll_record(x->from, &r));
    const cJSON *v = js_get(r.root, "finished");
    if (cJSON_IsBool(v)) x->finished = cJSON_IsTrue(v);
    x->counts = x->finished || !cfg->mask_truncated_completions;
    js_close(&r);
    return FT_OK;
}

static ft_status replay(const roll *p, const obj_step *s, roll_batch *b, arena *mem)
{
    int64_t all = 0, tokens = 0;
    int32_t *ids;
    for (int i = 0; i < b->n; i++) {
        all += s->sample[i].len;
        tokens += s->sample[i].len - obj_roll_prompt(&s->sample[i]);
    }
    FT_TRY(room(p, b, all, tokens, mem, &ids));
    for (int i = 0; i < b->n; i++) {
        const data_sample *d = &s->sample[i];
        const int64_t prompt = obj_roll_prompt(d);
        put(p, b, i, d, prompt, d->ids + prompt, d->len - prompt, ids);
        FT_TRY(read_end(p, &b->one[i]));
        ids += d->len;
    }
    return FT_OK;
}

/* --- completions that are sampled ---------------------------------------------------------------------------------- */
typedef struct count {
    int64_t done, all;
} count;

static ft_status tell(void *ctx, int64_t prompt, int copy, const inf_answer *a, bool done)
{
    count *c = ctx;
    (void)prompt;
    (void)copy;
    (void)a;
    if (done)
        log_progress("sampling: %lld of %lld completions", (long long)++c->done, (long long)c->all);
    return FT_OK;
}

static inf_sampling sampling(const roll *p, const obj_step *s, int i, int64_t prompt)
{
    const roll_cfg *cfg = p->c->cfg;
    const bool eval = s->step < 0;
    inf_sampling how = INF_SAMPLING_DEFAULT;
    how.temperature = cfg->temperature;
    how.top_k = cfg->top_k;
    how.top_p = cfg->top_p;
    how.min_p = isnan(cfg->min_p) ? 0 : cfg->min_p;
    how.max_new = obj_roll_room(p, prompt);
    how.seed = eval ? rng_key(p->c->seed, EVAL_KEY, 0)
                    : rng_key(p->c->seed, ROLL_KEY, (uint64_t)(s->step / p->reuse));
    how.first = (uint64_t)(eval ? s->sample[i].index : i);
    if (p->c->tok) how.stop = tok_stops(p->c->tok, &how.n_stop);
    return how;
}

/* In f32, as `ft generate` says it. */
static ft_status ask(const roll *p, const obj_step *s, int copies, inf_answer *out, arena *mem)
{
    obj_ctx *c = p->c;
    const kn_precision before = c->tape->precision;
    const inf_ctx with = {
        .m = c->m, .over = c->tuned, .tape = c->tape, .cache_limit = p->room.cache};
    count progress = {.all = (int64_t)s->n * copies};
    tok_ids *prompt = arena_get(mem, (size_t)s->n * sizeof *prompt);
    inf_sampling *how = arena_get(mem, (size_t)s->n * sizeof *how);
    if (!prompt || !how) return FT_EMEM;
    for (int i = 0; i < s->n; i++) {
        const int64_t n = obj_roll_prompt(&s->sample[i]);
        prompt[i] = (tok_ids){.id = (int32_t *)(uintptr_t)s->sample[i].ids, .n = n};
        how[i] = sampling(p, s, i, n);
    }
    c->tape->precision = KN_F32;
    ft_status rc = inf_generate_own(&with, prompt, how, s->n, copies, tell, &progress, out);
    c->tape->precision = before;
    return rc;
}

static ft_status take_answers(const roll *p, const obj_step *s, const inf_answer *a, roll_batch *b,
                              arena *mem)
{
    int64_t all = 0, tokens = 0;
    int32_t *ids;
    for (int i = 0; i < b->n; i++) {
        all += obj_roll_prompt(&s->sample[i / b->generations]) + a[i].ids.n;
        tokens += a[i].ids.n;
    }
    FT_TRY(room(p, b, all, tokens, mem, &ids));
    for (int i = 0; i < b->n; i++) {
        const data_sample *d = &s->sample[i / b->generations];
        const int64_t prompt = obj_roll_prompt(d);
        put(p, b, i, d, prompt, a[i].ids.id, a[i].ids.n, ids);
        ids += prompt + a[i].ids.n;
    }
    return FT_OK;
}

static ft_status sample(const roll *p, const obj_step *s, roll_batch *b, arena *mem)
{
    inf_answer *a = ft_alloc((size_t)b->n, sizeof *a);
    if (!a) return FT_EMEM;
    ft_status rc = ask(p, s, b->generations, a, p->c->step_mem);
    if (rc == FT_OK) rc = take_answers(p, s, a, b, mem);
    inf_answers_free(a, b->n);
    ft_free(a);
    return rc;
}

ft_status obj_roll_make(roll *p, const obj_step *s, roll_batch *b, arena *mem)
{
    const roll_cfg *cfg = p->c->cfg;
    const bool there = p->replays && obj_roll_prompt(&s->sample[0]) < s->sample[0].len;
    *b = (roll_batch){.number = s->step < 0 ? -1 : s->step / p->reuse,
                      .generations = (int)cfg->num_generations,
                      /* with dropout only that forward has its masks */
                      .fresh = !p->kind.old || !p->c->calm};
    b->n = there ? s->n : s->n * b->generations;
    b->one = arena_get(mem, ((size_t)b->n + 1) * sizeof *b->one);
    if (!b->one) return FT_EMEM;
    FT_TRY(there ? replay(p, s, b, mem) : sample(p, s, b, mem));
    for (int i = 0; i < b->n; i++) b->counted += b->one[i].counts ? b->one[i].n : 0;
    return FT_OK;
}

/* --- rewards ------------------------------------------------------------------------------------------------------- */
/* The sum; without any, or where one is not told, it is no number. */
static double weighed(const roll *p, const double *each)
{
    const roll_cfg *cfg = p->c->cfg;
    double sum = p->n_rewards > 0 ? 0 : (double)NAN;
    for (int k = 0; k < p->n_rewards; k++)
        sum += (k < rw_count(cfg->list) ? rw_weight(cfg->list, k) : 1) * each[k];
    return sum;
}

static ft_status not_told(const roll *p, const data_sample *d, const double *each)
{
    int k = 0;
    FT_CHECK(p->n_rewards > 0, FT_EDATA,
             "%s:%lld: rewards: no reward is named that could be weighed, and there is no "
             "\"reward\"",
             ft_shows(d->path), (long long)d->line);
    while (k < p->n_rewards - 1 && !isnan(each[k])) k++;
    return ft_fail(FT_EDATA,
                   "%s:%lld: rewards: \"%s\" is weighed and not among them, and there is no "
                   "\"reward\"",
                   ft_shows(d->path), (long long)d->line, ft_shows(p->reward[k]));
}

ft_status obj_roll_worth(const roll *p, const data_sample *d, double *each, double *reward,
                         bool *known)
{
    js_doc r;
    FT_TRY(obj_roll_record(d, &r));
    const cJSON *whole = js_get(r.root, "reward"), *all = js_get(r.root, "rewards");
    *known = cJSON_IsNumber(whole) || cJSON_IsObject(all);
    for (int k = 0; k < p->n_rewards; k++) {
        const cJSON *v = cJSON_IsObject(all) ? js_get(all, p->reward[k]) : NULL;
        each[k] = cJSON_IsNumber(v) ? v->valuedouble : (double)NAN;
    }
    *reward = cJSON_IsNumber(whole) ? whole->valuedouble : weighed(p, each);
    js_close(&r);
    return *known && isnan(*reward) ? not_told(p, d, each) : FT_OK;
}

/* What the judges see of completion i. */
static ft_status show(const roll *p, const roll_batch *b, int i, rw_item *out, arena *mem)
{
    const roll_one *x = &b->one[i];
    str_buf text = {0};
    *out = (rw_item){.tokens = x->n,
                     .extra = x->from->extra,
                     .prompt = x->ids,
                     .ids = x->ids + x->prompt,
                     .n_prompt = x->prompt,
                     .n_ids = x->n,
                     .finished = x->finished,
                     .line = (b->number < 0 ? 0 : b->number) * b->n + i + 1};
    FT_TRY(obj_roll_answers(x->from, mem, &out->answers, &out->listed));
    ft_status rc = obj_roll_text(p, x, &text);
    if (rc == FT_OK) out->text = arena_strn(mem, text.data ? text.data : "", text.len);
    str_free(&text);
    return rc == FT_OK && !out->text ? FT_EMEM : rc;
}

static ft_status judge(roll *p, roll_batch *b, const int *which, int n, arena *mem)
{
    const roll_cfg *cfg = p->c->cfg;
    const size_t k = (size_t)p->n_rewards;
    rw_item *item = arena_get(mem, ((size_t)n + 1) * sizeof *item);
    double *out = arena_get(mem, ((size_t)n * k + 1) * sizeof *out);
    if (!item || !out) return FT_EMEM;
    for (int i = 0; i < n; i++) FT_TRY(show(p, b, which[i], &item[i], mem));
    const kn_precision before = p->c->tape->precision;
    p->c->tape->precision = KN_F32;
    ft_status rc = rw_judge(p->judges, item, n, out);
    p->c->tape->precision = before;
    FT_TRY(rc);
    for (int i = 0; i < n; i++) {
        roll_one *x = &b->one[which[i]];
        double *to = &b->rewards[(size_t)which[i] * k];
        x->reward = 0;
        for (size_t r = 0; r < k; r++) {
            to[r] = out[(size_t)i * k + r];
            x->reward += rw_weight(cfg->list, (int)r) * to[r];
        }
    }
    return FT_OK;
}

ft_status obj_roll_reward(roll *p, roll_batch *b, arena *mem)
{
    int n = 0;
    int *open = arena_get(mem, ((size_t)b->n + 1) * sizeof *open);
    if (!open) return FT_EMEM;
    for (int i = 0; i < b->n; i++) {
        bool known = false;
        roll_one *x = &b->one[i];
        double *each = &b->rewards[(size_t)i * (size_t)p->n_rewards];
        if (obj_roll_prompt(x->from) < x->from->len && p->replays)
            FT_TRY(obj_roll_worth(p, x->from, each, &x->reward, &known));
        if (!known) open[n++] = i;
    }
    return n > 0 ? judge(p, b, open, n, mem) : FT_OK;
}

/* --- for the plan --------------------------------------------------------------------------------------------------- */
ft_status obj_roll_measure(roll *p, ag_tape *dry)
{
    const obj_ctx *c = p->c;
    const inf_ctx with = {.m = c->m, .over = c->tuned, .tape = dry};
    return inf_generate_room(&with, c->batch_size, ((const roll_cfg *)c->cfg)->num_generations,
                             p->longest, p->longest + obj_roll_room(p, p->longest), &p->room);
}

ft_status obj_roll_plan(roll *p, ag_tape *dry)
{
    const obj_ctx *c = p->c;
    const int64_t live = p->room.live;
    p->c->passes = p->room.activations;
    p->c->bytes += p->room.cache + p->room.logits;
    if (!p->judges) return FT_OK;
    /* the judges see completions that are as long as they may be */
    const roll_cfg *cfg = c->cfg;
    double *out = arena_get(c->step_mem, (size_t)(live * p->n_rewards + 1) * sizeof *out);
    rw_item *item = arena_get(c->step_mem, (size_t)live * sizeof *item);
    if (!out || !item) return FT_EMEM;
    for (int64_t i = 0; i < live; i++)
        item[i] = (rw_item){.n_prompt = p->longest,
                            .n_ids = obj_roll_room(p, p->longest),
                            .tokens = cfg->max_completion_length};
    FT_TRY(rw_judge(p->judges, item, live, out));
    const size_t seen = ag_peak_bytes(dry);
    if (seen > p->c->passes) p->c->passes = seen;
    return FT_OK;
}
