/* program.c – see program.h.
 *
 * Both pipes are watched at once: a program may answer late, or stop reading until its answers are read, and neither side then
 * waits for the other. It is the leader of a group of its own, so that a Ctrl-C of the terminal reaches it through us, and
 * what it has started ends with it. */
#include "program.h"
#include "reward_private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_MS = 100, ANSWER_BYTES = 4096 };
/* Seconds to end by itself: of one that is done with, and of one that has failed or that a stop cuts short. */
#define PATIENCE 1.0
#define HURRY 0.1

extern char **environ;

/* --- its life ------------------------------------------------------------------------------------------------------ */

static void shut(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static bool make_pipe(int fd[2])
{
    fd[0] = fd[1] = -1;
    return pipe2(fd, O_CLOEXEC) == 0;
}

/* The child's three descriptors, signals as a program expects them, a group of its own. The number of an error. */
static int spawn(rw_program *p, int in, int out, int errors)
{
    posix_spawn_file_actions_t fds;
    posix_spawnattr_t how;
    sigset_t none, all;
    int bad = posix_spawn_file_actions_init(&fds);
    if (bad) return bad;
    bad = posix_spawnattr_init(&how);
    if (bad) {
        posix_spawn_file_actions_destroy(&fds);
        return bad;
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &all);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                       POSIX_SPAWN_SETPGROUP);
    bad = posix_spawn_file_actions_adddup2(&fds, in, STDIN_FILENO);
    if (!bad) bad = posix_spawn_file_actions_adddup2(&fds, out, STDOUT_FILENO);
    if (!bad && errors >= 0) bad = posix_spawn_file_actions_adddup2(&fds, errors, STDERR_FILENO);
#ifdef __GLIBC__ /* elsewhere those that we were given ourselves stay */
#if __GLIBC_PREREQ(2, 34)
    if (!bad) bad = posix_spawn_file_actions_addclosefrom_np(&fds, STDERR_FILENO + 1);
#endif
#endif
    if (!bad) bad = posix_spawnp(&p->pid, p->argv[0], &fds, &how, p->argv, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&fds);
    return bad;
}

static ft_status open_errors(const rw_program *p, int *fd)
{
    *fd = -1;
    if (!p->errors) return FT_OK;
    *fd = open(p->errors, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    return *fd >= 0 ? FT_OK : ft_fail_errno(FT_EIO, "%s: cannot be written", p->errors);
}

ft_status rw_program_start(rw_program *p)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, errors = -1;
    ft_status rc = FT_OK;
    p->pid = 0;
    p->answered = 0;
    str_clear(&p->got);
    FT_TRY(open_errors(p, &errors));
    if (!make_pipe(in) || !make_pipe(out)) {
        rc = ft_fail_errno(FT_EIO, "reward %s: cannot make a pipe", p->name);
    } else {
        const int bad = spawn(p, in[0], out[1], errors);
        if (bad) {
            p->pid = 0;
            if (bad == ENOMEM)
                rc = ft_fail(FT_EMEM, "reward %s: out of memory to start it", p->name);
            else
                rc = ft_fail(FT_EIO, "reward %s: %s: cannot be started: %s", p->name,
                             ft_shows(p->argv[0]), strerror(bad));
        }
    }
    shut(&in[0]);
    shut(&out[1]);
    shut(&errors);
    if (rc != FT_OK) {
        shut(&in[1]);
        shut(&out[0]);
        return rc;
    }
    p->in = in[1];
    p->out = out[0];
    fcntl(p->in, F_SETFL, O_NONBLOCK);
    fcntl(p->out, F_SETFL, O_NONBLOCK);
    return FT_OK;
}

/* So many seconds to end by itself. It is not reaped, so its number stays its own. */
static void give_time(pid_t pid, double seconds)
{
    const double end = ft_seconds() + seconds;
    for (;;) {
        siginfo_t who = {0};
        if (waitid(P_PID, (id_t)pid, &who, WEXITED | WNOHANG | WNOWAIT) < 0 || who.si_pid == pid)
            return;
        if (ft_seconds() >= end) return;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

/* Ends it and what it has started, and says how it ended. */
static int reap(rw_program *p, double patience)
{
    int how = 0;
    shut(&p->in);
    shut(&p->out);
    give_time(p->pid, patience);
    kill(-p->pid, SIGKILL);
    while (waitpid(p->pid, &how, 0) < 0 && errno == EINTR) {
    }
    p->pid = 0;
    return how;
}

void rw_program_end(rw_program *p)
{
    if (p->pid > 0) reap(p, p->failed || ft_stop_came() ? HURRY : PATIENCE);
    str_free(&p->got);
}

/* --- questions and answers ------------------------------------------------------------------------------------------ */

typedef struct talk {
    rw_program *p;
    const char *text;
    const size_t *at;
    const int64_t *line;
    int64_t n, done;
    size_t sent;
    double since; /* its latest sign of life: an answer, or its start */
    double *out;
} talk;

static ft_status failed(const talk *k, const char *what)
{
    rw_program *p = k->p;
    p->failed = true;
    const int64_t i = k->done < k->n ? k->done : k->n - 1;
    return ft_fail(FT_EIO, "reward %s: line %lld: %s %s%s%s", p->name, (long long)k->line[i],
                   ft_shows(p->argv[0]), what, p->errors ? "; what it says is in " : "",
                   p->errors ? p->errors : "");
}

static ft_status send_some(talk *k)
{
    const ssize_t n = write(k->p->in, k->text + k->sent, k->at[k->n] - k->sent);
    if (n >= 0) k->sent += (size_t)n;
    if (n >= 0 || errno == EAGAIN || ft_again()) return FT_OK;
    if (errno == EPIPE)
        shut(&k->p->in); /* it reads no more; what it answers tells the rest */
    else
        return failed(k, "cannot be written to");
    return FT_OK;
}

/* A decimal number, with nothing but space around it. */
static bool read_number(const char *text, double *out)
{
    char *end;
    text += strspn(text, " \t");
    const size_t n = strspn(text, "+-.0123456789eE"); /* no words and hexadecimals of strtod */
    if (n == 0 || text[n + strspn(text + n, " \t\r")]) return false;
    *out = strtod(text, &end);
    return end == text + n && fabs(*out) <= RW_MOST;
}

/* Whole lines of what has come. */
static ft_status take_answers(talk *k)
{
    str_buf *got = &k->p->got;
    size_t from = 0;
    for (char *end; (end = memchr(got->data + from, '\n', got->len - from)) != NULL;) {
        if (k->done == k->n) return failed(k, "answers more lines than it is asked");
        *end = 0;
        if (strlen(got->data + from) != (size_t)(end - got->data) - from ||
            !read_number(got->data + from, &k->out[k->done])) {
            char what[128];
            snprintf(what, sizeof what, "answers \"%s\", which is no number up to 1e9",
                     ft_shows(got->data + from));
            return failed(k, what);
        }
        from = (size_t)(end - got->data) + 1;
        k->done++;
        k->p->answered++;
        k->since = ft_seconds();
    }
    if (got->len - from > ANSWER_BYTES) return failed(k, "answers with a line that has no end");
    memmove(got->data, got->data + from, got->len - from);
    got->len -= from;
    return FT_OK;
}

/* *ended: it has closed its output. */
static ft_status read_some(talk *k, bool *ended)
{
    char text[ANSWER_BYTES];
    const ssize_t n = read(k->p->out, text, sizeof text);
    *ended = n == 0;
    if (n < 0) return errno == EAGAIN || ft_again() ? FT_OK : failed(k, "cannot be read from");
    str_add(&k->p->got, text, (size_t)n);
    FT_TRY(str_ok(&k->p->got));
    return n > 0 ? take_answers(k) : FT_OK;
}

static ft_status ended(talk *k)
{
    char what[64];
    const bool idle = k->p->answered == 0;
    const int how = reap(k->p, PATIENCE);
    if (!idle && k->p->got.len == 0) {
        log_info("reward %s: %s has ended and is started again", k->p->name,
                 ft_shows(k->p->argv[0]));
        k->sent = k->at[k->done];
        k->since = ft_seconds();
        return rw_program_start(k->p);
    }
    if (WIFSIGNALED(how))
        snprintf(what, sizeof what, "was ended by signal %d without an answer", WTERMSIG(how));
    else
        snprintf(what, sizeof what, "ended with exit code %d without an answer", WEXITSTATUS(how));
    return failed(k, what);
}

/* Waits for a slice of time at most. */
static ft_status step(talk *k)
{
    struct pollfd fd[2] = {{.fd = k->p->out, .events = POLLIN}, {.fd = -1, .events = POLLOUT}};
    bool over = false;
    if (k->sent < k->at[k->n]) fd[1].fd = k->p->in;
    if (poll(fd, 2, SLICE_MS) < 0 && errno != EINTR) return failed(k, "cannot be waited for");
    FT_TRY(ft_stop());
    if (fd[1].revents) FT_TRY(send_some(k));
    if (fd[0].revents) FT_TRY(read_some(k, &over));
    if (over) return k->done < k->n ? ended(k) : FT_OK;
    if (k->done < k->n && ft_seconds() - k->since > k->p->timeout)
        return failed(k, "takes too long; does it answer each line, and flush what it writes?");
    return FT_OK;
}

/* Before it is asked: it may have ended meanwhile, or have said more than it was asked. */
static ft_status look(talk *k)
{
    char c;
    const ssize_t n = read(k->p->out, &c, 1);
    if (n > 0) return failed(k, "answers more lines than it is asked");
    return n == 0 ? ended(k) : FT_OK;
}

ft_status rw_program_ask(rw_program *p, double *out, const char *text, const size_t *at,
                         const int64_t *line, int64_t n)
{
    talk k = {.p = p, .text = text, .at = at, .line = line, .n = n, .out = out};
    if (n == 0) return FT_OK;
    FT_TRY(p->pid > 0 ? look(&k) : rw_program_start(p));
    k.since = ft_seconds();
    while (k.done < n) FT_TRY(step(&k));
    return p->got.len == 0 ? FT_OK : failed(&k, "answers more lines than it is asked");
}
