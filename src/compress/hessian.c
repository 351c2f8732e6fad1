/* hessian.c – H = Σ x xᵀ of the inputs of a linear layer, and the factor of its inverse that GPTQ and SparseGPT go by.
 *
 * With the order of rows and columns turned around, H = L Lᵀ becomes H = M Mᵀ with M upper triangular, so that U = M⁻¹ is
 * upper, H⁻¹ = Uᵀ U, and no inverse of H is made: a factor and the inverse of a triangle, in double, in blocks that fit the
 * first cache. Blocks are cut by the size of H alone and each is one chain in ascending order, so threads make no difference.
 * Frantar et al. 2022, section 3.3. */
#include <math.h>
#include <string.h>

#include "compress_private.h"
#include "ft/kernel.h"

enum { BLOCK = 64, STRIP = 256 };

/* --- the sum ---------------------------------------------------------------------------------------------------- */
typedef struct strip { /* columns [first, first + cols) of H, from row `first` on */
    double *h;
    const float *sum; /* [in − first, cols] */
    int64_t in, first, cols;
} strip;

static void add_rows(void *ctx, int64_t tile, int thread)
{
    const strip *s = ctx;
    const int64_t end = s->in - s->first;
    (void)thread;
    for (int64_t r = tile * BLOCK; r < end && r < (tile + 1) * BLOCK; r++) {
        const int64_t n = r + 1 < s->cols ? r + 1 : s->cols;
        double *to = s->h + (s->first + r) * s->in + s->first;
        for (int64_t c = 0; c < n; c++) to[c] += (double)s->sum[r * s->cols + c];
    }
}

ft_status cmp_hessian_add(double *h, const float *x, int64_t rows, int64_t in)
{
    float *sum = ft_alloc((size_t)in * (size_t)(in < STRIP ? in : STRIP), sizeof *sum);
    if (!sum) return FT_EMEM;
    for (int64_t first = 0; first < in; first += STRIP) {
        const int64_t cols = in - first < STRIP ? in - first : STRIP, n = in - first;
        memset(sum, 0, (size_t)(n * cols) * sizeof *sum);
        kn_gemm_tn(sum, cols, x + first, in, n, x + first, in, cols, rows, NULL, 0);
        strip s = {h, sum, in, first, cols};
        pool_run(add_rows, &s, (n + BLOCK - 1) / BLOCK);
    }
    ft_free(sum);
    return pool_failed() ? FT_EMEM : FT_OK;
}

void cmp_hessian_whole(float *out, const double *h, int64_t in)
{
    for (int64_t i = 0; i < in; i++)
        for (int64_t j = 0; j <= i; j++) out[i * in + j] = out[j * in + i] = (float)h[i * in + j];
}

ft_status cmp_hessian_norm(const float *h, const float *w, int64_t out, int64_t in, double *norm)
{
    float *y = ft_alloc((size_t)out * (size_t)in, sizeof *y);
    const kn_mat m = {.type = &dt_f32, .data = h, .rows = in, .cols = in};
    *norm = 0;
    if (!y) return FT_EMEM;
    kn_gemm_nt(y, in, w, in, &m, out, NULL, false);
    const ft_status rc = pool_failed() ? FT_EMEM : FT_OK;
    for (int64_t r = 0; rc == FT_OK && r < out; r++) *norm += kn_dot(y + r * in, w + r * in, in);
    ft_free(y);
    if (*norm < 0) *norm = 0; /* rounding, where nothing is lost */
    return rc;
}

/* --- blocks of a triangle ------------------------------------------------------------------------------------------ */
/* A tile of c [4, 8] −= a [4, k] · b [k, 8]: sums in registers. */
static void subtract_tile(double *c, int64_t ldc, const double *a, int64_t lda, const double *b,
                          int64_t ldb, int64_t k)
{
    double sum[4][8] = {{0}};
    for (int64_t p = 0; p < k; p++, b += ldb)
        for (int r = 0; r < 4; r++)
            for (int q = 0; q < 8; q++) sum[r][q] += a[r * lda + p] * b[q];
    for (int r = 0; r < 4; r++)
        for (int q = 0; q < 8; q++) c[r * ldc + q] -= sum[r][q];
}

/* c [m, n] −= a [m, k] · b [k, n] */
static void subtract(double *c, int64_t ldc, const double *a, int64_t lda, const double *b,
                     int64_t ldb, int64_t m, int64_t n, int64_t k)
{
    const int64_t whole = n / 8 * 8;
    for (int64_t i = 0; i < m; i++) {
        if (i % 4 == 0 && i + 4 <= m)
            for (int64_t j = 0; j < whole; j += 8)
                subtract_tile(c + i * ldc + j, ldc, a + i * lda, lda, b + j, ldb, k);
        const int64_t from = i / 4 * 4 + 4 <= m ? whole : 0; /* what no tile has */
        for (int64_t j = from; j < n; j++) {
            double sum = 0;
            for (int64_t p = 0; p < k; p++) sum += a[i * lda + p] * b[p * ldb + j];
            c[i * ldc + j] -= sum;
        }
    }
}

typedef struct triangle {
    double *a, *x; /* [n, n]: L, and its inverse */
    int64_t n, at; /* at: first column of the panel at hand */
} triangle;

static int64_t size_of(const triangle *t, int64_t first)
{
    return t->n - first < BLOCK ? t->n - first : BLOCK;
}

/* Rows of the panel below its diagonal block, A · L⁻ᵀ. */
static void solve_rows(void *ctx, int64_t tile, int thread)
{
    const triangle *t = ctx;
    const int64_t n = t->n, k0 = t->at, size = size_of(t, k0);
    (void)thread;
    for (int64_t i = k0 + size + tile * BLOCK; i < n && i < k0 + size + (tile + 1) * BLOCK; i++) {
        double *row = t->a + i * n + k0;
        for (int64_t j = 0; j < size; j++) {
            const double *l = t->a + (k0 + j) * n + k0;
            double sum = row[j];
            for (int64_t p = 0; p < j; p++) sum -= row[p] * l[p];
            row[j] = sum / l[j];
        }
    }
}

/* What is right of the panel, a block of columns a tile, loses the panel's part. */
static void update_columns(void *ctx, int64_t tile, int thread)
{
    const triangle *t = ctx;
    const int64_t n = t->n, k0 = t->at, k = size_of(t, k0), j0 = k0 + k + tile * BLOCK;
    const int64_t cols = size_of(t, j0);
    double turned[BLOCK * BLOCK];
    (void)thread;
    for (int64_t j = 0; j < cols; j++)
        for (int64_t p = 0; p < k; p++) turned[p * BLOCK + j] = t->a[(j0 + j) * n + k0 + p];
    subtract(t->a + j0 * n + j0, n, t->a + j0 * n + k0, n, turned, BLOCK, n - j0, cols, k);
}

static bool factor_block(triangle *t)
{
    const int64_t n = t->n, size = size_of(t, t->at);
    double *a = t->a + t->at * n + t->at;
    for (int64_t j = 0; j < size; j++)
        for (int64_t i = j; i < size; i++) {
            double sum = a[i * n + j];
            for (int64_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            if (i == j && !(sum > 0.0 && isfinite(sum))) return false;
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    return true;
}

/* a = L Lᵀ in its lower triangle; false: it is not positive definite, or a stop was asked for. */
static bool factor(triangle *t)
{
    for (t->at = 0; t->at < t->n; t->at += BLOCK) {
        if (ft_stop_asked() != FT_OK) return false;
        const int64_t left = t->n - t->at - size_of(t, t->at), tiles = (left + BLOCK - 1) / BLOCK;
        if (!factor_block(t)) return false;
        pool_run(solve_rows, t, tiles);
        pool_run(update_columns, t, tiles);
    }
    return true;
}

/* L y = b for a diagonal block of L, in place on b [size, cols]. */
static void solve_block(const double *l, int64_t n, double *b, int64_t size, int64_t cols)
{
    for (int64_t i = 0; i < size; i++) {
        for (int64_t p = 0; p < i; p++)
            for (int64_t j = 0; j < cols; j++) b[i * n + j] -= l[i * n + p] * b[p * n + j];
        for (int64_t j = 0; j < cols; j++) b[i * n + j] /= l[i * n + i];
    }
}

/* A block of columns of L⁻¹. */
static void invert_columns(void *ctx, int64_t tile, int thread)
{
    const triangle *t = ctx;
    const int64_t n = t->n, j0 = tile * BLOCK, cols = size_of(t, j0);
    (void)thread;
    for (int64_t i0 = j0; i0 < n; i0 += BLOCK) {
        const int64_t size = size_of(t, i0);
        double *x = t->x + i0 * n + j0;
        for (int64_t i = 0; i < size; i++)
            for (int64_t j = 0; j < cols; j++) x[i * n + j] = i0 == j0 && i == j ? 1.0 : 0.0;
        subtract(x, n, t->a + i0 * n + j0, n, t->x + j0 * n + j0, n, size, cols, i0 - j0);
        solve_block(t->a + i0 * n + i0, n, x, size, cols);
    }
}

/* --- the factor ---------------------------------------------------------------------------------------------------- */
/* H' into a, rows and columns turned around and, with perm, in its order. */
static void arrange(double *a, const double *h, int64_t n, double damp, const int32_t *perm)
{
    double mean = 0;
    for (int64_t i = 0; i < n; i++) mean += (h[i * n + i] == 0 ? 1.0 : h[i * n + i]) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const int64_t r = perm ? perm[n - 1 - i] : n - 1 - i;
        for (int64_t j = 0; j <= i; j++) {
            const int64_t c = perm ? perm[n - 1 - j] : n - 1 - j;
            a[i * n + j] = r > c ? h[r * n + c] : h[c * n + r];
        }
        if (a[i * n + i] == 0) a[i * n + i] = 1.0;
        a[i * n + i] += damp * mean;
    }
}

ft_status cmp_hessian_factor(float *u, double *h, int64_t in, double damp, const int32_t *perm,
                             const char *name)
{
    triangle t = {.a = ft_alloc((size_t)in * (size_t)in, sizeof(double)), .x = h, .n = in};
    bool good = false;
    if (!t.a) return FT_EMEM;
    for (bool last = false; !good && !last; damp = damp > 0 ? 10 * damp : 0.01) {
        last = damp >= 1.0;
        arrange(t.a, h, in, last ? 1.0 : damp, perm);
        good = factor(&t);
    }
    if (good) {
        pool_run(invert_columns, &t, (in + BLOCK - 1) / BLOCK);
        for (int64_t i = 0; i < in; i++)
            for (int64_t j = 0; j < in; j++)
                u[i * in + j] = j < i ? 0.0f : (float)h[(in - 1 - i) * in + in - 1 - j];
    }
    ft_free(t.a);
    if (!good) FT_TRY(cmp_go_on());
    FT_CHECK(
        good, FT_EDIVERGED,
        "\"%s\": the second moments of its inputs have no Cholesky factor, with a damping of 1 "
        "neither; are there NaN or Inf among them?",
        name);
    return FT_OK;
}
