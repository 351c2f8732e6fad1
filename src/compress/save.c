/* save.c – the result out of the files of the blocks: of a quantiser matrices in codes, which the model itself holds from then
 * on; of a pruner values, read row by row. */
#include <string.h>

#include "compress_private.h"

/* Parameters that a block changed beside its linears: NAME.own. */
static ft_status take_vectors(cmp_walk *w, int layer)
{
    const st_file *f = &w->file[layer];
    for (int64_t k = 0; k < f->n; k++) {
        const io_tensor *t = &f->tensor[k];
        const size_t n = strlen(t->name);
        if (!str_ends(t->name, ".own")) continue;
        const char *name = arena_strn(w->mem, t->name, n - strlen(".own"));
        nn_param *p = name ? model_param(w->m, name) : NULL, *own = arena_get(w->mem, sizeof *own);
        if (!name || !own) return FT_EMEM;
        FT_CHECK(p && t->type == &dt_f32 && t->nd == 1 && t->dim[0] == tn_count(&p->t), FT_EDATA,
                 "%s: \"%s\" is of no parameter of the model", ft_shows(f->path),
                 ft_shows(t->name));
        *own = *p;
        own->t.type = &dt_f32;
        own->t.data = (void *)(uintptr_t)t->data;
        w->saved[p->index] = own;
    }
    return FT_OK;
}

static ft_status take_linears(cmp_walk *w, int layer)
{
    const cmp_block *b = &w->shape[layer];
    for (int i = 0; i < b->n; i++) {
        cmp_linear l = b->linear[i];
        const void *values;
        if (!l.chosen) continue;
        FT_TRY(cmp_linear_load(w, layer, &l, &values, w->mem));
        nn_param *p = l.site->w;
        if (!w->o.method->writes) {
            w->own[l.site->index] = (tn_tensor){.type = p->file_type,
                                                .nd = 2,
                                                .dim = {l.site->out, l.site->in},
                                                .data = (void *)(uintptr_t)values};
            continue;
        }
        const cmp_codes *c = &l.codes;
        const model_codes codes = {.bits = c->bits,
                                   .out = l.site->out,
                                   .in = l.site->in,
                                   .groups = c->groups,
                                   .q = c->q,
                                   .scale = c->scale,
                                   .zero = c->zero,
                                   .g_idx = c->g_idx};
        if (l.site->in_out) model_quant_turned(w->m, p->index);
        model_forget(w->m, p->index);
        FT_TRY(model_packed_tensor(&p->t, &codes, w->mem));
        cmp_linear_forget(&l, values);
    }
    return FT_OK;
}

/* Rows of a pruned matrix in the orientation of the model. */
static ft_status rows(void *ctx, int64_t i, int64_t row0, int64_t n, float *out)
{
    const cmp_walk *w = ctx;
    const nn_param *p = &w->m->param[i];
    const tn_tensor *t = w->saved[i] ? &w->saved[i]->t : &p->t;
    nn_site *s = NULL;
    for (int64_t k = 0; k < w->n_chosen; k++)
        if (w->chosen[k]->w == p) s = w->chosen[k];
    if (s) t = &w->own[s->index];
    if (!s || !s->in_out) {
        tn_unpack_rows(out, t, row0, n);
        if (s && row0 + n == s->out) cmp_linear_forget(&(cmp_linear){.site = s}, t->data);
        return FT_OK;
    }
    float *row = ft_alloc((size_t)s->in, sizeof *row); /* [in, out] of [out, in] */
    if (!row) return FT_EMEM;
    for (int64_t o = 0; o < s->out; o++) {
        tn_unpack_rows(row, t, o, 1);
        for (int64_t k = 0; k < n; k++) out[k * s->out + o] = row[row0 + k];
    }
    ft_free(row);
    if (row0 + n == s->in) cmp_linear_forget(&(cmp_linear){.site = s}, t->data);
    return FT_OK;
}

ft_status cmp_save_options(cmp_walk *w, const char *const *left, int n_left,
                           model_save_options *out)
{
    *out = (model_save_options){0};
    for (int i = 0; i < w->m->d.n_layer; i++) {
        FT_TRY(take_linears(w, i));
        if (w->file[i].path) FT_TRY(take_vectors(w, i));
    }
    if (!w->o.method->writes) {
        out->source = (model_source){.rows = rows, .ctx = w};
        return FT_OK;
    }
    w->o.method->packed(w->o.cfg, &w->packed);
    w->packed.left = left;
    w->packed.n_left = n_left;
    w->over = (nn_overlay){.own = w->saved};
    out->over = &w->over;
    out->quant = model_quant_by_method(w->o.method->writes);
    out->quant_cfg = &w->packed;
    return FT_OK;
}

/* --- what there is to tell ------------------------------------------------------------------------------------------ */
int64_t cmp_told_of(const cmp_walk *w, const cmp_told **told)
{
    *told = w->told;
    return w->n_chosen;
}

cmp_told cmp_told_all(const cmp_walk *w)
{
    double lost = 0, whole = 0, zeros = 0, all = 0;
    for (int64_t i = 0; i < w->n_chosen; i++) {
        if (!w->told[i].name) continue; /* not made yet */
        lost += w->lost[i];
        whole += w->whole[i];
        zeros += w->zeros[i];
        all += (double)w->chosen[i]->out * (double)w->chosen[i]->in;
    }
    return (cmp_told){.error = lost == 0 ? 0 : lost / whole, .sparsity = all > 0 ? zeros / all : 0};
}
