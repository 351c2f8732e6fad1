/* base.h – what every module stands on: status and error record, checked memory, arenas, strings,
 * a string map, counter-based random numbers, logging, the thread pool, SHA-256 and SHA-1, the stop flag.
 *
 * Nothing here prints or exits: messages go through the log sink that the program installs. */
#ifndef FT_BASE_H
#define FT_BASE_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FT_MUST_USE __attribute__((warn_unused_result))
#define FT_PRINTF(f, a) __attribute__((format(printf, f, a)))
/* Arithmetic modulo 2^n is meant, as hashes and random numbers are made of it: for a build in which sums that wrap are faults
 * (the preset fuzz-integer). */
#ifdef __clang__
#define FT_WRAPS __attribute__((no_sanitize("unsigned-integer-overflow")))
#else
#define FT_WRAPS
#endif
#define FT_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* --- status ------------------------------------------------------------------------------------
 * The value of a failing status is the exit code of the program (sysexits, one class each). */
#define FT_STATUS_ROWS(X)                                                                          \
    X(FT_EUSAGE, 64, "the command line is wrong: a verb, an option or a value")                    \
    X(FT_EDATA, 65, "data, a model, an adapter or a checkpoint is bad")                            \
    X(FT_ENOINPUT, 66, "an input is not there")                                                    \
    X(FT_EINTERNAL, 70, "a mistake of ft itself")                                                  \
    X(FT_EMEM, 71, "memory, or another limit of the system, does not suffice")                     \
    X(FT_EEXIST, 73, "the output exists, is locked or cannot be made")                             \
    X(FT_EIO, 74, "reading or writing failed, the disk is full")                                   \
    X(FT_ETIME, 75, "stopped at its own time limit; --resume goes on")                             \
    X(FT_EPERM, 77, "permission is missing")                                                       \
    X(FT_ECONFIG, 78, "the config is wrong")                                                       \
    X(FT_EDIVERGED, 80, "training diverged: a value is NaN or infinite")                           \
    X(FT_EGATE, 81, "a gate of an evaluation or the tolerance of a merge was not met")
typedef enum ft_status {
    FT_OK = 0,
    FT_END = 1, /* no error: a reader has nothing more */
#define FT_STATUS_ROW(name, code, help) name = code,
    FT_STATUS_ROWS(FT_STATUS_ROW)
#undef FT_STATUS_ROW
    FT_ESIGNAL = 128 /* stopped by SIGINT or SIGTERM after saving; see ft_stop_signal() */
} ft_status;

/* Records the message of a failure for this thread (replacing an older one) and returns `status`. While a refusal of memory
 * (FT_EMEM, "out of memory", and no limit of our own) is on record on this thread it stays there, and all that fails after
 * it returns FT_EMEM: it is a consequence.
 * Form of a message: "FILE:LINE:COL: KEY: what; remedy" without "ft: error:" and without newline. */
ft_status ft_fail(ft_status status, const char *fmt, ...) FT_PRINTF(2, 3);
/* Adds one more line to the record: parsers that report several mistakes in one go. */
ft_status ft_fail_more(ft_status status, const char *fmt, ...) FT_PRINTF(2, 3);
/* A record that was put by, of this thread or of another, as it is: its line breaks part lines. NULL: there was no memory to
 * put it by, FT_EMEM. */
ft_status ft_fail_again(ft_status status, const char *told);
/* ft_fail for a system call: picks the status from errno (ENOENT 66, EACCES 77, ENOMEM 71, EINTR 128 where a stop
 * came, else `status`) and appends strerror. */
ft_status ft_fail_errno(ft_status status, const char *fmt, ...) FT_PRINTF(2, 3);
/* The recorded message, "" when there is none; lines are separated by '\n'. */
const char *ft_error(void);
void ft_error_clear(void); /* of a failure that is none here; a refusal of memory stays */
void ft_error_forget(void); /* that, too: of who can do without it, or begins anew */
bool ft_error_starved(void); /* a refusal of memory is on record */
/* The refusals since ft_error_starved() gave `before`: of what was tried and can be done without. */
static inline void ft_error_forget_since(bool before)
{
    if (!before && ft_error_starved()) ft_error_forget();
}
/* While it is kept, a record that is there stays as it is: what tidies up after a failure does not replace its message.
 * Calls nest. */
void ft_error_keep(bool keep);
/* Copies `text` (n bytes) for use in a message: control and bidi characters escaped, invalid UTF-8
 * as \xNN, cut at 80 bytes. The result lives in a ring of 8 per-thread buffers. */
const char *ft_show(const char *text, size_t n);
const char *ft_shows(const char *text); /* the same for a NUL-terminated string */
/* "1.2 GiB"; in a ring of 12 per-thread buffers. */
const char *ft_bytes_text(size_t bytes);

/* Where the recorded failure was made, "src/io/file.c:31 file_open"; "" in other builds than Debug. */
const char *ft_error_origin(void);
#ifdef FT_DEBUG
void ft_error_at(const char *file, int line, const char *function);
#define ft_fail(...) (ft_error_at(__FILE__, __LINE__, __func__), ft_fail(__VA_ARGS__))
#define ft_fail_more(...) (ft_error_at(__FILE__, __LINE__, __func__), ft_fail_more(__VA_ARGS__))
#define ft_fail_again(...) (ft_error_at(__FILE__, __LINE__, __func__), ft_fail_again(__VA_ARGS__))
#define ft_fail_errno(...) (ft_error_at(__FILE__, __LINE__, __func__), ft_fail_errno(__VA_ARGS__))
#endif

#define FT_TRY(call)                                                                               \
    do {                                                                                           \
        ft_status ft_try_ = (call);                                                                \
        if (ft_try_ != FT_OK) return ft_try_;                                                      \
    } while (0)
#define FT_CHECK(cond, code, ...)                                                                  \
    do {                                                                                           \
        if (!(cond)) return ft_fail((code), __VA_ARGS__);                                          \
    } while (0)
/* As FT_TRY and FT_CHECK, for functions that release something at `out:` and return `rc`. */
#define FT_TRY_OUT(call)                                                                           \
    do {                                                                                           \
        rc = (call);                                                                               \
        if (rc != FT_OK) goto out;                                                                 \
    } while (0)
#define FT_GUARD(cond, code, ...)                                                                  \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            rc = ft_fail((code), __VA_ARGS__);                                                     \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

/* --- memory ------------------------------------------------------------------------------------
 * The only allocator of the tree. Zeroed; NULL on overflow or exhaustion, with the record set
 * (FT_EMEM). The environment variable FT_TEST_FAIL_AT=n makes the n-th call fail, n+ all from it on. */
void *ft_alloc(size_t count, size_t size);
void *ft_realloc(void *p, size_t count, size_t size); /* new bytes are not zeroed */
void ft_free(void *p);
char *ft_strdup(const char *s);
/* Bytes that a library has written which MemorySanitizer does not see into. Elsewhere nothing. */
void ft_written(const void *p, size_t n);
/* Checked arithmetic for sizes that come from files: false on overflow. */
bool ft_mul(size_t a, size_t b, size_t *out);
bool ft_add(size_t a, size_t b, size_t *out);

/* An arena hands out memory that lives until it is reset to an earlier mark; it never moves what it
 * has handed out. Address space is reserved in blocks as they are needed, up to `limit` bytes in all. */
typedef struct arena arena;
FT_MUST_USE ft_status arena_open(arena **out, const char *name, size_t limit);
/* Reserved now, and one range: what comes next begins where the last one ended (64-byte aligned). */
FT_MUST_USE ft_status arena_open_flat(arena **out, const char *name, size_t bytes);
/* An arena without memory: hands out addresses that must not be touched, and counts. For dry runs. */
FT_MUST_USE ft_status arena_open_counting(arena **out, const char *name);
void *arena_get(arena *a, size_t size); /* 64-byte aligned, zeroed; NULL past the limit */
void *arena_raw(arena *a, size_t size); /* the same, contents undefined after a reset */
char *arena_str(arena *a, const char *s);
char *arena_strn(arena *a, const char *s, size_t n);
char *arena_printf(arena *a, const char *fmt, ...) FT_PRINTF(2, 3);
size_t arena_mark(const arena *a);
void arena_reset(arena *a, size_t mark);
void arena_return(arena *a); /* resets to 0, and its memory goes back to the system */
void arena_expect(arena *a, size_t bytes); /* the next block is of so many bytes, if they are granted */
/* Makes what was handed out last, and ends at `end`, longer; false: it ends elsewhere, or there is no room
 * behind it. */
bool arena_extend(arena *a, const void *end, size_t more);
size_t arena_peak(const arena *a);
bool arena_has(const arena *a, size_t size); /* below its limit: what failed then was the system */
/* Bytes of memory that `used` bytes of an arena take: the first 2 MiB come in small pages, others in huge
 * ones. */
size_t arena_pages(size_t used);
void arena_close(arena *a); /* accepts NULL */

/* --- strings ------------------------------------------------------------------------------------ */
/* A growing byte string, NUL-terminated whenever data is not NULL. Start with { 0 }. A failed
 * growth sets `failed`, later calls do nothing; check once with str_ok. */
typedef struct str_buf {
    char *data;
    size_t len, cap;
    bool failed;
} str_buf;
void str_add(str_buf *s, const char *text, size_t n);
void str_adds(str_buf *s, const char *text);
void str_addc(str_buf *s, char c);
void str_printf(str_buf *s, const char *fmt, ...) FT_PRINTF(2, 3);
void str_vprintf(str_buf *s, const char *fmt, va_list ap);
void str_clear(str_buf *s); /* length 0, keeps the memory */
void str_free(str_buf *s);
FT_MUST_USE ft_status str_ok(const str_buf *s);
/* Shortest decimal that reads back as the same float (locale independent). */
void str_float(str_buf *s, float v);
void str_double(str_buf *s, double v);
/* JSON string literal with quotes; control characters, quote and backslash escaped, rest raw. */
void str_json(str_buf *s, const char *text, size_t n);

/* `what` in the text from byte `from` (at most its length) on, which may be empty; NULL: it is not there. */
const char *str_find(const str_buf *s, size_t from, const char *what, size_t n);
/* A word for a shell: as it is, or quoted so that pasting it gives these bytes and showing it moves no cursor ($'...' for
 * control characters, as bash, zsh and ksh read them). first: it is no option, whatever it begins with. */
void str_shell(str_buf *s, const char *word, bool first);

bool str_ends(const char *s, const char *suffix);
bool str_starts(const char *s, const char *prefix);

/* UTF-8: decodes one character at p (n bytes left) into *cp and returns its length; invalid input
 * returns 1 and *cp = -1. Encoding writes up to 4 bytes and returns the count. */
int utf8_next(const char *p, size_t n, int32_t *cp);
int utf8_put(char out[4], int32_t cp);
bool utf8_valid(const char *p, size_t n);
bool utf8_unsafe(int32_t cp); /* may not reach a terminal raw */
size_t utf8_count(const char *p, size_t n); /* characters; an invalid byte counts as one */

/* --- map: byte string → int64 ---------------------------------------------------------------------
 * Keys are not copied: they must outlive the map. Start with { 0 }. */
typedef struct map_slot {
    const char *key;
    uint32_t len, hash;
    int64_t value;
} map_slot;
typedef struct map_table {
    map_slot *slot;
    size_t cap, count;
} map_table;
FT_MUST_USE ft_status map_put(map_table *m, const char *key, size_t len,
                              int64_t value); /* replaces */
bool map_get(const map_table *m, const char *key, size_t len, int64_t *value);
void map_free(map_table *m);

/* --- random numbers ------------------------------------------------------------------------------
 * Counter based: a value is a pure function of (key, counter), so there is no state to save and the
 * order of use does not matter. Philox-2x64-10. */
uint64_t rng_u64(uint64_t key, uint64_t counter);
uint64_t rng_key(uint64_t seed, uint64_t a, uint64_t b); /* mixes identities into a key */
uint64_t rng_key_text(uint64_t seed, const char *text);  /* e.g. the name of a tensor */
double rng_uniform(uint64_t key, uint64_t counter);      /* [0, 1) with 53 bits */
void rng_fill_uniform(float *out, int64_t n, uint64_t key, float low, float high);
void rng_fill_normal(float *out, int64_t n, uint64_t key, float mean, float std);
/* A permutation of 0 … n−1, a pure function of key. */
void rng_permute(int64_t *out, int64_t n, uint64_t key);

/* --- log -------------------------------------------------------------------------------------------- */
typedef enum log_level { LOG_WARN, LOG_INFO, LOG_PROGRESS, LOG_BUSY } log_level;
typedef void (*log_sink)(void *ctx, log_level level, const char *line);
void log_set_sink(log_sink sink, void *ctx); /* NULL: silence (the start) */
void log_warn(const char *fmt, ...) FT_PRINTF(1, 2); /* the same line is told once */
void log_info(const char *fmt, ...) FT_PRINTF(1, 2);
/* A line that replaces the last one on a terminal and is not shown elsewhere. Details stand two spaces apart: where the
 * terminal is narrow they are left out from the left, the last one never. */
void log_progress(const char *fmt, ...) FT_PRINTF(1, 2);
/* What is being done from here to log_idle, for who waits: "reading FILE". An empty line of LOG_BUSY is its end. */
void log_busy(const char *fmt, ...) FT_PRINTF(1, 2);
void log_idle(void);

/* --- thread pool --------------------------------------------------------------------------------------
 * One pool for the process. Tiles are numbered by the caller from the shape alone; workers take the
 * next number from an atomic, so the result may not depend on which thread ran a tile. The caller
 * works too; a nested call runs inline. Without pool_open everything runs on the calling thread.
 * Fewer threads than asked for (the system refused) is not an error. */
typedef void (*pool_fn)(void *ctx, int64_t tile, int thread);
FT_MUST_USE ft_status pool_open(int threads); /* 0: as many as the CPUs this process may use */
void pool_close(void);
int pool_threads(void);
void pool_run(pool_fn fn, void *ctx, int64_t tiles);
/* Scratch of one thread, 64-byte aligned, at least `bytes`, contents undefined; valid until that
 * thread asks again for the same slot (0 … 3: for kernels that nest). NULL: out of memory; the
 * failure is kept and pool_failed() tells it after the run. */
void *pool_scratch(int thread, int slot, size_t bytes);
size_t pool_scratch_bytes(void); /* of all threads */
bool pool_failed(void); /* and clears */

/* What a call needs and the next one, of whatever thread, can use again: buffers, tables. Start with { 0 }. */
typedef struct ft_spare {
    _Atomic(void *) at[16];
} ft_spare;
void *ft_spare_take(ft_spare *s); /* NULL: nothing lies there */
/* false: it is full, and p remains the caller's. */
FT_MUST_USE bool ft_spare_give(ft_spare *s, void *p);

/* --- the rest ------------------------------------------------------------------------------------------ */
typedef struct sha256_state {
    uint32_t h[8];
    /* chosen once: asking the CPU is slow under a hypervisor */
    void (*compress)(uint32_t h[8], const uint8_t *block);
    uint64_t bytes;
    uint8_t block[64];
    size_t fill;
} sha256_state;
void sha256_init(sha256_state *s);
void sha256_add(sha256_state *s, const void *data, size_t n);
void sha256_hex(sha256_state *s, char out[65]);
typedef struct sha1_state { /* what Git names files by */
    uint32_t h[5];
    uint64_t bytes;
    uint8_t block[64];
    size_t fill;
} sha1_state;
void sha1_init(sha1_state *s);
void sha1_add(sha1_state *s, const void *data, size_t n);
void sha1_hex(sha1_state *s, char out[41]);

/* Opens a file to read. 66 missing, 77 permission; 65 for a folder, a pipe, a device or a socket, before anything waits.
 * name: for messages; NULL: the path. */
FT_MUST_USE ft_status ft_open(int *fd, const char *path, const char *name);
double ft_seconds(void);  /* monotonic clock */
size_t ft_peak_rss(void); /* bytes; VmHWM */
size_t ft_rss(void);      /* bytes now */
void ft_memory_start(void); /* sets the allocator of the C library, once, at the start of a program */
/* Memory that was freed goes back to the system, where the C library keeps it. */
void ft_give_back(void);
/* Bytes in memory of the mappings that one of the ranges lies in, or begins or ends in. */
typedef struct ft_range {
    const void *from;
    size_t bytes;
} ft_range;
size_t ft_rss_of(const ft_range *range, int64_t n);
/* The most that this process may have in memory, what it has already counted in, and what says so: the
 * least that MemAvailable, the cgroup (v1 or v2) and those above it, RLIMIT_AS and RLIMIT_DATA leave to
 * it. FT_CGROUP_ROOT replaces /sys/fs/cgroup in tests. */
size_t ft_memory_limit(const char **which);
typedef struct ft_need {
    size_t bytes;   /* of memory in all, what is in use with it */
    size_t mapped;  /* of them, pages of files: they can be dropped and read again, which a cgroup sees to */
    size_t absent;  /* of those, mapped already and not in memory */
    size_t address; /* address space beside the bytes */
} ft_need;
typedef struct ft_grant {
    size_t need, limit;
    const char *name;
} ft_grant;
/* The limit that a need comes closest to, or exceeds most: what it grants, and how much of the need counts there. */
ft_grant ft_memory_ask(const ft_need *n);
ft_grant ft_memory_more(size_t bytes); /* the same for what is in use now and so many bytes more */
const char *ft_cpu_name(void); /* the model as the system names it; "unknown" where it does not */
int ft_cpus(void); /* CPUs of the affinity mask, cut by the cgroup quota */

/* A mapped file that is cut while it is read, or that the disk no longer gives: told gets one line without newline, from inside
 * a signal handler, what was made for a time is removed, and the process ends with 74. Without it SIGBUS ends the process. */
void ft_fault_install(void (*told)(const char *line));
/* Memory that a file of this name is mapped to; NULL: out of memory. drop accepts NULL, before the mapping goes. One thread. */
typedef struct ft_mapped ft_mapped;
ft_mapped *ft_mapped_add(const void *at, size_t bytes, const char *name);
void ft_mapped_drop(ft_mapped *m);
/* Removes a file, or a folder with what it holds so many levels down; a link itself, not what it leads to. Fine when nothing is
 * there; false with errno, when all has gone that can. Neither memory nor locks: also for a signal handler. */
bool ft_remove_at(int above, const char *name, int depth);
/* A file or folder that is of no use when the process is ended in the middle, by SIGBUS or by a stop signal that could not be
 * obeyed in time: it is removed then, until it is dropped. */
FT_MUST_USE ft_status ft_temporary_add(const char *path);
void ft_temporary_drop(const char *path);

/* SIGINT and SIGTERM set a flag that long work polls, and cut system calls that wait; a second signal ends the process at
 * once. What has not ended a second later is ended as by a crash. told: writes a note for the eye (error: the line of an
 * error), from inside the handler; may be NULL. */
void ft_stop_install(void (*told)(const char *note, bool error));
/* Seconds more to end in order: for work that has something to save. */
void ft_stop_allow(int seconds);
/* FT_OK, or FT_ESIGNAL with its message: to be polled by work of more than a second. */
ft_status ft_stop(void);
/* After a system call that failed: a signal that asks for nothing cut it; it is to be made again. */
bool ft_again(void);
/* What is told at the first signal and at the second; texts that stay until others, or NULL, take their place. */
void ft_stop_notes(const char *first, const char *second);
int ft_stop_signal(void); /* 0, SIGINT or SIGTERM */
int ft_stop_came(void);   /* the same, held or not */
bool ft_wait(double seconds); /* false: a stop came, and the wait is over */
/* While it is held, the flag and the time limit are not to be seen: a checkpoint is written whole. */
void ft_stop_hold(bool hold);
/* The clock (ft_seconds) at which work is to end; 0: never. */
void ft_stop_at(double clock);
/* FT_OK, FT_ESIGNAL or FT_ETIME, without a message: what long work polls that a run may wait for. */
ft_status ft_stop_asked(void);
/* In a conversation SIGINT ends an answer, not the program: while on, it may come any number of times. */
void ft_stop_patient(bool on);
bool ft_stop_take(void); /* a SIGINT has come: the flag is clear again */
#endif
