/* dtype_float.c – formats of one element each: IEEE floats and bf16, and the integer formats that
 * only appear as storage (safetensors names, byte counts).
 *
 * Files are little-endian and so is every machine this runs on; loads go through memcpy because a
 * tensor in a file may start at any byte. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_rows.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the formats are read as they lie in memory");

static void f32_unpack(float *dst, const void *src, int64_t n)
{
    memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void f32_pack(void *dst, const float *src, int64_t n)
{
    memcpy(dst, src, (size_t)n * sizeof *src);
}

static void f16_unpack(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) dst[i] = dt_from_f16(dt_le16(p + 2 * i));
}

static void f16_pack(void *dst, const float *src, int64_t n)
{
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++) dt_put16(p + 2 * i, dt_to_f16(src[i]));
}

static void bf16_unpack(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) dst[i] = dt_from_bf16(dt_le16(p + 2 * i));
}

static void bf16_pack(void *dst, const float *src, int64_t n)
{
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++) dt_put16(p + 2 * i, dt_to_bf16(src[i]));
}

static void f64_unpack(float *dst, const void *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, (const char *)src + i * (int64_t)sizeof v, sizeof v);
        dst[i] = (float)v;
    }
}

static void f64_pack(void *dst, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double v = (double)src[i];
        memcpy((char *)dst + i * (int64_t)sizeof v, &v, sizeof v);
    }
}

const dt_type dt_f32 = {"f32", "F32", 0, 1, 4, f32_unpack, f32_pack, NULL, NULL};
const dt_type dt_f16 = {"f16", "F16", 1, 1, 2, f16_unpack, f16_pack, NULL, NULL};
const dt_type dt_bf16 = {"bf16", "BF16", 30, 1, 2, bf16_unpack, bf16_pack, NULL, NULL};
const dt_type dt_f64 = {"f64", "F64", 28, 1, 8, f64_unpack, f64_pack, NULL, NULL};

const dt_type dt_i64 = {"i64", "I64", 27, 1, 8, NULL, NULL, NULL, NULL};
const dt_type dt_i32 = {"i32", "I32", 26, 1, 4, NULL, NULL, NULL, NULL};
const dt_type dt_i16 = {"i16", "I16", 25, 1, 2, NULL, NULL, NULL, NULL};
const dt_type dt_i8 = {"i8", "I8", 24, 1, 1, NULL, NULL, NULL, NULL};
const dt_type dt_u64 = {"u64", "U64", -1, 1, 8, NULL, NULL, NULL, NULL};
const dt_type dt_u32 = {"u32", "U32", -1, 1, 4, NULL, NULL, NULL, NULL};
const dt_type dt_u16 = {"u16", "U16", -1, 1, 2, NULL, NULL, NULL, NULL};
const dt_type dt_u8 = {"u8", "U8", -1, 1, 1, NULL, NULL, NULL, NULL};
const dt_type dt_bool = {"bool", "BOOL", -1, 1, 1, NULL, NULL, NULL, NULL};
const dt_type dt_f8_e4m3 = {"f8_e4m3", "F8_E4M3", -1, 1, 1, NULL, NULL, NULL, NULL};
const dt_type dt_f8_e5m2 = {"f8_e5m2", "F8_E5M2", -1, 1, 1, NULL, NULL, NULL, NULL};
