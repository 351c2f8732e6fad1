/* report_private.h – a run as it lies on disk, for the page that shows it. */
#ifndef FT_REPORT_PRIVATE_H
#define FT_REPORT_PRIVATE_H

#include "tool_private.h"

enum { REPORT_POINTS = 2000 }; /* of one curve, at most */

/* What one key of log.jsonl or time.jsonl was, step by step. */
typedef struct report_series {
    const char *name;
    double *step, *value; /* [n] */
    int64_t n, cap;
} report_series;

/* A JSON file of a run, or one that is not there (doc.root NULL). */
typedef struct report_doc {
    js_doc doc;
    char *text;
} report_doc;

typedef struct report_run {
    const char *dir; /* as given */
    report_series *series;
    int n_series, cap_series;
    report_doc summary, resolved,
        begun;           /* begun: checkpoints/run.json, which is there from the first step on */
    const cJSON *config; /* of resolved, else of begun; NULL: of neither */
    report_doc *sample, *merge; /* lines of samples.jsonl and merges.jsonl */
    int64_t n_sample, cap_sample, n_merge, cap_merge;
    bool cut; /* the last line of a log is not whole */
} report_run;

FT_MUST_USE ft_status report_run_look(const char *dir); /* 66: no folder */
FT_MUST_USE ft_status report_run_read(report_run *r, const char *dir, arena *mem);
void report_run_free(report_run *r);
const report_series *report_find(const report_run *r, const char *name); /* NULL: none of it */
/* A number of summary.json, or what the lines of a run that is not finished tell in its place; NAN: they do not. */
double report_told(const report_run *r, const char *key);
/* The k-th of the points that are shown, of report_shown(n): evenly, first and last among them. */
int64_t report_shown(int64_t n);
int64_t report_pick(int64_t n, int64_t k);

FT_MUST_USE ft_status report_html(str_buf *out, const report_run *run, int n);
#endif
