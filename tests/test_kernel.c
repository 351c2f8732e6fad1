/* test_kernel.c – matrix products of every level this machine has against sums in double, for shapes with and
 * without rests and for all storage formats; and the rule of the same bits. */
#include "support.h"

#include "../src/kernel/kern.h"
#include "ft/kernel.h"

/* --- reference -------------------------------------------------------------------------------------------- */

typedef struct weights {
    kn_mat mat;
    float *f; /* unpacked, in the order of rows seen through row_of */
} weights;

static weights make_weights(const char *type, int64_t rows, int64_t cols, uint64_t seed,
                            bool permute)
{
    weights w = {.mat = {.type = dt_by_name(type), .rows = rows, .cols = cols}};
    size_t bytes = 0;
    assert_non_null(w.mat.type);
    assert_true(dt_bytes(w.mat.type, rows * cols, &bytes));
    float *values = test_uniform(seed, rows * cols, -1.0f, 1.0f);
    unsigned char *data = test_alloc(bytes);
    if (w.mat.type->pack) {
        w.mat.type->pack(data, values, rows * cols);
    } else {
        /* no packer: random codes; the scales, in f16, made small and finite */
        for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)test_u64(seed, i);
        for (size_t i = 1; i < bytes; i++)
            if ((data[i] & 0x7c) == 0x7c) data[i] &= 0xb3;
    }
    w.mat.data = data;
    float *stored = test_alloc((size_t)(rows * cols) * sizeof(float));
    w.mat.type->unpack(stored, data, rows * cols);
    w.f = test_alloc((size_t)(rows * cols) * sizeof(float));
    int32_t *order = test_alloc((size_t)rows * sizeof *order);
    for (int64_t r = 0; r < rows; r++) {
        order[r] = (int32_t)(permute ? (r * 7 + 3) % rows : r);
        memcpy(w.f + r * cols, stored + order[r] * cols, (size_t)cols * sizeof(float));
    }
    if (permute) w.mat.row_of = order;
    return w;
}

/* Σ_k x[m, k]·w(n, k) and Σ |x·w|, the scale of rounding errors. */
static double ref_dot(const float *x, int64_t sx, const float *w, int64_t sw, int64_t k,
                      double *scale)
{
    double s = 0, a = 0;
    for (int64_t i = 0; i < k; i++) {
        double p = (double)x[i * sx] * (double)w[i * sw];
        s += p;
        a += fabs(p);
    }
    *scale = a;
    return s;
}

static void check_close(float got, double want, double scale, int64_t k, const char *what,
                        int64_t i, int64_t j)
{
    double bound = 6e-8 * (4.0 + 2.0 * sqrt((double)k)) * (scale + fabs(want)) + 1e-30;
    if (fabs((double)got - want) <= bound) return;
    print_error("%s %s: [%d, %d] is %.9g, not %.9g (±%.2g)\n", kn_core_name(KN_F32), what, (int)i,
                (int)j, (double)got, want, bound);
    fail();
}

typedef struct size {
    int64_t m, n, k;
} size;

static const size sizes[] = {{1, 1, 1},     {2, 3, 5},    {7, 13, 31},    {14, 32, 32},
                             {15, 33, 33},  {13, 8, 97},  {65, 24, 384},  {29, 17, 385},
                             {64, 192, 64}, {67, 101, 8}, {31, 160, 800}, {130, 70, 1153}};

/* One product into a canvas wider than the result; what lies beside must stay. */
static void check_wx(const weights *w, int64_t m, bool transposed, bool bias, bool accumulate)
{
    enum { PAD = 3 };
    int64_t n = transposed ? w->mat.rows : w->mat.cols, k = transposed ? w->mat.cols : w->mat.rows;
    int64_t ldx = k + PAD, ldy = n + PAD;
    float *x = test_uniform(1, m * ldx, -1, 1), *y = test_uniform(2, m * ldy, -1, 1);
    float *old = test_alloc((size_t)(m * ldy) * sizeof(float)), *b = test_uniform(3, n, -1, 1);
    memcpy(old, y, (size_t)(m * ldy) * sizeof(float));
    (transposed ? kn_gemm_nt : kn_gemm_nn)(y, ldy, x, ldx, &w->mat, m, bias ? b : NULL, accumulate);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < ldy; j++) {
            if (j >= n) {
                assert_true(y[i * ldy + j] == old[i * ldy + j]);
                continue;
            }
            double scale;
            double want = ref_dot(x + i * ldx, 1, w->f + (transposed ? j * k : j),
                                  transposed ? 1 : n, k, &scale);
            if (accumulate) want += (double)old[i * ldy + j], scale += 1;
            if (bias) want += (double)b[j], scale += 1;
            check_close(y[i * ldy + j], want, scale, k, w->mat.type->name, i, j);
        }
    }
}

static void products_of_all_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        const size *s = &sizes[i];
        weights nt = make_weights("f32", s->n, s->k, 10 + i, i % 2);
        weights nn = make_weights("f32", s->k, s->n, 20 + i, i % 2);
        check_wx(&nt, s->m, true, i % 3 == 0, i % 2 == 0);
        check_wx(&nn, s->m, false, i % 3 == 0, i % 2 == 0);
    }
}

static void products_of_all_formats(void **state)
{
    (void)state;
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        if (!t->unpack) continue;
        int64_t block = t->block > 1 ? t->block : 37;
        weights w = make_weights(t->name, 45, 3 * block, 40, true);
        check_wx(&w, 19, true, true, false);
        check_wx(&w, 19, false, false, true);
        weights wide = make_weights(t->name, 40, t->block > 1 ? 1024 : 1001, 41, false);
        check_wx(&wide, 3, true, false, false);
        check_wx(&wide, 15, false, true, false);
    }
}

/* The level's own unpacking gives the bits of the format's. */
static void unpacking_is_exact(void **state)
{
    (void)state;
    for (const kern_format *f = kern->format; f->name; f++) {
        const dt_type *t = dt_by_name(f->name);
        if (f->read) continue; /* test_bnb.c */
        int64_t step = t->block > 1 ? t->block : 1;
        for (int64_t n = step; n <= 96 + 2 * step; n += step) {
            size_t bytes;
            assert_true(dt_bytes(t, n, &bytes));
            unsigned char *src = test_alloc(bytes + 1);
            for (size_t i = 0; i <= bytes; i++) src[i] = (unsigned char)test_u64((uint64_t)n, i);
            float *want = test_alloc((size_t)n * 4), *got = test_alloc((size_t)n * 4 + 4);
            t->unpack(want, src + 1, n); /* from an odd address */
            got[n] = 7.0f;
            f->unpack(got, src + 1, n);
            for (int64_t i = 0; i < n; i++)
                if (memcmp(&want[i], &got[i], 4) != 0 && !(isnan(want[i]) && isnan(got[i]))) {
                    print_error("%s %s: element %d\n", kern->name, f->name, (int)i);
                    fail();
                }
            assert_true(got[n] == 7.0f);
        }
    }
}

static void weight_gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        const int64_t t = sizes[i].k, m = sizes[i].m, n = sizes[i].n, lda = m + 2, ldb = n + 1,
                      ldc = n + 5;
        float *a = test_uniform(5, t * lda, -1, 1), *b = test_uniform(6, t * ldb, -1, 1);
        float *c = test_uniform(7, m * ldc, -1, 1), *old = test_uniform(7, m * ldc, -1, 1);
        const int32_t seg[2] = {(int32_t)(t / 3), (int32_t)(t - t / 3)};
        kn_gemm_tn(c, ldc, a, lda, m, b, ldb, n, t, seg, 2);
        for (int64_t r = 0; r < m; r++) {
            for (int64_t j = 0; j < ldc; j++) {
                double scale, want = (double)old[r * ldc + j];
                if (j < n) {
                    want += ref_dot(a + r, lda, b + j, ldb, t, &scale);
                    check_close(c[r * ldc + j], want, scale + 1, t, "tn", r, j);
                } else {
                    assert_true(c[r * ldc + j] == old[r * ldc + j]);
                }
            }
        }
    }
}

static void few_rows(void **state)
{
    (void)state;
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        if (!t->unpack) continue;
        const int64_t k = t->block > 1 ? 3 * t->block : 101, n = 77;
        weights w = make_weights(t->name, n, k, 50, i % 2);
        float *x = test_uniform(51, 18 * (k + 1), -1, 1), *bias = test_uniform(52, n, -1, 1);
        float *y = test_alloc((size_t)(18 * n) * sizeof(float));
        for (int64_t m = 1; m <= 18; m += m < 3 ? 1 : 5) {
            kn_gemv(y, n, x, k + 1, &w.mat, m, m == 2 ? NULL : bias);
            for (int64_t r = 0; r < m; r++) {
                for (int64_t j = 0; j < n; j++) {
                    double scale, want = ref_dot(x + r * (k + 1), 1, w.f + j * k, 1, k, &scale);
                    if (m != 2) want += (double)bias[j], scale += 1;
                    check_close(y[r * n + j], want, scale, k, t->name, r, j);
                }
            }
        }
    }
}

/* --- the same bits ------------------------------------------------------------------------------------------- */

static void assert_same(const float *a, const float *b, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(a + i, b + i, sizeof *a) == 0) continue;
        print_error("%s %s: element %d is %.9g and %.9g\n", kn_core_name(KN_F32), what, (int)i,
                    (double)a[i], (double)b[i]);
        fail();
    }
}

static void few_rows_do_not_see_each_other(void **state)
{
    (void)state;
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        if (!t->unpack) continue;
        const int64_t k = t->block > 1 ? 3 * t->block : 201, n = 9, rows = 21;
        weights w = make_weights(t->name, n, k, 50, false);
        float *x = test_uniform(51, rows * k, -1, 1), all[21 * 9], one[9];
        kn_gemv(all, n, x, k, &w.mat, rows, NULL);
        for (int64_t r = 0; r < rows; r++) {
            kn_gemv(one, n, x + r * k, k, &w.mat, 1, NULL);
            assert_same(all + r * n, one, n, t->name);
        }
        const kn_mat floats = {.type = &dt_f32, .data = w.f, .rows = n, .cols = k};
        float plain[21 * 9];
        kn_gemv(plain, n, x, k, &floats, rows, NULL);
        assert_same(all, plain, rows * n, t->name);
    }
}

/* Matrices that are multiplied in one pass, of different formats and heights, each as alone. */
static void a_group_is_its_matrices(void **state)
{
    enum { K = 512, N = 300 + 1 + 33 };
    const int64_t height[] = {300, 1, 33};
    const char *const type[] = {"q4_k", "bf16", "f32"};
    kn_mat mat[3];
    (void)state;
    float *x = test_uniform(90, 5 * K, -1, 1), *b = test_uniform(91, N, -1, 1);
    const float *const bias[] = {b, NULL, b + 301};
    for (int i = 0; i < 3; i++) mat[i] = make_weights(type[i], height[i], K, 92, i == 1).mat;
    for (int64_t m = 1; m <= 5; m += 2) {
        float *all = test_uniform(93, m * N, -1, 1), *one = test_uniform(94, m * N, -1, 1);
        kn_gemv_group(all, N, x, K, mat, bias, 3, m);
        for (int64_t i = 0, at = 0; i < 3; at += height[i++])
            kn_gemv(one + at, N, x, K, &mat[i], m, bias[i]);
        assert_same(all, one, m * N, "group");
    }
}

static void rows_do_not_see_each_other(void **state)
{
    enum { M = 401, N = 70, K = 900 };
    (void)state;
    weights w = make_weights("bf16", N, K, 60, false), wn = make_weights("bf16", K, N, 61, false);
    float *x = test_uniform(62, M * K, -1, 1), *all = test_alloc(M * N * 4),
          *some = test_alloc(M * N * 4);
    const int64_t cuts[] = {0, 1, 15, 64, 65, 261, M};
    for (int nt = 0; nt < 2; nt++) {
        const kn_mat *mat = nt ? &w.mat : &wn.mat;
        void (*f)(float *, int64_t, const float *, int64_t, const kn_mat *, int64_t, const float *,
                  bool) = nt ? kn_gemm_nt : kn_gemm_nn;
        f(all, N, x, K, mat, M, NULL, false);
        for (size_t i = 0; i + 1 < FT_COUNT_OF(cuts); i++)
            f(some + cuts[i] * N, N, x + cuts[i] * K, K, mat, cuts[i + 1] - cuts[i], NULL, false);
        assert_same(all, some, M * N, nt ? "rows of nt" : "rows of nn");
    }
}

/* Splitting the tokens of a weight gradient into two calls: between sequences, and inside one where a sum may end. */
static void tokens_split_into_calls(void **state)
{
    enum { T = 901, M = 45, N = 50 };
    (void)state;
    const int32_t seg[4] = {300, 1, 350, 250};
    float *a = test_uniform(70, T * M, -1, 1), *b = test_uniform(71, T * N, -1, 1);
    float *whole = test_uniform(72, M * N, -1, 1), *parts = test_uniform(72, M * N, -1, 1);
    kn_gemm_tn(whole, N, a, M, M, b, N, N, T, seg, 4);
    kn_gemm_tn(parts, N, a, M, M, b, N, N, 301, seg, 2);
    kn_gemm_tn(parts, N, a + 301 * M, M, M, b + 301 * N, N, N, T - 301, seg + 2, 2);
    assert_same(whole, parts, M * N, "tokens of tn");

    enum { CUT = 2 * KN_GRAD_UNIT };
    const int32_t head[1] = {CUT}, tail[4] = {300 - CUT, 1, 350, 250};
    parts = test_uniform(72, M * N, -1, 1);
    kn_gemm_tn(parts, N, a, M, M, b, N, N, CUT, head, 1);
    kn_gemm_tn(parts, N, a + CUT * M, M, M, b + CUT * N, N, N, T - CUT, tail, 4);
    assert_same(whole, parts, M * N, "tokens of tn, cut in a sequence");
}

static void threads_do_not_show(void **state)
{
    enum { M = 150, N = 300, K = 500 };
    const int threads[] = {1, 2, 3, 5};
    const int32_t seg[1] = {M};
    float *first[4];
    (void)state;
    weights w = make_weights("q8_0", N, 512, 80, false);
    float *x = test_uniform(81, M * 512, -1, 1), *dy = test_uniform(82, M * N, -1, 1);
    for (size_t i = 0; i < FT_COUNT_OF(threads); i++) {
        float *out[4] = {test_alloc(M * N * 4), test_alloc(M * 512 * 4), test_alloc(N * 512 * 4),
                         test_alloc(4 * N * 4)};
        const int64_t n[4] = {M * N, M * 512, N * 512, 4 * N};
        assert_ok(pool_open(threads[i]));
        kn_gemm_nt(out[0], N, x, 512, &w.mat, M, NULL, false);
        kn_gemm_nn(out[1], 512, dy, N, &w.mat, M, NULL, false);
        kn_gemm_tn(out[2], 512, dy, N, N, x, 512, 512, M, seg, 1);
        kn_gemv(out[3], N, x, 512, &w.mat, 4, NULL);
        pool_close();
        for (int j = 0; j < 4; j++) {
            if (i == 0) first[j] = out[j];
            assert_same(first[j], out[j], n[j], "threads");
        }
    }
}

/* A product with a term, a bias and a residual has the bits of its steps one after another, whether the term is short
 * enough for the pass of the last k or not, and of its rows alone. */
static void terms_are_further_steps(void **state)
{
    enum { M = 70, K = 900 };
    const int64_t widths[] = {83, 5, 463};
    const int64_t ranks[] = {0, 1, 5, 8, 64, 65, 577, 1200};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(ranks) * 4; i++) {
        const int64_t r = ranks[i / 4], N = widths[i % 3], LD = N + 3;
        const bool in_out = i & 1, low_in_out = i & 2, accumulate = i % 3 == 0;
        const weights w = make_weights("bf16", in_out ? K : N, in_out ? N : K, 100 + i, false),
                      low = make_weights("f32", low_in_out ? r : N, low_in_out ? N : r, 140 + i,
                                         false);
        float *x = test_uniform(180, M * K, -1, 1), *h = test_uniform(181, M * r, -1, 1);
        float *add = test_uniform(182, M * LD, -1, 1), *bias = test_uniform(183, N, -1, 1);
        float *one = test_uniform(184, M * LD, -1, 1), *steps = test_uniform(184, M * LD, -1, 1);
        float *cut = test_uniform(184, M * LD, -1, 1);
        void (*plain)(float *, int64_t, const float *, int64_t, const kn_mat *, int64_t,
                      const float *, bool) = in_out ? kn_gemm_nn : kn_gemm_nt;
        void (*further)(float *, int64_t, const float *, int64_t, const kn_mat *, int64_t,
                        const float *, bool) = low_in_out ? kn_gemm_nn : kn_gemm_nt;
        plain(steps, LD, x, K, &w.mat, M, r == 0 ? bias : NULL, accumulate);
        if (r > 0) further(steps, LD, h, r, &low.mat, M, bias, true);
        kn_mul_cols(steps, LD, add, LD, NULL, 1.0f, M, N, true);
        const int64_t rows[] = {0, 13, M};
        for (int part = -1; part < 2; part++) { /* whole, then in two */
            const int64_t r0 = part < 0 ? 0 : rows[part], r1 = part < 0 ? M : rows[part + 1];
            const kn_term term = {.x = {h + r0 * r, r, false}, .w = &low.mat, .in_out = low_in_out};
            kn_gemm(&(kn_product){.precision = KN_F32,
                                  .y = {(part < 0 ? one : cut) + r0 * LD, LD, false},
                                  .x = {x + r0 * K, K, false},
                                  .m = r1 - r0,
                                  .w = &w.mat,
                                  .in_out = in_out,
                                  .accumulate = accumulate,
                                  .term = &term,
                                  .bias = bias,
                                  .add = add + r0 * LD,
                                  .ld_add = LD});
        }
        assert_same(steps, one, M * LD, "steps");
        assert_same(one, cut, M * LD, "rows of a sum with a term");
    }
}

/* Every level that fuses follows the one chain of multiply-adds: their products are equal, and equal to fmaf. */
static void products_are_one_chain(void **state)
{
    enum { M = 33, N = 41, K = 1000 };
    (void)state;
    if (strcmp(kn_gemm_name(), "openblas") == 0) skip();
#if defined(__x86_64__)
    if (strcmp(kn_gemm_name(), "generic") == 0) skip();
#endif
    weights w = make_weights("f32", N, K, 90, false);
    float *x = test_uniform(91, M * K, -1, 1), *y = test_uniform(92, M * N, -1, 1);
    float *chain = test_uniform(92, M * N, -1, 1);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < K; k++)
                chain[i * N + j] = fmaf(x[i * K + k], w.f[j * K + k], chain[i * N + j]);
    kn_gemm_nt(y, N, x, K, &w.mat, M, NULL, true);
    assert_same(chain, y, M * N, "chain");
}

/* --- dispatch ---------------------------------------------------------------------------------------------------- */

static void environment_chooses(void **state)
{
    (void)state;
    setenv("FT_CPU", "generic", 1);
    setenv("FT_GEMM", "generic", 1);
    assert_ok(kn_init());
    assert_string_equal(kn_level(), "generic");
    assert_string_equal(kn_gemm_name(), "generic");
    setenv("FT_CPU", "sse9", 1);
    assert_fails(kn_init(), FT_EUSAGE, "sse9");
    setenv("FT_CPU", "generic", 1);
    setenv("FT_GEMM", "mkl", 1);
    assert_fails(kn_init(), FT_EUSAGE, "mkl");
    unsetenv("FT_CPU");
    unsetenv("FT_GEMM");
    assert_ok(kn_init());
    int n = 0;
    while (kern_level_at(n)) n++;
    assert_string_equal(kn_level(), kern_level_at(n - 1)->name);
    assert_true(strlen(kn_core_name(KN_F32)) > 0);
}

static void bench_gives_rates(void **state)
{
    (void)state;
    const kn_shape s = {.rows = 33, .out = 48, .in = 40};
    for (kn_form form = 0; form < KN_FORMS; form++) {
        assert_true(kn_bench_gemm(KN_F32, form, &s, 0.01) > 1e-3);
        assert_true(kn_bench_gemm(KN_BF16, form, &s, 0.01) > 1e-3);
    }
    assert_true(kn_bench_bandwidth(0.01, false) > 1e6);
    assert_true(kn_bench_bandwidth(0.01, true) > 1e6);
}

int main(void)
{
    const struct CMUnitTest each[] = {
        cmocka_unit_test(products_of_all_shapes),
        cmocka_unit_test(products_of_all_formats),
        cmocka_unit_test(unpacking_is_exact),
        cmocka_unit_test(weight_gradients),
        cmocka_unit_test(few_rows),
        cmocka_unit_test(rows_do_not_see_each_other),
        cmocka_unit_test(tokens_split_into_calls),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(few_rows_do_not_see_each_other),
        cmocka_unit_test(a_group_is_its_matrices),
        cmocka_unit_test(terms_are_further_steps),
        cmocka_unit_test(products_are_one_chain),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(environment_chooses),
        cmocka_unit_test(bench_gives_rates),
    };
    int failed = 0;
    for (int i = 0; kern_level_at(i); i++) {
        const char *level = kern_level_at(i)->name;
        if (kern_use(level, level) != FT_OK) return 1;
        failed += cmocka_run_group_tests_name(level, each, NULL, NULL);
    }
    if (kern_use("generic", "openblas") == FT_OK)
        failed += cmocka_run_group_tests_name("openblas", each, NULL, NULL);
    failed += cmocka_run_group_tests_name("dispatch", once, NULL, NULL);
    return failed;
}
