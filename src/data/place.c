/* place.c – where reading stands in the streams of a set. A checkpoint keeps it so that a resumed run need not read
 * again what stands before; the samples are those of a set without it. */
#include "data_private.h"

#include <string.h>
#include <unistd.h>

enum { SAMPLES = 16, SAMPLE_BYTES = 4096 };

/* Size, and bytes at places evenly over the file as it lies on the disk. */
static ft_status look_at_file(const data_file *f, int samples, sha256_state *sha, int64_t *bytes,
                              bool *packed)
{
    static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    uint8_t buf[SAMPLE_BYTES];
    ft_status rc = FT_OK;
    int fd;
    int64_t size;
    FT_TRY(path_size(f->path, &size));
    FT_TRY(ft_open(&fd, f->path, f->name));
    *bytes += size;
    for (int i = 0; i < samples && rc == FT_OK; i++) {
        int64_t at =
            size > SAMPLE_BYTES && samples > 1 ? (size - SAMPLE_BYTES) / (samples - 1) * i : 0;
        ssize_t got = pread(fd, buf, sizeof buf, (off_t)at);
        if (got < 0) rc = ft_fail_errno(FT_EIO, "%s: cannot be read", f->name);
        if (i == 0)
            *packed = *packed || (got >= 2 && !memcmp(buf, gzip, sizeof gzip)) ||
                      (got >= 4 && !memcmp(buf, zstd, sizeof zstd));
        if (got > 0) sha256_add(sha, buf, (size_t)got);
    }
    close(fd);
    return rc;
}

/* Of all files of a source together. */
static ft_status look_at_files(const data_source *s, int64_t *bytes, bool *packed, char hex[65])
{
    sha256_state sha;
    int samples = s->n_files < SAMPLES ? SAMPLES / s->n_files : 1;
    *bytes = 0;
    *packed = false;
    sha256_init(&sha);
    for (int i = 0; i < s->n_files; i++) {
        if (i) sha256_add(&sha, bytes, sizeof *bytes);
        FT_TRY(look_at_file(&s->file[i], samples, &sha, bytes, packed));
    }
    sha256_hex(&sha, hex);
    return FT_OK;
}

static void add_window(str_buf *out, const data_source *s, int64_t k, bool *first)
{
    const data_window *w = &s->window[k];
    str_printf(out,
               "%s{\"window\": %lld, \"file\": %d, \"base\": %lld, \"byte\": %lld, \"line\": %lld, "
               "\"records\": %lld, \"documents\": %lld, \"begins\": %s, "
               "\"skip\": %lld, \"at\": %.0f, \"sha256\": \"%s\"}",
               *first ? "" : ", ", (long long)k, w->from.file, (long long)w->from.base,
               (long long)w->from.byte, (long long)w->from.line, (long long)w->from.records,
               (long long)w->from.documents, w->from.begins ? "true" : "false", (long long)w->skip,
               w->at, w->sha256);
    *first = false;
}

/* The window in use with its neighbours (a step may lie over a border, and be done again), and the frontier. */
static ft_status add_place(const data_source *s, str_buf *out)
{
    int64_t bytes;
    bool gzip, first = true;
    char hex[65];
    FT_TRY(look_at_files(s, &bytes, &gzip, hex));
    str_printf(out,
               "{\"bytes\": %lld, \"gzip\": %s, \"sample_sha256\": \"%s\", \"window_rows\": %lld, "
               "\"full\": "
               "%lld, \"whole\": %s, \"samples\": %lld, \"tokens\": %lld, \"read_sha256\": \"%s\", "
               "\"windows\": [",
               (long long)bytes, gzip ? "true" : "false", hex, (long long)s->window_rows,
               (long long)s->full, s->stats.whole ? "true" : "false", (long long)s->stats.samples,
               (long long)s->stats.tokens, s->read_sha256);
    for (int64_t k = s->wanted - 1; k <= s->wanted + 1; k++)
        if (k >= 0 && k <= s->full && s->window[k].known) add_window(out, s, k, &first);
    if (s->full > s->wanted + 1 && s->window[s->full].known) add_window(out, s, s->full, &first);
    str_adds(out, "]}");
    return FT_OK;
}

ft_status data_places(const data_set *d, str_buf *out)
{
    str_addc(out, '[');
    for (int i = 0; i < d->n_sources; i++) {
        if (i) str_adds(out, ", ");
        if (d->source[i].windowed)
            FT_TRY(add_place(&d->source[i], out));
        else
            str_adds(out, "null");
    }
    str_addc(out, ']');
    return str_ok(out);
}

/* --- and back --------------------------------------------------------------------------------------------------- */
static ft_status get_hex(const js_doc *doc, const cJSON *o, const char *key, char hex[65])
{
    const char *text = NULL;
    FT_TRY(js_get_str(doc, o, key, "", &text));
    FT_CHECK(strlen(text) == 64 || !*text, FT_EDATA, "%s: \"%s\" is no SHA-256", doc->name, key);
    memcpy(hex, text, strlen(text) + 1);
    return FT_OK;
}

static ft_status get_window(const js_doc *doc, const cJSON *o, data_source *s)
{
    data_window w = {.known = true};
    int64_t k = -1, file = 0;
    FT_TRY(js_get_int(doc, o, "file", 0, 0, s->n_files - 1, &file));
    w.from.file = (int)file;
    FT_TRY(js_get_int(doc, o, "base", 0, 0, INT64_MAX, &w.from.base));
    FT_TRY(js_get_int(doc, o, "window", -1, 0, s->full, &k));
    FT_CHECK(k >= 0, FT_EDATA, "%s: a window without its number", doc->name);
    FT_TRY(js_get_int(doc, o, "byte", 0, 0, INT64_MAX, &w.from.byte));
    FT_TRY(js_get_int(doc, o, "line", 0, 0, INT64_MAX, &w.from.line));
    FT_TRY(js_get_int(doc, o, "documents", 0, 0, INT64_MAX, &w.from.documents));
    /* earlier versions read every record there was before it */
    FT_TRY(js_get_int(doc, o, "records", w.from.documents, 0, INT64_MAX, &w.from.records));
    FT_TRY(js_get_bool(doc, o, "begins", false, &w.from.begins));
    FT_TRY(js_get_int(doc, o, "skip", 0, 0, INT64_MAX, &w.skip));
    FT_TRY(js_get_num(doc, o, "at", 0, &w.at));
    FT_TRY(get_hex(doc, o, "sha256", w.sha256));
    if (k > 0) s->window[k] = w; /* the first one was read */
    return FT_OK;
}

/* Packed or not, the text is the same; else the file must be the one that was read. */
static ft_status check_file(const js_doc *doc, const cJSON *o, const data_source *s)
{
    int64_t bytes, now;
    bool gzip, packed;
    char hex[65], want[65];
    FT_TRY(js_get_int(doc, o, "bytes", 0, 0, INT64_MAX, &bytes));
    FT_TRY(js_get_bool(doc, o, "gzip", false, &packed));
    FT_TRY(get_hex(doc, o, "sample_sha256", want));
    FT_TRY(look_at_files(s, &now, &gzip, hex));
    FT_CHECK(gzip != packed || (now == bytes && !strcmp(hex, want)), FT_EDATA,
             "%s: changed since the run began; put it back, or choose another folder (--out), or "
             "--force to start anew",
             s->path);
    return FT_OK;
}

static ft_status restore(const js_doc *doc, const cJSON *o, data_source *s)
{
    int64_t full = 0, rows = 0;
    bool whole = false;
    const cJSON *list = js_get(o, "windows"), *node;
    FT_TRY(check_file(doc, o, s));
    FT_TRY(js_get_int(doc, o, "window_rows", 0, 0, INT64_MAX, &rows));
    FT_TRY(js_get_int(doc, o, "full", 0, 0, INT32_MAX, &full));
    FT_TRY(js_get_bool(doc, o, "whole", false, &whole));
    if (s->stats.whole || rows != s->window_rows || full < s->full) return FT_OK; /* all is known */
    FT_TRY(data_reserve(&s->window, &s->cap_windows, full + 1, sizeof *s->window));
    for (int64_t k = s->full + 1; k <= full; k++) s->window[k] = (data_window){0};
    s->full = full;
    s->counted = full + whole;
    s->stats.whole = whole;
    s->stats.windows = full;
    FT_TRY(js_get_int(doc, o, "samples", 0, 0, INT64_MAX, &s->stats.samples));
    FT_TRY(js_get_int(doc, o, "tokens", 0, 0, INT64_MAX, &s->stats.tokens));
    FT_TRY(get_hex(doc, o, "read_sha256", s->read_sha256));
    cJSON_ArrayForEach(node, list) FT_TRY(get_window(doc, node, s));
    return FT_OK;
}

ft_status data_places_restore(data_set *d, const js_doc *doc, const cJSON *places)
{
    FT_CHECK(cJSON_IsArray(places) && cJSON_GetArraySize(places) == d->n_sources, FT_EDATA,
             "%s: \"places\" does not have %d entries", doc->name, d->n_sources);
    const cJSON *o = places->child;
    for (int i = 0; i < d->n_sources; i++, o = o->next)
        if (cJSON_IsObject(o) && d->source[i].windowed) FT_TRY(restore(doc, o, &d->source[i]));
    data_order_close(d);
    return FT_OK;
}
