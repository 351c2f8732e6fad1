/* p_tuning.c – soft prompts that a small network makes (Liu et al. 2021), with PEFT's options, names and files.
 *
 * num_virtual_tokens embeddings e go through an encoder, and what it gives stands before every sequence as in prompt tuning:
 * "MLP":  W₃ relu(W₂ relu(W₁ e + b₁) + b₂) + b₃
 * "LSTM": W₂ relu(W₁ h + b₁) + b₂, h = encoder_num_layers of an LSTM both ways over the e in their order.
 * The adapter holds the prompt; the encoder lies beside it, to train on. */
#include "virtual_private.h"

#include <string.h>

typedef struct p_cfg {
    int64_t num_virtual_tokens, encoder_hidden_size; /* encoder_hidden_size 0: token_dim */
    int64_t encoder_num_layers;
    const char *encoder_reparameterization_type;
    double encoder_dropout;
} p_cfg;

enum { MAX_LAYERS = 64 };
static const char *const encoders[] = {"MLP", "LSTM", NULL};

#define AT(field) offsetof(p_cfg, field)
static const cfg_field fields[] = {
    PE_VIRTUAL_FIELD(p_cfg, NULL),
    {.key = "encoder_reparameterization_type",
     .type = CFG_ENUM,
     .offset = AT(encoder_reparameterization_type),
     .def = "\"MLP\"",
     .choices = encoders,
     .help = "what makes the prompt: three linear layers (MLP), or an LSTM and two (LSTM)"},
    {.key = "encoder_hidden_size",
     .type = CFG_INT,
     .offset = AT(encoder_hidden_size),
     .low = 1,
     .high = 65536,
     .help = "its width (default: the model's hidden size)"},
    {.key = "encoder_num_layers",
     .type = CFG_INT,
     .offset = AT(encoder_num_layers),
     .def = "2",
     .low = 1,
     .high = MAX_LAYERS,
     .help = "layers of the LSTM"},
    {.key = "encoder_dropout",
     .type = CFG_FLOAT,
     .offset = AT(encoder_dropout),
     .def = "0",
     .low = 0,
     .high = 0.99,
     .help = "dropout between layers of the LSTM"},
    CFG_END};

static bool is_lstm(const p_cfg *c)
{
    return strcmp(c->encoder_reparameterization_type, "LSTM") == 0;
}

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"num_virtual_tokens", "encoder_reparameterization_type",
                                          "encoder_hidden_size", "encoder_num_layers", NULL};
    const p_cfg *c = ctx;
    pe_check_init_from(d, object, settled, NULL);
    pe_virtual_check(d, object, c->num_virtual_tokens);
}

/* PEFT takes these for an MLP too, to no effect. */
static void tell_idle(const p_cfg *c)
{
    const char *no = "method.%s has no effect: it is of an LSTM of %s layer%s";
    if (!is_lstm(c) && c->encoder_num_layers != 2)
        log_warn(no, "encoder_num_layers", "one", " or more");
    if (c->encoder_dropout > 0 && (!is_lstm(c) || c->encoder_num_layers == 1))
        log_warn(no, "encoder_dropout", "two", "s or more");
}

static int64_t hidden_size(const pe_ctx *c)
{
    const p_cfg *cfg = c->cfg;
    return cfg->encoder_hidden_size ? cfg->encoder_hidden_size : c->m->d.hidden_size;
}

static ft_status attach(pe_ctx *c)
{
    const p_cfg *cfg = c->cfg;
    const int64_t hidden = hidden_size(c), dim = c->m->d.hidden_size;
    pe_stage stages[MAX_LAYERS + 2];
    int n = 0;
    if (is_lstm(cfg)) {
        while (n < cfg->encoder_num_layers)
            stages[n++] = (pe_stage){.name = "lstm_head", .out = hidden, .lstm = true};
        stages[n++] = (pe_stage){.name = "mlp_head.0", .out = 2 * hidden, .act = "relu"};
        stages[n++] = (pe_stage){.name = "mlp_head.2", .out = dim};
    } else {
        stages[n++] = (pe_stage){.name = "mlp_head.0", .out = hidden, .act = "relu"};
        stages[n++] = (pe_stage){.name = "mlp_head.2", .out = hidden, .act = "relu"};
        stages[n++] = (pe_stage){.name = "mlp_head.4", .out = dim};
    }
    if (c->dry && !c->file) tell_idle(cfg); /* once: the plan is made before the run */
    return pe_virtual_attach(
        c, cfg->num_virtual_tokens, false,
        &(pe_encoder_plan){
            .dim = dim, .stage = stages, .n = n, .dropout = (float)cfg->encoder_dropout});
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
static ft_status save(const pe_ctx *c, const char *dir)
{
    const p_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "encoder_dropout", cfg->encoder_dropout);
    cJSON_AddNumberToObject(o, "encoder_hidden_size", (double)hidden_size(c));
    cJSON_AddNumberToObject(o, "encoder_num_layers", (double)cfg->encoder_num_layers);
    cJSON_AddStringToObject(o, "encoder_reparameterization_type",
                            cfg->encoder_reparameterization_type);
    return pe_virtual_save(c, o, dir);
}

static const pe_key keys[] = {
    PE_VIRTUAL_KEYS,
    {"encoder_dropout", NULL},
    {"encoder_hidden_size", NULL},
    {"encoder_num_layers", NULL},
    {"encoder_reparameterization_type", NULL},
    {NULL, NULL},
};

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    p_cfg *cfg = c->cfg;
    const cJSON *o = d->root;
    const char **type = &cfg->encoder_reparameterization_type;
    FT_TRY(pe_virtual_load_config(c, d, keys, false, &cfg->num_virtual_tokens));
    FT_TRY(js_get_str(d, o, "encoder_reparameterization_type", "MLP", type));
    if (strcmp(*type, "MLP") != 0 && strcmp(*type, "LSTM") != 0)
        return js_fail(d, js_get(o, "encoder_reparameterization_type"), FT_EDATA,
                       "encoder_reparameterization_type", "must be \"MLP\" or \"LSTM\"");
    FT_TRY(js_get_int(d, o, "encoder_hidden_size", 0, 1, 65536, &cfg->encoder_hidden_size));
    FT_TRY(js_get_int(d, o, "encoder_num_layers", 2, 1, MAX_LAYERS, &cfg->encoder_num_layers));
    return c->load_dir ? FT_OK : js_get_num(d, o, "encoder_dropout", 0.0, &cfg->encoder_dropout);
}

const pe_method pe_p_tuning = {
    .name = "p_tuning",
    .help = "a small network that makes rows before every sequence, the model frozen; the result "
            "is a PEFT adapter",
    .about = "As prompt_tuning, but the rows are made by a small network (MLP or LSTM), which is "
             "what is trained; the model is frozen. The rows then learn together and faster than "
             "free ones. Take it where prompt_tuning learns too slowly; the adapter is as small, "
             "the network lies beside it to train on, and neither can be merged.",
    .paper = "Liu et al. 2021, GPT Understands, Too",
    .example = "{\"type\": \"p_tuning\", \"num_virtual_tokens\": 20, \"encoder_hidden_size\": 128}",
    .fields = fields,
    .cfg_size = sizeof(p_cfg),
    .peft_type = "P_TUNING",
    .result = PE_ADAPTER,
    .files = pe_encoder_files,
    .learning_rate = 1e-3, /* PEFT's guide for P-tuning (AdamW) */
    .check = check,
    .attach = attach,
    .hooks = {.embed = pe_virtual_embed},
    .virtual_predict = true,
    .before_step = pe_virtual_before_step,
    .gradients = pe_virtual_gradients,
    .after_update = pe_virtual_after_update,
    .save = save,
    .load_config = load_config,
    .load = pe_virtual_load,
};
