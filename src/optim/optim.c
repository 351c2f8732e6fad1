/* optim.c – the registry of update rules, the keys of "optim", and one optimizer step over the tensors of a store.
 *
 * An elementwise rule gets neighbours that share decay and learning rate as one view, so full training of a model is a
 * handful of long loops; for that its states lie as the values do, each a flat range with the same offsets. */
#include "ft/optim.h"
#include "ft/kernel.h"

#include <assert.h>
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

const char *const *opt_rule_names(void)
{
    return rule_names;
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
    ROW(weight_decay, CFG_FLOAT, "0", 0, 1e9,
        "skips biases and norm weights; decoupled, but for sgd and rmsprop"),
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
    opt_check_keys(d, object, cfg);
    if (strcmp(type, "warmup_stable_decay") == 0 && !isnan(cfg->min_lr) &&
        !isnan(cfg->min_lr_ratio))
        cfg_fail(d, js_get(object, "min_lr_ratio"), "optim.min_lr_ratio",
                 "min_lr is given too; keep one of them");
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

/* --- states -------------------------------------------------------------------------------------------------- */
size_t opt_state_bytes(const opt_state *s)
{
    size_t bytes = 0;
    int64_t n = 1;
    for (int i = 0; i < s->nd; i++) n *= s->dim[i];
    bool whole = dt_bytes(s->type, n, &bytes);
    assert(whole && s->type->st_name); /* a rule keeps what a checkpoint can hold */
    (void)whole;
    return bytes;
}

/* States of an elementwise rule: flat ranges as long as the values, padding included. */
static ft_status open_flat(opt_optimizer *o, arena *mem)
{
    const nn_store *s = o->store;
    opt_state decl[OPT_MAX_STATES];
    for (int64_t i = 0; i < s->n; i++) {
        int n = o->rule->states(o->own, &s->param[i]->t, decl);
        for (int k = 0; k < n; k++) {
            size_t one = (size_t)decl[k].type->bytes;
            assert(decl[k].type->block == 1 &&
                   opt_state_bytes(&decl[k]) == (size_t)tn_count(&s->param[i]->t) * one);
            o->state[i][k] = i > 0 ? (char *)o->state[0][k] + (size_t)s->offset[i] * one
                                   : arena_get(mem, (size_t)s->count * one);
            if (!o->state[i][k]) return FT_EMEM;
        }
    }
    return FT_OK;
}

static ft_status open_each(opt_optimizer *o, arena *mem)
{
    const nn_store *s = o->store;
    opt_state decl[OPT_MAX_STATES];
    for (int64_t i = 0; i < s->n; i++) {
        int n = o->rule->states(o->own, &s->param[i]->t, decl);
        for (int k = 0; k < n; k++) {
            o->state[i][k] = arena_get(mem, opt_state_bytes(&decl[k]));
            if (!o->state[i][k]) return FT_EMEM;
        }
    }
    return FT_OK;
}

ft_status opt_open(opt_optimizer **out, const opt_rule *rule, const opt_cfg *cfg, const void *own,
                   nn_store *store, int64_t total_steps, arena *mem)
{
    opt_optimizer *o = arena_get(mem, sizeof *o);
    *out = NULL;
    if (!o) return FT_EMEM;
    *o = (opt_optimizer){.rule = rule,
                         .cfg = cfg,
                         .own = own,
                         .store = store,
                         .total_steps = total_steps,
                         .state = arena_get(mem, (size_t)store->n * sizeof *o->state)};
    if (!o->state) return FT_EMEM;
    if (rule->tables && !(o->tables = rule->tables(mem))) return FT_EMEM;
    FT_TRY(rule->elementwise ? open_flat(o, mem) : open_each(o, mem));
    *out = o;
    return FT_OK;
}

size_t opt_bytes(const opt_rule *rule, const void *own, const nn_store *store)
{
    opt_state decl[OPT_MAX_STATES];
    size_t bytes = 0;
    for (int64_t i = 0; i < store->n; i++) {
        int n = rule->states(own, &store->param[i]->t, decl);
        for (int k = 0; k < n; k++) {
            if (!rule->elementwise)
                bytes += (opt_state_bytes(&decl[k]) + 63) / 64 * 64; /* as an arena gives it */
            else if (i == 0)
                bytes += (size_t)store->count * (size_t)decl[k].type->bytes;
        }
    }
    return bytes;
}

/* --- one step ------------------------------------------------------------------------------------------------- */
/* FT_EDIVERGED naming the first tensor of a flat range that holds a NaN or an Inf. */
static ft_status name_nonfinite(const nn_store *p, const float *flat, int64_t step,
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
    const nn_store *p = o->store;
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

static bool same_hyper(const nn_param *a, const nn_param *b)
{
    return a->hyper.lr_ratio == b->hyper.lr_ratio && a->hyper.lr_fixed == b->hyper.lr_fixed &&
           a->hyper.decay_ratio == b->hyper.decay_ratio &&
           a->hyper.decay_fixed == b->hyper.decay_fixed &&
           a->hyper.first_form == b->hyper.first_form;
}

/* The rate of a tensor: its ratio of the scheduled one, or its own peak in the shape of the schedule. */
static double rate_of(const opt_optimizer *o, const nn_param *p, double rate)
{
    double peak = o->cfg->learning_rate;
    if (p->hyper.lr_fixed <= 0) return rate * (double)p->hyper.lr_ratio;
    return peak > 0 ? rate / peak * (double)p->hyper.lr_fixed : 0.0;
}

/* Tensor `first`, or with an elementwise rule all of first … next − 1 with their padding. */
static opt_view view_of(const opt_optimizer *o, int64_t first, int64_t next)
{
    const nn_store *s = o->store;
    const tn_tensor *t = &s->param[first]->t;
    int64_t at = s->offset[first], end = next < s->n ? s->offset[next] : s->count;
    opt_view v = {.w = s->w + at, .g = s->g + at};
    v.rows = o->rule->elementwise ? 1 : tn_rows(t);
    v.cols = o->rule->elementwise ? end - at : tn_cols(t);
    v.n = v.rows * v.cols;
    memcpy(v.state, o->state[first], sizeof v.state);
    return v;
}

void opt_forget(opt_optimizer *o)
{
    opt_state decl[OPT_MAX_STATES];
    for (int64_t i = 0; i < o->store->n; i++) {
        int n = o->rule->states(o->own, &o->store->param[i]->t, decl);
        for (int k = 0; k < n; k++) memset(o->state[i][k], 0, opt_state_bytes(&decl[k]));
    }
}

void opt_update(opt_optimizer *o, double rate, int64_t step, double norm)
{
    const nn_store *p = o->store;
    opt_hyper h = {
        .gscale = opt_clip(o->cfg, norm), .step = step, .cfg = o->own, .tables = o->tables};
    for (int64_t first = 0, next; first < p->n; first = next) {
        const nn_param *one = p->param[first];
        next = first + 1;
        while (o->rule->elementwise && next < p->n && same_hyper(one, p->param[next])) next++;
        opt_view v = view_of(o, first, next);
        h.lr = rate_of(o, one, rate);
        h.first_form = one->hyper.first_form;
        h.decay =
            o->cfg->weight_decay * (double)one->hyper.decay_ratio + (double)one->hyper.decay_fixed;
        if (v.n > 0) o->rule->update(&v, &h);
    }
}

double opt_rate_at(const opt_optimizer *o, int64_t s)
{
    double rate = opt_rate(o->cfg, s, o->total_steps);
    return o->rule->shape ? rate * o->rule->shape(o->own, s + 1) : rate;
}

void opt_step(opt_optimizer *o, int64_t s, double norm)
{
    opt_update(o, opt_rate_at(o, s), s + 1, norm);
}

/* --- for rules ------------------------------------------------------------------------------------------------ */
typedef struct pieces {
    opt_piece fn;
    const opt_view *v;
    const void *k;
} pieces;

static void run_piece(void *ctx, int64_t tile, int thread)
{
    const pieces *p = ctx;
    int64_t first = tile * OPT_PIECE, left = p->v->n - first;
    (void)thread;
    p->fn(p->v, p->k, first, left < OPT_PIECE ? left : OPT_PIECE);
}

void opt_pieces(opt_piece fn, const opt_view *v, const void *k)
{
    pieces p = {fn, v, k};
    pool_run(run_piece, &p, (v->n + OPT_PIECE - 1) / OPT_PIECE);
}
