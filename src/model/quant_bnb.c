/* quant_bnb.c – bitsandbytes' nf4 and fp4: folders that it quantised through transformers, and a base that is quantised on
 * loading.
 *
 * A folder has for a matrix P.weight: P.weight (codes), .absmax, .quant_map, .quant_state.bitsandbytes__TYPE (JSON as
 * bytes) and, double quantised, .nested_absmax, .nested_quant_map; bitsandbytes.functional.QuantState.as_dict. What has no
 * quant_state stands there as it is, which is how llm_int8_skip_modules comes out.
 *
 * Quantised are the linear layers of the blocks, as transformers does with BitsAndBytesConfig: not the head, not the
 * embeddings. GPT-2's layers stand turned there, [out, in], as everybody else's. */
#include "quant_bnb.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define INT8                                                                                       \
    "weights of LLM.int8 are not read; use the unquantised folder, or quantise it to 4 bits"
#define OF_INT8 "of LLM.int8"

static const js_key config_keys[] = {
    {"quant_method", JS_READ, NULL, NULL},
    {"load_in_4bit", JS_READ, NULL, NULL},
    {"_load_in_4bit", JS_READ, NULL, NULL},
    {"load_in_8bit", JS_ONLY, "false", INT8},
    {"_load_in_8bit", JS_ONLY, "false", INT8},
    {"bnb_4bit_quant_type", JS_READ, NULL, NULL},
    {"bnb_4bit_use_double_quant", JS_IDLE, NULL, "each matrix has it in its tensors"},
    {"bnb_4bit_quant_storage", JS_IDLE, NULL, "the bytes are the same"},
    {"bnb_4bit_compute_dtype", JS_IDLE, NULL, "train.precision says it"},
    {"llm_int8_skip_modules", JS_IDLE, NULL, "what is not quantised has no quant_state"},
    {"llm_int8_threshold", JS_IDLE, NULL, OF_INT8},
    {"llm_int8_has_fp16_weight", JS_IDLE, NULL, OF_INT8},
    {"llm_int8_enable_fp32_cpu_offload", JS_IDLE, NULL, OF_INT8},
    {NULL, JS_READ, NULL, NULL},
};

static const js_key state_keys[] = {
    {"quant_type", JS_READ, NULL, NULL},
    {"blocksize", JS_READ, NULL, NULL},
    {"dtype", JS_READ, NULL, NULL},
    {"shape", JS_READ, NULL, NULL},
    {"nested_blocksize", JS_READ, NULL, NULL},
    {"nested_offset", JS_READ, NULL, NULL},
    {"nested_dtype", JS_ONLY, "\"float32\"", "scales of scales are f32"},
    {NULL, JS_READ, NULL, NULL},
};

/* --- reading ------------------------------------------------------------------------------------------------------- */
typedef struct folder_cfg {
    const dt_type *type; /* NULL: not said */
} folder_cfg;

static const dt_type *type_of(const char *name)
{
    const dt_type *type = name ? dt_by_name(name) : NULL;
    return type && dt_bnb_codes_of(type) ? type : NULL;
}

static ft_status read_config(const js_doc *d, const cJSON *object, void *cfg)
{
    folder_cfg *c = cfg;
    bool four = false, also = false;
    const char *type = NULL;
    FT_TRY(js_check_keys(d, object, config_keys, FT_EDATA));
    FT_TRY(js_get_bool(d, object, "load_in_4bit", false, &four));
    FT_TRY(js_get_bool(d, object, "_load_in_4bit", false, &also));
    if (!four && !also)
        return js_fail(d, object, FT_EDATA, "quantization_config.load_in_4bit",
                       "is not true, so what the weights are cannot be told");
    FT_TRY(js_get_str(d, object, "bnb_4bit_quant_type", NULL, &type));
    c->type = type_of(type);
    if (type && !c->type)
        return js_fail(d, js_get(object, "bnb_4bit_quant_type"), FT_EDATA,
                       "quantization_config.bnb_4bit_quant_type", "\"%s\" is not nf4 or fp4",
                       ft_shows(type));
    return FT_OK;
}

/* One matrix of a folder while it is bound. */
typedef struct binding {
    model *m;
    int64_t i;
    const io_tensor *codes, *state;
    const dt_type *type;
    dt_bnb *b;
    int64_t out, in;
    js_doc d;
} binding;

/* Its quant_state, of one of the two types. */
static ft_status find_state(binding *k)
{
    const io_tensor *nf4 = model_find_tensor(k->m, k->i, ".quant_state.bitsandbytes__nf4");
    const io_tensor *fp4 = model_find_tensor(k->m, k->i, ".quant_state.bitsandbytes__fp4");
    k->codes = model_find_tensor(k->m, k->i, "");
    k->state = nf4 ? nf4 : fp4;
    k->type = dt_by_name(nf4 ? "nf4" : "fp4");
    FT_CHECK(!nf4 || !fp4, FT_EDATA, "%s: tensor \"%s\" has a quant_state of nf4 and one of fp4",
             ft_shows(nf4->file), ft_shows(k->m->param[k->i].name));
    FT_CHECK(k->state || !k->codes || strcmp(k->codes->type->name, "u8") != 0, FT_EDATA,
             "%s: tensor \"%s\" holds codes, and its quant_state is missing",
             ft_shows(k->codes->file), ft_shows(k->codes->name));
    return FT_OK;
}

static ft_status state_fail(const binding *k, const char *key, const char *must)
{
    return js_fail(&k->d, js_get(k->d.root, key), FT_EDATA, key, "%s", must);
}

static ft_status read_shape(binding *k)
{
    const cJSON *shape = js_get(k->d.root, "shape"), *e;
    int64_t dim[2];
    int n = 0;
    if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) != 2)
        return state_fail(k, "shape", "must be a list of two numbers");
    cJSON_ArrayForEach(e, shape)
    {
        if (!cJSON_IsNumber(e) || e->valuedouble != floor(e->valuedouble))
            return state_fail(k, "shape", "must be a list of two whole numbers");
        dim[n++] = fabs(e->valuedouble) < 0x1p53 ? (int64_t)e->valuedouble : -1;
    }
    FT_CHECK(dim[0] == k->out && dim[1] == k->in, FT_EDATA,
             "%s: shape [%lld, %lld] does not fit the config, which says [%lld, %lld]", k->d.name,
             (long long)dim[0], (long long)dim[1], (long long)k->out, (long long)k->in);
    return FT_OK;
}

static ft_status read_dtype(binding *k)
{
    static const char *const names[][2] = {
        {"float32", "f32"}, {"float16", "f16"}, {"bfloat16", "bf16"}};
    const char *name = NULL;
    FT_TRY(js_get_str(&k->d, k->d.root, "dtype", NULL, &name));
    for (size_t i = 0; name && i < FT_COUNT_OF(names); i++)
        if (strcmp(name, names[i][0]) == 0) k->b->dtype = dt_by_name(names[i][1]);
    return k->b->dtype ? FT_OK : state_fail(k, "dtype", "must be float32, float16 or bfloat16");
}

static ft_status read_state(binding *k)
{
    const cJSON *root = k->d.root;
    const char *type = NULL;
    double offset = (double)NAN;
    FT_CHECK(cJSON_IsObject(root), FT_EDATA, "%s: must be a JSON object", k->d.name);
    FT_TRY(js_check_keys(&k->d, root, state_keys, FT_EDATA));
    FT_TRY(js_get_str(&k->d, root, "quant_type", "", &type));
    if (type_of(type) != k->type)
        return state_fail(k, "quant_type", "is not the type in the tensor's name");
    const folder_cfg *c = k->m->quant_cfg;
    if (c->type && c->type != k->type)
        return state_fail(k, "quant_type", "is not bnb_4bit_quant_type of config.json");
    FT_TRY(js_get_int(&k->d, root, "blocksize", 0, 0, INT64_MAX, &k->b->block_size));
    if (!bnb_is_block_size(k->b->block_size))
        return state_fail(k, "blocksize", "must be a power of two from 32 to 4096");
    FT_TRY(read_dtype(k));
    FT_TRY(read_shape(k));
    FT_TRY(js_get_int(&k->d, root, "nested_blocksize", 0, 0, INT32_MAX, &k->b->nested_size));
    FT_TRY(js_get_num(&k->d, root, "nested_offset", (double)NAN, &offset));
    k->b->offset = (float)offset;
    return FT_OK;
}

static ft_status parse_state(binding *k)
{
    arena *mem = k->m->mem;
    const char *name = arena_printf(mem, "%s: tensor \"%s\"", k->state->file, k->state->name);
    const char *text = arena_strn(mem, k->state->data, k->state->bytes);
    if (!name || !text) return FT_EMEM;
    FT_CHECK(k->state->bytes > 0 && strlen(text) == k->state->bytes, FT_EDATA,
             "%s: is not JSON: it is empty or holds a NUL byte", ft_shows(name));
    FT_TRY(js_parse(&k->d, text, k->state->bytes, name, 1, JS_STRICT, FT_EDATA));
    ft_status rc = read_state(k);
    js_close(&k->d);
    return rc;
}

/* A tensor beside the codes: so many values of a type, where they may be read as such. */
static ft_status beside(const binding *k, const char *suffix, const char *type, int64_t n,
                        const void **out)
{
    const io_tensor *t = model_find_tensor(k->m, k->i, suffix);
    size_t bytes = 0;
    FT_CHECK(t, FT_EDATA, "%s: tensor \"%s%s\" is missing", ft_shows(k->codes->file),
             ft_shows(k->codes->name), suffix);
    FT_CHECK(strcmp(t->type->name, type) == 0 && dt_bytes(t->type, n, &bytes) && t->bytes == bytes,
             FT_EDATA, "%s: tensor \"%s\" must have %lld values of type %s for those of \"%s\"",
             ft_shows(t->file), ft_shows(t->name), (long long)n, type, ft_shows(k->codes->name));
    *out = t->data;
    if ((uintptr_t)t->data % (size_t)t->type->bytes == 0) return FT_OK;
    void *copy = arena_raw(k->m->mem, bytes);
    if (!copy) return FT_EMEM;
    memcpy(copy, t->data, bytes);
    *out = copy;
    return FT_OK;
}

static ft_status bind_scales(binding *k, int64_t n)
{
    dt_bnb *b = k->b;
    const void *p = NULL;
    const bool nested = model_find_tensor(k->m, k->i, ".nested_absmax") != NULL;
    b->blocks = (n + b->block_size - 1) / b->block_size;
    FT_TRY(beside(k, ".quant_map", "f32", 16, &p));
    b->code = p;
    FT_TRY(beside(k, ".absmax", nested ? "u8" : "f32", b->blocks, &p));
    if (!nested) {
        b->absmax = p;
        return FT_OK;
    }
    b->coded = p;
    FT_CHECK(b->nested_size > 0 && isfinite(b->offset), FT_EDATA,
             "%s: tensor \"%s\": nested_blocksize and nested_offset must be numbers, as there is a "
             "nested_absmax",
             ft_shows(k->state->file), ft_shows(k->state->name));
    FT_TRY(beside(k, ".nested_quant_map", "f32", 256, &p));
    b->map = p;
    FT_TRY(
        beside(k, ".nested_absmax", "f32", (b->blocks + b->nested_size - 1) / b->nested_size, &p));
    b->nested = p;
    return FT_OK;
}

bool bnb_is_meant(const model *m, int64_t i)
{
    const nn_site *s = m->info[i].site;
    return s && s->layer >= 0 && !m->info[i].bias && m->param[i].t.nd == 2;
}

static ft_status bind(model *m, int64_t i, const void *cfg, bool *done)
{
    nn_param *p = &m->param[i];
    const nn_site *s = m->info[i].site;
    binding k = {.m = m, .i = i};
    (void)cfg;
    *done = false;
    FT_TRY(find_state(&k));
    if (!k.state) return FT_OK;
    FT_CHECK(s && !m->info[i].bias && p->t.nd == 2, FT_EDATA,
             "%s: tensor \"%s\": \"%s\" is no matrix of a linear layer", ft_shows(k.state->file),
             ft_shows(k.state->name), ft_shows(p->name));
    k.out = s->out;
    k.in = s->in;
    k.b = arena_get(m->mem, sizeof *k.b);
    if (!k.b) return FT_EMEM;
    const int64_t n = k.out * k.in;
    FT_CHECK(k.codes, FT_EDATA, "%s: tensor \"%s\" is missing", ft_shows(k.state->file),
             ft_shows(p->name));
    FT_TRY(parse_state(&k));
    FT_CHECK(k.codes->bytes == (size_t)(n + 1) / 2, FT_EDATA,
             "%s: tensor \"%s\" has %zu bytes; %lld x %lld codes of four bits take %lld",
             ft_shows(k.codes->file), ft_shows(k.codes->name), k.codes->bytes, (long long)k.out,
             (long long)k.in, (long long)(n + 1) / 2);
    FT_TRY(bind_scales(&k, n));
    model_quant_turned(m, i);
    p->t.type = p->file_type = k.type;
    p->t.data = (void *)(uintptr_t)k.codes->data;
    p->t.side = k.b;
    *done = true;
    return FT_OK;
}

/* --- quantising on load ------------------------------------------------------------------------------------------- */
static const cfg_field make_fields[] = {
    {.key = "double_quant",
     .type = CFG_BOOL,
     .offset = offsetof(bnb_cfg, double_quant),
     .def = "true",
     .help = "the scales of blocks are quantised too, to 8 bits"},
    {.key = "block_size",
     .type = CFG_INT,
     .offset = offsetof(bnb_cfg, block_size),
     .def = "64",
     .low = 32,
     .high = 4096,
     .help = "values with one scale: a power of two from 32 to 4096"},
    CFG_END};

static void check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg)
{
    const bnb_cfg *c = cfg;
    char key[64];
    snprintf(key, sizeof key, "%s%sblock_size", path, path[0] ? "." : "");
    if (bnb_is_block_size(c->block_size) || cfg_is_wrong(d, key)) return;
    cfg_fail(d, js_get(object, "block_size"), key,
             "must be a power of two from 32 to 4096, not %lld", (long long)c->block_size);
}

static ft_status make(model *m, int64_t i, const bnb_cfg *cfg, const dt_type *type)
{
    nn_param *p = &m->param[i];
    const nn_site *s = m->info[i].site;
    const tn_tensor was = p->t;
    FT_TRY(bnb_quantise(cfg, type, &dt_f32, m->no_weights ? NULL : &was, s->in_out, p->name, s->out,
                        s->in, m->made, m->mem, &p->t));
    model_quant_turned(m, i);
    return FT_OK;
}

static ft_status make_nf4(model *m, int64_t i, const void *cfg)
{
    return make(m, i, cfg, dt_by_name("nf4"));
}

static ft_status make_fp4(model *m, int64_t i, const void *cfg)
{
    return make(m, i, cfg, dt_by_name("fp4"));
}

const model_quant model_quant_nf4 = {.method = "bitsandbytes",
                                     .type = "nf4",
                                     .help = "bitsandbytes' NormalFloat of 4 bits, for the linear "
                                             "layers of the blocks",
                                     .size = sizeof(folder_cfg),
                                     .read = read_config,
                                     .bind = bind,
                                     .make_fields = make_fields,
                                     .make_size = sizeof(bnb_cfg),
                                     .check = check,
                                     .means = bnb_is_meant,
                                     .make = make_nf4,
                                     .writer = &bnb_writer_nf4};
const model_quant model_quant_fp4 = {.type = "fp4",
                                     .help = "bitsandbytes' floats of 4 bits, for the same",
                                     .make_fields = make_fields,
                                     .make_size = sizeof(bnb_cfg),
                                     .check = check,
                                     .means = bnb_is_meant,
                                     .make = make_fp4,
                                     .writer = &bnb_writer_fp4};
