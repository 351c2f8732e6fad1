/* generate.c – continues prompts with a cache of keys and values, many at once.
 *
 * Up to MAX_LIVE answers advance together, each in a slot: a pass takes one piece of every prompt that is still being
 * read, or the newest token of every answer. A slot that is done is given to the next prompt, so short answers do not
 * wait for long ones. Which answers share a pass changes no bit of them: pieces of a prompt are cut at fixed places, a
 * piece of a few tokens goes through the products of generation and a longer one through those of training, as it would
 * alone, and both treat every row by itself. */
#include <string.h>

#include "infer_private.h"

enum {
    MAX_LIVE = 64,
    PIECE = 512, /* tokens of a prompt in one pass: bounds the activations of a long one */
};

typedef struct slot { /* an answer under way */
    inf_answer *out;  /* NULL: free */
    int64_t prompt;
    int copy, copies; /* the prompt is read for so many copies from this one on */
    cache_seq cache;
    const int32_t *next; /* [left] tokens that are not in the cache yet */
    int64_t left;
    int32_t id;      /* the newest token */
    int64_t max_new; /* as the model's positions allow */
    int64_t pages;   /* that it may come to need */
    uint64_t key;
    double start;
} slot;

typedef struct generation {
    const inf_ctx *c;
    const inf_sampling *s; /* one for all, or [n]: */
    bool own;
    const tok_ids *prompt;
    int64_t n;
    int copies;
    inf_each each;
    void *each_ctx;
    inf_answer *out;
    cache_pool pool;
    slot slot[MAX_LIVE];
    int n_slots, live;
    int64_t pages; /* that the live ones may come to need */
    float *logits; /* [n_slots, vocab] */
    int64_t at;    /* the next prompt to begin with, */
    int at_copy;   /* and its first copy */
} generation;

void inf_answers_free(inf_answer *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        tok_ids_free(&a[i].ids);
        ft_free(a[i].logprob);
        a[i] = (inf_answer){0};
    }
}

/* --- slots -------------------------------------------------------------------------------------------------- */

static slot *free_slot(generation *g)
{
    int i = 0;
    while (g->slot[i].out) i++;
    return &g->slot[i];
}

static const inf_sampling *sampling_of(const generation *g, int64_t prompt)
{
    return g->own ? &g->s[prompt] : g->s;
}

static uint64_t key_of(const generation *g, int64_t prompt, int copy)
{
    const inf_sampling *s = sampling_of(g, prompt);
    return inf_key(s->seed, g->own ? s->first : s->first + (uint64_t)prompt, copy);
}

static ft_status fill_slot(generation *g, slot *s, int64_t prompt, int copy, int64_t max_new,
                           int64_t pages)
{
    inf_answer *out = &g->out[prompt * g->copies + copy];
    *s = (slot){.prompt = prompt,
                .copy = copy,
                .copies = 1,
                .max_new = max_new,
                .pages = pages,
                .key = key_of(g, prompt, copy),
                .start = ft_seconds()};
    if (sampling_of(g, prompt)->logprobs) {
        out->logprob = ft_alloc((size_t)max_new, sizeof *out->logprob);
        if (!out->logprob) return FT_EMEM;
    }
    s->out = out;
    g->live++;
    g->pages += pages;
    return FT_OK;
}

static void empty_slot(generation *g, slot *s)
{
    cache_drop(&g->pool, &s->cache);
    g->live--;
    g->pages -= s->pages;
    s->out = NULL;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The last token of an answer is never read, so it needs no position. */
static int64_t most_new(const generation *g, int64_t prompt)
{
    int64_t room = g->c->m->d.max_position - nn_virtual(g->c->over) - g->prompt[prompt].n + 1;
    int64_t wanted = sampling_of(g, prompt)->max_new;
    return g->c->m->position ? min64(wanted, room) : wanted;
}

/* Begins with prompts while there is room for all their copies, in slots and, were every answer to become as long as it
 * may, in the cache. What could never have that room begins when nothing else is under way. */
static ft_status admit(generation *g)
{
    while (g->at < g->n && g->live < g->n_slots) {
        int64_t max_new = most_new(g, g->at), length = g->prompt[g->at].n + max_new;
        int64_t pages = cache_pages(nn_virtual(g->c->over) + length);
        int64_t fit = g->pool.limit > g->pages ? (g->pool.limit - g->pages) / pages : 0;
        int copies = (int)min64(g->copies - g->at_copy, g->n_slots);
        if (g->live == 0) copies = (int)min64(copies, fit > 1 ? fit : 1);
        if (g->live > 0 && (copies > fit || copies > g->n_slots - g->live)) break;
        slot *s = free_slot(g);
        FT_TRY(fill_slot(g, s, g->at, g->at_copy, max_new, pages));
        s->copies = copies;
        s->next = g->prompt[g->at].id;
        s->left = g->prompt[g->at].n;
        /* Slots and pages of the other copies are taken when the prompt has been read. */
        g->live += copies - 1;
        g->pages += (copies - 1) * pages;
        g->at_copy += copies;
        if (g->at_copy < g->copies) continue;
        g->at_copy = 0;
        g->at++;
    }
    return FT_OK;
}

/* --- one pass -------------------------------------------------------------------------------------------------- */

typedef struct pass {
    slot *slot[MAX_LIVE];
    int n;
    int64_t tokens;
    bool few;
    nn_run run;
    nn_cache cache;
} pass;

static int64_t piece(const slot *s)
{
    return min64(s->left, PIECE);
}

/* The rows it is: virtual ones stand before the first piece of a prompt. */
static int64_t piece_rows(const generation *g, const slot *s)
{
    return piece(s) + (s->cache.used == 0 ? nn_virtual(g->c->over) : 0);
}

static bool in_pass(const generation *g, const slot *s, bool few)
{
    return s->out && s->left > 0 && (piece_rows(g, s) <= KN_GEMV_ROWS) == few;
}

/* Long pieces of prompts come first, so that their answers join the others soon. */
static void choose(generation *g, pass *p)
{
    int64_t rows = 0;
    *p = (pass){.few = true};
    for (int i = 0; i < g->n_slots; i++)
        if (in_pass(g, &g->slot[i], false)) p->few = false;
    for (int i = 0; i < g->n_slots; i++) {
        slot *s = &g->slot[i];
        if (!in_pass(g, s, p->few)) continue;
        if (!p->few && p->n > 0 && rows + piece_rows(g, s) > PIECE) continue;
        rows += piece_rows(g, s);
        p->slot[p->n++] = s;
        p->tokens += piece(s);
    }
}

static ft_status open_run(generation *g, pass *p)
{
    ag_tape *t = g->c->tape;
    ag_reset(t);
    int32_t *ids = ag_meta(t, (size_t)p->tokens * sizeof *ids);
    int32_t *pos = ag_meta(t, (size_t)p->tokens * sizeof *pos);
    int32_t *len = ag_meta(t, (size_t)p->n * sizeof *len);
    int64_t row = 0;
    FT_TRY(t->status);
    for (int i = 0; i < p->n; i++) {
        const slot *s = p->slot[i];
        len[i] = (int32_t)piece(s);
        for (int64_t k = 0; k < len[i]; k++, row++) {
            ids[row] = s->next[k];
            pos[row] = (int32_t)(s->cache.used + k);
        }
    }
    nn_batch b = {.n_seq = p->n, .len = len, .tokens = p->tokens, .ids = ids, .pos = pos};
    return nn_run_open(&p->run, t, &b, g->c->over, p->few ? NN_FEW : 0);
}

/* The run's rows are known now, virtual ones included: room for them, and the table of all pages. */
static ft_status open_cache(generation *g, pass *p)
{
    ag_tape *t = g->c->tape;
    int32_t *k_len = ag_meta(t, (size_t)p->n * sizeof *k_len);
    int64_t pages = 0;
    FT_TRY(t->status);
    for (int i = 0; i < p->n; i++) {
        cache_seq *s = &p->slot[i]->cache;
        FT_TRY(cache_grow(&g->pool, s, p->run.rows->len[i]));
        k_len[i] = (int32_t)(s->used + p->run.rows->len[i]);
        pages += s->pages;
    }
    float **page = ag_meta(t, (size_t)pages * sizeof *page);
    FT_TRY(t->status);
    p->cache = (nn_cache){.page = page, .rows = CACHE_ROWS, .k_len = k_len};
    for (int i = 0; i < p->n; i++) {
        const cache_seq *s = &p->slot[i]->cache;
        for (int64_t k = 0; k < s->pages; k++) *page++ = cache_at(s, k);
    }
    p->run.cache = &p->cache;
    return FT_OK;
}

/* Runs it; logits [answers that wait for a token, vocab], in the order of the pass. */
static ft_status run_pass(generation *g, pass *p)
{
    int64_t last[MAX_LIVE], n = 0, row = 0;
    FT_TRY(inf_go_on());
    FT_TRY(open_run(g, p));
    FT_TRY(open_cache(g, p));
    tn_tensor *hidden = model_hidden(g->c->m, &p->run);
    FT_TRY(g->c->tape->status);
    for (int i = 0; i < p->n; i++) {
        slot *s = p->slot[i];
        int64_t k = piece(s);
        s->cache.used += p->run.rows->len[i];
        s->next += k;
        s->left -= k;
        row += k;
        if (s->left == 0) last[n++] = row - 1;
    }
    return n > 0 ? model_logits(g->c->m, &p->run, hidden, last, n, g->logits, true) : FT_OK;
}

/* --- what follows a pass ----------------------------------------------------------------------------------------- */

/* The prompt has been read: its other copies join, each with a reference to its pages. */
static ft_status spread(generation *g, slot *first)
{
    for (int i = 1; i < first->copies; i++) {
        slot *s = free_slot(g);
        g->live--;
        g->pages -= first->pages;
        FT_TRY(fill_slot(g, s, first->prompt, first->copy + i, first->max_new, first->pages));
        FT_TRY(cache_share(&s->cache, &first->cache));
        s->start = first->start;
    }
    first->copies = 1;
    return FT_OK;
}

static bool is_stop(const inf_sampling *s, int32_t id)
{
    for (int i = 0; i < s->n_stop; i++)
        if (s->stop[i] == id) return true;
    return false;
}

static ft_status take(generation *g, slot *s, int32_t id)
{
    inf_answer *a = s->out;
    FT_TRY(tok_ids_push(&a->ids, id));
    a->stopped = is_stop(sampling_of(g, s->prompt), id);
    a->seconds = ft_seconds() - s->start;
    bool done = a->stopped || a->ids.n == s->max_new;
    s->id = id;
    s->next = &s->id;
    s->left = 1;
    ft_status rc = g->each ? g->each(g->each_ctx, s->prompt, s->copy, a, done) : FT_OK;
    if (done || rc == FT_END) empty_slot(g, s);
    return rc == FT_END ? FT_OK : rc;
}

/* A weight that is no number is named; what else overflowed is past by now. */
static ft_status name_nonfinite(const inf_ctx *c)
{
    str_buf where = {0};
    ft_status rc = inf_find_nonfinite(c, NULL, &where);
    if (rc == FT_OK)
        rc = ft_fail(FT_EDIVERGED, "the logits are not finite numbers: %s",
                     where.len ? where.data : "all weights are, so a layer overflows");
    str_free(&where);
    return rc;
}

/* Every slot that has been read to its end gets a token; copies that joined just now draw from the logits of the first. */
static ft_status draw(generation *g, const pass *p)
{
    inf_draw d[MAX_LIVE];
    slot *who[MAX_LIVE];
    int64_t vocab = g->c->m->d.vocab_size, row = 0;
    int n = 0;
    for (int i = 0; i < p->n; i++) {
        if (p->slot[i]->left > 0) continue;
        int64_t prompt = p->slot[i]->prompt;
        int copy = p->slot[i]->copy, copies = p->slot[i]->copies;
        FT_TRY(spread(g, p->slot[i]));
        for (int k = 0; k < g->n_slots; k++) {
            slot *s = &g->slot[k];
            if (!s->out || s->prompt != prompt || s->copy < copy || s->copy >= copy + copies)
                continue;
            const tok_ids *in = &g->prompt[prompt], *new = &s->out->ids;
            const inf_sampling *how = sampling_of(g, prompt);
            int64_t step = new->n;
            who[n] = s;
            d[n++] = (inf_draw){.logits = g->logits + row * vocab,
                                .s = how,
                                .prompt = in->id,
                                .n_prompt = in->n,
                                .answer = new->id,
                                .n_answer = step,
                                .key = s->key,
                                .counter = (uint64_t)step,
                                .hold = step < how->min_new,
                                .logprob = s->out->logprob ? s->out->logprob + step : NULL};
        }
        row++;
    }
    ft_status rc = inf_sample(d, n, vocab);
    if (rc == FT_EDIVERGED) return name_nonfinite(g->c);
    FT_TRY(rc);
    for (int i = 0; i < n; i++) FT_TRY(take(g, who[i], d[i].id));
    return FT_OK;
}

static ft_status check_prompts(const generation *g)
{
    int64_t most = g->c->m->d.max_position - nn_virtual(g->c->over);
    for (int64_t i = 0; i < g->n; i++) {
        const tok_ids *p = &g->prompt[i];
        FT_CHECK(p->n > 0, FT_EDATA, "an empty prompt: there is nothing to continue");
        FT_TRY(inf_check_ids(g->c, p->id, p->n));
        FT_CHECK(g->c->m->d.max_position <= 0 || p->n <= most, FT_EDATA,
                 "a prompt of %lld tokens; this model has positions for %lld", (long long)p->n,
                 (long long)most);
    }
    return FT_OK;
}

/* Pages of a prompt and all its copies: those that the prompt fills are shared. */
static int64_t pages_of(const generation *g, int64_t prompt, int64_t copies)
{
    int64_t rows = nn_virtual(g->c->over) + g->prompt[prompt].n, shared = rows / CACHE_ROWS;
    return shared + copies * (cache_pages(rows + most_new(g, prompt)) - shared);
}

/* Where more answers are asked for than go together, as many of the largest as do. */
static ft_status plan(generation *g)
{
    const int64_t copies = min64(g->copies, g->n_slots);
    inf_shape s = {.seqs = 1, .few = g->n_slots, .wanted = g->n_slots};
    int64_t all = 0, most = 0;
    for (int64_t i = 0; i < g->n; i++) {
        int64_t rows = min64(g->prompt[i].n, PIECE), one = pages_of(g, i, 1),
                pages = pages_of(g, i, copies);
        if (rows > s.rows) s.rows = rows;
        if (one > s.least) s.least = one;
        if (pages > most) most = pages;
        all += pages;
    }
    /* short prompts share a pass */
    if (g->n > 1) s.rows = min64(g->n * s.rows, s.rows > PIECE ? s.rows : PIECE);
    s.seqs = min64(g->n, g->n_slots);
    const int64_t together = (g->n_slots + copies - 1) / copies;
    s.pages = min64(all, together * most);
    s.buffers = (size_t)g->n_slots * (size_t)g->c->m->d.vocab_size * sizeof(float);
    FT_TRY(inf_plan_for(g->c, &s));
    if (g->c->plan) cache_pool_plan(&g->pool, g->c);
    return FT_OK;
}

ft_status inf_generate_room(const inf_ctx *c, int64_t n, int64_t copies, int64_t prompt,
                            int64_t longest, inf_room *out)
{
    const int64_t live = min64(n * copies, MAX_LIVE), rows = min64(prompt, PIECE);
    const int64_t pages =
        cache_pages(nn_virtual(c->over) + longest) + 1; /* a shared one is copied */
    const size_t one = (size_t)pages * (size_t)model_cache_floats(c->m, CACHE_ROWS) * sizeof(float);
    const size_t most = ft_memory_limit(NULL) / 4, all = one * (size_t)live;
    const inf_shape shape = {
        .rows = min64(n * rows, PIECE), .seqs = min64(n, MAX_LIVE), .few = live, .wanted = live};
    inf_plan plan = {0};
    inf_ctx with = *c;
    with.plan = &plan;
    if (c->tape) FT_TRY(inf_plan_for(&with, &shape));
    *out = (inf_room){.live = live,
                      .activations = plan.activations,
                      .cache = all <= most  ? all
                               : most > one ? most
                                            : one,
                      .logits = (size_t)live * (size_t)c->m->d.vocab_size * sizeof(float)};
    return FT_OK;
}

static ft_status run(generation *g)
{
    pass p;
    FT_TRY(check_prompts(g));
    FT_TRY(plan(g));
    g->logits = ft_alloc((size_t)g->n_slots * (size_t)g->c->m->d.vocab_size, sizeof *g->logits);
    if (!g->logits) return FT_EMEM;
    for (;;) {
        FT_TRY(admit(g));
        if (g->live == 0) return FT_OK;
        choose(g, &p);
        FT_TRY(run_pass(g, &p));
        FT_TRY(draw(g, &p));
    }
}

static ft_status generate(generation *with)
{
    memset(with->out, 0, (size_t)with->n * (size_t)with->copies * sizeof *with->out);
    if (with->n == 0 || (!with->own && with->s->max_new == 0)) return FT_OK;
    generation *g = ft_alloc(1, sizeof *g);
    if (!g) return FT_EMEM;
    *g = *with;
    g->n_slots = (int)min64(g->n * g->copies, MAX_LIVE);
    cache_pool_open(&g->pool, g->c);
    ft_status rc = run(g);
    for (int i = 0; i < g->n_slots; i++) cache_drop(&g->pool, &g->slot[i].cache);
    ft_free(g->logits);
    ft_free(g);
    if (rc != FT_OK) inf_answers_free(with->out, with->n * with->copies);
    return rc;
}

ft_status inf_generate(const inf_ctx *c, const tok_ids *prompt, int64_t n, int copies,
                       const inf_sampling *s, inf_each each, void *ctx, inf_answer *out)
{
    return generate(&(generation){.c = c,
                                  .s = s,
                                  .prompt = prompt,
                                  .n = n,
                                  .copies = copies,
                                  .each = each,
                                  .each_ctx = ctx,
                                  .out = out});
}

ft_status inf_generate_own(const inf_ctx *c, const tok_ids *prompt, const inf_sampling *s,
                           int64_t n, int copies, inf_each each, void *ctx, inf_answer *out)
{
    return generate(&(generation){.c = c,
                                  .s = s,
                                  .own = true,
                                  .prompt = prompt,
                                  .n = n,
                                  .copies = copies,
                                  .each = each,
                                  .each_ctx = ctx,
                                  .out = out});
}
