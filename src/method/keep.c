/* keep.c – method.keep_zeros: a weight of a linear layer of the blocks that is exactly 0 in the base stays so, so that a pruned
 * model is still one after training.
 *
 *   trained copies (full, modules_to_save):  gradients are masked before their norm is taken, values after each update
 *   changes of a weight (the LoRA family):   the module computes with W + M ⊙ ΔW,  M = (W ≠ 0); where the method moves W
 *                                            itself (delta_lora), with W as it is now, masked as a trained copy is
 * A masked change is no low-rank product any more: W + M ⊙ ΔW is made once a step, by the method's own fold, and is the weight
 * of the product. Its gradient is one chain over the step; M ⊙ it goes back through the fold (pe_method.unfold) when it is
 * whole. A merged model is that same matrix, rounded. With dropout, which ΔW alone sees, M ⊙ ΔW is a product of its own.
 *
 * Of a mask a bit a weight is kept: the base's own values may be gone by then (model_drop_values). */
#include "ft/method.h"
#include "method_private.h"

#include <math.h>
#include <string.h>

typedef struct kept { /* a site that something changes */
    const nn_site *site;
    uint8_t *mask; /* [rows of s->w][⌈columns / 8⌉] 1 where the base is not 0; NULL: a dry one */
    nn_param *own; /* its trained copy; NULL: none */
    nn_param
        *made; /* [as s->w] W + M ⊙ ΔW, or M ⊙ ΔW where it drops; NULL: no change of a weight */
    float dropout; /* of the input of ΔW, by `key` */
    uint64_t key;
    tn_tensor ones; /* [out], where it drops */
} kept;

struct pe_keep {
    nn_hooks hooks;      /* the method's, with these sites taken out */
    const nn_hooks *own; /* the method's */
    kept *at;            /* [n] */
    int64_t n;
    kept **of; /* [n_site] */
    arena *mem;
};

/* --- masks ----------------------------------------------------------------------------------------------------------- */
static bool is_of_block(const nn_site *s)
{
    return s->layer >= 0 && s->role != NN_EMBED && s->role != NN_POSITION;
}

static size_t mask_row(const tn_tensor *w)
{
    return (size_t)(tn_cols(w) + 7) / 8;
}

typedef struct mask_job {
    const kept *k;
    const tn_tensor *w; /* the base's values, or those of its copy */
    float *to;
    const float *from;
} mask_job;

enum { ROWS_A_TILE = 16 };

static void each_row(pool_fn fn, mask_job *j)
{
    if (!j->w) j->w = &j->k->site->w->t;
    pool_run(fn, j, (tn_rows(j->w) + ROWS_A_TILE - 1) / ROWS_A_TILE);
}

static int64_t end_of(const mask_job *j, int64_t tile)
{
    const int64_t end = (tile + 1) * ROWS_A_TILE, rows = tn_rows(j->w);
    return end < rows ? end : rows;
}

static void take_tile(void *ctx, int64_t tile, int thread)
{
    const mask_job *j = ctx;
    const int64_t cols = tn_cols(j->w);
    float *row = pool_scratch(thread, 0, (size_t)cols * sizeof *row);
    for (int64_t r = tile * ROWS_A_TILE; row && r < end_of(j, tile); r++) {
        uint8_t *bits = j->k->mask + (size_t)r * mask_row(j->w);
        tn_unpack_rows(row, j->w, r, 1);
        for (int64_t c = 0; c < cols; c++)
            bits[c / 8] |= (uint8_t)((unsigned)(row[c] != 0.0f) << c % 8);
    }
}

/* What is masked becomes 0; one that is 0 already keeps its sign. */
static void mask_tile(void *ctx, int64_t tile, int thread)
{
    const mask_job *j = ctx;
    const int64_t cols = tn_cols(j->w);
    (void)thread;
    for (int64_t r = tile * ROWS_A_TILE; r < end_of(j, tile); r++) {
        const uint8_t *bits = j->k->mask + (size_t)r * mask_row(j->w);
        float *to = j->to + r * cols;
        for (int64_t c = 0; c < cols; c++)
            if (!(bits[c / 8] >> c % 8 & 1) && to[c] != 0.0f) to[c] = 0.0f;
    }
}

static void mask_values(const kept *k, float *x)
{
    each_row(mask_tile, &(mask_job){.k = k, .to = x});
}

/* --- attaching -------------------------------------------------------------------------------------------------------- */
/* What the change of a weight is made with in a step that drops. */
static void find_dropout(const pe_ctx *c, kept *k)
{
    ag_weight w = {0};
    nn_run run = {.over = &c->over, .drops = true};
    if (c->over.hooks->weight) c->over.hooks->weight(&run, k->site, &w);
    k->dropout = w.low.a ? w.low.dropout : 0.0f;
    k->key = w.low.key;
}

static ft_status check_float(const pe_ctx *c, const nn_param *w)
{
    const bool coded = w->t.type->block > 1 || w->t.type->read;
    FT_CHECK(!coded || !c->m->make, FT_ECONFIG,
             "method.keep_zeros: does not go with model.quantization: in %s \"%s\" has no weights "
             "that are exactly 0",
             w->t.type->name, ft_shows(w->name));
    FT_CHECK(!coded, FT_EDATA,
             "%s: \"%s\" is quantised (%s), and keep_zeros keeps weights that are exactly 0; make "
             "numbers of the base with ft convert --type bf16",
             ft_shows(c->m->path), ft_shows(w->name), w->t.type->name);
    return FT_OK;
}

static ft_status take_mask(struct pe_keep *keep, kept *k, bool dry)
{
    const tn_tensor *w = &k->site->w->t;
    if (dry) return FT_OK;
    k->mask = arena_get(keep->mem, (size_t)tn_rows(w) * mask_row(w));
    if (!k->mask) return FT_EMEM;
    if (w->data) each_row(take_tile, &(mask_job){.k = k});
    FT_CHECK(!pool_failed(), FT_EMEM, "out of memory");
    return FT_OK;
}

static ft_status make_ones(struct pe_keep *keep, kept *k)
{
    const int64_t n = k->site->out;
    float *one = arena_get(keep->mem, (size_t)n * sizeof *one);
    if (!one) return FT_EMEM;
    for (int64_t i = 0; i < n; i++) one[i] = 1.0f;
    k->ones = (tn_tensor){.type = &dt_f32, .nd = 1, .dim = {n}, .data = one};
    return FT_OK;
}

static ft_status keep_site(pe_ctx *c, const nn_site *s, bool changed)
{
    struct pe_keep *keep = c->keep;
    const tn_tensor *w = &s->w->t;
    kept *k = &keep->at[keep->n++];
    const size_t values = (size_t)tn_count(w) * sizeof(float);
    *k = (kept){.site = s, .own = c->over.own[s->w->index]};
    FT_TRY(check_float(c, s->w));
    keep->of[s->index] = k;
    c->beside += (size_t)tn_rows(w) * mask_row(w);
    if (changed) {
        FT_TRY(nn_new_derived(&c->store, s->w->name, w->dim[0], w->dim[1], &k->made));
        if ((s->in_out ? 2 : 1) * values > c->folding) c->folding = (s->in_out ? 2 : 1) * values;
        find_dropout(c, k);
        if (k->dropout > 0.0f) FT_TRY(make_ones(keep, k));
    }
    return take_mask(keep, k, c->dry || c->m->no_weights);
}

static const nn_hooks masked_hooks;

/* The sites that a method changes by a product of its own. */
ft_status pe_keep_attach(pe_ctx *c)
{
    const model *m = c->m;
    struct pe_keep *keep = c->keep = arena_get(c->mem, sizeof *keep);
    if (!keep) return FT_EMEM;
    FT_TRY(arena_open(&keep->mem, "masks", SIZE_MAX / 4));
    keep->at = arena_get(c->mem, (size_t)m->n_site * sizeof *keep->at);
    keep->of = arena_get(c->mem, (size_t)m->n_site * sizeof(kept *));
    if (!keep->at || !keep->of) return FT_EMEM;
    keep->own = c->over.hooks;
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *s = &m->site[i];
        const bool changed = c->method->unfold && nn_slot_of(&c->over, s);
        if (is_of_block(s) && (changed || c->over.own[s->w->index]))
            FT_TRY(keep_site(c, s, changed));
    }
    keep->hooks = *keep->own;
    keep->hooks.weight = masked_hooks.weight;
    keep->hooks.post = masked_hooks.post;
    c->over.hooks = &keep->hooks;
    return FT_OK;
}

const nn_hooks *pe_keep_method_hooks(const pe_ctx *c)
{
    return c->keep->own;
}

void pe_keep_close(struct pe_keep *keep)
{
    if (keep) arena_close(keep->mem);
}

ft_status pe_keep_zeros(pe_ctx *c)
{
    if (c->keep) return FT_OK;
    c->keep_zeros = true;
    FT_TRY(pe_keep_attach(c));
    if (c->dry) return FT_OK;
    for (int64_t i = 0; i < c->keep->n; i++) {
        const kept *k = &c->keep->at[i];
        if (k->own) mask_values(k, tn_f32(&k->own->t));
    }
    return pe_keep_make(c);
}

/* --- the weight of a step ---------------------------------------------------------------------------------------------- */
static void base_tile(void *ctx, int64_t tile, int thread)
{
    const mask_job *j = ctx;
    const int64_t first = tile * ROWS_A_TILE;
    (void)thread;
    tn_unpack_rows(j->to + first * tn_cols(j->w), j->w, first, end_of(j, tile) - first);
}

static void less_tile(void *ctx, int64_t tile, int thread)
{
    const mask_job *j = ctx;
    const int64_t cols = tn_cols(j->w);
    float *row = pool_scratch(thread, 0, (size_t)cols * sizeof *row);
    for (int64_t r = tile * ROWS_A_TILE; row && r < end_of(j, tile); r++) {
        float *to = j->to + r * cols;
        tn_unpack_rows(row, j->w, r, 1);
        for (int64_t c = 0; c < cols; c++) to[c] -= row[c];
    }
}

static ft_status make(const pe_ctx *c, const kept *k)
{
    float *w = tn_f32(&k->made->t);
    mask_job j = {.k = k, .w = k->own ? &k->own->t : NULL, .to = w};
    each_row(base_tile, &j);
    FT_TRY(c->method->fold(c, k->site, w, NULL));
    if (k->dropout > 0.0f) each_row(less_tile, &j);
    mask_values(k, w);
    FT_CHECK(!pool_failed(), FT_EMEM, "out of memory");
    return FT_OK;
}

ft_status pe_keep_make(const pe_ctx *c)
{
    for (int64_t i = 0; c->keep && !c->dry && i < c->keep->n; i++)
        if (c->keep->at[i].made) FT_TRY(make(c, &c->keep->at[i]));
    return FT_OK;
}

ft_status pe_before_step(pe_ctx *c, int64_t step)
{
    if (c->method->before_step) FT_TRY(c->method->before_step(c, step));
    pe_qat_ready(c->qat, step, false);
    return pe_keep_make(c);
}

/* --- forward ---------------------------------------------------------------------------------------------------------- */
static const struct pe_keep *keep_of(const nn_run *r)
{
    return ((const pe_ctx *)r->over->ctx)->keep;
}

static kept *made_at(const struct pe_keep *keep, const nn_site *s)
{
    kept *k = keep->of[s->index];
    return k && k->made ? k : NULL;
}

static void weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    const struct pe_keep *keep = keep_of(r);
    kept *k = made_at(keep, s);
    if (!k && keep->own->weight) keep->own->weight(r, s, w);
    if (k && k->dropout == 0.0f) w->w = &k->made->t;
}

/* y[:, col …] += dropout(x) (M ⊙ ΔW)ᵀ */
static tn_tensor *add_change(nn_run *r, kept *k, tn_tensor *x, tn_tensor *y, int64_t col)
{
    const ag_weight w = {.w = &k->made->t, .in_out = k->site->in_out};
    const ag_magnitude at = {.m = &k->ones, .inverse = tn_f32(&k->ones), .col = col};
    tn_tensor *in = r->drops ? ag_dropout(r->t, x, k->dropout, k->key) : x;
    return ag_magnify_into(r->t, y, ag_linear(r->t, in, &w, 1, NULL), NULL, &at);
}

static tn_tensor *post(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y)
{
    const struct pe_keep *keep = keep_of(r);
    int64_t col = 0;
    bool made = false;
    for (int i = 0; i < g->n; col += g->site[i++].out) {
        kept *k = made_at(keep, &g->site[i]);
        made = made || k;
        if (k && k->dropout > 0.0f) y = add_change(r, k, x, y, col);
    }
    return made || !keep->own->post ? y : keep->own->post(r, g, x, y);
}

static const nn_hooks masked_hooks = {.weight = weight, .post = post};

/* --- back, and updates ------------------------------------------------------------------------------------------------- */
static ft_status hand_on(pe_ctx *c, const kept *k)
{
    if (k->own && k->own->t.grad) mask_values(k, k->own->t.grad);
    if (!k->made) return FT_OK;
    mask_values(k, k->made->t.grad);
    return c->method->unfold(c, k->site, tn_f32(&k->made->t), k->made->t.grad);
}

ft_status pe_finish(pe_ctx *c)
{
    for (int64_t i = 0; c->keep && i < c->keep->n; i++) FT_TRY(hand_on(c, &c->keep->at[i]));
    nn_store_finish(&c->store);
    pe_qat_gradients(c->qat);
    return FT_OK;
}

ft_status pe_after_update(pe_ctx *c, const pe_update *u)
{
    if (c->method->after_update) FT_TRY(c->method->after_update(c, u));
    for (int64_t i = 0; c->keep && i < c->keep->n; i++) {
        const kept *k = &c->keep->at[i];
        if (k->own) mask_values(k, tn_f32(&k->own->t));
    }
    return FT_OK;
}

void pe_keep_add(const pe_ctx *c, const nn_site *s, float *w, const float *change, int64_t row0,
                 int64_t n)
{
    const kept *k = c->keep->of[s->index];
    const int64_t cols = tn_cols(&s->w->t);
    for (int64_t r = row0; r < row0 + n; r++, change += cols) {
        const uint8_t *bits = k ? k->mask + (size_t)r * mask_row(&s->w->t) : NULL;
        for (int64_t i = 0; i < cols; i++)
            if (!bits || bits[i / 8] >> i % 8 & 1) w[r * cols + i] += change[i];
    }
}

/* --- what is lost without it ----------------------------------------------------------------------------------------- */
void pe_zeros_lost(const pe_ctx *c, double *most, double *all)
{
    double zeros = 0, count = 0;
    *most = *all = 0;
    for (int64_t i = 0; !c->keep && c->method->unfold && i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        const tn_tensor *w = &s->w->t;
        const bool changed = is_of_block(s) && nn_slot_of(&c->over, s);
        if (!changed || !w->data) continue;
        const double n = (double)dt_count_zeros(w->type, w->data, tn_count(w));
        const double of = (double)tn_count(w);
        if (n < 0) continue;
        if (n / of > *most) *most = n / of;
        zeros += n;
        count += of;
    }
    if (count > 0) *all = zeros / count;
}

/* --- folding ----------------------------------------------------------------------------------------------------------- */
/* The weight of the step, with the base's own zeros. */
static void take_made(const kept *k, float *w)
{
    const tn_tensor *t = &k->made->t;
    const float *made = tn_f32(t);
    for (int64_t r = 0; r < tn_rows(t); r++) {
        const uint8_t *bits = k->mask + (size_t)r * mask_row(t);
        for (int64_t c = 0; c < tn_cols(t); c++, w++, made++)
            if (bits[c / 8] >> c % 8 & 1) *w = k->dropout > 0.0f ? *w + *made : *made;
    }
}

ft_status pe_keep_fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    const kept *k = made_at(c->keep, s);
    if (k) {
        take_made(k, w);
        return FT_OK;
    }
    if (!is_of_block(s)) return c->method->fold(c, s, w, b);
    const int64_t n = tn_count(&s->w->t);
    float *base = ft_alloc((size_t)n, sizeof *base);
    if (!base) return FT_EMEM;
    memcpy(base, w, (size_t)n * sizeof *base);
    ft_status rc = c->method->fold(c, s, w, b);
    for (int64_t i = 0; i < n; i++)
        if (base[i] == 0.0f) w[i] = base[i];
    ft_free(base);
    return rc;
}
