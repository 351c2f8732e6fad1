/* eval_config.c – an evaluation as it is asked for: the config, and the flags, which are --set strings of the same keys. */
#include <string.h>

#include "eval_private.h"

#define KINDS(X)                                                                                   \
    X(perplexity)                                                                                  \
    X(loss)                                                                                        \
    X(multiple_choice)                                                                             \
    X(generate) X(hellaswag) X(winogrande) X(piqa) X(arc) X(mmlu) X(lambada) X(gsm8k)
#define KIND(name) &eval_##name,
static const eval_kind *const kinds[] = {KINDS(KIND)};
#define NAME(name) #name,
const char *const tool_task_names[] = {KINDS(NAME) NULL};

bool tool_task_at(int i, tool_task *out)
{
    if (i < 0 || i >= (int)FT_COUNT_OF(kinds)) return false;
    const eval_kind *k = kinds[i];
    *out = (tool_task){.name = k->name,
                       .help = k->help,
                       .example = k->example,
                       .metrics = k->metrics,
                       .of_source = k->of_source,
                       .fields = k->fields};
    return true;
}

static const cfg_field model_fields[] = {
    {.key = "path", .type = CFG_PATH, .offset = 0, .help = "Hugging Face folder or .gguf"},
    CFG_END};
static const char *const adapter_shapes[] = {"path", "list of paths", NULL};
#define AT(field) offsetof(eval_config, field)
const cfg_field tool_eval_fields[] = {
    {.key = "model",
     .type = CFG_TABLE,
     .offset = AT(model),
     .sub = model_fields,
     .help = "the model"},
    {.key = "adapter",
     .type = CFG_JSON,
     .offset = AT(adapters),
     .choices = adapter_shapes,
     .help = "PEFT folder, or a list of them that add up; \"DIR=SCALE\" scales what it changes"},
    {.key = "baseline",
     .type = CFG_PATH,
     .offset = AT(baseline),
     .help = "what gates compare with, folder or .gguf; default: the model without its adapter"},
    {.key = "tasks",
     .type = CFG_JSON,
     .offset = AT(tasks),
     .required = true,
     .help = "list of tasks: {name, type, data, …}"},
    {.key = "samples",
     .type = CFG_PATH,
     .offset = AT(samples),
     .help = "file for a JSON line of every record with its result"},
    {.key = "gates",
     .type = CFG_JSON,
     .offset = AT(gates),
     .help = "object: \"TASK.METRIC\" -> bounds; a missed one is exit 81"},
    CFG_END};

/* --- tasks -------------------------------------------------------------------------------------------------- */

static void unknown_type(eval_config *e, const cJSON *node)
{
    const cJSON *type = js_get(node, "type");
    str_buf known = {0};
    for (size_t i = 0; tool_task_names[i]; i++)
        str_printf(&known, "%s%s", i ? ", " : "", tool_task_names[i]);
    const char *near =
        cJSON_IsString(type) ? cfg_nearest(type->valuestring, tool_task_names) : NULL;
    cfg_fail(&e->doc, type ? type : node, "tasks.type", "must be one of %s%s%s%s",
             known.data ? known.data : "", near ? "; did you mean \"" : "", near ? near : "",
             near ? "\"?" : "");
    str_free(&known);
}

static ft_status read_task(eval_config *e, const cJSON *node, eval_task *task)
{
    const cJSON *type = js_get(node, "type");
    if (!cJSON_IsObject(node)) {
        cfg_fail(&e->doc, node, "tasks", "each task must be an object");
        return FT_OK;
    }
    *task = (eval_task){.node = node, .doc = &e->doc, .mem = e->mem};
    for (size_t i = 0; i < FT_COUNT_OF(kinds) && cJSON_IsString(type); i++)
        if (strcmp(type->valuestring, kinds[i]->name) == 0) task->kind = kinds[i];
    if (!task->kind) {
        unknown_type(e, node);
        return FT_OK;
    }
    FT_TRY(cfg_read(&e->doc, node, "tasks", task->kind->fields, task, e->also));
    if (!task->name) task->name = task->kind->name;
    task->metrics = task->kind->metrics;
    return task->kind->check ? task->kind->check(task) : FT_OK;
}

ft_status eval_tasks_read(eval_config *e)
{
    const cJSON *node;
    int n = cJSON_IsArray(e->tasks) ? cJSON_GetArraySize(e->tasks) : 0;
    if (!e->tasks) return FT_OK; /* missing: recorded already */
    if (n == 0) {
        cfg_fail(&e->doc, e->tasks, "tasks", "must be a list of at least one task");
        return FT_OK;
    }
    e->task = arena_get(e->mem, (size_t)n * sizeof *e->task);
    if (!e->task) return FT_EMEM;
    cJSON_ArrayForEach(node, e->tasks)
    {
        eval_task *task = &e->task[e->n_task];
        FT_TRY(read_task(e, node, task));
        for (int i = 0; task->name && i < e->n_task; i++)
            if (e->task[i].name && strcmp(e->task[i].name, task->name) == 0)
                cfg_fail(&e->doc, node, "tasks.name", "\"%s\" is the name of another task already",
                         ft_shows(task->name));
        e->n_task++;
    }
    return FT_OK;
}

/* --- flags -------------------------------------------------------------------------------------------------- */

enum { COUNTS = 4 };
typedef struct count {
    const char *key, *flag;
    int64_t value;
} count;

static void counts_of(const tool_eval_options *opt, count counts[COUNTS])
{
    counts[0] = (count){"limit", "--limit", opt->limit};
    counts[1] = (count){"max_length", "--max-length", opt->max_length};
    counts[2] = (count){"stride", "--stride", opt->stride};
    counts[3] = (count){"max_new_tokens", "--max-new-tokens", opt->max_new_tokens};
}

static bool has_field(const eval_kind *k, const char *key)
{
    const cfg_field *r = k->fields;
    while (r->key && strcmp(r->key, key) != 0) r++;
    return r->key != NULL;
}

/* A task by flags: its type, and what it has a key for. */
static ft_status check_flags(const tool_eval_options *opt)
{
    const eval_kind *kind = NULL;
    count counts[COUNTS];
    counts_of(opt, counts);
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++)
        if (strcmp(opt->task, kinds[i]->name) == 0) kind = kinds[i];
    const char *near = cfg_nearest(opt->task, tool_task_names);
    FT_CHECK(kind || !near, FT_EUSAGE, "--task: \"%s\" is unknown; did you mean \"%s\"?",
             ft_shows(opt->task), near);
    FT_CHECK(kind, FT_EUSAGE, "--task: \"%s\" is unknown; ft help eval lists the types",
             ft_shows(opt->task));
    for (int i = 0; i < COUNTS; i++)
        FT_CHECK(counts[i].value == 0 || has_field(kind, counts[i].key), FT_EUSAGE,
                 "%s: a %s task has no such key", counts[i].flag, kind->name);
    FT_CHECK(!opt->match || has_field(kind, "match"), FT_EUSAGE,
             "--match: a %s task has no such key", kind->name);
    return FT_OK;
}

static void flag_task(const tool_eval_options *opt, str_buf *s)
{
    const struct {
        const char *key, *value;
    } texts[] = {{"type", opt->task}, {"data", opt->data}, {"match", opt->match}};
    count counts[COUNTS];
    counts_of(opt, counts);
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
    const struct {
        const char *key, *value;
    } paths[] = {
        {"model.path", opt->model}, {"baseline", opt->baseline}, {"samples", opt->samples}};
    const char **sets =
        arena_get(mem, ((size_t)opt->n_sets + 2 + FT_COUNT_OF(paths)) * sizeof *sets);
    str_buf s = {0};
    if (!sets) return FT_EMEM;
    *n = 0;
    if (opt->task) {
        flag_task(opt, &s);
        sets[(*n)++] = arena_str(mem, s.data ? s.data : "");
    }
    if (opt->n_adapter > 0) {
        str_clear(&s);
        for (int i = 0; i < opt->n_adapter; i++) {
            str_adds(&s, i ? "," : "adapter=[");
            str_json(&s, opt->adapter[i], strlen(opt->adapter[i]));
        }
        str_addc(&s, ']');
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

/* Paths are relative as all of a config are. */
static ft_status read_adapters(eval_config *e)
{
    const cJSON *list = e->adapters, *v = cJSON_IsArray(list) ? list->child : list;
    if (!list || cJSON_IsNull(list)) return FT_OK;
    e->adapter = arena_get(e->mem, ((size_t)cJSON_GetArraySize(list) + 1) * sizeof *e->adapter);
    if (!e->adapter) return FT_EMEM;
    for (; v; v = cJSON_IsArray(list) ? v->next : NULL) {
        pe_use *use = &e->adapter[e->n_adapter];
        if (!cJSON_IsString(v)) {
            cfg_fail(&e->doc, v, "adapter", "must be a folder, or a list of them");
            continue;
        }
        ft_status rc = tool_adapter_use(v->valuestring, e->mem, use);
        if (rc == FT_EUSAGE) {
            ft_error_clear();
            cfg_fail(&e->doc, v, "adapter", "must be DIR or DIR=SCALE, the scale a finite number");
            continue;
        }
        FT_TRY(rc);
        use->dir = cfg_path(&e->doc, v, use->dir);
        if (!use->dir) return FT_EMEM;
        e->n_adapter++;
    }
    return FT_OK;
}

static bool renders(const eval_config *e)
{
    for (int i = 0; i < e->n_task; i++)
        for (const cfg_field *r = e->task[i].kind ? e->task[i].kind->fields : NULL; r && r->key;
             r++)
            if (strcmp(r->key, "chat_template") == 0) return true;
    return false;
}

static bool compares(const eval_config *e, const eval_task *task)
{
    for (int i = 0; i < e->n_gate; i++)
        if (e->gate[i].task == task && e->gate[i].bound->relative) return true;
    return false;
}

/* It comes once, and each task reads its data anew, for each model. */
static void check_input(eval_config *e)
{
    int n = 0;
    for (int i = 0; i < e->n_task; i++)
        n += data_reads_input(e->task[i].sources) * (e->task[i].on_base ? 2 : 1);
    if (n > 1)
        cfg_fail(&e->doc, e->tasks, "tasks.data",
                 "standard input (\"-\") can be read once, by one task on one model; give a file");
}

/* Which tasks run on the untuned model too. One that is named without a gate that asks for it is there to be seen. */
static void choose_base(eval_config *e)
{
    bool any = false;
    for (int i = 0; i < e->n_task; i++) {
        e->task[i].on_base = compares(e, &e->task[i]);
        any = any || e->task[i].on_base;
    }
    for (int i = 0; i < e->n_task && !any && e->baseline; i++) e->task[i].on_base = true;
    if (any && e->n_adapter == 0 && !e->baseline)
        cfg_fail(&e->doc, e->gates, "gates",
                 "max_increase, min_gain and max_ratio compare with the untuned model, and there "
                 "is neither an adapter to leave out nor a baseline; give \"baseline\" a model");
}

ft_status eval_config_read(eval_config *e, const tool_eval_options *opt)
{
    const char **sets;
    int n;
    FT_CHECK(opt->config || opt->task, FT_EUSAGE,
             "neither a config nor a task; use ft eval CONFIG, or --model M --task T --data F");
    FT_CHECK(opt->task || !(opt->data || opt->match || opt->limit || opt->max_length ||
                            opt->stride || opt->max_new_tokens),
             FT_EUSAGE, "--data and the other options of a task belong to --task");
    FT_CHECK(!opt->task || opt->data, FT_EUSAGE, "--task: needs --data FILE");
    if (opt->task) FT_TRY(check_flags(opt));
    FT_TRY(flag_sets(opt, e->mem, &sets, &n));
    FT_TRY(opt->config ? cfg_open(&e->doc, opt->config, sets, n, e->mem)
                       : cfg_open_empty(&e->doc, sets, n, e->mem));
    FT_TRY(cfg_read(&e->doc, e->doc.js.root, "", tool_eval_fields, e, NULL));
    FT_TRY(read_adapters(e));
    FT_TRY(eval_tasks_read(e));
    FT_TRY(eval_gates_read(e));
    choose_base(e);
    check_input(e);
    if (!e->model && !e->adapters)
        cfg_fail(&e->doc, e->doc.js.root, "model.path", "missing; which model is to be evaluated?");
    FT_TRY(cfg_done(&e->doc));
    FT_CHECK(!opt->chat_template || renders(e), FT_EUSAGE,
             "--chat-template: no task renders messages; loss and generate do");
    return FT_OK;
}
