/* target.c – what every adapter of weights has in common, whatever it computes: which modules it sits on, what is trained
 * beside it (modules_to_save, biases), the list of tensors of its file, and their keys of adapter_config.json. The rules are
 * PEFT's: a config means the same modules in both programs. */
#include "ft/method.h"
#include "method_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *const pe_bias_choices[] = {"none", "all", "lora_only", NULL};

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
        "must be \"all-linear\", a regex, or a list of module names, at least one"),
    KEY(exclude_modules, is_regex_or_names, "must be a regex or a list of module names"),
    KEY(modules_to_save, is_list_of_names, "must be a list of module names, at least one"),
    KEY(layers_to_transform, is_layers, "must be a layer index or a list of them"),
    KEY(layers_pattern, is_regex_or_names, "must be a name or a list of names"),
#undef KEY
};

static const cJSON **member(const pe_target *t, size_t offset)
{
    return (const cJSON **)((uintptr_t)t + offset);
}

/* A regex, with what stands around it where it is used, is told by the key before it meets a model. */
void pe_check_regex(cfg_doc *d, const cJSON *at, const char *key, const char *regex,
                    int (*match)(const char *regex, const char *path))
{
    int hit = match(regex, "");
    if (hit >= 0 || hit == -2) return; /* where memory is gone, who uses it will say so */
    char why[400];
    snprintf(why, sizeof why, "%s", ft_error());
    ft_error_clear();
    cfg_fail(d, at, key, "%s", why);
}

void pe_check_patterns(cfg_doc *d, const cJSON *v, const char *key, bool (*good)(const cJSON *v),
                       const char *must)
{
    const cJSON *e;
    char whole[64];
    pe_check_json(d, v, key, good, must);
    snprintf(whole, sizeof whole, "method.%s", key);
    if (pe_is_null(v) || !good(v)) return;
    cJSON_ArrayForEach(e, v) pe_check_regex(d, e, whole, e->string, pe_match_pattern);
}

void pe_check_target(cfg_doc *d, const cJSON *object, const pe_target *t, const char *const *keys)
{
    static const char *const settled[] = {"target_modules",
                                          "exclude_modules",
                                          "modules_to_save",
                                          "layers_to_transform",
                                          "layers_pattern",
                                          "bias",
                                          NULL};
    for (size_t i = 0; i < FT_COUNT_OF(target_keys); i++)
        pe_check_json(d, *member(t, target_keys[i].offset), target_keys[i].key, target_keys[i].good,
                      target_keys[i].must);
    const cJSON *regex = cJSON_IsString(t->target_modules) ? t->target_modules : NULL;
    if (regex) pe_check_regex(d, regex, "method.target_modules", regex->valuestring, pe_match_full);
    if (cJSON_IsString(t->exclude_modules))
        pe_check_regex(d, t->exclude_modules, "method.exclude_modules",
                       t->exclude_modules->valuestring, pe_match_full);
    if (regex && !pe_is_all_linear(regex) && !pe_is_empty(t->layers_to_transform))
        cfg_fail(d, t->layers_to_transform, "method.layers_to_transform",
                 "target_modules is a regex of whole paths, which names the layers itself");
    if (is_regex_or_names(t->layers_pattern) && !pe_is_empty(t->layers_pattern) &&
        pe_is_empty(t->layers_to_transform))
        cfg_fail(d, t->layers_pattern, "method.layers_pattern",
                 "says where the layers of layers_to_transform are, which is not given");
    pe_check_init_from(d, object, settled, keys);
}

static bool has_bias(const pe_target *t, const char *word)
{
    return strcmp(t->bias ? t->bias : "none", word) == 0;
}

ft_status pe_load_target(pe_target *t, const js_doc *d)
{
    const char *bias;
    for (size_t i = 0; i < FT_COUNT_OF(target_keys); i++)
        FT_TRY(pe_load_json(d, target_keys[i].key, target_keys[i].good,
                            member(t, target_keys[i].offset)));
    t->trainable_token_indices = js_get(d->root, "trainable_token_indices");
    FT_TRY(js_get_bool(d, d->root, "ensure_weight_tying", false, &t->ensure_weight_tying));
    FT_TRY(js_get_str(d, d->root, "bias", "none", &bias));
    t->bias = bias;
    if (has_bias(t, "none") || has_bias(t, "all") || str_ends(bias, "_only")) return FT_OK;
    return js_fail(d, js_get(d->root, "bias"), FT_EDATA, "bias", "must be none, all or lora_only");
}

/* --- which modules --------------------------------------------------------------------------------------------- */
static bool is_linear(const nn_site *s)
{
    return s->role != NN_EMBED && s->role != NN_POSITION;
}

/* The i-th name of a list, or the one name that a string is; NULL past the end. */
static const char *name_at(const cJSON *v, int i)
{
    const cJSON *e = cJSON_IsArray(v) ? cJSON_GetArrayItem(v, i) : i == 0 ? v : NULL;
    return cJSON_IsString(e) ? e->valuestring : NULL;
}

static bool equal(const char *entry, const char *path)
{
    return strcmp(entry, path) == 0;
}

/* The length of the next longer module path in a path: model, model.layers, model.layers.0, …; 0 past its end. */
static size_t next_module(const char *path, size_t len)
{
    if (len > 0 && !path[len]) return 0;
    size_t from = len > 0 ? len + 1 : 0;
    return from + strcspn(path + from, ".");
}

/* modules_to_save takes every module whose path ends with a name, "norm" input_layernorm too, and all inside it. The
 * number of modules on the way to `path` that it takes; *entry: the last name that took one. */
static int saved_above(const cJSON *names, const char *path, const char **entry)
{
    int n = 0;
    for (size_t len = next_module(path, 0); len > 0; len = next_module(path, len)) {
        const char *name, *taken = NULL;
        for (int i = 0; !taken && (name = name_at(names, i)); i++) {
            size_t k = strlen(name);
            if (k <= len && memcmp(path + len - k, name, k) == 0) taken = name;
        }
        n += taken != NULL;
        if (taken && entry) *entry = taken;
    }
    return n;
}

static bool saved_in_full(const pe_target *t, const char *path)
{
    return saved_above(t->modules_to_save, path, NULL) > 0;
}

/* 1, 0, −1. What is saved in full is no target; names of modules_to_save are regexes here, as they are in PEFT. */
static int is_excluded(const pe_target *t, const char *path)
{
    const char *name;
    int hit = 0;
    if (cJSON_IsString(t->exclude_modules))
        hit = pe_match_full(t->exclude_modules->valuestring, path);
    else if (pe_list_has(t->exclude_modules, path, pe_match_suffix))
        hit = 1;
    for (int i = 0; hit == 0 && (name = name_at(t->modules_to_save, i)); i++)
        hit = pe_match_inside(name, path);
    return hit;
}

/* 1, 0, −1. The first of layers_pattern that the path has gives the layer's number. */
static int layer_wanted(const pe_target *t, const char *path)
{
    const cJSON *e, *l = t->layers_to_transform;
    int64_t layer;
    int hit = 0;
    if (pe_is_empty(l)) return 1;
    if (pe_is_empty(t->layers_pattern)) hit = pe_match_layer(NULL, path, &layer);
    for (int i = 0; hit == 0 && !pe_is_empty(t->layers_pattern); i++) {
        const char *name = name_at(t->layers_pattern, i);
        if (!name) break;
        hit = pe_match_layer(name, path, &layer);
    }
    if (hit <= 0) return hit;
    if (cJSON_IsNumber(l)) return l->valuedouble == (double)layer;
    cJSON_ArrayForEach(e, l)
    {
        if (e->valuedouble == (double)layer) return 1;
    }
    return 0;
}

/* Exclusions, then a regex of the whole path, or a list of suffixes with the layer filter; s: NULL of a module that is no
 * site. 1, 0, −1. */
static int is_target(const pe_target *t, const char *path, const nn_site *s)
{
    const cJSON *list = t->target_modules;
    int out = is_excluded(t, path);
    bool named;
    if (out != 0) return out < 0 ? out : 0;
    if (pe_is_null(list)) /* PEFT's default targets */
        named = s && (s->role == NN_Q || s->role == NN_V || s->role == NN_QKV);
    else if (pe_is_all_linear(list))
        named = s && is_linear(s) && s->role != NN_HEAD;
    else if (cJSON_IsString(list))
        return pe_match_full(list->valuestring, path);
    else if (pe_list_has(list, path, equal))
        return 1;
    else
        named = pe_list_has(list, path, pe_match_suffix);
    return named ? layer_wanted(t, path) : 0;
}

ft_status pe_pattern_value(const cJSON *pattern, const char *path, double *value)
{
    const cJSON *e;
    if (!cJSON_IsObject(pattern)) return FT_OK;
    cJSON_ArrayForEach(e, pattern)
    {
        int hit = pe_match_pattern(e->string, path);
        if (hit > 0) *value = e->valuedouble;
        if (hit != 0) return pe_match_status(hit);
    }
    return FT_OK;
}

void pe_tell_patterns(const pe_ctx *c, const cJSON *pattern, const char *key)
{
    const cJSON *e;
    if (c->adapter.root || !cJSON_IsObject(pattern))
        return; /* of a config, not of a finished adapter */
    cJSON_ArrayForEach(e, pattern)
    {
        bool found = false;
        for (int64_t i = 0; i < c->m->n_site && !found; i++)
            found = nn_slot_of(&c->over, &c->m->site[i]) &&
                    pe_match_pattern(e->string, c->m->site[i].path) != 0; /* or not known */
        if (!found)
            log_warn("method.%s: \"%s\" matches no target of this %s model", key,
                     ft_shows(e->string), model_family_name(c->m));
    }
}

/* --- names that match nothing ------------------------------------------------------------------------------------- */
/* The module that a parameter belongs to; NULL: out of memory. */
static const char *module_of(pe_ctx *c, const nn_param *p)
{
    const char *dot = strrchr(p->name, '.');
    return arena_strn(c->mem, p->name, (size_t)(dot - p->name));
}

/* Names of modules as they stand outside the layers and in the first one; with `all`, also those that are no site. */
static ft_status no_such_module(pe_ctx *c, const char *key, const char *name, bool all)
{
    str_buf list = {0};
    const char *before = "";
    for (int64_t i = 0; i < c->m->n_param; i++) {
        const char *module = module_of(c, &c->m->param[i]);
        int64_t layer = 0;
        if (!module) break;
        bool later = pe_match_layer(NULL, module, &layer) == 1 && layer > 0;
        if (later || strcmp(module, before) == 0 || !(all || model_site(c->m, module))) continue;
        const char *last = strrchr(module, '.');
        str_printf(&list, "%s%s", list.len ? ", " : "", last ? last + 1 : module);
        before = module;
    }
    ft_status rc =
        ft_fail(FT_ECONFIG, "method.%s: no module of this %s model matches \"%s\"; it has %s", key,
                model_family_name(c->m), ft_shows(name), list.data ? list.data : "none");
    str_free(&list);
    return rc;
}

static ft_status check_target_names(pe_ctx *c, const cJSON *list)
{
    const char *name;
    for (int i = 0; cJSON_IsArray(list) && (name = name_at(list, i)); i++) {
        bool found = false;
        for (int64_t k = 0; k < c->m->n_site && !found; k++)
            found = pe_match_suffix(name, c->m->site[k].path);
        if (!found) return no_such_module(c, "target_modules", name, false);
    }
    return FT_OK;
}

/* A regex that takes more than linear layers and tables is an error, as in PEFT. */
static ft_status check_target_regex(pe_ctx *c, const cJSON *regex)
{
    if (!cJSON_IsString(regex) || pe_is_all_linear(regex)) return FT_OK;
    for (int64_t i = 0; i < c->m->n_param; i++) {
        const char *path = module_of(c, &c->m->param[i]);
        if (!path) return FT_EMEM;
        for (size_t len = next_module(path, 0); len > 0; len = next_module(path, len)) {
            const char *module = arena_strn(c->mem, path, len);
            if (!module) return FT_EMEM;
            if (model_site(c->m, module)) continue;
            int hit = pe_match_full(regex->valuestring, module);
            FT_CHECK(hit <= 0, FT_ECONFIG,
                     "method.target_modules: the regex matches \"%s\" too, which is neither a "
                     "linear layer nor an embedding; make it narrower",
                     module);
            FT_TRY(pe_match_status(hit));
        }
    }
    return FT_OK;
}

static ft_status check_saved_names(pe_ctx *c, const cJSON *names)
{
    const char *name, *entry = NULL;
    for (int i = 0; (name = name_at(names, i)); i++) {
        const cJSON one = {.type = cJSON_String, .valuestring = (char *)(uintptr_t)name};
        bool found = false;
        for (int64_t k = 0; k < c->m->n_param && !found; k++) {
            const char *module = module_of(c, &c->m->param[k]);
            if (!module) return FT_EMEM;
            found = saved_above(&one, module, NULL) > 0;
        }
        if (!found) return no_such_module(c, "modules_to_save", name, true);
    }
    for (int64_t k = 0; k < c->m->n_param; k++) {
        const char *module = module_of(c, &c->m->param[k]);
        if (!module) return FT_EMEM;
        FT_CHECK(saved_above(names, module, &entry) < 2, FT_ECONFIG,
                 "method.modules_to_save: names both \"%s\" and a module around it (PEFT could not "
                 "load the adapter); say \"%s\" more exactly",
                 module, entry);
    }
    return FT_OK;
}

static ft_status check_layers(const pe_ctx *c, const cJSON *l)
{
    const cJSON *e = cJSON_IsArray(l) ? l->child : l;
    for (; e && !pe_is_empty(l); e = cJSON_IsArray(l) ? e->next : NULL) {
        FT_CHECK(e->valuedouble < (double)c->m->d.n_layer, FT_ECONFIG,
                 "method.layers_to_transform: there is no layer %.0f; this model has 0 to %lld",
                 e->valuedouble, (long long)c->m->d.n_layer - 1);
    }
    return FT_OK;
}

/* A name that leaves nothing out is told, as PEFT does, and no more: the rest is what was asked for. */
static ft_status check_excluded(pe_ctx *c, const cJSON *names)
{
    const char *name;
    for (int i = 0; (name = name_at(names, i)); i++) {
        bool found = false;
        for (int64_t k = 0; k < c->m->n_param && !found; k++) {
            const char *module = module_of(c, &c->m->param[k]);
            if (!module) return FT_EMEM;
            const int hit =
                cJSON_IsString(names) ? pe_match_full(name, module) : pe_match_suffix(name, module);
            FT_TRY(pe_match_status(hit));
            found = hit > 0;
        }
        if (!found)
            log_warn("method.exclude_modules: \"%s\" has no effect: no module of this %s model "
                     "matches it",
                     ft_shows(name), model_family_name(c->m));
    }
    return FT_OK;
}

/* PEFT passes over names that match nothing, and trains less than was asked for. An adapter that is there is read by its
 * rules; a config is held to what it says. */
static ft_status check_names(pe_ctx *c, const pe_target *t)
{
    FT_TRY(check_target_names(c, t->target_modules));
    FT_TRY(check_target_regex(c, t->target_modules));
    FT_TRY(check_saved_names(c, t->modules_to_save));
    FT_TRY(check_excluded(c, t->exclude_modules));
    return check_layers(c, t->layers_to_transform);
}

static ft_status no_target(pe_ctx *c, const pe_target *t)
{
    const char *name = name_at(t->target_modules, 0);
    bool named = !name || pe_is_all_linear(t->target_modules);
    bool regex = !named && cJSON_IsString(t->target_modules);
    for (int64_t i = 0; i < c->m->n_site && regex && !named; i++) {
        const int hit = pe_match_full(name, c->m->site[i].path);
        FT_TRY(pe_match_status(hit));
        named = hit > 0;
    }
    FT_CHECK(!regex || named, FT_ECONFIG,
             "method.target_modules: the regex \"%s\" matches no module of this %s model; it must "
             "match whole paths, as \"%s\" (names stand in a list: [\"q_proj\"])",
             ft_shows(name), model_family_name(c->m), c->m->site[c->m->n_site / 2].path);
    for (int64_t i = 0; i < c->m->n_site && !named; i++)
        named = cJSON_IsArray(t->target_modules) &&
                pe_list_has(t->target_modules, c->m->site[i].path, pe_match_suffix);
    if (!named) return no_such_module(c, "target_modules", name, false);
    return ft_fail(FT_ECONFIG,
                   "method.target_modules: exclude_modules, modules_to_save and "
                   "layers_to_transform leave no module of this %s model",
                   model_family_name(c->m));
}

/* --- attaching --------------------------------------------------------------------------------------------------- */
static ft_status train_whole(pe_ctx *c, nn_param *p, const char *key)
{
    FT_TRY(nn_train_copy(&c->store, &c->over, p));
    return pe_add_entry(c, *pe_own(c, p), key, p->hf_turned);
}

/* Until 0.5 PEFT wrote the bias of an adapted module without "base_layer", and from 0.6 to 0.20 "lora_only" wrote none. */
static void older_bias(pe_ctx *c, const pe_target *t, const char *key)
{
    pe_entry *e = &c->entries.entry[c->entries.n - 1];
    e->also = key;
    e->optional = str_ends(t->bias, "_only");
}

/* Modules named in modules_to_save (sites and norms), and biases. */
static ft_status attach_rest(pe_ctx *c, const pe_target *t)
{
    model *m = c->m;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *p = &m->param[i];
        const char *module = module_of(c, p);
        if (!module) return FT_EMEM;
        if (pe_trains_head(c, p)) {
            FT_TRY(pe_train_head(c, p, pe_file_key(c, p->name, "")));
            continue;
        }
        if (saved_in_full(t, module)) {
            FT_TRY(train_whole(c, p, pe_file_key(c, p->name, "")));
            continue;
        }
        if (!str_ends(p->name, ".bias") || has_bias(t, "none")) continue;
        const nn_site *s = model_site(m, module);
        bool wrapped = s && nn_slot_of(&c->over, s);
        if (!wrapped && !has_bias(t, "all")) continue;
        FT_TRY(train_whole(c, p, pe_file_key(c, module, wrapped ? ".base_layer.bias" : ".bias")));
        if (wrapped) older_bias(c, t, pe_file_key(c, module, ".bias"));
    }
    return FT_OK;
}

/* With ensure_weight_tying PEFT gives a tied head factors of its own, equal to the embedding's, which its config does not
 * name. */
static bool is_tied_target(const pe_ctx *c, const pe_target *t, const nn_site *s)
{
    return t->ensure_weight_tying && c->m->d.tied && c->file && s == c->m->head &&
           nn_slot_of(&c->over, c->m->embed) && pe_file_adapts(c->file, s->path);
}

ft_status pe_name_list(pe_ctx *c, const char *const *names, const cJSON **out)
{
    cJSON *list = arena_get(c->mem, sizeof *list), **next = list ? &list->child : NULL;
    *out = list;
    if (list) list->type = cJSON_Array;
    for (; list && *names; names++, next = &(*next)->next) {
        *next = arena_get(c->mem, sizeof **next);
        if (!*next) return FT_EMEM;
        (*next)->type = cJSON_String;
        (*next)->valuestring = arena_strn(c->mem, *names, strlen(*names));
        if (!(*next)->valuestring) return FT_EMEM;
    }
    return list ? FT_OK : FT_EMEM;
}

ft_status pe_only_linear(const pe_ctx *c, const nn_site *s)
{
    FT_CHECK(is_linear(s), FT_ECONFIG,
             "method.target_modules: \"%s\" is an embedding; %s takes linear layers alone", s->path,
             c->method->name);
    return FT_OK;
}

ft_status pe_attach_target(pe_ctx *c, const pe_target *t,
                           ft_status (*attach)(pe_ctx *c, nn_site *s))
{
    int64_t targets = 0;
    if (!c->adapter.root) FT_TRY(check_names(c, t));
    for (int64_t i = 0; i < c->m->n_site; i++) {
        nn_site *s = &c->m->site[i];
        const char *entry = NULL;
        int hit = is_target(t, s->path, s);
        FT_TRY(pe_match_status(hit));
        if (hit == 0) {
            if (!is_tied_target(c, t, s)) continue;
            FT_CHECK(
                !c->load_dir, FT_EDATA,
                "%s: ensure_weight_tying: embedding and head share their factors, which training "
                "on would tear apart; ft uses and merges such an adapter, but does not go on "
                "from it: merge it, and train on the merged model",
                ft_shows(c->load_dir));
        }
        FT_CHECK(saved_above(t->modules_to_save, s->path, &entry) == 0, FT_ECONFIG,
                 "method.modules_to_save: \"%s\" takes \"%s\" too, which is a target; a module is "
                 "saved in full or adapted, not both",
                 entry, s->path);
        FT_CHECK(
            !pe_trains_head(c, s->w), FT_ECONFIG,
            "method.target_modules: takes \"%s\" too, the head of the reward, which is trained "
            "in full",
            s->path);
        FT_TRY(attach(c, s));
        targets++;
    }
    if (targets == 0) return no_target(c, t);
    FT_TRY(attach_rest(c, t));
    return pe_attach_held(c, t);
}

/* Names of a list that are no norm's. */
static ft_status check_norm_names(pe_ctx *c, const cJSON *list)
{
    const char *name;
    for (int i = 0; cJSON_IsArray(list) && (name = name_at(list, i)); i++) {
        bool found = false;
        for (int64_t k = 0; k < c->m->n_param && !found; k++) {
            const char *module = module_of(c, &c->m->param[k]);
            if (!module) return FT_EMEM;
            found = !model_site(c->m, module) && pe_match_suffix(name, module);
        }
        FT_CHECK(found, FT_ECONFIG,
                 "method.target_modules: no norm of this %s model matches \"%s\"",
                 model_family_name(c->m), ft_shows(name));
    }
    return FT_OK;
}

ft_status pe_attach_norms(pe_ctx *c, const pe_target *t, const char *inside)
{
    const int64_t before = c->entries.n;
    if (!c->adapter.root) {
        FT_TRY(check_norm_names(c, t->target_modules));
        FT_TRY(check_saved_names(c, t->modules_to_save));
        FT_TRY(check_layers(c, t->layers_to_transform));
    }
    for (int64_t i = 0; i < c->m->n_param; i++) {
        nn_param *p = &c->m->param[i];
        const char *module = module_of(c, p);
        if (!module) return FT_EMEM;
        int hit = is_target(t, module, NULL);
        FT_TRY(pe_match_status(hit));
        if (hit == 0) continue;
        FT_CHECK(!model_site(c->m, module), FT_ECONFIG,
                 "method.target_modules: \"%s\" is no norm; %s takes norms alone", module,
                 c->method->name);
        const char *last = arena_printf(c->mem, "%s%s", inside, p->name + strlen(module));
        if (!last) return FT_EMEM;
        FT_TRY(train_whole(c, p, pe_file_key(c, module, last)));
    }
    FT_CHECK(c->entries.n > before, FT_ECONFIG,
             "method.target_modules: no norm of this %s model is a target",
             model_family_name(c->m));
    FT_TRY(attach_rest(c, t));
    return pe_attach_held(c, t);
}

/* --- files -------------------------------------------------------------------------------------------------------- */
/* A key that PEFT's config of this type does not have. */
static bool is_lacking(const pe_ctx *c, const char *key)
{
    const char *const *lacks = c->method->lacks;
    while (lacks && *lacks && strcmp(*lacks, key) != 0) lacks++;
    return lacks && *lacks;
}

/* What the file has no key for, says otherwise which modules are targets. */
static bool needs_paths(const pe_ctx *c, const pe_target *t)
{
    return (is_lacking(c, "exclude_modules") && !pe_is_empty(t->exclude_modules)) ||
           (is_lacking(c, "layers_to_transform") && !pe_is_empty(t->layers_to_transform));
}

/* PEFT replaces "all-linear" by the names it stands for. */
static cJSON *target_names(const pe_ctx *c, const pe_target *t)
{
    const cJSON *was = t->target_modules;
    const bool whole = needs_paths(c, t);
    bool expand = whole || pe_is_null(was) ||
                  (cJSON_IsString(was) && strcmp(was->valuestring, "all-linear") == 0);
    if (!expand) return cJSON_Duplicate(was, true);
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        const char *last = whole ? NULL : strrchr(s->path, '.');
        last = last ? last + 1 : s->path;
        if (nn_slot_of(&c->over, s) && !pe_list_has(list, last, equal))
            cJSON_AddItemToArray(list, cJSON_CreateString(last));
    }
    return list;
}

/* Linear layers are stored one way or the other in a Hugging Face folder, all alike. */
static bool is_in_out(const model *m)
{
    for (int64_t i = 0; i < m->n_site; i++)
        if (m->site[i].in_out || m->site[i].w->hf_turned) return true;
    return false;
}

/* A key of PEFT's config, where it has it; v NULL: null. */
static void put(const pe_ctx *c, cJSON *own, const char *key, const cJSON *v)
{
    if (!is_lacking(c, key)) pe_put_json(own, key, v);
}

/* modules_to_save, with the head that is trained. */
static void put_saved(const pe_ctx *c, const pe_target *t, cJSON *own)
{
    const char *head = c->m->head->path;
    put(c, own, "modules_to_save", t->modules_to_save);
    if (!c->m->scores || saved_in_full(t, head)) return;
    cJSON *list = cJSON_GetObjectItemCaseSensitive(own, "modules_to_save");
    if (!cJSON_IsArray(list)) {
        list = cJSON_CreateArray();
        if (!js_put(own, "modules_to_save", list)) return; /* the tree is lost */
    }
    cJSON_AddItemToArray(list, cJSON_CreateString(head));
}

ft_status pe_save_adapter(const pe_ctx *c, const pe_target *t, cJSON *own, const char *dir)
{
    if (own) {
        const char *bias = t->bias ? t->bias : "none";
        if (!is_lacking(c, "bias")) cJSON_AddStringToObject(own, "bias", bias);
        if (!is_lacking(c, "fan_in_fan_out"))
            cJSON_AddBoolToObject(own, "fan_in_fan_out", is_in_out(c->m));
        put(c, own, "exclude_modules", t->exclude_modules);
        put(c, own, "layers_pattern", t->layers_pattern);
        put(c, own, "layers_to_transform", t->layers_to_transform);
        put_saved(c, t, own);
        js_add(own, "target_modules", target_names(c, t));
    }
    return pe_save_files(c, own, dir);
}

ft_status pe_load_adapter(pe_ctx *c)
{
    FT_TRY(pe_read_tensors(c));
    if (!c->dry) pe_finish_held(c);
    return FT_OK;
}
