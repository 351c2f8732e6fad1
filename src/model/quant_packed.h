/* quant_packed.h – what the folders of GPTQ and AWQ share: a matrix is P.qweight, P.qzeros and P.scales, words of 32 bits that
 * hold codes in a method's places. */
#ifndef FT_MODEL_QUANT_PACKED_H
#define FT_MODEL_QUANT_PACKED_H

#include <string.h>

#include "model_private.h"

/* Where a code stands among the words of a tensor; `next`: the words on to the one that its upper bits are in. */
typedef struct packed_spot {
    int64_t word;
    int shift;
    int64_t next;
} packed_spot;

/* The shape of a matrix in codes. */
typedef struct packed_size {
    int bits;
    int64_t out, in, groups;
} packed_size;

typedef struct packed_layout { /* a row */
    const char *method;        /* quant_method */
    bool indexed;              /* P.g_idx tells the groups */
    packed_spot (*code)(const packed_size *s, int64_t o, int64_t i);
    packed_spot (*zero)(const packed_size *s, int64_t o, int64_t g);
    void (*shape)(const packed_size *s, int64_t codes[2], int64_t zeros[2]);
    /* Rows o0 … o1 of P.qweight as int2 … int8 lie; both a multiple of PACKED_ROWS, or the end. */
    void (*unpack)(uint8_t *dst, const uint8_t *words, const packed_size *s, int64_t o0,
                   int64_t o1);
    int (*plus)(const model_packed_cfg *c); /* zero − what is stored */
    /* why sizes cannot be held; NULL: they can */
    const char *(*unfit)(int bits, int64_t out, int64_t in);
} packed_layout;
enum { PACKED_ROWS = 128 };
extern const packed_layout packed_gptq, packed_awq;

static inline uint32_t packed_word(const uint8_t *words, int64_t at)
{
    uint32_t w;
    memcpy(&w, words + 4 * at, sizeof w); /* a file's values may lie at any byte */
    return w;
}

/* The number of model_packed_cfg's `bits`, `group_size` and of the flags that both methods have; 65 naming the key. */
FT_MUST_USE ft_status packed_read(const js_doc *d, const cJSON *object, const packed_layout *l,
                                  model_packed_cfg *c);
/* The first of these keys that is there, which must be one of the names (in any case, NULL-terminated); *at: which. */
FT_MUST_USE ft_status packed_format(const js_doc *d, const cJSON *object, const char *const *keys,
                                    const char *const *names, int *at);
FT_MUST_USE ft_status packed_bind(model *m, int64_t i, const model_packed_cfg *c,
                                  const packed_layout *l, bool *done);
/* Folders of what lies in codes (quant_packed_write.c). */
enum { PACKED_CODES, PACKED_ZEROS, PACKED_SCALES, PACKED_INDEX };
extern const model_quant_writer packed_writer_gptq, packed_writer_awq;
#endif
