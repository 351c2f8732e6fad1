/* sample.c – choosing the next token: greedy, or temperature, top-k and top-p in the order of transformers'
 * logits warpers.
 *
 * The random number is a pure function of (key, counter), so a text depends on the seed, the prompt's number, the copy
 * and the position alone. Ties are broken by the smaller id everywhere. The whole vocabulary is put in order for every
 * token, by its bits: a sort by comparisons would cost as much as a small model's layers. */
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

/* c [2, vocab]: scratch */
static int32_t pick(const inf_draw *d, int64_t vocab, const inf_sampling *s, candidate *c)
{
    int64_t n = 0;
    for (int64_t i = 0; i < vocab; i++) {
        float v = (float)((double)d->logits[i] / s->temperature);
        if (isfinite(v) && allowed(s, d->hold, i)) c[n++] = (candidate){v, (int32_t)i};
    }
    /* A tiny temperature overflows everything: the limit is greedy. */
    if (n == 0) return arg_max(d->logits, vocab, s, d->hold);
    c = sort(c, c + vocab, n);
    if (s->top_k > 0 && s->top_k < n) n = s->top_k;
    if (s->top_p < 1) n = nucleus(c, n, s->top_p);
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
    const inf_sampling *s;
} draws;

static void one_draw(void *ctx, int64_t i, int thread)
{
    const draws *all = ctx;
    inf_draw *d = &all->d[i];
    if (all->s->temperature > 0) {
        candidate *c = pool_scratch(thread, 3, 2 * (size_t)all->vocab * sizeof *c);
        if (!c) return;
        d->id = pick(d, all->vocab, all->s, c);
    } else {
        d->id = arg_max(d->logits, all->vocab, all->s, d->hold);
    }
    if (d->logprob) *d->logprob = logprob(d, all->vocab, all->s->temperature);
}

ft_status inf_sample(inf_draw *d, int64_t n, int64_t vocab, const inf_sampling *s)
{
    draws all = {d, vocab, s};
    for (int64_t i = 0; i < n; i++)
        FT_CHECK(
            kn_find_nonfinite(d[i].logits, vocab) < 0, FT_EDIVERGED,
            "the logits are not finite numbers; the model's weights hold NaN or Inf, or overflow");
    pool_run(one_draw, &all, n);
    FT_CHECK(!pool_failed(), FT_EMEM, "out of memory for the choice of a token");
    return FT_OK;
}
