/* save_source.c – the values of a parameter on their way out: as trained, with the adapter's part folded in. */
#include "save_private.h"

#define TILE_FLOATS ((int64_t)64 << 10) /* unpacked at a time */

const tn_tensor *save_value(const save_plan *p, nn_param *q)
{
    return nn_value_of(p->opt->over, q);
}

static void unpack_all(float *dst, const tn_tensor *t)
{
    int64_t cols = tn_cols(t), step = TILE_FLOATS / cols > 0 ? TILE_FLOATS / cols : 1;
    for (int64_t r = 0; r < tn_rows(t); r += step) {
        int64_t n = tn_rows(t) - r < step ? tn_rows(t) - r : step;
        tn_unpack_rows(dst + r * cols, t, r, n);
    }
}

bool save_folds(const save_plan *p, int64_t param)
{
    const nn_site *s = p->m->info[param].site;
    return p->opt->fold.fold && s && nn_slot_of(p->opt->over, s);
}

/* A site is folded as a whole, for one of its two tensors at a time: bias and weight may be far apart in the file. */
ft_status save_folded(const save_plan *p, int64_t param, float **out)
{
    nn_param *q = &p->m->param[param];
    const nn_site *s = p->m->info[param].site;
    const model_fold *f = &p->opt->fold;
    float *w = NULL, *b = NULL;
    ft_status rc = FT_OK;
    bool is_bias = p->m->info[param].bias, fold = save_folds(p, param);
    *out = NULL;
    if (fold || !is_bias) {
        const tn_tensor *t = fold ? save_value(p, s->w) : save_value(p, q);
        w = ft_alloc((size_t)tn_count(t), sizeof *w);
        FT_TRY_OUT(w ? FT_OK : FT_EMEM);
        unpack_all(w, t);
    }
    if (is_bias || (fold && s->b)) {
        const tn_tensor *t = is_bias ? save_value(p, q) : save_value(p, s->b);
        b = ft_alloc((size_t)tn_count(t), sizeof *b);
        FT_TRY_OUT(b ? FT_OK : FT_EMEM);
        unpack_all(b, t);
    }
    if (fold) FT_TRY_OUT(f->fold(f->ctx, s, w, b));
    *out = is_bias ? b : w;
    if (is_bias)
        b = NULL;
    else
        w = NULL;
out:
    ft_free(w);
    ft_free(b);
    return rc;
}

ft_status save_source(const save_plan *p, int64_t param, tn_tensor *src, float **w)
{
    *src = *save_value(p, &p->m->param[param]);
    *w = NULL;
    if (!save_folds(p, param)) return FT_OK;
    FT_TRY(save_folded(p, param, w));
    *src =
        (tn_tensor){.type = &dt_f32, .nd = src->nd, .dim = {src->dim[0], src->dim[1]}, .data = *w};
    return FT_OK;
}

ft_status save_refuse(const save_plan *p, const char *name, const char *what)
{
    const bool given = p->opt->as_given;
    const char *with = p->opt->fold.name;
    FT_TRY(file_inputs_check()); /* what was written over meanwhile is told as that */
    return ft_fail(
        given ? FT_EDATA : FT_EDIVERGED, "%s%s%s: tensor \"%s\" holds %s; %s", ft_shows(p->path),
        with ? " with " : "", with ? ft_shows(with) : "", ft_shows(name), what,
        given ? "get the model's files again, or write it as it is with --allow-nonfinite"
              : "nothing was written");
}
