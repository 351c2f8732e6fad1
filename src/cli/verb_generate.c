/* verb_generate.c – text out of a model: one prompt, or JSON lines of prompts. */
#include "cli.h"

#include "ft/tool.h"

#include <unistd.h>

typedef struct options {
    const char *model, *adapter, *prompt, *data;
    bool chat;
    int64_t max_new_tokens, min_new_tokens, top_k, seed;
    double temperature, top_p;
} options;

static const cfg_field flags[] = {
    {"model", CFG_PATH, offsetof(options, model),
     .help = "Hugging Face folder or .gguf; default: the adapter's base"},
    {"adapter", CFG_PATH, offsetof(options, adapter), .help = "PEFT adapter folder"},
    {"prompt", CFG_STR, offsetof(options, prompt), .help = "text to continue"},
    {"data", CFG_PATH, offsetof(options, data),
     .help = "JSON lines with prompt or messages, plain or .gz; default: standard input"},
    {"chat", CFG_BOOL, offsetof(options, chat), .def = "false",
     .help = "the prompt is a user's turn of the model's chat template"},
    {"max_new_tokens", CFG_INT, offsetof(options, max_new_tokens), .def = "256", .low = 1,
     .high = 1e6, .help = "tokens at most"},
    {"min_new_tokens", CFG_INT, offsetof(options, min_new_tokens), .def = "0", .low = 0,
     .high = 1e6, .help = "no stop before so many tokens"},
    {"temperature", CFG_FLOAT, offsetof(options, temperature), .def = "0", .low = 0, .high = 1e6,
     .help = "0: always the likeliest token"},
    {"top_k", CFG_INT, offsetof(options, top_k), .def = "0", .low = 0, .high = 1e9,
     .help = "only the k likeliest tokens; 0: all"},
    {"top_p", CFG_FLOAT, offsetof(options, top_p), .def = "1", .low = 0, .high = 1,
     .low_open = true, .help = "only the likeliest tokens that together have this probability"},
    {"seed", CFG_INT, offsetof(options, seed), .def = "42", .low = 0, .high = 9007199254740991.0,
     .help = "of the random choice"},
    CFG_END};

static ft_status put(void *ctx, const char *text, size_t n)
{
    (void)ctx;
    FT_TRY(cli_out(text, n));
    return cli_flush();
}

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    tool_model *t;
    FT_CHECK(!o->prompt || !o->data, FT_EUSAGE, "--data: not together with --prompt");
    const tool_generate_options opt = {
        .prompt = o->prompt,
        .data = o->data,
        .chat = o->chat,
        .json = c->json,
        .stream = isatty(STDOUT_FILENO) == 1,
        .sampling = {.min_new = o->min_new_tokens,
                     .max_new = o->max_new_tokens,
                     .temperature = o->temperature,
                     .top_k = o->top_k,
                     .top_p = o->top_p,
                     .seed = (uint64_t)o->seed},
    };
    FT_TRY(tool_open(&t, o->model, o->adapter, true, c->precision));
    ft_status rc = tool_generate_lines(t, &opt, &(tool_sink){.put = put});
    tool_close(t);
    return rc;
}

const cli_verb verb_generate = {
    .name = "generate",
    .help = "continue a prompt",
    .usage = "--model M [--adapter A] --prompt S [--chat] [--json]",
    .more = "Without --prompt each line of standard input is a JSON object with prompt or messages "
            "(and\n"
            "an optional id), or a JSON string. With --json each answer has text, tokens (count),\n"
            "token_ids, prompt_tokens, stop (\"token\" or \"length\") and seconds. Lines that are "
            "there advance\n"
            "together and are answered in their order; to a terminal one follows the other.\n",
    .flags = flags,
    .opt_size = sizeof(options),
    .needs = CLI_MODEL,
    .run = run,
};
