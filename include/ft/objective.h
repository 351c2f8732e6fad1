/* objective.h – losses: one file and one line of objectives.def each. Objectives see a model and a batch, never a method. */
#ifndef FT_OBJECTIVE_H
#define FT_OBJECTIVE_H

#include "ft/data.h"
#include "ft/model.h"

typedef struct obj_stats {
    double
        loss_sum; /* Σ of per-token losses, added in token order (pass the running value of the step in) */
    int64_t tokens; /* supervised */
} obj_stats;

typedef struct obj_objective {
    const char *name, *help;
    const cfg_field *fields;
    size_t cfg_size;
    /* Builds the scalar loss of one micro-batch on r->t and adds to stats. step_tokens: supervised tokens of the whole
     * optimizer step (its divisor); 0: evaluation. NULL with the tape's status set on failure. */
    tn_tensor *(*loss)(const void *cfg, model *m, nn_run *r, const data_batch *b,
                       int64_t step_tokens, obj_stats *stats);
} obj_objective;

const obj_objective *obj_by_name(const char *name);
const obj_objective *obj_at(int i);
const char *const *obj_names(void);
#endif
