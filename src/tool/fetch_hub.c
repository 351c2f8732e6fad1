/* fetch_hub.c – a repository by the hub's API: its commit, and its files with size and hash.
 *
 * The answer to the question after a revision has all files where it is asked for blobs. A server that leaves sizes or hashes
 * out is asked for the tree, page by page; what that does not state either has to come with the file itself. */
#include "fetch_private.h"

#include <stdio.h>
#include <string.h>

enum {
    TEXT_LIMIT = 32 << 20, /* of one answer */
    PAGES = 2000
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

/* "." and ".." would be taken out of the address that they stand in. */
static bool is_revision(const char *s)
{
    return s[0] && strlen(s) <= 256 && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
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
    FT_CHECK(!at || (is_revision(at + 1) && utf8_valid(at, strlen(at))), FT_EUSAGE,
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

/* --- asking ------------------------------------------------------------------------------------------------------------- */

static ft_status read_answer(fetch_list *l, bool tree, str_buf *text)
{
    str_add(text, "", 0); /* an empty answer is a text, too */
    FT_TRY(str_ok(text));
    return fetch_list_read(l, tree, text->data ? text->data : "", text->len);
}

static ft_status ask_tree(fetch_list *l, fetch_net *net)
{
    char *next = NULL;
    str_buf text = {0};
    ft_status rc = FT_OK;
    const char *url = api_url(l->r, net->endpoint, "tree", l->r->commit, "?recursive=true", l->mem);
    FT_GUARD(url, FT_EMEM, "out of memory");
    for (int page = 0; url; page++) {
        FT_GUARD(page < PAGES, FT_EDATA, "%s: its list of files does not end", l->what);
        char *more = NULL;
        FT_TRY_OUT(fetch_text(net, url, l->what, "commit", TEXT_LIMIT, &text, &more));
        const bool same = more && strcmp(more, url) == 0;
        ft_free(next);
        url = next = more;
        FT_GUARD(!same, FT_EDATA, "%s: its list of files does not end: a page is its own next one",
                 l->what);
        FT_TRY_OUT(read_answer(l, true, &text));
    }
out:
    str_free(&text);
    ft_free(next);
    return rc;
}

/* Files of the tree, in place of those that the revision gave without size or hash. A server without trees keeps these. */
static ft_status complete(fetch_list *l, fetch_net *net)
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
    fetch_list l = {.r = r, .mem = mem};
    str_buf text = {0};
    ft_status rc = FT_OK;
    const char *url = api_url(r, net->endpoint, "revision", r->revision, "?blobs=true", mem);
    l.what = arena_printf(mem, "%s@%s", r->id, ft_shows(r->revision));
    FT_GUARD(url && l.what, FT_EMEM, "out of memory");
    FT_TRY_OUT(fetch_text(net, url, l.what, "repository or revision", TEXT_LIMIT, &text, NULL));
    FT_TRY_OUT(read_answer(&l, false, &text));
    if (!l.whole) FT_TRY_OUT(complete(&l, net));
    FT_GUARD(r->n > 0, FT_ENOINPUT, "%s: holds no files", l.what);
    FT_TRY_OUT(fetch_list_check(r));
    r->url = arena_printf(mem, "%s/resolve/%s/", fetch_repo_page(r, net->endpoint, mem), r->commit);
    FT_GUARD(r->url, FT_EMEM, "out of memory");
out:
    str_free(&text);
    return rc;
}
