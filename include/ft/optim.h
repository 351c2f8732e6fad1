/* optim.h – update rules, schedules and clipping over the parameters of a run (nn_store).
 *
 * A rule is a file and a line of rules.def; a schedule is a row of schedule.c. Decay and
 * learning-rate ratios are data of the parameters (nn_hyper): a rule sees one tensor at a time, the
 * rate and the decay that are its, and never asks whose it is. */
#ifndef FT_OPTIM_H
#define FT_OPTIM_H

#include "ft/cfg.h"
#include "ft/nn.h"

/* Keys of "optim" that every rule has; those of a rule are its own. NAN means absent: the value
 * then depends on the schedule or the method. */
typedef struct opt_cfg {
    const char *type, *lr_scheduler_type;
    double learning_rate; /* NAN when absent: the trainer puts in the method's */
    double weight_decay;
    double max_grad_norm; /* 0: no clipping */
    int64_t warmup_steps; /* 0: from warmup_ratio */
    double warmup_ratio;
    double min_lr, min_lr_rate, min_lr_ratio, num_cycles, power, lr_end, start_lr, constant_lr;
    int64_t num_decay_steps, num_stable_steps, timescale, cooldown_steps, anneal_steps;
    const char *decay_type, *warmup_type;
} opt_cfg;
extern const cfg_field opt_fields[];
/* Cross-field mistakes of a parsed "optim" object, recorded with cfg_fail. learning_rate is set. */
void opt_check(cfg_doc *d, const cJSON *object, const opt_cfg *cfg);
/* FT_ECONFIG, with `name` in front, where phases of the schedule overlap in a run of total_steps, so
 * that its rate would jump. A run that ends before its phases do is a warning. */
FT_MUST_USE ft_status opt_check_steps(const opt_cfg *cfg, int64_t total_steps, const char *name);

#define OPT_MAX_STATES 4
/* What a rule keeps of a tensor from step to step: any storage format that has a name in
 * safetensors, any shape. Zero before step 1. Checkpoints hold it as TENSOR.NAME. */
typedef struct opt_state {
    const char *name; /* PyTorch's where it has one: "exp_avg" */
    const dt_type *type;
    int nd; /* 0: one element */
    int64_t dim[2];
} opt_state;
/* One tensor; with `elementwise` one or more that lie side by side, as one row with the padding
 * between and behind them. */
typedef struct opt_view {
    float *w;
    const float *g;
    int64_t n, rows, cols; /* n = rows · cols; a vector is one row */
    void *state[OPT_MAX_STATES];
} opt_view;
typedef struct opt_hyper {
    double lr, decay; /* of this tensor at this step */
    double gscale;    /* g is multiplied by it (clipping) first */
    int64_t step;     /* from 1 */
    bool first_form;  /* nn_hyper's */
    const void *cfg;  /* the rule's own struct */
    const void *tables; /* what `tables` made */
} opt_hyper;
typedef struct opt_rule {
    const char *name, *help;
    const cfg_field *fields; /* keys of its own beside the common ones; NULL: none */
    size_t cfg_size;
    double high_rate; /* learning rates from here on are unusual: a warning; 0: none are */
    /* Every state has one element for each of the tensor, and nothing depends on where a tensor
     * ends: neighbours with the same hyper are handed over as one view. */
    bool elementwise;
    /* What is kept of a tensor with the shape of t: their number, each described in `out`. Pure:
     * plan, checkpoint and optimizer ask by themselves. t->data may be NULL. */
    int (*states)(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES]);
    void (*update)(const opt_view *v, const opt_hyper *h); /* never of a tensor without elements */
    /* All below may be NULL. */
    /* Cross-field mistakes (cfg_fail); may also set what the rule wants of keys that are absent:
     * learning_rate is NAN then, the others are js_get of object. */
    void (*check)(cfg_doc *d, const cJSON *object, opt_cfg *common, void *cfg);
    /* What the schedule's rate is multiplied by at a step (from 1). */
    double (*shape)(const void *cfg, int64_t step);
    /* Tables that all updates share, made once, in mem; NULL: out of memory. */
    const void *(*tables)(arena *mem);
} opt_rule;
const opt_rule *opt_rule_at(int i); /* rows of rules.def; NULL past the end */
const opt_rule *opt_rule_by_name(const char *name);
const char *const *opt_rule_names(void); /* NULL-terminated */
size_t opt_state_bytes(const opt_state *s);

typedef struct opt_optimizer {
    const opt_rule *rule;
    const opt_cfg *cfg;
    const void *own; /* the rule's struct */
    nn_store *store;
    const void *tables;
    void *(*state)[OPT_MAX_STATES]; /* [store->n] data of the states of each tensor */
    int64_t total_steps;
} opt_optimizer;
/* Over the store as it is now. mem holds the states (opt_bytes) and a little for each tensor. */
FT_MUST_USE ft_status opt_open(opt_optimizer **out, const opt_rule *rule, const opt_cfg *cfg,
                               const void *own, nn_store *store, int64_t total_steps, arena *mem);
/* Bytes of all states of a store. */
size_t opt_bytes(const opt_rule *rule, const void *own, const nn_store *store);

/* Rate of optimizer step s (from 0) of total_steps, as transformers' get_…_schedule functions do. */
double opt_rate(const opt_cfg *cfg, int64_t s, int64_t total_steps);
/* The schedule has a phase of one rate that a run of more steps goes on from, before its annealing. */
bool opt_branches(const opt_cfg *cfg);
/* Is this a key of "optim" that only shapes the schedule? */
bool opt_of_schedule(const char *key);
/* The same in the rule's shape: what step s goes by. */
double opt_rate_at(const opt_optimizer *o, int64_t s);
/* Norm of all gradients. A NaN or Inf in a gradient or a value is FT_EDIVERGED naming step (from 1)
 * and tensor. */
FT_MUST_USE ft_status opt_grad_norm(const opt_optimizer *o, int64_t step, double *norm);
/* What clip_grad_norm_ multiplies the gradients by. */
double opt_clip(const opt_cfg *cfg, double norm);
/* Clips by `norm`, updates with the rate of step s (from 0), zeroes nothing. */
void opt_step(opt_optimizer *o, int64_t s, double norm);
/* The same at a rate of the caller's, as step `step` (from 1). */
void opt_update(opt_optimizer *o, double rate, int64_t step, double norm);
void opt_forget(opt_optimizer *o); /* states are zero again */
#endif
