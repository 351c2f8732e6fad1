/* test_rank_methods.c – methods that lay something around LoRA's pair (adalora, lora_drop, lotr, delta_lora), as whole runs:
 * how a step is cut leaves no mark, a run that was stopped ends as it would have, what they wrote is gone on from, and what they
 * cannot do is told by its key or tensor. */
#include "train_fixture.h"

#include "ft/io.h"
#include "ft/kernel.h"

/* Dropout, packing and all shared values on; ten steps. */
static const struct {
    const char *name, *json, *result;
} methods[] = {
    {"adalora",
     "{\"type\":\"adalora\",\"init_r\":4,\"target_r\":2,\"tinit\":1,\"tfinal\":3,\"deltaT\":2,"
     "\"lora_dropout\":0.1,\"target_modules\":[\"q_proj\",\"down_proj\"]}",
     "adapter_model.safetensors"},
    {"lora_drop",
     "{\"type\":\"lora_drop\",\"r\":2,\"threshold\":0.3,\"sample_ratio\":0.3,\"lora_dropout\":0.1,"
     "\"target_modules\":[\"q_proj\",\"v_proj\",\"down_proj\",\"embed_tokens\"]}",
     "adapter_model.safetensors"},
    {"lotr", "{\"type\":\"lotr\",\"r\":2,\"lora_alpha\":1,\"lotr_share\":\"all\"}",
     "lotr.safetensors"},
    {"delta_lora",
     "{\"type\":\"delta_lora\",\"r\":2,\"delta_start\":3,\"target_modules\":[\"q_proj\",\"up_"
     "proj\","
     "\"embed_tokens\"]}",
     "model.safetensors"},
};
enum { ADALORA, LORA_DROP, LOTR, DELTA_LORA };

static int setup(void **state)
{
    char text[1024];
    (void)state;
    write_train_files();
    snprintf(text, sizeof text, "%s", train_model_json);
    memcpy(strstr(text, "\"num_hidden_layers\":2"), "\"num_hidden_layers\":4", 21);
    test_write_file(test_path("model.json"), text, strlen(text));
    return 0;
}

/* Its undisturbed run, every checkpoint kept. */
static const char *run_of(int i)
{
    static bool made[FT_COUNT_OF(methods)];
    write_config("lora.json", methods[i].json);
    if (!made[i])
        assert_ok(train((job){.out = methods[i].name,
                              .set = {"train.checkpoint_every=1", "train.keep_checkpoints=99"}}));
    made[i] = true;
    return methods[i].name;
}

static void assert_same(const char *a, const char *b, int i)
{
    assert_same_file(a, b, methods[i].result);
    assert_same_file(a, b, "log.jsonl");
    if (i != DELTA_LORA) assert_same_run(a, b);
    if (i == LORA_DROP) assert_same_file(a, b, "lora_drop.json");
}

static void threads_and_micro_batches_change_no_bit(void **state)
{
    static const char *const sets[][2] = {
        {"train.micro_batch_size=1", NULL},
        {"train.micro_batch_size=3", "train.gradient_checkpointing=true"},
        {"data.packing=true", NULL}};
    (void)state;
    for (int i = 0; i < (int)FT_COUNT_OF(methods); i++) {
        const char *whole = run_of(i);
        pool_close();
        assert_ok(pool_open(3));
        for (size_t k = 0; k < FT_COUNT_OF(sets); k++) {
            assert_ok(train((job){.out = "bits", .force = true, .set = {sets[k][0], sets[k][1]}}));
            assert_same("bits", whole, i);
        }
    }
}

static void resuming_changes_no_bit(void **state)
{
    static const int steps[] = {0, 4, 7, 10};
    (void)state;
    for (int i = 0; i < (int)FT_COUNT_OF(methods); i++) {
        const char *whole = run_of(i);
        for (size_t k = 0; k < FT_COUNT_OF(steps); k++) {
            copy_run(whole, "resumed", steps[k]);
            (void)remove(test_path(in("resumed", methods[i].result)));
            (void)remove(test_path(in("resumed", "lora_drop.json")));
            assert_ok(train(
                (job){.out = "resumed", .resume = true, .set = {"train.micro_batch_size=2"}}));
            assert_same("resumed", whole, i);
        }
    }
}

static double logged(const char *run, int step, const char *field)
{
    char key[32];
    snprintf(key, sizeof key, "{\"step\":%d,", step);
    char *line = strstr(test_read_file(test_path(in(run, "log.jsonl")), NULL), key);
    assert_non_null(line);
    char *at = strstr(line, field);
    assert_non_null(at);
    return strtod(at + strlen(field) + 1, NULL);
}

/* 8 modules: 32 triplets, then 16; what is cut stays so, and nothing of it is masked again. */
static void a_cut_adapter_keeps_its_rank(void **state)
{
    char set[300];
    (void)state;
    run_of(ADALORA);
    assert_true(logged("adalora", 2, "\"rank\"") == 32);
    assert_true(logged("adalora", 10, "\"rank\"") == 16);
    assert_true(logged("adalora", 1, "\"orth_loss\"") > 0);
    snprintf(set, sizeof set, "method.init_from=%s", test_path("adalora"));
    assert_ok(train((job){.out = "cut on", .set = {set}}));
    assert_true(logged("cut on", 1, "\"rank\"") == 16 && logged("cut on", 10, "\"rank\"") == 16);
    assert_true(number_in("cut on", "adapter_config.json", "init_r", NULL, NULL) == 4);
    assert_ok(train((job){.config = "cut on/config.resolved.json", .out = "cut again"}));
    assert_same_file("cut on", "cut again", "adapter_model.safetensors");
}

/* A step at rate 0 leaves what was loaded as it is. */
static void each_goes_on_from_its_own(void **state)
{
    char set[300];
    (void)state;
    for (int i = ADALORA; i <= LOTR; i++) {
        snprintf(set, sizeof set, "method.init_from=%s", test_path(run_of(i)));
        assert_ok(train((job){.out = "on",
                              .force = true,
                              .set = {set, "optim.learning_rate=0", "train.max_steps=1"}}));
        assert_same_file("on", methods[i].name, methods[i].result);
        assert_same_file("on", methods[i].name, "adapter_model.safetensors");
        if (i == LORA_DROP) assert_same_file("on", methods[i].name, "lora_drop.json");
    }
}

static void what_lies_beside_is_needed(void **state)
{
    static const char *const files[][2] = {{"lora_drop", "lora_drop.json"},
                                           {"lotr", "lotr.safetensors"}};
    char command[1200], set[300];
    (void)state;
    run_of(LORA_DROP);
    run_of(LOTR);
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        write_config("lora.json", methods[LORA_DROP + (int)i].json);
        snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s' && rm '%s/%s'",
                 test_path("bare"), test_path(files[i][0]), test_path("bare"), test_path("bare"),
                 files[i][1]);
        if (system(command) != 0) exit(2);
        snprintf(set, sizeof set, "method.init_from=%s", test_path("bare"));
        assert_fails(train((job){.out = "none", .set = {set}}), FT_EDATA, files[i][1]);
        assert_false(dir_exists(test_path("none")));
    }
    const char wrong[] = "{\"shared\": {\"q_proj\": [\"model.layers.0.self_attn.q_proj\", "
                         "\"model.layers.1.mlp.down_proj\"]}}";
    write_config("lora.json", methods[LORA_DROP].json);
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", test_path("bare"),
             test_path("lora_drop"), test_path("bare"));
    if (system(command) != 0) exit(2);
    test_write_file(test_path("bare/lora_drop.json"), wrong, strlen(wrong));
    assert_fails(train((job){.out = "none", .set = {set}}), FT_EDATA,
                 "\"model.layers.1.mlp.down_proj\" is no target");
}

/* The method's object, and what the error says. */
static const struct {
    const char *json, *says;
} wrong[] = {
    {"{\"type\":\"adalora\",\"init_r\":4,\"target_r\":5}", "method.target_r: 5 is more"},
    {"{\"type\":\"adalora\",\"tinit\":6,\"tfinal\":4}", "method.tinit: "},
    {"{\"type\":\"adalora\",\"tinit\":60,\"tfinal\":40,\"total_step\":100}", "method.tinit: "},
    {"{\"type\":\"adalora\",\"beta1\":1}", "method.beta1: 1 must be between 0"},
    {"{\"type\":\"adalora\",\"beta2\":0}", "method.beta2: "},
    {"{\"type\":\"adalora\",\"orth_reg_weight\":-1}", "method.orth_reg_weight: "},
    {"{\"type\":\"adalora\",\"deltaT\":0}", "method.deltaT: "},
    {"{\"type\":\"adalora\",\"use_dora\":true}", "method.use_dora: unknown key"},
    {"{\"type\":\"adalora\",\"target_modules\":\".*q_proj\",\"layers_to_transform\":[1]}",
     "method.layers_to_transform: "},
    {"{\"type\":\"adalora\",\"target_modules\":[\"embed_tokens\"]}", "\"model.embed_tokens\""},
    {"{\"type\":\"lotr\",\"lotr_share\":\"both\"}", "method.lotr_share: "},
    {"{\"type\":\"lotr\",\"target_modules\":[\"embed_tokens\"]}", "\"model.embed_tokens\""},
    {"{\"type\":\"lotr\",\"lora_dropout\":0.1}", "method.lora_dropout: unknown key"},
    {"{\"type\":\"delta_lora\",\"lora_dropout\":0.1}", "method.lora_dropout: must be 0"},
    {"{\"type\":\"delta_lora\",\"delta_start\":-1}", "method.delta_start: "},
    {"{\"type\":\"lora_drop\",\"threshold\":1.5}", "method.threshold: "},
    {"{\"type\":\"lora_drop\",\"sample_ratio\":0}", "method.sample_ratio: "},
    {"{\"type\":\"lora_drop\",\"sample_steps\":0}", "method.sample_steps: "},
};

static void what_cannot_be_is_told_by_its_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(wrong); i++) {
        write_config("wrong.json", wrong[i].json);
        assert_fails(train((job){.config = "wrong.json", .out = "none"}), FT_ECONFIG,
                     wrong[i].says);
        assert_false(dir_exists(test_path("none")));
    }
    write_config("wrong.json", methods[DELTA_LORA].json);
    assert_fails(train((job){.config = "wrong.json",
                             .out = "none",
                             .set = {"model.quantization={\"type\":\"nf4\"}"}}),
                 FT_ECONFIG, "delta_lora");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_micro_batches_change_no_bit),
        cmocka_unit_test(resuming_changes_no_bit),
        cmocka_unit_test(a_cut_adapter_keeps_its_rank),
        cmocka_unit_test(each_goes_on_from_its_own),
        cmocka_unit_test(what_lies_beside_is_needed),
        cmocka_unit_test(what_cannot_be_is_told_by_its_key),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, setup, NULL);
    pool_close();
    return failed;
}
