/* eval_task.c – what the kinds of tasks share: results, the records of a file, the lines of the samples. */
#include <math.h>
#include <string.h>

#include "eval_private.h"

/* --- results ------------------------------------------------------------------------------------------------ */

ft_status eval_add(eval_task *task, const char *name, double value)
{
    eval_result *r = &task->result;
    if (r->n == r->cap) {
        int cap = r->cap ? 2 * r->cap : 8;
        eval_metric *more = arena_get(task->mem, (size_t)cap * sizeof *more);
        if (!more) return FT_EMEM;
        if (r->n > 0) memcpy(more, r->metric, (size_t)r->n * sizeof *more);
        r->metric = more;
        r->cap = cap;
    }
    r->metric[r->n++] = (eval_metric){.name = name, .value = value};
    return FT_OK;
}

ft_status eval_count(eval_task *task, const char *name, int64_t value)
{
    FT_TRY(eval_add(task, name, (double)value));
    task->result.metric[task->result.n - 1].whole = true;
    return FT_OK;
}

double eval_value(const eval_result *r, const char *name)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->metric[i].name, name) == 0) return r->metric[i].value;
    return (double)NAN;
}

double eval_standard_error(int64_t right, int64_t n)
{
    double p = (double)right / (double)n;
    return n > 1 ? sqrt(p * (1 - p) / (double)(n - 1)) : 0;
}

void eval_number_text(str_buf *s, const eval_metric *m)
{
    if (m->whole)
        str_printf(s, "%lld", (long long)m->value);
    else
        str_printf(s, "%.6g", m->value);
}

/* --- records ------------------------------------------------------------------------------------------------ */

const char *const eval_shapes[] = {"path", "source", "list of sources", NULL};

typedef struct counted {
    data_record each;
    void *ctx;
    int64_t n;
} counted;

static ft_status count_record(void *ctx, const js_doc *d, const cJSON *rec, int64_t line)
{
    counted *c = ctx;
    c->n++;
    FT_TRY(c->each(c->ctx, d, rec, line));
    return ft_stop();
}

ft_status eval_records(const eval_task *task, data_record each, void *ctx)
{
    counted c = {.each = each, .ctx = ctx};
    FT_TRY(data_records(task->doc, js_get(task->node, "data"), "tasks.data", task->kind->json,
                        task->limit, count_record, &c));
    FT_CHECK(c.n > 0, FT_EDATA, "task %s: its data holds no records", ft_shows(task->name));
    return FT_OK;
}

/* --- samples ------------------------------------------------------------------------------------------------ */

void eval_sample_open(str_buf *s, const eval_task *task, int64_t line, const char *id)
{
    str_clear(s);
    str_addc(s, '{');
    tool_json_key(s, "task");
    str_json(s, task->name, strlen(task->name));
    tool_json_key(s, "line");
    if (line > 0)
        str_printf(s, "%lld", (long long)line);
    else
        str_adds(s, "null");
    if (!id || !*id) return;
    tool_json_key(s, "id");
    str_adds(s, id);
}

ft_status eval_sample_put(const eval_task *task, str_buf *s)
{
    str_adds(s, "}\n");
    FT_TRY(str_ok(s));
    FT_TRY(file_out_write(task->samples, s->data, s->len));
    str_clear(s);
    return FT_OK;
}
