/* method.c – the registry of methods, and what all of them share: attaching, opening an adapter folder. */
#include "ft/method.h"
#include "method_private.h"

#include <stdio.h>
#include <string.h>

#define X(name) extern const pe_method pe_##name;
#include "methods.def"
#undef X
#define X(name) &pe_##name,
static const pe_method *const rows[] = {
#include "methods.def"
};
#undef X

const char *pe_name_at(int i)
{
    const pe_method *m = pe_at(i);
    return m ? m->name : NULL;
}

const pe_method *pe_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(rows) ? rows[i] : NULL;
}

static bool name_fits(const char *pattern, const char *name)
{
    const char *star = strchr(pattern, '*');
    if (!star) return strcmp(pattern, name) == 0;
    size_t head = (size_t)(star - pattern);
    return strlen(name) >= head + strlen(star + 1) && strncmp(pattern, name, head) == 0 &&
           str_ends(name, star + 1);
}

bool pe_leaves(const pe_method *row, const char *name)
{
    if ((pe_keeps(row) || row->qat) && strcmp(name, PE_METHOD_FILE) == 0) return true;
    if (row->qat && strcmp(name, PE_QAT_FILE) == 0) return true;
    for (const char *const *p = row->files; p && *p; p++)
        if (name_fits(*p, name)) return true;
    return false;
}

const pe_method *pe_by_name(const char *name)
{
    for (size_t i = 0; name && i < FT_COUNT_OF(rows); i++) {
        if (strcmp(rows[i]->name, name) == 0) return rows[i];
    }
    return NULL;
}

const char *const *pe_names(void)
{
    static const char *names[FT_COUNT_OF(rows) + 1];
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) names[i] = rows[i]->name;
    return names;
}

bool pe_keeps(const pe_method *method)
{
    return method->unfold || method->keeps;
}

int pe_metrics(const pe_method *method)
{
    int n = 0;
    while (method->metrics && method->metrics[n]) n++;
    return n;
}

/* --- opening ------------------------------------------------------------------------------------------------ */
void pe_close(pe_ctx *c)
{
    if (!c) return;
    for (int i = 0; i < c->n_part; i++) pe_close(c->part[i]);
    nn_store_close(&c->store);
    pe_keep_close(c->keep);
    pe_qat_close(c->qat);
    ag_close(c->tape);
    pe_file_close(c->file);
    js_close(&c->adapter);
    ft_free(c->adapter_text);
    arena_close(c->mem);
    ft_free(c);
}

size_t pe_values_bytes(const pe_ctx *c)
{
    return nn_store_bytes(&c->store) + (size_t)c->store.derived_count * sizeof(float) + c->beside;
}

static void use_row(pe_ctx *c, const pe_method *method)
{
    c->method = method;
    c->over.hooks = &method->hooks;
    c->over.virtual_predict = method->virtual_predict;
    c->result = method->result;
}

/* values: bytes of the store; 0: a dry one. */
static ft_status new_ctx(pe_ctx **out, const pe_method *method, model *m, size_t values,
                         bool trains)
{
    ft_status rc;
    pe_ctx *c = ft_alloc(1, sizeof *c);
    *out = NULL;
    if (!c) return FT_EMEM;
    use_row(c, method);
    c->m = m;
    FT_TRY_OUT(arena_open(&c->mem, "method", (size_t)256 << 20));
    c->dry = values == 0;
    FT_TRY_OUT(trains ? nn_store_open(&c->store, values) : nn_store_open_frozen(&c->store, values));
    c->cfg = arena_get(c->mem, method->cfg_size + 1);
    c->over.ctx = c;
    c->over.slot = arena_get(c->mem, (size_t)m->n_site * sizeof *c->over.slot);
    c->over.own = arena_get(c->mem, (size_t)m->n_param * sizeof *c->over.own);
    c->over.bias = arena_get(c->mem, (size_t)m->n_site * sizeof *c->over.bias);
    if (!c->cfg || !c->over.slot || !c->over.own || !c->over.bias) rc = FT_EMEM;
out:
    if (rc != FT_OK)
        pe_close(c);
    else
        *out = c;
    return rc;
}

ft_status pe_read_config(pe_ctx *c, const char *dir)
{
    size_t len;
    FT_TRY(io_adapter_exists(dir));
    const char *path = path_join(c->mem, dir, "adapter_config.json");
    if (!path) return FT_EMEM;
    FT_TRY(file_read(&c->adapter_text, &len, path, (size_t)4 << 20));
    FT_TRY(js_parse(&c->adapter, c->adapter_text, len, path, 1, JS_STRICT, FT_EDATA));
    FT_CHECK(cJSON_IsObject(c->adapter.root), FT_EDATA, "%s: not a JSON object", ft_shows(path));
    FT_CHECK(!pe_is_mlx(&c->adapter), FT_EDATA, "%s: is an mlx-lm adapter; %s", ft_shows(dir),
             PE_MLX_REMEDY);
    if (!pe_adapter_type(&c->adapter) && !js_get(c->adapter.root, "peft_type"))
        return js_fail(&c->adapter, c->adapter.root, FT_EDATA, "peft_type",
                       "this key is missing, so the kind of adapter cannot be told; PEFT writes it "
                       "(\"LORA\", \"PROMPT_TUNING\")");
    return FT_OK;
}

static bool says_scores(const cJSON *root)
{
    const char *task = cJSON_GetStringValue(js_get(root, "task_type"));
    return task && strcmp(task, PE_SCORES) == 0;
}

ft_status pe_adapter_scores(const char *dir, bool *scores)
{
    pe_ctx c = {0};
    *scores = false;
    FT_TRY(arena_open(&c.mem, "adapter", (size_t)1 << 20));
    ft_status rc = pe_read_config(&c, dir);
    if (rc == FT_OK) *scores = says_scores(c.adapter.root);
    if (rc == FT_EDATA || rc == FT_ENOINPUT) { /* told on opening it */
        ft_error_clear();
        rc = FT_OK;
    }
    js_close(&c.adapter);
    ft_free(c.adapter_text);
    arena_close(c.mem);
    return rc;
}

bool pe_keeps_head(const pe_method *method)
{
    bool saves = method->result != PE_ADAPTER;
    for (const cfg_field *f = method->fields; f->key && !saves; f++)
        saves = strcmp(f->key, "modules_to_save") == 0;
    return saves;
}

bool pe_trains_head(const pe_ctx *c, const nn_param *p)
{
    const bool used = c->adapter.root && !c->load_dir;
    return c->m->scores && p == c->m->head->w && (!used || says_scores(c->adapter.root));
}

ft_status pe_train_head(pe_ctx *c, nn_param *p, const char *key)
{
    FT_TRY(nn_train_copy(&c->store, &c->over, p));
    FT_TRY(pe_add_entry(c, *pe_own(c, p), key, false));
    c->entries.entry[c->entries.n - 1].optional = c->load_dir && !says_scores(c->adapter.root);
    return FT_OK;
}

/* An adapter of a reward model over a language model would lose its head. */
static ft_status check_task(const pe_ctx *c, const char *dir)
{
    FT_CHECK(c->m->scores || !says_scores(c->adapter.root), FT_EDATA,
             "%s: is an adapter of a sequence classifier (task_type " PE_SCORES
             "), a reward model: it gives texts a number and no tokens; ft score, rewards of type "
             "model and objective.type \"reward\" read it",
             ft_shows(dir));
    return FT_OK;
}

/* Where the kind is said. */
static const cJSON *type_node(const pe_ctx *c)
{
    const cJSON *v = js_get(c->adapter.root, "peft_type");
    return v ? v : c->adapter.root;
}

static ft_status check_type(const pe_ctx *c)
{
    const char *type = pe_adapter_type(&c->adapter);
    if (type && c->method->peft_type && strcmp(type, c->method->peft_type) == 0) return FT_OK;
    return js_fail(&c->adapter, type_node(c), FT_EDATA, "peft_type",
                   "\"%s\" is not an adapter of method %s", ft_shows(type ? type : "(none)"),
                   c->method->name);
}

/* A mistake of the config is one of the adapter's, not of the user's. */
static ft_status attach_and_load(pe_ctx *c, const char *dir)
{
    FT_TRY(pe_file_open(&c->file, dir, pe_format_of(c->method)));
    if (c->load_dir) FT_TRY(pe_check_vocabulary(c));
    ft_status rc = c->method->attach(c);
    if (rc == FT_ECONFIG) {
        char *why = ft_strdup(ft_error());
        rc = ft_fail(FT_EDATA, "%s/adapter_config.json: %s", ft_shows(dir), why ? why : "");
        ft_free(why);
    }
    if (rc == FT_OK) rc = c->method->load(c);
    pe_file_close(c->file);
    c->file = NULL;
    return rc;
}

/* Room for n values of a store that has none: each begins a line of its own. */
static size_t room_of(const nn_store *dry)
{
    return nn_store_bytes(dry) + 64;
}

static ft_status attach(pe_ctx **out, const pe_method *method, const void *cfg, model *m,
                        const pe_start *with, size_t values)
{
    ft_status rc;
    pe_ctx *c = NULL;
    *out = NULL;
    FT_TRY(new_ctx(&c, method, m, values, true));
    if (method->cfg_size > 0) memcpy(c->cfg, cfg, method->cfg_size);
    c->seed = with->seed;
    c->base_name = with->base_name;
    c->load_dir = with->load_dir;
    c->keep_zeros = with->keep_zeros;
    c->tok = with->tok;
    c->steps = with->steps;
    c->samples = with->samples;
    c->batch_size = with->batch_size;
    if (c->load_dir) {
        FT_TRY_OUT(pe_read_config(c, c->load_dir));
        FT_TRY_OUT(check_type(c));
        FT_TRY_OUT(check_task(c, c->load_dir));
        FT_TRY_OUT(method->load_config(c, &c->adapter));
        FT_TRY_OUT(pe_read_method(c, c->load_dir));
    }
    rc = c->load_dir ? attach_and_load(c, c->load_dir) : method->attach(c);
    if (rc == FT_OK && c->keep_zeros) rc = pe_keep_attach(c);
    if (rc == FT_OK && with->qat)
        rc = pe_qat_attach(&c->qat, with->qat, m, &c->over, &c->store, c->dry);
out:
    if (rc != FT_OK)
        pe_close(c);
    else
        *out = c;
    return rc;
}

/* Of a head that the objective may add: a row of the hidden size, and a bias. */
static size_t head_room(const model *m)
{
    return (size_t)m->d.hidden_size * sizeof(float) + (size_t)2 * 64;
}

/* Twice, where the values are to be there: dry to count them. */
ft_status pe_attach(pe_ctx **out, const pe_method *method, const void *cfg, model *m,
                    const pe_start *with)
{
    pe_ctx *dry;
    FT_TRY(attach(&dry, method, cfg, m, with, 0));
    if (m->no_weights) {
        *out = dry;
        return FT_OK;
    }
    const size_t values = room_of(&dry->store) + head_room(m);
    pe_close(dry);
    return attach(out, method, cfg, m, with, values);
}

static const pe_method *by_peft_type(const char *type)
{
    for (size_t i = 0; type && i < FT_COUNT_OF(rows); i++) {
        if (rows[i]->peft_type && strcmp(rows[i]->peft_type, type) == 0) return rows[i];
    }
    return NULL;
}

/* The method's defaults, as an empty config gives them. */
static ft_status fill_defaults(pe_ctx *c)
{
    cfg_doc d = {0};
    FT_TRY(cfg_open_empty(&d, NULL, 0, c->mem));
    ft_status rc = cfg_read(&d, NULL, "method", c->method->fields, c->cfg, NULL);
    if (rc == FT_OK) rc = cfg_done(&d);
    cfg_close(&d);
    return rc;
}

static ft_status open_adapter(pe_ctx **out, model *m, const char *dir, size_t values)
{
    ft_status rc;
    pe_ctx *c = NULL;
    const pe_method *method;
    *out = NULL;
    FT_TRY(new_ctx(&c, &pe_lora, m, values, false)); /* any row: replaced by the file's own below */
    FT_TRY_OUT(pe_read_config(c, dir));
    FT_TRY_OUT(check_task(c, dir));
    const char *type = pe_adapter_type(&c->adapter);
    method = by_peft_type(type);
    if (!method) {
        rc = js_fail(
            &c->adapter, type_node(c), FT_EDATA, "peft_type",
            "\"%s\" is not a kind of adapter that ft (merge-adapter too) knows; if it changes "
            "weights, merge it with PEFT's merge_and_unload, and give the result as the "
            "model",
            ft_shows(type ? type : "(none)"));
        goto out;
    }
    use_row(c, method);
    c->cfg = arena_get(c->mem, c->method->cfg_size + 1);
    FT_GUARD(c->cfg, FT_EMEM, "out of memory");
    FT_TRY_OUT(fill_defaults(c));
    FT_TRY_OUT(c->method->load_config(c, &c->adapter));
    FT_TRY_OUT(pe_read_method(c, dir));
    rc = attach_and_load(c, dir);
    if (rc == FT_OK && c->keep_zeros) rc = pe_keep_zeros(c);
out:
    if (rc != FT_OK)
        pe_close(c);
    else
        *out = c;
    return rc;
}

ft_status pe_open_adapter(pe_ctx **out, model *m, const char *dir)
{
    pe_ctx *dry;
    *out = NULL;
    FT_TRY(open_adapter(&dry, m, dir, 0));
    const size_t values = room_of(&dry->store);
    pe_close(dry);
    return open_adapter(out, m, dir, values);
}

const char *pe_replaces(const pe_ctx *c)
{
    for (int64_t i = 0; i < c->m->n_param; i++)
        if (c->over.own[i]) return c->m->param[i].name;
    for (int64_t i = 0; i < c->m->n_site; i++)
        if (c->over.bias[i]) return c->over.bias[i]->name;
    return NULL;
}

/* --- several ------------------------------------------------------------------------------------------------- */

static ft_status not_added(const pe_use *use, const char *name)
{
    return ft_fail(FT_EDATA,
                   "%s: holds \"%s\" in the place of the base's; such values (modules_to_save, "
                   "biases, tokens) are neither scaled nor added: merge the adapter, and give the "
                   "result as the model",
                   ft_shows(use->dir), name);
}

/* Values in the place of the base's: of one part alone, and as they are. */
static ft_status take_values(pe_ctx *sum, const pe_ctx *part, const pe_use *use)
{
    const model *m = sum->m;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *own = part->over.own[i];
        if (!own) continue;
        if (sum->over.own[i] || use->scale != 1.0) return not_added(use, m->param[i].name);
        sum->over.own[i] = own;
    }
    for (int64_t i = 0; i < m->n_site; i++) {
        nn_param *bias = part->over.bias[i];
        if (!bias) continue;
        if (sum->over.bias[i] || use->scale != 1.0) return not_added(use, bias->name);
        sum->over.bias[i] = bias;
    }
    return FT_OK;
}

static ft_status add_part(pe_ctx *sum, const pe_ctx *part, const pe_use *use)
{
    FT_CHECK(part->method->add, FT_EDATA,
             "%s: is an adapter of type %s, which stands alone: only LoRA's are scaled and added",
             ft_shows(use->dir), part->method->peft_type);
    FT_CHECK(part->keep_zeros == sum->part[0]->keep_zeros, FT_EDATA,
             "%s: %s (" PE_METHOD_FILE "), and the adapter before it %s; such adapters are not "
             "added: merge one of them, and give the result as the model",
             ft_shows(use->dir), part->keep_zeros ? "keeps zeros of the base" : "keeps no zeros",
             part->keep_zeros ? "does not" : "does");
    FT_TRY(take_values(sum, part, use));
    use_row(sum, part->method);
    return part->method->add(sum, part, use->scale);
}

ft_status pe_open_adapters(pe_ctx **out, model *m, const pe_use *use, int n)
{
    pe_ctx *c = NULL;
    size_t values = 0;
    if (n == 1 && use->scale == 1.0) return pe_open_adapter(out, m, use->dir);
    *out = NULL;
    FT_TRY(new_ctx(&c, &pe_lora, m, 0, false)); /* any row: replaced by the parts' own */
    c->part = arena_get(c->mem, (size_t)n * sizeof *c->part);
    ft_status rc = c->part ? FT_OK : FT_EMEM;
    for (int i = 0; rc == FT_OK && i < n; i++) {
        rc = pe_open_adapter(&c->part[i], m, use[i].dir);
        if (rc != FT_OK) break;
        c->n_part++;
        values +=
            (size_t)(n - i) * room_of(&c->part[i]->store); /* it is in every sum from here on */
    }
    nn_store_close(&c->store);
    if (rc == FT_OK) rc = nn_store_open_frozen(&c->store, values);
    c->dry = false;
    for (int i = 0; rc == FT_OK && i < n; i++) rc = add_part(c, c->part[i], &use[i]);
    if (rc == FT_OK && c->part[0]->keep_zeros) rc = pe_keep_zeros(c);
    if (rc != FT_OK)
        pe_close(c);
    else
        *out = c;
    return rc;
}

static ft_status fold(void *ctx, const nn_site *s, float *w, float *b)
{
    const pe_ctx *c = ctx;
    return c->keep ? pe_keep_fold(c, s, w, b) : c->method->fold(c, s, w, b);
}

model_fold pe_folder(pe_ctx *c)
{
    return (model_fold){.fold = c->method->fold ? fold : NULL, .ctx = c};
}

/* --- a result --------------------------------------------------------------------------------------------------- */
ft_status pe_save(const pe_ctx *c, const char *dir)
{
    cJSON *qat = NULL;
    FT_TRY(c->method->save(c, dir));
    ft_status rc = c->qat ? pe_qat_save(c->qat, dir, &qat) : FT_OK;
    if (rc == FT_OK && (c->keep_zeros || qat)) rc = pe_note_write(c->keep_zeros, qat, dir);
    cJSON_Delete(qat);
    return rc;
}
