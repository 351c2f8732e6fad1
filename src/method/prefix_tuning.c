/* prefix_tuning.c – trained keys and values before every sequence, in each layer (Li & Liang 2021), with PEFT's options, names
 * and files.
 *
 *   attention_l(q, [P_l^K; k], [P_l^V; v])
 * P is [num_virtual_tokens, layers · 2 · token_dim], of each layer keys, then values, as its attention takes them: neither
 * normed nor rotated. Tokens have positions from num_virtual_tokens on. With prefix_projection a network makes P:
 * P = W₂ tanh(W₁ e + b₁) + b₂ for embeddings e. The virtual rows run through the layers with everybody, but nobody looks at
 * what comes of them. No weight can take a prefix in, so there is no fold. */
#include "virtual_private.h"

typedef struct prefix_cfg {
    int64_t num_virtual_tokens, encoder_hidden_size; /* encoder_hidden_size 0: token_dim */
    bool prefix_projection;
    const char *init_weights;
} prefix_cfg;

static const char *const inits[] = {"zero", NULL};

#define AT(field) offsetof(prefix_cfg, field)
static const cfg_field fields[] = {
    PE_VIRTUAL_FIELD(prefix_cfg, NULL),
    {.key = "prefix_projection",
     .type = CFG_BOOL,
     .offset = AT(prefix_projection),
     .def = "false",
     .help = "a two-layer network makes the prefix while it is trained"},
    {.key = "encoder_hidden_size",
     .type = CFG_INT,
     .offset = AT(encoder_hidden_size),
     .low = 1,
     .high = 65536,
     .help = "its width (default: that of the keys of a layer)"},
    {.key = "init_weights",
     .type = CFG_ENUM,
     .offset = AT(init_weights),
     .choices = inits,
     .help = "\"zero\": the prefix starts at 0 (default: normal)"},
    CFG_END};

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"num_virtual_tokens", "prefix_projection",
                                          "encoder_hidden_size", NULL};
    const prefix_cfg *c = ctx;
    pe_check_init_from(d, object, settled, NULL);
    pe_virtual_check(d, object, c->num_virtual_tokens);
}

static int64_t hidden_size(const pe_ctx *c)
{
    const prefix_cfg *cfg = c->cfg;
    return cfg->encoder_hidden_size ? cfg->encoder_hidden_size : pe_virtual_dim(c->m, true);
}

static ft_status attach(pe_ctx *c)
{
    const prefix_cfg *cfg = c->cfg;
    const int64_t dim = pe_virtual_dim(c->m, true);
    const pe_stage stages[] = {{.name = "transform.0", .out = hidden_size(c), .act = "tanh"},
                               {.name = "transform.2", .out = 2 * c->m->d.n_layer * dim}};
    const pe_encoder_plan plan = {
        .dim = dim, .stage = stages, .n = 2, .zero = cfg->init_weights != NULL};
    if (c->dry && !c->file && cfg->encoder_hidden_size && !cfg->prefix_projection)
        log_warn("method.encoder_hidden_size has no effect: it is of prefix_projection");
    FT_TRY(
        pe_virtual_attach(c, cfg->num_virtual_tokens, true, cfg->prefix_projection ? &plan : NULL));
    const pe_virtual *v = c->priv;
    tn_tensor *t = &v->table->t;
    if (!c->dry && !c->file && !v->encoder && !cfg->init_weights)
        rng_fill_normal(tn_f32(t), tn_count(t), rng_key_text(c->seed, v->table->name), 0.0f, 1.0f);
    return FT_OK;
}

static tn_tensor *qkv(nn_run *r, int layer, const kn_attn *a, tn_tensor *x)
{
    return pe_virtual_put(r, x, layer, (int64_t)a->n_head * a->head_dim);
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
static ft_status save(const pe_ctx *c, const char *dir)
{
    const prefix_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "encoder_hidden_size", (double)hidden_size(c));
    if (cfg->init_weights)
        cJSON_AddStringToObject(o, "init_weights", cfg->init_weights);
    else
        cJSON_AddNullToObject(o, "init_weights");
    cJSON_AddBoolToObject(o, "prefix_projection", cfg->prefix_projection);
    return pe_virtual_save(c, o, dir);
}

static const pe_key keys[] = {
    PE_VIRTUAL_KEYS,        {"encoder_hidden_size", NULL},
    {"init_weights", NULL}, {"prefix_projection", NULL},
    {NULL, NULL},
};

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    prefix_cfg *cfg = c->cfg;
    const cJSON *o = d->root;
    FT_TRY(pe_virtual_load_config(c, d, keys, true, &cfg->num_virtual_tokens));
    FT_TRY(js_get_bool(d, o, "prefix_projection", false, &cfg->prefix_projection));
    FT_TRY(js_get_int(d, o, "encoder_hidden_size", 0, 1, 65536, &cfg->encoder_hidden_size));
    return js_get_str(d, o, "init_weights", NULL, &cfg->init_weights);
}

const pe_method pe_prefix_tuning = {
    .name = "prefix_tuning",
    .help = "trained keys and values before every sequence in each layer, the model frozen; the "
            "result is a PEFT adapter",
    .about = "Keys and values of num_virtual_tokens positions before every sequence are trained in "
             "each layer, the model is frozen. It says more to the model than a prompt of as many "
             "tokens does, and learns faster; with prefix_projection a small network makes the "
             "prefix, which steadies long training. Take it for one narrow task whose base must "
             "stay untouched; it takes room in every sequence, and cannot be merged.",
    .paper = "Li & Liang 2021, Prefix-Tuning: Optimizing Continuous Prompts for Generation",
    .example = "{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 20}",
    .fields = fields,
    .cfg_size = sizeof(prefix_cfg),
    .peft_type = "PREFIX_TUNING",
    .result = PE_ADAPTER,
    .files = pe_encoder_files,
    .learning_rate = 1e-2, /* PEFT's guide for prefix tuning (AdamW) */
    .check = check,
    .attach = attach,
    .hooks = {.qkv = qkv},
    .before_step = pe_virtual_before_step,
    .gradients = pe_virtual_gradients,
    .after_update = pe_virtual_after_update,
    .save = save,
    .load_config = load_config,
    .load = pe_virtual_load,
};
