/* test_prompt.c – virtual rows from a config to generating: they are trained whatever the micro-batches, the first token of a
 * text counts, positions are theirs too, and what was trained scores and generates alike. */
#include "train_fixture.h"

#include "ft/infer.h"
#include "ft/method.h"

static const char prompt[] = "{\"type\": \"prompt\", \"num_virtual_tokens\": 3}";

static void micro_batches_do_not_show(void **state)
{
    (void)state;
    write_train_files();
    write_config("prompt.json", prompt);
    assert_ok(train((job){.config = "prompt.json", .out = "whole"}));
    assert_ok(
        train((job){.config = "prompt.json", .out = "one", .set = {"train.micro_batch_size=1"}}));
    assert_ok(
        train((job){.config = "prompt.json",
                    .out = "again",
                    .set = {"train.micro_batch_size=3", "train.gradient_checkpointing=true"}}));
    assert_same_file("whole", "one", "adapter_model.safetensors");
    assert_same_file("whole", "again", "adapter_model.safetensors");
    copy_run("whole", "cut", 5);
    assert_ok(train((job){.config = "prompt.json", .out = "cut", .resume = true}));
    assert_same_run("whole", "cut");
}

/* Sequences all of whose tokens are supervised: a virtual row predicts the first one too. */
static void the_first_token_counts(void **state)
{
    (void)state;
    static const char line[] = "{\"input_ids\":[5,8,11,14,17]}\n{\"input_ids\":[1,2,3]}\n";
    test_write_file(test_path("train.jsonl"), line, strlen(line));
    write_config("lora.json", "{\"type\": \"lora\"}");
    static const char *const once = "train.max_steps=1";
    assert_ok(train((job){.config = "lora.json", .out = "without", .set = {once}}));
    assert_ok(train((job){.config = "prompt.json", .out = "with", .set = {once}}));
    assert_true(number_in("without", "summary.json", "supervised_tokens", NULL, NULL) == 6);
    assert_true(number_in("with", "summary.json", "supervised_tokens", NULL, NULL) == 8);
    write_train_files();
}

static void positions_are_theirs_too(void **state)
{
    (void)state;
    static const char gpt2[] =
        "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"vocab_size\":64,"
        "\"n_embd\":32,\"n_layer\":2,\"n_head\":4,\"n_positions\":21,"
        "\"layer_norm_epsilon\":1e-5,\"activation_function\":\"gelu_new\"}";
    test_write_file(test_path("model.json"), gpt2, strlen(gpt2));
    assert_fails(train((job){.config = "prompt.json", .out = "long"}), FT_ECONFIG, "virtual");
    assert_ok(train((job){.config = "prompt.json",
                          .out = "short",
                          .set = {"data.max_length=18", "train.max_steps=2"}}));
    write_train_files();
}

/* Greedy answers, token by token out of a cache, are what one pass over prompt and answer calls the best. */
static void answers_are_what_scores_say(void **state)
{
    (void)state;
    enum { NEW = 6, N = 2 };
    model *m = NULL;
    pe_ctx *c = NULL;
    ag_tape *t = NULL;
    int32_t ids[N][4] = {{3, 6, 9, 12}, {40, 2}};
    const tok_ids prompts[N] = {{.id = ids[0], .n = 4}, {.id = ids[1], .n = 2}};
    inf_answer out[N];
    inf_sampling s = INF_SAMPLING_DEFAULT;
    assert_ok(model_open(&m, &(model_options){.from_config = test_path("model.json"), .seed = 42}));
    assert_ok(pe_open_adapter(&c, m, test_path("whole")));
    assert_int_equal(c->over.virtual_tokens, 3);
    assert_ok(ag_open(&t, (size_t)1 << 30));
    s.max_new = NEW;
    s.logprobs = true;
    const inf_ctx with = {.m = m, .over = &c->over, .tape = t}, base = {.m = m, .tape = t};
    assert_ok(inf_generate(&with, prompts, N, 1, &s, NULL, NULL, out));
    for (int i = 0; i < N; i++) {
        int32_t whole[10], best[NEW];
        float logprob[NEW], bare[NEW];
        int64_t n = prompts[i].n;
        memcpy(whole, ids[i], (size_t)n * sizeof *whole);
        memcpy(whole + n, out[i].ids.id, NEW * sizeof *whole);
        inf_seq seq = {.id = whole, .n = n + NEW, .from = n, .logprob = logprob, .best = best};
        assert_ok(inf_score(&with, &seq, 1));
        assert_memory_equal(best, out[i].ids.id, sizeof best);
        for (int k = 0; k < NEW; k++) assert_true(fabsf(logprob[k] - out[i].logprob[k]) < 1e-4f);
        seq.logprob = bare;
        assert_ok(inf_score(&base, &seq, 1));
        assert_true(max_abs_diff(bare, logprob, NEW) > 1e-3);
    }
    inf_answers_free(out, N);
    ag_close(t);
    pe_close(c);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(micro_batches_do_not_show), cmocka_unit_test(the_first_token_counts),
        cmocka_unit_test(positions_are_theirs_too), cmocka_unit_test(answers_are_what_scores_say)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
