/* test_template.c – chat templates: every output equal to the reference's to the byte, every failure of the
 * reference a failure here, hostile templates bounded. */
#include "support.h"

#include "ft/template.h"

/* One line of templates.jsonl; the number of the line names a mismatch. */
static bool check_case(const char *line, size_t len, int number)
{
    js_doc doc;
    str_buf out = {0}, shown = {0};
    tpl_spans spans = {0};
    tpl_template *t = NULL;

    assert_ok(js_parse(&doc, line, len, "templates.jsonl", number, JS_BIG_NUMBERS, FT_EDATA));
    const cJSON *text = js_get(doc.root, "t"), *want = js_get(doc.root, "out");
    const cJSON *want_spans = js_get(doc.root, "spans");
    ft_status rc = tpl_open(&t, text->valuestring, strlen(text->valuestring), "case");
    if (rc == FT_OK) rc = tpl_render_spans(t, js_get(doc.root, "v"), &out, &spans);
    bool good;
    if (!want) {
        good = rc == FT_EDATA && *ft_error();
    } else {
        good = rc == FT_OK && out.len == strlen(want->valuestring) &&
               (!out.len || !memcmp(out.data, want->valuestring, out.len)) &&
               spans.n == cJSON_GetArraySize(want_spans);
        for (int64_t i = 0; good && i < spans.n; i++) {
            const cJSON *s = cJSON_GetArrayItem(want_spans, (int)i);
            good = spans.v[i].from == (int64_t)s->child->valuedouble &&
                   spans.v[i].to == (int64_t)s->child->next->valuedouble;
        }
    }
    if (!good) {
        str_json(&shown, text->valuestring, strlen(text->valuestring));
        print_error("case %d: %.400s\n  want: %.200s\n  got:  %.*s\n  status %d %s\n", number,
                    shown.data, want ? want->valuestring : "(a failure)", (int)out.len,
                    out.len ? out.data : "", (int)rc, rc == FT_OK ? "" : ft_error());
    }
    ft_error_forget();
    str_free(&out);
    str_free(&shown);
    ft_free(spans.v);
    tpl_close(t);
    js_close(&doc);
    return good;
}

static void renders_as_the_reference(void **state)
{
    const char *path =
        getenv("FT_TEMPLATE_CASES"); /* another file of cases, for a wider check by hand */
    size_t n;
    char *text = test_read_file(path ? path : golden_path("templates.jsonl"), &n);
    int bad = 0, cases = 0;
    (void)state;
    for (char *p = text; p < text + n;) {
        char *end = memchr(p, '\n', (size_t)(text + n - p));
        if (!end) end = text + n;
        cases++;
        bad += !check_case(p, (size_t)(end - p), cases);
        p = end + 1;
    }
    assert_true(cases > 100 || path);
    assert_int_equal(bad, 0);
}

static ft_status run(const char *template)
{
    tpl_template *t = NULL;
    str_buf out = {0};
    ft_status rc = tpl_open(&t, template, strlen(template), "t");
    if (rc == FT_OK) rc = tpl_render_spans(t, NULL, &out, NULL);
    str_free(&out);
    tpl_close(t);
    return rc;
}

static void hostile_templates_end(void **state)
{
    static const char *const bad[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 1000000000000 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% "
        "endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% "
        "endfor %}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'x'.ljust(1000000000000) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% set a = [] %}{% set x = 'a'.join(range(99999)) %}",
        "{% macro f(x) %}{% for i in x %}{{ caller() }}{% endfor %}{% endmacro %}{% call f([1]) "
        "%}{{ self() }}{% endcall %}",
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++) {
        ft_status rc = run(bad[i]);
        if (rc != FT_EDATA) print_error("%s: %d\n", bad[i], (int)rc);
        assert_int_equal(rc, FT_EDATA);
        assert_true(*ft_error());
    }
}

static void deep_nesting_is_refused(void **state)
{
    static const struct {
        const char *open, *mid, *close;
    } forms[] = {
        {"(", "1", ")"},           {"[", "", "]"},      {"-", "1", ""},
        {"not ", "1", ""},         {"{'a':", "1", "}"}, {"f(", "1", ")"},
        {"1 if 1 else ", "1", ""}, {"x[", "1", "]"},
    };
    (void)state;
    for (size_t k = 0; k < FT_COUNT_OF(forms); k++) {
        str_buf s = {0};
        str_adds(&s, "{{ ");
        for (int i = 0; i < 100000; i++) str_adds(&s, forms[k].open);
        str_adds(&s, forms[k].mid);
        for (int i = 0; i < 100000; i++) str_adds(&s, forms[k].close);
        str_adds(&s, " }}");
        assert_int_equal(run(s.data), FT_EDATA);
        str_free(&s);
    }
    str_buf s = {0};
    for (int i = 0; i < 100000; i++) str_adds(&s, "{% if 1 %}");
    assert_int_equal(run(s.data), FT_EDATA);
    str_clear(&s);
    str_adds(&s, "{{ 1");
    for (int i = 0; i < 100000; i++) str_adds(&s, "+1"); /* a long chain is deep too */
    str_adds(&s, " }}");
    assert_int_equal(run(s.data), FT_EDATA);
    str_free(&s);
}

static void cut_templates_do_no_harm(void **state)
{
    size_t n;
    char *text = test_read_file(golden_path("templates.jsonl"), &n), *p = text, *longest = NULL;
    size_t most = 0;
    js_doc doc;
    (void)state;
    for (char *end; p < text + n && (end = memchr(p, '\n', (size_t)(text + n - p))); p = end + 1) {
        char *tools = memmem(p, (size_t)(end - p), "last_query_index", 16);
        if (tools && (size_t)(end - p) > most) most = (size_t)(end - p), longest = p;
    }
    assert_non_null(longest);
    assert_ok(js_parse(&doc, longest, most, "case", 1, JS_STRICT, FT_EDATA));
    char *t = js_get(doc.root, "t")->valuestring;
    size_t len = strlen(t);
    for (size_t cut = 0; cut < len; cut += 7) {
        tpl_template *tpl = NULL;
        str_buf out = {0};
        if (tpl_open(&tpl, t, cut, "cut") == FT_OK) {
            ft_status rc = tpl_render_spans(tpl, js_get(doc.root, "v"), &out, NULL);
            assert_true(rc == FT_OK || rc == FT_EDATA);
        }
        tpl_close(tpl);
        str_free(&out);
    }
    js_close(&doc);
}

static void raised_message_is_told(void **state)
{
    (void)state;
    assert_int_equal(run("{{ raise_exception('roles must alternate') }}"), FT_EDATA);
    assert_non_null(strstr(ft_error(), "roles must alternate"));
    assert_int_equal(run("a\n{{ 1 + nothing }}"), FT_EDATA);
    assert_non_null(strstr(ft_error(), "t:2: "));
    assert_non_null(strstr(ft_error(), "'nothing' is undefined"));
}

static void time_is_formatted(void **state)
{
    tpl_template *t = NULL;
    str_buf out = {0};
    const char *text = "{{ strftime_now('%d %b %Y %H:%M') }}";
    (void)state;
    setenv("SOURCE_DATE_EPOCH", "1721995200", 1);
    assert_ok(tpl_open(&t, text, strlen(text), "t"));
    assert_ok(tpl_render_spans(t, NULL, &out, NULL));
    unsetenv("SOURCE_DATE_EPOCH");
    assert_string_equal(out.data, "26 Jul 2024 12:00");
    str_free(&out);
    tpl_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_the_reference), cmocka_unit_test(hostile_templates_end),
        cmocka_unit_test(deep_nesting_is_refused),  cmocka_unit_test(cut_templates_do_no_harm),
        cmocka_unit_test(raised_message_is_told),   cmocka_unit_test(time_is_formatted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
