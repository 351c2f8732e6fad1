/* batch.c – samples of a step to ragged batches.
 *
 * Batches are never padded: sequences stand one after another and attend to themselves alone, so packing
 * several samples in a row changes nothing but the layout. Only "concat" joins samples into one sequence;
 * its rows are made from the whole step, so that they do not depend on the size of the micro-batches. */
#include "data_private.h"

#include <string.h>

int data_layout(const data_set *d, const int64_t *samples, int n, int *row_of, int64_t *room)
{
    int rows = 0;
    for (int i = 0; i < n; i++) {
        int64_t len = d->row[samples[i]].len;
        int r = d->concat ? 0 : rows;
        while (r < rows && room[r] < len) r++;
        if (r == rows) room[rows++] = d->max_length;
        room[r] -= len;
        row_of[i] = r;
    }
    return rows;
}

typedef struct layout {
    int *row_of, n_rows;
} layout;

static ft_status lay_out(const data_set *d, const int64_t *samples, int n, layout *l, arena *mem)
{
    int64_t *room = arena_get(mem, (size_t)(n + 1) * sizeof *room);
    l->row_of = arena_get(mem, (size_t)(n + 1) * sizeof *l->row_of);
    if (!room || !l->row_of) return FT_EMEM;
    l->n_rows = data_layout(d, samples, n, l->row_of, room);
    return FT_OK;
}

/* Supervised targets of a step. A joined row has one more per border where the next sample's first token is
 * supervised. */
static int64_t step_supervised(const data_set *d, const int64_t *samples, int n, const layout *l)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++) sum += d->row[samples[i]].supervised;
    for (int i = 1; d->concat && i < n; i++) {
        data_sample x;
        int j = 0;
        while (j < i && l->row_of[j] != l->row_of[i]) j++;
        data_get(d, samples[i], &x);
        sum += j < i && x.labels[0] != DATA_IGNORE;
    }
    return sum;
}

ft_status data_step_plan(const data_set *d, const int64_t *samples, int n, int micro_size,
                         data_step *out, arena *mem)
{
    layout l;
    *out = (data_step){0};
    if (micro_size < 1) micro_size = 1;
    FT_TRY(lay_out(d, samples, n, &l, mem));
    int64_t *sample = arena_get(mem, (size_t)(n + 1) * sizeof *sample);
    int64_t *slot = arena_get(mem, (size_t)(n + 1) * sizeof *slot);
    out->micro = arena_get(mem, (size_t)(n + 1) * sizeof *out->micro);
    if (!sample || !slot || !out->micro) return FT_EMEM;

    data_micro *m = NULL;
    int at = 0;
    for (int r = 0; r < l.n_rows; r++) { /* whole rows, in order */
        int in_row = 0;
        for (int i = d->concat ? 0 : r; i < (d->concat ? n : r + 1); i++) {
            if (l.row_of[i] != r) continue;
            sample[at + in_row] = samples[i];
            slot[at + in_row++] = i;
        }
        if (!m || m->n + in_row > micro_size) {
            m = &out->micro[out->n_micro++];
            *m = (data_micro){.sample = sample + at, .slot = slot + at};
        }
        m->n += in_row;
        at += in_row;
    }
    for (int i = 0; i < n; i++) out->tokens += d->row[samples[i]].len;
    out->supervised = step_supervised(d, samples, n, &l);
    return FT_OK;
}

/* --- the batch ------------------------------------------------------------------------------------------ */
typedef struct writer {
    int32_t *len, *ids, *pos, *labels;
    uint64_t *row_key;
    int64_t *sample_of_seq, *source_tokens;
    int64_t at; /* tokens written */
    int seqs;
} writer;

static ft_status make_room(const data_set *d, const int64_t *samples, int n, data_batch *b,
                           writer *w, arena *mem)
{
    int64_t tokens = 0, seqs = 0;
    for (int i = 0; i < n; i++) {
        tokens += d->row[samples[i]].len;
        seqs += d->row[samples[i]].n_seq;
    }
    *w = (writer){.len = arena_get(mem, (size_t)(seqs + 1) * sizeof *w->len),
                  .ids = arena_get(mem, (size_t)(tokens + 1) * sizeof *w->ids),
                  .pos = arena_get(mem, (size_t)(tokens + 1) * sizeof *w->pos),
                  .labels = arena_get(mem, (size_t)(tokens + 1) * sizeof *w->labels),
                  .row_key = arena_get(mem, (size_t)(tokens + 1) * sizeof *w->row_key),
                  .sample_of_seq = arena_get(mem, (size_t)(seqs + 1) * sizeof *w->sample_of_seq),
                  .source_tokens = arena_get(mem, (size_t)d->n_sources * sizeof *w->source_tokens)};
    if (!w->len || !w->ids || !w->pos || !w->labels || !w->row_key || !w->sample_of_seq ||
        !w->source_tokens) {
        return FT_EMEM;
    }
    *b = (data_batch){.len = w->len,
                      .tokens = tokens,
                      .ids = w->ids,
                      .pos = w->pos,
                      .labels = w->labels,
                      .row_key = w->row_key,
                      .sample_of_seq = w->sample_of_seq,
                      .source_tokens = w->source_tokens};
    return FT_OK;
}

/* Appends a sample; `joined`: to the sequence that is open. Labels are still those of the token itself. */
static void put(const data_set *d, writer *w, int64_t sample, int64_t slot, uint64_t key,
                bool joined)
{
    data_sample x;
    data_get(d, sample, &x);
    memcpy(w->ids + w->at, x.ids, (size_t)x.len * sizeof *x.ids);
    memcpy(w->labels + w->at, x.labels, (size_t)x.len * sizeof *x.labels);
    for (int64_t t = 0; t < x.len; t++) {
        w->row_key[w->at + t] = rng_key(key, (uint64_t)slot, (uint64_t)t);
    }
    w->source_tokens[x.source] += x.len;
    w->at += x.len;
    if (joined) {
        w->len[w->seqs - 1] += (int32_t)x.len;
        return;
    }
    for (int s = 0; s < x.n_seq; s++) {
        w->sample_of_seq[w->seqs] = sample;
        w->len[w->seqs++] = x.seq_len[s];
    }
}

static void shift(data_batch *b, writer *w)
{
    int64_t at = 0;
    for (int s = 0; s < w->seqs; s++) {
        for (int32_t t = 0; t < w->len[s]; t++, at++) {
            w->pos[at] = t;
            w->labels[at] = t + 1 < w->len[s] ? w->labels[at + 1] : DATA_IGNORE;
            b->supervised += w->labels[at] != DATA_IGNORE;
        }
    }
    b->n_seq = w->seqs;
}

ft_status data_batch_make(const data_set *d, const int64_t *samples, const int64_t *slot, int n,
                          uint64_t key, data_batch *b, arena *mem)
{
    layout l;
    writer w;
    FT_TRY(lay_out(d, samples, n, &l, mem));
    FT_TRY(make_room(d, samples, n, b, &w, mem));
    for (int r = 0; r < l.n_rows; r++) {
        bool open = false;
        for (int i = d->concat ? 0 : r; i < (d->concat ? n : r + 1); i++) {
            if (l.row_of[i] != r) continue;
            put(d, &w, samples[i], slot ? slot[i] : i, key, open);
            open = true;
        }
    }
    shift(b, &w);
    return FT_OK;
}
