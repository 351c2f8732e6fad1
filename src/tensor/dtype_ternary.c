/* dtype_ternary.c – ggml's super-blocks of 256 values −1, 0, 1 times one f16 number (BitNet b1.58, TriLMs): tq1_0, five values
 * a byte, and tq2_0, four.
 *
 * A byte of tq1_0 holds q = Σ 3^(4−k) c_k of codes 0, 1, 2 as ⌈256 q / 243⌉: digit k is then the upper byte of
 * 3 · (byte · 3^k mod 256), which needs no division. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_rows.h"

#include <math.h>

enum { QK = 256 };

typedef struct {
    uint8_t qs[(QK - 16) / 5]; /* 32 bytes of five values each, 16 bytes of five */
    uint8_t qh[4];             /* of four */
    uint8_t d[2];
} tq1_0_block;
typedef struct {
    uint8_t qs[QK / 4];
    uint8_t d[2];
} tq2_0_block;

_Static_assert(sizeof(tq1_0_block) == 54 && sizeof(tq2_0_block) == 66, "blocks are unpadded");

/* A run of bytes of tq1_0: value k · bytes + i of the run is digit k of byte i. */
static const struct {
    int first, bytes, digits;
} runs[] = {{0, 32, 5}, {32, 16, 5}, {48, 4, 4}};

static void tq1_0_unpack(float *dst, const void *src, int64_t n)
{
    static const uint8_t power[] = {1, 3, 9, 27, 81};
    const uint8_t *b = src;
    for (int64_t i = 0; i < n / QK; i++, b += sizeof(tq1_0_block)) {
        const float d = dt_from_f16(dt_le16(b + offsetof(tq1_0_block, d)));
        for (size_t r = 0; r < FT_COUNT_OF(runs); r++)
            for (int k = 0; k < runs[r].digits; k++)
                for (int j = 0; j < runs[r].bytes; j++) {
                    const uint8_t shifted = (uint8_t)(b[runs[r].first + j] * power[k]);
                    *dst++ = (float)((shifted * 3 >> 8) - 1) * d;
                }
    }
}

static void tq2_0_unpack(float *dst, const void *src, int64_t n)
{
    const tq2_0_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++) {
        const float d = dt_from_f16(dt_le16(b->d));
        for (int part = 0; part < QK / 4; part += 32)
            for (int shift = 0; shift < 8; shift += 2)
                for (int j = 0; j < 32; j++)
                    *dst++ = (float)((b->qs[part + j] >> shift & 3) - 1) * d;
    }
}

/* The scale of a block, and its codes 0, 1, 2. Where a value is no finite number the scale is none either. */
static uint16_t take(uint8_t code[QK], const float *x)
{
    float max = 0;
    for (int i = 0; i < QK; i++)
        if (fabsf(x[i]) > max || isnan(x[i])) max = fabsf(x[i]);
    const float by = max > 0 ? 1.0f / max : 0;
    for (int i = 0; i < QK; i++) {
        const float v = x[i] * by;
        code[i] = v >= 0.5f ? 2 : v <= -0.5f ? 0 : 1;
    }
    return dt_to_f16(max);
}

static void tq1_0_pack(void *dst, const float *src, int64_t n)
{
    uint8_t *b = dst, code[QK];
    for (int64_t i = 0; i < n / QK; i++, b += sizeof(tq1_0_block), src += QK) {
        const uint8_t *c = code;
        dt_put16(b + offsetof(tq1_0_block, d), take(code, src));
        for (size_t r = 0; r < FT_COUNT_OF(runs); r++) {
            const int bytes = runs[r].bytes;
            for (int j = 0; j < bytes; j++) {
                int q = 0;
                for (int k = 0; k < 5; k++) q = 3 * q + (k < runs[r].digits ? c[k * bytes + j] : 0);
                b[runs[r].first + j] = (uint8_t)((q * 256 + 242) / 243);
            }
            c += bytes * runs[r].digits;
        }
    }
}

static void tq2_0_pack(void *dst, const float *src, int64_t n)
{
    tq2_0_block *b = dst;
    uint8_t code[QK];
    for (int64_t i = 0; i < n / QK; i++, b++, src += QK) {
        dt_put16(b->d, take(code, src));
        memset(b->qs, 0, sizeof b->qs);
        for (int j = 0; j < QK; j++) {
            uint8_t *q = b->qs + j / 128 * 32 + j % 32;
            *q = (uint8_t)(*q | code[j] << (j % 128 / 32 * 2));
        }
    }
}

const dt_type dt_tq1_0 = {"tq1_0",      NULL,       34,   QK,  sizeof(tq1_0_block),
                          tq1_0_unpack, tq1_0_pack, NULL, NULL};
const dt_type dt_tq2_0 = {"tq2_0",      NULL,       35,   QK,  sizeof(tq2_0_block),
                          tq2_0_unpack, tq2_0_pack, NULL, NULL};
