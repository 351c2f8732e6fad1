/* test_combine.c – several adapters as one: the rules by hand, the results against PEFT's, sums against those that the
 * forward makes, DARE by what it promises, and what cannot be combined. */
#include "golden.h"
#include "support.h"

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
        combine_keep_largest(y, 8, cases[i].density);
        assert_memory_equal(y, cases[i].want, sizeof y);
    }
    float *many = test_uniform(3, 5000, -1, 1), *all = test_alloc(5000 * sizeof *all);
    memcpy(all, many, 5000 * sizeof *all);
    combine_keep_largest(many, 5000, 0.37);
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
    combine_keep_some(y, N, density, 1);
    combine_keep_some(z, N, density, 2);
    for (int i = 0; i < N; i++) {
        assert_true(y[i] == 0.0f || y[i] == x[i] / (float)density);
        kept += y[i] != 0.0f;
        same += (y[i] != 0.0f) == (z[i] != 0.0f);
    }
    assert_true(fabs(kept / (double)N - density) < 0.015); /* four standard deviations */
    assert_true(fabs(same / (double)N - 0.58) <
                0.015); /* D² + (1 − D)²: they have nothing in common */
    memcpy(z, x, N * sizeof *z);
    combine_keep_some(z, N, density, 1);
    assert_memory_equal(y, z, N * sizeof *z);
    memcpy(z, x, N * sizeof *z);
    combine_keep_some(z, N, 1.0, 1);
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
        combine_add(out, &sum, 5);
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
    return combine_kind_by_name(type)->form == COMBINE_PRODUCTS && kn_linalg_open() != FT_OK;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_largest),
        cmocka_unit_test(drops_at_random),
        cmocka_unit_test(adds_and_elects),
        cmocka_unit_test(combines_as_peft),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
