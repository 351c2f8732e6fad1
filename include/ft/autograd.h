/* autograd.h – an eager tape of coarse operations with hand-written backward.
 *
 * An op runs when it is called and, when something it reads wants a gradient, leaves a node; ag_backward walks
 * the nodes in reverse. Frozen tensors (wants_grad false) cost no gradient and no memory: an op none of whose
 * inputs wants a gradient is not recorded. Errors are sticky: after a failure every op returns its input and
 * the caller looks at tape->status once.
 *
 * Memory: the residual stream and what a backward needs live in `keep`, nodes and tables in `meta`, until ag_reset;
 * gradients of activations come from a free list and return to it as soon as the node that made the
 * activation is done. So do the values of `brief` activations, and earlier: whoever reads one last says so (ag_drop).
 * They go then if no backward reads them, or if their op makes them again cheaply (norms, activation functions):
 * the backward does so before the first node that reads them. A dry tape runs the same builder code with the arithmetic skipped on counting arenas, and
 * so tells the memory of a step. */
#ifndef FT_AUTOGRAD_H
#define FT_AUTOGRAD_H

#include "ft/base.h"
#include "ft/kernel.h"
#include "ft/tensor.h"

typedef struct ag_tape ag_tape;
typedef struct ag_node ag_node;

/* What the rows of an activation are: sequences one after another. The arrays are the caller's and live until the
 * backward is done. */
typedef struct ag_rows {
    int64_t n;
    int n_seq;
    const int32_t *len;  /* [n_seq] rows of each sequence, adds up to n */
    const uint64_t *key; /* [n] identity of each row for dropout; NULL: no op below draws a mask */
    uint64_t mask_key;   /* of the optimizer step: with row key and site key it fixes a mask */
} ag_rows;

/* What the seconds of an op count as. */
typedef enum ag_part { AG_REST, AG_PRODUCTS, AG_ATTENTION, AG_LOSS, AG_PARTS } ag_part;

/* One row per operation (ops.def), in the file of its code. */
typedef struct ag_op {
    const char *name;
    void (*forward)(ag_tape *t, ag_node *n);
    void (*backward)(ag_tape *t,
                     ag_node *n); /* adds into ag_grad(input); NULL: recording it is an error */
    bool replays; /* its backward runs operations itself, so it is called on a dry tape too */
    bool by_rows; /* in[0] holds the rows in force, one for one (asserted) */
    bool again; /* its forward may run once more in the backward, from inputs that are there, with the same result */
    bool rounds; /* its backward reads the output's gradient by ag_grad_rows, and does not write to it */
    bool direct; /* its backward asks ag_grad_direct first */
    unsigned blind; /* bit i: its backward does not read the values of in[i] */
    bool (*sees)(const ag_node *n, int i); /* of the others: does it, of this node? NULL: yes */
    /* What a dry tape cannot see: floats of ag_temp buffers that its forward or backward holds at once (NULL: none), and the
     * input that ag_grad_pass gives the output's gradient (0: none). */
    int64_t (*temp)(const ag_node *n);
    int passes;
    ag_part part; /* with AG_LOSS what ops it runs inside count as its own */
} ag_op;

#define AG_MAX_IN 26
#define AG_MAX_GROUP 4 /* weights of one product: sites that share an input */
struct ag_node {
    const ag_op *op;
    int n_in;
    tn_tensor *in[AG_MAX_IN], *out; /* out may be one of the inputs: an op in place */
    void *attr, *saved;             /* its parameters; what forward leaves for backward */
    const ag_rows *rows;            /* in force when it was called; NULL: none */
    ag_node *prev;
};

struct ag_tape {
    arena *keep, *meta;
    struct ag_pool *grads; /* free list of gradient buffers */
    ag_node *last;
    bool record; /* false: evaluation, nothing is kept for a backward */
    bool few;    /* generation: a few rows, each weight is read once and not packed (kn_gemv) */
    bool dry;    /* shapes and memory only */
    kn_precision precision; /* of matrix products and attention; the opener's to set, f32 unless it does */
    const ag_rows *rows; /* in force (ag_set_rows) */
    struct ag_clock *clock;  /* NULL: ops are not timed */
    const tn_tensor *turned; /* logits that have become their own gradient: no buffer to hand back */
    struct ag_brief_cell *brief; /* activations in the free list, the latest first */
    struct { /* the gradient of `of` in bf16, while nodes read it; NULL: none */
        const tn_tensor *of;
        kn_rows rows;
        size_t bytes; /* of its buffer in the free list; 0: it lies elsewhere */
    } rounded;
    ft_status status;    /* sticky */
};

/* limit: bytes of activations, at most; 0: a dry tape. */
FT_MUST_USE ft_status ag_open(ag_tape **out, size_t limit);
/* What a pass takes, as a dry one has counted it: reserved in one piece each when the first of it is needed. More may
 * come. ag_peak_rooms: the most that any of the tapes it was called for has taken. */
typedef struct ag_rooms {
    size_t keep, grads, meta;
} ag_rooms;
void ag_expect(ag_tape *t, const ag_rooms *rooms);
void ag_peak_rooms(const ag_tape *t, ag_rooms *most);
void ag_close(ag_tape *t);
void ag_reset(ag_tape *t);              /* forgets nodes, activations and rows; keeps the memory */
void ag_return(ag_tape *t);             /* the same, and the memory goes back to the system */
size_t ag_peak_bytes(const ag_tape *t); /* activations + their gradients, high-water mark, in pages */
/* Adds d loss/d leaf into the grad of every wanting leaf. loss is a scalar. */
FT_MUST_USE ft_status ag_backward(ag_tape *t, tn_tensor *loss);
/* The rows that ops called from now on work on, until set again; returns the old ones. A node keeps those it was called
 * under and its backward uses them: several forwards may precede one backward, and rows that were picked out (experts,
 * routed tokens, a sequence's last) have rows of their own. */
const ag_rows *ag_set_rows(ag_tape *t, const ag_rows *rows);
/* The rows in force, of which only row[0 … n) are there: what follows one another of a sequence is a sequence. NULL: the
 * tape has failed. */
const ag_rows *ag_pick_rows(ag_tape *t, const int64_t *row, int64_t n);

/* --- seconds, by op ------------------------------------------------------------------------------------ */
/* Filled while a tape's `clock` points at it, zeroed by the caller. An op's seconds are its own: what it runs inside (a
 * checkpoint's segment) counts there, but for the loss, which has all that its head takes. What runs again in a backward,
 * and the gradients that the loss takes as it goes, are backward. */
enum { AG_CLOCK_OPS = 32 };
typedef struct ag_clock {
    struct {
        const ag_op *op;
        double forward, backward;
    } row[AG_CLOCK_OPS];
    int n;
    double early; /* of `backward`: what was spent before ag_backward was called */
    /* of clock.c */
    int now;      /* 0: no op runs; else its row + 1 */
    bool back, outer_back;
    double since;
} ag_clock;
/* Before and after code of an op, by the tape; the state that enter returns goes to leave. */
typedef struct ag_lap {
    int now;
    bool back;
} ag_lap;
ag_lap ag_clock_enter(ag_clock *c, const ag_op *op, bool back);
void ag_clock_leave(ag_clock *c, ag_lap before);

/* --- for op authors ------------------------------------------------------------------------------------ */
tn_tensor *ag_new(ag_tape *t, int64_t rows, int64_t cols); /* f32 [rows, cols] in keep */
tn_tensor *ag_typed(ag_tape *t, int64_t rows, int64_t cols, const dt_type *type); /* the same of any type */
/* The same in the free list, until ag_drop or its maker's backward; of any type. */
tn_tensor *ag_brief(ag_tape *t, int64_t rows, int64_t cols, const dt_type *type);
/* The caller reads x no more. NULL, and an activation that is not brief, are left alone. */
void ag_drop(ag_tape *t, tn_tensor *x);
/* f32, or bf16 where the tape's products round their operands: what an activation is that products alone read. */
const dt_type *ag_fed_type(const ag_tape *t);
kn_rows ag_rows_of(const tn_tensor *x); /* of an f32 or bf16 activation */
void *ag_keep(ag_tape *t, size_t bytes); /* values for backward; not touchable on a dry tape */
void *ag_meta(ag_tape *t, size_t bytes); /* attributes and tables, zeroed; real on a dry tape too */
/* A buffer for the time of one forward or backward; contents undefined. NULL: the tape has failed. */
float *ag_temp(ag_tape *t, int64_t floats);
void ag_temp_free(ag_tape *t, float *p, int64_t floats);
/* The gradient buffer of a tensor, zeroed on first use; NULL when it wants none. */
float *ag_grad(ag_tape *t, tn_tensor *x);
/* The same without zeroing: *fresh tells that the contents are undefined and must be overwritten. */
float *ag_grad_fresh(ag_tape *t, tn_tensor *x, bool *fresh);
/* The gradient of a node's output as products read it: where they round their operands, rounded once for all nodes of that
 * output that follow one another. NULL data: the tape has failed, or it is dry. */
kn_rows ag_grad_rows(ag_tape *t, const ag_node *n);
/* All that will read the gradient of x reads it rounded, `reader` first. */
bool ag_reads_rounded(const ag_tape *t, const ag_node *reader, const tn_tensor *x);
/* Where the gradient of n's first input, which n alone makes (its op is `direct`), goes in bf16 where that is so. NULL data:
 * it is not, or no gradient is wanted. */
kn_rows ag_grad_direct(ag_tape *t, const ag_node *n);
/* The gradient of x is where its values were: in f32, or with `half` in bf16, row i in the first half of row i. */
void ag_grad_turned(ag_tape *t, tn_tensor *x, bool half);
/* d += of n's whole output gradient into x of the same shape; takes the buffer over where x has none yet, so it must be
 * the last use of n->out->grad. */
void ag_grad_pass(ag_tape *t, ag_node *n, tn_tensor *x);
/* Makes a node and runs it. The output wants a gradient when one of the inputs does and the tape records. */
tn_tensor *ag_call(ag_tape *t, const ag_op *op, tn_tensor *out, void *attr, int n_in,
                   tn_tensor *const *in);
bool ag_recording(const ag_tape *t, int n_in, tn_tensor *const *in);
/* The same where the inputs do not tell that a gradient is wanted: `keep` does. */
tn_tensor *ag_call_kept(ag_tape *t, const ag_op *op, tn_tensor *out, void *attr, int n_in,
                        tn_tensor *const *in, bool keep);
ft_status ag_fail(ag_tape *t, ft_status status); /* makes a failure sticky */
/* For ops that run ops inside: nodes and activations made between enter and leave are dropped. */
typedef struct ag_mark {
    size_t keep, meta;
    ag_node *last;
    struct ag_brief_cell *brief;
} ag_mark;
ag_mark ag_enter(ag_tape *t);
void ag_leave(ag_tape *t, const ag_mark *m);
/* Drops the activations made since `m` and leaves nodes and tables: between the layers of a pass without a backward. */
void ag_forget(ag_tape *t, const ag_mark *m);
ag_mark ag_here(const ag_tape *t); /* the mark for it */
/* The backward walk from t->last: recording, each node under its own rows. */
void ag_walk(ag_tape *t);
const ag_op *ag_op_at(int i); /* rows of ops.def; NULL past the end */

/* --- operations ------------------------------------------------------------------------------------------- */
/* rows of w [V, C] (any dtype) → [T, C]; w wants a gradient only as f32. The row of id
 * `frozen` (−1: none) gets no gradient, as torch's padding_idx. An id below 0 gives a row of zeros. */
tn_tensor *ag_embed(ag_tape *t, tn_tensor *w, const int32_t *ids, int64_t n, int32_t frozen);
tn_tensor *ag_add(ag_tape *t, tn_tensor *a, tn_tensor *b);
tn_tensor *ag_add_brief(ag_tape *t, tn_tensor *a, tn_tensor *b); /* as a brief activation */
/* Rows row[0 … n) of x [T, C] → [n, C]; the indices live until the backward is done and may repeat. The rows in force are
 * the caller's to set: ag_pick_rows for what works on the result. */
tn_tensor *ag_gather_rows(ag_tape *t, tn_tensor *x, const int64_t *row, int64_t n);
/* In place: y[row[i]] += x[i] for x [n, C]. */
tn_tensor *ag_scatter_rows(ag_tape *t, tn_tensor *y, tn_tensor *x, const int64_t *row);
/* In place: y[row[i], col … col + C) = x[i] for x [n, C], rows all different. The op that made y may not need its values in
 * its backward (products, norms of heads and RoPE do not). */
tn_tensor *ag_put_rows(ag_tape *t, tn_tensor *y, tn_tensor *x, const int64_t *row, int64_t col);
/* type: of the result, f32 or ag_fed_type; the same of the activations below. */
tn_tensor *ag_rmsnorm(ag_tape *t, tn_tensor *x, tn_tensor *w, float eps, const dt_type *type);
tn_tensor *ag_layernorm(ag_tape *t, tn_tensor *x, tn_tensor *w, tn_tensor *b, float eps,
                        const dt_type *type);
/* RMSNorm of each of n_q + n_k heads of head_dim inside qkv [T, ·] (Qwen3): heads 0 … n_q−1 by wq [d], the next n_k by
 * wk [d]; the columns after them pass through. */
tn_tensor *ag_head_norm(ag_tape *t, tn_tensor *qkv, tn_tensor *wq, tn_tensor *wk, int n_q, int n_k,
                        float eps);

/* What the low-rank family adds to a product; for each site: y[:, col … col + width) += scale · out ⊙ (M · A · dropout(x)) Bᵀ. a [r, I], b [width, r] f32; M is
 * nothing, the diagonal mid [r] or the matrix core [r, r]; out [width]; NULL: not there. A may have more columns than x and
 * B more rows than width (VeRA): the leading ones are used. Sites of one group share x; each has its own dropout mask by
 * `key`. */
typedef struct ag_low_rank {
    tn_tensor *a, *b, *core, *mid, *out;
    float scale, dropout;
    int64_t col, width; /* width 0: the rows of b */
    uint64_t key;
} ag_low_rank;
/* In place on y; n ≤ AG_MAX_GROUP. */
tn_tensor *ag_low_rank_add(ag_tape *t, tn_tensor *y, tn_tensor *x, const ag_low_rank *s, int n);
/* A weight as its file has it: w [O, I], or [I, O] when in_out (GPT-2's Conv1D); b [O] or NULL; factors of its inputs, in
 * [I], and of its outputs, out [O] (f32; NULL: none); what a method adds to its product (low.a NULL: nothing; low.col is the
 * weight's own). */
typedef struct ag_weight {
    tn_tensor *w, *b, *in, *out;
    bool in_out;
    ag_low_rank low;
} ag_weight;
/* y [T, ΣO_i] = out_i ⊙ ((in_i ⊙ x) · W_iᵀ + b_i) + low_i(x) side by side, (+ add [T, ΣO_i], the residual). x [T, I]. One product per group, so
 * that a fused kernel needs no change in models or methods: plain low-rank terms are further steps of the weights'
 * own sums, forward and for dx; else ag_low_rank_add makes them. n ≤ AG_MAX_GROUP. */
tn_tensor *ag_linear(ag_tape *t, tn_tensor *x, const ag_weight *w, int n, tn_tensor *add);

/* What brings columns of a product to trained lengths (DoRA, Liu et al. 2024): of y, from `col` on, as many as m has. */
typedef struct ag_magnitude {
    tn_tensor *m, *b;     /* [width] f32; b NULL: none */
    const float *inverse; /* [width] of the lengths the columns' weights have, constant; lives until the backward is done */
    int64_t col;
} ag_magnitude;
/* y = u where no site is; m ⊙ u ⊘ length + b where one is. n ≤ AG_MAX_GROUP. u, which low-rank terms were added to, gives
 * its values up. */
tn_tensor *ag_magnify(ag_tape *t, tn_tensor *u, const ag_magnitude *s, int n);
/* In place: y[:, col … col + width) += m ⊙ u ⊘ length − less, for u and less [T, width]; less NULL: 0. */
tn_tensor *ag_magnify_into(ag_tape *t, tn_tensor *y, tn_tensor *u, tn_tensor *less,
                           const ag_magnitude *s);
/* dropout(x), the mask by `key` as in ag_low_rank; f32. */
tn_tensor *ag_dropout(ag_tape *t, tn_tensor *x, float p, uint64_t key);

/* Rows of x as codes of eight bits give them back (kn_fake_rows), straight through; ag_fed_type. */
tn_tensor *ag_fake(ag_tape *t, tn_tensor *x, const kn_tokens *how);
/* ag_linear of ag_fake(x). A few rows meet ternary weights as codes (kn_codes_group). */
tn_tensor *ag_linear_codes(ag_tape *t, tn_tensor *x, const kn_tokens *how, const ag_weight *w,
                           int n, tn_tensor *add);
/* The low-rank terms of a group's weights, at their columns, into low [AG_MAX_GROUP]; their number. They are taken out of
 * the weights, for ag_low_rank_add with another x than the product's. */
int ag_take_low(ag_weight *w, int n, ag_low_rank *low);

/* In place on the first n_heads heads of x [T, ·]; tables cos, sin [max_pos, half], pos [T]. */
tn_tensor *ag_rope(ag_tape *t, tn_tensor *x, int n_heads, int head_dim, int half, const float *cos,
                   const float *sin, const int32_t *pos);
/* qkv [T, (n_head + 2·n_kv)·d] → [T, n_head·d]; a.q_len and n_seq are those of the rows in force. With bf16 q, k and v are
 * rounded and kept in bf16. */
tn_tensor *ag_attention(ag_tape *t, tn_tensor *qkv, const kn_attn *a, const dt_type *type);
/* [T, 2I] → [T, I]. With bf16 the input is kept in bf16 too. */
tn_tensor *ag_glu(ag_tape *t, tn_tensor *gate_up, const kn_act *act, const dt_type *type);
tn_tensor *ag_act(ag_tape *t, tn_tensor *x, const kn_act *act, const dt_type *type);
/* A layer of an LSTM both ways over x [T, I], one sequence → [T, 2H], h of the way forward beside that of the way back. w: of
 * each of the two w_ih [4H, I], w_hh [4H, H], b_ih, b_hh [4H], gates in torch's order i, f, g, o. A tape that records draws
 * x's dropout, by `key` and the rows in force. */
tn_tensor *ag_lstm(ag_tape *t, tn_tensor *x, tn_tensor *const *w, float dropout, uint64_t key);

/* A function built of ops. It must be pure: it may be called again in the backward; parameters it uses get their gradients
 * as usual. */
typedef tn_tensor *(*ag_segment)(void *ctx, tn_tensor *x);

/* --- what a head says of labels -------------------------------------------------------------------------
 * Logits exist for one chunk of the rows that have a label at a time, and become their own gradient in place: so the last
 * op of `fn` may not need its result in its backward. All rows of a chunk are in force while fn runs (ag_pick_rows). */
typedef struct ag_head { /* logits: x [n, C] → [n, vocab], by calls of ops, so that whatever a method does applies */
    ag_segment fn;
    void *ctx;
    int64_t vocab;
    bool trained; /* something inside may want a gradient */
} ag_head;
/* Another model's view of the same rows, for how far the head's softmax p is from its q (kn_divergence). It gets no gradient,
 * and its logits exist for one chunk at a time too. */
typedef struct ag_other {
    ag_head head;       /* as many entries as the other has */
    tn_tensor *x;       /* [T', C'] its hidden states, f32; NULL: there is none */
    const int64_t *row; /* [T] of x, for each row; < 0: none, and a divergence of 0. NULL: the same */
    float beta, temperature; /* of the divergence; temperature 0: 1 */
    float own, weight;  /* of ag_cross_entropy: Σ own · cross-entropy + weight · divergence */
    float *divergence;  /* out [S]; may be NULL */
} ag_other;
typedef struct ag_score {
    ag_head head;
    const int32_t *label; /* [T]; < 0: the row is left out. S rows remain, in order */
    float temperature;    /* logits are divided by it; 0: 1 */
    int64_t chunk;        /* rows at a time; 0: 256, or as many as make 64 MB of logits. Changes no bit */
    float *logprob;       /* out [S], log softmax(head(x))[label] */
    float *entropy;       /* out [S] of the softmax */
    float *power;         /* out [S], log Σ p² of it */
    float smoothing;      /* ε of cross-entropy: targets of 1 − ε, and of ε/V for every entry besides */
    float *smooth;        /* out [S], with ε: (1 − ε) log p(label) + ε/V Σ log p, what the loss adds up */
    int32_t *best;        /* out [S], arg max. Each may be NULL; the arrays need not outlive the call */
    ag_other other;       /* not with smoothing */
} ag_score;
/* [S, 1]: the log-probabilities, whose weights in the loss come later. Head frozen: the gradient of each row is taken in
 * the same pass ([S, C] are kept) and scaled in the backward. Head trained: the backward makes each chunk again. With
 * s->other [2, S]: log-probabilities, then divergences; the backward makes each chunk again. */
tn_tensor *ag_logprob(ag_tape *t, tn_tensor *x, const ag_score *s);
/* Scalar −Σ log-probabilities (smoothed ones with s->smoothing), with all gradients taken in the same pass times grad_scale: what the loss is multiplied by
 * (1/tokens of the optimizer step), known beforehand. The scalar itself may only be added to others. */
tn_tensor *ag_cross_entropy(ag_tape *t, tn_tensor *x, const ag_score *s, float grad_scale);
/* d loss/d x += c [count of x], before ag_backward: terms whose weights come after the forward. */
void ag_seed(ag_tape *t, tn_tensor *x, const float *c);

/* y = fn(ctx, x), keeping only x: the activations inside fn are made again in the backward (Chen et al. 2016). Results keep
 * their bits. */
tn_tensor *ag_checkpoint(ag_tape *t, tn_tensor *x, ag_segment fn, void *ctx);
/* Scalar Σ x ⊙ c for a constant c [count of x]: seeds of tests, and loss combinations. */
tn_tensor *ag_dot_const(ag_tape *t, tn_tensor *x, const float *c);
tn_tensor *ag_scale(ag_tape *t, tn_tensor *x, float s);
/* a + scale · dropout(x): what a branch adds to a stream. The mask is that of `key`. */
tn_tensor *ag_add_scaled(ag_tape *t, tn_tensor *a, tn_tensor *x, float scale, float dropout,
                         uint64_t key);
#endif
