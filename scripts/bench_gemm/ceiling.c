/* ceiling.c – see ceiling.h: multiply-adds that touch nothing but registers. */
#include "ceiling.h"

#include "ft/base.h"
#include "ft/kernel.h"

#include <string.h>

enum { CHAINS = 16, TURNS = 1 << 14 }; /* chains hide the latency of a multiply-add */

/* What a thread does again and again: gives the operations done. Results go to `sink`, so that none is optimised away. */
typedef double (*burst)(float *sink, const float *random);

#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((target("avx2,fma"))) static double fma256(float *sink, const float *random)
{
    enum { FEWER = 12 };
    __m256 sum[FEWER];
    const __m256 a = _mm256_loadu_ps(random), b = _mm256_loadu_ps(random + 8);
#pragma GCC unroll 16
    for (int i = 0; i < FEWER; i++) sum[i] = _mm256_loadu_ps(random + 16 + i);
    for (int t = 0; t < TURNS; t++) {
#pragma GCC unroll 16
        for (int i = 0; i < FEWER; i++) sum[i] = _mm256_fmadd_ps(a, b, sum[i]);
    }
#pragma GCC unroll 16
    for (int i = 1; i < FEWER; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    _mm256_storeu_ps(sink, sum[0]);
    return 2.0 * 8 * FEWER * TURNS;
}

__attribute__((target("avx512f"))) static double fma512(float *sink, const float *random)
{
    __m512 sum[CHAINS];
    const __m512 a = _mm512_loadu_ps(random), b = _mm512_loadu_ps(random + 16);
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_loadu_ps(random + 32 + i);
    for (int t = 0; t < TURNS; t++) {
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(a, b, sum[i]);
    }
#pragma GCC unroll 16
    for (int i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    _mm512_storeu_ps(sink, sum[0]);
    return 2.0 * 16 * CHAINS * TURNS;
}

__attribute__((target("avx512f,avx512bf16"))) static double dot512(float *sink, const float *random)
{
    __m512 sum[CHAINS];
    const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(random), _mm512_loadu_ps(random + 16));
    const __m512bh b =
        _mm512_cvtne2ps_pbh(_mm512_loadu_ps(random + 32), _mm512_loadu_ps(random + 48));
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_loadu_ps(random + 64 + i);
    for (int t = 0; t < TURNS; t++) {
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
    }
#pragma GCC unroll 16
    for (int i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    _mm512_storeu_ps(sink, sum[0]);
    return 2.0 * 32 * CHAINS * TURNS;
}

/* Four tiles of sums from two by two tiles of operands, 16 rows of 64 bytes each. */
__attribute__((target("amx-tile,amx-bf16"))) static double tiles(float *sink, const float *random)
{
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1,
               .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
               .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    uint16_t data[16 * 32];
    for (int i = 0; i < 16 * 32; i++) memcpy(&data[i], (const char *)&random[i % 128] + 2, 2);
    __asm__ volatile("ldtilecfg %0" ::"m"(shape));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, data, 64);
    _tile_loadd(5, data, 64);
    _tile_loadd(6, data, 64);
    _tile_loadd(7, data, 64);
    for (int t = 0; t < TURNS; t++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    float out[16 * 16];
    _tile_stored(0, out, 64);
    _tile_release();
    *sink = out[0];
    return 4.0 * 2 * 16 * 16 * 32 * TURNS;
}

/* The system grants tiles to a process that asks. */
static bool may_use_tiles(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return __builtin_cpu_supports("amx-bf16") &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static burst choose(bool bf16)
{
    if (bf16 && may_use_tiles()) return tiles;
    if (bf16 && __builtin_cpu_supports("avx512bf16")) return dot512;
    if (__builtin_cpu_supports("avx512f")) return fma512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? fma256 : NULL;
}
#else
static burst choose(bool bf16)
{
    (void)bf16;
    return NULL;
}
#endif

typedef struct run {
    burst go;
    const float *random;
    double *rate; /* [threads]: GFLOP/s */
    double seconds;
} run;

/* The best burst counts: they are short, so that one is whole even on a machine that does other things. */
static void on_thread(void *ctx, int64_t tile, int thread)
{
    const run *r = ctx;
    float sink[16];
    const double start = ft_seconds();
    (void)thread;
    r->rate[tile] = 0;
    for (double before = start, now = start; now - start < r->seconds; before = now) {
        const double done = r->go(sink, r->random);
        now = ft_seconds();
        if (1e-9 * done / (now - before) > r->rate[tile])
            r->rate[tile] = 1e-9 * done / (now - before);
    }
}

double ceiling_in_registers(bool bf16, double seconds)
{
    enum { MOST = 1024 };
    float random[128];
    double rate[MOST], sum = 0;
    const int threads = pool_threads() < MOST ? pool_threads() : MOST;
    run r = {.go = choose(bf16), .random = random, .rate = rate, .seconds = seconds};
    if (!r.go) return 0;
    rng_fill_uniform(random, (int64_t)FT_COUNT_OF(random), 1, -1.0f, 1.0f);
    pool_run(on_thread, &r, threads);
    for (int i = 0; i < threads; i++) sum += rate[i];
    return sum;
}
