/* given.h – options in the place of a config, of more than one verb. */
#ifndef FT_CLI_GIVEN_H
#define FT_CLI_GIVEN_H

#include "cli.h"

#include "ft/train.h"

typedef struct cli_given {
    const char *model, *method, *eval, *out;
    cfg_list data;
    bool resume, follow_links;
} cli_given;
#define CLI_GIVEN_AT(field) offsetof(cli_given, field)
/* The flags of such a verb; resumes: what --resume means to it. */
#define CLI_GIVEN_FLAGS(resumes)                                                                   \
    {"model", CFG_PATH, CLI_GIVEN_AT(model),                                                       \
     .help = "Hugging Face folder or .gguf file; the config's model.path"},                        \
        {"data", CFG_LIST, CLI_GIVEN_AT(data), .file = true,                                       \
         .help =                                                                                   \
             "training data, a path or a source as JSON, repeatable; the config's data.train"},    \
        {"eval", CFG_STR, CLI_GIVEN_AT(eval), .file = true,                                        \
         .help = "evaluation data; the config's data.eval"},                                       \
        {"method", CFG_STR, CLI_GIVEN_AT(method), .value = pe_name_at,                             \
         .help = "what is trained (ft help method); the config's method.type"},                    \
        {"out", CFG_PATH, CLI_GIVEN_AT(out), .help = "output folder; the config's output.dir"},    \
        {"resume", CFG_BOOL, CLI_GIVEN_AT(resume), .def = "false", .help = resumes},               \
        CLI_FOLLOW_LINKS(CLI_GIVEN_AT(follow_links)), CFG_END

/* *opt of what the call says; 64 where neither a config nor model and data are named. */
FT_MUST_USE ft_status cli_given_read(const cli_call *c, train_options *opt);
/* Does the word name a file of data? A .json is one unless it holds an object: then it is a config. */
bool cli_is_data(const char *word);
/* 64 for a name of no method; NULL is fine. */
FT_MUST_USE ft_status cli_check_method(const char *name);
enum { CLI_GIVEN_ARGS = 4096 }; /* most files behind --data */
#endif
