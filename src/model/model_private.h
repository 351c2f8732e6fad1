/* model_private.h – what the files of src/model share: keys read, names walked, how parameters stand in files. */
#ifndef FT_MODEL_PRIVATE_H
#define FT_MODEL_PRIVATE_H

#include "part.h"

enum { MAX_LAYERS = 4096, MAX_HEADS = 4096, MAX_EXPERTS = 4096 };
#define MAX_DIM ((int64_t)1 << 22)
#define MAX_POSITIONS ((int64_t)1 << 31)

/* How a parameter stands in files; parallel to model->param. */
typedef struct model_tensor {
    const model_part *part; /* it is slot `slot` of this part (NULL: of the frame) in one layer */
    const void *cfg;
    int slot;
    int layer; /* −1 outside layers */
    bool bias;
    const char *gguf_name;
    bool hf_in_out;        /* a Hugging Face folder stores it [I, O] */
    int permute, head_dim; /* heads whose rows GGUF reorders; 0: none */
    unsigned flags;        /* SLOT_RESIDUAL, SLOT_F32 */
    int expert,
        experts; /* one of so many that stand as one tensor [experts, …] in a GGUF; 0: a tensor of its own */
    nn_site *site; /* the linear site it belongs to, or NULL */
} model_tensor;

/* --- keys and dimensions (family.c, config.c) ---------------------------------------------------------------------- */
/* What no part decides, in model_dims: vocab, hidden, layers, positions, eps, tied, pad_row. */
extern const model_key model_frame_keys[];
/* A key with the family's name and default; one of a table by its name, NULL. */
model_key family_key(const model_family *f, const model_key *key);
const model_key *family_find_key(const model_key *keys, const char *name);
/* A pattern of a name with its numbers: "%d" the layer, "%e" the expert. */
void family_expand(str_buf *out, const char *pattern, int layer, int expert);
/* classifier.c: does the config, opened for `end`, say a sequence classifier? Then m->scores and m->pad_token; 65 where it is
 * not what was asked for, or has another number of labels than one. */
FT_MUST_USE ft_status model_read_end(model *m, const js_doc *d, model_end end);
extern const model_name model_score_name; /* of its head, in any family */
/* The members of config.json that make it a classifier of one label, where `root` says otherwise. */
void model_put_labels(const model *m, const cJSON *root, str_buf *out);
/* keys.c: refuses keys of a config.json that would change numbers and are not computed; tells what it does not know. What
 * frame and parts read by their tables is known. */
FT_MUST_USE ft_status model_check_keys(const model *m, const js_doc *d);
/* Fills m->d, m->family, the parts in use and what layers are made of from config.json text (name: for messages). */
FT_MUST_USE ft_status model_read_config(model *m, const char *text, const char *name,
                                        model_end end);
/* config.json's quantization_config → m->quant and m->quant_cfg. */
FT_MUST_USE ft_status model_quant_read(model *m, const js_doc *d);
/* The tensor of a parameter's name + suffix (".absmax") in the model's files; NULL. */
const io_tensor *model_find_tensor(const model *m, int64_t i, const char *suffix);
/* The tensor of its module's name + suffix (".qweight"); NULL. The module's name is so many bytes of the parameter's. */
const io_tensor *model_find_beside(const model *m, int64_t i, const char *suffix);
int model_module_length(const model *m, int64_t i);

/* --- a GGUF's metadata as a config.json (gguf_config.c) -------------------------------------------------------------- */
typedef struct gguf_source {
    const gguf_file *g; /* the metadata */
    const io_weights *w;
    const model_family *family;
    const char *arch;
    const model_part *part[MODEL_MAX_USES]; /* of its layers, each once */
    int n_part;
    arena *mem;
    char key[128];
    bool failed; /* a member of the config could not be added: out of memory */
} gguf_source;
FT_MUST_USE ft_status model_gguf_config(const io_weights *w, str_buf *out);
const char *model_gguf_key(gguf_source *s, const char *name); /* "ARCH.name", until the next call */
cJSON *model_gguf_added(gguf_source *s,
                        cJSON *item); /* watches that a member was made; returns it */
/* Member `to` of the config from `from` of the metadata; int: def < 0: it must be there. */
FT_MUST_USE ft_status model_gguf_int(gguf_source *s, cJSON *o, const char *from, const char *to,
                                     int64_t def);
FT_MUST_USE ft_status model_gguf_num(gguf_source *s, cJSON *o, const char *from, const char *to,
                                     double def);

/* --- parameters and sites (registry.c) --------------------------------------------------------------------------------- */
/* Walks the family's names: m->param, m->info, m->site, and the places of the parts that hold them. */
FT_MUST_USE ft_status model_build(model *m);

/* --- rotary position embedding (rope.c, rope_gguf.c) --------------------------------------------------------------------- */
enum { MAX_ROPE_HALF = 512 };
typedef struct model_rope {
    int half, head_dim;
    float *inv;   /* [half] inverse frequencies, scaling applied */
    float mscale; /* attention scaling of yarn and longrope: multiplies cos and sin */
    float theta, dynamic_factor; /* dynamic NTK: factor, 0 = off */
    float *cos, *sin;            /* [rows, half], grown on demand */
    int64_t rows;
} model_rope;
typedef struct rope_view { /* of one pass: row pos[t] of the tables for token t */
    const float *cos, *sin;
    const int32_t *pos;
} rope_view;
/* Frequencies from the parsed config ("rope_parameters", "rope_scaling", "rope_theta" …). */
FT_MUST_USE ft_status rope_read(model *m, model_rope *p, int head_dim, const js_doc *d);
/* Divisors of llama3 scaling as GGUF's rope_freqs holds them: out [half]. */
void rope_llama3_divisors(float *out, int half, int head_dim, double theta, double factor,
                          double low, double high, double original);
/* Divisors of longrope scaling (the object o of config.json), the same for all lengths or 65: out [half]. */
FT_MUST_USE ft_status rope_longrope_divisors(const js_doc *d, const cJSON *o, int half, float *out);
/* Tables for the positions of a pass; a dynamic-NTK model's are the pass's own. */
FT_MUST_USE ft_status rope_open(model *m, model_rope *p, nn_run *r, rope_view *v);
FT_MUST_USE ft_status rope_from_gguf(gguf_source *s, cJSON *config, int64_t head_dim);
FT_MUST_USE ft_status rope_to_gguf(struct save_meta *k, const model_rope *p, const js_doc *config);

/* --- random weights (init.c) ---------------------------------------------------------------------------------------------- */
/* range: of config.json where it has none. No values are there yet. */
FT_MUST_USE ft_status model_init_open(model *m, uint64_t seed, double range);
/* The head of a classifier that no file has, as a random model's, in the model's dtype when it is saved. */
FT_MUST_USE ft_status model_init_head(model *m, uint64_t seed);
/* Those of parameter i into model->own, unless they are there, or the model is not random. */
FT_MUST_USE ft_status model_init_values(model *m, int64_t i);

/* --- values of files (tensors.c) ------------------------------------------------------------------------------------------ */
/* What of a file's tensor parameter i is: one expert's part of [experts, …], else all of it. false: it is of another shape. */
bool model_part_of(const model *m, int64_t i, const io_tensor *t, io_tensor *part);
bool model_misaligned(const io_tensor *t,
                      const void *data); /* values that may not be read as they lie */
/* The number of matrix i of the files: of a tied head the embedding's. */
int64_t model_file_param(const model *m, int64_t i);
/* Those of matrix i of a model that has them apart, in m->param[i].t.data until they are given back. */
typedef struct model_lent {
    io_tensor t;
    const void *mapped;
    void *copy; /* where they may not be read as they lie */
} model_lent;
FT_MUST_USE ft_status model_lend(model *m, int64_t i, model_lent *l);
void model_lend_end(model *m, int64_t i, model_lent *l);

/* The parameters that the row means, one after another, in its codes: into m->made (quant.c). */
FT_MUST_USE ft_status model_quantise(model *m, const model_quant *q, const void *cfg);
/* The files have blocks already for what the row means: they are kept, all of them. Before anything is bound. */
bool model_has_blocks(const model *m, const model_quant *q);
#endif
