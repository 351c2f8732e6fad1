/* optim_private.h – what the files of this module share. */
#ifndef FT_OPTIM_PRIVATE_H
#define FT_OPTIM_PRIVATE_H

#include "ft/optim.h"

extern const char *const opt_schedule_names[]; /* NULL-terminated */
/* Keys of the schedules that cfg's schedule does not use, unless they say what their absence does: a mistake each; a
 * warm-up of "constant" is a warning. */
void opt_check_keys(cfg_doc *d, const cJSON *object, const opt_cfg *cfg);
/* min_lr and constant_lr with the defaults of the schedules rewarm and infinite. */
double opt_min_lr(const opt_cfg *cfg);
double opt_constant_lr(const opt_cfg *cfg);

/* An elementwise loop over elements first … first + n of a view; k: its coefficients. */
typedef void (*opt_piece)(const opt_view *v, const void *k, int64_t first, int64_t n);
enum { OPT_PIECE = 16384 };
/* Runs it over all elements of v, by all threads. */
void opt_pieces(opt_piece fn, const opt_view *v, const void *k);
#endif
