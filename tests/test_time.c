/* test_time.c – the time of a text grows with its length and no faster: each kind of tokenizer over inputs of one kind that
 * wear down loops (runs of a letter, of spaces, of marks, of invalid bytes), and vocabularies made to be slow; names by
 * which an adapter means modules.
 *
 * CPU time of this process, the least of some runs: a linear loop has a ratio of 1, a quadratic one of 16. */
#include "support.h"

#include "ft/method.h"
#include "ft/token.h"

#include <time.h>

enum { SHORT = 1 << 14, TIMES = 16 };
#define RATIO 4.0
#define FLOOR 0.002 /* seconds; what is below is noise */
#define SLOWEST                                                                                    \
    10.0 /* seconds of a text at its limit of steps, on a slow core with the others busy */

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* n bytes of whole units. */
static char *run_of(const char *unit, size_t n, size_t *len)
{
    const size_t u = strlen(unit);
    char *s = test_alloc(n + 1);
    for (*len = 0; *len + u <= n; *len += u) memcpy(s + *len, unit, u);
    return s;
}

static double encode_seconds(const tok_tokenizer *t, const char *s, size_t n, ft_status *rc)
{
    double best = 1e9;
    for (int i = 0; i < 3 && (i == 0 || best < 0.05); i++) {
        tok_ids ids = {0};
        const double from = cpu_seconds();
        *rc = tok_encode(t, s, n, false, &ids);
        const double took = cpu_seconds() - from;
        if (took < best) best = took;
        tok_ids_free(&ids);
    }
    return best;
}

/* An error is an answer too: patterns have a limit of steps. */
static void expect_linear(const tok_tokenizer *t, const char *name, const char *unit)
{
    ft_status rc[2];
    size_t n[2];
    char *s[2] = {run_of(unit, SHORT, &n[0]), run_of(unit, (size_t)SHORT * TIMES, &n[1])};
    double a = encode_seconds(t, s[0], n[0], &rc[0]), b = encode_seconds(t, s[1], n[1], &rc[1]);
    if (b > RATIO * TIMES * (a > FLOOR ? a : FLOOR)) {
        print_error("%s: %zu bytes of \"%s\" in %.3f s, %zu in %.3f s\n", name, n[0], unit, a, n[1],
                    b);
        fail();
    }
}

static tok_tokenizer *open_text(const char *text)
{
    tok_tokenizer *t;
    const char *path = test_path("tokenizer.json");
    test_write_file(path, text, strlen(text));
    assert_ok(tok_open(&t, test_dir()));
    return t;
}

/* --- each kind, as published ---------------------------------------------------------------------------------------- */
static void every_kind(void **state)
{
    static const char *const names[] = {"qwen2",     "llama2",      "bert",        "t5",
                                        "wordlevel", "normal_NFKC", "regex_o200k", "scripts"};
    static const char *const units[] = {
        "a",        " ",    "\n", "漢",      "👩‍👩‍👧‍👦",
        "\xcc\x81", "\xff", "0",  "<|im_st", "<|im_start|>",
        "<s>",      "ab ",  "'s", "\xe2",    "ᄀ"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        char file[64];
        char *text;
        size_t n;
        snprintf(file, sizeof file, "tokenizers/%s.json.gz", names[i]);
        assert_ok(text_read(&text, &n, golden_path(file), (size_t)1 << 24));
        tok_tokenizer *t = open_text(text);
        for (size_t k = 0; k < FT_COUNT_OF(units); k++) expect_linear(t, names[i], units[k]);
        tok_close(t);
        ft_free(text);
    }
}

/* --- made to be slow -------------------------------------------------------------------------------------------------- */
enum { LETTERS = 65000 };
#define LONG_TOKEN "aa…b" /* stands for LETTERS times "a" and a b */

/* The text of a tokenizer.json: its model, steps and added tokens, with LONG_TOKEN put in. */
static tok_tokenizer *open_made(const char *added, const char *steps, const char *json)
{
    str_buf out = {0}, all = {0};
    str_printf(&all, "{\"version\":\"1.0\",\"added_tokens\":[%s],%s\"model\":{%s}}", added, steps,
               json);
    const char *at = all.data;
    for (const char *hit; (hit = strstr(at, LONG_TOKEN)); at = hit + strlen(LONG_TOKEN)) {
        str_add(&out, at, (size_t)(hit - at));
        for (int i = 0; i < LETTERS; i++) str_addc(&out, 'a');
        str_addc(&out, 'b');
    }
    str_adds(&out, at);
    assert_ok(str_ok(&out));
    tok_tokenizer *t = open_text(out.data);
    str_free(&out);
    str_free(&all);
    return t;
}

#define BPE "\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\" \":2,\"|\":3},\"merges\":[]"
#define ADDED(normalized)                                                                          \
    "{\"id\":4,\"content\":\"" LONG_TOKEN "\",\"single_word\":false,\"lstrip\":false,"             \
    "\"rstrip\":false,\"normalized\":" normalized ",\"special\":false}"
#define SPLIT(pattern)                                                                             \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern "\"},\"behavior\":\"Isolated\","       \
    "\"invert\":false}"

static void long_tokens(void **state)
{
    static const struct {
        const char *name, *added, *model;
    } made[] = {
        {"an added token", ADDED("false"), BPE},
        {"a normalized one", ADDED("true"), BPE},
        {"Unigram", "",
         "\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"?\",0],[\"a\",-1],[\"b\",-2],"
         "[\"" LONG_TOKEN "\",-3]]"},
        {"WordPiece", "",
         "\"type\":\"WordPiece\",\"unk_token\":\"?\",\"continuing_subword_prefix\":\"##\","
         "\"max_input_chars_per_word\":10000000,\"vocab\":{\"?\":0,\"a\":1,\"##a\":2,"
         "\"##" LONG_TOKEN "\":3}"},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(made); i++) {
        tok_tokenizer *t = open_made(made[i].added, "", made[i].model);
        const char *s;
        size_t n;
        ft_status rc;
        tok_ids ids = {0};
        s = run_of("a", (size_t)1 << 19, &n);
        double took = encode_seconds(t, s, n, &rc);
        assert_int_equal(rc, FT_OK);
        if (took > 1) print_error("%s: %.2f s\n", made[i].name, took);
        assert_true(took <= 1);
        /* and it is found where it stands */
        char *with = run_of("a", LETTERS + 1000, &n);
        with[n - 1] = 'b';
        assert_ok(tok_encode(t, with, n, false, &ids));
        assert_int_equal(ids.n, 1000);
        tok_ids_free(&ids);
        tok_close(t);
    }
}

/* Steps are those of the text, however many pieces it is cut into. */
static void steps_of_a_text(void **state)
{
    static const char *const patterns[] = {"x?a*a*a*b|c",
                                           "(?<!x)a*a*a*b|c"}; /* own engine, PCRE2 */
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(patterns); i++) {
        char steps[300];
        size_t n;
        ft_status rc;
        snprintf(steps, sizeof steps,
                 "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
                 "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"|\"},%s]},",
                 i == 0 ? SPLIT("x?a*a*a*b|c") : SPLIT("(?<!x)a*a*a*b|c"));
        tok_tokenizer *t = open_made("", steps, BPE);
        char unit[402];
        memset(unit, 'a', 400);
        memcpy(unit + 400, "|", 2);
        char *s = run_of(unit, 400000, &n);
        double took = encode_seconds(t, s, n, &rc);
        assert_int_equal(rc, FT_EDATA);
        assert_non_null(strstr(ft_error(), "match limit"));
        if (took > SLOWEST) print_error("%s: %.2f s\n", patterns[i], took);
        assert_true(took <= SLOWEST);
        tok_close(t);
    }
}

/* A pattern of PCRE2 over a long text, whole and with an invalid byte at its end. */
static void pcre_texts(void **state)
{
    (void)state;
    tok_tokenizer *t = open_made("", "\"pre_tokenizer\":" SPLIT("(?<=x)b|a") ",", BPE);
    for (int bad = 0; bad < 2; bad++) {
        size_t n;
        ft_status rc;
        char *s = run_of("ab", (size_t)1 << 19, &n);
        if (bad) s[n - 1] = (char)0xff;
        double took = encode_seconds(t, s, n, &rc);
        assert_int_equal(rc, FT_OK);
        assert_true(took <= 1.5);
    }
    tok_close(t);
}

/* An adapter may bring any number of names with ranks of their own: each is looked at for every module. */
static void names_of_a_pattern(void **state)
{
    static const char *const keys[] = {
        "q_proj", "self_attn.q_proj", "proj",       "self.attn.q.proj", "1.mlp", "layers.0",
        ".proj",  "x_q_proj",         "model..q_p", "model.q_proj",     "",      "model.layers"};
    static const char *const paths[] = {"q_proj", "model.layers.11.self_attn.q_proj",
                                        "model.q_proj", "mlp", "model.layers.0"};
    char regex[64], name[64];
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++)
        for (size_t k = 0; k < FT_COUNT_OF(paths); k++) {
            snprintf(regex, sizeof regex, "(%s)", keys[i]);
            assert_int_equal(pe_match_pattern(keys[i], paths[k]),
                             pe_match_pattern(regex, paths[k]));
        }
    const double from = cpu_seconds();
    for (int i = 0; i < 1000000; i++) {
        snprintf(name, sizeof name, "layers.%d.q_proj", i);
        assert_int_equal(pe_match_pattern(name, "model.layers.x.q_proj"), 0);
    }
    assert_true(cpu_seconds() - from < 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kind), cmocka_unit_test(long_tokens),
                                       cmocka_unit_test(steps_of_a_text),
                                       cmocka_unit_test(pcre_texts),
                                       cmocka_unit_test(names_of_a_pattern)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
