/* program.h – a program of the user's that answers lines: one is written to its standard input for each question, one is read
 * from its standard output for each answer. */
#ifndef FT_REWARD_PROGRAM_H
#define FT_REWARD_PROGRAM_H

#include "ft/base.h"

#include <sys/types.h>

typedef struct rw_program {
    char *const *argv;  /* NULL-terminated; argv[0] is a path, or looked up in PATH */
    const char *name;   /* for messages */
    const char *errors; /* file that its standard error is added to; NULL: ours */
    double timeout;     /* seconds that an answer may take */
    /* inside */
    pid_t pid; /* 0: it does not run */
    int in, out;
    str_buf got;      /* of an answer that is not whole */
    int64_t answered; /* lines since it was started */
    bool failed;      /* it is not waited for any more */
} rw_program;

/* Never by a shell; of our descriptors it has three. 74: it cannot be started. */
FT_MUST_USE ft_status rw_program_start(rw_program *p);
/* Lines, each with its end, in `text` from at[i] on (n of them, at[n]: the end), and a number for each: out [n]. One that ends
 * is started again, if it has answered since its start, and asked what is left. 74, naming line[i]: it ends without an answer,
 * takes too long, says what is no number or what it was not asked. FT_ESIGNAL: it was not waited for. */
FT_MUST_USE ft_status rw_program_ask(rw_program *p, double *out, const char *text, const size_t *at,
                                     const int64_t *line, int64_t n);
/* Its input ends; what is still there a moment later is killed, with its group. */
void rw_program_end(rw_program *p);
#endif
