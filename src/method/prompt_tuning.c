/* prompt_tuning.c – soft prompts (Lester et al. 2021) with PEFT's options, names and files.
 *
 * num_virtual_tokens trained rows stand before every sequence in the place of embedded tokens: they take positions 0 … n − 1,
 * all that follows sees them, and the last of them predicts the first token. The base is frozen. No weight of it can take the
 * prompt in, so there is no fold. */
#include "virtual_private.h"

#include <string.h>

typedef struct prompt_cfg {
    int64_t num_virtual_tokens;
    const char *prompt_tuning_init, *prompt_tuning_init_text;
    const char *tokenizer;         /* of an adapter: tokenizer_name_or_path as it stands there */
    const cJSON *tokenizer_kwargs; /* likewise */
} prompt_cfg;

static const char *const inits[] = {"RANDOM", "TEXT", "SAMPLE_VOCAB", NULL};

#define AT(field) offsetof(prompt_cfg, field)
static const cfg_field fields[] = {
    PE_VIRTUAL_FIELD(
        prompt_cfg,
        "20"), /* more gain little (Lester et al. 2021, figure 3a); PEFT's own example */
    {.key = "prompt_tuning_init",
     .type = CFG_ENUM,
     .offset = AT(prompt_tuning_init),
     .def = "\"RANDOM\"",
     .choices = inits,
     .help = "their first values: normal (RANDOM), embedded tokens of a text (TEXT), or of the "
             "vocabulary (SAMPLE_VOCAB)"},
    {.key = "prompt_tuning_init_text",
     .type = CFG_STR,
     .offset = AT(prompt_tuning_init_text),
     .help = "the text of TEXT: repeated or cut to num_virtual_tokens"},
    CFG_END};

static bool is_text(const prompt_cfg *c)
{
    return c->prompt_tuning_init && strcmp(c->prompt_tuning_init, "TEXT") == 0;
}

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"num_virtual_tokens", "prompt_tuning_init",
                                          "prompt_tuning_init_text", NULL};
    const char *key = "method.prompt_tuning_init_text";
    const prompt_cfg *c = ctx;
    pe_check_init_from(d, object, settled, NULL);
    if (js_get(object, "init_from") || cfg_is_wrong(d, "method.prompt_tuning_init")) return;
    if (is_text(c) && !c->prompt_tuning_init_text)
        cfg_missing(d, object, key, "this key is required with prompt_tuning_init \"TEXT\"");
    if (!is_text(c) && c->prompt_tuning_init_text)
        cfg_fail(d, js_get(object, "prompt_tuning_init_text"), key,
                 "goes with prompt_tuning_init \"TEXT\" only, which is \"%s\"",
                 c->prompt_tuning_init);
}

/* --- first values --------------------------------------------------------------------------------------------- */
/* Row k is the embedding of id[k mod n]. */
static void embed_ids(const pe_ctx *c, tn_tensor *rows, const int32_t *id, int64_t n)
{
    int64_t cols = tn_cols(rows);
    for (int64_t k = 0; k < tn_rows(rows); k++)
        tn_unpack_rows(tn_f32(rows) + k * cols, &c->m->embed->w->t, id[k % n], 1);
}

static ft_status check_text(const pe_ctx *c, const tok_ids *ids, int64_t rows)
{
    static const char key[] = "method.prompt_tuning_init_text";
    FT_CHECK(ids->n > 0, FT_ECONFIG, "%s: the text has no token", key);
    for (int64_t i = 0; i < ids->n; i++)
        FT_CHECK(ids->id[i] < c->m->d.vocab_size, FT_ECONFIG,
                 "%s: token id %d does not exist in the model, whose vocabulary has %lld", key,
                 (int)ids->id[i], (long long)c->m->d.vocab_size);
    if (ids->n > rows && c->dry) /* once: the plan is made before the run */
        log_warn("%s: the text has %lld tokens; the first %lld begin the prompt", key,
                 (long long)ids->n, (long long)rows);
    return FT_OK;
}

/* Ids as a tokenizer gives them to who calls it: with what its post-processor adds. */
static ft_status init_text(const pe_ctx *c, tn_tensor *rows)
{
    const prompt_cfg *cfg = c->cfg;
    tok_ids ids = {0};
    FT_CHECK(c->tok, FT_ECONFIG,
             "method.prompt_tuning_init: \"TEXT\" needs a tokenizer, and the model has none");
    const char *text = cfg->prompt_tuning_init_text;
    ft_status rc = tok_encode(c->tok, text, strlen(text), true, &ids);
    if (rc == FT_OK) rc = check_text(c, &ids, tn_rows(rows));
    if (rc == FT_OK && !c->dry) embed_ids(c, rows, ids.id, ids.n);
    tok_ids_free(&ids);
    return rc;
}

static ft_status init_sample(const pe_ctx *c, tn_tensor *rows, uint64_t key)
{
    int64_t n = tn_rows(rows);
    int32_t *id = arena_get(c->mem, (size_t)n * sizeof *id);
    if (!id) return FT_EMEM;
    for (int64_t k = 0; k < n; k++)
        id[k] = (int32_t)(rng_uniform(key, (uint64_t)k) * (double)c->m->d.vocab_size);
    embed_ids(c, rows, id, n);
    return FT_OK;
}

static ft_status init_values(const pe_ctx *c, nn_param *p)
{
    const prompt_cfg *cfg = c->cfg;
    uint64_t key = rng_key_text(c->seed, p->name);
    if (is_text(cfg)) return init_text(c, &p->t);
    if (c->dry) return FT_OK;
    if (strcmp(cfg->prompt_tuning_init, "SAMPLE_VOCAB") == 0) return init_sample(c, &p->t, key);
    rng_fill_normal(tn_f32(&p->t), tn_count(&p->t), key, 0.0f, 1.0f);
    return FT_OK;
}

static ft_status attach(pe_ctx *c)
{
    const prompt_cfg *cfg = c->cfg;
    FT_TRY(pe_virtual_attach(c, cfg->num_virtual_tokens, false, NULL));
    const pe_virtual *v = c->priv;
    return c->file ? FT_OK : init_values(c, v->table);
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
static void put_text(cJSON *o, const char *key, const char *text)
{
    js_add(o, key, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const prompt_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    put_text(o, "prompt_tuning_init", cfg->prompt_tuning_init);
    put_text(o, "prompt_tuning_init_text", cfg->prompt_tuning_init_text);
    pe_put_json(o, "tokenizer_kwargs", cfg->tokenizer_kwargs);
    /* PEFT wants one with TEXT, and never opens it to use the adapter: the base has it */
    put_text(o, "tokenizer_name_or_path",
             cfg->tokenizer || !is_text(cfg) ? cfg->tokenizer : c->base_name);
    return pe_virtual_save(c, o, dir);
}

static const pe_key keys[] = {
    PE_VIRTUAL_KEYS,
    {"prompt_tuning_init", NULL},
    {"prompt_tuning_init_text", NULL},
    {"tokenizer_name_or_path", NULL},
    {"tokenizer_kwargs", NULL},
    {NULL, NULL},
};

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    prompt_cfg *cfg = c->cfg;
    const cJSON *o = d->root;
    FT_TRY(pe_virtual_load_config(c, d, keys, false, &cfg->num_virtual_tokens));
    FT_TRY(js_get_str(d, o, "prompt_tuning_init", "RANDOM", &cfg->prompt_tuning_init));
    FT_TRY(js_get_str(d, o, "prompt_tuning_init_text", NULL, &cfg->prompt_tuning_init_text));
    FT_TRY(js_get_str(d, o, "tokenizer_name_or_path", NULL, &cfg->tokenizer));
    cfg->tokenizer_kwargs = js_get(o, "tokenizer_kwargs");
    return FT_OK;
}

const pe_method pe_prompt_tuning = {
    .name = "prompt_tuning",
    .help = "trained rows before every sequence, the model frozen; the result is a PEFT adapter",
    .about = "num_virtual_tokens rows before every sequence are trained in the place of embedded "
             "words, the model is frozen. Take it for one narrow task of a larger model; it learns "
             "slowly, wants a high rate, and cannot be merged.",
    .paper = "Lester et al. 2021, The Power of Scale for Parameter-Efficient Prompt Tuning",
    .example = "{\"type\": \"prompt_tuning\", \"num_virtual_tokens\": 20}",
    .fields = fields,
    .cfg_size = sizeof(prompt_cfg),
    .peft_type = "PROMPT_TUNING",
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 3e-2, /* PEFT's guide for causal models (AdamW) */
    .check = check,
    .attach = attach,
    .hooks = {.embed = pe_virtual_embed},
    .virtual_predict = true,
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
};
