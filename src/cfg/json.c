/* json.c – the strict JSON reader: one pass checks the text, builds cJSON's tree, remembers positions.
 *
 * cJSON's own parser takes 01, raw newlines, invalid UTF-8, 1e999, duplicate keys and text after the end,
 * loses digits of 2^53 + 1, cuts strings at \u0000 and knows no lines. So the tree is made here, node by
 * node, and cJSON serves as the structure that everybody reads and as its printer's counterpart. There is
 * no recursion: containers stand on a stack of JSON_DEPTH levels. */
#include "cfg_private.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    JSON_DEPTH = 64,   /* containers inside each other */
    FEW_KEYS = 16,     /* up to here duplicates are found by comparing, beyond by a hash table */
    NUMBER_BYTES = 512 /* longest number literal */
};

typedef struct level {
    cJSON *node;    /* the container */
    cJSON *last;    /* its last member */
    char *key;      /* key read, value still to come; owned */
    map_table keys; /* filled from the FEW_KEYS-th member on */
    int64_t members;
} level;

typedef struct scan {
    js_doc *doc;
    const char *p, *end;
    js_flags flags;
    ft_status status;
    size_t pos_cap, nodes, texts; /* texts: keys and strings */
    size_t asked;                 /* memory was asked for at so many of both */
    int depth;                    /* open containers */
    level level[JSON_DEPTH];
} scan;

static void *hook_alloc(size_t n)
{
    return ft_alloc(n, 1);
}

ft_status js_whole(void)
{
    return ft_error_starved() ? FT_EMEM : FT_OK;
}

/* All of the tree's memory goes through the one allocator, whoever creates a node first. */
__attribute__((constructor)) static void install_hooks(void)
{
    cJSON_Hooks hooks = {.malloc_fn = hook_alloc, .free_fn = ft_free};
    cJSON_InitHooks(&hooks);
}

/* Line and column (characters, from 1) of a place in the text. */
void json_line_col(const char *text, const char *at, int64_t line0, int64_t *line, int *col)
{
    *line = line0;
    *col = 1;
    for (const char *p = text; p < at; p++) {
        if (*p == '\n') {
            ++*line;
            *col = 1;
        } else if (((unsigned char)*p & 0xc0) != 0x80 && *col < INT32_MAX) {
            ++*col;
        }
    }
}

void json_place(const js_doc *d, const char *at, int64_t *line, int *col)
{
    json_line_col(d->text, at, d->line0, line, col);
    if (*line == d->line0 && *col < INT32_MAX - d->col0) *col += (int)d->col0;
}

static ft_status fail_at(const scan *s, const char *at, const char *fmt, ...) FT_PRINTF(3, 4);
static ft_status fail_at(const scan *s, const char *at, const char *fmt, ...)
{
    char what[400];
    int64_t line;
    int col;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    json_place(s->doc, at, &line, &col);
    return ft_fail(s->status, "%s:%lld:%d: %s", s->doc->name, (long long)line, col, what);
}

static void skip_space(scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

/* What stands at `at`, for a message: one word or one character. */
static const char *found(const scan *s, const char *at)
{
    size_t n = 0, left = (size_t)(s->end - at);
    if (left == 0) return "the end of the text";
    while (n < left && n < 24 && ((at[n] | 32) >= 'a' && (at[n] | 32) <= 'z')) n++;
    if (n == 0) {
        int32_t cp;
        n = (size_t)utf8_next(at, left, &cp);
    }
    return ft_show(at, n);
}

static bool at_comment(const scan *s)
{
    return s->p < s->end && (*s->p == '/' || *s->p == '#');
}

static ft_status unexpected(const scan *s, const char *wanted)
{
    const char *at = s->p;
    if (at_comment(s))
        return fail_at(s, at, "comments are not JSON; remove it%s",
                       s->status == FT_ECONFIG && *at == '/' ? ", or name the file .jsonc" : "");
    if (at < s->end && *at == '\'') return fail_at(s, at, "strings stand in double quotes");
    return fail_at(s, at, "expected %s, found %s", wanted, found(s, at));
}

/* --- strings ------------------------------------------------------------------------------------ */
static int hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)p[i], low = c | 32;
        if (c >= '0' && c <= '9')
            v = v * 16 + c - '0';
        else if (low >= 'a' && low <= 'f')
            v = v * 16 + low - 'a' + 10;
        else
            return -1;
    }
    return v;
}

/* p at the backslash; writes the character it stands for and moves *pp behind it. */
static ft_status escape(const scan *s, const char **pp, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *p = *pp + 1, *which = p < s->end && *p ? strchr(from, *p) : NULL;
    if (which) {
        *(*out)++ = to[which - from];
        *pp = p + 1;
        return FT_OK;
    }
    if (p >= s->end || *p != 'u')
        return fail_at(s, *pp, "\\%s is not an escape of JSON; a backslash is written \\\\",
                       p < s->end ? found(s, p) : "");
    int32_t cp = hex4(p + 1, s->end);
    if (cp < 0) return fail_at(s, *pp, "\\u takes four hexadecimal digits");
    if (cp == 0 && !(s->flags & JS_NUL))
        return fail_at(s, *pp, "\\u0000 cannot be part of a string");
    p += 5;
    if (cp == 0) {
        *(*out)++ = (char)0xc0;
        *(*out)++ = (char)0x80;
        *pp = p;
        return FT_OK;
    }
    if (cp >= 0xd800 && cp <= 0xdbff && s->end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        int low = hex4(p + 2, s->end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    if (cp >= 0xd800 && cp <= 0xdfff)
        return fail_at(s, *pp, "\\u%04x is half of a surrogate pair", (unsigned)cp);
    *out += utf8_put(*out, cp);
    *pp = p;
    return FT_OK;
}

/* Checks the string at p (the opening quote) and finds its closing quote. */
static ft_status string_end(const scan *s, const char **close, bool *escapes)
{
    const char *p = s->p + 1;
    *escapes = false;
    while (p < s->end && *p != '"') {
        unsigned char c = (unsigned char)*p;
        if (c >= 0x80) {
            int32_t cp;
            int n = utf8_next(p, (size_t)(s->end - p), &cp);
            if (cp < 0) return fail_at(s, p, "byte 0x%02x is not valid UTF-8", c);
            p += n;
        } else if (c == '\\') {
            *escapes = true;
            p += 2;
        } else if (c < 0x20) {
            if (c == '\n' || c == '\r')
                return fail_at(s, s->p, "this string is not closed on its line; a new line is \\n");
            return fail_at(s, p, "control character 0x%02x in a string; write it as \\u%04x", c, c);
        } else {
            p++;
        }
    }
    if (p >= s->end) return fail_at(s, s->p, "this string is not closed");
    *close = p;
    return FT_OK;
}

/* Reads the string at p into *out (owned by the caller, NUL-terminated) and moves behind it. */
static ft_status read_string(scan *s, char **out)
{
    const char *close = NULL;
    bool escapes;

    FT_TRY(string_end(s, &close, &escapes));
    const char *p = s->p + 1;
    char *text = ft_alloc((size_t)(close - p) + 1, 1), *w = text;
    if (!text) return FT_EMEM;
    if (!escapes) {
        memcpy(text, p, (size_t)(close - p));
    } else {
        while (p < close) {
            if (*p != '\\') {
                *w++ = *p++;
                continue;
            }
            ft_status rc = escape(s, &p, &w);
            if (rc != FT_OK) {
                ft_free(text);
                return rc;
            }
        }
        *w = 0;
    }
    s->p = close + 1;
    *out = text;
    return FT_OK;
}

/* --- numbers ------------------------------------------------------------------------------------ */
static bool digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

/* Checks the syntax of the number at s->p; *end_out behind it. */
static ft_status number_end(const scan *s, const char **end_out, bool *whole)
{
    const char *p = s->p, *end = s->end;

    *whole = true;
    if (*p == '-') p++;
    if (!digit(p, end)) return fail_at(s, s->p, "a number needs a digit here");
    if (*p == '0' && digit(p + 1, end)) return fail_at(s, s->p, "a number may not begin with 0");
    while (digit(p, end)) p++;
    if (p < end && *p == '.') {
        *whole = false;
        if (!digit(++p, end)) return fail_at(s, s->p, "a number needs a digit behind its point");
        while (digit(p, end)) p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        *whole = false;
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        if (!digit(p, end)) return fail_at(s, s->p, "a number needs a digit in its exponent");
        while (digit(p, end)) p++;
    }
    if (p < end &&
        ((*p | 32) == 'x' || *p == '_' || *p == '.' || ((*p | 32) >= 'a' && (*p | 32) <= 'z')))
        return fail_at(s, s->p, "this is not a number of JSON");
    *end_out = p;
    return FT_OK;
}

static void set_number(cJSON *node, double v)
{
    node->type = cJSON_Number;
    node->valuedouble = v;
    node->valueint = v >= 2147483647.0    ? 2147483647
                     : v <= -2147483648.0 ? INT32_MIN
                     : isnan(v)           ? 0
                                          : (int)v;
}

/* A literal no double stands for: refused, or kept as written in valuestring (JS_BIG_NUMBERS). */
static ft_status inexact(const scan *s, cJSON *node, const char *text, double v, const char *why)
{
    if (!(s->flags & JS_BIG_NUMBERS)) return fail_at(s, s->p, "%s %s", ft_shows(text), why);
    node->valuestring = ft_strdup(text);
    if (!node->valuestring) return FT_EMEM;
    set_number(node, v);
    return FT_OK;
}

static ft_status read_number(scan *s, cJSON *node)
{
    const char *end = s->p;
    bool whole;
    char text[NUMBER_BYTES];

    FT_TRY(number_end(s, &end, &whole));
    size_t n = (size_t)(end - s->p);
    if (n >= sizeof text) return fail_at(s, s->p, "a number of %zu characters is too long", n);
    if (whole && n <= 15) {
        int64_t v = 0;
        for (const char *p = s->p + (*s->p == '-'); p < end; p++) v = v * 10 + (*p - '0');
        set_number(node, *s->p == '-' ? -(double)v : (double)v);
        s->p = end;
        return FT_OK;
    }
    memcpy(text, s->p, n);
    text[n] = 0;
    double v = strtod(text, NULL);
    ft_status rc = FT_OK;
    if (isinf(v)) {
        rc = inexact(s, node, text, v, "is beyond the range of a double");
    } else if (v == 0 && strcspn(text, "123456789") < strcspn(text, "eE")) {
        rc = inexact(s, node, text, v, "is too small for a double");
    } else if (whole && fabs(v) >= JSON_EXACT_INT) {
        char exact[NUMBER_BYTES]; /* digits of a double below 1e309: at most 310 */
        snprintf(exact, sizeof exact, "%.0f", v);
        if (strcmp(exact, text) != 0)
            rc = inexact(s, node, text, v,
                         "is beyond 2^53 and would lose digits; write it as a string");
        else
            set_number(node, v);
    } else {
        set_number(node, v);
    }
    if (!whole) node->type |= JS_FLOAT_BIT;
    s->p = end;
    return rc;
}

/* --- values and containers ---------------------------------------------------------------------- */
static ft_status keyword(scan *s, cJSON *node)
{
    static const struct {
        const char *text;
        int type;
        double value;
    } words[] = {
        {"true", cJSON_True, 0},
        {"false", cJSON_False, 0},
        {"null", cJSON_NULL, 0},
        {"NaN", cJSON_Number, (double)NAN},
        {"Infinity", cJSON_Number, (double)INFINITY},
        {"-Infinity", cJSON_Number, -(double)INFINITY},
    };
    for (size_t i = 0; i < FT_COUNT_OF(words); i++) {
        size_t n = strlen(words[i].text), left = (size_t)(s->end - s->p);
        if (left < n || memcmp(s->p, words[i].text, n) != 0) continue;
        if (left > n && ((s->p[n] | 32) >= 'a' && (s->p[n] | 32) <= 'z')) continue;
        if (words[i].type == cJSON_Number) {
            if (!(s->flags & JS_ALLOW_NONFINITE))
                return fail_at(s, s->p, "%s is not a number of JSON", words[i].text);
            set_number(node, words[i].value);
        }
        node->type = words[i].type;
        if (node->type == cJSON_True) node->valueint = 1;
        s->p += n;
        return FT_OK;
    }
    return unexpected(s, "a value");
}

static ft_status remember(scan *s)
{
    js_doc *d = s->doc;
    if (s->flags & JS_NO_POSITIONS) return FT_OK;
    if (d->n_pos == s->pos_cap) {
        size_t cap = s->pos_cap ? s->pos_cap * 2 : 64;
        uint32_t *more = ft_realloc(d->pos, cap, sizeof *more);
        if (!more) return FT_EMEM;
        d->pos = more;
        s->pos_cap = cap;
    }
    d->pos[d->n_pos++] = (uint32_t)(s->p - d->text);
    return FT_OK;
}

/* A tree takes far more than its text, "0," say, and what is made of a record of many short turns more again: a node is
 * taken for NODE bytes, a key or a string for TEXT more, as was measured with the formats of data. So there is an end to
 * the values of a file, and an earlier one to those of a record. Memory is asked for meanwhile. */
enum { VALUES = 1 << 24, ASK = 1 << 16, NODE = 84, TEXT = 252, RECORD = 56 << 20 };

static ft_status check_values(scan *s)
{
    const size_t n = s->nodes + s->texts;
    if (n > VALUES) return fail_at(s, s->p, "more than %d values in one file", VALUES);
    if ((s->flags & JS_RECORD) && s->nodes * NODE + s->texts * TEXT > RECORD)
        return fail_at(s, s->p,
                       "the %zu values so far take too much memory for one record; split it",
                       s->nodes);
    if (n < s->asked + ASK) return FT_OK;
    s->asked = n;
    const ft_grant g = ft_memory_more((size_t)2 * ASK * NODE);
    FT_CHECK(g.need <= g.limit, FT_EMEM, "%s: reading its values needs %s of memory, %s grants %s",
             s->doc->name ? s->doc->name : "JSON", ft_bytes_text(g.need), g.name,
             ft_bytes_text(g.limit));
    return FT_OK;
}

/* A new node, already hung into the tree (so that a failure frees it with the rest). */
static ft_status new_node(scan *s, cJSON **out)
{
    s->nodes++;
    FT_TRY(check_values(s));
    cJSON *node = ft_alloc(1, sizeof *node);
    if (!node) return FT_EMEM;
    node->type = cJSON_NULL;
    if (s->depth == 0) {
        s->doc->root = node;
    } else {
        level *l = &s->level[s->depth - 1];
        node->string = l->key;
        l->key = NULL;
        if (l->last) {
            l->last->next = node;
            node->prev = l->last;
        } else {
            l->node->child = node;
        }
        l->node->child->prev = node; /* cJSON: the first member's prev is the last */
        l->last = node;
        l->members++;
    }
    *out = node;
    return remember(s);
}

static ft_status duplicate(const scan *s, const char *at, const char *key)
{
    return fail_at(s, at, "%s: the key is here twice; remove one", ft_shows(key));
}

/* Refuses l->key when the object has it already. */
static ft_status check_key(scan *s, level *l, const char *at)
{
    size_t len = strlen(l->key);
    if (l->members < FEW_KEYS) {
        for (const cJSON *m = l->node->child; m; m = m->next) {
            if (strcmp(m->string, l->key) == 0) return duplicate(s, at, l->key);
        }
        return FT_OK;
    }
    if (l->members == FEW_KEYS) {
        for (const cJSON *m = l->node->child; m; m = m->next)
            FT_TRY(map_put(&l->keys, m->string, strlen(m->string), 0));
    }
    if (map_get(&l->keys, l->key, len, NULL)) return duplicate(s, at, l->key);
    return map_put(&l->keys, l->key, len, 0); /* the string passes to the node and stays */
}

static ft_status read_key(scan *s)
{
    level *l = &s->level[s->depth - 1];
    const char *at = s->p;
    if (s->p >= s->end || *s->p != '"') return unexpected(s, "a key in double quotes");
    FT_TRY(read_string(s, &l->key));
    s->texts++;
    FT_TRY(check_key(s, l, at));
    skip_space(s);
    if (s->p >= s->end || *s->p != ':') return unexpected(s, "':' behind the key");
    s->p++;
    return FT_OK;
}

static ft_status open_container(scan *s, cJSON *node)
{
    node->type = *s->p == '{' ? cJSON_Object : cJSON_Array;
    if (s->depth == JSON_DEPTH) return fail_at(s, s->p, "nested deeper than %d levels", JSON_DEPTH);
    s->level[s->depth++] = (level){.node = node};
    s->p++;
    return FT_OK;
}

static void close_container(scan *s)
{
    level *l = &s->level[--s->depth];
    map_free(&l->keys);
    s->p++;
}

static bool at_close(const scan *s)
{
    if (s->p >= s->end || s->depth == 0) return false;
    return *s->p == (s->level[s->depth - 1].node->type == cJSON_Object ? '}' : ']');
}

static ft_status read_value(scan *s)
{
    cJSON *node;
    skip_space(s);
    if (s->p >= s->end) return unexpected(s, "a value");
    FT_TRY(new_node(s, &node));
    char c = *s->p;
    if (c == '{' || c == '[') return open_container(s, node);
    if (c == '"') {
        node->type = cJSON_String;
        s->texts++;
        return read_string(s, &node->valuestring);
    }
    if ((c >= '0' && c <= '9') || (c == '-' && (s->end - s->p < 2 || s->p[1] != 'I')))
        return read_number(s, node);
    return keyword(s, node);
}

/* Behind a value, or just inside a container: closes what ends here and stops in front of the next value
 * (true) or behind the document (false). `fresh`: a container was just opened. */
static ft_status advance(scan *s, bool fresh, bool *more)
{
    *more = true;
    while (s->depth > 0) {
        bool object = s->level[s->depth - 1].node->type == cJSON_Object;
        skip_space(s);
        if (at_close(s)) {
            close_container(s);
            fresh = false;
            continue;
        }
        if (!fresh) {
            if (s->p >= s->end || *s->p != ',')
                return unexpected(s, object ? "',' or '}'" : "',' or ']'");
            const char *comma = s->p++;
            skip_space(s);
            if (at_close(s)) return fail_at(s, comma, "a comma behind the last entry; remove it");
        }
        return object ? read_key(s) : FT_OK;
    }
    *more = false;
    return FT_OK;
}

static ft_status read_document(scan *s)
{
    bool more = true;

    if (s->end - s->p >= 3 && memcmp(s->p, "\xef\xbb\xbf", 3) == 0)
        return fail_at(s, s->p, "the text begins with a byte order mark; save it without one");
    skip_space(s);
    if (s->p == s->end) return fail_at(s, s->p, "nothing here; expected a JSON value");
    while (more) {
        int depth = s->depth;
        FT_TRY(read_value(s));
        FT_TRY(advance(s, s->depth > depth, &more));
    }
    skip_space(s);
    if (at_comment(s)) return unexpected(s, "");
    if (s->p < s->end)
        return fail_at(s, s->p, "text behind the end of the document: %s%s", found(s, s->p),
                       s->status == FT_ECONFIG && *s->p == '{'
                           ? "; records of data are given with --data"
                           : "");
    return FT_OK;
}

ft_status js_parse(js_doc *out, const char *text, size_t len, const char *name, int64_t line0,
                   js_flags flags, ft_status status)
{
    return js_parse_at(out, text, len, name, line0, 0, flags, status);
}

ft_status js_parse_at(js_doc *out, const char *text, size_t len, const char *name, int64_t line0,
                      int64_t col0, js_flags flags, ft_status status)
{
    scan s = {.doc = out, .p = text, .end = text + len, .flags = flags, .status = status};

    *out = (js_doc){.name = name, .text = text, .len = len, .line0 = line0, .col0 = col0};
    FT_CHECK((flags & JS_NO_POSITIONS) || len < UINT32_MAX, status,
             "%s: %zu bytes of JSON are too many", name, len);
    ft_status rc = read_document(&s);
    for (int i = 0; i < s.depth; i++) { /* only after a failure */
        ft_free(s.level[i].key);
        map_free(&s.level[i].keys);
    }
    if (flags & JS_NO_POSITIONS) out->text = NULL;
    if (rc != FT_OK) js_close(out);
    return rc;
}

size_t js_nul(char *text, size_t n)
{
    size_t to = 0;
    if (n < 2 || !memchr(text, 0xc0, n)) return n;
    for (size_t i = 0; i < n; i++) {
        bool nul =
            i + 1 < n && (unsigned char)text[i] == 0xc0 && (unsigned char)text[i + 1] == 0x80;
        text[to++] = nul ? 0 : text[i];
        i += nul;
    }
    text[to] = 0;
    return to;
}

void js_close(js_doc *doc)
{
    cJSON_Delete(doc->root);
    ft_free(doc->pos);
    doc->root = NULL;
    doc->pos = NULL;
    doc->n_pos = 0;
}
