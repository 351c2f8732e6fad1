/* order.c – which samples a step is made of, a pure function of (seed, step): nothing of it is saved, so a resumed run
 * reads on where it stopped. What is kept between steps only saves work.
 *
 * Samples in memory without weights: one permutation an epoch. Else each source goes by itself, pass after pass, and the
 * sources are interleaved. A stream (window.c) is read in the order of its file, the rows of each window in an order of
 * the pass; how long it is need not be known before its end is met. */
#include "data_private.h"

#include <math.h>

enum { KEY_EPOCH = 0x65706f63, KEY_SOURCE = 0x736f7572, KEY_WINDOW = 0x77696e64 };
#define ENDLESS INT64_MAX

static bool streams(const data_set *d)
{
    bool any = false;
    for (int i = 0; i < d->n_sources; i++) any = any || d->source[i].windowed;
    return any;
}

/* One permutation serves all samples that are in memory. Weights, and streams, want each source by itself. */
static bool mixes(const data_set *d)
{
    return d->weighted || streams(d);
}

/* Sources that are mixed for as long as steps are asked for, in steps that are all full: by weight, or by the sizes that
 * streams seem to have. */
static bool endless(const data_set *d)
{
    return d->weighted || (d->n_sources > 1 && streams(d) && !d->count);
}

static double all_tokens(const data_set *d)
{
    double all = 0;
    for (int i = 0; i < d->n_sources; i++) all += d->source[i].estimated_tokens;
    return all;
}

/* Share of source s in the tokens. */
static double weight(const data_set *d, int s)
{
    return d->weighted ? d->source[s].weight : d->source[s].estimated_tokens / all_tokens(d);
}

/* Tokens of a sample of source s on average; of a stream the same whether it was counted or not. */
static double mean(const data_set *d, int s)
{
    const data_source *from = &d->source[s];
    return from->windowed ? (double)d->max_length
                          : (double)from->stats.tokens / (double)from->stats.samples;
}

int64_t data_epoch_length(const data_set *d)
{
    int64_t n = 0;
    for (int i = 0; i < d->n_sources; i++) {
        double share = d->weighted ? weight(d, i) * all_tokens(d) / mean(d, i) : 0;
        n += !d->weighted ? d->source[i].estimated_samples : share < 1 ? 1 : llround(share);
    }
    return n;
}

/* Of so many samples of a mix those that are of one source, about. */
static int64_t share_of(const data_set *d, int source, int64_t samples)
{
    double sum = 0;
    if (d->n_sources == 1) return samples;
    for (int i = 0; i < d->n_sources; i++) sum += weight(d, i) / mean(d, i);
    return (int64_t)ceil((double)samples * weight(d, source) / mean(d, source) / sum);
}

size_t data_reading_bytes(const data_set *d, int64_t samples)
{
    size_t most = 0, one;
    for (int i = 0; i < d->n_sources; i++) {
        const data_source *s = &d->source[i];
        if (!s->windowed || s->full == 0 || (s->stats.whole && s->stats.windows < 2)) continue;
        if (s->loaded == 0 && share_of(d, i, samples) <= s->window_rows) continue;
        one = data_window_reading(d, s);
        if (one > most) most = one;
    }
    return most;
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

/* --- all samples in one permutation ------------------------------------------------------------------------- */
static ft_status plain_begin(data_set *d, data_order *o)
{
    int64_t n = data_count(d);
    if (!o->index) o->index = ft_alloc((size_t)n, sizeof *o->index);
    if (!o->index) return FT_EMEM;
    permute(o->index, n, rng_key(o->seed, KEY_EPOCH, (uint64_t)o->epoch), d->shuffle);
    return FT_OK;
}

/* --- each source by itself ------------------------------------------------------------------------------------- */
/* An epoch takes every source once; of an endless mix there is only one. */
static ft_status mixed_begin(data_set *d, data_order *o)
{
    if (!o->pass) o->pass = ft_alloc((size_t)d->n_sources, sizeof *o->pass);
    if (!o->pass) return FT_EMEM;
    o->given = 0;
    for (int i = 0; i < d->n_sources; i++) {
        const data_source *s = &d->source[i];
        data_pass *p = &o->pass[i];
        size_t rows = (size_t)(s->windowed ? s->window_rows : s->stats.samples);
        if (!p->index) p->index = ft_alloc(rows, sizeof *p->index);
        if (!p->index) return FT_EMEM;
        p->shown = p->window = -1;
        p->number = o->epoch;
        p->at = 0;
        p->given = 0;
        p->left = !endless(d) && s->stats.whole ? s->stats.samples : ENDLESS;
    }
    return FT_OK;
}

static void tell_end(const data_set *d, const data_source *s, int64_t pass)
{
    log_info("%s: all its %lld samples were used; it begins again%s (pass %lld)", ft_shows(s->name),
             (long long)s->stats.samples, d->shuffle ? " in another order" : "",
             (long long)pass + 1);
}

/* The source is used up: its next pass has an order of its own. */
static void pass_ends(const data_set *d, const data_source *s, data_pass *p)
{
    p->at = 0;
    p->number++;
    if (!d->order.quiet) tell_end(d, s, p->number);
}

/* The window that the pass is in; behind the last row, that of the next pass. */
static ft_status find_window(data_set *d, data_source *s, data_pass *p, int64_t *k)
{
    *k = p->at / s->window_rows;
    if (*k < s->full) return FT_OK;
    if (!s->stats.whole)
        FT_TRY(data_window_load(d, s, *k)); /* the frontier moves, or the end is met */
    if (*k < s->full || p->at < s->stats.samples) return FT_OK;
    pass_ends(d, s, p);
    *k = 0;
    return FT_OK;
}

/* The next sample of a source, counted in the source, and its tokens. */
static ft_status pass_next(data_set *d, int source, data_pass *p, int64_t *row, int64_t *tokens)
{
    data_source *s = &d->source[source];
    int64_t k = 0, first = 0, n;
    if (s->windowed)
        FT_TRY(find_window(d, s, p, &k));
    else if (p->at == s->stats.samples)
        pass_ends(d, s, p);
    n = s->stats.samples;
    if (s->windowed) {
        first = k * s->window_rows;
        n = k < s->full ? s->window_rows : n - first;
    }
    if (p->shown != p->number || p->window != k) {
        uint64_t key = rng_key(d->order.seed, KEY_SOURCE + (uint64_t)source, (uint64_t)p->number);
        if (s->windowed) key = rng_key(key, KEY_WINDOW, (uint64_t)k);
        permute(p->index, n, key, d->shuffle);
        p->shown = p->number;
        p->window = k;
    }
    *row = first + p->index[p->at - first];
    *tokens = data_row_length(d, s, *row);
    p->at++;
    if (p->left != ENDLESS) p->left--;
    return FT_OK;
}

/* The quota method (Balinski and Young 1975): of the sources that are not ahead of their share, the one whose next sample
 * is due first. So none is ever a sample ahead or behind. */
static int due(const data_set *d, const data_order *o)
{
    int best = -1;
    bool best_fits = false;
    double best_due = 0;
    for (int s = 0; s < d->n_sources; s++) {
        const data_pass *p = &o->pass[s];
        double w = weight(d, s), m = mean(d, s), when = (p->given + m) / w;
        bool fits = p->given < w * (o->given + m);
        if (!p->left || (best_fits && !fits)) continue;
        if (best >= 0 && fits == best_fits && when >= best_due) continue;
        best = s;
        best_fits = fits;
        best_due = when;
    }
    return best;
}

/* --- steps ------------------------------------------------------------------------------------------------ */
typedef struct place { /* of a sample */
    data_source *source;
    int64_t row;
} place;

static ft_status next(data_set *d, data_order *o, place *out)
{
    int64_t at = o->at++, tokens;
    if (o->index) {
        int64_t sample = o->index[at];
        out->source = data_source_of(d, sample);
        out->row = sample - out->source->stats.first;
        return FT_OK;
    }
    int s = d->n_sources > 1 ? due(d, o) : 0;
    out->source = &d->source[s];
    FT_TRY(pass_next(d, s, &o->pass[s], &out->row, &tokens));
    o->pass[s].given += (double)tokens;
    o->given += (double)tokens;
    return FT_OK;
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
        FT_TRY(mix ? mixed_begin(d, o) : plain_begin(d, o));
    }
    if (!mix || d->n_sources == 1) { /* nothing to weigh up on the way */
        if (mix) o->pass[0].at = at;
        if (mix && o->pass[0].left != ENDLESS) o->pass[0].left -= at - o->at;
        o->at = at;
    }
    o->quiet = true;
    for (place p; o->at < at;) FT_TRY(next(d, o, &p));
    o->quiet = false;
    return FT_OK;
}

/* Windows up to that of `row` are met, or the end is. */
static ft_status meet(data_set *d, data_source *s, int64_t row)
{
    while (!s->stats.whole && row / s->window_rows >= s->full)
        FT_TRY(data_window_load(d, s, s->full));
    return FT_OK;
}

typedef struct begin { /* of a step */
    int64_t epoch, first, n;
} begin;

/* An epoch ends with a step of what is left; how long it is, a single stream shows only when its end is met. */
static ft_status find_begin(data_set *d, int64_t step, int64_t batch_size, begin *b)
{
    data_source *s = d->source;
    bool alone = d->n_sources == 1 && s->windowed;
    *b = (begin){.first = step * batch_size, .n = batch_size};
    if (endless(d)) return FT_OK;
    if (alone) FT_TRY(meet(d, s, b->first + batch_size - 1));
    if (alone && !s->stats.whole) return FT_OK;
    int64_t all = alone ? s->stats.samples : data_epoch_length(d);
    int64_t steps = (all + batch_size - 1) / batch_size;
    b->epoch = step / steps;
    b->first = step % steps * batch_size;
    if (all - b->first < batch_size) b->n = all - b->first;
    if (alone && b->epoch > 0 && b->first == 0) tell_end(d, s, b->epoch);
    return FT_OK;
}

static ft_status take(data_set *d, uint64_t seed, const begin *b, data_sample *out, arena *mem)
{
    place p;
    FT_TRY(seek(d, seed, b->epoch, b->first));
    for (int64_t i = 0; i < b->n; i++) {
        FT_TRY(next(d, &d->order, &p));
        FT_TRY(data_get_row(d, p.source, p.row, &out[i], mem));
    }
    return FT_OK;
}

ft_status data_take(data_set *d, uint64_t seed, int64_t step, int64_t batch_size, data_sample *out,
                    int *n, arena *mem)
{
    begin b;
    FT_TRY(find_begin(d, step, batch_size, &b));
    *n = (int)b.n;
    ft_status rc = take(d, seed, &b, out, mem);
    if (rc != FT_OK) d->order.epoch = -1;
    return rc;
}
