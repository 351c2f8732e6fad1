/* rollouts_file.c – what outlives a step of a batch of completions: the lines of rollouts.jsonl, and the arrays that a
 * checkpoint keeps while the batch still serves steps to come. */
#include "rollouts_private.h"

#include <string.h>

/* --- rollouts.jsonl -------------------------------------------------------------------------------------------------- */
size_t obj_roll_id_bytes(int64_t vocab)
{
    size_t n = 2;
    for (; vocab > 10; vocab /= 10) n++;
    return n;
}

void obj_roll_add_ids(str_buf *out, const char *key, const int32_t *id, int64_t n)
{
    str_printf(out, ",\"%s\":[", key);
    for (int64_t i = 0; i < n; i++) str_printf(out, "%s%d", i ? "," : "", (int)id[i]);
    str_addc(out, ']');
}

static void add_floats(str_buf *out, const char *key, const float *v, int64_t n)
{
    str_printf(out, ",\"%s\":[", key);
    for (int64_t i = 0; i < n; i++) {
        if (i) str_addc(out, ',');
        str_float(out, v[i]);
    }
    str_addc(out, ']');
}

static void add_number(str_buf *out, const char *key, double v)
{
    str_printf(out, ",\"%s\":", key);
    str_double(out, v);
}

static void add_string(str_buf *out, const char *key, const char *text, size_t n)
{
    str_printf(out, ",\"%s\":", key);
    str_json(out, text, n);
}

ft_status obj_roll_add_text(const tok_tokenizer *tok, const int32_t *id, int64_t n, str_buf *out)
{
    str_buf text = {0};
    ft_status rc = obj_roll_decode(tok, id, n, &text);
    add_string(out, "completion", text.data ? text.data : "", text.len);
    str_free(&text);
    return rc;
}

/* Those that are known, by name. */
static void add_rewards(const roll *p, const double *each, str_buf *out)
{
    bool first = true;
    str_adds(out, ",\"rewards\":{");
    for (int k = 0; k < p->n_rewards; k++) {
        if (isnan(each[k])) continue;
        if (!first) str_addc(out, ',');
        first = false;
        str_json(out, p->reward[k], strlen(p->reward[k]));
        str_addc(out, ':');
        str_double(out, each[k]);
    }
    str_addc(out, '}');
}

/* As the record has it: a text, or a list of texts; a number is a text here. */
static ft_status add_answer(const roll *p, const data_sample *d, str_buf *out)
{
    const char *const *answer;
    bool listed;
    FT_TRY(obj_roll_answers(d, p->c->step_mem, &answer, &listed));
    if (!answer) return FT_OK;
    str_adds(out, listed ? ",\"answer\":[" : ",\"answer\":");
    for (int i = 0; answer[i]; i++) {
        if (i) str_addc(out, ',');
        str_json(out, answer[i], strlen(answer[i]));
    }
    if (listed) str_addc(out, ']');
    return FT_OK;
}

static ft_status add_texts(const roll *p, const roll_one *x, str_buf *out)
{
    if (p->c->tok) FT_TRY(obj_roll_add_text(p->c->tok, x->ids + x->prompt, x->n, out));
    str_printf(out, ",\"finished\":%s", x->finished ? "true" : "false");
    return add_answer(p, x->from, out);
}

static ft_status add_line(const roll *p, const roll_batch *b, int i, str_buf *out)
{
    const roll_one *x = &b->one[i];
    str_printf(out, "{\"batch\":%lld,\"group\":%d,\"sample\":%d", (long long)b->number + 1,
               (int)x->group, i % b->generations);
    obj_roll_add_ids(out, "prompt_ids", x->ids, x->prompt);
    obj_roll_add_ids(out, "completion_ids", x->ids + x->prompt, x->n);
    FT_TRY(add_texts(p, x, out));
    add_floats(out, "logprobs", &b->old[x->at], x->n);
    if (b->ref) add_floats(out, "ref_logprobs", &b->ref[x->at], x->n);
    add_rewards(p, &b->rewards[(size_t)i * (size_t)p->n_rewards], out);
    add_number(out, "reward", x->reward);
    add_number(out, "advantage", x->advantage);
    for (int k = 0; p->kind.figures && p->kind.figures[k]; k++)
        add_floats(out, p->kind.figures[k], &b->figure[k][x->at], x->n);
    str_printf(out, ",\"epoch_batches\":%lld}\n", (long long)p->c->epoch_batches);
    return str_ok(out);
}

ft_status obj_roll_lines(obj_ctx *c, str_buf *out)
{
    const roll *p = c->priv;
    for (int i = 0; p->turn == 0 && i < p->held.n; i++) FT_TRY(add_line(p, &p->held, i, out));
    return FT_OK;
}

/* --- checkpoints ------------------------------------------------------------------------------------------------------- */
/* A completion in a checkpoint: whole numbers, and the rest. */
enum { PROMPT, TOKENS, GROUP, FINISHED, COUNTS, WHOLE };
enum { REWARD, ADVANTAGE, WORTH };
enum { NUMBER, GENERATIONS, SPREAD, EVEN, COUNTED, FACTS };

/* Arrays on their way into a checkpoint or out of one; data NULL: their sizes alone. */
typedef struct kept {
    int64_t all, n,
        tokens;          /* ids of all completions with their prompts; completions; their tokens */
    void *ids, *whole;   /* i32 [all], [n, WHOLE] */
    void *worth, *facts; /* f64 [n, WORTH], [FACTS] */
    void *rewards;       /* i64 [n · rewards], as bits: one that is not known is no number */
    void *old, *ref, *figure[ROLL_FIGURES]; /* f32 [tokens] */
} kept;

/* As large as a batch may become. */
static void plan_sizes(const roll *p, kept *k)
{
    const roll_cfg *cfg = p->c->cfg;
    k->n = p->c->batch_size * cfg->num_generations;
    k->tokens = k->n * cfg->max_completion_length;
    k->all = k->tokens + k->n * p->longest;
}

static ft_status pack(const roll_batch *b, kept *k, arena *mem)
{
    for (int i = 0; i < b->n; i++) k->all += b->one[i].prompt + b->one[i].n;
    int32_t *ids = k->ids = arena_get(mem, ((size_t)k->all + 1) * sizeof *ids);
    int32_t *whole = k->whole = arena_get(mem, ((size_t)b->n + 1) * WHOLE * sizeof *whole);
    double *worth = k->worth = arena_get(mem, ((size_t)b->n + 1) * WORTH * sizeof *worth);
    double *facts = k->facts = arena_get(mem, FACTS * sizeof *facts);
    if (!ids || !whole || !worth || !facts) return FT_EMEM;
    k->n = b->n;
    k->tokens = b->tokens;
    k->rewards = b->rewards;
    k->old = b->old;
    k->ref = b->ref;
    for (int f = 0; f < ROLL_FIGURES; f++) k->figure[f] = b->figure[f];
    facts[NUMBER] = (double)b->number;
    facts[GENERATIONS] = (double)b->generations;
    facts[SPREAD] = b->spread;
    facts[EVEN] = b->even;
    facts[COUNTED] = (double)b->counted;
    for (int i = 0; i < b->n; i++, whole += WHOLE, worth += WORTH) {
        const roll_one *x = &b->one[i];
        memcpy(ids, x->ids, (size_t)(x->prompt + x->n) * sizeof *ids);
        ids += x->prompt + x->n;
        whole[PROMPT] = (int32_t)x->prompt;
        whole[TOKENS] = (int32_t)x->n;
        whole[GROUP] = x->group;
        whole[FINISHED] = x->finished;
        whole[COUNTS] = x->counts;
        worth[REWARD] = x->reward;
        worth[ADVANTAGE] = x->advantage;
    }
    return FT_OK;
}

static bool is_whole(double v, double least)
{
    return v >= least && v <= (double)INT32_MAX && v == floor(v);
}

/* Completion w lies in what is left of the ids and of the tokens, and names a prompt of the batch. */
static bool is_sound(const kept *k, const int32_t *w, int64_t ids, int64_t tokens)
{
    return w[PROMPT] > 0 && w[TOKENS] >= 0 && (int64_t)w[PROMPT] + w[TOKENS] <= ids &&
           w[TOKENS] <= tokens && w[GROUP] >= 0 && w[GROUP] < k->n;
}

/* A checkpoint may come from others: nothing in it leads out of its arrays or out of the vocabulary. */
static bool is_batch(const roll *p, const kept *k)
{
    const int32_t *id = k->ids, *w = k->whole;
    const double *facts = k->facts;
    int64_t ids = k->all, tokens = k->tokens;
    const int64_t most = p->c->batch_size * ((const roll_cfg *)p->c->cfg)->num_generations;
    bool sound = k->n <= most && is_whole(facts[NUMBER], 0) && is_whole(facts[GENERATIONS], 1) &&
                 is_whole(facts[COUNTED], 0);
    for (int64_t i = 0; sound && i < k->all; i++)
        sound = id[i] >= 0 && id[i] < p->c->m->d.vocab_size;
    for (int64_t i = 0; sound && i < k->n; i++, w += WHOLE) {
        sound = is_sound(k, w, ids, tokens);
        ids -= (int64_t)w[PROMPT] + w[TOKENS];
        tokens -= w[TOKENS];
    }
    return sound && ids == 0 && tokens == 0;
}

static ft_status unpack(roll *p, const kept *k)
{
    const int32_t *ids = k->ids, *whole = k->whole;
    const double *worth = k->worth, *facts = k->facts;
    roll_batch *b = &p->held;
    FT_CHECK(is_batch(p, k), FT_EDATA, "the checkpoint's rollouts are not whole");
    *b = (roll_batch){.number = (int64_t)facts[NUMBER],
                      .n = (int)k->n,
                      .generations = (int)facts[GENERATIONS],
                      .spread = facts[SPREAD],
                      .even = facts[EVEN],
                      .counted = (int64_t)facts[COUNTED],
                      .rewards = k->rewards,
                      .old = k->old,
                      .ref = k->ref};
    for (int f = 0; f < ROLL_FIGURES; f++) b->figure[f] = k->figure[f];
    b->one = arena_get(p->mem, ((size_t)b->n + 1) * sizeof *b->one);
    if (!b->one) return FT_EMEM;
    for (int i = 0; i < b->n; i++, whole += WHOLE, worth += WORTH) {
        b->one[i] = (roll_one){.ids = ids,
                               .prompt = whole[PROMPT],
                               .n = whole[TOKENS],
                               .at = b->tokens,
                               .group = whole[GROUP],
                               .finished = whole[FINISHED] != 0,
                               .counts = whole[COUNTS] != 0,
                               .reward = worth[REWARD],
                               .advantage = worth[ADVANTAGE]};
        b->tokens += whole[TOKENS];
        ids += whole[PROMPT] + whole[TOKENS];
    }
    p->left = b->n > 0; /* how many, the next update tells */
    return FT_OK;
}

/* What all arrays of a run have in common. */
typedef struct keeper {
    nn_arrays *a;
    ft_status rc;
} keeper;

/* One array of n entries of `each` values, unless one before it failed. Of what is loaded, the first that has n tells it
 * (n < 0 before). */
static void keep(keeper *w, const char *name, const char *type, int64_t *n, int64_t each,
                 void **data)
{
    int64_t dim = *n * each;
    if (w->rc != FT_OK) return;
    w->rc = nn_array_of(w->a, name, dt_by_name(type), 1, &dim, data);
    if (w->rc != FT_OK || !w->a->loading) return;
    if (*n < 0 && dim % each == 0) *n = dim / each;
    if (dim != *n * each)
        w->rc = ft_fail(FT_EDATA, "the checkpoint's %s has not the length of the others", name);
}

static void keep_figures(keeper *w, const roll *p, kept *k)
{
    for (int i = 0; p->kind.figures && p->kind.figures[i]; i++) {
        const char *name = arena_printf(w->a->mem, "rollouts.%s", p->kind.figures[i]);
        if (!name) w->rc = FT_EMEM;
        keep(w, name, "f32", &k->tokens, 1, &k->figure[i]);
    }
}

/* Nothing of a batch that has served its steps. */
ft_status obj_roll_state(obj_ctx *c, nn_arrays *a)
{
    static const roll_batch none = {.generations = 1};
    roll *p = c->priv;
    kept k = {0};
    keeper w = {.a = a};
    int64_t facts = FACTS;
    if (a->loading) k.all = k.n = k.tokens = -1;
    if (!a->loading && p->dry && p->reuse > 1)
        plan_sizes(p, &k);
    else if (!a->loading)
        FT_TRY(pack(p->left > 0 ? &p->held : &none, &k, a->mem));
    keep(&w, "rollouts.facts", "f64", &facts, 1, &k.facts);
    keep(&w, "rollouts.ids", "i32", &k.all, 1, &k.ids);
    keep(&w, "rollouts.whole", "i32", &k.n, WHOLE, &k.whole);
    keep(&w, "rollouts.worth", "f64", &k.n, WORTH, &k.worth);
    keep(&w, "rollouts.rewards", "i64", &k.n, p->n_rewards, &k.rewards);
    keep(&w, "rollouts.old", "f32", &k.tokens, 1, &k.old);
    if (p->kind.reference) keep(&w, "rollouts.ref", "f32", &k.tokens, 1, &k.ref);
    keep_figures(&w, p, &k);
    FT_TRY(w.rc);
    return a->loading ? unpack(p, &k) : FT_OK;
}
