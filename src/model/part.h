/* part.h – a block is made of rows: its parts (attention, a feed-forward layer), its norm, and what they call their
 * dimensions and tensors in files.
 *
 * A part says what it is made of and what it computes; a family says which parts its layers have and what everything is
 * called in its files. The frame (embedding, norms, residuals, head, order) is nobody's row: open.c, forward.c. */
#ifndef FT_MODEL_PART_H
#define FT_MODEL_PART_H

#include "ft/model.h"

/* --- dimensions: keys of config.json and of a GGUF's metadata ------------------------------------------------- */
typedef enum model_key_type {
    KEY_INT,  /* int64_t */
    KEY_NUM,  /* double */
    KEY_BOOL, /* bool */
    KEY_ACT   /* const kn_act *, by one of transformers' names */
} model_key_type;

enum {
    KEY_DERIVED =
        1, /* 0 stands for "follows from others": the default may be 0, and null in config.json means it */
    KEY_NEEDED = 2, /* a GGUF without it is refused; without this the default holds */
    KEY_OWN = 4     /* the part's from_gguf reads it from a GGUF */
};

typedef struct model_key {
    const char *name; /* what ft calls it: families speak of it by this name */
    const char *hf;   /* in config.json; NULL: not there, the default holds */
    const char *gguf; /* in the metadata, behind "ARCH."; NULL: not there */
    model_key_type type;
    size_t at;         /* in the part's dimensions */
    const char *def;   /* of transformers' class: "4096", "1e-6", "true", "silu" */
    int64_t low, high; /* of a KEY_INT */
    unsigned flags;
    const char *gguf_tensor; /* KEY_BOOL: a GGUF has it when this tensor is there */
} model_key;

/* What a family changes of a key: its name in config.json (NULL: the family has no such key) and the default of its
 * class. */
typedef struct model_key_as {
    const char *name, *hf, *def;
} model_key_as;

/* --- tensors ------------------------------------------------------------------------------------------------------ */
typedef enum model_slot_kind {
    SLOT_LINEAR, /* place: nn_group, which sites join in the order of the family's names */
    SLOT_PARAM,  /* place: nn_param *; a matrix or a vector that is no linear layer's */
    SLOT_NORM,   /* place: model_norm of the family's kind */
    SLOT_TABLE   /* place: nn_site *; a table of rows, or the head: outside layers */
} model_slot_kind;

enum {
    SLOT_RESIDUAL =
        1,        /* it writes into the residual stream: initialised smaller by some families */
    SLOT_F32 = 2, /* small and sensitive: f32 in a GGUF, whatever the rest is written in */
    SLOT_BARE = 4 /* its names stand as they are: no ".weight" behind them */
};

typedef struct model_slot {
    const char *name; /* a family calls it PART.NAME */
    model_slot_kind kind;
    nn_role role;
    size_t place; /* in the part's struct of one layer */
    unsigned flags;
} model_slot;

/* What a tensor is in a given model. */
typedef struct model_shape {
    int64_t out, in;      /* [out, in]; out 0: a vector of `in` */
    bool bias;            /* it has one, [out] */
    const char *bias_key; /* name of the key that says so; NULL: it has none, or always */
    bool absent;
    int heads,
        head_dim; /* rows are heads · head_dim, which some GGUF families reorder; 0: not so */
    int experts; /* so many of it: place holds a pointer, nn_group * or nn_param **, to that many; 0: one */
} model_shape;

/* --- parts ------------------------------------------------------------------------------------------------------------ */
typedef struct model_call { /* a part at work in one layer */
    model *m;
    nn_run *r;
    int layer;
    const void *cfg, *part;
    void *shared;     /* what begin made for this pass, NULL */
    int64_t state_at; /* generating: where the layer's state begins in every page of r->cache */
} model_call;

typedef struct model_flop_count { /* arithmetic of a token, forward */
    double weights; /* values of the weight matrices it is multiplied with: two operations each */
    double other;   /* operations besides */
} model_flop_count;

struct gguf_source;
struct save_meta;
typedef struct model_part {
    const char *name;
    size_t cfg_size, size;   /* of its dimensions; of its groups and parameters in one layer */
    const model_key *keys;   /* ends with name NULL */
    const model_slot *slots; /* ends with name NULL */
    /* After the keys: what follows from them, and what is no plain key. The layers that use the part are known. May be
     * NULL. */
    ft_status (*read)(model *m, const model_use *u, const js_doc *d);
    model_shape (*shape)(const model *m, const void *cfg, int slot);
    /* Values of a random model for a slot's weight, n of them; false: the usual ones (matrices N(0, range²), biases 0,
     * other vectors 1). May be NULL. */
    bool (*init)(const void *cfg, int slot, float *w, int64_t n, uint64_t key);
    /* Once a pass, before the layers: what all of them read (tables). May be NULL. */
    ft_status (*begin)(model *m, const model_use *u, nn_run *r, void **shared);
    /* x [T, hidden], normed → add + f(x), the residual being added by the part's last product; add NULL: f(x). Pure. */
    tn_tensor *(*forward)(const model_call *c, tn_tensor *x, tn_tensor *add);
    /* f32 values that one layer keeps of so many positions of a sequence while generating: its share of a page of nn_cache.
     * NULL: nothing. */
    int64_t (*state_floats)(const void *cfg, int64_t positions);
    model_flop_count (*flop)(const model *m, const void *cfg,
                             double context); /* context: positions a token sees */
    /* What its keys alone do not carry between config.json and a GGUF; to_gguf refuses what has no place there. May be
     * NULL. */
    ft_status (*from_gguf)(struct gguf_source *s, cJSON *config);
    ft_status (*to_gguf)(struct save_meta *k, const void *cfg, const js_doc *config);
} model_part;

#define X(name) extern const model_part part_##name;
#include "parts.def"
#undef X

/* --- norms -------------------------------------------------------------------------------------------------------------- */
typedef struct model_norm_rule {
    bool bias;
    const char *gguf_eps; /* key of its epsilon in a GGUF */
    tn_tensor *(*forward)(nn_run *r, const model_norm *n, tn_tensor *x, float eps,
                          const dt_type *type); /* type: of the result */
} model_norm_rule;
extern const model_norm_rule norm_rms, norm_layer;

/* --- families ----------------------------------------------------------------------------------------------------------- */
/* A name of a family, in state-dict order: outside layers, layers (the patterns with %d), outside. `of` is PART.NAME, or one
 * of the frame: embed, position, norm1 and norm2 (of the first and second part of a layer), norm, head. %d is the layer, %e
 * the expert: consecutive rows with it are repeated together. A GGUF pattern of experts without %e is one tensor [experts,
 * out, in]. ".weight" and ".bias" are appended. */
typedef struct model_name {
    const char *of, *hf, *gguf;
} model_name;

typedef struct model_block { /* what a layer is made of */
    const char *type; /* its word in layer_types; NULL where a family has one kind of block */
    const model_part *part[MODEL_MAX_SUB];
    unsigned traits;
} model_block;

struct model_family {
    const char *model_type, *hf_arch, *gguf_arch;
    const char *prefix;       /* optional part of names on disk */
    const model_name *names;  /* ends with `of` NULL */
    const model_key_as *keys; /* ends with name NULL */
    const model_norm_rule *norm;
    model_block block[4]; /* ends with part[0] NULL; the first where config.json says nothing */
    bool in_out;          /* Hugging Face stores linear weights [I, O] (Conv1D) */
    bool scaled_init;   /* what writes into the residual stream starts with range/√(2·layers) */
    bool gguf_permuted; /* GGUF reorders the rows of heads */
    bool gguf_no_bias;  /* llama.cpp reads no biases of this architecture */
};

#define X(name) extern const model_family family_##name;
#include "families.def"
#undef X
const model_family *family_at(int i); /* rows of families.def; NULL past the end */
const model_family *family_by_type(const char *model_type);
const model_family *family_by_gguf(const char *arch);
void family_list(str_buf *out); /* names, for messages */
#endif
