/* bench.c – the machine's ceilings as `ft bench` reports them: rates of products by the row in use, and the
 * memory's read rate. On random data: multiplying zeros draws less power and runs faster. */
#include "kern.h"

#include "kern_bf16.h"

#include <stdatomic.h>

/* Room for what is measured on, or NULL: an allocation that succeeds is no grant, and its pages are all written. */
static float *ask_floats(size_t n)
{
    const bool before = ft_error_starved();
    const ft_grant g = ft_memory_more(n * sizeof(float));
    float *room = g.need <= g.limit ? ft_alloc(n, sizeof(float)) : NULL;
    ft_error_forget_since(before);
    return room;
}

/* Rows from before a product and weights are bf16 where the precision is, gradients f32 in both: as in a step. */
typedef struct operands {
    const kn_shape *s;
    float *dy, *out; /* [rows, out]; as large as the largest */
    kn_rows x;       /* [rows, in] */
    kn_mat w;        /* [out, in] */
} operands;

static void multiply(kn_precision precision, kn_form form, const operands *o)
{
    const kn_shape *s = o->s;
    const kn_rows dy = {.data = o->dy, .ld = s->out};
    kn_product p = {.precision = precision, .m = s->rows, .w = &o->w, .in_out = form == KN_FORM_DX};
    p.x = form == KN_FORM_Y ? o->x : dy;
    p.y = (kn_rows){.data = o->out, .ld = form == KN_FORM_Y ? s->out : s->in};
    if (form == KN_FORM_DW)
        kn_gemm_grad(precision, o->out, s->in, dy, s->out, o->x, s->in, s->rows, NULL, 0);
    else
        kn_gemm(&p);
}

/* The best rate of three calls or more, after one that touches the result's pages. */
static double best_rate(kn_precision precision, kn_form form, const operands *o, double seconds)
{
    const kn_shape *s = o->s;
    double best = 0, start;
    multiply(precision, form, o);
    start = ft_seconds();
    for (int call = 0; call < 3 || ft_seconds() - start < seconds; call++) {
        double t0 = ft_seconds();
        multiply(precision, form, o);
        double rate = 2e-9 * (double)s->rows * (double)(s->out * s->in) / (ft_seconds() - t0);
        if (rate > best) best = rate;
    }
    return best;
}

double kn_bench_gemm(kn_precision precision, kn_form form, const kn_shape *s, double seconds)
{
    const bool bf16 = precision == KN_BF16;
    const int64_t nx = s->rows * s->in, ny = s->rows * s->out, nw = s->out * s->in;
    const int64_t most = nx > ny ? nx > nw ? nx : nw : ny > nw ? ny : nw;
    float *data = ask_floats((size_t)(nx + ny + nw + most));
    if (!data) return 0;
    float *x = data, *w = data + nx;
    rng_fill_uniform(data, nx + nw + ny, 1, -1.0f, 1.0f);
    if (bf16) {
        kern_dot_row->round((uint16_t *)x, x, nx);
        kern_dot_row->round((uint16_t *)w, w, nw);
    }
    const operands o = {
        .s = s,
        .dy = data + nx + nw,
        .out = data + nx + nw + ny,
        .x = {.data = x, .ld = s->in, .bf16 = bf16},
        .w = {.type = bf16 ? &dt_bf16 : &dt_f32, .data = w, .rows = s->out, .cols = s->in}};
    double best = best_rate(precision, form, &o, seconds);
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

double kn_bench_bandwidth(double seconds, bool alone)
{
    enum { TILES = 256 }; /* 256 MB: beyond any cache in reach */
    float *data = ask_floats((size_t)TILES * READ_FLOATS);
    double best = 0, start = ft_seconds();
    if (!data) return 0;
    rng_fill_uniform(data, (int64_t)TILES * READ_FLOATS, 1, -1.0f, 1.0f);
    do {
        read_run r = {.x = data};
        double t0 = ft_seconds();
        for (int64_t i = 0; alone && i < TILES; i++) read_tile(&r, i, 0);
        if (!alone) pool_run(read_tile, &r, TILES);
        double rate = (double)TILES * READ_FLOATS * sizeof(float) / (ft_seconds() - t0);
        if (rate > best) best = rate;
    } while (ft_seconds() - start < seconds);
    ft_free(data);
    return best;
}
