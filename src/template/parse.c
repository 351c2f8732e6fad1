/* parse.c – statements: the tags of a template, to a tree. */
#include "parse.h"

static tpl_body statements(tpl_parser *x, const char *const *ends);

/* --- statements ---------------------------------------------------------------------------------------- */
static tpl_node *target(tpl_parser *x, bool with_ns) /* what stands left of = or before in */
{
    tpl_nodes l = {0};
    bool comma = false;
    tpl_node *n = NULL;
    if (!tpl_deeper(x)) return NULL;
    while (x->rc == FT_OK) {
        if (tpl_take_op(x, "(")) {
            n = target(x, with_ns);
            tpl_want_op(x, ")");
        } else {
            n = tpl_node_new(x, TN_NAME);
            if (!n) return NULL;
            n->name = tpl_want_name(x);
            if (with_ns && tpl_take_op(x, ".")) {
                tpl_node *of = n;
                n = tpl_node_new(x, TN_NS_ATTR);
                if (!n) return NULL;
                n->a = of;
                n->name = tpl_want_name(x);
            } else if (x->rc == FT_OK && (!strcmp(n->name, "true") || !strcmp(n->name, "false") ||
                                          !strcmp(n->name, "none") || !strcmp(n->name, "True") ||
                                          !strcmp(n->name, "False") || !strcmp(n->name, "None"))) {
                return tpl_parse_fail(x, "cannot assign to a constant");
            }
        }
        tpl_nodes_add(x, &l, n);
        if (!tpl_take_op(x, ",")) break;
        comma = true;
        if (tpl_is_name(x, "in") || tpl_is_op(x, "=") || tpl_is_op(x, ")")) break;
    }
    x->depth--;
    if (!comma || x->rc != FT_OK) return n;
    n = tpl_node_new(x, TN_TUPLE);
    if (n) n->list = tpl_body_of(&l);
    return n;
}

static void block_end(tpl_parser *x)
{
    if (x->rc != FT_OK) return;
    if (x->p->type != TT_BLOCK_END) {
        tpl_parse_fail(x, "expected the end of the tag");
        return;
    }
    tpl_next(x);
}

/* Statements of a block up to one of `ends`, which is left as the current token. */
static tpl_body block(tpl_parser *x, const char *const *ends)
{
    tpl_take_op(x, ":");
    block_end(x);
    return statements(x, ends);
}

static tpl_body block_until(tpl_parser *x, const char *end)
{
    const char *const ends[] = {end, NULL};
    tpl_body b = block(x, ends);
    if (x->rc == FT_OK) tpl_next(x);
    return b;
}

static tpl_node *parse_if(tpl_parser *x)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    tpl_node *n = tpl_node_new(x, TN_IF);
    if (!n || !tpl_deeper(x)) return NULL;
    n->a = tpl_tuple(x, false, NULL);
    n->body = block(x, ends);
    if (tpl_take_name(x, "elif")) {
        tpl_nodes l = {0};
        tpl_nodes_add(x, &l, parse_if(x));
        n->other = tpl_body_of(&l);
    } else if (tpl_take_name(x, "else")) {
        n->other = block_until(x, "endif");
    } else if (x->rc == FT_OK) {
        tpl_next(x);
    }
    x->depth--;
    return n;
}

static tpl_node *parse_for(tpl_parser *x)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    tpl_node *n = tpl_node_new(x, TN_FOR);
    if (!n) return NULL;
    n->a = target(x, false);
    if (!tpl_take_name(x, "in")) return tpl_parse_fail(x, "expected in");
    n->b = tpl_tuple(x, false, "recursive");
    if (tpl_take_name(x, "if")) n->c = tpl_expression(x);
    n->recursive = tpl_take_name(x, "recursive");
    x->loops++;
    n->body = block(x, ends);
    x->loops--;
    if (tpl_take_name(x, "else"))
        n->other = block_until(x, "endfor");
    else if (x->rc == FT_OK)
        tpl_next(x);
    return n;
}

/* Filters after {% set x | … %} and {% filter … %}: applied to what `of` (NULL: the text) gives. */
static tpl_node *filters(tpl_parser *x, bool first_is_name)
{
    tpl_node *n = NULL;
    if (first_is_name) n = tpl_filter(x, NULL);
    while (tpl_take_op(x, "|")) n = tpl_filter(x, n);
    return n;
}

static tpl_node *parse_set(tpl_parser *x)
{
    tpl_node *to = target(x, true), *n = tpl_node_new(x, TN_SET);
    if (!n) return NULL;
    n->a = to;
    if (tpl_take_op(x, "=")) {
        n->b = tpl_tuple(x, true, NULL);
        return n;
    }
    n->kind = TN_SET_BLOCK;
    n->b = filters(x, false);
    n->body = block_until(x, "endset");
    return n;
}

static void signature(tpl_parser *x, tpl_node *n) /* "(a, b=1)" */
{
    tpl_keyword kw[64];
    tpl_want_op(x, "(");
    while (x->rc == FT_OK && !tpl_is_op(x, ")")) {
        if (n->n_kw == (int)FT_COUNT_OF(kw)) {
            tpl_parse_fail(x, "too many parameters");
            return;
        }
        kw[n->n_kw].name = tpl_want_name(x);
        kw[n->n_kw].value = tpl_take_op(x, "=") ? tpl_expression(x) : NULL;
        if (n->n_kw && kw[n->n_kw - 1].value && !kw[n->n_kw].value) {
            tpl_parse_fail(x, "parameter without default after one with");
        }
        n->n_kw++;
        if (!tpl_take_op(x, ",")) break;
    }
    tpl_want_op(x, ")");
    n->kw = arena_raw(x->t->mem, sizeof *kw * (size_t)(n->n_kw + 1));
    if (!n->kw)
        x->rc = FT_EMEM;
    else if (n->n_kw)
        memcpy(n->kw, kw, sizeof *kw * (size_t)n->n_kw);
}

static bool mentions(const tpl_tok *from, const tpl_tok *to, const char *name)
{
    for (; from < to; from++) {
        if (from->type == TT_NAME && !strcmp(from->s, name)) return true;
    }
    return false;
}

static void function_body(tpl_parser *x, tpl_node *n, const char *end)
{
    const tpl_tok *from = x->p;
    int loops = x->loops;
    x->loops = 0;
    n->body = block_until(x, end);
    x->loops = loops;
    n->catch_varargs = mentions(from, x->p, "varargs");
    n->catch_kwargs = mentions(from, x->p, "kwargs");
    n->op = mentions(from, x->p, "caller");
}

static tpl_node *parse_macro(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_MACRO);
    if (!n) return NULL;
    n->name = tpl_want_name(x);
    signature(x, n);
    function_body(x, n, "endmacro");
    return n;
}

static tpl_node *parse_call(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_CALL_BLOCK);
    if (!n) return NULL;
    n->name = tpl_intern(x->t, "caller", 6);
    if (tpl_is_op(x, "(")) signature(x, n);
    n->a = tpl_expression(x);
    if (x->rc == FT_OK && n->a->kind != TN_CALL) return tpl_parse_fail(x, "expected a call");
    function_body(x, n, "endcall");
    return n;
}

static tpl_node *parse_filter(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_FILTER_BLOCK);
    if (!n) return NULL;
    n->b = filters(x, true);
    n->body = block_until(x, "endfilter");
    return n;
}

static tpl_node *parse_with(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_WITH);
    tpl_nodes l = {0};
    while (x->rc == FT_OK && x->p->type != TT_BLOCK_END) {
        if (l.n) tpl_want_op(x, ",");
        tpl_node *set = tpl_node_new(x, TN_SET);
        if (!set) return NULL;
        set->a = target(x, false);
        tpl_want_op(x, "=");
        set->b = tpl_expression(x);
        tpl_nodes_add(x, &l, set);
    }
    if (!n) return NULL;
    n->list = tpl_body_of(&l);
    n->body = block_until(x, "endwith");
    return n;
}

static tpl_node *parse_block(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_SCOPE);
    const char *name = tpl_want_name(x);
    tpl_take_name(x, "scoped");
    tpl_take_name(x, "required");
    if (!n) return NULL;
    n->body = block_until(x, "endblock");
    tpl_take_name(x, name);
    return n;
}

static tpl_node *parse_autoescape(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_SCOPE);
    if (!n) return NULL;
    n->a = tpl_expression(x); /* must be constant false to have no effect; checked when it runs */
    n->body = block_until(x, "endautoescape");
    return n;
}

static tpl_node *parse_generation(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_GENERATION);
    if (!n) return NULL;
    int loops = x->loops;
    x->loops = 0;
    n->body = block_until(x, "endgeneration");
    x->loops = loops;
    return n;
}

static tpl_node *parse_print(tpl_parser *x)
{
    tpl_node *n = tpl_node_new(x, TN_PRINT);
    tpl_nodes l = {0};
    while (x->rc == FT_OK && x->p->type != TT_BLOCK_END) {
        if (l.n) tpl_want_op(x, ",");
        tpl_nodes_add(x, &l, tpl_expression(x));
    }
    if (n) n->list = tpl_body_of(&l);
    return n;
}

static tpl_node *jump(tpl_parser *x, tpl_kind kind)
{
    if (!x->loops) return tpl_parse_fail(x, "break or continue outside of a loop");
    return tpl_node_new(x, kind);
}

static tpl_node *parse_break(tpl_parser *x)
{
    return jump(x, TN_BREAK);
}

static tpl_node *parse_continue(tpl_parser *x)
{
    return jump(x, TN_CONTINUE);
}

static tpl_node *unsupported(tpl_parser *x) /* reading other files: fails when it is reached */
{
    tpl_node *n = tpl_node_new(x, TN_UNSUPPORTED);
    while (x->rc == FT_OK && x->p->type != TT_BLOCK_END && x->p->type != TT_END) tpl_next(x);
    return n;
}

typedef struct tag {
    const char *name;
    tpl_node *(*parse)(tpl_parser *x);
} tag;
static const tag tags[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call},
    {"filter", parse_filter},
    {"with", parse_with},
    {"block", parse_block},
    {"print", parse_print},
    {"autoescape", parse_autoescape},
    {"break", parse_break},
    {"continue", parse_continue},
    {"include", unsupported},
    {"import", unsupported},
    {"extends", unsupported},
    {"from", unsupported},
    {"generation", parse_generation},
};

static tpl_node *statement(tpl_parser *x)
{
    for (size_t i = 0; i < FT_COUNT_OF(tags); i++) {
        if (!tpl_is_name(x, tags[i].name)) continue;
        tpl_next(x);
        return tags[i].parse(x);
    }
    return tpl_parse_fail(x, "unknown tag");
}

static bool at_end(const tpl_parser *x, const char *const *ends)
{
    for (int i = 0; ends && ends[i]; i++) {
        if (tpl_is_name(x, ends[i])) return true;
    }
    return false;
}

static tpl_body statements(tpl_parser *x, const char *const *ends)
{
    tpl_nodes l = {0};
    if (!tpl_deeper(x)) return (tpl_body){0};
    while (x->rc == FT_OK && x->p->type != TT_END) {
        tpl_node *n;
        if (x->p->type == TT_TEXT) {
            n = tpl_node_new(x, TN_TEXT);
            if (n) n->val = tpl_strn(x->p->s, x->p->n);
            tpl_next(x);
        } else if (x->p->type == TT_VAR) {
            tpl_next(x);
            tpl_nodes one = {0};
            n = tpl_node_new(x, TN_PRINT);
            tpl_nodes_add(x, &one, tpl_tuple(x, true, NULL));
            if (x->rc == FT_OK && x->p->type != TT_VAR_END) tpl_parse_fail(x, "expected }}");
            if (n) n->list = tpl_body_of(&one);
            tpl_next(x);
        } else {
            tpl_next(x); /* {% */
            if (at_end(x, ends)) {
                x->depth--;
                return tpl_body_of(&l);
            }
            n = statement(x);
            block_end(x);
        }
        tpl_nodes_add(x, &l, n);
    }
    if (x->rc == FT_OK && ends) {
        x->rc = ft_fail(FT_EDATA, "%s:%d: chat template: the template ends before {%% %s %%}",
                        x->t->name, x->p->line, ends[0]);
    }
    x->depth--;
    return tpl_body_of(&l);
}

const char *tpl_intern(tpl_template *t, const char *s, size_t n)
{
    for (int i = 0; i < t->n_names; i++) {
        if (!strncmp(t->names[i], s, n) && !t->names[i][n]) return t->names[i];
    }
    if (t->n_names == t->cap_names) {
        int cap = 2 * t->cap_names + 32;
        const char **v = arena_raw(t->mem, (size_t)cap * sizeof *v);
        if (!v) return NULL;
        if (t->n_names) memcpy(v, t->names, (size_t)t->n_names * sizeof *v);
        t->names = v;
        t->cap_names = cap;
    }
    char *copy = arena_strn(t->mem, s, n);
    if (copy) t->names[t->n_names++] = copy;
    return copy;
}

ft_status tpl_parse(tpl_template *t, const tpl_tok *tok)
{
    tpl_parser x = {.t = t, .p = tok};
    t->body = statements(&x, NULL);
    return x.rc;
}
