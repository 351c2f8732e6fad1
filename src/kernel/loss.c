/* loss.c – softmax over rows of logits, AdamW, and sums over flat ranges. */
#include "kern.h"
#include "kern_bf16.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { CHUNK = 16384, SUM_BLOCK = 4096, SUM_WAVE = 1024 };

typedef struct softmax_run {
    float *logits;
    const kn_softmax *s;
} softmax_run;

/* −Σ p log p = log Σ exp(x − max) − Σ p·(x − max). */
static float entropy(const float *x, int64_t v, float max, int thread)
{
    float *e = pool_scratch(thread, 0, (size_t)v * sizeof *e);
    double sum = 0.0;
    if (!e) return 0.0f;
    memcpy(e, x, (size_t)v * sizeof *e);
    const float total = kern->exp_sum(e, v, max, true);
    for (int64_t i = 0; i < v; i++) sum += e[i] > 0.0f ? (double)e[i] * (double)(x[i] - max) : 0.0;
    return (float)(log((double)total) - sum / (double)total);
}

/* log Σ p² = log Σ exp(x − max)² − 2 log Σ exp(x − max). */
static float power(const float *x, int64_t v, float max, int thread)
{
    float *e = pool_scratch(thread, 0, (size_t)v * sizeof *e);
    double sum = 0.0;
    if (!e) return 0.0f;
    memcpy(e, x, (size_t)v * sizeof *e);
    const float total = kern->exp_sum(e, v, max, true);
    for (int64_t i = 0; i < v; i++) sum += (double)e[i] * (double)e[i];
    return (float)(log(sum) - 2.0 * log((double)total));
}

/* Σ (x − max)/V in double, eight chains. */
static double mean_below(const float *x, int64_t v, float max)
{
    double sum[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= v; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += (double)(x[i + k] - max);
    for (int k = 0; i < v; i++, k++) sum[k] += (double)(x[i] - max);
    for (int k = 1; k < 8; k++) sum[0] += sum[k];
    return sum[0] / (double)v;
}

/* A row's gradient in place, of the exponentials that sum up to `sum`. */
static void softmax_back(float *x, const kn_softmax *s, int64_t t, float scale, float sum)
{
    const int32_t target = s->target[t];
    const bool counts = target >= 0 && target < s->v;
    kern->scale(x, counts ? scale / sum : 0.0f, s->v);
    if (counts) x[target] -= scale * (1.0f - s->smoothing);
    const float all = scale * s->smoothing / (float)s->v;
    for (int64_t i = 0; counts && s->smoothing > 0 && i < s->v; i++) x[i] -= all;
    if (s->more) kern->axpy(x, 1.0f, s->more + t * s->ld, s->v);
    float piece[1024];
    for (int64_t i = 0; s->half && i < s->v; i += (int64_t)FT_COUNT_OF(piece)) {
        const int64_t left = s->v - i, most = FT_COUNT_OF(piece), n = left < most ? left : most;
        memcpy(piece, x + i, (size_t)n * sizeof *piece);
        kern_dot_row->round((uint16_t *)x + i, piece, n);
    }
}

/* One row: maximum, Σ exp, and with a scale the gradient in place. */
static void softmax_tile(void *ctx, int64_t t, int thread)
{
    const softmax_run *r = ctx;
    const kn_softmax *s = r->s;
    float *x = r->logits + t * s->ld;
    const int32_t target = s->target[t];
    const bool counts = target >= 0 && target < s->v, grad = s->scale != 0.0f || s->more;
    const bool tempered = s->temperature != 0.0f && s->temperature != 1.0f;
    float scale = s->scale;
    if (tempered) {
        kern->scale(x, 1.0f / s->temperature, s->v);
        scale /= s->temperature;
    }
    if (s->weight) scale *= s->weight[t];
    const float max = kern->max(x, s->v);
    if (s->best) {
        int64_t at = kern->find(x, s->v, max);
        s->best[t] = at < 0 ? 0 : (int32_t)at;
    }
    if (s->entropy) s->entropy[t] = entropy(x, s->v, max, thread);
    if (s->power) s->power[t] = power(x, s->v, max, thread);
    const float own = counts ? x[target] : 0.0f;
    const double mean = s->smoothing > 0 && counts ? mean_below(x, s->v, max) : 0.0;
    const float sum = kern->exp_sum(x, s->v, max, grad);
    s->logprob[t] = counts ? (own - max) - logf(sum) : 0.0f;
    if (s->smoothing > 0)
        s->smooth[t] = counts ? (1.0f - s->smoothing) * s->logprob[t] +
                                    s->smoothing * (float)(mean - log((double)sum))
                              : 0.0f;
    if (grad) softmax_back(x, s, t, scale, sum);
}

void kn_softmax_rows(float *logits, const kn_softmax *s, int64_t t)
{
    softmax_run r = {logits, s};
    if (s->v > 0) pool_run(softmax_tile, &r, t);
}

typedef struct adamw_run {
    float *w, *m, *v;
    const float *g;
    int64_t n;
    float coef[ADAMW_COEFS];
} adamw_run;

static void adamw_tile(void *ctx, int64_t tile, int thread)
{
    const adamw_run *r = ctx;
    int64_t i = tile * CHUNK, n = r->n - i < CHUNK ? r->n - i : CHUNK;
    (void)thread;
    kern->adamw(r->w + i, r->g + i, r->m + i, r->v + i, n, r->coef);
}

void kn_adamw(float *w, const float *g, float *m, float *v, int64_t n, float lr, double beta1,
              double beta2, float eps, float decay, double c1, double c2, float gscale)
{
    adamw_run r = {.w = w, .m = m, .v = v, .g = g, .n = n};
    r.coef[ADAMW_GSCALE] = gscale;
    r.coef[ADAMW_KEEP] = (float)(1.0 - (double)lr * (double)decay);
    r.coef[ADAMW_B1C] = (float)(1.0 - beta1);
    r.coef[ADAMW_B2] = (float)beta2;
    r.coef[ADAMW_B2C] = (float)(1.0 - beta2);
    r.coef[ADAMW_ROOT] = (float)sqrt(c2);
    r.coef[ADAMW_EPS] = eps;
    r.coef[ADAMW_STEP] = (float)((double)lr / c1);
    pool_run(adamw_tile, &r, (n + CHUNK - 1) / CHUNK);
}

/* --- sums ------------------------------------------------------------------------------------------------ */

typedef struct sum_run {
    const float *x;
    int64_t n;
    double part[SUM_WAVE];
} sum_run;

static void sum_tile(void *ctx, int64_t tile, int thread)
{
    sum_run *r = ctx;
    int64_t i = tile * SUM_BLOCK, n = r->n - i < SUM_BLOCK ? r->n - i : SUM_BLOCK;
    (void)thread;
    r->part[tile] = kern->sum_squares(r->x + i, n);
}

double kn_sum_squares(const float *x, int64_t n)
{
    double sum = 0;
    const int64_t wave = (int64_t)SUM_BLOCK * SUM_WAVE;
    for (int64_t i = 0; i < n; i += wave) {
        sum_run r = {.x = x + i, .n = n - i < wave ? n - i : wave};
        int64_t blocks = (r.n + SUM_BLOCK - 1) / SUM_BLOCK;
        pool_run(sum_tile, &r, blocks);
        for (int64_t b = 0; b < blocks; b++) sum += r.part[b];
    }
    return sum;
}

double kn_dot(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

typedef struct finite_run {
    const float *x;
    int64_t n;
    atomic_llong found; /* smallest index so far */
} finite_run;

static void finite_tile(void *ctx, int64_t tile, int thread)
{
    finite_run *r = ctx;
    int64_t i = tile * CHUNK, end = r->n - i < CHUNK ? r->n : i + CHUNK;
    long long before = atomic_load(&r->found);
    (void)thread;
    if (before < i || kern->all_finite(r->x + i, end - i)) return;
    while (isfinite(r->x[i])) i++;
    while (i < before && !atomic_compare_exchange_weak(&r->found, &before, i)) {
    }
}

int64_t kn_find_nonfinite(const float *x, int64_t n)
{
    finite_run r = {.x = x, .n = n, .found = INT64_MAX};
    pool_run(finite_tile, &r, (n + CHUNK - 1) / CHUNK);
    int64_t found = atomic_load(&r.found);
    return found == INT64_MAX ? -1 : found;
}
