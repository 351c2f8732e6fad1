/* test_gradcheck.c – the gradient of every row of ops.def against a 4-point difference along random directions.
 *
 * A row without a case fails the suite. Values are f32, the loss Σ c·y is summed in double; the tolerance is relative to
 * the size of the directional derivative's terms. */
#include "support.h"

#include "ft/autograd.h"

typedef struct probe {
    ag_tape *t;
    tn_tensor *leaf[9];
    int n;
    bool straight; /* the gradient itself is asked for, not a difference */
} probe;

typedef tn_tensor *(*builder)(probe *p);

static tn_tensor *leaf(probe *p, uint64_t seed, int64_t rows, int64_t cols)
{
    tn_tensor *x = test_alloc(sizeof *x);
    *x = (tn_tensor){
        .type = &dt_f32, .nd = rows ? 2 : 1, .dim = {rows ? rows : cols, cols}, .wants_grad = true};
    x->data = test_uniform(seed, (rows ? rows : 1) * cols, -1.0f, 1.0f);
    x->grad = test_alloc((size_t)((rows ? rows : 1) * cols) * sizeof(float));
    p->leaf[p->n++] = x;
    return x;
}

static const int32_t lengths[3] = {5, 1, 7};
static const int32_t ids[13] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 0};
static const int32_t labels[13] = {3, -100, 4, 1, -100, 9, 2, 6, -100, 3, 5, 8, 0};
static const int32_t pos[13] = {0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5, 6};
static const uint64_t keys[13] = {11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
enum { T = 13 };
static const ag_rows thirteen = {.n = T, .n_seq = 3, .len = lengths, .key = keys, .mask_key = 42};

/* Scalar of any result, with constants that differ per element. */
static tn_tensor *seed(probe *p, tn_tensor *y)
{
    return ag_dot_const(p->t, y, test_uniform(99, tn_count(y), -1.0f, 1.0f));
}

/* An op in place needs an activation, not a leaf: x · 1. */
static tn_tensor *activation(probe *p, tn_tensor *x)
{
    return ag_scale(p->t, x, 1.0f);
}

static tn_tensor *embed_case(probe *p)
{
    return seed(p, ag_embed(p->t, p->leaf[0], ids, T, -1));
}

static tn_tensor *add_case(probe *p)
{
    tn_tensor *a = activation(p, p->leaf[0]);
    return seed(p, ag_add(p->t, ag_add(p->t, a, activation(p, p->leaf[1])), a));
}

/* A linear map and an adapter over picked rows (some twice), put back: the rows in force change and change back. */
static tn_tensor *picked(probe *p, const int64_t *row, int64_t n, tn_tensor *x)
{
    ag_low_rank s = {.a = p->leaf[2], .b = p->leaf[3], .scale = 0.7f, .dropout = 0.3f, .key = 5};
    const ag_rows *all = ag_set_rows(p->t, ag_pick_rows(p->t, row, n));
    tn_tensor *part = ag_gather_rows(p->t, x, row, n);
    tn_tensor *y = ag_linear(p->t, part, &(ag_weight){.w = p->leaf[1]}, 1, NULL);
    y = ag_low_rank_add(p->t, y, part, &s, 1);
    ag_set_rows(p->t, all);
    return y;
}

static tn_tensor *gather_case(probe *p)
{
    static const int64_t row[6] = {12, 3, 3, 0, 7, 12};
    return seed(p, picked(p, row, 6, activation(p, p->leaf[0])));
}

static tn_tensor *scatter_case(probe *p)
{
    static const int64_t row[5] = {1, 4, 4, 11, 0};
    tn_tensor *x = activation(p, p->leaf[0]);
    tn_tensor *y = ag_scatter_rows(p->t, activation(p, p->leaf[4]), picked(p, row, 5, x), row);
    return seed(p, ag_linear(p->t, y, &(ag_weight){.w = p->leaf[5]}, 1, NULL));
}

static tn_tensor *put_case(probe *p)
{
    static const int64_t row[3] = {9, 0, 4};
    tn_tensor *y = activation(p, p->leaf[0]);
    return seed(p, ag_put_rows(p->t, y, activation(p, p->leaf[1]), row, 2));
}

static tn_tensor *rmsnorm_case(probe *p)
{
    return seed(p, ag_rmsnorm(p->t, p->leaf[0], p->leaf[1], 1e-5f, &dt_f32));
}

static tn_tensor *layernorm_case(probe *p)
{
    return seed(p, ag_layernorm(p->t, p->leaf[0], p->leaf[1], p->leaf[2], 1e-5f, &dt_f32));
}

static tn_tensor *head_norm_case(probe *p)
{
    return seed(p, ag_head_norm(p->t, p->leaf[0], p->leaf[1], p->leaf[2], 3, 1, 1e-5f));
}

static tn_tensor *linear_case(probe *p)
{
    ag_weight w[3] = {{.w = p->leaf[1], .b = p->leaf[2]},
                      {.w = p->leaf[3], .in_out = true},
                      {.w = p->leaf[4], .b = p->leaf[5], .in_out = true}};
    return seed(p, ag_linear(p->t, activation(p, p->leaf[0]), w, 3, activation(p, p->leaf[6])));
}

/* Factors of the inputs of one weight, and of the outputs of the next. */
static tn_tensor *factors_case(probe *p)
{
    ag_weight w[2] = {{.w = p->leaf[1], .in = p->leaf[2]},
                      {.w = p->leaf[3], .b = p->leaf[4], .out = p->leaf[5], .in_out = true}};
    return seed(p, ag_linear(p->t, activation(p, p->leaf[0]), w, 2, activation(p, p->leaf[6])));
}

static tn_tensor *low_rank_case(probe *p)
{
    ag_low_rank s[2] = {
        {.a = p->leaf[2], .b = p->leaf[3], .scale = 0.7f, .dropout = 0.3f, .col = 0, .key = 5},
        {.a = p->leaf[4], .b = p->leaf[5], .scale = 1.3f, .col = 6}};
    tn_tensor *x = activation(p, p->leaf[0]);
    tn_tensor *y = ag_low_rank_add(p->t, activation(p, p->leaf[1]), x, s, 2);
    s[0].dropout = 0.0f; /* stacked */
    return seed(p, ag_low_rank_add(p->t, y, x, s, 2));
}

/* A diagonal in the middle, factors on the output, shared matrices larger than the site; and a matrix in the middle. */
static tn_tensor *middle_case(probe *p)
{
    ag_low_rank s[2] = {
        {.a = p->leaf[2],
         .b = p->leaf[3],
         .mid = p->leaf[4],
         .out = p->leaf[5],
         .scale = 0.7f,
         .dropout = 0.3f,
         .width = 6,
         .key = 5},
        {.a = p->leaf[6], .b = p->leaf[7], .core = p->leaf[8], .scale = 1.3f, .col = 6}};
    tn_tensor *x = activation(p, p->leaf[0]);
    return seed(p, ag_low_rank_add(p->t, activation(p, p->leaf[1]), x, s, 2));
}

/* Two sites beside columns that pass through, one with a bias; then one site's columns of another tensor in place. */
static tn_tensor *magnitude_case(probe *p)
{
    static const float inverse[4] = {0.5f, 2.0f, 1.3f, 0.7f};
    const ag_magnitude s[2] = {{.m = p->leaf[1], .b = p->leaf[2], .inverse = inverse, .col = 2},
                               {.m = p->leaf[3], .inverse = inverse, .col = 6}};
    const ag_magnitude one = {.m = p->leaf[4], .inverse = inverse, .col = 5};
    tn_tensor *u = activation(p, p->leaf[5]), *less = activation(p, p->leaf[6]);
    tn_tensor *y = ag_magnify(p->t, activation(p, p->leaf[0]), s, 2);
    return seed(p, ag_magnify_into(p->t, y, u, less, &one));
}

/* Straight through: the gradient is that of what is rounded, here the norm before it. */
static tn_tensor *fake_case(probe *p)
{
    static const kn_tokens how = {.symmetric = true, .norm = true, .eps = 1e-5f};
    static float ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    static tn_tensor gain = {.type = &dt_f32, .nd = 1, .dim = {9}, .data = ones};
    tn_tensor *x = p->leaf[0];
    return seed(p,
                p->straight ? ag_fake(p->t, x, &how) : ag_rmsnorm(p->t, x, &gain, 1e-5f, &dt_f32));
}

static tn_tensor *dropout_case(probe *p)
{
    return seed(p, ag_dropout(p->t, p->leaf[0], 0.3f, 5));
}

static tn_tensor *rope_case(probe *p)
{
    static float c[7 * 2], s[7 * 2];
    for (int i = 0; i < 14; i++) {
        c[i] = cosf((float)i);
        s[i] = sinf((float)i);
    }
    return seed(p, ag_rope(p->t, activation(p, p->leaf[0]), 3, 5, 2, c, s, pos));
}

static tn_tensor *attention_case(probe *p)
{
    kn_attn a = {.n_head = 4, .n_kv = 2, .head_dim = 6, .scale = 0.4f, .window = 4};
    return seed(p, ag_attention(p->t, p->leaf[0], &a, &dt_f32));
}

static tn_tensor *glu_case(probe *p)
{
    return seed(p, ag_glu(p->t, p->leaf[0], kn_act_by_name("silu"), &dt_f32));
}

static tn_tensor *act_case(probe *p)
{
    return seed(p, ag_act(p->t, p->leaf[0], kn_act_by_name("gelu_new"), &dt_f32));
}

/* Both ways, through dropout and without. */
static tn_tensor *lstm_case(probe *p)
{
    tn_tensor *x = activation(p, p->leaf[0]);
    tn_tensor *y = ag_lstm(p->t, x, p->leaf + 1, 0.3f, 5);
    return ag_add(p->t, seed(p, y), seed(p, ag_lstm(p->t, x, p->leaf + 1, 0.0f, 0)));
}

static tn_tensor *frozen_head(void *ctx, tn_tensor *x)
{
    const probe *p = ctx;
    return ag_linear(p->t, x, &(ag_weight){.w = p->leaf[1]}, 1, NULL);
}

/* A head of leaf 1 with an adapter of leaves 2 and 3. */
static tn_tensor *adapted_head(void *ctx, tn_tensor *x)
{
    const probe *p = ctx;
    ag_low_rank s = {.a = p->leaf[2], .b = p->leaf[3], .scale = 0.7f, .dropout = 0.2f, .key = 3};
    return ag_low_rank_add(p->t, frozen_head(ctx, x), x, &s, 1);
}

static ag_score score_of(probe *p, int64_t vocab)
{
    return (ag_score){.head = {adapted_head, p, vocab, true}, .label = labels};
}

static tn_tensor *cross_entropy_case(probe *p)
{
    ag_score s = score_of(p, 21);
    return ag_cross_entropy(p->t, activation(p, p->leaf[0]), &s, 1.0f);
}

static tn_tensor *smoothed_case(probe *p)
{
    ag_score s = score_of(p, 21);
    s.smoothing = 0.3f;
    s.chunk = 4;
    return ag_cross_entropy(p->t, activation(p, p->leaf[0]), &s, 1.0f);
}

static tn_tensor *logprob_case(probe *p)
{
    ag_score s = score_of(p, 21);
    s.temperature = 0.8f;
    s.chunk = 3;
    return seed(p, ag_logprob(p->t, activation(p, p->leaf[0]), &s));
}

/* A frozen head: its unit gradients are taken in the forward. */
static tn_tensor *frozen_logprob_case(probe *p)
{
    static tn_tensor w = {.type = &dt_f32, .nd = 2, .dim = {21, 9}};
    tn_tensor *leaf1 = p->leaf[1];
    ag_score s = {.head = {frozen_head, p, 21, false}, .label = labels};
    if (!w.data) w.data = test_uniform(77, 21 * 9, -1.0f, 1.0f);
    p->leaf[1] = &w;
    tn_tensor *y = seed(p, ag_logprob(p->t, activation(p, p->leaf[0]), &s));
    p->leaf[1] = leaf1;
    return y;
}

/* A frozen head of other hidden states, of which one row is not there. */
static tn_tensor *other_head(void *ctx, tn_tensor *x)
{
    static tn_tensor w = {.type = &dt_f32, .nd = 2, .dim = {21, 5}};
    const probe *p = ctx;
    if (!w.data) w.data = test_uniform(78, 21 * 5, -1.0f, 1.0f);
    return ag_linear(p->t, x, &(ag_weight){.w = &w}, 1, NULL);
}

static ag_score other_score(probe *p, float beta)
{
    static tn_tensor x = {.type = &dt_f32, .nd = 2, .dim = {T, 5}};
    static int64_t row[T];
    if (!x.data) x.data = test_uniform(79, T * 5, -1.0f, 1.0f);
    for (int i = 0; i < T; i++) row[i] = i == 1 ? -1 : T - 1 - i;
    ag_score s = score_of(p, 21);
    s.chunk = 3;
    s.other = (ag_other){.head = {other_head, p, 21, false},
                         .x = &x,
                         .row = row,
                         .beta = beta,
                         .temperature = 1.3f,
                         .own = 0.6f,
                         .weight = 1.7f};
    return s;
}

static tn_tensor *forward_case(probe *p)
{
    ag_score s = other_score(p, 0.0f);
    return ag_cross_entropy(p->t, activation(p, p->leaf[0]), &s, 1.0f);
}

static tn_tensor *jsd_case(probe *p)
{
    ag_score s = other_score(p, 0.3f);
    return ag_cross_entropy(p->t, activation(p, p->leaf[0]), &s, 1.0f);
}

static tn_tensor *reverse_case(probe *p)
{
    ag_score s = other_score(p, 1.0f);
    s.other.own = 0.0f;
    return ag_cross_entropy(p->t, activation(p, p->leaf[0]), &s, 1.0f);
}

static tn_tensor *apart_case(probe *p)
{
    ag_score s = other_score(p, 0.7f);
    return seed(p, ag_logprob(p->t, activation(p, p->leaf[0]), &s));
}

static tn_tensor *dot_case(probe *p)
{
    return seed(p, p->leaf[0]);
}

static tn_tensor *scale_case(probe *p)
{
    return seed(p, ag_scale(p->t, p->leaf[0], -1.7f));
}

/* x and the stream are read by others too, so that gradients are there already. */
static tn_tensor *add_scaled_case(probe *p)
{
    tn_tensor *a = activation(p, p->leaf[0]), *x = activation(p, p->leaf[1]);
    tn_tensor *y = ag_add_scaled(p->t, a, x, 1.6f, 0.3f, 9);
    y = ag_add_brief(p->t, ag_add_scaled(p->t, y, x, -0.5f, 0.0f, 0), a);
    return seed(p, ag_add(p->t, y, x));
}

static tn_tensor *segment(void *ctx, tn_tensor *x)
{
    probe *p = ctx;
    ag_weight w = {.w = p->leaf[1]};
    return ag_linear(p->t, ag_act(p->t, x, kn_act_by_name("silu"), &dt_f32), &w, 1, x);
}

static tn_tensor *checkpoint_case(probe *p)
{
    tn_tensor *x = activation(p, p->leaf[0]);
    return seed(p, ag_checkpoint(p->t, ag_checkpoint(p->t, x, segment, p), segment, p));
}

/* Leaves as (rows, cols), rows 0: a vector. */
static const struct {
    const char *op;
    builder build;
    int leaves;
    int64_t shape[9][2];
} cases[] = {
    {"embed", embed_case, 1, {{10, 9}}},
    {"add", add_case, 2, {{T, 9}, {T, 9}}},
    {"gather_rows", gather_case, 4, {{T, 9}, {7, 9}, {2, 9}, {7, 2}}},
    {"scatter_rows", scatter_case, 6, {{T, 9}, {7, 9}, {2, 9}, {7, 2}, {T, 7}, {3, 7}}},
    {"put_rows", put_case, 2, {{T, 9}, {3, 5}}},
    {"rmsnorm", rmsnorm_case, 2, {{T, 19}, {0, 19}}},
    {"layernorm", layernorm_case, 3, {{T, 19}, {0, 19}, {0, 19}}},
    {"head_norm", head_norm_case, 3, {{T, 23}, {0, 5}, {0, 5}}},
    {"linear", linear_case, 7, {{T, 9}, {7, 9}, {0, 7}, {9, 4}, {9, 3}, {0, 3}, {T, 14}}},
    {"linear", factors_case, 7, {{T, 9}, {7, 9}, {1, 9}, {9, 4}, {0, 4}, {4, 1}, {T, 11}}},
    {"low_rank", low_rank_case, 6, {{T, 9}, {T, 11}, {3, 9}, {6, 3}, {2, 9}, {5, 2}}},
    {"low_rank",
     middle_case,
     9,
     {{T, 9}, {T, 11}, {3, 12}, {8, 3}, {0, 3}, {0, 6}, {2, 9}, {5, 2}, {2, 2}}},
    {"magnitude", magnitude_case, 7, {{T, 10}, {0, 3}, {0, 3}, {0, 2}, {0, 4}, {T, 4}, {T, 4}}},
    {"dropout", dropout_case, 1, {{T, 9}}},
    {"fake", fake_case, 1, {{T, 9}}},
    {"rope", rope_case, 1, {{T, 17}}},
    {"attention", attention_case, 1, {{T, 48}}},
    {"glu", glu_case, 1, {{T, 14}}},
    {"act", act_case, 1, {{T, 9}}},
    {"lstm",
     lstm_case,
     9,
     {{T, 6}, {12, 6}, {12, 3}, {0, 12}, {0, 12}, {12, 6}, {12, 3}, {0, 12}, {0, 12}}},
    {"cross_entropy", cross_entropy_case, 4, {{T, 9}, {21, 9}, {2, 9}, {21, 2}}},
    {"cross_entropy", smoothed_case, 4, {{T, 9}, {21, 9}, {2, 9}, {21, 2}}},
    {"cross_entropy", forward_case, 4, {{T, 9}, {21, 9}, {2, 9}, {21, 2}}},
    {"cross_entropy", jsd_case, 4, {{T, 9}, {21, 9}, {2, 9}, {21, 2}}},
    {"cross_entropy", reverse_case, 4, {{T, 9}, {21, 9}, {2, 9}, {21, 2}}},
    {"logprob", apart_case, 4, {{T, 9}, {21, 9}, {2, 9}, {21, 2}}},
    {"logprob", logprob_case, 4, {{T, 9}, {21, 9}, {2, 9}, {21, 2}}},
    {"logprob", frozen_logprob_case, 1, {{T, 9}}},
    {"dot_const", dot_case, 1, {{T, 9}}},
    {"scale", scale_case, 1, {{T, 9}}},
    {"add_scaled", add_scaled_case, 2, {{T, 9}, {T, 9}}},
    {"checkpoint", checkpoint_case, 2, {{T, 9}, {9, 9}}},
};

static double value(probe *p, builder build, bool record)
{
    ag_reset(p->t);
    p->t->record = record;
    ag_set_rows(p->t, &thirteen);
    tn_tensor *loss = build(p);
    assert_ok(p->t->status);
    if (record) assert_ok(ag_backward(p->t, loss));
    return (double)tn_f32(loss)[0];
}

/* Dropout draws only when it is told to: value() must see the same masks with and without recording. */
static double difference(probe *p, builder build, tn_tensor *x, const float *direction, double h)
{
    static const double weight[4] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12},
                        at[4] = {-2, -1, 1, 2};
    int64_t n = tn_count(x);
    float *saved =
        memcpy(test_alloc((size_t)n * sizeof *saved), x->data, (size_t)n * sizeof *saved);
    double sum = 0.0;
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < n; i++)
            tn_f32(x)[i] = (float)((double)saved[i] + at[k] * h * (double)direction[i]);
        sum += weight[k] * value(p, build, true);
    }
    memcpy(x->data, saved, (size_t)n * sizeof *saved);
    return sum / h;
}

static void clear(probe *p)
{
    for (int i = 0; i < p->n; i++)
        memset(p->leaf[i]->grad, 0, (size_t)tn_count(p->leaf[i]) * sizeof(float));
}

static void check_case(size_t k)
{
    probe p = {0};
    assert_ok(ag_open(&p.t, (size_t)64 << 20));
    for (int i = 0; i < cases[k].leaves; i++)
        leaf(&p, 7 * k + (uint64_t)i, cases[k].shape[i][0], cases[k].shape[i][1]);
    for (int i = 0; i < p.n; i++) {
        for (uint64_t trial = 0; trial < 3; trial++) {
            int64_t n = tn_count(p.leaf[i]);
            float *direction = test_uniform(1000 + trial, n, -1.0f, 1.0f);
            double want = difference(&p, cases[k].build, p.leaf[i], direction, 0.02), got = 0.0,
                   size = 0.0;
            clear(&p);
            p.straight = true;
            value(&p, cases[k].build, true);
            p.straight = false;
            for (int64_t j = 0; j < n; j++) {
                got += (double)p.leaf[i]->grad[j] * (double)direction[j];
                size += fabs((double)p.leaf[i]->grad[j] * (double)direction[j]);
            }
            bool good =
                fabs(got - want) <= 1e-3 * size / sqrt((double)n) + 2e-4 * fabs(want) + 2e-5;
            if (!good)
                print_error("%s, input %d: gradient says %g, differences say %g\n", cases[k].op, i,
                            got, want);
            assert_true(good);
            assert_true(size > 0.0);
        }
    }
    ag_close(p.t);
}

static void every_row(void **state)
{
    (void)state;
    for (int i = 0; ag_op_at(i); i++) {
        bool found = false;
        for (size_t k = 0; k < FT_COUNT_OF(cases); k++) {
            if (strcmp(cases[k].op, ag_op_at(i)->name) != 0) continue;
            found = true;
            check_case(k);
        }
        if (!found) print_error("ops.def: %s has no gradient case\n", ag_op_at(i)->name);
        assert_true(found);
    }
}

/* A frozen weight costs no gradient, and nothing is recorded below the first tensor that wants one. */
static void frozen_costs_nothing(void **state)
{
    probe p = {0};
    (void)state;
    assert_ok(ag_open(&p.t, (size_t)64 << 20));
    tn_tensor *x = leaf(&p, 1, T, 9), *w = leaf(&p, 2, 7, 9), *v = leaf(&p, 3, 5, 7);
    x->wants_grad = w->wants_grad = false;
    w->grad = NULL;
    p.t->record = true;
    ag_set_rows(p.t, &thirteen);
    tn_tensor *h = ag_linear(p.t, x, &(ag_weight){.w = w}, 1, NULL);
    assert_null(p.t->last);
    tn_tensor *y = ag_linear(p.t, h, &(ag_weight){.w = v}, 1, NULL);
    assert_ok(ag_backward(p.t, seed(&p, y)));
    assert_null(w->grad);
    assert_null(h->grad);
    assert_true(v->grad[0] != 0.0f);
    ag_close(p.t);
}

/* Forwards of 3 and 5 rows before one backward: each product of a weight gradient sums its own rows. */
static void rows_belong_to_nodes(void **state)
{
    probe p = {0};
    static const int32_t three[1] = {3}, five[2] = {2, 3};
    static const ag_rows rows[2] = {{.n = 3, .n_seq = 1, .len = three},
                                    {.n = 5, .n_seq = 2, .len = five}};
    (void)state;
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        p = (probe){0};
        assert_ok(ag_open(&p.t, (size_t)64 << 20));
        tn_tensor *x[2] = {leaf(&p, 1, 3, 9), leaf(&p, 2, 5, 9)}, *w, *sum = NULL;
        p.n = 1; /* segment() takes leaf 1 */
        w = leaf(&p, 3, 9, 9);
        p.t->record = true;
        float *c[2];
        for (int k = 0; k < 2; k++) {
            c[k] = test_uniform(50 + (uint64_t)k, rows[k].n * 9, -1.0f, 1.0f);
            ag_set_rows(p.t, &rows[k]);
            tn_tensor *y = checkpoint ? ag_checkpoint(p.t, x[k], segment, &p)
                                      : ag_linear(p.t, x[k], &(ag_weight){.w = w}, 1, NULL);
            tn_tensor *part = ag_dot_const(p.t, y, c[k]);
            sum = sum ? ag_add(p.t, sum, part) : part;
        }
        assert_ok(ag_backward(p.t, sum));
        double want = 0.0; /* of dW[2, 4] */
        for (int k = 0; k < 2; k++) {
            for (int64_t i = 0; i < rows[k].n; i++) {
                double v = (double)tn_f32(x[k])[i * 9 + 4];
                want += (double)c[k][i * 9 + 2] * (checkpoint ? v / (1.0 + exp(-v)) : v);
            }
        }
        assert_true(fabs((double)w->grad[2 * 9 + 4] - want) < 1e-5);
        ag_close(p.t);
    }
}

/* The low-rank terms of a group are steps of its products: the sums are those of ops of their own, but for the order
 * of the last few additions. Leaves: x, three weights (one [in, out]), A and B of the first and the last, the residual. */
static tn_tensor *adapted(probe *p, bool apart, tn_tensor **y)
{
    const ag_low_rank first = {.a = p->leaf[4], .b = p->leaf[5], .scale = 0.7f},
                      last = {.a = p->leaf[6], .b = p->leaf[7], .scale = 1.3f, .col = 40 + 3};
    ag_weight w[3] = {{.w = p->leaf[1]}, {.w = p->leaf[2]}, {.w = p->leaf[3], .in_out = true}};
    tn_tensor *x = activation(p, p->leaf[0]), *add = activation(p, p->leaf[8]);
    if (!apart) {
        w[0].low = first;
        w[2].low = last;
    }
    *y = ag_linear(p->t, x, w, 3, add);
    if (apart) *y = ag_low_rank_add(p->t, *y, x, (ag_low_rank[]){first, last}, 2);
    return seed(p, *y);
}

static void check_terms(kn_precision precision)
{
    static const int64_t shape[9][2] = {{T, 33}, {40, 33}, {3, 33}, {33, 17}, {5, 33},
                                        {40, 5}, {8, 33},  {17, 8}, {T, 60}};
    float *want[10] = {0};
    for (int chained = 0; chained < 2; chained++) {
        probe p = {0};
        tn_tensor *y;
        assert_ok(ag_open(&p.t, (size_t)64 << 20));
        for (int i = 0; i < 9; i++) leaf(&p, 70 + (uint64_t)i, shape[i][0], shape[i][1]);
        p.leaf[1]->wants_grad = p.leaf[2]->wants_grad = p.leaf[3]->wants_grad = false;
        p.t->record = true;
        p.t->precision = precision;
        ag_set_rows(p.t, &thirteen);
        assert_ok(ag_backward(p.t, adapted(&p, !chained, &y)));
        for (int i = 0; i < 10; i++) {
            const tn_tensor *of = i < 9 ? p.leaf[i] : y;
            const float *got = i < 9 ? of->grad : tn_f32(of);
            const size_t n = (size_t)tn_count(of);
            if (!chained) want[i] = memcpy(test_alloc(n * 4), got, n * 4);
            for (size_t k = 0; chained && k < n; k++)
                assert_true(fabsf(got[k] - want[i][k]) <= 2e-5f * (1.0f + fabsf(want[i][k])));
        }
        ag_close(p.t);
    }
}

static void terms_are_steps(void **state)
{
    (void)state;
    check_terms(KN_F32);
    check_terms(KN_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row), cmocka_unit_test(terms_are_steps),
        cmocka_unit_test(frozen_costs_nothing), cmocka_unit_test(rows_belong_to_nodes)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
