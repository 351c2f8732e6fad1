/* nn.c – the one function every linear layer of every family goes through, with a method's hooks around it. */
#include "ft/nn.h"

#include <assert.h>

tn_tensor *nn_value_of(const nn_overlay *over, nn_param *p)
{
    nn_param *own = over && over->own ? over->own[p->index] : NULL;
    return own ? &own->t : &p->t;
}

tn_tensor *nn_bias_of(const nn_overlay *over, const nn_site *s)
{
    nn_param *added = over && over->bias ? over->bias[s->index] : NULL;
    if (s->b) return nn_value_of(over, s->b);
    return added ? &added->t : NULL;
}

void *nn_slot_of(const nn_overlay *over, const nn_site *s)
{
    return over && over->slot ? over->slot[s->index] : NULL;
}

tn_tensor *nn_value(const nn_run *r, nn_param *p)
{
    return nn_value_of(r->over, p);
}

void *nn_slot(const nn_run *r, const nn_site *s)
{
    return nn_slot_of(r->over, s);
}

ag_weight nn_weight(const nn_run *r, const nn_site *s)
{
    return (ag_weight){.w = nn_value(r, s->w), .b = nn_bias_of(r->over, s), .in_out = s->in_out};
}

const nn_hooks *nn_hooks_of(const nn_run *r)
{
    static const nn_hooks none;
    return r->over && r->over->hooks ? r->over->hooks : &none;
}

tn_tensor *nn_linear(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *add)
{
    const nn_hooks *h = nn_hooks_of(r);
    bool apart = add && h->post && h->alone;
    ag_weight w[AG_MAX_GROUP];
    assert(g->n <= AG_MAX_GROUP);
    for (int i = 0; i < g->n; i++) {
        w[i] = nn_weight(r, &g->site[i]);
        if (h->weight) h->weight(r, &g->site[i], &w[i]);
    }
    tn_tensor *in = h->pre ? h->pre(r, g, x) : x;
    tn_tensor *y = ag_linear(r->t, in, w, g->n, apart ? NULL : add);
    if (h->post) y = h->post(r, g, in, y);
    return apart ? ag_add(r->t, y, add) : y;
}

tn_tensor *nn_embed(nn_run *r, const nn_site *s, const int32_t *ids)
{
    const nn_hooks *h = nn_hooks_of(r);
    tn_tensor *y = ag_embed(r->t, nn_weight(r, s).w, ids, r->tokens, s->frozen_row);
    return h->embed ? h->embed(r, s, y) : y;
}
