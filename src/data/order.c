/* order.c – which samples a step is made of, a pure function of (seed, step): nothing of it is saved, so a resumed run
 * reads on where it stopped. What is kept between steps only saves work. */
#include "data_private.h"

#include <math.h>

enum { KEY_EPOCH = 0x65706f63, KEY_SOURCE = 0x736f7572, KEY_WINDOW = 0x77696e64 };

/* One permutation serves all samples that are in memory. Weights, and windows, want each source by itself. */
static bool mixes(const data_set *d)
{
    bool windows = false;
    for (int i = 0; i < d->n_sources; i++) windows = windows || d->source[i].windowed;
    return d->weighted || windows;
}

static double weight(const data_set *d, int s)
{
    return d->weighted ? d->source[s].weight : (double)d->source[s].stats.tokens;
}

/* Samples source s gives to an epoch of the mix: its share of all tokens, in samples of mean length. */
static int64_t share(const data_set *d, int s)
{
    const data_source_stats *st = &d->source[s].stats;
    double all = 0;
    if (!d->weighted) return st->samples;
    for (int i = 0; i < d->n_sources; i++) all += (double)d->source[i].stats.tokens;
    double n = d->source[s].weight * all * (double)st->samples / (double)st->tokens;
    return n < 1 ? 1 : (int64_t)llround(n);
}

int64_t data_epoch_length(const data_set *d)
{
    int64_t n = 0;
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
    for (int s = 0; o->pass && s < d->n_sources; s++) {
        ft_free(o->pass[s].index);
        ft_free(o->pass[s].window);
    }
    ft_free(o->pass);
    ft_free(o->index);
    *o = (data_order){.epoch = -1};
}

/* --- all samples in one permutation ------------------------------------------------------------------------- */
static ft_status plain_begin(data_set *d, data_order *o)
{
    int64_t n = data_count(d);
    if (!o->index) o->index = ft_alloc((size_t)n, sizeof *o->index);
    if (!o->index) return FT_EMEM;
    permute(o->index, n, rng_key(o->seed, KEY_EPOCH, (uint64_t)o->epoch), d->shuffle);
    return FT_OK;
}

/* --- each source by itself: an endless stream of passes over it, of which epoch e takes the e-th piece --------- */
static ft_status pass_begin(const data_source *s, data_pass *p, int64_t epoch, int64_t samples)
{
    size_t rows = (size_t)(s->windowed ? s->window_rows : s->stats.samples);
    if (!p->index) p->index = ft_alloc(rows, sizeof *p->index);
    if (!p->window) p->window = ft_alloc((size_t)s->n_windows + 1, sizeof *p->window);
    if (!p->index || !p->window) return FT_EMEM;
    p->left = samples;
    p->at = epoch * samples;
    p->number = -1;
    p->given = 0;
    return FT_OK;
}

static ft_status mixed_begin(data_set *d, data_order *o)
{
    if (!o->pass) o->pass = ft_alloc((size_t)d->n_sources, sizeof *o->pass);
    if (!o->pass) return FT_EMEM;
    for (int s = 0; s < d->n_sources; s++)
        FT_TRY(pass_begin(&d->source[s], &o->pass[s], o->epoch, share(d, s)));
    return FT_OK;
}

/* The sample at `at` of a pass over windows: these are shuffled, and the rows in each. */
static int64_t in_window(const data_source *s, data_pass *p, int64_t at, uint64_t key, bool shuffle)
{
    const data_window *w = p->place < 0 ? NULL : &s->window[p->window[p->place]];
    if (!w || at >= p->begin + w->rows) {
        do {
            p->begin += w ? w->rows : 0;
            w = &s->window[p->window[++p->place]];
        } while (at >= p->begin + w->rows);
        uint64_t own = rng_key(key, KEY_WINDOW, (uint64_t)p->window[p->place]);
        permute(p->index, w->rows, own, shuffle);
    }
    return w->first + p->index[at - p->begin];
}

static int64_t pass_next(const data_set *d, int source, uint64_t seed, data_pass *p)
{
    const data_source *s = &d->source[source];
    int64_t samples = s->stats.samples, number = p->at / samples, at = p->at % samples;
    uint64_t key = rng_key(seed, KEY_SOURCE + (uint64_t)source, (uint64_t)number);
    if (number != p->number) {
        permute(s->windowed ? p->window : p->index, s->windowed ? s->n_windows : samples, key,
                d->shuffle);
        p->number = number;
        p->place = -1;
        p->begin = 0;
    }
    p->at++;
    p->left--;
    return s->stats.first + (s->windowed ? in_window(s, p, at, key, d->shuffle) : p->index[at]);
}

static int64_t mixed_next(const data_set *d, data_order *o)
{
    int best = -1; /* the source that is furthest behind its weight */
    for (int s = 0; s < d->n_sources; s++) {
        const data_pass *p = &o->pass[s];
        if (p->left &&
            (best < 0 || p->given * weight(d, best) < o->pass[best].given * weight(d, s)))
            best = s;
    }
    int64_t sample = pass_next(d, best, o->seed, &o->pass[best]);
    o->pass[best].given += data_length(d, sample);
    return sample;
}

/* --- steps ------------------------------------------------------------------------------------------------ */
static int64_t next(const data_set *d, data_order *o)
{
    int64_t at = o->at++;
    return o->index ? o->index[at] : mixed_next(d, o);
}

/* Brings the order to sample `at` of an epoch. */
static ft_status seek(data_set *d, uint64_t seed, int64_t epoch, int64_t at)
{
    data_order *o = &d->order;
    bool mix = mixes(d);
    if (o->epoch != epoch || o->seed != seed || (mix && o->at > at)) {
        o->seed = seed;
        o->epoch = epoch;
        o->at = 0;
        ft_status rc = mix ? mixed_begin(d, o) : plain_begin(d, o);
        if (rc != FT_OK) o->epoch = -1;
        FT_TRY(rc);
    }
    if (!mix) o->at = at;
    if (mix && d->n_sources == 1) { /* nothing to weigh up on the way */
        o->pass[0].at += at - o->at;
        o->pass[0].left -= at - o->at;
        o->at = at;
    }
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
