/* memory.c – the one allocator: checked products, zeroed, and able to fail on demand.
 *
 * FT_TEST_FAIL_AT=n makes the n-th allocation of the process fail, which is how the out-of-memory paths
 * are tested. Arenas reserve address space once and commit by touching it, so what they handed out never
 * moves and their limit is known from the start. */
#include "ft/base.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool ft_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool ft_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static bool told_to_fail(void)
{
    static atomic_long count;
    static atomic_long fail_at = -1;
    long at = atomic_load(&fail_at);
    if (at == -1) {
        const char *text = getenv("FT_TEST_FAIL_AT");
        at = text ? atol(text) : 0;
        atomic_store(&fail_at, at);
    }
    return at > 0 && atomic_fetch_add(&count, 1) + 1 == at;
}

void *ft_alloc(size_t count, size_t size)
{
    size_t bytes;
    void *p = NULL;
    if (ft_mul(count, size, &bytes) && !told_to_fail()) p = calloc(bytes ? bytes : 1, 1);
    if (!p) ft_fail(FT_EMEM, "out of memory (%zu x %zu bytes asked for)", count, size);
    return p;
}

void *ft_realloc(void *old, size_t count, size_t size)
{
    size_t bytes;
    void *p = NULL;
    if (ft_mul(count, size, &bytes) && !told_to_fail()) p = realloc(old, bytes ? bytes : 1);
    if (!p) ft_fail(FT_EMEM, "out of memory (%zu x %zu bytes asked for)", count, size);
    return p;
}

void ft_free(void *p)
{
    free(p);
}

char *ft_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = ft_alloc(n, 1);
    if (copy) memcpy(copy, s, n);
    return copy;
}

void *ft_spare_take(ft_spare *s)
{
    void *p = NULL;
    for (size_t i = 0; !p && i < FT_COUNT_OF(s->at); i++) p = atomic_exchange(&s->at[i], NULL);
    return p;
}

bool ft_spare_give(ft_spare *s, void *p)
{
    for (size_t i = 0; i < FT_COUNT_OF(s->at); i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&s->at[i], &none, p)) return true;
    }
    return false;
}

/* --- arenas -------------------------------------------------------------------------------------- */
#define ARENA_ALIGN 64
#define HUGE_PAGE ((size_t)2 << 20)

struct arena {
    char name[24];
    void *map; /* what munmap gets */
    size_t map_bytes;
    uint8_t *base; /* 2 MiB aligned, so that huge pages apply */
    size_t limit, used, peak;
    size_t dirty; /* bytes from base that may be non-zero */
    size_t held;  /* those that LeakSanitizer knows of */
};

/* LeakSanitizer, where there is one, looks for pointers on the heap alone: what hangs in an arena is held, too. It reads all that
 * it is told of, so it is told of pieces as they are used, each as long as those before it together. */
void __lsan_register_root_region(const void *from, size_t bytes) __attribute__((weak));
void __lsan_unregister_root_region(const void *from, size_t bytes) __attribute__((weak));

static void hold(arena *a)
{
    while (a->held < a->used) {
        size_t bytes = a->held ? a->held : HUGE_PAGE;
        __lsan_register_root_region(a->base + a->held, bytes);
        a->held += bytes;
    }
}

static void let_go(arena *a)
{
    for (; a->held; a->held = a->held > HUGE_PAGE ? a->held / 2 : 0) {
        size_t bytes = a->held > HUGE_PAGE ? a->held / 2 : a->held;
        __lsan_unregister_root_region(a->base + a->held - bytes, bytes);
    }
}

ft_status arena_open(arena **out, const char *name, size_t limit)
{
    arena *a = ft_alloc(1, sizeof *a);
    *out = NULL;
    if (!a) return FT_EMEM;
    snprintf(a->name, sizeof a->name, "%s", name);
    a->map_bytes = limit + 2 * HUGE_PAGE;
    a->map = mmap(NULL, a->map_bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (a->map == MAP_FAILED) {
        ft_free(a);
        return ft_fail(
            FT_EMEM, "cannot reserve %zu MiB of address space for %s (a limit of ulimit -v or -d?)",
            limit >> 20, name);
    }
    a->base = (uint8_t *)(((uintptr_t)a->map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    a->limit = limit;
    /* 4 KiB pages cost 1.5 µs each on first touch; of many arenas only the beginning is used. */
    if (limit > HUGE_PAGE)
        madvise(a->base + HUGE_PAGE, limit / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    *out = a;
    return FT_OK;
}

ft_status arena_open_counting(arena **out, const char *name)
{
    arena *a = ft_alloc(1, sizeof *a);
    *out = a;
    if (!a) return FT_EMEM;
    snprintf(a->name, sizeof a->name, "%s", name);
    a->base = (uint8_t *)(uintptr_t)HUGE_PAGE;
    a->limit = SIZE_MAX / 4;
    return FT_OK;
}

void *arena_raw(arena *a, size_t size)
{
    size_t need = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (need < size || need > a->limit - a->used || told_to_fail()) {
        ft_fail(FT_EMEM, "out of memory: %s needs %zu bytes more than its limit of %zu MiB",
                a->name, size, a->limit >> 20);
        return NULL;
    }
    void *p = a->base + a->used;
    a->used += need;
    if (a->used > a->peak) a->peak = a->used;
    if (a->used > a->dirty) a->dirty = a->used;
    if (a->map && __lsan_register_root_region) hold(a);
    return p;
}

void *arena_get(arena *a, size_t size)
{
    size_t dirty = a->dirty, start = a->used;
    void *p = arena_raw(a, size);
    if (p && a->map && start < dirty) memset(p, 0, size < dirty - start ? size : dirty - start);
    return p;
}

char *arena_strn(arena *a, const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? arena_raw(a, n + 1) : NULL;
    if (!copy) return NULL;
    memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

char *arena_str(arena *a, const char *s)
{
    return arena_strn(a, s, strlen(s));
}

char *arena_printf(arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *out = n >= 0 ? arena_raw(a, (size_t)n + 1) : NULL;
    if (!out) return NULL;
    va_start(ap, fmt);
    vsnprintf(out, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return out;
}

size_t arena_mark(const arena *a)
{
    return a->used;
}

void arena_reset(arena *a, size_t mark)
{
    a->used = mark;
}

bool arena_ends(const arena *a, const void *p)
{
    return (const uint8_t *)p == a->base + a->used;
}

size_t arena_peak(const arena *a)
{
    return a->peak;
}

size_t arena_pages(size_t used)
{
    size_t page = used <= HUGE_PAGE ? (size_t)sysconf(_SC_PAGESIZE) : HUGE_PAGE;
    return (used + page - 1) / page * page;
}

void arena_close(arena *a)
{
    if (!a) return;
    if (__lsan_unregister_root_region) let_go(a);
    if (a->map) munmap(a->map, a->map_bytes);
    ft_free(a);
}
