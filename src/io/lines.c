/* lines.c – text line by line, from a file (plain or gzip) or from standard input.
 *
 * Standard input is read through poll: a line is handed out as soon as it is there, because a harness may send one
 * and wait for its answer before it sends the next, and a request to stop does not wait for another line.
 *
 * The inflate loop is our own because zlib's gzread takes a truncated file for a finished one and
 * ignores bytes behind the last member: both would silently shorten a training set. Here every
 * member must end with its checksum and length, and nothing but further members may follow. Whether
 * a file is gzip is told by its first two bytes; a name ending in .gz without them is refused. */
#include "ft/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    INPUT = 64 << 10,
    LINE_LIMIT = 16 << 20,
    FIRST_BUFFER = 256 << 10,
    POLL_MS = 200 /* a signal restarts a read, so the flag is looked at this often while waiting */
};

/* A place in compressed data that reading can go back to. */
typedef struct snapshot {
    bool taken, inflating;
    int64_t given;
    off_t at; /* byte of the file that comes next */
    z_stream z;
} snapshot;
enum { SNAPSHOTS = 4, BETWEEN = 4 << 20 };

/* A stream of plain bytes. */
typedef struct source {
    const char *path;
    int fd;
    bool gzip, inflating; /* inflating: inside a member */
    bool ended;
    bool pipe; /* or a terminal: what has come goes to the caller at once, as of standard input */
    z_stream z;
    uint8_t *in;        /* NULL: standard input */
    size_t at, have;    /* unread part of `in` */
    const char *failed; /* what is wrong behind the bytes handed out so far; NULL: nothing */
    int64_t line;       /* complete lines handed out, for messages */
    int64_t given;      /* bytes handed out */
    snapshot kept[SNAPSHOTS];
    int n_kept; /* taken so far */
} source;

struct line_reader {
    source src;
    char *path;
    char *buf;
    size_t cap, at, have; /* [at, have) is read but not yet handed out */
    int64_t number;
};

static void *z_alloc(void *opaque, unsigned items, unsigned size)
{
    (void)opaque;
    return ft_alloc(items, size);
}

static void z_free(void *opaque, void *p)
{
    (void)opaque;
    ft_free(p);
}

static ft_status damaged(const source *s, const char *what)
{
    return ft_fail(FT_EDATA, "%s:%lld: %s; is the download complete?", s->path,
                   (long long)(s->line + 1), what);
}

/* Reads more input when all is used; have == 0 afterwards means the end of the file. */
static ft_status refill(source *s)
{
    if (s->at < s->have) return FT_OK;
    ssize_t got;
    do got = read(s->fd, s->in, INPUT);
    while (got < 0 && errno == EINTR);
    if (got < 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", s->path);
    s->at = 0;
    s->have = (size_t)got;
    return FT_OK;
}

static void source_close(source *s)
{
    if (s->gzip) inflateEnd(&s->z);
    for (int i = 0; i < SNAPSHOTS; i++)
        if (s->kept[i].taken) inflateEnd(&s->kept[i].z);
    memset(s->kept, 0, sizeof s->kept);
    if (s->fd >= 0) close(s->fd);
    ft_free(s->in);
    s->fd = -1;
    s->in = NULL;
    s->gzip = false;
}

/* The two magic bytes may come in two reads when the file is a pipe. */
static ft_status detect_gzip(source *s)
{
    FT_TRY(refill(s));
    while (s->have == 1) {
        ssize_t got = read(s->fd, s->in + 1, INPUT - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", s->path);
        if (got == 0) break;
        s->have += (size_t)got;
    }
    bool magic = s->have >= 2 && s->in[0] == 0x1f && s->in[1] == 0x8b;
    if (!magic && str_ends(s->path, ".gz")) return damaged(s, "is not gzip data");
    if (!magic) return FT_OK;
    s->z.zalloc = z_alloc;
    s->z.zfree = z_free;
    if (inflateInit2(&s->z, 15 + 16) != Z_OK) return ft_fail(FT_EMEM, "%s: out of memory", s->path);
    s->gzip = s->inflating = true;
    return FT_OK;
}

static ft_status source_open(source *s, const char *path, const char *name)
{
    struct stat sb = {0};
    *s = (source){.path = name};
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) return ft_fail_errno(FT_EIO, "%s: cannot be opened", name);
    ft_status rc = FT_OK;
    if (fstat(s->fd, &sb) == 0 && S_ISDIR(sb.st_mode))
        rc = ft_fail(FT_EDATA, "%s: is a folder, not a file", name);
    if (rc == FT_OK && !(s->in = ft_alloc(INPUT, 1))) rc = FT_EMEM;
    if (rc == FT_OK) rc = detect_gzip(s);
    s->pipe = !s->gzip && !S_ISREG(sb.st_mode);
    if (rc != FT_OK) source_close(s);
    return rc;
}

/* After the end of a member: another one, the end, or a refusal. */
static ft_status next_member(source *s)
{
    FT_TRY(refill(s));
    if (s->have == 0) {
        s->ended = true;
        return FT_OK;
    }
    if (s->in[s->at] != 0x1f) return damaged(s, "bytes follow the end of the gzip data");
    if (inflateReset(&s->z) != Z_OK) return ft_fail(FT_EINTERNAL, "%s: inflateReset", s->path);
    s->inflating = true;
    return FT_OK;
}

static ft_status inflate_some(source *s, void *out, size_t room, size_t *n)
{
    if (s->failed) return damaged(s, s->failed);
    while (*n == 0 && !s->ended) {
        if (!s->inflating) {
            FT_TRY(next_member(s));
            continue;
        }
        FT_TRY(refill(s));
        if (s->have == 0) return damaged(s, "the gzip data ends early");
        s->z.next_in = s->in + s->at;
        s->z.avail_in = (unsigned)(s->have - s->at);
        s->z.next_out = out;
        s->z.avail_out = room < UINT32_MAX ? (unsigned)room : UINT32_MAX;
        unsigned asked = s->z.avail_out;
        int z = inflate(&s->z, Z_NO_FLUSH);
        s->at = s->have - s->z.avail_in;
        *n = asked - s->z.avail_out;
        if (z == Z_MEM_ERROR) return ft_fail(FT_EMEM, "%s: out of memory", s->path);
        if (z == Z_STREAM_END) {
            s->inflating = false;
        } else if (z != Z_OK && z != Z_BUF_ERROR) {
            /* what came out in front of the damage goes first, so that the line is the right one */
            s->failed = s->z.msg ? s->z.msg : "damaged gzip data";
            if (*n == 0) return damaged(s, s->failed);
        }
    }
    return FT_OK;
}

static bool waits(const source *s)
{
    return !s->in || s->pipe;
}

static struct pollfd to_read(const source *s)
{
    return (struct pollfd){.fd = s->in ? s->fd : STDIN_FILENO, .events = POLLIN};
}

static ft_status read_waiting(source *s, void *out, size_t room, size_t *n)
{
    while (!s->ended) {
        struct pollfd p = to_read(s);
        int ready = poll(&p, 1, POLL_MS);
        FT_CHECK(!ft_stop_signal(), FT_ESIGNAL, "stopped by a signal at line %lld of %s",
                 (long long)(s->line + 1), s->path);
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        ssize_t got = read(p.fd, out, room);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got < 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", s->path);
        *n = (size_t)got;
        s->ended = got == 0;
        break;
    }
    return FT_OK;
}

static ft_status some_bytes(source *s, void *out, size_t room, size_t *n)
{
    *n = 0;
    if (waits(s) && s->at == s->have) return read_waiting(s, out, room, n);
    if (s->gzip) return inflate_some(s, out, room, n);
    FT_TRY(refill(s));
    size_t part = s->have - s->at < room ? s->have - s->at : room;
    if (part > 0) memcpy(out, s->in + s->at, part);
    s->at += part;
    *n = part;
    return FT_OK;
}

/* Every few megabytes the state of the decompression is kept, of the last ones. */
static ft_status keep_snapshot(source *s)
{
    const snapshot *last = &s->kept[(s->n_kept + SNAPSHOTS - 1) % SNAPSHOTS];
    snapshot *k = &s->kept[s->n_kept % SNAPSHOTS];
    if (s->given < (last->taken ? last->given : 0) + BETWEEN) return FT_OK;
    off_t at = lseek(s->fd, 0, SEEK_CUR);
    if (at < 0) return FT_OK; /* a pipe is never read again */
    if (k->taken) inflateEnd(&k->z);
    k->taken = inflateCopy(&k->z, &s->z) == Z_OK;
    if (!k->taken) return ft_fail(FT_EMEM, "%s: out of memory", s->path);
    k->inflating = s->inflating;
    k->given = s->given;
    k->at = at - (off_t)(s->have - s->at);
    s->n_kept++;
    return FT_OK;
}

/* Up to `room` bytes; *n = 0 at the end. */
static ft_status source_read(source *s, void *out, size_t room, size_t *n)
{
    FT_TRY(some_bytes(s, out, room, n));
    s->given += (int64_t)*n;
    return s->gzip && !s->failed && !s->ended ? keep_snapshot(s) : FT_OK;
}

/* To the last place kept that does not lie behind the offset, else to the beginning. */
static ft_status go_back(source *s, int64_t offset)
{
    const snapshot *best = NULL;
    for (int i = 0; i < SNAPSHOTS; i++) {
        const snapshot *k = &s->kept[i];
        if (k->taken && k->given <= offset && (!best || k->given > best->given)) best = k;
    }
    if (lseek(s->fd, best ? best->at : 0, SEEK_SET) < 0)
        return ft_fail_errno(FT_EIO, "%s: cannot be read again", s->path);
    inflateEnd(&s->z);
    s->z = (z_stream){.zalloc = z_alloc, .zfree = z_free};
    int z =
        best ? inflateCopy(&s->z, (z_stream *)(uintptr_t)&best->z) : inflateInit2(&s->z, 15 + 16);
    if (z != Z_OK) return ft_fail(FT_EMEM, "%s: out of memory", s->path);
    s->given = best ? best->given : 0;
    s->inflating = best ? best->inflating : true;
    return FT_OK;
}

/* The next byte is that of this offset. What is compressed is read up to there. */
static ft_status source_seek(source *s, int64_t offset)
{
    char skipped[4096];
    size_t n;
    if (!s->gzip || offset < s->given) {
        if (s->gzip)
            FT_TRY(go_back(s, offset));
        else if (lseek(s->fd, (off_t)offset, SEEK_SET) < 0)
            return ft_fail_errno(FT_EIO, "%s: cannot be read again", s->path);
        if (!s->gzip) s->given = offset;
        s->at = s->have = 0;
        s->ended = false;
        s->failed = NULL;
    }
    while (s->given < offset) {
        int64_t left = offset - s->given;
        FT_TRY(source_read(s, skipped, left < 4096 ? (size_t)left : sizeof skipped, &n));
        FT_CHECK(n, FT_EDATA, "%s: has become shorter", s->path);
    }
    return FT_OK;
}

/* --- lines ------------------------------------------------------------------------------------ */

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
    if (rc == FT_OK && path) rc = source_open(&r->src, path, r->path);
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
    source_close(&r->src);
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
    source *s = &r->src;
    size_t got;
    for (;;) {
        struct pollfd p = to_read(s);
        if (!waits(s) || s->ended || memchr(r->buf + r->at, '\n', r->have - r->at)) return true;
        if (s->at == s->have && poll(&p, 1, 0) <= 0) return false;
        if (r->have - r->at > LINE_LIMIT || make_room(r) != FT_OK ||
            source_read(s, r->buf + r->have, r->cap - 1 - r->have, &got) != FT_OK)
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
        FT_TRY(source_read(&r->src, r->buf + r->have, r->cap - 1 - r->have, &got));
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

double lines_share(const line_reader *r)
{
    struct stat sb;
    off_t at = lseek(r->src.fd, 0, SEEK_CUR);
    if (at < 0 || fstat(r->src.fd, &sb) != 0 || sb.st_size <= 0) return 1;
    return (double)(at - (off_t)(r->src.have - r->src.at)) / (double)sb.st_size;
}

ft_status lines_seek(line_reader *r, int64_t byte, int64_t number)
{
    r->at = r->have = 0;
    r->number = r->src.line = number;
    return source_seek(&r->src, byte);
}

ft_status lines_read(line_reader *r, void *out, size_t room, size_t *n)
{
    size_t held = r->have - r->at;
    if (!held) return source_read(&r->src, out, room, n);
    *n = held < room ? held : room;
    memcpy(out, r->buf + r->at, *n);
    r->at += *n;
    return FT_OK;
}

ft_status text_read(char **out, size_t *len, const char *path, size_t limit)
{
    source s;
    size_t cap = 1 << 16, n = 0, got;
    char *text = NULL;
    ft_status rc;

    *out = NULL;
    *len = 0;
    FT_TRY(source_open(&s, path, path));
    int64_t size = file_size(path);
    if (!s.gzip && size > 0 && (size_t)size < limit) cap = (size_t)size + 2;
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
        FT_TRY_OUT(source_read(&s, text + n, cap - 1 - n, &got));
        if (got == 0) break;
        for (size_t i = n; i < n + got; i++) s.line += text[i] == '\n';
        n += got;
        FT_GUARD(n <= limit, FT_EDATA, "%s: is longer than %zu bytes", path, limit);
    }
    text[n] = '\0';
out:
    source_close(&s);
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
    source in = {.path = "standard input", .fd = -1};
    const char *dir = getenv("TMPDIR");
    char name[PATH_MAX], *chunk = ft_alloc(INPUT, 1);
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
        rc = source_read(&in, chunk, INPUT, &got);
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
