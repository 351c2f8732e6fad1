/* dtype_int.c – whole codes of 2, 3, 4 and 8 bits with a scale and a zero for each group of a row: what GPTQ (Frantar et al.
 * 2022) and AWQ (Lin et al. 2023) make of a matrix.
 *
 *   w = scale[group of the column] · (q − zero[group of the column])
 *
 * in f32: of scales in f16 and bf16 the product is exact. The codes are no file's: both tools lay theirs along columns, and
 * a row that is read one code at a time from a column's words costs a cache line each. Four bits lie as bitsandbytes' do, so
 * that the loops of the kernels are theirs with another table of sixteen values. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_rows.h"

#include <string.h>

enum { PIECE = 256 }; /* codes at a time: whole bytes of every format */

int dt_code_bits(const dt_type *type)
{
    return type == &dt_int4   ? 4
           : type == &dt_int8 ? 8
           : type == &dt_int2 ? 2
           : type == &dt_int3 ? 3
                              : 0;
}

const dt_type *dt_code_type(int bits)
{
    static const dt_type *const types[] = {&dt_int2, &dt_int3, &dt_int4, &dt_int8};
    for (size_t i = 0; i < FT_COUNT_OF(types); i++)
        if (dt_code_bits(types[i]) == bits) return types[i];
    return NULL;
}

/* Where code i begins: a bit of the stream; of four bits the half of a byte. */
static int64_t bit_of(int bits, int64_t i)
{
    return bits == 4 ? (i ^ 1) * 4 : i * bits;
}

/* Eight codes, which fill `bits` bytes. */
static inline void get_eight(uint8_t *q, const uint8_t *p, int bits)
{
    uint32_t w = 0;
    for (int b = 0; b < bits; b++) w |= (uint32_t)p[b] << 8 * b;
    for (int j = 0; j < 8; j++)
        q[bits == 4 ? j ^ 1 : j] = (uint8_t)(w >> bits * j & ((1u << bits) - 1));
}

static uint8_t get_one(const uint8_t *p, int bits, int64_t i)
{
    const int64_t at = bit_of(bits, i);
    unsigned v = (unsigned)p[at / 8] >> at % 8;
    if (at % 8 + bits > 8) v |= (unsigned)p[at / 8 + 1] << (8 - at % 8);
    return (uint8_t)(v & ((1u << bits) - 1));
}

void dt_codes_get(const dt_type *type, uint8_t *q, const void *src, int64_t first, int64_t n)
{
    const int bits = dt_code_bits(type);
    const uint8_t *p = src;
    if (bits == 8) {
        memcpy(q, p + first, (size_t)n);
        return;
    }
    for (; n > 0 && first % 8; n--) *q++ = get_one(p, bits, first++);
    for (p += first / 8 * bits; n >= 8; n -= 8, q += 8, p += bits) {
        if (bits == 4)
            get_eight(q, p, 4);
        else
            bits == 3 ? get_eight(q, p, 3) : get_eight(q, p, 2);
    }
    for (int64_t i = 0; i < n; i++) q[i] = get_one(p, bits, i);
}

void dt_codes_put(const dt_type *type, void *dst, int64_t first, const uint8_t *q, int64_t n)
{
    const int bits = dt_code_bits(type);
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = bit_of(bits, first + i);
        const unsigned mask = (1u << bits) - 1, v = q[i] & mask;
        uint8_t *b = p + at / 8;
        b[0] = (uint8_t)((b[0] & ~(mask << at % 8)) | v << at % 8);
        if (at % 8 + bits > 8)
            b[1] = (uint8_t)((b[1] & ~(mask >> (8 - at % 8))) | v >> (8 - at % 8));
    }
}

static float scale_at(const dt_groups *g, int64_t i)
{
    if (g->dtype == &dt_f32) return ((const float *)g->scale)[i];
    const uint16_t half = ((const uint16_t *)g->scale)[i];
    return g->dtype == &dt_f16 ? dt_from_f16(half) : dt_from_bf16(half);
}

/* Codes of one row. */
static void values(float *dst, const uint8_t *q, const dt_groups *g, int64_t row, int64_t col,
                   int64_t n)
{
    int64_t last = -1;
    float scale = 0;
    int zero = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t group = g->group ? g->group[col + i] : (col + i) / g->size;
        if (group != last) {
            scale = scale_at(g, row * g->groups + group);
            zero = g->zero[row * g->groups + group] + g->plus;
            last = group;
        }
        dst[i] = scale * (float)(q[i] - zero);
    }
}

static void read_as(const dt_type *type, float *dst, const dt_data *src, int64_t first, int64_t n)
{
    const dt_groups *g = src->side;
    uint8_t q[PIECE];
    for (int64_t end = first + n, k; first < end; first += k, dst += k) {
        const int64_t row = first / g->cols, left = (row + 1) * g->cols - first;
        k = end - first < left ? end - first : left;
        if (k > PIECE) k = PIECE;
        dt_codes_get(type, q, src->data, first, k);
        values(dst, q, g, row, first - row * g->cols, k);
    }
}

static size_t side_bytes(const void *side)
{
    const dt_groups *g = side;
    const size_t n = (size_t)(g->rows * g->groups);
    return n * ((size_t)g->dtype->bytes + 1) + (g->group ? (size_t)g->cols * sizeof *g->group : 0);
}

#define FORMAT(name, block, bytes)                                                                 \
    static void name##_read(float *dst, const dt_data *src, int64_t first, int64_t n)              \
    {                                                                                              \
        read_as(&dt_##name, dst, src, first, n);                                                   \
    }                                                                                              \
    const dt_type dt_##name = {#name, NULL, -1, block, bytes, NULL, NULL, name##_read, side_bytes};
FORMAT(int2, 4, 1)
FORMAT(int3, 8, 3)
FORMAT(int4, 2, 1)
FORMAT(int8, 2, 2) /* a block of more than one: it is no type of numbers */
