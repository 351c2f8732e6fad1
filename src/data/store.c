/* store.c – the tokenised samples of each source in flat arrays, what is asked of them, and a look at one sample. */
#include "data_private.h"

#include <stdlib.h>
#include <string.h>

ft_status data_reserve(void *array, int64_t *cap, int64_t need, size_t size)
{
    void **p = array;
    if (need <= *cap) return FT_OK;
    int64_t want = *cap + *cap / 2 + 1024;
    if (want < need) want = need;
    void *more = ft_realloc(*p, (size_t)want, size);
    if (!more) return FT_EMEM;
    *p = more;
    *cap = want;
    return FT_OK;
}

int64_t data_supervised(const int32_t *labels, const int32_t *seq_len, int n_seq)
{
    int64_t n = 0;
    for (int s = 0; s < n_seq; labels += seq_len[s], s++) {
        for (int32_t t = 1; t < seq_len[s]; t++) n += labels[t] != DATA_IGNORE;
    }
    return n;
}

static void view(const data_store *st, const data_row *r, data_sample *out)
{
    const int32_t *ids = st->ids + r->ids_at;
    *out = (data_sample){.ids = ids,
                         .labels = r->labels_at < 0 ? ids : st->labels + r->labels_at,
                         .seq_len = r->seq_at < 0 ? &r->len : st->seq + r->seq_at,
                         .len = r->len,
                         .n_seq = r->n_seq,
                         .line = r->line,
                         .value = r->value,
                         .extra = r->extra};
}

ft_status data_store_row(data_store *to, data_source_stats *st, data_row row)
{
    data_sample x;
    FT_TRY(data_reserve(&to->row, &to->cap_rows, to->n_rows + 1, sizeof *to->row));
    to->row[to->n_rows++] = row;
    view(to, &to->row[to->n_rows - 1], &x);
    st->samples++;
    st->tokens += x.len;
    st->supervised += data_supervised(x.labels, x.seq_len, x.n_seq);
    for (int i = 0; i < x.n_seq; i++) st->seen += 0.5 * (double)x.seq_len[i] * (x.seq_len[i] + 1);
    for (int64_t t = 0; t < x.len; t++) {
        if (x.ids[t] > st->max_id) st->max_id = x.ids[t];
        if (x.labels[t] > st->max_id) st->max_id = x.labels[t];
    }
    return FT_OK;
}

/* Appends the first `len` tokens of the sequence that begins at `from` in the item. */
static void append(data_store *to, const data_item *it, int64_t from, int64_t len)
{
    memcpy(to->ids + to->n_ids, it->ids.id + from, (size_t)len * sizeof *to->ids);
    memcpy(to->labels + to->n_labels, it->labels + from, (size_t)len * sizeof *to->labels);
    to->n_ids += len;
    to->n_labels += len;
}

/* Every sequence is cut for itself. What gives tokens must keep one to learn, a pair one on each side. */
ft_status data_store_item(data_source *s, const data_item *it)
{
    data_store *to = &s->store;
    data_source_stats *st = &s->stats;
    const int32_t whole = (int32_t)it->ids.n;
    int n_seq = it->seq_len[0] ? 2 : 1;
    const int32_t *seq = n_seq > 1 ? it->seq_len : &whole;
    int64_t from = 0, total = 0;
    int32_t len[2];
    bool useful = true, cut = false;
    for (int i = 0; i < n_seq; from += seq[i], i++) {
        len[i] = (int32_t)(seq[i] < it->d->max_length ? seq[i] : it->d->max_length);
        if (seq[i] > st->longest) st->longest = seq[i];
        cut = cut || len[i] < seq[i];
        total += len[i];
        useful = useful && (it->format->gives == DATA_PROMPTS ||
                            data_supervised(it->labels + from, &len[i], 1) > 0);
    }
    if (!useful) {
        st->dropped++;
        return FT_OK;
    }
    st->truncated += cut;
    FT_TRY(data_reserve(&to->ids, &to->cap_ids, to->n_ids + total, sizeof *to->ids));
    FT_TRY(data_reserve(&to->labels, &to->cap_labels, to->n_labels + total, sizeof *to->labels));
    data_row row = {.ids_at = to->n_ids,
                    .labels_at = to->n_labels,
                    .seq_at = -1,
                    .line = it->line,
                    .value = it->value,
                    .len = (int32_t)total,
                    .n_seq = n_seq};
    if (n_seq > 1) {
        FT_TRY(data_reserve(&to->seq, &to->cap_seq, to->n_seq + n_seq, sizeof *to->seq));
        row.seq_at = to->n_seq;
        for (int i = 0; i < n_seq; i++) to->seq[to->n_seq++] = len[i];
    }
    from = 0;
    for (int i = 0; i < n_seq; from += seq[i], i++) append(to, it, from, len[i]);
    if (it->extra && !(row.extra = ft_strdup(it->extra))) return FT_EMEM;
    return data_store_row(to, st, row);
}

void data_store_close(data_store *s)
{
    for (int64_t i = 0; i < s->n_rows; i++) ft_free(s->row[i].extra);
    ft_free(s->ids);
    ft_free(s->labels);
    ft_free(s->seq);
    ft_free(s->row);
    *s = (data_store){0};
}

/* --- questions ---------------------------------------------------------------------------------------- */
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

static data_source *source_of(const data_set *d, int64_t sample)
{
    data_source *s = d->source;
    while (sample >= s->stats.first + s->stats.samples) s++;
    return s;
}

int32_t data_length(const data_set *d, int64_t sample)
{
    const data_source *s = source_of(d, sample);
    const data_source_stats *st = &s->stats;
    if (!s->windowed) return s->store.row[sample - st->first].len;
    bool last = sample == st->first + st->samples - 1; /* all others are full */
    return (int32_t)(last ? st->tokens - (st->samples - 1) * d->max_length : d->max_length);
}

static int longer(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x < y) - (x > y);
}

/* Lengths of the samples in memory, n at most of each source that is not, which has no longer ones. */
static int64_t lengths(const data_set *d, int64_t n, int32_t *out)
{
    int64_t count = 0;
    for (int i = 0; i < d->n_sources; i++) {
        const data_source_stats *st = &d->source[i].stats;
        int64_t k = d->source[i].windowed && st->samples > n ? n : st->samples;
        for (int64_t j = 0; j < k; j++, count++)
            if (out) out[count] = data_length(d, st->first + j);
    }
    return count;
}

int64_t data_longest(const data_set *d, int64_t n)
{
    int64_t sum = 0, count = lengths(d, n, NULL);
    if (n > count) n = count;
    int32_t *len = ft_alloc((size_t)count, sizeof *len);
    if (!len) { /* an upper bound serves as well */
        ft_error_clear();
        return n * d->max_length;
    }
    lengths(d, n, len);
    qsort(len, (size_t)count, sizeof *len, longer);
    for (int64_t i = 0; i < n; i++) sum += len[i];
    ft_free(len);
    return sum;
}

/* The view of a sample of a window holds only until another window of its source is read. */
static ft_status look(data_set *d, int64_t sample, data_sample *out)
{
    data_source *s = source_of(d, sample);
    const data_row *row;
    if (s->windowed)
        FT_TRY(data_window_load(d, s, sample - s->stats.first, &row));
    else
        row = &s->store.row[sample - s->stats.first];
    view(&s->store, row, out);
    out->source = s->index;
    return FT_OK;
}

static const int32_t *copied(const int32_t *from, int64_t n, arena *mem)
{
    int32_t *to = arena_raw(mem, (size_t)n * sizeof *to);
    if (to) memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

ft_status data_get(data_set *d, int64_t sample, data_sample *out, arena *mem)
{
    FT_TRY(look(d, sample, out));
    if (!d->source[out->source].windowed) return FT_OK;
    out->ids = out->labels = copied(out->ids, out->len, mem);
    out->seq_len = copied(out->seq_len, out->n_seq, mem);
    return out->ids && out->seq_len ? FT_OK : FT_EMEM;
}

static void hash_source(sha256_state *sha, const data_source *s)
{
    for (int64_t i = 0; i < s->n_windows; i++) sha256_add(sha, s->window[i].sha256, 64);
    for (int64_t i = 0; i < s->store.n_rows && !s->windowed; i++) {
        data_sample x;
        view(&s->store, &s->store.row[i], &x);
        sha256_add(sha, &s->store.row[i].len, sizeof s->store.row[i].len);
        sha256_add(sha, x.ids, (size_t)x.len * sizeof *x.ids);
        sha256_add(sha, x.labels, (size_t)x.len * sizeof *x.labels);
        sha256_add(sha, x.seq_len, (size_t)x.n_seq * sizeof *x.seq_len);
        if (x.value != 0) sha256_add(sha, &x.value, sizeof x.value);
        if (x.extra) sha256_add(sha, x.extra, strlen(x.extra));
    }
}

void data_sha256(const data_set *d, char hex[65])
{
    sha256_state s;
    sha256_init(&s);
    sha256_add(&s, "ft data 1", 9);
    sha256_add(&s, d->concat ? "c" : "i", 1);
    for (int i = 0; i < d->n_sources; i++) {
        sha256_add(&s, &d->source[i].weight, sizeof d->source[i].weight);
        sha256_add(&s, &d->source[i].stats.samples, sizeof d->source[i].stats.samples);
    }
    for (int i = 0; i < d->n_sources; i++) hash_source(&s, &d->source[i]);
    sha256_hex(&s, hex);
}

/* --- one sample for the eye --------------------------------------------------------------------------------- */
/* Trained on: a label that an earlier token of the same sequence predicts. */
static bool trained(const data_sample *x, int64_t i)
{
    int64_t first = 0;
    for (int s = 0; s < x->n_seq && first < i; s++) first += x->seq_len[s];
    return first != i && x->labels[i] != DATA_IGNORE;
}

/* The next piece of equal supervision from *at on. */
static bool piece(const data_sample *x, int64_t at, int64_t *end, bool *sup)
{
    if (at >= x->len) return false;
    *sup = trained(x, at);
    *end = at + 1;
    while (*end < x->len && trained(x, *end) == *sup) (*end)++;
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
    ft_status rc = FT_OK;
    bool sup;
    FT_TRY(look(d, sample, &x));
    str_printf(out, "sample %lld of %s",
               (long long)sample - (long long)d->source[x.source].stats.first,
               ft_shows(d->source[x.source].name));
    if (x.line)
        str_printf(out, " (%s:%lld)", ft_shows(d->source[x.source].path), (long long)x.line);
    str_printf(out, ": %lld tokens, %d supervised\n", (long long)x.len,
               (int)data_supervised(x.labels, x.seq_len, x.n_seq));
    for (int64_t at = 0, end; rc == FT_OK && piece(&x, at, &end, &sup); at = end) {
        str_clear(&text);
        rc = piece_text(d, x.ids + at, end - at, &text);
        str_adds(out, sup ? "  train  " : "         ");
        str_json(out, text.data ? text.data : "", text.len);
        str_addc(out, '\n');
    }
    str_free(&text);
    FT_TRY(rc);
    return str_ok(out);
}

static cJSON *segment(const data_set *d, const data_sample *x, int64_t at, int64_t end, bool sup)
{
    cJSON *o = cJSON_CreateObject();
    str_buf text = {0};
    bool ok = o && piece_text(d, x->ids + at, end - at, &text) == FT_OK;
    ok = ok && cJSON_AddBoolToObject(o, "supervised", sup) &&
         cJSON_AddStringToObject(o, "text", text.data ? text.data : "");
    cJSON *ids = ok ? cJSON_CreateIntArray(x->ids + at, (int)(end - at)) : NULL;
    if (!ids || !cJSON_AddItemToObject(o, "ids", ids)) {
        cJSON_Delete(o);
        o = NULL;
    }
    str_free(&text);
    return o;
}

cJSON *data_show_json(data_set *d, int64_t sample)
{
    data_sample x;
    bool sup, ok;
    if (look(d, sample, &x) != FT_OK) return NULL;
    cJSON *o = cJSON_CreateObject(), *list = NULL;
    ok = o && cJSON_AddStringToObject(o, "source", d->source[x.source].name) &&
         cJSON_AddNumberToObject(o, "line", (double)x.line) &&
         cJSON_AddNumberToObject(o, "tokens", (double)x.len) &&
         cJSON_AddNumberToObject(o, "supervised_tokens",
                                 (double)data_supervised(x.labels, x.seq_len, x.n_seq)) &&
         (list = cJSON_AddArrayToObject(o, "segments")) != NULL;
    for (int64_t at = 0, end; ok && piece(&x, at, &end, &sup); at = end) {
        cJSON *s = segment(d, &x, at, end, sup);
        ok = s && cJSON_AddItemToArray(list, s);
    }
    if (ok) return o;
    cJSON_Delete(o);
    return NULL;
}
