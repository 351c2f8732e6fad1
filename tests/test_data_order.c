/* test_data_order.c – order of an epoch, mixing by weight, ragged batches, rows of "concat". */
#include "data_fixture.h"

/* --- the samples of a step -------------------------------------------------------------------------------------------- */
/* Lines of the samples of a whole epoch, in its order; sources are told apart by thousands. */
static int64_t epoch_lines(fixture *f, uint64_t seed, int64_t epoch, int64_t batch, int64_t *line)
{
    int64_t n = 0, steps = (data_epoch_length(f->set) + batch - 1) / batch;
    data_sample x[16];
    for (int64_t s = epoch * steps; s < (epoch + 1) * steps; s++) {
        int k;
        assert_ok(data_take(f->set, seed, s, batch, x, &k, f->mem));
        assert_int_equal(k, s + 1 < (epoch + 1) * steps ? batch : data_epoch_length(f->set) - n);
        for (int i = 0; i < k; i++) line[n++] = 1000 * x[i].source + x[i].line;
    }
    return n;
}

static void numbered(const char *file, int n, int width)
{
    str_buf s = {0};
    for (int i = 0; i < n; i++)
        str_printf(&s, "{\"prompt\":\"%0*d\",\"completion\":\"b\"}\n", width + i % 17, i);
    put(file, s.data);
    str_free(&s);
}

static void an_epoch_is_a_permutation_by_seed_and_epoch(void **state)
{
    fixture f;
    int64_t a[100], b[100], seen[101] = {0};
    (void)state;
    begin(&f, "order", NULL, false);
    numbered("o.jsonl", 100, 1);
    assert_ok(load(&f, "{\"data\":{\"train\":\"o.jsonl\"}}", true));
    assert_int_equal(data_epoch_length(f.set), 100);
    assert_int_equal(epoch_lines(&f, 42, 0, 8, a), 100);
    epoch_lines(&f, 42, 0, 1, b);
    assert_memory_equal(a, b, sizeof a); /* whatever the size of a step */
    for (int i = 0; i < 100; i++) seen[a[i]]++;
    for (int i = 0; i < 100; i++) assert_int_equal(seen[i + 1], 1);
    epoch_lines(&f, 42, 1, 8, b);
    assert_memory_not_equal(a, b, sizeof a);
    epoch_lines(&f, 43, 0, 8, b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_ok(load(&f, "{\"data\":{\"train\":\"o.jsonl\",\"shuffle\":false}}", true));
    epoch_lines(&f, 42, 5, 8, b);
    for (int i = 0; i < 100; i++) assert_int_equal(b[i], i + 1);
    end(&f);
}

static const char mix[] = "{\"data\":{\"train\":[{\"path\":\"big.jsonl\",\"weight\":3},{\"path\":"
                          "\"small.jsonl\",\"weight\":1}]}}";

/* The longest sample is 51 tokens. At every sample, whatever repeats meanwhile; passes are used up before one repeats. */
static void mix_follows_the_weights(void **state)
{
    enum { STEPS = 200, BATCH = 8 };
    fixture f;
    (void)state;
    begin(&f, "mix", NULL, false);
    numbered("big.jsonl", 200, 1);
    numbered("small.jsonl", 20, 30);
    assert_ok(load(&f, mix, true));
    double tokens[2] = {0, 0};
    int used[2000] = {0}, k;
    for (int64_t s = 0; s < STEPS; s++) {
        data_sample x[BATCH];
        assert_ok(data_take(f.set, 7, s, BATCH, x, &k, f.mem));
        assert_int_equal(k, BATCH); /* a mix has no ends */
        for (int i = 0; i < BATCH; i++) {
            tokens[x[i].source] += (double)x[i].len;
            double all = tokens[0] + tokens[1];
            int64_t count = data_stats(f.set, x[i].source)->samples, low = 1 << 30, high = 0;
            assert_true(fabs(tokens[0] - 0.75 * all) < 51);
            used[1000 * x[i].source + x[i].line]++;
            for (int64_t j = 1; j <= count && i == 0; j++) {
                int n = used[1000 * x[i].source + j];
                low = n < low ? n : low;
                high = n > high ? n : high;
            }
            if (i == 0) assert_true(high - low <= 1);
        }
    }
    assert_true(fabs(tokens[0] / (tokens[0] + tokens[1]) - 0.75) < 0.001);
    end(&f);
}

/* Rows of text, some sources of few rows: within one row of the shares at any row, and so within 0.1 % after 1,000. */
static void shares_of_text_are_met_within_a_row(void **state)
{
    enum { ROW = 32, ROWS = 3000, SOURCES = 6 };
    static const double shares[][SOURCES] = {{0.95, 0.05},
                                             {0.05, 0.95},
                                             {0.9, 0.05, 0.05},
                                             {1 / 3.0, 1 / 3.0, 1 / 3.0},
                                             {0.5, 0.1, 0.1, 0.1, 0.1, 0.1},
                                             {0.001, 0.001, 0.001, 0.007, 0.29, 0.7}};
    fixture f;
    (void)state;
    begin(&f, "shares", NULL, false);
    for (size_t c = 0; c < FT_COUNT_OF(shares); c++) {
        str_buf s = {0}, text = {0};
        double given[SOURCES] = {0}, all = 0;
        str_adds(&s, "{\"data\":{\"max_length\":32,\"train\":[");
        for (int i = 0; i < SOURCES && shares[c][i] > 0; i++) {
            char name[20];
            snprintf(name, sizeof name, "%d.txt", i);
            str_clear(&text);
            for (int k = 0; k < (i % 3 ? 40 : 900) + 7 * i; k++)
                str_printf(&text, "%d of %d, a line\n", k, i);
            put(name, text.data);
            str_printf(&s, "%s{\"path\":\"%s\",\"weight\":%.17g}", i ? "," : "", name,
                       shares[c][i]);
        }
        str_adds(&s, "]}}");
        assert_ok(load(&f, s.data, true));
        for (int64_t k = 0; k < ROWS; k++) {
            data_sample x;
            int n;
            size_t mark = arena_mark(f.mem);
            assert_ok(data_take(f.set, 3, k, 1, &x, &n, f.mem));
            given[x.source] += (double)x.len;
            all += (double)x.len;
            arena_reset(f.mem, mark);
            for (int i = 0; i < data_sources(f.set); i++) {
                double off = fabs(given[i] - shares[c][i] * all);
                if (off > ROW) fail_msg("mix %zu, row %d: source %d is %g off", c, (int)k, i, off);
            }
        }
        str_free(&s);
        str_free(&text);
    }
    end(&f);
}

/* Whatever was asked for before, in whatever order, by this set or another one. */
static void a_step_is_a_pure_function(void **state)
{
    static const char *const configs[] = {"{\"data\":{\"train\":[\"big.jsonl\",\"small.jsonl\"]}}",
                                          mix};
    static const uint64_t seeds[] = {7, 8};
    fixture f;
    (void)state;
    begin(&f, "pure", NULL, false);
    numbered("big.jsonl", 200, 1);
    numbered("small.jsonl", 20, 30);
    for (size_t c = 0; c < FT_COUNT_OF(configs); c++) {
        enum { STEPS = 90, BATCH = 8 };
        static int64_t first[2][STEPS][BATCH];
        data_sample x[BATCH];
        int n;
        memset(first, 0, sizeof first);
        for (int k = 0; k < 2; k++) {
            assert_ok(load(&f, configs[c], true));
            for (int s = 0; s < STEPS; s++) {
                assert_ok(data_take(f.set, seeds[k], s, BATCH, x, &n, f.mem));
                for (int i = 0; i < n; i++) first[k][s][i] = 1000 * x[i].source + x[i].line;
            }
        }
        for (int i = 0; i < 300; i++) {
            int s = (int)(rng_u64(5, (uint64_t)i) % STEPS), k = (int)(rng_u64(6, (uint64_t)i) % 2);
            int64_t line[BATCH] = {0};
            assert_ok(data_take(f.set, seeds[k], s, BATCH, x, &n, f.mem));
            for (int j = 0; j < n; j++) line[j] = 1000 * x[j].source + x[j].line;
            assert_memory_equal(line, first[k][s], sizeof line);
        }
    }
    end(&f);
}

/* --- micro-batches --------------------------------------------------------------------------------------------------- */
static void batches_are_ragged_and_shifted(void **state)
{
    static const int32_t ab[] = {'a', 'b', 'c', 'd', EOS}, ab_l[] = {-100, -100, 'c', 'd', EOS};
    static const int32_t xy[] = {'x', 'y', EOS}, xy_l[] = {-100, 'y', EOS}, pq[] = {'p', 'q', EOS};
    static const int32_t three[] = {3}, five[] = {5};
    const data_sample s[] = {
        {.ids = pq, .labels = pq, .seq_len = three, .len = 3, .n_seq = 1},
        {.ids = ab, .labels = ab_l, .seq_len = five, .len = 5, .n_seq = 1},
        {.ids = xy, .labels = xy_l, .seq_len = three, .len = 3, .n_seq = 1},
    };
    static const data_split whole = {0}, by_two = {.micro_samples = 2},
                            by_tokens = {.micro_tokens = 8};
    static const data_split first = {.count_first = true};
    fixture f;
    data_batch b, c;
    data_step one, step;
    (void)state;
    begin(&f, "batch", NULL, false);
    assert_ok(data_step_plan(s, 3, &whole, &one, f.mem));
    assert_int_equal(one.n_micro, 1);
    assert_ok(data_batch_make(s, &one.micro[0], 99, &b, f.mem));
    assert_int_equal(b.in.n_seq, 3);
    assert_int_equal(b.in.len[0], 3);
    assert_int_equal(b.in.len[1], 5);
    static const int32_t ids[] = {'p', 'q', EOS, 'a', 'b', 'c', 'd', EOS, 'x', 'y', EOS};
    static const int32_t pos[] = {0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2};
    static const int32_t labels[] = {'q', EOS, -100, -100, 'c', 'd', EOS, -100, 'y', EOS, -100};
    static const int32_t firsts[] = {'p', -100, -100};
    assert_int_equal(b.in.tokens, 11);
    assert_memory_equal(b.in.ids, ids, sizeof ids);
    assert_memory_equal(b.in.pos, pos, sizeof pos);
    assert_memory_equal(b.in.label, labels, sizeof labels);
    assert_memory_equal(b.in.first, firsts, sizeof firsts);
    assert_int_equal(b.supervised, 7);
    assert_int_not_equal(b.in.row_key[0], b.in.row_key[1]);
    assert_ok(data_step_plan(s, 3, &first, &step, f.mem));
    assert_int_equal(step.supervised, 8); /* p has a predictor then */
    for (int k = 0; k < 2; k++) {         /* the keys of a token do not depend on the split */
        int64_t at = 0, sup = 0;
        assert_ok(data_step_plan(s, 3, k ? &by_tokens : &by_two, &step, f.mem));
        assert_int_equal(step.n_micro, 2);
        assert_int_equal(step.micro[0].n, 2);
        assert_int_equal(step.tokens, 5 + 3 + 3);
        assert_int_equal(step.supervised, 7);
        for (int i = 0; i < step.n_micro; i++) {
            assert_ok(data_batch_make(s, &step.micro[i], 99, &c, f.mem));
            assert_memory_equal(c.in.row_key, b.in.row_key + at,
                                (size_t)c.in.tokens * sizeof *c.in.row_key);
            assert_memory_equal(c.in.label, b.in.label + at,
                                (size_t)c.in.tokens * sizeof *c.in.label);
            assert_int_equal(c.seq_slot[c.in.n_seq - 1], i + 1);
            at += c.in.tokens;
            sup += c.supervised;
        }
        assert_int_equal(sup, 7);
    }
    end(&f);
}

/* A micro-batch takes neighbours while they fit, with the virtual rows before each; one that fits nowhere stands alone. */
static void tokens_bound_a_micro_batch(void **state)
{
    static const int32_t ids[16] = {0};
    static const int32_t len[] = {4, 4, 9, 2, 6, 1, 8}, want[] = {2, 1, 2, 1, 1};
    static const data_split split[] = {{.micro_tokens = 8},
                                       {.micro_tokens = 12, .virtual_rows = 2}};
    data_sample s[FT_COUNT_OF(len)];
    data_step step;
    fixture f;
    (void)state;
    begin(&f, "bound", NULL, false);
    for (size_t i = 0; i < FT_COUNT_OF(len); i++)
        s[i] =
            (data_sample){.ids = ids, .labels = ids, .seq_len = &len[i], .len = len[i], .n_seq = 1};
    for (size_t k = 0; k < FT_COUNT_OF(split); k++) {
        assert_ok(data_step_plan(s, (int)FT_COUNT_OF(len), &split[k], &step, f.mem));
        assert_int_equal(step.n_micro, FT_COUNT_OF(want));
        for (int i = 0; i < step.n_micro; i++) assert_int_equal(step.micro[i].n, want[i]);
        assert_int_equal(step.tokens, 34);
        assert_int_equal(step.supervised, 34 - 7);
    }
    end(&f);
}

/* A sample of two sequences: they are neighbours, do not see each other, and "concat" leaves them alone. */
static void a_pair_stays_two_sequences(void **state)
{
    static const int32_t ids[] = {1, 2, 3, 1, 4}, labels[] = {-100, 2, 3, -100, 4}, two[] = {3, 2};
    static const int32_t want[] = {2, 3, -100, 4, -100}, pos[] = {0, 1, 2, 0, 1};
    const data_sample s[] = {{.ids = ids, .labels = labels, .seq_len = two, .len = 5, .n_seq = 2},
                             {.ids = ids, .labels = labels, .seq_len = two, .len = 5, .n_seq = 2}};
    static const data_split split = {.row_tokens = 64};
    data_step step;
    data_batch b;
    fixture f;
    (void)state;
    begin(&f, "pair", NULL, false);
    assert_ok(data_step_plan(s, 2, &split, &step, f.mem));
    assert_int_equal(step.n_micro, 1);
    assert_int_equal(step.supervised, 6);
    assert_ok(data_batch_make(s, &step.micro[0], 1, &b, f.mem));
    assert_int_equal(b.in.n_seq, 4);
    assert_int_equal(b.seq_slot[1], 0);
    assert_int_equal(b.seq_slot[2], 1);
    assert_memory_equal(b.in.label, want, sizeof want);
    assert_memory_equal(b.in.label + 5, want, sizeof want);
    assert_memory_equal(b.in.pos, pos, sizeof pos);
    end(&f);
}

static void concat_rows_do_not_depend_on_the_split(void **state)
{
    fixture f;
    data_batch b;
    data_sample s[4];
    (void)state;
    begin(&f, "concat", NULL, false);
    put("k.jsonl",
        "{\"prompt\":\"abc\",\"completion\":\"d\"}\n{\"prompt\":\"efgh\",\"completion\":\"ij\"}\n"
        "{\"prompt\":\"\",\"completion\":\"k\"}\n{\"prompt\":\"lmn\",\"completion\":\"o\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"k.jsonl\",\"packing\":\"concat\",\"max_length\":8}}",
                   true));
    for (int i = 0; i < 4; i++) assert_ok(data_get(f.set, i, &s[i], f.mem));
    /* lengths 5 7 2 5: rows {0, 2} and {1} and {3} */
    for (int k = 0; k < 8; k++) {
        data_split split = {.row_tokens = 8,
                            .micro_samples = k < 4 ? k + 1 : 0,
                            .micro_tokens = k < 4 ? 0 : 5 * (k - 4)};
        data_step step;
        int64_t sup = 0;
        int seqs = 0;
        assert_ok(data_step_plan(s, 4, &split, &step, f.mem));
        for (int i = 0; i < step.n_micro; i++) {
            assert_ok(data_batch_make(s, &step.micro[i], 1, &b, f.mem));
            if (!i) {
                assert_int_equal(b.in.len[0], 7);
                assert_int_equal(b.in.pos[6], 6);
                assert_int_equal(b.in.label[4], 'k'); /* across the border: k is supervised */
            }
            sup += b.supervised;
            seqs += b.in.n_seq;
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
    assert_ok(data_sha256(f.set, one));
    assert_ok(pool_open(4));
    assert_ok(load(&f, "{\"data\":{\"train\":\"t.jsonl\"}}", true));
    assert_ok(data_sha256(f.set, two));
    pool_close();
    assert_string_equal(one, two);
    str_free(&s);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_is_a_permutation_by_seed_and_epoch),
        cmocka_unit_test(mix_follows_the_weights),
        cmocka_unit_test(shares_of_text_are_met_within_a_row),
        cmocka_unit_test(a_step_is_a_pure_function),
        cmocka_unit_test(batches_are_ragged_and_shifted),
        cmocka_unit_test(tokens_bound_a_micro_batch),
        cmocka_unit_test(a_pair_stays_two_sequences),
        cmocka_unit_test(concat_rows_do_not_depend_on_the_split),
        cmocka_unit_test(threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
