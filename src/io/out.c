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

/* Is the folder `out` the one at path, or above it? What lies behind a folder that we may not enter we cannot remove. */
static ft_status holds(const struct stat *out, const char *path, bool *is)
{
    char full[PATH_MAX];
    struct stat sb;
    bool there;
    *is = false;
    if (!realpath(path, full)) {
        if (errno == ENOENT || errno == ENOTDIR || errno == EACCES) return FT_OK;
        return ft_fail_errno(FT_EIO, "%s: cannot be looked at", ft_shows(path));
    }
    for (;;) {
        FT_TRY(io_look(full, &sb, &there));
        if (there && same(out, &sb)) *is = true;
        char *slash = strrchr(full, '/');
        if (*is || !slash || strcmp(full, "/") == 0) return FT_OK;
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
        bool is = false;
        if (path && path[0]) FT_TRY(holds(sb, path, &is));
        FT_CHECK(!is, FT_EEXIST, "%s: is %s; choose a folder of its own for the result",
                 ft_shows(out), places[i].what);
    }
    return FT_OK;
}

/* Is the file `out` one of those that an input consists of? */
static ft_status is_part(const struct stat *out, const char *path, arena *a, const char **part)
{
    const char **names;
    struct stat sb;
    int64_t n;
    path_kind kind;
    bool there;
    *part = NULL;
    FT_TRY(path_look(path, &kind));
    const bool folder = kind == PATH_FOLDER;
    const char *dir = folder ? path : path_dir(a, path);
    if (!dir) return FT_EMEM;
    if (!folder && !str_ends(path, ".gguf")) return FT_OK;
    FT_TRY(dir_list(dir[0] ? dir : ".", a, &names, &n));
    for (int64_t i = 0; i < n && !*part; i++) {
        const char *one = path_join(a, dir, names[i]);
        if (!one) return FT_EMEM;
        if (!folder && !gguf_same_model(path, names[i])) continue;
        FT_TRY(io_look(one, &sb, &there));
        if (there && same(out, &sb)) *part = one;
    }
    return FT_OK;
}

static ft_status check_input(const char *out, const struct stat *sb, const io_input *in, arena *a)
{
    const char *part = NULL;
    struct stat other;
    bool there, held = false;
    if (!in->path) return FT_OK;
    FT_TRY(io_look(in->path, &other, &there));
    if (!there) return FT_OK;
    FT_CHECK(!same(sb, &other), FT_EEXIST, "%s: is %s; choose another name for the result",
             ft_shows(out), in->what);
    if (S_ISDIR(sb->st_mode)) {
        if (!in->may_lie_in) FT_TRY(holds(sb, in->path, &held));
        FT_CHECK(!held, FT_EEXIST, "%s: holds %s, %s; choose another folder for the result",
                 ft_shows(out), in->what, ft_shows(in->path));
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
    bool there;
    FT_CHECK(out[0], FT_EUSAGE, "--out: an empty path");
    FT_TRY(io_look(out, &sb, &there));
    if (!there) return FT_OK; /* what is not there is not an input */
    if (S_ISDIR(sb.st_mode)) FT_TRY(check_place(out, &sb));
    FT_TRY(arena_open(&a, "an output", (size_t)64 << 20));
    ft_status rc = FT_OK;
    for (int i = 0; i < n && rc == FT_OK; i++) rc = check_input(out, &sb, &in[i], a);
    arena_close(a);
    return rc;
}

/* The folder that a name would stand in, and the name: two paths of one file that is not there yet. */
ft_status io_same_place(const char *a, const char *b, bool *is)
{
    const char *path[2] = {a, b};
    struct stat sb[2];
    bool there[2];
    char dir[PATH_MAX];
    *is = false;
    for (int i = 0; i < 2; i++) FT_TRY(io_look(path[i], &sb[i], &there[i]));
    if (!(there[0] && there[1])) {
        if (strcmp(path_base(a), path_base(b)) != 0) return FT_OK;
        for (int i = 0; i < 2; i++) {
            const size_t n = (size_t)(path_base(path[i]) - path[i]);
            if (n >= sizeof dir) return FT_OK;
            memcpy(dir, path[i], n);
            dir[n] = '\0';
            FT_TRY(io_look(n ? dir : ".", &sb[i], &there[i]));
            if (!there[i]) return FT_OK;
        }
    }
    *is = same(&sb[0], &sb[1]);
    return FT_OK;
}

/* --- what is there already -------------------------------------------------------------------- */

static ft_status is_mount(const char *path, const struct stat *sb, bool *is)
{
    struct stat above;
    char up[PATH_MAX];
    bool there;
    *is = false;
#ifdef STATX_ATTR_MOUNT_ROOT
    struct statx sx;
    if (statx(AT_FDCWD, path, 0, STATX_TYPE, &sx) == 0 &&
        sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) {
        *is = sx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
        return FT_OK;
    }
#endif
    if (snprintf(up, sizeof up, "%s/..", path) >= (int)sizeof up) return FT_OK;
    FT_TRY(io_look(up, &above, &there));
    *is = there && above.st_dev != sb->st_dev;
    return FT_OK;
}

static ft_status check_folder(const char *path, const struct stat *sb, arena *a)
{
    const char *foreign;
    int lock;
    bool mount;
    path_kind locked;
    FT_TRY(is_mount(path, sb, &mount));
    FT_CHECK(!mount, FT_EEXIST, "%s: is where a file system is mounted; choose a folder in it",
             ft_shows(path));
    FT_TRY(io_foreign(path, true, a, &foreign));
    FT_CHECK(!foreign, FT_EEXIST,
             "%s: is not replaced, because it holds \"%s\", which is neither a result of ft nor a "
             "file of a model; choose another --out",
             ft_shows(path), ft_shows(foreign));
    FT_TRY(path_look_in(path, ".lock", &locked));
    if (locked != PATH_FILE) return FT_OK;
    FT_TRY(dir_lock(path, &lock)); /* a run that is at work there */
    close(lock);
    return FT_OK;
}

/* Nothing can be made where it cannot be told what stands there: 73. */
static ft_status look(const char *path, struct stat *sb, bool *there)
{
    *there = lstat(path, sb) == 0;
    if (*there || errno == ENOENT) return FT_OK;
    return ft_fail_errno(FT_EEXIST, "%s: cannot be looked at", ft_shows(path));
}

ft_status io_out_there(const char *path, bool *there)
{
    struct stat sb;
    return look(path, &sb, there);
}

static ft_status check_file(const char *path, const char *const *heads, const char *what)
{
    struct stat sb;
    bool there;
    FT_TRY(look(path, &sb, &there));
    if (!there) return FT_OK;
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
    bool there;
    FT_TRY(look(path, &sb, &there));
    if (!there) return FT_OK;
    if (S_ISDIR(sb.st_mode)) {
        FT_CHECK(!str_ends(path, ".gguf"), FT_EEXIST, "%s: is a folder; choose another name",
                 ft_shows(path));
        return check_folder(path, &sb, a);
    }
    FT_CHECK(str_ends(path, ".gguf") || !S_ISREG(sb.st_mode), FT_EEXIST,
             "%s: is a file, and a folder is to be made; choose another name", ft_shows(path));
    return io_out_file(path, gguf, "a .gguf");
}
