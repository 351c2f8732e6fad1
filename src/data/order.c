/* order.c – which samples a step is made of, a pure function of (seed, step): nothing of it is saved, so a resumed run
 * reads on where it stopped. What is kept between steps only saves work. */
#include "data_private.h"

#include <math.h>

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
    if (!d->weighted) return data_count(d);
    for (int i = 0; i < d->n_sources; i++) n += share(d, i);
    return n;
}

static void permute(int64_t *out, int64_t n, uint64_t key, bool shuffle)
{
    if (shuffle)
        rng_permute(out, n, key);
    else
        for (int64_t i = 0; i < n; i++) out[i] = i;
}

void data_order_close(data_set *d)
{
    data_order *o = &d->order;
    for (int s = 0; o->pass && s < d->n_sources; s++) ft_free(o->pass[s].index);
    ft_free(o->pass);
    ft_free(o->index);
    *o = (data_order){.epoch = -1};
}

/* --- without weights: one permutation ------------------------------------------------------------------- */
static ft_status plain_begin(data_set *d, data_order *o)
{
    int64_t n = data_count(d);
    if (!o->index) o->index = ft_alloc((size_t)n, sizeof *o->index);
    if (!o->index) return FT_EMEM;
    permute(o->index, n, rng_key(o->seed, KEY_EPOCH, (uint64_t)o->epoch), d->shuffle);
    return FT_OK;
}

/* --- with weights: an endless stream of passes over each source, of which epoch e takes the e-th piece ------- */
static ft_status mixed_begin(data_set *d, data_order *o)
{
    if (!o->pass) o->pass = ft_alloc((size_t)d->n_sources, sizeof *o->pass);
    if (!o->pass) return FT_EMEM;
    for (int s = 0; s < d->n_sources; s++) {
        data_pass *p = &o->pass[s];
        if (!p->index) {
            p->index = ft_alloc((size_t)d->source[s].stats.samples, sizeof *p->index);
            if (!p->index) return FT_EMEM;
        }
        p->left = share(d, s);
        p->at = o->epoch * p->left;
        p->number = -1;
        p->given = 0;
    }
    return FT_OK;
}

static int64_t mixed_next(const data_set *d, data_order *o)
{
    int best = -1; /* the source that is furthest behind its weight */
    for (int s = 0; s < d->n_sources; s++) {
        const data_pass *p = &o->pass[s];
        if (p->left && (best < 0 || p->given * d->source[best].weight <
                                        o->pass[best].given * d->source[s].weight)) {
            best = s;
        }
    }
    const data_source_stats *st = &d->source[best].stats;
    data_pass *p = &o->pass[best];
    int64_t number = p->at / st->samples;
    if (number != p->number) {
        uint64_t key = rng_key(o->seed, KEY_SOURCE + (uint64_t)best, (uint64_t)number);
        permute(p->index, st->samples, key, d->shuffle);
        p->number = number;
    }
    int64_t sample = st->first + p->index[p->at % st->samples];
    p->at++;
    p->left--;
    p->given += data_length(d, sample);
    return sample;
}

/* --- steps ------------------------------------------------------------------------------------------------ */
static int64_t next(const data_set *d, data_order *o)
{
    int64_t at = o->at++;
    return d->weighted ? mixed_next(d, o) : o->index[at];
}

/* Brings the order to sample `at` of an epoch. */
static ft_status seek(data_set *d, uint64_t seed, int64_t epoch, int64_t at)
{
    data_order *o = &d->order;
    if (o->epoch != epoch || o->seed != seed || (d->weighted && o->at > at)) {
        o->seed = seed;
        o->epoch = epoch;
        o->at = 0;
        ft_status rc = d->weighted ? mixed_begin(d, o) : plain_begin(d, o);
        if (rc != FT_OK) o->epoch = -1;
        FT_TRY(rc);
    }
    if (!d->weighted) o->at = at;
    while (o->at < at) next(d, o);
    return FT_OK;
}

ft_status data_take(data_set *d, uint64_t seed, int64_t step, int64_t batch_size, data_sample *out,
                    int *n, arena *mem)
{
    int64_t all = data_epoch_length(d), steps = (all + batch_size - 1) / batch_size;
    int64_t first = step % steps * batch_size, left = all - first;
    FT_TRY(seek(d, seed, step / steps, first));
    *n = (int)(left < batch_size ? left : batch_size);
    for (int i = 0; i < *n; i++) FT_TRY(data_get(d, next(d, &d->order), &out[i], mem));
    return FT_OK;
}
