/* read_text.c – .txt files: documents, cut into pieces that are tokenised side by side while the next ones are read.
 *
 * Only as much of a file is held as it takes to know where pieces end, whatever its size; of small files several. */
#include "data_private.h"

#include <string.h>

enum { PIECES = 128 };
#define NONE SIZE_MAX

typedef struct piece {
    size_t at, len;   /* in the buffer */
    data_mark mark;   /* where it begins */
    int64_t column;   /* bytes of its line before it */
    const char *name; /* of its file */
    tok_ids ids;
    ft_status rc;
    char *error;
} piece;

typedef struct txt {
    data_stream *s;
    const data_source *src;
    const tok_tokenizer *tok;
    bool count; /* documents are only counted */
    line_reader *file;
    char *buf;
    size_t cap, at, have;       /* [at, have) is read and not yet cut off */
    bool ended;                 /* the file has no more */
    int64_t byte, line, column; /* of `at` */
    bool begins;                /* what comes is the start of a document */
    int64_t records;            /* documents begun, read or not */
    bool picked;                /* the last one of them is read */
    size_t sep_at, sep_from;    /* the next separator (NONE: not found), looked for up to there */
    piece piece[PIECES];
    int n;
} txt;

/* Holds at least `need` bytes, or all there are. Moves the buffer unless pieces are pending: then there is room for all. */
static ft_status fill(txt *t, size_t need)
{
    if (!t->n) {
        if (t->at) memmove(t->buf, t->buf + t->at, t->have - t->at);
        t->have -= t->at;
        t->sep_from -= t->sep_from < t->at ? t->sep_from : t->at;
        if (t->sep_at != NONE) t->sep_at -= t->at;
        t->at = 0;
    }
    if (!t->n && need > t->cap) {
        char *more = ft_realloc(t->buf, need, 1);
        if (!more) return FT_EMEM;
        t->buf = more;
        t->cap = need;
    }
    size_t until = t->at + need < t->cap ? t->at + need : t->cap;
    while (!t->ended && t->have < until) {
        size_t n;
        FT_TRY(lines_read(t->file, t->buf + t->have, until - t->have, &n));
        t->have += n;
        t->ended = n == 0;
    }
    return FT_OK;
}

static void advance(txt *t, size_t n)
{
    const char *p = t->buf + t->at, *end = p + n, *lf;
    for (; (lf = memchr(p, '\n', (size_t)(end - p))) != NULL; p = lf + 1) {
        t->line++;
        t->column = 0;
    }
    t->column += end - p;
    t->at += n;
    t->byte += (int64_t)n;
}

/* Bytes up to the next separator; NONE: there is none in what is held. */
static size_t to_separator(txt *t, size_t k)
{
    if (t->sep_at != NONE && t->sep_at < t->at) t->sep_at = NONE;
    if (t->sep_from < t->at) t->sep_from = t->at;
    if (t->sep_at == NONE && t->have - t->sep_from >= k) {
        const char *hit = memmem(t->buf + t->sep_from, t->have - t->sep_from, t->src->separator, k);
        if (hit) t->sep_at = (size_t)(hit - t->buf);
        t->sep_from = hit ? t->sep_at : t->have - (k - 1);
    }
    return t->sep_at == NONE ? NONE : t->sep_at - t->at;
}

/* Cuts off the next piece of a document, which ends at a separator or with the file. False: what is held does not tell
 * where the piece ends, or nothing more is wanted. */
static bool cut(txt *t)
{
    size_t k = t->src->separator ? strlen(t->src->separator) : 0, end = NONE;
    while (k && (end = to_separator(t, k)) ==
                    0) { /* of the document before, or of an empty one, which is none */
        advance(t, k);
        t->begins = true;
    }
    size_t n = t->have - t->at,
           beyond = k && !t->ended ? k - 1 : 0; /* may be the start of a separator */
    size_t known = end != NONE ? end : n > beyond ? n - beyond : 0;
    bool whole = end != NONE || t->ended;
    if (!known || (t->begins && t->records >= t->src->pick.to)) return false;
    size_t len = !whole && known < DATA_PIECE_MAX ? 0 : data_piece(t->buf + t->at, known, whole);
    if (!len) return false;
    if (t->begins) t->picked = !t->count && data_is_picked(&t->src->pick, t->records);
    if (t->picked)
        t->piece[t->n++] = (piece){.at = t->at,
                                   .len = len,
                                   .mark = {.file = t->s->file,
                                            .base = t->s->base,
                                            .byte = t->byte,
                                            .line = t->line,
                                            .records = t->records,
                                            .begins = t->begins},
                                   .column = t->column,
                                   .name = t->src->file[t->s->file].name};
    t->records += t->begins;
    t->begins = false;
    advance(t, len);
    return true;
}

static ft_status check_utf8(const txt *t, const piece *p)
{
    const char *text = t->buf + p->at;
    int64_t line = p->mark.line, column = p->column;
    if (utf8_valid(text, p->len)) return FT_OK;
    for (size_t i = 0; i < p->len;) {
        int32_t cp;
        int k = utf8_next(text + i, p->len - i, &cp);
        if (cp < 0)
            return ft_fail(FT_EDATA, "%s:%lld:%lld: this byte is not UTF-8", p->name,
                           (long long)line + 1, (long long)column + 1);
        line += cp == '\n';
        column = cp == '\n' ? 0 : column + k;
        i += (size_t)k;
    }
    return FT_OK;
}

static void encode(void *ctx, int64_t tile, int thread)
{
    txt *t = ctx;
    piece *p = &t->piece[tile];
    (void)thread;
    p->rc = check_utf8(t, p);
    if (p->rc == FT_OK)
        p->rc = data_encode_text(t->tok, t->buf + p->at, p->len, p->mark.begins, &p->ids);
    if (p->rc != FT_OK) p->error = ft_strdup(ft_error());
}

static ft_status take(data_stream *s, const piece *p)
{
    if (s->done) return FT_OK; /* of the window after */
    if (p->rc != FT_OK) return ft_fail_again(p->rc, p->error);
    s->stats->records += p->mark.begins && !s->before;
    FT_TRY(data_stream_unit(s, &p->mark, (int64_t)p->len));
    return data_stream_add(s, &p->ids);
}

static ft_status flush(txt *t)
{
    ft_status rc = FT_OK;
    pool_run(encode, t, t->n);
    for (int i = 0; i < t->n; i++) {
        if (rc == FT_OK) rc = take(t->s, &t->piece[i]);
        tok_ids_free(&t->piece[i].ids);
        ft_free(t->piece[i].error);
    }
    t->n = 0;
    if (rc == FT_OK && ft_stop_asked() != FT_OK)
        rc = ft_fail(ft_stop_asked(), "stopped while reading %s", t->src->path);
    return rc;
}

/* More documents, or more of this one, that are wanted? */
static bool wanted(const txt *t)
{
    return !t->s->done && (t->records < t->src->pick.to || !t->begins);
}

/* Bytes to hold for a batch: no more than the units that begin by `until`, and what tells where the last one ends. */
static size_t batch(const txt *t)
{
    size_t sep = t->src->separator ? strlen(t->src->separator) : 0;
    int64_t left = t->s->until - (t->s->base + t->byte);
    return (left < DATA_TXT_BYTES ? (size_t)left : DATA_TXT_BYTES) + DATA_PIECE_MAX + sep;
}

/* The pieces of the file at hand; those of its end may stay pending. */
static ft_status read_pieces(txt *t)
{
    data_stream *s = t->s;
    size_t need = 0; /* more than a batch, when that does not tell where a piece ends */
    while (wanted(t)) {
        int64_t at = t->byte;
        if (s->until < s->base + t->byte) s->until = s->base + t->byte + DATA_BEYOND;
        size_t usual = batch(t);
        FT_TRY(fill(t, need > usual ? need : usual));
        while (t->n < PIECES && s->base + t->byte <= s->until && wanted(t) && cut(t)) {
        }
        if (t->ended && t->at == t->have) return FT_OK;
        if (at == t->byte && t->ended) return FT_OK; /* what is left is no document */
        need = at < t->byte ? 0 : 2 * (t->have - t->at);
        FT_TRY(flush(t));
    }
    return FT_OK;
}

/* Pieces that are pending may stay where the whole of the next file finds room behind them. */
static ft_status has_room(const txt *t, const data_file *next, bool *room)
{
    int64_t size;
    FT_TRY(path_size(next->path, &size));
    bool plain = str_ends(next->path, ".txt") || str_ends(next->path, ".raw");
    *room = t->n < PIECES / 2 && plain && size >= 0 && (size_t)size < t->cap - t->have;
    return FT_OK;
}

static ft_status next_file(txt *t)
{
    data_stream *s = t->s;
    const data_file *f = &s->source->file[s->file];
    bool first = s->only && s->file == s->only->from.file;
    bool room;
    FT_TRY(has_room(t, f, &room));
    if (t->n && !room) FT_TRY(flush(t));
    t->at = t->have; /* what stands before is pending, or was read */
    t->ended = false;
    t->sep_at = NONE;
    t->sep_from = t->at;
    t->byte = first ? s->only->from.byte : 0;
    t->line = first ? s->only->from.line : 0;
    t->column = 0;
    t->begins = first ? s->only->from.begins : true;
    FT_TRY(data_stream_file(s, &t->file));
    ft_status rc = read_pieces(t);
    data_stream_file_close(s, t->file);
    return rc;
}

ft_status data_read_txt(data_stream *s, int64_t *records, bool count)
{
    txt *t = ft_alloc(1, sizeof *t);
    ft_status rc = FT_OK;
    if (!t) return FT_EMEM;
    t->s = s;
    t->src = s->source;
    t->tok = s->d->tok;
    t->count = count;
    t->records = *records;
    t->picked = true; /* of a window, what it begins in the midst of */
    const data_source *src = s->source;
    for (; rc == FT_OK; s->file++, s->base += s->end) {
        rc = next_file(t);
        bool more = s->file + 1 < src->n_files && src->file[s->file + 1].kind->txt;
        if (!more || s->done || t->records >= src->pick.to) break;
    }
    if (rc == FT_OK) rc = flush(t);
    for (int i = 0; i < t->n; i++) { /* after a failure */
        tok_ids_free(&t->piece[i].ids);
        ft_free(t->piece[i].error);
    }
    *records = t->records;
    ft_free(t->buf);
    ft_free(t);
    return rc;
}
