/* openblas.h – what is used of OpenBLAS: the product of gemm_openblas.c, the decompositions of linalg.c. */
#ifndef FT_OPENBLAS_H
#define FT_OPENBLAS_H

typedef struct openblas {
    void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                  int lda, const float *b, int ldb, float beta, float *c, int ldc);
    void (*set_threads)(int n);
    /* LAPACK, of columns; NULL in a build without it. A character has its length behind all else. */
    void (*dgesdd)(const char *job, const int *m, const int *n, double *a, const int *lda,
                   double *s, double *u, const int *ldu, double *vt, const int *ldvt, double *work,
                   const int *lwork, int *iwork, int *info, size_t job_len);
    void (*dgeqrf)(const int *m, const int *n, double *a, const int *lda, double *tau, double *work,
                   const int *lwork, int *info);
    void (*dorgqr)(const int *m, const int *n, const int *k, double *a, const int *lda,
                   const double *tau, double *work, const int *lwork, int *info);
    const char *core, *config; /* "SkylakeX"; "OpenBLAS 0.3.21 NO_LAPACKE …" */
} openblas;

/* Opens it on the first call, which is the main thread's; *out NULL: it is not there, or serial. FT_EMEM. */
FT_MUST_USE ft_status kern_openblas_open(const openblas **out);
/* Before any call: on the calling thread alone. */
void kern_openblas_one_thread(const openblas *lib);
#endif
