/* fetch_place.c – the folder that files are fetched into.
 *
 * A file comes as a part with a name of its own on top of the folder, and gets its name once it is whole, checked and on the
 * disk. Paths are walked from the open folder, part by part, and never through a link. */
#include "fetch_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME = 256 };

static int open_at(int dir, const char *name, int flags)
{
    int fd;
    do fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static ft_status fail_out(const fetch_place *p, const char *name, const char *what)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return ft_fail(FT_EIO,
                       "%s/%s: %s: the disk is full; free space and run the same command "
                       "again, it goes on from there",
                       p->dir, ft_shows(name), what);
    return ft_fail_errno(FT_EIO, "%s/%s: %s", p->dir, ft_shows(name), what);
}

static ft_status sync_folder(const fetch_place *p, int fd)
{
    int failed;
    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return !failed || errno == EINVAL || errno == EROFS
               ? FT_OK
               : ft_fail_errno(FT_EIO, "%s: the folder cannot be written to disk", p->dir);
}

/* --- the folder --------------------------------------------------------------------------------------------------- */

ft_status fetch_place_open(fetch_place *p, const char *dir, arena *mem)
{
    path_kind kind;
    *p = (fetch_place){.dir = dir, .fd = -1, .lock = -1, .mem = mem};
    FT_TRY(path_look(dir, &kind));
    p->made = kind == PATH_NONE;
    FT_TRY(dir_make(dir));
    do p->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (p->fd < 0 && errno == EINTR);
    if (p->fd < 0) return ft_fail_errno(FT_EEXIST, "%s: the folder cannot be opened", dir);
    return dir_lock(dir, &p->lock);
}

void fetch_place_close(fetch_place *p)
{
    if (p->lock >= 0) dir_unlock(p->dir, p->lock);
    if (p->lock >= 0 && p->made) (void)rmdir(p->dir); /* which fails where something is in it */
    if (p->fd >= 0) close(p->fd);
    *p = (fetch_place){.fd = -1, .lock = -1};
}

/* --- paths ------------------------------------------------------------------------------------------------------------ */

/* FT_OK for a link that is none, or nothing there. */
static ft_status no_link(const fetch_place *p, int dir, const char *name, const char *path,
                         bool folder)
{
    struct stat sb;
    if (fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) != 0) return FT_OK;
    FT_CHECK(!S_ISLNK(sb.st_mode), FT_EDATA,
             "%s/%s: leads through a link (%s), and nothing is fetched through one; move it away",
             p->dir, ft_shows(path), ft_shows(name));
    FT_CHECK(!folder || S_ISDIR(sb.st_mode), FT_EEXIST,
             "%s/%s: needs a folder where %s is a file; move it away", p->dir, ft_shows(path),
             ft_shows(name));
    FT_CHECK(folder || !S_ISDIR(sb.st_mode), FT_EEXIST,
             "%s/%s: is a folder where a file is to be; move it away", p->dir, ft_shows(path));
    FT_CHECK(folder || S_ISREG(sb.st_mode), FT_EEXIST, "%s/%s: is not a regular file; move it away",
             p->dir, ft_shows(path));
    return FT_OK;
}

/* The folder that the last name of a path stands in; -1 where it is not there and is not made. */
static ft_status walk(const fetch_place *p, const char *path, bool make, int *above,
                      const char **last)
{
    char name[NAME];
    int at = fcntl(p->fd, F_DUPFD_CLOEXEC, 3);
    *above = -1;
    if (at < 0) return ft_fail_errno(FT_EIO, "%s: the folder cannot be opened", p->dir);
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
        int next = open_at(at, name, O_RDONLY | O_DIRECTORY);
        if (next < 0 && errno == ENOENT && make) {
            const bool made = mkdirat(at, name, 0777) == 0 || errno == EEXIST;
            ft_status rc = made ? sync_folder(p, at) : fail_out(p, name, "cannot be made");
            if (rc != FT_OK) {
                close(at);
                return rc;
            }
            next = open_at(at, name, O_RDONLY | O_DIRECTORY);
        }
        const int error = errno;
        ft_status rc = next < 0 ? no_link(p, at, name, path, true) : FT_OK;
        close(at);
        if (rc != FT_OK) return rc;
        errno = error;
        if (next < 0 && error == ENOENT && !make) return FT_OK;
        if (next < 0) return fail_out(p, name, "cannot be opened");
        at = next;
    }
    *above = at;
    *last = path;
    return FT_OK;
}

ft_status fetch_place_look(const fetch_place *p, const char *path, int *fd)
{
    int above;
    const char *last;
    struct stat sb;
    *fd = -1;
    FT_TRY(walk(p, path, false, &above, &last));
    if (above < 0) return FT_OK;
    ft_status rc = no_link(p, above, last, path, false);
    if (rc == FT_OK) {
        *fd = open_at(above, last, O_RDONLY);
        if (*fd < 0 && errno != ENOENT) rc = fail_out(p, path, "cannot be opened");
    }
    if (*fd >= 0 && (fstat(*fd, &sb) != 0 || !S_ISREG(sb.st_mode))) {
        close(*fd);
        *fd = -1;
        rc = ft_fail(FT_EEXIST, "%s/%s: is not a regular file; move it away", p->dir,
                     ft_shows(path));
    }
    close(above);
    return rc;
}

/* --- parts ------------------------------------------------------------------------------------------------------------ */

static void name_of(char out[17], const char *a, const char *b, const char *c)
{
    sha256_state s;
    char hex[65];
    sha256_init(&s);
    sha256_add(&s, a, strlen(a) + 1);
    sha256_add(&s, b, strlen(b) + 1);
    sha256_add(&s, c, strlen(c) + 1);
    sha256_hex(&s, hex);
    snprintf(out, 17, "%.16s", hex);
}

void fetch_part_name(char out[FETCH_PART], const fetch_repo *r, const fetch_file *f)
{
    char repo[17], file[17];
    name_of(repo, r->id, r->dataset ? "dataset" : "model", "");
    name_of(file, f->path, f->sha256, f->sha256[0] ? "" : f->git[0] ? f->git : r->commit);
    snprintf(out, FETCH_PART, ".fetch-%s-%s.part", repo, file);
}

ft_status fetch_part_open(const fetch_place *p, const char *part, int *fd, int64_t *size)
{
    struct stat sb;
    *size = 0;
    *fd = open_at(p->fd, part, O_RDWR);
    if (*fd >= 0 && fstat(*fd, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_nlink == 1) {
        *size = (int64_t)sb.st_size;
        return FT_OK;
    }
    if (*fd >= 0 || errno != ENOENT) { /* not ours: a link, or a file with another name too */
        if (*fd >= 0) close(*fd);
        if (unlinkat(p->fd, part, 0) != 0) return fail_out(p, part, "cannot be replaced");
    }
    *fd = open_at(p->fd, part, O_RDWR | O_CREAT | O_EXCL);
    return *fd >= 0 ? FT_OK : fail_out(p, part, "cannot be made");
}

void fetch_part_remove(const fetch_place *p, const char *part)
{
    (void)unlinkat(p->fd, part, 0);
}

ft_status fetch_part_put(const fetch_place *p, const char *part, const char *path, bool replace)
{
    int above;
    const char *last;
    FT_TRY(walk(p, path, true, &above, &last));
    ft_status rc = no_link(p, above, last, path, false);
    int failed = -1;
    if (rc == FT_OK && !replace) {
        failed = renameat2(p->fd, part, above, last, RENAME_NOREPLACE);
        if (failed && errno == EEXIST)
            rc = ft_fail(FT_EEXIST,
                         "%s/%s: was made by somebody else meanwhile; move it away and run again",
                         p->dir, ft_shows(path));
        replace = failed && (errno == EINVAL || errno == ENOSYS); /* the file system cannot tell */
    }
    if (rc == FT_OK && replace) failed = renameat(p->fd, part, above, last);
    if (rc == FT_OK && failed) rc = fail_out(p, path, "cannot be put in place");
    if (rc == FT_OK) rc = sync_folder(p, above);
    close(above);
    return rc == FT_OK ? sync_folder(p, p->fd) : rc;
}

void fetch_parts_tidy(const fetch_place *p, const fetch_repo *r)
{
    char part[FETCH_PART] = "";
    map_table kept = {0};
    const char **names;
    int64_t n, one;
    ft_status rc = dir_list(p->dir, p->mem, &names, &n);
    for (int64_t i = 0; i < r->n && rc == FT_OK; i++) {
        fetch_part_name(part, r, &r->file[i]);
        const char *name = arena_str(p->mem, part);
        rc = name ? map_put(&kept, name, strlen(name), 1) : FT_EMEM;
    }
    const size_t ours = sizeof ".fetch-0123456789abcdef-" - 1;
    for (int64_t i = 0; i < n && rc == FT_OK; i++)
        if (strlen(names[i]) == strlen(part) && strncmp(names[i], part, ours) == 0 &&
            str_ends(names[i], ".part") && !map_get(&kept, names[i], strlen(names[i]), &one))
            fetch_part_remove(p, names[i]);
    if (rc != FT_OK) ft_error_forget(); /* what is left harms nobody */
    map_free(&kept);
}
