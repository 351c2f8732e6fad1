/* rng.c – counter-based random numbers: Philox-2x64-10 (Salmon et al. 2011, "Parallel random numbers: as
 * easy as 1, 2, 3").  A value is a pure function of (key, counter): nothing to save, and dropout replays the
 * same on recomputation, resume and any split of the batch. */
#include "ft/base.h"

#include <math.h>
#include <string.h>

FT_WRAPS uint64_t rng_u64(uint64_t key, uint64_t counter)
{
    uint64_t a = counter, b = 0;
    for (int round = 0; round < 10; round++) {
        unsigned __int128 product = (unsigned __int128)0xD2B74407B1CE6E93ull * a;
        a = (uint64_t)(product >> 64) ^ key ^ b;
        b = (uint64_t)product;
        key += 0x9E3779B97F4A7C15ull;
    }
    return a;
}

uint64_t rng_key(uint64_t seed, uint64_t a, uint64_t b)
{
    return rng_u64(rng_u64(seed, a) ^ 0x5851F42D4C957F2Dull, b);
}

FT_WRAPS uint64_t rng_key_text(uint64_t seed, const char *text)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3ull;
    return rng_key(seed, h, 0);
}

double rng_uniform(uint64_t key, uint64_t counter)
{
    return (double)(rng_u64(key, counter) >> 11) * 0x1p-53;
}

void rng_fill_uniform(float *out, int64_t n, uint64_t key, float low, float high)
{
    for (int64_t i = 0; i < n; i++)
        out[i] =
            (float)((double)low + ((double)high - (double)low) * rng_uniform(key, (uint64_t)i));
}

/* Box–Muller on a pair of counters for each value. */
void rng_fill_normal(float *out, int64_t n, uint64_t key, float mean, float std)
{
    const double tau = 6.283185307179586;
    for (int64_t i = 0; i < n; i++) {
        double u = 1.0 - rng_uniform(key, 2 * (uint64_t)i),
               v = rng_uniform(key, 2 * (uint64_t)i + 1);
        out[i] = (float)((double)mean + (double)std * sqrt(-2.0 * log(u)) * cos(tau * v));
    }
}

/* Fisher–Yates with a bounded draw by multiplication (Lemire 2019, without the rejection step: the bias for
 * n < 2^40 is below 2^-24). */
void rng_permute(int64_t *out, int64_t n, uint64_t key)
{
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint64_t draw = rng_u64(key, (uint64_t)i);
        int64_t j = (int64_t)(((unsigned __int128)draw * (uint64_t)(i + 1)) >> 64);
        int64_t t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}
