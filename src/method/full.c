/* full.c – full fine-tuning: every parameter is trained as an f32 copy; the result is a model folder in the base's dtype. */
#include "ft/method.h"
#include "method_private.h"

static const cfg_field fields[] = {CFG_END};
/* config.json is not among them: it may be a file of the user's, and the last one written replaces it. */
static const char *const files[] = {"model.safetensors", "model.safetensors.index.json",
                                    "model-*.safetensors", NULL};

static ft_status attach(pe_ctx *c)
{
    model *m = c->m;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *p = &m->param[i];
        if (m->d.tied && p == m->head->w) continue;
        FT_TRY(nn_train_copy(&c->store, &c->over, p));
    }
    if (!m->d.tied) return FT_OK;
    return nn_alias(&c->store, *pe_own(c, m->embed->w), pe_own(c, m->head->w));
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    return model_save(c->m, dir, &(model_save_options){.over = &c->over});
}

const pe_method pe_full = {
    .name = "full",
    .keeps = true,
    .qat = true,
    .help = "trains every parameter; the result is a model folder",
    .about = "Every weight of the model is trained. It learns most from much data and forgets most "
             "of what the model knew; with AdamW it takes twelve bytes a weight beside the "
             "activations, adamw8bit and adafactor take less. The result is a model folder.",
    .paper = NULL,
    .example = "{\"type\": \"full\"}",
    .fields = fields,
    .result = PE_MODEL,
    .files = files,
    .learning_rate = 2e-5,
    .attach = attach,
    .save = save,
};
