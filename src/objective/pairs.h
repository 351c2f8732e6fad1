/* pairs.h – what the losses over judged answers share (pairs.c): log-probabilities of answers under the policy and the
 * reference, the reference itself, the figures that are logged.
 *
 * A sample holds one, two or three answers to one prompt. An objective says in a row what it makes of one sample's sums; rows
 * that need the whole step (sorts, a mean over it) see it before its micro-batches. */
#ifndef FT_OBJECTIVE_PAIRS_H
#define FT_OBJECTIVE_PAIRS_H

#include "other.h"

#include <math.h>

enum { PAIRS_CHOSEN, PAIRS_REJECTED, PAIRS_GOLD, PAIRS_SIDES };

/* The first member of the struct of an objective of these. */
typedef struct pairs_cfg {
    double beta;
    const char *reference; /* NULL, "base", or a path */
    bool precompute_ref_log_probs;
} pairs_cfg;

#define PAIRS_AT(member) offsetof(pairs_cfg, member)
#define PAIRS_BETA(d, h)                                                                           \
    {                                                                                              \
        .key = "beta", .type = CFG_FLOAT, .offset = PAIRS_AT(beta), .def = d, .low = 0,            \
        .high = 1e6, .low_open = true, .help = h                                                   \
    }
#define PAIRS_REFERENCE                                                                            \
    {.key = "reference",                                                                           \
     .type = CFG_PATH,                                                                             \
     .offset = PAIRS_AT(reference),                                                                \
     .choices = obj_pairs_references,                                                              \
     .help = "model or adapter that the policy is held to; default: what it begins as"},           \
    {                                                                                              \
        .key = "precompute_ref_log_probs", .type = CFG_BOOL,                                       \
        .offset = PAIRS_AT(precompute_ref_log_probs), .def = "false",                              \
        .help = "log-probabilities of the reference once for all samples, before step 1"           \
    }
extern const char *const obj_pairs_references[];

/* One answer of a sample. */
typedef struct pairs_side {
    double logp,
        ref;      /* Σ weight · log-probability of its tokens: of the policy, of the reference */
    double plain; /* Σ log-probability of the policy, without weights */
    double aligned;            /* Σ (log π(t) − log Σ π²), where the objective asks for it */
    double apart;              /* Σ KL(r ‖ π) at its tokens, likewise */
    int64_t n;                 /* its tokens */
    double slope, apart_slope; /* out: d loss / d logp, / d apart */
} pairs_side;

typedef struct pairs_sample {
    pairs_side side[PAIRS_SIDES];
    int n;        /* sides that it has */
    int slot;     /* in the step */
    double value; /* of the record: a label, a margin */
    double loss;  /* out */
} pairs_sample;

/* What is logged, beside the loss; the first two of each sample's answers. */
typedef enum pairs_metric {
    PAIRS_REWARD_CHOSEN,
    PAIRS_REWARD_REJECTED,
    PAIRS_MARGINS,
    PAIRS_ACCURACIES,
    PAIRS_LOGPS_CHOSEN,
    PAIRS_LOGPS_REJECTED,
    PAIRS_ENTROPY,
    PAIRS_NLL,
    PAIRS_ODDS_RATIO,
    PAIRS_ODDS_CHOSEN,
    PAIRS_KL,
    PAIRS_METRICS
} pairs_metric;
extern const char *const obj_pairs_metric_names[PAIRS_METRICS];

typedef struct pairs pairs;

/* An objective's own, over its cfg. */
typedef struct pairs_kind {
    bool reference;  /* it reads log r */
    bool asked;      /* at every step, whatever records carry */
    bool aligned;    /* it reads pairs_side.aligned */
    bool apart;      /* and pairs_side.apart, once the step's micro-batches run */
    bool whole;      /* `step` reads the policy's sums of the whole step */
    bool mismatched; /* and those of each prompt with the answer of the sample before it */
    double tail;     /* weight of tokens beyond the shorter answer's length; 1 */
    double nll;      /* weight of the mean cross-entropy that joins the loss; 0: none */
    int nll_side;    /* of which answer's tokens, */
    bool nll_prompt; /* its prompt's too */
    /* The step is known: p->sample [n] without slopes. May be NULL. */
    void (*step)(pairs *p);
    /* Loss and slopes of one sample. */
    void (*each)(pairs *p, pairs_sample *x);
    /* Rewards of a sample and what else it logs (obj_pairs_log). */
    void (*log)(pairs *p, const pairs_sample *x, obj_stats *stats);
} pairs_kind;

struct pairs {
    const obj_ctx *c;
    pairs_kind kind;
    int at[PAIRS_METRICS];  /* index among the row's metrics; −1: not logged */
    obj_other ref;          /* the reference */
    kn_precision precision; /* of steps; evaluations are exact */
    double *table;          /* [samples of both sets, SIDES] of precompute_ref_log_probs */
    /* the step */
    pairs_sample *sample; /* [n] */
    const data_sample *of;
    int n;
    pairs_sample *other; /* [n] mismatched ones */
    double nll_tokens;   /* of the step */
    double shared;       /* kto's z of the step */
    void *own;           /* the objective's, of the step */
};

/* Rows of `objective`: open makes the pairs from the cfg's kind. */
FT_MUST_USE ft_status obj_pairs_open(obj_ctx *c, bool weights, const pairs_kind *kind);
void obj_pairs_close(obj_ctx *c);
FT_MUST_USE ft_status obj_pairs_prepare(obj_ctx *c, obj_step *s);
tn_tensor *obj_pairs_loss(obj_ctx *c, nn_run *r, const data_batch *b, double units,
                          obj_stats *stats);
void obj_pairs_log(const pairs *p, obj_stats *stats, pairs_metric m, double value, double weight);
/* Rewards of both, their margin and accuracy. */
void obj_pairs_log_rewards(const pairs *p, obj_stats *stats, double chosen, double rejected);

/* log σ(z), σ(z), and d σ(z)/dz. */
static inline double pairs_log_sigmoid(double z)
{
    return z < 0 ? z - log1p(exp(z)) : -log1p(exp(-z));
}
static inline double pairs_sigmoid(double z)
{
    return z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z));
}
static inline double pairs_bell(double z)
{
    return pairs_sigmoid(z) * pairs_sigmoid(-z);
}
#endif
