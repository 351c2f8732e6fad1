/* main.c – scripts/bench-gemm.sh: ft's products against oneDNN's, alternately on the same non-zero data.
 *
 *     bench_gemm [ROUNDS [SECONDS [THREADS]]]
 *
 * The three products of a linear layer W [out, in] over so many tokens: y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x. Operands are
 * f32, or bf16 with results in f32. ft packs W, which lies as in a model's file, within each product; oneDNN does the same
 * ("stored"), and also gets W in its own layout ("packed", brought there outside the clock). */
#include "ceiling.h"
#include "onednn.h"

#include "ft/base.h"
#include "ft/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_ROUNDS = 99, SIDES = 3 };
enum { FT, STORED, PACKED };

typedef struct shape {
    const char *name;
    int64_t tokens, out, in;
} shape;
/* SmolLM2-135M and Llama-3.2-1B. The head works on 256 tokens at a time. */
static const shape shapes[] = {
    {"SmolLM2 q, o", 2048, 576, 576},        {"SmolLM2 k, v", 2048, 192, 576},
    {"SmolLM2 gate, up", 2048, 1536, 576},   {"SmolLM2 down", 2048, 576, 1536},
    {"SmolLM2 head", 256, 49152, 576},       {"SmolLM2 LoRA A", 2048, 8, 576},
    {"SmolLM2 LoRA A, down", 2048, 8, 1536}, {"SmolLM2 LoRA B", 2048, 576, 8},
    {"SmolLM2 LoRA B, up", 2048, 1536, 8},   {"Llama-1B q, o", 512, 2048, 2048},
    {"Llama-1B k, v", 512, 512, 2048},       {"Llama-1B gate, up", 512, 8192, 2048},
    {"Llama-1B down", 512, 2048, 8192},      {"Llama-1B head", 256, 128256, 2048},
    {"Llama-1B LoRA A", 512, 8, 2048},       {"Llama-1B LoRA A, down", 512, 8, 8192},
    {"Llama-1B LoRA B", 512, 2048, 8},       {"Llama-1B LoRA B, up", 512, 8192, 8},
};
static const char *const forms[KN_FORMS] = {"y", "dx", "dW"};

typedef struct operands {
    const shape *s;
    bool bf16;
    void *x, *dy, *w; /* [tokens, in], [tokens, out], [out, in] */
    float *result;
} operands;

static void *random_values(int64_t n, uint64_t key, bool bf16)
{
    float *f = ft_alloc((size_t)n, sizeof *f);
    if (!f) return NULL;
    rng_fill_uniform(f, n, key, -1.0f, 1.0f);
    uint16_t *half = (uint16_t *)f;
    for (int64_t i = 0; bf16 && i < n; i++) {
        union {
            float f;
            uint32_t u;
        } v = {f[i]};
        half[i] = (uint16_t)((v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16);
    }
    return f;
}

static void by_ft(const operands *o, kn_form form)
{
    const shape *s = o->s;
    const kn_precision precision = o->bf16 ? KN_BF16 : KN_F32;
    const kn_rows x = {.data = o->x, .ld = s->in, .bf16 = o->bf16},
                  dy = {.data = o->dy, .ld = s->out, .bf16 = o->bf16};
    const kn_mat w = {
        .type = o->bf16 ? &dt_bf16 : &dt_f32, .data = o->w, .rows = s->out, .cols = s->in};
    if (form == KN_FORM_DW) {
        kn_gemm_grad(precision, o->result, s->in, dy, s->out, x, s->in, s->tokens, NULL, 0);
        return;
    }
    kn_gemm(&(kn_product){.precision = precision,
                          .m = s->tokens,
                          .w = &w,
                          .in_out = form == KN_FORM_DX,
                          .x = form == KN_FORM_Y ? x : dy,
                          .y = {.data = o->result, .ld = form == KN_FORM_Y ? s->out : s->in}});
}

static onednn_product *make_onednn(const operands *o, kn_form form, bool packed)
{
    const shape *s = o->s;
    const onednn_matrix x = {o->x, s->tokens, s->in, 0},
                        dy = {o->dy, s->tokens, s->out, form == KN_FORM_DW},
                        w = {o->w, s->out, s->in, form == KN_FORM_Y};
    const onednn_matrix a = form == KN_FORM_Y ? x : dy, b = form == KN_FORM_DW ? x : w;
    return onednn_product_new(a, b, o->result, o->bf16, packed);
}

/* GFLOP/s of calls that take so long together. */
static double rate(const operands *o, kn_form form, onednn_product *p, double seconds)
{
    const double each = 2e-9 * (double)o->s->tokens * (double)o->s->out * (double)o->s->in;
    /* The threads of the other side go to sleep. */
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    double t0 = 0;
    int calls = -1; /* the first one is not counted: caches and threads come to it cold */
    for (; calls < 1 || ft_seconds() - t0 < seconds; calls++) {
        if (calls == 0) t0 = ft_seconds();
        if (p)
            onednn_product_run(p);
        else
            by_ft(o, form);
    }
    return each * calls / (ft_seconds() - t0);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* Columns of one side of oneDNN: its rate, and ft's over it. */
static void print_side(double *rates, double *ratios, int rounds)
{
    const double middle = median(ratios, rounds);
    printf(" %.0f | %.2f (%.2f–%.2f) |", median(rates, rounds), middle, ratios[0],
           ratios[rounds - 1]);
}

static void compare(const operands *o, kn_form form, int rounds, double seconds, double ceiling)
{
    double rates[SIDES][MAX_ROUNDS], ratios[SIDES][MAX_ROUNDS];
    onednn_product *p[SIDES] = {NULL};
    p[STORED] = make_onednn(o, form, false);
    if (form != KN_FORM_DW) p[PACKED] = make_onednn(o, form, true); /* dW has no stored operand */
    for (int r = 0; r < rounds; r++) {
        for (int side = 0; side < SIDES; side++) {
            if (side == FT || p[side]) rates[side][r] = rate(o, form, p[side], seconds);
            ratios[side][r] = rates[FT][r] / rates[side][r];
        }
    }
    const double own = median(rates[FT], rounds);
    printf("| %s | %lld × %lld × %lld | %s | %s | %.0f |", o->s->name, (long long)o->s->tokens,
           (long long)o->s->out, (long long)o->s->in, o->bf16 ? "bf16" : "f32", forms[form], own);
    for (int side = STORED; side < SIDES; side++) {
        if (p[side])
            print_side(rates[side], ratios[side], rounds);
        else
            printf(" – | – |");
        onednn_product_free(p[side]);
    }
    if (ceiling > 0)
        printf(" %.0f %% |\n", 100 * own / ceiling);
    else
        printf(" – |\n");
    fflush(stdout);
}

static bool compare_shape(const shape *s, bool bf16, int rounds, double seconds, double ceiling)
{
    const int64_t nx = s->tokens * s->in, ny = s->tokens * s->out, nw = s->out * s->in;
    const int64_t most = nx > ny ? nx > nw ? nx : nw : ny > nw ? ny : nw;
    operands o = {.s = s,
                  .bf16 = bf16,
                  .x = random_values(nx, 1, bf16),
                  .dy = random_values(ny, 2, bf16),
                  .w = random_values(nw, 3, bf16),
                  .result = random_values(most, 4, false)};
    const bool fine = o.x && o.dy && o.w && o.result;
    for (kn_form f = 0; fine && f < KN_FORMS; f++) compare(&o, f, rounds, seconds, ceiling);
    ft_free(o.x);
    ft_free(o.dy);
    ft_free(o.w);
    ft_free(o.result);
    return fine;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 5, threads = argc > 3 ? atoi(argv[3]) : 0;
    const double seconds = argc > 2 ? atof(argv[2]) : 0.05;
    double ceiling[2];
    if (rounds < 1 || rounds > MAX_ROUNDS || seconds <= 0 || threads < 0) return FT_EUSAGE;
    if (kn_init() != FT_OK || pool_open(threads) != FT_OK) {
        fprintf(stderr, "bench-gemm: %s\n", ft_error());
        return 1;
    }
    onednn_threads(pool_threads());
    for (int bf16 = 0; bf16 < 2; bf16++) ceiling[bf16] = ceiling_in_registers(bf16, 0.5);
    printf("ft (core %s) and oneDNN %s, %d threads each, %d rounds; GFLOP/s: medians. Ceiling in "
           "registers: f32 %.0f, bf16 "
           "%.0f.\n\n",
           kn_core_name(KN_BF16), onednn_version_text(), pool_threads(), rounds, ceiling[0],
           ceiling[1]);
    puts("| layer | tokens × out × in | | product | ft | oneDNN, stored | ft / oneDNN | oneDNN, "
         "packed | ft / oneDNN | ft's share of the "
         "ceiling |\n|---|---|---|---|---|---|---|---|---|---|");
    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (size_t i = 0; i < FT_COUNT_OF(shapes); i++) {
            if (compare_shape(&shapes[i], bf16, rounds, seconds, ceiling[bf16])) continue;
            fprintf(stderr, "bench-gemm: %s: no memory\n", shapes[i].name);
        }
    }
    pool_close();
    return ferror(stdout) ? FT_EIO : 0;
}
