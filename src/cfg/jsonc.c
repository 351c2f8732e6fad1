/* jsonc.c – a config with comments and trailing commas, made plain JSON before it is read.
 *
 * What is taken out leaves a space for each of its characters and keeps its line ends, so that lines and columns of the
 * messages are those of the file. All else stays as it is, for the strict reader to judge. */
#include "cfg_private.h"

#include <string.h>

typedef struct plain {
    const char *name;
    char *text;       /* of the file; what is plain is written over it */
    size_t n, at, to; /* to <= at */
    size_t comma;     /* a comma that ends a list if nothing but spaces follow; SIZE_MAX: none */
    char last;        /* what stood before it, spaces left out */
} plain;

static ft_status fail_at(const plain *p, const char *start, size_t at, const char *what)
{
    int64_t line;
    int col;
    json_line_col(start, start + at, 1, &line, &col);
    return ft_fail(FT_ECONFIG, "%s:%lld:%d: %s", p->name, (long long)line, col, what);
}

static void keep(plain *p)
{
    p->text[p->to++] = p->text[p->at++];
}

/* A character of a comment: a space, or the line end it is. What is not UTF-8 stays, and is refused by the reader. */
static void blank(plain *p)
{
    int32_t cp;
    size_t len = (size_t)utf8_next(p->text + p->at, p->n - p->at, &cp);
    char c = p->text[p->at];
    p->text[p->to++] = cp < 0 || c == '\n' || c == '\r' ? c : ' ';
    p->at += len;
}

/* False: no comment begins here. *open: it is not closed. */
static bool skip_comment(plain *p, bool *open)
{
    const char *s = p->text + p->at;
    const size_t left = p->n - p->at;
    *open = false;
    if (left < 2 || s[0] != '/' || (s[1] != '/' && s[1] != '*')) return false;
    const bool block = s[1] == '*';
    blank(p);
    blank(p);
    if (!block) {
        while (p->at < p->n && p->text[p->at] != '\n' && p->text[p->at] != '\r') blank(p);
        return true;
    }
    for (; p->at < p->n; blank(p)) {
        if (p->n - p->at < 2 || p->text[p->at] != '*' || p->text[p->at + 1] != '/') continue;
        blank(p);
        blank(p);
        return true;
    }
    *open = true;
    return true;
}

static void keep_string(plain *p)
{
    keep(p);
    while (p->at < p->n && p->text[p->at] != '"' && p->text[p->at] != '\n') {
        if (p->text[p->at] == '\\' && p->at + 1 < p->n) keep(p);
        keep(p);
    }
    if (p->at < p->n) keep(p);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* One character that is neither of a comment nor of a string. */
static void keep_plain(plain *p)
{
    const char c = p->text[p->at];
    if ((c == '}' || c == ']') && p->comma != SIZE_MAX) p->text[p->comma] = ' ';
    if (!is_space(c)) {
        const bool ends = c == ',' && !strchr("[{,:", p->last); /* a value stands before it */
        p->comma = ends ? p->to : SIZE_MAX;
        p->last = c;
    }
    keep(p);
}

ft_status cfg_jsonc(char *text, size_t *n, const char *name)
{
    plain p = {.name = name, .text = text, .n = *n, .comma = SIZE_MAX, .last = '['};
    while (p.at < p.n) {
        const size_t from = p.to;
        bool open;
        if (skip_comment(&p, &open)) {
            if (open) return fail_at(&p, text, from, "this comment is not closed; */ ends it");
        } else if (p.text[p.at] == '"') {
            keep_string(&p);
            p.comma = SIZE_MAX;
            p.last = '"';
        } else {
            keep_plain(&p);
        }
    }
    *n = p.to;
    return FT_OK;
}
