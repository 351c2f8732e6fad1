/* adalora.c – AdaLoRA (Zhang et al. 2023) with PEFT's options, names and files.
 *
 *   y = base(x) + a/(init_r + 1e-5) · B (E ⊙ A) dropout(x),  a = lora_alpha; A [r, in], E [r], B [out, r]
 * A and B are held near orthogonal by a term of what is minimised, orth_reg_weight · mean ‖AAᵀ − I‖, ‖BᵀB − I‖. A triplet is
 * a row of A, an entry of E and a column of B. The run begins with init_r of them in every module; a budget for all modules
 * together shrinks to target_r a module, and the E of those that matter least (running sensitivity times its uncertainty) is
 * set to zero, where gradients may still bring it back until the newest mask comes. The file holds what that mask kept. */
#include "ft/method.h"
#include "method_private.h"
#include "ft/kernel.h"
#include "lora_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct adalora_cfg {
    int64_t target_r, init_r, tinit, tfinal, delta_t, total_step; /* total_step 0: the run's */
    double beta1, beta2, orth_reg_weight, lora_alpha, lora_dropout;
    pe_target target;
    const cJSON *rank_pattern; /* of an adapter that is cut to what it kept; NULL: of none */
} adalora_cfg;

enum { A, E, B, FACTORS };
static const char *const names[] = {".lora_A", ".lora_E", ".lora_B"};

/* A trained factor, and what is known of each of its elements: the running mean of |value · gradient|, and of how far one is
 * from that mean; both NULL where there is no budget. */
typedef struct factor {
    nn_param *p, *ipt, *unc;
} factor;

typedef struct adalora_slot {
    factor f[FACTORS];
    nn_param *mask; /* [r] 1: kept by the newest mask; NULL: no budget */
    int64_t r;      /* 0: nothing was kept here */
    int64_t entry;  /* of A among the adapter's, E and B behind it */
    float scale, dropout;
    uint64_t key;
    const char *path;
} adalora_slot;

typedef struct adalora {
    adalora_slot **slot;   /* [n] */
    int64_t n, triplets;   /* of all modules */
    bool budget;           /* triplets are masked: trained, and not cut yet */
    float *score, *sorted; /* [triplets] */
    float *gram;           /* [r, r] of the largest */
} adalora;

#define AT(member) offsetof(adalora_cfg, member)
#define COUNT(k, member, d, lo, h)                                                                 \
    {                                                                                              \
        .key = #k, .type = CFG_INT, .offset = AT(member), .def = d, .low = lo, .high = 1e12,       \
        .help = h                                                                                  \
    }
#define RANK(k, d, h)                                                                              \
    {                                                                                              \
        .key = #k, .type = CFG_INT, .offset = AT(k), .def = d, .low = 1, .high = 65536, .help = h  \
    }
#define NUMBER(k, d, hi, h, ...)                                                                   \
    {                                                                                              \
        .key = #k, .type = CFG_FLOAT, .offset = AT(k), .def = d, .low = 0, .high = hi, .help = h,  \
        __VA_ARGS__                                                                                \
    }
#define BELOW_ONE 0.999999
static const cfg_field fields[] = {
    RANK(target_r, "8", "triplets a module that are left in the end, on average"),
    RANK(init_r, "12", "triplets of each module at first"),
    COUNT(tinit, tinit, "0", 0, "steps before the budget shrinks"),
    COUNT(tfinal, tfinal, "0", 0, "last steps, with the triplets that are left"),
    COUNT(deltaT, delta_t, "1", 1, "steps from one choice of triplets to the next"),
    NUMBER(beta1, "0.85", BELOW_ONE, "of the running mean of sensitivities", .low_open = true),
    NUMBER(beta2, "0.85", BELOW_ONE, "of the running mean of their uncertainty", .low_open = true),
    NUMBER(orth_reg_weight, "0.5", 1e9, "weight of the term that keeps A and B orthogonal", ),
    COUNT(total_step, total_step, NULL, 1,
          "steps that the budget is planned for: those of the run"),
    NUMBER(lora_alpha, "16", 1e9, "scale of the update: lora_alpha / init_r", ),
    NUMBER(lora_dropout, "0", 0.999, "dropout on the input of A", ),
    PE_TARGET_FIELDS(adalora_cfg, target),
    CFG_END,
};

/* --- the config ---------------------------------------------------------------------------------------------------- */
static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"init_r", "lora_alpha", NULL};
    const adalora_cfg *c = ctx;
    pe_check_target(d, object, &c->target, settled);
    if (c->target_r > c->init_r && c->init_r > 0 && !js_get(object, "init_from"))
        cfg_fail(d, js_get(object, js_get(object, "target_r") ? "target_r" : "init_r"),
                 "method.target_r",
                 "%lld is more than init_r (%lld), from which the budget shrinks",
                 (long long)c->target_r, (long long)c->init_r);
    if (c->total_step > 0 && c->tinit + c->tfinal >= c->total_step)
        cfg_fail(
            d, js_get(object, js_get(object, "tinit") ? "tinit" : "total_step"), "method.tinit",
            "%lld steps of tinit and %lld of tfinal leave none of %lld to shrink the budget in",
            (long long)c->tinit, (long long)c->tfinal, (long long)c->total_step);
}

static int64_t total_of(const pe_ctx *c)
{
    const adalora_cfg *cfg = c->cfg;
    return cfg->total_step > 0 ? cfg->total_step : c->steps;
}

/* What only the adapter of init_from, or the length of the run, tells. */
static ft_status check_budget(const pe_ctx *c)
{
    const adalora_cfg *cfg = c->cfg;
    const int64_t total = total_of(c);
    FT_CHECK(cfg->target_r <= cfg->init_r, FT_ECONFIG,
             "method.target_r: %lld is more than init_r (%lld), from which the budget shrinks",
             (long long)cfg->target_r, (long long)cfg->init_r);
    FT_CHECK(total == 0 || cfg->tinit + cfg->tfinal < total, FT_ECONFIG,
             "method.tinit: %lld steps of tinit and %lld of tfinal leave none of the run's %lld to "
             "shrink the budget in",
             (long long)cfg->tinit, (long long)cfg->tfinal, (long long)total);
    return FT_OK;
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
/* The list of a module in rank_pattern, under "PATH.lora_E" or with the adapter's name behind it; NULL. */
static const cJSON *kept_of(const pe_ctx *c, const char *path)
{
    const adalora_cfg *cfg = c->cfg;
    const cJSON *e;
    const size_t n = strlen(path);
    cJSON_ArrayForEach(e, cfg->rank_pattern)
    {
        const char *rest = strncmp(e->string, path, n) == 0 ? e->string + n : "";
        if (strcmp(rest, names[E]) == 0 || strcmp(rest, ".lora_E.default") == 0) return e;
    }
    return NULL;
}

/* Triplets that a module begins with: init_r, or what its list kept of them. */
static ft_status rank_of(const pe_ctx *c, const nn_site *s, int64_t *r)
{
    const adalora_cfg *cfg = c->cfg;
    const cJSON *e, *list = kept_of(c, s->path);
    *r = cfg->init_r;
    if (!list) return FT_OK;
    if (cJSON_GetArraySize(list) != cfg->init_r)
        return js_fail(&c->adapter, list, FT_EDATA, "rank_pattern",
                       "the list of \"%s\" has %d entries, init_r is %lld", s->path,
                       cJSON_GetArraySize(list), (long long)cfg->init_r);
    *r = 0;
    cJSON_ArrayForEach(e, list) *r += cJSON_IsTrue(e);
    return FT_OK;
}

static void init_values(const pe_ctx *c, const adalora_slot *slot)
{
    for (int k = A; k < FACTORS; k += B - A) {
        nn_param *p = slot->f[k].p;
        rng_fill_normal(tn_f32(&p->t), tn_count(&p->t), rng_key_text(c->seed, p->name), 0.0f,
                        0.02f);
    }
    for (int64_t i = 0; slot->mask && i < slot->r; i++) tn_f32(&slot->mask->t)[i] = 1.0f;
}

/* A tensor of the file without elements: nothing of it is trained. */
static ft_status new_hollow(pe_ctx *c, const char *key, int64_t rows, int64_t cols, nn_param **out)
{
    nn_param *p = *out = arena_get(c->mem, sizeof *p);
    if (!p) return FT_EMEM;
    *p = (nn_param){.name = key,
                    .file_type = &dt_f32,
                    .t = {.type = &dt_f32, .nd = 2, .dim = {rows, cols}, .data = p}};
    return FT_OK;
}

static ft_status attach_factor(pe_ctx *c, const nn_site *s, adalora_slot *slot, int k)
{
    const adalora *own = c->priv;
    factor *f = &slot->f[k];
    const char *key = pe_file_key(c, s->path, names[k]);
    const int64_t rows = k == B ? s->out : slot->r, cols = k == A ? s->in : k == B ? slot->r : 1;
    if (!key) return FT_EMEM;
    if (slot->r > 0)
        FT_TRY(nn_new_param(&c->store, key, rows, cols, &f->p));
    else
        FT_TRY(new_hollow(c, key, rows, cols, &f->p));
    if (own->budget) {
        const char *ipt = arena_printf(c->mem, "%s.exp_avg_ipt", key),
                   *unc = arena_printf(c->mem, "%s.exp_avg_unc", key);
        if (!ipt || !unc) return FT_EMEM;
        FT_TRY(nn_new_state(&c->store, ipt, rows, cols, &f->ipt));
        FT_TRY(nn_new_state(&c->store, unc, rows, cols, &f->unc));
    }
    return pe_add_entry(c, f->p, key, false);
}

static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const adalora_cfg *cfg = c->cfg;
    adalora *own = c->priv;
    const double alpha = cfg->lora_alpha > 0 ? cfg->lora_alpha : (double)cfg->init_r;
    adalora_slot *slot = arena_get(c->mem, sizeof *slot);
    if (!slot) return FT_EMEM;
    FT_CHECK(!pe_lora_is_table(s), FT_ECONFIG,
             "method.target_modules: \"%s\" is an embedding; adalora adapts linear layers alone",
             s->path);
    *slot = (adalora_slot){.scale = (float)(alpha / ((double)cfg->init_r + 1e-5)),
                           .dropout = (float)cfg->lora_dropout,
                           .key = rng_key_text(0, s->path),
                           .path = s->path,
                           .entry = c->entries.n};
    FT_TRY(rank_of(c, s, &slot->r));
    for (int k = 0; k < FACTORS; k++) FT_TRY(attach_factor(c, s, slot, k));
    if (own->budget) {
        const char *mask = arena_printf(c->mem, "%s.lora_mask", s->path);
        if (!mask) return FT_EMEM;
        FT_TRY(nn_new_state(&c->store, mask, slot->r, 0, &slot->mask));
    }
    if (!c->dry && slot->r > 0) init_values(c, slot);
    c->over.slot[s->index] = slot;
    own->slot[own->n++] = slot;
    own->triplets += slot->r;
    return FT_OK;
}

/* Every list of the pattern is a target's. */
static ft_status check_pattern(const pe_ctx *c)
{
    const adalora_cfg *cfg = c->cfg;
    const adalora *own = c->priv;
    const cJSON *e;
    cJSON_ArrayForEach(e, cfg->rank_pattern)
    {
        bool known = false;
        for (int64_t i = 0; i < own->n && !known; i++) known = kept_of(c, own->slot[i]->path) == e;
        if (!known)
            return js_fail(&c->adapter, e, FT_EDATA, "rank_pattern",
                           "\"%s\" is no target of this adapter on this %s model",
                           ft_shows(e->string), model_family_name(c->m));
    }
    return FT_OK;
}

static ft_status attach(pe_ctx *c)
{
    const adalora_cfg *cfg = c->cfg;
    const bool trains = !c->adapter.root || c->load_dir;
    adalora *own = c->priv = arena_get(c->mem, sizeof *own);
    if (!own) return FT_EMEM;
    own->budget = trains && pe_is_null(cfg->rank_pattern);
    own->slot = arena_get(c->mem, (size_t)c->m->n_site * sizeof(void *));
    own->gram = arena_get(c->mem, (size_t)(cfg->init_r * cfg->init_r) * sizeof(float));
    if (!own->slot || !own->gram) return FT_EMEM;
    if (own->budget) FT_TRY(check_budget(c));
    FT_TRY(pe_attach_target(c, &cfg->target, attach_site));
    own->score = arena_get(c->mem, (size_t)(own->triplets + 1) * sizeof(float));
    own->sorted = arena_get(c->mem, (size_t)(own->triplets + 1) * sizeof(float));
    if (!own->score || !own->sorted) return FT_EMEM;
    return check_pattern(c);
}

/* --- forward --------------------------------------------------------------------------------------------------------- */
static void weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    const adalora_slot *slot = nn_slot(r, s);
    if (!slot || slot->r == 0) return;
    w->low = (ag_low_rank){.a = &slot->f[A].p->t,
                           .b = &slot->f[B].p->t,
                           .mid = &slot->f[E].p->t,
                           .scale = slot->scale,
                           .dropout = r->drops ? slot->dropout : 0.0f,
                           .key = slot->key};
}

/* W += scale · B (E ⊙ A). */
static ft_status fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    const adalora_slot *slot = nn_slot_of(&c->over, s);
    (void)b;
    if (!slot || slot->r == 0) return FT_OK;
    tn_tensor a = slot->f[A].p->t;
    const int64_t in = a.dim[1];
    float *scaled = a.data = ft_alloc((size_t)tn_count(&a), sizeof(float));
    if (!scaled) return FT_EMEM;
    for (int64_t i = 0; i < tn_count(&a); i++)
        scaled[i] = tn_f32(&slot->f[A].p->t)[i] * tn_f32(&slot->f[E].p->t)[i / in];
    ft_status rc = pe_lora_fold_pair(s, w, &a, &slot->f[B].p->t, slot->scale);
    ft_free(scaled);
    return rc;
}

/* --- the orthogonal term ----------------------------------------------------------------------------------------------- */
static kn_mat mat_of(const float *x, int64_t rows, int64_t cols)
{
    return (kn_mat){.type = &dt_f32, .data = x, .rows = rows, .cols = cols};
}

/* ‖P‖ of P = AAᵀ − I, or BᵀB − I; weight times its gradient, 2 P A/‖P‖ or 2 B P/‖P‖, joins the factor's (0 where P is). */
static double orthogonal(float *gram, const nn_param *p, bool is_a, int64_t r, double weight)
{
    const int64_t rows = p->t.dim[0], cols = p->t.dim[1];
    const float *x = tn_f32(&p->t);
    const kn_mat whole = mat_of(x, rows, cols), square = mat_of(gram, r, r);
    memset(gram, 0, (size_t)(r * r) * sizeof *gram);
    if (is_a)
        kn_gemm_nt(gram, r, x, cols, &whole, r, NULL, false);
    else
        kn_gemm_tn(gram, r, x, r, r, x, r, r, rows, NULL, 1);
    for (int64_t i = 0; i < r; i++) gram[i * r + i] -= 1.0f;
    const double norm = sqrt(kn_sum_squares(gram, r * r));
    if (norm == 0) return 0;
    kn_scale(gram, (float)(2 * weight / norm), r * r);
    if (is_a)
        kn_gemm_nn(p->t.grad, cols, gram, r, &whole, r, NULL, true);
    else
        kn_gemm_nn(p->t.grad, r, x, r, &square, rows, NULL, true);
    return norm;
}

enum { ORTH_LOSS, RANK_LEFT };
static const char *const metrics[] = {"orth_loss", "rank", NULL};

static double gradients(pe_ctx *c)
{
    const adalora_cfg *cfg = c->cfg;
    const adalora *own = c->priv;
    const double weight = cfg->orth_reg_weight / (double)(2 * own->n);
    double sum = 0;
    for (int64_t i = 0; weight > 0 && i < own->n; i++) {
        const adalora_slot *s = own->slot[i];
        if (s->r == 0) continue;
        sum += orthogonal(own->gram, s->f[A].p, true, s->r, weight);
        sum += orthogonal(own->gram, s->f[B].p, false, s->r, weight);
    }
    return c->metric[ORTH_LOSS] = weight * sum;
}

/* --- the budget -------------------------------------------------------------------------------------------------------- */
/* The gradient as it was clipped, the value as it was updated. */
static void sense(const factor *f, const adalora_cfg *cfg, float gscale)
{
    const float b1 = (float)cfg->beta1, b2 = (float)cfg->beta2;
    const float c1 = (float)(1 - cfg->beta1), c2 = (float)(1 - cfg->beta2);
    const float *w = tn_f32(&f->p->t), *g = f->p->t.grad;
    float *ipt = tn_f32(&f->ipt->t), *unc = tn_f32(&f->unc->t);
    for (int64_t i = 0; i < tn_count(&f->p->t); i++) {
        const float now = fabsf(w[i] * (g[i] * gscale));
        ipt[i] = b1 * ipt[i] + c1 * now;
        unc[i] = b2 * unc[i] + c2 * fabsf(now - ipt[i]);
    }
}

/* The mean score of n elements of a factor, `step` apart. */
static float mean_score(const factor *f, int64_t first, int64_t step, int64_t n)
{
    const float *ipt = tn_f32(&f->ipt->t) + first, *unc = tn_f32(&f->unc->t) + first;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)(ipt[i * step] * unc[i * step]);
    return (float)(sum / (double)n);
}

static void score(const adalora_slot *s, float *out)
{
    const int64_t in = s->f[A].p->t.dim[1], rows = s->f[B].p->t.dim[0];
    for (int64_t k = 0; k < s->r; k++)
        out[k] = mean_score(&s->f[E], k, 1, 1) +
                 (mean_score(&s->f[A], k * in, 1, in) + mean_score(&s->f[B], k, s->r, rows));
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void apply_mask(const adalora_slot *s)
{
    for (int64_t k = 0; k < s->r; k++)
        if (tn_f32(&s->mask->t)[k] == 0.0f) tn_f32(&s->f[E].p->t)[k] = 0.0f;
}

/* All modules compete: the scores up to that of the first triplet over the budget are masked. */
static void mask_to(const adalora *own, int64_t budget)
{
    const int64_t over = own->triplets - budget;
    float *out = own->score;
    if (over <= 0) return;
    for (int64_t i = 0; i < own->n; out += own->slot[i++]->r) score(own->slot[i], out);
    memcpy(own->sorted, own->score, (size_t)own->triplets * sizeof(float));
    qsort(own->sorted, (size_t)own->triplets, sizeof(float), ascending);
    const float threshold = own->sorted[over - 1];
    out = own->score;
    for (int64_t i = 0; i < own->n; out += own->slot[i++]->r) {
        const adalora_slot *s = own->slot[i];
        for (int64_t k = 0; k < s->r; k++) tn_f32(&s->mask->t)[k] = out[k] > threshold;
        apply_mask(s);
    }
}

/* From all triplets down to target_r a module, along a cubic. */
static int64_t budget_at(const pe_ctx *c, int64_t t, int64_t last)
{
    const adalora_cfg *cfg = c->cfg;
    const adalora *own = c->priv;
    const double first = (double)own->triplets, end = (double)(cfg->target_r * own->n);
    const double left = 1 - (double)(t - cfg->tinit) / (double)(last - cfg->tinit);
    return (int64_t)((first - end) * pow(left, 3) + end);
}

static int64_t kept(const adalora_slot *s)
{
    int64_t n = s->mask ? 0 : s->r;
    for (int64_t k = 0; s->mask && k < s->r; k++) n += tn_f32(&s->mask->t)[k] != 0.0f;
    return n;
}

/* PEFT's update_and_allocate, whose steps begin with 0. */
static void allocate(pe_ctx *c, int64_t t, float gscale)
{
    const adalora_cfg *cfg = c->cfg;
    const adalora *own = c->priv;
    const int64_t last = total_of(c) - cfg->tfinal;
    for (int64_t i = 0; t < last && i < own->n; i++)
        for (int k = 0; k < FACTORS; k++) sense(&own->slot[i]->f[k], cfg, gscale);
    if (t == last || (t > cfg->tinit && t < last && t % cfg->delta_t == 0))
        mask_to(own, budget_at(c, t, last));
    for (int64_t i = 0; t > last && i < own->n; i++) apply_mask(own->slot[i]);
}

static ft_status after_update(pe_ctx *c, const pe_update *u)
{
    const adalora *own = c->priv;
    int64_t rank = 0;
    if (own->budget) allocate(c, u->step - 1, (float)u->gscale);
    for (int64_t i = 0; i < own->n; i++) rank += kept(own->slot[i]);
    c->metric[RANK_LEFT] = (double)rank;
    return FT_OK;
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */
/* What the mask keeps of a factor: rows of A and E, columns of B. */
static ft_status cut(arena *mem, const adalora_slot *s, int k, int64_t n, nn_param **out)
{
    const nn_param *p = s->f[k].p;
    nn_param *q = *out = arena_get(mem, sizeof *q);
    float *to = arena_get(mem, (size_t)tn_count(&p->t) * sizeof(float));
    if (!q || !to) return FT_EMEM;
    *q = *p;
    q->t.data = to;
    q->t.dim[k == B] = n;
    for (int64_t i = 0; i < tn_count(&p->t); i++) {
        const int64_t triplet = k == B ? i % s->r : i / p->t.dim[1];
        if (tn_f32(&s->mask->t)[triplet] != 0.0f) *to++ = tn_f32(&p->t)[i];
    }
    return FT_OK;
}

/* The pattern of the newest mask, and the entries cut to it; an empty pattern: nothing is masked. */
static ft_status cut_all(const adalora *own, pe_entry *entry, cJSON *pattern, arena *mem)
{
    for (int64_t i = 0; i < own->n; i++) {
        const adalora_slot *s = own->slot[i];
        const int64_t n = kept(s);
        const char *key = arena_printf(mem, "%s%s", s->path, names[E]);
        if (!key) return FT_EMEM;
        cJSON *list = cJSON_AddArrayToObject(pattern, key);
        for (int64_t k = 0; k < s->r; k++)
            cJSON_AddItemToArray(list, cJSON_CreateBool(tn_f32(&s->mask->t)[k] != 0.0f));
        for (int k = 0; k < FACTORS; k++) FT_TRY(cut(mem, s, k, n, &entry[s->entry + k].p));
    }
    return FT_OK;
}

static bool is_masked(const adalora *own)
{
    for (int64_t i = 0; own->budget && i < own->n; i++)
        if (kept(own->slot[i]) < own->slot[i]->r) return true;
    return false;
}

static cJSON *config_of(const pe_ctx *c, const cJSON *pattern)
{
    const adalora_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"target_r", (double)cfg->target_r},
                   {"init_r", (double)cfg->init_r},
                   {"tinit", (double)cfg->tinit},
                   {"tfinal", (double)cfg->tfinal},
                   {"deltaT", (double)cfg->delta_t},
                   {"beta1", cfg->beta1},
                   {"beta2", cfg->beta2},
                   {"orth_reg_weight", cfg->orth_reg_weight},
                   {"total_step", (double)total_of(c)},
                   {"lora_alpha", cfg->lora_alpha},
                   {"lora_dropout", cfg->lora_dropout}};
    for (size_t i = 0; i < FT_COUNT_OF(numbers); i++)
        cJSON_AddNumberToObject(o, numbers[i].key, numbers[i].value);
    pe_put_json(o, "rank_pattern", pattern);
    return o;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const adalora_cfg *cfg = c->cfg;
    const adalora *own = c->priv;
    const size_t bytes = (size_t)c->entries.n * sizeof(pe_entry);
    pe_ctx now = *c; /* with the tensors of the file in the place of the trained ones */
    cJSON *pattern = NULL;
    arena *mem = NULL;
    if (!is_masked(own))
        return pe_save_adapter(c, &cfg->target, config_of(c, cfg->rank_pattern), dir);
    ft_status rc = arena_open(&mem, "what is kept", (size_t)4 << 30);
    if (rc == FT_OK) now.entries.entry = arena_get(mem, bytes);
    if (rc == FT_OK && !now.entries.entry) rc = FT_EMEM;
    if (rc == FT_OK) {
        memcpy(now.entries.entry, c->entries.entry, bytes);
        pattern = cJSON_CreateObject();
        rc = cut_all(own, now.entries.entry, pattern, mem);
    }
    if (rc == FT_OK) rc = pe_save_adapter(&now, &cfg->target, config_of(c, pattern), dir);
    cJSON_Delete(pattern);
    arena_close(mem);
    return rc;
}

/* What LoRA's config has beside these, PEFT's AdaLoRA does not look at. */
static const pe_key keys[] = {
    PE_TARGET_KEYS,
    {"target_r", NULL},
    {"init_r", NULL},
    {"tinit", NULL},
    {"tfinal", NULL},
    {"deltaT", NULL},
    {"beta1", NULL},
    {"beta2", NULL},
    {"orth_reg_weight", NULL},
    {"total_step", NULL},
    {"lora_alpha", NULL},
    {"lora_dropout", NULL},
    {"rank_pattern", NULL},
    {"r", NULL},
    {"alpha_pattern", NULL},
    {"use_rslora", NULL},
    {"init_lora_weights", NULL},
    {"fan_in_fan_out", NULL},
    {"loftq_config", NULL},
    {"eva_config", NULL},
    {"corda_config", NULL},
    {"lora_ga_config", NULL},
    {"megatron_config", NULL},
    {"megatron_core", NULL},
    {"qalora_group_size", NULL},
    {NULL, NULL},
};

static bool is_pattern(const cJSON *v)
{
    const cJSON *list, *e;
    if (!cJSON_IsObject(v)) return false;
    cJSON_ArrayForEach(list, v)
    {
        if (!cJSON_IsArray(list)) return false;
        cJSON_ArrayForEach(e, list)
        {
            if (!cJSON_IsBool(e)) return false;
        }
    }
    return true;
}

/* How it was trained is of no use for what it computes; a run that goes on from it says that itself. */
static ft_status load_schedule(adalora_cfg *cfg, const js_doc *d)
{
    const cJSON *o = d->root;
    const int64_t most = (int64_t)1e12;
    FT_TRY(js_get_int(d, o, "target_r", 8, 1, 65536, &cfg->target_r));
    FT_TRY(js_get_int(d, o, "tinit", 0, 0, most, &cfg->tinit));
    FT_TRY(js_get_int(d, o, "tfinal", 0, 0, most, &cfg->tfinal));
    FT_TRY(js_get_int(d, o, "deltaT", 1, 1, most, &cfg->delta_t));
    FT_TRY(js_get_int(d, o, "total_step", 0, 1, most, &cfg->total_step));
    FT_TRY(js_get_num(d, o, "beta1", 0.85, &cfg->beta1));
    FT_TRY(js_get_num(d, o, "beta2", 0.85, &cfg->beta2));
    FT_TRY(js_get_num(d, o, "orth_reg_weight", 0.5, &cfg->orth_reg_weight));
    return js_get_num(d, o, "lora_dropout", 0.0, &cfg->lora_dropout);
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    adalora_cfg *cfg = c->cfg;
    FT_TRY(pe_check_keys(d, keys));
    FT_TRY(js_get_int(d, d->root, "init_r", 12, 1, 65536, &cfg->init_r));
    FT_TRY(pe_load_scale(d, "lora_alpha", 8.0, &cfg->lora_alpha));
    FT_TRY(pe_load_target(&cfg->target, d));
    FT_TRY(pe_load_json(d, "rank_pattern", is_pattern, &cfg->rank_pattern));
    if (pe_is_null(cfg->rank_pattern) || !cfg->rank_pattern->child) cfg->rank_pattern = NULL;
    return c->load_dir ? FT_OK : load_schedule(cfg, d);
}

const pe_method pe_adalora = {
    .name = "adalora",
    .qat = true,
    .help = "LoRA whose rank goes where it matters most; the result is a PEFT adapter",
    .about = "LoRA with more rank than it keeps: each module begins with init_r, and a budget that "
             "shrinks to target_r a module on average takes it from where it matters least. Take "
             "it where the rank that LoRA may have is small and the run is long enough to find out "
             "(some hundred steps; tinit of them before, tfinal after the choice). It costs LoRA's "
             "time and two more values for each that is trained.",
    .paper = "Zhang et al. 2023, AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient "
             "Fine-Tuning",
    .example = "{\"type\": \"adalora\", \"init_r\": 12, \"target_r\": 8}",
    .fields = fields,
    .cfg_size = sizeof(adalora_cfg),
    .peft_type = "ADALORA",
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 5e-4, /* of the paper's experiments on GLUE */
    .check = check,
    .attach = attach,
    .hooks = {.weight = weight},
    .metrics = metrics,
    .gradients = gradients,
    .after_update = after_update,
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
    .fold = fold,
    .unfold = pe_low_rank_unfold,
};
