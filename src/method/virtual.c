/* virtual.c – virtual tokens: the table of what stands for them, how passes take it, and what adapter files say of them. */
#include "virtual_private.h"

#include <string.h>

void pe_virtual_check(cfg_doc *d, const cJSON *object, int64_t tokens)
{
    const char *key = "method.num_virtual_tokens";
    if (tokens == 0 && !js_get(object, "init_from") && !cfg_is_wrong(d, key))
        cfg_missing(d, object, key, "this key is required; 20 is a beginning");
}

/* --- the table -------------------------------------------------------------------------------------------------- */
/* Keys of a layer: of k, or what of qkv together is not q, which is as wide as the input of o. */
static int64_t key_dim(const model *m)
{
    int64_t all = 0;
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *s = &m->site[i];
        if (s->role == NN_K) return s->out;
        if (s->role == NN_QKV) all = s->out;
        if (s->role == NN_O && all > 0) return (all - s->in) / 2;
    }
    return 0;
}

int64_t pe_virtual_dim(const model *m, bool prefix)
{
    return prefix ? key_dim(m) : m->d.hidden_size;
}

static tn_tensor as_rows(const nn_param *p, int64_t parts)
{
    tn_tensor t = p->t;
    t.dim[0] *= parts;
    t.dim[1] /= parts;
    return t;
}

/* An adapter that is used holds what its encoder gave: none is needed. */
ft_status pe_virtual_attach(pe_ctx *c, int64_t tokens, bool prefix, const pe_encoder_plan *plan)
{
    const char *name = "prompt_embeddings";
    const bool used = c->file && !c->load_dir;
    pe_virtual *v = c->priv = arena_get(c->mem, sizeof *v);
    if (!v) return FT_EMEM;
    v->prefix = prefix;
    v->parts = prefix ? c->m->d.n_layer : 1;
    v->dim = pe_virtual_dim(c->m, prefix);
    const int64_t width = v->parts * v->dim * (prefix ? 2 : 1);
    if (!plan || used) {
        FT_TRY(nn_new_param(&c->store, name, tokens, width, &v->table));
    } else {
        FT_TRY(pe_encoder_attach(c, plan, tokens, &v->encoder));
        FT_TRY(nn_new_derived(&c->store, name, tokens, width, &v->table));
    }
    v->drawn = v->table;
    if (v->encoder && plan->dropout > 0.0f)
        FT_TRY(nn_new_derived(&c->store, name, tokens, width, &v->drawn));
    v->table_rows = as_rows(v->table, v->parts);
    v->drawn_rows = as_rows(v->drawn, v->parts);
    c->over.virtual_tokens = tokens;
    return pe_add_entry(c, v->table, name, false);
}

/* --- forward ----------------------------------------------------------------------------------------------------- */
tn_tensor *pe_virtual_put(nn_run *r, tn_tensor *y, int64_t part, int64_t col)
{
    const pe_ctx *c = r->over->ctx;
    pe_virtual *v = c->priv;
    int64_t n = 0;
    for (int64_t i = 0; i < r->tokens; i++) n += r->ids[i] < 0;
    if (n == 0) return y; /* a cache that grows */
    int32_t *which = ag_meta(r->t, (size_t)n * sizeof *which);
    int64_t *row = ag_meta(r->t, (size_t)n * sizeof *row);
    if (!which || !row) return y;
    n = 0;
    for (int64_t i = 0; i < r->tokens; i++) {
        if (r->ids[i] >= 0) continue;
        which[n] = (int32_t)((-1 - r->ids[i]) * v->parts + part);
        row[n++] = i;
    }
    tn_tensor *table = r->t->record ? &v->drawn_rows : &v->table_rows;
    return ag_put_rows(r->t, y, ag_embed(r->t, table, which, n, -1), row, col);
}

tn_tensor *pe_virtual_embed(nn_run *r, const nn_site *s, tn_tensor *h)
{
    return s->role == NN_EMBED ? pe_virtual_put(r, h, 0, 0) : h; /* not the table of positions */
}

/* --- phases ------------------------------------------------------------------------------------------------------- */
ft_status pe_virtual_before_step(pe_ctx *c, int64_t step)
{
    const pe_virtual *v = c->priv;
    if (!v->encoder) return FT_OK;
    if (v->drawn != v->table) FT_TRY(pe_encoder_run(c, v->encoder, v->table, false, step));
    return pe_encoder_run(c, v->encoder, v->drawn, true, step);
}

double pe_virtual_gradients(pe_ctx *c)
{
    const pe_virtual *v = c->priv;
    if (v->encoder) pe_encoder_back(c, v->encoder, v->drawn);
    return 0.0;
}

/* What failed in `gradients`, which has no other way to say so. */
ft_status pe_virtual_after_update(pe_ctx *c, const pe_update *u)
{
    (void)u;
    return c->tape ? c->tape->status : FT_OK;
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
const char *const pe_encoder_files[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "prompt_encoder.safetensors", NULL};

/* As the base's config says: families name the key apart. Of a prefix those of keys and values, where it tells them. */
static ft_status put_heads(const pe_ctx *c, cJSON *o, bool prefix)
{
    static const char *const names[] = {"num_key_value_heads", "num_attention_heads", "n_head"};
    js_doc d = {0};
    const cJSON *n = NULL;
    FT_TRY(js_parse(&d, c->m->config, strlen(c->m->config), c->m->path ? c->m->path : "config.json",
                    1, JS_NO_POSITIONS | JS_ALLOW_NONFINITE, FT_EDATA));
    for (size_t i = prefix ? 0 : 1; i < FT_COUNT_OF(names) && pe_is_null(n); i++)
        n = js_get(d.root, names[i]);
    pe_put_json(o, "num_attention_heads", n);
    js_close(&d);
    return FT_OK;
}

ft_status pe_virtual_save(const pe_ctx *c, cJSON *own, const char *dir)
{
    const pe_virtual *v = c->priv;
    ft_status rc = put_heads(c, own, v->prefix);
    if (rc != FT_OK) {
        cJSON_Delete(own);
        return rc;
    }
    cJSON_AddNullToObject(own, "modules_to_save");
    cJSON_AddNumberToObject(own, "num_layers", (double)c->m->d.n_layer);
    cJSON_AddNumberToObject(own, "num_transformer_submodules", 1);
    cJSON_AddNumberToObject(own, "num_virtual_tokens", (double)tn_rows(&v->table->t));
    cJSON_AddNumberToObject(own, "token_dim", (double)v->dim);
    FT_TRY(pe_save_files(c, own, dir));
    return v->encoder ? pe_encoder_save(v->encoder, dir) : FT_OK;
}

/* PEFT puts virtual tokens before the text for what it knows as a causal language model, and not at all without a task. */
static ft_status check_task(const js_doc *d)
{
    const char *task;
    FT_TRY(js_get_str(d, d->root, "task_type", NULL, &task));
    if (task && strcmp(task, "CAUSAL_LM") == 0) return FT_OK;
    return js_fail(d, js_get(d->root, "task_type"), FT_EDATA, "task_type",
                   "must be \"CAUSAL_LM\"; \"%s\" uses virtual tokens in another way",
                   ft_shows(task ? task : "null"));
}

ft_status pe_virtual_load_config(const pe_ctx *c, const js_doc *d, const pe_key *keys, bool prefix,
                                 int64_t *tokens)
{
    const cJSON *o = d->root;
    const int64_t of_base = pe_virtual_dim(c->m, prefix);
    int64_t dim, parts;
    FT_TRY(pe_check_keys(d, keys));
    FT_TRY(check_task(d));
    FT_TRY(js_get_int(d, o, "num_virtual_tokens", 0, 1, PE_MAX_VIRTUAL, tokens));
    if (*tokens == 0) return js_fail(d, o, FT_EDATA, "num_virtual_tokens", "is missing");
    FT_TRY(js_get_int(d, o, "token_dim", of_base, 1, INT32_MAX, &dim));
    if (dim != of_base)
        return js_fail(d, js_get(o, "token_dim"), FT_EDATA, "token_dim",
                       "%lld, the base has %s of %lld; is it the one the adapter was trained on?",
                       (long long)dim, prefix ? "keys and values" : "a hidden size",
                       (long long)of_base);
    FT_TRY(js_get_int(d, o, "num_transformer_submodules", 1, 1, INT32_MAX, &parts));
    if (parts == 1) return FT_OK;
    return js_fail(d, js_get(o, "num_transformer_submodules"), FT_EDATA,
                   "num_transformer_submodules", "must be 1: ft has no encoder beside a decoder");
}

ft_status pe_virtual_load(pe_ctx *c)
{
    const pe_virtual *v = c->priv;
    FT_TRY(pe_load_adapter(c));
    return v->encoder ? pe_encoder_load(c, v->encoder) : FT_OK;
}
