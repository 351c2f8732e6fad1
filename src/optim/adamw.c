/* adamw.c – Adam with decoupled weight decay (Loshchilov & Hutter 2019), in PyTorch's order of operations; or in that of the
 * paper's algorithm (nn_hyper.first_form): epsilon beside the uncorrected root, which is ε/√c2 beside the corrected one, and
 * decay of what the step left. */
#include "ft/kernel.h"
#include "ft/optim.h"

#include <math.h>

typedef struct adamw_cfg {
    double adam_beta1, adam_beta2, adam_epsilon;
} adamw_cfg;

#define ROW(k, d, hi, h)                                                                           \
    {                                                                                              \
        .key = #k, .type = CFG_FLOAT, .offset = offsetof(adamw_cfg, k), .def = d, .low = 0,        \
        .high = hi, .help = h                                                                      \
    }
static const cfg_field fields[] = {
    ROW(adam_beta1, "0.9", 0.9999999, "decay of the first moment"),
    ROW(adam_beta2, "0.999", 0.9999999, "decay of the second moment"),
    ROW(adam_epsilon, "1e-8", 1, "added to the root of the second moment"),
    CFG_END,
};

static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    (void)cfg;
    out[0] = (opt_state){"exp_avg", &dt_f32, t->nd, {t->dim[0], t->dim[1]}};
    out[1] = (opt_state){"exp_avg_sq", &dt_f32, t->nd, {t->dim[0], t->dim[1]}};
    return 2;
}

static void update(const opt_view *v, const opt_hyper *h)
{
    const adamw_cfg *cfg = h->cfg;
    double c1 = 1.0 - pow(cfg->adam_beta1, (double)h->step);
    double c2 = 1.0 - pow(cfg->adam_beta2, (double)h->step);
    const double epsilon = h->first_form ? cfg->adam_epsilon / sqrt(c2) : cfg->adam_epsilon;
    kn_adamw(v->w, v->g, v->state[0], v->state[1], v->n, (float)h->lr, cfg->adam_beta1,
             cfg->adam_beta2, (float)epsilon, h->first_form ? 0.0f : (float)h->decay, c1, c2,
             (float)h->gscale);
    if (h->first_form && h->decay > 0.0) kn_scale(v->w, (float)(1.0 - h->lr * h->decay), v->n);
}

extern const opt_rule opt_adamw;
const opt_rule opt_adamw = {
    .name = "adamw",
    .help = "Adam with decoupled weight decay",
    .fields = fields,
    .cfg_size = sizeof(adamw_cfg),
    .high_rate = 0.01,
    .elementwise = true,
    .states = states,
    .update = update,
};
