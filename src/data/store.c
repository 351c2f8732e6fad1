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
                         .labels = ids,
                         .seq_len = st->seq + r->seq_at,
                         .len = r->len,
                         .whole = r->len,
                         .n_seq = r->n_seq};
}

static void count_ids(data_source_stats *st, const int32_t *id, int64_t n)
{
    for (int64_t t = 0; t < n; t++)
        if (id[t] > st->max_id) st->max_id = id[t];
}

static void count_sequence(data_source_stats *st, const int32_t *id, int64_t n, int64_t supervised)
{
    st->tokens += n;
    st->sequences++;
    st->supervised += supervised;
    st->seen += 0.5 * (double)n * (double)(n + 1);
    count_ids(st, id, n);
}

static void count_sample(data_source_stats *st, int n_seq)
{
    st->samples++;
    if (n_seq > st->most_sequences) st->most_sequences = n_seq;
}

ft_status data_store_row(const data_set *d, data_store *to, data_source_stats *st, data_row row)
{
    data_sample x;
    data_view(to, &row, &x);
    if (to->packed) {
        FT_TRY(data_pack(to, &x, -1, d->max_length, NULL, 0));
    } else {
        FT_TRY(data_reserve(&to->row, &to->cap_rows, to->n_rows + 1, sizeof *to->row));
        to->row[to->n_rows++] = row;
    }
    count_sample(st, x.n_seq);
    for (int i = 0; i < x.n_seq; x.ids += x.seq_len[i++])
        count_sequence(st, x.ids, x.seq_len[i], x.seq_len[i] - !d->count_first);
    if (!to->packed) return FT_OK;
    to->n_ids = row.ids_at;
    to->n_seq = row.seq_at;
    return FT_OK;
}

static int32_t kept_of(const data_item *it, int32_t len)
{
    return (int32_t)(len < it->d->max_length ? len : it->d->max_length);
}

/* Tokens of a sequence that begins at `from` and is kept so far, which an earlier one predicts. */
static int64_t learned(const data_item *it, int64_t from, int32_t kept)
{
    return data_learned(it, from + !it->d->count_first, from + kept);
}

/* Sequences seq[0 … n) of the item, which begin at `from`, as one sample; each is cut for itself. `whole`: tokens of them. */
static ft_status store(data_source *s, const data_item *it, int64_t from, const int32_t *seq, int n,
                       int64_t whole, double value)
{
    data_sample x = {.ids = it->ids.id + from,
                     .seq_len = seq,
                     .whole = whole,
                     .n_seq = n,
                     .line = it->line,
                     .value = value,
                     .extra = it->extra};
    for (int i = 0; i < n; i++) x.len += kept_of(it, seq[i]);
    FT_TRY(data_pack(&s->store, &x, it->mark.file, it->d->max_length, it, from));
    count_sample(&s->stats, n);
    for (int i = 0; i < n; from += seq[i++]) {
        const int32_t kept = kept_of(it, seq[i]);
        count_sequence(&s->stats, it->ids.id + from, kept, learned(it, from, kept));
        if (it->labels) count_ids(&s->stats, it->labels + from, kept);
    }
    return FT_OK;
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
            useful += learned(it, from, len) > 0;
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
    ft_free(s->seq);
    ft_free(s->row);
    ft_free(s->bytes);
    ft_free(s->at);
    *s = (data_store){0};
}
