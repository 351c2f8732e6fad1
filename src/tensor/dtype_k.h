/* dtype_k.h – ggml's super-blocks of 256 as they lie in memory, for those who read and those who pack them. */
#ifndef FT_TENSOR_DTYPE_K_H
#define FT_TENSOR_DTYPE_K_H

#include <stdint.h>

enum { QK = 256 };

typedef struct {
    uint8_t scales[QK / 16]; /* low half scale, high half minimum */
    uint8_t qs[QK / 4];
    uint8_t d[2], dmin[2];
} q2_k_block;
typedef struct {
    uint8_t hmask[QK / 8];
    uint8_t qs[QK / 4];
    uint8_t scales[12];
    uint8_t d[2];
} q3_k_block;
typedef struct {
    uint8_t d[2], dmin[2];
    uint8_t scales[12];
    uint8_t qs[QK / 2];
} q4_k_block;
typedef struct {
    uint8_t d[2], dmin[2];
    uint8_t scales[12];
    uint8_t qh[QK / 8];
    uint8_t qs[QK / 2];
} q5_k_block;
typedef struct {
    uint8_t ql[QK / 2];
    uint8_t qh[QK / 4];
    int8_t scales[QK / 16];
    uint8_t d[2];
} q6_k_block;

_Static_assert(sizeof(q2_k_block) == 84 && sizeof(q3_k_block) == 110 && sizeof(q4_k_block) == 144 &&
                   sizeof(q5_k_block) == 176 && sizeof(q6_k_block) == 210,
               "blocks are unpadded");

/* dtype_k_pack.c */
void dt_q2_k_pack(void *dst, const float *src, int64_t n);
void dt_q3_k_pack(void *dst, const float *src, int64_t n);
void dt_q4_k_pack(void *dst, const float *src, int64_t n);
void dt_q5_k_pack(void *dst, const float *src, int64_t n);
void dt_q6_k_pack(void *dst, const float *src, int64_t n);
#endif
