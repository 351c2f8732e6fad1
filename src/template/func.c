/* func.c – tests, global functions and the helpers of loops, and the binding of arguments to the
 * parameters of a row. */
#include "template_private.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROW(name) static tpl_val name(tpl_ctx *c, tpl_val v, const tpl_val *b, const tpl_args *a)
#define UNUSED ((void)c, (void)v, (void)b, (void)a)

/* --- calling a row ------------------------------------------------------------------------------------- */
const tpl_func *tpl_row(const tpl_func *rows, size_t count, const char *name, size_t n)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(rows[i].name) == n && !memcmp(rows[i].name, name, n)) return &rows[i];
    }
    return NULL;
}

static int param_index(const char *params, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; *params; i++) {
        size_t k = strcspn(params, " ");
        if (k == n && !memcmp(params, name, n)) return i;
        params += k + (params[k] == ' ');
    }
    return -1;
}

static int param_count(const char *params)
{
    int n = *params != 0;
    for (; *params; params++) n += *params == ' ';
    return n;
}

tpl_val tpl_apply(tpl_ctx *c, const tpl_func *fn, tpl_val self, const tpl_args *a)
{
    tpl_val b[TPL_MAX_PARAMS];
    int count = param_count(fn->params);
    if (!tpl_work(c, 1)) return tpl_undef();
    if (fn->params[0] == '*') return fn->fn(c, self, NULL, a);
    for (int i = 0; i < TPL_MAX_PARAMS; i++) b[i] = (tpl_val){.t = TV_UNDEF, .flag = TPL_ABSENT};
    if (a->n > count) {
        return tpl_fail(c, "%s takes at most %d arguments (%d given)", fn->name, count, a->n);
    }
    for (int i = 0; i < a->n; i++) b[i] = a->v[i];
    for (int i = 0; i < a->n_kw; i++) {
        int at = param_index(fn->params, a->kw[i].name);
        if (at < 0 || at < a->n) {
            return tpl_fail(c, "%s: %s keyword argument %s", fn->name,
                            at < 0 ? "unexpected" : "repeated", ft_shows(a->kw[i].name));
        }
        b[at] = a->kw[i].v;
    }
    for (int i = 0; i < fn->need; i++) {
        if (tpl_absent(b[i])) return tpl_fail(c, "%s: missing argument %d", fn->name, i + 1);
    }
    return fn->fn(c, self, b, a);
}

/* --- tests ------------------------------------------------------------------------------------------------ */
#define TEST(name, expr)                                                                           \
    ROW(name)                                                                                      \
    {                                                                                              \
        UNUSED;                                                                                    \
        return tpl_bool(expr);                                                                     \
    }

static bool remainder_is(tpl_ctx *c, tpl_val v, tpl_val by, int64_t want)
{
    return tpl_equal(c, tpl_arith(c, '%', v, by), tpl_int(want));
}

static bool same(tpl_ctx *c, tpl_val v, tpl_val o)
{
    bool scalar = v.t == TV_NONE || v.t == TV_BOOL || v.t == TV_INT || v.t == TV_BIG ||
                  v.t == TV_FLOAT || v.t == TV_STR;
    return v.t == o.t && (scalar ? tpl_equal(c, v, o) : v.t != TV_UNDEF && v.l == o.l);
}

static bool case_is(tpl_ctx *c, tpl_val v, const char *method)
{
    tpl_val s = tpl_to_str(c, v);
    if (c->rc != FT_OK) return false;
    return tpl_truth(tpl_apply(c, tpl_find_method(s, method, strlen(method)), s, &(tpl_args){0}));
}

static bool ordered(tpl_ctx *c, tpl_val v, tpl_val o, int first, int second)
{
    int d = tpl_order(c, v, o);
    return d == first || d == second;
}

static bool callable(tpl_val v)
{
    return v.t == TV_MACRO || v.t == TV_FUNC || v.t == TV_METHOD || v.t == TV_JOINER ||
           v.t == TV_LOOP || v.t == TV_UNDEF;
}

TEST(t_odd, remainder_is(c, v, tpl_int(2), 1))
TEST(t_even, remainder_is(c, v, tpl_int(2), 0))
TEST(t_divisibleby, remainder_is(c, v, b[0], 0))
TEST(t_defined, v.t != TV_UNDEF)
TEST(t_undefined, v.t == TV_UNDEF)
TEST(t_filter, v.t == TV_STR && tpl_find_filter(v.s, (size_t)v.n))
TEST(t_test, v.t == TV_STR && tpl_find_test(v.s, (size_t)v.n))
TEST(t_none, v.t == TV_NONE)
TEST(t_boolean, v.t == TV_BOOL)
TEST(t_false, v.t == TV_BOOL && !v.b)
TEST(t_true, v.t == TV_BOOL && v.b)
TEST(t_integer, v.t == TV_INT || v.t == TV_BIG)
TEST(t_float, v.t == TV_FLOAT)
TEST(t_number, v.t == TV_INT || v.t == TV_BIG || v.t == TV_FLOAT || v.t == TV_BOOL)
TEST(t_string, v.t == TV_STR)
TEST(t_mapping, v.t == TV_DICT)
TEST(t_sequence, v.t == TV_STR || v.t == TV_LIST || v.t == TV_TUPLE || v.t == TV_RANGE ||
                     v.t == TV_DICT || v.t == TV_UNDEF)
TEST(t_iterable, tpl_iterable(v))
TEST(t_callable, callable(v))
TEST(t_escaped, v.t == TV_STR && v.flag)
TEST(t_lower, case_is(c, v, "islower"))
TEST(t_upper, case_is(c, v, "isupper"))
TEST(t_sameas, same(c, v, b[0]))
TEST(t_in, tpl_contains(c, v, b[0]))
TEST(t_eq, tpl_equal(c, v, b[0]))
TEST(t_ne, !tpl_equal(c, v, b[0]))
TEST(t_gt, ordered(c, v, b[0], 1, 1))
TEST(t_ge, ordered(c, v, b[0], 1, 0))
TEST(t_lt, ordered(c, v, b[0], -1, -1))
TEST(t_le, ordered(c, v, b[0], -1, 0))

static const tpl_func tests[] = {
    {"odd", t_odd, "", 0, 0},
    {"even", t_even, "", 0, 0},
    {"divisibleby", t_divisibleby, "num", 1, 0},
    {"defined", t_defined, "", 0, 0},
    {"undefined", t_undefined, "", 0, 0},
    {"filter", t_filter, "", 0, 0},
    {"test", t_test, "", 0, 0},
    {"none", t_none, "", 0, 0},
    {"boolean", t_boolean, "", 0, 0},
    {"false", t_false, "", 0, 0},
    {"true", t_true, "", 0, 0},
    {"integer", t_integer, "", 0, 0},
    {"float", t_float, "", 0, 0},
    {"number", t_number, "", 0, 0},
    {"string", t_string, "", 0, 0},
    {"mapping", t_mapping, "", 0, 0},
    {"sequence", t_sequence, "", 0, 0},
    {"iterable", t_iterable, "", 0, 0},
    {"callable", t_callable, "", 0, 0},
    {"escaped", t_escaped, "", 0, 0},
    {"lower", t_lower, "", 0, 0},
    {"upper", t_upper, "", 0, 0},
    {"sameas", t_sameas, "other", 1, 0},
    {"in", t_in, "seq", 1, 0},
    {"==", t_eq, "other", 1, 0},
    {"eq", t_eq, "other", 1, 0},
    {"equalto", t_eq, "other", 1, 0},
    {"!=", t_ne, "other", 1, 0},
    {"ne", t_ne, "other", 1, 0},
    {">", t_gt, "other", 1, 0},
    {"gt", t_gt, "other", 1, 0},
    {"greaterthan", t_gt, "other", 1, 0},
    {">=", t_ge, "other", 1, 0},
    {"ge", t_ge, "other", 1, 0},
    {"<", t_lt, "other", 1, 0},
    {"lt", t_lt, "other", 1, 0},
    {"lessthan", t_lt, "other", 1, 0},
    {"<=", t_le, "other", 1, 0},
    {"le", t_le, "other", 1, 0},
};

const tpl_func *tpl_find_test(const char *name, size_t n)
{
    return tpl_row(tests, FT_COUNT_OF(tests), name, n);
}

/* --- global functions --------------------------------------------------------------------------------------- */
ROW(g_range)
{
    int64_t x[3] = {0, 0, 1}, n = 0;
    UNUSED;
    for (int i = 0; i < 3; i++) {
        if (!tpl_absent(b[i]) && !tpl_integer(b[i], &x[i])) {
            return tpl_fail(c, "'%s' object cannot be interpreted as an integer",
                            tpl_type_name(b[i]));
        }
    }
    if (tpl_absent(b[1])) x[1] = x[0], x[0] = 0;
    if (!x[2]) return tpl_fail(c, "range() arg 3 must not be zero");
    double len = ((double)x[1] - (double)x[0]) / (double)x[2];
    if (len > TPL_MAX_RANGE) return tpl_fail(c, "range too big: at most %d items", TPL_MAX_RANGE);
    tpl_val r = tpl_list_new(c, TV_RANGE, 0);
    for (int64_t i = x[0]; x[2] > 0 ? i < x[1] : i > x[1]; i += x[2], n++) {
        tpl_list_add(c, r.l, tpl_int(i));
        if (c->rc != FT_OK || n > TPL_MAX_RANGE) return tpl_undef();
    }
    if (c->rc == FT_OK) r.l->start = x[0], r.l->pos = x[1], r.l->step = x[2];
    return r;
}

/* dict(mapping or pairs, a=1, …); namespace takes the same. */
static tpl_val make_dict(tpl_ctx *c, const tpl_args *a)
{
    tpl_val d = tpl_dict_new(c, 0);
    if (a->n > 1) return tpl_fail(c, "dict expected at most 1 argument, got %d", a->n);
    if (a->n && a->v[0].t == TV_DICT) {
        const tpl_dict *from = a->v[0].d;
        for (int64_t i = 0; i < from->n && c->rc == FT_OK; i++)
            tpl_dict_set(c, d.d, from->k[i], from->v[i]);
    } else if (a->n && a->v[0].t == TV_UNDEF) {
        return tpl_attr(c, a->v[0], "keys", 4); /* fails with its name */
    } else if (a->n) {
        tpl_list l = tpl_items(c, a->v[0]);
        for (int64_t i = 0; i < l.n && c->rc == FT_OK; i++) {
            tpl_list pair = tpl_items(c, l.v[i]);
            if (pair.n != 2) return tpl_fail(c, "dict: items must be pairs");
            tpl_dict_set(c, d.d, pair.v[0], pair.v[1]);
        }
    }
    for (int i = 0; i < a->n_kw && c->rc == FT_OK; i++) {
        tpl_dict_set(c, d.d, tpl_strn(a->kw[i].name, strlen(a->kw[i].name)), a->kw[i].v);
    }
    return d;
}

ROW(g_dict)
{
    UNUSED;
    return make_dict(c, a);
}

ROW(g_namespace)
{
    UNUSED;
    tpl_val d = make_dict(c, a);
    for (int64_t i = 0; c->rc == FT_OK && i < d.d->n; i++) {
        if (d.d->k[i].t == TV_STR && d.d->k[i].n && d.d->k[i].s[0] == '_') {
            return tpl_fail(c, "a namespace cannot hold names that begin with an underscore");
        }
    }
    d.t = TV_NS;
    return c->rc == FT_OK ? d : tpl_undef();
}

ROW(g_cycler)
{
    UNUSED;
    tpl_val v2 = tpl_list_new(c, TV_CYCLER, a->n);
    if (!a->n) return tpl_fail(c, "at least one item has to be provided");
    for (int i = 0; i < a->n; i++) tpl_list_add(c, v2.l, a->v[i]);
    return v2;
}

ROW(g_joiner)
{
    UNUSED;
    tpl_val j = tpl_list_new(c, TV_JOINER, 1);
    tpl_list_add(c, j.l, tpl_absent(b[0]) ? tpl_strn(", ", 2) : b[0]);
    return j;
}

ROW(g_raise)
{
    UNUSED;
    tpl_val s = tpl_to_str(c, b[0]);
    if (c->rc != FT_OK) return s;
    const char *shown[4] = {"", "", "", ""}; /* ft_show cuts at 80 bytes */
    for (int64_t i = 0, from = 0; i < 4 && from < s.n; i++) {
        int64_t to = s.n - from > 72 ? from + 72 : s.n;
        while (to < s.n && ((unsigned char)s.s[to] & 0xC0) == 0x80) to--;
        shown[i] = ft_show(s.s + from, (size_t)(to - from));
        from = to;
    }
    c->rc = ft_fail(FT_EDATA, "%s:%d: the chat template refuses this conversation: %s%s%s%s",
                    c->t->name, c->line, shown[0], shown[1], shown[2], shown[3]);
    return tpl_undef();
}

/* SOURCE_DATE_EPOCH, the usual variable of reproducible builds, replaces the clock. */
ROW(g_strftime)
{
    UNUSED;
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    time_t now = fixed ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    struct tm tm;
    char fmt[256], out[1024];
    if (b[0].t != TV_STR || b[0].n >= (int64_t)sizeof fmt)
        return tpl_fail(c, "strftime_now: bad format");
    memcpy(fmt, b[0].s, (size_t)b[0].n);
    fmt[b[0].n] = 0;
    if (!(fixed ? gmtime_r(&now, &tm) : localtime_r(&now, &tm))) return tpl_fail(c, "bad time");
    return tpl_copy(c, out, strftime(out, sizeof out, fmt, &tm));
}

static const tpl_func globals[] = {
    {"range", g_range, "start stop step", 1, 0},
    {"dict", g_dict, "*", 0, 0},
    {"namespace", g_namespace, "*", 0, 0},
    {"cycler", g_cycler, "*", 0, 0},
    {"joiner", g_joiner, "sep", 0, 0},
    {"raise_exception", g_raise, "message", 1, 0},
    {"strftime_now", g_strftime, "format", 1, 0},
};

const tpl_func *tpl_find_global(const char *name)
{
    return tpl_row(globals, FT_COUNT_OF(globals), name, strlen(name));
}

/* --- loops and cyclers ---------------------------------------------------------------------------------------- */
ROW(l_cycle)
{
    UNUSED;
    if (!a->n) return tpl_fail(c, "no items for cycling given");
    return a->v[v.loop->index % a->n];
}

ROW(l_changed)
{
    UNUSED;
    tpl_val t = tpl_list_new(c, TV_TUPLE, a->n);
    for (int i = 0; i < a->n && c->rc == FT_OK; i++) tpl_list_add(c, t.l, a->v[i]);
    if (c->rc != FT_OK) return t;
    bool changed = !v.loop->has_changed || !tpl_equal(c, v.loop->changed, t);
    v.loop->has_changed = true;
    v.loop->changed = t;
    return tpl_bool(changed);
}

ROW(c_next)
{
    UNUSED;
    return v.l->v[v.l->pos++ % v.l->n];
}

ROW(c_reset)
{
    UNUSED;
    v.l->pos = 0;
    return tpl_none();
}

static const tpl_func helpers[] = {
    {"cycle", l_cycle, "*", 0, 1u << TV_LOOP},
    {"changed", l_changed, "*", 0, 1u << TV_LOOP},
    {"next", c_next, "", 0, 1u << TV_CYCLER},
    {"reset", c_reset, "", 0, 1u << TV_CYCLER},
};

const tpl_func *tpl_find_helper(tpl_val self, const char *name, size_t n)
{
    const tpl_func *fn = tpl_row(helpers, FT_COUNT_OF(helpers), name, n);
    return fn && (fn->types & (1u << self.t)) ? fn : NULL;
}
