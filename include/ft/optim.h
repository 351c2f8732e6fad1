/* optim.h – update rules, schedules and clipping over the flat ranges of pe_params.
 *
 * A rule is a file and a line of rules.def; a schedule is a row of schedule.c. Decay and learning-rate ratios are data of the
 * parameters (nn_param), so a rule sees ranges of floats and never asks whose they are. */
#ifndef FT_OPTIM_H
#define FT_OPTIM_H

#include "ft/cfg.h"
#include "ft/method.h"

/* Keys of "optim". NAN means absent: the value then depends on the schedule or the method. */
typedef struct opt_cfg {
    const char *type, *lr_scheduler_type;
    double learning_rate; /* NAN when absent: the trainer puts in the method's */
    double weight_decay, adam_beta1, adam_beta2, adam_epsilon;
    double max_grad_norm; /* 0: no clipping */
    int64_t warmup_steps; /* 0: from warmup_ratio */
    double warmup_ratio;
    double min_lr, min_lr_rate, min_lr_ratio, num_cycles, power, lr_end, start_lr, constant_lr;
    int64_t num_decay_steps, num_stable_steps, timescale, cooldown_steps, anneal_steps;
    const char *decay_type, *warmup_type;
} opt_cfg;
extern const cfg_field opt_fields[];
/* Cross-field mistakes of a parsed "optim" object, recorded with cfg_fail. learning_rate must be set. */
void opt_check(cfg_doc *d, const cJSON *object, const opt_cfg *cfg);

#define OPT_MAX_STATES 4
typedef struct opt_rule {
    const char *name, *help;
    int states;                             /* f32 arrays as long as the parameters */
    const char *state_name[OPT_MAX_STATES]; /* PyTorch's, for the files of a checkpoint */
    /* step counts from 1; g is multiplied by gscale (clipping) first. */
    void (*update)(float *w, const float *g, float *const *state, int64_t n, double lr,
                   double decay, double gscale, int64_t step, const opt_cfg *cfg);
} opt_rule;
const opt_rule *opt_rule_at(int i); /* rows of rules.def; NULL past the end */
const opt_rule *opt_rule_by_name(const char *name);

typedef struct opt_optimizer {
    const opt_rule *rule;
    const opt_cfg *cfg;
    pe_params *params;
    float *state[OPT_MAX_STATES]; /* flat, params->count each */
    int64_t total_steps;
} opt_optimizer;
FT_MUST_USE ft_status opt_open(opt_optimizer **out, const opt_cfg *cfg, pe_params *params,
                               int64_t total_steps, arena *mem);
/* Bytes of the states for `count` trainable floats. */
size_t opt_state_bytes(const opt_cfg *cfg, int64_t count);

/* Rate of optimizer step s (from 0) of total_steps, as transformers' get_…_schedule functions give it. */
double opt_rate(const opt_cfg *cfg, int64_t s, int64_t total_steps);
/* Norm of all gradients. A NaN or Inf in a gradient or a value is FT_EDIVERGED naming step (from 1) and tensor. */
FT_MUST_USE ft_status opt_grad_norm(const opt_optimizer *o, int64_t step, double *norm);
/* What clip_grad_norm_ multiplies the gradients by. */
double opt_clip(const opt_cfg *cfg, double norm);
/* Clips by `norm`, updates with the rate of step s (from 0), zeroes nothing. */
void opt_step(opt_optimizer *o, int64_t s, double norm);
#endif
