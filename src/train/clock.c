/* clock.c – whether a run has to stop, what is said then, and how long it has taken. */
#include "train_private.h"

#include <signal.h>
#include <string.h>

const char *train_stop_name(ft_status why)
{
    return why == FT_ETIME              ? "train.max_seconds"
           : ft_stop_signal() == SIGINT ? "SIGINT"
                                        : "SIGTERM";
}

/* A character at a time: nothing of it moves a cursor. */
static const char *plain_text(const train_session *s, const char *text)
{
    str_buf out = {0};
    for (size_t at = 0, n = strlen(text); at < n;) {
        int32_t cp;
        size_t len = (size_t)utf8_next(text + at, n - at, &cp);
        str_adds(&out, ft_show(text + at, len));
        at += len;
    }
    const char *copy = str_ok(&out) == FT_OK && out.data ? arena_str(s->mem, out.data) : NULL;
    str_free(&out);
    return copy;
}

void train_stop_notes(const train_session *s)
{
    const bool before = ft_error_starved();
    const char *second;
    if (s->saved_step >= 0)
        second = arena_printf(
            s->mem, "stopped at once: the checkpoint of step %lld is kept; go on with: %s",
            (long long)s->saved_step, s->command);
    else
        second = arena_printf(s->mem, "stopped at once: nothing was saved; start again with: %s",
                              s->command);
    ft_stop_notes(
        "stopping: the step under way is dropped, and the state is saved; a second signal "
        "stops at once",
        second ? plain_text(s, second) : NULL);
    ft_error_forget_since(before);
}

ft_status train_stop(void)
{
    ft_status why = ft_stop_asked();
    if (why != FT_OK) (void)ft_fail(why, "stopped by %s", train_stop_name(why));
    return why;
}

double train_elapsed(const train_session *s)
{
    return s->part_seconds + (ft_seconds() - s->started);
}
