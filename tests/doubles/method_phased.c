/* method_phased.c – a method of the tests that uses every phase: LoRA whose B is rounded to a grid in the forward (before_step),
 * held small by a penalty (gradients), whose A learns slower where inputs are large (prepare, transform) and is set to its
 * running mean every third step (after_update). Nothing of it is worth having; each phase leaves a mark in every later bit. */
#include "doubles.h"

#include "ft/method.h"

#include <math.h>
#include <string.h>

typedef struct phased_cfg {
    pe_target target;
    double phased_penalty;
} phased_cfg;

typedef struct phased_slot {
    nn_param *a, *b;         /* [RANK, in], [out, RANK] */
    tn_tensor coarse;        /* b on the grid; its gradient is b's */
    nn_param *energy, *mean; /* states: Σ x² of each input over some samples; running mean of a */
} phased_slot;

enum { RANK = 2, SAMPLES = 5, WARM_UPDATES = 2 };

str_buf phased_calls;

static const cfg_field fields[] = {
    PE_TARGET_FIELDS(phased_cfg, target),
    {.key = "phased_penalty",
     .type = CFG_FLOAT,
     .offset = offsetof(phased_cfg, phased_penalty),
     .def = "0.1",
     .low = 0,
     .high = 1e3,
     .help = "of the squares of B"},
    CFG_END,
};

/* The slot of site i; NULL: not a target. */
static phased_slot *slot_at(const pe_ctx *c, int64_t i)
{
    return nn_slot_of(&c->over, &c->m->site[i]);
}

static void copy(nn_param *to, const nn_param *from)
{
    memcpy(to->t.data, from->t.data, (size_t)tn_count(&from->t) * sizeof(float));
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
static ft_status attach_site(pe_ctx *c, nn_site *site)
{
    phased_slot *s = arena_get(c->mem, sizeof *s);
    const char *ka = pe_file_key(c, site->path, ".phased_A"),
               *kb = pe_file_key(c, site->path, ".phased_B"),
               *ke = pe_file_key(c, site->path, ".energy"),
               *km = pe_file_key(c, site->path, ".mean");
    if (!s || !ka || !kb || !ke || !km) return FT_EMEM;
    FT_TRY(nn_new_param(&c->store, ka, RANK, site->in, &s->a));
    FT_TRY(nn_new_param(&c->store, kb, site->out, RANK, &s->b));
    FT_TRY(nn_new_state(&c->store, ke, site->in, 0, &s->energy));
    FT_TRY(nn_new_state(&c->store, km, RANK, site->in, &s->mean));
    s->coarse = s->b->t;
    s->coarse.data = arena_get(c->mem, (size_t)(site->out * RANK) * sizeof(float));
    if (!s->coarse.data) return FT_EMEM;
    c->over.slot[site->index] = s;
    if (!c->dry) {
        float in = 1.0f / sqrtf((float)site->in);
        rng_fill_uniform(tn_f32(&s->a->t), RANK * site->in, rng_key_text(c->seed, ka), -in, in);
        copy(s->mean, s->a);
    }
    FT_TRY(pe_add_entry(c, s->a, ka, false));
    return pe_add_entry(c, s->b, kb, false);
}

static ft_status attach(pe_ctx *c)
{
    const phased_cfg *cfg = c->cfg;
    return pe_attach_target(c, &cfg->target, attach_site);
}

static tn_tensor *post(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y)
{
    ag_low_rank parts[AG_MAX_GROUP];
    int n = 0;
    int64_t col = 0;
    for (int i = 0; i < g->n; col += g->site[i++].out) {
        phased_slot *s = nn_slot(r, &g->site[i]);
        if (s)
            parts[n++] = (ag_low_rank){.a = &s->a->t, .b = &s->coarse, .scale = 1.0f, .col = col};
    }
    return n > 0 ? ag_low_rank_add(r->t, y, x, parts, n) : y;
}

/* --- phases --------------------------------------------------------------------------------------------------------- */
/* Row by row: how a pass is cut leaves no mark. */
static tn_tensor *collect(nn_run *r, const nn_group *g, tn_tensor *x)
{
    const int64_t cols = tn_cols(x);
    float *row = ag_temp(r->t, cols); /* x may be bf16 */
    for (int i = 0; row && i < g->n; i++) {
        phased_slot *s = nn_slot(r, &g->site[i]);
        for (int64_t k = 0; s && !r->t->dry && k < tn_rows(x); k++) {
            tn_unpack_rows(row, x, k, 1);
            for (int64_t c = 0; c < cols; c++) tn_f32(&s->energy->t)[c] += row[c] * row[c];
        }
    }
    ag_temp_free(r->t, row, cols);
    return x;
}

static ft_status warm(pe_ctx *c, const nn_feed *f, const int64_t *sample, int n)
{
    double loss = 0;
    for (int i = 0; i < WARM_UPDATES; i++) {
        FT_TRY(f->pass(f, sample, n, &c->over, true, &loss));
        FT_TRY(f->update(f, f->learning_rate));
    }
    str_printf(&phased_calls, "p%d ", loss > 0);
    return FT_OK;
}

/* The base's inputs over a few samples, times how far two updates carry B; then A and B are as before. */
static ft_status prepare(pe_ctx *c, const nn_feed *f)
{
    static const nn_hooks collecting = {.pre = collect};
    nn_overlay look = {.hooks = &collecting, .slot = c->over.slot};
    int64_t sample[SAMPLES];
    int n = (int)(f->samples < SAMPLES ? f->samples : SAMPLES);
    for (int i = 0; i < n; i++) sample[i] = (3 * i + f->samples - 2) % f->samples;
    FT_TRY(f->pass(f, sample, n, &look, false, NULL));
    size_t bytes = (size_t)c->store.count * sizeof(float);
    float *before = ft_alloc(bytes, 1);
    if (!before) return FT_EMEM;
    memcpy(before, c->store.w, bytes);
    ft_status rc = warm(c, f, sample, n);
    for (int64_t i = 0; i < c->m->n_site; i++) {
        phased_slot *s = slot_at(c, i);
        float far = 0;
        for (int64_t k = 0; s && k < tn_count(&s->b->t); k++) far += fabsf(tn_f32(&s->b->t)[k]);
        for (int64_t k = 0; s && k < tn_count(&s->energy->t); k++)
            tn_f32(&s->energy->t)[k] *= 1.0f + far;
    }
    memcpy(c->store.w, before, bytes);
    ft_free(before);
    return rc;
}

static ft_status before_step(pe_ctx *c, int64_t step)
{
    for (int64_t i = 0; i < c->m->n_site; i++) {
        phased_slot *s = slot_at(c, i);
        for (int64_t k = 0; s && k < tn_count(&s->coarse); k++)
            tn_f32(&s->coarse)[k] = roundf(tn_f32(&s->b->t)[k] * 64.0f) / 64.0f;
    }
    str_printf(&phased_calls, "b%lld ", (long long)step);
    return FT_OK;
}

static double gradients(pe_ctx *c)
{
    const phased_cfg *cfg = c->cfg;
    float penalty = (float)cfg->phased_penalty;
    double part = 0;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        phased_slot *s = slot_at(c, i);
        for (int64_t k = 0; s && k < tn_count(&s->b->t); k++) {
            float b = tn_f32(&s->b->t)[k];
            s->b->t.grad[k] += penalty * b;
            part += 0.5 * (double)(penalty * b * b);
        }
    }
    c->metric[0] = part;
    str_adds(&phased_calls, "g ");
    return part;
}

static void transform(pe_ctx *c)
{
    for (int64_t i = 0; i < c->m->n_site; i++) {
        phased_slot *s = slot_at(c, i);
        for (int64_t k = 0; s && k < tn_count(&s->a->t); k++)
            s->a->t.grad[k] /= sqrtf(1.0f + tn_f32(&s->energy->t)[k % s->a->t.dim[1]]);
    }
    str_adds(&phased_calls, "t ");
}

static ft_status after_update(pe_ctx *c, const pe_update *u)
{
    double far = 0;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        phased_slot *s = slot_at(c, i);
        for (int64_t k = 0; s && k < tn_count(&s->a->t); k++) {
            float *mean = &tn_f32(&s->mean->t)[k], *a = &tn_f32(&s->a->t)[k];
            *mean = 0.9f * *mean + 0.1f * *a;
            far += (double)fabsf(*a - *mean) * u->gscale;
            if (u->step % 3 == 0) *a = *mean;
        }
    }
    c->metric[1] = far;
    str_printf(&phased_calls, "a%lld ", (long long)u->step);
    return FT_OK;
}

/* --- the row ---------------------------------------------------------------------------------------------------------- */
static ft_status save(const pe_ctx *c, const char *dir)
{
    const phased_cfg *cfg = c->cfg;
    return pe_save_adapter(c, &cfg->target, cJSON_CreateObject(), dir);
}

static const char *const metrics[] = {"penalty", "mean_distance", NULL};

extern const pe_method pe_phased;
const pe_method pe_phased = {
    .name = "phased",
    .help = "uses every phase (tests)",
    .fields = fields,
    .cfg_size = sizeof(phased_cfg),
    .peft_type = "PHASED",
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 2e-4,
    .attach = attach,
    .hooks = {.post = post},
    .metrics = metrics,
    .prepare = prepare,
    .before_step = before_step,
    .gradients = gradients,
    .transform = transform,
    .after_update = after_update,
    .save = save,
};
