/* evolve_cma.c – CMA-ES: a normal distribution whose mean, step and covariance follow the better half of what was drawn from
 * it. Constants and updates as in Hansen 2016, The CMA evolution strategy: a tutorial. A draw is a function of seed,
 * generation and number, so that a search that goes on draws what it would have drawn. */
#include <math.h>
#include <string.h>

#include "evolve_private.h"

#include "ft/kernel.h"

static double *doubles(cma *c, int n, bool *ok)
{
    double *x = arena_get(c->mem, (size_t)n * sizeof *x);
    *ok = *ok && x;
    return x;
}

static void choose_weights(cma *c)
{
    double sum = 0, squares = 0;
    const double d = c->d;
    for (int i = 0; i < c->mu; i++) {
        c->w[i] = log(c->lambda / 2.0 + 0.5) - log(i + 1.0);
        sum += c->w[i];
    }
    for (int i = 0; i < c->mu; i++) {
        c->w[i] /= sum;
        squares += c->w[i] * c->w[i];
    }
    c->mueff = 1 / squares;
    c->cc = (4 + c->mueff / d) / (d + 4 + 2 * c->mueff / d);
    c->cs = (c->mueff + 2) / (d + c->mueff + 5);
    c->c1 = 2 / ((d + 1.3) * (d + 1.3) + c->mueff);
    c->cmu = fmin(1 - c->c1, 2 * (c->mueff - 2 + 1 / c->mueff) / ((d + 2) * (d + 2) + c->mueff));
    c->damps = 1 + 2 * fmax(0, sqrt((c->mueff - 1) / (d + 1)) - 1) + c->cs;
    c->chi = sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d));
}

ft_status evolve_cma_open(cma *c, int d, const double *start, double sigma, int lambda,
                          uint64_t seed, arena *mem)
{
    bool ok = true;
    *c = (cma){.d = d,
               .lambda = lambda > 0 ? lambda : 4 + (int)(3 * log(d)),
               .sigma = sigma,
               .generation = 1,
               .seed = seed,
               .mem = mem};
    c->mu = c->lambda / 2;
    c->w = doubles(c, c->mu, &ok);
    c->mean = doubles(c, d, &ok);
    c->pc = doubles(c, d, &ok);
    c->ps = doubles(c, d, &ok);
    c->D = doubles(c, d, &ok);
    c->C = doubles(c, d * d, &ok);
    c->B = doubles(c, d * d, &ok);
    if (!ok) return FT_EMEM;
    memcpy(c->mean, start, (size_t)d * sizeof *start);
    for (int i = 0; i < d; i++) c->D[i] = c->C[i * d + i] = c->B[i * d + i] = 1;
    choose_weights(c);
    return FT_OK;
}

static double normal(uint64_t key, uint64_t i)
{
    const double u = 1 - rng_uniform(key, 2 * i), v = rng_uniform(key, 2 * i + 1);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

void evolve_cma_sample(const cma *c, int k, double *x)
{
    const uint64_t key = rng_key(c->seed, (uint64_t)c->generation, (uint64_t)k);
    const int d = c->d;
    memcpy(x, c->mean, (size_t)d * sizeof *x);
    for (int j = 0; j < d; j++) {
        const double z = c->sigma * c->D[j] * normal(key, (uint64_t)j);
        for (int i = 0; i < d; i++) x[i] += c->B[i * d + j] * z;
    }
}

/* The mu best of the generation, the best first. */
static void rank(const cma *c, const double *cost, int *order)
{
    for (int i = 0; i < c->lambda; i++) {
        int at = i;
        for (; at > 0 && cost[order[at - 1]] > cost[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
}

/* C^(−1/2) v into out, which is not v. */
static void whiten(const cma *c, const double *v, double *out)
{
    const int d = c->d;
    memset(out, 0, (size_t)d * sizeof *out);
    for (int j = 0; j < d; j++) {
        double s = 0;
        for (int i = 0; i < d; i++) s += c->B[i * d + j] * v[i];
        for (int i = 0; i < d; i++) out[i] += c->B[i * d + j] * s / c->D[j];
    }
}

static double length(const double *v, int d)
{
    double sum = 0;
    for (int i = 0; i < d; i++) sum += v[i] * v[i];
    return sqrt(sum);
}

static ft_status decompose(cma *c)
{
    const int d = c->d;
    const size_t mark = arena_mark(c->mem);
    bool ok = true;
    double *a = doubles(c, d * d, &ok), *vt = doubles(c, d * d, &ok);
    if (!ok) return FT_EMEM;
    memcpy(a, c->C, (size_t)(d * d) * sizeof *a);
    FT_TRY(kn_svd(c->B, c->D, vt, a, d, d));
    for (int i = 0; i < d; i++) c->D[i] = sqrt(fmax(c->D[i], 1e-20));
    arena_reset(c->mem, mark);
    return FT_OK;
}

static void spread(cma *c, const double *x, const int *order, const double *old, double keep)
{
    const int d = c->d;
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++) {
            double sum = 0;
            for (int k = 0; k < c->mu; k++) {
                const double *y = x + order[k] * d;
                sum += c->w[k] * (y[i] - old[i]) * (y[j] - old[j]);
            }
            c->C[i * d + j] = keep * c->C[i * d + j] + c->c1 * c->pc[i] * c->pc[j] +
                              c->cmu * sum / (c->sigma * c->sigma);
        }
}

ft_status evolve_cma_tell(cma *c, const double *x, const double *cost)
{
    const int d = c->d;
    const size_t mark = arena_mark(c->mem);
    bool ok = true;
    int *order = arena_get(c->mem, (size_t)c->lambda * sizeof *order);
    double *old = doubles(c, d, &ok), *step = doubles(c, d, &ok), *white = doubles(c, d, &ok);
    if (!ok || !order) return FT_EMEM;
    rank(c, cost, order);
    for (int i = 0; i < d; i++) {
        old[i] = c->mean[i];
        c->mean[i] = 0;
        for (int k = 0; k < c->mu; k++) c->mean[i] += c->w[k] * x[order[k] * d + i];
        step[i] = (c->mean[i] - old[i]) / c->sigma;
    }
    whiten(c, step, white);
    for (int i = 0; i < d; i++)
        c->ps[i] = (1 - c->cs) * c->ps[i] + sqrt(c->cs * (2 - c->cs) * c->mueff) * white[i];
    const double far = length(c->ps, d) / c->chi;
    const double settled = sqrt(1 - pow(1 - c->cs, 2 * (double)c->generation));
    const bool goes = far / settled < 1.4 + 2.0 / (d + 1);
    for (int i = 0; i < d; i++)
        c->pc[i] =
            (1 - c->cc) * c->pc[i] + (goes ? sqrt(c->cc * (2 - c->cc) * c->mueff) * step[i] : 0);
    spread(c, x, order, old, 1 - c->c1 - c->cmu + (goes ? 0 : c->c1 * c->cc * (2 - c->cc)));
    c->sigma *= exp(c->cs / c->damps * (far - 1));
    arena_reset(c->mem, mark);
    c->generation++;
    return decompose(c);
}
