/* test_registry.c – the double of an operation stands in its registry, behind the shipped rows, and has the right
 * gradient. */
#include "doubles.h"
#include "support.h"

static void double_follows_the_shipped_rows(void **state)
{
    int n = 0, at = -1;
    (void)state;
    for (; ag_op_at(n); n++)
        if (ag_op_at(n) == &ag_op_weigh) at = n;
    assert_true(at > 0 && at < n);
    for (int i = at; i < n; i++) assert_true(strcmp(ag_op_at(i)->name, "checkpoint") != 0);
    assert_string_equal(ag_op_at(0)->name, "embed");
}

enum { ROWS = 5, COLS = 6, GATES = 3 };

static tn_tensor leaf(uint64_t seed, int64_t cols)
{
    tn_tensor x = {.type = &dt_f32, .nd = 2, .dim = {ROWS, cols}, .wants_grad = true};
    x.data = test_uniform(seed, ROWS * cols, -1.0f, 1.0f);
    x.grad = test_alloc((size_t)(ROWS * cols) * sizeof(float));
    return x;
}

static void weigh_has_the_right_gradient(void **state)
{
    ag_tape *t = NULL;
    tn_tensor x = leaf(1, COLS), g = leaf(2, GATES);
    const float *c = test_uniform(3, ROWS * COLS, -1.0f, 1.0f);
    float dx[ROWS * COLS], dg[ROWS * GATES] = {0};
    (void)state;
    assert_ok(ag_open(&t, (size_t)1 << 20));
    t->record = true;
    assert_ok(ag_backward(t, ag_dot_const(t, op_weigh(t, &x, &g, 1), c)));
    for (int r = 0; r < ROWS; r++) {
        for (int k = r * COLS; k < (r + 1) * COLS; k++) {
            dx[k] = tn_f32(&g)[r * GATES + 1] * c[k];
            dg[r * GATES + 1] += tn_f32(&x)[k] * c[k];
        }
    }
    assert_true(rel_l2(x.grad, dx, ROWS * COLS) < 1e-6);
    assert_true(rel_l2(g.grad, dg, ROWS * GATES) < 1e-6);
    ag_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(double_follows_the_shipped_rows),
                                       cmocka_unit_test(weigh_has_the_right_gradient)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
