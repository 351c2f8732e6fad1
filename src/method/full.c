/* full.c – full fine-tuning: every parameter is trained as an f32 copy; the result is a model folder in the base's dtype. */
#include "ft/method.h"
#include "method_private.h"

static const cfg_field fields[] = {CFG_END};

static ft_status attach(pe_ctx *c)
{
    model *m = c->m;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *p = &m->param[i];
        if (m->d.tied && p == m->head->w) continue;
        FT_TRY(pe_train_param(c, p));
    }
    return m->d.tied ? pe_tie_head(c) : FT_OK;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    return model_save(c->m, dir, &(model_save_options){0});
}

const pe_method pe_full = {
    .name = "full",
    .help = "trains every parameter; the result is a model folder",
    .fields = fields,
    .attach = attach,
    .save = save,
};
