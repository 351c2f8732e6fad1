/* print.c – text of values: Python's str and repr, json.dumps with the options of transformers'
 * tojson, the % operator and str.format.
 *
 * Numbers in these places reach the model as text, so the digits must be Python's: floats by the shortest
 * decimal that reads back, with the exponent from 1e16 and below 1e-4. */
#include "template_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void tpl_repr_float(str_buf *out, double f)
{
    str_buf e = {0};
    int digits = 1;
    if (isnan(f) || isinf(f)) {
        str_adds(out, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    do {
        str_clear(&e);
        str_printf(&e, "%.*e", digits - 1, f);
    } while (e.data && strtod(e.data, NULL) != f && digits++ < 17);
    if (!e.data) {
        out->failed = true;
        return;
    }
    int exp = atoi(strchr(e.data, 'e') + 1);
    if (exp < -4 || exp >= 16) {
        size_t mantissa = (size_t)(strchr(e.data, 'e') - e.data);
        str_add(out, e.data, mantissa);
        str_printf(out, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
    } else {
        int decimals = digits - 1 - exp;
        str_printf(out, "%.*f", decimals > 1 ? decimals : 1, f);
    }
    str_free(&e);
}

/* --- str and repr -------------------------------------------------------------------------------------- */
static bool printable(int32_t cp)
{
    if (cp < 0x7F) return cp >= 0x20;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static void repr_str(str_buf *out, const char *s, int64_t n)
{
    char quote = memchr(s, '\'', (size_t)n) && !memchr(s, '"', (size_t)n) ? '"' : '\'';
    int32_t cp;
    int k;
    str_addc(out, quote);
    for (int64_t i = 0; i < n; i += k) {
        k = utf8_next(s + i, (size_t)(n - i), &cp);
        const char *short_form = cp == '\n'   ? "\\n"
                                 : cp == '\r' ? "\\r"
                                 : cp == '\t' ? "\\t"
                                              : NULL;
        if (cp == quote || cp == '\\') str_addc(out, '\\');
        if (short_form)
            str_adds(out, short_form);
        else if (cp >= 0 && printable(cp))
            str_add(out, s + i, (size_t)k);
        else if (cp < 0x100)
            str_printf(out, "\\x%02x", cp < 0 ? (unsigned char)s[i] : (unsigned)cp);
        else if (cp < 0x10000)
            str_printf(out, "\\u%04x", (unsigned)cp);
        else
            str_printf(out, "\\U%08x", (unsigned)cp);
    }
    str_addc(out, quote);
}

static void repr_list(tpl_ctx *c, str_buf *out, const tpl_list *l, const char *open,
                      const char *close)
{
    str_adds(out, open);
    for (int64_t i = 0; i < l->n && c->rc == FT_OK; i++) {
        if (i) str_adds(out, ", ");
        tpl_repr(c, out, l->v[i]);
    }
    if (l->n == 1 && close[0] == ')' && !close[1]) str_addc(out, ',');
    str_adds(out, close);
}

static void repr_dict(tpl_ctx *c, str_buf *out, const tpl_dict *d)
{
    str_addc(out, '{');
    for (int64_t i = 0; i < d->n && c->rc == FT_OK; i++) {
        if (i) str_adds(out, ", ");
        tpl_repr(c, out, d->k[i]);
        str_adds(out, ": ");
        tpl_repr(c, out, d->v[i]);
    }
    str_addc(out, '}');
}

static void repr_range(str_buf *out, const tpl_list *l)
{
    /* start, stop and step as given are kept in start, pos, step */
    str_printf(out, "range(%lld, %lld", (long long)l->start, (long long)l->pos);
    if (l->step != 1) str_printf(out, ", %lld", (long long)l->step);
    str_addc(out, ')');
}

void tpl_repr(tpl_ctx *c, str_buf *out, tpl_val v)
{
    if (!tpl_work(c, 1)) return;
    if (out->len > TPL_MAX_OUTPUT || c->depth >= TPL_MAX_DEPTH) {
        tpl_fail(c, "text too long or nested too deeply");
        return;
    }
    c->depth++;
    switch (v.t) {
    case TV_UNDEF:
        str_adds(out, "Undefined");
        break;
    case TV_NONE:
        str_adds(out, "None");
        break;
    case TV_BOOL:
        str_adds(out, v.b ? "True" : "False");
        break;
    case TV_INT:
        str_printf(out, "%lld", (long long)v.i);
        break;
    case TV_BIG:
        str_add(out, v.s, (size_t)v.n);
        break;
    case TV_FLOAT:
        tpl_repr_float(out, v.f);
        break;
    case TV_STR:
        if (v.flag) str_adds(out, "Markup(");
        repr_str(out, v.s, v.n);
        if (v.flag) str_addc(out, ')');
        break;
    case TV_LIST:
        repr_list(c, out, v.l, "[", "]");
        break;
    case TV_TUPLE:
        repr_list(c, out, v.l, "(", ")");
        break;
    case TV_RANGE:
        repr_range(out, v.l);
        break;
    case TV_VIEW:
        str_printf(out, "%s(", v.l->kind);
        repr_list(c, out, v.l, "[", "])");
        break;
    case TV_DICT:
        repr_dict(c, out, v.d);
        break;
    case TV_NS:
        str_adds(out, "<Namespace ");
        repr_dict(c, out, v.d);
        str_addc(out, '>');
        break;
    case TV_MACRO:
        str_printf(out, "<Macro '%s'>", v.m->name);
        break;
    case TV_LOOP:
        str_printf(out, "<LoopContext %lld/%lld>", (long long)v.loop->index + 1,
                   (long long)v.loop->items.n);
        break;
    default:
        tpl_fail(c, "a %s has no text of its own", tpl_type_name(v));
    }
    c->depth--;
}

void tpl_str(tpl_ctx *c, str_buf *out, tpl_val v)
{
    if (v.t == TV_STR) {
        if (out->len + (size_t)v.n > TPL_MAX_OUTPUT) {
            tpl_fail(c, "more than %u MiB of text", TPL_MAX_OUTPUT >> 20);
        } else if (tpl_work(c, v.n / 16 + 1)) {
            str_add(out, v.s, (size_t)v.n);
        }
    } else if (v.t != TV_UNDEF) {
        tpl_repr(c, out, v);
    }
}

tpl_val tpl_to_str(tpl_ctx *c, tpl_val v)
{
    str_buf b = {0};
    if (v.t == TV_STR) return v;
    tpl_str(c, &b, v);
    return tpl_buf(c, &b);
}

/* --- json.dumps ------------------------------------------------------------------------------------------ */
typedef struct json_style {
    bool ascii, sort, indented;
    const char *indent; /* one level */
    int64_t indent_n;
    tpl_val item, key; /* separators */
} json_style;

static void json_string(str_buf *out, tpl_val s, bool ascii)
{
    int32_t cp;
    int k;
    str_addc(out, '"');
    for (int64_t i = 0; i < s.n; i += k) {
        static const char plain[] = "\"\"\\\\\nn\rr\tt\ff\bb";
        const char *e = NULL;
        k = utf8_next(s.s + i, (size_t)(s.n - i), &cp);
        for (size_t j = 0; j + 1 < sizeof plain && !e; j += 2) {
            if (cp == plain[j]) e = plain + j + 1;
        }
        if (e) {
            str_addc(out, '\\');
            str_addc(out, *e);
        } else if (cp >= 0x10000 && ascii) {
            str_printf(out, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((cp - 0x10000) >> 10)),
                       (unsigned)(0xDC00 + ((cp - 0x10000) & 0x3FF)));
        } else if (cp >= 0 && (cp < 0x20 || (ascii && cp >= 0x7F))) {
            str_printf(out, "\\u%04x", (unsigned)cp);
        } else {
            str_add(out, s.s + i, (size_t)k);
        }
    }
    str_addc(out, '"');
}

static bool json_scalar(str_buf *out, tpl_val v)
{
    switch (v.t) {
    case TV_NONE:
        str_adds(out, "null");
        return true;
    case TV_BOOL:
        str_adds(out, v.b ? "true" : "false");
        return true;
    case TV_INT:
        str_printf(out, "%lld", (long long)v.i);
        return true;
    case TV_BIG:
        str_add(out, v.s, (size_t)v.n);
        return true;
    case TV_FLOAT:
        if (isnan(v.f) || isinf(v.f)) {
            str_adds(out, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
        } else {
            tpl_repr_float(out, v.f);
        }
        return true;
    default:
        return false;
    }
}

static void json_line(str_buf *out, const json_style *st, int level)
{
    if (!st->indented) return;
    str_addc(out, '\n');
    for (int i = 0; i < level; i++) str_add(out, st->indent, (size_t)st->indent_n);
}

static void json_value(tpl_ctx *c, str_buf *out, tpl_val v, const json_style *st, int level);

static void json_list(tpl_ctx *c, str_buf *out, const tpl_list *l, const json_style *st, int level)
{
    str_addc(out, '[');
    for (int64_t i = 0; i < l->n && c->rc == FT_OK; i++) {
        if (i) str_add(out, st->item.s, (size_t)st->item.n);
        json_line(out, st, level + 1);
        json_value(c, out, l->v[i], st, level + 1);
    }
    if (l->n) json_line(out, st, level);
    str_addc(out, ']');
}

static void json_dict(tpl_ctx *c, str_buf *out, const tpl_dict *d, const json_style *st, int level)
{
    int64_t *order = d->n ? tpl_get(c, (size_t)d->n * sizeof *order) : NULL;
    if (d->n && !order) return;
    for (int64_t i = 0; i < d->n; i++) { /* insertion sort: keys of one object */
        int64_t j = i;
        while (st->sort && j > 0 && c->rc == FT_OK &&
               tpl_order(c, d->k[order[j - 1]], d->k[i]) > 0) {
            order[j] = order[j - 1];
            j--;
        }
        order[j] = i;
    }
    str_addc(out, '{');
    for (int64_t i = 0; i < d->n && c->rc == FT_OK; i++) {
        tpl_val k = d->k[order[i]];
        if (i) str_add(out, st->item.s, (size_t)st->item.n);
        json_line(out, st, level + 1);
        if (k.t == TV_STR) {
            json_string(out, k, st->ascii);
        } else {
            str_addc(out, '"');
            if (!json_scalar(out, k)) tpl_fail(c, "a key of type %s has no JSON", tpl_type_name(k));
            str_addc(out, '"');
        }
        str_add(out, st->key.s, (size_t)st->key.n);
        json_value(c, out, d->v[order[i]], st, level + 1);
    }
    if (d->n) json_line(out, st, level);
    str_addc(out, '}');
}

static void json_value(tpl_ctx *c, str_buf *out, tpl_val v, const json_style *st, int level)
{
    if (!tpl_work(c, v.t == TV_STR ? 1 + v.n / 16 : 1)) return;
    if (out->len > TPL_MAX_OUTPUT || level > TPL_MAX_DEPTH) {
        tpl_fail(c, "JSON too long or nested too deeply");
    } else if (v.t == TV_STR) {
        json_string(out, v, st->ascii);
    } else if (v.t == TV_LIST || v.t == TV_TUPLE) {
        json_list(c, out, v.l, st, level);
    } else if (v.t == TV_DICT) {
        json_dict(c, out, v.d, st, level);
    } else if (!json_scalar(out, v)) {
        tpl_fail(c, "Object of type %s is not JSON serializable", tpl_type_name(v));
    }
}

tpl_val tpl_json(tpl_ctx *c, tpl_val v, const tpl_val arg[4])
{
    json_style st = {.item = tpl_strn(", ", 2), .key = tpl_strn(": ", 2)};
    str_buf out = {0};
    int64_t n = 0;
    st.ascii = !tpl_absent(arg[0]) && tpl_truth(arg[0]);
    st.sort = !tpl_absent(arg[3]) && tpl_truth(arg[3]);
    if (!tpl_absent(arg[1]) && arg[1].t != TV_NONE) {
        st.indented = true;
        st.item = tpl_strn(",", 1);
        if (arg[1].t == TV_STR) {
            st.indent = arg[1].s;
            st.indent_n = arg[1].n;
        } else if (tpl_integer(arg[1], &n)) {
            tpl_val spaces = tpl_arith(c, '*', tpl_strn(" ", 1), tpl_int(n < 1000 ? n : 1000));
            if (c->rc != FT_OK) return spaces;
            st.indent = spaces.s;
            st.indent_n = spaces.n;
        } else {
            return tpl_fail(c, "tojson: indent must be a number or a string");
        }
    }
    if (!tpl_absent(arg[2]) && arg[2].t != TV_NONE) {
        tpl_list l = tpl_items(c, arg[2]);
        if (c->rc != FT_OK || l.n != 2 || l.v[0].t != TV_STR || l.v[1].t != TV_STR) {
            return tpl_fail(c, "tojson: separators must be two strings");
        }
        st.item = l.v[0];
        st.key = l.v[1];
    }
    json_value(c, &out, v, &st, 0);
    return tpl_buf(c, &out);
}

/* --- % and format ---------------------------------------------------------------------------------------- */
typedef struct spec { /* one conversion, of either kind */
    char align, sign, type;
    char fill[4];
    int fill_n;
    bool alt, zero, comma;
    int64_t width, prec; /* −1: none */
} spec;

static void group_digits(str_buf *b, char with) /* 1234567.8 → 1,234,567.8 */
{
    str_buf r = {0};
    size_t start = b->len && (b->data[0] == '-' || b->data[0] == '+') ? 1 : 0, end = start;
    while (end < b->len && b->data[end] >= '0' && b->data[end] <= '9') end++;
    for (size_t i = 0; i < b->len; i++) {
        if (i > start && i < end && (end - i) % 3 == 0) str_addc(&r, with);
        str_addc(&r, b->data[i]);
    }
    r.failed = r.failed || b->failed;
    str_free(b);
    *b = r;
}

static bool spec_number(tpl_ctx *c, str_buf *b, tpl_val v, const spec *s)
{
    double f = 0;
    int64_t i = 0;
    bool whole = tpl_integer(v, &i);
    char type = s->type == 'i' || s->type == 'u' ? 'd' : s->type;
    if (v.t == TV_BIG && strchr("xXoc", type) && type) {
        tpl_fail(c, "%%%c format: a whole number beyond 64 bits", type);
        return false;
    }
    if (v.t == TV_BIG) {
        f = tpl_big(v);
    } else if (!tpl_number(v, &f)) {
        tpl_fail(c, "%%%c format: a number is required, not %s", s->type ? s->type : '?',
                 tpl_type_name(v));
        return false;
    }
    if (s->sign && !signbit(f)) str_addc(b, s->sign);
    if (strchr("dxXoc", type) && type) {
        if (!whole) i = (int64_t)f;
        if (v.t == TV_BIG) {
            str_add(b, v.s, (size_t)v.n);
        } else if (type == 'd') {
            str_printf(b, "%lld", (long long)i);
        } else {
            unsigned long long u = i < 0 ? 0ull - (unsigned long long)i : (unsigned long long)i;
            if (i < 0) str_addc(b, '-');
            if (s->alt) str_printf(b, "0%c", type);
            if (type == 'o')
                str_printf(b, "%llo", u);
            else
                str_printf(b, type == 'X' ? "%llX" : "%llx", u);
        }
        return true;
    }
    int prec = s->prec < 0 ? 6 : s->prec > 100 ? 100 : (int)s->prec;
    if (type == '%')
        str_printf(b, "%.*f%%", prec, f * 100);
    else if (type == 'e' || type == 'E')
        str_printf(b, type == 'e' ? "%.*e" : "%.*E", prec, f);
    else if (type == 'g' || type == 'G')
        str_printf(b, type == 'g' ? "%.*g" : "%.*G", prec, f);
    else
        str_printf(b, "%.*f", prec, f);
    return true;
}

static void pad(tpl_ctx *c, str_buf *out, const str_buf *b, const spec *s, bool number)
{
    int64_t have = tpl_chars(b->data ? b->data : "", (int64_t)b->len), left = 0, right = 0;
    char align = s->align ? s->align : number ? '>' : '<';
    out->failed = out->failed || b->failed;
    if (s->width > TPL_MAX_RANGE) {
        tpl_fail(c, "format width too large");
        return;
    }
    int64_t space = s->width > have ? s->width - have : 0;
    if (align == '<')
        right = space;
    else if (align == '^')
        left = space / 2, right = space - left;
    else
        left = space;
    bool zeros = align == '=' || (s->zero && !s->align && number);
    const char *fill = zeros && !s->fill_n ? "0" : s->fill_n ? s->fill : " ";
    size_t fill_n = s->fill_n ? (size_t)s->fill_n : 1;
    size_t sign = zeros && b->len && strchr("+- ", b->data[0]) ? 1 : 0;
    str_add(out, b->data, sign);
    for (int64_t i = 0; i < left; i++) str_add(out, fill, fill_n);
    if (b->len > sign) str_add(out, b->data + sign, b->len - sign);
    for (int64_t i = 0; i < right; i++) str_add(out, fill, fill_n);
}

static void text_spec(tpl_ctx *c, str_buf *b, tpl_val v, int64_t prec)
{
    tpl_val t = tpl_to_str(c, v);
    if (c->rc != FT_OK) return;
    str_add(b, t.s, (size_t)(prec < 0 ? t.n : tpl_offset(t.s, t.n, prec)));
}

static int64_t read_int(const char *s, int64_t n, int64_t *i)
{
    int64_t v = 0;
    while (*i < n && s[*i] >= '0' && s[*i] <= '9') {
        if (v < 1000000) v = v * 10 + s[*i] - '0';
        (*i)++;
    }
    return v;
}

/* Values of "%": a tuple gives them one by one, anything else is the only one. */
typedef struct percent_args {
    tpl_val args;
    int64_t used;
} percent_args;

static tpl_val percent_next(tpl_ctx *c, percent_args *a)
{
    if (a->args.t == TV_TUPLE) {
        if (a->used < a->args.l->n) return a->args.l->v[a->used++];
    } else if (!a->used++) {
        return a->args;
    }
    return tpl_fail(c, "not enough arguments for format string");
}

static int64_t percent_one(tpl_ctx *c, str_buf *out, tpl_val fmt, int64_t i, percent_args *a)
{
    spec s = {.width = 0, .prec = -1};
    tpl_val v = tpl_undef();
    str_buf b = {0};
    bool named = fmt.s[i] == '(';
    if (named) {
        const char *close = memchr(fmt.s + i, ')', (size_t)(fmt.n - i));
        if (!close || a->args.t != TV_DICT) {
            tpl_fail(c, "format requires a mapping");
            return fmt.n;
        }
        tpl_val key = tpl_strn(fmt.s + i + 1, (size_t)(close - fmt.s - i - 1));
        if (!tpl_dict_get(c, a->args.d, key, &v)) {
            tpl_fail(c, "format: no key %s", ft_show(key.s, (size_t)key.n));
            return fmt.n;
        }
        a->used = 1;
        i = close - fmt.s + 1;
    }
    for (; i < fmt.n && strchr("-+ #0", fmt.s[i]); i++) {
        if (fmt.s[i] == '-')
            s.align = '<';
        else if (fmt.s[i] == '#')
            s.alt = true;
        else if (fmt.s[i] == '0')
            s.zero = true;
        else if (s.sign != '+')
            s.sign = fmt.s[i];
    }
    s.width = read_int(fmt.s, fmt.n, &i);
    if (i < fmt.n && fmt.s[i] == '.') {
        i++;
        s.prec = read_int(fmt.s, fmt.n, &i);
    }
    while (i < fmt.n && strchr("hlL", fmt.s[i])) i++;
    s.type = i < fmt.n ? fmt.s[i] : 0;
    if (s.type == '%') {
        str_addc(out, '%');
        return i + 1;
    }
    if (!s.type || !strchr("srdiufFeEgGxXoc", s.type)) {
        tpl_fail(c, "unsupported format character");
        return fmt.n;
    }
    if (!named) v = percent_next(c, a);
    if (c->rc == FT_OK) {
        bool number = !strchr("sr", s.type) && !(s.type == 'c' && v.t == TV_STR);
        if (s.type == 'r')
            tpl_repr(c, &b, v);
        else if (!number)
            text_spec(c, &b, v, s.prec);
        else if (s.type == 'F')
            s.type = 'f', spec_number(c, &b, v, &s);
        else
            spec_number(c, &b, v, &s);
        if (!s.align) s.align = s.zero && number ? 0 : '>';
        pad(c, out, &b, &s, number);
    }
    str_free(&b);
    return i + 1;
}

tpl_val tpl_percent(tpl_ctx *c, tpl_val fmt, tpl_val args)
{
    str_buf out = {0};
    percent_args a = {args, 0};
    for (int64_t i = 0; i < fmt.n && c->rc == FT_OK;) {
        if (fmt.s[i] == '%') {
            i = i + 1 < fmt.n ? percent_one(c, &out, fmt, i + 1, &a) : fmt.n;
        } else {
            str_addc(&out, fmt.s[i++]);
        }
    }
    bool left = args.t == TV_TUPLE
                    ? a.used < args.l->n
                    : !a.used && args.t != TV_DICT && args.t != TV_LIST && args.t != TV_UNDEF;
    if (left) tpl_fail(c, "not all arguments converted during string formatting");
    return tpl_buf(c, &out);
}

/* "[[fill]align][sign][#][0][width][,][.prec][type]" */
static void format_spec(tpl_ctx *c, str_buf *out, tpl_val v, const char *t, int64_t n)
{
    spec s = {.prec = -1};
    int64_t i = 0, k = n ? tpl_offset(t, n, 1) : 0;
    str_buf b = {0};
    if (n > k && k < 5 && strchr("<>^=", t[k]) && t[k]) {
        s.fill_n = (int)(k < 4 ? k : 4);
        memcpy(s.fill, t, (size_t)s.fill_n);
        s.align = t[k];
        i = k + 1;
    } else if (n && strchr("<>^=", t[0])) {
        s.align = t[i++];
    }
    if (i < n && strchr("+- ", t[i])) s.sign = t[i] == '-' ? 0 : t[i], i++;
    if (i < n && t[i] == '#') s.alt = true, i++;
    if (i < n && t[i] == '0') s.zero = true, i++;
    s.width = read_int(t, n, &i);
    if (i < n && (t[i] == ',' || t[i] == '_')) s.comma = true, s.fill[3] = t[i++];
    if (i < n && t[i] == '.') {
        i++;
        s.prec = read_int(t, n, &i);
    }
    if (i < n) s.type = t[i++];
    if (i < n || (s.type && !strchr("sdfFeEgGxXo%", s.type))) {
        tpl_fail(c, "unsupported format specification %s", ft_show(t, (size_t)n));
        return;
    }
    bool whole = v.t == TV_INT || v.t == TV_BIG;
    bool number = whole || v.t == TV_FLOAT || (v.t == TV_BOOL && s.type);
    if (number && s.type == 's') number = false;
    if (s.type && strchr("dxXo", s.type) && v.t == TV_FLOAT) {
        tpl_fail(c, "Unknown format code '%c' for object of type 'float'", s.type);
    } else if (s.type && s.type != 's' && !whole && v.t != TV_FLOAT && v.t != TV_BOOL) {
        tpl_fail(c, "Unknown format code '%c' for object of type '%s'", s.type, tpl_type_name(v));
    } else if (number && (s.type || s.prec >= 0 || whole)) {
        if (!s.type) s.type = whole ? 'd' : 'g';
        if (s.type == 'F') s.type = 'f';
        spec_number(c, &b, v, &s);
        if (s.comma) group_digits(&b, s.fill[3]);
    } else {
        if (number && s.sign && v.f >= 0) str_addc(&b, s.sign);
        text_spec(c, &b, v, number ? -1 : s.prec);
    }
    if (c->rc == FT_OK) pad(c, out, &b, &s, number);
    str_free(&b);
}

/* The value of a field name: "0", "name", "" (the next), then .attr and [key]. */
static tpl_val format_field(tpl_ctx *c, const char *t, int64_t n, const tpl_args *a, int *next)
{
    int64_t i = 0;
    tpl_val v;
    while (i < n && t[i] != '.' && t[i] != '[') i++;
    bool digits = true;
    int64_t k = 0, index = 0;
    for (; k < i; k++) digits = digits && t[k] >= '0' && t[k] <= '9';
    k = 0;
    index = digits && i ? read_int(t, i, &k) : (*next)++;
    if (digits) {
        if (index >= a->n) return tpl_fail(c, "format: not enough arguments");
        v = a->v[index];
    } else {
        int j = 0;
        (*next)--;
        while (j < a->n_kw &&
               (strlen(a->kw[j].name) != (size_t)i || memcmp(a->kw[j].name, t, (size_t)i) != 0)) {
            j++;
        }
        if (j == a->n_kw) return tpl_fail(c, "format: no argument %s", ft_show(t, (size_t)i));
        v = a->kw[j].v;
    }
    while (i < n && c->rc == FT_OK) {
        int64_t from = ++i;
        if (t[from - 1] == '.') {
            while (i < n && t[i] != '.' && t[i] != '[') i++;
            v = tpl_attr(c, v, t + from, (size_t)(i - from));
        } else {
            while (i < n && t[i] != ']') i++;
            k = 0;
            tpl_val key = tpl_strn(t + from, (size_t)(i - from));
            int64_t num = read_int(t + from, i - from, &k);
            v = tpl_item(c, v, k && k == i - from ? tpl_int(num) : key);
            i++;
        }
    }
    return v;
}

static void format_one(tpl_ctx *c, str_buf *out, const char *t, int64_t n, const tpl_args *a,
                       int *next)
{
    const char *colon = memchr(t, ':', (size_t)n);
    int64_t name = colon ? colon - t : n;
    char conv = name >= 2 && t[name - 2] == '!' ? t[name - 1] : 0;
    str_buf b = {0};
    tpl_val v = format_field(c, t, conv ? name - 2 : name, a, next);
    if (conv == 'r' || conv == 's') {
        if (conv == 'r')
            tpl_repr(c, &b, v);
        else
            tpl_str(c, &b, v);
        v = tpl_buf(c, &b);
    }
    if (c->rc != FT_OK) return;
    if (colon)
        format_spec(c, out, v, colon + 1, n - name - 1);
    else
        tpl_str(c, out, v);
}

tpl_val tpl_format(tpl_ctx *c, tpl_val fmt, const tpl_args *a)
{
    str_buf out = {0};
    int next = 0;
    for (int64_t i = 0; i < fmt.n && c->rc == FT_OK; i++) {
        char ch = fmt.s[i];
        bool twice = i + 1 < fmt.n && fmt.s[i + 1] == ch;
        if ((ch == '{' || ch == '}') && twice) {
            str_addc(&out, ch);
            i++;
        } else if (ch == '{') {
            const char *close = memchr(fmt.s + i, '}', (size_t)(fmt.n - i));
            if (!close) {
                tpl_fail(c, "format: expected '}' before end of string");
                break;
            }
            format_one(c, &out, fmt.s + i + 1, close - fmt.s - i - 1, a, &next);
            i = close - fmt.s;
        } else if (ch == '}') {
            tpl_fail(c, "format: single '}' in the string");
        } else {
            str_addc(&out, ch);
        }
    }
    return tpl_buf(c, &out);
}
