/* file.c – whole files: mapping, reading, and writing that survives a crash.
 *
 * A reader never sees half a file under its final name: bytes go to NAME.tmp, which is synced,
 * renamed, and the rename is synced through the folder. A failed sync is not tried again (the
 * kernel may have dropped the pages and would report success); the file is given up instead. */
#include "ft/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 128 << 10, OUT_BUFFER = 256 << 10 };

/* --- reading ---------------------------------------------------------------------------------- */

/* After a failed open; a link that leads nowhere is told as such. */
static ft_status cannot_open(const char *path)
{
    char target[PATH_MAX];
    const int error = errno;
    const ssize_t n = error == ENOENT ? readlink(path, target, sizeof target) : -1;
    if (n > 0)
        return ft_fail(FT_ENOINPUT,
                       "%s: is a link to %s, which does not exist; is the download complete?", path,
                       ft_show(target, (size_t)n));
    errno = error;
    return ft_fail_errno(FT_EIO, "%s: cannot be opened", path);
}

ft_status file_map_open(file_map *m, const char *path)
{
    static const uint8_t nothing[1];
    struct stat sb;
    ft_status rc = FT_OK;

    *m = (file_map){.data = nothing};
    /* O_NONBLOCK: opening a pipe that nobody writes to must not hang */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return cannot_open(path);
    if (fstat(fd, &sb) != 0) {
        rc = ft_fail_errno(FT_EIO, "%s: cannot be read", path);
        goto out;
    }
    FT_GUARD(S_ISREG(sb.st_mode), FT_EDATA, "%s: is not a regular file", path);
    if (sb.st_size > 0) {
        void *data = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            rc = ft_fail_errno(FT_EIO, "%s: cannot be mapped", path);
            goto out;
        }
        *m = (file_map){data, (size_t)sb.st_size};
    }
out:
    close(fd);
    return rc;
}

void file_map_close(file_map *m)
{
    if (m->size > 0) munmap((void *)(uintptr_t)m->data, m->size);
    *m = (file_map){0};
}

void file_map_forget(const void *data, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data;
    const uintptr_t first = (at + page - 1) / page * page, end = (at + bytes) / page * page;
    if (end > first) (void)madvise((void *)first, end - first, MADV_DONTNEED); /* only a hint */
}

/* One read that is not cut by signals; −1 with errno. */
static ssize_t read_some(int fd, void *data, size_t n)
{
    ssize_t got;
    do got = read(fd, data, n);
    while (got < 0 && errno == EINTR);
    return got;
}

static ft_status open_for_reading(int *fd, const char *path)
{
    struct stat sb;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return cannot_open(path);
    if (fstat(*fd, &sb) == 0 && S_ISDIR(sb.st_mode)) {
        close(*fd);
        return ft_fail(FT_EDATA, "%s: is a folder, not a file", path);
    }
    return FT_OK;
}

ft_status file_read(char **out, size_t *len, const char *path, size_t limit)
{
    ft_status rc = FT_OK;
    str_buf text = {0};
    char *chunk = NULL;
    int fd;

    *out = NULL;
    *len = 0;
    FT_TRY(open_for_reading(&fd, path));
    chunk = ft_alloc(CHUNK, 1);
    if (!chunk) {
        rc = FT_EMEM;
        goto out;
    }
    for (;;) {
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

    FT_TRY(open_for_reading(&fd, path));
    char *chunk = ft_alloc(CHUNK, 1);
    if (!chunk) {
        close(fd);
        return FT_EMEM;
    }
    sha256_init(&sha);
    while ((got = read_some(fd, chunk, CHUNK)) > 0) sha256_add(&sha, chunk, (size_t)got);
    ft_status rc = got < 0 ? ft_fail_errno(FT_EIO, "%s: cannot be read", path) : FT_OK;
    close(fd);
    ft_free(chunk);
    if (rc == FT_OK) sha256_hex(&sha, hex);
    return rc;
}

bool file_exists(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && !S_ISDIR(sb.st_mode);
}

bool file_is_there(const char *path)
{
    struct stat sb;
    return file_exists(path) || (lstat(path, &sb) == 0 && S_ISLNK(sb.st_mode) && !dir_exists(path));
}

int64_t file_size(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode) ? (int64_t)sb.st_size : -1;
}

/* --- durable writing -------------------------------------------------------------------------- */

struct file_out {
    int fd;
    char *path, *tmp;
    size_t size; /* handed over so far, buffered bytes included */
    size_t fill;
    uint8_t *buffer;
};

static ft_status fail_out(ft_status other, const char *what, const char *path)
{
    int e = errno;
    if (e == ENOSPC || e == EDQUOT)
        return ft_fail(FT_EIO, "%s: %s: the disk is full; free space and run again", path, what);
    if (e == EFBIG) return ft_fail(FT_EIO, "%s: %s: %s", path, what, strerror(e));
    if (e == ENOENT || e == ENOTDIR)
        return ft_fail(FT_EEXIST, "%s: %s: its folder does not exist", path, what);
    errno = e;
    return ft_fail_errno(other, "%s: %s", path, what);
}

static ft_status write_all(int fd, const void *data, size_t n, const char *path)
{
    const char *p = data;
    while (n > 0) {
        ssize_t put = write(fd, p, n < CHUNK ? n : CHUNK);
        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = EIO;
        if (put <= 0) return fail_out(FT_EIO, "cannot be written", path);
        p += put;
        n -= (size_t)put;
    }
    return FT_OK;
}

/* Frees everything but the file itself. */
static void drop(file_out *f)
{
    if (f->fd >= 0) close(f->fd);
    ft_free(f->path);
    ft_free(f->tmp);
    ft_free(f->buffer);
    ft_free(f);
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
    if (dir_exists(path)) {
        drop(f);
        return ft_fail(FT_EEXIST, "%s: is a folder; choose another name", path);
    }
    /* The leftover of an earlier crash goes; O_EXCL then keeps us from following a planted link. */
    unlink(f->tmp);
    f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd < 0) {
        drop(f);
        return fail_out(FT_EEXIST, "cannot be made", path);
    }
    *out = f;
    return FT_OK;
}

static ft_status flush(file_out *f)
{
    ft_status rc = write_all(f->fd, f->buffer, f->fill, f->path);
    f->fill = 0;
    return rc;
}

ft_status file_out_write(file_out *f, const void *data, size_t n)
{
    f->size += n;
    if (n > OUT_BUFFER - f->fill) {
        FT_TRY(flush(f));
        if (n >= OUT_BUFFER) return write_all(f->fd, data, n, f->path);
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

static ft_status sync_parent(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (!slash) return dir_sync(".");
    if (n == 0) return dir_sync("/");
    if (n >= sizeof folder) return ft_fail(FT_EIO, "%s: the path is too long", path);
    memcpy(folder, path, n);
    folder[n] = '\0';
    return dir_sync(folder);
}

ft_status file_out_commit(file_out *f)
{
    ft_status rc = flush(f);
    if (rc != FT_OK) {
        file_out_abort(f);
        return rc;
    }
    if (fsync(f->fd) != 0 && errno != EINVAL && errno != EROFS) {
        rc = fail_out(FT_EIO, "cannot be written to disk", f->path);
        file_out_abort(f);
        return rc;
    }
    int closed = close(f->fd);
    f->fd = -1;
    if (closed != 0 && errno != EINTR) {
        rc = fail_out(FT_EIO, "cannot be written", f->path);
        file_out_abort(f);
        return rc;
    }
    if (rename(f->tmp, f->path) != 0) {
        rc = fail_out(FT_EEXIST, "cannot be put in place", f->path);
        file_out_abort(f);
        return rc;
    }
    rc = sync_parent(f->path);
    drop(f);
    return rc;
}

ft_status file_write(const char *path, const void *data, size_t n)
{
    file_out *f;
    FT_TRY(file_out_open(&f, path));
    ft_status rc = file_out_write(f, data, n);
    if (rc == FT_OK) return file_out_commit(f);
    file_out_abort(f);
    return rc;
}

ft_status file_copy(const char *from, const char *to)
{
    ft_status rc = FT_OK;
    file_out *f = NULL;
    char *chunk = NULL;
    int fd;

    FT_TRY(open_for_reading(&fd, from));
    chunk = ft_alloc(CHUNK, 1);
    if (!chunk) {
        rc = FT_EMEM;
        goto out;
    }
    FT_TRY_OUT(file_out_open(&f, to));
    for (;;) {
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

/* --- append-only text ------------------------------------------------------------------------- */

ft_status file_append_open(int *out, const char *path, int64_t keep_bytes)
{
    struct stat sb;
    *out = -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return fail_out(FT_EEXIST, "cannot be opened for writing", path);
    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        close(fd);
        return ft_fail(FT_EEXIST, "%s: is not a regular file", path);
    }
    if ((int64_t)sb.st_size < keep_bytes) {
        close(fd);
        return ft_fail(FT_EDATA, "%s: holds %lld bytes where %lld were written before; it was cut",
                       path, (long long)sb.st_size, (long long)keep_bytes);
    }
    if (keep_bytes >= 0 && (int64_t)sb.st_size > keep_bytes && ftruncate(fd, keep_bytes) != 0) {
        ft_status rc = fail_out(FT_EIO, "cannot be cut back", path);
        close(fd);
        return rc;
    }
    *out = fd;
    return FT_OK;
}

ft_status file_append(int fd, const char *path, const char *text, size_t n)
{
    return write_all(fd, text, n, path);
}
