/* target.c – what every adapter of weights has in common, whatever it computes: which modules it sits on, what is trained
 * beside it (modules_to_save, biases), the list of tensors of its file, and the keys of adapter_config.json that all of them
 * share. The rules are PEFT's: a config means the same modules in both programs. */
#include "ft/method.h"
#include "method_private.h"

#include <math.h>
#include <string.h>

const char *const pe_bias_choices[] = {"none", "all", "lora_only", NULL};

bool pe_is_null(const cJSON *v)
{
    return !v || cJSON_IsNull(v);
}

/* --- forms of the keys -------------------------------------------------------------------------------------- */
static bool is_names(const cJSON *v, bool string_too)
{
    const cJSON *e;
    if (string_too && cJSON_IsString(v)) return true;
    if (!cJSON_IsArray(v)) return false;
    cJSON_ArrayForEach(e, v)
    {
        if (!cJSON_IsString(e) || !*e->valuestring) return false;
    }
    return cJSON_GetArraySize(v) > 0;
}

static bool is_regex_or_names(const cJSON *v)
{
    return is_names(v, true);
}

static bool is_list_of_names(const cJSON *v)
{
    return is_names(v, false);
}

static bool is_layers(const cJSON *v)
{
    const cJSON *e;
    if (cJSON_IsNumber(v)) return v->valuedouble >= 0 && v->valuedouble == floor(v->valuedouble);
    if (!cJSON_IsArray(v)) return false;
    cJSON_ArrayForEach(e, v)
    {
        if (!cJSON_IsNumber(e) || !is_layers(e)) return false;
    }
    return true;
}

static bool is_pattern(const cJSON *v, bool whole)
{
    const cJSON *e;
    if (!cJSON_IsObject(v)) return false;
    cJSON_ArrayForEach(e, v)
    {
        bool good = cJSON_IsNumber(e) && e->valuedouble > 0 && e->valuedouble <= 65536;
        if (!good || (whole && e->valuedouble != floor(e->valuedouble))) return false;
    }
    return true;
}

bool pe_is_ranks(const cJSON *v)
{
    return is_pattern(v, true);
}

bool pe_is_alphas(const cJSON *v)
{
    return is_pattern(v, false);
}

/* The keys of pe_target that are JSON, with the form each must have. */
static const struct {
    const char *key;
    size_t offset;
    bool (*good)(const cJSON *v);
    const char *must;
} target_keys[] = {
#define KEY(k, good, must)                                                                         \
    {                                                                                              \
#k, offsetof(pe_target, k), good, must                                                     \
    }
    KEY(target_modules, is_regex_or_names,
        "must be \"all-linear\", a regex, or a list of module names"),
    KEY(exclude_modules, is_regex_or_names, "must be a regex or a list of module names"),
    KEY(modules_to_save, is_list_of_names, "must be a list of module names"),
    KEY(layers_to_transform, is_layers, "must be a layer index or a list of them"),
    KEY(layers_pattern, is_regex_or_names, "must be a name or a list of names"),
#undef KEY
};

static const cJSON **member(const pe_target *t, size_t offset)
{
    return (const cJSON **)((uintptr_t)t + offset);
}

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

static void compare_key(cfg_doc *d, const cJSON *object, const cJSON *adapter, const char *key)
{
    const cJSON *here = js_get(object, key), *there = js_get(adapter, key);
    bool all = cJSON_IsString(here) && strcmp(here->valuestring, "all-linear") == 0;
    if (pe_is_null(here) || all || cJSON_Compare(here, there, true) || same_names(here, there))
        return;
    cfg_fail(d, here, key,
             "differs from the adapter of init_from; leave it out or make it the same");
}

/* Keys that the adapter of init_from has settled may be left out, or say the same. */
static void compare_init_from(cfg_doc *d, const cJSON *object, const char *const *keys)
{
    const cJSON *node = js_get(object, "init_from");
    char *text = NULL;
    size_t len;
    js_doc a = {0};
    str_buf path = {0};
    if (!cJSON_IsString(node)) return;
    str_printf(&path, "%s/adapter_config.json", cfg_path(d, node, node->valuestring));
    if (str_ok(&path) != FT_OK || file_read(&text, &len, path.data, (size_t)4 << 20) != FT_OK ||
        js_parse(&a, text, len, path.data, 1, JS_NO_POSITIONS, FT_EDATA) != FT_OK) {
        str_buf why = {0};
        str_adds(&why, ft_error());
        ft_error_clear();
        cfg_fail(d, node, "method.init_from", "%s", why.data ? why.data : "cannot be read");
        str_free(&why);
    }
    if (a.root) {
        for (size_t i = 0; i < FT_COUNT_OF(target_keys); i++)
            compare_key(d, object, a.root, target_keys[i].key);
        compare_key(d, object, a.root, "bias");
        for (; *keys; keys++) compare_key(d, object, a.root, *keys);
    }
    js_close(&a);
    ft_free(text);
    str_free(&path);
}

void pe_check_target(cfg_doc *d, const cJSON *object, const pe_target *t, const char *const *keys)
{
    for (size_t i = 0; i < FT_COUNT_OF(target_keys); i++)
        pe_check_json(d, *member(t, target_keys[i].offset), target_keys[i].key, target_keys[i].good,
                      target_keys[i].must);
    compare_init_from(d, object, keys);
}

ft_status pe_load_target(pe_target *t, const js_doc *d)
{
    const char *bias;
    for (size_t i = 0; i < FT_COUNT_OF(target_keys); i++)
        FT_TRY(pe_load_json(d, target_keys[i].key, target_keys[i].good,
                            member(t, target_keys[i].offset)));
    FT_TRY(js_get_str(d, d->root, "bias", "none", &bias));
    t->bias = NULL;
    for (size_t i = 0; pe_bias_choices[i]; i++) {
        if (strcmp(bias, pe_bias_choices[i]) == 0) t->bias = pe_bias_choices[i];
    }
    if (t->bias) return FT_OK;
    return js_fail(d, js_get(d->root, "bias"), FT_EDATA, "bias", "must be none, all or lora_only");
}

/* --- which modules --------------------------------------------------------------------------------------------- */
static bool is_linear(const nn_site *s)
{
    return s->role != NN_EMBED && s->role != NN_POSITION;
}

static bool saved_in_full(const pe_target *t, const char *path)
{
    return pe_list_has(t->modules_to_save, path, pe_match_suffix);
}

/* The element before the layer number must be a layers_pattern, where one is given. */
static bool right_list(const pe_target *t, const nn_site *s)
{
    const cJSON *e, *list = t->layers_pattern;
    str_buf part = {0};
    bool found = false;
    if (pe_is_null(list)) return true;
    for (int i = 0; !found && (cJSON_IsString(list) ? i == 0 : i < cJSON_GetArraySize(list)); i++) {
        e = cJSON_IsString(list) ? list : cJSON_GetArrayItem(list, i);
        str_clear(&part);
        str_printf(&part, ".%s.%d.", e->valuestring, s->layer);
        found = part.data && strstr(s->path, part.data) != NULL;
    }
    str_free(&part);
    return found;
}

static bool layer_wanted(const pe_target *t, const nn_site *s)
{
    const cJSON *e, *l = t->layers_to_transform;
    if (pe_is_null(l) || (cJSON_IsArray(l) && cJSON_GetArraySize(l) == 0)) return true;
    if (s->layer < 0 || !right_list(t, s)) return false;
    if (cJSON_IsNumber(l)) return (int)l->valuedouble == s->layer;
    cJSON_ArrayForEach(e, l)
    {
        if ((int)e->valuedouble == s->layer) return true;
    }
    return false;
}

static bool equal(const char *entry, const char *path)
{
    return strcmp(entry, path) == 0;
}

/* Exclusions, then a regex of the whole path, or a list of suffixes with the layer filter. 1, 0, −1. */
static int is_target(const pe_target *t, const nn_site *s)
{
    const cJSON *list = t->target_modules;
    if (cJSON_IsString(t->exclude_modules)) {
        int out = pe_match_full(t->exclude_modules->valuestring, s->path);
        if (out != 0) return out < 0 ? -1 : 0;
    } else if (pe_list_has(t->exclude_modules, s->path, pe_match_suffix)) {
        return 0;
    }
    if (saved_in_full(t, s->path)) return 0;
    if (pe_is_null(list))
        return s->role == NN_Q || s->role == NN_V || s->role == NN_QKV; /* PEFT's default targets */
    if (cJSON_IsString(list) && strcmp(list->valuestring, "all-linear") == 0)
        return is_linear(s) && s->role != NN_HEAD && layer_wanted(t, s);
    if (cJSON_IsString(list)) return pe_match_full(list->valuestring, s->path);
    if (pe_list_has(list, s->path, equal)) return 1;
    return pe_list_has(list, s->path, pe_match_suffix) && layer_wanted(t, s);
}

int pe_pattern_value(const cJSON *pattern, const char *path, double *value)
{
    const cJSON *e;
    if (!cJSON_IsObject(pattern)) return 0;
    cJSON_ArrayForEach(e, pattern)
    {
        int hit = pe_match_pattern(e->string, path);
        if (hit > 0) *value = e->valuedouble;
        if (hit != 0) return hit;
    }
    return 0;
}

/* --- attaching --------------------------------------------------------------------------------------------------- */
ft_status pe_add_entry(pe_ctx *c, nn_param *p, const char *key, bool transposed)
{
    pe_entries *v = &c->entries;
    if (!p || !key) return FT_EMEM;
    if (v->n == v->cap) {
        int64_t cap = v->cap ? 2 * v->cap : 256;
        pe_entry *more = arena_get(c->mem, (size_t)cap * sizeof *more);
        if (!more) return FT_EMEM;
        if (v->n) memcpy(more, v->entry, (size_t)v->n * sizeof *more);
        v->entry = more;
        v->cap = cap;
    }
    v->entry[v->n++] = (pe_entry){p, key, transposed};
    return FT_OK;
}

const char *pe_file_key(pe_ctx *c, const char *path, const char *suffix)
{
    return arena_printf(c->mem, "base_model.model.%s%s", path, suffix);
}

static ft_status train_whole(pe_ctx *c, nn_param *p, const char *key)
{
    FT_TRY(pe_train_param(c, p));
    return pe_add_entry(c, p->own, key, false);
}

/* Modules named in modules_to_save (sites and norms), and biases. */
static ft_status attach_rest(pe_ctx *c, const pe_target *t)
{
    model *m = c->m;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *p = &m->param[i];
        const char *dot = strrchr(p->name, '.');
        char *module = arena_strn(c->mem, p->name, (size_t)(dot - p->name));
        if (!module) return FT_EMEM;
        if (saved_in_full(t, module)) {
            FT_TRY(train_whole(c, p, pe_file_key(c, p->name, "")));
            continue;
        }
        if (!str_ends(p->name, ".bias") || strcmp(t->bias, "none") == 0) continue;
        const nn_site *s = model_site(m, module);
        bool wrapped = s && s->slot;
        if (!wrapped && strcmp(t->bias, "all") != 0) continue;
        FT_TRY(train_whole(c, p, pe_file_key(c, module, wrapped ? ".base_layer.bias" : ".bias")));
    }
    return FT_OK;
}

static ft_status no_target(const model *m)
{
    str_buf list = {0};
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *s = &m->site[i];
        const char *last = strrchr(s->path, '.');
        if (s->layer <= 0)
            str_printf(&list, "%s%s", list.len ? ", " : "", last ? last + 1 : s->path);
    }
    ft_status rc =
        ft_fail(FT_ECONFIG, "method.target_modules: no module of this %s model matches; it has %s",
                model_family_name(m), list.data ? list.data : "none");
    str_free(&list);
    return rc;
}

ft_status pe_attach_target(pe_ctx *c, const pe_target *t,
                           ft_status (*attach)(pe_ctx *c, nn_site *s))
{
    int64_t targets = 0;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        int hit = is_target(t, &c->m->site[i]);
        if (hit < 0) return FT_ECONFIG;
        if (hit == 0) continue;
        FT_TRY(attach(c, &c->m->site[i]));
        targets++;
    }
    return targets > 0 ? attach_rest(c, t) : no_target(c->m);
}

/* --- files -------------------------------------------------------------------------------------------------------- */
void pe_put_json(cJSON *o, const char *key, const cJSON *v)
{
    cJSON_AddItemToObject(o, key, pe_is_null(v) ? cJSON_CreateNull() : cJSON_Duplicate(v, true));
}

/* PEFT replaces "all-linear" by the names it stands for. */
static cJSON *target_names(const pe_ctx *c, const pe_target *t)
{
    const cJSON *was = t->target_modules;
    bool expand =
        pe_is_null(was) || (cJSON_IsString(was) && strcmp(was->valuestring, "all-linear") == 0);
    if (!expand) return cJSON_Duplicate(was, true);
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        const char *last = strrchr(s->path, '.');
        last = last ? last + 1 : s->path;
        if (s->slot && !pe_list_has(list, last, equal))
            cJSON_AddItemToArray(list, cJSON_CreateString(last));
    }
    return list;
}

static void put_common(const pe_ctx *c, const pe_target *t, cJSON *o)
{
    cJSON_AddNullToObject(o, "auto_mapping");
    if (c->base_name)
        cJSON_AddStringToObject(o, "base_model_name_or_path", c->base_name);
    else
        cJSON_AddNullToObject(o, "base_model_name_or_path");
    cJSON_AddStringToObject(o, "bias", t->bias);
    pe_put_json(o, "exclude_modules", t->exclude_modules);
    cJSON_AddBoolToObject(o, "fan_in_fan_out", c->m->layer[0].o.site->in_out);
    cJSON_AddBoolToObject(o, "inference_mode", true);
    pe_put_json(o, "layers_pattern", t->layers_pattern);
    pe_put_json(o, "layers_to_transform", t->layers_to_transform);
    pe_put_json(o, "modules_to_save", t->modules_to_save);
    cJSON_AddStringToObject(o, "peft_type", c->method->peft_type);
    cJSON_AddNullToObject(o, "revision");
    cJSON_AddItemToObject(o, "target_modules", target_names(c, t));
    cJSON_AddStringToObject(o, "task_type", "CAUSAL_LM");
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
        if (!key || !cJSON_AddItemToObject(out, key, first)) {
            cJSON_Delete(first);
            cJSON_Delete(out);
            out = NULL;
        }
        ft_free(key);
    }
    return out;
}

ft_status pe_save_adapter(const pe_ctx *c, const pe_target *t, cJSON *own, const char *dir)
{
    str_buf text = {0}, path = {0};
    cJSON *o = NULL;
    if (own) {
        put_common(c, t, own);
        o = sorted(own);
    }
    if (o) js_print(&text, o, true);
    str_addc(&text, '\n');
    str_printf(&path, "%s/adapter_config.json", dir);
    ft_status rc = !o || text.failed || path.failed
                       ? FT_EMEM
                       : pe_write_tensors(dir, c->entries.entry, c->entries.n);
    if (rc == FT_OK) rc = file_write(path.data, text.data, text.len);
    cJSON_Delete(o);
    cJSON_Delete(own);
    str_free(&text);
    str_free(&path);
    return rc;
}

/* PEFT stores the base weights of a targeted embedding or head beside the factors; they repeat the base. */
static bool is_base_copy(void *ctx, const io_tensor *t)
{
    (void)ctx;
    return str_ends(t->name, ".base_layer.weight");
}

ft_status pe_load_adapter(pe_ctx *c, const char *dir)
{
    return pe_read_tensors(dir, c->entries.entry, c->entries.n, is_base_copy, NULL);
}
