/* test_data_files.c – where records come from: .csv and .tsv, folders, patterns, splits, and what is held out. */
#include "data_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

static void put_bytes(const char *name, const char *text, size_t n)
{
    test_write_file(test_path(name), text, n);
}

static ft_status open_file(fixture *f, const char *name, const char *more)
{
    char config[400];
    snprintf(config, sizeof config, "{\"data\":{\"train\":{\"path\":\"%s\"%s%s}}}", name,
             *more ? "," : "", more);
    return load(f, config, true);
}

/* --- .csv ------------------------------------------------------------------------------------------------------- */
static void csv_gives_the_records_of_the_rfc(void **state)
{
    static const struct {
        const char *file, *want[4];
        int64_t line[4];
    } cases[] = {
        {"prompt,completion\na,b\nc,d\n", {"a|b<eos>", "c|d<eos>"}, {2, 3}},
        {"prompt,completion\r\na,b\r\nc,d", {"a|b<eos>", "c|d<eos>"}, {2, 3}},
        {"\xef\xbb\xbfprompt,completion\na,b", {"a|b<eos>"}, {2}},
        {"\n\r\nprompt,completion\n\n\r\na,b\n\n\nc,d\n\n", {"a|b<eos>", "c|d<eos>"}, {6, 9}},
        {"prompt,completion\n\"a,1\",\"b\"\"2\"\"\"\n\"\"\"\",\"\nx\r\ny\"\ne,f\n",
         {"a,1|b\"2\"<eos>", "\"|\nx\r\ny<eos>", "e|f<eos>"},
         {2, 3, 6}},
        {"prompt,completion\n a , b \n", {" a | b <eos>"}, {2}},
        {"prompt,completion\na,b\"c\"d\n", {"a|b\"c\"d<eos>"}, {2}}, /* no quote in front */
        {"\"prompt\",completion\n,x\n", {"x<eos>"}, {2}},
        {"completion,prompt\n\"\",q\n", {"q|<eos>"}, {2}},
        {"prompt,completion\na,\xc3\xa9\n", {"a|\xc3\xa9<eos>"}, {2}},
    };
    fixture f;
    data_sample x;
    (void)state;
    begin(&f, "csv", CHATML, false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        int n = 0;
        put("d.csv", cases[i].file);
        assert_ok(open_file(&f, "d.csv", ""));
        while (cases[i].want[n]) n++;
        assert_int_equal(data_count(f.set), n);
        for (int k = 0; k < n; k++) {
            assert_string_equal(text_of(&f, k), cases[i].want[k]);
            assert_ok(data_get(f.set, k, &x, f.mem));
            assert_int_equal(x.line, cases[i].line[k]);
            assert_string_equal(x.path, test_path("d.csv"));
        }
    }
    put("d.tsv", "prompt\tcompletion\na,1\t\"b\tc\"\n");
    assert_ok(open_file(&f, "d.tsv", ""));
    assert_string_equal(text_of(&f, 0), "a,1|b\tc<eos>");
    assert_string_equal(data_stats(f.set, 0)->name, "d");
    end(&f);
}

static void csv_fields_may_be_json(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "json", CHATML, false);
    put("d.csv",
        "messages,tools\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"q\"\"},{\"\"role\"\":"
        "\"\"assistant\"\",\"\"content\"\":\"\"7\"\"}]\", \n");
    assert_ok(open_file(&f, "d.csv", ""));
    assert_string_equal(text_of(&f, 0),
                        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n|7<|im_end|>|\n");
    put("d.csv", "input_ids,labels\n\"[1,2]\",\"[-100,2]\"\n\"[3,4]\",\"[3,4]\"\n");
    assert_ok(open_file(&f, "d.csv", ""));
    assert_int_equal(data_stats(f.set, 0)->supervised, 2);
    put("d.csv", "input_ids,labels\n\"[1,2]\",\"[-100,2]\"\n\"[3,4]\",\n");
    assert_fails(open_file(&f, "d.csv", ""), FT_EDATA, "d.csv:3:1: labels: must be a list");
    put("d.csv", "prompt,completion\n7,true\n[1],null\n"); /* text as it stands */
    assert_ok(open_file(&f, "d.csv", ""));
    assert_string_equal(text_of(&f, 0), "7|true<eos>");
    assert_string_equal(text_of(&f, 1), "[1]|null<eos>");
    put("d.csv", "q,a\nQ,\"{\"\"text\"\":[\"\"A\"\"]}\"\n");
    assert_ok(open_file(&f, "d.csv", "\"columns\":{\"prompt\":\"q\",\"completion\":\"a.text.0\"}"));
    assert_string_equal(text_of(&f, 0), "Q|A<eos>");
    put("d.csv", "messages\n[\n");
    assert_fails(open_file(&f, "d.csv", ""), FT_EDATA,
                 "d.csv:2:1: messages: the field must be JSON");
    end(&f);
}

static void csv_mistakes_name_the_line_of_the_record(void **state)
{
    static const struct {
        const char *file, *what;
        size_t n;
    } cases[] = {
        {"prompt,completion\na,b\nc\nd,e\n",
         "d.csv:3: a record of 1 field, where the header names 2", 0},
        {"prompt,completion\n\"a\nb\",c,d\n", "d.csv:2: a record of 3 fields, where", 0},
        {"prompt,completion\na,b\n\"c\n\nd,\"e\nf,g\n",
         "d.csv:3: text stands behind a closing quote", 0},
        {"prompt,completion\na,b\nc,\"d\n\ne,f\n", "d.csv:3: a quote that opens here is not closed",
         0},
        {"prompt,completion\na,\"b\"c\n", "d.csv:2: text stands behind a closing quote", 0},
        {"prompt,completion\na,\"b\" \n", "d.csv:2: text stands behind a closing quote", 0},
        {"prompt,completion\na,\"b\"\r", "d.csv:2: text stands behind a closing quote", 0},
        {"prompt,,completion\na,b,c\n", "d.csv:1: the header has no name for field 2", 0},
        {"\nprompt,completion,prompt\na,b,c\n", "d.csv:2: the header names \"prompt\" twice", 0},
        {"prompt,completion\na,b\n\"c\n\",\xff\n", "d.csv:3: field 2 is not UTF-8", 0},
        {"prompt,completion\na,b\nc,d\0e\n", "d.csv:3: field 2 holds a NUL byte", 28},
        {"prompt,completion\n", "holds no records", 0},
        {"", "holds no records", 0},
        {"promt,answr\na,b\n",
         "d.csv:2:1: cannot tell the format of this record (keys: promt, answr)", 0},
    };
    fixture f;
    (void)state;
    begin(&f, "csvbad", NULL, false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        put_bytes("d.csv", cases[i].file, cases[i].n ? cases[i].n : strlen(cases[i].file));
        assert_fails(open_file(&f, "d.csv", ""), FT_EDATA, cases[i].what);
    }
    end(&f);
}

/* Records that are longer than a portion, and lie over its border; read in windows as at once. */
static void csv_of_any_length(void **state)
{
    fixture f;
    str_buf s = {0};
    char whole[65], window[65];
    (void)state;
    begin(&f, "long", NULL, false);
    str_adds(&s, "id,text\n");
    for (int i = 0; i < 4000; i++) {
        str_printf(&s, "%d,\"", i);
        for (int k = 0; k < i % 90; k++) str_printf(&s, k % 7 ? "word%d " : "\n\"\"%d\"\" ", k);
        str_printf(&s, "end\"%s", i % 3 ? "\n" : "\r\n");
    }
    put_bytes("d.csv", s.data, s.len);
    assert_ok(load(&f, "{\"data\":{\"train\":\"d.csv\",\"max_length\":64}}", true));
    assert_int_equal(data_stats(f.set, 0)->records, 4000);
    int64_t samples = data_count(f.set), tokens = data_stats(f.set, 0)->tokens;
    assert_ok(data_sha256(f.set, whole));
    f.cfg.count = true;
    assert_ok(load(&f, "{\"data\":{\"train\":\"d.csv\",\"max_length\":64,\"window_tokens\":6400}}",
                   true));
    assert_true(data_stats(f.set, 0)->windows > 10);
    assert_int_equal(data_count(f.set), samples);
    assert_int_equal(data_stats(f.set, 0)->tokens, tokens);
    assert_int_equal(data_stats(f.set, 0)->records, 4000);
    for (int64_t i = 0; i < samples; i += 997) text_of(&f, samples - 1 - i); /* and back */
    assert_ok(data_sha256(f.set, window));
    str_free(&s);
    end(&f);
}

/* --- folders and patterns ------------------------------------------------------------------------------------------ */
static void several_files_are_one_source(void **state)
{
    static const struct {
        const char *path, *order; /* order: first letters of the prompts */
    } cases[] = {
        {"many", "abcde"},     {"many/", "abcde"},      {"many/*", NULL},
        {"many/*.csv", "ab"},  {"many/[bx].*", "b"},    {"man?/?.jsonl", "ce"},
        {"./many", "abcde"},   {"m*y/c.jsonl", "c"},    {"many/q?.jsonl", "?"},
        {"many/below/*", "z"}, {"many/*/z.jsonl", "z"},
    };
    fixture f;
    data_sample x;
    (void)state;
    begin(&f, "files", NULL, false);
    assert_ok(dir_make(test_path("many/below")));
    put("many/b.csv", "prompt,completion\nb,1\nb,2\n");
    put("many/a.csv", "completion,prompt\n3,a\n");
    put("many/e.jsonl", "{\"prompt\":\"e\",\"completion\":\"1\"}\n");
    put("many/d.json", "[{\"prompt\":\"d\",\"completion\":\"1\"}]");
    put("many/c.jsonl", "\n{\"prompt\":\"c\",\"completion\":\"1\"}\n");
    put("many/.hidden.jsonl", "not data\n");
    put("many/README.md", "# read me\n");
    put("many/below/z.jsonl", "{\"prompt\":\"z\",\"completion\":\"1\"}\n");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        str_buf order = {0};
        if (!strcmp(cases[i].path, "many/q?.jsonl"))
            put("many/q?.jsonl",
                "{\"prompt\":\"?\",\"completion\":\"1\"}\n"); /* a file of that very name */
        if (!strcmp(cases[i].path, "many/below/*"))
            assert_int_equal(unlink(test_path("many/q?.jsonl")), 0);
        if (!cases[i].order) {
            assert_fails(open_file(&f, cases[i].path, ""), FT_EDATA,
                         "README.md: the name must end in");
            continue;
        }
        assert_ok(open_file(&f, cases[i].path, ""));
        for (int64_t k = 0; k < data_count(f.set); k++) {
            char c = text_of(&f, k)[0];
            if (!order.len || order.data[order.len - 1] != c) str_addc(&order, c);
        }
        assert_string_equal(order.data, cases[i].order);
        assert_int_equal(data_stats(f.set, 0)->files, order.len);
        str_free(&order);
    }
    assert_ok(open_file(&f, "many", ""));
    assert_string_equal(data_stats(f.set, 0)->name, "many");
    assert_ok(data_get(f.set, 3, &x, f.mem));
    assert_string_equal(x.path, test_path("many/c.jsonl"));
    assert_int_equal(x.line, 2);
    put("many/e.jsonl", "{\"prompt\":\"e\"}\n");
    assert_fails(open_file(&f, "many", ""), FT_EDATA, "many/e.jsonl:1:1: completion: is missing");
    assert_ok(dir_make(test_path("empty/below")));
    put("empty/x.parquet", "PAR1");
    assert_fails(open_file(&f, "empty", ""), FT_ENOINPUT, "holds no data files");
    assert_fails(open_file(&f, "many/*.tsv", ""), FT_ENOINPUT, "no file fits this pattern");
    end(&f);
}

/* Documents of a folder are those of one file with separators, in memory and in windows, whatever the sizes. */
static void text_of_many_files(void **state)
{
    fixture f;
    str_buf one = {0};
    char whole[65], other[65], name[40];
    (void)state;
    begin(&f, "texts", NULL, false);
    assert_ok(dir_make(test_path("texts.d")));
    for (int i = 0; i < 200; i++) {
        str_buf s = {0};
        int words = i % 50 == 7 ? 3000 : i % 9;
        for (int k = 0; k <= words; k++)
            str_printf(&s, "%sw%d", k ? k % 11 ? " " : "\n" : "", i * k);
        snprintf(name, sizeof name, "texts.d/%03d.txt", i);
        put(name, s.data);
        str_printf(&one, "%s%s", i ? "@@" : "", s.data);
        str_free(&s);
    }
    put("one.txt", one.data);
    for (int windows = 0; windows < 2; windows++) {
        char more[120];
        snprintf(more, sizeof more, ",\"max_length\":32%s}}",
                 windows ? ",\"window_tokens\":640" : "");
        char config[300];
        f.cfg.count = true;
        snprintf(config, sizeof config,
                 "{\"data\":{\"train\":{\"path\":\"one.txt\",\"document_separator\":\"@@\"}%s",
                 more);
        assert_ok(load(&f, config, true));
        assert_ok(data_sha256(f.set, whole));
        int64_t samples = data_count(f.set);
        assert_int_equal(data_stats(f.set, 0)->records, 200);
        snprintf(config, sizeof config, "{\"data\":{\"train\":\"texts.d\"%s", more);
        assert_ok(load(&f, config, true));
        assert_ok(data_sha256(f.set, other));
        assert_string_equal(whole, other);
        assert_int_equal(data_count(f.set), samples);
        assert_int_equal(data_stats(f.set, 0)->records, 200);
        if (windows) { /* any place of it, and going on from what a checkpoint keeps */
            str_buf places = {0};
            js_doc doc;
            str_buf last = {0};
            str_adds(&last, text_of(&f, samples - 1));
            text_of(&f, samples / 2);
            assert_ok(data_places(f.set, &places));
            f.cfg.count = false;
            assert_ok(load(&f, config, true));
            assert_ok(js_parse(&doc, places.data, places.len, "places", 1, JS_STRICT, FT_EDATA));
            assert_ok(data_places_restore(f.set, &doc, doc.root));
            assert_string_equal(text_of(&f, samples - 1), last.data);
            js_close(&doc);
            str_free(&places);
            str_free(&last);
        }
    }
    str_free(&one);
    end(&f);
}

/* --- splits --------------------------------------------------------------------------------------------------------- */
static void splits_are_those_of_datasets(void **state)
{
    size_t n;
    fixture f;
    long records = 0, made = 0;
    char slice[20], from[12], to[12], config[200],
        *at = test_read_file(golden_path("splits.txt"), &n);
    (void)state;
    begin(&f, "split", NULL, false);
    for (int used; sscanf(at, "%ld %19s %11s %11s\n%n", &records, slice, from, to, &used) == 4;
         at += used) {
        if (records != made) {
            str_buf s = {0};
            str_adds(&s, "prompt,completion\n");
            for (long i = 0; i < records; i++) str_printf(&s, "%ld,x\n", i);
            put("s.csv", s.data);
            str_free(&s);
            made = records;
        }
        snprintf(config, sizeof config, "\"split\":\"%s\"", slice);
        ft_status rc = open_file(&f, "s.csv", config);
        if (*from == '-') {
            if (rc != FT_ECONFIG) fail_msg("%ld %s: status %d", records, slice, (int)rc);
            continue;
        }
        if (rc != FT_OK) fail_msg("%ld %s: %s", records, slice, ft_error());
        long a = strtol(from, NULL, 10), b = strtol(to, NULL, 10);
        char first[40], last[40];
        snprintf(first, sizeof first, "%ld|x<eos>", a);
        snprintf(last, sizeof last, "%ld|x<eos>", b - 1);
        if (data_count(f.set) != b - a)
            fail_msg("%ld %s: %ld", records, slice, (long)data_count(f.set));
        assert_string_equal(text_of(&f, 0), first);
        assert_string_equal(text_of(&f, b - a - 1), last);
    }
    assert_int_equal(*at, 0);
    assert_ok(open_file(&f, "s.csv", "\"split\":\"[100:200]\",\"limit\":7"));
    assert_int_equal(data_count(f.set), 7);
    assert_string_equal(text_of(&f, 6), "106|x<eos>");
    end(&f);
}

static void splits_that_are_none(void **state)
{
    static const struct {
        const char *split, *what;
    } cases[] = {
        {"\"90%\"", "split is \"[from:to]\""},
        {"\"[1]\"", "split is"},
        {"\"[:1.5%]\"", "split is"},
        {"\"[:5] \"", "split is"},
        {"\"[-:3]\"", "split is"},
        {"7", "split is"},
        {"\"[:101%]\"", "from -100 to 100"},
        {"\"[2:11]\"", "goes beyond the 10 records"},
        {"\"[-11:]\"", "goes beyond"},
        {"\"[4:4]\"", "holds none of the 10 records"},
        {"\"[99999999999999999999:]\"", "split is"},
    };
    fixture f;
    char more[80];
    str_buf s = {0};
    (void)state;
    for (int i = 0; i < 10; i++) str_printf(&s, "{\"prompt\":\"%d\",\"completion\":\"x\"}\n\n", i);
    put("s.jsonl", s.data);
    begin(&f, "nosplit", NULL, false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        snprintf(more, sizeof more, "\"split\":%s", cases[i].split);
        assert_fails(open_file(&f, "s.jsonl", more), FT_ECONFIG, cases[i].what);
    }
    put("t.txt", "one@two@@three@four");
    assert_ok(open_file(&f, "t.txt", "\"document_separator\":\"@\",\"split\":\"[1:3]\""));
    assert_string_equal(text_of(&f, 0), "two<eos>three");
    str_free(&s);
    end(&f);
}

/* --- what is held out ------------------------------------------------------------------------------------------------- */
static ft_status load_held(fixture *f, const char *sources, const char *split, uint64_t seed,
                           data_set **held)
{
    char config[500];
    snprintf(config, sizeof config, "{\"data\":{\"train\":%s,\"eval_split\":%s,\"max_length\":64}}",
             sources, split);
    f->cfg.seed = seed;
    FT_TRY(load(f, config, true));
    return data_open_held(held, f->set, &f->cfg);
}

/* One letter a record: T or E, by the numbers in the prompts. */
static void parts(fixture *f, data_set *held, char *out, int n)
{
    memset(out, '.', (size_t)n);
    out[n] = 0;
    data_set *train = f->set;
    for (int k = 0; k < 2; k++) {
        f->set = k ? held : train;
        for (int64_t i = 0; i < data_count(f->set); i++) {
            long at = strtol(text_of(f, i), NULL, 10);
            assert_true(at >= 0 && at < n && out[at] == '.');
            out[at] = k ? 'E' : 'T';
        }
    }
    f->set = train;
    assert_null(strchr(out, '.'));
}

static int count(const char *s, char c)
{
    int n = 0;
    for (; *s; s++) n += *s == c;
    return n;
}

static void records_are_held_out(void **state)
{
    fixture f;
    data_set *held = NULL;
    str_buf a = {0}, b = {0};
    char first[101], second[101];
    static const char *const sources =
        "[\"a.csv\",{\"path\":\"b.jsonl\",\"name\":\"bee\",\"split\":\"[10:]\"}]";
    (void)state;
    str_adds(&a, "prompt,completion\n");
    for (int i = 0; i < 70; i++) str_printf(&a, "%d ,x\n", i);
    for (int i = 60; i < 100; i++) str_printf(&b, "{\"prompt\":\"%d \",\"completion\":\"x\"}\n", i);
    put("a.csv", a.data);
    put("b.jsonl", b.data);
    begin(&f, "held", NULL, false);
    assert_ok(load_held(&f, sources, "0.15", 42, &held));
    parts(&f, held, first, 100);
    assert_int_equal(data_sources(held), 2);
    assert_string_equal(data_stats(held, 1)->name, "bee");
    assert_int_equal(data_stats(held, 0)->records, 10); /* 10.5, half to even */
    assert_int_equal(data_stats(held, 1)->records, 4);  /* 4.5 */
    data_close(held);
    assert_ok(load_held(&f, sources, "0.15", 42, &held));
    parts(&f, held, second, 100);
    assert_string_equal(first, second);
    data_close(held);
    assert_ok(load_held(&f, sources, "0.15", 43, &held));
    parts(&f, held, second, 100);
    assert_string_not_equal(first, second);
    data_close(held);
    for (int k = 1; k < 100; k += k < 10 ? 1 : 13) {
        char text[20];
        snprintf(text, sizeof text, "%d", k);
        assert_ok(load_held(&f, sources, text, (uint64_t)k, &held));
        parts(&f, held, first, 100);
        assert_int_equal(count(first, 'E'), k);
        for (int e = 0; e < 2; e++) { /* neither the head nor the tail of a source */
            int from = e ? 70 : 0, n = e ? 30 : 70, h = 0;
            for (int i = 0; i < n; i++) h += first[from + i] == 'E';
            int head = 0, tail = 0;
            while (head < n && first[from + head] == 'E') head++;
            while (tail < n && first[from + n - 1 - tail] == 'E') tail++;
            if (h && h < n) assert_true(head < h && tail < h);
        }
        data_close(held);
    }
    held = NULL;
    assert_fails(load_held(&f, sources, "100", 1, &held), FT_ECONFIG,
                 "data.eval_split: 100 takes 100 of the 100");
    assert_fails(load_held(&f, sources, "0.999", 1, &held), FT_ECONFIG, "leaves none to train on");
    assert_fails(load_held(&f, sources, "1.5", 1, &held), FT_ECONFIG,
                 "neither a share below 1 nor a whole number");
    put("c.csv", "prompt,completion\n0,x\n1,x\n2,x\n");
    assert_ok(load_held(&f, "\"c.csv\"", "0.01", 1, &held)); /* one at least */
    assert_int_equal(data_count(held), 1);
    data_close(held);
    str_free(&a);
    str_free(&b);
    end(&f);
}

static void documents_are_held_out(void **state)
{
    fixture f;
    data_set *held = NULL;
    str_buf s = {0};
    (void)state;
    begin(&f, "documents", NULL, false);
    for (int i = 0; i < 300; i++) {
        str_printf(&s, "%sdocument %d", i ? "##" : "", i);
        for (int k = 0; k < i % 17; k++) str_printf(&s, " word%d", k);
    }
    put("t.txt", s.data);
    int64_t tokens[2];
    for (int windows = 0; windows < 2; windows++) {
        char config[300];
        snprintf(config, sizeof config,
                 "{\"data\":{\"train\":{\"path\":\"t.txt\",\"document_separator\":\"##\"},\"eval_"
                 "split\":0.1,"
                 "\"max_length\":32%s}}",
                 windows ? ",\"window_tokens\":320" : "");
        f.cfg.seed = 7;
        f.cfg.count = true;
        assert_ok(load(&f, config, true));
        assert_ok(data_open_held(&held, f.set, &f.cfg));
        assert_int_equal(data_stats(held, 0)->records, 30);
        assert_int_equal(data_stats(f.set, 0)->records, 270);
        tokens[windows] = data_stats(held, 0)->tokens + (data_stats(f.set, 0)->tokens << 20);
        data_close(held);
    }
    assert_int_equal(tokens[0], tokens[1]);
    held = NULL;
    assert_fails(load_held(&f, "\"t.txt\"", "0.5", 1, &held), FT_EDATA,
                 "this source is one document");
    str_free(&s);
    end(&f);
}

/* Any bytes: an answer or 65, never more. */
static void hostile_bytes(void **state)
{
    static const char alphabet[] = "\",\n\r\t a[{:}]\\\xc3\xa9\xff-0";
    static const char *const more[] = {"", "\"columns\":{\"text\":\"a.0\"}", "\"split\":\"[1:]\"",
                                       "\"columns\":{\"messages\":\"a\",\"role\":\"b.c\"}"};
    fixture f;
    (void)state;
    begin(&f, "hostile", CHATML, false);
    for (uint64_t i = 0; i < 3000; i++) {
        char text[120];
        size_t n = 0, length = (size_t)(test_u64(9, i) % 80);
        n += (size_t)snprintf(text, sizeof text, "%s",
                              i % 3   ? "text,a\n"
                              : i % 2 ? "messages\n"
                                      : "");
        for (size_t k = 0; k < length; k++)
            text[n++] = alphabet[test_u64(i, k) % (sizeof alphabet)]; /* its NUL too */
        put_bytes("h.csv", text, n);
        ft_status rc = open_file(&f, "h.csv", more[i % FT_COUNT_OF(more)]);
        if (rc != FT_OK && rc != FT_EDATA && rc != FT_ECONFIG)
            fail_msg("%d: %s", (int)rc, ft_error());
    }
    end(&f);
}

/* What a verb makes of a word, and where a sample stands. */
static void words_are_sources(void **state)
{
    static const char *const words[][2] = {{"a b\".csv", "\"a b\\\".csv\""},
                                           {"-", "\"-\""},
                                           {"{\"path\": \"x\"}", "{\"path\": \"x\"}"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(words); i++) {
        str_buf s = {0};
        data_source_text(&s, words[i][0]);
        assert_string_equal(s.data, words[i][1]);
        str_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_gives_the_records_of_the_rfc),
        cmocka_unit_test(csv_fields_may_be_json),
        cmocka_unit_test(csv_mistakes_name_the_line_of_the_record),
        cmocka_unit_test(csv_of_any_length),
        cmocka_unit_test(several_files_are_one_source),
        cmocka_unit_test(text_of_many_files),
        cmocka_unit_test(splits_are_those_of_datasets),
        cmocka_unit_test(splits_that_are_none),
        cmocka_unit_test(records_are_held_out),
        cmocka_unit_test(documents_are_held_out),
        cmocka_unit_test(hostile_bytes),
        cmocka_unit_test(words_are_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
