/* eval_private.h – a task of an evaluation and the kinds of tasks, one row each. */
#ifndef FT_EVAL_PRIVATE_H
#define FT_EVAL_PRIVATE_H

#include "tool_private.h"

#define EVAL_MAX_METRICS 8

typedef struct eval_metric {
    const char *name;
    double value;
    bool whole; /* a count */
} eval_metric;

typedef struct eval_task {
    const struct eval_kind *kind;
    const char *name, *type, *data;
    int64_t limit; /* records; 0: all */
    /* perplexity */
    int64_t max_length, stride; /* 0: the default */
    /* multiple_choice */
    const char *target_delimiter;
    /* generate */
    const char *match;
    int64_t max_new_tokens;
    const cJSON *stop; /* strings that end an answer */
    eval_metric metric[EVAL_MAX_METRICS];
    int n_metric;
    const cJSON *node; /* in the config, for messages */
} eval_task;

typedef struct eval_kind {
    const char *name, *help;
    const cfg_field *fields;
    const char *const *metrics; /* names, NULL-terminated */
    ft_status (*run)(tool_model *t, eval_task *task);
} eval_kind;

extern const eval_kind eval_perplexity, eval_multiple_choice, eval_generate;

void eval_add(eval_task *task, const char *name, double value);
void eval_count(eval_task *task, const char *name, int64_t value);
/* Calls `each` for the JSON objects of a data file, at most task->limit; a wrong line is 65 with its place. */
typedef ft_status (*eval_line)(void *ctx, const js_doc *d, int64_t index);
FT_MUST_USE ft_status eval_lines(const eval_task *task, eval_line each, void *ctx);
#endif
