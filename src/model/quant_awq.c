/* quant_awq.c – folders of AWQ (Lin et al. 2023) in the version "gemm" of AutoAWQ.
 *
 *   W[o, i] = scales[g, o] · (q[i, o] − zero[g, o]),  g = i / group_size
 *
 * P.qweight I32 [in, out / 8] and P.qzeros I32 [groups, out / 8]: a word holds eight outputs, of which its halves of bytes,
 * from the lowest on, are 0, 2, 4, 6, 1, 3, 5, 7. Zeros are stored as they are. */
#include <string.h>

#include "quant_packed.h"

#define RECORD "a record of how the file was made"

static const js_key config_keys[] = {
    {"quant_method", JS_READ, NULL, NULL},
    {"method", JS_IDLE, NULL, "the same"},
    {"bits", JS_READ, NULL, NULL},
    {"group_size", JS_READ, NULL, NULL},
    {"version", JS_READ, NULL, NULL},
    {"format", JS_READ, NULL, NULL},
    {"checkpoint_format", JS_READ, NULL, NULL},
    {"zero_point", JS_READ, NULL, NULL},
    {"sym", JS_READ, NULL, NULL},
    {"desc_act", JS_ONLY, "false", "groups of columns in another order are not read"},
    {"dynamic", JS_ONLY, "false",
     "the bits of some modules are others; use a folder with the same ones everywhere"},
    {"pack_dtype", JS_ONLY, "\"int32\"", "codes in words of another size are not read"},
    {"adapter", JS_ONLY, NULL, "an adapter inside the weights is not read"},
    {"modules_to_not_convert", JS_IDLE, NULL, "what is quantised has packed tensors"},
    {"lm_head", JS_IDLE, NULL, "what is quantised has packed tensors"},
    {"meta", JS_IDLE, NULL, RECORD},
    {"damp_percent", JS_IDLE, NULL, RECORD},
    {"true_sequential", JS_IDLE, NULL, RECORD},
    {"act_group_aware", JS_IDLE, NULL, RECORD},
    {"batch_size", JS_IDLE, NULL, RECORD},
    {"cache_block_outputs", JS_IDLE, NULL, RECORD},
    {"do_fuse", JS_IDLE, NULL, "the products are ft's own"},
    {"modules_to_fuse", JS_IDLE, NULL, "the products are ft's own"},
    {"fuse_max_seq_len", JS_IDLE, NULL, "the products are ft's own"},
    {"exllama_config", JS_IDLE, NULL, "the products are ft's own"},
    {"backend", JS_ONLY, "\"auto\"|\"autoawq\"", "codes in another order are not read"},
    {NULL, JS_READ, NULL, NULL},
};

static ft_status read_config(const js_doc *d, const cJSON *object, void *cfg)
{
    static const char *const keys[] = {"version", "checkpoint_format", "format", NULL};
    static const char *const names[] = {"gemm", NULL};
    model_packed_cfg *c = cfg;
    int at = 0;
    FT_TRY(js_check_keys(d, object, config_keys, FT_EDATA));
    FT_TRY(packed_read(d, object, &packed_awq, c));
    FT_TRY(js_get_bool(d, object, "zero_point", true, &c->zero_point));
    return packed_format(d, object, keys, names, &at);
}

/* --- where codes stand --------------------------------------------------------------------------------------------- */

static const int place[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* in a word, of output o % 8 */

static packed_spot spot(const packed_size *s, int64_t o, int64_t line)
{
    return (packed_spot){line * (s->out / 8) + o / 8, 4 * place[o % 8], 1};
}

static void shape(const packed_size *s, int64_t codes[2], int64_t zeros[2])
{
    codes[0] = s->in;
    zeros[0] = s->groups;
    codes[1] = zeros[1] = s->out / 8;
}

/* Two words, one below the other, are a byte of each of eight rows. Many inputs of few outputs at a time: their lines serve
 * the outputs beside them too. */
static void unpack(uint8_t *dst, const uint8_t *words, const packed_size *s, int64_t o0, int64_t o1)
{
    enum { INPUTS = 128 };
    const int64_t wide = s->out / 8, row = s->in / 2;
    for (int64_t i0 = 0; i0 < s->in; i0 += INPUTS) {
        const int64_t end = s->in - i0 < INPUTS ? s->in : i0 + INPUTS;
        for (int64_t j = o0 / 8; j < o1 / 8; j++) {
            for (int64_t i = i0; i < end; i += 2) {
                const uint32_t even = packed_word(words, i * wide + j),
                               odd = packed_word(words, (i + 1) * wide + j);
                for (int r = 0; r < 8; r++)
                    dst[(j * 8 + r) * row + i / 2] =
                        (uint8_t)((even >> 4 * place[r] & 15) << 4 | (odd >> 4 * place[r] & 15));
            }
        }
    }
}

static int plus(const model_packed_cfg *c)
{
    (void)c;
    return 0;
}

static const char *unfit(int bits, int64_t out, int64_t in)
{
    (void)bits;
    if (out % 8) return "outputs must be a multiple of 8";
    return in % 2 ? "inputs must be an even number" : NULL;
}

const packed_layout packed_awq = {.method = "awq",
                                  .code = spot,
                                  .zero = spot,
                                  .shape = shape,
                                  .unpack = unpack,
                                  .plus = plus,
                                  .unfit = unfit};

static ft_status bind(model *m, int64_t i, const void *cfg, bool *done)
{
    return packed_bind(m, i, cfg, &packed_awq, done);
}

const model_quant model_quant_awq = {.method = "awq",
                                     .size = sizeof(model_packed_cfg),
                                     .read = read_config,
                                     .bind = bind,
                                     .writer = &packed_writer_awq};
