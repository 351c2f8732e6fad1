/* test_lines.c – text lines, plain and gzip: line ends, limits, and every kind of damage. */
#include "support.h"

#include "ft/io.h"

#include <unistd.h>

/* Reads all lines; the status that ended it, and their number. */
static ft_status read_all(const char *path, int64_t *lines)
{
    line_reader *r;
    const char *text;
    size_t n;
    ft_status rc = lines_open(&r, path);
    *lines = 0;
    if (rc != FT_OK) return rc;
    while ((rc = lines_next(r, &text, &n)) == FT_OK) {
        ++*lines;
        assert_int_equal(lines_number(r), *lines);
        assert_int_equal(text[n], 0);
    }
    lines_close(r);
    return rc == FT_END ? FT_OK : rc;
}

static void line_ends(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int n;
        const char *lines[4];
        size_t size;
    } cases[] = {
        {"", 0, {0}, 0},
        {"a", 1, {"a"}, 1},
        {"a\n", 1, {"a"}, 2},
        {"a\n\n", 2, {"a", ""}, 3},
        {"a\r\nb\r\n", 2, {"a", "b"}, 6},
        {"a\r\n\r\nb", 3, {"a", "", "b"}, 6},
        {"a\rb\r", 1, {"a\rb\r"}, 4}, /* a CR without LF is text */
        {"\r\r\n", 1, {"\r"}, 3},
        {"\n", 1, {""}, 1},
    };
    const char *path = test_path("ends.txt");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        for (int zipped = 0; zipped < 2; zipped++) {
            size_t n = cases[i].size;
            const void *data =
                zipped ? (const void *)test_gzip(cases[i].text, n, &n) : cases[i].text;
            line_reader *r;
            const char *text;
            test_write_file(path, data, n);
            assert_ok(lines_open(&r, path));
            for (int k = 0; k < cases[i].n; k++) {
                assert_ok(lines_next(r, &text, &n));
                assert_string_equal(text, cases[i].lines[k]);
                assert_int_equal(n, strlen(text));
                assert_int_equal(lines_number(r), k + 1);
            }
            assert_int_equal(lines_next(r, &text, &n), FT_END);
            assert_int_equal(lines_next(r, &text, &n), FT_END);
            lines_close(r);
        }
    }
}

/* 3000 lines of growing length, about 4.5 MB, and their gzip form. */
static char *sample(size_t *n)
{
    char *text = test_alloc(6000000);
    *n = 0;
    for (int i = 0; i < 3000; i++) {
        *n += (size_t)sprintf(text + *n, "%d:", i);
        for (int k = 0; k < i; k++)
            text[(*n)++] = (char)('a' + test_u64((uint64_t)i, (uint64_t)k) % 26);
        text[(*n)++] = '\n';
    }
    return text;
}

static void gzip_gives_the_same_lines(void **state)
{
    (void)state;
    size_t n, z1, z2, len;
    const char *text = sample(&n), *got;
    size_t half = n / 2;
    uint8_t *a = test_gzip(text, half, &z1), *b = test_gzip(text + half, n - half, &z2);
    uint8_t *both = test_alloc(z1 + z2 + 8);
    memcpy(both, a, z1);
    memcpy(both + z1, b, z2);
    test_write_file(test_path("two.gz"), both, z1 + z2);

    line_reader *r;
    assert_ok(lines_open(&r, test_path("two.gz")));
    const char *p = text;
    for (int i = 0; i < 3000; i++) {
        assert_ok(lines_next(r, &got, &len));
        assert_memory_equal(got, p, len);
        p += len + 1;
    }
    assert_int_equal(lines_next(r, &got, &len), FT_END);
    assert_ptr_equal(p, text + n);
    lines_close(r);

    char *whole;
    assert_ok(text_read(&whole, &len, test_path("two.gz"), n));
    assert_int_equal(len, n);
    assert_memory_equal(whole, text, n + 1);
    ft_free(whole);
    assert_fails(text_read(&whole, &len, test_path("two.gz"), n - 1), FT_EDATA, "longer than");
}

static void damaged_gzip_is_noticed(void **state)
{
    (void)state;
    size_t n = 20000, z;
    int64_t lines;
    char *text = test_alloc(n + 1), *copy, *whole;
    const char *path = test_path("cut.jsonl.gz");
    for (size_t i = 0; i < n; i++)
        text[i] = i % 50 == 49 ? '\n' : (char)('a' + test_u64(1, i) % 26);
    const uint8_t *good = test_gzip(text, n, &z);
    for (size_t cut = 0; cut < z; cut += z / 200) {
        test_write_file(path, good, cut);
        assert_fails(read_all(path, &lines), FT_EDATA, "cut.jsonl.gz:");
        char where[64];
        snprintf(where, sizeof where, "cut.jsonl.gz:%lld: ", (long long)lines + 1);
        assert_non_null(strstr(ft_error(), where));
        assert_fails(text_read(&whole, &n, path, 1 << 20), FT_EDATA, "cut.jsonl.gz:");
    }
    test_write_file(path, good, z);
    assert_ok(read_all(path, &lines));
    assert_int_equal(lines, 400);

    copy = test_alloc(z + 16);
    for (size_t back = 1; back <= 8; back++) { /* checksum and length */
        memcpy(copy, good, z);
        copy[z - back] ^= 0x10;
        test_write_file(path, copy, z);
        assert_fails(read_all(path, &lines), FT_EDATA, "cut.jsonl.gz:401: incorrect");
        assert_int_equal(lines, 400);
    }
    static const size_t header[] = {0, 1, 2, 3}; /* magic, method, reserved flags */
    for (size_t i = 0; i < FT_COUNT_OF(header); i++) {
        memcpy(copy, good, z);
        copy[header[i]] ^= (char)0xe0;
        test_write_file(path, copy, z);
        assert_fails(read_all(path, &lines), FT_EDATA, "cut.jsonl.gz:1: ");
    }
    static const char *const tails[] = {"\0",   "\n",       "garbage",
                                        "\x1f", "\x1f\x8b", "\x1f\x8b\x08\0\0"};
    static const size_t tail_n[] = {1, 1, 7, 1, 2, 5};
    for (size_t i = 0; i < FT_COUNT_OF(tails); i++) {
        memcpy(copy, good, z);
        memcpy(copy + z, tails[i], tail_n[i]);
        test_write_file(path, copy, z + tail_n[i]);
        assert_fails(read_all(path, &lines), FT_EDATA, "cut.jsonl.gz:401: ");
    }
}

static void lines_have_a_limit(void **state)
{
    (void)state;
    size_t cap = 16 << 20, z;
    char *text = test_alloc(cap + 8);
    int64_t lines;
    const char *path = test_path("long.txt");
    memset(text, 'x', cap + 8);
    text[cap] = '\n';
    test_write_file(path, text, cap + 1);
    assert_ok(read_all(path, &lines));
    memcpy(text + cap, "\r\nab", 4);
    test_write_file(path, text, cap + 4);
    assert_ok(read_all(path, &lines));
    assert_int_equal(lines, 2);
    test_write_file(path, text, cap);
    assert_ok(read_all(path, &lines));
    memcpy(text, "short\n", 6);
    memset(text + cap, 'x', 6);
    text[cap + 7] = '\n';
    test_write_file(path, text, cap + 8);
    assert_fails(read_all(path, &lines), FT_EDATA, "long.txt:2: a line of more than 16 MiB");
    test_write_file(path, text, cap + 7);
    assert_fails(read_all(path, &lines), FT_EDATA, "long.txt:2: a line of more than 16 MiB");

    /* a bomb: 64 MiB of zeros in 64 KiB */
    size_t big = 64 << 20;
    const uint8_t *bomb = test_gzip(test_alloc(big), big, &z);
    test_write_file(test_path("bomb.gz"), bomb, z);
    assert_fails(read_all(test_path("bomb.gz"), &lines), FT_EDATA, "bomb.gz:1: a line");
}

static void missing_and_odd_files(void **state)
{
    (void)state;
    int64_t lines;
    assert_fails(read_all(test_path("none.jsonl"), &lines), FT_ENOINPUT, "none.jsonl");
    assert_fails(read_all(test_dir(), &lines), FT_EDATA, "folder");
    test_write_file(test_path("plain.gz"), "{}\n", 3);
    assert_fails(read_all(test_path("plain.gz"), &lines), FT_EDATA, "is not gzip data");
    test_write_file(test_path("one"), "\x1f", 1);
    assert_ok(read_all(test_path("one"), &lines));
    assert_int_equal(lines, 1);
}

static ft_status read_rest(line_reader *r, int64_t *n)
{
    const char *line;
    size_t len;
    ft_status rc;
    for (*n = 0; (rc = lines_next(r, &line, &len)) == FT_OK;) ++*n;
    return rc;
}

/* What is missing at the end would be taken for records that never were. */
static void a_file_cut_while_it_is_read(void **state)
{
    (void)state;
    static char text[400000];
    const char *path = test_path("cut.jsonl"), *line;
    line_reader *r;
    size_t len;
    int64_t n;
    for (size_t i = 0; i < sizeof text; i += 4) memcpy(text + i, "{ }\n", 4);
    test_write_file(path, text, sizeof text);
    assert_ok(lines_open(&r, path));
    assert_ok(lines_next(r, &line, &len));
    assert_int_equal(truncate(path, 200000), 0);
    assert_fails(read_rest(r, &n), FT_EDATA, "cut.jsonl: was cut while it was read");
    lines_close(r);
    test_write_file(path, text, 400); /* one that grows is read to its end */
    assert_ok(lines_open(&r, path));
    test_write_file(path, text, 800);
    assert_int_equal(read_rest(r, &n), FT_END);
    assert_true(n == 100 || n == 200);
    lines_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_ends),
        cmocka_unit_test(gzip_gives_the_same_lines),
        cmocka_unit_test(damaged_gzip_is_noticed),
        cmocka_unit_test(lines_have_a_limit),
        cmocka_unit_test(missing_and_odd_files),
        cmocka_unit_test(a_file_cut_while_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
