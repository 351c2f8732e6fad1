/* plan.c – what the passes of a model take in memory, told before they are made: the same builders on a dry tape, as the plan
 * of a training run, over the largest pass that was asked for so far. */
#include <string.h>

#include "infer_private.h"

/* Of a thread beside its scratch; what code and allocator take after the plan is made. */
#define THREAD_BYTES ((size_t)192 << 10)
#define SLACK_BYTES ((size_t)3 << 19)
#define FEW_BYTES ((size_t)2 << 20)      /* scratch of a pass of a few rows: a huge page */
#define ADDRESS_BYTES ((size_t)32 << 20) /* ends of reservations: huge pages, blocks of arenas */

/* Weights are counted apart: pages of their files, and scratch of the threads that quantised. */
static void begin(const inf_ctx *c)
{
    inf_plan *p = c->plan;
    const model *m = c->m;
    size_t rss = ft_rss(), weights = io_weights_rss(&m->weights) + pool_scratch_bytes();
    if (m->own) weights += arena_pages(arena_peak(m->own));
    if (m->made) weights += arena_pages(arena_peak(m->made));
    p->mapped = m->weights.n > 0 && !m->made ? io_weights_bytes(&m->weights) : 0;
    p->weights = p->mapped ? p->mapped : model_bytes(m);
    p->resident = rss > weights ? rss - weights : 0;
    p->begun = true;
}

/* A dry pass over `rows` tokens in `seqs` sequences, or with `few` over one token of each. */
static ft_status dry_pass(const inf_ctx *c, int64_t rows, int64_t seqs, bool cached, bool few)
{
    inf_plan *p = c->plan;
    const int64_t most = c->m->d.max_position;
    ft_status rc;
    ag_tape *t = NULL;
    nn_run r;
    FT_TRY(ag_open(&t, 0));
    t->precision = c->tape->precision;
    int32_t *ids = ag_meta(t, (size_t)rows * sizeof *ids), *label = ids;
    int32_t *pos = ag_meta(t, (size_t)rows * sizeof *pos);
    int32_t *len = ag_meta(t, (size_t)seqs * sizeof *len);
    int64_t *last = ag_meta(t, (size_t)(p->wanted + 1) * sizeof *last);
    FT_TRY_OUT(t->status);
    if (p->scored < rows) label = ag_meta(t, (size_t)rows * sizeof *label);
    FT_TRY_OUT(t->status);
    for (int64_t i = 0, at = 0; i < seqs; i++) {
        len[i] = (int32_t)(rows / seqs + (i < rows % seqs));
        for (int32_t k = 0; k < len[i]; k++, at++) {
            pos[at] = c->m->position && k >= most ? (int32_t)most - 1 : k;
            if (at >= p->scored) label[at] = -100;
        }
    }
    for (int64_t i = 0; i < p->wanted; i++) last[i] = i % rows;
    nn_batch b = {
        .n_seq = (int)seqs, .len = len, .tokens = rows, .ids = ids, .pos = pos, .label = label};
    nn_cache cache = {.rows = CACHE_ROWS};
    FT_TRY_OUT(nn_run_open(&r, t, &b, c->over, few ? NN_FEW : 0));
    if (cached) r.cache = &cache;
    tn_tensor *hidden = model_hidden(c->m, &r);
    FT_TRY_OUT(t->status);
    if (p->scored > 0 && !cached) model_loss(c->m, &r, hidden, 0, (float *)ids, ids);
    FT_TRY_OUT(t->status);
    int64_t n = few || !cached || p->wanted < rows ? p->wanted : rows;
    if (n > 0) rc = model_logits(c->m, &r, hidden, last, n, NULL, cached);
    ag_peak_rooms(t, &p->rooms);
out:
    ag_close(t);
    return rc;
}

static bool grow(int64_t *most, int64_t now)
{
    const bool more = now > *most;
    if (more) *most = now;
    return more;
}

/* Is the shape larger in any way than what was planned? */
static bool grows(inf_plan *p, const inf_shape *s)
{
    bool more = grow(&p->rows, s->rows);
    more = grow(&p->seqs, s->seqs) || more;
    more = grow(&p->scored, s->scored) || more;
    more = grow(&p->wanted, s->wanted) || more;
    more = grow(&p->few, s->few) || more;
    if (s->buffers > p->buffers) p->buffers = s->buffers;
    if (p->seqs > p->rows) p->seqs = p->rows;
    return more;
}

/* Of each thread: what products of many rows take, or those of a few. */
static size_t scratch(const inf_plan *p)
{
    const size_t one = p->rows > KN_GEMV_ROWS || p->gemm ? kn_scratch_bytes()
                       : p->rows > 0                     ? FEW_BYTES
                                                         : 0;
    return (size_t)pool_threads() * (one + THREAD_BYTES);
}

static size_t read_later(const inf_plan *p)
{
    return p->unread ? 0 : p->later;
}

static void sum(inf_plan *p, size_t cache)
{
    p->cache = cache;
    /* a smaller pass may leave gaps in the free list where the largest has none */
    const size_t grads = p->rooms.grads + p->rooms.grads / 16;
    p->activations = (size_t)(p->tapes > 1 ? p->tapes : 1) *
                     (arena_pages(p->rooms.keep) + arena_pages(grads) + arena_pages(p->rooms.meta));
    const size_t passes = p->activations + p->beside;
    p->workspace = p->resident + p->buffers + p->beside + SLACK_BYTES + scratch(p) +
                   (p->apart > passes ? p->apart - passes : 0);
    if (p->values > p->workspace) p->values = p->workspace;
    p->workspace -= p->values; /* it was read when the plan began */
    p->total = p->weights + read_later(p) + p->values + p->activations + p->cache + p->workspace;
}

static void ask(const inf_ctx *c)
{
    inf_plan *p = c->plan;
    const size_t later = read_later(p), there = io_weights_rss(&c->m->weights);
    p->grant = ft_memory_ask(&(ft_need){p->total, p->mapped + later,
                                        p->mapped > there ? p->mapped - there : 0,
                                        ADDRESS_BYTES + p->later - later});
}

static ft_status check(inf_plan *p)
{
    FT_CHECK(p->grant.need <= p->grant.limit, FT_EMEM,
             "this needs %s of memory, %s grants %s: weights %s, adapter %s, activations %s, keys "
             "and values %s, workspace %s",
             ft_bytes_text(p->grant.need), p->grant.name, ft_bytes_text(p->grant.limit),
             ft_bytes_text(p->weights + p->later), ft_bytes_text(p->values),
             ft_bytes_text(p->activations), ft_bytes_text(p->cache), ft_bytes_text(p->workspace));
    p->granted = p->total;
    return FT_OK;
}

/* As many pages as there is room for: answers wait for each other where they do not all fit. What takes no more than was
 * granted before is not asked for: that reads the page tables of all weights. */
static ft_status fit_cache(const inf_ctx *c, const inf_shape *s)
{
    inf_plan *p = c->plan;
    const size_t page = (size_t)model_cache_floats(c->m, CACHE_ROWS) * sizeof(float) + 64;
    const size_t all = (size_t)s->pages * page, least = (size_t)s->least * page;
    sum(p, all);
    if (p->granted >= p->total) return FT_OK;
    ask(c);
    if (p->grant.need <= p->grant.limit || all == least) return check(p);
    sum(p, least);
    ask(c);
    FT_TRY(check(p));
    size_t more = p->grant.limit - p->grant.need;
    sum(p, least + (more < all - least ? more : all - least) / page * page);
    ask(c); /* for who tells of it */
    return FT_OK;
}

ft_status inf_plan_for(const inf_ctx *c, const inf_shape *s)
{
    inf_plan *p = c->plan;
    if (!p) return FT_OK;
    if (!p->begun) begin(c);
    const ag_rooms before = p->rooms;
    if (grows(p, s)) {
        if (p->rows > 0) FT_TRY(dry_pass(c, p->rows, p->seqs, s->few > 0, false));
        if (p->few > 0) FT_TRY(dry_pass(c, p->few, p->few, true, true));
    }
    FT_TRY(fit_cache(c, s));
    if (memcmp(&before, &p->rooms, sizeof before) != 0) {
        ag_reset(c->tape);
        ag_expect(c->tape, &p->rooms);
    }
    return FT_OK;
}
