/* onednn.h – a matrix product of oneDNN, made once and run many times: C's door to its C++ interface. */
#ifndef BENCH_ONEDNN_H
#define BENCH_ONEDNN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct onednn_matrix { /* [rows, cols] row-major, or that matrix read as its transpose */
    const void *data;
    int64_t rows, cols; /* as stored */
    int transposed;
} onednn_matrix;

typedef struct onednn_product onednn_product;

/* c [M, N] = a · b, c f32 row-major; a and b both bf16 or both f32. prepacked: b is brought into oneDNN's own layout here,
 * once; otherwise it is read as it lies. NULL with a message on stderr where oneDNN has no such product. */
onednn_product *onednn_product_new(onednn_matrix a, onednn_matrix b, float *c, int bf16, int prepacked);
void onednn_product_run(onednn_product *p);
void onednn_product_free(onednn_product *p);
const char *onednn_version_text(void);
void onednn_threads(int n); /* before the first product */

#ifdef __cplusplus
}
#endif
#endif
