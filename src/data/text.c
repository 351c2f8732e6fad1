/* text.c – continued pretraining: documents to a stream of tokens to rows of max_length.
 *
 * Long documents are tokenised in pieces, so that memory stays bounded and the pool has work. A cut stands
 * between a lone newline and a visible character: there no pre-tokenizer joins what is left and right of it,
 * so the ids are those of the whole text.
 *
 * The stream is fed unit by unit: a unit is what can be read by itself from a place in the file, a line of .jsonl or a
 * piece of a .txt document. A window of rows (window.c) begins at a unit, behind so many of its tokens as the window
 * before has. */
#include "data_private.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 16 };

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

/* In a line that has no end: before a single space, with which a token may begin, else between two characters. */
static size_t cut_in_line(const char *text, size_t n)
{
    for (size_t i = DATA_PIECE_MAX; i + 1 < n; i++)
        if (text[i] == ' ' && !blank(text[i - 1]) && !blank(text[i + 1])) return i;
    size_t i = DATA_PIECE_MAX;
    while (i < n && ((unsigned char)text[i] & 0xc0) == 0x80) i++;
    return i;
}

/* A good cut within DATA_PIECE_MAX, else the first line end, however bad; of a line of DATA_LINE_MAX and more a part. */
size_t data_piece(const char *text, size_t n, bool whole)
{
    size_t fallback = 0, far = n < DATA_LINE_MAX ? n : DATA_LINE_MAX;
    const char *lf;
    if (n <= PIECE) return n;
    for (size_t i = PIECE; i < far && (i < DATA_PIECE_MAX || !fallback); i++) {
        lf = memchr(text + i - 1, '\n', far - i);
        if (!lf) break;
        i = (size_t)(lf - text) + 1;
        if (i >= DATA_PIECE_MAX && fallback) break;
        if (i < DATA_PIECE_MAX && (i == n || !blank(text[i])) && !blank(text[i - 2])) return i;
        if (!fallback) fallback = i;
    }
    if (fallback) return fallback;
    return far == DATA_LINE_MAX ? cut_in_line(text, far) : whole ? n : 0;
}

ft_status data_encode_text(const tok_tokenizer *tok, const char *text, size_t n, bool begins,
                           tok_ids *out)
{
    if (begins && tok_adds_bos(tok)) FT_TRY(tok_ids_push(out, tok_bos(tok)));
    while (n) {
        size_t k = data_piece(text, n, true);
        FT_TRY(tok_encode(tok, text, k, false, out));
        text += k;
        n -= k;
    }
    return FT_OK;
}

/* --- rows --------------------------------------------------------------------------------------------- */
void data_stream_open(data_stream *s, const data_set *d, data_source *source,
                      data_source_stats *stats, const data_window *only)
{
    *s = (data_stream){.d = d, .source = source, .stats = stats, .only = only, .until = INT64_MAX};
    if (!only) return;
    s->documents = only->from.documents;
    s->file = only->from.file;
    s->base = only->from.base;
    s->skip = only->skip;
    s->before = only->skip > 0;
}

ft_status data_stream_file(data_stream *s, line_reader **out)
{
    data_source *src = s->source;
    const data_file *f = &src->file[s->file];
    const data_mark *from = s->only ? &s->only->from : NULL;
    if (!s->only) return lines_open_as(out, f->path, f->name);
    if (src->reader && src->reader_file != s->file) {
        lines_close(src->reader);
        src->reader = NULL;
    }
    if (!src->reader) FT_TRY(lines_open_as(&src->reader, f->path, f->name));
    src->reader_file = s->file;
    *out = src->reader;
    bool begins = s->file != from->file; /* else in its midst */
    return lines_seek(src->reader, begins ? 0 : from->byte, begins ? 0 : from->line);
}

void data_stream_file_close(data_stream *s, line_reader *file)
{
    if (file) s->end = lines_offset(file);
    if (file != s->source->reader) lines_close(file);
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

/* window_tokens "auto": text stays in memory up to so many tokens, 4 bytes each. FT_TEST_KEEP_TOKENS lowers the bound in
 * tests. */
static int64_t keep_tokens(void)
{
    const char *text = getenv("FT_TEST_KEEP_TOKENS");
    return text ? strtoll(text, NULL, 10) : 1 << 24;
}

/* Is that enough: a whole window, or more than can be held? */
static void row_stored(data_stream *s)
{
    const data_source *src = s->source;
    if (!s->only) {
        s->done = s->windows && s->stats->tokens > keep_tokens();
    } else if (src->store.n_rows == src->window_rows) {
        double done = s->unit_size ? (double)s->unit_tokens / (double)s->unit_size : 0;
        s->done = true;
        s->next = (data_window){.from = s->unit,
                                .skip = s->unit_tokens,
                                .at = (double)(s->unit.base + s->unit.byte) +
                                      done * (double)s->unit_bytes,
                                .known = true};
    }
}

static ft_status end_row(data_stream *s)
{
    data_store *to = &s->source->store;
    FT_TRY(end_sequence(s));
    int64_t len = to->n_ids - s->row_at;
    bool useful = (s->d->count_first || s->d->plain) && len > 0;
    for (int64_t i = s->seq_at; i < to->n_seq; i++) useful = useful || to->seq[i] > 1;
    if (len > s->stats->longest) s->stats->longest = len;
    if (useful) {
        FT_TRY(data_store_row(s->d, to, s->stats,
                              (data_row){.ids_at = s->row_at,
                                         .seq_at = s->seq_at,
                                         .len = (int32_t)len,
                                         .n_seq = (int32_t)(to->n_seq - s->seq_at)}));
        row_stored(s);
    } else { /* tokens that nothing predicts */
        to->n_ids = s->row_at;
        to->n_seq = s->seq_at;
        s->stats->dropped += len > 0;
    }
    s->row_at = s->seq_from = to->n_ids;
    s->seq_at = to->n_seq;
    return FT_OK;
}

static ft_status push(data_stream *s, const int32_t *ids, int64_t n)
{
    data_store *to = &s->source->store;
    int64_t over = s->skip < n ? s->skip : n;
    s->skip -= over;
    s->unit_tokens += over;
    if (n == over) return FT_OK;
    ids += over;
    n -= over;
    while (n > 0 && !s->done) {
        int64_t room = s->d->max_length - (to->n_ids - s->row_at), k = n < room ? n : room;
        FT_TRY(data_reserve(&to->ids, &to->cap_ids, to->n_ids + k, sizeof *to->ids));
        memcpy(to->ids + to->n_ids, ids, (size_t)k * sizeof *ids);
        to->n_ids += k;
        s->unit_tokens += k;
        ids += k;
        n -= k;
        if (k == room) FT_TRY(end_row(s));
    }
    return FT_OK;
}

ft_status data_stream_unit(data_stream *s, const data_mark *at, int64_t bytes)
{
    int32_t eos = tok_eos(s->d->tok);
    s->unit = *at;
    s->unit.documents = s->documents;
    s->unit_bytes = bytes;
    s->unit_tokens = s->unit_size = 0;
    s->before = false;
    if (!at->begins) return FT_OK;
    if (s->documents++ && eos >= 0) FT_TRY(push(s, &eos, 1));
    return s->d->concat ? FT_OK : end_sequence(s);
}

ft_status data_stream_add(data_stream *s, const tok_ids *ids)
{
    s->unit_size = s->unit_tokens + ids->n;
    return push(s, ids->id, ids->n);
}

ft_status data_stream_close(data_stream *s)
{
    return s->done ? FT_OK : end_row(s);
}
