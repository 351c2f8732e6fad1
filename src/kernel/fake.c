/* fake.c – simulated quantisation around the loops of the level in use: tokens on the pool, steps of weights and the
 * gradients behind them matrix by matrix, where the caller has many matrices to hand out.
 *
 * A sum that makes a step is one chain in f64 over eight columns at a time, whatever the level. */
#include "kern.h"
#include "kern_bf16.h"

#include <math.h>

enum { TILE = 16384, PIECE = 1024 };

typedef struct tokens {
    kn_rows x, y;
    float *stat, *dx;
    const float *dy;
    int64_t t, c, step;
    const kn_tokens *how;
    bool accumulate;
} tokens;

static void run(pool_fn fn, tokens *r)
{
    r->step = 1 + TILE / (r->c + 1);
    pool_run(fn, r, (r->t + r->step - 1) / r->step);
}

static int64_t last(const tokens *r, int64_t tile)
{
    const int64_t end = (tile + 1) * r->step;
    return end < r->t ? end : r->t;
}

static const float *row_of(const tokens *r, int64_t i, float *buffer)
{
    if (!r->x.bf16) return (const float *)r->x.data + i * r->x.ld;
    kern_dot_row->widen(buffer, (const uint16_t *)r->x.data + i * r->x.ld, r->c);
    return buffer;
}

/* 1 / √(mean x² + eps) */
static float size_of(const tokens *r, const float *x)
{
    return 1.0f / sqrtf(kern->inner(x, x, r->c) / (float)r->c + r->how->eps);
}

static void forward(void *ctx, int64_t tile, int thread)
{
    const tokens *r = ctx;
    float *buffer = pool_scratch(thread, 1, (size_t)(2 * r->c) * sizeof(float));
    for (int64_t i = tile * r->step; buffer && i < last(r, tile); i++) {
        const float *x = row_of(r, i, buffer);
        float *y = r->y.bf16 ? buffer + r->c : (float *)r->y.data + i * r->y.ld;
        float *stat = r->stat ? r->stat + 2 * i : NULL;
        if (r->how->norm) {
            const float inverse = size_of(r, x);
            kern->mul(y, inverse, x, NULL, r->c, false);
            if (stat) stat[0] = inverse;
            x = y;
        }
        kern->fake_row(y, r->how->symmetric ? NULL : stat, x, r->c, r->how->symmetric);
        if (r->y.bf16) kern_dot_row->round((uint16_t *)r->y.data + i * r->y.ld, y, r->c);
    }
}

void kn_fake_rows(kn_rows y, float *stat, kn_rows x, int64_t t, int64_t c, const kn_tokens *how)
{
    run(forward, &(tokens){.x = x, .y = y, .stat = stat, .t = t, .c = c, .how = how});
}

/* Through the norm: dx (+)= r · (dy − x · mean(dy ⊙ x) · r²) */
static void norm_back(const tokens *r, float *dx, const float *dy, const float *x, float inverse)
{
    const float k = kern->inner(dy, x, r->c) * inverse * inverse / (float)r->c;
    kern->mul(dx, inverse, dy, NULL, r->c, r->accumulate);
    kern->axpy(dx, -inverse * k, x, r->c);
}

static void backward(void *ctx, int64_t tile, int thread)
{
    const tokens *r = ctx;
    float *buffer = pool_scratch(thread, 1, (size_t)(2 * r->c) * sizeof(float));
    for (int64_t i = tile * r->step; buffer && i < last(r, tile); i++) {
        float *dx = r->dx + i * r->c;
        const float *dy = r->dy + i * r->c;
        if (r->how->norm)
            norm_back(r, dx, dy, row_of(r, i, buffer), r->stat[2 * i]);
        else if (r->how->symmetric)
            kern->mul(dx, 1.0f, dy, NULL, r->c, r->accumulate);
        else
            kern->fake_row_back(dx, dy, row_of(r, i, buffer), r->stat + 2 * i, r->c, r->accumulate);
    }
}

void kn_fake_rows_back(float *dx, const float *dy, kn_rows x, const float *stat, int64_t t,
                       int64_t c, const kn_tokens *how, bool accumulate)
{
    run(backward, &(tokens){.x = x,
                            .dx = dx,
                            .dy = dy,
                            .stat = (float *)(uintptr_t)stat,
                            .t = t,
                            .c = c,
                            .how = how,
                            .accumulate = accumulate});
}

/* --- weights --------------------------------------------------------------------------------------------------------- */
/* Values first … first + n of w, where they lie or in `buffer`. */
static const float *values(const dt_steps *s, const void *w, int64_t first, int64_t n,
                           float *buffer)
{
    if (s->type == &dt_f32 && (uintptr_t)w % sizeof(float) == 0) return (const float *)w + first;
    dt_read(s->type, buffer, &(dt_data){.data = w}, first, n);
    return buffer;
}

static double sum_abs(const float *x, int64_t n)
{
    double sum[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += (double)fabsf(x[i + k]);
    for (int k = 0; i < n; i++, k++) sum[k] += (double)fabsf(x[i]);
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static float step_of(double size, const kn_first_step *how)
{
    const float step = how->factor * (float)size / how->divisor;
    return step < how->least ? how->least : step; /* a NaN stays one */
}

/* One step of values that lie one behind the other. */
static float step_along(const dt_steps *s, const void *w, int64_t first, const kn_first_step *how)
{
    float buffer[PIECE];
    double size = 0;
    for (int64_t i = 0; i < s->group; i += PIECE) {
        const int64_t n = s->group - i < PIECE ? s->group - i : PIECE;
        const float *x = values(s, w, first + i, n, buffer);
        const double one = how->mean ? sum_abs(x, n) : (double)kern->max_abs(x, n);
        size = how->mean ? size + one : one > size || isnan(one) ? one : size;
    }
    return step_of(how->mean ? size / (double)s->group : size, how);
}

/* The steps of columns n0 … n0 + n over the rows of a group. */
static void steps_down(const dt_steps *s, const void *w, float *step, int64_t row, int64_t n0,
                       int64_t n, const kn_first_step *how)
{
    float buffer[PIECE];
    double size[PIECE] = {0};
    for (int64_t r = row; r < row + s->group; r++) {
        const float *x = values(s, w, r * s->cols + n0, n, buffer);
        for (int64_t i = 0; i < n; i++) {
            const double v = (double)fabsf(x[i]);
            size[i] = how->mean ? size[i] + v : v > size[i] || isnan(v) ? v : size[i];
        }
    }
    for (int64_t i = 0; i < n; i++)
        step[i] = step_of(how->mean ? size[i] / (double)s->group : size[i], how);
}

void kn_fake_steps(const dt_steps *s, const void *w, int64_t rows, int64_t cols,
                   const kn_first_step *how)
{
    if (!s->cols) {
        for (int64_t g = 0; g < rows * cols / s->group; g++)
            s->step[g] = step_along(s, w, g * s->group, how);
        return;
    }
    for (int64_t g = 0; g < rows / s->group; g++)
        for (int64_t n0 = 0; n0 < cols; n0 += PIECE)
            steps_down(s, w, s->step + g * cols + n0, g * s->group, n0,
                       cols - n0 < PIECE ? cols - n0 : PIECE, how);
}

void kn_fake_back(float *g, float *dstep, float scale, const dt_steps *s, const void *w,
                  int64_t rows, int64_t cols, bool mask)
{
    float buffer[PIECE];
    for (int64_t first = 0; first < rows * cols;) {
        /* whole groups where they fit, so that their sums are one */
        const int64_t unit = s->cols || s->group > PIECE ? PIECE : PIECE / s->group * s->group;
        const int64_t n = rows * cols - first < unit ? rows * cols - first : unit;
        kern->fake_back(g + first, dstep, values(s, w, first, n, buffer), s, first, n, scale, mask);
        first += n;
    }
}
