/* Tokenizers against the reference library (goldens of scripts/make_golden_tokenizers.py), round trips through
 * every file format, hostile files and texts, time, threads. */
#include "support.h"

#include "ft/io.h"
#include "ft/token.h"

#include <time.h>

/* --- helpers --------------------------------------------------------------------------------------------------- */
static void write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    test_write_file(path, text, n);
}

/* A folder with the tokenizer.json of a golden. */
static const char *golden_folder(const char *name)
{
    char file[256];
    char *text;
    size_t n;
    snprintf(file, sizeof file, "tokenizers/%s.json.gz", name);
    assert_ok(text_read(&text, &n, golden_path(file), 1u << 26));
    const char *dir = test_path(name);
    assert_ok(dir_make(dir));
    write_text(dir, "tokenizer.json", text, n);
    ft_free(text);
    return dir;
}

static tok_tokenizer *open_golden(const char *name)
{
    tok_tokenizer *t = NULL;
    assert_ok(tok_open(&t, golden_folder(name)));
    return t;
}

static size_t unhex(char *out, const char *hex, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2) {
        char two[3] = {hex[i], hex[i + 1], 0};
        out[i / 2] = (char)strtol(two, NULL, 16);
    }
    return n / 2;
}

static tok_ids encode(const tok_tokenizer *t, const char *text, size_t n, bool special)
{
    tok_ids v = {0};
    assert_ok(tok_encode(t, text, n, special, &v));
    return v;
}

static void assert_same_ids(const tok_ids *a, const tok_ids *b, const char *what)
{
    bool same =
        a->n == b->n && (a->n == 0 || memcmp(a->id, b->id, (size_t)a->n * sizeof *a->id) == 0);
    if (!same) print_error("%s: ids differ\n", what);
    assert_true(same);
}

typedef struct sample { /* one line of the goldens */
    const char *name;
    char *text, *back;
    size_t n, n_back;
    int32_t *id;
    int64_t n_ids;
} sample;

static void parse_sample(sample *s, char *line, size_t len)
{
    char *field[4] = {line};
    for (int i = 1; i < 4; i++) {
        field[i] = strchr(field[i - 1], '\t');
        assert_non_null(field[i]);
        *field[i]++ = 0;
    }
    s->name = field[0];
    s->text = test_alloc(len + 1);
    s->back = test_alloc(len + 1);
    s->id = test_alloc((len + 1) * sizeof *s->id);
    s->n = unhex(s->text, field[1], strlen(field[1]));
    s->n_back = unhex(s->back, field[3], strlen(field[3]));
    s->n_ids = 0;
    for (char *p = field[2]; *p;) s->id[s->n_ids++] = (int32_t)strtol(p, &p, 10);
}

static void check_sample(const tok_tokenizer *t, const sample *s, int *wrong)
{
    tok_ids v = {0};
    str_buf back = {0};
    ft_status rc = tok_encode(t, s->text, s->n, true, &v);
    bool ok = rc == FT_OK && v.n == s->n_ids &&
              (v.n == 0 || memcmp(v.id, s->id, (size_t)v.n * sizeof *v.id) == 0);
    if (!ok && ++*wrong <= 5) {
        print_error("%s: %s: other ids than the reference %s\n", s->name, ft_show(s->text, s->n),
                    rc == FT_OK ? "" : ft_error());
    }
    rc = tok_decode(t, s->id, s->n_ids, &back);
    ok = rc == FT_OK && back.len == s->n_back &&
         (back.len == 0 || memcmp(back.data, s->back, back.len) == 0);
    if (!ok && ++*wrong <= 5) {
        print_error("%s: %s: decodes to %s\n", s->name, ft_show(s->back, s->n_back),
                    ft_show(back.data ? back.data : "", back.len));
    }
    tok_ids_free(&v);
    str_free(&back);
}

/* Calls `each` for all samples of the golden file; it is sorted by tokenizer. */
typedef void (*sample_fn)(void *ctx, const char *name, const sample *s);
static void each_sample(sample_fn each, void *ctx)
{
    line_reader *r;
    const char *text;
    size_t len;
    ft_status rc;
    assert_ok(lines_open(&r, golden_path("tokenizers/cases.tsv.gz")));
    while ((rc = lines_next(r, &text, &len)) == FT_OK) {
        sample s;
        char *line = test_alloc(len + 1);
        memcpy(line, text, len);
        parse_sample(&s, line, len);
        each(ctx, s.name, &s);
    }
    assert_int_equal(rc, FT_END);
    lines_close(r);
}

/* --- the reference library -------------------------------------------------------------------------------------- */
typedef struct against {
    tok_tokenizer *t;
    char name[64];
    int wrong, samples, tokenizers;
} against;

static void against_reference(void *ctx, const char *name, const sample *s)
{
    against *a = ctx;
    if (strcmp(a->name, name) != 0) {
        tok_close(a->t);
        a->t = open_golden(name);
        snprintf(a->name, sizeof a->name, "%s", name);
        a->tokenizers++;
    }
    a->samples++;
    check_sample(a->t, s, &a->wrong);
}

static void ids_are_the_reference_librarys(void **state)
{
    against a = {0};
    (void)state;
    each_sample(against_reference, &a);
    tok_close(a.t);
    assert_int_equal(a.wrong, 0);
    assert_true(a.tokenizers >= 75);
    assert_true(a.samples >= 9000);
}

/* Written out in the format description, independent of the goldens. */
static void spec_examples(void **state)
{
    static const struct {
        const char *name, *text;
        int n;
        int32_t id[12];
    } row[] = {
        {"spec_t1", "the hello in", 6, {270, 116, 257, 269, 32, 259}},
        {"spec_t1",
         "12345 the\n\n\nan er",
         12,
         {270, 265, 51, 52, 53, 258, 266, 10, 97, 110, 32, 260}},
        {"spec_t1", "a<|eot|>the <|eot|>", 7, {270, 97, 271, 116, 257, 32, 271}},
        {"spec_t2", "hello</s>hello", 4, {1, 271, 2, 271}},
        {"spec_t2", "wor<s> hello", 5, {1, 275, 1, 259, 271}},
        {"spec_t2n", "hello</s>hello", 4, {1, 271, 2, 270}},
        {"spec_t2n", "</s> hello", 3, {1, 2, 271}},
        {"spec_t3", "zab z", 5, {1, 0, 5, 1, 0}},
        {"spec_t3", "  abab", 3, {1, 9, 5}},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(row); i++) {
        tok_tokenizer *t = open_golden(row[i].name);
        tok_ids v = encode(t, row[i].text, strlen(row[i].text), true);
        assert_int_equal(v.n, row[i].n);
        assert_memory_equal(v.id, row[i].id, (size_t)v.n * sizeof *v.id);
        tok_ids_free(&v);
        tok_close(t);
    }
}

/* --- formats ------------------------------------------------------------------------------------------------------ */
static void write_gguf(const tok_tokenizer *t, const char *path, int64_t rows)
{
    gguf_writer *w;
    assert_ok(gguf_write_open(&w, path));
    gguf_put_str(w, "general.architecture", "llama", 5);
    assert_ok(tok_write_gguf(t, w, rows));
    assert_ok(gguf_write_header(w));
    assert_ok(gguf_write_close(w));
}

typedef struct three { /* one tokenizer in three files */
    const char *name;
    tok_tokenizer *folder, *gguf, *back;
    int samples;
} three;

static void three_agree(void *ctx, const char *name, const sample *s)
{
    three *x = ctx;
    if (strcmp(name, x->name) != 0) return;
    tok_ids a = encode(x->folder, s->text, s->n, true), b = encode(x->gguf, s->text, s->n, true),
            c = encode(x->back, s->text, s->n, true);
    char what[200];
    snprintf(what, sizeof what, "%s: %s", name, ft_show(s->text, s->n));
    assert_same_ids(&b, &a, what);
    assert_same_ids(&c, &a, what);
    tok_ids_free(&a);
    tok_ids_free(&b);
    tok_ids_free(&c);
    x->samples++;
}

static void write_folder(const tok_tokenizer *t, const char *dir)
{
    str_buf json = {0}, config = {0};
    assert_ok(tok_write_json(t, &json, &config));
    assert_ok(dir_make(dir));
    write_text(dir, "tokenizer.json", json.data, json.len);
    write_text(dir, "tokenizer_config.json", config.data, config.len);
    str_free(&json);
    str_free(&config);
}

static void formats_keep_the_ids(void **state)
{
    static const char *const names[] = {"gpt2",   "llama3",    "qwen2",  "o200k", "starcoder",
                                        "falcon", "deepseek3", "llama2", "gemma", "spec_t2"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        three x = {.name = names[i], .folder = open_golden(names[i])};
        const char *path = test_path("tokenizer.gguf"), *dir = test_path("written");
        int64_t rows = tok_size(x.folder) + 5;
        write_gguf(x.folder, path, rows);
        assert_ok(tok_open(&x.gguf, path));
        assert_int_equal(tok_size(x.gguf), rows);
        write_folder(x.gguf, dir);
        assert_ok(tok_open(&x.back, dir));
        each_sample(three_agree, &x);
        assert_true(x.samples > 100);
        assert_int_equal(tok_bos(x.back), tok_bos(x.gguf));
        assert_int_equal(tok_eos(x.back), tok_eos(x.gguf));
        tok_close(x.folder);
        tok_close(x.gguf);
        tok_close(x.back);
    }
}

static void gguf_refuses_what_it_cannot_hold(void **state)
{
    static const struct {
        const char *name, *what;
    } row[] = {{"unigram", "Unigram"},
               {"bert", "WordPiece"},
               {"bpe_suffix", "suffix"},
               {"prefix", "no name for the pre-tokenizer"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(row); i++) {
        tok_tokenizer *t = open_golden(row[i].name);
        gguf_writer *w;
        assert_ok(gguf_write_open(&w, test_path("refused.gguf")));
        assert_fails(tok_write_gguf(t, w, tok_size(t)), FT_EDATA, row[i].what);
        gguf_write_abort(w);
        tok_close(t);
    }
    tok_tokenizer *t = open_golden("gpt2");
    gguf_writer *w;
    assert_ok(gguf_write_open(&w, test_path("refused.gguf")));
    assert_fails(tok_write_gguf(t, w, tok_size(t) - 1), FT_EDATA, "rows");
    gguf_write_abort(w);
    tok_close(t);
}

/* --- older files ------------------------------------------------------------------------------------------------- */
static void lists_of_gpt2_open(void **state)
{
    static const char vocab[] = "{\"a\":0,\"b\":1,\"ab\":2,\"\u0120\":3,\"\u0120ab\":4}";
    static const char merges[] = "#version: 0.2\na b\n\xc4\xa0 ab\n\n";
    const char *dir = test_path("lists");
    tok_tokenizer *t;
    (void)state;
    assert_ok(dir_make(dir));
    write_text(dir, "vocab.json", vocab, sizeof vocab - 1);
    assert_fails(tok_open(&t, dir), FT_ENOINPUT, "merges.txt");
    write_text(dir, "merges.txt", merges, sizeof merges - 1);
    assert_ok(tok_open(&t, dir));
    static const int32_t expect[] = {2, 4, 3, 0};
    tok_ids v = encode(t, "ab ab a", 7, true);
    assert_int_equal(v.n, 4);
    assert_memory_equal(v.id, expect, sizeof expect);
    tok_ids_free(&v);
    tok_close(t);
}

/* The strings of a .gguf are any bytes: what is decoded is text all the same. */
static void gguf_tokens_may_be_no_text(void **state)
{
#define TOKEN(s)                                                                                   \
    {                                                                                              \
        s, sizeof s - 1                                                                            \
    }
    static const gguf_str token[] = {TOKEN("<unk>"),        TOKEN("</s>"),     TOKEN("a"),
                                     TOKEN("\xe2\x96\x81"), TOKEN("\xe2\x96"), TOKEN("\xff")};
    static const int32_t type[] = {2, 3, 1, 1, 1, 1}, id[] = {2, 4, 2, 5};
    static const float score[FT_COUNT_OF(token)] = {0};
    const char *path = test_path("bytes.gguf");
    gguf_writer *w;
    tok_tokenizer *t;
    str_buf text = {0}, bytes = {0};
    (void)state;
    assert_ok(gguf_write_open(&w, path));
    gguf_put_str(w, "general.architecture", "llama", 5);
    gguf_put_str(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_strs(w, "tokenizer.ggml.tokens", token, FT_COUNT_OF(token));
    gguf_put_f32s(w, "tokenizer.ggml.scores", score, FT_COUNT_OF(token));
    gguf_put_i32s(w, "tokenizer.ggml.token_type", type, FT_COUNT_OF(token));
    assert_ok(gguf_write_header(w));
    assert_ok(gguf_write_close(w));
    assert_ok(tok_open(&t, path));
    assert_ok(tok_decode(t, id, FT_COUNT_OF(id), &text));
    assert_string_equal(text.data, "a\xef\xbf\xbd"
                                   "a\xef\xbf\xbd");
    assert_ok(tok_decode_bytes(t, id, FT_COUNT_OF(id), &bytes));
    assert_string_equal(bytes.data, "a\xe2\x96"
                                    "a\xff");
    str_free(&text);
    str_free(&bytes);
    tok_close(t);
}

static void nul_is_a_character(void **state)
{
    static const char json[] =
        "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"vocab\":"
        "{\"a\":0,\"\\u0000\":1,\"a\\u0000\":2},\"merges\":[[\"a\",\"\\u0000\"]]}}";
    const char *dir = test_path("nul");
    tok_tokenizer *t;
    (void)state;
    assert_ok(dir_make(dir));
    write_text(dir, "tokenizer.json", json, sizeof json - 1);
    assert_ok(tok_open(&t, dir));
    tok_ids v = encode(t, "\0a\0", 3, false);
    str_buf back = {0};
    assert_int_equal(v.n, 2);
    assert_int_equal(v.id[0], 1);
    assert_int_equal(v.id[1], 2);
    assert_ok(tok_decode(t, v.id, v.n, &back));
    assert_int_equal(back.len, 3);
    assert_memory_equal(back.data, "\0a\0", 3);
    str_free(&back);
    tok_ids_free(&v);
    tok_close(t);
}

/* One SentencePiece piece: field 1 of the model, with text, score and type. */
static void add_piece(str_buf *out, const char *text, float score, int type)
{
    size_t n = strlen(text);
    str_printf(out, "\x0a%c\x0a%c%s\x15", (int)(n + 9), (int)n, text);
    str_add(out, (const char *)&score, 4);
    str_printf(out, "\x18%c", type);
}

static void sentencepiece_model_opens(void **state)
{
    static const char *const pieces[] = {"<unk>", "<s>", "</s>", "\xe2\x96\x81",
                                         "a",     "b",   "ab",   "▁ab"};
    const char *dir = test_path("spm");
    str_buf model = {0};
    tok_tokenizer *t;
    (void)state;
    for (int i = 0; i < 8; i++) add_piece(&model, pieces[i], (float)-i, i == 0 ? 2 : i < 3 ? 3 : 1);
    str_add(&model, "\x12\x02\x18\x02", 4);         /* trainer: type BPE */
    str_add(&model, "\x1a\x04\x18\x01\x20\x00", 6); /* normalizer: dummy prefix, no squeezing */
    assert_ok(dir_make(dir));
    write_text(dir, "tokenizer.model", model.data, model.len);
    assert_ok(tok_open(&t, dir));
    static const int32_t expect[] = {1, 7, 7, 3, 4, 0};
    tok_ids v = encode(t, "ab ab az", 8, true);
    assert_int_equal(v.n, 6);
    assert_memory_equal(v.id, expect, sizeof expect);
    assert_int_equal(tok_bos(t), 1);
    tok_ids_free(&v);
    tok_close(t);
    for (size_t cut = 0; cut < model.len; cut++) {
        write_text(dir, "tokenizer.model", model.data, cut);
        if (tok_open(&t, dir) == FT_OK) tok_close(t);
    }
    str_free(&model);
}

/* --- special tokens ------------------------------------------------------------------------------------------------ */
static void config_names_the_special_tokens(void **state)
{
    static const char config[] =
        "{\"bos_token\": null, \"eos_token\": {\"content\": \"<|im_end|>\", \"lstrip\": false},"
        " \"pad_token\": \"<|endoftext|>\", \"additional_special_tokens\": [\"<extra>\"],"
        " \"added_tokens_decoder\": {\"500\": {\"content\": \"<late>\", \"special\": false}},"
        " \"model_max_length\": 1e30, \"chat_template\": [{\"name\": \"tool_use\", \"template\": "
        "\"no\"},"
        " {\"name\": \"default\", \"template\": \"{{ '<|im_end|>' }}\"}]}";
    static const char generation[] = "{\"eos_token_id\": [2, 0]}";
    const char *dir = golden_folder("gpt2");
    tok_tokenizer *t;
    int n;
    (void)state;
    write_text(dir, "tokenizer_config.json", config, sizeof config - 1);
    write_text(dir, "generation_config.json", generation, sizeof generation - 1);
    assert_ok(tok_open(&t, dir));
    assert_int_equal(tok_bos(t), -1);
    assert_int_equal(tok_eos(t), tok_id(t, "<|im_end|>", 10));
    assert_int_equal(tok_pad(t), tok_id(t, "<|endoftext|>", 13));
    assert_false(tok_adds_bos(t));
    const tok_named *named = tok_chat_templates(t, &n);
    assert_int_equal(n, 2);
    assert_string_equal(named[0].name, "tool_use");
    assert_string_equal(named[1].text, "{{ '<|im_end|>' }}");
    const int32_t *stop = tok_stops(t, &n);
    assert_int_equal(n, 2);
    assert_int_equal(stop[0], 2);
    assert_int_equal(stop[1], 0);
    int32_t late = tok_id(t, "<late>", 6), extra = tok_id(t, "<extra>", 7);
    assert_int_equal(late, 500);
    assert_int_equal(extra, 501);
    assert_false(tok_is_special(t, late));
    assert_true(tok_is_special(t, extra));
    assert_int_equal(tok_size(t), 502);
    assert_string_equal(tok_text(t, extra), "<extra>");
    assert_null(tok_text(t, 502));
    assert_null(tok_text(t, -1));
    tok_close(t);
}

static void flags_of_llama_classes_win(void **state)
{
    static const char config[] =
        "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"bos_token\": \"<s>\","
        " \"eos_token\": \"</s>\", \"add_bos_token\": false, \"add_eos_token\": true}";
    const char *dir = golden_folder("llama2");
    tok_tokenizer *t;
    (void)state;
    write_text(dir, "tokenizer_config.json", config, sizeof config - 1);
    assert_ok(tok_open(&t, dir));
    tok_ids v = encode(t, "a", 1, true);
    assert_false(tok_adds_bos(t));
    assert_int_not_equal(v.id[0], tok_bos(t));
    assert_int_equal(v.id[v.n - 1], tok_eos(t));
    tok_ids_free(&v);
    tok_close(t);
}

/* --- any bytes -------------------------------------------------------------------------------------------------------- */
static void bytes_come_back(void **state)
{
    static const char *const names[] = {"gpt2", "llama3", "o200k", "falcon", "deepseek3"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        tok_tokenizer *t = open_golden(names[i]);
        for (uint64_t k = 0; k < 4000; k++) {
            char text[64];
            size_t n = test_u64(i + 1, 100 * k) % sizeof text;
            for (size_t j = 0; j < n; j++) {
                uint64_t r = test_u64(i + 1, 100 * k + 1 + j);
                text[j] = r % 3 ? (char)(r >> 8) : "a 1\n'sé"[(r >> 8) % 8];
            }
            tok_ids v = encode(t, text, n, false);
            str_buf back = {0}, valid = {0};
            assert_ok(tok_decode_bytes(t, v.id, v.n, &back));
            assert_int_equal(back.len, n);
            if (n) assert_memory_equal(back.data, text, n);
            assert_ok(tok_decode(t, v.id, v.n, &valid));
            assert_true(n == 0 || utf8_valid(valid.data, valid.len));
            str_free(&back);
            str_free(&valid);
            tok_ids_free(&v);
        }
        tok_close(t);
    }
}

static void lossy_decoding_is_rusts(void **state)
{
    static const struct {
        const char *bytes;
        int marks;
    } row[] = {{"\xe2\x82", 1}, {"\xf0\x9f\x98", 1},     {"\xed\xa0\x80", 3}, {"\xff\xfe", 2},
               {"\xc0\xaf", 2}, {"\xf4\x90\x80\x80", 4}, {"\xe2\x28\xa1", 2}};
    tok_tokenizer *t = open_golden("gpt2");
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(row); i++) {
        tok_ids v = encode(t, row[i].bytes, strlen(row[i].bytes), false);
        str_buf out = {0};
        assert_ok(tok_decode(t, v.id, v.n, &out));
        int marks = 0;
        for (size_t k = 0; k + 2 < out.len; k++)
            marks += memcmp(out.data + k, "\xef\xbf\xbd", 3) == 0;
        assert_int_equal(marks, row[i].marks);
        str_free(&out);
        tok_ids_free(&v);
    }
    int32_t bad = (int32_t)tok_size(t);
    str_buf out = {0};
    assert_fails(tok_decode(t, &bad, 1, &out), FT_EDATA, "not in the vocabulary");
    str_free(&out);
    tok_close(t);
}

/* --- time ----------------------------------------------------------------------------------------------------------------- */
static double cpu_of(const tok_tokenizer *t, const char *unit, size_t bytes)
{
    size_t n = strlen(unit);
    char *text = test_alloc(bytes);
    for (size_t i = 0; i < bytes; i++) text[i] = unit[i % n];
    clock_t start = clock();
    tok_ids v = encode(t, text, bytes / n * n, false);
    double s = (double)(clock() - start) / CLOCKS_PER_SEC;
    tok_ids_free(&v);
    return s;
}

/* 16 times the text may take 64 times as long, and a floor hides the clock's grain. */
static void time_is_linear(void **state)
{
    static const char *const names[] = {"gpt2",     "llama3",    "qwen2",  "o200k",
                                        "deepseek", "deepseek3", "llama2", "metaspace_first",
                                        "unigram",  "t5",        "bert",   "added_lower"};
    static const char *const units[] = {"a", " ", "\n",        "\xe4\xbd\xa0",     "\xff",
                                        "A", "1", "a\xcc\x81", "\xcc\xa7\xcc\x81", "<",
                                        "'"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        tok_tokenizer *t = open_golden(names[i]);
        for (size_t k = 0; k < FT_COUNT_OF(units); k++) {
            double small = cpu_of(t, units[k], 1 << 14), large = cpu_of(t, units[k], 1 << 18);
            double limit = 64 * (small > 0.002 ? small : 0.002);
            if (large > limit)
                print_error("%s, unit %zu: %.4f s, then %.4f s\n", names[i], k, small, large);
            assert_true(large <= limit);
        }
        tok_close(t);
    }
}

/* --- hostile files ----------------------------------------------------------------------------------------------------------- */
#define BPE(vocab, merges)                                                                         \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}}"
#define WITH(part) "{" part ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}"
static void bad_files_are_refused(void **state)
{
    static const struct {
        const char *text, *what;
    } row[] = {
        {"", ""},
        {"[]", "object"},
        {"{}", "model"},
        {"{\"version\":\"2.0\",\"model\":null}", "version"},
        {"{\"model\":{\"type\":\"XYZ\"}}", "unknown type"},
        {BPE("{}", "[]"), "empty"},
        {BPE("[]", "[]"), "vocab"},
        {BPE("{\"a\":-1}", "[]"), "the id of"},
        {BPE("{\"a\":99999999}", "[]"), "the id of"},
        {BPE("{\"a\":1e300}", "[]"), ""},
        {BPE("{\"a\":0.5}", "[]"), "the id of"},
        {BPE("{\"a\":\"0\"}", "[]"), "the id of"},
        {BPE("{\"a\":0}", "{}"), "merges"},
        {BPE("{\"a\":0}", "[\"a a\"]"), "makes aa"},
        {BPE("{\"a\":0}", "[\"a\"]"), "two tokens"},
        {BPE("{\"a\":0}", "[\"a  a\"]"), "two tokens"},
        {BPE("{\"a\":0}", "[[\"a\"]]"), "two tokens"},
        {BPE("{\"a\":0}", "[[\"a\",\"b\"]]"), "vocabulary"},
        {BPE("{\"a\":0,\"aa\":1}", "[\"a a\",[\"a\",\"a\"]]"), "mixed"},
        {BPE("{\"a\":0}", "[1]"), "two tokens"},
        {BPE("{\"a\":0,\"a\":1}", "[]"), "twice"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", "score"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", "unk_id"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "missing"},
        {WITH("\"normalizer\":{\"type\":\"No\"}"), "unknown type"},
        {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"\"}"),
         "pattern"},
        {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA\"}"),
         "short"},
        {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}"),
         "trie"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":"
              "\"Isolated\",\"invert\":false}"),
         "pattern"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":"
              "\"No\",\"invert\":false}"),
         "behavior"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"),
         "one character"},
        {WITH("\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}"), "length"},
        {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
              "\"id\":\"x\"}}],\"special_tokens\":{}}"),
         "not defined"},
        {WITH("\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",7],\"sep\":[\"a\",0]"
              "}"),
         "vocabulary"},
        {WITH("\"added_tokens\":[{\"id\":0}]"), "content"},
        {WITH("\"added_tokens\":[{\"content\":\"x\"}]"), "id"},
        {WITH("\"added_tokens\":[{\"id\":-4,\"content\":\"x\"}]"), "id"},
        {WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\"\",\"start\":1,\"stop\":0}"),
         "one character"},
    };
    const char *dir = test_path("hostile");
    (void)state;
    assert_ok(dir_make(dir));
    for (size_t i = 0; i < FT_COUNT_OF(row); i++) {
        tok_tokenizer *t = NULL;
        write_text(dir, "tokenizer.json", row[i].text, strlen(row[i].text));
        assert_fails(tok_open(&t, dir), FT_EDATA, row[i].what);
        assert_null(t);
    }
    tok_tokenizer *t = NULL;
    assert_fails(tok_open(&t, test_path("nowhere")), FT_ENOINPUT, "nowhere");
}

/* Whatever bytes of a good file are changed, it opens or is refused, and what opens can be used. */
static void damaged_files_do_no_harm(void **state)
{
    static const char *const names[] = {"spec_t1", "spec_t2", "spec_t3", "normal_bert",
                                        "regex_o200k"};
    const char *dir = test_path("damaged");
    int opened = 0;
    (void)state;
    assert_ok(dir_make(dir));
    for (size_t k = 0; k < FT_COUNT_OF(names); k++) {
        char path[512];
        size_t n;
        snprintf(path, sizeof path, "%s/tokenizer.json", golden_folder(names[k]));
        char *good = test_read_file(path, &n), *bad = test_alloc(n);
        for (uint64_t i = 0; i < 150; i++) {
            memcpy(bad, good, n);
            int changes = 1 + (int)(test_u64(k, i) % 3);
            for (int c = 0; c < changes; c++) {
                uint64_t r = test_u64(k + 50, 10 * i + (uint64_t)c);
                bad[r % n] = "\"{}[],:0a\\ 9-"[(r >> 40) % 13];
            }
            write_text(dir, "tokenizer.json", bad, n);
            tok_tokenizer *t = NULL;
            tok_ids v = {0};
            str_buf out = {0};
            if (tok_open(&t, dir) != FT_OK) continue;
            opened++;
            static const char text[] = "the hello  12345\n</s>zab <|eot|> \xff\xe2\x82";
            if (tok_encode(t, text, sizeof text - 1, true, &v) == FT_OK) {
                assert_ok(tok_decode(t, v.id, v.n, &out));
            }
            tok_ids_free(&v);
            str_free(&out);
            tok_close(t);
        }
    }
    assert_true(opened > 50);
}

static void expensive_patterns_stop(void **state)
{
    static const struct {
        const char *pattern, *limit;
    } row[] = {{"(?:a+)+b", "match limit"}, {"(a|aa)+$(?<=b)", "limit"}};
    const char *dir = test_path("patterns");
    char text[4096];
    (void)state;
    memset(text, 'a', sizeof text);
    assert_ok(dir_make(dir));
    for (size_t i = 0; i < FT_COUNT_OF(row); i++) {
        str_buf json = {0};
        str_printf(&json,
                   WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                        "\"behavior\":\"Isolated\",\"invert\":false}"),
                   row[i].pattern);
        write_text(dir, "tokenizer.json", json.data, json.len);
        str_free(&json);
        tok_tokenizer *t = NULL;
        tok_ids v = {0};
        assert_ok(tok_open(&t, dir));
        assert_fails(tok_encode(t, text, sizeof text, false, &v), FT_EDATA, row[i].limit);
        tok_ids_free(&v);
        tok_close(t);
    }
}

/* --- threads -------------------------------------------------------------------------------------------------------------------- */
typedef struct shared {
    const tok_tokenizer *t;
    tok_ids expect;
    int wrong[64];
} shared;
static const char shared_text[] =
    "The quick brown fox, 12345 times: it's \xe4\xbd\xa0\xe5\xa5\xbd <|endoftext|> e\xcc\x81!\n\n";

static void encode_tile(void *ctx, int64_t tile, int thread)
{
    shared *x = ctx;
    (void)thread;
    tok_ids v = {0};
    bool ok = tok_encode(x->t, shared_text, sizeof shared_text - 1, true, &v) == FT_OK &&
              v.n == x->expect.n && memcmp(v.id, x->expect.id, (size_t)v.n * sizeof *v.id) == 0;
    x->wrong[tile % 64] += !ok;
    tok_ids_free(&v);
}

static void threads_share_a_tokenizer(void **state)
{
    static const char *const names[] = {"qwen2", "unigram", "regex_cl100k"};
    (void)state;
    assert_ok(pool_open(4));
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        tok_tokenizer *t = open_golden(names[i]);
        shared x = {.t = t, .expect = encode(t, shared_text, sizeof shared_text - 1, true)};
        pool_run(encode_tile, &x, 64);
        for (int k = 0; k < 64; k++) assert_int_equal(x.wrong[k], 0);
        tok_ids_free(&x.expect);
        tok_close(t);
    }
    pool_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_the_reference_librarys),
        cmocka_unit_test(spec_examples),
        cmocka_unit_test(formats_keep_the_ids),
        cmocka_unit_test(gguf_refuses_what_it_cannot_hold),
        cmocka_unit_test(gguf_tokens_may_be_no_text),
        cmocka_unit_test(lists_of_gpt2_open),
        cmocka_unit_test(nul_is_a_character),
        cmocka_unit_test(sentencepiece_model_opens),
        cmocka_unit_test(config_names_the_special_tokens),
        cmocka_unit_test(flags_of_llama_classes_win),
        cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(lossy_decoding_is_rusts),
        cmocka_unit_test(time_is_linear),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(expensive_patterns_stop),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
