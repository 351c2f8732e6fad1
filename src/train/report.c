/* report.c – what a run tells at its ends: lines for the eye, summary.json, the result on stdout. */
#include "train_private.h"

#include "ft/kernel.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- for the eye ----------------------------------------------------------------------------------------------------------- */
const char *train_left_text(const train_session *s)
{
    const int64_t step = s->state.step, done = step - (s->resumed_from < 0 ? 0 : s->resumed_from);
    if (done <= 0 || s->step_seconds <= 0) return "";
    const int64_t left =
        (int64_t)((double)(s->total_steps - step) * s->step_seconds / (double)done);
    static char text[40];
    snprintf(text, sizeof text, "  left %lld:%02d:%02d", (long long)(left / 3600),
             (int)(left / 60 % 60), (int)(left % 60));
    return text;
}

/* "  reward 0.41": the figure that tells more than the loss, where the objective has one. */
static const char *telling(const train_session *s)
{
    const char *key = s->cfg.objective->telling, *name = key ? strrchr(key, '/') : NULL;
    static char text[60];
    int i = 0;
    while (key && i < s->n_own && strcmp(s->metrics[i], key) != 0) i++;
    if (!key || i == s->n_own || isnan(s->state.metric[i])) return "";
    snprintf(text, sizeof text, "  %s %.4f", name ? name + 1 : key, s->state.metric[i]);
    return text;
}

/* The live line, and every half minute one that stays, for logs of pipelines. Parts stand two spaces apart: a narrow terminal
 * drops them from the left. */
void train_show_step(train_session *s, double seconds)
{
    const train_record *r = &s->state.record;
    double now = ft_seconds();
    char line[240];
    snprintf(line, sizeof line, "step %lld/%lld  loss %.4f%s  lr %.3g  %.0f tok/s%s",
             (long long)r->step, (long long)s->total_steps, r->loss, telling(s), r->rate,
             seconds > 0 ? (double)r->tokens / seconds : 0, train_left_text(s));
    if (now - s->shown < 30) {
        log_progress("%s", line);
        return;
    }
    log_info("%s", line);
    s->shown = now;
}

const char *train_virtual_text(const train_session *s)
{
    const bool before = ft_error_starved();
    const char *text = NULL;
    if (s->plan.virtual_rows > 0)
        text = arena_printf(s->mem, ", %lld virtual ones before every sequence",
                            (long long)s->plan.virtual_rows);
    ft_error_forget_since(before);
    return text ? text : "";
}

const char *train_checkpointing_text(const train_session *s)
{
    bool chosen = s->cfg.train.gradient_checkpointing < 0;
    if (s->plan.checkpointing)
        return chosen ? "on (auto: without it the plan is above the limit)"
                      : "on: activations inside blocks are made again in the backward";
    return chosen ? "off (auto: the plan fits without it)" : "off";
}

void train_show_header(const train_session *s)
{
    const train_plan *p = &s->plan;
    const loop_cfg *t = &s->cfg.train;
    double tokens = 0;
    bool whole = true;
    for (int i = 0; i < data_sources(s->train); i++) {
        const data_source_stats *d = data_stats(s->train, i);
        tokens += data_tokens(s->train, i);
        whole = whole && d->whole;
        if (d->dropped || d->truncated)
            log_info(
                "%s: %lld samples cut at %lld tokens, %lld left out because nothing supervised "
                "remained",
                d->name, (long long)d->truncated, (long long)s->cfg.data.max_length,
                (long long)d->dropped);
    }
    log_info("ft %s, core %s, %d threads, matrices in %s", FT_VERSION,
             kn_core_name(s->tape->precision), pool_threads(),
             s->tape->precision == KN_BF16 ? "bf16" : "f32");
    log_info("%s: %s, %lld parameters, %s trains %lld (%.3g %%)", ft_shows(s->cfg.base_name),
             model_family_name(s->m), (long long)model_count(s->m), s->cfg.method->name,
             (long long)p->trainable_count,
             100.0 * (double)p->trainable_count / (double)model_count(s->m));
    log_info(
        "%s%lld samples an epoch, %.0f tokens; %lld steps of %lld samples, micro-batches of up to "
        "%lld tokens%s",
        whole ? "" : "about ", (long long)data_epoch_length(s->train), tokens,
        (long long)s->total_steps, (long long)t->batch_size, (long long)p->micro_tokens,
        train_virtual_text(s));
    log_info("memory %s of %s: weights %s, trainable %s, gradients %s, optimizer %s, activations "
             "%s, workspace %s",
             ft_bytes_text(p->total), ft_bytes_text(p->grant.limit), ft_bytes_text(p->weights),
             ft_bytes_text(p->trainable), ft_bytes_text(p->gradients), ft_bytes_text(p->optimizer),
             ft_bytes_text(p->activations), ft_bytes_text(p->workspace));
    log_info("gradient checkpointing %s", train_checkpointing_text(s));
}

/* --- the summary ------------------------------------------------------------------------------------------------------------- */
static void add_number(cJSON *o, const char *key, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(o, key, v);
    else
        cJSON_AddNullToObject(o, key);
}

static void add_sources(const train_session *s, cJSON *root)
{
    cJSON *list = cJSON_AddArrayToObject(cJSON_AddObjectToObject(root, "data"), "sources");
    for (int i = 0; i < s->state.n_sources; i++) {
        const data_source_stats *d = data_stats(s->train, i);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", d->name);
        cJSON_AddNumberToObject(o, "tokens", (double)s->state.source_tokens[i]);
        cJSON_AddNumberToObject(o, "epochs",
                                (double)s->state.source_tokens[i] / data_tokens(s->train, i));
        if (data_read_sha256(s->train, i)) {
            cJSON_AddBoolToObject(o, "whole", d->whole);
            cJSON_AddStringToObject(o, "read_sha256", data_read_sha256(s->train, i));
        }
        cJSON_AddItemToArray(list, o);
    }
}

static void add_evals(const train_session *s, cJSON *root)
{
    const train_state *st = &s->state;
    if (!s->eval) return;
    cJSON *all = cJSON_AddObjectToObject(root, "eval");
    for (int i = 0; i < st->n_evals; i++) {
        cJSON *o = cJSON_AddObjectToObject(all, data_stats(s->eval, i)->name);
        const bool first = !isnan(st->eval_first[i]);
        if (first) add_number(o, "first", st->eval_first[i]);
        add_number(o, "last", st->eval_last[i]);
        if (first) add_number(o, "change", st->eval_last[i] - st->eval_first[i]);
    }
    cJSON *best = cJSON_AddObjectToObject(root, "best");
    cJSON_AddNumberToObject(best, "step", (double)st->best_step);
    add_number(best, "eval_loss", st->best_loss);
    cJSON_AddBoolToObject(best, "is_result", s->cfg.train.keep_best);
}

/* A file of the result that method or objective made. */
static bool is_made(const train_session *s, const char *name)
{
    bool made = pe_leaves(s->cfg.method, name);
    for (const char *const *f = s->cfg.objective->files; f && *f; f++)
        made = made || strcmp(*f, name) == 0;
    return made;
}

/* Of the files of the result that count, as they were in memory. */
static void add_hashes(const train_session *s, const file_notes *notes, cJSON *root)
{
    cJSON *o = cJSON_AddObjectToObject(root, "sha256");
    cJSON_AddStringToObject(o, "base", s->base_sha);
    cJSON_AddStringToObject(o, "data", s->data_sha);
    cJSON_AddStringToObject(o, "config", s->config_sha);
    cJSON *result = cJSON_AddObjectToObject(o, "result");
    for (int64_t i = 0; i < notes->n; i++) {
        const file_note *n = &notes->note[i];
        const char *name = path_base(n->path);
        if (is_made(s, name) && file_notes_find(notes, n->path) == n)
            cJSON_AddStringToObject(result, name, n->sha256);
    }
}

static void add_figures(const train_session *s, cJSON *root)
{
    const train_state *st = &s->state;
    double seconds = train_elapsed(s), part = ft_seconds() - s->started;
    cJSON_AddStringToObject(root, "run_id", s->run_id);
    cJSON_AddNumberToObject(root, "steps", (double)st->step);
    cJSON_AddNumberToObject(root, "max_steps", (double)s->cfg.train.max_steps);
    cJSON_AddNumberToObject(root, "max_epochs", s->cfg.train.epochs);
    cJSON_AddNumberToObject(root, "epochs", (double)st->step / (double)s->epoch_steps);
    cJSON_AddBoolToObject(root, "stopped_early", st->step < s->total_steps);
    if (s->resumed_from >= 0)
        cJSON_AddNumberToObject(root, "resumed_from", (double)s->resumed_from);
    add_number(root, "first_loss", st->first_loss);
    add_number(root, "last_loss", st->last_loss);
    cJSON_AddNumberToObject(root, "tokens", (double)st->tokens);
    cJSON_AddNumberToObject(root, "supervised_tokens", (double)st->supervised);
    cJSON_AddNumberToObject(root, "seconds", seconds);
    cJSON_AddNumberToObject(root, "tokens_per_s",
                            s->step_seconds > 0 ? (double)s->part_tokens / s->step_seconds : 0);
    cJSON_AddNumberToObject(root, "part_seconds", part);
    cJSON_AddNumberToObject(root, "peak_rss_bytes", (double)ft_peak_rss());
    cJSON_AddNumberToObject(root, "planned_bytes", (double)s->plan.total);
    cJSON_AddNumberToObject(root, "trainable_parameters", (double)s->plan.trainable_count);
    cJSON_AddNumberToObject(root, "parameters", (double)model_count(s->m));
    cJSON_AddStringToObject(root, "method", s->cfg.method->name);
    cJSON_AddStringToObject(root, "core", kn_core_name(s->tape->precision));
    cJSON_AddStringToObject(root, "simd", kn_level());
    cJSON_AddNumberToObject(root, "threads", pool_threads());
    cJSON_AddStringToObject(cJSON_AddObjectToObject(root, "versions"), "ft", FT_VERSION);
}

static ft_status write_json(const train_session *s, const char *dir, const char *name,
                            const cJSON *root)
{
    str_buf text = {0};
    const char *path = path_join(s->mem, dir, name);
    js_print(&text, root, true);
    str_addc(&text, '\n');
    ft_status rc = str_ok(&text);
    if (rc == FT_OK && !path) rc = FT_EMEM;
    if (rc == FT_OK) rc = file_write(path, text.data, text.len);
    str_free(&text);
    return rc;
}

ft_status train_write_resolved(const train_session *s, const char *dir)
{
    return write_json(s, dir, "config.resolved.json", s->resolved);
}

ft_status train_write_summary(train_session *s, const file_notes *notes)
{
    FT_TRY(train_write_resolved(s, s->out));
    cJSON *root = cJSON_CreateObject();
    if (!root) return FT_EMEM;
    add_figures(s, root);
    add_sources(s, root);
    add_evals(s, root);
    add_hashes(s, notes, root);
    ft_status rc = write_json(s, s->out, "summary.json", root);
    cJSON_Delete(root);
    return rc;
}

/* --- the result on stdout ------------------------------------------------------------------------------------------------------ */
static void text_result(const train_session *s, const js_doc *d, str_buf *out)
{
    const cJSON *steps = js_get(d->root, "steps"), *first = js_get(d->root, "first_loss"),
                *last = js_get(d->root, "last_loss"), *eval = js_get(d->root, "eval"), *e;
    str_printf(out, "%s: %.0f steps", s->out, steps ? steps->valuedouble : 0);
    if (cJSON_IsNumber(first) && cJSON_IsNumber(last))
        str_printf(out, ", loss %.4f -> %.4f", first->valuedouble, last->valuedouble);
    cJSON_ArrayForEach(e, eval)
    {
        const cJSON *from = js_get(e, "first"), *to = js_get(e, "last");
        if (!cJSON_IsNumber(to)) continue;
        str_printf(out, ", eval %s ", ft_shows(e->string));
        if (cJSON_IsNumber(from)) str_printf(out, "%.4f -> ", from->valuedouble);
        str_printf(out, "%.4f", to->valuedouble);
    }
    str_addc(out, '\n');
}

ft_status train_result(train_session *s, str_buf *result)
{
    js_doc d = {0};
    char *text = NULL;
    size_t n;
    const char *path = path_join(s->mem, s->out, "summary.json");
    if (!path) return FT_EMEM;
    FT_TRY(file_read(&text, &n, path, (size_t)64 << 20));
    ft_status rc = js_parse(&d, text, n, path, 1, JS_STRICT, FT_EDATA);
    if (rc == FT_OK && s->opt->json) {
        js_print(result, d.root, false);
        str_addc(result, '\n');
    } else if (rc == FT_OK) {
        text_result(s, &d, result);
    }
    if (rc == FT_OK) rc = str_ok(result);
    js_close(&d);
    ft_free(text);
    return rc;
}
