/* quant_gptq.c – folders of GPTQ (Frantar et al. 2022), as AutoGPTQ, GPTQModel and optimum write them.
 *
 *   W[o, i] = scales[g, o] · (q[i, o] − zero[g, o]),  g = g_idx[i], or i / group_size where there is none: with desc_act groups
 *   follow an order that only g_idx tells, unless static_groups kept them in place
 *
 * P.qweight I32 [in · bits / 32, out] holds the codes of a column of words, the first input in the lowest bits; P.qzeros I32
 * [groups, out · bits / 32] along the outputs. checkpoint_format "gptq" stores zero − 1, and what is stored plus 1 is the
 * zero, 2^bits included; "gptq_v2" stores the zero. */
#include <string.h>

#include "quant_packed.h"

#define NOT_OF_ALL "the bits of some modules are others; use a folder with the same ones everywhere"
#define RECORD "a record of how the file was made"

static const js_key config_keys[] = {
    {"quant_method", JS_READ, NULL, NULL},
    {"method", JS_IDLE, NULL, "the same"},
    {"bits", JS_READ, NULL, NULL},
    {"group_size", JS_READ, NULL, NULL},
    {"sym", JS_READ, NULL, NULL},
    {"desc_act", JS_READ, NULL, NULL},
    {"checkpoint_format", JS_READ, NULL, NULL},
    {"format", JS_READ, NULL, NULL},
    {"version", JS_READ, NULL, NULL},
    {"dynamic", JS_ONLY, "false", NOT_OF_ALL},
    {"pack_dtype", JS_ONLY, "\"int32\"", "codes in words of another size are not read"},
    {"is_marlin_format", JS_ONLY, "false", "codes in Marlin's order are not read"},
    {"adapter", JS_ONLY, NULL, "an adapter inside the weights is not read"},
    {"lm_head", JS_IDLE, NULL, "what is quantised has packed tensors"},
    {"modules_to_not_convert", JS_IDLE, NULL, "what is quantised has packed tensors"},
    {"modules_in_block_to_quantize", JS_IDLE, NULL, "what is quantised has packed tensors"},
    {"block_name_to_quantize", JS_IDLE, NULL, "what is quantised has packed tensors"},
    {"act_group_aware", JS_IDLE, NULL, "g_idx tells the groups"},
    {"damp_percent", JS_IDLE, NULL, RECORD},
    {"damp_auto_increment", JS_IDLE, NULL, RECORD},
    {"static_groups", JS_READ, NULL, NULL},
    {"true_sequential", JS_IDLE, NULL, RECORD},
    {"mse", JS_IDLE, NULL, RECORD},
    {"meta", JS_IDLE, NULL, RECORD},
    {"model_name_or_path", JS_IDLE, NULL, RECORD},
    {"model_file_base_name", JS_IDLE, NULL, RECORD},
    {"model_seqlen", JS_IDLE, NULL, RECORD},
    {"module_name_preceding_first_block", JS_IDLE, NULL, RECORD},
    {"tokenizer", JS_IDLE, NULL, RECORD},
    {"dataset", JS_IDLE, NULL, RECORD},
    {"batch_size", JS_IDLE, NULL, RECORD},
    {"pad_token_id", JS_IDLE, NULL, RECORD},
    {"cache_block_outputs", JS_IDLE, NULL, RECORD},
    {"backend", JS_IDLE, NULL, "the products are ft's own"},
    {"use_*", JS_IDLE, NULL, "the products are ft's own"},
    {"*exllama", JS_IDLE, NULL, "the products are ft's own"},
    {"exllama_config", JS_IDLE, NULL, "the products are ft's own"},
    {"max_input_length", JS_IDLE, NULL, "the products are ft's own"},
    {NULL, JS_READ, NULL, NULL},
};

static ft_status read_config(const js_doc *d, const cJSON *object, void *cfg)
{
    static const char *const keys[] = {"checkpoint_format", "version", "format", NULL};
    static const char *const names[] = {"gptq", "gptq_v2", NULL};
    model_packed_cfg *c = cfg;
    int at = 0;
    FT_TRY(js_check_keys(d, object, config_keys, FT_EDATA));
    FT_TRY(packed_read(d, object, &packed_gptq, c));
    FT_TRY(js_get_bool(d, object, "static_groups", false, &c->static_groups));
    FT_TRY(packed_format(d, object, keys, names, &at));
    c->v2 = at == 1;
    return FT_OK;
}

/* --- where codes stand --------------------------------------------------------------------------------------------- */

static packed_spot code_at(const packed_size *s, int64_t o, int64_t i)
{
    const int64_t bit = i * s->bits;
    return (packed_spot){bit / 32 * s->out + o, (int)(bit % 32), s->out};
}

static packed_spot zero_at(const packed_size *s, int64_t o, int64_t g)
{
    const int64_t bit = o * s->bits;
    return (packed_spot){g * (s->out * s->bits / 32) + bit / 32, (int)(bit % 32), 1};
}

static void shape(const packed_size *s, int64_t codes[2], int64_t zeros[2])
{
    codes[0] = s->in * s->bits / 32;
    codes[1] = s->out;
    zeros[0] = s->groups;
    zeros[1] = s->out * s->bits / 32;
}

/* A row in memory is a column of words; in those of four bits the even code of a byte changes to the high half. Sixteen words
 * of a column at a time: the lines that they lie in serve the next rows too. */
static void unpack(uint8_t *dst, const uint8_t *words, const packed_size *s, int64_t o0, int64_t o1)
{
    enum { LINES = 16 };
    const int64_t all = s->in * s->bits / 32;
    for (int64_t k0 = 0; k0 < all; k0 += LINES) {
        const int64_t end = all - k0 < LINES ? all : k0 + LINES;
        for (int64_t o = o0; o < o1; o++) {
            for (int64_t k = k0; k < end; k++) {
                uint32_t w = packed_word(words, k * s->out + o);
                if (s->bits == 4) w = (w & 0x0f0f0f0fu) << 4 | (w >> 4 & 0x0f0f0f0fu);
                memcpy(dst + 4 * (o * all + k), &w, sizeof w);
            }
        }
    }
}

static int plus(const model_packed_cfg *c)
{
    return c->v2 ? 0 : 1;
}

static const char *unfit(int bits, int64_t out, int64_t in)
{
    if (in * bits % 32 == 0 && out * bits % 32 == 0) return NULL;
    return "inputs and outputs times bits must fill words of 32";
}

const packed_layout packed_gptq = {.method = "gptq",
                                   .indexed = true,
                                   .code = code_at,
                                   .zero = zero_at,
                                   .shape = shape,
                                   .unpack = unpack,
                                   .plus = plus,
                                   .unfit = unfit};

static ft_status bind(model *m, int64_t i, const void *cfg, bool *done)
{
    return packed_bind(m, i, cfg, &packed_gptq, done);
}

const model_quant model_quant_gptq = {.method = "gptq",
                                      .size = sizeof(model_packed_cfg),
                                      .read = read_config,
                                      .bind = bind,
                                      .writer = &packed_writer_gptq};
