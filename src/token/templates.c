/* templates.c – the chat templates of a tokenizer: a list of named texts, from a folder or a GGUF, with the precedence
 * that transformers has.
 *
 * Files win over the key of tokenizer_config.json: chat_template.jinja is "default",
 * additional_chat_templates/NAME.jinja is NAME. The key is a text, a list of {name, template}, or an object. Last
 * comes chat_template.json, which older processors wrote and transformers' tokenizers do not read: without it such
 * a folder would have no template at all. */
#include "token_private.h"

#define MAX_TEMPLATE ((size_t)1 << 24)
enum { MAX_NAMES = 4096 }; /* lists are searched from the start */

ft_status tk_add_named(tk_named_list *l, arena *mem, const char *name, const char *text)
{
    int i = 0;
    while (i < l->n && strcmp(l->v[i].name, name) != 0) i++;
    FT_CHECK(i < MAX_NAMES, FT_EDATA, "more than %d names; %s is one too many", MAX_NAMES,
             ft_shows(name));
    if (i == l->cap) {
        int cap = l->cap ? 2 * l->cap : 8;
        tok_named *bigger = arena_get(mem, (size_t)cap * sizeof *bigger);
        if (!bigger) return FT_EMEM;
        if (l->n) memcpy(bigger, l->v, (size_t)l->n * sizeof *bigger);
        l->v = bigger;
        l->cap = cap;
    }
    tok_named named = {arena_str(mem, name), arena_str(mem, text)};
    if (!named.name || !named.text) return FT_EMEM;
    l->v[i] = named;
    if (i == l->n) l->n++;
    return FT_OK;
}

const char *tk_named_text(const tk_named_list *l, const char *name)
{
    for (int i = 0; i < l->n; i++) {
        if (strcmp(l->v[i].name, name) == 0) return l->v[i].text;
    }
    return NULL;
}

static ft_status add_file(tok_tokenizer *t, const char *name, const char *path)
{
    char *text;
    size_t len;
    FT_TRY(file_read(&text, &len, path, MAX_TEMPLATE));
    ft_status rc = tk_add_named(&t->templates, t->mem, name, text);
    ft_free(text);
    return rc;
}

static ft_status add_files(tok_tokenizer *t, const char *dir)
{
    const char *path = path_join(t->mem, dir, "chat_template.jinja"), **names;
    const char *more = path_join(t->mem, dir, "additional_chat_templates");
    int64_t n;
    if (!path || !more) return FT_EMEM;
    path_kind one, many;
    FT_TRY(path_look(path, &one));
    FT_TRY(path_look(more, &many));
    if (one == PATH_FILE) FT_TRY(add_file(t, "default", path));
    if (many != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(more, t->mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (!str_ends(names[i], ".jinja")) continue;
        path = path_join(t->mem, more, names[i]);
        char *name = arena_strn(t->mem, names[i], strlen(names[i]) - strlen(".jinja"));
        if (!path || !name) return FT_EMEM;
        FT_TRY(add_file(t, name, path));
    }
    return FT_OK;
}

/* The value of a key "chat_template". */
static ft_status add_value(tok_tokenizer *t, tk_named_list *l, const js_doc *doc, const cJSON *v)
{
    const cJSON *item;
    if (!v || cJSON_IsNull(v)) return FT_OK;
    if (cJSON_IsString(v)) return tk_add_named(l, t->mem, "default", v->valuestring);
    if (!cJSON_IsArray(v) && !cJSON_IsObject(v)) {
        return js_fail(doc, v, FT_EDATA, "chat_template",
                       "must be a text, or a list of objects with name and template");
    }
    cJSON_ArrayForEach(item, v)
    {
        bool list = cJSON_IsArray(v);
        const cJSON *body = list ? js_get(item, "template") : item;
        const char *name = list ? cJSON_GetStringValue(js_get(item, "name")) : item->string;
        if (!name || !cJSON_IsString(body)) {
            return js_fail(doc, item, FT_EDATA, "chat_template",
                           "an entry of the list needs the texts name and template");
        }
        FT_TRY(tk_add_named(l, t->mem, name, body->valuestring));
    }
    return FT_OK;
}

static ft_status add_old_file(tok_tokenizer *t, const char *dir)
{
    const char *path = path_join(t->mem, dir, "chat_template.json");
    char *text;
    size_t len;
    js_doc doc = {0};
    if (!path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &len, path, MAX_TEMPLATE));
    ft_status rc = js_parse(&doc, text, len, path, 1, JS_STRICT, FT_EDATA);
    if (rc == FT_OK) {
        rc = add_value(t, &t->templates, &doc, js_get(doc.root, "chat_template"));
    }
    js_close(&doc);
    ft_free(text);
    return rc;
}

ft_status tk_read_templates(tok_tokenizer *t, const char *dir, const js_doc *config)
{
    tk_named_list said = {0};
    const cJSON *key = config->root ? js_get(config->root, "chat_template") : NULL;
    FT_TRY(add_value(t, &said, config, key));
    FT_TRY(add_files(t, dir));
    if (t->templates.n == 0) {
        t->templates = said;
        return said.n ? FT_OK : add_old_file(t, dir);
    }
    for (int i = 0; i < said.n; i++) {
        const char *text = tk_named_text(&t->templates, said.v[i].name);
        if (text && strcmp(text, said.v[i].text) == 0) continue;
        log_warn("%s: chat_template: \"%s\" is another text than the .jinja files beside it have; "
                 "the files count",
                 config->name, ft_shows(said.v[i].name));
    }
    return FT_OK;
}
