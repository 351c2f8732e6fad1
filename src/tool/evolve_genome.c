/* evolve_genome.c – a genome as mergekit-evolve has it: numbers in the order [layer group, model, filter set, parameter], and
 * the recipe that they make. */
#include <math.h>
#include <string.h>

#include "evolve_private.h"

#define AT(field) offsetof(genome, field)
static const struct {
    const char *name, *value[3];
    bool based, normal; /* it needs a base; normalize null means true */
} methods[] = {{"linear", {"weight"}, false, true},
               {"task_arithmetic", {"weight"}, true, false},
               {"ties", {"weight", "density"}, true, true},
               {"dare_ties", {"weight", "density"}, true, true},
               {"slerp", {"t"}, false, false}};
static const char *const names[] = {"linear",    "task_arithmetic", "ties",
                                    "dare_ties", "slerp",           NULL};
const cfg_field evolve_genome_fields[] = {
    {"models", CFG_JSON, AT(models), .required = true, .help = "paths of the models"},
    {"merge_method", CFG_ENUM, AT(method), .required = true, .choices = names,
     .help = "how they become one"},
    {"base_model", CFG_JSON, AT(base_model), .help = "of a method that needs one"},
    {"tokenizer_source", CFG_JSON, AT(tokenizer_source), .help = "as in a recipe"},
    {"layer_granularity", CFG_INT, AT(granularity), .def = "0", .low = 0, .high = 4096,
     .help = "layers of a group with numbers of its own; 0: all are one group"},
    {"normalize", CFG_JSON, AT(normalize), .help = "as in a recipe; default: the method's"},
    {"allow_negative_weights", CFG_BOOL, AT(negative), .def = "false",
     .help = "weights may be below 0"},
    {"filters", CFG_JSON, AT(filters), .help = "parts of tensors' names with numbers of their own"},
    {"smooth", CFG_BOOL, AT(smooth), .def = "false",
     .help = "numbers of groups are a gradient over the layers"},
    CFG_END};

static int row_of(const genome *g)
{
    int i = 0;
    while (strcmp(methods[i].name, g->method) != 0) i++;
    return i;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static void read_models(genome *g, cfg_doc *d)
{
    const cJSON *v;
    if (!cJSON_IsArray(g->models) || !g->models->child ||
        cJSON_GetArraySize(g->models) >= MERGE_MODELS) {
        cfg_fail(d, g->models, "genome.models", "must be a list of models");
        return;
    }
    cJSON_ArrayForEach(v, g->models)
    {
        const int ref = merge_read_ref(g->refs, v, "genome.models");
        for (int i = 0; i < g->n; i++)
            if (ref >= 0 && g->model[i] == ref)
                cfg_fail(d, v, "genome.models", "the same model is here twice");
        g->model[g->n++] = ref;
    }
    if (strcmp(g->method, "slerp") == 0 && g->n < 2)
        cfg_fail(d, g->models, "genome.models", "slerp needs two models or more");
}

static void read_filters(genome *g, cfg_doc *d)
{
    const cJSON *v;
    g->sets = 1;
    if (!g->filters || cJSON_IsNull(g->filters)) return;
    if (!cJSON_IsArray(g->filters)) {
        cfg_fail(d, g->filters, "genome.filters", "must be a list of parts of names");
        return;
    }
    cJSON_ArrayForEach(v, g->filters) if (!cJSON_IsString(v))
        cfg_fail(d, v, "genome.filters", "must be a list of parts of names");
    g->sets += cJSON_GetArraySize(g->filters);
}

static bool is_listed(const genome *g)
{
    bool listed = false;
    for (int m = 0; m < g->n; m++) listed = listed || g->model[m] == g->base;
    return listed;
}

ft_status evolve_genome_read(genome *g, cfg_doc *d, const cJSON *node, arena *mem)
{
    *g = (genome){.base = -1, .tokens = -1};
    g->refs = arena_get(mem, sizeof *g->refs);
    merge_ref *room = arena_get(mem, MERGE_MODELS * sizeof *room);
    if (!g->refs || !room) return FT_EMEM;
    *g->refs = (merge_recipe){.doc = d, .mem = mem, .ref = room};
    FT_TRY(cfg_read(d, node, "genome", evolve_genome_fields, g, NULL));
    if (!g->models || !g->method) return FT_OK; /* recorded */
    const int row = row_of(g);
    const cJSON *t = g->tokenizer_source;
    while (g->values < 3 && methods[row].value[g->values]) g->values++;
    read_models(g, d);
    read_filters(g, d);
    if (g->base_model && !cJSON_IsNull(g->base_model))
        g->base = merge_read_ref(g->refs, g->base_model, "genome.base_model");
    else if (methods[row].based)
        cfg_fail(d, node, "genome.base_model", "missing; %s needs one", g->method);
    if (t && !cJSON_IsString(t))
        cfg_fail(d, t, "genome.tokenizer_source", "must be union, base, or a model");
    else if (t && strcmp(t->valuestring, "union") != 0 && strcmp(t->valuestring, "base") != 0)
        g->tokens = merge_read_ref(g->refs, t, "genome.tokenizer_source");
    if (g->smooth && g->base >= 0 && !methods[row].based && !is_listed(g))
        cfg_fail(d, g->base_model, "genome.base_model",
                 "is none of the models, which with smooth are the sources of %s; leave it out, or "
                 "smooth",
                 g->method);
    if (strcmp(g->method, "slerp") == 0 && (g->smooth || g->sets > 1))
        cfg_fail(d, node, "genome", "slerp has neither smooth nor filters");
    if (g->normalize && !cJSON_IsNull(g->normalize) && !cJSON_IsBool(g->normalize))
        cfg_fail(d, g->normalize, "genome.normalize", "must be true, false or null");
    return FT_OK;
}

ft_status evolve_genome_layers(genome *g)
{
    model *m;
    const char *path = g->refs->ref[g->model[0]].path;
    FT_TRY(io_model_exists(path));
    FT_TRY(model_open(&m, &(model_options){.path = path, .unread = true}));
    g->n_layer = m->d.n_layer;
    model_close(m);
    g->groups = g->granularity > 0 ? g->n_layer / g->granularity : 1;
    FT_CHECK(g->granularity == 0 || g->groups * g->granularity == g->n_layer, FT_ECONFIG,
             "genome.layer_granularity: %lld does not divide the %lld layers of %s",
             (long long)g->granularity, (long long)g->n_layer, ft_shows(path));
    return FT_OK;
}

int evolve_genome_size(const genome *g)
{
    return (int)g->groups * g->n * g->sets * g->values;
}

static int at(const genome *g, int64_t group, int m, int set, int value)
{
    return (((int)group * g->n + m) * g->sets + set) * g->values + value;
}

void evolve_genome_start(const genome *g, bool random, uint64_t seed, double *x)
{
    for (int i = 0; i < evolve_genome_size(g); i++)
        x[i] = random               ? rng_uniform(rng_key(seed, 0, 0), (uint64_t)i)
               : i % g->values == 0 ? 1.0 / g->n
                                    : 1;
}

/* --- the recipe --------------------------------------------------------------------------------------------------- */

/* What a number means. */
static double decode(const genome *g, int value, double x)
{
    if (strcmp(methods[row_of(g)].value[value], "density") == 0) return fmin(fabs(x), 1);
    return g->negative ? x : fabs(x);
}

/* Of a group, or with group −1 the list of all. */
static cJSON *setting(const genome *g, const double *x, int64_t group, int m, int set, int value)
{
    if (group >= 0) return cJSON_CreateNumber(decode(g, value, x[at(g, group, m, set, value)]));
    if (g->groups == 1) return setting(g, x, 0, m, set, value);
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < g->groups; i++)
        cJSON_AddItemToArray(list, setting(g, x, i, m, set, value));
    return list;
}

static cJSON *parameters(const genome *g, const double *x, int64_t group, int m)
{
    cJSON *o = cJSON_CreateObject();
    for (int v = 0; v < g->values; v++) {
        const char *name = methods[row_of(g)].value[v];
        if (g->sets == 1) {
            js_add(o, name, setting(g, x, group, m, 0, v));
            continue;
        }
        cJSON *list = cJSON_AddArrayToObject(o, name);
        for (int s = 0; s < g->sets; s++) {
            cJSON *one = cJSON_CreateObject();
            const cJSON *filter = cJSON_GetArrayItem(g->filters, s);
            if (filter) cJSON_AddStringToObject(one, "filter", filter->valuestring);
            js_add(one, "value", setting(g, x, group, m, s, v));
            cJSON_AddItemToArray(list, one);
        }
    }
    return o;
}

static cJSON *source(const genome *g, int ref, int64_t group, cJSON *values)
{
    cJSON *o = cJSON_CreateObject();
    const int64_t step = g->granularity > 0 ? g->granularity : g->n_layer;
    js_add(o, "model", merge_ref_node(g->refs, ref));
    if (group >= 0) {
        const double range[2] = {(double)(group * step), (double)((group + 1) * step)};
        js_add(o, "layer_range", cJSON_CreateDoubleArray(range, 2));
    }
    if (values) js_add(o, "parameters", values);
    return o;
}

/* The base is one more source where it is none of the models; a mean only has its config, tokenizer and dtype. */
static bool adds_base(const genome *g)
{
    return g->base >= 0 && methods[row_of(g)].based && !is_listed(g);
}

static void add_sources(const genome *g, const double *x, int64_t group, cJSON *list)
{
    for (int m = 0; m < g->n; m++)
        cJSON_AddItemToArray(list, source(g, g->model[m], group, parameters(g, x, group, m)));
    if (adds_base(g)) cJSON_AddItemToArray(list, source(g, g->base, group, NULL));
}

/* The two models with the largest numbers; t is the second one's share of their softmax. */
static void add_pair(const genome *g, const double *x, int64_t group, cJSON *slice, cJSON *list)
{
    int a = -1, b = -1;
    for (int m = 0; m < g->n; m++) {
        const double v = x[at(g, group, m, 0, 0)];
        if (a < 0 || v > x[at(g, group, a, 0, 0)]) {
            b = a;
            a = m;
        } else if (b < 0 || v > x[at(g, group, b, 0, 0)]) {
            b = m;
        }
    }
    const double t = 1 / (1 + exp(x[at(g, group, a, 0, 0)] - x[at(g, group, b, 0, 0)]));
    cJSON_AddItemToArray(list, source(g, g->model[a], group, NULL));
    cJSON_AddItemToArray(list, source(g, g->model[b], group, NULL));
    js_add(slice, "base_model", merge_ref_node(g->refs, g->model[a]));
    cJSON_AddNumberToObject(cJSON_AddObjectToObject(slice, "parameters"), "t", t);
}

static void add_slices(const genome *g, const double *x, cJSON *root)
{
    cJSON *slices = cJSON_AddArrayToObject(root, "slices");
    for (int64_t i = 0; i < g->groups; i++) {
        cJSON *slice = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(slice, "sources");
        cJSON_AddItemToArray(slices, slice);
        if (strcmp(g->method, "slerp") == 0)
            add_pair(g, x, i, slice, list);
        else
            add_sources(g, x, i, list);
    }
}

ft_status evolve_genome_recipe(const genome *g, const double *x, const char *dtype, int64_t seed,
                               str_buf *out)
{
    cJSON *root = cJSON_CreateObject();
    const int row = row_of(g);
    const bool slerp = strcmp(g->method, "slerp") == 0;
    const bool given = g->normalize && cJSON_IsBool(g->normalize);
    cJSON_AddStringToObject(root, "merge_method", g->method);
    if (g->smooth)
        add_sources(g, x, -1, cJSON_AddArrayToObject(root, "models"));
    else
        add_slices(g, x, root);
    if (g->base >= 0) js_add(root, "base_model", merge_ref_node(g->refs, g->base));
    if (!slerp)
        cJSON_AddBoolToObject(cJSON_AddObjectToObject(root, "parameters"), "normalize",
                              given ? cJSON_IsTrue(g->normalize) : methods[row].normal);
    if (dtype) cJSON_AddStringToObject(root, "dtype", dtype);
    if (g->tokenizer_source)
        js_add(root, "tokenizer_source",
               g->tokens < 0 ? cJSON_Duplicate(g->tokenizer_source, true)
                             : merge_ref_node(g->refs, g->tokens));
    cJSON_AddNumberToObject(root, "seed", (double)seed);
    js_print(out, root, true);
    str_addc(out, '\n');
    cJSON_Delete(root);
    FT_TRY(js_whole());
    return str_ok(out);
}
