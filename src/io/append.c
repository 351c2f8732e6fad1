/* append.c – text that grows by whole additions: the logs of a run.
 *
 * What finds no room waits in memory, in order, while the run goes on; a part that went through is cut off again, so that
 * a reader never meets half a line. What was not synced yet is kept too: where a sync fails the kernel may have dropped it,
 * and would call the next sync a success, so the file is opened again and the rest written anew. A log is written in place:
 * so that nothing else changes with it, neither a link is followed, nor a file written to that bears another name too. One
 * that begins anew is a new file, and what stood there stays whole where it has other names. */
#include "io_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TAIL = 16 << 20 }; /* more is not kept, but synced */

struct file_log {
    int fd;
    char *path;
    int64_t size;    /* of what stands in the file and is whole; −1: not known, nothing is cut */
    bool cut;        /* a part stands behind that */
    int64_t synced;  /* of that on the disk */
    str_buf tail;    /* what stands behind `synced` */
    str_buf waiting; /* additions that found no room */
    int fails;
    double first, last; /* clock of failed attempts */
};

/* --- opening ---------------------------------------------------------------------------------- */

static ft_status make_place(const char *path)
{
    struct stat sb;
    bool there;
    FT_TRY(io_look_link(path, &sb, &there));
    if (!there) return FT_OK;
    FT_CHECK(S_ISREG(sb.st_mode), FT_EEXIST, "%s: is not a regular file", path);
    return unlink(path) == 0 ? FT_OK : io_fail_out(FT_EIO, "cannot be replaced", path);
}

/* To write at the end; anew: as a new file in the place of what stands there. */
static ft_status open_end(int *fd, const char *path, bool anew, struct stat *sb)
{
    enum { FLAGS = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY };
    if (anew) FT_TRY(make_place(path));
    *fd = io_open(path, FLAGS | (anew ? O_EXCL : 0));
    FT_CHECK(*fd >= 0 || errno != ELOOP, FT_EEXIST,
             "%s: is a link, and nothing is written through one; put a copy in its place", path);
    if (*fd < 0) return io_fail_out(FT_EEXIST, "cannot be opened for writing", path);
    if (anew) FT_TRY(io_sync_above(path)); /* its name outlives a crash as its lines do */
    if (fstat(*fd, sb) != 0) return ft_fail_errno(FT_EIO, "%s: cannot be looked at", path);
    FT_CHECK(S_ISREG(sb->st_mode), FT_EEXIST, "%s: is not a regular file", path);
    FT_CHECK(sb->st_nlink == 1, FT_EEXIST,
             "%s: has another name too (a hard link), under which it would change as well; put a "
             "copy in its place",
             path);
    return FT_OK;
}

ft_status file_log_open(file_log **out, const char *path, int64_t keep_bytes)
{
    struct stat sb;
    *out = NULL;
    file_log *l = ft_alloc(1, sizeof *l);
    if (!l) return FT_EMEM;
    l->fd = -1;
    ft_status rc = FT_EMEM;
    l->path = ft_strdup(path);
    if (!l->path) goto out;
    FT_TRY_OUT(open_end(&l->fd, path, keep_bytes == 0, &sb));
    l->size = (int64_t)sb.st_size;
    FT_GUARD(l->size >= keep_bytes, FT_EDATA,
             "%s: holds %lld bytes where %lld were written before; it was cut", path,
             (long long)l->size, (long long)keep_bytes);
    rc = FT_OK;
    if (keep_bytes >= 0 && l->size > keep_bytes) {
        if (ftruncate(l->fd, keep_bytes) != 0) rc = io_fail_out(FT_EIO, "cannot be cut back", path);
        l->size = keep_bytes;
    }
    l->synced = l->size;
out:
    if (rc == FT_OK)
        *out = l;
    else
        file_log_close(l);
    return rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Cuts off what is not whole; false with errno. */
static bool cut_back(file_log *l)
{
    if (l->cut && ftruncate(l->fd, l->size) != 0) return false;
    l->cut = false;
    return true;
}

/* Everything that waits, or nothing of it; false with errno. */
static bool put(file_log *l)
{
    size_t at = 0;
    if (!cut_back(l)) return false;
    while (at < l->waiting.len) {
        ssize_t n = write(l->fd, l->waiting.data + at, l->waiting.len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            const int error = n < 0 ? errno : EIO;
            l->cut = true;
            (void)cut_back(l); /* else before the next attempt */
            errno = error;
            return false;
        }
        at += (size_t)n;
    }
    l->size += (int64_t)at;
    l->fails = 0;
    str_add(&l->tail, l->waiting.data, l->waiting.len);
    str_clear(&l->waiting);
    return true;
}

static ft_status failed(const file_log *l)
{
    return io_fail_out(FT_EIO, "cannot be written", l->path);
}

/* Behind what is on the disk everything is to be written again, through another descriptor. */
static ft_status sync_failed(file_log *l)
{
    ft_status rc = io_fail_out(FT_EIO, "cannot be written to disk", l->path);
    str_add(&l->tail, l->waiting.data, l->waiting.len);
    str_buf swap = l->waiting;
    l->waiting = l->tail;
    l->tail = swap;
    str_clear(&l->tail);
    l->size = l->synced;
    l->cut = true;
    close(l->fd);
    l->fd = io_open(l->path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
    return rc;
}

static ft_status sync_it(file_log *l)
{
    if (!io_synced(l->fd)) return sync_failed(l);
    l->synced = l->size;
    str_clear(&l->tail);
    return FT_OK;
}

ft_status file_log_add(file_log *l, const void *text, size_t n)
{
    const double now = ft_seconds();
    str_add(&l->waiting, text, n);
    FT_TRY(str_ok(&l->waiting));
    if (l->fails > 0 && now - l->last < file_retry_seconds()) return FT_OK;
    if (put(l)) return l->tail.len > TAIL ? sync_it(l) : str_ok(&l->tail);
    if (!io_is_full(errno)) return failed(l);
    if (l->fails++ == 0) l->first = now;
    l->last = now;
    if (l->fails > FILE_RETRIES && now - l->first >= FILE_RETRIES * file_retry_seconds())
        return failed(l);
    log_warn("%s: the disk is full; its lines wait in memory, and are tried again in %.0f s",
             l->path, file_retry_seconds());
    return FT_OK;
}

ft_status file_log_sync(file_log *l)
{
    int tries = 0;
    if (!l) return FT_OK;
    while (!put(l))
        if (!io_wait_for_room(l->path, &tries)) return failed(l);
    FT_TRY(str_ok(&l->tail));
    return sync_it(l);
}

void file_log_close(file_log *l)
{
    if (!l) return;
    if (l->fd >= 0) {
        (void)put(l);
        close(l->fd);
    }
    str_free(&l->tail);
    str_free(&l->waiting);
    ft_free(l->path);
    ft_free(l);
}
