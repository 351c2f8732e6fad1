/* test_follow.c – the log in other forms, and answers to prompts: event files as their reader checks them, log.csv, and
 * samples.jsonl, over interruptions too. */
#include "train_fixture.h"

#include "ft/io.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char wide[1024]; /* --set: one of as many tokens as the tokenizer has */

static int setup(void **state)
{
    str_buf text = {0};
    (void)state;
    write_train_files();
    write_config("lora.json", "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1}");
    const char *key = strstr(train_model_json, "\"vocab_size\":64") + strlen("\"vocab_size\":64");
    str_add(&text, train_model_json, (size_t)(key - train_model_json));
    str_addc(&text, '0');
    str_adds(&text, key);
    test_write_file(test_path("wide.json"), text.data, text.len);
    str_free(&text);
    snprintf(wide, sizeof wide, "model.from_config=%s", test_path("wide.json"));
    return 0;
}

/* --- a reader of events -------------------------------------------------------------------------------------------- */
static uint32_t crc_table[256];

static uint32_t crc32c(const uint8_t *p, size_t n)
{
    uint32_t crc = ~0u;
    for (uint32_t i = 0; crc_table[1] == 0 || i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        crc_table[i & 255] = c;
        if (i == 255) break;
    }
    for (size_t i = 0; i < n; i++) crc = crc >> 8 ^ crc_table[(crc ^ p[i]) & 255];
    return ~crc;
}

static uint32_t masked(const void *p, size_t n)
{
    uint32_t crc = crc32c(p, n);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static uint64_t varint(const uint8_t **p)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        uint8_t byte = *(*p)++;
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return v;
    }
}

typedef struct scalar {
    char tag[64];
    int64_t step;
    float value;
} scalar;

static int read_values(const uint8_t *p, const uint8_t *end, int64_t step, scalar *out)
{
    int n = 0;
    while (p < end) {
        assert_int_equal(*p++, 1 << 3 | 2);
        const uint8_t *stop = p + 1 + *p; /* shorter than 128 bytes */
        p++;
        assert_int_equal(*p++, 1 << 3 | 2);
        size_t len = *p++;
        snprintf(out[n].tag, sizeof out[n].tag, "%.*s", (int)len, (const char *)p);
        p += len;
        assert_int_equal(*p++, 2 << 3 | 5);
        memcpy(&out[n].value, p, 4);
        out[n++].step = step;
        assert_ptr_equal(p + 4, stop);
        p = stop;
    }
    return n;
}

/* All scalars of the one file in DIR/tensorboard; their number. */
static int read_events(const char *dir, scalar *out)
{
    arena *mem;
    const char **names;
    int64_t n;
    size_t size;
    int count = 0, records = 0;
    assert_int_equal(crc32c((const uint8_t *)"123456789", 9), 0xe3069283u);
    assert_ok(arena_open(&mem, "test", 1 << 20));
    const char *folder = arena_str(mem, test_path(in(dir, "tensorboard")));
    assert_ok(dir_list(folder, mem, &names, &n));
    assert_int_equal(n, 1);
    assert_true(str_starts(names[0], "events.out.tfevents."));
    const uint8_t *p = (const uint8_t *)test_read_file(path_join(mem, folder, names[0]), &size);
    for (const uint8_t *end = p + size; p < end; records++) {
        uint64_t len, wall;
        uint32_t crc;
        int64_t step = 0;
        memcpy(&len, p, 8);
        memcpy(&crc, p + 8, 4);
        assert_int_equal(crc, masked(p, 8));
        memcpy(&crc, p + 12 + len, 4);
        assert_int_equal(crc, masked(p + 12, len));
        const uint8_t *q = p + 12, *stop = q + len;
        p = stop + 4;
        assert_int_equal(*q++, 1 << 3 | 1);
        memcpy(&wall, q, 8);
        assert_true(wall != 0);
        q += 8;
        if (records == 0) {
            assert_memory_equal(q,
                                "\x1a\x0d"
                                "brain.Event:2",
                                15);
            continue;
        }
        assert_int_equal(*q++, 2 << 3);
        step = (int64_t)varint(&q);
        assert_int_equal(*q++, 5 << 3 | 2);
        assert_true(varint(&q) == (uint64_t)(stop - q));
        count += read_values(q, stop, step, out + count);
    }
    arena_close(mem);
    return count;
}

/* Each scalar of the log stands in the events once, in its order, and nothing else does. */
static void assert_events_are_the_log(const char *dir)
{
    static const char *const keys[][2] = {{"loss", "train/loss"},
                                          {"learning_rate", "train/learning_rate"},
                                          {"grad_norm", "train/grad_norm"},
                                          {"eval_loss", "eval/loss"}};
    static scalar all[400];
    int n = read_events(dir, all), seen = 0;
    char *line = test_read_file(test_path(in(dir, "log.jsonl")), NULL);
    for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        js_doc d;
        assert_ok(js_parse(&d, line, (size_t)(end - line), "log", 1, JS_STRICT, FT_EDATA));
        for (const cJSON *v = d.root->child; v; v = v->next)
            for (size_t k = 0; k < FT_COUNT_OF(keys); k++) {
                if (strcmp(v->string, keys[k][0]) != 0) continue;
                assert_true(seen < n);
                assert_string_equal(all[seen].tag, keys[k][1]);
                assert_true(all[seen].step == (int64_t)js_get(d.root, "step")->valuedouble);
                assert_true(all[seen].value == (float)v->valuedouble);
                seen++;
            }
        js_close(&d);
    }
    assert_int_equal(seen, n);
}

#define FORMS "output.tensorboard=true", "output.csv=true"
#define PROMPTS                                                                                    \
    "train.sample_prompts=[\"a b\",{\"prompt\":\"c\"},{\"messages\":[{\"role\":\"user\","          \
    "\"content\":\"d\"}]},\"\xc3\xa4\",\"e\"]"

/* Interrupted after step 6 and resumed: the bytes of the undisturbed run, which are those of one without any of it. */
static void an_interruption_leaves_no_mark(void **state)
{
    (void)state;
    job j = {.out = "bare", .set = {wide}};
    assert_ok(train(j));
    j = (job){.out = "whole",
              .set = {FORMS, PROMPTS, "train.sample_max_new_tokens=5", "train.keep_checkpoints=99",
                      wide}};
    assert_ok(train(j));
    assert_same_run("whole", "bare");
    assert_events_are_the_log("whole");
    for (int last = 2; last <= 10; last += 4) {
        copy_run("whole", "cut", last);
        j.out = "cut";
        j.resume = true;
        assert_ok(train(j));
        assert_same_run("cut", "whole");
        assert_same_file("cut", "whole", "samples.jsonl");
        assert_same_file("cut", "whole", "log.csv");
        assert_events_are_the_log("cut");
    }
}

static void samples_follow_each_evaluation(void **state)
{
    static const int steps[] = {0, 3, 6, 9, 10};
    (void)state;
    char *line = test_read_file(test_path("whole/samples.jsonl"), NULL);
    for (int i = 0; i < 25; i++) {
        js_doc d;
        char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_ok(js_parse(&d, line, (size_t)(end - line), "samples", i, JS_STRICT, FT_EDATA));
        assert_true(js_get(d.root, "step")->valuedouble == steps[i / 5]);
        assert_true(js_get(d.root, "index")->valuedouble == i % 5);
        assert_true(cJSON_IsArray(js_get(d.root, "messages")) == (i % 5 == 2));
        assert_true(cJSON_IsString(js_get(d.root, "prompt")) == (i % 5 != 2));
        double tokens = js_get(d.root, "tokens")->valuedouble;
        bool stopped = strcmp(js_get(d.root, "stop")->valuestring, "token") == 0;
        assert_true(tokens >= 1 && tokens <= 5 && (stopped || tokens == 5));
        js_close(&d);
        line = end + 1;
    }
    assert_int_equal(*line, 0);
}

static void without_evaluation_data_there_are_samples_too(void **state)
{
    (void)state;
    test_write_file(test_path("prompts.txt"), "one\n\ntwo\n", 9);
    test_write_file(test_path("prompts.jsonl"), "\"one\"\n{\"prompt\": \"two\"}\n", 24);
    char path[1024], file[1024];
    snprintf(path, sizeof path, "train.sample_prompts=%s", test_path("prompts.txt"));
    snprintf(file, sizeof file, "train.sample_prompts=%s", test_path("prompts.jsonl"));
    str_buf config = {0};
    str_printf(&config,
               "{\"model\":{\"from_config\":\"wide.json\",\"tokenizer\":\"%s\"},"
               "\"data\":{\"train\":{\"path\":\"train.jsonl\",\"format\":\"tokens\"}},"
               "\"train\":{\"max_steps\":4,\"eval_every\":2}}",
               source_path("data/tiny"));
    test_write_file(test_path("plain.json"), config.data, config.len);
    str_free(&config);
    job j = {.config = "plain.json", .out = "plain", .set = {path, "train.eval_on_start=false"}};
    assert_ok(train(j));
    char *text = test_read_file(test_path("plain/samples.jsonl"), NULL);
    assert_true(str_starts(text, "{\"step\":2,\"index\":0,\"prompt\":\"one\",\"text\":"));
    assert_non_null(strstr(text, "{\"step\":4,\"index\":1,\"prompt\":\"two\",\"text\":"));
    assert_null(strstr(text, "\"step\":0"));
    j.out = "plain2";
    j.set[0] = file;
    assert_ok(train(j));
    j.out = "none";
    j.set[0] = "train.sample_prompts=[]";
    assert_fails(train(j), FT_ECONFIG, "there is no prompt");
    j.set[0] = "train.sample_prompts=[{\"promt\": \"x\"}]";
    assert_fails(train(j), FT_ECONFIG,
                 "train.sample_prompts.promt: unknown key; did you mean \"prompt\"?");
    j.set[0] = "train.sample_prompts=[\"a\", {\"messages\": [], \"prompt\": \"b\"}]";
    assert_fails(train(j), FT_ECONFIG, "train.sample_prompts.prompt: not together with messages");
    static const char *const wrong[][2] = {
        {"[5]", "a prompt is a text"},
        {"[\"a\", {}]", "a prompt is a text"},
        {"[{\"prompt\": \"\"}]", "is no token at all"},
        {"[{\"messages\": []}]", "messages must be a list of at least one message"},
        {"[{\"messages\": 5}]", "messages: must be a list of messages"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(wrong); i++) {
        char set[200], at[200];
        snprintf(set, sizeof set, "train.sample_prompts=%s", wrong[i][0]);
        snprintf(at, sizeof at, "--set train.sample_prompts: %s", wrong[i][1]);
        j.set[0] = set;
        assert_fails(train(j), FT_ECONFIG, at);
        assert_null(strstr(ft_error(), "null"));
    }
    test_write_file(test_path("prompts.jsonl"), "\"one\"\n\n{\"messages\": []}\n", 25);
    j.set[0] = file;
    assert_fails(train(j), FT_EDATA, "prompts.jsonl:3:1: train.sample_prompts: messages");
    j.set[0] = "train.sample_prompts=7";
    assert_fails(train(j), FT_ECONFIG, "must be a path, or a list");
    j.set[0] = "train.sample_prompts=nowhere.txt";
    assert_fails(train(j), FT_ENOINPUT, "nowhere.txt");
    assert_false(dir_exists(test_path("none")));
}

static void a_row_for_each_line(void **state)
{
    (void)state;
    static const char header[] = "step,epoch,loss,learning_rate,grad_norm,tokens,supervised_tokens,"
                                 "eval_loss,eval_tokens\n";
    char *text = test_read_file(test_path("whole/log.csv"), NULL);
    assert_true(str_starts(text, header));
    assert_true(str_starts(text + strlen(header), "0,0,,,,,,"));
    int rows = 0, lines = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++) rows++;
    for (const char *p = test_read_file(test_path("whole/log.jsonl"), NULL); (p = strchr(p, '\n'));
         p++)
        lines++;
    assert_int_equal(rows, lines + 1);
    char source[2][1200];
    for (int i = 0; i < 2; i++)
        snprintf(source[i], sizeof source[i],
                 "%s[{\"path\":\"%s\",\"format\":\"tokens\",\"name\":\"a, \\\"b\\\"\"},"
                 "{\"path\":\"%s\",\"format\":\"tokens\"}]",
                 i ? "data.eval=" : "data.train=", test_path(i ? "eval.jsonl" : "train.jsonl"),
                 test_path(i ? "train.jsonl" : "eval.jsonl"));
    assert_ok(
        train((job){.out = "two", .set = {FORMS, source[0], source[1], "train.max_steps=2"}}));
    text = test_read_file(test_path("two/log.csv"), NULL);
    assert_non_null(strstr(text, ",\"source_tokens.a, \"\"b\"\"\",source_tokens.eval,eval_loss,"));
    assert_non_null(strstr(text, ",\"eval_loss.a, \"\"b\"\"\",\"eval_tokens.a, \"\"b\"\"\","));
    static scalar all[40];
    int n = read_events("two", all), named = 0;
    for (int i = 0; i < n; i++) named += strcmp(all[i].tag, "eval/loss.train") == 0;
    assert_int_equal(named, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_interruption_leaves_no_mark),
        cmocka_unit_test(samples_follow_each_evaluation),
        cmocka_unit_test(without_evaluation_data_there_are_samples_too),
        cmocka_unit_test(a_row_for_each_line),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
