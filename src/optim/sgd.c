/* sgd.c – stochastic gradient descent with momentum, dampening and Nesterov's look-ahead, as torch.optim.SGD: decay is added
 * to the gradient, and the buffer begins as the first gradient, undamped. */
#include "ft/optim.h"
#include "optim_private.h"

typedef struct sgd_cfg {
    double momentum, dampening;
    bool nesterov;
} sgd_cfg;

static const cfg_field fields[] = {
    {.key = "momentum",
     .type = CFG_FLOAT,
     .offset = offsetof(sgd_cfg, momentum),
     .def = "0",
     .low = 0,
     .high = 1,
     .help = "share of the last step's direction that is kept; 0.9 is usual"},
    {.key = "dampening",
     .type = CFG_FLOAT,
     .offset = offsetof(sgd_cfg, dampening),
     .def = "0",
     .low = 0,
     .high = 1,
     .help = "share of the gradient that does not enter the momentum"},
    {.key = "nesterov",
     .type = CFG_BOOL,
     .offset = offsetof(sgd_cfg, nesterov),
     .def = "false",
     .help = "look ahead by the momentum"},
    CFG_END,
};

static void check(cfg_doc *d, const cJSON *object, opt_cfg *common, void *own)
{
    const sgd_cfg *c = own;
    (void)common;
    if (c->nesterov && (c->momentum <= 0 || c->dampening != 0))
        cfg_fail(d, js_get(object, "nesterov"), "optim.nesterov",
                 "needs momentum above 0 and no dampening");
}

static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    const sgd_cfg *c = cfg;
    if (c->momentum <= 0) return 0;
    out[0] = (opt_state){"momentum_buffer", &dt_f32, t->nd, {t->dim[0], t->dim[1]}};
    return 1;
}

typedef struct coef {
    float gscale, lr, decay, keep, take; /* buffer = keep · buffer + take · gradient */
    float ahead;                         /* of Nesterov: momentum */
    bool nesterov;
} coef;

static void plain(const opt_view *v, const void *coefs, int64_t first, int64_t n)
{
    const coef k = *(const coef *)coefs;
    float *restrict w = v->w + first;
    const float *restrict g = v->g + first;
    for (int64_t i = 0; i < n; i++) w[i] -= k.lr * (k.gscale * g[i] + k.decay * w[i]);
}

static void moving(const opt_view *v, const void *coefs, int64_t first, int64_t n)
{
    const coef k = *(const coef *)coefs;
    float *restrict w = v->w + first, *restrict b = (float *)v->state[0] + first;
    const float *restrict g = v->g + first;
    for (int64_t i = 0; i < n; i++) {
        float grad = k.gscale * g[i] + k.decay * w[i];
        b[i] = k.keep * b[i] + k.take * grad;
        w[i] -= k.lr * (k.nesterov ? grad + k.ahead * b[i] : b[i]);
    }
}

static void update(const opt_view *v, const opt_hyper *h)
{
    const sgd_cfg *c = h->cfg;
    bool begin = h->step == 1;
    coef k = {.gscale = (float)h->gscale,
              .lr = (float)h->lr,
              .decay = (float)h->decay,
              .keep = begin ? 0.0f : (float)c->momentum,
              .take = begin ? 1.0f : (float)(1.0 - c->dampening),
              .ahead = (float)c->momentum,
              .nesterov = c->nesterov};
    opt_pieces(c->momentum > 0 ? moving : plain, v, &k);
}

extern const opt_rule opt_sgd;
const opt_rule opt_sgd = {
    .name = "sgd",
    .help = "gradient descent with momentum; needs higher rates than adamw, 0.01 to 1",
    .fields = fields,
    .cfg_size = sizeof(sgd_cfg),
    .elementwise = true,
    .states = states,
    .update = update,
    .check = check,
};
