/* adamw.c – Adam with decoupled weight decay (Loshchilov & Hutter 2019), in PyTorch's order of operations. */
#include "ft/kernel.h"
#include "ft/optim.h"

#include <math.h>

static void update(float *w, const float *g, float *const *state, int64_t n, double lr,
                   double decay, double gscale, int64_t step, const opt_cfg *cfg)
{
    double c1 = 1.0 - pow(cfg->adam_beta1, (double)step);
    double c2 = 1.0 - pow(cfg->adam_beta2, (double)step);
    kn_adamw(w, g, state[0], state[1], n, (float)lr, cfg->adam_beta1, cfg->adam_beta2,
             (float)cfg->adam_epsilon, (float)decay, c1, c2, (float)gscale);
}

extern const opt_rule opt_adamw;
const opt_rule opt_adamw = {
    .name = "adamw",
    .help = "Adam with decoupled weight decay",
    .states = 2,
    .state_name = {"exp_avg", "exp_avg_sq"},
    .update = update,
};
