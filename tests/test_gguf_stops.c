/* test_gguf_stops.c – what ends a generation survives the way from a folder to a GGUF and back: the list of
 * generation_config.json, GGUF's three keys, the whole list where these do not do, and tokens known by their text. */
#include "support.h"

#include "ft/token.h"

enum { MAX = 8 };

/* A folder with the tiny tokenizer and the given lists of end tokens (JSON, or NULL). */
static const char *folder(const char *config, const char *generation)
{
    static int n;
    char name[32], path[600], text[200];
    size_t size;
    snprintf(name, sizeof name, "stops%d", n++);
    const char *dir = test_path(name);
    assert_ok(dir_make(dir));
    char *json = test_read_file(source_path("data/tiny/tokenizer.json"), &size);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    test_write_file(path, json, size);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s.json", dir, i ? "generation_config" : "config");
        snprintf(text, sizeof text, "{\"eos_token_id\": %s}", i ? generation : config);
        test_write_file(path, text, strlen(text));
    }
    return dir;
}

static void check_stops(const char *path, const int32_t *want, int n_want)
{
    tok_tokenizer *t = NULL;
    int n;
    assert_ok(tok_open(&t, path));
    const int32_t *got = tok_stops(t, &n);
    if (n != n_want) print_error("%s: %d stops, not %d\n", path, n, n_want);
    assert_int_equal(n, n_want);
    for (int i = 0; i < n_want; i++) {
        bool found = false;
        for (int k = 0; k < n; k++) found = found || got[k] == want[i];
        if (!found) print_error("%s: %d is not among the stops\n", path, (int)want[i]);
        assert_true(found);
    }
    tok_close(t);
}

static void lists_survive(void **state)
{
    (void)state;
    /* 0 is <|endoftext|> and 2 <|im_end|>, known by their texts */
    static const struct {
        const char *config, *generation;
        int n;
        int32_t want[MAX];
        int64_t eot, eom; /* keys of the file, -1: none */
        bool list;
    } cases[] = {
        {"0", "[0, 2]", 2, {0, 2}, 2, -1, false},
        {"[0, 2, 89]", "null", 3, {0, 2, 89}, 2, 89, false},
        {"null", "[89, 2, 0, 90]", 4, {0, 2, 89, 90}, 90, 2, false},
        {"89", "[89, 90, 91, 92, 93]", 5, {89, 90, 91, 92, 93}, 90, 91, true},
        {"89", "89", 1, {89}, -1, -1, true}, /* others would stop at 0 and 2 as well */
        {"[0, 89]", "[2, 90]", 4, {0, 2, 89, 90}, 89, 90, false},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *dir = folder(cases[i].config, cases[i].generation);
        const char *path = test_path("stops.gguf");
        tok_tokenizer *t = NULL;
        gguf_writer *w;
        gguf_file f;
        arena *mem;
        int64_t eot, eom;
        check_stops(dir, cases[i].want, cases[i].n);
        assert_ok(tok_open(&t, dir));
        assert_ok(gguf_write_open(&w, path));
        assert_ok(tok_write_gguf(t, w, tok_size(t)));
        assert_ok(gguf_write_header(w));
        assert_ok(gguf_write_close(w));
        tok_close(t);
        check_stops(path, cases[i].want, cases[i].n);
        assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
        assert_ok(gguf_open(&f, path, mem));
        assert_ok(gguf_int(&f, "tokenizer.ggml.eot_token_id", -1, 0, 1000, &eot));
        assert_ok(gguf_int(&f, "tokenizer.ggml.eom_token_id", -1, 0, 1000, &eom));
        assert_int_equal(eot, cases[i].eot);
        assert_int_equal(eom, cases[i].eom);
        assert_int_equal(gguf_get(&f, "tokenizer.ggml.eog_token_ids") != NULL, cases[i].list);
        gguf_close(&f);
        arena_close(mem);
    }
}

/* --- files of others ------------------------------------------------------------------------------------------ */

static void put_vocabulary(gguf_writer *w, const char *const *token, int n)
{
    gguf_str text[32];
    int32_t type[32];
    assert_true(n <= 32);
    for (int i = 0; i < n; i++) {
        text[i] = (gguf_str){token[i], strlen(token[i])};
        type[i] = strlen(token[i]) > 1 ? 3 : 1;
    }
    gguf_put_str(w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_put_str(w, "tokenizer.ggml.pre", "gpt-2", 5);
    gguf_put_strs(w, "tokenizer.ggml.tokens", text, n);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", type, n);
    gguf_put_strs(w, "tokenizer.ggml.merges", NULL, 0);
}

static void texts_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *token[6];
        int64_t eos;
        int n;
        int32_t want[MAX];
    } cases[] = {
        /* as llama.cpp's converter leaves Llama 3.1: eos alone, two more by their texts */
        {{"a", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "b", "<|x|>"}, 3, 3, {1, 2, 3}},
        {{"a", "b", "<|x|>", "<end_of_turn>", "<eos>", "c"}, 4, 2, {3, 4}},
        /* parts of an answer that an end token of others closes */
        {{"a", "<|end|>", "<|return|>", "<|call|>", "b", "c"}, 2, 2, {2, 3}},
        {{"a", "<|end|>", "<|return|>", "b", "c", "d"}, 2, 2, {1, 2}},
        {{"a", "</s>", "<turn|>", "<|tool_response>", "b", "c"}, 2, 2, {2, 3}},
        {{"a", "b", "c", "d", "e", "<|x|>"}, 5, 1, {5}},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *path = test_path("texts.gguf");
        gguf_writer *w;
        assert_ok(gguf_write_open(&w, path));
        put_vocabulary(w, cases[i].token, 6);
        gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, cases[i].eos);
        assert_ok(gguf_write_header(w));
        assert_ok(gguf_write_close(w));
        check_stops(path, cases[i].want, cases[i].n);
    }
}

static void a_list_outside_the_vocabulary_is_refused(void **state)
{
    (void)state;
    static const char *const token[] = {"a", "b", "<|x|>"};
    const char *path = test_path("outside.gguf");
    tok_tokenizer *t = NULL;
    gguf_writer *w;
    assert_ok(gguf_write_open(&w, path));
    put_vocabulary(w, token, 3);
    gguf_put_i32s(w, "tokenizer.ggml.eog_token_ids", (const int32_t[]){1, 3}, 2);
    assert_ok(gguf_write_header(w));
    assert_ok(gguf_write_close(w));
    assert_fails(tok_open(&t, path), FT_EDATA, "eog_token_ids: 3 is not in the vocabulary of 3");
    str_buf many = {0};
    for (int i = 0; i < 65; i++) str_printf(&many, "%s%d", i ? "," : "[", i);
    str_addc(&many, ']');
    char *list = test_alloc(many.len + 1);
    memcpy(list, many.data, many.len);
    str_free(&many);
    char text[600], file[600];
    const char *dir = folder("0", "0");
    snprintf(text, sizeof text, "{\"eos_token_id\": %s}", list);
    snprintf(file, sizeof file, "%s/generation_config.json", dir);
    test_write_file(file, text, strlen(text));
    assert_fails(tok_open(&t, dir), FT_EDATA, "more than 64 ids");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_survive),
        cmocka_unit_test(texts_are_known),
        cmocka_unit_test(a_list_outside_the_vocabulary_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
