/* reference.h – the model that a policy is held to (reference.c): what the policy began as, or one that the config names. */
#ifndef FT_OBJECTIVE_REFERENCE_H
#define FT_OBJECTIVE_REFERENCE_H

#include "ft/objective.h"

/* All NULL: the policy's model without its overlay. */
typedef struct obj_reference {
    const nn_overlay *over; /* of the policy's model; with `model`: NULL */
    model *model;           /* of its own */
    pe_ctx *adapter;        /* whose overlay it is */
} obj_reference;

/* told: "base", a path, or NULL: as the policy began. longest: tokens that it has to have positions for. *bytes grows by what
 * it holds. obj_reference_close in any case. */
FT_MUST_USE ft_status obj_reference_open(obj_reference *r, const obj_ctx *c, const char *told,
                                         int64_t longest, size_t *bytes);
void obj_reference_close(obj_reference *r);
#endif
