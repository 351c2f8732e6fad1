/* optim_private.h – what the files of this module share. */
#ifndef FT_OPTIM_PRIVATE_H
#define FT_OPTIM_PRIVATE_H

#include "ft/optim.h"

extern const char *const opt_schedule_names[]; /* NULL-terminated */
/* min_lr and constant_lr with the defaults of the schedules rewarm and infinite. */
double opt_min_lr(const opt_cfg *cfg);
double opt_constant_lr(const opt_cfg *cfg);
#endif
