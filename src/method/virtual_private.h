/* virtual_private.h – what prompt tuning, P-tuning and prefix tuning share: tokens that are none, before every sequence. What
 * stands for them is one table, trained itself or made by an encoder that is trained. */
#ifndef FT_VIRTUAL_PRIVATE_H
#define FT_VIRTUAL_PRIVATE_H

#include "method_private.h"

enum { PE_MAX_VIRTUAL = 65536 };

/* A row of `fields`; default_tokens: as JSON, or NULL. */
#define PE_VIRTUAL_FIELD(cfg, default_tokens)                                                      \
    {                                                                                              \
        .key = "num_virtual_tokens", .type = CFG_INT, .offset = offsetof(cfg, num_virtual_tokens), \
        .def = default_tokens, .low = 1, .high = PE_MAX_VIRTUAL,                                   \
        .help = "virtual tokens before every sequence"                                             \
    }
/* Rows of a method's keys of adapter_config.json. */
#define PE_VIRTUAL_KEYS                                                                            \
    {"num_virtual_tokens", NULL}, {"token_dim", NULL}, {"num_transformer_submodules", NULL},       \
        {"num_attention_heads", NULL}, {"num_layers", NULL},                                       \
    {                                                                                              \
        "modules_to_save",                                                                         \
            "has modules of the base beside its virtual tokens, which ft leaves as they are"       \
    }

/* A layer of an encoder, and what follows it. Those of an LSTM come first. */
typedef struct pe_stage {
    const char *name; /* in front of ".weight", ".weight_ih_l0" … */
    int64_t out;      /* of an LSTM: of each way */
    const char *act;  /* NULL: none */
    bool lstm;
} pe_stage;

/* Table = stages(embedding [tokens, dim]). */
typedef struct pe_encoder_plan {
    int64_t dim;
    const pe_stage *stage;
    int n;
    float dropout; /* of what comes into an LSTM behind another */
    bool zero;     /* the last layer starts at 0 */
} pe_encoder_plan;

typedef struct pe_encoder pe_encoder;
typedef struct pe_virtual { /* a method's pe_ctx.priv */
    bool prefix;            /* keys and values of each layer; else embeddings */
    int64_t parts, dim;     /* of a row of the table; of a token as PEFT counts (token_dim) */
    nn_param *table;        /* [tokens, parts · cols] as the file has it */
    nn_param
        *drawn; /* as a pass that records sees it: the same, but where an encoder has dropout */
    tn_tensor table_rows, drawn_rows; /* both as passes take them, [tokens · parts, cols] */
    pe_encoder *encoder;              /* NULL: the table is trained itself, or of an adapter */
} pe_virtual;

/* For a `check`: their number is given, unless the adapter of init_from has it. */
void pe_virtual_check(cfg_doc *d, const cJSON *object, int64_t tokens);
/* Width of a virtual token: hidden size, or of the keys of a layer. */
int64_t pe_virtual_dim(const model *m, bool prefix);
/* plan: of the encoder where one is trained; NULL: none. The table's first values are the caller's where it has none. */
FT_MUST_USE ft_status pe_virtual_attach(pe_ctx *c, int64_t tokens, bool prefix,
                                        const pe_encoder_plan *plan);
/* y[virtual row, col …] = that part of its token's row, in place. */
tn_tensor *pe_virtual_put(nn_run *r, tn_tensor *y, int64_t part, int64_t col);
tn_tensor *pe_virtual_embed(nn_run *r, const nn_site *s, tn_tensor *h); /* a hook */

/* Phases of methods with an encoder: it runs once a step, and so does its backward, however the step is cut. */
FT_MUST_USE ft_status pe_virtual_before_step(pe_ctx *c, int64_t step);
double pe_virtual_gradients(pe_ctx *c);
FT_MUST_USE ft_status pe_virtual_after_update(pe_ctx *c, const pe_update *u);

/* Files: own as in pe_save_files. */
FT_MUST_USE ft_status pe_virtual_save(const pe_ctx *c, cJSON *own, const char *dir);
FT_MUST_USE ft_status pe_virtual_load_config(const pe_ctx *c, const js_doc *d, const pe_key *keys,
                                             bool prefix, int64_t *tokens);
FT_MUST_USE ft_status pe_virtual_load(pe_ctx *c);
extern const char *const pe_encoder_files[]; /* `files` of methods with an encoder */

/* Of virtual_encoder.c, for virtual.c. */
FT_MUST_USE ft_status pe_encoder_attach(pe_ctx *c, const pe_encoder_plan *plan, int64_t tokens,
                                        pe_encoder **out);
FT_MUST_USE ft_status pe_encoder_run(pe_ctx *c, pe_encoder *e, nn_param *into, bool record,
                                     int64_t step);
void pe_encoder_back(pe_ctx *c, const pe_encoder *e, const nn_param *from);
FT_MUST_USE ft_status pe_encoder_save(const pe_encoder *e, const char *dir);
FT_MUST_USE ft_status pe_encoder_load(const pe_ctx *c, const pe_encoder *e);
#endif
