/* read.c – a source's file to samples: .jsonl by lines, .json as a list, .txt as documents, each also gzipped; all of
 * it, or one window of text.
 *
 * Records are taken in portions; the pool parses, renders and tokenises them, then they are stored in order, so
 * the result does not depend on the number of threads. The first bad record ends it, named by its place. Lines of
 * white space alone are no records; nothing else is passed over. */
#include "data_private.h"

#include <stdio.h>
#include <string.h>

enum { PORTION = 256 };
#define JSON_LIMIT ((size_t)1 << 31) /* positions are 32 bits */

typedef struct reader {
    data_set *d;
    data_source *src;
    data_source_stats *stats;
    data_stream stream;
    data_item item[PORTION];
    int n;
    size_t at[PORTION]; /* of .jsonl lines in `lines` */
    str_buf lines;
    str_buf unprinted; /* place and turn of the first record that has one */
} reader;

/* --- one record ----------------------------------------------------------------------------------------- */
static ft_status needs_tokenizer(const data_item *it)
{
    char what[80];
    if (!strcmp(it->format->name, "tokens")) return FT_OK;
    snprintf(what, sizeof what, "records of format %s need", it->format->name);
    return data_needs_tokenizer(it->d, it->name, what);
}

static ft_status note_id(data_item *it)
{
    str_buf id = {0};
    const cJSON *node = js_get(it->rec, "id");
    if (!node || it->extra) return FT_OK;
    str_adds(&id, "{\"id\":");
    js_print(&id, node, false);
    str_addc(&id, '}');
    it->extra = id.data;
    return str_ok(&id);
}

static ft_status run_item(data_item *it)
{
    js_doc own = {0};
    ft_status rc = FT_OK;
    if (it->text) {
        rc = js_parse(&own, it->text, it->len, it->name, it->line, JS_BIG_NUMBERS, FT_EDATA);
        if (rc != FT_OK) return rc;
        it->doc = &own;
        it->rec = own.root;
    }
    if (!cJSON_IsObject(it->rec))
        rc = js_fail(it->doc, it->rec, FT_EDATA, NULL, "a record must be an object");
    if (rc == FT_OK) rc = needs_tokenizer(it);
    if (rc == FT_OK) rc = it->format->render(it);
    if (rc == FT_OK) rc = data_note_keys(it);
    if (rc == FT_OK) data_note_identity(it);
    if (rc == FT_OK && it->d->ids) rc = note_id(it);
    bool left_out = it->lost && it->d->on_loss == DATA_LOSS_DROP;
    if (rc == FT_OK && !left_out && it->labels &&
        it->format->gives == DATA_TOKENS) { /* told here, while the place is known */
        bool any = false;
        for (int64_t i = it->d->count_first ? 0 : 1; i < it->ids.n; i++)
            any = any || it->labels[i] != DATA_IGNORE;
        if (!any) {
            rc = js_fail(it->doc, it->rec, FT_EDATA, NULL,
                         "this sample has no supervised token: there is nothing to learn from it");
        }
    }
    js_close(&own);
    it->doc = NULL;
    it->rec = NULL;
    return rc;
}

static void work(void *ctx, int64_t tile, int thread)
{
    data_item *it = &((data_item *)ctx)[tile];
    (void)thread;
    it->rc = run_item(it);
    if (it->rc != FT_OK) it->error = ft_strdup(ft_error());
}

/* One line each, of the first record that has it. */
static void warn_of(const reader *r, const data_item *it)
{
    data_set *d = r->d;
    if (it->lost && !d->warned_lost)
        log_warn("%s%s", it->lost,
                 d->on_loss == DATA_LOSS_DROP ? "; such records are left out" : "");
    if (it->no_reasoning && !d->warned_reasoning)
        log_warn(
            "%s:%lld: the chat template leaves out the reasoning of earlier turns; only that of "
            "the last turn is learned",
            ft_shows(it->name), (long long)it->line);
    if (it->no_end && !d->warned_no_end)
        log_warn("%s:%lld: the chat template ends an assistant turn with no end-of-turn token; EOS "
                 "is added so that the model learns to stop",
                 ft_shows(it->name), (long long)it->line);
    d->warned_lost = d->warned_lost || it->lost;
    d->warned_reasoning = d->warned_reasoning || it->no_reasoning;
    d->warned_no_end = d->warned_no_end || it->no_end;
}

/* Counted, and told with the first of them when the source is read. */
static ft_status note_unprinted(reader *r, const data_item *it)
{
    if (!it->unprinted || r->stats->unprinted++) return FT_OK;
    str_printf(&r->unprinted, "%s:%lld: %s", ft_shows(it->name), (long long)it->line,
               it->unprinted);
    return str_ok(&r->unprinted);
}

static ft_status take(reader *r, data_item *it)
{
    if (r->stream.done) return FT_OK; /* of the window after */
    if (it->rc != FT_OK) {
        return ft_fail(it->rc, "%s", it->error && *it->error ? it->error : "out of memory");
    }
    if (!r->stream.before && r->stats == &r->src->stats) {
        r->stats->records++;
        FT_TRY(data_count_item(r->d, r->src, it));
    }
    warn_of(r, it);
    FT_TRY(note_unprinted(r, it));
    r->stats->lost += it->lost != NULL;
    if (it->lost && r->d->on_loss == DATA_LOSS_DROP) {
        r->stats->dropped++;
        return FT_OK;
    }
    if (!data_format_is_text(it->format)) return data_store_item(r->src, it);
    FT_TRY(data_stream_unit(&r->stream, it->byte, (int64_t)it->len, it->before, true));
    return data_stream_add(&r->stream, &it->ids);
}

static void free_item(data_item *it)
{
    tok_ids_free(&it->ids);
    ft_free(it->labels);
    ft_free(it->extra);
    ft_free(it->unread);
    ft_free(it->lost);
    ft_free(it->unprinted);
    ft_free(it->error);
}

static ft_status flush(reader *r)
{
    ft_status rc = FT_OK;
    for (int i = 0; i < r->n; i++) {
        if (r->item[i].len) r->item[i].text = r->lines.data + r->at[i];
    }
    pool_run(work, r->item, r->n);
    for (int i = 0; i < r->n; i++) {
        data_item *it = &r->item[i];
        if (rc == FT_OK) rc = take(r, it);
        free_item(it);
    }
    r->n = 0;
    str_clear(&r->lines);
    return rc;
}

static data_item *new_item(reader *r, int64_t line, int64_t byte)
{
    data_item *it = &r->item[r->n];
    *it = (data_item){.d = r->d,
                      .src = r->src,
                      .format = r->src->format,
                      .name = r->src->path,
                      .line = line,
                      .byte = byte};
    return it;
}

static bool enough(const reader *r, int64_t taken)
{
    return r->stream.done || (r->src->limit && taken >= r->src->limit);
}

/* --- .jsonl ------------------------------------------------------------------------------------------------- */
static ft_status detect_line(reader *r, const char *text, size_t len, int64_t line)
{
    js_doc doc;
    FT_TRY(js_parse(&doc, text, len, r->src->path, line, JS_BIG_NUMBERS, FT_EDATA));
    ft_status rc = data_format_detect(&doc, doc.root, &r->src->format);
    js_close(&doc);
    return rc;
}

static ft_status read_jsonl(reader *r)
{
    line_reader *lines = NULL;
    const char *text;
    size_t len;
    const data_window *only = r->stream.only;
    int64_t taken = only ? only->from.documents : 0;
    ft_status rc = data_stream_file(&r->stream, &lines);
    while (rc == FT_OK && !enough(r, taken)) {
        if (lines_offset(lines) > r->stream.until) { /* a window may be whole */
            r->stream.until = lines_offset(lines) + DATA_BEYOND;
            rc = flush(r);
            continue;
        }
        int64_t byte = lines_offset(lines), before = lines_number(lines);
        rc = lines_next_filled(lines, &text, &len);
        if (rc != FT_OK) continue;
        if (taken == 0)
            rc = lines_record(lines, text, len, "; a file that holds a list is named .json");
        if (rc == FT_OK && !r->src->format) rc = detect_line(r, text, len, lines_number(lines));
        if (rc != FT_OK) break;
        data_item *it = new_item(r, lines_number(lines), byte);
        it->len = len;
        it->before = before;
        r->at[r->n++] = r->lines.len;
        str_add(&r->lines, text, len);
        rc = str_ok(&r->lines);
        taken++;
        if (rc == FT_OK && (r->n == PORTION || r->lines.len > DATA_LINES_BYTES)) rc = flush(r);
        if (ft_stop_signal()) rc = ft_fail(FT_ESIGNAL, "stopped while reading %s", r->src->path);
    }
    if (rc == FT_END || rc == FT_OK)
        rc = flush(r); /* a failed line before the end comes first */
    else if (r->n) {
        char *later = ft_strdup(ft_error());
        ft_status earlier = flush(r);
        if (earlier != FT_OK || r->stream.done)
            rc = earlier; /* or it is the window after that has it */
        else
            rc = ft_fail(rc, "%s", later ? later : "");
        ft_free(later);
    }
    data_stream_file_close(&r->stream, lines);
    return rc;
}

/* --- .json --------------------------------------------------------------------------------------------------- */
static size_t count_values(const cJSON *v) /* the reader bounds the depth */
{
    size_t n = 1;
    for (const cJSON *c = v->child; c; c = c->next) n += count_values(c);
    return n;
}

static ft_status each_record(reader *r, const js_doc *doc)
{
    int64_t taken = 0, line = 1;
    size_t value = 1,
           seen = 0; /* index of the record among all values; bytes whose lines are counted */
    if (!cJSON_IsArray(doc->root)) {
        return js_fail(doc, doc->root, FT_EDATA, NULL,
                       "a .json source is a list of records; one record a line "
                       "belongs in a .jsonl file");
    }
    for (const cJSON *rec = doc->root->child; rec && !enough(r, taken); rec = rec->next) {
        if (!r->src->format) FT_TRY(data_format_detect(doc, rec, &r->src->format));
        for (; value < doc->n_pos && seen < doc->pos[value]; seen++)
            line += doc->text[seen] == '\n';
        value += count_values(rec);
        data_item *it = new_item(r, line, 0);
        it->doc = doc;
        it->rec = rec;
        r->n++;
        taken++;
        if (r->n == PORTION) FT_TRY(flush(r));
        if (ft_stop_signal()) return ft_fail(FT_ESIGNAL, "stopped while reading %s", r->src->path);
    }
    return flush(r);
}

/* JSON lines in a .json file: the first line is an object of its own, and another one follows. */
static bool are_lines(const char *text, size_t n)
{
    js_doc first = {0};
    const char *end = memchr(text, '\n', n);
    size_t len = end ? (size_t)(end - text) : n;
    while (end && end < text + n && strchr(" \t\r\n", *end)) end++;
    if (lines_blank(text, len) || !end || end == text + n || *end != '{') return false;
    ft_status rc = js_parse(&first, text, len, "", 1, JS_BIG_NUMBERS | JS_NO_POSITIONS, FT_EDATA);
    bool object = rc == FT_OK && cJSON_IsObject(first.root);
    js_close(&first);
    return object;
}

static ft_status read_json(reader *r)
{
    char *text = NULL;
    size_t n;
    js_doc doc = {0};
    FT_TRY(text_read(&text, &n, r->src->path, JSON_LIMIT));
    ft_status rc =
        are_lines(text, n)
            ? ft_fail(FT_EDATA,
                      "%s: these are JSON lines (one record a line), not a list of records; a file "
                      "of JSON lines is named .jsonl",
                      r->src->path)
            : js_parse(&doc, text, n, r->src->path, 1, JS_BIG_NUMBERS, FT_EDATA);
    if (rc == FT_OK) rc = each_record(r, &doc);
    js_close(&doc);
    ft_free(text);
    return rc;
}

static ft_status read_txt(reader *r)
{
    return data_read_txt(r->d, &r->stream);
}

/* --- by the name of the file ------------------------------------------------------------------------------------ */
typedef struct kind {
    const char *end;
    ft_status (*read)(reader *r);
    bool anywhere; /* reading can begin anywhere, so its text can be cut into windows */
} kind;
static const kind kinds[] = {{".jsonl", read_jsonl, true},
                             {".ndjson", read_jsonl, true},
                             {".json", read_json, false},
                             {".txt", read_txt, true},
                             {".raw", read_txt, true}};

static const kind *kind_of(const char *path)
{
    size_t n = strlen(path);
    if (str_ends(path, ".gz")) n -= 3;
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++) {
        size_t k = strlen(kinds[i].end);
        if (n > k && !strncmp(path + n - k, kinds[i].end, k)) return &kinds[i];
    }
    return NULL;
}

bool data_kind(const char *path, bool *txt, bool *anywhere)
{
    const kind *k = kind_of(path);
    *txt = k && k->read == read_txt;
    *anywhere = k && k->anywhere;
    return k;
}

ft_status data_read(data_set *d, data_source *src, data_stream *stream)
{
    const kind *k = kind_of(src->path);
    reader *r = ft_alloc(1, sizeof *r);
    if (!r) return FT_EMEM;
    r->d = d;
    r->src = src;
    r->stats = stream->stats;
    r->stream = *stream;
    r->stream.windows = k->anywhere;
    ft_status rc = k->read(r);
    if (rc == FT_OK && src->format && data_format_is_text(src->format))
        rc = data_stream_close(&r->stream);
    if (rc == FT_OK && r->unprinted.len)
        log_warn("%s: the chat template does not print its text; such turns, of %lld records, are "
                 "not in what is learned from",
                 r->unprinted.data, (long long)r->stats->unprinted);
    str_free(&r->unprinted);
    for (int i = 0; i < r->n; i++) free_item(&r->item[i]);
    str_free(&r->lines);
    *stream = r->stream;
    ft_free(r);
    return rc;
}
