/* dtype_legacy.c – ggml's blocks of 32 with one scale: q8_0, q4_0, q4_1, q5_0, q5_1, and the table
 * format iq4_nl.
 *
 * Unpacking gives ggml's bits and packing the bytes of its reference quantiser. Both depend on the
 * order of f32 operations and on products and sums being rounded apart, so this file may not be
 * compiled with contraction into fused multiply-adds. Scales are stored as f16 while codes use the
 * unrounded scale. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_rows.h"

#include <math.h>

enum { QK = 32 };

typedef struct {
    uint8_t d[2];
    int8_t qs[QK];
} q8_0_block;
typedef struct {
    uint8_t d[2];
    uint8_t qs[QK / 2];
} q4_0_block;
typedef struct {
    uint8_t d[2], m[2];
    uint8_t qs[QK / 2];
} q4_1_block;
typedef struct {
    uint8_t d[2];
    uint8_t qh[4]; /* fifth bit of element j is bit j */
    uint8_t qs[QK / 2];
} q5_0_block;
typedef struct {
    uint8_t d[2], m[2];
    uint8_t qh[4];
    uint8_t qs[QK / 2];
} q5_1_block;

_Static_assert(sizeof(q8_0_block) == 34 && sizeof(q4_0_block) == 18 && sizeof(q4_1_block) == 20 &&
                   sizeof(q5_0_block) == 22 && sizeof(q5_1_block) == 24,
               "blocks are unpadded");

const int8_t dt_iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};

/* --- unpacking: byte j holds element j in its low half and element j + 16 in its high half ---- */

static void q8_0_unpack(float *dst, const void *src, int64_t n)
{
    const q8_0_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d));
        for (int j = 0; j < QK; j++) dst[j] = d * (float)b->qs[j];
    }
}

static void q4_0_unpack(float *dst, const void *src, int64_t n)
{
    const q4_0_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d));
        for (int j = 0; j < QK / 2; j++) {
            dst[j] = d * (float)((b->qs[j] & 15) - 8);
            dst[j + QK / 2] = d * (float)((b->qs[j] >> 4) - 8);
        }
    }
}

static void q4_1_unpack(float *dst, const void *src, int64_t n)
{
    const q4_1_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d)), m = dt_from_f16(dt_le16(b->m));
        for (int j = 0; j < QK / 2; j++) {
            dst[j] = d * (float)(b->qs[j] & 15) + m;
            dst[j + QK / 2] = d * (float)(b->qs[j] >> 4) + m;
        }
    }
}

static uint32_t le32(const uint8_t p[4])
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void q5_0_unpack(float *dst, const void *src, int64_t n)
{
    const q5_0_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d));
        uint32_t high = le32(b->qh);
        for (int j = 0; j < QK / 2; j++) {
            int low_q = (b->qs[j] & 15) | (int)(high >> j << 4 & 16);
            int high_q = (b->qs[j] >> 4) | (int)(high >> (j + QK / 2) << 4 & 16);
            dst[j] = d * (float)(low_q - 16);
            dst[j + QK / 2] = d * (float)(high_q - 16);
        }
    }
}

static void q5_1_unpack(float *dst, const void *src, int64_t n)
{
    const q5_1_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d)), m = dt_from_f16(dt_le16(b->m));
        uint32_t high = le32(b->qh);
        for (int j = 0; j < QK / 2; j++) {
            int low_q = (b->qs[j] & 15) | (int)(high >> j << 4 & 16);
            int high_q = (b->qs[j] >> 4) | (int)(high >> (j + QK / 2) << 4 & 16);
            dst[j] = d * (float)low_q + m;
            dst[j + QK / 2] = d * (float)high_q + m;
        }
    }
}

static void iq4_nl_unpack(float *dst, const void *src, int64_t n)
{
    const q4_0_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d));
        for (int j = 0; j < QK / 2; j++) {
            dst[j] = d * (float)dt_iq4_table[b->qs[j] & 15];
            dst[j + QK / 2] = d * (float)dt_iq4_table[b->qs[j] >> 4];
        }
    }
}

/* --- packing ---------------------------------------------------------------------------------- */

/* Truncation towards zero, clamped; a NaN (from a non-finite input) gives 0, whose block then holds
 * a non-finite scale and so does not pass for a number. */
static uint8_t code(float v, int top)
{
    if (!(v > 0)) return 0;
    return v >= (float)top ? (uint8_t)top : (uint8_t)v;
}

/* The first element of largest magnitude, with its sign; a NaN once met stays. */
static float signed_max(const float *x)
{
    float amax = 0, max = 0;
    for (int j = 0; j < QK; j++) {
        if (fabsf(x[j]) > amax || isnan(x[j])) {
            amax = fabsf(x[j]);
            max = x[j];
        }
    }
    return max;
}

static void range(const float *x, float *min, float *max)
{
    *min = *max = x[0];
    for (int j = 1; j < QK; j++) {
        if (x[j] < *min || isnan(x[j])) *min = x[j];
        if (x[j] > *max || isnan(x[j])) *max = x[j];
    }
}

static float inverse(float d)
{
    return d != 0 ? 1.0f / d : 0.0f;
}

static void q8_0_pack(void *dst, const float *src, int64_t n)
{
    q8_0_block *b = dst;
    for (int64_t i = 0; i < n / QK; i++, b++, src += QK) {
        float d = fabsf(signed_max(src)) / 127.0f, id = inverse(d);
        dt_put16(b->d, dt_to_f16(d));
        for (int j = 0; j < QK; j++) {
            float q = roundf(src[j] * id);
            b->qs[j] = fabsf(q) <= 127.0f ? (int8_t)q : 0;
        }
    }
}

static void q4_0_pack(void *dst, const float *src, int64_t n)
{
    q4_0_block *b = dst;
    for (int64_t i = 0; i < n / QK; i++, b++, src += QK) {
        float d = signed_max(src) / -8.0f, id = inverse(d);
        dt_put16(b->d, dt_to_f16(d));
        for (int j = 0; j < QK / 2; j++) {
            uint8_t low = code(src[j] * id + 8.5f, 15);
            uint8_t high = code(src[j + QK / 2] * id + 8.5f, 15);
            b->qs[j] = (uint8_t)(low | high << 4);
        }
    }
}

static void q4_1_pack(void *dst, const float *src, int64_t n)
{
    q4_1_block *b = dst;
    for (int64_t i = 0; i < n / QK; i++, b++, src += QK) {
        float min, max;
        range(src, &min, &max);
        float d = (max - min) / 15.0f, id = inverse(d);
        dt_put16(b->d, dt_to_f16(d));
        dt_put16(b->m, dt_to_f16(min));
        for (int j = 0; j < QK / 2; j++) {
            uint8_t low = code((src[j] - min) * id + 0.5f, 15);
            uint8_t high = code((src[j + QK / 2] - min) * id + 0.5f, 15);
            b->qs[j] = (uint8_t)(low | high << 4);
        }
    }
}

static void put_five_bits(uint8_t qs[QK / 2], uint8_t qh[4], const uint8_t q[QK])
{
    uint32_t high = 0;
    for (int j = 0; j < QK / 2; j++) qs[j] = (uint8_t)((q[j] & 15) | (q[j + QK / 2] & 15) << 4);
    for (int j = 0; j < QK; j++) high |= (uint32_t)(q[j] >> 4 & 1) << j;
    memcpy(qh, &high, sizeof high);
}

static void q5_0_pack(void *dst, const float *src, int64_t n)
{
    q5_0_block *b = dst;
    for (int64_t i = 0; i < n / QK; i++, b++, src += QK) {
        float d = signed_max(src) / -16.0f, id = inverse(d);
        uint8_t q[QK];
        dt_put16(b->d, dt_to_f16(d));
        for (int j = 0; j < QK; j++) q[j] = code(src[j] * id + 16.5f, 31);
        put_five_bits(b->qs, b->qh, q);
    }
}

static void q5_1_pack(void *dst, const float *src, int64_t n)
{
    q5_1_block *b = dst;
    for (int64_t i = 0; i < n / QK; i++, b++, src += QK) {
        float min, max;
        uint8_t q[QK];
        range(src, &min, &max);
        float d = (max - min) / 31.0f, id = inverse(d);
        dt_put16(b->d, dt_to_f16(d));
        dt_put16(b->m, dt_to_f16(min));
        for (int j = 0; j < QK; j++) q[j] = code((src[j] - min) * id + 0.5f, 31);
        put_five_bits(b->qs, b->qh, q);
    }
}

const dt_type dt_q8_0 = {"q8_0",      NULL,      8,    QK,  sizeof(q8_0_block),
                         q8_0_unpack, q8_0_pack, NULL, NULL};
const dt_type dt_q4_0 = {"q4_0",      NULL,      2,    QK,  sizeof(q4_0_block),
                         q4_0_unpack, q4_0_pack, NULL, NULL};
const dt_type dt_q4_1 = {"q4_1",      NULL,      3,    QK,  sizeof(q4_1_block),
                         q4_1_unpack, q4_1_pack, NULL, NULL};
const dt_type dt_q5_0 = {"q5_0",      NULL,      6,    QK,  sizeof(q5_0_block),
                         q5_0_unpack, q5_0_pack, NULL, NULL};
const dt_type dt_q5_1 = {"q5_1",      NULL,      7,    QK,  sizeof(q5_1_block),
                         q5_1_unpack, q5_1_pack, NULL, NULL};
const dt_type dt_iq4_nl = {"iq4_nl",      NULL, 20,   QK,  sizeof(q4_0_block),
                           iq4_nl_unpack, NULL, NULL, NULL};
