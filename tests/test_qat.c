/* test_qat.c – single steps under model.qat against torchao's layers, LSQ's equations and transformers' BitNet layers: loss and
 * gradients (tests/golden/qat, made by scripts/make_golden_qat.py). */
#include "golden.h"
#include "support.h"

#include "ft/io.h"
#include "ft/kernel.h"
#include "ft/train.h"

#define RATE 0.1

static const struct {
    const char *name, *qat;
    bool online; /* the base's folder says how it is rounded */
} cases[] = {
    {"affine", "{\"type\":\"affine\",\"group_size\":8}", false},
    {"affine_int8",
     "{\"type\":\"affine\",\"weight_dtype\":\"int8\",\"group_size\":-1,\"activation_dtype\":null}",
     false},
    {"lsq", "{\"type\":\"lsq\",\"group_size\":8}", false},
    {"lsq_input",
     "{\"type\":\"lsq\",\"weight_dtype\":\"int8\",\"group_size\":-1,\"activation_dtype\":\"int8\"}",
     false},
    {"bitnet", "{\"type\":\"bitnet\"}", false},
    {"bitnet", "{\"type\":\"bitnet\"}", true},
    {"bitnet_norm", "{\"type\":\"bitnet\",\"use_rms_norm\":true}", true},
};

/* The golden base with a tokenizer, its quantization_config kept or not. */
static const char *base_model(bool online)
{
    static const char *const files[] = {"model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    const char *dir = test_path(online ? "base-online" : "base");
    char from[600], to[600];
    size_t n;
    assert_ok(dir_make(dir));
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        snprintf(from, sizeof from, "%s/%s",
                 i > 0 ? source_path("data/tiny") : golden_path("bitnet/llama_online"), files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        assert_ok(file_copy(from, to));
    }
    str_buf s = {0};
    str_adds(&s, test_read_file(golden_path("bitnet/llama_online/config.json"), &n));
    if (!online) js_drop_member(&s, "quantization_config");
    snprintf(to, sizeof to, "%s/config.json", dir);
    test_write_file(to, s.data, s.len);
    str_free(&s);
    return dir;
}

static const char *config_of(size_t i, const st_file *want)
{
    const int32_t *ids = st_find(want, "input_ids")->data;
    char path[600];
    str_buf s = {0}, line = {0};
    str_adds(&line, "{\"input_ids\": [");
    for (int k = 0; k < 7; k++) str_printf(&line, "%s%d", k ? ", " : "", (int)ids[k]);
    str_adds(&line, "]}\n");
    const char *data = test_path("train.jsonl");
    test_write_file(data, line.data, line.len);
    str_printf(
        &s,
        "{\"model\": {\"path\": \"%s\", \"qat\": %s}, \"method\": {\"type\": \"full\"},\n"
        " \"data\": {\"train\": {\"path\": \"%s\", \"format\": \"tokens\"}, \"max_length\": 32},\n"
        " \"optim\": {\"type\": \"sgd\", \"momentum\": 0, \"learning_rate\": %g, "
        "\"lr_scheduler_type\": \"constant\", \"max_grad_norm\": 1e9, \"weight_decay\": 0},\n"
        " \"train\": {\"max_steps\": 1, \"batch_size\": 1, \"precision\": \"f32\"}, "
        "\"output\": {\"dir\": \"out\"}}",
        base_model(cases[i].online), cases[i].qat, data, RATE);
    snprintf(path, sizeof path, "run%zu.json", i);
    const char *config = test_path(path);
    test_write_file(config, s.data, s.len);
    str_free(&s);
    str_free(&line);
    return config;
}

static double logged_loss(const char *out)
{
    char path[600];
    size_t len;
    js_doc d;
    snprintf(path, sizeof path, "%s/log.jsonl", out);
    char *line = test_read_file(path, &len), *end = strchr(line, '\n');
    assert_ok(js_parse(&d, line, (size_t)(end - line), "log", 1, JS_STRICT, FT_EDATA));
    const double loss = js_get(d.root, "loss")->valuedouble;
    js_close(&d);
    return loss;
}

/* What a step of plain descent moved, as the gradient. */
static void compare(const io_tensor *want, const float *start, const float *end, const char *name)
{
    const int64_t n = (int64_t)(want->bytes / sizeof(float));
    float *grad = test_alloc(want->bytes);
    for (int64_t k = 0; k < n; k++) grad[k] = (float)(((double)start[k] - (double)end[k]) / RATE);
    const double off = rel_l2(grad, want->data, n);
    if (!(off <= 1e-3)) fail_msg("%s, %s: the gradient is off by %g", name, want->name, off);
}

static void steps_are_those_of_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char path[600], name[64];
        arena *mem = NULL;
        st_file want = {0}, start = {0}, end = {0}, steps = {0};
        str_buf result = {0};
        snprintf(path, sizeof path, "qat/%s.safetensors", cases[i].name);
        assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
        assert_ok(st_open(&want, golden_path(path), mem));
        snprintf(name, sizeof name, "out%zu", i);
        const char *out = test_path(name);
        train_options o = {.config = config_of(i, &want), .out = out};
        assert_ok(train_run(&o, &result));
        str_free(&result);
        const double loss = (double)*(const float *)st_find(&want, "loss")->data;
        if (!(fabs(logged_loss(out) - loss) <= 1e-5 * loss))
            fail_msg("%s: loss %.9g, not %.9g", cases[i].name, logged_loss(out), loss);
        snprintf(path, sizeof path, "%s/model.safetensors", out);
        assert_ok(st_open(&end, path, mem));
        assert_ok(st_open(&start, golden_path("bitnet/llama_online/model.safetensors"), mem));
        snprintf(path, sizeof path, "%s/qat.safetensors", out);
        if (str_starts(cases[i].name, "lsq")) assert_ok(st_open(&steps, path, mem));
        int compared = 0;
        for (int64_t k = 0; k < want.n; k++) {
            const io_tensor *g = &want.tensor[k];
            if (!str_starts(g->name, "grad.")) continue;
            const bool learnt = str_ends(g->name, "weight_scale");
            snprintf(path, sizeof path, "start.%s", g->name + strlen("grad."));
            const io_tensor *from = st_find(learnt ? &want : &start, learnt ? path : path + 6);
            const io_tensor *to = st_find(learnt ? &steps : &end, path + strlen("start."));
            assert_true(from && to);
            compare(g, from->data, to->data, cases[i].name);
            compared++;
        }
        assert_int_equal(compared, str_starts(cases[i].name, "lsq") ? 9 : 5);
        st_close(&end);
        st_close(&start);
        st_close(&steps);
        st_close(&want);
        arena_close(mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_are_those_of_others)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
