/* fetch_hub.c – a repository by the hub's API: its commit, and its files with size and hash.
 *
 * The answer to the question after a revision has all files where it is asked for blobs. A server that leaves sizes or hashes
 * out is asked for the tree, page by page; what that does not state either has to come with the file itself. */
#include "fetch_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TEXT_LIMIT = 32 << 20, /* of one answer */
    FILES = 200000,
    PAGES = 2000,
    PATH_BYTES = 1024,
    PART_BYTES = 255, /* of a name, as file systems have it */
    DEPTH = 32,
    FIRST = 64
};

/* --- names of repositories ------------------------------------------------------------------------------------------ */

/* As the hub has them. */
static bool is_name(const char *s, size_t n)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    return n > 0 && n <= 96 && strspn(s, letters) >= n && s[0] != '.' && s[0] != '-' &&
           s[n - 1] != '.' && s[n - 1] != '-';
}

ft_status fetch_repo_name(fetch_repo *r, const char *word, arena *mem)
{
    const char *at = strchr(word, '@'), *slash = strchr(word, '/');
    const size_t n = at ? (size_t)(at - word) : strlen(word);
    const bool two = slash && slash < word + n && is_name(word, (size_t)(slash - word)) &&
                     is_name(slash + 1, (size_t)(word + n - slash - 1));
    FT_CHECK(!strstr(word, "://"), FT_EUSAGE,
             "%s: is an address; give ORG/NAME of its path (and the server as HF_ENDPOINT)",
             ft_shows(word));
    FT_CHECK(two, FT_EUSAGE,
             "%s: no name of a repository; it is ORG/NAME or ORG/NAME@REVISION, as its page "
             "shows it",
             ft_shows(word));
    FT_CHECK(!at || (at[1] && strlen(at + 1) <= 256 && utf8_valid(at, strlen(at))), FT_EUSAGE,
             "%s: no revision stands behind the @ (a branch, tag or commit)", ft_shows(word));
    r->id = arena_strn(mem, word, n);
    r->revision = at ? at + 1 : "main";
    return r->id ? FT_OK : FT_EMEM;
}

static void add_encoded(str_buf *s, const char *text, bool path)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || strchr("-._~", c) || (path && c == '/');
        if (plain)
            str_addc(s, (char)c);
        else
            str_printf(s, "%%%02X", c);
    }
}

/* The text, in the arena; frees s. */
static const char *keep(str_buf *s, arena *mem)
{
    const char *out = s->failed || !s->data ? NULL : arena_str(mem, s->data);
    str_free(s);
    return out;
}

const char *fetch_repo_page(const fetch_repo *r, const char *endpoint, arena *mem)
{
    return arena_printf(mem, "%s%s/%s", endpoint, r->dataset ? "/datasets" : "", r->id);
}

const char *fetch_file_url(const fetch_repo *r, const char *path, arena *mem)
{
    str_buf s = {0};
    str_adds(&s, r->url);
    add_encoded(&s, path, true);
    return keep(&s, mem);
}

static const char *api_url(const fetch_repo *r, const char *endpoint, const char *what,
                           const char *which, const char *query, arena *mem)
{
    str_buf s = {0};
    str_printf(&s, "%s/api/%s/%s/%s/", endpoint, r->dataset ? "datasets" : "models", r->id, what);
    add_encoded(&s, which, false);
    str_adds(&s, query);
    return keep(&s, mem);
}

/* --- names of files -------------------------------------------------------------------------------------------------- */

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
static ft_status check_paths(fetch_repo *r)
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

typedef struct listing {
    fetch_repo *r;
    arena *mem;
    js_doc doc;
    str_buf text;
    int64_t cap;
    const char *what; /* for messages */
    bool whole;       /* each has size and hash */
} listing;

static ft_status parse(listing *l)
{
    str_addc(&l->text, '\0'); /* cJSON's end */
    FT_TRY(str_ok(&l->text));
    js_close(&l->doc);
    ft_status rc = js_parse(&l->doc, l->text.data, l->text.len - 1, l->what, 1,
                            JS_NO_POSITIONS | JS_BIG_NUMBERS | JS_NUL, FT_EDATA);
    FT_CHECK(rc != FT_EDATA, FT_EDATA,
             "%s: the answer of the server is not the JSON of a Hugging Face endpoint (%s)",
             l->what, ft_shows(ft_error()));
    return rc;
}

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

static ft_status add_file(listing *l, const char *path, const cJSON *o, const char *git)
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
static ft_status read_revision(listing *l)
{
    const cJSON *root = l->doc.root, *files = js_get(root, "siblings"), *o;
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

static ft_status read_tree(listing *l)
{
    const cJSON *o;
    FT_CHECK(cJSON_IsArray(l->doc.root), FT_EDATA,
             "%s: the answer of the server is no list of files", l->what);
    cJSON_ArrayForEach(o, l->doc.root)
    {
        const cJSON *name = js_get(o, "path");
        if (strcmp(text_of(o, "type"), "directory") == 0) continue;
        FT_CHECK(cJSON_IsString(name), FT_EDATA,
                 "%s: the answer of the server lists a file without a name", l->what);
        FT_TRY(add_file(l, name->valuestring, o, "oid"));
    }
    return FT_OK;
}

static ft_status ask_tree(listing *l, fetch_net *net)
{
    char *next = NULL;
    ft_status rc = FT_OK;
    const char *url = api_url(l->r, net->endpoint, "tree", l->r->commit, "?recursive=true", l->mem);
    FT_GUARD(url, FT_EMEM, "out of memory");
    for (int page = 0; url; page++) {
        FT_GUARD(page < PAGES, FT_EDATA, "%s: its list of files does not end", l->what);
        char *more = NULL;
        FT_TRY_OUT(fetch_text(net, url, l->what, "commit", TEXT_LIMIT, &l->text, &more));
        ft_free(next);
        url = next = more;
        FT_TRY_OUT(parse(l));
        FT_TRY_OUT(read_tree(l));
    }
out:
    ft_free(next);
    return rc;
}

/* Files of the tree, in place of those that the revision gave without size or hash. A server without trees keeps these. */
static ft_status complete(listing *l, fetch_net *net)
{
    fetch_repo *r = l->r;
    fetch_file *files = r->file;
    const int64_t n = r->n;
    r->file = NULL;
    r->n = l->cap = 0;
    ft_status rc = ask_tree(l, net);
    if (rc != FT_ENOINPUT || n == 0) return rc;
    ft_error_clear();
    r->file = files;
    r->n = n;
    return FT_OK;
}

ft_status fetch_repo_list(fetch_repo *r, fetch_net *net, arena *mem)
{
    listing l = {.r = r, .mem = mem};
    ft_status rc = FT_OK;
    const char *url = api_url(r, net->endpoint, "revision", r->revision, "?blobs=true", mem);
    l.what = arena_printf(mem, "%s@%s", r->id, ft_shows(r->revision));
    FT_GUARD(url && l.what, FT_EMEM, "out of memory");
    FT_TRY_OUT(fetch_text(net, url, l.what, "repository or revision", TEXT_LIMIT, &l.text, NULL));
    FT_TRY_OUT(parse(&l));
    FT_TRY_OUT(read_revision(&l));
    if (!l.whole) FT_TRY_OUT(complete(&l, net));
    FT_GUARD(r->n > 0, FT_ENOINPUT, "%s: holds no files", l.what);
    FT_TRY_OUT(check_paths(r));
    r->url = arena_printf(mem, "%s/resolve/%s/", fetch_repo_page(r, net->endpoint, mem), r->commit);
    FT_GUARD(r->url, FT_EMEM, "out of memory");
out:
    js_close(&l.doc);
    str_free(&l.text);
    return rc;
}
