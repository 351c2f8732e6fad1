/* verbs.c – see verbs.h. */
#include "verbs.h"

ft_status test_append(void *ctx, const char *text, size_t n)
{
    str_add(ctx, text, n);
    return FT_OK;
}

ft_status test_drop(void *ctx, const char *text, size_t n)
{
    (void)ctx, (void)text, (void)n;
    return FT_OK;
}

cJSON *test_json(const char *text, size_t n)
{
    cJSON *o = cJSON_ParseWithLength(text, n);
    if (!o) print_error("not JSON: %.*s\n", (int)n, text);
    assert_non_null(o);
    return o;
}

cJSON *test_json_line(const char *text)
{
    return test_json(text, strcspn(text, "\n"));
}

double test_number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsNumber(v)) print_error("no number %s\n", key);
    assert_true(cJSON_IsNumber(v));
    return v->valuedouble;
}

void test_put_members(str_buf *s, const cJSON *o, const char *key, const char *value)
{
    const char *before = "";
    for (const cJSON *v = o->child; v; v = v->next) {
        if (strcmp(v->string, key) == 0) continue;
        str_printf(s, "%s\"%s\": ", before, v->string);
        js_print(s, v, false);
        before = ", ";
    }
    if (value) str_printf(s, "%s\"%s\": %s", before, key, value);
}

void test_change_key(const char *from, const char *to, const char *key, const char *value)
{
    const char *text = test_read_file(from, NULL);
    js_doc d;
    str_buf s = {0};
    assert_ok(js_parse(&d, text, strlen(text), from, 1, JS_STRICT, FT_EDATA));
    str_adds(&s, "{");
    test_put_members(&s, d.root, key, value);
    str_adds(&s, "}");
    test_write_file(to, s.data, s.len);
    str_free(&s);
    js_close(&d);
}

void test_change_text(const char *from, const char *to, const char *old, const char *new)
{
    const char *text = test_read_file(from, NULL), *at = strstr(text, old);
    str_buf s = {0};
    if (!at) fail_msg("%s: has no %s", from, old);
    str_add(&s, text, (size_t)(at - text));
    str_adds(&s, new);
    str_adds(&s, at + strlen(old));
    test_write_file(to, s.data, s.len);
    str_free(&s);
}
