/* follow.c – the log in other forms: log.csv and TensorBoard's events.
 *
 * Both follow from log.jsonl alone: they are made of its lines, anew when a run starts or is resumed, then line by line. So
 * each step stands there once, whatever happened in between. */
#include "train_private.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOG_BYTES = 1 << 30 };

typedef struct train_follow {
    const char **column; /* [n] of log.csv */
    int n;
    file_log *csv, *tb; /* NULL: not wanted */
} follow;

/* --- log.csv --------------------------------------------------------------------------------------------------------------- */
static ft_status add_column(train_session *s, const char *front, const char *name)
{
    follow *f = s->follow;
    f->column[f->n] = arena_printf(s->mem, "%s%s", front, name);
    return f->column[f->n++] ? FT_OK : FT_EMEM;
}

static ft_status add_names(train_session *s, const char *front, const char *const *names)
{
    for (; names && *names; names++) FT_TRY(add_column(s, front, *names));
    return FT_OK;
}

/* Every key that a line of this run's log may have, in its order. */
static ft_status name_columns(train_session *s)
{
    static const char *const step[] = {
        "step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "supervised_tokens", NULL};
    static const char *const eval[] = {"eval_loss", "eval_tokens", NULL};
    const train_state *st = &s->state;
    const int most = 16 + st->n_sources + 2 * st->n_evals + 2 * st->n_metrics;
    s->follow->column = arena_get(s->mem, (size_t)most * sizeof *s->follow->column);
    if (!s->follow->column) return FT_EMEM;
    FT_TRY(add_names(s, "", step));
    for (int i = 0; st->n_sources > 1 && i < st->n_sources; i++)
        FT_TRY(add_column(s, "source_tokens.", data_stats(s->train, i)->name));
    FT_TRY(add_names(s, "", s->metrics));
    FT_TRY(add_names(s, "", s->cfg.method->metrics));
    if (!s->eval) return FT_OK;
    FT_TRY(add_names(s, "", eval));
    for (int i = 0; st->n_evals > 1 && i < st->n_evals; i++) {
        FT_TRY(add_column(s, "eval_loss.", data_stats(s->eval, i)->name));
        FT_TRY(add_column(s, "eval_tokens.", data_stats(s->eval, i)->name));
    }
    return add_names(s, "eval_", s->metrics);
}

/* RFC 4180: quoted where it must be. */
static void add_field(str_buf *out, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        str_adds(out, text);
        return;
    }
    str_addc(out, '"');
    for (; *text; text++) {
        if (*text == '"') str_addc(out, '"');
        str_addc(out, *text);
    }
    str_addc(out, '"');
}

static const cJSON *value_of(const cJSON *line, const char *column)
{
    static const char inside[] = "source_tokens.";
    if (!str_starts(column, inside)) return js_get(line, column);
    return js_get(js_get(line, "source_tokens"), column + sizeof inside - 1);
}

static ft_status write_row(const follow *f, const cJSON *line)
{
    str_buf out = {0};
    for (int i = 0; i < f->n; i++) {
        const cJSON *v = line ? value_of(line, f->column[i]) : NULL;
        if (i) str_addc(&out, ',');
        if (!line)
            add_field(&out, f->column[i]);
        else if (cJSON_IsNumber(v))
            js_print(&out, v, false);
    }
    str_addc(&out, '\n');
    ft_status rc = str_ok(&out);
    if (rc == FT_OK) rc = file_log_add(f->csv, out.data, out.len);
    str_free(&out);
    return rc;
}

/* --- lines ------------------------------------------------------------------------------------------------------------------ */
static ft_status take_line(const follow *f, const char *name, int at, double wall_time,
                           const char *line, size_t n)
{
    js_doc d = {0};
    FT_TRY(js_parse(&d, line, n, name, at, JS_NO_POSITIONS, FT_EDATA));
    ft_status rc = f->csv ? write_row(f, d.root) : FT_OK;
    if (rc == FT_OK && f->tb) rc = train_tb_line(f->tb, wall_time, d.root);
    js_close(&d);
    return rc;
}

ft_status train_follow_line(train_session *s, const char *line, size_t n)
{
    struct timespec now;
    if (!s->follow) return FT_OK;
    clock_gettime(CLOCK_REALTIME, &now);
    return take_line(s->follow, "log.jsonl", 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec,
                     line, n);
}

/* Adds up "seconds" in the lines of time.jsonl up to `last`'s, from *times on. */
static double seconds_until(const char **times, double last)
{
    double sum = 0, step, seconds;
    while (**times && sscanf(*times, "{\"step\":%lf,\"seconds\":%lf", &step, &seconds) == 2) {
        const char *end = strchr(*times, '\n');
        if (step > last || !end) break;
        sum += seconds;
        *times = end + 1;
    }
    return sum;
}

/* What the log holds already; when its lines were written follows from the times that the steps took. */
static ft_status take_log(train_session *s, const char *name, const char *log, const char *times)
{
    const char *at = times;
    double wall_time = (double)time(NULL) - seconds_until(&at, 1e300);
    const char *line = log;
    int number = 0;
    at = times;
    for (const char *end; (end = strchr(line, '\n')); line = end + 1) {
        double step = 0;
        if (sscanf(line, "{\"step\":%lf", &step) != 1) step = 0;
        wall_time += seconds_until(&at, step);
        ft_status rc = take_line(s->follow, name, ++number, wall_time, line, (size_t)(end - line));
        if (rc == FT_EDATA) /* damaged */
            log_warn("%s; this line is left out of log.csv and TensorBoard's file", ft_error());
        else
            FT_TRY(rc);
    }
    return FT_OK;
}

static ft_status read_logs(train_session *s)
{
    const char *log = path_join(s->mem, s->out, "log.jsonl"),
               *time_log = path_join(s->mem, s->out, "time.jsonl");
    char *lines = NULL, *times = NULL;
    size_t n;
    if (!log || !time_log) return FT_EMEM;
    ft_status rc = file_read(&lines, &n, log, LOG_BYTES);
    if (rc == FT_OK) rc = file_read(&times, &n, time_log, LOG_BYTES);
    if (rc == FT_OK) rc = take_log(s, log, lines, times);
    ft_free(lines);
    ft_free(times);
    return rc;
}

/* --- opening ---------------------------------------------------------------------------------------------------------------- */
ft_status train_follow_open(train_session *s)
{
    const output_cfg *o = &s->cfg.output;
    if (!o->csv && !o->tensorboard) return FT_OK;
    follow *f = s->follow = arena_get(s->mem, sizeof *s->follow);
    if (!f) return FT_EMEM;
    if (o->csv) {
        FT_TRY(name_columns(s));
        const char *csv = path_join(s->mem, s->out, "log.csv");
        if (!csv) return FT_EMEM;
        FT_TRY(file_log_open(&f->csv, csv, 0));
        FT_TRY(write_row(f, NULL));
    }
    const char *dir = path_join(s->mem, s->out, "tensorboard");
    if (!dir) return FT_EMEM;
    if (o->tensorboard) FT_TRY(train_tb_open(&f->tb, dir, s->mem));
    return read_logs(s);
}

ft_status train_follow_sync(const train_session *s)
{
    if (!s->follow) return FT_OK;
    FT_TRY(file_log_sync(s->follow->csv));
    return file_log_sync(s->follow->tb);
}

void train_follow_close(train_session *s)
{
    follow *f = s->follow;
    if (!f) return;
    file_log_close(f->csv);
    file_log_close(f->tb);
    s->follow = NULL;
}
