/* verb_report.c – one HTML page of one run or several. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *out;
} options;

static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(options, out),
     .help = "the page; without it report.html in the first folder; an earlier page is replaced"},
    CFG_END};

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    const tool_report_options opt = {
        .dirs = c->arg, .n_dirs = c->n_arg, .out = o->out, .json = c->json};
    return tool_report(&opt, &(tool_sink){.put = cli_put});
}

const cli_verb verb_report = {
    .name = "report",
    .help = "training runs as one HTML page: curves, tables, samples",
    .usage = "OUTDIR… [--out FILE.html]",
    .more = "OUTDIR: the folder of a run, finished or not. Several are drawn over each other, and "
            "keys of their configs that\n"
            "differ are marked. The page refers to nothing outside it, needs no script, and "
            "follows the reader's light or dark.",
    .example = "ft report out",
    .does = "curves as one HTML page",
    .flags = flags,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 32,
    .run = run,
};
