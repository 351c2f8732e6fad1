/* verb_eval.c – loss, perplexity, choices and answers of a model, with gates for CI. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    cfg_list adapter;
    const char *model, *baseline, *task, *data, *match, *samples, *junit, *report, *chat_template;
    int64_t limit, max_length, stride, max_new_tokens;
} options;

static const cfg_field flags[] = {
    {"model", CFG_PATH, offsetof(options, model), .help = "Hugging Face folder or .gguf"},
    {"adapter", CFG_LIST, offsetof(options, adapter), .file = true,
     .help = "PEFT adapter folder; A=SCALE scales what it changes, several add up"},
    {"baseline", CFG_PATH, offsetof(options, baseline),
     .help = "what gates compare with; default: the model without its adapter"},
    {"task", CFG_STR, offsetof(options, task), .choices = tool_task_names,
     .help = "in place of the config's tasks"},
    {"data", CFG_PATH, offsetof(options, data), .help = "file of that task"},
    {"match", CFG_STR, offsetof(options, match), .choices = rw_match_names,
     .help = "how the answers of a generate task are compared"},
    {"limit", CFG_INT, offsetof(options, limit), .def = "0", .low = 0, .high = 1e15,
     .help = "records to use, windows of a plain text; 0: all"},
    {"max_length", CFG_INT, offsetof(options, max_length), .def = "0", .low = 0, .high = 1e9,
     .help = "of a perplexity task: tokens of a window; of a loss task: longest sample"},
    {"stride", CFG_INT, offsetof(options, stride), .def = "0", .low = 0, .high = 1e9,
     .help = "of a perplexity task: tokens a window moves on"},
    {"max_new_tokens", CFG_INT, offsetof(options, max_new_tokens), .def = "0", .low = 0,
     .high = 1e6, .help = "of a generate or gsm8k task: longest answer"},
    {"chat_template", CFG_PATH, offsetof(options, chat_template), .choices = chat_names,
     .help = "in place of the model's: the path of a Jinja file, or a name"},
    {"samples", CFG_PATH, offsetof(options, samples),
     .help = "file for a JSON line of every record with its result"},
    {"junit", CFG_PATH, offsetof(options, junit),
     .help = "file for the results as JUnit's XML, a case a bound"},
    {"report", CFG_PATH, offsetof(options, report),
     .help = "file for the results as a Markdown table"},
    CFG_END};

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    str_buf next = {0};
    const tool_eval_options opt = {
        .config = c->n_arg > 0 ? c->arg[0] : NULL,
        .sets = c->sets,
        .n_sets = c->n_sets,
        .model = o->model,
        .adapter = o->adapter.v,
        .n_adapter = o->adapter.n,
        .baseline = o->baseline,
        .task = o->task,
        .data = o->data,
        .match = o->match,
        .samples = o->samples,
        .chat_template = o->chat_template,
        .junit = o->junit,
        .report = o->report,
        .limit = o->limit,
        .max_length = o->max_length,
        .stride = o->stride,
        .max_new_tokens = o->max_new_tokens,
        .precision = c->precision,
        .json = c->json,
        .next = &next,
    };
    ft_status rc = tool_eval(&opt, &(tool_sink){.put = cli_put_now});
    if (rc == FT_OK) rc = cli_next(c, next.data);
    str_free(&next);
    return rc;
}

const cli_verb verb_eval = {
    .name = "eval",
    .help = "loss, perplexity, multiple choice, answers, benchmarks; gates for CI",
    .usage = "CONFIG | --model M [--adapter A[=SCALE]] --task T --data F",
    .more =
        "A config has model, adapter, baseline, tasks (a list of {name, type, data, …}), samples "
        "and gates\n"
        "({\"TASK.METRIC\": {\"min\": x, \"max\": y}}; against the model without its adapter, "
        "or the baseline,\n"
        "max_increase, min_gain, max_ratio). A missed gate is exit 81, after all results.\n",
    .example = "ft eval --adapter out --task loss --data test.jsonl",
    .does = "its loss; ft help gates",
    .flags = flags,
    .config = tool_eval_fields,
    .opt_size = sizeof(options),
    .max_args = 1,
    .needs = CLI_MODEL | CLI_CONFIG,
    .run = run,
};
