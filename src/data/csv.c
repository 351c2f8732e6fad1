/* csv.c – .csv and .tsv files: where a record ends, and its fields under the names of the header (RFC 4180).
 *
 * A quoted field may hold line ends, so a record is found by reading its fields; the reader only looks for its end, the
 * fields are made by the threads. All messages name the line where the record begins. Fields are strings; where a format
 * wants a list, a number or a truth value, or a path goes into one, the field is read as JSON. */
#include "data_private.h"

#include <string.h>

enum { FIRST_BYTES = 256 << 10, RECORD_LIMIT = 16 << 20 };

struct data_csv {
    line_reader *file; /* the caller's */
    const char *name;
    char separator;
    char *buf;
    size_t cap, at, have; /* [at, have) is read and not yet handed out */
    bool ended;
    int64_t byte, line; /* of `at`: of the file's text; lines before it */
};

ft_status data_csv_open(data_csv **out, line_reader *file, const char *name, char separator,
                        int64_t byte, int64_t line)
{
    data_csv *c = *out = ft_alloc(1, sizeof *c);
    if (!c) return FT_EMEM;
    *c = (data_csv){.file = file, .name = name, .separator = separator, .byte = byte, .line = line};
    return FT_OK;
}

void data_csv_close(data_csv *c)
{
    if (c) ft_free(c->buf);
    ft_free(c);
}

int64_t data_csv_offset(const data_csv *c)
{
    return c->byte;
}

static ft_status more(data_csv *c)
{
    size_t got;
    if (c->at) memmove(c->buf, c->buf + c->at, c->have - c->at);
    c->have -= c->at;
    c->at = 0;
    if (c->have == c->cap) {
        FT_CHECK(c->cap <= RECORD_LIMIT, FT_EDATA, "%s:%lld: a record of more than %d MiB", c->name,
                 (long long)c->line + 1, RECORD_LIMIT >> 20);
        size_t cap = c->cap ? 2 * c->cap : FIRST_BYTES;
        char *buf = ft_realloc(c->buf, cap, 1);
        if (!buf) return FT_EMEM;
        c->buf = buf;
        c->cap = cap;
    }
    while (!c->ended && c->have < c->cap) {
        FT_TRY(lines_read(c->file, c->buf + c->have, c->cap - c->have, &got));
        c->have += got;
        c->ended = got == 0;
    }
    return FT_OK;
}

/* --- where a record ends ---------------------------------------------------------------------------------------- */
typedef enum place { BEGIN, PLAIN, QUOTED, CLOSED } place;

/* One byte further inside a record; false: it may not stand here. */
static bool step(place *p, char c, char separator)
{
    if (*p == QUOTED) {
        if (c == '"') *p = CLOSED;
    } else if (c == separator) {
        *p = BEGIN;
    } else if (*p == CLOSED) {
        *p = QUOTED;
        return c == '"';
    } else if (*p == BEGIN) {
        *p = c == '"' ? QUOTED : PLAIN;
    }
    return true;
}

typedef struct extent {
    size_t len, used; /* without and with the line end */
    int64_t lines;    /* line ends in `used` */
} extent;

/* Of the record at the front of n bytes. used 0: where it ends is not among them. */
static ft_status find_end(const data_csv *c, const char *s, size_t n, extent *e)
{
    place p = BEGIN;
    *e = (extent){0};
    for (size_t i = 0; i < n; i++) {
        bool cr = s[i] == '\r' && i + 1 < n && s[i + 1] == '\n';
        e->lines += s[i] == '\n';
        if (p != QUOTED && (s[i] == '\n' || cr)) {
            e->len = i;
            e->used = i + 1 + cr;
            e->lines += cr;
            return FT_OK;
        }
        if (p == CLOSED && s[i] == '\r' && i + 1 == n && !c->ended) break;
        FT_CHECK(step(&p, s[i], c->separator), FT_EDATA,
                 "%s:%lld: text stands behind a closing quote; a quote inside a quoted field is "
                 "written twice",
                 c->name, (long long)c->line + 1);
    }
    if (!c->ended) return FT_OK;
    FT_CHECK(p != QUOTED, FT_EDATA,
             "%s:%lld: a quote that opens here is not closed at the end of the file", c->name,
             (long long)c->line + 1);
    e->len = e->used = n;
    return FT_OK;
}

static void pass(data_csv *c, size_t n, int64_t lines)
{
    c->at += n;
    c->byte += (int64_t)n;
    c->line += lines;
}

ft_status data_csv_next(data_csv *c, const char **text, size_t *len, int64_t *byte, int64_t *line)
{
    extent e;
    if (!c->buf) FT_TRY(more(c));
    for (;;) {
        const char *s = c->buf + c->at;
        size_t n = c->have - c->at;
        if (c->byte == 0 && n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) {
            pass(c, 3, 0);
            continue;
        }
        if (!n && c->ended) return FT_END;
        e = (extent){0};
        if (n && (c->byte || n >= 3 || c->ended)) FT_TRY(find_end(c, s, n, &e));
        if (!e.used) {
            FT_TRY(more(c));
            continue;
        }
        if (e.len) break;
        pass(c, e.used, e.lines); /* an empty line */
    }
    *text = c->buf + c->at;
    *len = e.len;
    *byte = c->byte;
    *line = c->line + 1;
    pass(c, e.used, e.lines);
    return FT_OK;
}

/* --- its fields ----------------------------------------------------------------------------------------------------- */
/* The next field of [*p, end) into out, without its quotes; *p behind it and its separator, NULL behind the last one. */
static void next_field(const char **p, const char *end, char separator, str_buf *out)
{
    const char *s = *p;
    bool quoted = s < end && *s == '"';
    str_clear(out);
    if (quoted) {
        for (s++; s < end;) {
            const char *q = memchr(s, '"', (size_t)(end - s));
            if (!q) q = end;
            str_add(out, s, (size_t)(q - s));
            s = q + 1;
            if (s >= end || *s != '"') break;
            str_addc(out, '"');
            s++;
        }
    } else {
        const char *q = memchr(s, separator, (size_t)(end - s));
        if (!q) q = end;
        str_add(out, s, (size_t)(q - s));
        s = q;
    }
    *p = s < end ? s + 1 : NULL;
}

static ft_status check_text(const char *name, int64_t line, int field, const str_buf *s)
{
    FT_CHECK(!s->len || !memchr(s->data, 0, s->len), FT_EDATA,
             "%s:%lld: field %d holds a NUL byte; is this a text file?", name, (long long)line,
             field);
    FT_CHECK(!s->len || utf8_valid(s->data, s->len), FT_EDATA, "%s:%lld: field %d is not UTF-8",
             name, (long long)line, field);
    return FT_OK;
}

ft_status data_csv_header(data_file *f, const char *text, size_t len, int64_t line, arena *mem)
{
    str_buf field = {0};
    map_table seen = {0};
    ft_status rc = FT_OK;
    int n = 1, k = 0;
    int64_t first;
    for (size_t i = 0; i < len; i++) n += text[i] == f->kind->separator; /* at most */
    const char **names = arena_get(mem, (size_t)n * sizeof *names);
    if (!names) return FT_EMEM;
    for (const char *p = text; p && rc == FT_OK; k++) {
        next_field(&p, text + len, f->kind->separator, &field);
        FT_TRY_OUT(str_ok(&field));
        FT_TRY_OUT(check_text(f->name, line, k + 1, &field));
        FT_GUARD(field.len, FT_EDATA, "%s:%lld: the header has no name for field %d", f->name,
                 (long long)line, k + 1);
        names[k] = arena_str(mem, field.data);
        FT_GUARD(names[k], FT_EMEM, "out of memory");
        FT_GUARD(!map_get(&seen, names[k], field.len, &first), FT_EDATA,
                 "%s:%lld: the header names \"%s\" twice", f->name, (long long)line,
                 ft_shows(names[k]));
        FT_TRY_OUT(map_put(&seen, names[k], field.len, k));
    }
    f->header = names;
    f->n_header = k;
out:
    map_free(&seen);
    str_free(&field);
    return rc;
}

ft_status data_csv_record(const data_file *f, const char *text, size_t len, int64_t line,
                          js_doc *out)
{
    str_buf field = {0};
    ft_status rc = FT_OK;
    int n = 0;
    *out = (js_doc){.name = f->name, .line0 = line, .root = cJSON_CreateObject()};
    FT_GUARD(out->root, FT_EMEM, "out of memory");
    for (const char *p = text; p; n++) {
        next_field(&p, text + len, f->kind->separator, &field);
        FT_TRY_OUT(str_ok(&field));
        FT_TRY_OUT(check_text(f->name, line, n + 1, &field));
        if (n < f->n_header)
            FT_GUARD(cJSON_AddStringToObject(out->root, f->header[n], field.len ? field.data : ""),
                     FT_EMEM, "out of memory");
    }
    FT_GUARD(n == f->n_header, FT_EDATA,
             "%s:%lld: a record of %d field%s, where the header names %d", f->name, (long long)line,
             n, n == 1 ? "" : "s", f->n_header);
out:
    str_free(&field);
    if (rc != FT_OK) js_close(out);
    return rc;
}

/* --- fields that are more than text ---------------------------------------------------------------------------------- */
/* As tables of Python write them. */
static int bool_of(const char *text)
{
    return !strcmp(text, "True") ? cJSON_True : !strcmp(text, "False") ? cJSON_False : 0;
}

/* The field becomes what its text says; blank: nothing. FT_EDATA for text that is not JSON. */
static ft_status as_json(const js_doc *doc, cJSON *field)
{
    js_doc value;
    char *text = cJSON_IsString(field) ? field->valuestring : NULL;
    if (!text) return FT_OK;
    if (lines_blank(text, strlen(text))) {
        field->type = cJSON_NULL;
        field->valuestring = NULL;
    } else if (bool_of(text)) {
        field->type = bool_of(text);
        field->valuestring = NULL;
    } else {
        FT_TRY(js_parse(&value, text, strlen(text), doc->name, doc->line0,
                        JS_BIG_NUMBERS | JS_RECORD | JS_NO_POSITIONS, FT_EDATA));
        field->type = value.root->type;
        field->child = value.root->child;
        field->valuedouble = value.root->valuedouble;
        field->valueint = value.root->valueint;
        field->valuestring = value.root->valuestring;
        value.root->child = NULL;
        value.root->valuestring = NULL;
        js_close(&value);
    }
    ft_free(text);
    return FT_OK;
}

static bool is_turn(const cJSON *v)
{
    return js_get(v, "role") || js_get(v, "from");
}

/* Text stays text, whatever it looks like, but for a turn or a list of turns. */
static ft_status as_turns(const js_doc *doc, cJSON *field)
{
    js_doc value;
    const char *text = cJSON_IsString(field) ? field->valuestring : "";
    const char first = text[strspn(text, " \t\r\n")];
    if (first != '[' && first != '{') return FT_OK;
    const ft_status rc = js_parse(&value, text, strlen(text), doc->name, doc->line0,
                                  JS_BIG_NUMBERS | JS_RECORD | JS_NO_POSITIONS, FT_EDATA);
    if (rc == FT_EDATA) {
        ft_error_clear();
        return FT_OK;
    }
    FT_TRY(rc);
    const cJSON *v = value.root;
    const bool turns = is_turn(cJSON_IsArray(v) ? v->child : v);
    js_close(&value);
    return turns ? as_json(doc, field) : FT_OK;
}

ft_status data_csv_reach(const data_source *s, const js_doc *doc)
{
    for (int i = 0; i < s->n_columns; i++) {
        char name[256];
        const char *path = s->column[i].path;
        size_t n = strcspn(path, ".");
        if (!path[n] || n >= sizeof name || js_get(doc->root, path)) continue;
        memcpy(name, path, n);
        name[n] = '\0';
        ft_status rc = as_json(doc, cJSON_GetObjectItemCaseSensitive(doc->root, name));
        if (rc == FT_EDATA) /* no JSON: then the path leads nowhere, which is told */
            ft_error_clear();
        else
            FT_TRY(rc);
    }
    return FT_OK;
}

ft_status data_csv_values(const data_item *it)
{
    for (const char *const *key = it->format->json; key && *key; key++) {
        const char *name = data_key_text(it->src, *key);
        cJSON *field = cJSON_GetObjectItemCaseSensitive(it->doc->root, name);
        ft_status rc = as_json(it->doc, field);
        if (rc == FT_EDATA)
            return js_fail(it->doc, field, rc, name,
                           "the field must be JSON (a list, a number, true or false)");
        FT_TRY(rc);
    }
    for (const char *const *key = it->format->turns; key && *key; key++)
        FT_TRY(as_turns(it->doc, cJSON_GetObjectItemCaseSensitive(it->doc->root,
                                                                  data_key_text(it->src, *key))));
    return FT_OK;
}
