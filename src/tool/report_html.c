/* report_html.c – runs as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.
 *
 * Curves are SVG polylines on linear axes; each says in data-run and data-series what it is, and in data-x and data-y which
 * values the ends of its box stand for. Colours are variables with a light and a dark set. All that comes from the runs is
 * text (put_text). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report_private.h"

/* The box of a chart, inside the margins of its labels. */
enum {
    WIDTH = 720,
    HEIGHT = 260,
    LEFT = 66,
    RIGHT = 12,
    TOP = 10,
    BOTTOM = 30,
    COLOURS = 8,
    MARKED = 60,
    RULES = 16 /* of one axis, at most; there are five to eight */
};

static const char head[] =
    "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>ft report</title>\n<style>\n"
    ":root{color-scheme:light "
    "dark;--paper:#fff;--ink:#1c2024;--dim:#60646c;--line:#d9dce1;--soft:#f3f4f6;"
    "--c0:#2563c9;--c1:#c2410c;--c2:#15803d;--c3:#a21caf;--c4:#0e7490;--c5:#a16207;--c6:#be123c;--"
    "c7:#4338ca}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#14161a;--ink:#e7e9ec;--dim:#9aa1ab;--line:#"
    "343941;"
    "--soft:#1d2026;--c0:#7fb0ff;--c1:#ff9d66;--c2:#6fd38e;--c3:#e39bf0;--c4:#5fcfe3;--c5:#e2bd5b;-"
    "-c6:#ff8fa3;"
    "--c7:#a9a5ff}}\n"
    "body{margin:0 auto;max-width:1120px;padding:1.5rem;background:var(--paper);color:var(--ink);"
    "font:15px/1.45 system-ui,sans-serif}\n"
    "h1{font-size:1.5rem;margin:0 0 1rem}h2{font-size:1.1rem;margin:2rem 0 .6rem}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:1."
    "2rem}\n"
    "figure{margin:0;min-width:0}figcaption{font-weight:600;margin-bottom:.2rem}\n"
    "svg{display:block;width:100%;height:auto}svg text{fill:var(--dim);font-size:12px}\n"
    ".rule{stroke:var(--line);stroke-width:1}polyline{fill:none;stroke-width:1.8;stroke-linejoin:"
    "round}\n"
    ".key{display:flex;flex-wrap:wrap;gap:.1rem 1rem;color:var(--dim);font-size:.85rem}\n"
    ".key i{display:inline-block;width:1.4em;border-top:3px "
    "solid;vertical-align:middle;margin-right:.4em}\n"
    ".key .d1{border-top-style:dashed}.key .d2{border-top-style:dotted}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem}\n"
    "th,td{text-align:left;vertical-align:top;padding:.25rem .7rem .25rem 0;border-bottom:1px "
    "solid var(--line)}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.differs{background:var(--soft)"
    "}\n"
    "td pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:inherit}\n"
    "code,.path{overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:.92em}\n"
    "details{margin:.6rem 0}summary{cursor:pointer;color:var(--dim)}\n</style>\n</head>\n<body>\n";

/* --- text and numbers ------------------------------------------------------------------------------------------- */

/* Text as text: markup, quotes, control characters and what is no UTF-8 never reach the page as such. */
static void put_text(str_buf *s, const char *text)
{
    size_t n = strlen(text);
    for (size_t at = 0; at < n;) {
        int32_t c;
        const size_t used = (size_t)utf8_next(text + at, n - at, &c);
        const char *name = c == '&'    ? "&amp;"
                           : c == '<'  ? "&lt;"
                           : c == '>'  ? "&gt;"
                           : c == '"'  ? "&quot;"
                           : c == '\'' ? "&#39;"
                                       : NULL;
        const bool plain = c >= 32 ? c < 127 || c >= 160 : c == '\n' || c == '\t';
        if (name)
            str_adds(s, name);
        else if (!plain)
            str_adds(s, "\xEF\xBF\xBD");
        else
            str_add(s, text + at, used);
        at += used;
    }
}

static void put_number(str_buf *s, double v)
{
    if (isfinite(v))
        str_printf(s, "%.9g", v);
    else
        str_adds(s, "–");
}

/* The text of a JSON value: strings without quotes. */
static void put_value(str_buf *s, const cJSON *v)
{
    str_buf text = {0};
    if (cJSON_IsString(v)) {
        put_text(s, v->valuestring);
        return;
    }
    if (v) js_print(&text, v, false);
    if (text.data) put_text(s, text.data);
    if (text.failed) s->failed = true;
    str_free(&text);
}

static void put_bytes(str_buf *s, double v)
{
    if (isfinite(v))
        str_printf(s, "%.1f MiB", v / 1048576);
    else
        put_number(s, v);
}

/* --- charts -------------------------------------------------------------------------------------------------------- */

typedef struct curve {
    const report_series *of;
    const char *run;
    int colour, dash;
} curve;

typedef struct axes {
    double x0, x1, y0, y1;
} axes;

static double place_x(const axes *a, double x)
{
    return LEFT + (x - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const axes *a, double y)
{
    return HEIGHT - BOTTOM - (y - a->y0) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

static axes axes_of(const curve *c, int n)
{
    axes a = {HUGE_VAL, -HUGE_VAL, HUGE_VAL, -HUGE_VAL};
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < c[i].of->n; k++) {
            const double x = c[i].of->step[k], y = c[i].of->value[k];
            if (!isfinite(x) || !isfinite(y)) continue;
            a.x0 = fmin(a.x0, x), a.x1 = fmax(a.x1, x);
            a.y0 = fmin(a.y0, y), a.y1 = fmax(a.y1, y);
        }
    if (!(a.x0 <= a.x1)) a = (axes){0, 1, 0, 1};
    if (a.x0 == a.x1) a.x0 -= 0.5, a.x1 += 0.5;
    if (a.y0 == a.y1) {
        const double half = a.y0 != 0 ? fabs(a.y0) / 2 : 0.5;
        a.y0 -= half, a.y1 += half;
    }
    /* more than a number holds is no range */
    if (!isfinite(a.y1 - a.y0) || !isfinite(a.x1 - a.x0)) a = (axes){0, 1, 0, 1};
    return a;
}

/* 1, 2 or 5 times a power of ten, so that a range has some five of it. */
static double round_step(double range)
{
    const double raw = range / 5, ten = pow(10, floor(log10(raw))), m = raw / ten;
    return ten * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

static void put_rules(str_buf *s, const axes *a)
{
    const double dy = round_step(a->y1 - a->y0), dx = fmax(round_step(a->x1 - a->x0), 1);
    for (int k = 0; k < RULES; k++) {
        const double y = (ceil(a->y0 / dy) + k) * dy;
        if (!(y <= a->y1 + dy * 1e-9)) break;
        const double at = place_y(a, y);
        str_printf(s, "<line class=\"rule\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
                   WIDTH - RIGHT, at, at);
        str_printf(s, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", LEFT - 6,
                   at + 4, fabs(y) < dy * 1e-6 ? 0.0 : y);
    }
    for (int k = 0; k < RULES; k++) {
        const double x = (ceil(a->x0 / dx) + k) * dx;
        if (!(x <= a->x1 + dx * 1e-9)) break;
        str_printf(s, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.9g</text>\n",
                   place_x(a, x), HEIGHT - BOTTOM + 18, x);
    }
}

static void put_curve(str_buf *s, const axes *a, const curve *c)
{
    static const char *const dash[] = {"", " stroke-dasharray=\"7 4\"",
                                       " stroke-dasharray=\"2 3\""};
    const int64_t shown = report_shown(c->of->n);
    str_adds(s, "<polyline data-run=\"");
    put_text(s, c->run);
    str_adds(s, "\" data-series=\"");
    put_text(s, c->of->name);
    str_printf(s, "\" data-x=\"%.9g %.9g\" data-y=\"%.9g %.9g\" stroke=\"var(--c%d)\"%s points=\"",
               a->x0, a->x1, a->y0, a->y1, c->colour, dash[c->dash]);
    for (int64_t k = 0; k < shown; k++) {
        const int64_t i = report_pick(c->of->n, k);
        if (!isfinite(c->of->step[i]) || !isfinite(c->of->value[i])) continue;
        str_printf(s, k ? " %.2f,%.2f" : "%.2f,%.2f", place_x(a, c->of->step[i]),
                   place_y(a, c->of->value[i]));
    }
    str_adds(s, "\"/>\n");
    for (int64_t k = 0; shown <= MARKED && k < shown; k++) {
        const int64_t i = report_pick(c->of->n, k);
        if (!isfinite(c->of->step[i]) || !isfinite(c->of->value[i])) continue;
        str_printf(s, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"2.5\" fill=\"var(--c%d)\"/>",
                   place_x(a, c->of->step[i]), place_y(a, c->of->value[i]), c->colour);
    }
}

static void put_chart(str_buf *s, const char *title, const curve *c, int n)
{
    const axes a = axes_of(c, n);
    str_adds(s, "<figure><figcaption>");
    put_text(s, title);
    str_printf(s, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH,
               HEIGHT);
    put_text(s, title);
    str_adds(s, " by step\">\n");
    put_rules(s, &a);
    for (int i = 0; i < n; i++) put_curve(s, &a, &c[i]);
    str_adds(s, "</svg>\n<div class=\"key\">");
    for (int i = 0; i < n; i++) {
        str_printf(s, "<span><i class=\"d%d\" style=\"color:var(--c%d)\"></i>", c[i].dash,
                   c[i].colour);
        put_text(s, c[i].of->name);
        str_adds(s, " · ");
        put_text(s, c[i].run);
        str_adds(s, ": ");
        put_number(s, c[i].of->value[c[i].of->n - 1]);
        str_adds(s, "</span>");
    }
    str_adds(s, "</div></figure>\n");
}

/* Counters that only grow, or stand in the tables. */
static bool drawn(const char *name)
{
    static const char *const left_out[] = {"epoch", "tokens", "supervised_tokens", "seconds",
                                           "rss_bytes"};
    for (size_t i = 0; i < FT_COUNT_OF(left_out); i++)
        if (strcmp(name, left_out[i]) == 0) return false;
    return !str_starts(name, "eval_tokens");
}

/* Series of one unit that are read against each other. */
static const struct shared {
    const char *title, *name[4];
} shared[] = {
    {"rewards of both answers", {"rewards/chosen", "rewards/rejected"}},
    {"log-probabilities of both answers", {"logps/chosen", "logps/rejected"}},
    {"rewards", {"min_reward", "mean_reward", "max_reward"}},
    {"share of clipped ratios",
     {"clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"}},
};

/* An evaluation's name of a metric is the metric's, but for the losses. */
static const char *plain(const char *name)
{
    return str_starts(name, "eval_") && !str_starts(name, "eval_loss") ? name + 5 : name;
}

static const char *title_of(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(shared); i++)
        for (size_t k = 0; k < FT_COUNT_OF(shared[i].name) && shared[i].name[k]; k++)
            if (strcmp(shared[i].name[k], plain(name)) == 0) return shared[i].title;
    return plain(name);
}

/* On one chart: the losses of the evaluations, a metric in training and in evaluations, what shares a title. */
static bool together(const char *a, const char *b)
{
    return strcmp(title_of(a), title_of(b)) == 0 ||
           (str_starts(a, "eval_loss") && str_starts(b, "eval_loss"));
}

/* What a metric's name begins with, up to the slash: "" for those that have none. */
static size_t group_of(const char *name)
{
    const char *slash = strchr(plain(name), '/');
    return slash ? (size_t)(slash - plain(name)) : 0;
}

static bool same_group(const char *a, const char *b)
{
    return group_of(a) == group_of(b) && strncmp(plain(a), plain(b), group_of(a)) == 0;
}

static int curves_like(curve *c, const report_run *run, int n, const char *name)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        int dash = 0;
        for (int k = 0; k < run[i].n_series; k++) {
            const report_series *of = &run[i].series[k];
            if (!drawn(of->name) || !together(of->name, name) || of->n == 0) continue;
            c[count++] = (curve){of, run[i].dir, i % COLOURS, dash++ % 3};
            if (n == 1) c[count - 1].colour = (count - 1) % COLOURS; /* one run: a colour a curve */
        }
    }
    return count;
}

static const char *const first_charts[] = {"loss", "eval_loss", "learning_rate", "grad_norm",
                                           "tokens_per_s"};

/* Is there a chart of its own for it, and is none that is `like` it before series k of run i? */
static bool is_first(const report_run *run, int i, int k, bool (*like)(const char *, const char *))
{
    const char *name = run[i].series[k].name;
    if (!drawn(name)) return false;
    for (size_t j = 0; j < FT_COUNT_OF(first_charts); j++)
        if (together(name, first_charts[j])) return false;
    for (int r = 0; r <= i; r++)
        for (int j = 0; j < (r < i ? run[r].n_series : k); j++)
            if (drawn(run[r].series[j].name) && like(run[r].series[j].name, name)) return false;
    return true;
}

static void put_group(str_buf *s, const report_run *run, int n, curve *c, const char *group)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < run[i].n_series; k++) {
            const char *name = run[i].series[k].name;
            if (same_group(name, group) && is_first(run, i, k, together))
                put_chart(s, title_of(name), c, curves_like(c, run, n, name));
        }
    str_adds(s, "</div>\n");
}

static void put_charts(str_buf *s, const report_run *run, int n)
{
    int all = 0;
    for (int i = 0; i < n; i++) all += run[i].n_series;
    curve *c = ft_alloc((size_t)all + 1, sizeof *c);
    if (!c) {
        s->failed = true;
        return;
    }
    str_adds(s, "<h2>Curves</h2>\n<div class=\"grid\">\n");
    for (size_t i = 0; i < FT_COUNT_OF(first_charts); i++) {
        const int count = curves_like(c, run, n, first_charts[i]);
        if (count > 0) put_chart(s, first_charts[i], c, count);
    }
    put_group(s, run, n, c, "");
    for (int i = 0; i < n; i++)
        for (int k = 0; k < run[i].n_series; k++) {
            const char *name = run[i].series[k].name;
            if (group_of(name) == 0 || !is_first(run, i, k, same_group)) continue;
            str_adds(s, "<h2>Curves: ");
            char *group = ft_strdup(plain(name));
            if (group) group[group_of(name)] = 0;
            if (group) put_text(s, group);
            ft_free(group);
            str_adds(s, "</h2>\n<div class=\"grid\">\n");
            put_group(s, run, n, c, name);
        }
    ft_free(c);
}

/* --- tables ----------------------------------------------------------------------------------------------------------- */

static void open_table(str_buf *s, const char *const *heads, int n)
{
    str_adds(s, "<div class=\"wide\"><table><tr>");
    for (int i = 0; i < n; i++) str_printf(s, "<th>%s</th>", heads[i]);
    str_adds(s, "</tr>\n");
}

static void close_table(str_buf *s)
{
    str_adds(s, "</table></div>\n");
}

static void put_run_cell(str_buf *s, const report_run *r, int i, int n)
{
    str_adds(s, "<td class=\"path\">");
    if (n > 1) str_printf(s, "<span style=\"color:var(--c%d)\">■</span> ", i % COLOURS);
    put_text(s, r->dir);
    str_adds(s, "</td>");
}

static void put_cell(str_buf *s, const cJSON *v)
{
    str_adds(s, cJSON_IsNumber(v) ? "<td class=\"n\">" : "<td>");
    if (cJSON_IsNumber(v))
        put_number(s, v->valuedouble);
    else
        put_value(s, v);
    str_adds(s, "</td>");
}

static void put_number_cell(str_buf *s, double v)
{
    str_adds(s, "<td class=\"n\">");
    put_number(s, v);
    str_adds(s, "</td>");
}

static void put_summary(str_buf *s, const report_run *run, int n)
{
    static const char *const heads[] = {"run",       "state",  "method",  "steps",   "first loss",
                                        "last loss", "tokens", "seconds", "tokens/s"};
    static const char *const keys[] = {"steps",  "first_loss", "last_loss",
                                       "tokens", "seconds",    "tokens_per_s"};
    str_adds(s, "<h2>Runs</h2>\n");
    open_table(s, heads, FT_COUNT_OF(heads));
    for (int i = 0; i < n; i++) {
        const cJSON *sum = run[i].summary.doc.root;
        str_adds(s, "<tr>");
        put_run_cell(s, &run[i], i, n);
        str_adds(s, sum          ? "<td>finished</td>"
                    : run[i].cut ? "<td>being written</td>"
                                 : "<td>not finished</td>");
        put_cell(s, sum ? js_get(sum, "method") : js_get(js_get(run[i].config, "method"), "type"));
        for (size_t k = 0; k < FT_COUNT_OF(keys); k++)
            put_number_cell(s, report_told(&run[i], keys[k]));
        str_adds(s, "</tr>\n");
    }
    close_table(s);
}

/* The head of a table that stands only where it has rows. */
static void begin_table(str_buf *s, bool *any, const char *title, const char *const *heads, int n)
{
    if (*any) return;
    *any = true;
    str_printf(s, "<h2>%s</h2>\n", title);
    open_table(s, heads, n);
}

static void put_evals(str_buf *s, const report_run *run, int n)
{
    static const char *const heads[] = {"run", "held out", "first", "last", "change"};
    static const char *const keys[] = {"first", "last", "change"};
    const int n_heads = FT_COUNT_OF(heads);
    bool any = false;
    for (int i = 0; i < n; i++) {
        const cJSON *eval = js_get(run[i].summary.doc.root, "eval");
        for (const cJSON *e = eval ? eval->child : NULL; e; e = e->next) {
            begin_table(s, &any, "Evaluation", heads, n_heads);
            str_adds(s, "<tr>");
            put_run_cell(s, &run[i], i, n);
            str_adds(s, "<td>");
            put_text(s, e->string);
            str_adds(s, "</td>");
            for (size_t k = 0; k < FT_COUNT_OF(keys); k++) put_cell(s, js_get(e, keys[k]));
            str_adds(s, "</tr>\n");
        }
        for (int k = 0; !run[i].summary.doc.root && k < run[i].n_series; k++) {
            const report_series *e = &run[i].series[k];
            if (!str_starts(e->name, "eval_loss") || e->n == 0) continue;
            begin_table(s, &any, "Evaluation", heads, n_heads);
            str_adds(s, "<tr>");
            put_run_cell(s, &run[i], i, n);
            str_adds(s, "<td>");
            put_text(s, e->name[9] == '.' ? e->name + 10 : e->name);
            str_adds(s, "</td>");
            put_number_cell(s, e->value[0]);
            put_number_cell(s, e->value[e->n - 1]);
            put_number_cell(s, e->value[e->n - 1] - e->value[0]);
            str_adds(s, "</tr>\n");
        }
    }
    if (any) close_table(s);
}

/* Of a run that is not finished: what its config names. */
static void put_sources(str_buf *s, const report_run *r, int i, int n)
{
    const cJSON *train = js_get(js_get(r->config, "data"), "train"), *e;
    for (e = cJSON_IsArray(train) ? train->child : train; e; e = e == train ? NULL : e->next) {
        const cJSON *name = js_get(e, "name"), *path = js_get(e, "path");
        str_adds(s, "<tr>");
        put_run_cell(s, r, i, n);
        put_cell(s, name ? name : path ? path : e);
        str_adds(s, "<td class=\"n\">–</td><td class=\"n\">–</td></tr>\n");
    }
}

static void put_data(str_buf *s, const report_run *run, int n)
{
    static const char *const heads[] = {"run", "source", "tokens", "epochs"};
    static const char *const keys[] = {"name", "tokens", "epochs"};
    str_adds(s, "<h2>Data</h2>\n");
    open_table(s, heads, FT_COUNT_OF(heads));
    for (int i = 0; i < n; i++) {
        const cJSON *list = js_get(js_get(run[i].summary.doc.root, "data"), "sources");
        for (const cJSON *e = list ? list->child : NULL; e; e = e->next) {
            str_adds(s, "<tr>");
            put_run_cell(s, &run[i], i, n);
            for (size_t k = 0; k < FT_COUNT_OF(keys); k++) put_cell(s, js_get(e, keys[k]));
            str_adds(s, "</tr>\n");
        }
        if (!list) put_sources(s, &run[i], i, n);
    }
    close_table(s);
}

static void put_memory(str_buf *s, const report_run *run, int n)
{
    static const char *const heads[] = {"run",     "planned", "peak",      "parameters",
                                        "trained", "threads", "arithmetic"};
    static const char *const bytes[] = {"planned_bytes", "peak_rss_bytes"};
    static const char *const keys[] = {"parameters", "trainable_parameters", "threads", "core"};
    const int n_heads = FT_COUNT_OF(heads);
    bool any = false;
    for (int i = 0; i < n; i++) {
        const cJSON *sum = run[i].summary.doc.root;
        if (!sum && !isfinite(report_told(&run[i], "peak_rss_bytes"))) continue;
        begin_table(s, &any, "Memory and machine", heads, n_heads);
        str_adds(s, "<tr>");
        put_run_cell(s, &run[i], i, n);
        for (size_t k = 0; k < FT_COUNT_OF(bytes); k++) {
            str_adds(s, "<td class=\"n\">");
            put_bytes(s, report_told(&run[i], bytes[k]));
            str_adds(s, "</td>");
        }
        for (size_t k = 0; k < FT_COUNT_OF(keys); k++) put_cell(s, js_get(sum, keys[k]));
        str_adds(s, "</tr>\n");
    }
    if (any) close_table(s);
}

static void put_merges(str_buf *s, const report_run *run, int n)
{
    static const char *const heads[] = {
        "run",           "merged",          "type",      "tokens", "max |logit difference|",
        "mean KL, nats", "top-1 agreement", "tolerance", "proof"};
    const int n_heads = FT_COUNT_OF(heads);
    static const char *const keys[] = {"tokens", "max_logit_diff", "mean_kl", "top1_agreement",
                                       "tolerance"};
    bool any = false;
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < run[i].n_merge; k++) {
            const cJSON *m = run[i].merge[k].doc.root, *proof = js_get(m, "proof");
            begin_table(s, &any, "Merge proof", heads, n_heads);
            str_adds(s, "<tr>");
            put_run_cell(s, &run[i], i, n);
            put_cell(s, js_get(m, "out"));
            put_cell(s, js_get(m, "type"));
            for (size_t j = 0; j < FT_COUNT_OF(keys); j++) put_cell(s, js_get(proof, keys[j]));
            str_adds(s, cJSON_IsTrue(js_get(proof, "passed")) ? "<td>passed</td></tr>\n"
                                                              : "<td>failed</td></tr>\n");
        }
    if (any) close_table(s);
}

/* A text, or the turns of a conversation, a line each. */
static void put_prompt(str_buf *s, const cJSON *m)
{
    const cJSON *turns = js_get(m, "messages"), *t;
    put_value(s, js_get(m, "prompt"));
    cJSON_ArrayForEach(t, turns)
    {
        if (t != turns->child) str_addc(s, '\n');
        put_value(s, js_get(t, "role"));
        str_adds(s, ": ");
        put_value(s, js_get(t, "content"));
    }
}

static void put_samples(str_buf *s, const report_run *run, int n)
{
    static const char *const heads[] = {"run", "step", "prompt", "answer"};
    const int n_heads = FT_COUNT_OF(heads);
    bool any = false;
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < run[i].n_sample; k++) {
            const cJSON *m = run[i].sample[k].doc.root;
            begin_table(s, &any, "Samples", heads, n_heads);
            str_adds(s, "<tr>");
            put_run_cell(s, &run[i], i, n);
            put_cell(s, js_get(m, "step"));
            str_adds(s, "<td><pre>");
            put_prompt(s, m);
            str_adds(s, "</pre></td><td><pre>");
            put_value(s, js_get(m, "text"));
            str_adds(s, "</pre></td></tr>\n");
        }
    if (any) close_table(s);
}

/* --- config: a row a key, a column a run ------------------------------------------------------------------------------------ */

static const cJSON *at_path(const cJSON *root, const char *section, const char *key)
{
    return js_get(js_get(root, section), key);
}

static bool differs(const report_run *run, int n, const char *section, const char *key)
{
    const cJSON *first = at_path(run[0].config, section, key);
    for (int i = 1; i < n; i++) {
        const cJSON *v = at_path(run[i].config, section, key);
        if (!first != !v || (v && !cJSON_Compare(first, v, true))) return true;
    }
    return false;
}

static void put_config_row(str_buf *s, const report_run *run, int n, const char *section,
                           const char *key)
{
    const bool other = differs(run, n, section, key);
    str_adds(s, "<tr><td><code>");
    put_text(s, section);
    str_addc(s, '.');
    put_text(s, key);
    str_adds(s, "</code></td>");
    for (int i = 0; i < n; i++) {
        str_adds(s, other ? "<td class=\"differs\">" : "<td>");
        put_value(s, at_path(run[i].config, section, key));
        str_adds(s, "</td>");
    }
    str_adds(s, "</tr>\n");
}

static void put_config(str_buf *s, const report_run *run, int n)
{
    str_adds(s, "<h2>Config</h2>\n<div class=\"wide\"><table><tr><th>key</th>");
    for (int i = 0; i < n; i++) {
        str_adds(s, "<th class=\"path\">");
        put_text(s, run[i].dir);
        str_adds(s, "</th>");
    }
    str_adds(s, "</tr>\n");
    for (int i = 0; i < n; i++) {
        const cJSON *root = run[i].config;
        for (const cJSON *section = root ? root->child : NULL; section; section = section->next)
            for (const cJSON *v = cJSON_IsObject(section) ? section->child : NULL; v; v = v->next) {
                bool done = false; /* in a column before */
                for (int j = 0; j < i; j++)
                    done = done || at_path(run[j].config, section->string, v->string);
                if (!done) put_config_row(s, run, n, section->string, v->string);
            }
    }
    close_table(s);
}

/* --- the figures themselves --------------------------------------------------------------------------------------------------- */

static void put_figures(str_buf *s, const report_run *r)
{
    const report_series *longest = NULL;
    for (int k = 0; k < r->n_series; k++)
        if (!longest || r->series[k].n > longest->n) longest = &r->series[k];
    if (!longest) return;
    str_adds(s, "<details><summary>Figures of ");
    put_text(s, r->dir);
    str_adds(s, "</summary>\n<div class=\"wide\"><table><tr><th class=\"n\">step</th>");
    for (int k = 0; k < r->n_series; k++) {
        str_adds(s, "<th class=\"n\">");
        put_text(s, r->series[k].name);
        str_adds(s, "</th>");
    }
    str_adds(s, "</tr>\n");
    int64_t *next = ft_alloc((size_t)r->n_series, sizeof *next);
    if (!next) s->failed = true;
    for (int64_t i = 0; next && i < report_shown(longest->n); i++) {
        const double step = longest->step[report_pick(longest->n, i)];
        str_printf(s, "<tr><td class=\"n\">%.9g</td>", step);
        for (int k = 0; k < r->n_series; k++) {
            const report_series *of = &r->series[k];
            while (next[k] < of->n && of->step[next[k]] < step) next[k]++;
            str_adds(s, "<td class=\"n\">");
            if (next[k] < of->n && of->step[next[k]] == step) put_number(s, of->value[next[k]]);
            str_adds(s, "</td>");
        }
        str_adds(s, "</tr>\n");
    }
    ft_free(next);
    close_table(s);
    str_adds(s, "</details>\n");
}

ft_status report_html(str_buf *s, const report_run *run, int n)
{
    str_adds(s, io_report[0]);
    str_adds(s, head);
    str_adds(s, "<h1>");
    for (int i = 0; i < n; i++) {
        if (i) str_adds(s, ", ");
        put_text(s, run[i].dir);
    }
    str_adds(s, "</h1>\n");
    put_summary(s, run, n);
    put_charts(s, run, n);
    put_evals(s, run, n);
    put_samples(s, run, n);
    put_data(s, run, n);
    put_memory(s, run, n);
    put_merges(s, run, n);
    put_config(s, run, n);
    str_adds(s, "<h2>Figures</h2>\n");
    for (int i = 0; i < n; i++) put_figures(s, &run[i]);
    str_adds(s, "</body>\n</html>\n");
    return str_ok(s);
}
