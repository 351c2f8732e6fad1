/* eval.c – walking the tree: expressions, statements, scopes, macros, and the public entry points.
 *
 * Scopes are Jinja's: `if` has none of its own, a loop iteration, a block and a macro do, assignments go to
 * the innermost one, and a macro sees the scope it was written in, not that of its caller. */
#include "template_private.h"

#include <string.h>

/* --- names ---------------------------------------------------------------------------------------------- */
static tpl_frame *push_frame(tpl_ctx *c, tpl_frame *up)
{
    tpl_frame *f = tpl_get(c, sizeof *f);
    if (f) f->up = up;
    return f;
}

static void bind_name(tpl_ctx *c, tpl_frame *f, const char *name, tpl_val v)
{
    if (c->rc != FT_OK || !f) return;
    for (int i = 0; i < f->n; i++) {
        if (f->var[i].name == name) {
            f->var[i].v = v;
            return;
        }
    }
    if (f->n == f->cap) {
        int cap = f->cap ? 2 * f->cap : 8;
        tpl_var *more = tpl_get(c, (size_t)cap * sizeof *more);
        if (!more) return;
        if (f->n) memcpy(more, f->var, (size_t)f->n * sizeof *more);
        f->var = more;
        f->cap = cap;
    }
    f->var[f->n++] = (tpl_var){name, v};
}

static tpl_val lookup(tpl_ctx *c, const char *name)
{
    for (const tpl_frame *f = c->frame; f; f = f->up) {
        for (int i = 0; i < f->n; i++) {
            if (f->var[i].name == name) return f->var[i].v;
        }
    }
    const cJSON *j = js_get(c->vars, name);
    const tpl_func *fn = j ? NULL : tpl_find_global(name);
    if (!j && !fn) return (tpl_val){.t = TV_UNDEF, .n = (int64_t)strlen(name), .s = name};
    tpl_val v = j ? tpl_from_json(c, j) : (tpl_val){.t = TV_FUNC, .fn = fn};
    bind_name(c, c->root, name, v);
    return v;
}

static void assign(tpl_ctx *c, const tpl_node *to, tpl_val v)
{
    if (c->rc != FT_OK) return;
    if (to->kind == TN_NAME) {
        bind_name(c, c->frame, to->name, v);
    } else if (to->kind == TN_NS_ATTR) {
        tpl_val ns = lookup(c, to->a->name);
        if (ns.t != TV_NS)
            tpl_fail(c, "cannot assign attribute on non-namespace object");
        else if (to->name[0] == '_')
            tpl_fail(c, "a namespace cannot hold names that begin with an underscore");
        else
            tpl_dict_set(c, ns.d, tpl_strn(to->name, strlen(to->name)), v);
    } else {
        tpl_list l = tpl_items(c, v);
        if (c->rc == FT_OK && l.n != to->list.n) {
            tpl_fail(c, "cannot unpack %lld values into %d names", (long long)l.n, to->list.n);
        }
        for (int i = 0; i < to->list.n && c->rc == FT_OK; i++) assign(c, to->list.v[i], l.v[i]);
    }
}

/* --- calls ------------------------------------------------------------------------------------------------ */
static bool eval_args(tpl_ctx *c, const tpl_node *n, tpl_args *a, int spare_kw)
{
    tpl_list rest = {0};
    tpl_val more = tpl_undef();
    int n_more = 0;
    *a = (tpl_args){0};
    if (n->star) rest = tpl_items(c, tpl_eval(c, n->star));
    if (n->star2) {
        more = tpl_eval(c, n->star2);
        if (c->rc == FT_OK && more.t != TV_DICT) tpl_fail(c, "argument after ** must be a mapping");
        if (c->rc == FT_OK) n_more = (int)more.d->n;
    }
    if (c->rc != FT_OK || rest.n > TPL_MAX_RANGE) return false;
    int count = n->list.n + (int)rest.n, kws = n->n_kw + n_more + spare_kw;
    a->v = count ? tpl_get(c, (size_t)count * sizeof *a->v) : NULL;
    a->kw = kws ? tpl_get(c, (size_t)kws * sizeof *a->kw) : NULL;
    if (c->rc != FT_OK) return false;
    for (int i = 0; i < n->list.n; i++) a->v[a->n++] = tpl_eval(c, n->list.v[i]);
    for (int64_t i = 0; i < rest.n; i++) a->v[a->n++] = rest.v[i];
    for (int i = 0; i < n->n_kw; i++) {
        a->kw[a->n_kw++] = (tpl_kw){n->kw[i].name, tpl_eval(c, n->kw[i].value)};
    }
    for (int i = 0; i < n_more && c->rc == FT_OK; i++) {
        tpl_val k = more.d->k[i];
        char *name = k.t == TV_STR ? tpl_get(c, (size_t)k.n + 1) : NULL;
        if (!name) {
            tpl_fail(c, "keywords must be strings");
            return false;
        }
        memcpy(name, k.s, (size_t)k.n);
        a->kw[a->n_kw++] = (tpl_kw){name, more.d->v[i]};
    }
    return c->rc == FT_OK;
}

/* Text that the statements write. */
static tpl_val capture(tpl_ctx *c, const tpl_body *b)
{
    str_buf text = {0};
    str_buf *out = c->out;
    c->out = &text;
    tpl_exec(c, b);
    c->out = out;
    return tpl_buf(c, &text);
}

static bool take_kw(const tpl_args *a, bool *used, const char *name, tpl_val *v)
{
    for (int i = 0; i < a->n_kw; i++) {
        if (used[i] || strcmp(a->kw[i].name, name) != 0) continue;
        used[i] = true;
        *v = a->kw[i].v;
        return true;
    }
    return false;
}

static void macro_rest(tpl_ctx *c, const tpl_node *n, const tpl_args *a, const bool *used)
{
    tpl_val extra = tpl_list_new(c, TV_TUPLE, 0), kwargs = tpl_dict_new(c, 0);
    for (int i = n->n_kw; i < a->n && c->rc == FT_OK; i++) tpl_list_add(c, extra.l, a->v[i]);
    for (int i = 0; i < a->n_kw && c->rc == FT_OK; i++) {
        if (used[i]) continue;
        if (!n->catch_kwargs) {
            tpl_fail(c, "macro takes no keyword argument %s", ft_shows(a->kw[i].name));
            return;
        }
        tpl_dict_set(c, kwargs.d, tpl_strn(a->kw[i].name, strlen(a->kw[i].name)), a->kw[i].v);
    }
    if (a->n > n->n_kw && !n->catch_varargs) {
        tpl_fail(c, "macro takes not more than %d argument(s)", n->n_kw);
    }
    tpl_template *t =
        (tpl_template *)(uintptr_t)c->t; /* both names stand in the source, so in the table */
    if (n->catch_varargs) bind_name(c, c->frame, tpl_intern(t, "varargs", 7), extra);
    if (n->catch_kwargs) bind_name(c, c->frame, tpl_intern(t, "kwargs", 6), kwargs);
}

static tpl_val call_macro(tpl_ctx *c, const tpl_macro *m, const tpl_args *a)
{
    const tpl_node *n = m->node;
    tpl_frame *saved = c->frame;
    bool *used = a->n_kw ? tpl_get(c, (size_t)a->n_kw * sizeof *used) : NULL;
    tpl_val v, out = tpl_undef();
    if (c->depth >= TPL_MAX_DEPTH) return tpl_fail(c, "calls nested too deeply");
    c->depth += 4; /* a call uses more stack than an expression */
    c->frame = push_frame(c, m->frame);
    for (int i = 0; i < n->n_kw && c->rc == FT_OK; i++) {
        if (i < a->n) {
            v = a->v[i];
        } else if (!take_kw(a, used, n->kw[i].name, &v)) {
            v = n->kw[i].value ? tpl_eval(c, n->kw[i].value) : tpl_undef();
            if (!n->kw[i].value) v.s = n->kw[i].name, v.n = (int64_t)strlen(v.s);
        }
        bind_name(c, c->frame, n->kw[i].name, v);
    }
    if (n->op && c->rc == FT_OK) { /* the body speaks of its caller */
        v = tpl_undef();
        take_kw(a, used, "caller", &v);
        bind_name(c, c->frame, tpl_intern((tpl_template *)(uintptr_t)c->t, "caller", 6), v);
    }
    if (c->rc == FT_OK) macro_rest(c, n, a, used);
    if (c->rc == FT_OK) out = capture(c, &n->body);
    c->frame = saved;
    c->depth -= 4;
    return out;
}

static void run_loop(tpl_ctx *c, const tpl_node *n, tpl_val items, int64_t depth);

static tpl_val call_loop(tpl_ctx *c, const tpl_loop *l, const tpl_args *a)
{
    if (!l->node)
        return tpl_fail(c, "the loop must have the 'recursive' marker to be called recursively");
    if (a->n != 1) return tpl_fail(c, "loop() takes one argument");
    if (c->depth >= TPL_MAX_DEPTH) return tpl_fail(c, "calls nested too deeply");
    str_buf text = {0}, *out = c->out;
    tpl_frame *saved = c->frame;
    c->depth += 4;
    c->out = &text;
    c->frame = l->frame;
    run_loop(c, l->node, a->v[0], l->depth + 1);
    c->frame = saved;
    c->out = out;
    c->depth -= 4;
    return tpl_buf(c, &text);
}

tpl_val tpl_call(tpl_ctx *c, tpl_val callee, const tpl_args *a)
{
    if (c->rc != FT_OK) return tpl_undef();
    switch (callee.t) {
    case TV_FUNC:
        return tpl_apply(c, callee.fn, tpl_undef(), a);
    case TV_METHOD:
        return tpl_apply(c, callee.bound->fn, callee.bound->self, a);
    case TV_MACRO:
        return call_macro(c, callee.m, a);
    case TV_LOOP:
        return call_loop(c, callee.loop, a);
    case TV_JOINER:
        return callee.l->pos++ ? callee.l->v[0] : tpl_strn("", 0);
    case TV_UNDEF:
        return tpl_attr(c, callee, "", 0); /* fails with its name */
    default:
        return tpl_fail(c, "'%s' object is not callable", tpl_type_name(callee));
    }
}

/* --- expressions --------------------------------------------------------------------------------------------- */
static tpl_val eval_const(tpl_ctx *c, const tpl_node *n)
{
    (void)c;
    return n->val;
}

static tpl_val eval_name(tpl_ctx *c, const tpl_node *n)
{
    return lookup(c, n->name);
}

static tpl_val eval_list(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = tpl_list_new(c, n->kind == TN_LIST ? TV_LIST : TV_TUPLE, n->list.n);
    for (int i = 0; i < n->list.n && c->rc == FT_OK; i++)
        tpl_list_add(c, v.l, tpl_eval(c, n->list.v[i]));
    return v;
}

static tpl_val eval_dict(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = tpl_dict_new(c, n->list.n / 2);
    for (int i = 0; i + 1 < n->list.n && c->rc == FT_OK; i += 2) {
        tpl_val k = tpl_eval(c, n->list.v[i]);
        tpl_dict_set(c, v.d, k, tpl_eval(c, n->list.v[i + 1]));
    }
    return v;
}

static tpl_val eval_not(tpl_ctx *c, const tpl_node *n)
{
    return tpl_bool(!tpl_truth(tpl_eval(c, n->a)));
}

static tpl_val eval_and(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = tpl_eval(c, n->a);
    return tpl_truth(v) ? tpl_eval(c, n->b) : v;
}

static tpl_val eval_or(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = tpl_eval(c, n->a);
    return tpl_truth(v) ? v : tpl_eval(c, n->b);
}

static tpl_val eval_if(tpl_ctx *c, const tpl_node *n)
{
    if (tpl_truth(tpl_eval(c, n->a))) return tpl_eval(c, n->b);
    return n->c ? tpl_eval(c, n->c) : tpl_undef();
}

static bool compare(tpl_ctx *c, int op, tpl_val a, tpl_val b)
{
    if (op == TC_EQ) return tpl_equal(c, a, b);
    if (op == TC_NE) return !tpl_equal(c, a, b);
    if (op == TC_IN) return tpl_contains(c, a, b);
    if (op == TC_NOT_IN) return !tpl_contains(c, a, b);
    int d = tpl_order(c, a, b);
    return op == TC_LT   ? d == -1
           : op == TC_LE ? d == -1 || d == 0
           : op == TC_GT ? d == 1
                         : d == 1 || d == 0;
}

static tpl_val eval_compare(tpl_ctx *c, const tpl_node *n)
{
    tpl_val a = tpl_eval(c, n->a);
    for (int i = 0; i < n->list.n && c->rc == FT_OK; i++) {
        tpl_val b = tpl_eval(c, n->list.v[i]);
        if (c->rc != FT_OK || !compare(c, n->ops[i], a, b)) return tpl_bool(false);
        a = b;
    }
    return tpl_bool(true);
}

static tpl_val eval_arith(tpl_ctx *c, const tpl_node *n)
{
    tpl_val a = tpl_eval(c, n->a);
    return tpl_arith(c, n->op, a, tpl_eval(c, n->b));
}

static tpl_val eval_concat(tpl_ctx *c, const tpl_node *n)
{
    str_buf text = {0};
    for (int i = 0; i < n->list.n && c->rc == FT_OK; i++)
        tpl_str(c, &text, tpl_eval(c, n->list.v[i]));
    return tpl_buf(c, &text);
}

static tpl_val eval_sign(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = tpl_eval(c, n->a);
    double f;
    if (c->rc == FT_OK && !tpl_number(v, &f) && v.t != TV_BIG && v.t != TV_UNDEF) {
        return tpl_fail(c, "bad operand type for unary %c: '%s'", n->kind == TN_NEG ? '-' : '+',
                        tpl_type_name(v));
    }
    if (v.t == TV_FLOAT) return tpl_float(n->kind == TN_NEG ? -v.f : v.f);
    return tpl_arith(c, n->kind == TN_NEG ? '-' : '+', tpl_int(0), v);
}

static tpl_val eval_attr(tpl_ctx *c, const tpl_node *n)
{
    return tpl_attr(c, tpl_eval(c, n->a), n->name, strlen(n->name));
}

static tpl_val eval_item(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = tpl_eval(c, n->a);
    return tpl_item(c, v, tpl_eval(c, n->b));
}

static tpl_val eval_slice(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = tpl_eval(c, n->a);
    tpl_val from = n->b ? tpl_eval(c, n->b) : tpl_none(),
            to = n->c ? tpl_eval(c, n->c) : tpl_none();
    return tpl_slice(c, v, from, to, n->list.v[0] ? tpl_eval(c, n->list.v[0]) : tpl_none());
}

static tpl_val eval_call(tpl_ctx *c, const tpl_node *n)
{
    tpl_args a;
    tpl_val callee = tpl_eval(c, n->a);
    if (c->rc != FT_OK || !eval_args(c, n, &a, 0)) return tpl_undef();
    c->line = n->line;
    return tpl_call(c, callee, &a);
}

static tpl_val apply(tpl_ctx *c, const tpl_node *n, tpl_val v)
{
    tpl_args a;
    if (c->rc != FT_OK || !eval_args(c, n, &a, 0)) return tpl_undef();
    c->line = n->line;
    if (!n->fn) {
        return tpl_fail(c, "no %s named %s", n->kind == TN_FILTER ? "filter" : "test",
                        ft_shows(n->name));
    }
    return tpl_apply(c, n->fn, v, &a);
}

static tpl_val eval_filter(tpl_ctx *c, const tpl_node *n)
{
    return apply(c, n, tpl_eval(c, n->a));
}

typedef tpl_val (*eval_fn)(tpl_ctx *c, const tpl_node *n);
static const eval_fn evals[TN_KINDS] = {
    [TN_CONST] = eval_const,     [TN_NAME] = eval_name,   [TN_LIST] = eval_list,
    [TN_TUPLE] = eval_list,      [TN_DICT] = eval_dict,   [TN_NOT] = eval_not,
    [TN_AND] = eval_and,         [TN_OR] = eval_or,       [TN_IF_EXPR] = eval_if,
    [TN_COMPARE] = eval_compare, [TN_ARITH] = eval_arith, [TN_CONCAT] = eval_concat,
    [TN_NEG] = eval_sign,        [TN_POS] = eval_sign,    [TN_ATTR] = eval_attr,
    [TN_ITEM] = eval_item,       [TN_SLICE] = eval_slice, [TN_CALL] = eval_call,
    [TN_FILTER] = eval_filter,   [TN_TEST] = eval_filter,
};

tpl_val tpl_eval(tpl_ctx *c, const tpl_node *n)
{
    if (!tpl_work(c, 1)) return tpl_undef();
    if (c->depth >= TPL_MAX_DEPTH) return tpl_fail(c, "expressions nested too deeply");
    c->depth++;
    c->line = n->line;
    tpl_val v = evals[n->kind](c, n);
    c->depth--;
    return c->rc == FT_OK ? v : tpl_undef();
}

/* --- statements ------------------------------------------------------------------------------------------------ */
static void exec_text(tpl_ctx *c, const tpl_node *n)
{
    tpl_str(c, c->out, n->val);
}

/* A sum of texts is written part by part: a long text would stand there once for each of its signs. *written: all of it is,
 * and the value is void. */
static tpl_val print_sum(tpl_ctx *c, const tpl_node *n, size_t from, bool *written)
{
    *written = false;
    if (n->kind != TN_ARITH || n->op != '+' || c->depth >= TPL_MAX_DEPTH || !tpl_work(c, 1))
        return tpl_eval(c, n);
    c->depth++;
    bool left;
    tpl_val a = print_sum(c, n->a, from, &left);
    if (!left && c->rc == FT_OK && a.t == TV_STR && !a.flag) {
        tpl_str(c, c->out, a);
        left = true;
    }
    tpl_val b = c->rc == FT_OK ? tpl_eval(c, n->b) : tpl_undef();
    c->depth--;
    if (c->rc != FT_OK) return tpl_undef();
    if (left && b.t == TV_STR && !b.flag) {
        tpl_str(c, c->out, b);
        *written = true;
        return a;
    }
    if (left) { /* it is a value after all */
        a = tpl_copy(c, c->out->data ? c->out->data + from : "", c->out->len - from);
        c->out->len = from;
        if (c->out->data) c->out->data[from] = 0;
    }
    return tpl_arith(c, '+', a, b);
}

static void exec_print(tpl_ctx *c, const tpl_node *n)
{
    for (int i = 0; i < n->list.n && c->rc == FT_OK; i++) {
        bool written;
        tpl_val v = print_sum(c, n->list.v[i], c->out->len, &written);
        if (c->rc == FT_OK && !written) tpl_str(c, c->out, v);
    }
}

static void exec_if(tpl_ctx *c, const tpl_node *n)
{
    bool yes = tpl_truth(tpl_eval(c, n->a));
    if (c->rc == FT_OK) tpl_exec(c, yes ? &n->body : &n->other);
}

static tpl_list loop_items(tpl_ctx *c, const tpl_node *n, tpl_val items)
{
    tpl_list all = tpl_items(c, items), kept = {0};
    if (!n->c) return all;
    tpl_frame *saved = c->frame;
    c->frame = push_frame(c, saved);
    for (int64_t i = 0; i < all.n && c->rc == FT_OK; i++) {
        assign(c, n->a, all.v[i]);
        bool keep = c->rc == FT_OK && tpl_truth(tpl_eval(c, n->c));
        if (keep) tpl_list_add(c, &kept, all.v[i]);
    }
    c->frame = saved;
    return kept;
}

static void run_loop(tpl_ctx *c, const tpl_node *n, tpl_val items, int64_t depth)
{
    tpl_frame *saved = c->frame, *f = push_frame(c, saved);
    tpl_loop *l = tpl_get(c, sizeof *l);
    if (!l || !f) return;
    l->items = loop_items(c, n, items);
    l->depth = depth;
    l->node = n->recursive ? n : NULL;
    l->frame = saved;
    const char *name = tpl_intern((tpl_template *)(uintptr_t)c->t, "loop", 4);
    for (; l->index < l->items.n && tpl_work(c, 1); l->index++) {
        f->n = 0;
        c->frame = f;
        bind_name(c, f, name, (tpl_val){.t = TV_LOOP, .loop = l});
        assign(c, n->a, l->items.v[l->index]);
        tpl_exec(c, &n->body);
        c->frame = saved;
        bool stop = c->flow == TPL_BREAK;
        c->flow = TPL_GO;
        if (stop || c->rc != FT_OK) break;
    }
    if (!l->items.n && c->rc == FT_OK) {
        f->n = 0;
        c->frame = f;
        tpl_exec(c, &n->other);
        c->frame = saved;
    }
}

static void exec_for(tpl_ctx *c, const tpl_node *n)
{
    tpl_val items = tpl_eval(c, n->b);
    if (c->rc == FT_OK) run_loop(c, n, items, 0);
}

static void exec_set(tpl_ctx *c, const tpl_node *n)
{
    assign(c, n->a, tpl_eval(c, n->b));
}

static tpl_val through_filters(tpl_ctx *c, const tpl_node *n, tpl_val v)
{
    if (!n) return v;
    return apply(c, n, n->a ? through_filters(c, n->a, v) : v);
}

static void exec_scope(tpl_ctx *c, const tpl_node *n)
{
    tpl_frame *saved = c->frame;
    if (n->a) tpl_eval(c, n->a);
    c->frame = push_frame(c, saved);
    if (c->rc == FT_OK) tpl_exec(c, &n->body);
    c->frame = saved;
}

static tpl_val block_text(tpl_ctx *c, const tpl_node *n) /* in a scope of its own */
{
    tpl_frame *saved = c->frame;
    c->frame = push_frame(c, saved);
    tpl_val v = capture(c, &n->body);
    c->frame = saved;
    return through_filters(c, n->b, v);
}

static void exec_set_block(tpl_ctx *c, const tpl_node *n)
{
    assign(c, n->a, block_text(c, n));
}

static void exec_filter_block(tpl_ctx *c, const tpl_node *n)
{
    tpl_val v = block_text(c, n);
    if (c->rc == FT_OK) tpl_str(c, c->out, v);
}

static tpl_val make_macro(tpl_ctx *c, const tpl_node *n)
{
    tpl_macro *m = tpl_get(c, sizeof *m);
    if (!m) return tpl_undef();
    *m = (tpl_macro){n, c->frame, n->name};
    return (tpl_val){.t = TV_MACRO, .m = m};
}

static void exec_macro(tpl_ctx *c, const tpl_node *n)
{
    bind_name(c, c->frame, n->name, make_macro(c, n));
}

static void exec_call_block(tpl_ctx *c, const tpl_node *n)
{
    tpl_args a;
    tpl_val callee = tpl_eval(c, n->a->a);
    if (c->rc != FT_OK || !eval_args(c, n->a, &a, 1)) return;
    a.kw[a.n_kw++] = (tpl_kw){"caller", make_macro(c, n)};
    tpl_val v = tpl_call(c, callee, &a);
    if (c->rc == FT_OK) tpl_str(c, c->out, v);
}

static void exec_with(tpl_ctx *c, const tpl_node *n)
{
    tpl_frame *saved = c->frame, *f = push_frame(c, saved);
    for (int i = 0; i < n->list.n && c->rc == FT_OK; i++) { /* values see the scope outside */
        tpl_val v = tpl_eval(c, n->list.v[i]->b);
        c->frame = f;
        assign(c, n->list.v[i]->a, v);
        c->frame = saved;
    }
    c->frame = f;
    if (c->rc == FT_OK) tpl_exec(c, &n->body);
    c->frame = saved;
}

static void exec_generation(tpl_ctx *c, const tpl_node *n)
{
    int64_t from = (int64_t)c->out->len;
    exec_scope(c, n);
    if (!c->spans || c->out != c->root_out || c->rc != FT_OK) return;
    if (c->spans->n == c->spans->cap) {
        int64_t cap = 2 * c->spans->cap + 8;
        tpl_span *v = ft_realloc(c->spans->v, (size_t)cap, sizeof *v);
        if (!v) {
            c->rc = FT_EMEM;
            return;
        }
        c->spans->v = v;
        c->spans->cap = cap;
    }
    c->spans->v[c->spans->n++] = (tpl_span){from, (int64_t)c->out->len};
}

static void exec_break(tpl_ctx *c, const tpl_node *n)
{
    c->flow = n->kind == TN_BREAK ? TPL_BREAK : TPL_CONTINUE;
}

static void exec_unsupported(tpl_ctx *c, const tpl_node *n)
{
    (void)n;
    tpl_fail(c, "templates cannot read other files (include, import, extends)");
}

typedef void (*exec_fn)(tpl_ctx *c, const tpl_node *n);
static const exec_fn execs[TN_KINDS] = {
    [TN_TEXT] = exec_text,
    [TN_PRINT] = exec_print,
    [TN_IF] = exec_if,
    [TN_FOR] = exec_for,
    [TN_SET] = exec_set,
    [TN_SET_BLOCK] = exec_set_block,
    [TN_MACRO] = exec_macro,
    [TN_CALL_BLOCK] = exec_call_block,
    [TN_FILTER_BLOCK] = exec_filter_block,
    [TN_WITH] = exec_with,
    [TN_SCOPE] = exec_scope,
    [TN_GENERATION] = exec_generation,
    [TN_BREAK] = exec_break,
    [TN_CONTINUE] = exec_break,
    [TN_UNSUPPORTED] = exec_unsupported,
};

void tpl_exec(tpl_ctx *c, const tpl_body *b)
{
    if (c->depth >= TPL_MAX_DEPTH) {
        tpl_fail(c, "blocks nested too deeply");
        return;
    }
    c->depth++;
    for (int i = 0; i < b->n && c->flow == TPL_GO && tpl_work(c, 1); i++) {
        c->line = b->v[i]->line;
        execs[b->v[i]->kind](c, b->v[i]);
    }
    c->depth--;
}

/* --- entry points ------------------------------------------------------------------------------------------------ */
ft_status tpl_open(tpl_template **out, const char *text, size_t len, const char *name)
{
    tpl_template *t = ft_alloc(1, sizeof *t);
    tpl_tok *tok = NULL;
    int64_t n = 0;
    ft_status rc = t ? FT_OK : FT_EMEM;
    *out = NULL;
    if (rc == FT_OK && len > (1u << 20))
        rc = ft_fail(FT_EDATA, "%s: chat template too large", name);
    if (rc == FT_OK) rc = arena_open(&t->mem, "chat template", 512 * len + (1u << 20));
    if (rc == FT_OK && !(t->name = arena_str(t->mem, name))) rc = FT_EMEM;
    if (rc == FT_OK && !(t->arenas = arena_get(t->mem, sizeof *t->arenas))) rc = FT_EMEM;
    if (rc == FT_OK) {
        static const char *const known[] = {"loop", "caller", "varargs", "kwargs"};
        for (size_t i = 0; i < FT_COUNT_OF(known); i++) {
            if (!tpl_intern(t, known[i], strlen(known[i]))) rc = FT_EMEM;
        }
    }
    if (rc == FT_OK) rc = tpl_lex(t, text, len, &tok, &n);
    if (rc == FT_OK) rc = tpl_parse(t, tok);
    if (rc != FT_OK)
        tpl_close(t);
    else
        *out = t;
    return rc;
}

void tpl_close(tpl_template *t)
{
    if (!t) return;
    for (arena *a; t->arenas && (a = ft_spare_take(t->arenas));) arena_close(a);
    arena_close(t->mem);
    ft_free(t);
}

/* Address space is taken and given back by the system, which costs more than a rendering. */
static void give_back(const tpl_template *t, arena *mem)
{
    bool small = arena_peak(mem) <= TPL_KEEP_MEMORY;
    arena_reset(mem, 0);
    if (!small || !ft_spare_give(t->arenas, mem)) arena_close(mem);
}

ft_status tpl_render_spans(const tpl_template *t, const cJSON *vars, str_buf *out, tpl_spans *spans)
{
    tpl_ctx c = {.t = t, .vars = vars, .spans = spans, .out = out, .root_out = out};
    size_t before = out->len;
    int64_t first = spans ? spans->n : 0;
    c.mem = ft_spare_take(t->arenas);
    if (!c.mem) FT_TRY(arena_open(&c.mem, "chat rendering", TPL_MAX_MEMORY));
    c.root = c.frame = push_frame(&c, NULL);
    tpl_exec(&c, &t->body);
    give_back(t, c.mem);
    for (int64_t i = first; spans && i < spans->n; i++) { /* relative to what this call wrote */
        spans->v[i].from -= (int64_t)before;
        spans->v[i].to -= (int64_t)before;
    }
    FT_TRY(c.rc);
    return str_ok(out);
}
