/* pool.c – the thread pool of the process.
 *
 * pool_run hands out tile numbers from an atomic counter. Which thread runs a tile may not matter: kernels
 * fix their tiles by shape. Workers spin briefly, then sleep: on shared machines a spinning pool runs at half
 * the speed of one thread. */
#include "base_private.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum {
    MAX_THREADS = 256,
    SCRATCH_SLOTS = 4,
    SPIN = 2000,
    STACK_BYTES =
        2
        << 20 /* of address space: what the deepest work takes, a chat template, and half of it again */
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
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* some tens of cycles, as pause; yield does nothing on most cores */
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
        ft_error_forget(); /* of work that is over */
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
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) return ft_fail(FT_EMEM, "out of memory");
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    for (int i = 1; i < threads; i++) {
        if (pthread_create(&pool.id[i], &attr, worker, (void *)(intptr_t)i) != 0) {
            log_warn("only %d of %d threads could be started", i, threads);
            break;
        }
        pool.threads++;
    }
    pthread_attr_destroy(&attr);
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
    void *data = ft_told_to_fail()
                     ? MAP_FAILED
                     : mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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

size_t pool_scratch_bytes(void)
{
    size_t sum = 0;
    for (int i = 0; i < MAX_THREADS; i++)
        for (int k = 0; k < SCRATCH_SLOTS; k++) sum += scratch[i][k].bytes;
    return sum;
}

bool pool_failed(void)
{
    if (!atomic_exchange(&failed, false)) return false;
    ft_fail(FT_EMEM, "out of memory for scratch"); /* of a thread, which has a record of its own */
    return true;
}
