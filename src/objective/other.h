/* other.h – a model that stands beside the policy and is not trained: what it is held to, what it learns from (other.c,
 * moving.c). */
#ifndef FT_OBJECTIVE_OTHER_H
#define FT_OBJECTIVE_OTHER_H

#include "ft/objective.h"

typedef struct obj_other {
    model *m;               /* the policy's, or one of its own */
    const nn_overlay *over; /* NULL: as m is */
    size_t bytes;           /* that it takes beside the policy */
    /* inside */
    model *own; /* NULL: it is the policy's */
    pe_ctx *adapter;
    nn_param **moving; /* [params of m] values of its own that follow the policy's; NULL: none */
} obj_other;

/* The policy's model without what is trained. */
obj_other obj_other_base(const obj_ctx *c);
/* The path of what a policy is held to, as `reference` tells it: "base", a path, or NULL: as the policy began. NULL: the policy's
 * model without what is trained. */
const char *obj_other_reference(const obj_ctx *c, const char *told);
/* path: a model folder, a .gguf, or an adapter on the policy's base; adapter: over that model, or NULL. what: of messages ("the
 * reference"). longest: tokens of a sequence; 0: of those of the data. 65, naming the path, for another vocabulary or too few
 * positions. Close in any case. */
FT_MUST_USE ft_status obj_other_open(const obj_ctx *c, const char *what, const char *path,
                                     const char *adapter, int64_t longest, bool weights,
                                     obj_other *out);
void obj_other_close(obj_other *o);

/* What it says of the batch of the run r, which is in force before and after: its hidden states, on the same tape without
 * a record, its head, and its row for each of r's. The rest of `out` is the caller's. False: the tape has failed. */
bool obj_other_see(const obj_other *o, nn_run *r, const data_batch *b, ag_other *out);

/* On a dry tape: what a pass over the batch of the run r takes that `prepare` makes apart. r is in force before and after; what
 * the pass leaves is dropped. */
typedef ft_status (*obj_other_pass)(const void *with, ag_tape *t, const data_batch *b);
void obj_other_count(const nn_run *r, const data_batch *b, obj_other_pass pass, const void *with);

/* Gives it values of its own, states that a checkpoint keeps: 78 where the method does not train every parameter, 65 where
 * its model is another. After that, values ← share · the policy's + (1 − share) · values. */
FT_MUST_USE ft_status obj_other_follow(const obj_ctx *c, const char *key, bool weights,
                                       obj_other *o);
void obj_other_move(const obj_ctx *c, obj_other *o, double share);
#endif
