/* rope.c – rotary position embedding (Su et al. 2021) in place on the q and k heads of [T, ·], half-split layout. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct rope_attr {
    int n_heads, head_dim, half;
    const float *cos, *sin;
    const int32_t *pos;
} rope_attr;

static void rotate(const rope_attr *a, float *x, int64_t ld, int64_t rows, float sign)
{
    kn_rope(x, ld, rows, a->n_heads, a->head_dim, a->half, a->cos, a->sin, a->pos, sign);
}

static void forward(ag_tape *t, ag_node *n)
{
    if (!t->dry) rotate(n->attr, tn_f32(n->out), tn_cols(n->out), tn_rows(n->out), 1.0f);
}

/* The rotation is orthogonal (up to yarn's factor in the tables): its gradient is the rotation back. */
static void backward(ag_tape *t, ag_node *n)
{
    (void)t;
    rotate(n->attr, n->out->grad, tn_cols(n->out), tn_rows(n->out), -1.0f);
}

const ag_op ag_op_rope = {
    .name = "rope", .forward = forward, .backward = backward, .by_rows = true, .blind = 1 << 0};

tn_tensor *ag_rope(ag_tape *t, tn_tensor *x, int n_heads, int head_dim, int half, const float *cos,
                   const float *sin, const int32_t *pos)
{
    rope_attr *a = ag_meta(t, sizeof *a);
    OP_ASSERT(t, 2 * half <= head_dim && (int64_t)n_heads * head_dim <= tn_cols(x));
    if (a) *a = (rope_attr){n_heads, head_dim, half, cos, sin, pos};
    return ag_call(t, &ag_op_rope, a ? x : NULL, a, 1, &x);
}
