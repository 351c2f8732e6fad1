/* test_prompt.c – prompt_tuning from a config to generating: first values as PEFT makes them, trained whatever the split, the
 * first token of a sequence counts, positions are the prompt's too, adapters are refused by the key that cannot be honoured,
 * and what was trained scores and generates alike. */
#include "golden.h"
#include "train_fixture.h"
#include "verbs.h"

#include "ft/infer.h"
#include "ft/method.h"
#include "ft/tool.h"

static const char prompt[] = "{\"type\": \"prompt_tuning\", \"num_virtual_tokens\": 3}";

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
    assert_ok(train((job){.config = "prompt.json", .out = "packed", .set = {"data.packing=true"}}));
    assert_same_run("whole", "packed");
    copy_run("whole", "cut", 5);
    assert_ok(train((job){.config = "prompt.json", .out = "cut", .resume = true}));
    assert_same_run("whole", "cut");
    write_config("lora.json", prompt);
    assert_any_split_gives("whole");
}

/* It goes on from what it wrote; a config may repeat what the adapter says, and nothing else. */
static void goes_on_from_its_own(void **state)
{
    (void)state;
    char other[200], same[200];
    snprintf(same, sizeof same, "method.init_from=%s", test_path("whole"));
    const char *from = same;
    job j = {.config = "prompt.json", .out = "on", .set = {from, "train.max_steps=1"}};
    assert_ok(train(j));
    assert_ok(train((job){.config = "on/config.resolved.json", .out = "on again"}));
    assert_same_file("on", "on again", "adapter_model.safetensors");
    snprintf(other, sizeof other, "method.prompt_tuning_init=TEXT");
    j = (job){.config = "prompt.json", .out = "off", .set = {from, other}};
    assert_fails(train(j), FT_ECONFIG, "method.prompt_tuning_init: differs from the adapter");
    j.set[1] = "method.num_virtual_tokens=4";
    assert_fails(train(j), FT_ECONFIG, "num_virtual_tokens: differs from the adapter");
}

/* --- first values ------------------------------------------------------------------------------------------------- */
static const float *rows_of(pe_ctx **c, model *m, const pe_start *with, const char *json,
                            arena *mem)
{
    cfg_doc d = {0};
    const pe_method *row = pe_by_name("prompt_tuning");
    assert_ok(pe_attach(c, row, method_options(row, json, &d, mem), m, with));
    cfg_close(&d);
    assert_int_equal((*c)->store.n, 1);
    return tn_f32(&(*c)->store.param[0]->t);
}

/* The text longer than the prompt, shorter, and of one token: what PEFT begins with. */
static void texts_begin_as_those_of_peft(void **state)
{
    (void)state;
    const st_file *want = golden_open("prompt_text.safetensors");
    const char *tiny = source_path("data/tiny");
    model *m = NULL;
    tok_tokenizer *tok = NULL;
    arena *mem = NULL;
    assert_ok(arena_open(&mem, "options", (size_t)1 << 20));
    assert_ok(model_open(&m, &(model_options){.path = tiny}));
    assert_ok(tok_open(&tok, tiny));
    for (int64_t i = 0; i < want->n; i++) {
        const io_tensor *t = &want->tensor[i];
        char json[300];
        pe_ctx *c = NULL;
        snprintf(json, sizeof json,
                 "{\"num_virtual_tokens\": %d, \"prompt_tuning_init\": \"TEXT\", "
                 "\"prompt_tuning_init_text\": \"%s\"}",
                 (int)t->dim[0], t->name);
        const float *have = rows_of(&c, m, &(pe_start){.seed = 1, .tok = tok}, json, mem);
        assert_memory_equal(have, t->data, t->bytes);
        pe_close(c);
    }
    assert_true(want->n >= 3);
    tok_close(tok);
    model_close(m);
    arena_close(mem);
}

static bool is_row(const model *m, const float *row)
{
    const tn_tensor *w = &m->embed->w->t;
    float *one = test_alloc((size_t)tn_cols(w) * sizeof *one);
    for (int64_t i = 0; i < tn_rows(w); i++) {
        tn_unpack_rows(one, w, i, 1);
        if (memcmp(one, row, (size_t)tn_cols(w) * sizeof *one) == 0) return true;
    }
    return false;
}

static void samples_are_of_the_vocabulary(void **state)
{
    (void)state;
    enum { N = 40 };
    static const char json[] =
        "{\"num_virtual_tokens\": 40, \"prompt_tuning_init\": \"SAMPLE_VOCAB\"}";
    model *m = NULL;
    pe_ctx *c[3] = {NULL};
    arena *mem = NULL;
    const float *rows[3];
    assert_ok(arena_open(&mem, "options", (size_t)1 << 20));
    assert_ok(model_open(&m, &(model_options){.path = source_path("data/tiny")}));
    size_t bytes = N * (size_t)m->d.hidden_size * sizeof(float);
    for (int i = 0; i < 3; i++)
        rows[i] = rows_of(&c[i], m, &(pe_start){.seed = i < 2 ? 7 : 8}, json, mem);
    for (int k = 0; k < N; k++) assert_true(is_row(m, rows[0] + k * m->d.hidden_size));
    assert_memory_equal(rows[0], rows[1], bytes);
    assert_true(memcmp(rows[0], rows[2], bytes) != 0);
    for (int i = 0; i < 3; i++) pe_close(c[i]);
    /* by default: normal, of mean 0 and deviation 1 */
    const float *x = rows_of(&c[0], m, &(pe_start){.seed = 7}, "{}", mem);
    int64_t n = tn_count(&c[0]->store.param[0]->t);
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i];
        square += (double)x[i] * (double)x[i];
    }
    assert_int_equal(n, 20 * m->d.hidden_size);
    assert_true(fabs(sum / (double)n) < 0.1 && fabs(square / (double)n - 1) < 0.1);
    pe_close(c[0]);
    model_close(m);
    arena_close(mem);
}

static const struct {
    const char *json, *says;
} wrong_configs[] = {
    {"{\"type\": \"prompt_tuning\", \"num_virtual_tokens\": 0}", "num_virtual_tokens"},
    {"{\"type\": \"prompt_tuning\", \"prompt_tuning_init\": \"text\"}",
     "RANDOM, TEXT, SAMPLE_VOCAB"},
    {"{\"type\": \"prompt_tuning\", \"prompt_tuning_init\": \"TEXT\"}",
     "method.prompt_tuning_init_text: this key is required"},
    {"{\"type\": \"prompt_tuning\", \"prompt_tuning_init_text\": \"a\"}", "goes with"},
    {"{\"type\": \"prompt_tuning\", \"prompt_tuning_init\": \"TEXT\", "
     "\"prompt_tuning_init_text\": \"\"}",
     "method.prompt_tuning_init_text: the text has no token"},
    {"{\"type\": \"prompt_tuning\", \"target_modules\": \"all-linear\"}", "target_modules"},
};

static void wrong_configs_are_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(wrong_configs); i++) {
        write_config("wrong.json", wrong_configs[i].json);
        assert_fails(train((job){.config = "wrong.json", .out = "none"}), FT_ECONFIG,
                     wrong_configs[i].says);
    }
}

/* --- adapters ----------------------------------------------------------------------------------------------------- */
/* One key of a sound adapter_config.json says something else; value NULL: it is not there. */
static const struct {
    const char *key, *value, *says; /* says NULL: it does not matter */
} changed_keys[] = {
    {"task_type", "\"SEQ_CLS\"", "an adapter of a sequence classifier"},
    {"task_type", NULL, "task_type: must be \"CAUSAL_LM\""},
    {"num_virtual_tokens", NULL, "num_virtual_tokens: is missing"},
    {"num_virtual_tokens", "0", "num_virtual_tokens: 0 is not between"},
    {"num_virtual_tokens", "5", "\"prompt_embeddings\" (f32 [3, 32] where the base needs [5, 32])"},
    {"num_transformer_submodules", "2", "num_transformer_submodules: must be 1"},
    {"token_dim", "48", "token_dim: 48, the base has a hidden size of 32"},
    {"modules_to_save", "[\"lm_head\"]", "modules_to_save: an adapter with this option"},
    {"cpt_token_ids", "[1]", "cpt_token_ids"},
    {"peft_type", "\"MULTITASK_PROMPT_TUNING\"", "\"MULTITASK_PROMPT_TUNING\" is not a kind"},
    {"peft_type", "\"CPT\"", "\"CPT\" is not a kind"},
    {"num_layers", "7", NULL},
    {"num_attention_heads", NULL, NULL},
    {"token_dim", "null", NULL},
    {"num_transformer_submodules", "null", NULL},
    {"prompt_tuning_init", "\"TEXT\"", NULL},
    {"prompt_tuning_init_text", "\"Say it.\"", NULL},
    {"tokenizer_name_or_path", "\"some/where\"", NULL},
    {"tokenizer_kwargs", "{\"use_fast\": false}", NULL},
};

static void keys_of_adapters(void **state)
{
    (void)state;
    model *m = NULL;
    assert_ok(model_open(&m, &(model_options){.from_config = test_path("model.json"), .seed = 42}));
    assert_ok(dir_make(test_path("changed")));
    assert_ok(file_copy(test_path("whole/adapter_model.safetensors"),
                        test_path("changed/adapter_model.safetensors")));
    for (size_t i = 0; i < FT_COUNT_OF(changed_keys); i++) {
        pe_ctx *c = NULL;
        test_change_key(test_path("whole/adapter_config.json"),
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

static void cannot_be_merged(void **state)
{
    (void)state;
    const char *out = test_path("merged");
    const tool_merge_options o = {.adapter = golden_path("peft/llama_prompt/adapter"),
                                  .base = golden_model("llama"),
                                  .out = out};
    assert_fails(tool_merge_adapter(&o, &(tool_sink){test_drop, NULL}), FT_EDATA, "--adapter");
    assert_false(dir_exists(out));
}

/* Sequences all of whose tokens are supervised: a virtual row predicts the first one too. */
static void the_first_token_counts(void **state)
{
    (void)state;
    static const char line[] = "{\"input_ids\":[5,8,11,14,17]}\n{\"input_ids\":[1,2,3]}\n";
    static const char single[] = "{\"input_ids\":[7]}\n";
    test_write_file(test_path("train.jsonl"), line, strlen(line));
    write_config("lora.json", "{\"type\": \"lora\"}");
    static const char *const once = "train.max_steps=1";
    assert_ok(train((job){.config = "lora.json", .out = "without", .set = {once}}));
    assert_ok(train((job){.config = "prompt.json", .out = "with", .set = {once}}));
    assert_true(number_in("without", "summary.json", "supervised_tokens", NULL, NULL) == 6);
    assert_true(number_in("with", "summary.json", "supervised_tokens", NULL, NULL) == 8);
    /* where nothing else is learned, too */
    test_write_file(test_path("train.jsonl"), single, strlen(single));
    assert_fails(train((job){.config = "lora.json", .out = "none", .set = {once}}), FT_EDATA,
                 "no supervised token");
    assert_ok(train((job){.config = "prompt.json", .out = "single", .set = {once}}));
    assert_true(number_in("single", "summary.json", "supervised_tokens", NULL, NULL) == 1);
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
    assert_fails(train((job){.config = "prompt.json", .out = "long"}), FT_ECONFIG,
                 "lower data.max_length");
    assert_fails(train((job){.config = "prompt.json",
                             .out = "full",
                             .set = {"data.max_length=18", "method.num_virtual_tokens=21"}}),
                 FT_ECONFIG, "21 virtual tokens leave no room");
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
        cmocka_unit_test(micro_batches_do_not_show),
        cmocka_unit_test(goes_on_from_its_own),
        cmocka_unit_test(texts_begin_as_those_of_peft),
        cmocka_unit_test(samples_are_of_the_vocabulary),
        cmocka_unit_test(wrong_configs_are_told),
        cmocka_unit_test(keys_of_adapters),
        cmocka_unit_test(cannot_be_merged),
        cmocka_unit_test(the_first_token_counts),
        cmocka_unit_test(positions_are_theirs_too),
        cmocka_unit_test(answers_are_what_scores_say),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
