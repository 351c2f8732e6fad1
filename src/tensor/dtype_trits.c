/* dtype_trits.c – "ternary": a matrix of −1, 0 and 1 times one number, as BitNet b1.58 (Ma et al. 2024) has it.
 *
 * The codes are no file's: those lay the four of a byte a quarter of the matrix apart. Here a row is blocks of 128 columns,
 * and a byte of a block holds columns 32 apart, so that four shifts of a vector of bytes are 128 columns in their order. */
#include "ft/tensor.h"
#include "dtype_rows.h"

#include <string.h>

enum { LANE = DT_TRITS_BLOCK / 4 };

int64_t dt_trits_row(int64_t cols)
{
    return (cols + DT_TRITS_BLOCK - 1) / DT_TRITS_BLOCK * LANE;
}

/* A whole block, eight bytes at a time. */
static void put_block(uint8_t *to, const uint8_t *code)
{
    for (int i = 0; i < LANE; i += 8) {
        uint64_t four[4], all = 0;
        for (int k = 0; k < 4; k++) {
            memcpy(&four[k], code + k * LANE + i, sizeof four[k]);
            all |= four[k] << 2 * k; /* codes are below 4: none reaches the next byte */
        }
        memcpy(to + i, &all, sizeof all);
    }
}

void dt_trits_put(uint8_t *row, const uint8_t *code, int64_t cols)
{
    uint8_t rest[DT_TRITS_BLOCK] = {0};
    const int64_t whole = cols / DT_TRITS_BLOCK;
    for (int64_t b = 0; b < whole; b++) put_block(row + b * LANE, code + b * DT_TRITS_BLOCK);
    if (whole * DT_TRITS_BLOCK == cols) return;
    memcpy(rest, code + whole * DT_TRITS_BLOCK, (size_t)(cols - whole * DT_TRITS_BLOCK));
    put_block(row + whole * LANE, rest);
}

void dt_trits_get(uint8_t *code, const uint8_t *row, int64_t first, int64_t n)
{
    for (int64_t k; n > 0; first += k, code += k, n -= k) {
        const int64_t lane = first % LANE;
        const int shift = (int)(first % DT_TRITS_BLOCK / LANE) * 2;
        const uint8_t *from = row + first / DT_TRITS_BLOCK * LANE + lane;
        k = LANE - lane < n ? LANE - lane : n;
        for (int64_t i = 0; i < k; i++) code[i] = from[i] >> shift & 3;
    }
}

static void read(float *dst, const dt_data *src, int64_t first, int64_t n)
{
    enum { PIECE = 256 };
    const dt_trits *t = src->side;
    uint8_t code[PIECE];
    for (int64_t end = first + n, k; first < end; first += k, dst += k) {
        const int64_t row = first / t->cols, left = (row + 1) * t->cols - first;
        k = end - first < left ? end - first : left;
        if (k > PIECE) k = PIECE;
        dt_trits_get(code, (const uint8_t *)src->data + row * dt_trits_row(t->cols),
                     first - row * t->cols, k);
        for (int64_t i = 0; i < k; i++) dst[i] = t->scale * (float)(code[i] - 1);
    }
}

/* The scale, and what the ends of rows take. */
static size_t side_bytes(const void *side)
{
    const dt_trits *t = side;
    return sizeof t->scale +
           (size_t)(t->rows * dt_trits_row(t->cols) - (t->rows * t->cols + 3) / 4);
}

const dt_type dt_ternary = {"ternary", NULL, -1, 4, 1, NULL, NULL, read, side_bytes};
