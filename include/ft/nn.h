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

/* The parameter registry of a model is an array of these, in the order of a Hugging Face state dict. What is trained
 * never overwrites it: training in place puts an `own` parameter beside it, which every run that is not bare uses. */
typedef struct nn_param {
    const char *name; /* Hugging Face name */
    tn_tensor t;      /* frozen: in the mapping (vectors: an f32 copy); trainable: f32 with grad */
    const dt_type *file_type; /* dtype in the file */
    struct nn_param *own;     /* the trained f32 values that replace t; NULL: none */
    bool no_decay;            /* norms and biases */
    float lr_ratio;           /* of the learning rate; 1 unless a method says so */
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

/* y [T, g->out] of the group, with adapters, (+ add). */
tn_tensor *nn_linear(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *add);
tn_tensor *nn_embed(nn_run *r, const nn_site *s, const int32_t *ids);
/* The tensor a run uses: the trained one unless the run is bare. */
tn_tensor *nn_value(const nn_run *r, nn_param *p);
ag_weight nn_weight(const nn_run *r, const nn_site *s);
#endif
