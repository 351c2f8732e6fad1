/* test_optim_rules.c – the update rules but adamw against their reference implementations (tests/golden/optim_rules.safetensors,
 * scripts/make_golden_optim.py): torch's SGD and RMSprop, bitsandbytes' Lion, transformers' Adafactor, and the rule of
 * bitsandbytes' block-wise AdamW in plain numpy. Ratios of rate and decay, clipping, tensors of one value and around 4096. */
#include "support.h"

#include "ft/io.h"
#include "ft/kernel.h"
#include "ft/optim.h"

enum { STEPS = 5 };

typedef struct shape {
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
} shape;
static const shape small[] = {{"a", 7, 93}, {"b", 37, 0},  {"c", 1, 0},
                              {"d", 1, 1},  {"e", 1, 300}, {"f", 300, 1}};
static const shape both[] = {{"a", 7, 93},   {"b", 37, 0},  {"c", 1, 0},    {"d", 1, 1},
                             {"e", 1, 300},  {"f", 300, 1}, {"g", 4095, 0}, {"h", 4096, 0},
                             {"i", 17, 241}, {"k", 5, 1000}};
static const shape wide[] = {{"m", 600, 700}};

static const struct {
    const char *name, *rule;
    const char *set[6];
    bool own_rate; /* the rule's: no learning_rate, no ratios */
    const shape *shapes;
    int n;
} cases[] = {
    {"sgd", "sgd", {0}, false, small, 6},
    {"sgd_momentum", "sgd", {"momentum=0.9", "dampening=0.3"}, false, small, 6},
    {"sgd_nesterov", "sgd", {"momentum=0.8", "nesterov=true"}, false, small, 6},
    {"rmsprop", "rmsprop", {0}, false, small, 6},
    {"rmsprop_centered",
     "rmsprop",
     {"alpha=0.9", "eps=1e-6", "momentum=0.7", "centered=true"},
     false,
     small,
     6},
    {"lion", "lion", {0}, false, small, 6},
    {"lion_betas", "lion", {"adam_beta1=0.95", "adam_beta2=0.98"}, false, small, 6},
    {"adafactor", "adafactor", {0}, false, small, 6},
    {"adafactor_scaled",
     "adafactor",
     {"scale_parameter=true", "beta1=0.9", "clip_threshold=0.8", "decay_rate=-0.7",
      "eps=[1e-20,1e-2]"},
     false,
     small,
     6},
    {"adafactor_relative",
     "adafactor",
     {"scale_parameter=true", "relative_step=true", "warmup_init=true"},
     true,
     small,
     6},
    {"adafactor_large", "adafactor", {0}, false, wide, 1},
    {"adamw8bit", "adamw8bit", {0}, false, both, 10},
    {"adamw8bit_betas",
     "adamw8bit",
     {"adam_beta1=0.8", "adam_beta2=0.95", "adam_epsilon=1e-6"},
     false,
     both + 6,
     4},
};

/* u in [−1, 1) by the weight rule of scripts/oracle.py; x[i] = u/2, or u³ · scale. */
static void fill(float *x, int64_t n, const char *name, double scale)
{
    uint32_t state = 2166136261u;
    for (const char *p = name; *p; p++) state = (state ^ (uint8_t)*p) * 16777619u;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        double u = ((double)(state >> 8) - 8388608.0) / 8388608.0;
        x[i] = (float)(scale > 0 ? u * u * u * scale : 0.5 * u);
    }
}

typedef struct bench {
    arena *mem;
    nn_store store;
    opt_cfg cfg;
    opt_optimizer *o;
    cfg_doc doc;
} bench;

static void open_bench(bench *b, size_t at)
{
    static const cfg_field none[] = { CFG_END };
    const opt_rule *rule = opt_rule_by_name(cases[at].rule);
    int sets = 0;
    *b = (bench){.cfg = {.type = cases[at].rule,
                         .lr_scheduler_type = "linear",
                         .learning_rate = cases[at].own_rate ? (double)NAN : 0.01,
                         .weight_decay = 0.1,
                         .max_grad_norm = 0.5}};
    assert_non_null(rule);
    assert_ok(arena_open(&b->mem, "bench", (size_t)1 << 25));
    assert_ok(nn_store_open(&b->store, (size_t)1 << 25));
    for (int i = 0; i < cases[at].n; i++) {
        const shape *s = &cases[at].shapes[i];
        nn_param *p;
        assert_ok(nn_new_param(&b->store, s->name, s->rows, s->cols, &p));
        p->hyper = (nn_hyper){.lr_ratio = 1, .decay_ratio = 1};
        if (*s->name == 'b' && !cases[at].own_rate) p->hyper = (nn_hyper){.lr_ratio = 4};
        if (*s->name == 'c' && !cases[at].own_rate) p->hyper.lr_fixed = 1e-3f;
        fill(tn_f32(&p->t), tn_count(&p->t), s->name, 0);
    }
    while (cases[at].set[sets]) sets++;
    void *own = arena_get(b->mem, rule->cfg_size + 1);
    assert_ok(cfg_open_empty(&b->doc, cases[at].set, sets, b->mem));
    assert_ok(
        cfg_read(&b->doc, b->doc.js.root, "optim", rule->fields ? rule->fields : none, own, NULL));
    if (rule->check) rule->check(&b->doc, b->doc.js.root, &b->cfg, own);
    assert_ok(cfg_done(&b->doc));
    assert_ok(opt_open(&b->o, rule, &b->cfg, own, &b->store, STEPS, b->mem));
}

static void close_bench(bench *b)
{
    cfg_close(&b->doc);
    nn_store_close(&b->store);
    arena_close(b->mem);
}

static void run_step(bench *b, int64_t s)
{
    double norm;
    for (int64_t i = 0; i < b->store.n; i++) {
        char name[16];
        const nn_param *p = b->store.param[i];
        snprintf(name, sizeof name, "%s.%d", p->name, (int)s);
        fill(p->t.grad, tn_count(&p->t), name, s == 2 ? 0.01 : 1.0);
    }
    assert_ok(opt_grad_norm(b->o, s + 1, &norm));
    opt_step(b->o, s, norm);
}

/* Values to 1e-6 relative L2, and what they moved by to 1e-5: weights hardly move in five steps. */
static void compare(const bench *b, size_t at, const st_file *want)
{
    for (int64_t i = 0; i < b->store.n; i++) {
        char key[64];
        const nn_param *p = b->store.param[i];
        int64_t n = tn_count(&p->t), every = n < 10000 ? 1 : 97, kept = (n + every - 1) / every;
        snprintf(key, sizeof key, "%s.%s", cases[at].name, p->name);
        const io_tensor *w = st_find(want, key);
        if (!w) fail_msg("no golden %s", key);
        assert_int_equal(w->bytes, (size_t)kept * sizeof(float));
        float *start = test_alloc((size_t)n * sizeof *start);
        float *got = test_alloc((size_t)kept * sizeof *got);
        float *moved = test_alloc((size_t)kept * sizeof *moved);
        float *should = test_alloc((size_t)kept * sizeof *should);
        fill(start, n, p->name, 0);
        for (int64_t k = 0; k < kept; k++) {
            got[k] = tn_f32(&p->t)[k * every];
            moved[k] = got[k] - start[k * every];
            should[k] = ((const float *)w->data)[k] - start[k * every];
        }
        double d = rel_l2(got, w->data, kept), m = rel_l2(moved, should, kept);
        if (!(d <= 1e-6 && m <= 1e-5)) fail_msg("%s: values %g, their moves %g", key, d, m);
    }
}

static void rules_match_their_references(void **state)
{
    arena *mem;
    st_file want;
    (void)state;
    assert_ok(arena_open(&mem, "golden", (size_t)1 << 24));
    assert_ok(st_open(&want, golden_path("optim_rules.safetensors"), mem));
    for (size_t at = 0; at < FT_COUNT_OF(cases); at++) {
        bench b;
        open_bench(&b, at);
        for (int64_t s = 0; s < STEPS; s++) run_step(&b, s);
        compare(&b, at, &want);
        close_bench(&b);
    }
    st_close(&want);
    arena_close(mem);
}

/* Codes and largest magnitudes of all tensors from 4096 elements on; below, the states are f32. */
static void codes_of_moments_are_the_nearest_entries(void **state)
{
    arena *mem;
    st_file want;
    (void)state;
    assert_ok(arena_open(&mem, "golden", (size_t)1 << 24));
    assert_ok(st_open(&want, golden_path("optim_rules.safetensors"), mem));
    for (size_t at = 0; at < FT_COUNT_OF(cases); at++) {
        bench b;
        if (strcmp(cases[at].rule, "adamw8bit") != 0) continue;
        open_bench(&b, at);
        for (int64_t s = 0; s < STEPS; s++) run_step(&b, s);
        for (int64_t i = 0; i < b.store.n; i++) {
            opt_state s[OPT_MAX_STATES];
            const nn_param *p = b.store.param[i];
            int n = b.o->rule->states(b.o->own, &p->t, s);
            assert_int_equal(n, tn_count(&p->t) < 4096 ? 2 : 4);
            for (int k = 0; k < n; k++) {
                char key[64];
                snprintf(key, sizeof key, "%s.%s.%s", cases[at].name, p->name, s[k].name);
                const io_tensor *x = st_find(&want, key);
                assert_true((x != NULL) == (n == 4));
                if (!x) continue;
                assert_int_equal(x->bytes, opt_state_bytes(&s[k]));
                if (k < 2)
                    assert_memory_equal(x->data, b.o->state[i][k], x->bytes);
                else
                    assert_true(rel_l2(b.o->state[i][k], x->data,
                                       (int64_t)(x->bytes / sizeof(float))) < 1e-6);
            }
        }
        close_bench(&b);
    }
    st_close(&want);
    arena_close(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_match_their_references),
        cmocka_unit_test(codes_of_moments_are_the_nearest_entries),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
