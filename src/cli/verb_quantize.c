/* verb_quantize.c – a model in codes of a few bits, with calibration data or without. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *out;
    bool follow_links, resume;
} options;

static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(options, out), .help = "folder; default: output.dir of the config"},
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
                                       .force = c->force,
                                       .json = c->json};
    FT_TRY(tool_compress(&opt, &(tool_sink){.put = cli_put}));
    return o->out ? cli_next_words(c, (const char *[]){"eval", "--model", o->out, "--task",
                                                       "perplexity", "--data", "FILE", NULL})
                  : FT_OK;
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
        "lies in DIR.blocks.\n",
    .example = "ft quantize gptq.json --out M-gptq",
    .does = "a model in four bits",
    .flags = flags,
    .config = tool_quantize_fields,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_KERNELS | CLI_CONFIG,
    .run = run,
};
