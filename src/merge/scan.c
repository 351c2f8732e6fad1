/* scan.c – the inputs of a tensor tile by tile: rows by tokens where vocabularies differ, rounded where the recipe says a
 * dtype, and looked at for what is no number.
 *
 * A tile is as many whole rows as fit TILE_FLOATS, by the shape alone. What tiles find is added up in their order, whichever
 * thread was faster. */
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "merge_private.h"

#define TILE_FLOATS ((int64_t)64 << 10)
enum { TILES_AT_ONCE = 64, SUMS_AT_ONCE = 1 << 20 }; /* between two looks for a stop signal */

typedef struct scan {
    const merge_tensor *t;
    uint64_t reads;
    merge_visit fn;
    void *ctx;
    double *part; /* [tiles at once][n] */
    int64_t n;
    int64_t row0, end, tile_rows, first; /* rows of the scan; first: tile of this batch */
    float *out;                          /* of merge_mix: rows from row0 on; else NULL */
    atomic_llong bad; /* the first value that is no number: input · values + place */
} scan;

int64_t merge_tile_rows(const merge_tensor *t)
{
    return TILE_FLOATS / t->cols > 0 ? TILE_FLOATS / t->cols : 1;
}

int64_t merge_tiles(const merge_tensor *t)
{
    return (t->rows + merge_tile_rows(t) - 1) / merge_tile_rows(t);
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

static const merge_input *input_of(const merge_tensor *t, int ref)
{
    for (int i = 0; i < t->n; i++)
        if (t->in[i].ref == ref) return &t->in[i];
    return NULL;
}

static void mean_row(const merge_tensor *t, int64_t token, float *dst, float *other)
{
    int n = 0;
    memset(dst, 0, (size_t)t->cols * sizeof *dst);
    for (int i = 0; i < t->n; i++) {
        const int32_t row = t->vocab->own[t->in[i].ref][token];
        if (row < 0) continue;
        tn_unpack_rows(other, &t->in[i].view.t, row, 1);
        for (int64_t c = 0; c < t->cols; c++) dst[c] += other[c];
        n++;
    }
    for (int64_t c = 0; n > 0 && c < t->cols; c++) dst[c] /= (float)n;
}

/* The row that stands for a token in the model. */
static void token_row(const merge_tensor *t, const merge_input *in, int64_t token, float *dst,
                      float *other)
{
    const merge_vocab *v = t->vocab;
    if (token >= v->tokens) {
        if (in->mean)
            memcpy(dst, in->mean, (size_t)t->cols * sizeof *dst);
        else
            memset(dst, 0, (size_t)t->cols * sizeof *dst);
        return;
    }
    const int32_t own = v->own[in->ref][token];
    const merge_row *fill = &t->fill[token];
    if (own >= 0 && !v->force[token])
        tn_unpack_rows(dst, &in->view.t, own, 1);
    else if (fill->ref >= 0)
        tn_unpack_rows(dst, &input_of(t, fill->ref)->view.t, fill->row, 1);
    else if (fill->ref == MERGE_ROW_MEAN)
        mean_row(t, token, dst, other);
    else
        memset(dst, 0, (size_t)t->cols * sizeof *dst);
}

/* Rounded to the dtype of the recipe, in place. */
static void cast(const dt_type *type, float *x, int64_t n)
{
    uint8_t packed[4096];
    const int64_t step = (int64_t)sizeof packed / type->bytes;
    for (int64_t i = 0; i < n; i += step) {
        const int64_t k = n - i < step ? n - i : step;
        type->pack(packed, x + i, k);
        type->unpack(x + i, packed, k);
    }
}

/* dst [rows, cols], and a row more */
static void read_rows(const merge_tensor *t, const merge_input *in, int64_t row0, int64_t rows,
                      float *dst)
{
    if (!t->vocab)
        tn_unpack_rows(dst, &in->view.t, row0, rows);
    else
        for (int64_t r = 0; r < rows; r++)
            token_row(t, in, row0 + r, dst + r * t->cols, dst + rows * t->cols);
    if (t->cast && t->cast != in->view.t.type) cast(t->cast, dst, rows * t->cols);
}

static void note_bad(scan *s, int i, int64_t row0, const float *x, int64_t n)
{
    const int64_t at = dt_find_nonfinite(&dt_f32, x, n);
    if (at < 0) return;
    const long long place = i * s->t->rows * s->t->cols + row0 * s->t->cols + at;
    long long old = atomic_load(&s->bad);
    while (place < old && !atomic_compare_exchange_weak(&s->bad, &old, place)) {
    }
}

static ft_status tell_bad(const scan *s)
{
    const merge_tensor *t = s->t;
    const long long bad = atomic_load(&s->bad), n = t->rows * t->cols;
    if (bad == LLONG_MAX) return FT_OK;
    return ft_fail(
        FT_EDATA, "%s: tensor \"%s\" holds NaN or Inf at [%lld, %lld]; get the model's files again",
        ft_shows(t->in[bad / n].label), ft_shows(t->name), bad % n / t->cols, bad % n % t->cols);
}

/* --- tiles ---------------------------------------------------------------------------------------------------- */

static void run_tile(void *ctx, int64_t tile, int thread)
{
    scan *s = ctx;
    const merge_tensor *t = s->t;
    merge_rows r = {.cols = t->cols, .thread = thread, .tile = s->first + tile};
    r.row0 = s->row0 + r.tile * s->tile_rows;
    r.rows = s->end - r.row0 < s->tile_rows ? s->end - r.row0 : s->tile_rows;
    const int64_t room = (r.rows + 1) * t->cols;
    float *x = pool_scratch(thread, 1, (size_t)(t->n * room) * sizeof *x);
    if (!x) return;
    for (int i = 0; i < t->n; i++) {
        if (!(s->reads >> i & 1)) continue;
        r.x[i] = x + i * room;
        read_rows(t, &t->in[i], r.row0, r.rows, x + i * room);
        note_bad(s, i, r.row0, r.x[i], r.rows * t->cols);
    }
    s->fn(s->ctx, t, &r, s->n > 0 ? s->part + tile * s->n : NULL);
}

static ft_status run(scan *s, double *sum)
{
    const merge_tensor *t = s->t;
    s->tile_rows = merge_tile_rows(t);
    const int64_t tiles = (s->end - s->row0 + s->tile_rows - 1) / s->tile_rows;
    ft_status rc = FT_OK;
    int64_t at_once = s->n > 0 ? SUMS_AT_ONCE / s->n : TILES_AT_ONCE;
    at_once = at_once < 1 ? 1 : at_once > TILES_AT_ONCE ? TILES_AT_ONCE : at_once;
    atomic_store(&s->bad, LLONG_MAX);
    s->part = ft_alloc((size_t)(at_once * s->n) + 1, sizeof *s->part);
    if (!s->part) return FT_EMEM;
    for (s->first = 0; s->first < tiles; s->first += at_once) {
        const int64_t left = tiles - s->first, n = left < at_once ? left : at_once;
        memset(s->part, 0, (size_t)(n * s->n) * sizeof *s->part);
        pool_run(run_tile, s, n);
        FT_GUARD(!pool_failed(), FT_EMEM, "out of memory while merging \"%s\"", t->name);
        FT_TRY_OUT(tell_bad(s));
        FT_TRY_OUT(ft_stop());
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < s->n; k++) sum[k] += s->part[i * s->n + k];
    }
out:
    ft_free(s->part);
    return rc;
}

ft_status merge_scan(const merge_tensor *t, uint64_t reads, merge_visit fn, void *ctx, double *sum,
                     int64_t n)
{
    scan s = {.t = t, .reads = reads, .fn = fn, .ctx = ctx, .n = n, .end = t->rows};
    for (int64_t k = 0; k < n; k++) sum[k] = 0;
    return run(&s, sum);
}

static void mix_tile(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    const scan *s = ctx;
    float *y = s->out + (r->row0 - s->row0) * t->cols;
    t->method->mix(t, r, y);
    for (int64_t i = 0; i < r->rows * r->cols; i++) *sum += (double)y[i] * (double)y[i];
}

ft_status merge_mix(const merge_tensor *t, int64_t row0, int64_t n, float *out, double *square)
{
    double sum = 0;
    scan s = {.t = t,
              .reads = merge_all(t),
              .fn = mix_tile,
              .n = 1,
              .out = out,
              .row0 = row0,
              .end = row0 + n};
    s.ctx = &s;
    FT_TRY(run(&s, &sum));
    *square += sum;
    return FT_OK;
}

/* --- a tensor ---------------------------------------------------------------------------------------------------- */

static void add_columns(void *ctx, const merge_tensor *t, const merge_rows *r, double *sum)
{
    const int i = *(const int *)ctx;
    for (int64_t k = 0; k < r->rows && r->row0 + k < t->vocab->tokens; k++)
        for (int64_t c = 0; c < t->cols; c++) sum[c] += (double)r->x[i][k * t->cols + c];
}

/* Rows beyond the tokens: the mean of the others. */
static ft_status find_mean(merge_tensor *t, int i)
{
    double *sum = arena_get(t->mem, (size_t)t->cols * sizeof *sum);
    float *mean = arena_get(t->mem, (size_t)t->cols * sizeof *mean);
    if (!sum || !mean) return FT_EMEM;
    FT_TRY(merge_scan(t, (uint64_t)1 << i, add_columns, &i, sum, t->cols));
    for (int64_t c = 0; c < t->cols; c++) mean[c] = (float)(sum[c] / (double)t->vocab->tokens);
    t->in[i].mean = mean;
    return FT_OK;
}

ft_status merge_tensor_open(merge_tensor *t)
{
    ft_status rc = FT_OK;
    arena_reset(t->mem, 0);
    for (int i = 0; rc == FT_OK && i < t->n; i++)
        rc = model_view_open(&t->in[i].view, t->in[i].m, t->in[i].param, t->in[i].how);
    if (rc == FT_OK && t->vocab) {
        merge_row *fill = arena_get(t->mem, (size_t)t->vocab->tokens * sizeof *fill);
        t->fill = fill;
        rc = fill ? merge_vocab_fill(t->vocab, t, fill) : FT_EMEM;
        for (int i = 0; rc == FT_OK && t->vocab->rows > t->vocab->tokens && i < t->n; i++)
            rc = find_mean(t, i);
    }
    if (rc == FT_OK && t->method->look) rc = t->method->look(t);
    if (rc != FT_OK) merge_tensor_close(t);
    return rc;
}

void merge_tensor_close(merge_tensor *t)
{
    for (int i = 0; i < t->n; i++) {
        model_view_close(&t->in[i].view);
        t->in[i].mean = NULL;
    }
    t->fill = NULL;
    t->state = NULL;
}
