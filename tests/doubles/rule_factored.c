/* rule_factored.c – an update rule of the tests whose state is smaller than the tensor: means of g² over rows and over columns
 * (Shazeer & Stern 2018), the whole of g² for vectors, and one counter of updates of no dimension. */
#include "ft/optim.h"

#include <math.h>

static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    (void)cfg;
    out[0] = (opt_state){.name = "count", .type = &dt_f32};
    if (t->nd < 2) {
        out[1] = (opt_state){"square", &dt_f32, 1, {tn_count(t)}};
        return 2;
    }
    out[1] = (opt_state){"row_mean", &dt_f32, 1, {tn_rows(t)}};
    out[2] = (opt_state){"col_mean", &dt_f32, 1, {tn_cols(t)}};
    return 3;
}

static float square(const opt_view *v, const opt_hyper *h, int64_t i)
{
    float g = (float)h->gscale * v->g[i];
    return g * g + 1e-12f;
}

/* mean[i] = 0.9 mean[i] + 0.1 · the mean of n squares from `first` on, `step` apart */
static void take_mean(float *mean, const opt_view *v, const opt_hyper *h, int64_t first,
                      int64_t step, int64_t n)
{
    float sum = 0.0f;
    for (int64_t k = 0; k < n; k++) sum += square(v, h, first + k * step);
    *mean = 0.9f * *mean + 0.1f * sum / (float)n;
}

static void update(const opt_view *v, const opt_hyper *h)
{
    float *count = v->state[0], *row = v->state[1], *col = v->state[2], total = 0.0f;
    *count += 1.0f;
    float fix = 1.0f - powf(0.9f, *count);
    if (!col) {
        for (int64_t i = 0; i < v->n; i++) take_mean(&row[i], v, h, i, 1, 1);
    } else {
        for (int64_t r = 0; r < v->rows; r++) take_mean(&row[r], v, h, r * v->cols, 1, v->cols);
        for (int64_t c = 0; c < v->cols; c++) take_mean(&col[c], v, h, c, v->cols, v->rows);
        for (int64_t r = 0; r < v->rows; r++) total += row[r] / (float)v->rows;
    }
    for (int64_t i = 0; i < v->n; i++) {
        float second = col ? row[i / v->cols] * col[i % v->cols] / total : row[i];
        float move = (float)h->gscale * v->g[i] / sqrtf(second / fix);
        v->w[i] -= (float)h->lr * (move + (float)h->decay * v->w[i]);
    }
}

extern const opt_rule opt_factored;
const opt_rule opt_factored = {
    .name = "factored",
    .help = "second moments by rows and columns (tests)",
    .states = states,
    .update = update,
};
