/* test_rollouts.c – objectives over sampled completions: twenty steps against TRL's trainers on the same completions
 * (tests/golden/rollouts, scripts/make_golden_rollouts.py). */
#include "golden.h"
#include "support.h"

#include "ft/io.h"
#include "ft/kernel.h"
#include "ft/train.h"

enum { STEPS = 20 };

static void assert_near(double have, double want, const char *what, int step)
{
    const double size = fabs(want) < 1e-2 ? 1e-2 : fabs(want);
    if (!(fabs(have - want) <= 1e-4 * size))
        fail_msg("step %d: %s %.9g, not %.9g", step, what, have, want);
}

/* Every figure that the golden has in that step. */
static void compare_line(const js_doc *d, const st_file *want, int step)
{
    static const struct {
        const char *tensor, *key;
    } always[] = {
        {"losses", "loss"}, {"grad_norms", "grad_norm"}, {"learning_rates", "learning_rate"}};
    for (size_t i = 0; i < FT_COUNT_OF(always); i++)
        assert_near(js_get(d->root, always[i].key)->valuedouble,
                    (double)((const float *)st_find(want, always[i].tensor)->data)[step],
                    always[i].key, step + 1);
    for (int64_t i = 0; i < want->n; i++) {
        const io_tensor *t = &want->tensor[i];
        if (!str_starts(t->name, "log.")) continue;
        const char *key = t->name + strlen("log.");
        const cJSON *node = js_get(d->root, key);
        const double value = (double)((const float *)t->data)[step];
        if (!isnan(value))
            assert_near(cJSON_IsNumber(node) ? node->valuedouble : (double)NAN, value, key,
                        step + 1);
    }
}

static void compare_log(const char *out, const st_file *want)
{
    char path[600];
    snprintf(path, sizeof path, "%s/log.jsonl", out);
    char *line = test_read_file(path, NULL);
    for (int i = 0; i < STEPS; i++) {
        js_doc d;
        char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_ok(js_parse(&d, line, (size_t)(end - line), "log", i + 1, JS_STRICT, FT_EDATA));
        compare_line(&d, want, i);
        js_close(&d);
        line = end + 1;
    }
}

static void compare_result(const char *out, const st_file *want, arena *mem)
{
    st_file have;
    char path[600];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", out);
    assert_ok(st_open(&have, path, mem));
    for (int64_t i = 0; i < have.n; i++) {
        char name[300];
        snprintf(name, sizeof name, "final.%s", have.tensor[i].name);
        const io_tensor *w = st_find(want, name);
        assert_true(w && w->bytes == have.tensor[i].bytes);
        const double d = rel_l2(have.tensor[i].data, w->data, (int64_t)(w->bytes / sizeof(float)));
        if (!(d <= 1e-4)) fail_msg("%s: relative L2 %g", name, d);
    }
    st_close(&have);
}

static void they_train_as_trl_s_do(void **state)
{
    static const char *const cases[] = {"grpo",          "grpo_again", "grpo_delta",
                                        "grpo_sequence", "grpo_cispo", "rloo"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char config[600], golden[600], set[600];
        const char *sets[] = {set}, *out = test_path(cases[i]);
        str_buf result = {0};
        arena *mem;
        st_file want;
        snprintf(config, sizeof config, "%s/%s.json", golden_path("rollouts"), cases[i]);
        snprintf(golden, sizeof golden, "%s/%s.safetensors", golden_path("rollouts"), cases[i]);
        snprintf(set, sizeof set, "model.path=%s", source_path("data/tiny"));
        train_options o = {.config = config, .sets = sets, .n_sets = 1, .out = out};
        assert_ok(train_run(&o, &result));
        str_free(&result);
        assert_ok(arena_open(&mem, "test", 1 << 24));
        assert_ok(st_open(&want, golden, mem));
        compare_log(out, &want);
        compare_result(out, &want, mem);
        st_close(&want);
        arena_close(mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(they_train_as_trl_s_do)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
