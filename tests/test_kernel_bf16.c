/* test_kernel_bf16.c – products of operands rounded to bf16, by every row that this machine has, against sums in double
 * of the rounded operands; and the rule of the same bits. */
#include "amx_tiles.h"
#include "support.h"

#include "../src/kernel/kern_bf16.h"
#include "../src/kernel/kern.h"

static float round_one(float x)
{
    uint16_t h;
    float y;
    dt_bf16.pack(&h, &x, 1);
    dt_bf16.unpack(&y, &h, 1);
    return y;
}

/* n uniform values, n of them rounded to bf16 if asked, and the same as bf16. */
static float *values(uint64_t seed, int64_t n, uint16_t **bf16)
{
    float *v = test_uniform(seed, n, -1, 1);
    if (!bf16) return v;
    *bf16 = test_alloc((size_t)n * sizeof **bf16);
    dt_bf16.pack(*bf16, v, n);
    return v;
}

typedef struct size {
    int64_t m, n, k;
} size;
static const size sizes[] = {{1, 1, 1},       {2, 3, 5},     {7, 13, 31},    {14, 32, 32},
                             {15, 33, 33},    {13, 8, 97},   {65, 24, 384},  {29, 17, 385},
                             {64, 192, 64},   {67, 101, 8},  {31, 160, 800}, {33, 31, 63},
                             {130, 70, 1153}, {5, 48, 2500}, {3, 40, 9001}};

static void check_close(float got, double want, double scale, int64_t k, const char *what,
                        int64_t i, int64_t j)
{
    const double bound = 6e-8 * (4.0 + 2.0 * sqrt((double)k)) * (scale + fabs(want)) + 1e-30;
    if (fabs((double)got - want) <= bound) return;
    print_error("%s %s: [%d, %d] is %.9g, not %.9g (±%.2g)\n", kern_dot_row->name, what, (int)i,
                (int)j, (double)got, want, bound);
    fail();
}

enum {
    X_BF16 = 1,
    Y_BF16 = 2,
    W_BF16 = 4,
    IN_OUT = 8,
    ACCUMULATE = 16,
    EXTRAS = 32, /* a term, a bias, a residual */
    KINDS = 64
};
enum { R = 5 }; /* of the term */

/* One product into a canvas wider than the result; what lies beside must stay. */
static void check_product(const size *s, int kind)
{
    const bool in_out = (kind & IN_OUT) != 0, y_bf16 = (kind & Y_BF16) != 0;
    const bool accumulate = (kind & ACCUMULATE) != 0 && !y_bf16, extras = (kind & EXTRAS) != 0;
    const int64_t ldx = s->k + 3, ldy = s->n + 5;
    uint16_t *xb, *wb, *yb;
    float *x = values(1, s->m * ldx, &xb), *w = values(2, s->n * s->k, &wb);
    float *y = values(3, s->m * ldy, &yb), *bias = values(4, s->n, NULL);
    float *add = values(5, s->m * s->n, NULL), *old = values(3, s->m * ldy, NULL);
    uint16_t *old_b;
    values(3, s->m * ldy, &old_b);
    const kn_mat mat = {.type = kind & W_BF16 ? &dt_bf16 : &dt_f32,
                        .data = kind & W_BF16 ? (void *)wb : (void *)w,
                        .rows = in_out ? s->k : s->n,
                        .cols = in_out ? s->n : s->k};
    float *x2 = values(6, s->m * R, NULL), *w2 = values(7, s->n * R, NULL);
    const bool turned = (kind & W_BF16) != 0;
    const kn_mat mat2 = {
        .type = &dt_f32, .data = w2, .rows = turned ? R : s->n, .cols = turned ? s->n : R};
    const kn_term term = {.x = {x2, R, false}, .w = &mat2, .in_out = turned};
    kn_gemm(&(kn_product){.precision = KN_BF16,
                          .y = {y_bf16 ? (void *)yb : (void *)y, ldy, y_bf16},
                          .x = {kind & X_BF16 ? (void *)xb : (void *)x, ldx, (kind & X_BF16) != 0},
                          .m = s->m,
                          .w = &mat,
                          .in_out = in_out,
                          .accumulate = accumulate,
                          .term = extras ? &term : NULL,
                          .bias = extras ? bias : NULL,
                          .add = extras ? add : NULL,
                          .ld_add = s->n});
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = 0; j < ldy; j++) {
            const int64_t at = i * ldy + j;
            if (j >= s->n) {
                assert_true(y_bf16 ? yb[at] == old_b[at] : y[at] == old[at]);
                continue;
            }
            double want = accumulate ? (double)old[at] : 0, scale = fabs(want);
            for (int64_t k = 0; k < s->k; k++) {
                double p = (double)round_one(x[i * ldx + k]) *
                           (double)round_one(w[in_out ? k * s->n + j : j * s->k + k]);
                want += p;
                scale += fabs(p);
            }
            if (extras) want += (double)bias[j] + (double)add[i * s->n + j], scale += 2;
            for (int64_t k = 0; extras && k < R; k++) {
                double p = (double)round_one(x2[i * R + k]) *
                           (double)round_one(w2[turned ? k * s->n + j : j * R + k]);
                want += p;
                scale += fabs(p);
            }
            if (!y_bf16) {
                check_close(y[at], want, scale, s->k, "product", i, j);
                continue;
            }
            float got;
            dt_bf16.unpack(&got, &yb[at], 1);
            assert_true(fabs((double)got - want) <= fabs(want) / 250 + 1e-6 * (scale + 1));
        }
    }
}

static void products(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        const int step = sizes[i].m * sizes[i].n * sizes[i].k > 100000 ? 9 : 1;
        for (int kind = 0; kind < KINDS; kind += step) check_product(&sizes[i], kind);
    }
}

/* Every storage format: the product is that of the unpacked values. */
static void formats(void **state)
{
    (void)state;
    for (int f = 0; dt_at(f); f++) {
        const dt_type *t = dt_at(f);
        if (!t->unpack || !t->pack) continue;
        const int64_t n = 2 * (t->block > 1 ? t->block : 37),
                      k = 3 * (t->block > 1 ? t->block : 19), m = 9;
        size_t bytes;
        assert_true(dt_bytes(t, n * k, &bytes));
        for (int in_out = 0; in_out < 2; in_out++) {
            void *data = test_alloc(bytes + 1);
            float *w = values(8, n * k, NULL), *x = values(9, m * k, NULL);
            float *got = test_alloc((size_t)(m * n) * 4), *want = test_alloc((size_t)(m * n) * 4);
            char *odd = (char *)data + (t->block == 1); /* in a file values may begin anywhere */
            t->pack(odd, w, n * k);
            t->unpack(w, odd, n * k);
            kn_mat mat = {.type = t, .data = odd, .rows = in_out ? k : n, .cols = in_out ? n : k};
            kn_product p = {.precision = KN_BF16,
                            .y = {got, n, false},
                            .x = {x, k, false},
                            .m = m,
                            .w = &mat,
                            .in_out = in_out};
            kn_gemm(&p);
            mat.type = &dt_f32;
            mat.data = w;
            p.y.data = want;
            kn_gemm(&p);
            assert_memory_equal(got, want, (size_t)(m * n) * 4);
        }
    }
}

/* A product with w is the product with its values as floats. */
static void check_values(kn_mat w, int in_out, int64_t m)
{
    const int64_t n = in_out ? w.cols : w.rows, k = in_out ? w.rows : w.cols;
    const dt_data src = {w.data, w.side};
    float *x = values(9, m * k, NULL), *got = test_alloc((size_t)(m * n) * 4);
    float *want = test_alloc((size_t)(m * n) * 4), *floats = test_alloc((size_t)(n * k) * 4);
    kn_product p = {.precision = KN_BF16,
                    .y = {got, n, false},
                    .x = {x, k, false},
                    .m = m,
                    .w = &w,
                    .in_out = in_out};
    kn_gemm(&p);
    w.type->read(floats, &src, 0, n * k);
    w.type = &dt_f32;
    w.data = floats;
    p.y.data = want;
    kn_gemm(&p);
    assert_memory_equal(got, want, (size_t)(m * n) * 4);
}

/* bitsandbytes' four bits: blocks run over the ends of rows, which may begin in the middle of a byte. */
static void four_bits(void **state)
{
    enum { MOST = 130 * 193, NESTED = 4 };
    static const int64_t shapes[][2] = {{70, 193}, {33, 64}, {2, 5000}, {130, 96}};
    const dt_type *const from[] = {&dt_bf16, &dt_f16, &dt_f32};
    uint8_t codes[MOST / 2 + 1], coded[MOST];
    float map[256];
    (void)state;
    for (int i = 0; i < MOST / 2 + 1; i++) codes[i] = (uint8_t)test_u64(30, (uint64_t)i);
    for (int i = 0; i < MOST; i++) coded[i] = (uint8_t)test_u64(31, (uint64_t)i);
    dt_dynamic_map(true, map);
    const float *absmax = test_uniform(32, MOST, -3, 3);
    for (int i = 0; i < 4 * 3 * 2 * 2 * 2; i++) {
        const int64_t *s = shapes[i % 4];
        const dt_type *type = dt_by_name(i / 12 % 2 ? "fp4" : "nf4");
        const bool nested = i / 24 % 2;
        const dt_bnb side = {.code = dt_bnb_codes_of(type)->code,
                             .block_size = i % 3 ? 64 : 32,
                             .blocks = MOST / 32,
                             .dtype = from[i / 4 % 3],
                             .absmax = nested ? NULL : absmax,
                             .coded = coded,
                             .map = map,
                             .nested = absmax,
                             .nested_size = NESTED,
                             .offset = 0.5f};
        check_values(
            (kn_mat){.type = type, .data = codes, .side = &side, .rows = s[0], .cols = s[1]},
            i / 48 % 2, 3);
    }
}

static void gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        const int64_t t = sizes[i].k, m = sizes[i].m, n = sizes[i].n, lda = m + 2, ldb = n + 1,
                      ldc = n + 5;
        uint16_t *ab, *bb;
        float *a = values(5, t * lda, &ab), *b = values(6, t * ldb, &bb);
        float *c = values(7, m * ldc, NULL), *old = values(7, m * ldc, NULL);
        const int32_t seg[3] = {(int32_t)(t / 3), (int32_t)(t / 5), (int32_t)(t - t / 3 - t / 5)};
        const bool half = i % 2;
        kn_gemm_grad(KN_BF16, c, ldc, (kn_rows){half ? (void *)ab : (void *)a, lda, half}, m,
                     (kn_rows){b, ldb, false}, n, t, i % 3 ? seg : NULL, 3);
        for (int64_t r = 0; r < m; r++) {
            for (int64_t j = 0; j < ldc; j++) {
                double want = (double)old[r * ldc + j], scale = 1;
                if (j >= n) {
                    assert_true(c[r * ldc + j] == old[r * ldc + j]);
                    continue;
                }
                for (int64_t k = 0; k < t; k++) {
                    double p =
                        (double)round_one(a[k * lda + r]) * (double)round_one(b[k * ldb + j]);
                    want += p;
                    scale += fabs(p);
                }
                check_close(c[r * ldc + j], want, scale, t, "gradient", r, j);
            }
        }
    }
}

static void assert_same(const float *a, const float *b, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(a + i, b + i, sizeof *a) == 0) continue;
        print_error("%s %s: element %d is %.9g and %.9g\n", kern_dot_row->name, what, (int)i,
                    (double)a[i], (double)b[i]);
        fail();
    }
}

/* Rows in one call and in several; operands in f32 and rounded beforehand; any number of threads. */
static void rows_do_not_see_each_other(void **state)
{
    enum { M = 401, N = 70, K = 902 };
    const int64_t cuts[] = {0, 1, 15, 64, 65, 261, M};
    uint16_t *xb, *wb;
    (void)state;
    float *x = values(62, M * K, &xb), *w = values(63, N * K, &wb);
    float *all = test_alloc(M * N * 4), *some = test_alloc(M * N * 4);
    for (int in_out = 0; in_out < 2; in_out++) {
        kn_mat f = {.type = &dt_f32, .data = w, .rows = in_out ? K : N, .cols = in_out ? N : K},
               b = f;
        b.type = &dt_bf16;
        b.data = wb;
        kn_product p = {.precision = KN_BF16,
                        .y = {all, N, false},
                        .x = {x, K, false},
                        .m = M,
                        .w = &f,
                        .in_out = in_out};
        kn_gemm(&p);
        p.w = &b;
        for (size_t i = 0; i + 1 < FT_COUNT_OF(cuts); i++) {
            p.y.data = some + cuts[i] * N;
            p.x = (kn_rows){xb + cuts[i] * K, K, true};
            p.m = cuts[i + 1] - cuts[i];
            kn_gemm(&p);
        }
        assert_same(all, some, M * N, "rows");
        for (int threads = 2; threads < 6; threads++) {
            p = (kn_product){.precision = KN_BF16,
                             .y = {some, N, false},
                             .x = {x, K, false},
                             .m = M,
                             .w = &f,
                             .in_out = in_out};
            assert_ok(pool_open(threads));
            kn_gemm(&p);
            pool_close();
            assert_same(all, some, M * N, "threads");
        }
    }
}

/* The tokens of a weight gradient in one call and in several, cut between sequences of odd lengths. */
static void sequences_do_not_see_each_other(void **state)
{
    enum { T = 1801, M = 45, N = 50, SEQ = 5 };
    const int32_t seg[SEQ] = {301, 1, 3, 1247, 249};
    (void)state;
    float *a = values(70, T * M, NULL), *b = values(71, T * N, NULL);
    float *whole = values(72, M * N, NULL);
    kn_gemm_grad(KN_BF16, whole, N, (kn_rows){a, M, false}, M, (kn_rows){b, N, false}, N, T, seg,
                 SEQ);
    for (int per_call = 1; per_call < SEQ; per_call++) {
        float *parts = values(72, M * N, NULL);
        int64_t at = 0;
        assert_ok(pool_open(1 + per_call % 3));
        for (int s = 0; s < SEQ; s += per_call) {
            int64_t t = 0;
            int n = s + per_call < SEQ ? per_call : SEQ - s;
            for (int i = 0; i < n; i++) t += seg[s + i];
            kn_gemm_grad(KN_BF16, parts, N, (kn_rows){a + at * M, M, false}, M,
                         (kn_rows){b + at * N, N, false}, N, t, seg + s, n);
            at += t;
        }
        pool_close();
        assert_same(whole, parts, M * N, "sequences");
    }
}

static void rounding(void **state)
{
    (void)state;
    const uint32_t hard[] = {0,          0x80000000, 0x3f800000, 0x3f808000, 0x3f818000,
                             0x3f808001, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001,
                             0x7fc00000, 0xffc12345, 0x00000001, 0x00008000, 0x00018000};
    enum { N = 1000 + FT_COUNT_OF(hard) };
    float v[N], back[N];
    uint16_t got[N + 1], want[N];
    memcpy(v, hard, sizeof hard);
    for (size_t i = FT_COUNT_OF(hard); i < N; i++) {
        uint32_t u = (uint32_t)test_u64(5, i);
        memcpy(v + i, &u, 4);
    }
    for (int64_t n = 0; n <= N; n += n < 40 ? 1 : 137) {
        got[n] = 77;
        kern_dot_row->round(got, v, n);
        dt_bf16.pack(want, v, n);
        for (int64_t i = 0; i < n; i++) {
            const bool flushed = fpclassify(v[i]) == FP_SUBNORMAL && (got[i] & 0x7fff) == 0;
            assert_true(got[i] == want[i] || (isnan(v[i]) && (got[i] & 0x7fff) > 0x7f80) ||
                        (flushed && (got[i] ^ want[i]) < 0x8000));
        }
        assert_int_equal(got[n], 77);
        kern_dot_row->widen(back, got, n);
        dt_bf16.unpack(v + N - n, got, n); /* the place does not matter */
        for (int64_t i = 0; i < n; i++) assert_true(memcmp(&back[i], &v[N - n + i], 4) == 0);
        memcpy(v, hard, sizeof hard);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding),
        cmocka_unit_test(products),
        cmocka_unit_test(formats),
        cmocka_unit_test(four_bits),
        cmocka_unit_test(gradients),
        cmocka_unit_test(rows_do_not_see_each_other),
        cmocka_unit_test(sequences_do_not_see_each_other),
    };
    int failed = 0;
    for (int i = 0; kern_level_at(i); i++) { /* each level's own row */
        assert_ok(kern_use(kern_level_at(i)->name, NULL));
        kern_dot_use(NULL);
        failed += cmocka_run_group_tests_name(kern_dot_row->name, tests, NULL, NULL);
    }
    for (int i = 0; kern_dot_at(i); i++) {
        kern_dot_use(kern_dot_at(i));
        failed += cmocka_run_group_tests_name(kern_dot_row->name, tests, NULL, NULL);
    }
    kern_dot_use(&amx_emulated); /* AMX on every machine, by its instructions in C */
    failed += cmocka_run_group_tests_name("amx, emulated", tests, NULL, NULL);
    if (amx_in_use()) {
        failed++;
        print_error("tiles are still configured\n");
    }
    return failed;
}
