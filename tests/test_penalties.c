/* test_penalties.c – what changes the choice of a token beside temperature, top-k and top-p: penalties, min-p, stop tokens
 * held back, an answer that its reader ends, a way of sampling for each prompt; and the text of an answer with stop
 * strings. */
#include "golden.h"
#include "support.h"

#include "ft/infer.h"
#include "ft/tool.h"
#include "../src/tool/tool_private.h"
#include "golden/generate.h"

#include <float.h>

static inf_ctx open_model(const char *name)
{
    inf_ctx c = {0};
    assert_ok(model_open(&c.m, &(model_options){.path = golden_model(name)}));
    assert_ok(ag_open(&c.tape, (size_t)1 << 32));
    return c;
}

static void close_model(inf_ctx *c)
{
    ag_close(c->tape);
    model_close(c->m);
}

static void penalised_answers_are_the_references(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(golden_answers); i++) {
        inf_ctx c = open_model(golden_answers[i].model);
        inf_answer a;
        tok_ids prompt = {.id = (int32_t *)(uintptr_t)golden_answers[i].prompt,
                          .n = golden_answers[i].n_prompt};
        inf_sampling s = INF_SAMPLING_DEFAULT;
        s.max_new = GOLDEN_NEW;
        s.min_new = golden_answers[i].min_new;
        s.repetition_penalty = golden_answers[i].repetition;
        s.presence_penalty = golden_answers[i].presence;
        s.stop = golden_answers[i].stop;
        s.n_stop = golden_answers[i].n_stop;
        assert_ok(inf_generate(&c, &prompt, 1, 1, &s, NULL, NULL, &a));
        assert_int_equal(a.ids.n, golden_answers[i].n_answer);
        assert_memory_equal(a.ids.id, golden_answers[i].answer, (size_t)a.ids.n * 4);
        inf_answers_free(&a, 1);
        close_model(&c);
    }
}

enum { V = 6 };

static int32_t pick(const float *x, const inf_sampling *s, const tok_ids *prompt,
                    const tok_ids *answer, uint64_t counter)
{
    inf_draw d = {.logits = x,
                  .s = s,
                  .prompt = prompt->id,
                  .n_prompt = prompt->n,
                  .answer = answer->id,
                  .n_answer = answer->n,
                  .key = 7,
                  .counter = counter};
    assert_ok(inf_sample(&d, 1, V));
    return d.id;
}

/* An id that comes twice is penalised once; the presence penalty spares the prompt; both come before the rest. */
static void penalties_come_first_and_once(void **state)
{
    (void)state;
    const float x[V] = {2.0f, 1.7f, -1.0f, 1.2f, 0.0f, -3.0f};
    int32_t p[] = {0, 0, 0}, a[] = {1, 1};
    tok_ids none = {0}, prompt = {.id = p, .n = 3}, answer = {.id = a, .n = 2};
    inf_sampling s = INF_SAMPLING_DEFAULT;
    assert_int_equal(pick(x, &s, &prompt, &answer, 0), 0);
    s.repetition_penalty = 1.15; /* 2 / 1.15 is above 1.7, 2 / 1.15² is not */
    assert_int_equal(pick(x, &s, &prompt, &none, 0), 0);
    s.repetition_penalty = 1.2;
    assert_int_equal(pick(x, &s, &prompt, &none, 0), 1);
    s.repetition_penalty = 1.6; /* 1.25, 1.0625: 1.2 is between them */
    assert_int_equal(pick(x, &s, &prompt, &answer, 0), 0);
    s.repetition_penalty = 1;
    s.presence_penalty = 0.4;
    assert_int_equal(pick(x, &s, &prompt, &answer, 0), 0);
    s.presence_penalty = -0.31;
    assert_int_equal(pick(x, &s, &prompt, &answer, 0), 1);
    s.temperature = 1; /* top-k sees what is penalised */
    s.top_k = 1;
    for (uint64_t i = 0; i < 20; i++) assert_int_equal(pick(x, &s, &prompt, &answer, i), 1);
    /* a negative logit becomes smaller */
    const float low[V] = {-1.0f, -1.1f, -5.0f, -5.0f, -5.0f, -5.0f};
    s = INF_SAMPLING_DEFAULT;
    s.repetition_penalty = 1.2;
    assert_int_equal(pick(low, &s, &prompt, &none, 0), 1);
}

/* Probabilities e⁰, e⁻¹, e⁻² … of the largest: min-p cuts between them, after top-k and top-p, and never all. */
static void min_p_is_a_share_of_the_largest(void **state)
{
    (void)state;
    const float x[V] = {1.0f, 3.0f, 0.0f, 2.0f, -1.0f, -2.0f};
    const tok_ids none = {0};
    static const struct {
        double min_p;
        int64_t top_k;
        int kept;
    } cases[] = {{0.36, 0, 2}, {0.37, 0, 1}, {0.13, 0, 3}, {0.13, 2, 2}, {1, 0, 1}, {0, 0, V}};
    for (size_t c = 0; c < FT_COUNT_OF(cases); c++) {
        inf_sampling s = INF_SAMPLING_DEFAULT;
        bool seen[V] = {0};
        int kept = 0;
        s.temperature = 1;
        s.min_p = cases[c].min_p;
        s.top_k = cases[c].top_k;
        for (uint64_t i = 0; i < 3000; i++) seen[pick(x, &s, &none, &none, i)] = true;
        for (int i = 0; i < V; i++) kept += seen[i];
        assert_int_equal(kept, cases[c].kept);
    }
    /* a temperature that overflows the largest logit alone is greedy too */
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.temperature = 2.5 / (double)FLT_MAX;
    for (uint64_t i = 0; i < 10; i++) assert_int_equal(pick(x, &s, &none, &none, i), 1);
}

static ft_status end_at_five(void *ctx, int64_t prompt, int copy, const inf_answer *a, bool done)
{
    int *complete = ctx;
    (void)copy;
    assert_false(done && a->ids.n < 5);
    if (done || (prompt == 1 && a->ids.n == 5)) complete[prompt]++;
    return prompt == 1 && a->ids.n == 5 ? FT_END : FT_OK;
}

/* Each prompt by its own settings is what it is alone, and one whose reader ends it leaves the others as they are. */
static void each_prompt_may_have_its_own(void **state)
{
    (void)state;
    enum { N = 3 };
    inf_ctx c = open_model("llama");
    int32_t id[N][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
    int complete[N] = {0};
    tok_ids prompt[N];
    inf_answer together[N], alone;
    inf_sampling s[N];
    for (int i = 0; i < N; i++) {
        prompt[i] = (tok_ids){.id = id[i], .n = 3};
        s[i] = INF_SAMPLING_DEFAULT;
        s[i].max_new = 8 + i;
        s[i].temperature = i;
        s[i].seed = (uint64_t)(40 + i);
        s[i].first = (uint64_t)(10 * i);
        s[i].logprobs = i == 1;
    }
    assert_ok(inf_generate_own(&c, prompt, s, N, 1, end_at_five, complete, together));
    for (int i = 0; i < N; i++) {
        assert_ok(inf_generate(&c, &prompt[i], 1, 1, &s[i], NULL, NULL, &alone));
        int64_t n = i == 1 ? 5 : 8 + i;
        assert_int_equal(together[i].ids.n, n);
        assert_memory_equal(together[i].ids.id, alone.ids.id, (size_t)n * 4);
        assert_int_equal(together[i].logprob != NULL, i == 1);
        assert_int_equal(complete[i], 1);
        inf_answers_free(&alone, 1);
    }
    inf_answers_free(together, N);
    close_model(&c);
}

/* --- the text of an answer ------------------------------------------------------------------------------------- */

static ft_status keep(void *ctx, const char *text, size_t n)
{
    str_add(ctx, text, n);
    return str_ok(ctx);
}

static const char tokenizer[] =
    "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null, \"post_processor\": null,"
    "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": "
    "false},"
    "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true},"
    "\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {"
    "\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"Ã\": 4, \"©\": 5, \"bÃ\": 6, \"ca\": 7, \"Ġ\": "
    "8}}}";

typedef struct text_case {
    const char *stop[3];
    int32_t id[8]; /* ends with −1 */
    int64_t ends;  /* tokens after which it ends; 0: never */
    const char *text, *hit;
    const char *put[8]; /* what has been put after each token */
} text_case;

static const text_case text_cases[] = {
    /* across tokens, the start held back and let go */
    {{"bc"}, {0, 1, 0, 1, 2, -1}, 5, "aba", "bc", {"a", "a", "aba", "aba", "aba"}},
    {{"bc"}, {0, 1, -1}, 0, "ab", NULL, {"a", "a"}},
    /* inside one token; the text goes on behind it in the token */
    {{"a"}, {1, 7, -1}, 2, "bc", "a", {"b", "bc"}},
    {{"c"}, {1, 7, -1}, 2, "b", "c", {"b", "b"}},
    /* the earliest of several, the shorter of two at one place */
    {{"abc", "ab", "b"}, {3, -1}, 1, "", "ab", {""}},
    {{"ca", "abca"}, {0, 1, 7, -1}, 3, "", "abca", {"", "", ""}},
    /* a character in two tokens, and a stop before half of one */
    {{"\xc3\xa9"}, {0, 4, 5, -1}, 3, "a", "\xc3\xa9", {"a", "a", "a"}},
    {{"b"}, {0, 6, -1}, 2, "a", "b", {"a", "a"}},
    {{"x"}, {6, 5, -1}, 0, "b\xc3\xa9", NULL, {"", "b\xc3\xa9"}},
    /* a start inside a start */
    {{"aab"}, {0, 0, 0, 1, -1}, 4, "a", "aab", {"", "", "a", "a"}},
    /* an id that is no token, as of a padded vocabulary */
    {{"ab"}, {0, 30, 1, -1}, 3, "", "ab", {"", "", ""}},
    {{NULL}, {8, 30, 4, -1}, 0, " \xef\xbf\xbd", NULL, {" ", " ", " "}},
};

static void stop_strings_lie_across_tokens(void **state)
{
    (void)state;
    const char *dir = test_path("bytes");
    assert_ok(dir_make(dir));
    test_write_file(test_path("bytes/tokenizer.json"), tokenizer, sizeof tokenizer - 1);
    tool_model t = {0};
    assert_ok(tok_open(&t.tok, dir));
    for (size_t i = 0; i < FT_COUNT_OF(text_cases); i++) {
        const text_case *c = &text_cases[i];
        str_buf out = {0};
        tool_text x = {.t = &t, .stop = (char *const *)(uintptr_t)c->stop};
        int64_t n = 0;
        while (x.n_stop < 3 && c->stop[x.n_stop]) x.n_stop++;
        while (!x.hit && c->id[n] >= 0) {
            n++;
            assert_ok(tool_text_add(&x, c->id, n, false));
            assert_ok(tool_text_put(&x, &(tool_sink){keep, &out}));
            if (strcmp(out.data ? out.data : "", c->put[n - 1]) != 0)
                print_error("case %d, token %d: \"%s\"\n", (int)i, (int)n, out.data);
            assert_string_equal(out.data ? out.data : "", c->put[n - 1]);
        }
        assert_int_equal(x.hit ? n : 0, c->ends);
        if (!x.hit) assert_ok(tool_text_add(&x, c->id, n, true));
        assert_ok(tool_text_put(&x, &(tool_sink){keep, &out}));
        assert_string_equal(out.data ? out.data : "", c->text);
        if (c->hit) assert_string_equal(x.hit, c->hit);
        tool_text_free(&x);
        str_free(&out);
    }
    tok_close(t.tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalised_answers_are_the_references),
        cmocka_unit_test(penalties_come_first_and_once),
        cmocka_unit_test(min_p_is_a_share_of_the_largest),
        cmocka_unit_test(each_prompt_may_have_its_own),
        cmocka_unit_test(stop_strings_lie_across_tokens),
    };
    assert_ok(kn_init());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
