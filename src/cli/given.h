/* given.h – options in the place of a config, of more than one verb. */
#ifndef FT_CLI_GIVEN_H
#define FT_CLI_GIVEN_H

#include "cli.h"

#include "ft/train.h"

typedef struct cli_given {
    const char *model, *method, *eval;
    cfg_list data;
} cli_given;
/* Rows of a verb whose struct has a cli_given as `member`. */
#define CLI_GIVEN_ROWS(type, member)                                                               \
    {"model", CFG_PATH, offsetof(type, member.model),                                              \
     .help = "Hugging Face folder or .gguf file; the config's model.path"},                        \
        {"data", CFG_LIST, offsetof(type, member.data), .file = true,                              \
         .help =                                                                                   \
             "training data, a path or a source as JSON, repeatable; the config's data.train"},    \
        {"eval", CFG_STR, offsetof(type, member.eval), .file = true,                               \
         .help = "evaluation data; the config's data.eval"},                                       \
    {                                                                                              \
        "method", CFG_STR, offsetof(type, member.method),                                          \
            .value = pe_name_at,                                                                   \
            .help = "what is trained (ft help method); the config's method.type"                   \
    }

/* Fills opt->config and opt->given; 64 where neither a config nor model and data are named. */
FT_MUST_USE ft_status cli_given_read(const cli_call *c, const cli_given *g, train_options *opt);
/* Does the word name a file of data? A .json is one unless it holds an object: then it is a config. */
bool cli_is_data(const char *word);
/* 64 for a name of no method; NULL is fine. */
FT_MUST_USE ft_status cli_check_method(const char *name);
enum { CLI_GIVEN_ARGS = 4096 }; /* most files behind --data */
#endif
