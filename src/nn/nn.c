/* nn.c – the one function every linear layer of every family goes through, with a method's hooks around it. */
#include "ft/nn.h"

tn_tensor *nn_value(const nn_run *r, nn_param *p)
{
    return p->own && !r->bare ? &p->own->t : &p->t;
}

ag_weight nn_weight(const nn_run *r, const nn_site *s)
{
    return (ag_weight){
        .w = nn_value(r, s->w), .b = s->b ? nn_value(r, s->b) : NULL, .in_out = s->in_out};
}

tn_tensor *nn_linear(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *add)
{
    enum { MAX_GROUP = 4 };
    const nn_hooks *h = r->bare ? NULL : r->hooks;
    ag_weight w[MAX_GROUP];
    for (int i = 0; i < g->n; i++) w[i] = nn_weight(r, &g->site[i]);
    tn_tensor *in = h && h->pre ? h->pre(r, g, x) : x;
    tn_tensor *y = ag_linear(r->t, in, w, g->n, add);
    return h && h->post ? h->post(r, g, in, y) : y;
}

tn_tensor *nn_embed(nn_run *r, const nn_site *s, const int32_t *ids)
{
    const nn_hooks *h = r->bare ? NULL : r->hooks;
    tn_tensor *y = ag_embed(r->t, nn_weight(r, s).w, ids, r->tokens, s->frozen_row);
    return h && h->embed ? h->embed(r, s, y) : y;
}
