/* attn_back.c – causal attention, backward: probabilities are computed again from the kept log-sum-exp.
 *
 * For a tile (query block i of one head, key block j):  P = exp(S − lse),  dV_j += Pᵀ·dO,  dP = dO·Vᵀ,
 * dS = P ⊙ (dP − δ),  dQ_i += dS·K,  dK_j += dSᵀ·Q, δ the row sums of dO ⊙ O. dQ sums over ascending keys; dK
 * and dV over heads, then ascending queries.
 *
 * A query that sees one key has dS = 0: its probability is 1 whatever the score. dP − δ would leave the rounding of two
 * orders of one sum, and where all sequences are of one or two tokens that is all there is of dQ and dK: AdamW makes a
 * whole step of it.
 *
 * Two plans with the same order of additions, hence the same bits: `whole` does a key head of a sequence in one
 * task; `split` makes tasks of key blocks (dK, dV) and of query blocks (dQ) and computes S and dP twice. The
 * second is taken when there are too few key heads for the threads. */
#include "attn.h"

#include <string.h>

enum { QUERIES = 64 };

typedef struct back_run {
    const kn_attn *a;
    float *dq, *dk, *dv;
    const float *dout, *out, *lse, *q, *k, *v;
    int64_t lddo, ldo, ldq, ldk, ldv;
    bool keys; /* of the split plan: the pass over key blocks */
} back_run;

typedef struct back_scratch {
    float *q, *dout; /* rows of a query block [QUERIES, KERN_KS] */
    float *q_panel, *do_panel;
    float *p, *s, *ds;  /* [QUERIES, KERN_KS] */
    float *kt, *vt, *k; /* panels of a key block */
    float *tmp;
    float delta[QUERIES];
} back_scratch;

/* Where a task works: one sequence, one key head. */
typedef struct place {
    attn_seq seq;
    int kv;
} place;

static bool get_scratch(const back_run *b, back_scratch *s, int thread)
{
    const int64_t d = b->a->head_dim, wide = 2 * kern->nr;
    const int64_t tile = QUERIES * KERN_KS, tmp = kern_pack_tmp(ATTN_KEYS);
    const int64_t q_panel = attn_round_up(QUERIES * (d + wide), 16);
    const int64_t kt = attn_round_up(d * (ATTN_KEYS + wide), 16);
    const int64_t k = attn_round_up(ATTN_KEYS * (d + wide), 16);
    float *p = pool_scratch(thread, 1,
                            (size_t)(5 * tile + 2 * q_panel + 2 * kt + k + tmp) * sizeof(float));
    if (!p) return false;
    s->q = p;
    s->dout = s->q + tile;
    s->p = s->dout + tile;
    s->s = s->p + tile;
    s->ds = s->s + tile;
    s->q_panel = s->ds + tile;
    s->do_panel = s->q_panel + q_panel;
    s->kt = s->do_panel + q_panel;
    s->vt = s->kt + kt;
    s->k = s->vt + kt;
    s->tmp = s->k + k;
    return true;
}

static void pack_keys(const back_run *b, const back_scratch *s, const place *at, int64_t k0)
{
    const int64_t d = b->a->head_dim, nk = attn_min(ATTN_KEYS, at->seq.k_len - k0);
    kern_src k, v;
    kern_src_f32(&k, b->k + (at->seq.k0 + k0) * b->ldk + at->kv * d, b->ldk);
    kern_src_f32(&v, b->v + (at->seq.k0 + k0) * b->ldv + at->kv * d, b->ldv);
    kern->pack_t(s->kt, &k, 0, nk, 0, d, s->tmp);
    kern->pack_t(s->vt, &v, 0, nk, 0, d, s->tmp);
    kern->pack_n(s->k, &k, 0, d, 0, nk, s->tmp);
}

static void pack_queries(const back_run *b, back_scratch *s, const place *at, int64_t head,
                         int64_t q0, int64_t nq, bool panels)
{
    const int64_t d = b->a->head_dim, row = at->seq.q0 + q0;
    const float *q = b->q + row * b->ldq + head * d, *g = b->dout + row * b->lddo + head * d;
    kern->copy_rows(s->q, q, b->ldq, nq, d);
    kern->copy_rows(s->dout, g, b->lddo, nq, d);
    for (int64_t i = 0; i < nq; i++) {
        const float *o = b->out + (row + i) * b->ldo + head * d;
        kern->dots(&s->delta[i], o, g + i * b->lddo, 0, d, 1);
    }
    if (!panels) return;
    kern_src src;
    kern_src_f32(&src, q, b->ldq);
    kern->pack_n(s->q_panel, &src, 0, d, 0, nq, s->tmp);
    kern_src_f32(&src, g, b->lddo);
    kern->pack_n(s->do_panel, &src, 0, d, 0, nq, s->tmp);
}

/* Is there a pair of query in [q0, q0+nq) and key in the block at k0 that sees it? */
static bool meets(const back_run *b, int64_t q0, int64_t nq, int64_t k0)
{
    return k0 < q0 + nq && k0 + ATTN_KEYS > attn_first_key(b->a, q0);
}

/* P and dS of a tile whose keys and queries are packed. Returns the number of its keys. */
static int64_t tile_scores(const back_run *b, const back_scratch *s, const place *at, int64_t head,
                           int64_t q0, int64_t nq, int64_t k0)
{
    const kn_attn *a = b->a;
    const int64_t d = a->head_dim, nk = attn_min(ATTN_KEYS, q0 + nq - k0);
    const int64_t cols = attn_round_up(nk, kern->lanes);
    const float *lse = b->lse + (at->seq.q0 + q0) * a->n_head + head;
    attn_product(s->s, KERN_KS, s->q, 0, nq, s->kt, d, d, cols, false);
    attn_product(s->ds, KERN_KS, s->dout, 0, nq, s->vt, d, d, cols, false);
    for (int64_t i = 0; i < nq; i++) {
        const int64_t p = q0 + i, at_row = i * KERN_KS;
        kern->attn_probs(s->p + at_row, s->s + at_row, cols, attn_first_key(a, p) - k0,
                         attn_min(p + 1 - k0, nk), a->scale, a->softcap, lse[i * a->n_head]);
        kern->attn_dscore(s->ds + at_row, s->p + at_row, s->s + at_row, cols, s->delta[i], a->scale,
                          a->softcap);
        if (attn_first_key(a, p) == p) memset(s->ds + at_row, 0, (size_t)cols * sizeof *s->ds);
    }
    return nk;
}

/* One key block against all its query blocks and heads. */
static void key_block(const back_run *b, back_scratch *s, const place *at, int64_t k0, bool with_dq)
{
    const int64_t d = b->a->head_dim, group = b->a->n_head / b->a->n_kv;
    const int64_t first = k0 / QUERIES * QUERIES;
    float *dk = b->dk + (at->seq.k0 + k0) * b->ldk + at->kv * d;
    float *dv = b->dv + (at->seq.k0 + k0) * b->ldv + at->kv * d;
    pack_keys(b, s, at, k0);
    for (int64_t head = at->kv * group; head < (at->kv + 1) * group; head++) {
        for (int64_t q0 = first; q0 < at->seq.q_len; q0 += QUERIES) {
            const int64_t nq = attn_min(QUERIES, at->seq.q_len - q0);
            if (!meets(b, q0, nq, k0)) continue;
            pack_queries(b, s, at, head, q0, nq, true);
            int64_t nk = tile_scores(b, s, at, head, q0, nq, k0);
            attn_product(dv, b->ldv, s->p, KERN_KS, nk, s->do_panel, nq, nq, d, true);
            attn_product(dk, b->ldk, s->ds, KERN_KS, nk, s->q_panel, nq, nq, d, true);
            float *dq = b->dq + (at->seq.q0 + q0) * b->ldq + head * d;
            if (with_dq)
                attn_product(dq, b->ldq, s->ds, 0, nq, s->k,
                             attn_min(ATTN_KEYS, at->seq.k_len - k0), nk, d, true);
        }
    }
}

static void query_block(const back_run *b, back_scratch *s, const place *at, int64_t q0)
{
    const int64_t d = b->a->head_dim, group = b->a->n_head / b->a->n_kv;
    const int64_t nq = attn_min(QUERIES, at->seq.q_len - q0);
    for (int64_t k0 = 0; k0 < q0 + nq; k0 += ATTN_KEYS) {
        if (!meets(b, q0, nq, k0)) continue;
        pack_keys(b, s, at, k0);
        for (int64_t head = at->kv * group; head < (at->kv + 1) * group; head++) {
            pack_queries(b, s, at, head, q0, nq, false);
            int64_t nk = tile_scores(b, s, at, head, q0, nq, k0);
            float *dq = b->dq + (at->seq.q0 + q0) * b->ldq + head * d;
            attn_product(dq, b->ldq, s->ds, 0, nq, s->k, attn_min(ATTN_KEYS, at->seq.k_len - k0),
                         nk, d, true);
        }
    }
}

/* Blocks of a sequence in the split plan; 1 in the whole plan. */
static int64_t blocks_of(const back_run *b, const attn_seq *seq, bool whole)
{
    int64_t size = b->keys ? ATTN_KEYS : QUERIES;
    if (whole) return seq->q_len > 0;
    return (seq->q_len + size - 1) / size;
}

static bool locate(const back_run *b, int64_t tile, bool whole, place *at, int64_t *block)
{
    for (int i = 0; i < b->a->n_seq; i++) {
        at->seq = attn_next(b->a, i, i ? &at->seq : NULL);
        int64_t tiles = blocks_of(b, &at->seq, whole) * b->a->n_kv;
        if (tile < tiles) {
            at->kv = (int)(tile % b->a->n_kv);
            *block = tile / b->a->n_kv;
            return true;
        }
        tile -= tiles;
    }
    return false;
}

static void whole_tile(void *ctx, int64_t tile, int thread)
{
    const back_run *b = ctx;
    back_scratch s;
    place at;
    int64_t block;
    if (!locate(b, tile, true, &at, &block) || !get_scratch(b, &s, thread)) return;
    for (int64_t k0 = 0; k0 < at.seq.k_len; k0 += ATTN_KEYS) key_block(b, &s, &at, k0, true);
}

static void split_tile(void *ctx, int64_t tile, int thread)
{
    const back_run *b = ctx;
    back_scratch s;
    place at;
    int64_t block;
    if (!locate(b, tile, false, &at, &block) || !get_scratch(b, &s, thread)) return;
    if (b->keys)
        key_block(b, &s, &at, block * ATTN_KEYS, false);
    else
        query_block(b, &s, &at, ((at.seq.q_len - 1) / QUERIES - block) * QUERIES);
}

static void run_split(back_run *b)
{
    for (int pass = 0; pass < 2; pass++) {
        attn_seq seq = {0};
        int64_t tiles = 0;
        b->keys = pass == 0;
        for (int i = 0; i < b->a->n_seq; i++) {
            seq = attn_next(b->a, i, i ? &seq : NULL);
            tiles += blocks_of(b, &seq, false) * b->a->n_kv;
        }
        pool_run(split_tile, b, tiles);
    }
}

/* The whole plan's worst time by list scheduling (all work over the threads, plus the largest task on the last)
 * against 7 products instead of 5. */
static bool prefer_whole(const kn_attn *a)
{
    double all = 0, largest = 0, threads = (double)pool_threads();
    for (int i = 0; i < a->n_seq; i++) {
        double work = (double)a->q_len[i] * (double)a->q_len[i];
        all += work * a->n_kv;
        if (work > largest) largest = work;
    }
    return all / threads + largest * (1.0 - 1.0 / threads) <= 1.4 * all / threads;
}

void kn_attention_back(const kn_attn *a, float *dq, float *dk, float *dv, const float *dout,
                       int64_t lddo, const float *out, int64_t ldo, const float *lse,
                       const float *q, int64_t ldq, const float *k, int64_t ldk, const float *v,
                       int64_t ldv)
{
    back_run b = {.a = a,
                  .dq = dq,
                  .dk = dk,
                  .dv = dv,
                  .dout = dout,
                  .out = out,
                  .lse = lse,
                  .q = q,
                  .k = k,
                  .v = v,
                  .lddo = lddo,
                  .ldo = ldo,
                  .ldq = ldq,
                  .ldk = ldk,
                  .ldv = ldv};
    if (prefer_whole(a))
        pool_run(whole_tile, &b, (int64_t)a->n_seq * a->n_kv);
    else
        run_split(&b);
}
