/* test_optim.c – schedules against transformers, AdamW with clipping against PyTorch, groups and divergence. */
#include "support.h"

#include "ft/kernel.h"
#include "ft/optim.h"

#define NONE ((double)NAN)
#define GOLDEN_DEFAULTS                                                                            \
    .learning_rate = GOLDEN_PEAK, .min_lr = NONE, .min_lr_rate = NONE, .min_lr_ratio = NONE,       \
    .num_cycles = NONE, .start_lr = NONE, .constant_lr = NONE, .warmup_ratio = NONE, .power = 1,   \
    .lr_end = 1e-7, .warmup_type = "linear", .decay_type = "cosine",
/* A case repeats a field where it differs from the defaults. */
#pragma GCC diagnostic ignored "-Woverride-init"
#include "golden/optim.h"

static void assert_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g, not %.17g", got, want);
}

static void schedules_match_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(golden_rates); i++) {
        opt_cfg cfg = golden_rates[i].cfg;
        cfg.lr_scheduler_type = golden_rates[i].name;
        for (int s = 0; s < GOLDEN_STEPS; s++) {
            double rate = opt_rate(&cfg, s, GOLDEN_STEPS), want = golden_rates[i].rate[s];
            if (fabs(rate - want) > 1e-15 * GOLDEN_PEAK + 1e-12 * want)
                fail_msg("case %zu (%s) step %d: %.17g, not %.17g", i, cfg.lr_scheduler_type, s,
                         rate, want);
        }
    }
}

static void own_schedules_follow_their_formulas(void **state)
{
    (void)state;
    opt_cfg c = {GOLDEN_DEFAULTS.lr_scheduler_type = "rewarm"};
    /* W = round(0.01 · 200) = 2, min = 0.1 · max, start = min */
    assert_close(opt_rate(&c, 0, 200), 3e-5, 1e-12);
    assert_close(opt_rate(&c, 1, 200), (3e-5 + 3e-4) / 2, 1e-12);
    assert_close(opt_rate(&c, 2, 200), 3e-4, 1e-12);
    assert_close(opt_rate(&c, 101, 200), (3e-5 + 3e-4) / 2, 1e-12);

    opt_cfg inf = {GOLDEN_DEFAULTS.lr_scheduler_type = "infinite", .warmup_steps = 10,
                   .cooldown_steps = 20, .anneal_steps = 10};
    const double want[][2] = {
        {0, 0},       {5, 1.5e-4},  {10, 3e-4},   {20, 2.25e-4},
        {30, 1.5e-4}, {80, 1.5e-4}, {90, 1.5e-4}, {95, 1.5e-4 * 0.44721359549995793}};
    for (size_t i = 0; i < FT_COUNT_OF(want); i++)
        assert_close(opt_rate(&inf, (int64_t)want[i][0], 100), want[i][1], 1e-12);
}

/* The two formulas as they are told to users, at every step of runs of several lengths. */
static double rewarm_by_hand(double s, double total, double w, double start, double high,
                             double low)
{
    if (s < w) return start + (high - start) * s / w;
    return low + 0.5 * (high - low) * (1 + cos(3.14159265358979323846 * (s - w) / (total - w)));
}

static double infinite_by_hand(double s, double total, double w, double c_steps, double a_steps,
                               double start, double high, double level, double low)
{
    if (s < w) return start + (high - start) * s / w;
    if (s < w + c_steps)
        return level + 0.5 * (high - level) * (1 + cos(3.14159265358979323846 * (s - w) / c_steps));
    if (s < total - a_steps) return level;
    return level * pow(low / level, (s - (total - a_steps)) / a_steps);
}

static void own_schedules_are_the_formulas_at_every_step(void **state)
{
    static const int totals[] = {1, 2, 7, 50, 51, 1000};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(totals); i++) {
        double n = totals[i], high = GOLDEN_PEAK;
        opt_cfg plain = {GOLDEN_DEFAULTS.lr_scheduler_type = "rewarm"};
        opt_cfg given = {GOLDEN_DEFAULTS.lr_scheduler_type = "rewarm", .warmup_ratio = 0.15,
                         .start_lr = 1e-6, .min_lr = 0};
        opt_cfg steps = {GOLDEN_DEFAULTS.lr_scheduler_type = "rewarm", .warmup_steps = 5,
                         .warmup_ratio = 0.5};
        opt_cfg inf = {GOLDEN_DEFAULTS.lr_scheduler_type = "infinite", .warmup_ratio = 0.1,
                       .cooldown_steps = 7, .anneal_steps = 13};
        opt_cfg flat = {GOLDEN_DEFAULTS.lr_scheduler_type = "infinite", .warmup_steps = 3,
                        .start_lr = 2e-5, .constant_lr = 7e-5, .min_lr = 1e-6};
        for (int s = 0; s < totals[i]; s++) {
            assert_close(opt_rate(&plain, s, totals[i]),
                         rewarm_by_hand(s, n, round(0.01 * n), 0.1 * high, high, 0.1 * high),
                         1e-15);
            assert_close(opt_rate(&given, s, totals[i]),
                         rewarm_by_hand(s, n, round(0.15 * n), 1e-6, high, 0), 1e-15);
            assert_close(opt_rate(&steps, s, totals[i]),
                         rewarm_by_hand(s, n, 5, 0.1 * high, high, 0.1 * high), 1e-15);
            assert_close(
                opt_rate(&inf, s, totals[i]),
                infinite_by_hand(s, n, round(0.1 * n), 7, 13, 0, high, 0.5 * high, 0.1 * high),
                1e-15);
            assert_close(opt_rate(&flat, s, totals[i]),
                         infinite_by_hand(s, n, 3, 0, 0, 2e-5, high, 7e-5, 1e-6), 1e-15);
        }
    }
}

static void warmup_ratio_rounds_as_the_reference_does(void **state)
{
    (void)state;
    opt_cfg c = {GOLDEN_DEFAULTS.lr_scheduler_type = "linear", .warmup_ratio = 0.03};
    assert_close(opt_rate(&c, 1, 70), GOLDEN_PEAK / 3, 1e-12);  /* ceil(2.1) = 3 */
    assert_close(opt_rate(&c, 1, 100), GOLDEN_PEAK / 3, 1e-12); /* 3 */
}

/* A key that is given is allowed with a schedule if, and only if, some rate of the schedule changes by it. */
static bool key_is_allowed(const char *type, const char *key, const char *value, opt_cfg *cfg)
{
    char sets[2][80], wrong[80];
    const char *const list[] = {sets[0], sets[1]};
    arena *mem;
    cfg_doc d;
    snprintf(sets[0], sizeof sets[0], "optim.lr_scheduler_type=%s", type);
    snprintf(sets[1], sizeof sets[1], "optim.%s=%s", key, value);
    assert_ok(arena_open(&mem, "test", 1 << 20));
    assert_ok(cfg_open_empty(&d, list, 2, mem));
    const cJSON *object = js_get(d.js.root, "optim");
    *cfg = (opt_cfg){GOLDEN_DEFAULTS.type = NULL};
    assert_ok(cfg_read(&d, object, "optim", opt_fields, cfg, NULL));
    cfg->learning_rate = GOLDEN_PEAK;
    assert_ok(cfg_done(&d));
    opt_check(&d, object, cfg);
    bool allowed = d.errors == 0;
    snprintf(wrong, sizeof wrong, "optim.%s: the schedule \"%s\" does not use it", key, type);
    if (!allowed && !strstr(ft_error(), wrong)) fail_msg("%s, not %s", ft_error(), wrong);
    ft_error_forget();
    cfg_close(&d);
    /* strings of the arena: the rows' own instead */
    cfg->lr_scheduler_type = type;
    cfg->warmup_type = strcmp(key, "warmup_type") == 0 ? value : "linear";
    cfg->decay_type = strcmp(key, "decay_type") == 0 ? value : "cosine";
    arena_close(mem);
    return allowed;
}

static void a_key_goes_with_the_schedules_it_changes(void **state)
{
    static const char *const types[] = {"linear",
                                        "cosine",
                                        "cosine_with_min_lr",
                                        "cosine_with_restarts",
                                        "constant_with_warmup",
                                        "inverse_sqrt",
                                        "polynomial",
                                        "warmup_stable_decay",
                                        "rewarm",
                                        "infinite",
                                        "constant"};
    static const char *const given[][2] = {
        {"warmup_steps", "6"},    {"warmup_ratio", "0.4"},   {"min_lr", "1e-6"},
        {"min_lr_rate", "0.3"},   {"min_lr_ratio", "0.3"},   {"num_cycles", "0.3"},
        {"power", "2"},           {"lr_end", "1e-5"},        {"timescale", "50"},
        {"num_decay_steps", "7"}, {"num_stable_steps", "4"}, {"warmup_type", "cosine"},
        {"decay_type", "linear"}, {"start_lr", "1e-5"},      {"constant_lr", "1e-5"},
        {"cooldown_steps", "8"},  {"anneal_steps", "2"},
    };
    enum { STEPS = 30 };
    int schedule_keys = 1; /* lr_scheduler_type */
    (void)state;
    for (const cfg_field *r = opt_fields; r->key; r++)
        schedule_keys += opt_of_schedule(r->key) && strcmp(r->key, "lr_scheduler_type") != 0;
    assert_int_equal(schedule_keys, FT_COUNT_OF(given) + 1);
    for (size_t t = 0; t < FT_COUNT_OF(types); t++) {
        for (size_t k = 0; k < FT_COUNT_OF(given); k++) {
            opt_cfg with, without;
            bool allowed = key_is_allowed(types[t], given[k][0], given[k][1], &with), used = false;
            without = (opt_cfg){GOLDEN_DEFAULTS.lr_scheduler_type = types[t]};
            /* so that there is a phase to be shaped */
            if (strstr(given[k][0], "warmup") != given[k][0] || strstr(given[k][0], "type"))
                with.warmup_steps = without.warmup_steps = 3;
            if (strcmp(given[k][0], "anneal_steps") != 0)
                with.anneal_steps = without.anneal_steps = 5;
            if (strcmp(given[k][0], "cooldown_steps") != 0)
                with.cooldown_steps = without.cooldown_steps = 5;
            for (int s = 0; s < STEPS; s++)
                used = used || opt_rate(&with, s, STEPS) != opt_rate(&without, s, STEPS);
            if (strcmp(types[t], "constant") == 0 && str_starts(given[k][0], "warmup_") &&
                strcmp(given[k][0], "warmup_type") != 0)
                assert_true(allowed && !used); /* told in a warning */
            else if (allowed != used)
                fail_msg("%s with %s: %s, and %s", given[k][0], types[t],
                         allowed ? "allowed" : "refused", used ? "used" : "not used");
        }
    }
}

static void defaults_say_nothing(void **state)
{
    opt_cfg cfg;
    (void)state;
    assert_true(key_is_allowed("linear", "lr_end", "1e-7", &cfg));
    assert_true(key_is_allowed("rewarm", "cooldown_steps", "0", &cfg));
    assert_true(key_is_allowed("constant", "power", "1.0", &cfg));
    assert_false(key_is_allowed("constant", "power", "1.5", &cfg));
}

static int warnings;

static void count_warnings(void *ctx, log_level level, const char *line)
{
    (void)ctx;
    (void)line;
    warnings += level == LOG_WARN;
}

static ft_status check_steps(const opt_cfg *cfg, int64_t total, int want)
{
    warnings = 0;
    log_set_sink(count_warnings, NULL);
    ft_status rc = opt_check_steps(cfg, total, "c.json");
    log_set_sink(NULL, NULL);
    assert_int_equal(warnings, want);
    return rc;
}

/* Refused exactly where a rate would jump to the middle of the last phase; cut short, a run is told. */
static void phases_must_fit_the_run(void **state)
{
    (void)state;
    opt_cfg inf = {GOLDEN_DEFAULTS.lr_scheduler_type = "infinite", .warmup_steps = 10,
                   .cooldown_steps = 20, .anneal_steps = 12};
    assert_ok(check_steps(&inf, 42, 0));
    assert_fails(check_steps(&inf, 41, 0), FT_ECONFIG,
                 "c.json: optim: \"infinite\" wants 42 steps (warm-up, optim.cooldown_steps and "
                 "optim.anneal_steps: 30, and 12 in the last phase), and the run has 41");
    assert_fails(check_steps(&inf, 31, 0), FT_ECONFIG, "and the run has 31");
    assert_ok(check_steps(&inf, 30, 1)); /* ends with the cooldown */
    assert_ok(check_steps(&inf, 2, 1));
    inf.anneal_steps = 0; /* a run that is to go on */
    assert_ok(check_steps(&inf, 15, 0));
    opt_cfg wsd = {GOLDEN_DEFAULTS.lr_scheduler_type = "warmup_stable_decay", .warmup_ratio = 0.5};
    assert_ok(check_steps(&wsd, 100, 0));
    wsd.num_decay_steps = 51;
    assert_fails(check_steps(&wsd, 100, 0), FT_ECONFIG, "\"warmup_stable_decay\" wants 101 steps");
    wsd.num_stable_steps = 10; /* its own middle: the run ends within the decay */
    assert_ok(check_steps(&wsd, 100, 1));
    opt_cfg linear = {GOLDEN_DEFAULTS.lr_scheduler_type = "linear", .warmup_steps = 5};
    assert_ok(check_steps(&linear, 6, 0));
    assert_ok(check_steps(&linear, 5, 1));
}

/* Two parameters in one store: 37 values, padding up to 48, 11 values, padding up to 64. */
typedef struct fixture {
    arena *mem;
    nn_store store;
    opt_cfg cfg;
    opt_optimizer *o;
    cfg_doc doc;
} fixture;
static const int64_t sizes[2] = {37, 11}, places[2] = {0, 48};

/* A rule's struct, filled by its fields from "key=value" words. */
static void *options_of(const opt_rule *rule, const char *const *sets, int n, cfg_doc *d,
                        arena *mem)
{
    static const cfg_field none[] = { CFG_END };
    void *own = arena_get(mem, rule->cfg_size + 1);
    assert_non_null(own);
    assert_ok(cfg_open_empty(d, sets, n, mem));
    assert_ok(cfg_read(d, d->js.root, "optim", rule->fields ? rule->fields : none, own, NULL));
    assert_ok(cfg_done(d));
    return own;
}

static int open_fixture(void **state)
{
    static const char *const sets[] = {"adam_beta1=0.85", "adam_beta2=0.99", "adam_epsilon=1e-7"};
    const opt_rule *rule = opt_rule_by_name("adamw");
    fixture *f = test_alloc(sizeof *f);
    const char *names[2] = {"a.weight", "b.weight"};
    assert_ok(arena_open(&f->mem, "test", 1 << 20));
    assert_ok(nn_store_open(&f->store, 1 << 20));
    for (int i = 0; i < 2; i++) {
        nn_param *p;
        assert_ok(nn_new_param(&f->store, names[i], sizes[i], 0, &p));
        if (i == 1) p->hyper = (nn_hyper){.lr_ratio = 4.0f, .decay_ratio = 0.0f};
        assert_int_equal(f->store.offset[i], places[i]);
    }
    assert_int_equal(f->store.count, 64);
    f->cfg = (opt_cfg){GOLDEN_DEFAULTS.type = "adamw", .lr_scheduler_type = "constant",
                       .learning_rate = 1e-2, .weight_decay = 0.1, .max_grad_norm = 0.5};
    void *own = options_of(rule, sets, 3, &f->doc, f->mem);
    assert_ok(opt_open(&f->o, rule, &f->cfg, own, &f->store, 5, f->mem));
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    cfg_close(&f->doc);
    nn_store_close(&f->store);
    arena_close(f->mem);
    return 0;
}

static void put(float *flat, const float *from)
{
    memcpy(flat + places[0], from, sizeof(float) * 37);
    memcpy(flat + places[1], from + 37, sizeof(float) * 11);
}

static void assert_near(const float *flat, const float *want, double tolerance)
{
    float got[48];
    memcpy(got, flat + places[0], sizeof(float) * 37);
    memcpy(got + 37, flat + places[1], sizeof(float) * 11);
    double d = rel_l2(got, want, 48);
    if (!(d <= tolerance)) fail_msg("relative L2 %g > %g", d, tolerance);
}

static void adamw_matches_torch(void **state)
{
    fixture *f = *state;
    put(f->store.w, golden_start);
    for (int s = 0; s < 5; s++) {
        double norm = 0;
        put(f->store.g, golden_grads + 48 * s);
        assert_ok(opt_grad_norm(f->o, s + 1, &norm));
        assert_true(fabs(norm - (double)golden_norms[s]) <= 1e-6 * norm);
        opt_step(f->o, s, norm);
    }
    assert_near(f->store.w, golden_w, 1e-6);
    assert_near(f->o->state[0][0], golden_m, 1e-6);
    assert_near(f->o->state[0][1], golden_v, 1e-6);
    for (int i = 37; i < 48; i++) assert_true(f->store.w[i] == 0); /* padding stays zero */
}

static void rate_zero_changes_nothing(void **state)
{
    fixture *f = *state;
    float before[64];
    put(f->store.w, golden_start);
    put(f->store.g, golden_grads);
    memcpy(before, f->store.w, sizeof before);
    f->cfg.learning_rate = 0;
    opt_step(f->o, 0, 1.0);
    assert_memory_equal(before, f->store.w, sizeof before);
}

static void clipping_follows_the_reference(void **state)
{
    (void)state;
    opt_cfg c = {.max_grad_norm = 1.0};
    assert_close(opt_clip(&c, 4.0), 1.0 / (4.0 + 1e-6), 1e-15);
    assert_true(opt_clip(&c, 0.5) == 1.0);
    c.max_grad_norm = 0;
    assert_true(opt_clip(&c, 1e9) == 1.0);
}

static void divergence_names_step_and_tensor(void **state)
{
    fixture *f = *state;
    double norm;
    put(f->store.w, golden_start);
    put(f->store.g, golden_grads);
    f->store.g[places[1] + 3] = NAN;
    assert_fails(opt_grad_norm(f->o, 7, &norm), FT_EDIVERGED, "step 7: the gradient of b.weight");
    put(f->store.g, golden_grads);
    f->store.w[5] = INFINITY;
    assert_fails(opt_grad_norm(f->o, 8, &norm), FT_EDIVERGED, "step 8: the value of a.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_match_transformers),
        cmocka_unit_test(own_schedules_follow_their_formulas),
        cmocka_unit_test(own_schedules_are_the_formulas_at_every_step),
        cmocka_unit_test(warmup_ratio_rounds_as_the_reference_does),
        cmocka_unit_test(a_key_goes_with_the_schedules_it_changes),
        cmocka_unit_test(defaults_say_nothing),
        cmocka_unit_test(phases_must_fit_the_run),
        cmocka_unit_test(clipping_follows_the_reference),
        cmocka_unit_test_setup_teardown(adamw_matches_torch, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(rate_zero_changes_nothing, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(divergence_names_step_and_tensor, open_fixture,
                                        close_fixture),
    };
    if (kn_init() != FT_OK) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
