/* data_fixture.h – a tokenizer of bytes and a data set from a config text, for the tests of data.
 *
 * The tokenizer has one id per byte and a few special tokens, so that expected ids can be read off the text. */
#ifndef FT_TEST_DATA_FIXTURE_H
#define FT_TEST_DATA_FIXTURE_H

#include "support.h"

#include "ft/data.h"

enum { IM_START = 256, IM_END, EOS, BOS, N_IDS };

static void byte_char(str_buf *s, int byte) /* GPT-2's printable stand-in for a byte */
{
    int32_t cp = byte, n = 0;
    bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174);
    for (int b = 0; !plain && b < byte; b++)
        n += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    if (!plain) cp = 256 + n;
    char utf8[4];
    str_add(s, utf8, (size_t)utf8_put(utf8, cp));
}

static const char *const specials[] = {"<|im_start|>", "<|im_end|>", "<eos>", "<bos>"};

#define CHATML                                                                                     \
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' "  \
    "+ "                                                                                           \
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif "  \
    "%}"

/* A tokenizer folder; template may be NULL; bos: the post-processor puts BOS in front. */
static const char *write_tokenizer(const char *name, const char *template, bool bos)
{
    static char folder[2][512];
    static int turn;
    char *dir = folder[turn++ % 2], path[600];
    str_buf s = {0};
    snprintf(dir, sizeof folder[0], "%s", test_path(name));
    assert_ok(dir_make(dir));
    str_adds(&s, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int i = 0; i < 4; i++) {
        str_printf(&s,
                   "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                   "\"rstrip\":false,"
                   "\"normalized\":false,\"special\":true}",
                   i ? "," : "", IM_START + i, specials[i]);
    }
    str_adds(&s, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_"
                 "space\":false,"
                 "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":");
    if (bos) {
        str_adds(&s, "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<"
                     "bos>\",\"type_id\":0}},"
                     "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"Sequence\":{\"id\":"
                     "\"A\",\"type_id\":0}},"
                     "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{\"<bos>\":{"
                     "\"id\":\"<bos>\","
                     "\"ids\":[259],\"tokens\":[\"<bos>\"]}}}");
    } else {
        str_adds(&s, "null");
    }
    str_adds(&s,
             ",\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
             "\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
             "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
             "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{");
    for (int i = 0; i < 256; i++) {
        str_buf c = {0};
        byte_char(&c, i);
        if (i) str_addc(&s, ',');
        str_json(&s, c.data, c.len);
        str_printf(&s, ":%d", i);
        str_free(&c);
    }
    str_adds(&s, "},\"merges\":[]}}");
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    test_write_file(path, s.data, s.len);
    str_clear(&s);
    str_adds(&s, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"eos_token\":\"<eos>\",\"bos_"
                 "token\":\"<bos>\"");
    if (template) {
        str_adds(&s, ",\"chat_template\":");
        str_json(&s, template, strlen(template));
    }
    str_adds(&s, "}");
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    test_write_file(path, s.data, s.len);
    str_free(&s);
    return dir;
}

typedef struct fixture {
    tok_tokenizer *tok;
    chat *chat;
    data_set *set;
    cfg_doc doc;
    arena *mem;
    data_cfg cfg;
} fixture;

static void begin(fixture *f, const char *name, const char *template, bool bos)
{
    *f = (fixture){0};
    assert_ok(tok_open(&f->tok, write_tokenizer(name, template, bos)));
    if (template) assert_ok(chat_open(&f->chat, f->tok));
    assert_ok(arena_open(&f->mem, "test", 512u << 20));
}

/* Opens the data of a config text; the folder of the config is the test's. */
static ft_status load(fixture *f, const char *json, bool training)
{
    const char *path = test_path("config.json");
    test_write_file(path, json, strlen(json));
    data_close(f->set);
    f->set = NULL;
    if (f->doc.mem) cfg_close(&f->doc);
    assert_ok(cfg_open(&f->doc, path, NULL, 0, f->mem));
    assert_ok(
        cfg_read(&f->doc, js_get(f->doc.js.root, "data"), "data", data_fields, &f->cfg, NULL));
    assert_ok(cfg_done(&f->doc));
    return data_open(&f->set, &f->doc, training ? f->cfg.train : f->cfg.eval, &f->cfg, f->tok,
                     f->chat, training);
}

static void end(fixture *f)
{
    data_close(f->set);
    if (f->doc.mem) cfg_close(&f->doc);
    chat_close(f->chat);
    tok_close(f->tok);
    arena_close(f->mem);
}

static void put(const char *name, const char *text)
{
    test_write_file(test_path(name), text, strlen(text));
}

/* The text of a sample, | where what is learned begins or ends. */
static inline const char *text_of(fixture *f, int64_t sample)
{
    static str_buf s;
    data_sample x;
    str_clear(&s);
    assert_ok(data_get(f->set, sample, &x, f->mem));
    for (int64_t i = 0; i < x.len; i++) {
        if (i && (x.labels[i] != DATA_IGNORE) != (x.labels[i - 1] != DATA_IGNORE))
            str_addc(&s, '|');
        if (x.ids[i] >= 256)
            str_adds(&s, specials[x.ids[i] - 256]);
        else
            str_addc(&s, (char)x.ids[i]);
    }
    return s.data;
}
#endif
