/* test_adapters.c – adapters that add up, each times its scale: the forward and the fold of a sum against those of its parts,
 * which are PEFT's (test_merge.c); and what does not add up. */
#include "golden.h"
#include "support.h"

#include "ft/tool.h"

static const char *peft(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "peft/%s/adapter", name);
    return golden_path(path);
}

static tool_model *open_sum(const char *base, const pe_use *use, int n)
{
    tool_model *t = NULL;
    assert_ok(tool_open_adapters(&t, golden_model(base), use, n, false, NULL));
    return t;
}

enum { IDS = 12 };

/* Logits after the last of some tokens. */
static float *logits(tool_model *t)
{
    int32_t id[IDS];
    float *out = test_alloc((size_t)t->m->d.vocab_size * sizeof *out);
    for (int i = 0; i < IDS; i++) id[i] = (7 * i + 3) % (int32_t)t->m->d.vocab_size;
    inf_seq s = {.id = id, .n = IDS, .from = IDS, .logits = out};
    assert_ok(inf_score(&t->inf, &s, 1));
    return out;
}

/* What an adapter adds to the weights of all sites, one after another. */
static float *deltas(const tool_model *t, int64_t *n)
{
    model_fold f = pe_folder(t->adapter);
    *n = 0;
    for (int64_t i = 0; i < t->m->n_site; i++) *n += t->m->site[i].in * t->m->site[i].out;
    float *out = test_alloc((size_t)*n * sizeof *out), *at = out;
    for (int64_t i = 0; i < t->m->n_site; i++) {
        const nn_site *s = &t->m->site[i];
        float *bias = test_alloc((size_t)(s->out + s->in) * sizeof *bias);
        assert_ok(f.fold(f.ctx, s, at, bias));
        at += s->in * s->out;
    }
    return out;
}

static void parts_add_up(const char *base, const pe_use *use, int n)
{
    int64_t count, k;
    tool_model *t = open_sum(base, use, n);
    float *sum = deltas(t, &count), *want = test_alloc((size_t)count * sizeof *want);
    for (int i = 0; i < n; i++) {
        const pe_use one = {use[i].dir, 1.0};
        tool_model *part = open_sum(base, &one, 1);
        float *d = deltas(part, &k);
        assert_int_equal(k, count);
        for (int64_t j = 0; j < count; j++) want[j] += (float)use[i].scale * d[j];
        tool_close(part);
    }
    assert_true(rel_l2(sum, want, count) < 1e-6);
    /* the forward is that of the weights with the sum folded in */
    tool_model *merged = NULL;
    const char *out = test_path("merged");
    model_save_options save = {.over = &t->adapter->over, .fold = pe_folder(t->adapter)};
    assert_ok(model_save(t->m, out, &save));
    assert_ok(tool_open(&merged, out, NULL, false, NULL));
    assert_true(rel_l2(logits(t), logits(merged), t->m->d.vocab_size) < 1e-5);
    tool_close(merged);
    assert_ok(dir_remove(out));
    tool_close(t);
}

static void sums_are_those_of_the_parts(void **state)
{
    (void)state;
    const char *a = peft("llama_lora"), *b = peft("llama_patterns"), *g = peft("gpt2_patterns");
    const char *tied = peft("qwen2_tied_pair"), *h = peft("gpt2_lora");
    parts_add_up("llama", (pe_use[]){{a, 1}, {b, 1}}, 2);
    parts_add_up("llama", (pe_use[]){{b, -1.25}, {a, 0.5}}, 2);
    parts_add_up("llama", (pe_use[]){{a, 0.5}}, 1);
    parts_add_up("llama", (pe_use[]){{a, 0}}, 1);
    parts_add_up("llama", (pe_use[]){{a, 0.25}, {b, 0.5}, {a, 1}}, 3);
    parts_add_up("gpt2", (pe_use[]){{g, 1.5}, {h, -1}}, 2);                 /* matrices [in, out] */
    parts_add_up("qwen2_window", (pe_use[]){{tied, 0.5}, {tied, 0.75}}, 2); /* tables */
}

/* One adapter twice is the same as once at twice the scale; a scale of 1 is the adapter as it is, to the bit. */
static void scales_scale(void **state)
{
    (void)state;
    const char *a = peft("llama_patterns");
    tool_model *base = open_sum("llama", NULL, 0), *one = open_sum("llama", (pe_use[]){{a, 1}}, 1),
               *plain = NULL, *zero = open_sum("llama", (pe_use[]){{a, 0}}, 1),
               *twice = open_sum("llama", (pe_use[]){{a, 1}, {a, 1}}, 2),
               *two = open_sum("llama", (pe_use[]){{a, 2}}, 1);
    assert_ok(tool_open(&plain, golden_model("llama"), a, false, NULL));
    const int64_t v = base->m->d.vocab_size;
    assert_memory_equal(logits(one), logits(plain), (size_t)v * sizeof(float));
    assert_true(rel_l2(logits(zero), logits(base), v) < 1e-6);
    assert_true(rel_l2(logits(two), logits(twice), v) < 1e-5);
    assert_true(rel_l2(logits(two), logits(one), v) > 1e-2);
    tool_model *all[] = {base, one, plain, zero, twice, two};
    for (size_t i = 0; i < FT_COUNT_OF(all); i++) tool_close(all[i]);
}

/* Values that stand in the place of the base's come from one adapter, and as they are. */
static void what_replaces_is_not_added(void **state)
{
    (void)state;
    const char *a = peft("llama_lora"), *head = peft("llama_saved_head"),
               *bias = peft("llama_bias_all"), *prompt = peft("llama_prompt");
    const struct {
        const char *base;
        pe_use use[2];
        int n;
        const char *says;
    } cases[] = {
        {"llama", {{head, 0.5}}, 1, "in the place of the base's"},
        {"llama", {{head, 1}, {head, 1}}, 2, "lm_head.weight"},
        {"llama_bias_tied", {{bias, 2}}, 1, "bias"},
        {"llama", {{prompt, 0.5}}, 1, "is an adapter of type PROMPT_TUNING, which stands alone"},
        {"llama", {{a, 1}, {prompt, 1}}, 2, "PROMPT_TUNING"},
    };
    tool_model *t = NULL;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++)
        assert_fails(tool_open_adapters(&t, golden_model(cases[i].base), cases[i].use, cases[i].n,
                                        false, NULL),
                     FT_EDATA, cases[i].says);
    parts_add_up("llama", (pe_use[]){{head, 1}, {a, 0.5}}, 2);
}

static void words_name_a_folder_and_a_scale(void **state)
{
    (void)state;
    static const struct {
        const char *text, *dir;
        double scale;
    } cases[] = {{"out/a", "out/a", 1},       {"a=0.5", "a", 0.5},   {"a=b=-2e-1", "a=b", -0.2},
                 {"r=8/x", "r=8/x", 1},       {"a=1=1", "a=1", 1},   {"a=", "a=", 1},
                 {"lr=3e-4", "lr", 3e-4},     {"a=1b", "a=1b", 1},   {"a=0", "a", 0},
                 {"x/step=40", "x/step", 40}, {"./a=.5", "./a", 0.5}};
    pe_use use;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        assert_ok(tool_adapter_use(cases[i].text, test_mem, &use));
        assert_string_equal(use.dir, cases[i].dir);
        assert_true(use.scale == cases[i].scale);
    }
    assert_fails(tool_adapter_use("a=1e999", test_mem, &use), FT_EUSAGE, "must be finite");
    assert_fails(tool_adapter_use("a=nan", test_mem, &use), FT_EUSAGE, "must be finite");
    assert_fails(tool_adapter_use("=2", test_mem, &use), FT_EUSAGE, "names no folder");
    assert_fails(tool_adapter_use("", test_mem, &use), FT_EUSAGE, "names no folder");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_the_parts),
        cmocka_unit_test(scales_scale),
        cmocka_unit_test(what_replaces_is_not_added),
        cmocka_unit_test(words_name_a_folder_and_a_scale),
    };
    assert_ok(kn_init());
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
