/* test_save.c – saving models: every family goes to a folder, to GGUF and back and computes the same; shards, config
 * text, types, ties, and what a file must keep. */
#include "golden.h"
#include "support.h"

#include "ft/model.h"

#include <sys/wait.h>

static const char *const families[] = {"gpt2",
                                       "llama",
                                       "llama_bias_tied",
                                       "llama_head_dim",
                                       "llama_rope_linear",
                                       "llama_rope_yarn_a",
                                       "llama_rope_llama3",
                                       "llama_rope_longrope",
                                       "mistral",
                                       "qwen2",
                                       "qwen3",
                                       "qwen2_window",
                                       "qwen3_layer_types",
                                       "llama_rope_dynamic"};

/* Its weights take what was told before. */
static void save(const char *from, const char *to, const model_save_options *opt)
{
    model *m = NULL, *saved = NULL;
    assert_ok(model_open(&m, &(model_options){.path = from}));
    assert_ok(model_save(m, to, opt));
    const double told = model_saved_bytes(m, to, opt ? opt : &(model_save_options){0});
    assert_ok(model_open(&saved, &(model_options){.path = to}));
    assert_int_equal(told, model_bytes(saved));
    model_close(saved);
    model_close(m);
}

static void same_paths(const char *a, const char *b, double limit)
{
    same_logits(&(model_options){.path = a}, &(model_options){.path = b}, limit);
}

/* Folder → folder, folder → GGUF → GGUF, GGUF → folder: f32 all the way, the same bits. GGUF's metadata is f32, so a
 * rope base of 10000.0 and the like come back exactly too. */
static void every_family_survives(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(families); i++) {
        const char *base = golden_model(families[i]);
        const char *folder = test_path("folder"), *gguf = test_path("a.gguf"),
                   *again = test_path("b.gguf"), *back = test_path("back");
        save(base, folder, NULL);
        same_paths(base, folder, 0);
        save(base, gguf, NULL);
        /* windows and dynamic scaling have no key in GGUF: said in a warning */
        bool lost = strstr(families[i], "window") || strstr(families[i], "layer_types") ||
                    strstr(families[i], "dynamic") || strcmp(families[i], "mistral") == 0;
        if (!lost) same_paths(base, gguf, strstr(families[i], "rope") ? 1e-4 : 0);
        save(gguf, again, NULL);
        size_t n, k;
        char *x = test_read_file(gguf, &n), *y = test_read_file(again, &k);
        assert_int_equal(n, k);
        assert_memory_equal(x, y, n);
        save(gguf, back, NULL);
        same_paths(gguf, back, 0);
        assert_ok(dir_remove(folder));
        assert_ok(dir_remove(back));
    }
}

/* The rows of q and k in a GGUF of the llama architecture: row 2i + j of a head is row j·d/2 + i. */
static void gguf_permutes_rows(void **state)
{
    (void)state;
    arena *mem = NULL;
    gguf_file g = {0};
    st_file f = {0};
    const char *gguf = test_path("p.gguf");
    save(golden_model("llama"), gguf, NULL);
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    assert_ok(gguf_open(&g, gguf, mem));
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", golden_model("llama"));
    assert_ok(st_open(&f, path, mem));
    int64_t heads, kv;
    assert_ok(gguf_int(&g, "llama.attention.head_count", 0, 1, 100, &heads));
    assert_ok(gguf_int(&g, "llama.attention.head_count_kv", 0, 1, 100, &kv));
    const struct {
        const char *gguf, *hf;
        int64_t heads;
    } pairs[] = {{"blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight", heads},
                 {"blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight", kv},
                 {"blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight", 0}};
    for (size_t p = 0; p < FT_COUNT_OF(pairs); p++) {
        const io_tensor *a = test_gguf_tensor(&g, pairs[p].gguf), *b = st_find(&f, pairs[p].hf);
        assert_non_null(a);
        assert_non_null(b);
        int64_t rows = b->dim[0], cols = b->dim[1];
        int64_t d = pairs[p].heads ? rows / pairs[p].heads : 0;
        for (int64_t r = 0; r < rows; r++) {
            int64_t in = d ? r % d : 0, from = d ? r - in + (in % 2) * (d / 2) + in / 2 : r;
            assert_memory_equal((const float *)a->data + r * cols,
                                (const char *)b->data + (size_t)(from * cols) * sizeof(float),
                                (size_t)cols * sizeof(float));
        }
    }
    gguf_close(&g);
    st_close(&f);
    arena_close(mem);
}

/* Every value is rounded once, to the nearest. */
static void rounds_once(void **state)
{
    (void)state;
    static const char *const names[] = {"bf16", "f16"};
    for (size_t k = 0; k < FT_COUNT_OF(names); k++) {
        const dt_type *type = dt_by_name(names[k]);
        const char *out = test_path("rounded");
        model *m = NULL;
        arena *mem = NULL;
        st_file f = {0};
        char path[600];
        assert_ok(model_open(&m, &(model_options){.path = golden_model("qwen2")}));
        assert_ok(model_save(m, out, &(model_save_options){.type = type}));
        assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
        snprintf(path, sizeof path, "%s/model.safetensors", out);
        assert_ok(st_open(&f, path, mem));
        for (int64_t i = 0; i < m->n_param; i++) {
            const nn_param *p = &m->param[i];
            const io_tensor *t = st_find(&f, p->name);
            if (!t && m->d.tied && p == m->head->w) continue;
            assert_non_null(t);
            assert_ptr_equal(t->type, type);
            uint16_t *want = test_alloc(t->bytes);
            type->pack(want, tn_f32(&p->t), tn_count(&p->t));
            assert_memory_equal(t->data, want, t->bytes);
        }
        st_close(&f);
        arena_close(mem);
        model_close(m);
        assert_ok(dir_remove(out));
    }
}

static bool has(const char *dir, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return file_exists(path);
}

static void shards_and_their_index(void **state)
{
    (void)state;
    const char *out = test_path("sharded"), *base = golden_model("llama");
    save(base, out, &(model_save_options){.shard_bytes = 20000});
    assert_true(has(out, "model.safetensors.index.json"));
    assert_false(has(out, "model.safetensors"));
    same_paths(base, out, 0);
    /* fewer shards, then none: nothing of the earlier ones stays */
    save(base, out, &(model_save_options){.shard_bytes = 60000});
    same_paths(base, out, 0);
    save(base, out, NULL);
    assert_false(has(out, "model.safetensors.index.json"));
    assert_false(has(out, "model-00001-of-00002.safetensors"));
    arena *mem = NULL;
    const char **names;
    int64_t n;
    assert_ok(arena_open(&mem, "t", (size_t)1 << 20));
    assert_ok(dir_list(out, mem, &names, &n));
    assert_int_equal(n, 2); /* config.json, model.safetensors */
    arena_close(mem);
    same_paths(base, out, 0);
}

/* The config changes in the members that must change and in nothing else. */
static void config_keeps_its_text(void **state)
{
    (void)state;
    static char text[] =
        "{\n  \"b\": 0.0, \"dtype\": \"float32\",\n  \"eps\": 1e-05,\n"
        "  \"nest\": {\"dtype\": \"x\", \"a\": [1, \"}\"]},\n  \"last\": \"\\\"}\"\n}\n";
    model m = {.config = text, .d = {.tied = true}};
    str_buf out = {0};
    assert_ok(model_config_text(&m, &dt_f32, false, &out));
    assert_string_equal(out.data, text);
    str_clear(&out);
    assert_ok(model_config_text(&m, &dt_bf16, true, &out));
    assert_string_equal(out.data, "{\n  \"b\": 0.0, \"dtype\": \"bfloat16\",\n  \"eps\": 1e-05,\n"
                                  "  \"nest\": {\"dtype\": \"x\", \"a\": [1, \"}\"]},\n"
                                  "  \"last\": \"\\\"}\",\n  \"tie_word_embeddings\": false\n}\n");
    str_free(&out);
    static char bare[] = "{}";
    m.config = bare;
    assert_ok(model_config_text(&m, &dt_f16, false, &out));
    assert_string_equal(out.data, "{\n  \"torch_dtype\": \"float16\"\n}");
    str_free(&out);
}

/* Windows that the config tells by the numbers of layers go with the layers. */
static void windows_follow_their_layers(void **state)
{
    static const struct {
        const char *family;
        int layer[3], n;
        const char *types; /* NULL: none is written */
    } cases[] = {
        {"qwen2_window", {1}, 1, "[\"sliding_attention\"]"},
        {"qwen2_window", {0}, 1, "[\"full_attention\"]"},
        {"qwen2_window", {1, 0}, 2, "[\"sliding_attention\", \"full_attention\"]"},
        {"qwen2_window",
         {0, 0, 1},
         3,
         "[\"full_attention\", \"full_attention\", \"sliding_attention\"]"},
        {"qwen2_window", {0, 1}, 2, NULL},
        {"qwen2", {1}, 1, NULL},   /* without windows */
        {"mistral", {1}, 1, NULL}, /* all of them slide */
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        str_buf s = {0}, want = {0};
        assert_ok(model_open(&m, &(model_options){.path = golden_model(cases[i].family)}));
        assert_ok(model_config_shape(m, cases[i].layer, cases[i].n, m->d.vocab_size, false, &s));
        str_printf(&want, "\"layer_types\": %s", cases[i].types ? cases[i].types : "");
        assert_true(!strstr(s.data, want.data) == !cases[i].types);
        str_free(&want);
        str_free(&s);
        model_close(m);
    }
}

/* Blocks that are kept are the same blocks; what cannot be divided becomes f16. */
static void blocks_are_not_packed_twice(void **state)
{
    (void)state;
    const char *q8 = test_path("q8.gguf"), *again = test_path("q8b.gguf"),
               *q4 = test_path("q4.gguf");
    const dt_type *type = dt_by_name("q8_0");
    save(golden_model("qwen2"), q8, &(model_save_options){.type = type});
    save(q8, again, &(model_save_options){.type = type});
    size_t n, k;
    char *x = test_read_file(q8, &n), *y = test_read_file(again, &k);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, n);
    same_paths(golden_model("qwen2"), q8, 1.0);
    save(golden_model("qwen2"), q4, &(model_save_options){.type = dt_by_name("q4_0")});
    arena *mem = NULL;
    gguf_file g = {0};
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    assert_ok(gguf_open(&g, q4, mem));
    for (int64_t i = 0; i < g.n; i++) {
        const io_tensor *t = &g.tensor[i];
        if (t->nd == 1) assert_ptr_equal(t->type, &dt_f32);
        if (t->nd == 2 && t->dim[1] % 32 != 0) assert_ptr_equal(t->type, &dt_f16);
    }
    int64_t file_type;
    assert_ok(gguf_int(&g, "general.file_type", -1, 0, 100, &file_type));
    assert_int_equal(file_type, 2);
    gguf_close(&g);
    arena_close(mem);
}

static const char tiny[] = FT_SOURCE_DIR "/data/tiny";

static void check_types(const char *path, int file_type, const char *const want[][2], int n)
{
    arena *mem = NULL;
    gguf_file g = {0};
    int64_t number;
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    assert_ok(gguf_open(&g, path, mem));
    assert_ok(gguf_int(&g, "general.file_type", -1, 0, 100, &number));
    assert_int_equal(number, file_type);
    for (int i = 0; i < n; i++) {
        const char *type = NULL;
        for (int64_t k = 0; k < g.n; k++)
            if (strcmp(g.tensor[k].name, want[i][0]) == 0) type = g.tensor[k].type->name;
        if (!type || strcmp(type, want[i][1]) != 0)
            fail_msg("%s: %s is %s, not %s", path, want[i][0], type ? type : "not there",
                     want[i][1]);
    }
    gguf_close(&g);
    arena_close(mem);
}

/* data/tiny: four layers, rows of 96 values, those of ffn_down 256; one matrix for both ends. */
static void rows_that_do_not_fit_give_way(void **state)
{
    (void)state;
    static const struct {
        const char *type, *narrow;
        int file_type;
    } cases[] = {{"q2_k", "q4_0", 10}, {"q3_k", "q4_0", 12}, {"q4_k", "q5_0", 15},
                 {"q5_k", "q5_1", 17}, {"q6_k", "q8_0", 18}, {"q4_0", "q4_0", 2}};
    const char *path = test_path("k.gguf");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *const want[][2] = {{"token_embd.weight", cases[i].narrow},
                                       {"blk.0.attn_q.weight", cases[i].narrow},
                                       {"blk.0.ffn_norm.weight", "f32"},
                                       {"blk.3.ffn_down.weight", cases[i].type}};
        save(tiny, path, &(model_save_options){.type = dt_by_name(cases[i].type)});
        check_types(path, cases[i].file_type, want, FT_COUNT_OF(want));
    }
}

static void mixtures_keep_more_where_it_costs(void **state)
{
    (void)state;
    static const char *const q4[][2] = {
        {"token_embd.weight", "q8_0"},     {"blk.1.attn_v.weight", "q5_0"},
        {"blk.2.attn_v.weight", "q8_0"},   {"blk.3.attn_v.weight", "q8_0"},
        {"blk.0.ffn_down.weight", "q4_k"}, {"blk.1.ffn_down.weight", "q4_k"},
        {"blk.2.ffn_down.weight", "q6_k"}, {"blk.3.ffn_down.weight", "q6_k"},
        {"blk.3.ffn_up.weight", "q5_0"},   {"output_norm.weight", "f32"}};
    static const char *const q5[][2] = {{"token_embd.weight", "q8_0"},
                                        {"blk.1.attn_v.weight", "q5_1"},
                                        {"blk.1.ffn_down.weight", "q5_k"},
                                        {"blk.2.ffn_down.weight", "q6_k"}};
    static const char *const tq[][2] = {{"token_embd.weight", "q8_0"},
                                        {"blk.1.attn_v.weight", "q4_0"},
                                        {"blk.2.ffn_down.weight", "tq2_0"}};
    const char *path = test_path("mix.gguf");
    save(tiny, path,
         &(model_save_options){.type = dt_by_name("q4_k"), .mix = model_mix_by_name("q4_k_m")});
    check_types(path, 15, q4, FT_COUNT_OF(q4));
    save(tiny, path,
         &(model_save_options){.type = dt_by_name("q5_k"), .mix = model_mix_by_name("q5_k_m")});
    check_types(path, 17, q5, FT_COUNT_OF(q5));
    save(tiny, path,
         &(model_save_options){.type = dt_by_name("tq2_0"), .mix = model_mix_by_name("tq2_0")});
    check_types(path, 37, tq, FT_COUNT_OF(tq));
    assert_null(model_mix_by_name("q4_k"));
    assert_null(model_mix_by_name(NULL));
}

static ft_status add_one(void *ctx, const nn_site *s, float *w, float *b)
{
    const char *path = ctx;
    if (strcmp(s->path, path) == 0)
        for (int64_t i = 0; i < s->in * s->out; i++) w[i] += 1.0f;
    (void)b;
    return FT_OK;
}

/* A tied model whose head alone was changed is written untied, to a folder and to GGUF, with both matrices. */
static void changed_end_is_untied(void **state)
{
    (void)state;
    model *m = NULL, *saved = NULL;
    const char *outs[] = {test_path("untied"), test_path("untied.gguf")};
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama_bias_tied")}));
    assert_true(m->d.tied);
    void **slot = test_alloc((size_t)m->n_site * sizeof *slot);
    slot[m->head->index] = m; /* a method's private state: a target */
    const nn_overlay over = {.slot = slot};
    for (size_t i = 0; i < FT_COUNT_OF(outs); i++) {
        char head[] = "lm_head";
        model_save_options opt = {.over = &over, .fold = {add_one, head}};
        assert_ok(model_save(m, outs[i], &opt));
        assert_ok(model_open(&saved, &(model_options){.path = outs[i]}));
        assert_false(saved->d.tied);
        const float *e = tn_f32(&saved->embed->w->t), *h = tn_f32(&saved->head->w->t);
        assert_memory_equal(e, m->embed->w->t.data, (size_t)tn_count(&m->embed->w->t) * 4);
        for (int64_t k = 0; k < tn_count(&m->head->w->t); k++) assert_true(h[k] == e[k] + 1.0f);
        model_close(saved);
    }
    model_close(m);
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    model *m = NULL;
    const char *gguf = test_path("no.gguf"), *folder = test_path("no");
    assert_ok(model_open(&m, &(model_options){.path = golden_model("gpt2_options")}));
    assert_fails(model_save(m, gguf, NULL), FT_EDATA, "GGUF has no key");
    assert_false(file_exists(gguf));
    assert_fails(model_save(m, folder, &(model_save_options){.type = dt_by_name("q8_0")}),
                 FT_EUSAGE, "has no place in a Hugging Face folder");
    model_close(m);
    /* beyond f16 */
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    float big[4096] = {0};
    tn_tensor *t = &m->layer[0].sub[0].norm.w->t;
    assert_true(tn_count(t) <= 4096);
    void *old = t->data;
    big[1] = 70000.0f;
    t->data = big;
    assert_fails(model_save(m, folder, &(model_save_options){.type = &dt_f16}), FT_EDIVERGED,
                 "beyond the range of f16");
    t->data = old;
    model_close(m);
}

/* The third, tenth, … allocation fails: a message, nothing under the final name, no leak. */
static void failing_allocations(void **state)
{
    (void)state;
    for (int at = 1; at < 400; at += 13) {
        pid_t child = fork();
        if (child == 0) {
            char n[16];
            snprintf(n, sizeof n, "%d", at);
            setenv("FT_TEST_FAIL_AT", n, 1);
            model *m = NULL;
            ft_status rc = model_open(&m, &(model_options){.path = golden_model("llama")});
            if (rc == FT_OK) rc = model_save(m, test_path("mem.gguf"), NULL);
            model_close(m);
            bool whole = file_exists(test_path("mem.gguf"));
            _exit((rc == FT_OK) == whole && (rc == FT_OK || rc == FT_EMEM) ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        if (file_exists(test_path("mem.gguf"))) assert_int_equal(remove(test_path("mem.gguf")), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_survives),
        cmocka_unit_test(gguf_permutes_rows),
        cmocka_unit_test(rounds_once),
        cmocka_unit_test(shards_and_their_index),
        cmocka_unit_test(config_keeps_its_text),
        cmocka_unit_test(windows_follow_their_layers),
        cmocka_unit_test(blocks_are_not_packed_twice),
        cmocka_unit_test(changed_end_is_untied),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(rows_that_do_not_fit_give_way),
        cmocka_unit_test(mixtures_keep_more_where_it_costs),
        cmocka_unit_test(failing_allocations),
    };
    assert_ok(kn_init());
    assert_ok(pool_open(2));
    (void)golden_model("llama");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
