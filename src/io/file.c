/* file.c – whole files: reading, and writing that survives a crash.
 *
 * A reader never sees half a file under its final name: bytes go to NAME.tmp, which is synced, read
 * back, renamed, and the rename is synced through the folder. What is handed over is hashed on its
 * way to the disk, so what the disk gives back is compared with what was in memory. A failed sync is
 * not tried again (the kernel may have dropped the pages and would report success); the file is given
 * up instead, and may be made again (room.c). */
#include "ft/io.h"
#include "io_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 128 << 10, OUT_BUFFER = 256 << 10, KEPT = 64 << 20 };

/* --- reading ---------------------------------------------------------------------------------- */

/* One read that is cut by no signal but one that asks to stop; −1 with errno. */
static ssize_t read_some(int fd, void *data, size_t n)
{
    ssize_t got;
    do got = read(fd, data, n);
    while (got < 0 && ft_again());
    return got;
}

ft_status file_read(char **out, size_t *len, const char *path, size_t limit)
{
    ft_status rc = FT_OK;
    str_buf text = {0};
    char *chunk = NULL;
    int fd;

    *out = NULL;
    *len = 0;
    FT_TRY(ft_open(&fd, path, NULL));
    struct stat sb;
    FT_GUARD(fstat(fd, &sb) != 0 || (uint64_t)sb.st_size <= limit, FT_EDATA,
             "%s: is longer than %zu bytes", path,
             limit); /* before it is read; one that grows meanwhile is noticed below */
    chunk = ft_alloc(CHUNK, 1);
    if (!chunk) {
        rc = FT_EMEM;
        goto out;
    }
    for (;;) {
        FT_TRY_OUT(ft_stop());
        ssize_t got = read_some(fd, chunk, CHUNK);
        if (got < 0) {
            rc = ft_fail_errno(FT_EIO, "%s: cannot be read", path);
            goto out;
        }
        if (got == 0) break;
        FT_GUARD((size_t)got <= limit - text.len, FT_EDATA, "%s: is longer than %zu bytes", path,
                 limit);
        str_add(&text, chunk, (size_t)got);
        FT_TRY_OUT(str_ok(&text));
    }
    str_add(&text, "", 0);
    FT_TRY_OUT(str_ok(&text));
    if (!text.data) { /* an empty file still gives a string */
        text.data = ft_alloc(1, 1);
        if (!text.data) rc = FT_EMEM;
    }
out:
    close(fd);
    ft_free(chunk);
    if (rc != FT_OK) {
        str_free(&text);
        return rc;
    }
    *out = text.data;
    *len = text.len;
    return FT_OK;
}

ft_status file_sha256(const char *path, char hex[65])
{
    sha256_state sha;
    int fd;
    ssize_t got;

    FT_TRY(ft_open(&fd, path, NULL));
    char *chunk = ft_alloc(CHUNK, 1);
    if (!chunk) {
        close(fd);
        return FT_EMEM;
    }
    sha256_init(&sha);
    ft_status rc = FT_OK;
    while (rc == FT_OK && (got = read_some(fd, chunk, CHUNK)) > 0) {
        sha256_add(&sha, chunk, (size_t)got);
        rc = ft_stop();
    }
    if (got < 0) rc = ft_fail_errno(FT_EIO, "%s: cannot be read", path);
    close(fd);
    ft_free(chunk);
    if (rc == FT_OK) sha256_hex(&sha, hex);
    return rc;
}

/* --- durable writing -------------------------------------------------------------------------- */

struct file_out {
    int fd;
    char *path, *tmp;
    size_t size; /* handed over so far, buffered bytes included */
    size_t fill;
    uint8_t *buffer;
    sha256_state sha; /* of what was handed over */
    int tries;        /* waits for room since bytes last went through */
    bool keeps;       /* all of it stays in `kept` too, up to KEPT bytes */
    str_buf kept;
};

ft_status io_fail_out(ft_status other, const char *what, const char *path)
{
    int e = errno;
    if (e == ENOSPC || e == EDQUOT)
        return ft_fail(FT_EIO, "%s: %s: the disk is full; free space and run again", path, what);
    if (e == EFBIG) return ft_fail(FT_EIO, "%s: %s: %s", path, what, strerror(e));
    if (e == ENOENT || e == ENOTDIR)
        return ft_fail(FT_EEXIST, "%s: %s: its folder does not exist", path, what);
    errno = e;
    return ft_fail_errno(e == EIO ? FT_EIO : other, "%s: %s", path, what);
}

static ft_status write_all(file_out *f, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t put = write(f->fd, p, n < CHUNK ? n : CHUNK);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && io_wait_for_room(f->path, &f->tries)) continue;
        if (put == 0) errno = EIO;
        if (put <= 0) return io_fail_out(FT_EIO, "cannot be written", f->path);
        f->tries = 0;
        p += put;
        n -= (size_t)put;
    }
    return FT_OK;
}

/* Frees everything but the file itself. */
static void drop(file_out *f)
{
    if (f->fd >= 0) close(f->fd);
    if (f->tmp) ft_temporary_drop(f->tmp);
    ft_free(f->path);
    ft_free(f->tmp);
    ft_free(f->buffer);
    str_free(&f->kept);
    ft_free(f);
}

/* The leftover of an earlier crash goes; O_EXCL then keeps us from following a planted link. */
static ft_status make_temporary(file_out *f)
{
    unlink(f->tmp);
    ft_temporary_drop(f->tmp); /* of an attempt before */
    FT_TRY(ft_temporary_add(f->tmp));
    do f->fd = io_open(f->tmp, O_WRONLY | O_CREAT | O_EXCL);
    while (f->fd < 0 && io_wait_for_room(f->path, &f->tries));
    if (f->fd < 0) return io_fail_out(FT_EEXIST, "cannot be made", f->path);
    sha256_init(&f->sha);
    f->size = f->fill = 0;
    return FT_OK;
}

ft_status file_out_open(file_out **out, const char *path)
{
    size_t len = strlen(path);
    *out = NULL;
    file_out *f = ft_alloc(1, sizeof *f);
    if (!f) return FT_EMEM;
    f->fd = -1;
    f->path = ft_strdup(path);
    f->tmp = ft_alloc(len + sizeof ".tmp", 1);
    f->buffer = ft_alloc(OUT_BUFFER, 1);
    if (!f->path || !f->tmp || !f->buffer) {
        drop(f);
        return FT_EMEM;
    }
    snprintf(f->tmp, len + sizeof ".tmp", "%s.tmp", path);
    path_kind kind;
    ft_status rc = path_look(path, &kind);
    if (rc == FT_OK && kind == PATH_FOLDER)
        rc = ft_fail(FT_EEXIST, "%s: is a folder; choose another name", path);
    if (rc == FT_OK) rc = make_temporary(f);
    if (rc != FT_OK) {
        drop(f);
        return rc;
    }
    *out = f;
    return FT_OK;
}

static ft_status flush(file_out *f)
{
    ft_status rc = write_all(f, f->buffer, f->fill);
    f->fill = 0;
    return rc;
}

static void keep(file_out *f, const void *data, size_t n)
{
    const bool before = ft_error_starved();
    str_add(&f->kept, data, n);
    if (!f->kept.failed && f->kept.len <= KEPT) return;
    str_free(&f->kept);
    f->keeps = false;
    ft_error_forget_since(before); /* it can be done without */
}

void file_out_keep(file_out *f)
{
    f->keeps = true;
}

ft_status file_out_write(file_out *f, const void *data, size_t n)
{
    f->size += n;
    if (n > 0) sha256_add(&f->sha, data, n);
    if (f->keeps) keep(f, data, n);
    if (n > OUT_BUFFER - f->fill) {
        FT_TRY(flush(f));
        if (n >= OUT_BUFFER) return write_all(f, data, n);
    }
    if (n > 0) memcpy(f->buffer + f->fill, data, n);
    f->fill += n;
    return FT_OK;
}

size_t file_out_size(const file_out *f)
{
    return f->size;
}

void file_out_abort(file_out *f)
{
    if (!f) return;
    unlink(f->tmp);
    drop(f);
}

/* What the disk gives back is what was handed over. The kernel is asked to forget the pages first; where it does not, its
 * memory is compared. A file that is gone, or that the disk does not give, is damaged; one that cannot be read for another
 * reason is not. */
static ft_status read_back(const file_out *f, const char *want)
{
    sha256_state sha;
    char hex[65];
    ssize_t n = -1;
    size_t all = 0;
    const int fd = io_open(f->tmp, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    sha256_init(&sha);
    while (fd >= 0 && all <= f->size && (n = read_some(fd, f->buffer, OUT_BUFFER)) > 0) {
        sha256_add(&sha, f->buffer, (size_t)n);
        all += (size_t)n;
    }
    const int error = n < 0 ? errno : 0;
    if (fd >= 0) close(fd);
    errno = error;
    if (error && error != EIO && error != ENOENT)
        return ft_fail_errno(FT_EIO, "%s: cannot be read back", f->path);
    sha256_hex(&sha, hex);
    if (!error && all == f->size && strcmp(hex, want) == 0) return FT_OK;
    io_note_damage();
    return ft_fail(FT_EIO, "%s: read back, it differs from what was written; is the disk failing?",
                   f->path);
}

static ft_status put_in_place(file_out *f)
{
    char hex[65];
    FT_TRY(flush(f));
    sha256_hex(&f->sha, hex);
    if (!io_synced(f->fd)) {
        io_note_full(errno);
        return io_fail_out(FT_EIO, "cannot be written to disk", f->path);
    }
    (void)posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED); /* only a hint */
    int closed = close(f->fd);
    f->fd = -1;
    if (closed != 0 && errno != EINTR) {
        io_note_full(errno);
        return io_fail_out(FT_EIO, "cannot be written", f->path);
    }
    FT_TRY(read_back(f, hex));
    while (rename(f->tmp, f->path) != 0)
        if (!io_wait_for_room(f->path, &f->tries))
            return io_fail_out(FT_EEXIST, "cannot be put in place", f->path);
    FT_TRY(io_sync_above(f->path));
    return io_note_written(f->path, f->size, hex);
}

/* Of what was kept. */
static ft_status write_again(file_out *f)
{
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
    f->keeps = false;
    FT_TRY(make_temporary(f));
    ft_status rc = file_out_write(f, f->kept.data, f->kept.len);
    f->keeps = true;
    return rc == FT_OK ? put_in_place(f) : rc;
}

ft_status file_out_commit(file_out *f)
{
    int tries = 0;
    ft_status rc = put_in_place(f);
    while (f->keeps && file_out_again(rc, &tries)) rc = write_again(f);
    if (rc == FT_OK)
        drop(f);
    else
        file_out_abort(f);
    return rc;
}

static ft_status write_once(const char *path, const void *data, size_t n)
{
    file_out *f;
    FT_TRY(file_out_open(&f, path));
    ft_status rc = file_out_write(f, data, n);
    if (rc == FT_OK) return file_out_commit(f);
    file_out_abort(f);
    return rc;
}

ft_status file_write(const char *path, const void *data, size_t n)
{
    ft_status rc;
    int tries = 0;
    do rc = write_once(path, data, n);
    while (file_out_again(rc, &tries));
    return rc;
}

static ft_status copy_once(const char *from, const char *to)
{
    ft_status rc = FT_OK;
    file_out *f = NULL;
    char *chunk = NULL;
    int fd;

    FT_TRY(ft_open(&fd, from, NULL));
    chunk = ft_alloc(CHUNK, 1);
    if (!chunk) {
        rc = FT_EMEM;
        goto out;
    }
    FT_TRY_OUT(file_out_open(&f, to));
    for (;;) {
        FT_TRY_OUT(ft_stop());
        ssize_t got = read_some(fd, chunk, CHUNK);
        if (got < 0) {
            rc = ft_fail_errno(FT_EIO, "%s: cannot be read", from);
            goto out;
        }
        if (got == 0) break;
        FT_TRY_OUT(file_out_write(f, chunk, (size_t)got));
    }
    rc = file_out_commit(f);
    f = NULL;
out:
    close(fd);
    ft_free(chunk);
    file_out_abort(f);
    return rc;
}

ft_status file_copy(const char *from, const char *to)
{
    ft_status rc;
    int tries = 0;
    do rc = copy_once(from, to);
    while (file_out_again(rc, &tries));
    return rc;
}
