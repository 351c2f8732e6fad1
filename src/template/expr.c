/* expr.c – expressions, with Jinja's (not Python's) precedences: ~ binds tighter than + and −, ** is
 * left-associative and looser than unary minus, filters and tests bind tightest.
 *
 * Recursive descent with a depth count: a template nested deeper than TPL_MAX_DEPTH is refused. */
#include "parse.h"

static tpl_node *unary(tpl_parser *x, bool with_filter);

/* --- small tools ----------------------------------------------------------------------------------- */
tpl_node *tpl_parse_fail(tpl_parser *x, const char *what)
{
    if (x->rc == FT_OK) {
        const tpl_tok *k = x->p;
        x->rc = ft_fail(FT_EDATA, "%s:%d: chat template: %s%s%s", x->t->name, k->line, what,
                        k->s && k->type != TT_TEXT ? " at " : "",
                        k->s && k->type != TT_TEXT ? ft_show(k->s, k->n) : "");
    }
    return NULL;
}

tpl_node *tpl_node_new(tpl_parser *x, tpl_kind kind)
{
    if (x->rc != FT_OK) return NULL;
    tpl_node *n = arena_get(x->t->mem, sizeof *n);
    if (!n) {
        x->rc = FT_EMEM;
        return NULL;
    }
    n->kind = (uint8_t)kind;
    n->line = x->p->line;
    return n;
}

void tpl_nodes_add(tpl_parser *x, tpl_nodes *l, tpl_node *n)
{
    if (x->rc != FT_OK) return;
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 8;
        tpl_node **v = arena_raw(x->t->mem, (size_t)cap * sizeof *v);
        if (!v) {
            x->rc = FT_EMEM;
            return;
        }
        if (l->n) memcpy(v, l->v, (size_t)l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = n;
}

void tpl_want_op(tpl_parser *x, const char *op)
{
    if (x->rc == FT_OK && !tpl_take_op(x, op)) {
        tpl_parse_fail(x, op[0] == ')'   ? "expected )"
                          : op[0] == ']' ? "expected ]"
                                         : "unexpected text");
    }
}

const char *tpl_want_name(tpl_parser *x)
{
    if (x->rc != FT_OK) return "";
    if (x->p->type != TT_NAME) {
        tpl_parse_fail(x, "expected a name");
        return "";
    }
    return x->p++->s;
}

bool tpl_deeper(tpl_parser *x)
{
    if (x->rc != FT_OK) return false;
    if (x->depth++ < TPL_MAX_DEPTH) return true;
    tpl_parse_fail(x, "nested too deeply");
    return false;
}

/* --- expressions -------------------------------------------------------------------------------------- */
static tpl_node *constant(tpl_parser *x, tpl_val v)
{
    tpl_node *n = tpl_node_new(x, TN_CONST);
    if (n) n->val = v;
    return n;
}

/* Items up to a closing mark; a list, a tuple or an expression in parentheses. */
static tpl_node *parenthesis(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_TUPLE);
    tpl_nodes l = {0};
    bool comma = false;
    tpl_next(x);
    while (x->rc == FT_OK && !tpl_is_op(x, ")")) {
        tpl_nodes_add(x, &l, tpl_expression(x));
        if (!tpl_take_op(x, ",")) break;
        comma = true;
    }
    tpl_want_op(x, ")");
    if (x->rc != FT_OK) return NULL;
    if (!comma && l.n == 1) return l.v[0];
    n->list = tpl_body_of(&l);
    return n;
}

static tpl_node *list_literal(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_LIST);
    tpl_nodes l = {0};
    tpl_next(x);
    while (x->rc == FT_OK && !tpl_is_op(x, "]")) {
        tpl_nodes_add(x, &l, tpl_expression(x));
        if (!tpl_take_op(x, ",")) break;
    }
    tpl_want_op(x, "]");
    if (n) n->list = tpl_body_of(&l);
    return n;
}

static tpl_node *dict_literal(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_DICT);
    tpl_nodes l = {0};
    tpl_next(x);
    while (x->rc == FT_OK && !tpl_is_op(x, "}")) {
        tpl_nodes_add(x, &l, tpl_expression(x));
        tpl_want_op(x, ":");
        tpl_nodes_add(x, &l, tpl_expression(x));
        if (!tpl_take_op(x, ",")) break;
    }
    tpl_want_op(x, "}");
    if (n) n->list = tpl_body_of(&l);
    return n;
}

static tpl_node *string_literal(tpl_parser *x) /* adjacent strings are one */
{
    tpl_node *n = tpl_node_new(x, TN_CONST);
    size_t len = 0, at = 0;
    const tpl_tok *k = x->p;
    while (k->type == TT_STR) len += k++->n;
    char *s = arena_raw(x->t->mem, len + 1);
    if (!s || !n) {
        if (!s) x->rc = FT_EMEM;
        return NULL;
    }
    for (; x->p->type == TT_STR; x->p++) {
        memcpy(s + at, x->p->s, x->p->n);
        at += x->p->n;
    }
    n->val = tpl_strn(s, len);
    return n;
}

static tpl_node *primary(tpl_parser *x)
{
    const tpl_tok *k = x->p;
    if (x->rc != FT_OK) return NULL;
    switch (k->type) {
    case TT_NAME: {
        bool yes = tpl_is_name(x, "true") || tpl_is_name(x, "True");
        if (yes || tpl_is_name(x, "false") || tpl_is_name(x, "False")) {
            tpl_next(x);
            return constant(x, tpl_bool(yes));
        }
        if (tpl_is_name(x, "none") || tpl_is_name(x, "None")) {
            tpl_next(x);
            return constant(x, tpl_none());
        }
        tpl_node *n = tpl_node_new(x, TN_NAME);
        if (n) n->name = k->s;
        tpl_next(x);
        return n;
    }
    case TT_STR:
        return string_literal(x);
    case TT_INT:
        tpl_next(x);
        return constant(x, tpl_int(k->i));
    case TT_FLOAT:
        tpl_next(x);
        return constant(x, tpl_float(k->f));
    default:
        if (tpl_is_op(x, "(")) return parenthesis(x);
        if (tpl_is_op(x, "[")) return list_literal(x);
        if (tpl_is_op(x, "{")) return dict_literal(x);
        return tpl_parse_fail(x, "expected an expression");
    }
}

/* "(" a, b=c, *d, **e ")" into the node of a call, filter or test. */
static void arguments(tpl_parser *x, tpl_node *n)
{
    tpl_nodes l = {0};
    uint32_t cap = 0;
    tpl_next(x);
    while (x->rc == FT_OK && !tpl_is_op(x, ")")) {
        if (tpl_take_op(x, "**")) {
            n->star2 = tpl_expression(x);
        } else if (tpl_take_op(x, "*")) {
            n->star = tpl_expression(x);
        } else if (x->p->type == TT_NAME && x->p[1].type == TT_OP && !strcmp(x->p[1].s, "=")) {
            if ((uint32_t)n->n_kw == cap) {
                tpl_keyword *kw = arena_raw(x->t->mem, (2 * (size_t)cap + 4) * sizeof *kw);
                if (!kw) {
                    x->rc = FT_EMEM;
                    return;
                }
                if (cap) memcpy(kw, n->kw, cap * sizeof *kw);
                n->kw = kw;
                cap = 2 * cap + 4;
            }
            n->kw[n->n_kw].name = x->p->s;
            x->p += 2;
            n->kw[n->n_kw].value = tpl_expression(x);
            n->n_kw++;
        } else {
            if (n->n_kw || n->star || n->star2)
                tpl_parse_fail(x, "positional argument after keywords");
            tpl_nodes_add(x, &l, tpl_expression(x));
        }
        if (!tpl_take_op(x, ",")) break;
    }
    tpl_want_op(x, ")");
    n->list = tpl_body_of(&l);
}

static tpl_node *subscript(tpl_parser *x, tpl_node *of)
{
    tpl_node *n = tpl_node_new(x, TN_ITEM), *part[3] = {NULL, NULL, NULL};
    int colons = 0;
    if (!n) return NULL;
    n->a = of;
    tpl_next(x);
    tpl_nodes l = {0};
    while (x->rc == FT_OK && !tpl_is_op(x, "]")) {
        if (tpl_take_op(x, ":")) {
            if (++colons > 2) tpl_parse_fail(x, "bad slice");
            continue;
        }
        part[colons] = tpl_expression(x);
        if (!colons) tpl_nodes_add(x, &l, part[0]);
        if (!colons && tpl_take_op(x, ",")) continue;
        if (!tpl_is_op(x, ":")) break;
    }
    if (l.n > 1) {
        part[0] = tpl_node_new(x, TN_TUPLE);
        if (part[0]) part[0]->list = tpl_body_of(&l);
    }
    tpl_want_op(x, "]");
    if (colons) n->kind = TN_SLICE;
    if (!colons && !part[0]) tpl_parse_fail(x, "expected a subscript");
    n->b = part[0];
    n->c = part[1];
    if (colons) {
        n->list.n = 1;
        n->list.v = arena_get(x->t->mem, sizeof *n->list.v);
        if (!n->list.v) {
            x->rc = FT_EMEM;
            return NULL;
        }
        n->list.v[0] = part[2];
    }
    return n;
}

static tpl_node *postfix(tpl_parser *x, tpl_node *n)
{
    while (x->rc == FT_OK) {
        tpl_node *of = n;
        if (tpl_take_op(x, ".")) {
            if (x->p->type == TT_INT) {
                n = tpl_node_new(x, TN_ITEM);
                if (!n) return NULL;
                n->b = constant(x, tpl_int(x->p->i));
                tpl_next(x);
            } else {
                n = tpl_node_new(x, TN_ATTR);
                if (!n) return NULL;
                n->name = tpl_want_name(x);
            }
            n->a = of;
        } else if (tpl_is_op(x, "[")) {
            n = subscript(x, of);
        } else if (tpl_is_op(x, "(")) {
            n = tpl_node_new(x, TN_CALL);
            if (!n) return NULL;
            n->a = of;
            arguments(x, n);
        } else {
            break;
        }
    }
    return n;
}

tpl_node *tpl_filter(tpl_parser *x, tpl_node *of) /* after | ; of may be NULL (blocks) */
{
    tpl_node *n = tpl_node_new(x, TN_FILTER);
    if (!n) return NULL;
    n->a = of;
    n->name = tpl_want_name(x);
    while (tpl_take_op(x, ".")) n->name = tpl_want_name(x);
    n->fn = tpl_find_filter(n->name, strlen(n->name));
    if (tpl_is_op(x, "(")) arguments(x, n);
    return n;
}

static tpl_node *test(tpl_parser *x, tpl_node *of) /* after is */
{
    tpl_node *n = tpl_node_new(x, TN_TEST), *not = NULL;
    if (!n) return NULL;
    if (tpl_is_name(x, "not")) {
        not = tpl_node_new(x, TN_NOT);
        tpl_next(x);
    }
    n->a = of;
    n->name = tpl_want_name(x);
    while (tpl_take_op(x, ".")) n->name = tpl_want_name(x);
    n->fn = tpl_find_test(n->name, strlen(n->name));
    if (tpl_is_op(x, "(")) {
        arguments(x, n);
    } else if ((x->p->type == TT_NAME && !tpl_is_name(x, "else") && !tpl_is_name(x, "or") &&
                !tpl_is_name(x, "and")) ||
               x->p->type == TT_STR || x->p->type == TT_INT || x->p->type == TT_FLOAT ||
               tpl_is_op(x, "[") || tpl_is_op(x, "{")) {
        tpl_nodes l = {0};
        if (tpl_is_name(x, "is")) return tpl_parse_fail(x, "tests cannot be chained with is");
        tpl_nodes_add(x, &l, postfix(x, primary(x)));
        n->list = tpl_body_of(&l);
    }
    if (!not ) return n;
    not ->a = n;
    return not ;
}

static tpl_node *unary(tpl_parser *x, bool with_filter)
{
    tpl_node *n;
    if (!tpl_deeper(x)) return NULL;
    if (tpl_is_op(x, "-") || tpl_is_op(x, "+")) {
        n = tpl_node_new(x, tpl_is_op(x, "-") ? TN_NEG : TN_POS);
        tpl_next(x);
        if (n) n->a = unary(x, false);
    } else {
        n = primary(x);
    }
    n = postfix(x, n);
    while (with_filter && x->rc == FT_OK) {
        if (tpl_take_op(x, "|")) {
            n = tpl_filter(x, n);
        } else if (tpl_take_name(x, "is")) {
            n = test(x, n);
        } else if (tpl_is_op(x, "(")) {
            n = postfix(x, n);
        } else {
            break;
        }
    }
    x->depth--;
    return n;
}

/* Left-associative levels of arithmetic, loosest first: the operators of a level, and their codes. */
typedef struct level {
    const char *op[5];
    char code[5];
} level;
static const level levels[] = {
    {{"+", "-", NULL}, "+-"},
    {{"~", NULL}, "~"},
    {{"*", "/", "//", "%", NULL}, "*/f%"},
    {{"**", NULL}, "p"},
};

static tpl_node *arith(tpl_parser *x, size_t at)
{
    if (at == FT_COUNT_OF(levels)) return unary(x, true);
    tpl_node *n = arith(x, at + 1);
    while (x->rc == FT_OK) {
        int i = 0;
        while (levels[at].op[i] && !tpl_is_op(x, levels[at].op[i])) i++;
        if (!levels[at].op[i]) break;
        bool concat = levels[at].code[i] == '~';
        tpl_node *left = n;
        n = tpl_node_new(x, concat ? TN_CONCAT : TN_ARITH);
        if (!n) return NULL;
        n->op = (uint8_t)levels[at].code[i];
        tpl_nodes l = {0};
        if (concat) tpl_nodes_add(x, &l, left);
        do {
            tpl_next(x);
            tpl_node *right = arith(x, at + 1);
            if (concat)
                tpl_nodes_add(x, &l, right);
            else
                n->b = right;
        } while (concat && x->rc == FT_OK && tpl_is_op(x, "~"));
        n->a = left;
        n->list = tpl_body_of(&l);
    }
    return n;
}

static int compare_op(tpl_parser *x)
{
    static const char *const op[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int i = 0; i < 6; i++) {
        if (tpl_take_op(x, op[i])) return i;
    }
    if (tpl_take_name(x, "in")) return TC_IN;
    if (tpl_is_name(x, "not") && x->p[1].type == TT_NAME && !strcmp(x->p[1].s, "in")) {
        x->p += 2;
        return TC_NOT_IN;
    }
    return -1;
}

static tpl_node *compare(tpl_parser *x)
{
    tpl_node *left = arith(x, 0), *n = NULL;
    tpl_nodes l = {0};
    uint8_t ops[64];
    for (int op; x->rc == FT_OK && (op = compare_op(x)) >= 0;) {
        if (l.n == (int)sizeof ops) return tpl_parse_fail(x, "too many comparisons");
        ops[l.n] = (uint8_t)op;
        tpl_nodes_add(x, &l, arith(x, 0));
    }
    if (!l.n || x->rc != FT_OK) return left;
    n = tpl_node_new(x, TN_COMPARE);
    if (!n) return NULL;
    n->a = left;
    n->list = tpl_body_of(&l);
    n->ops = (uint8_t *)arena_strn(x->t->mem, (const char *)ops, (size_t)l.n);
    if (!n->ops) x->rc = FT_EMEM;
    return n;
}

static tpl_node *not_expr(tpl_parser *x)
{
    if (!tpl_is_name(x, "not")) return compare(x);
    if (!tpl_deeper(x)) return NULL;
    tpl_node *n = tpl_node_new(x, TN_NOT);
    tpl_next(x);
    if (n) n->a = not_expr(x);
    x->depth--;
    return n;
}

static tpl_node *and_expr(tpl_parser *x)
{
    tpl_node *n = not_expr(x);
    while (tpl_take_name(x, "and")) {
        tpl_node *left = n;
        n = tpl_node_new(x, TN_AND);
        if (!n) return NULL;
        n->a = left;
        n->b = not_expr(x);
    }
    return n;
}

tpl_node *tpl_or_expr(tpl_parser *x)
{
    tpl_node *n = and_expr(x);
    while (tpl_take_name(x, "or")) {
        tpl_node *left = n;
        n = tpl_node_new(x, TN_OR);
        if (!n) return NULL;
        n->a = left;
        n->b = and_expr(x);
    }
    return n;
}

tpl_node *tpl_expression(tpl_parser *x)
{
    if (!tpl_deeper(x)) return NULL;
    tpl_node *n = tpl_or_expr(x);
    while (tpl_take_name(x, "if")) {
        tpl_node *value = n;
        n = tpl_node_new(x, TN_IF_EXPR);
        if (!n) return NULL;
        n->b = value;
        n->a = tpl_or_expr(x);
        if (tpl_take_name(x, "else")) n->c = tpl_expression(x);
    }
    x->depth--;
    return n;
}

/* a, b, c without parentheses; `cond`: inline ifs are allowed in it. */
tpl_node *tpl_tuple(tpl_parser *x, bool cond, const char *end)
{
    tpl_node *n = tpl_node_new(x, TN_TUPLE);
    tpl_nodes l = {0};
    bool comma = false;
    while (x->rc == FT_OK && x->p->type != TT_BLOCK_END && x->p->type != TT_VAR_END) {
        if (end && tpl_is_name(x, end)) break;
        tpl_nodes_add(x, &l, cond ? tpl_expression(x) : tpl_or_expr(x));
        if (!tpl_take_op(x, ",")) break;
        comma = true;
    }
    if (x->rc != FT_OK) return NULL;
    if (!l.n) return tpl_parse_fail(x, "expected an expression");
    if (!comma) return l.v[0];
    n->list = tpl_body_of(&l);
    return n;
}
