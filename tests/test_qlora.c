/* test_qlora.c – LoRA on a base that is quantised on loading, or stands in the blocks of a .gguf or in bitsandbytes' codes: the
 * run is the one on the numbers that the base stands for, whatever the threads, the cut and the interruptions. */
#include "train_fixture.h"

#include "ft/model.h"

/* Rows of whole super-blocks, so that every format of a GGUF fits; the other one has rows that no block of 64 divides. */
static const char wide_json[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":640,"
    "\"hidden_size\":256,\"intermediate_size\":256,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"tie_word_embeddings\":false,"
    "\"hidden_act\":\"silu\"}";
static const char odd_json[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"vocab_size\":64,"
    "\"hidden_size\":40,\"intermediate_size\":37,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"tie_word_embeddings\":false,"
    "\"hidden_act\":\"silu\"}";

static const char method[] = "{\"type\":\"qlora\",\"r\":4,\"lora_dropout\":0.1}";

/* A folder of random weights by a config, with a tokenizer in it. */
static const char *write_model(const char *json, const char *name, const dt_type *type)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    model *m = NULL;
    const char *to = test_path(name);
    test_write_file(test_path("made.json"), json, strlen(json));
    assert_ok(model_open(&m, &(model_options){.from_config = test_path("made.json"), .seed = 5}));
    assert_ok(model_save(m, to, &(model_save_options){.type = type}));
    model_close(m);
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        char from[600], path[600];
        snprintf(from, sizeof from, "%s/%s", source_path("data/tiny"), files[i]);
        snprintf(path, sizeof path, "%s/%s", to, files[i]);
        assert_ok(file_copy(from, path));
    }
    return to;
}

/* The run on a base with a method; further settings may be NULL. */
static void run(const char *base, const char *out, const char *how, const char *set)
{
    char path[700], object[200];
    snprintf(path, sizeof path, "model.path=%s", base);
    snprintf(object, sizeof object, "method=%s", how);
    assert_ok(train((job){.config = "qlora.json",
                          .out = out,
                          .set = {path, object, set ? set : "train.max_steps=10"}}));
}

/* qlora.json: as lora.json, on a path. */
static void write_qlora_config(void)
{
    static const char text[] =
        "{\"model\":{\"path\":\"none\"},"
        "\"data\":{\"train\":{\"path\":\"train.jsonl\",\"format\":\"tokens\"},"
        "\"eval\":{\"path\":\"eval.jsonl\",\"format\":\"tokens\"}},"
        "\"optim\":{\"learning_rate\":0.01,\"weight_decay\":0.01},"
        "\"train\":{\"epochs\":2,\"batch_size\":8,\"checkpoint_every\":2,\"eval_every\":3}}";
    test_write_file(test_path("qlora.json"), text, sizeof text - 1);
}

static void same_runs(const char *a, const char *b)
{
    assert_same_file(a, b, "adapter_model.safetensors");
    assert_same_file(a, b, "log.jsonl");
}

/* The numbers that a base stands for, as a folder of f32. */
static const char *plain_numbers(const model_options *from, const char *name)
{
    model *m = NULL;
    const char *to = test_path(name);
    assert_ok(model_open(&m, from));
    assert_ok(model_save(m, to, &(model_save_options){.type = &dt_f32}));
    model_close(m);
    return to;
}

static void copy_tokenizer(const char *to)
{
    char from[600], path[600];
    snprintf(from, sizeof from, "%s/tokenizer.json", source_path("data/tiny"));
    snprintf(path, sizeof path, "%s/tokenizer.json", to);
    assert_ok(file_copy(from, path));
}

/* bnb_cfg of quant_bnb.h, by the keys' defaults. */
static const void *defaults(const model_quant *q)
{
    static uint64_t cfg[8];
    cfg_doc d;
    arena *mem = NULL;
    assert_ok(arena_open(&mem, "t", (size_t)1 << 20));
    assert_true(q->make_size <= sizeof cfg);
    assert_ok(cfg_open_empty(&d, NULL, 0, mem));
    assert_ok(cfg_read(&d, d.js.root, "", q->make_fields, cfg, NULL));
    assert_ok(cfg_done(&d));
    cfg_close(&d);
    arena_close(mem);
    return cfg;
}

/* qlora on a plain folder is lora with model.quantization nf4, is lora on the numbers of it, and is qlora on the folder that
 * has them in codes. */
static void a_plain_base_becomes_nf4(void **state)
{
    const model_quant *nf4 = model_quant_by_type("nf4");
    (void)state;
    const char *base = write_model(odd_json, "odd", &dt_f32);
    run(base, "q", method, NULL);
    run(base, "q-explicit", "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1}",
        "model.quantization={\"type\":\"nf4\"}");
    same_runs("q", "q-explicit");
    const char *numbers = plain_numbers(
        &(model_options){.path = base, .make = nf4, .make_cfg = defaults(nf4)}, "odd-numbers");
    run(numbers, "q-numbers", "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1}", NULL);
    same_runs("q", "q-numbers");
    model *m = NULL;
    assert_ok(model_open(&m, &(model_options){.path = base}));
    assert_ok(model_save(m, test_path("odd-coded"),
                         &(model_save_options){.quant = nf4, .quant_cfg = defaults(nf4)}));
    model_close(m);
    copy_tokenizer(test_path("odd-coded"));
    run(test_path("odd-coded"), "q-coded", method, NULL);
    same_runs("q", "q-coded");
    run(base, "plain", "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1}", NULL);
    size_t n, k;
    const char *a = test_read_file(in(test_path("q"), "log.jsonl"), &n);
    const char *b = test_read_file(in(test_path("plain"), "log.jsonl"), &k);
    assert_string_not_equal(a, b); /* another base */
    const char *resolved = test_read_file(in(test_path("q"), "config.resolved.json"), &n);
    assert_non_null(strstr(resolved, "\"double_quant\": true"));
    const char *adapter = test_read_file(in(test_path("q"), "adapter_config.json"), &n);
    assert_non_null(strstr(adapter, "\"peft_type\": \"LORA\""));
}

/* --- a GGUF in blocks ----------------------------------------------------------------------------------------------- */
/* Scales and minima of random blocks are made small numbers: d of every format, by its place. */
static void tame(const dt_type *type, uint8_t *block)
{
    static const struct {
        const char *name;
        int at[2];
    } scales[] = {{"q8_0", {0, -1}}, {"q4_0", {0, -1}}, {"q4_1", {0, 2}},
                  {"q5_0", {0, -1}}, {"q4_k", {0, 2}},  {"q6_k", {208, -1}}};
    for (size_t i = 0; i < FT_COUNT_OF(scales); i++) {
        if (strcmp(scales[i].name, type->name) != 0) continue;
        for (int k = 0; k < 2; k++)
            if (scales[i].at[k] >= 0) { /* f16 of 2^-11 to 2^-10 */
                block[scales[i].at[k]] &= 0xff;
                block[scales[i].at[k] + 1] = 0x10;
            }
    }
}

/* The .gguf with the matrices of its blocks replaced by random blocks of a format. */
static void recode(const char *from, const dt_type *type, const char *to)
{
    arena *mem = NULL;
    gguf_file f = {0};
    gguf_writer *w = NULL;
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    assert_ok(gguf_open(&f, from, mem));
    assert_ok(gguf_write_open(&w, to));
    for (int64_t i = 0; i < f.n_kv; i++) gguf_put_copy(w, &f.kv[i]);
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        const bool coded = str_starts(t->name, "blk.") && t->nd == 2;
        gguf_put_tensor(w, t->name, coded ? type : t->type, t->nd, t->dim);
    }
    assert_ok(gguf_write_header(w));
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        size_t bytes = t->bytes;
        const void *data = t->data;
        if (str_starts(t->name, "blk.") && t->nd == 2) {
            assert_true(dt_bytes(type, t->dim[0] * t->dim[1], &bytes));
            uint8_t *blocks = test_alloc(bytes);
            for (size_t k = 0; k < bytes; k++) blocks[k] = (uint8_t)test_u64((uint64_t)i, k);
            for (size_t k = 0; k < bytes; k += (size_t)type->bytes) tame(type, blocks + k);
            data = blocks;
        }
        assert_ok(gguf_write(w, data, bytes));
    }
    assert_ok(gguf_write_close(w));
    gguf_close(&f);
    arena_close(mem);
}

/* Random weights that are quantised as they are made are the ones of a folder: of every layout, turned matrices too. */
static void random_weights_become_nf4(void **state)
{
    static const char gpt2_json[] =
        "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"vocab_size\":64,"
        "\"n_embd\":36,\"n_layer\":2,\"n_head\":4,\"n_positions\":64}";
    static const char *const json[] = {odd_json, wide_json, gpt2_json};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(json); i++) {
        char from[700];
        run(write_model(json[i], "drawn", &dt_f32), "r-folder", method, "train.seed=5");
        snprintf(from, sizeof from, "model={\"from_config\":\"%s\"}", test_path("made.json"));
        assert_ok(
            train((job){.config = "qlora.json",
                        .out = "r-config",
                        .force = true,
                        .set = {from, "method={\"type\":\"qlora\",\"r\":4,\"lora_dropout\":0.1}",
                                "train.seed=5"}}));
        same_runs("r-folder", "r-config");
        assert_ok(dir_remove(test_path("r-folder")));
        assert_ok(dir_remove(test_path("drawn")));
    }
}

static void blocks_of_a_gguf_are_the_base(void **state)
{
    static const char *const types[] = {"q4_0", "q4_1", "q8_0", "q5_0", "q4_k", "q6_k"};
    (void)state;
    model *wide = NULL; /* from a folder: the .gguf has its tokenizer */
    assert_ok(model_open(&wide, &(model_options){.path = write_model(wide_json, "wide", &dt_f16)}));
    assert_ok(model_save(wide, test_path("wide.gguf"), &(model_save_options){.type = &dt_f16}));
    model_close(wide);
    for (size_t i = 0; i < FT_COUNT_OF(types); i++) {
        char name[3][64];
        snprintf(name[0], sizeof name[0], "%s.gguf", types[i]);
        snprintf(name[1], sizeof name[1], "of-%s", types[i]);
        snprintf(name[2], sizeof name[2], "numbers-%s", types[i]);
        recode(test_path("wide.gguf"), dt_by_name(types[i]), test_path(name[0]));
        const char *numbers = plain_numbers(&(model_options){.path = test_path(name[0])}, name[2]);
        run(test_path(name[0]), name[1], method, "train.max_steps=3");
        char plain[80];
        snprintf(plain, sizeof plain, "plain-%s", types[i]);
        run(numbers, plain, "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1}",
            "train.max_steps=3");
        same_runs(name[1], plain);
        model *m = NULL;
        assert_ok(
            model_open(&m, &(model_options){.path = test_path(name[0]),
                                            .make = model_quant_by_type("nf4"),
                                            .make_cfg = defaults(model_quant_by_type("nf4"))}));
        assert_ptr_equal(m->site[1].w->t.type, dt_by_name(types[i]));
        assert_int_equal(arena_peak(m->made), 0);
        model_close(m);
    }
}

/* --- the same bits -------------------------------------------------------------------------------------------------- */
static void any_cut_gives_the_same(void **state)
{
    static const char *const sets[] = {"train.micro_batch_size=1", "train.micro_batch_size=3",
                                       "train.gradient_checkpointing=true"};
    (void)state;
    const char *base = write_model(odd_json, "cut", &dt_bf16);
    run(base, "whole", method, NULL);
    for (size_t i = 0; i < FT_COUNT_OF(sets); i++) {
        char out[32];
        snprintf(out, sizeof out, "cut-%zu", i);
        run(base, out, method, sets[i]);
        same_runs("whole", out);
    }
    for (int threads = 1; threads < 5; threads++) {
        assert_ok(pool_open(threads));
        run(base, "threads", method, NULL);
        pool_close();
        same_runs("whole", "threads");
        assert_ok(dir_remove(test_path("threads")));
    }
}

static void a_stopped_run_goes_on(void **state)
{
    char path[700], object[200];
    (void)state;
    const char *base = write_model(odd_json, "stop", &dt_f16);
    run(base, "undisturbed", method, NULL);
    snprintf(path, sizeof path, "model.path=%s", base);
    snprintf(object, sizeof object, "method=%s", method);
    copy_run("undisturbed", "stopped", 6);
    assert_ok(train((job){.config = "qlora.json",
                          .out = "stopped",
                          .resume = true,
                          .set = {path, object, "train.max_steps=10"}}));
    same_runs("undisturbed", "stopped");
}

/* --- what does not go together --------------------------------------------------------------------------------------- */
static void contradictions_are_told(void **state)
{
    char path[700];
    (void)state;
    snprintf(path, sizeof path, "model.path=%s", write_model(odd_json, "base", &dt_f32));
    assert_fails(
        train((job){.config = "qlora.json",
                    .out = "no",
                    .set = {path, "method={\"type\":\"qlora\"}", "model.quantization=none"}}),
        FT_ECONFIG, "model.quantization: \"none\" goes with another method");
    assert_fails(train((job){.config = "qlora.json",
                             .out = "no",
                             .set = {path, "method={\"type\":\"full\"}",
                                     "model.quantization={\"type\":\"nf4\"}"}}),
                 FT_ECONFIG, "model.quantization \"nf4\" rounds");
    assert_fails(train((job){.config = "qlora.json",
                             .out = "no",
                             .set = {path, "method={\"type\":\"qlora\"}",
                                     "model.quantization={\"type\":\"nf4\",\"block_size\":96}"}}),
                 FT_ECONFIG, "model.quantization.block_size: must be a power of two");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_base_becomes_nf4),
        cmocka_unit_test(random_weights_become_nf4),
        cmocka_unit_test(blocks_of_a_gguf_are_the_base),
        cmocka_unit_test(any_cut_gives_the_same),
        cmocka_unit_test(a_stopped_run_goes_on),
        cmocka_unit_test(contradictions_are_told),
    };
    write_train_files();
    write_qlora_config();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
