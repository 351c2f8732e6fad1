/* files.c – the files of a source: a file, the data files of a folder, those that a pattern fits, or standard input.
 *
 * Standard input is copied to a temporary file without a name first, so that it can be counted, split and read in windows
 * as any other. */
#include "data_private.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KINDS ".jsonl, .json, .txt, .csv or .tsv (each also .gz or .zst)"
const char data_file_kinds[] = KINDS;

typedef struct path_list {
    const char **path;
    int64_t n, cap;
} path_list;

static ft_status add_path(path_list *l, const char *path)
{
    FT_TRY(data_reserve(&l->path, &l->cap, l->n + 1, sizeof *l->path));
    l->path[l->n++] = path;
    return path ? FT_OK : FT_EMEM;
}

static bool is_pattern(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strchr("*?[", s[i])) return true;
    return false;
}

/* The entries of a folder that fit, or the one of that very name. */
static ft_status fit(const char *dir, const char *part, bool pattern, path_list *out, arena *mem)
{
    const char **names, *folder = *dir ? dir : ".", *literal = path_join(mem, dir, part);
    int64_t n;
    if (!literal) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(literal, &kind));
    if (kind != PATH_NONE) return add_path(out, literal);
    FT_TRY(path_look(folder, &kind));
    if (!pattern || kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(folder, mem, &names, &n));
    for (int64_t i = 0; i < n; i++)
        if (!fnmatch(part, names[i], FNM_NOESCAPE | FNM_PERIOD))
            FT_TRY(add_path(out, path_join(mem, dir, names[i])));
    return FT_OK;
}

/* Part by part of the path, from what fits the parts before it. */
static ft_status expand(const char *path, path_list *out, arena *mem)
{
    path_list now = {0};
    ft_status rc = add_path(&now, path[0] == '/' ? "/" : "");
    for (const char *p = path + strspn(path, "/"); rc == FT_OK && *p; p += strspn(p, "/")) {
        path_list next = {0};
        size_t n = strcspn(p, "/");
        const char *part = arena_strn(mem, p, n);
        if (!part) rc = FT_EMEM;
        for (int64_t i = 0; rc == FT_OK && i < now.n; i++)
            rc = fit(now.path[i], part, is_pattern(p, n), &next, mem);
        ft_free(now.path);
        now = next;
        p += n;
    }
    *out = now;
    return rc;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The files that a pattern fits; folders do not. */
static ft_status fitting(const char *pattern, path_list *out, arena *mem)
{
    path_list l = {0};
    ft_status rc = expand(pattern, &l, mem);
    for (int64_t i = 0; rc == FT_OK && i < l.n; i++) {
        path_kind kind;
        rc = path_look(l.path[i], &kind);
        if (rc == FT_OK && kind != PATH_FOLDER) rc = add_path(out, l.path[i]);
    }
    if (out->n) qsort(out->path, (size_t)out->n, sizeof *out->path, by_bytes);
    if (rc == FT_OK && !out->n)
        rc = ft_fail(FT_ENOINPUT, "%s: no file fits this pattern", ft_shows(pattern));
    ft_free(l.path);
    return rc;
}

/* Data files of a folder, not those below it, nor those that are hidden; sorted by dir_list. */
static ft_status of_folder(const char *dir, path_list *out, int64_t *others, arena *mem)
{
    const char **names;
    int64_t n;
    FT_TRY(dir_list(dir, mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        const char *path = path_join(mem, dir, names[i]);
        if (!path) return FT_EMEM;
        path_kind kind;
        FT_TRY(path_look(path, &kind));
        const bool data = names[i][0] != '.' && data_kind_of(names[i]) && kind != PATH_FOLDER;
        *others += !data;
        if (data) FT_TRY(add_path(out, path));
    }
    FT_CHECK(out->n, FT_ENOINPUT,
             "%s: this folder holds no data files; their names end in " KINDS
             ", and folders below it are not looked into",
             ft_shows(dir));
    return FT_OK;
}

static ft_status list_files(const char *path, path_list *out, int64_t *others, arena *mem)
{
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_FOLDER) return of_folder(path, out, others, mem);
    if (kind == PATH_NONE && is_pattern(path, strlen(path))) return fitting(path, out, mem);
    FT_TRY(io_data_exists(path));
    return add_path(out, path);
}

ft_status data_list_files(const char *path, arena *mem, const char ***files, int64_t *n)
{
    path_list l = {0};
    int64_t others = 0;
    ft_status rc = list_files(path, &l, &others, mem);
    *files = rc == FT_OK ? arena_get(mem, (size_t)l.n * sizeof **files) : NULL;
    if (rc == FT_OK && !*files) rc = FT_EMEM;
    if (rc == FT_OK) memcpy(*files, l.path, (size_t)l.n * sizeof **files);
    *n = l.n;
    ft_free(l.path);
    return rc;
}

static ft_status input_file(data_set *d, data_source *s)
{
    int fd;
    const char *path;
    s->file = arena_get(d->mem, sizeof *s->file);
    if (!s->file) return FT_EMEM;
    log_busy("reading standard input");
    const ft_status rc = lines_spool(&fd);
    log_idle();
    if (rc != FT_OK) return rc;
    d->input = fd + 1;
    path = arena_printf(d->mem, "/proc/self/fd/%d", fd);
    if (!path) return FT_EMEM;
    s->file[s->n_files++] =
        (data_file){.name = "standard input", .path = path, .kind = data_kind_of("-.jsonl")};
    return FT_OK;
}

bool data_is_input(const char *path)
{
    return !strcmp(path, "-");
}

static ft_status add_file(data_source *s, const char *path)
{
    data_file *f = &s->file[s->n_files++];
    *f = (data_file){.name = path, .path = path, .kind = data_kind_of(path)};
    FT_CHECK(f->kind, FT_EDATA, "%s: the name must end in " KINDS, path);
    return FT_OK;
}

ft_status data_files(data_set *d, data_source *s)
{
    path_list l = {0};
    int64_t others = 0;
    if (data_is_input(s->path)) return input_file(d, s);
    ft_status rc = list_files(s->path, &l, &others, d->mem);
    if (rc == FT_OK && !(s->file = arena_get(d->mem, (size_t)l.n * sizeof *s->file))) rc = FT_EMEM;
    for (int64_t i = 0; rc == FT_OK && i < l.n; i++) rc = add_file(s, l.path[i]);
    if (rc == FT_OK && others)
        log_info("%s: %d data files; %lld other entries are not read", s->path, s->n_files,
                 (long long)others);
    ft_free(l.path);
    return rc;
}

ft_status data_reads_file(const data_set *d, const char *path, bool *reads)
{
    path_kind kind;
    *reads = false;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_NONE) return FT_OK;
    const data_source *all = d->all ? d->all : d->source;
    const int n = d->all ? d->n_all : d->n_sources;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < all[i].n_files && !*reads; k++)
            FT_TRY(io_same_place(all[i].file[k].path, path, reads));
    return FT_OK;
}
