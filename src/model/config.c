/* config.c – config.json → dimensions: what no part decides, what each layer is made of, then every part's own keys. */
#include "model_private.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

const model_key model_frame_keys[] = {
    {.name = "vocab",
     .hf = "vocab_size",
     .gguf = "vocab_size",
     .type = KEY_INT,
     .at = offsetof(model_dims, vocab_size),
     .def = "32000",
     .low = 1,
     .high = MAX_DIM,
     .flags = KEY_OWN},
    {.name = "hidden",
     .hf = "hidden_size",
     .gguf = "embedding_length",
     .type = KEY_INT,
     .at = offsetof(model_dims, hidden_size),
     .def = "4096",
     .low = 1,
     .high = MAX_DIM,
     .flags = KEY_NEEDED},
    {.name = "layers",
     .hf = "num_hidden_layers",
     .gguf = "block_count",
     .type = KEY_INT,
     .at = offsetof(model_dims, n_layer),
     .def = "32",
     .low = 1,
     .high = MAX_LAYERS,
     .flags = KEY_NEEDED},
    {.name = "positions",
     .hf = "max_position_embeddings",
     .gguf = "context_length",
     .type = KEY_INT,
     .at = offsetof(model_dims, max_position),
     .def = "2048",
     .low = 1,
     .high = MAX_POSITIONS},
    {.name = "eps",
     .hf = "rms_norm_eps",
     .type = KEY_NUM,
     .at = offsetof(model_dims, norm_eps),
     .def = "1e-6"}, /* in a GGUF by the name that the norm has for it */
    {.name = "tied",
     .hf = "tie_word_embeddings",
     .type = KEY_BOOL,
     .at = offsetof(model_dims, tied),
     .def = "false",
     .flags = KEY_OWN},
    /* transformers gives the embedding of most families a padding_idx: its row gets no gradient from the input */
    {.name = "pad_row",
     .hf = "pad_token_id",
     .type = KEY_INT,
     .at = offsetof(model_dims, pad_row),
     .def = "-1",
     .low = -1,
     .high = MAX_DIM,
     .flags = KEY_OWN},
    {0}};

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

/* --- keys ------------------------------------------------------------------------------------------------------ */
static ft_status read_act(const js_doc *d, const model_key *k, const kn_act **out)
{
    static const char *const same[][2] = {
        {"swish", "silu"}, {"gelu_pytorch_tanh", "gelu_new"}, {"gelu_fast", "gelu_new"}};
    const char *act = k->def;
    if (k->hf) FT_TRY(js_get_str(d, d->root, k->hf, k->def, &act));
    const char *name = act;
    for (size_t i = 0; i < FT_COUNT_OF(same); i++)
        if (strcmp(act, same[i][0]) == 0) name = same[i][1];
    *out = kn_act_by_name(name);
    if (*out) return FT_OK;
    return js_fail(d, js_get(d->root, k->hf), FT_EDATA, k->hf, "activation \"%s\" is not known",
                   ft_shows(act));
}

static ft_status read_int(const js_doc *d, const model_key *k, int64_t *out)
{
    int64_t def = strtoll(k->def, NULL, 10);
    bool null = k->hf && cJSON_IsNull(js_get(d->root, k->hf));
    *out = null && (k->flags & KEY_DERIVED) ? 0 : def;
    return k->hf && !null ? js_get_int(d, d->root, k->hf, def, k->low, k->high, out) : FT_OK;
}

static ft_status read_num(const js_doc *d, const model_key *k, double *out)
{
    *out = strtod(k->def, NULL);
    if (!k->hf) return FT_OK;
    FT_TRY(js_get_num(d, d->root, k->hf, *out, out));
    if (!(*out >= 0 && *out <= (double)FLT_MAX))
        return js_fail(d, js_get(d->root, k->hf), FT_EDATA, k->hf,
                       "must be a number from 0 on, not %g", *out);
    return FT_OK;
}

static ft_status read_key(const model *m, const js_doc *d, const model_key *key, void *cfg)
{
    model_key k = family_key(m->family, key);
    void *at = (char *)cfg + k.at;
    switch (k.type) {
    case KEY_INT:
        return read_int(d, &k, at);
    case KEY_NUM:
        return read_num(d, &k, at);
    case KEY_BOOL:
        *(bool *)at = strcmp(k.def, "true") == 0;
        return k.hf ? js_get_bool(d, d->root, k.hf, *(bool *)at, at) : FT_OK;
    default:
        return read_act(d, &k, at);
    }
}

static ft_status read_keys(const model *m, const js_doc *d, const model_key *keys, void *cfg)
{
    for (; keys->name; keys++) FT_TRY(read_key(m, d, keys, cfg));
    return FT_OK;
}

/* --- what layers are made of ------------------------------------------------------------------------------------- */
static ft_status use_part(model *m, const model_part *row, const model_use **out)
{
    for (int i = 0; i < m->n_use; i++) {
        *out = &m->use[i];
        if ((*out)->row == row) return FT_OK;
    }
    FT_CHECK(m->n_use < MODEL_MAX_USES, FT_EINTERNAL, "%s: more than %d kinds of parts",
             m->family->model_type, MODEL_MAX_USES);
    model_use *u = &m->use[m->n_use];
    *u = (model_use){.row = row, .index = m->n_use++};
    u->cfg = arena_get(m->mem, row->cfg_size);
    *out = u;
    return u->cfg ? FT_OK : FT_EMEM;
}

static ft_status block_of(const model *m, const js_doc *d, const cJSON *type,
                          const model_block **out)
{
    const model_block *b = m->family->block;
    *out = b;
    if (!b[1].part[0] || !type) return FT_OK;
    for (; b->part[0]; b++) {
        *out = b;
        if (cJSON_IsString(type) && strcmp(type->valuestring, b->type) == 0) return FT_OK;
    }
    return js_fail(d, type, FT_EDATA, "layer_types", "\"%s\" is no layer of a %s model",
                   ft_shows(cJSON_IsString(type) ? type->valuestring : "(no text)"),
                   m->family->model_type);
}

static ft_status read_blocks(model *m, const js_doc *d)
{
    const cJSON *types = js_get(d->root, "layer_types"), *type = NULL;
    bool several = m->family->block[1].part[0] && cJSON_IsArray(types);
    m->layer = arena_get(m->mem, (size_t)m->d.n_layer * sizeof *m->layer);
    if (!m->layer) return FT_EMEM;
    if (several && cJSON_GetArraySize(types) != m->d.n_layer)
        return js_fail(d, types, FT_EDATA, "layer_types", "%d entries for %lld layers",
                       cJSON_GetArraySize(types), (long long)m->d.n_layer);
    for (int i = 0; i < m->d.n_layer; i++) {
        const model_block *b;
        model_layer *l = &m->layer[i];
        if (several) type = type ? type->next : types->child;
        FT_TRY(block_of(m, d, type, &b));
        l->index = i;
        l->traits = b->traits;
        for (; l->n_sub < MODEL_MAX_SUB && b->part[l->n_sub]; l->n_sub++)
            FT_TRY(use_part(m, b->part[l->n_sub], &l->sub[l->n_sub].use));
    }
    return FT_OK;
}

static ft_status read_parts(model *m, const js_doc *d)
{
    for (int i = 0; i < m->n_use; i++) {
        const model_use *u = &m->use[i];
        FT_TRY(read_keys(m, d, u->row->keys, u->cfg));
        if (u->row->read) FT_TRY(u->row->read(m, u, d));
    }
    return FT_OK;
}

ft_status model_read_config(model *m, const char *text, const char *name, model_end end)
{
    js_doc d = {0};
    ft_status rc;
    FT_TRY(js_parse(&d, text, strlen(text), name, 1, JS_ALLOW_NONFINITE, FT_EDATA));
    FT_GUARD(cJSON_IsObject(d.root), FT_EDATA,
             "%s: not a JSON object; a model's config.json is needed", ft_shows(name));
    FT_TRY_OUT(find_family(m, &d));
    FT_TRY_OUT(model_quant_read(m, &d));
    FT_TRY_OUT(read_keys(m, &d, model_frame_keys, &m->d));
    FT_TRY_OUT(model_read_end(m, &d, end));
    FT_TRY_OUT(read_blocks(m, &d));
    FT_TRY_OUT(model_check_keys(m, &d));
    rc = read_parts(m, &d);
out:
    js_close(&d);
    return rc;
}
