/* eval_perplexity.c – perplexity of a text in Hugging Face's strided windows. */
#include <math.h>
#include <string.h>

#include "eval_private.h"

#define AT(field) offsetof(eval_task, field)
static const cfg_field fields[] = {
    EVAL_FIELDS,
    {.key = "data",
     .type = CFG_PATH,
     .offset = AT(data),
     .required = true,
     .help = "a text; of records (.jsonl, .json, .csv) their `text`, a blank line between them"},
    {.key = "max_length",
     .type = CFG_INT,
     .offset = AT(max_length),
     .def = "0",
     .low = 0,
     .high = 1e9,
     .help = "tokens of a window; 0: 1024, or what the model can hold"},
    {.key = "stride",
     .type = CFG_INT,
     .offset = AT(stride),
     .def = "0",
     .low = 0,
     .high = 1e9,
     .help = "tokens a window moves on; 0: max_length"},
    CFG_END};

/* Records are joined by a blank line, as Hugging Face's example joins its rows. */
static ft_status add_text(void *ctx, const js_doc *d, const cJSON *rec, int64_t line)
{
    str_buf *out = ctx;
    const char *text;
    size_t n;
    (void)line;
    FT_TRY(tool_string(d, rec, "text", &text, &n));
    if (!text) return js_fail(d, rec, FT_EDATA, "text", "missing");
    if (out->data) str_adds(out, "\n\n");
    str_add(out, text, n);
    return FT_OK;
}

static ft_status read_text(const eval_task *task, str_buf *out)
{
    char *text;
    size_t n;
    if (data_holds_of(task->data) == DATA_HOLDS_RECORDS) {
        FT_TRY(eval_records(task, add_text, out));
        return str_ok(out);
    }
    FT_TRY(text_read(&text, &n, task->data, (size_t)1 << 32));
    str_add(out, text, n);
    ft_free(text);
    return str_ok(out);
}

typedef struct windows {
    const tok_ids *ids;
    int64_t max_length, stride;
    int64_t begin, scored_to; /* of the next window; tokens before scored_to are done */
    bool done;
    double nll;
    int64_t tokens, shown; /* windows in the samples */
} windows;

enum { WINDOWS = 64 }; /* in one call of inf_score */

/* Hugging Face's strided windows: a token is scored once, by the first window that holds it; the first token of a
 * window has no context there and is left out when no earlier window had it. */
static int64_t next_windows(windows *w, inf_seq *seq, float *logprob, int32_t *best)
{
    int64_t n = 0, at = 0;
    while (!w->done && n < WINDOWS) {
        int64_t end = w->begin + w->max_length < w->ids->n ? w->begin + w->max_length : w->ids->n;
        int64_t from = w->scored_to > w->begin ? w->scored_to - w->begin : 1;
        seq[n] = (inf_seq){.id = w->ids->id + w->begin,
                           .n = end - w->begin,
                           .from = from,
                           .logprob = logprob + at,
                           .best = best + at};
        if (from < seq[n].n) at += seq[n++].n - from;
        w->scored_to = end;
        w->begin += w->stride;
        w->done = end == w->ids->n;
    }
    return n;
}

/* A window is a line: there are no records left in a text that was joined. */
static ft_status put_window(const eval_task *task, windows *w, const inf_seq *seq, double nll)
{
    str_buf s = {0};
    int64_t n = seq->n - seq->from;
    if (!task->samples) return FT_OK;
    eval_sample_open(&s, task, 0, NULL);
    tool_json_key(&s, "window");
    str_printf(&s, "%lld", (long long)w->shown++);
    tool_json_key(&s, "nll");
    tool_json_number(&s, nll / (double)n);
    tool_json_key(&s, "tokens");
    str_printf(&s, "%lld", (long long)n);
    ft_status rc = eval_sample_put(task, &s);
    str_free(&s);
    return rc;
}

static ft_status score_windows(tool_model *t, const eval_task *task, windows *w)
{
    ft_status rc = FT_OK;
    inf_seq *seq = ft_alloc(WINDOWS, sizeof *seq);
    float *logprob = ft_alloc((size_t)(WINDOWS * w->max_length), sizeof *logprob);
    int32_t *best = ft_alloc((size_t)(WINDOWS * w->max_length), sizeof *best);
    FT_TRY_OUT(seq && logprob && best ? FT_OK : FT_EMEM);
    while (!w->done) {
        int64_t n = next_windows(w, seq, logprob, best);
        FT_TRY_OUT(inf_score(&t->inf, seq, n));
        for (int64_t i = 0; i < n; i++) {
            double nll = 0;
            for (int64_t k = 0; k < seq[i].n - seq[i].from; k++) {
                w->nll -= (double)seq[i].logprob[k];
                nll -= (double)seq[i].logprob[k];
            }
            w->tokens += seq[i].n - seq[i].from;
            FT_TRY_OUT(put_window(task, w, &seq[i], nll));
        }
        log_progress("perplexity: %lld of %lld tokens", (long long)w->scored_to,
                     (long long)w->ids->n);
    }
out:
    ft_free(seq);
    ft_free(logprob);
    ft_free(best);
    return rc;
}

/* A plain text has no records: its limit is windows. Cuts the ids behind the last one; *bytes are then those of the rest. */
static ft_status cut(const tool_model *t, const windows *w, int64_t limit, tok_ids *ids,
                     size_t *bytes)
{
    str_buf s = {0};
    ft_status rc = FT_OK;
    if (limit == 0 || (ids->n - w->max_length + w->stride - 1) / w->stride < limit) return FT_OK;
    ids->n = w->max_length + (limit - 1) * w->stride;
    for (int64_t i = 0; rc == FT_OK && i < ids->n; i++)
        if (!tok_is_special(t->tok, ids->id[i])) rc = tok_decode_bytes(t->tok, &ids->id[i], 1, &s);
    *bytes = s.len;
    str_free(&s);
    return rc;
}

static ft_status run(tool_model *t, eval_task *task)
{
    ft_status rc;
    size_t bytes;
    str_buf text = {0};
    tok_ids ids = {0};
    windows w = {.ids = &ids, .max_length = task->max_length, .stride = task->stride};
    int64_t most = t->m->d.max_position - nn_virtual(t->inf.over);
    if (w.max_length == 0) w.max_length = most > 0 && most < 1024 ? most : 1024;
    if (w.stride == 0) w.stride = w.max_length;
    FT_CHECK(w.max_length >= 2, FT_ECONFIG, "task %s: max_length must be at least 2", task->name);
    FT_CHECK(
        w.stride <= w.max_length, FT_ECONFIG,
        "task %s: stride %lld is larger than max_length %lld: tokens between the windows would "
        "never be scored",
        task->name, (long long)w.stride, (long long)w.max_length);
    FT_TRY_OUT(read_text(task, &text));
    FT_TRY_OUT(tool_encode(t, text.data ? text.data : "", text.len, &ids));
    FT_GUARD(ids.n >= 2, FT_EDATA, "%s: fewer than two tokens; nothing to score",
             ft_shows(task->data));
    if (w.max_length > ids.n) w.max_length = ids.n;
    bytes = text.len;
    if (data_holds_of(task->data) != DATA_HOLDS_RECORDS)
        FT_TRY_OUT(cut(t, &w, task->limit, &ids, &bytes));
    FT_TRY_OUT(score_windows(t, task, &w));
    FT_GUARD(w.tokens > 0, FT_EDATA, "%s: nothing to score", ft_shows(task->data));
    FT_TRY_OUT(eval_add(task, "perplexity", exp(w.nll / (double)w.tokens)));
    FT_TRY_OUT(eval_add(task, "nll", w.nll / (double)w.tokens));
    FT_TRY_OUT(eval_count(task, "tokens", w.tokens));
    FT_TRY_OUT(eval_add(task, "bits_per_byte", w.nll / M_LN2 / (double)bytes));
out:
    str_free(&text);
    tok_ids_free(&ids);
    return rc;
}

static const char *const metrics[] = {"perplexity", "nll", "tokens", "bits_per_byte", NULL};
const eval_kind eval_perplexity = {
    .name = "perplexity",
    .help = "of a text, in strided windows",
    .example = "{\"text\": \"Two and two are four. Four and four are eight.\"}",
    .fields = fields,
    .metrics = metrics,
    .run = run,
};
