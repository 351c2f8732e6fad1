/* test_store.c – the parameters of a run: flat ranges, states, tensors of any size, and values that one pass uses twice. */
#include "support.h"

#include "ft/kernel.h"
#include "ft/nn.h"

enum { ROWS = 24, DIM = 20 };

static nn_param *param(nn_store *s, const char *name, int64_t rows, int64_t cols)
{
    nn_param *p;
    assert_ok(nn_new_param(s, name, rows, cols, &p));
    return p;
}

static void values_lie_one_behind_the_other(void **state)
{
    static const int64_t want[] = {0, 16, 32, 32, 80};
    nn_store s;
    (void)state;
    assert_ok(nn_store_open(&s, (size_t)1 << 20));
    param(&s, "matrix", 3, 5);
    nn_param *one = param(&s, "one", 1, 0);
    nn_param *none = param(&s, "none", 0, 0);
    param(&s, "empty rows", 0, 7);
    assert_int_equal(s.count, 32);
    nn_param *vector = param(&s, "vector", 37, 0);
    param(&s, "last", 2, 2);
    assert_int_equal(s.n, 6);
    assert_int_equal(s.count, 96);
    for (int i = 0; i < 4; i++) assert_int_equal(s.offset[i], want[i]);
    assert_int_equal(s.offset[5], want[4]);
    assert_int_equal(one->t.nd, 1);
    assert_int_equal(tn_count(&none->t), 0);
    assert_ptr_equal(vector->t.data, s.w + s.offset[4]);
    assert_ptr_equal(vector->t.grad, s.g + s.offset[4]);
    assert_true(vector->t.wants_grad);
    assert_true(vector->hyper.lr_ratio == 1 && vector->hyper.lr_fixed == 0 &&
                vector->hyper.decay_ratio == 1);
    for (int64_t i = 0; i < s.count; i++) assert_true(s.w[i] == 0 && s.g[i] == 0);
    nn_store_close(&s);
    nn_store_close(&s); /* a closed one, and one that was never opened */
}

/* More than any list starts with: nothing that was handed out moves. */
static void many_parameters_stay_where_they_are(void **state)
{
    enum { N = 1000 };
    nn_store s;
    nn_param *first, *alias;
    (void)state;
    assert_ok(nn_store_open(&s, (size_t)1 << 20));
    first = param(&s, "first", 1, 3);
    assert_ok(nn_alias(&s, first, &alias));
    for (int i = 1; i < N; i++) {
        nn_param *p;
        param(&s, "more", 1, 3);
        assert_ok(nn_new_state(&s, "state", 2, 2, &p));
        assert_ok(nn_alias(&s, first, &p));
        p->t.grad[0] = 1.0f;
    }
    assert_int_equal(s.n, N);
    assert_int_equal(s.n_state, N - 1);
    assert_int_equal(s.state_count, 4 * (N - 1));
    assert_int_equal(s.alias_count, 3 * N);
    assert_ptr_equal(s.param[0], first);
    assert_ptr_equal(first->t.data, s.w);
    nn_store_finish(&s);
    assert_true(first->t.grad[0] == (float)(N - 1));
    nn_store_close(&s);
}

/* A gradient for the time of a step, which joins nobody's; no place among values or states. */
static void derived_values_have_a_gradient_of_their_own(void **state)
{
    nn_store s;
    nn_param *p, *again;
    (void)state;
    assert_ok(nn_store_open(&s, (size_t)1 << 20));
    param(&s, "w", 2, 2);
    assert_ok(nn_new_derived(&s, "table", 2, 3, &p));
    assert_ok(nn_alias(&s, p, &again));
    assert_true(s.count == 16 && s.n == 1 && s.n_state == 0 && s.state_count == 0);
    assert_true(s.derived_count == 6 && s.alias_count == 12);
    assert_true(p->t.wants_grad);
    tn_f32(&p->t)[5] = 3.0f;
    p->t.grad[5] = again->t.grad[5] = 1.0f;
    nn_store_finish(&s);
    assert_true(p->t.grad[5] == 2.0f && s.g[5] == 0.0f);
    nn_store_begin(&s);
    assert_true(p->t.grad[5] == 0.0f && tn_f32(&p->t)[5] == 3.0f);
    nn_store_close(&s);
}

static void states_have_no_gradient_and_no_place_among_values(void **state)
{
    nn_store s;
    nn_param *p, *q;
    (void)state;
    assert_ok(nn_store_open(&s, (size_t)1 << 20));
    param(&s, "w", 2, 2);
    assert_ok(nn_new_state(&s, "frozen", 4, 4, &p));
    assert_ok(nn_new_state(&s, "mean", 0, 0, &q));
    assert_int_equal(s.count, 16);
    assert_int_equal(s.n_state, 2);
    assert_false(p->t.wants_grad);
    assert_null(p->t.grad);
    tn_f32(&p->t)[15] = 3.0f;
    nn_store_begin(&s);
    nn_store_finish(&s);
    assert_true(tn_f32(&p->t)[15] == 3.0f);
    nn_store_close(&s);
}

/* A copy in the overlay: once, with what the update rule is told; zeros without weights. */
static void a_copy_is_trained_in_the_models_place(void **state)
{
    nn_store s;
    nn_param *own[3] = {0};
    nn_overlay over = {.own = own};
    uint16_t half[6] = {0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0}; /* 1 … 6 in bf16 */
    nn_param w = {.name = "w", .index = 2, .file_type = &dt_bf16, .hyper = {.lr_ratio = 1}};
    nn_param empty = {.name = "none", .index = 0, .hyper = {.lr_ratio = 1, .decay_ratio = 1}};
    (void)state;
    w.t = (tn_tensor){.type = &dt_bf16, .nd = 2, .dim = {2, 3}, .data = half};
    empty.t = (tn_tensor){.type = &dt_f32, .nd = 1, .dim = {4}};
    assert_ok(nn_store_open(&s, (size_t)1 << 20));
    assert_ok(nn_train_copy(&s, &over, &w));
    assert_ok(nn_train_copy(&s, &over, &w));
    assert_ok(nn_train_copy(&s, &over, &empty));
    assert_int_equal(s.n, 2);
    assert_ptr_equal(nn_value_of(&over, &w), &own[2]->t);
    assert_ptr_equal(nn_value_of(NULL, &w), &w.t);
    for (int i = 0; i < 6; i++) assert_true(tn_f32(&own[2]->t)[i] == (float)(i + 1));
    assert_true(own[2]->hyper.decay_ratio == 0);
    assert_ptr_equal(own[2]->file_type, &dt_bf16);
    assert_null(own[1]);
    for (int i = 0; i < 4; i++) assert_true(tn_f32(&own[0]->t)[i] == 0);
    nn_store_close(&s);
}

static void too_much_is_an_error(void **state)
{
    nn_store s;
    nn_param *p;
    (void)state;
    assert_ok(nn_store_open(&s, 4096));
    assert_ok(nn_new_param(&s, "fits", 32, 32, &p));
    assert_fails(nn_new_param(&s, "more", 1, 1, &p), FT_EMEM, "trainable parameters");
    assert_null(p);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.count, 1024);
    nn_store_close(&s);
}

/* --- one value, two uses in one pass ----------------------------------------------------------------------------- */
/* y = w₂(w₁ x), the gradient of w over all rows in micro-batches of `size`; w₂ is w itself, or an alias of it. */
static float *gradient(int64_t size, bool aliased)
{
    nn_store s;
    ag_tape *t = NULL;
    nn_param *w, *again;
    float *out = test_alloc(sizeof(float) * DIM * DIM);
    const float *x = test_uniform(1, ROWS * DIM, -1.0f, 1.0f);
    const float *c = test_uniform(2, ROWS * DIM, -1.0f, 1.0f);
    assert_ok(nn_store_open(&s, (size_t)1 << 20));
    assert_ok(ag_open(&t, (size_t)1 << 22));
    w = param(&s, "w", DIM, DIM);
    assert_ok(nn_alias(&s, w, &again));
    assert_ok(nn_alias(&s, again, &again)); /* a use of a use */
    memcpy(w->t.data, test_uniform(3, DIM * DIM, -1.0f, 1.0f), sizeof(float) * DIM * DIM);
    memset(s.g, 1, sizeof(float) * DIM * DIM);
    memset(again->t.grad, 1, sizeof(float) * DIM * DIM);
    nn_store_begin(&s);
    for (int64_t first = 0; first < ROWS; first += size) {
        int64_t n = ROWS - first < size ? ROWS - first : size;
        int32_t len = (int32_t)n;
        ag_rows rows = {.n = n, .n_seq = 1, .len = &len};
        tn_tensor in = {.type = &dt_f32, .nd = 2, .dim = {n, DIM}};
        in.data = (float *)(uintptr_t)x + first * DIM;
        ag_reset(t);
        t->record = true;
        ag_set_rows(t, &rows);
        tn_tensor *h = ag_linear(t, &in, &(ag_weight){.w = &w->t}, 1, NULL);
        tn_tensor *y = ag_linear(t, h, &(ag_weight){.w = aliased ? &again->t : &w->t}, 1, NULL);
        assert_ok(ag_backward(t, ag_dot_const(t, y, c + first * DIM)));
    }
    nn_store_finish(&s);
    memcpy(out, w->t.grad, sizeof(float) * DIM * DIM);
    ag_close(t);
    nn_store_close(&s);
    return out;
}

static void two_uses_give_the_same_bits_for_any_split(void **state)
{
    static const int64_t sizes[] = {1, 3, 8, 12};
    float *whole = gradient(ROWS, true), *plain = gradient(ROWS, false);
    bool differs = false;
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(sizes); i++) {
        assert_memory_equal(gradient(sizes[i], true), whole, sizeof(float) * DIM * DIM);
        differs |= memcmp(gradient(sizes[i], false), plain, sizeof(float) * DIM * DIM) != 0;
    }
    assert_true(rel_l2(whole, plain, DIM * DIM) < 1e-5);
    assert_true(differs); /* what aliases are for */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_lie_one_behind_the_other),
        cmocka_unit_test(many_parameters_stay_where_they_are),
        cmocka_unit_test(derived_values_have_a_gradient_of_their_own),
        cmocka_unit_test(states_have_no_gradient_and_no_place_among_values),
        cmocka_unit_test(a_copy_is_trained_in_the_models_place),
        cmocka_unit_test(too_much_is_an_error),
        cmocka_unit_test(two_uses_give_the_same_bits_for_any_split),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
