/* store.c – the tokenised samples of a source, as they are taken over. */
#include "data_private.h"

#include <string.h>

int64_t data_supervised(const int32_t *labels, const int32_t *seq_len, int n_seq, bool first)
{
    int64_t n = 0;
    for (int s = 0; s < n_seq; labels += seq_len[s], s++) {
        for (int32_t t = first ? 0 : 1; t < seq_len[s]; t++) n += labels[t] != DATA_IGNORE;
    }
    return n;
}

void data_view(const data_store *st, const data_row *r, data_sample *out)
{
    const int32_t *ids = st->ids + r->ids_at;
    *out = (data_sample){.ids = ids,
                         .labels = r->labels_at < 0 ? ids : st->labels + r->labels_at,
                         .seq_len = r->seq_at < 0 ? &r->len : st->seq + r->seq_at,
                         .len = r->len,
                         .whole = r->whole > r->len ? r->whole : r->len,
                         .n_seq = r->n_seq,
                         .line = r->line,
                         .value = r->value,
                         .extra = r->extra};
}

ft_status data_store_row(const data_set *d, data_store *to, data_source_stats *st, data_row row)
{
    data_sample x;
    data_view(to, &row, &x);
    if (to->packed) {
        FT_TRY(data_pack(to, &x, row.file));
    } else {
        FT_TRY(data_reserve(&to->row, &to->cap_rows, to->n_rows + 1, sizeof *to->row));
        to->row[to->n_rows++] = row;
    }
    st->samples++;
    st->tokens += x.len;
    st->sequences += x.n_seq;
    if (x.n_seq > st->most_sequences) st->most_sequences = x.n_seq;
    st->supervised += data_supervised(x.labels, x.seq_len, x.n_seq, d->count_first);
    for (int i = 0; i < x.n_seq; i++) st->seen += 0.5 * (double)x.seq_len[i] * (x.seq_len[i] + 1);
    for (int64_t t = 0; t < x.len; t++) {
        if (x.ids[t] > st->max_id) st->max_id = x.ids[t];
        if (x.labels[t] > st->max_id) st->max_id = x.labels[t];
    }
    if (!to->packed) return FT_OK;
    to->n_ids = row.ids_at;
    if (row.labels_at >= 0) to->n_labels = row.labels_at;
    if (row.seq_at >= 0) to->n_seq = row.seq_at;
    return FT_OK;
}

static int32_t kept_of(const data_item *it, int32_t len)
{
    return (int32_t)(len < it->d->max_length ? len : it->d->max_length);
}

/* Appends the first `len` tokens of the sequence that begins at `from` in the item. */
static void append(data_store *to, const data_item *it, int64_t from, int64_t len)
{
    memcpy(to->ids + to->n_ids, it->ids.id + from, (size_t)len * sizeof *to->ids);
    memcpy(to->labels + to->n_labels, it->labels + from, (size_t)len * sizeof *to->labels);
    to->n_ids += len;
    to->n_labels += len;
}

/* Sequences seq[0 … n) of the item, which begin at `from`, as one sample; each is cut for itself. `whole`: tokens of them. */
static ft_status store(data_source *s, const data_item *it, int64_t from, const int32_t *seq, int n,
                       int64_t whole, double value)
{
    data_store *to = &s->store;
    int64_t total = 0;
    for (int i = 0; i < n; i++) total += kept_of(it, seq[i]);
    FT_TRY(data_reserve(&to->ids, &to->cap_ids, to->n_ids + total, sizeof *to->ids));
    FT_TRY(data_reserve(&to->labels, &to->cap_labels, to->n_labels + total, sizeof *to->labels));
    data_row row = {.ids_at = to->n_ids,
                    .labels_at = to->n_labels,
                    .seq_at = -1,
                    .line = it->line,
                    .file = it->mark.file,
                    .value = value,
                    .extra = it->extra,
                    .len = (int32_t)total,
                    .whole = (int32_t)whole,
                    .n_seq = n};
    if (n > 1) {
        FT_TRY(data_reserve(&to->seq, &to->cap_seq, to->n_seq + n, sizeof *to->seq));
        row.seq_at = to->n_seq;
        for (int i = 0; i < n; i++) to->seq[to->n_seq++] = kept_of(it, seq[i]);
    }
    for (int i = 0; i < n; from += seq[i], i++) append(to, it, from, kept_of(it, seq[i]));
    return data_store_row(it->d, to, &s->stats, row);
}

/* What is learned of must keep something to learn: a pair on each side. */
ft_status data_store_item(data_source *s, const data_item *it)
{
    data_source_stats *st = &s->stats;
    const int32_t whole = (int32_t)it->ids.n;
    const int n = it->seq.n > 0 ? (int)it->seq.n : 1;
    const int32_t *seq = it->seq.n > 0 ? it->seq.id : &whole;
    int64_t from = 0;
    int useful = 0;
    bool cut = false;
    for (int i = 0; i < n; from += seq[i], i++) {
        const int32_t len = kept_of(it, seq[i]);
        if (seq[i] > st->longest) st->longest = seq[i];
        cut = cut || len < seq[i];
        if (it->d->plain)
            useful += len > 0;
        else if (it->format->gives == DATA_PROMPTS)
            useful += seq[i] < it->d->max_length; /* there is room for an answer */
        else
            useful += data_supervised(it->labels + from, &len, 1, it->d->count_first) > 0;
    }
    if (useful < (it->all ? n : 1) || (cut && it->d->uncut)) {
        st->dropped++;
        return FT_OK;
    }
    st->truncated += cut;
    if (!it->apart) return store(s, it, 0, seq, n, whole, it->value);
    from = 0;
    for (int i = 0; i < n; from += seq[i], i++)
        FT_TRY(store(s, it, from, &seq[i], 1, seq[i], i == 0));
    return FT_OK;
}

void data_store_close(data_store *s)
{
    ft_free(s->ids);
    ft_free(s->labels);
    ft_free(s->seq);
    ft_free(s->row);
    ft_free(s->bytes);
    ft_free(s->at);
    *s = (data_store){0};
}
