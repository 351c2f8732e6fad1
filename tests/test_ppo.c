/* test_ppo.c – twenty steps of objective ppo against a plain loop of its formulas (tests/golden/ppo,
 * scripts/make_golden_ppo.py): every figure of the log, the adapter and the value head at the end. */
#include "support.h"

#include "ft/io.h"
#include "ft/kernel.h"
#include "ft/train.h"

enum { STEPS = 20 };

static void compare_log(const char *out, const st_file *want)
{
    char path[600];
    size_t len;
    snprintf(path, sizeof path, "%s/log.jsonl", out);
    const char *line = test_read_file(path, &len);
    for (int step = 0; step < STEPS; step++) {
        js_doc d;
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_ok(js_parse(&d, line, (size_t)(end - line), "log", step + 1, JS_STRICT, FT_EDATA));
        for (int64_t i = 0; i < want->n; i++) {
            const io_tensor *t = &want->tensor[i];
            if (!str_starts(t->name, "log.")) continue;
            const cJSON *node = js_get(d.root, t->name + strlen("log."));
            const double have = cJSON_IsNumber(node) ? node->valuedouble : (double)NAN,
                         value = (double)((const float *)t->data)[step];
            if (!(fabs(have - value) <= 1e-4 * fmax(fabs(value), 0.05)))
                fail_msg("step %d: %s %.9g, not %.9g", step + 1, t->name, have, value);
        }
        js_close(&d);
        line = end + 1;
    }
}

/* The tensors "final.NAME" that the file has; returns their number. */
static int compare_file(const char *out, const char *file, const st_file *want, arena *mem)
{
    st_file have;
    char path[600], name[256];
    snprintf(path, sizeof path, "%s/%s", out, file);
    assert_ok(st_open(&have, path, mem));
    for (int64_t i = 0; i < have.n; i++) {
        const io_tensor *h = &have.tensor[i];
        snprintf(name, sizeof name, "final.%s", h->name);
        const io_tensor *w = st_find(want, name);
        if (!w) fail_msg("%s is not in the golden file", h->name);
        assert_true(h->type == &dt_f32 && h->bytes == w->bytes);
        const double d = rel_l2(h->data, w->data, (int64_t)(w->bytes / sizeof(float)));
        if (!(d <= 1e-4)) fail_msg("%s: relative L2 %g", h->name, d);
    }
    const int n = (int)have.n;
    st_close(&have);
    return n;
}

static void check_case(const char *name)
{
    char config[600], golden[600], set[700];
    const char *sets[] = {set}, *out = test_path(name);
    str_buf result = {0};
    arena *mem;
    st_file want;
    int finals = 0;
    snprintf(config, sizeof config, "%s/%s.json", golden_path("ppo"), name);
    snprintf(golden, sizeof golden, "%s/%s.safetensors", golden_path("ppo"), name);
    snprintf(set, sizeof set, "model.path=%s", source_path("data/tiny"));
    assert_ok(train_run(&(train_options){.config = config, .sets = sets, .n_sets = 1, .out = out},
                        &result));
    str_free(&result);
    assert_ok(arena_open(&mem, "test", 1 << 24));
    assert_ok(st_open(&want, golden, mem));
    compare_log(out, &want);
    for (int64_t i = 0; i < want.n; i++) finals += str_starts(want.tensor[i].name, "final.");
    assert_int_equal(finals, compare_file(out, "adapter_model.safetensors", &want, mem) +
                                 compare_file(out, "value_head.safetensors", &want, mem));
    st_close(&want);
    arena_close(mem);
}

static void ppo_is_its_formulas(void **state)
{
    (void)state;
    check_case("ppo");
}

/* k3, whitened rewards, a penalty for no end, temperature, two completions a prompt, two mini-batches, a head to begin with. */
static void every_key_of_ppo_is_its_formula(void **state)
{
    (void)state;
    check_case("ppo_whitened");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ppo_is_its_formulas),
        cmocka_unit_test(every_key_of_ppo_is_its_formula),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
