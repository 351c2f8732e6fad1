/* dir.c – folders: making, removing, listing, syncing, locking; and the arithmetic of paths. */
#include "io_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* --- looking ---------------------------------------------------------------------------------- */

/* By stat or lstat: *there, or the error of a look that answers nothing. */
static ft_status look(const char *path, bool link, struct stat *sb, bool *there)
{
    *there = (link ? lstat(path, sb) : stat(path, sb)) == 0;
    if (*there || errno == ENOENT || errno == ENOTDIR || (errno == ELOOP && !link)) return FT_OK;
    return ft_fail_errno(errno == ENAMETOOLONG ? FT_ENOINPUT : FT_EIO, "%s: cannot be looked at",
                         ft_shows(path));
}

ft_status io_look(const char *path, struct stat *sb, bool *there)
{
    return look(path, false, sb, there);
}

ft_status io_look_link(const char *path, struct stat *sb, bool *there)
{
    return look(path, true, sb, there);
}

ft_status path_look(const char *path, path_kind *kind)
{
    struct stat sb;
    bool there;
    *kind = PATH_NONE;
    FT_TRY(look(path, false, &sb, &there));
    if (there) {
        *kind = S_ISDIR(sb.st_mode) ? PATH_FOLDER : PATH_FILE;
        return FT_OK;
    }
    FT_TRY(look(path, true, &sb, &there));
    if (there) *kind = PATH_LOST;
    return FT_OK;
}

ft_status path_look_in(const char *dir, const char *name, path_kind *kind)
{
    char path[PATH_MAX]; /* no memory is asked for: its want would be one more way not to know */
    *kind = PATH_NONE;
    FT_CHECK(snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path, FT_ENOINPUT,
             "%s: the path is too long", ft_shows(dir));
    return path_look(path, kind);
}

ft_status path_size(const char *path, int64_t *bytes)
{
    struct stat sb;
    bool there;
    FT_TRY(look(path, false, &sb, &there));
    *bytes = there && S_ISREG(sb.st_mode) ? (int64_t)sb.st_size : -1;
    return FT_OK;
}

/* --- paths ------------------------------------------------------------------------------------ */

const char *path_join(arena *a, const char *dir, const char *name)
{
    if (!dir[0] || name[0] == '/') return arena_str(a, name);
    return arena_printf(a, dir[strlen(dir) - 1] == '/' ? "%s%s" : "%s/%s", dir, name);
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *path_dir(arena *a, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return "";
    return arena_strn(a, path, slash == path ? 1 : (size_t)(slash - path));
}

/* --- making and removing ---------------------------------------------------------------------- */

ft_status dir_sync(const char *path)
{
    int fd = io_open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return ft_fail_errno(FT_EIO, "%s: the folder cannot be opened", path);
    if (!io_synced(fd)) {
        ft_status rc = ft_fail_errno(FT_EIO, "%s: the folder cannot be written to disk", path);
        close(fd);
        return rc;
    }
    close(fd);
    return FT_OK;
}

ft_status io_sync_above(const char *path)
{
    char folder[PATH_MAX];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n > 0 && path[n - 1] != '/') n--;
    if (n == 0) return dir_sync(".");
    if (n >= sizeof folder) return ft_fail(FT_EIO, "%s: the path is too long", path);
    memcpy(folder, path, n);
    folder[n > 1 ? n - 1 : n] = '\0';
    return dir_sync(folder);
}

ft_status dir_make(const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    FT_CHECK(n > 0 && n < sizeof part, FT_EEXIST, "\"%s\": no name for a folder", ft_shows(path));
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        if (part[i - 1] == '/') continue;
        char kept = part[i];
        part[i] = '\0';
        const int failed = mkdir(part, 0777) == 0 ? 0 : errno;
        if (!failed) {
            FT_TRY(io_sync_above(part));
        } else if (failed == ENOSPC || failed == EDQUOT) {
            return ft_fail(FT_EIO, "%s: cannot be made: the disk is full", part);
        } else {
            path_kind kind;
            FT_TRY(path_look(part, &kind));
            if (kind != PATH_FOLDER && (failed == EEXIST || failed == ENOTDIR))
                return ft_fail(FT_EEXIST, "%s: exists and is not a folder", part);
            errno = failed; /* the look has its own */
            if (kind != PATH_FOLDER)
                return ft_fail_errno(FT_EEXIST, "%s: the folder cannot be made", part);
        }
        part[i] = kept;
    }
    return FT_OK;
}

ft_status dir_remove(const char *path)
{
    enum { DEPTH = 64 };
    char name[PATH_MAX];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    FT_CHECK(n < sizeof name, FT_EIO, "%s: the path is too long", path);
    memcpy(name, path, n);
    name[n] = '\0';
    if (!ft_remove_at(AT_FDCWD, name, DEPTH))
        return ft_fail_errno(FT_EIO, "%s: cannot be removed", path);
    return FT_OK;
}

ft_status dir_rename(const char *from, const char *to)
{
    if (rename(from, to) != 0) {
        if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
            return ft_fail(FT_EEXIST, "%s: exists already", to);
        return ft_fail_errno(FT_EIO, "%s: cannot be renamed to %s", from, to);
    }
    return io_sync_above(to);
}

/* --- listing ---------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

ft_status dir_list(const char *path, arena *a, const char ***names, int64_t *n)
{
    ft_status rc = FT_OK;
    const char **list = NULL;
    size_t count = 0, cap = 0;
    struct dirent *entry;

    *names = NULL;
    *n = 0;
    DIR *dir;
    do dir = opendir(path);
    while (!dir && errno == EINTR);
    if (!dir) return ft_fail_errno(FT_EIO, "%s: the folder cannot be read", path);
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (count == cap) {
            size_t more = cap ? 2 * cap : 16;
            const char **grown = ft_realloc(list, more, sizeof *list);
            if (!grown) {
                rc = FT_EMEM;
                goto out;
            }
            list = grown;
            cap = more;
        }
        list[count] = arena_str(a, entry->d_name);
        if (!list[count++]) {
            rc = FT_EMEM;
            goto out;
        }
    }
    if (errno != 0) {
        rc = ft_fail_errno(FT_EIO, "%s: the folder cannot be read", path);
        goto out;
    }
    *names = arena_get(a, (count + 1) * sizeof *list);
    if (!*names) {
        rc = FT_EMEM;
        goto out;
    }
    if (count > 0) {
        memcpy(*names, list, count * sizeof *list);
        qsort(*names, count, sizeof **names, by_name);
    }
    *n = (int64_t)count;
out:
    closedir(dir);
    ft_free(list);
    return rc;
}

/* --- locking ---------------------------------------------------------------------------------- */

/* The file stays when the lock is given up: removing it would race with the next owner. The lock
 * itself dies with its process, so nothing stale can remain. */
/* Is the file behind fd the one of this name? */
static bool still_there(int fd, const char *name)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(name, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

ft_status dir_lock(const char *path, int *out)
{
    char name[PATH_MAX], pid[32] = {0};
    int fd, tries = 0;
    *out = -1;
    FT_CHECK(snprintf(name, sizeof name, "%s/.lock", path) < (int)sizeof name, FT_EEXIST,
             "%s: the path is too long", path);
again:
    fd = io_open(name, O_RDWR | O_CREAT | O_NOFOLLOW);
    if (fd < 0) return ft_fail_errno(FT_EEXIST, "%s: cannot be made", name);
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        ft_status rc;
        if (errno == EWOULDBLOCK) {
            ssize_t got = pread(fd, pid, sizeof pid - 1, 0);
            long owner = got > 0 ? strtol(pid, NULL, 10) : 0;
            rc = owner > 0 ? ft_fail(FT_EEXIST, "%s: in use by process %ld; wait for it or stop it",
                                     path, owner)
                           : ft_fail(FT_EEXIST, "%s: in use by another process", path);
        } else {
            rc = ft_fail_errno(FT_EEXIST, "%s: cannot be locked", name);
        }
        close(fd);
        return rc;
    }
    if (!still_there(fd, name)) { /* its owner removed it between our open and our lock */
        close(fd);
        FT_CHECK(++tries < 1000, FT_EIO, "%s: cannot be looked at, or is made anew all the time",
                 name);
        goto again;
    }
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* The number is a courtesy to the next process; a full disk must not stop the run here. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
        log_warn("%s: the process number cannot be written", name);
    *out = fd;
    return FT_OK;
}

void dir_unlock(const char *path, int fd)
{
    char name[PATH_MAX];
    if (fd < 0) return;
    if (snprintf(name, sizeof name, "%s/.lock", path) < (int)sizeof name && unlink(name) != 0)
        log_warn("%s: cannot be removed", name);
    close(fd);
}

/* The path, or the nearest folder above it that is there, or that cannot be looked at; false: none. */
static bool nearest(const char *path, char part[PATH_MAX])
{
    struct stat sb;
    size_t n = strlen(path);
    if (n == 0 || n >= PATH_MAX) return false;
    memcpy(part, path, n + 1);
    while (stat(part, &sb) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        while (n > 0 && part[n - 1] == '/') n--;
        while (n > 0 && part[n - 1] != '/') n--;
        if (n == 0 && strcmp(part, ".") == 0) return false;
        if (n == 0) {
            memcpy(part, ".", 2);
        } else {
            if (n == 1 && strcmp(part, "/") == 0) return false;
            part[n > 1 ? n - 1 : n] = '\0';
        }
        n = strlen(part);
    }
    return true;
}

ft_status dir_may_make(const char *path)
{
    char part[PATH_MAX];
    struct stat sb;
    if (!nearest(path, part)) return FT_OK; /* making it will tell */
    FT_CHECK(stat(part, &sb) != 0 || S_ISDIR(sb.st_mode), FT_EEXIST,
             "%s: is a file, and a folder is to be made there", ft_shows(part));
    if (faccessat(AT_FDCWD, part, W_OK | X_OK, AT_EACCESS) == 0) return FT_OK;
    const bool itself = strcmp(part, path) == 0;
    return itself ? ft_fail_errno(FT_EEXIST, "%s: cannot be written to", path)
                  : ft_fail_errno(FT_EEXIST, "%s: cannot be made in %s", path, part);
}

size_t dir_free_space(const char *path)
{
    char part[PATH_MAX];
    struct statvfs sv;
    size_t bytes;
    if (!nearest(path, part) || statvfs(part, &sv) != 0) return SIZE_MAX;
    return ft_mul((size_t)sv.f_bavail, (size_t)sv.f_frsize, &bytes) ? bytes : SIZE_MAX;
}
