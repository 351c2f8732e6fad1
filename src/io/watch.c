/* watch.c – inputs that somebody changes while they are in use.
 *
 * A run of hours maps its base and reads nothing twice, so a file that is written over in place changes the weights under it.
 * Size, times and inode tell of nearly all changes, some pages of the file of those that keep them. What was only touched
 * may not cost a run its result: there the whole is hashed once more. */
#include "io_private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SPOTS = 66, SPOT = 4096, WINDOW = 128 << 10 };

struct file_watch {
    file_watch *next;
    ft_mapped *mapped;
    const uint8_t *data; /* of a mapping */
    int fd;              /* of a file that is mapped in pieces; -1 */
    char *path;
    file_use use;
    bool told; /* that it is another one now */
    struct stat was;
    char sample[65], sha256[65]; /* "": not known */
};
static file_watch *watches;

/* --- what it holds ------------------------------------------------------------------------------------------------- */
/* Pages of a mapping that were only looked at leave the memory of the process again, with those that came along. */
static void forget(const file_watch *w, int64_t at)
{
    const int64_t from = at / WINDOW * WINDOW, left = (int64_t)w->was.st_size - from;
    (void)madvise((void *)(uintptr_t)(w->data + from), (size_t)(left < WINDOW ? left : WINDOW),
                  MADV_DONTNEED); /* only a hint */
}

/* n bytes at a place of the file, or what there is of them. */
static ft_status add_bytes(const file_watch *w, int fd, int64_t at, size_t n, sha256_state *sha)
{
    uint8_t page[SPOT];
    ssize_t got;
    do got = pread(fd, page, n, (off_t)at);
    while (got < 0 && errno == EINTR);
    if (got < 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", w->path);
    sha256_add(sha, page, (size_t)got);
    return FT_OK;
}

/* A page in each of SPOTS places from the first to the last, by fd or from the mapping; all of what is shorter, and with
 * `whole` of any file. */
static ft_status hash(const file_watch *w, int fd, bool whole, char hex[65])
{
    sha256_state sha;
    const int64_t size = (int64_t)w->was.st_size, pages = (size + SPOT - 1) / SPOT,
                  spots = pages < SPOTS || whole ? pages : SPOTS;
    sha256_init(&sha);
    for (int64_t i = 0; i < spots; i++) {
        const int64_t at = (spots > 1 ? (pages - 1) * i / (spots - 1) : 0) * SPOT,
                      n = size - at < SPOT ? size - at : SPOT;
        if (fd >= 0)
            FT_TRY(add_bytes(w, fd, at, (size_t)n, &sha));
        else
            sha256_add(&sha, w->data + at, (size_t)n);
        if (fd < 0 && (!whole || (at + SPOT) % WINDOW == 0 || i + 1 == spots)) forget(w, at);
    }
    sha256_hex(&sha, hex);
    return FT_OK;
}

static ft_status hash_by_name(const file_watch *w, bool whole, char hex[65])
{
    int fd;
    FT_TRY(ft_open(&fd, w->path, NULL));
    ft_status rc = hash(w, fd, whole, hex);
    close(fd);
    return rc;
}

/* --- beginning and end --------------------------------------------------------------------------------------------- */
static ft_status begin(file_watch **out, const char *path, file_use use)
{
    *out = NULL;
    file_watch *w = ft_alloc(1, sizeof *w);
    if (!w) return FT_EMEM;
    w->use = use;
    w->fd = -1;
    w->path = ft_strdup(path);
    if (!w->path) {
        ft_free(w);
        return FT_EMEM;
    }
    w->next = watches;
    watches = *out = w;
    return FT_OK;
}

void file_watch_close(file_watch *w)
{
    if (!w) return;
    for (file_watch **at = &watches; *at; at = &(*at)->next) {
        if (*at != w) continue;
        *at = w->next;
        break;
    }
    ft_mapped_drop(w->mapped);
    ft_free(w->path);
    ft_free(w);
}

ft_status io_watch_map(file_map *m, int fd, const char *path)
{
    FT_TRY(begin(&m->watch, path, FILE_MAPPED));
    file_watch *w = m->watch;
    w->data = m->data;
    w->fd = m->pieces ? fd : -1;
    if (fstat(fd, &w->was) != 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", path);
    w->was.st_size = (off_t)m->size;
    if (!m->pieces) w->mapped = ft_mapped_add(m->data, m->size, path);
    if (!m->pieces && !w->mapped) return FT_EMEM;
    return hash(w, fd, false, w->sample);
}

void io_watch_hash(file_watch *w, const char sha256[65])
{
    memcpy(w->sha256, sha256, sizeof w->sha256);
}

/* A pipe is not opened: who writes to it would take us for its reader. */
ft_status file_watch_open(file_watch **out, const char *path, file_use use)
{
    FT_TRY(begin(out, path, use));
    file_watch *w = *out;
    ft_status rc =
        stat(path, &w->was) == 0 ? FT_OK : ft_fail_errno(FT_EIO, "%s: cannot be opened", path);
    if (rc == FT_OK && S_ISREG(w->was.st_mode) && use == FILE_STREAM)
        rc = hash_by_name(w, false, w->sample);
    if (rc == FT_OK && S_ISREG(w->was.st_mode) && use == FILE_COPIED)
        rc = hash_by_name(w, true, w->sha256);
    if (rc == FT_OK) return FT_OK;
    file_watch_close(w);
    *out = NULL;
    return rc;
}

/* --- looking again ------------------------------------------------------------------------------------------------- */
static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static ft_status changed(const file_watch *w)
{
    return ft_fail(
        FT_EDATA,
        "%s: was changed while it was in use; put back what it was, or run again with what "
        "it is now",
        w->path);
}

static void tell_touched(file_watch *w, const struct stat *now)
{
    log_warn("%s: was touched while it was in use; its bytes are what they were", w->path);
    w->was.st_mtim = now->st_mtim;
    w->was.st_ctim = now->st_ctim;
}

/* A mapping goes with its inode, whatever has the name now. */
static ft_status check_mapping(file_watch *w, const struct stat *now, bool same_file)
{
    char hex[65];
    if (same_file && now->st_size != w->was.st_size) return changed(w);
    if (!same_file && !w->told)
        log_warn("%s: is no longer the file that was opened; this run goes on with that one",
                 w->path);
    w->told = !same_file;
    FT_TRY(hash(w, w->fd, false, hex));
    if (strcmp(hex, w->sample) != 0) return changed(w);
    const bool written = same_file && !same_time(now->st_mtim, w->was.st_mtim);
    const bool touched = written || (same_file && !same_time(now->st_ctim, w->was.st_ctim));
    if (!touched) return FT_OK;
    if (!w->sha256[0]) return written ? changed(w) : FT_OK; /* its mode or its links */
    FT_TRY(hash(w, w->fd, true, hex));
    if (strcmp(hex, w->sha256) != 0) return changed(w);
    tell_touched(w, now);
    return FT_OK;
}

static ft_status check_stream(file_watch *w, const struct stat *now, bool same_file)
{
    char hex[65];
    if (!same_file || now->st_size != w->was.st_size) return changed(w);
    if (same_time(now->st_mtim, w->was.st_mtim) && same_time(now->st_ctim, w->was.st_ctim))
        return FT_OK;
    FT_TRY(hash_by_name(w, false, hex));
    if (strcmp(hex, w->sample) != 0) return changed(w);
    tell_touched(w, now);
    return FT_OK;
}

/* What is copied is read again by its name. */
static ft_status check_copied(file_watch *w, const struct stat *now, bool same_file)
{
    char hex[65];
    if (same_file && now->st_size == w->was.st_size && same_time(now->st_mtim, w->was.st_mtim) &&
        same_time(now->st_ctim, w->was.st_ctim))
        return FT_OK;
    if (now->st_size != w->was.st_size || hash_by_name(w, true, hex) != FT_OK ||
        strcmp(hex, w->sha256) != 0)
        return changed(w);
    w->was = *now;
    return FT_OK;
}

static ft_status check_one(file_watch *w)
{
    struct stat now = {0};
    bool there;
    FT_TRY(io_look(w->path, &now, &there));
    const bool same = there && now.st_dev == w->was.st_dev && now.st_ino == w->was.st_ino;
    if (!S_ISREG(w->was.st_mode)) return FT_OK; /* standard input and the like */
    if (w->use == FILE_MAPPED) return check_mapping(w, &now, same);
    if (w->use == FILE_STREAM) return check_stream(w, &now, same);
    if (w->use == FILE_COPIED) return check_copied(w, &now, same);
    const bool other =
        !same || now.st_size != w->was.st_size || !same_time(now.st_mtim, w->was.st_mtim);
    if (other && !w->told)
        log_warn("%s: was changed after it had been read; this run goes on with what it has read, "
                 "and could not be resumed with what it is now",
                 w->path);
    w->told = other;
    return FT_OK;
}

ft_status file_inputs_check(void)
{
    for (file_watch *w = watches; w; w = w->next) FT_TRY(check_one(w));
    return FT_OK;
}
