/* eval.c – `ft eval`: tasks and gates from a config or from flags, results as they come, the missed gates at the
 * end. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval_private.h"

static const eval_kind *const kinds[] = {&eval_perplexity, &eval_multiple_choice, &eval_generate};

typedef struct eval_cfg {
    const char *model, *adapter;
    const cJSON *tasks, *gates;
} eval_cfg;

static const cfg_field model_fields[] = {
    {.key = "path", .type = CFG_PATH, .offset = 0, .help = "Hugging Face folder or .gguf"},
    CFG_END};
#define AT(field) offsetof(eval_cfg, field)
static const cfg_field fields[] = {
    {.key = "model",
     .type = CFG_TABLE,
     .offset = AT(model),
     .sub = model_fields,
     .help = "the model"},
    {.key = "adapter", .type = CFG_PATH, .offset = AT(adapter), .help = "PEFT folder"},
    {.key = "tasks",
     .type = CFG_JSON,
     .offset = AT(tasks),
     .required = true,
     .help = "list of tasks: {name, type, data, …}"},
    {.key = "gates",
     .type = CFG_JSON,
     .offset = AT(gates),
     .help = "object: \"TASK.METRIC\" -> {min, max}; a missed one is exit 81"},
    CFG_END};

typedef struct gate {
    const char *key;
    int task;
    const char *metric;
    double min, max;
} gate;

typedef struct evaluation {
    cfg_doc doc;
    eval_cfg cfg;
    eval_task *task;
    int n_task;
    gate *gate;
    int n_gate;
    arena *mem;
} evaluation;

/* --- results of a task -------------------------------------------------------------------------------------- */

void eval_add(eval_task *task, const char *name, double value)
{
    if (task->n_metric < EVAL_MAX_METRICS)
        task->metric[task->n_metric++] = (eval_metric){.name = name, .value = value};
}

void eval_count(eval_task *task, const char *name, int64_t value)
{
    eval_add(task, name, (double)value);
    task->metric[task->n_metric - 1].whole = true;
}

static ft_status one_line(const eval_task *task, line_reader *lines, const char *text, size_t len,
                          eval_line each, void *ctx, int64_t index)
{
    js_doc d;
    FT_TRY(lines_record(lines, text, len, ""));
    FT_TRY(js_parse(&d, text, len, task->data, lines_number(lines), JS_BIG_NUMBERS, FT_EDATA));
    ft_status rc = cJSON_IsObject(d.root)
                       ? each(ctx, &d, index)
                       : js_fail(&d, d.root, FT_EDATA, NULL, "must be an object");
    js_close(&d);
    return rc;
}

ft_status eval_lines(const eval_task *task, eval_line each, void *ctx)
{
    line_reader *lines;
    const char *text;
    size_t len;
    int64_t n = 0;
    ft_status rc = FT_OK;
    FT_TRY(lines_open(&lines, task->data));
    while (task->limit == 0 || n < task->limit) {
        rc = lines_next_filled(lines, &text, &len);
        if (rc == FT_OK) rc = one_line(task, lines, text, len, each, ctx, n++);
        if (rc == FT_OK) rc = tool_go_on();
        if (rc != FT_OK) break;
    }
    lines_close(lines);
    if (rc == FT_END) rc = FT_OK;
    if (rc == FT_OK && n == 0) rc = ft_fail(FT_EDATA, "%s: holds no records", ft_shows(task->data));
    return rc;
}

/* --- the config ----------------------------------------------------------------------------------------------- */

static void read_task(evaluation *e, const cJSON *node, eval_task *task)
{
    static const char *names[FT_COUNT_OF(kinds) + 1];
    const cJSON *type = js_get(node, "type");
    if (!cJSON_IsObject(node)) {
        cfg_fail(&e->doc, node, "tasks", "each task must be an object");
        return;
    }
    task->node = node;
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++) {
        names[i] = kinds[i]->name;
        if (cJSON_IsString(type) && strcmp(type->valuestring, kinds[i]->name) == 0)
            task->kind = kinds[i];
    }
    if (!task->kind) {
        const char *near = cJSON_IsString(type) ? cfg_nearest(type->valuestring, names) : NULL;
        cfg_fail(&e->doc, type ? type : node, "tasks.type",
                 "must be one of perplexity, multiple_choice, generate%s%s%s",
                 near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        return;
    }
    cfg_read(&e->doc, node, "tasks", task->kind->fields, task, NULL);
    if (!task->name) task->name = task->kind->name;
}

static ft_status read_tasks(evaluation *e)
{
    const cJSON *node;
    int n = cJSON_IsArray(e->cfg.tasks) ? cJSON_GetArraySize(e->cfg.tasks) : 0;
    if (!e->cfg.tasks) return FT_OK; /* missing: recorded already */
    if (n == 0) {
        cfg_fail(&e->doc, e->cfg.tasks, "tasks", "must be a list of at least one task");
        return FT_OK;
    }
    e->task = arena_get(e->mem, (size_t)n * sizeof *e->task);
    if (!e->task) return FT_EMEM;
    cJSON_ArrayForEach(node, e->cfg.tasks)
    {
        eval_task *task = &e->task[e->n_task];
        read_task(e, node, task);
        for (int i = 0; task->name && i < e->n_task; i++)
            if (e->task[i].name && strcmp(e->task[i].name, task->name) == 0)
                cfg_fail(&e->doc, node, "tasks.name", "\"%s\" is the name of another task already",
                         ft_shows(task->name));
        e->n_task++;
    }
    return FT_OK;
}

static bool read_bound(evaluation *e, const cJSON *node, const char *key, double def, double *out)
{
    const cJSON *v = js_get(node, key);
    *out = v && cJSON_IsNumber(v) ? v->valuedouble : def;
    if (v && !cJSON_IsNumber(v)) cfg_fail(&e->doc, v, key, "must be a number");
    return v != NULL;
}

static const char *metric_of(const eval_task *task, const char *name)
{
    for (int i = 0; task->kind && task->kind->metrics[i]; i++)
        if (strcmp(task->kind->metrics[i], name) == 0) return task->kind->metrics[i];
    return NULL;
}

static void read_gate(evaluation *e, const cJSON *node, gate *g)
{
    const char *dot = strrchr(node->string, '.');
    const cJSON *k;
    *g = (gate){.key = node->string, .task = -1};
    for (int i = 0; dot && i < e->n_task; i++) {
        const char *name = e->task[i].name;
        size_t n = (size_t)(dot - node->string);
        if (name && strlen(name) == n && memcmp(name, node->string, n) == 0) g->task = i;
    }
    if (g->task < 0) {
        cfg_fail(&e->doc, node, "gates", "\"%s\": no such task; a gate is named TASK.METRIC",
                 ft_shows(node->string));
        return;
    }
    if (!e->task[g->task].kind) return;
    g->metric = metric_of(&e->task[g->task], dot + 1);
    if (!g->metric) {
        const char *near = cfg_nearest(dot + 1, e->task[g->task].kind->metrics);
        cfg_fail(&e->doc, node, "gates", "\"%s\": a %s task has no such result%s%s%s",
                 ft_shows(node->string), e->task[g->task].kind->name,
                 near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    }
    bool low = read_bound(e, node, "min", -HUGE_VAL, &g->min);
    bool high = read_bound(e, node, "max", HUGE_VAL, &g->max);
    cJSON_ArrayForEach(k, node)
    {
        if (strcmp(k->string, "min") != 0 && strcmp(k->string, "max") != 0)
            cfg_fail(&e->doc, k, ft_shows(k->string), "unknown key; a gate has min and max");
    }
    if (!low && !high) cfg_fail(&e->doc, node, "gates", "a gate needs min, max or both");
}

static ft_status read_gates(evaluation *e)
{
    const cJSON *node;
    if (!e->cfg.gates || cJSON_IsNull(e->cfg.gates)) return FT_OK;
    if (!cJSON_IsObject(e->cfg.gates)) {
        cfg_fail(&e->doc, e->cfg.gates, "gates", "must be an object");
        return FT_OK;
    }
    e->gate = arena_get(e->mem, (size_t)(cJSON_GetArraySize(e->cfg.gates) + 1) * sizeof *e->gate);
    if (!e->gate) return FT_EMEM;
    cJSON_ArrayForEach(node, e->cfg.gates) read_gate(e, node, &e->gate[e->n_gate++]);
    return FT_OK;
}

static void flag_task(const tool_eval_options *opt, str_buf *s)
{
    const struct {
        const char *key, *value;
    } texts[] = {{"type", opt->task}, {"data", opt->data}, {"match", opt->match}};
    const struct {
        const char *key;
        int64_t value;
    } counts[] = {{"limit", opt->limit},
                  {"max_length", opt->max_length},
                  {"stride", opt->stride},
                  {"max_new_tokens", opt->max_new_tokens}};
    str_adds(s, "tasks=[{");
    for (size_t i = 0; i < FT_COUNT_OF(texts); i++) {
        if (!texts[i].value) continue;
        tool_json_key(s, texts[i].key);
        str_json(s, texts[i].value, strlen(texts[i].value));
    }
    for (size_t i = 0; i < FT_COUNT_OF(counts); i++) {
        if (counts[i].value == 0) continue;
        tool_json_key(s, counts[i].key);
        str_printf(s, "%lld", (long long)counts[i].value);
    }
    str_adds(s, "}]");
}

/* Flags are --set strings of the same keys; a task given by flags is the only one. */
static ft_status flag_sets(const tool_eval_options *opt, arena *mem, const char ***out, int *n)
{
    const char **sets = arena_get(mem, (size_t)(opt->n_sets + 4) * sizeof *sets);
    str_buf s = {0};
    const struct {
        const char *key, *value;
    } paths[] = {{"model.path", opt->model}, {"adapter", opt->adapter}};
    if (!sets) return FT_EMEM;
    *n = 0;
    if (opt->task) {
        flag_task(opt, &s);
        sets[(*n)++] = arena_str(mem, s.data ? s.data : "");
    }
    for (size_t i = 0; i < FT_COUNT_OF(paths); i++) {
        if (!paths[i].value) continue;
        str_clear(&s);
        str_printf(&s, "%s=", paths[i].key);
        str_json(&s, paths[i].value, strlen(paths[i].value));
        sets[(*n)++] = arena_str(mem, s.data ? s.data : "");
    }
    for (int i = 0; i < opt->n_sets; i++) sets[(*n)++] = opt->sets[i];
    ft_status rc = str_ok(&s);
    for (int i = 0; i < *n; i++)
        if (!sets[i]) rc = FT_EMEM;
    str_free(&s);
    *out = sets;
    return rc;
}

static ft_status read_config(evaluation *e, const tool_eval_options *opt)
{
    const char **sets;
    int n;
    FT_CHECK(opt->config || opt->task, FT_EUSAGE,
             "neither a config nor a task; use ft eval CONFIG, or --model M --task T --data F");
    FT_CHECK(opt->task || !(opt->data || opt->match || opt->limit || opt->max_length ||
                            opt->stride || opt->max_new_tokens),
             FT_EUSAGE, "--data and the other options of a task belong to --task");
    FT_CHECK(!opt->task || opt->data, FT_EUSAGE, "--task: needs --data FILE");
    FT_TRY(flag_sets(opt, e->mem, &sets, &n));
    FT_TRY(opt->config ? cfg_open(&e->doc, opt->config, sets, n, e->mem)
                       : cfg_open_empty(&e->doc, sets, n, e->mem));
    cfg_read(&e->doc, e->doc.js.root, "", fields, &e->cfg, NULL);
    FT_TRY(read_tasks(e));
    FT_TRY(read_gates(e));
    if (!e->cfg.model && !e->cfg.adapter)
        cfg_fail(&e->doc, e->doc.js.root, "model.path", "missing; which model is to be evaluated?");
    return cfg_done(&e->doc);
}

/* --- running ---------------------------------------------------------------------------------------------------- */

static ft_status put_task(const eval_task *task, bool json, const tool_sink *out)
{
    str_buf s = {0};
    if (json) {
        str_addc(&s, '{');
        tool_json_key(&s, "task");
        str_json(&s, task->name, strlen(task->name));
        tool_json_key(&s, "type");
        str_json(&s, task->kind->name, strlen(task->kind->name));
    } else {
        str_adds(&s, task->name);
    }
    for (int i = 0; i < task->n_metric; i++) {
        const eval_metric *m = &task->metric[i];
        if (json)
            tool_json_key(&s, m->name);
        else
            str_printf(&s, "  %s ", m->name);
        if (m->whole)
            str_printf(&s, "%lld", (long long)m->value);
        else if (json)
            tool_json_number(&s, m->value);
        else
            str_printf(&s, "%.6g", m->value);
    }
    str_adds(&s, json ? "}\n" : "\n");
    ft_status rc = tool_put(out, &s);
    str_free(&s);
    return rc;
}

static double metric_value(const eval_task *task, const char *name)
{
    for (int i = 0; i < task->n_metric; i++)
        if (strcmp(task->metric[i].name, name) == 0) return task->metric[i].value;
    return (double)NAN;
}

static ft_status check_gates(const evaluation *e)
{
    ft_status rc = FT_OK;
    for (int i = 0; i < e->n_gate; i++) {
        const gate *g = &e->gate[i];
        double v = metric_value(&e->task[g->task], g->metric);
        if (v >= g->min && v <= g->max) continue;
        bool low = !(v >= g->min);
        char bound[64];
        snprintf(bound, sizeof bound, "%s %.6g", low ? "below the minimum" : "above the maximum",
                 low ? g->min : g->max);
        rc = ft_fail_more(FT_EGATE, "gate %s: %.6g is %s", ft_shows(g->key), v, bound);
    }
    return rc;
}

static ft_status run_tasks(evaluation *e, const tool_eval_options *opt, const tool_sink *out)
{
    tool_model *t;
    for (int i = 0; i < e->n_task; i++) FT_TRY(io_data_exists(e->task[i].data));
    FT_TRY(tool_open(&t, e->cfg.model, e->cfg.adapter, true, opt->precision));
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && i < e->n_task; i++) {
        rc = e->task[i].kind->run(t, &e->task[i]);
        if (rc == FT_OK) rc = put_task(&e->task[i], opt->json, out);
    }
    tool_close(t);
    return rc == FT_OK ? check_gates(e) : rc;
}

ft_status tool_eval(const tool_eval_options *opt, const tool_sink *out)
{
    evaluation e = {0};
    FT_TRY(arena_open(&e.mem, "evaluation", (size_t)256 << 20));
    ft_status rc = read_config(&e, opt);
    if (rc == FT_OK) {
        ft_error_clear();
        rc = run_tasks(&e, opt, out);
    }
    cfg_close(&e.doc);
    arena_close(e.mem);
    return rc;
}
