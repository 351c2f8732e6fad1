/* optim.h – update rules, schedules, clipping over the flat ranges of pe_params. A rule is a file and a line of rules.def. */
#ifndef FT_OPTIM_H
#define FT_OPTIM_H

#include "ft/cfg.h"
#include "ft/method.h"

typedef struct opt_cfg {
    const char *type, *lr_scheduler_type;
    double learning_rate; /* NAN when absent: the trainer puts in 2e-4, full 2e-5 */
    double weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
    int64_t warmup_steps; /* −1: from warmup_ratio */
    double warmup_ratio;
    double min_lr, min_lr_rate, num_cycles, power, lr_end; /* schedule keys, transformers' names */
    int64_t num_decay_steps, num_stable_steps, timescale;
    const char *decay_type, *warmup_type;
} opt_cfg;
extern const cfg_field opt_fields[];

typedef struct opt_rule {
    const char *name, *help;
    int states; /* f32 arrays as long as the parameters */
    void (*update)(float *w, const float *g, float *const *state, int64_t n, double lr,
                   double decay, double gscale, int64_t step, const opt_cfg *cfg);
} opt_rule;
const opt_rule *opt_rule_at(int i);

typedef struct opt_optimizer {
    const opt_rule *rule;
    const opt_cfg *cfg;
    pe_params *params;
    float *state[4]; /* flat, params->count each */
    int64_t total_steps;
} opt_optimizer;
FT_MUST_USE ft_status opt_open(opt_optimizer **out, const opt_cfg *cfg, pe_params *params,
                               int64_t total_steps, arena *mem);
/* Rate of optimizer step s (from 0), as transformers' schedules give it. */
double opt_rate(const opt_cfg *cfg, int64_t s, int64_t total_steps);
/* Norm of all gradients; a NaN/Inf gradient or value is FT_EDIVERGED naming step and tensor. */
FT_MUST_USE ft_status opt_grad_norm(const opt_optimizer *o, int64_t step, double *norm);
/* Clips by `norm`, updates with the rate of step s, zeroes nothing. */
FT_MUST_USE ft_status opt_step(opt_optimizer *o, int64_t s, double norm);
#endif
