/* test_zstd.c – text packed by zstd: the same lines, every kind of damage, and going back in it. */
#include "support.h"

#include <zstd.h>

#include "ft/io.h"

/* One frame with its checksum, and the size of its content unless it is streamed. */
static uint8_t *frame(const void *data, size_t n, bool checksum, size_t *out_n)
{
    size_t cap = ZSTD_compressBound(n);
    uint8_t *out = test_alloc(cap);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    assert_non_null(c);
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, checksum);
    *out_n = ZSTD_compress2(c, out, cap, data, n);
    assert_false(ZSTD_isError(*out_n));
    ZSTD_freeCCtx(c);
    return out;
}

static char *sample(size_t lines, size_t *n)
{
    char *text = test_alloc(lines * 60 + 1);
    *n = 0;
    for (size_t i = 0; i < lines; i++) {
        *n += (size_t)sprintf(text + *n, "%zu:", i);
        for (size_t k = 0; k < i % 40; k++) text[(*n)++] = (char)('a' + test_u64(i, k) % 26);
        text[(*n)++] = '\n';
    }
    return text;
}

static ft_status read_all(const char *path, int64_t *lines)
{
    line_reader *r;
    const char *text;
    size_t n;
    ft_status rc = lines_open(&r, path);
    *lines = 0;
    if (rc != FT_OK) return rc;
    while ((rc = lines_next(r, &text, &n)) == FT_OK) ++*lines;
    lines_close(r);
    return rc == FT_END ? FT_OK : rc;
}

static void zstd_gives_the_same_bytes(void **state)
{
    static const uint8_t skipped[] = {0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z'};
    size_t n, z1, z2, z3, len;
    const char *text = sample(100000, &n);
    uint8_t *a = frame(text, n / 3, true, &z1), *b = frame(text + n / 3, n - n / 3, false, &z2);
    uint8_t *none = frame("", 0, true, &z3),
            *all = test_alloc(z1 + z2 + 2 * z3 + 2 * sizeof skipped);
    char *whole;
    size_t at = 0;
    (void)state;
    struct {
        const void *data;
        size_t n;
    } parts[] = {{skipped, sizeof skipped}, {a, z1}, {none, z3},
                 {skipped, sizeof skipped}, {b, z2}, {none, z3}};
    for (size_t i = 0; i < FT_COUNT_OF(parts); i++) {
        memcpy(all + at, parts[i].data, parts[i].n);
        at += parts[i].n;
    }
    test_write_file(test_path("t.jsonl.zst"), all, at);
    assert_ok(text_read(&whole, &len, test_path("t.jsonl.zst"), n));
    assert_int_equal(len, n);
    assert_memory_equal(whole, text, n);
    ft_free(whole);
    assert_fails(text_read(&whole, &len, test_path("t.jsonl.zst"), n - 1), FT_EDATA, "longer than");
    test_write_file(test_path("t.jsonl"), all, at); /* known by its bytes, not by its name */
    assert_ok(text_read(&whole, &len, test_path("t.jsonl"), n));
    assert_int_equal(len, n);
    ft_free(whole);
}

static void damaged_zstd_is_noticed(void **state)
{
    static const char *const tails[] = {"\n", "garbage", "\x28\xb5\x2f", "\x28\xb5\x2f\xfd"};
    size_t n, z;
    int64_t lines;
    char *text = sample(3000, &n), *whole;
    const char *path = test_path("cut.jsonl.zst");
    const uint8_t *good = frame(text, n, true, &z);
    char *copy = test_alloc(z + 16);
    (void)state;
    for (size_t cut = 0; cut < z; cut += 1 + z / 300) {
        test_write_file(path, good, cut);
        assert_fails(read_all(path, &lines), FT_EDATA, "cut.jsonl.zst:");
        assert_fails(text_read(&whole, &n, path, 1 << 24), FT_EDATA, "cut.jsonl.zst:");
    }
    for (size_t back = 1; back <= 4; back++) { /* the checksum */
        memcpy(copy, good, z);
        copy[z - back] ^= 0x10;
        test_write_file(path, copy, z);
        assert_fails(read_all(path, &lines), FT_EDATA, "checksum");
    }
    for (size_t i = 0; i < FT_COUNT_OF(tails); i++) {
        memcpy(copy, good, z);
        memcpy(copy + z, tails[i], strlen(tails[i]));
        test_write_file(path, copy, z + strlen(tails[i]));
        assert_fails(read_all(path, &lines), FT_EDATA, "cut.jsonl.zst:3001: ");
        assert_int_equal(lines, 3000);
    }
    test_write_file(path, "{}\n", 3);
    assert_fails(read_all(path, &lines), FT_EDATA, "cut.jsonl.zst:1: is not zstd data");
    test_write_file(path, "", 0);
    assert_fails(read_all(path, &lines), FT_EDATA, "is not zstd data");
    test_write_file(path, good, z);
    assert_ok(read_all(path, &lines));
    assert_int_equal(lines, 3000);
}

/* Any place again, within what is kept and far before it. */
static void going_back_gives_the_same_bytes(void **state)
{
    size_t n, z, got;
    const char *text = sample(700000, &n);
    const uint8_t *packed = frame(text, n, true, &z);
    char *part = test_alloc(100000);
    line_reader *r;
    (void)state;
    assert_true(n > (20u << 20) / 2);
    test_write_file(test_path("seek.txt.zst"), packed, z);
    assert_ok(lines_open(&r, test_path("seek.txt.zst")));
    assert_ok(lines_seek(r, 0, 0));
    for (uint64_t i = 0; i < 40; i++) {
        size_t at = (size_t)(test_u64(5, i) % (n - 100000)), have = 0;
        if (i % 4) at = n / 2 + at % (6u << 20);
        if (i == 39) at = n - 100000;
        assert_ok(lines_seek(r, (int64_t)at, 0));
        assert_int_equal(lines_offset(r), at);
        while (have < 100000) {
            assert_ok(lines_read(r, part + have, 100000 - have, &got));
            assert_true(got > 0);
            have += got;
        }
        assert_memory_equal(part, text + at, 100000);
    }
    assert_ok(lines_read(r, part, 1, &got));
    assert_int_equal(got, 0);
    assert_ok(lines_seek(r, (int64_t)n - 7, 0)); /* the end was met, and is met again */
    assert_ok(lines_read(r, part, 100, &got));
    assert_int_equal(got, 7);
    assert_ok(lines_read(r, part, 100, &got));
    assert_int_equal(got, 0);
    lines_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zstd_gives_the_same_bytes),
        cmocka_unit_test(damaged_zstd_is_noticed),
        cmocka_unit_test(going_back_gives_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
