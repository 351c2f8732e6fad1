/* value.c – values of the template interpreter: making, comparing, items and attributes,
 * all with the outcome Python has, errors included. */
#include "template_private.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tpl_val tpl_fail(tpl_ctx *c, const char *fmt, ...)
{
    if (c->rc == FT_OK) {
        str_buf b = {0};
        va_list ap;
        va_start(ap, fmt);
        str_vprintf(&b, fmt, ap);
        va_end(ap);
        c->rc = str_ok(&b);
        if (c->rc == FT_OK)
            c->rc = ft_fail(FT_EDATA, "%s:%d: chat template: %s", c->t->name, c->line, b.data);
        str_free(&b);
    }
    return tpl_undef();
}

bool tpl_work(tpl_ctx *c, int64_t units)
{
    if (c->rc != FT_OK) return false;
    c->work += units;
    if (c->work <= TPL_MAX_WORK) return true;
    tpl_fail(c, "too much work for one rendering (an endless loop?)");
    return false;
}

/* --- making ------------------------------------------------------------------------------------------- */
void *tpl_get(tpl_ctx *c, size_t bytes)
{
    enum { CHUNK = 1 << 16, LONG = 1 << 20 };
    if (!tpl_work(c, (int64_t)(bytes / 16))) return NULL;
    bytes = (bytes + 7) & ~(size_t)7;
    if (bytes > c->left) {
        size_t want = bytes > CHUNK / 4 ? bytes : CHUNK;
        if (bytes >= LONG) want += CHUNK; /* a text that may grow in place */
        char *p = arena_raw(c->mem, want);
        if (!p) {
            c->rc = arena_has(c->mem, want)
                        ? FT_EMEM
                        : ft_fail(FT_EDATA, "%s:%d: chat template: more than %u MiB of values",
                                  c->t->name, c->line, TPL_MAX_MEMORY >> 20);
            return NULL;
        }
        if (want == bytes && want != CHUNK) {
            memset(p, 0, bytes);
            return p;
        }
        c->chunk = p;
        c->left = want;
    }
    void *p = c->chunk;
    c->chunk += bytes;
    c->left -= bytes;
    memset(p, 0, bytes);
    return p;
}

tpl_val tpl_copy(tpl_ctx *c, const char *s, size_t n)
{
    char *p = n ? tpl_get(c, n) : NULL;
    if (n && !p) return tpl_undef();
    if (n) memcpy(p, s, n);
    return tpl_strn(n ? p : "", n);
}

tpl_val tpl_buf(tpl_ctx *c, str_buf *b)
{
    tpl_val v = tpl_undef();
    if (b->failed)
        c->rc = FT_EMEM;
    else
        v = tpl_copy(c, b->data, b->len);
    str_free(b);
    return v;
}

tpl_val tpl_list_new(tpl_ctx *c, tpl_type t, int64_t cap)
{
    tpl_list *l = tpl_get(c, sizeof *l);
    if (!l) return tpl_undef();
    l->kind = "generator";
    if (cap) {
        l->v = tpl_get(c, (size_t)cap * sizeof *l->v);
        if (!l->v) return tpl_undef();
        l->cap = cap;
    }
    return (tpl_val){.t = (uint8_t)t, .l = l};
}

static bool grow(tpl_ctx *c, tpl_val **v, int64_t n, int64_t cap)
{
    tpl_val *more = tpl_get(c, (size_t)cap * sizeof *more);
    if (!more) return false;
    if (n) memcpy(more, *v, (size_t)n * sizeof *more);
    *v = more;
    return true;
}

void tpl_list_add(tpl_ctx *c, tpl_list *l, tpl_val v)
{
    if (c->rc != FT_OK || !l) return;
    if (l->n == l->cap) {
        int64_t cap = l->cap ? 2 * l->cap : 8;
        if (!grow(c, &l->v, l->n, cap)) return;
        l->cap = cap;
    }
    l->v[l->n++] = v;
}

tpl_val tpl_dict_new(tpl_ctx *c, int64_t cap)
{
    tpl_dict *d = tpl_get(c, sizeof *d);
    if (d && cap && (!grow(c, &d->k, 0, cap) || !grow(c, &d->v, 0, cap))) d = NULL;
    if (!d) return tpl_undef();
    d->cap = cap;
    return (tpl_val){.t = TV_DICT, .d = d};
}

static int64_t dict_find(tpl_ctx *c, const tpl_dict *d, tpl_val k)
{
    if (!tpl_work(c, d->n / 4)) return -1;
    for (int64_t i = 0; i < d->n; i++) {
        if (tpl_equal(c, d->k[i], k)) return i;
    }
    return -1;
}

static bool hashable(tpl_val v)
{
    if (v.t != TV_TUPLE) return v.t != TV_LIST && v.t != TV_DICT;
    for (int64_t i = 0; i < v.l->n; i++) {
        if (v.l->v[i].t == TV_LIST || v.l->v[i].t == TV_DICT) return false;
    }
    return true;
}

void tpl_dict_set(tpl_ctx *c, tpl_dict *d, tpl_val k, tpl_val v)
{
    if (c->rc != FT_OK || !d) return;
    if (!hashable(k)) {
        tpl_fail(c, "unhashable type: '%s'", tpl_type_name(k));
        return;
    }
    int64_t i = dict_find(c, d, k);
    if (i >= 0) {
        d->v[i] = v;
        return;
    }
    if (d->n == d->cap) {
        int64_t cap = d->cap ? 2 * d->cap : 8;
        if (!grow(c, &d->k, d->n, cap) || !grow(c, &d->v, d->n, cap)) return;
        d->cap = cap;
    }
    d->k[d->n] = k;
    d->v[d->n++] = v;
}

bool tpl_dict_get(tpl_ctx *c, const tpl_dict *d, tpl_val k, tpl_val *v)
{
    int64_t i = dict_find(c, d, k);
    if (i >= 0) *v = d->v[i];
    return i >= 0;
}

/* Whole numbers keep their digits, as Python's do, whatever their size. */
static tpl_val number_from_json(tpl_ctx *c, const cJSON *j)
{
    char exact[400], *end; /* a double below 1e309 has 309 digits */
    const char *digits = j->valuestring;
    double f = j->valuedouble;
    if (js_is_float(j) || (!digits && f != floor(f))) return tpl_float(f);
    if (!digits && fabs(f) < 0x1p63) return tpl_int((int64_t)f);
    if (!digits) {
        snprintf(exact, sizeof exact, "%.0f", f);
        digits = exact;
    }
    int64_t i = (errno = 0, strtoll(digits, &end, 10));
    if (!errno) return tpl_int(i);
    tpl_val v = tpl_copy(c, digits, strlen(digits));
    v.t = c->rc == FT_OK ? TV_BIG : TV_UNDEF;
    return v;
}

tpl_val tpl_from_json(tpl_ctx *c, const cJSON *j)
{
    tpl_val v = tpl_none();
    if (!tpl_work(c, 1)) return v;
    if (!j || cJSON_IsNull(j)) return v;
    if (cJSON_IsBool(j)) return tpl_bool(cJSON_IsTrue(j));
    if (cJSON_IsString(j)) return tpl_strn(j->valuestring, strlen(j->valuestring));
    if (cJSON_IsNumber(j)) return number_from_json(c, j);
    if (c->depth >= TPL_MAX_DEPTH) return tpl_fail(c, "values nested too deeply");
    c->depth++;
    const int n = cJSON_GetArraySize(j);
    v = cJSON_IsArray(j) ? tpl_list_new(c, TV_LIST, n) : tpl_dict_new(c, n);
    for (const cJSON *i = j->child; i && c->rc == FT_OK; i = i->next) {
        tpl_val item = tpl_from_json(c, i);
        if (v.t == TV_LIST)
            tpl_list_add(c, v.l, item);
        else if (v.t == TV_DICT)
            tpl_dict_set(c, v.d, tpl_strn(i->string, strlen(i->string)), item);
    }
    c->depth--;
    return v;
}

/* --- asking -------------------------------------------------------------------------------------------- */
bool tpl_is_str(tpl_val v, const char *text)
{
    return v.t == TV_STR && (size_t)v.n == strlen(text) && !memcmp(v.s, text, (size_t)v.n);
}

bool tpl_number(tpl_val v, double *f)
{
    *f = v.t == TV_FLOAT ? v.f : v.t == TV_INT ? (double)v.i : v.t == TV_BOOL ? v.b : 0;
    return v.t == TV_FLOAT || v.t == TV_INT || v.t == TV_BOOL;
}

bool tpl_integer(tpl_val v, int64_t *i)
{
    *i = v.t == TV_INT ? v.i : v.t == TV_BOOL ? v.b : 0;
    return v.t == TV_INT || v.t == TV_BOOL;
}

bool tpl_truth(tpl_val v)
{
    switch (v.t) {
    case TV_UNDEF:
    case TV_NONE:
        return false;
    case TV_BOOL:
        return v.b;
    case TV_INT:
        return v.i != 0;
    case TV_FLOAT:
        return v.f != 0;
    case TV_STR:
        return v.n != 0;
    case TV_LIST:
    case TV_TUPLE:
    case TV_RANGE:
    case TV_VIEW:
        return v.l->n != 0;
    case TV_DICT:
        return v.d->n != 0;
    case TV_LOOP:
        return v.loop->items.n != 0;
    default:
        return true;
    }
}

const char *tpl_type_name(tpl_val v)
{
    static const char *const names[] = {
        [TV_UNDEF] = "Undefined",  [TV_NONE] = "NoneType", [TV_BOOL] = "bool",
        [TV_INT] = "int",          [TV_BIG] = "int",       [TV_FLOAT] = "float",
        [TV_STR] = "str",          [TV_LIST] = "list",     [TV_TUPLE] = "tuple",
        [TV_ITER] = "generator",   [TV_RANGE] = "range",   [TV_VIEW] = "dict view",
        [TV_DICT] = "dict",        [TV_NS] = "Namespace",  [TV_MACRO] = "Macro",
        [TV_LOOP] = "LoopContext", [TV_FUNC] = "function", [TV_METHOD] = "method",
        [TV_CYCLER] = "Cycler",    [TV_JOINER] = "Joiner",
    };
    return names[v.t];
}

tpl_val tpl_undef_error(tpl_ctx *c, tpl_val v)
{
    if (v.flag)
        return tpl_fail(c, "access to %s is refused in templates", ft_show(v.s, (size_t)v.n));
    if (!v.s) return tpl_fail(c, "value is undefined");
    return tpl_fail(c, "'%s' is undefined", ft_show(v.s, (size_t)v.n));
}

static bool sequence(tpl_val v)
{
    return v.t == TV_LIST || v.t == TV_TUPLE || v.t == TV_RANGE;
}

static bool equal_lists(tpl_ctx *c, const tpl_list *a, const tpl_list *b)
{
    if (a->n != b->n) return false;
    for (int64_t i = 0; i < a->n; i++) {
        if (!tpl_equal(c, a->v[i], b->v[i])) return false;
    }
    return true;
}

bool tpl_equal(tpl_ctx *c, tpl_val a, tpl_val b)
{
    double x, y;
    int64_t i, j;
    if (!tpl_work(c, 1)) return false;
    if (tpl_integer(a, &i) && tpl_integer(b, &j)) return i == j;
    if (tpl_number(a, &x) && tpl_number(b, &y)) return x == y;
    if ((a.t == TV_BIG && b.t == TV_FLOAT) || (a.t == TV_FLOAT && b.t == TV_BIG))
        return tpl_order(c, a, b) == 0;
    if (a.t != b.t) return false;
    if (a.t == TV_STR || a.t == TV_BIG) return a.n == b.n && !memcmp(a.s, b.s, (size_t)a.n);
    if (a.t == TV_NONE || a.t == TV_UNDEF) return true;
    if (sequence(a)) {
        if (c->depth >= TPL_MAX_DEPTH) return false;
        c->depth++;
        bool same = equal_lists(c, a.l, b.l);
        c->depth--;
        return same;
    }
    if (a.t == TV_DICT) {
        tpl_val v;
        if (a.d->n != b.d->n || c->depth >= TPL_MAX_DEPTH) return false;
        c->depth++;
        int64_t k = 0;
        while (k < a.d->n && tpl_dict_get(c, b.d, a.d->k[k], &v) && tpl_equal(c, a.d->v[k], v)) k++;
        c->depth--;
        return k == a.d->n;
    }
    return a.l == b.l;
}

double tpl_big(tpl_val v)
{
    char text[TPL_MAX_DIGITS + 1];
    size_t n = v.n < TPL_MAX_DIGITS ? (size_t)v.n : TPL_MAX_DIGITS;
    memcpy(text, v.s, n);
    text[n] = 0;
    return strtod(text, NULL);
}

static int big_order(tpl_val a, tpl_val b)
{
    bool minus = a.s[0] == '-';
    if (minus != (b.s[0] == '-')) return minus ? -1 : 1;
    int d = a.n != b.n ? (a.n > b.n) - (a.n < b.n) : memcmp(a.s, b.s, (size_t)a.n);
    d = (d > 0) - (d < 0);
    return minus ? -d : d;
}

int tpl_order(tpl_ctx *c, tpl_val a, tpl_val b)
{
    double x, y;
    int64_t i, j;
    if (!tpl_work(c, 1)) return 0;
    if (tpl_integer(a, &i) && tpl_integer(b, &j)) return (i > j) - (i < j);
    if (tpl_number(a, &x) && tpl_number(b, &y)) return x != x || y != y ? 2 : (x > y) - (x < y);
    if (a.t == TV_BIG && b.t == TV_BIG) return big_order(a, b);
    if (a.t == TV_BIG && tpl_integer(b, &j)) return a.s[0] == '-' ? -1 : 1;
    if (b.t == TV_BIG && tpl_integer(a, &i)) return b.s[0] == '-' ? 1 : -1;
    if (a.t == TV_BIG && tpl_number(b, &y)) return y != y ? 2 : (tpl_big(a) > y) - (tpl_big(a) < y);
    if (b.t == TV_BIG && tpl_number(a, &x)) return x != x ? 2 : (x > tpl_big(b)) - (x < tpl_big(b));
    if (a.t == TV_STR && b.t == TV_STR) { /* bytes of UTF-8 sort as code points do */
        int64_t n = a.n < b.n ? a.n : b.n;
        int d = n ? memcmp(a.s, b.s, (size_t)n) : 0;
        return d ? (d > 0) - (d < 0) : (a.n > b.n) - (a.n < b.n);
    }
    if (a.t == b.t && (a.t == TV_LIST || a.t == TV_TUPLE)) {
        if (c->depth >= TPL_MAX_DEPTH) return 0;
        c->depth++;
        int d = 0;
        int64_t k = 0;
        while (k < a.l->n && k < b.l->n && tpl_equal(c, a.l->v[k], b.l->v[k])) k++;
        if (k < a.l->n && k < b.l->n)
            d = tpl_order(c, a.l->v[k], b.l->v[k]);
        else
            d = (a.l->n > b.l->n) - (a.l->n < b.l->n);
        c->depth--;
        return d;
    }
    if (a.t == TV_UNDEF || b.t == TV_UNDEF)
        tpl_undef_error(c, a.t == TV_UNDEF ? a : b);
    else
        tpl_fail(c, "'%s' and '%s' have no order", tpl_type_name(a), tpl_type_name(b));
    return 0;
}

bool tpl_contains(tpl_ctx *c, tpl_val item, tpl_val in)
{
    tpl_val v;
    if (in.t == TV_STR) {
        if (item.t != TV_STR) {
            tpl_fail(c, "'in <string>' requires a string on the left, not %s", tpl_type_name(item));
            return false;
        }
        tpl_work(c, in.n / 16);
        return !item.n || memmem(in.s, (size_t)in.n, item.s, (size_t)item.n);
    }
    if (in.t == TV_DICT) {
        if (hashable(item)) return tpl_dict_get(c, in.d, item, &v);
        tpl_fail(c, "unhashable type: '%s'", tpl_type_name(item));
        return false;
    }
    if (!tpl_iterable(in)) {
        tpl_fail(c, "argument of type '%s' is not iterable", tpl_type_name(in));
        return false;
    }
    tpl_list l = tpl_items(c, in);
    for (int64_t i = 0; i < l.n; i++) {
        if (tpl_equal(c, l.v[i], item)) return true;
    }
    return false;
}

/* --- items and attributes --------------------------------------------------------------------------------- */
int64_t tpl_chars(const char *s, int64_t n)
{
    int64_t chars = 0;
    for (int64_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xC0) != 0x80;
    return chars;
}

int64_t tpl_offset(const char *s, int64_t n, int64_t chars)
{
    int64_t i = 0;
    while (i < n && chars > 0) {
        i++;
        while (i < n && ((unsigned char)s[i] & 0xC0) == 0x80) i++;
        chars--;
    }
    return i;
}

int64_t tpl_length(tpl_ctx *c, tpl_val v)
{
    tpl_work(c, v.t == TV_STR ? v.n / 16 : 1);
    if (v.t == TV_STR) return tpl_chars(v.s, v.n);
    if (sequence(v) || v.t == TV_VIEW) return v.l->n;
    if (v.t == TV_DICT) return v.d->n;
    if (v.t == TV_LOOP) return v.loop->items.n;
    if (v.t != TV_UNDEF) tpl_fail(c, "object of type '%s' has no len()", tpl_type_name(v));
    return 0;
}

bool tpl_iterable(tpl_val v)
{
    return v.t == TV_UNDEF || v.t == TV_STR || sequence(v) || v.t == TV_ITER || v.t == TV_VIEW ||
           v.t == TV_DICT || v.t == TV_LOOP;
}

tpl_list tpl_items(tpl_ctx *c, tpl_val v)
{
    tpl_list l = {0};
    if (c->rc != FT_OK) return l;
    if (v.t == TV_UNDEF) return l;
    if (v.t == TV_STR) {
        tpl_work(c, v.n);
        for (int64_t i = 0, k; i < v.n && c->rc == FT_OK; i += k) {
            k = tpl_offset(v.s + i, v.n - i, 1);
            tpl_list_add(c, &l, tpl_strn(v.s + i, (size_t)k));
        }
    } else if (v.t == TV_ITER) {
        l.n = v.l->n - v.l->pos;
        l.v = l.n > 0 ? v.l->v + v.l->pos : NULL;
        v.l->pos = v.l->n;
    } else if (sequence(v) || v.t == TV_VIEW) {
        l = *v.l;
    } else if (v.t == TV_DICT) {
        l.v = v.d->k;
        l.n = v.d->n;
    } else {
        tpl_fail(c, "'%s' object is not iterable", tpl_type_name(v));
    }
    tpl_work(c, l.n);
    return l;
}

static tpl_val missing(const char *name, size_t n)
{
    return (tpl_val){.t = TV_UNDEF, .n = (int64_t)n, .s = name};
}

static tpl_val refused(const char *name, size_t n)
{
    return (tpl_val){.t = TV_UNDEF, .flag = 1, .n = (int64_t)n, .s = name};
}

static tpl_val loop_attr(tpl_ctx *c, const tpl_loop *l, const char *name, size_t n)
{
    int64_t i = l->index, len = l->items.n;
    const struct {
        const char *name;
        tpl_val v;
    } rows[] = {
        {"index", tpl_int(i + 1)},
        {"index0", tpl_int(i)},
        {"revindex", tpl_int(len - i)},
        {"revindex0", tpl_int(len - i - 1)},
        {"first", tpl_bool(i == 0)},
        {"last", tpl_bool(i == len - 1)},
        {"length", tpl_int(len)},
        {"depth", tpl_int(l->depth + 1)},
        {"depth0", tpl_int(l->depth)},
        {"previtem", i > 0 ? l->items.v[i - 1] : missing("previtem", 8)},
        {"nextitem", i + 1 < len ? l->items.v[i + 1] : missing("nextitem", 8)},
    };
    (void)c;
    for (size_t k = 0; k < FT_COUNT_OF(rows); k++) {
        if (strlen(rows[k].name) == n && !memcmp(rows[k].name, name, n)) return rows[k].v;
    }
    return missing(name, n);
}

/* A method, or TV_UNDEF with flag where the sandbox refuses it; TV_NONE: there is no such attribute. */
static tpl_val method(tpl_ctx *c, tpl_val v, const char *name, size_t n)
{
    static const char *const changing[] = {"append",     "clear",   "extend", "insert",
                                           "pop",        "popitem", "remove", "reverse",
                                           "setdefault", "sort",    "update", NULL};
    const tpl_func *fn = tpl_find_method(v, name, n);
    if (fn) {
        tpl_bound *b = tpl_get(c, sizeof *b);
        if (!b) return tpl_undef();
        *b = (tpl_bound){v, fn};
        return (tpl_val){.t = TV_METHOD, .bound = b};
    }
    static const char of_dict[] = " clear pop popitem setdefault update ";
    for (int i = 0; changing[i] && (v.t == TV_LIST || v.t == TV_DICT); i++) {
        if (strlen(changing[i]) != n || memcmp(changing[i], name, n) != 0) continue;
        char key[16];
        size_t k = 0;
        key[k++] = ' ';
        for (size_t j = 0; j < n; j++) key[k++] = name[j];
        key[k++] = ' ';
        key[k] = 0;
        bool dict_has = strstr(of_dict, key) != NULL;
        bool list_has = strcmp(changing[i], "popitem") != 0 &&
                        strcmp(changing[i], "setdefault") != 0 &&
                        strcmp(changing[i], "update") != 0;
        if (v.t == TV_DICT ? dict_has : list_has) return refused(name, n);
    }
    if (n > 2 && name[0] == '_' && name[1] == '_') return refused(name, n);
    return tpl_none();
}

tpl_val tpl_attr(tpl_ctx *c, tpl_val v, const char *name, size_t n)
{
    tpl_val r;
    if (c->rc != FT_OK) return tpl_undef();
    if (v.t == TV_UNDEF) {
        if (n == 9 && !memcmp(name, "__class__", 9) && v.flag != 1) return refused(name, n);
        return tpl_undef_error(c, v);
    }
    if (v.t == TV_NS) {
        if (tpl_dict_get(c, v.d, tpl_strn(name, n), &r)) return r;
        return n > 1 && name[0] == '_' ? refused(name, n) : missing(name, n);
    }
    r = method(c, v, name, n);
    if (r.t != TV_NONE) return r;
    if (v.t == TV_LOOP) return loop_attr(c, v.loop, name, n);
    if (v.t == TV_DICT && tpl_dict_get(c, v.d, tpl_strn(name, n), &r)) return r;
    if (v.t == TV_MACRO && n == 4 && !memcmp(name, "name", 4)) {
        return tpl_strn(v.m->name, strlen(v.m->name));
    }
    if (v.t == TV_CYCLER && n == 7 && !memcmp(name, "current", 7)) {
        return v.l->v[v.l->pos % v.l->n];
    }
    if (v.t == TV_TUPLE && v.l->kind && !strcmp(v.l->kind, "group") && v.l->n == 2) {
        if (n == 7 && !memcmp(name, "grouper", 7)) return v.l->v[0];
        if (n == 4 && !memcmp(name, "list", 4)) return v.l->v[1];
    }
    return missing(name, n);
}

tpl_val tpl_item(tpl_ctx *c, tpl_val v, tpl_val key)
{
    int64_t i;
    tpl_val r;
    if (c->rc != FT_OK) return tpl_undef();
    if (v.t == TV_UNDEF) return tpl_undef_error(c, v);
    if (v.t == TV_DICT) {
        if (hashable(key) && tpl_dict_get(c, v.d, key, &r)) return r;
    } else if (tpl_integer(key, &i) && (sequence(v) || v.t == TV_STR)) {
        int64_t n = v.t == TV_STR ? tpl_length(c, v) : v.l->n;
        if (i < 0) i += n;
        if (i < 0 || i >= n) return tpl_undef();
        if (v.t != TV_STR) return v.l->v[i];
        int64_t at = tpl_offset(v.s, v.n, i);
        return tpl_strn(v.s + at, (size_t)tpl_offset(v.s + at, v.n - at, 1));
    }
    if (key.t != TV_STR) return tpl_undef();
    if (v.t == TV_DICT || v.t == TV_STR || sequence(v)) { /* only real attributes are left */
        r = method(c, v, key.s, (size_t)key.n);
        return r.t != TV_NONE ? r : missing(key.s, (size_t)key.n);
    }
    return tpl_attr(c, v, key.s, (size_t)key.n);
}

static bool slice_index(tpl_ctx *c, tpl_val v, int64_t def, int64_t n, int64_t low, int64_t high,
                        int64_t *out)
{
    *out = def;
    if (v.t == TV_NONE) return true;
    if (!tpl_integer(v, out)) {
        tpl_fail(c, "slice indices must be integers or None");
        return false;
    }
    if (*out < 0) *out += n;
    if (*out < low) *out = low;
    if (*out > high) *out = high;
    return true;
}

tpl_val tpl_slice(tpl_ctx *c, tpl_val v, tpl_val from, tpl_val to, tpl_val step)
{
    int64_t s = 1, a, b;
    if (c->rc != FT_OK) return tpl_undef();
    if (v.t == TV_UNDEF) return tpl_undef_error(c, v);
    if (v.t != TV_STR && !sequence(v)) {
        return tpl_fail(c, "'%s' object cannot be sliced", tpl_type_name(v));
    }
    if (step.t != TV_NONE && !tpl_integer(step, &s))
        return tpl_fail(c, "slice step must be an integer");
    if (!s) return tpl_fail(c, "slice step cannot be zero");

    int64_t n = tpl_length(c, v), low = s > 0 ? 0 : -1, high = s > 0 ? n : n - 1;
    if (!slice_index(c, from, s > 0 ? 0 : n - 1, n, low, high, &a)) return tpl_undef();
    if (!slice_index(c, to, s > 0 ? n : -1, n, low, high, &b)) return tpl_undef();
    if (v.t == TV_STR && s == 1) {
        int64_t x = tpl_offset(v.s, v.n, a),
                y = b > a ? x + tpl_offset(v.s + x, v.n - x, b - a) : x;
        tpl_val r = tpl_strn(v.s + x, (size_t)(y - x));
        r.flag = v.flag;
        return r;
    }
    tpl_list l = tpl_items(c, v);
    str_buf text = {0};
    tpl_val r = v.t == TV_STR ? tpl_undef() : tpl_list_new(c, v.t == TV_RANGE ? TV_LIST : v.t, 0);
    for (int64_t i = a; c->rc == FT_OK && (s > 0 ? i < b : i > b); i += s) {
        if (v.t == TV_STR)
            str_add(&text, l.v[i].s, (size_t)l.v[i].n);
        else
            tpl_list_add(c, r.l, l.v[i]);
        if ((s > 0 && i > INT64_MAX - s) || (s < 0 && i < INT64_MIN - s)) break;
    }
    return v.t == TV_STR ? tpl_buf(c, &text) : r;
}
