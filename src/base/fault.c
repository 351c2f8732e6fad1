/* fault.c – a mapped file that was cut, or whose disk fails, while it is read: SIGBUS becomes one line and exit code 74.
 *
 * The handler may interrupt anything, a thread that holds a lock too, so it does only what a handler may: it reads two lists
 * whose entries are changed by single stores, makes system calls, and ends the process. */
#include "base_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ft_mapped {
    ft_mapped *next;
    _Atomic(const char *) at; /* NULL: free */
    size_t bytes;
    char name[120]; /* safe for a terminal */
};
static _Atomic(ft_mapped *) mapped;

enum { TEMPORARIES = 16, DEPTH = 3 /* of folders in a result that is being made */ };
static _Atomic(char *) temporary[TEMPORARIES];
static void (*fault_told)(const char *line);

ft_mapped *ft_mapped_add(const void *at, size_t bytes, const char *name)
{
    ft_mapped *m = atomic_load(&mapped);
    while (m && atomic_load(&m->at)) m = m->next;
    if (!m) {
        m = ft_alloc(1, sizeof *m); /* stays: the handler may be reading the list */
        if (!m) return NULL;
        m->next = atomic_load(&mapped);
        atomic_store(&mapped, m);
    }
    m->bytes = bytes;
    snprintf(m->name, sizeof m->name, "%s", ft_shows(name));
    atomic_store(&m->at, (const char *)at);
    return m;
}

void ft_mapped_drop(ft_mapped *m)
{
    if (m) atomic_store(&m->at, NULL);
}

ft_status ft_temporary_add(const char *path)
{
    for (int i = 0; i < TEMPORARIES; i++) {
        if (atomic_load(&temporary[i])) continue;
        char *copy = ft_strdup(path);
        if (!copy) return FT_EMEM;
        atomic_store(&temporary[i], copy);
        return FT_OK;
    }
    return FT_OK; /* more at once than anybody has: one stays behind */
}

void ft_temporary_drop(const char *path)
{
    for (int i = 0; i < TEMPORARIES; i++) {
        char *one = atomic_load(&temporary[i]);
        if (!one || strcmp(one, path) != 0) continue;
        if (atomic_compare_exchange_strong(&temporary[i], &one, NULL)) ft_free(one);
        return;
    }
}

/* --- in the handler ------------------------------------------------------------------------------------------------ */

/* All that is in an open folder. What is removed may hide others from the reading, so it is read until nothing goes. */
static bool remove_inside(int folder, int depth)
{
    struct entry { /* of getdents64 */
        uint64_t inode;
        int64_t next;
        unsigned short bytes;
        unsigned char type;
        char name[];
    };
    _Alignas(struct entry) char list[4096];
    int why = 0;
    for (bool found = true; found;) {
        long n;
        found = false;
        why = 0;
        if (lseek(folder, 0, SEEK_SET) < 0) return false;
        while ((n = syscall(SYS_getdents64, folder, list, sizeof list)) > 0) {
            ft_written(list, (size_t)n); /* by the kernel */
            for (long at = 0; at < n;) {
                const struct entry *e = (const void *)(list + at);
                at += e->bytes;
                if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0) continue;
                if (ft_remove_at(folder, e->name, depth))
                    found = true;
                else if (!why)
                    why = errno;
            }
        }
        if (n < 0) return false;
    }
    errno = why;
    return why == 0;
}

bool ft_remove_at(int above, const char *name, int depth)
{
    if (unlinkat(above, name, 0) == 0 || errno == ENOENT) return true;
    if (errno != EISDIR && errno != EPERM) return false;
    const int why = errno;
    const int folder = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) {
        if (errno == ENOTDIR) errno = why;
        return errno == ENOENT;
    }
    errno = ELOOP;
    const bool empty = depth > 0 && remove_inside(folder, depth - 1);
    const int kept = errno;
    close(folder);
    errno = kept;
    return empty && (unlinkat(above, name, AT_REMOVEDIR) == 0 || errno == ENOENT);
}

void ft_temporary_remove(void)
{
    for (int i = 0; i < TEMPORARIES; i++) {
        const char *one = atomic_exchange(&temporary[i], NULL);
        if (one) (void)ft_remove_at(AT_FDCWD, one, DEPTH);
    }
}

static void put(char *line, size_t room, const char *text)
{
    const size_t at = strlen(line), n = strlen(text), take = n < room - at ? n : room - at - 1;
    memcpy(line + at, text, take);
    line[at + take] = 0;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    static char line[400];
    const char *at = info->si_addr;
    const ft_mapped *m = atomic_load(&mapped);
    (void)context;
    for (; m; m = m->next) {
        const char *from = atomic_load(&m->at);
        if (from && at >= from && (size_t)(at - from) < m->bytes) break;
    }
    if (!m || info->si_code <= 0) { /* not ours, or sent by somebody: as if there were no handler */
        signal(number, SIG_DFL);
        if (info->si_code <= 0) raise(number);
        return;
    }
    while (atomic_flag_test_and_set(&taken)) pause(); /* another thread tells of it and ends us */
    put(line, sizeof line, m->name);
    put(line, sizeof line,
        ": was cut, or can no longer be read, while it was in use; put it back whole and run "
        "again");
    if (fault_told) fault_told(line);
    ft_temporary_remove();
    _exit(FT_EIO);
}

void ft_fault_install(void (*told)(const char *line))
{
    fault_told = told;
    struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigemptyset(&a.sa_mask);
    sigaddset(&a.sa_mask, SIGINT);
    sigaddset(&a.sa_mask, SIGTERM);
    sigaction(SIGBUS, &a, NULL);
}
