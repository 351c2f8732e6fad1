/* adamw8bit.c – AdamW with both moments in 8 bits, as bitsandbytes' AdamW8bit on a GPU (Dettmers et al. 2022): blocks of 256
 * values of one tensor, each with its largest magnitude beside it, and the nearest entry of the dynamic map. Tensors under
 * 4096 values keep f32. Two bytes and a bit a weight, where adamw has eight.
 *
 * Of each block, with t the step:
 *   v = β2 v + (1 − β2) g², m = β1 m + (1 − β1) g
 *   w = (w − lr √(1 − β2^t)/(1 − β1^t) · m / (√v + ε √(1 − β2^t))) · (1 − lr decay)
 * and then m and v become codes. A negative m that is nearest to 0 gets the entry below, so that it keeps its sign.
 * Where a moment of a block is 0 throughout, its codes and its magnitude are 0. */
#include "ft/optim.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 256, SMALL = 4096, MAP = 256 };

typedef struct adamw8bit_cfg {
    double adam_beta1, adam_beta2, adam_epsilon;
} adamw8bit_cfg;

#define ROW(k, d, hi, open, h)                                                                     \
    {                                                                                              \
        .key = #k, .type = CFG_FLOAT, .offset = offsetof(adamw8bit_cfg, k), .def = d, .low = 0,    \
        .high = hi, .low_open = open, .help = h                                                    \
    }
static const cfg_field fields[] = {
    ROW(adam_beta1, "0.9", 0.9999999, false, "decay of the first moment"),
    ROW(adam_beta2, "0.999", 0.9999999, false, "decay of the second moment"),
    ROW(adam_epsilon, "1e-8", 1, true, "added to the root of the second moment"),
    CFG_END,
};

static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    int64_t n = tn_count(t), blocks = (n + BLOCK - 1) / BLOCK;
    const dt_type *codes = n < SMALL ? &dt_f32 : dt_by_name("u8");
    (void)cfg;
    out[0] = (opt_state){"state1", codes, t->nd, {t->dim[0], t->dim[1]}};
    out[1] = (opt_state){"state2", codes, t->nd, {t->dim[0], t->dim[1]}};
    if (n < SMALL) return 2;
    out[2] = (opt_state){"absmax1", &dt_f32, 1, {blocks}};
    out[3] = (opt_state){"absmax2", &dt_f32, 1, {blocks}};
    return 4;
}

/* --- nearest entries ---------------------------------------------------------------------------------------------- */
/* The code of x in [−1, 1] is the number of midpoints below it. Floats that share sign, exponent and seven bits of the
 * fraction lie between the same two midpoints, or have one among them, so a table by those bits and one comparison find it. */
enum {
    SHIFT = 23 - 7,
    LOWEST = (127 - 23) << 7, /* bits of 2^−23, which is below all midpoints but 0's neighbours' */
    BUCKETS = (127 << 7) - LOWEST + 1,
};

typedef struct codebook {
    float map[MAP], middle[MAP]; /* ascending; the last middle is infinite */
    uint8_t least[2][BUCKETS]; /* of positive and of negative values: the lowest code of a bucket */
} codebook;

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint8_t code_of(const codebook *b, float x)
{
    const uint32_t u = bits_of(x), negative = u >> 31;
    int32_t at = (int32_t)(u << 1 >> (SHIFT + 1)) - LOWEST;
    at = at < 0 ? 0 : at < BUCKETS ? at : BUCKETS - 1;
    const uint8_t k = b->least[negative][at];
    return (uint8_t)(k + (x > b->middle[k]));
}

/* Midpoints below x. */
static uint8_t count_below(const codebook *b, float x)
{
    int k = 0;
    while (x > b->middle[k]) k++;
    return (uint8_t)k;
}

static void make_book(codebook *b, bool is_signed)
{
    dt_dynamic_map(is_signed, b->map);
    for (int i = 0; i + 1 < MAP; i++) b->middle[i] = (b->map[i] + b->map[i + 1]) / 2.0f;
    b->middle[MAP - 1] = INFINITY;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        const uint32_t first = (LOWEST + i) << SHIFT, last = first + (1u << SHIFT) - 1;
        b->least[0][i] = count_below(b, i > 0 ? float_of(first) : 0.0f);
        b->least[1][i] = count_below(b, -float_of(last));
    }
}

typedef struct tables {
    codebook first, second; /* signed, unsigned */
} tables;

static const void *make_tables(arena *mem)
{
    tables *t = arena_get(mem, sizeof *t);
    if (!t) return NULL;
    make_book(&t->first, true);
    make_book(&t->second, false);
    return t;
}

/* --- blocks --------------------------------------------------------------------------------------------------------- */
typedef struct run {
    const opt_view *v;
    const tables *t;
    float gscale, b1, b1c, b2, b2c, step, eps, keep;
} run;

/* n values: moments in place, then the weights. */
static void adam(const run *r, float *restrict w, const float *restrict g, float *restrict m,
                 float *restrict v, int64_t n)
{
    const run k = *r;
    for (int64_t i = 0; i < n; i++) {
        const float grad = k.gscale * g[i];
        v[i] = k.b2 * v[i] + k.b2c * (grad * grad);
        m[i] = k.b1 * m[i] + k.b1c * grad;
        w[i] = (w[i] - k.step * (m[i] / (sqrtf(v[i]) + k.eps))) * k.keep;
    }
}

static void decode(float *restrict x, const uint8_t *restrict code, float absmax, const float *map,
                   int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = map[code[i]] * absmax;
}

/* Magnitudes compare as their bits do. */
static float largest(const float *x, int64_t n)
{
    int32_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t u = (int32_t)(bits_of(x[i]) & 0x7fffffffu);
        most = u > most ? u : most;
    }
    return float_of((uint32_t)most);
}

static float encode(uint8_t *restrict code, float *restrict x, const codebook *b, int64_t n)
{
    const float absmax = largest(x, n);
    if (absmax == 0.0f) {
        memset(code, 0, (size_t)n);
        return 0.0f;
    }
    for (int64_t i = 0; i < n; i++) x[i] /= absmax;
    for (int64_t i = 0; i < n; i++) code[i] = code_of(b, x[i]);
    return absmax;
}

static void block_tile(void *ctx, int64_t tile, int thread)
{
    enum { MANY = 16 }; /* blocks of a tile */
    const run *r = ctx;
    const opt_view *v = r->v;
    float m[BLOCK], s[BLOCK], *absmax1 = v->state[2], *absmax2 = v->state[3];
    (void)thread;
    for (int64_t b = tile * MANY; b < (tile + 1) * MANY && b * BLOCK < v->n; b++) {
        const int64_t first = b * BLOCK, n = v->n - first < BLOCK ? v->n - first : BLOCK;
        uint8_t *c1 = (uint8_t *)v->state[0] + first, *c2 = (uint8_t *)v->state[1] + first;
        decode(m, c1, absmax1[b], r->t->first.map, n);
        decode(s, c2, absmax2[b], r->t->second.map, n);
        adam(r, v->w + first, v->g + first, m, s, n);
        absmax1[b] = encode(c1, m, &r->t->first, n);
        absmax2[b] = encode(c2, s, &r->t->second, n);
        const uint8_t zero = MAP / 2 - 1; /* of 0 in the signed map */
        for (int64_t i = 0; i < n; i++) c1[i] = (uint8_t)(c1[i] - (c1[i] == zero && m[i] < 0.0f));
    }
}

static void update(const opt_view *v, const opt_hyper *h)
{
    const adamw8bit_cfg *c = h->cfg;
    const double c1 = 1.0 - pow(c->adam_beta1, (double)h->step);
    const double root = sqrt(1.0 - pow(c->adam_beta2, (double)h->step));
    run r = {.v = v,
             .t = h->tables,
             .gscale = (float)h->gscale,
             .b1 = (float)c->adam_beta1,
             .b1c = (float)(1.0 - c->adam_beta1),
             .b2 = (float)c->adam_beta2,
             .b2c = (float)(1.0 - c->adam_beta2),
             .step = (float)(h->lr * root / c1),
             .eps = (float)(c->adam_epsilon * root),
             .keep = (float)(1.0 - h->lr * h->decay)};
    if (v->n < SMALL)
        adam(&r, v->w, v->g, v->state[0], v->state[1], v->n);
    else
        pool_run(block_tile, &r, (v->n + 16 * BLOCK - 1) / (16 * BLOCK));
}

extern const opt_rule opt_adamw8bit;
const opt_rule opt_adamw8bit = {
    .name = "adamw8bit",
    .help = "adamw with moments in 8 bits: a quarter of its memory",
    .fields = fields,
    .cfg_size = sizeof(adamw8bit_cfg),
    .high_rate = 0.01,
    .states = states,
    .update = update,
    .tables = make_tables,
};
