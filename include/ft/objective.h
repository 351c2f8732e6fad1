/* objective.h – losses: one file and one line of objectives.def each. Objectives see a model and a batch, never a method.
 *
 * The loss of an optimizer step is Σ over its units (tokens or samples) ÷ their number, whatever the micro-batches. So what
 * needs the whole step (group means, statistics, sorts, a reference's log-probabilities) is made in `prepare`, before the
 * first micro-batch, and a micro-batch only reads it. */
#ifndef FT_OBJECTIVE_H
#define FT_OBJECTIVE_H

#include "ft/data.h"
#include "ft/infer.h"
#include "ft/method.h"
#include "ft/model.h"

typedef struct obj_objective obj_objective;

/* Samples that are made of each one, and tokens that are added to every one of them, at most. */
typedef struct obj_made {
    int64_t copies, tokens; /* copies 0: those that are drawn */
} obj_made;

/* What an objective works with. The policy is m under `tuned`; the reference is the same model with no overlay, or
 * another overlay or model that `open` made. */
typedef struct obj_ctx {
    const obj_objective *row;
    const void *cfg;
    model *m;
    const nn_overlay *tuned;
    const tok_tokenizer *tok; /* NULL: the run has none */
    nn_store *store;          /* `open` may add a head to what the method trains: a row of hidden_size, a bias */
    ag_tape *tape;            /* of the run; free for passes of prepare's own, each of which resets it */
    arena *mem, *step_mem;    /* of the run; of this optimizer step */
    uint64_t seed;
    const char *init_from;    /* the adapter that `tuned` begins as; NULL: it begins as the base */
    data_set *train, *eval;   /* eval may be NULL */
    int64_t batch_size, max_length;
    int64_t epoch_batches; /* batches that an epoch is */
    const char *dir; /* the output folder, where it is there; or NULL */
    size_t bytes; /* out of `open`, for the plan: what the objective holds beside the policy (further models, caches) */
    size_t passes; /* likewise: activations of the largest pass of prepare's own */
    obj_made made, made_of_eval; /* likewise: what prepare makes of the samples that are drawn */
    size_t batch_line_bytes; /* likewise: by how much a drawn batch lets `artifact` grow, at most */
    bool as_drawn; /* likewise: prepare leaves the samples of training as they are */
    /* the row's, unless open says otherwise */
    bool calm, unbroken;
    const char *artifact;
    void *priv;     /* the objective's */
} obj_ctx;

/* One optimizer step, or a piece of an evaluation, before it is cut into micro-batches. */
typedef struct obj_step {
    int64_t step;        /* of the optimizer, from 0; −1: evaluation */
    int64_t turn;        /* among the steps that one drawn batch serves: 0 … reuse − 1 */
    data_sample *sample; /* [n]; prepare may put others in their place, made in step_mem */
    int n;
    data_split split; /* how the step will be cut, for passes of prepare's own */
    double units;     /* what the loss is divided by; 0: counted, as row->unit says */
} obj_step;

typedef struct obj_metric {
    double sum, weight; /* Σ value · weight, Σ weight: the field is their quotient */
} obj_metric;

/* Sums of a step or of an evaluation. A micro-batch adds to them in the order of its tokens or samples. */
typedef struct obj_stats {
    double loss, units; /* Σ of the losses of units, and their number */
    obj_metric more;    /* a further mean that joins theirs: over tokens, beside a loss of pairs */
    int64_t tokens;     /* supervised */
    obj_metric *metric; /* by the order of obj_names_of */
} obj_stats;

typedef enum obj_unit {
    OBJ_TOKENS, /* supervised ones */
    OBJ_SAMPLES /* pairs, prompts */
} obj_unit;

struct obj_objective {
    const char *name, *help;
    const cfg_field *fields;
    const char *example; /* for help: the object `objective` of a config that runs; NULL: the type alone is one */
    size_t cfg_size;
    unsigned wants; /* data_gives: what its sources must give */
    obj_unit unit;
    bool reference; /* it reads the model without `tuned` too: values that are trained stay there beside their copies */
    bool calm;      /* dropout is off while it trains */
    bool scores;    /* its model is a sequence classifier (MODEL_NEW_REWARD), and its records are not cut */
    double learning_rate, adapter_rate; /* defaults of optim.learning_rate, the second for adapters; 0: the method's */
    const char *const *metrics; /* further fields of log.jsonl, NULL-terminated; with "eval_" before them in an
                                   evaluation. NULL: none */
    const char *telling; /* the one of them that the live line prints beside the loss; NULL: none */
    bool unbroken; /* batches go on where an epoch ends, and so are all of batch_size samples */
    const char *artifact; /* a file that it writes line by line; NULL: none */
    /* All below may be NULL, except loss. */
    bool (*refers)(const void *cfg); /* does it, where its keys can say no? NULL: as `reference` says */
    /* Fields of log.jsonl that follow `metrics` where config or data name them; NULL-terminated. */
    ft_status (*names)(const void *cfg, data_set *train, arena *mem, const char *const **out);
    void (*derive)(double *values); /* metrics that are functions of others, of the same mean */
    void (*check)(cfg_doc *d, const cJSON *object, void *cfg); /* across keys */
    /* Before the optimizer. weights false: for the plan, on a model without weights; nothing is read. */
    ft_status (*open)(obj_ctx *c, bool weights);
    void (*close)(obj_ctx *c);
    int64_t (*reuse)(const void *cfg); /* optimizer steps that one drawn batch serves; NULL: 1 */
    /* The i-th of the files and folders that stand inside its keys' values, which a run may not write over; NULL: no more. */
    const char *(*reads)(const void *cfg, int i);
    /* The samples that stand in a file for each of a batch's, where that takes the place of data.train: objective.rollouts is
     * its path then. 0: it does not. */
    int64_t (*replays)(const void *cfg);
    /* Before the micro-batches, with passes of its own that record nothing: a pure function of values, state and samples, as
     * a step that is interrupted is dropped and made again. FT_ESIGNAL once a stop was asked for, where it takes long. */
    ft_status (*prepare)(obj_ctx *c, obj_step *s);
    /* The scalar loss of one micro-batch on r->t, of which every unit counts 1/units (units 0: evaluation, no gradient is
     * asked for); adds to stats. b->seq_slot tells the sample of each sequence. NULL with the tape's status set on failure.
     * On a dry tape nothing is read or added. */
    tn_tensor *(*loss)(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats);
    ft_status (*after_update)(obj_ctx *c, int64_t step); /* the step is done: here the state changes */
    ft_status (*lines)(obj_ctx *c, str_buf *out); /* of the artifact, of the step that is done; before after_update */
    /* What a checkpoint keeps beside values (rollouts in use, running means): nn_array_of for each. After
     * open(weights false) shapes are enough. */
    ft_status (*state)(obj_ctx *c, nn_arrays *a);
    /* Its own files of a result, and of every checkpoint, into an existing folder beside the method's; their names,
     * NULL-terminated. */
    ft_status (*save)(const obj_ctx *c, const char *dir);
    const char *const *files;
};

const obj_objective *obj_by_name(const char *name);
const obj_objective *obj_at(int i);
const char *const *obj_names(void);
int obj_metrics(const obj_objective *o); /* the number of row->metrics */
/* All fields of log.jsonl that it adds, row->metrics first. */
FT_MUST_USE ft_status obj_names_of(const obj_objective *o, const void *cfg, data_set *train, arena *mem,
                                   const char *const **out, int *n);
double obj_mean(const obj_stats *s);     /* the loss that is logged */
/* The quotients, NAN without weight; what follows from them. */
void obj_metric_values(const obj_objective *o, const obj_metric *sums, int n, double *out);
/* The context's row, cfg, model and so on are filled already. obj_close follows in any case. */
FT_MUST_USE ft_status obj_open(obj_ctx *c, bool weights);
void obj_close(obj_ctx *c); /* accepts one that was never filled */
#endif
