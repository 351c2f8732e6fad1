/* init.c – random weights for training from scratch, as transformers initialises its classes: matrices N(0, range²),
 * biases 0, norms 1; GPT-2's residual projections with range/√(2·layers). Each tensor's numbers depend on its name. A part
 * may know better for what is its own. */
#include "model_private.h"

#include <math.h>
#include <string.h>

static double range_of(const model *m, int64_t i, double range)
{
    bool residual = m->info[i].flags & SLOT_RESIDUAL;
    return residual && m->family->scaled_init ? range / sqrt(2.0 * (double)m->d.n_layer) : range;
}

static void fill(const model *m, int64_t i, float *w, uint64_t seed, double range)
{
    const nn_param *p = &m->param[i];
    const model_tensor *info = &m->info[i];
    int64_t n = tn_count(&p->t);
    uint64_t key = rng_key_text(seed, p->name);
    if (info->part && info->part->init && !info->bias &&
        info->part->init(info->cfg, info->slot, w, n, key))
        return;
    if (p->t.nd == 2)
        rng_fill_normal(w, n, key, 0.0f, (float)range_of(m, i, range));
    else if (!info->bias)
        for (int64_t k = 0; k < n; k++) w[k] = 1.0f;
}

static ft_status config_range(const model *m, double *range)
{
    js_doc d = {0};
    ft_status rc;
    FT_TRY(js_parse(&d, m->config, strlen(m->config), m->path, 1, JS_ALLOW_NONFINITE, FT_EDATA));
    rc = js_get_num(&d, d.root, "initializer_range", *range, range);
    js_close(&d);
    return rc;
}

ft_status model_init_open(model *m, uint64_t seed, double range)
{
    size_t bytes = 64;
    FT_TRY(config_range(m, &range));
    m->seed = seed;
    m->range = range;
    for (int64_t i = 0; i < m->n_param; i++)
        bytes += (size_t)tn_count(&m->param[i].t) * sizeof(float) + 64;
    return arena_open_flat(&m->own, "random weights", bytes);
}

ft_status model_init_head(model *m, uint64_t seed)
{
    nn_param *p = m->head->w;
    double range = 0.02;
    FT_TRY(config_range(m, &range));
    float *w = arena_get(m->mem, (size_t)tn_count(&p->t) * sizeof *w);
    if (!w) return FT_EMEM;
    fill(m, p->index, w, seed, range);
    p->t.type = &dt_f32;
    p->t.data = w;
    p->file_type = m->dtype;
    return FT_OK;
}

ft_status model_init_values(model *m, int64_t i)
{
    nn_param *p = &m->param[i];
    if (!m->own || p->t.data) return FT_OK;
    if (m->d.tied && p == m->head->w) {
        p->t = m->embed->w->t;
        return FT_OK;
    }
    float *w = arena_get(m->own, (size_t)tn_count(&p->t) * sizeof(float));
    if (!w) return FT_EMEM;
    fill(m, i, w, m->seed, m->range);
    p->t.data = w;
    return FT_OK;
}

void model_drop_values(model *m, int64_t i)
{
    tn_tensor *t = &m->param[i].t;
    if (!m->own || t->type != &dt_f32 || !t->data) return;
    file_map_forget(t->data, (size_t)tn_count(t) * sizeof(float));
    t->data = NULL;
    if (m->d.tied && &m->param[i] == m->embed->w) m->head->w->t.data = NULL;
}
