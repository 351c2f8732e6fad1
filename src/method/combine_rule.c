/* combine_rule.c – the arithmetic of combining adapters, as PEFT 0.21 has it (merge_utils.py): task arithmetic (Ilharco et
 * al. 2023), TIES (Yadav et al. 2023), DARE (Yu et al. 2024) and pruning by magnitude. PEFT's TIES divides by the number of
 * values that were kept, and lets the values vote before they are weighted. */
#include "combine_private.h"

#include <math.h>
#include <string.h>

#include "ft/method.h"

/* name, and what it does: PEFT's combination_type */
static const combine_kind kinds[] = {
    {"cat", COMBINE_STACK, COMBINE_ALL, false},
    {"linear", COMBINE_FACTORS, COMBINE_ALL, false},
    {"svd", COMBINE_PRODUCTS, COMBINE_ALL, false},
    {"ties", COMBINE_FACTORS, COMBINE_LARGEST, true},
    {"ties_svd", COMBINE_PRODUCTS, COMBINE_LARGEST, true},
    {"dare_linear", COMBINE_FACTORS, COMBINE_RANDOM, false},
    {"dare_linear_svd", COMBINE_PRODUCTS, COMBINE_RANDOM, false},
    {"dare_ties", COMBINE_FACTORS, COMBINE_RANDOM, true},
    {"dare_ties_svd", COMBINE_PRODUCTS, COMBINE_RANDOM, true},
    {"magnitude_prune", COMBINE_FACTORS, COMBINE_LARGEST, false},
    {"magnitude_prune_svd", COMBINE_PRODUCTS, COMBINE_LARGEST, false},
};

const char *const *pe_combine_types(void)
{
    static const char *names[FT_COUNT_OF(kinds) + 1];
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++) names[i] = kinds[i].name;
    return names;
}

const combine_kind *pe_combine_kind(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
    return NULL;
}

unsigned pe_combine_reads(const char *type)
{
    const combine_kind *k = pe_combine_kind(type);
    if (!k) return 0;
    return (k->prune != COMBINE_ALL ? PE_COMBINE_DENSITY : 0) |
           (k->prune == COMBINE_RANDOM ? PE_COMBINE_SEED : 0) |
           (k->elect ? PE_COMBINE_MAJORITY : 0) |
           (k->form == COMBINE_PRODUCTS ? PE_COMBINE_SVD_RANK : 0);
}

/* --- what is left of one --------------------------------------------------------------------------------------- */
/* The bits of |x|, which are in the order of the values. */
static uint32_t size_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

/* The keep-th largest size; *keep: how many of that size are among the largest. */
static uint32_t least_kept(const float *x, int64_t n, int64_t *keep)
{
    uint32_t least = 0; /* its bits down to `shift` */
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t count[256] = {0};
        uint32_t at = 255;
        for (int64_t i = 0; i < n; i++) {
            const uint64_t s = size_of(x[i]);
            if (s >> (shift + 8) == least) count[s >> shift & 255]++;
        }
        while (at > 0 && count[at] < *keep) *keep -= count[at--];
        least = least << 8 | at;
    }
    return least;
}

void pe_keep_largest(float *x, int64_t n, double density)
{
    int64_t keep = (int64_t)(density * (double)n);
    if (keep >= n) return;
    const uint32_t least = least_kept(x, n, &keep);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t s = size_of(x[i]);
        const bool kept = s > least || (s == least && keep-- > 0);
        if (!kept) x[i] = 0.0f;
    }
}

void pe_keep_some(float *x, int64_t n, double density, uint64_t key)
{
    for (int64_t i = 0; i < n && density < 1.0; i++)
        x[i] = rng_uniform(key, (uint64_t)i) < density ? x[i] / (float)density : 0.0f;
}

/* --- the sum ----------------------------------------------------------------------------------------------------- */
static int sign_of(float x)
{
    return (x > 0.0f) - (x < 0.0f);
}

static float elected(const combine_sum *s, int64_t at)
{
    float vote = 0.0f, sum = 0.0f;
    int kept = 0;
    for (int i = 0; i < s->n; i++)
        vote += s->frequency ? (float)sign_of(s->task[i][at]) : s->task[i][at];
    for (int i = 0; i < s->n; i++) {
        if (sign_of(s->task[i][at]) != (vote >= 0.0f ? 1 : -1)) continue;
        sum += s->weight[i] * s->task[i][at];
        kept++;
    }
    return kept > 0 ? sum / (float)kept : 0.0f;
}

void pe_combine_add(float *out, const combine_sum *s, int64_t count)
{
    for (int64_t at = 0; at < count; at++) {
        float sum = 0.0f;
        for (int i = 0; !s->elect && i < s->n; i++) sum += s->weight[i] * s->task[i][at];
        out[at] = s->elect ? elected(s, at) : sum;
    }
}
