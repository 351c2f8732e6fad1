/* eval_report.c – results as a line, as JUnit's XML, and as a table for GitHub. What names of tasks, sources and files hold
 * is text in all of them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval_private.h"

/* --- a line ------------------------------------------------------------------------------------------------- */

static void put_number(str_buf *s, const eval_metric *m)
{
    if (m->whole)
        str_printf(s, "%lld", (long long)m->value);
    else
        tool_json_number(s, m->value);
}

static void put_gates(const eval_config *e, const eval_task *task, str_buf *s)
{
    bool any = false;
    for (int i = 0; i < e->n_gate; i++) {
        const eval_gate *g = &e->gate[i];
        if (g->task != task) continue;
        if (!any) tool_json_key(s, "gates");
        str_adds(s, any ? ",{" : "[{");
        any = true;
        tool_json_key(s, "metric");
        str_json(s, g->metric, strlen(g->metric));
        tool_json_key(s, "bound");
        str_json(s, g->bound->name, strlen(g->bound->name));
        tool_json_key(s, "limit");
        str_double(s, g->limit);
        tool_json_key(s, "value");
        tool_json_number(s, g->value);
        tool_json_key(s, "base");
        tool_json_number(s, g->base);
        tool_json_key(s, "pass");
        str_adds(s, g->pass ? "true}" : "false}");
    }
    if (any) str_addc(s, ']');
}

static void put_json(const eval_config *e, const eval_task *task, str_buf *s)
{
    str_addc(s, '{');
    tool_json_key(s, "task");
    str_json(s, task->name, strlen(task->name));
    tool_json_key(s, "type");
    str_json(s, task->kind->name, strlen(task->kind->name));
    for (int i = 0; i < task->result.n; i++) {
        tool_json_key(s, task->result.metric[i].name);
        put_number(s, &task->result.metric[i]);
    }
    for (int i = 0; i < task->base.n; i++) {
        if (i == 0) {
            tool_json_key(s, "base");
            str_addc(s, '{');
        }
        tool_json_key(s, task->base.metric[i].name);
        put_number(s, &task->base.metric[i]);
        if (i + 1 == task->base.n) str_addc(s, '}');
    }
    put_gates(e, task, s);
    str_adds(s, "}\n");
}

void eval_put_line(const eval_config *e, const eval_task *task, bool json, str_buf *out)
{
    if (json) {
        put_json(e, task, out);
        return;
    }
    str_adds(out, ft_shows(task->name));
    for (int i = 0; i < task->result.n; i++) {
        const eval_metric *m = &task->result.metric[i];
        str_printf(out, "  %s ", ft_shows(m->name));
        eval_number_text(out, m);
        for (int k = 0; k < task->base.n; k++) {
            if (strcmp(task->base.metric[k].name, m->name) != 0) continue;
            str_adds(out, " (base ");
            eval_number_text(out, &task->base.metric[k]);
            str_addc(out, ')');
        }
    }
    str_addc(out, '\n');
}

/* --- JUnit -------------------------------------------------------------------------------------------------- */

/* An attribute's text. What XML 1.0 has no place for becomes U+FFFD. */
static void put_xml(str_buf *s, const char *text)
{
    static const struct {
        int32_t c;
        const char *as;
    } rows[] = {{'&', "&amp;"},  {'<', "&lt;"},  {'>', "&gt;"},   {'"', "&quot;"},
                {'\'', "&#39;"}, {'\t', "&#9;"}, {'\n', "&#10;"}, {'\r', "&#13;"}};
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        int32_t c;
        size_t k = (size_t)utf8_next(text + i, n - i, &c), row = 0;
        while (row < FT_COUNT_OF(rows) && rows[row].c != c) row++;
        if (row < FT_COUNT_OF(rows))
            str_adds(s, rows[row].as);
        else if (c < 0x20 || c == 0xfffe || c == 0xffff)
            str_adds(s, "\xef\xbf\xbd");
        else
            str_add(s, text + i, k);
        i += k;
    }
}

/* Seconds are those of the task, told with its first case. */
static void put_case(str_buf *s, const char *task, const char *name, double seconds,
                     const str_buf *failure)
{
    str_adds(s, "    <testcase classname=\"");
    put_xml(s, task);
    str_adds(s, "\" name=\"");
    put_xml(s, name);
    str_printf(s, "\" time=\"%.3f\"", seconds);
    if (!failure) {
        str_adds(s, "/>\n");
        return;
    }
    str_adds(s, ">\n      <failure message=\"");
    put_xml(s, failure->data ? failure->data : "");
    str_adds(s, "\"/>\n    </testcase>\n");
}

static void put_cases(const eval_config *e, const eval_task *task, str_buf *s)
{
    double seconds = task->seconds;
    str_buf name = {0}, failure = {0};
    for (int i = 0; i < e->n_gate; i++) {
        const eval_gate *g = &e->gate[i];
        if (g->task != task) continue;
        str_clear(&name);
        str_clear(&failure);
        str_printf(&name, "%s %s ", g->metric, g->bound->name);
        str_double(&name, g->limit);
        if (!g->pass) eval_gate_missed(&failure, g);
        put_case(s, task->name, name.data ? name.data : "", seconds, g->pass ? NULL : &failure);
        seconds = 0;
    }
    if (name.len == 0) put_case(s, task->name, task->kind->name, seconds, NULL);
    s->failed = s->failed || name.failed || failure.failed;
    str_free(&name);
    str_free(&failure);
}

void eval_put_junit(const eval_config *e, str_buf *out)
{
    str_buf cases = {0};
    int tests = 0, failures = 0;
    double seconds = 0;
    for (int i = 0; i < e->n_task; i++) {
        int before = tests;
        for (int k = 0; k < e->n_gate; k++) {
            if (e->gate[k].task != &e->task[i]) continue;
            tests++;
            failures += !e->gate[k].pass;
        }
        if (tests == before) tests++;
        seconds += e->task[i].seconds;
        put_cases(e, &e->task[i], &cases);
    }
    str_adds(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    str_printf(out,
               "  <testsuite name=\"ft eval\" tests=\"%d\" failures=\"%d\" errors=\"0\" "
               "time=\"%.3f\">\n",
               tests, failures, seconds);
    str_add(out, cases.data ? cases.data : "", cases.len);
    str_adds(out, "  </testsuite>\n</testsuites>\n");
    out->failed = out->failed || cases.failed;
    str_free(&cases);
}

/* --- Markdown ----------------------------------------------------------------------------------------------- */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (unsigned char)c >= 0x80;
}

/* Text in a cell of a table: nothing in it is markup, ends the cell, or calls somebody. What cannot be seen is escaped as in
 * messages. Inside a word _ is no markup, so that names of metrics stay as they are. */
static void put_cell(str_buf *s, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0, k; i < n; i += k) {
        int32_t c;
        k = (size_t)utf8_next(text + i, n - i, &c);
        const char *shown = c < 0x20 || c >= 0x7f ? ft_show(text + i, k) : NULL;
        bool inside = c == '_' && i > 0 && is_word(text[i - 1]) && is_word(text[i + 1]);
        if (shown && (strlen(shown) != k || shown[0] == '\\'))
            str_printf(s, "\\%s", shown);
        else if (c == '&' || c == '<' || c == '>')
            str_adds(s, c == '&' ? "&amp;" : c == '<' ? "&lt;" : "&gt;");
        else if (c == '@')
            str_adds(s, "@<!-- -->");
        else if (c > 0 && c < 0x7f && strchr("\\`*_[]|~!#:$", (int)c) && !inside)
            str_printf(s, "\\%c", (char)c);
        else
            str_add(s, text + i, k);
    }
}

static void put_bounds(const eval_config *e, const eval_task *task, const char *metric, str_buf *s)
{
    int n = 0;
    bool pass = true;
    for (int i = 0; i < e->n_gate; i++) {
        const eval_gate *g = &e->gate[i];
        if (g->task != task || strcmp(g->metric, metric) != 0) continue;
        str_printf(s, "%s%s ", n++ ? ", " : "", g->bound->name);
        str_double(s, g->limit);
        pass = pass && g->pass;
    }
    str_printf(s, " | %s |\n", n == 0 ? "" : pass ? "pass" : "FAIL");
}

static void put_rows(const eval_config *e, const eval_task *task, str_buf *s)
{
    for (int i = 0; i < task->result.n; i++) {
        const eval_metric *m = &task->result.metric[i];
        str_adds(s, "| ");
        put_cell(s, task->name);
        str_adds(s, " | ");
        put_cell(s, m->name);
        str_adds(s, " | ");
        eval_number_text(s, m);
        str_adds(s, " | ");
        if (i < task->base.n) eval_number_text(s, &task->base.metric[i]);
        str_adds(s, " | ");
        put_bounds(e, task, m->name, s);
    }
}

static void put_model(str_buf *s, const char *what, const char *path, double scale)
{
    if (!path) return;
    str_printf(s, "%s: ", what);
    put_cell(s, path);
    if (scale != 1.0) {
        str_adds(s, " × ");
        str_double(s, scale);
    }
    str_adds(s, "  \n");
}

void eval_put_report(const eval_config *e, str_buf *out)
{
    int missed = 0;
    for (int i = 0; i < e->n_gate; i++) missed += !e->gate[i].pass;
    str_adds(out, "# ft eval\n\n");
    put_model(out, "Model", e->model, 1);
    for (int i = 0; i < e->n_adapter; i++)
        put_model(out, "Adapter", e->adapter[i].dir, e->adapter[i].scale);
    put_model(out, "Baseline", e->baseline, 1);
    if (e->n_gate > 0) str_printf(out, "Gates: %d of %d passed\n", e->n_gate - missed, e->n_gate);
    str_adds(out, "\n| task | metric | value | base | gate | result |\n"
                  "|---|---|---:|---:|---|---|\n");
    for (int i = 0; i < e->n_task; i++) put_rows(e, &e->task[i], out);
}
