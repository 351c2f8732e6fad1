/* refs.c – the models that a recipe names, each once: by a path, with an adapter or without, and as they are printed. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "merge_private.h"

/* "PATH+ADAPTER" cut in two, unless the whole of it is there. */
static ft_status cut(merge_recipe *r, const cJSON *node, const char *text, merge_ref *ref)
{
    const char *plus = strrchr(text, '+');
    path_kind kind;
    ref->text = ref->path = cfg_path(r->doc, node, text);
    if (!ref->path) return FT_EMEM;
    FT_TRY(path_look(ref->path, &kind));
    if (!plus || kind != PATH_NONE) return FT_OK;
    const char *front = arena_strn(r->mem, text, (size_t)(plus - text));
    if (!front) return FT_EMEM;
    ref->path = cfg_path(r->doc, node, front);
    ref->adapter = cfg_path(r->doc, node, plus + 1);
    return ref->path && ref->adapter ? FT_OK : FT_EMEM;
}

/* The path of {path, revision}, or of a string; NULL: it is neither. */
static const char *path_text(const cJSON *v)
{
    const cJSON *e, *path = cJSON_IsObject(v) ? js_get(v, "path") : v;
    if (cJSON_IsObject(v)) cJSON_ArrayForEach(e, v)
        {
            const bool known = strcmp(e->string, "path") == 0 ||
                               (strcmp(e->string, "revision") == 0 && cJSON_IsNull(e));
            if (!known) return NULL;
        }
    return cJSON_IsString(path) && path->valuestring[0] ? path->valuestring : NULL;
}

/* {model, lora}, or a string. */
static bool ref_words(const cJSON *node, const char **path, const char **lora)
{
    const cJSON *e;
    *lora = NULL;
    if (!cJSON_IsObject(node)) {
        *path = path_text(node);
        return *path != NULL;
    }
    cJSON_ArrayForEach(e, node) if (strcmp(e->string, "model") != 0 &&
                                    strcmp(e->string, "lora") != 0) return false;
    const cJSON *l = js_get(node, "lora");
    *path = path_text(js_get(node, "model"));
    *lora = l && !cJSON_IsNull(l) ? path_text(l) : NULL;
    return *path && (*lora || !l || cJSON_IsNull(l));
}

/* Where a path leads, from anywhere; as it is written where it leads nowhere, which opening it tells. */
static ft_status add_whole_path(str_buf *out, const char *path)
{
    char whole[PATH_MAX];
    if (!realpath(path, whole)) return cfg_absolute(out, path);
    str_adds(out, whole);
    return str_ok(out);
}

static ft_status find_place(merge_recipe *r, merge_ref *ref)
{
    str_buf text = {0};
    ft_status rc = add_whole_path(&text, ref->path);
    if (rc == FT_OK && ref->adapter) {
        str_addc(&text, '+');
        rc = add_whole_path(&text, ref->adapter);
    }
    if (rc == FT_OK && !(ref->place = arena_str(r->mem, text.data))) rc = FT_EMEM;
    str_free(&text);
    return rc;
}

static ft_status find(merge_recipe *r, const cJSON *node, const char *path, const char *lora,
                      merge_ref *ref)
{
    *ref = (merge_ref){.node = node};
    FT_TRY(cut(r, node, path, ref));
    if (lora) {
        ref->adapter = cfg_path(r->doc, node, lora);
        ref->text = arena_printf(r->mem, "%s+%s", ref->path, lora);
        if (!ref->adapter || !ref->text) return FT_EMEM;
    }
    return find_place(r, ref);
}

int merge_read_ref(merge_recipe *r, const cJSON *node, const char *key)
{
    const char *path, *lora;
    merge_ref ref;
    if (!ref_words(node, &path, &lora)) {
        cfg_fail(r->doc, node, key, "must be the path of a model, or PATH+ADAPTER");
        return -1;
    }
    const char *before = r->doc->errors > 0 ? arena_str(r->mem, ft_error()) : NULL;
    const ft_status rc = find(r, node, path, lora, &ref);
    if (rc == FT_ENOINPUT) {
        const char *why = arena_str(r->mem, ft_error());
        if (before) (void)ft_fail_again(FT_ECONFIG, before);
        if (why) cfg_fail(r->doc, node, key, "%s", why);
        if (!why) cfg_fatal(r->doc, FT_EMEM);
    } else if (rc != FT_OK) {
        cfg_fatal(r->doc, rc);
    }
    if (rc != FT_OK) return -1;
    for (int i = 0; i < r->n_ref; i++)
        if (strcmp(r->ref[i].place, ref.place) == 0) return i;
    if (r->n_ref == MERGE_MODELS) {
        cfg_fail(r->doc, node, key, "more than %d models", MERGE_MODELS);
        return -1;
    }
    r->ref[r->n_ref] = ref;
    return r->n_ref++;
}

cJSON *merge_ref_node(const merge_recipe *r, int ref)
{
    return cJSON_CreateString(r->ref[ref].place);
}

void merge_check_keys(merge_recipe *r, const cJSON *o, const char *path, const char *const *keys)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, o)
    {
        bool known = false;
        for (int i = 0; keys[i]; i++) known = known || strcmp(keys[i], e->string) == 0;
        if (known) continue;
        const char *near = cfg_nearest(e->string, keys);
        const char *key = arena_printf(r->mem, "%s.%s", path, e->string);
        cfg_fail(r->doc, e, key ? key : path, "unknown key%s%s%s", near ? "; did you mean \"" : "",
                 near ? near : "", near ? "\"?" : "");
    }
}
