/* train.h – the training config, and the one training loop: accumulation, evaluation, checkpoints, resume. */
#ifndef FT_TRAIN_H
#define FT_TRAIN_H

#include "ft/cfg.h"
#include "ft/data.h"
#include "ft/method.h"
#include "ft/objective.h"
#include "ft/optim.h"

/* The sections of a training config (contract 2), for parsing, help and schema. For "method" and "objective" the rows are
 * those of the chosen type (rows NULL here; see pe_at, obj_at). */
typedef struct train_section {
    const char *key;
    const cfg_field *rows;
    const char *help;
} train_section;
extern const train_section train_sections[]; /* ends with key NULL */

typedef struct train_options {
    const char *config; /* path */
    const char *const *sets;
    int n_sets;
    const char *out; /* --out, or NULL */
    bool resume, force, json, check_only;
} train_options;
/* `ft train`. FT_ESIGNAL after a saved stop, FT_ETIME at max_seconds. Results (final JSON line) go to `result`. */
FT_MUST_USE ft_status train_run(const train_options *opt, str_buf *result);
/* `ft check`: everything train would refuse; text or JSON report into `result`. */
FT_MUST_USE ft_status train_check(const train_options *opt, str_buf *result);
/* `ft bench CONFIG`: runs `steps` steps on the config without writing anything; JSON object or text into result. */
FT_MUST_USE ft_status train_bench(const train_options *opt, int steps, str_buf *result);
#endif
