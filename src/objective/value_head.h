/* value_head.h – the value head of PPO: what a position is worth, read off the policy's last hidden state, trained beside the
 * method's values. */
#ifndef FT_OBJECTIVE_VALUE_HEAD_H
#define FT_OBJECTIVE_VALUE_HEAD_H

#include "ft/objective.h"

typedef struct value_head {
    nn_param *w, *b; /* [1, hidden_size], [1] */
} value_head;
extern const char *const obj_value_files[]; /* names that obj_value_save leaves */

/* Adds the head to the store: zero, or as `from` has it (a file, or the folder of a run; NULL: none). values false: only shapes
 * are read. */
FT_MUST_USE ft_status obj_value_open(const obj_ctx *c, const char *from, bool values,
                                     value_head *out);
/* [S, 1] values at the rows of h [T, hidden_size] that have a label, in order. */
tn_tensor *obj_value(nn_run *r, const value_head *v, tn_tensor *h);
FT_MUST_USE ft_status obj_value_save(const obj_ctx *c, const value_head *v, const char *dir);
#endif
