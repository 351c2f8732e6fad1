/* safetensors.c – reading .safetensors files.
 *
 * The header is parsed by a small parser of our own, not through a tree: its numbers are exact
 * unsigned 64-bit integers, it may hold 100 MB of names, and nothing but one object of one shape is
 * legal. Every rule of the reference reader holds (no holes, no overlaps, the data ends where the
 * file ends), and duplicate names and unknown keys, which it lets pass, are refused. */
#include "ft/io.h"
#include "io_private.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_LIMIT 100000000u /* of the format's reference reader and writer */

typedef struct entry {
    io_tensor t;
    uint64_t begin, end;
    size_t at; /* byte of the file where its name stands */
} entry;

typedef struct parser {
    const char *path;
    const uint8_t *text; /* the file from its start */
    size_t pos, end;
    arena *mem;
    entry *list;
    size_t n, cap;
    const char **meta;
    size_t n_meta, cap_meta; /* strings, two a pair */
    bool has_meta;
    str_buf unescaped;
} parser;

/* --- JSON ------------------------------------------------------------------------------------- */

static ft_status bad(const parser *p, const char *what)
{
    return ft_fail(FT_EDATA, "%s: byte 0x%zx: %s in the safetensors header", p->path, p->pos, what);
}

static void skip_space(parser *p)
{
    while (p->pos < p->end && (p->text[p->pos] == ' ' || p->text[p->pos] == '\n' ||
                               p->text[p->pos] == '\t' || p->text[p->pos] == '\r'))
        p->pos++;
}

/* The next character that is not white space, not consumed; 0 at the end. */
static uint8_t peek(parser *p)
{
    skip_space(p);
    return p->pos < p->end ? p->text[p->pos] : 0;
}

static bool accept(parser *p, char c)
{
    if (peek(p) != (uint8_t)c) return false;
    p->pos++;
    return true;
}

static ft_status expect(parser *p, char c)
{
    char what[] = "no '?' where one belongs";
    what[4] = c;
    return accept(p, c) ? FT_OK : bad(p, what);
}

/* Strict digits of one base; −1 when there is none. */
static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static ft_status hex4(parser *p, int32_t *out)
{
    *out = 0;
    if (p->end - p->pos < 4) return bad(p, "an unfinished \\u escape");
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p->text[p->pos + (size_t)i]);
        if (digit < 0) return bad(p, "a \\u escape without four hex digits");
        *out = *out << 4 | digit;
    }
    p->pos += 4;
    return FT_OK;
}

/* After "\u": one code point, of a surrogate pair if need be, into the buffer. */
static ft_status escaped_code_point(parser *p)
{
    int32_t cp, low;
    char bytes[4];
    FT_TRY(hex4(p, &cp));
    if (cp >= 0xd800 && cp < 0xdc00) {
        if (p->end - p->pos < 2 || p->text[p->pos] != '\\' || p->text[p->pos + 1] != 'u')
            return bad(p, "half a surrogate pair");
        p->pos += 2;
        FT_TRY(hex4(p, &low));
        if (low < 0xdc00 || low > 0xdfff) return bad(p, "half a surrogate pair");
        cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
    } else if (cp >= 0xdc00 && cp <= 0xdfff) {
        return bad(p, "half a surrogate pair");
    }
    if (cp == 0) return bad(p, "a NUL character");
    str_add(&p->unescaped, bytes, (size_t)utf8_put(bytes, cp));
    return FT_OK;
}

/* After "\": */
static ft_status escape(parser *p)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p->pos >= p->end) return bad(p, "an unfinished string");
    char c = (char)p->text[p->pos++];
    if (c == 'u') return escaped_code_point(p);
    const char *which = c ? strchr(from, c) : NULL;
    if (!which) return bad(p, "an unknown escape");
    str_addc(&p->unescaped, to[which - from]);
    return FT_OK;
}

/* A string, into *out (n bytes, not terminated): in the mapping, or in p->unescaped when it has
 * escapes. */
static ft_status string(parser *p, const char **out, size_t *n)
{
    FT_TRY(expect(p, '"'));
    const char *start = (const char *)p->text + p->pos;
    size_t from = p->pos;
    bool escapes = false;

    str_clear(&p->unescaped);
    for (;;) {
        if (p->pos >= p->end) return bad(p, "an unfinished string");
        uint8_t c = p->text[p->pos];
        if (c == '"') break;
        if (c < 0x20) return bad(p, "a raw control character");
        p->pos++;
        if (c != '\\') continue;
        escapes = true;
        str_add(&p->unescaped, (const char *)p->text + from, p->pos - 1 - from);
        FT_TRY(escape(p));
        from = p->pos;
    }
    if (!utf8_valid(start, p->pos - (size_t)((const uint8_t *)start - p->text)))
        return bad(p, "invalid UTF-8");
    if (escapes) {
        str_add(&p->unescaped, (const char *)p->text + from, p->pos - from);
        FT_TRY(str_ok(&p->unescaped));
        *out = p->unescaped.data;
        *n = p->unescaped.len;
    } else {
        *out = start;
        *n = p->pos - from;
    }
    p->pos++;
    return FT_OK;
}

/* An unsigned integer below 2^64 without sign, fraction, exponent or leading zero. */
static ft_status unsigned_integer(parser *p, uint64_t *out)
{
    uint8_t c = peek(p);
    *out = 0;
    if (c < '0' || c > '9') return bad(p, "something else than an unsigned integer");
    size_t first = p->pos;
    for (; p->pos < p->end && p->text[p->pos] >= '0' && p->text[p->pos] <= '9'; p->pos++) {
        if (__builtin_mul_overflow(*out, 10u, out) ||
            __builtin_add_overflow(*out, (uint64_t)(p->text[p->pos] - '0'), out))
            return bad(p, "a number beyond 64 bits");
    }
    if (c == '0' && p->pos > first + 1) return bad(p, "a number with a leading zero");
    c = p->pos < p->end ? p->text[p->pos] : 0;
    if (c == '.' || c == 'e' || c == 'E') return bad(p, "something else than an unsigned integer");
    return FT_OK;
}

static ft_status copy_string(parser *p, const char **out)
{
    const char *text;
    size_t n;
    FT_TRY(string(p, &text, &n));
    *out = arena_strn(p->mem, text, n);
    return *out ? FT_OK : FT_EMEM;
}

/* --- entries ---------------------------------------------------------------------------------- */

static ft_status fail_entry(const parser *p, const entry *e, const char *what)
{
    return ft_fail(FT_EDATA, "%s: byte 0x%zx: tensor \"%s\": %s", p->path, e->at,
                   ft_shows(e->t.name), what);
}

static ft_status read_dtype(parser *p, entry *e)
{
    const char *text;
    size_t n;
    char name[16] = {0};
    FT_TRY(string(p, &text, &n));
    if (n < sizeof name) memcpy(name, text, n);
    e->t.type = dt_by_st(name);
    FT_CHECK(e->t.type, FT_EDATA, "%s: byte 0x%zx: tensor \"%s\": dtype \"%s\" is not supported",
             p->path, p->pos, ft_shows(e->t.name), ft_show(text, n));
    return FT_OK;
}

static ft_status read_shape(parser *p, entry *e)
{
    FT_TRY(expect(p, '['));
    if (accept(p, ']')) return FT_OK;
    do {
        uint64_t dim;
        FT_TRY(unsigned_integer(p, &dim));
        if (e->t.nd == (int)FT_COUNT_OF(e->t.dim))
            return fail_entry(p, e, "has more than 8 dimensions");
        if (dim > INT64_MAX) return fail_entry(p, e, "has a dimension beyond 2^63");
        e->t.dim[e->t.nd++] = (int64_t)dim;
    } while (accept(p, ','));
    return expect(p, ']');
}

static ft_status read_offsets(parser *p, entry *e)
{
    FT_TRY(expect(p, '['));
    FT_TRY(unsigned_integer(p, &e->begin));
    FT_TRY(expect(p, ','));
    FT_TRY(unsigned_integer(p, &e->end));
    return expect(p, ']');
}

static ft_status check_size(parser *p, entry *e)
{
    size_t count = 1;
    for (int i = 0; i < e->t.nd; i++) {
        if (!ft_mul(count, (size_t)e->t.dim[i], &count) || count > INT64_MAX)
            return fail_entry(p, e, "its shape has more elements than can be counted");
    }
    if (!dt_bytes(e->t.type, (int64_t)count, &e->t.bytes))
        return fail_entry(p, e, "its shape has more bytes than can be counted");
    if (e->end < e->begin) return fail_entry(p, e, "its data_offsets run backwards");
    FT_CHECK(
        e->end - e->begin == e->t.bytes, FT_EDATA,
        "%s: byte 0x%zx: tensor \"%s\": shape and dtype need %zu bytes, data_offsets give %llu",
        p->path, e->at, ft_shows(e->t.name), e->t.bytes, (unsigned long long)(e->end - e->begin));
    return FT_OK;
}

static ft_status read_entry(parser *p, entry *e)
{
    static const struct {
        const char *key;
        ft_status (*read)(parser *, entry *);
    } fields[] = {{"dtype", read_dtype}, {"shape", read_shape}, {"data_offsets", read_offsets}};
    unsigned seen = 0;

    FT_TRY(expect(p, '{'));
    if (!accept(p, '}')) {
        do {
            const char *key;
            size_t n, i = 0;
            FT_TRY(string(p, &key, &n));
            while (i < FT_COUNT_OF(fields) &&
                   (n != strlen(fields[i].key) || memcmp(key, fields[i].key, n) != 0))
                i++;
            FT_CHECK(i < FT_COUNT_OF(fields), FT_EDATA,
                     "%s: byte 0x%zx: tensor \"%s\": unknown key \"%s\"", p->path, p->pos,
                     ft_shows(e->t.name), ft_show(key, n));
            FT_CHECK(!(seen & 1u << i), FT_EDATA,
                     "%s: byte 0x%zx: tensor \"%s\": \"%s\" stands twice", p->path, p->pos,
                     ft_shows(e->t.name), fields[i].key);
            seen |= 1u << i;
            FT_TRY(expect(p, ':'));
            FT_TRY(fields[i].read(p, e));
        } while (accept(p, ','));
        FT_TRY(expect(p, '}'));
    }
    for (size_t i = 0; i < FT_COUNT_OF(fields); i++)
        FT_CHECK(seen & 1u << i, FT_EDATA, "%s: byte 0x%zx: tensor \"%s\": no \"%s\"", p->path,
                 e->at, ft_shows(e->t.name), fields[i].key);
    return check_size(p, e);
}

/* The next free element of a growing array; NULL: out of memory. */
static void *grow(void **list, size_t *n, size_t *cap, size_t size)
{
    if (*n == *cap) {
        size_t more = *cap ? 2 * *cap : 64;
        void *grown = ft_realloc(*list, more, size);
        if (!grown) return NULL;
        *list = grown;
        *cap = more;
    }
    void *slot = (char *)*list + (*n)++ * size;
    memset(slot, 0, size);
    return slot;
}

static ft_status read_meta(parser *p)
{
    if (p->has_meta) return bad(p, "a second __metadata__");
    p->has_meta = true;
    FT_TRY(expect(p, '{'));
    if (accept(p, '}')) return FT_OK;
    do {
        for (int value = 0; value < 2; value++) {
            void *list = (void *)p->meta;
            void *slot = grow(&list, &p->n_meta, &p->cap_meta, sizeof *p->meta);
            p->meta = list;
            if (!slot) return FT_EMEM;
            if (value) FT_TRY(expect(p, ':'));
            if (value && peek(p) != '"') return bad(p, "a __metadata__ value that is not a string");
            FT_TRY(copy_string(p, slot));
        }
    } while (accept(p, ','));
    return expect(p, '}');
}

static ft_status read_header(parser *p)
{
    FT_TRY(expect(p, '{'));
    if (!accept(p, '}')) {
        do {
            const char *name;
            skip_space(p);
            size_t at = p->pos;
            FT_TRY(copy_string(p, &name));
            FT_TRY(expect(p, ':'));
            if (strcmp(name, "__metadata__") == 0) {
                FT_TRY(read_meta(p));
                continue;
            }
            void *list = p->list;
            entry *e = grow(&list, &p->n, &p->cap, sizeof *e);
            p->list = list;
            if (!e) return FT_EMEM;
            e->at = at;
            e->t.name = name;
            e->t.file = p->path;
            FT_TRY(read_entry(p, e));
        } while (accept(p, ','));
        FT_TRY(expect(p, '}'));
    }
    skip_space(p);
    return p->pos == p->end ? FT_OK : bad(p, "text after the end");
}

/* --- the file as a whole ---------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

/* Tensors follow each other without hole or overlap from the first data byte to the last. */
static ft_status check_cover(parser *p, size_t data_bytes)
{
    uint64_t at = 0;
    if (p->n > 0) qsort(p->list, p->n, sizeof *p->list, by_offset);
    for (size_t i = 0; i < p->n; i++) {
        const entry *e = &p->list[i];
        if (e->begin < at) return fail_entry(p, e, "overlaps another tensor");
        if (e->begin > at) return fail_entry(p, e, "leaves a hole before it");
        at = e->end;
        FT_CHECK(at <= data_bytes, FT_EDATA,
                 "%s: byte 0x%zx: tensor \"%s\": ends %llu bytes after the end of the file; is the "
                 "download complete?",
                 p->path, e->at, ft_shows(e->t.name), (unsigned long long)(at - data_bytes));
    }
    FT_CHECK(at == data_bytes, FT_EDATA, "%s: byte 0x%zx: %llu bytes belong to no tensor", p->path,
             p->end + at, (unsigned long long)(data_bytes - at));
    return FT_OK;
}

static ft_status keep(st_file *f, parser *p)
{
    f->tensor = arena_get(p->mem, (p->n + 1) * sizeof *f->tensor);
    f->meta = arena_get(p->mem, (p->n_meta + 1) * sizeof *f->meta);
    if (!f->tensor || !f->meta) return FT_EMEM;
    if (p->n_meta > 0) memcpy(f->meta, p->meta, p->n_meta * sizeof *f->meta);
    f->n_meta = (int)(p->n_meta / 2);
    for (size_t i = 0; i < p->n; i++) {
        io_tensor *t = &f->tensor[i];
        int64_t other;
        *t = p->list[i].t;
        t->map = &f->map;
        t->at = p->end + p->list[i].begin;
        t->data = f->map.pieces ? NULL : f->map.data + t->at;
        if (map_get(&f->index, t->name, strlen(t->name), &other))
            return fail_entry(p, &p->list[i], "stands twice");
        FT_TRY(map_put(&f->index, t->name, strlen(t->name), (int64_t)i));
    }
    f->n = (int64_t)p->n;
    return FT_OK;
}

static ft_status find_header(parser *p, file_map *map)
{
    uint64_t n;
    FT_CHECK(map->size >= 8, FT_EDATA, "%s: byte 0x0: %zu bytes are too few for a safetensors file",
             p->path, map->size);
    memcpy(&n, map->data, sizeof n);
    if (n > HEADER_LIMIT || n > map->size - 8) {
        FT_TRY(io_refuse_foreign(p->path, map));
        FT_CHECK(n <= HEADER_LIMIT, FT_EDATA,
                 "%s: byte 0x0: a header of %llu bytes is beyond the limit of %u", p->path,
                 (unsigned long long)n, HEADER_LIMIT);
        return ft_fail(FT_EDATA,
                       "%s: byte 0x0: a header of %llu bytes does not fit the file of %zu; is the "
                       "download complete?",
                       p->path, (unsigned long long)n, map->size);
    }
    FT_TRY(io_map_more(map, 8 + (size_t)n));
    p->text = map->data;
    p->pos = 8;
    p->end = 8 + (size_t)n;
    return FT_OK;
}

ft_status st_open(st_file *f, const char *path, arena *a)
{
    return st_open_as(f, path, false, a);
}

ft_status st_open_as(st_file *f, const char *path, bool apart, arena *a)
{
    enum { HEAD = 64 << 10 };
    ft_status rc;
    parser p = {.mem = a};

    *f = (st_file){0};
    p.path = arena_str(a, path);
    if (!p.path) return FT_EMEM;
    f->path = p.path;
    if (apart)
        FT_TRY(io_map_open_head(&f->map, path, HEAD));
    else
        FT_TRY(file_map_open(&f->map, path));
    FT_TRY_OUT(find_header(&p, &f->map));
    FT_TRY_OUT(read_header(&p));
    FT_TRY_OUT(check_cover(&p, f->map.size - p.end));
    rc = keep(f, &p);
out:
    ft_free(p.list);
    ft_free((void *)p.meta);
    str_free(&p.unescaped);
    if (rc != FT_OK) st_close(f);
    return rc;
}

const io_tensor *st_find(const st_file *f, const char *name)
{
    int64_t i;
    return map_get(&f->index, name, strlen(name), &i) ? &f->tensor[i] : NULL;
}

void st_close(st_file *f)
{
    map_free(&f->index);
    file_map_close(&f->map);
    *f = (st_file){0};
}
