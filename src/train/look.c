/* look.c – `ft data`: what a run would see of its data: counts, lengths, duplicates, the longest records, some samples with
 * their masks; and the samples as token ids, for a run that reads those. */
#include "train_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 5, BINS = 16, BAR = 40 };

typedef struct long_one {
    const char *path;
    int64_t line, tokens;
} long_one;

typedef struct look {
    const train_look_options *opt;
    data_set *set;
    int64_t *length; /* [n] of every sample before it is cut, rising once all are there */
    int64_t n;
    long_one longest[LONGEST];
    int n_longest;
    file_out *out;
} look;

/* --- every sample once ------------------------------------------------------------------------------------------ */

static void keep_longest(look *l, const data_sample *x, arena *mem)
{
    int at = l->n_longest;
    while (at > 0 && l->longest[at - 1].tokens < x->whole) at--;
    if (at == LONGEST) return;
    if (l->n_longest < LONGEST) l->n_longest++;
    memmove(&l->longest[at + 1], &l->longest[at],
            (size_t)(l->n_longest - at - 1) * sizeof *l->longest);
    l->longest[at] =
        (long_one){.path = arena_str(mem, x->path), .line = x->line, .tokens = x->whole};
}

static void write_list(str_buf *s, const char *key, const int32_t *v, int64_t n)
{
    str_printf(s, "\"%s\":[", key);
    for (int64_t i = 0; i < n; i++) str_printf(s, "%s%d", i ? "," : "", (int)v[i]);
    str_addc(s, ']');
}

static ft_status write_sample(look *l, const data_sample *x)
{
    str_buf s = {0};
    str_addc(&s, '{');
    write_list(&s, "input_ids", x->ids, x->len);
    str_addc(&s, ',');
    write_list(&s, "labels", x->labels, x->len);
    if (x->n_seq > 1) { /* documents of a row of text */
        str_addc(&s, ',');
        write_list(&s, "seq_lengths", x->seq_len, x->n_seq);
    }
    str_adds(&s, "}\n");
    ft_status rc = str_ok(&s);
    if (rc == FT_OK) rc = file_out_write(l->out, s.data, s.len);
    str_free(&s);
    return rc;
}

static ft_status walk(look *l, train_session *t)
{
    l->n = data_count(l->set);
    l->n_longest = 0;
    ft_free(l->length);
    l->length = ft_alloc((size_t)l->n + 1, sizeof *l->length);
    if (!l->length) return FT_EMEM;
    for (int64_t i = 0; i < l->n; i++) {
        data_sample x;
        size_t mark = arena_mark(t->batch);
        FT_TRY(train_stop());
        FT_TRY(data_get(l->set, i, &x, t->batch));
        l->length[i] = x.whole;
        keep_longest(l, &x, t->mem);
        if (l->out) FT_TRY(write_sample(l, &x));
        arena_reset(t->batch, mark);
    }
    return FT_OK;
}

/* --- lengths ---------------------------------------------------------------------------------------------------- */

static int rising(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Between the two nearest, as numpy. */
static double quantile(const look *l, double q)
{
    double at = q * (double)(l->n - 1);
    int64_t i = (int64_t)at, next = i + 1 < l->n ? i + 1 : i;
    return (double)l->length[i] + (at - (double)i) * (double)(l->length[next] - l->length[i]);
}

static double mean(const look *l)
{
    double sum = 0;
    for (int64_t i = 0; i < l->n; i++) sum += (double)l->length[i];
    return sum / (double)l->n;
}

/* 1, 2 or 5 times a power of ten, so that BINS of them hold all lengths. */
static int64_t bin_width(const look *l)
{
    static const int64_t steps[] = {1, 2, 5};
    const int64_t low = l->length[0], high = l->length[l->n - 1];
    for (int64_t ten = 1;; ten *= 10)
        for (size_t i = 0; i < FT_COUNT_OF(steps); i++) {
            int64_t w = steps[i] * ten;
            if (high / w - low / w < BINS) return w;
        }
}

typedef struct bin {
    int64_t from, to, count;
} bin;

static int make_bins(const look *l, bin out[BINS])
{
    const int64_t w = bin_width(l), first = l->length[0] / w;
    int n = (int)(l->length[l->n - 1] / w - first) + 1;
    for (int i = 0; i < n; i++) out[i] = (bin){.from = (first + i) * w, .to = (first + i + 1) * w};
    for (int64_t i = 0; i < l->n; i++) out[l->length[i] / w - first].count++;
    return n;
}

/* --- as JSON ------------------------------------------------------------------------------------------------------ */

typedef struct sums {
    int64_t records, samples, tokens, supervised;
} sums;

static sums add_up(const data_set *d)
{
    sums t = {0};
    for (int i = 0; i < data_sources(d); i++) {
        const data_source_stats *s = data_stats(d, i);
        t.records += s->records;
        t.samples += s->samples;
        t.tokens += s->tokens;
        t.supervised += s->supervised;
    }
    return t;
}

static double share_of(const data_source_stats *s, const sums *t)
{
    return t->tokens > 0 ? (double)s->tokens / (double)t->tokens : 0;
}

static void lengths_json(const look *l, cJSON *root)
{
    bin bins[BINS];
    const int n = make_bins(l, bins);
    cJSON *o = cJSON_AddObjectToObject(root, "lengths");
    cJSON_AddNumberToObject(o, "min", (double)l->length[0]);
    cJSON_AddNumberToObject(o, "median", quantile(l, 0.5));
    cJSON_AddNumberToObject(o, "mean", mean(l));
    cJSON_AddNumberToObject(o, "p95", quantile(l, 0.95));
    cJSON_AddNumberToObject(o, "max", (double)l->length[l->n - 1]);
    cJSON *list = cJSON_AddArrayToObject(o, "histogram");
    for (int i = 0; i < n; i++) {
        cJSON *b = cJSON_CreateObject();
        cJSON_AddNumberToObject(b, "from", (double)bins[i].from);
        cJSON_AddNumberToObject(b, "to", (double)bins[i].to);
        cJSON_AddNumberToObject(b, "count", (double)bins[i].count);
        cJSON_AddItemToArray(list, b);
    }
}

static ft_status json_report(const look *l, str_buf *out)
{
    const sums t = add_up(l->set);
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "sources");
    for (int i = 0; i < data_sources(l->set); i++) {
        cJSON *o = train_source_json(data_stats(l->set, i), data_tokens(l->set, i));
        cJSON_AddNumberToObject(o, "share", share_of(data_stats(l->set, i), &t));
        cJSON_AddItemToArray(list, o);
    }
    cJSON *o = cJSON_AddObjectToObject(root, "total");
    cJSON_AddNumberToObject(o, "records", (double)t.records);
    cJSON_AddNumberToObject(o, "samples", (double)t.samples);
    cJSON_AddNumberToObject(o, "tokens", (double)t.tokens);
    cJSON_AddNumberToObject(o, "supervised_tokens", (double)t.supervised);
    lengths_json(l, root);
    list = cJSON_AddArrayToObject(root, "longest");
    for (int i = 0; i < l->n_longest; i++) {
        o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "path", l->longest[i].path);
        cJSON_AddNumberToObject(o, "line", (double)l->longest[i].line);
        cJSON_AddNumberToObject(o, "tokens", (double)l->longest[i].tokens);
        cJSON_AddItemToArray(list, o);
    }
    list = cJSON_AddArrayToObject(root, "shown");
    for (int64_t i = 0; i < l->opt->samples && i < l->n; i++)
        cJSON_AddItemToArray(list, data_show_json(l->set, i));
    js_print(out, root, false);
    str_addc(out, '\n');
    cJSON_Delete(root);
    return str_ok(out);
}

/* --- for people --------------------------------------------------------------------------------------------------- */

static void text_lengths(const look *l, str_buf *out)
{
    bin bins[BINS];
    const int n = make_bins(l, bins);
    int64_t most = 1;
    for (int i = 0; i < n; i++) most = bins[i].count > most ? bins[i].count : most;
    str_printf(out,
               "\ntokens of a sample: %lld to %lld, median %.4g, mean %.4g, 95 %% up to %.4g\n",
               (long long)l->length[0], (long long)l->length[l->n - 1], quantile(l, 0.5), mean(l),
               quantile(l, 0.95));
    for (int i = 0; i < n; i++) {
        str_printf(out, "%8lld … %-8lld %8lld ", (long long)bins[i].from,
                   (long long)(bins[i].to - 1), (long long)bins[i].count);
        int bar = (int)((bins[i].count * BAR + most - 1) / most);
        for (int k = 0; k < bar; k++) str_adds(out, "█");
        str_addc(out, '\n');
    }
}

/* Line feeds and tabs stay; nothing else may move a cursor. */
static void add_text(str_buf *out, const char *text)
{
    for (size_t i = 0, n = strlen(text); i < n;) {
        int32_t cp;
        const size_t bytes = (size_t)utf8_next(text + i, n - i, &cp);
        if (utf8_unsafe(cp) && cp != '\n' && cp != '\t')
            str_adds(out, ft_show(text + i, bytes));
        else
            str_add(out, text + i, bytes);
        i += bytes;
    }
}

static bool ends_line(const str_buf *s)
{
    return s->len > 0 && s->data[s->len - 1] == '\n';
}

static ft_status text_sample(const look *l, int64_t i, str_buf *out)
{
    cJSON *o = data_show_json(l->set, i);
    if (!o) return ft_fail(FT_EMEM, "out of memory");
    str_printf(out, "\n%s:%.0f (%.0f tokens, %.0f supervised)\n",
               ft_shows(js_get(o, "path")->valuestring), js_get(o, "line")->valuedouble,
               js_get(o, "tokens")->valuedouble, js_get(o, "supervised_tokens")->valuedouble);
    const cJSON *s;
    cJSON_ArrayForEach(s, js_get(o, "segments"))
    {
        const bool learned = cJSON_IsTrue(js_get(s, "supervised"));
        const cJSON *side = js_get(s, "side");
        if (side) str_printf(out, "%s%s:\n", ends_line(out) ? "" : "\n", side->valuestring);
        if (learned) str_adds(out, l->opt->colour ? "\x1b[32m" : "⟦");
        add_text(out, js_get(s, "text")->valuestring);
        if (learned) str_adds(out, l->opt->colour ? "\x1b[0m" : "⟧");
    }
    if (!ends_line(out)) str_addc(out, '\n');
    cJSON_Delete(o);
    return FT_OK;
}

static ft_status text_report(const look *l, const char *part, str_buf *out)
{
    const sums t = add_up(l->set);
    train_sources_text(l->set, part, out);
    if (data_sources(l->set) > 1)
        for (int i = 0; i < data_sources(l->set); i++)
            str_printf(out, "share  %s: %.1f %% of the tokens\n",
                       ft_shows(data_stats(l->set, i)->name),
                       100 * share_of(data_stats(l->set, i), &t));
    str_printf(out, "total  %lld samples of %lld records, %lld tokens, %lld supervised\n",
               (long long)t.samples, (long long)t.records, (long long)t.tokens,
               (long long)t.supervised);
    text_lengths(l, out);
    str_adds(out, "\nlongest\n");
    for (int i = 0; i < l->n_longest; i++)
        str_printf(out, "%8lld tokens  %s:%lld\n", (long long)l->longest[i].tokens,
                   ft_shows(l->longest[i].path), (long long)l->longest[i].line);
    for (int64_t i = 0; i < l->opt->samples && i < l->n; i++) FT_TRY(text_sample(l, i, out));
    return str_ok(out);
}

/* --- the verb ------------------------------------------------------------------------------------------------------ */

/* What would be lost, or is not all there. */
static ft_status check_out(const look *l, const train_session *s)
{
    const char *path = l->opt->out;
    if (!path) return FT_OK;
    const io_input in[] = {{.what = "the config", .path = s->opt->config},
                           {.what = "the model", .path = s->cfg.model.path},
                           {.what = "the tokenizer", .path = s->cfg.model.tokenizer},
                           {.what = "the chat template", .path = s->cfg.data.chat_template}};
    FT_TRY(io_out_check(path, in, FT_COUNT_OF(in)));
    bool read;
    FT_TRY(data_reads_file(s->train, path, &read));
    if (!read && s->eval) FT_TRY(data_reads_file(s->eval, path, &read));
    FT_CHECK(!read, FT_EEXIST, "--out: %s is data that is read; choose another file",
             ft_shows(path));
    for (int i = 0; i < data_sources(l->set); i++)
        FT_CHECK(data_stats(l->set, i)->whole, FT_ECONFIG,
                 "--out: %s is a stream, of which only the first window was read; raise "
                 "data.window_tokens until it holds all of it",
                 ft_shows(data_stats(l->set, i)->path));
    return FT_OK;
}

static ft_status open_out(look *l, bool force)
{
    const char *path = l->opt->out;
    bool there;
    if (!path) return FT_OK;
    FT_CHECK(str_ends(path, ".jsonl"), FT_EUSAGE, "--out: \"%s\" must end in .jsonl",
             ft_shows(path));
    static const char *const heads[] = {"{\"input_ids\":", NULL};
    FT_TRY(io_out_file(path, heads, "what ft data --out writes"));
    FT_TRY(io_out_there(path, &there));
    FT_CHECK(force || !there, FT_EEXIST, "%s: exists already; --force writes over it",
             ft_shows(path));
    return file_out_open(&l->out, path);
}

/* Walks over the samples; with --out they are written. */
static ft_status write_out(look *l, train_session *s, bool force)
{
    FT_TRY(open_out(l, force));
    FT_TRY(walk(l, s));
    file_out *out = l->out;
    l->out = NULL;
    return out ? file_out_commit(out) : FT_OK;
}

static ft_status report(look *l, train_session *s, const train_options *opt, str_buf *result)
{
    const char *part = l->opt->eval ? "eval" : "train";
    FT_TRY(train_session_config(s, opt));
    s->any_data = !opt->config && s->cfg.objective == obj_at(0);
    FT_TRY(train_session_open(s, false, false));
    l->set = l->opt->eval ? s->eval : s->train;
    FT_CHECK(l->set, FT_EUSAGE, "--part eval: there is no data.eval and no data.eval_split");
    FT_TRY(check_out(l, s));
    ft_status rc;
    int tries = 0;
    do rc = write_out(l, s, opt->force);
    while (file_out_again(rc, &tries));
    FT_TRY(rc);
    qsort(l->length, (size_t)l->n, sizeof *l->length, rising);
    return opt->json ? json_report(l, result) : text_report(l, part, result);
}

ft_status train_look(const train_options *opt, const train_look_options *how, str_buf *result)
{
    train_session s;
    look l = {.opt = how};
    ft_status rc = report(&l, &s, opt, result);
    file_out_abort(l.out);
    ft_free(l.length);
    train_session_close(&s);
    return rc;
}
