/* merge.h – whole models as one: recipes in mergekit's keys, methods as rows of merges.def, and the values of the result,
 * tensor by tensor.
 *
 * A recipe names models, takes their layers in slices, and says by which method, with which parameters, the tensors that
 * stand at the same place become one. Nothing but the tensors at hand is in memory: a method first looks at them as a
 * whole, where it needs norms or thresholds, and then gives rows of the result as they are asked for. Tiles are cut by the
 * shape, sums are added up in their order, and a random mask is a function of the recipe's seed, the tensor's name, the
 * number of the model and the place, so that threads make no difference.
 * Names and arithmetic: mergekit 0.1.5. */
#ifndef FT_MERGE_H
#define FT_MERGE_H

#include "ft/method.h"
#include "ft/model.h"

enum { MERGE_MODELS = 64, MERGE_VALUES = 8 };

/* --- methods ------------------------------------------------------------------------------------------------ */
typedef enum merge_scope {
    MERGE_SHARED, /* one value: of the slice, or of the recipe */
    MERGE_EACH,   /* one of each model */
    MERGE_OTHERS  /* one of each model but the base */
} merge_scope;
typedef struct merge_param {
    const char *name;
    bool boolean;
    merge_scope scope;
    double def; /* NAN: required */
    const char *help;
} merge_param;
typedef enum merge_base { MERGE_NO_BASE, MERGE_MAY_BASE, MERGE_NEEDS_BASE } merge_base;

/* A tensor in the making: inputs [rows, cols] in the orientation of a folder; a vector is one row. */
typedef struct merge_input merge_input;
typedef struct merge_tensor {
    const struct merge_method *method;
    const char *name;
    int64_t rows, cols;
    merge_input *in; /* [n], in the order of the recipe */
    int n, base;     /* base: which of them; −1: none */
    double value[MERGE_VALUES]; /* of shared parameters, by the method's rows */
    const dt_type *cast;        /* inputs are rounded to it; NULL: they are as they are */
    uint64_t seed;
    const struct merge_vocab *vocab; /* of a tensor with a row a token; NULL: rows are the models' own */
    const struct merge_row *fill;    /* [tokens] of it */
    arena *mem;  /* of what is known of the tensor, until the next one */
    void *state; /* the method's, made by look */
} merge_tensor;

typedef struct merge_rows { /* a tile of a tensor */
    int64_t row0, rows, cols, tile;
    int thread;
    const float *x[MERGE_MODELS]; /* [rows, cols] of each input that is read */
} merge_rows;

typedef struct merge_method {
    const char *name, *help, *paper;
    const merge_param *params; /* ends with a NULL name; NULL: none */
    merge_base base;
    int least, most; /* inputs, the base among them; most 0: any number */
    const void *row; /* what tells methods apart that are made alike */
    /* What is wrong with the values of a tensor's parameters; NULL: nothing. */
    const char *(*check)(const merge_tensor *t);
    ft_status (*look)(merge_tensor *t); /* at all of it, before rows are mixed; NULL: not needed */
    /* y [rows, cols]; several threads at once, each with its own tile. Slots 2 and 3 of pool_scratch are its own */
    void (*mix)(const merge_tensor *t, const merge_rows *r, float *y);
} merge_method;
const merge_method *merge_method_at(int i); /* NULL past the end */
const merge_method *merge_method_by_name(const char *name);
const char *merge_method_name_at(int i); /* for help and completion */

/* --- recipes ------------------------------------------------------------------------------------------------ */
typedef struct merge_ref { /* a model that the recipe names, once */
    const char *text;      /* as it is written; for messages */
    const char *path, *adapter; /* adapter NULL: none */
    const char *place;          /* the same from the root on, links followed: PATH or PATH+ADAPTER */
    const cJSON *node;          /* the first place that it is written at */
    model *m;
    pe_ctx *pe; /* of the adapter */
    struct pe_qat *qat; /* by which its base is rounded; NULL: it is not */
    model_save_options how; /* by which its values are read */
} merge_ref;
typedef struct merge_source {
    int ref;
    int64_t from, to; /* layers [from, to); −1: all */
    const cJSON *parameters, *node;
} merge_source;
typedef struct merge_slice {
    merge_source *source; /* [n] */
    int n, base;          /* base: a ref; −1: none */
    int64_t first, layers; /* of the result */
    const cJSON *parameters, *node;
} merge_slice;
/* Whose tokens the result has, where it is no model of the recipe. */
enum { MERGE_TOKENS_AS_THEY_ARE = -1, MERGE_TOKENS_BASE = -2, MERGE_TOKENS_UNION = -3 };
typedef struct merge_token { /* whose row stands for a token */
    const char *text;        /* the token */
    const char *token;       /* of the model; NULL: id */
    int64_t id;              /* −1: the same token */
    int ref;                 /* −1: zero */
    bool force;              /* also in models that have a row of their own */
    const cJSON *node;
} merge_token;
typedef struct merge_recipe {
    /* keys */
    const char *method_name, *dtype_name, *out_dtype_name, *chat_template;
    const cJSON *models, *slices_given, *modules, *base_model, *parameters, *tokenizer_source, *tokenizer;
    int64_t seed;
    /* what they say */
    const merge_method *method;
    const dt_type *cast, *out; /* NULL: not given */
    merge_ref *ref;            /* [n_ref] */
    int n_ref, base;           /* base: a ref; −1: none */
    merge_slice *slice;        /* [n_slice] */
    int n_slice;
    int tokens;        /* MERGE_TOKENS_…, or a ref */
    merge_token *token; /* [n_token] */
    int64_t n_token, pad_to;
    int64_t n_layer; /* of the result; known when the models are open */
    cfg_doc *doc;
    arena *mem;
} merge_recipe;
extern const cfg_field merge_fields[];
/* From an open document (cfg_open_yaml), which outlives it. `also`: keys that somebody else reads. Mistakes are counted in
 * the document: cfg_done. Nothing is opened. */
FT_MUST_USE ft_status merge_read(merge_recipe *r, cfg_doc *doc, const char *const *also);
/* The type that a key at the root of a recipe names; NULL: there is none, or a mistake was recorded. */
const dt_type *merge_read_dtype(cfg_doc *d, const char *key, const char *name);
/* A reference to a model, "PATH" or "PATH+ADAPTER", a string or a map: its number; −1: a mistake was recorded. */
int merge_read_ref(merge_recipe *r, const cJSON *node, const char *key);
cJSON *merge_ref_node(const merge_recipe *r, int ref); /* a reference as it holds from anywhere */
/* The recipe as it was understood, which gives the same model again wherever it lies: JSON. */
FT_MUST_USE ft_status merge_print(const merge_recipe *r, str_buf *out);

/* --- merging ------------------------------------------------------------------------------------------------- */
typedef struct merge_job merge_job;
/* Opens the models and looks whether they go together: families, layers, shapes, parameters, vocabularies. dir: a folder
 * that is made for the config and the tokenizer of the result, and that `result` is opened from. The recipe outlives it. */
FT_MUST_USE ft_status merge_open(merge_job **out, merge_recipe *r, const char *dir);
void merge_close(merge_job *j); /* accepts NULL; closes the models of the recipe, too */
/* A bare model of the result's shape, and the options that it is saved with: its values come from the merge, as often as it
 * is saved. */
model *merge_result(merge_job *j);
model *merge_donor(const merge_job *j); /* whose config it has */
model_save_options merge_save_options(merge_job *j, bool gguf);
size_t merge_bytes(const merge_job *j); /* of memory while it is saved: mappings of the tensor at hand, too */
/* What became of the tensors, after saving: a line of JSON each, {"name", "models", "norm"}. */
FT_MUST_USE ft_status merge_lines(const merge_job *j, str_buf *out);
#endif
