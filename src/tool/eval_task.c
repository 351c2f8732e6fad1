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

static ft_status one_line(const eval_task *task, line_reader *lines, const char *text, size_t len,
                          eval_record each, void *ctx)
{
    js_doc d;
    int64_t line = lines_number(lines);
    FT_TRY(lines_record(lines, text, len, ""));
    FT_TRY(js_parse(&d, text, len, task->data, line, JS_BIG_NUMBERS, FT_EDATA));
    ft_status rc = cJSON_IsObject(d.root)
                       ? each(ctx, &d, d.root, line)
                       : js_fail(&d, d.root, FT_EDATA, NULL, "must be an object");
    js_close(&d);
    return rc;
}

ft_status eval_records(const eval_task *task, eval_record each, void *ctx)
{
    line_reader *lines;
    const char *text;
    size_t len;
    int64_t n = 0;
    ft_status rc = FT_OK;
    FT_TRY(lines_open(&lines, task->data));
    for (; task->limit == 0 || n < task->limit; n++) {
        rc = lines_next_filled(lines, &text, &len);
        if (rc == FT_OK) rc = one_line(task, lines, text, len, each, ctx);
        if (rc == FT_OK) rc = tool_go_on();
        if (rc != FT_OK) break;
    }
    lines_close(lines);
    if (rc == FT_END) rc = FT_OK;
    if (rc == FT_OK && n == 0) rc = ft_fail(FT_EDATA, "%s: holds no records", ft_shows(task->data));
    return rc;
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
