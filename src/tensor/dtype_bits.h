/* dtype_bits.h – conversions of single 16-bit floats, shared by the dtype files.
 *
 * Integer arithmetic with two float steps that never touch f32 subnormals, so the results do not
 * depend on a thread's flush-to-zero mode. */
#ifndef FT_TENSOR_DTYPE_BITS_H
#define FT_TENSOR_DTYPE_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t dt_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static inline float dt_float(uint32_t u)
{
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static inline uint16_t dt_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline void dt_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v & 0xff);
    p[1] = (uint8_t)(v >> 8);
}

static inline float dt_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t rest = h & 0x7fff;
    uint32_t normal = (rest << 13) + (rest >= 0x7c00 ? 224u << 23 : 112u << 23);
    uint32_t small = dt_bits((float)(int32_t)rest * 0x1p-24f);
    return dt_float(sign | (rest < 0x0400 ? small : normal));
}

/* Round to nearest even; from 65520 on infinity; a NaN keeps its sign and upper payload, quiet. */
static inline uint16_t dt_to_f16(float v)
{
    uint32_t u = dt_bits(v);
    uint32_t sign = u >> 16 & 0x8000;
    uint32_t rest = u & 0x7fffffff;
    uint32_t out;
    if (rest > 0x7f800000)
        out = 0x7e00 | (rest >> 13 & 0x3ff);
    else if (rest >= 0x477ff000)
        out = 0x7c00;
    else if (rest < 0x38800000) /* in [0.5, 1) one unit of f32 is one f16 subnormal step, 2⁻²⁴ */
        out = dt_bits(dt_float(rest) + 0.5f) - 0x3f000000;
    else
        out = (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
    return (uint16_t)(sign | out);
}

static inline float dt_from_bf16(uint16_t h)
{
    return dt_float((uint32_t)h << 16);
}

/* Round to nearest even; a NaN becomes quiet and keeps its upper payload, as ggml does. */
static inline uint16_t dt_to_bf16(float v)
{
    uint32_t u = dt_bits(v);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
#endif
