/* nn.h – parameters, the sites where adapters sit, what a method lays over a model, the store of what is trained, the one
 * maker of runs, and the one place where a linear layer is applied.
 *
 * Models name sites; methods fill in overlays and stores; neither knows the other. */
#ifndef FT_NN_H
#define FT_NN_H

#include "ft/autograd.h"

typedef enum nn_role {
    NN_EMBED,
    NN_POSITION,
    NN_NORM,
    NN_Q,
    NN_K,
    NN_V,
    NN_QKV,
    NN_O,
    NN_GATE,
    NN_UP,
    NN_DOWN,
    NN_LINEAR, /* another linear layer of a part */
    NN_HEAD
} nn_role;

/* What the update rule is told of a parameter: data, so that decay groups and LoRA+'s ratios need
 * no code. */
typedef struct nn_hyper {
    float lr_ratio;    /* of the learning rate */
    float lr_fixed;    /* a peak rate of its own, in the schedule's shape; 0: lr_ratio counts */
    float decay_ratio; /* of weight_decay; 0 for norms and biases */
    float decay_fixed; /* a decay of its own, added to that */
    bool first_form;   /* of Adam: epsilon beside the uncorrected root, decay after the step */
} nn_hyper;

/* The parameter registry of a model is an array of these, in the order of a Hugging Face state dict. The model itself
 * never changes: what is trained lies in an overlay. */
typedef struct nn_param {
    const char *name; /* Hugging Face name */
    int64_t index;    /* in the registry */
    tn_tensor t;      /* frozen: in the mapping (vectors: an f32 copy); trainable: f32 with grad */
    const dt_type *file_type; /* dtype in the file */
    bool hf_turned; /* Hugging Face and PEFT store it [I, O], where t is [O, I] (Conv1D of a GGUF) */
    nn_hyper hyper;
} nn_param;

/* A linear layer under quantisation that is simulated, or of a format that has its inputs in codes. */
typedef struct nn_fake {
    bool on;
    bool weighs; /* w stands in the weight's place: dt_fake over the values, whose gradient it shares */
    tn_tensor w;
    const kn_tokens *input; /* of x; what a method adds to the product reads x as it is. NULL: as it is */
} nn_fake;

typedef struct nn_site {
    nn_role role;
    int64_t index;    /* among the model's sites */
    int layer;        /* −1 outside layers */
    const char *path; /* "model.layers.3.self_attn.q_proj" */
    nn_param *w, *b;  /* b NULL when there is none */
    bool in_out;      /* w is [I, O] */
    int64_t in, out;
    int32_t frozen_row; /* of an embedding: the padding token's row gets no gradient; −1: none */
    nn_fake *fake;      /* of the model as it is; NULL: none */
    const struct nn_site *lead; /* the first of those that share its input; of a table: itself */
} nn_site;

/* Sites that share one input: q, k, v; gate, up; or a single one. */
typedef struct nn_group {
    nn_site *site; /* n of them, consecutive */
    int n;
    int64_t in, out; /* out: the sum */
} nn_group;

/* What the layers keep of the sequences of a pass while generating (keys and values), in pages of a fixed number of
 * positions. infer owns the pages, a model knows what stands in one (model_cache_floats). */
typedef struct nn_cache {
    float *const *page;   /* of one sequence after another: ⌈k_len / rows⌉ each */
    int64_t rows;         /* positions of a page */
    const int32_t *k_len; /* [n_seq] positions of each sequence, those of this pass included */
} nn_cache;

struct nn_hooks;
/* What a method lays over a model. A run names the overlay it wants, or none: the base. Any number of them may stand on one
 * model. The arrays and what they point to are the method's. */
typedef struct nn_overlay {
    const struct nn_hooks *hooks; /* NULL: none */
    void *ctx;                    /* the method's */
    void **slot;    /* [n_site] by site->index: the method's state of a site; NULL: not a target */
    nn_param **own; /* [n_param] by param->index: trained f32 values in the model's place; NULL: none */
    nn_param **bias; /* [n_site] by site->index: f32 biases of linear sites that have none in the model; NULL: none */
    nn_fake *fake; /* [n_site] by site->index, instead of the model's where they are on; NULL: none */
    int64_t virtual_tokens; /* rows put before every sequence (prompt, prefix and P-tuning) */
    bool virtual_predict;   /* the last of them predicts the first token (prompt, P-tuning), or not (prefix) */
} nn_overlay;

/* What a network is given: sequences one after another, no padding. data makes them for training, tools from ids. Arrays
 * that a run needs live until its tape is reset. */
typedef struct nn_batch {
    int n_seq;
    const int32_t *len; /* [n_seq], adds up to tokens; every len ≥ 1 */
    int64_t tokens;
    const int32_t *ids;   /* [tokens] */
    const int32_t *pos;   /* [tokens] position inside the sequence: from 0, or later where a cache is extended */
    const int32_t *label; /* [tokens] what this row predicts, shifted already; < 0: nothing. NULL: no labels */
    const int32_t *first; /* [n_seq] the label of each sequence's own first token, which no row predicts unless a
                             virtual one stands before it; NULL: none */
    const uint64_t *row_key; /* [tokens] identity of each row for dropout; NULL: none */
    uint64_t key;            /* of the optimizer step, for dropout */
    bool calm;    /* no dropout, in a run that records either */
    float noise; /* NEFTune's alpha: embeddings get noise in a run that records; 0: none. Needs row_key */
} nn_batch;

struct nn_run;
/* Sees the values of a pass as they come: the stream after the embedding (layer −1, part "embedding"), after each part of
 * each layer, and after the last norm (layer −1, part "norm"). h is valid during the call. Not called on a dry tape. */
typedef void (*nn_watch)(void *ctx, const struct nn_run *r, int layer, const char *part,
                         const tn_tensor *h);

typedef struct nn_run { /* one forward pass, made by nn_run_open */
    ag_tape *t;
    const nn_overlay *over; /* NULL: the base */
    /* The batch as it runs, virtual rows included: an id of −1 − k is virtual token k. */
    const int32_t *ids, *pos; /* [tokens] */
    const int32_t *label;     /* [tokens] or NULL */
    int64_t tokens, supervised;
    const ag_rows *rows;
    const int64_t *row_of; /* [tokens of the batch] where each row of the batch stands; NULL: where it stood */
    const nn_cache *cache; /* generating: the tokens extend its sequences; else NULL */
    float noise;           /* of the batch, in a run that records; else 0 */
    bool drops;            /* dropout is on: it records, and the batch is not calm */
    bool checkpoint;       /* gradient checkpointing: keep block inputs only, recompute the rest */
    nn_watch watch;        /* set after nn_run_open by who wants to look; NULL: nobody */
    void *watch_ctx;
} nn_run;

enum {
    NN_RECORD = 1,     /* a backward follows */
    NN_CHECKPOINT = 2, /* which makes activations inside blocks again */
    NN_FEW = 4         /* generation: a few rows, each weight is read once and not packed (kn_gemv) */
};
/* Binds a batch to a tape and makes its rows the ones in force; the only maker of runs. Puts the overlay's virtual rows
 * before every sequence that starts at position 0: positions are shifted, they have dropout keys of their own and no label,
 * except the last one under virtual_predict. What it makes lives in the tape, which the caller resets when it begins anew;
 * several runs may share a tape before one backward. */
FT_MUST_USE ft_status nn_run_open(nn_run *r, ag_tape *t, const nn_batch *b, const nn_overlay *over,
                                  unsigned how);
/* Rows that an overlay puts before a sequence. */
static inline int64_t nn_virtual(const nn_overlay *over)
{
    return over ? over->virtual_tokens : 0;
}

/* The parts of a layer, by their place: what mixes rows (attention), then what works on each. */
typedef enum nn_part { NN_MIXER, NN_FEED } nn_part;
/* What a sublayer hook takes of a part: its output alone, or the stream with it added already, which costs no pass of its
 * own; or it is not called. */
typedef enum nn_takes { NN_TAKES_OUTPUT, NN_TAKES_SUM, NN_TAKES_NONE } nn_takes;

/* What a method may do inside a model; any member may be NULL. Hooks are pure in forward. */
typedef struct nn_hooks {
    tn_tensor *(*pre)(nn_run *r, const nn_group *g, tn_tensor *x);
    tn_tensor *(*post)(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y);
    /* Another weight for this product (fake-quantised, ternary, masked): w holds the run's own when it is called. A substitute
     * that shares `grad` and `wants_grad` with the trained value is the straight-through estimator; its values live until
     * the backward is done. Or factors of its inputs and outputs: w->in, w->out; or what is added to its product: w->low. */
    void (*weight)(nn_run *r, const nn_site *s, ag_weight *w);
    bool alone; /* post wants y before the residual is added, which is then added to what post returns */
    /* h + y is what happens without it. x: the part's input (normed), y: its output, h: the residual stream */
    tn_tensor *(*sublayer)(nn_run *r, int layer, nn_part part, tn_tensor *x, tn_tensor *y,
                           tn_tensor *h);
    /* y of that hook by place; NULL: the output everywhere. With NN_TAKES_SUM, y is h + output. */
    nn_takes (*takes)(const nn_run *r, int layer, nn_part part);
    /* qkv [T, (H + 2K)·d] as attention takes it, after RoPE: prefix tuning puts keys and values of its own into the virtual
     * rows (ag_put_rows) */
    tn_tensor *(*qkv)(nn_run *r, int layer, const kn_attn *a, tn_tensor *qkv);
    /* s: the table, of tokens or of positions. h [T, C]: of tokens, the rows of virtual ones are zero */
    tn_tensor *(*embed)(nn_run *r, const nn_site *s, tn_tensor *h);
} nn_hooks;

/* --- parameters of a run --------------------------------------------------------------------------
 * Everything trainable, as two flat ranges: values and gradients, so that clipping, the common update
 * and saving are single loops. Padding between tensors (to 16 floats) is zero and stays zero. A method
 * and an objective add to one store. */
typedef struct nn_store {
    nn_param **param;    /* [n] in the order of creation */
    int64_t *offset;     /* [n] of each in the flat ranges */
    int64_t n, count;    /* count: floats in all, padding included */
    float *w, *g;        /* [count] */
    nn_param **state;    /* [n_state] */
    int64_t n_state;
    int64_t state_count; /* floats of all states */
    int64_t derived_count; /* of all derived values */
    int64_t alias_count; /* floats of all aliases' gradients and those of derived values */
    struct nn_store_mem *mem;
} nn_store;
/* bytes: of the values, and as many for the gradients. 0: a dry one, whose values hold nothing and are not one range: it
 * tells nn_store_bytes(), what the other needs. Close in any case. */
FT_MUST_USE ft_status nn_store_open(nn_store *s, size_t bytes);
FT_MUST_USE ft_status nn_store_open_frozen(nn_store *s, size_t bytes); /* no gradients */
size_t nn_store_bytes(const nn_store *s);
void nn_store_close(nn_store *s); /* accepts one that was never opened */
/* A trainable f32 parameter [rows, cols] (cols 0: one dimension), zero, laid out after the last one.
 * The name is kept as a pointer. */
FT_MUST_USE ft_status nn_new_param(nn_store *s, const char *name, int64_t rows, int64_t cols,
                                   nn_param **out);
/* f32 values without a gradient that checkpoints keep beside the trained ones: a frozen random
 * matrix, a running sensitivity, a weight that a method moves itself. */
FT_MUST_USE ft_status nn_new_state(nn_store *s, const char *name, int64_t rows, int64_t cols,
                                   nn_param **out);
/* Trains a parameter of the model in place: an f32 copy of its values stands in the overlay's `own`, with
 * its name, file type and hyper. Nothing when there is one already; zeros where the model has no weights. */
FT_MUST_USE ft_status nn_train_copy(nn_store *s, nn_overlay *o, nn_param *p);
/* A further use of the same values with a gradient of its own, which nn_store_finish adds to that of
 * `of`, alias by alias in the order of creation. Every parameter that one pass uses more than once needs
 * it (a tied head, shared factors): a gradient is one chain of additions over the step, and without it
 * the order in that chain would depend on how the step is cut into micro-batches. */
FT_MUST_USE ft_status nn_alias(nn_store *s, nn_param *of, nn_param **out);
/* Values that a method makes of others before each step, of which no checkpoint knows and which no rule moves; with a
 * gradient of their own over the step, for the method to hand on (pe_method.gradients). */
FT_MUST_USE ft_status nn_new_derived(nn_store *s, const char *name, int64_t rows, int64_t cols,
                                     nn_param **out);
/* Such values without a gradient; and the gradient alone of values that are not the store's. */
FT_MUST_USE ft_status nn_new_followed(nn_store *s, const char *name, int64_t rows, int64_t cols,
                                      nn_param **out);
FT_MUST_USE ft_status nn_new_gradient(nn_store *s, const tn_tensor *of, nn_param **out);
void nn_store_begin(nn_store *s);  /* before the first micro-batch of a step: gradients are zero */
void nn_store_finish(nn_store *s); /* after the last one: aliases join */

/* --- arrays of a checkpoint ----------------------------------------------------------------------------
 * Named values on their way into a checkpoint or out of one, by one function for both ways. */
typedef struct nn_array {
    const char *name;
    const dt_type *type;
    int nd;
    int64_t dim[TN_MAX_DIMS];
    const void *data;
} nn_array;
typedef struct nn_arrays {
    bool loading;
    nn_array *array;
    int64_t n, cap;
    arena *mem; /* where what is loaded goes */
} nn_arrays;
/* Saving: notes the array; name and *data live until it is written. Loading: dim and *data, in a->mem, become what was
 * saved under that name; none, or one of another type or number of dimensions, is 65. */
FT_MUST_USE ft_status nn_array_of(nn_arrays *a, const char *name, const dt_type *type, int nd,
                                  int64_t *dim, void **data);

/* --- passes before training -------------------------------------------------------------------------
 * What a method may ask of the trainer before step 1. Sample i is the i-th of the run's order, from 0 to
 * samples − 1. A pass is cut into runs as a step is: hooks that collect something add row by row, in the
 * order they come, and never see where a run ends. */
typedef struct nn_feed {
    int64_t samples;       /* of an epoch */
    int64_t batch_size;    /* samples of an optimizer step */
    int64_t steps;         /* of the run */
    double learning_rate;  /* the peak */
    /* One pass over sample[0 … n) under an overlay (NULL: the base). *loss, where it is not NULL: the mean of
     * the objective. gradients: dropout is on, and the store's gradients are those of that mean; else nothing
     * is recorded. FT_ESIGNAL, FT_ETIME: a stop was asked for. */
    ft_status (*pass)(const struct nn_feed *f, const int64_t *sample, int n, const nn_overlay *over,
                      bool gradients, double *loss);
    /* Moves the store's values by its gradients, clipped, with the run's rule at `rate`. The rule's states are
     * zero again when the run begins; values stay as they are left. */
    ft_status (*update)(const struct nn_feed *f, double rate);
    void *ctx; /* the trainer's */
} nn_feed;

/* --- layers ---------------------------------------------------------------------------------------- */
/* y [T, g->out] of the group, with adapters, (+ add). */
tn_tensor *nn_linear(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *add);
tn_tensor *nn_embed(nn_run *r, const nn_site *s, const int32_t *ids);
/* Through the run's overlay: the tensor of a parameter, the weight of a site, a method's state of a site (NULL: none). */
tn_tensor *nn_value(const nn_run *r, nn_param *p);
ag_weight nn_weight(const nn_run *r, const nn_site *s);
void *nn_slot(const nn_run *r, const nn_site *s);
/* The hooks of the run's overlay, all NULL where it has none. */
const nn_hooks *nn_hooks_of(const nn_run *r);
/* The same without a run. */
tn_tensor *nn_value_of(const nn_overlay *over, nn_param *p);
tn_tensor *nn_bias_of(const nn_overlay *over, const nn_site *s); /* the model's or the overlay's; NULL */
void *nn_slot_of(const nn_overlay *over, const nn_site *s);
#endif
