/* store.c – the tokenised samples in memory: flat arrays, what is asked of them, and a look at one sample. */
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

static const int32_t *labels_of(const data_set *d, const data_row *r)
{
    return r->labels_at < 0 ? d->ids + r->ids_at : d->labels + r->labels_at;
}

static int64_t supervised(const int32_t *labels, const int32_t *seq, int n_seq)
{
    int64_t n = 0;
    for (int s = 0; s < n_seq; labels += seq[s], s++) {
        for (int32_t t = 1; t < seq[s]; t++) n += labels[t] != DATA_IGNORE;
    }
    return n;
}

ft_status data_store_row(data_set *d, data_row row)
{
    data_source_stats *st = &d->source[row.source].stats;
    const int32_t *labels = labels_of(d, &row);
    row.supervised =
        (int32_t)supervised(labels, row.seq_at < 0 ? &row.len : d->seq + row.seq_at, row.n_seq);
    FT_TRY(data_reserve(&d->row, &d->cap_rows, d->n_rows + 1, sizeof *d->row));
    d->row[d->n_rows++] = row;
    st->tokens += row.len;
    st->supervised += row.supervised;
    for (int32_t t = 0; t < row.len; t++) {
        if (d->ids[row.ids_at + t] > d->max_id) d->max_id = d->ids[row.ids_at + t];
        if (labels[t] > d->max_id) d->max_id = labels[t];
    }
    return FT_OK;
}

ft_status data_store_item(data_set *d, int source, const data_item *it)
{
    data_source_stats *st = &d->source[source].stats;
    int64_t n = it->ids.n;
    int32_t len = (int32_t)(n < d->max_length ? n : d->max_length);
    if (n > st->longest) st->longest = n;
    if (!supervised(it->labels, &len, 1)) {
        st->dropped++;
        return FT_OK;
    }
    st->truncated += len < n;
    FT_TRY(data_reserve(&d->ids, &d->cap_ids, d->n_ids + len, sizeof *d->ids));
    FT_TRY(data_reserve(&d->labels, &d->cap_labels, d->n_labels + len, sizeof *d->labels));
    memcpy(d->ids + d->n_ids, it->ids.id, (size_t)len * sizeof *d->ids);
    memcpy(d->labels + d->n_labels, it->labels, (size_t)len * sizeof *d->labels);
    data_row row = {.ids_at = d->n_ids,
                    .labels_at = d->n_labels,
                    .seq_at = -1,
                    .line = it->line,
                    .len = len,
                    .n_seq = 1,
                    .source = source};
    d->n_ids += len;
    d->n_labels += len;
    return data_store_row(d, row);
}

/* --- questions ---------------------------------------------------------------------------------------- */
int64_t data_count(const data_set *d)
{
    return d->n_rows;
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
    return d->max_id;
}

static int longer(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x < y) - (x > y);
}

int64_t data_longest(const data_set *d, int64_t n)
{
    int64_t sum = 0;
    if (n > d->n_rows) n = d->n_rows;
    if (n <= 1) {
        for (int64_t i = 0; n == 1 && i < d->n_rows; i++)
            sum = d->row[i].len > sum ? d->row[i].len : sum;
        return sum;
    }
    int32_t *len = ft_alloc((size_t)d->n_rows, sizeof *len);
    if (!len) { /* an upper bound serves as well */
        ft_error_clear();
        return n * data_longest(d, 1);
    }
    for (int64_t i = 0; i < d->n_rows; i++) len[i] = d->row[i].len;
    qsort(len, (size_t)d->n_rows, sizeof *len, longer);
    for (int64_t i = 0; i < n; i++) sum += len[i];
    ft_free(len);
    return sum;
}

void data_get(const data_set *d, int64_t sample, data_sample *out)
{
    const data_row *r = &d->row[sample];
    *out = (data_sample){.ids = d->ids + r->ids_at,
                         .labels = labels_of(d, r),
                         .seq_len = r->seq_at < 0 ? &r->len : d->seq + r->seq_at,
                         .len = r->len,
                         .n_seq = r->n_seq,
                         .source = r->source,
                         .line = r->line};
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
    for (int64_t i = 0; i < d->n_rows; i++) {
        data_sample x;
        data_get(d, i, &x);
        sha256_add(&s, &d->row[i].len, sizeof d->row[i].len);
        sha256_add(&s, x.ids, (size_t)x.len * sizeof *x.ids);
        sha256_add(&s, x.labels, (size_t)x.len * sizeof *x.labels);
        sha256_add(&s, x.seq_len, (size_t)x.n_seq * sizeof *x.seq_len);
    }
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
    if (d->tok) return tok_decode(d->tok, ids, n, out);
    for (int64_t i = 0; i < n; i++) str_printf(out, "%s%d", i ? " " : "", ids[i]);
    return str_ok(out);
}

ft_status data_show(const data_set *d, int64_t sample, str_buf *out)
{
    data_sample x;
    str_buf text = {0};
    ft_status rc = FT_OK;
    bool sup;
    data_get(d, sample, &x);
    str_printf(out, "sample %lld of %s",
               (long long)sample - (long long)d->source[x.source].stats.first,
               ft_shows(d->source[x.source].name));
    if (x.line)
        str_printf(out, " (%s:%lld)", ft_shows(d->source[x.source].path), (long long)x.line);
    str_printf(out, ": %lld tokens, %d supervised\n", (long long)x.len, d->row[sample].supervised);
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

cJSON *data_show_json(const data_set *d, int64_t sample)
{
    data_sample x;
    bool sup, ok;
    cJSON *o = cJSON_CreateObject(), *list = NULL;
    data_get(d, sample, &x);
    ok = o && cJSON_AddStringToObject(o, "source", d->source[x.source].name) &&
         cJSON_AddNumberToObject(o, "line", (double)x.line) &&
         cJSON_AddNumberToObject(o, "tokens", (double)x.len) &&
         cJSON_AddNumberToObject(o, "supervised_tokens", d->row[sample].supervised) &&
         (list = cJSON_AddArrayToObject(o, "segments")) != NULL;
    for (int64_t at = 0, end; ok && piece(&x, at, &end, &sup); at = end) {
        cJSON *s = segment(d, &x, at, end, sup);
        ok = s && cJSON_AddItemToArray(list, s);
    }
    if (ok) return o;
    cJSON_Delete(o);
    return NULL;
}
