/* part_attention.c – softmax attention with grouped keys and values, rotary positions, windows, norms of heads:
 *
 *   f(x) = o(attention(rope(qkv x)))
 *
 * q, k and v are three matrices or one, as the family names them. */
#include "save_private.h"

#include <math.h>
#include <string.h>

typedef struct attention_cfg {
    int64_t heads, kv_heads, head_dim;
    bool qkv_bias, o_bias, qk_norm;
    bool scaled,
        scale_by_layer; /* scores over √head_dim; those of layer i over i + 1 too (GPT-2) */
    bool use_rope, use_window;
    int64_t window, window_from; /* positions; the first layer that slides */
    int64_t *window_of;          /* [n_layer], 0: full attention */
    model_rope rope;
} attention_cfg;

typedef struct attention {
    nn_group qkv, o;
    nn_param *q_norm, *k_norm;
} attention;

#define AT(member) offsetof(attention_cfg, member)
/* clang-format off */
static const model_key keys[] = {
    {.name = "heads", .hf = "num_attention_heads", .gguf = "attention.head_count", .type = KEY_INT, .at = AT(heads),
     .def = "32", .low = 1, .high = MAX_HEADS, .flags = KEY_NEEDED},
    {.name = "kv_heads", .hf = "num_key_value_heads", .gguf = "attention.head_count_kv", .type = KEY_INT,
     .at = AT(kv_heads), .def = "0", .low = 1, .high = MAX_HEADS, .flags = KEY_DERIVED | KEY_OWN},
    {.name = "head_dim", .hf = "head_dim", .gguf = "attention.key_length", .type = KEY_INT, .at = AT(head_dim),
     .def = "0", .low = 1, .high = KN_HEAD_DIM_MAX, .flags = KEY_DERIVED | KEY_OWN},
    {.name = "qkv_bias", .type = KEY_BOOL, .at = AT(qkv_bias), .def = "false", .gguf_tensor = "blk.0.attn_q.bias"},
    {.name = "o_bias", .type = KEY_BOOL, .at = AT(o_bias), .def = "false"},
    {.name = "qk_norm", .type = KEY_BOOL, .at = AT(qk_norm), .def = "false"},
    {.name = "scaled", .type = KEY_BOOL, .at = AT(scaled), .def = "true"},
    {.name = "scale_by_layer", .type = KEY_BOOL, .at = AT(scale_by_layer), .def = "false"},
    {.name = "rope", .type = KEY_BOOL, .at = AT(use_rope), .def = "true"},
    {.name = "window", .type = KEY_INT, .at = AT(window), .def = "0", .high = MAX_POSITIONS, .flags = KEY_DERIVED},
    {.name = "use_window", .type = KEY_BOOL, .at = AT(use_window), .def = "false"},
    {.name = "window_from", .type = KEY_INT, .at = AT(window_from), .def = "0", .high = MAX_LAYERS},
    {0}
};

enum { Q, K, V, QKV, O, Q_NORM, K_NORM };
static const model_slot slots[] = {
    [Q] = {"q", SLOT_LINEAR, NN_Q, offsetof(attention, qkv), 0},
    [K] = {"k", SLOT_LINEAR, NN_K, offsetof(attention, qkv), 0},
    [V] = {"v", SLOT_LINEAR, NN_V, offsetof(attention, qkv), 0},
    [QKV] = {"qkv", SLOT_LINEAR, NN_QKV, offsetof(attention, qkv), 0},
    [O] = {"o", SLOT_LINEAR, NN_O, offsetof(attention, o), SLOT_RESIDUAL},
    [Q_NORM] = {"q_norm", SLOT_PARAM, NN_NORM, offsetof(attention, q_norm), 0},
    [K_NORM] = {"k_norm", SLOT_PARAM, NN_NORM, offsetof(attention, k_norm), 0},
    {0}
};
/* clang-format on */

#define BIAS(key) .bias = c->key, .bias_key = #key
static model_shape shape(const model *m, const void *cfg, int slot)
{
    const attention_cfg *c = cfg;
    int64_t e = m->d.hidden_size, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    int heads = (int)c->heads, kv_heads = (int)c->kv_heads, d = (int)c->head_dim;
    const model_shape shapes[] = {
        [Q] = {.out = q, .in = e, BIAS(qkv_bias), .heads = heads, .head_dim = d},
        [K] = {.out = kv, .in = e, BIAS(qkv_bias), .heads = kv_heads, .head_dim = d},
        [V] = {.out = kv, .in = e, BIAS(qkv_bias)},
        [QKV] = {.out = q + 2 * kv, .in = e, BIAS(qkv_bias)},
        [O] = {.out = e, .in = q, BIAS(o_bias)},
        [Q_NORM] = {.in = d, .absent = !c->qk_norm},
        [K_NORM] = {.in = d, .absent = !c->qk_norm},
    };
    return shapes[slot];
}

/* --- config.json ------------------------------------------------------------------------------------------------ */
static ft_status derive(const model *m, attention_cfg *c, const js_doc *d)
{
    model_key heads = family_key(m->family, &keys[0]);
    model_key hidden = family_key(m->family, family_find_key(model_frame_keys, "hidden"));
    if (c->kv_heads == 0) c->kv_heads = c->heads;
    if (c->heads % c->kv_heads != 0)
        return js_fail(d, js_get(d->root, "num_key_value_heads"), FT_EDATA, "num_key_value_heads",
                       "%lld attention heads cannot be shared by %lld key/value heads",
                       (long long)c->heads, (long long)c->kv_heads);
    if (c->head_dim > 0) return FT_OK;
    if (m->d.hidden_size % c->heads != 0)
        return js_fail(d, js_get(d->root, heads.hf), FT_EDATA, heads.hf,
                       "%s %lld is not a multiple of %lld heads", hidden.hf,
                       (long long)m->d.hidden_size, (long long)c->heads);
    c->head_dim = m->d.hidden_size / c->heads;
    return FT_OK;
}

static bool is_ours(const model_layer *l, const model_use *u)
{
    for (int k = 0; k < l->n_sub; k++)
        if (l->sub[k].use == u) return true;
    return false;
}

/* Layers that are told by their number say what they are: in another model their number is another. */
static void set_types(model *m, const model_use *u)
{
    const attention_cfg *c = u->cfg;
    for (int64_t i = 0; i < m->d.n_layer; i++)
        if (is_ours(&m->layer[i], u))
            m->layer[i].type = c->window_of[i] > 0 ? "sliding_attention" : "full_attention";
}

/* Which layers slide (Mistral: all; Qwen: from max_window_layers on, if use_sliding_window; layer_types wins). */
static ft_status read_windows(model *m, const model_use *u, const js_doc *d)
{
    attention_cfg *c = u->cfg;
    const cJSON *types = js_get(d->root, "layer_types"), *e;
    const model_key window = family_key(m->family, family_find_key(keys, "window"));
    const model_key from = family_key(m->family, family_find_key(keys, "window_from"));
    int64_t size = c->use_window ? c->window : 0, i = 0;
    c->window_of = arena_get(m->mem, (size_t)m->d.n_layer * sizeof *c->window_of);
    if (!c->window_of) return FT_EMEM;
    if (!window.hf) return FT_OK;
    for (i = 0; i < m->d.n_layer; i++) c->window_of[i] = i >= c->window_from ? size : 0;
    if (!cJSON_IsArray(types)) {
        if (c->use_window && from.hf) set_types(m, u);
        return FT_OK;
    }
    if (cJSON_GetArraySize(types) != m->d.n_layer)
        return js_fail(d, types, FT_EDATA, "layer_types", "%d entries for %lld layers",
                       cJSON_GetArraySize(types), (long long)m->d.n_layer);
    i = 0;
    cJSON_ArrayForEach(e, types)
    {
        const model_layer *l = &m->layer[i++];
        if (!is_ours(l, u)) continue;
        bool sliding = cJSON_IsString(e) && strcmp(e->valuestring, "sliding_attention") == 0;
        if (!sliding && !(cJSON_IsString(e) && strcmp(e->valuestring, "full_attention") == 0))
            return js_fail(d, e, FT_EDATA, "layer_types",
                           "only \"full_attention\" and \"sliding_attention\" are known");
        c->window_of[l->index] = sliding ? size : 0;
    }
    return FT_OK;
}

static ft_status read_cfg(model *m, const model_use *u, const js_doc *d)
{
    attention_cfg *c = u->cfg;
    FT_TRY(derive(m, c, d));
    FT_TRY(read_windows(m, u, d));
    for (int64_t i = 0; i < m->d.n_layer; i++) {
        const int64_t w = c->window_of[i];
        if (w > 0 && w < (m->d.window ? m->d.window : m->d.max_position)) m->d.window = w;
    }
    return c->use_rope ? rope_read(m, &c->rope, (int)c->head_dim, d) : FT_OK;
}

/* --- GGUF ------------------------------------------------------------------------------------------------------- */
static ft_status from_gguf(gguf_source *s, cJSON *o)
{
    model_key heads_key = family_key(s->family, family_find_key(keys, "heads"));
    model_key hidden_key = family_key(s->family, family_find_key(model_frame_keys, "hidden"));
    model_key kv = family_key(s->family, family_find_key(keys, "kv_heads"));
    model_key dim = family_key(s->family, family_find_key(keys, "head_dim"));
    int64_t heads = (int64_t)js_get(o, heads_key.hf)->valuedouble, head_dim;
    int64_t hidden = (int64_t)js_get(o, hidden_key.hf)->valuedouble;
    FT_CHECK(heads > 0, FT_EDATA, "%s: key \"%s.attention.head_count\" is 0", ft_shows(s->g->path),
             s->arch);
    if (kv.hf) FT_TRY(model_gguf_int(s, o, kv.gguf, kv.hf, heads));
    if (!dim.hf) return FT_OK;
    FT_TRY(
        gguf_int(s->g, model_gguf_key(s, dim.gguf), hidden / heads, 1, KN_HEAD_DIM_MAX, &head_dim));
    model_gguf_added(s, cJSON_AddNumberToObject(o, dim.hf, (double)head_dim));
    return rope_from_gguf(s, o, head_dim);
}

static ft_status to_gguf(save_meta *k, const void *cfg, const js_doc *d)
{
    const attention_cfg *c = cfg;
    const model *m = k->p->m;
    FT_CHECK(!c->scale_by_layer, FT_EDATA,
             "%s: GGUF has no key for scale_attn_by_inverse_layer_idx; write a folder",
             ft_shows(m->path));
    if (m->d.window > 0)
        log_warn(
            "%s: llama.cpp ignores the sliding window of %lld tokens of this family; the file is "
            "right up to that length",
            ft_shows(m->path), (long long)m->d.window);
    if (!c->use_rope) return FT_OK;
    save_put_u32(k, "attention.value_length", c->head_dim);
    return rope_to_gguf(k, &c->rope, d);
}

/* --- a pass ------------------------------------------------------------------------------------------------------- */
static ft_status begin(model *m, const model_use *u, nn_run *r, void **shared)
{
    attention_cfg *c = u->cfg;
    rope_view *v = ag_meta(r->t, sizeof *v); /* the backward of a checkpoint reads it too */
    *shared = v;
    if (!v) return FT_EMEM;
    return c->use_rope && !r->t->dry ? rope_open(m, &c->rope, r, v) : FT_OK;
}

static kn_attn rule(const attention_cfg *c, int layer)
{
    float scale = c->scaled ? (float)(1.0 / sqrt((double)c->head_dim)) : 1.0f;
    return (kn_attn){.n_head = (int)c->heads,
                     .n_kv = (int)c->kv_heads,
                     .head_dim = (int)c->head_dim,
                     .scale = scale * (c->scale_by_layer ? 1.0f / (float)(layer + 1) : 1.0f),
                     .window = c->window_of[layer]};
}

/* A layer's share of a page: keys of its positions, then values, [positions, kv_heads · head_dim] each. */
static int64_t state_floats(const void *cfg, int64_t positions)
{
    const attention_cfg *c = cfg;
    return 2 * positions * c->kv_heads * c->head_dim;
}

/* The newest len positions of a sequence into its pages. */
static void keep_rows(const kn_attn *a, float *const *page, int64_t k_len, int64_t len,
                      const float *k, int64_t ld)
{
    const int64_t kv = (int64_t)a->n_kv * a->head_dim;
    for (int64_t p = k_len - len; p < k_len; p++, k += ld) {
        float *to = page[p / a->page_rows] + p % a->page_rows * kv;
        memcpy(to + a->k_at, k, (size_t)kv * sizeof(float));
        memcpy(to + a->v_at, k + kv, (size_t)kv * sizeof(float));
    }
}

/* New tokens of each sequence against all its cached keys, whose tail they become. */
static tn_tensor *cached_attention(const model_call *call, kn_attn a, tn_tensor *qkv)
{
    nn_run *r = call->r;
    const nn_cache *c = r->cache;
    int64_t q = (int64_t)a.n_head * a.head_dim, kv = (int64_t)a.n_kv * a.head_dim,
            ld = tn_cols(qkv);
    tn_tensor *out = ag_new(r->t, r->tokens, q);
    if (!out || r->t->status != FT_OK) return qkv;
    a.q_len = r->rows->len;
    a.n_seq = r->rows->n_seq;
    a.k_len = c->k_len;
    a.page = (const float *const *)c->page;
    a.page_rows = c->rows;
    a.k_at = call->state_at;
    a.v_at = a.k_at + c->rows * kv;
    if (r->t->dry) return out;
    const float *k = tn_f32(qkv) + q;
    float *const *page = c->page;
    for (int i = 0; i < a.n_seq; i++) {
        keep_rows(&a, page, a.k_len[i], a.q_len[i], k, ld);
        page += (a.k_len[i] + a.page_rows - 1) / a.page_rows;
        k += a.q_len[i] * ld;
    }
    const kn_rows paged = {.ld = kv};
    kn_attention(&a, ag_rows_of(out), NULL, ag_rows_of(qkv), paged, paged);
    return out;
}

static tn_tensor *forward(const model_call *call, tn_tensor *x, tn_tensor *add)
{
    nn_run *r = call->r;
    const attention_cfg *c = call->cfg;
    const attention *p = call->part;
    const rope_view *rope = call->shared;
    kn_attn a = rule(c, call->layer);
    tn_tensor *qkv = nn_linear(r, &p->qkv, x, NULL);
    if (p->q_norm) {
        tn_tensor *raw = qkv;
        qkv = ag_head_norm(r->t, raw, nn_value(r, p->q_norm), nn_value(r, p->k_norm), a.n_head,
                           a.n_kv, (float)call->m->d.norm_eps);
        ag_drop(r->t, raw);
    }
    if (c->use_rope)
        qkv = ag_rope(r->t, qkv, a.n_head + a.n_kv, a.head_dim, c->rope.half, rope->cos, rope->sin,
                      rope->pos);
    if (nn_hooks_of(r)->qkv) qkv = nn_hooks_of(r)->qkv(r, call->layer, &a, qkv);
    tn_tensor *y =
        r->cache ? cached_attention(call, a, qkv) : ag_attention(r->t, qkv, &a, ag_fed_type(r->t));
    ag_drop(r->t, qkv);
    return nn_linear(r, &p->o, y, add);
}

static model_flop_count flop(const model *m, const void *cfg, double context)
{
    const attention_cfg *c = cfg;
    double q = (double)(c->heads * c->head_dim), kv = (double)(c->kv_heads * c->head_dim);
    return (model_flop_count){.weights = (double)m->d.hidden_size * (2 * q + 2 * kv),
                              .other = 4 * q * context};
}

const model_part part_attention = {
    .name = "attention",
    .cfg_size = sizeof(attention_cfg),
    .size = sizeof(attention),
    .keys = keys,
    .slots = slots,
    .read = read_cfg,
    .shape = shape,
    .begin = begin,
    .forward = forward,
    .state_floats = state_floats,
    .flop = flop,
    .from_gguf = from_gguf,
    .to_gguf = to_gguf,
};
