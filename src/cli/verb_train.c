/* verb_train.c – `ft train CONFIG`. */
#include "cli.h"

#include "ft/train.h"

typedef struct train_flags {
    const char *out;
    bool resume;
} train_flags;
static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(train_flags, out), .help = "output folder; the config's output.dir"},
    {"resume", CFG_BOOL, offsetof(train_flags, resume), .def = "false",
     .help = "go on from the newest valid checkpoint; afresh where there is none"},
    CFG_END};

static ft_status run(const cli_call *c)
{
    const train_flags *f = c->opt;
    str_buf result = {0};
    train_options opt = {.config = c->arg[0],
                         .sets = c->sets,
                         .n_sets = c->n_sets,
                         .out = f->out,
                         .resume = f->resume,
                         .force = c->force,
                         .json = c->json};
    FT_TRY(cli_precision_set(c, &opt.sets, &opt.n_sets));
    ft_status rc = train_run(&opt, &result);
    if (rc == FT_OK && result.len > 0 && (c->json || !c->quiet))
        rc = cli_out(result.data, result.len);
    str_free(&result);
    return rc;
}

const cli_verb verb_train = {
    .name = "train",
    .help = "fine-tune a model as a config says",
    .usage = "CONFIG [--out DIR] [--resume] [--set A.B=VALUE]...",
    .more = "A folder that holds a run is refused (73) without --resume or --force. SIGINT and "
            "SIGTERM\n"
            "save and stop; --resume then goes on, to the same bytes. --json prints summary.json.",
    .flags = flags,
    .opt_size = sizeof(train_flags),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_MODEL | CLI_CONFIG,
    .run = run,
};
