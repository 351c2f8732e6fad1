/* nearswap.c – the base takes the other model's values where the two are near each other: w = clamp(t / |b − x|, 0, 1),
 * y = w x + (1 − w) b. */
#include <math.h>

#include "merge_private.h"

enum { T };
static const merge_param params[] = {
    [T] = {"t", false, MERGE_SHARED, (double)NAN, "distance up to which a value is the other's"},
    {0}};

static void mix(const merge_tensor *t, const merge_rows *r, float *y)
{
    const float *b = r->x[t->base], *x = r->x[1 - t->base], near = (float)t->value[T];
    for (int64_t k = 0; k < r->rows * r->cols; k++) {
        const float w = fminf(fmaxf(near / fmaxf(fabsf(b[k] - x[k]), 1e-6f), 0), 1);
        y[k] = w * x[k] + (1 - w) * b[k];
    }
}

const merge_method merge_nearswap = {
    .name = "nearswap",
    .help = "the base, with the other model's values where both are near",
    .params = params,
    .base = MERGE_NEEDS_BASE,
    .least = 2,
    .most = 2,
    .mix = mix,
};
