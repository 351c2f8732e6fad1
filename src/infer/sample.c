/* sample.c – choosing the next token: penalties, then greedy, or temperature, top-k, top-p and min-p, in the order of
 * transformers' logits processors.
 *
 * The random number is a pure function of (key, counter), so a text depends on the seed, the prompt's number, the copy
 * and the position alone. Ties are broken by the smaller id everywhere. All cuts, and the choice itself, take a head of the
 * vocabulary in falling order. Which ids may be in it is known from the first bits of their logits, so that only those are
 * put in order, by the bits as well: a sort of all would cost as much as a small model's layers. */
#include <math.h>
#include <string.h>

#include "infer_private.h"

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

uint64_t inf_key(uint64_t seed, uint64_t prompt, int copy)
{
    uint64_t key = rng_key(seed, 0x73616d706c65u, prompt);             /* "sample" */
    return copy > 0 ? rng_key(key, 0x636f7079u, (uint64_t)copy) : key; /* "copy" */
}

enum { BITS = 11, SLOTS = 1 << BITS, KEY_BITS = 32 };

/* A larger logit has a smaller key. */
static uint32_t sort_key(float logit)
{
    uint32_t u;
    logit += 0.0f; /* −0 is 0 */
    memcpy(&u, &logit, sizeof u);
    return u >> 31 ? u : ~u ^ 0x80000000u;
}

/* By falling logit, equal ones as they stood: three stable passes over 11 bits of the key. Returns where the result is. */
static candidate *sort(candidate *c, candidate *spare, int64_t n)
{
    for (int shift = 0; shift < KEY_BITS; shift += BITS) {
        int64_t at[SLOTS] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++) at[sort_key(c[i].logit) >> shift & (SLOTS - 1)]++;
        for (int k = 0; k < SLOTS; k++) {
            int64_t here = at[k];
            at[k] = sum;
            sum += here;
        }
        for (int64_t i = 0; i < n; i++)
            spare[at[sort_key(c[i].logit) >> shift & (SLOTS - 1)]++] = c[i];
        candidate *swap = c;
        c = spare;
        spare = swap;
    }
    return c;
}

/* --- penalties ------------------------------------------------------------------------------------------------ */

static bool has_penalties(const inf_sampling *s)
{
    return s->repetition_penalty != 1.0 || s->presence_penalty != 0.0;
}

/* From the logits themselves, so that an id that comes twice is penalised once. Keskar et al. 2019, equation 2, with the
 * sign minded; in f32, as transformers. */
static float repeated(const inf_draw *d, int32_t id)
{
    float v = d->logits[id], by = (float)d->s->repetition_penalty;
    return v < 0 ? v * by : v / by;
}

/* x [vocab]: the logits with the penalties. */
static void penalise(const inf_draw *d, float *x, int64_t vocab)
{
    memcpy(x, d->logits, (size_t)vocab * sizeof *x);
    for (int64_t i = 0; i < d->n_prompt; i++) x[d->prompt[i]] = repeated(d, d->prompt[i]);
    for (int64_t i = 0; i < d->n_answer; i++)
        x[d->answer[i]] = repeated(d, d->answer[i]) - (float)d->s->presence_penalty;
}

/* --- the choice ----------------------------------------------------------------------------------------------- */

static bool allowed(const inf_sampling *s, bool hold, int64_t id)
{
    for (int i = 0; hold && i < s->n_stop; i++)
        if (s->stop[i] == id) return false;
    return true;
}

static int32_t arg_max(const float *logits, int64_t n, const inf_sampling *s, bool hold)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if ((best < 0 || logits[i] > logits[best]) && allowed(s, hold, i)) best = i;
    return best < 0 ? 0 : (int32_t)best;
}

/* The distribution of a draw: ids by the first bits of their keys, so slots stand in the order of falling logits. */
typedef struct odds {
    float top; /* largest logit */
    double heat, total;
    int64_t n[SLOTS];
    double share[SLOTS]; /* Σ of a slot's ids */
} odds;

static int slot_of(float logit)
{
    return (int)(sort_key(logit) >> (KEY_BITS - BITS));
}

/* Of the likeliest id it is 1. */
static double share(const odds *o, float logit)
{
    return exp(((double)logit - (double)o->top) / o->heat);
}

static void weigh(odds *o, const inf_draw *d, const float *x, int64_t vocab)
{
    *o = (odds){.top = x[arg_max(x, vocab, d->s, d->hold)], .heat = d->s->temperature};
    for (int64_t i = 0; i < vocab; i++) {
        if (!allowed(d->s, d->hold, i)) continue;
        const int k = slot_of(x[i]);
        o->n[k]++;
        o->share[k] += share(o, x[i]);
    }
    for (int k = 0; k < SLOTS; k++) o->total += o->share[k];
}

/* The slot that the head ends in: that of the k-th id, or the one where the wanted share of all is reached. What min-p leaves
 * is not told by slots. */
static int last_slot(const odds *o, const inf_sampling *s, double u)
{
    const double want = (s->top_p < 1 ? s->top_p : s->min_p > 0 ? 1 : u) * o->total;
    int64_t n = 0;
    double sum = 0;
    for (int k = 0; k < SLOTS; k++) {
        n += o->n[k];
        sum += o->share[k];
        if (s->top_k > 0 ? n >= s->top_k : sum > want) return k;
    }
    return SLOTS - 1;
}

static double sum_of(const odds *o, const candidate *c, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += share(o, c[i].logit);
    return sum;
}

/* Keeps the smallest head of the sorted list that has top_p of the total. */
static int64_t nucleus(const odds *o, const candidate *c, int64_t n, double top_p, double total)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += share(o, c[i].logit);
        if (sum >= top_p * total) return i + 1;
    }
    return n;
}

/* The head of the sorted list that is not much less likely than its first. */
static int64_t likely(const odds *o, const candidate *c, int64_t n, double min_p)
{
    int64_t k = 1;
    while (k < n && share(o, c[k].logit) >= min_p) k++;
    return k;
}

/* The first id of the list up to which there is more than `sum`. */
static int32_t reach(const odds *o, const candidate *c, int64_t n, double sum)
{
    int64_t i = 0;
    for (double have = 0; i < n - 1; i++) {
        have += share(o, c[i].logit);
        if (sum < have) break;
    }
    return c[i].id;
}

/* x [vocab]; c [2, vocab]: scratch */
static int32_t pick(const inf_draw *d, const odds *o, const float *x, int64_t vocab, candidate *c)
{
    const inf_sampling *s = d->s;
    const double u = rng_uniform(d->key, d->counter);
    const int last = last_slot(o, s, u);
    int64_t n = 0;
    for (int64_t i = 0; i < vocab; i++)
        if (slot_of(x[i]) <= last && allowed(s, d->hold, i)) c[n++] = (candidate){x[i], (int32_t)i};
    if (n == 0) return 0; /* every id is a stop token */
    c = sort(c, c + vocab, n);
    double total = o->total;
    if (s->top_k > 0 && s->top_k < n) n = s->top_k;
    if (s->top_k > 0) total = sum_of(o, c, n);
    if (s->top_p < 1) n = nucleus(o, c, n, s->top_p, total);
    if (s->min_p > 0) n = likely(o, c, n, s->min_p);
    if (s->top_p < 1 || s->min_p > 0) total = sum_of(o, c, n);
    return reach(o, c, n, u * total);
}

static double log_share(const odds *o, float logit)
{
    return ((double)logit - (double)o->top) / o->heat - log(o->total);
}

static float logprob(const inf_draw *d, int64_t vocab, double temperature)
{
    double t = temperature > 0 ? temperature : 1, sum = 0;
    float top = d->logits[0];
    for (int64_t i = 1; i < vocab; i++) top = d->logits[i] > top ? d->logits[i] : top;
    for (int64_t i = 0; i < vocab; i++) sum += exp(((double)d->logits[i] - (double)top) / t);
    return (float)(((double)d->logits[d->id] - (double)top) / t - log(sum));
}

typedef struct draws {
    inf_draw *d;
    int64_t vocab;
} draws;

static void one_draw(void *ctx, int64_t i, int thread)
{
    const draws *all = ctx;
    inf_draw *d = &all->d[i];
    const bool sampled = d->s->temperature > 0, changed = has_penalties(d->s);
    const float *x = d->logits;
    odds *o = NULL;
    candidate *c = NULL;
    if (sampled || changed) {
        size_t each = 2 * sizeof *c + sizeof *x;
        o = pool_scratch(thread, 3, sizeof *o + (size_t)all->vocab * each);
        if (!o) return;
        c = (candidate *)(void *)(o + 1);
    }
    if (changed) {
        float *own = (float *)(c + 2 * all->vocab);
        penalise(d, own, all->vocab);
        x = own;
    }
    if (sampled) weigh(o, d, x, all->vocab);
    d->id = sampled ? pick(d, o, x, all->vocab, c) : arg_max(x, all->vocab, d->s, d->hold);
    if (!d->logprob) return;
    if (sampled && !changed && !d->hold)
        *d->logprob = (float)log_share(o, x[d->id]);
    else
        *d->logprob = logprob(d, all->vocab, d->s->temperature);
}

ft_status inf_sample(inf_draw *d, int64_t n, int64_t vocab)
{
    draws all = {d, vocab};
    for (int64_t i = 0; i < n; i++)
        FT_CHECK(
            kn_find_nonfinite(d[i].logits, vocab) < 0, FT_EDIVERGED,
            "the logits are not finite numbers; the model's weights hold NaN or Inf, or overflow");
    pool_run(one_draw, &all, n);
    FT_CHECK(!pool_failed(), FT_EMEM, "out of memory for the choice of a token");
    return FT_OK;
}
