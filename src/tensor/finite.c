/* finite.c – the first stored value that is no finite number, by the bits, without unpacking what need not be.
 *
 * A format of blocks holds codes and a few f16 numbers that they are multiplied by: small integers times finite f16 are
 * finite in f32, so only these are looked at. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_rows.h"

/* Where the f16 numbers of a block stand; second < 0: there is one. */
static const struct {
    const dt_type *type;
    int first, second;
} scales[] = {
    {&dt_q8_0, 0, -1},   {&dt_q4_0, 0, -1},   {&dt_q4_1, 0, 2},    {&dt_q5_0, 0, -1},
    {&dt_q5_1, 0, 2},    {&dt_iq4_nl, 0, -1}, {&dt_q2_k, 80, 82},  {&dt_q3_k, 108, -1},
    {&dt_q4_k, 0, 2},    {&dt_q5_k, 0, 2},    {&dt_q6_k, 208, -1}, {&dt_iq4_xs, 0, -1},
    {&dt_tq1_0, 52, -1}, {&dt_tq2_0, 64, -1},
};

/* Exponents of all ones, looked for in runs that the compiler makes wide. */
#define FINDER(name, word, mask)                                                                   \
    static int64_t name(const uint8_t *p, int64_t n)                                               \
    {                                                                                              \
        enum { RUN = 64 };                                                                         \
        int64_t i = 0;                                                                             \
        for (; i + RUN <= n; i += RUN) {                                                           \
            word v[RUN], bad = 0;                                                                  \
            memcpy(v, p + i * (int64_t)sizeof *v, sizeof v);                                       \
            for (int k = 0; k < RUN; k++) bad |= (v[k] & (mask)) == (mask);                        \
            if (bad) break;                                                                        \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            word v;                                                                                \
            memcpy(&v, p + i * (int64_t)sizeof v, sizeof v);                                       \
            if ((v & (mask)) == (mask)) return i;                                                  \
        }                                                                                          \
        return -1;                                                                                 \
    }
FINDER(find_f16, uint16_t, 0x7c00)
FINDER(find_bf16, uint16_t, 0x7f80)
FINDER(find_f32, uint32_t, 0x7f800000u)
FINDER(find_f64, uint64_t, 0x7ff0000000000000ull)

static bool scale_is_finite(const uint8_t *block, int at)
{
    return at < 0 || (dt_le16(block + at) & 0x7c00) != 0x7c00;
}

static int64_t find_block(const dt_type *type, const uint8_t *p, int64_t n, int first, int second)
{
    for (int64_t i = 0; i < n; i += type->block, p += type->bytes)
        if (!scale_is_finite(p, first) || !scale_is_finite(p, second)) return i;
    return -1;
}

static int64_t find_unpacked(const dt_type *type, const uint8_t *p, int64_t n)
{
    float x[DT_BLOCK_MAX];
    for (int64_t i = 0; i < n; i += type->block, p += type->bytes) {
        type->unpack(x, p, type->block);
        const int64_t at = find_f32((const uint8_t *)x, type->block);
        if (at >= 0) return i + at;
    }
    return -1;
}

int64_t dt_find_nonfinite(const dt_type *type, const void *data, int64_t n)
{
    if (type == &dt_f32) return find_f32(data, n);
    if (type == &dt_bf16) return find_bf16(data, n);
    if (type == &dt_f16) return find_f16(data, n);
    if (type == &dt_f64) return find_f64(data, n);
    for (size_t i = 0; i < FT_COUNT_OF(scales); i++)
        if (scales[i].type == type)
            return find_block(type, data, n, scales[i].first, scales[i].second);
    return type->unpack ? find_unpacked(type, data, n) : -1; /* codes, counts */
}
