/* test_bench.c – `ft bench`: every second of a step is somewhere, once; a clock on the tape changes no result. */
#include "train_fixture.h"

#include <string.h>

static int setup(void **state)
{
    (void)state;
    write_train_files();
    write_config("lora.json", "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1}");
    write_config("full.json", "{\"type\":\"full\"}");
    return 0;
}

static void spin(double seconds)
{
    double until = ft_seconds() + seconds;
    while (ft_seconds() < until) {
    }
}

/* Ops inside ops: 10 ms each, with room for a machine that is busy. */
static void seconds_of_nested_ops(void **state)
{
    static const ag_op block = {.name = "block"}, linear = {.name = "linear", .part = AG_PRODUCTS},
                       loss = {.name = "loss", .part = AG_LOSS};
    (void)state;
    ag_clock c = {0};
    double t0 = ft_seconds();
    ag_lap outer = ag_clock_enter(&c, &loss, false); /* its head is its own, in both directions */
    ag_lap inner = ag_clock_enter(&c, &linear, false);
    spin(0.01);
    ag_clock_leave(&c, inner);
    inner = ag_clock_enter(&c, &linear, true);
    spin(0.01);
    ag_clock_leave(&c, inner);
    ag_clock_leave(&c, outer);
    spin(0.01); /* of no op */
    outer = ag_clock_enter(&c, &block,
                           true); /* a checkpoint: what runs again is backward, and its op's own */
    inner = ag_clock_enter(&c, &linear, false);
    spin(0.01);
    ag_clock_leave(&c, inner);
    ag_clock_leave(&c, outer);
    double all = ft_seconds() - t0;
    assert_int_equal(c.n, 3);
    assert_ptr_equal(c.row[0].op, &loss);
    assert_ptr_equal(c.row[2].op, &linear);
    assert_true(c.row[0].forward >= 0.01 && c.row[0].backward >= 0.01);
    assert_true(c.early == c.row[0].backward);
    assert_true(c.row[1].forward == 0 && c.row[2].forward == 0 && c.row[2].backward >= 0.01);
    double sum = 0;
    for (int i = 0; i < c.n; i++) sum += c.row[i].forward + c.row[i].backward;
    assert_true(sum >= 0.03 && sum <= all - 0.01);
}

static double seconds_of(const train_bench_result *r, const char *op, bool back)
{
    for (int i = 0; i < r->clock.n; i++) {
        if (strcmp(r->clock.row[i].op->name, op) == 0)
            return back ? r->clock.row[i].backward : r->clock.row[i].forward;
    }
    return 0;
}

/* What the parts leave of the step's time is a few per cent: the least of some tries, since a busy machine may take the
 * process off its processor anywhere. */
static void check_bench(const char *config, const char *set)
{
    double least = 1;
    for (int i = 0; i < 5 && least > 0.05; i++) {
        train_bench_result r;
        train_options o = {.config = config, .sets = &set, .n_sets = set != NULL};
        assert_ok(train_bench(&o, 3, &r));
        double forward = 0, backward = 0;
        for (int k = 0; k < r.clock.n; k++) {
            assert_true(r.clock.row[k].forward >= 0 && r.clock.row[k].backward >= 0);
            forward += r.clock.row[k].forward;
            backward += r.clock.row[k].backward;
        }
        assert_true(forward <= r.forward && backward <= r.backward);
        assert_true(r.data + r.forward + r.backward + r.optimizer <= r.seconds);
        double left = 1 - (forward + backward + r.data + r.optimizer) / r.seconds;
        assert_true(left >= 0);
        if (left < least) least = left;
        assert_true(seconds_of(&r, "linear", false) > 0 && seconds_of(&r, "linear", true) > 0);
        assert_true(seconds_of(&r, "attention", false) > 0);
        assert_true(seconds_of(&r, "cross_entropy", false) > 0);
        assert_true(seconds_of(&r, "cross_entropy", true) > 0);
        assert_true(r.optimizer > 0 && r.tokens_per_s > 0 && r.gflops > 0 && r.shapes > 0);
    }
    if (least > 0.05) fail_msg("%s: %.1f %% of a step are in no part", config, 100 * least);
}

static void the_parts_are_the_step(void **state)
{
    (void)state;
    check_bench(FT_SOURCE_DIR "/configs/lora.json", NULL);
    check_bench(FT_SOURCE_DIR "/configs/lora.json", "train.gradient_checkpointing=true");
    check_bench(FT_SOURCE_DIR "/configs/full.json", NULL);
}

static void shapes_are_those_of_the_model(void **state)
{
    train_bench_result r;
    (void)state;
    train_options o = {.config = test_path("full.json")};
    assert_ok(train_bench(&o, 1, &r));
    assert_true(r.trains_weights);
    assert_int_equal(r.shape[r.shapes - 1].out, 64); /* the head: the vocabulary */
    for (int i = 0; i < r.shapes; i++) {
        assert_true(r.shape[i].rows > 0 && r.shape[i].out > 0 && r.shape[i].in > 0);
        for (int k = 0; k < i; k++)
            assert_true(r.shape[i].out != r.shape[k].out || r.shape[i].in != r.shape[k].in ||
                        r.shape[i].rows != r.shape[k].rows);
    }
    o.config = test_path("lora.json");
    assert_ok(train_bench(&o, 1, &r));
    assert_false(r.trains_weights);
    assert_false(file_exists(test_path("lora")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_of_nested_ops),
        cmocka_unit_test(the_parts_are_the_step),
        cmocka_unit_test(shapes_are_those_of_the_model),
    };
    return cmocka_run_group_tests_name("bench", tests, setup, NULL);
}
