/* quant_bnb_code.c – a matrix into codes of four bits, block by block on the pool, without an f32 copy of it.
 *
 * The arithmetic is that of bitsandbytes 0.50 on a CPU: x · (1 / absmax) in f32 against the midpoints of the codes, but a
 * short last block is divided; absmax below 1e-38 counts as that, and is stored so in a short block. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "ft/kernel.h"
#include "quant_bnb.h"

enum { TILE = 1 << 16 }; /* whole blocks of every size */

typedef struct job {
    const tn_tensor *src; /* [rows, cols], or [cols, rows] with `turned` */
    bool turned;
    int64_t rows, cols, n, block_size;
    const dt_bnb_codes *t;
    uint8_t *codes;
    float *absmax;
    atomic_bool bad;
} job;

bool bnb_is_block_size(int64_t n)
{
    return n >= 32 && n <= 4096 && (n & (n - 1)) == 0;
}

/* --- four bits --------------------------------------------------------------------------------------------------- */
static int64_t stored_row(const tn_tensor *t, int64_t row)
{
    return t->row_of ? t->row_of[row] : row;
}

/* Values first … first + n of the flattened matrix. */
static void values(const job *j, float *x, int64_t first, int64_t n)
{
    const tn_tensor *t = j->src;
    const dt_data data = {t->data, t->side};
    const int64_t cols = j->cols;
    if (!j->turned && !t->row_of) {
        dt_read(t->type, x, &data, first, n);
        return;
    }
    for (int64_t i = 0; i < n;) {
        const int64_t row = (first + i) / cols, col = (first + i) % cols;
        int64_t take = cols - col < n - i ? cols - col : n - i;
        if (!j->turned) dt_read(t->type, x + i, &data, stored_row(t, row) * cols + col, take);
        for (int64_t k = 0; j->turned && k < take; k++)
            dt_read(t->type, x + i + k, &data, stored_row(t, col + k) * j->rows + row, 1);
        i += take;
    }
}

/* The largest magnitude; NaN and infinities are larger than all numbers. */
static float largest(const float *x, int64_t n)
{
    uint32_t most = 0;
    float out;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        u &= 0x7fffffff;
        most = u > most ? u : most;
    }
    memcpy(&out, &most, sizeof out);
    return out;
}

static void scale_block(job *j, float *x, int64_t block, int64_t n)
{
    const bool whole = n == j->block_size;
    const float absmax = largest(x, n), divisor = absmax < 1e-38f ? 1e-38f : absmax;
    const float factor = 1.0f / divisor;
    if (!isfinite(absmax)) atomic_store(&j->bad, true);
    for (int64_t i = 0; i < n; i++) x[i] = whole ? x[i] * factor : x[i] / divisor;
    j->absmax[block] = whole ? absmax : divisor;
}

static void code_tile(void *ctx, int64_t tile, int thread)
{
    job *j = ctx;
    const int64_t first = tile * TILE, left = j->n - first, n = left < TILE ? left : TILE;
    float *x = pool_scratch(thread, 0, (TILE + 1) * sizeof *x);
    uint8_t *q = pool_scratch(thread, 1, TILE + 1);
    if (!x || !q) return;
    values(j, x, first, n);
    for (int64_t i = 0; i < n; i += j->block_size)
        scale_block(j, x + i, (first + i) / j->block_size,
                    n - i < j->block_size ? n - i : j->block_size);
    x[n] = 0.0f; /* an odd number of elements ends with the code of 0 */
    kn_count_below(q, x, n + n % 2, j->t->bound, 15);
    for (int64_t i = 0; i < n; i += 2)
        j->codes[(first + i) / 2] = (uint8_t)(j->t->order[q[i]] << 4 | j->t->order[q[i + 1]]);
}

/* --- eight bits for absmax ----------------------------------------------------------------------------------------- */
static void nested_block(dt_bnb *b, const float *bound, uint8_t *coded, float *nested,
                         const float *absmax, int64_t first, int64_t n)
{
    float x[BNB_NESTED];
    for (int64_t i = 0; i < n; i++) x[i] = absmax[first + i] - b->offset;
    const float scale = largest(x, n), factor = scale > 0 ? 1.0f / scale : 0.0f;
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
    kn_count_below(coded + first, x, n, bound, 255);
    nested[first / BNB_NESTED] = scale;
}

/* The same for all matrices. */
static const float *map_of_eight_bits(void)
{
    static float map[256];
    if (map[255] == 0) dt_dynamic_map(true, map);
    return map;
}

static ft_status double_quantise(dt_bnb *b, const float *absmax, arena *mem)
{
    double sum = 0;
    float bound[255];
    const float *map = map_of_eight_bits();
    const size_t scales = (size_t)((b->blocks + BNB_NESTED - 1) / BNB_NESTED);
    uint8_t *coded = arena_get(mem, (size_t)b->blocks);
    float *nested = arena_get(mem, scales * sizeof *nested);
    if (!coded || !nested) return FT_EMEM;
    b->map = map;
    b->coded = coded;
    b->nested = nested;
    b->nested_size = BNB_NESTED;
    if (!absmax) return FT_OK;
    for (int i = 0; i < 255; i++) bound[i] = (map[i] + map[i + 1]) / 2;
    for (int64_t i = 0; i < b->blocks; i++) sum += (double)absmax[i];
    b->offset = (float)(sum / (double)b->blocks);
    for (int64_t i = 0; i < b->blocks; i += BNB_NESTED)
        nested_block(b, bound, coded, nested, absmax, i,
                     b->blocks - i < BNB_NESTED ? b->blocks - i : BNB_NESTED);
    return FT_OK;
}

/* A code of ±1 gives the scale itself, cast to dtype: that must be a finite number too. */
static ft_status check_scales(const dt_bnb *b, const char *name)
{
    float absmax[256];
    uint8_t cast[sizeof absmax];
    for (int64_t i = 0; i < b->blocks; i += 256) {
        const int64_t n = b->blocks - i < 256 ? b->blocks - i : 256;
        dt_bnb_absmaxes(absmax, b, i * b->block_size, b->block_size, n);
        b->dtype->pack(cast, absmax, n);
        const int64_t at = dt_find_nonfinite(b->dtype, cast, n);
        FT_CHECK(at < 0, FT_EDIVERGED,
                 "tensor \"%s\": %g, the largest of values from %lld on, is beyond the range of %s",
                 ft_shows(name), (double)absmax[at < 0 ? 0 : at],
                 (long long)((i + at) * b->block_size), b->dtype->name);
    }
    return FT_OK;
}

ft_status bnb_quantise(const bnb_cfg *cfg, const dt_type *type, const dt_type *dtype,
                       const tn_tensor *src, bool turned, const char *name, int64_t rows,
                       int64_t cols, arena *mem, arena *small, tn_tensor *out)
{
    ft_status rc = FT_OK;
    float *temporary = NULL;
    job j = {.src = src,
             .turned = turned,
             .rows = rows,
             .cols = cols,
             .n = rows * cols,
             .block_size = cfg->block_size,
             .t = dt_bnb_codes_of(type)};
    const int64_t blocks = (j.n + cfg->block_size - 1) / cfg->block_size;
    dt_bnb *b = arena_get(small, sizeof *b);
    j.codes = arena_get(mem, (size_t)(j.n + 1) / 2);
    if (!b || !j.codes) return FT_EMEM;
    *b = (dt_bnb){
        .code = j.t->code, .block_size = cfg->block_size, .blocks = blocks, .dtype = dtype};
    if (!cfg->double_quant)
        b->absmax = j.absmax = arena_get(mem, (size_t)blocks * sizeof(float));
    else if (src)
        j.absmax = temporary = ft_alloc((size_t)blocks, sizeof *temporary);
    if (!j.absmax && (src || !cfg->double_quant)) return FT_EMEM;
    if (src) {
        pool_run(code_tile, &j, (j.n + TILE - 1) / TILE);
        FT_GUARD(!pool_failed(), FT_EMEM, "out of memory while quantising \"%s\"", name);
        FT_GUARD(!atomic_load(&j.bad), FT_EDATA,
                 "tensor \"%s\" has a value that is no finite number; it cannot be quantised",
                 ft_shows(name));
    }
    if (cfg->double_quant) FT_TRY_OUT(double_quantise(b, temporary, mem));
    if (src) FT_TRY_OUT(check_scales(b, name));
    *out = (tn_tensor){.type = type, .nd = 2, .dim = {rows, cols}, .data = j.codes, .side = b};
out:
    ft_free(temporary);
    return rc;
}
