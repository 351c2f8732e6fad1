/* method.h – parameter-efficient methods: one file and one line of methods.def each.
 *
 * A method decides what is trained, attaches to sites, adds its part of the forward through nn_hooks, saves and loads its
 * files in PEFT's format, and folds itself into weights. */
#ifndef FT_METHOD_H
#define FT_METHOD_H

#include "ft/cfg.h"
#include "ft/model.h"

typedef struct pe_method pe_method;

/* Everything trainable, as three flat ranges would have it: values, gradients (and the optimizer's states in the same
 * layout), so that clipping, updating and saving are single loops. Padding between tensors is zero and stays zero. */
typedef struct pe_params {
    nn_param **param; /* n of them, in file order */
    int64_t *offset;  /* of each in the flat ranges */
    int64_t n, count; /* count: floats in all, padding included */
    float *w, *g;
} pe_params;

typedef struct pe_ctx {
    const pe_method *method;
    model *m;
    arena *mem; /* parameters and slots */
    void *cfg;  /* the method's struct, filled by its fields */
    uint64_t seed;
    pe_params params;
    const char *base_name; /* base_model_name_or_path as written in the config */
    const char *load_dir;  /* adapter to load, or NULL */
    void *priv;
    struct pe_store *store; /* arenas behind params */
    js_doc adapter;         /* adapter_config.json of load_dir or of an opened adapter */
    char *adapter_text;
} pe_ctx;

struct pe_method {
    const char *name;
    const char *help;
    const cfg_field *fields;
    size_t cfg_size;
    const char *peft_type; /* of adapter_config.json; NULL: the result is a model folder */
    void (*check)(cfg_doc *d, const cJSON *object, void *cfg); /* cross-field checks, may be NULL */
    ft_status (*attach)(pe_ctx *c); /* creates parameters (pe_new_param), fills slots */
    nn_hooks hooks;
    ft_status (*save)(const pe_ctx *c,
                      const char *dir); /* the files of the result into an existing folder */
    ft_status (*load_config)(pe_ctx *c, const js_doc *adapter_config); /* cfg from PEFT's file */
    ft_status (*load)(
        pe_ctx *c, const char *dir); /* values into attached parameters; lists what does not fit */
    ft_status (*fold)(const pe_ctx *c, const nn_site *s, float *w,
                      float *b); /* adds this site's delta (w, b in the
                                     file's orientation, f32); trained copies replace. NULL: cannot be folded */
};

const pe_method *pe_by_name(const char *name);
const pe_method *pe_at(int i);     /* rows of methods.def; NULL past the end */
const char *const *pe_names(void); /* NULL-terminated, for messages */

/* Attaches a method to a model for training: cfg as parsed by method->fields; load_dir: method.init_from or NULL. */
FT_MUST_USE ft_status pe_attach(pe_ctx **out, const pe_method *method, const void *cfg, model *m,
                                uint64_t seed, const char *base_name, const char *load_dir);
/* Opens a PEFT adapter folder on a model for use (eval, generate, merge). What does not fit is 65 with the list. */
FT_MUST_USE ft_status pe_open_adapter(pe_ctx **out, model *m, const char *dir);
void pe_close(pe_ctx *c);
/* The folding callback of model_save for this adapter. */
model_fold pe_folder(pe_ctx *c);

/* Before the first micro-batch of a step; after the last one, before the norm is taken: a tied head collects its
 * gradient apart from the embedding's, because the order of additions may not depend on the micro-batches. */
void pe_zero_grads(pe_ctx *c);
void pe_finish_grads(pe_ctx *c);

/* --- for methods ------------------------------------------------------------------------------------------ */
/* A trainable f32 parameter [rows, cols] (cols 0: one dimension), zero, laid out after the last one. */
FT_MUST_USE ft_status pe_new_param(pe_ctx *c, const char *name, int64_t rows, int64_t cols,
                                   nn_param **out);
/* Trains a parameter of the model: p->own, an f32 copy of its values. */
FT_MUST_USE ft_status pe_train_param(pe_ctx *c, nn_param *p);

/* PEFT's rules of which module a pattern means. Each returns 1, 0, or −1 for a regex that is wrong or hits a limit (the
 * record is set). */
int pe_match_full(const char *regex, const char *path); /* re.fullmatch */
int pe_match_pattern(const char *key,
                     const char *path); /* ^(.*\.)?(KEY)$, of rank_pattern and alpha_pattern */
bool pe_match_suffix(const char *entry, const char *path); /* equal, or ends with "." + entry */
#endif
