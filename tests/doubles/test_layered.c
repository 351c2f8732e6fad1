/* test_layered.c – the hooks inside a layer in a whole run: the same bytes however a step is cut and wherever it was resumed,
 * gradients as differences say, and an adapter that scores and generates what was trained. */
#include "train_fixture.h"

#include "ft/infer.h"
#include "ft/method.h"

static const char layered[] = "{\"type\": \"layered\", \"num_virtual_tokens\": 2, "
                              "\"target_modules\": [\"v_proj\", \"down_proj\"], "
                              "\"modules_to_save\": [\"norm\"]}";

static void a_run_keeps_its_bytes(void **state)
{
    static const char *const cut[] = {"train.micro_batch_size=1", "train.micro_batch_size=2",
                                      "train.micro_batch_size=4",
                                      "train.gradient_checkpointing=true"};
    (void)state;
    write_train_files();
    write_config("layered.json", layered);
    assert_ok(train((job){.config = "layered.json",
                          .out = "whole",
                          .set = {"train.keep_checkpoints=99", "train.eval_every=5"}}));
    assert_true(number_in("whole", "summary.json", "last_loss", NULL, NULL) <
                number_in("whole", "summary.json", "first_loss", NULL, NULL));
    for (size_t i = 0; i < FT_COUNT_OF(cut); i++) {
        assert_ok(train((job){.config = "layered.json",
                              .out = "cut",
                              .force = true,
                              .set = {cut[i], "train.eval_every=5"}}));
        assert_same_run("whole", "cut");
    }
    for (int step = 2; step <= 8; step += 3 - step % 2) {
        copy_run("whole", "part", step);
        assert_ok(train((job){.config = "layered.json",
                              .out = "part",
                              .resume = true,
                              .set = {"train.eval_every=5"}}));
        assert_same_run("whole", "part");
    }
}

/* --- the adapter that the run left --------------------------------------------------------------------------------- */
typedef struct opened {
    model *m;
    pe_ctx *pe;
    ag_tape *t;
} opened;

static opened open_run(void)
{
    opened o;
    assert_ok(
        model_open(&o.m, &(model_options){.from_config = test_path("model.json"), .seed = 42}));
    const pe_method *method = pe_by_name("layered"); /* to go on from, with gradients */
    assert_ok(pe_attach(&o.pe, method, test_alloc(method->cfg_size), o.m,
                        &(pe_start){.load_dir = test_path("whole")}));
    assert_string_equal(o.pe->method->name, "layered");
    assert_ok(ag_open(&o.t, (size_t)1 << 30));
    return o;
}

static void close_run(opened *o)
{
    ag_close(o->t);
    pe_close(o->pe);
    model_close(o->m);
}

/* Mean over the evaluation's tokens; the first two of a sample are not supervised (write_tokens). */
static double plain_loss(const inf_ctx *c)
{
    char *text = test_read_file(test_path("eval.jsonl"), NULL);
    double sum = 0;
    int n = 0;
    for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n")) {
        int32_t id[32];
        float logprob[32];
        inf_seq s = {.id = id, .from = 2, .logprob = logprob};
        for (at = strchr(at, '[') + 1; at[-1] != ']'; at++)
            id[s.n++] = (int32_t)strtol(at, &at, 10);
        assert_ok(inf_score(c, &s, 1));
        for (int64_t i = 0; i < s.n - 2; i++, n++) sum -= (double)logprob[i];
    }
    return sum / n;
}

static void it_scores_what_was_evaluated(void **state)
{
    (void)state;
    opened o = open_run();
    const char *log = test_read_file(test_path("whole/log.jsonl"), NULL);
    const char *last = strstr(strstr(log, "{\"step\":10,"), "\"eval_loss\":");
    double want = strtod(last + strlen("\"eval_loss\":"), NULL);
    double have = plain_loss(&(inf_ctx){.m = o.m, .over = &o.pe->over, .tape = o.t});
    if (fabs(have - want) > 1e-6 * want) fail_msg("%.9g was logged, %.9g is scored", want, have);
    assert_true(fabs(plain_loss(&(inf_ctx){.m = o.m, .tape = o.t}) - want) > 0.1);
    close_run(&o);
}

/* Token by token out of a cache, which holds the prefix from the first pass on. */
static void it_answers_what_it_scores(void **state)
{
    enum { NEW = 6, N = 2 };
    (void)state;
    opened o = open_run();
    const inf_ctx c = {.m = o.m, .over = &o.pe->over, .tape = o.t};
    int32_t ids[N][4] = {{3, 6, 9, 12}, {40}};
    const tok_ids prompts[N] = {{.id = ids[0], .n = 4}, {.id = ids[1], .n = 1}};
    inf_answer out[N];
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.max_new = NEW;
    s.logprobs = true;
    assert_ok(inf_generate(&c, prompts, N, 1, &s, NULL, NULL, out));
    for (int i = 0; i < N; i++) {
        int32_t whole[10], best[NEW];
        float logprob[NEW];
        int64_t n = prompts[i].n;
        memcpy(whole, ids[i], (size_t)n * sizeof *whole);
        memcpy(whole + n, out[i].ids.id, NEW * sizeof *whole);
        inf_seq seq = {.id = whole, .n = n + NEW, .from = n, .logprob = logprob, .best = best};
        assert_ok(inf_score(&c, &seq, 1));
        assert_memory_equal(best, whole + n, sizeof best);
        assert_true(max_abs_diff(logprob, out[i].logprob, NEW) < 1e-4);
    }
    inf_answers_free(out, N);
    close_run(&o);
}

/* --- gradients ------------------------------------------------------------------------------------------------------ */
static double loss_of(const opened *o, unsigned how)
{
    static const int32_t len[] = {5, 2}, ids[] = {3, 17, 5, 40, 8, 2, 33};
    static const int32_t pos[] = {0, 1, 2, 3, 4, 0, 1}, label[] = {17, 5, 40, 8, -100, 33, -100};
    const nn_batch b = {
        .n_seq = 2, .len = len, .tokens = 7, .ids = ids, .pos = pos, .label = label};
    nn_run r;
    float logprob[7];
    double sum = 0;
    ag_reset(o->t);
    nn_store_begin(&o->pe->store);
    assert_ok(nn_run_open(&r, o->t, &b, &o->pe->over, NN_RECORD | how));
    tn_tensor *loss = model_loss(o->m, &r, model_hidden(o->m, &r), 1.0f, logprob, NULL);
    assert_ok(o->t->status);
    assert_ok(ag_backward(o->t, loss));
    nn_store_finish(&o->pe->store);
    for (int64_t i = 0; i < r.supervised; i++) sum -= (double)logprob[i];
    return sum;
}

/* Of keys and values and of both halves of a bottleneck, each along a direction. What a grid stands between has no
 * derivative: there it is enough that a gradient arrives. The step is one that the rounding of the loss does not show in. */
static void gradients_are_those_of_differences(void **state)
{
    static const double weight[] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12},
                        at[] = {-2, -1, 1, 2};
    (void)state;
    opened o = open_run();
    nn_store *s = &o.pe->store;
    for (int64_t k = 0; k < s->n; k++) {
        tn_tensor *t = &s->param[k]->t;
        int64_t n = tn_count(t);
        double got = 0, want = 0, size = 0;
        loss_of(&o, k % 2 ? NN_CHECKPOINT : 0);
        for (int64_t i = 0; i < n; i++) size += fabs((double)t->grad[i]);
        assert_true(size > 0);
        if (!strstr(s->param[k]->name, ".layers.") || strstr(s->param[k]->name, "_proj")) continue;
        float *d = test_uniform(90 + (uint64_t)k, n, -1, 1), *saved = test_alloc((size_t)n * 4);
        memcpy(saved, t->data, (size_t)n * 4);
        size = 0;
        for (int64_t i = 0; i < n; i++) {
            got += (double)t->grad[i] * (double)d[i];
            size += fabs((double)t->grad[i] * (double)d[i]);
        }
        for (size_t j = 0; j < FT_COUNT_OF(at); j++) {
            for (int64_t i = 0; i < n; i++) tn_f32(t)[i] = saved[i] + (float)(at[j] * 0.03) * d[i];
            want += weight[j] * loss_of(&o, 0) / 0.03;
        }
        memcpy(t->data, saved, (size_t)n * 4);
        if (!(fabs(got - want) < 3e-3 * size))
            fail_msg("%s: %g, differences say %g", s->param[k]->name, got, want);
    }
    close_run(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_keeps_its_bytes),
                                       cmocka_unit_test(it_scores_what_was_evaluated),
                                       cmocka_unit_test(it_answers_what_it_scores),
                                       cmocka_unit_test(gradients_are_those_of_differences)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
