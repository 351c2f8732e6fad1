/* test_infer.c – scoring and generating below training: answers alone and together, copies, the cache, the draw. */
#include "golden.h"
#include "support.h"

#include "ft/infer.h"
#include "../src/kernel/kern.h"

#include <math.h>

static inf_ctx open_model(const char *name)
{
    inf_ctx c = {0};
    assert_ok(model_open(&c.m, &(model_options){.path = golden_model(name)}));
    assert_ok(ag_open(&c.tape, (size_t)1 << 32));
    if (!c.m->position) ((model *)c.m)->d.max_position = 2048; /* the prompts below need them */
    return c;
}

static void close_model(inf_ctx *c)
{
    ag_close(c->tape);
    model_close(c->m);
}

/* Prompts of 1 … ids, of all lengths that take different ways: one token, a few, a piece, more than one. */
static tok_ids *make_prompts(const model *m, int64_t n, const int64_t *lengths, int n_lengths)
{
    tok_ids *p = test_alloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) {
        int64_t length = lengths[i % n_lengths];
        p[i] = (tok_ids){.id = test_alloc((size_t)length * sizeof(int32_t)), .n = length};
        for (int64_t k = 0; k < length; k++)
            p[i].id[k] = (int32_t)(test_u64((uint64_t)i, (uint64_t)k) % (uint64_t)m->d.vocab_size);
    }
    return p;
}

static void assert_same_answer(const inf_answer *a, const inf_answer *b, const char *what)
{
    if (a->ids.n != b->ids.n || memcmp(a->ids.id, b->ids.id, (size_t)a->ids.n * 4) != 0) {
        print_error("%s: another answer\n", what);
        fail();
    }
    assert_int_equal(a->stopped, b->stopped);
    if (a->logprob) assert_memory_equal(a->logprob, b->logprob, (size_t)a->ids.n * sizeof(float));
}

/* --- probabilities ------------------------------------------------------------------------------------------ */

static int32_t plain_best(const inf_ctx *c, const int32_t *ids, int64_t n, double *logprobs,
                          int32_t next)
{
    nn_run r;
    tn_tensor *h;
    int64_t v = c->m->d.vocab_size, last = n - 1, best = 0;
    float *logits = test_alloc((size_t)v * sizeof *logits);
    assert_ok(inf_hidden(c, ids, n, &r, &h));
    assert_ok(model_logits(c->m, &r, h, &last, 1, logits, false));
    for (int64_t k = 1; k < v; k++)
        if (logits[k] > logits[best]) best = k;
    *logprobs = (double)logits[next] - inf_lse(logits, v);
    return (int32_t)best;
}

static void greedy_is_the_arg_max_of_a_full_pass(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "gpt2", "qwen3", "qwen2_window",
                                        "llama_rope_linear"};
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        inf_ctx c = open_model(names[i]);
        inf_answer a;
        int32_t ids[16] = {1, 9, 30, 7};
        inf_sampling s = INF_SAMPLING_DEFAULT;
        s.max_new = 10;
        s.logprobs = true;
        assert_ok(inf_generate(&c, &(tok_ids){.id = ids, .n = 4}, 1, 1, &s, NULL, NULL, &a));
        assert_int_equal(a.ids.n, 10);
        memcpy(ids + 4, a.ids.id, 10 * sizeof *ids);
        for (int k = 0; k < 10; k++) {
            double logprob;
            assert_int_equal(a.ids.id[k], plain_best(&c, ids, 4 + k, &logprob, a.ids.id[k]));
            assert_true(fabs(logprob - (double)a.logprob[k]) < 1e-5);
        }
        inf_answers_free(&a, 1);
        close_model(&c);
    }
}

/* Log-probabilities, arg max and logits are asked for one by one; what is not leaves the others as they are. */
static void what_is_not_wanted_may_be_null(void **state)
{
    enum { N = 9, WAYS = 8 };
    (void)state;
    inf_ctx c = open_model("llama");
    int32_t ids[WAYS][N], best[WAYS][N];
    float logprob[WAYS][N], *logits[WAYS];
    inf_seq seq[WAYS];
    for (int i = 0; i < WAYS; i++) { /* the last wants everything */
        for (int k = 0; k < N; k++) ids[i][k] = (7 * k + 3) % (int32_t)c.m->d.vocab_size;
        logits[i] = test_alloc((size_t)c.m->d.vocab_size * sizeof(float));
        seq[i] = (inf_seq){.id = ids[i],
                           .n = N,
                           .from = 2,
                           .logprob = i & 1 ? logprob[i] : NULL,
                           .best = i & 2 ? best[i] : NULL,
                           .logits = i & 4 ? logits[i] : NULL};
    }
    assert_ok(inf_score(&c, seq, WAYS));
    const size_t row = (size_t)c.m->d.vocab_size * sizeof(float), scored = N - 2;
    for (int i = 1; i < WAYS - 1; i++) {
        if (i & 1) assert_memory_equal(logprob[i], logprob[7], scored * sizeof(float));
        if (i & 2) assert_memory_equal(best[i], best[7], scored * sizeof(int32_t));
        if (i & 4) assert_memory_equal(logits[i], logits[7], row);
    }
    for (size_t k = 0; k < scored; k++) {
        double plain;
        assert_int_equal(best[7][k], plain_best(&c, ids[7], 2 + (int64_t)k, &plain, ids[7][2 + k]));
        assert_true(fabs(plain - (double)logprob[7][k]) < 1e-5);
    }
    close_model(&c);
}

/* --- many at once ------------------------------------------------------------------------------------------- */

static void neighbours_do_not_matter(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "gpt2", "qwen2_window"};
    static const int64_t lengths[] = {1, 5, 30, 8, 9, 17, 40}, short_[] = {1, 5, 12, 8, 9, 3, 10};
    static const int64_t many[] = {3, 9, 45};
    for (size_t m = 0; m < FT_COUNT_OF(names); m++) {
        inf_ctx c = open_model(names[m]);
        tok_ids *prompt = make_prompts(c.m, 45, c.m->position ? short_ : lengths, 7);
        for (int sampled = 0; sampled < 2; sampled++) {
            inf_answer alone[45], together[45];
            const int32_t stop[] = {3, 11};
            inf_sampling s = INF_SAMPLING_DEFAULT;
            s.max_new = 20;
            s.min_new = 4;
            s.temperature = sampled;
            s.top_p = sampled ? 0.95 : 1;
            s.stop = stop;
            s.n_stop = 2;
            s.logprobs = sampled;
            for (int64_t i = 0; i < 45; i++) {
                s.first = (uint64_t)i;
                assert_ok(inf_generate(&c, &prompt[i], 1, 1, &s, NULL, NULL, &alone[i]));
                assert_true(alone[i].ids.n >= 5 || !alone[i].stopped); /* min_new holds */
            }
            s.first = 0;
            for (size_t k = 0; k < FT_COUNT_OF(many); k++) {
                for (int threads = 1; threads <= 3; threads += 2) {
                    assert_ok(pool_open(threads));
                    assert_ok(inf_generate(&c, prompt, many[k], 1, &s, NULL, NULL, together));
                    pool_close();
                    for (int64_t i = 0; i < many[k]; i++)
                        assert_same_answer(&alone[i], &together[i], names[m]);
                    inf_answers_free(together, many[k]);
                }
            }
            inf_answers_free(alone, 45);
        }
        close_model(&c);
    }
}

/* Long prompts, read in pieces beside short ones, and answers that pass the border of a page. */
static void pieces_do_not_show(void **state)
{
    (void)state;
    static const int64_t lengths[] = {515, 31, 1100, 32, 513, 64};
    inf_ctx c = open_model("llama");
    tok_ids *prompt = make_prompts(c.m, 6, lengths, 6);
    inf_answer alone[6], together[6];
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.max_new = 40;
    s.temperature = 2;
    assert_ok(inf_generate(&c, prompt, 6, 1, &s, NULL, NULL, together));
    for (int64_t i = 0; i < 6; i++) {
        s.first = (uint64_t)i;
        assert_ok(inf_generate(&c, &prompt[i], 1, 1, &s, NULL, NULL, &alone[i]));
        assert_same_answer(&alone[i], &together[i], "pieces");
    }
    inf_answers_free(alone, 6);
    inf_answers_free(together, 6);
    close_model(&c);
}

static ft_status count(void *ctx, int64_t prompt, int copy, const inf_answer *a, bool done)
{
    int64_t(*seen)[2] = ctx;
    seen[prompt * 50 + copy][0]++;
    seen[prompt * 50 + copy][1] += done;
    assert_int_equal(seen[prompt * 50 + copy][0], a->ids.n);
    return FT_OK;
}

/* Copies of a prompt share its pages, the half-full last one too, and still are what each would be alone; the first copy
 * is the answer without copies, and copies differ. */
static void copies_share_a_prompt(void **state)
{
    (void)state;
    static const int64_t lengths[] = {33, 3, 64};
    enum { N = 3, COPIES = 50 };
    inf_ctx c = open_model("llama");
    tok_ids *prompt = make_prompts(c.m, N, lengths, N);
    inf_answer *many = test_alloc(N * COPIES * sizeof *many), one[N], few[N * 2];
    int64_t seen[N * COPIES][2] = {0};
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.max_new = 35;
    s.temperature = 1.5;
    assert_ok(inf_generate(&c, prompt, N, COPIES, &s, count, seen, many));
    assert_ok(inf_generate(&c, prompt, N, 2, &s, NULL, NULL, few));
    assert_ok(inf_generate(&c, prompt, N, 1, &s, NULL, NULL, one));
    for (int i = 0; i < N; i++) {
        assert_same_answer(&one[i], &many[i * COPIES], "the first copy");
        assert_same_answer(&few[2 * i + 1], &many[i * COPIES + 1], "the second copy");
        assert_true(memcmp(one[i].ids.id, few[2 * i + 1].ids.id, 35 * 4) != 0);
    }
    for (int i = 0; i < N * COPIES; i++) {
        assert_int_equal(seen[i][0], 35);
        assert_int_equal(seen[i][1], 1);
    }
    inf_answers_free(many, N * COPIES);
    inf_answers_free(one, N);
    inf_answers_free(few, N * 2);
    close_model(&c);
}

/* --- limits ------------------------------------------------------------------------------------------------- */

/* What fits one after another is answered so, with the same bits; what does not fit alone is 71. */
static void the_cache_has_a_limit(void **state)
{
    (void)state;
    static const int64_t lengths[] = {20, 40, 7, 64};
    inf_ctx c = open_model("llama");
    tok_ids *prompt = make_prompts(c.m, 4, lengths, 4);
    inf_answer free_[8], tight[8];
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.max_new = 30;
    s.temperature = 1;
    assert_ok(inf_generate(&c, prompt, 4, 2, &s, NULL, NULL, free_));
    c.cache_limit = (size_t)model_cache_floats(c.m, 32 * 4) * sizeof(float);
    assert_ok(inf_generate(&c, prompt, 4, 2, &s, NULL, NULL, tight));
    for (int i = 0; i < 8; i++) assert_same_answer(&free_[i], &tight[i], "a small cache");
    inf_answers_free(tight, 8);
    c.cache_limit = (size_t)model_cache_floats(c.m, 32 * 2) * sizeof(float);
    assert_fails(inf_generate(&c, prompt, 4, 1, &s, NULL, NULL, tight), FT_EMEM,
                 "ask for fewer tokens");
    for (int i = 0; i < 4; i++) assert_null(tight[i].ids.id);
    inf_answers_free(free_, 8);
    close_model(&c);
}

/* Rotated positions could go on, and the answer would be worth nothing after hours of work. */
static void more_than_the_positions(void **state)
{
    (void)state;
    inf_ctx c = open_model("llama");
    const int64_t length = 2049;
    tok_ids *prompt = make_prompts(c.m, 1, &length, 1);
    inf_answer a;
    inf_sampling s = INF_SAMPLING_DEFAULT;
    assert_fails(inf_generate(&c, prompt, 1, 1, &s, NULL, NULL, &a), FT_EDATA, "positions");
    close_model(&c);
}

static void bad_prompts_are_refused(void **state)
{
    (void)state;
    inf_ctx c = open_model("gpt2");
    inf_answer a;
    const int64_t most = c.m->d.max_position;
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.max_new = 5;
    tok_ids *prompt = make_prompts(c.m, 2, (int64_t[]){most + 1, most}, 2);
    int32_t outside = (int32_t)c.m->d.vocab_size;
    assert_fails(inf_generate(&c, &(tok_ids){0}, 1, 1, &s, NULL, NULL, &a), FT_EDATA, "empty");
    assert_fails(inf_generate(&c, &(tok_ids){.id = &outside, .n = 1}, 1, 1, &s, NULL, NULL, &a),
                 FT_EDATA, "outside the model's vocabulary");
    assert_fails(inf_generate(&c, &prompt[0], 1, 1, &s, NULL, NULL, &a), FT_EDATA, "positions");
    /* the last token needs no position */
    assert_ok(inf_generate(&c, &prompt[1], 1, 1, &s, NULL, NULL, &a));
    assert_int_equal(a.ids.n, 1);
    inf_answers_free(&a, 1);
    close_model(&c);
}

/* --- the draw ----------------------------------------------------------------------------------------------- */

enum { V = 6 };

static int32_t draw(const float *logits, const inf_sampling *s, bool hold, uint64_t key,
                    uint64_t counter, float *logprob)
{
    inf_draw d = {
        .logits = logits, .s = s, .key = key, .counter = counter, .hold = hold, .logprob = logprob};
    assert_ok(inf_sample(&d, 1, V));
    return d.id;
}

static void sampling_follows_the_options(void **state)
{
    (void)state;
    enum { DRAWS = 4000 };
    float x[V] = {1.0f, 3.0f, 0.0f, 2.0f, -1.0f, 3.0f};
    int count_of[V] = {0};
    inf_sampling s = INF_SAMPLING_DEFAULT;
    double total = 0;
    for (int i = 0; i < V; i++) total += exp((double)x[i]);
    s.stop = (int32_t[]){1, 5};
    s.n_stop = 2;
    assert_int_equal(draw(x, &s, false, 1, 0, NULL), 1); /* the smaller of two equal ones */
    assert_int_equal(draw(x, &s, true, 1, 0, NULL), 3);
    s.temperature = 1;
    for (int i = 0; i < DRAWS; i++) {
        float logprob;
        int32_t id = draw(x, &s, false, 77, (uint64_t)i, &logprob);
        assert_true(fabs((double)logprob - ((double)x[id] - log(total))) < 1e-6);
        count_of[id]++;
    }
    for (int i = 0; i < V; i++) {
        double p = exp((double)x[i]) / total, have = (double)count_of[i] / DRAWS;
        assert_true(fabs(have - p) < 5 * sqrt(p * (1 - p) / DRAWS) + 1e-3);
    }
    /* top-k 3: ids 1, 5, 3 alone; top-p: the two largest have 0.76 of the mass */
    for (int i = 0; i < 200; i++) {
        s.top_k = 3;
        int32_t id = draw(x, &s, false, 78, (uint64_t)i, NULL);
        assert_true(id == 1 || id == 5 || id == 3);
        s.top_k = 0;
        s.top_p = 0.7;
        id = draw(x, &s, false, 79, (uint64_t)i, NULL);
        assert_true(id == 1 || id == 5);
        s.top_p = 1;
    }
    x[2] = NAN;
    inf_draw bad = {.logits = x, .s = &s};
    assert_fails(inf_sample(&bad, 1, V), FT_EDIVERGED, "not finite");
}

static void what_was_granted_is_not_asked_for_again(void **state)
{
    (void)state;
    inf_ctx c = open_model("llama");
    inf_plan p = {0};
    inf_shape s = {.rows = 64, .seqs = 2, .scored = 64, .wanted = 1};
    c.plan = &p;
    assert_ok(inf_plan_for(&c, &s));
    const size_t total = p.total;
    assert_ok(dir_make(test_path("cgroup")));
    test_write_file(test_path("cgroup/memory.max"), "4000000\n", 8);
    setenv("FT_CGROUP_ROOT", test_path("cgroup"), 1);
    const ft_status same = inf_plan_for(&c, &s);
    s.rows = s.scored = 6400;
    const ft_status more = inf_plan_for(&c, &s);
    unsetenv("FT_CGROUP_ROOT");
    assert_int_equal(same, FT_OK);
    assert_int_equal(more, FT_EMEM);
    assert_true(p.total > total);
    c.plan = NULL;
    close_model(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_is_the_arg_max_of_a_full_pass),
        cmocka_unit_test(what_is_not_wanted_may_be_null),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(pieces_do_not_show),
        cmocka_unit_test(copies_share_a_prompt),
        cmocka_unit_test(the_cache_has_a_limit),
        cmocka_unit_test(bad_prompts_are_refused),
        cmocka_unit_test(more_than_the_positions),
        cmocka_unit_test(sampling_follows_the_options),
        cmocka_unit_test(what_was_granted_is_not_asked_for_again),
    };
    const struct CMUnitTest other[] = {
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(pieces_do_not_show),
        cmocka_unit_test(copies_share_a_prompt),
    };
    assert_ok(kn_init());
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (kern_use(NULL, "openblas") ==
        FT_OK) /* where it is installed: answers alone and together too */
        failed += cmocka_run_group_tests_name("openblas", other, NULL, NULL);
    return failed;
}
