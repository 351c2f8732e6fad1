/* test_divergence.c – how far a head is from another model's: divergences and their gradients against double, over chunks of
 * any size with the same bits, with weights that are known before and after the forward. */
#include "support.h"

#include "ft/autograd.h"

#define BOUND 3e-6

enum { T = 11, C = 7, D = 5, V = 23, S = 8 };

static const int32_t labels[T] = {3, -100, 22, 0, 7, -100, 7, 11, -1, 5, 19};
static const int32_t lengths[2] = {4, 7};
static const ag_rows rows = {.n = T, .n_seq = 2, .len = lengths};
static const int64_t where[T] = {4, 0, 2, 3, -1, 5, 1, 7, 8, 6, 0};

typedef struct bench {
    ag_tape *t;
    tn_tensor x, w, y, u; /* hidden states and head of one; of the other */
} bench;

static tn_tensor leaf(uint64_t seed, int64_t n, int64_t cols, float most)
{
    tn_tensor t = {.type = &dt_f32, .nd = 2, .dim = {n, cols}};
    t.data = test_uniform(seed, n * cols, -most, most);
    return t;
}

static void open_bench(bench *b, bool trained, bool dry)
{
    *b = (bench){.x = leaf(1, T, C, 1.5f),
                 .w = leaf(2, V, C, 1.5f),
                 .y = leaf(3, T, D, 1.5f),
                 .u = leaf(4, V, D, 1.5f)};
    b->x.wants_grad = true;
    b->x.grad = test_alloc(T * C * sizeof(float));
    b->w.wants_grad = trained;
    if (trained) b->w.grad = test_alloc(V * C * sizeof(float));
    assert_ok(ag_open(&b->t, dry ? 0 : (size_t)64 << 20));
    ag_set_rows(b->t, &rows);
    b->t->record = true;
}

static tn_tensor *head(void *ctx, tn_tensor *x)
{
    bench *b = ctx;
    return ag_linear(b->t, x, &(ag_weight){.w = tn_cols(x) == C ? &b->w : &b->u}, 1, NULL);
}

static ag_score score_of(bench *b, bool trained, float beta, float tau, int64_t chunk)
{
    return (ag_score){.head = {head, b, V, trained},
                      .label = labels,
                      .chunk = chunk,
                      .other = {.head = {head, b, V, false},
                                .x = &b->y,
                                .row = where,
                                .beta = beta,
                                .temperature = tau,
                                .own = 0.4f,
                                .weight = 1.6f}};
}

/* --- in double ---------------------------------------------------------------------------------------------------- */
static void softmax(const float *x, const float *w, int cols, double tau, double p[V])
{
    double sum = 0;
    for (int v = 0; v < V; v++) {
        p[v] = 0;
        for (int c = 0; c < cols; c++) p[v] += (double)x[c] * (double)w[v * cols + c];
        sum += p[v] = exp(p[v] / tau);
    }
    for (int v = 0; v < V; v++) p[v] /= sum;
}

static double far(const double *p, const double *q, double beta)
{
    double sum = 0;
    for (int v = 0; v < V; v++) {
        const double m = (1 - beta) * p[v] + beta * q[v];
        if (beta == 0) sum += q[v] * log(q[v] / p[v]);
        if (beta == 1) sum += p[v] * log(p[v] / q[v]);
        if (beta > 0 && beta < 1)
            sum += beta * q[v] * log(q[v] / m) + (1 - beta) * p[v] * log(p[v] / m);
    }
    return sum;
}

/* Σ own[s] · log p(label) + apart[s] · divergence: its value, and the gradient by the logit v of row s by a difference in
 * the middle, in double. */
typedef struct reference {
    double logprob[S], apart[S], dx[T * C];
} reference;

static void refer(const bench *b, double beta, double tau, const double *own, const double *apart,
                  reference *r)
{
    const double h = 1e-5;
    *r = (reference){0};
    for (int t = 0, s = 0; t < T; t++) {
        float x[C];
        double p[V], q[V], one[V];
        if (labels[t] < 0) continue;
        if (where[t] >= 0) softmax(tn_f32(&b->y) + where[t] * D, tn_f32(&b->u), D, tau, q);
        memcpy(x, tn_f32(&b->x) + t * C, sizeof x);
        softmax(x, tn_f32(&b->w), C, 1, one);
        softmax(x, tn_f32(&b->w), C, tau, p);
        r->logprob[s] = log(one[labels[t]]);
        r->apart[s] = where[t] >= 0 ? far(p, q, beta) : 0;
        for (int v = 0; v < V; v++) {
            double up[V], down[V], a = 1, z = 1, g;
            for (int k = 0; k < V; k++) up[k] = down[k] = p[k];
            up[v] *= exp(h / tau);
            down[v] *= exp(-h / tau);
            a += up[v] - p[v];
            z += down[v] - p[v];
            for (int k = 0; k < V; k++) up[k] /= a, down[k] /= z;
            g = where[t] >= 0 ? apart[s] * (far(up, q, beta) - far(down, q, beta)) / (2 * h) : 0;
            g += own[s] * ((v == labels[t]) - one[v]);
            for (int c = 0; c < C; c++) r->dx[t * C + c] += g * (double)tn_f32(&b->w)[v * C + c];
        }
        s++;
    }
}

/* --- the ops -------------------------------------------------------------------------------------------------------- */
static void check(float beta, float tau, bool trained)
{
    static const int64_t chunks[] = {0, 1, 3, 5, 1000};
    float dx[2][T * C], dw[2][V * C];
    for (size_t k = 0; k < FT_COUNT_OF(chunks); k++) {
        double own[S], apart[S];
        float weight[2 * S], told[S];
        for (int after = 0; after < 2; after++) {
            bench b;
            reference r;
            open_bench(&b, trained, false);
            ag_score s = score_of(&b, trained, beta, tau, chunks[k]);
            s.other.divergence = told;
            for (int i = 0; i < S; i++) {
                weight[i] = after ? 0.3f - 0.1f * (float)i : -0.25f * s.other.own;
                weight[S + i] = after ? 0.2f * (float)i - 0.5f : 0.25f * s.other.weight;
                own[i] = (double)weight[i];
                apart[i] = (double)weight[S + i];
            }
            tn_tensor *y =
                after ? ag_logprob(b.t, &b.x, &s) : ag_cross_entropy(b.t, &b.x, &s, 0.25f);
            assert_ok(b.t->status);
            refer(&b, (double)beta, tau == 0.0f ? 1.0 : (double)tau, own, apart, &r);
            test_close(told, r.apart, S, BOUND, "divergence");
            if (after) {
                test_close(tn_f32(y), r.logprob, S, BOUND, "log-probability");
                test_close(tn_f32(y) + S, r.apart, S, BOUND, "divergence");
                y = ag_dot_const(b.t, y, weight);
            } else {
                double sum = 0;
                for (int i = 0; i < S; i++)
                    sum += 4 * (own[i] * r.logprob[i] + apart[i] * r.apart[i]);
                test_close(tn_f32(y), &sum, 1, BOUND, "loss");
            }
            memset(told, 0, sizeof told); /* it is the caller's again */
            assert_ok(ag_backward(b.t, y));
            assert_true(told[0] == 0.0f);
            test_close(b.x.grad, r.dx, T * C, BOUND, "dx");
            if (k == 0) memcpy(dx[after], b.x.grad, sizeof dx[after]);
            assert_memory_equal(dx[after], b.x.grad, sizeof dx[after]);
            if (trained && k == 0) memcpy(dw[after], b.w.grad, sizeof dw[after]);
            if (trained) assert_memory_equal(dw[after], b.w.grad, sizeof dw[after]);
            assert_null(b.y.grad);
            ag_close(b.t);
        }
    }
}

static void divergences_and_their_gradients(void **state)
{
    static const float betas[] = {0.0f, 0.1f, 0.5f, 1.0f};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(betas); i++) {
        check(betas[i], 0.0f, true);
        check(betas[i], 1.7f, false);
    }
}

/* From itself a head is not far, and nothing pulls it. */
static void none_from_itself(void **state)
{
    static const float betas[] = {0.0f, 0.5f, 1.0f};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(betas); i++) {
        bench b;
        float told[S];
        open_bench(&b, false, false);
        ag_score s = score_of(&b, false, betas[i], 0.5f, 0);
        s.other.x = &b.x;
        s.other.row = NULL;
        s.other.own = 0;
        s.other.divergence = told;
        assert_ok(ag_backward(b.t, ag_cross_entropy(b.t, &b.x, &s, 1.0f)));
        for (int k = 0; k < S; k++) assert_true(fabsf(told[k]) < 1e-6f);
        for (int k = 0; k < T * C; k++) assert_true(fabsf(b.x.grad[k]) < 1e-6f);
        ag_close(b.t);
    }
}

/* Logits so far apart that exponentials are 0: what is finite stays so. */
static void sharp_rows(void **state)
{
    enum { N = 3 };
    static const float x[N] = {0.0f, 200.0f, -200.0f}, other[N] = {300.0f, 0.0f, 0.0f};
    static const float betas[] = {0.0f, 0.5f, 1.0f}, want[] = {200.0f, 0.69314718f, 300.0f};
    static const uint8_t none[1] = {0};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(betas); i++) {
        float y[N], out;
        memcpy(y, other, sizeof y);
        kn_divergence d = {
            .v = N, .ld_x = N, .ld_y = N, .beta = betas[i], .none = none, .out = &out};
        d.scale = 1.0f;
        kn_divergence_rows(y, x, &d, 1);
        assert_true(fabsf(out - want[i]) < 1e-3f);
        for (int k = 0; k < N; k++) assert_true(isfinite(y[k]));
    }
}

/* A dry tape counts what the real one takes. */
static void a_dry_tape_counts(void **state)
{
    (void)state;
    for (int trained = 0; trained < 2; trained++) {
        for (int whole = 0; whole < 2; whole++) {
            size_t peak[2];
            for (int dry = 0; dry < 2; dry++) {
                bench b;
                open_bench(&b, trained == 1, dry == 1);
                ag_score s = score_of(&b, trained == 1, 0.5f, 0.0f, 3);
                tn_tensor *x = ag_scale(b.t, &b.x, 1.0f), *y = ag_logprob(b.t, x, &s);
                if (whole) y = ag_cross_entropy(b.t, x, &s, 1.0f);
                if (!whole) y = ag_dot_const(b.t, y, test_uniform(1, 2 * S, -1, 1));
                assert_ok(ag_backward(b.t, y));
                peak[dry] = ag_peak_bytes(b.t);
                ag_close(b.t);
            }
            assert_int_equal(peak[0], peak[1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergences_and_their_gradients),
        cmocka_unit_test(none_from_itself),
        cmocka_unit_test(sharp_rows),
        cmocka_unit_test(a_dry_tape_counts),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
