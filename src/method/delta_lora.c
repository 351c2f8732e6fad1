/* delta_lora.c – Delta-LoRA (Zi et al. 2023): LoRA that moves its frozen weight too, by what an update changed of the product.
 *
 *   after optimizer step t > delta_start:  W += delta_ratio · s · (B_t A_t − B_{t−1} A_{t−1})
 * W has no gradient and no state of the update rule; it stands in f32 in the model's place, and in checkpoints. The result is
 * the model with s · B A added. With keep_zeros both are masked: W += M ⊙ …, and the model computes with W + M ⊙ s · B A. */
#include "ft/method.h"
#include "ft/kernel.h"
#include "lora_private.h"
#include "method_private.h"

#include <string.h>

typedef struct delta_cfg {
    lora_cfg lora;
    double delta_ratio;
    int64_t delta_start;
} delta_cfg;

enum { PART = 64 };

/* What a step changes, for one module after another. */
typedef struct delta {
    nn_param **a, **b;   /* [n_site] states: A and B before the step; NULL: no target */
    float *left, *right; /* [rows of W, 2r], [columns of W, 2r] */
    float *part;         /* [PART, columns of W] with keep_zeros: rows of what is added */
} delta;

static const cfg_field fields[] = {
    PE_LORA_FIELDS,
    {.key = "delta_ratio",
     .type = CFG_FLOAT,
     .offset = offsetof(delta_cfg, delta_ratio),
     .def = "2.0",
     .low = 0,
     .high = 1e9,
     .help = "the weight moves by this times the change of the product"},
    {.key = "delta_start",
     .type = CFG_INT,
     .offset = offsetof(delta_cfg, delta_start),
     .def = "500",
     .low = 0,
     .high = 1e12,
     .help = "steps of plain LoRA before that"},
    CFG_END,
};

/* Dropout would make the gradient of B A another one than that of W. */
static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    const delta_cfg *c = ctx;
    pe_lora_check(d, object, ctx);
    if (c->lora.lora_dropout > 0)
        cfg_fail(d, js_get(object, "lora_dropout"), "method.lora_dropout",
                 "must be 0: delta_lora moves the weight by the change of B A, which dropout tears "
                 "apart");
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
static ft_status own_weight(pe_ctx *c, const nn_site *s)
{
    nn_param *w = s->w, *own;
    const bool coded = w->t.type->block > 1 || w->t.type->read;
    FT_CHECK(
        !coded, FT_ECONFIG,
        "method.type: delta_lora moves \"%s\", which the base has in blocks (%s); use a base in "
        "numbers, or method.type \"qlora\"",
        w->name, w->t.type->name);
    FT_TRY(nn_new_state(&c->store, w->name, w->t.dim[0], w->t.dim[1], &own));
    own->file_type = w->file_type;
    own->hf_turned = w->hf_turned;
    if (w->t.data && !c->dry) tn_unpack_rows(tn_f32(&own->t), &w->t, 0, tn_rows(&w->t));
    *pe_own(c, w) = own;
    return FT_OK;
}

static ft_status state_of(pe_ctx *c, const nn_param *p, nn_param **out)
{
    const char *name = arena_printf(c->mem, "%s.before", p->name);
    if (!name) return FT_EMEM;
    FT_TRY(nn_new_state(&c->store, name, p->t.dim[0], p->t.dim[1], out));
    return FT_OK;
}

static void copy(const nn_param *to, const nn_param *from)
{
    memcpy(to->t.data, from->t.data, (size_t)tn_count(&from->t) * sizeof(float));
}

/* The values before the first step; again where they come from an adapter. */
static void begin(pe_ctx *c)
{
    const delta *own = c->priv;
    for (int64_t i = 0; i < c->m->n_site && !c->dry; i++) {
        const lora_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (!slot) continue;
        copy(own->a[i], slot->a);
        copy(own->b[i], slot->b);
    }
}

static ft_status attach(pe_ctx *c)
{
    delta *own = c->priv = arena_get(c->mem, sizeof *own);
    int64_t left = 0, right = 0, part = 0;
    if (!own) return FT_EMEM;
    own->a = arena_get(c->mem, (size_t)c->m->n_site * sizeof *own->a);
    own->b = arena_get(c->mem, (size_t)c->m->n_site * sizeof *own->b);
    if (!own->a || !own->b) return FT_EMEM;
    FT_TRY(pe_lora_attach(c));
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        const lora_slot *slot = nn_slot_of(&c->over, s);
        if (!slot) continue;
        const int64_t r = slot->b->t.dim[1], *dim = s->w->t.dim;
        FT_TRY(own_weight(c, s));
        FT_TRY(state_of(c, slot->a, &own->a[i]));
        FT_TRY(state_of(c, slot->b, &own->b[i]));
        if (2 * r * dim[0] > left) left = 2 * r * dim[0];
        if (2 * r * dim[1] > right) right = 2 * r * dim[1];
        if (c->keep_zeros && PART * dim[1] > part) part = PART * dim[1];
    }
    own->left = arena_get(c->mem, (size_t)left * sizeof(float));
    own->right = arena_get(c->mem, (size_t)right * sizeof(float));
    own->part = arena_get(c->mem, (size_t)part * sizeof(float));
    if (!own->left || !own->right || !own->part) return FT_EMEM;
    begin(c);
    return FT_OK;
}

static ft_status load(pe_ctx *c)
{
    FT_TRY(pe_load_adapter(c));
    begin(c);
    return FT_OK;
}

/* --- moving the weight ---------------------------------------------------------------------------------------------- */
/* [n, 2r]: factor of a side of W, [n, r] or turned [r, n], beside its change; of the other side the change comes first, beside
 * the factor as it was: B A − B' A' = B (A − A') + (B − B') A'. */
static void stack(float *to, const nn_param *now, const nn_param *before, bool turned, int64_t r,
                  bool change_first, float scale)
{
    const int64_t n = tn_count(&now->t) / r;
    for (int64_t i = 0; i < n; i++, to += 2 * r) {
        for (int64_t k = 0; k < r; k++) {
            const int64_t at = turned ? k * n + i : i * r + k;
            const float x = tn_f32(&now->t)[at], was = tn_f32(&before->t)[at];
            to[k] = scale * (change_first ? x - was : x);
            to[r + k] = scale * (change_first ? was : x - was);
        }
    }
}

/* W of a linear layer is [out, in] like B A, of GPT-2's [in, out]; of a table [rows, width] like A Bᵀ as they are kept. */
static void move(const pe_ctx *c, const nn_site *s, const lora_slot *slot)
{
    const delta_cfg *cfg = c->cfg;
    const delta *own = c->priv;
    const nn_param *w = c->over.own[s->w->index], *a = own->a[s->index], *b = own->b[s->index];
    const int64_t r = slot->b->t.dim[1], rows = w->t.dim[0], cols = w->t.dim[1];
    const float scale = (float)cfg->delta_ratio * slot->scale;
    const bool table = pe_lora_is_table(s), a_left = table || s->in_out;
    const kn_mat right = {.type = &dt_f32, .data = own->right, .rows = cols, .cols = 2 * r};
    stack(a_left ? own->left : own->right, slot->a, a, !table, r, !a_left, a_left ? scale : 1.0f);
    stack(a_left ? own->right : own->left, slot->b, b, false, r, a_left, a_left ? 1.0f : scale);
    if (!c->keep) kn_gemm_nt(tn_f32(&w->t), cols, own->left, 2 * r, &right, rows, NULL, true);
    for (int64_t n, r0 = 0; c->keep && r0 < rows; r0 += n) {
        n = rows - r0 < PART ? rows - r0 : PART;
        kn_gemm_nt(own->part, cols, own->left + r0 * 2 * r, 2 * r, &right, n, NULL, false);
        pe_keep_add(c, s, tn_f32(&w->t), own->part, r0, n);
    }
}

static ft_status after_update(pe_ctx *c, const pe_update *u)
{
    const delta_cfg *cfg = c->cfg;
    for (int64_t i = 0; u->step > cfg->delta_start && i < c->m->n_site; i++) {
        const lora_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (slot) move(c, &c->m->site[i], slot);
    }
    begin(c);
    return FT_OK;
}

/* --- the result ------------------------------------------------------------------------------------------------------ */
static ft_status save(const pe_ctx *c, const char *dir)
{
    FT_TRY(pe_keep_make(c));                          /* of the values as they are now */
    const model_fold folder = pe_folder(c->over.ctx); /* what is folded is only read */
    return model_save(c->m, dir, &(model_save_options){.over = &c->over, .fold = folder});
}

/* config.json is not among them, as with full. */
static const char *const files[] = {"model.safetensors", "model.safetensors.index.json",
                                    "model-*.safetensors", NULL};

const pe_method pe_delta_lora = {
    .name = "delta_lora",
    .help = "LoRA that moves the weights along; the result is a model folder",
    .about = "LoRA, and from step delta_start on the frozen weight moves too, by delta_ratio times "
             "what a step changed of B A: more of the model learns at nearly LoRA's cost. Take it "
             "where LoRA learns too little and full training does not fit; targets take four bytes "
             "a weight, and the result is a model of its own.",
    .paper = "Zi et al. 2023, Delta-LoRA: Fine-Tuning High-Rank Parameters with the Delta of "
             "Low-Rank Matrices",
    .example = "{\"type\": \"delta_lora\", \"r\": 8, \"delta_ratio\": 2, \"delta_start\": 500}",
    .fields = fields,
    .cfg_size = sizeof(delta_cfg),
    .peft_type = "LORA",
    .result = PE_MODEL,
    .files = files,
    .learning_rate = 2e-4,
    .check = check,
    .attach = attach,
    .hooks = {.weight = pe_lora_weight, .embed = pe_lora_embed},
    .after_update = after_update,
    .save = save,
    .load_config = pe_lora_load_config,
    .load = load,
    .fold = pe_lora_fold,
    .unfold = pe_lora_unfold,
};
