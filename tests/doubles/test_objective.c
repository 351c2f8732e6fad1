/* test_objective.c – the contract of every objective: whole runs give the same bytes however a step is cut and wherever the
 * run was interrupted, the plan of a dry tape holds, the evaluation uses the same loss; and what the double over pairs says
 * against its definition. */
#include "doubles.h"
#include "support.h"

#include "ft/train.h"
#include "train/train_private.h"

#include <math.h>

static const char model_json[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":64,"
    "\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}";

/* n records of `low` to `high` tokens that count up by 3, everything supervised. */
static void write_tokens(const char *name, int n, int low, int high, uint64_t seed)
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
static void write_config(const char *name, const obj_objective *row, const char *train, bool eval)
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
    test_write_file(test_path("model.json"), model_json, strlen(model_json));
    write_tokens("train.jsonl", 37, 6, 20, 1);
    write_tokens("even.jsonl", 16, 20, 20, 4);
    write_tokens("eval.jsonl", 9, 6, 20, 2);
    return 0;
}

static const char *in(const char *dir, const char *name)
{
    static char ring[8][256];
    static int next;
    char *out = ring[next++ % 8];
    snprintf(out, sizeof ring[0], "%s/%s", dir, name);
    return out;
}

static ft_status train(const char *out, bool resume, const char *set)
{
    str_buf result = {0};
    train_options o = {.config = test_path("run.json"),
                       .sets = &set,
                       .n_sets = set != NULL,
                       .out = test_path(out),
                       .resume = resume};
    ft_status rc = train_run(&o, &result);
    str_free(&result);
    return rc;
}

static void assert_same_run(const char *a, const char *b, const char *what)
{
    static const char *const files[] = {"adapter_model.safetensors", "log.jsonl"};
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        size_t n, m;
        char *x = test_read_file(test_path(in(a, files[i])), &n),
             *y = test_read_file(test_path(in(b, files[i])), &m);
        if (n != m || memcmp(x, y, n) != 0) fail_msg("%s: %s differs", what, files[i]);
    }
}

static void shell(const char *command)
{
    char text[2048];
    snprintf(text, sizeof text, "cd '%s' && %s", test_path("."), command);
    assert_int_equal(system(text), 0);
}

/* --- every row ---------------------------------------------------------------------------------------------------- */

static void steps_may_be_cut(const char *name)
{
    static const char *const sets[] = {"train.micro_batch_size=1", "train.micro_batch_size=3",
                                       "train.gradient_checkpointing=true"};
    for (size_t i = 0; i < FT_COUNT_OF(sets); i++) {
        shell("rm -rf cut");
        assert_ok(train("cut", false, sets[i]));
        assert_same_run("whole", "cut", name);
    }
}

/* From the checkpoint of step 5, which holds the objective's state beside values and optimizer. */
static void a_run_goes_on(const char *name)
{
    shell("rm -rf part && cp -r whole part && cd part && rm -rf summary.json adapter_* "
          "config.resolved.json checkpoints/step-[6-9] checkpoints/step-10");
    assert_ok(train("part", true, NULL));
    assert_same_run("whole", "part", name);
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
    write_config("even.json", row, "even.jsonl", false);
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
        write_config("run.json", row, "train.jsonl", true);
        shell("rm -rf whole");
        if (!(row->wants & DATA_TOKENS)) { /* no shipped format gives what it asks for */
            assert_fails(train("whole", false, NULL), FT_ECONFIG, "wants pairs of a chosen");
            continue;
        }
        assert_ok(train("whole", false, NULL));
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
    write_config("run.json", obj_by_name("halves"), "train.jsonl", true);
    shell("rm -rf whole");
    assert_ok(train("whole", false, NULL));
    const char *log = test_read_file(test_path("whole/log.jsonl"), NULL);
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
