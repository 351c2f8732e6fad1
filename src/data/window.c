/* window.c – text that is larger than memory: a stream of windows of rows, one of which is held.
 *
 * The rows are counted off into windows of window_rows in the order of the file. Of each window that was met the place
 * is kept where it begins: a unit, and how many tokens of that unit the window before has; from there it can be read
 * again, and must then be what it was. What is not known is where the source ends, until that was met. */
#include "data_private.h"

#include <string.h>

enum {
    WINDOW_TOKENS = 1 << 22, /* "auto": of all sources together */
    ENCODER = 512 << 10      /* for each thread, about */
};

static int64_t rows_of(const data_source *s, int64_t k)
{
    return k < s->full ? s->window_rows : s->stats.samples - k * s->window_rows;
}

/* Where window k probably ends. */
static int64_t expected_end(const data_set *d, const data_source *s, int64_t k)
{
    const data_window *w = &s->window[k];
    double row = 3.0 * (double)d->max_length; /* bytes */
    if (k < s->full && w[1].known) return w[1].from.base + w[1].from.byte;
    if (k > 0) row = w->at / (double)(k * s->window_rows);
    return (int64_t)(w->at + row * (double)s->window_rows);
}

/* The windows of the first pass, one after another. */
static void add_read(data_source *s, const char *sha256)
{
    sha256_state sha;
    sha256_init(&sha);
    sha256_add(&sha, s->read_sha256, strlen(s->read_sha256));
    sha256_add(&sha, sha256, strlen(sha256));
    sha256_hex(&sha, s->read_sha256);
}

static void hash_rows(const data_store *st, char hex[65])
{
    sha256_state sha;
    sha256_init(&sha);
    for (const data_row *r = st->row; r < st->row + st->n_rows; r++) {
        sha256_add(&sha, &r->len, sizeof r->len);
        if (r->len > 0) sha256_add(&sha, st->ids + r->ids_at, (size_t)r->len * sizeof *st->ids);
        if (r->n_seq > 0) sha256_add(&sha, st->seq + r->seq_at, (size_t)r->n_seq * sizeof *st->seq);
    }
    sha256_hex(&sha, hex);
}

/* A window that was met for the first time, at the frontier. */
static ft_status met(data_source *s, int64_t k, const data_window *next)
{
    if (s->store.n_rows < s->window_rows) {
        s->stats.whole = true;
        s->stats.windows = k + (s->store.n_rows > 0);
        return FT_OK;
    }
    FT_TRY(data_reserve(&s->window, &s->cap_windows, k + 2, sizeof *s->window));
    s->window[k + 1] = *next;
    s->full = k + 1;
    s->stats.windows = s->full;
    return FT_OK;
}

static ft_status read_window(data_set *d, data_source *s, int64_t k)
{
    data_source_stats again = {0}, *stats = k == s->counted ? &s->stats : &again;
    data_window *w = &s->window[k];
    bool frontier = k == s->full && !s->stats.whole;
    char sha256[65];
    data_stream stream;
    s->loaded = -1;
    s->store.n_ids = s->store.n_seq = s->store.n_rows = 0;
    data_stream_open(&stream, d, s, stats, w);
    stream.until = expected_end(d, s, k);
    FT_TRY(data_read(d, s, &stream));
    s->read_base = stream.base;
    FT_CHECK(!d->vocab_size || stats->max_id < d->vocab_size, FT_EDATA,
             "%s: token id %d does not exist in the model, whose vocabulary has %lld; do the "
             "tokenizer and the model belong together?",
             s->path, stats->max_id, (long long)d->vocab_size);
    hash_rows(&s->store, sha256);
    FT_CHECK((!w->sha256[0] || !strcmp(w->sha256, sha256)) &&
                 (frontier || s->store.n_rows == rows_of(s, k)),
             FT_EDATA,
             "%s: changed while it was in use: what stands at byte %lld is not what was read at "
             "first",
             s->path, (long long)w->from.byte);
    memcpy(w->sha256, sha256, sizeof sha256);
    if (stats == &s->stats) {
        add_read(s, sha256);
        s->counted = k + 1;
    }
    if (frontier) FT_TRY(met(s, k, &stream.next));
    if (k < s->full && !s->window[k + 1].known) s->window[k + 1] = stream.next;
    s->loaded = k;
    return FT_OK;
}

ft_status data_window_load(data_set *d, data_source *s, int64_t k)
{
    int64_t j = k;
    s->wanted = k;
    if (s->loaded == k) return FT_OK;
    while (!s->window[j].known) j--; /* the first one always is */
    for (; j <= k; j++) {
        FT_TRY(read_window(d, s, j));
        if (j < k) log_progress("%s: reading again up to window %lld", s->name, (long long)k);
    }
    return FT_OK;
}

ft_status data_window_get(data_set *d, data_source *s, int64_t row, const data_row **out)
{
    FT_TRY(data_window_load(d, s, row / s->window_rows));
    *out = &s->store.row[row % s->window_rows];
    return FT_OK;
}

/* --- a source becomes a stream ------------------------------------------------------------------------------- */
/* By bytes: how much of the file the windows counted are. */
static ft_status share_read(const data_source *s, double *share)
{
    const data_window *next = &s->window[s->full];
    int64_t before = 0, bytes = 0, size; /* on disk */
    for (int i = 0; i < s->n_files; i++) {
        FT_TRY(path_size(s->file[i].path, &size));
        bytes += size;
        before += i < s->reader_file ? size : 0;
    }
    FT_TRY(path_size(s->file[s->reader_file].path, &size));
    double share_of_file;
    FT_TRY(lines_share(s->reader, &share_of_file));
    /* of the text, a little ahead of the window */
    double all = (double)(s->read_base + lines_offset(s->reader));
    double read = (double)before + (double)size * share_of_file;
    *share = s->stats.whole || all <= 0 ? 1 : read / (double)bytes * next->at / all;
    return FT_OK;
}

static ft_status count_all(data_set *d, data_source *s)
{
    while (!s->stats.whole) {
        FT_TRY(data_window_load(d, s, s->full));
        double share;
        FT_TRY(share_read(s, &share));
        log_progress("counting the tokens of %s: %.0f %%", s->name, 100 * share);
    }
    return FT_OK;
}

/* Held while a window is read: what it was when the set was opened, if that could be seen; else text, what it became, and
 * what the tokenizer of each thread takes. */
size_t data_window_reading(const data_set *d, const data_source *s)
{
    if (s->reading > 0) return s->reading;
    const data_window *next = &s->window[s->full];
    bool txt = false;
    for (int i = 0; i < s->n_files; i++) txt = txt || s->file[i].kind->txt;
    double window = next->at / (double)s->full; /* bytes */
    double tokens = (double)(s->window_rows * d->max_length) / window,
           most = txt ? DATA_TXT_BYTES : DATA_LINES_BYTES;
    double text = (window < most ? window : most) + (txt ? DATA_PIECE_MAX : 0);
    return (size_t)(text * (1 + 1.5 * sizeof(int32_t) * tokens)) +
           (size_t)pool_threads() * ENCODER + (size_t)s->window_rows * sizeof(int64_t);
}

ft_status data_window_open(data_set *d, data_source *s)
{
    int64_t tokens = d->window_tokens == CFG_AUTO ? WINDOW_TOKENS / d->n_sources : d->window_tokens;
    for (int i = 0; i < s->n_files; i++) {
        int64_t size;
        FT_TRY(path_size(s->file[i].path, &size));
        FT_CHECK(size >= 0, FT_EDATA,
                 "%s: cannot be read in windows: it is not a file that can be read twice",
                 s->file[i].name);
    }
    data_store_close(&s->store);
    data_count_forget(s);
    s->window_rows = tokens > d->max_length ? tokens / d->max_length : 1;
    s->windowed = true;
    s->loaded = -1;
    FT_TRY(data_reserve(&s->window, &s->cap_windows, 1, sizeof *s->window));
    s->window[0] = (data_window){.from.begins = true, .known = true};
    size_t before = ft_peak_rss();
    FT_TRY(data_window_load(d, s, 0));
    FT_TRY(share_read(s, &s->stats.share));
    s->estimated_tokens = (double)s->stats.tokens / s->stats.share;
    s->estimated_samples = (int64_t)((double)s->stats.samples / s->stats.share);
    if (d->count && !d->look) FT_TRY(count_all(d, s));
    size_t peak = ft_peak_rss(), now = ft_rss();
    s->reading = peak > before && peak > now ? peak - now : 0;
    return FT_OK;
}

void data_window_hash(sha256_state *sha, const data_source *s)
{
    sha256_add(sha, &s->window_rows, sizeof s->window_rows);
    sha256_add(sha, &s->limit, sizeof s->limit);
    sha256_add(sha, s->window[0].sha256, 64);
}

void data_window_close(data_source *s)
{
    lines_close(s->reader);
    ft_free(s->window);
}
