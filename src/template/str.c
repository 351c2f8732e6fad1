/* str.c – methods of strings, dicts, lists and tuples that templates may call.
 *
 * Strings are UTF-8 and counted in code points; white space is Python's (str.isspace). What would change a
 * list or dict is refused by the sandbox (value.c). */
#include "template_private.h"

#include <string.h>
#include <utf8proc.h>

bool tpl_space(int32_t cp)
{
    return (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 32) || cp == 0x85 || cp == 0xA0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static tpl_val part(tpl_val s, int64_t from, int64_t to)
{
    tpl_val v = tpl_strn(s.s + from, (size_t)(to - from));
    v.flag = s.flag;
    return v;
}

static int64_t find(tpl_val s, int64_t from, tpl_val what)
{
    const char *p = NULL;
    if (from > s.n) return -1;
    if (!what.n) return from;
    p = memmem(s.s + from, (size_t)(s.n - from), what.s, (size_t)what.n);
    return p ? p - s.s : -1;
}

static int64_t find_last(tpl_val s, tpl_val what)
{
    for (int64_t i = s.n - what.n; i >= 0; i--) {
        if (!what.n || !memcmp(s.s + i, what.s, (size_t)what.n)) return i;
    }
    return -1;
}

static bool in_set(tpl_val chars, int32_t cp, const char *bytes, int k)
{
    int32_t other;
    int m;
    if (chars.t != TV_STR) return tpl_space(cp);
    for (int64_t i = 0; i < chars.n; i += m) {
        m = utf8_next(chars.s + i, (size_t)(chars.n - i), &other);
        if (m == k && !memcmp(chars.s + i, bytes, (size_t)k)) return true;
    }
    return false;
}

tpl_val tpl_strip(tpl_ctx *c, tpl_val s, tpl_val chars, int sides)
{
    int64_t from = 0, to = s.n;
    int32_t cp;
    if (!tpl_absent(chars) && chars.t != TV_STR && chars.t != TV_NONE) {
        return tpl_fail(c, "strip arg must be None or str");
    }
    tpl_work(c, s.n / 16);
    while ((sides & 1) && from < to) {
        int k = utf8_next(s.s + from, (size_t)(to - from), &cp);
        if (!in_set(chars, cp, s.s + from, k)) break;
        from += k;
    }
    while ((sides & 2) && to > from) {
        int64_t q = to - 1;
        while (q > from && ((unsigned char)s.s[q] & 0xC0) == 0x80) q--;
        int k = utf8_next(s.s + q, (size_t)(to - q), &cp);
        if (!in_set(chars, cp, s.s + q, k)) break;
        to = q;
    }
    return part(s, from, to);
}

tpl_val tpl_replace(tpl_ctx *c, tpl_val s, tpl_val from, tpl_val to, int64_t count)
{
    str_buf out = {0};
    int64_t i = 0;
    while (count != 0 && c->rc == FT_OK) {
        int64_t at = find(s, i, from);
        if (at < 0) break;
        if (out.len + (size_t)to.n > TPL_MAX_OUTPUT) tpl_fail(c, "text too long");
        str_add(&out, s.s + i, (size_t)(at - i));
        str_add(&out, to.s, (size_t)to.n);
        i = at + from.n;
        if (!from.n) { /* between all characters, and at the end */
            int64_t k = tpl_offset(s.s + i, s.n - i, 1);
            if (!k) break;
            str_add(&out, s.s + i, (size_t)k);
            i += k;
        }
        count -= count > 0;
        tpl_work(c, 1 + to.n / 16);
    }
    if (i < s.n) str_add(&out, s.s + i, (size_t)(s.n - i));
    tpl_val v = tpl_buf(c, &out);
    v.flag = s.flag;
    return v;
}

/* --- splitting --------------------------------------------------------------------------------------------- */
static bool line_break(int32_t cp)
{
    return cp == '\n' || cp == '\r' || cp == 11 || cp == 12 || (cp >= 28 && cp <= 30) ||
           cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

static tpl_val split_lines(tpl_ctx *c, tpl_val s, bool keep)
{
    tpl_val out = tpl_list_new(c, TV_LIST, 0);
    int64_t from = 0;
    int32_t cp;
    int k;
    for (int64_t i = 0; i < s.n && c->rc == FT_OK; i += k) {
        k = utf8_next(s.s + i, (size_t)(s.n - i), &cp);
        if (!line_break(cp)) continue;
        if (cp == '\r' && i + 1 < s.n && s.s[i + 1] == '\n') k = 2;
        tpl_list_add(c, out.l, part(s, from, keep ? i + k : i));
        from = i + k;
    }
    if (from < s.n) tpl_list_add(c, out.l, part(s, from, s.n));
    return out;
}

tpl_val tpl_splitlines(tpl_ctx *c, tpl_val s)
{
    return split_lines(c, s, false);
}

static tpl_val split_space(tpl_ctx *c, tpl_val s, int64_t max)
{
    tpl_val out = tpl_list_new(c, TV_LIST, 0);
    while (c->rc == FT_OK) {
        s = tpl_strip(c, s, tpl_none(), 1);
        if (!s.n) break;
        int64_t i = 0;
        int32_t cp;
        int k = 0;
        for (; i < s.n && max != 0; i += k) {
            k = utf8_next(s.s + i, (size_t)(s.n - i), &cp);
            if (tpl_space(cp)) break;
        }
        if (max == 0) {
            tpl_list_add(c, out.l, tpl_strip(c, s, tpl_none(), 2));
            break;
        }
        tpl_list_add(c, out.l, part(s, 0, i));
        s = part(s, i, s.n);
        max -= max > 0;
    }
    return out;
}

static void reverse(tpl_list *l)
{
    for (int64_t i = 0, j = l->n - 1; i < j; i++, j--) {
        tpl_val v = l->v[i];
        l->v[i] = l->v[j];
        l->v[j] = v;
    }
}

static tpl_val rsplit_space(tpl_ctx *c, tpl_val s, int64_t max)
{
    tpl_val out = tpl_list_new(c, TV_LIST, 0);
    while (c->rc == FT_OK) {
        s = tpl_strip(c, s, tpl_none(), 2);
        if (!s.n) break;
        int64_t i = s.n;
        while (i > 0 && max != 0) {
            int64_t q = i - 1;
            int32_t cp;
            while (q > 0 && ((unsigned char)s.s[q] & 0xC0) == 0x80) q--;
            utf8_next(s.s + q, (size_t)(i - q), &cp);
            if (tpl_space(cp)) break;
            i = q;
        }
        if (max == 0) {
            tpl_list_add(c, out.l, tpl_strip(c, s, tpl_none(), 1));
            break;
        }
        tpl_list_add(c, out.l, part(s, i, s.n));
        s = part(s, 0, i);
        max -= max > 0;
    }
    if (c->rc == FT_OK) reverse(out.l);
    return out;
}

static bool split_args(tpl_ctx *c, const tpl_val a[2], int64_t *max)
{
    *max = -1;
    if (!tpl_absent(a[1]) && !tpl_integer(a[1], max)) tpl_fail(c, "maxsplit must be an integer");
    if (!tpl_absent(a[0]) && a[0].t != TV_NONE && a[0].t != TV_STR) {
        tpl_fail(c, "must be str or None, not %s", tpl_type_name(a[0]));
    }
    if (a[0].t == TV_STR && !a[0].n) tpl_fail(c, "empty separator");
    return c->rc == FT_OK;
}

static tpl_val m_split(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    int64_t max, from = 0;
    (void)a;
    if (!split_args(c, b, &max)) return tpl_undef();
    if (b[0].t != TV_STR) return split_space(c, s, max);
    tpl_val out = tpl_list_new(c, TV_LIST, 0);
    for (int64_t at; c->rc == FT_OK && max != 0 && (at = find(s, from, b[0])) >= 0;
         max -= max > 0) {
        tpl_list_add(c, out.l, part(s, from, at));
        from = at + b[0].n;
    }
    tpl_list_add(c, out.l, part(s, from, s.n));
    return out;
}

static tpl_val m_rsplit(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    int64_t max, to = s.n;
    (void)a;
    if (!split_args(c, b, &max)) return tpl_undef();
    if (b[0].t != TV_STR) return rsplit_space(c, s, max);
    tpl_val out = tpl_list_new(c, TV_LIST, 0);
    for (int64_t at; c->rc == FT_OK && max != 0 && (at = find_last(part(s, 0, to), b[0])) >= 0;
         max -= max > 0) {
        tpl_list_add(c, out.l, part(s, at + b[0].n, to));
        to = at;
    }
    tpl_list_add(c, out.l, part(s, 0, to));
    if (c->rc == FT_OK) reverse(out.l);
    return out;
}

static tpl_val m_splitlines(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return split_lines(c, s, !tpl_absent(b[0]) && tpl_truth(b[0]));
}

static tpl_val three(tpl_ctx *c, tpl_val x, tpl_val y, tpl_val z)
{
    tpl_val t = tpl_list_new(c, TV_TUPLE, 3);
    tpl_list_add(c, t.l, x);
    tpl_list_add(c, t.l, y);
    tpl_list_add(c, t.l, z);
    return t;
}

static bool want_str(tpl_ctx *c, tpl_val v)
{
    if (v.t == TV_STR) return true;
    tpl_fail(c, "must be str, not %s", tpl_type_name(v));
    return false;
}

static tpl_val m_partition(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    if (!want_str(c, b[0])) return tpl_undef();
    if (!b[0].n) return tpl_fail(c, "empty separator");
    int64_t at = find(s, 0, b[0]);
    if (at < 0) return three(c, s, part(s, 0, 0), part(s, 0, 0));
    return three(c, part(s, 0, at), b[0], part(s, at + b[0].n, s.n));
}

static tpl_val m_rpartition(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    if (!want_str(c, b[0])) return tpl_undef();
    if (!b[0].n) return tpl_fail(c, "empty separator");
    int64_t at = find_last(s, b[0]);
    if (at < 0) return three(c, part(s, 0, 0), part(s, 0, 0), s);
    return three(c, part(s, 0, at), b[0], part(s, at + b[0].n, s.n));
}

/* --- white space, case, search ------------------------------------------------------------------------------ */
static tpl_val m_strip(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return tpl_strip(c, s, b[0], 3);
}

static tpl_val m_lstrip(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return tpl_strip(c, s, b[0], 1);
}

static tpl_val m_rstrip(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return tpl_strip(c, s, b[0], 2);
}

static tpl_val m_replace(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    int64_t count = -1;
    (void)a;
    if (!want_str(c, b[0]) || !want_str(c, b[1])) return tpl_undef();
    if (!tpl_absent(b[2]) && !tpl_integer(b[2], &count))
        return tpl_fail(c, "count must be an integer");
    return tpl_replace(c, s, b[0], b[1], count);
}

static void put_case(str_buf *out, int32_t cp, bool upper)
{
    char utf8[4];
    if (upper && cp == 0xDF)
        str_adds(out, "SS"); /* the one common letter that grows */
    else
        str_add(out, utf8,
                (size_t)utf8_put(utf8, upper ? utf8proc_toupper(cp) : utf8proc_tolower(cp)));
}

static bool cased(int32_t cp)
{
    return utf8proc_toupper(cp) != cp || utf8proc_tolower(cp) != cp;
}

tpl_val tpl_case(tpl_ctx *c, tpl_val s, char mode)
{
    str_buf out = {0};
    int32_t cp;
    int k;
    bool start = true;
    for (int64_t i = 0; i < s.n; i += k) {
        k = utf8_next(s.s + i, (size_t)(s.n - i), &cp);
        if (cp < 0) {
            str_add(&out, s.s + i, (size_t)k);
            continue;
        }
        bool upper = mode == 'u' || (mode != 'l' && mode != 's' && start) ||
                     (mode == 's' && utf8proc_toupper(cp) != cp);
        put_case(&out, cp, upper);
        if (mode == 'T')
            start = !cased(cp);
        else if (mode == 't')
            start = cp < 128 ? strchr("-({[<", cp) != NULL || tpl_space(cp) : tpl_space(cp);
        else
            start = false;
    }
    tpl_val v = tpl_buf(c, &out);
    v.flag = s.flag;
    return v;
}

#define CASE(name, mode)                                                                           \
    static tpl_val name(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)                \
    {                                                                                              \
        (void)b;                                                                                   \
        (void)a;                                                                                   \
        return tpl_case(c, s, mode);                                                               \
    }
CASE(m_upper, 'u')
CASE(m_lower, 'l')
CASE(m_title, 'T')
CASE(m_capitalize, 'c')
CASE(m_swapcase, 's')

/* Optional start and end in code points, cut out of s. */
static bool window(tpl_ctx *c, tpl_val *s, const tpl_val *b, int64_t *from)
{
    tpl_val lo = tpl_absent(b[0]) ? tpl_none() : b[0], hi = tpl_absent(b[1]) ? tpl_none() : b[1];
    int64_t n = tpl_length(c, *s);
    *from = 0;
    if (tpl_integer(lo, from) && *from < 0) *from = *from + n < 0 ? 0 : *from + n;
    bool past = *from > n;
    *s = tpl_slice(c, *s, lo, hi, tpl_none());
    return c->rc == FT_OK && !past;
}

static tpl_val affix(tpl_ctx *c, tpl_val s, const tpl_val *b, bool end)
{
    tpl_list one = {.v = (tpl_val *)(uintptr_t)b, .n = 1}, *l = b[0].t == TV_TUPLE ? b[0].l : &one;
    int64_t from;
    if (!window(c, &s, b + 1, &from)) return tpl_bool(false);
    for (int64_t i = 0; i < l->n; i++) {
        tpl_val x = l->v[i];
        if (!want_str(c, x)) return tpl_undef();
        if (x.n <= s.n && (!x.n || !memcmp(end ? s.s + s.n - x.n : s.s, x.s, (size_t)x.n))) {
            return tpl_bool(true);
        }
    }
    return tpl_bool(false);
}

static tpl_val m_startswith(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return affix(c, s, b, false);
}

static tpl_val m_endswith(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return affix(c, s, b, true);
}

static int64_t search(tpl_ctx *c, tpl_val s, const tpl_val *b, bool last)
{
    int64_t from, at;
    if (!want_str(c, b[0]) || !window(c, &s, b + 1, &from)) return -1;
    at = last ? find_last(s, b[0]) : find(s, 0, b[0]);
    return at < 0 ? -1 : from + tpl_chars(s.s, at);
}

static tpl_val m_find(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return tpl_int(search(c, s, b, false));
}

static tpl_val m_rfind(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return tpl_int(search(c, s, b, true));
}

static tpl_val m_index(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    int64_t at = search(c, s, b, false);
    (void)a;
    return at < 0 ? tpl_fail(c, "substring not found") : tpl_int(at);
}

static tpl_val m_count(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    int64_t n = 0, from;
    (void)a;
    if (!want_str(c, b[0]) || !window(c, &s, b + 1, &from)) return tpl_int(0);
    if (!b[0].n) return tpl_int(tpl_chars(s.s, s.n) + 1);
    for (int64_t i = 0; (i = find(s, i, b[0])) >= 0; i += b[0].n) n++;
    return tpl_int(n);
}

static tpl_val m_join(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    str_buf out = {0};
    tpl_list l = tpl_items(c, b[0]);
    (void)a;
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        if (l.v[i].t != TV_STR) {
            tpl_fail(c, "sequence item %lld: expected str instance, %s found", (long long)i,
                     tpl_type_name(l.v[i]));
            break;
        }
        if (i) tpl_str(c, &out, s);
        tpl_str(c, &out, l.v[i]);
    }
    return tpl_buf(c, &out);
}

static tpl_val m_format(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)b;
    return tpl_format(c, s, a);
}

static tpl_val m_removeprefix(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    if (!want_str(c, b[0])) return tpl_undef();
    bool has = b[0].n <= s.n && (!b[0].n || !memcmp(s.s, b[0].s, (size_t)b[0].n));
    return has ? part(s, b[0].n, s.n) : s;
}

static tpl_val m_removesuffix(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    if (!want_str(c, b[0])) return tpl_undef();
    bool has = b[0].n <= s.n && b[0].n && !memcmp(s.s + s.n - b[0].n, b[0].s, (size_t)b[0].n);
    return has ? part(s, 0, s.n - b[0].n) : s;
}

/* --- padding ------------------------------------------------------------------------------------------------- */
static tpl_val justify(tpl_ctx *c, tpl_val s, const tpl_val *b, char how)
{
    int64_t width, have = tpl_length(c, s), left, right;
    tpl_val fill = tpl_absent(b[1]) ? tpl_strn(" ", 1) : b[1];
    if (!tpl_integer(b[0], &width)) return tpl_fail(c, "width must be an integer");
    if (!want_str(c, fill) || tpl_length(c, fill) != 1) {
        return tpl_fail(c, "the fill character must be exactly one character long");
    }
    if (width <= have) return s;
    left = how == '<' ? 0 : width - have;
    if (how == '^') left = (width - have) / 2 + ((width - have) & width & 1); /* as CPython */
    right = width - have - left;
    tpl_val l = tpl_arith(c, '*', fill, tpl_int(left)), r = tpl_arith(c, '*', fill, tpl_int(right));
    return tpl_arith(c, '+', tpl_arith(c, '+', l, s), r);
}

static tpl_val m_ljust(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return justify(c, s, b, '<');
}

static tpl_val m_rjust(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return justify(c, s, b, '>');
}

static tpl_val m_center(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    return justify(c, s, b, '^');
}

static tpl_val m_zfill(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)
{
    int64_t width, sign = s.n && strchr("+-", s.s[0]) ? 1 : 0, have = tpl_length(c, s);
    (void)a;
    if (!tpl_integer(b[0], &width)) return tpl_fail(c, "width must be an integer");
    if (width <= have) return s;
    tpl_val zeros = tpl_arith(c, '*', tpl_strn("0", 1), tpl_int(width - have));
    return tpl_arith(c, '+', tpl_arith(c, '+', part(s, 0, sign), zeros), part(s, sign, s.n));
}

/* --- questions about all characters ---------------------------------------------------------------------------- */
static bool is_alpha(int32_t cp)
{
    utf8proc_category_t k = utf8proc_category(cp);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_decimal(int32_t cp)
{
    return utf8proc_category(cp) == UTF8PROC_CATEGORY_ND;
}

static bool is_digit(int32_t cp)
{
    return is_decimal(cp) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 ||
           (cp >= 0x2070 && cp <= 0x2089);
}

static bool is_numeric(int32_t cp)
{
    utf8proc_category_t k = utf8proc_category(cp);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

static bool is_alnum(int32_t cp)
{
    return is_alpha(cp) || is_numeric(cp);
}

static bool is_ascii(int32_t cp)
{
    return cp < 128;
}

static tpl_val all(tpl_val s, bool (*is)(int32_t cp), bool empty)
{
    int32_t cp;
    int k;
    for (int64_t i = 0; i < s.n; i += k) {
        k = utf8_next(s.s + i, (size_t)(s.n - i), &cp);
        if (cp < 0 || !is(cp)) return tpl_bool(false);
    }
    return tpl_bool(s.n ? true : empty);
}

static tpl_val one_case(tpl_val s, bool upper)
{
    int32_t cp;
    int k;
    bool any = false;
    for (int64_t i = 0; i < s.n; i += k) {
        k = utf8_next(s.s + i, (size_t)(s.n - i), &cp);
        if (cp < 0) continue;
        if (upper ? utf8proc_toupper(cp) != cp : utf8proc_tolower(cp) != cp) return tpl_bool(false);
        any = any || cased(cp);
    }
    return tpl_bool(any);
}

#define ASK(name, expr)                                                                            \
    static tpl_val name(tpl_ctx *c, tpl_val s, const tpl_val *b, const tpl_args *a)                \
    {                                                                                              \
        (void)c;                                                                                   \
        (void)b;                                                                                   \
        (void)a;                                                                                   \
        return expr;                                                                               \
    }
ASK(m_isalpha, all(s, is_alpha, false))
ASK(m_isdecimal, all(s, is_decimal, false))
ASK(m_isdigit, all(s, is_digit, false))
ASK(m_isnumeric, all(s, is_numeric, false))
ASK(m_isalnum, all(s, is_alnum, false))
ASK(m_isascii, all(s, is_ascii, true))
ASK(m_isspace, all(s, tpl_space, false))
ASK(m_isupper, one_case(s, true))
ASK(m_islower, one_case(s, false))

/* --- dicts and lists ------------------------------------------------------------------------------------------- */
static tpl_val view(tpl_ctx *c, const tpl_dict *d, const char *kind)
{
    tpl_val v = tpl_list_new(c, TV_VIEW, d->n);
    for (int64_t i = 0; i < d->n && c->rc == FT_OK; i++) {
        tpl_val item = kind[5] == 'k' ? d->k[i] : d->v[i];
        if (kind[5] == 'i') {
            item = tpl_list_new(c, TV_TUPLE, 2);
            tpl_list_add(c, item.l, d->k[i]);
            tpl_list_add(c, item.l, d->v[i]);
        }
        tpl_list_add(c, v.l, item);
    }
    if (c->rc == FT_OK) v.l->kind = kind;
    return v;
}

ASK(m_keys, view(c, s.d, "dict_keys"))
ASK(m_values, view(c, s.d, "dict_values"))
ASK(m_items, view(c, s.d, "dict_items"))

static tpl_val m_get(tpl_ctx *c, tpl_val d, const tpl_val *b, const tpl_args *a)
{
    tpl_val v;
    (void)a;
    if (b[0].t == TV_LIST || b[0].t == TV_DICT) {
        return tpl_fail(c, "unhashable type: '%s'", tpl_type_name(b[0]));
    }
    if (tpl_dict_get(c, d.d, b[0], &v)) return v;
    return tpl_absent(b[1]) ? tpl_none() : b[1];
}

static tpl_val m_copy(tpl_ctx *c, tpl_val v, const tpl_val *b, const tpl_args *a)
{
    (void)b;
    (void)a;
    if (v.t == TV_LIST) return tpl_slice(c, v, tpl_none(), tpl_none(), tpl_none());
    tpl_val d = tpl_dict_new(c, v.d->n);
    for (int64_t i = 0; i < v.d->n && c->rc == FT_OK; i++)
        tpl_dict_set(c, d.d, v.d->k[i], v.d->v[i]);
    return d;
}

static tpl_val m_list_count(tpl_ctx *c, tpl_val v, const tpl_val *b, const tpl_args *a)
{
    int64_t n = 0;
    (void)a;
    for (int64_t i = 0; i < v.l->n; i++) n += tpl_equal(c, v.l->v[i], b[0]);
    return tpl_int(n);
}

static tpl_val m_list_index(tpl_ctx *c, tpl_val v, const tpl_val *b, const tpl_args *a)
{
    (void)a;
    for (int64_t i = 0; i < v.l->n; i++) {
        if (tpl_equal(c, v.l->v[i], b[0])) return tpl_int(i);
    }
    return tpl_fail(c, "the value is not in the list");
}

#define ON(type) (1u << (type))
#define S ON(TV_STR)
#define D ON(TV_DICT)
#define L (ON(TV_LIST) | ON(TV_TUPLE) | ON(TV_RANGE))
static const tpl_func methods[] = {
    {"split", m_split, "sep maxsplit", 0, S},
    {"rsplit", m_rsplit, "sep maxsplit", 0, S},
    {"splitlines", m_splitlines, "keepends", 0, S},
    {"partition", m_partition, "sep", 1, S},
    {"rpartition", m_rpartition, "sep", 1, S},
    {"strip", m_strip, "chars", 0, S},
    {"lstrip", m_lstrip, "chars", 0, S},
    {"rstrip", m_rstrip, "chars", 0, S},
    {"replace", m_replace, "old new count", 2, S},
    {"upper", m_upper, "", 0, S},
    {"lower", m_lower, "", 0, S},
    {"casefold", m_lower, "", 0, S},
    {"title", m_title, "", 0, S},
    {"capitalize", m_capitalize, "", 0, S},
    {"swapcase", m_swapcase, "", 0, S},
    {"startswith", m_startswith, "prefix start end", 1, S},
    {"endswith", m_endswith, "suffix start end", 1, S},
    {"find", m_find, "sub start end", 1, S},
    {"rfind", m_rfind, "sub start end", 1, S},
    {"index", m_index, "sub start end", 1, S},
    {"count", m_count, "sub start end", 1, S},
    {"join", m_join, "iterable", 1, S},
    {"format", m_format, "*", 0, S},
    {"removeprefix", m_removeprefix, "prefix", 1, S},
    {"removesuffix", m_removesuffix, "suffix", 1, S},
    {"ljust", m_ljust, "width fillchar", 1, S},
    {"rjust", m_rjust, "width fillchar", 1, S},
    {"center", m_center, "width fillchar", 1, S},
    {"zfill", m_zfill, "width", 1, S},
    {"isalpha", m_isalpha, "", 0, S},
    {"isdecimal", m_isdecimal, "", 0, S},
    {"isdigit", m_isdigit, "", 0, S},
    {"isnumeric", m_isnumeric, "", 0, S},
    {"isalnum", m_isalnum, "", 0, S},
    {"isascii", m_isascii, "", 0, S},
    {"isspace", m_isspace, "", 0, S},
    {"isupper", m_isupper, "", 0, S},
    {"islower", m_islower, "", 0, S},
    {"keys", m_keys, "", 0, D},
    {"values", m_values, "", 0, D},
    {"items", m_items, "", 0, D},
    {"get", m_get, "key default", 1, D},
    {"copy", m_copy, "", 0, D | ON(TV_LIST)},
    {"count", m_list_count, "value", 1, L},
    {"index", m_list_index, "value", 1, L},
};

const tpl_func *tpl_find_method(tpl_val self, const char *name, size_t n)
{
    for (size_t i = 0; i < FT_COUNT_OF(methods); i++) {
        if ((methods[i].types & ON(self.t)) && strlen(methods[i].name) == n &&
            !memcmp(methods[i].name, name, n)) {
            return &methods[i];
        }
    }
    return tpl_find_helper(self, name, n);
}
