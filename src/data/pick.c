/* pick.c – which records of a source are read: the range of its split, so many of them (limit), and what is held out for
 * evaluation.
 *
 * A split counts as slices of the `datasets` library do. What is held out is drawn without regard to the order of the
 * records, by the seed alone, and kept as a bit a record, so that a stream can be divided as well. */
#include "data_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- "[a:b]" ---------------------------------------------------------------------------------------------------- */
/* A number with a sign and a % or nothing; false: something else stands there. */
static bool bound(const char **p, bool *has, int64_t *value, bool *percent)
{
    const char *s = *p;
    bool minus = *s == '-';
    s += minus;
    size_t n = strspn(s, "0123456789");
    *has = n > 0;
    if (!n) return !minus;
    if (n > 15) return false;
    *value = strtoll(s, NULL, 10) * (minus ? -1 : 1);
    s += n;
    *percent = *percent || *s == '%';
    *p = s + (*s == '%');
    return true;
}

void data_range_parse(data_set *d, const cJSON *node, const char *key, data_range *out)
{
    const char *p = cJSON_IsString(node) ? node->valuestring : "";
    *out = (data_range){.node = node};
    bool ok = *p++ == '[' && bound(&p, &out->has_from, &out->from, &out->percent) && *p++ == ':' &&
              bound(&p, &out->has_to, &out->to, &out->percent) && !strcmp(p, "]");
    if (!ok)
        cfg_fail(d->cfg, node, key,
                 "split is \"[from:to]\" in records or whole percents, as \"[:90%%]\", "
                 "\"[100:200]\", \"[-50:]\"");
    else if (out->percent && (llabs(out->from) > 100 || llabs(out->to) > 100))
        cfg_fail(d->cfg, node, key, "split: a percentage goes from -100 to 100");
}

/* n · p / 100, half to even. */
static int64_t share_of(int64_t n, int64_t p)
{
    return (int64_t)nearbyint((double)p * (double)n / 100.0);
}

/* The range in records; 78 where it leaves them, or leaves none. */
static ft_status range_of(const data_set *d, const data_source *s, int64_t *from, int64_t *to)
{
    const data_range *r = &s->split;
    int64_t n = s->n_records;
    *from = !r->has_from ? 0 : r->percent ? share_of(n, r->from) : r->from;
    *to = !r->has_to ? n : r->percent ? share_of(n, r->to) : r->to;
    if (*from < 0) *from += n;
    if (*to < 0) *to += n;
    if (*from < 0 || *from > n || *to < 0 || *to > n)
        cfg_fail(d->cfg, r->node, s->key, "split %s goes beyond the %lld records of %s",
                 ft_shows(r->node->valuestring), (long long)n, ft_shows(s->path));
    else if (*from >= *to)
        cfg_fail(d->cfg, r->node, s->key, "split %s holds none of the %lld records of %s",
                 ft_shows(r->node->valuestring), (long long)n, ft_shows(s->path));
    return cfg_done(d->cfg);
}

ft_status data_pick_records(data_set *d, data_source *s)
{
    bool count = s->split.node || d->hold_out > 0;
    s->pick = (data_pick){.to = INT64_MAX};
    if (s->limit && s->n_files == 1 && s->file[0].kind->txt && !s->separator)
        log_warn(
            "%s: limit has no effect: this source is one document, and documents are not cut; a "
            "document_separator makes it several",
            ft_shows(s->path));
    if (count && s->n_records < 0) FT_TRY(data_count_records(d, s));
    if (s->split.node) FT_TRY(range_of(d, s, &s->pick.from, &s->pick.to));
    if (count && !s->split.node) s->pick.to = s->n_records;
    if (s->limit && s->limit < s->pick.to - s->pick.from) s->pick.to = s->pick.from + s->limit;
    return FT_OK;
}

/* --- what is held out -------------------------------------------------------------------------------------------- */
enum { KEY_HELD = 0x68656c64 };

static int64_t records_of(const data_source *s)
{
    return s->pick.to - s->pick.from;
}

static bool bit(const uint8_t *bits, int64_t i)
{
    return (bits[i / 8] >> (i % 8)) & 1;
}

/* k of n, each set of them as likely as any other (Floyd's method, Bentley 1987). */
static void draw(uint8_t *bits, int64_t n, int64_t k, uint64_t key)
{
    memset(bits, 0, (size_t)(n + 7) / 8);
    for (int64_t j = n - k; j < n; j++) {
        int64_t t = (int64_t)(rng_u64(key, (uint64_t)j) % (uint64_t)(j + 1));
        if (bit(bits, t)) t = j;
        bits[t / 8] |= (uint8_t)(1u << (t % 8));
    }
}

/* The first ones, or the last, would be a part of their own where a file is sorted. */
static bool is_an_end(const uint8_t *bits, int64_t n, int64_t k)
{
    int64_t head = 0, tail = 0;
    while (head < k && bit(bits, head)) head++;
    while (tail < k && bit(bits, n - 1 - tail)) tail++;
    return head == k || tail == k;
}

static ft_status hold(data_set *d, data_source *s, int64_t k)
{
    int64_t n = records_of(s);
    uint64_t key = rng_key(d->seed, KEY_HELD, (uint64_t)s->index);
    uint8_t *bits = arena_get(d->held_mem, (size_t)(n + 7) / 8 + 1);
    if (!bits) return FT_EMEM;
    draw(bits, n, k, key);
    for (uint64_t again = 1; n > 3 && k > 0 && k < n && is_an_end(bits, n, k); again++)
        draw(bits, n, k, rng_key(key, KEY_HELD, again));
    s->pick.held = bits;
    s->held = k;
    return FT_OK;
}

/* round(x · n) of each source, half to even; one at least. */
static void by_share(data_set *d, int64_t *take)
{
    int64_t sum = 0;
    int most = 0;
    for (int i = 0; i < d->n_sources; i++) {
        take[i] = (int64_t)nearbyint(d->hold_out * (double)records_of(&d->source[i]));
        sum += take[i];
        if (records_of(&d->source[i]) > records_of(&d->source[most])) most = i;
    }
    if (!sum) take[most] = 1;
}

/* k of all together: to each source its share, rounded down, and what is left where most of a record is missing. */
static void by_number(const data_set *d, int64_t all, int64_t *take)
{
    int64_t k = (int64_t)d->hold_out, left = k;
    for (int i = 0; i < d->n_sources; i++) {
        take[i] = (int64_t)((double)k * (double)records_of(&d->source[i]) / (double)all);
        left -= take[i];
    }
    while (left > 0) {
        double most = -HUGE_VAL;
        int best = -1;
        for (int i = 0; i < d->n_sources; i++) {
            double n = (double)records_of(&d->source[i]);
            double missing = (double)k * n / (double)all - (double)take[i];
            if (take[i] >= records_of(&d->source[i]) || missing <= most) continue;
            most = missing;
            best = i;
        }
        take[best]++;
        left--;
    }
}

ft_status data_hold_out(data_set *d)
{
    int64_t all = 0, sum = 0;
    for (int i = 0; i < d->n_sources; i++) {
        const data_source *s = &d->source[i];
        if (!s->format) FT_TRY(data_look_at_format(d, &d->source[i]));
        FT_CHECK(records_of(s) > 0, FT_EDATA, "%s: holds no records",
                 s->n_files == 1 ? s->file[0].name : s->path);
        FT_CHECK(
            records_of(s) != 1 || !s->format || !data_format_is_text(s->format), FT_EDATA,
            "%s: data.eval_split: this source is one document, and documents are not cut; name "
            "what to evaluate on as data.eval, or a document_separator",
            s->path);
        all += records_of(s);
    }
    FT_TRY(arena_open(&d->held_mem, "held out", (size_t)(all / 8 + 128 * (d->n_sources + 1))));
    int64_t *take = arena_get(d->mem, (size_t)d->n_sources * sizeof *take);
    if (!take) return FT_EMEM;
    if (d->hold_out < 1)
        by_share(d, take);
    else if (d->hold_out < (double)all)
        by_number(d, all, take);
    else
        take[0] = all;
    for (int i = 0; i < d->n_sources; i++) sum += take[i];
    FT_CHECK(sum < all, FT_ECONFIG,
             "data.eval_split: %g takes %lld of the %lld records of data.train, and leaves none to "
             "train on",
             d->hold_out, (long long)sum, (long long)all);
    for (int i = 0; i < d->n_sources; i++) FT_TRY(hold(d, &d->source[i], take[i]));
    return FT_OK;
}
