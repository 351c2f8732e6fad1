/* test_folders.c – the files beside a tokenizer: folders of tests/golden/folders (made by
 * scripts/make_golden_folders.py) give the reference's ids, or the failure or the warning that names the key. */
#include "support.h"

#include "ft/cfg.h"
#include "ft/io.h"
#include "ft/template.h"
#include "ft/token.h"

static char warned[4000];

static void hear(void *ctx, log_level level, const char *line)
{
    (void)ctx;
    size_t n = strlen(warned);
    if (level == LOG_WARN) snprintf(warned + n, sizeof warned - n, "%s\n", line);
}

static void copy_base(const char *dir, const char *base)
{
    char path[700];
    const char **names;
    int64_t n;
    arena *mem;
    assert_ok(arena_open(&mem, "test", 1u << 20));
    snprintf(path, sizeof path, "%s/%s", golden_path("folders"), base);
    assert_ok(dir_list(path, mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        const char *from = path_join(mem, path, names[i]), *to = path_join(mem, dir, names[i]);
        assert_ok(file_copy(from, to));
    }
    arena_close(mem);
}

static bool same_ids(const tok_ids *have, const cJSON *want)
{
    const cJSON *id = want->child;
    for (int64_t i = 0; i < have->n; i++, id = id->next) {
        if (!id || id->valuedouble != (double)have->id[i]) return false;
    }
    return id == NULL;
}

static int compare(const tok_tokenizer *t, const cJSON *c, const cJSON *texts, int number)
{
    int bad = 0;
    const cJSON *want = js_get(c, "ids")->child;
    for (const cJSON *text = texts->child; text; text = text->next, want = want->next) {
        tok_ids ids = {0};
        assert_ok(tok_encode(t, text->valuestring, strlen(text->valuestring),
                             cJSON_IsTrue(js_get(c, "special")), &ids));
        if (!same_ids(&ids, want)) {
            bad++;
            print_error("case %d: \"%s\": ", number, text->valuestring);
            for (int64_t i = 0; i < ids.n; i++) print_error(" %d", ids.id[i]);
            print_error("\n");
        }
        tok_ids_free(&ids);
    }
    return bad;
}

/* A GGUF of it gives the same ids, or says that it cannot. */
static int through_gguf(const tok_tokenizer *t, const cJSON *c, const cJSON *texts, int number)
{
    gguf_writer *w;
    tok_tokenizer *back;
    const char *path = test_path("case.gguf");
    assert_ok(gguf_write_open(&w, path));
    gguf_put_str(w, "general.architecture", "llama", 5);
    ft_status rc = tok_write_gguf(t, w, tok_size(t));
    bool told = strstr(warned, "GGUF") != NULL;
    if (rc != FT_OK) {
        assert_non_null(strstr(ft_error(), "GGUF"));
        gguf_write_abort(w);
        return 0;
    }
    assert_ok(gguf_write_header(w));
    assert_ok(gguf_write_close(w));
    assert_ok(tok_open(&back, path));
    int bad = told ? 0 : compare(back, c, texts, number);
    tok_close(back);
    return bad;
}

static void put_text(const char *dir, const char *name, const str_buf *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    test_write_file(path, text->data, text->len);
}

/* tokenizer.json and tokenizer_config.json as they are written say all that the other files said. */
static int through_json(const tok_tokenizer *t, const cJSON *c, const cJSON *texts, int number)
{
    str_buf json = {0}, config = {0};
    tok_tokenizer *back;
    int n, m;
    const char *dir = test_path("saved");
    assert_ok(dir_make(dir));
    assert_ok(tok_write_json(t, &json, &config));
    put_text(dir, "tokenizer.json", &json);
    put_text(dir, "tokenizer_config.json", &config);
    assert_ok(tok_open(&back, dir));
    int bad = compare(back, c, texts, number);
    assert_int_equal(tok_size(back), tok_size(t));
    for (int32_t id = 0; id < tok_size(t); id++)
        assert_int_equal(tok_is_special(back, id), tok_is_special(t, id));
    const tok_named *names = tok_names(t, &n);
    for (int i = 0; i < n; i++) {
        const tok_named *have = tok_names(back, &m);
        int k = 0;
        while (k < m && strcmp(have[k].name, names[i].name) != 0) k++;
        assert_true(k < m);
        assert_string_equal(have[k].text, names[i].text);
    }
    tok_close(back);
    str_free(&json);
    str_free(&config);
    return bad;
}

static int check_case(const cJSON *c, const cJSON *texts, int number)
{
    char name[40];
    tok_tokenizer *t = NULL;
    snprintf(name, sizeof name, "case%d", number);
    const char *dir = test_path(name);
    assert_ok(dir_make(dir));
    copy_base(dir, js_get(c, "base")->valuestring);
    for (const cJSON *f = js_get(c, "files")->child; f; f = f->next) {
        char path[700];
        snprintf(path, sizeof path, "%s/%s", dir, f->string);
        test_write_file(path, f->valuestring, strlen(f->valuestring));
    }
    const cJSON *error = js_get(c, "error"), *warn = js_get(c, "warn");
    warned[0] = 0;
    log_set_sink(hear, NULL); /* forgets what it has told */
    ft_status rc = tok_open(&t, dir);
    int bad = 0;
    if (error) {
        bad = rc != FT_EDATA || !strstr(ft_error(), error->valuestring);
    } else {
        bad = rc != FT_OK || (warn ? !strstr(warned, warn->valuestring) : warned[0] != 0);
        if (!bad) bad = compare(t, c, texts, number);
        if (!bad) bad = through_gguf(t, c, texts, number);
        if (!bad) bad = through_json(t, c, texts, number);
    }
    if (bad)
        print_error("case %d: status %d %s\n%s", number, (int)rc, rc ? ft_error() : "", warned);
    ft_error_forget();
    tok_close(t);
    return bad;
}

static void side_files_count(void **state)
{
    size_t n;
    char *text = test_read_file(golden_path("folders/cases.jsonl"), &n);
    js_doc first = {0};
    int bad = 0, number = 0;
    (void)state;
    for (char *p = text; p < text + n; number++) {
        char *end = memchr(p, '\n', (size_t)(text + n - p));
        js_doc doc;
        assert_ok(js_parse(number ? &doc : &first, p, (size_t)(end - p), "cases.jsonl", number + 1,
                           JS_STRICT, FT_EDATA));
        if (number) {
            bad += check_case(doc.root, js_get(first.root, "texts"), number);
            js_close(&doc);
        }
        p = end + 1;
    }
    log_set_sink(NULL, NULL);
    js_close(&first);
    assert_true(number > 40);
    assert_int_equal(bad, 0);
}

/* Steps that a GGUF has no place for are refused by name, or told: it must not give other ids without a word. */
#define TOKEN(text) "{\"SpecialToken\":{\"id\":\"" text "\",\"type_id\":0}}"
#define NAMED(text, id)                                                                            \
    "\"" text "\":{\"id\":\"" text "\",\"ids\":[" id "],\"tokens\":[\"" text "\"]}"
#define AROUND(before, after)                                                                      \
    "{\"type\":\"TemplateProcessing\",\"single\":[" before                                         \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}" after                                            \
    "],\"pair\":[],\"special_tokens\":{" NAMED("<|endoftext|>", "300") "," NAMED(                  \
        "<|im_start|>", "301") "," NAMED("<|im_end|>", "302") "}}"
#define TYPE(name) "{\"type\":\"" name "\"}"
#define BYTES                                                                                      \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":"
#define DIGITS_BYTES                                                                               \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"  \
    "" BYTES "true}]}"
#define CASED                                                                                      \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"        \
    "\"[\\r\\n]\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"Split\",\"pattern\":"   \
    "{\"Regex\":\"\\\\s?\\\\p{L}+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":"       \
    "\"Split\",\"pattern\":{\"Regex\":\"\\\\s?\\\\p{P}+\"},\"behavior\":\"Isolated\",\"invert\":"  \
    "false},{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-"  \
    "\\ud7ff]+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"Digits\","               \
    "\"individual_digits\":true}," BYTES "false}]}"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}"
#define SEQUENCE(a, b) "{\"type\":\"Sequence\",\"normalizers\":[" a "," b "]}"
#define METASPACE(scheme, split)                                                                   \
    "{\"type\":\"Metaspace\",\"replacement\":\"▁\",\"prepend_scheme\":\"" scheme                   \
    "\",\"split\":" split "}"
#define SPACES                                                                                     \
    "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\","      \
    "\"invert\":false}"

static void steps_without_a_place(void **state)
{
    static const struct {
        const char *normalizer, *pre, *post, *flag; /* flag: of the model, true instead of false */
        const char *error, *warn;
    } cases[] = {
        {"null", BYTES "true}", "null", NULL, NULL, NULL},
        {TYPE("NFC"), BYTES "true}", "null", NULL, NULL, NULL}, /* there is a name for it */
        {TYPE("NFC"), DIGITS_BYTES, "null", NULL, NULL, NULL},
        {TYPE("NFC"), CASED, "null", NULL, NULL, "without NFC"},
        {TYPE("Lowercase"), BYTES "true}", "null", NULL, "normalizer Lowercase", NULL},
        {TYPE("NFKC"), BYTES "true}", "null", NULL, "normalizer NFKC", NULL},
        {SEQUENCE(TYPE("NFC"), TYPE("StripAccents")), BYTES "true}", "null", NULL,
         "normalizer StripAccents", NULL},
        {"null", BYTES "true}", "null", "ignore_merges", NULL, "ignore_merges"},
        {"null", BYTES "true}", AROUND("", "," TOKEN("<|im_end|>")), NULL, NULL, NULL},
        {"null", BYTES "true}", AROUND(TOKEN("<|endoftext|>") ",", ""), NULL, NULL, NULL},
        {"null", BYTES "true}", AROUND(TOKEN("<|im_start|>") ",", ""), NULL, "<|im_start|>", NULL},
        {"null", BYTES "true}", AROUND(TOKEN("<|endoftext|>") "," TOKEN("<|im_start|>") ",", ""),
         NULL, "<|im_start|>", NULL},
        {"null", BYTES "true}", AROUND("", "," TOKEN("<|im_start|>") "," TOKEN("<|im_end|>")), NULL,
         "<|im_start|>", NULL},
        {REPLACE, "null", "null", "byte_fallback", NULL, NULL},
        {REPLACE, SPACES, "null", "byte_fallback", NULL, NULL},
        {SEQUENCE("{\"type\":\"Prepend\",\"prepend\":\"▁\"}", REPLACE), "null", "null",
         "byte_fallback", NULL, NULL},
        {SEQUENCE(REPLACE, TYPE("Lowercase")), "null", "null", "byte_fallback",
         "normalizer Lowercase", NULL},
        {SEQUENCE(TYPE("NFKC"), REPLACE), "null", "null", "byte_fallback", "normalizer NFKC", NULL},
        {REPLACE, DIGITS_BYTES, "null", "byte_fallback", "pre-tokenizer Digits", NULL},
        {"null", METASPACE("never", "false"), "null", "byte_fallback", NULL, NULL},
        {"null", METASPACE("never", "true"), "null", "byte_fallback", NULL, "cuts before each"},
        {"null", METASPACE("first", "false"), "null", "byte_fallback", NULL, "doubles a space"},
        {TYPE("NFC"), METASPACE("first", "false"), "null", "byte_fallback", "normalizer NFC", NULL},
        {"null", "null", "null", "byte_fallback", "no step of this tokenizer", NULL},
    };
    static const char config[] = "{\"eos_token\":\"<|im_end|>\",\"bos_token\":\"<|endoftext|>\"}";
    size_t n;
    (void)state;
    char *json = test_read_file(golden_path("folders/bytes/tokenizer.json"), &n);
    const char *steps = strstr(json, "\"normalizer\":"), *rest = strstr(json, "\"decoder\":");
    const char *dir = test_path("steps");
    assert_true(steps && rest);
    assert_ok(dir_make(dir));
    test_write_file(test_path("steps/tokenizer_config.json"), config, strlen(config));
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char flag[40];
        str_buf s = {0};
        tok_tokenizer *t = NULL;
        gguf_writer *w;
        str_add(&s, json, (size_t)(steps - json));
        str_printf(&s, "\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,%s",
                   cases[i].normalizer, cases[i].pre, cases[i].post, rest);
        snprintf(flag, sizeof flag, "\"%s\":", cases[i].flag ? cases[i].flag : "ignore_merges");
        char *value = strstr(s.data, flag) + strlen(flag);
        if (cases[i].flag) memcpy(value, "true ", 5);
        test_write_file(test_path("steps/tokenizer.json"), s.data, s.len);
        assert_ok(tok_open(&t, dir));
        assert_ok(gguf_write_open(&w, test_path("steps.gguf")));
        warned[0] = 0;
        log_set_sink(hear, NULL);
        if (cases[i].error)
            assert_fails(tok_write_gguf(t, w, tok_size(t)), FT_EDATA, cases[i].error);
        else
            assert_ok(tok_write_gguf(t, w, tok_size(t)));
        log_set_sink(NULL, NULL);
        if (cases[i].warn ? !strstr(warned, cases[i].warn) : warned[0] != 0)
            fail_msg("case %zu: %s", i, warned);
        gguf_write_abort(w);
        tok_close(t);
        str_free(&s);
    }
}

/* The same folder gives other ids in older and newer releases: one line says so, and none where they agree. */
static void releases_that_differ_are_told(void **state)
{
    static const struct {
        const char *keys;
        bool differ;
    } cases[] = {
        {"\"legacy\":true", true},
        {"\"legacy\":false", false},
        {"\"model_max_length\":9", true},
        {"\"add_prefix_space\":false", false},
        {"\"legacy\":false,\"add_prefix_space\":true", false},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        str_buf text = {0}, config = {0};
        tok_tokenizer *t;
        const char *old = test_path("releases"), *dir = test_path("releases2");
        assert_ok(dir_make(old));
        assert_ok(dir_make(dir));
        copy_base(old, "pieces");
        str_printf(&config, "{\"tokenizer_class\":\"LlamaTokenizer\",%s}", cases[i].keys);
        put_text(old, "tokenizer_config.json", &config);
        assert_ok(tok_open(&t, old));
        str_clear(&config);
        assert_ok(tok_write_json(t, &text, &config));
        put_text(dir, "tokenizer.json", &text);
        put_text(dir, "tokenizer_config.json", &config);
        tok_close(t);
        warned[0] = 0;
        log_set_sink(hear, NULL);
        assert_ok(tok_open(&t, dir));
        log_set_sink(NULL, NULL);
        const char *hit = strstr(warned, "releases of transformers differ");
        if (cases[i].differ != (hit != NULL)) fail_msg("case %zu: %s", i, warned);
        assert_true(!hit || !strchr(hit, '\n')[1]);
        tok_close(t);
        str_free(&text);
        str_free(&config);
    }
}

static void check_names(const char *path, const char *want)
{
    tok_tokenizer *t;
    chat *c;
    js_doc doc;
    str_buf out = {0};
    static const char messages[] = "[{\"role\":\"user\",\"content\":\"x\"}]";
    assert_ok(js_parse(&doc, messages, strlen(messages), "messages", 1, JS_STRICT, FT_EDATA));
    assert_ok(tok_open(&t, path));
    assert_ok(chat_open(&c, t));
    assert_ok(chat_render(c, &(chat_input){.messages = doc.root}, &out, NULL));
    assert_string_equal(out.data, want);
    assert_int_equal(tok_bos(t), 300);
    str_free(&out);
    chat_close(c);
    tok_close(t);
    js_close(&doc);
}

/* A template's bos_token is what the tokenizer's files name so: an id in config.json is no name, in a GGUF neither. */
static void names_go_along(void **state)
{
    static const struct {
        const char *config, *want;
        bool told;
    } cases[] = {
        {"{\"eos_token\":\"<|im_end|>\"", "[|<|im_end|>|||]", true},
        {"{\"eos_token\":\"<|im_end|>\",\"bos_token\":\"<|endoftext|>\"",
         "[<|endoftext|>|<|im_end|>|||]", false},
        {"{\"image_token\":\"<|im_start|>\",\"pad_token\":\"=\"", "[|||=|<|im_start|>]", true},
        {"{\"model_max_length\":1", "[||||]", true},
    };
    static const char model[] = "{\"bos_token_id\":300}";
    (void)state;
    const char *dir = test_path("names"), *gguf = test_path("names.gguf");
    const char *paths[] = {dir, gguf, test_path("names2")};
    assert_ok(dir_make(dir));
    assert_ok(dir_make(paths[2]));
    copy_base(dir, "bytes");
    test_write_file(test_path("names/config.json"), model, strlen(model));
    test_write_file(test_path("names2/generation_config.json"), model, strlen(model));
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        str_buf config = {0}, json = {0};
        tok_tokenizer *t;
        gguf_writer *w;
        str_printf(&config,
                   "%s,\"chat_template\":\"[{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ "
                   "pad_token }}|{{ image_token }}]\"}",
                   cases[i].config);
        put_text(dir, "tokenizer_config.json", &config);
        assert_ok(tok_open(&t, dir));
        assert_ok(gguf_write_open(&w, gguf));
        gguf_put_str(w, "general.architecture", "llama", 5);
        warned[0] = 0;
        log_set_sink(hear, NULL);
        assert_ok(tok_write_gguf(t, w, tok_size(t)));
        log_set_sink(NULL, NULL);
        assert_int_equal(strstr(warned, "what the chat template calls") != NULL, cases[i].told);
        assert_ok(gguf_write_header(w));
        assert_ok(gguf_write_close(w));
        tok_close(t);
        assert_ok(tok_open(&t, gguf));
        str_clear(&config);
        assert_ok(tok_write_json(t, &json, &config));
        put_text(paths[2], "tokenizer.json", &json);
        put_text(paths[2], "tokenizer_config.json", &config);
        tok_close(t);
        for (size_t k = 0; k < FT_COUNT_OF(paths); k++) check_names(paths[k], cases[i].want);
        str_free(&config);
        str_free(&json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(side_files_count), cmocka_unit_test(steps_without_a_place),
        cmocka_unit_test(releases_that_differ_are_told), cmocka_unit_test(names_go_along)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
