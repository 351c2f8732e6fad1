/* test_merge.c – merge-adapter: against PEFT's merged weights, under tolerances, and on adapters that were damaged in
 * every way one can think of. */
#include "golden.h"
#include "support.h"
#include "verbs.h"

#include "ft/tool.h"

/* --- merge-adapter ----------------------------------------------------------------------------------------------- */

static ft_status merge(const tool_merge_options *opt, tool_proof *proof)
{
    str_buf out = {0};
    tool_merge_options o = *opt;
    o.json = true;
    ft_error_forget();
    ft_status rc = tool_merge_adapter(&o, &(tool_sink){test_append, &out});
    if (out.len > 0 && proof) {
        cJSON *line = test_json(out.data, out.len);
        const cJSON *p = cJSON_GetObjectItem(line, "proof");
        *proof = (tool_proof){.tokens = (int64_t)test_number(p, "tokens"),
                              .max_logit_diff = test_number(p, "max_logit_diff"),
                              .max_logprob_diff = test_number(p, "max_logprob_diff"),
                              .mean_kl = test_number(p, "mean_kl"),
                              .top1_agreement = test_number(p, "top1_agreement"),
                              .effect = test_number(p, "adapter_effect")};
        cJSON_Delete(line);
    }
    str_free(&out);
    return rc;
}

static const char *peft(const char *name, const char *file)
{
    char path[300];
    snprintf(path, sizeof path, "peft/%s/%s", name, file);
    return golden_path(path);
}

/* What stands in the merged folder is what PEFT's merge_and_unload made. */
static void check_merged(const char *name, const char *folder)
{
    arena *mem = NULL;
    st_file want = {0}, have = {0};
    char path[600];
    assert_ok(arena_open(&mem, "t", (size_t)64 << 20));
    assert_ok(st_open(&want, peft(name, "golden.safetensors"), mem));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(st_open(&have, path, mem));
    int checked = 0;
    for (int64_t i = 0; i < want.n; i++) {
        const io_tensor *w = &want.tensor[i];
        if (!str_starts(w->name, "merged.")) continue;
        const io_tensor *h = st_find(&have, w->name + strlen("merged."));
        assert_non_null(h);
        assert_int_equal(h->bytes, w->bytes);
        float *a = test_alloc(w->bytes), *b = test_alloc(w->bytes);
        memcpy(a, h->data, w->bytes);
        memcpy(b, w->data, w->bytes);
        assert_true(max_abs_diff(a, b, (int64_t)(w->bytes / 4)) <= 1e-6);
        checked++;
    }
    assert_true(checked > 0);
    st_close(&want);
    st_close(&have);
    arena_close(mem);
}

static void merges_what_peft_merges(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"llama_lora", "llama"},
                                           {"llama_patterns", "llama"},
                                           {"llama_saved_head", "llama"},
                                           {"gpt2_lora", "gpt2"},
                                           {"gpt2_patterns", "gpt2"},
                                           {"qwen2_layers", "qwen2"},
                                           {"llama_ends", "llama"},
                                           {"llama_bias_all", "llama_bias_tied"},
                                           {"llama_saved_norms", "llama"},
                                           {"gpt2_saved_mlp", "gpt2"},
                                           {"llama_held", "llama"},
                                           {"llama_tied_held", "llama_bias_tied"},
                                           {"llama_tokens", "llama"},
                                           {"llama_grown", "llama"},
                                           {"llama_tied_shrunk", "llama_bias_tied"},
                                           {"gpt2_grown_tokens", "gpt2"}};
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        tool_proof p;
        const char *out = test_path("merged"), *gguf = test_path("merged.gguf");
        tool_merge_options opt = {.adapter = peft(cases[i][0], "adapter"),
                                  .base = golden_model(cases[i][1]),
                                  .out = out,
                                  .tolerance = -1};
        assert_ok(merge(&opt, &p));
        assert_true(p.tokens >= 16);
        assert_true(p.max_logit_diff < 1e-4 && p.mean_kl < 1e-8 && p.top1_agreement == 1);
        assert_true(p.effect > 1e-3);
        check_merged(cases[i][0], out);
        /* over what is there only with force; again gives the same */
        assert_int_equal(merge(&opt, NULL), FT_EEXIST);
        opt.force = true;
        assert_ok(merge(&opt, &p));
        check_merged(cases[i][0], out);
        assert_ok(dir_remove(out));
        opt.out = gguf;
        assert_ok(merge(&opt, &p));
        assert_true(p.max_logit_diff < 1e-4 && p.mean_kl < 1e-8);
        assert_int_equal(remove(gguf), 0);
    }
}

/* The same base as a GGUF: Conv1D weights stand the other way round there, q and k in another order. */
static void merges_into_a_gguf_base(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"llama_patterns", "llama"},
                                           {"llama_saved_norms", "llama"},
                                           {"llama_tied_held", "llama_bias_tied"},
                                           {"llama_grown", "llama"},
                                           {"gpt2_patterns", "gpt2"},
                                           {"gpt2_saved_mlp", "gpt2"},
                                           {"gpt2_grown_tokens", "gpt2"}};
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        tool_proof p;
        const char *base = test_path("base.gguf"), *out = test_path("from_gguf");
        tool_convert_options convert = {
            .model = golden_model(cases[i][1]), .out = base, .type = "f32", .force = true};
        str_buf text = {0};
        assert_ok(tool_convert(&convert, &(tool_sink){test_append, &text}));
        str_free(&text);
        tool_merge_options opt = {.adapter = peft(cases[i][0], "adapter"),
                                  .base = base,
                                  .out = out,
                                  .force = true,
                                  .tolerance = -1};
        assert_ok(merge(&opt, &p));
        assert_true(p.max_logit_diff < 1e-4 && p.mean_kl < 1e-8 && p.effect > 1e-3);
        check_merged(cases[i][0], out);
    }
}

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

/* Coarse outputs: reported; refused above a tolerance, and then nothing is left. */
static void tolerance_decides(void **state)
{
    (void)state;
    tool_proof p;
    const char *dir = test_path("deep/er");
    assert_ok(dir_make(dir));
    char folder[600], gguf[600];
    snprintf(folder, sizeof folder, "%s/out", dir);
    snprintf(gguf, sizeof gguf, "%s/out.gguf", dir);
    tool_merge_options opt = {.adapter = peft("llama_lora", "adapter"),
                              .base = golden_model("llama"),
                              .out = folder,
                              .type = "bf16",
                              .tolerance = 1e-12};
    assert_int_equal(merge(&opt, &p), FT_EGATE);
    assert_non_null(strstr(ft_error(), "more than the tolerance of 1e-12"));
    assert_true(p.mean_kl > 1e-12);
    assert_int_equal(entries(dir), 0);
    opt.out = gguf;
    opt.type = "q8_0";
    opt.tolerance = 0;
    assert_int_equal(merge(&opt, &p), FT_EGATE);
    assert_int_equal(entries(dir), 0);
    opt.tolerance = -1;
    assert_ok(merge(&opt, &p));
    assert_int_equal(entries(dir), 1);
    opt.out = folder;
    assert_int_equal(merge(&opt, NULL), FT_EUSAGE); /* q8_0 has no place in a folder */
    opt.type = "float17";
    assert_int_equal(merge(&opt, NULL), FT_EUSAGE);
    assert_int_equal(entries(dir), 1);
}

/* --- damaged adapters -------------------------------------------------------------------------------------------- */

typedef struct adapter {
    st_decl decl[64];
    const void *data[64];
    int64_t n;
    char *config;
    bool bin; /* write adapter_model.bin instead */
    size_t cut;
} adapter;

static void read_adapter(adapter *a)
{
    arena *mem = NULL;
    st_file f = {0};
    size_t len;
    *a = (adapter){.config =
                       test_read_file(peft("llama_lora", "adapter/adapter_config.json"), &len)};
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    assert_ok(st_open(&f, peft("llama_lora", "adapter/adapter_model.safetensors"), mem));
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        char *name = test_alloc(strlen(t->name) + 1);
        strcpy(name, t->name);
        a->decl[i] =
            (st_decl){.name = name, .type = t->type, .nd = t->nd, .dim = {t->dim[0], t->dim[1]}};
        a->data[i] = memcpy(test_alloc(t->bytes), t->data, t->bytes);
    }
    a->n = f.n;
    st_close(&f);
    arena_close(mem);
}

static void replace(adapter *a, const char *from, const char *to)
{
    char *at = strstr(a->config, from);
    assert_non_null(at);
    char *text = test_alloc(strlen(a->config) + strlen(to) + 1);
    sprintf(text, "%.*s%s%s", (int)(at - a->config), a->config, to, at + strlen(from));
    a->config = text;
}

static void key_removed(adapter *a)
{
    a->n--;
}
static void key_added(adapter *a)
{
    a->decl[a->n] = a->decl[0];
    a->decl[a->n].name = "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight";
    a->data[a->n] = a->data[0];
    a->n++;
}
static void key_renamed(adapter *a)
{
    a->decl[2].name = "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight";
}
static void prefix_gone(adapter *a)
{
    for (int64_t i = 0; i < a->n; i++) a->decl[i].name += strlen("base_model.model.");
}
static void transposed(adapter *a)
{
    int64_t r = a->decl[0].dim[0];
    a->decl[0].dim[0] = a->decl[0].dim[1];
    a->decl[0].dim[1] = r;
}
static void one_dimension(adapter *a)
{
    a->decl[1].nd = 1;
    a->decl[1].dim[0] *= a->decl[1].dim[1];
}
static void integers(adapter *a)
{
    a->decl[0].type = dt_by_name("i32");
}
static void rank_changed(adapter *a)
{
    replace(a, "\"r\": ", "\"r\": 1");
}
static void unknown_key(adapter *a)
{
    replace(a, "\"r\": ", "\"other_magic\": [], \"use_magic\": 0.5, \"r\": ");
}
static void rank_zero(adapter *a)
{
    replace(a, "\"r\": ", "\"r\": 0, \"lora_dtype\": ");
}
static void rank_pattern(adapter *a)
{
    replace(a, "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 2}");
}
static void no_targets(adapter *a)
{
    replace(a, "\"target_modules\": [", "\"target_modules\": [\"nothing\"], \"merge_weights\": [");
}
static void more_targets(adapter *a)
{
    replace(a, "\"target_modules\": [", "\"target_modules\": [\"k_proj\", ");
}
static void layers_fewer(adapter *a)
{
    replace(a, "\"layers_to_transform\": null", "\"layers_to_transform\": [0]");
}
static void other_kind(adapter *a)
{
    replace(a, "\"LORA\"", "\"LOHA\"");
}
static void dora(adapter *a)
{
    replace(a, "\"use_dora\": false", "\"use_dora\": true");
}
static void saved_module(adapter *a)
{
    replace(a, "\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]");
}
static void config_cut(adapter *a)
{
    a->config[strlen(a->config) / 2] = '\0';
}
static void config_twice(adapter *a)
{
    replace(a, "\"r\": ", "\"r\": 4, \"r\": ");
}
static void file_cut(adapter *a)
{
    a->cut = 100;
}
static void header_cut(adapter *a)
{
    a->cut = 4000;
}
static void pickle(adapter *a)
{
    a->bin = true;
}
static void bias_wanted(adapter *a)
{
    replace(a, "\"bias\": \"none\"", "\"bias\": \"some\"");
}

static void write_adapter(const adapter *a, const char *dir)
{
    char path[600];
    size_t n;
    assert_ok(dir_remove(dir));
    assert_ok(dir_make(dir));
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    test_write_file(path, a->config, strlen(a->config));
    snprintf(path, sizeof path, "%s/adapter_model.%s", dir, a->bin ? "bin" : "safetensors");
    assert_ok(st_write_all(path, a->decl, a->data, a->n, NULL, 0));
    char *bytes = test_read_file(path, &n);
    if (a->cut) test_write_file(path, bytes, a->cut < n ? n - a->cut : n / 2);
}

static void damaged_adapters_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*damage)(adapter *);
        const char *message;
    } cases[] = {
        {"key removed", key_removed, "missing"},
        {"key added", key_added, "unexpected"},
        {"key renamed", key_renamed, "missing"},
        {"prefix gone", prefix_gone, "missing"},
        {"transposed", transposed, "wrong shape"},
        {"one dimension", one_dimension, "wrong shape"},
        {"integers", integers, "wrong shape or type"},
        {"rank changed", rank_changed, "wrong shape"},
        {"rank zero", rank_zero, "r: "},
        {"rank pattern", rank_pattern, "wrong shape"},
        {"no targets", no_targets, "no module of this llama model matches"},
        {"more targets", more_targets, "missing"},
        {"fewer layers", layers_fewer, "unexpected"},
        {"another kind", other_kind, "peft_type"},
        {"DoRA", dora, "lora_magnitude_vector"},
        {"unknown key", unknown_key, "use_magic"},
        {"saved module", saved_module, "missing"},
        {"config cut", config_cut, "adapter_config.json"},
        {"key twice", config_twice, "adapter_config.json"},
        {"file cut", file_cut, "adapter_model.safetensors"},
        {"header cut", header_cut, "adapter_model.safetensors"},
        {"pickle", pickle, "pickle"},
        {"bias", bias_wanted, "bias"},
    };
    const char *dir = test_path("bad_adapter"), *place = test_path("bad_out");
    assert_ok(dir_make(place));
    char out[600];
    snprintf(out, sizeof out, "%s/merged", place);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        adapter a;
        read_adapter(&a);
        cases[i].damage(&a);
        write_adapter(&a, dir);
        tool_merge_options opt = {
            .adapter = dir, .base = golden_model("llama"), .out = out, .tolerance = -1};
        ft_status rc = merge(&opt, NULL);
        if (rc != FT_EDATA || !strstr(ft_error(), cases[i].message))
            print_error("%s: %d: %s\n", cases[i].name, (int)rc, ft_error());
        assert_int_equal(rc, FT_EDATA);
        assert_non_null(strstr(ft_error(), cases[i].message));
        assert_int_equal(entries(place), 0);
    }
    /* the undamaged one passes, so it is the damage that was refused */
    adapter a;
    read_adapter(&a);
    write_adapter(&a, dir);
    tool_merge_options opt = {
        .adapter = dir, .base = golden_model("llama"), .out = out, .tolerance = -1};
    assert_ok(merge(&opt, NULL));
    /* a base that is not there, and an adapter that is not */
    opt.out = test_path("bad_out/other");
    opt.base = NULL;
    assert_int_equal(merge(&opt, NULL), FT_ENOINPUT);
    opt.base = golden_model("llama");
    opt.adapter = test_path("no_such");
    assert_int_equal(merge(&opt, NULL), FT_ENOINPUT);
}

/* --- bases in blocks and codes, and results in them --------------------------------------------------------------- */
static void convert_to(const char *from, const char *out, const char *type)
{
    str_buf text = {0};
    tool_convert_options o = {.model = from, .out = out, .type = type, .force = true};
    assert_ok(tool_convert(&o, &(tool_sink){test_append, &text}));
    str_free(&text);
}

static void same_file(const char *a, const char *b, const char *name)
{
    char path[2][600], hex[2][65];
    snprintf(path[0], sizeof path[0], "%s/%s", a, name);
    snprintf(path[1], sizeof path[1], "%s/%s", b, name);
    for (int i = 0; i < 2; i++) assert_ok(file_sha256(path[i], hex[i]));
    if (strcmp(hex[0], hex[1]) != 0) print_error("%s and %s differ\n", path[0], path[1]);
    assert_string_equal(hex[0], hex[1]);
}

/* The metadata of a GGUF has the name of what it was made of. */
static void same_tensors(const char *a, const char *b)
{
    arena *mem = NULL;
    io_weights w[2];
    assert_ok(arena_open(&mem, "t", (size_t)64 << 20));
    assert_ok(io_weights_open(&w[0], a, mem));
    assert_ok(io_weights_open(&w[1], b, mem));
    assert_int_equal(w[0].n, w[1].n);
    for (int64_t i = 0; i < w[0].n; i++) {
        const io_tensor *x = &w[0].tensor[i], *y = io_find(&w[1], x->name);
        assert_non_null(y);
        assert_ptr_equal(x->type, y->type);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    for (int i = 0; i < 2; i++) io_weights_close(&w[i]);
    arena_close(mem);
}

static const char *name_of(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

/* Each step of the damage: finite, the first against itself, the last what the proof says. */
static void check_damage(tool_merge_options opt, const char *merged, const char *last)
{
    str_buf out = {0};
    const int n = last ? 3 : 2;
    const char *const names[] = {"adapter", "merged", "requantised"}, *types[] = {"", merged, last};
    opt.json = true;
    assert_ok(tool_merge_adapter(&opt, &(tool_sink){test_append, &out}));
    cJSON *line = test_json(out.data, out.len);
    const cJSON *d = cJSON_GetObjectItem(line, "damage"),
                *proof = cJSON_GetObjectItem(line, "proof");
    assert_int_equal(cJSON_GetArraySize(d), n);
    assert_true(test_number(proof, "scored_tokens") >= 15);
    for (int i = 0; i < n; i++) {
        const cJSON *e = cJSON_GetArrayItem(d, i);
        assert_string_equal(name_of(e, "name"), names[i]);
        assert_string_equal(name_of(e, "type"), types[i]);
        assert_true(test_number(e, "perplexity") > 1 && test_number(e, "perplexity") < 1e6);
        assert_true(i > 0 ||
                    (test_number(e, "mean_kl") == 0 && test_number(e, "max_logit_diff") == 0));
        assert_true(i != 1 || test_number(e, "mean_kl") < 1e-3);
    }
    const cJSON *e = cJSON_GetArrayItem(d, n - 1);
    assert_true(test_number(e, "mean_kl") == test_number(proof, "mean_kl"));
    assert_true(test_number(e, "max_logit_diff") == test_number(proof, "max_logit_diff"));
    assert_true(!last || test_number(e, "mean_kl") > 0);
    cJSON_Delete(line);
    str_free(&out);
}

/* A result in blocks is the merged one rounded, no other; and what that costs is told apart. */
static void results_in_blocks_are_the_merged_ones_rounded(void **state)
{
    (void)state;
    const char *numbers = test_path("numbers"), *out = test_path("rounded"),
               *gguf = test_path("rounded.gguf"), *other = test_path("other"),
               *other_gguf = test_path("other.gguf");
    static const char *const bases[][2] = {{"llama_lora", "llama"}, {"gpt2_lora", "gpt2"}};
    for (size_t i = 0; i < FT_COUNT_OF(bases); i++) {
        tool_merge_options opt = {.adapter = peft(bases[i][0], "adapter"),
                                  .base = golden_model(bases[i][1]),
                                  .out = numbers,
                                  .force = true,
                                  .tolerance = -1};
        check_damage(opt, "f32", NULL);
        opt.out = gguf;
        opt.type = "q8_0";
        check_damage(opt, "f32", "q8_0");
        convert_to(numbers, other_gguf, "q8_0");
        same_tensors(gguf, other_gguf);
        opt.out = out;
        opt.type = "nf4";
        check_damage(opt, "f32", "nf4");
        convert_to(numbers, other, "nf4");
        same_file(out, other, "model.safetensors");
        same_file(out, other, "config.json");
        /* a limit that was asked for holds, and nothing is left of any step */
        opt.out = test_path("none");
        opt.tolerance = 0;
        assert_int_equal(merge(&opt, NULL), FT_EGATE);
        assert_false(dir_exists(opt.out));
    }
    arena *mem = NULL;
    const char **names;
    int64_t n;
    assert_ok(arena_open(&mem, "t", (size_t)1 << 20));
    assert_ok(dir_list(test_path(""), mem, &names, &n));
    for (int64_t k = 0; k < n; k++) assert_null(strstr(names[k], "tmp-"));
    arena_close(mem);
}

/* Onto a base in blocks or codes the adapter is added in f32: as onto the folder of its values. */
static void a_quantised_base_is_merged_as_its_values(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {{"q8_0", "base.gguf"}, {"nf4", "coded"}};
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++) {
        char base[600];
        snprintf(base, sizeof base, "%s", test_path(kinds[i][1]));
        const char *plain = test_path("plain"), *a = test_path("from_codes"),
                   *b = test_path("from_values");
        convert_to(golden_model("llama"), base, kinds[i][0]);
        convert_to(base, plain, "f32");
        tool_merge_options opt = {.adapter = peft("llama_lora", "adapter"),
                                  .base = base,
                                  .out = a,
                                  .type = "f32",
                                  .force = true,
                                  .tolerance = -1};
        check_damage(opt, "f32", NULL);
        opt.base = plain;
        opt.out = b;
        assert_ok(merge(&opt, NULL));
        same_file(a, b, "model.safetensors");
        opt.base = base;
        opt.out = a;
        opt.type = NULL; /* bf16 */
        check_damage(opt, "bf16", NULL);
        opt.type = "fp4";
        check_damage(opt, "bf16", "fp4");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_in_blocks_are_the_merged_ones_rounded),
        cmocka_unit_test(a_quantised_base_is_merged_as_its_values),
        cmocka_unit_test(merges_what_peft_merges),
        cmocka_unit_test(merges_into_a_gguf_base),
        cmocka_unit_test(tolerance_decides),
        cmocka_unit_test(damaged_adapters_are_refused),
    };
    assert_ok(kn_init());
    assert_ok(pool_open(2));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
