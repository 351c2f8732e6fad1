/* ia3.c – IA³ (Liu et al. 2022): a factor for each output of a layer, or for each input of a feed-forward one.
 *
 *   y = (x Wᵀ + b) ⊙ l,  of feedforward_modules y = (x ⊙ l) Wᵀ + b
 *
 * l begins as 1. Merged, it scales the rows of W, and b, or the columns of W. */
#include "ft/method.h"
#include "method_private.h"

#include <string.h>

typedef struct ia3_cfg {
    pe_target target;
    const cJSON *feedforward_modules; /* a regex of whole paths, or a list of ends of them */
} ia3_cfg;

typedef struct ia3_slot {
    nn_param *l; /* [1, in] or [out, 1] */
    bool of_inputs;
} ia3_slot;

/* PEFT's defaults, by model_type. */
static const struct {
    const char *family;
    const char *const target[4], *const feedforward[2];
} defaults[] = {
    {"llama", {"k_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"mistral", {"k_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"qwen2", {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"qwen3", {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"gpt2", {"c_attn", "mlp.c_proj"}, {"mlp.c_proj"}},
};

static const cfg_field fields[] = {
    PE_TARGET_MODULES(ia3_cfg, target, NULL),
    {.key = "feedforward_modules",
     .type = CFG_JSON,
     .offset = offsetof(ia3_cfg, feedforward_modules),
     .help = "those of target_modules whose inputs are scaled, not their outputs: a list or a "
             "regex"},
    CFG_END};

/* --- the config ------------------------------------------------------------------------------------------------ */
static bool is_feedforward(const cJSON *v)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, v)
    {
        if (!cJSON_IsString(e) || !*e->valuestring) return false;
    }
    return cJSON_IsString(v) || cJSON_IsArray(v);
}

static bool equal(const char *entry, const char *path)
{
    return strcmp(entry, path) == 0;
}

/* Of two lists: the first name that the other does not have; NULL: none, or one of them is no list. */
static const cJSON *not_among(const cJSON *names, const cJSON *list)
{
    const cJSON *e;
    if (!cJSON_IsArray(names) || !cJSON_IsArray(list)) return NULL;
    cJSON_ArrayForEach(e, names)
    {
        if (!cJSON_IsString(e) || !pe_list_has(list, e->valuestring, equal)) return e;
    }
    return NULL;
}

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"feedforward_modules", NULL};
    ia3_cfg *cfg = ctx;
    const cJSON *ff = cfg->feedforward_modules;
    pe_check_target(d, object, &cfg->target, settled);
    pe_check_json(d, ff, "feedforward_modules", is_feedforward,
                  "must be a regex or a list of module names");
    const cJSON *other = not_among(ff, cfg->target.target_modules);
    if (other && cJSON_IsString(other))
        cfg_fail(d, other, "method.feedforward_modules",
                 "\"%s\" is not among target_modules, as PEFT wants it",
                 ft_shows(other->valuestring));
    if (cJSON_IsString(ff))
        pe_check_regex(d, ff, "method.feedforward_modules", ff->valuestring, pe_match_full);
}

/* --- attaching --------------------------------------------------------------------------------------------------- */
/* What is null is PEFT's default for the model. */
static ft_status resolve(pe_ctx *c)
{
    ia3_cfg *cfg = c->cfg;
    const char *family = model_family_name(c->m);
    size_t i = 0;
    if (!pe_is_null(cfg->target.target_modules) && !pe_is_null(cfg->feedforward_modules))
        return FT_OK;
    while (i < FT_COUNT_OF(defaults) && strcmp(defaults[i].family, family) != 0) i++;
    FT_CHECK(i < FT_COUNT_OF(defaults), FT_ECONFIG,
             "method.target_modules: PEFT has no default for a %s model; give target_modules and "
             "feedforward_modules",
             family);
    if (pe_is_null(cfg->target.target_modules))
        FT_TRY(pe_name_list(c, defaults[i].target, &cfg->target.target_modules));
    if (!pe_is_null(cfg->feedforward_modules)) return FT_OK;
    return pe_name_list(c, defaults[i].feedforward, &cfg->feedforward_modules);
}

static bool ends_with(const char *entry, const char *path)
{
    return str_ends(path, entry);
}

static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const ia3_cfg *cfg = c->cfg;
    const cJSON *ff = cfg->feedforward_modules;
    ia3_slot *slot = arena_get(c->mem, sizeof *slot);
    const char *key = pe_file_key(c, s->path, ".ia3_l");
    if (!slot || !key) return FT_EMEM;
    FT_TRY(pe_only_linear(c, s));
    int hit = cJSON_IsString(ff) ? pe_match_full(ff->valuestring, s->path)
                                 : pe_list_has(ff, s->path, ends_with);
    FT_TRY(pe_match_status(hit));
    slot->of_inputs = hit > 0;
    FT_TRY(nn_new_param(&c->store, key, hit ? 1 : s->out, hit ? s->in : 1, &slot->l));
    for (int64_t i = 0; i < tn_count(&slot->l->t) && !c->dry; i++) tn_f32(&slot->l->t)[i] = 1.0f;
    c->over.slot[s->index] = slot;
    return pe_add_entry(c, slot->l, key, false);
}

static ft_status attach(pe_ctx *c)
{
    const ia3_cfg *cfg = c->cfg;
    FT_TRY(resolve(c));
    return pe_attach_target(c, &cfg->target, attach_site);
}

static void weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    const ia3_slot *slot = nn_slot(r, s);
    if (!slot) return;
    if (slot->of_inputs)
        w->in = &slot->l->t;
    else
        w->out = &slot->l->t;
}

static ft_status fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    const ia3_slot *slot = nn_slot_of(&c->over, s);
    if (!slot) return FT_OK;
    const float *l = tn_f32(&slot->l->t);
    for (int64_t o = 0; o < s->out && w; o++)
        for (int64_t i = 0; i < s->in; i++)
            w[s->in_out ? i * s->out + o : o * s->in + i] *= l[slot->of_inputs ? i : o];
    for (int64_t o = 0; o < s->out && b && !slot->of_inputs; o++) b[o] *= l[o];
    return FT_OK;
}

/* --- files ------------------------------------------------------------------------------------------------------------ */
/* The paths of targets, or of those whose inputs are scaled. */
static cJSON *paths_of(const pe_ctx *c, bool of_inputs)
{
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const ia3_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (slot && (slot->of_inputs || !of_inputs))
            cJSON_AddItemToArray(list, cJSON_CreateString(c->m->site[i].path));
    }
    return list;
}

/* PEFT opens a list of feedforward_modules only where it stands in a list of target_modules: where it does not, both are
 * whole paths. */
static ft_status save(const pe_ctx *c, const char *dir)
{
    const ia3_cfg *cfg = c->cfg;
    pe_target t = cfg->target;
    const cJSON *ff = cfg->feedforward_modules;
    const bool whole = pe_is_all_linear(t.target_modules) || !pe_is_empty(t.layers_to_transform) ||
                       not_among(ff, t.target_modules);
    cJSON *o = cJSON_CreateObject(), *paths = whole ? paths_of(c, false) : NULL;
    if (paths) {
        t.target_modules = paths;
        js_add(o, "feedforward_modules", paths_of(c, true));
    } else {
        pe_put_json(o, "feedforward_modules", ff);
    }
    cJSON_AddTrueToObject(o, "init_ia3_weights");
    ft_status rc = pe_save_adapter(c, &t, o, dir);
    cJSON_Delete(paths);
    return rc;
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    static const pe_key keys[] = {PE_TARGET_KEYS,
                                  {"feedforward_modules", NULL},
                                  {"init_ia3_weights", NULL},
                                  {"fan_in_fan_out", NULL},
                                  {NULL, NULL}};
    ia3_cfg *cfg = c->cfg;
    FT_TRY(pe_check_keys(d, keys));
    FT_TRY(pe_load_json(d, "feedforward_modules", is_feedforward, &cfg->feedforward_modules));
    return pe_load_target(&cfg->target, d);
}

const pe_method pe_ia3 = {
    .name = "ia3",
    .help = "a factor for each output or input of a layer; the result is a PEFT adapter",
    .about = "Keys, values and the inner activations of the feed-forward layers are scaled by "
             "trained vectors; nothing else is added. The smallest of the adapters, a few tens of "
             "kilobytes, for small sets and many tasks on one base; a step costs little more than "
             "a pass through the model. It wants a high learning rate.",
    .paper = "Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than "
             "In-Context Learning",
    .example = "{\"type\": \"ia3\"}",
    .fields = fields,
    .cfg_size = sizeof(ia3_cfg),
    .peft_type = "IA3",
    .lacks = (const char *const[]){"bias", "layers_to_transform", "layers_pattern", NULL},
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 3e-3, /* of the paper */
    .check = check,
    .attach = attach,
    .hooks = {.weight = weight},
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
    .fold = fold,
};
