/* test_combine.c – several adapters as one: the rules by hand, the results against PEFT's, sums against those that the
 * forward makes, DARE by what it promises, and what cannot be combined. */
#include "golden.h"
#include "support.h"
#include "verbs.h"

#include "../src/method/combine_private.h"

#include "ft/kernel.h"
#include "ft/tool.h"

/* --- the rules ----------------------------------------------------------------------------------------------- */
static void keeps_the_largest(void **state)
{
    (void)state;
    const float x[8] = {-3, 1, 0.5f, -1, 2, 1, 1e-30f, 0};
    const struct {
        double density;
        float want[8];
    } cases[] = {
        {1.0, {-3, 1, 0.5f, -1, 2, 1, 1e-30f, 0}},
        {0.99, {-3, 1, 0.5f, -1, 2, 1, 1e-30f, 0}}, /* 7 of 8: the one left out is a zero */
        {0.5, {-3, 1, 0, -1, 2, 0, 0, 0}},          /* of three that are equal the first two */
        {0.3, {-3, 0, 0, 0, 2, 0, 0, 0}},           /* floor(2.4) */
        {0.1, {0}},                                 /* floor(0.8) */
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        float y[8];
        memcpy(y, x, sizeof y);
        pe_keep_largest(y, 8, cases[i].density);
        assert_memory_equal(y, cases[i].want, sizeof y);
    }
    float *many = test_uniform(3, 5000, -1, 1), *all = test_alloc(5000 * sizeof *all);
    memcpy(all, many, 5000 * sizeof *all);
    pe_keep_largest(many, 5000, 0.37);
    float least = 2, most = 0;
    int kept = 0;
    for (int i = 0; i < 5000; i++) {
        const float size = fabsf(all[i]);
        assert_true(many[i] == 0.0f || many[i] == all[i]);
        kept += many[i] != 0.0f;
        if (many[i] != 0.0f && size < least) least = size;
        if (many[i] == 0.0f && size > most) most = size;
    }
    assert_int_equal(kept, 1850);
    assert_true(least >= most);
}

static void drops_at_random(void **state)
{
    (void)state;
    enum { N = 20000 };
    const double density = 0.7;
    float *x = test_uniform(5, N, 0.5f, 1), *y = test_alloc(N * sizeof *y);
    float *z = test_alloc(N * sizeof *z);
    int kept = 0, same = 0;
    memcpy(y, x, N * sizeof *y);
    memcpy(z, x, N * sizeof *z);
    pe_keep_some(y, N, density, 1);
    pe_keep_some(z, N, density, 2);
    for (int i = 0; i < N; i++) {
        assert_true(y[i] == 0.0f || y[i] == x[i] / (float)density);
        kept += y[i] != 0.0f;
        same += (y[i] != 0.0f) == (z[i] != 0.0f);
    }
    assert_true(fabs(kept / (double)N - density) < 0.015); /* four standard deviations */
    assert_true(fabs(same / (double)N - 0.58) <
                0.015); /* D² + (1 − D)²: they have nothing in common */
    memcpy(z, x, N * sizeof *z);
    pe_keep_some(z, N, density, 1);
    assert_memory_equal(y, z, N * sizeof *z);
    memcpy(z, x, N * sizeof *z);
    pe_keep_some(z, N, 1.0, 1);
    assert_memory_equal(x, z, N * sizeof *z);
}

/* What a mask has left: the formulas of merge_utils.py, by hand. */
static void adds_and_elects(void **state)
{
    (void)state;
    const float a[5] = {1, -2, 0, 3, 0}, b[5] = {-4, -1, 2, 0, 0}, c[5] = {1, 3, -2, 1, 0};
    const float *task[3] = {a, b, c}, weight[3] = {1, 0.5f, -2};
    const struct {
        bool elect, frequency;
        float want[5];
    } cases[] = {
        {false, false, {-3, -8.5f, 5, 1, 0}},
        {true, false, {-2, -6, 1, 0.5f, 0}},       /* sums −2, 0, 0, 4, 0: 0 is + */
        {true, true, {-0.5f, -1.25f, 1, 0.5f, 0}}, /* of signs +, −, 0, +, 0 */
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        float out[5];
        const combine_sum sum = {.task = task,
                                 .weight = weight,
                                 .n = 3,
                                 .elect = cases[i].elect,
                                 .frequency = cases[i].frequency};
        pe_combine_add(out, &sum, 5);
        assert_memory_equal(out, cases[i].want, sizeof out);
    }
}

/* --- against PEFT ------------------------------------------------------------------------------------------------ */
enum { MOST = 4 };

typedef struct words { /* a line of cases.txt */
    char name[64], type[64], weights[64], majority[64], dir[MOST][600];
    const char *adapter[MOST];
    double weight[MOST], density;
    int n, svd_rank, rank;
} words;

static const char *adapter_of(words *w, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "combine/%s", name);
    snprintf(w->dir[w->n], sizeof w->dir[0], "%s", golden_path(path));
    return w->dir[w->n];
}

static void read_case(words *w, char *line)
{
    char *save = NULL, *word = strtok_r(line, " ", &save);
    *w = (words){.type = "cat", .majority = "total"};
    snprintf(w->name, sizeof w->name, "%s", word);
    w->rank = atoi(strtok_r(NULL, " ", &save));
    while ((word = strtok_r(NULL, " ", &save))) {
        if (!str_starts(word, "--")) {
            w->adapter[w->n] = adapter_of(w, word);
            w->n++;
            continue;
        }
        const char *value = strtok_r(NULL, " ", &save);
        assert_non_null(value);
        if (strcmp(word, "--weights") == 0) snprintf(w->weights, sizeof w->weights, "%s", value);
        if (strcmp(word, "--combination-type") == 0) snprintf(w->type, sizeof w->type, "%s", value);
        if (strcmp(word, "--majority-sign-method") == 0)
            snprintf(w->majority, sizeof w->majority, "%s", value);
        if (strcmp(word, "--density") == 0) w->density = atof(value);
        if (strcmp(word, "--svd-rank") == 0) w->svd_rank = atoi(value);
    }
    char *at = w->weights;
    for (int i = 0; i < w->n; i++, at++) w->weight[i] = strtod(at, &at);
}

static pe_combine how_of(const words *w)
{
    return (pe_combine){.dir = w->adapter,
                        .weight = w->weight,
                        .n = w->n,
                        .type = w->type,
                        .density = w->density,
                        .frequency = strcmp(w->majority, "frequency") == 0,
                        .svd_rank = w->svd_rank,
                        .seed = 42};
}

/* B A of the factors under KEY.lora_A.weight and KEY.lora_B.weight; [*n]. */
static float *change_of(const st_file *f, const char *key, int64_t *n)
{
    char name[400];
    snprintf(name, sizeof name, "%s.lora_A.weight", key);
    const io_tensor *a = st_find(f, name);
    snprintf(name, sizeof name, "%s.lora_B.weight", key);
    const io_tensor *b = st_find(f, name);
    assert_true(a && b && a->dim[0] == b->dim[1]);
    const int64_t r = a->dim[0], in = a->dim[1], out = b->dim[0];
    float *x = test_alloc(a->bytes), *y = test_alloc(b->bytes);
    float *change = test_alloc((size_t)(in * out) * sizeof *change);
    memcpy(x, a->data, a->bytes);
    memcpy(y, b->data, b->bytes);
    for (int64_t i = 0; i < out * in; i++)
        for (int64_t k = 0; k < r; k++) change[i] += y[i / in * r + k] * x[k * in + i % in];
    *n = in * out;
    return change;
}

static double worst_of(const st_file *have, const st_file *want, const char *name, int *modules)
{
    double worst = 0;
    const size_t skip = strlen(name) + 1;
    const char *end = ".lora_A.weight";
    for (int64_t i = 0; i < want->n; i++) {
        const char *key = want->tensor[i].name;
        char theirs[400], ours[400];
        int64_t n, m;
        if (!str_starts(key, name) || key[skip - 1] != '.' || !str_ends(key, end)) continue;
        snprintf(theirs, sizeof theirs, "%.*s", (int)(strlen(key) - strlen(end)), key);
        snprintf(ours, sizeof ours, "%s", theirs + skip);
        const float *a = change_of(have, ours, &n), *b = change_of(want, theirs, &m);
        assert_int_equal(n, m);
        const double off = rel_l2(a, b, n);
        if (off > worst) worst = off;
        (*modules)++;
    }
    return worst;
}

static void opens_made(st_file *f, const char *dir, arena *mem)
{
    char path[600];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    assert_ok(st_open(f, path, mem));
}

static bool needs_library(const char *type)
{
    return pe_combine_kind(type)->form == COMBINE_PRODUCTS && kn_linalg_open() != FT_OK;
}

static void combines_as_peft(void **state)
{
    (void)state;
    const st_file *want = golden_open("combine/golden.safetensors");
    char *text = test_read_file(golden_path("combine/cases.txt"), NULL), *save = NULL;
    int cases = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        arena *mem = NULL;
        st_file have = {0};
        words w;
        pe_combined made;
        int modules = 0;
        read_case(&w, line);
        if (needs_library(w.type)) continue;
        const pe_combine how = how_of(&w);
        const char *dir = test_path(w.name);
        assert_ok(arena_open(&mem, "t", (size_t)64 << 20));
        assert_ok(dir_make(dir));
        assert_ok(pe_combine_adapters(&how, dir, &made));
        opens_made(&have, dir, mem);
        const double worst = worst_of(&have, want, w.name, &modules);
        if (worst > 2e-6) print_error("%s: %.2g\n", w.name, worst);
        assert_true(worst <= 2e-6);
        assert_int_equal(made.rank, w.rank);
        assert_int_equal(made.modules, modules);
        assert_int_equal(have.n, 2 * modules);
        st_close(&have);
        arena_close(mem);
        cases++;
    }
    assert_true(cases >= 9);
}

/* --- what DARE promises ---------------------------------------------------------------------------------------------- */
static void combine_into(const pe_combine *how, const char *dir, st_file *f, arena *mem)
{
    pe_combined made;
    assert_ok(dir_make(dir));
    assert_ok(pe_combine_adapters(how, dir, &made));
    opens_made(f, dir, mem);
}

static const float *floats_of(const st_file *f, const char *name, int64_t *n)
{
    const io_tensor *t = st_find(f, name);
    assert_non_null(t);
    float *copy = test_alloc(t->bytes);
    memcpy(copy, t->data, t->bytes);
    *n = (int64_t)(t->bytes / sizeof *copy);
    return copy;
}

/* Each value is 0, or `times` what it was; the number of those. */
static int kept_of(const float *have, const float *was, int64_t n, double times)
{
    int kept = 0;
    for (int64_t i = 0; i < n; i++) {
        kept += have[i] != 0.0f;
        if (have[i] != 0.0f)
            assert_true(fabs((double)have[i] - times * (double)was[i]) < 2e-6 * (1 + fabs(times)));
    }
    return kept;
}

static void dare_drops_and_scales(void **state)
{
    (void)state;
    static const char *const keys[] = {"base_model.model.model.layers.1.self_attn.q_proj",
                                       "base_model.model.model.layers.1.self_attn.v_proj"};
    words w;
    char line[] = "dare 4 one four --weights 1,0 --combination-type dare_linear --density 0.6";
    read_case(&w, line);
    pe_combine how = how_of(&w);
    st_file made = {0}, again = {0}, other = {0}, was = {0};
    int64_t n, total = 0;
    int kept = 0, changed = 0;
    opens_made(&was, w.adapter[0], test_mem);
    combine_into(&how, test_path("dare1"), &made, test_mem);
    combine_into(&how, test_path("dare2"), &again, test_mem);
    how.seed = 43;
    combine_into(&how, test_path("dare3"), &other, test_mem);
    for (int i = 0; i < 4; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s.lora_%s.weight", keys[i / 2], i % 2 ? "B" : "A");
        const float *x = floats_of(&made, name, &n), *y = floats_of(&again, name, &n);
        const float *z = floats_of(&other, name, &n), *old = floats_of(&was, name, &n);
        assert_memory_equal(x, y, (size_t)n * sizeof *x);
        kept += kept_of(x, old, n, sqrt(1.5) / 0.6); /* alpha 6 of rank 4 */
        for (int64_t k = 0; k < n; k++) changed += (x[k] != 0.0f) != (z[k] != 0.0f);
        total += n;
    }
    assert_true(fabs(kept / (double)total - 0.6) < 0.1);
    assert_true(fabs(changed / (double)total - 0.48) < 0.1); /* 2 D (1 − D) */
    st_file *all[] = {&made, &again, &other};
    for (size_t i = 0; i < FT_COUNT_OF(all); i++) st_close(all[i]);
    if (kn_linalg_open() == FT_OK) { /* of the products */
        how.type = "dare_linear_svd";
        how.svd_rank = 32;
        combine_into(&how, test_path("dare4"), &made, test_mem);
        const float *x = change_of(&made, keys[1], &n), *old = change_of(&was, keys[1], &n);
        int zeros = 0;
        for (int64_t i = 0; i < n; i++) {
            const double d = (double)x[i], full = 1.5 * (double)old[i] / 0.6;
            zeros += fabs(d) < 1e-5;
            assert_true(fabs(d) < 1e-5 || fabs(d - full) < 1e-5);
        }
        assert_true(fabs(zeros / (double)n - 0.4) < 0.1);
        st_close(&made);
    }
    st_close(&was);
}

/* --- with a model ------------------------------------------------------------------------------------------------------ */
static const char *peft(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "peft/%s/adapter", name);
    return golden_path(path);
}

enum { IDS = 12 };

static float *logits(tool_model *t)
{
    int32_t id[IDS];
    float *out = test_alloc((size_t)t->m->d.vocab_size * sizeof *out);
    for (int i = 0; i < IDS; i++) id[i] = (7 * i + 3) % (int32_t)t->m->d.vocab_size;
    inf_seq s = {.id = id, .n = IDS, .from = IDS, .logits = out};
    assert_ok(inf_score(&t->inf, &s, 1));
    return out;
}

/* The stack of all, and what an SVD that cuts nothing leaves of it, are the sum that the forward makes. */
static void are_their_sum(const char *base, const char *const *name, const double *weight, int n)
{
    static const char *const types[] = {"cat", "svd"};
    const char *dir[3];
    pe_use use[3];
    tool_model *sum = NULL, *one = NULL;
    for (int i = 0; i < n; i++) {
        dir[i] = peft(name[i]);
        use[i] = (pe_use){dir[i], weight[i]};
    }
    assert_ok(tool_open_adapters(&sum, golden_model(base), use, n, false, NULL));
    const float *want = logits(sum);
    for (size_t k = 0; k < FT_COUNT_OF(types); k++) {
        const char *out = test_path("sum");
        pe_combined made;
        const pe_combine how = {
            .dir = dir, .weight = weight, .n = n, .type = types[k], .svd_rank = 70};
        if (needs_library(types[k])) continue;
        assert_ok(dir_make(out));
        assert_ok(pe_combine_adapters(&how, out, &made));
        assert_ok(tool_open(&one, golden_model(base), out, false, NULL));
        assert_true(rel_l2(logits(one), want, sum->m->d.vocab_size) < 1e-5);
        tool_close(one);
        assert_ok(dir_remove(out));
    }
    tool_close(sum);
}

static void sums_are_those_of_the_forward(void **state)
{
    (void)state;
    are_their_sum("llama", (const char *[]){"llama_lora", "llama_patterns", "llama_ends"},
                  (double[]){0.5, -1.25, 1}, 3);
    are_their_sum("llama", (const char *[]){"llama_patterns", "llama_saved_head"},
                  (double[]){0.5, 1}, 2);
    are_their_sum("llama_bias_tied", (const char *[]){"llama_bias_all", "llama_tied_held"},
                  (double[]){1, 1}, 2);
    are_their_sum("gpt2", (const char *[]){"gpt2_lora", "gpt2_patterns"}, (double[]){-1, 0.5}, 2);
    are_their_sum("qwen2_window", (const char *[]){"qwen2_tied_pair", "qwen2_tied_pair"},
                  (double[]){0.5, 0.75}, 2);
}

static ft_status ignore(void *ctx, const char *text, size_t n)
{
    (void)ctx;
    (void)text;
    (void)n;
    return FT_OK;
}

static void merges_several(void **state)
{
    (void)state;
    const char *dir[] = {peft("llama_lora"), peft("llama_patterns")};
    const double weight[] = {0.75, -0.5};
    const pe_combine how = {.dir = dir, .weight = weight, .n = 2, .type = "cat"};
    const pe_use use[] = {{dir[0], 0.75}, {dir[1], -0.5}};
    const tool_merge_options opt = {.adapter = dir[0],
                                    .combine = &how,
                                    .base = golden_model("llama"),
                                    .out = test_path("merged"),
                                    .tolerance = 1e-8};
    tool_model *sum = NULL, *merged = NULL;
    assert_ok(tool_merge_adapter(&opt, &(tool_sink){.put = ignore}));
    assert_ok(tool_open_adapters(&sum, opt.base, use, 2, false, NULL));
    assert_ok(tool_open(&merged, opt.out, NULL, false, NULL));
    assert_true(rel_l2(logits(merged), logits(sum), sum->m->d.vocab_size) < 1e-5);
    tool_close(sum);
    tool_close(merged);
}

/* --- what cannot be combined --------------------------------------------------------------------------------------- */
/* The folder again, with one text of its config replaced. */
static const char *altered(const char *dir, const char *name, const char *old, const char *new)
{
    char path[600], copy[600];
    size_t n;
    const char *out = test_path(name);
    assert_ok(dir_make(out));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    char *tensors = test_read_file(path, &n);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", out);
    test_write_file(path, tensors, n);
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    snprintf(copy, sizeof copy, "%s/adapter_config.json", out);
    test_change_text(path, copy, old, new);
    return out;
}

static void refuses(void **state)
{
    (void)state;
    const char *lora = peft("llama_lora");
    const struct {
        const char *dir[2], *type, *says;
        ft_status rc;
    } cases[] = {
        {{lora, peft("llama_prompt")}, "cat", "type PROMPT_TUNING; only LoRA's", FT_EDATA},
        {{lora, peft("llama_patterns")}, "linear", "has 4, ", FT_EDATA},
        {{lora, peft("llama_patterns")}, "ties", "has 6; \"cat\" and", FT_EDATA},
        {{altered(lora, "dora", "\"use_dora\": false", "\"use_dora\": true"), lora},
         "cat",
         "use_dora: is no sum",
         FT_EDATA},
        {{altered(lora, "pissa", "\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\""),
          lora},
         "cat",
         "init_lora_weights",
         FT_EDATA},
        {{altered(lora, "rank", "\"r\": 4", "\"r\": 5"), lora},
         "cat",
         "lora_A.weight\" is not of the rank",
         FT_EDATA},
        {{peft("llama_saved_head"), peft("llama_saved_head")},
         "cat",
         "both hold \"base_model.model.lm_head.weight\"",
         FT_EDATA},
        {{peft("llama_bias_all"), peft("llama_bias_all")}, "cat", "bias: another", FT_EDATA},
        {{peft("llama_tokens"), peft("llama_tokens")}, "cat", "trainable_token_indices", FT_EDATA},
        {{peft("qwen3_rank_one"), peft("mistral_odd")},
         "cat",
         "than in the adapters before it",
         FT_EDATA},
        {{lora, test_path("nowhere")}, "cat", "nowhere", FT_ENOINPUT},
    };
    const double weight[] = {1, 1};
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        pe_combined made;
        const char *out = test_path("refused");
        const pe_combine how = {
            .dir = cases[i].dir, .weight = weight, .n = 2, .type = cases[i].type, .density = 0.5};
        assert_ok(dir_make(out));
        assert_fails(pe_combine_adapters(&how, out, &made), cases[i].rc, cases[i].says);
        assert_ok(dir_remove(out));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_largest),     cmocka_unit_test(drops_at_random),
        cmocka_unit_test(adds_and_elects),       cmocka_unit_test(combines_as_peft),
        cmocka_unit_test(dare_drops_and_scales), cmocka_unit_test(sums_are_those_of_the_forward),
        cmocka_unit_test(merges_several),        cmocka_unit_test(refuses),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
