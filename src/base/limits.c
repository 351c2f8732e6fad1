/* limits.c – what the machine grants: memory, by whatever limits it, and processors. */
#include "base_private.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Value in bytes of a "Name:  123 kB" line of a /proc file; 0 when it is not there. It takes no memory: it is asked when
 * there is none. */
static size_t proc_kib(const char *path, const char *name)
{
    char text[8192];
    size_t len = 0, n = strlen(name);
    ssize_t got;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    while (len < sizeof text - 1 && (got = read(fd, text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)got;
    close(fd);
    text[len] = 0;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, n) == 0) return (size_t)strtoull(line + n, NULL, 10) * 1024;
    }
    return 0;
}

static bool in_one(const ft_range *range, int64_t n, uintptr_t from, uintptr_t to)
{
    for (int64_t i = 0; i < n; i++)
        if (from < (uintptr_t)range[i].from + range[i].bytes && to > (uintptr_t)range[i].from)
            return true;
    return false;
}

size_t ft_rss_of(const ft_range *range, int64_t n)
{
    char line[512];
    size_t sum = 0;
    unsigned long long a, b, kib;
    bool inside = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%llx-%llx ", &a, &b) == 2)
            inside = in_one(range, n, (uintptr_t)a, (uintptr_t)b);
        else if (inside && sscanf(line, "Rss: %llu", &kib) == 1)
            sum += (size_t)kib * 1024;
    }
    fclose(f);
    return sum;
}

size_t ft_peak_rss(void)
{
    return proc_kib("/proc/self/status", "VmHWM:");
}

size_t ft_rss(void)
{
    return proc_kib("/proc/self/status", "VmRSS:");
}

/* Large blocks by mmap, whatever was freed before: they grow without a copy and are gone when they are freed, so a second
 * reading of data takes what the first did. */
void ft_memory_start(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 512 << 10);
    mallopt(M_TRIM_THRESHOLD, 2 << 20);
    struct rlimit r; /* an arena of malloc for each thread reserves 64 MiB */
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY) mallopt(M_ARENA_MAX, 1);
#endif
}

void ft_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static const char *cgroup_root(void)
{
    const char *root = getenv("FT_CGROUP_ROOT");
    return root && *root ? root : "/sys/fs/cgroup";
}

static FILE *control_open(const char *controller, const char *group, const char *file)
{
    char path[1024];
    snprintf(path, sizeof path, "%s%s%s/%s", cgroup_root(), controller, group, file);
    return fopen(path, "r");
}

/* First number of a control file; SIZE_MAX when it is missing or says "max". */
static size_t control_value(const char *controller, const char *group, const char *file)
{
    unsigned long long v = 0;
    FILE *f = control_open(controller, group, file);
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

/* Bytes of the group's page cache, which makes room when it is needed. */
static size_t group_cache(const char *controller, const char *group)
{
    char name[64];
    unsigned long long v, sum = 0;
    FILE *f = control_open(controller, group, "memory.stat");
    if (!f) return 0;
    while (fscanf(f, "%63s %llu", name, &v) == 2) {
        if (strcmp(name, *controller ? "total_inactive_file" : "inactive_file") == 0 ||
            strcmp(name, *controller ? "total_active_file" : "active_file") == 0)
            sum += v;
    }
    fclose(f);
    return (size_t)sum;
}

static size_t minus(size_t a, size_t b)
{
    return a > b ? a - b : 0;
}

/* The least that the group or one above it leaves to this process, of which `own` is in use already. */
static size_t group_grant(const char *controller, const char *max, const char *now, size_t own)
{
    char group[512];
    size_t best = SIZE_MAX;
    own_group(controller, group, sizeof group);
    const char *folder = *controller ? "/memory" : "";
    for (;;) {
        size_t limit = control_value(folder, group, max), used = control_value(folder, group, now);
        if (used == SIZE_MAX) used = 0;
        if (limit != SIZE_MAX) {
            limit = minus(limit, minus(used, group_cache(folder, group) + own));
            if (limit < best) best = limit ? limit : 1;
        }
        char *last = strrchr(group, '/');
        if (!last) return best;
        *last = 0;
    }
}

/* Of a limit on address space or data: what is reserved and not in use is gone, but for what was asked for already. */
static size_t rlimit_grant(unsigned resource, const char *reserved, size_t asked)
{
    struct rlimit r;
    if (getrlimit(resource, &r) != 0 || r.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
    size_t idle = minus(proc_kib("/proc/self/status", reserved), ft_rss() + asked);
    size_t left = minus((size_t)r.rlim_cur, idle);
    return left ? left : 1;
}

/* Where no /proc says what of it is free. */
static ft_grant physical(size_t need)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const bool known = pages > 0 && page > 0;
    return (ft_grant){need, known ? (size_t)pages * (size_t)page : SIZE_MAX, "physical memory"};
}

ft_grant ft_memory_ask(const ft_need *n)
{
    const size_t own = proc_kib("/proc/self/status", "RssAnon:");
    const size_t free = proc_kib("/proc/meminfo", "MemAvailable:");
    const size_t made = minus(n->bytes, n->mapped);
    const ft_grant all[] = {
        free ? (ft_grant){n->bytes, free + own, "MemAvailable"} : physical(n->bytes),
        {made, group_grant("", "memory.max", "memory.current", own), "cgroup memory.max"},
        {made, group_grant("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", own),
         "cgroup memory.limit_in_bytes"},
        {n->bytes + n->address, rlimit_grant(RLIMIT_AS, "VmSize:", n->absent), "RLIMIT_AS"},
        {made, rlimit_grant(RLIMIT_DATA, "VmData:", 0), "RLIMIT_DATA"},
    };
    ft_grant worst = all[0];
    for (size_t i = 1; i < FT_COUNT_OF(all); i++)
        if ((double)all[i].limit - (double)all[i].need < (double)worst.limit - (double)worst.need)
            worst = all[i];
    if (worst.limit == SIZE_MAX) worst.name = "none";
    return worst;
}

ft_grant ft_memory_more(size_t bytes)
{
    return ft_memory_ask(
        &(ft_need){ft_rss() + bytes, proc_kib("/proc/self/status", "RssFile:"), 0, 0});
}

size_t ft_memory_limit(const char **which)
{
    const ft_grant g = ft_memory_ask(&(ft_need){0});
    if (which) *which = g.name;
    return g.limit;
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
