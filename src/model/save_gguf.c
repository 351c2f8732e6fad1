/* save_gguf.c – a model as one GGUF file that llama.cpp loads: metadata, tokenizer, tensors by llama.cpp's names.
 *
 * From a GGUF base every key and every tensor that ft does not know is kept as it is. From a folder the keys are
 * made from config.json, as llama.cpp's converter makes them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ft/token.h"
#include "save_private.h"

/* general.file_type of llama.cpp: the type of most tensors. */
static const struct {
    const char *type;
    int id;
} file_types[] = {{"f32", 0},   {"f16", 1},   {"q4_0", 2},    {"q4_1", 3},    {"q8_0", 7},
                  {"q5_0", 8},  {"q5_1", 9},  {"q2_k", 10},   {"q3_k", 12},   {"q4_k", 15},
                  {"q5_k", 17}, {"q6_k", 18}, {"iq4_nl", 25}, {"iq4_xs", 30}, {"bf16", 32}};

static int file_type(const dt_type *t)
{
    for (size_t i = 0; i < FT_COUNT_OF(file_types); i++)
        if (strcmp(file_types[i].type, t->name) == 0) return file_types[i].id;
    return 0;
}

/* --- tensors ------------------------------------------------------------------------------------------------- */

/* Vectors, norms and position tables stay f32; a row that is no whole number of blocks becomes f16. The matrix of the
 * logits is more sensitive than the rest: below 8 bits it is written in q8_0, where llama.cpp's tool uses q6_k. */
static const dt_type *tensor_type(const save_plan *p, const save_item *it, const dt_type *asked)
{
    if (it->nd == 1 || str_ends(it->name, "_norm.weight") || str_starts(it->name, "position_embd"))
        return &dt_f32;
    model_kind kind = p->m->info[it->param].kind;
    bool logits = kind == T_HEAD || (kind == T_EMBED && p->m->d.tied && !p->untie);
    bool coarse = asked->block > 1 && asked->bytes < asked->block;
    const dt_type *q8 = dt_by_name("q8_0");
    if (logits && coarse && it->dim[1] % q8->block == 0) return q8;
    return it->dim[1] % asked->block == 0 ? asked : &dt_f16;
}

/* Row 2i + j of a head in the file is row j·d/2 + i here. */
static const int32_t *gguf_rows(save_plan *p, int heads)
{
    int d = p->m->d.head_dim;
    int32_t *row = arena_get(p->mem, (size_t)heads * (size_t)d * sizeof *row);
    for (int h = 0; row && h < heads; h++)
        for (int i = 0; i < d / 2; i++)
            for (int j = 0; j < 2; j++) row[h * d + 2 * i + j] = h * d + j * (d / 2) + i;
    return row;
}

static ft_status choose(save_plan *p, const dt_type *type)
{
    const model *m = p->m;
    for (int64_t i = 0; i < p->n; i++) {
        save_item *it = &p->item[i];
        const model_tensor *info = &m->info[it->param];
        it->name = info->gguf_name;
        it->transpose = info->hf_in_out && !m->from_gguf && it->nd == 2;
        if (it->transpose) {
            it->dim[0] = m->param[it->param].t.dim[1];
            it->dim[1] = m->param[it->param].t.dim[0];
        }
        it->type = tensor_type(p, it, type);
        if (info->permute) {
            it->order = gguf_rows(p, info->permute);
            if (!it->order) return FT_EMEM;
        }
    }
    return FT_OK;
}

static bool is_listed(const save_plan *p, const char *name)
{
    for (int64_t i = 0; i < p->n; i++)
        if (strcmp(p->item[i].name, name) == 0) return true;
    return false;
}

/* rope_freqs and the like of a GGUF base. A head that was found equal to the embedding is not one of them. */
static ft_status keep_unknown(save_plan *p)
{
    const io_weights *w = &p->m->weights;
    int64_t room = p->m->n_param + 16 - p->n;
    for (int64_t i = 0; i < w->n; i++) {
        const io_tensor *t = &w->tensor[i];
        if (is_listed(p, t->name) || strcmp(t->name, "output.weight") == 0) continue;
        FT_CHECK(room-- > 0 && t->nd <= 2, FT_EDATA,
                 "%s: tensor \"%s\" is none of a %s model and cannot be carried over",
                 ft_shows(p->m->path), ft_shows(t->name), model_family_name(p->m));
        save_item *it = &p->item[p->n++];
        *it = (save_item){.param = -1, .name = t->name, .type = t->type, .nd = t->nd, .raw = t};
        for (int k = 0; k < t->nd; k++) it->dim[k] = t->dim[k];
    }
    return FT_OK;
}

static int by_rank(const void *a, const void *b)
{
    const save_item *x = a, *y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* The base's order: a file written in its own types is the same file. A tensor that is new comes last. */
static void order_as_base(save_plan *p)
{
    const io_weights *w = &p->m->weights;
    for (int64_t i = 0; i < p->n; i++) {
        const io_tensor *t = io_find(w, p->item[i].name);
        p->item[i].rank = t ? t - w->tensor : w->n + i;
    }
    qsort(p->item, (size_t)p->n, sizeof *p->item, by_rank);
}

/* --- metadata ------------------------------------------------------------------------------------------------- */

typedef struct meta {
    gguf_writer *w;
    const save_plan *p;
    const char *arch;
    float *rope_divisors; /* [rope_half] of llama3 scaling, or NULL */
} meta;

enum { KEY_BYTES = 96 };

static const char *key_of(const meta *k, const char *name, char key[KEY_BYTES])
{
    snprintf(key, KEY_BYTES, "%s.%s", k->arch, name); /* both are ours, and short */
    return key;
}

static void put_u32(const meta *k, const char *name, int64_t v)
{
    char key[KEY_BYTES];
    gguf_put_int(k->w, key_of(k, name, key), GGUF_U32, v);
}

static void put_f32(const meta *k, const char *name, double v)
{
    char key[KEY_BYTES];
    gguf_put_f32(k->w, key_of(k, name, key), (float)v);
}

static ft_status put_llama3(meta *k, const js_doc *d, const cJSON *o, double theta, double factor,
                            double original)
{
    double low, high;
    int half = k->p->m->d.rope_half;
    FT_TRY(js_get_num(d, o, "low_freq_factor", 1.0, &low));
    FT_TRY(js_get_num(d, o, "high_freq_factor", 4.0, &high));
    /* llama.cpp needs the divisors alone; with this the scaling can be told from them again. */
    put_u32(k, "rope.scaling.original_context_length", (int64_t)original);
    k->rope_divisors = arena_get(k->p->mem, (size_t)half * sizeof(float));
    if (!k->rope_divisors) return FT_EMEM;
    rope_llama3_divisors(k->rope_divisors, half, k->p->m->d.head_dim, theta, factor, low, high,
                         original);
    return FT_OK;
}

/* llama.cpp multiplies cos and sin by attn_factor · (1 + 0.1 ln factor); whatever the config says (attention_factor, mscale)
 * has become rope_mscale on opening. */
static ft_status put_yarn(meta *k, const js_doc *d, const cJSON *o, double factor)
{
    double fast, slow, own = factor > 1 ? 1 + 0.1 * log(factor) : 1;
    double attn = (double)k->p->m->d.rope_mscale / own;
    bool truncate;
    FT_TRY(js_get_num(d, o, "beta_fast", 32.0, &fast));
    FT_TRY(js_get_num(d, o, "beta_slow", 1.0, &slow));
    FT_TRY(js_get_bool(d, o, "truncate", true, &truncate));
    if (fast != 32.0 || slow != 1.0) {
        put_f32(k, "rope.scaling.yarn_beta_fast", fast);
        put_f32(k, "rope.scaling.yarn_beta_slow", slow);
        log_warn("config.json: llama.cpp reads yarn's betas from its command line and not from the "
                 "file: run it with --yarn-beta-fast %g --yarn-beta-slow %g",
                 fast, slow);
    }
    if (fabs(attn - 1) > 1e-6) put_f32(k, "rope.scaling.attn_factor", attn);
    if (!truncate) log_warn("config.json: yarn's \"truncate\": false has no key in GGUF");
    return FT_OK;
}

static ft_status put_scaling(meta *k, const js_doc *d, const cJSON *o, double theta)
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
    if (strcmp(type, "llama3") == 0) return put_llama3(k, d, o, theta, factor, original);
    if (strcmp(type, "dynamic") == 0) {
        log_warn(
            "config.json: dynamic rope scaling has no key in GGUF; the file is right up to %lld "
            "tokens",
            (long long)k->p->m->d.max_position);
        return FT_OK;
    }
    char key[KEY_BYTES];
    gguf_put_str(k->w, key_of(k, "rope.scaling.type", key), type, strlen(type));
    put_f32(k, "rope.scaling.factor", factor);
    if (strcmp(type, "yarn") != 0) return FT_OK;
    put_u32(k, "rope.scaling.original_context_length", (int64_t)original);
    return put_yarn(k, d, o, factor);
}

static ft_status put_rope(meta *k, const js_doc *d)
{
    const model_dims *s = &k->p->m->d;
    double theta;
    const cJSON *o = js_get(d->root, "rope_scaling");
    if (!cJSON_IsObject(o)) o = js_get(d->root, "rope_parameters");
    FT_TRY(js_get_num(d, d->root, "rope_theta", 10000.0, &theta));
    if (cJSON_IsObject(o)) FT_TRY(js_get_num(d, o, "rope_theta", theta, &theta));
    put_u32(k, "rope.dimension_count", s->head_dim);
    put_f32(k, "rope.freq_base", theta);
    return cJSON_IsObject(o) ? put_scaling(k, d, o, theta) : FT_OK;
}

static ft_status check_expressible(const save_plan *p)
{
    const model *m = p->m;
    FT_CHECK(m->d.act == kn_act_by_name(m->family->act), FT_EDATA,
             "%s: GGUF has no key for another activation than %s; write a folder",
             ft_shows(m->path), m->family->act);
    FT_CHECK(!(m->family->traits & FAM_QK_NORM) || !m->d.qkv_bias, FT_EDATA,
             "%s: GGUF has no key for attention_bias of a %s model; write a folder",
             ft_shows(m->path), m->family->model_type);
    FT_CHECK(!m->d.scale_by_layer, FT_EDATA,
             "%s: GGUF has no key for scale_attn_by_inverse_layer_idx; write a folder",
             ft_shows(m->path));
    for (int i = 0; i < m->d.n_layer; i++) {
        if (m->d.window[i] == 0 || m->d.window[i] >= m->d.max_position) continue;
        log_warn(
            "%s: llama.cpp ignores the sliding window of %lld tokens of this family; the file is "
            "right up to that length",
            ft_shows(m->path), (long long)m->d.window[i]);
        break;
    }
    return FT_OK;
}

static ft_status put_arch(meta *k, const js_doc *d)
{
    const model *m = k->p->m;
    const model_dims *s = &m->d;
    bool layer_norm = m->family->traits & FAM_LAYER_NORM;
    put_u32(k, "vocab_size", s->vocab_size);
    put_u32(k, "context_length", s->max_position);
    put_u32(k, "embedding_length", s->hidden_size);
    put_u32(k, "block_count", s->n_layer);
    put_u32(k, "feed_forward_length", s->intermediate_size);
    put_u32(k, "attention.head_count", s->n_head);
    if (m->family->traits & FAM_LEARNED_POS) {
        put_f32(k, "attention.layer_norm_epsilon", (double)s->norm_eps);
        return FT_OK;
    }
    put_u32(k, "attention.head_count_kv", s->n_kv);
    put_f32(k, layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
            (double)s->norm_eps);
    put_u32(k, "attention.key_length", s->head_dim);
    put_u32(k, "attention.value_length", s->head_dim);
    return put_rope(k, d);
}

static void put_general(const meta *k, const dt_type *type)
{
    const char *name = path_base(k->p->m->path);
    gguf_put_str(k->w, "general.architecture", k->arch, strlen(k->arch));
    gguf_put_str(k->w, "general.type", "model", strlen("model"));
    gguf_put_str(k->w, "general.name", name, strlen(name));
    gguf_put_int(k->w, "general.file_type", GGUF_U32, file_type(type));
    if (type->block > 1) gguf_put_int(k->w, "general.quantization_version", GGUF_U32, 2);
}

static ft_status put_tokenizer(const meta *k)
{
    tok_tokenizer *t;
    const model *m = k->p->m;
    const char *file = path_join(k->p->mem, m->path, "tokenizer.json");
    const char *other = k->p->opt->tokenizer, *kind = NULL;
    if (!file) return FT_EMEM;
    if (m->from_gguf) FT_TRY(gguf_text(m->weights.gguf, "tokenizer.ggml.model", k->p->mem, &kind));
    bool none = m->from_gguf ? !kind || strcmp(kind, "none") == 0 : m->own || !file_exists(file);
    if (!other && none) {
        if (!m->from_gguf)
            log_warn("%s: no tokenizer.json; the .gguf has no tokenizer", ft_shows(m->path));
        gguf_put_str(k->w, "tokenizer.ggml.model", "none", strlen("none"));
        return FT_OK;
    }
    FT_TRY(other ? tok_open_over(&t, other, m->path) : tok_open(&t, m->path));
    ft_status rc = tok_write_gguf(t, k->w, m->d.vocab_size);
    tok_close(t);
    return rc;
}

static ft_status put_made(meta *k, const dt_type *type)
{
    js_doc d;
    FT_TRY(check_expressible(k->p));
    FT_TRY(js_parse(&d, k->p->m->config, strlen(k->p->m->config), "config.json", 1,
                    JS_ALLOW_NONFINITE, FT_EDATA));
    put_general(k, type);
    ft_status rc = put_arch(k, &d);
    js_close(&d);
    return rc == FT_OK ? put_tokenizer(k) : rc;
}

static void put_type_key(const meta *k, const dt_type *type, bool version)
{
    if (!version)
        gguf_put_int(k->w, "general.file_type", GGUF_U32, file_type(type));
    else if (type->block > 1)
        gguf_put_int(k->w, "general.quantization_version", GGUF_U32, 2);
}

static bool starts(const gguf_str *s, const char *front)
{
    size_t n = strlen(front);
    return s->n >= n && memcmp(s->s, front, n) == 0;
}

static bool other_vocabulary(const save_plan *p)
{
    return p->opt->tokenizer || p->m->file_vocabulary > 0;
}

/* A tokenizer from elsewhere, or one for more rows, takes the place of the file's, and so does the number of tokens. */
static bool is_replaced(const meta *k, const gguf_str *key)
{
    char size[KEY_BYTES];
    key_of(k, "vocab_size", size);
    return other_vocabulary(k->p) &&
           (starts(key, "tokenizer.") || (key->n == strlen(size) && starts(key, size)));
}

static ft_status put_vocabulary(const meta *k)
{
    put_u32(k, "vocab_size", k->p->m->d.vocab_size);
    return put_tokenizer(k);
}

static ft_status put_kept(const meta *k, const dt_type *type)
{
    static const char *const ours[] = {"general.file_type", "general.quantization_version"};
    const gguf_file *g = k->p->m->weights.gguf;
    bool done[] = {false, false};
    for (int64_t i = 0; i < g->n_kv; i++) {
        const gguf_kv *kv = &g->kv[i];
        bool copy = !starts(&kv->key, "split.") && !is_replaced(k, &kv->key);
        for (size_t j = 0; j < FT_COUNT_OF(ours); j++) {
            if (kv->key.n != strlen(ours[j]) || memcmp(kv->key.s, ours[j], kv->key.n) != 0)
                continue;
            copy = false;
            done[j] = true;
            put_type_key(k, type, j == 1);
        }
        if (copy) gguf_put_copy(k->w, kv);
    }
    for (size_t j = 0; j < FT_COUNT_OF(ours); j++)
        if (!done[j]) put_type_key(k, type, j == 1);
    return other_vocabulary(k->p) ? put_vocabulary(k) : FT_OK;
}

/* --- the file --------------------------------------------------------------------------------------------------- */

static ft_status put_gguf(void *ctx, const void *data, size_t n)
{
    return gguf_write(ctx, data, n);
}

static ft_status write_file(save_plan *p, gguf_writer *w, const dt_type *type)
{
    meta k = {.w = w, .p = p, .arch = p->m->family->gguf_arch};
    if (p->m->from_gguf)
        FT_TRY(put_kept(&k, type));
    else
        FT_TRY(put_made(&k, type));
    if (k.rope_divisors)
        gguf_put_tensor(w, "rope_freqs.weight", &dt_f32, 1, (int64_t[]){p->m->d.rope_half});
    for (int64_t i = 0; i < p->n; i++)
        gguf_put_tensor(w, p->item[i].name, p->item[i].type, p->item[i].nd, p->item[i].dim);
    FT_TRY(gguf_write_header(w));
    if (k.rope_divisors)
        FT_TRY(gguf_write(w, k.rope_divisors, (size_t)p->m->d.rope_half * sizeof(float)));
    for (int64_t i = 0; i < p->n; i++) {
        log_progress("writing tensor %lld of %lld", (long long)(i + 1), (long long)p->n);
        FT_TRY(save_bytes(p, &p->item[i], put_gguf, w));
    }
    return FT_OK;
}

ft_status save_gguf(save_plan *p, const char *path)
{
    gguf_writer *w;
    const dt_type *type = p->opt->type;
    if (!type) type = p->m->has_blocks ? &dt_f16 : p->m->dtype;
    FT_CHECK(type->gguf_id >= 0 &&
                 (type->block > 1 || type == &dt_f32 || type == &dt_f16 || type == &dt_bf16),
             FT_EUSAGE, "type %s has no place in a .gguf", type->name);
    FT_TRY(choose(p, type));
    if (p->m->from_gguf) {
        FT_TRY(keep_unknown(p));
        order_as_base(p);
    }
    FT_TRY(gguf_write_open(&w, path));
    ft_status rc = write_file(p, w, type);
    if (rc == FT_OK) return gguf_write_close(w);
    gguf_write_abort(w);
    return rc;
}
