/* test_objective.c – the contract of every objective: whole runs give the same bytes however a step is cut and wherever the
 * run was interrupted, the plan of a dry tape holds, the evaluation uses the same loss; and what the double over pairs says
 * against its definition. */
#include "doubles.h"
#include "train_fixture.h"

#include "train/train_private.h"

#include <math.h>

/* n records of `low` to `high` tokens that count up by 3, everything supervised. */
static void write_records(const char *name, int n, int low, int high, uint64_t seed)
{
    str_buf s = {0};
    for (int i = 0; i < n; i++) {
        int len = low + (int)(test_u64(seed, (uint64_t)(2 * i)) % (uint64_t)(high - low + 1));
        int first = (int)(test_u64(seed, (uint64_t)(2 * i + 1)) % 40);
        for (int part = 0; part < 2; part++) {
            str_adds(&s, part ? "],\"labels\":[" : "{\"input_ids\":[");
            for (int k = 0; k < len; k++)
                str_printf(&s, "%s%d", k ? "," : "", (first + 3 * k) % 64);
        }
        str_adds(&s, "]}\n");
    }
    test_write_file(test_path(name), s.data, s.len);
    str_free(&s);
}

/* 37 samples, batches of 8 with a short last one, two epochs, or one in which every batch serves two steps: 10 steps. */
static void write_run(const char *name, const obj_objective *row, const char *train, bool eval)
{
    str_buf s = {0};
    str_printf(&s,
               "{\"model\":{\"from_config\":\"model.json\",\"tokenizer\":\"%s\"},"
               "\"method\":{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1},"
               "\"data\":{\"train\":{\"path\":\"%s\",\"format\":\"tokens\"}%s},"
               "\"objective\":{\"type\":\"%s\"},\"optim\":{\"learning_rate\":0.01},"
               "\"train\":{\"epochs\":%d,\"batch_size\":8,\"checkpoint_every\":1,"
               "\"keep_checkpoints\":99,\"eval_every\":3}}",
               source_path("data/tiny"), train,
               eval ? ",\"eval\":{\"path\":\"eval.jsonl\",\"format\":\"tokens\"}" : "", row->name,
               row->reuse ? 1 : 2);
    test_write_file(test_path(name), s.data, s.len);
    str_free(&s);
}

static int setup(void **state)
{
    (void)state;
    test_write_file(test_path("model.json"), train_model_json, strlen(train_model_json));
    write_records("train.jsonl", 37, 6, 20, 1);
    write_records("even.jsonl", 16, 20, 20, 4);
    write_records("eval.jsonl", 9, 6, 20, 2);
    return 0;
}

/* --- every row ---------------------------------------------------------------------------------------------------- */
static void steps_may_be_cut(const char *run)
{
    static const char *const sets[] = {"train.micro_batch_size=1", "train.micro_batch_size=3",
                                       "train.gradient_checkpointing=true"};
    for (size_t i = 0; i < FT_COUNT_OF(sets); i++) {
        assert_ok(
            train((job){.config = "run.json", .out = "cut", .force = true, .set = {sets[i]}}));
        assert_same_run(run, "cut");
    }
}

/* From the checkpoint of step 5, which holds the objective's state beside values and optimizer. */
static void a_run_goes_on(const char *run)
{
    copy_run(run, "part", 5);
    assert_ok(train((job){.config = "run.json", .out = "part", .resume = true}));
    assert_same_run(run, "part");
}

/* What a dry tape says of a step against the high-water mark of the real one, on records of one length. Buffers that an op
 * takes for the time of its own work are counted as workspace, not as activations. */
static void the_plan_holds(const obj_objective *row)
{
    train_session s;
    train_seconds spent = {0};
    const char *set[] = {"train.micro_batch_size=4", "method.lora_dropout=0"};
    train_options o = {
        .config = test_path("even.json"), .sets = set, .n_sets = 2, .out = test_path("plan")};
    write_run("even.json", row, "even.jsonl", false);
    assert_ok(train_session_config(&s, &o));
    assert_ok(train_session_open(&s, true));
    assert_ok(train_plan_make(&s));
    assert_ok(train_session_attach(&s));
    assert_ok(train_step(&s, &spent));
    double planned = (double)s.plan.activations, real = (double)ag_peak_bytes(s.tape);
    if (real > 1.1 * planned || real < 0.9 * planned)
        fail_msg("%s: %.0f bytes were planned, %.0f were taken", row->name, planned, real);
    assert_true(s.objective.bytes == 0 || s.plan.weights > s.objective.bytes);
    train_session_close(&s);
}

static void every_objective_keeps_the_contract(void **state)
{
    (void)state;
    for (int i = 0; obj_at(i); i++) {
        const obj_objective *row = obj_at(i);
        write_run("run.json", row, "train.jsonl", true);
        const job whole = {.config = "run.json", .out = row->name};
        if (!(row->wants & DATA_TOKENS)) { /* no shipped format gives what it asks for */
            assert_fails(train(whole), FT_ECONFIG, "wants pairs of a chosen");
            continue;
        }
        assert_ok(train(whole));
        steps_may_be_cut(row->name);
        a_run_goes_on(row->name);
        the_plan_holds(row);
    }
}

/* --- pairs ---------------------------------------------------------------------------------------------------------- */

static double field(const char *log, int step, const char *key)
{
    char start[32], name[64];
    snprintf(start, sizeof start, "{\"step\":%d,", step);
    snprintf(name, sizeof name, "\"%s\":", key);
    const char *line = strstr(log, start), *at = line ? strstr(line, name) : NULL;
    const char *end = line ? strchr(line, '\n') : NULL;
    if (!at || at > end) fail_msg("step %d has no %s", step, key);
    return strtod(at + strlen(name), NULL);
}

/* Before the first update the policy is the reference: margins are 0 and, as m is 0, the loss is log 2. Then the margins
 * of what is trained on grow. */
static void pairs_are_told_apart(void **state)
{
    (void)state;
    write_run("run.json", obj_by_name("halves"), "train.jsonl", true);
    assert_ok(train((job){.config = "run.json", .out = "pairs"}));
    const char *log = test_read_file(test_path("pairs/log.jsonl"), NULL);
    assert_true(fabs(field(log, 1, "loss") - 0.69314718) < 1e-6);
    assert_true(field(log, 1, "rewards/margins") == 0);
    assert_true(field(log, 10, "rewards/margins") > 0.01);
    for (int step = 1; step < 10; step += 2) /* a drawn batch serves two steps */
        assert_true(field(log, step, "tokens") == field(log, step + 1, "tokens"));
    assert_true(field(log, 2, "tokens") != field(log, 3, "tokens"));
    assert_true(field(log, 10, "epoch") == 1);
    assert_true(field(log, 10, "rewards/accuracies") > 0.5);
    for (int step = 3; step <= 9; step += 3) {
        assert_true(fabs(field(log, step, "eval_rewards/margins")) > 1e-4);
        assert_true(field(log, step, "eval_loss") > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_objective_keeps_the_contract),
        cmocka_unit_test(pairs_are_told_apart),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, setup, NULL);
    pool_close();
    return failed;
}
