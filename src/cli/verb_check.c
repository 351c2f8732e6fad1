/* verb_check.c – `ft check CONFIG`. */
#include "given.h"

static const cfg_field flags[] = {
    CLI_GIVEN_FLAGS("as for ft train: a run in the output folder is no concern")};

static ft_status run(const cli_call *c)
{
    str_buf report = {0}, next = {0};
    train_options opt;
    FT_TRY(cli_given_read(c, &opt));
    opt.next = &next;
    ft_status rc = train_check(&opt, &report);
    /* The report is complete where it exists: memory and disk are judged after it. */
    ft_status out =
        report.len > 0 && (rc == FT_OK || c->json) ? cli_out(report.data, report.len) : FT_OK;
    if (rc == FT_OK && out == FT_OK) out = cli_next(c, next.data);
    str_free(&report);
    str_free(&next);
    return rc != FT_OK ? rc : out;
}

const cli_verb verb_check = {
    .name = "check",
    .help = "all that train would refuse, in seconds, nothing written",
    .usage = "CONFIG | --model M --data F... [--eval F] [--method T] [--out DIR] "
             "[--set A.B=VALUE]...",
    .more =
        "Prints counts of the data, the memory and disk plan, and one rendered sample with its "
        "mask. A model.path that holds a config.json and no weights is planned for all the same,\n"
        "with a warning: what would this model take? Its tokenizer lies beside it or is\n"
        "model.tokenizer; data of format tokens needs none.\n",
    .example = "ft check run.json",
    .does = "what train would refuse",
    .flags = flags,
    .opt_size = sizeof(cli_given),
    .max_args = CLI_GIVEN_ARGS,
    .needs = CLI_KERNELS | CLI_CONFIG,
    .run = run,
};
