/* lines.c – text line by line, from a file (plain or compressed) or from standard input. */
#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_LIMIT = 16 << 20, FIRST_BUFFER = 256 << 10 };

struct line_reader {
    io_bytes src;
    char *path;
    char *buf;
    size_t cap, at, have; /* [at, have) is read but not yet handed out */
    int64_t number;
};

ft_status lines_open(line_reader **out, const char *path)
{
    return lines_open_as(out, path, path ? path : "standard input");
}

ft_status lines_open_as(line_reader **out, const char *path, const char *name)
{
    *out = NULL;
    line_reader *r = ft_alloc(1, sizeof *r);
    if (!r) return FT_EMEM;
    r->src.fd = -1;
    r->path = ft_strdup(name);
    r->cap = FIRST_BUFFER;
    r->buf = ft_alloc(r->cap, 1);
    ft_status rc = r->path && r->buf ? FT_OK : FT_EMEM;
    r->src.path = r->path;
    if (rc == FT_OK && path) rc = io_bytes_open(&r->src, path, r->path);
    if (rc != FT_OK) {
        lines_close(r);
        return rc;
    }
    *out = r;
    return FT_OK;
}

void lines_close(line_reader *r)
{
    if (!r) return;
    io_bytes_close(&r->src);
    ft_free(r->path);
    ft_free(r->buf);
    ft_free(r);
}

ft_status lines_record(const line_reader *r, const char *text, size_t len, const char *remedy)
{
    size_t i = 0;
    while (i < len && (text[i] == ' ' || text[i] == '\t')) i++;
    while (len > i + 1 && strchr(" \t\r\n", text[len - 1])) len--;
    FT_CHECK(i == len || text[i] != '[', FT_EDATA,
             "%s:%lld:%zu: this is a list of records (a JSON array), not one record a line%s",
             r->path, (long long)r->number, i + 1, remedy);
    FT_CHECK(
        len != i + 1 || text[i] != '{', FT_EDATA,
        "%s:%lld:%zu: a record begins here and goes on in further lines, where each must stand "
        "on one line%s",
        r->path, (long long)r->number, i + 1, remedy);
    return FT_OK;
}

int64_t lines_number(const line_reader *r)
{
    return r->number;
}

bool lines_packed(const line_reader *r)
{
    return r->src.packing != NULL;
}

const char *lines_name(const line_reader *r)
{
    return r->path;
}

bool lines_blank(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    return true;
}

ft_status lines_next_filled(line_reader *r, const char **text, size_t *len)
{
    do FT_TRY(lines_next(r, text, len));
    while (lines_blank(*text, *len));
    return FT_OK;
}

/* Makes room for at least one more byte and the closing NUL behind [at, have). */
static ft_status make_room(line_reader *r)
{
    if (r->at > 0) {
        memmove(r->buf, r->buf + r->at, r->have - r->at);
        r->have -= r->at;
        r->at = 0;
    }
    if (r->have + 1 < r->cap) return FT_OK;
    size_t cap = 2 * r->cap;
    if (cap > (size_t)LINE_LIMIT + 2) cap = (size_t)LINE_LIMIT + 3; /* the line, CR, LF, NUL */
    FT_CHECK(cap > r->cap, FT_EDATA, "%s:%lld: a line of more than %d MiB", r->path,
             (long long)(r->number + 1), LINE_LIMIT >> 20);
    char *more = ft_realloc(r->buf, cap, 1);
    if (!more) return FT_EMEM;
    r->buf = more;
    r->cap = cap;
    return FT_OK;
}

/* What has come of a line that is not whole is taken in, or it would be waited for. A failure is told by the next read. */
bool lines_ready(line_reader *r)
{
    io_bytes *s = &r->src;
    size_t got;
    for (;;) {
        if (!io_bytes_wait(s) || memchr(r->buf + r->at, '\n', r->have - r->at)) return true;
        if (!io_bytes_ready(s)) return false;
        if (r->have - r->at > LINE_LIMIT || make_room(r) != FT_OK ||
            io_bytes_read(s, r->buf + r->have, r->cap - 1 - r->have, &got) != FT_OK)
            return true;
        r->have += got;
    }
}

static ft_status hand_out(line_reader *r, size_t len, size_t used, const char **text,
                          size_t *out_len)
{
    char *line = r->buf + r->at;
    if (used > len && len > 0 && line[len - 1] == '\r') len--;
    r->number++;
    r->src.line = r->number;
    FT_CHECK(len <= LINE_LIMIT, FT_EDATA, "%s:%lld: a line of more than %d MiB", r->path,
             (long long)r->number, LINE_LIMIT >> 20);
    line[len] = '\0';
    *text = line;
    *out_len = len;
    r->at += used;
    return FT_OK;
}

ft_status lines_next(line_reader *r, const char **text, size_t *len)
{
    size_t searched = 0; /* of the bytes from `at` on, holding no LF */
    for (;;) {
        size_t have = r->have - r->at, got;
        const char *from = r->buf + r->at + searched;
        const char *lf = have > searched ? memchr(from, '\n', have - searched) : NULL;
        if (lf) {
            size_t n = (size_t)(lf - (r->buf + r->at));
            return hand_out(r, n, n + 1, text, len);
        }
        searched = have;
        FT_TRY(make_room(r));
        FT_TRY(io_bytes_read(&r->src, r->buf + r->have, r->cap - 1 - r->have, &got));
        if (got == 0) break;
        r->have += got;
    }
    *text = "";
    *len = 0;
    if (r->have == r->at) return FT_END;
    return hand_out(r, r->have - r->at, r->have - r->at, text, len); /* no LF at the end */
}

int64_t lines_offset(const line_reader *r)
{
    return r->src.given - (int64_t)(r->have - r->at);
}

ft_status lines_share(const line_reader *r, double *share)
{
    struct stat sb;
    const off_t at = lseek(r->src.fd, 0, SEEK_CUR);
    *share = 1;
    if (at < 0 && errno == ESPIPE) return FT_OK;
    if (at < 0 || fstat(r->src.fd, &sb) != 0)
        return ft_fail_errno(FT_EIO, "%s: cannot be looked at", r->src.path);
    if (sb.st_size > 0)
        *share = (double)(at - (off_t)(r->src.have - r->src.at)) / (double)sb.st_size;
    return FT_OK;
}

ft_status lines_seek(line_reader *r, int64_t byte, int64_t number)
{
    r->at = r->have = 0;
    r->number = r->src.line = number;
    return io_bytes_seek(&r->src, byte);
}

ft_status lines_read(line_reader *r, void *out, size_t room, size_t *n)
{
    size_t held = r->have - r->at;
    if (!held) return io_bytes_read(&r->src, out, room, n);
    *n = held < room ? held : room;
    memcpy(out, r->buf + r->at, *n);
    r->at += *n;
    return FT_OK;
}

ft_status text_read(char **out, size_t *len, const char *path, size_t limit)
{
    io_bytes s;
    size_t cap = 1 << 16, n = 0, got;
    char *text = NULL;
    ft_status rc;

    *out = NULL;
    *len = 0;
    int64_t size;
    FT_TRY(path_size(path, &size));
    FT_TRY(io_bytes_open(&s, path, path));
    FT_GUARD(s.packing || size < 0 || (size_t)size <= limit, FT_EDATA,
             "%s: is longer than %zu bytes", path, limit);
    if (!s.packing && size > 0 && (size_t)size < limit) cap = (size_t)size + 2;
    text = ft_alloc(cap, 1);
    if (!text) {
        rc = FT_EMEM;
        goto out;
    }
    for (;;) {
        if (n + 1 == cap) {
            char *more = cap <= SIZE_MAX / 2 ? ft_realloc(text, 2 * cap, 1) : NULL;
            if (!more) {
                rc = FT_EMEM;
                goto out;
            }
            text = more;
            cap *= 2;
        }
        FT_TRY_OUT(io_bytes_read(&s, text + n, cap - 1 - n, &got));
        if (got == 0) break;
        for (size_t i = n; i < n + got; i++) s.line += text[i] == '\n';
        n += got;
        FT_GUARD(n <= limit, FT_EDATA, "%s: is longer than %zu bytes", path, limit);
    }
    text[n] = '\0';
out:
    io_bytes_close(&s);
    if (rc != FT_OK) {
        ft_free(text);
        return rc;
    }
    *out = text;
    *len = n;
    return FT_OK;
}

ft_status lines_spool(int *fd)
{
    io_bytes in = {.path = "standard input", .fd = -1};
    const char *dir = getenv("TMPDIR");
    char name[PATH_MAX], *chunk = ft_alloc(IO_BYTES_INPUT, 1);
    size_t got = 1;
    ft_status rc = FT_OK;
    *fd = -1;
    if (!chunk) return FT_EMEM;
    snprintf(name, sizeof name, "%s/ft-XXXXXX", dir && *dir ? dir : "/tmp");
    *fd = mkostemp(name, O_CLOEXEC);
    if (*fd < 0)
        rc = ft_fail_errno(FT_EIO, "%s: standard input cannot be kept there; set TMPDIR", name);
    else
        unlink(name);
    while (rc == FT_OK && got) {
        rc = io_bytes_read(&in, chunk, IO_BYTES_INPUT, &got);
        for (size_t at = 0; rc == FT_OK && at < got;) {
            ssize_t put = write(*fd, chunk + at, got - at);
            if (put < 0 && errno == EINTR) continue;
            if (put < 0)
                rc = ft_fail_errno(FT_EIO, "%s: standard input cannot be kept there; set TMPDIR",
                                   name);
            at += put > 0 ? (size_t)put : 0;
        }
    }
    ft_free(chunk);
    if (rc != FT_OK && *fd >= 0) close(*fd);
    return rc;
}
