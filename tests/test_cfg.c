/* test_cfg.c – option tables: defaults, mistakes and their places, --set, the resolved config, help,
 * schema, and how often a typo gets the right suggestion. */
#include "support.h"

#include "ft/cfg.h"

#include <sys/wait.h>
#include <unistd.h>

typedef struct inner {
    const char *type;
    int64_t block;
    bool twice;
} inner;
typedef struct options {
    bool shuffle;
    int64_t epochs, micro, steps;
    double rate, dropout;
    const char *name, *path, *kind;
    const cJSON *targets;
    int checkpointing;
    inner quant;
} options;

static const char *const kinds[] = {"linear", "cosine", "constant", NULL};
static const char *const types[] = {"nf4", "fp4", NULL};
static const cfg_field inner_rows[] = {
    {"type", CFG_ENUM, offsetof(inner, type), .choices = types, .required = true,
     .help = "code book"},
    {"block_size", CFG_INT, offsetof(inner, block), .def = "64", .low = 32, .high = 4096,
     .help = "elements"},
    {"double_quant", CFG_BOOL, offsetof(inner, twice), .def = "true", .help = "scales in 8 bits"},
    CFG_END};
static const cfg_field rows[] = {
    {"shuffle", CFG_BOOL, offsetof(options, shuffle), .def = "true", .help = "mix the samples"},
    {"epochs", CFG_INT, offsetof(options, epochs), .def = "1", .low = 1, .high = HUGE_VAL,
     .help = "passes"},
    {"micro_batch_size", CFG_AUTO_INT, offsetof(options, micro), .def = "\"auto\"", .low = 1,
     .high = 1024},
    {"max_steps", CFG_INT, offsetof(options, steps), .low = 1, .high = HUGE_VAL,
     .help = "none: epochs"},
    {"learning_rate", CFG_FLOAT, offsetof(options, rate), .low = 0, .high = 10, .low_open = true},
    {"dropout", CFG_FLOAT, offsetof(options, dropout), .def = "0.1", .low = 0, .high = 1},
    {"name", CFG_STR, offsetof(options, name), .help = "of the run"},
    {"path", CFG_PATH, offsetof(options, path), .required = true, .help = "folder"},
    {"lr_scheduler_type", CFG_ENUM, offsetof(options, kind), .def = "\"linear\"", .choices = kinds},
    {"target_modules", CFG_JSON, offsetof(options, targets), .def = "\"all-linear\"",
     .help = "names"},
    {"gradient_checkpointing", CFG_AUTO_BOOL, offsetof(options, checkpointing), .def = "\"auto\""},
    {"quantization", CFG_TABLE, offsetof(options, quant), .sub = inner_rows, .help = "of the base"},
    CFG_END};

static const char *file(const char *text)
{
    const char *path = test_path("c.json");
    test_write_file(path, text, strlen(text));
    return path;
}

/* Reads `text` with `sets` and gives cfg_done; the record has the mistakes. */
static ft_status read_with(options *o, const char *text, const char *const *sets, int n)
{
    cfg_doc d;
    *o = (options){.rate = (double)NAN};
    ft_error_forget();
    FT_TRY(cfg_open(&d, file(text), sets, n, test_mem));
    assert_ok(cfg_read(&d, d.js.root, "", rows, o, NULL));
    ft_status rc = cfg_done(&d);
    cfg_close(&d);
    return rc;
}

static void fills_defaults(void **state)
{
    (void)state;
    cfg_doc d;
    options o = {.rate = (double)NAN};
    assert_ok(cfg_open(&d, file("{\"path\": \"m\"}"), NULL, 0, test_mem));
    assert_ok(cfg_read(&d, d.js.root, "", rows, &o, NULL));
    assert_ok(cfg_done(&d));
    assert_true(o.shuffle);
    assert_int_equal(o.epochs, 1);
    assert_true(o.micro == CFG_AUTO);
    assert_int_equal(o.steps, 0);
    assert_true(isnan(o.rate));
    assert_true(o.dropout == 0.1);
    assert_null(o.name);
    assert_string_equal(o.path, test_path("m"));
    assert_ptr_equal(o.kind, kinds[0]);
    assert_string_equal(o.targets->valuestring, "all-linear");
    assert_int_equal(o.checkpointing, -1);
    assert_null(o.quant.type);
    assert_int_equal(o.quant.block, 64);
    assert_true(o.quant.twice);
    cfg_close(&d);
}

static void reads_every_type(void **state)
{
    (void)state;
    cfg_doc d;
    options o = {0};
    assert_ok(cfg_open(
        &d,
        file("{\"shuffle\": false, \"epochs\": 3, \"micro_batch_size\": 4, \"max_steps\": 7,"
             "\"learning_rate\": 2e-4, \"dropout\": 0, \"name\": \"\xc3\xa4\", \"path\": \"/m\","
             "\"lr_scheduler_type\": \"cosine\", \"target_modules\": [\"q\"],"
             "\"gradient_checkpointing\": false, \"quantization\": {\"type\": \"fp4\","
             "\"block_size\": 32, \"double_quant\": false}}"),
        NULL, 0, test_mem));
    assert_ok(cfg_read(&d, d.js.root, "", rows, &o, NULL));
    assert_ok(cfg_done(&d));
    assert_false(o.shuffle);
    assert_int_equal(o.epochs, 3);
    assert_int_equal(o.micro, 4);
    assert_int_equal(o.steps, 7);
    assert_true(o.rate == 2e-4 && o.dropout == 0);
    assert_string_equal(o.name, "\xc3\xa4");
    assert_string_equal(o.path, "/m");
    assert_ptr_equal(o.kind, kinds[1]);
    assert_true(cJSON_IsArray(o.targets));
    assert_int_equal(o.checkpointing, 0);
    assert_ptr_equal(o.quant.type, types[1]);
    assert_int_equal(o.quant.block, 32);
    assert_false(o.quant.twice);
    cfg_close(&d);
}

static int lines(const char *text)
{
    int n = *text != 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

static void lists_all_mistakes(void **state)
{
    (void)state;
    options o;
    assert_int_equal(
        read_with(&o,
                  "{\"shufle\": 1,\n \"epochs\": 0, \"micro_batch_size\": \"x\",\n"
                  " \"max_steps\": 1.5, \"learning_rate\": 0, \"dropout\": 2,\n"
                  " \"name\": 7, \"lr_scheduler_type\": \"cosin\", \"target_modules\": null,\n"
                  " \"gradient_checkpointing\": 1, \"quantization\": {\"block_sze\": 1,\n"
                  "  \"block_size\": 31, \"double_quant\": \"yes\"}, \"zzz\\\"\": 1}",
                  NULL, 0),
        FT_ECONFIG);
    static const char *const want[] = {
        "c.json:1:2: shufle: unknown key; did you mean \"shuffle\"?\n",
        "c.json:2:12: epochs: 0 must be at least 1\n",
        "c.json:2:35: micro_batch_size: must be an integer or \"auto\", not the string \"x\"\n",
        "c.json:3:15: max_steps: 1.5 must be an integer\n",
        "c.json:3:37: learning_rate: 0 must be between 0 (excluded) and 10\n",
        "c.json:3:51: dropout: 2 must be between 0 and 1\n",
        "c.json:4:10: name: must be a string, not a number\n",
        "c.json:4:34: lr_scheduler_type: \"cosin\" is unknown; did you mean \"cosine\"?\n",
        "c.json:4:61: target_modules: must be a value, not null; leave the key out",
        "c.json:5:28: gradient_checkpointing: must be true, false or \"auto\", not a number\n",
        "c.json:5:48: quantization.block_sze: unknown key; did you mean \"block_size\"?\n",
        "c.json:6:17: quantization.block_size: 31 must be between 32 and 4096\n",
        "c.json:6:37: quantization.double_quant: must be true or false, not the string \"yes\"\n",
        "c.json:5:47: quantization.type: this key is required\n",
        "c.json:6:45: zzz\": unknown key\n",
        "c.json:1:1: path: this key is required",
    };
    for (size_t i = 0; i < FT_COUNT_OF(want); i++) {
        if (!strstr(ft_error(), want[i]))
            print_error("missing: %s\nin:\n%s\n", want[i], ft_error());
        assert_non_null(strstr(ft_error(), want[i]));
    }
    assert_int_equal(lines(ft_error()), FT_COUNT_OF(want));
}

static void lists_twenty_at_most(void **state)
{
    (void)state;
    options o;
    str_buf s = {0};
    str_adds(&s, "{\"path\": \"x\"");
    for (int i = 0; i < 50; i++) str_printf(&s, ", \"unknown%d\": 1", i);
    str_addc(&s, '}');
    assert_int_equal(read_with(&o, s.data, NULL, 0), FT_ECONFIG);
    assert_int_equal(lines(ft_error()), 20);
    str_free(&s);
}

static void refuses_every_wrong_value(void **state)
{
    (void)state;
    options o;
    static const char *const values[] = {"null", "true", "1",  "\"word\"",
                                         "[]",   "{}",   "-1", "1e300"};
    for (const cfg_field *r = rows; r->key; r++) {
        if (r->type == CFG_JSON) continue;
        int refused = 0;
        for (size_t i = 0; i < FT_COUNT_OF(values); i++) {
            char text[200];
            bool path = r->type == CFG_PATH;
            snprintf(text, sizeof text, "{%s\"%s\": %s}", path ? "" : "\"path\": \"x\", ", r->key,
                     values[i]);
            ft_status rc = read_with(&o, text, NULL, 0);
            assert_true(rc == FT_OK || rc == FT_ECONFIG);
            if (rc == FT_ECONFIG) {
                refused++;
                assert_int_equal(lines(ft_error()), 1);
                assert_non_null(strstr(ft_error(), r->key));
            } else {
                assert_string_not_equal(values[i], "null");
            }
        }
        assert_true(refused >= (int)FT_COUNT_OF(values) - 3);
    }
}

static void applies_sets(void **state)
{
    (void)state;
    options o;
    static const char text[] =
        "{\"path\": \"m\", \"epochs\": 2, \"quantization\": {\"type\": \"nf4\"}}";
    static const char *const good[] = {"epochs=5",
                                       "epochs=6",
                                       "name=hello world=x",
                                       "path=here/m",
                                       "quantization[\"block_size\"]=128",
                                       "learning_rate=1e-3",
                                       "target_modules=[\"q\",\"v\"]",
                                       "shuffle=false",
                                       "[\"micro_batch_size\"]=auto"};
    assert_ok(read_with(&o, text, good, FT_COUNT_OF(good)));
    assert_int_equal(o.epochs, 6);
    assert_string_equal(o.name, "hello world=x");
    assert_string_equal(o.path, "here/m");
    assert_int_equal(o.quant.block, 128);
    assert_true(o.rate == 1e-3);
    assert_false(o.shuffle);

    static const struct {
        const char *set, *message;
        ft_status status;
    } bad[] = {
        {"epoch=5", "--set epoch: unknown key; did you mean \"epochs\"?", FT_ECONFIG},
        {"epochs=five", "--set epochs: must be an integer, not the string \"five\"", FT_ECONFIG},
        {"epochs=0", "--set epochs: 0 must be at least 1", FT_ECONFIG},
        {"epochs.x=0", "--set epochs.x: epochs is a number, not an object", FT_ECONFIG},
        {"quantization.typ=nf4", "--set quantization.typ: unknown key; did you mean \"type\"?",
         FT_ECONFIG},
        {"quantization={\"block_size\":1,\"type\":\"nf4\"}",
         "--set quantization: quantization.block_size: 1 must be between", FT_ECONFIG},
        {"quantization={}", "--set quantization: quantization.type: this key is required",
         FT_ECONFIG},
        {"new.thing=1", "--set new.thing: new: unknown key", FT_ECONFIG},
        {"epochs", "--set epochs: expected KEY=VALUE", FT_EUSAGE},
        {"=1", "--set =1: expected KEY=VALUE", FT_EUSAGE},
        {".a=1", "--set .a: a key is missing beside a dot", FT_EUSAGE},
        {"a..b=1", "--set a..b: a key is missing", FT_EUSAGE},
        {"a.=1", "--set a.: a key is missing", FT_EUSAGE},
        {"name=\xff", "--set name: the value is not valid UTF-8", FT_EUSAGE},
        {"[\"epo.ch\"]=5", "--set [\"epo.ch\"]: epo.ch: unknown key", FT_ECONFIG},
        {"quantization[\"a\\\"=b\"].c=5", "quantization.a\"=b: unknown key", FT_ECONFIG},
        {"quantization.[\"a.b\"]=5", "quantization.a.b: unknown key", FT_ECONFIG},
        {"a[b]=5", "--set a[b]: a key in brackets is written [\"…\"]", FT_EUSAGE},
        {"a[\"b=5", "a key in brackets is written", FT_EUSAGE},
        {"a[\"b\"]c=5", "expected a dot, a bracket or = behind b", FT_EUSAGE},
        {"a.[\"b\"].=5", "a key is missing beside a dot", FT_EUSAGE},
    };
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++)
        assert_fails(read_with(&o, text, &bad[i].set, 1), bad[i].status, bad[i].message);
    /* A mistake in the file keeps its place although a --set changed the tree before it. */
    static const char *const two[] = {"path=x", "name=y"};
    assert_fails(read_with(&o, "{\"path\": {\"a\": [1]},\n \"epochs\": 0}", two, 2), FT_ECONFIG,
                 "c.json:2:12: epochs: 0 must");

    cfg_doc d;
    assert_ok(cfg_open_empty(&d, good, FT_COUNT_OF(good), test_mem));
    o = (options){0};
    assert_ok(cfg_read(&d, d.js.root, "", rows, &o, NULL));
    cfg_fail(&d, d.js.root, "a", "no");
    assert_non_null(
        strstr(ft_error(), "--set quantization[\"block_size\"]: quantization.type: this key is"));
    assert_string_equal(strrchr(ft_error(), '\n'), "\na: no");
    cfg_close(&d);
}

static void refuses_what_is_no_config(void **state)
{
    (void)state;
    cfg_doc d;
    assert_fails(cfg_open(&d, test_path("none.json"), NULL, 0, test_mem), FT_ENOINPUT,
                 "none.json: cannot be opened");
    assert_fails(cfg_open(&d, test_dir(), NULL, 0, test_mem), FT_ENOINPUT, "this is a folder");
    assert_fails(cfg_open(&d, file("[1]"), NULL, 0, test_mem), FT_ECONFIG,
                 "c.json:1:1: a config is an object, not a list");
    assert_fails(cfg_open(&d, file("{\"a\": 1,}"), NULL, 0, test_mem), FT_ECONFIG,
                 "c.json:1:8: a comma");
}

static void resolves_to_a_config(void **state)
{
    (void)state;
    options a, b;
    static const char text[] =
        "{\"path\": \"m\", \"learning_rate\": 0.0003, \"quantization\": {\"type\": \"fp4\"},"
        " \"target_modules\": [\"q\", {\"x\": 1}], \"micro_batch_size\": 3}";
    cfg_doc d;
    a = b = (options){.rate = (double)NAN};
    assert_ok(cfg_open(&d, file(text), NULL, 0, test_mem));
    assert_ok(cfg_read(&d, d.js.root, "", rows, &a, NULL));
    assert_ok(cfg_done(&d));
    cJSON *out = cJSON_CreateObject();
    assert_ok(cfg_resolve(out, rows, &a));
    str_buf s = {0};
    js_print(&s, out, true);
    assert_null(js_get(out, "name"));
    assert_null(js_get(out, "max_steps"));
    assert_string_equal(js_get(out, "path")->valuestring, test_path("m"));
    assert_true(js_get(out, "dropout")->valuedouble == 0.1);
    assert_string_equal(js_get(out, "gradient_checkpointing")->valuestring, "auto");
    assert_int_equal(js_get(js_get(out, "quantization"), "block_size")->valueint, 64);
    cfg_close(&d);
    assert_ok(cfg_open(&d, file(s.data), NULL, 0, test_mem));
    assert_ok(cfg_read(&d, d.js.root, "", rows, &b, NULL));
    assert_ok(cfg_done(&d));
    cJSON *again = cJSON_CreateObject();
    assert_ok(cfg_resolve(again, rows, &b));
    assert_true(cJSON_Compare(out, again, true));
    cJSON_Delete(out);
    cJSON_Delete(again);
    /* Without the table its required key stays away, and so does the table. */
    a = (options){.path = "/x", .kind = "linear"};
    out = cJSON_CreateObject();
    assert_ok(cfg_resolve(out, rows, &a));
    assert_null(js_get(out, "quantization"));
    assert_null(js_get(out, "learning_rate"));
    cJSON_Delete(out);
    cfg_close(&d);
    str_free(&s);
}

static void documents_itself(void **state)
{
    (void)state;
    str_buf s = {0};
    cfg_help(&s, rows, "train.");
    for (const cfg_field *r = rows; r->key; r++) assert_non_null(strstr(s.data, r->key));
    assert_non_null(strstr(s.data, "train.quantization.block_size"));
    assert_non_null(strstr(s.data, "linear | cosine | constant"));
    assert_non_null(strstr(s.data, "(32 to 4096)"));
    str_clear(&s);
    cJSON *p = cJSON_CreateObject();
    cfg_schema(p, rows);
    assert_string_equal(js_get(js_get(p, "epochs"), "type")->valuestring, "integer");
    assert_int_equal(js_get(js_get(p, "epochs"), "minimum")->valueint, 1);
    assert_int_equal(js_get(js_get(p, "epochs"), "default")->valueint, 1);
    assert_true(js_get(js_get(p, "learning_rate"), "exclusiveMinimum")->valuedouble == 0);
    assert_int_equal(cJSON_GetArraySize(js_get(js_get(p, "lr_scheduler_type"), "enum")), 3);
    assert_int_equal(cJSON_GetArraySize(js_get(js_get(p, "micro_batch_size"), "anyOf")), 2);
    const cJSON *q = js_get(p, "quantization");
    assert_string_equal(js_get(q, "required")->child->valuestring, "type");
    assert_true(cJSON_IsFalse(js_get(q, "additionalProperties")));
    assert_non_null(js_get(js_get(q, "properties"), "double_quant"));
    js_print(&s, p, false);
    js_doc d;
    assert_ok(js_parse(&d, s.data, s.len, "schema", 1, JS_STRICT, FT_EINTERNAL));
    js_close(&d);
    cJSON_Delete(p);
    str_free(&s);
}

/* The keys of a LoRA config, where similar names stand side by side. */
static const char *const lora_keys[] = {"type",
                                        "r",
                                        "lora_alpha",
                                        "lora_dropout",
                                        "target_modules",
                                        "modules_to_save",
                                        "rank_pattern",
                                        "alpha_pattern",
                                        "layers_to_transform",
                                        "use_rslora",
                                        "init_lora_weights",
                                        "bias",
                                        "loraplus_lr_ratio",
                                        "loraplus_lr_embedding",
                                        "init_from",
                                        NULL};
static const char *const optim_keys[] = {
    "type",           "learning_rate", "weight_decay",  "adam_beta1",
    "adam_beta2",     "adam_epsilon",  "max_grad_norm", "lr_scheduler_type",
    "warmup_steps",   "warmup_ratio",  "min_lr",        "start_lr",
    "cooldown_steps", "constant_lr",   "anneal_steps",  NULL};
static const char *const train_keys[] = {"epochs",
                                         "max_steps",
                                         "batch_size",
                                         "micro_batch_size",
                                         "precision",
                                         "gradient_checkpointing",
                                         "seed",
                                         "log_every",
                                         "eval_every",
                                         "checkpoint_every",
                                         "keep_checkpoints",
                                         "keep_best",
                                         "patience",
                                         "max_seconds",
                                         NULL};

static void judge(const char *typo, const char *key, const char *const *names, int *n, int *right)
{
    for (const char *const *k = names; *k; k++) {
        if (strcmp(*k, typo) == 0) return; /* another key: not a typo anyone can see */
    }
    const char *got = cfg_nearest(typo, names);
    ++*n;
    *right += got && strcmp(got, key) == 0;
}

static void typos_of(const char *key, const char *const *names, int *n, int *right)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_019E";
    size_t len = strlen(key);
    char t[80];
    for (size_t i = 0; i <= len; i++) {
        if (i < len) {
            snprintf(t, sizeof t, "%.*s%s", (int)i, key, key + i + 1);
            judge(t, key, names, n, right);
        }
        if (i + 1 < len && key[i] != key[i + 1]) {
            snprintf(t, sizeof t, "%.*s%c%c%s", (int)i, key, key[i + 1], key[i], key + i + 2);
            judge(t, key, names, n, right);
        }
        for (const char *c = letters; *c; c++) {
            snprintf(t, sizeof t, "%.*s%c%s", (int)i, key, *c, key + i);
            judge(t, key, names, n, right);
            if (i == len || key[i] == *c) continue;
            snprintf(t, sizeof t, "%.*s%c%s", (int)i, key, *c, key + i + 1);
            judge(t, key, names, n, right);
        }
    }
}

static void suggests_the_right_key(void **state)
{
    (void)state;
    static const char *const *const tables[] = {lora_keys, optim_keys, train_keys};
    int n = 0, right = 0;
    for (size_t i = 0; i < FT_COUNT_OF(tables); i++) {
        for (const char *const *k = tables[i]; *k; k++) typos_of(*k, tables[i], &n, &right);
    }
    print_message("%d of %d typos (%.2f %%)\n", right, n, 100.0 * right / n);
    assert_true(right >= 0.95 * n);
    assert_null(cfg_nearest("completely_else", lora_keys));
    assert_string_equal(cfg_nearest("LoraAlpha", lora_keys), "lora_alpha");
    assert_string_equal(cfg_nearest("learningRate", optim_keys), "learning_rate");
    assert_string_equal(cfg_nearest("batch-size", train_keys), "batch_size");
    char big[500];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = 0;
    assert_null(cfg_nearest(big, lora_keys));
}

/* --- every allocation that fails is told, and nothing leaks ----------------------------------------- */
static ft_status memory_job(const char *path)
{
    static const char *const sets[] = {"epochs=5", "quantization.type=fp4", "name=x",
                                       "target_modules={\"a\":[1]}"};
    options o = {0};
    cfg_doc d;
    str_buf s = {0};
    ft_status rc = arena_open(&test_mem, "config", (size_t)64 << 20);
    if (rc != FT_OK) return rc;
    rc = cfg_open(&d, path, sets, FT_COUNT_OF(sets), test_mem);
    if (rc == FT_OK) {
        cJSON *out = cJSON_CreateObject();
        rc = out ? FT_OK : FT_EMEM;
        if (rc == FT_OK) rc = cfg_read(&d, d.js.root, "", rows, &o, NULL);
        if (rc == FT_OK) rc = cfg_done(&d);
        if (rc == FT_OK) rc = cfg_resolve(out, rows, &o);
        js_print(&s, out, true);
        cfg_help(&s, rows, "train.");
        if (rc == FT_OK) rc = str_ok(&s);
        ft_error_forget();
        if (rc == FT_OK) cfg_schema(out, inner_rows);
        if (rc == FT_OK && ft_error()[0]) rc = FT_EMEM;
        cJSON_Delete(out);
        cfg_close(&d);
    }
    str_free(&s);
    arena_close(test_mem);
    return rc;
}

/* The allocator reads FT_TEST_FAIL_AT once a process, so the program starts itself for each point. */
static int memory_run(const char *path, int k)
{
    char at[16];
    int status;
    snprintf(at, sizeof at, "%d", k);
    pid_t child = fork();
    if (child == 0) {
        setenv("FT_TEST_FAIL_AT", at, 1);
        execl("/proc/self/exe", "test_cfg", "job", path, (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void tells_every_failed_allocation(void **state)
{
    (void)state;
    str_buf s = {0};
    str_adds(&s, "{\"path\": \"m\", \"learning_rate\": 1, \"quantization\": {\"block_size\": 64},"
                 " \"target_modules\": {");
    for (int i = 0; i < 70; i++) str_printf(&s, "%s\"k%d\": \"\\u00e4\"", i ? ", " : "", i);
    str_adds(&s, "}}");
    const char *path = file(s.data);
    str_free(&s);
    assert_int_equal(memory_run(path, 0), FT_OK);
    int k = 1;
    for (; k < 2000; k++) {
        int rc = memory_run(path, k);
        if (rc == FT_OK) break; /* fewer than k allocations */
        if (rc != FT_EMEM) fail_msg("allocation %d: exit code %d", k, rc);
    }
    assert_true(k > 200 && k < 2000);
    print_message("%d allocations\n", k - 1);
}

int main(int argc, char **argv)
{
    if (argc == 3) return (int)memory_job(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_defaults),
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(lists_all_mistakes),
        cmocka_unit_test(lists_twenty_at_most),
        cmocka_unit_test(refuses_every_wrong_value),
        cmocka_unit_test(applies_sets),
        cmocka_unit_test(refuses_what_is_no_config),
        cmocka_unit_test(resolves_to_a_config),
        cmocka_unit_test(documents_itself),
        cmocka_unit_test(suggests_the_right_key),
        cmocka_unit_test(tells_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
