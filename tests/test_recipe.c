/* test_recipe.c – whole models as one: every method against mergekit, YAML as the tree that JSON gives, the same bits for any
 * number of threads and from the recipe that a result holds. */
#include "golden.h"
#include "support.h"

#include "ft/kernel.h"
#include "ft/merge.h"
#include "ft/tool.h"

/* --- models ---------------------------------------------------------------------------------------------------- */

/* The weight rule of scripts/oracle.py. */
static float rule(uint32_t *s, int nd, const char *name)
{
    *s = *s * 1664525u + 1013904223u;
    const float u = (float)((double)(int32_t)((*s >> 8) - 8388608u) / 8388608.0);
    return nd >= 2 ? 0.5f * u : str_ends(name, ".weight") ? 1.0f + 0.25f * u : 0.25f * u;
}

/* The llama of the golden families, with a quarter of the rule of "NAME.LETTER" added; of a: as it is. */
static void make_model(const char *letter)
{
    const char *from = golden_model("llama"), *to = test_path(letter);
    char path[2][600], name[300];
    arena *mem;
    st_file f;
    assert_ok(arena_open(&mem, "models", (size_t)64 << 20));
    assert_ok(dir_make(to));
    for (int i = 0; i < 2; i++)
        snprintf(path[i], sizeof path[i], "%s/model.safetensors", i ? to : from);
    assert_ok(st_open(&f, path[0], mem));
    st_decl *decl = test_alloc((size_t)f.n * sizeof *decl);
    const void **data = test_alloc((size_t)f.n * sizeof *data);
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        float *x = test_alloc(t->bytes);
        uint32_t s = 2166136261u;
        memcpy(x, t->data, t->bytes);
        snprintf(name, sizeof name, "%s.%s", t->name, letter);
        for (const char *c = name; *c; c++) s = (s ^ (unsigned char)*c) * 16777619u;
        for (size_t k = 0; k < t->bytes / sizeof *x && letter[0] != 'a'; k++)
            x[k] += 0.25f * rule(&s, t->nd, name);
        decl[i] = (st_decl){.name = t->name, .type = &dt_f32, .nd = t->nd};
        for (int k = 0; k < t->nd; k++) decl[i].dim[k] = t->dim[k];
        data[i] = x;
    }
    assert_ok(st_write_all(path[1], decl, data, f.n, NULL, 0));
    st_close(&f);
    arena_close(mem);
    for (int i = 0; i < 2; i++) snprintf(path[i], sizeof path[i], "%s/config.json", i ? to : from);
    assert_ok(file_copy(path[0], path[1]));
}

static ft_status nowhere(void *ctx, const char *text, size_t n)
{
    if (ctx) str_add(ctx, text, n);
    return FT_OK;
}

static ft_status merge(const char *recipe, const char *out, str_buf *lines)
{
    const tool_recipe_options opt = {
        .recipe = recipe, .out = out, .force = true, .json = lines != NULL};
    return tool_merge(&opt, &(tool_sink){.put = nowhere, .ctx = lines});
}

static const char *write_recipe(const char *name, const char *text)
{
    const char *path = test_path(name);
    test_write_file(path, text, strlen(text));
    return path;
}

static bool same_file(const char *a, const char *b, const char *name)
{
    char path[2][600];
    size_t n[2];
    snprintf(path[0], sizeof path[0], "%s/%s", a, name);
    snprintf(path[1], sizeof path[1], "%s/%s", b, name);
    char *x = test_read_file(path[0], &n[0]), *y = test_read_file(path[1], &n[1]);
    return n[0] == n[1] && memcmp(x, y, n[0]) == 0;
}

/* --- against mergekit -------------------------------------------------------------------------------------------- */
static void as_mergekit(void **state)
{
    (void)state;
    const st_file *golden = golden_open("merge/golden.safetensors");
    for (int64_t i = 0; i < golden->n; i++) {
        const io_tensor *t = &golden->tensor[i];
        const char *slash = strchr(t->name, '/');
        char name[64], from[128], out[600];
        arena *mem;
        st_file f;
        snprintf(name, sizeof name, "%.*s.yml", (int)(slash - t->name), t->name);
        snprintf(from, sizeof from, "merge/%s", name);
        if (!file_exists(test_path(name))) {
            assert_ok(file_copy(golden_path(from), test_path(name)));
            assert_ok(merge(test_path(name), test_path("out"), NULL));
        }
        snprintf(out, sizeof out, "%s/model.safetensors", test_path("out"));
        assert_ok(arena_open(&mem, "result", (size_t)16 << 20));
        assert_ok(st_open(&f, out, mem));
        const io_tensor *ours = st_find(&f, slash + 1);
        assert_non_null(ours);
        assert_int_equal(ours->bytes, t->bytes);
        const double d = rel_l2(ours->data, t->data, (int64_t)(t->bytes / sizeof(float)));
        if (!(d < 1e-5)) print_error("%s: %g\n", t->name, d);
        assert_true(d < 1e-5);
        st_close(&f);
        arena_close(mem);
    }
}

/* --- the same again ---------------------------------------------------------------------------------------------- */
static const char della[] =
    "{\"merge_method\": \"della\", \"base_model\": \"a\", \"seed\": 3, \"dtype\": \"bfloat16\","
    " \"models\": [{\"model\": \"b\", \"parameters\": {\"weight\": 1, \"density\": 0.5}},"
    " {\"model\": \"c\", \"parameters\": {\"weight\": [0.5, 1], \"density\": 0.3}}]}";

static void same_again(void **state)
{
    (void)state;
    char recipe[600];
    str_buf lines = {0};
    const char *path = write_recipe("della.json", della);
    pool_close();
    assert_ok(pool_open(1));
    assert_ok(merge(path, test_path("one"), NULL));
    pool_close();
    assert_ok(pool_open(3));
    assert_ok(merge(path, test_path("three"), &lines));
    assert_true(same_file(test_path("one"), test_path("three"), "model.safetensors"));
    assert_non_null(strstr(lines.data, "{\"name\":\"model.embed_tokens.weight\",\"models\":["));
    assert_non_null(strstr(lines.data, "\"merge_method\":\"della\",\"layers\":2"));
    assert_non_null(strstr(lines.data, "\"memory\":{"));
    str_free(&lines);
    snprintf(recipe, sizeof recipe, "%s/merge_recipe.json", test_path("one"));
    assert_ok(merge(recipe, test_path("again"), NULL));
    assert_true(same_file(test_path("one"), test_path("again"), "model.safetensors"));
    assert_true(same_file(test_path("one"), test_path("again"), "merge_recipe.json"));
    assert_true(same_file(test_path("one"), test_path("again"), "config.json"));
    char *other = test_alloc(sizeof della);
    memcpy(other, della, sizeof della);
    *strstr(other, "3,") = '4';
    assert_ok(merge(write_recipe("other.json", other), test_path("other"), NULL));
    assert_false(same_file(test_path("one"), test_path("other"), "model.safetensors"));
}

/* What goes through a .gguf in f32 is the same model; into one, the same numbers. */
static void through_gguf(void **state)
{
    (void)state;
    int64_t n, k;
    const char *a = test_path("a"), *gguf = test_path("b.gguf");
    const tool_convert_options to = {
        .model = test_path("b"), .out = gguf, .type = "f32", .force = true};
    assert_ok(tool_convert(&to, &(tool_sink){.put = nowhere}));
    const char text[] = "{\"merge_method\": \"linear\", \"parameters\": {\"weight\": 1},"
                        " \"models\": [{\"model\": \"a\"}, {\"model\": \"b%s\"}]}";
    char recipe[400];
    snprintf(recipe, sizeof recipe, text, "");
    assert_ok(merge(write_recipe("f.json", recipe), test_path("folders"), NULL));
    snprintf(recipe, sizeof recipe, text, ".gguf");
    assert_ok(merge(write_recipe("g.json", recipe), test_path("mixed"), NULL));
    assert_true(same_file(test_path("folders"), test_path("mixed"), "model.safetensors"));
    assert_ok(merge(write_recipe("g.json", recipe), test_path("mixed.gguf"), NULL));
    assert_true(file_exists(test_path("mixed.merge_recipe.json")));
    float *x = golden_logits(&(model_options){.path = test_path("folders")}, &n);
    float *y = golden_logits(&(model_options){.path = test_path("mixed.gguf")}, &k);
    float *z = golden_logits(&(model_options){.path = a}, &k);
    assert_int_equal(n, k);
    assert_true(max_abs_diff(x, y, n) < 1e-5);
    assert_true(max_abs_diff(x, z, n) > 1e-2);
}

/* --- YAML ----------------------------------------------------------------------------------------------------------- */
static void yaml_is_the_same_tree(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *json;
    } cases[] = {
        {"a: 1\nb: [1, -2.5, 1e-4, +3, .5, 5.]\n", "{\"a\":1,\"b\":[1,-2.5,0.0001,3,0.5,5]}"},
        {"- yes\n- Off\n- true\n- ~\n- null\n-\n- 'yes'\n",
         "[true,false,true,null,null,null,\"yes\"]"},
        {"0x10\n", "\"0x10\""},
        {"[010, 1_000, 1:30, 1e, -, e5, .inf, 1.2.3]\n",
         "[\"010\",\"1_000\",\"1:30\",\"1e\",\"-\",\"e5\",\".inf\",\"1.2.3\"]"},
        {"{a: {b: {c: []}}, \"d e\": {}}", "{\"a\":{\"b\":{\"c\":[]}},\"d e\":{}}"},
        {"# comment\n---\nt: |\n  one\n  two\nf: >-\n  three\n  four\n...\n",
         "{\"t\":\"one\\ntwo\\n\",\"f\":\"three four\"}"},
        {"\"\\u00e4\": ä\n1: 2\n", "{\"ä\":\"ä\",\"1\":2}"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        js_doc d;
        str_buf s = {0};
        assert_ok(js_parse_yaml(&d, cases[i].yaml, strlen(cases[i].yaml), "r.yml", FT_ECONFIG));
        js_print(&s, d.root, false);
        assert_string_equal(s.data, cases[i].json);
        str_free(&s);
        js_close(&d);
    }
}

static void yaml_that_is_refused(void **state)
{
    (void)state;
    char deep[300];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    const struct {
        const char *yaml, *told;
    } cases[] = {
        {"a: &x 1\n", "r.yml:1:4: anchors (&x)"},
        {"a: 1\nb: *x\n", "r.yml:2:4: aliases (*x)"},
        {"a: !!float 1\n", "r.yml:1:4: tags"},
        {"a: 1\n  b: 2\n", "r.yml:2:"},
        {"a:\n  <<: {b: 1}\n", "r.yml:2:3: merge keys"},
        {"a: 1\nb: 2\na: 3\n", "r.yml:3:1: a: the key is here twice"},
        {"a: 1\n---\nb: 2\n", "r.yml:2:1: a second document"},
        {"? [a, b]\n: 1\n", "r.yml:1:3: a key must be a word"},
        {"a: \"\\0\"\n", "r.yml:1:4: \\0 cannot"},
        {"a: 1e999\n", "r.yml:1:4: 1e999 is beyond"},
        {"a: 9007199254740993\n", "r.yml:1:4: 9007199254740993 is beyond 2^53"},
        {"a: \xff\n", "r.yml: is not UTF-8"},
        {"", "r.yml:1:1: nothing here"},
        {"# only\n", "r.yml:1:1: nothing here"},
        {deep, "r.yml:1:65: nested deeper than 64"},
        {"a: [1, 2\n", "r.yml:2:1"},
        {"ä: ö\nö: &x 1\n", "r.yml:2:4: anchors"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        js_doc d;
        assert_fails(js_parse_yaml(&d, cases[i].yaml, strlen(cases[i].yaml), "r.yml", FT_ECONFIG),
                     FT_ECONFIG, cases[i].told);
    }
}

static int setup(void **state)
{
    (void)state;
    assert_ok(kn_init());
    assert_ok(pool_open(2));
    make_model("a");
    make_model("b");
    make_model("c");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pool_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_mergekit),          cmocka_unit_test(same_again),
        cmocka_unit_test(through_gguf),         cmocka_unit_test(yaml_is_the_same_tree),
        cmocka_unit_test(yaml_that_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
