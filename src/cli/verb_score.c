/* verb_score.c – JSON lines in, log-probabilities out: the door for evaluation harnesses. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *model, *data;
    cfg_list adapter;
    bool per_token, keep_going;
    int64_t top;
} options;

static const cfg_field flags[] = {
    {"model", CFG_PATH, offsetof(options, model),
     .help = "Hugging Face folder or .gguf; default: the adapter's base"},
    {"adapter", CFG_LIST, offsetof(options, adapter), .file = true,
     .help = "PEFT adapter folder; A=SCALE scales what it changes, several add up"},
    {"data", CFG_PATH, offsetof(options, data),
     .help = "JSON lines, plain, .gz or .zst; default, and -: standard input"},
    {"per_token", CFG_BOOL, offsetof(options, per_token), .def = "false",
     .help = "add token_ids and token_logprobs"},
    {"top", CFG_INT, offsetof(options, top), .def = "0", .low = 0, .high = 1e6,
     .help = "add the N best tokens after the last one"},
    {"keep_going", CFG_BOOL, offsetof(options, keep_going), .def = "false",
     .help = "a wrong line is answered with id and error, and the next one read"},
    CFG_END};

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    tool_model *t;
    pe_use *adapter;
    FT_TRY(tool_adapter_uses(o->adapter.v, o->adapter.n, c->mem, &adapter));
    FT_TRY(tool_open_adapters(&t, o->model, adapter, o->adapter.n, TOOL_ANY, c->precision));
    const tool_score_options opt = {.data = cli_data(o->data),
                                    .per_token = o->per_token,
                                    .keep_going = o->keep_going,
                                    .top = o->top,
                                    .json = c->json};
    ft_status rc = tool_score_lines(t, &opt, &(tool_sink){.put = cli_put_now});
    tool_close(t);
    return rc;
}

const cli_verb verb_score = {
    .name = "score",
    .help = "log-probabilities of texts, continuations or token ids; rewards by a reward model",
    .usage = "--model M [--adapter A[=SCALE]] [--per-token] [--top N] [--keep-going] < LINES",
    .more =
        "Each line is a JSON object with an optional \"id\" and one of\n"
        "  {\"context\": S, \"continuation\": S}   as lm-evaluation-harness\n"
        "  {\"text\": S}                         every token after the first\n"
        "  {\"tokens\": [ids], \"start\": k}       tokens k to the end\n"
        "Each answer has id, tokens, logprob (natural log) and greedy. Answers come as soon as "
        "no further\n"
        "line is waiting, so one process may be kept and asked again. With --json the first has "
        "\"memory\" too.\n"
        "By a reward model (objective reward) a line has one of\n"
        "  {\"prompt\": P, \"completion\": C}      as trained on; texts, or lists of messages\n"
        "  {\"messages\": [...]}                 by the chat template\n"
        "  {\"text\": S}, {\"tokens\": [ids]}      as they stand\n"
        "and its answer has id, tokens and reward.\n",
    .example = "ft score --model model --data lines.jsonl --top 5",
    .flags = flags,
    .opt_size = sizeof(options),
    .needs = CLI_MODEL | CLI_JSON,
    .run = run,
};
