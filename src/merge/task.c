/* task.c – a base and the sum of what other models changed in it: with δ_i = x_i − b, made sparse, and ω_i = w_i δ_i,
 * y = b + λ Σ ω_i. With consensus a value counts only where its sign is that of Σ ω_i; normalize divides by the weights
 * that count; rescale gives each sparse vector the sum of magnitudes that it had.
 *
 * Ilharco et al. 2023 (task_arithmetic), Yadav et al. 2023 (ties), Yu et al. 2024 (dare_*), Davari and Belilovsky 2024
 * (breadcrumbs*), Deep et al. 2024 (della*); the rules and defaults are mergekit's. */
#include <math.h>

#include "merge_private.h"

enum { WEIGHT, DENSITY, NORMALIZE, RESCALE, LAMBDA, INT8_MASK, EXTRA };
#define NAN_D ((double)NAN)
#define PARAMS(normal, rescaled)                                                                   \
    [WEIGHT] = {"weight", false, MERGE_OTHERS, NAN_D, "of what the model changed"},                \
    [DENSITY] = {"density", false, MERGE_OTHERS, 1, "share of the changes that is kept"},          \
    [NORMALIZE] = {"normalize", true, MERGE_SHARED, normal, "divide by the weights that count"},   \
    [RESCALE] = {"rescale", true, MERGE_SHARED, rescaled,                                          \
                 "what is kept gets the sum of magnitudes of all"},                                \
    [LAMBDA] = {"lambda", false, MERGE_SHARED, 1, "factor of the sum"},                            \
    [INT8_MASK] = {"int8_mask", true, MERGE_SHARED, 0, "of mergekit's memory; changes nothing"}
static const merge_param task_params[] = {PARAMS(0, 0), {0}};
static const merge_param ties_params[] = {PARAMS(1, 0), {0}};
static const merge_param dare_params[] = {PARAMS(0, 1), {0}};
static const merge_param breadcrumbs_params[] = {
    PARAMS(0, 0),
    [EXTRA] = {"gamma", false, MERGE_OTHERS, 0.01, "share of the largest changes that is dropped"},
    {0}};
#define EPSILON                                                                                    \
    [EXTRA] = {"epsilon", false, MERGE_OTHERS, 0.15, "by which the share of large ones is higher"}
static const merge_param della_params[] = {PARAMS(1, 1), EPSILON, {0}};
static const merge_param della_linear_params[] = {PARAMS(0, 1), EPSILON, {0}};

typedef struct kind {           /* of a row */
    const merge_sparse *sparse; /* NULL: all is kept */
    bool consensus;
} kind;
typedef struct task { /* of a tensor */
    merge_cut cut[MERGE_MODELS];
} task;

static const char *check_della(const merge_tensor *t)
{
    for (int i = 0; i < t->n; i++) {
        const double d = t->in[i].value[DENSITY], e = fabs(t->in[i].value[EXTRA]);
        if (i != t->base && d > 0 && d < 1 && (d + e >= 1 || d - e <= 0))
            return "density − epsilon and density + epsilon must lie between 0 and 1";
    }
    return NULL;
}

static const char *check_outliers(const merge_tensor *t)
{
    for (int i = 0; i < t->n; i++)
        if (i != t->base && t->in[i].value[EXTRA] < 0) return "gamma is a share, and not below 0";
    return NULL;
}

/* --- looking ------------------------------------------------------------------------------------------------- */

/* x_i − b of a tile, made sparse; as it is scaled. */
static void vector(const merge_tensor *t, const merge_cut *cut, const merge_rows *r, int i,
                   float *delta)
{
    const int64_t n = r->rows * r->cols;
    const float *x = r->x[i], *base = r->x[t->base];
    for (int64_t k = 0; k < n; k++) delta[k] = cut->none ? 0 : x[k] - base[k];
    if (cut->how && !cut->none) cut->how->cut(cut, r, delta);
    if (cut->scale != 1)
        for (int64_t k = 0; k < n; k++) delta[k] *= cut->scale;
}

typedef struct one {
    const merge_cut *cut;
    int input;
} one;

static void add_sizes(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    const one *o = ctx;
    const int64_t n = r->rows * r->cols;
    float *delta = pool_scratch(r->thread, 2, (size_t)n * sizeof *delta);
    if (!delta) return;
    vector(t, o->cut, r, o->input, delta);
    for (int64_t k = 0; k < n; k++) {
        sum[0] += fabs((double)(r->x[o->input][k] - r->x[t->base][k]));
        sum[1] += fabs((double)delta[k]);
    }
}

static ft_status look_at(merge_tensor *t, const kind *as, int i, merge_cut *cut)
{
    double sum[2];
    const double *v = t->in[i].value;
    *cut = (merge_cut){.density = v[DENSITY],
                       .gamma = v[EXTRA],
                       .epsilon = v[EXTRA],
                       .key = rng_key(rng_key_text(t->seed, t->name), (uint64_t)i, 0),
                       .scale = 1};
    if (!as->sparse || v[DENSITY] >= 1) return FT_OK;
    cut->how = as->sparse;
    cut->none = v[DENSITY] <= 0;
    if (cut->none) return FT_OK;
    if (cut->how->look) FT_TRY(cut->how->look(t, i, cut));
    if (t->value[RESCALE] == 0) return FT_OK;
    FT_TRY(merge_scan(t, (uint64_t)1 << i | (uint64_t)1 << t->base, add_sizes,
                      &(one){.cut = cut, .input = i}, sum, 2));
    if (sum[0] >= 1e-7 && sum[1] >= 1e-7) cut->scale = (float)(sum[0] / sum[1]);
    return FT_OK;
}

static ft_status look(merge_tensor *t)
{
    task *s = arena_get(t->mem, sizeof *s);
    if (!s) return FT_EMEM;
    t->state = s;
    for (int i = 0; i < t->n; i++)
        if (i != t->base) FT_TRY(look_at(t, t->method->row, i, &s->cut[i]));
    return FT_OK;
}

/* --- mixing -------------------------------------------------------------------------------------------------- */

/* Of one place: m the inputs but the base, w their weights, d their changes, a tile apart. */
static float sum_of(const float *d, const float *w, int m, int64_t tile, float *weights)
{
    float sum = 0;
    *weights = 0;
    for (int i = 0; i < m; i++) {
        sum += d[i * tile] * w[i];
        *weights += w[i];
    }
    if (fabsf(*weights) < 1e-8f) *weights = 1;
    return sum;
}

static float agreed_sum(const float *d, const float *w, int m, int64_t tile, float *weights)
{
    float all, sum = 0, used = 0;
    const bool up = sum_of(d, w, m, tile, &all) >= 0;
    for (int i = 0; i < m; i++) {
        const float x = d[i * tile] * w[i];
        if (up ? !(x > 0) : !(x < 0)) continue;
        sum += x;
        used += w[i];
    }
    *weights = used == 0 ? 1 : used;
    return sum;
}

static void mix(const merge_tensor *t, const merge_rows *r, float *y)
{
    const task *s = t->state;
    const kind *as = t->method->row;
    const int64_t n = r->rows * r->cols;
    const float *base = r->x[t->base], lambda = (float)t->value[LAMBDA];
    const bool normal = t->value[NORMALIZE] != 0;
    float *delta = pool_scratch(r->thread, 2, (size_t)(t->n * n) * sizeof *delta);
    float w[MERGE_MODELS], weights;
    int m = 0;
    if (!delta) return;
    for (int i = 0; i < t->n; i++) {
        if (i == t->base) continue;
        w[m] = (float)t->in[i].value[WEIGHT];
        vector(t, &s->cut[i], r, i, delta + m++ * n);
    }
    for (int64_t k = 0; k < n; k++) {
        float sum = as->consensus ? agreed_sum(delta + k, w, m, n, &weights)
                                  : sum_of(delta + k, w, m, n, &weights);
        if (normal) sum /= weights;
        if (lambda != 1) sum *= lambda;
        y[k] = base[k] + sum;
    }
}

/* --- rows ----------------------------------------------------------------------------------------------------- */
#define ROW(id, text, source, table, sparsifier, agrees, checks)                                   \
    static const kind id##_kind = {sparsifier, agrees};                                            \
    const merge_method merge_##id = {                                                              \
        .name = #id,                                                                               \
        .help = text,                                                                              \
        .paper = source,                                                                           \
        .params = table,                                                                           \
        .base = MERGE_NEEDS_BASE,                                                                  \
        .least = 1,                                                                                \
        .row = &id##_kind,                                                                         \
        .check = checks,                                                                           \
        .look = look,                                                                              \
        .mix = mix,                                                                                \
    }
ROW(task_arithmetic, "the base and the weighted changes of the others",
    "Ilharco et al. 2023, Editing models with task arithmetic", task_params, NULL, false, NULL);
ROW(ties, "the largest changes, where their signs agree", "Yadav et al. 2023, TIES-Merging",
    ties_params, &merge_magnitude, true, NULL);
ROW(dare_linear, "random changes, scaled up", "Yu et al. 2024, Language models are super Mario",
    dare_params, &merge_random, false, NULL);
ROW(dare_ties, "random changes, where their signs agree",
    "Yu et al. 2024, Language models are super Mario", dare_params, &merge_random, true, NULL);
ROW(breadcrumbs, "large changes without the largest",
    "Davari and Belilovsky 2024, Model Breadcrumbs", breadcrumbs_params, &merge_outliers, false,
    check_outliers);
ROW(breadcrumbs_ties, "large changes without the largest, where their signs agree",
    "Davari and Belilovsky 2024, Model Breadcrumbs", breadcrumbs_params, &merge_outliers, true,
    check_outliers);
ROW(della, "random changes, large ones more likely, where their signs agree",
    "Deep et al. 2024, DELLA-Merging", della_params, &merge_magprune, true, check_della);
ROW(della_linear, "random changes, large ones more likely", "Deep et al. 2024, DELLA-Merging",
    della_linear_params, &merge_magprune, false, check_della);
