/* verb_convert.c – a model from one format into another, an adapter into a LoRA of llama.cpp. */
#include "cli.h"

#include "ft/io.h"
#include "ft/token.h"
#include "ft/tool.h"

#include <stdio.h>

typedef struct options {
    const char *out, *base, *type, *double_quant;
    int64_t block_size; /* 0: not given */
    bool allow_nonfinite;
    bool follow_links;
    bool modelfile;
} options;

static const char *const yes_no[] = {"true", "false", NULL};

static const cfg_field flags[] = {
    {"out", CFG_PATH, offsetof(options, out), .required = true,
     .help = "folder, or a file ending in .gguf"},
    {"type", CFG_STR, offsetof(options, type), .value = tool_type_at,
     .help =
         "f32, f16, bf16; in a folder also nf4 and fp4 of bitsandbytes, and bitnet: a BitNet model "
         "in ternary codes; in a .gguf also q8_0 and "
         "other blocks (q2_k to q6_k), and llama.cpp's mixtures q4_k_m, q5_k_m; default: the "
         "model's. Of an adapter: f32 (the default), f16, bf16"},
    {"base", CFG_PATH, offsetof(options, base),
     .help = "the model that an adapter is of; default: as its config has it"},
    {"double-quant", CFG_ENUM, offsetof(options, double_quant), .choices = yes_no,
     .help = "of nf4 and fp4: scales in 8 bits; default true"},
    {"block-size", CFG_INT, offsetof(options, block_size), .low = 32, .high = 4096,
     .help = "of nf4 and fp4: values with one scale; default 64"},
    {"allow-nonfinite", CFG_BOOL, offsetof(options, allow_nonfinite), .def = "false",
     .help = "write NaN and infinities of the model as they are; otherwise they are refused (65)"},
    {"modelfile", CFG_BOOL, offsetof(options, modelfile), .def = "false",
     .help = "write a Modelfile for Ollama beside it: stops, parameters, the chat template"},
    CLI_FOLLOW_LINKS(offsetof(options, follow_links)),
    CFG_END};

static ft_status tell_modelfile(const cli_call *c, const char *out)
{
    str_buf text = {0};
    const char *dir = str_ends(out, ".gguf") ? path_dir(c->mem, out) : out;
    const char *file = dir ? path_join(c->mem, dir, "Modelfile") : NULL;
    if (!file) return FT_EMEM;
    str_adds(&text, "ollama create NAME -f ");
    str_shell(&text, file, false);
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) rc = cli_next(c, text.data);
    str_free(&text);
    return rc;
}

/* A model that has a tokenizer answers. */
static ft_status tell_next(const cli_call *c, const options *o)
{
    bool asks = true, scores;
    path_kind kind;
    if (o->modelfile) return tell_modelfile(c, o->out);
    FT_TRY(tool_scores(o->out, c->mem, &scores));
    if (scores) return cli_next_measure(c, o->out, false);
    FT_TRY(path_look(c->arg[0], &kind));
    if (kind == PATH_FOLDER) FT_TRY(tok_in_folder(c->arg[0], &asks));
    if (!asks) return FT_OK;
    return cli_next_words(
        c, (const char *[]){"generate", "--model", o->out, "--prompt", "TEXT", NULL});
}

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    const char *set[2];
    char text[2][48];
    str_buf next = {0};
    tool_convert_options opt = {.model = c->arg[0],
                                .out = o->out,
                                .base = o->base,
                                .type = o->type,
                                .quant = set,
                                .allow_nonfinite = o->allow_nonfinite,
                                .follow_links = o->follow_links,
                                .modelfile = o->modelfile,
                                .force = c->force,
                                .json = c->json,
                                .next = &next};
    if (o->double_quant) {
        snprintf(text[0], sizeof text[0], "double_quant=%s", o->double_quant);
        set[opt.n_quant++] = text[0];
    }
    if (o->block_size > 0) {
        snprintf(text[1], sizeof text[1], "block_size=%lld", (long long)o->block_size);
        set[opt.n_quant++] = text[1];
    }
    ft_status rc = tool_convert(&opt, &(tool_sink){.put = cli_put});
    if (rc == FT_OK) rc = next.data ? cli_next(c, next.data) : tell_next(c, o);
    str_free(&next);
    return rc;
}

const cli_verb verb_convert = {
    .name = "convert",
    .help = "Hugging Face folder to GGUF and back, adapter to a LoRA of llama.cpp",
    .usage = "MODEL --out PATH [--type T] [--double-quant true|false] [--block-size N] "
             "[--allow-nonfinite] [--modelfile] | ADAPTER --out X.gguf [--base MODEL] [--type T]",
    .more =
        "A PEFT folder (LoRA) becomes one file that llama.cpp adds to the .gguf of its base, with "
        "--lora X.gguf.\n"
        "What such a file cannot hold (other methods, modules_to_save, biases) is exit 65: fold "
        "it with merge-adapter.\n"
        "--modelfile is for `ollama create`: a TEMPLATE stands in it where the model's chat "
        "template "
        "renders as one of\n"
        "those that have a name (`ft help templates`); its stop tokens and "
        "generation_config.json always.\n",
    .example = "ft convert merged --out merged.gguf --modelfile",
    .does = "for llama.cpp and Ollama",
    .flags = flags,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_KERNELS,
    .run = run,
};
