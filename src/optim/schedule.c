/* schedule.c – learning rates as a pure function of the step, so that a resumed run needs no scheduler state.
 *
 * The rows named as in transformers give what its get_…_schedule functions give (optimization.py); rewarm and infinite are
 * those of continued pretraining (Ibrahim et al. 2024; Gupta et al. 2023). */
#include "optim_private.h"

#include <math.h>
#include <stdio.h>
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

static double decay_steps(const opt_cfg *cfg, double total)
{
    return cfg->num_decay_steps > 0 ? (double)cfg->num_decay_steps : round(0.1 * total);
}

static double warmup_stable_decay(const plan *p)
{
    const opt_cfg *c = p->cfg;
    double given = isnan(c->min_lr) || !(p->peak > 0) ? 0 : c->min_lr / p->peak;
    double low = or_default(c->min_lr_ratio, given), f = low;
    double decay = decay_steps(c, p->total);
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

/* What a schedule goes by: the keys below, in groups. */
enum {
    WARM_UP = 1,
    LOW = 2,
    CYCLES = 4,
    START = 8,
    COSINE_LOW = 16,
    POLYNOMIAL = 32,
    SCALE = 64,
    STABLE = 128,
    INFINITE = 256,
    EVERY = 511
};
static const struct {
    const char *key;
    unsigned group;
} keys[] = {
    {"lr_scheduler_type", EVERY}, {"warmup_steps", WARM_UP},
    {"warmup_ratio", WARM_UP},    {"min_lr", LOW},
    {"min_lr_rate", COSINE_LOW},  {"min_lr_ratio", STABLE},
    {"num_cycles", CYCLES},       {"power", POLYNOMIAL},
    {"lr_end", POLYNOMIAL},       {"timescale", SCALE},
    {"num_decay_steps", STABLE},  {"num_stable_steps", STABLE},
    {"warmup_type", STABLE},      {"decay_type", STABLE},
    {"start_lr", START},          {"constant_lr", INFINITE},
    {"cooldown_steps", INFINITE}, {"anneal_steps", INFINITE},
};

/* ratio: the default of warmup_ratio; ours: W is rounded, where transformers' Trainer takes the ceiling; branches: see
 * opt_branches(). */
typedef struct schedule {
    const char *name;
    rate_fn rate;
    unsigned uses;
    double ratio;
    bool ours, branches;
} schedule;
static const schedule schedules[] = {
    {"linear", linear, WARM_UP, 0, false, false},
    {"cosine", cosine, WARM_UP | CYCLES, 0, false, false},
    {"cosine_with_min_lr", cosine_with_min_lr, WARM_UP | CYCLES | LOW | COSINE_LOW, 0, false,
     false},
    {"cosine_with_restarts", cosine_with_restarts, WARM_UP | CYCLES, 0, false, false},
    {"constant", constant, 0, 0, false, false},
    {"constant_with_warmup", constant_with_warmup, WARM_UP, 0, false, false},
    {"inverse_sqrt", inverse_sqrt, WARM_UP | SCALE, 0, false, false},
    {"polynomial", polynomial, WARM_UP | POLYNOMIAL, 0, false, false},
    {"warmup_stable_decay", warmup_stable_decay, WARM_UP | CYCLES | LOW | STABLE, 0, false, false},
    {"rewarm", rewarm, WARM_UP | LOW | START, 0.01, true, false},
    {"infinite", infinite, WARM_UP | LOW | START | INFINITE, 0, true, true},
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

static const schedule *schedule_of(const opt_cfg *cfg)
{
    for (size_t i = 0; i < FT_COUNT_OF(schedules); i++)
        if (strcmp(schedules[i].name, cfg->lr_scheduler_type) == 0) return &schedules[i];
    return NULL;
}

bool opt_branches(const opt_cfg *cfg)
{
    const schedule *row = schedule_of(cfg);
    return row && row->branches;
}

static unsigned group_of(const char *key)
{
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++)
        if (strcmp(keys[i].key, key) == 0) return keys[i].group;
    return 0;
}

bool opt_of_schedule(const char *key)
{
    return group_of(key) != 0;
}

/* --- keys against the schedule ---------------------------------------------------------------------------------- */
/* "a", "b" or "c": the schedules that use a group. */
static void list_users(str_buf *out, unsigned group)
{
    int left = 0;
    for (size_t i = 0; i < FT_COUNT_OF(schedules); i++) left += (schedules[i].uses & group) != 0;
    for (size_t i = 0; i < FT_COUNT_OF(schedules); i++) {
        if (!(schedules[i].uses & group)) continue;
        left--;
        str_printf(out, "\"%s\"%s", schedules[i].name, left > 1 ? ", " : left ? " or " : "");
    }
}

static bool is_zero(const cJSON *v)
{
    return cJSON_IsNumber(v) && v->valuedouble == 0;
}

void opt_check_keys(cfg_doc *d, const cJSON *object, const opt_cfg *cfg)
{
    const schedule *row = schedule_of(cfg);
    for (const cJSON *v = row && object ? object->child : NULL; v; v = v->next) {
        unsigned group = group_of(v->string);
        char key[64];
        str_buf users = {0};
        if (!group || (row->uses & group) || group == EVERY || cfg_is_default(opt_fields, v))
            continue;
        if (group == WARM_UP && is_zero(v)) continue;
        snprintf(key, sizeof key, "optim.%s", v->string);
        list_users(&users, group);
        if (group == WARM_UP) /* as transformers has it: no mistake, and often one */
            log_warn("%s: the schedule \"%s\" has no warm-up: its first step has the full rate; "
                     "\"constant_with_warmup\" has one",
                     key, row->name);
        else
            cfg_fail(d, v, key, "the schedule \"%s\" does not use it; it goes with %s", row->name,
                     users.data ? users.data : "others");
        str_free(&users);
    }
}

/* --- rates ------------------------------------------------------------------------------------------------------ */
static double warm_steps(const opt_cfg *cfg, const schedule *row, double total)
{
    double share = or_default(cfg->warmup_ratio, row->ratio) * total;
    if (cfg->warmup_steps > 0) return (double)cfg->warmup_steps;
    return row->ours ? round(share) : ceil(share);
}

/* What a schedule with a last phase does before it and in it, in steps. The phases of infinite and those of
 * warmup_stable_decay with a free middle lie against both ends of the run, and may not overlap. */
typedef struct phases {
    double before, last;
    const char *keys; /* that say so */
    bool at_end;      /* the last one ends with the run */
} phases;

static phases phases_of(const opt_cfg *cfg, const schedule *row, double warm, double total)
{
    if (row->uses & INFINITE)
        return (phases){warm + (double)cfg->cooldown_steps, (double)cfg->anneal_steps,
                        "warm-up, optim.cooldown_steps and optim.anneal_steps", true};
    if (row->uses & STABLE)
        return (phases){warm + (double)cfg->num_stable_steps, decay_steps(cfg, total),
                        "warm-up, optim.num_stable_steps and optim.num_decay_steps",
                        cfg->num_stable_steps == 0};
    return (phases){warm, 0, "warm-up", false};
}

ft_status opt_check_steps(const opt_cfg *cfg, int64_t total_steps, const char *name)
{
    const schedule *row = schedule_of(cfg);
    double total = (double)total_steps;
    if (!row || total_steps < 1 || !(row->uses & WARM_UP)) return FT_OK;
    double warm = warm_steps(cfg, row, total);
    phases p = phases_of(cfg, row, warm, total);
    bool too_long = p.last > 0 && p.before + p.last > total;
    FT_CHECK(
        !too_long || !p.at_end || p.before >= total, FT_ECONFIG,
        "%s: optim: \"%s\" wants %.0f steps (%s: %.0f, and %.0f in the last phase), and the run "
        "has %lld; lower them, or raise train.max_steps",
        name, row->name, p.before + p.last, p.keys, p.before, p.last, (long long)total_steps);
    if (warm >= total)
        log_warn("optim.%s: the warm-up has %.0f steps and the run %lld: the full rate is never "
                 "reached",
                 cfg->warmup_steps > 0 ? "warmup_steps" : "warmup_ratio", warm,
                 (long long)total_steps);
    else if (too_long)
        log_warn(
            "optim: the phases of \"%s\" have %.0f steps (%s) and the run %lld: it ends before "
            "they do",
            row->name, p.before + p.last, p.keys, (long long)total_steps);
    return FT_OK;
}

double opt_rate(const opt_cfg *cfg, int64_t s, int64_t total_steps)
{
    const schedule *row = schedule_of(cfg);
    plan p = {.cfg = cfg, .s = (double)s, .total = (double)total_steps, .peak = cfg->learning_rate};
    if (!row) return p.peak;
    p.warm = warm_steps(cfg, row, p.total);
    return row->rate(&p);
}
