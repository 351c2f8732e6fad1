/* method_frozen_a.c – low-rank adapters whose A stays as it was drawn, at double B's rate: a method of the tests. Its arithmetic
 * and its row are all it needs: where it sits, what is saved beside it and PEFT's files are every adapter's. */
#include "ft/method.h"

typedef struct frozen_cfg {
    int64_t r;
    pe_target target;
} frozen_cfg;

typedef struct frozen_slot {
    nn_param *a, *b; /* [r, in], a state; [out, r] */
} frozen_slot;

static const cfg_field fields[] = {{.key = "r",
                                    .type = CFG_INT,
                                    .offset = offsetof(frozen_cfg, r),
                                    .def = "4",
                                    .low = 1,
                                    .high = 64,
                                    .help = "rank"},
                                   PE_TARGET_FIELDS(frozen_cfg, target),
                                   CFG_END};

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"r", NULL};
    frozen_cfg *cfg = ctx;
    pe_check_target(d, object, &cfg->target, settled);
}

static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const frozen_cfg *cfg = c->cfg;
    frozen_slot *slot = arena_get(c->mem, sizeof *slot);
    const char *a = pe_file_key(c, s->path, ".lora_A.weight");
    const char *b = pe_file_key(c, s->path, ".lora_B.weight");
    if (!slot || !a || !b) return FT_EMEM;
    FT_TRY(nn_new_state(&c->store, a, cfg->r, s->in, &slot->a));
    FT_TRY(nn_new_param(&c->store, b, s->out, cfg->r, &slot->b));
    slot->b->hyper.lr_ratio = 2.0f;
    if (!c->dry)
        rng_fill_uniform(tn_f32(&slot->a->t), tn_count(&slot->a->t), rng_key_text(c->seed, a),
                         -0.1f, 0.1f);
    c->over.slot[s->index] = slot;
    FT_TRY(pe_add_entry(c, slot->a, a, false));
    return pe_add_entry(c, slot->b, b, false);
}

static ft_status attach(pe_ctx *c)
{
    const frozen_cfg *cfg = c->cfg;
    return pe_attach_target(c, &cfg->target, attach_site);
}

static tn_tensor *post(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y)
{
    int64_t col = 0;
    for (int i = 0; i < g->n; i++) {
        const frozen_slot *slot = nn_slot(r, &g->site[i]);
        ag_low_rank part = {.scale = 1.0f, .col = col};
        col += g->site[i].out;
        if (!slot) continue;
        part.a = &slot->a->t;
        part.b = &slot->b->t;
        y = ag_low_rank_add(r->t, y, x, &part, 1);
    }
    return y;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const frozen_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "r", (double)cfg->r);
    cJSON_AddNumberToObject(o, "lora_alpha", (double)cfg->r);
    return pe_save_adapter(c, &cfg->target, o, dir);
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    frozen_cfg *cfg = c->cfg;
    FT_TRY(js_get_int(d, d->root, "r", 8, 1, 64, &cfg->r));
    return pe_load_target(&cfg->target, d);
}

const pe_method pe_frozen_a = {
    .name = "frozen_a",
    .help = "low-rank adapters, half of them frozen",
    .fields = fields,
    .cfg_size = sizeof(frozen_cfg),
    .peft_type = "LORA",
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 1e-3,
    .check = check,
    .attach = attach,
    .hooks = {.post = post},
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
};
