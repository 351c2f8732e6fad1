/* list.c – .json files: a list of records, found one by one, so that no more of it is held than the record at hand.
 *
 * The reader only looks for where a record ends, by brackets and quotes; what stands in it is parsed by the threads as a line
 * of .jsonl is, and mistakes inside it are told there. */
#include "data_private.h"

#include <string.h>

enum { FIRST_BYTES = 256 << 10, RECORD_LIMIT = 16 << 20, END = -1 };

struct data_list {
    line_reader *file; /* the caller's */
    const char *name;
    char *buf;
    size_t cap, at, have; /* [at, have) is read and not yet handed out; a NUL stands behind it */
    bool ended;           /* the file has no more */
    bool begun, first;    /* behind the bracket; no record was met yet */
    int64_t byte, line,
        col; /* of `at`: of the file's text; lines, and characters of its line, before it */
};

ft_status data_list_open(data_list **out, line_reader *file, const char *name)
{
    data_list *l = *out = ft_alloc(1, sizeof *l);
    if (!l) return FT_EMEM;
    *l = (data_list){.file = file, .name = name, .first = true};
    return FT_OK;
}

void data_list_close(data_list *l)
{
    if (l) ft_free(l->buf);
    ft_free(l);
}

int64_t data_list_offset(const data_list *l)
{
    return l->byte;
}

static ft_status fail_here(const data_list *l, const char *what, const char *found)
{
    return ft_fail(FT_EDATA, "%s:%lld:%lld: %s%s", l->name, (long long)l->line + 1,
                   (long long)l->col + 1, what, found);
}

/* Reads on, behind what is held. */
static ft_status more(data_list *l)
{
    size_t got;
    if (l->at) memmove(l->buf, l->buf + l->at, l->have - l->at);
    l->have -= l->at;
    l->at = 0;
    if (!l->cap || l->have + 1 == l->cap) {
        FT_CHECK(l->cap <= RECORD_LIMIT, FT_EDATA, "%s:%lld: a record of more than %d MiB", l->name,
                 (long long)l->line + 1, RECORD_LIMIT >> 20);
        size_t cap = l->cap ? 2 * l->cap : FIRST_BYTES;
        char *buf = ft_realloc(l->buf, cap, 1);
        if (!buf) return FT_EMEM;
        l->buf = buf;
        l->cap = cap;
    }
    while (!l->ended && l->have + 1 < l->cap) {
        FT_TRY(lines_read(l->file, l->buf + l->have, l->cap - 1 - l->have, &got));
        l->have += got;
        l->ended = got == 0;
    }
    l->buf[l->have] = '\0';
    return FT_OK;
}

static void pass(data_list *l, size_t n)
{
    const char *p = l->buf + l->at;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') {
            l->line++;
            l->col = 0;
        } else {
            l->col += ((unsigned char)p[i] & 0xc0) != 0x80;
        }
    }
    l->at += n;
    l->byte += (int64_t)n;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The next character that is no white space, or END. */
static ft_status look(data_list *l, int *c)
{
    for (;;) {
        size_t n = 0;
        while (l->at + n < l->have && is_space(l->buf[l->at + n])) n++;
        if (n) pass(l, n);
        *c = l->at < l->have ? (unsigned char)l->buf[l->at] : END;
        if (*c != END || l->ended) return FT_OK;
        FT_TRY(more(l));
    }
}

static ft_status unexpected(const data_list *l, int c, const char *wanted)
{
    if (c == '/' || c == '#') return fail_here(l, "comments are not JSON; remove it", "");
    if (c == END) return fail_here(l, wanted, "the end of the text");
    int32_t cp;
    const char *at = l->buf + l->at;
    return fail_here(l, wanted, ft_show(at, (size_t)utf8_next(at, l->have - l->at, &cp)));
}

/* --- a file that is no list ------------------------------------------------------------------------------------- */
/* JSON lines in a .json file: the first line is an object of its own, and another one follows. */
static bool are_lines(const char *text, size_t n)
{
    js_doc first = {0};
    const char *end = memchr(text, '\n', n);
    size_t len = end ? (size_t)(end - text) : n;
    while (end && end < text + n && is_space(*end)) end++;
    if (lines_blank(text, len) || !end || end == text + n || *end != '{') return false;
    ft_status rc = js_parse(&first, text, len, "", 1, JS_BIG_NUMBERS | JS_NO_POSITIONS, FT_EDATA);
    bool object = rc == FT_OK && cJSON_IsObject(first.root);
    js_close(&first);
    return object;
}

/* What is held begins with something else than a bracket. */
static ft_status no_list(const data_list *l)
{
    const char *text = l->buf + l->at;
    size_t n = l->have - l->at;
    js_doc whole = {0};
    FT_CHECK(!are_lines(text, n), FT_EDATA,
             "%s: these are JSON lines (one record a line), not a list of records; a file "
             "of JSON lines is named .jsonl",
             l->name);
    if (l->ended) /* a mistake in it comes first */
        FT_TRY(js_parse_at(&whole, text, n, l->name, l->line + 1, l->col,
                           JS_BIG_NUMBERS | JS_RECORD, FT_EDATA));
    js_close(&whole);
    return fail_here(l,
                     "a .json source is a list of records; one record a line belongs in a .jsonl "
                     "file",
                     "");
}

/* --- where a record ends ---------------------------------------------------------------------------------------- */
/* Behind the string at s[i], or a line end inside it, where none may stand; n: it does not end here. */
static size_t string_end(const char *s, size_t i, size_t n)
{
    for (i++; i < n; i++) {
        if (s[i] == '"') return i + 1;
        if (s[i] == '\n') return i;
        if (s[i] == '\\') i++;
    }
    return n + 1;
}

/* Bytes of the value at the front; 0: its end is not among them. */
static size_t value_end(const char *s, size_t n)
{
    int64_t depth = 0;
    size_t i = 0;
    do {
        if (s[i] == '"') {
            i = string_end(s, i, n);
            if (i > n) return 0;
            if (depth == 0 || s[i - 1] != '"') return i; /* a mistake is told from its front on */
            continue;
        }
        if (s[i] == '{' || s[i] == '[') {
            depth++;
        } else if (s[i] == '}' || s[i] == ']') {
            depth--;
        } else if (depth == 0) { /* a number or a word, or what is neither */
            while (i < n && !is_space(s[i]) && !strchr(",[]{}\"", s[i])) i++;
            return i < n ? i + (i == 0) : 0;
        }
        i++;
        if (depth <= 0) return i;
    } while (i < n);
    return 0;
}

/* In front of the next record; FT_END behind the last one. */
static ft_status step(data_list *l)
{
    int c;
    FT_TRY(look(l, &c));
    if (!l->begun) {
        if (c != '[') return no_list(l);
        l->begun = true;
        pass(l, 1);
        FT_TRY(look(l, &c));
        if (c != ']') return FT_OK;
    } else if (c == ',') {
        data_list comma = *l; /* its place */
        pass(l, 1);
        FT_TRY(look(l, &c));
        if (c == ']') return fail_here(&comma, "a comma behind the last entry; remove it", "");
        return FT_OK;
    }
    if (c != ']') return unexpected(l, c, "expected ',' or ']', found ");
    pass(l, 1);
    FT_TRY(look(l, &c));
    return c == END ? FT_END : unexpected(l, c, "text behind the end of the document: ");
}

ft_status data_list_next(data_list *l, data_list_record *out)
{
    int c;
    if (!l->cap) FT_TRY(more(l));
    FT_TRY(step(l));
    FT_TRY(look(l, &c));
    if (c == END) return unexpected(l, c, "expected a value, found ");
    size_t n;
    while ((n = value_end(l->buf + l->at, l->have - l->at)) == 0 && !l->ended) FT_TRY(more(l));
    if (!n) n = l->have - l->at; /* it is not closed, which is told by its parser */
    *out = (data_list_record){
        .text = l->buf + l->at, .len = n, .byte = l->byte, .line = l->line + 1, .col = l->col};
    pass(l, n);
    return FT_OK;
}
