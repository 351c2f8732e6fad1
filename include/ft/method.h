/* method.h – parameter-efficient methods: one file and one line of methods.def each.
 *
 * A method decides what is trained (nn_store), lays itself over the model (nn_overlay: a state at each site, trained values in
 * the model's place, virtual rows, hooks in the forward), may work before training and around every update, saves and loads
 * its files in PEFT's format, and folds itself into weights. It knows no objective and no update rule. */
#ifndef FT_METHOD_H
#define FT_METHOD_H

#include "ft/cfg.h"
#include "ft/model.h"
#include "ft/token.h"

typedef struct pe_method pe_method;

/* One tensor of an adapter file ↔ one trainable parameter. */
typedef struct pe_entry {
    nn_param *p;
    const char *key; /* "base_model.model.….lora_A.weight" */
    bool transposed; /* the file holds [cols, rows] of p */
    bool optional;   /* may be missing: p keeps its values */
    const char *also; /* key that other versions of PEFT use, or NULL */
} pe_entry;
typedef struct pe_entries {
    pe_entry *entry;
    int64_t n, cap;
} pe_entries;

/* Rows of an embedding or head that an adapter replaces. */
typedef struct pe_rows {
    nn_param *values; /* [n, C]; NULL: none */
    nn_param *into;
    const cJSON *indices; /* n of them */
} pe_rows;

/* The library whose adapter folders a method reads and writes. */
typedef struct pe_format {
    const char *library, *tag; /* for people, and for model hubs */
    const char *tensors;       /* the file of them */
    const char *pickle, *safe; /* the same as a pickle, and how it is saved as `tensors` instead */
    bool wrapped;              /* names in the file may have those of adapters and wrappers in them */
} pe_format;
extern const pe_format pe_format_peft, pe_format_adapters;

/* What `save` leaves in the output folder. */
typedef enum pe_result {
    PE_ADAPTER, /* a PEFT adapter folder, to be laid over the base */
    PE_MODEL,   /* a model folder */
    PE_DELTA    /* changed tensors of the base alone */
} pe_result;

/* An update that was made. */
typedef struct pe_update {
    int64_t step, steps; /* from 1; of the run */
    double rate;         /* of a parameter whose hyper says nothing else */
    double norm, gscale; /* of the gradients before clipping; what clipping multiplied them by */
} pe_update;

enum { PE_MAX_METRICS = 8 };

/* A key and its value as JSON. */
typedef struct pe_default {
    const char *key, *value;
} pe_default;

typedef struct pe_ctx {
    const pe_method *method;
    model *m;
    nn_overlay over; /* what runs are given; the model itself is not touched */
    arena *mem; /* what attach makes beside the store: states of sites, names */
    void *cfg;  /* the method's struct, filled by its fields */
    uint64_t seed;
    nn_store store;        /* what is trained */
    bool dry;              /* the store's values are only counted: none is to be made */
    pe_result result;      /* of this run: the row's, unless attach decides by the cfg */
    pe_entries entries;    /* of the adapter's file, in file order */
    pe_rows rows[2];       /* of the embedding, of the head */
    ag_tape *tape;         /* for what the method computes beside the passes, opened by attach; NULL: nothing. What a dry one
                              has counted is in the plan */
    size_t opening; /* bytes that attach takes and gives back before the first pass; set by a dry one too, for the plan */
    double metric[PE_MAX_METRICS]; /* of the step at hand, by the order of method->metrics; NAN: left out */
    const char *base_name; /* as in pe_start */
    const char *load_dir;  /* adapter to load, or NULL */
    const tok_tokenizer *tok;
    int64_t steps, samples, batch_size; /* as in pe_start */
    void *priv;
    bool keep_zeros;      /* linear weights of the blocks that are 0 in the base stay so (keep.c) */
    struct pe_keep *keep; /* NULL: they do not */
    size_t beside, folding; /* bytes beside store and mem: of masks, and while a weight is folded; for the plan */
    struct pe_ctx **part;  /* [n_part] adapters that this one is the sum of */
    int n_part;
    js_doc adapter;        /* adapter_config.json of load_dir or of an opened adapter */
    char *adapter_text;
    struct pe_file *file; /* its tensors, while they are attached and loaded */
    struct pe_qat *qat; /* model.qat of the run, or NULL */
} pe_ctx;

struct pe_method {
    const char *name;
    const char *help;
    const char *about;   /* of `ft help NAME`: what is trained, when to take it, what it costs; sentences */
    const char *paper;   /* its source: author, year, title; NULL: none */
    const char *example; /* "method" object of a config that runs, as JSON */
    /* type of model.quantization where the config has none; the base has to be in codes or blocks. NULL: it is as it is */
    const char *quantization;
    const cfg_field *fields;
    size_t cfg_size;
    const char *peft_type;    /* of adapter_config.json (see pe_adapter_type); NULL: the method has no such file */
    const pe_format *format;  /* NULL: PEFT's */
    /* Keys of PE_TARGET_KEYS, and fan_in_fan_out, that PEFT's config of this type does not have, NULL-terminated; NULL: it
     * has all. They are not written: what they leave out, whole paths in target_modules do. */
    const char *const *lacks;
    pe_result result;
    bool exact_vectors;       /* model_save_options.exact_vectors, of `save` and of merging */
    bool keeps; /* keep_zeros goes with it though it has no `unfold`: what it trains are copies, which are masked */
    bool qat; /* model.qat goes with it: weights are trained, or what is added to products of frozen ones */
    const char *const *files; /* names `save` may leave, NULL-terminated; one * stands for anything */
    double learning_rate;     /* default of optim.learning_rate */
    const pe_default *optim;  /* other defaults of "optim" than the rule's, ended by a NULL key; NULL: none */
    void (*check)(cfg_doc *d, const cJSON *object, void *cfg); /* cross-field checks, may be NULL */
    ft_status (*attach)(pe_ctx *c); /* creates parameters (nn_new_param), fills c->over */
    nn_hooks hooks;
    bool virtual_predict; /* as in nn_overlay, for the virtual tokens that attach gives it */
    /* Phases of training; any may be NULL. What one keeps for later is trained or nn_new_state, so that a
     * checkpoint holds it; what a phase needs is allocated in attach, so that the plan counts it. None is called for the
     * plan. A step that is interrupted is dropped and comes again, so nothing lasting changes before the update. */
    const char *const *metrics; /* further fields of log.jsonl, NULL-terminated; their values: c->metric */
    ft_status (*prepare)(pe_ctx *c, const nn_feed *f); /* once, before step 1 */
    /* Before anything of `step` (from 1) looks at the model, also before an evaluation and before the result is saved:
     * what follows from trained values (rounded copies) is made anew. */
    ft_status (*before_step)(pe_ctx *c, int64_t step);
    /* Gradients are whole, their norm is not yet taken: adds those of the method's own terms of what is minimised. Returns
     * their sum, which must be finite; the loss that is logged is the objective's alone. */
    double (*gradients)(pe_ctx *c);
    /* The norm is taken: puts what the update rule shall see in the gradients' place. */
    void (*transform)(pe_ctx *c);
    ft_status (*after_update)(pe_ctx *c, const pe_update *u); /* gradients still stand, unclipped */
    ft_status (*save)(const pe_ctx *c,
                      const char *dir); /* the files of the result into an existing folder */
    ft_status (*load_config)(pe_ctx *c, const js_doc *adapter_config); /* cfg from PEFT's file */
    ft_status (*load)(pe_ctx *c); /* values into attached parameters; lists what does not fit */
    ft_status (*fold)(const pe_ctx *c, const nn_site *s, float *w,
                      float *b); /* adds this site's delta (w, b in the
                                     file's orientation, f32); trained copies replace. NULL: cannot be folded */
    /* The way back of fold, of a linear site: what dw, gradients of the weight that fold made (w), gives the site's parameters is
     * added to their gradients. dw may be written to. NULL: method.keep_zeros does not go with the method, unless it trains
     * copies. */
    ft_status (*unfold)(pe_ctx *c, const nn_site *s, const float *w, float *dw);
    /* The change of a site as factors; false: none. NULL: the method's changes are no such product. */
    bool (*low_rank)(const pe_ctx *c, const nn_site *s, model_low_rank *out);
    /* Lays a part's change of the sites, times `scale`, over those that `sum` has; the part outlives it. NULL: an adapter of
     * this method stands alone. */
    ft_status (*add)(pe_ctx *sum, const pe_ctx *part, double scale);
};

const pe_method *pe_by_name(const char *name);
const pe_method *pe_at(int i);     /* rows of methods.def; NULL past the end */
const char *pe_name_at(int i);     /* their names */
const pe_format *pe_format_of(const pe_method *method);
bool pe_leaves(const pe_method *row, const char *name); /* by its `files` */
const char *const *pe_names(void); /* NULL-terminated, for messages */
int pe_metrics(const pe_method *method); /* their number */
bool pe_keeps(const pe_method *method);  /* does method.keep_zeros go with it? */

/* What a method begins with, beside its keys. */
typedef struct pe_start {
    uint64_t seed;
    const char *base_name;    /* base_model_name_or_path as written in the config, or NULL */
    const char *load_dir;     /* method.init_from, or NULL */
    bool keep_zeros;          /* method.keep_zeros */
    const tok_tokenizer *tok; /* the model's, for values that are made of a text; NULL: it has none */
    /* Optimizer steps of the run, samples of an epoch and of a step; 0: there is no run. */
    int64_t steps, samples, batch_size;
    const struct pe_qat_use *qat; /* model.qat, or NULL */
} pe_start;
/* Attaches a method to a model for training: cfg as parsed by method->fields. What `with` points to outlives the method. */
FT_MUST_USE ft_status pe_attach(pe_ctx **out, const pe_method *method, const void *cfg, model *m,
                                const pe_start *with);
/* The vocabulary a PEFT adapter folder was trained with, where it holds embeddings of another length than the model's (its
 * own otherwise): for model_resize_vocabulary, before the adapter is opened. 65: it does not hold what it would need. */
FT_MUST_USE ft_status pe_adapter_vocabulary(const char *dir, const model *m, int64_t *rows);
/* Is the adapter of a PEFT folder one of a sequence classifier, with a head for it (task_type SEQ_CLS)? The base it is laid
 * over is opened for MODEL_NEW_REWARD then. What is no adapter is none. */
FT_MUST_USE ft_status pe_adapter_scores(const char *dir, bool *scores);
/* Has this method's file a place for a head that is trained beside what the method trains? */
bool pe_keeps_head(const pe_method *method);
/* Opens a PEFT adapter folder on a model for use (eval, generate, merge). What does not fit is 65 with the list. */
FT_MUST_USE ft_status pe_open_adapter(pe_ctx **out, model *m, const char *dir);
/* A value that stands in the place of the base's (modules_to_save, a bias, tokens), by its name; NULL: none does. */
const char *pe_replaces(const pe_ctx *c);
/* An adapter, and what its change of the model is multiplied by. */
typedef struct pe_use {
    const char *dir;
    double scale;
} pe_use;
/* Several (or one with a scale) as one: their changes add up. 65: of a method that does not, or values in the place of the
 * base's (modules_to_save, biases, tokens) that are scaled or come twice. */
FT_MUST_USE ft_status pe_open_adapters(pe_ctx **out, model *m, const pe_use *use, int n);
/* Several LoRA folders as one, by their files alone: PEFT's add_weighted_adapter. */
typedef struct pe_combine {
    const char *const *dir;
    const double *weight;
    int n;
    const char *type;  /* one of pe_combine_types */
    double density;    /* share of the values that is kept, where the type prunes */
    bool frequency;    /* signs are elected by their number, not by the sum of the values */
    int64_t svd_rank;  /* of the types in *_svd; 0: the largest of the adapters' */
    uint64_t seed;     /* of what DARE drops */
    const char *base_name; /* base_model_name_or_path of the result; NULL: the first adapter's */
} pe_combine;
typedef struct pe_combined {
    int64_t rank, modules;
} pe_combined;
const char *const *pe_combine_types(void); /* NULL-terminated */
/* What a type reads; it wants a density where it prunes. */
enum {
    PE_COMBINE_DENSITY = 1,
    PE_COMBINE_MAJORITY = 2,
    PE_COMBINE_SVD_RANK = 4,
    PE_COMBINE_SEED = 8
};
unsigned pe_combine_reads(const char *type); /* of a type that is none 0 */
/* Writes the adapter, of scale 1, into the folder `dir`, which is there; one module after another. 65: what is no LoRA, or
 * has use_dora; ranks that the type cannot bring together; values in the place of the base's in two of them. */
FT_MUST_USE ft_status pe_combine_adapters(const pe_combine *how, const char *dir, pe_combined *out);
size_t pe_values_bytes(const pe_ctx *c); /* of an opened one, in memory */
void pe_close(pe_ctx *c);
/* The rows' phases of training, with what keep_zeros does around them. pe_finish comes after the last micro-batch, in the
 * place of nn_store_finish; pe_save leaves PE_METHOD_FILE too, where there is something to say. */
#define PE_METHOD_FILE "ft_method.json"
FT_MUST_USE ft_status pe_before_step(pe_ctx *c, int64_t step);
FT_MUST_USE ft_status pe_keep_make(const pe_ctx *c); /* what keep_zeros makes of the values, anew: before a pass of nn_feed */
FT_MUST_USE ft_status pe_finish(pe_ctx *c);
FT_MUST_USE ft_status pe_after_update(pe_ctx *c, const pe_update *u);
FT_MUST_USE ft_status pe_save(const pe_ctx *c, const char *dir);
/* An opened adapter changes no weight of a linear layer of the blocks that is 0 in the base, from here on. One whose folder
 * says so (PE_METHOD_FILE) is opened like that. */
FT_MUST_USE ft_status pe_keep_zeros(pe_ctx *c);
/* The largest share of zeros of a weight that the adapter changes, and that of all of them, which a merge loses: of a float
 * base, 0 where zeros are kept. */
void pe_zeros_lost(const pe_ctx *c, double *most, double *all);
/* The folding callback of model_save for this adapter. */
model_fold pe_folder(pe_ctx *c);

/* --- for methods ------------------------------------------------------------------------------------------ */
/* What every adapter of weights shares: where it sits, and what is trained beside it. A member of the method's struct,
 * filled by PE_TARGET_FIELDS of a config, or by pe_load_target of an adapter_config.json. */
typedef struct pe_target {
    const cJSON *target_modules, *exclude_modules, *modules_to_save; /* NULL or null: not given */
    const cJSON *layers_to_transform, *layers_pattern;
    const char *bias; /* one of pe_bias_choices, or another type's word in place of lora_only; NULL: none */
    /* of adapters that PEFT made: the head shares the embedding's adapter; single rows are trained */
    bool ensure_weight_tying;
    const cJSON *trainable_token_indices;
} pe_target;
extern const char *const pe_bias_choices[];

#define PE_TARGET_AT(cfg, member, k) .key = #k, .offset = offsetof(cfg, member.k)
/* Rows of a method's `fields`; `member` is the pe_target in struct `cfg`. PE_TARGET_MODULES and PE_TARGET_BIAS apart: where
 * target_modules has another default, or PEFT's config another word for lora_only, or no `bias`. */
#define PE_TARGET_FIELDS(cfg, member)                                                              \
    PE_TARGET_MODULES(cfg, member, "\"all-linear\""), PE_TARGET_BIAS(cfg, member, pe_bias_choices)
#define PE_TARGET_MODULES(cfg, member, target)                                                     \
    {PE_TARGET_AT(cfg, member, target_modules), .type = CFG_JSON, .def = target,                   \
     .help = "\"all-linear\", a list of module name suffixes, or a regex of whole paths"},         \
        {PE_TARGET_AT(cfg, member, exclude_modules), .type = CFG_JSON,                             \
         .help = "modules left out: a list of suffixes or a regex"},                               \
        {PE_TARGET_AT(cfg, member, modules_to_save), .type = CFG_JSON,                             \
         .help = "modules trained in full and saved with the adapter"},                            \
        {PE_TARGET_AT(cfg, member, layers_to_transform), .type = CFG_JSON,                         \
         .help = "a layer index or a list of them"},                                               \
        {PE_TARGET_AT(cfg, member, layers_pattern), .type = CFG_JSON,                              \
         .help = "name of the layer list in module paths, for layers_to_transform"}
#define PE_TARGET_BIAS(cfg, member, words)                                                         \
    {                                                                                              \
        PE_TARGET_AT(cfg, member, bias), .type = CFG_ENUM, .def = "\"none\"", .choices = words,     \
                                         .help = "which biases of the base are trained too"        \
    }

/* The same keys in an adapter_config.json, for pe_check_keys. */
#define PE_TARGET_KEYS                                                                             \
    {"target_modules", NULL}, {"exclude_modules", NULL}, {"modules_to_save", NULL},                \
        {"layers_to_transform", NULL}, {"layers_pattern", NULL}, {"bias", NULL},                   \
        {"ensure_weight_tying", NULL}, {"trainable_token_indices", NULL}

/* For a method's `check`: the forms of these keys; with init_from, none of them and none of `keys` (NULL-terminated) may
 * say something else than the adapter it names. */
void pe_check_target(cfg_doc *d, const cJSON *object, const pe_target *t, const char *const *keys);
FT_MUST_USE ft_status pe_load_target(pe_target *t, const js_doc *adapter_config);
/* Calls `attach`, which fills c->over.slot, for every site the rules choose; then trains modules_to_save and biases. No site
 * is 78; so is a name in a config that matches nothing (an adapter's names may: PEFT passes over them). */
FT_MUST_USE ft_status pe_attach_target(pe_ctx *c, const pe_target *t,
                                       ft_status (*attach)(pe_ctx *c, nn_site *s));
/* The same for norms, which are no sites: the chosen ones are trained in the model's place, PATH INSIDE .weight in the file. */
FT_MUST_USE ft_status pe_attach_norms(pe_ctx *c, const pe_target *t, const char *inside);
/* Names as a JSON list, in c->mem: PEFT's targets of a model that a config leaves to it. */
FT_MUST_USE ft_status pe_name_list(pe_ctx *c, const char *const *names, const cJSON **out);
/* For `attach` there: a table is none of PEFT's targets of this method (78). */
FT_MUST_USE ft_status pe_only_linear(const pe_ctx *c, const nn_site *s);
/* A tensor of the adapter's file; key from pe_file_key. p or key may be NULL: out of memory. */
FT_MUST_USE ft_status pe_add_entry(pe_ctx *c, nn_param *p, const char *key, bool transposed);
/* "base_model.model." PATH SUFFIX; NULL: out of memory. */
const char *pe_file_key(pe_ctx *c, const char *path, const char *suffix);

/* Both files of a PEFT folder: adapter_config.json of the keys of every adapter and of `own`, the method's, which is freed
 * (NULL: out of memory); adapter_model.safetensors of the entries. pe_save_adapter: with those of `t`. */
FT_MUST_USE ft_status pe_save_files(const pe_ctx *c, cJSON *own, const char *dir);
FT_MUST_USE ft_status pe_save_adapter(const pe_ctx *c, const pe_target *t, cJSON *own,
                                      const char *dir);
/* A method's `load`: values of the entries. Every missing, extra or wrongly shaped tensor is listed (65). */
FT_MUST_USE ft_status pe_load_adapter(pe_ctx *c);
extern const char *const pe_adapter_files[]; /* a method's `files` */

/* A key of adapter_config.json: read by someone or known to be without effect (no NULL), or why an adapter that has it is
 * refused. */
typedef struct pe_key {
    const char *key, *no;
} pe_key;
/* Every key of the file is one that every adapter has, or of `own` (ends with a NULL key), or says nothing (null, false,
 * empty): else 65. */
FT_MUST_USE ft_status pe_check_keys(const js_doc *adapter_config, const pe_key *own);
/* The kind of an adapter: its peft_type. A folder of the adapters library has no such key, but an object `config`, and is of
 * PE_ADAPTERS. NULL: it is neither. */
#define PE_ADAPTERS "adapters"
const char *pe_adapter_type(const js_doc *adapter_config);
/* An adapter_config.json of mlx-lm, which has the name and none of the keys of PEFT's; what helps. */
bool pe_is_mlx(const js_doc *adapter_config);
#define PE_MLX_REMEDY                                                                              \
    "its matrices stand the other way round and under other names than those of PEFT, which ft "   \
    "reads; fold it into its base with mlx_lm.fuse and give the folder that this makes as the model"
/* The adapter that method.init_from names is one of this method; recorded otherwise. For all methods, before `check`. */
void pe_check_init_type(cfg_doc *d, const cJSON *object, const pe_method *method);
/* For a method's `check`, with init_from: none of the keys (lists that end with NULL; more may be NULL) may say something
 * else than the adapter it names. pe_check_target does it. */
void pe_check_init_from(cfg_doc *d, const cJSON *object, const char *const *keys,
                        const char *const *more);
/* Takes out of `resolved`, the method's object of a resolved config, what the adapter in `dir` (init_from) says otherwise and
 * the config itself does not say: the adapter's values hold, and the resolved config goes on from it too. */
void pe_leave_to_adapter(cJSON *resolved, const cJSON *object, const char *dir);
/* Further keys that are JSON: recorded where `good` says no (`check`), or 65 (`load_config`; absent: NULL). */
void pe_check_json(cfg_doc *d, const cJSON *v, const char *key, bool (*good)(const cJSON *v),
                   const char *must);
FT_MUST_USE ft_status pe_load_json(const js_doc *d, const char *key, bool (*good)(const cJSON *v),
                                   const cJSON **out);
/* A number that scales in f32; 65 where that has no place for it. */
FT_MUST_USE ft_status pe_load_scale(const js_doc *d, const char *key, double def, double *out);
void pe_put_json(cJSON *o, const char *key, const cJSON *v); /* a copy; NULL: null */
static inline bool pe_is_null(const cJSON *v)
{
    return !v || cJSON_IsNull(v);
}                             /* absent, or null */
bool pe_is_ranks(const cJSON *v);  /* rank_pattern: an object of whole numbers above 0 */
bool pe_is_alphas(const cJSON *v); /* alpha_pattern: an object of numbers above 0 */
/* rank_pattern and alpha_pattern of a config: their form and their regexes; a warning for each key that matches no target. */
void pe_check_patterns(cfg_doc *d, const cJSON *v, const char *key, bool (*good)(const cJSON *v),
                       const char *must);
void pe_tell_patterns(const pe_ctx *c, const cJSON *pattern, const char *key);
/* A regex, with what `match` puts around it, is told by the key before it meets a model. */
void pe_check_regex(cfg_doc *d, const cJSON *at, const char *key, const char *regex,
                    int (*match)(const char *regex, const char *path));
/* The value of the first key of a rank_pattern or alpha_pattern that matches; untouched where none does. */
FT_MUST_USE ft_status pe_pattern_value(const cJSON *pattern, const char *path, double *value);

/* PEFT's rules of which module a pattern means. Each returns 1, 0, −1 for a regex that is wrong or hits a limit, or −2
 * when memory is out (the record is set). As a status: FT_OK, FT_ECONFIG, FT_EMEM. */
static inline ft_status pe_match_status(int hit)
{
    return hit == -2 ? FT_EMEM : hit < 0 ? FT_ECONFIG : FT_OK;
}
int pe_match_full(const char *regex, const char *path); /* re.fullmatch */
int pe_match_pattern(const char *key,
                     const char *path); /* ^(.*\.)?(KEY)$, of rank_pattern and alpha_pattern */
int pe_match_inside(const char *key,
                    const char *path); /* (^|.*\.)KEY($|\..*): it, or a module above, is KEY */
/* The number behind the list of layers: of any name (pattern NULL), or of PATTERN, a regex. */
int pe_match_layer(const char *pattern, const char *path, int64_t *layer);
bool pe_match_suffix(const char *entry, const char *path); /* equal, or ends with "." + entry */

/* --- model.qat: quantisation that is simulated while training ----------------------------------------------
 * One file and one line of qats.def each. The weights of the blocks' linear layers are put in the forward as their codes
 * would give them back, and so may be their inputs; adapters are not. What is trained stays as it is, and its gradient goes
 * straight through: made whole over the step, it is masked and summed for the steps once, before the update. */
typedef struct pe_qat_how {
    float low, high; /* codes */
    int64_t group;   /* inputs that share a step; −1: a row; 0: the whole matrix */
    kn_first_step first;
    bool learns;     /* steps are trained, from that one on */
    bool straight;   /* the gradient of clamped weights too */
    bool codes_input;
    kn_tokens input;
    int64_t after;   /* plain steps before the first that quantises */
    int64_t out_multiple; /* outputs come in so many; 0: any number */
} pe_qat_how;
typedef struct pe_qat_row {
    const char *name, *help, *paper;
    const cfg_field *fields; /* keys of model.qat beside type */
    size_t cfg_size;
    void (*check)(cfg_doc *d, const cJSON *object, const void *cfg); /* may be NULL */
    void (*settle)(const void *cfg, pe_qat_how *how);
    /* quantization_config of a model folder, which then says all; NULL: ft_method.json does */
    void (*config)(const void *cfg, str_buf *out);
} pe_qat_row;
#define PE_BITNET_EPS 1e-6f /* of transformers' rms_norm_eps */
const pe_qat_row *pe_qat_by_name(const char *name);
const pe_qat_row *pe_qat_at(int i); /* NULL past the end */
typedef struct pe_qat_use { /* a row and its keys */
    const pe_qat_row *row;
    const void *cfg;
} pe_qat_use;

typedef struct pe_qat pe_qat;
/* Over all linear layers of m's blocks, with the values of `over`, whose `fake` is set; steps go into the store. trains: what
 * is wanted of the gradients is handed on. What is in codes already, does not fit the group or the packing is 65. */
FT_MUST_USE ft_status pe_qat_attach(pe_qat **out, const pe_qat_use *use, model *m, nn_overlay *over,
                                    nn_store *store, bool dry);
void pe_qat_close(pe_qat *q); /* accepts NULL */
/* Before anything of `step` (from 1) looks at the model: steps that follow from values are made anew. always: it quantises
 * before its time too. */
void pe_qat_ready(pe_qat *q, int64_t step, bool always);
/* Gradients are whole, their norm is not yet taken. */
void pe_qat_gradients(pe_qat *q);
/* What it leaves in a folder of the method's files, but for ft_method.json: qat.safetensors, or a key of config.json. *keys: of
 * that file, the caller's; NULL: there are none. */
#define PE_QAT_FILE "qat.safetensors"
FT_MUST_USE ft_status pe_qat_save(const pe_qat *q, const char *dir, cJSON **keys);
/* For use: what ft_method.json of a model or adapter folder says of the model, whose overlay it is; NULL: nothing. */
FT_MUST_USE ft_status pe_qat_open(pe_qat **out, const char *dir, model *m, nn_overlay *over);
size_t pe_qat_bytes(const pe_qat *q); /* of its steps, in memory; of NULL 0 */
/* The weights of the model become what their codes give back, and inputs are as they are: to fold an adapter. */
void pe_qat_fix(pe_qat *q);

/* qat.safetensors of a folder: learnt or last steps, "P.weight_scale" [out, in / group] f32, P a module's path. */
typedef struct pe_steps pe_steps;
FT_MUST_USE ft_status pe_steps_open(pe_steps **out, const char *dir); /* NULL: there is none */
void pe_steps_close(pe_steps *s);                                     /* accepts NULL */
/* Those of a module of so many outputs and groups into step [out, groups]. *found false: none, or others. Of a type of so
 * many bits: code · step, −2ᵇ⁻¹ ≤ code < 2ᵇ⁻¹. */
FT_MUST_USE ft_status pe_steps_get(pe_steps *s, const char *path, int64_t out, int64_t groups,
                                   float *step, bool *found);

/* ft_method.json: what ft alone knows of a result, beside files that others read. */
typedef struct pe_note {
    js_doc doc;
    char *text;
    bool keep_zeros;
    const cJSON *qat; /* NULL: none */
} pe_note;
FT_MUST_USE ft_status pe_note_read(pe_note *n, const char *dir, arena *mem); /* zero where there is none */
void pe_note_close(pe_note *n);
#endif
