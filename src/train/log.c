/* log.c – log.jsonl, a pure function of config and data, and time.jsonl, everything that is not. */
#include "train_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LOG "log.jsonl"
#define TIMES "time.jsonl"
#define SAMPLES "samples.jsonl"

/* In 52 bits, which a number of JSON holds; any bit of the text that is another one changes it. */
FT_WRAPS static int64_t hash_on(int64_t hash, const char *text, size_t n)
{
    uint64_t h = (uint64_t)hash;
    for (size_t i = 0; i < n; i++)
        h = ((h ^ (uint8_t)text[i]) * 0x100000001b3u) & (((uint64_t)1 << 52) - 1);
    return (int64_t)h;
}

/* Opens a log at the length of the state; a log that was cut by someone goes on where it ends. */
static ft_status open_one(const train_session *s, const char *name, file_log **out, int64_t *keep)
{
    const char *path = path_join(s->mem, s->out, name);
    if (!path) return FT_EMEM;
    int64_t size;
    FT_TRY(path_size(path, &size));
    if (size < 0) size = 0;
    if (size < *keep) {
        log_warn("%s: holds %lld bytes where %lld were written; it is no longer the whole log",
                 path, (long long)size, (long long)*keep);
        *keep = size;
    }
    return file_log_open(out, path, *keep);
}

/* Nothing is computed from the log, so one that somebody or a disk has changed stops no run: it is told. */
static ft_status open_log(train_session *s)
{
    enum { MOST = 1 << 30 };
    train_state *st = &s->state;
    const int64_t written = st->log_bytes;
    const char *path = path_join(s->mem, s->out, LOG);
    char *text;
    size_t n;
    if (!path) return FT_EMEM;
    FT_TRY(open_one(s, LOG, &s->log, &st->log_bytes));
    if (written == 0) return FT_OK;
    FT_TRY(file_read(&text, &n, path, MOST));
    const int64_t hash = hash_on(0, text, n);
    if (st->log_bytes == written && st->log_hash >= 0 && st->log_hash != hash)
        log_warn("%s: its lines up to step %lld are no longer those that were written; the run "
                 "goes on, and leaves them as they are",
                 path, (long long)st->step);
    st->log_hash = hash;
    ft_free(text);
    return FT_OK;
}

ft_status train_log_open(train_session *s)
{
    FT_TRY(open_log(s));
    FT_TRY(open_one(s, TIMES, &s->times, &s->state.time_bytes));
    if (s->n_samples > 0) FT_TRY(open_one(s, SAMPLES, &s->samples, &s->state.sample_bytes));
    if (s->objective.artifact)
        FT_TRY(open_one(s, s->objective.artifact, &s->artifact, &s->state.artifact_bytes));
    return train_follow_open(s);
}

void train_log_close(train_session *s)
{
    file_log_close(s->log);
    file_log_close(s->times);
    file_log_close(s->samples);
    file_log_close(s->artifact);
    s->log = s->times = s->samples = s->artifact = NULL;
    train_follow_close(s);
}

ft_status train_log_sync(const train_session *s)
{
    FT_TRY(file_log_sync(s->log));
    FT_TRY(file_log_sync(s->times));
    FT_TRY(file_log_sync(s->samples));
    FT_TRY(file_log_sync(s->artifact));
    return train_follow_sync(s);
}

static ft_status append(train_session *s, file_log *to, str_buf *line, int64_t *length)
{
    str_adds(line, "}\n");
    ft_status rc = str_ok(line);
    if (rc == FT_OK) rc = file_log_add(to, line->data, line->len);
    if (rc == FT_OK) *length += (int64_t)line->len;
    if (rc == FT_OK && to == s->log)
        s->state.log_hash = hash_on(s->state.log_hash, line->data, line->len);
    if (rc == FT_OK && to == s->log) rc = train_follow_line(s, line->data, line->len - 1);
    str_free(line);
    return rc;
}

ft_status train_log_samples(train_session *s, const str_buf *lines)
{
    FT_TRY(str_ok(lines));
    FT_TRY(file_log_add(s->samples, lines->data, lines->len));
    s->state.sample_bytes += (int64_t)lines->len;
    return FT_OK;
}

ft_status train_log_artifact(train_session *s)
{
    const obj_objective *row = s->cfg.objective;
    str_buf lines = {0};
    if (!row->lines || !s->artifact) return FT_OK;
    ft_status rc = row->lines(&s->objective, &lines);
    if (rc == FT_OK && lines.len > 0) rc = file_log_add(s->artifact, lines.data, lines.len);
    if (rc == FT_OK) s->state.artifact_bytes += (int64_t)lines.len;
    str_free(&lines);
    return rc;
}

static void add_value(str_buf *out, double v)
{
    const float f = (float)v;
    if (isfinite(f))
        str_float(out, f);
    else
        str_adds(out, "null");
}

static void add_float(str_buf *out, const char *key, double v)
{
    str_printf(out, ",\"%s\":", key);
    add_value(out, v);
}

static void add_named(str_buf *out, const char *prefix, const char *name)
{
    char key[300];
    snprintf(key, sizeof key, "%s%.200s", prefix, name);
    str_addc(out, ',');
    str_json(out, key, strlen(key));
    str_addc(out, ':');
}

/* Fields of one row's own; one with nothing to tell is left out. */
static void add_metrics(const char *prefix, const char *const *names, const double *metric, int n,
                        str_buf *out)
{
    for (int i = 0; i < n; i++) {
        if (isnan(metric[i])) continue;
        add_named(out, prefix, names[i]);
        add_value(out, metric[i]);
    }
}

/* Several sources are told apart by name; the mean over all stands under the plain key in any case. */
static void add_eval(const train_session *s, const train_eval *e, str_buf *out)
{
    add_float(out, "eval_loss", e->mean);
    str_printf(out, ",\"eval_tokens\":%lld", (long long)e->total);
    for (int i = 0; s->state.n_evals > 1 && i < s->state.n_evals; i++) {
        const char *name = data_stats(s->eval, i)->name;
        add_named(out, "eval_loss.", name);
        add_value(out, e->loss[i]);
        add_named(out, "eval_tokens.", name);
        str_printf(out, "%lld", (long long)e->tokens[i]);
    }
    add_metrics("eval_", s->metrics, e->metric, s->n_own, out);
}

static ft_status log_times(train_session *s, double seconds, int64_t tokens)
{
    str_buf line = {0};
    str_printf(&line, "{\"step\":%lld", (long long)s->state.step);
    add_float(&line, "seconds", seconds);
    add_float(&line, "tokens_per_s", seconds > 0 ? (double)tokens / seconds : 0);
    str_printf(&line, ",\"rss_bytes\":%zu", ft_rss());
    return append(s, s->times, &line, &s->state.time_bytes);
}

/* A line for the eye: the mean, and each of several sources. */
static void show_eval(const train_session *s, const train_eval *e, const char *head)
{
    const bool before = ft_error_starved();
    str_buf each = {0};
    for (int i = 0; s->state.n_evals > 1 && i < s->state.n_evals; i++)
        str_printf(&each, "%s%s %.4f", i ? ", " : " (", ft_shows(data_stats(s->eval, i)->name),
                   e->loss[i]);
    log_info("%seval_loss %.4f over %lld tokens%s%s", head, e->mean, (long long)e->total,
             !each.failed && each.len ? each.data : "", !each.failed && each.len ? ")" : "");
    str_free(&each);
    ft_error_forget_since(before);
}

ft_status train_log_first(train_session *s, const train_eval *eval)
{
    str_buf line = {0};
    str_adds(&line, "{\"step\":0,\"epoch\":0");
    add_eval(s, eval, &line);
    show_eval(s, eval, "before step 1: ");
    return append(s, s->log, &line, &s->state.log_bytes);
}

ft_status train_log_step(train_session *s, const train_eval *eval, double seconds, int64_t tokens)
{
    const train_state *st = &s->state;
    const train_record *r = &st->record;
    str_buf line = {0};
    str_printf(&line, "{\"step\":%lld", (long long)r->step);
    add_float(&line, "epoch", (double)r->step / (double)s->epoch_steps);
    add_float(&line, "loss", r->loss);
    str_adds(&line, ",\"learning_rate\":");
    str_double(&line, r->rate);
    add_float(&line, "grad_norm", r->grad_norm);
    str_printf(&line, ",\"tokens\":%lld,\"supervised_tokens\":%lld", (long long)r->tokens,
               (long long)r->supervised);
    if (st->n_sources > 1) {
        str_adds(&line, ",\"source_tokens\":{");
        for (int i = 0; i < st->n_sources; i++) {
            const char *name = data_stats(s->train, i)->name;
            if (i) str_addc(&line, ',');
            str_json(&line, name, strlen(name));
            str_printf(&line, ":%lld", (long long)st->step_sources[i]);
        }
        str_addc(&line, '}');
    }
    add_metrics("", s->metrics, st->metric, s->n_own, &line);
    add_metrics("", s->cfg.method->metrics, st->metric + s->n_own, st->n_metrics - s->n_own, &line);
    if (eval) add_eval(s, eval, &line);
    FT_TRY(append(s, s->log, &line, &s->state.log_bytes));
    if (eval) {
        char head[80];
        snprintf(head, sizeof head, "step %lld: loss %.4f, ", (long long)r->step, r->loss);
        show_eval(s, eval, head);
    }
    return log_times(s, seconds, tokens);
}
