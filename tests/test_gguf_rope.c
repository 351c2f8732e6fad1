/* test_gguf_rope.c – the divisors of rope_freqs.weight are applied as they stand, whatever they are, and survive the way to a
 * folder and back; what the metadata says of scaling is read with llama.cpp's defaults. */
#include "golden.h"
#include "support.h"

enum { HALF = 4 };

typedef struct rope {
    const float *freqs; /* [n], NULL: none */
    int n;
    const char *type; /* rope.scaling.type */
    float factor, attn,
        legacy; /* rope.scaling.factor, .attn_factor, rope.scale_linear; 0: left out */
} rope;

/* A GGUF of the golden llama with this in place of what it says of scaling. */
static const char *file_with(const char *name, rope r)
{
    const char *base = test_path("base.gguf"), *path = test_path(name);
    arena *mem = NULL;
    gguf_file f;
    gguf_writer *w;
    if (!file_exists(base)) {
        model *m = NULL;
        assert_ok(model_open(&m, &(model_options){.path = golden_model("llama_rope_linear")}));
        assert_ok(model_save(m, base, NULL));
        model_close(m);
    }
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    assert_ok(gguf_open(&f, base, mem));
    assert_ok(gguf_write_open(&w, path));
    for (int64_t i = 0; i < f.n_kv; i++)
        if (!memmem(f.kv[i].key.s, f.kv[i].key.n, "rope.scal", 9)) gguf_put_copy(w, &f.kv[i]);
    if (r.type) gguf_put_str(w, "llama.rope.scaling.type", r.type, strlen(r.type));
    if (r.factor != 0) gguf_put_f32(w, "llama.rope.scaling.factor", r.factor);
    if (r.attn != 0) gguf_put_f32(w, "llama.rope.scaling.attn_factor", r.attn);
    if (r.legacy != 0) gguf_put_f32(w, "llama.rope.scale_linear", r.legacy);
    if (r.freqs) gguf_put_tensor(w, "rope_freqs.weight", &dt_f32, 1, (int64_t[]){r.n});
    for (int64_t i = 0; i < f.n; i++)
        gguf_put_tensor(w, f.tensor[i].name, f.tensor[i].type, f.tensor[i].nd, f.tensor[i].dim);
    assert_ok(gguf_write_header(w));
    if (r.freqs) assert_ok(gguf_write(w, r.freqs, (size_t)r.n * sizeof(float)));
    for (int64_t i = 0; i < f.n; i++) assert_ok(gguf_write(w, f.tensor[i].data, f.tensor[i].bytes));
    assert_ok(gguf_write_close(w));
    gguf_close(&f);
    arena_close(mem);
    return path;
}

static void same(const char *a, const char *b, double limit)
{
    same_logits(&(model_options){.path = a}, &(model_options){.path = b}, limit);
}

static const char *save(const char *from, const char *name)
{
    model *m = NULL;
    const char *path = test_path(name);
    assert_ok(dir_remove(path));
    assert_ok(model_open(&m, &(model_options){.path = from}));
    assert_ok(model_save(m, path, NULL));
    model_close(m);
    return path;
}

/* The file's divisors and scale of attention. */
static void check_file(const char *path, const float *freqs, double attn)
{
    arena *mem = NULL;
    gguf_file f;
    double v;
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    assert_ok(gguf_open(&f, path, mem));
    const io_tensor *t = test_gguf_tensor(&f, "rope_freqs.weight");
    assert_non_null(t);
    assert_int_equal(t->bytes, HALF * sizeof(float));
    assert_memory_equal(t->data, freqs, t->bytes);
    assert_ok(gguf_num(&f, "llama.rope.scaling.attn_factor", 1.0, &v));
    assert_true(v == attn);
    gguf_close(&f);
    arena_close(mem);
}

static bool config_says(const char *folder, const char *text)
{
    char path[600];
    size_t n;
    snprintf(path, sizeof path, "%s/config.json", folder);
    return strstr(test_read_file(path, &n), text) != NULL;
}

/* The golden case is transformers' result for the same divisors. */
static void divisors_are_applied_as_they_stand(void **state)
{
    (void)state;
    static const float v[HALF] = {1.5f, 0.75f, 3.0f, 40.0f},
                       half[HALF] = {0.75f, 0.375f, 1.5f, 20.0f};
    static const float four[HALF] = {4, 4, 4, 4}, one[HALF] = {1, 1, 1, 1};
    const char *golden = golden_model("llama_rope_longrope");
    const char *path = file_with("v.gguf", (rope){.freqs = v, .n = HALF, .attn = 1.25f});
    same(path, golden, 0);
    /* the linear factor of the metadata comes on top */
    same(file_with(
             "half.gguf",
             (rope){.freqs = half, .n = HALF, .type = "linear", .factor = 2.0f, .attn = 1.25f}),
         golden, 0);
    same(file_with("four.gguf", (rope){.freqs = four, .n = HALF}),
         golden_model("llama_rope_linear"), 1e-4);
    same(file_with("one.gguf", (rope){.freqs = one, .n = HALF}), file_with("none.gguf", (rope){0}),
         0);

    /* to a folder, which says the same to other programs, and back; and to another GGUF */
    const char *folder = save(path, "folder");
    assert_true(config_says(folder, "longrope") && config_says(folder, "0.75"));
    same(folder, golden, 0);
    check_file(save(folder, "back.gguf"), v, 1.25);
    check_file(save(path, "again.gguf"), v, 1.25);
    same(test_path("back.gguf"), golden, 0);
}

/* Computed in single precision as llama.cpp's converter does for Llama 3 (factor 8, 64 positions before). */
static void llama3_is_known_by_its_divisors(void **state)
{
    (void)state;
    static const float v[HALF] = {1.0f, 0x1.eab67p+2f, 8.0f, 8.0f};
    static const float w[HALF] = {1.0f, 0x1.eab77p+2f, 8.0f,
                                  8.0f}; /* a little off: it stays itself */
    const char *folder = save(golden_model("llama_rope_llama3"), "l3.gguf");
    check_file(folder, v, 1.0);
    assert_true(config_says(save(folder, "l3"), "\"llama3\""));
    folder = save(file_with("w.gguf", (rope){.freqs = w, .n = HALF}), "w");
    assert_true(config_says(folder, "\"longrope\""));
    check_file(save(folder, "wback.gguf"), w, 1.0);
}

static void defaults_are_those_of_llama_cpp(void **state)
{
    (void)state;
    const char *linear = golden_model("llama_rope_linear"); /* factor 4 */
    const char *none = file_with("plain.gguf", (rope){0});
    same(file_with("a.gguf", (rope){.type = "linear", .factor = 4.0f}), linear, 0);
    same(file_with("b.gguf", (rope){.factor = 4.0f}), linear, 0);
    same(file_with("c.gguf", (rope){.legacy = 4.0f}), linear, 0);
    same(file_with("d.gguf", (rope){.type = "none", .factor = 4.0f}), none, 0);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    static const float good[HALF] = {1, 2, 3, 4}, zero[HALF] = {1, 0, 3, 4},
                       nan[HALF] = {1, 2, NAN, 4};
    static const struct {
        rope r;
        const char *text;
    } cases[] = {
        {{.freqs = good, .n = 3}, "\"rope_freqs.weight\": 4 numbers are needed"},
        {{.freqs = zero, .n = HALF}, "\"rope_freqs.weight\": element 1 is 0"},
        {{.freqs = nan, .n = HALF}, "\"rope_freqs.weight\": element 2 is nan"},
        {{.freqs = good, .n = HALF, .type = "yarn", .factor = 4.0f}, "beside yarn"},
        {{.type = "longrope", .factor = 4.0f}, "\"longrope\" is not supported"},
        {{.type = "linear", .factor = -1.0f}, "is not above 0"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        const char *path = file_with("bad.gguf", cases[i].r);
        assert_fails(model_open(&m, &(model_options){.path = path}), FT_EDATA, cases[i].text);
        assert_non_null(strstr(ft_error(), "bad.gguf"));
    }
}

/* config.json's longrope: one list for all lengths, of the right length and numbers. */
static void folders_of_two_lists_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"[1.5, 0.75, 3.0, 40.0]", "[1.5, 0.75, 3.0, 41.0]", "long_factor: differs"},
        {"[1.5, 0.75, 3.0]", "[1.5, 0.75, 3.0]", "a list of 4 numbers"},
        {"[1.5, 0.75, 3.0, \"x\"]", "[1, 1, 1, 1]", "entry 3 is not a number above 0"},
        {"[1.5, 0.75, -3.0, 1]", "[1, 1, 1, 1]", "entry 2 is not a number above 0"},
        {"null", "null", "short_factor: a list of 4 numbers"},
    };
    size_t n;
    const char *folder = golden_model("llama_rope_longrope");
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", folder);
    const char *good = test_read_file(path, &n);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        str_buf s = {0};
        const char *scaling = strstr(good, "\"rope_scaling\"");
        str_add(&s, good, (size_t)(scaling - good));
        str_printf(&s, "\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": %s, ",
                   cases[i][0]);
        str_printf(&s, "\"long_factor\": %s}%s", cases[i][1], strchr(scaling, '}') + 1);
        test_write_file(path, s.data, s.len);
        str_free(&s);
        assert_fails(model_open(&m, &(model_options){.path = folder}), FT_EDATA, cases[i][2]);
    }
    test_write_file(path, good, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divisors_are_applied_as_they_stand),
        cmocka_unit_test(llama3_is_known_by_its_divisors),
        cmocka_unit_test(defaults_are_those_of_llama_cpp),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(folders_of_two_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
