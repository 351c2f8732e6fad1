/* main.c – start-up and end of the program; everything between is cli_run.
 *
 * The start makes the world safe before the first file is opened: descriptors 0 to 2 exist (or a model file
 * would become "stdout"), a closed pipe or a full quota is an error and no signal. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* A closed descriptor becomes one that fails: results written to a closed stdout are lost, which is 74. */
static bool fill_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return false;
    }
    return true;
}

/* Ends as the signal would have ended us, so that a shell or a scheduler sees 130 or 143. */
static int die_of(int number)
{
    sigset_t set;
    signal(number, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    return FT_ESIGNAL + number;
}

int main(int argc, char **argv)
{
    if (!fill_descriptors()) return FT_EIO;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    ft_stop_install(cli_stop_told);
    ft_fault_install(cli_fault_told);
    ft_memory_start();
    cli_sink_install(NULL, false, false);

    ft_status rc = cli_run(argc - 1, argv + 1);
    if (rc == FT_END) rc = ft_fail(FT_EINTERNAL, "a reader's end was taken for a result");
    cli_sink_close();
    if (rc != FT_OK) cli_error(ft_error());
    if (rc != FT_OK && ft_error_origin()[0]) log_info("made at %s", ft_error_origin());
    ft_status flushed = cli_flush();
    if (flushed != FT_OK && rc == FT_OK) {
        cli_error(ft_error());
        rc = flushed;
    }
    pool_close();
    if (rc == FT_ESIGNAL) return die_of(ft_stop_signal() ? ft_stop_signal() : SIGTERM);
    return (int)rc;
}
