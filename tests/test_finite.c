/* test_finite.c – nothing that is written holds a NaN or an infinity: found by its bits in every format, refused by every
 * writer, whether the source has it or the type cannot hold the value. */
#include "support.h"

#include "ft/model.h"

#include <math.h>

/* By unpacking: what the finder may not differ from. */
static int64_t by_values(const dt_type *t, const uint8_t *data, int64_t n)
{
    float x[DT_BLOCK_MAX];
    for (int64_t i = 0; i < n; i += t->block, data += t->bytes) {
        t->unpack(x, data, t->block);
        for (int k = 0; k < t->block; k++)
            if (!isfinite(x[k])) return t->block > 1 ? i : i + k;
    }
    return -1;
}

static void every_format_is_seen_through(void **state)
{
    (void)state;
    enum { N = 2048 };
    for (int f = 0; dt_at(f); f++) {
        const dt_type *t = dt_at(f);
        size_t bytes;
        if (!t->unpack) continue;
        assert_true(dt_bytes(t, N, &bytes));
        uint8_t *data = test_alloc(bytes);
        int found = 0, none = 0;
        for (uint64_t round = 0; round < 300; round++) {
            for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)rng_u64(7 + round, i);
            if (round % 3 == 0) /* mostly small exponents: few of them are none */
                for (size_t i = 0; i < bytes; i++) data[i] &= 0x3f;
            if (t == dt_by_name("f64")) /* beyond f32 is a number there */
                for (size_t i = 7; i < bytes; i += 8) data[i] &= 0x40;
            const int64_t at = dt_find_nonfinite(t, data, N), want = by_values(t, data, N);
            if (t != dt_by_name("f64")) assert_int_equal(at, want);
            found += at >= 0;
            none += at < 0;
        }
        assert_true(none > 0);
        assert_true(found > 0 || t == dt_by_name("f64"));
        assert_int_equal(dt_find_nonfinite(t, data, 0), -1);
    }
    double d[3] = {1, 1e300, (double)INFINITY};
    assert_int_equal(dt_find_nonfinite(dt_by_name("f64"), d, 2), -1);
    assert_int_equal(dt_find_nonfinite(dt_by_name("f64"), d, 3), 2);
    float x[1000] = {0};
    for (int at = 0; at < 1000; at += 37) {
        x[at] = at % 2 ? (float)NAN : -(float)INFINITY;
        assert_int_equal(dt_find_nonfinite(&dt_f32, x, 1000), at);
        x[at] = 3.4e38f;
    }
    assert_int_equal(dt_find_nonfinite(dt_by_name("u8"), x, 1000), -1);
}

/* --- models -------------------------------------------------------------------------------------------------------- */
typedef struct poked {
    model *m;
    tn_tensor *t;
    tn_tensor was;
    float *x;
} poked;

/* A model one of whose matrices is f32, and can be changed. */
static void poke_open(poked *p)
{
    assert_ok(model_open(&p->m, &(model_options){.path = FT_SOURCE_DIR "/data/tiny"}));
    p->t = &model_site(p->m, "model.layers.1.mlp.down_proj")->w->t;
    p->was = *p->t;
    const int64_t n = tn_count(p->t);
    p->x = test_alloc((size_t)n * sizeof *p->x);
    tn_unpack_rows(p->x, p->t, 0, tn_rows(p->t));
    p->t->type = &dt_f32;
    p->t->data = p->x;
}

static void poke_close(poked *p)
{
    *p->t = p->was;
    model_close(p->m);
}

static const char *out_of(const char *type)
{
    bool folder = strcmp(type, "f32") == 0 || strcmp(type, "f16") == 0 || strcmp(type, "bf16") == 0;
    return test_path(folder ? "out" : "out.gguf");
}

static void values_of_the_file(void **state)
{
    (void)state;
    static const char *const types[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0",
                                        "q4_1", "q5_0", "q5_1", "q4_k"};
    static const float bad[] = {(float)NAN, (float)INFINITY, -(float)INFINITY};
    poked p;
    poke_open(&p);
    const int64_t cols = p.t->dim[1], at = 3 * cols + 5;
    for (size_t i = 0; i < FT_COUNT_OF(types); i++) {
        for (size_t k = 0; k < FT_COUNT_OF(bad); k++) {
            const char *out = out_of(types[i]);
            model_save_options opt = {.type = dt_by_name(types[i]), .as_given = true};
            assert_ok(dir_remove(out));
            p.x[at] = bad[k];
            assert_fails(model_save(p.m, out, &opt), FT_EDATA,
                         k ? "holds Inf at [3, 5]" : "holds NaN at [3, 5]");
            assert_non_null(strstr(ft_error(), ".1."));
            assert_false(file_exists(out));
            opt.as_given = false;
            assert_fails(model_save(p.m, out, &opt), FT_EDIVERGED, "[3, 5]");
            opt.as_given = opt.allow_nonfinite = true;
            assert_ok(model_save(p.m, out, &opt));
        }
        p.x[at] = 1;
    }
    poke_close(&p);
}

static void values_that_the_type_cannot_hold(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float most, over; /* is held, is not */
    } cases[] = {{"bf16", 3.38e38f, 3.4e38f}, {"f16", 65500.0f, 65520.0f}, {"q8_0", 8e6f, 1e9f},
                 {"q4_0", 5e5f, 6e5f},        {"q4_1", 6e4f, 70000.0f},    {"q5_0", 1e6f, 1.1e6f},
                 {"q5_1", 6e4f, 70000.0f},    {"q3_k", 8e6f, 1e9f},        {"q4_k", 4e6f, 1e30f},
                 {"q6_k", 2.6e8f, 3.4e38f}};
    poked p;
    poke_open(&p);
    const int64_t at = 2 * p.t->dim[1] + 1;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *out = out_of(cases[i].type);
        for (int sign = -1; sign < 2; sign += 2) {
            model_save_options opt = {.type = dt_by_name(cases[i].type), .as_given = true};
            assert_ok(dir_remove(out));
            p.x[at] = (float)sign * cases[i].most;
            assert_ok(model_save(p.m, out, &opt));
            assert_ok(dir_remove(out));
            if (sign > 0 && strcmp(cases[i].type, "q4_1") == 0)
                p.x[at] *= 20; /* one scale, one minimum */
            p.x[at] =
                (float)sign * cases[i].over * (sign > 0 && strstr(cases[i].type, "_1") ? 40 : 1);
            for (int allow = 0; allow < 2;
                 allow++) { /* the model's values are numbers: no excuse */
                opt.allow_nonfinite = allow;
                assert_fails(model_save(p.m, out, &opt), FT_EDIVERGED,
                             "at [2, 1] is beyond the range");
                assert_false(file_exists(out));
            }
        }
        p.x[at] = 1;
    }
    poke_close(&p);
}

static void values_in_codes(void **state)
{
    (void)state;
    poked p;
    poke_open(&p);
    for (int twice = 0; twice < 2; twice++) {
        struct {
            bool double_quant;
            int64_t block_size;
        } cfg = {twice, 64}; /* the keys of model.quantization, as they are read */
        model_save_options opt = {
            .quant = model_quant_by_type("nf4"), .quant_cfg = &cfg, .as_given = true};
        assert_ok(dir_remove(test_path("codes")));
        p.x[7] = (float)NAN;
        assert_fails(model_save(p.m, test_path("codes"), &opt), FT_EDATA, "no finite number");
        opt.as_given = false;
        assert_fails(model_save(p.m, test_path("codes"), &opt), FT_EDIVERGED, "no finite number");
        assert_false(file_exists(test_path("codes/model.safetensors")));
        p.x[7] = 3.4e38f; /* what the codes stand for is cast to bf16 */
        assert_fails(model_save(p.m, test_path("codes"), &opt), FT_EDIVERGED,
                     "is beyond the range of bf16");
        p.x[7] = 1;
    }
    poke_close(&p);
}

static void zeros_are_counted(void **state)
{
    static const int64_t sizes[] = {1, 2, 127, 128, 129, 300};
    const dt_type *const types[] = {&dt_f32, &dt_f16, &dt_bf16};
    (void)state;
    for (size_t t = 0; t < FT_COUNT_OF(types); t++)
        for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
            float x[300];
            uint8_t stored[sizeof x];
            int64_t want = 0;
            for (int64_t k = 0; k < sizes[i]; k++) {
                x[k] = k % 3 == 0 ? (k % 2 ? -0.0f : 0.0f) : (float)k;
                want += k % 3 == 0;
            }
            types[t]->pack(stored, x, sizes[i]);
            assert_int_equal(dt_count_zeros(types[t], stored, sizes[i]), want);
        }
    assert_int_equal(dt_count_zeros(dt_by_name("q8_0"), NULL, 32), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_is_seen_through),
        cmocka_unit_test(values_of_the_file),
        cmocka_unit_test(values_that_the_type_cannot_hold),
        cmocka_unit_test(values_in_codes),
        cmocka_unit_test(zeros_are_counted),
    };
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
