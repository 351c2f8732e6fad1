/* rmsprop.c – RMSprop (Hinton 2012) as torch.optim.RMSprop: centred or not, with momentum or without; decay is added to the
 * gradient. */
#include "ft/optim.h"
#include "optim_private.h"

#include <math.h>

typedef struct rmsprop_cfg {
    double alpha, eps, momentum;
    bool centered;
} rmsprop_cfg;

static const cfg_field fields[] = {
    {.key = "alpha",
     .type = CFG_FLOAT,
     .offset = offsetof(rmsprop_cfg, alpha),
     .def = "0.99",
     .low = 0,
     .high = 0.9999999,
     .help = "decay of the mean square"},
    {.key = "eps",
     .type = CFG_FLOAT,
     .offset = offsetof(rmsprop_cfg, eps),
     .def = "1e-8",
     .low = 0,
     .high = 1,
     .low_open = true,
     .help = "added to the root of the mean square"},
    {.key = "momentum",
     .type = CFG_FLOAT,
     .offset = offsetof(rmsprop_cfg, momentum),
     .def = "0",
     .low = 0,
     .high = 1,
     .help = "share of the last step's direction that is kept"},
    {.key = "centered",
     .type = CFG_BOOL,
     .offset = offsetof(rmsprop_cfg, centered),
     .def = "false",
     .help = "divide by the standard deviation in place of the mean square"},
    CFG_END,
};

enum { SQUARE, BUFFER, MEAN }; /* places of the states in `held` */

/* Which states there are, in their order; returns their number. */
static int held(const rmsprop_cfg *c, int place[3])
{
    int n = 0;
    place[SQUARE] = n++;
    place[BUFFER] = c->momentum > 0 ? n++ : -1;
    place[MEAN] = c->centered ? n++ : -1;
    return n;
}

static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    static const char *const names[] = {"square_avg", "momentum_buffer", "grad_avg"};
    int place[3], n = held(cfg, place);
    for (int i = 0; i < 3; i++) {
        if (place[i] < 0) continue;
        out[place[i]] = (opt_state){names[i], &dt_f32, t->nd, {t->dim[0], t->dim[1]}};
    }
    return n;
}

typedef struct coef {
    float gscale, lr, decay, alpha, alpha_c, eps, momentum;
    int place[3];
} coef;

static void piece(const opt_view *v, const void *coefs, int64_t first, int64_t n)
{
    const coef k = *(const coef *)coefs;
    float *restrict w = v->w + first, *restrict square = (float *)v->state[0] + first;
    float *restrict b = k.place[BUFFER] < 0 ? NULL : (float *)v->state[k.place[BUFFER]] + first;
    float *restrict mean = k.place[MEAN] < 0 ? NULL : (float *)v->state[k.place[MEAN]] + first;
    const float *restrict g = v->g + first;
    for (int64_t i = 0; i < n; i++) {
        float grad = k.gscale * g[i] + k.decay * w[i];
        square[i] = square[i] * k.alpha + k.alpha_c * grad * grad;
        float var = square[i];
        if (mean) {
            mean[i] = mean[i] + k.alpha_c * (grad - mean[i]);
            var -= mean[i] * mean[i];
            var = var > 0.0f ? var : 0.0f; /* rounding */
        }
        float step = grad / (sqrtf(var) + k.eps);
        if (b) step = b[i] = b[i] * k.momentum + step;
        w[i] -= k.lr * step;
    }
}

static void update(const opt_view *v, const opt_hyper *h)
{
    const rmsprop_cfg *c = h->cfg;
    coef k = {.gscale = (float)h->gscale,
              .lr = (float)h->lr,
              .decay = (float)h->decay,
              .alpha = (float)c->alpha,
              .alpha_c = (float)(1.0 - c->alpha),
              .eps = (float)c->eps,
              .momentum = (float)c->momentum};
    held(c, k.place);
    opt_pieces(piece, v, &k);
}

extern const opt_rule opt_rmsprop;
const opt_rule opt_rmsprop = {
    .name = "rmsprop",
    .help = "gradients over the root of their mean square",
    .fields = fields,
    .cfg_size = sizeof(rmsprop_cfg),
    .high_rate = 0.01,
    .elementwise = true,
    .states = states,
    .update = update,
};
