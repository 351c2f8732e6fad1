/* out.c – may a result stand at the place that was given for it?
 *
 * Places are compared as the system sees them, so links, "..", and hard links make no difference. What is refused here is
 * refused whatever --force says: it is about what would be lost. */
#include "io_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Is the folder `out` the one at path, or above it? */
static bool holds(const struct stat *out, const char *path)
{
    char full[PATH_MAX];
    struct stat sb;
    if (!realpath(path, full)) return false;
    for (;;) {
        if (stat(full, &sb) == 0 && same(out, &sb)) return true;
        char *slash = strrchr(full, '/');
        if (!slash || strcmp(full, "/") == 0) return false;
        slash[slash == full] = '\0';
    }
}

static ft_status check_place(const char *out, const struct stat *sb)
{
    static const struct {
        const char *path, *what;
    } places[] = {{"/", "the root of the file system"},
                  {".", "the folder you are in, or above it"},
                  {NULL, "your home folder, or above it"}};
    for (size_t i = 0; i < FT_COUNT_OF(places); i++) {
        const char *path = places[i].path ? places[i].path : getenv("HOME");
        FT_CHECK(!path || !path[0] || !holds(sb, path), FT_EEXIST,
                 "%s: is %s; choose a folder of its own for the result", ft_shows(out),
                 places[i].what);
    }
    return FT_OK;
}

/* Is the file `out` one of those that an input consists of? */
static ft_status is_part(const struct stat *out, const char *path, arena *a, const char **part)
{
    const char **names, *dir = dir_exists(path) ? path : path_dir(a, path);
    struct stat sb;
    int64_t n;
    *part = NULL;
    if (!dir) return FT_EMEM;
    const bool folder = dir == path;
    if (!folder && !str_ends(path, ".gguf")) return FT_OK;
    FT_TRY(dir_list(dir[0] ? dir : ".", a, &names, &n));
    for (int64_t i = 0; i < n && !*part; i++) {
        const char *one = path_join(a, dir, names[i]);
        if (!one) return FT_EMEM;
        if ((folder || gguf_same_model(path, names[i])) && stat(one, &sb) == 0 && same(out, &sb))
            *part = one;
    }
    return FT_OK;
}

static ft_status check_input(const char *out, const struct stat *sb, const io_input *in, arena *a)
{
    const char *part = NULL;
    struct stat other;
    if (!in->path || stat(in->path, &other) != 0) return FT_OK;
    FT_CHECK(!same(sb, &other), FT_EEXIST, "%s: is %s; choose another name for the result",
             ft_shows(out), in->what);
    if (S_ISDIR(sb->st_mode)) {
        FT_CHECK(in->may_lie_in || !holds(sb, in->path), FT_EEXIST,
                 "%s: holds %s, %s; choose another folder for the result", ft_shows(out), in->what,
                 ft_shows(in->path));
        return FT_OK;
    }
    FT_TRY(is_part(sb, in->path, a, &part));
    FT_CHECK(!part, FT_EEXIST, "%s: is a file of %s, %s; choose another name for the result",
             ft_shows(out), in->what, ft_shows(in->path));
    return FT_OK;
}

ft_status io_out_check(const char *out, const io_input *in, int n)
{
    struct stat sb;
    arena *a;
    FT_CHECK(out[0], FT_EUSAGE, "--out: an empty path");
    if (stat(out, &sb) != 0) return FT_OK; /* what is not there is not an input */
    if (S_ISDIR(sb.st_mode)) FT_TRY(check_place(out, &sb));
    FT_TRY(arena_open(&a, "an output", (size_t)64 << 20));
    ft_status rc = FT_OK;
    for (int i = 0; i < n && rc == FT_OK; i++) rc = check_input(out, &sb, &in[i], a);
    arena_close(a);
    return rc;
}

/* The folder that a name would stand in, and the name: two paths of one file that is not there yet. */
bool io_same_place(const char *a, const char *b)
{
    const char *path[2] = {a, b};
    struct stat sb[2];
    char dir[PATH_MAX];
    if (stat(a, &sb[0]) == 0 && stat(b, &sb[1]) == 0) return same(&sb[0], &sb[1]);
    if (strcmp(path_base(a), path_base(b)) != 0) return false;
    for (int i = 0; i < 2; i++) {
        const size_t n = (size_t)(path_base(path[i]) - path[i]);
        if (n >= sizeof dir) return false;
        memcpy(dir, path[i], n);
        dir[n] = '\0';
        if (stat(n ? dir : ".", &sb[i]) != 0) return false;
    }
    return same(&sb[0], &sb[1]);
}

/* --- what is there already -------------------------------------------------------------------- */

static bool is_mount(const char *path, const struct stat *sb)
{
    struct stat above;
    char up[PATH_MAX];
#ifdef STATX_ATTR_MOUNT_ROOT
    struct statx sx;
    if (statx(AT_FDCWD, path, 0, STATX_TYPE, &sx) == 0 &&
        sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
        return sx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
#endif
    if (snprintf(up, sizeof up, "%s/..", path) >= (int)sizeof up) return false;
    return stat(up, &above) == 0 && above.st_dev != sb->st_dev;
}

static ft_status check_folder(const char *path, const struct stat *sb, arena *a)
{
    const char *foreign;
    int lock;
    FT_CHECK(!is_mount(path, sb), FT_EEXIST,
             "%s: is where a file system is mounted; choose a folder in it", ft_shows(path));
    FT_TRY(io_foreign(path, true, a, &foreign));
    FT_CHECK(!foreign, FT_EEXIST,
             "%s: is not replaced, because it holds \"%s\", which is neither a result of ft nor a "
             "file of a model; choose another --out",
             ft_shows(path), ft_shows(foreign));
    const char *name = path_join(a, path, ".lock");
    if (!name) return FT_EMEM;
    if (!file_exists(name)) return FT_OK;
    FT_TRY(dir_lock(path, &lock)); /* a run that is at work there */
    close(lock);
    return FT_OK;
}

bool io_begins(const char *path, const char *const *heads)
{
    char text[64] = {0};
    int fd;
    if (ft_open(&fd, path, NULL) != FT_OK) {
        ft_error_clear();
        return false;
    }
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    bool fit = n == 0;
    for (; n > 0 && *heads && !fit; heads++) fit = strncmp(text, *heads, strlen(*heads)) == 0;
    return fit;
}

ft_status io_out_there(const char *path, bool *there)
{
    struct stat sb;
    *there = lstat(path, &sb) == 0;
    if (!*there && errno != ENOENT) return ft_fail_errno(FT_EEXIST, "%s", path);
    return FT_OK;
}

static ft_status check_file(const char *path, const char *const *heads, const char *what)
{
    struct stat sb;
    if (lstat(path, &sb) != 0)
        return errno == ENOENT ? FT_OK : ft_fail_errno(FT_EEXIST, "%s", path);
    FT_CHECK(!S_ISLNK(sb.st_mode), FT_EEXIST,
             "%s: is a link, and nothing is written through one; name the file itself",
             ft_shows(path));
    FT_CHECK(!S_ISDIR(sb.st_mode), FT_EEXIST, "%s: is a folder; choose another name",
             ft_shows(path));
    FT_CHECK(S_ISREG(sb.st_mode), FT_EEXIST, "%s: is not a regular file; choose another name",
             ft_shows(path));
    FT_CHECK(io_begins(path, heads), FT_EEXIST,
             "%s: is not replaced, because it is not %s; choose another name, or remove it first",
             ft_shows(path), what);
    return FT_OK;
}

ft_status io_out_file(const char *path, const char *const *heads, const char *what)
{
    str_buf temporary = {0};
    FT_TRY(check_file(path, heads, what));
    str_printf(&temporary, "%s.tmp", path); /* it is written under this name first */
    ft_status rc = str_ok(&temporary);
    if (rc == FT_OK) rc = check_file(temporary.data, heads, what);
    str_free(&temporary);
    return rc;
}

ft_status io_out_result(const char *path, arena *a)
{
    static const char *const gguf[] = {"GGUF", NULL};
    struct stat sb;
    if (lstat(path, &sb) != 0)
        return errno == ENOENT ? FT_OK : ft_fail_errno(FT_EEXIST, "%s", path);
    if (S_ISDIR(sb.st_mode)) {
        FT_CHECK(!str_ends(path, ".gguf"), FT_EEXIST, "%s: is a folder; choose another name",
                 ft_shows(path));
        return check_folder(path, &sb, a);
    }
    FT_CHECK(str_ends(path, ".gguf") || !S_ISREG(sb.st_mode), FT_EEXIST,
             "%s: is a file, and a folder is to be made; choose another name", ft_shows(path));
    return io_out_file(path, gguf, "a .gguf");
}
