/* config.c – config.json → dimensions; the same for the metadata of a GGUF, which is first written as a config.json, so
 * that there is one reader and a GGUF base can be saved as a folder. */
#include "model_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LAYERS = 4096, MAX_HEADS = 4096, MAX_HEAD_DIM = KN_HEAD_DIM_MAX };
static const int64_t MAX_DIM = (int64_t)1 << 22, MAX_POSITIONS = (int64_t)1 << 31;

static ft_status find_family(model *m, const js_doc *d)
{
    const char *type = NULL, *arch = NULL;
    str_buf known = {0};
    const cJSON *archs = js_get(d->root, "architectures");
    FT_TRY(js_get_str(d, d->root, "model_type", NULL, &type));
    if (cJSON_IsArray(archs) && cJSON_IsString(cJSON_GetArrayItem(archs, 0)))
        arch = cJSON_GetArrayItem(archs, 0)->valuestring;
    m->family = family_by_type(type);
    if (m->family) return FT_OK;
    family_list(&known);
    ft_status rc =
        js_fail(d, js_get(d->root, "model_type"), FT_EDATA, "model_type",
                "\"%s\"%s%s%s is not a family that ft knows; it knows %s",
                ft_shows(type ? type : "(none)"), arch ? " (" : "", arch ? ft_shows(arch) : "",
                arch ? ")" : "", known.data ? known.data : "");
    str_free(&known);
    return rc;
}

static ft_status read_sizes(model *m, const js_doc *d)
{
    const model_family *f = m->family;
    model_dims *s = &m->d;
    int64_t layers, heads, kv, head_dim;
    const cJSON *o = d->root;
    FT_TRY(js_get_int(d, o, "vocab_size", f->vocab, 1, MAX_DIM, &s->vocab_size));
    FT_TRY(js_get_int(d, o, f->k_hidden, f->hidden, 1, MAX_DIM, &s->hidden_size));
    FT_TRY(js_get_int(d, o, f->k_layers, f->layers, 1, MAX_LAYERS, &layers));
    FT_TRY(js_get_int(d, o, f->k_heads, f->heads, 1, MAX_HEADS, &heads));
    FT_TRY(js_get_int(d, o, f->k_inter, f->inter ? f->inter : 4 * s->hidden_size, 1, MAX_DIM,
                      &s->intermediate_size));
    FT_TRY(js_get_int(d, o, f->k_max_pos, f->max_pos, 1, MAX_POSITIONS, &s->max_position));
    bool no_kv = !js_get(o, "num_key_value_heads");
    FT_TRY(js_get_int(d, o, "num_key_value_heads", no_kv && f->kv_heads ? f->kv_heads : heads, 1,
                      MAX_HEADS, &kv));
    bool no_dim = !js_get(o, "head_dim");
    if (f->traits & FAM_FUSED_QKV) kv = heads;
    FT_TRY(js_get_int(d, o, "head_dim",
                      no_dim && f->head_dim ? f->head_dim : s->hidden_size / heads, 1, MAX_HEAD_DIM,
                      &head_dim));
    if (heads % kv != 0)
        return js_fail(d, js_get(o, "num_key_value_heads"), FT_EDATA, "num_key_value_heads",
                       "%lld attention heads cannot be shared by %lld key/value heads",
                       (long long)heads, (long long)kv);
    if (!js_get(o, "head_dim") && s->hidden_size % heads != 0 && !f->head_dim)
        return js_fail(d, js_get(o, f->k_heads), FT_EDATA, f->k_heads,
                       "%s %lld is not a multiple of %lld heads", f->k_hidden,
                       (long long)s->hidden_size, (long long)heads);
    s->n_layer = (int)layers;
    s->n_head = (int)heads;
    s->n_kv = (int)kv;
    s->head_dim = (int)head_dim;
    return FT_OK;
}

static ft_status read_rules(model *m, const js_doc *d)
{
    const model_family *f = m->family;
    model_dims *s = &m->d;
    const cJSON *o = d->root;
    const char *act = NULL;
    double eps;
    bool attention_bias = false, mlp_bias = false, scale = true;
    FT_TRY(js_get_num(d, o, f->k_eps, f->eps, &eps));
    FT_TRY(js_get_str(d, o, f->k_act, f->act, &act));
    s->norm_eps = (float)eps;
    s->act = kn_act_by_name(strcmp(act, "swish") == 0 ? "silu"
                            : strcmp(act, "gelu_pytorch_tanh") == 0 || strcmp(act, "gelu_fast") == 0
                                ? "gelu_new"
                                : act);
    if (!s->act)
        return js_fail(d, js_get(o, f->k_act), FT_EDATA, f->k_act, "activation \"%s\" is not known",
                       ft_shows(act));
    FT_TRY(js_get_bool(d, o, "tie_word_embeddings", f->tied, &s->tied));
    /* transformers gives the embedding of these families a padding_idx: its row gets no gradient from the input */
    int64_t pad;
    FT_TRY(js_get_int(d, o, "pad_token_id", -1, -1, MAX_DIM, &pad));
    s->pad_row = f->traits & FAM_LEARNED_POS ? -1 : (int32_t)pad;
    if (f->traits & FAM_BIAS_KEYS) {
        FT_TRY(js_get_bool(d, o, "attention_bias", false, &attention_bias));
        if (!(f->traits & FAM_QK_NORM)) FT_TRY(js_get_bool(d, o, "mlp_bias", false, &mlp_bias));
    }
    bool all = (f->traits & FAM_ALL_BIAS) != 0;
    s->qkv_bias = all || attention_bias || (f->traits & FAM_QKV_BIAS);
    s->o_bias = all || attention_bias;
    s->mlp_bias = all || mlp_bias;
    s->attn_scale = (float)(1.0 / sqrt((double)s->head_dim));
    if (f->traits & FAM_LEARNED_POS) {
        FT_TRY(js_get_bool(d, o, "scale_attn_weights", true, &scale));
        FT_TRY(js_get_bool(d, o, "scale_attn_by_inverse_layer_idx", false, &s->scale_by_layer));
        if (!scale) s->attn_scale = 1.0f;
    }
    return FT_OK;
}

/* Which layers slide (Mistral: all; Qwen: from max_window_layers on, if use_sliding_window; layer_types wins). */
static ft_status read_windows(model *m, const js_doc *d)
{
    const model_family *f = m->family;
    const cJSON *o = d->root, *types = js_get(o, "layer_types");
    int64_t size = 0, from = 0, n_layer = m->d.n_layer;
    bool use = f->window == WINDOW_ALL;
    m->d.window = arena_get(m->mem, (size_t)n_layer * sizeof *m->d.window);
    if (!m->d.window) return FT_EMEM;
    if (f->window == WINDOW_NONE) return FT_OK;
    bool present = js_get(o, "sliding_window") != NULL; /* null: off */
    FT_TRY(
        js_get_int(d, o, "sliding_window", present ? 0 : f->window_size, 0, MAX_POSITIONS, &size));
    if (f->window == WINDOW_FROM_LAYER) {
        FT_TRY(js_get_bool(d, o, "use_sliding_window", false, &use));
        FT_TRY(js_get_int(d, o, "max_window_layers", 28, 0, MAX_LAYERS, &from));
    }
    if (!use) size = 0;
    for (int64_t i = 0; i < n_layer; i++) m->d.window[i] = i >= from ? size : 0;
    if (!cJSON_IsArray(types)) return FT_OK;
    if (cJSON_GetArraySize(types) != n_layer)
        return js_fail(d, types, FT_EDATA, "layer_types", "%d entries for %lld layers",
                       cJSON_GetArraySize(types), (long long)n_layer);
    int64_t i = 0;
    const cJSON *e;
    cJSON_ArrayForEach(e, types)
    {
        bool sliding = cJSON_IsString(e) && strcmp(e->valuestring, "sliding_attention") == 0;
        if (!sliding && !(cJSON_IsString(e) && strcmp(e->valuestring, "full_attention") == 0))
            return js_fail(d, e, FT_EDATA, "layer_types",
                           "only \"full_attention\" and \"sliding_attention\" are known");
        m->d.window[i++] = sliding ? size : 0;
    }
    return FT_OK;
}

ft_status model_read_config(model *m, const char *text, const char *name)
{
    js_doc d = {0};
    ft_status rc;
    FT_TRY(js_parse(&d, text, strlen(text), name, 1, JS_ALLOW_NONFINITE, FT_EDATA));
    FT_GUARD(cJSON_IsObject(d.root), FT_EDATA,
             "%s: not a JSON object; a model's config.json is needed", ft_shows(name));
    FT_TRY_OUT(find_family(m, &d));
    FT_TRY_OUT(model_quant_read(m, &d));
    FT_TRY_OUT(read_sizes(m, &d));
    FT_TRY_OUT(read_rules(m, &d));
    FT_TRY_OUT(read_windows(m, &d));
    if (!(m->family->traits & FAM_LEARNED_POS)) FT_TRY_OUT(rope_read(m, &d, d.root));
out:
    js_close(&d);
    return rc;
}

/* --- GGUF metadata → config.json ------------------------------------------------------------------------ */
typedef struct gguf_source {
    const gguf_file *g;
    const char *arch;
    char key[128];
    bool failed; /* a member of the config could not be added: out of memory */
} gguf_source;

/* A member that is silently missing would be read as its default: every addition is watched. */
static cJSON *added(gguf_source *s, cJSON *item)
{
    s->failed = s->failed || !item;
    return item;
}

static const char *arch_key(gguf_source *s, const char *name)
{
    snprintf(s->key, sizeof s->key, "%s.%s", s->arch, name); /* both are ours, and short */
    return s->key;
}

static ft_status put_int(gguf_source *s, cJSON *o, const char *from, const char *to, int64_t def)
{
    int64_t v;
    FT_TRY(gguf_int(s->g, arch_key(s, from), def, 0, MAX_POSITIONS, &v));
    FT_CHECK(v >= 0, FT_EDATA, "%s: key \"%s\" is missing", ft_shows(s->g->path),
             arch_key(s, from));
    added(s, cJSON_AddNumberToObject(o, to, (double)v));
    return FT_OK;
}

static ft_status put_num(gguf_source *s, cJSON *o, const char *from, const char *to, double def)
{
    double v;
    FT_TRY(gguf_num(s->g, arch_key(s, from), def, &v));
    /* the metadata is f32: print the decimal that was meant (1e-05, not 9.99999974e-06) */
    str_buf b = {0};
    str_float(&b, (float)v);
    if (b.data && !strpbrk(b.data, ".en")) str_adds(&b, ".0"); /* strict readers want a float */
    ft_status rc = str_ok(&b);
    if (rc == FT_OK) added(s, cJSON_AddRawToObject(o, to, b.data));
    str_free(&b);
    return rc;
}

/* rope_freqs.weight holds the divisors of llama3 scaling; its parameters are recovered and proved by recomputing. */
static ft_status put_llama3(gguf_source *s, cJSON *scaling, const io_tensor *freqs, double theta,
                            int64_t head_dim, int64_t said)
{
    const double originals[] = {(double)(said > 0 ? said : 8192), 8192, 4096, 2048, 16384, 32768};
    int64_t half = freqs->dim[0];
    float have[512], want[512], factor = 1.0f;
    FT_CHECK(freqs->type == &dt_f32 && freqs->nd == 1 && half == head_dim / 2 && half <= 512,
             FT_EDATA, "%s: tensor \"rope_freqs.weight\": %lld f32 values expected",
             ft_shows(s->g->path), (long long)head_dim / 2);
    memcpy(have, freqs->data, (size_t)half * sizeof(float));
    for (int64_t i = 0; i < half; i++) factor = have[i] > factor ? have[i] : factor;
    for (size_t k = 0; k < FT_COUNT_OF(originals); k++) {
        double worst = 0.0;
        rope_llama3_divisors(want, (int)half, (int)head_dim, theta, (double)factor, 1.0, 4.0,
                             originals[k]);
        for (int64_t i = 0; i < half; i++)
            worst = fmax(worst, fabs((double)(want[i] - have[i])) / (double)want[i]);
        if (worst > 1e-4) continue;
        added(s, cJSON_AddStringToObject(scaling, "rope_type", "llama3"));
        added(s, cJSON_AddNumberToObject(scaling, "factor", (double)factor));
        added(s, cJSON_AddNumberToObject(scaling, "low_freq_factor", 1.0));
        added(s, cJSON_AddNumberToObject(scaling, "high_freq_factor", 4.0));
        added(s,
              cJSON_AddNumberToObject(scaling, "original_max_position_embeddings", originals[k]));
        return FT_OK;
    }
    return ft_fail(
        FT_EDATA,
        "%s: tensor \"rope_freqs.weight\" is not the scaling of a Llama 3 model that ft knows",
        ft_shows(s->g->path));
}

/* Keys that are there only when they differ from the defaults of both. llama.cpp's scale of cos and sin is
 * attn_factor · (1 + 0.1 ln factor). */
static ft_status put_yarn(gguf_source *s, cJSON *scaling, double factor)
{
    double fast, slow, attn;
    FT_TRY(gguf_num(s->g, arch_key(s, "rope.scaling.yarn_beta_fast"), 32.0, &fast));
    FT_TRY(gguf_num(s->g, arch_key(s, "rope.scaling.yarn_beta_slow"), 1.0, &slow));
    FT_TRY(gguf_num(s->g, arch_key(s, "rope.scaling.attn_factor"), 1.0, &attn));
    if (fast != 32.0) added(s, cJSON_AddNumberToObject(scaling, "beta_fast", fast));
    if (slow != 1.0) added(s, cJSON_AddNumberToObject(scaling, "beta_slow", slow));
    if (attn != 1.0)
        added(s, cJSON_AddNumberToObject(scaling, "attention_factor",
                                         attn * (factor > 1.0 ? 1.0 + 0.1 * log(factor) : 1.0)));
    return FT_OK;
}

static ft_status put_rope(gguf_source *s, cJSON *o, int64_t head_dim, arena *mem)
{
    double theta, factor;
    int64_t original;
    const char *type = NULL;
    const io_tensor *freqs = gguf_find(s->g, "rope_freqs.weight");
    FT_TRY(gguf_num(s->g, arch_key(s, "rope.freq_base"), 10000.0, &theta));
    FT_TRY(put_num(s, o, "rope.freq_base", "rope_theta", 10000.0));
    FT_TRY(gguf_text(s->g, arch_key(s, "rope.scaling.type"), mem, &type));
    FT_TRY(gguf_num(s->g, arch_key(s, "rope.scaling.factor"), 1.0, &factor));
    FT_TRY(gguf_int(s->g, arch_key(s, "rope.scaling.original_context_length"), 0, 0, MAX_POSITIONS,
                    &original));
    if (freqs) {
        return put_llama3(s, added(s, cJSON_AddObjectToObject(o, "rope_scaling")), freqs, theta,
                          head_dim, original);
    }
    if (!type || strcmp(type, "none") == 0 || factor == 1.0) return FT_OK;
    FT_CHECK(strcmp(type, "linear") == 0 || strcmp(type, "yarn") == 0, FT_EDATA,
             "%s: key \"%s.rope.scaling.type\": \"%s\" is not supported", ft_shows(s->g->path),
             s->arch, ft_shows(type));
    cJSON *scaling = added(s, cJSON_AddObjectToObject(o, "rope_scaling"));
    added(s, cJSON_AddStringToObject(scaling, "rope_type", type));
    added(s, cJSON_AddNumberToObject(scaling, "factor", factor));
    if (original)
        added(s, cJSON_AddNumberToObject(scaling, "original_max_position_embeddings",
                                         (double)original));
    return strcmp(type, "yarn") == 0 ? put_yarn(s, scaling, factor) : FT_OK;
}

static ft_status put_token_ids(gguf_source *s, cJSON *o)
{
    const gguf_file *g = s->g;
    static const char *const keys[][2] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                                          {"tokenizer.ggml.eos_token_id", "eos_token_id"},
                                          {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++) {
        int64_t id;
        FT_TRY(gguf_int(g, keys[i][0], -1, -1, MAX_DIM, &id));
        if (id >= 0) added(s, cJSON_AddNumberToObject(o, keys[i][1], (double)id));
    }
    return FT_OK;
}

static ft_status fill_config(gguf_source *s, cJSON *o, arena *mem)
{
    const gguf_file *g = s->g;
    const model_family *f = family_by_gguf(s->arch);
    const io_tensor *embed = gguf_find(g, "token_embd.weight");
    int64_t hidden, heads, head_dim;
    bool rope = !(f->traits & FAM_LEARNED_POS);
    FT_CHECK(
        embed && embed->nd == 2, FT_EDATA,
        "%s: tensor \"token_embd.weight\" is missing: a vocabulary without weights is not a model",
        ft_shows(g->path));
    cJSON *archs = added(s, cJSON_CreateStringArray((const char *[]){f->hf_arch}, 1));
    if (!cJSON_AddItemToObject(o, "architectures", archs)) {
        s->failed = true;
        cJSON_Delete(archs);
    }
    added(s, cJSON_AddStringToObject(o, "model_type", f->model_type));
    added(s, cJSON_AddNumberToObject(o, "vocab_size", (double)embed->dim[0]));
    FT_TRY(put_int(s, o, "embedding_length", f->k_hidden, -1));
    FT_TRY(put_int(s, o, "block_count", f->k_layers, -1));
    FT_TRY(put_int(s, o, "attention.head_count", f->k_heads, -1));
    FT_TRY(put_int(s, o, "feed_forward_length", f->k_inter, -1));
    FT_TRY(put_int(s, o, "context_length", f->k_max_pos, f->max_pos));
    FT_TRY(put_num(s, o, rope ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
                   f->k_eps, f->eps));
    added(s, cJSON_AddStringToObject(o, f->k_act, f->act));
    added(s,
          cJSON_AddBoolToObject(o, "tie_word_embeddings", gguf_find(g, "output.weight") == NULL));
    added(s, cJSON_AddNumberToObject(o, "initializer_range", 0.02));
    FT_CHECK(!s->failed, FT_EMEM, "out of memory");
    hidden = (int64_t)js_get(o, f->k_hidden)->valuedouble;
    heads = (int64_t)js_get(o, f->k_heads)->valuedouble;
    FT_CHECK(heads > 0, FT_EDATA, "%s: key \"%s.attention.head_count\" is 0", ft_shows(g->path),
             s->arch);
    if (rope) {
        FT_TRY(put_int(s, o, "attention.head_count_kv", "num_key_value_heads", heads));
        FT_TRY(gguf_int(g, arch_key(s, "attention.key_length"), hidden / heads, 1, MAX_HEAD_DIM,
                        &head_dim));
        added(s, cJSON_AddNumberToObject(o, "head_dim", (double)head_dim));
        FT_TRY(put_rope(s, o, head_dim, mem));
    }
    if (f->traits & FAM_BIAS_KEYS) {
        added(s, cJSON_AddBoolToObject(o, "attention_bias",
                                       gguf_find(g, "blk.0.attn_q.bias") != NULL));
        if (!(f->traits & FAM_QK_NORM))
            added(s, cJSON_AddBoolToObject(o, "mlp_bias",
                                           gguf_find(g, "blk.0.ffn_gate.bias") != NULL));
    }
    added(s, cJSON_AddBoolToObject(o, "use_cache", true));
    return put_token_ids(s, o);
}

ft_status model_gguf_config(const gguf_file *g, str_buf *out)
{
    ft_status rc;
    arena *mem = NULL;
    cJSON *o = NULL;
    str_buf known = {0};
    gguf_source s = {.g = g};
    FT_TRY(arena_open(&mem, "gguf config", (size_t)4 << 20));
    FT_TRY_OUT(gguf_text(g, "general.architecture", mem, &s.arch));
    family_list(&known);
    FT_GUARD(family_by_gguf(s.arch), FT_EDATA,
             "%s: architecture \"%s\" is not one that ft knows (%s)", ft_shows(g->path),
             ft_shows(s.arch ? s.arch : "(none)"), known.data ? known.data : "");
    o = cJSON_CreateObject();
    FT_GUARD(o, FT_EMEM, "out of memory");
    FT_TRY_OUT(fill_config(&s, o, mem));
    FT_GUARD(!s.failed, FT_EMEM, "out of memory");
    js_print(out, o, true);
    str_addc(out, '\n');
    rc = str_ok(out);
out:
    str_free(&known);
    cJSON_Delete(o);
    arena_close(mem);
    return rc;
}
