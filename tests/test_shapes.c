/* test_shapes.c – every op asserts the shapes of its inputs when it is called: a wrong one ends the program there, not in a
 * kernel or in the backward. A row of ops.def without a case fails. */
#include "support.h"

#include "ft/autograd.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { T = 6, C = 8 };

static ag_tape *tape;
static const int32_t lengths[2] = {2, 4}, ids[T] = {0, 1, 2, 3, 4, 5};
static const uint64_t keys[T] = {1, 2, 3, 4, 5, 6};
static const ag_rows rows = {.n = T, .n_seq = 2, .len = lengths, .key = keys};

static tn_tensor *matrix(int64_t r, int64_t c)
{
    tn_tensor *x = test_alloc(sizeof *x);
    *x = (tn_tensor){.type = &dt_f32, .nd = 2, .dim = {r, c}};
    x->data = test_alloc((size_t)(r * c) * sizeof(float));
    return x;
}

static tn_tensor *x_of(int64_t c)
{
    return matrix(T, c);
}

static void embed(bool wrong)
{
    ag_embed(tape, matrix(wrong ? 5 : 6, C), ids, T, -1); /* id 5 */
}

static void add(bool wrong)
{
    ag_add(tape, x_of(C), x_of(wrong ? C + 1 : C));
}

static void gather(bool wrong)
{
    const int64_t row[2] = {0, wrong ? T : T - 1};
    ag_gather_rows(tape, x_of(C), row, 2);
}

static void scatter(bool wrong)
{
    const int64_t row[2] = {0, 1};
    ag_scatter_rows(tape, x_of(C), matrix(2, wrong ? C - 1 : C), row);
}

static void put(bool wrong)
{
    const int64_t row[2] = {0, 1};
    ag_put_rows(tape, x_of(C), matrix(2, 3), row, wrong ? C - 2 : C - 3);
}

static void rmsnorm(bool wrong)
{
    ag_rmsnorm(tape, x_of(C), matrix(1, wrong ? C - 1 : C), 1e-5f, &dt_f32);
}

static void layernorm(bool wrong)
{
    ag_layernorm(tape, x_of(C), matrix(1, C), matrix(1, wrong ? 1 : C), 1e-5f, &dt_f32);
}

static void head_norm(bool wrong)
{
    ag_head_norm(tape, x_of(C), matrix(1, 2), matrix(1, 2), wrong ? 4 : 2, 1, 1e-5f);
}

static void linear(bool wrong)
{
    ag_linear(tape, x_of(C), &(ag_weight){.w = matrix(3, wrong ? C + 1 : C)}, 1, NULL);
}

static void residual(bool wrong)
{
    ag_linear(tape, x_of(C), &(ag_weight){.w = matrix(3, C)}, 1, x_of(wrong ? 2 : 3));
}

static void rows_in_force(bool wrong)
{
    ag_linear(tape, matrix(wrong ? T - 1 : T, C), &(ag_weight){.w = matrix(3, C)}, 1, NULL);
}

static void low_rank(bool wrong)
{
    ag_low_rank s = {.a = matrix(2, C), .b = matrix(5, wrong ? 3 : 2), .scale = 1.0f};
    ag_low_rank_add(tape, x_of(5), x_of(C), &s, 1);
}

static void low_rank_column(bool wrong)
{
    ag_low_rank s = {.a = matrix(2, C), .b = matrix(5, 2), .scale = 1.0f, .col = wrong};
    ag_low_rank_add(tape, x_of(5), x_of(C), &s, 1);
}

static void magnitude(bool wrong)
{
    static const float inverse[C];
    const ag_magnitude s = {.m = matrix(1, C - 2), .inverse = inverse, .col = wrong ? 3 : 2};
    ag_magnify(tape, x_of(C), &s, 1);
}

static void magnitude_into(bool wrong)
{
    static const float inverse[C];
    const ag_magnitude s = {.m = matrix(1, 3), .inverse = inverse};
    ag_magnify_into(tape, x_of(C), x_of(3), x_of(wrong ? 2 : 3), &s);
}

static void add_scaled(bool wrong)
{
    ag_add_scaled(tape, x_of(C), x_of(wrong ? C - 1 : C), 2.0f, 0.0f, 0);
}

static void rope(bool wrong)
{
    static const float table[T * 2];
    ag_rope(tape, x_of(C), wrong ? 3 : 2, 4, 2, table, table, ids);
}

static void attention(bool wrong)
{
    const kn_attn a = {.n_head = 2, .n_kv = 1, .head_dim = 2, .scale = 1.0f};
    ag_attention(tape, x_of(wrong ? C - 1 : C), &a, &dt_f32);
}

static void glu(bool wrong)
{
    ag_glu(tape, x_of(wrong ? C - 1 : C), kn_act_by_name("silu"), &dt_f32);
}

static tn_tensor *widen(void *ctx, tn_tensor *x)
{
    (void)ctx;
    return ag_linear(tape, x, &(ag_weight){.w = matrix(C + 1, C)}, 1, NULL);
}

static tn_tensor *keep(void *ctx, tn_tensor *x)
{
    (void)ctx;
    return ag_scale(tape, x, 1.0f);
}

static void checkpoint(bool wrong)
{
    ag_checkpoint(tape, x_of(C), wrong ? widen : keep, NULL);
}

static ag_score score_of(bool wrong)
{
    return (ag_score){.head = {.fn = widen, .vocab = wrong ? C : C + 1}, .label = ids};
}

static void cross_entropy(bool wrong)
{
    ag_score s = score_of(wrong);
    ag_cross_entropy(tape, x_of(C), &s, 1.0f);
}

static void logprob(bool wrong)
{
    ag_score s = score_of(wrong);
    ag_logprob(tape, x_of(C), &s);
}

static void dtype(bool wrong)
{
    tn_tensor *x = x_of(C);
    if (wrong) x->type = &dt_f16;
    ag_act(tape, x, kn_act_by_name("silu"), &dt_f32);
}

static void lstm(bool wrong)
{
    tn_tensor *w[8];
    for (int i = 0; i < 8; i++) w[i] = i % 4 < 2 ? matrix(12, i % 4 ? 3 : C) : matrix(1, 12);
    if (wrong) w[5] = matrix(12, 4);
    ag_lstm(tape, x_of(C), w, 0.1f, 1);
}

static const struct {
    const char *op;
    void (*call)(bool wrong);
} cases[] = {
    {"embed", embed},
    {"add", add},
    {"gather_rows", gather},
    {"scatter_rows", scatter},
    {"put_rows", put},
    {"rmsnorm", rmsnorm},
    {"layernorm", layernorm},
    {"head_norm", head_norm},
    {"linear", linear},
    {"linear", residual},
    {"linear", rows_in_force},
    {"low_rank", low_rank},
    {"low_rank", low_rank_column},
    {"magnitude", magnitude},
    {"magnitude", magnitude_into},
    {"dropout", NULL},
    {"fake", NULL},
    {"rope", rope},
    {"attention", attention},
    {"glu", glu},
    {"lstm", lstm},
    {"checkpoint", checkpoint},
    {"cross_entropy", cross_entropy},
    {"logprob", logprob},
    {"act", dtype}, /* any shape will do for these three, but f32 it must be */
    {"add_scaled", add_scaled},
    {"scale", NULL},
    {"dot_const", NULL},
};

/* How a process ends that makes the call: the signal, 0 when it goes through. */
static int ends_by(void (*call)(bool wrong), bool wrong)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        signal(SIGABRT, SIG_DFL);
        if (null >= 0) dup2(null, 2);
        call(wrong);
        _exit(tape->status == FT_OK ? 0 : 1);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    if (!WIFSIGNALED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void wrong_shapes_end_at_the_call(void **state)
{
    (void)state;
    assert_ok(ag_open(&tape, (size_t)64 << 20));
    tape->record = true;
    ag_set_rows(tape, &rows);
    for (int i = 0; ag_op_at(i); i++) {
        bool found = false;
        for (size_t k = 0; k < FT_COUNT_OF(cases); k++) {
            if (strcmp(cases[k].op, ag_op_at(i)->name) != 0) continue;
            found = true;
            if (!cases[k].call) continue;
            int right = ends_by(cases[k].call, false), wrong = ends_by(cases[k].call, true);
            if (right != 0 || wrong != SIGABRT)
                print_error("%s (case %zu): right ends by %d, wrong by %d\n", cases[k].op, k, right,
                            wrong);
            assert_int_equal(right, 0);
            assert_int_equal(wrong, SIGABRT);
        }
        if (!found) print_error("ops.def: %s has no case\n", ag_op_at(i)->name);
        assert_true(found);
    }
    ag_close(tape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_shapes_end_at_the_call)};
    if (kn_init() != FT_OK || pool_open(1) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
