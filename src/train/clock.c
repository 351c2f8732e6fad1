/* clock.c – whether a run has to stop, and how long it has taken. */
#include "train_private.h"

#include <signal.h>

/* The time limit counts from the first finished step of this part on, so that even a limit that loading alone exceeds
 * makes progress with every --resume. */
ft_status train_stop(const train_session *s)
{
    int signal_number = ft_stop_signal();
    double limit = s->cfg.train.max_seconds;
    if (signal_number)
        return ft_fail(FT_ESIGNAL, "stopped by %s before the first step; start again with: %s",
                       signal_number == SIGINT ? "SIGINT" : "SIGTERM", s->command);
    if (limit > 0 && s->part_tokens > 0 && ft_seconds() - s->started > limit)
        return ft_fail(FT_ETIME, "train.max_seconds (%g) is over", limit);
    return FT_OK;
}

double train_elapsed(const train_session *s)
{
    return s->part_seconds + (ft_seconds() - s->started);
}
