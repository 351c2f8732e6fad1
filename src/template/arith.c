/* arith.c – the operators + − * / // % **, with the outcome Python has; whole numbers stay within 64 bits. */
#include "template_private.h"

#include <math.h>
#include <string.h>

static tpl_val escape_html(tpl_ctx *c, tpl_val s)
{
    str_buf b = {0};
    for (int64_t i = 0; i < s.n; i++) {
        static const char *const to[] = {
            ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['\''] = "&#39;", ['"'] = "&#34;"};
        unsigned char ch = (unsigned char)s.s[i];
        if (ch < FT_COUNT_OF(to) && to[ch])
            str_adds(&b, to[ch]);
        else
            str_addc(&b, s.s[i]);
    }
    return tpl_buf(c, &b);
}

static tpl_val concat(tpl_ctx *c, tpl_val a, tpl_val b)
{
    bool safe = a.flag || b.flag;
    if (safe && !a.flag) a = escape_html(c, a);
    if (safe && !b.flag) b = escape_html(c, b);
    if (c->rc != FT_OK) return tpl_undef();
    /* What was made last can grow in place: repeated s = s + x stays linear. */
    size_t slack = (size_t)(-a.n & 7), more = (size_t)b.n;
    if (a.n && a.s + a.n + slack == c->chunk && more <= slack + c->left && b.n < 4096) {
        char *p = c->chunk - slack;
        bool fresh = true; /* the padding may already belong to a longer string */
        for (size_t i = 0; i < slack; i++) fresh = fresh && !p[i];
        if (fresh && tpl_work(c, b.n / 16 + 1)) {
            size_t taken = more > slack ? (more - slack + 7) & ~(size_t)7 : 0;
            if (taken <= c->left) {
                memcpy(p, b.s, more);
                if (taken) memset(p + more, 0, slack + taken - more);
                c->chunk += taken;
                c->left -= taken;
                a.n += b.n;
                a.flag = safe;
                return a;
            }
        }
    }
    char *p = tpl_get(c, (size_t)(a.n + b.n) + 1);
    if (!p) return tpl_undef();
    if (a.n) memcpy(p, a.s, (size_t)a.n);
    if (b.n) memcpy(p + a.n, b.s, (size_t)b.n);
    tpl_val v = tpl_strn(p, (size_t)(a.n + b.n));
    v.flag = safe;
    return v;
}

static tpl_val repeat(tpl_ctx *c, tpl_val a, int64_t times)
{
    if (times < 0) times = 0;
    if (a.t == TV_STR) {
        if (a.n && times > TPL_MAX_OUTPUT / a.n) return tpl_fail(c, "string too long");
        char *p = tpl_get(c, (size_t)(a.n * times) + 1);
        if (!p) return tpl_undef();
        for (int64_t i = 0; a.n && i < times; i++) memcpy(p + i * a.n, a.s, (size_t)a.n);
        tpl_val v = tpl_strn(p, (size_t)(a.n * times));
        v.flag = a.flag;
        return v;
    }
    if (a.l->n && times > TPL_MAX_RANGE / a.l->n) return tpl_fail(c, "list too long");
    tpl_val v = tpl_list_new(c, a.t, a.l->n * times);
    for (int64_t i = 0; c->rc == FT_OK && i < times; i++) {
        for (int64_t j = 0; j < a.l->n; j++) tpl_list_add(c, v.l, a.l->v[j]);
    }
    return v;
}

static tpl_val join_lists(tpl_ctx *c, tpl_val a, tpl_val b)
{
    tpl_val v = tpl_list_new(c, a.t, a.l->n + b.l->n);
    for (int64_t i = 0; c->rc == FT_OK && i < a.l->n; i++) tpl_list_add(c, v.l, a.l->v[i]);
    for (int64_t i = 0; c->rc == FT_OK && i < b.l->n; i++) tpl_list_add(c, v.l, b.l->v[i]);
    return v;
}

static tpl_val power(tpl_ctx *c, int64_t a, int64_t b)
{
    int64_t r = 1;
    if (b < 0) return a ? tpl_float(pow((double)a, (double)b)) : tpl_fail(c, "division by zero");
    if (a == 0 || a == 1) return tpl_int(b ? a : 1);
    if (a == -1) return tpl_int(b & 1 ? -1 : 1);
    for (int64_t i = 0; i < b; i++) {
        if (__builtin_mul_overflow(r, a, &r)) return tpl_fail(c, "integer too large");
    }
    return tpl_int(r);
}

static tpl_val int_arith(tpl_ctx *c, int op, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool over = false;
    if ((op == '/' || op == 'f' || op == '%') && !b) return tpl_fail(c, "division by zero");
    if (b == -1 && (op == 'f' || op == '%')) { /* the quotient of INT64_MIN does not fit */
        if (op == '%') return tpl_int(0);
        over = __builtin_sub_overflow((int64_t)0, a, &r);
        return over ? tpl_fail(c, "integer too large") : tpl_int(r);
    }
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case '/':
        return tpl_float((double)a / (double)b);
    case 'f':
        r = a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    case '%':
        r = a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
        break;
    default:
        return power(c, a, b);
    }
    return over ? tpl_fail(c, "integer too large") : tpl_int(r);
}

static tpl_val float_arith(tpl_ctx *c, int op, double a, double b)
{
    if ((op == '/' || op == 'f' || op == '%') && b == 0) return tpl_fail(c, "division by zero");
    switch (op) {
    case '+':
        return tpl_float(a + b);
    case '-':
        return tpl_float(a - b);
    case '*':
        return tpl_float(a * b);
    case '/':
        return tpl_float(a / b);
    case 'p':
        return tpl_float(pow(a, b));
    default:
        break;
    }
    double r = fmod(a, b);
    if (r != 0 && (r < 0) != (b < 0)) r += b;
    if (op == '%') return tpl_float(r != 0 ? r : copysign(0.0, b));
    return tpl_float(floor((a - r) / b + 0.5));
}

tpl_val tpl_arith(tpl_ctx *c, int op, tpl_val a, tpl_val b)
{
    int64_t i, j;
    double x, y;
    if (c->rc != FT_OK) return tpl_undef();
    if (tpl_integer(a, &i) && tpl_integer(b, &j)) return int_arith(c, op, i, j);
    if (tpl_number(a, &x) && tpl_number(b, &y)) return float_arith(c, op, x, y);
    if (op == '+' && a.t == TV_STR && b.t == TV_STR) return concat(c, a, b);
    if (op == '+' && a.t == b.t && (a.t == TV_LIST || a.t == TV_TUPLE)) return join_lists(c, a, b);
    if (op == '%' && a.t == TV_STR) return tpl_percent(c, a, b);
    if (a.t == TV_BIG || b.t == TV_BIG)
        return tpl_fail(c, "whole numbers beyond 64 bits can be printed, not calculated with");
    if (op == '*') {
        bool left = a.t == TV_STR || a.t == TV_LIST || a.t == TV_TUPLE;
        bool right = b.t == TV_STR || b.t == TV_LIST || b.t == TV_TUPLE;
        if (left && tpl_integer(b, &j)) return repeat(c, a, j);
        if (right && tpl_integer(a, &i)) return repeat(c, b, i);
    }
    if (a.t == TV_UNDEF || b.t == TV_UNDEF) return tpl_undef_error(c, a.t == TV_UNDEF ? a : b);
    char name[3] = {(char)op, 0, 0};
    if (op == 'f') name[0] = name[1] = '/';
    if (op == 'p') name[0] = name[1] = '*';
    return tpl_fail(c, "unsupported operand types for %s: '%s' and '%s'", name, tpl_type_name(a),
                    tpl_type_name(b));
}
