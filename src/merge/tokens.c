/* tokens.c – what a recipe says of the result's tokens: whose tokenizer, and which rows stand for single tokens. */
#include <math.h>
#include <string.h>

#include "merge_private.h"

static const char *const words[] = {"base", "union", NULL};
static const int meant[] = {MERGE_TOKENS_BASE, MERGE_TOKENS_UNION};

static int word_of(const cJSON *v)
{
    for (int i = 0; words[i]; i++)
        if (cJSON_IsString(v) && strcmp(v->valuestring, words[i]) == 0) return meant[i];
    return MERGE_TOKENS_AS_THEY_ARE;
}

static void read_source(merge_recipe *r, const cJSON *v, const char *key)
{
    r->tokens = word_of(v);
    if (r->tokens == MERGE_TOKENS_AS_THEY_ARE) r->tokens = merge_read_ref(r, v, key);
}

/* {kind: zero}, or {kind: model_token, model, token | token_id} */
static void read_kind(merge_recipe *r, const cJSON *v, const char *key, merge_token *t)
{
    static const char *const keys[] = {"kind", "model", "token", "token_id", NULL};
    const cJSON *kind = js_get(v, "kind"), *from = js_get(v, "model"), *token = js_get(v, "token"),
                *id = js_get(v, "token_id");
    const char *name = cJSON_IsString(kind) ? kind->valuestring : "";
    merge_check_keys(r, v, key, keys);
    if (strcmp(name, "zero") == 0) return;
    if (strcmp(name, "model_token") != 0)
        cfg_fail(r->doc, kind, key, "kind must be zero or model_token");
    else if (!from || cJSON_IsString(token) == cJSON_IsNumber(id))
        cfg_fail(r->doc, v, key, "model_token needs a model, and its token or token_id");
    else
        t->ref = merge_read_ref(r, from, key);
    if (cJSON_IsString(token)) t->token = token->valuestring;
    if (!cJSON_IsNumber(id)) return;
    if (!(id->valuedouble >= 0 && id->valuedouble <= INT32_MAX) ||
        id->valuedouble != floor(id->valuedouble))
        cfg_fail(r->doc, id, key, "token_id must be the number of a token");
    else
        t->id = (int64_t)id->valuedouble;
}

static void read_token(merge_recipe *r, const cJSON *v, merge_token *t)
{
    static const char *const keys[] = {"source", "force", NULL};
    const char *key = arena_printf(r->mem, "tokenizer.tokens.%s", v->string);
    const cJSON *source = js_get(v, "source"), *force = js_get(v, "force");
    *t = (merge_token){.text = v->string, .id = -1, .ref = -1, .node = v};
    if (!key) cfg_fatal(r->doc, FT_EMEM);
    if (!key) return;
    if (!cJSON_IsObject(v) || !source) {
        cfg_fail(r->doc, v, key, "must be {source, force}");
        return;
    }
    merge_check_keys(r, v, key, keys);
    if (force && !cJSON_IsBool(force)) cfg_fail(r->doc, force, key, "force must be true or false");
    t->force = cJSON_IsTrue(force);
    if (js_get(source, "kind"))
        read_kind(r, source, key, t);
    else
        t->ref = merge_read_ref(r, source, key);
}

static ft_status read_list(merge_recipe *r, const cJSON *list)
{
    const cJSON *v;
    if (!list || cJSON_IsNull(list)) return FT_OK;
    if (!cJSON_IsObject(list)) {
        cfg_fail(r->doc, list, "tokenizer.tokens", "must be a map of tokens");
        return FT_OK;
    }
    r->token = arena_get(r->mem, (size_t)(cJSON_GetArraySize(list) + 1) * sizeof *r->token);
    if (!r->token) return FT_EMEM;
    cJSON_ArrayForEach(v, list) read_token(r, v, &r->token[r->n_token++]);
    return FT_OK;
}

ft_status merge_read_tokens(merge_recipe *r)
{
    static const char *const keys[] = {"source", "tokens", "pad_to_multiple_of", NULL};
    const cJSON *t = r->tokenizer, *source = js_get(t, "source"), *pad;
    r->tokens = MERGE_TOKENS_AS_THEY_ARE;
    if (r->tokenizer_source) read_source(r, r->tokenizer_source, "tokenizer_source");
    if (!t) return FT_OK;
    if (r->tokenizer_source)
        cfg_fail(r->doc, t, "tokenizer", "either tokenizer or tokenizer_source, not both");
    if (!cJSON_IsObject(t)) {
        cfg_fail(r->doc, t, "tokenizer", "must be {source, tokens, pad_to_multiple_of}");
        return FT_OK;
    }
    merge_check_keys(r, t, "tokenizer", keys);
    r->tokens = MERGE_TOKENS_UNION;
    if (source) read_source(r, source, "tokenizer.source");
    pad = js_get(t, "pad_to_multiple_of");
    if (pad && !cJSON_IsNull(pad)) {
        if (!cJSON_IsNumber(pad) || pad->valuedouble < 1 || pad->valuedouble > 65536 ||
            pad->valuedouble != (double)(int64_t)pad->valuedouble)
            cfg_fail(r->doc, pad, "tokenizer.pad_to_multiple_of",
                     "must be a whole number from 1 to 65536");
        else
            r->pad_to = (int64_t)pad->valuedouble;
    }
    return read_list(r, js_get(t, "tokens"));
}

/* --- printing -------------------------------------------------------------------------------------------------- */

/* A reference as it holds from anywhere, in the place of one as it was written. */
static void set_ref(const merge_recipe *r, cJSON *o, const char *key, int ref)
{
    if (o && ref >= 0) js_put(o, key, merge_ref_node(r, ref));
}

void merge_print_tokens(const merge_recipe *r, cJSON *root)
{
    if (r->tokenizer_source) {
        js_add(root, "tokenizer_source", cJSON_Duplicate(r->tokenizer_source, true));
        set_ref(r, root, "tokenizer_source", r->tokens);
    }
    if (!r->tokenizer) return;
    cJSON *t = cJSON_Duplicate(r->tokenizer, true);
    if (!js_add(root, "tokenizer", t)) return; /* the tree is lost */
    if (js_get(t, "source")) set_ref(r, t, "source", r->tokens);
    cJSON *list = cJSON_GetObjectItemCaseSensitive(t, "tokens");
    for (int64_t i = 0; i < r->n_token; i++) {
        cJSON *token = cJSON_GetObjectItemCaseSensitive(list, r->token[i].text);
        cJSON *source = cJSON_GetObjectItemCaseSensitive(token, "source");
        if (js_get(source, "kind"))
            set_ref(r, source, "model", r->token[i].ref);
        else
            set_ref(r, token, "source", r->token[i].ref);
    }
}
