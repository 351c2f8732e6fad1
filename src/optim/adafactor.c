/* adafactor.c – Adafactor (Shazeer & Stern 2018) as transformers' Adafactor: second moments of a matrix as means over its rows
 * and over its columns, so that the state of [R, C] is R + C numbers.
 *
 * The defaults are those of transformers' Trainer, scale_parameter and relative_step off: the rate is the schedule's, as with
 * every other rule. With relative_step the rate is min(0.01, 1/√step), or min(step/10⁶, 1/√step) with warmup_init; that is a
 * learning rate of 0.01 in another shape, and neither a rate nor a schedule may be given.
 *
 * Sums are made in double, in tiles that follow from the shape alone. */
#include "ft/kernel.h"
#include "ft/optim.h"

#include <math.h>
#include <string.h>

typedef struct adafactor_cfg {
    double clip_threshold, decay_rate, beta1; /* beta1 0: no first moment */
    const cJSON *eps;
    bool scale_parameter, relative_step, warmup_init;
} adafactor_cfg;

#define AT(field) offsetof(adafactor_cfg, field)
static const cfg_field fields[] = {
    {.key = "clip_threshold",
     .type = CFG_FLOAT,
     .offset = AT(clip_threshold),
     .def = "1.0",
     .low = 0,
     .high = 1e30,
     .low_open = true,
     .help = "largest root mean square of a tensor's update, in learning rates"},
    {.key = "decay_rate",
     .type = CFG_FLOAT,
     .offset = AT(decay_rate),
     .def = "-0.8",
     .low = -10,
     .high = 0,
     .help = "the second moment's decay at a step is 1 - step^decay_rate"},
    {.key = "beta1",
     .type = CFG_FLOAT,
     .offset = AT(beta1),
     .def = "0",
     .low = 0,
     .high = 0.9999999,
     .help = "decay of a first moment, which is as large as the weights; 0: there is none"},
    {.key = "eps",
     .type = CFG_JSON,
     .offset = AT(eps),
     .def = "[1e-30, 1e-3]",
     .help = "[added to squares, lowest scale of scale_parameter]"},
    {.key = "scale_parameter",
     .type = CFG_BOOL,
     .offset = AT(scale_parameter),
     .def = "false",
     .help = "multiply the rate by the root mean square of the tensor"},
    {.key = "relative_step",
     .type = CFG_BOOL,
     .offset = AT(relative_step),
     .def = "false",
     .help = "rates of its own, min(0.01, 1/sqrt(step)), in place of learning_rate and schedule"},
    {.key = "warmup_init",
     .type = CFG_BOOL,
     .offset = AT(warmup_init),
     .def = "false",
     .help = "min(step/1e6, 1/sqrt(step)), with relative_step"},
    CFG_END,
};

/* --- the rate ---------------------------------------------------------------------------------------------------- */
static const double relative_peak = 0.01;

static double eps_at(const adafactor_cfg *c, int i)
{
    return cJSON_GetArrayItem(c->eps, i)->valuedouble;
}

static bool is_pair(const cJSON *v)
{
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 2) return false;
    const cJSON *a = cJSON_GetArrayItem(v, 0), *b = cJSON_GetArrayItem(v, 1);
    return cJSON_IsNumber(a) && cJSON_IsNumber(b) && a->valuedouble >= 0 && b->valuedouble >= 0;
}

static void check_relative(cfg_doc *d, const cJSON *object, opt_cfg *common)
{
    static const char own[] = "relative_step has rates of its own, at most 0.01; leave this out";
    if (!isnan(common->learning_rate) && common->learning_rate != relative_peak)
        cfg_fail(d, js_get(object, "learning_rate"), "optim.learning_rate", own);
    if (!js_get(object, "lr_scheduler_type")) common->lr_scheduler_type = "constant";
    if (strcmp(common->lr_scheduler_type, "constant") != 0)
        cfg_fail(d, js_get(object, "lr_scheduler_type"), "optim.lr_scheduler_type", own);
    if (common->warmup_steps > 0)
        cfg_fail(d, js_get(object, "warmup_steps"), "optim.warmup_steps", own);
    if (common->warmup_ratio > 0)
        cfg_fail(d, js_get(object, "warmup_ratio"), "optim.warmup_ratio", own);
    common->learning_rate = relative_peak;
}

static void check(cfg_doc *d, const cJSON *object, opt_cfg *common, void *own)
{
    const adafactor_cfg *c = own;
    if (!is_pair(c->eps))
        cfg_fail(d, c->eps, "optim.eps", "must be two numbers from 0 on: [1e-30, 1e-3]");
    if (c->warmup_init && !c->relative_step)
        cfg_fail(d, js_get(object, "warmup_init"), "optim.warmup_init", "needs relative_step");
    if (c->relative_step) check_relative(d, object, common);
}

static double shape(const void *cfg, int64_t step)
{
    const adafactor_cfg *c = cfg;
    if (!c->relative_step) return 1.0;
    double most = c->warmup_init ? 1e-6 * (double)step : relative_peak;
    return fmin(most, 1.0 / sqrt((double)step)) / relative_peak;
}

/* --- states -------------------------------------------------------------------------------------------------------- */
/* The first moment, if there is one, then the second: of rows and of columns, or of every element of a vector. */
static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    const adafactor_cfg *c = cfg;
    int n = 0;
    if (c->beta1 > 0) out[n++] = (opt_state){"exp_avg", &dt_f32, t->nd, {t->dim[0], t->dim[1]}};
    if (t->nd < 2) {
        out[n++] = (opt_state){"exp_avg_sq", &dt_f32, t->nd, {t->dim[0]}};
    } else {
        out[n++] = (opt_state){"exp_avg_sq_row", &dt_f32, 1, {tn_rows(t)}};
        out[n++] = (opt_state){"exp_avg_sq_col", &dt_f32, 1, {tn_cols(t)}};
    }
    return n;
}

/* --- second moments ---------------------------------------------------------------------------------------------- */
enum { COLS = 128, STRIP = 1024, TILES = 256 };

typedef struct run {
    const opt_view *v;
    int64_t rows, cols;            /* a vector: its elements, 1 */
    float *first, *square, *col;   /* NULL: no first moment; not factored */
    float gscale, eps, keep, take; /* a second moment is keep · itself + take · g² */
    float row_mean, scale, beta, beta_c, decay;
    int64_t tile_rows;
    double part[TILES]; /* sums of tiles */
} run;

static int64_t at_most(int64_t n, int64_t limit)
{
    return n < limit ? n : limit;
}

static double square_of(const run *r, float g)
{
    float x = r->gscale * g;
    return (double)(x * x + r->eps);
}

/* The mean over each row, in eight chains. */
static void row_tile(void *ctx, int64_t tile, int thread)
{
    run *r = ctx;
    int64_t row = tile * r->tile_rows, end = at_most(row + r->tile_rows, r->rows);
    (void)thread;
    for (; row < end; row++) {
        const float *g = r->v->g + row * r->cols;
        double sum[8] = {0};
        int64_t i = 0;
        for (; i + 8 <= r->cols; i += 8)
            for (int k = 0; k < 8; k++) sum[k] += square_of(r, g[i + k]);
        for (int k = 0; i < r->cols; i++, k++) sum[k] += square_of(r, g[i]);
        for (int k = 1; k < 8; k++) sum[0] += sum[k];
        r->square[row] = r->square[row] * r->keep + r->take * (float)(sum[0] / (double)r->cols);
    }
}

/* The mean over each of some columns, one chain a column. */
static void col_tile(void *ctx, int64_t tile, int thread)
{
    run *r = ctx;
    int64_t first = tile * COLS, n = at_most(r->cols - first, COLS);
    double sum[COLS] = {0};
    (void)thread;
    for (int64_t row = 0; row < r->rows; row++) {
        const float *g = r->v->g + row * r->cols + first;
        for (int64_t i = 0; i < n; i++) sum[i] += square_of(r, g[i]);
    }
    float *col = r->col + first;
    for (int64_t i = 0; i < n; i++)
        col[i] = col[i] * r->keep + r->take * (float)(sum[i] / (double)r->rows);
}

/* --- the move ---------------------------------------------------------------------------------------------------- */
/* u[i] = g/√v̂ of elements at + i, n of them. factor: of the columns, 1/√ of their means. */
static void direction(const run *r, float *restrict u, const float *restrict factor, int64_t row,
                      int64_t at, int64_t n)
{
    const float *restrict g = r->v->g + at, *restrict square = r->square + at;
    if (factor) {
        const float of_row = 1.0f / sqrtf(r->square[row] / r->row_mean);
        for (int64_t i = 0; i < n; i++) u[i] = of_row * factor[i] * (r->gscale * g[i]);
    } else {
        for (int64_t i = 0; i < n; i++) u[i] = 1.0f / sqrtf(square[i]) * (r->gscale * g[i]);
    }
}

static double sum_squares(const float *u, int64_t n)
{
    double sum[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += (double)u[i + k] * (double)u[i + k];
    for (int k = 0; i < n; i++, k++) sum[k] += (double)u[i] * (double)u[i];
    for (int k = 1; k < 8; k++) sum[0] += sum[k];
    return sum[0];
}

static void move(const run *r, const float *restrict u, int64_t at, int64_t n)
{
    float *restrict w = r->v->w + at, *restrict m = r->first ? r->first + at : NULL;
    for (int64_t i = 0; m && i < n; i++) {
        m[i] = m[i] * r->beta + r->beta_c * (r->scale * u[i]);
        w[i] = w[i] - r->decay * w[i] - m[i];
    }
    for (int64_t i = 0; !m && i < n; i++) w[i] = w[i] - r->decay * w[i] - r->scale * u[i];
}

/* Some rows of a matrix, a strip of columns after the other; or some elements of a vector. Returns Σ u², or moves. */
static double over_tile(const run *r, int64_t tile, bool moving)
{
    int64_t from = tile * r->tile_rows, end = at_most(from + r->tile_rows, r->rows);
    float u[STRIP], factor[STRIP];
    double sum = 0;
    for (int64_t at = from; !r->col && at < end; at += STRIP) {
        int64_t n = at_most(end - at, STRIP);
        direction(r, u, NULL, 0, at, n);
        if (moving)
            move(r, u, at, n);
        else
            sum += sum_squares(u, n);
    }
    for (int64_t c = 0; r->col && c < r->cols; c += STRIP) {
        int64_t n = at_most(r->cols - c, STRIP);
        for (int64_t i = 0; i < n; i++) factor[i] = 1.0f / sqrtf(r->col[c + i]);
        for (int64_t row = from; row < end; row++) {
            direction(r, u, factor, row, row * r->cols + c, n);
            if (moving)
                move(r, u, row * r->cols + c, n);
            else
                sum += sum_squares(u, n);
        }
    }
    return sum;
}

static void sum_tile(void *ctx, int64_t tile, int thread)
{
    run *r = ctx;
    (void)thread;
    r->part[tile] = over_tile(r, tile, false);
}

static void move_tile(void *ctx, int64_t tile, int thread)
{
    (void)thread;
    over_tile(ctx, tile, true);
}

static void second_moments(run *r, int64_t tiles)
{
    double sum = 0;
    pool_run(row_tile, r, tiles);
    if (!r->col) return;
    pool_run(col_tile, r, (r->cols + COLS - 1) / COLS);
    for (int64_t i = 0; i < r->rows; i++) sum += (double)r->square[i];
    r->row_mean = (float)(sum / (double)r->rows);
}

static void update(const opt_view *v, const opt_hyper *h)
{
    const adafactor_cfg *c = h->cfg;
    const double keep = 1.0 - pow((double)h->step, c->decay_rate);
    double lr = h->lr, sum = 0;
    int k = 0;
    run r = {.v = v,
             .first = c->beta1 > 0 ? v->state[k++] : NULL,
             .gscale = (float)h->gscale,
             .eps = (float)eps_at(c, 0),
             .keep = (float)keep,
             .take = (float)(1.0 - keep),
             .beta = (float)c->beta1,
             .beta_c = (float)(1.0 - c->beta1)};
    r.square = v->state[k];
    r.col = v->state[k + 1];
    r.rows = r.col ? v->rows : v->n;
    r.cols = r.col ? v->cols : 1;
    r.tile_rows = (r.rows + TILES - 1) / TILES;
    const int64_t tiles = (r.rows + r.tile_rows - 1) / r.tile_rows;
    second_moments(&r, tiles);
    pool_run(sum_tile, &r, tiles);
    for (int64_t i = 0; i < tiles; i++) sum += r.part[i];
    if (c->scale_parameter)
        lr *= fmax(eps_at(c, 1), sqrt(kn_sum_squares(v->w, v->n) / (double)v->n));
    r.scale = (float)(lr / fmax(1.0, sqrt(sum / (double)v->n) / c->clip_threshold));
    r.decay = (float)(lr * h->decay);
    pool_run(move_tile, &r, tiles);
}

extern const opt_rule opt_adafactor;
const opt_rule opt_adafactor = {
    .name = "adafactor",
    .help = "second moments by rows and columns: next to no memory",
    .fields = fields,
    .cfg_size = sizeof(adafactor_cfg),
    .high_rate = 0.1,
    .states = states,
    .update = update,
    .check = check,
    .shape = shape,
};
