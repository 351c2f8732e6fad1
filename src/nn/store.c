/* store.c – the trainable values of a run, its states, and further uses of one value.
 *
 * Values and gradients lie in arenas of their own, one behind the other: an arena never moves what it gave, so both are flat
 * ranges without being allocated as such. States and aliases have arenas of their own, opened when the first one comes. */
#include "ft/kernel.h"
#include "ft/nn.h"

#include <string.h>

enum { FLOATS = 16 }; /* arenas align to 64 bytes */

typedef struct list {
    nn_param **at;
    int64_t n, cap;
} list;

struct nn_store_mem {
    bool dry, frozen;
    arena *small;   /* parameters and lists */
    arena *w, *g;   /* flat ranges */
    arena *s, *a;   /* states; gradients of aliases */
    list alias, of; /* of[i]: whose gradient alias[i] joins; NULL: nobody's, it is derived */
    int64_t cap, state_cap;
};

/* A dry one has values in pieces, of address space alone while nobody touches them. */
static ft_status open_store(nn_store *s, size_t bytes, bool frozen)
{
    const bool dry = bytes == 0;
    ft_status rc = FT_OK;
    *s = (nn_store){.mem = ft_alloc(1, sizeof *s->mem)};
    if (!s->mem) return FT_EMEM;
    s->mem->dry = dry;
    s->mem->frozen = frozen;
    FT_TRY_OUT(arena_open(&s->mem->small, "parameters", (size_t)256 << 20));
    FT_TRY_OUT(dry ? arena_open(&s->mem->w, "trainable parameters", SIZE_MAX / 4)
                   : arena_open_flat(&s->mem->w, "trainable parameters", bytes));
    if (!frozen)
        rc = dry ? arena_open_counting(&s->mem->g, "gradients")
                 : arena_open_flat(&s->mem->g, "gradients", bytes);
out:
    if (rc != FT_OK) nn_store_close(s);
    return rc;
}

ft_status nn_store_open(nn_store *s, size_t bytes)
{
    return open_store(s, bytes, false);
}

ft_status nn_store_open_frozen(nn_store *s, size_t bytes)
{
    return open_store(s, bytes, true);
}

size_t nn_store_bytes(const nn_store *s)
{
    return (size_t)s->count * sizeof(float);
}

void nn_store_close(nn_store *s)
{
    if (!s->mem) return;
    arena_close(s->mem->w);
    arena_close(s->mem->g);
    arena_close(s->mem->s);
    arena_close(s->mem->a);
    arena_close(s->mem->small);
    ft_free(s->mem);
    *s = (nn_store){0};
}

/* Room for one more of n pointers or offsets (8 bytes each); old lists stay in the arena. */
static void *grown(arena *mem, void *old, int64_t n, int64_t *cap)
{
    if (n < *cap) return old;
    int64_t more = *cap ? 2 * *cap : 256;
    void *new = arena_get(mem, (size_t)more * sizeof(int64_t));
    if (!new) return NULL;
    if (n > 0) memcpy(new, old, (size_t)n * sizeof(int64_t));
    *cap = more;
    return new;
}

static ft_status make(nn_store *s, const char *name, int64_t rows, int64_t cols, nn_param **out)
{
    nn_param *p = arena_get(s->mem->small, sizeof *p);
    *out = p;
    if (!p) return FT_EMEM;
    *p = (nn_param){.name = name,
                    .file_type = &dt_f32,
                    .hyper = {.lr_ratio = 1.0f, .decay_ratio = 1.0f},
                    .t = {.type = &dt_f32, .nd = cols ? 2 : 1, .dim = {rows, cols}}};
    return FT_OK;
}

ft_status nn_new_param(nn_store *s, const char *name, int64_t rows, int64_t cols, nn_param **out)
{
    nn_param *p;
    int64_t cap = s->mem->cap, cap2 = cap;
    *out = NULL;
    FT_TRY(make(s, name, rows, cols, &p));
    size_t bytes = (size_t)tn_count(&p->t) * sizeof(float);
    nn_param **param = grown(s->mem->small, s->param, s->n, &cap);
    int64_t *offset = grown(s->mem->small, s->offset, s->n, &cap2);
    float *w = arena_get(s->mem->w, bytes), *g = NULL;
    if (w && s->mem->g && !(g = arena_get(s->mem->g, bytes))) return FT_EMEM;
    if (!param || !offset || !w) return FT_EMEM;
    s->mem->cap = cap;
    s->param = param;
    s->offset = offset;
    if (s->n == 0) {
        s->w = w;
        s->g = g;
    }
    s->param[s->n] = p;
    s->offset[s->n++] = s->count;
    s->count += (tn_count(&p->t) + FLOATS - 1) / FLOATS * FLOATS;
    p->t.data = w;
    p->t.grad = g;
    p->t.wants_grad = true;
    *out = p;
    return FT_OK;
}

/* A parameter with values outside the flat range. */
static ft_status make_state(nn_store *s, const char *name, int64_t rows, int64_t cols,
                            nn_param **out)
{
    FT_TRY(make(s, name, rows, cols, out));
    if (!s->mem->s) FT_TRY(arena_open(&s->mem->s, "states of the method", SIZE_MAX / 4));
    (*out)->t.data = arena_get(s->mem->s, (size_t)tn_count(&(*out)->t) * sizeof(float));
    return (*out)->t.data ? FT_OK : FT_EMEM;
}

ft_status nn_new_state(nn_store *s, const char *name, int64_t rows, int64_t cols, nn_param **out)
{
    nn_param *p;
    *out = NULL;
    FT_TRY(make_state(s, name, rows, cols, &p));
    s->state = grown(s->mem->small, s->state, s->n_state, &s->mem->state_cap);
    if (!s->state) return FT_EMEM;
    s->state[s->n_state++] = p;
    s->state_count += tn_count(&p->t);
    *out = p;
    return FT_OK;
}

ft_status nn_train_copy(nn_store *s, nn_overlay *o, nn_param *p)
{
    nn_param *own;
    if (o->own[p->index]) return FT_OK;
    FT_TRY(nn_new_param(s, p->name, p->t.dim[0], p->t.nd == 2 ? p->t.dim[1] : 0, &own));
    own->file_type = p->file_type;
    own->hyper = p->hyper;
    if (p->t.data && !s->mem->dry) tn_unpack_rows(tn_f32(&own->t), &p->t, 0, tn_rows(&p->t));
    o->own[p->index] = own;
    return FT_OK;
}

/* --- further uses ------------------------------------------------------------------------------------------ */
static ft_status append(arena *mem, list *l, nn_param *p)
{
    l->at = grown(mem, l->at, l->n, &l->cap);
    if (!l->at) return FT_EMEM;
    l->at[l->n++] = p;
    return FT_OK;
}

/* Gives p a gradient of its own, which joins that of `of`, or nobody's. */
static ft_status own_gradient(nn_store *s, nn_param *p, nn_param *of)
{
    struct nn_store_mem *m = s->mem;
    if (!m->a && !m->frozen)
        FT_TRY(m->dry ? arena_open_counting(&m->a, "gradients of aliases")
                      : arena_open(&m->a, "gradients of aliases", SIZE_MAX / 4));
    p->t.grad = m->a ? arena_get(m->a, (size_t)tn_count(&p->t) * sizeof(float)) : NULL;
    if (m->a && !p->t.grad) return FT_EMEM;
    FT_TRY(append(m->small, &m->alias, p));
    FT_TRY(append(m->small, &m->of, of));
    s->alias_count += tn_count(&p->t);
    return FT_OK;
}

ft_status nn_alias(nn_store *s, nn_param *of, nn_param **out)
{
    const struct nn_store_mem *m = s->mem;
    nn_param *p = arena_get(m->small, sizeof *p);
    *out = NULL;
    if (!p) return FT_EMEM;
    for (int64_t i = 0; i < m->alias.n; i++) /* a use of a use is one of the value itself */
        if (m->alias.at[i] == of && m->of.at[i]) of = m->of.at[i];
    *p = *of;
    FT_TRY(own_gradient(s, p, of));
    *out = p;
    return FT_OK;
}

ft_status nn_new_derived(nn_store *s, const char *name, int64_t rows, int64_t cols, nn_param **out)
{
    nn_param *p;
    *out = NULL;
    FT_TRY(make_state(s, name, rows, cols, &p));
    FT_TRY(own_gradient(s, p, NULL));
    p->t.wants_grad = true;
    s->derived_count += tn_count(&p->t);
    *out = p;
    return FT_OK;
}

static void zero(float *x, int64_t n)
{
    if (n > 0) memset(x, 0, (size_t)n * sizeof *x);
}

ft_status nn_new_followed(nn_store *s, const char *name, int64_t rows, int64_t cols, nn_param **out)
{
    FT_TRY(make_state(s, name, rows, cols, out));
    s->derived_count += tn_count(&(*out)->t);
    return FT_OK;
}

ft_status nn_new_gradient(nn_store *s, const tn_tensor *of, nn_param **out)
{
    nn_param *p = arena_get(s->mem->small, sizeof *p);
    *out = NULL;
    if (!p) return FT_EMEM;
    p->t = *of;
    FT_TRY(own_gradient(s, p, NULL));
    *out = p;
    return FT_OK;
}

void nn_store_begin(nn_store *s)
{
    const list *alias = &s->mem->alias;
    zero(s->g, s->count);
    for (int64_t i = 0; i < alias->n; i++) zero(alias->at[i]->t.grad, tn_count(&alias->at[i]->t));
}

void nn_store_finish(nn_store *s)
{
    const struct nn_store_mem *m = s->mem;
    for (int64_t i = 0; i < m->alias.n; i++) {
        const nn_param *of = m->of.at[i];
        if (of) kn_axpy(of->t.grad, 1.0f, m->alias.at[i]->t.grad, tn_count(&of->t));
    }
}
