/* test_virtual.c – prefix_tuning and p_tuning from a config to generating: the same bits however a step is cut, resumed or
 * watched; encoders are gone on from, and needed; keys and tensors that do not fit are told; what was trained scores and
 * generates alike. */
#include "golden.h"
#include "train_fixture.h"
#include "verbs.h"

#include "ft/infer.h"
#include "ft/method.h"
#include "ft/tool.h"

static const struct {
    const char *name, *json;
    bool encoder;
    const char *lacks; /* what is told of another one's encoder */
} methods[] = {
    {"prefix", "{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 3}", false, NULL},
    {"projected",
     "{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 3, \"prefix_projection\": true, "
     "\"encoder_hidden_size\": 9}",
     true, "missing \"transform.0.weight\""},
    {"mlp", "{\"type\": \"p_tuning\", \"num_virtual_tokens\": 3}", true,
     "missing \"mlp_head.0.weight\""},
    {"lstm",
     "{\"type\": \"p_tuning\", \"num_virtual_tokens\": 3, \"encoder_hidden_size\": 5, "
     "\"encoder_reparameterization_type\": \"LSTM\", \"encoder_dropout\": 0.2}",
     true, "missing \"lstm_head.weight_ih_l0\""},
};
enum { PREFIX, PROJECTED, MLP, LSTM, METHODS };

/* "NAME WHAT", in a ring of buffers. */
static const char *named(int k, const char *what)
{
    static char ring[8][60];
    static int at;
    char *s = ring[at++ % 8];
    snprintf(s, sizeof ring[0], "%s %s", methods[k].name, what);
    return s;
}

static void assert_same_result(int k, const char *a, const char *b)
{
    assert_same_file(a, b, "adapter_model.safetensors");
    if (methods[k].encoder) assert_same_file(a, b, "prompt_encoder.safetensors");
}

/* --- runs --------------------------------------------------------------------------------------------------------- */
static void micro_batches_do_not_show(void **state)
{
    (void)state;
    write_train_files();
    for (int k = 0; k < METHODS; k++) {
        const char *whole = methods[k].name;
        write_config("lora.json", methods[k].json);
        assert_ok(train((job){.out = whole}));
        const job ways[] = {
            {.out = named(k, "one"), .set = {"train.micro_batch_size=1"}},
            {.out = named(k, "packed"), .set = {"data.packing=true"}},
            {.out = named(k, "looked"), .set = {"train.eval_every=1"}},
        };
        for (size_t i = 0; i < FT_COUNT_OF(ways); i++) {
            assert_ok(train(ways[i]));
            assert_same_result(k, whole, ways[i].out);
        }
        const char *cut = named(k, "cut");
        copy_run(whole, cut, 5);
        assert_ok(train((job){.out = cut, .resume = true}));
        assert_same_run(whole, cut);
        assert_same_result(k, whole, cut);
        assert_int_equal(file_exists(test_path(in(whole, "prompt_encoder.safetensors"))),
                         methods[k].encoder);
        if (k != PREFIX && k != LSTM) continue;
        assert_any_split_gives(whole);
        assert_same_result(k, whole, "bits");
    }
}

/* In bf16 too, and on blocks of the base that were made. */
static void other_numbers(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        write_config("lora.json", methods[k].json);
        const char *bf16 = named(k, "bf16"), *one = named(k, "bf16 one"), *nf4 = named(k, "nf4");
        assert_ok(train((job){.out = bf16, .set = {"train.precision=bf16"}}));
        assert_ok(
            train((job){.out = one, .set = {"train.precision=bf16", "train.micro_batch_size=1"}}));
        assert_same_result(k, bf16, one);
        assert_ok(train((job){
            .out = nf4, .set = {"model.quantization={\"type\": \"nf4\"}", "train.max_steps=2"}}));
        assert_true(number_in(nf4, "summary.json", "steps", NULL, NULL) == 2);
    }
}

/* What a run left is gone on from, by a config that repeats it or not; the encoder with it. */
static void goes_on_from_its_own(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        char from[200];
        const char *on = named(k, "on"), *again = named(k, "on again"), *same = named(k, "same");
        snprintf(from, sizeof from, "method.init_from=%s", test_path(methods[k].name));
        write_config("lora.json", methods[k].json);
        assert_ok(train((job){.out = on, .set = {from, "train.max_steps=1"}}));
        snprintf(from, sizeof from, "%s/config.resolved.json", on);
        assert_ok(train((job){.config = from, .out = again}));
        assert_same_result(k, on, again);
        /* from where it stood: nothing moves at a rate of 0 */
        snprintf(from, sizeof from, "method.init_from=%s", test_path(methods[k].name));
        assert_ok(train(
            (job){.out = same, .set = {from, "train.max_steps=1", "optim.learning_rate=1e-30"}}));
        assert_same_result(k, methods[k].name, same);
    }
}

static void an_encoder_is_needed(void **state)
{
    (void)state;
    char from[200];
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors"};
    for (int k = 0; k < METHODS; k++) {
        const char *bare = named(k, "bare"), *none = named(k, "none");
        assert_ok(dir_make(test_path(bare)));
        for (size_t i = 0; i < FT_COUNT_OF(files); i++)
            assert_ok(
                file_copy(test_path(in(methods[k].name, files[i])), test_path(in(bare, files[i]))));
        snprintf(from, sizeof from, "method.init_from=%s", test_path(bare));
        write_config("lora.json", methods[k].json);
        const job j = {.out = none, .set = {from, "train.max_steps=1"}};
        if (!methods[k].encoder) {
            assert_ok(train(j));
            continue;
        }
        assert_fails(train(j), FT_EDATA, "prompt_encoder.safetensors is missing");
        const char *other = k == PROJECTED ? "mlp" : "projected";
        assert_ok(file_copy(test_path(in(other, "prompt_encoder.safetensors")),
                            test_path(in(bare, "prompt_encoder.safetensors"))));
        assert_fails(train(j), FT_EDATA, "prompt_encoder.safetensors: does not fit");
        assert_non_null(strstr(ft_error(), methods[k].lacks));
        assert_false(dir_exists(test_path(none)));
    }
}

/* Evaluations see what the result holds: no dropout. */
static void evaluations_drop_nothing(void **state)
{
    (void)state;
    char set[200];
    snprintf(set, sizeof set, "method.init_from=%s", test_path("lstm"));
    write_config("lora.json", methods[LSTM].json);
    double loss[2], trained[2];
    for (int i = 0; i < 2; i++) {
        const char *out = i ? "dropped" : "kept";
        assert_ok(
            train((job){.out = out,
                        .set = {set, "train.max_steps=1", "optim.learning_rate=1e-30",
                                i ? "method.encoder_dropout=0.6" : "method.encoder_dropout=0"}}));
        loss[i] = number_in(out, "summary.json", "best", "eval_loss", NULL);
        trained[i] = number_in(out, "summary.json", "last_loss", NULL, NULL);
    }
    assert_true(loss[0] == loss[1]);
    assert_true(trained[0] != trained[1]);
    assert_same_result(LSTM, "kept", "dropped");
}

static void cannot_be_merged(void **state)
{
    static const char *const adapters[] = {"peft/llama_prefix/adapter", "peft/llama_p_mlp/adapter"};
    static const char *const bases[] = {"llama_head_dim", "llama_bias_tied"};
    (void)state;
    const char *out = test_path("merged");
    for (int i = 0; i < 2; i++) {
        const tool_merge_options o = {
            .adapter = golden_path(adapters[i]), .base = golden_model(bases[i]), .out = out};
        assert_fails(tool_merge_adapter(&o, &(tool_sink){test_drop, NULL}), FT_EDATA, "--adapter");
        assert_false(dir_exists(out));
    }
}

/* --- what is wrong -------------------------------------------------------------------------------------------------- */
static const struct {
    const char *json, *says;
} wrong_configs[] = {
    {"{\"type\": \"prefix_tuning\"}", "method.num_virtual_tokens: this key is required"},
    {"{\"type\": \"p_tuning\"}", "method.num_virtual_tokens: this key is required"},
    {"{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 0}", "method.num_virtual_tokens"},
    {"{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 2, \"init_weights\": \"one\"}",
     "method.init_weights"},
    {"{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 2, \"prefix_projecton\": true}",
     "prefix_projection"},
    {"{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 2, \"encoder_hidden_size\": 0}",
     "method.encoder_hidden_size"},
    {"{\"type\": \"prefix_tuning\", \"num_virtual_tokens\": 2, \"encoder_dropout\": 0.1}",
     "encoder_dropout"},
    {"{\"type\": \"p_tuning\", \"num_virtual_tokens\": 2, "
     "\"encoder_reparameterization_type\": \"lstm\"}",
     "MLP, LSTM"},
    {"{\"type\": \"p_tuning\", \"num_virtual_tokens\": 2, \"encoder_num_layers\": 0}",
     "method.encoder_num_layers"},
    {"{\"type\": \"p_tuning\", \"num_virtual_tokens\": 2, \"encoder_dropout\": 1}",
     "method.encoder_dropout"},
    {"{\"type\": \"p_tuning\", \"num_virtual_tokens\": 2, \"target_modules\": [\"q_proj\"]}",
     "target_modules"},
};

static void wrong_configs_are_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(wrong_configs); i++) {
        write_config("lora.json", wrong_configs[i].json);
        assert_fails(train((job){.out = "wrong"}), FT_ECONFIG, wrong_configs[i].says);
        assert_false(dir_exists(test_path("wrong")));
    }
}

static void another_adapter_is_not_gone_on_from(void **state)
{
    static const struct {
        int of, from;
        const char *set, *says;
    } cases[] = {
        {PREFIX, MLP, "train.seed=1", "is an adapter of type P_TUNING"},
        {MLP, PROJECTED, "train.seed=1", "is an adapter of type PREFIX_TUNING"},
        {PREFIX, PROJECTED, "method.prefix_projection=false", "method.prefix_projection: differs"},
        {MLP, LSTM, "method.encoder_reparameterization_type=MLP", "type: differs"},
        {LSTM, LSTM, "method.encoder_num_layers=3", "encoder_num_layers: differs"},
        {LSTM, LSTM, "method.num_virtual_tokens=2", "num_virtual_tokens: differs"},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char from[200];
        snprintf(from, sizeof from, "method.init_from=%s", test_path(methods[cases[i].from].name));
        write_config("lora.json", methods[cases[i].of].json);
        assert_fails(train((job){.out = "other", .set = {from, cases[i].set}}), FT_ECONFIG,
                     cases[i].says);
    }
}

/* One key of a sound adapter_config.json says something else; value NULL: it is not there. */
static const struct {
    int of;
    const char *key, *value, *says; /* says NULL: it does not matter */
} changed_keys[] = {
    {PREFIX, "task_type", "\"TOKEN_CLS\"", "task_type: must be \"CAUSAL_LM\""},
    {PREFIX, "task_type", "\"SEQ_CLS\"", "an adapter of a sequence classifier"},
    {PREFIX, "num_virtual_tokens", "5",
     "\"prompt_embeddings\" (f32 [3, 64] where the base needs [5"},
    {PREFIX, "token_dim", "32", "token_dim: 32, the base has keys and values of 16"},
    {PREFIX, "prefix_projection", "1", "prefix_projection"},
    {PREFIX, "modules_to_save", "[\"lm_head\"]", "modules_to_save: an adapter with this option"},
    {PREFIX, "num_frozen_tokens", "1", "num_frozen_tokens"},
    {PREFIX, "peft_type", "\"CARTRIDGE\"", "\"CARTRIDGE\" is not a kind"},
    {PREFIX, "peft_type", "\"PROMPT_TUNING\"", ""},
    {PREFIX, "token_dim", "null", NULL},
    {PREFIX, "encoder_hidden_size", "null", NULL},
    {PREFIX, "init_weights", "\"zero\"", NULL},
    {PREFIX, "prefix_projection", "true", NULL},
    {LSTM, "token_dim", "16", "token_dim: 16, the base has a hidden size of 32"},
    {LSTM, "encoder_reparameterization_type", "\"GRU\"", "must be \"MLP\" or \"LSTM\""},
    {LSTM, "encoder_num_layers", "0", "encoder_num_layers"},
    {LSTM, "encoder_reparameterization_type", "\"MLP\"", NULL},
    {LSTM, "encoder_dropout", "0.5", NULL},
};

static void keys_of_adapters(void **state)
{
    (void)state;
    model *m = NULL;
    assert_ok(model_open(&m, &(model_options){.from_config = test_path("model.json"), .seed = 42}));
    assert_ok(dir_make(test_path("changed")));
    for (size_t i = 0; i < FT_COUNT_OF(changed_keys); i++) {
        pe_ctx *c = NULL;
        const char *whole = methods[changed_keys[i].of].name;
        assert_ok(file_copy(test_path(in(whole, "adapter_model.safetensors")),
                            test_path("changed/adapter_model.safetensors")));
        test_change_key(test_path(in(whole, "adapter_config.json")),
                        test_path("changed/adapter_config.json"), changed_keys[i].key,
                        changed_keys[i].value);
        if (changed_keys[i].says)
            assert_fails(pe_open_adapter(&c, m, test_path("changed")), FT_EDATA,
                         changed_keys[i].says);
        else
            assert_ok(pe_open_adapter(&c, m, test_path("changed")));
        pe_close(c);
    }
    model_close(m);
}

/* --- use -------------------------------------------------------------------------------------------------------------- */
/* The first token is predicted by a virtual one of a prompt, and by nobody behind a prefix. */
static void the_first_token_counts_after_prompts(void **state)
{
    (void)state;
    static const char line[] = "{\"input_ids\":[5,8,11,14,17]}\n{\"input_ids\":[1,2,3]}\n";
    test_write_file(test_path("train.jsonl"), line, strlen(line));
    for (int k = 0; k < METHODS; k++) {
        const char *out = named(k, "first");
        write_config("lora.json", methods[k].json);
        assert_ok(train((job){.out = out, .set = {"train.max_steps=1"}}));
        assert_true(number_in(out, "summary.json", "supervised_tokens", NULL, NULL) ==
                    (k < MLP ? 6 : 8));
    }
    write_train_files();
}

/* Greedy answers of prompts together, token by token out of a cache, are what one pass over prompt and answer calls the
 * best. */
static void answers_are_what_scores_say(void **state)
{
    (void)state;
    enum { NEW = 6, N = 3 };
    model *m = NULL;
    ag_tape *t = NULL;
    int32_t ids[N][5] = {{3, 6, 9, 12}, {40, 2}, {7, 7, 1, 30, 22}};
    const tok_ids prompts[N] = {
        {.id = ids[0], .n = 4}, {.id = ids[1], .n = 2}, {.id = ids[2], .n = 5}};
    inf_answer out[N];
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.max_new = NEW;
    s.logprobs = true;
    assert_ok(model_open(&m, &(model_options){.from_config = test_path("model.json"), .seed = 42}));
    assert_ok(ag_open(&t, (size_t)1 << 30));
    for (int k = 0; k < METHODS; k++) {
        pe_ctx *c = NULL;
        assert_ok(pe_open_adapter(&c, m, test_path(methods[k].name)));
        assert_int_equal(c->over.virtual_tokens, 3);
        const inf_ctx with = {.m = m, .over = &c->over, .tape = t}, base = {.m = m, .tape = t};
        assert_ok(inf_generate(&with, prompts, N, 1, &s, NULL, NULL, out));
        for (int i = 0; i < N; i++) {
            int32_t whole[12], best[NEW];
            float logprob[NEW], bare[NEW];
            int64_t n = prompts[i].n;
            memcpy(whole, ids[i], (size_t)n * sizeof *whole);
            memcpy(whole + n, out[i].ids.id, NEW * sizeof *whole);
            inf_seq seq = {.id = whole, .n = n + NEW, .from = n, .logprob = logprob, .best = best};
            assert_ok(inf_score(&with, &seq, 1));
            assert_memory_equal(best, out[i].ids.id, sizeof best);
            for (int j = 0; j < NEW; j++)
                assert_true(fabsf(logprob[j] - out[i].logprob[j]) < 1e-4f);
            seq.logprob = bare;
            assert_ok(inf_score(&base, &seq, 1));
            assert_true(max_abs_diff(bare, logprob, NEW) > 1e-3);
        }
        inf_answers_free(out, N);
        pe_close(c);
    }
    ag_close(t);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(micro_batches_do_not_show),
        cmocka_unit_test(other_numbers),
        cmocka_unit_test(goes_on_from_its_own),
        cmocka_unit_test(an_encoder_is_needed),
        cmocka_unit_test(evaluations_drop_nothing),
        cmocka_unit_test(cannot_be_merged),
        cmocka_unit_test(wrong_configs_are_told),
        cmocka_unit_test(another_adapter_is_not_gone_on_from),
        cmocka_unit_test(keys_of_adapters),
        cmocka_unit_test(the_first_token_counts_after_prompts),
        cmocka_unit_test(answers_are_what_scores_say),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
