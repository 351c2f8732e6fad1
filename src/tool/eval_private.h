/* eval_private.h – a task of an evaluation and the kinds of tasks, one row each; gates; what the files of an evaluation share. */
#ifndef FT_EVAL_PRIVATE_H
#define FT_EVAL_PRIVATE_H

#include "tool_private.h"

#include "ft/data.h"

typedef struct eval_metric {
    const char *name;
    double value;
    bool whole; /* a count */
} eval_metric;

typedef struct eval_result { /* of a task on one model */
    eval_metric *metric;
    int n, cap;
} eval_result;

typedef struct eval_task {
    const struct eval_kind *kind;
    const char *name, *type, *data;
    int64_t limit; /* records, or windows of a plain text; 0: all */
    /* perplexity, loss */
    int64_t max_length, stride; /* 0: the default */
    const char *chat_template;  /* loss, generate: NULL: the model's */
    const cJSON *sources;       /* all but perplexity */
    /* loss */
    bool completion_only_loss, assistant_only_loss;
    const char *on_loss;
    /* multiple_choice */
    const char *target_delimiter;
    /* generate */
    const char *match;
    int64_t max_new_tokens;
    const cJSON *stop; /* strings that end an answer */

    cfg_doc *doc;
    arena *mem;
    const cJSON *node;          /* in the config, for messages */
    const char *const *metrics; /* names of all that it gives, NULL-terminated */
    bool on_base;               /* a gate compares it with the untuned model */
    eval_result result, base;   /* of the model, and of that one */
    double seconds;             /* that the model took */
    file_out *samples;          /* a line a record; NULL: not wanted */
} eval_task;

typedef struct eval_kind {
    const char *name, *help, *example; /* a record as one line of JSON */
    const cfg_field *fields;
    const char *const *metrics;   /* names, NULL-terminated; task->metrics begins as these */
    const char *const *of_source; /* names, further ones of each of several sources; NULL: none */
    bool ids;                     /* it may do without a tokenizer */
    const void *row;              /* what tells kinds apart that run alike */
    const char *const *json;      /* members of a record that are no texts, for .csv; NULL: none */
    ft_status (*check)(
        eval_task *task); /* further mistakes of its keys, and further metrics; NULL: none */
    ft_status (*run)(tool_model *t, eval_task *task);
} eval_kind;

extern const eval_kind eval_perplexity, eval_loss, eval_multiple_choice, eval_generate;
extern const eval_kind eval_hellaswag, eval_winogrande, eval_piqa, eval_arc, eval_mmlu,
    eval_lambada, eval_gsm8k;

/* Rows that every task has; what `data` is follows. */
#define EVAL_FIELDS                                                                                \
    {.key = "name",                                                                                \
     .type = CFG_STR,                                                                              \
     .offset = offsetof(eval_task, name),                                                          \
     .help = "name in results and gates; default: the type"},                                      \
        {.key = "type",                                                                            \
         .type = CFG_STR,                                                                          \
         .offset = offsetof(eval_task, type),                                                      \
         .required = true,                                                                         \
         .help = "kind of task"},                                                                  \
    {                                                                                              \
        .key = "limit", .type = CFG_INT, .offset = offsetof(eval_task, limit), .def = "0",         \
        .low = 0, .high = 1e15, .help = "records to use, windows of a plain text; 0: all"          \
    }
#define EVAL_RECORDS                                                                               \
    {                                                                                              \
        .key = "data", .type = CFG_JSON, .offset = offsetof(eval_task, sources), .required = true, \
        .choices = eval_shapes, .help = "the records: a path, or a source with columns and split"  \
    }
extern const char *const eval_shapes[];

#define EVAL_TEMPLATE                                                                              \
    {                                                                                              \
        .key = "chat_template", .type = CFG_PATH, .offset = offsetof(eval_task, chat_template),    \
        .choices = chat_names,                                                                     \
        .help = "in place of the model's: a name, or the path of a Jinja file"                     \
    }

/* --- eval_task.c ------------------------------------------------------------------------------------------- */
FT_MUST_USE ft_status eval_add(eval_task *task, const char *name, double value);
FT_MUST_USE ft_status eval_count(eval_task *task, const char *name, int64_t value);
/* NAN: it has none of this name. */
double eval_value(const eval_result *r, const char *name);
/* Standard error of a mean of zeros and ones with the sample's variance (n − 1), as lm-evaluation-harness. */
double eval_standard_error(int64_t right, int64_t n);
/* Calls `each` for the records of the task's data, at most task->limit of each source; a wrong one is 65 with its place. */
FT_MUST_USE ft_status eval_records(const eval_task *task, data_record each, void *ctx);
/* A line of the samples: task, line (0: null) and the record's id (JSON text; NULL or "": none) are its first members. */
void eval_sample_open(str_buf *s, const eval_task *task, int64_t line, const char *id);
FT_MUST_USE ft_status eval_sample_put(const eval_task *task, str_buf *s); /* and clears it */
void eval_number_text(str_buf *s, const eval_metric *m);                  /* for the eye */

/* --- eval_choices.c: continuations of contexts, compared by their probabilities ----------------------------- */
enum { EVAL_MAX_CHOICES = 64 };
typedef struct eval_choice {
    const char *context, *target; /* scored: the delimiter and target, behind context */
    const char *text;             /* what acc_norm divides by the length of */
} eval_choice;
typedef struct eval_choices eval_choices;
FT_MUST_USE ft_status eval_choices_open(eval_choices **out, tool_model *t, eval_task *task);
FT_MUST_USE ft_status eval_choices_ask(eval_choices *c, const js_doc *d, const cJSON *rec,
                                       int64_t line, const char *query, const eval_choice *choice,
                                       int n, int gold);
/* All have been asked: adds those of the task's metrics that are known here. */
FT_MUST_USE ft_status eval_choices_finish(eval_choices *c);
void eval_choices_close(eval_choices *c); /* accepts NULL */

/* --- eval_answers.c: greedy answers, compared with the right ones ------------------------------------------- */
typedef struct eval_answers eval_answers;
FT_MUST_USE ft_status eval_answers_open(eval_answers **out, tool_model *t, eval_task *task);
/* A prompt as it stands (NULL: `messages`), and the right answer or a list of them, a node of d. */
FT_MUST_USE ft_status eval_answers_ask(eval_answers *a, const js_doc *d, const cJSON *rec,
                                       int64_t line, const char *prompt, const chat_input *messages,
                                       const cJSON *answer);
FT_MUST_USE ft_status eval_answers_finish(eval_answers *a);
void eval_answers_close(eval_answers *a); /* accepts NULL */

/* --- eval_gate.c ------------------------------------------------------------------------------------------- */
typedef struct eval_bound {
    const char *name;
    bool relative; /* to the untuned model */
    const char *help;
    /* lower: less is better */
    bool (*holds)(double value, double base, double limit, bool lower);
    void (*missed)(str_buf *out, double value, double base, double limit, bool lower);
} eval_bound;
typedef struct eval_gate { /* one bound of a metric */
    const char *key, *metric;
    eval_task *task;
    const eval_bound *bound;
    double limit;
    double value, base; /* once the tasks are done */
    bool pass;
} eval_gate;

/* --- eval_config.c ------------------------------------------------------------------------------------------ */
typedef struct eval_config {
    cfg_doc doc;
    const char *model, *baseline, *samples;
    const cJSON *adapters, *tasks, *gates;
    pe_use *adapter; /* [n_adapter] */
    int n_adapter;
    eval_task *task;
    int n_task;
    eval_gate *gate;
    int n_gate;
    const char *const
        *also; /* keys of tasks that somebody else reads, NULL-terminated; NULL: none */
    arena *mem;
} eval_config;
FT_MUST_USE ft_status eval_tasks_read(eval_config *e); /* e->tasks of e->doc into e->task */
FT_MUST_USE ft_status eval_config_read(eval_config *e, const tool_eval_options *opt);
FT_MUST_USE ft_status eval_gates_read(eval_config *e);
void eval_gates_judge(eval_config *e);
void eval_gate_missed(str_buf *out, const eval_gate *g); /* value, and the limit that it misses */

/* --- eval_report.c ------------------------------------------------------------------------------------------ */
void eval_put_line(const eval_config *e, const eval_task *task, bool json, str_buf *out);
void eval_put_junit(const eval_config *e, str_buf *out);
void eval_put_report(const eval_config *e, str_buf *out);
#endif
