/* test_format.c – a format that gives pairs: samples of two sequences, each cut for itself, with a value and what goes
 * along, all the way to a batch. */
#include "data_fixture.h"

static const char records[] =
    "{\"prompt\":\"ab\",\"better\":\"cd\",\"worse\":\"e\",\"margin\":0.5}\n"
    "{\"prompt\":\"p\",\"better\":\"qrstuvw\",\"worse\":\"x\",\"answer\":\"4\\\"2\",\"id\":1}\n"
    "{\"prompt\":\"123456\",\"better\":\"7\",\"worse\":\"\"}\n";

static void pairs_are_two_sequences(void **state)
{
    fixture f;
    data_sample s[3], *x = s;
    char one[65], two[65];
    (void)state;
    begin(&f, "pairs", NULL, false);
    put("p.jsonl", records);
    assert_ok(load(&f, "{\"data\":{\"train\":\"p.jsonl\",\"max_length\":5}}", true));
    const data_source_stats *st = data_stats(f.set, 0);
    assert_string_equal(st->format, "pairs");
    assert_int_equal(st->records, 3);
    assert_int_equal(data_count(f.set), 2); /* nothing to learn remains on a side of the third */
    assert_int_equal(st->dropped, 1);
    assert_int_equal(st->truncated, 1);
    assert_int_equal(st->longest, 8);
    assert_int_equal(st->n_unread, 1);
    assert_ok(data_get(f.set, 0, x, f.mem));
    assert_int_equal(x->n_seq, 2);
    assert_int_equal(x->seq_len[0], 4);
    assert_int_equal(x->seq_len[1], 3);
    static const int32_t ids[] = {'a', 'b', 'c', 'd', 'a', 'b', 'e'};
    static const int32_t labels[] = {-100, -100, 'c', 'd', -100, -100, 'e'};
    assert_int_equal(x->len, 7);
    assert_memory_equal(x->ids, ids, sizeof ids);
    assert_memory_equal(x->labels, labels, sizeof labels);
    assert_true(x->value == 0.5);
    assert_null(x->extra);
    assert_ok(data_get(f.set, 1, x, f.mem));
    assert_int_equal(x->seq_len[0], 5);
    assert_int_equal(x->seq_len[1], 2);
    assert_int_equal(x->ids[4], 't');
    assert_int_equal(x->ids[5], 'p');
    assert_true(x->value == 0);
    assert_string_equal(x->extra, "{\"answer\":\"4\\\"2\"}");
    assert_int_equal(st->supervised, 3 + 5);

    static const data_split split = {.micro_samples = 1};
    data_step step;
    data_batch b;
    int n;
    assert_ok(data_take(f.set, 1, 0, 3, s, &n, f.mem));
    assert_int_equal(n, 2);
    assert_ok(data_step_plan(s, n, &split, &step, f.mem));
    assert_int_equal(step.n_micro, 2);
    assert_int_equal(step.supervised, 8);
    assert_ok(data_batch_make(s, &step.micro[0], 1, &b, f.mem));
    assert_int_equal(b.in.n_seq, 2);

    assert_ok(data_sha256(f.set, one));
    put("p.jsonl",
        "{\"prompt\":\"ab\",\"better\":\"cd\",\"worse\":\"e\",\"margin\":0.25}\n"
        "{\"prompt\":\"p\",\"better\":\"qrstuvw\",\"worse\":\"x\",\"answer\":\"4\\\"2\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"p.jsonl\",\"max_length\":5}}", true));
    assert_ok(data_sha256(f.set, two));
    assert_string_not_equal(one, two);
    end(&f);
}

/* The shipped formats are tried first. */
static void shipped_formats_come_first(void **state)
{
    fixture f;
    (void)state;
    begin(&f, "first", NULL, false);
    put("b.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\",\"better\":\"c\",\"worse\":\"d\"}\n");
    assert_ok(load(&f, "{\"data\":{\"train\":\"b.jsonl\"}}", true));
    assert_string_equal(data_stats(f.set, 0)->format, "completion");
    assert_ok(load(&f, "{\"data\":{\"train\":{\"path\":\"b.jsonl\",\"format\":\"pairs\"}}}", true));
    assert_string_equal(data_stats(f.set, 0)->format, "pairs");
    assert_fails(
        load(&f, "{\"data\":{\"train\":{\"path\":\"b.jsonl\",\"format\":\"pears\"}}}", true),
        FT_ECONFIG, "pairs");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pairs_are_two_sequences),
                                       cmocka_unit_test(shipped_formats_come_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
