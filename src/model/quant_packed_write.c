/* quant_packed_write.c – matrices in codes as the tensors of a folder of GPTQ or AWQ, and what its quantization_config says.
 *
 * A matrix comes in the codes that the products read, which is how whoever quantised it has put it into the model; nothing is
 * rounded here. */
#include <string.h>

#include "quant_packed.h"

/* --- a matrix in codes ------------------------------------------------------------------------------------------------ */

/* The size of the groups of g_idx where they are in the order of the columns; 0: they are not. */
static int64_t plain_size(const model_codes *c)
{
    const int64_t size = c->g_idx ? (c->in + c->groups - 1) / c->groups : c->size;
    for (int64_t i = 0; c->g_idx && i < c->in; i++)
        if (c->g_idx[i] != i / size) return 0;
    return size;
}

ft_status model_packed_tensor(tn_tensor *t, const model_codes *c, arena *mem)
{
    const dt_type *type = dt_code_type(c->bits);
    const size_t groups = (size_t)(c->out * c->groups), size = (size_t)plain_size(c);
    size_t bytes = 0;
    FT_CHECK(type && dt_bytes(type, c->out * c->in, &bytes), FT_EINTERNAL, "codes of %d bits",
             c->bits);
    uint8_t *q = arena_raw(mem, bytes), *zero = arena_raw(mem, groups);
    uint16_t *scale = arena_raw(mem, groups * sizeof *scale);
    int32_t *group = size ? NULL : arena_raw(mem, (size_t)c->in * sizeof *group);
    dt_groups *g = arena_get(mem, sizeof *g);
    if (!q || !zero || !scale || !g || (!size && !group)) return FT_EMEM;
    memset(q, 0, bytes);
    dt_codes_put(type, q, 0, c->q, c->out * c->in);
    memcpy(zero, c->zero, groups);
    memcpy(scale, c->scale, groups * sizeof *scale);
    if (group) memcpy(group, c->g_idx, (size_t)c->in * sizeof *group);
    *g = (dt_groups){.cols = c->in,
                     .groups = c->groups,
                     .size = size ? (int64_t)size : 1,
                     .group = group,
                     .dtype = &dt_f16,
                     .scale = scale,
                     .zero = zero,
                     .rows = c->out};
    *t = (tn_tensor){.type = type, .nd = 2, .dim = {c->out, c->in}, .data = q, .side = g};
    return FT_OK;
}

static const packed_layout *layout_of(const model_quant *q)
{
    return strcmp(q->method, packed_awq.method) == 0 ? &packed_awq : &packed_gptq;
}

ft_status model_packed_fits(const model_quant *q, const model_packed_cfg *c, const char *name,
                            int64_t out, int64_t in)
{
    const char *unfit = layout_of(q)->unfit((int)c->bits, out, in);
    FT_CHECK(c->group_size < 0 || in % c->group_size == 0, FT_EDATA,
             "\"%s\": its %lld inputs are no multiple of group_size %lld; choose another one, or "
             "name it in modules_to_not_convert",
             ft_shows(name), (long long)in, (long long)c->group_size);
    FT_CHECK(!unfit, FT_EDATA,
             "\"%s\": a matrix [%lld, %lld] of %d bits has no place in a folder of %s: %s; name it "
             "in modules_to_not_convert",
             ft_shows(name), (long long)out, (long long)in, (int)c->bits, q->method, unfit);
    return FT_OK;
}

/* --- a writer's parts ------------------------------------------------------------------------------------------------- */

static bool is_coded(const model *m, int64_t i)
{
    return dt_code_bits(m->param[i].t.type) > 0;
}

static int parts(const packed_layout *l, const model_packed_cfg *c, int64_t rows, int64_t cols,
                 model_quant_part out[MODEL_QUANT_PARTS])
{
    const int64_t groups = c->group_size < 0 ? 1 : cols / c->group_size;
    const packed_size s = {(int)c->bits, rows, cols, groups};
    const dt_type *i32 = dt_by_name("i32");
    out[PACKED_CODES] = (model_quant_part){".qweight", i32, 2, {0}};
    out[PACKED_ZEROS] = (model_quant_part){".qzeros", i32, 2, {0}};
    out[PACKED_SCALES] = (model_quant_part){".scales", &dt_f16, 2, {groups, rows}};
    out[PACKED_INDEX] = (model_quant_part){".g_idx", i32, 1, {cols}};
    l->shape(&s, out[PACKED_CODES].dim, out[PACKED_ZEROS].dim);
    return l->indexed ? PACKED_INDEX + 1 : PACKED_INDEX;
}

/* The matrix as it is, with zeros as the folder stores them. */
static ft_status code(const packed_layout *l, const model_packed_cfg *c, const tn_tensor *src,
                      const char *name, arena *mem, tn_tensor *out)
{
    const dt_groups *was = src->side;
    FT_CHECK(dt_code_bits(src->type) == c->bits && !src->row_of, FT_EINTERNAL,
             "\"%s\" is not in codes of %lld bits", name, (long long)c->bits);
    const size_t n = (size_t)(was->rows * was->groups);
    dt_groups *g = arena_get(mem, sizeof *g);
    uint8_t *zero = arena_raw(mem, n);
    if (!g || !zero) return FT_EMEM;
    *g = *was;
    g->plus = l->plus(c);
    g->zero = zero;
    for (size_t i = 0; i < n; i++) zero[i] = (uint8_t)(was->zero[i] + was->plus - g->plus);
    *out = *src;
    out->side = g;
    return FT_OK;
}

static void put(uint32_t *words, packed_spot at, int bits, unsigned v)
{
    v &= (1u << bits) - 1;
    words[at.word] |= v << at.shift;
    if (at.shift + bits > 32) words[at.word + at.next] |= v >> (32 - at.shift);
}

typedef struct packing { /* one tensor in the making */
    const packed_layout *l;
    const tn_tensor *coded;
    const dt_groups *g;
    packed_size s;
    uint32_t *words;
} packing;

static void put_codes(const packing *k)
{
    enum { PIECE = 256 };
    uint8_t q[PIECE];
    for (int64_t o = 0; o < k->s.out; o++) {
        for (int64_t i0 = 0; i0 < k->s.in; i0 += PIECE) {
            const int64_t n = k->s.in - i0 < PIECE ? k->s.in - i0 : PIECE;
            dt_codes_get(k->coded->type, q, k->coded->data, o * k->s.in + i0, n);
            for (int64_t i = 0; i < n; i++)
                put(k->words, k->l->code(&k->s, o, i0 + i), k->s.bits, q[i]);
        }
    }
}

static void put_zeros(const packing *k)
{
    for (int64_t o = 0; o < k->s.out; o++)
        for (int64_t g = 0; g < k->s.groups; g++)
            put(k->words, k->l->zero(&k->s, o, g), k->s.bits, k->g->zero[o * k->s.groups + g]);
}

static void put_scales(const packing *k)
{
    uint16_t *to = (uint16_t *)k->words;
    const uint16_t *scale = k->g->scale;
    for (int64_t o = 0; o < k->s.out; o++)
        for (int64_t g = 0; g < k->s.groups; g++) to[g * k->s.out + o] = scale[o * k->s.groups + g];
}

static void put_index(const packing *k)
{
    for (int64_t i = 0; i < k->s.in; i++)
        k->words[i] = (uint32_t)(k->g->group ? k->g->group[i] : i / k->g->size);
}

static ft_status data(const packed_layout *l, const tn_tensor *coded, int part, arena *mem,
                      const void **out)
{
    static void (*const make[])(const packing *) = {[PACKED_CODES] = put_codes,
                                                    [PACKED_ZEROS] = put_zeros,
                                                    [PACKED_SCALES] = put_scales,
                                                    [PACKED_INDEX] = put_index};
    const dt_groups *g = coded->side;
    packing k = {.l = l, .coded = coded, .g = g};
    k.s = (packed_size){dt_code_bits(coded->type), g->rows, g->cols, g->groups};
    int64_t codes[2], zeros[2];
    l->shape(&k.s, codes, zeros);
    const int64_t words[] = {[PACKED_CODES] = codes[0] * codes[1],
                             [PACKED_ZEROS] = zeros[0] * zeros[1],
                             [PACKED_SCALES] = (g->rows * g->groups + 1) / 2,
                             [PACKED_INDEX] = g->cols};
    k.words = arena_raw(mem, (size_t)words[part] * sizeof *k.words);
    if (!k.words) return FT_EMEM;
    memset(k.words, 0, (size_t)words[part] * sizeof *k.words);
    make[part](&k);
    *out = k.words;
    return FT_OK;
}

static void add_flag(str_buf *out, const char *key, bool v)
{
    str_printf(out, ",\n    \"%s\": %s", key, v ? "true" : "false");
}

static void config(const packed_layout *l, const model_packed_cfg *c, str_buf *out)
{
    str_printf(out,
               "{\n    \"quant_method\": \"%s\",\n    \"bits\": %lld,\n    \"group_size\": %lld",
               l->method, (long long)c->bits, (long long)c->group_size);
    if (l == &packed_awq) {
        add_flag(out, "zero_point", c->zero_point);
        str_adds(out, ",\n    \"version\": \"gemm\"");
    } else {
        add_flag(out, "desc_act", c->desc_act);
        add_flag(out, "sym", c->sym);
        str_adds(out, ",\n    \"damp_percent\": ");
        str_double(out, c->damp_percent);
        add_flag(out, "static_groups", c->static_groups);
        add_flag(out, "true_sequential", c->true_sequential);
        str_printf(out, ",\n    \"checkpoint_format\": \"gptq%s\"", c->v2 ? "_v2" : "");
        add_flag(out, "lm_head", false);
    }
    if (l == &packed_awq || c->n_left > 0) {
        str_adds(out, ",\n    \"modules_to_not_convert\": ");
        if (c->n_left == 0) str_adds(out, "null");
        for (int i = 0; i < c->n_left; i++) {
            str_adds(out, i ? ", " : "[");
            str_json(out, c->left[i], strlen(c->left[i]));
        }
        if (c->n_left > 0) str_addc(out, ']');
    }
    str_adds(out, "\n  }");
}

/* Each method has a row, and the rows share all this. */
#define WRITER(kind)                                                                               \
    static int kind##_parts(const void *c, const dt_type *dtype, int64_t rows, int64_t cols,       \
                            model_quant_part out[MODEL_QUANT_PARTS])                               \
    {                                                                                              \
        (void)dtype;                                                                               \
        return parts(&packed_##kind, c, rows, cols, out);                                          \
    }                                                                                              \
    static ft_status kind##_code(const void *c, const dt_type *dtype, const tn_tensor *src,        \
                                 bool turned, const char *name, int64_t rows, int64_t cols,        \
                                 arena *mem, tn_tensor *out)                                       \
    {                                                                                              \
        (void)dtype, (void)turned, (void)rows, (void)cols;                                         \
        return code(&packed_##kind, c, src, name, mem, out);                                       \
    }                                                                                              \
    static ft_status kind##_data(const tn_tensor *coded, int part, arena *mem, const void **out)   \
    {                                                                                              \
        return data(&packed_##kind, coded, part, mem, out);                                        \
    }                                                                                              \
    static void kind##_config(const void *c, const dt_type *dtype, str_buf *out)                   \
    {                                                                                              \
        (void)dtype;                                                                               \
        config(&packed_##kind, c, out);                                                            \
    }                                                                                              \
    const model_quant_writer packed_writer_##kind = {.means = is_coded,                            \
                                                     .parts = kind##_parts,                        \
                                                     .code = kind##_code,                          \
                                                     .data = kind##_data,                          \
                                                     .config = kind##_config,                      \
                                                     .of_module = true};
WRITER(gptq)
WRITER(awq)
