/* report_run.c – what a training run left in its folder, finished or not, as curves, documents and lines. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report_private.h"

enum { JSON_LIMIT = 64 << 20, SERIES = 512 };

/* --- growing lists ------------------------------------------------------------------------------------------- */

static ft_status grow(void *list, int64_t n, int64_t *cap, size_t size)
{
    void **at = list;
    if (n < *cap) return FT_OK;
    int64_t more = *cap ? 2 * *cap : 16;
    void *p = ft_realloc(*at, (size_t)more, size);
    if (!p) return FT_EMEM;
    *at = p;
    *cap = more;
    return FT_OK;
}

const report_series *report_find(const report_run *r, const char *name)
{
    for (int i = 0; i < r->n_series; i++)
        if (strcmp(r->series[i].name, name) == 0) return &r->series[i];
    return NULL;
}

static ft_status series_of(report_run *r, const char *name, arena *mem, report_series **out)
{
    *out = (report_series *)report_find(r, name);
    if (*out) return FT_OK;
    FT_CHECK(r->n_series < SERIES, FT_EDATA, "%s: log.jsonl has more than %d keys",
             ft_shows(r->dir), SERIES);
    int64_t cap = r->cap_series;
    FT_TRY(grow(&r->series, r->n_series, &cap, sizeof *r->series));
    r->cap_series = (int)cap;
    const char *copy = arena_str(mem, name);
    if (!copy) return FT_EMEM;
    *out = &r->series[r->n_series++];
    **out = (report_series){.name = copy};
    return FT_OK;
}

static ft_status add_point(report_run *r, const char *name, double step, double value, arena *mem)
{
    report_series *s;
    FT_TRY(series_of(r, name, mem, &s));
    int64_t cap = s->cap;
    FT_TRY(grow(&s->step, s->n, &cap, sizeof *s->step));
    FT_TRY(grow(&s->value, s->n, &s->cap, sizeof *s->value));
    s->step[s->n] = step;
    s->value[s->n++] = value;
    return FT_OK;
}

int64_t report_shown(int64_t n)
{
    return n < REPORT_POINTS ? n : REPORT_POINTS;
}

int64_t report_pick(int64_t n, int64_t k)
{
    const int64_t shown = report_shown(n);
    return shown < 2 ? 0 : k * (n - 1) / (shown - 1);
}

/* --- the files ------------------------------------------------------------------------------------------------ */

/* Every number of a line beside its step is a point of the series of its key. */
static ft_status take_numbers(report_run *r, const js_doc *d, arena *mem)
{
    const cJSON *step = js_get(d->root, "step");
    if (!cJSON_IsNumber(step)) return js_fail(d, d->root, FT_EDATA, "step", "is no number");
    for (const cJSON *v = d->root->child; v; v = v->next)
        if (v != step && cJSON_IsNumber(v))
            FT_TRY(add_point(r, v->string, step->valuedouble, v->valuedouble, mem));
    return FT_OK;
}

static ft_status keep_line(report_doc **list, int64_t *n, int64_t *cap, js_doc *d, char *text)
{
    FT_TRY(grow(list, *n, cap, sizeof **list));
    (*list)[(*n)++] = (report_doc){*d, text};
    *d = (js_doc){0};
    return FT_OK;
}

/* One file of lines. kept NULL: its numbers become series. A run that is going on may be writing the last line. */
static ft_status read_lines(report_run *r, const char *name, report_doc **kept, int64_t *n,
                            int64_t *cap, arena *mem)
{
    const char *path = path_join(mem, r->dir, name), *line;
    char *text = NULL;
    size_t len = 0, end;
    int64_t number = 0;
    ft_status rc = FT_OK;
    if (!path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(text_read(&text, &len, path, (size_t)1 << 30));
    for (size_t at = 0; at < len && rc == FT_OK; at = end + 1) {
        line = text + at;
        const char *stop = memchr(line, '\n', len - at);
        end = stop ? (size_t)(stop - text) : len;
        number++;
        if (lines_blank(line, end - at)) continue;
        if (!stop) { /* written without its end: not yet, or never */
            r->cut = true;
            break;
        }
        js_doc d = {0};
        char *copy = ft_alloc(end - at + 1, 1);
        if (!copy) {
            rc = FT_EMEM;
            break;
        }
        memcpy(copy, line, end - at);
        rc = js_parse(&d, copy, end - at, path, number, JS_NO_POSITIONS, FT_EDATA);
        if (rc == FT_OK && !cJSON_IsObject(d.root))
            rc = js_fail(&d, d.root, FT_EDATA, NULL, "a line is an object");
        if (rc == FT_OK && kept) rc = keep_line(kept, n, cap, &d, copy);
        if (rc == FT_OK && !kept) rc = take_numbers(r, &d, mem);
        if (rc != FT_OK || !kept) {
            js_close(&d);
            ft_free(copy);
        }
    }
    ft_free(text);
    return rc;
}

static ft_status read_doc(report_run *r, const char *name, report_doc *out, arena *mem)
{
    const char *path = path_join(mem, r->dir, name);
    size_t len;
    if (!path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&out->text, &len, path, JSON_LIMIT));
    return js_parse(&out->doc, out->text, len, path, 1, JS_NO_POSITIONS, FT_EDATA);
}

ft_status report_run_look(const char *dir)
{
    path_kind kind;
    FT_TRY(path_look(dir, &kind));
    FT_CHECK(kind != PATH_FILE, FT_ENOINPUT,
             "%s: is a file; a report is of the folder that ft train writes into (output.dir)",
             ft_shows(dir));
    FT_CHECK(kind == PATH_FOLDER, FT_ENOINPUT, "%s: no such folder", ft_shows(dir));
    return FT_OK;
}

ft_status report_run_read(report_run *r, const char *dir, arena *mem)
{
    *r = (report_run){.dir = dir};
    FT_TRY(report_run_look(dir));
    FT_TRY(read_lines(r, "log.jsonl", NULL, NULL, NULL, mem));
    FT_TRY(read_lines(r, "time.jsonl", NULL, NULL, NULL, mem));
    FT_TRY(read_lines(r, "samples.jsonl", &r->sample, &r->n_sample, &r->cap_sample, mem));
    FT_TRY(read_lines(r, "merges.jsonl", &r->merge, &r->n_merge, &r->cap_merge, mem));
    FT_TRY(read_doc(r, "summary.json", &r->summary, mem));
    FT_TRY(read_doc(r, "config.resolved.json", &r->resolved, mem));
    FT_TRY(read_doc(r, "checkpoints/run.json", &r->begun, mem));
    r->config = r->resolved.doc.root ? r->resolved.doc.root : js_get(r->begun.doc.root, "config");
    FT_CHECK(r->n_series > 0 || r->summary.text, FT_ENOINPUT,
             "%s: no run of ft train: neither log.jsonl nor summary.json is there", ft_shows(dir));
    return FT_OK;
}

/* --- what they tell ------------------------------------------------------------------------------------------- */

/* Of a value that is logged at every step only: the steps between are not in the lines. */
static double sum_of(const report_series *s)
{
    double sum = 0;
    if (s->step[s->n - 1] != (double)s->n) return (double)NAN;
    for (int64_t i = 0; i < s->n; i++) sum += s->value[i];
    return sum;
}

static double most_of(const report_series *s)
{
    double most = s->value[0];
    for (int64_t i = 1; i < s->n; i++) most = fmax(most, s->value[i]);
    return most;
}

static double first_of(const report_series *s)
{
    return s->value[0];
}

static double last_of(const report_series *s)
{
    return s->value[s->n - 1];
}

static double steps_of(const report_series *s)
{
    return s->step[s->n - 1];
}

double report_told(const report_run *r, const char *key)
{
    static const struct {
        const char *key, *series;
        double (*of)(const report_series *s);
    } rows[] = {{"steps", "loss", steps_of},    {"first_loss", "loss", first_of},
                {"last_loss", "loss", last_of}, {"tokens", "tokens", sum_of},
                {"seconds", "seconds", sum_of}, {"peak_rss_bytes", "rss_bytes", most_of}};
    const cJSON *v = js_get(r->summary.doc.root, key);
    if (cJSON_IsNumber(v)) return v->valuedouble;
    if (r->summary.doc.root) return (double)NAN;
    if (strcmp(key, "tokens_per_s") == 0)
        return report_told(r, "tokens") / report_told(r, "seconds");
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        const report_series *s = report_find(r, rows[i].series);
        if (strcmp(key, rows[i].key) == 0 && s && s->n > 0) return rows[i].of(s);
    }
    return (double)NAN;
}

static void free_docs(report_doc *d, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        js_close(&d[i].doc);
        ft_free(d[i].text);
    }
}

void report_run_free(report_run *r)
{
    for (int i = 0; i < r->n_series; i++) {
        ft_free(r->series[i].step);
        ft_free(r->series[i].value);
    }
    ft_free(r->series);
    free_docs(&r->summary, 1);
    free_docs(&r->resolved, 1);
    free_docs(&r->begun, 1);
    free_docs(r->sample, r->n_sample);
    free_docs(r->merge, r->n_merge);
    ft_free(r->sample);
    ft_free(r->merge);
}
