/* rope_gguf.c – rotary positions between config.json and a GGUF: keys of the metadata, and llama3 scaling and longrope, which a
 * GGUF has as a tensor of divisors. */
#include "save_private.h"

#include <math.h>
#include <string.h>

/* --- GGUF → config.json ------------------------------------------------------------------------------------------ */
/* llama3 scaling is told by its four parameters where divisors come out as they are, but for rounding. */
static bool read_llama3(gguf_source *s, cJSON *scaling, const float *have, int64_t half,
                        double theta, int64_t said)
{
    const double originals[] = {(double)(said > 0 ? said : 8192), 8192, 4096, 2048, 16384, 32768};
    float want[MAX_ROPE_HALF], factor = 1.0f;
    for (int64_t i = 0; i < half; i++) factor = have[i] > factor ? have[i] : factor;
    for (size_t k = 0; k < FT_COUNT_OF(originals); k++) {
        double worst = 0.0;
        rope_llama3_divisors(want, (int)half, 2 * (int)half, theta, (double)factor, 1.0, 4.0,
                             originals[k]);
        for (int64_t i = 0; i < half; i++)
            worst = fmax(worst, fabs((double)(want[i] - have[i])) / (double)want[i]);
        if (worst > 2e-6) continue;
        model_gguf_added(s, cJSON_AddStringToObject(scaling, "rope_type", "llama3"));
        model_gguf_added(s, cJSON_AddNumberToObject(scaling, "factor", (double)factor));
        model_gguf_added(s, cJSON_AddNumberToObject(scaling, "low_freq_factor", 1.0));
        model_gguf_added(s, cJSON_AddNumberToObject(scaling, "high_freq_factor", 4.0));
        model_gguf_added(
            s, cJSON_AddNumberToObject(scaling, "original_max_position_embeddings", originals[k]));
        return true;
    }
    return false;
}

static ft_status put_list(gguf_source *s, cJSON *scaling, const char *key, const float *v,
                          int64_t n)
{
    str_buf b = {0};
    for (int64_t i = 0; i < n; i++) {
        str_adds(&b, i ? ", " : "[");
        str_float(&b, v[i]);
    }
    str_addc(&b, ']');
    ft_status rc = str_ok(&b);
    if (rc == FT_OK) model_gguf_added(s, cJSON_AddRawToObject(scaling, key, b.data));
    str_free(&b);
    return rc;
}

/* Any divisors: longrope with the same ones for every length. */
static ft_status read_longrope(gguf_source *s, cJSON *scaling, const float *v, int64_t half,
                               double attention)
{
    int64_t positions;
    FT_TRY(gguf_int(s->g, model_gguf_key(s, "context_length"), 2048, 0, MAX_POSITIONS, &positions));
    model_gguf_added(s, cJSON_AddStringToObject(scaling, "rope_type", "longrope"));
    model_gguf_added(s, cJSON_AddRawToObject(scaling, "factor", "1.0"));
    FT_TRY(put_list(s, scaling, "short_factor", v, half));
    FT_TRY(put_list(s, scaling, "long_factor", v, half));
    model_gguf_added(s, cJSON_AddNumberToObject(scaling, "attention_factor", attention));
    model_gguf_added(
        s, cJSON_AddNumberToObject(scaling, "original_max_position_embeddings", (double)positions));
    return FT_OK;
}

/* rope_freqs.weight: what each frequency is divided by, beside the linear scaling of the metadata. */
static ft_status read_freqs(gguf_source *s, cJSON *o, const io_tensor *t, double theta,
                            int64_t head_dim, int64_t original, double linear)
{
    float v[MAX_ROPE_HALF];
    double attention;
    const void *data;
    const int64_t half = head_dim / 2;
    FT_TRY(gguf_num(s->g, model_gguf_key(s, "rope.scaling.attn_factor"), 1.0, &attention));
    FT_CHECK(t->type->unpack && t->type->block == 1 && t->nd == 1 && t->dim[0] == half &&
                 half <= MAX_ROPE_HALF,
             FT_EDATA,
             "%s: tensor \"rope_freqs.weight\": %lld numbers are needed, one for each "
             "frequency",
             ft_shows(t->file), (long long)half);
    FT_TRY(io_tensor_map(t, &data));
    t->type->unpack(v, data, half);
    io_tensor_unmap(t, data);
    for (int64_t i = 0; i < half; i++) {
        FT_CHECK(v[i] > 0 && isfinite(v[i]), FT_EDATA,
                 "%s: tensor \"rope_freqs.weight\": element %lld is %g, which is no divisor",
                 ft_shows(t->file), (long long)i, (double)v[i]);
        v[i] *= (float)linear;
    }
    cJSON *scaling = model_gguf_added(s, cJSON_AddObjectToObject(o, "rope_scaling"));
    if (attention == 1.0 && read_llama3(s, scaling, v, half, theta, original)) return FT_OK;
    return read_longrope(s, scaling, v, half, attention);
}

/* Keys that are there only when they differ from the defaults of both. llama.cpp's scale of cos and sin is
 * attn_factor · (1 + 0.1 ln factor). */
static ft_status read_yarn(gguf_source *s, cJSON *scaling, double factor)
{
    double fast, slow, attn;
    FT_TRY(gguf_num(s->g, model_gguf_key(s, "rope.scaling.yarn_beta_fast"), 32.0, &fast));
    FT_TRY(gguf_num(s->g, model_gguf_key(s, "rope.scaling.yarn_beta_slow"), 1.0, &slow));
    FT_TRY(gguf_num(s->g, model_gguf_key(s, "rope.scaling.attn_factor"), 1.0, &attn));
    if (fast != 32.0) model_gguf_added(s, cJSON_AddNumberToObject(scaling, "beta_fast", fast));
    if (slow != 1.0) model_gguf_added(s, cJSON_AddNumberToObject(scaling, "beta_slow", slow));
    if (attn != 1.0)
        model_gguf_added(
            s, cJSON_AddNumberToObject(scaling, "attention_factor",
                                       attn * (factor > 1.0 ? 1.0 + 0.1 * log(factor) : 1.0)));
    return FT_OK;
}

ft_status rope_from_gguf(gguf_source *s, cJSON *o, int64_t head_dim)
{
    double theta, factor;
    int64_t original;
    const char *type = NULL;
    const io_tensor *freqs = io_find(s->w, "rope_freqs.weight");
    FT_TRY(gguf_num(s->g, model_gguf_key(s, "rope.freq_base"), 10000.0, &theta));
    FT_TRY(model_gguf_num(s, o, "rope.freq_base", "rope_theta", 10000.0));
    FT_TRY(gguf_text(s->g, model_gguf_key(s, "rope.scaling.type"), s->mem, &type));
    FT_TRY(gguf_num(s->g, model_gguf_key(s, "rope.scaling.factor"), 0.0, &factor));
    FT_TRY(gguf_int(s->g, model_gguf_key(s, "rope.scaling.original_context_length"), 0, 0,
                    MAX_POSITIONS, &original));
    /* llama.cpp's defaults: a factor alone is linear scaling, and has had another key */
    if (!type) type = "linear";
    if (factor == 0.0) FT_TRY(gguf_num(s->g, model_gguf_key(s, "rope.scale_linear"), 1.0, &factor));
    if (strcmp(type, "none") == 0) factor = 1.0;
    const bool linear = factor == 1.0 || strcmp(type, "linear") == 0;
    FT_CHECK(linear || strcmp(type, "yarn") == 0, FT_EDATA,
             "%s: key \"%s.rope.scaling.type\": \"%s\" is not supported", ft_shows(s->g->path),
             s->arch, ft_shows(type));
    FT_CHECK(factor > 0, FT_EDATA, "%s: key \"%s.rope.scaling.factor\": %g is not above 0",
             ft_shows(s->g->path), s->arch, factor);
    if (freqs) {
        FT_CHECK(linear, FT_EDATA,
                 "%s: tensor \"rope_freqs.weight\" beside yarn scaling is not supported",
                 ft_shows(freqs->file));
        return read_freqs(s, o, freqs, theta, head_dim, original, factor);
    }
    if (factor == 1.0) return FT_OK;
    cJSON *scaling = model_gguf_added(s, cJSON_AddObjectToObject(o, "rope_scaling"));
    model_gguf_added(s, cJSON_AddStringToObject(scaling, "rope_type", type));
    model_gguf_added(s, cJSON_AddNumberToObject(scaling, "factor", factor));
    if (original)
        model_gguf_added(s, cJSON_AddNumberToObject(scaling, "original_max_position_embeddings",
                                                    (double)original));
    return strcmp(type, "yarn") == 0 ? read_yarn(s, scaling, factor) : FT_OK;
}

/* --- config.json → GGUF ------------------------------------------------------------------------------------------ */
static ft_status put_llama3(save_meta *k, const model_rope *p, const js_doc *d, const cJSON *o,
                            double theta, double factor, double original)
{
    double low, high;
    int half = p->half;
    FT_TRY(js_get_num(d, o, "low_freq_factor", 1.0, &low));
    FT_TRY(js_get_num(d, o, "high_freq_factor", 4.0, &high));
    /* llama.cpp needs the divisors alone; with this the scaling can be told from them again. */
    save_put_u32(k, "rope.scaling.original_context_length", (int64_t)original);
    k->n_divisors = half;
    k->rope_divisors = arena_get(k->p->mem, (size_t)half * sizeof(float));
    if (!k->rope_divisors) return FT_EMEM;
    rope_llama3_divisors(k->rope_divisors, half, p->head_dim, theta, factor, low, high, original);
    return FT_OK;
}

static ft_status put_longrope(save_meta *k, const model_rope *p, const js_doc *d, const cJSON *o)
{
    k->n_divisors = p->half;
    k->rope_divisors = arena_get(k->p->mem, (size_t)p->half * sizeof(float));
    if (!k->rope_divisors) return FT_EMEM;
    if (p->mscale != 1.0f) save_put_f32(k, "rope.scaling.attn_factor", (double)p->mscale);
    return rope_longrope_divisors(d, o, p->half, k->rope_divisors);
}

/* llama.cpp multiplies cos and sin by attn_factor · (1 + 0.1 ln factor); whatever the config says (attention_factor, mscale)
 * has become rope_mscale on opening. */
static ft_status put_yarn(save_meta *k, const model_rope *p, const js_doc *d, const cJSON *o,
                          double factor)
{
    double fast, slow, own = factor > 1 ? 1 + 0.1 * log(factor) : 1;
    double attn = (double)p->mscale / own;
    bool truncate;
    FT_TRY(js_get_num(d, o, "beta_fast", 32.0, &fast));
    FT_TRY(js_get_num(d, o, "beta_slow", 1.0, &slow));
    FT_TRY(js_get_bool(d, o, "truncate", true, &truncate));
    if (fast != 32.0 || slow != 1.0) {
        save_put_f32(k, "rope.scaling.yarn_beta_fast", fast);
        save_put_f32(k, "rope.scaling.yarn_beta_slow", slow);
        log_warn("config.json: llama.cpp reads yarn's betas from its command line and not from the "
                 "file: run it with --yarn-beta-fast %g --yarn-beta-slow %g",
                 fast, slow);
    }
    if (fabs(attn - 1) > 1e-6) save_put_f32(k, "rope.scaling.attn_factor", attn);
    if (!truncate) log_warn("config.json: yarn's \"truncate\": false has no key in GGUF");
    return FT_OK;
}

static ft_status put_scaling(save_meta *k, const model_rope *p, const js_doc *d, const cJSON *o,
                             double theta)
{
    const char *type = "default";
    double factor, top, original;
    FT_TRY(js_get_num(d, d->root, "original_max_position_embeddings",
                      (double)k->p->m->d.max_position, &top));
    FT_TRY(js_get_str(d, o, "type", type, &type));
    FT_TRY(js_get_str(d, o, "rope_type", type, &type));
    FT_TRY(js_get_num(d, o, "original_max_position_embeddings", top, &original));
    FT_TRY(js_get_num(d, o, "factor", (double)k->p->m->d.max_position / original, &factor));
    if (strcmp(type, "default") == 0) return FT_OK;
    if (strcmp(type, "llama3") == 0) return put_llama3(k, p, d, o, theta, factor, original);
    if (strcmp(type, "longrope") == 0) return put_longrope(k, p, d, o);
    if (strcmp(type, "dynamic") == 0) {
        log_warn(
            "config.json: dynamic rope scaling has no key in GGUF; the file is right up to %lld "
            "tokens",
            (long long)k->p->m->d.max_position);
        return FT_OK;
    }
    save_put_text(k, "rope.scaling.type", type);
    save_put_f32(k, "rope.scaling.factor", factor);
    if (strcmp(type, "yarn") != 0) return FT_OK;
    save_put_u32(k, "rope.scaling.original_context_length", (int64_t)original);
    return put_yarn(k, p, d, o, factor);
}

ft_status rope_to_gguf(save_meta *k, const model_rope *p, const js_doc *d)
{
    double theta;
    const cJSON *o = js_get(d->root, "rope_scaling");
    if (!cJSON_IsObject(o)) o = js_get(d->root, "rope_parameters");
    FT_TRY(js_get_num(d, d->root, "rope_theta", 10000.0, &theta));
    if (cJSON_IsObject(o)) FT_TRY(js_get_num(d, o, "rope_theta", theta, &theta));
    save_put_u32(k, "rope.dimension_count", p->head_dim);
    save_put_f32(k, "rope.freq_base", theta);
    return cJSON_IsObject(o) ? put_scaling(k, p, d, o, theta) : FT_OK;
}
