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
#include "kern_bf16.h"

#include <string.h>

enum { QUERIES = 64 };

typedef struct back_run {
    const kn_attn *a;
    float *dq, *dk, *dv;
    const float *dout, *lse;
    int64_t lddo;
    kn_rows out, q, k, v;
    int64_t longest, n_split; /* sequence; key heads of such ones that are split */
} back_run;

typedef struct back_scratch {
    float *q, *dout; /* rows of a query block [QUERIES, KERN_KS] */
    attn_a q_rows, do_rows;
    float *q_panel, *do_panel;
    float *p, *s, *ds;    /* [QUERIES, KERN_KS] */
    float *copy, *turned; /* scores in bf16, and as columns */
    float *kt, *vt, *k;   /* panels of a key block */
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
    const int64_t d = b->a->head_dim, tile = QUERIES * KERN_KS, tmp = kern_pack_tmp(ATTN_KEYS);
    const int64_t q_panel = kern_attn_panel_floats(d, QUERIES),
                  kt = kern_attn_panel_floats(ATTN_KEYS, d);
    const int64_t k = kern_attn_panel_floats(d, ATTN_KEYS),
                  turned = ATTN_KEYS * (QUERIES + ATTN_UNIT);
    float *p = pool_scratch(
        thread, 1, (size_t)(6 * tile + 2 * q_panel + 2 * kt + k + turned + tmp) * sizeof(float));
    if (!p) return false;
    s->q = p;
    s->dout = s->q + tile;
    s->p = s->dout + tile;
    s->s = s->p + tile;
    s->ds = s->s + tile;
    s->copy = s->ds + tile;
    s->q_panel = s->copy + tile;
    s->do_panel = s->q_panel + q_panel;
    s->kt = s->do_panel + q_panel;
    s->vt = s->kt + kt;
    s->k = s->vt + kt;
    s->turned = s->k + k;
    s->tmp = s->turned + turned;
    return true;
}

static void pack_keys(const back_run *b, const back_scratch *s, const place *at, int64_t k0)
{
    const int64_t d = b->a->head_dim, nk = attn_min(ATTN_KEYS, at->seq.k_len - k0);
    const attn_rows k = kern_attn_rows_of(b->k, at->seq.k0 + k0, at->kv * d);
    const attn_rows v = kern_attn_rows_of(b->v, at->seq.k0 + k0, at->kv * d);
    kern_attn_pack_t(s->kt, &k, 0, nk, d, s->tmp);
    kern_attn_pack_t(s->vt, &v, 0, nk, d, s->tmp);
    kern_attn_pack_n(s->k, &k, 0, nk, d, s->tmp);
}

/* δ of the block's rows: Σ dO ⊙ O. */
static void sum_deltas(const back_run *b, back_scratch *s, const float *g, int64_t row,
                       int64_t column, int64_t nq)
{
    const int64_t d = b->a->head_dim;
    for (int64_t i = 0; i < nq; i++) {
        const int64_t from = (row + i) * b->out.ld + column;
        const float *o = b->out.bf16 ? s->tmp : (const float *)b->out.data + from;
        if (b->out.bf16) kern_dot_row->widen(s->tmp, (const uint16_t *)b->out.data + from, d);
        s->delta[i] = kern->inner(o, g + i * b->lddo, d);
    }
}

/* Rows of dO in the precision of q; in bf16 rounded into s->dout and filled up there. */
static attn_rows gradient_rows(const back_run *b, const back_scratch *s, const float *g, int64_t nq)
{
    const int64_t d = b->a->head_dim, all = kern_attn_k(true, d);
    uint16_t *to = (uint16_t *)(void *)s->dout;
    if (!b->q.bf16) return kern_attn_rows_of((kn_rows){(float *)g, b->lddo, false}, 0, 0);
    for (int64_t i = 0; i < nq; i++, to += KERN_KS) {
        kern_dot_row->round(to, g + i * b->lddo, d);
        memset(to + d, 0, (size_t)(all - d) * sizeof *to);
    }
    return (attn_rows){.bf16 = (const uint16_t *)(const void *)s->dout, .ld = KERN_KS};
}

static void pack_queries(const back_run *b, back_scratch *s, const place *at, int64_t head,
                         int64_t q0, int64_t nq, bool panels)
{
    const int64_t d = b->a->head_dim, row = at->seq.q0 + q0;
    const float *g = b->dout + row * b->lddo + head * d;
    const attn_rows q = kern_attn_rows_of(b->q, row, head * d), dout = gradient_rows(b, s, g, nq);
    s->q_rows = kern_attn_of_rows(&q, 0, nq, d, s->q);
    s->do_rows = b->q.bf16 ? (attn_a){.at = dout.bf16, .ld = KERN_KS, .bf16 = true}
                           : kern_attn_of_rows(&dout, 0, nq, d, s->dout);
    sum_deltas(b, s, g, row, head * d, nq);
    if (!panels) return;
    kern_attn_pack_n(s->q_panel, &q, 0, nq, d, s->tmp);
    kern_attn_pack_n(s->do_panel, &dout, 0, nq, d, s->tmp);
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
    const int64_t cols = kern_attn_columns(b->q.bf16, nk, nk);
    const float *lse = b->lse + (at->seq.q0 + q0) * a->n_head + head;
    kern_attn_product(s->s, KERN_KS, &s->q_rows, nq, s->kt, d, d, cols, false);
    kern_attn_product(s->ds, KERN_KS, &s->do_rows, nq, s->vt, d, d, cols, false);
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

/* dQ of a tile += dS · K */
static void add_dq(const back_run *b, const back_scratch *s, const place *at, int64_t head,
                   int64_t q0, int64_t nq, int64_t k0, int64_t nk)
{
    const int64_t d = b->a->head_dim, keys = attn_min(ATTN_KEYS, at->seq.k_len - k0);
    const attn_a ds =
        kern_attn_of_scores(b->q.bf16, s->ds, nq, kern_attn_columns(b->q.bf16, nk, nk), s->copy);
    float *dq = b->dq + (at->seq.q0 + q0) * b->q.ld + head * d;
    kern_attn_product(dq, b->q.ld, &ds, nq, s->k, keys, nk, d, true);
}

/* to [nk, d] += scoresᵀ · panel of the tile's queries */
static void add_by_queries(const back_run *b, const back_scratch *s, float *to, int64_t ld,
                           const float *scores, const float *panel, int64_t nq, int64_t nk)
{
    const attn_a columns = kern_attn_of_scores_t(
        b->q.bf16, scores, nq, kern_attn_columns(b->q.bf16, nk, nk), s->copy, s->turned);
    kern_attn_product(to, ld, &columns, nk, panel, nq, nq, b->a->head_dim, true);
}

/* One key block against all its query blocks and heads. */
static void key_block(const back_run *b, back_scratch *s, const place *at, int64_t k0, bool with_dq)
{
    const int64_t d = b->a->head_dim, group = b->a->n_head / b->a->n_kv;
    const int64_t first = k0 / QUERIES * QUERIES;
    float *dk = b->dk + (at->seq.k0 + k0) * b->k.ld + at->kv * d;
    float *dv = b->dv + (at->seq.k0 + k0) * b->v.ld + at->kv * d;
    pack_keys(b, s, at, k0);
    for (int64_t head = at->kv * group; head < (at->kv + 1) * group; head++) {
        for (int64_t q0 = first; q0 < at->seq.q_len; q0 += QUERIES) {
            const int64_t nq = attn_min(QUERIES, at->seq.q_len - q0);
            if (!meets(b, q0, nq, k0)) continue;
            pack_queries(b, s, at, head, q0, nq, true);
            const int64_t nk = tile_scores(b, s, at, head, q0, nq, k0);
            add_by_queries(b, s, dv, b->v.ld, s->p, s->do_panel, nq, nk);
            add_by_queries(b, s, dk, b->k.ld, s->ds, s->q_panel, nq, nk);
            if (with_dq) add_dq(b, s, at, head, q0, nq, k0, nk);
        }
    }
}

static void query_block(const back_run *b, back_scratch *s, const place *at, int64_t q0)
{
    const int64_t group = b->a->n_head / b->a->n_kv, nq = attn_min(QUERIES, at->seq.q_len - q0);
    for (int64_t k0 = 0; k0 < q0 + nq; k0 += ATTN_KEYS) {
        if (!meets(b, q0, nq, k0)) continue;
        pack_keys(b, s, at, k0);
        for (int64_t head = at->kv * group; head < (at->kv + 1) * group; head++) {
            pack_queries(b, s, at, head, q0, nq, false);
            const int64_t nk = tile_scores(b, s, at, head, q0, nq, k0);
            add_dq(b, s, at, head, q0, nq, k0, nk);
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
    kern_attn_end(b->q.bf16);
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
                       int64_t lddo, kn_rows out, const float *lse, kn_rows q, kn_rows k, kn_rows v)
{
    back_run b = {.a = a,
                  .dq = dq,
                  .dk = dk,
                  .dv = dv,
                  .dout = dout,
                  .lddo = lddo,
                  .out = out,
                  .lse = lse,
                  .q = q,
                  .k = k,
                  .v = v};
    int section;
    int64_t block;
    make_plan(&b);
    pool_run(back_tile, &b, locate(&b, INT64_MAX, &section, &(place){0}, &block));
}
