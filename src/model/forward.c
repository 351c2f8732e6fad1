/* forward.c – the frame that serves every family: order, norms, residuals and checkpointing of layers, the head over them,
 * and what generation keeps in its cache.
 *
 *   h = embed(ids);  for each part of each layer: h += part(norm h);  final norm. */
#include "model_private.h"

#include <string.h>

static tn_tensor *norm(const model *m, nn_run *r, const model_norm *n, tn_tensor *x,
                       const dt_type *type)
{
    return m->family->norm->forward(r, n, x, (float)m->d.norm_eps, type);
}

/* f32 values that one part keeps of so many positions. */
static int64_t kept_by(const model_sub *s, int64_t positions)
{
    const model_part *row = s->use->row;
    return row->state_floats ? row->state_floats(s->use->cfg, positions) : 0;
}

int64_t model_cache_floats(const model *m, int64_t positions)
{
    int64_t n = 0;
    for (int i = 0; i < m->d.n_layer; i++)
        for (int k = 0; k < m->layer[i].n_sub; k++) n += kept_by(&m->layer[i].sub[k], positions);
    return n;
}

/* One pass over the layers. */
struct model_pass {
    model *m;
    nn_run *r;
    void *shared[MODEL_MAX_USES]; /* of each part in use */
};

/* One block as a function of its input, for checkpointing. */
typedef struct block_ctx {
    const model_pass *p;
    int layer;
    int64_t state_at; /* generating: where this layer's state begins in a page */
    int from, to;     /* of its parts */
} block_ctx;

static void look(nn_run *r, int layer, const char *part, const tn_tensor *h)
{
    if (r->watch && !r->t->dry && r->t->status == FT_OK) r->watch(r->watch_ctx, r, layer, part, h);
}

static nn_takes taken(const nn_hooks *hooks, const nn_run *r, int layer, nn_part part)
{
    if (!hooks->sublayer) return NN_TAKES_NONE;
    return hooks->takes ? hooks->takes(r, layer, part) : NN_TAKES_OUTPUT;
}

/* Part k of a layer at work; state_at: see model_call. */
static tn_tensor *part(const model_pass *p, const model_layer *l, int k, int64_t state_at,
                       tn_tensor *x, tn_tensor *add)
{
    const model_sub *s = &l->sub[k];
    const model_call call = {.m = p->m,
                             .r = p->r,
                             .layer = l->index,
                             .cfg = s->use->cfg,
                             .part = s->p,
                             .shared = p->shared[s->use->index],
                             .state_at = state_at};
    return s->use->row->forward(&call, x, add);
}

static tn_tensor *block(void *ctx, tn_tensor *h)
{
    const block_ctx *c = ctx;
    const model_pass *p = c->p;
    const model_layer *l = &p->m->layer[c->layer];
    const nn_hooks *hooks = nn_hooks_of(p->r);
    ag_tape *t = p->r->t;
    tn_tensor *in = h, *x = h, *normed = NULL;
    int64_t at = c->state_at;
    for (int k = c->from; k < c->to; k++) {
        const model_sub *s = &l->sub[k];
        if (s->norm.w) {
            ag_drop(t, normed);
            x = normed =
                norm(p->m, p->r, &s->norm, l->traits & MODEL_PARALLEL ? in : h, ag_fed_type(t));
        }
        const nn_part place = k == 0 ? NN_MIXER : NN_FEED;
        const nn_takes takes = taken(hooks, p->r, l->index, place);
        tn_tensor *y = part(p, l, k, at, x, takes == NN_TAKES_OUTPUT ? NULL : h);
        h = takes == NN_TAKES_NONE ? y : hooks->sublayer(p->r, l->index, place, x, y, h);
        look(p->r, l->index, s->use->row->name, h);
        if (p->r->cache) at += kept_by(s, p->r->cache->rows);
    }
    ag_drop(t, normed);
    return h;
}

/* Without a backward nothing inside a block is needed after it: its memory serves the next one, so a pass of T tokens
 * takes one block's activations and not all of them. */
static tn_tensor *keep_only(ag_tape *t, tn_tensor *kept, tn_tensor *h, const ag_mark *mark)
{
    if (t->status != FT_OK) return h;
    if (!t->dry)
        kn_copy_block(tn_f32(kept), tn_cols(h), tn_f32(h), tn_cols(h), tn_rows(h), tn_cols(h));
    ag_forget(t, mark);
    return kept;
}

static tn_tensor *blocks(const model_pass *p, tn_tensor *h)
{
    nn_run *r = p->r;
    bool checkpoint = r->checkpoint && r->t->record && !r->cache;
    tn_tensor *kept = r->t->record ? NULL : ag_new(r->t, tn_rows(h), tn_cols(h));
    const ag_mark mark = ag_here(r->t);
    int64_t at = 0;
    for (int i = 0; i < p->m->d.n_layer && r->t->status == FT_OK; i++) {
        block_ctx *c = ag_meta(r->t, sizeof *c);
        if (!c) return h;
        *c = (block_ctx){p, i, at, 0, p->m->layer[i].n_sub};
        for (int k = 0; r->cache && k < p->m->layer[i].n_sub; k++)
            at += kept_by(&p->m->layer[i].sub[k], r->cache->rows);
        h = checkpoint ? ag_checkpoint(r->t, h, block, c) : block(c, h);
        if (kept) h = keep_only(r->t, kept, h, &mark);
    }
    return h;
}

static tn_tensor *add_positions(model *m, nn_run *r, tn_tensor *h)
{
    for (int64_t i = 0; i < r->tokens; i++) {
        if (r->pos[i] < m->d.max_position) continue;
        ag_fail(r->t,
                ft_fail(FT_EDATA,
                        "a sequence of more than %lld tokens: this model has no further positions; "
                        "lower data.max_length",
                        (long long)m->d.max_position));
        return h;
    }
    return ag_add(r->t, h, nn_embed(r, m->position, r->pos));
}

/* The backward of a checkpoint reads it, too: it lies in the tape. */
model_pass *model_pass_open(model *m, nn_run *r)
{
    model_pass *p = ag_meta(r->t, sizeof *p);
    if (!p) return NULL;
    *p = (model_pass){.m = m, .r = r};
    for (int i = 0; i < m->n_use && r->t->status == FT_OK; i++) {
        const model_use *u = &m->use[i];
        ft_status rc = u->row->begin ? u->row->begin(m, u, r, &p->shared[i]) : FT_OK;
        if (rc != FT_OK) ag_fail(r->t, rc);
    }
    return r->t->status == FT_OK ? p : NULL;
}

tn_tensor *model_stream(model *m, nn_run *r)
{
    tn_tensor *h = nn_embed(r, m->embed, r->ids);
    return m->position ? add_positions(m, r, h) : h;
}

tn_tensor *model_pass_parts(const model_pass *p, int layer, int from, int to, tn_tensor *h)
{
    block_ctx c = {p, layer, 0, from, to};
    return block(&c, h);
}

tn_tensor *model_pass_part(const model_pass *p, int layer, int k, tn_tensor *x)
{
    return part(p, &p->m->layer[layer], k, 0, x, NULL);
}

tn_tensor *model_hidden(model *m, nn_run *r)
{
    tn_tensor *h = model_stream(m, r);
    const model_pass *p = model_pass_open(m, r);
    if (!p) return h;
    look(r, -1, "embedding", h);
    h = norm(m, r, &m->norm, blocks(p, h), &dt_f32);
    look(r, -1, "norm", h);
    return h;
}

/* --- the head ------------------------------------------------------------------------------------------------ */
typedef struct head_ctx {
    nn_run *r;
    nn_group group; /* the head alone */
} head_ctx;

static tn_tensor *head(void *ctx, tn_tensor *x)
{
    const head_ctx *c = ctx;
    return nn_linear(c->r, &c->group, x, NULL);
}

static bool is_trained(const nn_run *r, const nn_site *s)
{
    ag_weight w = nn_weight(r, s);
    return nn_slot(r, s) || w.w->wants_grad || (w.b && w.b->wants_grad);
}

ag_head model_head(const model *m, nn_run *r)
{
    nn_site *s = m->head;
    head_ctx *c = ag_meta(r->t, sizeof *c);
    if (c) *c = (head_ctx){r, {.site = s, .n = 1, .in = s->in, .out = s->out}};
    return (ag_head){.fn = head, .ctx = c, .vocab = s->out, .trained = is_trained(r, s)};
}

tn_tensor *model_loss(model *m, nn_run *r, tn_tensor *hidden, float grad_scale, float *logprob,
                      int32_t *best)
{
    ag_score s = {.head = model_head(m, r), .label = r->label, .logprob = logprob, .best = best};
    return ag_cross_entropy(r->t, hidden, &s, grad_scale);
}

static tn_tensor *logits_of(const model *m, nn_run *r, tn_tensor *hidden, const int64_t *rows,
                            int64_t n)
{
    ag_head h = model_head(m, r);
    int64_t *at = ag_meta(r->t, (size_t)(n + 1) * sizeof *at);
    if (r->t->status != FT_OK) return hidden;
    for (int64_t i = 0; i < n; i++) at[i] = r->row_of ? r->row_of[rows[i]] : rows[i];
    tn_tensor *x = ag_gather_rows(r->t, hidden, at, n);
    ag_set_rows(r->t, ag_pick_rows(r->t, at, n));
    return h.fn(h.ctx, x);
}

ft_status model_logits(model *m, nn_run *r, tn_tensor *hidden, const int64_t *rows, int64_t n,
                       float *logits, bool few)
{
    bool record = r->t->record, was_few = r->t->few;
    const ag_rows *before = ag_set_rows(r->t, r->rows);
    r->t->record = false;
    r->t->few = few;
    tn_tensor *y = logits_of(m, r, hidden, rows, n);
    if (r->t->status == FT_OK && !r->t->dry)
        memcpy(logits, tn_f32(y), (size_t)(n * m->head->out) * sizeof(float));
    ag_set_rows(r->t, before);
    r->t->record = record;
    r->t->few = was_few;
    return r->t->status;
}
