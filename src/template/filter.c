/* filter.c – filters and tests, one row each, with the parameters and defaults Jinja gives them.
 *
 * Left out are Jinja's filters for web pages (urlize, xmlattr, striptags …) and those of chance (random): a
 * template that uses one fails with the filter's name when it gets there. */
#include "template_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name) static tpl_val name(tpl_ctx *c, tpl_val v, const tpl_val *b, const tpl_args *a)
#define UNUSED ((void)c, (void)v, (void)b, (void)a)

static bool given(tpl_val v)
{
    return !tpl_absent(v);
}

static bool flag(tpl_val v)
{
    return given(v) && tpl_truth(v);
}

static int64_t number(tpl_ctx *c, tpl_val v, int64_t def)
{
    int64_t i = def;
    if (given(v) && v.t != TV_NONE && !tpl_integer(v, &i)) tpl_fail(c, "an integer is required");
    return i;
}

/* "a.b.0" of an item, by subscripts; an integer or None is taken as it is. */
static tpl_val by_path(tpl_ctx *c, tpl_val item, tpl_val path, tpl_val def)
{
    if (tpl_absent(path) || path.t == TV_NONE) return item;
    if (path.t != TV_STR) return tpl_item(c, item, path);
    for (int64_t i = 0; i <= path.n && c->rc == FT_OK;) {
        int64_t from = i, num = 0;
        bool digits = true;
        for (; i < path.n && path.s[i] != '.'; i++) {
            digits = digits && path.s[i] >= '0' && path.s[i] <= '9' && i - from < 9;
            if (digits) num = num * 10 + path.s[i] - '0';
        }
        tpl_val key = tpl_strn(path.s + from, (size_t)(i - from));
        item = tpl_item(c, item, digits && i > from ? tpl_int(num) : key);
        if (item.t == TV_UNDEF && given(def) && def.t != TV_NONE) item = def;
        i++;
    }
    return item;
}

static tpl_val fold(tpl_ctx *c, tpl_val v, bool case_sensitive)
{
    return v.t == TV_STR && !case_sensitive ? tpl_case(c, v, 'l') : v;
}

static tpl_val iter(tpl_ctx *c)
{
    return tpl_list_new(c, TV_ITER, 0);
}

static tpl_val text(tpl_ctx *c, tpl_val v) /* soft_str */
{
    return tpl_to_str(c, v);
}

/* --- text ---------------------------------------------------------------------------------------------- */
FILTER(f_trim)
{
    UNUSED;
    v = text(c, v);
    return c->rc == FT_OK ? tpl_strip(c, v, b[0], 3) : v;
}

FILTER(f_upper)
{
    UNUSED;
    return tpl_case(c, text(c, v), 'u');
}

FILTER(f_lower)
{
    UNUSED;
    return tpl_case(c, text(c, v), 'l');
}

FILTER(f_title)
{
    UNUSED;
    return tpl_case(c, text(c, v), 't');
}

FILTER(f_capitalize)
{
    UNUSED;
    return tpl_case(c, text(c, v), 'c');
}

FILTER(f_string)
{
    UNUSED;
    return text(c, v);
}

FILTER(f_safe)
{
    UNUSED;
    v = text(c, v);
    v.flag = v.t == TV_STR;
    return v;
}

FILTER(f_escape)
{
    UNUSED;
    tpl_val empty = tpl_strn("", 0);
    empty.flag = 1; /* marked text escapes what is added to it */
    v = text(c, v);
    return v.flag ? v : tpl_arith(c, '+', empty, v);
}

FILTER(f_replace)
{
    UNUSED;
    int64_t count = number(c, b[2], -1);
    v = text(c, v);
    tpl_val from = text(c, b[0]), to = text(c, b[1]);
    v.flag = 0;
    return c->rc == FT_OK ? tpl_replace(c, v, from, to, count) : tpl_undef();
}

FILTER(f_indent)
{
    UNUSED;
    str_buf out = {0};
    int64_t width = 4;
    tpl_val pad = b[0];
    if (v.t != TV_STR) return tpl_fail(c, "indent: a string is required");
    if (tpl_absent(pad)) pad = tpl_int(4);
    if (tpl_integer(pad, &width)) pad = tpl_arith(c, '*', tpl_strn(" ", 1), tpl_int(width));
    tpl_val with_end = tpl_arith(c, '+', v, tpl_strn("\n", 1));
    tpl_list l = tpl_items(c, tpl_splitlines(c, with_end));
    if (c->rc != FT_OK || pad.t != TV_STR) return tpl_fail(c, "indent: bad width");
    if (flag(b[1])) tpl_str(c, &out, pad);
    for (int64_t i = 0; i < l.n; i++) {
        if (i) str_addc(&out, '\n');
        if (i && (l.v[i].n || flag(b[2]))) tpl_str(c, &out, pad);
        tpl_str(c, &out, l.v[i]);
    }
    return tpl_buf(c, &out);
}

FILTER(f_truncate)
{
    UNUSED;
    int64_t length = number(c, b[0], 255), leeway = number(c, b[3], 5);
    tpl_val end = given(b[2]) ? b[2] : tpl_strn("...", 3);
    if (v.t != TV_STR || end.t != TV_STR) return tpl_fail(c, "truncate: a string is required");
    int64_t chars = tpl_length(c, v), keep = length - tpl_length(c, end);
    if (keep < 0 || leeway < 0) return tpl_fail(c, "truncate: length too small");
    if (chars <= length + leeway) return v;
    v = tpl_slice(c, v, tpl_none(), tpl_int(keep), tpl_none());
    if (!flag(b[1])) {
        for (int64_t i = v.n; i > 0; i--) {
            if (v.s[i - 1] != ' ') continue;
            v.n = i - 1;
            break;
        }
    }
    return tpl_arith(c, '+', v, end);
}

FILTER(f_center)
{
    UNUSED;
    v = text(c, v);
    const tpl_func *fn = tpl_find_method(v, "center", 6);
    tpl_val width = given(b[0]) ? b[0] : tpl_int(80);
    return tpl_apply(c, fn, v, &(tpl_args){.v = &width, .n = 1});
}

FILTER(f_format)
{
    UNUSED;
    if (a->n_kw) {
        tpl_val d = tpl_dict_new(c, a->n_kw);
        for (int i = 0; i < a->n_kw && c->rc == FT_OK; i++) {
            tpl_dict_set(c, d.d, tpl_strn(a->kw[i].name, strlen(a->kw[i].name)), a->kw[i].v);
        }
        return tpl_percent(c, text(c, v), d);
    }
    tpl_val t = tpl_list_new(c, TV_TUPLE, a->n);
    for (int i = 0; i < a->n && c->rc == FT_OK; i++) tpl_list_add(c, t.l, a->v[i]);
    return c->rc == FT_OK ? tpl_percent(c, text(c, v), t) : t;
}

FILTER(f_wordcount)
{
    UNUSED;
    int64_t n = 0;
    bool in = false;
    v = text(c, v);
    for (int64_t i = 0; i < v.n; i++) {
        unsigned char ch = (unsigned char)v.s[i];
        bool word = ch >= 0x80 || ch == '_' || (ch >= '0' && ch <= '9') ||
                    ((ch | 32) >= 'a' && (ch | 32) <= 'z');
        n += word && !in;
        in = word;
    }
    return tpl_int(n);
}

FILTER(f_tojson)
{
    UNUSED;
    return tpl_json(c, v, b);
}

FILTER(f_join)
{
    UNUSED;
    str_buf out = {0};
    tpl_list l = tpl_items(c, v);
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        if (i && given(b[0])) tpl_str(c, &out, b[0]);
        tpl_str(c, &out, by_path(c, l.v[i], b[1], tpl_none()));
    }
    return tpl_buf(c, &out);
}

/* --- numbers ---------------------------------------------------------------------------------------------- */
static bool read_number(tpl_val v, int base, bool *whole, int64_t *i, double *f)
{
    char t[128], *end;
    size_t n = 0;
    for (int64_t k = 0; k < v.n && n + 1 < sizeof t; k++) {
        if (v.s[k] == '_' && k && k + 1 < v.n) continue;
        if (v.s[k] == '\0' || ((v.s[k] | 32) == 'p' && base <= 16)) return false;
        t[n++] = v.s[k];
    }
    while (n && strchr(" \t\n\r\f\v", t[n - 1])) n--;
    t[n] = 0;
    if (!n || v.n + 1 >= (int64_t)sizeof t) return false;
    *i = strtoll(t, &end, base);
    *whole = !*end;
    if (*whole) return true;
    if (strpbrk(t, "xX")) return false;
    *f = strtod(t, &end);
    return !*end;
}

FILTER(f_int)
{
    UNUSED;
    int64_t i = 0, base = number(c, b[1], 10);
    double f = 0;
    bool whole = false;
    tpl_val def = given(b[0]) ? b[0] : tpl_int(0);
    if (v.t == TV_STR && base != 10 && v.n > 2 && v.s[0] == '0' && strchr("xXoObB", v.s[1])) {
        v = tpl_strn(v.s + 2, (size_t)v.n - 2);
    }
    if (v.t == TV_UNDEF) return tpl_arith(c, '+', v, tpl_int(0)); /* the error of undefined */
    if (tpl_integer(v, &i)) return tpl_int(i);
    if (v.t == TV_BIG) return v;
    if (v.t == TV_STR) {
        if (base < 2 || base > 36 || !read_number(v, (int)base, &whole, &i, &f)) return def;
        if (whole) return tpl_int(i);
    } else if (!tpl_number(v, &f)) {
        return def;
    }
    return isfinite(f) && fabs(f) < 9.2e18 ? tpl_int((int64_t)f) : def;
}

FILTER(f_float)
{
    UNUSED;
    int64_t i = 0;
    double f = 0;
    bool whole = false;
    if (v.t == TV_UNDEF) return tpl_arith(c, '+', v, tpl_int(0));
    if (tpl_number(v, &f)) return tpl_float(f);
    if (v.t == TV_BIG) return tpl_float(tpl_big(v));
    if (v.t == TV_STR && read_number(v, 10, &whole, &i, &f))
        return tpl_float(whole ? (double)i : f);
    return given(b[0]) ? b[0] : tpl_float(0);
}

static tpl_val big_abs(tpl_val v)
{
    v.s++;
    v.n--;
    return v;
}

FILTER(f_abs)
{
    UNUSED;
    double f;
    if (v.t == TV_FLOAT) return tpl_float(fabs(v.f));
    if (v.t == TV_BIG) return v.s[0] == '-' ? big_abs(v) : v;
    if (!tpl_number(v, &f))
        return tpl_fail(c, "bad operand type for abs(): '%s'", tpl_type_name(v));
    return f < 0 ? tpl_arith(c, '-', tpl_int(0), v) : tpl_arith(c, '+', tpl_int(0), v);
}

FILTER(f_round)
{
    UNUSED;
    double f, scale;
    int64_t digits = number(c, b[0], 0);
    tpl_val how = given(b[1]) ? b[1] : tpl_strn("common", 6);
    if (v.t == TV_BIG && digits >= 0) return v;
    if (!tpl_number(v, &f)) return tpl_fail(c, "round: a number is required");
    if (digits < -300 || digits > 300) return tpl_fail(c, "round: precision out of range");
    scale = pow(10, (double)digits);
    if (tpl_is_str(how, "ceil")) return tpl_float(ceil(f * scale) / scale);
    if (tpl_is_str(how, "floor")) return tpl_float(floor(f * scale) / scale);
    if (!tpl_is_str(how, "common")) return tpl_fail(c, "method must be common, ceil or floor");
    if (v.t != TV_FLOAT)
        return digits >= 0 ? tpl_arith(c, '+', tpl_int(0), v)
                           : tpl_int((int64_t)(nearbyint(f * scale) / scale));
    if (digits < 0) return tpl_float(nearbyint(f * scale) / scale);
    str_buf s = {0};
    str_printf(&s, "%.*f", (int)digits, f); /* rounds the exact binary value, ties to even */
    if (str_ok(&s) != FT_OK)
        c->rc = FT_EMEM;
    else
        f = strtod(s.data, NULL);
    str_free(&s);
    return tpl_float(f);
}

FILTER(f_sum)
{
    UNUSED;
    tpl_list l = tpl_items(c, v);
    tpl_val sum = given(b[1]) ? b[1] : tpl_int(0);
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        sum = tpl_arith(c, '+', sum, by_path(c, l.v[i], b[0], tpl_none()));
    }
    return sum;
}

/* --- choosing --------------------------------------------------------------------------------------------- */
FILTER(f_default)
{
    UNUSED;
    bool none = v.t == TV_UNDEF || (flag(b[1]) && !tpl_truth(v));
    return !none ? v : given(b[0]) ? b[0] : tpl_strn("", 0);
}

FILTER(f_length)
{
    UNUSED;
    return tpl_int(tpl_length(c, v));
}

FILTER(f_first)
{
    UNUSED;
    if (v.t == TV_ITER) return v.l->pos < v.l->n ? v.l->v[v.l->pos++] : tpl_undef();
    tpl_list l = tpl_items(c, v);
    return l.n ? l.v[0] : tpl_undef();
}

FILTER(f_last)
{
    UNUSED;
    if (v.t == TV_ITER) return tpl_fail(c, "'generator' object is not reversible");
    tpl_list l = tpl_items(c, v);
    return l.n ? l.v[l.n - 1] : tpl_undef();
}

FILTER(f_list)
{
    UNUSED;
    tpl_list l = tpl_items(c, v);
    tpl_val out = tpl_list_new(c, TV_LIST, l.n);
    for (int64_t i = 0; i < l.n; i++) tpl_list_add(c, out.l, l.v[i]);
    return out;
}

FILTER(f_items)
{
    UNUSED;
    tpl_val out = iter(c);
    if (v.t == TV_UNDEF || c->rc != FT_OK) return out;
    if (v.t != TV_DICT) return tpl_fail(c, "Can only get item pairs from a mapping.");
    tpl_list l = tpl_items(c, tpl_apply(c, tpl_find_method(v, "items", 5), v, &(tpl_args){0}));
    for (int64_t i = 0; i < l.n; i++) tpl_list_add(c, out.l, l.v[i]);
    return out;
}

FILTER(f_reverse)
{
    UNUSED;
    if (v.t == TV_STR) return tpl_slice(c, v, tpl_none(), tpl_none(), tpl_int(-1));
    tpl_list l = tpl_items(c, v);
    tpl_val out = v.t == TV_ITER ? tpl_list_new(c, TV_LIST, l.n) : iter(c);
    for (int64_t i = l.n; i-- > 0;) tpl_list_add(c, out.l, l.v[i]);
    return out;
}

FILTER(f_attr)
{
    UNUSED;
    if (b[0].t != TV_STR) return tpl_undef();
    return v.t == TV_DICT ? tpl_undef() : tpl_attr(c, v, b[0].s, (size_t)b[0].n);
}

FILTER(f_map)
{
    UNUSED;
    tpl_val out = iter(c), attribute = tpl_none(), def = tpl_none();
    bool by_attr = false;
    tpl_args rest = *a;
    const tpl_func *fn = NULL;
    if (v.t != TV_ITER && !tpl_truth(v)) return out;
    for (int i = 0; i < a->n_kw && !a->n; i++) {
        if (!strcmp(a->kw[i].name, "attribute")) attribute = a->kw[i].v, by_attr = true;
        if (!strcmp(a->kw[i].name, "default")) def = a->kw[i].v;
    }
    if (!by_attr) {
        if (!a->n || a->v[0].t != TV_STR) return tpl_fail(c, "map requires a filter argument");
        fn = tpl_find_filter(a->v[0].s, (size_t)a->v[0].n);
        if (!fn) return tpl_fail(c, "no filter named %s", ft_show(a->v[0].s, (size_t)a->v[0].n));
        rest.v++;
        rest.n--;
    }
    tpl_list l = tpl_items(c, v);
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        tpl_list_add(c, out.l,
                     fn ? tpl_apply(c, fn, l.v[i], &rest) : by_path(c, l.v[i], attribute, def));
    }
    return out;
}

static tpl_val select_items(tpl_ctx *c, tpl_val v, const tpl_args *a, bool by_attr, bool want)
{
    tpl_val out = iter(c), path = tpl_none();
    tpl_args rest = *a;
    const tpl_func *fn = NULL;
    if (v.t != TV_ITER && !tpl_truth(v)) return out;
    if (by_attr) {
        if (!rest.n) return tpl_fail(c, "Missing parameter for attribute name");
        path = rest.v[0];
        rest.v++;
        rest.n--;
    }
    if (rest.n) {
        if (rest.v[0].t == TV_STR) fn = tpl_find_test(rest.v[0].s, (size_t)rest.v[0].n);
        if (!fn) return tpl_fail(c, "no such test for select or reject");
        rest.v++;
        rest.n--;
    }
    tpl_list l = tpl_items(c, v);
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        tpl_val item = by_path(c, l.v[i], path, tpl_none());
        if (fn) item = tpl_apply(c, fn, item, &rest);
        if (tpl_truth(item) == want) tpl_list_add(c, out.l, l.v[i]);
    }
    return out;
}

FILTER(f_select)
{
    UNUSED;
    return select_items(c, v, a, false, true);
}

FILTER(f_reject)
{
    UNUSED;
    return select_items(c, v, a, false, false);
}

FILTER(f_selectattr)
{
    UNUSED;
    return select_items(c, v, a, true, true);
}

FILTER(f_rejectattr)
{
    UNUSED;
    return select_items(c, v, a, true, false);
}

/* --- sorting and grouping ----------------------------------------------------------------------------------- */
typedef struct keyed {
    tpl_val key, item;
} keyed;

/* Stable merge sort; reversed order keeps equal items in place too, as Python's sorted. */
static void merge_sort(tpl_ctx *c, keyed *v, keyed *tmp, int64_t n, bool reversed)
{
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t lo = 0; lo < n && c->rc == FT_OK; lo += 2 * width) {
            int64_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
            int64_t i = lo, j = mid, k = lo;
            while (i < mid && j < hi) {
                int d = tpl_order(c, v[j].key, v[i].key);
                tmp[k++] = (reversed ? d == 1 : d == -1) ? v[j++] : v[i++];
            }
            while (i < mid) tmp[k++] = v[i++];
            while (j < hi) tmp[k++] = v[j++];
        }
        memcpy(v, tmp, (size_t)n * sizeof *v);
    }
}

static tpl_val sorted(tpl_ctx *c, tpl_list l, tpl_val *keys, bool reversed)
{
    tpl_val out = tpl_list_new(c, TV_LIST, l.n);
    keyed *k = tpl_get(c, (size_t)(2 * l.n + 1) * sizeof *k);
    if (!k) return tpl_undef();
    for (int64_t i = 0; i < l.n; i++) k[i] = (keyed){keys[i], l.v[i]};
    merge_sort(c, k, k + l.n, l.n, reversed);
    for (int64_t i = 0; i < l.n; i++) tpl_list_add(c, out.l, k[i].item);
    return out;
}

/* Keys by "a,b.c": a list of the parts, as Jinja compares them. */
static tpl_val *sort_keys(tpl_ctx *c, tpl_list l, tpl_val path, bool case_sensitive)
{
    tpl_val *keys = tpl_get(c, (size_t)(l.n + 1) * sizeof *keys);
    for (int64_t i = 0; keys && i < l.n && c->rc == FT_OK; i++) {
        int64_t from = 0;
        keys[i] = tpl_list_new(c, TV_LIST, 1);
        do {
            tpl_val p = path;
            if (path.t == TV_STR) {
                const char *comma = memchr(path.s + from, ',', (size_t)(path.n - from));
                int64_t to = comma ? comma - path.s : path.n;
                p = tpl_strn(path.s + from, (size_t)(to - from));
                from = to + 1;
            }
            tpl_val v = by_path(c, l.v[i], p, tpl_none());
            tpl_list_add(c, keys[i].l, fold(c, v, case_sensitive));
        } while (path.t == TV_STR && from <= path.n && c->rc == FT_OK);
    }
    return keys;
}

FILTER(f_sort)
{
    UNUSED;
    tpl_list l = tpl_items(c, v);
    tpl_val *keys = sort_keys(c, l, b[2], flag(b[1]));
    return c->rc == FT_OK ? sorted(c, l, keys, flag(b[0])) : tpl_undef();
}

FILTER(f_dictsort)
{
    UNUSED;
    if (v.t != TV_DICT) return tpl_attr(c, v.t == TV_UNDEF ? v : tpl_undef(), "items", 5);
    tpl_list l = tpl_items(c, tpl_apply(c, tpl_find_method(v, "items", 5), v, &(tpl_args){0}));
    int at = given(b[1]) && tpl_is_str(b[1], "value");
    if (given(b[1]) && !at && !tpl_is_str(b[1], "key")) {
        return tpl_fail(c, "You can only sort by either \"key\" or \"value\"");
    }
    tpl_val *keys = tpl_get(c, (size_t)(l.n + 1) * sizeof *keys);
    for (int64_t i = 0; keys && i < l.n; i++) keys[i] = fold(c, l.v[i].l->v[at], flag(b[0]));
    return keys ? sorted(c, l, keys, flag(b[2])) : tpl_undef();
}

FILTER(f_unique)
{
    UNUSED;
    tpl_list l = tpl_items(c, v), seen = {0};
    tpl_val out = iter(c);
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        tpl_val key = fold(c, by_path(c, l.v[i], b[1], tpl_none()), flag(b[0]));
        int64_t k = 0;
        while (k < seen.n && !tpl_equal(c, seen.v[k], key)) k++;
        if (k < seen.n) continue;
        tpl_list_add(c, &seen, key);
        tpl_list_add(c, out.l, l.v[i]);
    }
    return out;
}

static tpl_val extreme(tpl_ctx *c, tpl_val v, const tpl_val *b, int sign)
{
    tpl_list l = tpl_items(c, v);
    tpl_val best = tpl_undef(), best_key = tpl_undef();
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        tpl_val key = fold(c, by_path(c, l.v[i], b[1], tpl_none()), flag(b[0]));
        if (i && tpl_order(c, key, best_key) != sign) continue;
        best = l.v[i];
        best_key = key;
    }
    return best;
}

FILTER(f_min)
{
    UNUSED;
    return extreme(c, v, b, -1);
}

FILTER(f_max)
{
    UNUSED;
    return extreme(c, v, b, 1);
}

FILTER(f_groupby)
{
    UNUSED;
    tpl_list l = tpl_items(c, v);
    bool exact = flag(b[2]);
    tpl_val *keys = tpl_get(c, (size_t)(l.n + 1) * sizeof *keys), out = tpl_list_new(c, TV_LIST, 0);
    for (int64_t i = 0; keys && i < l.n && c->rc == FT_OK; i++) {
        keys[i] = fold(c, by_path(c, l.v[i], b[0], b[1]), exact);
    }
    if (c->rc != FT_OK) return out;
    tpl_list s = tpl_items(c, sorted(c, l, keys, false));
    tpl_val last = tpl_undef(), group = tpl_undef();
    for (int64_t i = 0; i < s.n && c->rc == FT_OK; i++) {
        tpl_val real = by_path(c, s.v[i], b[0], b[1]), key = fold(c, real, exact);
        if (!i || !tpl_equal(c, key, last)) {
            tpl_val pair = tpl_list_new(c, TV_TUPLE, 2);
            group = tpl_list_new(c, TV_LIST, 0);
            if (c->rc != FT_OK) break;
            pair.l->kind = "group";
            tpl_list_add(c, pair.l, real);
            tpl_list_add(c, pair.l, group);
            tpl_list_add(c, out.l, pair);
            last = key;
        }
        tpl_list_add(c, group.l, s.v[i]);
    }
    return out;
}

FILTER(f_batch)
{
    UNUSED;
    tpl_list l = tpl_items(c, v);
    int64_t n = number(c, b[0], 1);
    tpl_val out = iter(c), row = tpl_undef();
    for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
        if (row.t == TV_UNDEF || row.l->n == n) {
            row = tpl_list_new(c, TV_LIST, 0);
            tpl_list_add(c, out.l, row);
        }
        tpl_list_add(c, row.l, l.v[i]);
    }
    while (row.t == TV_LIST && given(b[1]) && b[1].t != TV_NONE && row.l->n < n && c->rc == FT_OK) {
        tpl_list_add(c, row.l, b[1]);
    }
    return out;
}

FILTER(f_slice)
{
    UNUSED;
    tpl_list l = tpl_items(c, v);
    int64_t n = number(c, b[0], 1), at = 0;
    tpl_val out = iter(c);
    if (n < 1 || n > TPL_MAX_RANGE) return tpl_fail(c, "slice: bad number of slices");
    for (int64_t i = 0; i < n && c->rc == FT_OK; i++) {
        tpl_val row = tpl_list_new(c, TV_LIST, 0);
        int64_t count = l.n / n + (i < l.n % n);
        for (int64_t j = 0; j < count && c->rc == FT_OK; j++) tpl_list_add(c, row.l, l.v[at++]);
        if (given(b[1]) && b[1].t != TV_NONE && i >= l.n % n) tpl_list_add(c, row.l, b[1]);
        tpl_list_add(c, out.l, row);
    }
    return out;
}

static const tpl_func filters[] = {
    {"abs", f_abs, "", 0, 0},
    {"attr", f_attr, "name", 1, 0},
    {"batch", f_batch, "linecount fill_with", 1, 0},
    {"capitalize", f_capitalize, "", 0, 0},
    {"center", f_center, "width", 0, 0},
    {"count", f_length, "", 0, 0},
    {"d", f_default, "default_value boolean", 0, 0},
    {"default", f_default, "default_value boolean", 0, 0},
    {"dictsort", f_dictsort, "case_sensitive by reverse", 0, 0},
    {"e", f_escape, "", 0, 0},
    {"escape", f_escape, "", 0, 0},
    {"first", f_first, "", 0, 0},
    {"float", f_float, "default", 0, 0},
    {"format", f_format, "*", 0, 0},
    {"groupby", f_groupby, "attribute default case_sensitive", 1, 0},
    {"indent", f_indent, "width first blank", 0, 0},
    {"int", f_int, "default base", 0, 0},
    {"items", f_items, "", 0, 0},
    {"join", f_join, "d attribute", 0, 0},
    {"last", f_last, "", 0, 0},
    {"length", f_length, "", 0, 0},
    {"list", f_list, "", 0, 0},
    {"lower", f_lower, "", 0, 0},
    {"map", f_map, "*", 0, 0},
    {"max", f_max, "case_sensitive attribute", 0, 0},
    {"min", f_min, "case_sensitive attribute", 0, 0},
    {"reject", f_reject, "*", 0, 0},
    {"rejectattr", f_rejectattr, "*", 0, 0},
    {"replace", f_replace, "old new count", 2, 0},
    {"reverse", f_reverse, "", 0, 0},
    {"round", f_round, "precision method", 0, 0},
    {"safe", f_safe, "", 0, 0},
    {"select", f_select, "*", 0, 0},
    {"selectattr", f_selectattr, "*", 0, 0},
    {"slice", f_slice, "slices fill_with", 1, 0},
    {"sort", f_sort, "reverse case_sensitive attribute", 0, 0},
    {"string", f_string, "", 0, 0},
    {"sum", f_sum, "attribute start", 0, 0},
    {"title", f_title, "", 0, 0},
    {"tojson", f_tojson, "ensure_ascii indent separators sort_keys", 0, 0},
    {"trim", f_trim, "chars", 0, 0},
    {"truncate", f_truncate, "length killwords end leeway", 0, 0},
    {"unique", f_unique, "case_sensitive attribute", 0, 0},
    {"upper", f_upper, "", 0, 0},
    {"wordcount", f_wordcount, "", 0, 0},
};

const tpl_func *tpl_find_filter(const char *name, size_t n)
{
    return tpl_row(filters, FT_COUNT_OF(filters), name, n);
}
