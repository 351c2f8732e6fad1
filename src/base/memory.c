/* memory.c – the one allocator: checked products, zeroed, and able to fail on demand.
 *
 * FT_TEST_FAIL_AT=n makes the n-th allocation of the process fail, n+ all from there on, which is how the out-of-memory
 * paths are tested. Arenas reserve address space block by block, as it is needed or as a plan says, and commit by touching
 * it: what they handed out never moves, and under a limit of address space nothing is reserved that is not used. */
#include "base_private.h"

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

static struct {
    long at; /* 0: never */
    bool on; /* and from then on */
    atomic_long count;
} fail;

__attribute__((constructor)) static void read_fail(void)
{
    char *end = NULL;
    const char *text = getenv("FT_TEST_FAIL_AT");
    fail.at = text ? strtol(text, &end, 10) : 0;
    fail.on = end && *end == '+';
}

bool ft_told_to_fail(void)
{
    if (fail.at <= 0) return false;
    const long n = atomic_fetch_add(&fail.count, 1) + 1;
    return n == fail.at || (fail.on && n > fail.at);
}

static void *refuse(size_t count, size_t size)
{
    ft_fail(FT_EMEM, "out of memory (%zu x %zu bytes asked for)", count, size);
    return NULL;
}

void *ft_alloc(size_t count, size_t size)
{
    size_t bytes;
    void *p = NULL;
    if (ft_mul(count, size, &bytes) && !ft_told_to_fail()) p = calloc(bytes ? bytes : 1, 1);
    return p ? p : refuse(count, size);
}

void *ft_realloc(void *old, size_t count, size_t size)
{
    size_t bytes;
    void *p = NULL;
    if (ft_mul(count, size, &bytes) && !ft_told_to_fail()) p = realloc(old, bytes ? bytes : 1);
    return p ? p : refuse(count, size);
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

void __msan_unpoison(const volatile void *p, size_t n) __attribute__((weak));

void ft_written(const void *p, size_t n)
{
    if (__msan_unpoison) __msan_unpoison(p, n);
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

/* --- arenas --------------------------------------------------------------------------------------
 * A chain of blocks, each a mapping of its own. A mark counts the bytes that were given; what is left at the end of a block
 * is passed over when the next one begins, and not counted. */
#define ARENA_ALIGN 64
#define HUGE_PAGE ((size_t)2 << 20)
#define FIRST_BLOCK ((size_t)64 << 10)
#define BLOCK_STEP                                                                                 \
    ((size_t)32 << 20) /* blocks double up to here, then they are an eighth of what is there */

typedef struct block { /* at the beginning of its mapping */
    struct block *next;
    uint8_t *base;
    size_t bytes, map_bytes;
    size_t start; /* bytes that were given before it */
    size_t dirty; /* bytes from base that may be non-zero */
    size_t held;  /* those that LeakSanitizer knows of */
} block;

/* LeakSanitizer, where there is one, looks for pointers on the heap alone: what hangs in an arena is held, too. It reads all that
 * it is told of, so it is told of pieces as they are used, each as long as those before it together. */
void __lsan_register_root_region(const void *from, size_t bytes) __attribute__((weak));
void __lsan_unregister_root_region(const void *from, size_t bytes) __attribute__((weak));

static void hold(block *b)
{
    while (b->held < b->dirty) {
        size_t bytes = b->held ? b->held : FIRST_BLOCK;
        __lsan_register_root_region(b->base + b->held, bytes);
        b->held += bytes;
    }
}

static void let_go(block *b)
{
    for (; b->held; b->held = b->held > FIRST_BLOCK ? b->held / 2 : 0) {
        size_t bytes = b->held > FIRST_BLOCK ? b->held / 2 : b->held;
        __lsan_unregister_root_region(b->base + b->held - bytes, bytes);
    }
}

struct arena {
    char name[28];
    bool counting, flat;
    block *first, *at;
    size_t limit, used, peak, reserved, expected;
    size_t was_dirty; /* of the block at hand, before it gave the last */
};

static size_t rounded(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t left(const arena *a)
{
    return a->limit > a->used ? a->limit - a->used : 0;
}

/* Pages of 4 KiB cost 1.5 µs each on first touch, so huge ones are asked for; of many arenas only the beginning is used. */
static block *map_block(size_t bytes, bool first)
{
    const bool huge = bytes > HUGE_PAGE;
    const size_t head = rounded(sizeof(block), ARENA_ALIGN), ends = huge ? HUGE_PAGE + head : head;
    size_t all;
    if (!ft_add(bytes, ends + HUGE_PAGE, &all)) return NULL;
    all = rounded(bytes + ends, (size_t)sysconf(_SC_PAGESIZE));
    void *map =
        mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return NULL;
    block *b = map;
    const uintptr_t from = (uintptr_t)map + head;
    *b = (block){.base = (uint8_t *)(huge ? rounded(from, HUGE_PAGE) : from), .map_bytes = all};
    b->bytes = (size_t)((uint8_t *)map + all - b->base) / ARENA_ALIGN * ARENA_ALIGN;
    const size_t small = first ? HUGE_PAGE : 0;
    if (huge) madvise(b->base + small, (bytes - small) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return b;
}

static void unmap_from(block *b)
{
    for (block *next; b; b = next) {
        next = b->next;
        if (__lsan_unregister_root_region) let_go(b);
        munmap(b, b->map_bytes);
    }
}

/* A block that holds `need` bytes, behind the one at hand. */
static bool add_block(arena *a, size_t need)
{
    block **at = a->at ? &a->at->next : &a->first;
    for (const block *b = *at; b; b = b->next) a->reserved -= b->bytes;
    unmap_from(*at);
    const size_t there = a->reserved;
    size_t step = there < FIRST_BLOCK ? FIRST_BLOCK : there;
    if (step > BLOCK_STEP) step = there / 8 > BLOCK_STEP ? there / 8 : BLOCK_STEP;
    if (step < a->expected) step = a->expected;
    if (step > left(a)) step = left(a);
    if (a->flat || step < need) step = need;
    *at = map_block(step, !a->at);
    if (!*at && step > need) *at = map_block(need, !a->at);
    if (!*at) return false;
    a->reserved += (*at)->bytes;
    a->expected = 0;
    return true;
}

static ft_status new_arena(arena **out, const char *name, size_t limit)
{
    arena *a = *out = ft_alloc(1, sizeof *a);
    if (!a) return FT_EMEM;
    snprintf(a->name, sizeof a->name, "%s", name);
    a->limit = limit;
    return FT_OK;
}

ft_status arena_open(arena **out, const char *name, size_t limit)
{
    return new_arena(out, name, limit);
}

static ft_status not_granted(const arena *a, size_t bytes)
{
    return ft_fail(FT_EMEM, "out of memory: the system has no %s more for %s", ft_bytes_text(bytes),
                   a->name);
}

ft_status arena_open_flat(arena **out, const char *name, size_t bytes)
{
    FT_TRY(new_arena(out, name, rounded(bytes, ARENA_ALIGN)));
    arena *a = *out;
    a->flat = true;
    if (!ft_told_to_fail() && add_block(a, a->limit)) {
        a->at = a->first;
        return FT_OK;
    }
    ft_status rc = not_granted(a, bytes);
    arena_close(a);
    *out = NULL;
    return rc;
}

ft_status arena_open_counting(arena **out, const char *name)
{
    FT_TRY(new_arena(out, name, SIZE_MAX / 4));
    (*out)->counting = true;
    return FT_OK;
}

static void unmap_all(arena *a)
{
    unmap_from(a->first);
    a->first = a->at = NULL;
    a->reserved = 0;
}

void arena_expect(arena *a, size_t bytes)
{
    if (a->counting || a->flat) return;
    if (a->used == 0 && bytes > a->reserved) /* in one piece, then, and not beside what is there */
        unmap_all(a);
    a->expected = bytes;
}

void arena_return(arena *a)
{
    arena_reset(a, 0);
    if (!a->flat) unmap_all(a);
}

static uint8_t *next_byte(const arena *a)
{
    if (a->counting) return (uint8_t *)(uintptr_t)(HUGE_PAGE + a->used);
    return a->at ? a->at->base + (a->used - a->at->start) : NULL;
}

static bool fits_here(const arena *a, size_t need)
{
    return a->counting || (a->at && need <= a->at->bytes - (a->used - a->at->start));
}

static void take(arena *a, size_t need)
{
    a->used += need;
    if (a->used > a->peak) a->peak = a->used;
    if (!a->at) return;
    a->was_dirty = a->at->dirty;
    if (a->used - a->at->start > a->at->dirty) a->at->dirty = a->used - a->at->start;
    if (__lsan_register_root_region) hold(a->at);
}

/* Goes on in the next block. */
static bool move_on(arena *a, size_t need)
{
    block *next = a->at ? a->at->next : a->first;
    if (a->flat && a->at) return false;
    if ((!next || next->bytes < need) && !add_block(a, need)) return false;
    a->at = a->at ? a->at->next : a->first;
    a->at->start = a->used;
    return true;
}

void *arena_raw(arena *a, size_t size)
{
    size_t need = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (!arena_has(a, size)) {
        ft_fail(FT_EMEM, "out of memory: %s needs %zu bytes more than its limit of %zu MiB",
                a->name, size, a->limit >> 20);
        return NULL;
    }
    if (ft_told_to_fail() || (!fits_here(a, need) && !move_on(a, need))) {
        not_granted(a, size);
        return NULL;
    }
    void *p = next_byte(a);
    take(a, need);
    return p;
}

bool arena_extend(arena *a, const void *end, size_t more)
{
    size_t need = (more + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (!a->counting && !a->at) return false;
    if (need < more || need > left(a) || end != next_byte(a) || !fits_here(a, need)) return false;
    take(a, need);
    return true;
}

void *arena_get(arena *a, size_t size)
{
    uint8_t *p = arena_raw(a, size);
    if (!p || a->counting) return p;
    const size_t from = (size_t)(p - a->at->base), dirty = a->was_dirty;
    if (from < dirty) memset(p, 0, size < dirty - from ? size : dirty - from);
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
    block *b = a->first;
    while (b && b != a->at && mark > b->next->start) b = b->next;
    a->at = b;
    a->used = mark;
}

bool arena_has(const arena *a, size_t size)
{
    const size_t need = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    return need >= size && need <= left(a);
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
    unmap_from(a->first);
    ft_free(a);
}
