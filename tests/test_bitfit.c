/* test_bitfit.c – biases alone: which a config means on each family, those that are added, the two forms of the result, and
 * runs that are cut or stopped. Twenty steps against PyTorch are in test_train_golden.c. */
#include "golden.h"
#include "train_fixture.h"

#include "ft/method.h"
#include "ft/optim.h"
#include "ft/tool.h"

/* --- a method on a golden model ---------------------------------------------------------------------------------- */
typedef struct bench {
    arena *mem;
    cfg_doc d;
    model *m;
    pe_ctx *c;
} bench;

static ft_status attach(bench *b, const char *path, const char *json)
{
    const pe_method *bitfit = pe_by_name("bitfit");
    *b = (bench){0};
    assert_ok(arena_open(&b->mem, "options", (size_t)1 << 20));
    assert_ok(model_open(&b->m, &(model_options){.path = path}));
    void *cfg = method_options(bitfit, json, &b->d, b->mem);
    return pe_attach(&b->c, bitfit, cfg, b->m, &(pe_start){.seed = 3, .base_name = path});
}

/* With values that nobody mistakes for a start. */
static void open_bench(bench *b, const char *path, const char *json)
{
    assert_ok(attach(b, path, json));
    for (int64_t i = 0; i < b->c->store.n; i++) {
        const tn_tensor *t = &b->c->store.param[i]->t;
        float *x = test_uniform(100 + (uint64_t)i, tn_count(t), -0.5f, 0.5f);
        memcpy(t->data, x, (size_t)tn_count(t) * sizeof *x);
    }
}

static void close_bench(bench *b)
{
    pe_close(b->c);
    model_close(b->m);
    cfg_close(&b->d);
    arena_close(b->mem);
}

static void save(const bench *b, const char *out)
{
    if (dir_exists(out)) assert_ok(dir_remove(out));
    assert_ok(dir_make(out));
    assert_ok(b->c->method->save(b->c, out));
}

static ft_status ignore(void *ctx, const char *text, size_t n)
{
    (void)ctx, (void)text, (void)n;
    return FT_OK;
}

static ft_status merge(const char *delta, const char *base, const char *out, const char *type)
{
    tool_merge_options opt = {
        .adapter = delta, .base = base, .out = out, .type = type, .tolerance = 1e-4, .force = true};
    return tool_merge_adapter(&opt, &(tool_sink){ignore, NULL});
}

/* --- which biases --------------------------------------------------------------------------------------------------- */
static const char q_and_mlp[] = "{\"bias_terms\": [\"query\", \"mlp\"]}";
static const char present[] = "{\"add_missing_biases\": false}";
static const struct {
    const char *base, *json;
    int trained, added; /* added: those that stay zero are among them */
} choices[] = {
    {"llama", "{}", 14, 14},
    {"llama", q_and_mlp, 8, 14},
    {"llama", "{\"bias_terms\": [\"query\"]}", 2, 8},
    {"llama", "{\"bias_terms\": [\"mlp_up\", \"layers.0.mlp\"]}", 4, 6},
    {"llama", "{\"bias_terms\": [\"layers.1\"]}", 7, 14},
    {"llama_bias_tied", "{}", 14, 0},
    {"llama_bias_tied", present, 14, 0},
    {"llama_bias_tied", "{\"bias_terms\": [\"value\", \"value\", \"v_proj\"]}", 2, 0},
    {"qwen2", "{}", 6, 0},
    {"qwen2", "{\"bias_terms\": [\"key\", \"all\"]}", 6, 0},
    {"qwen2", "{\"bias_terms\": [\"self_attn\"], \"add_missing_biases\": false}", 6, 0},
    {"qwen3", "{}", 8, 8},
    {"qwen3", "{\"bias_terms\": [\"attention_output\"]}", 2, 8},
    {"gpt2", "{}", 13, 0},
    {"gpt2", q_and_mlp, 6, 0},
    {"gpt2", "{\"bias_terms\": [\"norm\"]}", 5, 0},
    {"gpt2", "{\"bias_terms\": [\"ln_f\", \"attn.c_proj\"]}", 3, 0},
};

static void terms_and_modules(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(choices); i++) {
        bench b;
        int added = 0;
        open_bench(&b, golden_model(choices[i].base), choices[i].json);
        for (int64_t k = 0; k < b.m->n_site; k++) added += b.c->over.bias[k] != NULL;
        if (b.c->store.n != choices[i].trained || added != choices[i].added)
            fail_msg("%s %s: %d trained, %d added", choices[i].base, choices[i].json,
                     (int)b.c->store.n, added);
        for (int64_t k = 0; k < b.c->store.n; k++) {
            assert_true(str_ends(b.c->store.param[k]->name, ".bias"));
            assert_true(b.c->store.param[k]->hyper.decay_ratio == 0);
        }
        close_bench(&b);
    }
}

static const struct {
    const char *base, *json, *says;
} refused[] = {
    {"mistral", "{}", "a mistral model has no biases"},
    {"mistral", "{\"bias_terms\": [\"query\"]}", "a mistral model has no biases"},
    {"llama", present, "method.add_missing_biases true"},
    {"llama", "{\"bias_terms\": [\"qeury\"]}", "\"qeury\" is neither a term nor a module"},
    {"llama", "{\"bias_terms\": [\"qeury\"]}", "possible here: query, key, value, attention_out"},
    {"llama", "{\"bias_terms\": [\"norm\"]}", "\"norm\" is neither"},
    {"llama", "{\"bias_terms\": [\"lm_head\"]}", "\"lm_head\" is neither"},
    {"qwen2", "{\"bias_terms\": [\"mlp\"]}", "no place for a bias of \"model.layers.0.mlp."},
    {"qwen2", "{\"bias_terms\": [\"mlp\"]}", "possible here: query, key, value, q_proj"},
    {"qwen2", "{\"bias_terms\": [\"mlp\"], \"add_missing_biases\": false}", "is false; possible"},
    {"qwen2", "{\"bias_terms\": [\"query\", \"self_attn\"]}", "self_attn.o_proj"},
    {"qwen3", q_and_mlp, "\"mlp\": transformers' class of a qwen3 model has no place"},
    {"gpt2", "{\"bias_terms\": [\"mlp_gate\"]}", "possible here: query, key, value, attention_o"},
    {"gpt2", "{\"bias_terms\": [\"mlp_gate\"]}", "ln_1, c_attn, c_proj, ln_2, c_fc, ln_f"},
};

static void what_a_family_cannot_hold(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(refused); i++) {
        bench b;
        assert_fails(attach(&b, golden_model(refused[i].base), refused[i].json), FT_ECONFIG,
                     refused[i].says);
        close_bench(&b);
    }
}

/* --- what is written -------------------------------------------------------------------------------------------------- */
static const io_tensor *tensor_of(const model *m, const char *name)
{
    const io_tensor *t = io_find(&m->weights, name);
    if (!t) fail_msg("%s is missing", name);
    return t;
}

/* attention_bias makes room for four biases, of which one is trained: the others are there and zero. */
static void neighbours_of_an_added_bias_are_zero(void **state)
{
    static const char *const zero[] = {"k_proj", "v_proj", "o_proj"};
    (void)state;
    bench b;
    model *saved = NULL;
    const char *out = test_path("query");
    open_bench(&b, golden_model("llama"), "{\"bias_terms\": [\"query\"]}");
    save(&b, out);
    assert_ok(model_open(&saved, &(model_options){.path = out}));
    assert_non_null(strstr(saved->config, "\"attention_bias\": true"));
    assert_null(strstr(saved->config, "\"mlp_bias\": true"));
    assert_int_equal(saved->n_param, b.m->n_param + 8);
    for (size_t i = 0; i < FT_COUNT_OF(zero); i++) {
        char name[100];
        snprintf(name, sizeof name, "model.layers.1.self_attn.%s.bias", zero[i]);
        const io_tensor *t = tensor_of(saved, name);
        const float *x = t->data;
        for (int64_t k = 0; k < t->dim[0]; k++) assert_true(x[k] == 0);
    }
    const io_tensor *q = tensor_of(saved, "model.layers.1.self_attn.q_proj.bias");
    assert_memory_equal(q->data, b.c->store.param[1]->t.data, q->bytes);
    model_close(saved);
    close_bench(&b);
}

/* The folder that a run leaves, and the one that merge-adapter makes of its biases, are the same; so is what a GGUF
 * of them computes. */
static void biases_alone_merge_into_the_folder(void **state)
{
    static const struct {
        const char *base, *json, *delta;
    } cases[] = {
        {"llama", "{}", "{\"save\": \"delta\"}"},
        {"llama", q_and_mlp, "{\"save\": \"delta\", \"bias_terms\": [\"query\", \"mlp\"]}"},
        {"llama_bias_tied", "{}", "{\"save\": \"delta\"}"},
        {"qwen2", "{}", "{\"save\": \"delta\"}"},
        {"qwen3", "{}", "{\"save\": \"delta\"}"},
        {"gpt2", "{}", "{\"save\": \"delta\"}"},
    };
    (void)state;
    const char *folder = test_path("folder"), *delta = test_path("delta");
    const char *merged = test_path("merged"), *gguf = test_path("merged.gguf");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        bench b;
        const char *base = golden_model(cases[i].base);
        open_bench(&b, base, cases[i].json);
        save(&b, folder);
        close_bench(&b);
        open_bench(&b, base, cases[i].delta);
        save(&b, delta);
        close_bench(&b);
        assert_ok(merge(delta, base, merged, NULL));
        assert_same_file("folder", "merged", "model.safetensors");
        assert_same_file("folder", "merged", "config.json");
        if (strcmp(cases[i].base, "qwen3") == 0) {
            assert_fails(
                merge(delta, base, gguf, NULL), FT_EDATA,
                "a .gguf of a qwen3 model has no place for biases (\"blk.0.attn_q.bias\")");
            continue;
        }
        assert_ok(merge(delta, base, gguf, NULL));
        same_logits(&(model_options){.path = gguf}, &(model_options){.path = folder}, 1e-5);
        assert_ok(dir_remove(merged));
    }
}

/* Biases beside a base of blocks: the matrices of a merged file are the base's, byte for byte. */
static void biases_beside_blocks(void **state)
{
    (void)state;
    bench b;
    model *m = NULL, *merged = NULL;
    const char *base = test_path("q8.gguf"), *delta = test_path("beside"),
               *out = test_path("out.gguf"), *folder = test_path("unpacked");
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_ok(model_save(m, base, &(model_save_options){.type = dt_by_name("q8_0")}));
    model_close(m);
    open_bench(&b, base, "{\"save\": \"delta\", \"bias_terms\": [\"key\", \"mlp_down\"]}");
    save(&b, delta);
    b.c->result = PE_MODEL;
    save(&b, folder);
    assert_ok(merge(delta, base, out, "q8_0"));
    assert_ok(model_open(&merged, &(model_options){.path = out}));
    for (int64_t i = 0; i < b.m->weights.n; i++) {
        const io_tensor *t = &b.m->weights.tensor[i], *now = tensor_of(merged, t->name);
        assert_ptr_equal(now->type, t->type);
        assert_memory_equal(now->data, t->data, t->bytes);
    }
    assert_int_equal(merged->weights.n, b.m->weights.n + 14);
    assert_ptr_equal(tensor_of(merged, "blk.0.attn_k.bias")->type, &dt_f32);
    same_logits(&(model_options){.path = folder}, &(model_options){.path = out}, 0.1);
    model_close(merged);
    assert_ok(model_open(&merged, &(model_options){.path = folder}));
    assert_ptr_equal(merged->dtype, dt_by_name("bf16"));
    assert_ptr_equal(tensor_of(merged, "model.layers.0.self_attn.k_proj.bias")->type, &dt_f32);
    model_close(merged);
    close_bench(&b);
}

/* A folder of biases that says something else than what it holds, or nothing. */
static void damaged_biases_are_refused(void **state)
{
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"{\"peft_type\": \"BITFIT\"}", "bias_terms: must be"},
        {"{\"peft_type\": \"BITFIT\", \"bias_terms\": [3]}", "bias_terms: must be"},
        {"{\"peft_type\": \"BITFIT\", \"bias_terms\": [\"nose\"]}", "\"nose\" is neither"},
        {"{\"peft_type\": \"BITFIT\", \"bias_terms\": [\"query\"], \"scale\": 2}", "scale"},
        {"{\"peft_type\": \"BITFIT\", \"bias_terms\": [\"query\"]}", "unexpected \"model.layers.0"},
        {"{\"peft_type\": \"BITFIT\", \"bias_terms\": [\"key\", \"mlp\"]}",
         "missing \"model.layers"},
    };
    (void)state;
    bench b;
    pe_ctx *c = NULL;
    const char *delta = test_path("damaged");
    open_bench(&b, golden_model("llama"), "{\"save\": \"delta\", \"bias_terms\": [\"key\"]}");
    save(&b, delta);
    assert_ok(pe_open_adapter(&c, b.m, delta));
    pe_close(c);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        test_write_file(in(delta, "adapter_config.json"), cases[i].config, strlen(cases[i].config));
        assert_fails(pe_open_adapter(&c, b.m, delta), FT_EDATA, cases[i].says);
    }
    close_bench(&b);
}

/* --- whole runs --------------------------------------------------------------------------------------------------------- */
static void cut_and_stopped_runs(void **state)
{
    (void)state;
    write_train_files();
    write_config("lora.json",
                 "{\"type\": \"bitfit\", \"save\": \"delta\"}"); /* the run of the fixture */
    const char *ref = reference_run();
    assert_any_split_gives(ref);
    copy_run(ref, "stopped", 3);
    assert_ok(train((job){.out = "stopped", .resume = true}));
    assert_same_run("stopped", ref);
    static const char folder[] = "method.save=model";
    assert_ok(train((job){.out = "whole", .set = {folder}}));
    assert_ok(train((job){.out = "split", .set = {folder, "train.micro_batch_size=3"}}));
    assert_same_file("whole", "split", "model.safetensors");
    assert_same_file("whole", "split", "config.json");
    assert_same_file("whole", ref, "log.jsonl");
}

/* On from what a run left, with what it settled. */
static void goes_on_from_biases(void **state)
{
    (void)state;
    char from[600];
    snprintf(from, sizeof from, "method.init_from=%s", test_path(reference_run()));
    assert_ok(train((job){.out = "on", .set = {from}}));
    assert_true(number_in("on", "summary.json", "eval", "eval", "first") ==
                number_in("ref", "summary.json", "eval", "eval", "last"));
    assert_fails(train((job){.out = "other", .set = {from, "method.bias_terms=[\"key\"]"}}),
                 FT_ECONFIG, "differs from the adapter of init_from");
}

/* Parts of a bias for query, key and value together that no term names stay as they were to the bit, under every rule. */
static void parts_stay_frozen(void **state)
{
    (void)state;
    char model_path[600], type[80];
    model *m = NULL;
    snprintf(model_path, sizeof model_path, "model={\"path\":\"%s\"}", golden_model("gpt2"));
    assert_ok(model_open(&m, &(model_options){.path = golden_model("gpt2")}));
    for (int k = 0; opt_rule_names()[k]; k++) {
        arena *mem = NULL;
        st_file f = {0};
        snprintf(type, sizeof type, "optim.type=%s", opt_rule_names()[k]);
        assert_ok(train((job){.out = "parts",
                              .force = true,
                              .set = {model_path, type, "optim.weight_decay=0.1",
                                      "method.bias_terms=[\"value\",\"query\"]",
                                      "train.max_steps=4", "data.max_length=16"}}));
        assert_ok(arena_open(&mem, "t", (size_t)1 << 20));
        assert_ok(st_open(&f, test_path(in("parts", "adapter_model.safetensors")), mem));
        assert_int_equal(f.n, 2);
        for (int64_t i = 0; i < f.n; i++) {
            const float *now = f.tensor[i].data;
            const nn_param *p = model_param(m, f.tensor[i].name);
            int64_t n = p->t.dim[0] / 3;
            const float *was = tn_f32(&p->t);
            assert_memory_equal(now + n, was + n, (size_t)n * sizeof *now);
            for (int part = 0; part < 3; part += 2)
                assert_true(max_abs_diff(now + part * n, was + part * n, n) > 1e-5);
        }
        st_close(&f);
        arena_close(mem);
    }
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terms_and_modules),
        cmocka_unit_test(what_a_family_cannot_hold),
        cmocka_unit_test(neighbours_of_an_added_bias_are_zero),
        cmocka_unit_test(biases_alone_merge_into_the_folder),
        cmocka_unit_test(biases_beside_blocks),
        cmocka_unit_test(damaged_biases_are_refused),
        cmocka_unit_test(cut_and_stopped_runs),
        cmocka_unit_test(goes_on_from_biases),
        cmocka_unit_test(parts_stay_frozen),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
