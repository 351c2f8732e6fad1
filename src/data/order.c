/* order.c – the order of the samples of an epoch, a pure function of (seed, epoch): there is no state, so a
 * resumed run reads on where it stopped without replaying anything. */
#include "data_private.h"

#include <math.h>
#include <string.h>

enum { KEY_EPOCH = 0x65706f63, KEY_SOURCE = 0x736f7572 };

/* Samples source s gives to an epoch of the mix: its share of all tokens, in samples of mean length. */
static int64_t share(const data_set *d, int s)
{
    const data_source_stats *st = &d->source[s].stats;
    double all = 0;
    for (int i = 0; i < d->n_sources; i++) all += (double)d->source[i].stats.tokens;
    double n = d->source[s].weight * all * (double)st->samples / (double)st->tokens;
    return n < 1 ? 1 : (int64_t)llround(n);
}

int64_t data_epoch_length(const data_set *d)
{
    int64_t n = 0;
    if (!d->weighted) return d->n_rows;
    for (int i = 0; i < d->n_sources; i++) n += share(d, i);
    return n;
}

static ft_status permute(int64_t *out, int64_t n, uint64_t key, bool shuffle)
{
    if (shuffle)
        rng_permute(out, n, key);
    else
        for (int64_t i = 0; i < n; i++) out[i] = i;
    return FT_OK;
}

/* One source of the mix: an endless stream of passes over its samples, of which epoch e takes the e-th piece. */
typedef struct stream {
    int64_t *order;         /* of the pass that is being read */
    int64_t pass, at, left; /* at: position in the endless stream */
    double given;           /* tokens so far in this epoch */
} stream;

static ft_status next_sample(const data_set *d, int s, stream *x, uint64_t seed, bool shuffle,
                             int64_t *out)
{
    const data_source_stats *st = &d->source[s].stats;
    int64_t pass = x->at / st->samples;
    if (pass != x->pass) {
        uint64_t key = rng_key(seed, KEY_SOURCE + (uint64_t)s, (uint64_t)pass);
        FT_TRY(permute(x->order, st->samples, key, shuffle));
        x->pass = pass;
    }
    *out = st->first + x->order[x->at % st->samples];
    x->at++;
    x->left--;
    x->given += d->row[*out].len;
    return FT_OK;
}

static ft_status mixed(const data_set *d, stream *x, uint64_t seed, int64_t epoch, bool shuffle,
                       int64_t *out)
{
    int64_t n = data_epoch_length(d);
    for (int s = 0; s < d->n_sources; s++) {
        x[s].left = share(d, s);
        x[s].at = epoch * x[s].left;
        x[s].pass = -1;
        x[s].order = ft_alloc((size_t)d->source[s].stats.samples, sizeof *x[s].order);
        if (!x[s].order) return FT_EMEM;
    }
    for (int64_t i = 0; i < n; i++) { /* the source that is furthest behind its weight */
        int best = -1;
        for (int s = 0; s < d->n_sources; s++) {
            if (x[s].left && (best < 0 || x[s].given * d->source[best].weight <
                                              x[best].given * d->source[s].weight)) {
                best = s;
            }
        }
        FT_TRY(next_sample(d, best, &x[best], seed, shuffle, &out[i]));
    }
    return FT_OK;
}

ft_status data_order(const data_set *d, uint64_t seed, int64_t epoch, bool shuffle, int64_t *out)
{
    if (!d->weighted)
        return permute(out, d->n_rows, rng_key(seed, KEY_EPOCH, (uint64_t)epoch), shuffle);
    stream *x = ft_alloc((size_t)d->n_sources, sizeof *x);
    if (!x) return FT_EMEM;
    ft_status rc = mixed(d, x, seed, epoch, shuffle, out);
    for (int s = 0; s < d->n_sources; s++) ft_free(x[s].order);
    ft_free(x);
    return rc;
}
