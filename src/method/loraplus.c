/* loraplus.c – LoRA+ (Hayou et al. 2024): LoRA whose B learns faster than its A. Everything but the rates is lora.c's.
 *
 * The groups are those of peft.optimizers.create_loraplus_optimizer:
 *   factors of embeddings              loraplus_lr_embedding, in the schedule's shape
 *   B, and every vector that is trained  loraplus_lr_ratio times the rate; biases and LayerNorm's do not decay
 *   A, and every other matrix          the rate
 * All but the exceptions decay by loraplus_weight_decay, or by optim.weight_decay where that is not given. */
#include "ft/method.h"
#include "lora_private.h"
#include "method_private.h"

#include <math.h>

typedef struct loraplus_cfg {
    lora_cfg lora;
    double lr_ratio, lr_embedding, weight_decay; /* weight_decay NAN: optim's */
} loraplus_cfg;

#define ROW(k, member, d, h, ...)                                                                  \
    {                                                                                              \
        .key = #k, .type = CFG_FLOAT, .offset = offsetof(loraplus_cfg, member), .def = d,          \
        .low = 0, .high = 1e9, .help = h, __VA_ARGS__                                              \
    }
static const cfg_field fields[] = {
    PE_LORA_FIELDS,
    PE_DORA_FIELD("false"),
    /* with 0 a B that begins as zero would stay it */
    ROW(loraplus_lr_ratio, lr_ratio, "16", "learning rate of B over that of A", .low_open = true),
    ROW(loraplus_lr_embedding, lr_embedding, "1e-6", "learning rate of factors of embeddings", ),
    ROW(loraplus_weight_decay, weight_decay, NULL, "in place of optim.weight_decay", ),
    CFG_END,
};

static void put(nn_param *p, const loraplus_cfg *c, double ratio, double fixed, bool decays)
{
    const bool own = !isnan(c->weight_decay);
    p->hyper = (nn_hyper){.lr_ratio = (float)ratio,
                          .lr_fixed = (float)fixed,
                          .decay_ratio = decays && !own ? 1.0f : 0.0f,
                          .decay_fixed = decays && own ? (float)c->weight_decay : 0.0f};
}

/* A LayerNorm is the norm that has a bias; an RMSNorm decays as other vectors do. */
static void put_norm(pe_ctx *c, const loraplus_cfg *cfg, const model_norm *norm)
{
    nn_param *own = norm->w && norm->b ? *pe_own(c, norm->w) : NULL;
    if (own) put(own, cfg, cfg->lr_ratio, 0.0, false);
}

/* What is trained beside the factors: modules_to_save and biases. */
static void put_copies(pe_ctx *c, const loraplus_cfg *cfg)
{
    for (int64_t i = 0; i < c->store.n; i++) {
        nn_param *p = c->store.param[i];
        bool vector = p->t.nd < 2;
        put(p, cfg, vector ? cfg->lr_ratio : 1.0, 0.0, !str_ends(p->name, "bias"));
    }
    put_norm(c, cfg, &c->m->norm);
    for (int64_t l = 0; l < c->m->d.n_layer; l++) {
        const model_layer *layer = &c->m->layer[l];
        for (int k = 0; k < layer->n_sub; k++) put_norm(c, cfg, &layer->sub[k].norm);
    }
}

static ft_status attach(pe_ctx *c)
{
    const loraplus_cfg *cfg = c->cfg;
    FT_TRY(pe_lora_attach(c));
    put_copies(c, cfg);
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        const lora_slot *slot = nn_slot_of(&c->over, s);
        if (!slot) continue;
        const bool table = pe_lora_is_table(s);
        put(slot->a, cfg, table ? 0.0 : 1.0, table ? cfg->lr_embedding : 0.0, true);
        put(slot->b, cfg, table ? 0.0 : cfg->lr_ratio, table ? cfg->lr_embedding : 0.0, true);
        if (slot->m) put(slot->m, cfg, cfg->lr_ratio, 0.0, true);
    }
    return FT_OK;
}

const pe_method pe_loraplus = {
    .name = "loraplus",
    .qat = true,
    .help = "LoRA with a higher learning rate for B; the result is a PEFT adapter",
    .about = "LoRA whose B learns loraplus_lr_ratio times faster than its A, as a wide layer wants "
             "it. Take it where LoRA learns slowly; begin with a rate below that of LoRA.",
    .paper = "Hayou et al. 2024, LoRA+: Efficient Low Rank Adaptation of Large Models",
    .example = "{\"type\": \"loraplus\", \"r\": 8, \"loraplus_lr_ratio\": 16}",
    .fields = fields,
    .cfg_size = sizeof(loraplus_cfg),
    PE_LORA_ROW,
    .attach = attach,
    .before_step = pe_lora_before_step,
};
