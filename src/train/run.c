/* run.c – `ft train`, from the command to the last file.
 *
 * Everything that can refuse does so before anything is written: config, output folder, tokenizer, model, data, memory,
 * disk. The folder is locked as soon as it exists and looked at again under the lock. */
#include "train_private.h"

#include "ft/kernel.h"

#include <stdio.h>
#include <string.h>

static ft_status lock_folder(train_session *s, train_start *as)
{
    if (s->lock >= 0) return FT_OK;
    FT_TRY(dir_make(s->out));
    FT_TRY(dir_lock(s->out, &s->lock));
    return train_resume_look(s, as); /* another process may have been faster */
}

static ft_status prepare(train_session *s, train_start *as)
{
    FT_TRY(train_place_check(s));
    path_kind kind;
    FT_TRY(path_look(s->out, &kind));
    if (kind == PATH_FOLDER) FT_TRY(dir_lock(s->out, &s->lock));
    if (kind == PATH_FOLDER && s->opt->resume) FT_TRY(train_place_restore(s));
    FT_TRY(train_resume_look(s, as));
    if (*as == TRAIN_COMPLETE) return FT_OK;
    FT_TRY(train_session_open(s, true, false));
    FT_TRY(train_place_inputs(s));
    FT_TRY(train_plan_make(s));
    FT_TRY(train_plan_memory(s));
    FT_TRY(train_session_attach(s));
    FT_TRY(train_plan_disk(s));
    FT_TRY(train_resume_compare(s, as));
    FT_TRY(lock_folder(s, as));
    if (*as == TRAIN_COMPLETE) return FT_OK;
    return train_resume_compare(s, as);
}

/* The values that become the result: the best ones where they were asked for, else the last. */
static ft_status choose_values(train_session *s)
{
    const train_state *st = &s->state;
    if (!s->cfg.train.keep_best || st->best_step == 0 || st->best_step == st->step) return FT_OK;
    arena_reset(s->batch, 0);
    FT_TRY(train_checkpoint_check(s, st->best_step, TRAIN_OWN_BYTES, s->batch));
    FT_TRY(train_checkpoint_load(s, st->best_step, true));
    log_info("the values of step %lld, with the lowest eval_loss (%.4f), become the result",
             (long long)st->best_step, st->best_loss);
    return FT_OK;
}

static ft_status check_values(const train_session *s)
{
    const nn_store *p = &s->pe->store;
    FT_CHECK(kn_find_nonfinite(p->w, p->count) < 0, FT_EDIVERGED,
             "step %lld: a trained value is not finite after the last update; no result was saved",
             (long long)s->state.step);
    return FT_OK;
}

/* A stop that comes with the last step is not lost in the writing of a whole model: the state is saved first, and only
 * the result remains to be written. */
static ft_status save_result(train_session *s)
{
    bool whole = s->pe->result == PE_MODEL;
    if (ft_stop_signal() && whole) return train_save_and_stop(s, FT_ESIGNAL);
    FT_TRY(file_inputs_check());
    FT_TRY(choose_values(s));
    FT_TRY(check_values(s));
    FT_TRY(train_log_sync(s));
    FT_TRY(train_place_begin(s));
    file_notes notes;
    file_notes_begin(&notes);
    ft_status rc = train_folder_save(s, s->out, s->out);
    if (rc == FT_OK) rc = train_write_summary(s, &notes);
    file_notes_end(&notes);
    if (rc == FT_OK) rc = dir_sync(s->out);
    if (rc == FT_OK) train_place_settle(s);
    return rc;
}

/* A failure after the first checkpoint tells how to go on; after a divergence, where the last good values are. */
static ft_status with_remedy(const train_session *s, ft_status rc)
{
    char why[800];
    bool stopped = rc == FT_ESIGNAL || rc == FT_ETIME;
    if (stopped && !strstr(ft_error(), s->command))
        return ft_fail(rc, "stopped while the result was written; go on with: %s", s->command);
    if (rc == FT_OK || stopped || s->saved_step < 0) return rc;
    snprintf(why, sizeof why, "%s", ft_error());
    ft_error_forget();
    if (rc == FT_EDIVERGED)
        return ft_fail(rc, "%s; the checkpoint of step %lld in %s holds the last good values", why,
                       (long long)s->saved_step, s->out);
    return ft_fail(rc, "%s; the checkpoint of step %lld is whole; go on with: %s", why,
                   (long long)s->saved_step, s->command);
}

/* The result answers, and what can be folded into its base is. */
static ft_status tell_next(const train_session *s, str_buf *out)
{
    int n = 0;
    if (!out) return FT_OK;
    if (s->tok) tok_chat_templates(s->tok, &n);
    const bool scores = s->m->scores || !s->tok; /* without a tokenizer it is asked by ids */
    str_printf(out, "ft %s --%s", scores ? "score" : "generate",
               s->pe->result == PE_MODEL ? "model" : "adapter");
    train_add_word(out, s->out, false);
    str_adds(out, scores ? " --data LINES" : n > 0 ? " --chat" : " --prompt TEXT");
    if (s->pe->result != PE_MODEL && s->pe->method->fold) {
        str_adds(out, ", or ft merge-adapter");
        train_add_word(out, s->out, true);
        str_adds(out, " --out PATH");
    }
    return str_ok(out);
}

static ft_status run(train_session *s, const train_options *opt, str_buf *result)
{
    train_start as;
    FT_TRY(train_session_config(s, opt));
    ft_stop_at(s->cfg.train.max_seconds > 0 ? s->started + s->cfg.train.max_seconds : 0);
    train_stop_notes(s);
    ft_status rc = prepare(s, &as);
    if (rc == FT_ESIGNAL || rc == FT_ETIME) return train_save_and_stop(s, rc);
    FT_TRY(rc);
    if (as == TRAIN_COMPLETE) {
        log_info("%s: this run is complete; nothing to do", s->out);
        train_place_settle(s);
        return train_result(s, result);
    }
    train_show_header(s);
    train_warn_data(s);
    rc = train_resume_load(s, as);
    train_stop_notes(s);
    if (rc == FT_OK) rc = train_loop(s);
    ft_stop_at(0); /* only the result remains to be written */
    if (rc == FT_OK) rc = save_result(s);
    if (rc != FT_OK) {
        train_place_tell(s);
        return with_remedy(s, rc);
    }
    FT_TRY(tell_next(s, opt->next));
    return train_result(s, result);
}

ft_status train_run(const train_options *opt, str_buf *result)
{
    train_session s;
    ft_status rc = run(&s, opt, result);
    ft_stop_at(0);
    ft_stop_allow(0);
    ft_stop_notes(NULL, NULL);
    train_session_close(&s);
    return rc;
}
