/* shim.c – faults that strace cannot make, preloaded into a release build: allocations that fail, threads that are not
 * made, transfers that move less than asked, another clock, bits that turn on their way to the disk.
 *
 * gcc -O2 -shared -fPIC shim.c -o shim.so -ldl; then LD_PRELOAD=shim.so and, in the environment:
 *   SHIM_ALLOC=K or K+   the K-th allocation from main on fails, or that and all later ones
 *   SHIM_STACKS=FILE     a line for each allocation: its number and a hash of the calls that led to it
 *   SHIM_THREAD=K or K+  likewise pthread_create, with EAGAIN
 *   SHIM_SHORT=SEED      read, write, pread and pwrite move one byte to half of what was asked for
 *   SHIM_CLOCK=SECONDS   what is added to the time of the day
 *   SHIM_FLIP=TEXT       one bit of the first large write to a path that holds TEXT is turned
 *   SHIM_PEAK=FILE       at the end: the most memory that was in use, in KiB
 *   SHIM_LEFT=FILE       at the end: a line for each descriptor above 2 that is still open
 * Counting begins with main, so that the loader and the constructors of libraries are left alone. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);

typedef struct trap {
    long at; /* 0: never */
    int keep;
    atomic_long count;
} trap;

enum { DEPTH = 12, MOST = 1 << 20 };
static trap allocs, threads;
static atomic_int armed;
static const char *stacks_to, *left_to, *peak_to, *flip_in;
static uint32_t stacks[MOST];
static uint64_t random_state; /* 0: whole transfers */
static long clock_offset;
static __thread int inside;

static void set_trap(trap *t, const char *name)
{
    const char *text = getenv(name);
    if (!text) return;
    t->at = atol(text);
    t->keep = strchr(text, '+') != NULL;
}

static int caught(trap *t)
{
    if (!atomic_load(&armed)) return 0;
    long k = atomic_fetch_add(&t->count, 1) + 1;
    return t->at && (k == t->at || (t->keep && k > t->at));
}

static int alloc_fails(void)
{
    if (inside || !atomic_load(&armed)) return 0;
    int hit = caught(&allocs);
    if (stacks_to) {
        void *frame[DEPTH];
        inside = 1;
        int n = backtrace(frame, DEPTH);
        inside = 0;
        uint32_t h = 2166136261u;
        for (int i = 1; i < n; i++) h = (h ^ (uint32_t)(uintptr_t)frame[i]) * 16777619u;
        long k = atomic_load(&allocs.count);
        if (k <= MOST) stacks[k - 1] = h;
    }
    if (hit) errno = ENOMEM;
    return hit;
}

void *malloc(size_t size)
{
    return alloc_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return alloc_fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return alloc_fails() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return alloc_fails() ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    if (alloc_fails()) return ENOMEM;
    *out = __libc_memalign(align, size);
    return *out ? 0 : ENOMEM;
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (!real) real = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    return alloc_fails() ? MAP_FAILED : real(at, size, prot, flags, fd, offset);
}

int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real)
        real = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(
            RTLD_NEXT, "pthread_create");
    return caught(&threads) ? EAGAIN : real(out, attr, run, arg);
}

/* Between one byte and half of it; a transfer of one byte stays whole. */
static size_t shorter(size_t n)
{
    if (!random_state || n < 2) return n;
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return 1 + (size_t)(random_state >> 33) % (n / 2);
}

static void *flipped(int fd, const void *bytes, size_t n)
{
    static atomic_int done;
    char link[64], path[4096];
    if (!flip_in || n < 256 || atomic_load(&done)) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t k = readlink(link, path, sizeof path - 1);
    if (k <= 0) return NULL;
    path[k] = 0;
    if (!strstr(path, flip_in) || atomic_exchange(&done, 1)) return NULL;
    char *copy = __libc_malloc(n);
    memcpy(copy, bytes, n);
    copy[n - 100] ^= 0x40;
    return copy;
}

ssize_t read(int fd, void *bytes, size_t n)
{
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return real(fd, bytes, shorter(n));
}

ssize_t pread(int fd, void *bytes, size_t n, off_t at)
{
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    return real(fd, bytes, shorter(n), at);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    n = shorter(n);
    void *copy = flipped(fd, bytes, n);
    ssize_t done = real(fd, copy ? copy : bytes, n);
    free(copy);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    n = shorter(n);
    void *copy = flipped(fd, bytes, n);
    ssize_t done = real(fd, copy ? copy : bytes, n, at);
    free(copy);
    return done;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int clock_gettime(clockid_t which, struct timespec *out)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(which, out);
    if (code == 0 && which == CLOCK_REALTIME) out->tv_sec += clock_offset;
    return code;
}

/* --- around main ------------------------------------------------------------------------------------------------- */
static int (*real_main)(int, char **, char **);

static int wrapped_main(int argc, char **argv, char **env)
{
    void *frame[DEPTH];
    const char *seed = getenv("SHIM_SHORT"), *offset = getenv("SHIM_CLOCK");
    set_trap(&allocs, "SHIM_ALLOC");
    set_trap(&threads, "SHIM_THREAD");
    stacks_to = getenv("SHIM_STACKS");
    left_to = getenv("SHIM_LEFT");
    peak_to = getenv("SHIM_PEAK");
    flip_in = getenv("SHIM_FLIP");
    if (seed) random_state = (uint64_t)atol(seed) * 2 + 1;
    if (offset) clock_offset = atol(offset);
    backtrace(frame, DEPTH); /* the first call loads a library */
    atomic_store(&armed, 1);
    return real_main(argc, argv, env);
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*unload)(void), void *stack)
{
    int (*real)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                void (*)(void), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "__libc_start_main");
    real_main = main;
    return real(wrapped_main, argc, argv, init, fini, unload, stack);
}

__attribute__((destructor)) static void report(void)
{
    atomic_store(&armed, 0);
    if (stacks_to) {
        FILE *f = fopen(stacks_to, "w");
        long n = atomic_load(&allocs.count);
        for (long i = 0; f && i < n && i < MOST; i++) fprintf(f, "%ld %08x\n", i + 1, stacks[i]);
        if (f) fclose(f);
    }
    FILE *peak = peak_to ? fopen(peak_to, "w") : NULL;
    if (peak) {
        struct rusage use = {0};
        getrusage(RUSAGE_SELF, &use);
        fprintf(peak, "%ld\n", use.ru_maxrss);
        fclose(peak);
    }
    DIR *open_now = left_to ? opendir("/proc/self/fd") : NULL;
    FILE *f = open_now ? fopen(left_to, "w") : NULL;
    for (struct dirent *e; f && (e = readdir(open_now));) {
        int fd = atoi(e->d_name);
        char link[64], path[4096];
        if (fd <= 2 || fd == dirfd(open_now) || fd == fileno(f)) continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t k = readlink(link, path, sizeof path - 1);
        fprintf(f, "%d %.*s\n", fd, (int)(k > 0 ? k : 0), path);
    }
    if (f) fclose(f);
    if (open_now) closedir(open_now);
}
