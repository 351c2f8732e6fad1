/* train_fixture.c – the model, data and configs of whole runs in tests, and what such a run is compared by. */
#include "train_fixture.h"

const char train_model_json[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":64,"
    "\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}";

/* --- data and config ------------------------------------------------------------------------------------------ */
/* n samples of 5 to 20 tokens that count up by 3; the first two are not supervised. */
void write_tokens(const char *name, int n, uint64_t seed)
{
    str_buf s = {0};
    for (int i = 0; i < n; i++) {
        int len = 5 + (int)(test_u64(seed, (uint64_t)(2 * i)) % 16);
        int first = (int)(test_u64(seed, (uint64_t)(2 * i + 1)) % 40);
        for (int part = 0; part < 2; part++) {
            str_adds(&s, part ? "],\"labels\":[" : "{\"input_ids\":[");
            for (int k = 0; k < len; k++)
                str_printf(&s, "%s%d", k ? "," : "", part && k < 2 ? -100 : (first + 3 * k) % 64);
        }
        str_adds(&s, "]}\n");
    }
    test_write_file(test_path(name), s.data, s.len);
    str_free(&s);
}

/* 37 samples, batches of 8 with a short last one, two epochs: 10 steps. Dropout, evaluation and checkpoints on. */
void write_config(const char *name, const char *method)
{
    str_buf s = {0};
    str_printf(&s,
               "{\"model\":{\"from_config\":\"model.json\",\"tokenizer\":\"%s\"},\"method\":%s,"
               "\"data\":{\"train\":{\"path\":\"train.jsonl\",\"format\":\"tokens\"},"
               "\"eval\":{\"path\":\"eval.jsonl\",\"format\":\"tokens\"}},"
               "\"optim\":{\"learning_rate\":0.01,\"weight_decay\":0.01},"
               "\"train\":{\"epochs\":2,\"batch_size\":8,\"checkpoint_every\":2,\"eval_every\":3}}",
               source_path("data/tiny"), method);
    test_write_file(test_path(name), s.data, s.len);
    str_free(&s);
}

void write_train_files(void)
{
    test_write_file(test_path("model.json"), train_model_json, strlen(train_model_json));
    write_tokens("train.jsonl", 37, 1);
    write_tokens("eval.jsonl", 9, 2);
}

/* --- runs --------------------------------------------------------------------------------------------------------- */
ft_status train(job j)
{
    str_buf result = {0};
    int n = 0;
    while (n < 6 && j.set[n]) n++;
    train_options o = {.config = test_path(j.config ? j.config : "lora.json"),
                       .sets = j.set,
                       .n_sets = n,
                       .out = test_path(j.out),
                       .resume = j.resume,
                       .force = j.force,
                       .json = j.json};
    ft_status rc = train_run(&o, &result);
    str_free(&result);
    return rc;
}

const char *reference_run(void)
{
    static bool made;
    if (!made)
        assert_ok(train(
            (job){.out = "ref", .set = {"train.checkpoint_every=1", "train.keep_checkpoints=99"}}));
    made = true;
    return "ref";
}

const char *in(const char *dir, const char *name)
{
    static char ring[8][256];
    static int next;
    char *out = ring[next++ % 8];
    snprintf(out, sizeof ring[0], "%s/%s", dir, name);
    return out;
}

void assert_same_file(const char *a, const char *b, const char *name)
{
    size_t n, m;
    char *x = test_read_file(test_path(in(a, name)), &n),
         *y = test_read_file(test_path(in(b, name)), &m);
    if (n != m || memcmp(x, y, n) != 0) fail_msg("%s differs between %s and %s", name, a, b);
}

void assert_same_run(const char *a, const char *b)
{
    static const char *const tensors[] = {"adapter_model.safetensors", "adapter.safetensors"};
    assert_same_file(a, b, tensors[file_exists(test_path(in(a, tensors[1])))]);
    assert_same_file(a, b, "adapter_config.json");
    assert_same_file(a, b, "log.jsonl");
}

void assert_any_split_gives(const char *dir)
{
    static const char *const sets[] = {"train.micro_batch_size=1", "train.micro_batch_size=2",
                                       "train.micro_batch_size=3", "train.micro_batch_size=8",
                                       "train.gradient_checkpointing=true"};
    for (int threads = 1; threads <= 3; threads++) {
        pool_close();
        assert_ok(pool_open(threads));
        assert_ok(train((job){.out = "bits", .force = true}));
        assert_same_run("bits", dir);
    }
    for (size_t i = 0; i < FT_COUNT_OF(sets); i++) {
        assert_ok(train((job){.out = "bits", .force = true, .set = {sets[i]}}));
        assert_same_run("bits", dir);
    }
}

void copy_run(const char *from, const char *to, int last_step)
{
    char command[2048];
    snprintf(command, sizeof command,
             "rm -rf '%s' && cp -r '%s' '%s' && cd '%s' && rm -f summary.json adapter* "
             "config.resolved.json",
             test_path(to), test_path(from), test_path(to), test_path(to));
    if (system(command) != 0) exit(2);
    for (int k = last_step + 1; k <= 10; k++) {
        snprintf(command, sizeof command, "rm -rf '%s/checkpoints/step-%d'", test_path(to), k);
        if (system(command) != 0) exit(2);
    }
}

int count_steps(const char *dir)
{
    char *text = test_read_file(test_path(in(dir, "log.jsonl")), NULL);
    int n = strstr(text, "{\"step\":0,\"epoch\":0,\"eval_loss\":") == text ? -1 : 0;
    for (char *p = text; (p = strchr(p, '\n')); p++) n++;
    return n;
}

double number_in(const char *dir, const char *file, const char *a, const char *b, const char *c)
{
    size_t n;
    char *text = test_read_file(test_path(in(dir, file)), &n);
    js_doc d;
    assert_ok(js_parse(&d, text, n, file, 1, JS_STRICT, FT_EDATA));
    const cJSON *node = js_get(d.root, a);
    if (b) node = js_get(node, b);
    if (c) node = js_get(node, c);
    double v = cJSON_IsNumber(node) ? node->valuedouble : (double)NAN;
    js_close(&d);
    return v;
}

/* --- options ------------------------------------------------------------------------------------------------------ */
void *method_options(const pe_method *method, const char *json, cfg_doc *d, arena *mem)
{
    const char *path = test_path("options.json");
    void *cfg = arena_get(mem, method->cfg_size + 1);
    test_write_file(path, json, strlen(json));
    assert_ok(cfg_open(d, path, NULL, 0, mem));
    assert_ok(cfg_read(d, d->js.root, "method", method->fields, cfg, NULL));
    assert_ok(cfg_done(d));
    return cfg;
}
