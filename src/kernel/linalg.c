/* linalg.c – decompositions of single matrices, in double, on the calling thread.
 *
 * SVD and QR are LAPACK's out of OpenBLAS: the reference's own, so signs of a QR are PyTorch's, at the speed of blocked code
 * (a loop of Jacobi rotations takes ten times as long for a layer's matrix). One thread a call, so the bits are those of any
 * number of threads; calls for several matrices may run side by side on the pool. LAPACK's matrices stand in columns: a
 * matrix of rows is its transpose there. */
#include "ft/kernel.h"
#include "openblas.h"

#include <limits.h>
#include <math.h>

ft_status kn_linalg_open(void)
{
    const openblas *lib;
    FT_TRY(kern_openblas_open(&lib));
    FT_CHECK(lib && lib->dgesdd && lib->dgeqrf && lib->dorgqr, FT_EMEM,
             "decompositions of matrices need OpenBLAS (libopenblas.so.0, a build with threads and "
             "LAPACK), which this system does not have; install the package libopenblas0-pthread");
    return FT_OK;
}

static ft_status begin(const double *a, int64_t m, int64_t n, const openblas **lib)
{
    FT_TRY(kn_linalg_open());
    FT_TRY(kern_openblas_open(lib));
    FT_CHECK(m < INT_MAX && n < INT_MAX, FT_EDATA,
             "a matrix of %lld × %lld is too large to decompose", (long long)m, (long long)n);
    for (int64_t i = 0; i < m * n; i++)
        FT_CHECK(isfinite(a[i]), FT_EDATA,
                 "a matrix that is to be decomposed holds a NaN or an Inf");
    kern_openblas_one_thread(*lib);
    return FT_OK;
}

/* What a query of the workspace has answered, as room; *lwork: its doubles. */
static double *workspace(double answer, int *lwork)
{
    *lwork = answer > 1.0 ? (int)answer : 1;
    return ft_alloc((size_t)*lwork, sizeof(double));
}

ft_status kn_svd(double *u, double *s, double *vt, double *a, int64_t m, int64_t n)
{
    const openblas *lib;
    const int rows = (int)m, cols = (int)n, k = rows < cols ? rows : cols, query = -1;
    int info = 0, lwork;
    double answer;
    FT_TRY(begin(a, m, n, &lib));
    int *iwork = ft_alloc((size_t)k * 8, sizeof *iwork);
    if (!iwork) return FT_EMEM;
    /* of aᵀ = V S Uᵀ */
    lib->dgesdd("S", &cols, &rows, a, &cols, s, vt, &cols, u, &k, &answer, &query, iwork, &info, 1);
    double *work = workspace(answer, &lwork);
    if (work)
        lib->dgesdd("S", &cols, &rows, a, &cols, s, vt, &cols, u, &k, work, &lwork, iwork, &info,
                    1);
    ft_free(iwork);
    ft_free(work);
    if (!work) return FT_EMEM;
    FT_CHECK(info == 0, FT_EDATA, "the singular values of a matrix of %d × %d are not found", rows,
             cols);
    return FT_OK;
}

/* y [n, m] = the transpose of x [m, n] */
static void transpose(double *y, const double *x, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) y[j * m + i] = x[i * n + j];
    }
}

/* In place on columns [n][m]: R in the upper triangle, then Q in the first k columns. */
static void qr_columns(const openblas *lib, double *columns, double *r, double *tau, double *work,
                       int lwork, int m, int n)
{
    const int k = m < n ? m : n;
    int info;
    lib->dgeqrf(&m, &n, columns, &m, tau, work, &lwork, &info);
    if (lwork < 0) return;
    for (int64_t i = 0; i < k; i++) {
        for (int64_t j = 0; j < n; j++) r[i * n + j] = j < i ? 0.0 : columns[j * m + i];
    }
    lib->dorgqr(&m, &k, &k, columns, &m, tau, work, &lwork, &info);
}

ft_status kn_qr(double *q, double *r, double *a, int64_t m, int64_t n)
{
    const openblas *lib;
    const int64_t k = m < n ? m : n;
    int lwork;
    double answer;
    FT_TRY(begin(a, m, n, &lib));
    double *columns = ft_alloc((size_t)(m * n + k), sizeof *columns);
    if (!columns) return FT_EMEM;
    double *tau = columns + m * n;
    transpose(columns, a, m, n);
    qr_columns(lib, columns, r, tau, &answer, -1, (int)m, (int)n);
    double *work =
        workspace(answer, &lwork); /* dorgqr's is no larger: both work on panels of k columns */
    if (work) {
        qr_columns(lib, columns, r, tau, work, lwork, (int)m, (int)n);
        transpose(q, columns, k, m);
    }
    ft_free(work);
    ft_free(columns);
    return work ? FT_OK : FT_EMEM;
}

/* --- small, symmetric and positive definite ------------------------------------------------------------------------- */
/* a = L Lᵀ, in the lower triangle. */
static bool cholesky(double *a, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = j; i < n; i++) {
            double sum = a[i * n + j];
            for (int64_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            if (i == j && !(sum > 0.0)) return false;
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    }
    return true;
}

/* L → L⁻¹ in place, column by column from the last: those behind it are inverted already. */
static void invert_lower(double *l, int64_t n)
{
    for (int64_t j = n - 1; j >= 0; j--) {
        const double d = 1.0 / l[j * n + j];
        for (int64_t i = n - 1; i > j; i--) {
            double sum = 0.0;
            for (int64_t k = j + 1; k <= i; k++) sum += l[i * n + k] * l[k * n + j];
            l[i * n + j] = -sum * d;
        }
        l[j * n + j] = d;
    }
}

bool kn_spd_inverse(double *a, int64_t n)
{
    if (!cholesky(a, n)) return false;
    invert_lower(a, n);
    /* (L⁻ᵀ L⁻¹)[i, j], i ≥ j, wants rows from i on: what it overwrites is read no more */
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0.0;
            for (int64_t k = i; k < n; k++) sum += a[k * n + i] * a[k * n + j];
            a[i * n + j] = sum;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i + 1; j < n; j++) a[i * n + j] = a[j * n + i];
    }
    return true;
}
