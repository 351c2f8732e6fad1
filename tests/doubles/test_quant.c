/* test_quant.c – a quantiser as a row (quant_nibble.c): folders of its kind open, score, and are saved as plain ones;
 * a base is quantised on load; keys and types that are not its are refused by name. */
#include "doubles.h"
#include "golden.h"
#include "support.h"

#include "ft/model.h"
#include "ft/train.h"

static void write_config(const char *folder, const char *quant)
{
    char path[600];
    size_t n;
    str_buf s = {0};
    snprintf(path, sizeof path, "%s/config.json", golden_model("llama"));
    char *text = test_read_file(path, &n);
    char *open = strchr(text, '{');
    str_printf(&s, "{\"quantization_config\": %s,%s", quant, open + 1);
    snprintf(path, sizeof path, "%s/config.json", folder);
    test_write_file(path, s.data, s.len);
    str_free(&s);
}

/* The golden llama with the linear weights of its blocks coded, as a folder. */
static const char *coded_folder(void)
{
    const char *folder = test_path("coded");
    char path[600];
    arena *mem = NULL;
    st_file f = {0};
    if (dir_exists(folder)) return folder;
    assert_ok(dir_make(folder));
    write_config(folder, "{\"quant_method\": \"nibbles\", \"group_size\": 64}");
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    snprintf(path, sizeof path, "%s/model.safetensors", golden_model("llama"));
    assert_ok(st_open(&f, path, mem));
    st_decl *decl = test_alloc(2 * (size_t)f.n * sizeof *decl);
    const void **data = test_alloc(2 * (size_t)f.n * sizeof *data);
    int64_t n = 0;
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        decl[n] = (st_decl){.name = t->name, .type = t->type, .nd = t->nd};
        memcpy(decl[n].dim, t->dim, sizeof decl[n].dim);
        data[n++] = t->data;
        if (t->nd != 2 || !strstr(t->name, "_proj")) continue;
        const int64_t count = t->dim[0] * t->dim[1], groups = (count + 63) / 64;
        uint8_t *codes = test_alloc((size_t)(count + 1) / 2);
        float *absmax = test_alloc((size_t)groups * sizeof *absmax);
        char *name = test_alloc(strlen(t->name) + 8);
        nibble_quantise(codes, absmax, t->data, count);
        sprintf(name, "%s.absmax", t->name);
        decl[n - 1] = (st_decl){.name = t->name, .type = dt_by_name("u8"), .nd = 2};
        decl[n - 1].dim[0] = (count + 1) / 2;
        decl[n - 1].dim[1] = 1;
        data[n - 1] = codes;
        decl[n] = (st_decl){.name = name, .type = &dt_f32, .nd = 1, .dim = {groups}};
        data[n++] = absmax;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(st_write_all(path, decl, data, n, NULL, 0));
    st_close(&f);
    arena_close(mem);
    return folder;
}

static void a_folder_opens_and_is_saved_plain(void **state)
{
    (void)state;
    model *m = NULL;
    const model_options coded = {.path = coded_folder()};
    const char *folder = test_path("plain"), *gguf = test_path("plain.gguf");
    assert_ok(model_open(&m, &coded));
    assert_ptr_equal(model_param(m, "model.layers.0.self_attn.q_proj.weight")->t.type, &dt_nibble);
    assert_ok(model_save(m, folder, &(model_save_options){.type = &dt_f32}));
    assert_ok(model_save(m, gguf, &(model_save_options){.type = &dt_f32}));
    model_close(m);
    same_logits(&coded, &(model_options){.path = folder}, 0);
    same_logits(&coded, &(model_options){.path = gguf}, 0);
    char path[600];
    size_t n;
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_null(strstr(test_read_file(path, &n), "quant"));
}

static void a_base_is_quantised_on_load(void **state)
{
    (void)state;
    const model_quant *row = model_quant_by_type("nibble");
    assert_non_null(row);
    assert_null(model_quant_by_type("nf5"));
    void *cfg = test_alloc(row->make_size);
    same_logits(&(model_options){.path = coded_folder()},
                &(model_options){.path = golden_model("llama"), .make = row, .make_cfg = cfg}, 0);
    model *m = NULL;
    assert_ok(
        model_open(&m, &(model_options){.from_config = golden_path("families/llama/config.json"),
                                        .no_weights = true,
                                        .make = row,
                                        .make_cfg = cfg}));
    assert_ptr_equal(model_param(m, "model.layers.0.self_attn.q_proj.weight")->t.type, &dt_nibble);
    model_close(m);
}

static void other_quantisers_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *quant, *text;
    } cases[] = {
        {"{\"quant_method\": \"hqq\"}", "quantised by \"hqq\" cannot be read"},
        {"{\"quant_method\": \"hqq\"}", "nibbles"},
        {"{\"bits\": 4}", "has no quant_method"},
        {"4", "quantization_config: must be an object"},
        {"{\"quant_method\": 1}", "quant_method"},
        {"{\"quant_method\": \"nibbles\", \"group_size\": 32}", "group_size"},
    };
    const char *folder = test_path("refused");
    assert_ok(dir_make(folder));
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        char path[600];
        write_config(folder, cases[i].quant);
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        if (!file_exists(path)) {
            char from[600];
            snprintf(from, sizeof from, "%s/model.safetensors", coded_folder());
            assert_ok(file_copy(from, path));
        }
        assert_fails(model_open(&m, &(model_options){.path = folder}), FT_EDATA, cases[i].text);
    }
}

/* model.quantization of a training config: the row by its type, its keys checked and resolved. */
static ft_status run(const char *set, const char *out)
{
    str_buf s = {0};
    char base[600];
    snprintf(base, sizeof base, "model.path=%s", golden_model("llama"));
    const char *sets[] = {base, set};
    train_options o = {
        .config = test_path("train.json"), .sets = sets, .n_sets = 2, .out = test_path(out)};
    ft_status rc = train_run(&o, &s);
    str_free(&s);
    return rc;
}

static void a_training_config_names_it(void **state)
{
    (void)state;
    static const char config[] =
        "{\"data\": {\"train\": {\"path\": \"t.jsonl\", \"format\": \"tokens\"}},"
        "\"method\": {\"type\": \"lora\", \"r\": 2}, \"train\": {\"max_steps\": 2, \"batch_size\": "
        "2}}";
    static const char data[] = "{\"input_ids\":[1,2,3,4],\"labels\":[-100,2,3,4]}\n"
                               "{\"input_ids\":[5,6,7],\"labels\":[5,6,7]}\n";
    test_write_file(test_path("train.json"), config, strlen(config));
    test_write_file(test_path("t.jsonl"), data, strlen(data));
    assert_ok(run("model.quantization={\"type\":\"nibble\"}", "coded_run"));
    assert_ok(run("model.quantization=none", "plain_run"));
    char a[600], b[600];
    size_t n, k;
    snprintf(a, sizeof a, "%s/config.resolved.json", test_path("coded_run"));
    assert_non_null(strstr(test_read_file(a, &n), "\"group_size\": 64"));
    snprintf(a, sizeof a, "%s/adapter_model.safetensors", test_path("coded_run"));
    snprintf(b, sizeof b, "%s/adapter_model.safetensors", test_path("plain_run"));
    char *x = test_read_file(a, &n), *y = test_read_file(b, &k);
    assert_true(n == k && memcmp(x, y, n) != 0); /* another base */
    assert_fails(run("model.quantization={\"type\":\"nf5\"}", "no"), FT_ECONFIG, "nibble");
    assert_fails(run("model.quantization={\"type\":\"nibble\",\"bits\":4}", "no"), FT_ECONFIG,
                 "bits");
    assert_fails(run("model.quantization={\"type\":\"nibble\",\"group_size\":32}", "no"),
                 FT_ECONFIG, "group_size");
    assert_fails(run("model.quantization=yes", "no"), FT_ECONFIG, "model.quantization");
}

/* Rounded first and then trained in full: both keys are named, by `check` and by `train`, before anything is written. */
static void what_is_trained_in_full_is_not_rounded_first(void **state)
{
    static const char full[] =
        "{\"data\": {\"train\": {\"path\": \"t.jsonl\", \"format\": \"tokens\"}},"
        "\"method\": {\"type\": \"full\"}, \"train\": {\"max_steps\": 1, \"batch_size\": 2}}";
    static const char nibble[] = "model.quantization={\"type\":\"nibble\"}";
    (void)state;
    str_buf report = {0};
    char base[600];
    snprintf(base, sizeof base, "model.path=%s", golden_model("llama"));
    const char *sets[] = {base, nibble};
    train_options o = {
        .config = test_path("train.json"), .sets = sets, .n_sets = 2, .out = test_path("full_run")};
    test_write_file(test_path("train.json"), full, strlen(full));
    assert_fails(run(nibble, "full_run"), FT_ECONFIG, "model.quantization \"nibble\"");
    assert_non_null(strstr(ft_error(), "method.type \"full\""));
    assert_fails(train_check(&o, &report), FT_ECONFIG, "leave model.quantization out");
    assert_false(dir_exists(test_path("full_run")));
    str_free(&report);
    assert_ok(run("model.quantization=none", "full_run"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_opens_and_is_saved_plain),
        cmocka_unit_test(a_base_is_quantised_on_load),
        cmocka_unit_test(other_quantisers_are_refused_by_name),
        cmocka_unit_test(a_training_config_names_it),
        cmocka_unit_test(what_is_trained_in_full_is_not_rounded_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
