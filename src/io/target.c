/* target.c – results that must not exist half: made in a folder beside their place, proved, and then renamed into it.
 *
 * OUT.tmp-PID holds the new result under its own name, and what has to step aside for it. Its lock tells a living process
 * from a dead one, whatever happened to the process number. The two results change places in one step where the file
 * system can do that; where it cannot, a crash in between leaves the old one in there, and the next run puts it back. */
#include "io_private.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OLD ".old" /* in the folder: the former result */

static ft_status is_there(const char *path, bool *is)
{
    struct stat sb;
    return io_look_link(path, &sb, is);
}

/* Itself, no link to one. */
static ft_status is_folder(const char *path, bool *is)
{
    struct stat sb;
    FT_TRY(io_look_link(path, &sb, is));
    *is = *is && S_ISDIR(sb.st_mode);
    return FT_OK;
}

/* --- removing ----------------------------------------------------------------------------------- */

/* A result or a part of one; *left: what is not known stays. */
static ft_status remove_result(const char *path, arena *a, const char **left)
{
    bool folder;
    FT_TRY(is_folder(path, &folder));
    if (folder) return io_clear(path, 0, a, left);
    if (unlink(path) != 0 && errno != ENOENT)
        return ft_fail_errno(FT_EIO, "%s: cannot be removed", path);
    return FT_OK;
}

/* All that a work folder may hold but its lock. */
static ft_status empty_work(const char *work, arena *a, const char **left)
{
    const char **names, *more;
    int64_t n;
    FT_TRY(dir_list(work, a, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(names[i], ".lock") == 0) continue;
        const char *path = path_join(a, work, names[i]);
        if (!path) return FT_EMEM;
        more = NULL;
        FT_TRY(remove_result(path, a, &more));
        if (!*left) *left = more;
    }
    return FT_OK;
}

/* --- what dead processes left --------------------------------------------------------------------- */

/* The process number of NAME.tmp-PID or NAME.old-PID beside NAME, also with a .gguf behind it; 0: it is none. */
static long left_by(const char *entry, const char *name)
{
    const size_t n = strlen(name);
    char *end;
    if (strncmp(entry, name, n) != 0) return 0;
    entry += n;
    if (!str_starts(entry, ".tmp-") && !str_starts(entry, ".old-")) return 0;
    entry += 5;
    if (!isdigit((unsigned char)entry[0])) return 0;
    const long pid = strtol(entry, &end, 10);
    const bool whole = !*end || strcmp(end, ".gguf") == 0 || strcmp(end, ".gguf.tmp") == 0 ||
                       strcmp(end, ".gguf.numbers") == 0 || strcmp(end, ".numbers") == 0;
    return whole && pid > 0 ? pid : 0;
}

/* A work folder: nothing but results and its lock; else the folder of a result. *foreign: what is neither. */
static ft_status look_into(const char *path, const char *name, arena *a, bool *work,
                           const char **foreign)
{
    const char **names;
    int64_t n;
    FT_TRY(io_foreign(path, false, a, foreign));
    *work = *foreign != NULL;
    if (!*work) return FT_OK;
    FT_TRY(dir_list(path, a, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        const bool part = strcmp(names[i], name) == 0 || strcmp(names[i], OLD) == 0 ||
                          strcmp(names[i], "numbers") == 0 || strcmp(names[i], ".lock") == 0 ||
                          strcmp(names[i], IO_TARGET_ADAPTER) == 0 ||
                          strcmp(names[i], IO_TARGET_MERGED) == 0 ||
                          (str_ends(name, ".gguf") && str_starts(names[i], name));
        *work = *work && part;
    }
    if (*work) *foreign = NULL;
    for (int64_t i = 0; i < n && *work && !*foreign; i++) {
        const char *one = path_join(a, path, names[i]);
        if (!one) return FT_EMEM;
        bool folder;
        FT_TRY(is_folder(one, &folder));
        if (folder) FT_TRY(io_foreign(one, false, a, foreign));
    }
    return FT_OK;
}

/* A lock that can be had, or, where there is none, the number of no process. */
static ft_status is_dead(const char *path, const char *lock, long pid, int *fd, bool *dead)
{
    bool locked;
    *fd = -1;
    FT_TRY(is_there(lock, &locked));
    *dead = locked ? dir_lock(path, fd) == FT_OK : kill((pid_t)pid, 0) != 0 && errno == ESRCH;
    if (locked && !*dead) ft_error_clear();
    return FT_OK;
}

/* What a run that was cut short while it changed the places had set aside. */
static ft_status put_back(const char *old, const char *out)
{
    bool kept, made;
    FT_TRY(is_there(old, &kept));
    FT_TRY(is_there(out, &made));
    if (!kept || made) return FT_OK;
    FT_TRY(dir_rename(old, out));
    log_info("%s: put back as it was before a run that was cut short", ft_shows(out));
    return FT_OK;
}

static ft_status tidy_folder(const char *path, const char *out, long pid, arena *a)
{
    const char *foreign, *left = NULL, *lock = path_join(a, path, ".lock"),
                         *old = path_join(a, path, OLD);
    bool work, dead;
    int fd;
    if (!lock || !old) return FT_EMEM;
    FT_TRY(is_dead(path, lock, pid, &fd, &dead));
    if (!dead) return FT_OK;
    ft_status rc = look_into(path, path_base(out), a, &work, &foreign);
    if (rc == FT_OK && foreign) {
        log_warn("%s: was left by an earlier run, and stays because it holds \"%s\"",
                 ft_shows(path), ft_shows(foreign));
        if (fd >= 0) dir_unlock(path, fd);
        return FT_OK;
    }
    if (rc == FT_OK) rc = put_back(old, out);
    if (rc == FT_OK && work) rc = empty_work(path, a, &left);
    if (fd >= 0) dir_unlock(path, fd);
    if (rc == FT_OK && !work) rc = io_clear(path, 0, a, &left);
    if (rc == FT_OK && rmdir(path) != 0 && errno != ENOENT && errno != ENOTEMPTY)
        rc = ft_fail_errno(FT_EIO, "%s: cannot be removed", path);
    return rc;
}

static ft_status tidy_one(const char *path, const char *out, long pid, arena *a)
{
    static const char *const gguf[] = {"GGUF", NULL};
    struct stat sb;
    bool there;
    FT_TRY(io_look_link(path, &sb, &there));
    if (!there) return FT_OK;
    if (S_ISDIR(sb.st_mode)) return tidy_folder(path, out, pid, a);
    const bool dead = kill((pid_t)pid, 0) != 0 && errno == ESRCH;
    if (!S_ISREG(sb.st_mode) || !dead || !io_begins(path, gguf)) return FT_OK;
    return unlink(path) == 0 ? FT_OK : ft_fail_errno(FT_EIO, "%s: cannot be removed", path);
}

static ft_status tidy(const char *out, const char *parent, arena *a)
{
    const char **names;
    int64_t n;
    FT_TRY(dir_list(parent[0] ? parent : ".", a, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        const long pid = left_by(names[i], path_base(out));
        const char *path = pid ? path_join(a, parent, names[i]) : NULL;
        if (!pid) continue;
        if (!path) return FT_EMEM;
        const bool before = ft_error_starved();
        if (tidy_one(path, out, pid, a) == FT_OK) continue;
        log_warn("%s; it was left by an earlier run",
                 ft_error()); /* no reason not to do this one */
        ft_error_forget_since(before);
        ft_error_clear();
    }
    return FT_OK;
}

/* --- the target --------------------------------------------------------------------------------- */

/* Who takes it for a dead one's, before it is locked, removes it: then once more. */
static ft_status make_work(io_target *t)
{
    ft_status rc = FT_OK;
    for (int tries = 0; tries < 3; tries++) {
        FT_TRY(dir_make(t->work));
        rc = dir_lock(t->work, &t->lock);
        if (rc == FT_OK) break;
    }
    return rc;
}

/* What is no .gguf becomes a folder: a name of a file is not what was meant. */
static ft_status check_ending(const char *path)
{
    static const char *const files[] = {".gguf", ".safetensors", ".bin", ".pt"};
    const size_t n = strlen(path);
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        const size_t k = strlen(files[i]);
        FT_CHECK(n <= k || strcasecmp(path + n - k, files[i]) != 0 || str_ends(path, ".gguf"),
                 FT_EUSAGE,
                 "%s: what is written is a .gguf, or a folder: leave %s off, or end it with .gguf",
                 ft_shows(path), path + n - k);
    }
    return FT_OK;
}

ft_status io_target_open(io_target *t, const char *path, bool force, const io_input *in, int n_in,
                         arena *mem)
{
    size_t n = strlen(path);
    bool there;
    while (n > 1 && path[n - 1] == '/') n--;
    *t = (io_target){.mem = mem, .path = arena_strn(mem, path, n), .force = force, .lock = -1};
    FT_CHECK(n > 0, FT_EUSAGE, "--out: an empty path");
    if (!t->path) return FT_EMEM;
    FT_TRY(io_out_check(t->path, in, n_in));
    FT_TRY(check_ending(t->path));
    FT_TRY(io_out_there(t->path, &there));
    FT_CHECK(force || !there, FT_EEXIST,
             "%s: exists already; choose another --out, or write over it with --force",
             ft_shows(t->path));
    FT_TRY(io_out_result(t->path, mem));
    const char *parent = path_dir(mem, t->path);
    const char *work = arena_printf(mem, "%s.tmp-%ld", t->path, (long)getpid());
    if (!work || !parent) return FT_EMEM;
    if (parent[0]) FT_TRY(dir_make(parent));
    FT_TRY(tidy(t->path, parent, mem));
    FT_TRY(is_there(work, &there));
    FT_CHECK(!there, FT_EEXIST, "%s: is in the way; move it away", ft_shows(work));
    t->work = work;
    t->temp = path_join(mem, work, path_base(t->path));
    if (!t->temp) return FT_EMEM;
    FT_TRY(make_work(t));
    return ft_temporary_add(t->work);
}

ft_status io_target_beside(io_target *t, const char *name, const char *const *heads,
                           const char *what)
{
    bool there;
    const bool folder = !str_ends(t->path, ".gguf");
    const char *parent = folder ? t->path : path_dir(t->mem, t->path);
    if (!parent) return FT_EMEM;
    t->beside = path_join(t->mem, parent, name);
    /* a name that tidy() knows for one of this target's */
    t->beside_temp =
        folder ? path_join(t->mem, t->temp, name) : arena_printf(t->mem, "%s.%s", t->temp, name);
    if (!t->beside || !t->beside_temp) return FT_EMEM;
    if (folder) return FT_OK; /* it comes and goes with the folder */
    t->beside_heads = heads;
    t->beside_what = what;
    FT_TRY(io_out_there(t->beside, &there));
    FT_CHECK(t->force || !there, FT_EEXIST,
             "%s: exists already; choose an --out in another folder, or write over it with --force",
             ft_shows(t->beside));
    return io_out_file(t->beside, heads, what);
}

/* What failed is told of the result as it was asked for, not of the place where it was made. */
static void tell_place(const char *made, const char *asked)
{
    char told[8192];
    const char *what = ft_error(), *at = made ? strstr(what, made) : NULL;
    if (!at) return;
    snprintf(told, sizeof told, "%.*s%s%s", (int)(at - what), what, asked, at + strlen(made));
    (void)(ft_fail_again)(FT_EIO, told); /* the status and the origin are the caller's */
}

/* Without memory the table cannot be asked. The folder is this process's own, so all in it goes, unless the former result
 * is there. */
static ft_status empty_blindly(const io_target *t)
{
    path_kind old;
    FT_TRY(path_look_in(t->work, OLD, &old));
    return old == PATH_NONE ? dir_remove(t->work) : FT_EMEM;
}

/* Of a commit that failed half way: the former result steps back into its place. A rename replaces no folder that holds
 * something, so what stands there meanwhile stays. An error: the former result lies in the work folder still. */
static ft_status put_own_back(const io_target *t)
{
    char old[PATH_MAX];
    bool kept;
    if (t->placed) return FT_OK;
    FT_CHECK(snprintf(old, sizeof old, "%s/" OLD, t->work) < (int)sizeof old, FT_EIO,
             "%s: the path is too long", ft_shows(t->work));
    FT_TRY(is_there(old, &kept));
    ft_status rc = kept ? dir_rename(old, t->path) : FT_OK;
    if (rc == FT_OK) return FT_OK;
    FT_TRY(is_there(old, &kept));
    if (!kept) return FT_OK; /* only the sync failed */
    log_warn("%s: is the former result, and cannot be put back in its place; move it there "
             "yourself",
             ft_shows(old));
    return rc;
}

void io_target_close(io_target *t)
{
    const char *left = NULL;
    if (!t->work || t->lock < 0) return;
    ft_temporary_drop(t->work);
    tell_place(t->beside_temp, t->beside);
    tell_place(t->temp, t->path);
    ft_error_keep(true);
    const bool back = put_own_back(t) == FT_OK;
    ft_status rc = back ? empty_work(t->work, t->mem, &left) : FT_OK;
    dir_unlock(t->work, t->lock);
    t->lock = -1;
    if (!back) {
        ft_error_keep(false);
        return;
    }
    if (rc == FT_EMEM && !left) rc = empty_blindly(t);
    const bool gone = rc == FT_OK && (rmdir(t->work) == 0 || errno == ENOENT);
    if (left)
        log_warn("%s: is not of a result and was left there", ft_shows(left));
    else if (!gone)
        log_warn("%s: could not be removed", ft_shows(t->work));
    ft_error_keep(false);
}

/* Is it a flag of renameat2 that this file system does not know? */
static bool is_unknown(int error)
{
    return error == EINVAL || error == ENOSYS || error == ENOTSUP || error == EXDEV;
}

static ft_status made_meanwhile(const char *path)
{
    return ft_fail(FT_EEXIST, "%s: was made by somebody else meanwhile; nothing was written over",
                   ft_shows(path));
}

static ft_status put(const char *made, const char *path)
{
    if (rename(made, path) == 0) return io_sync_above(path);
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR) return made_meanwhile(path);
    return ft_fail_errno(FT_EIO, "%s: cannot be put in place", path);
}

/* Where nothing stood. */
static ft_status place(const io_target *t)
{
    if (renameat2(AT_FDCWD, t->temp, AT_FDCWD, t->path, RENAME_NOREPLACE) == 0)
        return io_sync_above(t->path);
    if (errno == EEXIST) return made_meanwhile(t->path);
    if (is_unknown(errno)) return put(t->temp, t->path);
    return ft_fail_errno(FT_EIO, "%s: cannot be put in place", t->path);
}

/* The new result and the former one change places; where the file system cannot do that, one after the other. Without
 * success the new one is where it was, and the former one too, or in the work folder, from which io_target_close puts it
 * back. */
static ft_status exchange(const io_target *t)
{
    const char *old = path_join(t->mem, t->work, OLD);
    if (!old) return FT_EMEM;
    const bool at_once = renameat2(AT_FDCWD, t->temp, AT_FDCWD, t->path, RENAME_EXCHANGE) == 0;
    if (!at_once) {
        if (!is_unknown(errno)) return ft_fail_errno(FT_EIO, "%s: cannot be put in place", t->path);
        FT_TRY(dir_rename(t->path, old));
        if (rename(t->temp, t->path) != 0)
            return ft_fail_errno(FT_EIO, "%s: cannot be put in place", t->path);
    }
    ft_status rc = io_sync_above(t->path);
    if (rc == FT_OK) rc = io_sync_above(t->temp); /* both folders have another entry now */
    if (rc == FT_OK) return FT_OK;
    if (at_once ? renameat2(AT_FDCWD, t->temp, AT_FDCWD, t->path, RENAME_EXCHANGE) != 0
                : rename(t->path, t->temp) != 0)
        log_warn("%s: the new result stands there, though this run failed", ft_shows(t->path));
    return rc;
}

static ft_status commit_result(io_target *t)
{
    bool there, folder;
    ft_temporary_drop(t->work); /* from here on the old result may lie in it */
    FT_TRY(io_out_there(t->path, &there));
    if (there && !t->force) return made_meanwhile(t->path);
    if (there) FT_TRY(io_out_result(t->path, t->mem)); /* it may have changed since */
    FT_TRY(is_folder(t->path, &folder));
    FT_TRY(!there ? place(t) : folder ? exchange(t) : put(t->temp, t->path));
    t->placed = true;
    return FT_OK;
}

ft_status io_target_commit(io_target *t)
{
    bool there;
    FT_TRY(commit_result(t));
    if (!t->beside_heads) return FT_OK;
    FT_TRY(io_out_there(t->beside, &there));
    FT_CHECK(t->force || !there, FT_EEXIST,
             "%s: was made by somebody else meanwhile, and stays; %s is there", ft_shows(t->beside),
             ft_shows(t->path));
    FT_TRY(io_out_file(t->beside, t->beside_heads, t->beside_what));
    return put(t->beside_temp, t->beside);
}
