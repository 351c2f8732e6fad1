/* attn.c – causal attention, forward: tiles of queries against tiles of keys with an online softmax.
 *
 * A tile of work is a block of queries of one sequence for the heads that share a key head; their rows lie
 * under one another, so the packed keys and values serve all of them. Tiles of keys start at fixed places
 * of the sequence and a row's arithmetic does not see its neighbours: bits depend on the sequence alone. */
#include "attn.h"

#include <math.h>

enum { HEADS = 8, ROWS = 96 }; /* most heads of a tile, rows aimed at */

typedef struct forward_run {
    const kn_attn *a;
    float *out, *lse;
    const float *q, *k, *v;
    int64_t ldo, ldq, ldk, ldv;
    int heads, splits; /* heads of a tile; tiles that share a key head */
    int64_t block;     /* queries of a tile */
} forward_run;

typedef struct forward_scratch {
    float *q, *s;     /* [rows, KERN_KS] */
    float *acc;       /* [rows, ld] */
    float *kt, *v;    /* panels */
    float *max, *sum; /* [rows] */
    int64_t ld;
} forward_scratch;

static bool get_scratch(const forward_run *f, forward_scratch *s, int thread)
{
    const int64_t d = f->a->head_dim, rows = f->heads * f->block, wide = 2 * kern->nr;
    s->ld = attn_round_up(d, 16);
    const int64_t tile = rows * KERN_KS, acc = rows * s->ld;
    const int64_t kt = d * (ATTN_KEYS + wide), v = ATTN_KEYS * (d + wide);
    float *p =
        pool_scratch(thread, 1, (size_t)(2 * tile + acc + kt + v + 2 * rows + 64) * sizeof(float));
    if (!p) return false;
    s->q = p;
    s->s = s->q + tile;
    s->acc = s->s + tile;
    s->kt = s->acc + acc;
    s->v = s->kt + attn_round_up(kt, 16);
    s->max = s->v + attn_round_up(v, 16);
    s->sum = s->max + rows;
    return true;
}

/* The keys or values of a sequence, by position: `rows` or from element `at` of its pages; columns of one key head
 * first. */
static void key_rows(const forward_run *f, kern_src *s, const float *rows, int64_t at,
                     const attn_seq *seq, int64_t column, int64_t ld)
{
    const kn_attn *a = f->a;
    if (a->page)
        kern_src_pages(s, a->page + seq->page0, a->page_rows, at + column, ld);
    else
        kern_src_f32(s, rows + seq->k0 * ld + column, ld);
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

/* One tile of keys [k0, k0+nk): scores, softmax, values. rows = heads × nq, head by head. */
static void key_tile(const forward_run *f, const forward_scratch *s, int heads, int64_t nq,
                     int64_t p0, int64_t k0, int64_t nk, bool first)
{
    const kn_attn *a = f->a;
    const int64_t d = a->head_dim, rows = heads * nq, cols = attn_round_up(nk, kern->lanes);
    attn_product(s->s, KERN_KS, s->q, 0, rows, s->kt, d, d, cols, false);
    for (int64_t r = 0; r < rows; r++) {
        int64_t p = p0 + r % nq;
        int64_t lo = attn_first_key(a, p) - k0, hi = attn_min(p + 1 - k0, nk);
        float factor = kern->attn_softmax(s->s + r * KERN_KS, cols, lo, hi, a->scale, a->softcap,
                                          &s->max[r], &s->sum[r]);
        if (!first && factor != 1.0f) kern->scale(s->acc + r * s->ld, factor, d);
    }
    attn_product(s->acc, s->ld, s->s, 0, rows, s->v, nk, nk, d, !first);
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
    for (int h = 0; h < heads; h++)
        kern->copy_rows(s.q + h * nq * KERN_KS, f->q + (seq.q0 + q0) * f->ldq + column + h * d,
                        f->ldq, nq, d);
    for (int64_t r = 0; r < rows; r++) {
        s.max[r] = -INFINITY;
        s.sum[r] = 0.0f;
    }
    kern_src k, v;
    key_rows(f, &k, f->k, a->k_at, &seq, kv * d, f->ldk);
    key_rows(f, &v, f->v, a->v_at, &seq, kv * d, f->ldv);
    const int64_t start = attn_first_key(a, p0) / ATTN_KEYS * ATTN_KEYS;
    for (int64_t k0 = start; k0 < end; k0 += ATTN_KEYS) {
        const int64_t nk = attn_min(ATTN_KEYS, end - k0);
        kern->pack_t(s.kt, &k, k0, nk, 0, d, s.s);
        kern->pack_n(s.v, &v, 0, d, k0, nk, s.s);
        key_tile(f, &s, heads, nq, p0, k0, nk, k0 == start);
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = seq.q0 + q0 + r % nq, head = kv * group + head0 + r / nq;
        kern->attn_out(f->out + row * f->ldo + head * d, s.acc + r * s.ld, 1.0f / s.sum[r], d);
        if (f->lse) f->lse[row * a->n_head + head] = s.max[r] + logf(s.sum[r]);
    }
}

void kn_attention(const kn_attn *a, float *out, int64_t ldo, float *lse, const float *q,
                  int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv)
{
    forward_run f = {a, out, lse, q, k, v, ldo, ldq, ldk, ldv, 0, 0, 0};
    const int group = a->n_head / a->n_kv;
    int64_t tiles = 0;
    f.splits = (group + HEADS - 1) / HEADS;
    f.heads = (group + f.splits - 1) / f.splits;
    f.block = attn_min(64, attn_round_up(ROWS / f.heads, 8));
    for (int i = 0; i < a->n_seq; i++) tiles += (a->q_len[i] + f.block - 1) / f.block;
    pool_run(forward_tile, &f, tiles * a->n_kv * f.splits);
}
