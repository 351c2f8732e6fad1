/* test_data_told.c – what a record holds and its sample does not: refused, told or counted. */
#include "data_fixture.h"

#define MESSAGE(role, content) "{\"role\":\"" role "\",\"content\":\"" content "\"}"
#define CALL(name, arguments)                                                                      \
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"type\":\"function\","             \
    "\"function\":{"                                                                               \
    "\"name\":\"" name "\",\"arguments\":" arguments "}}]}"

/* Prints calls, tools and reasoning. */
#define WHOLE                                                                                      \
    "{% if tools %}T{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|im_start|>{{ "       \
    "m.role }}\n"                                                                                  \
    "{% if m.reasoning_content %}R{{ m.reasoning_content }}{% endif %}{{ m.content or '' }}"       \
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor " \
    "%}"                                                                                           \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
/* Only the names of calls. */
#define NAMES                                                                                      \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in "           \
    "m.tool_calls or [] %}"                                                                        \
    "{{ c.function.name }}{% endfor %}<|im_end|>\n{% endfor %}"                                    \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
/* No reasoning but that of the last message; or none. */
#define THINKS(which)                                                                              \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if " which " %}{{ m.content }}{% else %}" \
    "{{ m.content.split('</think>')[-1] }}{% endif %}<|im_end|>\n{% endfor %}"                     \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
/* Text otherwise than it is written, but all of it. */
#define QUOTES                                                                                     \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | tojson }}<|im_end|>\n{% "     \
    "endfor %}"                                                                                    \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
/* Forgets assistant text beside a call, and what the system says. */
#define FORGETS                                                                                    \
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{% if m.tool_calls "   \
    "%}{{ m.tool_calls | tojson }}"                                                                \
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"                                 \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

/* What a tool answers is not printed. */
#define NO_RESULTS                                                                                 \
    "{% for m in messages if m.role != 'tool' %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"   \
    "{{ m.tool_calls | tojson if m.tool_calls else '' }}<|im_end|>\n{% endfor %}"                  \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

static const char asks[] = "{\"messages\":[" MESSAGE("user", "weather?") "," CALL(
    "get_weather", "{\"city\":\"Paris\"}") "," MESSAGE("tool",
                                                       "rain") "," MESSAGE("assistant",
                                                                           "It rains.") "]}\n";
static const char with_tools[] = "{\"messages\":[" MESSAGE("user", "hi") "," MESSAGE(
    "assistant",
    "hello") "],\"tools\":[{\"type\":\"function\","
             "\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{}}}]}\n";
static const char thinks_first[] = "{\"messages\":[" MESSAGE("user", "a") "," MESSAGE(
    "assistant", "<think>why</think>one") "," MESSAGE("user", "b") "," MESSAGE("assistant",
                                                                               "two") "]}\n";
static const char thinks_last[] =
    "{\"messages\":[" MESSAGE("user", "a") "," MESSAGE("assistant", "<think>why</think>one") "]}\n";
static const char reasons[] = "{\"messages\":[" MESSAGE(
    "user", "a") ",{\"role\":\"assistant\",\"content\":\"one\",\"reasoning_content\":\"why\"}]}\n";
static const char newline[] = "{\"messages\":[" MESSAGE("user", "a") "," MESSAGE(
    "assistant", "  one \\\"two\\\"\\nthree\\n") "]}\n";
static const char beside[] =
    "{\"messages\":[" MESSAGE("user", "a") ",{\"role\":\"assistant\",\"content\":\"I "
                                           "look.\",\"tool_calls\":[{\"type\":\"function\","
                                           "\"function\":{\"name\":\"f\",\"arguments\":{}}}]}]}\n";
static const char with_system[] = "{\"messages\":[" MESSAGE("system", "be brief") "," MESSAGE(
    "user", "a") "," MESSAGE("assistant", "b") "]}\n";

static void text_that_is_not_printed_is_refused(void **state)
{
    static const struct {
        const char *template, *records, *wrong; /* wrong: NULL, nothing is lost */
    } cases[] = {
        {WHOLE, asks, NULL},
        {WHOLE, with_tools, NULL},
        {WHOLE, reasons, NULL},
        {CHATML, newline, NULL},
        {QUOTES, newline, NULL},
        {NAMES, asks,
         "turn 2: the chat template does not print the arguments of its call of \"get_weather\""},
        {FORGETS, asks, NULL},
        {"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}<|im_end|>\n{% "
         "endfor %}",
         asks, "turn 2: the chat template does not print its call of \"get_weather\""},
        {CHATML, with_tools, "never prints the tools"},
        {"{% if tools %}You have tools.\n{% endif %}" CHATML, with_tools, "never prints the tools"},
        {"{% for t in tools or [] %}{{ t.function.description }}\n{% endfor %}" CHATML, with_tools,
         NULL},
        {CHATML, reasons, "turn 2: the chat template does not print its reasoning"},
        {THINKS("loop.last"), thinks_first, NULL},
        {THINKS("loop.last"), thinks_last, NULL},
        {THINKS("false"), thinks_first, NULL},
        {THINKS("false"), thinks_last,
         "turn 2: the chat template does not print its text (\"<think>why"},
        {FORGETS, beside, "turn 2: the chat template does not print its text (\"I look.\")"},
        {FORGETS, with_system, NULL}, /* is not learned */
        {"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:2] }}<|im_end|>\n{% "
         "endfor %}",
         newline, "turn 2: the chat template does not print its text"},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        fixture f;
        char file[40], config[120];
        str_buf s = {0};
        begin(&f, "lost", cases[i].template, false);
        snprintf(file, sizeof file, "l%zu.jsonl", i);
        str_printf(&s, "\n%s", cases[i].records);
        put(file, s.data);
        snprintf(config, sizeof config, "{\"data\":{\"train\":\"%s\"}}", file);
        ft_status rc = load(&f, config, true);
        snprintf(file, sizeof file, "l%zu.jsonl:2:", i);
        if (rc != (cases[i].wrong ? FT_EDATA : FT_OK))
            print_error("case %zu: %d %s\n", i, (int)rc, ft_error());
        assert_int_equal(rc, cases[i].wrong ? FT_EDATA : FT_OK);
        if (cases[i].wrong && (!strstr(ft_error(), cases[i].wrong) || !strstr(ft_error(), file) ||
                               !strstr(ft_error(), "data.on_loss")))
            fail_msg("case %zu: %s", i, ft_error());
        str_free(&s);
        end(&f);
    }
}

/* All turns are learned: then the system's must be there too. */
static void what_is_learned_must_be_printed(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "all", FORGETS, false);
    put("s.jsonl", with_system);
    assert_fails(load(&f, "{\"data\":{\"train\":\"s.jsonl\",\"assistant_only_loss\":false}}", true),
                 FT_EDATA, "turn 1: the chat template does not print its text (\"be brief\")");
    put("w.jsonl",
        "{\"messages\":[" MESSAGE(
            "user", "a") ",{\"role\":\"assistant\",\"content\":\"x\",\"weight\":0,"
                         "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}"
                         "}}]}," MESSAGE("user", "c") "," MESSAGE("assistant", "d") "]}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"w.jsonl\"}}", true)); /* not learned */
    end(&f);
}

static char warnings[4000];

static void keep(void *ctx, log_level level, const char *line)
{
    (void)ctx;
    if (level != LOG_WARN) return;
    strncat(warnings, line, sizeof warnings - strlen(warnings) - 2);
    strcat(warnings, "\n");
}

static int count(const char *text, const char *what)
{
    int n = 0;
    while ((text = strstr(text, what))) {
        n++;
        text++;
    }
    return n;
}

static void loss_warns_or_drops(void **state)
{
    fixture f;
    str_buf s = {0};
    (void)state;
    begin(&f, "policy",
          "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}<|im_end|>\n{% "
          "endfor %}",
          false);
    for (int i = 0; i < 3; i++) str_adds(&s, i == 1 ? with_system : asks);
    put("p.jsonl", s.data);
    log_set_sink(keep, NULL);
    warnings[0] = '\0';
    assert_ok(load(&f, "{\"data\":{\"train\":\"p.jsonl\",\"on_loss\":\"warn\"}}", true));
    assert_int_equal(data_count(f.set), 3);
    assert_int_equal(data_stats(f.set, 0)->lost, 2);
    assert_int_equal(data_stats(f.set, 0)->dropped, 0);
    assert_int_equal(count(warnings, "get_weather"), 1);
    assert_non_null(strstr(warnings, "p.jsonl:1:"));
    warnings[0] = '\0';
    assert_ok(load(&f, "{\"data\":{\"train\":\"p.jsonl\",\"on_loss\":\"drop\"}}", true));
    assert_int_equal(data_count(f.set), 1);
    assert_int_equal(data_stats(f.set, 0)->lost, 2);
    assert_int_equal(data_stats(f.set, 0)->dropped, 2);
    assert_int_equal(data_stats(f.set, 0)->records, 3);
    assert_int_equal(count(warnings, "\n"), 1);
    put("p.jsonl", asks);
    assert_fails(load(&f, "{\"data\":{\"train\":\"p.jsonl\",\"on_loss\":\"drop\"}}", true),
                 FT_EDATA, "on_loss");
    log_set_sink(NULL, NULL);
    str_free(&s);
    end(&f);
}

static void what_is_said_and_not_printed_is_told(void **state)
{
    static const struct {
        const char *template, *records, *said; /* said: NULL, nothing is told */
    } cases[] = {
        {FORGETS, with_system,
         "s.jsonl:2: turn 1 (system, \"be brief\"): the chat template does not print"},
        {NO_RESULTS, asks, "s.jsonl:2: turn 3 (tool, \"rain\"): the chat template does not print"},
        {CHATML, with_system, NULL},
        {WHOLE, asks, NULL},
        {QUOTES, with_system, NULL},
        {"{% for m in messages %}{% if m.role == 'system' %}{% else %}<|im_start|>{{ m.role }}\n"
         "{% if loop.index0 == 1 and messages[0].role == 'system' %}<<{{ messages[0].content | "
         "trim "
         "}}>>{% endif %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}",
         with_system, NULL}, /* in the user's turn */
        {"{% for m in messages %}{% if m.role == 'system' and m.content != 'be brief' %}{{ "
         "raise_exception('no') }}{% endif %}{% endfor %}" CHATML,
         with_system, NULL}, /* it looks at it */
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        fixture f;
        str_buf s = {0};
        begin(&f, "said", cases[i].template, false);
        str_printf(&s, "\n%s%s", cases[i].records, cases[i].records);
        put("s.jsonl", s.data);
        log_set_sink(keep, NULL);
        warnings[0] = '\0';
        assert_ok(load(&f, "{\"data\":{\"train\":\"s.jsonl\"}}", true));
        log_set_sink(NULL, NULL);
        assert_int_equal(count(warnings, "does not print"), cases[i].said != NULL);
        if (cases[i].said) assert_non_null(strstr(warnings, cases[i].said));
        if (cases[i].said) assert_non_null(strstr(warnings, "2 records"));
        assert_int_equal(data_stats(f.set, 0)->lost, 0);
        assert_int_equal(data_stats(f.set, 0)->unprinted, cases[i].said ? 2 : 0);
        str_free(&s);
        end(&f);
    }
}

/* A chat of function calls over a template that has no place for them: every turn that calls is caught. */
static void share_gpt_calls_are_not_lost(void **state)
{
    fixture f;
    (void)state;
    put("g.jsonl", "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"function_"
                   "call\",\"value\":"
                   "\"{\\\"name\\\": \\\"look\\\", \\\"arguments\\\": {\\\"n\\\": "
                   "1}}\"},{\"from\":\"observation\",\"value\":\"r\"},"
                   "{\"from\":\"gpt\",\"value\":\"s\"}]}\n");
    begin(&f, "share", CHATML, false);
    assert_fails(load(&f, "{\"data\":{\"train\":\"g.jsonl\"}}", true), FT_EDATA,
                 "g.jsonl:1:18: turn 2: the chat template does not print its call of \"look\"");
    end(&f);
    begin(&f, "share2", WHOLE, false);
    assert_ok(load(&f, "{\"data\":{\"train\":\"g.jsonl\"}}", true));
    assert_int_equal(data_stats(f.set, 0)->empty, 0);
    end(&f);
}

/* --- counts --------------------------------------------------------------------------------------------------------- */
static int64_t unread(const data_source_stats *st, const char *key)
{
    for (int i = 0; i < st->n_unread; i++)
        if (!strcmp(st->unread[i].key, key)) return st->unread[i].records;
    return 0;
}

static void keys_that_are_not_read_are_counted(void **state)
{
    static const struct {
        const char *records, *key;
        int64_t count;
        int others;
    } cases[] = {
        {"{\"prompt\":\"a\",\"completion\":\"b\",\"id\":7}\n{\"prompt\":\"a\",\"completion\":\"c\","
         "\"id\":null}\n",
         "id", 1, 0},
        {"{\"prompt\":\"a\",\"completion\":\"b\",\"system\":\"s\",\"tools\":[]}\n", "system", 1, 1},
        {"{\"text\":\"a b\",\"url\":\"u\"}\n{\"text\":\"c d\",\"url\":\"v\"}\n", "url", 2, 0},
        {"{\"input_ids\":[1,2],\"labels\":[1,2],\"attention_mask\":[1,1]}\n", "attention_mask", 1,
         0},
        {"{\"messages\":[" MESSAGE("user", "a") "," MESSAGE(
             "assistant", "b") "],\"tools\":null,\"prompt\":\"x\",\"source\":\"y\"}\n",
         "prompt", 1, 1},
        {"{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":"
         "\"s\"}],\"system\":\"t\",\"id\":\"1\"}\n",
         "id", 1, 0},
        {"{\"instruction\":\"a\",\"input\":\"\",\"output\":\"b\",\"system\":\"\",\"text\":\"c\"}\n",
         "text", 1, 0},
    };
    fixture f;
    (void)state;
    begin(&f, "unread", CHATML, false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        put("u.jsonl", cases[i].records);
        assert_ok(load(&f, "{\"data\":{\"train\":\"u.jsonl\"}}", true));
        const data_source_stats *st = data_stats(f.set, 0);
        if (unread(st, cases[i].key) != cases[i].count || st->n_unread != 1 + cases[i].others)
            fail_msg("%s: %lld of %d", cases[i].records, (long long)unread(st, cases[i].key),
                     st->n_unread);
    }
    str_buf s = {0};
    for (int i = 0; i < 1000; i++)
        str_printf(&s, "{\"prompt\":\"a\",\"completion\":\"b\",\"k%d\":1}\n", i);
    put("u.jsonl", s.data);
    assert_ok(load(&f, "{\"data\":{\"train\":\"u.jsonl\"}}", true)); /* any number of names */
    assert_int_equal(data_stats(f.set, 0)->n_unread, 64);
    assert_int_equal(unread(data_stats(f.set, 0), "k62"), 1);
    assert_int_equal(unread(data_stats(f.set, 0), "…"), 1000 - 63);
    str_free(&s);
    end(&f);
}

static void equal_records_and_empty_answers_are_counted(void **state)
{
    fixture f;
    str_buf s = {0};
    (void)state;
    begin(&f, "equal", CHATML, false);
    put("a.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n{ \"completion\": \"b\", \"prompt\": "
                   "\"\\u0061\" }\n"
                   "{\"prompt\":\"a\",\"completion\":\"b\",\"id\":1}\n{\"prompt\":\"a\","
                   "\"completion\":\"\"}\n{\"prompt\":\"b\",\"completion\":\" \\n\"}\n");
    put("d.jsonl", "{\"text\":\"a b\"}\n{\"text\":\" \\t\\n\"}\n{\"text\":\"\"}\n");
    put("b.jsonl",
        "{\"prompt\":\"x\",\"completion\":\"y\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n");
    put("c.jsonl",
        "{\"messages\":[" MESSAGE("user", "a") "," MESSAGE("assistant", "") "," MESSAGE(
            "user", "c") "," MESSAGE("assistant", "d") "]}\n"
                                                       "{\"messages\":[" MESSAGE(
                                                           "user", "") "," MESSAGE("assistant",
                                                                                   "d") "]}\n");
    assert_ok(
        load(&f, "{\"data\":{\"train\":[\"a.jsonl\",\"b.jsonl\",\"c.jsonl\",\"d.jsonl\"]}}", true));
    assert_int_equal(data_stats(f.set, 0)->duplicates, 1);
    assert_int_equal(data_stats(f.set, 1)->duplicates, 1);
    assert_int_equal(data_stats(f.set, 2)->duplicates, 0);
    assert_int_equal(data_stats(f.set, 0)->empty, 2);
    assert_int_equal(data_stats(f.set, 1)->empty, 0);
    assert_int_equal(data_stats(f.set, 2)->empty, 1);
    assert_int_equal(data_stats(f.set, 3)->empty, 2);
    for (int i = 0; i < 5000; i++)
        str_printf(&s, "{\"input_ids\":[1,%d],\"labels\":[1,%d]}\n", i % 250, i % 125);
    put("t.jsonl", s.data);
    assert_ok(load(&f, "{\"data\":{\"train\":\"t.jsonl\"}}", true));
    assert_int_equal(data_stats(f.set, 0)->duplicates, 5000 - 250);
    str_free(&s);
    end(&f);
}

/* A tokenizer of bytes merges nothing, one with a merge does: "Q:" + " A" where the space goes with what follows. */
static void borders_that_merge_are_counted(void **state)
{
    static const char *const records =
        "{\"prompt\":\"the vill\",\"completion\":\"age\"}\n{\"prompt\":\"the\",\"completion\":\" "
        "village\"}\n";
    fixture f, g;
    (void)state;
    put("m.jsonl", records);
    begin(&f, "bytes", NULL, false);
    assert_ok(load(&f, "{\"data\":{\"train\":\"m.jsonl\"}}", true));
    assert_int_equal(data_stats(f.set, 0)->merged_borders, 0);
    end(&f);
    g = (fixture){0};
    assert_ok(tok_open(&g.tok, source_path("data/tiny")));
    assert_ok(arena_open(&g.mem, "test", 64u << 20));
    tok_ids whole = {0}, head = {0};
    assert_ok(tok_encode(g.tok, "the village", 11, false, &whole));
    assert_ok(tok_encode(g.tok, "the vill", 8, false, &head));
    assert_true(memcmp(whole.id, head.id, (size_t)head.n * sizeof *head.id) !=
                0); /* they do merge */
    assert_ok(load(&g, "{\"data\":{\"train\":\"m.jsonl\"}}", true));
    assert_int_equal(data_stats(g.set, 0)->merged_borders, 1);
    tok_ids_free(&whole);
    tok_ids_free(&head);
    end(&g);
}

static void labels_under_another_name_are_refused(void **state)
{
    static const char *const near[] = {"label", "lables", "Labels", "label_ids", "lm_labels"};
    fixture f;
    (void)state;
    begin(&f, "near", NULL, false);
    for (size_t i = 0; i < FT_COUNT_OF(near); i++) {
        char text[200], what[80];
        snprintf(text, sizeof text,
                 "{\"input_ids\":[1,2,3],\"labels\":[1,2,3]}\n{\"input_ids\":[1,2,3],\"%s\":[1,2,-"
                 "100]}\n",
                 near[i]);
        snprintf(what, sizeof what, ": %s: is not read", near[i]);
        put("n.jsonl", text);
        assert_fails(load(&f, "{\"data\":{\"train\":\"n.jsonl\"}}", true), FT_EDATA, what);
        assert_non_null(strstr(ft_error(), "n.jsonl:2:"));
    }
    put("n.jsonl", "{\"input_ids\":[1,2,3],\"attention_mask\":[1,1,1],\"token_type_ids\":[0,0,0],"
                   "\"position_ids\":[0,1,2]}\n"
                   "{\"input_ids\":[1,2,3],\"labels\":[1,2,3],\"label\":1}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"n.jsonl\"}}", true));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_that_is_not_printed_is_refused),
        cmocka_unit_test(what_is_learned_must_be_printed),
        cmocka_unit_test(loss_warns_or_drops),
        cmocka_unit_test(what_is_said_and_not_printed_is_told),
        cmocka_unit_test(share_gpt_calls_are_not_lost),
        cmocka_unit_test(keys_that_are_not_read_are_counted),
        cmocka_unit_test(equal_records_and_empty_answers_are_counted),
        cmocka_unit_test(borders_that_merge_are_counted),
        cmocka_unit_test(labels_under_another_name_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
