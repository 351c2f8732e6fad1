/* fetch_list.c – what a hub's API answers after a repository: its files, with size and hash, under names that may stand in a
 * folder. Every answer is hostile; what is not understood of it is passed over, what is not stated stays open. */
#include "fetch_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    FILES = 200000,
    PATH_BYTES = 1024,
    PART_BYTES = 255, /* of a name, as file systems have it */
    DEPTH = 32,
    FIRST = 64
};

/* --- names -------------------------------------------------------------------------------------------------------------- */

/* What is wrong with it; NULL: nothing. */
static const char *bad_path(const char *path)
{
    int depth = 0;
    if (strlen(path) > PATH_BYTES) return "is longer than any path may be";
    for (const char *p = path; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (unsigned char)*p == 0xc0)
            return "holds a control character";
        if (*p == '\\') return "holds a backslash";
    }
    for (const char *part = path;; part++) {
        const size_t n = strcspn(part, "/");
        if (n == 0) return "has an empty part";
        if (n <= 2 && strncmp(part, "..", n) == 0) return "leads out of the folder";
        if (n == 4 && strncasecmp(part, ".git", n) == 0) return "belongs to Git";
        if (n > PART_BYTES) return "has a part that is longer than a name may be";
        if (++depth > DEPTH) return "leads too deep";
        part += n;
        if (!*part) break;
    }
    if (strcmp(path, ".lock") == 0 || str_starts(path, ".fetch"))
        return "is a name that ft needs in the folder itself";
    return NULL;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const fetch_file *)a)->path, ((const fetch_file *)b)->path);
}

/* No file twice, and none where another one needs a folder. */
ft_status fetch_list_check(fetch_repo *r)
{
    char above[PATH_BYTES + 1];
    int64_t other;
    for (int64_t i = 0; i < r->n; i++) {
        const char *path = r->file[i].path, *why = bad_path(path);
        FT_CHECK(!why, FT_EDATA, "%s: the server lists \"%s\", which %s; nothing was fetched",
                 r->id, ft_shows(path), why);
    }
    if (r->n > 0) qsort(r->file, (size_t)r->n, sizeof *r->file, by_path);
    for (int64_t i = 0; i < r->n; i++) {
        const char *path = r->file[i].path;
        FT_CHECK(!map_get(&r->index, path, strlen(path), &other), FT_EDATA,
                 "%s: the server lists \"%s\" twice; nothing was fetched", r->id, ft_shows(path));
        FT_TRY(map_put(&r->index, path, strlen(path), i));
    }
    for (int64_t i = 0; i < r->n; i++) {
        snprintf(above, sizeof above, "%s", r->file[i].path);
        for (char *slash; (slash = strrchr(above, '/'));) {
            *slash = '\0';
            FT_CHECK(!map_get(&r->index, above, strlen(above), &other), FT_EDATA,
                     "%s: the server lists \"%s\" as a file and as a folder; nothing was fetched",
                     r->id, ft_shows(above));
        }
    }
    return FT_OK;
}

fetch_file *fetch_repo_find(const fetch_repo *r, const char *path)
{
    int64_t i;
    return map_get(&r->index, path, strlen(path), &i) ? &r->file[i] : NULL;
}

/* --- answers --------------------------------------------------------------------------------------------------------- */

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = js_get(o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static int64_t size_of(const cJSON *o)
{
    const cJSON *v = js_get(o, "size");
    const double d = cJSON_IsNumber(v) ? v->valuedouble : -1;
    return d >= 0 && d <= 0x1p53 && d == (double)(int64_t)d ? (int64_t)d : -1;
}

/* n digits of a hash, in lower case; "" where it is none. */
static void take_hex(char *out, size_t n, const char *text)
{
    out[0] = '\0';
    if (str_starts(text, "sha256:")) text += strlen("sha256:");
    if (strlen(text) != n || strspn(text, "0123456789abcdefABCDEF") != n) return;
    for (size_t i = 0; i <= n; i++)
        out[i] = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] - 'A' + 'a') : text[i];
}

static ft_status add_file(fetch_list *l, const char *path, const cJSON *o, const char *git)
{
    fetch_repo *r = l->r;
    const cJSON *lfs = js_get(o, "lfs");
    FT_CHECK(r->n < FILES, FT_EDATA, "%s: has more than %d files", r->id, FILES);
    if (r->n == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : FIRST;
        fetch_file *more = arena_get(l->mem, (size_t)cap * sizeof *more);
        if (!more) return FT_EMEM;
        if (r->n > 0) memcpy(more, r->file, (size_t)r->n * sizeof *more);
        r->file = more;
        l->cap = cap;
    }
    fetch_file *f = &r->file[r->n++];
    *f = (fetch_file){.path = arena_str(l->mem, path), .size = size_of(o)};
    if (cJSON_IsObject(lfs)) { /* its blob is a pointer */
        if (size_of(lfs) >= 0) f->size = size_of(lfs);
        take_hex(f->sha256, 64,
                 text_of(lfs, "oid")[0] ? text_of(lfs, "oid") : text_of(lfs, "sha256"));
    } else {
        take_hex(f->git, 40, text_of(o, git));
    }
    l->whole = l->whole && f->size >= 0 && (f->git[0] || f->sha256[0]);
    return f->path ? FT_OK : FT_EMEM;
}

/* One answer after a revision. */
static ft_status read_revision(fetch_list *l, const cJSON *root)
{
    const cJSON *files = js_get(root, "siblings"), *o;
    const char *sha = text_of(root, "sha");
    const size_t n = strlen(sha);
    FT_CHECK(cJSON_IsObject(root) && n > 0 && n <= 128 &&
                 strspn(sha, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") ==
                     n,
             FT_EDATA, "%s: the answer of the server names no commit (sha)", l->what);
    l->r->commit = arena_str(l->mem, sha);
    if (!l->r->commit) return FT_EMEM;
    l->whole = cJSON_IsArray(files) && files->child;
    cJSON_ArrayForEach(o, files)
    {
        const cJSON *name = js_get(o, "rfilename");
        FT_CHECK(cJSON_IsString(name), FT_EDATA,
                 "%s: the answer of the server lists a file without a name", l->what);
        FT_TRY(add_file(l, name->valuestring, o, "blobId"));
    }
    return FT_OK;
}

static ft_status read_tree(fetch_list *l, const cJSON *root)
{
    const cJSON *o;
    FT_CHECK(cJSON_IsArray(root), FT_EDATA, "%s: the answer of the server is no list of files",
             l->what);
    cJSON_ArrayForEach(o, root)
    {
        const cJSON *name = js_get(o, "path");
        if (strcmp(text_of(o, "type"), "directory") == 0) continue;
        FT_CHECK(cJSON_IsString(name), FT_EDATA,
                 "%s: the answer of the server lists a file without a name", l->what);
        FT_TRY(add_file(l, name->valuestring, o, "oid"));
    }
    return FT_OK;
}

ft_status fetch_list_read(fetch_list *l, bool tree, const char *text, size_t len)
{
    js_doc doc = {0};
    ft_status rc =
        js_parse(&doc, text, len, l->what, 1, JS_NO_POSITIONS | JS_BIG_NUMBERS | JS_NUL, FT_EDATA);
    if (rc == FT_OK)
        rc = tree ? read_tree(l, doc.root) : read_revision(l, doc.root);
    else if (rc == FT_EDATA)
        rc = ft_fail(FT_EDATA,
                     "%s: the answer of the server is not the JSON of a Hugging Face endpoint (%s)",
                     l->what, ft_shows(ft_error()));
    js_close(&doc);
    return rc;
}
