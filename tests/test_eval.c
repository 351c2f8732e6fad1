/* test_eval.c – evaluations: benchmarks in the hub's form against lm-evaluation-harness, gates, and what is written of them. */
#include "support.h"
#include "verbs.h"

#include "ft/tool.h"

#include <math.h>

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    assert_true(cJSON_IsString(v));
    return v->valuestring;
}

static const char *next_line(const char *text)
{
    const char *end = strchr(text, '\n');
    return end && end[1] ? end + 1 : NULL;
}

static void put_file(const char *name, const char *text)
{
    test_write_file(test_path(name), text, strlen(text));
}

/* --- benchmarks ---------------------------------------------------------------------------------------------- */

static void write_records(const cJSON *list)
{
    str_buf s = {0};
    const cJSON *rec;
    cJSON_ArrayForEach(rec, list)
    {
        js_print(&s, rec, false);
        str_addc(&s, '\n');
    }
    assert_ok(str_ok(&s));
    test_write_file(test_path("records.jsonl"), s.data, s.len);
    str_free(&s);
}

/* A line of the samples against what the harness scored: each choice, and what counts. */
static void compare_line(const char *task, const cJSON *line, const cJSON *want)
{
    const cJSON *logprobs = cJSON_GetObjectItemCaseSensitive(want, "logprob"),
                *choices = cJSON_GetObjectItemCaseSensitive(line, "choices");
    assert_string_equal(text_of(line, "task"), task);
    assert_int_equal(cJSON_GetArraySize(choices), cJSON_GetArraySize(logprobs));
    for (int i = 0; i < cJSON_GetArraySize(choices); i++) {
        double got = test_number(cJSON_GetArrayItem(choices, i), "logprob"),
               right = cJSON_GetArrayItem(logprobs, i)->valuedouble;
        if (fabs(got - right) > 1e-4 * (1 + fabs(right)))
            print_error("%s, choice %d: %.6f, the harness has %.6f\n", task, i, got, right);
        assert_true(fabs(got - right) <= 1e-4 * (1 + fabs(right)));
    }
    static const char *const counted[] = {"acc", "acc_norm"};
    for (size_t i = 0; i < FT_COUNT_OF(counted); i++)
        if (cJSON_GetObjectItemCaseSensitive(want, counted[i]))
            assert_true(test_number(line, counted[i]) == test_number(want, counted[i]));
}

static void benchmarks_are_the_harnesss(void **state)
{
    (void)state;
    size_t n;
    const char *golden = test_read_file(golden_path("eval/hub.jsonl"), &n);
    const char *samples = test_path("samples.jsonl"), *data = test_path("records.jsonl");
    int tasks = 0;
    for (const char *p = golden; p; p = next_line(p), tasks++) {
        cJSON *g = test_json_line(p);
        str_buf out = {0};
        const char *type = text_of(g, "type");
        write_records(cJSON_GetObjectItemCaseSensitive(g, "records"));
        const tool_eval_options opt = {.model = source_path("data/tiny"),
                                       .task = type,
                                       .data = data,
                                       .samples = samples,
                                       .json = true};
        assert_ok(tool_eval(&opt, &(tool_sink){test_append, &out}));
        cJSON *result = test_json_line(out.data);
        const cJSON *want;
        cJSON_ArrayForEach(want, cJSON_GetObjectItemCaseSensitive(g, "results"))
        {
            if (str_ends(want->string, "_stderr")) continue; /* none was asked for */
            double got = test_number(result, want->string);
            assert_true(fabs(got / want->valuedouble - 1) < 1e-4 || got == want->valuedouble);
        }
        const char *line = test_read_file(samples, NULL);
        cJSON_ArrayForEach(want, cJSON_GetObjectItemCaseSensitive(g, "lines"))
        {
            assert_non_null(line);
            cJSON *got = test_json_line(line);
            compare_line(type, got, want);
            cJSON_Delete(got);
            line = next_line(line);
        }
        assert_null(line);
        cJSON_Delete(result);
        cJSON_Delete(g);
        str_free(&out);
    }
    assert_int_equal(tasks, 7);
    assert_ok(dir_remove(samples));
}

static ft_status evaluate(const char *task, const char *records, str_buf *out)
{
    put_file("records.jsonl", records);
    str_clear(out);
    return tool_eval(&(tool_eval_options){.model = source_path("data/tiny"),
                                          .task = task,
                                          .data = test_path("records.jsonl"),
                                          .samples = test_path("samples.jsonl"),
                                          .max_new_tokens = strcmp(task, "gsm8k") == 0 ? 8 : 0,
                                          .json = true},
                     &(tool_sink){test_append, out});
}

static void records_of_benchmarks_are_checked(void **state)
{
    (void)state;
    str_buf out = {0};
    static const struct {
        const char *task, *records, *message;
    } cases[] = {
        {"hellaswag", "{\"activity_label\": \"a\", \"ctx_a\": \"b\"}\n",
         "records.jsonl:1:1: ctx_b: missing; a record of hellaswag has it"},
        {"hellaswag",
         "{\"activity_label\": \"a\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": [\"a\", 1], "
         "\"label\": \"0\"}\n",
         "endings: must be a list of strings"},
        {"hellaswag",
         "{\"activity_label\": \"a\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": [\"a\", "
         "\"b\"], \"label\": \"\"}\n",
         "its right answer (\"\") is none of its 2 choices"},
        {"hellaswag",
         "{\"activity_label\": \"a\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": [\"a\"], "
         "\"label\": 0}\n",
         "has 1 choices, and must have 2 or more"},
        {"winogrande",
         "{\"sentence\": \"a b\", \"option1\": \"b\", \"option2\": \"c\", \"answer\": \"1\"}\n",
         "sentence: has no _"},
        {"winogrande",
         "{\"sentence\": \"a _\", \"option1\": \"b\", \"option2\": \"c\", \"answer\": \"3\"}\n",
         "none of its 2 choices"},
        {"piqa", "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": -1}\n",
         "none of its 2 choices"},
        {"arc",
         "{\"question\": \"a\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", "
         "\"B\"]}, \"answerKey\": \"C\"}\n",
         "none of its 2 choices"},
        {"arc", "{\"question\": \"a\", \"choices\": [\"a\"], \"answerKey\": \"C\"}\n",
         "choices.text: missing"},
        {"mmlu", "{\"question\": \"a\", \"choices\": [\"a\", \"b\", \"c\"], \"answer\": 1}\n",
         "has 3 choices, and must have 4"},
        {"lambada", "{\"txt\": \"a b\"}\n", "text: missing"},
        {"gsm8k", "{\"question\": \"a\", \"answer\": \"72\"}\n", "has no \"#### \""},
        {"gsm8k", "{\"question\": \"a\", \"answer\": \"1 #### none\"}\n", "has no \"#### \""},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        assert_fails(evaluate(cases[i].task, cases[i].records, &out), FT_EDATA, cases[i].message);
        assert_non_null(strstr(ft_error(), "records.jsonl:1:"));
        assert_int_equal(out.len, 0);
        assert_false(file_exists(test_path("samples.jsonl")));
    }
    assert_ok(evaluate("gsm8k",
                       "{\"question\": \"What is 8 + 4?\", \"answer\": \"8+4=<<8+4=12>>12\\n"
                       "#### 12\"}\n",
                       &out));
    cJSON *o = test_json_line(test_read_file(test_path("samples.jsonl"), NULL));
    assert_string_equal(text_of(o, "prompt"), "Question: What is 8 + 4?\nAnswer:");
    assert_non_null(strstr(text_of(o, "answer"), "#### 12"));
    assert_true(cJSON_IsBool(cJSON_GetObjectItem(o, "correct")));
    cJSON_Delete(o);
    o = test_json_line(out.data);
    assert_true(test_number(o, "exact_match") == test_number(o, "accuracy"));
    assert_int_equal(test_number(o, "n"), 1);
    cJSON_Delete(o);
    str_free(&out);
    assert_ok(dir_remove(test_path("samples.jsonl")));
}

/* --- gates --------------------------------------------------------------------------------------------------- */

static ft_status run_config(const char *config, str_buf *out)
{
    const char *path = test_path("eval.json");
    test_write_file(path, config, strlen(config));
    str_clear(out);
    ft_error_forget();
    return tool_eval(&(tool_eval_options){.config = path,
                                          .json = true,
                                          .junit = test_path("junit.xml"),
                                          .report = test_path("report.md")},
                     &(tool_sink){test_append, out});
}

#define CHOICES "\"type\": \"multiple_choice\", \"data\": \"c.jsonl\""
#define LOSS                                                                                       \
    "\"type\": \"loss\", \"data\": [\"a.jsonl\", {\"path\": \"b.jsonl\", \"name\": \"b.c\"}]"

/* The config with the model that the tests have as baseline too, so that base and value are equal. */
static char *config_of(const char *tasks, const char *gates, bool baseline)
{
    str_buf s = {0};
    str_printf(&s, "{\"model\": {\"path\": \"%s\"}, \"tasks\": [%s], \"gates\": {%s}",
               source_path("data/tiny"), tasks, gates);
    if (baseline) str_printf(&s, ", \"baseline\": \"%s\"", source_path("data/tiny"));
    str_addc(&s, '}');
    assert_ok(str_ok(&s));
    return s.data;
}

static void write_data(void)
{
    put_file("c.jsonl", "{\"query\": \"Once\", \"choices\": [\"upon\", \"zqx\"], \"gold\": 0}\n");
    put_file("a.jsonl", "{\"prompt\": \"Once upon\", \"completion\": \" a time\", \"id\": 7}\n"
                        "{\"text\": 0, \"prompt\": \"One\", \"completion\": \" day\"}\n");
    put_file("b.jsonl",
             "{\"prompt\": \"The\", \"completion\": \" old man\", \"id\": [1, \"é\"]}\n");
}

static void gates_are_found_and_checked(void **state)
{
    (void)state;
    str_buf out = {0};
    static const struct {
        const char *tasks, *gates;
        bool baseline;
        ft_status status;
        const char *message;
    } cases[] = {
        {"{\"name\": \"a.b\", " LOSS "}", "\"a.b.loss.b.c\": {\"max\": 100}", false, FT_OK, ""},
        {"{\"name\": \"a\", " LOSS "}, {\"name\": \"a.loss\", " CHOICES "}",
         "\"a.loss.acc\": {\"min\": 0}, \"a.loss.a\": {\"max\": 100}, \"a.loss\": {\"max\": 100}",
         false, FT_OK, ""},
        {"{\"name\": \"a\", " LOSS "}", "\"a.loss.d\": {\"max\": 1}", false, FT_ECONFIG,
         "it has loss, perplexity, tokens, samples, loss.a, tokens.a, loss.b.c, tokens.b.c"},
        {"{\"name\": \"a\", " CHOICES "}", "\"a.accuracy\": {\"max\": 1}", false, FT_ECONFIG,
         "it has acc, acc_stderr, acc_norm, acc_norm_stderr, acc_bytes, acc_bytes_stderr, n"},
        {"{" CHOICES "}", "\"multiple_choice.acc\": {\"max_ratio\": 1}", false, FT_ECONFIG,
         "neither an adapter to leave out nor a baseline"},
        {"{" CHOICES "}", "\"multiple_choice.acc\": {}", false, FT_ECONFIG, "needs a bound"},
        {"{" CHOICES "}", "\"multiple_choice.acc\": 1", false, FT_ECONFIG, "an object of bounds"},
        {"{" CHOICES "}", "\"multiple_choice.acc\": {\"min\": \"1\"}", false, FT_ECONFIG,
         "min: must be a number"},
        {"{" CHOICES "}",
         "\"multiple_choice.acc\": {\"max_increase\": 0, \"min_gain\": 0, \"max_ratio\": 1}", true,
         FT_OK, ""},
        {"{" LOSS "}", "\"loss.loss\": {\"max_increase\": -0.5}", true, FT_EGATE,
         "gate loss.loss: "},
        {"{" LOSS "}", "\"loss.loss.a\": {\"min_gain\": 0.25}", true, FT_EGATE,
         "gains 0 over the base's "},
        {"{" LOSS "}", "\"loss.loss.a\": {\"min_gain\": -0.25}", true, FT_OK, ""},
        {"{" LOSS "}", "\"loss.perplexity\": {\"max_ratio\": 0.5}", true, FT_EGATE,
         "is 1 times the base's "},
    };
    write_data();
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char *config = config_of(cases[i].tasks, cases[i].gates, cases[i].baseline);
        ft_status rc = run_config(config, &out);
        if (rc != cases[i].status || !strstr(ft_error(), cases[i].message))
            print_error("%s gives %d: %s\n", config, (int)rc, ft_error());
        assert_int_equal(rc, cases[i].status);
        assert_non_null(strstr(ft_error(), cases[i].message));
        bool ran = rc == FT_OK || rc == FT_EGATE;
        assert_true(ran == file_exists(test_path("report.md")));
        assert_true(ran == file_exists(test_path("junit.xml")));
        if (ran) assert_ok(dir_remove(test_path("report.md")));
        if (ran) assert_ok(dir_remove(test_path("junit.xml")));
        if (ran) assert_true((strstr(out.data, "\"base\":{") != NULL) == cases[i].baseline);
        ft_free(config);
    }
    str_free(&out);
}

/* --- what is written ----------------------------------------------------------------------------------------- */

static void names_are_text(void **state)
{
    (void)state;
    str_buf out = {0};
    write_data();
    char *config = config_of("{\"name\": \"<a>&\\\"'| *x* _y_ `z` @me\\n\\u0001\\u202e\", " CHOICES
                             "}, {\"name\": \"plain\", " LOSS "}",
                             "\"plain.tokens\": {\"max\": 1}", false);
    assert_int_equal(run_config(config, &out), FT_EGATE);
    const char *xml = test_read_file(test_path("junit.xml"), NULL),
               *md = test_read_file(test_path("report.md"), NULL);
    static const char *const in_xml[] = {
        "<testsuite name=\"ft eval\" tests=\"2\" failures=\"1\" errors=\"0\" time=\"",
        ("classname=\"&lt;a&gt;&amp;&quot;&#39;| *x* _y_ `z` @me&#10;\xef\xbf\xbd\xe2\x80\xae\" "
         "name=\"multiple_choice\" time=\""),
        "classname=\"plain\" name=\"tokens max 1\" time=\"",
        "<failure message=\"12 is above the maximum 1\"/>", "</testsuites>\n"};
    for (size_t i = 0; i < FT_COUNT_OF(in_xml); i++) {
        if (!strstr(xml, in_xml[i])) print_error("%s lacks %s\n", xml, in_xml[i]);
        assert_non_null(strstr(xml, in_xml[i]));
    }
    static const char *const in_md[] = {
        "| task | metric | value | base | gate | result |\n|---|---|---:|---:|---|---|\n",
        ("| &lt;a&gt;&amp;\"'\\| \\*x\\* \\_y\\_ \\`z\\` @<!-- -->me\\\\x0a\\\\x01\\\\u202e | acc "
         "| "),
        "| plain | tokens | 12 |  | max 1 | FAIL |\n", "| plain | loss.b.c | "};
    for (size_t i = 0; i < FT_COUNT_OF(in_md); i++) {
        if (!strstr(md, in_md[i])) print_error("%s lacks %s\n", md, in_md[i]);
        assert_non_null(strstr(md, in_md[i]));
    }
    ft_free(config);
    str_free(&out);
}

static void samples_say_what_the_result_is_made_of(void **state)
{
    (void)state;
    str_buf out = {0};
    write_data();
    char *config = config_of("{" LOSS "}", "", false);
    test_write_file(test_path("eval.json"), config, strlen(config));
    const tool_eval_options opt = {
        .config = test_path("eval.json"), .samples = test_path("samples.jsonl"), .json = true};
    assert_ok(tool_eval(&opt, &(tool_sink){test_append, &out}));
    cJSON *result = test_json_line(out.data);
    static const char *const begin[] = {"{\"task\":\"loss\",\"line\":1,\"id\":7,\"source\":\"a\",",
                                        "{\"task\":\"loss\",\"line\":2,\"source\":\"a\",",
                                        ("{\"task\":\"loss\",\"line\":1,\"id\":[1,\"é\"],"
                                         "\"source\":\"b.c\",")};
    const char *p = test_read_file(test_path("samples.jsonl"), NULL);
    double sum = 0, tokens = 0;
    for (size_t i = 0; i < FT_COUNT_OF(begin); i++, p = next_line(p)) {
        assert_non_null(p);
        cJSON *o = test_json_line(p);
        assert_true(str_starts(p, begin[i]));
        sum += test_number(o, "loss") * test_number(o, "tokens");
        tokens += test_number(o, "tokens");
        if (i == 2) assert_true(test_number(o, "loss") == test_number(result, "loss.b.c"));
        cJSON_Delete(o);
    }
    assert_null(p);
    assert_true(tokens == test_number(result, "tokens"));
    assert_true(fabs(sum / tokens - test_number(result, "loss")) < 1e-12);
    assert_true(fabs(exp(test_number(result, "loss")) / test_number(result, "perplexity") - 1) <
                1e-12);
    assert_int_equal(test_number(result, "samples"), 3);
    cJSON_Delete(result);
    ft_free(config);
    str_free(&out);
}

static void answers_may_be_the_last_turn(void **state)
{
    (void)state;
    str_buf out = {0};
    put_file("records.jsonl",
             "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", "
             "\"content\": \"zz\"}], \"id\": \"x\"}\n"
             "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"answer\": \"zz\"}\n");
    tool_eval_options opt = {.model = source_path("data/tiny"),
                             .task = "generate",
                             .data = test_path("records.jsonl"),
                             .samples = test_path("samples.jsonl"),
                             .max_new_tokens = 4,
                             .json = true};
    assert_ok(tool_eval(&opt, &(tool_sink){test_append, &out}));
    const char *p = test_read_file(test_path("samples.jsonl"), NULL);
    cJSON *a = test_json_line(p), *b = test_json_line(next_line(p));
    assert_string_equal(text_of(a, "answer"), "zz");
    assert_string_equal(text_of(a, "text"), text_of(b, "text"));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(a, "messages")), 1);
    assert_string_equal(text_of(a, "id"), "x");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(a, "correct")));
    cJSON_Delete(a);
    cJSON_Delete(b);
    put_file("records.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n");
    assert_fails(tool_eval(&opt, &(tool_sink){test_append, &out}), FT_EDATA, "no assistant turn");
    put_file("records.jsonl", "{\"prompt\": \"a\"}\n");
    assert_fails(tool_eval(&opt, &(tool_sink){test_append, &out}), FT_EDATA, "answer: missing");
    opt.samples = opt.data;
    assert_fails(tool_eval(&opt, &(tool_sink){test_append, &out}), FT_EEXIST,
                 "is the data of task");
    opt.samples = NULL;
    opt.junit = opt.report = test_path("both");
    assert_fails(tool_eval(&opt, &(tool_sink){test_append, &out}), FT_EUSAGE, "the same file");
    str_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(benchmarks_are_the_harnesss),
        cmocka_unit_test(records_of_benchmarks_are_checked),
        cmocka_unit_test(gates_are_found_and_checked),
        cmocka_unit_test(names_are_text),
        cmocka_unit_test(samples_say_what_the_result_is_made_of),
        cmocka_unit_test(answers_may_be_the_last_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
