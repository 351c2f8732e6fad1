/* window.c – text that is larger than memory: windows of rows, found again by where they begin.
 *
 * A source that is cut into windows holds one of them at a time. The index has a few words for each (where it begins in
 * the file, its samples, a hash); it is made when the data is read for the first time, checked and counted. */
#include "data_private.h"

#include <stdlib.h>
#include <string.h>

/* "auto": text stays in memory up to this many tokens (4 bytes each); beyond, it is cut. FT_TEST_KEEP_TOKENS lowers
 * the bound in tests. */
enum { KEEP_TOKENS = 1 << 24, WINDOW_TOKENS = 1 << 22 };

static int64_t keep_tokens(void)
{
    const char *text = getenv("FT_TEST_KEEP_TOKENS");
    return text ? strtoll(text, NULL, 10) : KEEP_TOKENS;
}

void data_window_open(const data_set *d, data_source *s)
{
    int64_t tokens = d->window_tokens == CFG_AUTO ? WINDOW_TOKENS : d->window_tokens;
    s->window_rows = tokens > d->max_length ? tokens / d->max_length : 1;
    s->windowed = d->window_tokens != CFG_AUTO;
    s->loaded = -1;
}

/* What a sample is, for any kind of store. */
void data_hash_rows(const data_store *st, int64_t from, int64_t n, char hex[65])
{
    sha256_state sha;
    sha256_init(&sha);
    for (const data_row *r = st->row + from; r < st->row + from + n; r++) {
        sha256_add(&sha, &r->len, sizeof r->len);
        sha256_add(&sha, st->ids + r->ids_at, (size_t)r->len * sizeof *st->ids);
        sha256_add(&sha, st->seq + r->seq_at, (size_t)r->n_seq * sizeof *st->seq);
    }
    sha256_hex(&sha, hex);
}

static void clear(data_store *st)
{
    st->n_ids = st->n_seq = st->n_rows = 0;
}

/* The rows at hand are a window. */
static ft_status close_window(data_stream *s)
{
    data_source *src = s->source;
    data_window w = s->next;
    w.first = src->n_windows
                  ? src->window[src->n_windows - 1].first + src->window[src->n_windows - 1].rows
                  : 0;
    w.rows = s->stats->samples - w.first;
    FT_TRY(data_reserve(&src->window, &src->cap_windows, src->n_windows + 1, sizeof *src->window));
    if (src->windowed) {
        data_hash_rows(&src->store, 0, w.rows, w.sha256);
        clear(&src->store);
    }
    src->window[src->n_windows++] = w;
    s->next = (data_window){.from = s->unit, .skip = s->unit_tokens};
    return FT_OK;
}

/* Too much to be held: the windows that are complete are hashed and let go. */
static ft_status let_go(data_source *s)
{
    data_store old = s->store, *to = &s->store;
    int64_t kept = 0;
    for (int64_t i = 0; i < s->n_windows; i++) {
        data_window *w = &s->window[i];
        data_hash_rows(&old, w->first, w->rows, w->sha256);
        kept = w->first + w->rows;
    }
    int64_t ids_at = kept < old.n_rows ? old.row[kept].ids_at : old.n_ids;
    int64_t seq_at = kept < old.n_rows ? old.row[kept].seq_at : old.n_seq;
    *to = (data_store){0};
    ft_status rc = data_reserve(&to->ids, &to->cap_ids, old.n_ids - ids_at + 1, sizeof *to->ids);
    if (rc == FT_OK)
        rc = data_reserve(&to->seq, &to->cap_seq, old.n_seq - seq_at + 1, sizeof *to->seq);
    if (rc == FT_OK)
        rc = data_reserve(&to->row, &to->cap_rows, old.n_rows - kept + 1, sizeof *to->row);
    if (rc == FT_OK) {
        to->n_ids = old.n_ids - ids_at;
        to->n_seq = old.n_seq - seq_at;
        memcpy(to->ids, old.ids + ids_at, (size_t)to->n_ids * sizeof *to->ids);
        memcpy(to->seq, old.seq + seq_at, (size_t)to->n_seq * sizeof *to->seq);
        for (int64_t i = kept; i < old.n_rows; i++) {
            data_row row = old.row[i];
            row.ids_at -= ids_at;
            row.seq_at -= seq_at;
            to->row[to->n_rows++] = row;
        }
    }
    data_store_close(&old);
    s->windowed = rc == FT_OK;
    return rc;
}

ft_status data_window_row(data_stream *s)
{
    data_source *src = s->source;
    if (s->only) {
        s->done = src->store.n_rows == s->only->rows;
        return FT_OK;
    }
    if (!src->window_rows) return FT_OK;
    int64_t closed = src->n_windows * src->window_rows;
    if (s->stats->samples - closed == src->window_rows) FT_TRY(close_window(s));
    if (!src->windowed && s->stats->tokens > keep_tokens()) FT_TRY(let_go(src));
    return FT_OK;
}

ft_status data_window_end(data_stream *s)
{
    data_source *src = s->source;
    if (!src->windowed) { /* small enough: it stays in memory */
        ft_free(src->window);
        src->window = NULL;
        src->n_windows = 0;
        return FT_OK;
    }
    FT_CHECK(file_size(src->path) > 0, FT_EDATA,
             "%s: cannot be read in windows: it is not a file that can be read twice", src->path);
    if (src->store.n_rows) FT_TRY(close_window(s));
    s->stats->windows = src->n_windows;
    return FT_OK;
}
