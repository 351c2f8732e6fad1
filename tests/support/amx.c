/* amx.c – kern_amx.c by instructions in C (amx_tiles.h). Its bits are those of the manual's operation; the row of the
 * instructions themselves need not have them. */
#define VL 4
#define KERN_TILES "amx_tiles.h"
#include "../../src/kernel/kern_amx.c"

#include <assert.h>

static _Thread_local struct {
    bool configured;
    int rows[TILES], bytes[TILES];
    uint32_t word[TILES][SIDE][SIDE];
} tiles;

bool amx_in_use(void)
{
    return tiles.configured;
}

void amx_configure(const void *config)
{
    const tile_config *c = config;
    assert(c->palette == 1 && c->start_row == 0);
    for (int i = 0; i < (int)sizeof c->zero; i++) assert(c->zero[i] == 0);
    memset(&tiles, 0, sizeof tiles);
    for (int t = 0; t < 16; t++) {
        assert(c->rows[t] <= SIDE && c->bytes[t] <= WORD_ROW && c->bytes[t] % 4 == 0);
        assert((c->rows[t] == 0) == (c->bytes[t] == 0) && (t < TILES || c->rows[t] == 0));
        if (t >= TILES) continue;
        tiles.rows[t] = c->rows[t];
        tiles.bytes[t] = c->bytes[t];
    }
    tiles.configured = true;
}

void amx_release(void)
{
    memset(&tiles, 0, sizeof tiles);
}

static void check(int tile)
{
    assert(tiles.configured && tiles.rows[tile] > 0);
}

/* Instructions that write a tile clear what lies beside its shape. */
void amx_zero(int tile)
{
    check(tile);
    memset(tiles.word[tile], 0, sizeof tiles.word[tile]);
}

void amx_load(int tile, const void *from, int64_t ld)
{
    amx_zero(tile);
    for (int r = 0; r < tiles.rows[tile]; r++)
        memcpy(tiles.word[tile][r], (const char *)from + r * ld, (size_t)tiles.bytes[tile]);
}

void amx_store(int tile, void *to, int64_t ld)
{
    check(tile);
    for (int r = 0; r < tiles.rows[tile]; r++)
        memcpy((char *)to + r * ld, tiles.word[tile][r], (size_t)tiles.bytes[tile]);
}

/* The arithmetic reads and writes nothing but the tiles: with sanitizers it would be the longest of all tests. */
#define UNCHECKED __attribute__((no_sanitize("address", "undefined")))

/* Denormals are zero, as operands and as results. */
UNCHECKED static inline float flushed(uint32_t bits)
{
    float x;
    bits &= (bits & 0x7f800000) == 0 ? 0x80000000 : 0xffffffff;
    memcpy(&x, &bits, sizeof x);
    return x;
}

UNCHECKED static inline float sum(float a, float b)
{
    const float y = a + b;
    uint32_t bits;
    memcpy(&bits, &y, sizeof bits);
    return flushed(bits);
}

UNCHECKED static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}

/* chain += a · w, each rounded once. Products of bf16 are exact in f32, but for the smallest and largest ones. */
UNCHECKED static inline void chain_on(float chain[SIDE], float a, const float w[SIDE])
{
    const uint32_t least = bits_of(0x1p-100f), span = bits_of(0x1p100f) - least;
    float p[SIDE];
    uint32_t odd = 0, some = bits_of(a) != 0;
    for (int n = 0; n < SIDE; n++) p[n] = a * w[n];
    for (int n = 0; n < SIDE; n++)
        odd |= (uint32_t)(bits_of(p[n]) - least > span) & some & (uint32_t)(bits_of(w[n]) != 0);
    if (odd)
        for (int n = 0; n < SIDE; n++) chain[n] = sum(fmaf(a, w[n], chain[n]), 0);
    else
        for (int n = 0; n < SIDE; n++) chain[n] = sum(p[n], chain[n]);
}

/* c += a · b: a chain of fused multiply-adds for the even and for the odd k of each element, then both and the old value. */
UNCHECKED void amx_dot(int c, int a, int b)
{
    const int pairs = tiles.bytes[a] / 4, columns = tiles.bytes[c] / 4;
    check(a);
    check(b);
    check(c);
    assert(a != b && b != c && c != a);
    assert(tiles.rows[a] == tiles.rows[c] && tiles.bytes[b] == tiles.bytes[c]);
    assert(tiles.rows[b] == pairs && pairs <= SIDE && columns <= SIDE);
    float even_w[SIDE][SIDE], odd_w[SIDE][SIDE];
    for (int k = 0; k < pairs; k++) {
        for (int n = 0; n < SIDE; n++) {
            even_w[k][n] = flushed(tiles.word[b][k][n] << 16);
            odd_w[k][n] = flushed(tiles.word[b][k][n] & 0xffff0000);
        }
    }
    for (int m = 0; m < tiles.rows[c]; m++) {
        float even[SIDE] = {0}, odd[SIDE] = {0};
        for (int k = 0; k < pairs; k++) {
            const uint32_t x = tiles.word[a][m][k];
            chain_on(even, flushed(x << 16), even_w[k]);
            chain_on(odd, flushed(x & 0xffff0000), odd_w[k]);
        }
        for (int n = 0; n < columns; n++) {
            const float y = sum(sum(even[n], odd[n]), flushed(tiles.word[c][m][n]));
            memcpy(&tiles.word[c][m][n], &y, sizeof y);
        }
    }
}
