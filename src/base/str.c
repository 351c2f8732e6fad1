/* str.c – growing byte strings and UTF-8. */
#include "ft/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool grow(str_buf *s, size_t more)
{
    size_t need;
    if (s->failed) return false;
    if (!ft_add(s->len, more, &need) || !ft_add(need, 1, &need)) {
        s->failed = true;
        return false;
    }
    if (need <= s->cap) return true;
    size_t cap = s->cap ? s->cap : 64;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *data = ft_realloc(s->data, cap, 1);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->cap = cap;
    return true;
}

void str_add(str_buf *s, const char *text, size_t n)
{
    if ((s->failed || n >= s->cap - s->len) && !grow(s, n)) return;
    if (n) memcpy(s->data + s->len, text, n);
    s->len += n;
    s->data[s->len] = 0;
}

void str_adds(str_buf *s, const char *text)
{
    str_add(s, text, strlen(text));
}

void str_addc(str_buf *s, char c)
{
    str_add(s, &c, 1);
}

void str_vprintf(str_buf *s, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0 && grow(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

void str_printf(str_buf *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    str_vprintf(s, fmt, ap);
    va_end(ap);
}

void str_clear(str_buf *s)
{
    s->len = 0;
    if (s->data) s->data[0] = 0;
}

void str_free(str_buf *s)
{
    ft_free(s->data);
    *s = (str_buf){0};
}

ft_status str_ok(const str_buf *s)
{
    return s->failed ? ft_fail(FT_EMEM, "out of memory for a text of %zu bytes", s->len) : FT_OK;
}

void str_float(str_buf *s, float v)
{
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    str_adds(s, text);
}

void str_double(str_buf *s, double v)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    str_adds(s, text);
}

void str_json(str_buf *s, const char *text, size_t n)
{
    str_addc(s, '"');
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
        str_add(s, text + start, i - start);
        start = i + 1;
        switch (c) {
        case '"':
            str_adds(s, "\\\"");
            break;
        case '\\':
            str_adds(s, "\\\\");
            break;
        case '\n':
            str_adds(s, "\\n");
            break;
        case '\r':
            str_adds(s, "\\r");
            break;
        case '\t':
            str_adds(s, "\\t");
            break;
        case '\b':
            str_adds(s, "\\b");
            break;
        case '\f':
            str_adds(s, "\\f");
            break;
        default:
            str_printf(s, "\\u%04x", c);
        }
    }
    str_add(s, text + start, n - start);
    str_addc(s, '"');
}

/* --- for a shell ------------------------------------------------------------------------------ */

static bool moves_cursors(const char *word)
{
    for (size_t i = 0, n = strlen(word); i < n;) {
        int32_t cp;
        i += (size_t)utf8_next(word + i, n - i, &cp);
        if (utf8_unsafe(cp)) return true;
    }
    return false;
}

static void quote_bytes(str_buf *s, const char *word)
{
    str_adds(s, "$'");
    for (size_t i = 0, n = strlen(word); i < n;) {
        int32_t cp;
        const size_t bytes = (size_t)utf8_next(word + i, n - i, &cp);
        if (!utf8_unsafe(cp)) {
            if (cp == '\'' || cp == '\\') str_addc(s, '\\');
            str_add(s, word + i, bytes);
        } else { /* in octal, which ends by itself */
            for (size_t k = 0; k < bytes; k++) str_printf(s, "\\%03o", (unsigned char)word[i + k]);
        }
        i += bytes;
    }
    str_addc(s, '\'');
}

void str_shell(str_buf *s, const char *word, bool first)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
    if (first && word[0] == '-' && word[1]) str_adds(s, "./");
    if (word[0] && strspn(word, plain) == strlen(word)) {
        str_adds(s, word);
        return;
    }
    if (moves_cursors(word)) {
        quote_bytes(s, word);
        return;
    }
    str_addc(s, '\'');
    for (const char *p = word; *p; p++) {
        if (*p == '\'')
            str_adds(s, "'\\''");
        else
            str_addc(s, *p);
    }
    str_addc(s, '\'');
}

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

const char *str_find(const str_buf *s, size_t from, const char *what, size_t n)
{
    return s->len > from ? memmem(s->data + from, s->len - from, what, n) : NULL;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

int utf8_next(const char *p, size_t n, int32_t *cp)
{
    static const int32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char c = n ? (unsigned char)p[0] : 0xff;
    int len = c < 0x80 ? 1 : (c >> 5) == 6 ? 2 : (c >> 4) == 14 ? 3 : (c >> 3) == 30 ? 4 : 0;
    *cp = -1;
    if (len == 0 || (size_t)len > n) return 1;
    if (len == 1) {
        *cp = c;
        return 1;
    }
    int32_t v = c & (0x7f >> len);
    for (int i = 1; i < len; i++) {
        unsigned char d = (unsigned char)p[i];
        if ((d & 0xc0) != 0x80) return 1;
        v = (v << 6) | (d & 0x3f);
    }
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) return 1;
    *cp = v;
    return len;
}

int utf8_put(char out[4], int32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | (cp >> 6));
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | (cp >> 12));
        out[1] = (char)(0x80 | ((cp >> 6) & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (cp >> 18));
    out[1] = (char)(0x80 | ((cp >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((cp >> 6) & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

bool utf8_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += (size_t)utf8_next(p + i, n - i, &cp);
        if (cp < 0) return false;
    }
    return true;
}

size_t utf8_count(const char *p, size_t n)
{
    size_t count = 0;
    int32_t cp;
    for (size_t i = 0; i < n; count++) i += (size_t)utf8_next(p + i, n - i, &cp);
    return count;
}
