/* test_side_format.c – a storage format with side data (dtype_nibble.c): everything that reads weights is compared with
 * the same thing on the dequantised f32 matrix, to the bit, in odd shapes. */
#include "doubles.h"
#include "golden.h"
#include "support.h"

#include "ft/model.h"
#include "kernel/kern.h"

/* --- a matrix of it and the same in f32 ----------------------------------------------------------------------- */

typedef struct matrix {
    tn_tensor coded, plain;
} matrix;

static matrix make_matrix(uint64_t seed, int64_t rows, int64_t cols, bool permute)
{
    const int64_t n = rows * cols;
    size_t bytes = 0;
    assert_true(dt_bytes(&dt_nibble, n, &bytes) && bytes == (size_t)(n + 1) / 2);
    uint8_t *codes = test_alloc(bytes);
    nibble_side *side = test_alloc(sizeof *side);
    side->absmax = test_uniform(seed, (n + NIBBLE_GROUP - 1) / NIBBLE_GROUP, 0.1f, 2.0f);
    for (size_t i = 0; i < bytes; i++) codes[i] = (uint8_t)test_u64(seed, i);
    int32_t *row_of = permute ? test_alloc((size_t)rows * sizeof *row_of) : NULL;
    for (int64_t r = 0; permute && r < rows; r++) row_of[r] = (int32_t)((r * 7 + 3) % rows);
    matrix m = {.coded = {.type = &dt_nibble, .nd = 2, .dim = {rows, cols}, .data = codes}};
    m.coded.side = side;
    m.coded.row_of = row_of;
    float *f = test_alloc((size_t)n * sizeof *f);
    for (int64_t r = 0; r < rows; r++)
        dt_nibble.read(f + r * cols, &(dt_data){codes, side}, (row_of ? row_of[r] : r) * cols,
                       cols);
    m.plain = (tn_tensor){.type = &dt_f32, .nd = 2, .dim = {rows, cols}, .data = f};
    return m;
}

static kn_mat mat_of(const tn_tensor *t)
{
    return (kn_mat){.type = t->type,
                    .data = t->data,
                    .side = t->side,
                    .rows = t->dim[0],
                    .cols = t->dim[1],
                    .row_of = t->row_of};
}

static void same(const float *a, const float *b, int64_t n, const char *what)
{
    if (memcmp(a, b, (size_t)n * sizeof *a) == 0) return;
    print_error("%s, %s: the coded matrix gives other bits\n", kn_core_name(KN_F32), what);
    fail();
}

/* Odd columns, more of them than a block of k; rows that no tile divides; one short column. */
static const struct {
    int64_t rows, cols;
} sizes[] = {{41, 37}, {133, 701}, {700, 129}, {3, 65}, {9, 1}, {64, 64}};

static void rows_unpack(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        for (int permute = 0; permute < 2; permute++) {
            matrix m = make_matrix(20 + i, sizes[i].rows, sizes[i].cols, permute);
            int64_t rows = sizes[i].rows, cols = sizes[i].cols;
            float *got = test_alloc((size_t)(rows * cols) * sizeof *got);
            for (int64_t r = 0; r < rows; r += 5) {
                int64_t n = rows - r < 5 ? rows - r : 5;
                tn_unpack_rows(got + r * cols, &m.coded, r, n);
            }
            same(got, tn_f32(&m.plain), rows * cols, "tn_unpack_rows");
        }
    }
}

static void products_are_those_of_f32(void **state)
{
    enum { M = 45 };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        matrix m = make_matrix(30 + i, sizes[i].rows, sizes[i].cols, i % 2);
        const int64_t o = sizes[i].rows, k = sizes[i].cols;
        const kn_mat a = mat_of(&m.coded), b = mat_of(&m.plain);
        float *x = test_uniform(40, M * k, -1, 1), *dy = test_uniform(41, M * o, -1, 1);
        float *bias = test_uniform(42, o, -1, 1);
        float *y0 = test_alloc((size_t)(M * o) * 4), *y1 = test_alloc((size_t)(M * o) * 4);
        float *dx0 = test_alloc((size_t)(M * k) * 4), *dx1 = test_alloc((size_t)(M * k) * 4);
        kn_gemm_nt(y0, o, x, k, &a, M, bias, false);
        kn_gemm_nt(y1, o, x, k, &b, M, bias, false);
        same(y0, y1, M * o, "y");
        kn_gemm_nn(dx0, k, dy, o, &a, M, NULL, false);
        kn_gemm_nn(dx1, k, dy, o, &b, M, NULL, false);
        same(dx0, dx1, M * k, "dx");
        for (int few = 1; few <= KN_GEMV_ROWS; few++) {
            kn_gemv(y0, o, x, k, &a, few, bias);
            kn_gemv(y1, o, x, k, &b, few, bias);
            same(y0, y1, few * o, "a few rows");
        }
    }
}

/* The product, its dx, and rows of the table on a tape: nothing between tensors and kernels loses the side data. */
static void the_tape_reads_it(void **state)
{
    enum { T = 11 };
    (void)state;
    const int32_t ids[T] = {3, 0, 40, 40, 7, 1, 2, 39, 5, 11, 3}, len = T;
    const ag_rows rows = {.n = T, .n_seq = 1, .len = &len};
    matrix table = make_matrix(50, 41, 37, false), w = make_matrix(51, 29, 37, true);
    float *out[2][3];
    for (int coded = 0; coded < 2; coded++) {
        ag_tape *t = NULL;
        assert_ok(ag_open(&t, (size_t)64 << 20));
        t->record = true;
        ag_set_rows(t, &rows);
        tn_tensor *h = ag_embed(t, coded ? &table.coded : &table.plain, ids, T, -1);
        assert_ok(t->status);
        h->wants_grad = true;
        const ag_weight weight = {.w = coded ? &w.coded : &w.plain};
        tn_tensor *y = ag_linear(t, h, &weight, 1, NULL);
        tn_tensor *loss = ag_dot_const(t, y, test_uniform(52, T * 29, -1, 1));
        float *dx = ag_grad(t, h);
        const float *from[3] = {tn_f32(h), tn_f32(y), dx};
        const int64_t n[3] = {T * 37, T * 29, T * 37};
        for (int i = 0; i < 3; i++) {
            if (i == 2) assert_ok(ag_backward(t, loss)); /* y is gone after it */
            out[coded][i] = test_alloc((size_t)n[i] * sizeof(float));
            memcpy(out[coded][i], from[i], (size_t)n[i] * sizeof(float));
            if (coded) same(out[1][i], out[0][i], n[i], i == 0 ? "rows" : i == 1 ? "y" : "dx");
        }
        ag_close(t);
    }
}

static void it_is_a_row_of_the_table(void **state)
{
    (void)state;
    assert_ptr_equal(dt_by_name("nibble"), &dt_nibble);
    size_t bytes = 0;
    assert_true(dt_bytes(&dt_nibble, 407, &bytes) && bytes == 204);
}

/* A model whose matrices are of the format is saved as the numbers they stand for. */
static void saving_writes_its_values(void **state)
{
    (void)state;
    model *m = NULL, *back = NULL;
    const char *folder = test_path("saved");
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    matrix *made = test_alloc((size_t)m->n_param * sizeof *made);
    for (int64_t i = 0; i < m->n_param; i++) {
        tn_tensor *t = &m->param[i].t;
        if (t->nd != 2) continue;
        made[i] = make_matrix(60 + (uint64_t)i, t->dim[0], t->dim[1], false);
        *t = made[i].coded;
    }
    assert_ok(model_save(m, folder, &(model_save_options){.type = &dt_f32}));
    assert_ok(model_open(&back, &(model_options){.path = folder}));
    int checked = 0;
    for (int64_t i = 0; i < m->n_param; i++) {
        const tn_tensor *t = &back->param[i].t;
        if (t->nd != 2 || (m->d.tied && &m->param[i] == m->head->w)) continue;
        assert_ptr_equal(t->type, &dt_f32);
        same(tn_f32(t), tn_f32(&made[i].plain), tn_count(t), m->param[i].name);
        checked++;
    }
    assert_true(checked > 5);
    model_close(back);
    model_close(m);
}

/* Formats cannot be written in themselves: the codes alone would not be the values. */
static void it_is_not_written_itself(void **state)
{
    (void)state;
    model *m = NULL;
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_fails(model_save(m, test_path("x.gguf"), &(model_save_options){.type = &dt_nibble}),
                 FT_EUSAGE, "nibble");
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(it_is_a_row_of_the_table),  cmocka_unit_test(rows_unpack),
        cmocka_unit_test(products_are_those_of_f32), cmocka_unit_test(the_tape_reads_it),
        cmocka_unit_test(saving_writes_its_values),  cmocka_unit_test(it_is_not_written_itself),
    };
    static const char *const gemms[] = {NULL, "openblas"};
    int failed = 0;
    for (int i = 0; kern_level_at(i); i++) {
        for (size_t g = 0; g < FT_COUNT_OF(gemms); g++) {
            if (kern_use(kern_level_at(i)->name, gemms[g] ? gemms[g] : kern_level_at(i)->name) !=
                FT_OK)
                continue; /* no such library here */
            failed += cmocka_run_group_tests(all, NULL, NULL);
        }
    }
    return failed;
}
