/* rollouts.h – what the objectives over sampled completions share (rollouts.c): batches of completions with their rewards and
 * log-probabilities, the file they are recorded in and replayed from, the state that a checkpoint keeps of them.
 *
 * A batch is made before the first of the steps that it serves, and read by all of them: `prepare` samples `num_generations`
 * completions of every prompt (or takes them from a file), has them judged, scores them by the reference and, where that is
 * asked for, by the policy, and lets the objective say what each is worth. A step trains on all of them, or on those that
 * the objective picks. */
#ifndef FT_OBJECTIVE_ROLLOUTS_H
#define FT_OBJECTIVE_ROLLOUTS_H

#include "other.h"

#include "ft/reward.h"

#include <math.h>

/* The first member of the struct of an objective of these; the keys are ROLL_KEYS. */
typedef struct roll_cfg {
    int64_t num_generations, max_completion_length, top_k;
    double temperature, top_p, min_p;
    const cJSON *rewards, *reward_weights;
    const char *rollouts;  /* a file that is replayed; NULL: completions are sampled */
    const char *reference; /* NULL, "base", or a path */
    bool mask_truncated_completions, disable_dropout;
    rw_list *list; /* no key: the rewards, by obj_roll_check */
} roll_cfg;

#define ROLL_AT(member) offsetof(roll_cfg, member)
#define ROLL_KEYS(generations, least)                                                              \
    {.key = "num_generations",                                                                     \
     .type = CFG_INT,                                                                              \
     .offset = ROLL_AT(num_generations),                                                           \
     .def = generations,                                                                           \
     .low = least,                                                                                 \
     .high = 1e4,                                                                                  \
     .help = "completions of each prompt"},                                                        \
        {.key = "max_completion_length",                                                           \
         .type = CFG_INT,                                                                          \
         .offset = ROLL_AT(max_completion_length),                                                 \
         .def = "512",                                                                             \
         .low = 1,                                                                                 \
         .high = 1e6,                                                                              \
         .help = "tokens of a completion at most; data.max_length bounds prompt and completion"},  \
        {.key = "temperature",                                                                     \
         .type = CFG_FLOAT,                                                                        \
         .offset = ROLL_AT(temperature),                                                           \
         .def = "1.0",                                                                             \
         .low = 0,                                                                                 \
         .high = 1e3,                                                                              \
         .low_open = true,                                                                         \
         .help = "what logits are divided by, in sampling and in every log-probability"},          \
        {.key = "top_p",                                                                           \
         .type = CFG_FLOAT,                                                                        \
         .offset = ROLL_AT(top_p),                                                                 \
         .def = "1.0",                                                                             \
         .low = 0,                                                                                 \
         .high = 1,                                                                                \
         .low_open = true,                                                                         \
         .help = "sample among the likeliest tokens of this share; 1: all"},                       \
        {.key = "top_k",                                                                           \
         .type = CFG_INT,                                                                          \
         .offset = ROLL_AT(top_k),                                                                 \
         .def = "0",                                                                               \
         .low = 0,                                                                                 \
         .high = 1e9,                                                                              \
         .help = "sample among so many of the likeliest tokens; 0: all"},                          \
        {.key = "min_p",                                                                           \
         .type = CFG_FLOAT,                                                                        \
         .offset = ROLL_AT(min_p),                                                                 \
         .low = 0,                                                                                 \
         .high = 1,                                                                                \
         .help = "sample no token of less than this share of the likeliest one's probability"},    \
        RW_ROWS(ROLL_AT(rewards), ROLL_AT(reward_weights)),                                        \
        {.key = "rollouts",                                                                        \
         .type = CFG_PATH,                                                                         \
         .offset = ROLL_AT(rollouts),                                                              \
         .help = "rollouts.jsonl to replay in place of data.train and of sampling"},               \
        {.key = "reference",                                                                       \
         .type = CFG_PATH,                                                                         \
         .offset = ROLL_AT(reference),                                                             \
         .choices = obj_roll_references,                                                           \
         .help = "model or adapter that the policy is held to; default: what it begins as"},       \
    {                                                                                              \
        .key = "mask_truncated_completions", .type = CFG_BOOL,                                     \
        .offset = ROLL_AT(mask_truncated_completions), .def = "false",                             \
        .help = "completions that reach their length without an end are not trained on"            \
    }
/* def: "false" where dropout is on unless it is asked off. */
#define ROLL_DROPOUT(d)                                                                            \
    {                                                                                              \
        .key = "disable_dropout", .type = CFG_BOOL, .offset = ROLL_AT(disable_dropout), .def = d,  \
        .help = "no dropout while it trains"                                                       \
    }
/* The first member of the struct of an objective whose advantages are within groups, and that clips ratios. */
typedef struct roll_group_cfg {
    roll_cfg roll;
    double beta, epsilon, epsilon_high; /* epsilon_high NAN: epsilon */
    int64_t num_iterations;
} roll_group_cfg;
#define ROLL_GROUP_AT(member) offsetof(roll_group_cfg, member)
#define ROLL_GROUP_KEYS(generations, beta_def, beta_help)                                          \
    ROLL_KEYS(generations, 2), ROLL_DROPOUT("false"),                                              \
        {.key = "beta",                                                                            \
         .type = CFG_FLOAT,                                                                        \
         .offset = ROLL_GROUP_AT(beta),                                                            \
         .def = beta_def,                                                                          \
         .low = 0,                                                                                 \
         .high = 1e6,                                                                              \
         .help = beta_help},                                                                       \
        {.key = "epsilon",                                                                         \
         .type = CFG_FLOAT,                                                                        \
         .offset = ROLL_GROUP_AT(epsilon),                                                         \
         .def = "0.2",                                                                             \
         .low = 0,                                                                                 \
         .high = 1e6,                                                                              \
         .help = "how far the ratio may fall below 1"},                                            \
        {.key = "epsilon_high",                                                                    \
         .type = CFG_FLOAT,                                                                        \
         .offset = ROLL_GROUP_AT(epsilon_high),                                                    \
         .low = 0,                                                                                 \
         .high = 1e6,                                                                              \
         .help = "how far it may rise above 1; default: epsilon"},                                 \
    {                                                                                              \
        .key = "num_iterations", .type = CFG_INT, .offset = ROLL_GROUP_AT(num_iterations),         \
        .def = "1", .low = 1, .high = 1e6, .help = "optimizer steps on each batch of completions"  \
    }
/* epsilon_high, by its default too. */
double obj_roll_high(const roll_group_cfg *c);
extern const char *const obj_roll_references[];

enum { ROLL_FIGURES = 4 };

/* One completion. */
typedef struct roll_one {
    const int32_t *ids;      /* [prompt + n] */
    int64_t prompt, n;       /* tokens of the prompt, and of the completion */
    int64_t at;              /* its first token among those of all completions */
    int32_t group;           /* number of its prompt in the batch */
    bool finished;           /* it ends with EOS */
    bool counts;             /* it is trained on: not masked */
    double reward;           /* Σ weight · reward */
    double advantage;        /* out of the objective's `judge`, as it is recorded */
    const data_sample *from; /* the record it answers; while the batch is made and recorded */
} roll_one;

/* The completions that serve some steps. By token: of all completions, one after another. */
typedef struct roll_batch {
    int64_t number; /* among the batches of the run, from 0; −1: of an evaluation */
    int n;          /* completions, those of a prompt side by side */
    int generations;
    roll_one *one;               /* [n] */
    int64_t tokens;              /* of all completions */
    int64_t counted;             /* of those that count */
    float *old, *ref;            /* [tokens] log π_old, log r (NULL: no reference is read) */
    float *figure[ROLL_FIGURES]; /* [tokens] the objective's own, by its names */
    double *rewards;             /* [n, rewards] by row; NAN: not known */
    double spread;               /* sample deviation of the rewards; */
    double even;                 /* share of prompts whose completions are all worth the same */
    bool fresh;                  /* `old` is not there yet: the first step's own forward gives it */
} roll_batch;

/* Rows of a run that are scored: the tokens of completions, in order. */
typedef struct roll_rows {
    int64_t n;
    int32_t *one;             /* [n] which completion of the batch, */
    int32_t *place;           /* [n] and which of its tokens */
    float *logprob, *entropy; /* [n] once scored */
} roll_rows;

/* A completion as a step sees it. */
typedef struct roll_view {
    const roll_one *one;
    const float *logp, *old, *ref; /* [n]; ref NULL: none */
    double *slope;                 /* out [n] d loss / d logp */
    double loss;                   /* out */
} roll_view;

typedef struct roll roll;

/* An objective's own, over its cfg. */
typedef struct roll_kind {
    bool reference; /* log r is read */
    bool old;       /* log π_old is read before the first step, so a pass of its own makes it */
    const char *const
        *figures; /* names in rollouts.jsonl of what `judge` makes by token; NULL: none */
    /* Every run of the pass that makes log π_old, once its rows are scored. NULL: nothing else is wanted of it. */
    ft_status (*see)(roll *p, roll_batch *b, nn_run *r, tn_tensor *hidden, const roll_rows *rows);
    /* Rewards and log-probabilities are there: advantages, and figures by token. */
    ft_status (*judge)(roll *p, roll_batch *b);
    /* Which completions a step trains on: out [b->n], their number. NULL: all. */
    int (*pick)(const roll *p, const roll_batch *b, int64_t turn, int32_t *out);
    /* Loss and slopes of one completion, of the mean over all of the step; of one that does not count they are 0,
     * whatever is left in them. */
    void (*each)(roll *p, roll_view *x, obj_stats *stats);
} roll_kind;

/* What is logged beside the loss, by every one of these objectives that has the name in its row. */
typedef enum roll_metric {
    ROLL_REWARD,
    ROLL_REWARD_STD,
    ROLL_ZERO_STD,
    ROLL_LENGTH,
    ROLL_CLIPPED,
    ROLL_KL,
    ROLL_ENTROPY,
    ROLL_CLIP_LOW,
    ROLL_CLIP_HIGH,
    ROLL_CLIP_REGION,
    ROLL_METRICS
} roll_metric;
extern const char *const obj_roll_metric_names[ROLL_METRICS];

struct roll {
    obj_ctx *c;
    roll_kind kind;
    int at[ROLL_METRICS]; /* index among the row's metrics; −1: not logged */
    int first_reward;     /* index of the first "rewards/NAME/mean"; */
    int n_rewards;
    const char *const *reward; /* [n_rewards] their names */
    obj_other ref;
    rw_ctx judge_ctx;
    rw_set *judges;  /* NULL: every completion comes with what it is worth */
    bool replays;    /* training takes its completions from a file */
    int64_t longest; /* tokens of a prompt, at most */
    inf_room room;   /* what sampling takes */
    int64_t reuse;   /* steps that a batch serves */
    bool dry;        /* for the plan: without weights */
    arena *mem;      /* of `held` */
    roll_batch held; /* of training */
    roll_batch *now; /* of the step at hand */
    int32_t *picked; /* [n_picked] completions of the step, by slot */
    int n_picked;
    int64_t turn, left; /* of the step at hand; steps that `held` is still to serve */
    void *own;          /* the objective's */
};

/* Rows of `objective`, and what stands in them. */
ft_status obj_roll_names(const void *cfg, data_set *train, arena *mem, const char *const **out);
void obj_roll_check(cfg_doc *d, const cJSON *object, void *cfg);
void obj_roll_group_check(cfg_doc *d, const cJSON *object, void *cfg);
int64_t obj_roll_replays(const void *cfg);
const char *obj_roll_reads(const void *cfg, int i);
FT_MUST_USE ft_status obj_roll_open(obj_ctx *c, bool weights, const roll_kind *kind);
void obj_roll_close(obj_ctx *c);
FT_MUST_USE ft_status obj_roll_prepare(obj_ctx *c, obj_step *s);
tn_tensor *obj_roll_loss(obj_ctx *c, nn_run *r, const data_batch *b, double units,
                         obj_stats *stats);
ft_status obj_roll_after_update(obj_ctx *c, int64_t step);
ft_status obj_roll_lines(obj_ctx *c, str_buf *out);
ft_status obj_roll_state(obj_ctx *c, nn_arrays *a);
#define ROLL_ROW                                                                                   \
    .wants = DATA_PROMPTS | DATA_ROLLOUTS, .unit = OBJ_SAMPLES, .unbroken = true,                  \
    .artifact = "rollouts.jsonl", .names = obj_roll_names, .replays = obj_roll_replays,            \
    .reads = obj_roll_reads, .close = obj_roll_close, .prepare = obj_roll_prepare,                 \
    .after_update = obj_roll_after_update, .lines = obj_roll_lines, .state = obj_roll_state

/* And those of a group's objective. */
int64_t obj_roll_group_reuse(const void *cfg);
bool obj_roll_group_refers(const void *cfg);
extern const char *const obj_roll_group_metrics[];
#define ROLL_GROUP_ROW                                                                             \
    ROLL_ROW, .reference = true, .learning_rate = 1e-6, .adapter_rate = 1e-5,                      \
              .metrics = obj_roll_group_metrics, .telling = "reward",                              \
              .refers = obj_roll_group_refers, .reuse = obj_roll_group_reuse,                      \
              .loss = obj_roll_loss
/* What of a token, or a completion, was clipped. */
void obj_roll_log_clip(const roll *p, obj_stats *stats, bool low, bool high);

/* Parts of obj_roll_loss, for a loss that reads more than log-probabilities. The rows of a run with completions, all on its
 * tape; false: the tape has failed. On a dry tape one and place are not filled, and the reference's pass is counted. */
bool obj_roll_find(const roll *p, nn_run *r, const data_batch *b, roll_rows *out);
/* Their log-probabilities at the objective's temperature, and entropies where wanted: [n, 1]. */
tn_tensor *obj_roll_score(const roll *p, nn_run *r, tn_tensor *hidden, model *m, bool entropy,
                          roll_rows *rows);
void obj_roll_log(const roll *p, obj_stats *stats, roll_metric m, double value, double weight);
/* Rewards and lengths of the completions whose sequences the batch has. */
void obj_roll_log_rewards(const roll *p, const data_batch *b, obj_stats *stats);
/* Positions for a prompt of so many tokens, the longest, which must have them (65), with its answer of up to so many: from a table
 * there must be as many (78); rotary ones go on, and that the model was not made for them is told where asked for. */
FT_MUST_USE ft_status obj_roll_positions(const obj_ctx *c, int64_t prompt, int64_t answer,
                                         bool tell);
/* Does this token end a completion? tok NULL: none does. */
bool obj_roll_ends(const tok_tokenizer *tok, int32_t id);
/* What an id below `vocab` takes there, with its comma; and about the text of a token. */
enum { OBJ_ROLL_TEXT = 6 };
size_t obj_roll_id_bytes(int64_t vocab);
/* ,"KEY":[ids]: a member of a line of rollouts.jsonl. */
void obj_roll_add_ids(str_buf *out, const char *key, const int32_t *id, int64_t n);
/* ,"completion":"…" of ids. */
FT_MUST_USE ft_status obj_roll_add_text(const tok_tokenizer *tok, const int32_t *id, int64_t n,
                                        str_buf *out);
/* The text of ids without special tokens; bytes that are no UTF-8, and NUL, are U+FFFD. tok NULL: none. */
FT_MUST_USE ft_status obj_roll_decode(const tok_tokenizer *tok, const int32_t *id, int64_t n,
                                      str_buf *out);
/* (x − mean)/…: the mean, and the sample deviation (n − 1; 0 of one) of x [n]. */
double obj_roll_mean(const double *x, int n);
double obj_roll_deviation(const double *x, int n);
#endif
