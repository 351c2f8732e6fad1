/* pruner.h – what the pruners share: their keys, which weights go, the inputs of a block. */
#ifndef FT_PRUNER_H
#define FT_PRUNER_H

#include "compress_private.h"

typedef struct prune_cfg {
    double sparsity, damp_percent;
    const char *pattern, *scope;
    int64_t block_size;
} prune_cfg;
#define PRUNE_AT(field) offsetof(prune_cfg, field)
/* Rows of a pruner's fields. */
#define PRUNE_FIELDS                                                                               \
    {.key = "sparsity",                                                                            \
     .type = CFG_FLOAT,                                                                            \
     .offset = PRUNE_AT(sparsity),                                                                 \
     .def = "0.5",                                                                                 \
     .low = 0,                                                                                     \
     .high = 1,                                                                                    \
     .low_open = true,                                                                             \
     .help = "share of the weights that become 0"},                                                \
    {                                                                                              \
        .key = "pattern", .type = CFG_STR, .offset = PRUNE_AT(pattern), .def = "\"unstructured\"", \
        .help = "or \"N:M\": N of M consecutive inputs of a row are kept, in place of sparsity"    \
    }

/* N:M of a pattern; m 0: unstructured. False: neither. */
typedef struct prune_nm {
    int64_t n, m;
} prune_nm;
bool cmp_prune_pattern(const char *pattern, prune_nm *out);
void cmp_prune_check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg);
FT_MUST_USE ft_status cmp_prune_fits(const void *cfg, const model *m, const nn_site *s);

/* The least of weights by |w|: what is below `value`, and the first `ties` of those that equal it. */
typedef struct prune_cut {
    float value;
    int64_t ties;
} prune_cut;
/* Of all values that `each` hands out, twice in the same way, the k least. */
typedef struct prune_count prune_count;
void cmp_prune_count(prune_count *c, const float *w, int64_t n);
typedef ft_status (*cmp_prune_each)(void *ctx, prune_count *c);
FT_MUST_USE ft_status cmp_prune_find(cmp_prune_each each, void *ctx, int64_t k, prune_cut *out);
/* Zeroes what a cut names; *ties: those that are left, taken off. */
void cmp_prune_cut(float *w, int64_t n, float value, int64_t *ties);

/* Zeroes in each row of w [out, in] the least by |w| · norm (norm NULL: 1), equal ones from the lower index: k of a row, or of
 * each run of nm.m all but nm.n. */
FT_MUST_USE ft_status cmp_prune_rows(float *w, const float *norm, int64_t out, int64_t in,
                                     int64_t k, prune_nm nm);
/* The k least of n scores, equal ones from the lower index: drop[i] becomes true. least [n] is scratch. */
void cmp_prune_least(bool *drop, const float *score, float *least, int64_t n, int64_t k);

size_t cmp_prune_room(const cmp_block *b, const void *cfg);
/* What is known of a group of linears: the ctx of what is called for each chosen one. */
typedef struct prune_group {
    const prune_cfg *cfg;
    const float *h;       /* H */
    const double *square; /* [in] Σ x² of each input */
    const float *u;       /* the factor of H⁻¹ (cmp_hessian_factor), with `factors`; else NULL */
} prune_group;
FT_MUST_USE ft_status cmp_prune_block(cmp_block *b, const prune_cfg *cfg, bool factors,
                                      cmp_change prune);
#endif
