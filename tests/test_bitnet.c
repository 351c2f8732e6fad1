/* test_bitnet.c – BitNet folders in all forms that transformers has (tests/golden/bitnet, made by scripts/make_golden_bitnet.py):
 * logits, packing to the same bytes, products of codes on every level, and folders that are wrong. */
#include "golden.h"
#include "support.h"

#include "../src/kernel/kern.h"
#include "ft/kernel.h"
#include "ft/model.h"

#include <math.h>

/* --- matrices of codes --------------------------------------------------------------------------------------------------- */

typedef struct matrix {
    kn_mat mat;
    dt_trits side;
    uint8_t *code; /* [rows, cols] */
    float *value;
} matrix;

/* full: every code is the largest, so that sums of 16 bits are as large as they can be. */
static void random_codes(matrix *w, uint64_t seed, int64_t rows, int64_t cols, bool full)
{
    const int64_t bytes = dt_trits_row(cols);
    uint8_t *data = test_alloc((size_t)(rows * bytes));
    w->side = (dt_trits){.rows = rows, .cols = cols, .scale = 0.0371f};
    w->code = test_alloc((size_t)(rows * cols));
    w->value = test_alloc((size_t)(rows * cols) * sizeof *w->value);
    for (int64_t i = 0; i < rows * cols; i++) {
        w->code[i] = full ? 2 : (uint8_t)(test_u64(seed, (uint64_t)i) % 3);
        w->value[i] = w->side.scale * (float)(w->code[i] - 1);
    }
    for (int64_t r = 0; r < rows; r++) dt_trits_put(data + r * bytes, w->code + r * cols, cols);
    w->mat =
        (kn_mat){.type = &dt_ternary, .data = data, .side = &w->side, .rows = rows, .cols = cols};
}

static const struct {
    int64_t rows[2], cols;
    bool full;
} forms[] = {{{41, 7}, 37, false},   {{24, 100}, 576, false}, {{130, 1}, 128, false},
             {{9, 33}, 1536, false}, {{5, 3}, 4352, true},    {{64, 64}, 4100, false},
             {{1, 1}, 1, false}};

static void values_are_the_same_on_all_levels(void **state)
{
    (void)state;
    for (size_t f = 0; f < FT_COUNT_OF(forms); f++) {
        const int64_t rows = forms[f].rows[0], cols = forms[f].cols;
        matrix w;
        kern_src s;
        random_codes(&w, f, rows, cols, forms[f].full);
        const tn_tensor t = {.type = &dt_ternary,
                             .nd = 2,
                             .dim = {rows, cols},
                             .data = (void *)(uintptr_t)w.mat.data,
                             .side = &w.side};
        float *got = test_alloc((size_t)(rows * cols + 1) * sizeof *got);
        tn_unpack_rows(got, &t, 0, rows);
        assert_memory_equal(got, w.value, (size_t)(rows * cols) * sizeof *got);
        kern_src_of(&s, &w.mat);
        for (uint64_t k = 0; k < 200; k++) {
            const int64_t row = (int64_t)(test_u64(9, 3 * k) % (uint64_t)rows);
            const int64_t from = (int64_t)(test_u64(9, 3 * k + 1) % (uint64_t)cols);
            const int64_t take = (int64_t)(test_u64(9, 3 * k + 2) % (uint64_t)(cols - from + 1));
            got[take] = 12345.0f;
            kern_src_values(&s, got, row, from, take);
            assert_memory_equal(got, w.value + row * cols + from, (size_t)take * sizeof *got);
            assert_true(got[take] == 12345.0f);
        }
    }
}

/* What a product of codes is, one by one. */
static float plain(const matrix *w, int64_t r, const float *x, float bias)
{
    float most = 1e-5f;
    int64_t sum = 0;
    for (int64_t k = 0; k < w->mat.cols; k++) most = fmaxf(most, fabsf(x[k]));
    const float gain = 127.0f / most;
    for (int64_t k = 0; k < w->mat.cols; k++)
        sum += (w->code[r * w->mat.cols + k] - 1) * (int64_t)nearbyintf(x[k] * gain);
    return (float)sum * (w->side.scale / gain) + bias;
}

static void products_are_the_same_on_all_levels(void **state)
{
    enum { M = 9 };
    static const kn_tokens how = {.symmetric = true};
    (void)state;
    for (size_t f = 0; f < FT_COUNT_OF(forms); f++) {
        const int64_t cols = forms[f].cols, n = forms[f].rows[0] + forms[f].rows[1];
        matrix w[2];
        float *x = test_uniform(40 + f, M * cols, -1, 1), *y = test_alloc((size_t)(M * n) * 4);
        for (uint64_t i = 0; i < 2; i++)
            random_codes(&w[i], 10 * f + i, forms[f].rows[i], cols, forms[f].full);
        for (int64_t k = 0; forms[f].full && k < M * cols; k++) x[k] = k % 2 || k < cols ? -3 : 3;
        const float *bias[] = {NULL, test_uniform(50, forms[f].rows[1], -1, 1)};
        const kn_mat mat[] = {w[0].mat, w[1].mat};
        for (int64_t m = 1; m <= M; m++) {
            float *codes = test_alloc((size_t)kn_codes_floats(m, cols) * sizeof *codes);
            kn_codes_group(y, n, x, cols, &how, mat, bias, 2, m, codes);
            for (int64_t i = 0; i < m * n; i++) {
                const bool second = i % n >= forms[f].rows[0];
                const int64_t r = i % n - (second ? forms[f].rows[0] : 0);
                const float want =
                    plain(&w[second], r, x + i / n * cols, second ? bias[1][r] : 0.0f);
                if (y[i] != want)
                    fail_msg("%s, form %zu, %lld rows, [%lld]: %.9g is not %.9g", kern->name, f,
                             (long long)m, (long long)i, (double)y[i], (double)want);
            }
        }
    }
}

/* A value that is no number is not hidden by the codes. */
static void what_is_not_finite_stays_so(void **state)
{
    static const kn_tokens how = {.symmetric = true};
    matrix w;
    float y[3], codes[200], x[64] = {1};
    (void)state;
    random_codes(&w, 3, 3, 64, false);
    assert_true(kn_codes_floats(1, 64) <= 200);
    for (int k = 0; k < 2; k++) {
        x[63] = k ? NAN : INFINITY;
        kn_codes_group(y, 3, x, 64, &how, &w.mat, NULL, 1, 1, codes);
        for (int r = 0; r < 3; r++) assert_true(isnan(y[r]));
    }
}

/* --- folders ---------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *of; /* whose logits it has */
    const char *type;
} folders[] = {
    {"llama_online", "llama_online", "fake"}, {"llama_packed", "llama_packed", "ternary"},
    {"llama_auto", "llama_auto", "ternary"},  {"llama_values", "llama_values", "ternary"},
    {"qwen2_online", "qwen2_online", "fake"}, {"qwen2_packed", "qwen2_packed", "ternary"}};

static const char *path_of(const char *name, const char *file)
{
    char path[128];
    snprintf(path, sizeof path, "bitnet/%s%s%s", name, file ? "/" : "", file ? file : "");
    return golden_path(path);
}

/* Logits as generation has them. */
static float *few_logits(model *m)
{
    enum { N = 12 };
    static int32_t ids[N];
    ag_tape *t = NULL;
    nn_run r;
    int64_t rows[N];
    int32_t len = N;
    for (int i = 0; i < N; i++) {
        ids[i] = i;
        rows[i] = i;
    }
    float *out = test_alloc((size_t)(N * m->d.vocab_size) * sizeof *out);
    nn_batch b = {.n_seq = 1, .len = &len, .tokens = N, .ids = ids, .pos = ids};
    assert_ok(ag_open(&t, (size_t)1 << 28));
    assert_ok(nn_run_open(&r, t, &b, NULL, NN_FEW));
    tn_tensor *h = model_hidden(m, &r);
    assert_ok(t->status);
    assert_ok(model_logits(m, &r, h, rows, N, out, false));
    ag_close(t);
    return out;
}

static void folders_compute_what_transformers_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(folders); i++) {
        char file[128];
        model *m = NULL, *plan = NULL;
        const model_options opt = {.path = path_of(folders[i].name, NULL)};
        assert_ok(model_open(&m, &opt));
        snprintf(file, sizeof file, "bitnet/%s/golden.safetensors", folders[i].of);
        const int64_t n = 12 * m->d.vocab_size;
        const float *want = golden_f32(golden_open(file), "logits", n);
        const double all = rel_l2(golden_first_logits(m), want, n),
                     few = rel_l2(few_logits(m), want, n);
        if (!(all < 5e-6 && few < 5e-6))
            fail_msg("%s, %s: logits differ by %g, as codes by %g", kern->name, opt.path, all, few);
        assert_string_equal(golden_last_down(m)->t.type->name, folders[i].type);
        assert_ok(model_open(&plan, &(model_options){.path = opt.path, .no_weights = true}));
        assert_int_equal(model_bytes(plan), model_bytes(m));
        model_close(plan);
        model_close(m);
    }
}

static void same_tensors(const char *a, const char *b)
{
    arena *mem = NULL;
    st_file ours = {0}, theirs = {0};
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    test_open_tensors(a, &ours, mem);
    test_open_tensors(b, &theirs, mem);
    assert_int_equal(ours.n, theirs.n);
    for (int64_t k = 0; k < theirs.n; k++) {
        const io_tensor *t = &theirs.tensor[k], *own = st_find(&ours, t->name);
        assert_true(own && t->nd == own->nd && t->type == own->type && t->bytes == own->bytes);
        assert_memory_equal(t->dim, own->dim, (size_t)t->nd * sizeof *t->dim);
        float x, y;
        if (t->bytes == 4) { /* 1 / γ: sums of |w| have their order */
            memcpy(&x, t->data, 4);
            memcpy(&y, own->data, 4);
            assert_true(fabsf(x - y) <= 1e-6f * x);
        } else if (memcmp(t->data, own->data, t->bytes) != 0) {
            fail_msg("%s", t->name);
        }
    }
    st_close(&ours);
    st_close(&theirs);
    arena_close(mem);
}

/* Every form becomes the tensors that transformers' own packing makes, and is read as what it was. */
static void all_forms_are_packed_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(folders); i++) {
        model *m = NULL;
        const model_options opt = {.path = path_of(folders[i].name, NULL)};
        const char *folder = test_path(folders[i].name);
        assert_ok(model_open(&m, &opt));
        assert_ok(
            model_save(m, folder, &(model_save_options){.quant = model_quant_by_method("bitnet")}));
        model_close(m);
        same_tensors(folder,
                     path_of(folders[i].name[0] == 'l' ? "llama_packed" : "qwen2_packed", NULL));
        same_logits(&opt, &(model_options){.path = folder}, 2e-5);
    }
}

/* As numbers, they are what the products read. */
static void they_become_plain_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(folders); i++) {
        model *m = NULL, *plain_one = NULL;
        char name[64];
        snprintf(name, sizeof name, "plain-%s", folders[i].name);
        assert_ok(model_open(&m, &(model_options){.path = path_of(folders[i].name, NULL)}));
        assert_ok(model_save(m, test_path(name), &(model_save_options){.type = &dt_f32}));
        assert_ok(model_open(&plain_one, &(model_options){.path = test_path(name)}));
        assert_null(plain_one->quant);
        const nn_param *a = golden_last_down(m), *b = golden_last_down(plain_one);
        const int64_t n = tn_count(&a->t);
        float *x = test_alloc((size_t)n * sizeof *x);
        tn_unpack_rows(x, &a->t, 0, a->t.dim[0]);
        assert_memory_equal(x, b->t.data, (size_t)n * sizeof *x);
        model_close(plain_one);
        model_close(m);
    }
}

static void other_models_are_not_packed(void **state)
{
    const model_save_options save = {.quant = model_quant_by_method("bitnet")};
    model *m = NULL;
    (void)state;
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_fails(model_save(m, test_path("none"), &save), FT_EDATA, "is no BitNet model");
    model_close(m);
}

/* --- folders that are wrong ------------------------------------------------------------------------------------------- */

typedef struct change {
    const char *folder, *tensor; /* end of a name of layer 1's up_proj */
    enum { NOTHING, DROPPED, CUT, TYPE, BYTES, FIRST, LEFT, NORM } what; /* LEFT: without a scale */
    const void *bytes; /* in the place of the last ones, or the FIRST; NORM: of a gain */
    size_t n;
    const char *from, *to; /* in config.json */
    const char *message;
} change;

static void write_config(const change *c, const char *folder)
{
    char path[600], from[600];
    size_t n;
    str_buf s = {0};
    snprintf(from, sizeof from, "%s/config.json", path_of(c->folder, NULL));
    snprintf(path, sizeof path, "%s/config.json", folder);
    const char *text = test_read_file(from, &n), *at = c->from ? strstr(text, c->from) : text;
    if (!at) fail_msg("%s", c->from);
    str_add(&s, text, (size_t)(at - text));
    if (c->from) str_adds(&s, c->to);
    str_adds(&s, at + (c->from ? strlen(c->from) : 0));
    test_write_file(path, s.data, s.len);
    str_free(&s);
}

static ft_status open_changed(const change *c)
{
    const char *folder = test_path("changed");
    char path[600];
    arena *mem = NULL;
    st_file f = {0};
    model *m = NULL;
    int64_t n = 0;
    assert_ok(dir_make(folder));
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    test_open_tensors(path_of(c->folder, NULL), &f, mem);
    st_decl *decl = test_alloc((size_t)(f.n + 1) * sizeof *decl);
    const void **data = test_alloc((size_t)(f.n + 1) * sizeof *data);
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        const bool it = c->what != NOTHING && strstr(t->name, "layers.1.mlp.up_proj") &&
                        str_ends(t->name, c->tensor);
        decl[n] = (st_decl){.name = t->name, .type = t->type, .nd = t->nd};
        memcpy(decl[n].dim, t->dim, sizeof decl[n].dim);
        data[n] = t->data;
        if (it && c->what == DROPPED) continue;
        if (it && c->what == LEFT && str_ends(t->name, "_scale")) continue;
        if (it && c->what == CUT) decl[n].dim[0]--;
        if (it && c->what == TYPE) decl[n].type = dt_by_name("i8");
        if (it && (c->what == BYTES || c->what == FIRST || c->what == LEFT)) {
            uint8_t *own = test_alloc(t->bytes);
            memcpy(own, t->data, t->bytes);
            memcpy(own + (c->what == FIRST ? 0 : t->bytes - c->n), c->bytes, c->n);
            data[n] = own;
        }
        n++;
    }
    if (c->what == NORM) {
        decl[n] = (st_decl){
            .name = "model.layers.1.mlp.up_proj.rms_norm.weight", .type = &dt_f32, .nd = 1};
        decl[n].dim[0] = 16;
        data[n++] = c->bytes;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(st_write_all(path, decl, data, n, NULL, 0));
    write_config(c, folder);
    st_close(&f);
    arena_close(mem);
    ft_status rc = model_open(&m, &(model_options){.path = folder});
    model_close(m);
    return rc;
}

#define ONES 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1

static void wrong_folders_are_refused(void **state)
{
    static const uint8_t three[] = {0xd5};
    static const float zero = 0, nan = NAN, inf = INFINITY, half = 0.5f, tiny = 1e-45f,
                       gains[] = {ONES, 2};
    const change cases[] = {
        {"llama_packed", ".weight_scale", DROPPED, .message = "up_proj.weight_scale\" is missing"},
        {"llama_auto", ".weight_scale", DROPPED, .message = "up_proj.weight_scale\" is missing"},
        {"llama_values", ".weight_scale", DROPPED, .message = "up_proj.weight_scale\" is missing"},
        {"llama_packed", ".weight", DROPPED, .message = "up_proj.weight\""},
        {"llama_packed", ".weight", CUT,
         .message = "up_proj.weight\": its shape does not fit the config, by which it is [34, 16]"},
        {"llama_values", ".weight", CUT, .message = "it is [136, 16]"},
        {"llama_packed", ".weight", TYPE, .message = "up_proj.weight\": dtype i8 must be u8"},
        {"llama_packed", ".weight", BYTES, three, 1,
         .message = "up_proj.weight\": [135, 15] is code 3, which stands for no value"},
        {"llama_values", ".weight", BYTES, &half, 4,
         .message = "up_proj.weight\": [135, 15] is not one of the three values"},
        {"llama_values", ".weight", BYTES, &nan, 4, .message = "[135, 15] is not one of"},
        {"llama_values", ".weight", FIRST, &nan, 4,
         .message = "up_proj.weight\": its values times weight_scale are no numbers"},
        {"llama_values", ".weight", FIRST, &inf, 4, .message = "are no numbers"},
        {"llama_values", ".weight_scale", DROPPED, .from = "_convert\": null",
         .to = "_convert\": [\"lm_head\"]", .message = "up_proj.weight_scale\" is missing"},
        {"llama_values", "", LEFT, &half, 4, .from = "_convert\": null",
         .to = "_convert\": [\"up_proj\"]",
         .message = "gate_proj\" and \"model.layers.1.mlp.up_proj\" have one input"},
        {"qwen2_packed", .from = "\"bitlinear\"", .to = "\"autobitlinear\"",
         .message = "q_proj\" has a bias, which transformers multiplies by weight_scale"},
        {"llama_packed", ".weight_scale", BYTES, &zero, 4,
         .message = "up_proj.weight_scale\" is 0, which"},
        {"llama_packed", ".weight_scale", BYTES, &nan, 4, .message = "weight_scale\" is nan"},
        {"llama_auto", ".weight_scale", BYTES, &inf, 4, .message = "weight_scale\" is inf"},
        {"llama_packed", ".weight_scale", BYTES, &tiny, 4, .message = "which scales nothing"},
        {"qwen2_packed", "", NORM, gains, 0,
         .message = "up_proj.rms_norm.weight\": gains of use_rms_norm that are not 1"},
        {"qwen2_online", "", NORM, gains, 0, .message = "up_proj.rms_norm.weight\""},
        {"llama_packed", .from = "\"bitlinear\"", .to = "\"linear\"",
         .message = "linear_class: \"linear\""},
        {"llama_packed", .from = "\"offline\"", .to = "\"later\"",
         .message = "quantization_mode: \"later\""},
        {"llama_online", .from = "\"autobitlinear\"", .to = "\"bitlinear\"",
         .message = "dtype f32 must be u8 (linear_class \"bitlinear\")"},
        {"llama_online", .from = "\"online\"", .to = "\"offline\"",
         .message = "weight_scale\" is missing"},
        {"llama_online", .from = "_convert\": null", .to = "_convert\": [\"up_proj\"]",
         .message = "quantization_config.modules_to_not_convert"},
        {"llama_packed", .from = "_convert\": null", .to = "_convert\": 3",
         .message = "quantization_config.modules_to_not_convert"},
        {"llama_packed", .from = "136", .to = "138", .message = "138 outputs are no multiple of 4"},
        {"llama_packed", .from = "\"linear_class\"", .to = "\"bits\": 2, \"linear_class\"",
         .message = NULL},
        /* what transformers does not look at */
        {"llama_packed", .from = "\"offline\"", .to = "\"online\"", .message = NULL},
        {"llama_packed", .from = "\"linear_class\": \"bitlinear\",", .to = "", .message = NULL},
        {"llama_auto", .from = "_convert\": null", .to = "_convert\": [\"lm_head\"]",
         .message = NULL},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        if (cases[i].message)
            assert_fails(open_changed(&cases[i]), FT_EDATA, cases[i].message);
        else
            assert_ok(open_changed(&cases[i]));
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(values_are_the_same_on_all_levels),
        cmocka_unit_test(products_are_the_same_on_all_levels),
        cmocka_unit_test(what_is_not_finite_stays_so),
        cmocka_unit_test(folders_compute_what_transformers_does),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(all_forms_are_packed_alike),
        cmocka_unit_test(they_become_plain_models),
        cmocka_unit_test(other_models_are_not_packed),
        cmocka_unit_test(wrong_folders_are_refused),
    };
    int failed = 0;
    for (int i = 0; kern_level_at(i); i++) {
        if (kern_use(kern_level_at(i)->name, kern_level_at(i)->name) != FT_OK) continue;
        failed += cmocka_run_group_tests(all, NULL, NULL);
    }
    return failed + cmocka_run_group_tests(once, NULL, NULL);
}
