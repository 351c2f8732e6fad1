/* lora_private.h – LoRA as the methods built on it see it (lora.c): its options, what stands at a site, its functions. */
#ifndef FT_LORA_PRIVATE_H
#define FT_LORA_PRIVATE_H

#include "ft/method.h"

#include <string.h>

/* The first member of the struct of a method that has PE_LORA_FIELDS. */
typedef struct lora_cfg {
    int64_t r;
    double lora_alpha, lora_dropout;
    pe_target target;
    const cJSON *rank_pattern, *alpha_pattern, *init_lora_weights;
    bool use_rslora, use_dora;
    bool frozen_a; /* no key: A is a state, set before pe_lora_attach */
} lora_cfg;

typedef struct lora_slot {
    nn_param *a, *b; /* [r, in], [out, r]; of an embedding a is kept transposed, [vocab, r] */
    float scale, dropout;
    uint64_t key;
    nn_param *m;            /* DoRA's lengths; NULL: none */
    struct lora_dora *dora; /* dora.c's */
    nn_param *a0, *b0;      /* residual.c's: taken out of the base; NULL: nothing is */
    nn_param *joined_a, *joined_b;
} lora_slot;

/* Of tokens or of positions. */
static inline bool pe_lora_is_table(const nn_site *s)
{
    return s->role == NN_EMBED || s->role == NN_POSITION;
}

/* With use_dora (dora.c): of a site, then of all; the lengths that A and B give. */
FT_MUST_USE ft_status pe_dora_attach_site(pe_ctx *c, const nn_site *s, lora_slot *slot);
FT_MUST_USE ft_status pe_dora_attach(pe_ctx *c);
/* w, W + s·BA, gets its lengths; and back: dw becomes the gradients of W + s·BA, those of m are added. */
FT_MUST_USE ft_status pe_dora_fold(const nn_site *s, const lora_slot *slot, float *w);
void pe_dora_unfold(const nn_site *s, const lora_slot *slot, const float *w, float *dw);
FT_MUST_USE ft_status pe_lora_load(pe_ctx *c);
FT_MUST_USE ft_status pe_lora_before_step(pe_ctx *c, int64_t step); /* of rows with PE_DORA_FIELD */

/* Inits that take −s·B₀A₀ out of the base (residual.c). */
typedef enum pe_residual_word {
    PE_NO_RESIDUAL,
    PE_PISSA,
    PE_PISSA_FAST, /* by so many iterations */
    PE_OLORA
} pe_residual_word;
pe_residual_word pe_residual_of(const cJSON *init_lora_weights, int64_t *iterations);
FT_MUST_USE ft_status pe_residual_attach(pe_ctx *c);
void pe_residual_load(pe_ctx *c);        /* one that is opened becomes a plain LoRA */
bool pe_residual_parts(const pe_ctx *c); /* Has it some? Then it is saved by: */
FT_MUST_USE ft_status pe_residual_save(const pe_ctx *c, const char *dir);
/* Of a module's path: what a projection is called. */
static inline const char *pe_lora_last_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

void pe_lora_check(cfg_doc *d, const cJSON *object, void *cfg);
FT_MUST_USE ft_status pe_lora_attach(pe_ctx *c);
void pe_lora_weight(nn_run *r, const nn_site *s, ag_weight *w);
tn_tensor *pe_lora_embed(nn_run *r, const nn_site *s, tn_tensor *h);
/* w += scale · B A, in the orientation of the site's file: what a fold of such a pair adds. */
FT_MUST_USE ft_status pe_lora_fold_pair(const nn_site *s, float *w, const tn_tensor *a,
                                        const tn_tensor *b, float scale);
FT_MUST_USE ft_status pe_lora_fold(const pe_ctx *c, const nn_site *s, float *w, float *b);
FT_MUST_USE ft_status pe_lora_unfold(pe_ctx *c, const nn_site *s, const float *w, float *dw);
bool pe_lora_low_rank(const pe_ctx *c, const nn_site *s, model_low_rank *out);
FT_MUST_USE ft_status pe_lora_add(pe_ctx *sum, const pe_ctx *part, double scale);
FT_MUST_USE ft_status pe_lora_save(const pe_ctx *c, const char *dir);
FT_MUST_USE ft_status pe_lora_write(const pe_ctx *c, const char *dir); /* the entries as they are */
FT_MUST_USE ft_status pe_lora_load_config(pe_ctx *c, const js_doc *adapter_config);

/* What the rows of these methods have in common; `attach` is each one's own. */
#define PE_LORA_ROW PE_LORA_COMMON, .check = pe_lora_check
#define PE_LORA_COMMON                                                                             \
    .peft_type = "LORA", .result = PE_ADAPTER, .files = pe_adapter_files, .learning_rate = 2e-4,   \
    .hooks = {.weight = pe_lora_weight, .embed = pe_lora_embed}, .save = pe_lora_save,             \
    .load_config = pe_lora_load_config, .load = pe_lora_load, .fold = pe_lora_fold,                \
    .unfold = pe_lora_unfold, .low_rank = pe_lora_low_rank, .add = pe_lora_add

#define PE_LORA_AT(field) offsetof(lora_cfg, field)
#define PE_DORA_FIELD(default)                                                                     \
    {                                                                                              \
        .key = "use_dora", .type = CFG_BOOL, .offset = PE_LORA_AT(use_dora), .def = default,       \
        .help = "train the length of each row of a weight apart from its direction (DoRA)"         \
    }
#define PE_LORA_FIELDS                                                                             \
    {.key = "r",                                                                                   \
     .type = CFG_INT,                                                                              \
     .offset = PE_LORA_AT(r),                                                                      \
     .def = "8",                                                                                   \
     .low = 1,                                                                                     \
     .high = 65536,                                                                                \
     .help = "rank"},                                                                              \
        {.key = "lora_alpha",                                                                      \
         .type = CFG_FLOAT,                                                                        \
         .offset = PE_LORA_AT(lora_alpha),                                                         \
         .def = "16",                                                                              \
         .low = 0,                                                                                 \
         .high = 1e9,                                                                              \
         .help = "scale of the update: lora_alpha / r"},                                           \
        {.key = "lora_dropout",                                                                    \
         .type = CFG_FLOAT,                                                                        \
         .offset = PE_LORA_AT(lora_dropout),                                                       \
         .def = "0",                                                                               \
         .low = 0,                                                                                 \
         .high = 0.999,                                                                            \
         .help = "dropout on the input of A"},                                                     \
        PE_TARGET_FIELDS(lora_cfg, target),                                                        \
        {.key = "rank_pattern",                                                                    \
         .type = CFG_JSON,                                                                         \
         .offset = PE_LORA_AT(rank_pattern),                                                       \
         .help = "object: suffix or regex -> rank"},                                               \
        {.key = "alpha_pattern",                                                                   \
         .type = CFG_JSON,                                                                         \
         .offset = PE_LORA_AT(alpha_pattern),                                                      \
         .help = "object: suffix or regex -> alpha"},                                              \
        {.key = "use_rslora",                                                                      \
         .type = CFG_BOOL,                                                                         \
         .offset = PE_LORA_AT(use_rslora),                                                         \
         .def = "false",                                                                           \
         .help = "scale by lora_alpha / sqrt(r)"},                                                 \
    {                                                                                              \
        .key = "init_lora_weights", .type = CFG_JSON, .offset = PE_LORA_AT(init_lora_weights),     \
        .def = "true",                                                                             \
        .help = "true (Kaiming uniform A, B = 0), \"gaussian\" (normal A, B = 0), false (both "    \
                "random, for tests); of lora and loraplus also \"pissa\", \"pissa_niter_N\" or "   \
                "\"olora\" (the first part of the weight itself)"                                  \
    }
#endif
