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
};

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
        return ft_fail(FT_EMEM, "cannot reserve %zu MiB of address space for %s", limit >> 20,
                       name);
    }
    a->base = (uint8_t *)(((uintptr_t)a->map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    a->limit = limit;
    *out = a;
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
    /* Big arenas ask for huge pages as they grow: 4 KiB pages cost 1.5 µs each on first touch. */
    size_t old_edge = a->peak & ~(HUGE_PAGE - 1);
    a->used += need;
    if (a->used > a->peak) {
        a->peak = a->used;
        if (need >= HUGE_PAGE || (a->peak & ~(HUGE_PAGE - 1)) > old_edge + 8 * HUGE_PAGE)
            madvise(a->base + old_edge, ((a->peak - old_edge) & ~(HUGE_PAGE - 1)), MADV_HUGEPAGE);
    }
    if (a->used > a->dirty) a->dirty = a->used;
    return p;
}

void *arena_get(arena *a, size_t size)
{
    size_t dirty = a->dirty, start = a->used;
    void *p = arena_raw(a, size);
    if (p && start < dirty) memset(p, 0, size < dirty - start ? size : dirty - start);
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

size_t arena_peak(const arena *a)
{
    return a->peak;
}

void arena_close(arena *a)
{
    if (!a) return;
    munmap(a->map, a->map_bytes);
    ft_free(a);
}
E cat > src / base / str.c << '"' "'E'" '"'
/* str.c – growing byte strings and UTF-8. */
#include "ft/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

            static bool
            grow(str_buf * s, size_t more)
{
    size_t need;
    if (s->failed) return false;
    if (!ft_add(s->len, more, &need) || !ft_add(need, 1, &need)) {
        s->failed = true;
        return false;
    }
    if (need <= s->cap) return true;
    size_t cap = s->cap ? s->cap : 64;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *data = ft_realloc(s->data, cap, 1);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->cap = cap;
    return true;
}

void str_add(str_buf *s, const char *text, size_t n)
{
    if (!grow(s, n)) return;
    if (n) memcpy(s->data + s->len, text, n);
    s->len += n;
    s->data[s->len] = 0;
}

void str_adds(str_buf *s, const char *text)
{
    str_add(s, text, strlen(text));
}

void str_addc(str_buf *s, char c)
{
    str_add(s, &c, 1);
}

void str_vprintf(str_buf *s, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0 && grow(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

void str_printf(str_buf *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    str_vprintf(s, fmt, ap);
    va_end(ap);
}

void str_clear(str_buf *s)
{
    s->len = 0;
    if (s->data) s->data[0] = 0;
}

void str_free(str_buf *s)
{
    ft_free(s->data);
    *s = (str_buf){0};
}

ft_status str_ok(const str_buf *s)
{
    return s->failed ? ft_fail(FT_EMEM, "out of memory for a text of %zu bytes", s->len) : FT_OK;
}

void str_float(str_buf *s, float v)
{
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    str_adds(s, text);
}

void str_double(str_buf *s, double v)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    str_adds(s, text);
}

void str_json(str_buf *s, const char *text, size_t n)
{
    str_addc(s, '"'"'"'"'"');
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"'"'"'"'"' && c != '"'"'\\'"'"' && c != 0x7f) continue;
        str_add(s, text + start, i - start);
        start = i + 1;
        switch (c) {
        case '"'"'"'"'"': str_adds(s, "\\\""); break;
        case '"'"'\\'"'"':
            str_adds(s, "\\\\");
            break;
        case '"' "'\n'" '"':
            str_adds(s, "\\n");
            break;
        case '"' "'\r'" '"':
            str_adds(s, "\\r");
            break;
        case '"' "'\t'" '"':
            str_adds(s, "\\t");
            break;
        case '"' "'\b'" '"':
            str_adds(s, "\\b");
            break;
        case '"' "'\f'" '"':
            str_adds(s, "\\f");
            break;
        default:
            str_printf(s, "\\u%04x", c);
        }
    }
    str_add(s, text + start, n - start);
    str_addc(s, '"'"'"'"'"');
}

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

int utf8_next(const char *p, size_t n, int32_t *cp)
{
    static const int32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char c = n ? (unsigned char)p[0] : 0xff;
    int len = c < 0x80 ? 1 : (c >> 5) == 6 ? 2 : (c >> 4) == 14 ? 3 : (c >> 3) == 30 ? 4 : 0;
    *cp = -1;
    if (len == 0 || (size_t)len > n) return 1;
    if (len == 1) {
        *cp = c;
        return 1;
    }
    int32_t v = c & (0x7f >> len);
    for (int i = 1; i < len; i++) {
        unsigned char d = (unsigned char)p[i];
        if ((d & 0xc0) != 0x80) return 1;
        v = (v << 6) | (d & 0x3f);
    }
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) return 1;
    *cp = v;
    return len;
}

int utf8_put(char out[4], int32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | (cp >> 6));
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | (cp >> 12));
        out[1] = (char)(0x80 | ((cp >> 6) & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (cp >> 18));
    out[1] = (char)(0x80 | ((cp >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((cp >> 6) & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

bool utf8_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += (size_t)utf8_next(p + i, n - i, &cp);
        if (cp < 0) return false;
    }
    return true;
}
E cat > src / base / map.c << '"' "'E'" '"'
/* map.c – byte string → int64, open addressing, power-of-two capacity.  Keys are borrowed: vocabularies of
 * 150,000 entries point into the mapped file or an arena. */
#include "ft/base.h"

#include <string.h>

            /* FNV-1a, then mixed: tokens are short and differ in few bits. */
            static uint32_t
            hash_bytes(const char *key, size_t len)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)key[i]) * 16777619u;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    return h ^ (h >> 13);
}

static map_slot *find(const map_table *m, const char *key, size_t len, uint32_t hash)
{
    size_t mask = m->cap - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        map_slot *s = &m->slot[i];
        if (!s->key) return s;
        if (s->hash == hash && s->len == len && memcmp(s->key, key, len) == 0) return s;
    }
}

static ft_status grow(map_table *m)
{
    map_table bigger = {.cap = m->cap ? m->cap * 2 : 64};
    bigger.slot = ft_alloc(bigger.cap, sizeof *bigger.slot);
    if (!bigger.slot) return FT_EMEM;
    for (size_t i = 0; i < m->cap; i++) {
        const map_slot *s = &m->slot[i];
        if (s->key) *find(&bigger, s->key, s->len, s->hash) = *s;
    }
    bigger.count = m->count;
    ft_free(m->slot);
    *m = bigger;
    return FT_OK;
}

ft_status map_put(map_table *m, const char *key, size_t len, int64_t value)
{
    FT_CHECK(len <= UINT32_MAX, FT_EDATA, "a key of %zu bytes is too long", len);
    if ((m->count + 1) * 4 > m->cap * 3) FT_TRY(grow(m));
    uint32_t hash = hash_bytes(key, len);
    map_slot *s = find(m, key, len, hash);
    if (!s->key) {
        *s = (map_slot){.key = key, .len = (uint32_t)len, .hash = hash};
        m->count++;
    }
    s->value = value;
    return FT_OK;
}

bool map_get(const map_table *m, const char *key, size_t len, int64_t *value)
{
    if (m->count == 0 || len > UINT32_MAX) return false;
    const map_slot *s = find(m, key, len, hash_bytes(key, len));
    if (!s->key) return false;
    if (value) *value = s->value;
    return true;
}

void map_free(map_table *m)
{
    ft_free(m->slot);
    *m = (map_table){0};
}
E cat > src / base / rng.c << '"' "'E'" '"'
/* rng.c – counter-based random numbers: Philox-2x64-10 (Salmon et al. 2011, "Parallel random numbers: as
 * easy as 1, 2, 3").  A value is a pure function of (key, counter): nothing to save, and dropout replays the
 * same on recomputation, resume and any split of the batch. */
#include "ft/base.h"

#include <math.h>
#include <string.h>

            uint64_t
            rng_u64(uint64_t key, uint64_t counter)
{
    uint64_t a = counter, b = 0;
    for (int round = 0; round < 10; round++) {
        unsigned __int128 product = (unsigned __int128)0xD2B74407B1CE6E93ull * a;
        a = (uint64_t)(product >> 64) ^ key ^ b;
        b = (uint64_t)product;
        key += 0x9E3779B97F4A7C15ull;
    }
    return a;
}

uint64_t rng_key(uint64_t seed, uint64_t a, uint64_t b)
{
    return rng_u64(rng_u64(seed, a) ^ 0x5851F42D4C957F2Dull, b);
}

uint64_t rng_key_text(uint64_t seed, const char *text)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3ull;
    return rng_key(seed, h, 0);
}

double rng_uniform(uint64_t key, uint64_t counter)
{
    return (double)(rng_u64(key, counter) >> 11) * 0x1p-53;
}

void rng_fill_uniform(float *out, int64_t n, uint64_t key, float low, float high)
{
    for (int64_t i = 0; i < n; i++)
        out[i] =
            (float)((double)low + ((double)high - (double)low) * rng_uniform(key, (uint64_t)i));
}

/* Box–Muller on a pair of counters for each value. */
void rng_fill_normal(float *out, int64_t n, uint64_t key, float mean, float std)
{
    const double tau = 6.283185307179586;
    for (int64_t i = 0; i < n; i++) {
        double u = 1.0 - rng_uniform(key, 2 * (uint64_t)i),
               v = rng_uniform(key, 2 * (uint64_t)i + 1);
        out[i] = (float)((double)mean + (double)std * sqrt(-2.0 * log(u)) * cos(tau * v));
    }
}

/* Fisher–Yates with a bounded draw by multiplication (Lemire 2019, without the rejection step: the bias for
 * n < 2^40 is below 2^-24). */
void rng_permute(int64_t *out, int64_t n, uint64_t key)
{
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint64_t draw = rng_u64(key, (uint64_t)i);
        int64_t j = (int64_t)(((unsigned __int128)draw * (uint64_t)(i + 1)) >> 64);
        int64_t t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}
E cat > src / base / log.c << '"' "'E'" '"'
/* log.c – messages on their way to the sink that the program installed. */
#include "ft/base.h"

#include <stdio.h>

            static log_sink sink;
static void *sink_ctx;

void log_set_sink(log_sink new_sink, void *ctx)
{
    sink = new_sink;
    sink_ctx = ctx;
}

static void emit(log_level level, const char *fmt, va_list ap)
{
    char line[1024];
    if (!sink) return;
    vsnprintf(line, sizeof line, fmt, ap);
    sink(sink_ctx, level, line);
}

void log_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_WARN, fmt, ap);
    va_end(ap);
}

void log_info(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_INFO, fmt, ap);
    va_end(ap);
}

void log_progress(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_PROGRESS, fmt, ap);
    va_end(ap);
}
E cat > src / base / pool.c << '"' "'E'" '"'
/* pool.c – the thread pool of the process.
 *
 * pool_run hands out tile numbers from an atomic counter. Which thread runs a tile may not matter: kernels
 * fix their tiles by shape. Workers spin briefly, then sleep: on shared machines a spinning pool runs at half
 * the speed of one thread. */
#include "ft/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

            enum {
                MAX_THREADS = 256,
                SCRATCH_SLOTS = 4,
                SPIN = 2000
            };

typedef struct scratch_block {
    void *data;
    size_t bytes;
} scratch_block;

static struct {
    int threads; /* workers + the caller; 0: not open */
    pthread_t id[MAX_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_uint epoch; /* raised for every run */
    bool quit;
    int asleep;
    pool_fn fn;
    void *ctx;
    int64_t tiles;
    atomic_llong next;
    atomic_int busy; /* workers that have not finished this run */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static scratch_block scratch[MAX_THREADS][SCRATCH_SLOTS];
static atomic_bool failed;
static _Thread_local int self;
static _Thread_local bool inside;

static void work(int thread)
{
    inside = true;
    for (;;) {
        int64_t tile = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
        if (tile >= pool.tiles) break;
        pool.fn(pool.ctx, tile, thread);
    }
    inside = false;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static unsigned wait_for_work(unsigned seen)
{
    for (int i = 0; i < SPIN; i++) {
        if (atomic_load_explicit(&pool.epoch, memory_order_acquire) != seen) break;
        relax();
    }
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.epoch) == seen) {
        pool.asleep++;
        pthread_cond_wait(&pool.wake, &pool.lock);
        pool.asleep--;
    }
    unsigned now = atomic_load(&pool.epoch);
    pthread_mutex_unlock(&pool.lock);
    return now;
}

static void *worker(void *arg)
{
    unsigned seen = 0;
    self = (int)(intptr_t)arg;
    for (;;) {
        seen = wait_for_work(seen);
        if (pool.quit) return NULL;
        work(self);
        if (atomic_fetch_sub_explicit(&pool.busy, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.lock);
        }
    }
}

ft_status pool_open(int threads)
{
    pool_close();
    if (threads <= 0) threads = ft_cpus();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    pool.threads = 1;
    pool.quit = false;
    atomic_store(&pool.epoch, 0);
    for (int i = 1; i < threads; i++) {
        if (pthread_create(&pool.id[i], NULL, worker, (void *)(intptr_t)i) != 0) {
            log_warn("only %d of %d threads could be started", i, threads);
            break;
        }
        pool.threads++;
    }
    return FT_OK;
}

void pool_close(void)
{
    if (pool.threads > 1) {
        pthread_mutex_lock(&pool.lock);
        pool.quit = true;
        atomic_fetch_add(&pool.epoch, 1);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
        for (int i = 1; i < pool.threads; i++) pthread_join(pool.id[i], NULL);
    }
    for (int i = 0; i < MAX_THREADS; i++) {
        for (int k = 0; k < SCRATCH_SLOTS; k++) {
            if (scratch[i][k].data) munmap(scratch[i][k].data, scratch[i][k].bytes);
            scratch[i][k] = (scratch_block){0};
        }
    }
    pool.threads = 0;
}

int pool_threads(void)
{
    return pool.threads > 0 ? pool.threads : 1;
}

void pool_run(pool_fn fn, void *ctx, int64_t tiles)
{
    if (inside || pool.threads <= 1 || tiles <= 1) {
        bool nested = inside;
        inside = true;
        for (int64_t i = 0; i < tiles; i++) fn(ctx, i, self);
        inside = nested;
        return;
    }
    pool.fn = fn;
    pool.ctx = ctx;
    pool.tiles = tiles;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.busy, pool.threads - 1);
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add_explicit(&pool.epoch, 1, memory_order_release);
    if (pool.asleep > 0) pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    work(0);
    for (int i = 0; i < SPIN && atomic_load_explicit(&pool.busy, memory_order_acquire) > 0; i++)
        relax();
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.busy) > 0) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

void *pool_scratch(int thread, int slot, size_t bytes)
{
    enum { HUGE_PAGE = 2 << 20 };
    scratch_block *b = &scratch[thread][slot];
    if (b->bytes >= bytes) return b->data;
    size_t want = (bytes + bytes / 4 + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
    void *data = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        atomic_store(&failed, true);
        ft_fail(FT_EMEM, "out of memory: %zu bytes of scratch for a thread", want);
        return NULL;
    }
    madvise(data, want, MADV_HUGEPAGE);
    if (b->data) munmap(b->data, b->bytes);
    *b = (scratch_block){data, want};
    return data;
}

bool pool_failed(void)
{
    return atomic_exchange(&failed, false);
}
E cat > src / base / sha256.c << '"' "'E'" '"'
/* sha256.c – SHA-256 (FIPS 180-4): identities of models, data and checkpoint files. */
#include "ft/base.h"

#include <string.h>

            static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t ror(uint32_t v, int n)
{
    return (v >> n) | (v << (32 - n));
}

static void compress(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ (w[i - 15] >> 3);
        uint32_t b = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25),
                 ch = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint32_t t1 = s[7] + e + ch + K[i] + w[i];
        uint32_t a = ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22);
        uint32_t t2 = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

void sha256_init(sha256_state *s)
{
    *s = (sha256_state){.h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                              0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_add(sha256_state *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    s->bytes += n;
    while (n > 0) {
        if (s->fill == 0 && n >= 64) {
            compress(s->h, p);
            p += 64;
            n -= 64;
            continue;
        }
        size_t take = 64 - s->fill < n ? 64 - s->fill : n;
        memcpy(s->block + s->fill, p, take);
        s->fill += take;
        p += take;
        n -= take;
        if (s->fill == 64) {
            compress(s->h, s->block);
            s->fill = 0;
        }
    }
}

void sha256_hex(sha256_state *s, char out[65])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t bits = s->bytes * 8;
    uint8_t pad[72] = {0x80};
    size_t n = (s->fill < 56 ? 56 : 120) - s->fill;
    for (int i = 0; i < 8; i++) pad[n + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(s, pad, n + 8);
    for (int i = 0; i < 64; i++) out[i] = digits[(s->h[i / 8] >> (28 - 4 * (i % 8))) & 15];
    out[64] = 0;
}
E cat > src / base / system.c << '"' "'E'" '"'
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

            double
            ft_seconds(void)
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
        char *names = strchr(line, '"' "':'" '"');
        char *path = names ? strchr(names + 1, '"' "':'" '"') : NULL;
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
E
