/* block.c – a block at hand: its values as f32, and what became of it as a file of the work folder, which a walk that goes on
 * reads instead of making it again, and which the result is written from.
 *
 * A file is block-I.safetensors. Of each linear that is changed it has NAME.told (what was lost, of how much, zeros) and, of a
 * quantiser, NAME.q, .scale, .zero, .g_idx, else NAME in the dtype of the base; of other parameters NAME.own in f32. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compress_private.h"

enum { TOLD = 3 };

cmp_linear *cmp_linear_of(const cmp_block *b, const nn_site *s)
{
    for (int i = 0; i < b->n; i++)
        if (b->linear[i].site == s) return &b->linear[i];
    return NULL;
}

int cmp_group_number(const cmp_block *b, const nn_group *g)
{
    for (int i = 0; i < b->n_group; i++)
        if (b->group[i] == g) return i;
    return -1;
}

bool cmp_group_chosen(const cmp_block *b, const nn_group *g)
{
    for (int i = 0; i < g->n; i++)
        if (cmp_linear_of(b, &g->site[i])->chosen) return true;
    return false;
}

/* Of a dry pass: the groups as they come. */
void cmp_walk_list(cmp_block *b, const nn_group *g)
{
    if (cmp_group_number(b, g) >= 0 || g->site[0].layer != b->layer) return;
    const nn_group **group = (const nn_group **)(uintptr_t)b->group;
    group[b->n_group++] = g;
    for (int i = 0; i < g->n; i++) b->linear[b->n++] = (cmp_linear){.site = &g->site[i]};
}

/* [out, in] of the model's own values. */
static void read_values(const nn_site *s, float *out, float *row)
{
    const tn_tensor *t = &s->w->t;
    if (!s->in_out) {
        for (int64_t r = 0; r < s->out; r++) tn_unpack_rows(out + r * s->in, t, r, 1);
        return;
    }
    for (int64_t i = 0; i < s->in; i++) {
        tn_unpack_rows(row, t, i, 1);
        for (int64_t r = 0; r < s->out; r++) out[r * s->in + i] = row[r];
    }
}

ft_status cmp_weights(cmp_walk *w, const nn_site *s, float *out)
{
    (void)w;
    float *row = ft_alloc((size_t)s->out, sizeof *row);
    if (!row) return FT_EMEM;
    read_values(s, out, row);
    ft_free(row);
    return FT_OK;
}

ft_status cmp_original(const cmp_block *b, const cmp_linear *l, float *out)
{
    return cmp_weights(b->walk, l->site, out);
}

float *cmp_vector(cmp_block *b, nn_param *p)
{
    cmp_walk *w = b->walk;
    for (cmp_vectors *v = w->vectors; v; v = v->before)
        if (v->of == p) return tn_f32(&v->own.t);
    cmp_vectors *v = arena_get(b->mem, sizeof *v);
    float *values = arena_get(b->mem, (size_t)tn_count(&p->t) * sizeof *values);
    if (!v || !values) return NULL;
    tn_unpack_rows(values, &p->t, 0, tn_rows(&p->t));
    *v = (cmp_vectors){.own = *p, .of = p, .before = w->vectors};
    v->own.t = (tn_tensor){.type = &dt_f32, .nd = p->t.nd, .data = values};
    memcpy(v->own.t.dim, p->t.dim, sizeof p->t.dim);
    w->vectors = v;
    w->over.own[p->index] = &v->own;
    return values;
}

ft_status cmp_block_open(cmp_walk *w, int layer, cmp_block *b)
{
    const cmp_block *shape = &w->shape[layer];
    arena_reset(w->block_mem, 0);
    *b = *shape;
    b->mem = w->block_mem;
    b->linear = arena_get(b->mem, (size_t)(b->n + 1) * sizeof *b->linear);
    if (!b->linear) return FT_EMEM;
    for (int i = 0; i < b->n; i++) {
        cmp_linear *l = &b->linear[i];
        *l = shape->linear[i];
        const nn_site *s = l->site;
        l->w = arena_raw(b->mem, (size_t)(s->out * s->in) * sizeof *l->w);
        if (!l->w) return FT_EMEM;
        FT_TRY(cmp_original(b, l, l->w));
        w->own[s->index] =
            (tn_tensor){.type = &dt_f32, .nd = 2, .dim = {s->out, s->in}, .data = l->w};
    }
    w->vectors = NULL;
    return FT_OK;
}

/* --- parts of a file ------------------------------------------------------------------------------------------------- */
typedef struct parts { /* tensors on their way into a file, or sought in one */
    arena *mem;
    st_decl decl[8];
    const void *data[8];
    int n;
} parts;

static void add(parts *p, const char *name, const char *suffix, const dt_type *type,
                const void *data, int nd, int64_t d0, int64_t d1)
{
    const char *whole = arena_printf(p->mem, "%s%s", name, suffix);
    p->decl[p->n] = (st_decl){.name = whole, .type = type, .nd = nd, .dim = {d0, d1}};
    p->data[p->n++] = data;
}

/* What stands for a linear; values: in the dtype of the base, where they are no codes. */
static void of_linear(const cmp_walk *w, parts *p, const cmp_linear *l, const void *values,
                      const double *told)
{
    const nn_site *s = l->site;
    const cmp_codes *c = &l->codes;
    const dt_type *u8 = dt_by_name("u8");
    add(p, s->w->name, ".told", dt_by_name("f64"), told, 1, TOLD, 1);
    if (!w->o.method->writes) {
        add(p, s->w->name, "", s->w->file_type, values, 2, s->out, s->in);
        return;
    }
    add(p, s->w->name, ".q", u8, c->q, 2, s->out, s->in);
    add(p, s->w->name, ".scale", &dt_f16, c->scale, 2, s->out, c->groups);
    add(p, s->w->name, ".zero", u8, c->zero, 2, s->out, c->groups);
    add(p, s->w->name, ".g_idx", dt_by_name("i32"), c->g_idx, 1, s->in, 1);
}

static const char *file_of(const cmp_walk *w, int layer, arena *mem)
{
    char name[32];
    snprintf(name, sizeof name, "block-%d.safetensors", layer);
    return path_join(mem, w->o.dir, name);
}

/* Values are what the file holds of them. */
static ft_status round_values(cmp_linear *l, arena *mem, void **values)
{
    const dt_type *type = l->site->w->file_type;
    const int64_t n = l->site->out * l->site->in;
    size_t bytes;
    FT_CHECK(type->pack && dt_bytes(type, n, &bytes), FT_EINTERNAL, "\"%s\": dtype",
             l->site->w->name);
    *values = arena_raw(mem, bytes);
    if (!*values) return FT_EMEM;
    type->pack(*values, l->w, n);
    FT_CHECK(dt_find_nonfinite(type, *values, n) < 0, FT_EDIVERGED,
             "\"%s\": a value is NaN, Inf or beyond the range of %s", l->site->w->name, type->name);
    type->unpack(l->w, *values, n);
    return FT_OK;
}

static void note(cmp_walk *w, const cmp_linear *l, const double *told)
{
    for (int64_t i = 0; i < w->n_chosen; i++) {
        if (w->chosen[i] != l->site) continue;
        w->lost[i] = told[0];
        w->whole[i] = told[1];
        w->zeros[i] = told[2];
        w->told[i] = (cmp_told){.name = l->site->w->name,
                                .error = told[0] == 0 ? 0 : told[0] / told[1],
                                .sparsity = told[2] / ((double)l->site->out * (double)l->site->in)};
    }
}

ft_status cmp_block_save(cmp_block *b)
{
    cmp_walk *w = b->walk;
    int64_t n = 0, most = 8 * (int64_t)b->n;
    for (cmp_vectors *v = w->vectors; v; v = v->before) most++;
    st_decl *decl = arena_get(b->mem, (size_t)most * sizeof *decl);
    const void **data = arena_get(b->mem, (size_t)most * sizeof *data);
    const char *path = file_of(w, b->layer, b->mem);
    if (!decl || !data || !path) return FT_EMEM;
    for (int i = 0; i < b->n; i++) {
        cmp_linear *l = &b->linear[i];
        parts p = {.mem = b->mem};
        void *values = NULL;
        double *told = arena_get(b->mem, TOLD * sizeof *told);
        if (!told) return FT_EMEM;
        if (!l->chosen) continue;
        if (!w->o.method->writes) FT_TRY(round_values(l, b->mem, &values));
        memcpy(told,
               (double[]){l->lost, l->whole,
                          (double)dt_count_zeros(&dt_f32, l->w, l->site->out * l->site->in)},
               TOLD * sizeof *told);
        note(w, l, told);
        of_linear(w, &p, l, values, told);
        for (int k = 0; k < p.n; k++, n++) {
            decl[n] = p.decl[k];
            data[n] = p.data[k];
            if (!decl[n].name) return FT_EMEM;
        }
    }
    for (cmp_vectors *v = w->vectors; v; v = v->before, n++) {
        parts p = {.mem = b->mem};
        add(&p, v->of->name, ".own", &dt_f32, v->own.t.data, 1, tn_count(&v->own.t), 1);
        decl[n] = p.decl[0];
        data[n] = p.data[0];
        if (!decl[n].name) return FT_EMEM;
    }
    return st_write_all(path, decl, data, n, NULL, 0);
}

/* --- reading it back --------------------------------------------------------------------------------------------------- */
ft_status cmp_block_done(const cmp_walk *w, int layer, bool *done)
{
    char name[32];
    path_kind kind;
    snprintf(name, sizeof name, "block-%d.safetensors", layer);
    FT_TRY(path_look_in(w->o.dir, name, &kind));
    *done = kind == PATH_FILE;
    return FT_OK;
}

ft_status cmp_file_open(cmp_walk *w, int layer)
{
    st_file *f = &w->file[layer];
    const char *path = file_of(w, layer, w->mem);
    if (!path) return FT_EMEM;
    return f->path ? FT_OK : st_open(f, path, w->mem);
}

/* A tensor of just this type and shape. */
static ft_status find(const st_file *f, const st_decl *d, const void **data)
{
    const io_tensor *t = d->name ? st_find(f, d->name) : NULL;
    bool fits = t && t->type == d->type && t->nd == d->nd;
    for (int k = 0; fits && k < d->nd; k++) fits = t->dim[k] == d->dim[k];
    FT_CHECK(fits, FT_EDATA, "%s: holds no \"%s\" as this run makes it; start anew with --force",
             ft_shows(f->path), ft_shows(d->name));
    *data = t->data;
    return FT_OK;
}

ft_status cmp_linear_load(cmp_walk *w, int layer, cmp_linear *l, const void **values, arena *mem)
{
    const st_file *f = &w->file[layer];
    parts p = {.mem = mem};
    const io_tensor *scale = NULL;
    const char *name = arena_printf(mem, "%s.scale", l->site->w->name);
    if (!name) return FT_EMEM;
    FT_TRY(cmp_file_open(w, layer));
    if (w->o.method->writes) scale = st_find(f, name);
    l->codes = (cmp_codes){.groups = scale && scale->nd == 2 ? scale->dim[1] : 1};
    of_linear(w, &p, l, NULL, NULL);
    for (int k = 0; k < p.n; k++) FT_TRY(find(f, &p.decl[k], &p.data[k]));
    double told[TOLD];
    memcpy(told, p.data[0], sizeof told);
    note(w, l, told);
    *values = p.data[1];
    if (!w->o.method->writes) return FT_OK;
    model_packed_cfg cfg;
    w->o.method->packed(w->o.cfg, &cfg);
    l->codes = (cmp_codes){.bits = (int)cfg.bits,
                           .groups = l->codes.groups,
                           .q = (uint8_t *)(uintptr_t)p.data[1],
                           .scale = (uint16_t *)(uintptr_t)p.data[2],
                           .zero = (uint8_t *)(uintptr_t)p.data[3],
                           .g_idx = (int32_t *)(uintptr_t)p.data[4]};
    return FT_OK;
}

void cmp_linear_forget(const cmp_linear *l, const void *values)
{
    const cmp_codes *c = &l->codes;
    const size_t n = (size_t)(l->site->out * l->site->in);
    size_t bytes = n;
    if (!c->q && !dt_bytes(l->site->w->file_type, (int64_t)n, &bytes)) return;
    file_map_forget(values, bytes);
    if (c->scale) file_map_forget(c->scale, (size_t)(l->site->out * c->groups) * sizeof *c->scale);
    if (c->zero) file_map_forget(c->zero, (size_t)(l->site->out * c->groups));
}

static ft_status check_groups(const cmp_linear *l)
{
    for (int64_t i = 0; i < l->site->in; i++)
        FT_CHECK(l->codes.g_idx[i] >= 0 && l->codes.g_idx[i] < l->codes.groups, FT_EDATA,
                 "\"%s\": what is done of it is damaged; start anew with --force",
                 l->site->w->name);
    return FT_OK;
}

/* Values of codes, for the stream. */
static void decode(cmp_linear *l)
{
    const cmp_codes *c = &l->codes;
    for (int64_t r = 0; r < l->site->out; r++)
        for (int64_t i = 0; i < l->site->in; i++) {
            const int64_t at = r * c->groups + c->g_idx[i], k = r * l->site->in + i;
            l->w[k] = cmp_value(cmp_scale(c->scale[at]), c->q[k], c->zero[at]);
        }
}

ft_status cmp_block_load(cmp_block *b)
{
    for (int i = 0; i < b->n; i++) {
        cmp_linear *l = &b->linear[i];
        const void *values;
        if (!l->chosen) continue;
        FT_TRY(cmp_linear_load(b->walk, b->layer, l, &values, b->mem));
        if (l->codes.q) {
            FT_TRY(check_groups(l));
            decode(l);
        } else {
            l->site->w->file_type->unpack(l->w, values, l->site->out * l->site->in);
        }
        cmp_linear_forget(l, values);
    }
    return FT_OK;
}
