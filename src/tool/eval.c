/* eval.c – `ft eval`: the tasks of an evaluation on a model, and on the untuned one where gates ask for it; results as they
 * come, the missed gates at the end. */
#include <math.h>
#include <string.h>

#include "eval_private.h"

typedef struct outputs {
    file_out *samples, *junit, *report; /* NULL: not wanted */
} outputs;

/* The path of a task's data, where it is one; NULL. */
static const char *data_path_of(const eval_task *task, const cJSON *from)
{
    if (!from) return task->data;
    if (cJSON_IsObject(from)) from = js_get(from, "path");
    return cJSON_IsString(from) ? cfg_path(task->doc, from, from->valuestring) : NULL;
}

/* A file that is not there is told before the model is opened; what else a path may mean, when it is read. */
static ft_status look_for(const eval_task *task)
{
    const char *path = data_path_of(task, task->sources);
    path_kind kind;
    FT_CHECK(task->sources || !data_reads_input(js_get(task->node, "data")), FT_ECONFIG,
             "task %s: data: - is JSON lines from standard input, and perplexity is of a text: "
             "write it to a file, and name that",
             ft_shows(task->name));
    if (!path || strpbrk(path, "*?[") || data_reads_input(task->sources)) return FT_OK;
    FT_TRY(path_look(path, &kind));
    return kind == PATH_FOLDER ? FT_OK : io_data_exists(path);
}

/* --- the files of results --------------------------------------------------------------------------------------- */

static void add_input(io_input *in, int *n, const char *what, const char *path)
{
    if (path) in[(*n)++] = (io_input){.what = what, .path = path};
}

/* All that is read, a list of sources by each of its files. */
static ft_status list_inputs(eval_config *e, const tool_eval_options *opt, io_input **list, int *n)
{
    int room = 4 + e->n_adapter;
    for (int i = 0; i < e->n_task; i++) {
        const cJSON *s = e->task[i].sources;
        room += 2 + (cJSON_IsArray(s) ? cJSON_GetArraySize(s) : 1);
    }
    io_input *in = *list = arena_get(e->mem, (size_t)room * sizeof *in);
    *n = 0;
    if (!in) return FT_EMEM;
    add_input(in, n, "the config", opt->config);
    add_input(in, n, "the model", e->model);
    add_input(in, n, "the baseline", e->baseline);
    add_input(in, n, "the chat template", opt->chat_template);
    for (int i = 0; i < e->n_adapter; i++) add_input(in, n, "the adapter", e->adapter[i].dir);
    for (int i = 0; i < e->n_task; i++) {
        const eval_task *task = &e->task[i];
        const char *what = arena_printf(e->mem, "the data of task %s", ft_shows(task->name));
        if (!what) return FT_EMEM;
        const cJSON *source, *all = task->sources;
        add_input(in, n, what, data_path_of(task, all));
        add_input(in, n, "the chat template", task->chat_template);
        if (cJSON_IsArray(all))
            cJSON_ArrayForEach(source, all) add_input(in, n, what, data_path_of(task, source));
    }
    return FT_OK;
}

/* Each of them may stand there from an earlier evaluation; nothing else is written over. */
static const struct {
    const char *what, *heads[3];
} kinds[] = {{"--samples", {"{\"task\":\"*\",\"line\":"}},
             {"--junit",
              {"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
               "  <testsuite name=\"ft eval\" tests=\""}},
             {"--report", {"# ft eval\n\nModel: ", "# ft eval\n\nAdapter: "}}};

static ft_status open_outputs(eval_config *e, const tool_eval_options *opt, outputs *o)
{
    const char *path[] = {e->samples, opt->junit, opt->report};
    file_out **out[] = {&o->samples, &o->junit, &o->report};
    io_input *in;
    int n;
    FT_TRY(list_inputs(e, opt, &in, &n));
    for (size_t i = 0; i < FT_COUNT_OF(path); i++)
        for (size_t k = 0; k < i; k++) {
            bool same = false;
            if (path[i] && path[k]) FT_TRY(io_same_place(path[i], path[k], &same));
            FT_CHECK(!same, FT_EUSAGE,
                     "--samples, --junit and --report: two of them are the same file, %s",
                     ft_shows(path[i]));
        }
    for (size_t i = 0; i < FT_COUNT_OF(path); i++) {
        if (!path[i]) continue;
        FT_CHECK(path[i][0], FT_EUSAGE, "%s: an empty path", kinds[i].what);
        FT_TRY(io_out_check(path[i], in, n));
        FT_TRY(io_out_file(path[i], kinds[i].heads,
                           arena_printf(e->mem, "what %s writes", kinds[i].what)));
        FT_TRY(file_out_open(out[i], path[i]));
        file_out_keep(*out[i]);
    }
    return FT_OK;
}

static void abort_outputs(outputs *o)
{
    file_out_abort(o->samples);
    file_out_abort(o->junit);
    file_out_abort(o->report);
    *o = (outputs){0};
}

static ft_status commit(file_out **f, const str_buf *text)
{
    file_out *out = *f;
    if (!out) return FT_OK;
    if (text) FT_TRY(str_ok(text));
    if (text) FT_TRY(file_out_write(out, text->data, text->len));
    *f = NULL;
    return file_out_commit(out);
}

static ft_status commit_outputs(const eval_config *e, outputs *o)
{
    str_buf junit = {0}, report = {0};
    if (o->junit) eval_put_junit(e, &junit);
    if (o->report) eval_put_report(e, &report);
    ft_status rc = commit(&o->samples, NULL);
    if (rc == FT_OK) rc = commit(&o->junit, &junit);
    if (rc == FT_OK) rc = commit(&o->report, &report);
    str_free(&junit);
    str_free(&report);
    return rc;
}

/* --- running ------------------------------------------------------------------------------------------------ */

/* Do the tasks, or those for the untuned model, need a tokenizer? */
static bool need_tokenizer(const eval_config *e, bool base)
{
    for (int i = 0; i < e->n_task; i++)
        if ((e->task[i].on_base || !base) && !e->task[i].kind->ids) return true;
    return false;
}

/* Of tasks without a template of their own, that of the model. */
static ft_status run_task(tool_model *t, const tool_eval_options *opt, eval_task *task)
{
    const char *given = opt->chat_template ? opt->chat_template : task->chat_template;
    FT_TRY(tool_use_chat(t, given));
    return task->kind->run(t, task);
}

static ft_status run_base(eval_config *e, const tool_eval_options *opt)
{
    tool_model *t;
    bool any = false;
    for (int i = 0; i < e->n_task; i++) any = any || e->task[i].on_base;
    if (!any) return FT_OK;
    const char *path = e->baseline ? e->baseline : e->model;
    if (!path) FT_TRY(tool_adapter_base(e->adapter->dir, e->mem, &path));
    FT_TRY(tool_open(&t, path, NULL, need_tokenizer(e, true), opt->precision));
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && i < e->n_task; i++) {
        eval_task *task = &e->task[i];
        if (!task->on_base) continue;
        rc = run_task(t, opt, task);
        if (rc == FT_OK) rc = file_inputs_check();
        task->base = task->result;
        task->result = (eval_result){0};
    }
    tool_close(t);
    return rc;
}

/* An adapter that was measured may be folded, where it can be. */
static ft_status tell_next(const eval_config *e, const tool_model *t, str_buf *next)
{
    if (!next || !t->adapter || e->n_adapter != 1 || !t->adapter->method->fold) return FT_OK;
    str_adds(next, "ft merge-adapter ");
    str_shell(next, e->adapter->dir, true);
    str_adds(next, " --out PATH");
    return str_ok(next);
}

static ft_status run_model(eval_config *e, const tool_eval_options *opt, file_out *samples,
                           const tool_sink *out)
{
    tool_model *t;
    str_buf line = {0};
    FT_TRY(tool_open_adapters(&t, e->model, e->adapter, e->n_adapter, need_tokenizer(e, false),
                              opt->precision));
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && i < e->n_task; i++) {
        eval_task *task = &e->task[i];
        double began = ft_seconds();
        task->samples = samples;
        rc = run_task(t, opt, task);
        if (rc == FT_OK) rc = file_inputs_check();
        task->seconds = ft_seconds() - began;
        if (rc != FT_OK) break;
        eval_gates_judge(e); /* those of the tasks that are done */
        str_clear(&line);
        eval_put_line(e, task, opt->json, &line);
        if (opt->json && i + 1 == e->n_task) tool_json_memory(&line, &t->plan);
        rc = tool_put(out, &line);
    }
    if (rc == FT_OK) rc = tell_next(e, t, opt->next);
    str_free(&line);
    tool_close(t);
    return rc;
}

static ft_status tell_missed(const eval_config *e)
{
    ft_status rc = FT_OK;
    for (int i = 0; i < e->n_gate; i++) {
        str_buf what = {0};
        if (e->gate[i].pass) continue;
        eval_gate_missed(&what, &e->gate[i]);
        rc = ft_fail_more(FT_EGATE, "gate %s: %s", ft_shows(e->gate[i].key),
                          what.data ? what.data : "");
        str_free(&what);
    }
    return rc;
}

static ft_status run_tasks(eval_config *e, const tool_eval_options *opt, const tool_sink *out)
{
    outputs o = {0};
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && i < e->n_task; i++) rc = look_for(&e->task[i]);
    if (rc == FT_OK) rc = open_outputs(e, opt, &o);
    if (rc == FT_OK) rc = run_base(e, opt);
    if (rc == FT_OK) rc = run_model(e, opt, o.samples, out);
    if (rc == FT_OK) rc = commit_outputs(e, &o);
    abort_outputs(&o);
    return rc == FT_OK ? tell_missed(e) : rc;
}

ft_status tool_eval(const tool_eval_options *opt, const tool_sink *out)
{
    eval_config e = {0};
    FT_TRY(arena_open(&e.mem, "evaluation", (size_t)256 << 20));
    ft_status rc = eval_config_read(&e, opt);
    if (rc == FT_OK) {
        ft_error_clear();
        rc = run_tasks(&e, opt, out);
    }
    if (e.doc.sets) cfg_close(&e.doc);
    arena_close(e.mem);
    return rc;
}
