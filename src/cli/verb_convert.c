/* verb_convert.c – a model from one format into another. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *out, *type;
} options;

static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(options, out), .required = true,
     .help = "folder, or a file ending in .gguf"},
    {"type", CFG_STR, offsetof(options, type),
     .help = "f32, f16, bf16, and in a .gguf also q8_0 and other blocks; default: the model's"},
    CFG_END};

static ft_status put(void *ctx, const char *text, size_t n)
{
    (void)ctx;
    return cli_out(text, n);
}

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    const tool_convert_options opt = {
        .model = c->arg[0], .out = o->out, .type = o->type, .force = c->force, .json = c->json};
    return tool_convert(&opt, &(tool_sink){.put = put});
}

const cli_verb verb_convert = {
    .name = "convert",
    .help = "Hugging Face folder to GGUF and back",
    .usage = "MODEL --out PATH [--type T]",
    .flags = flags,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_KERNELS,
    .run = run,
};
