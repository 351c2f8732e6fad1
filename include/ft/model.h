/* model.h – model families, block parts and quantisers as rows; opening from a folder or a GGUF, the forward pass, saving.
 *
 * A family is data: what its layers are made of, config keys, tensor names for Hugging Face and GGUF, norm. Blocks are made of
 * parts, and one function puts them together. An open model is not written to: what is trained lies in an overlay (nn.h).
 * Equations and names: config.json classes of transformers (llama, mistral, qwen2, qwen3, gpt2); see each row in family_*.c.
 * Base-model dropout (GPT-2's *_pdrop) is not applied in training. */
#ifndef FT_MODEL_H
#define FT_MODEL_H

#include "ft/cfg.h"
#include "ft/io.h"
#include "ft/nn.h"

typedef struct model_family model_family;
typedef struct model model;

/* What no part of a block decides. */
typedef struct model_dims {
    int64_t vocab_size, hidden_size, max_position, n_layer;
    double norm_eps;
    bool tied; /* the head is the input embedding */
    int64_t window; /* the shortest that a layer attends to, shorter than max_position; 0: all attend to all */
    int64_t pad_row; /* row of the embedding that is not trained from the input side; −1: none */
} model_dims;

/* A block is made of parts (attention, a feed-forward layer), rows of parts.def: src/model/part.h. */
struct model_part;
typedef struct model_use { /* a part as this model has it: one for all layers that name it */
    const struct model_part *row;
    void *cfg; /* its dimensions */
    int index;
} model_use;
typedef struct model_norm {
    nn_param *w, *b; /* b NULL when there is none */
} model_norm;
#define MODEL_MAX_SUB 2
#define MODEL_MAX_USES 8
enum { MODEL_PARALLEL = 1 }; /* all parts of a layer read its input, not each other's result */
typedef struct model_sub {   /* a part in one layer, with the norm before it */
    const model_use *use;
    void *p;         /* the row's struct: groups and parameters */
    model_norm norm; /* w NULL: it reads what the part before it reads */
} model_sub;
typedef struct model_layer {
    int index;
    model_sub sub[MODEL_MAX_SUB];
    int n_sub;
    unsigned traits;
    const char *type; /* its word in layer_types, where the config tells it by the layer's number; NULL elsewhere */
} model_layer;

/* Quantised weights (quants.def). A row reads the folders of one tool, or quantises the base when it is
 * loaded, or both.
 *
 * read: the keys of quantization_config into `cfg` of `size` bytes; 65 when one cannot be honoured.
 * bind: gives parameter i of m its tensor (type, data, side, and file_type; nd and dim are there) from the
 * tensors of the folder, or leaves *done false where the folder keeps it as it is. The codes stay in the
 * mapping; side data lives in m->mem. model_find_tensor (model_private.h) finds what lies beside a name.
 * means, make: a parameter that it means gets another tensor, whose values lie in m->made; after all are bound, and
 * never where the base's own have blocks already. With m->no_weights it makes types and shapes, no values.
 * nf4 and fp4: codes and scales are those that a folder made by the writer from the same base has. Values made here are f32
 * (code · absmax); a folder's are rounded to the dtype of the base, as bitsandbytes does, so both are equal from an f32 base. */
/* A folder in a row's codes. means: is parameter i written so? parts: the tensors that stand for a matrix [rows, cols] whose
 * values have `dtype`; their number, 0 out of memory. code: the matrix, or with `turned` its transpose, in codes (of
 * `mem`); src has them already: as they are. data: the bytes of a part. config: the text of quantization_config. */
#define MODEL_QUANT_PARTS 6
typedef struct model_quant_part {
    const char *suffix; /* behind the parameter's name; "" is the codes' own */
    const dt_type *type;
    int nd;
    int64_t dim[2];
} model_quant_part;
struct model_save_options;
typedef struct model_quant_writer {
    bool (*means)(const model *m, int64_t i);
    int (*parts)(const void *cfg, const dt_type *dtype, int64_t rows, int64_t cols,
                 model_quant_part out[MODEL_QUANT_PARTS]);
    ft_status (*code)(const void *cfg, const dt_type *dtype, const tn_tensor *src, bool turned,
                      const char *name, int64_t rows, int64_t cols, arena *mem, tn_tensor *out);
    ft_status (*data)(const tn_tensor *coded, int part, arena *mem, const void **data);
    void (*config)(const void *cfg, const dt_type *dtype, str_buf *out);
    bool of_module; /* suffixes are behind the module's name: P.qweight of P.weight */
    bool of_base;   /* a model of the row's own folders is written, with its own cfg; --type is the method's name */
    /* 65, or 64: why a model cannot be written so; NULL: any can */
    ft_status (*fits)(const model *m, const struct model_save_options *opt);
} model_quant_writer;

typedef struct model_quant {
    const char *method; /* quant_method in config.json's quantization_config; NULL: reads no folders */
    const char *type;   /* type in a training config's model.quantization; NULL: makes nothing */
    const char *help;   /* of that type, one line */
    size_t size;
    ft_status (*read)(const js_doc *d, const cJSON *object, void *cfg);
    ft_status (*bind)(model *m, int64_t i, const void *cfg, bool *done);
    ft_status (*bound)(model *m, const void *cfg); /* all are bound; NULL: nothing more is to do */
    const cfg_field *make_fields; /* keys of model.quantization beside type, into make_size bytes */
    size_t make_size;
    /* further mistakes of those keys (path: model.quantization), may be NULL */
    void (*check)(cfg_doc *d, const cJSON *object, const char *path, const void *cfg);
    bool (*means)(const model *m, int64_t i);
    ft_status (*make)(model *m, int64_t i, const void *cfg);
    const model_quant_writer *writer; /* of folders, with the same keys; NULL: it writes none */
} model_quant;
const model_quant *model_quant_by_type(const char *type); /* NULL when unknown */
const model_quant *model_quant_by_method(const char *method);
const model_quant *model_quant_make_at(int i);            /* rows with a type; NULL past the end */
/* What `--type` calls the folders of a row; NULL: it asks for none. The rows that it asks for; NULL past the end. */
const char *model_quant_output(const model_quant *q);
const model_quant *model_quant_output_at(int i);
void model_quant_list(str_buf *out, bool types);          /* types, or methods, for messages */

/* The folders of GPTQ and AWQ ("gptq", "awq" by model_quant_by_method). Their cfg, of reading and of the writer alike: what
 * quantization_config says.
 *
 * To write one: model_packed_tensor() makes of a matrix in codes the tensor that the product reads, which the caller puts in
 * the place of m->param[i].t of a model that is its own (with model_quant_turned() where folders of the family have the
 * matrix [in, out]); model_save() with .quant = the row and .quant_cfg = the cfg then writes all matrices that are
 * in codes as the row's tensors, the others in their dtype, and quantization_config. */
typedef struct model_packed_cfg {
    int64_t bits, group_size; /* −1: a group is a row */
    bool sym, desc_act;
    bool v2;         /* gptq: checkpoint_format "gptq_v2", which stores zeros as they are, not zero − 1 */
    bool zero_point; /* awq */
    bool static_groups, true_sequential; /* gptq: told, nothing more */
    double damp_percent;
    const char *const *left; /* modules_to_not_convert, n_left of them */
    int n_left;
} model_packed_cfg;
typedef struct model_codes { /* a matrix in whole codes: scale · (q − zero) */
    int bits;
    int64_t out, in, groups;
    const uint8_t *q;      /* [out, in] */
    const uint16_t *scale; /* [out, groups] f16 */
    const uint8_t *zero;   /* [out, groups] as it is, whatever a file stores */
    const int32_t *g_idx;  /* [in] the group of each input; NULL: i / size */
    int64_t size;          /* inputs of a group, where g_idx is NULL */
} model_codes;
/* c copied into `mem`: type int2 … int8, [out, in]. */
FT_MUST_USE ft_status model_packed_tensor(tn_tensor *t, const model_codes *c, arena *mem);
/* 65 naming the tensor: sizes that the row's tensors cannot hold (gptq: in · bits / 32 and out · bits / 32 whole; awq: out a
 * multiple of 8), a group_size that does not divide `in`. Before anything is quantised. */
FT_MUST_USE ft_status model_packed_fits(const model_quant *q, const model_packed_cfg *c,
                                        const char *name, int64_t out, int64_t in);
/* Weights that are rounded when they are used (BitNet, online) are numbers again, for who trains them. */
void model_unround(model *m);
/* Matrix i is [out, in] from now on, also where the family's folders have it [in, out]. */
void model_quant_turned(model *m, int64_t i);

struct model_tensor; /* model_private.h: how a parameter stands in files */
struct model {
    arena *mem;
    const model_family *family;
    model_dims d;
    const char *path; /* as given */
    char *config;     /* text of config.json (made from the metadata for a GGUF); NUL-terminated */
    const dt_type *dtype; /* what a folder is written in by default: the base's, bf16 for blocks */
    bool from_gguf, has_blocks;
    bool no_weights; /* opened for a plan: values of random or trained parameters are not made */
    bool trained;    /* opened for training */
    bool bare;       /* a folder that holds no weights, opened for a plan of what they would take */
    bool apart;      /* no matrix that will be quantised, or none at all, is mapped: t.data is NULL */
    bool scores;     /* a sequence classifier of one label: its head is [1, hidden_size], its logit a reward */
    bool new_head;   /* and that head is of no file: random values, to be trained or replaced */
    int64_t pad_token; /* of one that scores: the reward is read before those that end a text; −1: none */
    const model_quant *quant; /* the row that reads this folder, or NULL, and its keys */
    void *quant_cfg;
    io_weights weights;
    bool borrows;              /* they are another model's */
    nn_param *param;
    struct model_tensor *info; /* [n_param] */
    arena *own;                /* random weights of from_config, else NULL */
    uint64_t seed;             /* of those */
    double range;
    const model_quant *make;   /* what quantises on load, else NULL */
    arena *made;               /* weights that were quantised so, else NULL */
    void *resized[2];          /* embedding and head with more rows than the file has */
    int64_t file_vocabulary;   /* rows that the file has, where the model was given another number; else 0 */
    int64_t n_param;
    nn_site *site; /* every site, layers in order; groups point into it */
    int64_t n_site;
    nn_site *embed, *position, *head; /* position NULL with rope */
    model_norm norm;                  /* the last one */
    model_use use[MODEL_MAX_USES];
    int n_use;
    model_layer *layer; /* [n_layer] */
};

/* What a model must end in. */
typedef enum model_end {
    MODEL_TOKENS,     /* a head over the vocabulary; a sequence classifier is 65 */
    MODEL_ANY,        /* as it is */
    MODEL_REWARD,     /* a sequence classifier; a language model is 65 */
    MODEL_NEW_REWARD, /* one too, with a random head where the files have none: to be trained, or for an adapter */
} model_end;

typedef struct model_options {
    const char *path;        /* folder or .gguf; NULL with from_config */
    const char *from_config; /* config.json: random weights, f32 (init.c) */
    uint64_t seed;           /* of those weights, and of a new head */
    model_end end;
    bool
        no_weights; /* for memory plans: values of random weights and of trained copies are not made */
    bool may_be_bare; /* with no_weights: a folder of a config.json alone will do (model.bare) */
    bool unread; /* for a look at what is there: names, types and shapes are compared, values are not read */
    bool trained; /* for training: keys of config.json that matter there alone (dropout) are warned of */
    const model *weights_of; /* the same model, open as long as this one: its mappings are used; or NULL */
    const model_quant *make; /* quantises the base on load, with its keys; NULL: nothing does */
    const void *make_cfg;
} model_options;
/* A folder with a config.json and nothing that looks like weights. */
FT_MUST_USE ft_status model_is_bare(const char *path, arena *mem, bool *bare);
FT_MUST_USE ft_status model_open(model **out, const model_options *opt);
void model_close(model *m);

/* Random values of parameter i that nothing will read any more, as they were copied to be trained, go back to the system.
 * Those of files are left alone: their pages can go at any time. */
void model_drop_values(model *m, int64_t i);

/* Gives embedding and head another number of rows, before anything is laid over the model: the first ones of the file, and
 * zero for those that it does not have. */
FT_MUST_USE ft_status model_resize_vocabulary(model *m, int64_t rows);

/* A site or parameter by its Hugging Face path; NULL. */
nn_site *model_site(const model *m, const char *path);
nn_param *model_param(const model *m, const char *name);
/* The file that parameter i was read from; the model's path when there is none. */
const char *model_param_file(const model *m, int64_t i);
/* The key of config.json that gives a linear site of this family a bias, and all other sites with the same key: what an
 * overlay adds to one site, a folder has of all. NULL: the family's class has no place for one. */
const char *model_bias_key(const model *m, const nn_site *s);
int64_t model_count(const model *m); /* parameters, tied ones once */
/* Bytes of the weights as they stand in memory or the mapping. */
size_t model_bytes(const model *m);
/* Values of a parameter that are read where the file is mapped may leave memory until they are read again. */
void model_forget(const model *m, int64_t i);
/* Forward arithmetic of the layers for a token that sees `context` positions: *weights of matrices it is multiplied with
 * (two operations each); the result: operations besides. */
double model_flop(const model *m, double context, double *weights);

/* Final hidden states [T, hidden_size], normalised, T the rows of the run. With r->cache they extend the cache. Fails
 * (tape status) when a position exceeds what the model can hold. */
tn_tensor *model_hidden(model *m, nn_run *r);
/* The same in steps, for who looks into layers without a backward. The stream h [T, hidden_size] in front of the first layer;
 * what the parts read in all layers, made once (NULL: the tape has failed); parts [from, to) of a layer of the
 * stream; part k of a layer, of its normed input, without the residual. */
tn_tensor *model_stream(model *m, nn_run *r);
typedef struct model_pass model_pass;
model_pass *model_pass_open(model *m, nn_run *r);
tn_tensor *model_pass_parts(const model_pass *p, int layer, int from, int to, tn_tensor *h);
tn_tensor *model_pass_part(const model_pass *p, int layer, int k, tn_tensor *x);
/* The head as a function of hidden states, with what the run's overlay does to it, for ag_logprob and its like. */
ag_head model_head(const model *m, nn_run *r);
/* Σ cross-entropy over the r->supervised rows that have a label; see ag_cross_entropy for grad_scale, ag_score for
 * logprob and best. */
tn_tensor *model_loss(model *m, nn_run *r, tn_tensor *hidden, float grad_scale, float *logprob,
                      int32_t *best);
/* logits [rows, vocab_size], of a model that scores [rows, 1], of selected rows of hidden (no tape); rows are those of the batch, virtual ones not counted.
 * few: as ag_tape.few. */
FT_MUST_USE ft_status model_logits(model *m, nn_run *r, tn_tensor *hidden,
                                   const int64_t *rows, int64_t n, float *logits, bool few);
/* Where a model that scores reads the reward of ids [n], n ≥ 1: at the last one that is not pad_token, as transformers. */
int64_t model_reward_row(const model *m, const int32_t *id, int64_t n);
/* pad_token by a tokenizer whose pad token, else EOS, it is: so a reward model is trained. */
void model_pad_with(model *m, int32_t pad, int32_t eos);
/* f32 values that all layers keep of so many positions of one sequence: a page of nn_cache. */
int64_t model_cache_floats(const model *m, int64_t positions);

/* Saving. Each tensor is read as f32 rows, folded, and rounded once to the output type.
 * fold adds an adapter's delta to w, the f32 matrix of a site in its file's orientation; NULL: nothing. It is asked for
 * sites that have a slot in the overlay; of all others the bytes are the base's where types are equal. When fold is given
 * and a tied head or embedding was changed by it (it has a slot in the overlay) or by a trained copy, the folder is written
 * untied. */
typedef struct model_fold {
    ft_status (*fold)(void *ctx, const nn_site *s, float *w, float *b);
    void *ctx;
    const char *name; /* of the adapter, for messages; NULL */
} model_fold;
/* Values that are made elsewhere, of a model that may be bare: rows [row0, row0 + n) of parameter i as f32. May be asked for
 * more than once. NULL: they are the model's. */
typedef struct model_source {
    ft_status (*rows)(void *ctx, int64_t i, int64_t row0, int64_t n, float *out);
    void *ctx;
    const char *name; /* whose fault a value is that is no number; NULL: the model's path */
} model_source;
/* A mixture of llama.cpp's: a .gguf in a type of blocks, with finer ones where rounding costs most (save_types.c). Its rows
 * give way as those of `base` do where they are no whole blocks. */
typedef struct model_mix {
    const char *name; /* "q4_k_m" */
    const char *base; /* a dt_type, of what is not said otherwise */
    const char *head; /* of the matrix of the logits, the embedding's where both are one */
    const char *embed, *some; /* of the other embedding, and of attn_v and ffn_down in some layers; NULL: base */
    int file_type;            /* general.file_type */
} model_mix;
const model_mix *model_mix_at(int i);              /* NULL past the end */
const model_mix *model_mix_by_name(const char *name); /* NULL when unknown, or NULL */
typedef struct model_save_options {
    model_source source; /* with one, neither overlay nor fold nor quant count */
    const nn_overlay *over; /* trained values in the model's place, biases that it adds (with the keys of config.json that say
                               so), sites that are folded; NULL: the model itself */
    const dt_type *
        type; /* NULL: the base's; blocks → bf16 in a folder, f16 in a .gguf. GGUF keeps 1-d tensors f32 */
    const model_mix *mix; /* with its base as the type; a .gguf only. NULL: none */
    /* matrices of the row's choice in its codes, with its keys; a folder only. The others keep the base's type. */
    const model_quant *quant;
    const void *quant_cfg;
    bool exact_vectors; /* vectors that the overlay trains or adds stay f32 in a folder too: a small change of a large bias
                           is lost in bf16 */
    model_fold fold;
    const char *tokenizer; /* folder whose tokenizer replaces the base's; NULL */
    const char *template;  /* chat template in place of the tokenizer's; NULL */
    size_t shard_bytes; /* 0: 5·10⁹ */
    /* A value that is no finite number is 80 (FT_EDIVERGED) naming tensor and element, and so is one that overflows the type.
     * as_given: the values are a file's, so NaN and Inf are the file's fault (65); allow_nonfinite: they are written. */
    bool as_given, allow_nonfinite;
} model_save_options;
/* PATH ending in .gguf: GGUF with tokenizer, template and stop ids; else a folder with config, tokenizer and
 * generation files (copied byte for byte from a folder base; made from a GGUF base). The folder may exist. */
FT_MUST_USE ft_status model_save(model *m, const char *path, const model_save_options *opt);
size_t model_save_bytes(const model *m, const model_save_options *opt); /* of memory, at the same time */
double model_saved_bytes(const model *m, const char *path,
                         const model_save_options *opt); /* of the weights in the file */
/* The change of a linear layer or a table as factors, W += scale · B A: a [r, in], b [out, r]; of a table a is [rows, r]. */
typedef struct model_low_rank {
    const nn_param *a, *b;
    float scale;
    double alpha; /* scale · r of most of the adapter's modules */
} model_low_rank;
/* A low-rank adapter as a file of llama.cpp, to be given beside the model's .gguf. */
typedef struct model_lora {
    bool (*at)(void *ctx, const nn_site *s, model_low_rank *out); /* false: nothing there */
    void *ctx;
    const char *name;    /* of the adapter */
    const dt_type *type; /* f32, f16, bf16 */
} model_lora;
typedef struct model_lora_told {
    float alpha; /* adapter.lora.alpha: each change is alpha / r · B A */
    int64_t tensors;
} model_lora_told;
/* Why llama.cpp does not add a change of this site; NULL: it does. */
const char *model_lora_refuses(const model *m, const nn_site *s);
/* 65 naming the module whose change llama.cpp does not add: the ends of a tied model, a table of positions. */
FT_MUST_USE ft_status model_save_lora(model *m, const char *path, const model_lora *l,
                                      model_lora_told *told);
/* Parameter i as a folder holds it, t: [rows, cols] in its own type, or as f32 where it is turned or an adapter is folded in
 * (over and fold of opt; NULL: none). A model that was opened unread is mapped for so long. */
typedef struct model_view {
    tn_tensor t;
    model *m;
    struct model_lent *lent;
    int64_t of[3]; /* what was lent; n_lent of them */
    int n_lent;
    float *values;
} model_view;
FT_MUST_USE ft_status model_view_open(model_view *v, model *m, int64_t i,
                                      const model_save_options *opt);
void model_view_close(model_view *v); /* accepts { 0 } */
/* The layer that parameter i belongs to; −1: none. */
int model_param_layer(const model *m, int64_t i);
/* The parameter of m that is in its layer `layer` what parameter i of `like`, a model of the same family, is in its own; of
 * a tied head the embedding. −1: it has none. */
int64_t model_param_like(const model *m, int layer, const model *like, int64_t i);
/* config.json of m with other layers, of which each is as layer[k] of m, another vocabulary, and not quantised: text into
 * out. untie: the head is a matrix of its own. */
FT_MUST_USE ft_status model_config_shape(const model *m, const int *layer, int64_t n_layer,
                                         int64_t vocabulary, bool untie, str_buf *out);
/* config.json of a folder by another dtype or untied: text into out. */
FT_MUST_USE ft_status model_config_text(const model *m, const dt_type *type, bool untie,
                                        str_buf *out);
/* Tokenizer, template and generation files of a model into a folder: copied byte for byte from a folder, made from a
 * .gguf. What the model does not have is left out. */
FT_MUST_USE ft_status model_save_side_files(const char *model_path, const char *dir);
/* The same without generation_config.json: what stands beside an adapter. Its bytes, of a folder. */
FT_MUST_USE ft_status model_save_tokenizer(const char *model_path, const char *dir);
bool model_is_tokenizer_file(const char *name); /* a file of what model_save_tokenizer may leave */
/* 65 where one of the files that would be copied is a link out of its folder (but of the hub's cache): before a result is
 * made of it. dir may be NULL or no folder. */
FT_MUST_USE ft_status model_check_links(const char *dir, bool follow);
/* The same files, and config.json, are watched until they are closed (file_inputs_check): a result with what they were is none
 * with what they are. Of a .gguf it is the file. May be called for several; start with { 0 }. */
typedef struct model_watched {
    file_watch *file[64];
    int n;
} model_watched;
FT_MUST_USE ft_status model_watch(model_watched *w, const char *path, arena *mem);
void model_watched_close(model_watched *w);
size_t model_tokenizer_bytes(const char *model_path);
/* The chat template of a folder becomes this one, in chat_template.jinja, wherever others stood. */
FT_MUST_USE ft_status model_save_template(const char *dir, const char *text);
const char *model_family_name(const model *m); /* model_type */
#endif
