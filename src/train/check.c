/* check.c – `ft check`: all that `ft train` does before it writes, on a model opened without weights, and a report. */
#include "train_private.h"

#include "ft/kernel.h"

#include <string.h>

cJSON *train_source_json(const data_source_stats *d, double tokens)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", d->name);
    cJSON_AddStringToObject(o, "path", d->path);
    cJSON_AddStringToObject(o, "format", d->format);
    cJSON_AddNumberToObject(o, "files", d->files);
    if (d->weight > 0) cJSON_AddNumberToObject(o, "weight", d->weight);
    cJSON_AddNumberToObject(o, "records", (double)d->records);
    cJSON_AddNumberToObject(o, "samples", (double)d->samples);
    cJSON_AddNumberToObject(o, "truncated", (double)d->truncated);
    cJSON_AddNumberToObject(o, "dropped", (double)d->dropped);
    cJSON_AddNumberToObject(o, "tokens", (double)d->tokens);
    cJSON_AddNumberToObject(o, "supervised_tokens", (double)d->supervised);
    cJSON_AddNumberToObject(o, "longest", (double)d->longest);
    cJSON_AddNumberToObject(o, "windows", (double)d->windows);
    cJSON_AddBoolToObject(o, "whole", d->whole);
    cJSON_AddNumberToObject(o, "read_share", d->share);
    cJSON_AddNumberToObject(o, "estimated_tokens", tokens);
    cJSON_AddNumberToObject(o, "lost", (double)d->lost);
    cJSON_AddNumberToObject(o, "unprinted", (double)d->unprinted);
    cJSON_AddNumberToObject(o, "duplicates", (double)d->duplicates);
    cJSON_AddNumberToObject(o, "empty", (double)d->empty);
    cJSON_AddNumberToObject(o, "merged_borders", (double)d->merged_borders);
    cJSON *unread = cJSON_AddObjectToObject(o, "unread_keys");
    for (int i = 0; i < d->n_unread; i++)
        cJSON_AddNumberToObject(unread, d->unread[i].key, (double)d->unread[i].records);
    return o;
}

static void add_data(const train_session *s, cJSON *root)
{
    const data_set *sets[] = {s->train, s->eval};
    static const char *const names[] = {"train", "eval"};
    cJSON *o = cJSON_AddObjectToObject(root, "data");
    for (size_t k = 0; k < FT_COUNT_OF(sets); k++) {
        if (!sets[k]) continue;
        cJSON *list = cJSON_AddArrayToObject(o, names[k]);
        for (int i = 0; i < data_sources(sets[k]); i++)
            cJSON_AddItemToArray(
                list, train_source_json(data_stats(sets[k], i), data_tokens(sets[k], i)));
    }
}

static void add_bytes(cJSON *o, const char *key, size_t bytes)
{
    cJSON_AddNumberToObject(o, key, (double)bytes);
}

static void add_plan(const train_session *s, cJSON *root)
{
    const train_plan *p = &s->plan;
    cJSON *o = cJSON_AddObjectToObject(root, "memory");
    add_bytes(o, "weights_bytes", p->weights);
    add_bytes(o, "trainable_bytes", p->trainable);
    add_bytes(o, "gradients_bytes", p->gradients);
    add_bytes(o, "optimizer_bytes", p->optimizer);
    add_bytes(o, "activations_bytes", p->activations);
    add_bytes(o, "workspace_bytes", p->workspace);
    add_bytes(o, "total_bytes", p->total);
    add_bytes(o, "limit_bytes", p->grant.limit);
    cJSON_AddStringToObject(o, "limit", p->grant.name);
    o = cJSON_AddObjectToObject(root, "disk");
    add_bytes(o, "checkpoint_bytes", p->checkpoint_bytes);
    cJSON_AddNumberToObject(o, "checkpoints", (double)p->checkpoints);
    add_bytes(o, "result_bytes", p->result_bytes);
    add_bytes(o, "lines_bytes", p->lines_bytes);
    add_bytes(o, "need_bytes", p->disk_need);
    add_bytes(o, "free_bytes", p->disk_free);
}

static ft_status json_report(const train_session *s, str_buf *result)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "config", s->config_name);
    cJSON *o = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(o, "family", model_family_name(s->m));
    cJSON_AddNumberToObject(o, "parameters", (double)model_count(s->m));
    cJSON_AddNumberToObject(o, "trainable", (double)s->plan.trainable_count);
    cJSON_AddBoolToObject(o, "has_weights", !s->m->bare);
    cJSON_AddStringToObject(root, "method", s->cfg.method->name);
    add_data(s, root);
    cJSON_AddNumberToObject(root, "steps", (double)s->total_steps);
    cJSON_AddNumberToObject(root, "steps_per_epoch", (double)s->epoch_steps);
    cJSON_AddNumberToObject(root, "micro_batch_tokens", (double)s->plan.micro_tokens);
    cJSON_AddNumberToObject(root, "virtual_tokens", (double)s->plan.virtual_rows);
    cJSON_AddBoolToObject(root, "gradient_checkpointing", s->plan.checkpointing);
    add_plan(s, root);
    cJSON *sample = data_show_json(s->train, 0);
    if (sample) js_add(root, "sample", sample);
    js_print(result, root, false);
    str_addc(result, '\n');
    cJSON_Delete(root);
    return str_ok(result);
}

void train_sources_text(const data_set *d, const char *what, str_buf *out)
{
    for (int i = 0; d && i < data_sources(d); i++) {
        const data_source_stats *t = data_stats(d, i);
        str_printf(out,
                   "%-6s %s (%s): %lld samples of %lld records, %lld tokens, %lld supervised, "
                   "longest %lld",
                   what, ft_shows(t->name), t->format, (long long)t->samples, (long long)t->records,
                   (long long)t->tokens, (long long)t->supervised, (long long)t->longest);
        if (t->windows && t->whole) str_printf(out, ", in %lld windows", (long long)t->windows);
        if (!t->whole)
            str_printf(
                out,
                "; this is a sample, the first %.2g %% of the file: the rest, about %.3g tokens, "
                "was not read",
                100 * t->share, data_tokens(d, i) - (double)t->tokens);
        if (t->truncated) str_printf(out, ", %lld cut", (long long)t->truncated);
        if (t->dropped) str_printf(out, ", %lld left out", (long long)t->dropped);
        if (t->merged_borders)
            str_printf(out, ", %lld whose first learned token begins in the text before it",
                       (long long)t->merged_borders);
        train_told(t, out);
        str_addc(out, '\n');
    }
}

static ft_status text_report(const train_session *s, str_buf *out)
{
    bool whole = true;
    for (int i = 0; i < data_sources(s->train); i++)
        whole = whole && data_stats(s->train, i)->whole;
    const train_plan *p = &s->plan;
    str_printf(out, "model  %s: %s, %lld parameters, %s trains %lld\n", ft_shows(s->cfg.base_name),
               model_family_name(s->m), (long long)model_count(s->m), s->cfg.method->name,
               (long long)p->trainable_count);
    train_sources_text(s->train, "train", out);
    train_sources_text(s->eval, "eval", out);
    str_printf(out, "steps  %lld (%s%lld an epoch), micro-batches of up to %lld tokens%s\n",
               (long long)s->total_steps, whole ? "" : "about ", (long long)s->epoch_steps,
               (long long)p->micro_tokens, train_virtual_text(s));
    str_printf(out,
               "memory %s of %s (%s): weights %s, trainable %s, gradients %s, optimizer %s, "
               "activations %s, workspace %s\n",
               ft_bytes_text(p->total), ft_bytes_text(p->grant.limit), p->grant.name,
               ft_bytes_text(p->weights), ft_bytes_text(p->trainable), ft_bytes_text(p->gradients),
               ft_bytes_text(p->optimizer), ft_bytes_text(p->activations),
               ft_bytes_text(p->workspace));
    str_printf(out, "       gradient checkpointing %s\n", train_checkpointing_text(s));
    str_printf(out, "disk   %s needed in %s, %s free\n", ft_bytes_text(p->disk_need), s->out,
               ft_bytes_text(p->disk_free));
    str_adds(out, "sample\n");
    FT_TRY(data_show(s->train, 0, out));
    return str_ok(out);
}

/* Of a folder without weights only a plan is wanted: what does not fit is told, and no error. */
static ft_status judge_plan(train_session *s)
{
    ft_status rc = train_plan_memory(s);
    if (rc == FT_OK) rc = train_plan_disk(s);
    if (!s->m->bare) return rc;
    if ((rc == FT_EMEM || rc == FT_EIO) && !ft_error_starved()) {
        log_warn("%s", ft_error());
        ft_error_clear();
        rc = FT_OK;
    }
    log_warn("%s: holds no weights: this is a plan, which ft train would refuse (exit 66)",
             ft_shows(s->cfg.base_name));
    return rc;
}

static ft_status check(train_session *s, const train_options *opt, str_buf *result)
{
    train_start as;
    FT_TRY(train_session_config(s, opt));
    FT_TRY(train_place_check(s));
    FT_TRY(train_session_open(s, false, true));
    FT_TRY(train_place_inputs(s));
    FT_TRY(train_plan_make(s));
    FT_TRY(opt->json ? json_report(s, result) : text_report(s, result));
    FT_TRY(judge_plan(s));
    FT_TRY(train_resume_look(s, &as));
    FT_TRY(train_resume_compare(s, &as));
    if (as == TRAIN_GO_ON) FT_TRY(train_resume_schedule(s));
    if (!opt->next || s->m->bare) return FT_OK;
    train_add_command(opt->next, opt);
    if (opt->resume) str_adds(opt->next, " --resume");
    if (opt->force) str_adds(opt->next, " --force");
    return str_ok(opt->next);
}

ft_status train_check(const train_options *opt, str_buf *result)
{
    train_session s;
    ft_status rc = check(&s, opt, result);
    train_session_close(&s);
    return rc;
}
