/* read.c – the files of a source to samples: .jsonl by lines, .csv and .json by records, .txt as documents, each also
 * compressed; all of them, or one window of text.
 *
 * Records are taken in portions; the pool parses, renders and tokenises them, then they are stored in order, so
 * the result does not depend on the number of threads. The first bad record ends it, named by its place. Lines of
 * white space alone are no records; nothing else is passed over. */
#include "data_private.h"

#include <stdio.h>
#include <string.h>

enum {
    PORTION = 256,
    ASK = 1 << 19,
    MORE = 4 << 20
}; /* bytes of text between asking for memory; asked for */

typedef struct data_reader {
    data_set *d;
    data_source *src;
    data_source_stats *stats;
    data_read_what what;
    int64_t records; /* of the source, begun so far: read or not */
    data_stream stream;
    data_item item[PORTION];
    int n;
    size_t at[PORTION]; /* of .jsonl lines in `lines` */
    str_buf lines;
    size_t unasked;    /* bytes of text since memory was asked for */
    str_buf unprinted; /* place and turn of the first record that has one */
} reader;

static data_file *file_of(const reader *r)
{
    return &r->src->file[r->stream.file];
}

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

static ft_status parse_record(const data_file *f, const char *text, size_t n, int64_t line,
                              int64_t col, js_doc *out)
{
    return f->kind->separator ? data_csv_record(f, text, n, line, out)
                              : js_parse_at(out, text, n, f->name, line, col,
                                            JS_BIG_NUMBERS | JS_RECORD, FT_EDATA);
}

static ft_status run_item(data_item *it)
{
    js_doc own;
    ft_status rc = ft_stop();
    FT_TRY(rc);
    FT_TRY(parse_record(it->file, it->text, it->len, it->line, it->col, &own));
    it->doc = &own;
    it->rec = own.root;
    if (!cJSON_IsObject(it->rec)) rc = data_fail(it, it->rec, NULL, "a record must be an object");
    if (rc == FT_OK) rc = needs_tokenizer(it);
    if (rc == FT_OK && it->file->kind->separator) rc = data_csv_reach(it->src, &own);
    if (rc == FT_OK && it->file->kind->separator) rc = data_csv_values(it);
    if (rc == FT_OK) rc = data_view_open(it);
    if (rc == FT_OK) rc = it->format->render(it);
    if (rc == FT_OK) rc = data_note_keys(it);
    if (rc == FT_OK) data_note_identity(it);
    if (rc == FT_OK && it->d->ids) rc = note_id(it);
    bool left_out = it->lost && it->d->on_loss == DATA_LOSS_DROP;
    if (rc == FT_OK && !left_out && !data_format_is_text(it->format) && !it->d->plain &&
        it->format->gives == DATA_TOKENS &&
        data_learned(it, !it->d->count_first, it->ids.n) ==
            0) /* told here, while the place is known */
        rc = data_fail(it, it->rec, NULL,
                       "this sample has no supervised token: there is nothing to learn from it");
    data_view_close(it);
    js_close(&own);
    it->doc = NULL;
    it->rec = it->raw = NULL;
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
    if (it->rc != FT_OK) return ft_fail_again(it->rc, it->error);
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
    FT_TRY(data_stream_unit(&r->stream, &it->mark, (int64_t)it->len));
    return data_stream_add(&r->stream, &it->ids);
}

static void free_item(data_item *it)
{
    tok_ids_free(&it->ids);
    tok_ids_free(&it->seq);
    tok_ids_free(&it->border);
    ft_free(it->labels);
    ft_free(it->extra);
    ft_free(it->unread);
    ft_free(it->lost);
    ft_free(it->unprinted);
    ft_free(it->error);
}

/* Before the plan of a run is made, its data is read: what will not fit is told, and not left to the system to end. */
static ft_status check_memory(reader *r)
{
    if (r->unasked < ASK) return FT_OK;
    r->unasked = 0;
    const ft_grant g = ft_memory_more(MORE);
    FT_CHECK(g.need <= g.limit, FT_EMEM,
             "%s: reading its records needs more than %s of memory, %s grants %s", file_of(r)->name,
             ft_bytes_text(g.need), g.name, ft_bytes_text(g.limit));
    return FT_OK;
}

static ft_status flush(reader *r)
{
    ft_status rc = check_memory(r);
    for (int i = 0; i < r->n; i++) {
        if (r->item[i].len && !r->item[i].text) r->item[i].text = r->lines.data + r->at[i];
    }
    if (rc == FT_OK) pool_run(work, r->item, r->n);
    for (int i = 0; i < r->n; i++) {
        data_item *it = &r->item[i];
        if (rc == FT_OK) rc = take(r, it);
        free_item(it);
    }
    r->n = 0;
    str_clear(&r->lines);
    return rc;
}

/* A record that is read. */
static data_item *new_item(reader *r, int64_t line)
{
    data_item *it = &r->item[r->n];
    const data_file *f = file_of(r);
    *it = (data_item){.d = r->d,
                      .src = r->src,
                      .format = r->src->format,
                      .name = f->name,
                      .file = f,
                      .line = line};
    return it;
}

static bool enough(const reader *r)
{
    return r->stream.done || r->records >= r->src->pick.to ||
           (r->what == DATA_LOOK && r->src->format);
}

/* --- records, one by one: a line, one of .csv, of a list ------------------------------------------------------------------------------ */
typedef struct record {
    const char *text;
    size_t len;
    int64_t byte, before, line,
        col; /* where it begins: byte and lines of the file before it; its line, and characters of
                                       that before it */
} record;

static ft_status detect(reader *r, const record *x)
{
    js_doc doc;
    const data_file *f = file_of(r);
    FT_TRY(parse_record(f, x->text, x->len, x->line, x->col, &doc));
    ft_status rc = f->kind->separator ? data_csv_reach(r->src, &doc) : FT_OK;
    if (rc == FT_OK) rc = data_format_detect(r->d, r->src, &doc, doc.root);
    js_close(&doc);
    return rc;
}

/* The records of a file one by one; at a window's first one they begin in its midst. */
typedef struct records {
    line_reader *lines;
    data_csv *csv; /* one of these, or both are NULL: a record is a line */
    data_list *list;
    bool first; /* of the file */
} records;

static ft_status next_record(const reader *r, records *from, record *x)
{
    *x = (record){.byte = lines_offset(from->lines), .before = lines_number(from->lines)};
    if (from->csv) {
        FT_TRY(data_csv_next(from->csv, &x->text, &x->len, &x->byte, &x->line));
        x->before = x->line - 1;
        return FT_OK;
    }
    if (from->list) {
        data_list_record one;
        FT_TRY(data_list_next(from->list, &one));
        *x = (record){one.text, one.len, one.byte, one.line - 1, one.line, one.col};
        return FT_OK;
    }
    FT_TRY(lines_next_filled(from->lines, &x->text, &x->len));
    x->line = lines_number(from->lines);
    bool first = from->first;
    from->first = false;
    return first && r->what != DATA_COUNT
               ? lines_record(from->lines, x->text, x->len,
                              "; a file that holds a list is named .json")
               : FT_OK;
}

/* The header of the file, which a window does not begin with. */
static ft_status read_header(reader *r, data_csv *csv)
{
    data_file *f = file_of(r);
    const char *text;
    size_t len;
    int64_t byte, line;
    ft_status rc = data_csv_next(csv, &text, &len, &byte, &line);
    if (rc == FT_OK && !f->header) rc = data_csv_header(f, text, len, line, r->d->mem);
    return rc;
}

static ft_status read_header_alone(reader *r)
{
    const data_file *f = file_of(r);
    line_reader *lines;
    data_csv *csv = NULL;
    FT_TRY(lines_open_as(&lines, f->path, f->name));
    ft_status rc = data_csv_open(&csv, lines, f->name, f->kind->separator, 0, 0);
    if (rc == FT_OK) rc = read_header(r, csv);
    data_csv_close(csv);
    lines_close(lines);
    return rc;
}

static ft_status open_records(reader *r, records *from)
{
    const data_file *f = file_of(r);
    *from = (records){0};
    FT_TRY(data_stream_file(&r->stream, &from->lines));
    int64_t byte = lines_offset(from->lines);
    from->first = byte == 0;
    if (f->kind->list) return data_list_open(&from->list, from->lines, f->name);
    if (!f->kind->separator) return FT_OK;
    if (byte && !f->header) FT_TRY(read_header_alone(r));
    FT_TRY(data_csv_open(&from->csv, from->lines, f->name, f->kind->separator, byte,
                         lines_number(from->lines)));
    return byte ? FT_OK : read_header(r, from->csv);
}

static int64_t bytes_read(const records *from)
{
    return from->csv    ? data_csv_offset(from->csv)
           : from->list ? data_list_offset(from->list)
                        : lines_offset(from->lines);
}

/* data_records: a record is handed over as it stands. */
static ft_status hand_over(reader *r, const js_doc *doc, const cJSON *rec, int64_t line)
{
    const data_format as_it_is = {.json = r->d->each_json};
    data_item it = {.d = r->d,
                    .src = r->src,
                    .format = &as_it_is,
                    .file = file_of(r),
                    .name = file_of(r)->name,
                    .line = line,
                    .doc = doc,
                    .rec = rec};
    ft_status rc = FT_OK;
    if (!cJSON_IsObject(rec)) return js_fail(doc, rec, FT_EDATA, NULL, "must be an object");
    if (it.file->kind->separator) rc = data_csv_reach(r->src, doc);
    if (rc == FT_OK && it.file->kind->separator) rc = data_csv_values(&it);
    if (rc == FT_OK) rc = data_view_open(&it);
    if (rc == FT_OK) rc = r->d->each(r->d->each_ctx, doc, it.rec, line);
    data_view_close(&it);
    return rc;
}

static ft_status hand_over_text(reader *r, const record *x)
{
    js_doc doc = {0};
    const data_file *f = file_of(r);
    FT_TRY(parse_record(f, x->text, x->len, x->line, x->col, &doc));
    ft_status rc = hand_over(r, &doc, doc.root, x->line);
    js_close(&doc);
    return rc;
}

static ft_status read_record(reader *r, const record *x)
{
    int64_t index = r->records++;
    if (r->d->each && r->what == DATA_READ)
        return data_is_picked(&r->src->pick, index) ? hand_over_text(r, x) : FT_OK;
    bool look = r->what != DATA_COUNT && !r->src->format && index >= r->src->pick.from;
    if (look) FT_TRY(detect(r, x));
    if (r->what != DATA_READ || !data_is_picked(&r->src->pick, index)) return FT_OK;
    const bool alone = x->len > DATA_LINES_BYTES; /* not copied: it stays where it was read to */
    if (alone) FT_TRY(flush(r));
    data_item *it = new_item(r, x->line);
    it->len = x->len;
    it->col = x->col;
    it->mark = (data_mark){.file = r->stream.file,
                           .base = r->stream.base,
                           .byte = x->byte,
                           .line = x->before,
                           .records = index,
                           .begins = true};
    if (alone) it->text = x->text;
    r->at[r->n] = r->lines.len;
    if (!alone) str_add(&r->lines, x->text, x->len);
    FT_TRY(str_ok(&r->lines));
    r->unasked += x->len;
    r->n++; /* a record without its text is none */
    return alone || r->n == PORTION || r->lines.len > DATA_LINES_BYTES ? flush(r) : FT_OK;
}

/* What is unpacked to be held in memory may be far more than its file shows. */
static ft_status check_unpacked(const reader *r, const records *from, int64_t line)
{
    const data_stream *s = &r->stream;
    const bool text = r->src->format && data_format_is_text(r->src->format);
    if (r->d->each || s->only || (text && s->windows) || !lines_packed(from->lines)) return FT_OK;
    FT_CHECK(s->unpacked + bytes_read(from) <= r->d->max_unpacked, FT_EDATA,
             "%s:%lld: unpacked, the files of this set are more than %lld bytes to be held in "
             "memory; data.max_unpacked_bytes %s; raise it if the file is what you expect",
             file_of(r)->name, (long long)line, (long long)r->d->max_unpacked,
             r->d->unpacked_given ? "says no more"
                                  : "is a quarter of the memory that the system grants");
    return FT_OK;
}

/* A failure further on in the file, when what was read before it is still to be looked at. */
static ft_status fail_later(reader *r, ft_status rc)
{
    if (!r->n || rc == FT_ESIGNAL) return rc;
    char *later = ft_strdup(ft_error());
    ft_status earlier = flush(r);
    if (earlier == FT_OK && r->stream.done) ft_error_forget(); /* the window after has it */
    if (earlier != FT_OK || r->stream.done)
        rc = earlier;
    else
        rc = ft_fail_again(rc, later);
    ft_free(later);
    return rc;
}

static ft_status read_records(reader *r)
{
    records from;
    record x;
    ft_status rc = open_records(r, &from);
    while (rc == FT_OK && !enough(r)) {
        int64_t at = r->stream.base + bytes_read(&from);
        if (at > r->stream.until) { /* a window may be whole */
            r->stream.until = at + DATA_BEYOND;
            rc = flush(r);
            continue;
        }
        rc = next_record(r, &from, &x);
        if (rc == FT_OK) rc = check_unpacked(r, &from, x.line);
        if (rc == FT_OK) rc = read_record(r, &x);
        if (ft_stop_asked() != FT_OK)
            rc = ft_fail(ft_stop_asked(), "stopped while reading %s", file_of(r)->name);
    }
    if (rc == FT_END) rc = FT_OK;
    if (rc != FT_OK) rc = fail_later(r, rc); /* a failed record before it comes first */
    if (from.lines && lines_packed(from.lines)) r->stream.unpacked += bytes_read(&from);
    data_csv_close(from.csv);
    data_list_close(from.list);
    data_stream_file_close(&r->stream, from.lines);
    return rc;
}

/* --- .txt, and by the name of the file ------------------------------------------------------------------------ */
static ft_status read_txt(reader *r)
{
    if (!r->src->format) r->src->format = data_format_find("text");
    FT_CHECK(data_format_is_text(r->src->format), FT_EDATA,
             "%s: a text file holds documents, not %s records; use .jsonl", file_of(r)->name,
             r->src->format->name);
    if (r->what == DATA_LOOK) return FT_OK;
    FT_TRY(data_needs_tokenizer(r->d, file_of(r)->name, "text needs"));
    FT_TRY(flush(r));
    return data_read_txt(&r->stream, &r->records, r->what == DATA_COUNT);
}

static const data_kind kinds[] = {{".jsonl", read_records, .anywhere = true},
                                  {".ndjson", read_records, .anywhere = true},
                                  {".json", read_records, .list = true},
                                  {".csv", read_records, .anywhere = true, .separator = ','},
                                  {".tsv", read_records, .anywhere = true, .separator = '\t'},
                                  {".txt", read_txt, .anywhere = true, .txt = true},
                                  {".raw", read_txt, .anywhere = true, .txt = true}};

const data_kind *data_kind_of(const char *path)
{
    static const char *const packed[] = {".gz", ".zst"};
    size_t n = strlen(path);
    for (size_t i = 0; i < FT_COUNT_OF(packed); i++) {
        if (!str_ends(path, packed[i])) continue;
        n -= strlen(packed[i]);
        break;
    }
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++) {
        size_t k = strlen(kinds[i].end);
        if (n > k && !strncmp(path + n - k, kinds[i].end, k)) return &kinds[i];
    }
    return NULL;
}

data_holds data_holds_of(const char *path)
{
    const data_kind *k = data_kind_of(path);
    return !k ? DATA_HOLDS_OTHER : k->txt ? DATA_HOLDS_TEXT : DATA_HOLDS_RECORDS;
}

/* --- all files of a source -------------------------------------------------------------------------------------- */
static ft_status read_files(reader *r)
{
    data_stream *s = &r->stream;
    for (; s->file < r->src->n_files; s->file++, s->base += s->end) {
        s->end = 0;
        FT_TRY(file_of(r)->kind->read(r));
        if (enough(r) || s->file + 1 >= r->src->n_files) break;
    }
    return flush(r);
}

static ft_status read_as(data_set *d, data_source *src, data_stream *stream, data_read_what what)
{
    reader *r = ft_alloc(1, sizeof *r);
    if (!r) return FT_EMEM;
    r->d = d;
    r->src = src;
    r->what = what;
    r->stats = stream->stats;
    r->stream = *stream;
    r->stream.windows = true;
    r->stream.unpacked = d->unpacked;
    src->store.packed = !src->windowed;
    r->records = stream->only ? stream->only->from.records : 0;
    for (int i = 0; i < src->n_files; i++)
        r->stream.windows = r->stream.windows && src->file[i].kind->anywhere;
    ft_status rc = read_files(r);
    if (rc == FT_OK && what == DATA_READ && src->format && data_format_is_text(src->format))
        rc = data_stream_close(&r->stream);
    if (rc == FT_OK && r->unprinted.len)
        log_warn("%s: the chat template does not print its text; such turns, of %lld records, are "
                 "not in what is learned from",
                 r->unprinted.data, (long long)r->stats->unprinted);
    if (rc == FT_OK && what == DATA_COUNT) src->n_records = r->records;
    if (rc == FT_OK && what == DATA_READ && !stream->only) d->unpacked = r->stream.unpacked;
    str_free(&r->unprinted);
    for (int i = 0; i < r->n; i++) free_item(&r->item[i]);
    str_free(&r->lines);
    *stream = r->stream;
    ft_free(r);
    return rc;
}

ft_status data_read(data_set *d, data_source *src, data_stream *stream)
{
    return read_as(d, src, stream, DATA_READ);
}

static ft_status pass_over(data_set *d, data_source *src, data_read_what what)
{
    data_source_stats none = {0};
    data_stream stream;
    data_stream_open(&stream, d, src, &none, NULL);
    return read_as(d, src, &stream, what);
}

ft_status data_count_records(data_set *d, data_source *src)
{
    data_pick pick = src->pick;
    src->pick = (data_pick){.to = INT64_MAX};
    ft_status rc = pass_over(d, src, DATA_COUNT);
    src->pick = pick;
    return rc;
}

/* What is wrong with the first record is told by reading on. */
ft_status data_look_at_format(data_set *d, data_source *src)
{
    ft_status rc = pass_over(d, src, DATA_LOOK);
    if (rc != FT_EDATA) return rc;
    ft_error_clear();
    return FT_OK;
}
