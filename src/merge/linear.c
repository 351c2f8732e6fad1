/* linear.c – the weighted mean of models: y = Σ w_i x_i / Σ w_i, or the sum with normalize false.
 * Wortsman et al. 2022, model soups. */
#include <math.h>

#include "merge_private.h"

enum { WEIGHT, NORMALIZE };
static const merge_param params[] = {
    [WEIGHT] = {"weight", false, MERGE_EACH, (double)NAN, "of the model in the sum"},
    [NORMALIZE] = {"normalize", true, MERGE_SHARED, 1, "divide by the sum of the weights"},
    {0}};

static float divisor(const merge_tensor *t)
{
    float sum = 0;
    for (int i = 0; i < t->n; i++) sum += (float)t->in[i].value[WEIGHT];
    return t->value[NORMALIZE] != 0 ? sum : 1;
}

static const char *check(const merge_tensor *t)
{
    return divisor(t) == 0 ? "the weights add up to 0, by which normalize divides" : NULL;
}

static void mix(const merge_tensor *t, const merge_rows *r, float *y)
{
    const int64_t n = r->rows * r->cols;
    const float d = divisor(t);
    for (int64_t k = 0; k < n; k++) y[k] = 0;
    for (int i = 0; i < t->n; i++) {
        const float w = (float)t->in[i].value[WEIGHT];
        for (int64_t k = 0; k < n; k++) y[k] += w * r->x[i][k];
    }
    for (int64_t k = 0; k < n; k++) y[k] /= d;
}

const merge_method merge_linear = {
    .name = "linear",
    .help = "weighted mean of the models",
    .paper = "Wortsman et al. 2022, Model soups",
    .params = params,
    .base = MERGE_NO_BASE,
    .least = 1,
    .check = check,
    .mix = mix,
};
