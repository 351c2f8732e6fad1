/* test_lora_gguf.c – `ft convert` of adapters into LoRA files of llama.cpp: alpha / r · B A against what PEFT's merge adds to
 * each weight, by the names and in the order of rows that a GGUF has; and what such a file cannot hold. */
#include "golden.h"
#include "support.h"
#include "verbs.h"

#include "ft/tool.h"

static const char *peft(const char *name, const char *file)
{
    char path[300];
    snprintf(path, sizeof path, "peft/%s/%s", name, file);
    return golden_path(path);
}

static ft_status convert(const char *name, const char *base, const char *out, const char *type)
{
    str_buf text = {0};
    const tool_convert_options opt = {.model = peft(name, "adapter"),
                                      .base = golden_model(base),
                                      .out = out,
                                      .type = type,
                                      .force = true,
                                      .json = true};
    ft_status rc = tool_convert(&opt, &(tool_sink){test_append, &text});
    str_free(&text);
    return rc;
}

/* --- names --------------------------------------------------------------------------------------------------- */

/* Of Hugging Face's names what stands behind the layer, and llama.cpp's; whose heads' rows are reordered in a GGUF of
 * architecture llama. */
static const struct {
    const char *hf, *gguf;
    bool heads;
} names[] = {{"embed_tokens.weight", "token_embd.weight", false},
             {"lm_head.weight", "output.weight", false},
             {"self_attn.q_proj.weight", "attn_q.weight", true},
             {"self_attn.k_proj.weight", "attn_k.weight", true},
             {"self_attn.v_proj.weight", "attn_v.weight", false},
             {"self_attn.o_proj.weight", "attn_output.weight", false},
             {"mlp.gate_proj.weight", "ffn_gate.weight", false},
             {"mlp.up_proj.weight", "ffn_up.weight", false},
             {"mlp.down_proj.weight", "ffn_down.weight", false},
             {"attn.c_attn.weight", "attn_qkv.weight", false},
             {"attn.c_proj.weight", "attn_output.weight", false},
             {"mlp.c_fc.weight", "ffn_up.weight", false},
             {"mlp.c_proj.weight", "ffn_down.weight", false}};

static void gguf_name(const char *hf, char out[64], bool *heads)
{
    int layer = -1;
    for (const char *p = hf; *p && layer < 0; p++)
        if (p[0] == '.' && p[1] >= '0' && p[1] <= '9') layer = atoi(p + 1);
    out[0] = '\0';
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        if (!str_ends(hf, names[i].hf)) continue;
        if (layer < 0)
            snprintf(out, 64, "%s", names[i].gguf);
        else
            snprintf(out, 64, "blk.%d.%s", layer, names[i].gguf);
        *heads = names[i].heads;
    }
    assert_true(out[0]);
}

/* --- deltas -------------------------------------------------------------------------------------------------- */

typedef struct files {
    gguf_file lora;
    st_file golden, base;
    double alpha;
    bool permuted, turned; /* of the architecture; Hugging Face has [in, out] */
    double tolerance;
} files;

static float *values(const io_tensor *t)
{
    int64_t n = 1;
    for (int k = 0; k < t->nd; k++) n *= t->dim[k];
    float *v = test_alloc((size_t)n * sizeof *v);
    t->type->unpack(v, t->data, n);
    return v;
}

static const io_tensor *factor(const files *f, const char *name, const char *end)
{
    char whole[80];
    snprintf(whole, sizeof whole, "%s.lora_%s", name, end);
    const io_tensor *t = test_gguf_tensor(&f->lora, whole);
    if (!t) print_error("no %s\n", whole);
    assert_non_null(t);
    return t;
}

/* W += alpha / r · B A, [out, in]; of the embedding A is [out, r] and B [in, r]. */
static double change(const files *f, const char *name, int64_t r, const float *a, const float *b,
                     int64_t row, int64_t col, int64_t in)
{
    const bool table = strcmp(name, "token_embd.weight") == 0;
    double sum = 0;
    for (int64_t k = 0; k < r; k++)
        sum += table ? (double)a[row * r + k] * (double)b[col * r + k]
                     : (double)b[row * r + k] * (double)a[k * in + col];
    return f->alpha / (double)r * sum;
}

/* The row of a GGUF with reordered heads where row `row` of Hugging Face's stands: the halves of a head are interleaved. */
static int64_t gguf_row(int64_t row, int64_t head_dim)
{
    const int64_t head = row / head_dim, at = row % head_dim, half = head_dim / 2;
    return head * head_dim + at % half * 2 + at / half;
}

static void check_weight(const files *f, const io_tensor *merged, int64_t head_dim)
{
    char name[64];
    bool heads = false;
    const char *hf = merged->name + strlen("merged.");
    gguf_name(hf, name, &heads);
    const io_tensor *a = factor(f, name, "a"), *b = factor(f, name, "b");
    const io_tensor *base = st_find(&f->base, hf);
    const int64_t turn = f->turned && strstr(name, "blk") ? 1 : 0;
    const int64_t out = merged->dim[turn], in = merged->dim[1 - turn], r = b->dim[1];
    assert_non_null(base);
    const float *va = values(a), *vb = values(b), *m = values(merged), *w = values(base);
    double worst = 0;
    for (int64_t i = 0; i < out; i++) {
        const int64_t row = heads && f->permuted ? gguf_row(i, head_dim) : i;
        for (int64_t j = 0; j < in; j++) {
            const int64_t at = turn ? j * out + i : i * in + j;
            const double want = (double)m[at] - (double)w[at];
            worst = fmax(worst, fabs(change(f, name, r, va, vb, row, j, in) - want));
        }
    }
    if (!(worst <= f->tolerance)) print_error("%s: off by %g\n", name, worst);
    assert_true(worst <= f->tolerance);
}

static void check_deltas(const char *name, const char *base, const char *lora, double tolerance)
{
    files f = {.tolerance = tolerance};
    char path[600];
    const char *arch = NULL, *type = NULL;
    model *m;
    int64_t n = 0, hidden, heads;
    assert_ok(gguf_open(&f.lora, lora, test_mem));
    assert_ok(st_open(&f.golden, peft(name, "golden.safetensors"), test_mem));
    snprintf(path, sizeof path, "%s/model.safetensors", golden_model(base));
    assert_ok(st_open(&f.base, path, test_mem));
    assert_ok(gguf_num(&f.lora, "adapter.lora.alpha", 0, &f.alpha));
    assert_ok(gguf_text(&f.lora, "general.architecture", test_mem, &arch));
    assert_ok(gguf_text(&f.lora, "adapter.type", test_mem, &type));
    assert_string_equal(type, "lora");
    assert_ok(model_open(&m, &(model_options){.path = golden_model(base)}));
    hidden = m->d.hidden_size;
    model_close(m);
    snprintf(path, sizeof path, "%s/config.json", golden_model(base));
    char *text = test_read_file(path, NULL), *at = strstr(text, "\"num_attention_heads\":");
    f.permuted = strcmp(arch, "llama") == 0;
    assert_true(at || !f.permuted);
    heads = at ? atoll(strchr(at, ':') + 1) : 1;
    f.turned = strcmp(arch, "gpt2") == 0;
    for (int64_t i = 0; i < f.golden.n; i++) {
        if (!str_starts(f.golden.tensor[i].name, "merged.")) continue;
        check_weight(&f, &f.golden.tensor[i], hidden / heads);
        n++;
    }
    assert_true(n > 0);
    assert_int_equal(f.lora.n, 2 * n);
    gguf_close(&f.lora);
    st_close(&f.golden);
    st_close(&f.base);
}

static void adds_what_peft_adds(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"llama_lora", "llama"},
        {"llama_patterns", "llama"},
        {"llama_ends", "llama"},
        {"mistral_odd", "mistral"},
        {"qwen2_layers", "qwen2"},
        {"qwen3_rank_one", "qwen3"},
        {"gpt2_patterns", "gpt2"},
        {"gpt2_lora", "gpt2"},
        {"mistral_layers_pattern", "mistral"},
    };
    static const struct {
        const char *type;
        double tolerance;
    } types[] = {{NULL, 2e-6}, {"f16", 4e-3}, {"bf16", 3e-2}};
    const char *out = test_path("lora.gguf");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        for (size_t k = 0; k < FT_COUNT_OF(types); k++) {
            assert_ok(convert(cases[i][0], cases[i][1], out, types[k].type));
            check_deltas(cases[i][0], cases[i][1], out, types[k].tolerance);
        }
    }
}

/* The base as a .gguf gives the same file. */
static void a_gguf_base_is_the_same(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"llama_patterns", "llama"}, {"gpt2_patterns", "gpt2"}};
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *base = test_path("base.gguf"), *out = test_path("lora.gguf");
        str_buf text = {0};
        tool_convert_options opt = {
            .model = golden_model(cases[i][1]), .out = base, .type = "f32", .force = true};
        assert_ok(tool_convert(&opt, &(tool_sink){test_append, &text}));
        opt = (tool_convert_options){
            .model = peft(cases[i][0], "adapter"), .base = base, .out = out, .force = true};
        assert_ok(tool_convert(&opt, &(tool_sink){test_append, &text}));
        check_deltas(cases[i][0], cases[i][1], out, 2e-6);
        str_free(&text);
    }
}

/* --- what has no place there ------------------------------------------------------------------------------------ */

static void refuses_what_it_cannot_hold(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"llama_saved_head", "llama", "lm_head"},
                                           {"llama_saved_norms", "llama", "norm"},
                                           {"llama_bias_all", "llama_bias_tied", "bias"},
                                           {"gpt2_saved_mlp", "gpt2", "mlp"},
                                           {"llama_held", "llama", "embed_tokens"},
                                           {"llama_tokens", "llama", "embed_tokens"},
                                           {"llama_grown", "llama", "embed_tokens"},
                                           {"qwen2_tied_pair", "qwen2_window", "embed_tokens"},
                                           {"llama_prompt", "llama", "prompt_tuning"}};
    const char *out = test_path("none.gguf");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        assert_fails(convert(cases[i][0], cases[i][1], out, NULL), FT_EDATA, "merge-adapter");
        assert_non_null(strstr(ft_error(), cases[i][2]));
        assert_false(file_exists(out));
    }
    assert_fails(convert("llama_lora", "llama", out, "q8_0"), FT_EUSAGE, "f32, f16 or bf16");
    assert_fails(convert("llama_lora", "llama", test_path("folder"), NULL), FT_EUSAGE,
                 "merge-adapter");
    assert_fails(convert("gpt2_lora", "llama", out, NULL), FT_EDATA, "target_modules");
    assert_false(file_exists(out));
}

/* It is no model and no adapter of ours, and said to be what it is. */
static void is_told_for_what_it_is(void **state)
{
    (void)state;
    model *m = NULL;
    const char *out = test_path("lora.gguf");
    assert_ok(convert("llama_lora", "llama", out, NULL));
    assert_fails(model_open(&m, &(model_options){.path = out}), FT_EDATA, "adapter for llama.cpp");
    assert_fails(io_adapter_exists(out), FT_ENOINPUT, "PEFT folder");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_what_peft_adds),
        cmocka_unit_test(a_gguf_base_is_the_same),
        cmocka_unit_test(refuses_what_it_cannot_hold),
        cmocka_unit_test(is_told_for_what_it_is),
    };
    return cmocka_run_group_tests_name("lora_gguf", tests, test_open_arena, test_close_arena);
}
