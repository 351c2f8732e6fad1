/* lion.c – Lion (Chen et al. 2023): the sign of an interpolated momentum, with decoupled decay, as bitsandbytes' Lion. */
#include "ft/optim.h"
#include "optim_private.h"

typedef struct lion_cfg {
    double adam_beta1, adam_beta2;
} lion_cfg;

static const cfg_field fields[] = {
    {.key = "adam_beta1",
     .type = CFG_FLOAT,
     .offset = offsetof(lion_cfg, adam_beta1),
     .def = "0.9",
     .low = 0,
     .high = 0.9999999,
     .help = "share of the momentum in the step's direction"},
    {.key = "adam_beta2",
     .type = CFG_FLOAT,
     .offset = offsetof(lion_cfg, adam_beta2),
     .def = "0.99",
     .low = 0,
     .high = 0.9999999,
     .help = "decay of the momentum"},
    CFG_END,
};

static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    (void)cfg;
    out[0] = (opt_state){"exp_avg", &dt_f32, t->nd, {t->dim[0], t->dim[1]}};
    return 1;
}

typedef struct coef {
    float gscale, lr, keep, b1, b1c, b2, b2c;
} coef;

static void piece(const opt_view *v, const void *coefs, int64_t first, int64_t n)
{
    const coef k = *(const coef *)coefs;
    float *restrict w = v->w + first, *restrict m = (float *)v->state[0] + first;
    const float *restrict g = v->g + first;
    for (int64_t i = 0; i < n; i++) {
        float grad = k.gscale * g[i], way = m[i] * k.b1 + k.b1c * grad;
        float sign = (float)(way > 0.0f) - (float)(way < 0.0f);
        w[i] = w[i] * k.keep - k.lr * sign;
        m[i] = m[i] * k.b2 + k.b2c * grad;
    }
}

static void update(const opt_view *v, const opt_hyper *h)
{
    const lion_cfg *c = h->cfg;
    coef k = {.gscale = (float)h->gscale,
              .lr = (float)h->lr,
              .keep = (float)(1.0 - h->lr * h->decay),
              .b1 = (float)c->adam_beta1,
              .b1c = (float)(1.0 - c->adam_beta1),
              .b2 = (float)c->adam_beta2,
              .b2c = (float)(1.0 - c->adam_beta2)};
    opt_pieces(piece, v, &k);
}

extern const opt_rule opt_lion;
const opt_rule opt_lion = {
    .name = "lion",
    .help = "sign of the momentum, decoupled decay; wants a third to a tenth of adamw's rate",
    .fields = fields,
    .cfg_size = sizeof(lion_cfg),
    .high_rate = 1e-3,
    .elementwise = true,
    .states = states,
    .update = update,
};
