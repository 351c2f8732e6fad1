/* test_fuzzed.c – what fuzzing found once: the right behaviour of each. The inputs themselves are in fuzz/found. */
#include "support.h"

#include "ft/kernel.h"
#include "ft/tool.h"

/* Memory that holds nothing is no memory at all: whatever looks into it finds nothing there. */
static void test_nothing_to_look_into(void **state)
{
    (void)state;
    str_buf s = {0};
    assert_null(str_find(&s, 0, "a", 1));
    str_adds(&s, "banana");
    assert_ptr_equal(str_find(&s, 0, "an", 2), s.data + 1);
    assert_ptr_equal(str_find(&s, 2, "an", 2), s.data + 3);
    assert_null(str_find(&s, 4, "an", 2));
    assert_null(str_find(&s, s.len, "a", 1));
    str_free(&s);
}

static void test_list_of_an_empty_iterator(void **state)
{
    (void)state;
    static const char text[] = "{{ [] | map('upper') | list | length }}";
    tpl_template *t = NULL;
    str_buf out = {0};
    assert_ok(tpl_open(&t, text, sizeof text - 1, "t"));
    assert_ok(tpl_render_spans(t, NULL, &out, NULL));
    assert_string_equal(out.data, "0");
    str_free(&out);
    tpl_close(t);
}

/* Eight digits hold more than there are characters, and more than an int: an error, as in Jinja. */
static void test_escapes_beyond_unicode(void **state)
{
    (void)state;
    static const char *const bad[] = {"{{ '\\U80018000' }}", "{{ '\\UFFFFFFFF' }}",
                                      "{{ '\\U00110000' }}"};
    tpl_template *t = NULL;
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++)
        assert_fails(tpl_open(&t, bad[i], strlen(bad[i]), "t"), FT_EDATA, "bad escape");
}

static ft_status append(void *ctx, const char *text, size_t n)
{
    str_add(ctx, text, n);
    return FT_OK;
}

/* A prompt of the command line may be any bytes; a line of JSON is UTF-8 and stays one. */
static void test_prompt_that_is_no_text(void **state)
{
    (void)state;
    tool_model *t = NULL;
    str_buf out = {0};
    tool_sink sink = {append, &out};
    tool_generate_options o = {
        .prompt = "One \xbe day", .samples = 2, .sampling = INF_SAMPLING_DEFAULT};
    o.sampling.max_new = 2;
    o.sampling.logprobs = true;
    assert_ok(tool_open(&t, source_path("data/tiny"), NULL, true, NULL));
    assert_ok(tool_generate_lines(t, &o, &sink));
    assert_true(utf8_valid(out.data, out.len));
    assert_non_null(strstr(out.data, "\"prompt\":\"One \xef\xbf\xbd day\""));
    str_free(&out);
    tool_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_look_into),
        cmocka_unit_test(test_list_of_an_empty_iterator),
        cmocka_unit_test(test_escapes_beyond_unicode),
        cmocka_unit_test(test_prompt_that_is_no_text),
    };
    assert_ok(kn_init());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
