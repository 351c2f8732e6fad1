/* optim.c – the registry of update rules, the keys of "optim", and one optimizer step over flat ranges.
 *
 * Parameters that share decay and learning-rate ratio and lie side by side are updated in one call, so full
 * training of a model is a handful of long loops. */
#include "ft/optim.h"
#include "ft/kernel.h"

#include <math.h>
#include <string.h>

#include "optim_private.h"

#define X(n) extern const opt_rule opt_##n;
#include "rules.def"
#undef X
#define X(n) &opt_##n,
static const opt_rule *const rules[] = {
#include "rules.def"
};
#undef X
#define X(n) #n,
static const char *const rule_names[] = {
#include "rules.def"
    NULL};
#undef X

const opt_rule *opt_rule_at(int i)
{
    return i >= 0 && (size_t)i < FT_COUNT_OF(rules) ? rules[i] : NULL;
}

const opt_rule *opt_rule_by_name(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(rules); i++) {
        if (strcmp(rules[i]->name, name) == 0) return rules[i];
    }
    return NULL;
}

static const char *const shapes[] = {"linear", "cosine", "1-sqrt", NULL};

/* Ranges are inclusive. An upper bound of 1e9 on rates only says "a finite number". */
#define ROW(k, t, d, lo, hi, h)                                                                    \
    {                                                                                              \
        .key = #k, .type = t, .offset = offsetof(opt_cfg, k), .def = d, .low = lo, .high = hi,     \
        .help = h                                                                                  \
    }
#define PICK(k, d, c, h)                                                                           \
    {                                                                                              \
        .key = #k, .type = CFG_ENUM, .offset = offsetof(opt_cfg, k), .def = d, .choices = c,       \
        .help = h                                                                                  \
    }
const cfg_field opt_fields[] = {
    PICK(type, "\"adamw\"", rule_names, "update rule"),
    ROW(learning_rate, CFG_FLOAT, NULL, 0, 1e30,
        "peak learning rate; 2e-4, or 2e-5 where whole weights are trained"),
    PICK(lr_scheduler_type, "\"linear\"", opt_schedule_names, "shape of the learning rate"),
    ROW(warmup_steps, CFG_INT, "0", 0, 1e12, "optimizer steps of warm-up; 0: from warmup_ratio"),
    ROW(warmup_ratio, CFG_FLOAT, NULL, 0, 1, "share of the steps; 0, with rewarm 0.01"),
    ROW(weight_decay, CFG_FLOAT, "0", 0, 1e9, "decoupled; skips biases and norm weights"),
    ROW(adam_beta1, CFG_FLOAT, "0.9", 0, 0.9999999, "decay of the first moment"),
    ROW(adam_beta2, CFG_FLOAT, "0.999", 0, 0.9999999, "decay of the second moment"),
    ROW(adam_epsilon, CFG_FLOAT, "1e-8", 0, 1, "added to the root of the second moment"),
    ROW(max_grad_norm, CFG_FLOAT, "1.0", 0, 1e30, "clip gradients to this norm; 0: do not"),
    ROW(min_lr, CFG_FLOAT, NULL, 0, 1e30,
        "lowest rate of cosine_with_min_lr, warmup_stable_decay, rewarm, infinite; 0.1 of the "
        "peak"),
    ROW(min_lr_rate, CFG_FLOAT, NULL, 0, 1, "the same as a share of the peak: cosine_with_min_lr"),
    ROW(min_lr_ratio, CFG_FLOAT, NULL, 0, 1, "the same: warmup_stable_decay; 0"),
    ROW(num_cycles, CFG_FLOAT, NULL, 0, 1e6, "cosine waves: 0.5; with restarts: 1"),
    ROW(power, CFG_FLOAT, "1.0", 0, 1e3, "exponent of polynomial"),
    ROW(lr_end, CFG_FLOAT, "1e-7", 0, 1e30, "last rate of polynomial"),
    ROW(timescale, CFG_INT, "0", 0, 1e12, "of inverse_sqrt; 0: warmup_steps, or 10000"),
    ROW(num_decay_steps, CFG_INT, "0", 0, 1e12,
        "last phase of warmup_stable_decay; 0: a tenth of all steps"),
    ROW(num_stable_steps, CFG_INT, "0", 0, 1e12, "its middle phase; 0: what the others leave"),
    PICK(warmup_type, "\"linear\"", shapes, "warm-up of warmup_stable_decay"),
    PICK(decay_type, "\"cosine\"", shapes, "decay of warmup_stable_decay"),
    ROW(start_lr, CFG_FLOAT, NULL, 0, 1e30, "rate at step 0: rewarm min_lr, infinite 0"),
    ROW(constant_lr, CFG_FLOAT, NULL, 0, 1e30, "plateau of infinite; half the peak"),
    ROW(cooldown_steps, CFG_INT, "0", 0, 1e12, "from peak to plateau: infinite"),
    ROW(anneal_steps, CFG_INT, "0", 0, 1e12, "last phase, plateau to min_lr: infinite"),
    CFG_END,
};

void opt_check(cfg_doc *d, const cJSON *object, const opt_cfg *cfg)
{
    const char *type = cfg->lr_scheduler_type;
    if (!type) return;
    if (strcmp(type, "cosine_with_min_lr") == 0 && !isnan(cfg->min_lr) && !isnan(cfg->min_lr_rate))
        cfg_fail(d, js_get(object, "min_lr_rate"), "optim.min_lr_rate",
                 "min_lr is given too; keep one of them");
    if (strcmp(type, "polynomial") == 0 && !(cfg->learning_rate > cfg->lr_end))
        cfg_fail(d, js_get(object, "lr_end"), "optim.lr_end",
                 "must be below learning_rate (%g), is %g", cfg->learning_rate, cfg->lr_end);
    if (strcmp(type, "infinite") == 0 && cfg->anneal_steps > 0 &&
        (opt_min_lr(cfg) <= 0 || opt_constant_lr(cfg) <= 0))
        cfg_fail(
            d, js_get(object, "min_lr"), "optim.min_lr",
            "the annealing of infinite is exponential: min_lr and constant_lr must be above 0");
}

ft_status opt_open(opt_optimizer **out, const opt_cfg *cfg, pe_params *params, int64_t total_steps,
                   arena *mem)
{
    opt_optimizer *o = arena_get(mem, sizeof *o);
    size_t bytes;
    *out = NULL;
    if (!o) return FT_EMEM;
    o->rule = opt_rule_by_name(cfg->type);
    FT_CHECK(o->rule, FT_EINTERNAL, "no update rule is called %s", ft_shows(cfg->type));
    FT_CHECK(ft_mul((size_t)params->count, sizeof(float), &bytes), FT_EMEM,
             "%lld trainable values are too many", (long long)params->count);
    for (int i = 0; i < o->rule->states; i++) {
        o->state[i] = arena_get(mem, bytes);
        if (!o->state[i]) return FT_EMEM;
    }
    o->cfg = cfg;
    o->params = params;
    o->total_steps = total_steps;
    *out = o;
    return FT_OK;
}

size_t opt_state_bytes(const opt_cfg *cfg, int64_t count)
{
    const opt_rule *rule = opt_rule_by_name(cfg->type);
    return rule ? (size_t)rule->states * (size_t)count * sizeof(float) : 0;
}

/* FT_EDIVERGED naming the first tensor of a flat range that holds a NaN or an Inf. */
static ft_status name_nonfinite(const pe_params *p, const float *flat, int64_t step,
                                const char *what)
{
    for (int64_t i = 0; i < p->n; i++) {
        int64_t at = kn_find_nonfinite(flat + p->offset[i], tn_count(&p->param[i]->t));
        if (at < 0) continue;
        return ft_fail(
            FT_EDIVERGED,
            "step %lld: %s of %s is %s at element %lld; stopped before the update. A lower "
            "learning rate, more warm-up or cleaner data may help",
            (long long)step, what, ft_shows(p->param[i]->name),
            isnan(flat[p->offset[i] + at]) ? "NaN" : "infinite", (long long)at);
    }
    return ft_fail(FT_EDIVERGED, "step %lld: a %s is not finite", (long long)step, what);
}

ft_status opt_grad_norm(const opt_optimizer *o, int64_t step, double *norm)
{
    const pe_params *p = o->params;
    *norm = sqrt(kn_sum_squares(p->g, p->count));
    if (!isfinite(*norm)) return name_nonfinite(p, p->g, step, "the gradient");
    if (kn_find_nonfinite(p->w, p->count) >= 0) return name_nonfinite(p, p->w, step, "the value");
    return FT_OK;
}

/* torch.nn.utils.clip_grad_norm_: max_norm/(norm + 1e-6), at most 1. */
double opt_clip(const opt_cfg *cfg, double norm)
{
    if (cfg->max_grad_norm <= 0) return 1.0;
    double scale = cfg->max_grad_norm / (norm + 1e-6);
    return scale < 1.0 ? scale : 1.0;
}

static bool same_group(const nn_param *a, const nn_param *b)
{
    return a->no_decay == b->no_decay && a->lr_ratio == b->lr_ratio;
}

void opt_step(opt_optimizer *o, int64_t s, double norm)
{
    const pe_params *p = o->params;
    double rate = opt_rate(o->cfg, s, o->total_steps), scale = opt_clip(o->cfg, norm);
    for (int64_t first = 0, next; first < p->n; first = next) {
        const nn_param *group = p->param[first];
        for (next = first + 1; next < p->n && same_group(group, p->param[next]);) next++;
        int64_t at = p->offset[first];
        int64_t n = (next < p->n ? p->offset[next] : p->count) - at;
        float *state[OPT_MAX_STATES] = {0};
        for (int i = 0; i < o->rule->states; i++) state[i] = o->state[i] + at;
        o->rule->update(p->w + at, p->g + at, state, n, rate * (double)group->lr_ratio,
                        group->no_decay ? 0.0 : o->cfg->weight_decay, scale, s + 1, o->cfg);
    }
}
