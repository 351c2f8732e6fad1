/* checkpoint.c – a segment whose inside is not kept but recomputed in the backward (Chen et al. 2016).
 *
 * Forward runs the segment, keeps its output and drops nodes and activations. Backward runs it again from the kept input on
 * the same tape, under the rows of its node, walks the new nodes, and drops them too. Whether the output wants a gradient
 * comes from the inside: adapters live there. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct segment_attr {
    ag_segment fn;
    void *ctx;
} segment_attr;

static void backward(ag_tape *t, ag_node *n)
{
    const segment_attr *a = n->attr;
    tn_tensor *x = n->in[0], inner = *x;
    ag_mark mark = ag_enter(t);
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
    ag_leave(t, &mark);
}

const ag_op ag_op_checkpoint = {.name = "checkpoint", .backward = backward, .replays = true};

tn_tensor *ag_checkpoint(ag_tape *t, tn_tensor *x, ag_segment fn, void *ctx)
{
    segment_attr *a = ag_meta(t, sizeof *a);
    if (!a || t->status != FT_OK || !t->record) return fn(ctx, x);
    *a = (segment_attr){fn, ctx};
    tn_tensor *out = ag_new(t, tn_rows(x), tn_cols(x));
    if (!out) return x;
    ag_mark mark = ag_enter(t);
    tn_tensor *y = fn(ctx, x);
    bool wants = t->status == FT_OK && y->wants_grad;
    OP_ASSERT(t, tn_rows(y) == tn_rows(x) && tn_cols(y) == tn_cols(x));
    if (t->status == FT_OK && !t->dry)
        kn_copy_block(tn_f32(out), tn_cols(out), tn_f32(y), tn_cols(out), tn_rows(out),
                      tn_cols(out));
    ag_leave(t, &mark);
    /* x alone does not tell that a gradient is wanted. */
    return ag_call_kept(t, &ag_op_checkpoint, out, a, 1, &x, wants);
}
