/* ln_tuning.c – norms alone are trained (Zhao et al. 2024), weights and biases, from where they are.
 *
 *   y = norm(x) ⊙ w (+ b), w and b trained, all else frozen
 *
 * The file holds whole values, by PEFT's names; merged, they stand in the base's place. */
#include "ft/method.h"
#include "method_private.h"

#include <string.h>

typedef struct ln_cfg {
    pe_target target;
} ln_cfg;

#define INSIDE ".ln_tuning_layers"

/* PEFT's defaults, by model_type. */
static const struct {
    const char *family;
    const char *const target[4];
} defaults[] = {
    {"llama", {"input_layernorm", "post_attention_layernorm", "norm"}},
    {"mistral", {"input_layernorm", "post_attention_layernorm", "norm"}},
    {"qwen2", {"post_attention_layernorm"}},
    {"qwen3", {"post_attention_layernorm"}},
    {"gpt2", {"ln_1", "ln_2", "ln_f"}},
};

static const cfg_field fields[] = {PE_TARGET_MODULES(ln_cfg, target, NULL), CFG_END};

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    ln_cfg *cfg = ctx;
    pe_check_target(d, object, &cfg->target, NULL);
}

static ft_status attach(pe_ctx *c)
{
    ln_cfg *cfg = c->cfg;
    const char *family = model_family_name(c->m);
    size_t i = 0;
    while (i < FT_COUNT_OF(defaults) && strcmp(defaults[i].family, family) != 0) i++;
    if (pe_is_null(cfg->target.target_modules)) {
        FT_CHECK(i < FT_COUNT_OF(defaults), FT_ECONFIG,
                 "method.target_modules: PEFT has no default for a %s model; name the norms",
                 family);
        FT_TRY(pe_name_list(c, defaults[i].target, &cfg->target.target_modules));
    }
    return pe_attach_norms(c, &cfg->target, INSIDE);
}

/* PEFT has no key for layers: chosen ones are named by their paths. */
static cJSON *paths_of(const pe_ctx *c)
{
    const size_t front = strlen("base_model.model.");
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < c->entries.n; i++) {
        const char *key = c->entries.entry[i].key, *end = strstr(key, INSIDE ".weight");
        str_buf path = {0};
        if (!end) continue;
        str_printf(&path, "%.*s", (int)(end - key - (ptrdiff_t)front), key + front);
        if (str_ok(&path) == FT_OK) cJSON_AddItemToArray(list, cJSON_CreateString(path.data));
        str_free(&path);
    }
    return list;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const ln_cfg *cfg = c->cfg;
    pe_target t = cfg->target;
    cJSON *paths = pe_is_empty(t.layers_to_transform) ? NULL : paths_of(c);
    if (paths) t.target_modules = paths;
    t.layers_to_transform = NULL;
    ft_status rc = pe_save_adapter(c, &t, cJSON_CreateObject(), dir);
    cJSON_Delete(paths);
    return rc;
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    static const pe_key keys[] = {PE_TARGET_KEYS, {NULL, NULL}};
    ln_cfg *cfg = c->cfg;
    FT_TRY(pe_check_keys(d, keys));
    return pe_load_target(&cfg->target, d);
}

/* Nothing is left to compute: what was trained stands in the overlay whole. */
static ft_status fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    (void)c, (void)s, (void)w, (void)b;
    return FT_OK;
}

const pe_method pe_ln_tuning = {
    .name = "ln_tuning",
    .help = "trains norms only; the result is a PEFT adapter",
    .about = "The weights (and biases) of norms are trained, a few thousand values; all else is "
             "frozen. Take it for a light change of manner, or to follow a change of the data's "
             "scale; a step costs as little as one of bitfit. It wants a high learning rate.",
    .paper = "Zhao et al. 2024, Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM "
             "Finetuning",
    .example = "{\"type\": \"ln_tuning\"}",
    .fields = fields,
    .cfg_size = sizeof(ln_cfg),
    .peft_type = "LN_TUNING",
    .lacks = (const char *const[]){"bias", "fan_in_fan_out", "layers_to_transform",
                                   "layers_pattern", NULL},
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 1e-3,
    .check = check,
    .attach = attach,
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
    .fold = fold,
};
