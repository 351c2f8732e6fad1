/* test_data.c – sources, formats, masks and rows, on files and a tokenizer the test writes. */
#include "data_fixture.h"

/* Text of the sample with what is trained on in [ ]. */
static const char *marked(const fixture *f, int64_t sample)
{
    static str_buf s;
    data_sample x;
    bool on = false;
    str_clear(&s);
    assert_ok(data_get(f->set, sample, &x, f->mem));
    for (int64_t i = 0; i < x.len; i++) {
        bool sup = x.labels[i] != DATA_IGNORE;
        if (sup != on) str_addc(&s, sup ? '[' : ']');
        on = sup;
        if (x.ids[i] >= 256)
            str_adds(&s, specials[x.ids[i] - 256]);
        else
            str_addc(&s, (char)x.ids[i]);
    }
    if (on) str_addc(&s, ']');
    return s.data;
}

static void expect_failure(fixture *f, const char *file, const char *text, const char *where,
                           const char *what)
{
    char config[700];
    put(file, text);
    snprintf(config, sizeof config, "{\"data\":{\"train\":\"%s\"}}", file);
    ft_status rc = load(f, config, true);
    if (rc != FT_EDATA || !strstr(ft_error(), where) || !strstr(ft_error(), what)) {
        print_error("%s: status %d, %s\n  wanted %s %s\n", text, (int)rc, ft_error(), where, what);
        fail();
    }
}

/* --- formats and masks ------------------------------------------------------------------------------------ */
static void masks_assistant_turns(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "chatml", CHATML, false);
    put("m.jsonl",
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"
        "\"hi\"},"
        "{\"role\":\"assistant\",\"content\":\"yo \"},{\"role\":\"user\",\"content\":\"more\"},"
        "{\"role\":\"assistant\",\"content\":\"\\nend\"}]}\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{"
        "\"type\":\"text\",\"value\":\"b\"}]},"
        "{\"role\":\"assistant\",\"content\":\"\"}]}\n\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":"
        "\"no\",\"weight\":0},"
        "{\"role\":\"user\",\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"yes\"}]}\n"
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"first\"},{\"role\":\"user\","
        "\"content\":\"u\"}]}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"m.jsonl\"}}", true));
    assert_int_equal(data_count(f.set), 4);
    assert_string_equal(
        marked(&f, 0),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>"
        "assistant\n[yo <|im_end|>]\n<|im_start|>user\nmore<|im_end|>\n"
        "<|im_start|>assistant\n[\nend<|im_end|>]\n");
    assert_string_equal(marked(&f, 1),
                        "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n[<|im_end|>]\n");
    assert_string_equal(marked(&f, 2),
                        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n"
                        "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n[yes<|im_end|>]\n");
    assert_string_equal(
        marked(&f, 3), "<|im_start|>assistant\n[first<|im_end|>]\n<|im_start|>user\nu<|im_end|>\n");
    data_sample x;
    assert_ok(data_get(f.set, 2, &x, f.mem));
    assert_int_equal(x.line, 4);
    assert_ok(load(&f, "{\"data\":{\"train\":\"m.jsonl\",\"assistant_only_loss\":false}}", true));
    assert_int_equal(data_stats(f.set, 0)->supervised, data_stats(f.set, 0)->tokens - 4);
    end(&f);
}

/* Templates that write the past otherwise than the present, or mark the turns themselves. */
static void masks_in_unusual_templates(void **state)
{
    static const struct {
        const char *name, *template, *want;
    } cases[] = {
        {"think", /* reasoning and an empty think block in the last turn only */
         "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and "
         "loop.last %}<think></think>"
         "{% endif %}{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
         "<|im_start|>user\nu1<|im_end|>\n<|im_start|>assistant\n[a1<|im_end|>]\n<|im_start|>"
         "user\nu2<|im_end|>\n"
         "<|im_start|>assistant\n[<think></think>a2<|im_end|>]\n"},
        {"r1", /* the generation prompt opens a block that history does not have */
         "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}{% else %}A:{{ "
         "m.content.split('</think>')[-1] }}"
         "<eos>{% endif %}{% endfor %}{% if add_generation_prompt %}A:<think>\n{% endif %}",
         "U:u1A:[a1<eos>]U:u2A:[a2<eos>]"},
        {"inst", /* no generation prompt; a space belongs to the turn */
         "<bos>{% for m in messages %}{% if m.role == 'user' %}[I]{{ m.content }}[/I]{% else %} {{ "
         "m.content | trim }}<eos>"
         "{% endif %}{% endfor %}",
         "<bos>[I]u1[/I][ x</think>a1<eos>][I]u2[/I][ a2<eos>]"},
        {"tags",
         "{% for m in messages %}{% if m.role == 'user' %}U{{ m.content }}{% else %}A{% generation "
         "%}{{ m.content }}<eos>\n"
         "{% endgeneration %}{% endif %}{% endfor %}",
         "Uu1A[x</think>a1<eos>]\nUu2A[a2<eos>]\n"},
        {"tags-short",
         "{% for m in messages %}{{ m.role }}:{% if m.role == 'user' %}{{ m.content }}{% else %}{% "
         "generation %}{{ m.content }}"
         "{% endgeneration %}<eos>{% endif %}\n{% endfor %}",
         "user:u1assistant:[x</think>a1<eos>]user:u2assistant:[a2<eos>]"},
        {"noend",
         "{% for m in messages %}{{ m.role }}: {{ m.content.split('>')[-1] }}\n{% endfor %}"
         "{% if add_generation_prompt %}assistant: {% endif %}",
         "user: u1\nassistant: [a1\n]user: u2\nassistant: [a2\n<eos>]"},
        {"after", /* more than white space follows the end of the last turn */
         "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('>')[-1] "
         "}}<|im_end|>\n{% endfor %}"
         "{{ '<|im_start|>assistant\n' if add_generation_prompt else eos_token }}",
         "<|im_start|>user\nu1<|im_end|>\n<|im_start|>assistant\n[a1<|im_end|>]\n<|im_start|>"
         "user\nu2<|im_end|>\n"
         "<|im_start|>assistant\n[a2<|im_end|>]\n<eos>"},
        {"prefix", /* everything moves when a message is added */
         "{{ messages|length }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ "
         "m.content.split('>')[-1] }}<|im_end|>\n{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
         "4<|im_start|>user\nu1<|im_end|>\n<|im_start|>assistant\n[a1<|im_end|>]\n<|im_start|>"
         "user\nu2<|im_end|>\n"
         "<|im_start|>assistant\n[a2<|im_end|>]\n"},
    };
    (void)state;
    put("u.jsonl",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"u1\"},{\"role\":\"assistant\",\"content\":"
        "\"x</think>a1\"},"
        "{\"role\":\"user\",\"content\":\"u2\"},{\"role\":\"assistant\",\"content\":\"a2\"}]}\n");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        fixture f;
        begin(&f, cases[i].name, cases[i].template, false);
        assert_ok(load(&f, "{\"data\":{\"train\":\"u.jsonl\"}}", true));
        if (strcmp(marked(&f, 0), cases[i].want) != 0) print_error("%s\n", cases[i].name);
        assert_string_equal(marked(&f, 0), cases[i].want);
        end(&f);
    }
}

static void renders_other_formats(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "formats",
          "{% for t in tools or [] %}{{ t|tojson }}{% endfor %}{% for m in messages "
          "%}<|im_start|>{{ m.role }}\n"
          "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ "
          "c.function.arguments|tojson }}"
          "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt "
          "%}<|im_start|>assistant\n{% endif %}",
          true);
    put("alpaca.json", "[{\"instruction\":\"Do\",\"input\":\"it\",\"output\":\"ok\"},\n "
                       "{\"instruction\":\"Do\",\"input\":\"\",\"output\":\"k\"}]");
    assert_ok(load(&f, "{\"data\":{\"train\":\"alpaca.json\"}}", true));
    assert_string_equal(
        marked(&f, 0),
        "<|im_start|>user\nDo\n\nit<|im_end|>\n<|im_start|>assistant\n[ok<|im_end|>]\n");
    assert_string_equal(marked(&f, 1),
                        "<|im_start|>user\nDo<|im_end|>\n<|im_start|>assistant\n[k<|im_end|>]\n");
    assert_string_equal(data_stats(f.set, 0)->format, "alpaca");
    data_sample x;
    assert_ok(data_get(f.set, 1, &x, f.mem));
    assert_int_equal(x.line, 2);

    put("share.jsonl", "{\"conversations\":[{\"from\":\"human\",\"value\":\"w?\"},{\"from\":"
                       "\"function_call\",\"value\":"
                       "\"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {\\\"c\\\": 20.0, "
                       "\\\"n\\\": 1}}\"},{\"from\":\"observation\",\"value\":\"7\"},"
                       "{\"from\":\"gpt\",\"value\":\"seven\"}],\"tools\":\"[{\\\"name\\\": "
                       "\\\"f\\\"}]\",\"system\":\"sys\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":{\"path\":\"share.jsonl\",\"format\":\"sharegpt\"}}}",
                   true));
    assert_string_equal(marked(&f, 0),
                        "{\"type\": \"function\", \"function\": {\"name\": "
                        "\"f\"}}<|im_start|>system\nsys<|im_end|>\n<|im_start|>user\n"
                        "w?<|im_end|>\n<|im_start|>assistant\n[f{\"c\": 20.0, \"n\": "
                        "1}<|im_end|>]\n<|im_start|>tool\n7<|im_end|>\n"
                        "<|im_start|>assistant\n[seven<|im_end|>]\n");

    put("c.jsonl",
        "{\"prompt\":\"Q: \",\"completion\":\"A\"}\n{\"prompt\":\"\",\"completion\":\"B<eos>\"}\n"
        "{\"prompt\":\"<bos>x\",\"completion\":\"\"}\n"
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":"
        "\"v\"},"
        "{\"role\":\"user\",\"content\":\"w\"}],\"completion\":[{\"role\":\"assistant\","
        "\"content\":\"z\"}]}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"c.jsonl\"}}", true));
    assert_string_equal(marked(&f, 0), "<bos>Q: [A<eos>]");
    assert_string_equal(marked(&f, 1), "<bos>[B<eos>]");
    assert_string_equal(marked(&f, 2), "<bos>x[<eos>]");
    assert_string_equal(
        marked(&f, 3),
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\nv<|im_end|>\n<|im_start|>user\n"
        "w<|im_end|>\n<|im_start|>assistant\n[z<|im_end|>]\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"c.jsonl\",\"completion_only_loss\":false}}", true));
    assert_string_equal(marked(&f, 0), "[<bos>Q: A<eos>]");

    put("t.jsonl", "{\"input_ids\":[1,2,3],\"labels\":[-100,7,3]}\n{\"input_ids\":[4,5]}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"t.jsonl\"}}", true));
    assert_ok(data_get(f.set, 0, &x, f.mem));
    assert_int_equal(x.labels[1], 7);
    assert_ok(data_get(f.set, 1, &x, f.mem));
    assert_int_equal(x.labels[0], 4);
    assert_int_equal(data_max_id(f.set), 7);
    end(&f);

    begin(&f, "plain", NULL, false);
    assert_ok(load(&f, "{\"data\":{\"train\":\"alpaca.json\"}}", true));
    assert_string_equal(marked(&f, 1),
                        "Below is an instruction that describes a task. Write a response that "
                        "appropriately completes "
                        "the request.\n\n### Instruction:\nDo\n\n### Response:[k<eos>]");
    assert_non_null(
        strstr(marked(&f, 0),
               "further context. Write a response that appropriately completes the request.\n\n"
               "### Instruction:\nDo\n\n### Input:\nit\n\n### Response:[ok<eos>]"));
    end(&f);
}

/* --- text ----------------------------------------------------------------------------------------------------- */
static void cuts_documents_into_rows(void **state)
{
    fixture f;
    data_sample x;
    (void)state;
    begin(&f, "text", NULL, false);
    put("d.jsonl", "{\"text\":\"abcde\"}\n{\"text\":\"fg\"}\n{\"text\":\"hijk\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"d.jsonl\",\"max_length\":4}}", true));
    /* abcd | e$ fg… : abcde<eos>fg<eos>hijk = 13 tokens in rows of 4 */
    assert_int_equal(data_count(f.set), 3);
    assert_ok(data_get(f.set, 1, &x, f.mem));
    assert_int_equal(x.len, 4);
    assert_int_equal(x.n_seq, 2);
    assert_int_equal(x.seq_len[0], 2);
    assert_int_equal(x.ids[1], EOS);
    assert_int_equal(x.ids[2], 'f');
    assert_ok(
        data_get(f.set, 2, &x, f.mem)); /* <eos> | hij, and a last row of one token is left out */
    assert_int_equal(x.seq_len[0], 1);
    assert_int_equal(x.seq_len[1], 3);
    assert_int_equal(data_stats(f.set, 0)->tokens, 12);
    assert_int_equal(data_stats(f.set, 0)->supervised, 3 + 2 + 2);
    assert_int_equal(data_stats(f.set, 0)->records, 3);

    assert_ok(load(&f, "{\"data\":{\"train\":\"d.jsonl\",\"max_length\":4,\"packing\":\"concat\"}}",
                   true));
    assert_ok(data_get(f.set, 1, &x, f.mem));
    assert_int_equal(x.n_seq, 1);
    assert_int_equal(data_stats(f.set, 0)->supervised, 9);

    put("d.txt", "abcde--fg--hijk");
    assert_ok(load(&f,
                   "{\"data\":{\"train\":{\"path\":\"d.txt\",\"document_separator\":\"--\","
                   "\"limit\":2},\"max_length\":4}}",
                   true));
    assert_int_equal(data_stats(f.set, 0)->records, 2);
    assert_int_equal(data_stats(f.set, 0)->tokens, 8);
    assert_ok(load(&f, "{\"data\":{\"train\":\"d.txt\",\"max_length\":100}}", true));
    assert_int_equal(data_stats(f.set, 0)->tokens, 15);
    end(&f);
}

static void long_texts_keep_their_tokens(void **state)
{
    fixture f;
    str_buf s = {0};
    tok_ids whole = {0};
    (void)state;
    begin(&f, "long", NULL, false);
    for (int i = 0; i < 30000; i++)
        str_printf(&s, "line %d of a long text%s", i, i % 7 == 0 ? "\n\n" : i % 5 ? "\n" : " ");
    test_write_file(test_path("l.txt"), s.data, s.len);
    assert_ok(load(&f, "{\"data\":{\"train\":\"l.txt\",\"max_length\":16777216}}", true));
    assert_ok(tok_encode(f.tok, s.data, s.len, false, &whole));
    data_sample x;
    assert_ok(data_get(f.set, 0, &x, f.mem));
    assert_int_equal(x.len, whole.n);
    assert_memory_equal(x.ids, whole.id, (size_t)whole.n * sizeof *whole.id);
    tok_ids_free(&whole);
    str_free(&s);
    end(&f);
}

/* --- truncation, mistakes ----------------------------------------------------------------------------------------- */
static void counts_what_truncation_takes(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "trunc", CHATML, false);
    put("c.jsonl", "{\"prompt\":\"12345678\",\"completion\":\"x\"}\n{\"prompt\":\"1\","
                   "\"completion\":\"123456789\"}\n"
                   "{\"prompt\":\"1\",\"completion\":\"2\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"c.jsonl\",\"max_length\":6}}", true));
    const data_source_stats *st = data_stats(f.set, 0);
    assert_int_equal(data_count(f.set), 2);
    assert_int_equal(st->records, 3);
    assert_int_equal(st->dropped, 1);
    assert_int_equal(st->truncated, 1);
    assert_int_equal(st->longest, 11);
    assert_int_equal(st->tokens, 6 + 3);
    assert_int_equal(st->supervised, 5 + 2);
    assert_int_equal(data_longest(f.set, 1), 6);
    assert_int_equal(data_longest(f.set, 5), 9);
    put("c.jsonl", "{\"prompt\":\"12345678\",\"completion\":\"x\"}\n");
    assert_int_equal(load(&f, "{\"data\":{\"train\":\"c.jsonl\",\"max_length\":6}}", true),
                     FT_EDATA);
    assert_non_null(strstr(ft_error(), "max_length"));
    end(&f);
}

static void names_bad_records(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "bad", CHATML, false);
    expect_failure(&f, "a.jsonl",
                   "{\"prompt\":\"a\",\"completion\":\"b\"}\n\n{\"prompt\":\"a\",,}\n",
                   "a.jsonl:3:", "");
    expect_failure(&f, "a.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"a\"}\n",
                   "a.jsonl:2:1", "completion");
    expect_failure(&f, "a.jsonl",
                   "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"a\",\"completion\":7}\n",
                   "a.jsonl:2:", "string");
    expect_failure(&f, "a.jsonl", "[1]\n", "a.jsonl:1:1", "");
    expect_failure(&f, "a.jsonl", "{\"question\":\"a\",\"reply\":\"b\"}\n", "a.jsonl:1:1",
                   "question, reply");
    expect_failure(&f, "a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\n",
                   "a.jsonl:1:1", "no supervised token");
    expect_failure(&f, "a.jsonl", "{\"messages\":[]}\n", "a.jsonl:1:", "empty");
    expect_failure(&f, "a.jsonl", "{\"messages\":[{\"role\":\"user\"}]}\n", "a.jsonl:1:14",
                   "content");
    expect_failure(&f, "a.jsonl",
                   "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}\n",
                   "a.jsonl:1:", "text");
    expect_failure(&f, "a.jsonl", "{\"input_ids\":[1,2],\"labels\":[1]}\n",
                   "a.jsonl:1:", "entries");
    expect_failure(&f, "a.jsonl", "{\"input_ids\":[1,100000]}\n", "a.jsonl:1:17", "token id");
    expect_failure(&f, "a.jsonl", "{\"input_ids\":[1,2],\"labels\":[-100,-100]}\n", "a.jsonl:1:1",
                   "supervised");
    expect_failure(&f, "a.jsonl", "", "a.jsonl", "no records");
    expect_failure(&f, "a.json", "[{\"prompt\":\"a\",\"completion\":\"b\"},\n  {\"prompt\":\"a\"}]",
                   "a.json:2:3", "completion");
    expect_failure(&f, "a.json", "{\"prompt\":\"a\",\"completion\":\"b\"}", "a.json:1:1", "list");
    expect_failure(&f, "a.txt",
                   "ab\nc\xff"
                   "d",
                   "a.txt:2:2", "UTF-8");
    expect_failure(&f, "a.dat", "x", "a.dat", ".jsonl");
    end(&f);
    begin(&f, "bad2", NULL, false);
    expect_failure(&f, "a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\n",
                   "a.jsonl:1:", "chat template");
    end(&f);
    begin(&f, "bad3", "{{ raise_exception('roles must alternate') }}", false);
    expect_failure(&f, "a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\n",
                   "a.jsonl:1:", "roles must alternate");
    assert_int_equal(load(&f, "{\"data\":{\"train\":\"none.jsonl\"}}", true), FT_ENOINPUT);
    end(&f);
}

static void finds_the_first_of_many_bad_lines(void **state)
{
    fixture f;
    str_buf s = {0};
    (void)state;
    begin(&f, "many", NULL, false);
    for (int i = 1; i <= 3000; i++) {
        str_adds(&s, i == 1500 || i == 1700 ? "{\"prompt\":\"a\",\"completion\":\"b\",}\n"
                                            : "{\"prompt\":\"a\",\"completion\":\"b\"}\n");
    }
    expect_failure(&f, "many.jsonl", s.data, "many.jsonl:1500:", "");
    str_free(&s);
    end(&f);
}

static ft_status config_status(fixture *f, const char *json, bool training, const char *what)
{
    ft_status rc = load(f, json, training);
    if (rc != FT_OK && !strstr(ft_error(), what)) print_error("%s\n  %s\n", json, ft_error());
    assert_true(rc == FT_OK || strstr(ft_error(), what));
    return rc;
}

static void checks_the_config(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "cfg", NULL, false);
    put("x.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n");
    put("y.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n");
    assert_int_equal(config_status(&f, "{\"data\":{\"train\":[]}}", true, "source"), FT_ECONFIG);
    assert_int_equal(config_status(&f, "{\"data\":{\"train\":7}}", true, "source"), FT_ECONFIG);
    assert_int_equal(config_status(&f, "{\"data\":{\"train\":{\"path\":\"x.jsonl\",\"wieght\":1}}}",
                                   true, "weight"),
                     FT_ECONFIG);
    assert_int_equal(
        config_status(&f, "{\"data\":{\"train\":{\"format\":\"text\"}}}", true, "path"),
        FT_ECONFIG);
    assert_int_equal(
        config_status(&f, "{\"data\":{\"train\":{\"path\":\"x.jsonl\",\"format\":\"alpacca\"}}}",
                      true, "alpaca"),
        FT_ECONFIG);
    assert_int_equal(
        config_status(&f,
                      "{\"data\":{\"train\":[{\"path\":\"x.jsonl\",\"weight\":1},\"y.jsonl\"]}}",
                      true, "weight"),
        FT_ECONFIG);
    assert_int_equal(config_status(&f, "{\"data\":{\"eval\":{\"path\":\"x.jsonl\",\"weight\":1}}}",
                                   false, "weight"),
                     FT_ECONFIG);
    assert_int_equal(config_status(&f, "{\"data\":{\"train\":\"x.jsonl\",\"packing\":\"conact\"}}",
                                   true, "packing"),
                     FT_ECONFIG);
    assert_int_equal(config_status(&f,
                                   "{\"data\":{\"train\":[{\"path\":\"x.jsonl\",\"name\":\"n\"},{"
                                   "\"path\":\"y.jsonl\",\"name\":\"n\"}]}}",
                                   true, "named"),
                     FT_ECONFIG);
    assert_ok(load(&f,
                   "{\"data\":{\"train\":[\"x.jsonl\",\"x.jsonl\",{\"path\":\"y.jsonl\",\"name\":"
                   "\"x-2\"}],\"packing\":true}}",
                   true));
    assert_string_equal(data_stats(f.set, 0)->name, "x");
    assert_string_equal(data_stats(f.set, 1)->name, "x-3");
    assert_string_equal(data_stats(f.set, 2)->name, "x-2");
    end(&f);
}

static void gzip_and_line_ends_change_nothing(void **state)
{
    fixture f;
    char plain[65], other[65];
    const char *text =
        "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}\n";
    (void)state;
    begin(&f, "gz", NULL, false);
    put("p.jsonl", text);
    put("q.jsonl",
        "{\"prompt\":\"a\",\"completion\":\"b\"}\r\n{\"prompt\":\"c\",\"completion\":\"d\"}");
    size_t n;
    const uint8_t *gz = test_gzip(text, strlen(text), &n);
    test_write_file(test_path("r.jsonl.gz"), gz, n);
    assert_ok(load(&f, "{\"data\":{\"train\":\"p.jsonl\"}}", true));
    assert_ok(data_sha256(f.set, plain));
    assert_ok(load(&f, "{\"data\":{\"train\":\"q.jsonl\"}}", true));
    assert_ok(data_sha256(f.set, other));
    assert_string_equal(plain, other);
    assert_ok(load(&f, "{\"data\":{\"train\":\"r.jsonl.gz\"}}", true));
    assert_ok(data_sha256(f.set, other));
    assert_string_equal(plain, other);
    assert_string_equal(data_stats(f.set, 0)->name, "r");
    put("p.jsonl",
        "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"e\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"p.jsonl\"}}", true));
    assert_ok(data_sha256(f.set, other));
    assert_string_not_equal(plain, other);
    end(&f);
}

static void shows_a_sample(void **state)
{
    fixture f;
    str_buf s = {0};
    (void)state;
    begin(&f, "show", CHATML, false);
    put("s.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\\u00e9\"},{\"role\":"
                   "\"assistant\",\"content\":\"a\\\"b\"}]}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"s.jsonl\"}}", true));
    assert_ok(data_show(f.set, 0, &s));
    assert_non_null(strstr(s.data, "  train  \"a\\\"b<|im_end|>\"\n"));
    assert_non_null(strstr(s.data, "4 supervised"));
    cJSON *j = data_show_json(f.set, 0);
    assert_non_null(j);
    assert_int_equal(cJSON_GetArraySize(js_get(j, "segments")), 3);
    assert_string_equal(js_get(cJSON_GetArrayItem(js_get(j, "segments"), 1), "text")->valuestring,
                        "a\"b<|im_end|>");
    assert_int_equal((int)js_get(j, "supervised_tokens")->valuedouble, 4);
    cJSON_Delete(j);
    str_free(&s);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_assistant_turns),
        cmocka_unit_test(masks_in_unusual_templates),
        cmocka_unit_test(renders_other_formats),
        cmocka_unit_test(cuts_documents_into_rows),
        cmocka_unit_test(long_texts_keep_their_tokens),
        cmocka_unit_test(counts_what_truncation_takes),
        cmocka_unit_test(names_bad_records),
        cmocka_unit_test(finds_the_first_of_many_bad_lines),
        cmocka_unit_test(checks_the_config),
        cmocka_unit_test(gzip_and_line_ends_change_nothing),
        cmocka_unit_test(shows_a_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
