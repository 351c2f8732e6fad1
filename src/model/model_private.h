/* model_private.h – family rows and how parameters stand in files: shared by the files of src/model. */
#ifndef FT_MODEL_PRIVATE_H
#define FT_MODEL_PRIVATE_H

#include "ft/model.h"

/* What a tensor is, independent of its names. */
typedef enum model_kind {
    T_EMBED,
    T_POSITION,
    T_NORM1,
    T_Q,
    T_K,
    T_V,
    T_QKV,
    T_O,
    T_Q_NORM,
    T_K_NORM,
    T_NORM2,
    T_GATE,
    T_UP,
    T_DOWN,
    T_FINAL_NORM,
    T_HEAD
} model_kind;

/* One row per module of a family, in state-dict order; "%d" is the layer. ".weight" and ".bias" are appended. */
typedef struct model_name {
    model_kind kind;
    const char *hf, *gguf;
} model_name;

enum {
    FAM_LAYER_NORM = 1,  /* LayerNorm with bias; else RMSNorm */
    FAM_LEARNED_POS = 2, /* position table; else RoPE */
    FAM_CONV1D = 4,      /* Hugging Face stores linear weights [I, O] */
    FAM_FUSED_QKV = 8,   /* one matrix for q | k | v */
    FAM_GATED = 16,      /* gate and up; else one MLP input matrix with an activation */
    FAM_QK_NORM = 32,
    FAM_QKV_BIAS = 64,   /* q, k, v always have biases */
    FAM_ALL_BIAS = 128,  /* every linear has one */
    FAM_BIAS_KEYS = 256, /* attention_bias (and mlp_bias) in config.json decide */
    FAM_NO_BIAS = 512,
    FAM_GGUF_PERMUTED = 1024 /* GGUF reorders the rows of q and k per head */
};

enum { MAX_ROPE_HALF = 512 };

/* How windows are read from config.json. */
typedef enum model_window { WINDOW_NONE, WINDOW_ALL, WINDOW_FROM_LAYER } model_window;

struct model_family {
    const char *model_type, *hf_arch, *gguf_arch;
    const char *prefix; /* optional part of names on disk */
    unsigned traits;
    const model_name *names; /* ends with hf NULL */
    /* config.json keys and class defaults (models.md 3.3) */
    const char *k_hidden, *k_layers, *k_heads, *k_inter, *k_max_pos, *k_eps, *k_act;
    int64_t vocab, hidden, layers, heads, kv_heads, head_dim, inter,
        max_pos; /* defaults; 0: derived */
    double eps;
    const char *act;
    bool tied;
    model_window window;
    int64_t window_size; /* default of sliding_window */
};
const model_family *family_by_type(const char *model_type);
const model_family *family_by_gguf(const char *arch);
void family_list(str_buf *out); /* names, for messages */

/* How a parameter stands in files; parallel to model->param. */
typedef struct model_tensor {
    model_kind kind;
    int layer; /* −1 outside layers */
    bool bias;
    const char *gguf_name;
    bool hf_in_out; /* a Hugging Face folder stores it [I, O] */
    int permute;    /* heads whose rows GGUF reorders; 0: none */
    nn_site *site;  /* the linear site it belongs to, or NULL */
} model_tensor;

/* Fills m->d and m->family from config.json text (name: for messages). */
FT_MUST_USE ft_status model_read_config(model *m, const char *text, const char *name);
/* config.json's quantization_config → m->quant and m->quant_cfg. */
FT_MUST_USE ft_status model_quant_read(model *m, const js_doc *d);
/* The tensor of a parameter's name + suffix (".absmax") in the model's files; NULL. */
const io_tensor *model_find_tensor(const model *m, int64_t i, const char *suffix);
/* config.json of a GGUF's metadata. */
FT_MUST_USE ft_status model_gguf_config(const gguf_file *g, str_buf *out);
/* rope frequencies from the parsed config ("rope_parameters", "rope_scaling", "rope_theta" …). */
FT_MUST_USE ft_status rope_read(model *m, const js_doc *d, const cJSON *config);
/* Divisors of llama3 scaling as GGUF's rope_freqs holds them: out [half]. */
void rope_llama3_divisors(float *out, int half, int head_dim, double theta, double factor,
                          double low, double high, double original);
/* Tables for positions < rows. */
FT_MUST_USE ft_status rope_tables(model *m, int64_t rows);
/* Tables of a dynamic-NTK model for one pass: rows follow the run's tokens; pos becomes the identity. */
FT_MUST_USE ft_status rope_dynamic(model *m, nn_run *r, const float **cos, const float **sin,
                                   const int32_t **pos);

/* Random weights of models.md 6 into model->own. */
FT_MUST_USE ft_status model_init_random(model *m, uint64_t seed, double range);
#endif
