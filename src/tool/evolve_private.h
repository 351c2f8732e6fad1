/* evolve_private.h – the search for a recipe: what a genome holds and the recipe that numbers make of it, and CMA-ES. */
#ifndef FT_EVOLVE_PRIVATE_H
#define FT_EVOLVE_PRIVATE_H

#include "eval_private.h"

#include "ft/merge.h"

/* --- evolve_cma.c ------------------------------------------------------------------------------------------------- */
typedef struct cma {
    int d, lambda, mu;
    double *w; /* [mu], add up to 1 */
    double mueff, cc, cs, c1, cmu, damps, chi;
    double *mean, sigma, *pc, *ps, *C, *B, *D; /* C [d, d] = B diag(D²) Bᵀ */
    int64_t generation;                        /* that comes next, from 1 */
    uint64_t seed;
    arena *mem;
} cma;
/* lambda 0: 4 + ⌊3 ln d⌋ */
FT_MUST_USE ft_status evolve_cma_open(cma *c, int d, const double *start, double sigma, int lambda,
                                      uint64_t seed, arena *mem);
/* Candidate k of the generation that comes next: x [d]. */
void evolve_cma_sample(const cma *c, int k, double *x);
/* All of it was evaluated: x [lambda, d], cost [lambda], the least is the best. */
FT_MUST_USE ft_status evolve_cma_tell(cma *c, const double *x, const double *cost);

/* --- evolve_genome.c ---------------------------------------------------------------------------------------------- */
typedef struct genome {
    const char *method;
    const cJSON *models, *base_model, *tokenizer_source, *filters;
    int64_t granularity;
    const cJSON *normalize; /* true, false; NULL or null: as the method has it */
    bool negative, smooth;
    merge_recipe *refs; /* of the models that it names */
    int model[MERGE_MODELS], n, base;
    int tokens; /* the model of tokenizer_source; −1: none, or a word */
    int64_t n_layer, groups;
    int sets, values; /* filters and what is left; parameters of the method */
} genome;
extern const cfg_field evolve_genome_fields[];
FT_MUST_USE ft_status evolve_genome_read(genome *g, cfg_doc *d, const cJSON *node, arena *mem);
FT_MUST_USE ft_status evolve_genome_layers(genome *g); /* looks into the first model */
int evolve_genome_size(const genome *g);
/* The start: the first parameter 1/n, densities 1; or uniform numbers. */
void evolve_genome_start(const genome *g, bool random, uint64_t seed, double *x);
/* An ordinary recipe. dtype may be NULL. */
FT_MUST_USE ft_status evolve_genome_recipe(const genome *g, const double *x, const char *dtype,
                                           int64_t seed, str_buf *out);

/* --- evolve_data.c ------------------------------------------------------------------------------------------------ */
/* The files of a task's data, which is read again for each candidate. */
FT_MUST_USE ft_status evolve_data_exists(const eval_task *task);
/* A line of JSON, the same as long as scores may be compared: the recipe but for max_fevals, and what is in its models and its
 * data. */
FT_MUST_USE ft_status evolve_identity(const merge_recipe *refs, const eval_config *e,
                                      const char *precision, str_buf *out);
FT_MUST_USE ft_status tool_evolve(const tool_recipe_options *opt, const tool_sink *out);
#endif
