/* test_data_order.c – order of an epoch, mixing by weight, ragged batches, rows of "concat". */
#include "data_fixture.h"

/* --- order and batches ---------------------------------------------------------------------------------------------- */
static void order_is_a_permutation_by_seed_and_epoch(void **state)
{
    fixture f;
    str_buf s = {0};
    int64_t a[100], b[100], seen[100] = {0};
    (void)state;
    begin(&f, "order", NULL, false);
    for (int i = 0; i < 100; i++) str_printf(&s, "{\"prompt\":\"%d\",\"completion\":\"b\"}\n", i);
    put("o.jsonl", s.data);
    assert_ok(load(&f, "{\"data\":{\"train\":\"o.jsonl\"}}", true));
    assert_int_equal(data_epoch_length(f.set), 100);
    assert_ok(data_order(f.set, 42, 0, true, a));
    assert_ok(data_order(f.set, 42, 0, true, b));
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 100; i++) seen[a[i]]++;
    for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
    assert_ok(data_order(f.set, 42, 1, true, b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_ok(data_order(f.set, 43, 0, true, b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_ok(data_order(f.set, 42, 5, false, b));
    for (int i = 0; i < 100; i++) assert_int_equal(b[i], i);
    str_free(&s);
    end(&f);
}

static void mix_follows_the_weights(void **state)
{
    fixture f;
    str_buf big = {0}, small = {0};
    (void)state;
    begin(&f, "mix", NULL, false);
    for (int i = 0; i < 200; i++)
        str_printf(&big, "{\"prompt\":\"%0*d\",\"completion\":\"b\"}\n", 1 + i % 17, i);
    for (int i = 0; i < 20; i++)
        str_printf(&small, "{\"prompt\":\"%0*d\",\"completion\":\"b\"}\n", 30 + i, i);
    put("big.jsonl", big.data);
    put("small.jsonl", small.data);
    assert_ok(load(&f,
                   "{\"data\":{\"train\":[{\"path\":\"big.jsonl\",\"weight\":3},{\"path\":\"small."
                   "jsonl\",\"weight\":1}]}}",
                   true));
    int64_t n = data_epoch_length(f.set);
    int64_t *order = test_alloc((size_t)n * sizeof *order),
            *again = test_alloc((size_t)n * sizeof *again);
    double tokens[2] = {0, 0};
    int used[220] = {0};
    assert_ok(data_order(f.set, 7, 3, true, order));
    for (int64_t i = 0; i < n; i++) {
        data_sample x;
        data_get(f.set, order[i], &x);
        tokens[x.source] += (double)x.len;
        used[order[i]]++;
        if (i > 20 && i < n * 9 / 10)
            assert_true(fabs(tokens[0] / (tokens[0] + tokens[1]) - 0.75) <
                        50.0 / (tokens[0] + tokens[1]));
    }
    assert_true(fabs(tokens[0] / (tokens[0] + tokens[1]) - 0.75) < 0.02);
    for (int i = 0; i < 200; i++)
        assert_in_range(used[i], 0, 2); /* passes are used up before one repeats */
    assert_ok(data_order(f.set, 7, 3, true, again));
    assert_memory_equal(order, again, (size_t)n * sizeof *order);
    str_free(&big);
    str_free(&small);
    end(&f);
}

static void batches_are_ragged_and_shifted(void **state)
{
    fixture f;
    data_batch b, c;
    data_step step;
    const int64_t samples[] = {2, 0, 1};
    (void)state;
    begin(&f, "batch", NULL, false);
    put("b.jsonl", "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n{\"prompt\":\"x\",\"completion\":"
                   "\"y\"}\n{\"prompt\":\"\",\"completion\":\"pq\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"b.jsonl\"}}", true));
    assert_ok(data_step_plan(f.set, samples, 3, 2, &step, f.mem));
    assert_int_equal(step.n_micro, 2);
    assert_int_equal(step.micro[0].n, 2);
    assert_int_equal(step.tokens, 5 + 3 + 3);
    assert_ok(data_batch_make(f.set, samples, NULL, 3, 99, &b, f.mem));
    assert_int_equal(b.n_seq, 3);
    assert_int_equal(b.len[0], 3);
    assert_int_equal(b.len[1], 5);
    static const int32_t ids[] = {'p', 'q', EOS, 'a', 'b', 'c', 'd', EOS, 'x', 'y', EOS};
    static const int32_t pos[] = {0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2};
    static const int32_t labels[] = {'q', EOS, -100, -100, 'c', 'd', EOS, -100, 'y', EOS, -100};
    assert_memory_equal(b.ids, ids, sizeof ids);
    assert_memory_equal(b.pos, pos, sizeof pos);
    assert_memory_equal(b.labels, labels, sizeof labels);
    assert_int_equal(b.supervised, 7);
    assert_int_equal(step.supervised, 7);
    assert_int_equal(b.source_tokens[0], 11);
    int64_t at = 0, sup = 0;
    for (int i = 0; i < step.n_micro; i++) { /* the keys of a token do not depend on the split */
        assert_ok(data_batch_make(f.set, step.micro[i].sample, step.micro[i].slot, step.micro[i].n,
                                  99, &c, f.mem));
        assert_memory_equal(c.row_key, b.row_key + at, (size_t)c.tokens * sizeof *c.row_key);
        assert_memory_equal(c.labels, b.labels + at, (size_t)c.tokens * sizeof *c.labels);
        at += c.tokens;
        sup += c.supervised;
    }
    assert_int_equal(sup, 7);
    assert_int_not_equal(b.row_key[0], b.row_key[1]);
    end(&f);
}

static void concat_rows_do_not_depend_on_the_split(void **state)
{
    fixture f;
    data_batch b;
    const int64_t samples[] = {0, 1, 2, 3};
    (void)state;
    begin(&f, "concat", NULL, false);
    put("k.jsonl",
        "{\"prompt\":\"abc\",\"completion\":\"d\"}\n{\"prompt\":\"efgh\",\"completion\":\"ij\"}\n"
        "{\"prompt\":\"\",\"completion\":\"k\"}\n{\"prompt\":\"lmn\",\"completion\":\"o\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"k.jsonl\",\"packing\":\"concat\",\"max_length\":8}}",
                   true));
    /* lengths 5 7 2 5: rows {0, 2} and {1} and {3} */
    for (int micro = 1; micro <= 4; micro++) {
        data_step step;
        int64_t sup = 0;
        int seqs = 0;
        assert_ok(data_step_plan(f.set, samples, 4, micro, &step, f.mem));
        for (int i = 0; i < step.n_micro; i++) {
            assert_ok(data_batch_make(f.set, step.micro[i].sample, step.micro[i].slot,
                                      step.micro[i].n, 1, &b, f.mem));
            if (!i) {
                assert_int_equal(b.len[0], 7);
                assert_int_equal(b.pos[6], 6);
                assert_int_equal(b.labels[4], 'k'); /* across the border: k is supervised */
            }
            sup += b.supervised;
            seqs += b.n_seq;
        }
        assert_int_equal(seqs, 3);
        assert_int_equal(sup, step.supervised);
        assert_int_equal(sup, 2 + 3 + 2 + 2);
    }
    end(&f);
}

static void threads_change_nothing(void **state)
{
    fixture f;
    str_buf s = {0};
    char one[65], two[65];
    (void)state;
    begin(&f, "threads", CHATML, false);
    for (int i = 0; i < 700; i++) {
        str_printf(&s,
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"q%d\"},{\"role\":\"assistant\","
                   "\"content\":\"a%d\"}]}\n",
                   i, i);
    }
    put("t.jsonl", s.data);
    assert_ok(load(&f, "{\"data\":{\"train\":\"t.jsonl\"}}", true));
    data_sha256(f.set, one);
    assert_ok(pool_open(4));
    assert_ok(load(&f, "{\"data\":{\"train\":\"t.jsonl\"}}", true));
    data_sha256(f.set, two);
    pool_close();
    assert_string_equal(one, two);
    str_free(&s);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_a_permutation_by_seed_and_epoch),
        cmocka_unit_test(mix_follows_the_weights),
        cmocka_unit_test(batches_are_ragged_and_shifted),
        cmocka_unit_test(concat_rows_do_not_depend_on_the_split),
        cmocka_unit_test(threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
