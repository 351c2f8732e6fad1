/* test_lora_kinds.c – what is made of LoRA: DoRA, LoRA-FA, PiSSA, OLoRA as whole runs: the same bytes for any split and after
 * a stop; what an init took out of the base, converted and not; refusals. Values against PEFT's: test_method.c (adapters),
 * test_train_golden.c (steps), here those of decompositions, whose signs are free. */
#include "golden.h"
#include "train_fixture.h"

#include "ft/kernel.h"

static const char dora[] = "{\"type\":\"dora\",\"r\":4,\"lora_dropout\":0.1}";
static const char lorafa[] = "{\"type\":\"lorafa\",\"r\":6,\"lora_dropout\":0.1}";
static const char pissa[] =
    "{\"type\":\"lora\",\"r\":4,\"init_lora_weights\":\"pissa\",\"lora_dropout\":0.1}";
static const char fast[] =
    "{\"type\":\"loraplus\",\"r\":3,\"init_lora_weights\":\"pissa_niter_2\"}";

/* --- whole runs ---------------------------------------------------------------------------------------------------------- */
static void runs_alike(const char *name, const char *method)
{
    char cut[64];
    snprintf(cut, sizeof cut, "%s-cut", name);
    write_config("lora.json", method);
    assert_ok(train((job){.out = name, .set = {"train.keep_checkpoints=99"}}));
    assert_any_split_gives(name);
    copy_run(name, cut, 5);
    assert_ok(train((job){.out = cut, .resume = true}));
    assert_same_run(name, cut);
}

static void any_split_and_any_stop(void **state)
{
    (void)state;
    write_train_files();
    runs_alike("dora", dora);
    runs_alike("lorafa", lorafa);
    if (kn_linalg_open() != FT_OK) return;
    runs_alike("pissa", pissa);
    runs_alike("fast", fast);
}

static void goes_on(const char *name, const char *type, int64_t rank)
{
    char from[300], kind[80];
    snprintf(from, sizeof from, "method.init_from=%s", test_path(name));
    snprintf(kind, sizeof kind, "method={\"type\":\"%s\"}", type);
    assert_ok(train((job){.out = "on", .force = true, .set = {kind, from, "train.max_steps=1"}}));
    assert_true(number_in("on", "adapter_config.json", "r", NULL, NULL) == (double)rank);
}

/* With the rank that the file has; the init's word is its past. */
static void goes_on_from_its_own(void **state)
{
    (void)state;
    goes_on("dora", "dora", 4);
    goes_on("dora", "lora", 4);
    goes_on("lorafa", "lorafa", 6);
    goes_on("lorafa", "lora", 6);
    if (kn_linalg_open() != FT_OK) return;
    goes_on("pissa", "lora", 8);
    goes_on("fast", "loraplus", 6);
}

/* Before the first step a model is what its base is, whatever was taken out of it. */
static void begins_at_the_base(void **state)
{
    static const char *const inits[] = {"pissa", "pissa_niter_0", "pissa_niter_4", "olora"};
    (void)state;
    if (kn_linalg_open() != FT_OK) skip();
    write_config("lora.json", "{\"type\":\"lora\",\"r\":4}");
    assert_ok(train((job){.out = "plain", .force = true, .set = {"train.max_steps=1"}}));
    const double base = number_in("plain", "summary.json", "first_loss", NULL, NULL);
    assert_true(base > 0.0);
    for (size_t i = 0; i < FT_COUNT_OF(inits); i++) {
        char init[100];
        snprintf(init, sizeof init, "method.init_lora_weights=\"%s\"", inits[i]);
        assert_ok(train((job){.out = "moved", .force = true, .set = {init, "train.max_steps=1"}}));
        const double loss = number_in("moved", "summary.json", "first_loss", NULL, NULL);
        if (!(fabs(loss - base) <= 1e-6 * base))
            fail_msg("%s: %.9g, not %.9g", inits[i], loss, base);
    }
}

/* --- steps of PEFT ------------------------------------------------------------------------------------------------------- */
static float *product(const st_file *f, const char *prefix, const char *stem, int64_t *n)
{
    char a[300], b[300];
    snprintf(a, sizeof a, "%s%slora_A.weight", prefix, stem);
    snprintf(b, sizeof b, "%s%slora_B.weight", prefix, stem);
    const io_tensor *ta = st_find(f, a), *tb = st_find(f, b);
    if (!ta || !tb) fail_msg("%s is missing", ta ? b : a);
    assert_int_equal(tb->dim[1], ta->dim[0]);
    const kn_mat m = {.type = &dt_f32, .data = ta->data, .rows = ta->dim[0], .cols = ta->dim[1]};
    *n = tb->dim[0] * ta->dim[1];
    float *out = test_alloc((size_t)*n * sizeof *out);
    kn_gemm_nn(out, ta->dim[1], tb->data, tb->dim[1], &m, tb->dim[0], NULL, false);
    return out;
}

static void compare_losses(const char *out, const float *want)
{
    char *line = test_read_file(test_path(in(out, "log.jsonl")), NULL);
    for (int i = 0; i < 20; i++) {
        const char *at = strstr(line, "\"loss\":");
        assert_non_null(at);
        const double loss = strtod(at + strlen("\"loss\":"), NULL);
        if (!(fabs(loss - (double)want[i]) <= 2e-5 * loss))
            fail_msg("%s, step %d: loss %.9g, not %.9g", out, i + 1, loss, (double)want[i]);
        line = strchr(at, '\n') + 1;
    }
}

static void trains_as_peft(const char *name, const char *base)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    char config[400], golden[400], set[400];
    str_buf result = {0};
    arena *mem;
    st_file want, have;
    int compared = 0;
    snprintf(config, sizeof config, "%s/%s/config.json", golden_path("peft"), name);
    snprintf(golden, sizeof golden, "%s/%s/golden.safetensors", golden_path("peft"), name);
    snprintf(set, sizeof set, "model.path=%s", golden_model(base));
    for (size_t i = 0; i < FT_COUNT_OF(files); i++)
        assert_ok(
            file_copy(in(source_path("data/tiny"), files[i]), in(golden_model(base), files[i])));
    const char *sets[] = {set}, *out = test_path(name);
    assert_ok(train_run(&(train_options){.config = config, .sets = sets, .n_sets = 1, .out = out},
                        &result));
    str_free(&result);
    assert_ok(arena_open(&mem, "test", 1 << 24));
    assert_ok(st_open(&want, golden, mem));
    assert_ok(st_open(&have, test_path(in(name, "adapter_model.safetensors")), mem));
    compare_losses(name, st_find(&want, "losses")->data);
    for (int64_t i = 0; i < have.n; i++) {
        char stem[300];
        const char *end = strstr(have.tensor[i].name, "lora_A.weight");
        int64_t n, m;
        if (!end) continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(end - have.tensor[i].name), have.tensor[i].name);
        const float *x = product(&have, "", stem, &n), *y = product(&want, "final.", stem, &m);
        assert_int_equal(n, m);
        const double d = rel_l2(x, y, n);
        if (!(d <= 1e-4)) fail_msg("%s%s: relative L2 %g", name, stem, d);
        compared += 2;
    }
    assert_int_equal(compared, have.n);
    assert_true(compared > 0);
    st_close(&want);
    st_close(&have);
    arena_close(mem);
}

static void decompositions_train_as_peft_does(void **state)
{
    (void)state;
    if (kn_linalg_open() != FT_OK) skip();
    trains_as_peft("train_pissa", "llama");
    trains_as_peft("train_pissa_gpt2", "gpt2");
    trains_as_peft("train_olora", "qwen2");
    assert_true(number_in("train_pissa", "adapter_config.json", "r", NULL, NULL) == 8);
    assert_true(number_in("train_pissa", "adapter_config.json", "lora_alpha", NULL, NULL) == 16);
    assert_true(number_in("train_pissa", "adapter_config.json", "rank_pattern", "v_proj", NULL) ==
                4);
    const double alpha =
        number_in("train_pissa_gpt2", "adapter_config.json", "lora_alpha", NULL, NULL);
    assert_true(fabs(alpha - 8.0 * sqrt(2.0)) < 1e-12);
}

/* --- refusals ------------------------------------------------------------------------------------------------------------ */
static void says_no(void **state)
{
    static const struct {
        const char *method, *more, *text;
    } cases[] = {
        {"{\"type\":\"dora\",\"use_dora\":false}", NULL, "method.use_dora"},
        {"{\"type\":\"lora\",\"use_dora\":true,\"init_lora_weights\":\"pissa\"}", NULL,
         "method.init_lora_weights"},
        {"{\"type\":\"dora\",\"init_lora_weights\":\"olora\"}", NULL, "method.init_lora_weights"},
        {"{\"type\":\"lora\",\"init_lora_weights\":\"pisa\"}", NULL, "method.init_lora_weights"},
        {"{\"type\":\"lora\",\"init_lora_weights\":\"pissa_niter_\"}", NULL,
         "method.init_lora_weights"},
        {"{\"type\":\"lora\",\"init_lora_weights\":\"pissa_niter_-1\"}", NULL,
         "method.init_lora_weights"},
        {"{\"type\":\"lora\",\"init_lora_weights\":\"olora\",\"lora_alpha\":0}", NULL,
         "method.lora_alpha"},
        {"{\"type\":\"lora\",\"init_lora_weights\":\"olora\",\"use_rslora\":true,"
         "\"rank_pattern\":{\"q_proj\":2}}",
         NULL, "method.use_rslora"},
        {"{\"type\":\"lora\",\"init_lora_weights\":\"olora\",\"r\":33}", NULL, "method.r"},
        {"{\"type\":\"qlora\",\"r\":4,\"init_lora_weights\":\"pissa\"}", NULL,
         "method.init_lora_weights"},
        {"{\"type\":\"lorafa\",\"init_lora_weights\":\"pissa\"}", NULL, "method.init_lora_weights"},
        {"{\"type\":\"lorafa\",\"use_dora\":true}", NULL, "use_dora"},
        {"{\"type\":\"lorafa\",\"lora_alpha\":0}", NULL, "method.lora_alpha"},
        {"{\"type\":\"lorafa\"}", "optim.type=lion", "optim.type"},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        write_config("no.json", cases[i].method);
        const job j = {.config = "no.json", .out = "no", .set = {cases[i].more}};
        const ft_status rc = train(j);
        if (rc != FT_ECONFIG || !strstr(ft_error(), cases[i].text))
            fail_msg("%s: %d, %s", cases[i].method, (int)rc, ft_error());
        ft_error_forget();
        assert_false(dir_exists(test_path("no")));
    }
}

/* The adapter of one kind is not trained on by the method of another. */
static void other_kinds(void **state)
{
    static const char *const cases[][3] = {{"dora", "lorafa", "use_dora"},
                                           {"lorafa", "dora", "use_dora"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char from[300], kind[80];
        snprintf(from, sizeof from, "method.init_from=%s", test_path(cases[i][0]));
        snprintf(kind, sizeof kind, "method={\"type\":\"%s\"}", cases[i][1]);
        assert_fails(train((job){.out = "no", .set = {kind, from}}), FT_EDATA, cases[i][2]);
    }
}

/* An init by chance cannot be found again. */
static void chance_is_not_read(void **state)
{
    char command[1200];
    model *m;
    pe_ctx *c = NULL;
    (void)state;
    snprintf(command, sizeof command,
             "cp -r '%s/llama_pissa/adapter' '%s' && sed -i 's/\"pissa\"/\"pissa_niter_4\"/' "
             "'%s/adapter_config.json'",
             golden_path("peft"), test_path("chance"), test_path("chance"));
    if (system(command) != 0) exit(2);
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_fails(pe_open_adapter(&c, m, test_path("chance")), FT_EDATA, "init_lora_weights");
    model_close(m);
}

/* Lengths are no product of factors, and do not add up. */
static void lengths_stand_alone(void **state)
{
    char dir[400];
    model *m;
    pe_ctx *c = NULL;
    (void)state;
    snprintf(dir, sizeof dir, "%s/llama_dora/adapter", golden_path("peft"));
    const pe_use use[] = {{dir, 1.0}, {dir, 0.5}};
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_fails(pe_open_adapters(&c, m, use, 2), FT_EDATA, "use_dora");
    assert_ok(pe_open_adapter(&c, m, dir));
    assert_string_equal(c->method->name, "dora");
    assert_null(c->method->low_rank);
    pe_close(c);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_split_and_any_stop),
        cmocka_unit_test(goes_on_from_its_own),
        cmocka_unit_test(other_kinds),
        cmocka_unit_test(begins_at_the_base),
        cmocka_unit_test(decompositions_train_as_peft_does),
        cmocka_unit_test(says_no),
        cmocka_unit_test(chance_is_not_read),
        cmocka_unit_test(lengths_stand_alone),
    };
    if (kn_init() != FT_OK) return 1;
    return cmocka_run_group_tests_name("kinds of LoRA", tests, NULL, NULL);
}
