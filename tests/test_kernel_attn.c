/* test_kernel_attn.c – attention forward and backward on every level against whole score matrices in double, and
 * the rule of the same bits: alone or packed, any number of threads, with a cache or without. */
#include "amx_tiles.h"
#include "support.h"

#include "../src/kernel/kern.h"
#include "../src/kernel/kern_bf16.h"
#include "ft/kernel.h"

enum { MAX_SEQ = 4 };

static bool in_bf16; /* q, k, v and out of the calls */

typedef struct problem {
    int n_head, n_kv, d;
    int64_t window;
    float softcap;
    int32_t q_len[MAX_SEQ], k_len[MAX_SEQ];
    int n_seq;
} problem;

static const problem problems[] = {
    {1, 1, 1, 0, 0, {1}, {1}, 1},
    {3, 1, 64, 0, 0, {70, 1, 3}, {70, 1, 3}, 3},
    {4, 2, 17, 0, 0, {300, 33}, {300, 33}, 2},
    {2, 2, 40, 0, 5.0f, {129, 300}, {129, 300}, 2},
    {6, 2, 32, 37, 0, {530}, {530}, 1},
    {9, 1, 8, 1, 2.0f, {20, 65}, {20, 65}, 2},
    {4, 1, 96, 300, 0, {700}, {700}, 1},
    {2, 1, 512, 0, 0, {90}, {90}, 1},
    {4, 2, 24, 0, 0, {1, 5, 0, 64}, {300, 5, 7, 321}, 4}, /* with a cache: forward only */
    {3, 3, 16, 50, 0, {1, 2}, {257, 700}, 2},
};

/* Everything a call needs, at row distances wider than the heads. */
typedef struct arrays {
    kn_attn a;
    int64_t tq, tk, ldq, ldk, ldv, ldo;
    float *q, *k, *v, *out, *lse, *dout, *dq, *dk, *dv;
} arrays;

static void round_all(float *x, int64_t n)
{
    uint16_t *h = test_alloc((size_t)n * sizeof *h);
    dt_bf16.pack(h, x, n);
    dt_bf16.unpack(x, h, n);
}

static arrays make(const problem *p, uint64_t seed)
{
    arrays s = {.a = {.n_head = p->n_head,
                      .n_kv = p->n_kv,
                      .head_dim = p->d,
                      .scale = 1.7f / sqrtf((float)p->d),
                      .window = p->window,
                      .softcap = p->softcap,
                      .q_len = p->q_len,
                      .k_len = p->k_len,
                      .n_seq = p->n_seq}};
    for (int i = 0; i < p->n_seq; i++) s.tq += p->q_len[i], s.tk += p->k_len[i];
    s.ldq = p->n_head * p->d + 3;
    s.ldk = p->n_kv * p->d + 1;
    s.ldv = p->n_kv * p->d + 2;
    s.ldo = p->n_head * p->d + 5;
    s.q = test_uniform(seed, s.tq * s.ldq, -2, 2);
    s.k = test_uniform(seed + 1, s.tk * s.ldk, -2, 2);
    s.v = test_uniform(seed + 2, s.tk * s.ldv, -1, 1);
    if (in_bf16) {
        round_all(s.q, s.tq * s.ldq);
        round_all(s.k, s.tk * s.ldk);
        round_all(s.v, s.tk * s.ldv);
    }
    s.dout = test_uniform(seed + 3, s.tq * s.ldo, -1, 1);
    s.out = test_alloc((size_t)(s.tq * s.ldo) * 4);
    s.lse = test_alloc((size_t)(s.tq * p->n_head) * 4);
    s.dq = test_uniform(seed + 4, s.tq * s.ldq, -1, 1);
    s.dk = test_uniform(seed + 5, s.tk * s.ldk, -1, 1);
    s.dv = test_uniform(seed + 6, s.tk * s.ldv, -1, 1);
    return s;
}

static kn_rows floats(const float *x, int64_t ld)
{
    return (kn_rows){(float *)x, ld, false};
}

/* Rows in bf16, of values that are such; read of a slice only. */
static kn_rows halves(const float *x, int64_t rows, int64_t ld)
{
    uint16_t *h = test_alloc((size_t)(rows * ld + 1) * sizeof *h);
    if (x) dt_bf16.pack(h, x, rows * ld);
    return (kn_rows){h, ld, true};
}

static int64_t sum_of(const int32_t *len, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++) sum += len[i];
    return sum;
}

static kn_rows rows_of(const arrays *s, const float *x, bool keys, int64_t ld)
{
    return in_bf16 ? halves(x, sum_of(keys ? s->a.k_len : s->a.q_len, s->a.n_seq), ld)
                   : floats(x, ld);
}

static void forward(arrays *s)
{
    const kn_rows out = rows_of(s, s->out, false, s->ldo);
    const kn_rows k = s->a.page ? floats(NULL, s->ldk) : rows_of(s, s->k, true, s->ldk);
    const kn_rows v = s->a.page ? floats(NULL, s->ldv) : rows_of(s, s->v, true, s->ldv);
    kn_attention(&s->a, out, s->lse, rows_of(s, s->q, false, s->ldq), k, v);
    if (in_bf16) dt_bf16.unpack(s->out, out.data, sum_of(s->a.q_len, s->a.n_seq) * s->ldo);
}

static void backward(arrays *s)
{
    kn_attention_back(&s->a, s->dq, s->dk, s->dv, s->dout, s->ldo,
                      rows_of(s, s->out, false, s->ldo), s->lse, rows_of(s, s->q, false, s->ldq),
                      rows_of(s, s->k, true, s->ldk), rows_of(s, s->v, true, s->ldv));
}

/* --- reference: one query of one head ------------------------------------------------------------------------- */

typedef struct reference {
    double *out, *lse, *dq, *dk,
        *dv; /* packed without padding: [tq, H·d], [tq, H], …, [tk, KV·d] */
} reference;

static void ref_query(const arrays *s, reference *r, int64_t row, int64_t key0, int64_t pos,
                      int head)
{
    const kn_attn *a = &s->a;
    const int d = a->head_dim, kv = head / (a->n_head / a->n_kv);
    const float *q = s->q + row * s->ldq + head * d, *g = s->dout + row * s->ldo + head * d;
    double *p = test_alloc((size_t)(pos + 1) * 8), *t = test_alloc((size_t)(pos + 1) * 8);
    double max = -1e300, sum = 0, delta = 0;
    int64_t lo = a->window > 0 && pos - a->window + 1 > 0 ? pos - a->window + 1 : 0;
    for (int64_t j = lo; j <= pos; j++) {
        const float *k = s->k + (key0 + j) * s->ldk + kv * d;
        double x = 0;
        for (int c = 0; c < d; c++) x += (double)q[c] * (double)k[c];
        x *= (double)a->scale;
        if (a->softcap > 0) x = (double)a->softcap * tanh(x / (double)a->softcap);
        t[j] = x;
        max = fmax(max, x);
    }
    for (int64_t j = lo; j <= pos; j++) sum += p[j] = exp(t[j] - max);
    double *out = r->out + (row * a->n_head + head) * d, *dq = r->dq + (row * a->n_head + head) * d;
    for (int64_t j = lo; j <= pos; j++) {
        const float *v = s->v + (key0 + j) * s->ldv + kv * d;
        p[j] /= sum;
        for (int c = 0; c < d; c++) out[c] += p[j] * (double)v[c];
    }
    r->lse[row * a->n_head + head] = max + log(sum);
    for (int c = 0; c < d; c++) delta += out[c] * (double)g[c];
    for (int64_t j = lo; j <= pos; j++) {
        const float *k = s->k + (key0 + j) * s->ldk + kv * d,
                    *v = s->v + (key0 + j) * s->ldv + kv * d;
        double *dk = r->dk + ((key0 + j) * a->n_kv + kv) * d,
               *dv = r->dv + ((key0 + j) * a->n_kv + kv) * d;
        double dp = 0, u = a->softcap > 0 ? t[j] / (double)a->softcap : 0;
        for (int c = 0; c < d; c++) dp += (double)g[c] * (double)v[c];
        double ds = p[j] * (dp - delta) * (double)a->scale * (1 - u * u);
        for (int c = 0; c < d; c++) {
            dq[c] += ds * (double)k[c];
            dk[c] += ds * (double)q[c];
            dv[c] += p[j] * (double)g[c];
        }
    }
    /* test_alloc keeps everything until exit; these are small */
}

static reference make_reference(const arrays *s)
{
    const kn_attn *a = &s->a;
    const size_t d = (size_t)a->head_dim, h = (size_t)a->n_head, kv = (size_t)a->n_kv;
    reference r = {test_alloc((size_t)s->tq * h * d * 8), test_alloc((size_t)s->tq * h * 8),
                   test_alloc((size_t)s->tq * h * d * 8), test_alloc((size_t)s->tk * kv * d * 8),
                   test_alloc((size_t)s->tk * kv * d * 8)};
    int64_t row = 0, key0 = 0;
    for (int i = 0; i < a->n_seq; i++) {
        for (int64_t j = 0; j < a->q_len[i]; j++, row++)
            for (int head = 0; head < a->n_head; head++)
                ref_query(s, &r, row, key0, a->k_len[i] - a->q_len[i] + j, head);
        key0 += a->k_len[i];
    }
    return r;
}

/* Largest error of got − before against want, and a fifth of it as their root mean square, over that of want. */
static void check(const char *what, const float *got, const float *before, int64_t ld,
                  const double *want, int64_t rows, int64_t cols, double tolerance)
{
    double worst = 0, square = 0, errors = 0;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            double w = want[i * cols + j];
            double g = (double)got[i * ld + j] - (before ? (double)before[i * ld + j] : 0);
            worst = isnan(g) ? 1e300 : fmax(worst, fabs(g - w));
            square += w * w;
            errors += (g - w) * (g - w);
        }
    }
    const double n = (double)(rows * cols), rms = sqrt(square / n) + 0.02;
    if (worst <= tolerance * rms && sqrt(errors / n) <= tolerance / 5 * rms) return;
    print_error("%s %s: error %.3g, rms %.3g of %.3g (%d x %d)\n", kern->name, what, worst,
                sqrt(errors / n), rms, (int)rows, (int)cols);
    fail();
}

static void against_double(void **state)
{
    static reference known[2][FT_COUNT_OF(problems)]; /* of every level */
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(problems); i++) {
        const problem *p = &problems[i];
        arrays s = make(p, 10 * i);
        const int64_t wq = p->n_head * p->d, wk = p->n_kv * p->d;
        if (!known[in_bf16][i].out) known[in_bf16][i] = make_reference(&s);
        const reference r = known[in_bf16][i];
        forward(&s);
        /* an operand is off by up to 2⁻⁹ of itself, the largest of many values more than their rms is */
        const double most = in_bf16 ? 8e-2 : 1e-4;
        check("out", s.out, NULL, s.ldo, r.out, s.tq, wq, most / (in_bf16 ? 2 : 5));
        check("lse", s.lse, NULL, p->n_head, r.lse, s.tq, p->n_head, 1e-5);
        if (s.tq != s.tk) continue;
        arrays old = make(p, 10 * i);
        for (int threads = 1; threads <= 4; threads += 3) { /* both plans */
            arrays again = make(p, 10 * i);
            again.out = s.out;
            again.lse = s.lse;
            assert_ok(pool_open(threads));
            backward(&again);
            pool_close();
            check("dq", again.dq, old.dq, s.ldq, r.dq, s.tq, wq, most);
            check("dk", again.dk, old.dk, s.ldk, r.dk, s.tk, wk, most);
            check("dv", again.dv, old.dv, s.ldv, r.dv, s.tk, wk, most);
        }
    }
}

/* What a query learns from its only key is nothing, to the last bit. */
static void one_key_has_no_score_to_learn(void **state)
{
    static const problem few[] = {{3, 1, 10, 0, 0, {1, 1}, {1, 1}, 2},
                                  {4, 2, 72, 1, 0, {1, 90}, {1, 90}, 2},
                                  {2, 2, 33, 1, 3.0f, {300}, {300}, 1}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(few); i++) {
        arrays s = make(&few[i], 20 * i);
        memset(s.dq, 0, (size_t)(s.tq * s.ldq) * sizeof *s.dq);
        memset(s.dk, 0, (size_t)(s.tk * s.ldk) * sizeof *s.dk);
        forward(&s);
        backward(&s);
        for (int64_t k = 0; k < s.tq * s.ldq; k++) assert_true(s.dq[k] == 0.0f);
        for (int64_t k = 0; k < s.tk * s.ldk; k++) assert_true(s.dk[k] == 0.0f);
    }
}

/* --- the same bits --------------------------------------------------------------------------------------------- */

static void assert_same(const float *a, const float *b, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(a + i, b + i, sizeof *a) == 0) continue;
        print_error("%s %s: element %d is %.9g and %.9g\n", kern->name, what, (int)i, (double)a[i],
                    (double)b[i]);
        fail();
    }
}

static void threads_do_not_show(void **state)
{
    (void)state;
    for (size_t i = 1; i < 8; i++) {
        arrays first = make(&problems[i], 10 * i);
        forward(&first);
        backward(&first);
        for (int threads = 2; threads <= 5; threads += threads == 2 ? 1 : 2) {
            arrays s = make(&problems[i], 10 * i);
            assert_ok(pool_open(threads));
            forward(&s);
            backward(&s);
            pool_close();
            assert_same(first.out, s.out, s.tq * s.ldo, "out");
            assert_same(first.lse, s.lse, s.tq * s.a.n_head, "lse");
            assert_same(first.dq, s.dq, s.tq * s.ldq, "dq");
            assert_same(first.dk, s.dk, s.tk * s.ldk, "dk");
            assert_same(first.dv, s.dv, s.tk * s.ldv, "dv");
        }
    }
}

static void sequences_do_not_see_each_other(void **state)
{
    static const problem together = {6, 2, 32, 90, 0, {77, 301, 12}, {77, 301, 12}, 3};
    (void)state;
    arrays all = make(&together, 5);
    forward(&all);
    backward(&all);
    int64_t at = 0;
    for (int i = 0; i < together.n_seq; i++) {
        problem alone = together;
        alone.n_seq = 1;
        alone.q_len[0] = alone.k_len[0] = together.q_len[i];
        arrays whole = make(&together, 5), s = whole;
        s.a.n_seq = 1;
        s.a.q_len = s.a.k_len = alone.q_len;
        s.q += at * s.ldq, s.k += at * s.ldk, s.v += at * s.ldv;
        s.dout += at * s.ldo, s.out += at * s.ldo, s.lse += at * s.a.n_head;
        s.dq += at * s.ldq, s.dk += at * s.ldk, s.dv += at * s.ldv;
        forward(&s);
        backward(&s);
        const int64_t n = together.q_len[i];
        assert_same(all.out + at * s.ldo, s.out, n * s.ldo, "out alone");
        assert_same(all.dq + at * s.ldq, s.dq, n * s.ldq, "dq alone");
        assert_same(all.dk + at * s.ldk, s.dk, n * s.ldk, "dk alone");
        assert_same(all.dv + at * s.ldv, s.dv, n * s.ldv, "dv alone");
        at += n;
    }
}

/* The last queries of a sequence, asked for with a cache, have the bits of the whole. */
static void a_cache_does_not_show(void **state)
{
    static const problem p = {4, 2, 24, 0, 0, {530}, {530}, 1};
    (void)state;
    arrays s = make(&p, 7);
    forward(&s);
    for (int32_t last = 1; last <= 67; last += 66) {
        arrays c = make(&p, 7);
        c.a.q_len = &last;
        c.q += (530 - last) * s.ldq;
        forward(&c);
        assert_same(s.out + (530 - last) * s.ldo, c.out, last * s.ldo, "out with a cache");
    }
}

/* Keys and values in pages of any size, scattered: the bits of contiguous ones. */
static void pages_do_not_show(void **state)
{
    static const int64_t sizes[] = {1, 7, 32, 64, 1000};
    enum { K_AT = 3, BETWEEN = 2, MAX_PAGES = 1100 };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(problems); i++) {
        for (size_t z = 0; z < FT_COUNT_OF(sizes); z++) {
            const problem *p = &problems[i];
            const int64_t rows = sizes[z];
            arrays s = make(p, 10 * i), c = make(p, 10 * i);
            const float *page[MAX_PAGES];
            int64_t n = 0, key0 = 0, v_at = K_AT + rows * s.ldk + BETWEEN;
            for (int q = 0; q < p->n_seq; key0 += p->k_len[q++]) {
                for (int64_t k = 0; k < p->k_len[q]; k += rows, n++) {
                    const int64_t some = p->k_len[q] - k < rows ? p->k_len[q] - k : rows;
                    float *to = test_uniform(99, v_at + rows * s.ldv, -9, 9);
                    assert_true(n < MAX_PAGES);
                    memcpy(to + K_AT, s.k + (key0 + k) * s.ldk, (size_t)(some * s.ldk) * 4);
                    memcpy(to + v_at, s.v + (key0 + k) * s.ldv, (size_t)(some * s.ldv) * 4);
                    page[n] = to;
                }
            }
            forward(&s);
            c.a.page = page;
            c.a.page_rows = rows;
            c.a.k_at = K_AT;
            c.a.v_at = v_at;
            c.k = c.v = NULL;
            forward(&c);
            for (int64_t r = 0; r < s.tq; r++)
                assert_same(s.out + r * s.ldo, c.out + r * s.ldo, p->n_head * p->d, "out");
            assert_same(s.lse, c.lse, s.tq * p->n_head, "lse");
        }
    }
}

/* Far apart scores: exp underflows, nothing becomes NaN; equal scores of −∞ cannot arise from finite input. */
static void large_scores(void **state)
{
    static const problem p = {2, 1, 16, 0, 0, {300}, {300}, 1};
    (void)state;
    arrays s = make(&p, 9);
    s.a.scale = 1000.0f;
    forward(&s);
    backward(&s);
    assert_true(kn_find_nonfinite(s.out, s.tq * s.ldo) < 0);
    assert_true(kn_find_nonfinite(s.dq, s.tq * s.ldq) < 0);
    assert_true(kn_find_nonfinite(s.dk, s.tk * s.ldk) < 0);
}

int main(void)
{
    const struct CMUnitTest each[] = {
        cmocka_unit_test(pages_do_not_show),     cmocka_unit_test(large_scores),
        cmocka_unit_test(against_double),        cmocka_unit_test(one_key_has_no_score_to_learn),
        cmocka_unit_test(threads_do_not_show),   cmocka_unit_test(sequences_do_not_see_each_other),
        cmocka_unit_test(a_cache_does_not_show),
    };
    const struct CMUnitTest *rounded = each + 2; /* pages are f32 */
    enum { ROUNDED = FT_COUNT_OF(each) - 2 };
    int failed = 0;
    for (int i = 0; kern_level_at(i); i++) {
        const char *level = kern_level_at(i)->name;
        if (kern_use(level, level) != FT_OK) return 1;
        in_bf16 = false;
        failed += cmocka_run_group_tests_name(level, each, NULL, NULL);
        in_bf16 = true;
        kern_dot_use(NULL);
        failed += _cmocka_run_group_tests(level, rounded, ROUNDED, NULL, NULL);
    }
    for (int i = 0; kern_dot_at(i); i++) {
        kern_dot_use(kern_dot_at(i));
        failed += _cmocka_run_group_tests(kern_dot_at(i)->name, rounded, ROUNDED, NULL, NULL);
    }
    kern_dot_use(&amx_emulated);
    failed += _cmocka_run_group_tests("amx, emulated", rounded, ROUNDED, NULL, NULL);
    return failed;
}
