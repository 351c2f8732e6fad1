/* lora.c – low-rank adaptation (Hu et al. 2021) with PEFT's options, names and files.
 *
 *   y = base(x) + s · B(A(dropout(x))),  s = lora_alpha/r, or lora_alpha/√r with use_rslora (Kalajdzievski 2023).
 * B starts at 0, so training starts at the untouched model. On an embedding: y += s · Aᵀ[ids] · Bᵀ (A 0, B normal). */
#include "ft/method.h"
#include "method_private.h"

#include <math.h>
#include <string.h>

typedef struct lora_cfg {
    int64_t r;
    double lora_alpha, lora_dropout;
    const cJSON *target_modules, *exclude_modules, *modules_to_save, *rank_pattern, *alpha_pattern;
    const cJSON *layers_to_transform, *layers_pattern, *init_lora_weights;
    bool use_rslora;
    const char *bias, *init_from;
} lora_cfg;

typedef struct lora_slot {
    nn_param *a, *b; /* [r, in], [out, r]; of an embedding a is kept transposed, [vocab, r] */
    float scale, dropout;
    uint64_t key;
} lora_slot;

typedef struct lora_priv {
    pe_entry *entry;
    int64_t n, cap;
} lora_priv;

static const char *const bias_choices[] = {"none", "all", "lora_only", NULL};
#define AT(field) offsetof(lora_cfg, field)
static const cfg_field fields[] = {
    {.key = "r",
     .type = CFG_INT,
     .offset = AT(r),
     .def = "8",
     .low = 1,
     .high = 65536,
     .help = "rank"},
    {.key = "lora_alpha",
     .type = CFG_FLOAT,
     .offset = AT(lora_alpha),
     .def = "16",
     .low = 0,
     .high = 1e9,
     .help = "scale of the update: lora_alpha / r"},
    {.key = "lora_dropout",
     .type = CFG_FLOAT,
     .offset = AT(lora_dropout),
     .def = "0",
     .low = 0,
     .high = 0.999,
     .help = "dropout on the input of A"},
    {.key = "target_modules",
     .type = CFG_JSON,
     .offset = AT(target_modules),
     .def = "\"all-linear\"",
     .help = "\"all-linear\", a list of module name suffixes, or a regex of whole paths"},
    {.key = "exclude_modules",
     .type = CFG_JSON,
     .offset = AT(exclude_modules),
     .help = "modules left out: a list of suffixes or a regex"},
    {.key = "modules_to_save",
     .type = CFG_JSON,
     .offset = AT(modules_to_save),
     .help = "modules trained in full and saved with the adapter"},
    {.key = "rank_pattern",
     .type = CFG_JSON,
     .offset = AT(rank_pattern),
     .help = "object: suffix or regex -> rank"},
    {.key = "alpha_pattern",
     .type = CFG_JSON,
     .offset = AT(alpha_pattern),
     .help = "object: suffix or regex -> alpha"},
    {.key = "layers_to_transform",
     .type = CFG_JSON,
     .offset = AT(layers_to_transform),
     .help = "a layer index or a list of them"},
    {.key = "layers_pattern",
     .type = CFG_JSON,
     .offset = AT(layers_pattern),
     .help = "name of the layer list in module paths, for layers_to_transform"},
    {.key = "use_rslora",
     .type = CFG_BOOL,
     .offset = AT(use_rslora),
     .def = "false",
     .help = "scale by lora_alpha / sqrt(r)"},
    {.key = "init_lora_weights",
     .type = CFG_JSON,
     .offset = AT(init_lora_weights),
     .def = "true",
     .help = "true (Kaiming uniform A, B = 0), \"gaussian\" (normal A, B = 0), or false (both "
             "random, for tests)"},
    {.key = "bias",
     .type = CFG_ENUM,
     .offset = AT(bias),
     .def = "\"none\"",
     .choices = bias_choices,
     .help = "which biases of the base are trained too"},
    {.key = "init_from",
     .type = CFG_PATH,
     .offset = AT(init_from),
     .help = "PEFT adapter folder to continue from"},
    CFG_END};

/* --- checks of the config ---------------------------------------------------------------------------------- */
static bool is_null(const cJSON *v)
{
    return !v || cJSON_IsNull(v);
}

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

static void check_init_from(cfg_doc *d, const cJSON *object, const lora_cfg *cfg)
{
    static const char *const keys[] = {"r",
                                       "lora_alpha",
                                       "use_rslora",
                                       "bias",
                                       "rank_pattern",
                                       "alpha_pattern",
                                       "target_modules",
                                       "modules_to_save",
                                       "layers_to_transform"};
    char *text = NULL;
    size_t len;
    js_doc a = {0};
    str_buf path = {0};
    str_printf(&path, "%s/adapter_config.json", cfg->init_from);
    if (str_ok(&path) != FT_OK || file_read(&text, &len, path.data, (size_t)4 << 20) != FT_OK ||
        js_parse(&a, text, len, path.data, 1, JS_NO_POSITIONS, FT_EDATA) != FT_OK) {
        str_buf why = {0};
        str_adds(&why, ft_error());
        ft_error_clear();
        cfg_fail(d, js_get(object, "init_from"), "method.init_from", "%s",
                 why.data ? why.data : "cannot be read");
        str_free(&why);
    }
    for (size_t i = 0; a.root && i < FT_COUNT_OF(keys); i++) {
        const cJSON *here = js_get(object, keys[i]), *there = js_get(a.root, keys[i]);
        bool all = cJSON_IsString(here) && strcmp(here->valuestring, "all-linear") == 0;
        if (is_null(here) || all || cJSON_Compare(here, there, true)) continue;
        if (cJSON_IsArray(here) && cJSON_IsArray(there) &&
            cJSON_GetArraySize(here) == cJSON_GetArraySize(there)) {
            bool same = true; /* PEFT writes sets in any order */
            const cJSON *e;
            cJSON_ArrayForEach(e, here) same &=
                cJSON_IsString(e) && pe_list_has(there, e->valuestring, pe_match_suffix);
            if (same) continue;
        }
        cfg_fail(d, here, keys[i],
                 "differs from the adapter of init_from; leave it out or make it the same");
    }
    js_close(&a);
    ft_free(text);
    str_free(&path);
}

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    lora_cfg *c = ctx;
    if (!is_null(c->target_modules) && !is_names(c->target_modules, true))
        cfg_fail(d, c->target_modules, "method.target_modules",
                 "must be \"all-linear\", a regex, or a list of module names");
    if (!is_null(c->exclude_modules) && !is_names(c->exclude_modules, true))
        cfg_fail(d, c->exclude_modules, "method.exclude_modules",
                 "must be a regex or a list of module names");
    if (!is_null(c->modules_to_save) && !is_names(c->modules_to_save, false))
        cfg_fail(d, c->modules_to_save, "method.modules_to_save", "must be a list of module names");
    if (!is_null(c->rank_pattern) && !is_pattern(c->rank_pattern, true))
        cfg_fail(d, c->rank_pattern, "method.rank_pattern",
                 "must be an object of ranks (whole numbers above 0)");
    if (!is_null(c->alpha_pattern) && !is_pattern(c->alpha_pattern, false))
        cfg_fail(d, c->alpha_pattern, "method.alpha_pattern",
                 "must be an object of numbers above 0");
    if (!is_null(c->layers_to_transform) && !is_layers(c->layers_to_transform))
        cfg_fail(d, c->layers_to_transform, "method.layers_to_transform",
                 "must be a layer index or a list of them");
    if (!is_null(c->layers_pattern) && !is_names(c->layers_pattern, true))
        cfg_fail(d, c->layers_pattern, "method.layers_pattern",
                 "must be a name or a list of names");
    const cJSON *init = c->init_lora_weights;
    if (!is_null(init) && !cJSON_IsBool(init) &&
        !(cJSON_IsString(init) && strcmp(init->valuestring, "gaussian") == 0))
        cfg_fail(d, init, "method.init_lora_weights", "must be true, false or \"gaussian\"");
    if (c->init_from) check_init_from(d, object, c);
}

/* --- targets -------------------------------------------------------------------------------------------------- */
static bool is_linear(const nn_site *s)
{
    return s->role != NN_EMBED && s->role != NN_POSITION;
}

static bool saved_in_full(const lora_cfg *c, const char *path)
{
    return pe_list_has(c->modules_to_save, path, pe_match_suffix);
}

/* The element before the layer number must be a layers_pattern, where one is given. */
static bool right_list(const lora_cfg *c, const nn_site *s)
{
    const cJSON *e, *list = c->layers_pattern;
    str_buf part = {0};
    bool found = false;
    if (is_null(list)) return true;
    for (int i = 0; !found && (cJSON_IsString(list) ? i == 0 : i < cJSON_GetArraySize(list)); i++) {
        e = cJSON_IsString(list) ? list : cJSON_GetArrayItem(list, i);
        str_clear(&part);
        str_printf(&part, ".%s.%d.", e->valuestring, s->layer);
        found = part.data && strstr(s->path, part.data) != NULL;
    }
    str_free(&part);
    return found;
}

static bool layer_wanted(const lora_cfg *c, const nn_site *s)
{
    const cJSON *e, *l = c->layers_to_transform;
    if (is_null(l) || (cJSON_IsArray(l) && cJSON_GetArraySize(l) == 0)) return true;
    if (s->layer < 0 || !right_list(c, s)) return false;
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

/* peft.md 3: exclusions, then a regex of the whole path, or a list of suffixes with the layer filter. 1, 0, −1. */
static int is_target(const lora_cfg *c, const nn_site *s)
{
    const cJSON *t = c->target_modules;
    if (cJSON_IsString(c->exclude_modules)) {
        int out = pe_match_full(c->exclude_modules->valuestring, s->path);
        if (out != 0) return out < 0 ? -1 : 0;
    } else if (pe_list_has(c->exclude_modules, s->path, pe_match_suffix)) {
        return 0;
    }
    if (saved_in_full(c, s->path)) return 0;
    if (is_null(t))
        return s->role == NN_Q || s->role == NN_V || s->role == NN_QKV; /* PEFT's default targets */
    if (cJSON_IsString(t) && strcmp(t->valuestring, "all-linear") == 0)
        return is_linear(s) && s->role != NN_HEAD && layer_wanted(c, s);
    if (cJSON_IsString(t)) return pe_match_full(t->valuestring, s->path);
    if (pe_list_has(t, s->path, equal)) return 1;
    return pe_list_has(t, s->path, pe_match_suffix) && layer_wanted(c, s);
}

static int pattern_value(const cJSON *pattern, const char *path, double *value)
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
static ft_status add_entry(pe_ctx *c, nn_param *p, const char *key, bool transposed)
{
    lora_priv *v = c->priv;
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

static const char *file_key(pe_ctx *c, const char *path, const char *suffix)
{
    return arena_printf(c->mem, "base_model.model.%s%s", path, suffix);
}

/* Kaiming uniform with a = √5 gives ±1/√fan_in; "gaussian" N(0, (1/r)²); false draws B too, ±1/√r. */
static void init_values(pe_ctx *c, const nn_site *s, lora_slot *slot, int64_t r)
{
    const lora_cfg *cfg = c->cfg;
    const cJSON *init = cfg->init_lora_weights;
    float *a = tn_f32(&slot->a->t), *b = tn_f32(&slot->b->t);
    uint64_t ka = rng_key_text(c->seed, slot->a->name), kb = rng_key_text(c->seed, slot->b->name);
    float in = 1.0f / sqrtf((float)s->in), rank = 1.0f / sqrtf((float)r);
    if (c->m->no_weights) return;
    if (s->role == NN_EMBED)
        rng_fill_normal(b, tn_count(&slot->b->t), kb, 0.0f, 1.0f);
    else if (cJSON_IsString(init))
        rng_fill_normal(a, tn_count(&slot->a->t), ka, 0.0f, 1.0f / (float)r);
    else
        rng_fill_uniform(a, tn_count(&slot->a->t), ka, -in, in);
    if (cJSON_IsFalse(init)) rng_fill_uniform(b, tn_count(&slot->b->t), kb, -rank, rank);
}

static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const lora_cfg *cfg = c->cfg;
    bool table = s->role == NN_EMBED;
    double r = (double)cfg->r, alpha = cfg->lora_alpha;
    lora_slot *slot = arena_get(c->mem, sizeof *slot);
    if (!slot) return FT_EMEM;
    if (pattern_value(cfg->rank_pattern, s->path, &r) < 0 ||
        pattern_value(cfg->alpha_pattern, s->path, &alpha) < 0)
        return FT_ECONFIG;
    FT_CHECK(s->role != NN_POSITION, FT_ECONFIG,
             "method.target_modules: \"%s\" is a table of positions, which LoRA does not adapt",
             s->path);
    const char *ka = file_key(c, s->path, table ? ".lora_embedding_A" : ".lora_A.weight");
    const char *kb = file_key(c, s->path, table ? ".lora_embedding_B" : ".lora_B.weight");
    int64_t rank = (int64_t)r;
    if (!ka || !kb) return FT_EMEM;
    if (table)
        FT_TRY(pe_new_param(c, ka, s->out, rank, &slot->a));
    else
        FT_TRY(pe_new_param(c, ka, rank, s->in, &slot->a));
    FT_TRY(pe_new_param(c, kb, table ? s->in : s->out, rank, &slot->b));
    slot->scale = (float)(alpha / (cfg->use_rslora ? sqrt(r) : r));
    slot->dropout = (float)cfg->lora_dropout;
    slot->key = rng_key_text(0, s->path);
    init_values(c, s, slot, rank);
    s->slot = slot;
    FT_TRY(add_entry(c, slot->a, ka, table));
    return add_entry(c, slot->b, kb, false);
}

/* Modules named in modules_to_save (sites and norms), and biases. */
static ft_status attach_rest(pe_ctx *c)
{
    const lora_cfg *cfg = c->cfg;
    model *m = c->m;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *p = &m->param[i];
        const char *dot = strrchr(p->name, '.');
        char *module = arena_strn(c->mem, p->name, (size_t)(dot - p->name));
        if (!module) return FT_EMEM;
        if (saved_in_full(cfg, module)) {
            FT_TRY(pe_train_param(c, p));
            FT_TRY(add_entry(c, p->own, file_key(c, p->name, ""), false));
            continue;
        }
        if (!str_ends(p->name, ".bias") || strcmp(cfg->bias, "none") == 0) continue;
        const nn_site *s = model_site(m, module);
        bool wrapped = s && s->slot;
        if (!wrapped && strcmp(cfg->bias, "all") != 0) continue;
        FT_TRY(pe_train_param(c, p));
        FT_TRY(add_entry(c, p->own, file_key(c, module, wrapped ? ".base_layer.bias" : ".bias"),
                         false));
    }
    return FT_OK;
}

static ft_status attach(pe_ctx *c)
{
    int64_t targets = 0;
    c->priv = arena_get(c->mem, sizeof(lora_priv));
    if (!c->priv) return FT_EMEM;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        int hit = is_target(c->cfg, &c->m->site[i]);
        if (hit < 0) return FT_ECONFIG;
        if (hit == 0) continue;
        FT_TRY(attach_site(c, &c->m->site[i]));
        targets++;
    }
    if (targets == 0) {
        str_buf list = {0};
        for (int64_t i = 0; i < c->m->n_site; i++) {
            const nn_site *s = &c->m->site[i];
            const char *last = strrchr(s->path, '.');
            if (s->layer <= 0)
                str_printf(&list, "%s%s", list.len ? ", " : "", last ? last + 1 : s->path);
        }
        ft_status rc = ft_fail(
            FT_ECONFIG, "method.target_modules: no module of this %s model matches; it has %s",
            model_family_name(c->m), list.data ? list.data : "none");
        str_free(&list);
        return rc;
    }
    return attach_rest(c);
}

/* --- forward -------------------------------------------------------------------------------------------------------- */
static ag_low_rank part(const nn_run *r, const nn_site *s, int64_t col)
{
    const lora_slot *slot = s->slot;
    return (ag_low_rank){.a = &slot->a->t,
                         .b = &slot->b->t,
                         .scale = slot->scale,
                         .dropout = r->t->record ? slot->dropout : 0.0f,
                         .col = col,
                         .key = slot->key};
}

static tn_tensor *post(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y)
{
    ag_low_rank parts[4];
    int n = 0;
    int64_t col = 0;
    for (int i = 0; i < g->n; i++) {
        if (g->site[i].slot) parts[n++] = part(r, &g->site[i], col);
        col += g->site[i].out;
    }
    return n > 0 ? ag_low_rank_add(r->t, y, x, parts, n) : y;
}

static tn_tensor *embed(nn_run *r, const nn_site *s, tn_tensor *h)
{
    const lora_slot *slot = s->slot;
    if (!slot) return h;
    ag_weight b = {.w = &slot->b->t};
    tn_tensor *rows = ag_embed(r->t, &slot->a->t, r->ids, r->tokens, s->frozen_row);
    return ag_linear(r->t, ag_scale(r->t, rows, slot->scale), &b, 1, h);
}

static int low_rank(nn_run *r, const nn_site *s, ag_low_rank out[4])
{
    if (!s->slot) return 0;
    out[0] = part(r, s, 0);
    return 1;
}

/* --- folding --------------------------------------------------------------------------------------------------------- */
/* W += s · B A, computed apart and added once; transposed where the file holds [in, out]. */
static ft_status fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    const lora_slot *slot = s->slot;
    (void)c;
    (void)b;
    if (!slot) return FT_OK;
    bool table = s->role == NN_EMBED;
    const tn_tensor *left = table ? &slot->a->t : &slot->b->t,
                    *right = table ? &slot->b->t : &slot->a->t;
    int64_t rows = left->dim[0], r = left->dim[1], cols = table ? right->dim[0] : right->dim[1];
    kn_mat mat = {
        .type = &dt_f32, .data = right->data, .rows = right->dim[0], .cols = right->dim[1]};
    float *delta = ft_alloc((size_t)(rows * cols), sizeof(float));
    if (!delta) return FT_EMEM;
    if (table)
        kn_gemm_nt(delta, cols, tn_f32(left), r, &mat, rows, NULL, false);
    else
        kn_gemm_nn(delta, cols, tn_f32(left), r, &mat, rows, NULL, false);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            w[s->in_out ? j * rows + i : i * cols + j] += slot->scale * delta[i * cols + j];
    }
    ft_free(delta);
    return FT_OK;
}

/* --- files -------------------------------------------------------------------------------------------------------------- */
static void put_json(cJSON *o, const char *key, const cJSON *v)
{
    cJSON_AddItemToObject(o, key, is_null(v) ? cJSON_CreateNull() : cJSON_Duplicate(v, true));
}

/* PEFT replaces "all-linear" by the names it stands for. */
static cJSON *target_names(const pe_ctx *c)
{
    const lora_cfg *cfg = c->cfg;
    cJSON *list = cJSON_CreateArray();
    bool expand = is_null(cfg->target_modules) ||
                  (cJSON_IsString(cfg->target_modules) &&
                   strcmp(cfg->target_modules->valuestring, "all-linear") == 0);
    if (!expand) {
        cJSON_Delete(list);
        return cJSON_Duplicate(cfg->target_modules, true);
    }
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        const char *last = strrchr(s->path, '.');
        last = last ? last + 1 : s->path;
        if (s->slot && !pe_list_has(list, last, equal))
            cJSON_AddItemToArray(list, cJSON_CreateString(last));
    }
    return list;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const lora_cfg *cfg = c->cfg;
    const lora_priv *v = c->priv;
    str_buf text = {0}, path = {0};
    ft_status rc;
    cJSON *o = cJSON_CreateObject(), *empty = cJSON_CreateObject();
    put_json(o, "alpha_pattern", is_null(cfg->alpha_pattern) ? empty : cfg->alpha_pattern);
    cJSON_AddNullToObject(o, "auto_mapping");
    if (c->base_name)
        cJSON_AddStringToObject(o, "base_model_name_or_path", c->base_name);
    else
        cJSON_AddNullToObject(o, "base_model_name_or_path");
    cJSON_AddStringToObject(o, "bias", cfg->bias);
    put_json(o, "exclude_modules", cfg->exclude_modules);
    cJSON_AddBoolToObject(o, "fan_in_fan_out", c->m->layer[0].o.site->in_out);
    cJSON_AddBoolToObject(o, "inference_mode", true);
    if (is_null(cfg->init_lora_weights))
        cJSON_AddTrueToObject(o, "init_lora_weights");
    else
        put_json(o, "init_lora_weights", cfg->init_lora_weights);
    put_json(o, "layers_pattern", cfg->layers_pattern);
    put_json(o, "layers_to_transform", cfg->layers_to_transform);
    cJSON_AddNumberToObject(o, "lora_alpha", cfg->lora_alpha);
    cJSON_AddNumberToObject(o, "lora_dropout", cfg->lora_dropout);
    put_json(o, "modules_to_save", cfg->modules_to_save);
    cJSON_AddStringToObject(o, "peft_type", "LORA");
    cJSON_AddNumberToObject(o, "r", (double)cfg->r);
    put_json(o, "rank_pattern", is_null(cfg->rank_pattern) ? empty : cfg->rank_pattern);
    cJSON_AddNullToObject(o, "revision");
    cJSON_AddItemToObject(o, "target_modules", target_names(c));
    cJSON_AddStringToObject(o, "task_type", "CAUSAL_LM");
    cJSON_AddBoolToObject(o, "use_dora", false);
    cJSON_AddBoolToObject(o, "use_rslora", cfg->use_rslora);
    js_print(&text, o, true);
    str_addc(&text, '\n');
    str_printf(&path, "%s/adapter_config.json", dir);
    rc = text.failed || path.failed ? FT_EMEM : pe_write_tensors(dir, v->entry, v->n);
    if (rc == FT_OK) rc = file_write(path.data, text.data, text.len);
    cJSON_Delete(o);
    cJSON_Delete(empty);
    str_free(&text);
    str_free(&path);
    return rc;
}

/* Options that change the arithmetic and are not ours: refused by name rather than ignored. */
static ft_status refuse_unknown(const js_doc *d)
{
    static const char *const flags[] = {"use_dora",
                                        "lora_bias",
                                        "use_qalora",
                                        "trainable_token_indices",
                                        "layer_replication",
                                        "target_parameters",
                                        "alora_invocation_tokens",
                                        "arrow_config",
                                        "use_bdlora",
                                        "megatron_config"};
    for (size_t i = 0; i < FT_COUNT_OF(flags); i++) {
        const cJSON *v = js_get(d->root, flags[i]);
        bool off = is_null(v) || cJSON_IsFalse(v) ||
                   ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
        if (!off)
            return js_fail(d, v, FT_EDATA, flags[i],
                           "an adapter with this option is not supported");
    }
    const cJSON *init = js_get(d->root, "init_lora_weights");
    if (cJSON_IsString(init) && strcmp(init->valuestring, "gaussian") != 0 &&
        strcmp(init->valuestring, "eva") != 0 && strcmp(init->valuestring, "orthogonal") != 0)
        return js_fail(
            d, init, FT_EDATA, "init_lora_weights",
            "\"%s\" changed the base weights; convert the adapter to plain LoRA when saving it",
            ft_shows(init->valuestring));
    return FT_OK;
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    lora_cfg *cfg = c->cfg;
    const cJSON *o = d->root;
    const char *bias = "none";
    FT_TRY(refuse_unknown(d));
    FT_TRY(js_get_int(d, o, "r", 8, 1, 65536, &cfg->r));
    FT_TRY(js_get_num(d, o, "lora_alpha", 8.0, &cfg->lora_alpha));
    if (!c->load_dir) FT_TRY(js_get_num(d, o, "lora_dropout", 0.0, &cfg->lora_dropout));
    FT_TRY(js_get_bool(d, o, "use_rslora", false, &cfg->use_rslora));
    FT_TRY(js_get_str(d, o, "bias", "none", &bias));
    cfg->bias = NULL;
    for (size_t i = 0; bias_choices[i]; i++) {
        if (strcmp(bias, bias_choices[i]) == 0) cfg->bias = bias_choices[i];
    }
    if (!cfg->bias)
        return js_fail(d, js_get(o, "bias"), FT_EDATA, "bias", "must be none, all or lora_only");
    cfg->target_modules = js_get(o, "target_modules");
    cfg->exclude_modules = js_get(o, "exclude_modules");
    cfg->modules_to_save = js_get(o, "modules_to_save");
    cfg->rank_pattern = js_get(o, "rank_pattern");
    cfg->alpha_pattern = js_get(o, "alpha_pattern");
    cfg->layers_to_transform = js_get(o, "layers_to_transform");
    cfg->layers_pattern = js_get(o, "layers_pattern");
    cfg->init_lora_weights =
        NULL; /* saved as null's default, true: the values come from the file */
    const struct {
        const char *key;
        const cJSON *v;
        bool good;
    } shapes[] = {
        {"target_modules", cfg->target_modules, is_names(cfg->target_modules, true)},
        {"exclude_modules", cfg->exclude_modules, is_names(cfg->exclude_modules, true)},
        {"modules_to_save", cfg->modules_to_save, is_names(cfg->modules_to_save, false)},
        {"rank_pattern", cfg->rank_pattern, is_pattern(cfg->rank_pattern, true)},
        {"alpha_pattern", cfg->alpha_pattern, is_pattern(cfg->alpha_pattern, false)},
        {"layers_to_transform", cfg->layers_to_transform, is_layers(cfg->layers_to_transform)},
        {"layers_pattern", cfg->layers_pattern, is_names(cfg->layers_pattern, true)},
    };
    for (size_t i = 0; i < FT_COUNT_OF(shapes); i++) {
        bool empty = cJSON_IsArray(shapes[i].v) && !shapes[i].v->child;
        if (!is_null(shapes[i].v) && !shapes[i].good && !empty)
            return js_fail(d, shapes[i].v, FT_EDATA, shapes[i].key,
                           "has a form that PEFT does not write");
    }
    return FT_OK;
}

/* PEFT stores the base weights of a targeted embedding or head beside the factors; they repeat the base. */
static bool is_base_copy(void *ctx, const io_tensor *t)
{
    (void)ctx;
    return str_ends(t->name, ".base_layer.weight");
}

static ft_status load(pe_ctx *c, const char *dir)
{
    const lora_priv *v = c->priv;
    return pe_read_tensors(dir, v->entry, v->n, is_base_copy, NULL);
}

const pe_method pe_lora = {
    .name = "lora",
    .help = "low-rank adapters on linear layers; the result is a PEFT adapter",
    .fields = fields,
    .cfg_size = sizeof(lora_cfg),
    .peft_type = "LORA",
    .check = check,
    .attach = attach,
    .hooks = {.post = post, .embed = embed, .low_rank = low_rank},
    .save = save,
    .load_config = load_config,
    .load = load,
    .fold = fold,
};
