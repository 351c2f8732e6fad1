/* test_vectors.c – VeRA and IA3: frozen matrices are those of PyTorch's generator to the bit; no cut of a run and no stop
 * leaves a mark; what an adapter may not say or lack is told. Their numbers are in test_method.c and test_train_golden.c. */
#include "golden.h"
#include "train_fixture.h"

#include "ft/kernel.h"
#include "ft/method.h"

typedef struct bench {
    arena *mem;
    cfg_doc d;
    model *m;
    pe_ctx *c;
} bench;

static void open_bench(bench *b, const char *method, const char *base, const char *json)
{
    const pe_method *row = pe_by_name(method);
    *b = (bench){0};
    assert_ok(arena_open(&b->mem, "options", (size_t)1 << 24));
    assert_ok(model_open(&b->m, &(model_options){.path = golden_model(base)}));
    void *cfg = method_options(row, json, &b->d, b->mem);
    assert_ok(pe_attach(&b->c, row, cfg, b->m, &(pe_start){.seed = 3}));
}

static void close_bench(bench *b)
{
    pe_close(b->c);
    model_close(b->m);
    cfg_close(&b->d);
    arena_close(b->mem);
}

/* As PEFT drew them for the adapter of the golden case, and for the texts of its documentation: seed 0, A [2, 4]. */
static void frozen_matrices_are_of_torch(void **state)
{
    static const float first[] = {-0.00916945f, 0.65700656f, -1.00802040f, -0.90133756f};
    bench b;
    st_file f;
    char path[600];
    (void)state;
    open_bench(&b, "vera", "llama",
               "{\"r\": 6, \"projection_prng_key\": 3, \"target_modules\": [\"q_proj\", "
               "\"v_proj\", \"down_proj\"]}");
    snprintf(path, sizeof path, "%s/llama_vera/adapter/adapter_model.safetensors",
             golden_path("peft"));
    assert_ok(st_open(&f, path, b.mem));
    assert_int_equal(b.c->store.n_state, 2);
    for (int i = 0; i < 2; i++) {
        const nn_param *mine = b.c->store.state[i];
        const io_tensor *theirs = st_find(&f, mine->name);
        assert_non_null(theirs);
        assert_int_equal(theirs->bytes, (size_t)tn_count(&mine->t) * sizeof(float));
        assert_memory_equal(mine->t.data, theirs->data, theirs->bytes);
    }
    st_close(&f);
    close_bench(&b);
    open_bench(&b, "vera", "llama", "{\"r\": 1, \"target_modules\": [\"q_proj\"]}");
    const nn_param *a = b.c->store.state[0];
    for (int i = 0; i < 4; i++) /* the same words, scaled by another fan */
        assert_true(fabs((double)tn_f32(&a->t)[i] * sqrt((double)a->t.dim[1] / 4) -
                         (double)first[i]) < 1e-6);
    close_bench(&b);
}

/* --- runs that are cut or stopped ---------------------------------------------------------------------------------------- */
static const char *const methods[] = {
    "{\"type\":\"vera\",\"r\":8,\"d_initial\":0.5}",
    "{\"type\":\"vera\",\"r\":5,\"vera_dropout\":0.3,\"save_projection\":false,"
    "\"target_modules\":[\"k_proj\",\"v_proj\",\"down_proj\"],\"modules_to_save\":[\"norm\"]}",
    "{\"type\":\"ia3\",\"target_modules\":[\"q_proj\",\"v_proj\",\"up_proj\",\"o_proj\"],"
    "\"feedforward_modules\":[\"v_proj\",\"up_proj\"]}",
};

static void no_cut_leaves_a_mark(void **state)
{
    (void)state;
    write_train_files();
    for (size_t i = 0; i < FT_COUNT_OF(methods); i++) {
        write_config("lora.json", methods[i]);
        assert_ok(train((job){.out = "whole", .force = true}));
        assert_any_split_gives("whole");
        assert_ok(train((job){.out = "half", .force = true, .set = {"train.precision=bf16"}}));
        assert_ok(train((job){.out = "bits",
                              .force = true,
                              .set = {"train.precision=bf16", "train.micro_batch_size=3",
                                      "train.gradient_checkpointing=true"}}));
        assert_same_run("bits", "half");
        copy_run("whole", "stopped", 4);
        assert_ok(train((job){.out = "stopped", .resume = true}));
        assert_same_run("stopped", "whole");
        assert_ok(dir_remove(test_path("stopped")));
    }
}

/* A run that goes on from an adapter begins where it ended. */
static void goes_on_from_an_adapter(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(methods); i++) {
        char method[400], type[16];
        assert_int_equal(sscanf(methods[i], "{\"type\":\"%15[a-z0-9]", type), 1);
        write_config("lora.json", methods[i]);
        assert_ok(train((job){.out = "first", .force = true}));
        snprintf(method, sizeof method, "{\"type\":\"%s\",\"init_from\":\"first\"}", type);
        write_config("lora.json", method);
        assert_ok(train((job){.out = "second", .force = true, .set = {"optim.learning_rate=0"}}));
        assert_same_file("first", "second", "adapter_model.safetensors");
    }
}

/* --- adapters that are not whole ------------------------------------------------------------------------------------------ */
/* A golden adapter with one word of a file changed; the words have one length. */
static const struct {
    const char *name, *file, *from, *to, *says;
} broken[] = {
    {"llama_vera", "adapter_model.safetensors", "vera_B", "vera_C",
     "missing \"base_model.vera_B\""},
    {"llama_vera", "adapter_model.safetensors", "lambda_d", "lambda_e", "vera_lambda_d"},
    {"llama_vera", "adapter_config.json", "\"r\": 6", "\"r\": 7", "wrong shape"},
    {"llama_vera", "adapter_config.json", "\"r\": 6", "\"q\": 6", "q: an adapter"},
    {"llama_vera", "adapter_config.json", "\"projection_prng_key\": 3",
     "\"projection_prng_key\":-3", "projection_prng_key"},
    {"llama_vera", "adapter_config.json", "\"save_projection\": true", "\"save_projection\":false",
     "unexpected \"base_model.vera_A\""},
    {"gpt2_vera", "adapter_config.json", "\"save_projection\": false", "\"save_projection\":  true",
     "missing \"base_model.vera_A\""},
    {"llama_ia3", "adapter_model.safetensors", "ia3_l", "ia3_m", "ia3_l"},
    {"llama_ia3", "adapter_config.json", "\"init_ia3_weights\": true", "\"other_ia3_setting\":true",
     "other_ia3_setting"},
};

static void what_is_broken_is_told(void **state)
{
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(broken); i++) {
        model *m = NULL;
        pe_ctx *c = NULL;
        char path[600];
        const char *copy = test_path("broken");
        if (!dir_exists(copy)) assert_ok(dir_make(copy));
        for (int k = 0; k < 2; k++) {
            size_t n, len = strlen(broken[i].from);
            snprintf(path, sizeof path, "%s/%s/adapter/%s", golden_path("peft"), broken[i].name,
                     files[k]);
            char *data = test_read_file(path, &n);
            bool found = strcmp(files[k], broken[i].file) != 0;
            assert_int_equal(len, strlen(broken[i].to));
            for (size_t at = 0; at + len <= n && !found; at++) {
                found = memcmp(data + at, broken[i].from, len) == 0;
                if (found) memcpy(data + at, broken[i].to, len);
            }
            assert_true(found);
            snprintf(path, sizeof path, "%s/%s", copy, files[k]);
            test_write_file(path, data, n);
        }
        assert_ok(model_open(
            &m,
            &(model_options){.path = golden_model(broken[i].name[0] == 'g' ? "gpt2" : "llama")}));
        assert_fails(pe_open_adapter(&c, m, copy), FT_EDATA, broken[i].says);
        model_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_matrices_are_of_torch),
        cmocka_unit_test(no_cut_leaves_a_mark),
        cmocka_unit_test(goes_on_from_an_adapter),
        cmocka_unit_test(what_is_broken_is_told),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
