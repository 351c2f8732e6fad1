/* system.c – what the machine grants: clock, memory, processors, and the stop signals. */
#include "ft/base.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double ft_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Value in bytes of a "Name:  123 kB" line of a /proc file; 0 when it is not there. */
static size_t proc_kib(const char *path, const char *name)
{
    char line[256];
    size_t found = 0, n = strlen(name);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    while (!found && fgets(line, sizeof line, f)) {
        if (strncmp(line, name, n) == 0) found = (size_t)strtoull(line + n, NULL, 10) * 1024;
    }
    fclose(f);
    return found;
}

size_t ft_peak_rss(void)
{
    return proc_kib("/proc/self/status", "VmHWM:");
}

size_t ft_rss(void)
{
    return proc_kib("/proc/self/status", "VmRSS:");
}

static const char *cgroup_root(void)
{
    const char *root = getenv("FT_CGROUP_ROOT");
    return root && *root ? root : "/sys/fs/cgroup";
}

/* First number of a control file; SIZE_MAX when it is missing or says "max". */
static size_t control_value(const char *controller, const char *group, const char *file)
{
    char path[1024];
    unsigned long long v = 0;
    snprintf(path, sizeof path, "%s%s%s/%s", cgroup_root(), controller, group, file);
    FILE *f = fopen(path, "r");
    if (!f) return SIZE_MAX;
    int n = fscanf(f, "%llu", &v);
    fclose(f);
    return n == 1 ? (size_t)v : SIZE_MAX;
}

/* The group of this process for a v1 controller ("memory") or v2 (""). */
static void own_group(const char *controller, char *out, size_t size)
{
    char line[1024];
    FILE *f = fopen("/proc/self/cgroup", "r");
    out[0] = 0;
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        bool match = *controller ? strstr(names + 1, controller) != NULL : names[1] == 0;
        if (match && strcmp(path, "/") != 0) snprintf(out, size, "%s", path);
    }
    fclose(f);
}

size_t ft_memory_limit(const char **which)
{
    char v1[512], v2[512];
    struct rlimit as;
    own_group("memory", v1, sizeof v1);
    own_group("", v2, sizeof v2);
    const struct {
        const char *name;
        size_t bytes;
    } limits[] = {
        {"MemAvailable", proc_kib("/proc/meminfo", "MemAvailable:")},
        {"cgroup memory.max", control_value("", v2, "memory.max")},
        {"cgroup memory.max", control_value("", "", "memory.max")},
        {"cgroup memory.limit_in_bytes", control_value("/memory", v1, "memory.limit_in_bytes")},
        {"cgroup memory.limit_in_bytes", control_value("/memory", "", "memory.limit_in_bytes")},
        {"RLIMIT_AS", getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY
                          ? (size_t)as.rlim_cur
                          : SIZE_MAX},
    };
    size_t best = SIZE_MAX;
    const char *name = "none";
    for (size_t i = 0; i < FT_COUNT_OF(limits); i++) {
        if (limits[i].bytes > 0 && limits[i].bytes < best) {
            best = limits[i].bytes;
            name = limits[i].name;
        }
    }
    if (which) *which = name;
    return best;
}

int ft_cpus(void)
{
    cpu_set_t set;
    char group[512];
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    own_group("cpu", group, sizeof group);
    size_t quota = control_value("/cpu", group, "cpu.cfs_quota_us"),
           period = control_value("/cpu", group, "cpu.cfs_period_us");
    if (quota == SIZE_MAX || (long long)quota <= 0)
        quota = control_value("", "", "cpu.max"), period = 100000;
    if (quota != SIZE_MAX && (long long)quota > 0 && period > 0 && period != SIZE_MAX) {
        int granted = (int)((quota + period - 1) / period);
        if (granted < n) n = granted;
    }
    return n > 0 ? n : 1;
}

static volatile sig_atomic_t stop_signal;

static void on_stop(int signal_number)
{
    if (stop_signal) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
        return;
    }
    stop_signal = signal_number;
}

void ft_stop_install(void)
{
    struct sigaction a = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

int ft_stop_signal(void)
{
    return stop_signal;
}
