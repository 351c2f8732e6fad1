/* faulty.c – a disk with faults, for tests of the program: preloaded, it stands before write() and fsync().
 *
 * FAULTY_PATH: only files whose name holds this. FAULTY_HOW: "flip" turns over one bit of what is written, and says that all
 * is well; "full" has room for half of it, and then for nothing; "error" fails. FAULTY_TIMES: so many times (otherwise always), FAULTY_UNTIL: as long as
 * a file of this name is not there. FAULTY_LEAST: writes of fewer bytes are let through. "cut" and
 * "scribble" do nothing to the write, but cut FAULTY_VICTIM, an input, to 1000 bytes, or change a byte in its middle. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long number(const char *name, long other)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : other;
}

static int strikes(int fd, size_t n)
{
    static long left = -2;
    char link[64], path[4096];
    const char *want = getenv("FAULTY_PATH"), *until = getenv("FAULTY_UNTIL");
    if (left == -2) left = number("FAULTY_TIMES", -1);
    if (!want || left == 0 || (long)n < number("FAULTY_LEAST", 1)) return 0;
    if (until && access(until, F_OK) == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t k = readlink(link, path, sizeof path - 1);
    if (k <= 0) return 0;
    path[k] = 0;
    if (!strstr(path, want)) return 0;
    if (left > 0) left--;
    return 1;
}

static ssize_t flipped(ssize_t (*real)(int, const void *, size_t), int fd, const void *data,
                       size_t n)
{
    unsigned char *copy = malloc(n);
    if (!copy) abort();
    memcpy(copy, data, n);
    copy[n / 2] ^= 0x40;
    ssize_t put = real(fd, copy, n);
    free(copy);
    return put;
}

static void harm(const char *how, const char *victim)
{
    struct stat sb;
    const int fd = victim ? open(victim, O_RDWR) : -1;
    unsigned char c = 0;
    if (fd < 0 || fstat(fd, &sb) != 0) abort();
    if (strcmp(how, "cut") == 0) {
        if (ftruncate(fd, 1000) != 0) abort();
    } else {
        if (pread(fd, &c, 1, sb.st_size / 2) != 1) abort();
        c ^= 4;
        if (pwrite(fd, &c, 1, sb.st_size / 2) != 1) abort();
    }
    close(fd);
}

ssize_t write(int fd, const void *data, size_t n)
{
    static ssize_t (*real)(int, const void *, size_t);
    const char *how = getenv("FAULTY_HOW");
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (!how || !strikes(fd, n)) return real(fd, data, n);
    if (strcmp(how, "cut") == 0 || strcmp(how, "scribble") == 0) {
        harm(how, getenv("FAULTY_VICTIM"));
        return real(fd, data, n);
    }
    if (strcmp(how, "flip") == 0) return flipped(real, fd, data, n);
    if (strcmp(how, "full") == 0) {
        if (n > 1) (void)!real(fd, data, n / 2);
        errno = ENOSPC;
        return -1;
    }
    errno = EIO;
    return -1;
}
