/* bench.c – the machine's ceilings as `ft bench` reports them: the best rate that the row of products in use
 * reaches, and the memory's read rate. On random data: multiplying zeros draws less power and runs faster. */
#include "kern.h"

#include <math.h>
#include <stdatomic.h>

typedef struct shape {
    int64_t m, n, k;
} shape;

static const shape shapes[] = {{1024, 1024, 1024}, {1024, 1536, 576}, {1024, 576, 1536}};

double kn_bench_gemm_gflops(double seconds)
{
    enum { FLOATS = 1024 * 1536 };
    float *data = ft_alloc((size_t)3 * FLOATS, sizeof *data);
    double best = 0, start = ft_seconds();
    if (!data) return 0;
    float *x = data, *w = data + FLOATS, *y = data + 2 * FLOATS;
    rng_fill_uniform(data, 2 * FLOATS, 1, -1.0f, 1.0f);
    do {
        for (size_t i = 0; i < FT_COUNT_OF(shapes); i++) {
            const shape *s = &shapes[i];
            kn_mat mat = {.type = &dt_f32, .data = w, .rows = s->n, .cols = s->k};
            double t0 = ft_seconds();
            kn_gemm_nt(y, s->n, x, s->k, &mat, s->m, NULL, false);
            double rate = 2e-9 * (double)(s->m * s->n * s->k) / (ft_seconds() - t0);
            if (rate > best) best = rate;
        }
    } while (ft_seconds() - start < seconds);
    ft_free(data);
    return best;
}

enum { READ_FLOATS = 1 << 18 }; /* of one tile: 1 MB */

typedef struct read_run {
    const float *x;
    atomic_bool found;
} read_run;

static void read_tile(void *ctx, int64_t tile, int thread)
{
    read_run *r = ctx;
    (void)thread;
    if (!kern->all_finite(r->x + tile * READ_FLOATS, READ_FLOATS)) atomic_store(&r->found, true);
}

double kn_bench_bandwidth(double seconds)
{
    enum { TILES = 256 }; /* 256 MB: beyond any cache in reach */
    float *data = ft_alloc((size_t)TILES * READ_FLOATS, sizeof *data);
    double best = 0, start = ft_seconds();
    if (!data) return 0;
    rng_fill_uniform(data, (int64_t)TILES * READ_FLOATS, 1, -1.0f, 1.0f);
    do {
        read_run r = {.x = data};
        double t0 = ft_seconds();
        pool_run(read_tile, &r, TILES);
        double rate = (double)TILES * READ_FLOATS * sizeof(float) / (ft_seconds() - t0);
        if (rate > best) best = rate;
    } while (ft_seconds() - start < seconds);
    ft_free(data);
    return best;
}
