/* bytes.c – a file's bytes without its compression, or those of standard input.
 *
 * Standard input is read through poll: what is there is handed out at once, because a harness may send a
 * line and wait for its answer before it sends the next, and a request to stop does not wait for more.
 *
 * The loop over members is our own because the libraries' readers take a truncated file for a finished one or ignore
 * bytes behind the last member: both would silently shorten a training set. Here every member must end as its format
 * says, checksums are looked at, and nothing but further members may follow. Whether a file is compressed is told by its
 * first bytes; a name that says so without them is refused. */
#include "bytes.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
    KEPT =
        8
        << 20, /* bytes that a seek goes back without unpacking again: a little more than readers hold */
    POLL_MS = 200 /* a signal restarts a read, so the flag is looked at this often while waiting */
};

static ft_status damaged(const io_bytes *s, const char *what)
{
    return ft_fail(FT_EDATA, "%s:%lld: %s; is the download complete?", s->path,
                   (long long)(s->line + 1), what);
}

/* --- packings ----------------------------------------------------------------------------------------------------- */
struct io_packing {
    const char *end, *name;
    const char *ends_early, *follows, *no_data;
    size_t magic; /* bytes that show it */
    bool (*shows)(const uint8_t *in);
    bool (*open)(io_bytes *s);
    /* Unpacks some of the input; *done: the member has ended. A failure is kept in s->failed. */
    ft_status (*unpack)(io_bytes *s, void *out, size_t room, size_t *n, bool *done);
    void (*close)(io_bytes *s);
};

/* zlib */
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

static bool gzip_shows(const uint8_t *in)
{
    return in[0] == 0x1f && in[1] == 0x8b;
}

static bool gzip_open(io_bytes *s)
{
    z_stream *z = s->decoder ? s->decoder : ft_alloc(1, sizeof *z);
    bool again = s->decoder != NULL;
    if (!z) return false;
    s->decoder = z;
    z->zalloc = z_alloc;
    z->zfree = z_free;
    return (again ? inflateReset(z) : inflateInit2(z, 15 + 16)) == Z_OK;
}

static ft_status gzip_unpack(io_bytes *s, void *out, size_t room, size_t *n, bool *done)
{
    z_stream *z = s->decoder;
    z->next_in = s->in + s->at;
    z->avail_in = (unsigned)(s->have - s->at);
    z->next_out = out;
    z->avail_out = room < UINT32_MAX ? (unsigned)room : UINT32_MAX;
    unsigned asked = z->avail_out;
    int rc = inflate(z, Z_NO_FLUSH);
    s->at = s->have - z->avail_in;
    *n = asked - z->avail_out;
    ft_written(out, *n);
    *done = rc == Z_STREAM_END;
    if (rc == Z_MEM_ERROR) return ft_fail(FT_EMEM, "%s: out of memory", s->path);
    if (rc != Z_OK && rc != Z_BUF_ERROR && rc != Z_STREAM_END)
        s->failed = z->msg ? z->msg : "damaged gzip data";
    return FT_OK;
}

static void gzip_close(io_bytes *s)
{
    if (s->decoder) inflateEnd(s->decoder);
    ft_free(s->decoder);
}

/* zstd: a frame, or one to be skipped */
static bool zstd_shows(const uint8_t *in)
{
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd}, skipped[] = {0x2a, 0x4d, 0x18};
    return !memcmp(in, frame, 4) || (in[0] >> 4 == 5 && !memcmp(in + 1, skipped, 3));
}

static bool zstd_open(io_bytes *s)
{
    if (!s->decoder) s->decoder = ZSTD_createDStream();
    return s->decoder && !ZSTD_isError(ZSTD_initDStream(s->decoder));
}

static ft_status zstd_unpack(io_bytes *s, void *out, size_t room, size_t *n, bool *done)
{
    ZSTD_inBuffer in = {s->in, s->have, s->at};
    ZSTD_outBuffer to = {out, room, 0};
    size_t left = ZSTD_decompressStream(s->decoder, &to, &in);
    s->at = in.pos;
    *n = to.pos;
    ft_written(out, *n);
    *done = left == 0;
    FT_CHECK(ZSTD_getErrorCode(left) != ZSTD_error_memory_allocation, FT_EMEM, "%s: out of memory",
             s->path);
    if (ZSTD_isError(left)) s->failed = ZSTD_getErrorName(left);
    return FT_OK;
}

static void zstd_close(io_bytes *s)
{
    ZSTD_freeDStream(s->decoder);
}

static const io_packing packings[] = {
    {".gz", "gzip", "the gzip data ends early", "bytes follow the end of the gzip data",
     "is not gzip data", 2, gzip_shows, gzip_open, gzip_unpack, gzip_close},
    {".zst", "zstd", "the zstd data ends early", "bytes follow the end of the zstd data",
     "is not zstd data", 4, zstd_shows, zstd_open, zstd_unpack, zstd_close},
};

/* --- the file -------------------------------------------------------------------------------------------------------- */
/* At the end of what can be read: is it the end that the file had? What is missing would be taken for records that never were. */
static ft_status check_end(const io_bytes *s)
{
    const off_t at = lseek(s->fd, 0, SEEK_CUR);
    FT_CHECK(at < 0 || (int64_t)at >= s->size, FT_EDATA,
             "%s: was cut while it was read: it ends after %lld bytes, and had %lld", s->path,
             (long long)at, (long long)s->size);
    return FT_OK;
}

/* Reads more input when all is used; have == 0 afterwards means the end of the file. */
static ft_status refill(io_bytes *s)
{
    if (s->at < s->have) return FT_OK;
    FT_TRY(ft_stop());
    ssize_t got;
    do got = read(s->fd, s->in, IO_BYTES_INPUT);
    while (got < 0 && ft_again());
    if (got < 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", s->path);
    s->at = 0;
    s->have = (size_t)got;
    return got == 0 ? check_end(s) : FT_OK;
}

/* Input of `need` bytes, if there are so many: reading may give less than it was asked for. */
static ft_status have_bytes(io_bytes *s, size_t need)
{
    FT_TRY(refill(s));
    if (s->at && s->have - s->at < need) {
        memmove(s->in, s->in + s->at, s->have - s->at);
        s->have -= s->at;
        s->at = 0;
    }
    while (s->have && s->have - s->at < need) {
        ssize_t got = read(s->fd, s->in + s->have, IO_BYTES_INPUT - s->have);
        if (got < 0 && ft_again()) continue;
        if (got < 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", s->path);
        if (got == 0) break;
        s->have += (size_t)got;
    }
    return FT_OK;
}

void io_bytes_close(io_bytes *s)
{
    if (s->packing) s->packing->close(s);
    if (s->fd >= 0) close(s->fd);
    ft_free(s->in);
    ft_free(s->kept);
    *s = (io_bytes){.path = s->path, .fd = -1};
}

static ft_status find_packing(io_bytes *s)
{
    FT_TRY(have_bytes(s, 2));
    if (s->have && (s->in[0] == 0x28 || s->in[0] >> 4 == 5)) FT_TRY(have_bytes(s, 4));
    for (size_t i = 0; i < FT_COUNT_OF(packings); i++) {
        const io_packing *p = &packings[i];
        bool shows = s->have >= p->magic && p->shows(s->in);
        if (!shows && str_ends(s->path, p->end)) return damaged(s, p->no_data);
        if (!shows) continue;
        s->packing = p;
        s->inside = true;
        return p->open(s) ? FT_OK : ft_fail(FT_EMEM, "%s: out of memory", s->path);
    }
    return FT_OK;
}

ft_status io_bytes_open(io_bytes *s, const char *path, const char *name)
{
    *s = (io_bytes){.path = name};
    FT_TRY(ft_open(&s->fd, path, name));
    struct stat sb;
    ft_status rc = FT_OK;
    if (fstat(s->fd, &sb) != 0) rc = ft_fail_errno(FT_EIO, "%s: cannot be read", name);
    s->size = (int64_t)sb.st_size;
    if (rc == FT_OK && !(s->in = ft_alloc(IO_BYTES_INPUT, 1))) rc = FT_EMEM;
    if (rc == FT_OK) rc = find_packing(s);
    if (rc != FT_OK) io_bytes_close(s);
    return rc;
}

/* After the end of a member: another one, the end, or a refusal. */
static ft_status next_member(io_bytes *s)
{
    const io_packing *p = s->packing;
    FT_TRY(have_bytes(s, p->magic));
    if (s->have == s->at) {
        s->ended = true;
        return FT_OK;
    }
    bool shows = s->have - s->at >= p->magic && p->shows(s->in + s->at);
    if (!shows) return damaged(s, p->follows);
    if (!p->open(s)) return ft_fail(FT_EMEM, "%s: out of memory", s->path);
    s->inside = true;
    return FT_OK;
}

static ft_status unpack_some(io_bytes *s, void *out, size_t room, size_t *n)
{
    bool done;
    while (*n == 0 && !s->ended) {
        if (s->failed) return damaged(s, s->failed);
        if (!s->inside) {
            FT_TRY(next_member(s));
            continue;
        }
        FT_TRY(refill(s));
        bool none = s->have == s->at; /* the decoder may still hold some */
        /* what came out in front of damage goes first, so that the line is the right one */
        FT_TRY(s->packing->unpack(s, out, room, n, &done));
        if (none && !done && !*n && !s->failed) return damaged(s, s->packing->ends_early);
        s->inside = !done;
    }
    return FT_OK;
}

/* --- standard input ------------------------------------------------------------------------------------------------ */
static struct pollfd to_read(void)
{
    return (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
}

bool io_bytes_ready(const io_bytes *s)
{
    struct pollfd p = to_read();
    return !io_bytes_wait(s) || poll(&p, 1, 0) > 0;
}

bool io_bytes_wait(const io_bytes *s)
{
    return !s->in && !s->ended;
}

static ft_status read_waiting(io_bytes *s, void *out, size_t room, size_t *n)
{
    while (!s->ended) {
        struct pollfd p = to_read();
        int ready = poll(&p, 1, POLL_MS);
        FT_TRY(ft_stop());
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

/* --- reading, and reading again --------------------------------------------------------------------------------------- */
static size_t take(size_t left, size_t room)
{
    return left < room ? left : room;
}

/* The bytes unpacked last stay in a ring. */
static void keep(io_bytes *s, const uint8_t *bytes, size_t n)
{
    for (size_t done = 0, part; done < n; done += part) {
        size_t at = (size_t)(s->unpacked % KEPT);
        part = take(n - done, KEPT - at);
        memcpy(s->kept + at, bytes + done, part);
        s->unpacked += (int64_t)part;
    }
}

static size_t again(const io_bytes *s, void *out, size_t room)
{
    size_t at = (size_t)(s->given % KEPT), left = (size_t)(s->unpacked - s->given);
    size_t n = take(take(left, KEPT - at), room);
    memcpy(out, s->kept + at, n);
    return n;
}

static ft_status unpack_or_again(io_bytes *s, void *out, size_t room, size_t *n)
{
    if (s->given < s->unpacked) {
        *n = again(s, out, room);
        return FT_OK;
    }
    if (s->keeps && !s->kept) {
        s->kept_from = s->unpacked;
        if (!(s->kept = ft_alloc(KEPT, 1))) return FT_EMEM;
    }
    FT_TRY(unpack_some(s, out, room, n));
    if (s->kept)
        keep(s, out, *n);
    else
        s->unpacked += (int64_t)*n;
    return FT_OK;
}

ft_status io_bytes_read(io_bytes *s, void *out, size_t room, size_t *n)
{
    *n = 0;
    if (s->packing) {
        FT_TRY(unpack_or_again(s, out, room, n));
    } else if (!s->in) {
        FT_TRY(read_waiting(s, out, room, n));
    } else {
        FT_TRY(refill(s));
        *n = take(s->have - s->at, room);
        if (*n) memcpy(out, s->in + s->at, *n);
        s->at += *n;
    }
    s->given += (int64_t)*n;
    return FT_OK;
}

/* To an offset of the file itself. */
static ft_status rewind_file(io_bytes *s, int64_t offset)
{
    if (lseek(s->fd, (off_t)offset, SEEK_SET) < 0)
        return ft_fail_errno(FT_EIO, "%s: cannot be read again", s->path);
    s->at = s->have = 0;
    s->ended = false;
    s->failed = NULL;
    s->given = s->unpacked = s->kept_from = offset;
    s->inside = true;
    return !s->packing || s->packing->open(s) ? FT_OK
                                              : ft_fail(FT_EMEM, "%s: out of memory", s->path);
}

ft_status io_bytes_seek(io_bytes *s, int64_t offset)
{
    char skipped[4096];
    size_t n;
    s->keeps = true;
    if (!s->packing) return rewind_file(s, offset);
    bool kept = offset >= s->kept_from && offset >= s->unpacked - KEPT;
    if (s->kept && kept && offset <= s->unpacked)
        s->given = offset;
    else if (offset < s->given)
        FT_TRY(rewind_file(s, 0));
    while (s->given < offset) {
        int64_t left = offset - s->given;
        FT_TRY(io_bytes_read(s, skipped, left < 4096 ? (size_t)left : sizeof skipped, &n));
        FT_CHECK(n, FT_EDATA, "%s: has become shorter", s->path);
    }
    return FT_OK;
}
