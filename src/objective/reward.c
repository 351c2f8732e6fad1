/* reward.c – reward models from pairs of answers (Bradley and Terry 1952; Ouyang et al. 2022, InstructGPT).
 *
 *   −log σ(r_w − r_l − margin) + c · (r_w + r_l)²,  r = score · h at the last token of prompt and answer
 * The margin is of the record (Touvron et al. 2023, Llama 2), c is center_rewards_coefficient: it keeps rewards around zero
 * (Eisenstein et al. 2023). The model is a sequence classifier (classifier.c), whose head is trained with every method. */
#include "pairs.h"

typedef struct reward_cfg {
    double center_rewards_coefficient; /* NAN: none */
} reward_cfg;

static const cfg_field fields[] = {
    {.key = "center_rewards_coefficient",
     .type = CFG_FLOAT,
     .offset = offsetof(reward_cfg, center_rewards_coefficient),
     .low = 0,
     .high = 1e6,
     .help = "weight of the squared sum of both rewards, which keeps them around zero; default: "
             "none (0.01 is usual)"},
    CFG_END};

enum { ACCURACY, MARGIN, MIN, MEAN, MAX };
static const char *const metrics[] = {"accuracy",    "margin",     "min_reward",
                                      "mean_reward", "max_reward", NULL};

/* The rewards of a run's sequences: [sequences, 1]. */
static tn_tensor *rewards(const model *m, nn_run *r, tn_tensor *hidden)
{
    const ag_rows *rows = r->rows;
    int64_t *at = ag_meta(r->t, ((size_t)rows->n_seq + 1) * sizeof *at), from = 0;
    const ag_head head = model_head(m, r);
    if (r->t->status != FT_OK) return NULL;
    for (int q = 0; q < rows->n_seq; from += rows->len[q++])
        at[q] = from + model_reward_row(m, r->ids + from, rows->len[q]);
    tn_tensor *x = ag_gather_rows(r->t, hidden, at, rows->n_seq);
    ag_set_rows(r->t, ag_pick_rows(r->t, at, rows->n_seq));
    tn_tensor *y = head.fn(head.ctx, x);
    ag_set_rows(r->t, rows);
    return y;
}

static void note(obj_metric *m, double value)
{
    m->sum += value;
    m->weight++;
}

/* The least of all, or the most: a mean of one. */
static void note_end(obj_metric *m, double value, bool most)
{
    if (m->weight == 0 || (most ? value > m->sum : value < m->sum)) m->sum = value;
    m->weight = 1;
}

static void log_pair(obj_stats *stats, double w, double l)
{
    note(&stats->metric[ACCURACY], w > l);
    note(&stats->metric[MARGIN], w - l);
    for (int k = 0; k < 2; k++) {
        const double one = k == 0 ? w : l;
        note_end(&stats->metric[MIN], one, false);
        note(&stats->metric[MEAN], one);
        note_end(&stats->metric[MAX], one, true);
    }
}

/* Loss of a pair; its slopes by each reward. */
static double pair(const reward_cfg *c, double w, double l, double margin, double slope[2])
{
    const double z = w - l - margin, both = w + l;
    const double center = isnan(c->center_rewards_coefficient) ? 0 : c->center_rewards_coefficient;
    slope[0] = 2 * center * both - pairs_sigmoid(-z);
    slope[1] = 2 * center * both + pairs_sigmoid(-z);
    return center * both * both - pairs_log_sigmoid(z);
}

static tn_tensor *loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    tn_tensor *hidden = model_hidden(c->m, r);
    tn_tensor *y = rewards(c->m, r, hidden);
    float *weight = ag_meta(r->t, ((size_t)b->in.n_seq + 1) * sizeof *weight);
    if (r->t->status != FT_OK) return NULL;
    for (int q = 0; q + 1 < b->in.n_seq && !r->t->dry; q += 2) {
        double slope[2];
        const double w = (double)tn_f32(y)[q], l = (double)tn_f32(y)[q + 1];
        stats->loss += pair(c->cfg, w, l, b->value[q], slope);
        stats->units++;
        log_pair(stats, w, l);
        for (int k = 0; k < 2; k++) weight[q + k] = units > 0 ? (float)(slope[k] / units) : 0;
    }
    if (!r->t->dry) stats->tokens += r->supervised;
    return ag_dot_const(r->t, y, weight);
}

const obj_objective obj_reward = {
    .name = "reward",
    .help = "a reward model: a number for a text, higher for chosen answers than for rejected ones",
    .fields = fields,
    .cfg_size = sizeof(reward_cfg),
    .wants = DATA_PAIRS,
    .unit = OBJ_SAMPLES,
    .calm = true,
    .scores = true,
    .learning_rate = 1e-4,
    .adapter_rate = 1e-4,
    .metrics = metrics,
    .telling = "margin",
    .loss = loss,
};
