/* method_prompt.c – soft prompts (Lester et al. 2021): rows of their own before every sequence, the last of which predicts the
 * first token. A method of the tests: virtual rows of an overlay from a config to generating. */
#include "ft/method.h"
#include "method/method_private.h"

typedef struct prompt_cfg {
    int64_t num_virtual_tokens;
} prompt_cfg;

static const cfg_field fields[] = {{.key = "num_virtual_tokens",
                                    .type = CFG_INT,
                                    .offset = offsetof(prompt_cfg, num_virtual_tokens),
                                    .def = "4",
                                    .low = 1,
                                    .high = 1024,
                                    .help = "rows before every sequence"},
                                   CFG_END};

static ft_status attach(pe_ctx *c)
{
    const prompt_cfg *cfg = c->cfg;
    nn_param *rows;
    FT_TRY(nn_new_param(&c->store, "prompt_embeddings", cfg->num_virtual_tokens,
                        c->m->d.hidden_size, &rows));
    if (!c->m->no_weights)
        rng_fill_normal(tn_f32(&rows->t), tn_count(&rows->t), rng_key_text(c->seed, rows->name),
                        0.0f, 0.02f);
    c->priv = rows;
    c->over.virtual_tokens = cfg->num_virtual_tokens;
    c->over.virtual_predict = true;
    return pe_add_entry(c, rows, rows->name, false);
}

static tn_tensor *embed(nn_run *r, const nn_site *s, tn_tensor *h)
{
    const pe_ctx *c = r->over->ctx;
    nn_param *rows = c->priv;
    int32_t *at = ag_meta(r->t, (size_t)r->tokens * sizeof *at);
    if (!at || s->role != NN_EMBED) return h;
    for (int64_t i = 0; i < r->tokens; i++) at[i] = r->ids[i] < 0 ? -1 - r->ids[i] : -1;
    return ag_add(r->t, h, ag_embed(r->t, &rows->t, at, r->tokens, -1));
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const prompt_cfg *cfg = c->cfg;
    str_buf text = {0}, path = {0};
    str_printf(&text, "{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": %lld}\n",
               (long long)cfg->num_virtual_tokens);
    str_printf(&path, "%s/adapter_config.json", dir);
    ft_status rc = pe_write_tensors(dir, c->entries.entry, c->entries.n);
    if (rc == FT_OK) rc = file_write(path.data, text.data, text.len);
    str_free(&text);
    str_free(&path);
    return rc;
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    prompt_cfg *cfg = c->cfg;
    return js_get_int(d, d->root, "num_virtual_tokens", 4, 1, 1024, &cfg->num_virtual_tokens);
}

const pe_method pe_prompt = {
    .name = "prompt",
    .help = "soft prompts",
    .fields = fields,
    .cfg_size = sizeof(prompt_cfg),
    .peft_type = "PROMPT_TUNING",
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 1e-2,
    .attach = attach,
    .hooks = {.embed = embed},
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
};
