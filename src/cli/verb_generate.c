/* verb_generate.c – text out of a model: one prompt, or JSON lines of prompts. */
#include "cli.h"

#include "ft/tool.h"

#include <unistd.h>

typedef struct options {
    const char *model, *prompt, *data, *system, *systems, *chat_template;
    cfg_list adapter, stop;
    bool chat, no_chat, cross;
    int64_t max_new_tokens, min_new_tokens, top_k, seed, num_samples, skip;
    double temperature, top_p, min_p, repetition_penalty, presence_penalty;
} options;

#define AT(field) offsetof(options, field)
static const cfg_field flags[] = {
    {"model", CFG_PATH, AT(model),
     .help = "Hugging Face folder or .gguf; default: the adapter's base"},
    {"adapter", CFG_LIST, AT(adapter), .file = true,
     .help = "PEFT adapter folder; A=SCALE scales what it changes, several add up"},
    {"prompt", CFG_STR, AT(prompt), .help = "text to continue"},
    {"data", CFG_PATH, AT(data),
     .help =
         "JSON lines with prompt or messages, plain, .gz or .zst; default, and -: standard input"},
    {"chat", CFG_BOOL, AT(chat), .def = "false",
     .help = "the prompt is a user's turn of the model's chat template"},
    {"no_chat", CFG_BOOL, AT(no_chat), .def = "false",
     .help = "on a terminal: each line is continued as it is"},
    {"system", CFG_STR, AT(system), .help = "with --chat: the system turn of what brings none"},
    {"systems", CFG_PATH, AT(systems),
     .help =
         "a file of system turns, one a line (personas): each prompt has one that the seed draws"},
    {"cross", CFG_BOOL, AT(cross), .def = "false",
     .help = "with --systems: each prompt with every one of them"},
    {"chat_template", CFG_PATH, AT(chat_template), .choices = chat_names,
     .help = "in place of the model's: the path of a Jinja file, or a name"},
    {"stop", CFG_LIST, AT(stop), .help = "an answer ends before this text"},
    {"max_new_tokens", CFG_INT, AT(max_new_tokens), .def = "256", .low = 1, .high = 1e6,
     .help = "tokens at most"},
    {"min_new_tokens", CFG_INT, AT(min_new_tokens), .def = "0", .low = 0, .high = 1e6,
     .help = "no stop token before so many tokens"},
    {"repetition_penalty", CFG_FLOAT, AT(repetition_penalty), .def = "1", .low = 0, .high = 1e9,
     .low_open = true,
     .help = "of tokens of prompt and answer: logits above 0 divided by it, below 0 times it"},
    {"presence_penalty", CFG_FLOAT, AT(presence_penalty), .def = "0", .low = -1e9, .high = 1e9,
     .help = "taken off the logit of each token that the answer has"},
    {"temperature", CFG_FLOAT, AT(temperature), .def = "0", .low = 0, .high = 1e6,
     .help = "0: always the likeliest token"},
    {"top_k", CFG_INT, AT(top_k), .def = "0", .low = 0, .high = 1e9,
     .help = "only the k likeliest tokens; 0: all"},
    {"top_p", CFG_FLOAT, AT(top_p), .def = "1", .low = 0, .high = 1, .low_open = true,
     .help = "only the likeliest tokens that together have this probability"},
    {"min_p", CFG_FLOAT, AT(min_p), .def = "0", .low = 0, .high = 1,
     .help = "only tokens of this share of the likeliest one's probability"},
    {"seed", CFG_INT, AT(seed), .def = "42", .low = 0, .high = 9007199254740991.0,
     .help = "of the random choice"},
    {"num_samples", CFG_INT, AT(num_samples), .low = 1, .high = 1e6,
     .help = "answers to each prompt, as one JSON line with completions and samples"},
    {"skip", CFG_INT, AT(skip), .def = "0", .low = 0, .high = 1e15,
     .help = "the first answers, which are there already: the rest is what it would be with them"},
    CFG_END};

/* On a terminal without a prompt: a chat, or lines that are continued. */
static ft_status talk(tool_model *t, tool_generate_options *opt, const options *o)
{
    const struct chat *found = NULL;
    if (!o->chat && !o->no_chat) FT_TRY(tool_chat(t, &found));
    opt->chat = o->chat || found || opt->system;
    if (opt->chat)
        FT_TRY(tool_chat_end(t, &(const char *){NULL})); /* no template is told at once */
    return cli_chat(t, opt, &(tool_sink){.put = cli_put_now});
}

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    tool_model *t;
    pe_use *adapter;
    FT_CHECK(!o->prompt || !o->data, FT_EUSAGE, "--data: not together with --prompt");
    const bool typed = !o->prompt && !o->data && isatty(STDIN_FILENO) == 1;
    FT_CHECK(!o->chat || !o->no_chat, FT_EUSAGE, "--no-chat: not together with --chat");
    FT_CHECK(!typed || o->num_samples < 1, FT_EUSAGE,
             "--num-samples: needs --prompt, --data, or lines that do not come from a terminal");
    FT_CHECK(!o->skip || (!o->prompt && !typed), FT_EUSAGE, "--skip: goes with lines of prompts");
    tool_generate_options opt = {
        .prompt = o->prompt,
        .data = cli_data(o->data),
        .system = o->system,
        .stop = o->stop.v,
        .n_stop = o->stop.n,
        .samples = o->num_samples > 0 ? (int)o->num_samples : 0,
        .skip = o->skip,
        .cross = o->cross,
        .chat = o->chat || (typed && !o->no_chat),
        .json = c->json,
        .stream = isatty(STDOUT_FILENO) == 1,
        .sampling = {.repetition_penalty = o->repetition_penalty,
                     .presence_penalty = o->presence_penalty,
                     .min_new = o->min_new_tokens,
                     .max_new = o->max_new_tokens,
                     .temperature = o->temperature,
                     .top_k = o->top_k,
                     .top_p = o->top_p,
                     .min_p = o->min_p,
                     .logprobs = o->num_samples > 0,
                     .seed = (uint64_t)o->seed},
    };
    if (o->systems) FT_TRY(tool_systems_read(&opt, o->systems, c->mem));
    FT_TRY(tool_generate_check(&opt));
    FT_TRY(tool_adapter_uses(o->adapter.v, o->adapter.n, c->mem, &adapter));
    FT_TRY(tool_open_adapters(&t, o->model, adapter, o->adapter.n, true, c->precision));
    ft_status rc = o->chat_template ? tool_use_chat(t, o->chat_template) : FT_OK;
    if (rc == FT_OK)
        rc = typed ? talk(t, &opt, o)
                   : tool_generate_lines(t, &opt, &(tool_sink){.put = cli_put_now});
    tool_close(t);
    return rc;
}

const cli_verb verb_generate = {
    .name = "generate",
    .help = "continue a prompt; on a terminal, a chat",
    .usage = "--model M [--adapter A[=SCALE]] [--prompt S | --data F] [--chat] [--json]",
    .more =
        "On a terminal, without --prompt and --data, it is a chat by the model's template (/help "
        "there lists\n"
        "/reset, /system, /save FILE, /quit; Ctrl-C ends an answer), or continues each line as "
        "it is.\n\n"
        "Without --prompt each line of standard input is a JSON object with prompt (a text or a "
        "list of\n"
        "messages), messages or tokens (ids), and an optional id, or a JSON string. What it says "
        "of system, stop (a "
        "list), "
        "max_new_tokens,\n"
        "temperature and seed holds for it. With --json each answer has text, tokens (count), "
        "token_ids,\n"
        "prompt_tokens, stop (\"token\", \"length\", or \"string\" with stop_string) and "
        "seconds; otherwise each\n"
        "stands below a line === N ===. Lines that are there advance together and are answered "
        "in their\n"
        "order; to a terminal one follows the other.\n",
    .example = "ft generate --adapter out",
    .does = "a chat with the result",
    .flags = flags,
    .opt_size = sizeof(options),
    .needs = CLI_MODEL | CLI_TEXT,
    .run = run,
};
