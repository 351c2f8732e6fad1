/* verb_prune.c – a model with weights that are exactly 0. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *out;
    bool follow_links, resume;
} options;

static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(options, out),
     .help = "folder, or a file ending in .gguf; default: output.dir of the config"},
    {"follow_links", CFG_BOOL, offsetof(options, follow_links), .def = "false",
     .help = "copy tokenizer files and templates that are links out of their folder"},
    {"resume", CFG_BOOL, offsetof(options, resume), .def = "false",
     .help = "go on with a run that was cut short, at the same --out"},
    CFG_END};

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    const tool_compress_options opt = {.config = c->arg[0],
                                       .out = o->out,
                                       .sets = c->sets,
                                       .n_sets = c->n_sets,
                                       .follow_links = o->follow_links,
                                       .resume = o->resume,
                                       .prune = true,
                                       .force = c->force,
                                       .json = c->json};
    FT_TRY(tool_compress(&opt, &(tool_sink){.put = cli_put}));
    return o->out ? cli_next_words(c, (const char *[]){"eval", "--model", o->out, "--task",
                                                       "perplexity", "--data", "FILE", NULL})
                  : FT_OK;
}

const cli_verb verb_prune = {
    .name = "prune",
    .help = "a model with weights that are exactly 0: magnitude, Wanda, SparseGPT",
    .usage = "CONFIG --out PATH [--resume]",
    .more =
        "The config names a model, a type and how much goes:\n"
        "  {\"model\": {\"path\": \"M\"},\n"
        "   \"calibration\": {\"data\": \"calib.jsonl\", \"samples\": 128},\n"
        "   \"prune\": {\"type\": \"wanda\", \"sparsity\": 0.5}}\n"
        "Types: magnitude (the smallest weights; no data), wanda (by |w| times the length of the\n"
        "input), sparsegpt (what is lost is made good by the weights that stay). pattern \"2:4\"\n"
        "keeps 2 of 4 neighbours. The result has the base's dtype; train it with\n"
        "method.keep_zeros, and its zeros stay. compress.json tells what was lost.\n",
    .example = "ft prune wanda.json --out M-half",
    .does = "weights that are exactly 0",
    .flags = flags,
    .config = tool_prune_fields,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_KERNELS | CLI_CONFIG,
    .run = run,
};
