/* verb_judge.c – what completions are worth, and records to train on of it. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *model, *data, *out, *method, *match, *template, *labels, *marker, *to, *pairs;
    cfg_list adapter;
    bool chat;
    double min_margin, threshold;
    int64_t seed;
} options;

#define AT(field) offsetof(options, field)
static const cfg_field flags[] = {
    {"method", CFG_ENUM, AT(method), .required = true, .choices = tool_judge_methods,
     .help = "what gives the scores"},
    {"model", CFG_PATH, AT(model),
     .help = "Hugging Face folder or .gguf that is asked; default: the adapter's base"},
    {"adapter", CFG_LIST, AT(adapter), .file = true,
     .help = "PEFT adapter folder; A=SCALE scales what it changes, several add up"},
    {"data", CFG_PATH, AT(data),
     .help = "JSON lines with prompt or messages, and completions; default, and -: standard input"},
    {"out", CFG_PATH, AT(out), .help = "file for the results; default: standard output"},
    {"match", CFG_ENUM, AT(match), .choices = rw_match_names,
     .help = "match: how a completion is compared with the line's answer"},
    {"template", CFG_PATH, AT(template),
     .help = "pairwise, rating: a file with {prompt}, and {first} and {second}, or {completion}"},
    {"labels", CFG_STR, AT(labels),
     .help = "pairwise, rating: what may stand behind it; default: 1,2 and 1,2,3,4,5,6,7,8,9,10"},
    {"chat", CFG_BOOL, AT(chat), .def = "false",
     .help = "pairwise, rating: the filled template is a user's turn of the chat template"},
    {"response_marker", CFG_STR, AT(marker),
     .help = "only what follows its last one is judged; a completion without it is left out"},
    {"to", CFG_ENUM, AT(to), .def = "\"scores\"", .choices = tool_judge_forms,
     .help = "what is written"},
    {"pairs", CFG_ENUM, AT(pairs), .choices = tool_judge_pairs,
     .help = "preference: which pairs of a line; default: best-worst"},
    {"min_margin", CFG_FLOAT, AT(min_margin), .low = 0, .high = 1e9,
     .help = "preference: only pairs whose scores differ by so much"},
    {"threshold", CFG_FLOAT, AT(threshold), .low = -1e9, .high = 1e9,
     .help = "unpaired: the least score of a good one, default 0.5; completion: of what is kept"},
    {"seed", CFG_INT, AT(seed), .def = "42", .low = 0, .high = 9007199254740991.0,
     .help = "of best-random"},
    CFG_END};

static ft_status open_model(const options *o, const cli_call *c, tool_model **t)
{
    pe_use *adapter;
    unsigned how;
    *t = NULL;
    if (!tool_judge_asks(o->method, &how)) {
        FT_CHECK(!o->model && o->adapter.n == 0, FT_EUSAGE, "--%s: this method asks no model",
                 o->model ? "model" : "adapter");
        return FT_OK;
    }
    FT_TRY(tool_adapter_uses(o->adapter.v, o->adapter.n, c->mem, &adapter));
    return tool_open_adapters(t, o->model, adapter, o->adapter.n, how, c->precision);
}

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    tool_model *t;
    const tool_judge_options opt = {.data = cli_data(o->data),
                                    .out = o->out,
                                    .method = o->method,
                                    .to = o->to,
                                    .match = o->match,
                                    .template = o->template,
                                    .labels = o->labels,
                                    .response_marker = o->marker,
                                    .pairs = o->pairs,
                                    .min_margin = o->min_margin,
                                    .threshold = o->threshold,
                                    .seed = (uint64_t)o->seed,
                                    .chat = o->chat,
                                    .force = c->force};
    FT_TRY(tool_judge_check(&opt));
    FT_TRY(open_model(o, c, &t));
    ft_status rc = tool_judge(t, &opt, &(tool_sink){.put = cli_put_now});
    tool_close(t);
    return rc;
}

const cli_verb verb_judge = {
    .name = "judge",
    .help = "score completions; make pairs, labels or answers to train on of them",
    .usage = "--method M [--model J] [--data F] [--out F2] [--to FORM]",
    .more =
        "Each line is a JSON object with prompt (a text, or a list of messages) or messages, and "
        "completions, as\n"
        "`ft generate --num-samples` writes it. Methods:\n\n"
        "  reward    the reward of prompt and completion by a reward model\n"
        "  match     1 where a completion agrees with the line's answer, else 0\n"
        "  pairwise  the mean probability that it is better than each other one, by the labels "
        "behind the\n"
        "            template, in both orders\n"
        "  rating    the expected label, from -1 (the lowest) to 1 (the highest)\n\n"
        "With --to scores each line gets scores, null for what is left out. preference: prompt, "
        "chosen,\n"
        "rejected, margin; equal scores make no pair. unpaired: prompt, completion, label. "
        "completion: prompt\n"
        "and the best one. Completions are written whole, whatever of them was judged.\n",
    .example = "ft judge --method match --match last_number --data samples.jsonl --to preference",
    .flags = flags,
    .opt_size = sizeof(options),
    .needs = CLI_MODEL | CLI_JSON,
    .run = run,
};
