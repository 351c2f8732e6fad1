/* source.c – a source of a config to samples: whole into memory, or, where a text is too much for that, as a stream. */
#include "data_private.h"

enum {
    KEEP_BYTES = 1 << 27
}; /* a text file of so many bytes is not even tried; a packed one of half of them */

static ft_status is_large(const data_set *d, const data_source *s, bool *large)
{
    int64_t bytes = 0, size;
    for (int i = 0; i < s->n_files; i++) {
        const char *path = s->file[i].path;
        FT_TRY(path_size(path, &size));
        bytes += size > 0 ? size * (str_ends(path, ".gz") || str_ends(path, ".zst") ? 2 : 1) : 0;
    }
    *large = d->window_tokens != CFG_AUTO || bytes > KEEP_BYTES;
    return FT_OK;
}

static bool anywhere(const data_source *s)
{
    bool all = true;
    for (int i = 0; i < s->n_files; i++) all = all && s->file[i].kind->anywhere;
    return all;
}

/* All of it; or, where a text turns out to be too much, as a stream. */
static ft_status read_whole(data_set *d, data_source *src)
{
    data_stream stream;
    data_stream_open(&stream, d, src, &src->stats, NULL);
    FT_TRY(data_read(d, src, &stream));
    return stream.done ? data_window_open(d, src) : FT_OK;
}

/* What is not there, or is no file, is told by who reads it. */
static ft_status watch(data_set *d, const data_source *src, file_use use)
{
    for (int i = 0; i < src->n_files; i++) {
        file_watch *w;
        FT_TRY(data_reserve(&d->watch, &d->cap_watch, d->n_watch + 1, sizeof *d->watch));
        ft_status rc = file_watch_open(&w, src->file[i].path, use);
        if (rc != FT_OK && rc != FT_ENOINPUT && rc != FT_EDATA) return rc;
        if (rc == FT_OK)
            d->watch[d->n_watch++] = w;
        else
            ft_error_clear();
    }
    return FT_OK;
}

static ft_status read_source(data_set *d, data_source *src)
{
    const data_format *text = data_format_find("text");
    for (int i = 0; i < src->n_files; i++)
        FT_CHECK(!src->file[i].kind->txt || !src->format || src->format == text, FT_EDATA,
                 "%s: a text file holds documents, not %s records; use .jsonl", src->file[i].name,
                 src->format->name);
    bool large;
    FT_TRY(is_large(d, src, &large));
    if (!anywhere(src) || !large) return read_whole(d, src);
    if (!src->format) FT_TRY(data_look_at_format(d, src));
    return src->format == text ? data_window_open(d, src) : read_whole(d, src);
}

ft_status data_read_source(data_set *d, data_source *src)
{
    const int64_t first = d->n_watch;
    FT_TRY(watch(d, src, FILE_DONE));
    log_busy("reading %s", ft_shows(src->path));
    const ft_status rc = read_source(d, src);
    log_idle();
    if (rc != FT_OK) return rc;
    if (!src->windowed) return FT_OK;
    while (d->n_watch > first) file_watch_close(d->watch[--d->n_watch]);
    return watch(d, src, FILE_STREAM);
}
