/* unicode.c – classes and lower case by table, normal forms through utf8proc, the byte alphabet.
 *
 * utf8proc_map is not used for the normal forms: its reordering is quadratic in a run of combining marks, and it
 * knows characters that the reference library does not. Here those are barriers, and runs are sorted. */
#include "token_private.h"

#include <utf8proc.h>

uint32_t tk_flags(int32_t cp)
{
    if (cp < 0 || cp > 0x10ffff) return 0;
    if (cp < 128) return tk_ascii_flags[cp];
    int page = cp >> 8;
    int low = page < tk_n_pages ? tk_pages[page] : tk_n_runs - 1;
    int high = page + 1 < tk_n_pages ? tk_pages[page + 1] : tk_n_runs - 1;
    if (page >= tk_n_pages) low = tk_pages[tk_n_pages - 1];
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if ((int32_t)(tk_runs[mid] >> 8) <= cp) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    return tk_kind_flags[tk_runs[low] & 0xff];
}

int tk_script(int32_t cp)
{
    int low = 0, high = tk_n_script_runs - 1;
    if (cp < 0) return 0;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if ((int32_t)(tk_script_runs[mid] >> 8) <= cp) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    return (int)(tk_script_runs[low] & 0xff);
}

int32_t tk_lower(int32_t cp)
{
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    int low = 0, high = tk_n_lower_runs - 1;
    while (low <= high) {
        int mid = (low + high) / 2;
        const tk_case_run *r = &tk_lower_runs[mid];
        if (cp < r->first) {
            high = mid - 1;
        } else if (cp > r->last) {
            low = mid + 1;
        } else {
            return (cp - r->first) % r->step == 0 ? cp + r->delta : cp;
        }
    }
    return cp;
}

size_t tk_prev(const char *s, size_t pos)
{
    size_t back = pos < 4 ? pos : 4;
    for (size_t n = 2; n <= back; n++) {
        int32_t cp;
        if (((unsigned char)s[pos - n] & 0xc0) == 0x80) continue;
        if ((size_t)utf8_next(s + pos - n, n, &cp) == n && cp >= 0) return pos - n;
        break;
    }
    return pos - 1;
}

/* --- normal forms --------------------------------------------------------------------------------------- */
typedef struct points {
    int32_t *cp;
    size_t n, cap;
} points;

static ft_status points_room(points *p, size_t more)
{
    if (p->cap - p->n >= more) return FT_OK;
    size_t cap = p->cap ? p->cap * 2 : 256;
    while (cap - p->n < more) cap *= 2;
    int32_t *bigger = ft_realloc(p->cp, cap, sizeof *bigger);
    if (!bigger) return FT_EMEM;
    p->cp = bigger;
    p->cap = cap;
    return FT_OK;
}

/* Stable sort of a run of combining marks by class: one counting pass, 256 classes. */
static ft_status sort_marks(int32_t *cp, size_t n)
{
    if (n < 2) return FT_OK;
    size_t count[257] = {0};
    bool sorted = true;
    int last = 0;
    for (size_t i = 0; i < n; i++) {
        int c = utf8proc_get_property(cp[i])->combining_class & 0xff;
        count[c + 1]++;
        if (c < last) sorted = false;
        last = c;
    }
    if (sorted) return FT_OK;
    for (int c = 0; c < 256; c++) count[c + 1] += count[c];
    int32_t *copy = ft_alloc(n, sizeof *copy);
    if (!copy) return FT_EMEM;
    memcpy(copy, cp, n * sizeof *cp);
    for (size_t i = 0; i < n; i++) {
        cp[count[utf8proc_get_property(copy[i])->combining_class & 0xff]++] = copy[i];
    }
    ft_free(copy);
    return FT_OK;
}

/* Decomposed characters of one stretch without barriers → the form's text. */
static ft_status flush(points *p, bool compose, str_buf *out)
{
    for (size_t i = 0; i < p->n;) {
        size_t start = i;
        while (i < p->n && utf8proc_get_property(p->cp[i])->combining_class != 0) i++;
        if (i > start) FT_TRY(sort_marks(p->cp + start, i - start));
        if (i < p->n) i++;
    }
    size_t n = p->n;
    if (compose && n > 1) {
        utf8proc_ssize_t got = utf8proc_normalize_utf32(p->cp, (utf8proc_ssize_t)n,
                                                        UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        FT_CHECK(got >= 0, FT_EINTERNAL, "composition of %zu characters failed", n);
        n = (size_t)got;
        ft_written(p->cp, n * sizeof *p->cp);
    }
    for (size_t i = 0; i < n; i++) {
        char text[4];
        str_add(out, text, (size_t)utf8_put(text, p->cp[i]));
    }
    p->n = 0;
    return FT_OK;
}

static ft_status add_decomposed(points *p, int32_t cp, utf8proc_option_t how)
{
    FT_TRY(points_room(p, 32));
    int bound = 0;
    utf8proc_ssize_t got =
        utf8proc_decompose_char(cp, p->cp + p->n, (utf8proc_ssize_t)(p->cap - p->n), how, &bound);
    FT_CHECK(got >= 0 && (size_t)got <= p->cap - p->n, FT_EINTERNAL, "decomposition of U+%04X", cp);
    ft_written(p->cp + p->n, (size_t)got * sizeof *p->cp);
    p->n += (size_t)got;
    return FT_OK;
}

static ft_status normal_form(tk_form form, const char *s, size_t n, points *p, str_buf *out)
{
    bool compose = form == TK_NFC || form == TK_NFKC;
    utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (form == TK_NFKC || form == TK_NFKD) how |= UTF8PROC_COMPAT;
    for (size_t i = 0; i < n;) {
        /* ASCII followed by ASCII is stable in every form */
        size_t start = i;
        while (i + 1 < n && !((s[i] | s[i + 1]) & 0x80)) i++;
        if (i + 1 == n && !(s[i] & 0x80)) i++;
        if (i > start) {
            FT_TRY(flush(p, compose, out));
            str_add(out, s + start, i - start);
            continue;
        }
        int32_t cp;
        int len = utf8_next(s + i, n - i, &cp);
        if (cp < 0 || (tk_flags(cp) & TK_NEW)) {
            FT_TRY(flush(p, compose, out));
            str_add(out, s + i, (size_t)len);
        } else {
            FT_TRY(add_decomposed(p, cp, how));
        }
        i += (size_t)len;
    }
    return flush(p, compose, out);
}

ft_status tk_normal_form(tk_form form, const char *s, size_t n, str_buf *out)
{
    points p = {0};
    ft_status rc = normal_form(form, s, n, &p, out);
    ft_free(p.cp);
    return rc == FT_OK ? str_ok(out) : rc;
}

/* --- byte alphabet ---------------------------------------------------------------------------------------
 * 33–126, 161–172 and 174–255 stand for themselves, the other 68 bytes for U+0100 … in increasing order. */
#define SELF4(b) (b), (b) + 1, (b) + 2, (b) + 3
#define SELF16(b) SELF4(b), SELF4((b) + 4), SELF4((b) + 8), SELF4((b) + 12)
static const uint16_t byte_char[256] = {
    SELF16(0x100), SELF16(0x110), 0x120,         0x21,          0x22,         0x23,
    SELF4(0x24),   SELF4(0x28),   SELF4(0x2c),   SELF16(0x30),  SELF16(0x40), SELF16(0x50),
    SELF16(0x60),  SELF4(0x70),   SELF4(0x74),   SELF4(0x78),   0x7c,         0x7d,
    0x7e,          0x121,         SELF16(0x122), SELF16(0x132), 0x142,        0xa1,
    0xa2,          0xa3,          SELF4(0xa4),   SELF4(0xa8),   0xac,         0x143,
    0xae,          0xaf,          SELF16(0xb0),  SELF16(0xc0),  SELF16(0xd0), SELF16(0xe0),
    SELF16(0xf0),
};

int tk_char_byte(int32_t cp)
{
    if (cp < 0 || cp > 0x143) return -1;
    if (cp >= 0x100) {
        int i = cp - 0x100;
        return i < 33 ? i : i < 67 ? i - 33 + 0x7f : 0xad;
    }
    return byte_char[cp] == cp ? cp : -1;
}

void tk_bytes_to_alphabet(str_buf *out, const char *s, size_t n)
{
    char chunk[128];
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t cp = byte_char[(unsigned char)s[i]];
        if (used + 2 > sizeof chunk) {
            str_add(out, chunk, used);
            used = 0;
        }
        if (cp >= 0x80) chunk[used++] = (char)(0xc0 | cp >> 6);
        chunk[used++] = (char)(cp >= 0x80 ? 0x80 | (cp & 0x3f) : cp);
    }
    str_add(out, chunk, used);
}

void tk_add_lossy(str_buf *out, const char *s, size_t n)
{
    size_t start = 0, i = 0;
    while (i < n) {
        int32_t cp;
        int len = utf8_next(s + i, n - i, &cp);
        if (cp >= 0) {
            i += (size_t)len;
            continue;
        }
        str_add(out, s + start, i - start);
        str_add(out, "\xef\xbf\xbd", 3);
        /* a lead byte takes along the continuation bytes that could still follow it */
        unsigned char c = (unsigned char)s[i++];
        int more = c >= 0xc2 && c <= 0xdf   ? 1
                   : c >= 0xe0 && c <= 0xef ? 2
                   : c >= 0xf0 && c <= 0xf4 ? 3
                                            : 0;
        unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        for (; more > 0 && i < n; more--, i++) {
            unsigned char d = (unsigned char)s[i];
            if (d < low || d > high) break;
            low = 0x80;
            high = 0xbf;
        }
        start = i;
    }
    str_add(out, s + start, n - start);
}
