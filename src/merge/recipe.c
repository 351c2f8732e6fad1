/* recipe.c – a recipe as mergekit has it: models by their paths, layers in slices, parameters where they stand; and the same
 * printed as it was understood. */
#include <string.h>

#include "merge_private.h"

#define AT(field) offsetof(merge_recipe, field)
static const char *const list_shape[] = {"a list", NULL};
static const char *const map_shape[] = {"a map", NULL};
static const char *const ref_shape[] = {"PATH", "PATH+ADAPTER", NULL};
const cfg_field merge_fields[] = {
    {"merge_method", CFG_STR, AT(method_name), .required = true, .value = merge_method_name_at,
     .help = "how tensors become one"},
    {"models", CFG_JSON, AT(models), .choices = list_shape,
     .help = "whole models, {model, parameters} each; or slices"},
    {"slices", CFG_JSON, AT(slices_given), .choices = list_shape,
     .help = "layers one after another: {sources: [{model, layer_range: [a, b], parameters}], "
             "base_model, parameters}"},
    {"modules", CFG_JSON, AT(modules), .choices = map_shape,
     .help = "of models with several modules; not read"},
    {"base_model", CFG_JSON, AT(base_model), .choices = ref_shape,
     .help = "what changes are counted from; gives config and tokenizer"},
    {"parameters", CFG_JSON, AT(parameters), .choices = map_shape,
     .help = "of the method: scalars, gradients over the layers, {filter, value}"},
    {"dtype", CFG_STR, AT(dtype_name),
     .help = "float32, float16 or bfloat16: inputs are rounded to it; default: as they are"},
    {"out_dtype", CFG_STR, AT(out_dtype_name), .help = "of the result; default: dtype, the base's"},
    {"tokenizer_source", CFG_JSON, AT(tokenizer_source), .choices = ref_shape,
     .help = "union, base, or a model: whose tokens the result has"},
    {"tokenizer", CFG_JSON, AT(tokenizer), .choices = map_shape,
     .help = "the same in detail: {source, tokens, pad_to_multiple_of}"},
    {"chat_template", CFG_STR, AT(chat_template),
     .help = "auto (the one that most models have), a name, or the text of a template"},
    {"seed", CFG_INT, AT(seed), .def = "0", .low = 0, .high = 9007199254740991.0,
     .help = "of random masks"},
    CFG_END};

/* --- slices -------------------------------------------------------------------------------------------------- */

/* A member; NULL where there is none, or null. */
static const cJSON *member(const cJSON *o, const char *key)
{
    const cJSON *v = js_get(o, key);
    return v && !cJSON_IsNull(v) ? v : NULL;
}

static void read_range(merge_recipe *r, const cJSON *v, const char *path, merge_source *s)
{
    const cJSON *a = cJSON_IsArray(v) ? cJSON_GetArrayItem(v, 0) : NULL,
                *b = cJSON_IsArray(v) ? cJSON_GetArrayItem(v, 1) : NULL;
    const char *key = arena_printf(r->mem, "%s.layer_range", path);
    const bool two =
        cJSON_IsArray(v) && cJSON_GetArraySize(v) == 2 && cJSON_IsNumber(a) && cJSON_IsNumber(b);
    if (!two || a->valuedouble < 0 || b->valuedouble > 1e6 || a->valuedouble >= b->valuedouble ||
        a->valuedouble != (double)(int64_t)a->valuedouble ||
        b->valuedouble != (double)(int64_t)b->valuedouble) {
        cfg_fail(r->doc, v ? v : s->node, key,
                 "must be [a, b]: the layers from a on, up to but not with b");
        return;
    }
    s->from = (int64_t)a->valuedouble;
    s->to = (int64_t)b->valuedouble;
}

static ft_status read_source(merge_recipe *r, const cJSON *node, const char *path, bool range,
                             merge_source *s)
{
    static const char *const keys[] = {"model", "parameters", "layer_range", NULL};
    *s = (merge_source){.ref = -1, .to = -1, .node = node};
    if (!cJSON_IsObject(node)) {
        cfg_fail(r->doc, node, path, "must be a map with a model");
        return FT_OK;
    }
    const char *const without[] = {keys[0], keys[1], NULL};
    merge_check_keys(r, node, path, range ? keys : without);
    const char *key = arena_printf(r->mem, "%s.model", path);
    const char *parameters = arena_printf(r->mem, "%s.parameters", path);
    const cJSON *named = member(node, "model");
    if (!key || !parameters) return FT_EMEM;
    if (named)
        s->ref = merge_read_ref(r, named, key);
    else
        cfg_fail(r->doc, node, key, "missing");
    if (range) read_range(r, member(node, "layer_range"), path, s);
    s->parameters = member(node, "parameters");
    merge_check_parameters(r, s->parameters, parameters, MERGE_EACH);
    return FT_OK;
}

/* A list of sources; one more has room behind them. */
static ft_status read_sources(merge_recipe *r, const cJSON *list, const char *path, bool range,
                              merge_slice *s)
{
    const cJSON *e;
    const int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n == 0 || n > MERGE_MODELS) {
        cfg_fail(r->doc, list ? list : s->node, path, "must be a list of 1 to %d models",
                 MERGE_MODELS);
        return FT_OK;
    }
    s->source = arena_get(r->mem, (size_t)(n + 1) * sizeof *s->source);
    if (!s->source) return FT_EMEM;
    cJSON_ArrayForEach(e, list)
    {
        const char *one = arena_printf(r->mem, "%s[%d]", path, s->n);
        if (!one) return FT_EMEM;
        FT_TRY(read_source(r, e, one, range, &s->source[s->n]));
        for (int i = 0; i < s->n; i++)
            if (s->source[i].ref >= 0 && s->source[i].ref == s->source[s->n].ref)
                cfg_fail(r->doc, e, one, "the same model is here twice");
        s->n++;
    }
    return FT_OK;
}

static ft_status read_slice(merge_recipe *r, const cJSON *node, int i, merge_slice *s)
{
    static const char *const keys[] = {"sources", "base_model", "parameters", NULL};
    const char *path = arena_printf(r->mem, "slices[%d]", i);
    *s = (merge_slice){.base = r->base, .node = node};
    if (!path) return FT_EMEM;
    if (!cJSON_IsObject(node)) {
        cfg_fail(r->doc, node, path, "must be a map with sources");
        return FT_OK;
    }
    merge_check_keys(r, node, path, keys);
    const char *sources = arena_printf(r->mem, "%s.sources", path);
    const char *base = arena_printf(r->mem, "%s.base_model", path);
    const char *parameters = arena_printf(r->mem, "%s.parameters", path);
    if (!sources || !base || !parameters) return FT_EMEM;
    FT_TRY(read_sources(r, member(node, "sources"), sources, true, s));
    if (member(node, "base_model")) s->base = merge_read_ref(r, member(node, "base_model"), base);
    s->parameters = member(node, "parameters");
    merge_check_parameters(r, s->parameters, parameters, MERGE_SHARED);
    for (int k = 1; k < s->n; k++) {
        const merge_source *a = &s->source[0], *b = &s->source[k];
        if (a->to > 0 && b->to > 0 && a->to - a->from != b->to - b->from)
            cfg_fail(r->doc, b->node, sources,
                     "%lld layers beside %lld: sources of a slice have "
                     "the same number",
                     (long long)(b->to - b->from), (long long)(a->to - a->from));
    }
    return FT_OK;
}

/* One slice of all layers; a base that is not listed is one more source of it. */
static ft_status read_models(merge_recipe *r)
{
    merge_slice *s = r->slice = arena_get(r->mem, sizeof *s);
    if (!s) return FT_EMEM;
    *s = (merge_slice){.base = r->base, .node = r->models};
    FT_TRY(read_sources(r, r->models, "models", false, s));
    r->n_slice = s->n > 0;
    bool listed = r->base < 0;
    for (int i = 0; i < s->n; i++) listed = listed || s->source[i].ref == r->base;
    if (!listed && s->n > 0)
        s->source[s->n++] = (merge_source){.ref = r->base, .to = -1, .node = r->base_model};
    return FT_OK;
}

static ft_status read_slices(merge_recipe *r)
{
    const cJSON *e;
    const int n = cJSON_IsArray(r->slices_given) ? cJSON_GetArraySize(r->slices_given) : 0;
    if (n == 0) {
        cfg_fail(r->doc, r->slices_given, "slices", "must be a list of slices");
        return FT_OK;
    }
    r->slice = arena_get(r->mem, (size_t)n * sizeof *r->slice);
    if (!r->slice) return FT_EMEM;
    cJSON_ArrayForEach(e, r->slices_given)
    {
        FT_TRY(read_slice(r, e, r->n_slice, &r->slice[r->n_slice]));
        r->n_slice++;
    }
    return FT_OK;
}

/* --- the whole ------------------------------------------------------------------------------------------------- */

const dt_type *merge_read_dtype(cfg_doc *d, const char *key, const char *name)
{
    static const char *const names[][2] = {
        {"float32", "f32"}, {"float16", "f16"}, {"bfloat16", "bf16"}};
    if (!name) return NULL;
    const char *bare = str_starts(name, "torch.") ? name + strlen("torch.") : name;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++)
        if (strcmp(bare, names[i][0]) == 0 || strcmp(bare, names[i][1]) == 0)
            return dt_by_name(names[i][1]);
    cfg_fail(d, js_get(d->js.root, key), key,
             "\"%s\" is no type of a merge; float32, float16 or bfloat16", ft_shows(name));
    return NULL;
}

static void find_method(merge_recipe *r)
{
    const char *names[64] = {NULL};
    const cJSON *node = js_get(r->doc->js.root, "merge_method");
    if (!r->method_name) return;
    r->method = merge_method_by_name(r->method_name);
    if (r->method) return;
    for (int i = 0; i < 63 && merge_method_at(i); i++) names[i] = merge_method_at(i)->name;
    const char *near = cfg_nearest(r->method_name, names);
    cfg_fail(r->doc, node, "merge_method", "\"%s\" is unknown; %s%s%s", ft_shows(r->method_name),
             near ? "did you mean \"" : "ft help merge lists the methods", near ? near : "",
             near ? "\"?" : "");
}

static int beside_base(const merge_slice *s)
{
    int n = s->n;
    for (int i = 0; i < s->n; i++) n -= s->source[i].ref == s->base;
    return n;
}

/* How many inputs the method takes, and whether the base is among them. */
static void check_inputs(merge_recipe *r, const merge_slice *s)
{
    const merge_method *m = r->method;
    const bool has = beside_base(s) < s->n;
    const int n = m->base == MERGE_MAY_BASE ? beside_base(s) : s->n;
    if (m->base == MERGE_NEEDS_BASE && s->base < 0)
        cfg_missing(r->doc, r->doc->js.root, "base_model", "missing; %s needs one", m->name);
    else if (m->base != MERGE_NO_BASE && s->base >= 0 && !has)
        cfg_fail(r->doc, s->node, "base_model", "%s is none of the sources of this slice",
                 ft_shows(r->ref[s->base].text));
    else if (n < m->least || (m->most > 0 && n > m->most))
        cfg_fail(r->doc, s->node, r->models ? "models" : "slices",
                 "%s takes %s%d model%s%s, and here are %d", m->name,
                 m->most == m->least ? "" : "at least ", m->least, m->least == 1 ? "" : "s",
                 m->base == MERGE_NEEDS_BASE ? ", the base among them"
                 : m->base == MERGE_MAY_BASE ? " beside the base"
                                             : "",
                 n);
}

static ft_status read_inputs(merge_recipe *r)
{
    const cJSON *root = r->doc->js.root;
    if (r->modules) {
        cfg_fail(r->doc, r->modules, "modules",
                 "is of models with several modules, which ft does not read; use models or slices");
        return FT_OK;
    }
    if (!r->models == !r->slices_given) {
        cfg_fail(r->doc, root, "models", "either models or slices must be given%s",
                 r->models ? ", not both" : "");
        return FT_OK;
    }
    return r->models ? read_models(r) : read_slices(r);
}

ft_status merge_read(merge_recipe *r, cfg_doc *doc, const char *const *also)
{
    *r = (merge_recipe){.doc = doc, .mem = doc->mem, .base = -1};
    r->ref = arena_get(r->mem, MERGE_MODELS * sizeof *r->ref);
    if (!r->ref) return FT_EMEM;
    FT_TRY(cfg_read(doc, doc->js.root, "", merge_fields, r, also));
    find_method(r);
    r->cast = merge_read_dtype(doc, "dtype", r->dtype_name);
    r->out = merge_read_dtype(doc, "out_dtype", r->out_dtype_name);
    if (r->base_model) r->base = merge_read_ref(r, r->base_model, "base_model");
    FT_TRY(read_inputs(r));
    merge_check_parameters(r, r->parameters, "parameters", MERGE_SHARED);
    FT_TRY(merge_read_tokens(r));
    for (int i = 0; i < r->n_slice && r->method && doc->errors == 0; i++)
        check_inputs(r, &r->slice[i]);
    return FT_OK;
}

/* --- printing -------------------------------------------------------------------------------------------------- */

static void add_copy(cJSON *to, const char *key, const cJSON *v)
{
    if (v) js_add(to, key, cJSON_Duplicate(v, true));
}

static cJSON *print_source(const merge_recipe *r, const merge_source *s, bool range)
{
    cJSON *o = cJSON_CreateObject();
    js_add(o, "model", merge_ref_node(r, s->ref));
    if (range) {
        const double at[2] = {(double)s->from, (double)s->to};
        js_add(o, "layer_range", cJSON_CreateDoubleArray(at, 2));
    }
    add_copy(o, "parameters", s->parameters);
    return o;
}

static void print_inputs(const merge_recipe *r, cJSON *root)
{
    cJSON *list = cJSON_AddArrayToObject(root, r->models ? "models" : "slices");
    for (int i = 0; i < r->n_slice; i++) {
        const merge_slice *s = &r->slice[i];
        cJSON *to = list;
        if (!r->models) {
            cJSON *o = cJSON_CreateObject();
            cJSON_AddItemToArray(list, o);
            to = cJSON_AddArrayToObject(o, "sources");
            if (s->base >= 0 && s->base != r->base)
                js_add(o, "base_model", merge_ref_node(r, s->base));
            add_copy(o, "parameters", s->parameters);
        }
        for (int k = 0; k < s->n; k++)
            if (s->source[k].node != r->base_model) /* it is listed by being the base */
                cJSON_AddItemToArray(to, print_source(r, &s->source[k], !r->models));
    }
}

ft_status merge_print(const merge_recipe *r, str_buf *out)
{
    cJSON *root = cJSON_CreateObject();
    if (!root) return FT_EMEM;
    cJSON_AddStringToObject(root, "merge_method", r->method_name);
    print_inputs(r, root);
    if (r->base >= 0) js_add(root, "base_model", merge_ref_node(r, r->base));
    add_copy(root, "parameters", r->parameters);
    if (r->cast) cJSON_AddStringToObject(root, "dtype", r->dtype_name);
    if (r->out) cJSON_AddStringToObject(root, "out_dtype", r->out_dtype_name);
    merge_print_tokens(r, root);
    if (r->chat_template) cJSON_AddStringToObject(root, "chat_template", r->chat_template);
    cJSON_AddNumberToObject(root, "seed", (double)r->seed);
    js_print(out, root, true);
    str_addc(out, '\n');
    cJSON_Delete(root);
    FT_TRY(js_whole());
    return str_ok(out);
}
