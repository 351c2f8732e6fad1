/* registry.c – the parameters and sites of a model, made by walking the names of its family in their order: each name is
 * looked up in the part (or the frame) that it speaks of, which says what it is and where it belongs. */
#include "model_private.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* --- the frame ------------------------------------------------------------------------------------------------- */
enum { EMBED, POSITION, NORM, HEAD };
static const model_slot frame_slots[] = {
    [EMBED] = {"embed", SLOT_TABLE, NN_EMBED, offsetof(model, embed), 0},
    [POSITION] = {"position", SLOT_TABLE, NN_POSITION, offsetof(model, position), SLOT_F32},
    [NORM] = {"norm", SLOT_NORM, NN_NORM, offsetof(model, norm), 0},
    [HEAD] = {"head", SLOT_TABLE, NN_HEAD, offsetof(model, head), 0},
    {0}};
static const model_slot layer_slots[] = {/* of the first part, of the second */
                                         {"norm1", SLOT_NORM, NN_NORM,
                                          offsetof(model_layer, sub[0].norm), 0},
                                         {"norm2", SLOT_NORM, NN_NORM,
                                          offsetof(model_layer, sub[1].norm), 0},
                                         {0}};

static model_shape frame_shape(const model *m, const model_slot *s)
{
    const model_dims *d = &m->d;
    if (s->kind == SLOT_NORM)
        return (model_shape){.in = d->hidden_size, .bias = m->family->norm->bias};
    const int64_t head = m->scores ? 1 : d->vocab_size;
    return (model_shape){.out = s->role == NN_POSITION ? d->max_position
                                : s->role == NN_HEAD   ? head
                                                       : d->vocab_size,
                         .in = d->hidden_size};
}

/* --- a name in a layer (or outside, −1) ------------------------------------------------------------------------------ */
typedef struct entry {
    const model_name *name;
    int layer, expert;
    const model_slot *slot;
    const model_use *use; /* NULL: the frame's */
    int index;            /* of the slot */
    char *base;           /* the struct that holds it; NULL while counting */
    model_shape shape;
} entry;

static const model_slot *find_slot(const model_slot *slots, const char *name, int *index)
{
    for (*index = 0; slots[*index].name; ++*index)
        if (strcmp(slots[*index].name, name) == 0) return &slots[*index];
    return NULL;
}

/* False: this layer has no such part. */
static bool look_up(model *m, const model_name *n, int layer, entry *e)
{
    model_layer *l = layer >= 0 ? &m->layer[layer] : NULL;
    const char *point = strchr(n->of, '.');
    *e = (entry){.name = n, .layer = layer};
    if (!point) {
        e->slot = find_slot(l ? layer_slots : frame_slots, n->of, &e->index);
        assert(e->slot);
        if (l && e->index >= l->n_sub) return false;
        if (!l && e->index == HEAD && m->scores) e->name = &model_score_name;
        e->base = l ? (char *)l : (char *)m;
        e->shape = frame_shape(m, e->slot);
        return true;
    }
    assert(l);
    for (int k = 0; k < l->n_sub; k++) {
        const model_use *u = l->sub[k].use;
        size_t len = strlen(u->row->name);
        if (strncmp(n->of, u->row->name, len) != 0 || n->of[len] != '.') continue;
        e->slot = find_slot(u->row->slots, point + 1, &e->index);
        assert(e->slot);
        e->use = u;
        e->base = l->sub[k].p;
        e->shape = u->row->shape(m, u->cfg, e->index);
        return !e->shape.absent;
    }
    return false;
}

/* --- names ------------------------------------------------------------------------------------------------------------ */
static const char *expand(model *m, const char *pattern, const entry *e, const char *suffix)
{
    str_buf b = {0};
    family_expand(&b, pattern, e->layer, e->expert);
    if (!(e->slot->flags & SLOT_BARE)) str_adds(&b, suffix);
    const char *name = str_ok(&b) == FT_OK ? arena_str(m->mem, b.data) : NULL;
    str_free(&b);
    return name;
}

/* --- placing ---------------------------------------------------------------------------------------------------------- */
static nn_param *add_param(model *m, const entry *e, bool bias, nn_site *site)
{
    nn_param *p = &m->param[m->n_param];
    p->index = m->n_param;
    model_tensor *info = &m->info[m->n_param++];
    const model_shape *s = &e->shape;
    const char *suffix = bias ? ".bias" : ".weight";
    bool linear = e->slot->kind == SLOT_LINEAR, in_out = linear && m->family->in_out;
    bool stacked = s->experts > 0 && !strstr(e->name->gguf, "%e");
    *info = (model_tensor){.part = e->use ? e->use->row : NULL,
                           .cfg = e->use ? e->use->cfg : NULL,
                           .slot = e->index,
                           .layer = e->layer,
                           .bias = bias,
                           .gguf_name = expand(m, e->name->gguf, e, suffix),
                           .hf_in_out = in_out,
                           .permute = m->family->gguf_permuted ? s->heads : 0,
                           .head_dim = s->head_dim,
                           .flags = e->slot->flags,
                           .expert = e->expert,
                           .experts = stacked ? s->experts : 0,
                           .site = site};
    p->name = expand(m, e->name->hf, e, suffix);
    p->hyper = (nn_hyper){.lr_ratio = 1.0f, .decay_ratio = bias || s->out == 0 ? 0.0f : 1.0f};
    bool flip = in_out && !m->from_gguf;
    if (bias)
        p->t = (tn_tensor){.nd = 1, .dim = {s->out ? s->out : s->in}};
    else if (s->out == 0)
        p->t = (tn_tensor){.nd = 1, .dim = {s->in}};
    else
        p->t = (tn_tensor){.nd = 2, .dim = {flip ? s->in : s->out, flip ? s->out : s->in}};
    p->t.type = p->file_type = &dt_f32;
    p->hf_turned = in_out && m->from_gguf && p->t.nd == 2;
    return p;
}

static nn_site *add_site(model *m, const entry *e)
{
    nn_site *s = &m->site[m->n_site];
    s->lead = s;
    s->index = m->n_site++;
    s->role = e->slot->role;
    s->layer = e->layer;
    s->path = expand(m, e->name->hf, e, "");
    s->frozen_row = e->slot->role == NN_EMBED ? (int32_t)m->d.pad_row : -1;
    s->in = e->shape.in;
    s->out = e->shape.out;
    s->in_out = e->slot->kind == SLOT_LINEAR && m->family->in_out && !m->from_gguf;
    s->w = add_param(m, e, false, s);
    if (e->shape.bias) s->b = add_param(m, e, true, s);
    return s;
}

static void join_group(nn_group *g, nn_site *s)
{
    if (g->n == 0) {
        g->site = s;
        g->in = s->in;
    }
    assert(s == g->site + g->n && s->in == g->in);
    s->lead = g->site;
    g->n++;
    g->out += s->out;
}

/* The place of a thing of `size` bytes: in the part's struct, or in the table of experts that the struct points to. */
static void *place_of(model *m, const entry *e, size_t size)
{
    char *at = e->base + e->slot->place;
    char **table = (char **)(void *)at;
    if (e->shape.experts == 0) return at;
    if (!*table) *table = arena_get(m->mem, (size_t)e->shape.experts * size);
    return *table ? *table + (size_t)e->expert * size : NULL;
}

static ft_status place(model *m, const entry *e)
{
    switch (e->slot->kind) {
    case SLOT_LINEAR: {
        nn_group *g = place_of(m, e, sizeof *g);
        if (!g) return FT_EMEM;
        join_group(g, add_site(m, e));
        return FT_OK;
    }
    case SLOT_TABLE: {
        nn_site **s = place_of(m, e, sizeof *s);
        if (!s) return FT_EMEM;
        *s = add_site(m, e);
        return FT_OK;
    }
    case SLOT_NORM: {
        model_norm *n = place_of(m, e, sizeof *n);
        if (!n) return FT_EMEM;
        n->w = add_param(m, e, false, NULL);
        if (e->shape.bias) n->b = add_param(m, e, true, NULL);
        return FT_OK;
    }
    default: {
        nn_param **p = place_of(m, e, sizeof *p);
        if (!p) return FT_EMEM;
        *p = add_param(m, e, false, NULL);
        return FT_OK;
    }
    }
}

const char *model_bias_key(const model *m, const nn_site *s)
{
    const model_tensor *info = &m->info[s->w->index];
    if (!info->part) return NULL;
    const char *name = info->part->shape(m, info->cfg, info->slot).bias_key;
    const model_key *key = name ? family_find_key(info->part->keys, name) : NULL;
    return key ? family_key(m->family, key).hf : NULL;
}

/* --- the walk ----------------------------------------------------------------------------------------------------------- */
typedef ft_status (*visitor)(model *m, const entry *e);

static bool in_layer(const model_name *n)
{
    return n->of && strstr(n->hf, "%d");
}

static bool of_expert(const model_name *n)
{
    return in_layer(n) && strstr(n->hf, "%e");
}

/* Names n … end − 1 speak of experts: all of the first expert, then of the next. */
static ft_status walk_experts(model *m, const model_name *n, const model_name *end, int layer,
                              visitor visit)
{
    int experts = 1;
    for (int i = 0; i < experts; i++) {
        for (const model_name *k = n; k < end; k++) {
            entry e;
            if (!look_up(m, k, layer, &e)) continue;
            FT_CHECK(e.shape.experts > 0 && e.shape.experts <= MAX_EXPERTS, FT_EDATA,
                     "%s: \"%s\": %d experts", ft_shows(m->path), k->hf, e.shape.experts);
            experts = e.shape.experts > experts ? e.shape.experts : experts;
            e.expert = i;
            if (i < e.shape.experts) FT_TRY(visit(m, &e));
        }
    }
    return FT_OK;
}

static ft_status walk_layer(model *m, const model_name *n, int layer, visitor visit)
{
    while (in_layer(n)) {
        const model_name *end = n;
        while (of_expert(end)) end++;
        if (end > n) {
            FT_TRY(walk_experts(m, n, end, layer, visit));
            n = end;
            continue;
        }
        entry e;
        if (!look_up(m, n++, layer, &e)) continue;
        assert(e.shape.experts == 0); /* their names have %e */
        FT_TRY(visit(m, &e));
    }
    return FT_OK;
}

static ft_status walk(model *m, visitor visit)
{
    const model_name *n = m->family->names;
    bool layers = false;
    while (n->of) {
        entry e;
        if (!in_layer(n)) {
            if (look_up(m, n++, -1, &e)) FT_TRY(visit(m, &e));
            continue;
        }
        for (int i = 0; i < m->d.n_layer && !layers; i++) FT_TRY(walk_layer(m, n, i, visit));
        layers = true;
        while (in_layer(n)) n++;
    }
    return FT_OK;
}

static ft_status count(model *m, const entry *e)
{
    m->n_param += e->shape.bias ? 2 : 1;
    m->n_site += e->slot->kind == SLOT_LINEAR || e->slot->kind == SLOT_TABLE;
    return FT_OK;
}

ft_status model_build(model *m)
{
    FT_TRY(walk(m, count));
    m->param = arena_get(m->mem, (size_t)m->n_param * sizeof *m->param);
    m->info = arena_get(m->mem, (size_t)m->n_param * sizeof *m->info);
    m->site = arena_get(m->mem, (size_t)m->n_site * sizeof *m->site);
    if (!m->param || !m->info || !m->site) return FT_EMEM;
    for (int i = 0; i < m->d.n_layer; i++) {
        for (int k = 0; k < m->layer[i].n_sub; k++) {
            model_sub *s = &m->layer[i].sub[k];
            s->p = arena_get(m->mem, s->use->row->size);
            if (!s->p) return FT_EMEM;
        }
    }
    m->n_param = m->n_site = 0;
    FT_TRY(walk(m, place));
    for (int64_t i = 0; i < m->n_param; i++)
        if (!m->param[i].name || !m->info[i].gguf_name) return FT_EMEM;
    for (int64_t i = 0; i < m->n_site; i++)
        if (!m->site[i].path) return FT_EMEM;
    return FT_OK;
}
