/* resume.c – what an output folder holds, and whether this run may start, go on, or has nothing left to do.
 *
 * checkpoints/run.json is written before step 1: the identity of the run, its resolved config, and the hashes of data and
 * base. Only checkpoints that carry this identity count. */
#include "train_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The most telling file that shows the folder's use: run.json before all others. */
static ft_status find_trace(const train_session *s, const char **trace)
{
    path_kind kind;
    FT_TRY(path_look_in(s->out, TRAIN_RUN, &kind));
    *trace = kind == PATH_FILE ? TRAIN_RUN : NULL;
    return *trace ? FT_OK : train_place_first(s, IO_OF_RUN | IO_OF_RESULT, trace);
}

/* --- run.json ------------------------------------------------------------------------------------------------------- */
/* 128 random bits: only the identity of a run, never a part of its arithmetic. */
static void make_run_id(char out[33])
{
    uint8_t bytes[16] = {0};
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, bytes, sizeof bytes) : 0;
    if (fd >= 0) close(fd);
    if (got != sizeof bytes) {
        uint64_t key = rng_key((uint64_t)getpid(), (uint64_t)(ft_seconds() * 1e9), 0);
        for (uint64_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)rng_u64(key, i);
    }
    for (int i = 0; i < 16; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static ft_status write_run(const train_session *s)
{
    str_buf out = {0};
    str_adds(&out, "{\n  \"format\": 1,\n  \"run_id\": ");
    str_json(&out, s->run_id, strlen(s->run_id));
    str_adds(&out, ",\n  \"version\": \"" FT_VERSION "\",\n  \"base_name\": ");
    str_json(&out, s->cfg.base_name, strlen(s->cfg.base_name));
    str_printf(&out, ",\n  \"data_sha256\": \"%s\",\n  \"base_sha256\": \"%s\",\n  \"config\": ",
               s->data_sha, s->base_sha);
    js_print(&out, s->resolved, false);
    const char *path = path_join(s->mem, s->out, TRAIN_RUN);
    ft_status rc = path ? train_sealed_write(path, &out) : FT_EMEM;
    str_free(&out);
    return rc;
}

/* Keys of the schedule may differ: what the steps that were done say to it is seen once there is a checkpoint. */
static ft_status note_schedule(train_session *s, const cJSON *before)
{
    str_buf list = {0};
    int n = train_schedule_differences(&s->cfg, before, s->resolved, &list);
    ft_status rc = str_ok(&list);
    s->schedule = rc == FT_OK && n > 0 ? arena_str(s->mem, list.data) : NULL;
    if (rc == FT_OK && n > 0 && !s->schedule) rc = FT_EMEM;
    str_free(&list);
    return rc;
}

/* All that differs from the config the run began with: 78 with the list. */
static ft_status compare_config(train_session *s, const js_doc *run)
{
    str_buf list = {0};
    const char *name = NULL;
    FT_TRY(js_get_str(run, run->root, "base_name", "", &name));
    if (strcmp(name, s->cfg.base_name) != 0)
        str_printf(&list, "model.name: \"%s\" -> \"%s\"", ft_shows(name),
                   ft_shows(s->cfg.base_name));
    train_config_differences(&s->cfg, js_get(run->root, "config"), s->resolved, &list);
    ft_status rc = str_ok(&list);
    if (rc == FT_OK) rc = note_schedule(s, js_get(run->root, "config"));
    if (rc == FT_OK && list.len > 0)
        rc =
            ft_fail(FT_ECONFIG,
                    "%s: the config is not that of the run in %s: %s; undo this, or choose another "
                    "folder (--out), or --force to start anew",
                    s->config_name, s->out, list.data);
    str_free(&list);
    return rc;
}

static ft_status read_run(train_session *s)
{
    js_doc run;
    char *text;
    const char *id = NULL, *data = NULL, *base = NULL, *path = path_join(s->mem, s->out, TRAIN_RUN);
    if (!path) return FT_EMEM;
    ft_status rc = train_sealed_read(&run, &text, path);
    if (rc == FT_EDATA) return ft_fail(rc, "%s; --force starts the run anew", ft_error());
    FT_TRY(rc);
    FT_TRY_OUT(js_get_str(&run, run.root, "run_id", "", &id));
    FT_TRY_OUT(js_get_str(&run, run.root, "data_sha256", "", &data));
    FT_TRY_OUT(js_get_str(&run, run.root, "base_sha256", "", &base));
    snprintf(s->run_id, sizeof s->run_id, "%s", id);
    snprintf(s->before_data, sizeof s->before_data, "%s", data);
    snprintf(s->before_base, sizeof s->before_base, "%s", base);
    rc = compare_config(s, &run);
out:
    js_close(&run);
    ft_free(text);
    return rc;
}

/* The files of a finished run's result against their hashes in its summary. */
static ft_status check_result(train_session *s, const js_doc *d)
{
    const cJSON *all = js_get(js_get(d->root, "sha256"), "result"), *one;
    char hex[65];
    cJSON_ArrayForEach(one, all)
    {
        const char *path = path_join(s->mem, s->out, path_base(one->string));
        if (!path) return FT_EMEM;
        if (!cJSON_IsString(one)) continue;
        ft_status rc = file_sha256(path, hex);
        if (rc == FT_EMEM) return rc;
        if (rc == FT_OK && strcmp(hex, one->valuestring) == 0) continue;
        log_warn("%s: %s; the result is written again from the checkpoints", path,
                 rc == FT_ENOINPUT ? "is missing, though the run is complete"
                 : rc != FT_OK     ? "cannot be read"
                                   : "damaged: its SHA-256 is not that in summary.json");
        s->damaged = path;
    }
    return FT_OK;
}

/* summary.json is the last file of a run. It is complete, unless another number of steps is wanted now than then. */
static ft_status read_summary(train_session *s, bool *complete)
{
    js_doc d = {0};
    char *text = NULL;
    size_t n;
    const char *id = "", *path = path_join(s->mem, s->out, "summary.json");
    int64_t steps = 0, max_steps = 0;
    double epochs = 0;
    const loop_cfg *now = &s->cfg.train;
    *complete = false;
    if (!path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &n, path, (size_t)64 << 20));
    ft_status rc = js_parse(&d, text, n, path, 1, JS_STRICT, FT_EDATA);
    if (rc == FT_OK) rc = js_get_str(&d, d.root, "run_id", "", &id);
    if (rc == FT_OK) rc = js_get_int(&d, d.root, "steps", 0, 0, INT64_MAX, &steps);
    if (rc == FT_OK) rc = js_get_int(&d, d.root, "max_steps", 0, 0, INT64_MAX, &max_steps);
    if (rc == FT_OK) rc = js_get_num(&d, d.root, "max_epochs", now->epochs, &epochs);
    if (rc == FT_OK && strcmp(id, s->run_id) == 0) {
        bool same = now->max_steps == max_steps && (max_steps > 0 || now->epochs == epochs);
        *complete = same || now->max_steps == steps;
        s->was_complete = *complete ? 0 : steps;
        if (*complete) rc = check_result(s, &d);
        *complete = *complete && !s->damaged;
    }
    js_close(&d);
    ft_free(text);
    if (rc == FT_EDATA) {
        log_warn("%s; the run is taken as unfinished", ft_error());
        return FT_OK;
    }
    return rc;
}

/* What a damaged or lost checkpoint may still be good for. */
static const char *init_key(const train_session *s)
{
    return s->cfg.method->load ? "method.init_from" : "model.path";
}

/* Checkpoints without the run.json that says what run they are of: nobody goes on from them, and nobody writes over them. */
static ft_status refuse_orphans(const train_session *s)
{
    train_found *found;
    int64_t n;
    path_kind
        aside; /* --force was cut short while it moved a finished run out of the way: go on with that */
    FT_TRY(path_look_in(s->out, IO_FORMER "/" TRAIN_RUN, &aside));
    if (aside == PATH_FILE) return FT_OK;
    FT_TRY(train_checkpoint_list(s, s->mem, &found, &n));
    for (int64_t i = 0; i < n; i++)
        if (found[i].held)
            return ft_fail(
                FT_EEXIST,
                "%s: holds checkpoints, of which that of step %lld is the newest, but not "
                "%s/" TRAIN_RUN ", which says what run they are of; put it back and go on with "
                "--resume, begin another run from what one of them learned with %s, or start anew "
                "with --force",
                s->out, (long long)found[i].step, s->out, init_key(s));
    return FT_OK;
}

ft_status train_resume_look(train_session *s, train_start *as)
{
    const char *trace;
    bool complete;
    *as = TRAIN_FRESH;
    FT_TRY(find_trace(s, &trace));
    if (!s->opt->force && (!trace || strcmp(trace, TRAIN_RUN) != 0)) FT_TRY(refuse_orphans(s));
    if (!trace) return FT_OK;
    if (!s->opt->resume) {
        FT_CHECK(s->opt->force || strcmp(trace, TRAIN_RUN) == 0, FT_EEXIST,
                 "%s: holds %s, a file that a run writes, and no run made it there; choose another "
                 "folder with --out, or write over it with --force",
                 s->out, trace);
        FT_CHECK(s->opt->force, FT_EEXIST,
                 "%s: holds a run or its result already (%s); go on with --resume, start anew with "
                 "--force, or choose another folder with --out",
                 s->out, trace);
        return train_session_command(s, true); /* until it is gone */
    }
    FT_CHECK(strcmp(trace, TRAIN_RUN) == 0, FT_EEXIST,
             "%s: holds %s but no run to resume; start anew with --force, or choose another folder "
             "with --out",
             s->out, trace);
    FT_TRY(read_run(s));
    FT_TRY(train_place_resumed(s));
    FT_TRY(read_summary(s, &complete));
    *as = complete ? TRAIN_COMPLETE : TRAIN_GO_ON;
    return FT_OK;
}

static ft_status compare_inputs(const train_session *s)
{
    bool data = strcmp(s->before_data, s->data_sha) != 0;
    bool base = s->base_sha[0] && strcmp(s->before_base, s->base_sha) != 0; /* check hashes none */
    if (!s->before_data[0] || (!data && !base)) return FT_OK;
    return ft_fail(FT_EDATA,
                   "%s: %s%s%s changed since the run in this folder began; put it back, or choose "
                   "another folder (--out), or --force to start anew",
                   s->out, data ? "the data, or how it is tokenised," : "",
                   data && base ? " and " : "", base ? "the base model" : "");
}

/* --- starting ---------------------------------------------------------------------------------------------------------- */
static ft_status start_afresh(train_session *s)
{
    int n_sources = s->state.n_sources, n_evals = s->state.n_evals;
    FT_TRY(train_place_wipe(s));
    FT_TRY(train_session_command(s, false));
    make_run_id(s->run_id);
    FT_TRY(train_state_init(&s->state, n_sources, n_evals, s->state.n_metrics, s->mem));
    const char *dir = path_join(s->mem, s->out, "checkpoints");
    if (!dir) return FT_EMEM;
    FT_TRY(dir_make(dir));
    FT_TRY(train_checkpoint_clean(s));
    FT_TRY(write_run(s));
    return train_log_open(s);
}

/* Are the rates of its steps (`rates` hashes them) those that this run has for them? */
static bool rates_fit(const train_session *s, int64_t step, int64_t rates)
{
    int64_t mine = 0;
    const opt_rule *rule = s->cfg.rule;
    for (int64_t k = 0; k < step; k++) {
        double rate = opt_rate(s->cfg.optim, k, s->total_steps);
        if (rule->shape) rate *= rule->shape(s->cfg.rule_cfg, k + 1);
        mine = train_rates_add(mine, rate);
    }
    return rates == mine || (rates < 0 && !s->schedule);
}

static const char *steps_key(const train_session *s)
{
    return s->cfg.train.max_steps > 0 ? "train.max_steps" : "train.epochs";
}

/* Steps that are done are not undone. */
static ft_status check_done(const train_session *s, int64_t done)
{
    FT_CHECK(
        done <= s->total_steps, FT_ECONFIG,
        "%s: %s: asks for %lld steps, and %lld are done in %s; ask for more, or choose another "
        "folder (--out), or --force to start anew",
        s->config_name, steps_key(s), (long long)s->total_steps, (long long)done, s->out);
    return FT_OK;
}

/* No checkpoint has this run's rates: where only the number of steps is another one, they depend on it. */
static ft_status other_rates(const train_session *s, int64_t newest)
{
    if (newest < 0) return FT_OK;
    FT_CHECK(!s->schedule, FT_ECONFIG,
             "%s: the schedule is not that of the run in %s, and no checkpoint there is of steps "
             "whose rates stay the same: %s; undo this, or choose another folder (--out), or "
             "--force to start anew",
             s->config_name, s->out, s->schedule);
    return ft_fail(
        FT_ECONFIG,
        "%s: %s: in a run of %lld steps other rates would have led to step %lld: those of "
        "optim.lr_scheduler_type \"%s\" depend on the number of steps; give the number "
        "that the run began with, or start a new run from its result with %s \"%s\" and "
        "another folder (--out)",
        s->config_name, steps_key(s), (long long)s->total_steps, (long long)newest,
        s->cfg.optim->lr_scheduler_type, init_key(s), s->out);
}

/* What cannot be read for now is not damaged: going on from an older one would throw work away. */
static bool is_no_verdict(ft_status rc)
{
    return rc == FT_EMEM || rc == FT_EPERM || rc == FT_ESIGNAL;
}

/* What the best checkpoint holds becomes the result, so where it is damaged its steps are done again. */
static ft_status best_is_whole(const train_session *s, int64_t step, int64_t best, bool *whole)
{
    *whole = true;
    if (!s->cfg.train.keep_best || best == 0 || best == step) return FT_OK;
    ft_status rc = train_checkpoint_check(s, best, TRAIN_OWN_BYTES, s->mem);
    if (is_no_verdict(rc)) return rc;
    *whole = rc == FT_OK;
    if (!*whole)
        log_warn("the checkpoint of step %lld is passed over: the best one, of step %lld, is not "
                 "whole: %s",
                 (long long)step, (long long)best,
                 rc == FT_END ? "it is another run's" : ft_error());
    return FT_OK;
}

/* The newest one that is right to this depth and fits; of those that only do not fit the newest. −1: none. */
static ft_status find_newest(const train_session *s, train_found *found, int64_t n,
                             train_depth depth, int64_t *step, int64_t *newest)
{
    for (int64_t i = 0; i < n && *step < 0; i++) {
        int64_t rates = -1, best = 0;
        bool whole;
        ft_status rc = train_checkpoint_check(s, found[i].step, depth, s->mem);
        if (is_no_verdict(rc)) return rc;
        if (rc != FT_OK) {
            found[i].why = arena_str(s->mem, ft_error());
            if (!found[i].why) return FT_EMEM;
            log_warn("the checkpoint of step %lld is passed over: %s", (long long)found[i].step,
                     found[i].why);
            continue;
        }
        FT_TRY(train_checkpoint_facts(s, found[i].step, s->mem, &rates, &best));
        FT_TRY(best_is_whole(s, found[i].step, best, &whole));
        if (!whole) {
            found[i].why = "the best one, whose values become the result, is not whole";
            continue;
        }
        const bool fit = rates_fit(s, found[i].step, rates);
        if (fit)
            *step = found[i].step;
        else if (*newest < 0)
            *newest = found[i].step;
        if (!fit && !s->schedule && !opt_branches(s->cfg.optim)) break;
    }
    return FT_OK;
}

/* Where none is whole: what was damaged may still be of use to somebody, and is not written over unasked. */
static ft_status refuse_damaged(const train_session *s, const train_found *found, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (found[i].held)
            return ft_fail(FT_EDATA,
                           "%s: no checkpoint is whole; that of step %lld, the newest: %s; put the "
                           "files back, begin another run from what is left with %s, or start anew "
                           "with --force",
                           s->out, (long long)found[i].step, found[i].why, init_key(s));
    return FT_OK;
}

/* The newest checkpoint whose every byte is right; −1 when there is none. With another schedule, and where one branches off,
 * the newest one whose steps had this run's rates. Files that a run does not go on from may be somebody's changes: where no
 * checkpoint is right in all its files, what it does go on from is enough. */
static ft_status newest_valid(train_session *s, int64_t *step)
{
    train_found *found;
    int64_t n, newest = -1;
    *step = -1;
    FT_TRY(train_checkpoint_list(s, s->mem, &found, &n));
    FT_TRY(find_newest(s, found, n, TRAIN_ALL_BYTES, step, &newest));
    if (*step < 0 && newest < 0) {
        FT_TRY(find_newest(s, found, n, TRAIN_OWN_BYTES, step, &newest));
        if (*step >= 0)
            log_warn("no checkpoint is right in all its files; that of step %lld is in those that "
                     "a run goes on from",
                     (long long)*step);
    }
    if (*step >= 0 && newest >= 0)
        log_info("steps %lld to %lld had other rates than this run: they are done again",
                 (long long)*step + 1, (long long)newest);
    FT_TRY(check_done(s, *step >= 0 ? *step : newest));
    if (*step < 0 && newest < 0) FT_TRY(refuse_damaged(s, found, n));
    return *step < 0 ? other_rates(s, newest) : FT_OK;
}

ft_status train_resume_compare(const train_session *s, train_start *as)
{
    FT_TRY(compare_inputs(s));
    if (s->was_complete == 0) return FT_OK;
    FT_TRY(check_done(s, s->was_complete));
    if (s->was_complete == s->total_steps) *as = TRAIN_COMPLETE;
    return FT_OK;
}

ft_status train_resume_schedule(train_session *s)
{
    int64_t step;
    return s->run_id[0] ? newest_valid(s, &step) : FT_OK;
}

ft_status train_resume_load(train_session *s, train_start as)
{
    train_state *st = &s->state;
    int64_t step;
    if (as == TRAIN_FRESH) return start_afresh(s);
    FT_TRY(train_checkpoint_clean(s));
    FT_TRY(newest_valid(s, &step));
    if (step < 0) {
        FT_CHECK(!s->damaged, FT_EDATA,
                 "%s: is not what the finished run wrote, and there is no whole checkpoint to "
                 "write it again from; start anew with --force",
                 s->damaged);
        FT_CHECK(
            !s->was_complete, FT_EEXIST,
            "%s: the finished run has no whole checkpoint to go on from; start anew with --force",
            s->out);
        log_info("no checkpoint yet: starting afresh");
        return start_afresh(s);
    }
    FT_TRY(train_checkpoint_load(s, step, false));
    s->resumed_from = s->saved_step = step;
    s->part_seconds = st->seconds;
    bool impatient = s->cfg.train.patience > 0 && st->bad_evals >= s->cfg.train.patience;
    st->finished = st->step >= s->total_steps || impatient;
    log_info("going on after step %lld of %lld", (long long)step, (long long)s->total_steps);
    return train_log_open(s);
}
