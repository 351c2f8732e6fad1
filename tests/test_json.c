/* test_json.c – the strict JSON reader: what it refuses, where it says so, what it keeps. */
#include "support.h"

#include "ft/cfg.h"

static ft_status parse(js_doc *d, const char *text, js_flags flags)
{
    return js_parse(d, text, strlen(text), "f.json", 1, flags, FT_ECONFIG);
}

static void refuses_what_json_is_not(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "f.json:1:1: nothing here"},
        {" \n ", "f.json:2:2: nothing here"},
        {"\xef\xbb\xbf{}", "f.json:1:1: the text begins with a byte order mark"},
        {"{\n  \"a\": 1, // x\n}", "f.json:2:11: comments are not JSON"},
        {"{\n  # x\n}", "f.json:2:3: comments are not JSON"},
        {"/* */ {}", "f.json:1:1: comments"},
        {"{\"a\": 1,\n}", "f.json:1:8: a comma behind the last entry"},
        {"[1, 2, ]", "f.json:1:6: a comma behind the last entry"},
        {"[,1]", "f.json:1:2: expected a value, found ,"},
        {"{,}", "f.json:1:2: expected a key in double quotes, found ,"},
        {"{\"a\": 01}", "f.json:1:7: a number may not begin with 0"},
        {"{\"a\": -01}", "f.json:1:7: a number may not begin with 0"},
        {"{\"a\": 1.}", "f.json:1:7: a number needs a digit behind its point"},
        {"{\"a\": .5}", "f.json:1:7: expected a value, found ."},
        {"{\"a\": +1}", "f.json:1:7: expected a value, found +"},
        {"{\"a\": -}", "f.json:1:7: a number needs a digit"},
        {"{\"a\": 1e}", "f.json:1:7: a number needs a digit in its exponent"},
        {"{\"a\": 0x10}", "f.json:1:7: this is not a number of JSON"},
        {"{\"a\": 1.5.2}", "f.json:1:7: this is not a number of JSON"},
        {"{\"a\": NaN}", "f.json:1:7: NaN is not a number of JSON"},
        {"{\"a\": -Infinity}", "f.json:1:7: -Infinity is not a number of JSON"},
        {"{\"a\": 1e999}", "f.json:1:7: 1e999 is beyond the range"},
        {"{\"a\": -1e999}", "f.json:1:7: -1e999 is beyond the range"},
        {"{\"a\": 1e-999}", "f.json:1:7: 1e-999 is too small"},
        {"{\"a\": 9007199254740993}", "f.json:1:7: 9007199254740993 is beyond 2^53"},
        {"{\"a\": \"x\\u0000y\"}", "f.json:1:9: \\u0000"},
        {"{\"a\": \"\\ud800\"}", "f.json:1:8: \\ud800 is half of a surrogate pair"},
        {"{\"a\": \"\\ud800\\u0041\"}", "f.json:1:8: \\ud800 is half"},
        {"{\"a\": \"\\udc00\"}", "f.json:1:8: \\udc00 is half"},
        {"{\"a\": \"\\u12g4\"}", "f.json:1:8: \\u takes four"},
        {"{\"a\": \"\\x\"}", "f.json:1:8: \\x is not an escape"},
        {"{\"a\": \"x\\\"}", "f.json:1:7: this string is not closed"},
        {"{\"a\": \"x\ny\"}", "f.json:1:7: this string is not closed on its line"},
        {"{\"a\": \"\x01\"}", "f.json:1:8: control character 0x01"},
        {"{\"a\": \"\xff\"}", "f.json:1:8: byte 0xff is not valid UTF-8"},
        {"{\"a\": \"\xc0\x80\"}", "f.json:1:8: byte 0xc0"},
        {"{\"a\": \"\xed\xa0\x80\"}", "f.json:1:8: byte 0xed"},
        {"{\"a\": 1,\n \"b\": {}, \"a\": 2}", "f.json:2:11: a: the key is here twice"},
        {"{\"a\": 1, \"\\u0061\": 2}", "f.json:1:10: a: the key is here twice"},
        {"{} x", "f.json:1:4: text behind the end of the document: x"},
        {"{}{}", "f.json:1:3: text behind the end"},
        {"{'a': 1}", "f.json:1:2: strings stand in double quotes"},
        {"{a: 1}", "f.json:1:2: expected a key in double quotes, found a"},
        {"{\"a\" 1}", "f.json:1:6: expected ':' behind the key, found 1"},
        {"{\"a\": 1 \"b\": 2}", "f.json:1:9: expected ',' or '}', found \""},
        {"[1 2]", "f.json:1:4: expected ',' or ']', found 2"},
        {"[1}", "f.json:1:3: expected ',' or ']', found }"},
        {"[1", "f.json:1:3: expected ',' or ']', found the end of the text"},
        {"{\"a\":", "f.json:1:6: expected a value, found the end of the text"},
        {"True", "f.json:1:1: expected a value, found True"},
        {"nulll", "f.json:1:1: expected a value, found nulll"},
        {"\xc3\xa4", "f.json:1:1: expected a value"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++) {
        js_doc d;
        assert_fails(parse(&d, bad[i].text, JS_STRICT), FT_ECONFIG, bad[i].message);
        assert_null(d.root);
    }
}

static char *repeat(const char *open, int n, const char *middle, const char *close)
{
    str_buf s = {0};
    for (int i = 0; i < n; i++) str_adds(&s, open);
    str_adds(&s, middle);
    for (int i = 0; i < n; i++) str_adds(&s, close);
    char *copy = test_alloc(s.len + 1);
    memcpy(copy, s.data, s.len);
    str_free(&s);
    return copy;
}

static void limits_depth(void **state)
{
    (void)state;
    js_doc d;
    assert_ok(parse(&d, repeat("[", 64, "1", "]"), JS_STRICT));
    js_close(&d);
    assert_ok(parse(&d, repeat("{\"a\":", 64, "1", "}"), JS_STRICT));
    js_close(&d);
    assert_fails(parse(&d, repeat("[", 65, "1", "]"), JS_STRICT), FT_ECONFIG,
                 "f.json:1:65: nested deeper than 64");
    assert_fails(parse(&d, repeat("[", 100000, "", ""), JS_STRICT), FT_ECONFIG, "nested deeper");
}

static char *zeros(int n)
{
    str_buf s = {0};
    str_addc(&s, '[');
    for (int i = 0; i < n; i++) str_adds(&s, "0,");
    str_adds(&s, "0]");
    char *copy = test_alloc(s.len + 1);
    memcpy(copy, s.data, s.len);
    str_free(&s);
    return copy;
}

static void limits_values(void **state)
{
    js_doc d;
    (void)state;
    assert_ok(parse(&d, zeros(1000000), JS_STRICT));
    js_close(&d);
    assert_ok(parse(&d, zeros(500000), JS_RECORD));
    js_close(&d);
    assert_fails(parse(&d, zeros(1000000), JS_RECORD), FT_ECONFIG,
                 "values so far take too much memory for one record; split it");
}

static void keeps_values(void **state)
{
    (void)state;
    js_doc d;
    assert_ok(
        parse(&d,
              " {\"s\": \"a\\u00e4\\ud83d\\ude00\\n\\/\xc3\xa4\\\\\", \"i\": -42, \"f\": 2.5e-3,"
              " \"big\": 9007199254740992, \"exact\": 1000000000000000019884624838656,"
              " \"t\": true, \"n\": null, \"l\": [], \"o\": {}, \"z\": -0, \"zero\": 0.0e5} \r\n",
              JS_STRICT));
    assert_string_equal(js_get(d.root, "s")->valuestring, "a\xc3\xa4\xf0\x9f\x98\x80\n/\xc3\xa4\\");
    assert_true(js_get(d.root, "i")->valuedouble == -42);
    assert_int_equal(js_get(d.root, "i")->valueint, -42);
    assert_true(js_get(d.root, "f")->valuedouble == 2.5e-3);
    assert_true(js_get(d.root, "big")->valuedouble == 9007199254740992.0);
    assert_true(js_get(d.root, "exact")->valuedouble == 1e30);
    assert_true(cJSON_IsTrue(js_get(d.root, "t")));
    assert_true(cJSON_IsNull(js_get(d.root, "n")));
    assert_int_equal(cJSON_GetArraySize(d.root), 11);
    assert_ptr_equal(d.root->child->prev, js_get(d.root, "zero"));
    assert_null(js_get(d.root, "T"));
    js_close(&d);
    static const char *const scalars[] = {"1", "\"x\"", "true", "null", "[]", "{}", " 7 "};
    for (size_t i = 0; i < FT_COUNT_OF(scalars); i++) {
        assert_ok(parse(&d, scalars[i], JS_STRICT));
        js_close(&d);
    }
}

static void flags_widen_numbers(void **state)
{
    (void)state;
    js_doc d;
    str_buf s = {0};
    int64_t v;
    assert_ok(parse(&d, "{\"a\": NaN, \"b\": [Infinity, -Infinity]}", JS_ALLOW_NONFINITE));
    assert_true(isnan(js_get(d.root, "a")->valuedouble));
    assert_true(js_get(d.root, "b")->child->next->valuedouble < 0);
    assert_fails(js_get_int(&d, d.root, "a", 0, 0, 9, &v), FT_EDATA,
                 "f.json:1:7: a: must be an integer");
    js_close(&d);
    assert_ok(parse(&d, "{\"id\":1234567890123456789,\"x\":1e999}", JS_BIG_NUMBERS));
    js_print(&s, d.root, false);
    assert_string_equal(s.data, "{\"id\":1234567890123456789,\"x\":1e999}");
    assert_fails(js_get_int(&d, d.root, "id", 0, 0, INT64_MAX, &v), FT_EDATA,
                 "f.json:1:7: id: must be");
    js_close(&d);
    str_free(&s);
}

static void tells_where_nodes_are(void **state)
{
    (void)state;
    js_doc d;
    int64_t line;
    int col;
    static const char text[] =
        "{\n  \"a\": [1, {\"x\": null}, [[]], 3],\n  \"\xc3\xa4\": \"\xc3\xa4\", \"c\": "
        "{\"d\":\n 5}}";
    assert_ok(js_parse(&d, text, sizeof text - 1, "f.json", 10, JS_STRICT, FT_EDATA));
    static const struct {
        int64_t line;
        int col;
    } want[] = {{10, 1},  {11, 8},  {11, 9}, {11, 12}, {11, 18}, {11, 25},
                {11, 26}, {11, 31}, {12, 8}, {12, 18}, {13, 2}};
    assert_int_equal(d.n_pos, FT_COUNT_OF(want));
    const cJSON *a = js_get(d.root, "a"), *c = js_get(d.root, "c");
    const cJSON *nodes[] = {d.root,
                            a,
                            a->child,
                            a->child->next,
                            a->child->next->child,
                            a->child->next->next,
                            a->child->next->next->child,
                            a->child->prev,
                            a->next,
                            c,
                            c->child};
    for (size_t i = 0; i < FT_COUNT_OF(want); i++) {
        js_where(&d, nodes[i], &line, &col);
        assert_int_equal(line, want[i].line);
        assert_int_equal(col, want[i].col);
    }
    js_fail(&d, c->child, FT_EDATA, "d", "bad %d", 7);
    assert_string_equal(ft_error(), "f.json:13:2: d: bad 7");
    js_fail(&d, c->child, FT_EDATA, NULL, "bad");
    assert_string_equal(ft_error(), "f.json:13:2: bad");
    js_close(&d);
    assert_ok(js_parse(&d, text, sizeof text - 1, "f.json", 10, JS_NO_POSITIONS, FT_EDATA));
    assert_null(d.pos);
    js_fail(&d, d.root->child, FT_EDATA, NULL, "bad");
    assert_string_equal(ft_error(), "f.json:10:1: bad");
    js_close(&d);
}

static void getters_check_types(void **state)
{
    (void)state;
    js_doc d;
    int64_t i;
    double f;
    bool b;
    const char *s;
    static const char text[] = "{\"i\": 7, \"f\": 1.5, \"s\": \"x\", \"b\": true, \"n\": null}";
    assert_ok(js_parse(&d, text, sizeof text - 1, "m", 1, JS_STRICT, FT_EDATA));
    assert_ok(js_get_int(&d, d.root, "i", 1, 0, 7, &i));
    assert_int_equal(i, 7);
    assert_ok(js_get_int(&d, d.root, "n", 3, 0, 7, &i));
    assert_int_equal(i, 3);
    assert_ok(js_get_int(&d, d.root, "I", -9, 0, 7, &i));
    assert_int_equal(i, -9);
    assert_fails(js_get_int(&d, d.root, "i", 1, 0, 6, &i), FT_EDATA,
                 "m:1:7: i: 7 is not between 0 and 6");
    assert_fails(js_get_int(&d, d.root, "f", 1, 0, 6, &i), FT_EDATA,
                 "m:1:15: f: must be an integer");
    assert_fails(js_get_int(&d, d.root, "s", 1, 0, 6, &i), FT_EDATA,
                 "s: must be an integer, not a string");
    assert_ok(js_get_num(&d, d.root, "f", 0, &f));
    assert_true(f == 1.5);
    assert_fails(js_get_num(&d, d.root, "b", 0, &f), FT_EDATA,
                 "b: must be a number, not true or false");
    assert_ok(js_get_bool(&d, d.root, "b", false, &b));
    assert_true(b);
    assert_fails(js_get_bool(&d, d.root, "i", false, &b), FT_EDATA,
                 "must be true or false, not a number");
    assert_ok(js_get_str(&d, d.root, "s", NULL, &s));
    assert_string_equal(s, "x");
    assert_fails(js_get_str(&d, d.root, "i", NULL, &s), FT_EDATA, "must be a string, not a number");
    js_close(&d);
}

static void prints_what_it_read(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"a\":[1,2.5,{\"b\":[]},\"x\\n\"],\"c\":{},\"d\":[[[0.1]],true,null],\"e\":1e-05}", "[]",
        "\"x\"", "[[],[]]", "{\"a\":{\"b\":{\"c\":[-7,9007199254740992]}},\"z\":false}"};
    for (size_t i = 0; i < FT_COUNT_OF(texts); i++) {
        js_doc d;
        str_buf s = {0};
        assert_ok(parse(&d, texts[i], JS_STRICT));
        js_print(&s, d.root, false);
        assert_string_equal(s.data, texts[i]);
        str_clear(&s);
        js_print(&s, d.root, true);
        js_close(&d);
        assert_ok(parse(&d, s.data, JS_STRICT));
        str_clear(&s);
        js_print(&s, d.root, false);
        assert_string_equal(s.data, texts[i]);
        js_close(&d);
        str_free(&s);
    }
    js_doc d;
    str_buf s = {0};
    assert_ok(parse(&d, "{\"a\":[1,{}],\"b\":{\"c\":2}}", JS_STRICT));
    js_print(&s, d.root, true);
    assert_string_equal(s.data,
                        "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": 2\n  }\n}");
    js_close(&d);
    str_free(&s);
}

static void reads_a_vocabulary_quickly(void **state)
{
    (void)state;
    enum { KEYS = 150000 };
    str_buf s = {0};
    str_addc(&s, '{');
    for (int i = 0; i < KEYS; i++) str_printf(&s, "%s\"token%d\": %d", i ? ", " : "", i * 7919, i);
    str_addc(&s, '}');
    js_doc d;
    double best = 9;
    for (int i = 0; i < 5; i++) {
        double start = ft_seconds();
        assert_ok(js_parse(&d, s.data, s.len, "v", 1, JS_NO_POSITIONS, FT_EDATA));
        double took = ft_seconds() - start;
        best = took < best ? took : best;
        js_close(&d);
    }
    print_message("150000 keys in %.0f ms\n", best * 1e3);
    /* The goal is 0.1 s; sanitizers and a busy machine get more. A linear search would take minutes. */
    assert_true(best < 1.0);
    s.len--;
    str_adds(&s, ", \"token7919\": 1}");
    assert_fails(js_parse(&d, s.data, s.len, "v", 1, JS_NO_POSITIONS, FT_EDATA), FT_EDATA,
                 "token7919: the key is here twice");
    str_free(&s);
}

static void survives_every_cut_and_change(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, 2.5e3, {\"b\": \"\\u00e4\\ud83d\\ude00\"}], \"c\": "
                               "[true, false, null], \"\xc3\xa4\": -0.5}";
    js_doc d;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *exact = ft_alloc(n ? n : 1, 1); /* so that a sanitizer sees one byte too many */
        memcpy(exact, text, n);
        assert_int_equal(js_parse(&d, exact, n, "f", 1, JS_STRICT, FT_EDATA), FT_EDATA);
        ft_free(exact);
    }
    for (uint64_t i = 0; i < 20000; i++) {
        char changed[sizeof text];
        memcpy(changed, text, sizeof text);
        for (uint64_t k = 0; k <= i % 3; k++)
            changed[test_u64(1, 8 * i + k) % (sizeof text - 1)] = (char)test_u64(2, 8 * i + k);
        if (js_parse(&d, changed, sizeof text - 1, "f", 1, JS_STRICT, FT_EDATA) == FT_OK)
            js_close(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_json_is_not),
        cmocka_unit_test(limits_depth),
        cmocka_unit_test(limits_values),
        cmocka_unit_test(keeps_values),
        cmocka_unit_test(flags_widen_numbers),
        cmocka_unit_test(tells_where_nodes_are),
        cmocka_unit_test(getters_check_types),
        cmocka_unit_test(prints_what_it_read),
        cmocka_unit_test(reads_a_vocabulary_quickly),
        cmocka_unit_test(survives_every_cut_and_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
