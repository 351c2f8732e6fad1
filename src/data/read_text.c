/* read_text.c – .txt files: documents, cut into pieces that are tokenised side by side while the next ones are read.
 *
 * Only as much of the file is held as it takes to know where pieces end, whatever its size. */
#include "data_private.h"

#include <string.h>

enum { PIECES = 128 };
#define NONE SIZE_MAX

typedef struct piece {
    size_t at, len; /* in the buffer */
    int64_t byte, line,
        column; /* where it begins: byte of the file, lines before it, bytes of its line before it */
    bool begins; /* a document */
    tok_ids ids;
    ft_status rc;
    char *error;
} piece;

typedef struct txt {
    const data_source *src;
    const tok_tokenizer *tok;
    line_reader *file;
    char *buf;
    size_t cap, at, have;       /* [at, have) is read and not yet cut off */
    bool ended;                 /* the file has no more */
    int64_t byte, line, column; /* of `at` */
    bool begins;                /* what comes is the start of a document */
    int64_t documents;          /* begun */
    size_t sep_at, sep_from;    /* the next separator (NONE: not found), looked for up to there */
    piece piece[PIECES];
    int n;
} txt;

/* Holds at least `need` bytes, or all there are. Moves the buffer: no piece may be pending. */
static ft_status fill(txt *t, size_t need)
{
    if (t->at) memmove(t->buf, t->buf + t->at, t->have - t->at);
    t->have -= t->at;
    t->sep_from -= t->sep_from < t->at ? t->sep_from : t->at;
    if (t->sep_at != NONE) t->sep_at -= t->at;
    t->at = 0;
    if (need > t->cap) {
        char *more = ft_realloc(t->buf, need, 1);
        if (!more) return FT_EMEM;
        t->buf = more;
        t->cap = need;
    }
    while (!t->ended && t->have < need) {
        size_t n;
        FT_TRY(lines_read(t->file, t->buf + t->have, need - t->have, &n));
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
    if (!known || (t->begins && t->src->limit && t->documents >= t->src->limit)) return false;
    size_t len = !whole && known < DATA_PIECE_MAX ? 0 : data_piece(t->buf + t->at, known, whole);
    if (!len) return false;
    t->piece[t->n++] = (piece){.at = t->at,
                               .len = len,
                               .byte = t->byte,
                               .line = t->line,
                               .column = t->column,
                               .begins = t->begins};
    t->documents += t->begins;
    t->begins = false;
    advance(t, len);
    return true;
}

static ft_status check_utf8(const txt *t, const piece *p)
{
    const char *text = t->buf + p->at;
    int64_t line = p->line, column = p->column;
    if (utf8_valid(text, p->len)) return FT_OK;
    for (size_t i = 0; i < p->len;) {
        int32_t cp;
        int k = utf8_next(text + i, p->len - i, &cp);
        if (cp < 0)
            return ft_fail(FT_EDATA, "%s:%lld:%lld: this byte is not UTF-8", t->src->path,
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
        p->rc = data_encode_text(t->tok, t->buf + p->at, p->len, p->begins, &p->ids);
    if (p->rc != FT_OK) p->error = ft_strdup(ft_error());
}

static ft_status take(data_stream *s, const piece *p)
{
    if (s->done) return FT_OK; /* of the window after */
    if (p->rc != FT_OK)
        return ft_fail(p->rc, "%s", p->error && *p->error ? p->error : "out of memory");
    s->stats->records += p->begins && !s->before;
    FT_TRY(data_stream_unit(s, p->byte, (int64_t)p->len, p->line, p->begins));
    return data_stream_add(s, &p->ids);
}

static ft_status flush(txt *t, data_stream *s)
{
    ft_status rc = FT_OK;
    pool_run(encode, t, t->n);
    for (int i = 0; i < t->n; i++) {
        if (rc == FT_OK) rc = take(s, &t->piece[i]);
        tok_ids_free(&t->piece[i].ids);
        ft_free(t->piece[i].error);
    }
    t->n = 0;
    if (rc == FT_OK && ft_stop_signal())
        rc = ft_fail(FT_ESIGNAL, "stopped while reading %s", t->src->path);
    return rc;
}

/* More documents, or more of this one, that are wanted? */
static bool wanted(const txt *t, const data_stream *s)
{
    int64_t limit = t->src->limit;
    return !s->done && (!limit || t->documents < limit || !t->begins);
}

/* Bytes to hold for a batch: no more than the units that begin by `until`, and what tells where the last one ends. */
static size_t batch(const txt *t, int64_t until)
{
    size_t sep = t->src->separator ? strlen(t->src->separator) : 0;
    int64_t left = until - t->byte;
    return (left < DATA_TXT_BYTES ? (size_t)left : DATA_TXT_BYTES) + DATA_PIECE_MAX + sep;
}

static ft_status read_pieces(txt *t, data_stream *s)
{
    size_t need = 0; /* more than a batch, when that does not tell where a piece ends */
    while (wanted(t, s)) {
        if (s->until < t->byte) s->until = t->byte + DATA_BEYOND;
        size_t usual = batch(t, s->until);
        FT_TRY(fill(t, need > usual ? need : usual));
        while (t->n < PIECES && t->byte <= s->until && wanted(t, s) && cut(t)) {
        }
        if (!t->n && t->ended) return FT_OK;
        need = t->n ? 0 : 2 * (t->have - t->at);
        FT_TRY(flush(t, s));
    }
    return FT_OK;
}

ft_status data_read_txt(const data_set *d, data_stream *s)
{
    txt *t = ft_alloc(1, sizeof *t);
    if (!t) return FT_EMEM;
    t->src = s->source;
    t->tok = d->tok;
    t->begins = true;
    t->sep_at = NONE;
    if (s->only) {
        const data_mark *from = &s->only->from;
        t->byte = from->byte;
        t->line = from->line;
        t->begins = from->begins;
        t->documents = from->documents;
    }
    ft_status rc = data_stream_file(s, &t->file);
    if (rc == FT_OK) rc = read_pieces(t, s);
    data_stream_file_close(s, t->file);
    ft_free(t->buf);
    ft_free(t);
    return rc;
}
