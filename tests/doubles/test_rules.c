/* test_rules.c – the contract of every update rule, shipped or double: what it keeps is saved by name, type and shape and comes
 * back, the plan counts it, and neither threads, micro-batches nor an interruption change a bit. */
#include "train_fixture.h"

#include "ft/kernel.h"
#include "train/train_private.h"

/* --- one optimizer over a store of odd shapes ------------------------------------------------------------------ */
enum { STEPS = 10 };

typedef struct bench {
    arena *mem;
    nn_store store;
    opt_cfg cfg;
    opt_optimizer *o;
    cfg_doc doc;
} bench;

static const struct {
    const char *name;
    int64_t rows, cols;
    nn_hyper hyper;
} shapes[] = {
    {"matrix", 7, 93, {1, 0, 1, 0, false}},  {"neighbour", 3, 5, {1, 0, 1, 0, false}},
    {"vector", 600, 0, {1, 0, 0, 0, false}}, {"nothing", 0, 0, {1, 0, 1, 0, false}},
    {"fast", 5, 300, {4, 0, 1, 0, false}},   {"fixed", 1, 1, {1, 1e-3f, 1, 0, false}},
    {"long", 1, 513, {1, 0, 1, 0, false}},   {"decayed", 2, 40, {1, 0, 0, 0.2f, false}},
};

/* The rule's struct with its defaults. */
static void *defaults_of(const opt_rule *rule, cfg_doc *d, arena *mem)
{
    static const cfg_field none[] = { CFG_END };
    void *own = arena_get(mem, rule->cfg_size + 1);
    assert_ok(cfg_open_empty(d, NULL, 0, mem));
    assert_ok(cfg_read(d, NULL, "optim", rule->fields ? rule->fields : none, own, NULL));
    assert_ok(cfg_done(d));
    return own;
}

static void open_bench(bench *b, const opt_rule *rule)
{
    *b = (bench){.cfg = {.type = rule->name,
                         .lr_scheduler_type = "linear",
                         .learning_rate = 0.01,
                         .weight_decay = 0.1,
                         .max_grad_norm = 1.0,
                         .warmup_ratio = 0.0}};
    assert_ok(arena_open(&b->mem, "bench", (size_t)1 << 24));
    assert_ok(nn_store_open(&b->store, (size_t)1 << 24));
    for (size_t i = 0; i < FT_COUNT_OF(shapes); i++) {
        nn_param *p;
        assert_ok(nn_new_param(&b->store, shapes[i].name, shapes[i].rows, shapes[i].cols, &p));
        p->hyper = shapes[i].hyper;
        size_t bytes = (size_t)tn_count(&p->t) * sizeof(float);
        if (bytes > 0) memcpy(p->t.data, test_uniform(i, tn_count(&p->t), -1.0f, 1.0f), bytes);
    }
    void *own = defaults_of(rule, &b->doc, b->mem);
    assert_ok(opt_open(&b->o, rule, &b->cfg, own, &b->store, STEPS, b->mem));
}

static void close_bench(bench *b)
{
    cfg_close(&b->doc);
    nn_store_close(&b->store);
    arena_close(b->mem);
}

static void run_steps(bench *b, int64_t first, int64_t end)
{
    for (int64_t s = first; s < end; s++) {
        double norm;
        nn_store_begin(&b->store);
        for (int64_t i = 0; i < b->store.n; i++) {
            const tn_tensor *t = &b->store.param[i]->t;
            const float *g = test_uniform((uint64_t)(1000 * s + i), tn_count(t), -1.0f, 1.0f);
            if (tn_count(t) > 0) memcpy(t->grad, g, (size_t)tn_count(t) * sizeof *g);
        }
        nn_store_finish(&b->store);
        assert_ok(opt_grad_norm(b->o, s + 1, &norm));
        opt_step(b->o, s, norm);
    }
}

static void assert_same_values(const bench *a, const bench *b)
{
    assert_int_equal(a->store.count, b->store.count);
    assert_memory_equal(a->store.w, b->store.w, (size_t)a->store.count * sizeof(float));
}

static void states_are_named_and_counted(const opt_rule *rule)
{
    bench b;
    size_t bytes = 0;
    open_bench(&b, rule);
    for (int64_t i = 0; i < b.store.n; i++) {
        opt_state s[OPT_MAX_STATES], again[OPT_MAX_STATES];
        const nn_param *p = b.store.param[i];
        int n = rule->states(b.o->own, &p->t, s);
        assert_true(n >= 0 && n <= OPT_MAX_STATES);
        assert_int_equal(rule->states(b.o->own, &p->t, again), n);
        for (int k = 0; k < n; k++) {
            assert_non_null(s[k].type->st_name);
            assert_non_null(b.o->state[i][k]);
            for (int j = 0; j < k; j++) assert_string_not_equal(s[k].name, s[j].name);
            bytes += opt_state_bytes(&s[k]);
        }
    }
    size_t planned = opt_bytes(rule, b.o->own, &b.store);
    assert_true(planned >= bytes && planned < bytes + 64 * OPT_MAX_STATES * FT_COUNT_OF(shapes));
    close_bench(&b);
}

static void values_and_states_are_all_there_is(const opt_rule *rule)
{
    bench whole, half, rest;
    open_bench(&whole, rule);
    open_bench(&half, rule);
    open_bench(&rest, rule);
    run_steps(&whole, 0, STEPS);
    run_steps(&half, 0, 5);
    memcpy(rest.store.w, half.store.w, (size_t)half.store.count * sizeof(float));
    for (int64_t i = 0; i < half.store.n; i++) {
        opt_state s[OPT_MAX_STATES];
        int n = rule->states(half.o->own, &half.store.param[i]->t, s);
        for (int k = 0; k < n; k++)
            memcpy(rest.o->state[i][k], half.o->state[i][k], opt_state_bytes(&s[k]));
    }
    run_steps(&rest, 5, STEPS);
    assert_same_values(&rest, &whole);
    close_bench(&whole);
    close_bench(&half);
    close_bench(&rest);
}

/* What an elementwise rule gets as one view gives what it gives tensor by tensor; padding stays zero. */
static void neighbours_do_not_matter(const opt_rule *rule)
{
    bench together, alone;
    opt_rule single = *rule;
    single.elementwise = false;
    open_bench(&together, rule);
    open_bench(&alone, &single);
    run_steps(&together, 0, STEPS);
    run_steps(&alone, 0, STEPS);
    assert_same_values(&together, &alone);
    for (int64_t i = 0; i < together.store.n; i++) {
        int64_t end = together.store.offset[i] + tn_count(&together.store.param[i]->t);
        int64_t next = i + 1 < together.store.n ? together.store.offset[i + 1] : end;
        for (int64_t k = end; k < next; k++) assert_true(together.store.w[k] == 0);
    }
    close_bench(&together);
    close_bench(&alone);
}

static void threads_do_not_matter(const opt_rule *rule)
{
    bench one, three;
    pool_close();
    assert_ok(pool_open(1));
    open_bench(&one, rule);
    run_steps(&one, 0, STEPS);
    pool_close();
    assert_ok(pool_open(3));
    open_bench(&three, rule);
    run_steps(&three, 0, STEPS);
    assert_same_values(&one, &three);
    close_bench(&one);
    close_bench(&three);
}

/* Rate 0 moves nothing; a rate of its own counts without the common ratio. */
static void rates_are_obeyed(const opt_rule *rule)
{
    bench b;
    open_bench(&b, rule);
    float *before = test_alloc((size_t)b.store.count * sizeof *before);
    memcpy(before, b.store.w, (size_t)b.store.count * sizeof *before);
    b.cfg.learning_rate = 0;
    run_steps(&b, 0, 1);
    assert_memory_equal(before, b.store.w, (size_t)b.store.count * sizeof *before);
    b.cfg.learning_rate = 1.0; /* "fixed" has 1e-3 at the peak */
    run_steps(&b, 0, 1);
    assert_true(b.store.w[0] != before[0]);
    float moved = b.store.w[b.store.offset[5]] - before[b.store.offset[5]];
    assert_true(moved != 0 && fabsf(moved) < 0.01f);
    close_bench(&b);
}

static void every_rule_keeps_the_contract(void **state)
{
    (void)state;
    for (int i = 0; opt_rule_at(i); i++) {
        states_are_named_and_counted(opt_rule_at(i));
        values_and_states_are_all_there_is(opt_rule_at(i));
        neighbours_do_not_matter(opt_rule_at(i));
        threads_do_not_matter(opt_rule_at(i));
        rates_are_obeyed(opt_rule_at(i));
    }
}

/* --- whole runs ------------------------------------------------------------------------------------------------------ */
static int setup(void **state)
{
    (void)state;
    write_train_files();
    write_config("lora.json", "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1,"
                              "\"target_modules\":[\"q_proj\",\"down_proj\"],\"modules_to_save\":"
                              "[\"norm\"]}");
    return 0;
}

/* optimizer.safetensors holds exactly what the rule tells of each trained tensor; returns its bytes in memory. */
static size_t check_states(const opt_rule *rule, const char *dir)
{
    arena *mem;
    st_file values, states;
    cfg_doc d = {0};
    size_t flat = 0, each = 0;
    int64_t seen = 0;
    assert_ok(arena_open(&mem, "states", (size_t)1 << 24));
    void *own = defaults_of(rule, &d, mem);
    assert_ok(st_open(&values, test_path(in(dir, "checkpoints/step-5/params.safetensors")), mem));
    assert_ok(
        st_open(&states, test_path(in(dir, "checkpoints/step-5/optimizer.safetensors")), mem));
    for (int64_t i = 0; i < values.n; i++) {
        const io_tensor *v = &values.tensor[i];
        tn_tensor t = {.type = v->type, .nd = v->nd, .dim = {v->dim[0], v->dim[1]}};
        opt_state s[OPT_MAX_STATES];
        int n = rule->states(own, &t, s);
        for (int k = 0; k < n; k++, seen++) {
            char name[256];
            snprintf(name, sizeof name, "%s.%s", v->name, s[k].name);
            const io_tensor *x = st_find(&states, name);
            if (!x) fail_msg("%s: %s is not saved", rule->name, name);
            assert_ptr_equal(x->type, s[k].type);
            assert_int_equal(x->nd, s[k].nd);
            for (int j = 0; j < x->nd; j++) assert_int_equal(x->dim[j], s[k].dim[j]);
            assert_int_equal(x->bytes, opt_state_bytes(&s[k]));
            flat += (size_t)((tn_count(&t) + 15) / 16 * 16) * (size_t)s[k].type->bytes;
            each += (x->bytes + 63) / 64 * 64;
        }
    }
    assert_int_equal(states.n, seen);
    st_close(&values);
    st_close(&states);
    cfg_close(&d);
    arena_close(mem);
    return rule->elementwise ? flat : each;
}

static double in_report(const char *text, const char *section, const char *key)
{
    js_doc d;
    assert_ok(js_parse(&d, text, strlen(text), "report", 1, JS_STRICT, FT_EDATA));
    const cJSON *v = js_get(js_get(d.root, section), key);
    assert_true(cJSON_IsNumber(v));
    double out = v->valuedouble;
    js_close(&d);
    return out;
}

static void check_plan(const char *set, const char *dir, size_t bytes)
{
    str_buf r = {0};
    const char *sets[] = {set};
    const char **files;
    int64_t n;
    arena *mem;
    double written = 0;
    train_options o = {.config = test_path("lora.json"),
                       .sets = sets,
                       .n_sets = 1,
                       .out = test_path("planned"),
                       .json = true};
    assert_ok(train_check(&o, &r));
    assert_int_equal((int64_t)in_report(r.data, "memory", "optimizer_bytes"), (int64_t)bytes);
    assert_ok(arena_open(&mem, "test", 1 << 20));
    const char *folder = arena_str(mem, test_path(in(dir, "checkpoints/step-5")));
    assert_ok(dir_list(folder, mem, &files, &n));
    for (int64_t i = 0; i < n; i++) written += (double)file_size(path_join(mem, folder, files[i]));
    arena_close(mem);
    double planned = in_report(r.data, "disk", "checkpoint_bytes");
    if (!(planned >= written && planned < written + 8192))
        fail_msg("%s: a checkpoint has %g bytes, planned were %g", set, written, planned);
    str_free(&r);
}

static void every_rule_resumes_to_the_same_bytes(void **state)
{
    (void)state;
    for (int i = 0; opt_rule_at(i); i++) {
        char set[64];
        const opt_rule *rule = opt_rule_at(i);
        snprintf(set, sizeof set, "optim.type=%s", rule->name);
        assert_ok(
            train((job){.out = "rule",
                        .force = true,
                        .set = {set, "train.checkpoint_every=1", "train.keep_checkpoints=99"}}));
        assert_true(number_in("rule", "summary.json", "last_loss", NULL, NULL) <
                    number_in("rule", "summary.json", "first_loss", NULL, NULL));
        check_plan(set, "rule", check_states(rule, "rule"));
        copy_run("rule", "again", 5);
        assert_ok(
            train((job){.out = "again", .resume = true, .set = {set, "train.micro_batch_size=2"}}));
        assert_same_run("again", "rule");
        assert_true(number_in("again", "summary.json", "resumed_from", NULL, NULL) == 5);
    }
}

static void replace_all(char *text, size_t n, const char *old, const char *new)
{
    size_t len = strlen(old);
    for (size_t i = 0; i + len <= n; i++)
        if (memcmp(text + i, old, len) == 0) memcpy(text + i, new, len);
}

/* Turns the codes of a checkpoint into another type of the same size, with a manifest that fits. */
static void retype_states(const char *dir)
{
    char old[65], new[65];
    size_t n;
    const char *path = test_path(in(dir, "optimizer.safetensors"));
    assert_ok(file_sha256(path, old));
    char *text = test_read_file(path, &n);
    replace_all(text, n, "\"U8\"", "\"I8\"");
    test_write_file(path, text, n);
    assert_ok(file_sha256(path, new));
    const char *manifest = test_path(in(dir, "manifest.json"));
    text = test_read_file(manifest, &n);
    replace_all(text, n, old, new);
    str_buf body = {0};
    str_add(&body, text, (size_t)(strstr(text, ",\n  \"seal\"") - text));
    assert_ok(train_sealed_write(manifest, &body));
    str_free(&body);
}

static void states_that_do_not_fit_are_named(void **state)
{
    (void)state;
    job j = {.out = "typed", .set = {"optim.type=coded", "train.checkpoint_every=1"}};
    assert_ok(train(j));
    copy_run("typed", "retyped", 10);
    retype_states("retyped/checkpoints/step-10");
    j.out = "retyped";
    j.resume = true;
    assert_fails(train(j), FT_EDATA, "has another type");
    assert_non_null(strstr(ft_error(), ".codes\""));
}

static void keys_of_a_rule_are_its_own(void **state)
{
    (void)state;
    assert_fails(train((job){.out = "keys", .set = {"optim.coded_momentum=0.5"}}), FT_ECONFIG,
                 "coded_momentum");
    assert_fails(train((job){.out = "keys", .set = {"optim.type=coded", "optim.adam_beta1=0.5"}}),
                 FT_ECONFIG, "adam_beta1");
    assert_fails(train((job){.out = "keys", .set = {"optim.type=coded", "optim.coded_momentum=2"}}),
                 FT_ECONFIG, "optim.coded_momentum");
    assert_ok(
        train((job){.out = "keys",
                    .set = {"optim.type=coded", "optim.coded_momentum=0.5", "train.max_steps=1"}}));
    assert_true(number_in("keys", "config.resolved.json", "optim", "coded_momentum", NULL) == 0.5);
    assert_fails(train((job){.out = "keys", .resume = true, .set = {"optim.type=codde"}}),
                 FT_ECONFIG, "optim.type");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_keeps_the_contract),
        cmocka_unit_test(every_rule_resumes_to_the_same_bytes),
        cmocka_unit_test(states_that_do_not_fit_are_named),
        cmocka_unit_test(keys_of_a_rule_are_its_own),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, setup, NULL);
    pool_close();
    return failed;
}
