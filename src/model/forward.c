/* forward.c – the block builder that serves every family, the loss over it, logits, and what generation keeps in
 * its cache.
 *
 *   h += o(attention(rope(qkv(norm1 h))));  h += down(act(up(norm2 h)));  final norm. */
#include "model_private.h"

#include <string.h>

static tn_tensor *norm(const model *m, nn_run *r, tn_tensor *x, nn_param *w, nn_param *b)
{
    if (m->family->traits & FAM_LAYER_NORM)
        return ag_layernorm(r->t, x, nn_value(r, w), nn_value(r, b), m->d.norm_eps);
    return ag_rmsnorm(r->t, x, nn_value(r, w), m->d.norm_eps);
}

typedef struct rope_view {
    const float *cos, *sin;
    const int32_t *pos;
} rope_view;

static ft_status prepare_rope(model *m, nn_run *r, rope_view *v)
{
    int64_t last = 0;
    if (m->d.dynamic_factor > 0.0f) return rope_dynamic(m, r, &v->cos, &v->sin, &v->pos);
    for (int64_t i = 0; i < r->tokens; i++) last = r->pos[i] > last ? r->pos[i] : last;
    FT_TRY(rope_tables(m, last + 1));
    *v = (rope_view){m->rope_cos, m->rope_sin, r->pos};
    return FT_OK;
}

static kn_attn attention_rule(const model *m, int layer)
{
    float by_layer = m->d.scale_by_layer ? 1.0f / (float)(layer + 1) : 1.0f;
    return (kn_attn){.n_head = m->d.n_head,
                     .n_kv = m->d.n_kv,
                     .head_dim = m->d.head_dim,
                     .scale = m->d.attn_scale * by_layer,
                     .window = m->d.window[layer]};
}

/* A page of the cache: for every layer `rows` rows of keys, then as many of values. */
int64_t model_cache_floats(const model *m, int64_t positions)
{
    return 2 * (int64_t)m->d.n_layer * positions * m->d.n_kv * m->d.head_dim;
}

/* The newest len positions of a sequence into its pages. */
static void keep_rows(const kn_attn *a, float *const *page, int64_t k_len, int64_t len,
                      const float *k, int64_t ld)
{
    const int64_t kv = (int64_t)a->n_kv * a->head_dim;
    for (int64_t p = k_len - len; p < k_len; p++, k += ld) {
        float *to = page[p / a->page_rows] + p % a->page_rows * kv;
        memcpy(to + a->k_at, k, (size_t)kv * sizeof(float));
        memcpy(to + a->v_at, k + kv, (size_t)kv * sizeof(float));
    }
}

/* New tokens of each sequence against all its cached keys, whose tail they become. */
static tn_tensor *cached_attention(const model *m, nn_run *r, tn_tensor *qkv, int layer)
{
    const nn_cache *c = r->cache;
    kn_attn a = attention_rule(m, layer);
    int64_t q = (int64_t)a.n_head * a.head_dim, kv = (int64_t)a.n_kv * a.head_dim,
            ld = tn_cols(qkv);
    tn_tensor *out = ag_new(r->t, r->tokens, q);
    if (!out || r->t->status != FT_OK) return qkv;
    a.q_len = r->rows->len;
    a.n_seq = r->rows->n_seq;
    a.k_len = c->k_len;
    a.page = (const float *const *)c->page;
    a.page_rows = c->rows;
    a.k_at = 2 * layer * c->rows * kv;
    a.v_at = a.k_at + c->rows * kv;
    const float *k = tn_f32(qkv) + q;
    float *const *page = c->page;
    for (int i = 0; i < a.n_seq; i++) {
        keep_rows(&a, page, a.k_len[i], a.q_len[i], k, ld);
        page += (a.k_len[i] + a.page_rows - 1) / a.page_rows;
        k += a.q_len[i] * ld;
    }
    kn_attention(&a, tn_f32(out), q, NULL, tn_f32(qkv), ld, NULL, kv, NULL, kv);
    return out;
}

static tn_tensor *attention_block(model *m, nn_run *r, const model_layer *l, int layer,
                                  const rope_view *rope, tn_tensor *h)
{
    kn_attn a = attention_rule(m, layer);
    tn_tensor *x = norm(m, r, h, l->norm1_w, l->norm1_b);
    tn_tensor *qkv = nn_linear(r, &l->qkv, x, NULL);
    if (l->q_norm)
        qkv = ag_head_norm(r->t, qkv, nn_value(r, l->q_norm), nn_value(r, l->k_norm), a.n_head,
                           a.n_kv, m->d.norm_eps);
    if (rope->cos || r->t->dry) {
        if (m->d.rope_inv)
            qkv = ag_rope(r->t, qkv, a.n_head + a.n_kv, a.head_dim, m->d.rope_half, rope->cos,
                          rope->sin, rope->pos);
    }
    tn_tensor *y = r->cache ? cached_attention(m, r, qkv, layer) : ag_attention(r->t, qkv, &a);
    return nn_linear(r, &l->o, y, h);
}

static tn_tensor *mlp_block(model *m, nn_run *r, const model_layer *l, tn_tensor *h)
{
    tn_tensor *x = norm(m, r, h, l->norm2_w, l->norm2_b);
    tn_tensor *u = nn_linear(r, &l->up, x, NULL);
    u = m->family->traits & FAM_GATED ? ag_glu(r->t, u, m->d.act) : ag_act(r->t, u, m->d.act);
    return nn_linear(r, &l->down, u, h);
}

/* One block as a function of its input, for checkpointing. */
typedef struct block_ctx {
    model *m;
    nn_run *r;
    const rope_view *rope;
    int layer;
} block_ctx;

static tn_tensor *block(void *ctx, tn_tensor *h)
{
    const block_ctx *c = ctx;
    const model_layer *l = &c->m->layer[c->layer];
    return mlp_block(c->m, c->r, l, attention_block(c->m, c->r, l, c->layer, c->rope, h));
}

/* Without a backward nothing inside a block is needed after it: its memory serves the next one, so a pass of T tokens
 * takes one block's activations and not all of them. */
static tn_tensor *keep_only(ag_tape *t, tn_tensor *kept, tn_tensor *h, size_t mark)
{
    if (t->status != FT_OK) return h;
    if (!t->dry) memcpy(kept->data, h->data, (size_t)tn_count(h) * sizeof(float));
    arena_reset(t->keep, mark);
    return kept;
}

static tn_tensor *blocks(model *m, nn_run *r, const rope_view *rope, tn_tensor *h)
{
    bool checkpoint = r->checkpoint && r->t->record && !r->cache;
    tn_tensor *kept = r->t->record ? NULL : ag_new(r->t, tn_rows(h), tn_cols(h));
    size_t mark = arena_mark(r->t->keep);
    for (int i = 0; i < m->d.n_layer && r->t->status == FT_OK; i++) {
        block_ctx *c = ag_meta(r->t, sizeof *c);
        if (!c) return h;
        *c = (block_ctx){m, r, rope, i};
        h = checkpoint ? ag_checkpoint(r->t, h, block, c) : block(c, h);
        if (kept) h = keep_only(r->t, kept, h, mark);
    }
    return h;
}

tn_tensor *model_hidden(model *m, nn_run *r)
{
    rope_view rope = {0};
    tn_tensor *h = nn_embed(r, m->embed, r->ids);
    if (m->position) {
        for (int64_t i = 0; i < r->tokens; i++) {
            if (r->pos[i] < m->d.max_position) continue;
            ag_fail(
                r->t,
                ft_fail(FT_EDATA,
                        "a sequence of more than %lld tokens: this model has no further positions; "
                        "lower data.max_length",
                        (long long)m->d.max_position));
            return h;
        }
        h = ag_add(r->t, h, nn_embed(r, m->position, r->pos));
    } else if (!r->t->dry) {
        ft_status rc = prepare_rope(m, r, &rope);
        if (rc != FT_OK) ag_fail(r->t, rc);
    }
    rope_view *kept = ag_meta(r->t, sizeof *kept); /* the backward of a checkpoint reads it too */
    if (!kept) return h;
    *kept = rope;
    h = blocks(m, r, kept, h);
    return norm(m, r, h, m->norm_w, m->norm_b);
}

tn_tensor *model_loss(model *m, nn_run *r, tn_tensor *hidden, float grad_scale, float *logprob,
                      int32_t *best)
{
    ag_low_rank low_rank[AG_MAX_GROUP];
    const nn_hooks *h = r->over ? r->over->hooks : NULL;
    ag_ce ce = {.head = nn_weight(r, m->head),
                .low_rank = low_rank,
                .label = r->label,
                .grad_scale = grad_scale,
                .logprob = logprob,
                .best = best};
    if (h && h->low_rank) ce.n_low_rank = h->low_rank(r, m->head, low_rank);
    return ag_cross_entropy(r->t, hidden, &ce);
}

/* The head over selected rows: ag_linear without recording, on rows gathered into the tape. */
ft_status model_logits(model *m, nn_run *r, const tn_tensor *hidden, const int64_t *rows, int64_t n,
                       float *logits, bool few)
{
    ag_low_rank low_rank[AG_MAX_GROUP];
    const nn_hooks *h = r->over ? r->over->hooks : NULL;
    int n_low_rank = h && h->low_rank ? h->low_rank(r, m->head, low_rank) : 0;
    ag_weight w = nn_weight(r, m->head);
    bool record = r->t->record, was_few = r->t->few;
    int64_t c = tn_cols(hidden);
    const ag_rows *before;
    if (r->t->status != FT_OK) return r->t->status;
    r->t->record = false;
    r->t->few = few;
    before = ag_set_rows(r->t, NULL);
    tn_tensor *x = ag_new(r->t, n, c);
    for (int64_t i = 0; x && i < n; i++) {
        int64_t row = r->row_of ? r->row_of[rows[i]] : rows[i];
        memcpy(tn_f32(x) + i * c, tn_f32(hidden) + row * c, (size_t)c * sizeof(float));
    }
    if (x) {
        tn_tensor *y = ag_linear(r->t, x, &w, 1, NULL);
        y = ag_low_rank_add(r->t, y, x, low_rank, n_low_rank);
        if (r->t->status == FT_OK)
            memcpy(logits, tn_f32(y), (size_t)(n * m->d.vocab_size) * sizeof(float));
    }
    ag_set_rows(r->t, before);
    r->t->record = record;
    r->t->few = was_few;
    return r->t->status;
}
