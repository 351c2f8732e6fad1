/* system.c – the clock, the processor, and the stop signals. */
#include "base_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double ft_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What stands behind "key : " in a line of /proc/cpuinfo, of the first processor; "" when it is not there. */
static void cpu_fact(char *out, size_t size, const char *key)
{
    char line[512];
    size_t n = strlen(key);
    FILE *f = fopen("/proc/cpuinfo", "r");
    out[0] = 0;
    while (f && !out[0] && fgets(line, sizeof line, f)) {
        const char *value = strncmp(line, key, n) == 0 ? line + n + strspn(line + n, " \t") : "";
        if (*value == ':') snprintf(out, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    }
    if (f) fclose(f);
}

/* The marketing name tells little of a virtual machine's processor, family and model tell its kind. Arm has two codes. */
const char *ft_cpu_name(void)
{
    static char text[256];
    char name[160], family[24], kind[24];
    const bool arm = (cpu_fact(name, sizeof name, "model name"), name[0] == 0);
    cpu_fact(family, sizeof family, arm ? "CPU implementer" : "cpu family");
    cpu_fact(kind, sizeof kind, arm ? "CPU part" : "model");
    if (arm && kind[0])
        snprintf(text, sizeof text, "implementer %s, part %s", family, kind);
    else if (kind[0])
        snprintf(text, sizeof text, "%s (family %s, model %s)", name, family, kind);
    else
        snprintf(text, sizeof text, "%s", arm ? "unknown" : name);
    return text;
}

/* --- stop signals ---------------------------------------------------------------------------------
 * Work polls the flag and ends in order. What does not come to a place where it polls – a read of a disk that does not
 * answer, a write that nobody takes – is ended by an alarm, as a crash would: names that were given stand for whole files
 * only, so there is nothing to be made good but to remove what is unfinished. No SA_RESTART: a call that waits returns. */
enum { LATE_SECONDS = 1 };
static volatile sig_atomic_t stop_held, stop_patient, stop_grace, stop_late;
static double stop_time; /* clock; 0: never */
static void (*stop_told)(const char *note, bool error);
static _Atomic(const char *) stop_note[2];

static void end_as(int signal_number)
{
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* In a handler only what a handler may do; `stop_told` writes, and no more. */
static void on_late(int unused)
{
    (void)unused;
    if (stop_held || (stop_late += LATE_SECONDS) <= stop_grace) {
        alarm(LATE_SECONDS);
        return;
    }
    ft_temporary_remove();
    if (stop_told)
        stop_told(ft_stopped_by == SIGINT ? "stopped by SIGINT" : "stopped by SIGTERM", true);
    end_as(ft_stopped_by);
}

static void on_stop(int signal_number)
{
    const bool patient = stop_patient && signal_number == SIGINT;
    const bool again = ft_stopped_by != 0 && !(stop_patient && ft_stopped_by == SIGINT);
    const char *note = stop_note[again];
    if (note && stop_told) stop_told(note, false);
    if (again) {
        ft_temporary_remove();
        end_as(signal_number);
        return;
    }
    ft_stopped_by = signal_number;
    if (!patient) alarm(LATE_SECONDS);
}

void ft_stop_install(void (*told)(const char *note, bool error))
{
    stop_told = told;
    struct sigaction stop = {.sa_handler = on_stop}, late = {.sa_handler = on_late};
    sigemptyset(&stop.sa_mask);
    sigemptyset(&late.sa_mask);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGALRM, &late, NULL);
}

void ft_stop_allow(int seconds)
{
    stop_grace = seconds;
}

bool ft_again(void)
{
    return errno == EINTR && !ft_stop_signal();
}

ft_status ft_stop(void)
{
    const int why = ft_stop_signal();
    if (!why) return FT_OK;
    return ft_fail(FT_ESIGNAL, "stopped by %s", why == SIGINT ? "SIGINT" : "SIGTERM");
}

int ft_stop_signal(void)
{
    return stop_held ? 0 : ft_stopped_by;
}

/* In slices: a signal between the look and the sleep is seen a little later, not at the end. */
bool ft_wait(double seconds)
{
    const double end = ft_seconds() + seconds;
    for (double left = seconds; left > 0 && !ft_stopped_by; left = end - ft_seconds()) {
        const long slice = left < 0.1 ? (long)(left * 1e9) + 1 : 100000000L;
        nanosleep(&(struct timespec){.tv_nsec = slice}, NULL);
    }
    return !ft_stopped_by;
}

void ft_stop_hold(bool hold)
{
    stop_held = hold;
}

void ft_stop_notes(const char *first, const char *second)
{
    stop_note[1] = second;
    stop_note[0] = first;
}

void ft_stop_at(double clock)
{
    stop_time = clock;
}

ft_status ft_stop_asked(void)
{
    if (ft_stop_signal()) return FT_ESIGNAL;
    return stop_time > 0 && !stop_held && ft_seconds() > stop_time ? FT_ETIME : FT_OK;
}

void ft_stop_patient(bool on)
{
    stop_patient = on;
}

bool ft_stop_take(void)
{
    const bool came = ft_stopped_by == SIGINT;
    if (came) ft_stopped_by = 0;
    return came;
}
