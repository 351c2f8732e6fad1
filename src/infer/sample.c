/* sample.c – choosing the next token: penalties, then greedy, or temperature, top-k, top-p and min-p, in the order of
 * transformers' logits processors.
 *
 * The random number is a pure function of (key, counter), so a text depends on the seed, the prompt's number, the copy
 * and the position alone. Ties are broken by the smaller id everywhere. The whole vocabulary is put in order for every
 * token, by its bits: a sort by comparisons would cost as much as a small model's layers. */
#include <float.h>
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
    enum { BITS = 11, SLOTS = 1 << BITS };
    for (int shift = 0; shift < 32; shift += BITS) {
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

/* Keeps the smallest head of the sorted list whose probability reaches top_p. */
static int64_t nucleus(const candidate *c, int64_t n, double top_p)
{
    double total = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) total += exp((double)c[i].logit - (double)c[0].logit);
    for (int64_t i = 0; i < n; i++) {
        sum += exp((double)c[i].logit - (double)c[0].logit);
        if (sum >= top_p * total) return i + 1;
    }
    return n;
}

/* The head of the sorted list that is not much less likely than its first. */
static int64_t likely(const candidate *c, int64_t n, double min_p)
{
    int64_t k = 1;
    while (k < n && exp((double)c[k].logit - (double)c[0].logit) >= min_p) k++;
    return k;
}

static int32_t draw(const candidate *c, int64_t n, double u)
{
    double total = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) total += exp((double)c[i].logit - (double)c[0].logit);
    for (int64_t i = 0; i < n; i++) {
        sum += exp((double)c[i].logit - (double)c[0].logit);
        if (u * total < sum) return c[i].id;
    }
    return c[n - 1].id;
}

/* x [vocab]; c [2, vocab]: scratch */
static int32_t pick(const inf_draw *d, const float *x, int64_t vocab, candidate *c)
{
    const inf_sampling *s = d->s;
    int64_t n = 0;
    bool over = false;
    for (int64_t i = 0; i < vocab; i++) {
        float v = (float)((double)x[i] / s->temperature);
        if (!allowed(s, d->hold, i)) continue;
        over = over || v > FLT_MAX;
        if (isfinite(v)) c[n++] = (candidate){v, (int32_t)i};
    }
    /* A tiny temperature overflows the largest, or everything: the limit is greedy. */
    if (over || n == 0) return arg_max(x, vocab, s, d->hold);
    c = sort(c, c + vocab, n);
    if (s->top_k > 0 && s->top_k < n) n = s->top_k;
    if (s->top_p < 1) n = nucleus(c, n, s->top_p);
    if (s->min_p > 0) n = likely(c, n, s->min_p);
    return draw(c, n, rng_uniform(d->key, d->counter));
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
    candidate *c = NULL;
    if (sampled || changed) {
        size_t each = 2 * sizeof *c + sizeof *x;
        c = pool_scratch(thread, 3, (size_t)all->vocab * each);
        if (!c) return;
    }
    if (changed) {
        float *own = (float *)(c + 2 * all->vocab);
        penalise(d, own, all->vocab);
        x = own;
    }
    d->id = sampled ? pick(d, x, all->vocab, c) : arg_max(x, all->vocab, d->s, d->hold);
    if (d->logprob) *d->logprob = logprob(d, all->vocab, d->s->temperature);
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
