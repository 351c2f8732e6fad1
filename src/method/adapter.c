/* adapter.c – bottleneck adapters with the options, names and files of the `adapters` library.
 *
 * h is what attention or the feed-forward layer gives, r the residual stream that it is added to, before any norm, and
 * A(x) = scaling · dropout(up · act(down · x + b) + b'). In the place of h stands
 *   h + A(h)      after each part           (double_seq_bn: Houlsby et al. 2019, arXiv 1902.00751)
 *   h + A(h + r)  after the feed-forward    (seq_bn: Pfeiffer et al. 2021, arXiv 2005.00247; original_ln_before)
 *   h + A(r)      beside the feed-forward   (par_bn: He et al. 2022, arXiv 2110.04366; is_parallel)
 * An activation stands between the matrices, so no weight can take them in: there is no fold. */
#include "ft/method.h"
#include "method_private.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct adapter_cfg {
    const char *config, *name;
    int mh_adapter, output_adapter, is_parallel, original_ln_before; /* −1: the preset's */
    const cJSON *reduction_factor, *leave_out;
    const char *non_linearity, *init_weights;
    double scaling, dropout; /* scaling 0 or NAN: the preset's */
    bool says_config;        /* the config names a preset itself */
} adapter_cfg;

static const char *const configs[] = {"seq_bn",  "double_seq_bn", "par_bn", "pfeiffer",
                                      "houlsby", "parallel",      NULL};
/* What the first three names stand for; the others are their former ones, in the same order. */
static const struct preset {
    int mh_adapter, output_adapter, is_parallel, original_ln_before;
    double reduction_factor, scaling;
    const char *non_linearity, *init_weights;
} presets[] = {{0, 1, 0, 1, 16, 1, "relu", "bert"},
               {1, 1, 0, 0, 16, 1, "swish", "bert"},
               {0, 1, 1, 0, 2, 4, "relu", "mam_adapter"}};

static const char *const activations[] = {"relu", "swish",     "gelu", "gelu_new",
                                          "tanh", "leakyrelu", NULL};
static const char *const inits[] = {"bert", "mam_adapter", "houlsby", NULL};

#define ROW(k, t, ...)                                                                             \
    {                                                                                              \
        .key = #k, .type = t, .offset = offsetof(adapter_cfg, k), __VA_ARGS__                      \
    }
static const cfg_field fields[] = {
    ROW(config, CFG_ENUM, .def = "\"seq_bn\"", .choices = configs,
        .help = "where adapters sit and what they read; the keys below change it"),
    ROW(name, CFG_STR, .def = "\"default\"", .help = "of the adapter, in the names of its tensors"),
    ROW(mh_adapter, CFG_AUTO_BOOL, .def = "\"auto\"",
        .help = "adapters after attention (auto here and below: as the config has it)"),
    ROW(output_adapter, CFG_AUTO_BOOL, .def = "\"auto\"",
        .help = "adapters after the feed-forward layers"),
    ROW(reduction_factor, CFG_JSON,
        .help = "hidden size over bottleneck: a number, or an object of layer or \"default\" -> "
                "number (16; par_bn: 2)"),
    ROW(non_linearity, CFG_ENUM, .choices = activations,
        .help = "between the matrices (relu; double_seq_bn: swish)"),
    ROW(scaling, CFG_FLOAT, .low = 0, .high = 1e9, .low_open = true,
        .help = "of what the adapter adds (1; par_bn: 4)"),
    ROW(leave_out, CFG_JSON, .help = "a list of layers without adapters"),
    ROW(init_weights, CFG_ENUM, .choices = inits,
        .help = "first values: normal (bert), normal within two deviations (houlsby), or uniform "
                "and zero (mam_adapter) (bert; par_bn: mam_adapter)"),
    ROW(is_parallel, CFG_AUTO_BOOL, .def = "\"auto\"",
        .help = "adapters read the stream before the part they sit beside"),
    ROW(original_ln_before, CFG_AUTO_BOOL, .def = "\"auto\"",
        .help = "adapters read the stream with the part's output added"),
    ROW(dropout, CFG_FLOAT, .def = "0", .low = 0, .high = 0.999,
        .help = "dropout on what the adapter adds"),
    CFG_END,
};
#undef ROW

/* --- forms of the keys ------------------------------------------------------------------------------------------ */
static bool is_factor(const cJSON *v)
{
    return cJSON_IsNumber(v) && isfinite(v->valuedouble) && v->valuedouble > 0;
}

static bool is_factors(const cJSON *v)
{
    const cJSON *e;
    if (!cJSON_IsObject(v)) return is_factor(v);
    cJSON_ArrayForEach(e, v)
    {
        const size_t digits = strspn(e->string, "0123456789");
        const bool layer = digits > 0 && !e->string[digits];
        if (!is_factor(e) || !(layer || strcmp(e->string, "default") == 0)) return false;
    }
    return v->child != NULL;
}

static bool is_layers(const cJSON *v)
{
    const cJSON *e;
    if (!cJSON_IsArray(v)) return false;
    cJSON_ArrayForEach(e, v)
    {
        if (!cJSON_IsNumber(e) || e->valuedouble < 0 || e->valuedouble != floor(e->valuedouble))
            return false;
    }
    return true;
}

/* A member of torch's ModuleDict and a part of a tensor's name. */
static bool is_name(const char *name)
{
    return name[0] && !strchr(name, '.');
}

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {
        "name",    "mh_adapter", "output_adapter", "reduction_factor",   "non_linearity",
        "scaling", "leave_out",  "is_parallel",    "original_ln_before", NULL};
    adapter_cfg *c = ctx;
    pe_check_init_from(d, object, settled, NULL);
    pe_check_json(d, c->reduction_factor, "reduction_factor", is_factors,
                  "must be a number above 0, or an object of such numbers by layer, \"default\" "
                  "for the others");
    pe_check_json(d, c->leave_out, "leave_out", is_layers, "must be a list of layers, from 0");
    if (c->name && !is_name(c->name))
        cfg_fail(d, js_get(object, "name"), "method.name", "must be a name without a point");
    c->says_config = js_get(object, "config") != NULL;
}

/* --- what the keys come to ---------------------------------------------------------------------------------------- */
static const struct preset *preset_of(const char *config)
{
    size_t i = 0;
    while (strcmp(configs[i], config) != 0) i++;
    return &presets[i % FT_COUNT_OF(presets)];
}

/* Keys that nobody gave are the preset's. */
static void settle(adapter_cfg *c)
{
    const struct preset *p = preset_of(c->config);
    if (c->mh_adapter < 0) c->mh_adapter = p->mh_adapter;
    if (c->output_adapter < 0) c->output_adapter = p->output_adapter;
    if (c->is_parallel < 0) c->is_parallel = p->is_parallel;
    if (c->original_ln_before < 0) c->original_ln_before = p->original_ln_before;
    if (!(c->scaling > 0)) c->scaling = p->scaling;
    if (!c->non_linearity) c->non_linearity = p->non_linearity;
    if (!c->init_weights) c->init_weights = p->init_weights;
}

/* Names of the library, in any case; NULL: unknown. */
static const kn_act *act_of(const char *name)
{
    static const char *const other[][2] = {{"swish", "silu"}, {"leakyrelu", "leaky_relu"}};
    char low[32] = {0};
    for (size_t i = 0; name[i] && i + 1 < sizeof low; i++)
        low[i] = (char)tolower((unsigned char)name[i]);
    for (size_t i = 0; i < FT_COUNT_OF(other); i++)
        if (strcmp(low, other[i][0]) == 0) return kn_act_by_name(other[i][1]);
    return kn_act_by_name(low);
}

static bool is_left_out(const adapter_cfg *c, int64_t layer)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, c->leave_out)
    {
        if (e->valuedouble == (double)layer) return true;
    }
    return false;
}

/* 0: the object has none for this layer. */
static double factor_of(const adapter_cfg *c, int64_t layer)
{
    const cJSON *v = c->reduction_factor;
    char key[24];
    if (pe_is_null(v)) return preset_of(c->config)->reduction_factor;
    if (!cJSON_IsObject(v)) return v->valuedouble;
    snprintf(key, sizeof key, "%lld", (long long)layer);
    const cJSON *e = js_get(v, key);
    if (!e) e = js_get(v, "default");
    return e ? e->valuedouble : 0;
}

enum { MAX_WIDTH = 1 << 20 };
/* Of the bottleneck: max(1, hidden // factor), as Python divides floats. */
static ft_status width_of(const pe_ctx *c, int64_t layer, int64_t *out)
{
    const double hidden = (double)c->m->d.hidden_size, factor = factor_of(c->cfg, layer);
    FT_CHECK(factor > 0, FT_ECONFIG,
             "method.reduction_factor: has neither a value for layer %lld nor a \"default\"",
             (long long)layer);
    FT_CHECK(hidden / factor <= MAX_WIDTH, FT_ECONFIG,
             "method.reduction_factor: %g makes a bottleneck of %.0f, more than %d", factor,
             hidden / factor, MAX_WIDTH);
    const double width = round((hidden - fmod(hidden, factor)) / factor);
    *out = width < 1 ? 1 : (int64_t)width;
    return FT_OK;
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
enum { PARTS = 2 }; /* of a layer: nn_part */
typedef struct bottleneck {
    nn_param *down, *down_bias, *up, *up_bias; /* [width, C], [width], [C, width], [C] */
    uint64_t key;                              /* of its dropout */
} bottleneck;

typedef struct adapters {
    const kn_act *act;
    bottleneck *(*at)[PARTS]; /* [n_layer]; NULL: there is none */
} adapters;

/* "model.layers.3" of a site in it, with the adapter's place behind it. NULL: out of memory. */
static const char *place_of(pe_ctx *c, int64_t layer, int part)
{
    static const char *const places[PARTS] = {"attention_adapters", "output_adapters"};
    const adapter_cfg *cfg = c->cfg;
    char number[24];
    snprintf(number, sizeof number, ".%lld.", (long long)layer);
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const char *path = c->m->site[i].path,
                   *at = c->m->site[i].layer == layer ? strstr(path, number) : NULL;
        if (at)
            return arena_printf(c->mem, "%.*s%s%s.adapters.%s", (int)(at - path), path, number,
                                places[part], cfg->name);
    }
    return NULL;
}

/* Normal, drawn again beyond two deviations. */
static void fill_truncated(float *out, int64_t n, uint64_t key, float deviation)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t turn = 0;
        do rng_fill_normal(&out[i], 1, rng_key(key, (uint64_t)i, turn++), 0.0f, deviation);
        while (fabsf(out[i]) > 2 * deviation);
    }
}

/* Of a matrix; biases begin as zeros. */
static void init_values(const pe_ctx *c, nn_param *p, bool is_up)
{
    const char *init = ((const adapter_cfg *)c->cfg)->init_weights;
    const uint64_t key = rng_key_text(c->seed, p->name);
    const int64_t n = tn_count(&p->t);
    const float bound = 1.0f / sqrtf((float)tn_cols(&p->t));
    float *w = tn_f32(&p->t);
    if (strcmp(init, "bert") == 0)
        rng_fill_normal(w, n, key, 0.0f, 0.02f);
    else if (strcmp(init, "houlsby") == 0)
        fill_truncated(w, n, key, 0.01f);
    else if (!is_up) /* Kaiming uniform with a = √5 */
        rng_fill_uniform(w, n, key, -bound, bound);
}

/* A matrix [rows, cols] or, with cols 0, a bias. The library's own base model has no "model." in front. */
static ft_status add(pe_ctx *c, const char *place, const char *name, int64_t rows, int64_t cols,
                     nn_param **out)
{
    const char *key = arena_printf(c->mem, "%s.%s", place, name);
    if (!key) return FT_EMEM;
    FT_TRY(nn_new_param(&c->store, key, rows, cols, out));
    if (cols == 0)
        (*out)->hyper.decay_ratio = 0;
    else if (!c->dry && !c->file)
        init_values(c, *out, strstr(name, "up") != NULL);
    FT_TRY(pe_add_entry(c, *out, key, false));
    c->entries.entry[c->entries.n - 1].also = strchr(key, '.') + 1;
    return FT_OK;
}

static ft_status attach_part(pe_ctx *c, adapters *all, int64_t layer, int part)
{
    const int64_t hidden = c->m->d.hidden_size;
    const char *place = place_of(c, layer, part);
    bottleneck *b = all->at[layer][part] = arena_get(c->mem, sizeof *b);
    int64_t width = 0;
    if (!b || !place) return FT_EMEM;
    FT_TRY(width_of(c, layer, &width));
    b->key = rng_key_text(0, place);
    FT_TRY(add(c, place, "adapter_down.0.weight", width, hidden, &b->down));
    FT_TRY(add(c, place, "adapter_down.0.bias", width, 0, &b->down_bias));
    FT_TRY(add(c, place, "adapter_up.weight", hidden, width, &b->up));
    return add(c, place, "adapter_up.bias", hidden, 0, &b->up_bias);
}

static ft_status attach(pe_ctx *c)
{
    adapter_cfg *cfg = c->cfg;
    adapters *all = arena_get(c->mem, sizeof *all);
    if (!c->adapter.root) settle(cfg);
    FT_CHECK(cfg->mh_adapter || cfg->output_adapter, FT_ECONFIG,
             "method.output_adapter: false with mh_adapter false leaves no adapter");
    if (!all) return FT_EMEM;
    all->act = act_of(cfg->non_linearity);
    all->at = arena_get(c->mem, (size_t)c->m->d.n_layer * sizeof *all->at);
    if (!all->at) return FT_EMEM;
    for (int64_t i = 0; i < c->m->d.n_layer; i++) {
        if (is_left_out(cfg, i)) continue;
        if (cfg->mh_adapter) FT_TRY(attach_part(c, all, i, NN_MIXER));
        if (cfg->output_adapter) FT_TRY(attach_part(c, all, i, NN_FEED));
    }
    FT_CHECK(c->store.n > 0, FT_ECONFIG, "method.leave_out: leaves out every layer of the model");
    c->priv = all;
    return FT_OK;
}

/* --- forward -------------------------------------------------------------------------------------------------------- */
static const bottleneck *find(const nn_run *r, int layer, nn_part part)
{
    const pe_ctx *c = r->over->ctx;
    return ((const adapters *)c->priv)->at[layer][part];
}

/* Where the stream that h is added to is read by itself, their sum is a brief one: a pass more, an activation less. */
static nn_takes takes(const nn_run *r, int layer, nn_part part)
{
    const adapter_cfg *cfg = ((const pe_ctx *)r->over->ctx)->cfg;
    if (!find(r, layer, part)) return NN_TAKES_NONE;
    return cfg->original_ln_before && !cfg->is_parallel ? NN_TAKES_SUM : NN_TAKES_OUTPUT;
}

static tn_tensor *sublayer(nn_run *r, int layer, nn_part part, tn_tensor *x, tn_tensor *y,
                           tn_tensor *h)
{
    const pe_ctx *c = r->over->ctx;
    const adapter_cfg *cfg = c->cfg;
    const bottleneck *b = find(r, layer, part);
    const ag_weight down = {.w = &b->down->t, .b = &b->down_bias->t},
                    up = {.w = &b->up->t, .b = &b->up_bias->t};
    const float scale = (float)cfg->scaling, dropout = r->drops ? (float)cfg->dropout : 0.0f;
    const bool plain = scale == 1.0f && dropout == 0.0f;
    const bool apart = takes(r, layer, part) == NN_TAKES_OUTPUT;
    ag_tape *t = r->t;
    (void)x;
    tn_tensor *sum = apart ? ag_add_brief(t, y, h) : y;
    tn_tensor *u = ag_linear(t, cfg->is_parallel ? h : y, &down, 1, NULL);
    tn_tensor *a = ag_act(t, u, ((const adapters *)c->priv)->act, ag_fed_type(t));
    ag_drop(t, u);
    if (apart) ag_drop(t, y);
    tn_tensor *z = ag_linear(t, a, &up, 1, plain ? sum : NULL);
    ag_drop(t, a);
    tn_tensor *out = plain ? z : ag_add_scaled(t, sum, z, scale, dropout, b->key);
    if (!plain) ag_drop(t, z);
    if (apart) ag_drop(t, sum);
    return out;
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
/* A number as Python writes a float: the library takes no other for a scaling. */
static void put_float(cJSON *o, const char *key, double v)
{
    char text[40];
    if (v == floor(v) && fabs(v) < 1e15)
        snprintf(text, sizeof text, "%.1f", v);
    else
        snprintf(text, sizeof text, "%.17g", v);
    js_add(o, key, cJSON_CreateRaw(text));
}

/* Keys of the library's BnConfig that are its defaults here: JSON. */
static const char *const defaults[][2] = {
    {"adapter_residual_before_ln", "false"},
    {"cross_adapter", "false"},
    {"factorized_phm_W", "true"},
    {"factorized_phm_rule", "false"},
    {"hypercomplex_nonlinearity", "\"glorot-uniform\""},
    {"init_weights_seed", "null"},
    {"inv_adapter", "null"},
    {"inv_adapter_reduction_factor", "null"},
    {"learn_phm", "true"},
    {"ln_after", "false"},
    {"ln_before", "false"},
    {"original_ln_after", "true"},
    {"phm_bias", "true"},
    {"phm_c_init", "\"normal\""},
    {"phm_dim", "4"},
    {"phm_init_range", "0.0001"},
    {"phm_layer", "false"},
    {"phm_rank", "1"},
    {"residual_before_ln", "true"},
    {"shared_W_phm", "false"},
    {"shared_phm_rule", "true"},
    {"stochastic_depth", "0.0"},
    {"use_gating", "false"},
};

static cJSON *bn_config(const adapter_cfg *c)
{
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < FT_COUNT_OF(defaults); i++)
        js_add(o, defaults[i][0], cJSON_CreateRaw(defaults[i][1]));
    put_float(o, "dropout", c->dropout);
    cJSON_AddStringToObject(o, "init_weights", c->init_weights);
    cJSON_AddBoolToObject(o, "is_parallel", c->is_parallel);
    if (pe_is_null(c->leave_out))
        js_add(o, "leave_out", cJSON_CreateArray());
    else
        pe_put_json(o, "leave_out", c->leave_out);
    cJSON_AddBoolToObject(o, "mh_adapter", c->mh_adapter);
    cJSON_AddStringToObject(o, "non_linearity", c->non_linearity);
    cJSON_AddBoolToObject(o, "original_ln_before", c->original_ln_before);
    cJSON_AddBoolToObject(o, "output_adapter", c->output_adapter);
    if (pe_is_null(c->reduction_factor))
        cJSON_AddNumberToObject(o, "reduction_factor", factor_of(c, 0));
    else
        pe_put_json(o, "reduction_factor", c->reduction_factor);
    put_float(o, "scaling", c->scaling);
    return o;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const adapter_cfg *cfg = c->cfg;
    js_doc d = {0};
    FT_TRY(js_parse(&d, c->m->config, strlen(c->m->config), c->m->path ? c->m->path : "config.json",
                    1, JS_NO_POSITIONS | JS_ALLOW_NONFINITE, FT_EDATA));
    const cJSON *classes = js_get(d.root, "architectures");
    cJSON *o = cJSON_CreateObject();
    js_add(o, "config", bn_config(cfg));
    cJSON_AddNumberToObject(o, "hidden_size", (double)c->m->d.hidden_size);
    pe_put_json(o, "model_class", cJSON_IsArray(classes) ? classes->child : NULL);
    cJSON_AddStringToObject(o, "model_name", c->base_name ? c->base_name : "");
    pe_put_json(o, "model_type", js_get(d.root, "model_type"));
    cJSON_AddStringToObject(o, "name", cfg->name);
    cJSON_AddStringToObject(o, "version", "adapters.1.3.0"); /* whose format it is */
    js_close(&d);
    return pe_write_folder(c, o, dir);
}

static const pe_key keys[] = {
    {"mh_adapter", NULL},
    {"output_adapter", NULL},
    {"reduction_factor", NULL},
    {"non_linearity", NULL},
    {"scaling", NULL},
    {"leave_out", NULL},
    {"init_weights", NULL},
    {"is_parallel", NULL},
    {"original_ln_before", NULL},
    {"dropout", NULL},
    /* looked at below */
    {"original_ln_after", NULL},
    {"residual_before_ln", NULL},
    {"stochastic_depth", NULL},
    /* without effect: of first values, of cross attention, of norms and layers that are refused */
    {"init_weights_seed", NULL},
    {"cross_adapter", NULL},
    {"adapter_residual_before_ln", NULL},
    {"inv_adapter_reduction_factor", NULL},
    {"factorized_phm_W", NULL},
    {"factorized_phm_rule", NULL},
    {"hypercomplex_nonlinearity", NULL},
    {"learn_phm", NULL},
    {"phm_bias", NULL},
    {"phm_c_init", NULL},
    {"phm_dim", NULL},
    {"phm_init_range", NULL},
    {"phm_rank", NULL},
    {"shared_W_phm", NULL},
    {"shared_phm_rule", NULL},
    {"architecture", "is no bottleneck; ft reads those of the adapters library alone"},
    {"phm_layer", "makes its matrices of Kronecker products (Compacter)"},
    {"ln_before", "has a norm of its own before the bottleneck"},
    {"ln_after", "has a norm of its own behind the bottleneck"},
    {"use_gating", "has a gate beside the bottleneck"},
    {"inv_adapter", "has an invertible layer behind the embedding"},
    {NULL, NULL},
};

static ft_status refuse(const js_doc *in, const char *key, const char *why)
{
    const cJSON *v = js_get(in->root, key);
    return js_fail(in, v ? v : in->root, FT_EDATA, key, "%s", why);
}

/* Keys that no library fills in. */
static ft_status check_present(const js_doc *in)
{
    static const char *const needed[] = {"mh_adapter", "output_adapter", "reduction_factor",
                                         "non_linearity"};
    for (size_t i = 0; i < FT_COUNT_OF(needed); i++)
        if (pe_is_null(js_get(in->root, needed[i]))) return refuse(in, needed[i], "is missing");
    return FT_OK;
}

/* The stream is added by original_ln_after, or as a part of what the adapter's own residual is; once, as in the base. */
static ft_status check_stream(const js_doc *in, const adapter_cfg *c)
{
    bool after, before = true;
    FT_TRY(js_get_bool(in, in->root, "original_ln_after", true, &after));
    const bool inside = !c->is_parallel && c->original_ln_before;
    const cJSON *v = js_get(in->root, "residual_before_ln");
    if (cJSON_IsString(v) && !c->is_parallel)
        return refuse(in, "residual_before_ln",
                      "is a form that models with a norm before each "
                      "part have not");
    if (!cJSON_IsString(v)) FT_TRY(js_get_bool(in, in->root, "residual_before_ln", true, &before));
    const int times = after + (inside && !before);
    if (times == 1) return FT_OK;
    return times == 0 ? refuse(in, "original_ln_after", "false drops the residual stream")
                      : refuse(in, "residual_before_ln", "false adds the residual stream twice");
}

static ft_status load_bool(const js_doc *in, const char *key, bool def, int *out)
{
    bool v;
    FT_TRY(js_get_bool(in, in->root, key, def, &v));
    *out = v;
    return FT_OK;
}

/* Versions before the key `version` meant other functions by these names. */
static ft_status load_act(const js_doc *d, const js_doc *in, adapter_cfg *c)
{
    const char *name;
    FT_TRY(js_get_str(in, in->root, "non_linearity", NULL, &name));
    if (!js_get(d->root, "version"))
        name = strcmp(name, "gelu") == 0        ? "gelu_new"
               : strcmp(name, "gelu_orig") == 0 ? "gelu"
                                                : name;
    c->non_linearity = name;
    if (act_of(name)) return FT_OK;
    return refuse(in, "non_linearity", "is no activation that ft knows");
}

static ft_status load_scaling(const js_doc *in, adapter_cfg *c)
{
    const cJSON *v = js_get(in->root, "scaling");
    if (cJSON_IsString(v))
        return refuse(in, "scaling", "is learned in this adapter; ft has it as a number");
    return pe_load_scale(in, "scaling", 1.0, &c->scaling);
}

static ft_status load_init(const js_doc *in, adapter_cfg *c)
{
    const char *name;
    FT_TRY(js_get_str(in, in->root, "init_weights", "bert", &name));
    for (size_t i = 0; inits[i]; i++)
        if (strcmp(inits[i], name) == 0) c->init_weights = inits[i];
    return c->init_weights ? FT_OK
                           : refuse(in, "init_weights", "must be bert, mam_adapter or houlsby");
}

static ft_status load_keys(pe_ctx *c, const js_doc *d, const js_doc *in)
{
    adapter_cfg *cfg = c->cfg;
    double depth;
    FT_TRY(pe_check_keys(in, keys));
    FT_TRY(check_present(in));
    FT_TRY(load_bool(in, "mh_adapter", false, &cfg->mh_adapter));
    FT_TRY(load_bool(in, "output_adapter", false, &cfg->output_adapter));
    FT_TRY(load_bool(in, "is_parallel", false, &cfg->is_parallel));
    FT_TRY(load_bool(in, "original_ln_before", false, &cfg->original_ln_before));
    FT_TRY(check_stream(in, cfg));
    FT_TRY(load_act(d, in, cfg));
    FT_TRY(load_scaling(in, cfg));
    cfg->init_weights = NULL;
    FT_TRY(load_init(in, cfg));
    FT_TRY(pe_load_json(in, "reduction_factor", is_factors, &cfg->reduction_factor));
    FT_TRY(pe_load_json(in, "leave_out", is_layers, &cfg->leave_out));
    if (!c->load_dir) FT_TRY(js_get_num(in, in->root, "dropout", 0.0, &cfg->dropout));
    FT_TRY(js_get_num(in, in->root, "stochastic_depth", 0.0, &depth));
    return depth == 0 ? FT_OK
                      : refuse(in, "stochastic_depth", "drops whole layers, which ft does not");
}

/* A preset that the config names beside init_from: what of it the config says no otherwise is the adapter's too. */
static ft_status check_preset(const adapter_cfg *said, const adapter_cfg *c)
{
    adapter_cfg all = *said;
    settle(&all);
    const bool factor =
        !pe_is_null(said->reduction_factor) ||
        (is_factor(c->reduction_factor) && factor_of(&all, 0) == c->reduction_factor->valuedouble);
    FT_CHECK(factor && all.mh_adapter == c->mh_adapter && all.output_adapter == c->output_adapter &&
                 all.is_parallel == c->is_parallel &&
                 all.original_ln_before == c->original_ln_before && all.scaling == c->scaling &&
                 act_of(all.non_linearity) == act_of(c->non_linearity),
             FT_ECONFIG,
             "method.config: differs from the adapter of init_from; leave it out or make it the "
             "same");
    return FT_OK;
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    adapter_cfg *cfg = c->cfg;
    const adapter_cfg said = *cfg;
    const int64_t base = c->m->d.hidden_size;
    int64_t hidden;
    js_doc in = *d;
    in.root = cJSON_GetObjectItemCaseSensitive(d->root, "config");
    if (!cJSON_IsObject(in.root))
        return js_fail(d, d->root, FT_EDATA, "config", "must be the object of the adapter's keys");
    FT_TRY(js_get_int(d, d->root, "hidden_size", base, 1, INT32_MAX, &hidden));
    if (hidden != base)
        return js_fail(d, js_get(d->root, "hidden_size"), FT_EDATA, "hidden_size",
                       "%lld, the base has %lld; is it the one the adapter was trained on?",
                       (long long)hidden, (long long)base);
    FT_TRY(js_get_str(d, d->root, "name", "default", &cfg->name));
    if (!is_name(cfg->name))
        return js_fail(d, js_get(d->root, "name"), FT_EDATA, "name", "is no name of an adapter");
    FT_TRY(load_keys(c, d, &in));
    return c->load_dir && said.says_config ? check_preset(&said, cfg) : FT_OK;
}

static ft_status load(pe_ctx *c)
{
    return pe_read_tensors(c);
}

static const char *const files[] = {"adapter_config.json", "adapter.safetensors", NULL};

const pe_method pe_adapter = {
    .name = "adapter",
    .help = "bottlenecks inside the layers; the result is a folder of the adapters library",
    .about = "A small network (down, activation, up) is trained in each layer, behind the "
             "feed-forward layer (seq_bn), behind attention too (double_seq_bn) or beside it "
             "(par_bn); the model itself is frozen. Take it where low-rank changes learn too "
             "little, or where the result is for the adapters library. It cannot be merged, so "
             "every token costs a little more.",
    .paper = "Houlsby et al. 2019, Parameter-Efficient Transfer Learning for NLP; Pfeiffer et al. "
             "2021, AdapterFusion; He et al. 2022, Towards a Unified View of Parameter-Efficient "
             "Transfer Learning",
    .example = "{\"type\": \"adapter\", \"config\": \"double_seq_bn\", \"reduction_factor\": 16}",
    .fields = fields,
    .cfg_size = sizeof(adapter_cfg),
    .peft_type = PE_ADAPTERS,
    .format = &pe_format_adapters,
    .result = PE_ADAPTER,
    .files = files,
    .learning_rate = 1e-4, /* of the library's guide */
    .check = check,
    .attach = attach,
    .hooks = {.sublayer = sublayer, .takes = takes},
    .save = save,
    .load_config = load_config,
    .load = load,
};
