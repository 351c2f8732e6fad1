/* gguf_config.c – the metadata of a GGUF as a config.json, so that there is one reader of dimensions and a GGUF base can be
 * saved as a folder. */
#include "model_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A member that is silently missing would be read as its default: every addition is watched. */
cJSON *model_gguf_added(gguf_source *s, cJSON *item)
{
    s->failed = s->failed || !item;
    return item;
}

const char *model_gguf_key(gguf_source *s, const char *name)
{
    snprintf(s->key, sizeof s->key, "%s.%s", s->arch, name); /* both are ours, and short */
    return s->key;
}

ft_status model_gguf_int(gguf_source *s, cJSON *o, const char *from, const char *to, int64_t def)
{
    int64_t v;
    FT_TRY(gguf_int(s->g, model_gguf_key(s, from), def, 0, MAX_POSITIONS, &v));
    FT_CHECK(v >= 0, FT_EDATA, "%s: key \"%s\" is missing", ft_shows(s->g->path),
             model_gguf_key(s, from));
    model_gguf_added(s, cJSON_AddNumberToObject(o, to, (double)v));
    return FT_OK;
}

ft_status model_gguf_num(gguf_source *s, cJSON *o, const char *from, const char *to, double def)
{
    double v;
    FT_TRY(gguf_num(s->g, model_gguf_key(s, from), def, &v));
    /* the metadata is f32: print the decimal that was meant (1e-05, not 9.99999974e-06) */
    str_buf b = {0};
    str_float(&b, (float)v);
    if (b.data && !strpbrk(b.data, ".en")) str_adds(&b, ".0"); /* strict readers want a float */
    ft_status rc = str_ok(&b);
    if (rc == FT_OK) model_gguf_added(s, cJSON_AddRawToObject(o, to, b.data));
    str_free(&b);
    return rc;
}

/* --- keys ------------------------------------------------------------------------------------------------------ */
static ft_status put_key(gguf_source *s, cJSON *o, const model_key *key)
{
    model_key k = family_key(s->family, key);
    if (!k.hf || (k.flags & KEY_OWN) || js_get(o, k.hf)) return FT_OK;
    switch (k.type) {
    case KEY_INT:
        if (!k.gguf) return FT_OK;
        return model_gguf_int(s, o, k.gguf, k.hf,
                              k.flags & KEY_NEEDED ? -1 : strtoll(k.def, NULL, 10));
    case KEY_NUM:
        return k.gguf ? model_gguf_num(s, o, k.gguf, k.hf, strtod(k.def, NULL)) : FT_OK;
    case KEY_BOOL:
        if (k.gguf_tensor)
            model_gguf_added(s,
                             cJSON_AddBoolToObject(o, k.hf, io_find(s->w, k.gguf_tensor) != NULL));
        return FT_OK;
    default:
        model_gguf_added(s, cJSON_AddStringToObject(o, k.hf, k.def));
        return FT_OK;
    }
}

/* --- what layers are made of ------------------------------------------------------------------------------------- */
static void use_parts(gguf_source *s, const model_block *b)
{
    for (int k = 0; k < MODEL_MAX_SUB && b->part[k]; k++) {
        int i = 0;
        while (i < s->n_part && s->part[i] != b->part[k]) i++;
        if (i == s->n_part && i < MODEL_MAX_USES) s->part[s->n_part++] = b->part[k];
    }
}

/* The layer holds a tensor of the part. */
static bool has_part(const gguf_source *s, const model_part *p, int layer)
{
    size_t len = strlen(p->name);
    bool found = false;
    for (const model_name *n = s->family->names; n->of && !found; n++) {
        str_buf name = {0};
        if (strncmp(n->of, p->name, len) != 0 || n->of[len] != '.') continue;
        family_expand(&name, n->gguf, layer, 0);
        str_adds(&name, ".weight");
        found = !name.failed && io_find(s->w, name.data);
        str_free(&name);
    }
    return found;
}

static const model_block *block_of(const gguf_source *s, int layer)
{
    for (const model_block *b = s->family->block; b->part[0]; b++) {
        bool all = true;
        for (int k = 0; k < MODEL_MAX_SUB && b->part[k]; k++)
            all = all && has_part(s, b->part[k], layer);
        if (all) return b;
    }
    return s->family->block;
}

/* Where a family has several kinds of layers, a GGUF tells them by the tensors it holds. */
static ft_status put_layer_types(gguf_source *s, cJSON *o)
{
    int64_t layers;
    if (!s->family->block[1].part[0]) {
        use_parts(s, s->family->block);
        return FT_OK;
    }
    FT_TRY(gguf_int(s->g, model_gguf_key(s, "block_count"), 0, 0, MAX_LAYERS, &layers));
    cJSON *types = model_gguf_added(s, cJSON_AddArrayToObject(o, "layer_types"));
    for (int i = 0; i < layers && types; i++) {
        const model_block *b = block_of(s, i);
        use_parts(s, b);
        if (!cJSON_AddItemToArray(types, model_gguf_added(s, cJSON_CreateString(b->type))))
            s->failed = true;
    }
    return FT_OK;
}

/* --- the file ------------------------------------------------------------------------------------------------------- */
static ft_status put_named(gguf_source *s, cJSON *o, const char *name)
{
    const model_key *k = family_find_key(model_frame_keys, name);
    for (int i = 0; !k && i < s->n_part; i++) k = family_find_key(s->part[i]->keys, name);
    return k ? put_key(s, o, k) : FT_OK;
}

static ft_status put_frame(gguf_source *s, cJSON *o)
{
    const gguf_file *g = s->g;
    const io_tensor *embed = io_find(s->w, "token_embd.weight");
    model_key vocab = family_key(s->family, family_find_key(model_frame_keys, "vocab"));
    model_key eps = family_key(s->family, family_find_key(model_frame_keys, "eps"));
    /* the order in which such files are read best */
    static const char *const before[] = {"hidden", "layers", "heads", "inner", "positions"};
    FT_CHECK(
        embed && embed->nd == 2, FT_EDATA,
        "%s: tensor \"token_embd.weight\" is missing: a vocabulary without weights is not a model",
        ft_shows(g->path));
    cJSON *archs =
        model_gguf_added(s, cJSON_CreateStringArray((const char *[]){s->family->hf_arch}, 1));
    if (!js_add(o, "architectures", archs)) s->failed = true;
    model_gguf_added(s, cJSON_AddStringToObject(o, "model_type", s->family->model_type));
    model_gguf_added(s, cJSON_AddNumberToObject(o, vocab.hf, (double)embed->dim[0]));
    FT_TRY(put_layer_types(s, o));
    for (size_t i = 0; i < FT_COUNT_OF(before); i++) FT_TRY(put_named(s, o, before[i]));
    FT_TRY(model_gguf_num(s, o, s->family->norm->gguf_eps, eps.hf, strtod(eps.def, NULL)));
    FT_TRY(put_named(s, o, "act"));
    model_gguf_added(
        s, cJSON_AddBoolToObject(o, "tie_word_embeddings", io_find(s->w, "output.weight") == NULL));
    model_gguf_added(s, cJSON_AddNumberToObject(o, "initializer_range", 0.02));
    FT_CHECK(!s->failed, FT_EMEM, "out of memory");
    return FT_OK;
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
        if (id >= 0) model_gguf_added(s, cJSON_AddNumberToObject(o, keys[i][1], (double)id));
    }
    return FT_OK;
}

static ft_status fill_config(gguf_source *s, cJSON *o)
{
    FT_TRY(put_frame(s, o));
    for (int i = 0; i < s->n_part; i++)
        if (s->part[i]->from_gguf) FT_TRY(s->part[i]->from_gguf(s, o));
    for (int i = 0; i < s->n_part; i++)
        for (const model_key *k = s->part[i]->keys; k->name; k++) FT_TRY(put_key(s, o, k));
    model_gguf_added(s, cJSON_AddBoolToObject(o, "use_cache", true));
    return put_token_ids(s, o);
}

ft_status model_gguf_config(const io_weights *w, str_buf *out)
{
    const gguf_file *g = w->gguf;
    ft_status rc;
    cJSON *o = NULL;
    const char *type = NULL;
    str_buf known = {0};
    gguf_source s = {.g = g, .w = w};
    FT_TRY(arena_open(&s.mem, "gguf config", (size_t)4 << 20));
    FT_TRY_OUT(gguf_text(g, "general.type", s.mem, &type));
    FT_GUARD(
        !type || strcmp(type, "adapter") != 0, FT_EDATA,
        "%s: is an adapter for llama.cpp, not a model; ft uses the PEFT folder that it was made "
        "from, with --adapter",
        ft_shows(g->path));
    FT_TRY_OUT(gguf_text(g, "general.architecture", s.mem, &s.arch));
    family_list(&known);
    s.family = family_by_gguf(s.arch);
    FT_GUARD(s.family, FT_EDATA, "%s: architecture \"%s\" is not one that ft knows (%s)",
             ft_shows(g->path), ft_shows(s.arch ? s.arch : "(none)"), known.data ? known.data : "");
    o = cJSON_CreateObject();
    FT_GUARD(o, FT_EMEM, "out of memory");
    FT_TRY_OUT(fill_config(&s, o));
    FT_GUARD(!s.failed, FT_EMEM, "out of memory");
    js_print(out, o, true);
    str_addc(out, '\n');
    rc = str_ok(out);
out:
    str_free(&known);
    cJSON_Delete(o);
    arena_close(s.mem);
    return rc;
}
