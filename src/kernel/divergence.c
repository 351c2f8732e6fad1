/* divergence.c – how far the softmax of one row of logits is from that of another, and the gradient by the first.
 *
 * With log p = x/τ − log Σ e^(x/τ) and the like for q, the gradients by x are
 *
 *   KL(q‖p):  (p − q)/τ
 *   otherwise, with b = 1 − β and m, or b = 1 and m = q at β = 1:  b p ⊙ (log p − log m − KL(p‖m))/τ
 *
 * what hangs on m in KL(q‖m) and in KL(p‖m) cancels. Exponentials are those of all softmax rows; logarithms and sums are
 * in double, because a divergence of near rows is a small difference of large terms. A row is one thread's. */
#include "kern.h"

#include <math.h>
#include <string.h>

typedef struct divergence_run {
    float *y;
    const float *x;
    const kn_divergence *d;
} divergence_run;

/* A softmax: p(i) = e[i] · part, log p(i) = x[i] · sharp − shift. */
typedef struct soft {
    float *e;
    const float *x;
    double part, shift;
    float sharp;
} soft;

static soft soft_of(float *e, const float *x, int64_t v, float sharp)
{
    memcpy(e, x, (size_t)v * sizeof *e);
    if (sharp != 1.0f) kern->scale(e, sharp, v);
    const float max = kern->max(e, v);
    const double sum = (double)kern->exp_sum(e, v, max, true);
    return (soft){e, x, 1.0 / sum, (double)max + log(sum), sharp};
}

static double log_of(const soft *s, int64_t i)
{
    return (double)(s->x[i] * s->sharp) - s->shift;
}

/* Σ q (log q − log p); the gradient before scaling is left in e of p. */
static double forward(const soft *p, const soft *q, int64_t v)
{
    double sum = 0;
    for (int64_t i = 0; i < v; i++) {
        const double pi = (double)p->e[i] * p->part, qi = (double)q->e[i] * q->part;
        if (qi > 0) sum += qi * (log_of(q, i) - log_of(p, i));
        p->e[i] = (float)(pi - qi);
    }
    return sum;
}

/* The others. */
static double mixed(const soft *p, const soft *q, int64_t v, double beta)
{
    const double own = beta < 1 ? 1 - beta : 1;
    double from_q = 0, from_p = 0;
    for (int64_t i = 0; i < v; i++) {
        const double pi = (double)p->e[i] * p->part, qi = (double)q->e[i] * q->part;
        const double lp = log_of(p, i), lq = log_of(q, i);
        const double lm = beta < 1 ? log(own * pi + beta * qi) : lq;
        if (beta < 1 && qi > 0) from_q += qi * (lq - lm);
        if (pi > 0) from_p += pi * (lp - lm);
        q->e[i] = (float)(pi > 0 ? lp - lm : 0);
    }
    for (int64_t i = 0; i < v; i++)
        p->e[i] = (float)(own * (double)p->e[i] * p->part * ((double)q->e[i] - from_p));
    return beta * from_q + own * from_p;
}

static void divergence_tile(void *ctx, int64_t t, int thread)
{
    const divergence_run *r = ctx;
    const kn_divergence *d = r->d;
    const float sharp = d->temperature != 0.0f ? 1.0f / d->temperature : 1.0f;
    float *y = r->y + t * d->ld_y;
    float *e = pool_scratch(thread, 0, 2 * (size_t)d->v * sizeof *e);
    d->out[t] = 0.0f;
    if (!e) return;
    if (d->none[t]) {
        if (d->scale != 0.0f) memset(y, 0, (size_t)d->v * sizeof *y);
        return;
    }
    const soft p = soft_of(e, r->x + t * d->ld_x, d->v, sharp),
               q = soft_of(e + d->v, y, d->v, sharp);
    d->out[t] =
        (float)(d->beta > 0.0f ? mixed(&p, &q, d->v, (double)d->beta) : forward(&p, &q, d->v));
    if (d->scale == 0.0f) return;
    memcpy(y, p.e, (size_t)d->v * sizeof *y);
    kern->scale(y, d->scale * sharp * (d->weight ? d->weight[t] : 1.0f), d->v);
}

void kn_divergence_rows(float *y, const float *x, const kn_divergence *d, int64_t t)
{
    divergence_run r = {y, x, d};
    if (d->v > 0) pool_run(divergence_tile, &r, t);
}
