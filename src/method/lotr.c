/* lotr.c – LoTR (Bershatsky et al. 2024): a Tucker decomposition over modules.
 *
 *   y = base(x) + lora_alpha/r · L G R x,  L [out, r] and R [r, in] of a group of modules, G [r, r] each one's own
 * A group is made of modules of one shape, of one projection (the last name of their paths) or of all. L, R begin normal, G
 * zero. The result is a LoRA adapter, A = R and B = L G, for whoever uses it; lotr.safetensors beside it holds the three
 * themselves, for a run that goes on. */
#include "ft/method.h"
#include "ft/kernel.h"
#include "lora_private.h"
#include "method_private.h"

#include <string.h>

typedef struct lotr_cfg {
    lora_cfg lora; /* of its keys r, lora_alpha and the targets */
    const char *lotr_share;
} lotr_cfg;

/* L and R of a group. */
typedef struct lotr_group {
    const char *name;
    nn_param *l, *r;
} lotr_group;

typedef struct lotr_slot {
    nn_param *l, *r; /* the group's, or a further use of them */
    nn_param *g;
    int64_t entry; /* of A among the adapter's, B behind it */
} lotr_slot;

typedef struct lotr {
    lotr_group *group;
    pe_entry *entry; /* of lotr.safetensors */
    int64_t n_group, n_entry;
} lotr;

#define BESIDE "lotr.safetensors"
static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors", BESIDE,
                                    NULL};
static const char *const shares[] = {"projection", "all", NULL};

static const cfg_field fields[] = {
    {.key = "r",
     .type = CFG_INT,
     .offset = PE_LORA_AT(r),
     .def = "8",
     .low = 1,
     .high = 65536,
     .help = "rank"},
    {.key = "lora_alpha",
     .type = CFG_FLOAT,
     .offset = PE_LORA_AT(lora_alpha),
     .def = "16",
     .low = 0,
     .high = 1e9,
     .help = "scale of the update: lora_alpha / r"},
    {.key = "lotr_share",
     .type = CFG_ENUM,
     .offset = offsetof(lotr_cfg, lotr_share),
     .def = "\"projection\"",
     .choices = shares,
     .help = "modules of one shape that share L and R: of one name, or all"},
    PE_TARGET_FIELDS(lora_cfg, target),
    CFG_END,
};

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"r", "lora_alpha", NULL};
    const lotr_cfg *c = ctx;
    pe_check_target(d, object, &c->lora.target, settled);
}

static float scale_of(const pe_ctx *c)
{
    const lora_cfg *cfg = c->cfg;
    return (float)(cfg->lora_alpha / (double)cfg->r);
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
static void add_own(lotr *own, nn_param *p)
{
    own->entry[own->n_entry++] = (pe_entry){.p = p, .key = p->name};
}

static ft_status new_normal(pe_ctx *c, const char *name, int64_t rows, int64_t cols, nn_param **out)
{
    if (!name) return FT_EMEM;
    FT_TRY(nn_new_param(&c->store, name, rows, cols, out));
    if (!c->dry)
        rng_fill_normal(tn_f32(&(*out)->t), rows * cols, rng_key_text(c->seed, name), 0.0f, 1.0f);
    add_own(c->priv, *out);
    return FT_OK;
}

/* L and R as this module uses them: the group's own for its first one. */
static ft_status join(pe_ctx *c, const nn_site *s, lotr_slot *slot)
{
    const lotr_cfg *cfg = c->cfg;
    lotr *own = c->priv;
    const char *last = strcmp(cfg->lotr_share, "all") == 0 ? "all" : pe_lora_last_name(s->path);
    const char *name =
        arena_printf(c->mem, "%s.%lldx%lld", last, (long long)s->out, (long long)s->in);
    if (!name) return FT_EMEM;
    for (int64_t i = 0; i < own->n_group; i++) {
        lotr_group *g = &own->group[i];
        if (strcmp(g->name, name) != 0) continue;
        FT_TRY(nn_alias(&c->store, g->l, &slot->l));
        return nn_alias(&c->store, g->r, &slot->r);
    }
    lotr_group *g = &own->group[own->n_group++];
    g->name = name;
    FT_TRY(new_normal(c, arena_printf(c->mem, "%s.lotr_L", name), s->out, cfg->lora.r, &g->l));
    FT_TRY(new_normal(c, arena_printf(c->mem, "%s.lotr_R", name), cfg->lora.r, s->in, &g->r));
    slot->l = g->l;
    slot->r = g->r;
    return FT_OK;
}

static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const lora_cfg *cfg = c->cfg;
    const char *key = pe_file_key(c, s->path, ".lotr_G");
    lotr_slot *slot = arena_get(c->mem, sizeof *slot);
    if (!slot || !key) return FT_EMEM;
    FT_CHECK(!pe_lora_is_table(s), FT_ECONFIG,
             "method.target_modules: \"%s\" is an embedding; lotr adapts linear layers alone",
             s->path);
    FT_TRY(join(c, s, slot));
    FT_TRY(nn_new_param(&c->store, key, cfg->r, cfg->r, &slot->g));
    add_own(c->priv, slot->g);
    slot->entry = c->entries.n;
    c->over.slot[s->index] = slot;
    FT_TRY(pe_add_entry(c, slot->r, pe_file_key(c, s->path, ".lora_A.weight"), false));
    /* L stands for the product, whose shape it has */
    return pe_add_entry(c, slot->l, pe_file_key(c, s->path, ".lora_B.weight"), false);
}

static ft_status attach(pe_ctx *c)
{
    const lora_cfg *cfg = c->cfg;
    lotr *own = c->priv = arena_get(c->mem, sizeof *own);
    if (!own) return FT_EMEM;
    own->group = arena_get(c->mem, (size_t)c->m->n_site * sizeof *own->group);
    own->entry = arena_get(c->mem, 3 * (size_t)c->m->n_site * sizeof *own->entry);
    if (!own->group || !own->entry) return FT_EMEM;
    return pe_attach_target(c, &cfg->target, attach_site);
}

static void weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    const lotr_slot *slot = nn_slot(r, s);
    if (!slot) return;
    w->low = (ag_low_rank){
        .a = &slot->r->t, .b = &slot->l->t, .core = &slot->g->t, .scale = scale_of(r->over->ctx)};
}

/* --- files ---------------------------------------------------------------------------------------------------------- */
/* b [out, r] = L G. */
static void product(float *b, const lotr_slot *slot)
{
    const int64_t r = slot->g->t.dim[0];
    const kn_mat g = {.type = &dt_f32, .data = slot->g->t.data, .rows = r, .cols = r};
    kn_gemm_nn(b, r, tn_f32(&slot->l->t), r, &g, slot->l->t.dim[0], NULL, false);
}

static ft_status fold(const pe_ctx *c, const nn_site *s, float *w, float *bias)
{
    const lotr_slot *slot = nn_slot_of(&c->over, s);
    (void)bias;
    if (!slot) return FT_OK;
    tn_tensor b = slot->l->t;
    float *values = b.data = ft_alloc((size_t)tn_count(&b), sizeof(float));
    if (!values) return FT_EMEM;
    product(values, slot);
    ft_status rc = pe_lora_fold_pair(s, w, &slot->r->t, &b, scale_of(c));
    ft_free(values);
    return rc;
}

/* A parameter that is the product, for the adapter's file. */
static ft_status put_product(arena *mem, const lotr_slot *slot, nn_param **out)
{
    nn_param *b = *out = arena_get(mem, sizeof *b);
    float *values = arena_get(mem, (size_t)tn_count(&slot->l->t) * sizeof(float));
    if (!b || !values) return FT_EMEM;
    *b = *slot->l;
    b->t.data = values;
    product(values, slot);
    return FT_OK;
}

static ft_status save_lora(const pe_ctx *c, const char *dir, arena *mem)
{
    const size_t bytes = (size_t)c->entries.n * sizeof(pe_entry);
    pe_ctx now = *c;
    pe_entry *entry = now.entries.entry = arena_get(mem, bytes);
    if (!entry) return FT_EMEM;
    memcpy(entry, c->entries.entry, bytes);
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const lotr_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (slot) FT_TRY(put_product(mem, slot, &entry[slot->entry + 1].p));
    }
    return pe_lora_save(&now, dir);
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const lotr *own = c->priv;
    arena *mem;
    FT_TRY(arena_open(&mem, "products", (size_t)4 << 30));
    ft_status rc = save_lora(c, dir, mem);
    arena_close(mem);
    return rc == FT_OK ? pe_write_entries(dir, BESIDE, own->entry, own->n_entry) : rc;
}

/* What the adapter's own file has in the place of L is replaced by what it is made of. */
static ft_status load(pe_ctx *c)
{
    const lotr *own = c->priv;
    path_kind kind;
    pe_file *f;
    FT_TRY(pe_load_adapter(c));
    FT_TRY(path_look_in(c->load_dir, BESIDE, &kind));
    FT_CHECK(kind == PATH_FILE, FT_EDATA,
             "%s: has no " BESIDE ", which lotr goes on from; go on with method.type \"lora\"",
             ft_shows(c->load_dir));
    FT_TRY(pe_file_open_named(&f, c->load_dir, BESIDE));
    ft_status rc = pe_read_entries(f, own->entry, own->n_entry, c->dry);
    pe_file_close(f);
    return rc;
}

const pe_method pe_lotr = {
    .name = "lotr",
    .qat = true,
    .help = "low-rank adapters that share their outer factors; the result is a PEFT adapter",
    .about = "LoRA whose outer factors are shared by all modules of one projection (or of one "
             "shape); each has a small r by r matrix of its own. Take it where the adapter has to "
             "be tiny: the size grows with the depth by r * r a module only. It learns more slowly "
             "than LoRA at the same rank and costs its time.",
    .paper = "Bershatsky et al. 2024, LoTR: Low Tensor Rank Weight Adaptation",
    .example = "{\"type\": \"lotr\", \"r\": 8, \"lora_alpha\": 1}",
    .fields = fields,
    .cfg_size = sizeof(lotr_cfg),
    .peft_type = "LORA",
    .result = PE_ADAPTER,
    .files = files,
    .learning_rate = 2e-4,
    .check = check,
    .attach = attach,
    .hooks = {.weight = weight},
    .save = save,
    .load_config = pe_lora_load_config,
    .load = load,
    .fold = fold,
    .unfold = pe_low_rank_unfold,
};
