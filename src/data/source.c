/* source.c – a source of a config to samples: whole into memory, or, where a text is too much for that, as a stream. */
#include "data_private.h"

enum {
    KEEP_BYTES = 1 << 27
}; /* a text file of so many bytes is not even tried; a packed one of half of them */

static bool is_large(const data_set *d, const data_source *s)
{
    int64_t most = str_ends(s->path, ".gz") ? KEEP_BYTES / 2 : KEEP_BYTES;
    return d->window_tokens != CFG_AUTO || file_size(s->path) > most;
}

/* The format of lines, where it is not given: that of the first one. What is wrong with it is told by reading on. */
static ft_status look_at_format(data_source *src)
{
    line_reader *lines;
    const char *text;
    size_t len;
    js_doc doc;
    FT_TRY(lines_open(&lines, src->path));
    ft_status rc = lines_next_filled(lines, &text, &len);
    if (rc == FT_OK)
        rc = js_parse(&doc, text, len, src->path, lines_number(lines), JS_BIG_NUMBERS, FT_EDATA);
    if (rc == FT_OK) {
        rc = data_format_detect(&doc, doc.root, &src->format);
        js_close(&doc);
    }
    lines_close(lines);
    if (rc != FT_EDATA) return rc == FT_END ? FT_OK : rc;
    ft_error_clear();
    return FT_OK;
}

/* All of it; or, where a text turns out to be too much, as a stream. */
static ft_status read_whole(data_set *d, data_source *src)
{
    data_stream stream;
    data_stream_open(&stream, d, src, &src->stats, NULL);
    FT_TRY(data_read(d, src, &stream));
    return stream.done ? data_window_open(d, src) : FT_OK;
}

ft_status data_read_source(data_set *d, data_source *src)
{
    const data_format *text = data_format_find("text");
    bool txt, anywhere, known = data_kind(src->path, &txt, &anywhere);
    if (!known) FT_TRY(io_data_exists(src->path));
    FT_CHECK(known, FT_EDATA, "%s: the name must end in .jsonl, .json or .txt (each also .gz)",
             src->path);
    if (txt) {
        FT_CHECK(!src->format || src->format == text, FT_EDATA,
                 "%s: a text file holds documents, not %s "
                 "records; use .jsonl",
                 src->path, src->format->name);
        src->format = text;
        FT_TRY(data_needs_tokenizer(d, src->path, "text needs"));
    }
    if (!anywhere || !is_large(d, src)) return read_whole(d, src);
    if (!src->format) FT_TRY(look_at_format(src));
    return src->format == text ? data_window_open(d, src) : read_whole(d, src);
}
