/* lora.c – low-rank adaptation (Hu et al. 2021) with PEFT's options, names and files.
 *
 *   y = base(x) + s · B(A(dropout(x))),  s = lora_alpha/r, or lora_alpha/√r with use_rslora (Kalajdzievski 2023).
 * B starts at 0, so training starts at the untouched model. On an embedding: y += s · Aᵀ[ids] · Bᵀ (A 0, B normal). */
#include "ft/method.h"
#include "lora_private.h"
#include "method_private.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const cfg_field fields[] = {PE_LORA_FIELDS, PE_DORA_FIELD("false"), CFG_END};

/* --- checks of the config ---------------------------------------------------------------------------------- */
static void check_init_word(cfg_doc *d, const cJSON *object, const lora_cfg *c)
{
    const cJSON *init = c->init_lora_weights;
    int64_t n;
    if (cJSON_IsString(init) && strcmp(init->valuestring, "gaussian") == 0) return;
    if (pe_residual_of(init, &n) == PE_NO_RESIDUAL)
        cfg_fail(
            d, init, "method.init_lora_weights",
            "must be true, false, \"gaussian\", \"pissa\", \"pissa_niter_N\" (N iterations) or "
            "\"olora\"");
    else if (c->use_dora)
        cfg_fail(d, init, "method.init_lora_weights",
                 "\"%s\" changes the base, whose lengths use_dora trains; use one of them",
                 ft_shows(init->valuestring));
    else if (c->lora_alpha == 0.0)
        cfg_fail(d, js_get(object, "lora_alpha"), "method.lora_alpha",
                 "must be above 0: what is taken out of the base is divided by the scale");
    else if (c->use_rslora && !(pe_is_empty(c->rank_pattern) && pe_is_empty(c->alpha_pattern)))
        cfg_fail(d, js_get(object, "use_rslora"), "method.use_rslora",
                 "with rank_pattern or alpha_pattern an adapter that began as \"%s\" cannot be "
                 "converted to a plain one; leave one of them out",
                 ft_shows(init->valuestring));
}

/* What a masked change of a weight cannot be. */
static void check_keeps(cfg_doc *d, const cJSON *object, const lora_cfg *c)
{
    int64_t n;
    if (pe_residual_of(c->init_lora_weights, &n) != PE_NO_RESIDUAL)
        cfg_fail(d, c->init_lora_weights, "method.init_lora_weights",
                 "\"%s\" moves weights that are 0; leave keep_zeros out, or this",
                 ft_shows(c->init_lora_weights->valuestring));
    if (c->use_dora && c->lora_dropout > 0)
        cfg_fail(d, js_get(object, "lora_dropout"), "method.lora_dropout",
                 "must be 0 with keep_zeros and use_dora: the length that a row is brought to is "
                 "that of one weight");
}

void pe_lora_check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {
        "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", NULL};
    lora_cfg *c = ctx;
    const cJSON *init = c->init_lora_weights;
    pe_check_target(d, object, &c->target, settled);
    pe_check_patterns(d, c->rank_pattern, "rank_pattern", pe_is_ranks,
                      "must be an object of ranks (whole numbers above 0)");
    pe_check_patterns(d, c->alpha_pattern, "alpha_pattern", pe_is_alphas,
                      "must be an object of numbers above 0");
    if (!pe_is_null(init) && !cJSON_IsBool(init)) check_init_word(d, object, c);
    if (cJSON_IsTrue(js_get(object, "keep_zeros"))) check_keeps(d, object, c);
}

/* --- attaching --------------------------------------------------------------------------------------------------- */
/* Kaiming uniform with a = √5 gives ±1/√fan_in; "gaussian" N(0, (1/r)²); false draws B too, ±1/√r. */
static void init_values(pe_ctx *c, const nn_site *s, lora_slot *slot, int64_t r)
{
    const lora_cfg *cfg = c->cfg;
    const cJSON *init = cfg->init_lora_weights;
    float *a = tn_f32(&slot->a->t), *b = tn_f32(&slot->b->t);
    uint64_t ka = rng_key_text(c->seed, slot->a->name), kb = rng_key_text(c->seed, slot->b->name);
    float in = 1.0f / sqrtf((float)s->in), rank = 1.0f / sqrtf((float)r);
    if (c->dry) return;
    if (pe_lora_is_table(s))
        rng_fill_normal(b, tn_count(&slot->b->t), kb, 0.0f, 1.0f);
    else if (cJSON_IsString(init))
        rng_fill_normal(a, tn_count(&slot->a->t), ka, 0.0f, 1.0f / (float)r);
    else
        rng_fill_uniform(a, tn_count(&slot->a->t), ka, -in, in);
    if (cJSON_IsFalse(init)) rng_fill_uniform(b, tn_count(&slot->b->t), kb, -rank, rank);
}

static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const lora_cfg *cfg = c->cfg;
    bool table = pe_lora_is_table(s);
    ft_status (*const new_a)(nn_store *, const char *, int64_t, int64_t, nn_param **) =
        cfg->frozen_a ? nn_new_state : nn_new_param;
    double r = (double)cfg->r, alpha = cfg->lora_alpha;
    lora_slot *slot = arena_get(c->mem, sizeof *slot);
    if (!slot) return FT_EMEM;
    FT_TRY(pe_pattern_value(cfg->rank_pattern, s->path, &r));
    FT_TRY(pe_pattern_value(cfg->alpha_pattern, s->path, &alpha));
    const char *ka = pe_file_key(c, s->path, table ? ".lora_embedding_A" : ".lora_A.weight");
    const char *kb = pe_file_key(c, s->path, table ? ".lora_embedding_B" : ".lora_B.weight");
    int64_t rank = (int64_t)r;
    if (!ka || !kb) return FT_EMEM;
    if (table)
        FT_TRY(new_a(&c->store, ka, s->out, rank, &slot->a));
    else
        FT_TRY(new_a(&c->store, ka, rank, s->in, &slot->a));
    FT_TRY(nn_new_param(&c->store, kb, table ? s->in : s->out, rank, &slot->b));
    slot->scale = (float)(alpha / (cfg->use_rslora ? sqrt(r) : r));
    slot->dropout = (float)cfg->lora_dropout;
    slot->key = rng_key_text(0, s->path);
    init_values(c, s, slot, rank);
    c->over.slot[s->index] = slot;
    FT_TRY(pe_add_entry(c, slot->a, ka, table));
    FT_TRY(pe_add_entry(c, slot->b, kb, false));
    return cfg->use_dora ? pe_dora_attach_site(c, s, slot) : FT_OK;
}

/* Those that train a LoRA as such have use_dora, and inits that change the base. */
static bool has_variants(const pe_method *method)
{
    const cfg_field *f = method->fields;
    while (f->key && strcmp(f->key, "use_dora") != 0) f++;
    return f->key != NULL;
}

static ft_status attach_residual(pe_ctx *c)
{
    FT_CHECK(has_variants(c->method), FT_ECONFIG,
             "method.init_lora_weights: \"%s\" does not go with method.type \"%s\", but with lora "
             "and loraplus",
             ft_shows(((const lora_cfg *)c->cfg)->init_lora_weights->valuestring), c->method->name);
    return pe_residual_attach(c);
}

ft_status pe_lora_attach(pe_ctx *c)
{
    const lora_cfg *cfg = c->cfg;
    int64_t iterations;
    FT_TRY(pe_attach_target(c, &cfg->target, attach_site));
    pe_tell_patterns(c, cfg->rank_pattern, "rank_pattern");
    pe_tell_patterns(c, cfg->alpha_pattern, "alpha_pattern");
    if (pe_residual_of(cfg->init_lora_weights, &iterations) != PE_NO_RESIDUAL)
        return attach_residual(c);
    return cfg->use_dora ? pe_dora_attach(c) : FT_OK;
}

/* --- forward -------------------------------------------------------------------------------------------------------- */
void pe_lora_weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    const lora_slot *slot = nn_slot(r, s);
    if (!slot) return;
    w->low = (ag_low_rank){.a = &slot->a->t,
                           .b = &slot->b->t,
                           .scale = slot->scale,
                           .dropout = r->drops ? slot->dropout : 0.0f,
                           .key = slot->key};
}

tn_tensor *pe_lora_embed(nn_run *r, const nn_site *s, tn_tensor *h)
{
    const lora_slot *slot = nn_slot(r, s);
    if (!slot) return h;
    ag_weight b = {.w = &slot->b->t};
    const int32_t *id = s->role == NN_POSITION ? r->pos : r->ids;
    tn_tensor *rows = ag_embed(r->t, &slot->a->t, id, r->tokens, s->frozen_row);
    return ag_linear(r->t, ag_scale(r->t, rows, slot->scale), &b, 1, h);
}

/* --- folding --------------------------------------------------------------------------------------------------------- */
/* W += scale · B A, computed apart and added once; transposed where the file holds [in, out]. */
ft_status pe_lora_fold_pair(const nn_site *s, float *w, const tn_tensor *a, const tn_tensor *b,
                            float scale)
{
    bool table = pe_lora_is_table(s);
    const tn_tensor *left = table ? a : b, *right = table ? b : a;
    int64_t rows = left->dim[0], r = left->dim[1], cols = table ? right->dim[0] : right->dim[1];
    kn_mat mat = {
        .type = &dt_f32, .data = right->data, .rows = right->dim[0], .cols = right->dim[1]};
    float *delta = ft_alloc((size_t)(rows * cols), sizeof(float));
    if (!delta) return FT_EMEM;
    if (table)
        kn_gemm_nt(delta, cols, tn_f32(left), r, &mat, rows, NULL, false);
    else
        kn_gemm_nn(delta, cols, tn_f32(left), r, &mat, rows, NULL, false);
    if (s->in_out)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) w[j * rows + i] += scale * delta[i * cols + j];
    else
        kn_axpy(w, scale, delta, rows * cols);
    ft_free(delta);
    return FT_OK;
}

ft_status pe_lora_fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    const lora_slot *slot = nn_slot_of(&c->over, s);
    (void)b;
    if (slot) FT_TRY(pe_lora_fold_pair(s, w, &slot->a->t, &slot->b->t, slot->scale));
    return slot && slot->m ? pe_dora_fold(s, slot, w) : FT_OK;
}

ft_status pe_lora_unfold(pe_ctx *c, const nn_site *s, const float *w, float *dw)
{
    const lora_slot *slot = nn_slot_of(&c->over, s);
    if (slot->m) pe_dora_unfold(s, slot, w, dw);
    return pe_low_rank_unfold(c, s, w, dw);
}

bool pe_lora_low_rank(const pe_ctx *c, const nn_site *s, model_low_rank *out)
{
    const lora_cfg *cfg = c->cfg;
    const lora_slot *slot = nn_slot_of(&c->over, s);
    const double root = cfg->use_rslora ? sqrt((double)cfg->r) : 1.0;
    if (!slot) return false;
    *out = (model_low_rank){
        .a = slot->a, .b = slot->b, .scale = slot->scale, .alpha = cfg->lora_alpha * root};
    return true;
}

/* --- several together ---------------------------------------------------------------------------------------------------- */
/* The columns of x, times sx, and then those of y, times sy. */
static ft_status columns(pe_ctx *sum, const nn_param *x, float sx, const nn_param *y, float sy,
                         nn_param **out)
{
    int64_t rows = x->t.dim[0], nx = x->t.dim[1], ny = y->t.dim[1];
    FT_TRY(nn_new_param(&sum->store, x->name, rows, nx + ny, out));
    float *to = tn_f32(&(*out)->t);
    for (int64_t i = 0; i < rows; i++, to += nx + ny) {
        const float *from = tn_f32(&x->t) + i * nx, *more = tn_f32(&y->t) + i * ny;
        for (int64_t k = 0; k < nx; k++) to[k] = sx * from[k];
        for (int64_t k = 0; k < ny; k++) to[nx + k] = sy * more[k];
    }
    return FT_OK;
}

static ft_status rows(pe_ctx *sum, const nn_param *x, const nn_param *y, nn_param **out)
{
    const int64_t n = tn_count(&x->t), more = tn_count(&y->t), cols = x->t.dim[1];
    FT_TRY(nn_new_param(&sum->store, x->name, x->t.dim[0] + y->t.dim[0], cols, out));
    memcpy(tn_f32(&(*out)->t), tn_f32(&x->t), (size_t)n * sizeof(float));
    memcpy(tn_f32(&(*out)->t) + n, tn_f32(&y->t), (size_t)more * sizeof(float));
    return FT_OK;
}

/* s B A + t D C is [s B, t D] of A above C: of the sum of the ranks. */
static ft_status add_slot(pe_ctx *sum, const nn_site *s, const lora_slot *part, double scale)
{
    lora_slot *slot = nn_slot_of(&sum->over, s);
    const float more = (float)((double)part->scale * scale);
    nn_param *a, *b;
    if (!slot) {
        slot = arena_get(sum->mem, sizeof *slot);
        if (!slot) return FT_EMEM;
        *slot = *part;
        slot->scale = more;
        sum->over.slot[s->index] = slot;
        return FT_OK;
    }
    FT_TRY(pe_lora_is_table(s) ? columns(sum, slot->a, 1.0f, part->a, 1.0f, &a)
                               : rows(sum, slot->a, part->a, &a));
    FT_TRY(columns(sum, slot->b, slot->scale, part->b, more, &b));
    *slot = (lora_slot){.a = a, .b = b, .scale = 1.0f};
    return FT_OK;
}

ft_status pe_lora_add(pe_ctx *sum, const pe_ctx *part, double scale)
{
    for (int64_t i = 0; i < sum->m->n_site; i++) {
        const nn_site *s = &sum->m->site[i];
        const lora_slot *slot = nn_slot_of(&part->over, s);
        if (slot) FT_TRY(add_slot(sum, s, slot, scale));
    }
    return FT_OK;
}

/* --- files -------------------------------------------------------------------------------------------------------------- */
ft_status pe_lora_save(const pe_ctx *c, const char *dir)
{
    return pe_residual_parts(c) ? pe_residual_save(c, dir) : pe_lora_write(c, dir);
}

ft_status pe_lora_write(const pe_ctx *c, const char *dir)
{
    const lora_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject(), *empty = cJSON_CreateObject();
    pe_put_json(o, "alpha_pattern", pe_is_null(cfg->alpha_pattern) ? empty : cfg->alpha_pattern);
    if (pe_is_null(cfg->init_lora_weights))
        cJSON_AddTrueToObject(o, "init_lora_weights");
    else
        pe_put_json(o, "init_lora_weights", cfg->init_lora_weights);
    cJSON_AddNumberToObject(o, "lora_alpha", cfg->lora_alpha);
    cJSON_AddNumberToObject(o, "lora_dropout", cfg->lora_dropout);
    cJSON_AddNumberToObject(o, "r", (double)cfg->r);
    pe_put_json(o, "rank_pattern", pe_is_null(cfg->rank_pattern) ? empty : cfg->rank_pattern);
    cJSON_AddBoolToObject(o, "use_dora", cfg->use_dora);
    cJSON_AddBoolToObject(o, "use_rslora", cfg->use_rslora);
    cJSON_Delete(empty);
    return pe_save_adapter(c, &cfg->target, o, dir);
}

/* Every key of adapter_config.json that some version of PEFT, or a library beside it, writes for LoRA. */
static const char variant[] =
    "changes what the adapter computes, in a way that ft (merge-adapter too) does not; merge it "
    "with PEFT's merge_and_unload, and give the result as the model";
static const pe_key keys[] = {
    PE_TARGET_KEYS,
    {"r", NULL},
    {"lora_alpha", NULL},
    {"lora_dropout", NULL},
    {"rank_pattern", NULL},
    {"alpha_pattern", NULL},
    {"use_rslora", NULL},
    {"use_dora", NULL},
    {"init_lora_weights", NULL},
    /* how factors were made, or are laid out where the base is; the values are there */
    {"fan_in_fan_out", NULL}, /* told by the layer */
    {"loftq_config", NULL},
    {"eva_config", NULL},
    {"corda_config", NULL},
    {"lora_ga_config", NULL},
    {"megatron_config", NULL},
    {"megatron_core", NULL},
    {"qalora_group_size", NULL}, /* of use_qalora */
    {"merge_weights", NULL},
    {"lora_dtype", NULL},
    {"lorap_lr_ratio", NULL},
    {"lorap_emb_lr", NULL},
    {"lora_bias", variant},
    {"use_qalora", variant},
    {"use_bdlora", variant},
    {"arrow_config", variant},
    {"kasa_config", variant},
    {"velora_config", variant},
    {"monteclora_config", variant},
    {"alora_invocation_tokens", variant},
    {"layer_replication", "makes another model of the base, with layers used more than once"},
    {"target_parameters", "adapts parameters that are no module's weight (experts)"},
    {"enable_lora", "is of PEFT 0.2 and older: save the adapter with a newer version"},
    {NULL, NULL},
};

/* Inits that leave the base as it is; the others move it, and what they leave fits the moved base only. Two of them can be
 * found again: *out. */
static ft_status check_init(const js_doc *d, const cJSON **out)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal", "mica"};
    const cJSON *init = js_get(d->root, "init_lora_weights");
    int64_t iterations;
    const pe_residual_word word = pe_residual_of(init, &iterations);
    *out = word == PE_PISSA || word == PE_OLORA ? init : NULL;
    if (*out) return FT_OK;
    for (size_t i = 0; i < FT_COUNT_OF(harmless); i++) {
        if (!cJSON_IsString(init) || strcasecmp(init->valuestring, harmless[i]) == 0) return FT_OK;
    }
    return js_fail(
        d, init, FT_EDATA, "init_lora_weights",
        "\"%s\" changed the base weights; convert the adapter to plain LoRA when saving it",
        ft_shows(init->valuestring));
}

/* The lengths of DoRA are trained on by methods that have the key; to whom uses it, the adapter is one of that method. */
static ft_status load_use_dora(pe_ctx *c, const js_doc *d)
{
    lora_cfg *cfg = c->cfg;
    FT_TRY(js_get_bool(d, d->root, "use_dora", false, &cfg->use_dora));
    if (!cfg->use_dora) return FT_OK;
    if (!c->load_dir) c->method = &pe_dora;
    if (has_variants(c->method)) return FT_OK;
    return js_fail(d, js_get(d->root, "use_dora"), FT_EDATA, "use_dora",
                   "method \"%s\" does not go on from an adapter with lengths of its own (DoRA)",
                   c->method->name);
}

ft_status pe_lora_load_config(pe_ctx *c, const js_doc *d)
{
    lora_cfg *cfg = c->cfg;
    const cJSON *o = d->root;
    FT_TRY(pe_check_keys(d, keys));
    FT_TRY(check_init(d, &cfg->init_lora_weights));
    FT_TRY(js_get_int(d, o, "r", 8, 1, 65536, &cfg->r));
    FT_TRY(pe_load_scale(d, "lora_alpha", 8.0, &cfg->lora_alpha));
    if (!c->load_dir) FT_TRY(js_get_num(d, o, "lora_dropout", 0.0, &cfg->lora_dropout));
    FT_TRY(js_get_bool(d, o, "use_rslora", false, &cfg->use_rslora));
    FT_TRY(load_use_dora(c, d));
    FT_TRY(pe_load_target(&cfg->target, d));
    FT_TRY(pe_load_json(d, "rank_pattern", pe_is_ranks, &cfg->rank_pattern));
    FT_TRY(pe_load_json(d, "alpha_pattern", pe_is_alphas, &cfg->alpha_pattern));
    return FT_OK;
}

const pe_method pe_lora = {
    .name = "lora",
    .qat = true,
    .help = "low-rank adapters on linear layers; the result is a PEFT adapter",
    .about = "A pair of small matrices beside each chosen layer is trained, W + lora_alpha/r * B "
             "A, the model itself is frozen. The method to begin with: it learns nearly what full "
             "training does from a small set, forgets less, and the result is a few megabytes that "
             "merge into the model without a trace. More data wants a higher r; use_rslora keeps "
             "the scale of high ranks.",
    .paper = "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models",
    .example = "{\"type\": \"lora\", \"r\": 8, \"lora_alpha\": 16}",
    .fields = fields,
    .cfg_size = sizeof(lora_cfg),
    PE_LORA_ROW,
    .attach = pe_lora_attach,
    .before_step = pe_lora_before_step,
};
