/* codes.c – products of a few tokens in codes of eight bits with matrices of −1, 0 and 1: generation of a BitNet model. W is
 * read as it lies, a quarter of a byte a weight, and nothing is unpacked.
 *
 *   y = (Σ_k (code − 1) q) · scale / gain (+ bias),  q = round(x · gain), gain = 127 / max|x| of the token */
#include "kern.h"

#include <math.h>
#include <string.h>

enum {
    /* of W in a tile, as in gemv.c */
    LEAST_BYTES = 8 << 10,
    MOST_BYTES = 96 << 10,
    TILES = 16,
    ROWS = 32, /* that a call of the loops takes */
};

typedef struct coded {
    float *y;
    int64_t ldy;
    const float *x;
    int64_t ldx, k, ldq, m;
    const kn_tokens *how;
    const kn_mat *w;
    const float *const *bias;
    int n;        /* matrices */
    int64_t step; /* rows of W in a tile */
    float *gain;  /* [m]; NaN: the token is not finite */
    int32_t *sum; /* [m] Σ q */
    int8_t *q;    /* [m, ldq] */
} coded;

static int64_t code_row(int64_t k)
{
    return dt_trits_row(k) * 4;
}

int64_t kn_codes_floats(int64_t m, int64_t k)
{
    return m * (2 + code_row(k) / (int64_t)sizeof(float));
}

static void token(void *ctx, int64_t i, int thread)
{
    const coded *c = ctx;
    const float *x = c->x + i * c->ldx;
    int8_t *q = c->q + i * c->ldq;
    c->sum[i] = 0;
    c->gain[i] = NAN;
    memset(q, 0, (size_t)c->ldq);
    if (c->how->norm) {
        float *y = pool_scratch(thread, 1, (size_t)c->k * sizeof *y);
        if (!y) return;
        kern->mul(y, 1.0f / sqrtf(kern->inner(x, x, c->k) / (float)c->k + c->how->eps), x, NULL,
                  c->k, false);
        x = y;
    }
    if (!kern->all_finite(x, c->k)) return;
    c->gain[i] = kern->codes_row(q, x, c->k);
    for (int64_t k = 0; k < c->k; k++) c->sum[i] += q[k];
}

/* Rows n0 … n0 + rows of matrix p; y and bias begin at n0. */
static void some_rows(const coded *c, float *y, const float *bias, const kn_mat *w, int64_t n0,
                      int rows)
{
    const int64_t bytes = dt_trits_row(c->k);
    const float scale = ((const dt_trits *)w->side)->scale;
    int32_t out[ROWS * 4];
    for (int64_t i = 0; i < c->m; i += 4) {
        const int m = (int)(c->m - i < 4 ? c->m - i : 4);
        kern->trits(out, (const uint8_t *)w->data + n0 * bytes, rows, bytes * 4 / DT_TRITS_BLOCK,
                    c->q + i * c->ldq, c->ldq, m);
        for (int j = 0; j < m; j++) {
            const float by = scale / c->gain[i + j];
            for (int r = 0; r < rows; r++)
                y[(i + j) * c->ldy + r] =
                    (float)(out[r * m + j] - c->sum[i + j]) * by + (bias ? bias[r] : 0.0f);
        }
    }
}

/* A tile is `step` rows of the matrices, one behind the other. */
static void tile_rows(void *ctx, int64_t tile, int thread)
{
    const coded *c = ctx;
    int64_t first = tile * c->step, end = first + c->step, at = 0;
    (void)thread;
    for (int p = 0; p < c->n; at += c->w[p++].rows) {
        const int64_t stop = end - at < c->w[p].rows ? end - at : c->w[p].rows;
        for (int64_t n = first > at ? first - at : 0; n < stop; n += ROWS) {
            const float *bias = c->bias && c->bias[p] ? c->bias[p] + n : NULL;
            some_rows(c, c->y + at + n, bias, &c->w[p], n,
                      (int)(stop - n < ROWS ? stop - n : ROWS));
        }
    }
}

void kn_codes_group(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_tokens *how,
                    const kn_mat *w, const float *const *bias, int n, int64_t m, float *codes)
{
    coded c = {.y = y, .ldy = ldy, .x = x, .ldx = ldx, .m = m, .how = how, .w = w, .bias = bias};
    int64_t rows = 0;
    if (m <= 0 || n <= 0) return;
    c.n = n;
    c.k = w[0].cols;
    c.ldq = code_row(c.k);
    c.gain = codes;
    c.sum = (int32_t *)(void *)(codes + m);
    c.q = (int8_t *)(codes + 2 * m);
    for (int i = 0; i < n; i++) rows += w[i].rows;
    int64_t bytes = rows * dt_trits_row(c.k) / TILES;
    bytes = bytes < LEAST_BYTES ? LEAST_BYTES : bytes > MOST_BYTES ? MOST_BYTES : bytes;
    c.step = 1 + bytes / dt_trits_row(c.k);
    pool_run(token, &c, m);
    pool_run(tile_rows, &c, (rows + c.step - 1) / c.step);
}
