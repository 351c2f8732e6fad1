/* test_tool.c – scoring, generating, evaluating and converting tiny models, against plain forward passes. */
#include "golden.h"
#include "support.h"
#include "verbs.h"

#include "ft/tool.h"

#include <math.h>

/* --- helpers ------------------------------------------------------------------------------------------------- */

/* A folder with the tokenizer of data/tiny and random weights. */
static const char *tiny(void)
{
    const char *dir = test_path("tiny");
    model *m = NULL;
    if (dir_exists(dir)) return dir;
    assert_ok(model_open(
        &m, &(model_options){.from_config = source_path("data/tiny/config.json"), .seed = 5}));
    assert_ok(model_save(m, dir, NULL));
    model_close(m);
    assert_ok(model_save_side_files(source_path("data/tiny"), dir));
    return dir;
}

/* Runs tool_score_lines on lines; answers one parsed object a line in out (max of them), returns how many. */
static int score(const char *model_path, const char *lines, const tool_score_options *opt,
                 cJSON **out, int max, ft_status want)
{
    tool_model *t = NULL;
    str_buf text = {0};
    const char *path = test_path("lines.jsonl");
    int n = 0;
    test_write_file(path, lines, strlen(lines));
    assert_ok(tool_open(&t, model_path, NULL, false, NULL));
    tool_score_options o = opt ? *opt : (tool_score_options){0};
    o.data = path;
    ft_error_forget();
    ft_status rc = tool_score_lines(t, &o, &(tool_sink){test_append, &text});
    if (rc != want) print_error("status %d: %s\n", (int)rc, ft_error());
    assert_int_equal(rc, want);
    for (char *p = text.data; p && *p;) {
        char *end = strchr(p, '\n');
        assert_non_null(end);
        assert_true(n < max);
        out[n++] = test_json(p, (size_t)(end - p));
        p = end + 1;
    }
    str_free(&text);
    tool_close(t);
    return n;
}

/* log-probabilities of ids[1 …] by one plain pass a sequence. */
static void plain_logprobs(tool_model *t, const int32_t *ids, int64_t n, double *out, int32_t *best)
{
    nn_run r;
    tn_tensor *h;
    int64_t v = t->m->d.vocab_size;
    float *logits = test_alloc((size_t)v * sizeof *logits);
    assert_ok(inf_hidden(&t->inf, ids, n, &r, &h));
    for (int64_t i = 0; i + 1 < n; i++) {
        assert_ok(model_logits(t->m, &r, h, &i, 1, logits, false));
        out[i] = (double)logits[ids[i + 1]] - inf_lse(logits, v);
        best[i] = 0;
        for (int64_t k = 1; k < v; k++)
            if (logits[k] > logits[best[i]]) best[i] = (int32_t)k;
    }
}

/* --- score --------------------------------------------------------------------------------------------------- */

static void scores_are_those_of_a_plain_pass(void **state)
{
    (void)state;
    cJSON *o[4];
    tool_model *t = NULL;
    const int32_t ids[] = {3, 17, 5, 40, 8, 2, 61, 12};
    const int64_t n = FT_COUNT_OF(ids);
    double want[8], sum = 0;
    int32_t best[8];
    bool greedy = true;
    assert_ok(tool_open(&t, golden_model("llama"), NULL, false, NULL));
    plain_logprobs(t, ids, n, want, best);
    tool_close(t);
    const tool_score_options opt = {.per_token = true, .top = 3};
    assert_int_equal(score(golden_model("llama"),
                           "{\"id\": {\"a\": [1, null]}, \"tokens\": [3,17,5,40,8,2,61,12]}\n\n"
                           "{\"tokens\": [3,17,5,40,8,2,61,12], \"start\": 6, \"id\": \"x\"}\n"
                           "{\"tokens\": [9]}\n{\"tokens\": []}\n",
                           &opt, o, 4, FT_OK),
                     4);
    for (int64_t i = 0; i + 1 < n; i++) {
        sum += want[i];
        greedy = greedy && best[i] == ids[i + 1];
        double have =
            cJSON_GetArrayItem(cJSON_GetObjectItem(o[0], "token_logprobs"), (int)i)->valuedouble;
        assert_true(fabs(have - want[i]) < 1e-5);
        assert_int_equal(
            cJSON_GetArrayItem(cJSON_GetObjectItem(o[0], "token_ids"), (int)i)->valueint,
            ids[i + 1]);
    }
    assert_true(fabs(test_number(o[0], "logprob") - sum) < 1e-4);
    assert_int_equal(test_number(o[0], "tokens"), 7);
    assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(o[0], "greedy")), greedy);
    assert_true(cJSON_IsArray(cJSON_GetObjectItem(cJSON_GetObjectItem(o[0], "id"), "a")));
    assert_int_equal(test_number(o[1], "tokens"), 2);
    assert_true(fabs(test_number(o[1], "logprob") - want[5] - want[6]) < 1e-5);
    assert_string_equal(cJSON_GetObjectItem(o[1], "id")->valuestring, "x");
    /* nothing to score: the top of the only position is there all the same */
    assert_int_equal(test_number(o[2], "tokens"), 0);
    assert_true(test_number(o[2], "logprob") == 0);
    const cJSON *top = cJSON_GetObjectItem(o[2], "top");
    assert_int_equal(cJSON_GetArraySize(top), 3);
    double last = 0;
    for (int i = 0; i < 3; i++) {
        double lp = cJSON_GetArrayItem(cJSON_GetArrayItem(top, i), 1)->valuedouble;
        assert_true(lp <= last);
        last = lp;
    }
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(o[3], "top")), 0);
    for (int i = 0; i < 4; i++) cJSON_Delete(o[i]);
}

/* A line's numbers are the same bits alone and among a thousand others. */
static void neighbours_do_not_matter(void **state)
{
    (void)state;
    enum { LINES = 700 };
    str_buf all = {0};
    cJSON **many = test_alloc(LINES * sizeof *many), *one;
    for (int i = 0; i < LINES; i++) {
        int n = 2 + (int)(test_u64(1, (uint64_t)i) % 11);
        str_adds(&all, "{\"tokens\": [");
        for (int k = 0; k < n; k++)
            str_printf(&all, "%s%d", k ? "," : "",
                       (int)(test_u64(2, (uint64_t)(i * 100 + k)) % 64));
        str_adds(&all, "]}\n");
    }
    assert_int_equal(score(golden_model("qwen2"), all.data, NULL, many, LINES, FT_OK), LINES);
    const char *p = all.data;
    for (int i = 0; i < LINES; i++) {
        const char *end = strchr(p, '\n');
        if (i % 97 == 0) {
            char line[512];
            snprintf(line, sizeof line, "%.*s", (int)(end - p), p);
            assert_int_equal(score(golden_model("qwen2"), line, NULL, &one, 1, FT_OK), 1);
            assert_true(test_number(one, "logprob") == test_number(many[i], "logprob"));
            cJSON_Delete(one);
        }
        p = end + 1;
        cJSON_Delete(many[i]);
    }
    str_free(&all);
}

static void texts_and_continuations(void **state)
{
    (void)state;
    cJSON *o[6];
    const tool_score_options opt = {.per_token = true};
    assert_int_equal(score(tiny(),
                           "{\"context\": \"Once upon a\", \"continuation\": \" time\"}\n"
                           "{\"context\": \"Once upon a \", \"continuation\": \"time\"}\n"
                           "{\"context\": \"Once upon a \\n\", \"continuation\": \"time\"}\n"
                           "{\"context\": \"\", \"continuation\": \"Once\"}\n"
                           "{\"text\": \"Once upon a time\"}\n{\"text\": \"\"}\n",
                           &opt, o, 6, FT_OK),
                     6);
    /* U+0000 is a character like others, and an id comes back as it went in */
    cJSON *nul[1];
    assert_int_equal(score(tiny(), "{\"id\": 1234567890123456789, \"text\": \"a\\u0000b\"}\n", &opt,
                           nul, 1, FT_OK),
                     1);
    assert_true(test_number(nul[0], "tokens") >= 2);
    cJSON_Delete(nul[0]);
    /* a trailing space belongs to the continuation */
    assert_true(test_number(o[0], "logprob") == test_number(o[1], "logprob"));
    assert_int_equal(test_number(o[0], "tokens"), test_number(o[1], "tokens"));
    assert_true(test_number(o[2], "tokens") >= test_number(o[0], "tokens"));
    assert_true(test_number(o[3], "tokens") >= 1);
    assert_true(test_number(o[4], "tokens") >= test_number(o[0], "tokens"));
    assert_int_equal(test_number(o[5], "tokens"), 0);
    for (int i = 0; i < 6; i++) cJSON_Delete(o[i]);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *message;
        int answered;
    } cases[] = {
        {"{\"tokens\": [1,2]}\n{\"tokens\": [1,2]\n", ":2:", 1},
        {"{\"tokens\": [1, 9999]}\n", ":1:16: tokens: not a token id of this model", 0},
        {"{\"tokens\": [1, -1]}\n", "not a token id", 0},
        {"{\"tokens\": [1, 2.5]}\n", "not a token id", 0},
        {"{\"tokens\": \"abc\"}\n", "tokens: must be a list of ids", 0},
        {"{\"tokens\": [1,2], \"start\": 0}\n", "start", 0},
        {"\n{\"tokns\": [1,2]}\n", ":2:", 0},
        {"{\"tokens\": [1,2], \"strat\": 1}\n", "did you mean \"start\"", 0},
        {"{\"text\": \"a\", \"tokens\": [1]}\n", "needs one of", 0},
        {"{\"text\": \"a\", \"start\": 1}\n", "start: belongs to tokens", 0},
        {"{\"context\": \"a\"}\n", "continuation: missing", 0},
        {"[1,2]\n", "not one record a line", 0},
        {"7\n", "must be an object", 0},
        {"{\"text\": \"a\"}\n", "no tokenizer", 0},
    };
    cJSON *o[4];
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        int n = score(golden_model("llama"), cases[i].lines, NULL, o, 4, FT_EDATA);
        if (!strstr(ft_error(), cases[i].message))
            print_error("%s gives: %s\n", cases[i].lines, ft_error());
        assert_non_null(strstr(ft_error(), cases[i].message));
        assert_int_equal(n, cases[i].answered);
        for (int k = 0; k < n; k++) cJSON_Delete(o[k]);
    }
}

/* --- generate ------------------------------------------------------------------------------------------------- */

/* The output of tool_generate_lines without the seconds, which differ. */
static void generate(const char *model_path, tool_generate_options opt, const char *lines,
                     str_buf *out, ft_status want)
{
    tool_model *t = NULL;
    str_buf text = {0};
    if (lines) test_write_file(test_path("prompts.txt"), lines, strlen(lines));
    if (lines) opt.data = test_path("prompts.txt");
    str_clear(out);
    assert_ok(tool_open(&t, model_path, NULL, true, NULL));
    ft_error_forget();
    assert_int_equal(tool_generate_lines(t, &opt, &(tool_sink){test_append, &text}), want);
    for (const char *p = text.data; p && *p;) {
        const char *seconds = strstr(p, ",\"seconds\":");
        size_t n = seconds ? (size_t)(seconds - p) : strlen(p);
        str_add(out, p, n);
        p = seconds ? strchr(seconds, '}') : p + n;
    }
    str_free(&text);
    tool_close(t);
}

/* The same seed gives the same text; pieces of the stream put together are the text. */
static void streams_and_repeats(void **state)
{
    (void)state;
    str_buf a = {0}, b = {0};
    tool_generate_options opt = {.prompt = "Once", .sampling = INF_SAMPLING_DEFAULT};
    opt.sampling.max_new = opt.sampling.min_new = 60;
    opt.sampling.temperature = 1.5;
    generate(tiny(), opt, NULL, &a, FT_OK);
    opt.stream = true;
    generate(tiny(), opt, NULL, &b, FT_OK);
    assert_true(a.len > 30);
    assert_string_equal(a.data, b.data);
    opt.sampling.seed = 43;
    generate(tiny(), opt, NULL, &b, FT_OK);
    assert_true(strcmp(a.data, b.data) != 0);
    str_free(&a);
    str_free(&b);
}

/* Lines are answered in their order, each as it would be alone; those before a bad one are answered all the same. */
static void lines_advance_together(void **state)
{
    (void)state;
    enum { LINES = 150 };
    str_buf lines = {0}, together = {0}, one_by_one = {0};
    tool_generate_options opt = {.json = true, .sampling = INF_SAMPLING_DEFAULT};
    for (int i = 0; i < LINES; i++)
        str_printf(&lines, "{\"id\": %d, \"prompt\": \"%.*s\"}\n", i, 1 + i % 23,
                   "Once upon a time there was a fox");
    opt.sampling.max_new = 12;
    opt.sampling.temperature = 1;
    generate(tiny(), opt, lines.data, &together, FT_OK);
    opt.stream = true; /* of JSON: nothing to stream, but one line at a time */
    generate(tiny(), opt, lines.data, &one_by_one, FT_OK);
    assert_string_equal(together.data, one_by_one.data);
    assert_true(strncmp(together.data, "{\"id\":0,", 8) == 0);
    assert_non_null(strstr(together.data, "{\"id\":149,"));
    opt.stream = false;
    generate(tiny(), opt, "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n{\"prmpt\": 1}\n", &together,
             FT_EDATA);
    assert_non_null(strstr(ft_error(), ":3:"));
    char *second = strchr(together.data, '\n');
    assert_non_null(second);
    assert_non_null(strchr(second + 1, '\n'));
    str_free(&lines);
    str_free(&together);
    str_free(&one_by_one);
}

/* --- eval ------------------------------------------------------------------------------------------------------ */

static void answers_match(void **state)
{
    (void)state;
    static const struct {
        const char *match, *output, *answer;
        bool hit;
    } cases[] = {
        {"exact", " Paris\n", "Paris", true},
        {"exact", "Paris.", "Paris", false},
        {"contains", "It is Paris.", " Paris ", true},
        {"contains", "It is Rome.", "Paris", false},
        {"regex", "abc 123", "^abc \\d+$", true},
        {"regex", "abc", "\\d", false},
        {"regex", "\xff 7", "7", true},
        {"last_number", "3 apples and 4 pears make 7.", "#### 7", true},
        {"last_number", "the total is $1,234.50", "1234.5", true},
        {"last_number", "18", "#### 18.0", true},
        {"last_number", "it is -5", "-5", true},
        {"last_number", "8-5", "5", true},
        {"last_number", "12,34", "34", true},
        {"last_number", "1,234,567", "1234567", true},
        {"last_number", "no number", "4", false},
        {"last_number", "41", "4", false},
    };
    bool hit;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const rw_match *m = rw_match_by_name(cases[i].match);
        assert_ok(m->match(cases[i].output, strlen(cases[i].output), cases[i].answer, &hit));
        if (hit != cases[i].hit)
            print_error("%s: %s against %s\n", m->name, cases[i].output, cases[i].answer);
        assert_int_equal(hit, cases[i].hit);
    }
    assert_null(rw_match_by_name("fuzzy"));
    const rw_match *regex = rw_match_by_name("regex");
    char long_text[5000];
    memset(long_text, 'a', sizeof long_text);
    long_text[sizeof long_text - 1] = 'c';
    assert_fails(regex->match(long_text, sizeof long_text, "^(a|a)*$", &hit), FT_EDATA, "simplify");
    assert_fails(regex->match("a", 1, "(", &hit), FT_EDATA, "regex \"(\"");
    assert_fails(rw_match_by_name("last_number")->match("4", 1, "four", &hit), FT_EDATA,
                 "no number");
}

static ft_status evaluate(const char *config, str_buf *out)
{
    const char *path = test_path("eval.json");
    test_write_file(path, config, strlen(config));
    str_clear(out);
    ft_error_forget();
    return tool_eval(&(tool_eval_options){.config = path, .json = true},
                     &(tool_sink){test_append, out});
}

/* Strided windows against the definition, by plain passes. */
static double plain_perplexity(const char *text, int64_t max_length, int64_t stride, int64_t *count)
{
    tool_model *t = NULL;
    tok_ids ids = {0};
    double nll = 0;
    assert_ok(tool_open(&t, tiny(), NULL, true, NULL));
    assert_ok(tool_encode(t, text, strlen(text), &ids));
    *count = 0;
    for (int64_t begin = 0, before = 0; begin < ids.n; begin += stride) {
        int64_t end = begin + max_length < ids.n ? begin + max_length : ids.n, n = end - begin;
        double *lp = test_alloc((size_t)n * sizeof *lp);
        int32_t *best = test_alloc((size_t)n * sizeof *best);
        plain_logprobs(t, ids.id + begin, n, lp, best);
        for (int64_t i = 1; i < n; i++) {
            if (begin + i < before) continue;
            nll -= lp[i - 1];
            ++*count;
        }
        before = end;
        if (end == ids.n) break;
    }
    tok_ids_free(&ids);
    tool_close(t);
    return exp(nll / (double)*count);
}

static void perplexity_is_strided(void **state)
{
    (void)state;
    str_buf out = {0};
    size_t n;
    char *text = test_read_file(source_path("data/text/tiny.eval.txt"), &n);
    text[n < 1500 ? n : 1500] = '\0';
    test_write_file(test_path("text.txt"), text, strlen(text));
    static const int64_t sizes[][2] = {{64, 64}, {64, 16}, {50, 49}, {200, 7}, {100000, 100000}};
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        if (sizes[i][0] > 1000) text[300] = '\0';
        if (sizes[i][0] > 1000) test_write_file(test_path("text.txt"), text, strlen(text));
        char config[400];
        int64_t count;
        snprintf(config, sizeof config,
                 "{\"model\": {\"path\": \"tiny\"}, \"tasks\": [{\"type\": \"perplexity\", "
                 "\"data\": \"text.txt\", \"max_length\": %lld, \"stride\": %lld}]}",
                 (long long)sizes[i][0], (long long)sizes[i][1]);
        double want = plain_perplexity(text, sizes[i][0], sizes[i][1], &count);
        assert_ok(evaluate(config, &out));
        cJSON *o = test_json(out.data, out.len);
        assert_int_equal(test_number(o, "tokens"), count);
        assert_true(fabs(test_number(o, "perplexity") / want - 1) < 1e-5);
        assert_true(fabs(exp(test_number(o, "nll")) / want - 1) < 1e-5);
        cJSON_Delete(o);
    }
    str_free(&out);
}

static void gates_and_results(void **state)
{
    (void)state;
    str_buf out = {0};
    static const char choices[] =
        "{\"query\": \"Once\", \"choices\": [\"upon a time\", \"a\"], \"gold\": 0}\n"
        "{\"query\": \"One\", \"choices\": [\"day\", \"b\", \"c\"], \"gold\": 2}\n";
    static const char prompts[] = "{\"prompt\": \"Once\", \"answer\": [\"zzzz\", \"qqqq\"]}\n";
    test_write_file(test_path("choices.jsonl"), choices, strlen(choices));
    test_write_file(test_path("prompts.jsonl"), prompts, strlen(prompts));
    static const char config[] =
        "{\"model\": {\"path\": \"tiny\"}, \"tasks\": ["
        "{\"name\": \"c\", \"type\": \"multiple_choice\", \"data\": \"choices.jsonl\"},"
        "{\"name\": \"g\", \"type\": \"generate\", \"data\": \"prompts.jsonl\", \"match\": "
        "\"contains\", \"max_new_tokens\": 4}],"
        "\"gates\": {\"c.n\": {\"min\": 2, \"max\": 2}, \"g.accuracy\": {\"min\": 0.5}, "
        "\"c.acc\": {\"max\": -1}}}";
    (void)tiny();
    assert_int_equal(evaluate(config, &out), FT_EGATE);
    assert_non_null(strstr(ft_error(), "gate g.accuracy: 0 is below the minimum 0.5"));
    assert_non_null(strstr(ft_error(), "gate c.acc"));
    assert_null(strstr(ft_error(), "c.n"));
    char *second = strchr(out.data, '\n');
    assert_non_null(second);
    cJSON *o = test_json(out.data, (size_t)(second - out.data));
    assert_int_equal(test_number(o, "n"), 2);
    double acc = test_number(o, "acc"), err = test_number(o, "acc_stderr");
    assert_true(fabs(err - sqrt(acc * (1 - acc))) < 1e-12);
    cJSON_Delete(o);
    o = test_json(second + 1, strlen(second + 1));
    assert_string_equal(cJSON_GetObjectItem(o, "task")->valuestring, "g");
    cJSON_Delete(o);
    str_free(&out);
}

static void eval_configs_are_checked(void **state)
{
    (void)state;
    str_buf out = {0};
#define TASK "{\"type\": \"perplexity\", \"data\": \"text.txt\"}"
    static const struct {
        const char *config, *message;
        ft_status status;
    } cases[] = {
        {"{\"model\": {\"path\": \"tiny\"}}", "tasks", FT_ECONFIG},
        {"{\"tasks\": [" TASK "]}", "model.path", FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": []}", "at least one task", FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [" TASK ", " TASK "]}", "another task",
         FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [{\"type\": \"perplexty\"}]}",
         "did you mean \"perplexity\"", FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [{\"type\": \"perplexity\", \"data\": "
         "\"x\", "
         "\"strid\": 3}]}",
         "did you mean \"stride\"", FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [" TASK "], \"gates\": {\"perplexity.ppl\": "
         "{\"max\": 1}}}",
         "no such result", FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [" TASK "], \"gates\": {\"wiki.nll\": "
         "{\"max\": 1}}}",
         "no such task", FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [" TASK "], \"gates\": {\"perplexity.nll\": "
         "{\"mx\": 1}}}",
         "unknown key", FT_ECONFIG},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [{\"type\": \"perplexity\", \"data\": "
         "\"absent\"}]}",
         "no such file", FT_ENOINPUT},
        {"{\"model\": {\"path\": \"absent\"}, \"tasks\": [" TASK "]}", "absent", FT_ENOINPUT},
        {"{\"model\": {\"path\": \"tiny\"}, \"tasks\": [{\"type\": \"perplexity\", \"data\": "
         "\"text.txt\", \"max_length\": 8, \"stride\": 9}]}",
         "never be scored", FT_ECONFIG},
    };
    (void)tiny();
    test_write_file(test_path("text.txt"), "Once upon a time", 16);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        ft_status rc = evaluate(cases[i].config, &out);
        if (rc != cases[i].status || !strstr(ft_error(), cases[i].message))
            print_error("%s gives %d: %s\n", cases[i].config, (int)rc, ft_error());
        assert_int_equal(rc, cases[i].status);
        assert_non_null(strstr(ft_error(), cases[i].message));
        assert_int_equal(out.len, 0);
    }
    str_free(&out);
}

/* --- convert ------------------------------------------------------------------------------------------------------ */
static int entries(const char *dir)
{
    arena *mem = NULL;
    const char **names;
    int64_t n;
    assert_ok(arena_open(&mem, "t", (size_t)1 << 20));
    assert_ok(dir_list(dir, mem, &names, &n));
    arena_close(mem);
    return (int)n;
}

static void converts_and_leaves_nothing_half(void **state)
{
    (void)state;
    str_buf out = {0};
    const char *dir = test_path("conv");
    assert_ok(dir_make(dir));
    char gguf[600], folder[600];
    snprintf(gguf, sizeof gguf, "%s/a.gguf", dir);
    snprintf(folder, sizeof folder, "%s/b", dir);
    const tool_sink sink = {test_append, &out};
    assert_ok(tool_convert(
        &(tool_convert_options){.model = tiny(), .out = gguf, .type = "f16", .json = true}, &sink));
    cJSON *o = test_json(out.data, out.len);
    assert_string_equal(cJSON_GetObjectItem(o, "type")->valuestring, "f16");
    cJSON_Delete(o);
    assert_ok(tool_convert(&(tool_convert_options){.model = gguf, .out = folder}, &sink));
    assert_int_equal(entries(dir), 2);
    assert_fails(tool_convert(&(tool_convert_options){.model = gguf, .out = folder}, &sink),
                 FT_EEXIST, "--force");
    assert_ok(
        tool_convert(&(tool_convert_options){.model = gguf, .out = folder, .force = true}, &sink));
    assert_fails(
        tool_convert(&(tool_convert_options){.model = test_path("nope"), .out = test_path("x")},
                     &sink),
        FT_ENOINPUT, "no such model");
    assert_int_equal(entries(dir), 2);
    /* the tokenizer went along: the same ids */
    tool_model *a = NULL, *b = NULL;
    tok_ids x = {0}, y = {0};
    static const char text[] = "Once upon a time there was 1 caf\xc3\xa9.";
    assert_ok(tool_open(&a, tiny(), NULL, true, NULL));
    assert_ok(tool_open(&b, folder, NULL, true, NULL));
    assert_ok(tool_encode(a, text, strlen(text), &x));
    assert_ok(tool_encode(b, text, strlen(text), &y));
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.id, y.id, (size_t)x.n * sizeof *x.id);
    tok_ids_free(&x);
    tok_ids_free(&y);
    tool_close(a);
    tool_close(b);
    str_free(&out);
}

/* A folder whose tokenizer is in vocab.json and merges.txt: the GGUF has it, and a folder made of that. */
static void older_tokenizers_go_along(void **state)
{
    static const char text[] = "hello there<|im_end|>\n  two",
                      config[] =
                          "{\"tokenizer_class\":\"GPT2Tokenizer\",\"eos_token\":\"<|im_end|>\"}";
    static const char *const names[] = {"vocab.json", "merges.txt"};
    (void)state;
    str_buf out = {0};
    const tool_sink sink = {test_append, &out};
    model *m = NULL;
    const char *dir = test_path("older"), *gguf = test_path("older.gguf");
    const char *paths[] = {dir, gguf, test_path("older2")};
    assert_ok(model_open(
        &m, &(model_options){.from_config = source_path("data/tiny/config.json"), .seed = 5}));
    assert_ok(model_save(m, dir, NULL));
    model_close(m);
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        char from[700], to[700];
        snprintf(from, sizeof from, "%s/%s", golden_path("folders/lists"), names[i]);
        snprintf(to, sizeof to, "%s/%s", dir, names[i]);
        assert_ok(file_copy(from, to));
    }
    test_write_file(test_path("older/tokenizer_config.json"), config, strlen(config));
    assert_ok(tool_convert(&(tool_convert_options){.model = dir, .out = gguf}, &sink));
    assert_ok(tool_convert(&(tool_convert_options){.model = gguf, .out = paths[2]}, &sink));
    tok_ids want = {0};
    for (size_t i = 0; i < FT_COUNT_OF(paths); i++) {
        tool_model *t = NULL;
        tok_ids ids = {0};
        assert_ok(tool_open(&t, paths[i], NULL, true, NULL));
        assert_ok(tool_encode(t, text, strlen(text), i ? &ids : &want));
        if (i) {
            assert_int_equal(ids.n, want.n);
            assert_memory_equal(ids.id, want.id, (size_t)ids.n * sizeof *ids.id);
        }
        tok_ids_free(&ids);
        tool_close(t);
    }
    assert_true(want.n > 5);
    tok_ids_free(&want);
    str_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_those_of_a_plain_pass),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(texts_and_continuations),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(streams_and_repeats),
        cmocka_unit_test(lines_advance_together),
        cmocka_unit_test(answers_match),
        cmocka_unit_test(perplexity_is_strided),
        cmocka_unit_test(gates_and_results),
        cmocka_unit_test(eval_configs_are_checked),
        cmocka_unit_test(converts_and_leaves_nothing_half),
        cmocka_unit_test(older_tokenizers_go_along),
    };
    assert_ok(kn_init());
    assert_ok(pool_open(2));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
