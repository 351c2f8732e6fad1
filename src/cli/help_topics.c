/* help_topics.c – what `ft help` says beside verbs and keys: forms of records, tasks of evaluations, gates, chat templates,
 * exit codes, paths. Printed from the tables that the program itself goes by, each of which has the records and the
 * sentences that are shown. */
#include "help.h"

#include "ft/tool.h"
#include "ft/train.h"

#include <stdio.h>
#include <string.h>

static bool wanted(const char *entry, const char *name)
{
    return !entry || strcmp(entry, name) == 0;
}

/* Words of a text in lines of at most WIDTH bytes behind `indent` spaces. */
static void wrap(str_buf *out, const char *text, size_t indent)
{
    enum { WIDTH = 98 };
    size_t at = 0;
    for (const char *p = text; *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        if (at > 0 && at + 1 + n > WIDTH) {
            str_addc(out, '\n');
            at = 0;
        }
        if (at == 0)
            for (; at < indent; at++) str_addc(out, ' ');
        else
            str_addc(out, ' ');
        at += n + (at > indent);
        str_add(out, p, n);
        p += n;
    }
    str_addc(out, '\n');
}

/* --- formats ------------------------------------------------------------------------------------------------ */

static const char *format_name(int i)
{
    data_form f;
    return data_form_at(i, &f) ? f.name : NULL;
}

static ft_status formats(str_buf *out, const char *entry, arena *mem)
{
    data_form f;
    (void)mem;
    if (!entry)
        str_printf(out,
                   "formats of records – a JSON object a line of a .jsonl, one of a list in a "
                   ".json, a row of a .csv\n\n"
                   "Files are %s; a .txt is text without\nrecords. data.train.format says which, "
                   "\"auto\" tells it by the keys of the first record.\n\n",
                   data_file_kinds);
    for (int i = 0; data_form_at(i, &f); i++) {
        if (!wanted(entry, f.name)) continue;
        str_printf(out, "%s%s\n%s\n", f.name, entry ? " – a format of records" : "", f.example);
        str_addc(out, '\n');
        str_adds(out, "  trained on:\n");
        wrap(out, f.help, 4);
        str_addc(out, '\n');
    }
    if (!wanted(entry, "alpaca")) return str_ok(out);
    str_adds(out, "records that are known by their keys, and read as those of alpaca:\n");
    for (int i = 0; data_known_at(i); i++) str_printf(out, "%s\n", data_known_at(i));
    if (!entry)
        str_adds(out, "\nOther keys: \"columns\" of the source says which is which (ft help "
                      "data.train.columns), \"roles\" who\nspeaks. `ft data FILE --model M` shows "
                      "what a run would see, with what is learned marked.\n");
    return str_ok(out);
}

/* --- tasks -------------------------------------------------------------------------------------------------- */

static const char *task_name(int i)
{
    tool_task t;
    return tool_task_at(i, &t) ? t.name : NULL;
}

static void list(str_buf *out, const char *head, const char *const *names, const char *tail)
{
    str_printf(out, "  %s", head);
    for (int i = 0; names[i]; i++) str_printf(out, "%s %s%s", i ? "," : "", names[i], tail);
    str_addc(out, '\n');
}

/* Metrics of a task (NULL: all). */
static void metrics(str_buf *out, const tool_task *of)
{
    const tool_metric *m;
    str_adds(out, "metrics (NAME_stderr is the standard error of NAME; down: less is better):\n");
    for (int i = 0; (m = tool_metric_at(i)); i++) {
        bool has = !of;
        for (int k = 0; of && of->metrics[k]; k++) has = has || !strcmp(of->metrics[k], m->name);
        if (has) str_printf(out, "  %-14s %-5s %s\n", m->name, m->lower ? "down" : "", m->help);
    }
}

static ft_status tasks(str_buf *out, const char *entry, arena *mem)
{
    tool_task t;
    (void)mem;
    if (!entry)
        str_adds(out, "tasks of an evaluation: a record of the data each, and the metrics\n\n");
    for (int i = 0; tool_task_at(i, &t); i++) {
        if (!wanted(entry, t.name)) continue;
        str_printf(out, "%s – %s%s\n%s\n", t.name, entry ? "a task of ft eval: " : "", t.help,
                   t.example);
        list(out, "metrics:", t.metrics, "");
        if (t.of_source) list(out, "of several sources also:", t.of_source, ".NAME");
        str_addc(out, '\n');
        if (entry) {
            metrics(out, &t);
            str_adds(out, "\nkeys of the task in a config of ft eval:\n");
            cfg_help(out, t.fields, "");
        }
    }
    if (entry) return str_ok(out);
    metrics(out, NULL);
    str_adds(out, "\nkeys of the config (ft help eval TASK: those of a task; ft help gates):\n");
    cfg_help(out, tool_eval_fields, "");
    return str_ok(out);
}

/* --- rewards ------------------------------------------------------------------------------------------------- */

static const char *reward_name(int i)
{
    return rw_type_at(i, NULL, NULL);
}

static ft_status rewards(str_buf *out, const char *entry, arena *mem)
{
    const char *name, *help;
    const cfg_field *fields;
    (void)mem;
    if (!entry)
        str_adds(out, "rewards – what a completion is worth: objective.rewards is a list of them, "
                      "\"exact\" or an object with type\n\n");
    for (int i = 0; (name = rw_type_at(i, &help, &fields)); i++) {
        if (!wanted(entry, name)) continue;
        str_printf(out, "%s – %s%s\n", name, entry ? "a reward: " : "", help);
        cfg_help(out, fields, "");
        str_addc(out, '\n');
    }
    if (!entry || strcmp(entry, "command") == 0)
        str_adds(out,
                 "A command is started once, and again when it ends, and asked by lines of JSON on "
                 "its standard input: the "
                 "record's own keys,\ncompletion, answer, tokens, finished. For each it writes a "
                 "line with one number, and flushes it. Its\nstandard error is added to " RW_ERRORS
                 " in the output folder.\n");
    return str_ok(out);
}

/* --- gates -------------------------------------------------------------------------------------------------- */

static ft_status gates(str_buf *out, const char *entry, arena *mem)
{
    tool_bound b;
    bool relative = false;
    (void)entry, (void)mem;
    str_adds(out,
             "gates of ft eval – bounds of metrics, for CI: a missed one is exit 81, after all "
             "results\n\n\"gates\" of the config is an object: \"TASK.METRIC\" -> bounds. TASK "
             "is the name of a task, else its type;\n`ft help eval` has the metrics.\n\n"
             "bounds:\n");
    for (int i = 0; tool_bound_at(i, &b); i++) {
        str_printf(out, "  %-13s %s\n", b.name, b.help);
        relative = relative || b.relative;
    }
    if (relative)
        str_adds(out, "\nbase is the metric of the untuned model: of the \"baseline\", else of the "
                      "model without its adapter.\n");
    str_adds(out,
             "\na config with gates:\n"
             "{\"model\": {\"path\": \"M\"}, \"baseline\": \"B\", \"tasks\": [{\"name\": \"wiki\", "
             "\"type\": \"perplexity\", \"data\": \"wiki.txt\"}], \"gates\": {\"wiki.perplexity\": "
             "{\"min\": 1, \"max\": 1e6, \"max_increase\": 0.5, \"min_gain\": -0.5, "
             "\"max_ratio\": 1.02}}}\n"
             "one more, on the command line (CONFIG holds the task):\n"
             "  ft eval CONFIG --set 'gates[\"wiki.nll\"].max=3.5' --junit junit.xml\n");
    return str_ok(out);
}

/* --- chat templates ----------------------------------------------------------------------------------------- */

static const char *template_name(int i)
{
    return chat_names[i];
}

/* A conversation as the template prints it, as a JSON string. */
static ft_status rendering(str_buf *out, const char *name)
{
    static const char talk[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"
        "\"U\"},"
        "{\"role\":\"assistant\",\"content\":\"A\"}],\"bos_token\":\"<s>\",\"eos_token\":\"</s>\","
        "\"add_generation_prompt\":true}";
    const char *text = chat_named(name);
    tpl_template *t = NULL;
    str_buf s = {0};
    js_doc d;
    FT_TRY(js_parse(&d, talk, sizeof talk - 1, name, 1, JS_NO_POSITIONS, FT_EINTERNAL));
    ft_status rc = tpl_open(&t, text, strlen(text), name);
    if (rc == FT_OK) rc = tpl_render_spans(t, d.root, &s, NULL);
    if (rc == FT_OK) rc = str_ok(&s);
    if (rc == FT_OK) str_json(out, s.data ? s.data : "", s.len);
    str_free(&s);
    tpl_close(t);
    js_close(&d);
    return rc;
}

static ft_status templates(str_buf *out, const char *entry, arena *mem)
{
    (void)mem;
    if (!entry)
        str_adds(out,
                 "chat templates by name – for data.chat_template and --chat-template, in place "
                 "of the model's;\na path of a Jinja file may stand there too. Below each what "
                 "it makes of a system message S, a user's\nturn U and an answer A, and what "
                 "asks for the next one (<s> and </s>: the model's bos and eos):\n\n");
    for (int i = 0; chat_names[i]; i++) {
        if (!wanted(entry, chat_names[i])) continue;
        str_printf(out, "%s – %s%s\n  ", chat_names[i], entry ? "a chat template: " : "",
                   chat_named_help(chat_names[i]));
        FT_TRY(rendering(out, chat_names[i]));
        str_addc(out, '\n');
    }
    if (!entry)
        str_adds(out, "\nOrder: what is given, chat_template.jinja of the adapter's folder, the "
                      "model's. The one in use is\nwritten beside the result.\n");
    return str_ok(out);
}

/* --- exit codes --------------------------------------------------------------------------------------------- */

static ft_status exit_codes(str_buf *out, const char *entry, arena *mem)
{
    (void)entry, (void)mem;
    str_adds(out, "exit codes:\n  0    done\n");
#define ROW(name, code, help) str_printf(out, "  %-4d %s\n", code, help);
    FT_STATUS_ROWS(ROW)
#undef ROW
    str_adds(out,
             "  130  ended by Ctrl-C (SIGINT), 143 by SIGTERM; what a run had is saved, --resume "
             "goes on\n");
    return str_ok(out);
}

/* --- paths -------------------------------------------------------------------------------------------------- */

/* Is it one, or may it be one? */
static bool is_path(const cfg_field *r)
{
    if (r->type == CFG_PATH) return true;
    for (int i = 0; r->type == CFG_JSON && r->choices && r->choices[i]; i++)
        if (strcmp(r->choices[i], "path") == 0) return true;
    return false;
}

static void path_keys(str_buf *out, const char *section, const cfg_field *rows, arena *mem)
{
    for (const cfg_field *r = rows; r && r->key; r++) {
        const char *key =
            section[0] ? arena_printf(mem, "%s.%s", section, r->key) : arena_str(mem, r->key);
        if (!key) return;
        if (is_path(r)) {
            const char *line = arena_printf(mem, "  %-26s %s\n", key, r->help ? r->help : "");
            if (line && !(out->data && strstr(out->data, line))) str_adds(out, line);
        }
        if (r->type == CFG_TABLE) path_keys(out, key, r->sub, mem);
    }
}

static ft_status paths(str_buf *out, const char *entry, arena *mem)
{
    const cli_table *tables;
    const cli_verb *v;
    int n;
    (void)entry;
    FT_TRY(cli_tables(&tables, &n, mem));
    str_adds(out,
             "paths – a relative one in a config, output.dir too, starts from the folder of the "
             "config; on the command\nline, --set included, from the current folder\n\n");
    str_printf(
        out,
        "  MODEL    a Hugging Face folder (config.json, safetensors), or a .gguf, of several "
        "the first\n"
        "  ADAPTER  a PEFT folder: what ft train leaves in OUT, and each "
        "OUT/checkpoints/step-N\n"
        "  SOURCE   of data: a file (%s),\n"
        "           a folder of them, a pattern (*, ?, […]), or - for JSON lines from "
        "standard input\n\n",
        data_file_kinds);
    str_adds(out, "keys of a training config:\n");
    for (int i = 0; i < n; i++) path_keys(out, tables[i].section, tables[i].rows, mem);
    str_adds(out, "\nkeys of the config of ft eval:\n");
    path_keys(out, "", tool_eval_fields, mem);
    tool_task t;
    for (int i = 0; tool_task_at(i, &t); i++) path_keys(out, "tasks", t.fields, mem);
    str_adds(out, "\noptions:\n");
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        bool any = false;
        for (const cfg_field *r = v->flags; r && r->key; r++) {
            char flag[64];
            if (r->type != CFG_PATH && !r->file) continue;
            cli_flag_word(flag, sizeof flag, r->key);
            if (!any) str_printf(out, "  %-15s", v->name);
            any = true;
            str_printf(out, " --%s", flag);
        }
        if (any) str_addc(out, '\n');
    }
    return str_ok(out);
}

/* --- the tour ----------------------------------------------------------------------------------------------- */

/* From a model and data to what is handed on: the example of each verb. */
static ft_status tour(str_buf *out, const char *entry, arena *mem)
{
    static const char *const stops[] = {"fetch",    "data", "init",          "check",   "train",
                                        "generate", "eval", "merge-adapter", "convert", "report"};
    (void)entry, (void)mem;
    for (size_t i = 0; i < FT_COUNT_OF(stops); i++) {
        const cli_verb *v = cli_verb_by_name(stops[i]);
        if (v) str_printf(out, "%-52s # %s\n", v->example, v->does);
    }
    return str_ok(out);
}

/* --- the topics --------------------------------------------------------------------------------------------- */

/* --- methods -------------------------------------------------------------------------------------------------- */

static const char *method_name(int i)
{
    return pe_name_at(i);
}

static ft_status methods(str_buf *out, const char *entry, arena *mem)
{
    (void)mem;
    if (!entry)
        str_adds(out, "methods of training (method.type; ft help NAME tells more of each, with its "
                      "keys)\n\n");
    for (int i = 0; pe_at(i); i++) {
        const pe_method *m = pe_at(i);
        if (!entry) str_printf(out, "  %-14s %s\n", m->name, m->help);
        if (!entry || strcmp(m->name, entry) != 0) continue;
        str_printf(out, "%s – a method of training: %s\n\n", m->name, m->help);
        wrap(out, m->about, 2);
        if (m->paper) str_printf(out, "\n  paper: %s\n", m->paper);
        str_printf(out, "\n  in a config: \"method\": %s\n", m->example);
        str_printf(out, "  optim.learning_rate is %g unless the config says another\n",
                   m->learning_rate);
    }
    return str_ok(out);
}

static const cli_topic topics[] = {
    {"tour", "from a model and data to a merged model, in ten lines", tour, NULL},
    {"formats", "records of training data: each form, and what is trained on", formats,
     format_name},
    {"methods", "methods of training: what each trains, when to take it, its keys", methods,
     method_name},
    {"eval", "tasks of evaluations: a record each, metrics", tasks, task_name},
    {"gates", "bounds of metrics, for CI", gates, NULL},
    {"compress", "quantisers and pruners, each with its keys", cli_compress_print,
     cli_compress_name},
    {"rewards", "what completions are worth: each reward with its keys", rewards, reward_name},
    {"templates", "chat templates by name, and what they print", templates, template_name},
    {"exit-codes", "what the program ends with", exit_codes, NULL},
    {"paths", "what is a path, and what a relative one starts from", paths, NULL},
};

const cli_topic *cli_topic_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(topics) ? &topics[i] : NULL;
}

ft_status cli_help_topic(str_buf *out, const char *of, const char *word, int *found, arena *mem)
{
    *found = 0;
    for (size_t i = 0; i < FT_COUNT_OF(topics); i++) {
        const cli_topic *t = &topics[i];
        bool all = !of && strcmp(t->name, word) == 0, one = false;
        if (of && strcmp(t->name, of) != 0) continue;
        for (int k = 0; !all && t->entry && t->entry(k); k++)
            one = one || strcmp(t->entry(k), word) == 0;
        if (!all && !one) continue;
        if (out->len > 0) str_addc(out, '\n');
        FT_TRY(t->print(out, all ? NULL : word, mem));
        ++*found;
    }
    return FT_OK;
}
