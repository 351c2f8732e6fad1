/* rows.c – the functions on rows and flat ranges: tiles for the pool around the loops of the level in use.
 *
 * Rows are handed out in groups of about 16 K elements: enough work to be worth a wake-up, small enough for
 * L1 and L2. Column sums (weights of norms, biases) go by groups of columns, each over all tokens. */
#include "kern.h"
#include "kern_bf16.h"

#include <string.h>

enum { TILE = 16384, COLUMNS = 64, PIECE = 1024 /* of a row in bf16: its floats stay in L1 */ };

typedef struct rows_run {
    int64_t t, c, step; /* rows, columns, rows (or elements, or columns) of a tile */
    float *out[4];
    const float *in[6];
    kn_rows y, x; /* where they may be bf16 */
    float f[3];
    const int32_t *pos;
    const int64_t *row;
    const kn_mat *w;
    const uint64_t *row_key;
    uint64_t key;
    uint32_t limit;
    int64_t ld, ld2;
    int heads, half, kind;
    bool accumulate;
} rows_run;

static int64_t first(const rows_run *r, int64_t tile)
{
    return tile * r->step;
}

static int64_t last(const rows_run *r, int64_t tile, int64_t n)
{
    int64_t end = (tile + 1) * r->step;
    return end < n ? end : n;
}

static void over_rows(pool_fn fn, rows_run *r, int64_t elements)
{
    r->step = 1 + TILE / (elements + 1);
    pool_run(fn, r, (r->t + r->step - 1) / r->step);
}

static void over_elements(pool_fn fn, rows_run *r, int64_t n)
{
    r->t = n;
    r->step = TILE;
    pool_run(fn, r, (n + TILE - 1) / TILE);
}

static void over_columns(pool_fn fn, rows_run *r)
{
    r->step = COLUMNS;
    pool_run(fn, r, (r->c + COLUMNS - 1) / COLUMNS);
}

static float *at(float *p, int64_t i)
{
    return p ? p + i : NULL;
}

static const float *cat(const float *p, int64_t i)
{
    return p ? p + i : NULL;
}

/* Rows in bf16 are widened into buffers of floats, and made in them: in the block of attention, which is counted. */
static float *buffers(int thread, int64_t floats)
{
    return pool_scratch(thread, 1, (size_t)floats * sizeof(float));
}

static const float *row_of(const kn_rows *x, int64_t i, int64_t column, int64_t n, float *buffer)
{
    const int64_t at = i * x->ld + column;
    if (!x->bf16) return (const float *)x->data + at;
    kern_dot_row->widen(buffer, (const uint16_t *)x->data + at, n);
    return buffer;
}

static float *place_of(const kn_rows *y, int64_t i, int64_t column, float *buffer)
{
    return y->bf16 ? buffer : (float *)y->data + i * y->ld + column;
}

static void finish(const kn_rows *y, int64_t i, int64_t column, int64_t n, const float *made)
{
    if (y->bf16) kern_dot_row->round((uint16_t *)y->data + i * y->ld + column, made, n);
}

/* --- norms ------------------------------------------------------------------------------------------- */

static void rmsnorm_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    float *buffer = r->y.bf16 ? buffers(thread, r->c) : NULL;
    if (r->y.bf16 && !buffer) return;
    for (int64_t i = first(r, tile); i < last(r, tile, r->t); i++) {
        float *y = place_of(&r->y, i, 0, buffer);
        kern->rmsnorm(y, at(r->out[1], i), r->in[0] + i * r->c, r->in[1], r->c, r->f[0]);
        finish(&r->y, i, 0, r->c, y);
    }
}

void kn_rmsnorm(kn_rows y, float *rstd, const float *x, const float *w, int64_t t, int64_t c,
                float eps)
{
    rows_run r = {.t = t, .c = c, .y = y, .out = {NULL, rstd}, .in = {x, w}, .f = {eps}};
    over_rows(rmsnorm_tile, &r, c);
}

/* in: dy, x, w, mean, rstd; out: dx, dw, db */
static void norm_dx_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile); i < last(r, tile, r->t); i++) {
        const float *dy = r->in[0] + i * r->c, *x = r->in[1] + i * r->c;
        float *dx = r->out[0] + i * r->c;
        if (r->in[3])
            kern->layernorm_dx(dx, dy, x, r->in[2], r->in[3][i], r->in[4][i], r->c);
        else
            kern->rmsnorm_dx(dx, dy, x, r->in[2], r->in[4][i], r->c);
    }
}

static void norm_dw_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    int64_t j = first(r, tile), n = last(r, tile, r->c) - j;
    (void)thread;
    kern->norm_dw(at(r->out[1], j), at(r->out[2], j), r->in[0] + j, cat(r->in[1], j), r->in[3],
                  r->in[4], r->ld, r->t, n);
}

static void norm_back(rows_run *r)
{
    if (r->out[0]) over_rows(norm_dx_tile, r, r->c);
    if (r->out[1] || r->out[2]) over_columns(norm_dw_tile, r);
}

void kn_rmsnorm_back(float *dx, float *dw, const float *dy, const float *x, const float *w,
                     const float *rstd, int64_t t, int64_t c)
{
    rows_run r = {.t = t, .c = c, .ld = c, .out = {dx, dw}, .in = {dy, x, w, NULL, rstd}};
    norm_back(&r);
}

static void layernorm_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    float *buffer = r->y.bf16 ? buffers(thread, r->c) : NULL;
    if (r->y.bf16 && !buffer) return;
    for (int64_t i = first(r, tile); i < last(r, tile, r->t); i++) {
        float *y = place_of(&r->y, i, 0, buffer);
        kern->layernorm(y, at(r->out[1], i), at(r->out[2], i), r->in[0] + i * r->c, r->in[1],
                        r->in[2], r->c, r->f[0]);
        finish(&r->y, i, 0, r->c, y);
    }
}

void kn_layernorm(kn_rows y, float *mean, float *rstd, const float *x, const float *w,
                  const float *b, int64_t t, int64_t c, float eps)
{
    rows_run r = {.t = t, .c = c, .y = y, .out = {NULL, mean, rstd}, .in = {x, w, b}, .f = {eps}};
    over_rows(layernorm_tile, &r, c);
}

void kn_layernorm_back(float *dx, float *dw, float *db, const float *dy, const float *x,
                       const float *w, const float *mean, const float *rstd, int64_t t, int64_t c)
{
    rows_run r = {.t = t, .c = c, .ld = c, .out = {dx, dw, db}, .in = {dy, x, w, mean, rstd}};
    norm_back(&r);
}

void kn_col_sum_add(float *db, const float *dy, int64_t ld, int64_t t, int64_t c)
{
    rows_run r = {.t = t, .c = c, .ld = ld, .out = {NULL, NULL, db}, .in = {dy}};
    over_columns(norm_dw_tile, &r);
}

/* --- rotary embedding ---------------------------------------------------------------------------------- */

static void rope_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile); i < last(r, tile, r->t); i++) {
        const int64_t angle = (int64_t)r->pos[i] * r->half;
        for (int h = 0; h < r->heads; h++)
            kern->rope(r->out[0] + i * r->ld + h * r->c, r->in[0] + angle, r->in[1] + angle,
                       r->half, r->f[0]);
    }
}

void kn_rope(float *x, int64_t ldx, int64_t t, int n_head, int head_dim, int half, const float *cos,
             const float *sin, const int32_t *pos, float sign)
{
    rows_run r = {.t = t,
                  .c = head_dim,
                  .ld = ldx,
                  .out = {x},
                  .in = {cos, sin},
                  .f = {sign},
                  .pos = pos,
                  .heads = n_head,
                  .half = half};
    over_rows(rope_tile, &r, (int64_t)n_head * half * 2);
}

/* --- activations ------------------------------------------------------------------------------------------ */

struct kn_act {
    const char *name;
    int kind; /* of the functions in kern_table */
};

const kn_act *kn_act_by_name(const char *name)
{
    /* in the order of ACTS in kern_rows.inc; the last row is another name of the third */
    static const kn_act acts[] = {{"silu", 0},       {"gelu", 1},       {"gelu_new", 2},
                                  {"quick_gelu", 3}, {"relu", 4},       {"relu2", 5},
                                  {"tanh", 6},       {"leaky_relu", 7}, {"gelu_pytorch_tanh", 2}};
    for (size_t i = 0; i < FT_COUNT_OF(acts); i++)
        if (strcmp(acts[i].name, name) == 0) return &acts[i];
    return NULL;
}

/* Columns of a row that go through at a time. */
static int64_t piece_of(const rows_run *r)
{
    return (r->y.bf16 || r->x.bf16) && r->c > PIECE ? PIECE : r->c;
}

/* in[1]: dy, and y the gradient of gate and up; NULL: forward */
static void glu_piece(const rows_run *r, int64_t i, int64_t c0, int64_t n, float *buffer)
{
    const float *gate = row_of(&r->x, i, c0, n, buffer);
    const float *up = row_of(&r->x, i, r->c + c0, n, buffer + n);
    float *y = place_of(&r->y, i, c0, buffer + 2 * n);
    if (r->in[1]) {
        float *d_up = place_of(&r->y, i, r->c + c0, buffer + 3 * n);
        kern->glu_back[r->kind](y, d_up, r->in[1] + i * r->c + c0, gate, up, n, r->accumulate);
        finish(&r->y, i, r->c + c0, n, d_up);
    } else {
        kern->glu[r->kind](y, gate, up, n);
    }
    finish(&r->y, i, c0, n, y);
}

static void act_piece(const rows_run *r, int64_t i, int64_t c0, int64_t n, float *buffer)
{
    const float *x = row_of(&r->x, i, c0, n, buffer);
    float *y = place_of(&r->y, i, c0, buffer + n);
    if (r->in[1])
        kern->act_back[r->kind](y, r->in[1] + i * r->c + c0, x, n, r->accumulate);
    else
        kern->act[r->kind](y, x, n);
    finish(&r->y, i, c0, n, y);
}

static void over_pieces(const rows_run *r, int64_t tile, int thread,
                        void (*piece)(const rows_run *, int64_t, int64_t, int64_t, float *))
{
    const int64_t most = piece_of(r);
    float *buffer = buffers(thread, 4 * most);
    for (int64_t i = first(r, tile); buffer && i < last(r, tile, r->t); i++)
        for (int64_t c0 = 0; c0 < r->c; c0 += most)
            piece(r, i, c0, r->c - c0 < most ? r->c - c0 : most, buffer);
}

static void glu_tile(void *ctx, int64_t tile, int thread)
{
    over_pieces(ctx, tile, thread, glu_piece);
}

static void act_tile(void *ctx, int64_t tile, int thread)
{
    over_pieces(ctx, tile, thread, act_piece);
}

void kn_glu(const kn_act *act, kn_rows y, kn_rows gu, int64_t t, int64_t i)
{
    rows_run r = {.t = t, .c = i, .y = y, .x = gu, .kind = act->kind};
    over_rows(glu_tile, &r, i);
}

void kn_glu_back(const kn_act *act, kn_rows dgu, const float *dy, kn_rows gu, int64_t t, int64_t i,
                 bool accumulate)
{
    rows_run r = {.t = t,
                  .c = i,
                  .y = dgu,
                  .in = {NULL, dy},
                  .x = gu,
                  .kind = act->kind,
                  .accumulate = accumulate};
    if (dgu.data) over_rows(glu_tile, &r, 2 * i);
}

void kn_act_rows(const kn_act *act, kn_rows y, kn_rows x, int64_t t, int64_t c)
{
    rows_run r = {.t = t, .c = c, .y = y, .x = x, .kind = act->kind};
    over_rows(act_tile, &r, c);
}

void kn_act_back(const kn_act *act, kn_rows dx, const float *dy, kn_rows x, int64_t t, int64_t c,
                 bool accumulate)
{
    rows_run r = {.t = t,
                  .c = c,
                  .y = dx,
                  .in = {NULL, dy},
                  .x = x,
                  .kind = act->kind,
                  .accumulate = accumulate};
    if (dx.data) over_rows(act_tile, &r, c);
}

static void convert_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile), end = last(r, tile, r->t); i < end; i++) {
        float *y = place_of(&r->y, i, 0, NULL);
        const float *x = row_of(&r->x, i, 0, r->c, y);
        finish(&r->y, i, 0, r->c, x);
    }
}

void kn_convert_rows(kn_rows y, kn_rows x, int64_t t, int64_t c)
{
    rows_run r = {.t = t, .c = c, .y = y, .x = x};
    over_rows(convert_tile, &r, c);
}

/* --- elementwise -------------------------------------------------------------------------------------------- */

static void add_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    int64_t i = first(r, tile);
    (void)thread;
    kern->add(r->out[0] + i, r->in[0] + i, r->in[1] + i, last(r, tile, r->t) - i);
}

static void gather_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    const size_t size = r->x.bf16 ? sizeof(uint16_t) : sizeof(float);
    (void)thread;
    for (int64_t i = first(r, tile), end = last(r, tile, r->t); i < end; i++)
        memcpy((char *)r->y.data + (size_t)(i * r->y.ld) * size,
               (const char *)r->x.data + (size_t)(r->row[i] * r->x.ld) * size, (size_t)r->c * size);
}

void kn_gather_rows(kn_rows y, kn_rows x, const int64_t *row, int64_t n, int64_t c)
{
    rows_run r = {.t = n, .c = c, .y = y, .x = x, .row = row};
    over_rows(gather_tile, &r, c);
}

static void put_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile), end = last(r, tile, r->t); i < end; i++) {
        float *y = r->out[0] + r->row[i] * r->ld;
        if (r->in[0])
            memcpy(y, r->in[0] + i * r->c, (size_t)r->c * sizeof(float));
        else
            memset(y, 0, (size_t)r->c * sizeof(float));
    }
}

void kn_put_rows(float *y, int64_t ldy, const float *x, const int64_t *row, int64_t n, int64_t c)
{
    rows_run r = {.t = n, .c = c, .out = {y}, .ld = ldy, .in = {x}, .row = row};
    over_rows(put_tile, &r, c);
}

/* A thread owns a slice of columns: rows may repeat. */
static void scatter_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    int64_t c0 = first(r, tile), n = last(r, tile, r->c) - c0;
    (void)thread;
    for (int64_t i = 0; i < r->t; i++)
        kern->axpy(r->out[0] + r->row[i] * r->c + c0, 1.0f, r->in[0] + i * r->c + c0, n);
}

void kn_scatter_rows(float *y, const float *x, const int64_t *row, int64_t n, int64_t c)
{
    rows_run r = {.t = n, .c = c, .out = {y}, .in = {x}, .row = row};
    over_columns(scatter_tile, &r);
}

static void scale_rows_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile), end = last(r, tile, r->t); i < end; i++)
        kern->scale(r->out[0] + i * r->c, r->in[0][i], r->c);
}

void kn_scale_rows(float *x, const float *s, int64_t t, int64_t c)
{
    rows_run r = {.t = t, .c = c, .out = {x}, .in = {s}};
    over_rows(scale_rows_tile, &r, c);
}

static void embed_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    const kn_mat *w = r->w;
    const dt_data data = {w->data, w->side};
    (void)thread;
    for (int64_t t = first(r, tile), end = last(r, tile, r->t); t < end; t++) {
        float *y = r->out[0] + t * r->c;
        int64_t id = r->pos[t];
        if (id < 0)
            memset(y, 0, (size_t)r->c * sizeof(float));
        else
            dt_read(w->type, y, &data, (w->row_of ? w->row_of[id] : id) * r->c, r->c);
    }
}

void kn_embed(float *y, const kn_mat *w, const int32_t *ids, int64_t n)
{
    rows_run r = {.t = n, .c = w->cols, .out = {y}, .w = w, .pos = ids};
    over_rows(embed_tile, &r, r.c);
}

/* A thread owns a slice of columns: rows may repeat. */
static void embed_back_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    int64_t c0 = first(r, tile), n = last(r, tile, r->c) - c0;
    (void)thread;
    for (int64_t t = 0; t < r->t; t++) {
        if (r->pos[t] < 0 || r->pos[t] == r->kind) continue;
        kern->axpy(r->out[0] + r->pos[t] * r->c + c0, 1.0f, r->in[0] + t * r->c + c0, n);
    }
}

void kn_embed_back(float *dw, const float *dy, const int32_t *ids, int64_t n, int64_t c,
                   int32_t frozen)
{
    rows_run r = {.t = n, .c = c, .out = {dw}, .in = {dy}, .pos = ids, .kind = frozen};
    over_columns(embed_back_tile, &r);
}

static void copy_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile), end = last(r, tile, r->t); i < end; i++)
        memcpy(r->out[0] + i * r->ld, r->in[0] + i * r->ld2, (size_t)r->c * sizeof(float));
}

void kn_copy_block(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t t, int64_t c)
{
    rows_run r = {.t = t, .c = c, .out = {y}, .ld = ldy, .in = {x}, .ld2 = ldx};
    over_rows(copy_tile, &r, c);
}

static void mul_cols_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile), end = last(r, tile, r->t); i < end; i++)
        kern->mul(r->out[0] + i * r->ld, r->f[0], r->in[0] + i * r->ld2, r->in[1], r->c,
                  r->accumulate);
}

void kn_mul_cols(float *y, int64_t ldy, const float *x, int64_t ldx, const float *v, float s,
                 int64_t t, int64_t c, bool accumulate)
{
    rows_run r = {.t = t,
                  .c = c,
                  .out = {y},
                  .ld = ldy,
                  .in = {x, v},
                  .ld2 = ldx,
                  .f = {s},
                  .accumulate = accumulate};
    over_rows(mul_cols_tile, &r, c);
}

static void col_dot_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    int64_t c0 = first(r, tile), n = last(r, tile, r->c) - c0;
    (void)thread;
    for (int64_t i = 0; i < r->t; i++)
        kern->mul(r->out[0] + c0, 1.0f, r->in[0] + i * r->ld + c0, r->in[1] + i * r->ld2 + c0, n,
                  true);
}

void kn_col_dot_add(float *dv, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t t,
                    int64_t c)
{
    rows_run r = {.t = t, .c = c, .out = {dv}, .in = {a, b}, .ld = lda, .ld2 = ldb};
    over_columns(col_dot_tile, &r);
}

static void magnify_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile), end = last(r, tile, r->t); i < end; i++) {
        float *y = r->out[0] + i * r->ld, *u = r->out[1] + i * r->ld2;
        kern->mul(u, 1.0f, u, r->in[0], r->c, false);
        kern->mul(y, 1.0f, u, r->in[1], r->c, r->accumulate);
        if (r->in[2]) kern->add(y, y, r->in[2], r->c);
    }
}

void kn_magnify(float *y, int64_t ldy, float *u, int64_t ldu, const float *inverse, const float *m,
                const float *b, int64_t t, int64_t c, bool accumulate)
{
    rows_run r = {.t = t,
                  .c = c,
                  .out = {y, u},
                  .ld = ldy,
                  .ld2 = ldu,
                  .in = {inverse, m, b},
                  .accumulate = accumulate};
    over_rows(magnify_tile, &r, 2 * c);
}

void kn_add(float *y, const float *a, const float *b, int64_t n)
{
    rows_run r = {.out = {y}, .in = {a, b}};
    over_elements(add_tile, &r, n);
}

static void axpy_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    int64_t i = first(r, tile);
    (void)thread;
    kern->axpy(r->out[0] + i, r->f[0], r->in[0] + i, last(r, tile, r->t) - i);
}

void kn_axpy(float *y, float s, const float *x, int64_t n)
{
    rows_run r = {.out = {y}, .in = {x}, .f = {s}};
    over_elements(axpy_tile, &r, n);
}

static void scale_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    int64_t i = first(r, tile);
    (void)thread;
    kern->scale(r->out[0] + i, r->f[0], last(r, tile, r->t) - i);
}

void kn_scale(float *x, float s, int64_t n)
{
    rows_run r = {.out = {x}, .f = {s}};
    over_elements(scale_tile, &r, n);
}

/* --- dropout --------------------------------------------------------------------------------------------------- */

static void dropout_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile); i < last(r, tile, r->t); i++)
        kern->dropout(r->out[0] + i * r->c, r->in[0] + i * r->c, r->c, r->limit, r->f[0],
                      rng_u64(r->key, r->row_key[i]), r->accumulate);
}

static void dropout(float *y, const float *x, int64_t t, int64_t c, float p, uint64_t key,
                    const uint64_t *row_key, bool accumulate)
{
    const double keep = 1.0 - (double)p, limit = (double)p * 0x1p32;
    rows_run r = {.t = t,
                  .c = c,
                  .out = {y},
                  .in = {x},
                  .f = {keep > 0 ? (float)(1.0 / keep) : 0.0f},
                  .key = key,
                  .row_key = row_key,
                  .limit = limit >= 0xffffffffp0 ? UINT32_MAX : (uint32_t)limit,
                  .accumulate = accumulate};
    over_rows(dropout_tile, &r, c);
}

void kn_dropout(float *y, const float *x, int64_t t, int64_t c, float p, uint64_t key,
                const uint64_t *row_key)
{
    dropout(y, x, t, c, p, key, row_key, false);
}

void kn_dropout_back(float *dx, const float *dy, int64_t t, int64_t c, float p, uint64_t key,
                     const uint64_t *row_key)
{
    if (dx) dropout(dx, dy, t, c, p, key, row_key, true);
}

/* 24 bits of a hash of the column under the row's 64 bits, whose halves enter one after the other (cf. dropout). */
static float uniform_at(uint64_t row, int64_t column)
{
    uint32_t h = (uint32_t)column * 0x9e3779b1u + (uint32_t)row;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = ((h ^ h >> 13) + (uint32_t)(row >> 32)) * 0xc2b2ae35u;
    h = (h ^ h >> 16) * 0x27d4eb2fu;
    h ^= h >> 15;
    return (float)(int32_t)(h >> 8) * 0x1p-23f - 1.0f;
}

static void noise_tile(void *ctx, int64_t tile, int thread)
{
    const rows_run *r = ctx;
    (void)thread;
    for (int64_t i = first(r, tile); i < last(r, tile, r->t); i++) {
        const uint64_t row = rng_u64(r->key, r->row_key[i]);
        float *y = r->out[0] + i * r->c;
        for (int64_t j = 0; j < r->c; j++) y[j] += r->f[0] * uniform_at(row, j);
    }
}

void kn_noise(float *y, float amount, int64_t t, int64_t c, uint64_t key, const uint64_t *row_key)
{
    rows_run r = {.t = t, .c = c, .out = {y}, .f = {amount}, .key = key, .row_key = row_key};
    over_rows(noise_tile, &r, c);
}

void kn_count_below(uint8_t *out, const float *x, int64_t n, const float *bound, int bounds)
{
    kern->count_below(out, x, n, bound, bounds);
}
