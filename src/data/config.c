/* config.c – the "data" table of a config and its lists of sources. */
#include "data_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const source_shapes[] = {"path", "source", "list of sources", NULL};
static const char *const split_shapes[] = {"\"[from:to]\"", NULL};
static const char *const packing_shapes[] = {"false", "true", "\"concat\"", NULL};

static const char *const on_loss_names[] = {"error", "warn", "drop", NULL}; /* as data_on_loss */

/* The keys of ours that a source may take from others; the last two are of a turn. */
enum { TURN_ROLE = 14, TURN_CONTENT, COLUMNS };

typedef struct source_cfg {
    const char *path, *format, *name, *separator;
    double weight;
    int64_t limit;
    const cJSON *split;
    const char *column[COLUMNS];
    const cJSON *role[DATA_ROLES];
} source_cfg;

#define COLUMN(i, k)                                                                               \
    {                                                                                              \
        .key = k, .type = CFG_STR, .offset = (i) * sizeof(const char *),                           \
        .help = "key or dotted path of the record it is read from"                                 \
    }
static const cfg_field column_fields[] = {COLUMN(0, "prompt"),
                                          COLUMN(1, "completion"),
                                          COLUMN(2, "messages"),
                                          COLUMN(3, "conversations"),
                                          COLUMN(4, "text"),
                                          COLUMN(5, "instruction"),
                                          COLUMN(6, "input"),
                                          COLUMN(7, "output"),
                                          COLUMN(8, "system"),
                                          COLUMN(9, "tools"),
                                          COLUMN(10, "chosen"),
                                          COLUMN(11, "rejected"),
                                          COLUMN(12, "label"),
                                          COLUMN(13, "answer"),
                                          COLUMN(TURN_ROLE, "role"),
                                          COLUMN(TURN_CONTENT, "content"),
                                          CFG_END};
#undef COLUMN

static const cfg_field source_fields[] = {
    {"path", CFG_PATH, offsetof(source_cfg, path), .required = true,
     .help =
         "a .jsonl, .json (a list), .txt, .csv or .tsv file, each also .gz or .zst; a folder of "
         "them, a pattern (*, ?, […]), or - for JSON lines from standard input"},
    {"format", CFG_ENUM, offsetof(source_cfg, format), .def = "\"auto\"",
     .choices = data_format_names, .help = "form of the records"},
    {"weight", CFG_FLOAT, offsetof(source_cfg, weight), .low = 0, .high = 1e9, .low_open = true,
     .help = "share of the tokens of the mix (all sources have one, or none)"},
    {"limit", CFG_INT, offsetof(source_cfg, limit), .low = 1, .high = 9e15,
     .help = "use the first so many records only"},
    {"name", CFG_STR, offsetof(source_cfg, name),
     .help = "name in the log; default: the file's stem"},
    {"document_separator", CFG_STR, offsetof(source_cfg, separator),
     .help = "text between the documents of a .txt file"},
    {"split", CFG_JSON, offsetof(source_cfg, split), .choices = split_shapes,
     .help = "which of its records: in records or whole percents, negative from the end"},
    {"columns", CFG_TABLE, offsetof(source_cfg, column), .sub = column_fields,
     .help = "which key of the record is which of ours"},
    {"roles", CFG_TABLE, offsetof(source_cfg, role), .sub = data_role_fields,
     .help = "names of who speaks as system, user, assistant, tool"},
    CFG_END};

const cfg_field data_fields[] = {
    {"train", CFG_JSON, offsetof(data_cfg, train), .choices = source_shapes, .sub = source_fields,
     .help = "training data: \"path\", {\"path\", \"format\", \"columns\", \"roles\", \"split\", "
             "\"limit\", \"weight\", \"name\", \"document_separator\"}, or a list of them"},
    {"eval", CFG_JSON, offsetof(data_cfg, eval), .choices = source_shapes, .sub = source_fields,
     .help = "evaluation data, in the same forms; each source is logged by its name"},
    {"eval_split", CFG_FLOAT, offsetof(data_cfg, eval_split), .low = 0, .high = 9e15,
     .low_open = true,
     .help = "evaluation data held out of data.train, drawn by train.seed: a share of each source "
             "below 1, or a number of records of all together"},
    {"max_length", CFG_INT, offsetof(data_cfg, max_length), .def = "1024", .low = 2,
     .high = 1 << 24, .help = "longest sample in tokens; longer ones are cut at the end"},
    {"packing", CFG_JSON, offsetof(data_cfg, packing), .def = "false", .choices = packing_shapes,
     .help =
         "true: samples of a batch in one row, each for itself, as they are in any case (nothing "
         "is padded); \"concat\": rows of max_length joined without borders"},
    {"window_tokens", CFG_AUTO_INT, offsetof(data_cfg, window_tokens), .def = "\"auto\"", .low = 1,
     .high = 1 << 30,
     .help = "text is a stream, of which a window of so many tokens is in memory and shuffled; "
             "auto: only text of more than 2^24 tokens or 2^27 bytes, in windows of 2^22"},
    {"max_unpacked_bytes", CFG_AUTO_INT, offsetof(data_cfg, max_unpacked_bytes), .def = "\"auto\"",
     .low = 1, .high = 9e15,
     .help = "text of .gz and .zst files that is held in memory, at most, so that a small file "
             "cannot fill it; auto: a quarter of the memory that the system grants (a stream of "
             "text is not held)"},
    {"shuffle", CFG_BOOL, offsetof(data_cfg, shuffle), .def = "true",
     .help = "another order of the samples in every epoch (of a stream of text: inside each of its "
             "windows)"},
    {"completion_only_loss", CFG_BOOL, offsetof(data_cfg, completion_only_loss), .def = "true",
     .help = "train on completions, not on their prompts"},
    {"assistant_only_loss", CFG_BOOL, offsetof(data_cfg, assistant_only_loss), .def = "true",
     .help = "train on the turns of the assistant, not on the rest of a conversation"},
    {"chat_template", CFG_PATH, offsetof(data_cfg, chat_template), .choices = chat_names,
     .help = "in place of the model's: a name, or the path of a Jinja file"},
    {"on_loss", CFG_ENUM, offsetof(data_cfg, on_loss), .def = "\"error\"", .choices = on_loss_names,
     .help = "text of a turn that is learned, or tools, that the chat template does not print: an "
             "error, a warning, or the record is left out"},
    CFG_END};

static const char *stem(arena *mem, const char *path)
{
    static const char *const ends[] = {".gz", ".zst", ".jsonl", ".json", ".txt", ".csv", ".tsv"};
    size_t all = strlen(path);
    while (all > 1 && path[all - 1] == '/') all--; /* a folder */
    const char *copy = arena_strn(mem, path, all);
    if (!copy) return NULL;
    const char *base = path_base(copy);
    size_t n = strlen(base);
    if (data_is_input(path)) return "stdin";
    for (size_t i = 0; i < FT_COUNT_OF(ends); i++) {
        size_t k = strlen(ends[i]);
        if (n > k && !strncmp(base + n - k, ends[i], k)) n -= k;
    }
    return arena_strn(mem, base, n);
}

static ft_status read_columns(data_set *d, const char *const column[COLUMNS], const char *key,
                              data_source *out)
{
    const cJSON *node = js_get(out->node, "columns");
    for (int i = 0; i < COLUMNS; i++) {
        if (!column[i]) continue;
        const char *ours = column_fields[i].key, *path = arena_str(d->mem, column[i]);
        if (!path) return FT_EMEM;
        if (!*path) cfg_fail(d->cfg, js_get(node, ours), key, "columns.%s names no key", ours);
        if (i == TURN_ROLE)
            out->turn_role = path;
        else if (i == TURN_CONTENT)
            out->turn_content = path;
        else
            out->column[out->n_columns++] = (data_column){ours, path, false};
    }
    return FT_OK;
}

static ft_status read_one(data_set *d, const cJSON *node, const char *key, data_source *out)
{
    source_cfg c = {.format = "auto"};
    *out = (data_source){.node = node, .key = key, .n_records = -1};
    if (cJSON_IsString(node)) {
        c.path = cfg_path(d->cfg, node, node->valuestring);
        if (!node->valuestring[0]) cfg_fail(d->cfg, node, key, "the path is empty");
    } else if (cJSON_IsObject(node)) {
        FT_TRY(cfg_read(d->cfg, node, key, source_fields, &c, NULL));
    } else {
        cfg_fail(d->cfg, node, key, "a source is a path or an object with \"path\"");
        return FT_OK;
    }
    if (!d->training && js_get(node, "weight")) {
        cfg_fail(d->cfg, js_get(node, "weight"), key,
                 "weights mix training sources; evaluation reads every "
                 "source whole");
    }
    if (c.separator && !*c.separator) {
        cfg_fail(d->cfg, js_get(node, "document_separator"), key, "document_separator is empty");
    }
    if (c.split) data_range_parse(d, c.split, key, &out->split);
    if (!c.path) return FT_OK; /* recorded above */
    if (data_reads_input(node)) c.path = "-";
    out->path = arena_str(d->mem, c.path);
    out->format_name = c.format;
    out->format = strcmp(c.format, "auto") != 0 ? data_format_find(c.format) : NULL;
    out->weight = js_get(node, "weight") ? c.weight : 0;
    out->limit = js_get(node, "limit") ? c.limit : 0;
    if (d->limit && (!out->limit || d->limit < out->limit)) out->limit = d->limit;
    out->separator = c.separator ? arena_str(d->mem, c.separator) : NULL;
    out->named = c.name != NULL;
    out->name = c.name ? arena_str(d->mem, c.name) : stem(d->mem, c.path);
    FT_TRY(read_columns(d, c.column, key, out));
    FT_TRY(data_speakers(d, out, c.role, key));
    return out->path && out->name && (!c.separator || out->separator) ? FT_OK : FT_EMEM;
}

/* Names are keys of the log: a given name must be unique, a stem gets a number. */
static ft_status unique_names(data_set *d, const char *key)
{
    for (int i = 0; i < d->n_sources; i++) {
        data_source *s = &d->source[i];
        const char *base = s->name;
        for (int j = 0, copy = 2; base && j < d->n_sources; j++) {
            const data_source *o = &d->source[j];
            if (j == i || !o->name || (j > i && !o->named) || strcmp(o->name, s->name) != 0)
                continue;
            if (s->named) {
                if (j < i && o->named)
                    cfg_fail(d->cfg, s->node, key, "two sources are named \"%s\"",
                             ft_shows(s->name));
                continue;
            }
            s->name = arena_printf(d->mem, "%s-%d", base, copy++);
            if (!s->name) return FT_EMEM;
            j = -1;
        }
    }
    return FT_OK;
}

static void check_weights(data_set *d, const char *key)
{
    double sum = 0;
    int with = 0;
    for (int i = 0; i < d->n_sources; i++) {
        sum += d->source[i].weight;
        with += d->source[i].weight > 0;
    }
    d->weighted = with > 0 && d->n_sources > 1;
    for (int i = 0; i < d->n_sources; i++) {
        if (with && !js_get(d->source[i].node, "weight")) {
            cfg_fail(d->cfg, d->source[i].node, key,
                     "this source has no weight but another one has; give every source a weight, "
                     "or none");
        }
        d->source[i].weight = d->weighted ? d->source[i].weight / sum : 0;
    }
}

static ft_status read_sources(data_set *d, const cJSON *sources)
{
    const char *key = d->key;
    int n = cJSON_IsArray(sources) ? cJSON_GetArraySize(sources) : 1;
    const cJSON *node = cJSON_IsArray(sources) ? sources->child : sources;
    if (!sources || !n) {
        cfg_fail(d->cfg, sources, key, "names no source");
        return FT_OK;
    }
    d->source = arena_get(d->mem, (size_t)n * sizeof *d->source);
    if (!d->source) return FT_EMEM;
    d->n_sources = n;
    for (int i = 0; i < n; i++, node = node->next) FT_TRY(read_one(d, node, key, &d->source[i]));
    if (data_reads_input(sources) > 1)
        cfg_fail(d->cfg, sources, key, "standard input (\"-\") can be one source only");
    FT_TRY(unique_names(d, key));
    check_weights(d, key);
    return FT_OK;
}

void data_source_text(str_buf *out, const char *word)
{
    if (*word == '{')
        str_adds(out, word);
    else
        str_json(out, word, strlen(word));
}

int data_reads_input(const cJSON *sources)
{
    const cJSON *path = cJSON_IsObject(sources) ? js_get(sources, "path") : sources, *each;
    int n = cJSON_IsString(path) && data_is_input(path->valuestring);
    if (cJSON_IsArray(sources)) cJSON_ArrayForEach(each, sources) n += data_reads_input(each);
    return n;
}

static ft_status set_options(data_set *d, const data_cfg *opt)
{
    const cJSON *p = opt->packing;
    d->max_length = opt->max_length;
    d->tokenizer_key = opt->tokenizer_key;
    d->key = opt->key ? opt->key : d->training ? "data.train" : "data.eval";
    d->limit = opt->limit;
    d->ids = opt->ids;
    d->uncut = opt->uncut;
    d->plain = opt->plain;
    d->vocab_size = opt->vocab_size || !d->tok ? opt->vocab_size : tok_size(d->tok);
    d->completion_only = opt->completion_only_loss;
    d->wants = opt->wants;
    d->assistant_only = opt->assistant_only_loss;
    d->shuffle = opt->shuffle;
    d->count_first = opt->count_first;
    d->window_tokens = opt->window_tokens;
    d->count = opt->count;
    d->look = opt->look;
    while (opt->on_loss && strcmp(on_loss_names[d->on_loss], opt->on_loss) != 0) d->on_loss++;
    d->unpacked_given = opt->max_unpacked_bytes > 0;
    d->max_unpacked = opt->max_unpacked_bytes;
    if (!d->unpacked_given) d->max_unpacked = (int64_t)(ft_memory_limit(NULL) / 4);
    d->hold_out = d->training && opt->eval_split > 0 ? opt->eval_split : 0;
    d->seed = opt->seed;
    if (d->hold_out >= 1 && d->hold_out != floor(d->hold_out))
        cfg_fail(d->cfg, NULL, "data.eval_split",
                 "%g is neither a share below 1 nor a whole number of records", d->hold_out);
    d->concat = cJSON_IsString(p) && !strcmp(p->valuestring, "concat");
    if (p && !cJSON_IsNull(p) && !cJSON_IsBool(p) && !d->concat)
        cfg_fail(d->cfg, p, "data.packing", "is false, true or \"concat\"");
    return FT_OK;
}

static ft_status read_all(data_set *d)
{
    for (int i = 0; i < d->n_sources; i++) {
        data_source *s = &d->source[i];
        s->stats.name = s->name;
        s->stats.path = s->path;
        s->stats.files = s->n_files;
        s->stats.weight = s->weight;
        s->stats.first = i ? s[-1].stats.first + s[-1].stats.samples : 0;
        FT_TRY(data_read_source(d, s));
        if (!s->windowed || s->stats.whole) {
            s->stats.whole = true;
            s->stats.share = 1;
            s->estimated_tokens = (double)s->stats.tokens;
            s->estimated_samples = s->stats.samples;
        }
        s->stats.format = s->format ? s->format->name : s->format_name;
        s->stats.gives = s->format ? (data_gives)s->format->gives : DATA_TOKENS;
        const char *path = s->n_files == 1 ? s->file[0].name : s->path;
        FT_CHECK(s->stats.same < s->stats.records || !s->stats.same, FT_EDATA,
                 "%s: chosen is equal to rejected in every record: there is nothing to prefer",
                 path);
        FT_CHECK(s->stats.samples || !s->stats.lost, FT_EDATA,
                 "%s: no sample is left: the chat template does not print what would be learned "
                 "(data.on_loss \"drop\")",
                 path);
        const int64_t room = s->stats.gives == DATA_PROMPTS; /* for an answer */
        const bool pairs = !d->plain && !d->count_first;
        FT_CHECK(s->stats.samples || !s->stats.records || s->stats.longest + room > d->max_length,
                 FT_EDATA,
                 "%s: no sample is left: there is nothing to learn from in %lld records%s; the "
                 "longest is of %lld tokens",
                 path, (long long)s->stats.records,
                 pairs ? " (a text needs two tokens, a conversation an answer)" : "",
                 (long long)s->stats.longest);
        FT_CHECK(s->stats.samples || !s->stats.records || !d->uncut, FT_EDATA,
                 "%s: no sample is left: every record has a sequence of more than max_length %lld "
                 "tokens; raise data.max_length",
                 path, (long long)d->max_length);
        FT_CHECK(
            s->stats.samples || !s->stats.records, FT_EDATA,
            "%s: no sample is left: cutting at max_length %lld removed every supervised token of "
            "all %lld; raise data.max_length",
            path, (long long)d->max_length, (long long)s->stats.records);
        FT_CHECK(s->stats.records, FT_EDATA, "%s: holds no records", path);
    }
    return FT_OK;
}

/* Sources of which nothing is left, or nothing was held out, take no part. */
static void leave_out_empty(data_set *d)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < d->n_sources; i++) {
        const data_source *s = &d->source[i];
        int64_t held = s->held, rest = s->pick.to - s->pick.from - held;
        if (!(s->pick.rest ? held : rest)) {
            log_info("%s: data.eval_split leaves no record of it to %s", ft_shows(s->name),
                     s->pick.rest ? "evaluate on" : "train on");
            continue;
        }
        sum += s->weight;
        d->source[n++] = *s;
    }
    d->n_sources = n;
    for (int i = 0; i < n; i++) {
        d->source[i].index = i;
        if (d->weighted) d->source[i].weight /= sum;
    }
    d->weighted = d->weighted && n > 1;
}

/* Which records there are, before any of them is read. */
static ft_status find_records(data_set *d)
{
    for (int i = 0; i < d->n_sources; i++) {
        d->source[i].index = i;
        FT_TRY(data_files(d, &d->source[i]));
        FT_TRY(data_pick_records(d, &d->source[i]));
    }
    if (d->hold_out == 0) return FT_OK;
    FT_TRY(data_hold_out(d));
    data_source *all = arena_get(d->mem, (size_t)d->n_sources * sizeof *all);
    if (!all) return FT_EMEM;
    memcpy(all, d->source, (size_t)d->n_sources * sizeof *all);
    d->all = all;
    d->n_all = d->n_sources;
    leave_out_empty(d);
    return FT_OK;
}

static ft_status new_set(data_set **out, cfg_doc *cfg, const data_cfg *opt,
                         const tok_tokenizer *tok, const chat *tpl, bool training)
{
    data_set *d = *out = ft_alloc(1, sizeof *d);
    if (!d) return FT_EMEM;
    d->tok = tok;
    d->chat = tpl;
    d->cfg = cfg;
    d->training = training;
    d->order.epoch = -1;
    FT_TRY(arena_open(&d->mem, "data sources", 64u << 20));
    return set_options(d, opt);
}

/* Takes over `d` where all is well. */
static ft_status finish(data_set **out, data_set *d)
{
    FT_TRY(read_all(d));
    data_seen_close(&d->seen);
    *out = d;
    return FT_OK;
}

ft_status data_open(data_set **out, cfg_doc *cfg, const cJSON *sources, const data_cfg *opt,
                    const tok_tokenizer *tok, const chat *tpl, bool training)
{
    data_set *d = NULL;
    *out = NULL;
    ft_status rc = new_set(&d, cfg, opt, tok, tpl, training);
    if (rc == FT_OK) rc = read_sources(d, sources);
    if (rc == FT_OK) rc = cfg_done(cfg);
    if (rc == FT_OK) rc = find_records(d);
    if (rc == FT_OK) rc = finish(out, d);
    if (rc != FT_OK) data_close(d);
    return rc;
}

ft_status data_open_held(data_set **out, const data_set *train, const data_cfg *opt)
{
    data_set *d = NULL;
    *out = NULL;
    ft_status rc = new_set(&d, train->cfg, opt, train->tok, train->chat, false);
    data_source *s = rc == FT_OK ? arena_get(d->mem, (size_t)train->n_all * sizeof *s) : NULL;
    if (rc == FT_OK && !s) rc = FT_EMEM;
    if (rc == FT_OK) {
        d->source = s;
        d->n_sources = train->n_all;
        memcpy(s, train->all, (size_t)train->n_all * sizeof *s);
        for (int i = 0; i < d->n_sources; i++) {
            s[i].pick.rest = true;
            s[i].weight = 0;
        }
        leave_out_empty(d);
        rc = finish(out, d);
    }
    if (rc != FT_OK) data_close(d);
    return rc;
}

ft_status data_names(cfg_doc *cfg, const cJSON *sources, const char *key, arena *mem,
                     const char *const **names, int *n)
{
    data_set d = {.cfg = cfg, .key = key, .mem = mem};
    *n = 0;
    FT_TRY(read_sources(&d, sources));
    const char **list = arena_get(mem, (size_t)(d.n_sources + 1) * sizeof *list);
    if (!list) return FT_EMEM;
    for (int i = 0; i < d.n_sources; i++) list[i] = d.source[i].name;
    *names = list;
    *n = d.n_sources;
    return FT_OK;
}

static void refuse_keys(data_set *d)
{
    static const char *const keys[] = {"format", "roles", "document_separator"};
    for (int i = 0; i < d->n_sources; i++)
        for (size_t k = 0; k < FT_COUNT_OF(keys); k++) {
            const cJSON *node = js_get(d->source[i].node, keys[k]);
            if (cJSON_IsObject(d->source[i].node) && node)
                cfg_fail(d->cfg, node, d->key, "%s is of data that is learned, not of records",
                         keys[k]);
        }
}

static ft_status each_of(data_set *d, data_source *s)
{
    data_stream stream;
    for (int i = 0; i < s->n_files; i++)
        FT_CHECK(!s->file[i].kind->txt, FT_EDATA, "%s: a text file holds no records; use .jsonl",
                 s->file[i].name);
    data_stream_open(&stream, d, s, &s->stats, NULL);
    return data_read(d, s, &stream);
}

ft_status data_records(cfg_doc *cfg, const cJSON *sources, const char *key, const char *const *json,
                       int64_t limit, data_record each, void *ctx)
{
    data_set *d = NULL;
    const data_cfg opt = {.key = key, .limit = limit, .window_tokens = CFG_AUTO, .max_length = 2};
    ft_status rc = new_set(&d, cfg, &opt, NULL, NULL, false);
    if (rc == FT_OK) rc = read_sources(d, sources);
    if (rc == FT_OK) refuse_keys(d);
    if (rc == FT_OK) rc = cfg_done(cfg);
    if (rc == FT_OK) rc = find_records(d);
    if (rc == FT_OK) {
        d->each = each;
        d->each_ctx = ctx;
        d->each_json = json;
    }
    for (int i = 0; rc == FT_OK && i < d->n_sources; i++) rc = each_of(d, &d->source[i]);
    data_close(d);
    return rc;
}

void data_close(data_set *d)
{
    if (!d) return;
    data_order_close(d);
    data_count_close(d);
    for (int i = 0; i < d->n_sources; i++) {
        data_store_close(&d->source[i].store);
        data_window_close(&d->source[i]);
    }
    if (d->input) close(d->input - 1);
    for (int64_t i = 0; i < d->n_watch; i++) file_watch_close(d->watch[i]);
    ft_free(d->watch);
    arena_close(d->held_mem);
    arena_close(d->mem);
    ft_free(d);
}
