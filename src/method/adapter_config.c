/* adapter_config.c – adapter_config.json: what every adapter has in it, whatever it adapts; how a key is read, compared and
 * refused. */
#include "ft/method.h"
#include "method_private.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* --- reading a key ------------------------------------------------------------------------------------------------ */
void pe_check_json(cfg_doc *d, const cJSON *v, const char *key, bool (*good)(const cJSON *v),
                   const char *must)
{
    char path[80] = "method.";
    if (pe_is_null(v) || good(v)) return;
    strncat(path, key, sizeof path - sizeof "method.");
    cfg_fail(d, v, path, "%s", must);
}

ft_status pe_load_json(const js_doc *d, const char *key, bool (*good)(const cJSON *v),
                       const cJSON **out)
{
    const cJSON *v = *out = js_get(d->root, key);
    bool empty = cJSON_IsArray(v) && !v->child;
    if (pe_is_null(v) || empty || good(v)) return FT_OK;
    return js_fail(d, v, FT_EDATA, key, "has a form that PEFT does not write");
}

ft_status pe_load_scale(const js_doc *d, const char *key, double def, double *out)
{
    FT_TRY(js_get_num(d, d->root, key, def, out));
    if (fabs(*out) <= (double)FLT_MAX) return FT_OK;
    return js_fail(d, js_get(d->root, key), FT_EDATA, key, "%g is beyond the range of f32", *out);
}

/* The keys that every adapter may have. */
static const pe_key common_keys[] = {
    {"peft_type", NULL},
    {"task_type", NULL},
    {"base_model_name_or_path", NULL},
    /* without effect on what the adapter computes */
    {"auto_mapping", NULL},
    {"inference_mode", NULL},
    {"peft_version", NULL},
    {"revision", NULL},
    {"runtime_config", NULL},
    {NULL, NULL},
};

static const pe_key *find_key(const pe_key *list, const char *key)
{
    while (list->key && strcmp(list->key, key) != 0) list++;
    return list->key ? list : NULL;
}

ft_status pe_check_keys(const js_doc *d, const pe_key *own)
{
    for (const cJSON *v = d->root->child; v; v = v->next) {
        const pe_key *k = find_key(own, v->string);
        if (!k) k = find_key(common_keys, v->string);
        if ((k && !k->no) || pe_is_empty(v) || cJSON_IsFalse(v) || (cJSON_IsObject(v) && !v->child))
            continue;
        return js_fail(d, v, FT_EDATA, v->string,
                       "an adapter with this option is not supported: it %s",
                       k ? k->no : "is unknown to ft; remove the key if it has no effect");
    }
    return FT_OK;
}

/* --- a config that goes on from an adapter ------------------------------------------------------------------------- */
/* The same set of names: PEFT writes sets in any order. */
static bool same_names(const cJSON *a, const cJSON *b)
{
    const cJSON *e;
    if (!cJSON_IsArray(a) || !cJSON_IsArray(b) || cJSON_GetArraySize(a) != cJSON_GetArraySize(b))
        return false;
    cJSON_ArrayForEach(e, a)
    {
        if (!cJSON_IsString(e) || !pe_list_has(b, e->valuestring, pe_match_suffix)) return false;
    }
    return true;
}

/* What a key that an adapter does not have means: those of before it was thought of have none. */
static bool is_off(const cJSON *v)
{
    const bool none = cJSON_IsString(v) && strcmp(v->valuestring, "none") == 0;
    return none || cJSON_IsFalse(v) || ((cJSON_IsObject(v) || cJSON_IsArray(v)) && !v->child);
}

static bool says_otherwise(const cJSON *here, const cJSON *there)
{
    return !pe_is_null(here) && !(!there && is_off(here)) && !pe_is_all_linear(here) &&
           !cJSON_Compare(here, there, true) && !same_names(here, there);
}

/* A key of an adapter: the adapters library has most in an object of their own. */
static const cJSON *key_of(const cJSON *adapter, const char *key)
{
    const cJSON *own = js_get(adapter, "peft_type") ? NULL : js_get(adapter, "config");
    const cJSON *v = js_get(own, key);
    return v ? v : js_get(adapter, key);
}

static void compare_key(cfg_doc *d, const cJSON *object, const cJSON *adapter, const char *key)
{
    char path[80] = "method.";
    const cJSON *here = js_get(object, key);
    if (!says_otherwise(here, key_of(adapter, key))) return;
    strncat(path, key, sizeof path - sizeof "method.");
    cfg_fail(d, here, path,
             "differs from the adapter of init_from; leave it out or make it the same");
}

/* adapter_config.json of a folder, and its text; close and free both in any case. */
static ft_status open_config(const char *dir, js_doc *a, char **text)
{
    size_t len;
    str_buf path = {0};
    str_printf(&path, "%s/adapter_config.json", dir);
    ft_status rc = str_ok(&path);
    if (rc == FT_OK) rc = file_read(text, &len, path.data, (size_t)4 << 20);
    if (rc == FT_OK) rc = js_parse(a, *text, len, path.data, 1, JS_NO_POSITIONS, FT_EDATA);
    str_free(&path);
    return rc;
}

const char *pe_adapter_type(const js_doc *adapter_config)
{
    const cJSON *type = js_get(adapter_config->root, "peft_type");
    if (cJSON_IsString(type)) return type->valuestring;
    return !type && cJSON_IsObject(js_get(adapter_config->root, "config")) ? PE_ADAPTERS : NULL;
}

bool pe_is_mlx(const js_doc *adapter_config)
{
    const cJSON *root = adapter_config->root;
    return !js_get(root, "peft_type") &&
           (js_get(root, "lora_parameters") || js_get(root, "fine_tune_type"));
}

void pe_check_init_type(cfg_doc *d, const cJSON *object, const pe_method *method)
{
    const cJSON *node = js_get(object, "init_from");
    const char *dir = cJSON_IsString(node) ? cfg_path(d, node, node->valuestring) : NULL;
    char *text = NULL;
    js_doc a = {0};
    if (!dir || !method->peft_type) return;
    const bool told = ft_error()[0];
    ft_error_keep(true);
    const ft_status rc = open_config(dir, &a, &text);
    ft_error_keep(false);
    if (rc == FT_OK) {
        const char *type = pe_adapter_type(&a);
        if (type && strcmp(type, method->peft_type) != 0)
            cfg_fail(d, node, "method.init_from",
                     "is an adapter of type %s, and method.type \"%s\" goes on from %s; name the "
                     "method that made it, or leave init_from out",
                     ft_shows(type), method->name, method->peft_type);
    } else if (!told) { /* told by pe_check_init_from, or on opening it */
        ft_error_clear();
    }
    js_close(&a);
    ft_free(text);
}

/* First values are the adapter's, whatever else is asked for. */
static void tell_first_values(cfg_doc *d, const cJSON *object)
{
    static const char *const keys[] = {"init_lora_weights", "init_weights", "d_initial"};
    static const cfg_field no_default[] = { CFG_END };
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++)
        if (!cJSON_IsTrue(js_get(object, keys[i])) && !cJSON_IsNull(js_get(object, keys[i])))
            cfg_idle(d, object, "method", no_default, keys[i],
                     "with init_from: the first values are the adapter's");
}

void pe_check_init_from(cfg_doc *d, const cJSON *object, const char *const *keys,
                        const char *const *more)
{
    const cJSON *node = js_get(object, "init_from");
    char *text = NULL;
    js_doc a = {0};
    if (!cJSON_IsString(node)) return;
    tell_first_values(d, object);
    const char *dir = cfg_path(d, node, node->valuestring);
    bool is;
    if (!dir || cfg_is_wrong(d, "method.init_from")) return;
    ft_status rc = io_is_adapter(dir, &is);
    if (rc == FT_OK && !is) return; /* told on opening it */
    if (rc == FT_OK) rc = open_config(dir, &a, &text);
    if (rc != FT_OK && rc != FT_EDATA) {
        ft_error_clear(); /* no mistake of the config: told with its own code on opening it */
        return;
    }
    if (rc != FT_OK) {
        str_buf why = {0};
        str_adds(&why, ft_error());
        ft_error_clear();
        cfg_fail(d, node, "method.init_from", "%s", why.data ? why.data : "cannot be read");
        str_free(&why);
    }
    if (a.root && pe_adapter_type(&a)) { /* what has none is told on opening, too */
        for (; *keys; keys++) compare_key(d, object, a.root, *keys);
        for (; more && *more; more++) compare_key(d, object, a.root, *more);
    }
    js_close(&a);
    ft_free(text);
}

void pe_leave_to_adapter(cJSON *resolved, const cJSON *object, const char *dir)
{
    char *text = NULL;
    js_doc a = {0};
    if (open_config(dir, &a, &text) == FT_OK) {
        for (cJSON *v = resolved->child, *next; v; v = next) {
            const cJSON *there = key_of(a.root, v->string);
            next = v->next;
            if (there && !js_get(object, v->string) && says_otherwise(v, there))
                cJSON_Delete(cJSON_DetachItemViaPointer(resolved, v));
        }
    }
    ft_error_clear(); /* told where the adapter is opened */
    js_close(&a);
    ft_free(text);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */
void pe_put_json(cJSON *o, const char *key, const cJSON *v)
{
    js_add(o, key, pe_is_null(v) ? cJSON_CreateNull() : cJSON_Duplicate(v, true));
}

static void put_common(const pe_ctx *c, cJSON *o)
{
    cJSON_AddNullToObject(o, "auto_mapping");
    if (c->base_name)
        cJSON_AddStringToObject(o, "base_model_name_or_path", c->base_name);
    else
        cJSON_AddNullToObject(o, "base_model_name_or_path");
    cJSON_AddBoolToObject(o, "inference_mode", true);
    cJSON_AddStringToObject(o, "peft_type", c->method->peft_type);
    cJSON_AddNullToObject(o, "revision");
    cJSON_AddStringToObject(o, "task_type", c->m && c->m->scores ? PE_SCORES : "CAUSAL_LM");
}

/* A new object with the members of o, which loses them, in the order of their keys, as PEFT writes them. */
static cJSON *sorted(cJSON *o)
{
    cJSON *out = cJSON_CreateObject();
    while (out && o->child) {
        cJSON *first = o->child;
        for (cJSON *e = first->next; e; e = e->next) {
            if (strcmp(e->string, first->string) < 0) first = e;
        }
        char *key = ft_strdup(first->string);
        cJSON_DetachItemViaPointer(o, first);
        if (!key) cJSON_Delete(first);
        if (!key || !js_add(out, key, first)) {
            cJSON_Delete(out);
            out = NULL;
        }
        ft_free(key);
    }
    return out;
}

static ft_status write_keys(cJSON *own, const char *dir)
{
    str_buf text = {0}, path = {0};
    cJSON *o = own ? sorted(own) : NULL;
    if (o) js_print(&text, o, true);
    str_addc(&text, '\n');
    str_printf(&path, "%s/adapter_config.json", dir);
    ft_status rc = !o || text.failed || path.failed ? FT_EMEM : FT_OK;
    if (rc == FT_OK) rc = file_write(path.data, text.data, text.len);
    cJSON_Delete(o);
    cJSON_Delete(own);
    str_free(&text);
    str_free(&path);
    return rc;
}

ft_status pe_write_config(const pe_ctx *c, cJSON *own, const char *dir)
{
    if (own) put_common(c, own);
    return write_keys(own, dir);
}

ft_status pe_write_folder(const pe_ctx *c, cJSON *own, const char *dir)
{
    const char *name = pe_format_of(c->method)->tensors;
    ft_status rc = own ? pe_write_entries(dir, name, c->entries.entry, c->entries.n) : FT_EMEM;
    if (rc == FT_OK) return write_keys(own, dir);
    cJSON_Delete(own);
    return rc;
}

ft_status pe_save_files(const pe_ctx *c, cJSON *own, const char *dir)
{
    if (own) put_common(c, own);
    return pe_write_folder(c, own, dir);
}
