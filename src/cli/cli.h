/* cli.h – the frame every verb stands in: the verb table, parsed options, results, progress, input.
 *
 * A verb is one file src/cli/verb_NAME.c that defines `const cli_verb verb_NAME`, and one line X(NAME) in
 * verbs.def. Its flags are rows of cfg_field, read from the command line: key "max_new_tokens" is the flag
 * --max-new-tokens. Types: BOOL (--flag), INT, FLOAT, STR and PATH (taken as they are), ENUM, AUTO_INT,
 * AUTO_BOOL (--flag true|false|auto). Bounds, choices, defaults, required and help work as in a config;
 * mistakes are exit 64. An INT or FLOAT without default is CFG_AUTO or NAN when it was not given.
 *
 * run() does the work and returns a status with its message recorded (ft_fail); the frame prints
 * "ft: error: …" and exits with the status. Results go out through cli_out…, everything for the eye through
 * log_info, log_warn and log_progress. Nothing else prints, nothing exits. */
#ifndef FT_CLI_H
#define FT_CLI_H

#include "ft/base.h"
#include "ft/cfg.h"

typedef enum cli_needs {
    CLI_PLAIN = 0,
    CLI_KERNELS = 1, /* kn_init and pool_open(--threads) before run */
    CLI_MODEL = 3,   /* runs a model: kernels, and the option --precision */
    CLI_CONFIG =
        4, /* --set changes the verb's config (call->sets); otherwise it sets the verb's flags */
    /* What it prints without --json, else names and figures, of which nothing may move a cursor: */
    CLI_TEXT = 8,    /* text that is a result to the byte; only a terminal gets it escaped */
    CLI_COLOUR = 16, /* made safe by itself, colours between */
    CLI_JSON = 32,
    CLI_WORDS = 64 /* its arguments are no files, for completion */
} cli_needs;

typedef struct cli_env { /* a variable of the environment; rows end with a NULL name */
    const char *name, *help;
} cli_env;

typedef struct cli_verb cli_verb;
typedef struct cli_call {
    const cli_verb *verb;
    const void *opt;           /* the verb's struct, filled by its flags */
    const char *const *arg;    /* what is no option */
    const char *const *behind; /* [n_arg] key of the last option with a value before it, or "" */
    int n_arg;
    const char *const *sets; /* a.b=value, in order */
    int n_sets;
    int threads; /* 0: all CPUs */
    bool json, quiet, force;
    const char *precision; /* "f32", "bf16", "auto", or NULL when not given */
    arena *mem;            /* lives until the program ends */
} cli_call;

struct cli_verb {
    const char *name;
    const char *help;        /* one line */
    const char *usage;       /* what follows the name: "CONFIG [--out DIR]" */
    const char *more;        /* further lines of `ft help NAME`, or NULL */
    const cfg_field *flags;  /* ends with CFG_END; NULL: none of its own */
    const cfg_field *config; /* CLI_CONFIG: keys of its config; NULL: those of a training config */
    const cli_env
        *env; /* what it reads of the environment, beside what every verb does; NULL: nothing */
    const char
        *example; /* a command, for its page; of the verbs of the tour the one that stands there, */
    const char *does; /* and what it does, in few words */
    size_t opt_size;  /* of the struct the flags fill */
    int min_args, max_args;
    int needs; /* cli_needs, or-ed */
    ft_status (*run)(const cli_call *c);
};
const cli_verb *cli_verb_at(int i); /* in the order of verbs.def; NULL past the end */
const cli_verb *cli_verb_by_name(const char *name);
const cfg_field *cli_global_rows(void); /* options of every verb; precision only of CLI_MODEL */
/* --follow-links, of the verbs that copy what stands beside a model (model_check_links). */
#define CLI_FOLLOW_LINKS(at)                                                                       \
    {                                                                                              \
        "follow_links", CFG_BOOL, at,                                                              \
            .def = "false",                                                                        \
            .help = "copy tokenizer files and templates that are links out of their folder"        \
    }

/* --- flags.c: the word of a key ("max_length": "max-length"), and of a row that has a value what kind that is ("N"), and
 * the values to choose from (NULL: no more) ----------------------------------------------------------------- */
void cli_flag_word(char *out, size_t size, const char *key);
const char *cli_value_word(const cfg_field *row);
const char *cli_value_at(const cfg_field *row, int i);
void cli_flag_help(str_buf *out, const cfg_field *row); /* its line of help, values and default */
bool cli_flag_fits(
    const cli_verb *v,
    const cfg_field *row); /* of its own rows, or of every verb's: does it have it? */

/* What another program calls a verb or an option ("finetune", "output-dir"): the one of `names` (NULL-terminated) that is
 * meant, or NULL. */
const char *cli_verb_meant(const char *theirs, const char *const *names);
const char *cli_option_meant(const char *theirs, const char *const *names);

/* The verb's --set values and, where it was given, --precision as one more (train.precision). */
FT_MUST_USE ft_status cli_precision_set(const cli_call *c, const char *const **sets, int *n_sets);

/* Runs the command line (without the program's name). */
FT_MUST_USE ft_status cli_run(int n, char *const *words);

/* --- results: stdout ---------------------------------------------------------------------------------
 * Characters that move cursors or turn text around are escaped, in JSON as \\uXXXX (see cli_needs). Buffered; a failed write is FT_EIO, here or at the end of the program, and is reported once. */
FT_MUST_USE ft_status cli_out(const char *text, size_t n);
FT_MUST_USE ft_status cli_outs(const char *text);
FT_MUST_USE ft_status cli_put(void *unused, const char *text,
                              size_t n); /* the put of a tool_sink */
FT_MUST_USE ft_status cli_put_now(void *unused, const char *text,
                                  size_t n); /* the same, flushed: somebody waits for it */
FT_MUST_USE ft_status cli_printf(const char *fmt, ...) FT_PRINTF(1, 2);
/* One JSON line, flushed: a program at the other end may wait for it. */
FT_MUST_USE ft_status cli_out_json(const cJSON *node);
FT_MUST_USE ft_status cli_flush(void);

/* What --data names: NULL, which is standard input, for "-" and where it is not given. */
const char *cli_data(const char *path);

/* After the results of a verb that went well, which it flushes: "next: COMMAND", for the eye; not where results are JSON. */
FT_MUST_USE ft_status cli_next(const cli_call *c, const char *command); /* NULL: none */
/* The words behind "ft", NULL-terminated; quoted for a shell. */
FT_MUST_USE ft_status cli_next_words(const cli_call *c, const char *const *words);
/* Of a model or an adapter that was made: its perplexity; a reward model scores lines. */
FT_MUST_USE ft_status cli_next_measure(const cli_call *c, const char *result, bool adapter);

/* --- facts.c: version, arithmetic, processor, libraries, threads; lines, or members of o -------------- */
FT_MUST_USE ft_status cli_facts_print(void);
void cli_facts_json(cJSON *o);

/* --- for the eye: stderr ------------------------------------------------------------------------------- */
void cli_sink_install(const char *color, bool quiet,
                      bool json);           /* color: "auto" (NULL), "always", "never" */
void cli_sink_close(void);                  /* before the program ends: nothing turns any more */
bool cli_colour(int fd);                    /* is what is written there to be coloured? */
void cli_results_are(int needs, bool json); /* what cli_out has to escape */
void cli_stop_told(const char *note, bool error); /* for ft_stop_install */
void cli_fault_told(const char *line);            /* for ft_fault_install */
void cli_error(const char *lines);                /* "ft: error: LINE" for each line */

/* --- a terminal's lines (editor.c), and a conversation on it (chat.c) ------------------------------------ */
typedef struct cli_editor cli_editor;
/* json: stdout is for results alone. */
FT_MUST_USE ft_status cli_editor_open(cli_editor **out, bool json);
/* FT_END: no more. *line NULL: Ctrl-C, the line is cleared (ft_stop_patient); it lives until the next one. */
FT_MUST_USE ft_status cli_editor_line(cli_editor *e, const char **line);
void cli_editor_say(cli_editor *e, const char *text); /* for the eye, where the lines are typed */
void cli_editor_close(cli_editor *e);                 /* accepts NULL */
struct tool_model;
struct tool_generate_options;
struct tool_sink;
FT_MUST_USE ft_status cli_chat(struct tool_model *t, const struct tool_generate_options *opt,
                               const struct tool_sink *out);

/* --- what a training config may hold, for help and schema ------------------------------------------------- */
typedef struct cli_table {
    const char *section; /* "optim" */
    const char *type;    /* row of a registry ("lora"), NULL for the section's own keys */
    const char *help;
    const cfg_field *rows; /* NULL: none */
    int n_shared;          /* the first of them are keys of every type of the section */
    bool standard;         /* the section's default type */
} cli_table;
/* All of them, the types of a section one after another. */
FT_MUST_USE ft_status cli_tables(const cli_table **out, int *n, arena *mem);
#endif
