/* method_layered.c – a method of the tests that uses the hooks inside a layer: keys and values of its own before every sequence
 * (qkv: Li and Liang 2021), a bottleneck behind each part (sublayer: Houlsby et al. 2019), and matrices that are trained in
 * full but multiplied as their rounding to a grid (weight: straight through). */
#include "ft/method.h"
#include "method/method_private.h"

#include <math.h>
#include <stdio.h>

typedef struct layered_cfg {
    pe_target target;
    int64_t num_virtual_tokens, bottleneck;
} layered_cfg;

enum { PARTS = 2 }; /* of a layer: nn_part */
typedef struct layered {
    nn_param **kv;            /* [n_layer] of [num_virtual_tokens, 2K·d] */
    nn_param *(*down)[PARTS]; /* [n_layer] of [bottleneck, C] */
    nn_param *(*up)[PARTS];   /* [n_layer] of [C, bottleneck] */
} layered;

static const cfg_field fields[] = {PE_TARGET_FIELDS(layered_cfg, target),
                                   {.key = "num_virtual_tokens",
                                    .type = CFG_INT,
                                    .offset = offsetof(layered_cfg, num_virtual_tokens),
                                    .def = "3",
                                    .low = 1,
                                    .high = 1024,
                                    .help = "keys and values before every sequence"},
                                   {.key = "bottleneck",
                                    .type = CFG_INT,
                                    .offset = offsetof(layered_cfg, bottleneck),
                                    .def = "4",
                                    .low = 1,
                                    .high = 1024,
                                    .help = "width behind each part"},
                                   CFG_END};

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    layered_cfg *cfg = ctx;
    pe_check_target(d, object, &cfg->target, NULL);
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
/* A parameter "PREFIX.layers.N.NAME", uniform in ± size. */
static ft_status add(pe_ctx *c, int64_t layer, const char *name, int64_t rows, int64_t cols,
                     float size, nn_param **out)
{
    char path[64];
    snprintf(path, sizeof path, "layers.%lld", (long long)layer);
    const char *key = pe_file_key(c, path, name);
    if (!key) return FT_EMEM;
    FT_TRY(nn_new_param(&c->store, key, rows, cols, out));
    if (!c->dry)
        rng_fill_uniform(tn_f32(&(*out)->t), rows * cols, rng_key_text(c->seed, key), -size, size);
    return pe_add_entry(c, *out, key, false);
}

static int64_t width_of(const model *m, nn_role role)
{
    for (int64_t i = 0; i < m->n_site; i++)
        if (m->site[i].role == role) return m->site[i].out;
    return 0;
}

static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const char *key = pe_file_key(c, s->path, ".weight");
    if (!key) return FT_EMEM;
    FT_TRY(nn_train_copy(&c->store, &c->over, s->w));
    c->over.slot[s->index] = s;
    return pe_add_entry(c, *pe_own(c, s->w), key, false);
}

static ft_status attach(pe_ctx *c)
{
    static const char *const names[PARTS][2] = {{".mixer.down", ".mixer.up"},
                                                {".feed.down", ".feed.up"}};
    const layered_cfg *cfg = c->cfg;
    int64_t n = c->m->d.n_layer, e = c->m->d.hidden_size;
    layered *l = arena_get(c->mem, sizeof *l);
    if (!l) return FT_EMEM;
    l->kv = arena_get(c->mem, (size_t)n * sizeof *l->kv);
    l->down = arena_get(c->mem, (size_t)n * sizeof *l->down);
    l->up = arena_get(c->mem, (size_t)n * sizeof *l->up);
    if (!l->kv || !l->down || !l->up) return FT_EMEM;
    int64_t width = width_of(c->m, NN_K) + width_of(c->m, NN_V);
    for (int64_t i = 0; i < n; i++) {
        FT_TRY(add(c, i, ".kv", cfg->num_virtual_tokens, width, 0.5f, &l->kv[i]));
        for (int k = 0; k < PARTS; k++) {
            FT_TRY(add(c, i, names[k][0], cfg->bottleneck, e, 0.2f, &l->down[i][k]));
            FT_TRY(add(c, i, names[k][1], e, cfg->bottleneck, 0.2f, &l->up[i][k]));
        }
    }
    c->priv = l;
    c->over.virtual_tokens = cfg->num_virtual_tokens;
    return pe_attach_target(c, &cfg->target, attach_site);
}

/* --- inside a layer ------------------------------------------------------------------------------------------------- */
/* To steps of 1/32. The gradient is that of the trained values. */
static void weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    if (!nn_slot(r, s)) return;
    int64_t n = tn_count(w->w);
    tn_tensor *coarse = ag_meta(r->t, sizeof *coarse);
    float *x = ag_keep(r->t, (size_t)n * sizeof *x);
    if (!coarse || !x) return;
    *coarse = *w->w;
    coarse->data = x;
    for (int64_t i = 0; i < n && !r->t->dry; i++) x[i] = roundf(tn_f32(w->w)[i] * 32) / 32;
    w->w = coarse;
}

/* h + y + up(silu(down(y))) */
static tn_tensor *sublayer(nn_run *r, int layer, nn_part part, tn_tensor *x, tn_tensor *y,
                           tn_tensor *h)
{
    const layered *l = ((const pe_ctx *)r->over->ctx)->priv;
    ag_weight down = {.w = &l->down[layer][part]->t}, up = {.w = &l->up[layer][part]->t};
    (void)x;
    tn_tensor *inner =
        ag_act(r->t, ag_linear(r->t, y, &down, 1, NULL), kn_act_by_name("silu"), &dt_f32);
    return ag_linear(r->t, inner, &up, 1, ag_add(r->t, y, h));
}

/* The rows that stand for no token get keys and values of their own; what they say themselves nobody hears. */
static tn_tensor *qkv(nn_run *r, int layer, const kn_attn *a, tn_tensor *x)
{
    const layered *l = ((const pe_ctx *)r->over->ctx)->priv;
    int64_t *row = ag_meta(r->t, (size_t)r->tokens * sizeof *row), n = 0;
    int32_t *id = ag_meta(r->t, (size_t)r->tokens * sizeof *id);
    if (!row || !id) return x;
    for (int64_t i = 0; i < r->tokens; i++) {
        if (r->ids[i] >= 0) continue;
        row[n] = i;
        id[n++] = -1 - r->ids[i];
    }
    if (n == 0) return x; /* a cache that holds them already */
    tn_tensor *kv = ag_embed(r->t, &l->kv[layer]->t, id, n, -1);
    return ag_put_rows(r->t, x, kv, row, (int64_t)a->n_head * a->head_dim);
}

/* --- files ------------------------------------------------------------------------------------------------------------ */
static ft_status save(const pe_ctx *c, const char *dir)
{
    const layered_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "num_virtual_tokens", (double)cfg->num_virtual_tokens);
    cJSON_AddNumberToObject(o, "bottleneck", (double)cfg->bottleneck);
    return pe_save_adapter(c, &cfg->target, o, dir);
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    layered_cfg *cfg = c->cfg;
    FT_TRY(js_get_int(d, d->root, "num_virtual_tokens", 3, 1, 1024, &cfg->num_virtual_tokens));
    FT_TRY(js_get_int(d, d->root, "bottleneck", 4, 1, 1024, &cfg->bottleneck));
    return pe_load_target(&cfg->target, d);
}

const pe_method pe_layered = {
    .name = "layered",
    .help = "keys and values of a prefix, bottlenecks, coarse matrices",
    .fields = fields,
    .cfg_size = sizeof(layered_cfg),
    .peft_type = "LAYERED",
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 1e-3,
    .check = check,
    .attach = attach,
    .hooks = {.weight = weight, .sublayer = sublayer, .qkv = qkv},
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
};
