/* text.c – continued pretraining: documents to a stream of tokens to rows of max_length.
 *
 * Long documents are tokenised in pieces, so that memory stays bounded and the pool has work. A cut stands
 * between a lone newline and a visible character: there no pre-tokenizer joins what is left and right of it,
 * so the ids are those of the whole text. */
#include "data_private.h"

#include <string.h>

enum { PIECE = 1 << 16, PIECE_MAX = 1 << 20 };

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

size_t data_piece(const char *text, size_t n)
{
    size_t fallback = 0;
    if (n <= PIECE) return n;
    for (size_t i = PIECE; i < n && i < PIECE_MAX; i++) {
        if (text[i - 1] != '\n') continue;
        if (!blank(text[i]) && i > 1 && !blank(text[i - 2])) return i;
        if (!fallback) fallback = i;
    }
    return fallback ? fallback : n; /* without line ends: the whole */
}

ft_status data_encode_text(const tok_tokenizer *tok, const char *text, size_t n, bool begins,
                           tok_ids *out)
{
    if (begins && tok_adds_bos(tok)) FT_TRY(tok_ids_push(out, tok_bos(tok)));
    while (n) {
        size_t k = data_piece(text, n);
        FT_TRY(tok_encode(tok, text, k, false, out));
        text += k;
        n -= k;
    }
    return FT_OK;
}

/* --- rows --------------------------------------------------------------------------------------------- */
void data_stream_open(data_stream *s, const data_set *d, data_source *source)
{
    *s = (data_stream){.d = d, .source = source};
}

static ft_status end_sequence(data_stream *s)
{
    data_store *to = &s->source->store;
    if (to->n_ids == s->seq_from) return FT_OK;
    FT_TRY(data_reserve(&to->seq, &to->cap_seq, to->n_seq + 1, sizeof *to->seq));
    to->seq[to->n_seq++] = (int32_t)(to->n_ids - s->seq_from);
    s->seq_from = to->n_ids;
    return FT_OK;
}

static ft_status end_row(data_stream *s)
{
    data_store *to = &s->source->store;
    data_source_stats *st = &s->source->stats;
    FT_TRY(end_sequence(s));
    int64_t len = to->n_ids - s->row_at;
    bool useful = false;
    for (int64_t i = s->seq_at; i < to->n_seq; i++) useful = useful || to->seq[i] > 1;
    if (useful) {
        FT_TRY(data_store_row(s->source, (data_row){.ids_at = s->row_at,
                                                    .labels_at = -1,
                                                    .seq_at = s->seq_at,
                                                    .len = (int32_t)len,
                                                    .n_seq = (int32_t)(to->n_seq - s->seq_at)}));
        if (len > st->longest) st->longest = len;
    } else { /* tokens that nothing predicts */
        to->n_ids = s->row_at;
        to->n_seq = s->seq_at;
        st->dropped += len > 0;
    }
    s->row_at = s->seq_from = to->n_ids;
    s->seq_at = to->n_seq;
    return FT_OK;
}

static ft_status push(data_stream *s, const int32_t *ids, int64_t n)
{
    data_store *to = &s->source->store;
    while (n > 0) {
        int64_t room = s->d->max_length - (to->n_ids - s->row_at), k = n < room ? n : room;
        FT_TRY(data_reserve(&to->ids, &to->cap_ids, to->n_ids + k, sizeof *to->ids));
        memcpy(to->ids + to->n_ids, ids, (size_t)k * sizeof *ids);
        to->n_ids += k;
        ids += k;
        n -= k;
        if (k == room) FT_TRY(end_row(s));
    }
    return FT_OK;
}

ft_status data_stream_add(data_stream *s, const tok_ids *ids)
{
    return push(s, ids->id, ids->n);
}

ft_status data_stream_document(data_stream *s)
{
    int32_t eos = tok_eos(s->d->tok);
    if (s->documents++ && eos >= 0) FT_TRY(push(s, &eos, 1));
    return s->d->concat ? FT_OK : end_sequence(s);
}

ft_status data_stream_close(data_stream *s)
{
    return end_row(s);
}
