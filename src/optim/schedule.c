/* schedule.c – learning rates as a pure function of the step, so that a resumed run needs no scheduler state.
 *
 * The rows named as in transformers give what its get_…_schedule functions give (optimization.py); rewarm and infinite are
 * those of continued pretraining (Ibrahim et al. 2024; Gupta et al. 2023). */
#include "optim_private.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

typedef struct plan {
    const opt_cfg *cfg;
    double s, total, warm; /* step from 0, S, W */
    double peak;
} plan;
typedef double (*rate_fn)(const plan *p);

static double at_least_1(double x)
{
    return x > 1.0 ? x : 1.0;
}

static double or_default(double x, double def)
{
    return isnan(x) ? def : x;
}

static bool warming(const plan *p)
{
    return p->s < p->warm;
}

static double warm_up(const plan *p)
{
    return p->peak * (p->s / at_least_1(p->warm));
}

/* Share of the steps after warm-up that are done. */
static double progress(const plan *p)
{
    return (p->s - p->warm) / at_least_1(p->total - p->warm);
}

static double constant(const plan *p)
{
    return p->peak;
}

static double constant_with_warmup(const plan *p)
{
    return warming(p) ? warm_up(p) : p->peak;
}

static double linear(const plan *p)
{
    if (warming(p)) return warm_up(p);
    double left = (p->total - p->s) / at_least_1(p->total - p->warm);
    return p->peak * (left > 0 ? left : 0);
}

static double half_cosine(double cycles, double x)
{
    return 0.5 * (1.0 + cos(PI * cycles * 2.0 * x));
}

static double cosine(const plan *p)
{
    if (warming(p)) return warm_up(p);
    double f = half_cosine(or_default(p->cfg->num_cycles, 0.5), progress(p));
    return p->peak * (f > 0 ? f : 0);
}

static double cosine_with_min_lr(const plan *p)
{
    if (warming(p)) return warm_up(p);
    double low = p->cfg->min_lr_rate;
    if (isnan(low)) low = p->peak > 0 ? opt_min_lr(p->cfg) / p->peak : 0;
    double f = half_cosine(or_default(p->cfg->num_cycles, 0.5), progress(p));
    f = f * (1 - low) + low;
    return p->peak * (f > 0 ? f : 0);
}

static double cosine_with_restarts(const plan *p)
{
    if (warming(p)) return warm_up(p);
    double x = progress(p);
    if (x >= 1.0) return 0;
    double f = 0.5 * (1.0 + cos(PI * fmod(or_default(p->cfg->num_cycles, 1) * x, 1.0)));
    return p->peak * (f > 0 ? f : 0);
}

static double inverse_sqrt(const plan *p)
{
    if (warming(p)) return warm_up(p);
    double scale = p->cfg->timescale > 0 ? (double)p->cfg->timescale : p->warm;
    if (scale <= 0) scale = 10000;
    return p->peak * (1.0 / sqrt((p->s + (scale - p->warm)) / scale));
}

static double polynomial(const plan *p)
{
    if (warming(p)) return warm_up(p);
    double end = p->cfg->lr_end, steps = p->total - p->warm;
    if (p->s > p->total || steps <= 0) return end;
    return (p->peak - end) * pow(1 - (p->s - p->warm) / steps, p->cfg->power) + end;
}

static double rising(const char *type, double x)
{
    if (strcmp(type, "cosine") == 0) return 0.5 * (1.0 - cos(PI * x));
    return strcmp(type, "1-sqrt") == 0 ? 1.0 - sqrt(1.0 - x) : x;
}

static double falling(const char *type, double cycles, double x)
{
    if (strcmp(type, "cosine") == 0) return half_cosine(cycles, x);
    return strcmp(type, "1-sqrt") == 0 ? 1.0 - sqrt(x) : 1.0 - x;
}

static double warmup_stable_decay(const plan *p)
{
    const opt_cfg *c = p->cfg;
    double given = isnan(c->min_lr) || !(p->peak > 0) ? 0 : c->min_lr / p->peak;
    double low = or_default(c->min_lr_ratio, given), f = low;
    double decay = c->num_decay_steps > 0 ? (double)c->num_decay_steps : round(0.1 * p->total);
    double stable =
        c->num_stable_steps > 0 ? (double)c->num_stable_steps : p->total - p->warm - decay;
    double past = p->s - p->warm - stable; /* steps of the decay that are done */
    if (warming(p))
        f = rising(c->warmup_type, p->s / at_least_1(p->warm)) * (1 - low) + low;
    else if (past < 0)
        return p->peak;
    else if (past < decay)
        f = falling(c->decay_type, or_default(c->num_cycles, 0.5), past / at_least_1(decay)) *
                (1 - low) +
            low;
    return p->peak * (f > 0 ? f : 0);
}

static double rewarm(const plan *p)
{
    double low = opt_min_lr(p->cfg), start = or_default(p->cfg->start_lr, low);
    if (warming(p)) return start + (p->peak - start) * p->s / p->warm;
    return low + 0.5 * (p->peak - low) * (1 + cos(PI * progress(p)));
}

static double infinite(const plan *p)
{
    double start = or_default(p->cfg->start_lr, 0), c = opt_constant_lr(p->cfg);
    double cool = (double)p->cfg->cooldown_steps, anneal = (double)p->cfg->anneal_steps;
    double past = p->s - (p->total - anneal); /* steps of the annealing that are done */
    if (warming(p)) return start + (p->peak - start) * p->s / p->warm;
    if (p->s < p->warm + cool)
        return c + 0.5 * (p->peak - c) * (1 + cos(PI * (p->s - p->warm) / cool));
    if (past < 0 || anneal <= 0) return c;
    return c * pow(opt_min_lr(p->cfg) / c, past / anneal);
}

/* ratio: the default of warmup_ratio; ours: W is rounded, where transformers' Trainer takes the ceiling; branches: see
 * opt_branches(). */
static const struct {
    const char *name;
    rate_fn rate;
    double ratio;
    bool ours, branches;
} schedules[] = {
    {"linear", linear, 0, false, false},
    {"cosine", cosine, 0, false, false},
    {"cosine_with_min_lr", cosine_with_min_lr, 0, false, false},
    {"cosine_with_restarts", cosine_with_restarts, 0, false, false},
    {"constant", constant, 0, false, false},
    {"constant_with_warmup", constant_with_warmup, 0, false, false},
    {"inverse_sqrt", inverse_sqrt, 0, false, false},
    {"polynomial", polynomial, 0, false, false},
    {"warmup_stable_decay", warmup_stable_decay, 0, false, false},
    {"rewarm", rewarm, 0.01, true, false},
    {"infinite", infinite, 0, true, true},
};
const char *const opt_schedule_names[] = {
    "linear",
    "cosine",
    "cosine_with_min_lr",
    "cosine_with_restarts",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "polynomial",
    "warmup_stable_decay",
    "rewarm",
    "infinite",
    NULL,
};
_Static_assert(FT_COUNT_OF(schedules) + 1 == FT_COUNT_OF(opt_schedule_names), "one name a row");

double opt_min_lr(const opt_cfg *cfg)
{
    return or_default(cfg->min_lr, 0.1 * cfg->learning_rate);
}

double opt_constant_lr(const opt_cfg *cfg)
{
    return or_default(cfg->constant_lr, 0.5 * cfg->learning_rate);
}

bool opt_branches(const opt_cfg *cfg)
{
    for (size_t i = 0; i < FT_COUNT_OF(schedules); i++)
        if (strcmp(schedules[i].name, cfg->lr_scheduler_type) == 0) return schedules[i].branches;
    return false;
}

bool opt_of_schedule(const char *key)
{
    static const char *const keys[] = {
        "lr_scheduler_type", "warmup_steps", "warmup_ratio",  "min_lr",   "min_lr_rate",
        "min_lr_ratio",      "num_cycles",   "power",         "lr_end",   "timescale",
        "num_decay_steps",   "warmup_type",  "decay_type",    "start_lr", "num_stable_steps",
        "constant_lr",       "anneal_steps", "cooldown_steps"};
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++)
        if (strcmp(keys[i], key) == 0) return true;
    return false;
}

double opt_rate(const opt_cfg *cfg, int64_t s, int64_t total_steps)
{
    plan p = {.cfg = cfg, .s = (double)s, .total = (double)total_steps, .peak = cfg->learning_rate};
    for (size_t i = 0; i < FT_COUNT_OF(schedules); i++) {
        if (strcmp(schedules[i].name, cfg->lr_scheduler_type) != 0) continue;
        double share = or_default(cfg->warmup_ratio, schedules[i].ratio) * p.total;
        p.warm = cfg->warmup_steps > 0 ? (double)cfg->warmup_steps
                 : schedules[i].ours   ? round(share)
                                       : ceil(share);
        return schedules[i].rate(&p);
    }
    return p.peak;
}
