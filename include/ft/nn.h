/* nn.h – parameters, the sites where adapters sit, and the one place where a linear layer is applied.
 *
 * Models name sites; methods fill in hooks; neither knows the other. */
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
    NN_HEAD
} nn_role;

/* What the update rule is told of a parameter: data, so that decay groups and LoRA+'s ratios need
 * no code. */
typedef struct nn_hyper {
    float lr_ratio;    /* of the learning rate */
    float lr_fixed;    /* a peak rate of its own, in the schedule's shape; 0: lr_ratio counts */
    float decay_ratio; /* of weight_decay; 0 for norms and biases */
} nn_hyper;

/* The parameter registry of a model is an array of these, in the order of a Hugging Face state dict. What is trained
 * never overwrites it: training in place puts an `own` parameter beside it, which every run that is not bare uses. */
typedef struct nn_param {
    const char *name; /* Hugging Face name */
    tn_tensor t;      /* frozen: in the mapping (vectors: an f32 copy); trainable: f32 with grad */
    const dt_type *file_type; /* dtype in the file */
    struct nn_param *own;     /* the trained f32 values that replace t; NULL: none */
    nn_hyper hyper;
} nn_param;

typedef struct nn_site {
    nn_role role;
    int layer;        /* −1 outside layers */
    const char *path; /* "model.layers.3.self_attn.q_proj" */
    nn_param *w, *b;  /* b NULL when there is none */
    bool in_out;      /* w is [I, O] */
    int64_t in, out;
    int32_t frozen_row; /* of an embedding: the padding token's row gets no gradient; −1: none */
    void *slot; /* the method's private state of this site; NULL: not a target */
} nn_site;

/* Sites that share one input: q, k, v; gate, up; or a single one. */
typedef struct nn_group {
    nn_site *site; /* n of them, consecutive */
    int n;
    int64_t in, out; /* out: the sum */
} nn_group;

typedef struct nn_cache { /* keys and values of one sequence while generating */
    int64_t used, cap;    /* positions */
    float **k, **v;       /* [layers] → [cap, n_kv·d] */
} nn_cache;

typedef struct nn_run { /* one forward pass; seq_len and n_seq stand in the tape */
    ag_tape *t;
    const int32_t *ids; /* [T] */
    const int32_t *pos; /* [T] position inside the sequence */
    int64_t tokens;     /* T */
    nn_cache *cache;    /* generating: one sequence, T new tokens; else NULL */
    bool bare;          /* ignore hooks and trained copies: the untuned model */
    bool checkpoint;    /* gradient checkpointing: keep block inputs only, recompute the rest */
    const struct nn_hooks *hooks;
} nn_run;

/* What a method may do inside a model; any member may be NULL. Hooks are pure in forward. */
typedef struct nn_hooks {
    tn_tensor *(*pre)(nn_run *r, const nn_group *g, tn_tensor *x);
    tn_tensor *(*post)(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y);
    tn_tensor *(*embed)(nn_run *r, const nn_site *s, tn_tensor *h);
    int (*low_rank)(nn_run *r, const nn_site *s,
                    ag_low_rank out[4]); /* adapters of the head; count */
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
    int64_t alias_count; /* floats of all aliases' gradients */
    struct nn_store_mem *mem;
} nn_store;
/* limit: bytes of address space for the values, and as many for the gradients. Close in any case. */
FT_MUST_USE ft_status nn_store_open(nn_store *s, size_t limit);
void nn_store_close(nn_store *s); /* accepts one that was never opened */
/* A trainable f32 parameter [rows, cols] (cols 0: one dimension), zero, laid out after the last one.
 * The name is kept as a pointer. */
FT_MUST_USE ft_status nn_new_param(nn_store *s, const char *name, int64_t rows, int64_t cols,
                                   nn_param **out);
/* f32 values without a gradient that checkpoints keep beside the trained ones: a frozen random
 * matrix, a running sensitivity, a weight that a method moves itself. */
FT_MUST_USE ft_status nn_new_state(nn_store *s, const char *name, int64_t rows, int64_t cols,
                                   nn_param **out);
/* A further use of the same values with a gradient of its own, which nn_store_finish adds to that of
 * `of`, alias by alias in the order of creation. Every parameter that one pass uses more than once needs
 * it (a tied head, shared factors): a gradient is one chain of additions over the step, and without it
 * the order in that chain would depend on how the step is cut into micro-batches. */
FT_MUST_USE ft_status nn_alias(nn_store *s, nn_param *of, nn_param **out);
void nn_store_begin(nn_store *s);  /* before the first micro-batch of a step: gradients are zero */
void nn_store_finish(nn_store *s); /* after the last one: aliases join */

/* --- layers ---------------------------------------------------------------------------------------- */
/* y [T, g->out] of the group, with adapters, (+ add). */
tn_tensor *nn_linear(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *add);
tn_tensor *nn_embed(nn_run *r, const nn_site *s, const int32_t *ids);
/* The tensor a run uses: the trained one unless the run is bare. */
tn_tensor *nn_value(const nn_run *r, nn_param *p);
ag_weight nn_weight(const nn_run *r, const nn_site *s);
#endif
