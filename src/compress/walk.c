/* walk.c – the stream of all samples on its way through the blocks.
 *
 * A pass takes whole samples, up to INF_PASS_TOKENS rows, reads their rows of the stream and, when the stream moves on, writes
 * them back. Who looks at inputs gets them from a hook of the overlay in front of a product; a pass ends there once nothing more
 * is wanted of it, which is a status of the tape. */
#include <string.h>

#include "compress_private.h"

/* --- the hooks ----------------------------------------------------------------------------------------------------- */
static tn_tensor *pre(nn_run *r, const nn_group *g, tn_tensor *x)
{
    cmp_walk *w = r->over->ctx;
    if (w->listing) cmp_walk_list(w->listing, g);
    if (!w->look || r->t->status != FT_OK) return x;
    const int i = cmp_group_number(w->at, g);
    if (i < 0 || !w->wanted[i]) return x;
    ft_status rc = w->look->see(w->look->ctx, w->seen, g, tn_f32(x));
    if (rc == FT_OK && i == w->last) rc = FT_END; /* what comes behind it is not wanted */
    if (rc != FT_OK) ag_fail(r->t, rc);
    return x;
}

static void weight(nn_run *r, const nn_site *s, ag_weight *to)
{
    cmp_walk *w = r->over->ctx;
    if (!w->at || s->layer != w->at->layer) return;
    to->w = &w->own[s->index];
    to->in_out = false;
}

const nn_hooks cmp_hooks = {.pre = pre, .weight = weight};

/* --- passes ---------------------------------------------------------------------------------------------------------- */
ft_status cmp_go_on(void)
{
    FT_TRY(ft_stop());
    FT_CHECK(ft_stop_asked() == FT_OK, FT_ETIME, "stopped by the time limit");
    return FT_OK;
}

static ft_status begin(cmp_walk *w, const cmp_pass *p, nn_run *r)
{
    const nn_batch b = {.n_seq = p->n,
                        .len = p->len,
                        .tokens = p->rows,
                        .ids = w->ids + p->at,
                        .pos = w->pos + p->at};
    FT_TRY(cmp_go_on());
    ag_reset(w->o.inf->tape);
    return nn_run_open(r, w->o.inf->tape, &b, &w->over, 0);
}

/* [p->rows, hidden] in the memory of `data`, as the tape sees it. */
static tn_tensor *rows_of(const cmp_walk *w, ag_tape *t, const cmp_pass *p, const float *data)
{
    tn_tensor *x = ag_meta(t, sizeof *x);
    if (x)
        *x = (tn_tensor){.type = &dt_f32,
                         .nd = 2,
                         .dim = {p->rows, w->m->d.hidden_size},
                         .data = (void *)(uintptr_t)data};
    return x;
}

static float *stream_of(const cmp_walk *w, const cmp_pass *p)
{
    return w->stream + p->at * w->m->d.hidden_size;
}

static size_t bytes_of(const cmp_walk *w, const cmp_pass *p)
{
    return (size_t)(p->rows * w->m->d.hidden_size) * sizeof(float);
}

/* The stream in front of the first layer. */
static ft_status fill(cmp_walk *w)
{
    nn_run r;
    for (int i = 0; i < w->n_pass; i++) {
        FT_TRY(begin(w, &w->pass[i], &r));
        const tn_tensor *h = model_stream(w->m, &r);
        FT_TRY(r.t->status);
        memcpy(stream_of(w, &w->pass[i]), tn_f32(h), bytes_of(w, &w->pass[i]));
    }
    return FT_OK;
}

/* A pass over the parts of a layer that the stream is in front of, up to `to`; moves: the stream goes on behind them. */
static ft_status run_pass(cmp_walk *w, int layer, int to, const cmp_pass *p, bool moves)
{
    nn_run r;
    FT_TRY(begin(w, p, &r));
    const model_pass *m = model_pass_open(w->m, &r);
    tn_tensor *h = m ? rows_of(w, r.t, p, stream_of(w, p)) : NULL;
    FT_TRY(r.t->status);
    h = model_pass_parts(m, layer, w->begun, to, h);
    if (r.t->status == FT_END && !moves) return FT_OK;
    FT_TRY(r.t->status);
    if (moves) memcpy(stream_of(w, p), tn_f32(h), bytes_of(w, p));
    return FT_OK;
}

static ft_status move(cmp_walk *w, int layer, int to)
{
    for (int i = 0; i < w->n_pass; i++) FT_TRY(run_pass(w, layer, to, &w->pass[i], true));
    w->begun = to;
    return FT_OK;
}

/* To the next layer. */
static ft_status advance(cmp_walk *w, int layer)
{
    FT_TRY(move(w, layer, w->m->layer[layer].n_sub));
    w->begun = 0;
    return FT_OK;
}

/* Parts that read the layer's input, not each other's result, are passed together. */
ft_status cmp_settle(cmp_block *b, int part)
{
    const bool parallel = b->m->layer[b->layer].traits & MODEL_PARALLEL;
    return parallel || part <= b->walk->begun ? FT_OK : move(b->walk, b->layer, part);
}

ft_status cmp_see(cmp_block *b, const cmp_look *look)
{
    cmp_walk *w = b->walk;
    ft_status rc = FT_OK;
    w->last = -1;
    for (int i = 0; i < b->n_group; i++) {
        w->wanted[i] = !look->wants || look->wants(look->ctx, b->group[i]);
        if (w->wanted[i]) w->last = i;
    }
    if (w->last < 0) return FT_OK;
    w->look = look;
    for (int i = 0; rc == FT_OK && i < w->n_pass; i++) {
        w->seen = &w->pass[i];
        rc = run_pass(w, b->layer, b->part[w->last] + 1, &w->pass[i], false);
    }
    w->look = NULL;
    return rc;
}

ft_status cmp_part(cmp_block *b, int k, const cmp_pass *p, const float *x, float *y)
{
    cmp_walk *w = b->walk;
    nn_run r;
    FT_TRY(begin(w, p, &r));
    const model_pass *m = model_pass_open(w->m, &r);
    tn_tensor *in = m ? rows_of(w, r.t, p, x) : NULL;
    FT_TRY(r.t->status);
    const tn_tensor *out = model_pass_part(m, b->layer, k, in);
    FT_TRY(r.t->status);
    memcpy(y, tn_f32(out), bytes_of(w, p));
    return FT_OK;
}

ft_status cmp_streams(cmp_walk *w, cmp_stream see, void *ctx)
{
    const int n = (int)w->m->d.n_layer;
    FT_TRY(fill(w));
    for (int layer = 0; layer <= n; layer++) {
        for (int i = 0; i < w->n_pass; i++)
            FT_TRY(see(ctx, layer, &w->pass[i], stream_of(w, &w->pass[i])));
        if (layer < n) FT_TRY(advance(w, layer));
        if (layer < n) log_progress("block %d of %d", layer + 1, n);
    }
    return FT_OK;
}

/* --- all blocks ---------------------------------------------------------------------------------------------------------- */
static double loss_so_far(const cmp_walk *w)
{
    return cmp_told_all(w).error;
}

static void tell(const cmp_walk *w, int layer, int made, double since)
{
    const int n = (int)w->m->d.n_layer, left = n - layer - 1;
    const double each = made > 0 ? (ft_seconds() - since) / made : 0, seconds = each * left;
    log_progress("block %d of %d  error %.3g  %.1f s a block  %d:%02d left", layer + 1, n,
                 loss_so_far(w), each, (int)(seconds / 60), (int)seconds % 60);
}

/* The last block that is to be made; −1: all are done. */
static ft_status find_last(const cmp_walk *w, int *last)
{
    *last = -1;
    for (int i = 0; i < w->m->d.n_layer; i++) {
        bool done;
        FT_TRY(cmp_block_done(w, i, &done));
        if (!done) *last = i;
    }
    return FT_OK;
}

/* The model's own values from here on. */
static void lay_off(cmp_walk *w)
{
    for (cmp_vectors *v = w->vectors; v; v = v->before) w->over.own[v->of->index] = NULL;
    w->vectors = NULL;
    w->at = NULL;
}

static ft_status make_block(cmp_walk *w, int layer, bool moves, bool *made)
{
    const cmp_method *method = w->o.method;
    cmp_block b;
    bool done;
    FT_TRY(cmp_block_done(w, layer, &done));
    *made = !done;
    w->begun = 0;
    FT_TRY(cmp_block_open(w, layer, &b));
    w->at = &b;
    ft_status rc = done ? cmp_block_load(&b) : method->block(&b, w->o.cfg, w->state);
    if (rc == FT_OK && !done) rc = cmp_block_save(&b);
    if (method->floats) lay_off(w);
    if (rc == FT_OK && moves) rc = advance(w, layer);
    lay_off(w);
    return rc;
}

static ft_status make_blocks(cmp_walk *w)
{
    const cmp_method *method = w->o.method;
    double since = ft_seconds();
    int last, n_made = 0;
    FT_TRY(find_last(w, &last));
    if (method->begin && last >= 0) FT_TRY(method->begin(w, w->o.cfg, &w->state));
    if (method->calibrated && last >= 0) FT_TRY(fill(w));
    for (int i = 0; i < w->m->d.n_layer; i++) {
        bool made;
        FT_TRY(cmp_go_on());
        FT_TRY(make_block(w, i, method->calibrated && i < last, &made));
        if (!made) since = ft_seconds();
        n_made += made;
        tell(w, i, n_made, since);
    }
    return FT_OK;
}

/* What is written has the room that passes had. */
static void give_back(cmp_walk *w)
{
    cmp_stream_close(w);
    arena_return(w->block_mem);
    ag_return(w->o.inf->tape);
}

/* Codes and masks have no place for what is no number, and would hide it. */
static ft_status check_finite(const cmp_walk *w)
{
    str_buf what = {0};
    ft_status rc = inf_find_nonfinite(w->o.inf, NULL, &what);
    if (rc == FT_OK && what.len > 0)
        rc = ft_fail(FT_EDATA, "%s: %s; get the model's files again", ft_shows(w->m->path),
                     what.data);
    str_free(&what);
    return rc;
}

ft_status cmp_walk_run(cmp_walk *w)
{
    const cmp_method *method = w->o.method;
    FT_TRY(check_finite(w));
    FT_TRY(method->drop ? method->drop(w, w->o.cfg, &w->dropped) : make_blocks(w));
    give_back(w);
    return FT_OK;
}
