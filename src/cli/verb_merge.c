/* verb_merge.c – whole models as one by a recipe. */
#include "cli.h"

#include "ft/merge.h"
#include "ft/tool.h"

typedef struct options {
    const char *out;
    bool follow_links, resume;
} options;

static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(options, out), .required = true,
     .help = "folder, or a file ending in .gguf"},
    CLI_FOLLOW_LINKS(offsetof(options, follow_links)),
    {"resume", CFG_BOOL, offsetof(options, resume), .def = "false",
     .help = "go on with a search that was cut short, at the same --out"},
    CFG_END};

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    const tool_recipe_options opt = {.recipe = c->arg[0],
                                     .out = o->out,
                                     .sets = c->sets,
                                     .n_sets = c->n_sets,
                                     .precision = c->precision,
                                     .follow_links = o->follow_links,
                                     .resume = o->resume,
                                     .force = c->force,
                                     .json = c->json};
    FT_TRY(tool_merge(&opt, &(tool_sink){.put = cli_put}));
    return cli_next_measure(c, o->out, false);
}

const cli_verb verb_merge = {
    .name = "merge",
    .help = "whole models as one, by a recipe of mergekit's",
    .usage = "RECIPE --out PATH [--resume]",
    .more =
        "A recipe is JSON or YAML (.yml) in mergekit's keys: merge_method, models or slices,\n"
        "base_model, parameters, dtype, tokenizer_source … Models are paths relative to it,\n"
        "PATH+ADAPTER folds an adapter in first. Methods: linear, slerp, nuslerp,\n"
        "task_arithmetic, ties, dare_linear, dare_ties, breadcrumbs, breadcrumbs_ties, della,\n"
        "della_linear, model_stock, nearswap, passthrough (layers stacked by slices).\n"
        "One tensor of each model is in memory at a time. merge_recipe.json in the result gives\n"
        "the same bytes again.\n\n"
        "With genome (models, merge_method, base_model, layer_granularity, filters, smooth …) and\n"
        "tasks (as of ft eval, with weight and metric) the numbers are searched for by CMA-ES, in\n"
        "max_fevals evaluations; best_recipe.json gives the best model again, evolve.jsonl has a\n"
        "line an evaluation, and --resume goes on where a search was cut short, by the same "
        "recipe\n"
        "(max_fevals may differ), models and data, which evolve_config.json tells.\n",
    .example = "ft merge recipe.yml --out merged",
    .does = "several models into one",
    .flags = flags,
    .config = merge_fields,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_MODEL | CLI_CONFIG,
    .run = run,
};
