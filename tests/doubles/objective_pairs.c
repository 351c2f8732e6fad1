/* objective_pairs.c – two objectives over pairs: `preference` takes them from its source, `halves` makes them of ordinary
 * records, the first half being better than the second by decree.
 *
 * Loss of a pair (Rafailov et al. 2023, with a moving offset so that there is a state):  −log σ(β(δ − m)), δ the difference
 * of the two answers' log π − log r, r the base without the overlay, m the running mean of log r's own differences. */
#include "doubles.h"

#include "ft/objective.h"

#include <math.h>
#include <string.h>

typedef struct pairs_cfg {
    double beta;
} pairs_cfg;

static const cfg_field fields[] = {{"beta", CFG_FLOAT, offsetof(pairs_cfg, beta), .def = "0.5",
                                    .low = 0, .high = 100, .low_open = true,
                                    .help = "weight of the reference"},
                                   CFG_END};

typedef struct pairs {
    double *ref;      /* [n, 2] log r of the step's pairs */
    float mean, next; /* m, and as it is after this step */
} pairs;

static ft_status open_pairs(obj_ctx *c, bool weights)
{
    (void)weights;
    c->priv = arena_get(c->mem, sizeof(pairs));
    return c->priv ? FT_OK : FT_EMEM;
}

/* Every batch is learned from twice. */
static int64_t reuse(const void *cfg)
{
    (void)cfg;
    return 2;
}

/* --- the step ------------------------------------------------------------------------------------------------------- */

static ft_status halve(obj_ctx *c, obj_step *s)
{
    data_sample *out = arena_get(c->step_mem, (size_t)s->n * sizeof *out);
    if (!out) return FT_EMEM;
    for (int i = 0; i < s->n; i++) {
        int32_t *len = arena_get(c->step_mem, 2 * sizeof *len);
        if (!len) return FT_EMEM;
        len[0] = (int32_t)(s->sample[i].len / 2);
        len[1] = (int32_t)s->sample[i].len - len[0];
        out[i] = s->sample[i];
        out[i].seq_len = len;
        out[i].n_seq = 2;
    }
    s->sample = out;
    return FT_OK;
}

/* [S, 1] log-probabilities of the rows with a label, and their sums by slot and place in the pair. */
static tn_tensor *score(obj_ctx *c, nn_run *r, const data_batch *b, double *sum)
{
    float *logprob = ag_meta(r->t, (size_t)(r->supervised + 1) * sizeof *logprob);
    tn_tensor *h = model_hidden(c->m, r);
    ag_score s = {.head = model_head(c->m, r), .label = r->label, .logprob = logprob};
    if (!logprob) return NULL;
    tn_tensor *y = ag_logprob(r->t, h, &s);
    if (r->t->status != FT_OK || r->t->dry) return y;
    int64_t row = 0;
    for (int i = 0; i < b->in.n_seq; i++) {
        bool second = i > 0 && b->seq_slot[i] == b->seq_slot[i - 1];
        double *to = &sum[2 * b->seq_slot[i] + second];
        *to = 0;
        for (int32_t k = 0; k < b->in.len[i]; k++, row++)
            if (b->in.label[row] >= 0) *to += (double)*logprob++;
    }
    return y;
}

static ft_status prepare(obj_ctx *c, obj_step *s)
{
    pairs *p = c->priv;
    data_step plan;
    data_batch b;
    nn_run r;
    double mean = 0;
    if (c->row->wants & DATA_TOKENS) FT_TRY(halve(c, s));
    p->ref = arena_get(c->step_mem, 2 * (size_t)s->n * sizeof *p->ref);
    if (!p->ref) return FT_EMEM;
    FT_TRY(data_step_plan(s->sample, s->n, &s->split, &plan, c->step_mem));
    for (int i = 0; i < plan.n_micro; i++) {
        FT_TRY(data_batch_make(s->sample, &plan.micro[i], 0, &b, c->step_mem));
        ag_reset(c->tape);
        FT_TRY(nn_run_open(&r, c->tape, &b.in, NULL, 0));
        score(c, &r, &b, p->ref);
        FT_TRY(c->tape->status);
    }
    for (int i = 0; i < s->n; i++) mean += (p->ref[2 * i] - p->ref[2 * i + 1]) / s->n;
    p->next = 0.9f * p->mean + 0.1f * (float)mean;
    return FT_OK;
}

enum { MARGINS, ACCURACIES };
static const char *const metrics[] = {
    [MARGINS] = "rewards/margins", [ACCURACIES] = "rewards/accuracies", NULL};

static tn_tensor *loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    const pairs *p = c->priv;
    const double beta = ((const pairs_cfg *)c->cfg)->beta;
    float *weight = ag_meta(r->t, (size_t)(r->supervised + 1) * sizeof *weight);
    double *sum = NULL, seed[2] = {0};
    int slots = 0;
    for (int i = 0; i < b->in.n_seq; i++)
        slots = b->seq_slot[i] < slots ? slots : b->seq_slot[i] + 1;
    if (weight) sum = ag_meta(r->t, 2 * (size_t)slots * sizeof *sum);
    if (!sum) return NULL;
    tn_tensor *y = score(c, r, b, sum);
    if (r->t->status != FT_OK) return NULL;
    int64_t row = 0, at = 0;
    for (int i = 0; i < b->in.n_seq && !r->t->dry; i++) {
        const double *pi = &sum[2 * b->seq_slot[i]], *ref = &p->ref[2 * b->seq_slot[i]];
        bool second = i > 0 && b->seq_slot[i] == b->seq_slot[i - 1];
        if (!second) {
            double delta = (pi[0] - ref[0]) - (pi[1] - ref[1]);
            double z = beta * (delta - (double)p->mean);
            stats->loss += log1p(exp(-z));
            stats->units++;
            stats->metric[MARGINS].sum += beta * delta;
            stats->metric[MARGINS].weight++;
            stats->metric[ACCURACIES].sum += delta > 0;
            stats->metric[ACCURACIES].weight++;
            seed[0] = units > 0 ? -beta / (1 + exp(z)) / units : 0;
            seed[1] = -seed[0];
        }
        for (int32_t k = 0; k < b->in.len[i]; k++, row++)
            if (b->in.label[row] >= 0) weight[at++] = (float)seed[second];
    }
    if (!r->t->dry) stats->tokens += r->supervised;
    return ag_dot_const(r->t, y, weight);
}

/* --- from step to step ------------------------------------------------------------------------------------------------ */

static ft_status after_update(obj_ctx *c, int64_t step)
{
    pairs *p = c->priv;
    (void)step;
    p->mean = p->next;
    return FT_OK;
}

static ft_status state(obj_ctx *c, nn_arrays *a)
{
    pairs *p = c->priv;
    int64_t one = 1;
    void *data = &p->mean;
    FT_TRY(nn_array_of(a, "reference_margin", &dt_f32, 1, &one, &data));
    if (a->loading) {
        FT_CHECK(one == 1, FT_EDATA, "reference_margin: %lld values", (long long)one);
        memcpy(&p->mean, data, sizeof p->mean);
    }
    return FT_OK;
}

const obj_objective obj_halves = {
    .name = "halves",
    .help = "the first half of a record rather than the second",
    .fields = fields,
    .cfg_size = sizeof(pairs_cfg),
    .wants = DATA_TOKENS,
    .unit = OBJ_SAMPLES,
    .reference = true,
    .metrics = metrics,
    .open = open_pairs,
    .reuse = reuse,
    .prepare = prepare,
    .loss = loss,
    .after_update = after_update,
    .state = state,
};

const obj_objective obj_preference = {
    .name = "preference",
    .help = "the chosen answer rather than the rejected one",
    .fields = fields,
    .cfg_size = sizeof(pairs_cfg),
    .wants = DATA_PAIRS,
    .unit = OBJ_SAMPLES,
    .metrics = metrics,
    .open = open_pairs,
    .reuse = reuse,
    .prepare = prepare,
    .loss = loss,
    .after_update = after_update,
    .state = state,
};
