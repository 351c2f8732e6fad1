/* vocab.c – the tokenizer of the result, and where the rows of its embedding and head come from.
 *
 * A token is the same in all models that have its text, whatever its number there. A model without it lends the row of one
 * that has it: the only one, or the base; else the mean of all that do. Differences in tokens that models share thus go
 * through the merge, and only what is missing is filled in. Tokenizers are opened one after another. */
#include <string.h>

#include "merge_private.h"

typedef struct words { /* tokens that are put behind the base's */
    tok_added *tok;
    int64_t n, cap;
    map_table index;
} words;

typedef struct maker {
    merge_recipe *r;
    int donor;
    const char *dir;
    merge_vocab *v;
} maker;

/* --- tokenizers ------------------------------------------------------------------------------------------------- */

/* The tokenizer of a model, the adapter's where it has one; NULL: it has none. */
static ft_status open_tokenizer(const merge_ref *ref, tok_tokenizer **out)
{
    bool has = true;
    *out = NULL;
    if (ref->adapter) {
        FT_TRY(tok_in_folder(ref->adapter, &has));
        if (has) return tok_open_over(out, ref->adapter, ref->path);
    }
    has = true;
    if (!str_ends(ref->path, ".gguf")) FT_TRY(tok_in_folder(ref->path, &has));
    if (!has) return FT_OK;
    return tok_open(out, ref->path);
}

static ft_status must_open(const merge_ref *ref, tok_tokenizer **out)
{
    FT_TRY(open_tokenizer(ref, out));
    FT_CHECK(*out, FT_ENOINPUT, "%s: holds no tokenizer, which the result's is to be made of",
             ft_shows(ref->text));
    return FT_OK;
}

static ft_status copy_side_files(const merge_ref *ref, const char *dir)
{
    bool has = false;
    FT_TRY(model_save_side_files(ref->path, dir));
    if (ref->adapter) FT_TRY(tok_in_folder(ref->adapter, &has));
    return has ? model_save_tokenizer(ref->adapter, dir) : FT_OK;
}

static ft_status add_word(maker *k, words *w, const tok_tokenizer *base, const tok_added *a)
{
    if (tok_id(base, a->text, a->n) >= 0 || map_get(&w->index, a->text, a->n, NULL)) return FT_OK;
    if (w->n == w->cap) {
        const int64_t cap = w->cap ? 2 * w->cap : 256;
        tok_added *more = ft_realloc(w->tok, (size_t)cap, sizeof *more);
        if (!more) return FT_EMEM;
        w->tok = more;
        w->cap = cap;
    }
    tok_added *to = &w->tok[w->n++];
    *to = *a;
    to->text = arena_strn(k->r->mem, a->text, a->n);
    return to->text ? map_put(&w->index, to->text, to->n, w->n) : FT_EMEM;
}

/* Rows that a model has; 0: it is none of the merge. */
static int64_t rows_of(const merge_recipe *r, int ref)
{
    return r->ref[ref].m ? r->ref[ref].m->d.vocab_size : 0;
}

/* Those of a model that the base lacks: the regular ones, or those that are added there. */
static ft_status add_words_of(maker *k, words *w, const tok_tokenizer *base, int ref, bool added)
{
    tok_tokenizer *t;
    FT_TRY(open_tokenizer(&k->r->ref[ref], &t));
    ft_status rc = FT_OK;
    for (int64_t id = 0; t && rc == FT_OK && id < tok_size(t) && id < rows_of(k->r, ref); id++) {
        tok_added a;
        const char *text = tok_text(t, (int32_t)id);
        const bool is = tok_added_at(t, (int32_t)id, &a);
        if (!text || is != added) continue;
        if (!is) a = (tok_added){.text = text, .n = strlen(text), .normalized = true};
        rc = add_word(k, w, base, &a);
    }
    tok_close(t);
    return rc;
}

static ft_status add_words(maker *k, words *w, const tok_tokenizer *base)
{
    const merge_recipe *r = k->r;
    for (int pass = 0; r->tokens == MERGE_TOKENS_UNION && pass < 2; pass++)
        for (int i = 0; i < r->n_ref; i++)
            if (i != k->donor && rows_of(r, i) > 0) FT_TRY(add_words_of(k, w, base, i, pass == 1));
    for (int64_t i = 0; i < r->n_token; i++) {
        const tok_added a = {
            .text = r->token[i].text, .n = strlen(r->token[i].text), .normalized = true};
        FT_TRY(add_word(k, w, base, &a));
    }
    return FT_OK;
}

static ft_status write_to(maker *k, const char *name, const str_buf *text)
{
    const char *path = path_join(k->r->mem, k->dir, name);
    return path ? file_write(path, text->data, text->len) : FT_EMEM;
}

/* With the words, and without tokens that the base's embedding has no rows for. */
static ft_status write_more(maker *k, const tok_tokenizer *base, const words *w, int64_t below)
{
    str_buf json = {0}, config = {0};
    path_kind kind = PATH_NONE;
    ft_status rc = tok_write_more(base, below, w->tok, w->n, &json, &config);
    if (rc == FT_OK) rc = path_look_in(k->dir, "tokenizer.json", &kind);
    if (rc == FT_OK) rc = write_to(k, "tokenizer.json", &json);
    if (rc == FT_OK && kind == PATH_NONE) rc = write_to(k, "tokenizer_config.json", &config);
    str_free(&json);
    str_free(&config);
    return rc;
}

static ft_status write_tokenizer(maker *k)
{
    merge_recipe *r = k->r;
    const int from = r->tokens >= 0 ? r->tokens : k->donor;
    const int64_t rows = rows_of(r, from);
    tok_tokenizer *base;
    words w = {0};
    FT_TRY(must_open(&r->ref[from], &base));
    ft_status rc = copy_side_files(&r->ref[from], k->dir);
    const int64_t size = tok_size(base), below = rows > 0 && rows < size ? rows : size;
    if (rc == FT_OK) rc = add_words(k, &w, base);
    if (rc == FT_OK && (w.n > 0 || below < size)) rc = write_more(k, base, &w, below);
    ft_free(w.tok);
    map_free(&w.index);
    tok_close(base);
    return rc;
}

/* --- the config ------------------------------------------------------------------------------------------------- */

/* What is left of an id, or of a list of them; NULL: nothing. */
static cJSON *valid_ids(const cJSON *ids, int64_t tokens)
{
    const cJSON *e;
    if (cJSON_IsNumber(ids))
        return ids->valuedouble >= 0 && ids->valuedouble < (double)tokens
                   ? cJSON_Duplicate(ids, true)
                   : NULL;
    cJSON *list = cJSON_IsArray(ids) ? cJSON_CreateArray() : NULL;
    cJSON_ArrayForEach(e, ids)
    {
        cJSON *one = cJSON_IsNumber(e) ? valid_ids(e, tokens) : NULL;
        if (one) cJSON_AddItemToArray(list, one);
    }
    if (list && list->child) return list;
    cJSON_Delete(list);
    return NULL;
}

/* Those of root in the place of what the config has, `now`. */
static ft_status set_ids(const cJSON *root, const cJSON *now, int64_t tokens, str_buf *config)
{
    static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    ft_status rc = FT_OK;
    for (size_t i = 0; rc == FT_OK && i < FT_COUNT_OF(keys); i++) {
        cJSON *ids = valid_ids(js_get(root, keys[i]), tokens);
        str_buf text = {0};
        if (ids) js_print(&text, ids, false);
        rc = str_ok(&text);
        if (rc == FT_OK && ids && !cJSON_Compare(ids, js_get(now, keys[i]), true))
            js_set_member(config, keys[i], text.data);
        else if (rc == FT_OK && !ids)
            js_drop_member(config, keys[i]);
        str_free(&text);
        cJSON_Delete(ids);
    }
    return rc == FT_OK ? js_whole() : rc;
}

ft_status merge_vocab_config(const merge_vocab *v, const merge_recipe *r, int donor,
                             str_buf *config)
{
    const merge_ref *from = &r->ref[r->tokens >= 0 ? r->tokens : donor];
    const model_options how = {
        .path = from->path, .end = MODEL_ANY, .no_weights = true, .may_be_bare = true};
    model *own = NULL;
    js_doc d = {0}, now = {0};
    if (!from->m) FT_TRY(model_open(&own, &how));
    const char *text = from->m ? from->m->config : own->config;
    ft_status rc = js_parse(&d, text, strlen(text), "config.json", 1, JS_ALLOW_NONFINITE, FT_EDATA);
    if (rc == FT_OK)
        rc = js_parse(&now, config->data, config->len, "config.json", 1, JS_ALLOW_NONFINITE,
                      FT_EDATA);
    if (rc == FT_OK) rc = set_ids(d.root, now.root, v->tokens, config);
    js_close(&d);
    js_close(&now);
    model_close(own);
    return rc;
}

/* --- rows ------------------------------------------------------------------------------------------------------- */

static ft_status map_rows(maker *k, const tok_tokenizer *out, int ref)
{
    merge_vocab *v = k->v;
    merge_recipe *r = k->r;
    const merge_ref *of = &r->ref[ref];
    const int64_t rows = rows_of(r, ref);
    tok_tokenizer *t;
    FT_TRY(open_tokenizer(of, &t));
    if (!t)
        log_warn("%s: holds no tokenizer; its tokens are taken to be those of %s",
                 ft_shows(of->text), ft_shows(r->ref[k->donor].text));
    if (!t) FT_TRY(must_open(&r->ref[k->donor], &t));
    int32_t *own = v->own[ref] = arena_get(r->mem, (size_t)v->tokens * sizeof *own);
    for (int64_t i = 0; own && i < v->tokens; i++) {
        const char *text = tok_text(out, (int32_t)i);
        own[i] = text ? tok_id(t, text, strlen(text)) : -1;
        if (own[i] >= rows) own[i] = -1;
    }
    for (int64_t i = 0; own && i < r->n_token; i++)
        if (r->token[i].ref == ref && r->token[i].token)
            r->token[i].id = tok_id(t, r->token[i].token, strlen(r->token[i].token));
    tok_close(t);
    return own ? FT_OK : FT_EMEM;
}

/* What the recipe says of single tokens. */
static ft_status give_rows(maker *k, const tok_tokenizer *out)
{
    merge_vocab *v = k->v;
    const merge_recipe *r = k->r;
    for (int64_t i = 0; i < v->tokens; i++) v->given[i].ref = MERGE_ROW_OPEN;
    for (int64_t i = 0; i < r->n_token; i++) {
        const merge_token *t = &r->token[i];
        const int32_t at = tok_id(out, t->text, strlen(t->text));
        FT_CHECK(at >= 0 && at < v->tokens, FT_EINTERNAL, "token %s is not there",
                 ft_shows(t->text));
        v->force[at] = t->force;
        v->given[at] = (merge_row){.ref = MERGE_ROW_ZERO};
        if (t->ref < 0) continue;
        FT_CHECK(v->own[t->ref], FT_ECONFIG,
                 "tokenizer.tokens: %s is none of the models that are merged",
                 ft_shows(r->ref[t->ref].text));
        const bool other = t->token || t->id >= 0;
        const int64_t row = other ? t->id : v->own[t->ref][at];
        FT_CHECK(row >= 0 && row < rows_of(r, t->ref), FT_ECONFIG,
                 "tokenizer.tokens: %s has no token \"%s\"", ft_shows(r->ref[t->ref].text),
                 ft_shows(t->token ? t->token : t->text));
        v->given[at] = (merge_row){.ref = t->ref, .row = (int32_t)row};
    }
    return FT_OK;
}

static ft_status make_rows(maker *k)
{
    merge_recipe *r = k->r;
    merge_vocab *v = k->v;
    tok_tokenizer *out;
    FT_TRY(tok_open(&out, k->dir));
    v->tokens = v->rows = tok_size(out);
    if (r->pad_to > 0) v->rows = (v->tokens + r->pad_to - 1) / r->pad_to * r->pad_to;
    v->own = arena_get(r->mem, (size_t)r->n_ref * sizeof *v->own);
    v->given = arena_get(r->mem, (size_t)v->tokens * sizeof *v->given);
    v->force = arena_get(r->mem, (size_t)v->tokens * sizeof *v->force);
    ft_status rc = v->own && v->given && v->force ? FT_OK : FT_EMEM;
    for (int i = 0; rc == FT_OK && i < r->n_ref; i++)
        if (rows_of(r, i) > 0) rc = map_rows(k, out, i);
    if (rc == FT_OK) rc = give_rows(k, out);
    tok_close(out);
    return rc;
}

static int missing_in(const merge_recipe *r, int64_t rows)
{
    for (int i = 0; i < r->n_ref; i++)
        if (r->ref[i].m && rows_of(r, i) != rows) return i;
    return -1;
}

ft_status merge_vocab_open(merge_vocab **out, merge_recipe *r, int donor, const char *dir)
{
    maker k = {.r = r, .donor = donor, .dir = dir};
    *out = NULL;
    if (r->tokens == MERGE_TOKENS_AS_THEY_ARE) {
        const int64_t rows = rows_of(r, donor);
        const int other = missing_in(r, rows);
        FT_CHECK(
            other < 0, FT_EDATA,
            "%s has %lld rows of a vocabulary, %s has %lld; say in the recipe whose tokens the "
            "result has: tokenizer_source: union, base, or a model",
            ft_shows(r->ref[other < 0 ? 0 : other].text),
            (long long)rows_of(r, other < 0 ? 0 : other), ft_shows(r->ref[donor].text),
            (long long)rows);
        return copy_side_files(&r->ref[donor], dir);
    }
    k.v = arena_get(r->mem, sizeof *k.v);
    if (!k.v) return FT_EMEM;
    FT_TRY(write_tokenizer(&k));
    FT_TRY(make_rows(&k));
    *out = k.v;
    return FT_OK;
}

ft_status merge_vocab_fill(const merge_vocab *v, const merge_tensor *t, merge_row *fill)
{
    for (int64_t k = 0; k < v->tokens; k++) {
        int n = 0, one = -1;
        fill[k] = v->given[k];
        for (int i = 0; i < t->n; i++) {
            if (fill[k].ref == t->in[i].ref) one = i;
            if (fill[k].ref != MERGE_ROW_OPEN || v->own[t->in[i].ref][k] < 0) continue;
            n++;
            if (one < 0 || i == t->base) one = i;
        }
        FT_CHECK(fill[k].ref < 0 || one >= 0, FT_ECONFIG,
                 "tokenizer.tokens: \"%s\" has no input of the model that a token is to come from",
                 ft_shows(t->name));
        if (fill[k].ref != MERGE_ROW_OPEN) continue;
        const bool base = t->base >= 0 && v->own[t->in[t->base].ref][k] >= 0;
        if (n == 0)
            fill[k] = (merge_row){.ref = MERGE_ROW_ZERO};
        else if (n == 1 || base)
            fill[k] = (merge_row){t->in[one].ref, v->own[t->in[one].ref][k]};
        else
            fill[k] = (merge_row){.ref = MERGE_ROW_MEAN};
    }
    return FT_OK;
}
