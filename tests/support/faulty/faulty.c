/* faulty.c – a disk with faults, for tests of the program: preloaded, it stands before write(), fsync(), rename() and
 * renameat2().
 *
 * FAULTY_PATH: only files whose name holds this. FAULTY_HOW: "flip" turns over one bit of what is written, and says that all
 * is well; "full" has room for half of it, and then for nothing; "error" fails. FAULTY_TIMES: so many times (otherwise
 * always), FAULTY_UNTIL: as long as a file of this name is not there. FAULTY_LEAST: writes of fewer bytes are let through.
 * "cut" and "scribble" do nothing to the write, but cut FAULTY_VICTIM, an input, to 1000 bytes, or change a byte in its
 * middle; "litter" makes FAULTY_VICTIM.
 * "aside" and "stuck" are file systems without flags of renameat2: in the first no folder that holds a .old can be synced, in
 * the second nothing can be renamed to FAULTY_PATH. "race": somebody else makes FAULTY_PATH just before it is renamed to. */
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

static int strikes_at(const char *path, size_t n)
{
    static long left = -2;
    const char *want = getenv("FAULTY_PATH"), *until = getenv("FAULTY_UNTIL");
    if (left == -2) left = number("FAULTY_TIMES", -1);
    if (!want || left == 0 || (long)n < number("FAULTY_LEAST", 1)) return 0;
    if (until && access(until, F_OK) == 0) return 0;
    if (!strstr(path, want)) return 0;
    if (left > 0) left--;
    return 1;
}

static int strikes(int fd, size_t n)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t k = readlink(link, path, sizeof path - 1);
    if (k <= 0) return 0;
    path[k] = 0;
    return strikes_at(path, n);
}

static int is_how(const char *what)
{
    const char *how = getenv("FAULTY_HOW");
    return how && strcmp(how, what) == 0;
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
    const int made = strcmp(how, "litter") == 0 ? O_CREAT : 0;
    const int fd = victim ? open(victim, O_RDWR | made, 0666) : -1;
    unsigned char c = 0;
    if (fd < 0 || fstat(fd, &sb) != 0) abort();
    if (made) {
        close(fd);
        return;
    }
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
    if (!how || is_how("aside") || is_how("stuck") || is_how("race") || !strikes(fd, n))
        return real(fd, data, n);
    if (is_how("cut") || is_how("scribble") || is_how("litter")) {
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

int fsync(int fd)
{
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    if (!is_how("aside") || faccessat(fd, ".old", F_OK, AT_SYMLINK_NOFOLLOW) != 0) return real(fd);
    errno = EIO;
    return -1;
}

static int refused(const char *to)
{
    const char *want = getenv("FAULTY_PATH");
    if (!is_how("stuck") || !want || strcmp(to, want) != 0 || !strikes_at(to, 1)) return 0;
    errno = EIO;
    return 1;
}

int rename(const char *from, const char *to)
{
    static int (*real)(const char *, const char *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "rename");
    return refused(to) ? -1 : real(from, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    static int (*real)(int, const char *, int, const char *, unsigned);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "renameat2");
    if (is_how("aside") || is_how("stuck")) {
        errno = EINVAL;
        return -1;
    }
    if (is_how("race") && strikes_at(to, 1)) {
        const int fd = open(to, O_WRONLY | O_CREAT, 0666);
        if (fd < 0 || write(fd, "GGUF", 4) != 4) abort();
        close(fd);
    }
    return real(from_dir, from, to_dir, to, flags);
}
