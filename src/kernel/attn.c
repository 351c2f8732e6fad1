/* attn.c – causal attention, forward: tiles of queries against tiles of keys with an online softmax.
 *
 * A tile of work is a block of queries of one sequence for the heads that share a key head: the packed keys and values
 * serve all of them. They go through a tile of keys a few rows at a time, so that scores stay in L1, and none meets
 * keys that it does not see but for the rest of its vector. Tiles of keys start at fixed places of the sequence and a
 * row's arithmetic does not see its neighbours: bits depend on the sequence alone. */
#include "attn.h"
#include "kern_bf16.h"

#include <math.h>

enum {
    HEADS = 8,         /* most heads of a tile */
    ROWS = 384,        /* aimed at: the keys and values packed for them cost little */
    SUMS = ROWS * 256, /* most values of their sums, which stay in L2 */
    LEAST = 32,        /* queries of a tile when there are many threads */
};

typedef struct forward_run {
    const kn_attn *a;
    kn_rows out, q, k, v;
    float *lse;
    int heads, splits; /* heads of a tile; tiles that share a key head */
    int64_t block;     /* queries of a tile */
    int64_t step;      /* of them whose scores lie in L1 at a time */
} forward_run;

typedef struct forward_scratch {
    float *q, *s, *p; /* [step, KERN_KS]; p: scores in bf16 */
    float *acc;       /* [rows, ld] */
    float *kt, *v;    /* panels */
    float *max, *sum; /* [rows] */
    float *tmp;
    int64_t ld;
} forward_scratch;

/* The queries of a tile. */
typedef struct work {
    attn_rows q[HEADS];
    int64_t nq, p0; /* of each head; position of the first */
} work;

static bool get_scratch(const forward_run *f, forward_scratch *s, int thread)
{
    const int64_t d = f->a->head_dim, rows = f->heads * f->block;
    s->ld = attn_round_up(d, 16);
    const int64_t tile = f->step * KERN_KS, acc = rows * s->ld, tmp = kern_pack_tmp(ATTN_KEYS);
    const int64_t kt = kern_attn_panel_floats(ATTN_KEYS, d),
                  v = kern_attn_panel_floats(d, ATTN_KEYS);
    float *p =
        pool_scratch(thread, 1, (size_t)(3 * tile + acc + kt + v + 2 * rows + tmp) * sizeof(float));
    if (!p) return false;
    s->q = p;
    s->s = s->q + tile;
    s->p = s->s + tile;
    s->acc = s->p + tile;
    s->kt = s->acc + acc;
    s->v = s->kt + kt;
    s->max = s->v + v;
    s->sum = s->max + rows;
    s->tmp = s->sum + rows;
    return true;
}

/* The keys or values of a sequence, by position: `rows` or from element `at` of its pages; columns of one key head
 * first. */
static attn_rows key_rows(const forward_run *f, kn_rows rows, int64_t at, const attn_seq *seq,
                          int64_t column)
{
    const kn_attn *a = f->a;
    attn_rows r = {.ld = rows.ld};
    if (!a->page) return kern_attn_rows_of(rows, seq->k0, column);
    kern_src_pages(&r.f32, a->page + seq->page0, a->page_rows, at + column, rows.ld);
    return r;
}

/* Tile number → sequence, first head, block of queries (the longest rows first). */
static bool locate(const forward_run *f, int64_t tile, attn_seq *seq, int *kv, int *head0,
                   int64_t *q0)
{
    const int64_t across = (int64_t)f->a->n_kv * f->splits;
    for (int i = 0; i < f->a->n_seq; i++) {
        *seq = attn_next(f->a, i, i ? seq : NULL);
        int64_t blocks = (seq->q_len + f->block - 1) / f->block;
        if (tile < blocks * across) {
            int which = (int)(tile % across);
            *kv = which / f->splits;
            *head0 = which % f->splits * f->heads;
            *q0 = (blocks - 1 - tile / across) * f->block;
            return true;
        }
        tile -= blocks * across;
    }
    return false;
}

/* The block's rows r0 … r1 of one head against a tile of keys [k0, k0 + nk): scores, softmax, values. */
static void rows_by_keys(const forward_run *f, const forward_scratch *s, const work *w, int head,
                         int64_t r0, int64_t r1, int64_t k0, int64_t nk)
{
    const kn_attn *a = f->a;
    const int64_t d = a->head_dim, rows = r1 - r0, p0 = w->p0 + r0, p1 = w->p0 + r1;
    const int64_t seen = attn_first_key(a, p0), at = head * w->nq + r0;
    if (k0 >= p1 || k0 + nk <= seen) return;
    const bool first = k0 <= seen;
    const int64_t keys = attn_min(nk, p1 - k0), cols = kern_attn_columns(f->q.bf16, keys, nk);
    const attn_a q = kern_attn_of_rows(&w->q[head], r0, rows, d, s->q);
    kern_attn_product(s->s, KERN_KS, &q, rows, s->kt, d, d, cols, false);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t lo = attn_first_key(a, p0 + i) - k0, hi = attn_min(p0 + i + 1 - k0, nk);
        float factor = kern->attn_softmax(s->s + i * KERN_KS, cols, lo, hi, a->scale, a->softcap,
                                          &s->max[at + i], &s->sum[at + i]);
        if (!first && factor != 1.0f) kern->scale(s->acc + (at + i) * s->ld, factor, d);
    }
    const attn_a p = kern_attn_of_scores(f->q.bf16, s->s, rows, cols, s->p);
    kern_attn_product(s->acc + at * s->ld, s->ld, &p, rows, s->v, nk, keys, d, !first);
}

/* A finished row of sums, times `factor`, to element `at` of out. */
static void put_out(const forward_run *f, int64_t at, float *acc, float factor)
{
    const int64_t d = f->a->head_dim;
    float *to = f->out.bf16 ? acc : (float *)f->out.data + at;
    kern->attn_out(to, acc, factor, d);
    if (f->out.bf16) kern_dot_row->round((uint16_t *)f->out.data + at, to, d);
}

static void forward_tile(void *ctx, int64_t tile, int thread)
{
    const forward_run *f = ctx;
    const kn_attn *a = f->a;
    const int64_t d = a->head_dim;
    attn_seq seq;
    forward_scratch s;
    int kv, head0;
    int64_t q0;
    if (!locate(f, tile, &seq, &kv, &head0, &q0) || !get_scratch(f, &s, thread)) return;
    const int group = a->n_head / a->n_kv;
    const int heads = (int)attn_min(f->heads, group - head0);
    const int64_t nq = attn_min(f->block, seq.q_len - q0), rows = heads * nq;
    const int64_t p0 = seq.k_len - seq.q_len + q0, end = p0 + nq;
    const int64_t column = (int64_t)(kv * group + head0) * d;
    work w = {.nq = nq, .p0 = p0};
    for (int h = 0; h < heads; h++) w.q[h] = kern_attn_rows_of(f->q, seq.q0 + q0, column + h * d);
    for (int64_t r = 0; r < rows; r++) {
        s.max[r] = -INFINITY;
        s.sum[r] = 0.0f;
    }
    const attn_rows k = key_rows(f, f->k, a->k_at, &seq, kv * d);
    const attn_rows v = key_rows(f, f->v, a->v_at, &seq, kv * d);
    const int64_t parts = (nq + f->step - 1) / f->step;
    for (int64_t k0 = attn_first_key(a, p0) / ATTN_KEYS * ATTN_KEYS; k0 < end; k0 += ATTN_KEYS) {
        const int64_t nk = attn_min(ATTN_KEYS, end - k0);
        kern_attn_pack_t(s.kt, &k, k0, nk, d, s.tmp);
        kern_attn_pack_n(s.v, &v, k0, nk, d, s.tmp);
        for (int h = 0; h < heads; h++)
            for (int64_t i = 0; i < parts; i++)
                rows_by_keys(f, &s, &w, h, nq * i / parts, nq * (i + 1) / parts, k0, nk);
    }
    kern_attn_end(f->q.bf16);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = seq.q0 + q0 + r % nq, head = kv * group + head0 + r / nq;
        put_out(f, row * f->out.ld + head * d, s.acc + r * s.ld, 1.0f / s.sum[r]);
        if (f->lse) f->lse[row * a->n_head + head] = s.max[r] + logf(s.sum[r]);
    }
}

/* Queries of a tile; no bit depends on it. */
static int64_t block_of(const kn_attn *a, int heads, int splits)
{
    int64_t rows = attn_min(ROWS, SUMS / a->head_dim), block = attn_round_up(rows / heads, 8);
    for (;; block /= 2) {
        int64_t tiles = 0;
        for (int i = 0; i < a->n_seq; i++) tiles += (a->q_len[i] + block - 1) / block;
        if (block < 2 * LEAST || tiles * a->n_kv * splits >= 4 * pool_threads()) return block;
    }
}

void kn_attention(const kn_attn *a, kn_rows out, float *lse, kn_rows q, kn_rows k, kn_rows v)
{
    forward_run f = {.a = a, .out = out, .q = q, .k = k, .v = v, .lse = lse};
    const int group = a->n_head / a->n_kv, mr = q.bf16 ? kern_dot_row->mr : kern->mr;
    int64_t tiles = 0;
    f.splits = (group + HEADS - 1) / HEADS;
    f.heads = (group + f.splits - 1) / f.splits;
    f.step = mr < 12 ? 12 / mr * mr : mr;
    f.block = block_of(a, f.heads, f.splits);
    for (int i = 0; i < a->n_seq; i++) tiles += (a->q_len[i] + f.block - 1) / f.block;
    pool_run(forward_tile, &f, tiles * a->n_kv * f.splits);
}
