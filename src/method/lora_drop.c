/* lora_drop.c – LoRA-drop (Zhou et al. 2024): pairs of their own for the modules where LoRA does most, one pair for the rest.
 *
 * Before the run LoRA is trained on a part of the samples. Then g = Σ ‖s · B A x‖² over all their tokens tells what each module
 * does; modules of one projection (a name and a shape) compete, and in descending order of their part of Σ g they are kept
 * until those parts reach `threshold`. The others share one pair. All begin again as they were.
 *
 * A shared pair is one parameter that lies in several places: its gradients are added up in the first module's, in the order of
 * the model, and after each update the others are copies of it. So each module's own tensors hold what the file is to have. */
#include "ft/method.h"
#include "ft/kernel.h"
#include "lora_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct drop_cfg {
    lora_cfg lora;
    double threshold, sample_ratio;
    int64_t sample_steps; /* 0: one pass over the sample */
} drop_cfg;

typedef struct drop_module {
    const nn_site *site;
    lora_slot *slot;
    int64_t group; /* the first module of its projection */
    double g;
} drop_module;

typedef struct drop {
    drop_module *module; /* [n] in the order of the model */
    int64_t n, samples;  /* samples: of the sample */
    nn_param *shared; /* [n] states: 1: of its projection's pair; part of its projection; stage 1 */
    nn_param *importance; /* [n] */
    nn_param *losses;     /* [steps] */
    const char *text;     /* of init_from: lora_drop.json as it is */
} drop;

#define BESIDE "lora_drop.json"
static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors", BESIDE,
                                    NULL};

#define AT(member) offsetof(drop_cfg, member)
static const cfg_field fields[] = {
    PE_LORA_FIELDS,
    {.key = "threshold",
     .type = CFG_FLOAT,
     .offset = AT(threshold),
     .def = "0.9",
     .low = 0,
     .low_open = true,
     .high = 1,
     .help = "part of what a projection does that modules with a pair of their own do"},
    {.key = "sample_ratio",
     .type = CFG_FLOAT,
     .offset = AT(sample_ratio),
     .def = "0.1",
     .low = 0,
     .low_open = true,
     .high = 1,
     .help = "part of the training samples that tells which modules those are"},
    {.key = "sample_steps",
     .type = CFG_INT,
     .offset = AT(sample_steps),
     .low = 1,
     .high = 1e9,
     .help = "steps on them before the run: one pass"},
    CFG_END,
};

static float *flags(const nn_param *p)
{
    return tn_f32(&p->t);
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
/* They can share a pair. */
static bool compete(const drop_module *a, const drop_module *b)
{
    const nn_site *x = a->site, *y = b->site;
    return strcmp(pe_lora_last_name(x->path), pe_lora_last_name(y->path)) == 0 && x->in == y->in &&
           x->out == y->out && a->slot->b->t.dim[1] == b->slot->b->t.dim[1];
}

static ft_status list_modules(pe_ctx *c)
{
    drop *own = c->priv;
    own->module = arena_get(c->mem, (size_t)c->m->n_site * sizeof *own->module);
    if (!own->module) return FT_EMEM;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        drop_module *m = &own->module[own->n];
        *m = (drop_module){.site = &c->m->site[i], .slot = nn_slot_of(&c->over, &c->m->site[i])};
        if (!m->slot) continue;
        while (!compete(&own->module[m->group], m)) m->group++;
        own->n++;
    }
    return FT_OK;
}

static ft_status read_beside(pe_ctx *c);

static ft_status attach(pe_ctx *c)
{
    const drop_cfg *cfg = c->cfg;
    drop *own = c->priv = arena_get(c->mem, sizeof *own);
    if (!own) return FT_EMEM;
    FT_TRY(pe_lora_attach(c));
    FT_TRY(list_modules(c));
    FT_TRY(nn_new_state(&c->store, "lora_drop.shared", own->n, 0, &own->shared));
    if (c->load_dir) return read_beside(c);
    own->samples = (int64_t)ceil(cfg->sample_ratio * (double)c->samples);
    const int64_t batch = c->batch_size > 0 ? c->batch_size : 1;
    const int64_t pass = (own->samples + batch - 1) / batch;
    const int64_t steps = cfg->sample_steps > 0 ? cfg->sample_steps : pass;
    FT_TRY(nn_new_state(&c->store, "lora_drop.importance", own->n, 0, &own->importance));
    return nn_new_state(&c->store, "lora_drop.losses", steps, 0, &own->losses);
}

/* --- stage 1 ---------------------------------------------------------------------------------------------------------- */
/* g of the sites that read x, row by row: how a pass is cut leaves no mark. */
static tn_tensor *collect(nn_run *r, const nn_group *g, tn_tensor *x)
{
    const drop *own = ((const pe_ctx *)r->over->ctx)->priv;
    const int64_t rows = tn_rows(x), in = tn_cols(x);
    float *f = ag_temp(r->t, rows * in); /* x may be bf16 */
    if (f) tn_unpack_rows(f, x, 0, rows);
    for (int64_t i = 0; f && i < own->n; i++) {
        drop_module *m = &own->module[i];
        if (m->site < g->site || m->site >= g->site + g->n) continue;
        const tn_tensor *a = &m->slot->a->t, *b = &m->slot->b->t;
        const int64_t rank = a->dim[0], out = b->dim[0];
        const kn_mat down = {.type = &dt_f32, .data = a->data, .rows = rank, .cols = in};
        const kn_mat up = {.type = &dt_f32, .data = b->data, .rows = out, .cols = rank};
        float *u = ag_temp(r->t, rows * rank), *z = ag_temp(r->t, rows * out);
        if (!u || !z) return x;
        kn_gemm_nt(u, rank, f, in, &down, rows, NULL, false);
        kn_gemm_nt(z, out, u, rank, &up, rows, NULL, false);
        const double s2 = (double)m->slot->scale * (double)m->slot->scale;
        for (int64_t k = 0; k < rows; k++) m->g += s2 * kn_dot(z + k * out, z + k * out, out);
        ag_temp_free(r->t, u, rows * rank);
        ag_temp_free(r->t, z, rows * out);
    }
    ag_temp_free(r->t, f, rows * in);
    return x;
}

/* In order and wrapping round, at the peak rate. */
static ft_status warm(pe_ctx *c, const nn_feed *f, int64_t *batch)
{
    const drop *own = c->priv;
    for (int64_t k = 0; k < own->losses->t.dim[0]; k++) {
        double loss;
        for (int64_t i = 0; i < f->batch_size; i++)
            batch[i] = (k * f->batch_size + i) % own->samples;
        FT_TRY(f->pass(f, batch, (int)f->batch_size, &c->over, true, &loss));
        FT_TRY(f->update(f, f->learning_rate));
        flags(own->losses)[k] = (float)loss;
    }
    return FT_OK;
}

static ft_status look(pe_ctx *c, const nn_feed *f, int64_t *sample)
{
    const drop *own = c->priv;
    static const nn_hooks looking = {
        .pre = collect, .weight = pe_lora_weight, .embed = pe_lora_embed};
    nn_overlay over = c->over;
    over.hooks = &looking;
    for (int64_t i = 0; i < own->samples; i++) sample[i] = i;
    return f->pass(f, sample, (int)own->samples, &over, false, NULL);
}

/* Module first … of one projection: the parts they have of its Σ g (where it is 0, and of tables, equal ones), and which of
 * them share a pair. */
static void choose(const drop *own, int64_t first, double threshold)
{
    double sum = 0, kept = 0;
    int64_t members = 0;
    for (int64_t i = first; i < own->n; i++) {
        if (own->module[i].group != first) continue;
        sum += own->module[i].g;
        members++;
    }
    for (int64_t i = first; i < own->n; i++) {
        drop_module *m = &own->module[i];
        if (m->group != first) continue;
        m->g = sum > 0 ? m->g / sum : 1.0 / (double)members;
        flags(own->importance)[i] = (float)m->g;
        flags(own->shared)[i] = 1.0f;
    }
    while (kept < threshold && members-- > 0) {
        int64_t best = -1;
        for (int64_t i = first; i < own->n; i++) {
            const drop_module *m = &own->module[i];
            if (m->group == first && flags(own->shared)[i] != 0.0f &&
                (best < 0 || m->g > own->module[best].g))
                best = i;
        }
        flags(own->shared)[best] = 0.0f;
        kept += own->module[best].g;
    }
}

/* --- the shared pair ---------------------------------------------------------------------------------------------------- */
/* The first module that shares with module i; −1: it has its own pair. */
static int64_t owner_of(const drop *own, int64_t i)
{
    if (flags(own->shared)[i] == 0.0f) return -1;
    int64_t k = own->module[i].group;
    while (own->module[k].group != own->module[i].group || flags(own->shared)[k] == 0.0f) k++;
    return k;
}

static void copy_pairs(const drop *own)
{
    for (int64_t i = 0; i < own->n; i++) {
        const int64_t k = owner_of(own, i);
        if (k < 0 || k == i) continue;
        const lora_slot *to = own->module[i].slot, *from = own->module[k].slot;
        memcpy(to->a->t.data, from->a->t.data, (size_t)tn_count(&to->a->t) * sizeof(float));
        memcpy(to->b->t.data, from->b->t.data, (size_t)tn_count(&to->b->t) * sizeof(float));
    }
}

static void join(nn_param *into, nn_param *p)
{
    const int64_t n = tn_count(&p->t);
    kn_axpy(into->t.grad, 1.0f, p->t.grad, n);
    memset(p->t.grad, 0, (size_t)n * sizeof(float));
}

static double gradients(pe_ctx *c)
{
    const drop *own = c->priv;
    for (int64_t i = 0; i < own->n; i++) {
        const int64_t k = owner_of(own, i);
        if (k < 0 || k == i) continue;
        join(own->module[k].slot->a, own->module[i].slot->a);
        join(own->module[k].slot->b, own->module[i].slot->b);
    }
    return 0;
}

static ft_status after_update(pe_ctx *c, const pe_update *u)
{
    (void)u;
    copy_pairs(c->priv);
    return FT_OK;
}

static ft_status find_out(pe_ctx *c, const nn_feed *f)
{
    const drop_cfg *cfg = c->cfg;
    const drop *own = c->priv;
    const int64_t most = own->samples > f->batch_size ? own->samples : f->batch_size;
    int64_t *sample = ft_alloc((size_t)most, sizeof *sample), shared = 0;
    if (!sample) return FT_EMEM;
    ft_status rc = warm(c, f, sample);
    if (rc == FT_OK) rc = look(c, f, sample);
    ft_free(sample);
    FT_TRY(rc);
    for (int64_t i = 0; i < own->n; i++)
        if (own->module[i].group == i) choose(own, i, cfg->threshold);
    for (int64_t i = 0; i < own->n; i++) shared += flags(own->shared)[i] != 0.0f;
    log_info("lora_drop: after %lld steps on %lld samples %lld of %lld modules share a pair",
             (long long)own->losses->t.dim[0], (long long)own->samples, (long long)shared,
             (long long)own->n);
    return FT_OK;
}

static ft_status prepare(pe_ctx *c, const nn_feed *f)
{
    const size_t bytes = (size_t)c->store.count * sizeof(float);
    if (c->load_dir) return FT_OK; /* it brings its pairs */
    float *before = ft_alloc(bytes, 1);
    if (!before) return FT_EMEM;
    memcpy(before, c->store.w, bytes);
    ft_status rc = find_out(c, f);
    memcpy(c->store.w, before, bytes);
    ft_free(before);
    if (rc == FT_OK) copy_pairs(c->priv);
    return rc;
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
/* The name of a module's projection; with its shape where a name has several. */
static void projection(const drop *own, int64_t i, str_buf *out)
{
    const drop_module *m = &own->module[i];
    const char *name = pe_lora_last_name(m->site->path);
    bool several = false;
    for (int64_t k = 0; k < own->n; k++)
        several = several || (own->module[k].group != m->group &&
                              strcmp(pe_lora_last_name(own->module[k].site->path), name) == 0);
    str_clear(out);
    str_adds(out, name);
    if (several) str_printf(out, ".%lldx%lld", (long long)m->site->out, (long long)m->site->in);
}

static void put_shared(const drop *own, cJSON *o, str_buf *name)
{
    cJSON *all = cJSON_AddObjectToObject(o, "shared");
    for (int64_t i = 0; i < own->n; i++) {
        if (owner_of(own, i) != i) continue;
        projection(own, i, name);
        cJSON *list = cJSON_AddArrayToObject(all, name->data ? name->data : "");
        for (int64_t k = i; k < own->n; k++)
            if (owner_of(own, k) == i)
                cJSON_AddItemToArray(list, cJSON_CreateString(own->module[k].site->path));
    }
}

static cJSON *beside_of(const pe_ctx *c, str_buf *name)
{
    const drop_cfg *cfg = c->cfg;
    const drop *own = c->priv;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "threshold", cfg->threshold);
    cJSON_AddNumberToObject(o, "samples", (double)own->samples);
    cJSON *losses = cJSON_AddArrayToObject(o, "losses");
    for (int64_t i = 0; i < own->losses->t.dim[0]; i++)
        cJSON_AddItemToArray(losses, cJSON_CreateNumber((double)flags(own->losses)[i]));
    cJSON *importance = cJSON_AddObjectToObject(o, "importance");
    for (int64_t i = 0; i < own->n; i++)
        cJSON_AddNumberToObject(importance, own->module[i].site->path,
                                (double)flags(own->importance)[i]);
    put_shared(own, o, name);
    return o;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const drop *own = c->priv;
    str_buf text = {0}, path = {0}, name = {0};
    FT_TRY(pe_lora_save(c, dir));
    cJSON *o = own->text ? NULL : beside_of(c, &name);
    if (o) js_print(&text, o, true);
    str_adds(&text, own->text ? own->text : "\n");
    str_printf(&path, "%s/" BESIDE, dir);
    ft_status rc = text.failed || path.failed || name.failed
                       ? FT_EMEM
                       : file_write(path.data, text.data, text.len);
    cJSON_Delete(o);
    str_free(&text);
    str_free(&path);
    str_free(&name);
    return rc;
}

static int64_t module_at(const drop *own, const char *path)
{
    for (int64_t i = 0; path && i < own->n; i++)
        if (strcmp(own->module[i].site->path, path) == 0) return i;
    return -1;
}

/* One list of `shared`: modules of one projection. */
static ft_status read_list(const drop *own, const js_doc *d, const cJSON *list, bool fill)
{
    const cJSON *e;
    int64_t first = -1;
    if (!cJSON_IsArray(list))
        return js_fail(d, list, FT_EDATA, "shared", "must hold lists of paths");
    cJSON_ArrayForEach(e, list)
    {
        const int64_t i = module_at(own, cJSON_GetStringValue(e));
        if (i < 0 || (first >= 0 && own->module[i].group != own->module[first].group))
            return js_fail(d, e, FT_EDATA, "shared",
                           "\"%s\" is no target of this adapter that could share a pair",
                           ft_shows(cJSON_IsString(e) ? e->valuestring : "(no path)"));
        if (fill) flags(own->shared)[i] = 1.0f;
        first = i;
    }
    return FT_OK;
}

static ft_status read_shared(const drop *own, const js_doc *d, bool fill)
{
    const cJSON *list, *shared = js_get(d->root, "shared");
    if (!cJSON_IsObject(shared))
        return js_fail(d, shared ? shared : d->root, FT_EDATA, "shared",
                       "must be an object of lists of paths");
    cJSON_ArrayForEach(list, shared) FT_TRY(read_list(own, d, list, fill));
    return FT_OK;
}

static ft_status read_beside(pe_ctx *c)
{
    drop *own = c->priv;
    size_t len;
    path_kind kind;
    char *text;
    js_doc d;
    const char *path = path_join(c->mem, c->load_dir, BESIDE);
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &kind));
    FT_CHECK(kind == PATH_FILE, FT_EDATA,
             "%s: has no " BESIDE ", which says what lora_drop goes on with; go on with "
             "method.type \"lora\"",
             ft_shows(c->load_dir));
    FT_TRY(file_read(&text, &len, path, (size_t)16 << 20));
    own->text = arena_strn(c->mem, text, len);
    ft_status rc = own->text ? js_parse(&d, text, len, path, 1, JS_STRICT, FT_EDATA) : FT_EMEM;
    if (rc == FT_OK) {
        rc = read_shared(own, &d, !c->dry);
        js_close(&d);
    }
    ft_free(text);
    return rc;
}

static ft_status load(pe_ctx *c)
{
    FT_TRY(pe_load_adapter(c));
    if (!c->dry) copy_pairs(c->priv);
    return FT_OK;
}

const pe_method pe_lora_drop = {
    .name = "lora_drop",
    .qat = true,
    .help = "LoRA with one pair for the modules where it does least; the result is a PEFT adapter",
    .about =
        "LoRA is tried on a part of the data; modules where it does most keep a pair of their "
        "own, the others of a projection share one. Take it where the number of trained values "
        "has to be small and is not to be guessed layer by layer. It costs sample_steps steps "
        "and a pass over the sample before LoRA's own time.",
    .paper = "Zhou et al. 2024, LoRA-drop: Efficient LoRA Parameter Pruning based on Output "
             "Evaluation",
    .example = "{\"type\": \"lora_drop\", \"r\": 8, \"threshold\": 0.9, \"sample_ratio\": 0.1}",
    .fields = fields,
    .cfg_size = sizeof(drop_cfg),
    .peft_type = "LORA",
    .result = PE_ADAPTER,
    .files = files,
    .learning_rate = 2e-4,
    .check = pe_lora_check,
    .attach = attach,
    .hooks = {.weight = pe_lora_weight, .embed = pe_lora_embed},
    .prepare = prepare,
    .gradients = gradients,
    .after_update = after_update,
    .save = save,
    .load_config = pe_lora_load_config,
    .load = load,
    .fold = pe_lora_fold,
    .unfold = pe_lora_unfold,
};
