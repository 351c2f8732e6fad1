/* merge_private.h – what the files of this module share: settings, tiles over the inputs of a tensor, vocabularies. */
#ifndef FT_MERGE_PRIVATE_H
#define FT_MERGE_PRIVATE_H

#include "ft/merge.h"

#define X(name) extern const merge_method merge_##name;
#include "merges.def"
#undef X

/* --- setting.c: scalars, gradients, conditionals -------------------------------------------------------------- */
/* Mistakes of a map of parameters are recorded; owner: of a model (MERGE_EACH), or of a slice or recipe (MERGE_SHARED). */
void merge_check_parameters(merge_recipe *r, const cJSON *map, const char *path, merge_scope owner);
/* The value of a parameter at t for a tensor, from the first of n maps (NULL: none) that has one; false: none has. */
bool merge_look_up(const cJSON *const *map, int n, const merge_param *p, const char *tensor,
                   double t, double *out);

/* --- tokens.c: what a recipe says of tokens ------------------------------------------------------------------------ */
FT_MUST_USE ft_status merge_read_tokens(merge_recipe *r);
void merge_print_tokens(const merge_recipe *r, cJSON *root);
/* A key that is none of `keys` (NULL-terminated) is a mistake. */
void merge_check_keys(merge_recipe *r, const cJSON *o, const char *path, const char *const *keys);

/* --- vocab.c: rows of embedding and head by tokens -------------------------------------------------------------- */
/* Where the row of a token comes from in a model that has none of its own: a row of a model; or nowhere, zero; or it is the
 * mean over all models that have the token. */
enum { MERGE_ROW_ZERO = -1, MERGE_ROW_MEAN = -2, MERGE_ROW_OPEN = -3 };
typedef struct merge_row {
    int32_t ref, row;
} merge_row;
typedef struct merge_vocab {
    int64_t rows, tokens; /* rows beyond the tokens are the mean of the others */
    int32_t **own;        /* [n_ref][tokens] the model's row of each token; −1: it has none */
    merge_row *given;     /* [tokens] as the recipe says; ref MERGE_ROW_OPEN: it does not */
    bool *force;          /* [tokens] also in models that have a row */
} merge_vocab;
/* Writes the tokenizer of the result into dir, beside a config. *out NULL: the recipe asks for none, and the models have
 * vocabularies of one size. */
FT_MUST_USE ft_status merge_vocab_open(merge_vocab **out, merge_recipe *r, int donor,
                                       const char *dir);
/* Ids of special tokens: those of the model that gives the tokenizer. One that has no token there is left out. */
FT_MUST_USE ft_status merge_vocab_config(const merge_vocab *v, const merge_recipe *r, int donor,
                                         str_buf *config);
/* given, and for all other tokens what the inputs of a tensor have: into fill [tokens]. */
FT_MUST_USE ft_status merge_vocab_fill(const merge_vocab *v, const merge_tensor *t,
                                       merge_row *fill);

/* --- scan.c: tiles over the inputs -------------------------------------------------------------------------------- */
struct merge_input {
    int ref;
    const char *label;          /* the model, for messages */
    int64_t param;              /* in its model */
    double value[MERGE_VALUES]; /* of parameters that each model has, by the method's rows */
    model *m;
    const model_save_options *how;
    model_view view;
    float *mean; /* [cols] of rows beyond the tokens; NULL: none */
};
/* Tiles of whole rows, of so many at most. */
int64_t merge_tile_rows(const merge_tensor *t);
int64_t merge_tiles(const merge_tensor *t);
/* Calls fn for each tile, in any order and on several threads, with the inputs whose bit is set in `reads`. Each tile adds to
 * n sums of its own, which are added up in the order of the tiles into sum [n]. Values that are no finite numbers are 65. */
typedef void (*merge_visit)(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum);
FT_MUST_USE ft_status merge_scan(const merge_tensor *t, uint64_t reads, merge_visit fn, void *ctx,
                                 double *sum, int64_t n);
/* Rows [row0, row0 + n) of the result; *square: grows by the sum of their squares. */
FT_MUST_USE ft_status merge_mix(const merge_tensor *t, int64_t row0, int64_t n, float *out,
                                double *square);
/* The one input of a tensor that is the base, or all: bits for merge_scan. */
static inline uint64_t merge_all(const merge_tensor *t)
{
    return t->n >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << t->n) - 1;
}
/* The values of the inputs are mapped, and what the method knows of the tensor is found; and given back. */
FT_MUST_USE ft_status merge_tensor_open(merge_tensor *t);
void merge_tensor_close(merge_tensor *t);

/* --- pick.c: the largest of a tensor ----------------------------------------------------------------------------- */
/* The k values of the largest magnitude of input i − base, equal ones by their place. */
typedef struct merge_top {
    uint32_t bits; /* of the smallest of them */
    int64_t end;   /* those equal to it count before this place */
} merge_top;
FT_MUST_USE ft_status merge_pick(const merge_tensor *t, int i, int64_t k, merge_top *out);
bool merge_is_top(const merge_top *p, float x, int64_t place);

/* --- sparsify.c: what a task vector keeps --------------------------------------------------------------------------- */
typedef struct merge_sparse merge_sparse;
typedef struct merge_cut {   /* of the vector of one model */
    const merge_sparse *how; /* NULL: all is kept */
    double density, gamma, epsilon;
    uint64_t key;
    merge_top top, outlier;
    bool none;   /* nothing is kept */
    float scale; /* of what is kept */
} merge_cut;
/* x − base of a tile with what is not kept set to 0; places: of its first value. */
struct merge_sparse {
    ft_status (*look)(const merge_tensor *t, int i, merge_cut *cut); /* NULL: not needed */
    void (*cut)(const merge_cut *cut, const merge_rows *r, float *delta);
};
extern const merge_sparse merge_magnitude, merge_random, merge_outliers, merge_magprune;
#endif
