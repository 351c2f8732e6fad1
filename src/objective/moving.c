/* moving.c – a reference that follows the policy (TR-DPO, Gorbatovski et al. 2024): after every so many steps
 *
 *   r ← a · π + (1 − a) · r
 *
 * Its values are states in f32, so that a checkpoint has them; it is the base no more. */
#include "other.h"

#include "ft/kernel.h"

static bool is_tied(const model *m, int64_t i)
{
    return m->d.tied && &m->param[i] == m->head->w;
}

static bool same_shape(const tn_tensor *a, const tn_tensor *b)
{
    return a->nd == b->nd && tn_rows(a) == tn_rows(b) && tn_cols(a) == tn_cols(b);
}

static ft_status check(const obj_ctx *c, const char *key, const obj_other *o)
{
    bool all = true, alike = !o->over && o->m->n_param == c->m->n_param;
    for (int64_t i = 0; all && i < c->m->n_param; i++) all = c->tuned->own[i] != NULL;
    FT_CHECK(all, FT_ECONFIG,
             "objective.%s: the reference takes values of the policy over, which method.type "
             "\"full\" alone trains all of",
             key);
    for (int64_t i = 0; alike && i < c->m->n_param; i++)
        alike = same_shape(&o->m->param[i].t, &c->m->param[i].t);
    FT_CHECK(alike, FT_EDATA,
             "%s: objective.%s: the reference must be a model of the policy's shape",
             ft_shows(o->m->path), key);
    return FT_OK;
}

static ft_status copy(const obj_ctx *c, nn_param *from, bool weights, nn_param **out)
{
    const char *name = arena_printf(c->mem, "reference.%s", from->name);
    if (!name) return FT_EMEM;
    const tn_tensor *t = &from->t;
    FT_TRY(nn_new_state(c->store, name, t->dim[0], t->nd == 2 ? t->dim[1] : 0, out));
    if (weights) tn_unpack_rows(tn_f32(&(*out)->t), t, 0, tn_rows(t));
    return FT_OK;
}

ft_status obj_other_follow(const obj_ctx *c, const char *key, bool weights, obj_other *o)
{
    model *m = o->m;
    nn_overlay *over = arena_get(c->mem, sizeof *over);
    nn_param **own = arena_get(c->mem, (size_t)m->n_param * sizeof *own);
    void **slot = arena_get(c->mem, (size_t)m->n_site * sizeof *slot);
    nn_param **bias = arena_get(c->mem, (size_t)m->n_site * sizeof *bias);
    if (!over || !own || !slot || !bias) return FT_EMEM;
    FT_TRY(check(c, key, o));
    for (int64_t i = 0; i < m->n_param; i++) {
        if (!is_tied(m, i)) FT_TRY(copy(c, &m->param[i], weights, &own[i]));
    }
    if (m->d.tied) own[m->head->w->index] = own[m->embed->w->index];
    *over = (nn_overlay){.slot = slot, .own = own, .bias = bias};
    o->over = over;
    o->moving = own;
    return FT_OK;
}

void obj_other_move(const obj_ctx *c, obj_other *o, double share)
{
    for (int64_t i = 0; i < o->m->n_param; i++) {
        tn_tensor *r = &o->moving[i]->t;
        if (is_tied(o->m, i)) continue;
        kn_scale(tn_f32(r), (float)(1 - share), tn_count(r));
        kn_axpy(tn_f32(r), (float)share, tn_f32(&c->tuned->own[i]->t), tn_count(r));
    }
}
