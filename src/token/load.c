/* load.c – tokenizer.json: vocabulary, steps and added tokens.  What stands beside it is from_folder.c's. */
#include "token_private.h"

/* --- tokenizer.json ---------------------------------------------------------------------------------------- */
ft_status tk_parse_added(tk_added *out, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "content", NULL, &out->text));
    FT_TRY(tk_parse_bool(src, o, "special", 0, &out->special));
    FT_TRY(tk_parse_bool(src, o, "single_word", 0, &out->single_word));
    FT_TRY(tk_parse_bool(src, o, "lstrip", 0, &out->lstrip));
    FT_TRY(tk_parse_bool(src, o, "rstrip", 0, &out->rstrip));
    return tk_parse_bool(src, o, "normalized", !out->special, &out->normalized);
}

static ft_status parse_added_token(tk_added *out, const tk_src *src, const cJSON *o)
{
    int64_t id = -1;
    FT_TRY(js_get_int(src->doc, o, "id", -1, 0, TK_MAX_ID, &id));
    if (!js_get(o, "id")) return js_fail(src->doc, o, FT_EDATA, "id", "missing");
    out->id = (int32_t)id;
    return tk_parse_added(out, src, o);
}

ft_status tk_added_push(tk_added_list *l, const tk_added *t)
{
    if (l->n == l->cap) {
        int64_t cap = l->cap ? l->cap * 2 : 64;
        tk_added *bigger = ft_realloc(l->tok, (size_t)cap, sizeof *bigger);
        if (!bigger) return FT_EMEM;
        l->tok = bigger;
        l->cap = cap;
    }
    l->tok[l->n++] = *t;
    return FT_OK;
}

static ft_status parse_added(tk_added_list *l, const tk_src *src, const cJSON *list)
{
    const cJSON *item;
    if (!list || cJSON_IsNull(list)) return FT_OK;
    if (!cJSON_IsArray(list)) {
        return js_fail(src->doc, list, FT_EDATA, "added_tokens", "must be a list");
    }
    cJSON_ArrayForEach(item, list)
    {
        tk_added t = {0};
        FT_TRY(parse_added_token(&t, src, item));
        FT_TRY(tk_added_push(l, &t));
    }
    return FT_OK;
}

/* Old files do not name the model's type: it is the first whose fields fit. */
static const char *model_type(const cJSON *o)
{
    const cJSON *type = js_get(o, "type");
    if (cJSON_IsString(type)) return type->valuestring;
    if (cJSON_IsArray(js_get(o, "vocab"))) return "Unigram";
    if (js_get(o, "merges")) return "BPE";
    return js_get(o, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

static ft_status parse_model(tk_model *m, const tk_src *src, const cJSON *o)
{
    if (!cJSON_IsObject(o)) {
        return js_fail(src->doc, o ? o : src->doc->root, FT_EDATA, "model", "must be an object");
    }
    const char *type = model_type(o);
    for (const tk_model_kind *k = tk_model_kinds; k->name; k++) {
        if (strcmp(k->name, type) != 0) continue;
        m->kind = k;
        return k->parse(m, src, o);
    }
    return js_fail(src->doc, o, FT_EDATA, "model", "unknown type %s", ft_shows(type));
}

static ft_status parse_root(tok_tokenizer *t, const tk_src *src, tk_added_list *added)
{
    const cJSON *root = src->doc->root, *version = js_get(root, "version");
    if (!cJSON_IsObject(root)) return js_fail(src->doc, root, FT_EDATA, NULL, "must be an object");
    if (version && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0)) {
        return js_fail(src->doc, version, FT_EDATA, "version", "must be \"1.0\"");
    }
    FT_TRY(tk_ops_parse(&t->normalizers, src, js_get(root, "normalizer"), TK_NORMALIZE));
    FT_TRY(tk_ops_parse(&t->pretokenizers, src, js_get(root, "pre_tokenizer"), TK_SPLIT));
    FT_TRY(tk_ops_parse(&t->decoders, src, js_get(root, "decoder"), TK_DECODE));
    FT_TRY(tk_post_parse(&t->post, src, js_get(root, "post_processor")));
    FT_TRY(parse_added(added, src, js_get(root, "added_tokens")));
    return parse_model(&t->model, src, js_get(root, "model"));
}

ft_status tk_parse_json(tok_tokenizer *t, const char *text, size_t len, const char *name,
                        tk_added_list *added)
{
    js_doc doc = {0};
    ft_status rc = js_parse(&doc, text, len, name, 1, JS_NO_POSITIONS | JS_NUL, FT_EDATA);
    if (rc == FT_OK) rc = parse_root(t, &(tk_src){&doc, t->mem}, added);
    js_close(&doc);
    return rc;
}

ft_status tk_finish_added(tok_tokenizer *t, const tk_added_list *added, const char *name)
{
    tk_added *list = arena_get(t->mem, (size_t)(added->n + 1) * sizeof *list);
    if (!list) return FT_EMEM;
    if (added->n) memcpy(list, added->tok, (size_t)added->n * sizeof *list);
    FT_TRY(tk_added_open(&t->added, list, added->n, &t->model, &t->normalizers, t->mem, name));
    return tk_finish(t, name);
}
