/* parse.h – what the two halves of the parser share: expressions (expr.c) and statements
 * (parse.c). A failure is sticky in the parser's rc; nodes are NULL after it. */
#ifndef FT_TEMPLATE_PARSE_H
#define FT_TEMPLATE_PARSE_H

#include "template_private.h"

#include <string.h>

typedef struct tpl_parser {
    tpl_template *t;
    const tpl_tok *p;
    int depth;
    int loops; /* of the enclosing function body: break and continue need one */
    ft_status rc;
} tpl_parser;

typedef struct tpl_nodes { /* a growing list while it is being read */
    tpl_node **v;
    int n, cap;
} tpl_nodes;

tpl_node *tpl_parse_fail(tpl_parser *x, const char *what);
tpl_node *tpl_node_new(tpl_parser *x, tpl_kind kind);
void tpl_nodes_add(tpl_parser *x, tpl_nodes *l, tpl_node *n);
void tpl_want_op(tpl_parser *x, const char *op);
const char *tpl_want_name(tpl_parser *x);
bool tpl_deeper(tpl_parser *x); /* false beyond TPL_MAX_DEPTH; the caller counts down again */

tpl_node *tpl_expression(tpl_parser *x);           /* inline ifs included */
tpl_node *tpl_or_expr(tpl_parser *x);              /* without */
tpl_node *tpl_filter(tpl_parser *x, tpl_node *of); /* after | ; of may be NULL (blocks) */
/* a, b, c without parentheses; cond: inline ifs are allowed in it; end: a name that ends it, or NULL. */
tpl_node *tpl_tuple(tpl_parser *x, bool cond, const char *end);

static inline tpl_body tpl_body_of(const tpl_nodes *l)
{
    return (tpl_body){l->v, l->n};
}

static inline bool tpl_is_op(const tpl_parser *x, const char *op)
{
    return x->p->type == TT_OP && !strcmp(x->p->s, op);
}

static inline bool tpl_is_name(const tpl_parser *x, const char *name)
{
    return x->p->type == TT_NAME && !strcmp(x->p->s, name);
}

static inline void tpl_next(tpl_parser *x)
{
    if (x->p->type != TT_END) x->p++;
}

static inline bool tpl_take_op(tpl_parser *x, const char *op)
{
    if (x->rc != FT_OK || !tpl_is_op(x, op)) return false;
    tpl_next(x);
    return true;
}

static inline bool tpl_take_name(tpl_parser *x, const char *name)
{
    if (x->rc != FT_OK || !tpl_is_name(x, name)) return false;
    tpl_next(x);
    return true;
}
#endif
