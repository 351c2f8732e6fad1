/* test_help.c – what `ft help` shows comes from rows of tables: none of them may lack its sentence or its record. */
#include "support.h"

#include "ft/data.h"
#include "ft/tool.h"

#include "../src/cli/cli.h"

static void is_sentence(const char *what, const char *help)
{
    if (!help || !help[0] || strchr(help, '\n')) fail_msg("%s has no line of help", what);
}

static void is_record(const char *what, const char *text)
{
    js_doc d;
    if (!text || strchr(text, '\n')) fail_msg("%s has no record of one line", what);
    assert_ok(js_parse(&d, text, strlen(text), what, 1, JS_STRICT, FT_EDATA));
    assert_true(cJSON_IsObject(d.root));
    js_close(&d);
}

static void formats_and_tasks_have_records(void **state)
{
    data_form f;
    tool_task t;
    int n = 0;
    (void)state;
    for (int i = 0; data_form_at(i, &f); i++, n++) {
        is_sentence(f.name, f.help);
        is_record(f.name, f.example);
        assert_string_equal(f.name, data_format_names[i + 1]); /* behind "auto" */
    }
    assert_null(data_format_names[n + 1]);
    for (int i = 0; data_known_at(i); i++)
        is_record("a record known by its keys", data_known_at(i));
    for (n = 0; tool_task_at(n, &t); n++) {
        is_sentence(t.name, t.help);
        is_record(t.name, t.example);
        assert_string_equal(t.name, tool_task_names[n]);
    }
    assert_null(tool_task_names[n]);
}

static bool is_metric(const char *name, size_t n)
{
    const tool_metric *m;
    for (int i = 0; (m = tool_metric_at(i)); i++)
        if (strlen(m->name) == n && memcmp(m->name, name, n) == 0) return true;
    return false;
}

static void metrics_bounds_and_templates_are_explained(void **state)
{
    const tool_metric *m;
    tool_task t;
    tool_bound b;
    (void)state;
    for (int i = 0; (m = tool_metric_at(i)); i++) is_sentence(m->name, m->help);
    for (int i = 0; tool_task_at(i, &t); i++) {
        for (const char *const *p = t.metrics; *p; p++) {
            size_t n = strlen(*p);
            if (str_ends(*p, "_stderr")) n -= strlen("_stderr");
            if (!is_metric(*p, n)) fail_msg("%s: %s is no row of the metrics", t.name, *p);
        }
        for (const char *const *p = t.of_source; p && *p; p++)
            assert_true(is_metric(*p, strlen(*p)));
    }
    for (int i = 0; tool_bound_at(i, &b); i++) is_sentence(b.name, b.help);
    for (int i = 0; chat_names[i]; i++) {
        is_sentence(chat_names[i], chat_named_help(chat_names[i]));
        assert_non_null(chat_named(chat_names[i]));
    }
}

static void rows_are_explained(const char *what, const cfg_field *rows)
{
    for (const cfg_field *r = rows; r && r->key; r++) {
        char name[128];
        snprintf(name, sizeof name, "%s: %s", what, r->key);
        is_sentence(name, r->help);
        rows_are_explained(name, r->sub);
    }
}

static void verbs_and_keys_are_explained(void **state)
{
    const cli_verb *v;
    const cli_table *tables;
    arena *mem;
    int n;
    (void)state;
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        is_sentence(v->name, v->help);
        is_sentence(v->name, v->usage);
        is_sentence(v->name, v->example);
        rows_are_explained(v->name, v->flags);
    }
    rows_are_explained("options of every verb", cli_global_rows());
    rows_are_explained("eval", tool_eval_fields);
    assert_ok(arena_open(&mem, "tables", 1 << 20));
    assert_ok(cli_tables(&tables, &n, mem));
    for (int i = 0; i < n; i++) rows_are_explained(tables[i].section, tables[i].rows);
    arena_close(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_and_tasks_have_records),
        cmocka_unit_test(metrics_bounds_and_templates_are_explained),
        cmocka_unit_test(verbs_and_keys_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
