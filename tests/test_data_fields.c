/* test_data_fields.c – which field of a record is which: columns, dotted paths, records known by their keys, speakers. */
#include "data_fixture.h"

#define TURNS(u, a) "<|im_start|>user\n" u "<|im_end|>\n<|im_start|>assistant\n|" a "<|im_end|>|\n"

static ft_status open_source(fixture *f, const char *record, const char *more)
{
    str_buf config = {0};
    put("d.jsonl", record);
    str_printf(&config, "{\"data\":{\"train\":{\"path\":\"d.jsonl\"%s%s}}}", *more ? "," : "",
               more);
    ft_status rc = load(f, config.data, true);
    str_free(&config);
    return rc;
}

static void records_are_read_by_columns(void **state)
{
    static const struct {
        const char *record, *more, *want, *format;
    } cases[] = {
        {"{\"q\":\"Q\",\"a\":\"A\"}", "\"columns\":{\"prompt\":\"q\",\"completion\":\"a\"}",
         "Q|A<eos>", "completion"},
        {"{\"q\":\"Q\",\"a\":\"A\"}", "\"columns\":{\"instruction\":\"q\",\"output\":\"a\"}",
         TURNS("Q", "A"), "alpaca"},
        {"{\"x\":{\"y\":[\"0\",\"Q\"]},\"a.b\":\"A\",\"a\":{\"b\":\"no\"}}",
         "\"columns\":{\"prompt\":\"x.y.1\",\"completion\":\"a.b\"}", "Q|A<eos>", "completion"},
        /* a mapped key replaces one of that name, and two may change places */
        {"{\"prompt\":\"old\",\"q\":\"Q\",\"completion\":\"A\"}", "\"columns\":{\"prompt\":\"q\"}",
         "Q|A<eos>", "completion"},
        {"{\"prompt\":\"A\",\"completion\":\"Q\"}",
         "\"columns\":{\"prompt\":\"completion\",\"completion\":\"prompt\"}", "Q|A<eos>",
         "completion"},
        {"{\"t\":\"T\"}", "\"columns\":{\"prompt\":\"t\",\"completion\":\"t\"}", "T|T<eos>",
         "completion"},
        /* what is known by its keys is looked for behind the columns */
        {"{\"question\":\"Q\",\"reply\":\"A\"}", "\"columns\":{\"answer\":\"reply\"}",
         TURNS("Q", "A"), "alpaca"},
        {"{\"question\":\"Q\",\"answer\":\"A\"}",
         "\"columns\":{\"prompt\":\"question\",\"completion\":\"answer\"}", "Q|A<eos>",
         "completion"},
        {"{\"talk\":[{\"who\":\"user\",\"says\":\"Q\"},{\"who\":\"bot\",\"says\":\"A\",\"content\":"
         "\"no\"}]}",
         "\"columns\":{\"messages\":\"talk\",\"role\":\"who\",\"content\":\"says\"}",
         TURNS("Q", "A"), "messages"},
        {"{\"conversations\":[{\"from\":\"human\",\"t\":{\"x\":\"Q\"}},{\"from\":\"gpt\",\"t\":{"
         "\"x\":\"A\"}}]}",
         "\"columns\":{\"content\":\"t.x\"}", TURNS("Q", "A"), "sharegpt"},
        {"{\"messages\":[{\"from\":\"human\",\"value\":\"Q\"},{\"role\":\"model\",\"content\":"
         "\"A\"}]}",
         "", TURNS("Q", "A"), "messages"},
        {"{\"question\":\"Q\",\"answer\":\"A\"}", "", TURNS("Q", "A"), "alpaca"},
        {"{\"prompt\":\"Q\",\"response\":\"A\"}", "", TURNS("Q", "A"), "alpaca"},
        {"{\"query\":\"Q\",\"response\":\"A\"}", "", TURNS("Q", "A"), "alpaca"},
        {"{\"instruction\":\"Q\",\"context\":\"C\",\"response\":\"A\",\"category\":\"x\"}", "",
         TURNS("Q\n\nC", "A"), "alpaca"},
        {"{\"instruction\":\"Q\",\"response\":\"A\"}", "", TURNS("Q", "A"), "alpaca"},
        {"{\"input\":\"Q\",\"output\":\"A\"}", "", TURNS("Q", "A"), "alpaca"},
        {"{\"instruction\":\"Q\",\"input\":\"I\",\"output\":\"A\"}", "", TURNS("Q\n\nI", "A"),
         "alpaca"},
        {"{\"prompt\":\"Q\",\"completion\":\"A\",\"response\":\"B\"}", "", "Q|A<eos>",
         "completion"},
    };
    fixture f;
    (void)state;
    begin(&f, "columns", CHATML, false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        assert_ok(open_source(&f, cases[i].record, cases[i].more));
        if (strcmp(text_of(&f, 0), cases[i].want) != 0)
            fail_msg("%s %s: %s", cases[i].record, cases[i].more, text_of(&f, 0));
        assert_string_equal(data_stats(f.set, 0)->format, cases[i].format);
    }
    end(&f);
}

/* A list in one file is a tree that all threads read. */
static void columns_of_a_list(void **state)
{
    fixture f;
    str_buf s = {0};
    (void)state;
    begin(&f, "list", CHATML, false);
    str_addc(&s, '[');
    for (int i = 0; i < 1000; i++)
        str_printf(&s, "%s{\"v\":{\"q\":\"%d\"},\"a\":\"x\"}", i ? ",\n" : "", i);
    str_addc(&s, ']');
    put("d.json", s.data);
    assert_ok(load(&f,
                   "{\"data\":{\"train\":{\"path\":\"d.json\",\"columns\":{\"prompt\":\"v.q\","
                   "\"completion\":\"a\"}}}}",
                   true));
    assert_string_equal(text_of(&f, 999), "999|x<eos>");
    str_free(&s);
    end(&f);
}

static void what_is_not_there_is_named(void **state)
{
    static const struct {
        const char *records, *more, *what;
    } cases[] = {
        {"{\"q\":\"a\",\"a\":\"b\"}\n{\"q\":\"a\"}\n",
         "\"columns\":{\"prompt\":\"q\",\"completion\":\"a\"}",
         "d.jsonl:2:1: a: is not in this record"},
        {"{\"x\":[\"a\"],\"a\":\"b\"}", "\"columns\":{\"prompt\":\"x.1\",\"completion\":\"a\"}",
         "d.jsonl:1:1: x.1: is not in this record"},
        {"{\"x\":7,\"a\":\"b\"}", "\"columns\":{\"prompt\":\"x\",\"completion\":\"a\"}",
         "d.jsonl:1:6: x: must be a string"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
         "\"columns\":{\"role\":\"who.is\"}", "d.jsonl:1:14: who.is: is not in this turn"},
        {"{\"messages\":[{\"role\":\"critic\",\"content\":\"a\"}]}", "",
         "d.jsonl:1:22: role: unknown speaker \"critic\"; known are system, "},
        {"{\"conversations\":[{\"from\":\"us\",\"value\":\"a\"}]}", "",
         "from: unknown speaker \"us\""},
        {"{\"messages\":[{\"role\":\"human\",\"content\":\"a\"}]}", "\"roles\":{\"user\":[\"me\"]}",
         "unknown speaker \"human\""},
        {"{\"a\":\"b\",\"c\":1}", "", "(keys: a, c)"},
        {"{\"a\":\"b\",\"c\":1}", "", "\"columns\" of the source"},
        {"{\"question\":\"a\",\"answer\":\"b\"}\n{\"question\":\"a\"}\n", "",
         "d.jsonl:2:1: answer: is not in this record"},
    };
    static const struct {
        const char *more, *what;
    } wrong[] = {
        {"\"columns\":{\"promt\":\"q\"}",
         "data.train.columns.promt: unknown key; did you mean \"prompt\"?"},
        {"\"columns\":{\"prompt\":1}", "data.train.columns.prompt: must be a string"},
        {"\"columns\":{\"prompt\":\"\"}", "columns.prompt names no key"},
        {"\"columns\":[]", "data.train.columns: must be an object"},
        {"\"roles\":{\"users\":[\"q\"]}",
         "data.train.roles.users: unknown key; did you mean \"user\"?"},
        {"\"roles\":{\"user\":\"q\"}", "roles.user must be a list"},
        {"\"roles\":{\"user\":[1]}", "roles.user must be a list"},
        {"\"roles\":{\"user\":[\"gpt\"]}", "\"gpt\" speaks as assistant already"},
        {"\"roles\":{\"user\":[\"a\"],\"tool\":[\"a\"]}", "\"a\" speaks as user already"},
    };
    fixture f;
    (void)state;
    begin(&f, "missing", CHATML, false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++)
        assert_fails(open_source(&f, cases[i].records, cases[i].more), FT_EDATA, cases[i].what);
    for (size_t i = 0; i < FT_COUNT_OF(wrong); i++)
        assert_fails(open_source(&f, "{\"prompt\":\"a\",\"completion\":\"b\"}", wrong[i].more),
                     FT_ECONFIG, wrong[i].what);
    end(&f);
}

static void speakers_have_roles(void **state)
{
    static const char *const who[][2] = {
        {"system", "system"},          {"user", "user"},           {"human", "user"},
        {"prompter", "user"},          {"tool", "tool"},           {"observation", "tool"},
        {"function_response", "tool"}, {"developer", "developer"}, {"ipython", "ipython"}};
    static const char *const answers[] = {"assistant", "gpt",   "chatgpt", "bing",
                                          "bard",      "model", "bot"};
    fixture f;
    char record[300], want[200];
    (void)state;
    begin(&f, "roles", CHATML, false);
    for (size_t i = 0; i < FT_COUNT_OF(who) * FT_COUNT_OF(answers); i++) {
        const char *const *w = who[i % FT_COUNT_OF(who)], *a = answers[i % FT_COUNT_OF(answers)];
        snprintf(record, sizeof record,
                 i % 2 ? "{\"messages\":[{\"role\":\"%s\",\"content\":\"Q\"},{\"role\":\"%s\","
                         "\"content\":\"A\"}]}"
                       : "{\"conversations\":[{\"from\":\"%s\",\"value\":\"Q\"},{\"from\":\"%s\","
                         "\"value\":\"A\"}]}",
                 w[0], a);
        snprintf(want, sizeof want,
                 "<|im_start|>%s\nQ<|im_end|>\n<|im_start|>assistant\n|A<|im_end|>|\n", w[1]);
        assert_ok(open_source(&f, record, ""));
        assert_string_equal(text_of(&f, 0), want);
    }
    assert_ok(open_source(&f,
                          "{\"messages\":[{\"role\":\"customer\",\"content\":\"Q\"},{\"role\":"
                          "\"gpt\",\"content\":\"A\"}]}",
                          "\"roles\":{\"user\":[\"customer\"]}"));
    assert_string_equal(text_of(&f, 0), TURNS("Q", "A"));
    end(&f);
}

static int64_t unread(const fixture *f, const char *key)
{
    const data_source_stats *st = data_stats(f->set, 0);
    for (int i = 0; i < st->n_unread; i++)
        if (!strcmp(st->unread[i].key, key)) return st->unread[i].records;
    return 0;
}

static void unread_keys_are_those_of_the_record(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "unread", CHATML, false);
    assert_ok(open_source(
        &f, "{\"prompt\":\"old\",\"q\":{\"t\":\"Q\"},\"a\":\"A\",\"id\":1,\"rating\":2}",
        "\"columns\":{\"prompt\":\"q.t\",\"completion\":\"a\",\"label\":\"rating\"}"));
    assert_int_equal(data_stats(f.set, 0)->n_unread, 3);
    assert_int_equal(unread(&f, "prompt"), 1); /* it was replaced */
    assert_int_equal(unread(&f, "rating"), 1); /* taken, and the format has no use for it */
    assert_int_equal(unread(&f, "id"), 1);
    assert_ok(open_source(
        &f, "{\"instruction\":\"Q\",\"context\":\"\",\"response\":\"A\",\"category\":\"x\"}", ""));
    assert_int_equal(data_stats(f.set, 0)->n_unread, 1);
    assert_int_equal(unread(&f, "category"), 1);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read_by_columns),
        cmocka_unit_test(columns_of_a_list),
        cmocka_unit_test(what_is_not_there_is_named),
        cmocka_unit_test(speakers_have_roles),
        cmocka_unit_test(unread_keys_are_those_of_the_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
