/* test_kernel_rows.c – norms, rotary embedding, activations, dropout, cross-entropy, AdamW and sums of every level
 * against double, over lengths with and without rests; gradients against the analytic ones in double. */
#include "support.h"

#include <float.h>

#include "../src/kernel/kern.h"
#include "ft/kernel.h"

static const int64_t widths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 97, 576};

static kn_rows floats(const float *x, int64_t ld)
{
    return (kn_rows){(float *)x, ld, false};
}

enum { T = 5, MOST = T * 2 * 576 };

static void close_to(float got, double want, double tolerance, const char *what, int64_t i)
{
    if (fabs((double)got - want) <= tolerance * (1.0 + fabs(want)) || (double)got == want) return;
    if (isnan(got) && isnan(want)) return;
    print_error("%s %s: element %d is %.9g, not %.9g\n", kern->name, what, (int)i, (double)got,
                want);
    fail();
}

/* --- norms ------------------------------------------------------------------------------------------------ */

/* y = (x − mean)·rstd·w + b in double, mean = 0 for the RMS norm; and gradients. */
static void norm_row(const float *x, const float *w, const float *b, const float *dy, int64_t c,
                     double eps, bool centre, double *y, double *dx, double *xhat)
{
    double mean = 0, var = 0, mg = 0, mgx = 0;
    for (int64_t i = 0; i < c && centre; i++) mean += (double)x[i] / (double)c;
    for (int64_t i = 0; i < c; i++)
        var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)c;
    double rstd = 1.0 / sqrt(var + eps);
    for (int64_t i = 0; i < c; i++) {
        xhat[i] = ((double)x[i] - mean) * rstd;
        y[i] = xhat[i] * (double)w[i] + (b ? (double)b[i] : 0);
        mg += (double)w[i] * (double)dy[i] / (double)c;
        mgx += (double)w[i] * (double)dy[i] * xhat[i] / (double)c;
    }
    for (int64_t i = 0; i < c; i++)
        dx[i] = rstd * ((double)w[i] * (double)dy[i] - (centre ? mg : 0) - xhat[i] * mgx);
}

static void norms(void **state)
{
    static double y[576], dx[576], xhat[576], dw[576], db[576];
    (void)state;
    for (size_t n = 0; n < FT_COUNT_OF(widths); n++) {
        const int64_t c = widths[n];
        float *x = test_uniform(1, T * c, -1, 3), *w = test_uniform(2, c, 0, 2),
              *b = test_uniform(3, c, -1, 1);
        float *dy = test_uniform(4, T * c, -1, 1), *out = test_alloc(MOST * 4);
        float mean[T], rstd[T];
        for (int centre = 0; centre < 2; centre++) {
            float *gx = test_uniform(5, T * c, -1, 1), *gw = test_uniform(6, c, -1, 1);
            float *gb = test_uniform(7, c, -1, 1);
            float *gx0 = test_uniform(5, T * c, -1, 1), *gw0 = test_uniform(6, c, -1, 1);
            float *gb0 = test_uniform(7, c, -1, 1);
            memset(dw, 0, sizeof dw), memset(db, 0, sizeof db);
            if (centre) {
                kn_layernorm(floats(out, c), mean, rstd, x, w, b, T, c, 1e-3f);
                kn_layernorm_back(gx, gw, gb, dy, x, w, mean, rstd, T, c);
                kn_layernorm_back(NULL, NULL, NULL, dy, x, w, mean, rstd, T, c);
            } else {
                kn_rmsnorm(floats(out, c), rstd, x, w, T, c, 1e-3f);
                kn_rmsnorm_back(gx, gw, dy, x, w, rstd, T, c);
                kn_rmsnorm_back(NULL, NULL, dy, x, w, rstd, T, c);
            }
            for (int64_t t = 0; t < T; t++) {
                norm_row(x + t * c, w, centre ? b : NULL, dy + t * c, c, 1e-3, centre, y, dx, xhat);
                for (int64_t i = 0; i < c; i++) {
                    close_to(out[t * c + i], y[i], 3e-6, "norm", i);
                    close_to(gx[t * c + i] - gx0[t * c + i], dx[i], 2e-5, "norm dx", i);
                    dw[i] += (double)dy[t * c + i] * xhat[i];
                    db[i] += (double)dy[t * c + i];
                }
            }
            for (int64_t i = 0; i < c; i++) {
                close_to(gw[i] - gw0[i], dw[i], 3e-6, "norm dw", i);
                if (centre) close_to(gb[i] - gb0[i], db[i], 3e-6, "norm db", i);
            }
        }
    }
}

/* --- rotary embedding ---------------------------------------------------------------------------------------- */

static void rope(void **state)
{
    enum { HEADS = 3, POSITIONS = 11, LD = 3 * 70 + 4 };
    static const int halves[] = {1, 4, 8, 13, 32, 35};
    static const int32_t pos[T] = {0, 10, 3, 3, 7};
    (void)state;
    for (size_t n = 0; n < FT_COUNT_OF(halves); n++) {
        const int half = halves[n], d = 70;
        float *c = test_uniform(1, POSITIONS * half, -1, 1),
              *s = test_uniform(2, POSITIONS * half, -1, 1);
        for (int sign = -1; sign <= 1; sign += 2) {
            float *x = test_uniform(3, T * LD, -1, 1), *old = test_uniform(3, T * LD, -1, 1);
            kn_rope(x, LD, T, HEADS, d, half, c, s, pos, (float)sign);
            for (int64_t i = 0; i < T * LD; i++) {
                int64_t t = i / LD, col = i % LD, head = col / d, e = col % d;
                double want = (double)old[i];
                if (head < HEADS && e < 2 * half) {
                    int64_t other = e < half ? i + half : i - half, at = pos[t] * half + e % half;
                    want = want * (double)c[at] +
                           (e < half ? -1 : 1) * sign * (double)old[other] * (double)s[at];
                }
                close_to(x[i], want, 3e-7, "rope", i);
            }
        }
    }
}

/* --- activations ------------------------------------------------------------------------------------------------ */

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double act(const char *name, double x)
{
    if (strcmp(name, "silu") == 0) return x * sigmoid(x);
    if (strcmp(name, "gelu") == 0) return 0.5 * x * erfc(-x / sqrt(2.0));
    if (strcmp(name, "quick_gelu") == 0) return x * sigmoid(1.702 * x);
    if (strcmp(name, "relu") == 0) return x > 0 ? x : 0;
    if (strcmp(name, "relu2") == 0) return x > 0 ? x * x : 0;
    if (strcmp(name, "tanh") == 0) return tanh(x);
    if (strcmp(name, "leaky_relu") == 0) return x > 0 ? x : (double)0.01f * x;
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double slope(const char *name, double x)
{
    const double h = 1e-4;
    if (strncmp(name, "relu", 4) == 0) return x > 0 ? (name[4] ? 2 * x : 1) : 0;
    if (strcmp(name, "leaky_relu") == 0) return x > 0 ? 1 : (double)0.01f;
    /* central differences of fourth order in double: error about 1e-12 */
    return (8 * (act(name, x + h) - act(name, x - h)) - act(name, x + 2 * h) +
            act(name, x - 2 * h)) /
           (12 * h);
}

static void activations(void **state)
{
    static const char *const names[] = {"silu",       "gelu", "gelu_new", "gelu_pytorch_tanh",
                                        "quick_gelu", "relu", "relu2",    "tanh",
                                        "leaky_relu"};
    enum { I = 43, N = T * I };
    (void)state;
    assert_null(kn_act_by_name("swish7"));
    for (size_t n = 0; n < FT_COUNT_OF(names); n++) {
        const kn_act *a = kn_act_by_name(names[n]);
        assert_non_null(a);
        float *gu = test_uniform(1, 2 * N, -12, 12), *x = test_uniform(2, N, -6, 6);
        float *dy = test_uniform(3, N, -1, 1), *y = test_alloc(N * 4);
        float *d = test_uniform(4, 2 * N, -1, 1), *d0 = test_uniform(4, 2 * N, -1, 1);
        x[0] = 0, x[1] = 60, x[2] = -60, x[3] = 1e-6f, x[4] = -1e18f, x[5] = 1e15f;
        kn_act_rows(a, floats(y, N), floats(x, N), 1, N);
        for (int i = 0; i < N; i++) close_to(y[i], act(names[n], (double)x[i]), 1e-6, names[n], i);
        /* also in the tail the relative error stays small */
        float tail[2] = {-5.0f, -3.0f}, out[2];
        kn_act_rows(a, floats(out, 2), floats(tail, 2), 1, 2);
        for (int i = 0; i < 2; i++)
            assert_true(fabs((double)out[i] - act(names[n], (double)tail[i])) <=
                        5e-6 * fabs(act(names[n], (double)tail[i])));
        x[4] = x[5] = 1;
        kn_act_back(a, floats(d, N), dy, floats(x, N), 1, N, true);
        for (int i = 0; i < N; i++)
            close_to(d[i] - d0[i], (double)dy[i] * slope(names[n], (double)x[i]), 3e-6, names[n],
                     i);
        kn_glu(a, floats(y, I), floats(gu, 2 * I), T, I);
        memcpy(d, d0, 2 * N * 4);
        kn_glu_back(a, floats(d, 2 * I), dy, floats(gu, 2 * I), T, I, true);
        for (int i = 0; i < N; i++) {
            int64_t g = i / I * 2 * I + i % I, u = g + I;
            double gate = (double)gu[g], up = (double)gu[u];
            close_to(y[i], act(names[n], gate) * up, 1e-6, "glu", i);
            close_to(d[g] - d0[g], (double)dy[i] * up * slope(names[n], gate), 3e-6, "glu dgate",
                     g);
            close_to(d[u] - d0[u], (double)dy[i] * act(names[n], gate), 3e-6, "glu dup", u);
        }
    }
}

/* --- elementwise, sums ------------------------------------------------------------------------------------------- */

static void elementwise(void **state)
{
    (void)state;
    for (size_t k = 0; k < FT_COUNT_OF(widths) + 1; k++) {
        const int64_t n = k < FT_COUNT_OF(widths) ? widths[k] : 40001;
        float *a = test_uniform(1, n, -1, 1), *b = test_uniform(2, n, -1, 1),
              *y = test_uniform(3, n + 1, -1, 1);
        float *was = test_uniform(3, n + 1, -1, 1);
        kn_add(y, a, b, n);
        for (int64_t i = 0; i < n; i++) close_to(y[i], (double)(a[i] + b[i]), 0, "add", i);
        memcpy(y, was, (size_t)n * 4);
        kn_axpy(y, 0.3f, a, n);
        for (int64_t i = 0; i < n; i++)
            close_to(y[i], (double)was[i] + (double)0.3f * (double)a[i], 2e-7, "axpy", i);
        memcpy(y, was, (size_t)n * 4);
        kn_scale(y, -3.0f, n);
        for (int64_t i = 0; i < n; i++) close_to(y[i], (double)(was[i] * -3.0f), 0, "scale", i);
        kn_add(a, a, b, n); /* in place */
        assert_true(y[n] == was[n]);
    }
}

static void sums(void **state)
{
    (void)state;
    for (size_t k = 0; k < FT_COUNT_OF(widths) + 2; k++) {
        static const int64_t more[] = {4097, 70001};
        const int64_t n = k < FT_COUNT_OF(widths) ? widths[k] : more[k - FT_COUNT_OF(widths)];
        float *x = test_uniform(1, n, -1, 1);
        double want = 0;
        for (int64_t i = 0; i < n; i++) want += (double)x[i] * (double)x[i];
        assert_true(fabs(kn_sum_squares(x, n) - want) <= 1e-12 * want);
        assert_int_equal(kn_find_nonfinite(x, n), -1);
        x[n - 1] = NAN;
        assert_int_equal(kn_find_nonfinite(x, n), n - 1);
        x[n / 2] = -INFINITY;
        assert_int_equal(kn_find_nonfinite(x, n), n / 2);
    }
    assert_true(kn_sum_squares(NULL, 0) == 0.0);
    /* column sums are one chain in ascending order: exactly */
    enum { ROWS = 37, COLS = 131, LD = 140 };
    float *dy = test_uniform(5, ROWS * LD, -1, 1), *db = test_uniform(6, COLS, -1, 1);
    float *chain = test_uniform(6, COLS, -1, 1);
    for (int t = 0; t < ROWS; t++)
        for (int j = 0; j < COLS; j++) chain[j] += dy[t * LD + j];
    kn_col_sum_add(db, dy, LD, 10, COLS);
    kn_col_sum_add(db, dy + 10 * LD, LD, ROWS - 10, COLS);
    assert_memory_equal(db, chain, COLS * sizeof *db);
}

/* --- dropout ------------------------------------------------------------------------------------------------------- */

static void dropout(void **state)
{
    enum { ROWS = 64, COLS = 1003 };
    (void)state;
    float *x = test_uniform(1, ROWS * COLS, 1, 2), *y = test_alloc(ROWS * COLS * 4),
          *z = test_alloc(ROWS * COLS * 4);
    uint64_t key[ROWS];
    for (uint64_t i = 0; i < ROWS; i++) key[i] = i;
    kn_dropout(y, x, ROWS, COLS, 0.25f, 99, key);
    int64_t dropped = 0, columns[4] = {0}, both = 0;
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        if (y[i] == 0.0f) {
            dropped++;
            columns[i % COLS % 4]++;
            if (i % COLS > 0) both += y[i - 1] == 0.0f;
        } else {
            close_to(y[i], (double)x[i] / 0.75, 2e-7, "dropout", i);
        }
    }
    /* 64,192 draws: standard deviation 110; pairs of neighbours as often as independent draws */
    assert_true(llabs(dropped - ROWS * COLS / 4) < 500);
    assert_true(llabs(both - ROWS * (COLS - 1) / 16) < 300);
    for (int i = 0; i < 4; i++) assert_true(llabs(columns[i] - ROWS * COLS / 16) < 300);
    /* a row's mask depends on its key alone; another key gives another mask */
    kn_dropout(z, x + 3 * COLS, 1, COLS, 0.25f, 99, key + 3);
    assert_memory_equal(z, y + 3 * COLS, COLS * 4);
    kn_dropout(z, x + 3 * COLS, 1, COLS, 0.25f, 98, key + 3);
    int64_t same = 0;
    for (int i = 0; i < COLS; i++) same += (z[i] == 0.0f) == (y[3 * COLS + i] == 0.0f);
    assert_true(same < COLS * 7 / 10);
    /* the same mask backwards, added */
    float *dx = test_uniform(2, ROWS * COLS, -1, 1), *dx0 = test_uniform(2, ROWS * COLS, -1, 1);
    kn_dropout_back(dx, x, ROWS, COLS, 0.25f, 99, key);
    for (int64_t i = 0; i < ROWS * COLS; i++)
        close_to(dx[i] - dx0[i], (double)y[i], 1e-6, "dropout back", i);
    kn_dropout(z, x, 1, COLS, 0.0f, 99, key);
    assert_memory_equal(z, x, COLS * 4);
}

/* --- cross-entropy -------------------------------------------------------------------------------------------------- */

static void cross_entropy(void **state)
{
    (void)state;
    for (size_t n = 0; n < FT_COUNT_OF(widths); n++) {
        const int64_t v = widths[n], ld = v + 3;
        for (int grad = 0; grad < 2; grad++) {
            float *x = test_uniform(1, T * ld, -20, 20), *x0 = test_uniform(1, T * ld, -20, 20),
                  logprob[T];
            int32_t best[T], target[T] = {0, (int32_t)v - 1, (int32_t)(v / 2), 0, -1};
            x[3 * ld + v / 2] = x0[3 * ld + v / 2] = x[3 * ld + v - 1] = x0[3 * ld + v - 1] = 25;
            kn_softmax s = {.v = v,
                            .ld = ld,
                            .target = target,
                            .logprob = logprob,
                            .best = grad ? NULL : best,
                            .scale = grad ? 0.5f : 0.0f};
            kn_softmax_rows(x, &s, T);
            for (int64_t t = 0; t < T; t++) {
                const float *row = x0 + t * ld;
                double sum = 0;
                int64_t top = 0;
                for (int64_t i = 0; i < v; i++) {
                    sum += exp((double)row[i]);
                    if (row[i] > row[top]) top = i;
                }
                const bool counts = target[t] >= 0;
                close_to(logprob[t], counts ? (double)row[target[t]] - log(sum) : 0, 1e-6,
                         "logprob", t);
                if (!grad) assert_int_equal(best[t], top);
                for (int64_t i = 0; i < ld; i++) {
                    double want = (double)row[i];
                    if (grad && i < v)
                        want = counts ? 0.5 * (exp(want) / sum - (i == target[t])) : 0;
                    close_to(x[t * ld + i], want, 1e-6, "dlogits", i);
                }
            }
        }
    }
    float bad[4] = {1, NAN, 2, 3}, logprob;
    int32_t target = 2;
    kn_softmax s = {.v = 4, .ld = 4, .target = &target, .logprob = &logprob};
    kn_softmax_rows(bad, &s, 1);
    assert_true(isnan(logprob));
}

/* (1 − ε) −log p(target) + ε mean −log p, and its gradient, against double. */
static void smoothed_targets(void **state)
{
    (void)state;
    for (size_t n = 0; n < FT_COUNT_OF(widths); n++) {
        const int64_t v = widths[n];
        const double e = 0.1;
        float *x = test_uniform(1, T * v, -20, 20), *x0 = test_uniform(1, T * v, -20, 20),
              logprob[T], smooth[T];
        int32_t target[T] = {0, (int32_t)v - 1, (int32_t)(v / 2), 0, -1};
        kn_softmax s = {.v = v,
                        .ld = v,
                        .target = target,
                        .logprob = logprob,
                        .smoothing = 0.1f,
                        .smooth = smooth,
                        .scale = 0.5f};
        kn_softmax_rows(x, &s, T);
        for (int64_t t = 0; t < T; t++) {
            const float *row = x0 + t * v;
            const bool counts = target[t] >= 0;
            double sum = 0, mean = 0;
            for (int64_t i = 0; i < v; i++) sum += exp((double)row[i]);
            for (int64_t i = 0; i < v; i++) mean += ((double)row[i] - log(sum)) / (double)v;
            double own = counts ? (double)row[target[t]] - log(sum) : 0;
            close_to(logprob[t], own, 1e-6, "logprob", t);
            close_to(smooth[t], counts ? (1 - e) * own + e * mean : 0, 1e-6, "smooth", t);
            for (int64_t i = 0; i < v; i++) {
                double p = exp((double)row[i]) / sum;
                double q = (i == target[t] ? 1 - e : 0) + e / (double)v;
                close_to(x[t * v + i], counts ? 0.5 * (p - q) : 0, 1e-6, "dlogits", i);
            }
        }
    }
}

/* Temperature, entropy and weights of rows against double. */
static void softmax_of_scores(void **state)
{
    enum { V = 2300 }; /* more than a piece of those rounded in place */
    (void)state;
    float *x = test_uniform(1, T * V, -4, 4), *x0 = test_uniform(1, T * V, -4, 4);
    float *half = test_uniform(1, T * V, -4, 4);
    uint16_t rounded[V];
    float logprob[T], entropy[T], weight[T];
    int32_t target[T];
    for (int t = 0; t < T; t++) {
        target[t] = 7 * t;
        weight[t] = (float)t - 1.5f;
    }
    kn_softmax s = {.v = V,
                    .ld = V,
                    .temperature = 0.7f,
                    .target = target,
                    .logprob = logprob,
                    .entropy = entropy,
                    .scale = -2.0f,
                    .weight = weight};
    kn_softmax_rows(x, &s, T);
    for (int64_t t = 0; t < T; t++) {
        double sum = 0, h = 0;
        const double tau = (double)0.7f;
        for (int64_t i = 0; i < V; i++) sum += exp((double)x0[t * V + i] / tau);
        for (int64_t i = 0; i < V; i++) {
            double lp = (double)x0[t * V + i] / tau - log(sum);
            double want = -2.0 * (double)weight[t] / tau * (exp(lp) - (i == target[t]));
            h -= exp(lp) * lp;
            close_to(x[t * V + i], want, 1e-6, "dlogits", i);
        }
        close_to(logprob[t], (double)x0[t * V + target[t]] / tau - log(sum), 1e-6, "logprob", t);
        close_to(entropy[t], h, 1e-6, "entropy", t);
    }
    s.half = true;
    kn_softmax_rows(half, &s, T);
    for (int64_t t = 0; t < T; t++) {
        dt_bf16.pack(rounded, x + t * V, V);
        assert_memory_equal(half + t * V, rounded, sizeof rounded);
    }
}

/* Picked rows, put back, scaled: against the plain loops, and repeated rows in order. */
static void picked_rows(void **state)
{
    enum { N = 9, C = 150 };
    (void)state;
    const int64_t row[N] = {4, 0, 4, 4, 2, 1, 0, 3, 2};
    float *x = test_uniform(1, 5 * C, -1, 1), *part = test_alloc(N * C * sizeof *part);
    float *y = test_uniform(2, 5 * C, -1, 1), *want = test_uniform(2, 5 * C, -1, 1);
    const float s[N] = {1, -2, 0.5f, 3, 0, 1, 1, 7, -1};
    kn_gather_rows(floats(part, C), floats(x, C), row, N, C);
    for (int i = 0; i < N; i++) assert_memory_equal(part + i * C, x + row[i] * C, C * 4);
    kn_scale_rows(part, s, N, C);
    kn_scatter_rows(y, part, row, N, C);
    for (int i = 0; i < N; i++) {
        for (int c = 0; c < C; c++) {
            float scaled = s[i] * x[row[i] * C + c];
            want[row[i] * C + c] += scaled;
        }
    }
    assert_memory_equal(y, want, 5 * C * 4);
    const int64_t two[2] = {3, 1};
    kn_put_rows(y + 10, C, part, two, 2, 20);
    memcpy(want + 3 * C + 10, part, 20 * 4);
    memcpy(want + 1 * C + 10, part + 20, 20 * 4);
    assert_memory_equal(y, want, 5 * C * 4);
    kn_put_rows(y + 10, C, NULL, two, 2, 20);
    memset(want + 3 * C + 10, 0, 20 * 4);
    memset(want + 1 * C + 10, 0, 20 * 4);
    assert_memory_equal(y, want, 5 * C * 4);
}

/* --- AdamW ----------------------------------------------------------------------------------------------------------- */

static void adamw(void **state)
{
    enum { N = 16384 + 37 };
    const double lr = (double)1e-3f, b1 = 0.9, b2 = 0.999, eps = (double)1e-8f,
                 decay = (double)0.1f;
    (void)state;
    float *w = test_uniform(1, N, -1, 1), *m = test_alloc(N * 4), *v = test_alloc(N * 4);
    double *dw = test_alloc(N * 8), *dm = test_alloc(N * 8), *dv = test_alloc(N * 8);
    for (int i = 0; i < N; i++) dw[i] = (double)w[i];
    for (int step = 1; step <= 10; step++) {
        float *g = test_uniform(10 + (uint64_t)step, N, -1, 1);
        g[0] = 0;
        g[1] *= 1e-12f;
        double c1 = 1 - pow(b1, step), c2 = 1 - pow(b2, step);
        kn_adamw(w, g, m, v, N, 1e-3f, b1, b2, 1e-8f, 0.1f, c1, c2, 0.5f);
        for (int i = 0; i < N; i++) {
            double grad = 0.5 * (double)g[i];
            dw[i] *= 1 - lr * decay;
            dm[i] += (1 - b1) * (grad - dm[i]);
            dv[i] = b2 * dv[i] + (1 - b2) * grad * grad;
            dw[i] -= lr / c1 * dm[i] / (sqrt(dv[i]) / sqrt(c2) + eps);
            close_to(w[i], dw[i], 4e-7, "adamw", i);
        }
    }
    for (int i = 0; i < N; i++) {
        close_to(m[i], dm[i], 2e-7, "adamw m", i);
        close_to(v[i], dv[i], 1e-7, "adamw v", i);
    }
}

/* --- the same bits ------------------------------------------------------------------------------------------------------ */

static void threads_and_rows_do_not_show(void **state)
{
    enum { ROWS = 300, C = 101 };
    (void)state;
    uint64_t key[ROWS];
    for (uint64_t i = 0; i < ROWS; i++) key[i] = i * i;
    float *first[6], *x = test_uniform(1, ROWS * C * 2, -1, 1), *w = test_uniform(2, C, 0, 2);
    float *dy = test_uniform(3, ROWS * C, -1, 1);
    double square = 0;
    for (int threads = 1; threads <= 5; threads += 2) {
        float *o[6], rstd[ROWS];
        for (int i = 0; i < 6; i++) o[i] = test_alloc(ROWS * C * 2 * 4);
        assert_ok(pool_open(threads));
        kn_rmsnorm(floats(o[0], C), rstd, x, w, ROWS, C, 1e-5f);
        kn_rmsnorm_back(o[1], o[2], dy, x, w, rstd, ROWS, C);
        kn_glu(kn_act_by_name("silu"), floats(o[3], C), floats(x, 2 * C), ROWS, C);
        kn_dropout(o[4], x, ROWS, C, 0.5f, 3, key);
        kn_layernorm_back(NULL, o[5], o[5] + C, dy, x, w, rstd, rstd, ROWS, C);
        double s = kn_sum_squares(x, ROWS * C * 2);
        pool_close();
        if (threads == 1) {
            memcpy(first, o, sizeof first);
            square = s;
        }
        assert_true(s == square);
        for (int i = 0; i < 6; i++) assert_memory_equal(first[i], o[i], ROWS * C * 2 * 4);
    }
    float rstd[1], y[C];
    for (int t = 0; t < ROWS; t += 7) {
        kn_rmsnorm(floats(y, C), rstd, x + t * C, w, 1, C, 1e-5f);
        assert_memory_equal(y, first[0] + t * C, sizeof y);
    }
}

static kn_rows halves(uint16_t *x, int64_t ld)
{
    return (kn_rows){x, ld, true};
}

/* Rows in bf16 give what the floats they stand for give, rounded: of every function that takes them, at sizes that go
 * through in pieces. */
static void rows_in_bf16(void **state)
{
    enum { ROWS = 7, MOST_I = 2300 };
    (void)state;
    const int64_t sizes[] = {1, 5, 16, 43, 1024, MOST_I};
    const kn_act *silu = kn_act_by_name("silu");
    for (size_t k = 0; k < FT_COUNT_OF(sizes); k++) {
        const int64_t c = sizes[k], n = ROWS * c, row[3] = {6, 0, 6};
        float *x = test_uniform(1, 2 * n, -4, 4), *w = test_uniform(2, c, 0, 2);
        float *dy = test_uniform(3, n, -1, 1), *want = test_alloc((size_t)(2 * n) * 4);
        float *got = test_alloc((size_t)(2 * n) * 4), rstd[ROWS], mean[ROWS];
        uint16_t *xh = test_alloc((size_t)(2 * n) * 2), *yh = test_alloc((size_t)(2 * n) * 2);
        uint16_t *wh = test_alloc((size_t)(2 * n) * 2);
        dt_bf16.pack(xh, x, 2 * n);
        dt_bf16.unpack(x, xh, 2 * n);
        kn_convert_rows(halves(wh, 2 * c), floats(x, 2 * c), ROWS, 2 * c);
        assert_memory_equal(wh, xh, (size_t)(2 * n) * 2);
        kn_convert_rows(floats(got, 2 * c), halves(xh, 2 * c), ROWS, 2 * c);
        assert_memory_equal(got, x, (size_t)(2 * n) * 4);

        for (int which = 0; which < 4; which++) {
            for (int half = 0; half < 2; half++) {
                const kn_rows y = half ? halves(yh, c) : floats(want, c);
                if (which == 0) kn_rmsnorm(y, rstd, x, w, ROWS, c, 1e-5f);
                if (which == 1) kn_layernorm(y, mean, rstd, x, w, w, ROWS, c, 1e-5f);
                if (which == 2)
                    kn_glu(silu, y, half ? halves(xh, 2 * c) : floats(x, 2 * c), ROWS, c);
                if (which == 3) kn_act_rows(silu, y, half ? halves(xh, c) : floats(x, c), ROWS, c);
            }
            dt_bf16.pack(wh, want, n);
            assert_memory_equal(wh, yh, (size_t)n * 2);
        }
        memset(want, 0, (size_t)(2 * n) * 4), memset(got, 0, (size_t)(2 * n) * 4);
        for (int add = 1; add >= 0; add--) { /* onto zeros, and over what is there */
            kn_glu_back(silu, floats(want, 2 * c), dy, floats(x, 2 * c), ROWS, c, true);
            kn_glu_back(silu, floats(got, 2 * c), dy, halves(xh, 2 * c), ROWS, c, add);
            assert_memory_equal(got, want, (size_t)(2 * n) * 4);
            kn_glu_back(silu, halves(yh, 2 * c), dy, halves(xh, 2 * c), ROWS, c, false);
            dt_bf16.pack(wh, want, 2 * n);
            assert_memory_equal(wh, yh, (size_t)(2 * n) * 2);
            memset(want, 0, (size_t)n * 4), memset(got, add ? 0 : 1, (size_t)n * 4);
            kn_act_back(silu, floats(want, c), dy, floats(x, c), ROWS, c, true);
            kn_act_back(silu, floats(got, c), dy, halves(xh, c), ROWS, c, add);
            assert_memory_equal(got, want, (size_t)n * 4);
            kn_act_back(silu, halves(yh, c), dy, halves(xh, c), ROWS, c, false);
            dt_bf16.pack(wh, want, n);
            assert_memory_equal(wh, yh, (size_t)n * 2);
            memset(want, 0, (size_t)(2 * n) * 4), memset(got, 1, (size_t)(2 * n) * 4);
        }
        kn_gather_rows(halves(yh, c), halves(xh, c), row, 3, c);
        for (int i = 0; i < 3; i++) assert_memory_equal(yh + i * c, xh + row[i] * c, (size_t)c * 2);
    }
}

int main(void)
{
    const struct CMUnitTest each[] = {
        cmocka_unit_test(norms),
        cmocka_unit_test(rope),
        cmocka_unit_test(activations),
        cmocka_unit_test(elementwise),
        cmocka_unit_test(sums),
        cmocka_unit_test(dropout),
        cmocka_unit_test(cross_entropy),
        cmocka_unit_test(smoothed_targets),
        cmocka_unit_test(softmax_of_scores),
        cmocka_unit_test(picked_rows),
        cmocka_unit_test(rows_in_bf16),
        cmocka_unit_test(adamw),
        cmocka_unit_test(threads_and_rows_do_not_show),
    };
    int failed = 0;
    for (int i = 0; kern_level_at(i); i++) {
        const char *level = kern_level_at(i)->name;
        if (kern_use(level, level) != FT_OK) return 1;
        failed += cmocka_run_group_tests_name(level, each, NULL, NULL);
    }
    return failed;
}
