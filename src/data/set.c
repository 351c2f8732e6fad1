/* set.c – what is asked of a data set: how much it holds, one sample, its hash, and a look at a sample for the eye. */
#include "data_private.h"

#include <stdlib.h>
#include <string.h>

int64_t data_count(const data_set *d)
{
    const data_source_stats *last = &d->source[d->n_sources - 1].stats;
    return last->first + last->samples;
}

int data_sources(const data_set *d)
{
    return d->n_sources;
}

const data_source_stats *data_stats(const data_set *d, int source)
{
    return &d->source[source].stats;
}

int32_t data_max_id(const data_set *d)
{
    int32_t max = 0;
    for (int i = 0; i < d->n_sources; i++) {
        int32_t id = d->source[i].stats.max_id;
        max = id > max ? id : max;
    }
    return max;
}

data_source *data_source_of(const data_set *d, int64_t sample)
{
    data_source *s = d->source;
    while (sample >= s->stats.first + s->stats.samples) s++;
    return s;
}

int64_t data_row_length(const data_set *d, const data_source *s, int64_t row)
{
    const data_source_stats *st = &s->stats;
    if (!s->windowed) return data_packed_length(&s->store, row, NULL);
    bool last = st->whole && row == st->samples - 1; /* all others are full */
    return last ? st->tokens - (st->samples - 1) * d->max_length : d->max_length;
}

static int longer(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x < y) - (x > y);
}

/* Lengths of the samples in memory, n at most of each stream, which has no longer ones. */
static int64_t lengths(const data_set *d, int64_t n, int32_t *out)
{
    int64_t count = 0;
    for (int i = 0; i < d->n_sources; i++) {
        const data_source *s = &d->source[i];
        int64_t k = s->windowed && (s->stats.samples > n || !s->stats.whole) ? n : s->stats.samples;
        for (int64_t j = 0; j < k; j++, count++)
            if (out) out[count] = (int32_t)data_row_length(d, s, j);
    }
    return count;
}

int64_t data_longest(const data_set *d, int64_t n)
{
    int64_t sum = 0, count = lengths(d, n, NULL);
    if (n > count) n = count;
    const bool before = ft_error_starved();
    int32_t *len = ft_alloc((size_t)count, sizeof *len);
    if (!len) { /* an upper bound serves as well */
        ft_error_forget_since(before);
        return n * d->max_length;
    }
    lengths(d, n, len);
    qsort(len, (size_t)count, sizeof *len, longer);
    for (int64_t i = 0; i < n; i++) sum += len[i];
    ft_free(len);
    return sum;
}

/* Of a source that is cut into windows its longest row is as good: nearly all of them are full. */
static int64_t longest_of(const data_source *s)
{
    int64_t longest = s->windowed ? s->stats.longest : 0, one;
    for (int64_t i = 0; !s->windowed && i < s->store.n_rows; i++) {
        data_packed_length(&s->store, i, &one);
        if (one > longest) longest = one;
    }
    return longest;
}

int64_t data_longest_sequence(const data_set *d, int64_t n)
{
    int64_t longest = 0, joined;
    for (int i = 0; i < d->n_sources; i++) {
        int64_t of = longest_of(&d->source[i]);
        if (of > longest) longest = of;
    }
    if (!d->concat) return longest;
    joined = d->weighted ? n * longest : data_longest(d, n); /* a small source comes again */
    if (joined > d->max_length) joined = d->max_length;
    return joined > longest ? joined : longest;
}

/* The view of a row of a stream holds only until another window of its source is read. */
static ft_status look(data_set *d, data_source *s, int64_t at, data_sample *out, arena *mem)
{
    const data_row *row;
    int32_t file = -1;
    if (s->windowed) {
        FT_TRY(data_window_get(d, s, at, &row));
        data_view(&s->store, row, out);
    } else {
        FT_TRY(data_unpack(&s->store, at, out, &file, mem));
    }
    out->source = s->index;
    out->index = s->stats.first + at;
    out->path = file < 0 ? s->path : s->file[file].name;
    return FT_OK;
}

/* With memory of its own, which the caller closes. */
static ft_status look_at(data_set *d, int64_t sample, data_sample *out, arena **mem)
{
    data_source *s = data_source_of(d, sample);
    FT_TRY(arena_open(mem, "a sample", (size_t)1 << 40));
    return look(d, s, sample - s->stats.first, out, *mem);
}

static const int32_t *copied(const int32_t *from, int64_t n, arena *mem)
{
    int32_t *to = arena_raw(mem, (size_t)n * sizeof *to);
    if (to) memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

ft_status data_get_row(data_set *d, data_source *s, int64_t row, data_sample *out, arena *mem)
{
    FT_TRY(look(d, s, row, out, mem));
    if (!s->windowed) return FT_OK;
    out->ids = out->labels = copied(out->ids, out->len, mem);
    out->seq_len = copied(out->seq_len, out->n_seq, mem);
    return out->ids && out->seq_len ? FT_OK : FT_EMEM;
}

ft_status data_get(data_set *d, int64_t sample, data_sample *out, arena *mem)
{
    data_source *s = data_source_of(d, sample);
    return data_get_row(d, s, sample - s->stats.first, out, mem);
}

double data_tokens(const data_set *d, int source)
{
    const data_source *s = &d->source[source];
    return s->stats.whole ? (double)s->stats.tokens : s->estimated_tokens;
}

const char *data_read_sha256(const data_set *d, int source)
{
    return d->source[source].windowed ? d->source[source].read_sha256 : NULL;
}

static ft_status hash_source(sha256_state *sha, const data_source *s, arena *mem)
{
    if (s->windowed) {
        data_window_hash(sha, s);
        return FT_OK;
    }
    for (int64_t i = 0; i < s->store.n_rows; i++) {
        data_sample x;
        int32_t file;
        arena_reset(mem, 0);
        FT_TRY(data_unpack(&s->store, i, &x, &file, mem));
        const int32_t len = (int32_t)x.len;
        sha256_add(sha, &len, sizeof len);
        sha256_add(sha, x.ids, (size_t)x.len * sizeof *x.ids);
        sha256_add(sha, x.labels, (size_t)x.len * sizeof *x.labels);
        sha256_add(sha, x.seq_len, (size_t)x.n_seq * sizeof *x.seq_len);
        if (x.value != 0) sha256_add(sha, &x.value, sizeof x.value);
        if (x.extra) sha256_add(sha, x.extra, strlen(x.extra));
    }
    return FT_OK;
}

ft_status data_sha256(const data_set *d, char hex[65])
{
    sha256_state s;
    arena *mem = NULL;
    FT_TRY(arena_open(&mem, "a sample", (size_t)1 << 40));
    sha256_init(&s);
    sha256_add(&s, "ft data 1", 9);
    sha256_add(&s, d->concat ? "c" : "i", 1);
    if (d->weighted) sha256_add(&s, "quota", 5); /* earlier versions mixed in another order */
    bool counted =
        false; /* an order by sizes that were counted is another one than by those that were estimated */
    for (int i = 0; i < d->n_sources; i++) {
        const data_source *from = &d->source[i];
        sha256_add(&s, &from->weight, sizeof from->weight);
        if (!from->windowed) sha256_add(&s, &from->stats.samples, sizeof from->stats.samples);
        counted = counted || (from->windowed && d->count && !d->weighted && d->n_sources > 1);
    }
    if (counted) sha256_add(&s, "counted", 7);
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && i < d->n_sources; i++) rc = hash_source(&s, &d->source[i], mem);
    sha256_hex(&s, hex);
    arena_close(mem);
    return rc;
}

/* --- one sample for the eye --------------------------------------------------------------------------------- */
/* Trained on: a label that an earlier token of the same sequence predicts, or a virtual one before it. */
static bool trained(const data_set *d, const data_sample *x, int64_t i)
{
    int64_t first = 0;
    for (int s = 0; s < x->n_seq && first < i; s++) first += x->seq_len[s];
    return (first != i || d->count_first) && x->labels[i] != DATA_IGNORE;
}

/* Of a pair: which of its answers begins here; NULL. */
static const char *side(const data_set *d, const data_sample *x, int64_t at)
{
    static const char *const names[] = {"chosen", "rejected", "reference"};
    const bool pair = (d->source[x->source].stats.gives & DATA_PAIRS) && x->n_seq > 1;
    for (int s = 0; pair && s < x->n_seq && s < (int)FT_COUNT_OF(names); at -= x->seq_len[s++])
        if (at == 0) return names[s];
    return NULL;
}

/* The next piece of equal supervision, and of one answer, from *at on. */
static bool piece(const data_set *d, const data_sample *x, int64_t at, int64_t *end, bool *sup)
{
    if (at >= x->len) return false;
    *sup = trained(d, x, at);
    *end = at + 1;
    while (*end < x->len && trained(d, x, *end) == *sup && !side(d, x, *end)) (*end)++;
    return true;
}

/* Text of a piece; its ids where the model has no tokenizer. */
static ft_status piece_text(const data_set *d, const int32_t *ids, int64_t n, str_buf *out)
{
    for (int64_t i = 0; !d->tok && i < n; i++) str_printf(out, "%s%d", i ? " " : "", ids[i]);
    for (int64_t i = 0, end; d->tok && i < n; i = end) {
        for (end = i; end < n && tok_text(d->tok, ids[end]);) end++;
        if (end > i) FT_TRY(tok_decode(d->tok, ids + i, end - i, out));
        /* a row of the model's vocabulary that the tokenizer has no token for */
        if (end < n) str_printf(out, "<%d>", ids[end++]);
    }
    return str_ok(out);
}

ft_status data_show(data_set *d, int64_t sample, str_buf *out)
{
    data_sample x;
    str_buf text = {0};
    arena *mem = NULL;
    bool sup;
    ft_status rc = look_at(d, sample, &x, &mem);
    if (rc != FT_OK) {
        arena_close(mem);
        return rc;
    }
    str_printf(out, "sample %lld of %s",
               (long long)sample - (long long)d->source[x.source].stats.first,
               ft_shows(d->source[x.source].name));
    if (x.line) str_printf(out, " (%s:%lld)", ft_shows(x.path), (long long)x.line);
    str_printf(out, ": %lld tokens, %d supervised\n", (long long)x.len,
               (int)data_supervised(x.labels, x.seq_len, x.n_seq, d->count_first));
    for (int64_t at = 0, end; rc == FT_OK && piece(d, &x, at, &end, &sup); at = end) {
        str_clear(&text);
        rc = piece_text(d, x.ids + at, end - at, &text);
        if (side(d, &x, at)) str_printf(out, " %s\n", side(d, &x, at));
        str_adds(out, sup ? "  train  " : "         ");
        str_json(out, text.data ? text.data : "", text.len);
        str_addc(out, '\n');
    }
    str_free(&text);
    arena_close(mem);
    FT_TRY(rc);
    return str_ok(out);
}

static cJSON *segment(const data_set *d, const data_sample *x, int64_t at, int64_t end, bool sup)
{
    cJSON *o = cJSON_CreateObject();
    str_buf text = {0};
    bool ok = o && piece_text(d, x->ids + at, end - at, &text) == FT_OK;
    if (ok && side(d, x, at)) ok = cJSON_AddStringToObject(o, "side", side(d, x, at)) != NULL;
    ok = ok && cJSON_AddBoolToObject(o, "supervised", sup) &&
         cJSON_AddStringToObject(o, "text", text.data ? text.data : "");
    cJSON *ids = ok ? cJSON_CreateIntArray(x->ids + at, (int)(end - at)) : NULL;
    if (!js_add(o, "ids", ids)) {
        cJSON_Delete(o);
        o = NULL;
    }
    str_free(&text);
    return o;
}

cJSON *data_show_json(data_set *d, int64_t sample)
{
    data_sample x;
    arena *mem = NULL;
    bool sup, ok = look_at(d, sample, &x, &mem) == FT_OK;
    cJSON *o = ok ? cJSON_CreateObject() : NULL, *list = NULL;
    ok = o && cJSON_AddStringToObject(o, "source", d->source[x.source].name) &&
         cJSON_AddStringToObject(o, "path", x.path) &&
         cJSON_AddNumberToObject(o, "line", (double)x.line) &&
         cJSON_AddNumberToObject(o, "tokens", (double)x.len) &&
         cJSON_AddNumberToObject(
             o, "supervised_tokens",
             (double)data_supervised(x.labels, x.seq_len, x.n_seq, d->count_first)) &&
         (list = cJSON_AddArrayToObject(o, "segments")) != NULL;
    for (int64_t at = 0, end; ok && piece(d, &x, at, &end, &sup); at = end) {
        cJSON *s = segment(d, &x, at, end, sup);
        ok = s && cJSON_AddItemToArray(list, s);
    }
    arena_close(mem);
    if (ok) return o;
    cJSON_Delete(o);
    return NULL;
}
