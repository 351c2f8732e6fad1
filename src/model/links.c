/* links.c – files beside a model that lead out of its folder.
 *
 * Tokenizer files, templates and configs are copied into results, and results are published. A model of others may hold a
 * link to any file of ours, so what leads out of the folder is not taken unasked. The hub's cache is known: of a folder
 * X/snapshots/REVISION everything is a link to X/blobs. Weights are parsed and not copied: they may be links. */
#include "save_private.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct folder {
    char real[PATH_MAX];
    char blobs[PATH_MAX]; /* of a snapshot; "": it is none */
} folder;

static ft_status look_at_folder(const char *dir, folder *f)
{
    f->blobs[0] = '\0';
    if (!realpath(dir, f->real)) return ft_fail_errno(FT_EIO, "%s: cannot be looked at", dir);
    char *last = strrchr(f->real, '/');
    *last = '\0';
    const bool snapshot = str_ends(f->real, "/snapshots");
    const size_t n = strlen(f->real) - strlen("snapshots");
    *last = '/';
    if (!snapshot || n + sizeof "blobs" > sizeof f->blobs) return FT_OK;
    memcpy(f->blobs, f->real, n);
    memcpy(f->blobs + n, "blobs", sizeof "blobs");
    return FT_OK;
}

static bool lies_in(const char *path, const char *dir)
{
    const size_t n = strlen(dir);
    return n > 0 && strncmp(path, dir, n) == 0 && (path[n] == '/' || dir[n - 1] == '/');
}

static ft_status check_one(const folder *f, const char *path)
{
    struct stat sb;
    char real[PATH_MAX];
    if (lstat(path, &sb) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? FT_OK
                   : ft_fail_errno(FT_EIO, "%s: cannot be looked at", path);
    if (!realpath(path, real))
        return ft_fail_errno(FT_EDATA, "%s: is a link that cannot be followed", path);
    FT_CHECK(lies_in(real, f->real) || lies_in(real, f->blobs), FT_EDATA,
             "%s: is a link out of its folder, to %s; it would be copied into the result: put the "
             "file itself there, or say --follow-links",
             path, ft_shows(real));
    return FT_OK;
}

static ft_status check_templates(const folder *f, const char *dir, arena *a)
{
    const char **names;
    int64_t n;
    path_kind kind;
    FT_TRY(path_look(dir, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(dir, a, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        const char *path = path_join(a, dir, names[i]);
        if (!path) return FT_EMEM;
        FT_TRY(check_one(f, path));
    }
    return FT_OK;
}

/* What is no file would be passed over, and the result lack it. */
static ft_status check_file(const char *path)
{
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    FT_CHECK(kind != PATH_FOLDER, FT_EDATA,
             "%s: is a folder where a file belongs; put the file there, or remove it", path);
    return FT_OK;
}

static ft_status check_all(const char *dir, arena *a)
{
    static const char *const others[] = {"config.json", SAVE_TEMPLATES};
    folder *f = arena_get(a, sizeof *f);
    if (!f) return FT_EMEM;
    FT_TRY(look_at_folder(dir, f));
    for (size_t i = 0; i < SAVE_SIDE_FILES + FT_COUNT_OF(others); i++) {
        const char *name = i < SAVE_SIDE_FILES ? save_side_files[i] : others[i - SAVE_SIDE_FILES];
        const char *path = path_join(a, dir, name);
        if (!path) return FT_EMEM;
        FT_TRY(check_one(f, path));
        if (strcmp(name, SAVE_TEMPLATES) == 0)
            FT_TRY(check_templates(f, path, a));
        else
            FT_TRY(check_file(path));
    }
    return FT_OK;
}

/* --- watching --------------------------------------------------------------------------------- */

static ft_status watch_one(model_watched *w, const char *path, file_use use)
{
    path_kind kind;
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE || w->n == (int)FT_COUNT_OF(w->file)) return FT_OK;
    FT_TRY(file_watch_open(&w->file[w->n], path, use));
    w->n++;
    return FT_OK;
}

static ft_status watch_folder(model_watched *w, const char *dir, arena *mem)
{
    const char **names, *templates = path_join(mem, dir, SAVE_TEMPLATES);
    int64_t n;
    path_kind kind;
    if (!templates) return FT_EMEM;
    FT_TRY(watch_one(w, path_join(mem, dir, "config.json"), FILE_COPIED));
    for (size_t i = 0; i < SAVE_SIDE_FILES; i++)
        FT_TRY(watch_one(w, path_join(mem, dir, save_side_files[i]), FILE_COPIED));
    FT_TRY(path_look(templates, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(templates, mem, &names, &n));
    for (int64_t i = 0; i < n; i++)
        FT_TRY(watch_one(w, path_join(mem, templates, names[i]), FILE_COPIED));
    return FT_OK;
}

ft_status model_watch(model_watched *w, const char *path, arena *mem)
{
    path_kind kind;
    if (!path) return FT_OK;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_FOLDER) return watch_folder(w, path, mem);
    return watch_one(w, path, FILE_STREAM);
}

void model_watched_close(model_watched *w)
{
    for (int i = 0; i < w->n; i++) file_watch_close(w->file[i]);
    w->n = 0;
}

ft_status model_check_links(const char *dir, bool follow)
{
    arena *a;
    path_kind kind;
    if (!dir || follow) return FT_OK;
    FT_TRY(path_look(dir, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(arena_open(&a, "links", (size_t)64 << 20));
    const ft_status rc = check_all(dir, a);
    arena_close(a);
    return rc;
}
