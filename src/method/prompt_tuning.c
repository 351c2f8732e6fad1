/* prompt_tuning.c – soft prompts (Lester et al. 2021) with PEFT's options, names and files.
 *
 * num_virtual_tokens trained rows stand before every sequence in the place of embedded tokens: they take positions 0 … n − 1,
 * all that follows sees them, and the last of them predicts the first token. The base is frozen. No weight of it can take the
 * prompt in, so there is no fold. */
#include "ft/method.h"

#include <string.h>

typedef struct prompt_cfg {
    int64_t num_virtual_tokens;
    const char *prompt_tuning_init, *prompt_tuning_init_text;
    const char *tokenizer;         /* of an adapter: tokenizer_name_or_path as it stands there */
    const cJSON *tokenizer_kwargs; /* likewise */
} prompt_cfg;

enum { MAX_VIRTUAL = 65536 };
static const char *const inits[] = {"RANDOM", "TEXT", "SAMPLE_VOCAB", NULL};

#define AT(field) offsetof(prompt_cfg, field)
static const cfg_field fields[] = {
    {.key = "num_virtual_tokens",
     .type = CFG_INT,
     .offset = AT(num_virtual_tokens),
     .def = "20", /* more gain little (Lester et al. 2021, figure 3a); PEFT's own example */
     .low = 1,
     .high = MAX_VIRTUAL,
     .help = "trained rows before every sequence"},
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
    nn_param *p;
    FT_TRY(nn_new_param(&c->store, "prompt_embeddings", cfg->num_virtual_tokens,
                        c->m->d.hidden_size, &p));
    if (!c->file) FT_TRY(init_values(c, p));
    c->priv = p;
    c->over.virtual_tokens = cfg->num_virtual_tokens;
    return pe_add_entry(c, p, p->name, false);
}

/* --- forward ----------------------------------------------------------------------------------------------------- */
static tn_tensor *embed(nn_run *r, const nn_site *s, tn_tensor *h)
{
    const pe_ctx *c = r->over->ctx;
    nn_param *p = c->priv;
    int64_t n = 0;
    for (int64_t i = 0; i < r->tokens; i++) n += r->ids[i] < 0;
    if (s->role != NN_EMBED || n == 0) return h; /* a table of positions; a cache that grows */
    int32_t *which = ag_meta(r->t, (size_t)n * sizeof *which);
    int64_t *row = ag_meta(r->t, (size_t)n * sizeof *row);
    if (!which || !row) return h;
    n = 0;
    for (int64_t i = 0; i < r->tokens; i++) {
        if (r->ids[i] >= 0) continue;
        which[n] = -1 - r->ids[i];
        row[n++] = i;
    }
    return ag_put_rows(r->t, h, ag_embed(r->t, &p->t, which, n, -1), row, 0);
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
static void put_text(cJSON *o, const char *key, const char *text)
{
    cJSON_AddItemToObject(o, key, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

/* The key as the base's config has it: families name it apart. */
static ft_status put_heads(const pe_ctx *c, cJSON *o)
{
    js_doc d = {0};
    FT_TRY(js_parse(&d, c->m->config, strlen(c->m->config), c->m->path ? c->m->path : "config.json",
                    1, JS_NO_POSITIONS | JS_ALLOW_NONFINITE, FT_EDATA));
    const cJSON *n = js_get(d.root, "num_attention_heads");
    pe_put_json(o, "num_attention_heads", n ? n : js_get(d.root, "n_head"));
    js_close(&d);
    return FT_OK;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const prompt_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    ft_status rc = put_heads(c, o);
    if (rc != FT_OK) {
        cJSON_Delete(o);
        return rc;
    }
    cJSON_AddNullToObject(o, "modules_to_save");
    cJSON_AddNumberToObject(o, "num_layers", (double)c->m->d.n_layer);
    cJSON_AddNumberToObject(o, "num_transformer_submodules", 1);
    cJSON_AddNumberToObject(o, "num_virtual_tokens", (double)cfg->num_virtual_tokens);
    put_text(o, "prompt_tuning_init", cfg->prompt_tuning_init);
    put_text(o, "prompt_tuning_init_text", cfg->prompt_tuning_init_text);
    cJSON_AddNumberToObject(o, "token_dim", (double)c->m->d.hidden_size);
    pe_put_json(o, "tokenizer_kwargs", cfg->tokenizer_kwargs);
    /* PEFT wants one with TEXT, and never opens it to use the adapter: the base has it */
    put_text(o, "tokenizer_name_or_path",
             cfg->tokenizer || !is_text(cfg) ? cfg->tokenizer : c->base_name);
    return pe_save_files(c, o, dir);
}

static const pe_key keys[] = {
    {"num_virtual_tokens", NULL},
    {"token_dim", NULL},
    {"num_transformer_submodules", NULL},
    {"prompt_tuning_init", NULL},
    {"prompt_tuning_init_text", NULL},
    {"tokenizer_name_or_path", NULL},
    {"tokenizer_kwargs", NULL},
    /* of the base, for other methods of prompts */
    {"num_attention_heads", NULL},
    {"num_layers", NULL},
    {"modules_to_save", "has modules of the base beside its prompt, which ft leaves as they are"},
    {NULL, NULL},
};

/* PEFT puts the prompt before the text for what it knows as a causal language model, and not at all without a task. */
static ft_status check_task(const js_doc *d)
{
    const char *task;
    FT_TRY(js_get_str(d, d->root, "task_type", NULL, &task));
    if (task && strcmp(task, "CAUSAL_LM") == 0) return FT_OK;
    return js_fail(d, js_get(d->root, "task_type"), FT_EDATA, "task_type",
                   "must be \"CAUSAL_LM\"; \"%s\" uses the prompt in another way",
                   ft_shows(task ? task : "null"));
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    prompt_cfg *cfg = c->cfg;
    const cJSON *o = d->root;
    int64_t dim, parts, hidden = c->m->d.hidden_size;
    FT_TRY(pe_check_keys(d, keys));
    FT_TRY(check_task(d));
    FT_TRY(js_get_int(d, o, "num_virtual_tokens", 0, 1, MAX_VIRTUAL, &cfg->num_virtual_tokens));
    if (cfg->num_virtual_tokens == 0)
        return js_fail(d, o, FT_EDATA, "num_virtual_tokens", "is missing");
    FT_TRY(js_get_int(d, o, "token_dim", hidden, 1, INT32_MAX, &dim));
    if (dim != hidden)
        return js_fail(d, js_get(o, "token_dim"), FT_EDATA, "token_dim",
                       "%lld, the base has a hidden size of %lld; is it the one the prompt was "
                       "trained on?",
                       (long long)dim, (long long)hidden);
    FT_TRY(js_get_int(d, o, "num_transformer_submodules", 1, 1, INT32_MAX, &parts));
    if (parts != 1)
        return js_fail(d, js_get(o, "num_transformer_submodules"), FT_EDATA,
                       "num_transformer_submodules",
                       "must be 1: ft has no encoder beside a decoder");
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
    .hooks = {.embed = embed},
    .virtual_predict = true,
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
};
