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
 * A key head of a sequence is one task, or it is split into tasks of key blocks (dK, dV) and of query blocks (dQ) that
 * compute S and dP twice; the order of additions is the same, hence the bits. So many are split that the threads are
 * done at about the same time. */
#include "attn.h"

#include <string.h>

enum { QUERIES = 64 };

typedef struct back_run {
    const kn_attn *a;
    float *dq, *dk, *dv;
    const float *dout, *out, *lse, *q, *k, *v;
    int64_t lddo, ldo, ldq, ldk, ldv;
    int64_t longest, n_split; /* sequence; key heads of such ones that are split */
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
        s->delta[i] = kern->inner(o, g + i * b->lddo, d);
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

/* --- plan -------------------------------------------------------------------------------------------------------- */

enum { WHOLE, KEYS, QUERY_BLOCKS, SECTIONS }; /* of tiles, one after another */

/* Key heads of the next sequence that are split; *left: of all that follow. */
static int64_t split_heads(const back_run *b, const attn_seq *seq, int64_t *left)
{
    int64_t n = seq->q_len == b->longest ? attn_min(*left, b->a->n_kv) : 0;
    *left -= n;
    return n;
}

static int64_t blocks_of(int64_t n, int section)
{
    static const int64_t size[] = {
        [WHOLE] = INT32_MAX, [KEYS] = ATTN_KEYS, [QUERY_BLOCKS] = QUERIES};
    return (n + size[section] - 1) / size[section];
}

/* Tile number → section, place, block. Counts all tiles when there is no such one. */
static int64_t locate(const back_run *b, int64_t tile, int *section, place *at, int64_t *block)
{
    int64_t before = 0;
    for (*section = 0; *section < SECTIONS; ++*section) {
        int64_t left = b->n_split;
        for (int i = 0; i < b->a->n_seq; i++) {
            at->seq = attn_next(b->a, i, i ? &at->seq : NULL);
            const int64_t split = split_heads(b, &at->seq, &left);
            const int64_t heads = *section == WHOLE ? b->a->n_kv - split : split;
            const int64_t tiles = blocks_of(at->seq.q_len, *section) * heads;
            if (tile < before + tiles) {
                at->kv = (int)((tile - before) % heads + (*section == WHOLE ? split : 0));
                *block = (tile - before) / heads;
                return tile;
            }
            before += tiles;
        }
    }
    return before;
}

static void back_tile(void *ctx, int64_t tile, int thread)
{
    const back_run *b = ctx;
    back_scratch s;
    place at;
    int64_t block;
    int section;
    if (locate(b, tile, &section, &at, &block) != tile || !get_scratch(b, &s, thread)) return;
    if (section == WHOLE)
        for (int64_t k0 = 0; k0 < at.seq.k_len; k0 += ATTN_KEYS) key_block(b, &s, &at, k0, true);
    else if (section == KEYS)
        key_block(b, &s, &at, block * ATTN_KEYS, false);
    else
        query_block(b, &s, &at, ((at.seq.q_len - 1) / QUERIES - block) * QUERIES);
}

/* Time of a plan in which `split` key heads of the longest sequences are split: the whole ones go to threads as those
 * come free, and the rest, 7 products instead of 5, fills up what is left. */
static double time_of(const back_run *b, int64_t split)
{
    enum { MOST = 256 };
    const int threads = (int)attn_min(pool_threads(), MOST);
    double busy[MOST] = {0}, all = 0, last = 0;
    for (int i = 0; i < b->a->n_seq; i++) {
        const attn_seq seq = {.q_len = b->a->q_len[i]};
        const double work = (double)seq.q_len * (double)seq.q_len;
        const int64_t heads = split_heads(b, &seq, &split);
        all += work * (1.4 * (double)heads + (double)(b->a->n_kv - heads));
        for (int64_t h = heads; h < b->a->n_kv; h++) {
            int free = 0;
            for (int t = 1; t < threads; t++)
                if (busy[t] < busy[free]) free = t;
            busy[free] += work;
            if (busy[free] > last) last = busy[free];
        }
    }
    return last > all / threads ? last : all / threads;
}

/* How many to split: no bit depends on it. */
static void make_plan(back_run *b)
{
    int64_t tasks = 0;
    for (int i = 0; i < b->a->n_seq; i++)
        if (b->a->q_len[i] > b->longest) b->longest = b->a->q_len[i];
    for (int i = 0; i < b->a->n_seq; i++)
        if (b->a->q_len[i] == b->longest) tasks += b->a->n_kv;
    double best = time_of(b, 0);
    tasks = attn_min(tasks, pool_threads() > 1 ? 2 * pool_threads() : 0);
    for (int64_t n = 1; n <= tasks; n++) {
        double time = time_of(b, n);
        if (time >= best * 0.99) continue;
        best = time;
        b->n_split = n;
    }
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
    int section;
    int64_t block;
    make_plan(&b);
    pool_run(back_tile, &b, locate(&b, INT64_MAX, &section, &(place){0}, &block));
}
