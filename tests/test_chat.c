/* test_chat.c – which of a model's templates renders a record, and with which variables: named templates, tools,
 * chat_template_kwargs, history. The expected texts are what transformers' apply_chat_template gives. */
#include "data_fixture.h"

#define TURNS                                                                                      \
    "{% for m in messages %}[{{ m.role }}:{{ m.content }}{% if m.tool_calls %}{{ "                 \
    "m.tool_calls[0].function|tojson }}{% endif %}]{% endfor %}{% if add_generation_prompt "       \
    "%}[assistant:{% endif %}"
#define PLAIN "{\"name\":\"default\",\"template\":\"{{ think }}" TURNS "\"}"
#define WITH_TOOLS "{\"name\":\"tool_use\",\"template\":\"TOOLS {{ tools|tojson }}" TURNS "\"}"
#define OTHER "{\"name\":\"rag\",\"template\":\"{{ documents }}\"}"

/* The byte tokenizer with this chat_template (JSON). */
static tok_tokenizer *with_templates(const char *name, const char *json)
{
    char path[600];
    str_buf s = {0};
    tok_tokenizer *t;
    const char *dir = write_tokenizer(name, NULL, false);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    str_printf(&s, "{\"eos_token\":\"<eos>\",\"bos_token\":\"<bos>\",\"chat_template\":%s}", json);
    test_write_file(path, s.data, s.len);
    str_free(&s);
    assert_ok(tok_open(&t, dir));
    return t;
}

/* Renders a record; NULL: it failed with 65. The result stays until the next call. */
static const char *rendered(const chat *c, const char *record)
{
    static str_buf out;
    js_doc d;
    chat_input in;
    str_clear(&out);
    assert_ok(js_parse(&d, record, strlen(record), "record", 1, JS_BIG_NUMBERS, FT_EDATA));
    ft_status rc = chat_read(&in, &d, d.root);
    if (rc == FT_OK) rc = chat_render(c, &in, &out, NULL);
    js_close(&d);
    if (rc == FT_OK) return out.data ? out.data : "";
    assert_int_equal(rc, FT_EDATA);
    return NULL;
}

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void tools_choose_the_template(void **state)
{
    tok_tokenizer *t = with_templates("both", "[" OTHER "," WITH_TOOLS "," PLAIN "]");
    chat *c;
    (void)state;
    assert_ok(chat_open(&c, t));
    assert_string_equal(rendered(c, "{" USER "}"), "[user:hi]");
    assert_string_equal(rendered(c, "{" USER ",\"tools\":null}"), "[user:hi]");
    assert_string_equal(rendered(c, "{" USER ",\"tools\":[]}"), "TOOLS [][user:hi]");
    assert_string_equal(rendered(c, "{" USER ",\"tools\":[{\"a\":1}]}"),
                        "TOOLS [{\"a\": 1}][user:hi]");
    assert_null(rendered(c, "{" USER ",\"tools\":\"[]\"}"));
    assert_null(rendered(c, "{\"tools\":[]}"));
    chat_close(c);
    tok_close(t);

    t = with_templates("only_tools", "[" WITH_TOOLS "," OTHER "]");
    assert_ok(chat_open(&c, t));
    assert_null(rendered(c, "{" USER "}"));
    assert_non_null(strstr(ft_error(), "tool_use, rag"));
    assert_string_equal(rendered(c, "{" USER ",\"tools\":[]}"), "TOOLS [][user:hi]");
    chat_close(c);
    tok_close(t);

    /* a template for tools that does not compile is of no concern until there are tools */
    t = with_templates("broken",
                       "[" PLAIN ",{\"name\":\"tool_use\",\"template\":\"{% include 'x' %}\"}]");
    assert_ok(chat_open(&c, t));
    assert_string_equal(rendered(c, "{" USER "}"), "[user:hi]");
    assert_null(rendered(c, "{" USER ",\"tools\":[]}"));
    assert_non_null(strstr(ft_error(), "tool_use"));
    chat_close(c);
    tok_close(t);
}

static void lists_without_sense_are_refused(void **state)
{
    static const char *const bad[] = {"[{\"name\":\"default\"}]", "[\"x\"]", "7",
                                      "[{\"name\":1,\"template\":\"\"}]", "{\"default\":[]}"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++) {
        char text[200], path[600];
        tok_tokenizer *t;
        const char *dir = write_tokenizer("bad", NULL, false);
        snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
        snprintf(text, sizeof text, "{\"chat_template\":%s}", bad[i]);
        test_write_file(path, text, strlen(text));
        assert_int_equal(tok_open(&t, dir), FT_EDATA);
        assert_non_null(strstr(ft_error(), "chat_template"));
    }
}

/* Files win over the key; files with names stand beside chat_template.jinja. */
static void files_win(void **state)
{
    char path[700];
    const char *dir;
    tok_tokenizer *t = with_templates("files", "\"old\"");
    int n;
    (void)state;
    tok_close(t);
    dir = test_path("files");
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    test_write_file(path, "new\n", 4);
    assert_ok(tok_open(&t, dir));
    const tok_named *list = tok_chat_templates(t, &n);
    assert_int_equal(n, 1);
    assert_string_equal(list[0].text, "new\n");
    tok_close(t);
    snprintf(path, sizeof path, "%s/additional_chat_templates", dir);
    assert_ok(dir_make(path));
    snprintf(path, sizeof path, "%s/additional_chat_templates/tool_use.jinja", dir);
    test_write_file(path, "tools", 5);
    assert_ok(tok_open(&t, dir));
    list = tok_chat_templates(t, &n);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "default");
    assert_string_equal(list[1].name, "tool_use");
    assert_string_equal(list[1].text, "tools");
    str_buf json = {0}, config = {0};
    assert_ok(tok_write_json(t, &json, &config));
    str_free(&json);
    str_free(&config);
    tok_close(t);
}

/* A GGUF keeps all of them, and a folder made of it as well. */
static void formats_keep_the_list(void **state)
{
    tok_tokenizer *t = with_templates("list", "[" OTHER "," WITH_TOOLS "," PLAIN "]");
    gguf_writer *w;
    const char *path = test_path("list.gguf"), *dir = test_path("written");
    char file[600];
    int n, k;
    (void)state;
    assert_ok(gguf_write_open(&w, path));
    gguf_put_str(w, "general.architecture", "llama", 5);
    assert_ok(tok_write_gguf(t, w, tok_size(t)));
    assert_ok(gguf_write_header(w));
    assert_ok(gguf_write_close(w));
    tok_close(t);
    assert_ok(tok_open(&t, path));
    str_buf json = {0}, config = {0};
    assert_ok(tok_write_json(t, &json, &config));
    assert_ok(dir_make(dir));
    snprintf(file, sizeof file, "%s/tokenizer.json", dir);
    test_write_file(file, json.data, json.len);
    snprintf(file, sizeof file, "%s/tokenizer_config.json", dir);
    test_write_file(file, config.data, config.len);
    str_free(&json);
    str_free(&config);
    tok_tokenizer *back;
    assert_ok(tok_open(&back, dir));
    const tok_named *a = tok_chat_templates(t, &n), *b = tok_chat_templates(back, &k);
    assert_int_equal(n, 3);
    assert_int_equal(k, 3);
    for (int i = 0; i < n; i++) {
        assert_string_equal(a[i].name, b[i].name);
        assert_string_equal(a[i].text, b[i].text);
    }
    tok_close(back);
    tok_close(t);
}

static void variables_reach_the_template(void **state)
{
    tok_tokenizer *t = with_templates("vars", "[{\"name\":\"default\",\"template\":\"{{ x|tojson "
                                              "if x is defined else 'none' }}|{{ eos_token }}|{{ "
                                              "documents }}\"}]");
    chat *c;
    (void)state;
    assert_ok(chat_open(&c, t));
    assert_string_equal(rendered(c, "{" USER "}"), "none|<eos>|None");
    assert_string_equal(rendered(c, "{" USER ",\"chat_template_kwargs\":null}"), "none|<eos>|None");
    assert_string_equal(rendered(c, "{" USER ",\"chat_template_kwargs\":{\"x\":null}}"),
                        "null|<eos>|None");
    assert_string_equal(rendered(c, "{" USER ",\"chat_template_kwargs\":{\"x\":{\"a\":[1,2.0]},"
                                    "\"eos_token\":\"E\",\"documents\":[1]}}"),
                        "{\"a\": [1, 2.0]}|E|[1]");
    assert_null(rendered(c, "{" USER ",\"chat_template_kwargs\":[1]}"));
    assert_null(rendered(c, "{" USER ",\"chat_template_kwargs\":{\"tools\":[]}}"));
    assert_non_null(strstr(ft_error(), "tools"));
    assert_null(rendered(c, "{" USER ",\"chat_template_kwargs\":{\"chat_template\":\"rag\"}}"));
    chat_close(c);
    tok_close(t);
}

/* --- records ------------------------------------------------------------------------------------------------- */
static const char *text_of_sample(fixture *f)
{
    static char text[1000];
    data_sample x;
    assert_ok(data_get(f->set, 0, &x, f->mem));
    assert_true(x.len < (int64_t)sizeof text);
    for (int64_t i = 0; i < x.len; i++)
        text[i] = x.ids[i] < 256 ? (char)x.ids[i] : '$'; /* $: the end that is put behind */
    text[x.len] = 0;
    return text;
}

static const char *trained(fixture *f, const char *record)
{
    put("r.jsonl", record);
    ft_status rc = load(f, "{\"data\":{\"train\":\"r.jsonl\"}}", true);
    if (rc == FT_OK) return text_of_sample(f);
    assert_int_equal(rc, FT_EDATA);
    return NULL;
}

static void records_render_whole(void **state)
{
    fixture f = {.tok = with_templates("records", "[" WITH_TOOLS "," PLAIN "]")};
    (void)state;
    assert_ok(chat_open(&f.chat, f.tok));
    assert_ok(arena_open(&f.mem, "test", 64u << 20));
    /* alpaca: earlier turns, tools as text or as a list, variables */
    assert_string_equal(
        trained(&f, "{\"instruction\":\"i\",\"output\":\"o\",\"system\":\"s\",\"history\":"
                    "[[\"a\",\"b\"],[\"c\",\"d\"]]}"),
        "[system:s][user:a][assistant:b][user:c][assistant:d][user:i][assistant:o]$");
    assert_string_equal(
        trained(&f, "{\"instruction\":\"i\",\"output\":\"o\",\"history\":[],\"tools\":\"[]\"}"),
        "TOOLS [][user:i][assistant:o]$");
    assert_string_equal(
        trained(&f, "{\"instruction\":\"i\",\"output\":\"o\",\"tools\":[{\"name\":\"f\"}],"
                    "\"chat_template_kwargs\":{\"think\":\"T\"}}"),
        "TOOLS [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}][user:i][assistant:o]$");
    assert_string_equal(trained(&f, "{\"instruction\":\"i\",\"output\":\"o\",\"tools\":\"\","
                                    "\"chat_template_kwargs\":{\"think\":\"T\"}}"),
                        "T[user:i][assistant:o]$");
    /* sharegpt, with speakers or with roles */
    assert_string_equal(
        trained(&f, "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\","
                    "\"value\":\"r\"}],\"history\":[[\"a\",\"b\"]],\"system\":\"s\","
                    "\"chat_template_kwargs\":{\"think\":\"T\"}}"),
        "T[system:s][user:a][assistant:b][user:q][assistant:r]$");
    assert_string_equal(
        trained(&f, "{\"conversations\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":"
                    "\"assistant\",\"content\":\"r\"}],\"system\":\"s\",\"tools\":[]}"),
        "TOOLS [][system:s][user:q][assistant:r]$");
    assert_string_equal(
        trained(&f, "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":"
                    "\"function_call\",\"value\":\"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": "
                    "{\\\"id\\\": 123456789012345678901, \\\"n\\\": 1000000000000000000}}\"},"
                    "{\"from\":\"observation\",\"value\":\"v\"},{\"from\":\"gpt\",\"value\":"
                    "\"r\"}]}"),
        "[user:q][assistant:{\"name\": \"f\", \"arguments\": {\"id\": 123456789012345678901, "
        "\"n\": 1000000000000000000}}][tool:v][assistant:r]$");
    data_sample x;
    assert_string_equal(
        trained(&f, "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\","
                    "\"value\":\"r\",\"weight\":0},{\"from\":\"human\",\"value\":\"s\"},{"
                    "\"from\":\"gpt\",\"value\":\"t\"}]}"),
        "[user:q][assistant:r][user:s][assistant:t]$");
    assert_ok(data_get(f.set, 0, &x, f.mem));
    for (int64_t i = 0; i < x.len; i++) assert_false(x.labels[i] == 'r');
    /* messages */
    assert_string_equal(trained(&f, "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{"
                                    "\"role\":\"assistant\",\"content\":\"r\"}],\"tools\":[],"
                                    "\"system\":\"s\"}"),
                        "TOOLS [][system:s][user:q][assistant:r]$");
    end(&f);
}

static void records_that_do_not_fit_are_named(void **state)
{
    static const struct {
        const char *record, *what;
    } bad[] = {
        {"{\"instruction\":\"i\",\"output\":\"o\",\"history\":[[\"a\"]]}", "history"},
        {"{\"instruction\":\"i\",\"output\":\"o\",\"history\":[[\"a\",\"b\",\"c\"]]}", "history"},
        {"{\"instruction\":\"i\",\"output\":\"o\",\"history\":\"a\"}", "history"},
        {"{\"instruction\":\"i\",\"output\":\"o\",\"tools\":[\"f\"]}", "tools"},
        {"{\"instruction\":\"i\",\"output\":\"o\",\"chat_template_kwargs\":{\"messages\":[]}}",
         "chat_template_kwargs"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
         "\"content\":\"r\"}],\"functions\":[{\"name\":\"f\"}]}",
         "functions"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
         "\"content\":\"r\"}],\"images\":[\"a.png\"]}",
         "images"},
        {"{\"messages\":[{\"role\":\"system\",\"content\":\"q\"},{\"role\":\"assistant\","
         "\"content\":\"r\"}],\"system\":\"s\"}",
         "system"},
    };
    static const char *const no_place[] = {
        "{\"instruction\":\"i\",\"output\":\"o\",\"history\":[[\"a\",\"b\"]]}",
        "{\"instruction\":\"i\",\"output\":\"o\",\"tools\":[{\"name\":\"f\"}]}",
        "{\"instruction\":\"i\",\"output\":\"o\",\"system\":\"s\"}"};
    fixture f = {.tok = with_templates("named", "[" PLAIN "]")};
    (void)state;
    assert_ok(chat_open(&f.chat, f.tok));
    assert_ok(arena_open(&f.mem, "test", 64u << 20));
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++) {
        assert_null(trained(&f, bad[i].record));
        if (!strstr(ft_error(), bad[i].what) || !strstr(ft_error(), "r.jsonl:1"))
            fail_msg("%s: %s", bad[i].record, ft_error());
    }
    end(&f);
    begin(&f, "none", NULL, false); /* no template: Stanford's prompt has no place for these */
    for (size_t i = 0; i < FT_COUNT_OF(no_place); i++) {
        assert_null(trained(&f, no_place[i]));
        assert_non_null(strstr(ft_error(), "needs a chat template"));
    }
    assert_non_null(trained(&f, "{\"instruction\":\"i\",\"output\":\"o\",\"history\":[],\"tools\":"
                                "\"\",\"system\":\"\"}"));
    end(&f);
}

/* --- templates by name ---------------------------------------------------------------------------------------------- */

#define S "{\"role\":\"system\",\"content\":\" S\"}"
#define U "{\"role\":\"user\",\"content\":\"U \"}"
#define A "{\"role\":\"assistant\",\"content\":\" A\"}"
#define V "{\"role\":\"user\",\"content\":\"V\"}"

static const char *asked(const chat *c, const char *turns, bool ask)
{
    static str_buf out;
    js_doc d;
    chat_input in;
    str_buf text = {0};
    str_printf(&text, "{\"messages\":[%s]}", turns);
    assert_ok(str_ok(&text));
    assert_ok(js_parse(&d, text.data, text.len, "record", 1, JS_STRICT, FT_EDATA));
    assert_ok(chat_read(&in, &d, d.root));
    in.add_generation_prompt = ask;
    str_clear(&out);
    ft_error_forget();
    ft_status rc = chat_render(c, &in, &out, NULL);
    js_close(&d);
    str_free(&text);
    return rc == FT_OK ? out.data ? out.data : "" : ft_error();
}

static void names_render_as_they_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *name, *whole, *asks; /* system, user, assistant, user; user alone, asked */
    } cases[] = {
        {"chatml",
         "<|im_start|>system\n S<|im_end|>\n<|im_start|>user\nU <|im_end|>\n"
         "<|im_start|>assistant\n A<|im_end|>\n<|im_start|>user\nV<|im_end|>\n",
         "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"},
        {"llama2", "<bos>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A <eos><bos>[INST] V [/INST]",
         "<bos>[INST] V [/INST]"},
        {"llama3",
         "<bos><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user"
         "<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA"
         "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>",
         "<bos><|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"mistral", "<bos>[INST]  S\n\nU [/INST]  A<eos>[INST] V[/INST]", "<bos>[INST] V[/INST]"},
        {"gemma",
         "<bos><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
         "<start_of_turn>user\nV<end_of_turn>\n",
         "<bos><start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n"},
        {"phi3",
         "<|system|>\n S<|end|>\n<|user|>\nU <|end|>\n<|assistant|>\n A<|end|>\n<|user|>\nV"
         "<|end|>\n",
         "<|user|>\nV<|end|>\n<|assistant|>\n"},
        {"zephyr",
         "<|system|>\n S<eos>\n<|user|>\nU <eos>\n<|assistant|>\n A<eos>\n<|user|>\nV<eos>\n",
         "<|user|>\nV<eos>\n<|assistant|>\n"},
        {"alpaca",
         " S\n\n### Instruction:\nU \n\n### Response:\n A<eos>\n\n### Instruction:\nV\n\n",
         "Below is an instruction that describes a task. Write a response that appropriately "
         "completes the request.\n\n### Instruction:\nV\n\n### Response:\n"},
        {"vicuna", " S USER: U  ASSISTANT:  A<eos> USER: V",
         "A chat between a curious user and an artificial intelligence assistant. The assistant "
         "gives helpful, detailed, and polite answers to the user's questions. USER: V ASSISTANT:"},
    };
    tok_tokenizer *t = NULL;
    assert_ok(tok_open(&t, write_tokenizer("named", CHATML, false)));
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        chat *c;
        assert_string_equal(chat_names[i], cases[i].name);
        assert_ok(chat_use(t, cases[i].name));
        assert_ok(chat_open(&c, t));
        assert_string_equal(asked(c, S "," U "," A "," V, false), cases[i].whole);
        assert_string_equal(asked(c, V, true), cases[i].asks);
        /* the prompt is a beginning of the answered conversation, or masks would be off */
        char *prompt = ft_strdup(asked(c, S "," U "," A "," V, true));
        assert_true(str_starts(asked(c, S "," U "," A "," V "," A, false), prompt));
        ft_free(prompt);
        chat_close(c);
    }
    assert_null(chat_names[FT_COUNT_OF(cases)]);
    tok_close(t);
}

static void names_lose_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *name, *turns, *message;
    } cases[] = {
        {"llama2", S "," A, "the system message goes into the first turn of the user"},
        {"mistral", S "," A, "there is none"},
        {"gemma", S "," A, "there is none"},
        {"llama2", U ",{\"role\":\"tool\",\"content\":\"1\"}", "no place for a turn of role tool"},
        {"vicuna", U "," S, "no place for a turn of role system"},
        {"alpaca", U ",{\"role\":\"tool\",\"content\":\"1\"}", "no place for a turn of role tool"},
    };
    tok_tokenizer *t = NULL;
    assert_ok(tok_open(&t, write_tokenizer("named", CHATML, false)));
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        chat *c;
        assert_ok(chat_use(t, cases[i].name));
        assert_ok(chat_open(&c, t));
        const char *got = asked(c, cases[i].turns, false);
        if (!strstr(got, cases[i].message)) print_error("%s: %s\n", cases[i].name, got);
        assert_non_null(strstr(got, cases[i].message));
        chat_close(c);
    }
    tok_close(t);
}

static char told[1000];
static void keep(void *ctx, log_level level, const char *line)
{
    (void)ctx;
    if (level == LOG_WARN) snprintf(told + strlen(told), sizeof told - strlen(told), "%s\n", line);
}

static void a_template_in_use_is_the_only_one(void **state)
{
    (void)state;
    tok_tokenizer *t = NULL;
    int n, stops, before;
    assert_ok(tok_open(&t, write_tokenizer("used", CHATML, false)));
    tok_stops(t, &before);
    log_set_sink(keep, NULL);
    assert_ok(chat_use(t, "chatml"));
    assert_string_equal(told, "");
    assert_ok(chat_use(t, "phi3"));
    assert_string_equal(told,
                        "chat template phi3: <|end|>, <|assistant|>, <|system|>, <|user|>: no "
                        "tokens of the model; they are tokenised as text\n");
    tok_stops(t, &stops);
    assert_int_equal(stops, before); /* those of its own stay, and <|end|> is no token */
    test_write_file(test_path("mine.jinja"), "{{ '<|mine|>' + '<eos>' }}", 26);
    told[0] = '\0';
    assert_ok(chat_use(t, test_path("mine.jinja")));
    assert_non_null(strstr(told, "mine.jinja: <|mine|>: no tokens of the model"));
    const tok_named *v = tok_chat_templates(t, &n);
    assert_int_equal(n, 1);
    assert_string_equal(v->name, "default");
    assert_ok(chat_use(t, NULL));
    assert_string_equal(tok_chat_templates(t, &n)->text, CHATML);
    tok_stops(t, &stops);
    assert_int_equal(stops, before);
    log_set_sink(NULL, NULL);
    assert_fails(chat_use(t, "chatlm"), FT_ENOINPUT,
                 "none of the names chatml, llama2, llama3, mistral, gemma, phi3, zephyr, alpaca, "
                 "vicuna; did you mean \"chatml\"?");
    test_write_file(test_path("bytes.jinja"), "\xff", 1);
    assert_fails(chat_use(t, test_path("bytes.jinja")), FT_EDATA, "no text in UTF-8");
    assert_fails(chat_use(NULL, "chatml"), FT_EDATA, "needs a tokenizer");
    tok_close(t);
}
#undef S
#undef U
#undef A
#undef V

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_render_as_they_are_known),
        cmocka_unit_test(names_lose_nothing),
        cmocka_unit_test(a_template_in_use_is_the_only_one),
        cmocka_unit_test(tools_choose_the_template),
        cmocka_unit_test(lists_without_sense_are_refused),
        cmocka_unit_test(files_win),
        cmocka_unit_test(formats_keep_the_list),
        cmocka_unit_test(variables_reach_the_template),
        cmocka_unit_test(records_render_whole),
        cmocka_unit_test(records_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
