/* nn.c – the one function every linear layer of every family goes through, with a method's hooks around it. */
#include "ft/nn.h"

#include <assert.h>
#include <math.h>

#define NOISE_KEY 0x6e6f697365u /* identity of the noise on embeddings: "noise" */

tn_tensor *nn_value_of(const nn_overlay *over, nn_param *p)
{
    nn_param *own = over && over->own ? over->own[p->index] : NULL;
    return own ? &own->t : &p->t;
}

tn_tensor *nn_bias_of(const nn_overlay *over, const nn_site *s)
{
    nn_param *added = over && over->bias ? over->bias[s->index] : NULL;
    if (s->b) return nn_value_of(over, s->b);
    return added ? &added->t : NULL;
}

void *nn_slot_of(const nn_overlay *over, const nn_site *s)
{
    return over && over->slot ? over->slot[s->index] : NULL;
}

tn_tensor *nn_value(const nn_run *r, nn_param *p)
{
    return nn_value_of(r->over, p);
}

void *nn_slot(const nn_run *r, const nn_site *s)
{
    return nn_slot_of(r->over, s);
}

ag_weight nn_weight(const nn_run *r, const nn_site *s)
{
    return (ag_weight){.w = nn_value(r, s->w), .b = nn_bias_of(r->over, s), .in_out = s->in_out};
}

const nn_hooks *nn_hooks_of(const nn_run *r)
{
    static const nn_hooks none;
    return r->over && r->over->hooks ? r->over->hooks : &none;
}

/* The overlay's, where it is on, else the model's; NULL: none. */
static nn_fake *fake_of(const nn_run *r, const nn_site *s)
{
    nn_fake *own = r->over && r->over->fake ? &r->over->fake[s->index] : NULL;
    return own && own->on ? own : s->fake;
}

static ag_weight weight_of(nn_run *r, const nn_site *s)
{
    ag_weight w = nn_weight(r, s);
    nn_fake *fake = fake_of(r, s);
    if (fake && fake->weighs) w.w = &fake->w;
    if (nn_hooks_of(r)->weight) nn_hooks_of(r)->weight(r, s, &w);
    return w;
}

/* The sites of a group share their input, so they have one form of it. */
static tn_tensor *product(nn_run *r, const nn_group *g, tn_tensor *x, ag_weight *w, tn_tensor *add)
{
    const nn_fake *fake = fake_of(r, g->site);
    ag_low_rank low[AG_MAX_GROUP];
    if (!fake || !fake->input) return ag_linear(r->t, x, w, g->n, add);
    const int n_low = ag_take_low(w, g->n, low);
    tn_tensor *y = ag_linear_codes(r->t, x, fake->input, w, g->n, add);
    return ag_low_rank_add(r->t, y, x, low, n_low);
}

tn_tensor *nn_linear(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *add)
{
    const nn_hooks *h = nn_hooks_of(r);
    bool apart = add && h->post && h->alone;
    ag_weight w[AG_MAX_GROUP];
    assert(g->n <= AG_MAX_GROUP);
    for (int i = 0; i < g->n; i++) w[i] = weight_of(r, &g->site[i]);
    tn_tensor *in = h->pre ? h->pre(r, g, x) : x;
    tn_tensor *y = product(r, g, in, w, apart ? NULL : add);
    if (h->post) y = h->post(r, g, in, y);
    if (!apart) return y;
    tn_tensor *sum = ag_add(r->t, y, add);
    ag_drop(r->t, y);
    return sum;
}

/* NEFTune (Jain et al. 2023): h of a sequence of L tokens += alpha/√(L·C) · u, u uniform in [−1, 1). transformers takes the
 * padded length of the batch for L, so that a sample's noise depends on its neighbours; here it is the sample's own.
 * Virtual rows, which come first in their sequences, are no embeddings of tokens and get none. */
static void add_noise(const nn_run *r, tn_tensor *h)
{
    const int64_t cols = tn_cols(h);
    const uint64_t key = rng_key(r->rows->mask_key, NOISE_KEY, 0);
    for (int64_t s = 0, at = 0; s < r->rows->n_seq; at += r->rows->len[s++]) {
        int64_t first = at, end = at + r->rows->len[s];
        while (first < end && r->ids[first] < 0) first++;
        float amount = r->noise / sqrtf((float)((end - first) * cols));
        if (first < end)
            kn_noise(tn_f32(h) + first * cols, amount, end - first, cols, key,
                     r->rows->key + first);
    }
}

tn_tensor *nn_embed(nn_run *r, const nn_site *s, const int32_t *ids)
{
    const nn_hooks *h = nn_hooks_of(r);
    tn_tensor *y = ag_embed(r->t, nn_weight(r, s).w, ids, r->tokens, s->frozen_row);
    bool noisy = r->noise > 0.0f && s->role == NN_EMBED && r->t->status == FT_OK;
    if (noisy && !r->t->dry) add_noise(r, y);
    return h->embed ? h->embed(r, s, y) : y;
}
