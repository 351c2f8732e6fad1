/* test_vocabulary.c – an adapter of a vocabulary that its base does not have: tokens were added in training, its folder holds
 * their embeddings and the tokenizer, and both take the place of the base's, in use and in what is merged. */
#include "golden.h"
#include "support.h"

#include "ft/tool.h"

enum { ADDED = 2 };
static const char *const token[ADDED] = {"<|tool|>", "<|done|>"};

static ft_status swallow(void *ctx, const char *text, size_t n)
{
    (void)ctx;
    (void)text;
    (void)n;
    return FT_OK;
}

/* A base with the tokenizer of data/tiny, tied as it is there or not. */
static const char *base(bool tied)
{
    const char *dir = test_path(tied ? "tied" : "untied");
    const char *config = test_path("config.json");
    size_t n;
    model *m = NULL;
    char *text = test_read_file(source_path("data/tiny/config.json"), &n);
    char *tie = strstr(text, "\"tie_word_embeddings\": true");
    assert_non_null(tie);
    if (!tied)
        memcpy(tie, "\"tie_word_embeddings\":false", strlen("\"tie_word_embeddings\": true"));
    test_write_file(config, text, n);
    assert_ok(model_open(&m, &(model_options){.from_config = config, .seed = 5}));
    assert_ok(model_save(m, dir, NULL));
    model_close(m);
    assert_ok(model_save_side_files(source_path("data/tiny"), dir));
    return dir;
}

static void write_json(const char *dir, const char *name, const cJSON *o)
{
    char path[600];
    char *text = cJSON_Print(o);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    test_write_file(path, text, strlen(text));
    cJSON_free(text);
}

/* The tokenizer of data/tiny with two tokens more; without a template or stop ids, which are the model's. */
static void write_tokenizer(const char *dir, int64_t vocab)
{
    size_t n;
    char *text = test_read_file(source_path("data/tiny/tokenizer.json"), &n);
    cJSON *o = cJSON_ParseWithLength(text, n), *added = cJSON_GetObjectItem(o, "added_tokens");
    assert_true(cJSON_IsArray(added));
    for (int i = 0; i < ADDED; i++) {
        cJSON *e = cJSON_CreateObject();
        cJSON_AddNumberToObject(e, "id", (double)(vocab + i));
        cJSON_AddStringToObject(e, "content", token[i]);
        static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
        for (size_t k = 0; k < FT_COUNT_OF(flags); k++) cJSON_AddFalseToObject(e, flags[k]);
        cJSON_AddTrueToObject(e, "special");
        cJSON_AddItemToArray(added, e);
    }
    write_json(dir, "tokenizer.json", o);
    cJSON_Delete(o);
}

typedef struct table {
    const char *name;
    int64_t rows, cols;
} table;

/* Small values, other ones in every tensor. */
static void write_tensors(const char *dir, const table *t, int n)
{
    st_decl decl[8];
    const void *data[8];
    char path[600];
    for (int i = 0; i < n; i++) {
        float *v = test_alloc((size_t)(t[i].rows * t[i].cols) * sizeof *v);
        for (int64_t k = 0; k < t[i].rows * t[i].cols; k++)
            v[k] = 0.01f * (float)((k * 37 + i * 11) % 23 - 11);
        decl[i] =
            (st_decl){.name = t[i].name, .type = &dt_f32, .nd = 2, .dim = {t[i].rows, t[i].cols}};
        data[i] = v;
    }
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    assert_ok(st_write_all(path, decl, data, n, NULL, 0));
}

#define P "base_model.model."
static const char *adapter(const char *base_dir, int64_t embed, int64_t head)
{
    const char *dir = test_path("adapter");
    table t[4] = {{P "model.layers.0.self_attn.q_proj.lora_A.weight", 2, 96},
                  {P "model.layers.0.self_attn.q_proj.lora_B.weight", 96, 2}};
    int n = 2;
    cJSON *o = cJSON_CreateObject();
    if (embed) t[n++] = (table){P "model.embed_tokens.weight", embed, 96};
    if (head) t[n++] = (table){P "lm_head.weight", head, 96};
    assert_ok(dir_make(dir));
    cJSON_AddStringToObject(o, "peft_type", "LORA");
    cJSON_AddStringToObject(o, "base_model_name_or_path", base_dir);
    cJSON_AddNumberToObject(o, "r", 2);
    cJSON_AddItemToObject(o, "target_modules",
                          cJSON_CreateStringArray((const char *const[]){"0.self_attn.q_proj"}, 1));
    write_json(dir, "adapter_config.json", o);
    cJSON_Delete(o);
    write_tensors(dir, t, n);
    return dir;
}

static void check_tokens(const tool_model *t, int64_t vocab)
{
    int n;
    tok_ids ids = {0};
    const int32_t *stops = tok_stops(t->tok, &n);
    const char *text = "one<|tool|>two<|done|>";
    assert_int_equal(t->m->d.vocab_size, vocab + ADDED);
    assert_ok(tok_encode(t->tok, text, strlen(text), false, &ids));
    bool seen[ADDED] = {0}, stop[3] = {0};
    for (int64_t i = 0; i < ids.n; i++) {
        for (int k = 0; k < ADDED; k++) seen[k] = seen[k] || ids.id[i] == vocab + k;
    }
    for (int i = 0; i < n; i++) {
        if (stops[i] < 3) stop[stops[i]] = true;
    }
    assert_true(seen[0] && seen[1]);
    assert_true(stop[0] && stop[2]); /* eos_token_id of the base's config.json */
    int templates;
    assert_non_null(tok_chat_templates(t->tok, &templates));
    tok_ids_free(&ids);
}

static void check_merge(tool_model *on, const char *base_path, const char *out, const char *type,
                        int64_t vocab)
{
    tool_model *merged = NULL;
    tool_proof proof;
    tool_merge_options opt = {.adapter = test_path("adapter"),
                              .base = base_path,
                              .out = out,
                              .type = type,
                              .tolerance = -1,
                              .force = true};
    assert_ok(tool_merge_adapter(&opt, &(tool_sink){swallow, NULL}));
    assert_ok(tool_open(&merged, out, NULL, true, NULL));
    check_tokens(merged, vocab);
    assert_ok(tool_prove(on, merged, &proof));
    assert_true(proof.max_logit_diff < 1e-4 && proof.effect > 0);
    tool_close(merged);
}

static void added_tokens_are_used_and_merged(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        const char *dir = base(tied), *gguf = test_path("base.gguf");
        tool_model *on = NULL;
        tool_convert_options convert = {.model = dir, .out = gguf, .type = "f32", .force = true};
        assert_ok(tool_convert(&convert, &(tool_sink){swallow, NULL}));
        const char *const bases[] = {dir, gguf};
        for (size_t b = 0; b < FT_COUNT_OF(bases); b++) {
            int64_t vocab = 640;
            adapter(dir, vocab + ADDED, tied ? 0 : vocab + ADDED);
            write_tokenizer(test_path("adapter"), vocab);
            assert_ok(tool_open(&on, bases[b], test_path("adapter"), true, NULL));
            check_tokens(on, vocab);
            check_merge(on, bases[b], test_path("merged"), "f32", vocab);
            check_merge(on, bases[b], test_path("merged.gguf"), "f32", vocab);
            tool_close(on);
        }
    }
}

static ft_status collect(void *ctx, const char *text, size_t n)
{
    str_add(ctx, text, n);
    return FT_OK;
}

/* A model with more rows than its tokenizer has tokens may pick one of the others: it has no text. */
static void rows_without_a_token_have_no_text(void **state)
{
    const char *dir = base(true);
    tool_model *t = NULL;
    str_buf out = {0};
    (void)state;
    adapter(dir, 700, 0);
    assert_int_equal(remove(test_path("adapter/tokenizer.json")), 0);
    assert_ok(tool_open(&t, dir, test_path("adapter"), true, NULL));
    assert_int_equal(t->m->d.vocab_size, 700);
    assert_int_equal(tok_size(t->tok), 640);
    inf_sampling hot = INF_SAMPLING_DEFAULT;
    hot.temperature = 50;
    hot.max_new = hot.min_new = 100;
    tool_generate_options opt = {.prompt = "one", .json = true, .sampling = hot};
    assert_ok(tool_generate_lines(t, &opt, &(tool_sink){collect, &out}));
    cJSON *line = cJSON_ParseWithLength(out.data, out.len), *id;
    int beyond = 0;
    cJSON_ArrayForEach(id, cJSON_GetObjectItem(line, "token_ids")) beyond += id->valueint >= 640;
    assert_true(beyond > 0);
    cJSON_Delete(line);
    str_free(&out);
    tool_close(t);
}

static void what_does_not_fit_is_named(void **state)
{
    static const struct {
        int64_t embed, head;
        const char *says;
    } cases[] = {
        {642, 0, "does not hold the head (\"lm_head.weight\")"},
        {0, 642, "does not hold the embedding"},
        {642, 641, "the head 641"},
        {642, 0, "vocabulary of 642 tokens, its base has 640"},
    };
    tool_model *t = NULL;
    (void)state;
    const char *dir = base(false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *a = adapter(dir, cases[i].embed, cases[i].head);
        assert_fails(tool_open(&t, dir, a, false, NULL), FT_EDATA, cases[i].says);
        assert_null(t);
    }
}

/* Values that would have to stay frozen are no start for training, and neither is another vocabulary. */
static void training_does_not_go_on_from_them(void **state)
{
    static const struct {
        int64_t embed, head;
        const char *says;
    } cases[] = {{642, 642, "vocabulary of 642 tokens"}, {640, 0, "replaces values of the base"}};
    (void)state;
    const char *dir = base(false);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        pe_ctx *c = NULL;
        arena *mem = NULL;
        const pe_method *lora = pe_by_name("lora");
        const char *a = adapter(dir, cases[i].embed, cases[i].head);
        assert_ok(arena_open(&mem, "options", (size_t)1 << 20));
        assert_ok(model_open(&m, &(model_options){.path = dir}));
        void *cfg = arena_get(mem, lora->cfg_size);
        assert_fails(
            pe_attach(&c, lora, cfg, m, &(pe_start){.seed = 1, .base_name = "base", .load_dir = a}),
            FT_EDATA, cases[i].says);
        model_close(m);
        arena_close(mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(added_tokens_are_used_and_merged),
        cmocka_unit_test(rows_without_a_token_have_no_text),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(training_does_not_go_on_from_them),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
