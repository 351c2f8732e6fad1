/* checkpoint.c – a segment whose inside is not kept but recomputed in the backward (Chen et al. 2016).
 *
 * Forward runs the segment, keeps its output and drops nodes and activations. Backward runs it again from the kept input on
 * the same tape, under the rows of its node, walks the new nodes, and drops them too. Whether the output wants a gradient comes from the inside:
 * adapters live there. */
#include "ft/autograd.h"

#include <string.h>

typedef struct segment_attr {
    ag_segment fn;
    void *ctx;
} segment_attr;

typedef struct tape_mark {
    size_t keep, meta;
    ag_node *last;
} tape_mark;

static tape_mark enter(ag_tape *t)
{
    tape_mark m = {arena_mark(t->keep), arena_mark(t->meta), t->last};
    t->last = NULL;
    return m;
}

static void leave(ag_tape *t, const tape_mark *m)
{
    arena_reset(t->keep, m->keep);
    arena_reset(t->meta, m->meta);
    t->last = m->last;
}

static void backward(ag_tape *t, ag_node *n)
{
    const segment_attr *a = n->attr;
    tn_tensor *x = n->in[0], inner = *x;
    tape_mark mark = enter(t);
    const ag_rows *rows = ag_set_rows(t, n->rows);
    inner.grad = NULL;
    tn_tensor *y = a->fn(a->ctx, &inner);
    if (t->status == FT_OK) {
        y->grad = n->out->grad;
        n->out->grad = NULL;
        ag_walk(t);
    }
    if (inner.grad && x->grad) {
        if (!t->dry) kn_axpy(x->grad, 1.0f, inner.grad, tn_count(x));
        ag_temp_free(t, inner.grad, tn_count(x));
    } else if (inner.grad) {
        x->grad = inner.grad;
    }
    ag_set_rows(t, rows);
    leave(t, &mark);
}

const ag_op ag_op_checkpoint = {.name = "checkpoint", .backward = backward, .replays = true};

tn_tensor *ag_checkpoint(ag_tape *t, tn_tensor *x, ag_segment fn, void *ctx)
{
    segment_attr *a = ag_meta(t, sizeof *a);
    if (!a || t->status != FT_OK || !t->record) return fn(ctx, x);
    *a = (segment_attr){fn, ctx};
    tn_tensor *out = ag_new(t, tn_rows(x), tn_cols(x));
    if (!out) return x;
    tape_mark mark = enter(t);
    tn_tensor *y = fn(ctx, x);
    bool wants = t->status == FT_OK && y->wants_grad;
    if (t->status == FT_OK && !t->dry)
        memcpy(out->data, y->data, (size_t)tn_count(out) * sizeof(float));
    leave(t, &mark);
    if (!wants) return out;
    /* The node is made by hand: x alone does not tell that a gradient is wanted. */
    ag_node *n = ag_meta(t, sizeof *n);
    if (!n) return out;
    *n = (ag_node){.op = &ag_op_checkpoint,
                   .n_in = 1,
                   .in = {x},
                   .out = out,
                   .attr = a,
                   .rows = t->rows,
                   .prev = t->last};
    out->wants_grad = true;
    t->last = n;
    return out;
}
