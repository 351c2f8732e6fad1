/* base_private.h – what the files of this module share. */
#ifndef FT_BASE_PRIVATE_H
#define FT_BASE_PRIVATE_H

#include "ft/base.h"

#include <signal.h>

/* One more request for memory: is it the one, or of those, that FT_TEST_FAIL_AT names? */
bool ft_told_to_fail(void);
/* Removes what ft_temporary_add was told of; from inside a signal handler, as the last thing. */
void ft_temporary_remove(void);
/* SIGINT or SIGTERM, once one came; ft_stop_came() reads it. */
extern volatile sig_atomic_t ft_stopped_by;

#endif
