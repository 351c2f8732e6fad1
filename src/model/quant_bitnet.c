/* quant_bitnet.c – folders of quant_method "bitnet" (Ma et al. 2024), as transformers has them.
 *
 *   y = Ŵ x̂:  Ŵ = γ · c, c −1, 0 or 1;  x̂ in eight bits, a step for each token
 *
 * online (linear_class "autobitlinear"): W is numbers, a model under training, and c = min(max(round(W / γ), −1), 1) with
 * γ = max(mean|W|, 1e-5) whenever it is used. The products read W through dt_fake, so codes of it are nowhere.
 *
 * offline: P.weight U8 [out / 4, in] holds c + 1 of rows r, r + out/4, r + out/2, r + 3 out/4 in a byte, from the lowest bits
 * on, and P.weight_scale [1] is 1 / γ ("bitlinear", which has no other mode), or γ ("autobitlinear", where P.weight may be
 * numbers −a, 0, a too, and transformers multiplies a bias by it: refused). In memory they are dt_ternary.
 *
 * Meant are the linear layers of the blocks, but for GPT-2's Conv1D. */
#include "model_private.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

extern const model_quant model_quant_bitnet;

typedef struct bitnet_cfg {
    kn_tokens input;
    double eps; /* as it is written */
    bool online;
    bool divides;  /* weight_scale is 1 / γ, and numbers are none */
    bool has_left; /* modules_to_not_convert names some */
} bitnet_cfg;

/* --- keys ----------------------------------------------------------------------------------------------------------- */

static const js_key config_keys[] = {
    {"quant_method", JS_READ, NULL, NULL},
    {"linear_class", JS_ONLY, "\"bitlinear\"|\"autobitlinear\"", "transformers has no other"},
    {"quantization_mode", JS_ONLY, "\"offline\"|\"online\"", "transformers has no other"},
    {"use_rms_norm", JS_READ, NULL, NULL},
    {"rms_norm_eps", JS_READ, NULL, NULL},
    {"modules_to_not_convert", JS_READ, NULL, NULL},
    {NULL, JS_READ, NULL, NULL},
};

/* Which layers are left tells, offline, what their tensors are. */
static ft_status read_left(const js_doc *d, const cJSON *object, bitnet_cfg *c)
{
    const cJSON *left = js_get(object, "modules_to_not_convert");
    if (!left || cJSON_IsNull(left)) return FT_OK;
    if (!cJSON_IsArray(left))
        return js_fail(d, left, FT_EDATA, "quantization_config.modules_to_not_convert",
                       "must be a list of modules, or null");
    c->has_left = cJSON_GetArraySize(left) > 0;
    if (!c->has_left || !c->online) return FT_OK;
    return js_fail(d, left, FT_EDATA, "quantization_config.modules_to_not_convert",
                   "all linear layers of the blocks are rounded: must be null where "
                   "quantization_mode is \"online\"");
}

static ft_status read_config(const js_doc *d, const cJSON *object, void *cfg)
{
    bitnet_cfg *c = cfg;
    const char *layer, *mode;
    FT_TRY(js_check_keys(d, object, config_keys, FT_EDATA));
    FT_TRY(js_get_str(d, object, "linear_class", "bitlinear", &layer));
    FT_TRY(js_get_str(d, object, "quantization_mode", "offline", &mode));
    FT_TRY(js_get_bool(d, object, "use_rms_norm", false, &c->input.norm));
    FT_TRY(js_get_num(d, object, "rms_norm_eps", 1e-6, &c->eps));
    if (!(c->eps >= 0 && c->eps <= (double)FLT_MAX))
        return js_fail(d, js_get(object, "rms_norm_eps"), FT_EDATA,
                       "quantization_config.rms_norm_eps", "must be a number from 0 on, not %g",
                       c->eps);
    c->input.symmetric = true;
    c->input.eps = (float)c->eps;
    c->divides = strcmp(layer, "bitlinear") == 0;
    c->online = !c->divides && strcmp(mode, "online") == 0;
    return read_left(d, object, c);
}

static bool is_rounded(const model *m, const nn_site *s)
{
    return s->layer >= 0 && s->role != NN_EMBED && s->role != NN_POSITION && s->role != NN_HEAD &&
           !m->info[s->w->index].hf_in_out;
}

/* The norm of an input is computed without a gain. */
static ft_status check_gain(const model *m, int64_t i, const bitnet_cfg *c)
{
    const io_tensor *t = c->input.norm ? model_find_beside(m, i, ".rms_norm.weight") : NULL;
    if (!t) return FT_OK;
    bool ones = t->nd == 1 && t->type->unpack && t->type->block == 1;
    for (int64_t k = 0; ones && k < t->dim[0]; k++) {
        float one;
        t->type->unpack(&one, (const char *)t->data + k * t->type->bytes, 1);
        ones = one == 1.0f;
    }
    FT_CHECK(ones, FT_EDATA,
             "%s: tensor \"%s\": gains of use_rms_norm that are not 1 are not computed",
             ft_shows(t->file), ft_shows(t->name));
    return FT_OK;
}

/* --- offline ---------------------------------------------------------------------------------------------------------- */

typedef struct packing { /* of a matrix */
    const io_tensor *t;
    int64_t out, in;
    float size; /* a of numbers −a, 0, a; 0: they are packed */
    uint8_t *rows;
    atomic_llong wrong; /* the first element that is none of the three */
} packing;

static void note_wrong(packing *k, long long at)
{
    long long old = atomic_load(&k->wrong);
    while (at < old && !atomic_compare_exchange_weak(&k->wrong, &old, at)) {
    }
}

static void codes_of_packed(const packing *k, uint8_t *code, int64_t o)
{
    const int64_t quarter = k->out / 4;
    const uint8_t *from = (const uint8_t *)k->t->data + o % quarter * k->in;
    const int shift = 2 * (int)(o / quarter);
    int64_t i = 0;
    for (; i + 8 <= k->in; i += 8) {
        uint64_t w;
        memcpy(&w, from + i, sizeof w);
        w = w >> shift & 0x0303030303030303u;
        memcpy(code + i, &w, sizeof w);
    }
    for (; i < k->in; i++) code[i] = from[i] >> shift & 3;
}

static void codes_of_numbers(const packing *k, uint8_t *code, int64_t o)
{
    enum { PIECE = 256 };
    float v[PIECE];
    for (int64_t i0 = 0; i0 < k->in; i0 += PIECE) {
        const int64_t n = k->in - i0 < PIECE ? k->in - i0 : PIECE;
        dt_read(k->t->type, v, &(dt_data){.data = k->t->data}, o * k->in + i0, n);
        for (int64_t i = 0; i < n; i++)
            code[i0 + i] = v[i] == 0 ? 1 : v[i] == k->size ? 2 : v[i] == -k->size ? 0 : 3;
    }
}

enum { PACK_ROWS = 64 };

static void pack_rows(void *ctx, int64_t tile, int thread)
{
    packing *k = ctx;
    const int64_t first = tile * PACK_ROWS,
                  end = k->out - first < PACK_ROWS ? k->out : first + PACK_ROWS;
    uint8_t *code = pool_scratch(thread, 3, (size_t)k->in);
    for (int64_t o = first; code && o < end; o++) {
        const uint8_t *three;
        (k->size > 0 ? codes_of_numbers : codes_of_packed)(k, code, o);
        three = memchr(code, 3, (size_t)k->in);
        if (three) note_wrong(k, o * k->in + (three - code));
        dt_trits_put(k->rows + o * dt_trits_row(k->in), code, k->in);
    }
}

static int64_t count_of(const io_tensor *t)
{
    return (int64_t)(t->bytes / (size_t)t->type->bytes);
}

/* |v| of the first of the numbers that is not 0; 1 where all are. */
static float first_size(const io_tensor *t)
{
    float v = 0;
    for (int64_t i = 0; v == 0 && i < count_of(t); i++)
        dt_read(t->type, &v, &(dt_data){.data = t->data}, i, 1);
    return v == 0 ? 1.0f : fabsf(v);
}

/* Numbers that are all −a, 0 or a. */
static bool is_ternary(const io_tensor *t)
{
    const float size = first_size(t);
    float v = 0;
    for (int64_t i = 0; (v == 0 || fabsf(v) == size) && i < count_of(t); i++)
        dt_read(t->type, &v, &(dt_data){.data = t->data}, i, 1);
    return v == 0 || fabsf(v) == size;
}

static ft_status pack(packing *k)
{
    atomic_store(&k->wrong, LLONG_MAX);
    pool_run(pack_rows, k, (k->out + PACK_ROWS - 1) / PACK_ROWS);
    FT_CHECK(!pool_failed(), FT_EMEM, "out of memory while reading \"%s\"", ft_shows(k->t->name));
    const long long at = atomic_load(&k->wrong);
    FT_CHECK(at == LLONG_MAX, FT_EDATA, "%s: tensor \"%s\": [%lld, %lld] is %s",
             ft_shows(k->t->file), ft_shows(k->t->name), at / k->in, at % k->in,
             k->size > 0 ? "not one of the three values −a, 0 and a that offline weights have"
                         : "code 3, which stands for no value");
    file_map_forget(k->t->data, k->t->bytes);
    return ft_stop();
}

static bool is_packed(const io_tensor *t)
{
    return strcmp(t->type->name, "u8") == 0;
}

static bool is_number(const io_tensor *t)
{
    return t->type == &dt_f32 || t->type == &dt_f16 || t->type == &dt_bf16;
}

static ft_status check_matrix(const io_tensor *t, const nn_site *s, const bitnet_cfg *c)
{
    const bool packed = is_packed(t);
    FT_CHECK(packed || (is_number(t) && !c->divides), FT_EDATA,
             "%s: tensor \"%s\": dtype %s must be u8%s", ft_shows(t->file), ft_shows(t->name),
             t->type->name, c->divides ? " (linear_class \"bitlinear\")" : ", f32, f16 or bf16");
    FT_CHECK(!packed || s->out % 4 == 0, FT_EDATA,
             "%s: tensor \"%s\": %lld outputs are no multiple of 4, as packing wants",
             ft_shows(t->file), ft_shows(t->name), (long long)s->out);
    const int64_t rows = packed ? s->out / 4 : s->out;
    FT_CHECK(t->nd == 2 && t->dim[0] == rows && t->dim[1] == s->in, FT_EDATA,
             "%s: tensor \"%s\": its shape does not fit the config, by which it is [%lld, %lld]",
             ft_shows(t->file), ft_shows(t->name), (long long)rows, (long long)s->in);
    return FT_OK;
}

static ft_status read_scale(const io_tensor *t, const bitnet_cfg *c, float *scale)
{
    float v;
    FT_CHECK(is_number(t) && (t->nd == 0 || (t->nd == 1 && t->dim[0] == 1)), FT_EDATA,
             "%s: tensor \"%s\" must be one number in f32, f16 or bf16", ft_shows(t->file),
             ft_shows(t->name));
    dt_read(t->type, &v, &(dt_data){.data = t->data}, 0, 1);
    *scale = c->divides ? 1.0f / v : v;
    FT_CHECK(v != 0 && isfinite(v) && isfinite(*scale), FT_EDATA,
             "%s: tensor \"%s\" is %g, which scales nothing", ft_shows(t->file), ft_shows(t->name),
             (double)v);
    return FT_OK;
}

/* What the matrices of the files take in rows. */
static ft_status open_made(model *m)
{
    size_t bytes = 4096;
    if (m->made) return FT_OK;
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *s = &m->site[i];
        const io_tensor *t = is_rounded(m, s) ? model_find_tensor(m, s->w->index, "") : NULL;
        if (t && t->nd == 2 && t->dim[1] == s->in && t->dim[0] <= s->out)
            bytes += (size_t)(4 * t->dim[0] * dt_trits_row(s->in)) + 4096;
    }
    return arena_open(&m->made, "ternary codes in rows", bytes);
}

static ft_status bind(model *m, int64_t i, const void *cfg, bool *done)
{
    const bitnet_cfg *c = cfg;
    nn_param *p = &m->param[i];
    nn_site *s = m->info[i].site;
    *done = false;
    if (c->online || !s || s->w != p || !is_rounded(m, s)) return FT_OK;
    const io_tensor *t = model_find_tensor(m, i, ""),
                    *scale = model_find_beside(m, i, ".weight_scale");
    if (!t || (c->has_left && !scale && is_number(t) && !is_ternary(t))) return FT_OK;
    FT_TRY(check_matrix(t, s, c));
    FT_CHECK(scale, FT_EDATA, "%s: tensor \"%.*s.weight_scale\" is missing, and \"%s\" is there",
             ft_shows(t->file), model_module_length(m, i), ft_shows(p->name), ft_shows(t->name));
    FT_TRY(open_made(m));
    dt_trits *side = arena_get(m->mem, sizeof *side);
    nn_fake *fake = arena_get(m->mem, sizeof *fake);
    packing k = {.t = t, .out = s->out, .in = s->in};
    k.rows = arena_raw(m->made, (size_t)(s->out * dt_trits_row(s->in)));
    if (!side || !fake || !k.rows) return FT_EMEM;
    *side = (dt_trits){.rows = s->out, .cols = s->in};
    FT_TRY(read_scale(scale, c, &side->scale));
    if (!is_packed(t)) {
        k.size = first_size(t);
        side->scale *= k.size;
        FT_CHECK(isfinite(side->scale) && side->scale != 0, FT_EDATA,
                 "%s: tensor \"%s\": its values times weight_scale are no numbers",
                 ft_shows(t->file), ft_shows(t->name));
    }
    if (!m->no_weights) FT_TRY(pack(&k));
    *fake = (nn_fake){.on = true, .input = &c->input};
    s->fake = fake;
    p->t.type = p->file_type = &dt_ternary;
    p->t.data = k.rows;
    p->t.side = side;
    *done = true;
    return FT_OK;
}

/* --- online ----------------------------------------------------------------------------------------------------------- */

typedef struct job {
    const model *m;
    const tn_tensor *plain; /* [n_site] W as it is */
} job;

static void take_step(void *ctx, int64_t i, int thread)
{
    const job *j = ctx;
    const tn_tensor *w = &j->plain[i];
    static const kn_first_step mean = {
        .mean = true, .factor = 1.0f, .divisor = 1.0f, .least = 1e-5f};
    (void)thread;
    if (w->data) kn_fake_steps(j->m->site[i].w->t.side, w->data, w->dim[0], w->dim[1], &mean);
}

static ft_status round_site(model *m, nn_site *s, const kn_tokens *input)
{
    tn_tensor *w = &s->w->t;
    dt_steps *steps = arena_get(m->mem, sizeof *steps);
    float *step = arena_get(m->mem, sizeof *step);
    nn_fake *fake = arena_get(m->mem, sizeof *fake);
    if (!steps || !step || !fake) return FT_EMEM;
    FT_CHECK(w->type == &dt_f32 || w->type == &dt_f16 || w->type == &dt_bf16, FT_EDATA,
             "%s: tensor \"%s\" holds no numbers (%s), as \"online\" weights are",
             ft_shows(m->path), s->w->name, w->type->name);
    *steps = (dt_steps){
        .type = w->type, .step = step, .group = s->in * s->out, .low = -1.0f, .high = 1.0f};
    *fake = (nn_fake){.on = true, .input = input};
    s->fake = fake;
    w->type = &dt_fake;
    w->side = steps;
    return FT_OK;
}

void model_unround(model *m)
{
    for (int64_t i = 0; i < m->n_site; i++) {
        tn_tensor *w = &m->site[i].w->t;
        if (w->type != &dt_fake) continue;
        w->type = ((const dt_steps *)w->side)->type;
        w->side = NULL;
        m->site[i].fake = NULL;
    }
}

static ft_status round_all(model *m, const bitnet_cfg *c)
{
    tn_tensor *plain = ft_alloc((size_t)m->n_site + 1, sizeof *plain);
    ft_status rc = plain ? FT_OK : FT_EMEM;
    for (int64_t i = 0; rc == FT_OK && i < m->n_site; i++) {
        if (!is_rounded(m, &m->site[i])) continue;
        plain[i] = m->site[i].w->t;
        rc = round_site(m, &m->site[i], &c->input);
    }
    if (rc == FT_OK && !m->no_weights)
        pool_run(take_step, &(job){.m = m, .plain = plain}, m->n_site);
    ft_free(plain);
    return rc;
}

static ft_status bound(model *m, const void *cfg)
{
    const bitnet_cfg *c = cfg;
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *s = &m->site[i];
        if (!is_rounded(m, s)) continue;
        FT_TRY(check_gain(m, s->w->index, c));
        if (c->online) continue;
        FT_CHECK(!s->fake == !s->lead->fake, FT_EDATA,
                 "%s: \"%s\" and \"%s\" have one input, and modules_to_not_convert leaves one of "
                 "the two; such a model is not computed",
                 ft_shows(m->path), ft_shows(s->lead->path), ft_shows(s->path));
        FT_CHECK(
            c->divides || !s->fake || !s->b, FT_EDATA,
            "%s: \"%s\" has a bias, which transformers multiplies by weight_scale where "
            "linear_class is \"autobitlinear\" and quantization_mode \"offline\"; such a model "
            "is not computed",
            ft_shows(m->path), ft_shows(s->path));
    }
    return c->online ? round_all(m, c) : FT_OK;
}

/* --- packed folders ------------------------------------------------------------------------------------------------- */

enum { PART_CODES, PART_SCALE, PARTS };

static bool is_coded(const model *m, int64_t i)
{
    const dt_type *type = m->param[i].t.type;
    return type == &dt_ternary || type == &dt_fake;
}

static ft_status fits(const model *m, const model_save_options *opt)
{
    const bitnet_cfg *c = m->quant_cfg;
    FT_CHECK(m->quant == &model_quant_bitnet, FT_EDATA,
             "%s: is no BitNet model, and one that was not trained with its weights rounded to "
             "three values is lost by it; train it with model.qat {\"type\": \"bitnet\"} first",
             ft_shows(m->path));
    FT_CHECK(!opt->fold.fold, FT_EUSAGE,
             "--type: what an adapter adds to a BitNet model has no place in ternary codes; use "
             "--type bf16, or the adapter as it is");
    FT_CHECK(!c->has_left, FT_EDATA,
             "%s: modules_to_not_convert of its quantization_config names layers, which a folder "
             "of --type bitnet has no place for",
             ft_shows(m->path));
    for (int64_t i = 0; i < m->n_param; i++)
        FT_CHECK(!is_coded(m, i) || m->param[i].t.dim[0] % 4 == 0, FT_EDATA,
                 "%s: tensor \"%s\" has %lld outputs, no multiple of 4, as packing wants",
                 ft_shows(m->path), ft_shows(m->param[i].name), (long long)m->param[i].t.dim[0]);
    return FT_OK;
}

static int parts(const void *cfg, const dt_type *dtype, int64_t rows, int64_t cols,
                 model_quant_part out[MODEL_QUANT_PARTS])
{
    (void)cfg, (void)dtype;
    out[PART_CODES] = (model_quant_part){".weight", dt_by_name("u8"), 2, {rows / 4, cols}};
    out[PART_SCALE] = (model_quant_part){".weight_scale", &dt_f32, 1, {1}};
    return PARTS;
}

/* Rounded weights as codes. */
static ft_status code(const void *cfg, const dt_type *dtype, const tn_tensor *src, bool turned,
                      const char *name, int64_t rows, int64_t cols, arena *mem, tn_tensor *out)
{
    (void)cfg, (void)dtype, (void)turned;
    *out = *src;
    if (src->type == &dt_ternary) return FT_OK;
    const dt_steps *steps = src->side;
    const int64_t bytes = dt_trits_row(cols);
    uint8_t *to = arena_raw(mem, (size_t)(rows * bytes)), *codes = arena_raw(mem, (size_t)cols);
    float *v = arena_raw(mem, (size_t)cols * sizeof *v);
    dt_trits *side = arena_get(mem, sizeof *side);
    if (!to || !codes || !v || !side) return FT_EMEM;
    for (int64_t r = 0; r < rows; r++) {
        tn_unpack_rows(v, src, r, 1);
        for (int64_t i = 0; i < cols; i++) codes[i] = v[i] > 0 ? 2 : v[i] < 0 ? 0 : 1;
        dt_trits_put(to + r * bytes, codes, cols);
    }
    *side = (dt_trits){.rows = rows, .cols = cols, .scale = *steps->step};
    FT_CHECK(isfinite(side->scale), FT_EDATA, "tensor \"%s\" holds a value that is no number",
             ft_shows(name));
    *out = (tn_tensor){.type = &dt_ternary, .nd = 2, .dim = {rows, cols}, .data = to, .side = side};
    return FT_OK;
}

static ft_status data(const tn_tensor *coded, int part, arena *mem, const void **out)
{
    const dt_trits *t = coded->side;
    const int64_t quarter = t->rows / 4, bytes = dt_trits_row(t->cols);
    if (part == PART_SCALE) {
        float *scale = arena_get(mem, sizeof *scale);
        if (!scale) return FT_EMEM;
        *scale = 1.0f / t->scale;
        *out = scale;
        return FT_OK;
    }
    uint8_t *to = arena_raw(mem, (size_t)(quarter * t->cols)),
            *codes = arena_raw(mem, (size_t)t->cols);
    if (!to || !codes) return FT_EMEM;
    memset(to, 0, (size_t)(quarter * t->cols));
    for (int64_t o = 0; o < 4 * quarter; o++) {
        uint8_t *row = to + o % quarter * t->cols;
        dt_trits_get(codes, (const uint8_t *)coded->data + o * bytes, 0, t->cols);
        for (int64_t i = 0; i < t->cols; i++)
            row[i] = (uint8_t)(row[i] | codes[i] << 2 * (o / quarter));
    }
    *out = to;
    return FT_OK;
}

static void config(const void *cfg, const dt_type *dtype, str_buf *out)
{
    const bitnet_cfg *c = cfg;
    (void)dtype;
    str_printf(out,
               "{\n    \"quant_method\": \"bitnet\",\n    \"linear_class\": \"bitlinear\",\n    "
               "\"quantization_mode\": \"offline\",\n    \"use_rms_norm\": %s,\n    "
               "\"rms_norm_eps\": ",
               c->input.norm ? "true" : "false");
    str_double(out, c->eps);
    str_adds(out, ",\n    \"modules_to_not_convert\": null\n  }");
}

static const model_quant_writer writer = {.means = is_coded,
                                          .parts = parts,
                                          .code = code,
                                          .data = data,
                                          .config = config,
                                          .fits = fits,
                                          .of_module = true,
                                          .of_base = true};

const model_quant model_quant_bitnet = {
    .method = "bitnet",
    .size = sizeof(bitnet_cfg),
    .read = read_config,
    .bind = bind,
    .bound = bound,
    .writer = &writer,
};
