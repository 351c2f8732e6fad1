/* sha1.c – SHA-1 (FIPS 180-4), for the names that Git gives to the content of files. It proves no identity against somebody
 * who wants to deceive, and is used where nothing else is stated. */
#include "ft/base.h"

#include <string.h>

static uint32_t turn(uint32_t v, int n)
{
    return v << n | v >> (32 - n);
}

FT_WRAPS static void compress(uint32_t h[5], const uint8_t *p)
{
    uint32_t w[80], v[5];
    for (int i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int i = 16; i < 80; i++) w[i] = turn(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 80; i++) {
        static const uint32_t constant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
        const uint32_t b = v[1], c = v[2], d = v[3];
        const uint32_t mix = i < 20              ? (b & c) | (~b & d)
                             : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d)
                                                 : b ^ c ^ d;
        const uint32_t next = turn(v[0], 5) + mix + v[4] + constant[i / 20] + w[i];
        v[4] = d;
        v[3] = c;
        v[2] = turn(b, 30);
        v[1] = v[0];
        v[0] = next;
    }
    for (int i = 0; i < 5; i++) h[i] += v[i];
}

void sha1_init(sha1_state *s)
{
    *s = (sha1_state){.h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
}

void sha1_add(sha1_state *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    s->bytes += n;
    while (n > 0) {
        if (s->fill == 0 && n >= 64) {
            for (; n >= 64; p += 64, n -= 64) compress(s->h, p);
            continue;
        }
        const size_t take = 64 - s->fill < n ? 64 - s->fill : n;
        memcpy(s->block + s->fill, p, take);
        s->fill += take;
        p += take;
        n -= take;
        if (s->fill == 64) {
            compress(s->h, s->block);
            s->fill = 0;
        }
    }
}

void sha1_hex(sha1_state *s, char out[41])
{
    static const char digits[] = "0123456789abcdef";
    const uint64_t bits = s->bytes * 8;
    uint8_t pad[72] = {0x80};
    const size_t n = (s->fill < 56 ? 56 : 120) - s->fill;
    for (int i = 0; i < 8; i++) pad[n + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    sha1_add(s, pad, n + 8);
    for (int i = 0; i < 40; i++) out[i] = digits[(s->h[i / 8] >> (28 - 4 * (i % 8))) & 15];
    out[40] = 0;
}
