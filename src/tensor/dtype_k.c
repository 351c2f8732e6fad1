/* dtype_k.c – ggml's super-blocks of 256: q2_k, q3_k, q4_k, q5_k, q6_k and iq4_xs (which is only read); packing is in
 * dtype_k_pack.c.
 *
 * Groups of 16 or 32 elements have small integer scales (and minima) that two f16 numbers of the
 * super-block multiply. The f32 operations stand in ggml's order, which makes the results
 * bit-equal. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_k.h"
#include "dtype_rows.h"

typedef struct {
    uint8_t d[2];
    uint8_t scales_h[2];
    uint8_t scales_l[QK / 64];
    uint8_t qs[QK / 2];
} iq4_xs_block;

_Static_assert(sizeof(iq4_xs_block) == 136, "blocks are unpadded");

static void q2_k_unpack(float *dst, const void *src, int64_t n)
{
    const q2_k_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d)), dmin = dt_from_f16(dt_le16(b->dmin));
        for (int g = 0; g < 16; g++) { /* 16 elements; 8 groups share 32 bytes at 4 shifts */
            const uint8_t *q = b->qs + 32 * (g / 8) + 16 * (g % 2);
            int shift = 2 * (g % 8 / 2);
            float dl = d * (float)(b->scales[g] & 15);
            float ml = dmin * (float)(b->scales[g] >> 4);
            for (int l = 0; l < 16; l++) dst[16 * g + l] = dl * (float)(q[l] >> shift & 3) - ml;
        }
    }
}

/* 6-bit scale of group g: four low bits in the first 8 bytes, two high bits in the last 4. */
static int q3_k_scale(const uint8_t s[12], int g)
{
    int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
    return (low | (s[8 + g % 4] >> (2 * (g / 4)) & 3) << 4) - 32;
}

static void q3_k_unpack(float *dst, const void *src, int64_t n)
{
    const q3_k_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d));
        for (int g = 0; g < 16; g++) {
            const uint8_t *q = b->qs + 32 * (g / 8) + 16 * (g % 2);
            const uint8_t *high = b->hmask + 16 * (g % 2);
            int shift = 2 * (g % 8 / 2);
            float dl = d * (float)q3_k_scale(b->scales, g);
            for (int l = 0; l < 16; l++) {
                int code = (q[l] >> shift & 3) - (high[l] >> (g / 2) & 1 ? 0 : 4);
                dst[16 * g + l] = dl * (float)code;
            }
        }
    }
}

/* 6-bit scale and minimum of group j of 8, as q4_k and q5_k store them. */
static void scale_min(const uint8_t s[12], int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *min = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

static void q4_k_unpack(float *dst, const void *src, int64_t n)
{
    const q4_k_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d)), dmin = dt_from_f16(dt_le16(b->dmin));
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = b->qs + 32 * (g / 2);
            int shift = 4 * (g % 2), scale, min;
            scale_min(b->scales, g, &scale, &min);
            float d1 = d * (float)scale, m1 = dmin * (float)min;
            for (int l = 0; l < 32; l++) dst[32 * g + l] = d1 * (float)(q[l] >> shift & 15) - m1;
        }
    }
}

static void q5_k_unpack(float *dst, const void *src, int64_t n)
{
    const q5_k_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d)), dmin = dt_from_f16(dt_le16(b->dmin));
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = b->qs + 32 * (g / 2);
            int shift = 4 * (g % 2), scale, min;
            scale_min(b->scales, g, &scale, &min);
            float d1 = d * (float)scale, m1 = dmin * (float)min;
            for (int l = 0; l < 32; l++) {
                int code = (q[l] >> shift & 15) | (b->qh[l] >> g & 1) << 4;
                dst[32 * g + l] = d1 * (float)code - m1;
            }
        }
    }
}

static void q6_k_unpack(float *dst, const void *src, int64_t n)
{
    const q6_k_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d));
        for (int g = 0; g < 16; g++) {
            int k = g % 8 / 2, first = 16 * (g % 2); /* quarter of the half, its 16 bytes */
            const uint8_t *ql = b->ql + 64 * (g / 8) + 32 * (k % 2) + first;
            const uint8_t *qh = b->qh + 32 * (g / 8) + first;
            float dl = d * (float)b->scales[g];
            for (int l = 0; l < 16; l++) {
                int code = (ql[l] >> (4 * (k / 2)) & 15) | (qh[l] >> (2 * k) & 3) << 4;
                dst[16 * g + l] = dl * (float)(code - 32);
            }
        }
    }
}

static void iq4_xs_unpack(float *dst, const void *src, int64_t n)
{
    const iq4_xs_block *b = src;
    for (int64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = dt_from_f16(dt_le16(b->d));
        int high = dt_le16(b->scales_h);
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = b->qs + 16 * g;
            int scale = (b->scales_l[g / 2] >> (4 * (g % 2)) & 15) | (high >> (2 * g) & 3) << 4;
            float dl = d * (float)(scale - 32);
            for (int l = 0; l < 16; l++) {
                dst[32 * g + l] = dl * (float)dt_iq4_table[q[l] & 15];
                dst[32 * g + 16 + l] = dl * (float)dt_iq4_table[q[l] >> 4];
            }
        }
    }
}

const dt_type dt_q2_k = {"q2_k",      NULL,         10,   QK,  sizeof(q2_k_block),
                         q2_k_unpack, dt_q2_k_pack, NULL, NULL};
const dt_type dt_q3_k = {"q3_k",      NULL,         11,   QK,  sizeof(q3_k_block),
                         q3_k_unpack, dt_q3_k_pack, NULL, NULL};
const dt_type dt_q4_k = {"q4_k",      NULL,         12,   QK,  sizeof(q4_k_block),
                         q4_k_unpack, dt_q4_k_pack, NULL, NULL};
const dt_type dt_q5_k = {"q5_k",      NULL,         13,   QK,  sizeof(q5_k_block),
                         q5_k_unpack, dt_q5_k_pack, NULL, NULL};
const dt_type dt_q6_k = {"q6_k",      NULL,         14,   QK,  sizeof(q6_k_block),
                         q6_k_unpack, dt_q6_k_pack, NULL, NULL};
const dt_type dt_iq4_xs = {"iq4_xs",      NULL, 23,   QK,  sizeof(iq4_xs_block),
                           iq4_xs_unpack, NULL, NULL, NULL};
