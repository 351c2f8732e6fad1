/* load.c – a tokenizer from a Hugging Face folder: tokenizer.json and the files beside it. */
#include "token_private.h"

#include <stdlib.h>

#define MAX_FILE ((size_t)1 << 30)

/* --- tokenizer.json ---------------------------------------------------------------------------------------- */
static ft_status parse_added_token(tk_added *out, const tk_src *src, const cJSON *o)
{
    int64_t id = -1;
    FT_TRY(tk_parse_text(src, o, "content", NULL, &out->text));
    FT_TRY(js_get_int(src->doc, o, "id", -1, 0, TK_MAX_ID, &id));
    if (!js_get(o, "id")) return js_fail(src->doc, o, FT_EDATA, "id", "missing");
    out->id = (int32_t)id;
    FT_TRY(tk_parse_bool(src, o, "special", 0, &out->special));
    FT_TRY(tk_parse_bool(src, o, "single_word", 0, &out->single_word));
    FT_TRY(tk_parse_bool(src, o, "lstrip", 0, &out->lstrip));
    FT_TRY(tk_parse_bool(src, o, "rstrip", 0, &out->rstrip));
    return tk_parse_bool(src, o, "normalized", !out->special, &out->normalized);
}

typedef struct added_list {
    tk_added *tok;
    int64_t n, cap;
} added_list;

static ft_status added_push(added_list *l, const tk_added *t)
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

static ft_status parse_added(added_list *l, const tk_src *src, const cJSON *list)
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
        FT_TRY(added_push(l, &t));
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

static ft_status parse_root(tok_tokenizer *t, const tk_src *src, added_list *added)
{
    const cJSON *root = src->doc->root, *version = js_get(root, "version");
    if (!cJSON_IsObject(root)) return js_fail(src->doc, root, FT_EDATA, NULL, "must be an object");
    if (version && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0)) {
        return js_fail(src->doc, version, FT_EDATA, "version", "must be \"1.0\"");
    }
    FT_TRY(tk_ops_parse(&t->normalizers, src, js_get(root, "normalizer"), tk_normalizers,
                        "normalizers", "normalizer"));
    FT_TRY(tk_ops_parse(&t->pretokenizers, src, js_get(root, "pre_tokenizer"), tk_pretokenizers,
                        "pretokenizers", "pre_tokenizer"));
    FT_TRY(tk_ops_parse(&t->decoders, src, js_get(root, "decoder"), tk_decoders, "decoders",
                        "decoder"));
    FT_TRY(tk_post_parse(&t->post, src, js_get(root, "post_processor")));
    FT_TRY(parse_added(added, src, js_get(root, "added_tokens")));
    return parse_model(&t->model, src, js_get(root, "model"));
}

/* --- the files beside it -------------------------------------------------------------------------------------- */
typedef struct side { /* one optional JSON file */
    char *text;
    size_t len;
    js_doc doc;
    tk_src src;
} side;

static ft_status side_open(side *s, const tok_tokenizer *t, const char *dir, const char *name)
{
    const char *path = path_join(t->mem, dir, name);
    if (!path) return FT_EMEM;
    if (!file_exists(path)) return FT_OK;
    FT_TRY(file_read(&s->text, &s->len, path, MAX_FILE));
    FT_TRY(js_parse(&s->doc, s->text, s->len, path, 1, JS_ALLOW_NONFINITE, FT_EDATA));
    if (!cJSON_IsObject(s->doc.root)) {
        return js_fail(&s->doc, s->doc.root, FT_EDATA, NULL, "must be an object");
    }
    s->src = (tk_src){&s->doc, t->mem};
    return FT_OK;
}

static void side_close(side *s)
{
    js_close(&s->doc);
    ft_free(s->text);
    *s = (side){0};
}

/* "<s>", {"content": "<s>", …} or null. */
static const char *token_text(const cJSON *v)
{
    const cJSON *content = cJSON_IsObject(v) ? js_get(v, "content") : v;
    return cJSON_IsString(content) ? content->valuestring : NULL;
}

static bool known(const added_list *l, const char *text)
{
    size_t n = strlen(text);
    for (int64_t i = 0; i < l->n; i++) {
        if (l->tok[i].text.n == n && memcmp(l->tok[i].text.s, text, n) == 0) return true;
    }
    return false;
}

static int by_stated_id(const void *a, const void *b)
{
    const tk_added *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* added_tokens_decoder: {"id": {content, …}}; what tokenizer.json does not have is added, in the order of ids. */
static ft_status add_from_decoder(added_list *l, const side *config)
{
    const cJSON *o = js_get(config->doc.root, "added_tokens_decoder"), *item;
    int64_t before = l->n;
    if (!cJSON_IsObject(o)) return FT_OK;
    map_table seen = {0};
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < l->n && rc == FT_OK; i++) {
        rc = map_put(&seen, l->tok[i].text.s, l->tok[i].text.n, i);
    }
    cJSON_ArrayForEach(item, o)
    {
        tk_added t = {0};
        if (rc != FT_OK) break;
        const char *text = token_text(item);
        if (!cJSON_IsObject(item) || !text || map_get(&seen, text, strlen(text), NULL)) continue;
        char *end;
        long id = strtol(item->string, &end, 10);
        if (*end || id < 0 || id > TK_MAX_ID) {
            rc = js_fail(&config->doc, item, FT_EDATA, "added_tokens_decoder", "%s is not an id",
                         ft_shows(item->string));
            break;
        }
        cJSON *with_id = cJSON_CreateNumber((double)id); /* the parser wants it inside */
        if (!with_id || !cJSON_AddItemToObject((cJSON *)item, "id", with_id)) rc = FT_EMEM;
        if (rc == FT_OK) rc = parse_added_token(&t, &config->src, item);
        if (rc == FT_OK) rc = added_push(l, &t);
    }
    map_free(&seen);
    if (l->n > before) {
        qsort(l->tok + before, (size_t)(l->n - before), sizeof *l->tok, by_stated_id);
    }
    return rc;
}

static const char *const special_keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                           "pad_token", "cls_token", "mask_token"};

static ft_status add_special(added_list *l, tok_tokenizer *t, const char *text)
{
    if (!text || !*text || known(l, text)) return FT_OK;
    size_t n = strlen(text);
    tk_added a = {.text = {arena_strn(t->mem, text, n), n}, .special = true};
    a.id = tk_vocab_id(&t->model.vocab, text, n);
    if (a.id < 0) a.id = (int32_t)t->model.vocab.entries; /* for the message; the rule decides */
    for (int64_t i = 0; i < l->n; i++) {
        if (l->tok[i].id >= a.id && tk_vocab_id(&t->model.vocab, text, n) < 0)
            a.id = l->tok[i].id + 1;
    }
    return a.text.s ? added_push(l, &a) : FT_EMEM;
}

/* Special tokens that the config names and nobody has added: transformers adds them on loading. */
static ft_status add_named(added_list *l, tok_tokenizer *t, const cJSON *config)
{
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    for (size_t i = 0; i < FT_COUNT_OF(special_keys); i++) {
        FT_TRY(add_special(l, t, token_text(js_get(config, special_keys[i]))));
    }
    for (size_t i = 0; i < FT_COUNT_OF(lists); i++) {
        const cJSON *item;
        cJSON_ArrayForEach(item, js_get(config, lists[i]))
            FT_TRY(add_special(l, t, token_text(item)));
    }
    return FT_OK;
}

/* The id of a special token: by name from one of the files; −1. */
static int32_t named_id(const tok_tokenizer *t, const char *key, const side *a, const side *b)
{
    const char *text = token_text(js_get(a->doc.root, key));
    if (!text) text = token_text(js_get(b->doc.root, key));
    return text ? tok_id(t, text, strlen(text)) : -1;
}

static void ids_of(const cJSON *v, int64_t *out, int *n, int cap)
{
    const cJSON *item;
    if (cJSON_IsNumber(v) && *n < cap) out[(*n)++] = (int64_t)v->valuedouble;
    if (!cJSON_IsArray(v)) return;
    cJSON_ArrayForEach(item, v)
    {
        if (cJSON_IsNumber(item) && *n < cap) out[(*n)++] = (int64_t)item->valuedouble;
    }
}

static int32_t first_id(const tok_tokenizer *t, const char *key, const side *a, const side *b)
{
    int64_t ids[16];
    int n = 0;
    ids_of(js_get(a->doc.root, key), ids, &n, 16);
    ids_of(js_get(b->doc.root, key), ids, &n, 16);
    return n && ids[0] >= 0 && ids[0] < t->size ? (int32_t)ids[0] : -1;
}

/* Classes of transformers 4.x that make their own post-processor from the flags of the config. */
static ft_status follow_flags(tok_tokenizer *t, const side *config)
{
    static const char *const classes[] = {
        "LlamaTokenizer",   "LlamaTokenizerFast",   "GemmaTokenizer",  "GemmaTokenizerFast",
        "GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "CohereTokenizer", "CohereTokenizerFast"};
    const cJSON *root = config->doc.root, *name = js_get(root, "tokenizer_class");
    const cJSON *bos = js_get(root, "add_bos_token"), *eos = js_get(root, "add_eos_token");
    bool listed = false;
    for (size_t i = 0; i < FT_COUNT_OF(classes) && cJSON_IsString(name); i++) {
        listed |= strcmp(name->valuestring, classes[i]) == 0;
    }
    if (!listed) return FT_OK;
    bool has_bos = tok_adds_bos(t);
    bool has_eos = t->post.n_after > 0 && t->post.after[t->post.n_after - 1] == t->eos;
    bool want_bos = cJSON_IsBool(bos) ? cJSON_IsTrue(bos) && t->bos >= 0 : has_bos;
    bool want_eos = cJSON_IsBool(eos) ? cJSON_IsTrue(eos) && t->eos >= 0 : has_eos;
    if (want_bos == has_bos && want_eos == has_eos) return FT_OK;
    log_warn("%s: add_bos_token and add_eos_token contradict the post-processor of tokenizer.json; "
             "the flags are followed",
             config->doc.name);
    return tk_set_bos_eos(t, want_bos, want_eos);
}

enum { CONFIG, SPECIALS, MODEL, GENERATION, N_SIDES };

static ft_status special_ids(tok_tokenizer *t, const char *dir, const side *s)
{
    t->bos = named_id(t, "bos_token", &s[CONFIG], &s[SPECIALS]);
    t->eos = named_id(t, "eos_token", &s[CONFIG], &s[SPECIALS]);
    t->pad = named_id(t, "pad_token", &s[CONFIG], &s[SPECIALS]);
    t->unk = named_id(t, "unk_token", &s[CONFIG], &s[SPECIALS]);
    if (t->bos < 0) t->bos = first_id(t, "bos_token_id", &s[MODEL], &s[GENERATION]);
    if (t->eos < 0) t->eos = first_id(t, "eos_token_id", &s[MODEL], &s[GENERATION]);
    if (t->pad < 0) t->pad = first_id(t, "pad_token_id", &s[MODEL], &s[GENERATION]);
    /* files without names: what the post-processor puts around a text */
    if (t->bos < 0 && t->post.n_before == 1) t->bos = t->post.before[0];
    if (t->eos < 0 && t->post.n_after == 1) t->eos = t->post.after[0];
    for (size_t i = 0; i < FT_COUNT_OF(special_keys); i++) {
        const char *text = token_text(js_get(s[CONFIG].doc.root, special_keys[i]));
        if (!text) text = token_text(js_get(s[SPECIALS].doc.root, special_keys[i]));
        if (text) FT_TRY(tk_add_named(&t->names, t->mem, special_keys[i], text));
    }
    FT_TRY(tk_read_templates(t, dir, &s[CONFIG].doc));
    tk_add_stop(t, t->eos);
    int64_t ids[2 * TK_MAX_STOPS];
    int n = 0;
    for (int i = MODEL; i <= GENERATION; i++) {
        const cJSON *list = js_get(s[i].doc.root, "eos_token_id");
        FT_CHECK(cJSON_GetArraySize(list) <= TK_MAX_STOPS, FT_EDATA,
                 "%s: eos_token_id: more than %d ids", s[i].doc.name, TK_MAX_STOPS);
        ids_of(list, ids, &n, 2 * TK_MAX_STOPS);
    }
    for (int i = 0; i < n; i++) tk_add_stop(t, ids[i]);
    tk_template_stops(t);
    return follow_flags(t, &s[CONFIG]);
}

static ft_status load(tok_tokenizer *t, const char *text, size_t len, const char *name,
                      const char *dir, side *s)
{
    js_doc doc = {0};
    added_list added = {0};
    ft_status rc = js_parse(&doc, text, len, name, 1, JS_NO_POSITIONS | JS_NUL, FT_EDATA);
    if (rc == FT_OK) rc = parse_root(t, &(tk_src){&doc, t->mem}, &added);
    js_close(&doc);
    if (rc == FT_OK && s[CONFIG].text) rc = add_from_decoder(&added, &s[CONFIG]);
    if (rc == FT_OK && s[CONFIG].text) rc = add_named(&added, t, s[CONFIG].doc.root);
    if (rc == FT_OK && s[SPECIALS].text) rc = add_named(&added, t, s[SPECIALS].doc.root);
    tk_added *list = NULL;
    if (rc == FT_OK) {
        list = arena_get(t->mem, (size_t)(added.n + 1) * sizeof *list);
        if (!list) rc = FT_EMEM;
    }
    if (rc == FT_OK && added.n) memcpy(list, added.tok, (size_t)added.n * sizeof *list);
    ft_free(added.tok);
    if (rc == FT_OK) {
        rc = tk_added_open(&t->added, list, added.n, &t->model, &t->normalizers, t->mem, name);
    }
    if (rc == FT_OK) rc = tk_finish(t, name);
    if (rc == FT_OK && dir) rc = special_ids(t, dir, s);
    return rc;
}

ft_status tk_load_json(tok_tokenizer *t, const char *text, size_t len, const char *name)
{
    side none[N_SIDES] = {{0}};
    return load(t, text, len, name, NULL, none);
}

ft_status tk_load_folder(tok_tokenizer *t, const char *dir)
{
    static const char *const names[N_SIDES] = {"tokenizer_config.json", "special_tokens_map.json",
                                               "config.json", "generation_config.json"};
    side s[N_SIDES] = {{0}};
    ft_status rc = FT_OK;
    const char *path = path_join(t->mem, dir, "tokenizer.json");
    FT_GUARD(path, FT_EMEM, "out of memory");
    for (int i = 0; i < N_SIDES; i++) FT_TRY_OUT(side_open(&s[i], t, dir, names[i]));
    if (file_exists(path)) {
        FT_TRY_OUT(text_read(&t->own_json, &t->own_json_len, path, MAX_FILE));
    } else {
        FT_TRY_OUT(tk_legacy_json(dir, t->mem, &t->own_json, &t->own_json_len));
    }
    rc = load(t, t->own_json, t->own_json_len, path, dir, s);
    if (rc == FT_OK && s[CONFIG].text) {
        t->own_config = s[CONFIG].text;
        t->own_config_len = s[CONFIG].len;
        s[CONFIG].text = NULL;
    }
out:
    for (int i = 0; i < N_SIDES; i++) side_close(&s[i]);
    return rc;
}
