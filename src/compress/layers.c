/* layers.c – whole layers go that change the stream least, or those that are named; the others follow each other.
 *
 *   block_influence (Men et al. 2024, ShortGPT): 1 − mean over tokens of cos(h in front of the layer, h behind it); the `drop`
 *   lowest go.
 *   angular (Gromov et al. 2024): the run of `drop` layers with the least mean of arccos(cos(h in front of the first, h behind the
 *   last)) / π over the last token of each sequence. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress_private.h"
#include "ft/kernel.h"

typedef struct layers_cfg {
    int64_t drop;
    const char *importance;
    const cJSON *layers;
} layers_cfg;

#define AT(field) offsetof(layers_cfg, field)
static const char *const importances[] = {"block_influence", "angular", NULL};
static const char *const shapes[] = {"list of layers, from 0", NULL};
static const cfg_field fields[] = {
    {.key = "drop",
     .type = CFG_INT,
     .offset = AT(drop),
     .def = "0",
     .low = 0,
     .high = 1 << 20,
     .help = "how many layers go"},
    {.key = "importance",
     .type = CFG_ENUM,
     .offset = AT(importance),
     .def = "\"block_influence\"",
     .choices = importances,
     .help =
         "block_influence: each by how little it turns the stream; angular: a run of neighbours"},
    {.key = "layers",
     .type = CFG_JSON,
     .offset = AT(layers),
     .choices = shapes,
     .help = "which ones go, in place of drop"},
    CFG_END};

static bool is_list(const cJSON *list)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, list)
    {
        const double v = e->valuedouble;
        if (!cJSON_IsNumber(e) || !(v >= 0 && v < 1 << 20) || v != floor(v)) return false;
        for (const cJSON *other = list->child; other != e; other = other->next)
            if (other->valuedouble == v) return false;
    }
    return cJSON_IsArray(list) && list->child;
}

static void check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg)
{
    const layers_cfg *c = cfg;
    const char *const others[] = {"drop", "importance"};
    (void)path;
    if (!c->layers && c->drop < 1 && !cfg_is_wrong(d, "prune.drop"))
        cfg_missing(d, object, "prune.drop", "missing; how many layers go, or prune.layers: which");
    if (c->layers && !is_list(c->layers))
        cfg_fail(d, c->layers, "prune.layers",
                 "must be a list of layers, whole numbers from 0, each once");
    for (size_t i = 0; c->layers && i < FT_COUNT_OF(others); i++)
        if (js_get(object, others[i]))
            cfg_fail(d, js_get(object, others[i]), i ? "prune.importance" : "prune.drop",
                     "does not go with prune.layers, which names them; leave one out");
}

static bool spared(const void *cfg)
{
    return ((const layers_cfg *)cfg)->layers;
}

/* --- scores --------------------------------------------------------------------------------------------------------- */
typedef struct scoring {
    const layers_cfg *c;
    int64_t cols, n; /* n: layers of the model */
    float *before;   /* block_influence: [tokens, cols] the stream in front of the layer before */
    float *last;     /* angular: [n + 1, samples, cols] of the last tokens */
    double *sum;     /* block_influence: [n] of cosines */
    int64_t samples;
} scoring;

/* Of two directions, one of which is none: 0 */
static double cosine(const float *a, const float *b, int64_t n)
{
    const double both = kn_sum_squares(a, n) * kn_sum_squares(b, n);
    const double c = both > 0 ? kn_dot(a, b, n) / sqrt(both) : 0;
    return c > 1 ? 1 : c < -1 ? -1 : c;
}

static ft_status see_influence(void *ctx, int layer, const cmp_pass *p, const float *h)
{
    scoring *s = ctx;
    float *before = s->before + p->at * s->cols;
    for (int64_t r = 0; layer > 0 && r < p->rows; r++)
        s->sum[layer - 1] += cosine(before + r * s->cols, h + r * s->cols, s->cols);
    memcpy(before, h, (size_t)(p->rows * s->cols) * sizeof *h);
    return FT_OK;
}

static ft_status see_last(void *ctx, int layer, const cmp_pass *p, const float *h)
{
    scoring *s = ctx;
    int64_t row = 0;
    for (int i = 0; i < p->n; i++) {
        row += p->len[i];
        if (p->len[i] > 0)
            memcpy(s->last + (layer * s->samples + p->first + i) * s->cols, h + (row - 1) * s->cols,
                   (size_t)s->cols * sizeof *h);
    }
    return FT_OK;
}

static double angle_of(const scoring *s, int64_t first)
{
    const float *a = s->last + first * s->samples * s->cols;
    const float *b = s->last + (first + s->c->drop) * s->samples * s->cols;
    double sum = 0;
    for (int64_t i = 0; i < s->samples; i++)
        sum += acos(cosine(a + i * s->cols, b + i * s->cols, s->cols)) / M_PI;
    return sum / (double)s->samples;
}

/* The lowest score that is not taken yet, the first of equal ones. */
static void take_lowest(cmp_dropped *out, bool *taken)
{
    int best = -1;
    for (int i = 0; i < out->n_score; i++)
        if (!taken[i] && (best < 0 || out->score[i] < out->score[best])) best = i;
    taken[best] = true;
}

static ft_status by_influence(cmp_walk *w, scoring *s, cmp_dropped *out)
{
    bool *taken = arena_get(w->mem, (size_t)s->n * sizeof *taken);
    s->before = arena_raw(w->mem, (size_t)(w->tokens * s->cols) * sizeof *s->before);
    s->sum = arena_get(w->mem, (size_t)s->n * sizeof *s->sum);
    if (!taken || !s->before || !s->sum) return FT_EMEM;
    FT_TRY(cmp_streams(w, see_influence, s));
    out->n_score = (int)s->n;
    for (int64_t i = 0; i < s->n; i++) out->score[i] = 1.0 - s->sum[i] / (double)w->tokens;
    for (int i = 0; i < out->n; i++) take_lowest(out, taken);
    for (int i = 0, k = 0; i < s->n; i++)
        if (taken[i]) out->layer[k++] = i;
    return FT_OK;
}

static ft_status by_angle(cmp_walk *w, scoring *s, cmp_dropped *out)
{
    int best = 0;
    s->samples = w->o.n_samples;
    s->last = arena_get(w->mem, (size_t)((s->n + 1) * s->samples * s->cols) * sizeof *s->last);
    if (!s->last) return FT_EMEM;
    FT_TRY(cmp_streams(w, see_last, s));
    out->n_score = (int)(s->n - s->c->drop + 1);
    for (int i = 0; i < out->n_score; i++) {
        out->score[i] = angle_of(s, i);
        if (out->score[i] < out->score[best]) best = i;
    }
    for (int i = 0; i < out->n; i++) out->layer[i] = best + i;
    return FT_OK;
}

/* --- which ones ------------------------------------------------------------------------------------------------------- */
static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static ft_status as_named(const cmp_walk *w, const cJSON *list, cmp_dropped *out)
{
    const cJSON *e;
    int n = 0;
    cJSON_ArrayForEach(e, list)
    {
        FT_CHECK(e->valuedouble < (double)w->m->d.n_layer, FT_EDATA,
                 "prune.layers: %d: %s has layers 0 to %d", (int)e->valuedouble,
                 ft_shows(w->m->path), (int)w->m->d.n_layer - 1);
        out->layer[n++] = (int)e->valuedouble;
    }
    qsort(out->layer, (size_t)n, sizeof *out->layer, by_number);
    return FT_OK;
}

static ft_status drop(cmp_walk *w, const void *cfg, cmp_dropped *out)
{
    const layers_cfg *c = cfg;
    const int64_t n = w->m->d.n_layer;
    scoring s = {.c = c, .cols = w->m->d.hidden_size, .n = n};
    *out = (cmp_dropped){.n = c->layers ? cJSON_GetArraySize(c->layers) : (int)c->drop};
    FT_CHECK(out->n < n, FT_EDATA, "%s: %d layers cannot go of %d; at least one has to stay",
             ft_shows(w->m->path), out->n, (int)n);
    out->layer = arena_get(w->mem, (size_t)(out->n + 1) * sizeof *out->layer);
    out->score = arena_get(w->mem, (size_t)(n + 1) * sizeof *out->score);
    if (!out->layer || !out->score) return FT_EMEM;
    if (c->layers) return as_named(w, c->layers, out);
    return (strcmp(c->importance, "angular") == 0 ? by_angle : by_influence)(w, &s, out);
}

/* The streams that are compared. */
static size_t room(const cmp_block *b, const void *cfg)
{
    const cmp_walk *w = b->walk;
    const layers_cfg *c = cfg;
    const size_t row = (size_t)b->m->d.hidden_size * sizeof(float);
    if (c->layers) return 0;
    return strcmp(c->importance, "angular") == 0
               ? (size_t)(b->m->d.n_layer + 1) * (size_t)w->o.n_samples * row
               : (size_t)w->tokens * row;
}

const cmp_method cmp_pruner_layers = {
    .name = "layers",
    .help = "whole layers, those that change the stream least, or those that are named",
    .paper = "Men et al. 2024; Gromov et al. 2024",
    .fields = fields,
    .cfg_size = sizeof(layers_cfg),
    .check = check,
    .calibrated = true,
    .spared = spared,
    .room = room,
    .drop = drop,
};
