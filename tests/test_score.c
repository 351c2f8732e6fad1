/* test_score.c – what a head says of labels: ag_logprob and ag_cross_entropy against double, over chunks of any size, with
 * weights that are known only after the forward. */
#include "support.h"

#include "ft/autograd.h"

#define BOUND 2e-6

enum { T = 11, C = 7, V = 23, S = 8 };

static const int32_t labels[T] = {3, -100, 22, 0, 7, -100, 7, 11, -1, 5, 19};
static const int32_t lengths[2] = {4, 7};
static const ag_rows rows = {.n = T, .n_seq = 2, .len = lengths};

typedef struct bench {
    ag_tape *t;
    tn_tensor x, w;
} bench;

static void open_bench(bench *b, bool trained)
{
    *b = (bench){0};
    b->x = (tn_tensor){.type = &dt_f32, .nd = 2, .dim = {T, C}, .wants_grad = true};
    b->w = (tn_tensor){.type = &dt_f32, .nd = 2, .dim = {V, C}, .wants_grad = trained};
    b->x.data = test_uniform(1, T * C, -1.5f, 1.5f);
    b->w.data = test_uniform(2, V * C, -1.5f, 1.5f);
    b->x.grad = test_alloc(T * C * sizeof(float));
    if (trained) b->w.grad = test_alloc(V * C * sizeof(float));
    assert_ok(ag_open(&b->t, (size_t)64 << 20));
    ag_set_rows(b->t, &rows);
    b->t->record = true;
}

static tn_tensor *head(void *ctx, tn_tensor *x)
{
    bench *b = ctx;
    return ag_linear(b->t, x, &(ag_weight){.w = &b->w}, 1, NULL);
}

typedef struct reference {
    double logprob[S], entropy[S], dx[T * C], dw[V * C];
    int32_t best[S];
} reference;

/* Σ weight · logprob and its gradients, in double. */
static void refer(const bench *b, double tau, const double *weight, reference *r)
{
    *r = (reference){0};
    for (int t = 0, s = 0; t < T; t++) {
        const float *x = tn_f32(&b->x) + t * C, *w = tn_f32(&b->w);
        double z[V], sum = 0;
        if (labels[t] < 0) continue;
        for (int v = 0; v < V; v++) {
            z[v] = 0;
            for (int c = 0; c < C; c++) z[v] += (double)x[c] * (double)w[v * C + c] / tau;
            sum += exp(z[v]);
            if (z[v] > z[r->best[s]]) r->best[s] = v;
        }
        r->logprob[s] = z[labels[t]] - log(sum);
        for (int v = 0; v < V; v++) {
            double p = exp(z[v]) / sum, g = weight[s] / tau * ((v == labels[t]) - p);
            r->entropy[s] -= p * log(p);
            for (int c = 0; c < C; c++) {
                r->dx[t * C + c] += g * (double)w[v * C + c];
                r->dw[v * C + c] += g * (double)x[c];
            }
        }
        s++;
    }
}

/* A loss whose weights come from the log-probabilities themselves: Σ ½ lp², so d/d lp = lp. */
static void check_logprob(int64_t chunk, bool trained, float tau)
{
    bench b;
    reference r;
    float logprob[S], entropy[S];
    int32_t best[S];
    open_bench(&b, trained);
    ag_score s = {.head = {head, &b, V, trained},
                  .label = labels,
                  .temperature = tau,
                  .chunk = chunk,
                  .logprob = logprob,
                  .entropy = entropy,
                  .best = best};
    tn_tensor *lp = ag_logprob(b.t, &b.x, &s);
    assert_ok(b.t->status);
    assert_int_equal(tn_rows(lp), S);
    assert_int_equal(tn_cols(lp), 1);
    assert_memory_equal(tn_f32(lp), logprob, sizeof logprob);
    float weight[S];
    double wide[S];
    memcpy(weight, tn_f32(lp), sizeof weight);
    for (int i = 0; i < S; i++) wide[i] = (double)weight[i];
    memset(logprob, 0, sizeof logprob); /* the arrays are the caller's again */
    memset(best, 0, sizeof best);
    assert_ok(ag_backward(b.t, ag_dot_const(b.t, lp, weight)));
    refer(&b, tau == 0.0f ? 1.0 : (double)tau, wide, &r);
    test_close(weight, r.logprob, S, BOUND, "logprob");
    test_close(entropy, r.entropy, S, BOUND, "entropy");
    test_close(b.x.grad, r.dx, T * C, BOUND, "dx");
    if (trained) test_close(b.w.grad, r.dw, V * C, BOUND, "dw");
    for (int i = 0; i < S; i++) {
        assert_true(logprob[i] == 0.0f);
        assert_int_equal(best[i], 0);
    }
    ag_close(b.t);
}

static void logprobs_and_their_gradients(void **state)
{
    static const int64_t chunks[] = {0, 1, 3, 5, S, 1000};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(chunks); i++) {
        for (int trained = 0; trained < 2; trained++) {
            check_logprob(chunks[i], trained == 1, 0.0f);
            check_logprob(chunks[i], trained == 1, 1.7f);
        }
    }
}

static void best_is_the_largest(void **state)
{
    bench b;
    reference r;
    double weight[S] = {0};
    int32_t best[S];
    (void)state;
    open_bench(&b, false);
    b.t->record = false;
    ag_score s = {.head = {head, &b, V, false}, .label = labels, .chunk = 3, .best = best};
    ag_logprob(b.t, &b.x, &s);
    assert_ok(b.t->status);
    assert_null(b.t->last);
    refer(&b, 1.0, weight, &r);
    assert_memory_equal(best, r.best, sizeof best);
    ag_close(b.t);
}

/* Cross-entropy takes its gradients beforehand; they are those of the log-probabilities with equal weights, and no size of
 * chunks shows in a bit. */
static void cross_entropy_is_their_sum(void **state)
{
    static const int64_t chunks[] = {0, 1, 3, 5};
    float first_dx[T * C], first_dw[V * C], logprob[S];
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(chunks); i++) {
        bench b;
        reference r;
        double weight[S], sum = 0;
        open_bench(&b, true);
        ag_score s = {
            .head = {head, &b, V, true}, .label = labels, .chunk = chunks[i], .logprob = logprob};
        tn_tensor *loss = ag_cross_entropy(b.t, &b.x, &s, 0.25f);
        assert_ok(ag_backward(b.t, loss));
        for (int k = 0; k < S; k++) weight[k] = -0.25;
        refer(&b, 1.0, weight, &r);
        for (int k = 0; k < S; k++) sum -= r.logprob[k];
        test_close(tn_f32(loss), &sum, 1, BOUND, "loss");
        test_close(logprob, r.logprob, S, BOUND, "logprob");
        test_close(b.x.grad, r.dx, T * C, BOUND, "dx");
        test_close(b.w.grad, r.dw, V * C, BOUND, "dw");
        if (i == 0) {
            memcpy(first_dx, b.x.grad, sizeof first_dx);
            memcpy(first_dw, b.w.grad, sizeof first_dw);
        }
        assert_memory_equal(first_dx, b.x.grad, sizeof first_dx);
        assert_memory_equal(first_dw, b.w.grad, sizeof first_dw);
        ag_close(b.t);
    }
}

/* Nothing labelled, nothing below that trains: a loss of 0, no gradient, no fault. */
static void no_labels(void **state)
{
    static const int32_t none[T] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    bench b;
    (void)state;
    open_bench(&b, true);
    ag_score s = {.head = {head, &b, V, true}, .label = none};
    tn_tensor *loss = ag_cross_entropy(b.t, &b.x, &s, 1.0f);
    assert_ok(ag_backward(b.t, loss));
    assert_true(tn_f32(loss)[0] == 0.0f);
    assert_int_equal(tn_rows(ag_logprob(b.t, &b.x, &s)), 0);
    for (int i = 0; i < T * C; i++) assert_true(b.x.grad[i] == 0.0f);
    ag_close(b.t);
}

/* A term whose weights come after the forward, beside a loss; and a reference pass that does not record between a forward
 * and its backward, over other rows. */
static void seeds_and_passes_between(void **state)
{
    bench b;
    (void)state;
    float c[T * C], plain[T * C];
    open_bench(&b, false);
    for (int i = 0; i < T * C; i++) c[i] = (float)i * 0.01f;
    ag_score s = {.head = {head, &b, V, false}, .label = labels};
    for (int k = 0; k < 2; k++) {
        tn_tensor *h = ag_scale(b.t, &b.x, 2.0f);
        tn_tensor *loss = ag_cross_entropy(b.t, h, &s, 1.0f);
        if (k == 1) {
            static const int32_t one[1] = {1};
            static const ag_rows other = {.n = 1, .n_seq = 1, .len = one};
            tn_tensor x = {.type = &dt_f32, .nd = 2, .dim = {1, C}, .data = c};
            ag_set_rows(b.t, &other);
            b.t->record = false;
            ag_linear(b.t, &x, &(ag_weight){.w = &b.w}, 1, NULL);
            ag_seed(b.t, h, c);
        }
        assert_ok(ag_backward(b.t, loss));
        if (k == 0) memcpy(plain, b.x.grad, sizeof plain);
        for (int i = 0; k == 1 && i < T * C; i++)
            assert_true(fabsf(b.x.grad[i] - plain[i] - 2.0f * c[i]) < 1e-5f);
        memset(b.x.grad, 0, T * C * sizeof(float));
        ag_reset(b.t);
        ag_set_rows(b.t, &rows);
        b.t->record = true;
    }
    ag_close(b.t);
}

/* A dry tape counts what the real one takes, with the head frozen and trained. */
static void a_dry_tape_counts(void **state)
{
    (void)state;
    for (int trained = 0; trained < 2; trained++) {
        for (int whole = 0; whole < 2; whole++) {
            size_t peak[2];
            for (int dry = 0; dry < 2; dry++) {
                bench b;
                open_bench(&b, trained == 1);
                if (dry) {
                    ag_close(b.t);
                    assert_ok(ag_open(&b.t, 0));
                    ag_set_rows(b.t, &rows);
                    b.t->record = true;
                }
                ag_score s = {.head = {head, &b, V, trained == 1}, .label = labels, .chunk = 3};
                tn_tensor *x = ag_scale(b.t, &b.x, 1.0f), *y = ag_logprob(b.t, x, &s);
                if (whole) y = ag_cross_entropy(b.t, x, &s, 1.0f);
                if (!whole) y = ag_dot_const(b.t, y, test_uniform(1, S, -1, 1));
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
        cmocka_unit_test(logprobs_and_their_gradients), cmocka_unit_test(best_is_the_largest),
        cmocka_unit_test(cross_entropy_is_their_sum),   cmocka_unit_test(no_labels),
        cmocka_unit_test(seeds_and_passes_between),     cmocka_unit_test(a_dry_tape_counts),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
