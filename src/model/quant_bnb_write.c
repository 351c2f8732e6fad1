/* quant_bnb_write.c – a folder in bitsandbytes' codes, as transformers writes it: the tensors of a matrix, its quant_state
 * and quantization_config.
 *
 * The sizes of all tensors stand in a file before their values are known, so the number of nested_offset is followed by
 * spaces to a fixed width. */
#include <string.h>

#include "quant_bnb.h"

enum { CODES, ABSMAX, MAP, STATE, NESTED, NESTED_MAP, OFFSET_WIDTH = 25 };

static const char *torch_name(const dt_type *dtype)
{
    return dtype == &dt_f16 ? "float16" : dtype == &dt_bf16 ? "bfloat16" : "float32";
}

static void state_text(str_buf *out, const dt_type *type, const dt_type *dtype, int64_t block_size,
                       int64_t rows, int64_t cols, const float *offset)
{
    str_printf(out,
               "{\"quant_type\": \"%s\", \"blocksize\": %lld, \"dtype\": \"%s\", \"shape\": [%lld, "
               "%lld]",
               type->name, (long long)block_size, torch_name(dtype), (long long)rows,
               (long long)cols);
    if (offset) {
        str_printf(out, ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", ", BNB_NESTED);
        str_adds(out, "\"nested_offset\": ");
        const size_t from = out->len;
        str_double(out, (double)*offset);
        while (out->len < from + OFFSET_WIDTH && !out->failed) str_addc(out, ' ');
    }
    str_addc(out, '}');
}

static int parts(const bnb_cfg *c, const dt_type *type, const dt_type *dtype, int64_t rows,
                 int64_t cols, model_quant_part *out)
{
    static const float zero;
    const dt_type *u8 = dt_by_name("u8");
    const int64_t n = rows * cols, blocks = (n + c->block_size - 1) / c->block_size;
    str_buf text = {0};
    state_text(&text, type, dtype, c->block_size, rows, cols, c->double_quant ? &zero : NULL);
    out[CODES] = (model_quant_part){"", u8, 2, {(n + 1) / 2, 1}};
    out[ABSMAX] = (model_quant_part){".absmax", c->double_quant ? u8 : &dt_f32, 1, {blocks}};
    out[MAP] = (model_quant_part){".quant_map", &dt_f32, 1, {16}};
    out[STATE] =
        (model_quant_part){strcmp(type->name, "nf4") == 0 ? ".quant_state.bitsandbytes__nf4"
                                                          : ".quant_state.bitsandbytes__fp4",
                           u8,
                           1,
                           {(int64_t)text.len}};
    const bool whole = str_ok(&text) == FT_OK;
    str_free(&text);
    if (!whole) return 0;
    if (!c->double_quant) return STATE + 1;
    const int64_t scales = (blocks + BNB_NESTED - 1) / BNB_NESTED;
    out[NESTED] = (model_quant_part){".nested_absmax", &dt_f32, 1, {scales}};
    out[NESTED_MAP] = (model_quant_part){".nested_quant_map", &dt_f32, 1, {256}};
    return NESTED_MAP + 1;
}

/* Codes of this kind are written as they are: quantised again their scales would be others. */
static bool is_such(const tn_tensor *t, const bnb_cfg *c, const dt_type *type, const dt_type *dtype)
{
    const dt_bnb *b = t->side;
    return t->type == type && !t->row_of && b->block_size == c->block_size && b->dtype == dtype &&
           c->double_quant == (b->absmax == NULL) &&
           (!c->double_quant || b->nested_size == BNB_NESTED);
}

static ft_status code(const bnb_cfg *c, const dt_type *type, const dt_type *dtype,
                      const tn_tensor *src, bool turned, const char *name, int64_t rows,
                      int64_t cols, arena *mem, tn_tensor *out)
{
    if (!turned && is_such(src, c, type, dtype)) {
        *out = *src;
        return FT_OK;
    }
    return bnb_quantise(c, type, dtype, src, turned, name, rows, cols, mem, mem, out);
}

static ft_status data(const tn_tensor *coded, int part, arena *mem, const void **out)
{
    const dt_bnb *b = coded->side;
    const void *at[] = {
        [CODES] = coded->data, [ABSMAX] = b->absmax ? (const void *)b->absmax : b->coded,
        [MAP] = b->code,       [STATE] = NULL,
        [NESTED] = b->nested,  [NESTED_MAP] = b->map};
    *out = at[part];
    if (part != STATE) return FT_OK;
    str_buf text = {0};
    state_text(&text, coded->type, b->dtype, b->block_size, coded->dim[0], coded->dim[1],
               b->absmax ? NULL : &b->offset);
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) *out = arena_strn(mem, text.data, text.len);
    str_free(&text);
    return rc != FT_OK ? rc : *out ? FT_OK : FT_EMEM;
}

static void config(const bnb_cfg *c, const dt_type *type, const dt_type *dtype, str_buf *out)
{
    str_printf(
        out,
        "{\n    \"_load_in_4bit\": true,\n    \"_load_in_8bit\": false,\n"
        "    \"bnb_4bit_compute_dtype\": \"%s\",\n    \"bnb_4bit_quant_storage\": \"uint8\",\n"
        "    \"bnb_4bit_quant_type\": \"%s\",\n    \"bnb_4bit_use_double_quant\": %s,\n"
        "    \"llm_int8_enable_fp32_cpu_offload\": false,\n"
        "    \"llm_int8_has_fp16_weight\": false,\n    \"llm_int8_skip_modules\": null,\n"
        "    \"llm_int8_threshold\": 6.0,\n    \"load_in_4bit\": true,\n"
        "    \"load_in_8bit\": false,\n    \"quant_method\": \"bitsandbytes\"\n  }",
        torch_name(dtype), type->name, c->double_quant ? "true" : "false");
}

/* Each type has a row, and the rows share all this. */
#define WRITER(kind)                                                                               \
    static int kind##_parts(const void *c, const dt_type *dtype, int64_t rows, int64_t cols,       \
                            model_quant_part out[MODEL_QUANT_PARTS])                               \
    {                                                                                              \
        return parts(c, dt_by_name(#kind), dtype, rows, cols, out);                                \
    }                                                                                              \
    static ft_status kind##_code(const void *c, const dt_type *dtype, const tn_tensor *src,        \
                                 bool turned, const char *name, int64_t rows, int64_t cols,        \
                                 arena *mem, tn_tensor *out)                                       \
    {                                                                                              \
        return code(c, dt_by_name(#kind), dtype, src, turned, name, rows, cols, mem, out);         \
    }                                                                                              \
    static void kind##_config(const void *c, const dt_type *dtype, str_buf *out)                   \
    {                                                                                              \
        config(c, dt_by_name(#kind), dtype, out);                                                  \
    }                                                                                              \
    const model_quant_writer bnb_writer_##kind = {.means = bnb_is_meant,                           \
                                                  .parts = kind##_parts,                           \
                                                  .code = kind##_code,                             \
                                                  .data = data,                                    \
                                                  .config = kind##_config};
WRITER(nf4)
WRITER(fp4)
