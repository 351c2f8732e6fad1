/* test_part.c – a block part that nothing shipped has, in a family of its own: experts, layers of two kinds. Opened from a
 * config, trained, saved and opened again as a folder and as a GGUF; all of it by the rows of part_moe.c. */
#include "doubles.h"
#include "support.h"

#include "ft/infer.h"
#include "ft/method.h"
#include "model/part.h"

static const char config[] =
    "{\"model_type\":\"double\",\"vocab_size\":24,\"hidden_size\":16,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"intermediate_size\":20,"
    "\"num_experts\":5,\"num_experts_per_tok\":2,\"moe_intermediate_size\":12,"
    "\"max_position_embeddings\":32,\"initializer_range\":0.3,"
    "\"layer_types\":[\"sparse\",\"dense\",\"sparse\"]}";

enum { SEQS = 3, TOKENS = 13, VOCAB = 24 };
static const int32_t lengths[SEQS] = {5, 1, 7};
static const int32_t ids[TOKENS] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 0};
static const int32_t labels[TOKENS] = {1, 4, 1, 5, -100, -100, 6, 5, 3, 5, 8, 0, -100};
static const int32_t pos[TOKENS] = {0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5, 6};
static const uint64_t keys[TOKENS] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};

static model *open_random(void)
{
    model *m = NULL;
    const char *path = test_path("config.json");
    test_write_file(path, config, strlen(config));
    assert_ok(model_open(&m, &(model_options){.from_config = path, .seed = 7}));
    return m;
}

static model *open_saved(const char *path)
{
    model *m = NULL;
    assert_ok(model_open(&m, &(model_options){.path = path}));
    return m;
}

/* Loss of sequences [first, first + n) with gradients of 1/all. */
static double pass(model *m, pe_ctx *c, ag_tape *t, int first, int n, unsigned how)
{
    int64_t row = 0, tokens = 0;
    double sum = 0.0;
    float logprob[TOKENS];
    nn_run r;
    for (int i = 0; i < first; i++) row += lengths[i];
    for (int i = 0; i < n; i++) tokens += lengths[first + i];
    nn_batch b = {.n_seq = n,
                  .len = lengths + first,
                  .tokens = tokens,
                  .ids = ids + row,
                  .pos = pos + row,
                  .label = labels + row,
                  .row_key = keys + row};
    ag_reset(t);
    assert_ok(nn_run_open(&r, t, &b, c ? &c->over : NULL, how));
    tn_tensor *loss = model_loss(m, &r, model_hidden(m, &r), 0.1f, logprob, NULL);
    assert_ok(t->status);
    if (how & NN_RECORD) assert_ok(ag_backward(t, loss));
    for (int64_t i = 0; i < r.supervised && !t->dry; i++) sum -= (double)logprob[i];
    return 0.1 * sum;
}

static double whole(model *m, pe_ctx *c, ag_tape *t)
{
    return pass(m, c, t, 0, SEQS, 0);
}

typedef struct fixture {
    model *m;
    pe_ctx *c;
    ag_tape *t;
} fixture;

static fixture begin(const char *method)
{
    fixture f = {.m = open_random()};
    assert_ok(ag_open(&f.t, (size_t)64 << 20));
    assert_ok(pe_attach(&f.c, pe_by_name(method), NULL, f.m, &(pe_start){.seed = 1}));
    nn_store_begin(&f.c->store);
    return f;
}

static void end(fixture *f)
{
    pe_close(f->c);
    ag_close(f->t);
    model_close(f->m);
}

/* Every name of every family speaks of a part of its blocks and of a tensor that the part has. */
static void names_resolve(void **state)
{
    (void)state;
    for (int i = 0; family_at(i); i++) {
        for (const model_name *n = family_at(i)->names; n->of; n++) {
            const char *point = strchr(n->of, '.');
            bool found = !point;
            for (const model_block *b = family_at(i)->block; b->part[0]; b++) {
                for (int k = 0; point && k < MODEL_MAX_SUB && b->part[k]; k++) {
                    const model_part *p = b->part[k];
                    if (strncmp(p->name, n->of, (size_t)(point - n->of)) != 0) continue;
                    for (const model_slot *s = p->slots; s->name; s++)
                        found = found || strcmp(s->name, point + 1) == 0;
                }
            }
            if (!found) print_error("%s: %s\n", family_at(i)->model_type, n->of);
            assert_true(found);
        }
    }
}

static void names_follow_config(void **state)
{
    model *m = open_random();
    (void)state;
    assert_non_null(model_param(m, "model.layers.0.mlp.experts.4.down_proj.weight"));
    assert_null(model_param(m, "model.layers.0.mlp.experts.5.down_proj.weight"));
    assert_null(model_param(m, "model.layers.1.mlp.experts.0.down_proj.weight"));
    assert_non_null(model_param(m, "model.layers.1.mlp.down_proj.weight"));
    assert_non_null(model_site(m, "model.layers.2.mlp.experts.3.gate_proj"));
    const nn_param *gain = model_param(m, "model.layers.2.mlp.gain");
    assert_non_null(gain);
    assert_true(tn_f32(&gain->t)[3] == 0.5f);
    double weights;
    model_flop(m, 8, &weights);
    /* attention of 3 layers, two of 2 active experts of 12 and their router, one glu of 20 */
    assert_true(weights == 3 * 16 * 48 + 2 * (16 * 5 + 2 * 3 * 16 * 12) + 3 * 16 * 20);
    model_close(m);
}

static void gradient_is_right_for_any_split(void **state)
{
    fixture f = begin("full");
    int64_t n = f.c->store.count;
    (void)state;
    pass(f.m, f.c, f.t, 0, SEQS, NN_RECORD);
    nn_store_finish(&f.c->store);
    float *g = test_alloc((size_t)n * sizeof *g), *w = test_alloc((size_t)n * sizeof *w);
    memcpy(g, f.c->store.g, (size_t)n * sizeof *g);
    memcpy(w, f.c->store.w, (size_t)n * sizeof *w);
    /* along the gradient: d loss = ‖g‖² */
    double norm = 0.0, step, side[2];
    for (int64_t i = 0; i < n; i++) norm += (double)g[i] * (double)g[i];
    step = 1e-3 / sqrt(norm);
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n; i++)
            f.c->store.w[i] = (float)((double)w[i] + (k ? step : -step) * (double)g[i]);
        side[k] = whole(f.m, f.c, f.t);
    }
    double slope = (side[1] - side[0]) / (2 * step);
    if (!(fabs(slope - norm) < 5e-3 * norm)) print_error("slope %g, gradient %g\n", slope, norm);
    assert_true(fabs(slope - norm) < 5e-3 * norm);
    /* one sequence at a time, one of them with checkpointing: the same bits */
    memcpy(f.c->store.w, w, (size_t)n * sizeof *w);
    nn_store_begin(&f.c->store);
    for (int s = 0; s < SEQS; s++)
        pass(f.m, f.c, f.t, s, 1, NN_RECORD | (s == 2 ? NN_CHECKPOINT : 0));
    nn_store_finish(&f.c->store);
    assert_memory_equal(g, f.c->store.g, (size_t)n * sizeof *g);
    end(&f);
}

/* One step of gradient descent; the model saved and opened again gives the new loss. */
static void trained_model_comes_back(const char *path, double tolerance)
{
    fixture f = begin("full");
    double before = pass(f.m, f.c, f.t, 0, SEQS, NN_RECORD);
    nn_store_finish(&f.c->store);
    for (int64_t i = 0; i < f.c->store.count; i++) f.c->store.w[i] -= 0.05f * f.c->store.g[i];
    double after = whole(f.m, f.c, f.t);
    assert_true(after < before - 0.01);
    assert_ok(model_save(f.m, path, &(model_save_options){.over = &f.c->over}));
    model *saved = open_saved(path);
    double loss = whole(saved, NULL, f.t);
    if (!(fabs(loss - after) <= tolerance)) print_error("%s: %g, was %g\n", path, loss, after);
    assert_true(fabs(loss - after) <= tolerance);
    assert_int_equal(saved->n_param, f.m->n_param);
    model_close(saved);
    end(&f);
}

static void folder_comes_back(void **state)
{
    (void)state;
    trained_model_comes_back(test_path("folder"), 0.0);
}

/* Experts stand as one tensor where the names say so, and as one each where they have %e. */
static void gguf_comes_back(void **state)
{
    arena *mem = NULL;
    gguf_file g;
    const char *path = test_path("double.gguf");
    (void)state;
    trained_model_comes_back(path, 0.0);
    assert_ok(arena_open(&mem, "gguf", (size_t)1 << 24));
    assert_ok(gguf_open(&g, path, mem));
    const io_tensor *t = test_gguf_tensor(&g, "blk.2.ffn_gate_exps.weight");
    assert_non_null(t);
    assert_int_equal(t->nd, 3);
    assert_int_equal(t->dim[0], 5);
    assert_int_equal(t->dim[1], 12);
    assert_int_equal(t->dim[2], 16);
    assert_non_null(test_gguf_tensor(&g, "blk.2.ffn_down.4.weight"));
    assert_non_null(test_gguf_tensor(&g, "blk.2.ffn_gain"));
    assert_null(test_gguf_tensor(&g, "blk.1.ffn_gate_exps.weight"));
    gguf_close(&g);
    arena_close(mem);
    /* … and back: the folder of the .gguf is the folder of the model */
    model *m = open_saved(path);
    assert_ok(model_save(m, test_path("back"), NULL));
    model_close(m);
    size_t a, b;
    const char *one = test_read_file(test_path("folder/model.safetensors"), &a);
    const char *two = test_read_file(test_path("back/model.safetensors"), &b);
    assert_int_equal(a, b);
    assert_memory_equal(one, two, a);
}

/* In blocks a row, so that quantised experts are cut where one ends. */
static void quantised_gguf_opens(void **state)
{
    const char *path = test_path("q8.gguf");
    model *m = open_random(), *q;
    ag_tape *t = NULL;
    (void)state;
    assert_ok(ag_open(&t, (size_t)64 << 20));
    double loss = whole(m, NULL, t);
    assert_ok(model_save(m, path, &(model_save_options){.type = dt_by_name("f16")}));
    q = open_saved(path);
    assert_true(model_param(q, "model.layers.0.mlp.experts.3.up_proj.weight")->t.type ==
                dt_by_name("f16"));
    assert_true(model_param(q, "model.layers.0.mlp.router.weight")->t.type == &dt_f32);
    assert_true(fabs(whole(q, NULL, t) - loss) < 1e-2);
    model_close(q);
    model_close(m);
    ag_close(t);
}

/* A dry pass knows no routes and takes each expert's share. */
static void plan_is_near(void **state)
{
    size_t peak[2];
    (void)state;
    for (int dry = 0; dry < 2; dry++) {
        fixture f = begin("full");
        if (dry) {
            ag_close(f.t);
            assert_ok(ag_open(&f.t, 0));
        }
        pass(f.m, f.c, f.t, 0, SEQS, NN_RECORD);
        peak[dry] = ag_peak_bytes(f.t);
        end(&f);
    }
    assert_true((double)peak[1] > 0.8 * (double)peak[0]);
    assert_true((double)peak[1] < 1.25 * (double)peak[0]);
}

static void adapters_sit_on_experts(void **state)
{
    model *m = open_random();
    pe_ctx *c = NULL;
    ag_tape *t = NULL;
    cfg_doc d = {0};
    const pe_method *lora = pe_by_name("lora");
    const char *path = test_path("method.json"), *json = "{\"target_modules\": \"all-linear\"}";
    void *cfg = test_alloc(lora->cfg_size + 1);
    (void)state;
    test_write_file(path, json, strlen(json));
    assert_ok(cfg_open(&d, path, NULL, 0, m->mem));
    assert_ok(cfg_read(&d, d.js.root, "method", lora->fields, cfg, NULL));
    assert_ok(cfg_done(&d));
    assert_ok(ag_open(&t, (size_t)64 << 20));
    assert_ok(pe_attach(&c, lora, cfg, m, &(pe_start){.seed = 1}));
    double before = pass(m, c, t, 0, SEQS, NN_RECORD);
    assert_true(fabs(before - whole(m, NULL, t)) < 1e-6);
    for (int64_t i = 0; i < c->store.count; i++) c->store.w[i] -= 0.5f * c->store.g[i];
    assert_true(whole(m, c, t) < before - 0.01);
    assert_ok(dir_make(test_path("adapter")));
    assert_ok(lora->save(c, test_path("adapter")));
    arena *mem = NULL;
    st_file f;
    assert_ok(arena_open(&mem, "adapter", (size_t)1 << 24));
    assert_ok(st_open(&f, test_path("adapter/adapter_model.safetensors"), mem));
    assert_non_null(
        st_find(&f, "base_model.model.model.layers.2.mlp.experts.4.up_proj.lora_B.weight"));
    assert_non_null(st_find(&f, "base_model.model.model.layers.0.mlp.router.lora_A.weight"));
    st_close(&f);
    arena_close(mem);
    pe_close(c);
    ag_close(t);
    cfg_close(&d);
    model_close(m);
}

/* Each layer finds its own share of a page, those without any among them. */
static void generating_agrees_with_scoring(void **state)
{
    inf_ctx c = {.m = open_random()};
    inf_answer a;
    inf_sampling s = INF_SAMPLING_DEFAULT;
    int32_t all[14] = {3, 1, 4, 1};
    float logprob[10];
    int32_t best[10];
    (void)state;
    assert_ok(ag_open(&c.tape, (size_t)1 << 28));
    assert_int_equal(model_cache_floats(c.m, 32), 3 * 2 * 32 * 2 * 4);
    s.max_new = 10;
    s.logprobs = true;
    assert_ok(inf_generate(&c, &(tok_ids){.id = all, .n = 4}, 1, 1, &s, NULL, NULL, &a));
    assert_int_equal(a.ids.n, 10);
    memcpy(all + 4, a.ids.id, sizeof best);
    inf_seq seq = {.id = all, .n = 14, .from = 4, .logprob = logprob, .best = best};
    assert_ok(inf_score(&c, &seq, 1));
    assert_memory_equal(best, a.ids.id, sizeof best);
    assert_true(max_abs_diff(logprob, a.logprob, 10) < 1e-4);
    inf_answers_free(&a, 1);
    ag_close(c.tape);
    model_close(c.m);
}

static void missing_expert_is_named(void **state)
{
    size_t n;
    const char *path = test_path("folder/model.safetensors");
    char *bytes = test_read_file(path, &n);
    const char name[] = "layers.0.mlp.experts.4.up_proj";
    model *m = NULL;
    (void)state;
    for (size_t i = 0; i + sizeof name < n; i++)
        if (memcmp(bytes + i, name, sizeof name - 1) == 0)
            bytes[i + strlen("layers.0.mlp.experts.")] = '9';
    test_write_file(path, bytes, n);
    assert_fails(model_open(&m, &(model_options){.path = test_path("folder")}), FT_EDATA,
                 "1 tensors are missing: \"model.layers.0.mlp.experts.4.up_proj.weight\"");
    assert_null(m);
}

static void unknown_layer_type_is_named(void **state)
{
    const char *path = test_path("other.json");
    char *text = test_alloc(sizeof config);
    model *m = NULL;
    (void)state;
    memcpy(text, config, sizeof config);
    memcpy(strstr(text, "\"dense\"") + 1, "dance", 5);
    test_write_file(path, text, strlen(text));
    assert_fails(model_open(&m, &(model_options){.from_config = path}), FT_EDATA,
                 "\"dance\" is no layer of a double model");
    assert_null(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_resolve),
        cmocka_unit_test(names_follow_config),
        cmocka_unit_test(gradient_is_right_for_any_split),
        cmocka_unit_test(folder_comes_back),
        cmocka_unit_test(gguf_comes_back),
        cmocka_unit_test(quantised_gguf_opens),
        cmocka_unit_test(plan_is_near),
        cmocka_unit_test(adapters_sit_on_experts),
        cmocka_unit_test(generating_agrees_with_scoring),
        cmocka_unit_test(missing_expert_is_named),
        cmocka_unit_test(unknown_layer_type_is_named),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
