/* test_linalg.c – decompositions give back their matrix, with the factors that they promise, for odd shapes and for matrices
 * that have not full rank; threads do not show. */
#include "support.h"

#include "ft/kernel.h"

typedef struct shape {
    int64_t m, n, rank; /* rank 0: full */
} shape;
static const shape shapes[] = {{1, 1, 0},    {1, 9, 0},   {9, 1, 0},   {7, 5, 0},
                               {5, 7, 0},    {33, 17, 3}, {17, 33, 3}, {64, 64, 0},
                               {130, 67, 0}, {12, 12, 1}, {40, 3, 0},  {3, 200, 2}};

static int64_t lower(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* c [m, n] = a [m, k] · diag(s) · b [k, n]; s NULL: ones */
static double *product(const double *a, const double *s, const double *b, int64_t m, int64_t k,
                       int64_t n)
{
    double *c = test_alloc((size_t)(m * n) * sizeof *c);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < k; l++) {
            const double x = a[i * k + l] * (s ? s[l] : 1.0);
            for (int64_t j = 0; j < n; j++) c[i * n + j] += x * b[l * n + j];
        }
    }
    return c;
}

static double *transposed(const double *a, int64_t m, int64_t n)
{
    double *c = test_alloc((size_t)(m * n) * sizeof *c);
    for (int64_t i = 0; i < m * n; i++) c[i % n * m + i / n] = a[i];
    return c;
}

static double *values(uint64_t seed, int64_t n)
{
    const float *f = test_uniform(seed, n, -1.0f, 1.0f);
    double *d = test_alloc((size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = (double)f[i];
    return d;
}

static double *matrix(const shape *s, uint64_t seed)
{
    if (s->rank == 0) return values(seed, s->m * s->n);
    return product(values(seed, s->m * s->rank), NULL, values(seed + 1, s->rank * s->n), s->m,
                   s->rank, s->n);
}

static void assert_near(const double *a, const double *b, int64_t n, double bound)
{
    for (int64_t i = 0; i < n; i++) assert_true(fabs(a[i] - b[i]) <= bound);
}

/* aᵀ a = 1, for columns [m, k] */
static void assert_orthonormal(const double *a, int64_t m, int64_t k)
{
    const double *gram = product(transposed(a, m, k), NULL, a, k, m, k);
    for (int64_t i = 0; i < k * k; i++)
        assert_true(fabs(gram[i] - (i / k == i % k ? 1.0 : 0.0)) < 1e-12);
}

static double *copy(const double *a, int64_t n)
{
    return memcpy(test_alloc((size_t)n * sizeof *a), a, (size_t)n * sizeof *a);
}

static void singular_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(shapes); i++) {
        const int64_t m = shapes[i].m, n = shapes[i].n, k = lower(m, n);
        const double *a = matrix(&shapes[i], 10 * i);
        double *u = test_alloc((size_t)(m * k) * sizeof *u), *s = test_alloc((size_t)k * sizeof *s),
               *vt = test_alloc((size_t)(k * n) * sizeof *vt);
        assert_ok(kn_svd(u, s, vt, copy(a, m * n), m, n));
        assert_near(product(u, s, vt, m, k, n), a, m * n, 1e-12);
        assert_orthonormal(u, m, k);
        assert_orthonormal(transposed(vt, k, n), n, k);
        for (int64_t j = 0; j < k; j++) {
            assert_true(s[j] >= 0.0 && (j == 0 || s[j] <= s[j - 1]));
            if (shapes[i].rank > 0 && j >= shapes[i].rank) assert_true(s[j] < 1e-12);
        }
    }
}

static void triangles(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(shapes); i++) {
        const int64_t m = shapes[i].m, n = shapes[i].n, k = lower(m, n);
        double *a = matrix(&shapes[i], 10 * i + 5);
        const double *was = copy(a, m * n);
        double *q = test_alloc((size_t)(m * k) * sizeof *q),
               *r = test_alloc((size_t)(k * n) * sizeof *r);
        assert_ok(kn_qr(q, r, a, m, n));
        assert_near(product(q, NULL, r, m, k, n), was, m * n, 1e-12);
        assert_orthonormal(q, m, k);
        for (int64_t row = 0; row < k; row++)
            for (int64_t col = 0; col < lower(row, n); col++) assert_true(r[row * n + col] == 0.0);
    }
}

/* A reflection turns the first column's first entry to the other sign, unless nothing is below it; as PyTorch's. */
static void signs(void **state)
{
    double a[] = {3, 1, 4, 2}, q[4], r[4], square[] = {-2.0};
    (void)state;
    assert_ok(kn_qr(q, r, a, 2, 2));
    assert_near(r, (const double[]){-5, -2.2, 0, 0.4}, 4, 1e-12);
    assert_near(q, (const double[]){-0.6, -0.8, -0.8, 0.6}, 4, 1e-12);
    assert_ok(kn_qr(q, square, square, 1, 1));
    assert_true(q[0] == 1.0 && square[0] == -2.0);
}

static void inverses(void **state)
{
    static const int64_t sizes[] = {1, 2, 5, 16, 33};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        const int64_t n = sizes[i];
        const double *b = values(900 + i, n * (n + 3));
        const double *a = product(b, NULL, transposed(b, n, n + 3), n, n + 3, n);
        double *inverse = copy(a, n * n);
        assert_true(kn_spd_inverse(inverse, n));
        const double *one = product(a, NULL, inverse, n, n, n);
        for (int64_t j = 0; j < n * n; j++)
            assert_true(fabs(one[j] - (j / n == j % n ? 1.0 : 0.0)) < 1e-8);
    }
    assert_false(kn_spd_inverse((double[]){1, 2, 2, 1}, 2));
    assert_false(kn_spd_inverse((double[]){(double)NAN}, 1));
}

static void bad_values(void **state)
{
    double a[] = {1, 2, (double)INFINITY, 4}, u[4], s[2], vt[4];
    (void)state;
    assert_fails(kn_svd(u, s, vt, a, 2, 2), FT_EDATA, "NaN or an Inf");
    a[2] = (double)NAN;
    assert_fails(kn_qr(u, vt, a, 2, 2), FT_EDATA, "NaN or an Inf");
}

/* --- side by side ---------------------------------------------------------------------------------------------------- */
enum { AT_ONCE = 12, M = 70, N = 50 };
typedef struct many {
    const double *a;
    double *u, *s, *vt;
} many;

static void one_of_many(void *ctx, int64_t tile, int thread)
{
    const many *x = ctx;
    double *a = malloc(sizeof *a * M * N);
    (void)thread;
    if (!a) return;
    memcpy(a, x->a, sizeof *a * M * N);
    if (kn_svd(x->u + tile * M * N, x->s + tile * N, x->vt + tile * N * N, a, M, N) != FT_OK)
        x->s[tile * N] = -1.0;
    free(a);
}

static void threads_do_not_show(void **state)
{
    const size_t d = sizeof(double);
    many x = {.a = values(77, M * N),
              .u = test_alloc(AT_ONCE * M * N * d),
              .s = test_alloc(AT_ONCE * N * d),
              .vt = test_alloc(AT_ONCE * N * N * d)};
    (void)state;
    assert_ok(pool_open(4));
    pool_run(one_of_many, &x, AT_ONCE - 1);
    pool_close();
    one_of_many(&x, AT_ONCE - 1, 0);
    for (size_t i = 1; i < AT_ONCE; i++) {
        assert_memory_equal(x.u, x.u + i * M * N, M * N * d);
        assert_memory_equal(x.s, x.s + i * N, N * d);
        assert_memory_equal(x.vt, x.vt + i * N * N, N * N * d);
    }
    assert_true(x.s[0] > 0.0);
}

int main(void)
{
    const struct CMUnitTest own[] = {cmocka_unit_test(inverses)};
    const struct CMUnitTest library[] = {
        cmocka_unit_test(singular_values),
        cmocka_unit_test(triangles),
        cmocka_unit_test(signs),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(threads_do_not_show),
    };
    int failed = cmocka_run_group_tests_name("own", own, NULL, NULL);
    if (kn_linalg_open() != FT_OK) {
        print_message("no library: %s\n", ft_error());
        return failed;
    }
    return failed + cmocka_run_group_tests_name("library", library, NULL, NULL);
}
