/* test_data_window.c – text that is read in windows: the same rows as in memory, in an order of its own. */
#include "data_fixture.h"

#include <zlib.h>

/* Windows of a text, at most: each is read on its own, which takes its time, and more of it in a build with a sanitizer. */
#ifdef __SANITIZE_ADDRESS__
enum { MOST_WINDOWS = 10 };
#else
enum { MOST_WINDOWS = 40 };
#endif

static void put_gz(const char *name, const char *text, size_t n)
{
    gzFile gz = gzopen(test_path(name), "wb");
    assert_non_null(gz);
    assert_int_equal(gzwrite(gz, text, (unsigned)n), n);
    assert_int_equal(gzclose(gz), Z_OK);
}

/* Text of several pieces with everything that may stand at a border: lines of all lengths, empty lines, characters of
 * two to four bytes, CR LF where asked for, and a line longer than a piece. */
static void write_text(str_buf *s, uint64_t seed, int lines, const char *line_end)
{
    static const char *const words[] = {
        "tale", "\xc3\xa9t\xc3\xa9", "\xe6\x9d\xb1\xe4\xba\xac", "\xf0\x9f\x90\xb4", "a", " "};
    for (int i = 0; i < lines; i++) {
        int n =
            (int)(rng_u64(seed, (uint64_t)i) % 30) + (lines > 1000 && i == lines / 3 ? 30000 : 0);
        for (int k = 0; k < n; k++)
            str_adds(s, words[rng_u64(seed + 1, (uint64_t)(i * 40 + k)) % FT_COUNT_OF(words)]);
        str_adds(s, line_end);
        if (i % 11 == 0) str_adds(s, line_end);
    }
}

/* Documents of .jsonl, some of them empty. */
static void write_records(str_buf *s, int n)
{
    for (int i = 0; i < n; i++) {
        str_buf text = {0};
        if (i % 7)
            write_text(&text, 100 + 2 * (uint64_t)i, (int)(rng_u64(3, (uint64_t)i) % 9), "\n");
        str_adds(s, "{\"text\":");
        str_json(s, text.data ? text.data : "", text.len);
        str_adds(s, i % 5 ? "}\n" : "}\r\n");
        if (i % 13 == 0) str_adds(s, "\n");
        str_free(&text);
    }
}

static int64_t stored(fixture *f, const char *source, int max_length, const char *more,
                      data_sample **out)
{
    char config[600];
    snprintf(config, sizeof config, "{\"data\":{\"train\":%s,\"max_length\":%d%s}}", source,
             max_length, more);
    f->cfg.count = true;
    assert_ok(load(f, config, true));
    int64_t n = data_count(f->set);
    *out = test_alloc((size_t)n * sizeof **out);
    for (int64_t i = 0; i < n; i++) assert_ok(data_get(f->set, i, &(*out)[i], f->mem));
    return n;
}

static void same_sample(const data_sample *a, const data_sample *b)
{
    assert_int_equal(a->len, b->len);
    assert_int_equal(a->n_seq, b->n_seq);
    assert_memory_equal(a->ids, b->ids, (size_t)a->len * sizeof *a->ids);
    assert_memory_equal(a->labels, b->labels, (size_t)a->len * sizeof *a->labels);
    assert_memory_equal(a->seq_len, b->seq_len, (size_t)a->n_seq * sizeof *a->seq_len);
    assert_int_equal(a->source, b->source);
    assert_int_equal(a->line, b->line);
}

/* Samples of the memory of a set that goes away. */
static data_sample *kept(const data_sample *s, int64_t n)
{
    data_sample *out = test_alloc((size_t)n * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        int32_t *ids = test_alloc((size_t)s[i].len * sizeof *ids);
        int32_t *seq = test_alloc((size_t)s[i].n_seq * sizeof *seq);
        memcpy(ids, s[i].ids, (size_t)s[i].len * sizeof *ids);
        memcpy(seq, s[i].seq_len, (size_t)s[i].n_seq * sizeof *seq);
        out[i] = s[i];
        out[i].ids = out[i].labels = ids;
        out[i].seq_len = seq;
    }
    return out;
}

static void write_files(void)
{
    str_buf s = {0};
    write_text(&s, 1, 1500, "\n");
    test_write_file(test_path("lf.txt"), s.data, s.len);
    put_gz("lf.txt.gz", s.data, s.len);
    str_clear(&s);
    write_text(&s, 1, 1500, "\r\n");
    test_write_file(test_path("crlf.txt"), s.data, s.len);
    str_clear(&s);
    write_records(&s, 600);
    test_write_file(test_path("r.jsonl"), s.data, s.len);
    put_gz("r.jsonl.gz", s.data, s.len);
    str_free(&s);
}

/* Whatever the size of a window, the rows are those of the text in memory; asked for in any order. */
static void windows_hold_the_rows_of_memory(void **state)
{
    static const struct {
        const char *source;
        int max_length;
        const char *more;
        int windows[3];
    } cases[] = {
        {"\"lf.txt\"", 100, "", {5000, 20000, 77777}},
        {"\"lf.txt.gz\"", 1000, ",\"packing\":\"concat\"", {5000, 30000, 1000000000}},
        {"\"crlf.txt\"", 64, "", {6400, 12800, 131072}},
        {"{\"path\":\"crlf.txt\",\"document_separator\":\"\\r\\n\\r\\n\"}",
         64,
         "",
         {9999, 12800, 300000}},
        {"{\"path\":\"lf.txt\",\"document_separator\":\"tale\"}", 32, "", {6400, 30000, 131072}},
        {"{\"path\":\"lf.txt\",\"document_separator\":\"\\n\\n\",\"limit\":301}",
         33,
         "",
         {330, 3300, 9999}},
        {"\"r.jsonl\"", 17, "", {3400, 34000, 170000}},
        {"\"r.jsonl.gz\"", 50, ",\"packing\":\"concat\"", {5000, 50000, 1000000}},
        {"{\"path\":\"r.jsonl\",\"limit\":400}", 128, "", {3000, 6400, 64000}},
        {"{\"path\":\"r.jsonl\",\"limit\":40}", 128, "", {1, 256, 1000}},
    };
    (void)state;
    write_files();
    for (size_t c = 0; c < FT_COUNT_OF(cases); c++) {
        for (int bos = (int)c % 2; bos < 2; bos += 2) {
            fixture f;
            data_sample *all, *same, x;
            begin(&f, bos ? "bos" : "plain", NULL, bos);
            int64_t n = stored(&f, cases[c].source, cases[c].max_length, cases[c].more, &all);
            data_source_stats whole = *data_stats(f.set, 0);
            assert_int_equal(whole.windows, 0);
            assert_true(n > 20);
            all = kept(all, n);
            for (size_t w = 0; w < 3; w++) {
                char more[100];
                size_t mark = arena_mark(f.mem);
                int64_t tokens = cases[c].windows[w], rows = tokens / cases[c].max_length;
                if (rows < 1) rows = 1;
                if (n / rows > MOST_WINDOWS) continue;
                snprintf(more, sizeof more, "%s,\"window_tokens\":%d", cases[c].more,
                         cases[c].windows[w]);
                assert_int_equal(stored(&f, cases[c].source, cases[c].max_length, more, &same), n);
                const data_source_stats *st = data_stats(f.set, 0);
                assert_int_equal(st->windows, (n + rows - 1) / rows);
                assert_int_equal(st->tokens, whole.tokens);
                assert_int_equal(st->supervised, whole.supervised);
                assert_int_equal(st->records, whole.records);
                assert_int_equal(st->dropped, whole.dropped);
                assert_int_equal(st->longest, whole.longest);
                assert_int_equal(st->max_id, whole.max_id);
                assert_true(st->seen == whole.seen);
                for (int64_t i = 0; i < n; i++) same_sample(&same[i], &all[i]);
                for (int i = 0; i < 4; i++) {
                    int64_t k = (int64_t)(rng_u64(9, (uint64_t)i) % (uint64_t)n);
                    assert_ok(data_get(f.set, k, &x, f.mem));
                    same_sample(&x, &all[k]);
                }
                for (int k = 1; k < 40; k += 13) {
                    int64_t sum = 0, m = k < n ? k : n; /* every row but the last is full */
                    for (int64_t i = 0; i < m; i++) sum += all[i].len;
                    assert_int_equal(data_longest(f.set, k), sum);
                }
                arena_reset(f.mem, mark);
            }
            end(&f);
        }
    }
}

/* --- order ----------------------------------------------------------------------------------------------------------- */
/* The row of `all` that a sample is; rows of these texts are all different. */
static int64_t which(const data_sample *x, const data_sample *all, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (all[i].len == x->len && all[i].source == x->source &&
            !memcmp(all[i].ids, x->ids, (size_t)x->len * sizeof *x->ids))
            return i;
    }
    fail_msg("a sample that is not in the set");
    return -1;
}

/* Windows in the order of the file, their rows by (seed, source, epoch, window). */
static void reference(int64_t *out, int64_t n, int64_t rows, uint64_t seed, int64_t epoch)
{
    int64_t windows = (n + rows - 1) / rows, at = 0;
    int64_t *inside = test_alloc((size_t)rows * sizeof *inside);
    uint64_t key = rng_key(seed, 0x736f7572, (uint64_t)epoch);
    for (int64_t w = 0; w < windows; w++) {
        int64_t first = w * rows, k = n - first < rows ? n - first : rows;
        rng_permute(inside, k, rng_key(key, 0x77696e64, (uint64_t)w));
        for (int64_t i = 0; i < k; i++) out[at++] = first + inside[i];
    }
    assert_int_equal(at, n);
}

static void an_epoch_shuffles_the_rows_of_windows(void **state)
{
    enum { LENGTH = 300, ROWS = 7, BATCH = 8 };
    fixture f;
    data_sample *all, x[BATCH];
    int k;
    (void)state;
    write_files();
    begin(&f, "order", NULL, false);
    int64_t n = stored(&f, "\"lf.txt\"", LENGTH, ",\"window_tokens\":2100", &all),
            *want = test_alloc((size_t)n * sizeof *want);
    int64_t steps = (n + BATCH - 1) / BATCH;
    assert_int_equal(data_epoch_length(f.set), n);
    for (int64_t epoch = 0; epoch < 3; epoch += 2) {
        reference(want, n, ROWS, 42, epoch);
        for (int64_t s = 0; s < steps; s++) {
            assert_ok(data_take(f.set, 42, epoch * steps + s, BATCH, x, &k, f.mem));
            assert_int_equal(k, s + 1 < steps ? BATCH : n - s * BATCH);
            for (int i = 0; i < k; i++) assert_int_equal(which(&x[i], all, n), want[s * BATCH + i]);
        }
    }
    for (int i = 0; i < 15; i++) { /* any step, in any order */
        int64_t epoch = (int64_t)(rng_u64(1, (uint64_t)i) % 3),
                s = (int64_t)(rng_u64(2, (uint64_t)i) % (uint64_t)steps);
        size_t mark = arena_mark(f.mem);
        reference(want, n, ROWS, 43, epoch);
        assert_ok(data_take(f.set, 43, epoch * steps + s, BATCH, x, &k, f.mem));
        for (int j = 0; j < k; j++) assert_int_equal(which(&x[j], all, n), want[s * BATCH + j]);
        arena_reset(f.mem, mark);
    }
    n = stored(&f, "\"lf.txt\"", LENGTH, ",\"window_tokens\":2100,\"shuffle\":false", &all);
    for (int64_t s = 0; s < steps; s++) {
        assert_ok(data_take(f.set, 42, 5 * steps + s, BATCH, x, &k, f.mem));
        for (int i = 0; i < k; i++) same_sample(&x[i], &all[s * BATCH + i]);
    }
    end(&f);
}

/* Windows beside records in memory: every sample of an epoch once, shares of tokens kept all along; or by weight. */
static void windows_mix_with_other_sources(void **state)
{
    enum { BATCH = 8 };
    static const char *const sources[] = {
        "[\"lf.txt\",\"p.jsonl\",\"r.jsonl\"]",
        "[{\"path\":\"lf.txt\",\"weight\":1},{\"path\":\"p.jsonl\",\"weight\":1},{\"path\":\"r."
        "jsonl\",\"weight\":2}]"};
    str_buf s = {0};
    (void)state;
    write_files();
    for (int i = 0; i < 900; i++)
        str_printf(&s, "{\"prompt\":\"%0*d\",\"completion\":\"yes\"}\n", 5 + i % 90, i);
    put("p.jsonl", s.data);
    str_free(&s);
    for (int weighted = 0; weighted < 2; weighted++) {
        fixture f;
        data_sample *all, x[BATCH];
        double tokens[3] = {0}, share[3], sum = 0;
        int64_t seen = 0;
        int k;
        begin(&f, "with", NULL, false);
        int64_t n = stored(&f, sources[weighted], 300, ",\"window_tokens\":9000", &all);
        int64_t epoch = data_epoch_length(f.set), steps = (epoch + BATCH - 1) / BATCH;
        int *used = test_alloc((size_t)n * sizeof *used);
        assert_true(data_stats(f.set, 0)->windows > 3 && data_stats(f.set, 2)->windows > 3);
        assert_int_equal(data_stats(f.set, 1)->windows, 0);
        for (int i = 0; i < 3; i++) sum += (double)data_stats(f.set, i)->tokens;
        for (int i = 0; i < 3; i++)
            share[i] = weighted ? (i + 2) / 2 / 4.0 : (double)data_stats(f.set, i)->tokens / sum;
        for (int64_t step = 0; step < steps; step++) {
            assert_ok(data_take(f.set, 5, step, BATCH, x, &k, f.mem));
            for (int i = 0; i < k; i++, seen++) {
                used[which(&x[i], all, n)]++;
                tokens[x[i].source] += (double)x[i].len;
            }
            double now = tokens[0] + tokens[1] + tokens[2];
            for (int i = 0; i < 3 && step > steps / 10 && step < steps * 9 / 10; i++)
                assert_true(fabs(tokens[i] / now - share[i]) < 600 / now);
        }
        assert_int_equal(seen, weighted ? steps * BATCH : epoch); /* a mix has full steps only */
        for (int64_t i = 0; i < n && !weighted; i++) assert_int_equal(used[i], 1);
        int64_t there[BATCH];
        assert_ok(data_take(f.set, 5, steps + 3, BATCH, x, &k, f.mem)); /* then back, and again */
        for (int i = 0; i < k; i++) there[i] = which(&x[i], all, n);
        assert_ok(data_take(f.set, 5, 2, BATCH, x, &k, f.mem));
        assert_ok(data_take(f.set, 5, steps + 3, BATCH, x, &k, f.mem));
        for (int i = 0; i < k; i++) assert_int_equal(which(&x[i], all, n), there[i]);
        end(&f);
    }
}

/* Batches of steps first … first + n − 1, one after another. */
static data_sample *steps_of(fixture *f, int64_t first, int n, int64_t batch, int *count)
{
    data_sample *all = test_alloc((size_t)(n * batch) * sizeof *all);
    int k, at = 0;
    for (int i = 0; i < n; i++, at += k)
        assert_ok(data_take(f->set, 42, first + i, batch, all + at, &k, f->mem));
    *count = at;
    return kept(all, at);
}

static void same_steps(const data_sample *a, int n, const data_sample *b, int m)
{
    assert_int_equal(n, m);
    for (int i = 0; i < n; i++) same_sample(&a[i], &b[i]);
}

/* A stream that is only read as far as steps want it gives the steps of one that was counted, over the ends of passes; and
 * so does a set that was opened anew and told where the other one stood. */
static void a_stream_needs_no_first_pass(void **state)
{
    enum { BATCH = 8, STEPS = 30, PART = 6 };
    static const char *const sources[] = {
        "\"lf.txt.gz\"", "{\"path\":\"r.jsonl\",\"limit\":300}",
        "{\"path\":\"crlf.txt\",\"document_separator\":\"\\r\\n\\r\\n\"}",
        "[{\"path\":\"lf.txt\",\"weight\":3},{\"path\":\"r.jsonl.gz\",\"weight\":1,\"limit\":99}]"};
    (void)state;
    write_files();
    for (size_t c = 0; c < FT_COUNT_OF(sources); c++) {
        fixture f;
        int n, m;
        char config[600];
        begin(&f, "stream", NULL, c % 2);
        snprintf(config, sizeof config,
                 "{\"data\":{\"train\":%s,\"max_length\":1000,\"window_tokens\":30000}}",
                 sources[c]);
        f.cfg.count = true;
        assert_ok(load(&f, config, true));
        int64_t samples = data_count(f.set);
        assert_true(data_stats(f.set, 0)->whole && samples > 30 && samples < STEPS * BATCH);
        data_sample *all = steps_of(&f, 0, STEPS, BATCH, &n), *part;
        f.cfg.count = false;
        assert_ok(load(&f, config, true));
        assert_false(data_stats(f.set, 0)->whole);
        assert_int_equal(data_stats(f.set, 0)->windows, 1);
        double guess = data_tokens(f.set, 0) / (1000.0 * (double)samples);
        if (c < 3) assert_true(guess > 0.5 && guess < 2);
        part = steps_of(&f, 0, STEPS, BATCH, &m);
        same_steps(all, n, part, m);
        str_buf places = {0};
        for (int at = 0, from = 0; from < STEPS; from += PART) { /* a process for each part */
            js_doc doc;
            assert_ok(load(&f, config, true));
            if (from) {
                assert_ok(
                    js_parse(&doc, places.data, places.len, "places", 1, JS_STRICT, FT_EDATA));
                assert_ok(data_places_restore(f.set, &doc, doc.root));
                js_close(&doc);
            }
            part = steps_of(&f, from, PART, BATCH, &m);
            same_steps(all + at, m, part, m);
            at += m;
            str_clear(&places);
            assert_ok(data_places(f.set, &places));
        }
        str_free(&places);
        part = steps_of(&f, STEPS / 2, 2, BATCH, &m); /* and without them, at once */
        for (int i = 0, at = 0; i < STEPS; i++) {
            data_sample x[BATCH];
            int k;
            assert_ok(data_take(f.set, 42, i, BATCH, x, &k, f.mem));
            if (i == STEPS / 2) same_sample(&part[0], &all[at]);
            at += k;
        }
        end(&f);
    }
}

static void places_hold_a_stream_to_its_file(void **state)
{
    static const char config[] =
        "{\"data\":{\"train\":\"lf.txt\",\"max_length\":100,\"window_tokens\":5000}}";
    fixture f;
    str_buf places = {0};
    js_doc doc;
    data_sample x[2];
    size_t n;
    int k;
    (void)state;
    write_files();
    begin(&f, "places", NULL, false);
    assert_ok(load(&f, config, true));
    assert_ok(data_take(f.set, 1, 60, 2, x, &k, f.mem)); /* row 120: of window 2 */
    assert_ok(data_places(f.set, &places));
    assert_ok(js_parse(&doc, places.data, places.len, "places", 1, JS_STRICT, FT_EDATA));
    char *text = test_read_file(test_path("lf.txt"), &n);
    size_t at = 10300, apart = (n - 4096) / 15; /* in that window; 16 samples of bytes pass it by */
    while (text[at] != 'a' || at % apart < 4200) at++;
    assert_true(at < 14800);
    text[at] = 'e';
    test_write_file(test_path("lf.txt"), text, n);
    assert_ok(load(&f, config, true));
    assert_ok(data_places_restore(f.set, &doc, doc.root));
    assert_fails(data_take(f.set, 1, 61, 2, x, &k, f.mem), FT_EDATA, "changed");
    test_write_file(test_path("lf.txt"), text, n - 1);
    assert_ok(load(&f, config, true));
    assert_fails(data_places_restore(f.set, &doc, doc.root), FT_EDATA, "lf.txt: changed");
    js_close(&doc);
    str_free(&places);
    end(&f);
}

/* --- what holds a source to its windows ---------------------------------------------------------------------------------- */
static void hash_knows_text_and_windows(void **state)
{
    static const char *const configs[] = {
        "{\"data\":{\"train\":\"lf.txt\",\"max_length\":100,\"window_tokens\":5000}}",
        "{\"data\":{\"train\":\"lf.txt.gz\",\"max_length\":100,\"window_tokens\":5000}}",
        "{\"data\":{\"train\":\"lf.txt\",\"max_length\":100,\"window_tokens\":6000}}",
        "{\"data\":{\"train\":\"crlf.txt\",\"max_length\":100,\"window_tokens\":5000}}"};
    char hex[4][65];
    fixture f;
    (void)state;
    write_files();
    begin(&f, "hash", NULL, false);
    for (int i = 0; i < 4; i++) {
        if (i == 1) assert_ok(pool_open(3));
        assert_ok(load(&f, configs[i], true));
        assert_ok(data_sha256(f.set, hex[i]));
        if (i == 1) pool_close();
    }
    assert_string_equal(hex[0], hex[1]);
    assert_string_not_equal(hex[0], hex[2]);
    assert_string_not_equal(hex[0], hex[3]);
    end(&f);
}

static void a_file_that_changes_is_noticed(void **state)
{
    fixture f;
    size_t n;
    data_sample x[2];
    int k;
    (void)state;
    write_files();
    begin(&f, "change", NULL, false);
    f.cfg.count = true;
    assert_ok(load(&f,
                   "{\"data\":{\"train\":\"lf.txt\",\"max_length\":100,\"window_tokens\":5000,"
                   "\"shuffle\":false}}",
                   true));
    char *text = test_read_file(test_path("lf.txt"), &n);
    size_t at = 3 * n / 4;
    while (text[at] != 'a') at++;
    text[at] = 'e';
    test_write_file(test_path("lf.txt"), text, n);
    assert_ok(data_get(f.set, 0, &x[0], f.mem));
    assert_fails(data_get(f.set, 3 * data_count(f.set) / 4, &x[0], f.mem), FT_EDATA, "changed");
    test_write_file(test_path("lf.txt"), text, n / 2);
    assert_fails(data_get(f.set, 3 * data_count(f.set) / 4, &x[0], f.mem), FT_EDATA, "lf.txt");
    assert_fails(data_take(f.set, 1, 0, 2, x, &k, f.mem), FT_EDATA, "lf.txt: was cut while");
    end(&f);
}

/* A text without line ends is cut in pieces all the same: what is held of it is bounded. */
static void a_line_without_end_is_text(void **state)
{
    fixture f;
    data_sample *all, *same;
    str_buf s = {0};
    (void)state;
    begin(&f, "line", NULL, false);
    for (int i = 0; s.len < (5u << 20); i++) str_printf(&s, "%d of them ", i);
    test_write_file(test_path("one.txt"), s.data, s.len);
    int64_t n = stored(&f, "\"one.txt\"", 50000, "", &all);
    assert_int_equal(data_stats(f.set, 0)->tokens, s.len);
    all = kept(all, n);
    assert_int_equal(stored(&f, "\"one.txt\"", 50000, ",\"window_tokens\":3000000", &same), n);
    for (int64_t i = 0; i < n; i++) same_sample(&same[i], &all[i]);
    for (int64_t i = 0, at = 0; i < n; i++, at += 50000)
        for (int64_t k = 0; k < same[i].len; k++)
            if (same[i].ids[k] != (unsigned char)s.data[at + k]) fail_msg("byte %d", (int)(at + k));
    str_free(&s);
    end(&f);
}

/* "auto" lets go of the text once it is too much, at whatever point of a window. */
static void auto_goes_over_to_windows(void **state)
{
    fixture f;
    data_sample *all, *same;
    (void)state;
    write_files();
    begin(&f, "auto", NULL, false);
    int64_t n = stored(&f, "[\"r.jsonl\",\"lf.txt\"]", 500, "", &all);
    all = kept(all, n);
    assert_int_equal(data_stats(f.set, 1)->windows, 0);
    assert_int_equal(setenv("FT_TEST_KEEP_TOKENS", "50000", 1), 0);
    assert_int_equal(stored(&f, "[\"r.jsonl\",\"lf.txt\"]", 500, "", &same), n);
    assert_true(data_stats(f.set, 0)->tokens > 50000 && data_stats(f.set, 1)->tokens > 50000);
    assert_int_equal(data_stats(f.set, 1)->windows, 1); /* of 2^22 tokens */
    for (int64_t i = 0; i < n; i++) same_sample(&same[i], &all[i]);
    assert_int_equal(unsetenv("FT_TEST_KEEP_TOKENS"), 0);
    end(&f);
}

/* What reading takes is counted where a run leaves the window in memory, and nowhere else: the next one replaces it. */
static void reading_is_counted_where_it_happens(void **state)
{
    static const struct {
        const char *more;
        bool
            count; /* a first pass: the last window is in memory, the first one must be read again */
        int64_t samples;
        bool reads;
    } cases[] = {
        {"", false, 1000, false},                            /* in memory */
        {",\"window_tokens\":5000000", false, 1000, false},  /* one that is never full */
        {",\"window_tokens\":5000000", true, 100000, false}, /* read once, used again */
        {",\"window_tokens\":30000", false, 30, false},      /* a run that ends within the first */
        {",\"window_tokens\":30000", false, 31, true},
        {",\"window_tokens\":30000", true, 1, true},
    };
    (void)state;
    write_files();
    const double text = (double)file_size(test_path("lf.txt"));
    for (size_t c = 0; c < FT_COUNT_OF(cases); c++) {
        fixture f;
        char config[600];
        begin(&f, "reading", NULL, false);
        snprintf(config, sizeof config, "{\"data\":{\"train\":\"lf.txt\",\"max_length\":1000%s}}",
                 cases[c].more);
        f.cfg.count = cases[c].count;
        assert_ok(load(&f, config, true));
        double took = (double)data_reading_bytes(f.set, cases[c].samples);
        if ((took > 0) != cases[c].reads) fail_msg("case %d: %.0f bytes", (int)c, took);
        if (took > 8 * text + 16e6) fail_msg("case %d: %.0f bytes of %.0f", (int)c, took, text);
        end(&f);
    }
}

static void names_bytes_that_are_no_text(void **state)
{
    fixture f;
    str_buf s = {0};
    (void)state;
    begin(&f, "bytes", NULL, false);
    f.cfg.count = true;
    static const char missing[] = "{\"data\":{\"train\":\"none.txt\",\"window_tokens\":9000}}",
                      empty[] = "{\"data\":{\"train\":\"empty.txt\",\"window_tokens\":9000}}";
    put("empty.txt", "");
    assert_fails(load(&f, missing, true), FT_ENOINPUT, "none.txt");
    assert_fails(load(&f, empty, true), FT_EDATA, "empty.txt: holds no records");
    write_text(&s, 1, 3000, "\n");
    int64_t line = 1;
    for (size_t i = 0; i < s.len; i++) line += s.data[i] == '\n';
    str_adds(&s, "ab\xff");
    write_text(&s, 1, 3000, "\n");
    test_write_file(test_path("b.txt"), s.data, s.len);
    char where[100];
    snprintf(where, sizeof where, "b.txt:%lld:3: this byte is not UTF-8", (long long)line);
    assert_fails(load(&f, "{\"data\":{\"train\":\"b.txt\"}}", true), FT_EDATA, where);
    assert_fails(load(&f,
                      "{\"data\":{\"train\":{\"path\":\"b.txt\",\"document_separator\":\"tale\"},"
                      "\"window_tokens\":9000}}",
                      true),
                 FT_EDATA, where);
    str_free(&s);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_hold_the_rows_of_memory),
        cmocka_unit_test(an_epoch_shuffles_the_rows_of_windows),
        cmocka_unit_test(windows_mix_with_other_sources),
        cmocka_unit_test(a_stream_needs_no_first_pass),
        cmocka_unit_test(places_hold_a_stream_to_its_file),
        cmocka_unit_test(hash_knows_text_and_windows),
        cmocka_unit_test(a_file_that_changes_is_noticed),
        cmocka_unit_test(a_line_without_end_is_text),
        cmocka_unit_test(auto_goes_over_to_windows),
        cmocka_unit_test(reading_is_counted_where_it_happens),
        cmocka_unit_test(names_bytes_that_are_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
