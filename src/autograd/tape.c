/* tape.c – the eager tape: making nodes, walking them back, and the memory of both.
 *
 * Nodes cost nothing beside the products they stand for (0.1 ms for 20,000), so the tape is a plain list. What
 * matters is memory: activations are bumped from one arena and dropped together; gradients of activations live
 * for one or two blocks only, so a free list keeps their peak small. */
#include "ft/autograd.h"

#include <assert.h>
#include <string.h>

#define X(name) extern const ag_op ag_op_##name;
#include "ops.def"
#undef X
#define X(name) &ag_op_##name,
static const ag_op *const rows[] = {
#include "ops.def"
    NULL};
#undef X

const ag_op *ag_op_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(rows) ? rows[i] : NULL;
}

/* Room that was handed back, in the order of its addresses; neighbours are one. */
typedef struct free_room {
    struct free_room *next;
    uint8_t *at;
    size_t bytes;
} free_room;

struct ag_pool {
    arena *mem, *cells;      /* cells: of the lists */
    free_room *free, *spare; /* spare: list cells without room */
};

/* One brief activation; the list is in meta. */
struct ag_brief_cell {
    struct ag_brief_cell *before;
    tn_tensor *x;
};

ft_status ag_open(ag_tape **out, size_t limit)
{
    ft_status rc;
    ag_tape *t = ft_alloc(1, sizeof *t);
    *out = NULL;
    if (!t) return FT_EMEM;
    t->dry = limit == 0;
    t->grads = ft_alloc(1, sizeof *t->grads);
    if (!t->grads) {
        rc = FT_EMEM;
        goto out;
    }
    FT_TRY_OUT(arena_open(&t->meta, "the tape's nodes", (size_t)1 << 28));
    if (t->dry) {
        FT_TRY_OUT(arena_open_counting(&t->keep, "activations"));
        FT_TRY_OUT(arena_open_counting(&t->grads->mem, "gradients of activations"));
    } else {
        FT_TRY_OUT(arena_open(&t->keep, "activations", limit));
        FT_TRY_OUT(arena_open(&t->grads->mem, "gradients of activations", limit));
    }
    FT_TRY_OUT(arena_open(&t->grads->cells, "free list", (size_t)16 << 20));
out:
    if (rc != FT_OK)
        ag_close(t);
    else
        *out = t;
    return rc;
}

void ag_close(ag_tape *t)
{
    if (!t) return;
    arena_close(t->keep);
    arena_close(t->meta);
    if (t->grads) {
        arena_close(t->grads->mem);
        arena_close(t->grads->cells);
    }
    ft_free(t->grads);
    ft_free(t);
}

void ag_reset(ag_tape *t)
{
    arena_reset(t->keep, 0);
    arena_reset(t->meta, 0);
    arena_reset(t->grads->mem, 0);
    arena_reset(t->grads->cells, 0);
    t->grads->free = t->grads->spare = NULL;
    t->last = NULL;
    t->brief = NULL;
    t->rounded.of = NULL;
    t->rows = NULL;
    t->status = FT_OK;
}

void ag_return(ag_tape *t)
{
    ag_reset(t);
    arena_return(t->keep);
    arena_return(t->meta);
    arena_return(t->grads->mem);
    arena_return(t->grads->cells);
}

const ag_rows *ag_set_rows(ag_tape *t, const ag_rows *now)
{
    const ag_rows *before = t->rows;
    t->rows = now;
    return before;
}

/* How many of the rows, one after another, are of the same sequence; returns the number of such runs. */
static int pick_sequences(const ag_rows *of, const int64_t *row, int64_t n, int32_t *len)
{
    int runs = 0, seq = -1;
    int64_t start = 0, end = 0; /* of the sequence of the row before */
    for (int64_t i = 0; i < n; i++) {
        const bool same = seq >= 0 && row[i] >= start && row[i] < end;
        if (of && !same) {
            if (row[i] < start) seq = -1, start = end = 0;
            while (row[i] >= end) {
                start = end;
                end += of->len[++seq];
            }
        }
        if (i == 0 || (of && !same)) len[runs++] = 0;
        len[runs - 1]++;
    }
    return runs;
}

const ag_rows *ag_pick_rows(ag_tape *t, const int64_t *row, int64_t n)
{
    ag_rows *picked = ag_meta(t, sizeof *picked);
    int32_t *len = ag_meta(t, (size_t)(n + 1) * sizeof *len);
    uint64_t *key = t->rows && t->rows->key ? ag_meta(t, (size_t)(n + 1) * sizeof *key) : NULL;
    if (t->status != FT_OK) return NULL;
    for (int64_t i = 0; key && i < n; i++) key[i] = t->rows->key[row[i]];
    *picked =
        (ag_rows){.n = n, .n_seq = pick_sequences(t->rows, row, n, len), .len = len, .key = key};
    if (t->rows) picked->mask_key = t->rows->mask_key;
    return picked;
}

/* Address space alone for what is more: a smaller pass may leave gaps in the free list where the largest has none, and what
 * does not fit behind the rest is a block of its own, beside what is there. */
void ag_expect(ag_tape *t, const ag_rooms *rooms)
{
    arena_expect(t->keep, rooms->keep);
    arena_expect(t->grads->mem, rooms->grads + rooms->grads / 4 + ((size_t)1 << 20));
    arena_expect(t->meta, rooms->meta);
}

void ag_peak_rooms(const ag_tape *t, ag_rooms *most)
{
    const ag_rooms now = {arena_peak(t->keep), arena_peak(t->grads->mem), arena_peak(t->meta)};
    if (now.keep > most->keep) most->keep = now.keep;
    if (now.grads > most->grads) most->grads = now.grads;
    if (now.meta > most->meta) most->meta = now.meta;
}

size_t ag_peak_bytes(const ag_tape *t)
{
    return arena_pages(arena_peak(t->keep)) + arena_pages(arena_peak(t->grads->mem)) +
           arena_pages(arena_peak(t->meta));
}

ft_status ag_fail(ag_tape *t, ft_status status)
{
    if (t->status == FT_OK) t->status = status;
    return status;
}

void *ag_meta(ag_tape *t, size_t bytes)
{
    void *p = arena_get(t->meta, bytes);
    if (!p) ag_fail(t, FT_EMEM);
    return p;
}

void *ag_keep(ag_tape *t, size_t bytes)
{
    void *p = arena_raw(t->keep, bytes);
    if (!p) ag_fail(t, FT_EMEM);
    return p;
}

/* Bytes of an activation's values: 0 where they cannot be counted. */
static size_t value_bytes(const tn_tensor *x)
{
    size_t bytes = 0;
    return dt_bytes(x->type, tn_count(x), &bytes) ? bytes : 0;
}

static bool is_too_large(ag_tape *t, int64_t n_rows, int64_t cols)
{
    size_t bytes;
    if (ft_mul((size_t)n_rows, (size_t)cols, &bytes) && ft_mul(bytes, sizeof(float), &bytes))
        return false;
    ag_fail(t, ft_fail(FT_EMEM, "an activation of %lld x %lld floats is too large",
                       (long long)n_rows, (long long)cols));
    return true;
}

tn_tensor *ag_typed(ag_tape *t, int64_t n_rows, int64_t cols, const dt_type *type)
{
    tn_tensor *x = ag_meta(t, sizeof *x);
    if (!x || is_too_large(t, n_rows, cols)) return NULL;
    *x = (tn_tensor){.type = type, .nd = 2, .dim = {n_rows, cols}};
    x->data = ag_keep(t, value_bytes(x));
    return x->data ? x : NULL;
}

tn_tensor *ag_new(ag_tape *t, int64_t n_rows, int64_t cols)
{
    return ag_typed(t, n_rows, cols, &dt_f32);
}

static size_t whole_lines(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* The first room that is large enough; the last one grows where it ends with the arena. */
static void *grad_take(ag_tape *t, size_t bytes)
{
    struct ag_pool *p = t->grads;
    free_room **at = &p->free, *r = NULL;
    bytes = whole_lines(bytes);
    for (; *at; at = &(*at)->next) {
        r = *at;
        if (r->bytes >= bytes) break;
        if (r->next || !arena_extend(p->mem, r->at + r->bytes, bytes - r->bytes)) continue;
        r->bytes = bytes;
        break;
    }
    void *data = *at ? r->at : arena_raw(p->mem, bytes);
    if (!data) {
        ag_fail(t, FT_EMEM);
        return NULL;
    }
    if (!*at) return data;
    r->at += bytes;
    r->bytes -= bytes;
    if (r->bytes == 0) {
        *at = r->next;
        r->next = p->spare;
        p->spare = r;
    }
    return data;
}

static free_room *new_room(struct ag_pool *p)
{
    free_room *r = p->spare;
    if (!r) return arena_get(p->cells, sizeof *r); /* outlives a segment's nodes */
    p->spare = r->next;
    return r;
}

static void grad_give(ag_tape *t, void *data, size_t bytes)
{
    struct ag_pool *p = t->grads;
    free_room *before = NULL, *next = p->free, *r;
    bytes = whole_lines(bytes);
    for (; next && next->at < (uint8_t *)data; next = next->next) before = next;
    if (before && before->at + before->bytes == data) {
        r = before;
        r->bytes += bytes;
    } else if ((r = new_room(p))) {
        *r = (free_room){next, data, bytes};
        *(before ? &before->next : &p->free) = r;
    } else {
        ag_fail(t, FT_EMEM);
        return;
    }
    if (!next || r->at + r->bytes != next->at) return;
    r->bytes += next->bytes;
    r->next = next->next;
    next->next = p->spare;
    p->spare = next;
}

tn_tensor *ag_brief(ag_tape *t, int64_t n_rows, int64_t cols, const dt_type *type)
{
    tn_tensor *x = ag_meta(t, sizeof *x);
    struct ag_brief_cell *cell = ag_meta(t, sizeof *cell);
    if (!x || !cell || is_too_large(t, n_rows, cols)) return NULL;
    *x = (tn_tensor){.type = type, .nd = 2, .dim = {n_rows, cols}, .brief = true};
    x->data = grad_take(t, value_bytes(x));
    *cell = (struct ag_brief_cell){t->brief, x};
    t->brief = cell;
    return x->data ? x : NULL;
}

static void give_values(ag_tape *t, tn_tensor *x)
{
    if (!x->brief || !x->data) return;
    grad_give(t, x->data, value_bytes(x));
    x->data = NULL;
}

void ag_drop(ag_tape *t, tn_tensor *x)
{
    if (x && t->status == FT_OK && (!x->needed || x->again)) give_values(t, x);
}

const dt_type *ag_fed_type(const ag_tape *t)
{
    return t->precision == KN_BF16 && !t->few ? &dt_bf16 : &dt_f32;
}

kn_rows ag_rows_of(const tn_tensor *x)
{
    assert(x->type == &dt_f32 || x->type == &dt_bf16);
    return (kn_rows){x->data, tn_cols(x), x->type == &dt_bf16};
}

float *ag_temp(ag_tape *t, int64_t floats)
{
    return grad_take(t, (size_t)floats * sizeof(float));
}

void ag_temp_free(ag_tape *t, float *p, int64_t floats)
{
    if (p) grad_give(t, p, (size_t)floats * sizeof(float));
}

float *ag_grad_fresh(ag_tape *t, tn_tensor *x, bool *fresh)
{
    *fresh = false;
    if (!x->wants_grad) return NULL;
    if (!x->grad) {
        x->grad = grad_take(t, (size_t)tn_count(x) * sizeof(float));
        *fresh = x->grad != NULL;
    }
    return x->grad;
}

float *ag_grad(ag_tape *t, tn_tensor *x)
{
    bool fresh;
    float *g = ag_grad_fresh(t, x, &fresh);
    if (fresh && !t->dry) memset(g, 0, (size_t)tn_count(x) * sizeof(float));
    return g;
}

static void take_rounded(ag_tape *t, const tn_tensor *of)
{
    t->rounded.bytes = (size_t)tn_count(of) * sizeof(uint16_t);
    t->rounded.rows = (kn_rows){grad_take(t, t->rounded.bytes), tn_cols(of), true};
    t->rounded.of = t->rounded.rows.data ? of : NULL;
}

kn_rows ag_grad_rows(ag_tape *t, const ag_node *n)
{
    const kn_rows grad = {n->out->grad, tn_cols(n->out), false};
    if (ag_fed_type(t) == &dt_f32) return grad;
    if (!t->rounded.of) {
        take_rounded(t, n->out);
        if (t->rounded.of && !t->dry)
            kn_convert_rows(t->rounded.rows, grad, tn_rows(n->out), tn_cols(n->out));
    }
    assert(!t->rounded.of || t->rounded.of == n->out);
    return t->rounded.rows;
}

bool ag_reads_rounded(const ag_tape *t, const ag_node *reader, const tn_tensor *x)
{
    return x->rounds && x->wants_grad && !x->grad && ag_fed_type(t) == &dt_bf16 && reader &&
           reader->out == x && reader->op->rounds;
}

kn_rows ag_grad_direct(ag_tape *t, const ag_node *n)
{
    if (!ag_reads_rounded(t, n->prev, n->in[0])) return (kn_rows){0};
    assert(!t->rounded.of);
    take_rounded(t, n->in[0]);
    return t->rounded.rows;
}

void ag_grad_turned(ag_tape *t, tn_tensor *x, bool half)
{
    t->turned = x;
    if (!half) {
        x->grad = x->data;
        return;
    }
    t->rounded.of = x;
    t->rounded.rows = (kn_rows){x->data, 2 * tn_cols(x), true};
    t->rounded.bytes = 0;
}

void ag_grad_pass(ag_tape *t, ag_node *n, tn_tensor *x)
{
    if (!x->wants_grad) return;
    if (!x->grad && n->out != t->turned) {
        x->grad = n->out->grad;
        n->out->grad = NULL;
    } else if (!x->grad) {
        bool fresh;
        float *g = ag_grad_fresh(t, x, &fresh);
        if (g && !t->dry) memcpy(g, n->out->grad, (size_t)tn_count(x) * sizeof(float));
    } else if (!t->dry) {
        kn_axpy(x->grad, 1.0f, n->out->grad, tn_count(x));
    }
}

bool ag_recording(const ag_tape *t, int n_in, tn_tensor *const *in)
{
    if (!t->record) return false;
    for (int i = 0; i < n_in; i++) {
        if (in[i] && in[i]->wants_grad) return true;
    }
    return false;
}

static void count_temp(ag_tape *t, const ag_node *n)
{
    int64_t floats = n->op->temp ? n->op->temp(n) : 0;
    if (floats > 0) ag_temp_free(t, ag_temp(t, floats), floats);
}

static void run(ag_tape *t, ag_node *n, void (*code)(ag_tape *, ag_node *), bool back)
{
    if (!t->dry && ft_stop() != FT_OK) {
        ag_fail(t, FT_ESIGNAL);
        return;
    }
    if (!t->clock) {
        code(t, n);
        return;
    }
    const ag_lap before = ag_clock_enter(t->clock, n->op, back);
    code(t, n);
    ag_clock_leave(t->clock, before);
}

tn_tensor *ag_call(ag_tape *t, const ag_op *op, tn_tensor *out, void *attr, int n_in,
                   tn_tensor *const *in)
{
    return ag_call_kept(t, op, out, attr, n_in, in, ag_recording(t, n_in, in));
}

/* Its backward reads the values of input i. */
static bool reads(const ag_node *n, int i)
{
    return !(n->op->blind >> i & 1) && (!n->op->sees || n->op->sees(n, i));
}

tn_tensor *ag_call_kept(ag_tape *t, const ag_op *op, tn_tensor *out, void *attr, int n_in,
                        tn_tensor *const *in, bool keep)
{
    if (t->status != FT_OK || !out) return n_in > 0 ? in[0] : NULL;
    assert(n_in <= AG_MAX_IN);
    assert(!op->by_rows || !t->rows || tn_rows(in[0]) == t->rows->n);
    ag_node *n = ag_meta(t, sizeof *n);
    if (!n) return out;
    *n = (ag_node){.op = op, .n_in = n_in, .out = out, .attr = attr, .rows = t->rows};
    for (int i = 0; i < n_in; i++) n->in[i] = in[i];
    const bool link = keep || (t->record && op->again);
    out->again = op->again && link;
    out->rounds = out->rounds && op->rounds; /* of one in place */
    for (int i = 0; keep && i < n_in; i++)
        if (in[i] && reads(n, i)) in[i]->needed = true;
    if (keep) out->wants_grad = true;
    if (link) {
        assert(op->backward);
        n->prev = t->last;
        t->last = n;
    }
    if (op->forward) run(t, n, op->forward, false);
    if (t->dry) count_temp(t, n);
    if (pool_failed()) ag_fail(t, FT_EMEM);
    return out;
}

/* After n: the node before it may go on with the rounded gradient of the same output. */
static void drop_rounded(ag_tape *t, const ag_node *n)
{
    const ag_node *next = n->prev;
    if (!t->rounded.of || (next && next->out == t->rounded.of && next->op->rounds)) return;
    if (t->rounded.bytes > 0) grad_give(t, t->rounded.rows.data, t->rounded.bytes);
    t->rounded.of = NULL;
}

static bool in_place(const ag_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == n->out) return true;
    }
    return false;
}

/* On a dry tape the walk only takes and gives gradient buffers, as the real one would. */
static void walk_dry(ag_tape *t, ag_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (i == 0 && n->op->direct && ag_grad_direct(t, n).data) continue;
        if (n->in[i] && n->in[i] != n->out && !(n->op->passes && i == n->op->passes))
            ag_grad(t, n->in[i]);
    }
    if (n->op->rounds) ag_grad_rows(t, n);
    count_temp(t, n);
    if (n->op->passes && n->op->passes < n->n_in) ag_grad_pass(t, n, n->in[n->op->passes]);
}

ag_mark ag_here(const ag_tape *t)
{
    return (ag_mark){arena_mark(t->keep), arena_mark(t->meta), t->last, t->brief};
}

ag_mark ag_enter(ag_tape *t)
{
    ag_mark m = ag_here(t);
    t->last = NULL;
    return m;
}

void ag_forget(ag_tape *t, const ag_mark *m)
{
    for (; t->brief != m->brief; t->brief = t->brief->before) give_values(t, t->brief->x);
    arena_reset(t->keep, m->keep);
}

void ag_leave(ag_tape *t, const ag_mark *m)
{
    ag_forget(t, m);
    arena_reset(t->meta, m->meta);
    t->last = m->last;
}

/* Values that were dropped and that n's backward reads, by the forward of the nodes that made them. */
static void make_again(ag_tape *t, const ag_node *n)
{
    for (int i = 0; i < n->n_in && t->status == FT_OK; i++) {
        tn_tensor *x = n->in[i];
        ag_node *maker = n->prev;
        if (!x || !x->brief || x->data || !reads(n, i)) continue;
        while (maker && maker->out != x) maker = maker->prev;
        assert(maker && maker->op->again);
        make_again(t, maker);
        x->data = grad_take(t, value_bytes(x));
        t->rows = maker->rows;
        if (x->data) run(t, maker, maker->op->forward, true);
    }
}

void ag_walk(ag_tape *t)
{
    const bool record = t->record, few = t->few;
    const ag_rows *before = t->rows;
    t->record = true; /* a pass that does not record may have come since */
    t->few = false;
    for (ag_node *n = t->last; n && t->status == FT_OK; n = n->prev) {
        if (!n->out->grad && t->rounded.of != n->out) { /* nothing that the loss needs */
            if (!in_place(n)) give_values(t, n->out);
            continue;
        }
        make_again(t, n);
        t->rows = n->rows;
        if (t->dry && !n->op->replays)
            walk_dry(t, n);
        else
            run(t, n, n->op->backward, true);
        drop_rounded(t, n);
        if (n->out->grad && !in_place(n)) {
            if (n->out != t->turned)
                grad_give(t, n->out->grad, (size_t)tn_count(n->out) * sizeof(float));
            n->out->grad = NULL;
        }
        if (!in_place(n)) give_values(t, n->out);
        if (pool_failed()) ag_fail(t, FT_EMEM);
    }
    t->record = record;
    t->few = few;
    t->rows = before;
}

void ag_seed(ag_tape *t, tn_tensor *x, const float *c)
{
    float *g = t->status == FT_OK ? ag_grad(t, x) : NULL;
    if (g && !t->dry) kn_axpy(g, 1.0f, c, tn_count(x));
}

ft_status ag_backward(ag_tape *t, tn_tensor *loss)
{
    if (t->status != FT_OK) return t->status;
    float *seed = ag_grad(t, loss);
    if (!seed) return t->status;
    if (!t->dry) seed[0] = 1.0f;
    ag_walk(t);
    return t->status;
}
