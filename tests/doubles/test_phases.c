/* test_phases.c – a method's phases come at their times, and neither threads, micro-batches, an interruption nor the dry plan
 * leave a mark in what they do. */
#include "doubles.h"
#include "train_fixture.h"

#include "ft/kernel.h"

static int setup(void **state)
{
    (void)state;
    write_train_files();
    write_config("lora.json",
                 "{\"type\":\"phased\",\"target_modules\":[\"q_proj\",\"down_proj\"]}");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    str_free(&phased_calls);
    return 0;
}

static void assert_calls(const char *want)
{
    const char *got = phased_calls.data ? phased_calls.data : "";
    if (strcmp(got, want) != 0) fail_msg("phases: %s\nwanted: %s", got, want);
    str_clear(&phased_calls);
}

static const char *reference(void)
{
    const char *dir = reference_run();
    str_clear(&phased_calls);
    return dir;
}

/* Evaluations (before step 1, at the end), checkpoints and the result see what before_step makes of the values at hand. */
static void phases_come_at_their_times(void **state)
{
    (void)state;
    str_clear(&phased_calls);
    assert_ok(train((job){.out = "calls", .set = {"train.max_steps=2", "train.eval_every=0"}}));
    assert_calls("p1 b1 b1 g t a1 b2 g t a2 b3 b3 b3 ");
    reference();
    copy_run("ref", "calls", 8); /* step 9 evaluates */
    assert_ok(train((job){.out = "calls", .resume = true}));
    assert_calls("b9 g t a9 b10 b10 g t a10 b11 b11 b11 ");
}

static void every_phase_leaves_its_mark(void **state)
{
    (void)state;
    reference();
    char *log = test_read_file(test_path("ref/log.jsonl"), NULL);
    assert_non_null(strstr(log, "\"penalty\":0,\"mean_distance\":"));
    char *second = strstr(strstr(log, "{\"step\":2,"), "\"penalty\":");
    assert_true(strtod(second + strlen("\"penalty\":"), NULL) > 0);
    assert_ok(train((job){.out = "mark", .set = {"method.phased_penalty=0"}}));
    size_t n, m;
    char *a = test_read_file(test_path("ref/adapter_model.safetensors"), &n);
    char *b = test_read_file(test_path("mark/adapter_model.safetensors"), &m);
    assert_true(n == m && memcmp(a, b, n) != 0);
    /* the loss that is logged is that of the objective: the penalty only shows in later steps */
    char *other = test_read_file(test_path("mark/log.jsonl"), NULL);
    size_t same = strstr(log, "\"learning_rate\"") - log;
    assert_memory_equal(log, other, same);
}

static void states_stand_in_checkpoints_alone(void **state)
{
    arena *mem;
    st_file f;
    int energies = 0, means = 0;
    bool made = false;
    (void)state;
    assert_ok(arena_open(&mem, "states", (size_t)1 << 24));
    assert_ok(
        st_open(&f, test_path(in(reference(), "checkpoints/step-5/params.safetensors")), mem));
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        bool energy = str_ends(t->name, ".energy");
        energies += energy;
        means += str_ends(t->name, ".mean");
        for (size_t k = 0; energy && k < t->bytes / sizeof(float); k++)
            made |= ((const float *)t->data)[k] > 0;
    }
    assert_int_equal(energies, 4);
    assert_int_equal(means, 4);
    assert_int_equal(f.n, 16);
    assert_true(made);
    st_close(&f);
    assert_ok(st_open(&f, test_path("ref/adapter_model.safetensors"), mem));
    assert_int_equal(f.n, 8);
    st_close(&f);
    arena_close(mem);
}

static void threads_and_micro_batches_change_no_bit(void **state)
{
    (void)state;
    assert_any_split_gives(reference());
}

static void resuming_anywhere_changes_no_bit(void **state)
{
    (void)state;
    reference();
    for (int k = 1; k <= 10; k++) {
        copy_run("ref", "resumed", k);
        assert_ok(
            train((job){.out = "resumed", .resume = true, .set = {"train.micro_batch_size=2"}}));
        assert_same_run("resumed", "ref");
    }
    str_clear(&phased_calls);
    copy_run("ref", "resumed", 0); /* killed before the first checkpoint: prepared anew */
    assert_ok(train((job){.out = "resumed", .resume = true}));
    assert_non_null(strstr(phased_calls.data, "p1 "));
    assert_same_run("resumed", "ref");
}

static void the_best_values_have_their_states(void **state)
{
    (void)state;
    reference();
    copy_run("ref", "best", 6);
    assert_ok(train((job){.out = "best", .resume = true, .set = {"train.keep_best=true"}}));
    assert_same_file("best", "ref", "log.jsonl");
}

static void the_plan_counts_states_and_calls_no_phase(void **state)
{
    str_buf r = {0};
    js_doc d;
    (void)state;
    reference();
    train_options o = {
        .config = test_path("lora.json"), .out = test_path("unwritten"), .json = true};
    assert_ok(train_check(&o, &r));
    assert_calls("");
    assert_ok(js_parse(&d, r.data, r.len, "report", 1, JS_STRICT, FT_EDATA));
    const cJSON *memory = js_get(d.root, "memory");
    double trained = js_get(memory, "trainable_bytes")->valuedouble,
           gradients = js_get(memory, "gradients_bytes")->valuedouble;
    /* energy [in] and mean [2, in] of q_proj (32) and down_proj (48), two layers */
    assert_true(trained - gradients == 4.0 * 3 * (32 + 48) * 2);
    double planned = js_get(js_get(d.root, "disk"), "checkpoint_bytes")->valuedouble;
    assert_true(planned >=
                (double)(file_size(test_path("ref/checkpoints/step-5/params.safetensors")) +
                         file_size(test_path("ref/checkpoints/step-5/optimizer.safetensors"))));
    js_close(&d);
    str_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_come_at_their_times),
        cmocka_unit_test(every_phase_leaves_its_mark),
        cmocka_unit_test(states_stand_in_checkpoints_alone),
        cmocka_unit_test(threads_and_micro_batches_change_no_bit),
        cmocka_unit_test(resuming_anywhere_changes_no_bit),
        cmocka_unit_test(the_best_values_have_their_states),
        cmocka_unit_test(the_plan_counts_states_and_calls_no_phase),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    pool_close();
    return failed;
}
