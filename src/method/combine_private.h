/* combine_private.h – how the values of several adapters become one: the table of kinds, and their arithmetic
 * (combine_rule.c), which knows neither adapters nor files. */
#ifndef FT_COMBINE_PRIVATE_H
#define FT_COMBINE_PRIVATE_H

#include "ft/base.h"

/* What is combined. */
typedef enum combine_form {
    COMBINE_STACK,   /* factors stand beside each other: exact, of the sum of the ranks */
    COMBINE_FACTORS, /* A's with A's, B's with B's: of one rank */
    COMBINE_PRODUCTS /* B A of each; what comes of it is decomposed */
} combine_form;

/* What is left of each before. */
typedef enum combine_prune { COMBINE_ALL, COMBINE_LARGEST, COMBINE_RANDOM } combine_prune;

typedef struct combine_kind {
    const char *name;
    combine_form form;
    combine_prune prune;
    bool elect; /* a value counts where it has the sign of most (TIES) */
} combine_kind;
const combine_kind *pe_combine_kind(const char *name);

/* x [n]: keeps the floor(density · n) of largest |x|, of equal ones the first, and zeroes the others. */
void pe_keep_largest(float *x, int64_t n, double density);
/* Keeps a value with probability `density`, divided by it, and zeroes the others: the same ones for the same key. */
void pe_keep_some(float *x, int64_t n, double density, uint64_t key);
/* out = Σ weight[i] · task[i]. elect: over those whose sign is the elected one, and divided by their number; the sign of
 * the sum of the values, or with `frequency` of the sum of their signs, 0 counting as +. All [count]. */
typedef struct combine_sum {
    const float *const *task;
    const float *weight;
    int n;
    bool elect, frequency;
} combine_sum;
void pe_combine_add(float *out, const combine_sum *s, int64_t count);
#endif
