/* test_train_golden.c – twenty optimizer steps against PyTorch, transformers and PEFT: losses, learning rates, gradient
 * norms, and every trained tensor at the end (tests/golden/peft/train_*, scripts/make_golden_peft.py; tests/golden/bitfit,
 * scripts/make_golden_bitfit.py). */
#include "golden.h"
#include "support.h"

#include "ft/io.h"
#include "ft/kernel.h"
#include "ft/train.h"

enum { STEPS = 20 };

/* The golden base with a tokenizer beside it, which a run wants although its data are tokens already. */
static const char *base_model(const char *name)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    const char *dir = golden_model(name);
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        char from[600], to[600];
        snprintf(from, sizeof from, "%s/%s", source_path("data/tiny"), files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        assert_ok(file_copy(from, to));
    }
    return dir;
}

/* Fields of the log that a method adds: tensors "log.NAME". */
static void compare_metrics(const js_doc *d, const st_file *want, int step)
{
    for (int64_t i = 0; i < want->n; i++) {
        const io_tensor *t = &want->tensor[i];
        if (!str_starts(t->name, "log.")) continue;
        const cJSON *node = js_get(d->root, t->name + strlen("log."));
        const double have = cJSON_IsNumber(node) ? node->valuedouble : (double)NAN,
                     value = (double)((const float *)t->data)[step];
        if (!(fabs(have - value) <= 2e-5 * fabs(value)))
            fail_msg("step %d: %s %.9g, not %.9g", step + 1, t->name, have, value);
    }
}

static void compare_log(const char *out, const st_file *want)
{
    char path[600];
    size_t len;
    const float *losses = st_find(want, "losses")->data, *norms = st_find(want, "grad_norms")->data;
    const float *rates = st_find(want, "learning_rates")->data;
    snprintf(path, sizeof path, "%s/log.jsonl", out);
    char *line = test_read_file(path, &len);
    for (int i = 0; i < STEPS; i++) {
        js_doc d;
        char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_ok(js_parse(&d, line, (size_t)(end - line), "log", i + 1, JS_STRICT, FT_EDATA));
        double loss = js_get(d.root, "loss")->valuedouble,
               norm = js_get(d.root, "grad_norm")->valuedouble;
        double rate = js_get(d.root, "learning_rate")->valuedouble;
        if (!(fabs(loss - (double)losses[i]) <= 2e-5 * loss))
            fail_msg("step %d: loss %.9g, not %.9g", i + 1, loss, (double)losses[i]);
        if (!(fabs(norm - (double)norms[i]) <= 1e-4 * norm))
            fail_msg("step %d: gradient norm %.9g, not %.9g", i + 1, norm, (double)norms[i]);
        if (!(fabs(rate - (double)rates[i]) <= 1e-6 * (double)rates[i]))
            fail_msg("step %d: rate %.9g, not %.9g", i + 1, rate, (double)rates[i]);
        compare_metrics(&d, want, i);
        js_close(&d);
        line = end + 1;
    }
}

static void compare_result(const char *out, const char *file, const st_file *want, arena *mem)
{
    st_file have;
    char path[600];
    int compared = 0;
    snprintf(path, sizeof path, "%s/%s", out, file);
    assert_ok(st_open(&have, path, mem));
    for (int64_t i = 0; i < want->n; i++) {
        const io_tensor *w = &want->tensor[i];
        if (!str_starts(w->name, "final.")) continue;
        const io_tensor *h = st_find(&have, w->name + strlen("final."));
        if (!h) fail_msg("%s is missing from the result", w->name);
        assert_true(h->type == &dt_f32 && h->bytes == w->bytes);
        double d = rel_l2(h->data, w->data, (int64_t)(w->bytes / sizeof(float)));
        if (!(d <= 1e-4)) fail_msg("%s: relative L2 %g", w->name, d);
        compared++;
    }
    assert_int_equal(compared, have.n);
    st_close(&have);
}

/* A run by a config, in the folder `name`, against the tensors of a golden file; base NULL: the folder of that name beside the
 * config; `file` holds what was trained; also: one more --set, or NULL. */
static void compare_run(const char *name, const char *config, const char *golden, const char *base,
                        const char *file, const char *also)
{
    char set[700], beside[600];
    const char *sets[] = {set, also};
    str_buf result = {0};
    arena *mem;
    st_file want;
    snprintf(beside, sizeof beside, "%s/%s/base", golden_path("peft"), name);
    const bool tiny = base && strcmp(base, "tiny") == 0;
    snprintf(set, sizeof set, "model.path=%s",
             tiny   ? source_path("data/tiny")
             : base ? base_model(base)
                    : beside);
    const char *out = test_path(name);
    train_options o = {.config = config, .sets = sets, .n_sets = also ? 2 : 1, .out = out};
    assert_ok(train_run(&o, &result));
    str_free(&result);
    assert_ok(arena_open(&mem, "test", 1 << 24));
    assert_ok(st_open(&want, golden, mem));
    compare_log(out, &want);
    compare_result(out, file, &want, mem);
    st_close(&want);
    arena_close(mem);
}

static void check_run(const char *name, const char *base, const char *file)
{
    char config[600], golden[600];
    snprintf(config, sizeof config, "%s/%s/config.json", golden_path("peft"), name);
    snprintf(golden, sizeof golden, "%s/%s/golden.safetensors", golden_path("peft"), name);
    compare_run(name, config, golden, base, file, NULL);
}

static void lora_trains_as_peft_does(void **state)
{
    (void)state;
    check_run("train_lora", "llama", "adapter_model.safetensors");
}

/* The same run on the numbers of a base in nf4, its scales in eight bits (scripts/make_golden_bnb.py). */
static void qlora_trains_as_peft_does(void **state)
{
    char config[600], golden[600];
    (void)state;
    snprintf(config, sizeof config, "%s/train_lora/config.json", golden_path("peft"));
    snprintf(golden, sizeof golden, "%s/train_qlora.safetensors", golden_path("bnb"));
    compare_run("train_qlora", config, golden, "llama", "adapter_model.safetensors",
                "method.type=qlora");
}

static void prompts_train_as_peft_does(void **state)
{
    (void)state;
    check_run("train_prompt", "llama", "adapter_model.safetensors");
    check_run("train_prompt_qwen2", "qwen2_window", "adapter_model.safetensors");
    check_run("train_prompt_gpt2", "gpt2", "adapter_model.safetensors");
}

/* The encoder of a run by check_run. */
static void check_encoder(const char *name)
{
    char golden[600];
    arena *mem;
    st_file want;
    snprintf(golden, sizeof golden, "%s/%s/encoder.safetensors", golden_path("peft"), name);
    assert_ok(arena_open(&mem, "test", 1 << 24));
    assert_ok(st_open(&want, golden, mem));
    compare_result(test_path(name), "prompt_encoder.safetensors", &want, mem);
    st_close(&want);
    arena_close(mem);
}

/* Prefixes, and what networks make: in a window, over a table of positions, behind norms of heads. */
static void encoders_train_as_peft_s_do(void **state)
{
    (void)state;
    check_run("train_prefix", "qwen2_window", "adapter_model.safetensors");
    check_run("train_prefix_projected", "gpt2", "adapter_model.safetensors");
    check_encoder("train_prefix_projected");
    check_run("train_p_mlp", "llama", "adapter_model.safetensors");
    check_encoder("train_p_mlp");
    check_run("train_p_lstm", "qwen3", "adapter_model.safetensors");
    check_encoder("train_p_lstm");
}

/* Embeddings, norms with and without a bias, biases, a head saved in full: every group of PEFT's optimizer. */
static void loraplus_trains_as_peft_does(void **state)
{
    (void)state;
    check_run("train_loraplus", "llama", "adapter_model.safetensors");
    check_run("train_loraplus_gpt2", "gpt2", "adapter_model.safetensors");
}

/* The adapters beside LoRA's family (scripts/make_golden_peft_more.py, make_golden_methods.py). */
static void further_adapters_train_as_peft_does(void **state)
{
    static const char *const cases[][2] = {
        {"train_vera", "llama"},    {"train_vera_gpt2", "gpt2"},   {"train_ia3", "qwen2"},
        {"train_ia3_gpt2", "gpt2"}, {"train_ln", "qwen3"},         {"train_ln_gpt2", "gpt2"},
        {"train_adalora", "llama"}, {"train_adalora_gpt2", "gpt2"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++)
        check_run(cases[i][0], cases[i][1], "adapter_model.safetensors");
}

/* Lengths trained apart, as a method and as a key of two others (scripts/make_golden_peft_lora.py). */
static void dora_trains_as_peft_does(void **state)
{
    (void)state;
    check_run("train_dora", "llama", "adapter_model.safetensors");
    check_run("train_dora_gpt2", "gpt2", "adapter_model.safetensors");
    check_run("train_dora_loraplus", "qwen2", "adapter_model.safetensors");
}

/* Factors A that stay as they were, to the bit. */
static void lorafa_trains_as_peft_does(void **state)
{
    char path[600];
    arena *mem;
    st_file init, have;
    int frozen = 0;
    (void)state;
    check_run("train_lorafa", "llama", "adapter_model.safetensors");
    check_run("train_lorafa_gpt2", "gpt2", "adapter_model.safetensors");
    assert_ok(arena_open(&mem, "test", 1 << 24));
    snprintf(path, sizeof path, "%s/train_lorafa/init/adapter_model.safetensors",
             golden_path("peft"));
    assert_ok(st_open(&init, path, mem));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", test_path("train_lorafa"));
    assert_ok(st_open(&have, path, mem));
    for (int64_t i = 0; i < init.n; i++) {
        const io_tensor *a = &init.tensor[i], *now = st_find(&have, a->name);
        assert_non_null(now);
        if (!strstr(a->name, "lora_A")) continue;
        assert_memory_equal(now->data, a->data, a->bytes);
        frozen++;
    }
    assert_int_equal(frozen, 6);
    st_close(&init);
    st_close(&have);
    arena_close(mem);
}

static js_doc json_of(const char *path)
{
    size_t n;
    js_doc d;
    char *text = test_read_file(path, &n);
    assert_ok(js_parse(&d, text, n, path, 1, JS_STRICT, FT_EDATA));
    return d;
}

/* lora_drop.json of a run against the loop's. */
static void compare_sample(const char *name)
{
    char path[600];
    const cJSON *e;
    int i = 0;
    snprintf(path, sizeof path, "%s/%s/lora_drop.json", golden_path("peft"), name);
    js_doc want = json_of(path);
    snprintf(path, sizeof path, "%s/lora_drop.json", test_path(name));
    js_doc have = json_of(path);
    assert_true(cJSON_Compare(js_get(want.root, "shared"), js_get(have.root, "shared"), true));
    cJSON_ArrayForEach(e, js_get(want.root, "losses"))
    {
        const cJSON *loss = cJSON_GetArrayItem(js_get(have.root, "losses"), i++);
        assert_true(fabs(loss->valuedouble - e->valuedouble) <= 2e-5 * e->valuedouble);
    }
    assert_int_equal(cJSON_GetArraySize(js_get(have.root, "losses")), i);
    cJSON_ArrayForEach(e, js_get(want.root, "importance"))
    {
        const cJSON *part = js_get(js_get(have.root, "importance"), e->string);
        assert_true(fabs(part->valuedouble - e->valuedouble) <= 1e-4 * e->valuedouble);
    }
    js_close(&want);
    js_close(&have);
}

/* Plain loops of the equations. */
static void lotr_is_its_equation(void **state)
{
    (void)state;
    check_run("train_lotr", "llama", "lotr.safetensors");
    check_run("train_lotr_gpt2", "gpt2", "lotr.safetensors");
}

static void delta_lora_is_its_equation(void **state)
{
    (void)state;
    check_run("train_delta_lora", "llama", "model.safetensors");
    check_run("train_delta_lora_gpt2", "gpt2", "model.safetensors");
}

/* What the sample told, then the run. */
static void lora_drop_is_its_equation(void **state)
{
    static const char *const names[] = {"train_lora_drop", "train_lora_drop_gpt2"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        check_run(names[i], NULL, "adapter_model.safetensors");
        compare_sample(names[i]);
    }
}

/* The adapters library, and where it does not know the family its formulas (scripts/make_golden_bottleneck.py). */
static void adapters_train_as_the_library_does(void **state)
{
    static const char *const cases[][2] = {{"train_double", "llama"},
                                           {"train_seq", "mistral"},
                                           {"train_par", "gpt2"},
                                           {"train_double_qwen3", "qwen3"},
                                           {"train_par_qwen2", "qwen2"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char config[600], golden[600];
        const char *dir = golden_path("bottleneck");
        snprintf(config, sizeof config, "%s/%s/config.json", dir, cases[i][0]);
        snprintf(golden, sizeof golden, "%s/%s/golden.safetensors", dir, cases[i][0]);
        compare_run(cases[i][0], config, golden, cases[i][1], "adapter.safetensors", NULL);
    }
}

static void smoothed_labels_are_those_of_transformers(void **state)
{
    (void)state;
    check_run("train_smooth", "qwen2", "adapter_model.safetensors");
}

static void full_training_is_that_of_torch(void **state)
{
    char path[600], text[256];
    size_t n;
    js_doc d;
    (void)state;
    snprintf(path, sizeof path, "%s/train_full/golden.json", golden_path("peft"));
    char *json = test_read_file(path, &n);
    assert_ok(js_parse(&d, json, n, "golden.json", 1, JS_STRICT, FT_EDATA));
    snprintf(text, sizeof text, "%s", js_get(d.root, "base")->valuestring);
    js_close(&d);
    check_run("train_full", text, "model.safetensors");
}

/* Loops that freeze all but biases; where the base has none, transformers' model has zero ones to begin with. */
static void bitfit_is_that_of_torch(void **state)
{
    static const char *const cases[][2] = {
        {"llama_all", "llama"}, {"llama_terms", "llama"},           {"qwen2_all", "qwen2"},
        {"gpt2_all", "gpt2"},   {"qwen3_all", "qwen3_layer_types"}, {"gpt2_terms", "gpt2"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char config[600], golden[600];
        snprintf(config, sizeof config, "%s/%s.json", golden_path("bitfit"), cases[i][0]);
        snprintf(golden, sizeof golden, "%s/%s.safetensors", golden_path("bitfit"), cases[i][0]);
        compare_run(cases[i][0], config, golden, cases[i][1], "adapter_model.safetensors", NULL);
    }
}

/* TRL's trainers on the embedded model (scripts/make_golden_preference.py). */
static void preferences_train_as_trl_s_do(void **state)
{
    static const char *const cases[] = {"dpo",  "dpo_sorted", "dpo_weighted", "kto",
                                        "orpo", "simpo",      "tpo"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char config[600], golden[600];
        snprintf(config, sizeof config, "%s/%s.json", golden_path("preference"), cases[i]);
        snprintf(golden, sizeof golden, "%s/%s.safetensors", golden_path("preference"), cases[i]);
        compare_run(cases[i], config, golden, "tiny", "adapter_model.safetensors", NULL);
    }
}

/* TRL's RewardTrainer on the embedded model (scripts/make_golden_reward.py). */
static void reward_models_train_as_trl_s_do(void **state)
{
    (void)state;
    compare_run("reward", golden_path("reward/reward.json"),
                golden_path("reward/reward.safetensors"), "tiny", "adapter_model.safetensors",
                NULL);
}

/* Plain loops on the embedded model (scripts/make_golden_distill.py). */
static void distillation_is_that_of_torch(void **state)
{
    static const char *const cases[] = {"kd", "kd_forward", "kd_reverse", "tdpo1", "tdpo2"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char config[600], golden[600];
        snprintf(config, sizeof config, "%s/%s.json", golden_path("distill"), cases[i]);
        snprintf(golden, sizeof golden, "%s/%s.safetensors", golden_path("distill"), cases[i]);
        compare_run(cases[i], config, golden, "tiny", "adapter_model.safetensors", NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lora_trains_as_peft_does),
        cmocka_unit_test(loraplus_trains_as_peft_does),
        cmocka_unit_test(lotr_is_its_equation),
        cmocka_unit_test(delta_lora_is_its_equation),
        cmocka_unit_test(lora_drop_is_its_equation),
        cmocka_unit_test(qlora_trains_as_peft_does),
        cmocka_unit_test(further_adapters_train_as_peft_does),
        cmocka_unit_test(dora_trains_as_peft_does),
        cmocka_unit_test(lorafa_trains_as_peft_does),
        cmocka_unit_test(smoothed_labels_are_those_of_transformers),
        cmocka_unit_test(full_training_is_that_of_torch),
        cmocka_unit_test(bitfit_is_that_of_torch),
        cmocka_unit_test(prompts_train_as_peft_does),
        cmocka_unit_test(encoders_train_as_peft_s_do),
        cmocka_unit_test(adapters_train_as_the_library_does),
        cmocka_unit_test(preferences_train_as_trl_s_do),
        cmocka_unit_test(reward_models_train_as_trl_s_do),
        cmocka_unit_test(distillation_is_that_of_torch),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
