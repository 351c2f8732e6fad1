/* verb_train.c – `ft train CONFIG`, and the same without a config. */
#include "given.h"

static const cfg_field flags[] = {
    CLI_GIVEN_FLAGS("go on from the newest valid checkpoint; afresh where there is none")};

static ft_status run(const cli_call *c)
{
    str_buf result = {0}, next = {0};
    train_options opt;
    FT_TRY(cli_given_read(c, &opt));
    opt.next = &next;
    FT_TRY(cli_precision_set(c, &opt.sets, &opt.n_sets));
    ft_status rc = train_run(&opt, &result);
    if (rc == FT_OK && result.len > 0 && (c->json || !c->quiet))
        rc = cli_out(result.data, result.len);
    if (rc == FT_OK) rc = cli_next(c, next.data);
    str_free(&result);
    str_free(&next);
    return rc;
}

const cli_verb verb_train = {
    .name = "train",
    .help = "fine-tune a model as a config says",
    .usage = "CONFIG | --model M --data F... [--eval F] [--method T] [--out DIR] [--resume] "
             "[--set A.B=VALUE]...",
    .more =
        "Options in the place of a config win over one that is given too; without either --out or\n"
        "output.dir the result goes to ./out. OUT/config.resolved.json is the config of the run.\n"
        "Words behind --data that name data files are more of it; a .json that holds an object is\n"
        "a config. A folder that holds a run is refused (73) without --resume or --force, and one\n"
        "that holds files of its names without --force, which removes all that the run there\n"
        "made, written again or not; a finished result stays in OUT/.former until the new one is\n"
        "whole, and other files in the folder as they are. SIGINT and SIGTERM save and stop;\n"
        "--resume then goes on, to the same bytes. With a larger train.max_steps or train.epochs\n"
        "it extends a finished run. --json prints summary.json.\n",
    .example = "ft train run.json",
    .does = "Ctrl-C saves, --resume goes on",
    .flags = flags,
    .opt_size = sizeof(cli_given),
    .max_args = CLI_GIVEN_ARGS,
    .needs = CLI_MODEL | CLI_CONFIG,
    .run = run,
};
