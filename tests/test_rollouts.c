/* test_rollouts.c – objectives over sampled completions: twenty steps against TRL's trainers on the same completions
 * (tests/golden/rollouts, scripts/make_golden_rollouts.py). */
#include "golden.h"
#include "support.h"

#include "../src/objective/rollouts_private.h"

#include "ft/io.h"
#include "ft/kernel.h"
#include "ft/train.h"

enum { STEPS = 20 };

static void assert_near(double have, double want, const char *what, int step)
{
    /* a loss is a mean of terms of about 1 that nearly cancel */
    const double least = strcmp(what, "loss") == 0 ? 0.1 : 1e-2, size = fmax(fabs(want), least);
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

/* Two completions of two tokens, to prompts of two and one, as a checkpoint keeps them. */
enum { FACTS, IDS, WHOLE, WORTH, REWARDS, OLD, ARRAYS };
typedef struct saved {
    double facts[5], worth[4];
    int32_t ids[7], whole[10];
    int64_t rewards[2];
    float old[4];
    nn_array array[ARRAYS];
} saved;

static void save(saved *s)
{
    *s = (saved){.facts = {3, 2, 0.5, 0, 4},
                 .ids = {5, 6, 7, 8, 9, 10, 11},
                 .whole = {2, 2, 0, 1, 1, 1, 2, 1, 0, 1}};
    const nn_array arrays[ARRAYS] = {
        {"rollouts.facts", dt_by_name("f64"), 1, {5}, s->facts},
        {"rollouts.ids", dt_by_name("i32"), 1, {7}, s->ids},
        {"rollouts.whole", dt_by_name("i32"), 1, {10}, s->whole},
        {"rollouts.worth", dt_by_name("f64"), 1, {4}, s->worth},
        {"rollouts.rewards", dt_by_name("i64"), 1, {2}, s->rewards},
        {"rollouts.old", &dt_f32, 1, {4}, s->old},
    };
    memcpy(s->array, arrays, sizeof arrays);
}

static ft_status load(saved *s, roll *p)
{
    nn_arrays a = {.loading = true, .array = s->array, .n = ARRAYS, .mem = p->mem};
    return obj_roll_state(p->c, &a);
}

/* Its seals hold, and still nothing may lead out of it: lengths that do not fit each other, places and tokens that are not
 * there, numbers that are none. */
static void what_a_checkpoint_keeps_must_fit(void **state)
{
    static const struct {
        int array, at;
        double value; /* at −1: of the length */
    } damages[] = {
        {FACTS, 0, -1}, {FACTS, 0, NAN}, {FACTS, 1, 0},    {FACTS, 1, 1e300}, {FACTS, 4, 0.5},
        {IDS, 3, -1},   {IDS, 3, 100},   {WHOLE, 0, -1},   {WHOLE, 0, 3},     {WHOLE, 0, 1},
        {WHOLE, 1, -2}, {WHOLE, 2, -1},  {WHOLE, 2, 2},    {WHOLE, 6, 1000},  {WHOLE, 6, 1 << 30},
        {FACTS, -1, 4}, {IDS, -1, 0},    {IDS, -1, 6},     {WHOLE, -1, 0},    {WHOLE, -1, 7},
        {WHOLE, -1, 5}, {WORTH, -1, 3},  {REWARDS, -1, 1}, {OLD, -1, 0},      {OLD, -1, 3}};
    const roll_cfg cfg = {.num_generations = 1};
    model m = {.d = {.vocab_size = 100}};
    obj_ctx c = {.cfg = &cfg, .m = &m, .batch_size = 2};
    roll p = {.c = &c, .n_rewards = 1};
    saved s;
    (void)state;
    c.priv = &p;
    assert_ok(arena_open(&p.mem, "test", 1 << 20));
    save(&s);
    assert_ok(load(&s, &p));
    assert_true(p.held.n == 2 && p.held.tokens == 4 && p.held.number == 3);
    assert_true(p.held.one[1].ids[0] == 9 && p.held.one[1].at == 2);
    for (size_t i = 0; i < FT_COUNT_OF(damages); i++) {
        const int at = damages[i].at;
        save(&s);
        if (at < 0)
            s.array[damages[i].array].dim[0] = (int64_t)damages[i].value;
        else if (damages[i].array == FACTS)
            s.facts[at] = damages[i].value;
        else
            (damages[i].array == IDS ? s.ids : s.whole)[at] = (int32_t)damages[i].value;
        if (load(&s, &p) != FT_EDATA) fail_msg("damage %zu was taken", i);
    }
    save(&s);
    m.d.vocab_size = 11;
    assert_fails(load(&s, &p), FT_EDATA, "not whole");
    arena_close(p.mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(they_train_as_trl_s_do),
                                       cmocka_unit_test(what_a_checkpoint_keeps_must_fit)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
