/* sample.c – choosing the next token: greedy, or temperature, top-k and top-p in the order of transformers'
 * logits warpers.
 *
 * The random number is a pure function of (key, counter), so a text depends on the seed, the line and the position
 * alone. Ties are broken by the smaller id everywhere. */
#include <math.h>
#include <stdlib.h>

#include "tool_private.h"

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

static int by_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t arg_max(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
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

ft_status tool_sample(float *logits, int64_t vocab, const tool_sampling *s, const int32_t *banned,
                      int n_banned, uint64_t key, uint64_t counter, int32_t *id)
{
    FT_CHECK(kn_find_nonfinite(logits, vocab) < 0, FT_EDIVERGED,
             "the logits are not finite numbers; the model's weights hold NaN or Inf, or overflow");
    for (int i = 0; i < n_banned; i++)
        if (banned[i] >= 0 && banned[i] < vocab) logits[banned[i]] = -HUGE_VALF;
    if (s->temperature <= 0) {
        *id = arg_max(logits, vocab);
        return FT_OK;
    }
    candidate *c = ft_alloc((size_t)vocab, sizeof *c);
    if (!c) return FT_EMEM;
    int64_t n = 0;
    for (int64_t i = 0; i < vocab; i++) {
        float v = (float)((double)logits[i] / s->temperature);
        if (isfinite(v)) c[n++] = (candidate){v, (int32_t)i};
    }
    /* A tiny temperature overflows everything: the limit is greedy. */
    if (n == 0) {
        *id = arg_max(logits, vocab);
        ft_free(c);
        return FT_OK;
    }
    qsort(c, (size_t)n, sizeof *c, by_logit);
    if (s->top_k > 0 && s->top_k < n) n = s->top_k;
    if (s->top_p < 1) n = nucleus(c, n, s->top_p);
    *id = draw(c, n, rng_uniform(key, counter));
    ft_free(c);
    return FT_OK;
}
