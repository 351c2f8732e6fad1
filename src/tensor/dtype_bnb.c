/* dtype_bnb.c – bitsandbytes' nf4 and fp4: codes of four bits with the scales of their blocks beside them, which may be
 * codes of eight bits themselves (Dettmers et al. 2023).
 *
 * The products are those of bitsandbytes to the bit: f32, each operation rounded apart, the result cast to the type that
 * the tensor stood in before. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_rows.h"

/* nf4: quantiles of the normal distribution; fp4: sign, two bits of exponent, one of mantissa, over 12. A bound is the
 * midpoint of two neighbours, (a + b) / 2 in f32. */
static const dt_bnb_codes codes_nf4 = {
    .code = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
             -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
             0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
             0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f},
    .bound = {-0x1.b239bp-1f, -0x1.38a4ep-1f, -0x1.d709p-2f, -0x1.5bd4ecp-2f, -0x1.e079d8p-3f,
              -0x1.1a7178p-3f, -0x1.74f0e2p-5f, 0x1.45f5fep-5f, 0x1.ec90c4p-4f, 0x1.a0cfcp-3f,
              0x1.2b05a8p-2f, 0x1.8ea7f2p-2f, 0x1.00da08p-1f, 0x1.491b5ep-1f, 0x1.b913b4p-1f},
    .order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
};
/* 0 has two codes; bitsandbytes gives 8 to what is above −0 and below the first midpoint. */
static const dt_bnb_codes codes_fp4 = {
    .code = {0.0f, 0.0625f / 12, 8.0f / 12, 1.0f, 4.0f / 12, 6.0f / 12, 2.0f / 12, 3.0f / 12, 0.0f,
             -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12},
    .bound = {-0x1.aaaaacp-1f, -0x1.2aaaacp-1f, -0x1.aaaaacp-2f, -0x1.2aaaacp-2f, -0x1.aaaaacp-3f,
              -0x1.6p-4f, -0x1.555556p-9f, 0.0f, 0x1.555556p-9f, 0x1.6p-4f, 0x1.aaaaacp-3f,
              0x1.2aaaacp-2f, 0x1.aaaaacp-2f, 0x1.2aaaacp-1f, 0x1.aaaaacp-1f},
    .order = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3},
};

const dt_bnb_codes *dt_bnb_codes_of(const dt_type *type)
{
    return type == &dt_nf4 ? &codes_nf4 : type == &dt_fp4 ? &codes_fp4 : NULL;
}

float dt_bnb_absmax(const dt_bnb *b, int64_t block)
{
    if (b->absmax) return b->absmax[block];
    return b->map[b->coded[block]] * b->nested[block / b->nested_size] + b->offset;
}

void dt_bnb_absmaxes(float *out, const dt_bnb *b, int64_t first, int64_t step, int64_t n)
{
    const int shift = __builtin_ctzll((unsigned long long)b->block_size);
    int64_t end = 0; /* of the blocks that share `nested` */
    float nested = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t block = (first + i * step) >> shift;
        if (b->absmax) {
            out[i] = b->absmax[block];
            continue;
        }
        if (block >= end) {
            nested = b->nested[block / b->nested_size];
            end = (block / b->nested_size + 1) * b->nested_size;
        }
        out[i] = b->map[b->coded[block]] * nested + b->offset;
    }
}

static float cast(const dt_type *dtype, float v)
{
    if (dtype == &dt_bf16) return dt_from_bf16(dt_to_bf16(v));
    return dtype == &dt_f16 ? dt_from_f16(dt_to_f16(v)) : v;
}

static void read(float *dst, const dt_data *src, int64_t first, int64_t n)
{
    const dt_bnb *b = src->side;
    const uint8_t *codes = src->data;
    for (int64_t end = first + n; first < end;) {
        const int64_t block = first / b->block_size;
        int64_t stop = (block + 1) * b->block_size;
        const float absmax = dt_bnb_absmax(b, block);
        float value[16];
        for (int c = 0; c < 16; c++) value[c] = cast(b->dtype, b->code[c] * absmax);
        if (stop > end) stop = end;
        for (; first < stop; first++)
            *dst++ = value[first % 2 ? codes[first / 2] & 15 : codes[first / 2] >> 4];
    }
}

static size_t side_bytes(const void *side)
{
    const dt_bnb *b = side;
    const size_t n = (size_t)b->blocks;
    if (b->absmax) return n * sizeof(float);
    return n + (n + (size_t)b->nested_size - 1) / (size_t)b->nested_size * sizeof(float);
}

const dt_type dt_nf4 = {"nf4", NULL, -1, 2, 1, NULL, NULL, read, side_bytes};
const dt_type dt_fp4 = {"fp4", NULL, -1, 2, 1, NULL, NULL, read, side_bytes};
