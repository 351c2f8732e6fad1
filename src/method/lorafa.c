/* lorafa.c – LoRA-FA (Zhang et al. 2023): LoRA whose A stays as it was drawn. The input of A is then not needed for a
 * gradient, and B alone has optimizer states. Update and projection are those of peft.optimizers.create_lorafa_optimizer:
 *
 *   g = (1/s²) · g_B (A Aᵀ + 1e-8 I)⁻¹,  then Adam in its first form with ε = adam_epsilon (1e-6 unless it is set):
 *   B −= lr · √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε), and then B −= lr · weight_decay · B.
 * g is the change of B for which s·ΔB·A is nearest to the gradient of W. Clipping sees g_B. All else is lora.c's. */
#include "ft/method.h"
#include "lora_private.h"

#include <math.h>
#include <string.h>

typedef struct lorafa_site {
    const lora_slot *slot;
    bool table;
    float *inverse; /* [r, r] of A Aᵀ + 1e-8 I */
} lorafa_site;

typedef struct lorafa_room {
    lorafa_site *site; /* [n] */
    int64_t n;
    bool ready;     /* the inverses are those of the A that training has */
    float *product; /* [width, r] of the largest site */
    double *gram;   /* [r, r] of the largest */
} lorafa_room;

static void check(cfg_doc *d, const cJSON *object, void *cfg)
{
    const cJSON *type = js_get(js_get(d->js.root, "optim"), "type");
    pe_lora_check(d, object, cfg);
    if (cJSON_IsString(type) && strcmp(type->valuestring, "adamw") != 0)
        cfg_fail(d, type, "optim.type", "must be \"adamw\" with method.type \"lorafa\"");
    if (((const lora_cfg *)cfg)->lora_alpha == 0.0)
        cfg_fail(d, js_get(object, "lora_alpha"), "method.lora_alpha",
                 "must be above 0: gradients are divided by the scale it gives");
}

/* --- attaching --------------------------------------------------------------------------------------------------------- */
static ft_status make_room(pe_ctx *c, lorafa_room *room)
{
    int64_t product = 1, rank = 1;
    room->site = arena_get(c->mem, (size_t)(c->m->n_site + 1) * sizeof *room->site);
    if (!room->site) return FT_EMEM;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *at = &c->m->site[i];
        const lora_slot *slot = nn_slot_of(&c->over, at);
        if (!slot) continue;
        const int64_t r = slot->b->t.dim[1], count = tn_count(&slot->b->t);
        lorafa_site *s = &room->site[room->n++];
        s->slot = slot;
        s->table = pe_lora_is_table(at);
        s->inverse = arena_get(c->mem, (size_t)(r * r) * sizeof *s->inverse);
        if (!s->inverse) return FT_EMEM;
        if (r > rank) rank = r;
        if (count > product) product = count;
    }
    room->product = arena_get(c->mem, (size_t)product * sizeof *room->product);
    room->gram = arena_get(c->mem, (size_t)(rank * rank) * sizeof *room->gram);
    return room->product && room->gram ? FT_OK : FT_EMEM;
}

static ft_status attach(pe_ctx *c)
{
    lorafa_room *room = c->priv = arena_get(c->mem, sizeof *room);
    if (!room) return FT_EMEM;
    ((lora_cfg *)c->cfg)->frozen_a = true;
    FT_TRY(pe_lora_attach(c));
    for (int64_t i = 0; i < c->store.n; i++) c->store.param[i]->hyper.first_form = true;
    return make_room(c, room);
}

/* --- updates ------------------------------------------------------------------------------------------------------------ */
/* gram [r, r] = A Aᵀ; that of a table is kept transposed. */
static void gram_of(double *gram, const lorafa_site *s, int64_t r)
{
    const tn_tensor *a = &s->slot->a->t;
    const int64_t n = s->table ? a->dim[0] : a->dim[1];
    const int64_t row = s->table ? 1 : n, step = s->table ? r : 1;
    for (int64_t i = 0; i < r; i++) {
        for (int64_t j = 0; j <= i; j++) {
            const float *x = tn_f32(a) + i * row, *y = tn_f32(a) + j * row;
            double sum = 0.0;
            for (int64_t k = 0; k < n; k++) sum += (double)x[k * step] * (double)y[k * step];
            gram[i * r + j] = gram[j * r + i] = sum;
        }
    }
}

static ft_status before_step(pe_ctx *c, int64_t step)
{
    lorafa_room *room = c->priv;
    (void)step;
    for (int64_t i = 0; !room->ready && i < room->n; i++) {
        const lorafa_site *s = &room->site[i];
        const int64_t r = s->slot->b->t.dim[1];
        gram_of(room->gram, s, r);
        for (int64_t k = 0; k < r; k++) room->gram[k * r + k] += 1e-8;
        FT_CHECK(kn_spd_inverse(room->gram, r), FT_EDATA,
                 "%s: A has rows too large or too alike to be inverted", s->slot->a->name);
        for (int64_t k = 0; k < r * r; k++) s->inverse[k] = (float)room->gram[k];
    }
    room->ready = true;
    return FT_OK;
}

static void transform(pe_ctx *c)
{
    const lorafa_room *room = c->priv;
    for (int64_t i = 0; i < room->n; i++) {
        const lorafa_site *s = &room->site[i];
        const tn_tensor *b = &s->slot->b->t;
        const int64_t rows = b->dim[0], r = b->dim[1];
        const kn_mat inverse = {.type = &dt_f32, .data = s->inverse, .rows = r, .cols = r};
        const float scale = s->slot->scale;
        kn_gemm_nn(room->product, r, b->grad, r, &inverse, rows, NULL, false);
        kn_mul_cols(b->grad, r, room->product, r, NULL, 1.0f / (scale * scale), rows, r, false);
    }
}

/* --- the row ------------------------------------------------------------------------------------------------------------ */
static const cfg_field fields[] = {PE_LORA_FIELDS, CFG_END};
static const pe_default optim[] = {{"adam_epsilon", "1e-6"}, {NULL, NULL}};

const pe_method pe_lorafa = {
    .name = "lorafa",
    .qat = true,
    .help = "LoRA with a frozen A; the result is a PEFT adapter",
    .about = "LoRA that trains B alone, and corrects its gradient for the A that was drawn. Take "
             "it where memory is short: nothing is kept for the gradient of A, and half of the "
             "optimizer's states are gone; a step is a little faster. A random A that stays "
             "wants a higher r. optim.type is adamw, with epsilon 1e-6.",
    .paper = "Zhang et al. 2023, LoRA-FA: Memory-efficient Low-rank Adaptation",
    .example = "{\"type\": \"lorafa\", \"r\": 16, \"lora_alpha\": 32}",
    .fields = fields,
    .cfg_size = sizeof(lora_cfg),
    PE_LORA_COMMON,
    .check = check,
    .optim = optim,
    .attach = attach,
    .before_step = before_step,
    .transform = transform,
};
