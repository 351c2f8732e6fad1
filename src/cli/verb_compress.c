/* verb_compress.c – `ft quantize` and `ft prune`: a model in codes of a few bits, or with weights that are exactly 0. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *out;
    bool follow_links, resume;
} options;

#define FLAGS(out_help)                                                                            \
    {"out", CFG_PATH, offsetof(options, out), .help = out_help},                                   \
        CLI_FOLLOW_LINKS(offsetof(options, follow_links)),                                         \
        {"resume", CFG_BOOL, offsetof(options, resume), .def = "false",                            \
         .help = "go on with a run that was cut short, at the same --out"},                        \
        CFG_END
static const cfg_field quantize_flags[] = {FLAGS("folder; default: output.dir of the config")};
static const cfg_field prune_flags[] = {
    FLAGS("folder, or a file ending in .gguf; default: output.dir of the config")};

static ft_status run(const cli_call *c, const tool_compress_kind *kind)
{
    const options *o = c->opt;
    const tool_compress_options opt = {.kind = kind,
                                       .config = c->arg[0],
                                       .out = o->out,
                                       .sets = c->sets,
                                       .n_sets = c->n_sets,
                                       .follow_links = o->follow_links,
                                       .resume = o->resume,
                                       .force = c->force,
                                       .json = c->json};
    FT_TRY(tool_compress(&opt, &(tool_sink){.put = cli_put}));
    return o->out ? cli_next_measure(c, o->out, false) : FT_OK;
}

static ft_status quantize(const cli_call *c)
{
    return run(c, &tool_quantize);
}

static ft_status prune(const cli_call *c)
{
    return run(c, &tool_prune);
}

const cli_verb verb_quantize = {
    .name = "quantize",
    .help = "a model in codes of a few bits: GPTQ, AWQ, rounding",
    .usage = "CONFIG --out DIR [--resume]",
    .more =
        "The config names a model, calibration data and a type:\n"
        "  {\"model\": {\"path\": \"M\"},\n"
        "   \"calibration\": {\"data\": \"calib.jsonl\", \"samples\": 128, \"max_length\": 2048},\n"
        "   \"quantize\": {\"type\": \"gptq\", \"bits\": 4, \"group_size\": 128}}\n"
        "Types: gptq (columns one after another, each making good what the others lost), awq\n"
        "(scales by activations), rtn (rounding, without data). ft help compress has their keys.\n"
        "The folder has the tensors of GPTQModel's and AutoAWQ's; every verb here reads it.\n"
        "A block's activations are in memory at a time; what is done of a run that was cut short\n"
        "lies in DIR.blocks. compress.json tells what was lost, compress_config.json what the\n"
        "folder was made by, which --resume compares.\n",
    .example = "ft quantize gptq.json --out M-gptq",
    .does = "a model in four bits",
    .flags = quantize_flags,
    .config = tool_quantize_fields,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_KERNELS | CLI_CONFIG,
    .run = quantize,
};

const cli_verb verb_prune = {
    .name = "prune",
    .help = "a model with weights that are exactly 0, or fewer layers",
    .usage = "CONFIG --out PATH [--resume]",
    .more =
        "The config names a model, a type and how much goes:\n"
        "  {\"model\": {\"path\": \"M\"},\n"
        "   \"calibration\": {\"data\": \"calib.jsonl\", \"samples\": 128},\n"
        "   \"prune\": {\"type\": \"wanda\", \"sparsity\": 0.5}}\n"
        "Types: magnitude (the smallest weights; no data), wanda (by |w| times the length of the\n"
        "input), sparsegpt (what is lost is made good by the weights that stay), layers (whole "
        "ones).\n"
        "pattern \"2:4\" keeps 2 of 4 neighbours. The result has the base's dtype; train it with\n"
        "method.keep_zeros, and its zeros stay. compress.json tells what was lost "
        "(X.compress.json\n"
        "beside X.gguf), compress_config.json what a folder was made by, which --resume "
        "compares.\n",
    .example = "ft prune wanda.json --out M-half",
    .does = "weights that are exactly 0",
    .flags = prune_flags,
    .config = tool_prune_fields,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_KERNELS | CLI_CONFIG,
    .run = prune,
};
