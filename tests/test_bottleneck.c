/* test_bottleneck.c – bottleneck adapters: those of the adapters library are read, compute and are written again as it has
 * them (tests/golden/bottleneck, scripts/make_golden_bottleneck.py); trained whatever the split; refused by the key that
 * cannot be honoured. */
#include "golden.h"
#include "train_fixture.h"
#include "verbs.h"

#include "ft/infer.h"
#include "ft/method.h"
#include "ft/tool.h"

static const char houlsby[] =
    "{\"type\": \"adapter\", \"config\": \"double_seq_bn\", \"reduction_factor\": 5, "
    "\"init_weights\": \"houlsby\", \"dropout\": 0.2, \"name\": \"mine\"}";

/* --- goldens ------------------------------------------------------------------------------------------------------ */
/* The sequences of a golden through a model, row by row. */
static float *logits_of(model *m, ag_tape *t, const st_file *f, const nn_overlay *over)
{
    const io_tensor *len = st_find(f, "lengths"), *ids = st_find(f, "ids");
    const int64_t n = ids->dim[0];
    int32_t *pos = test_alloc((size_t)n * sizeof *pos);
    int64_t *rows = test_alloc((size_t)n * sizeof *rows);
    float *out = test_alloc((size_t)(n * m->d.vocab_size) * sizeof *out);
    nn_run r;
    nn_batch in = {.n_seq = (int)len->dim[0],
                   .len = memcpy(test_alloc(len->bytes), len->data, len->bytes),
                   .tokens = n,
                   .ids = memcpy(test_alloc(ids->bytes), ids->data, ids->bytes),
                   .pos = pos};
    for (int64_t s = 0, row = 0; s < in.n_seq; s++)
        for (int32_t k = 0; k < in.len[s]; k++) pos[row++] = k;
    for (int64_t i = 0; i < n; i++) rows[i] = i;
    ag_reset(t);
    assert_ok(nn_run_open(&r, t, &in, over, 0));
    tn_tensor *h = model_hidden(m, &r);
    assert_ok(model_logits(m, &r, h, rows, n, out, false));
    return out;
}

static void parse_file(js_doc *d, const char *path)
{
    size_t n;
    char *text = test_read_file(path, &n);
    assert_ok(js_parse(d, text, n, path, 1, JS_STRICT, FT_EDATA));
}

/* What ft writes has the library's names, shapes, values and keys. */
static void check_written(const pe_ctx *c, const char *adapter, arena *mem)
{
    st_file mine, theirs;
    js_doc have, want;
    char path[700];
    const char *out = test_path("written");
    assert_ok(dir_make(out));
    assert_ok(c->method->save(c, out));
    snprintf(path, sizeof path, "%s/adapter.safetensors", out);
    assert_ok(st_open(&mine, path, mem));
    snprintf(path, sizeof path, "%s/adapter.safetensors", adapter);
    assert_ok(st_open(&theirs, path, mem));
    assert_int_equal(mine.n, theirs.n);
    for (int64_t i = 0; i < theirs.n; i++) {
        const io_tensor *w = &theirs.tensor[i], *h = st_find(&mine, w->name);
        assert_non_null(h);
        assert_int_equal(h->nd, w->nd);
        for (int k = 0; k < w->nd; k++) assert_int_equal(h->dim[k], w->dim[k]);
        assert_int_equal(h->bytes, w->bytes);
        assert_memory_equal(h->data, w->data, w->bytes);
    }
    snprintf(path, sizeof path, "%s/adapter_config.json", out);
    parse_file(&have, path);
    snprintf(path, sizeof path, "%s/adapter_config.json", adapter);
    parse_file(&want, path);
    for (const cJSON *v = want.root->child; v; v = v->next) {
        if (!cJSON_Compare(v, js_get(have.root, v->string), true)) fail_msg("key %s", v->string);
    }
    assert_int_equal(cJSON_GetArraySize(have.root), cJSON_GetArraySize(want.root));
    /* torch takes no whole number for it */
    assert_true(js_is_float(js_get(js_get(have.root, "config"), "scaling")));
    js_close(&have);
    js_close(&want);
    st_close(&mine);
    st_close(&theirs);
    assert_ok(dir_remove(out));
}

static void check_case(const char *name, arena *mem)
{
    char dir[512], adapter[600], path[600];
    js_doc about;
    st_file f;
    model *m = NULL;
    ag_tape *t = NULL;
    pe_ctx *c = NULL;
    snprintf(dir, sizeof dir, "%s/%s", golden_path("bottleneck"), name);
    snprintf(adapter, sizeof adapter, "%s/adapter", dir);
    snprintf(path, sizeof path, "%s/golden.json", dir);
    parse_file(&about, path);
    snprintf(path, sizeof path, "%s/golden.safetensors", dir);
    assert_ok(st_open(&f, path, mem));
    assert_ok(model_open(
        &m, &(model_options){.path = golden_model(js_get(about.root, "base")->valuestring)}));
    assert_ok(ag_open(&t, (size_t)1 << 30));
    assert_ok(pe_open_adapter(&c, m, adapter));
    const io_tensor *on = st_find(&f, "logits"), *off = st_find(&f, "base_logits");
    const int64_t n = on->dim[0] * on->dim[1];
    double with = max_abs_diff(logits_of(m, t, &f, &c->over), on->data, n),
           without = max_abs_diff(logits_of(m, t, &f, NULL), off->data, n);
    if (!(with < 5e-5 && without < 5e-5))
        fail_msg("%s: adapter on %g, off %g", name, with, without);
    check_written(c, adapter, mem);
    pe_close(c);
    ag_close(t);
    model_close(m);
    st_close(&f);
    js_close(&about);
}

static void adapters_of_the_library(void **state)
{
    const char **names;
    int64_t n, seen = 0;
    arena *mem = NULL;
    (void)state;
    assert_ok(arena_open(&mem, "names", (size_t)64 << 20));
    assert_ok(dir_list(golden_path("bottleneck"), mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (str_starts(names[i], "train_")) continue;
        check_case(names[i], mem);
        seen++;
    }
    assert_true(seen >= 10);
    arena_close(mem);
}

/* --- training ------------------------------------------------------------------------------------------------------ */
static void splits_do_not_show(void **state)
{
    (void)state;
    write_train_files();
    write_config("lora.json", houlsby); /* what the fixture trains */
    assert_ok(train((job){.config = "lora.json", .out = "whole"}));
    assert_any_split_gives("whole");
    assert_ok(train((job){.config = "lora.json", .out = "packed", .set = {"data.packing=true"}}));
    assert_same_run("whole", "packed");
    copy_run("whole", "cut", 5);
    assert_ok(train((job){.config = "lora.json", .out = "cut", .resume = true}));
    assert_same_run("whole", "cut");
}

static void noise_and_bf16_are_the_same_in_any_split(void **state)
{
    (void)state;
    static const char *const kinds[] = {"train.neftune_noise_alpha=5", "train.precision=bf16"};
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++) {
        assert_ok(
            train((job){.config = "lora.json", .out = "one", .force = true, .set = {kinds[i]}}));
        assert_ok(train((job){.config = "lora.json",
                              .out = "two",
                              .force = true,
                              .set = {kinds[i], "train.micro_batch_size=2", "data.packing=true",
                                      "train.gradient_checkpointing=true"}}));
        assert_same_run("one", "two");
    }
}

static void goes_on_from_its_own(void **state)
{
    (void)state;
    static const struct {
        const char *set, *says;
    } cases[] = {
        {"method.config=par_bn", "method.config: differs from the adapter"},
        {"method.scaling=2", "method.scaling: differs from the adapter"},
        {"method.reduction_factor=4", "method.reduction_factor: differs from the adapter"},
        {"method.leave_out=[0]", "method.leave_out: differs from the adapter"},
        {"method.mh_adapter=false", "method.mh_adapter: differs from the adapter"},
        {"method.name=other", "method.name: differs from the adapter"},
        {"method.type=lora", "is an adapter of type adapters, and method.type \"lora\""},
    };
    char from[200];
    snprintf(from, sizeof from, "method.init_from=%s", test_path("whole"));
    static const char *const once = "train.max_steps=1";
    assert_ok(train((job){.config = "lora.json", .out = "on", .set = {from, once}}));
    assert_ok(train((job){.config = "on/config.resolved.json", .out = "on again"}));
    assert_same_file("on", "on again", "adapter.safetensors");
    write_config("bare.json", "{\"type\": \"adapter\", \"dropout\": 0.2}");
    assert_ok(train((job){.config = "bare.json", .out = "bare", .set = {from, once}}));
    assert_same_file("on", "bare", "adapter.safetensors");
    assert_ok(train((job){.config = "bare/config.resolved.json", .out = "bare again"}));
    assert_same_file("on", "bare again", "adapter.safetensors");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        assert_ok(dir_remove(test_path("off")));
        assert_fails(train((job){.config = "bare.json", .out = "off", .set = {from, cases[i].set}}),
                     FT_ECONFIG, cases[i].says);
    }
    write_config("plain.json", "{\"type\": \"lora\"}");
    assert_ok(train((job){.config = "plain.json", .out = "lora", .set = {once}}));
    snprintf(from, sizeof from, "method.init_from=%s", test_path("lora"));
    assert_fails(train((job){.config = "bare.json", .out = "off", .set = {from}}), FT_ECONFIG,
                 "is an adapter of type LORA");
}

/* --- first values -------------------------------------------------------------------------------------------------- */
static pe_ctx *fresh(model *m, const char *json, arena *mem)
{
    cfg_doc d = {0};
    pe_ctx *c = NULL;
    const pe_method *row = pe_by_name("adapter");
    assert_ok(pe_attach(&c, row, method_options(row, json, &d, mem), m, &(pe_start){.seed = 3}));
    cfg_close(&d);
    return c;
}

/* Mean square and largest of what is named so; −1: all are 0. */
static double largest(const pe_ctx *c, const char *part, double *square)
{
    double most = 0, sum = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < c->store.n; i++) {
        const tn_tensor *t = &c->store.param[i]->t;
        if (!strstr(c->store.param[i]->name, part)) continue;
        for (int64_t k = 0; k < tn_count(t); k++, n++) {
            const double v = (double)tn_f32(t)[k];
            most = fmax(most, fabs(v));
            sum += v * v;
        }
    }
    assert_true(n > 0);
    *square = sum / (double)n;
    return most;
}

static void values_begin_as_the_library_has_them(void **state)
{
    (void)state;
    arena *mem = NULL;
    model *m = NULL;
    double square;
    assert_ok(arena_open(&mem, "options", (size_t)1 << 20));
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    pe_ctx *c = fresh(m, "{\"reduction_factor\": 0.25}", mem);
    assert_true(largest(c, "adapter_up.weight", &square) > 0.05);
    assert_true(fabs(sqrt(square) - 0.02) < 1e-3);
    assert_true(largest(c, "bias", &square) == 0);
    pe_close(c);
    c = fresh(m, "{\"init_weights\": \"houlsby\", \"reduction_factor\": 0.25}", mem);
    assert_true(largest(c, "adapter_down.0.weight", &square) <= 0.02);
    assert_true(fabs(sqrt(square) - 0.0088) < 5e-4); /* of a normal cut at two deviations: 0.880 */
    pe_close(c);
    c = fresh(m, "{\"config\": \"par_bn\"}", mem);
    assert_true(largest(c, "adapter_up", &square) == 0);
    const double bound = 1 / sqrt((double)m->d.hidden_size);
    assert_true(largest(c, "adapter_down.0.weight", &square) <= bound);
    assert_true(fabs(sqrt(square) - bound / sqrt(3)) < 0.05 * bound);
    pe_close(c);
    /* bottlenecks as Python's // gives them, never none */
    c = fresh(m, "{\"reduction_factor\": {\"0\": 1000, \"1\": 4.5}}", mem);
    assert_int_equal(c->store.param[0]->t.dim[0], 1);
    assert_int_equal(c->store.param[4]->t.dim[0], 7);
    pe_close(c);
    model_close(m);
    arena_close(mem);
}

/* --- mistakes ------------------------------------------------------------------------------------------------------ */
static const struct {
    const char *json, *says;
} wrong_configs[] = {
    {"\"config\": \"seq_bm\"", "did you mean \"seq_bn\""},
    {"\"config\": \"compacter\"", "method.config"},
    {"\"reduction_factor\": 0", "method.reduction_factor: must be a number above 0"},
    {"\"reduction_factor\": {\"one\": 3}", "method.reduction_factor: must be a number above 0"},
    {"\"reduction_factor\": {\"0\": 3}", "a value for layer 1 nor a \"default\""},
    {"\"reduction_factor\": 1e-9", "method.reduction_factor: 1e-09 makes a bottleneck"},
    {"\"non_linearity\": \"sine\"", "method.non_linearity"},
    {"\"scaling\": 0", "method.scaling"},
    {"\"scaling\": \"learned\"", "method.scaling"},
    {"\"leave_out\": 1", "method.leave_out: must be a list of layers"},
    {"\"leave_out\": [-1]", "method.leave_out: must be a list of layers"},
    {"\"leave_out\": [0, 1]", "method.leave_out: leaves out every layer"},
    {"\"init_weights\": \"zero\"", "method.init_weights"},
    {"\"output_adapter\": false", "method.output_adapter: false with mh_adapter false"},
    {"\"mh_adapter\": 1", "method.mh_adapter"},
    {"\"dropout\": 1", "method.dropout"},
    {"\"name\": \"a.b\"", "method.name: must be a name without a point"},
    {"\"name\": \"\"", "method.name: must be a name without a point"},
    {"\"reduction_facter\": 8", "did you mean \"reduction_factor\""},
    {"\"target_modules\": \"all-linear\"", "target_modules: unknown key"},
};

static void wrong_configs_are_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(wrong_configs); i++) {
        char json[200];
        snprintf(json, sizeof json, "{\"type\": \"adapter\", %s}", wrong_configs[i].json);
        write_config("wrong.json", json);
        assert_fails(train((job){.config = "wrong.json", .out = "none"}), FT_ECONFIG,
                     wrong_configs[i].says);
    }
}

/* One key of a sound folder says something else; `inside`: of its config. value NULL: it is not there. */
static const struct {
    bool inside;
    const char *key, *value, *says; /* says NULL: it does not matter */
} changed_keys[] = {
    {true, "phm_layer", "true", "phm_layer: an adapter with this option"},
    {true, "ln_before", "true", "ln_before: an adapter with this option"},
    {true, "ln_after", "true", "ln_after: an adapter with this option"},
    {true, "use_gating", "true", "use_gating: an adapter with this option"},
    {true, "scaling", "\"learned\"", "scaling: is learned"},
    {true, "scaling", "\"channel\"", "scaling: is learned"},
    {true, "inv_adapter", "\"nice\"", "inv_adapter: an adapter with this option"},
    {true, "architecture", "\"lora\"", "architecture: an adapter with this option"},
    {true, "stochastic_depth", "0.1", "stochastic_depth: drops"},
    {true, "original_ln_after", "false", "original_ln_after: false drops"},
    {true, "residual_before_ln", "\"post_add\"", "residual_before_ln: is a form"},
    {true, "non_linearity", "\"sine\"", "non_linearity: is no activation"},
    {true, "non_linearity", NULL, "non_linearity: is missing"},
    {true, "mh_adapter", NULL, "mh_adapter: is missing"},
    {true, "reduction_factor", "-1", "reduction_factor: has a form"},
    {true, "reduction_factor", "3", "where the base needs"},
    {true, "init_weights", "\"zero\"", "init_weights: must be"},
    {true, "something_new", "7", "something_new"},
    {true, "output_adapter", "false", "unexpected"},
    {false, "hidden_size", "48", "hidden_size: 48, the base has 32"},
    {false, "name", "\"other\"", "missing \"model.layers.0.attention_adapters.adapters.other"},
    {false, "name", "\"\"", "name: is no name"},
    {false, "config", NULL, "peft_type: this key is missing"},
    {false, "config", "\"houlsby\"", "peft_type: this key is missing"},
    {false, "peft_type", "\"LORA\"", "config"},
    {true, "residual_before_ln", "false", NULL}, /* the stream is not in what the adapter reads */
    {true, "adapter_residual_before_ln", "true", NULL},
    {true, "cross_adapter", "true", NULL},
    {true, "phm_dim", "8", NULL},
    {true, "init_weights_seed", "5", NULL},
    {true, "non_linearity", "\"SiLU\"", NULL},
    {true, "scaling", "1", NULL},
    {false, "version", NULL, NULL},
    {false, "model_type", "\"llama\"", NULL},
};

static void write_changed(const char *path, const cJSON *root, size_t i)
{
    str_buf s = {0}, own = {0};
    str_adds(&own, "{");
    test_put_members(&own, js_get(root, "config"), changed_keys[i].key, changed_keys[i].value);
    str_adds(&own, "}");
    str_adds(&s, "{");
    test_put_members(&s, root, changed_keys[i].inside ? "config" : changed_keys[i].key,
                     changed_keys[i].inside ? own.data : changed_keys[i].value);
    str_adds(&s, "}");
    test_write_file(path, s.data, s.len);
    str_free(&own);
    str_free(&s);
}

static void keys_of_folders(void **state)
{
    (void)state;
    model *m = NULL;
    js_doc d;
    const char *dir = golden_path("bottleneck/llama_double/adapter"), *to = test_path("changed");
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_ok(dir_make(to));
    char from[600], path[600];
    snprintf(from, sizeof from, "%s/adapter.safetensors", dir);
    snprintf(path, sizeof path, "%s/adapter.safetensors", to);
    assert_ok(file_copy(from, path));
    snprintf(from, sizeof from, "%s/adapter_config.json", dir);
    snprintf(path, sizeof path, "%s/adapter_config.json", to);
    parse_file(&d, from);
    for (size_t i = 0; i < FT_COUNT_OF(changed_keys); i++) {
        pe_ctx *c = NULL;
        write_changed(path, d.root, i);
        if (changed_keys[i].says)
            assert_fails(pe_open_adapter(&c, m, to), FT_EDATA, changed_keys[i].says);
        else
            assert_ok(pe_open_adapter(&c, m, to));
        pe_close(c);
    }
    js_close(&d);
    /* only the pickle is there */
    snprintf(path, sizeof path, "%s/adapter_config.json", to);
    assert_ok(file_copy(from, path));
    pe_ctx *c = NULL;
    char was[600];
    snprintf(was, sizeof was, "%s/adapter.safetensors", to);
    snprintf(path, sizeof path, "%s/pytorch_adapter.bin", to);
    assert_int_equal(rename(was, path), 0);
    assert_fails(pe_open_adapter(&c, m, to), FT_EDATA, "use_safetensors=True");
    model_close(m);
}

/* --- use ----------------------------------------------------------------------------------------------------------- */
static void cannot_be_merged(void **state)
{
    (void)state;
    const char *out = test_path("merged");
    const tool_merge_options o = {.adapter = golden_path("bottleneck/llama_double/adapter"),
                                  .base = golden_model("llama"),
                                  .out = out};
    assert_fails(tool_merge_adapter(&o, &(tool_sink){test_drop, NULL}), FT_EDATA, "--adapter");
    assert_false(dir_exists(out));
}

/* Two presets on one base each; an answer token by token is what one pass over all of it says. */
static void answers_are_what_scores_say(void **state)
{
    (void)state;
    enum { NEW = 6, AT = 4 };
    static const char *const cases[] = {"llama_double", "llama_seq", "llama_par"};
    model *m = NULL;
    ag_tape *t = NULL;
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_ok(ag_open(&t, (size_t)1 << 30));
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char dir[600];
        pe_ctx *c = NULL;
        inf_answer out;
        inf_sampling s = INF_SAMPLING_DEFAULT;
        int32_t ids[AT] = {3, 6, 9, 12}, whole[AT + NEW], best[NEW];
        float logprob[NEW];
        snprintf(dir, sizeof dir, "%s/%s/adapter", golden_path("bottleneck"), cases[i]);
        assert_ok(pe_open_adapter(&c, m, dir));
        const tok_ids prompt = {.id = ids, .n = AT};
        const inf_ctx with = {.m = m, .over = &c->over, .tape = t};
        s.max_new = NEW;
        s.logprobs = true;
        assert_ok(inf_generate(&with, &prompt, 1, 1, &s, NULL, NULL, &out));
        memcpy(whole, ids, sizeof ids);
        memcpy(whole + AT, out.ids.id, (size_t)out.ids.n * sizeof *whole);
        inf_seq seq = {
            .id = whole, .n = AT + out.ids.n, .from = AT, .logprob = logprob, .best = best};
        assert_ok(inf_score(&with, &seq, 1));
        assert_memory_equal(best, out.ids.id, (size_t)out.ids.n * sizeof *best);
        for (int64_t k = 0; k < out.ids.n; k++)
            assert_true(fabsf(logprob[k] - out.logprob[k]) < 1e-4f);
        inf_answers_free(&out, 1);
        pe_close(c);
    }
    ag_close(t);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_of_the_library),
        cmocka_unit_test(splits_do_not_show),
        cmocka_unit_test(noise_and_bf16_are_the_same_in_any_split),
        cmocka_unit_test(goes_on_from_its_own),
        cmocka_unit_test(values_begin_as_the_library_has_them),
        cmocka_unit_test(wrong_configs_are_told),
        cmocka_unit_test(keys_of_folders),
        cmocka_unit_test(cannot_be_merged),
        cmocka_unit_test(answers_are_what_scores_say),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
