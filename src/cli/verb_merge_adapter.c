/* verb_merge_adapter.c – folds an adapter into its base, with proof. */
#include "cli.h"

#include "ft/tool.h"

#include <math.h>

typedef struct options {
    const char *out, *base, *type;
    double tolerance;
    bool follow_links;
} options;

static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(options, out), .required = true,
     .help = "folder, or a file ending in .gguf"},
    {"base", CFG_PATH, offsetof(options, base),
     .help = "base model; default: base_model_name_or_path of the adapter"},
    {"type", CFG_STR, offsetof(options, type), .value = tool_type_at,
     .help = "f32, f16, bf16; in a folder also nf4 and fp4, in a .gguf also q8_0 and other blocks; "
             "default: the base's, from blocks bf16 (f16 in a .gguf)"},
    {"tolerance", CFG_FLOAT, offsetof(options, tolerance), .low = 0, .high = 1e9,
     .help = "mean KL in nats between adapter-on and merged; default 0.01 for f32, f16 and bf16, "
             "none for blocks"},
    {"follow_links", CFG_BOOL, offsetof(options, follow_links), .def = "false",
     .help = "copy tokenizer files and templates that are links out of their folder"},
    CFG_END};

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    const tool_merge_options opt = {
        .adapter = c->arg[0],
        .out = o->out,
        .base = o->base,
        .type = o->type,
        .tolerance = isnan(o->tolerance) ? -1 : o->tolerance,
        .follow_links = o->follow_links,
        .force = c->force,
        .precision = c->precision,
        .json = c->json,
    };
    FT_TRY(tool_merge_adapter(&opt, &(tool_sink){.put = cli_put}));
    return cli_next_words(c, (const char *[]){"eval", "--model", o->out, "--task", "perplexity",
                                              "--data", "FILE", NULL});
}

const cli_verb verb_merge_adapter = {
    .name = "merge-adapter",
    .help = "fold an adapter into its base and prove it",
    .usage = "ADAPTER --out PATH [--base MODEL] [--type T] [--tolerance X]",
    .more =
        "The result is read back and compared with base and adapter on fixed texts; above the\n"
        "tolerance nothing is left behind and the exit code is 81. Into blocks or codes the sum\n"
        "is rounded again: perplexity and logits are then told with the adapter on, merged as\n"
        "numbers, and as written (\"damage\" of --json).\n",
    .example = "ft merge-adapter out --out merged",
    .does = "folded in, and proved",
    .flags = flags,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_MODEL,
    .run = run,
};
