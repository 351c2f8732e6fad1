/* dtype_nibble.c – a storage format of the tests with all that NF4 asks of the interface: codes of four bits in groups
 * of 64 that run across the ends of rows, and the groups' scales in an array beside the codes. */
#include "doubles.h"

static void read(float *dst, const dt_data *src, int64_t first, int64_t n)
{
    const uint8_t *codes = src->data;
    const nibble_side *side = src->side;
    for (int64_t i = first; i < first + n; i++) {
        int code = i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
        *dst++ = ((float)code / 7.5f - 1.0f) * side->absmax[i / NIBBLE_GROUP];
    }
}

const dt_type dt_nibble = {.name = "nibble", .gguf_id = -1, .block = 2, .bytes = 1, .read = read};
