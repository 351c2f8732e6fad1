/* What is packed. Byte 0: whether the input is the packed file (.gz, .zst, or either by its magic), or text that is packed here
 * as two members. Its lines are read, it is read again from places in it, and whole. */
#include "fuzz.h"

#include <zlib.h>
#include <zstd.h>

static size_t pack_gz(uint8_t *out, size_t room, const uint8_t *text, size_t n)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)text, .avail_in = (uInt)n};
    z.next_out = out;
    z.avail_out = (uInt)room;
    FZ_CHECK(deflateInit2(&z, 1, Z_DEFLATED, 31, 8, 0) == Z_OK);
    FZ_CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    size_t got = room - z.avail_out;
    deflateEnd(&z);
    return got;
}

static size_t pack_zst(uint8_t *out, size_t room, const uint8_t *text, size_t n)
{
    size_t got = ZSTD_compress(out, room, text, n, 1);
    FZ_CHECK(!ZSTD_isError(got));
    return got;
}

static const char *pack(const uint8_t *text, size_t n, bool zst)
{
    size_t room = n + n / 8 + 4096, half = n / 2, at = 0;
    uint8_t *out = malloc(room);
    FZ_CHECK(out);
    size_t (*one)(uint8_t *, size_t, const uint8_t *, size_t) = zst ? pack_zst : pack_gz;
    at = one(out, room, text, half);
    at += one(out + at, room - at, text + half, n - half);
    const char *path = fz_put(zst ? "d.jsonl.zst" : "d.jsonl.gz", out, at);
    free(out);
    return path;
}

/* The lines from a place that reading stood at once are those that came then. */
static void again(line_reader *r, int64_t byte, int64_t number, const str_buf *rest)
{
    const char *line;
    size_t n, at = 0;
    ft_status rc = lines_seek(r, byte, number);
    fz_must(rc);
    while ((rc = lines_next(r, &line, &n)) == FT_OK) {
        FZ_CHECK(at + n + 1 <= rest->len && memcmp(rest->data + at, line, n) == 0);
        at += n + 1;
    }
    FZ_CHECK(rc == FT_END && at == rest->len);
}

static void lines(const char *path)
{
    line_reader *r = NULL;
    const char *line;
    str_buf rest = {0};
    size_t n;
    int64_t count = 0, byte = -1;
    ft_status rc = lines_open(&r, path);
    fz_status(rc);
    if (rc != FT_OK) return;
    while ((rc = lines_next(r, &line, &n)) == FT_OK) {
        fz_touch(line, n);
        FZ_CHECK(++count == lines_number(r));
        if (byte >= 0) {
            str_add(&rest, line, n);
            str_addc(&rest, '\n');
        }
        if (count == 2) byte = lines_offset(r);
    }
    fz_status(rc);
    double share = 0;
    fz_status(lines_share(r, &share));
    FZ_CHECK(share >= 0 && share <= 1);
    if (rc == FT_END && byte >= 0) again(r, byte, 2, &rest);
    str_free(&rest);
    lines_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"d.jsonl.gz", "d.jsonl.zst", "d.jsonl"};
    char *text = NULL;
    size_t n;
    fz_start();
    if (size < 1) return 0;
    const char *path = data[0] & 8 ? pack(data + 1, size - 1, data[0] & 1)
                                   : fz_put(names[data[0] % 3], data + 1, size - 1);
    lines(path);
    ft_status rc = text_read(&text, &n, path, (size_t)1 << 20);
    fz_status(rc);
    if (rc == FT_OK) {
        FZ_CHECK(!(data[0] & 8) || (n == size - 1 && memcmp(text, data + 1, n) == 0));
        ft_free(text);
    }
    unlink(path);
    return 0;
}
