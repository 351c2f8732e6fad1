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

/* Denormals are zero, as operands and as results. */
static float flushed(uint32_t bits)
{
    float x;
    if ((bits & 0x7f800000) == 0) bits &= 0x80000000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float sum(float a, float b, float c)
{
    const float y = fmaf(a, b, c);
    uint32_t bits;
    memcpy(&bits, &y, sizeof bits);
    return flushed(bits);
}

/* c += a · b: a chain of fused multiply-adds for the even and for the odd k of each element, then both and the old value. */
void amx_dot(int c, int a, int b)
{
    const int pairs = tiles.bytes[a] / 4, columns = tiles.bytes[c] / 4;
    check(a);
    check(b);
    check(c);
    assert(a != b && b != c && c != a);
    assert(tiles.rows[a] == tiles.rows[c] && tiles.bytes[b] == tiles.bytes[c]);
    assert(tiles.rows[b] == pairs);
    for (int m = 0; m < tiles.rows[c]; m++) {
        float even[SIDE] = {0}, odd[SIDE] = {0};
        for (int k = 0; k < pairs; k++) {
            const uint32_t x = tiles.word[a][m][k];
            const float x0 = flushed(x << 16), x1 = flushed(x & 0xffff0000);
            for (int n = 0; n < columns; n++) {
                const uint32_t w = tiles.word[b][k][n];
                even[n] = sum(x0, flushed(w << 16), even[n]);
                odd[n] = sum(x1, flushed(w & 0xffff0000), odd[n]);
            }
        }
        for (int n = 0; n < columns; n++) {
            const float both = sum(even[n], 1.0f, odd[n]);
            const float y = sum(both, 1.0f, flushed(tiles.word[c][m][n]));
            memcpy(&tiles.word[c][m][n], &y, sizeof y);
        }
    }
}
