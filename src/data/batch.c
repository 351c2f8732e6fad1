/* batch.c – samples of a step to ragged batches.
 *
 * Batches are never padded: sequences stand one after another and attend to themselves alone, so packing
 * several samples in a row changes nothing but the layout. Only "concat" joins samples into one sequence;
 * its rows are made from the whole step, so that they do not depend on the size of the micro-batches. */
#include "data_private.h"

#include <string.h>

/* --- the plan of a step ------------------------------------------------------------------------------------ */
/* Rows: the samples of a row stand one after another in `slot`, rows in the order of their first samples. */
typedef struct layout {
    int32_t *slot, *row; /* [n] */
} layout;

static bool joins(const data_sample *s, const data_split *how)
{
    return how->row_tokens > 0 && s->n_seq == 1;
}

/* Row of each sample, first-fit; returns the number of rows. room [n]: what is left in a row. */
static int fit_rows(const data_sample *s, int n, const data_split *how, int32_t *row_of,
                    int64_t *room)
{
    int rows = 0;
    for (int i = 0; i < n; i++) {
        int r = joins(&s[i], how) ? 0 : rows;
        while (r < rows && room[r] < s[i].len) r++;
        if (r == rows) room[rows++] = joins(&s[i], how) ? how->row_tokens : 0;
        room[r] -= s[i].len;
        row_of[i] = r;
    }
    return rows;
}

static ft_status lay_out(const data_sample *s, int n, const data_split *how, layout *l, arena *mem)
{
    size_t count = (size_t)n + 1;
    int32_t *row_of = arena_get(mem, count * sizeof *row_of);
    int64_t *room = arena_get(mem, count * sizeof *room);
    l->slot = arena_get(mem, count * sizeof *l->slot);
    l->row = arena_get(mem, count * sizeof *l->row);
    if (!row_of || !room || !l->slot || !l->row) return FT_EMEM;
    int rows = fit_rows(s, n, how, row_of, room), at = 0;
    for (int r = 0; r < rows; r++) {
        for (int i = how->row_tokens > 0 ? 0 : r; i < n; i++) {
            if (row_of[i] != r) continue;
            l->slot[at] = i;
            l->row[at++] = r;
            if (how->row_tokens <= 0) break;
        }
    }
    return FT_OK;
}

/* Labels of the sample at place i of the layout that something predicts. A sample that is joined to another one has a
 * predictor for its first token too. */
static int64_t supervised(const data_sample *s, const layout *l, int i, bool count_first)
{
    const data_sample *x = &s[l->slot[i]];
    bool joined = i > 0 && l->row[i] == l->row[i - 1];
    int64_t n = data_supervised(x->labels, x->seq_len, x->n_seq, false), at = 0;
    for (int q = 0; q < x->n_seq; at += x->seq_len[q], q++)
        n += (joined || count_first) && x->labels[at] != DATA_IGNORE;
    return n;
}

/* What the samples i … end − 1, one row of the layout, are to a network; *tokens: without virtual rows. Those that are joined
 * to the first become part of its sequence. */
static int64_t rows_of(const data_sample *s, const data_split *how, const layout *l, int i, int end,
                       int64_t *tokens)
{
    int64_t seqs = s[l->slot[i]].n_seq;
    *tokens = 0;
    for (; i < end; i++) *tokens += s[l->slot[i]].len;
    return *tokens + seqs * how->virtual_rows;
}

ft_status data_step_plan(const data_sample *s, int n, const data_split *how, data_step *out,
                         arena *mem)
{
    layout l;
    data_micro *m = NULL;
    int64_t rows = 0;
    *out = (data_step){0};
    FT_TRY(lay_out(s, n, how, &l, mem));
    out->micro = arena_get(mem, (size_t)(n + 1) * sizeof *out->micro);
    if (!out->micro) return FT_EMEM;
    for (int i = 0, end; i < n; i = end) { /* whole rows, in order */
        int64_t tokens, more;
        for (end = i; end < n && l.row[end] == l.row[i];) end++;
        more = rows_of(s, how, &l, i, end, &tokens);
        if (!m || (how->micro_samples > 0 && m->n + end - i > how->micro_samples) ||
            (how->micro_tokens > 0 && rows + more > how->micro_tokens)) {
            m = &out->micro[out->n_micro++];
            *m = (data_micro){.slot = l.slot + i, .row = l.row + i};
            rows = 0;
        }
        m->n += end - i;
        rows += more;
        out->tokens += tokens;
    }
    for (int i = 0; i < n; i++) out->supervised += supervised(s, &l, i, how->count_first);
    return FT_OK;
}

/* --- the batch ------------------------------------------------------------------------------------------ */
typedef struct writer {
    int32_t *len, *ids, *pos, *labels, *first, *seq_slot;
    uint64_t *row_key;
    double *value;
    int64_t at; /* tokens written */
    int seqs;
} writer;

static ft_status make_room(const data_sample *s, const data_micro *m, data_batch *b, writer *w,
                           arena *mem)
{
    size_t tokens = 1, seqs = 1;
    for (int i = 0; i < m->n; i++) {
        tokens += (size_t)s[m->slot[i]].len;
        seqs += (size_t)s[m->slot[i]].n_seq;
    }
    *w = (writer){.len = arena_get(mem, seqs * sizeof *w->len),
                  .ids = arena_get(mem, tokens * sizeof *w->ids),
                  .pos = arena_get(mem, tokens * sizeof *w->pos),
                  .labels = arena_get(mem, tokens * sizeof *w->labels),
                  .first = arena_get(mem, seqs * sizeof *w->first),
                  .seq_slot = arena_get(mem, seqs * sizeof *w->seq_slot),
                  .value = arena_get(mem, seqs * sizeof *w->value),
                  .row_key = arena_get(mem, tokens * sizeof *w->row_key)};
    if (!w->len || !w->ids || !w->pos || !w->labels || !w->first || !w->seq_slot || !w->value ||
        !w->row_key)
        return FT_EMEM;
    *b = (data_batch){.in = {.len = w->len,
                             .tokens = (int64_t)tokens - 1,
                             .ids = w->ids,
                             .pos = w->pos,
                             .label = w->labels,
                             .first = w->first,
                             .row_key = w->row_key},
                      .seq_slot = w->seq_slot,
                      .value = w->value};
    return FT_OK;
}

/* Appends a sample; `joined`: to the sequence that is open. Labels are still those of the token itself. */
static void put(writer *w, const data_sample *x, int32_t slot, uint64_t key, bool joined)
{
    memcpy(w->ids + w->at, x->ids, (size_t)x->len * sizeof *x->ids);
    memcpy(w->labels + w->at, x->labels, (size_t)x->len * sizeof *x->labels);
    for (int64_t t = 0; t < x->len; t++)
        w->row_key[w->at + t] = rng_key(key, (uint64_t)slot, (uint64_t)t);
    w->at += x->len;
    if (joined) {
        w->len[w->seqs - 1] += (int32_t)x->len;
        return;
    }
    for (int q = 0; q < x->n_seq; q++) {
        w->seq_slot[w->seqs] = slot;
        w->value[w->seqs] = x->value;
        w->len[w->seqs++] = x->seq_len[q];
    }
}

static void shift(data_batch *b, writer *w)
{
    int64_t at = 0;
    for (int s = 0; s < w->seqs; s++) {
        w->first[s] = w->labels[at];
        for (int32_t t = 0; t < w->len[s]; t++, at++) {
            w->pos[at] = t;
            w->labels[at] = t + 1 < w->len[s] ? w->labels[at + 1] : DATA_IGNORE;
            b->supervised += w->labels[at] != DATA_IGNORE;
        }
    }
    b->in.n_seq = w->seqs;
}

ft_status data_batch_make(const data_sample *s, const data_micro *m, uint64_t key, data_batch *b,
                          arena *mem)
{
    writer w;
    FT_TRY(make_room(s, m, b, &w, mem));
    for (int i = 0; i < m->n; i++)
        put(&w, &s[m->slot[i]], m->slot[i], key, i > 0 && m->row[i] == m->row[i - 1]);
    shift(b, &w);
    b->in.key = key;
    return FT_OK;
}
