/* save_items.c – the tensors of a model on their way out: values as trained, an adapter folded in, rounded once.
 *
 * A tensor is made in pieces of whole rows, so that a model larger than memory can be written; only what is folded
 * or turned is held as a whole f32 matrix. Where nothing changes, bytes are copied: blocks packed again would
 * not be the same blocks. */
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "save_private.h"

/* Packed between two writes: 4 MiB at most, which the plan of a run counts. */
#define PIECE_FLOATS ((int64_t)1 << 20)
#define TILE_FLOATS ((int64_t)64 << 10) /* unit of work of one thread */

/* --- what is written -------------------------------------------------------------------------------------- */

/* Tied weights stay tied unless something gave the two ends different values. */
static bool ends_differ(const save_plan *p)
{
    const model *m = p->m;
    const nn_overlay *over = p->opt->over;
    if (save_value(p, m->embed->w)->data != save_value(p, m->head->w)->data) return true;
    return p->opt->fold.fold && (nn_slot_of(over, m->embed) || nn_slot_of(over, m->head));
}

/* The bias that the overlay gives the site whose weight is parameter i; NULL. */
static const nn_param *added_bias(const save_plan *p, int64_t i)
{
    const nn_site *s = p->m->info[i].site;
    const nn_overlay *over = p->opt->over;
    return s && s->w->index == i && over && over->bias ? over->bias[s->index] : NULL;
}

ft_status save_plan_open(save_plan *p, model *m, const model_save_options *opt)
{
    *p = (save_plan){.m = m, .path = opt->source.name ? opt->source.name : m->path, .opt = opt};
    FT_TRY(arena_open(&p->mem, "save plan", (size_t)1 << 30));
    p->untie = m->d.tied && ends_differ(p);
    p->cap = m->n_param + m->n_site + 16;
    p->item = arena_get(p->mem, (size_t)p->cap * sizeof *p->item);
    if (!p->item) return FT_EMEM;
    for (int64_t i = 0; i < m->n_param; i++) {
        const nn_param *q = &m->param[i];
        if (q == m->head->w && m->d.tied && !p->untie) continue;
        save_item *it = &p->item[p->n++];
        *it = (save_item){.param = i, .name = q->name, .nd = q->t.nd};
        for (int k = 0; k < q->t.nd; k++) it->dim[k] = q->t.dim[k];
        const nn_param *added = added_bias(p, i);
        if (!added) continue;
        p->item[p->n++] = (save_item){
            .param = i, .added = added, .name = added->name, .nd = 1, .dim = {added->t.dim[0]}};
    }
    return FT_OK;
}

void save_plan_close(save_plan *p)
{
    arena_close(p->codes);
    arena_close(p->mem);
    *p = (save_plan){0};
}

/* --- values ------------------------------------------------------------------------------------------------ */

typedef struct piece {
    const tn_tensor *src; /* [rows, cols] */
    int64_t first;        /* row of the tensor that it begins with */
    const int32_t *order;
    const dt_type *type;
    uint8_t *out;
    int64_t row0, rows, cols, tile_rows;
    size_t row_bytes;
    bool allows; /* NaN and Inf of the source */
    atomic_llong given,
        overflow; /* element of `out`: the first that the source has so, and that packing made so */
} piece;

static void least(atomic_llong *at, long long v)
{
    long long old = atomic_load(at);
    while (v < old && !atomic_compare_exchange_weak(at, &old, v)) {
    }
}

/* A packed row that holds what is no finite number: does its source (NULL: the same bytes)? */
static void look_at(piece *p, int64_t r, const float *row, const uint8_t *packed)
{
    const int64_t block = p->type->block;
    for (int64_t from = 0; from < p->cols;) {
        int64_t at =
            dt_find_nonfinite(p->type, packed + from / block * p->type->bytes, p->cols - from);
        if (at < 0) return;
        at = from + at / block * block;
        const int64_t bad = row ? dt_find_nonfinite(&dt_f32, row + at, block) : 0;
        least(bad < 0 ? &p->overflow : &p->given,
              (p->row0 + r) * p->cols + at + (bad < 0 ? 0 : bad));
        from = at + block;
    }
}

static void pack_tile(void *ctx, int64_t tile, int thread)
{
    piece *p = ctx;
    int64_t first = tile * p->tile_rows, end = first + p->tile_rows;
    if (end > p->rows) end = p->rows;
    float *row = pool_scratch(thread, 0, (size_t)p->cols * sizeof *row);
    if (!row) return;
    for (int64_t r = first; r < end; r++) {
        int64_t from = p->order ? p->order[p->row0 + r] : p->row0 + r - p->first;
        uint8_t *to = p->out + (size_t)r * p->row_bytes;
        const bool copies = p->type == p->src->type && !p->type->read;
        if (copies) {
            memcpy(to, tn_row(p->src, from), p->row_bytes);
        } else {
            tn_unpack_rows(row, p->src, from, 1);
            p->type->pack(to, row, p->cols);
        }
        if (dt_find_nonfinite(p->type, to, p->cols) >= 0) look_at(p, r, copies ? NULL : row, to);
    }
}

/* Where an element stands, "[3, 17]"; of a block whose scale overflows the value that does it. */
static void put_place(str_buf *s, const piece *p, int64_t at)
{
    const int64_t r = at / p->cols, c = at % p->cols;
    if (tn_rows(p->src) == 1)
        str_printf(s, "[%lld]", (long long)c);
    else
        str_printf(s, "[%lld, %lld]", (long long)r, (long long)c);
}

/* Rows that are packed between two writes. */
static int64_t rows_at_once(const tn_tensor *t)
{
    const int64_t n = PIECE_FLOATS / tn_cols(t) > 0 ? PIECE_FLOATS / tn_cols(t) : 1;
    return n < tn_rows(t) ? n : tn_rows(t);
}

/* What the tiles have found, as the first element; overflow counts in any case. */
static ft_status judge(const save_plan *p, const save_item *it, piece *of)
{
    const long long given = atomic_load(&of->given), overflow = atomic_load(&of->overflow);
    const bool made = overflow < given || (overflow < LLONG_MAX && of->allows);
    const long long at = made ? overflow : given;
    if (at == LLONG_MAX) return FT_OK;
    str_buf place = {0};
    float x[DT_BLOCK_MAX];
    const char *with = p->opt->fold.name;
    const int64_t r = at / of->cols, c = at % of->cols, block = of->type->block;
    const dt_data src = {of->src->data, of->src->side};
    int64_t row = of->order ? of->order[r] : r - of->first, worst = 0;
    if (of->src->row_of) row = of->src->row_of[row];
    dt_read(of->src->type, x, &src, row * of->cols + c, made ? block : 1);
    for (int64_t i = 1; made && i < block; i++)
        if (fabsf(x[i]) > fabsf(x[worst])) worst = i;
    put_place(&place, of, at + worst);
    ft_status rc = str_ok(&place);
    if (rc == FT_OK && made) {
        rc = ft_fail(FT_EDIVERGED,
                     "%s%s%s: tensor \"%s\": %g at %s is beyond the range of %s; use %s %s",
                     ft_shows(p->path), with ? " with " : "", with ? ft_shows(with) : "",
                     ft_shows(it->name), (double)x[worst], place.data, of->type->name,
                     p->opt->source.name ? "out_dtype" : "--type",
                     of->type == &dt_bf16 ? "f32" : "bf16 or f32");
    } else if (rc == FT_OK && of->allows) {
        log_warn("tensor \"%s\" holds %s at %s, and is written so", ft_shows(it->name),
                 isnan(x[0]) ? "NaN" : "Inf", place.data);
    } else if (rc == FT_OK) {
        str_buf what = {0};
        str_printf(&what, "%s at %s", isnan(x[0]) ? "NaN" : "Inf", place.data);
        rc = str_ok(&what) == FT_OK ? save_refuse(p, it->name, what.data) : FT_EMEM;
        str_free(&what);
    }
    str_free(&place);
    return rc;
}

/* The next rows of a source, in the memory of src. */
static ft_status make_rows(const save_plan *plan, const tn_tensor *src, piece *p, int64_t param)
{
    p->first = p->row0;
    return plan->opt->source.rows(plan->opt->source.ctx, param, p->row0, p->rows, src->data);
}

/* made: a parameter whose rows come from the source, piece by piece, into src; −1: all of src is there. */
static ft_status put_rows(const save_plan *plan, const tn_tensor *src, int64_t made,
                          const save_item *it, save_put put, void *ctx)
{
    ft_status rc = FT_OK;
    piece p = {
        .src = src, .order = it->order, .type = it->type, .allows = plan->opt->allow_nonfinite};
    int64_t rows = tn_rows(src);
    p.cols = tn_cols(src);
    atomic_store(&p.given, LLONG_MAX);
    atomic_store(&p.overflow, LLONG_MAX);
    const bool copies = it->type == src->type && !it->type->read;
    FT_CHECK(copies || it->type->pack, FT_EUSAGE,
             "type %s can be read but not written; choose another", it->type->name);
    FT_CHECK(dt_bytes(it->type, p.cols, &p.row_bytes), FT_EINTERNAL,
             "\"%s\": rows of %lld values do not fit type %s", it->name, (long long)p.cols,
             it->type->name);
    const int64_t at_once = rows_at_once(src);
    p.tile_rows = TILE_FLOATS / p.cols > 0 ? TILE_FLOATS / p.cols : 1;
    p.out = ft_alloc((size_t)at_once, p.row_bytes);
    if (!p.out) return FT_EMEM;
    for (p.row0 = 0; p.row0 < rows; p.row0 += p.rows) {
        p.rows = rows - p.row0 < at_once ? rows - p.row0 : at_once;
        if (made >= 0) FT_TRY_OUT(make_rows(plan, src, &p, made));
        pool_run(pack_tile, &p, (p.rows + p.tile_rows - 1) / p.tile_rows);
        FT_GUARD(!pool_failed(), FT_EMEM, "out of memory while writing \"%s\"", it->name);
        FT_TRY_OUT(judge(plan, it, &p));
        FT_TRY_OUT(ft_stop());
        FT_TRY_OUT(put(ctx, p.out, (size_t)p.rows * p.row_bytes));
    }
out:
    ft_free(p.out);
    return rc;
}

ft_status save_turn(float **w, int64_t rows, int64_t cols)
{
    float *t = ft_alloc((size_t)(rows * cols), sizeof *t);
    if (!t) return FT_EMEM;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) t[c * rows + r] = (*w)[r * cols + c];
    ft_free(*w);
    *w = t;
    return FT_OK;
}

/* Of a source: in pieces, or all at once where the rows of the file are others. */
static ft_status put_made(save_plan *p, const save_item *it, int64_t param, save_put put, void *ctx)
{
    const tn_tensor *t = &p->m->param[param].t;
    const int64_t rows = tn_rows(t), cols = tn_cols(t);
    const bool whole = it->transpose || it->order;
    tn_tensor src = {.type = &dt_f32, .nd = 2, .dim = {rows, cols}};
    float *w = ft_alloc((size_t)(whole ? rows : rows_at_once(t)), (size_t)cols * sizeof *w);
    ft_status rc = w ? FT_OK : FT_EMEM;
    if (rc == FT_OK && whole) rc = p->opt->source.rows(p->opt->source.ctx, param, 0, rows, w);
    if (rc == FT_OK && it->transpose) {
        rc = save_turn(&w, rows, cols);
        src.dim[0] = cols;
        src.dim[1] = rows;
    }
    if (whole && t->nd == 1) { /* a bias whose values have another order */
        src.dim[0] = cols;
        src.dim[1] = 1;
    }
    src.data = w;
    if (rc == FT_OK) rc = put_rows(p, &src, whole ? -1 : param, it, put, ctx);
    ft_free(w);
    return rc;
}

static ft_status put_param(save_plan *p, const save_item *it, int64_t param, save_put put,
                           void *ctx)
{
    if (p->opt->source.rows) return put_made(p, it, param, put, ctx);
    const tn_tensor *v = it->added ? &it->added->t : save_value(p, &p->m->param[param]);
    tn_tensor matrix = *v;
    float *w = NULL;
    ft_status rc = FT_OK;
    if (!it->added && (save_folds(p, param) || it->transpose)) {
        FT_TRY(save_folded(p, param, &w));
        if (it->transpose) FT_TRY_OUT(save_turn(&w, v->dim[0], v->dim[1]));
        matrix = (tn_tensor){.type = &dt_f32, .nd = v->nd, .dim = {v->dim[0], v->dim[1]}};
        if (it->transpose) {
            matrix.dim[0] = v->dim[1];
            matrix.dim[1] = v->dim[0];
        }
        matrix.data = w;
    }
    if (matrix.nd == 1 && it->order) {
        matrix.nd = 2;
        matrix.dim[1] = 1;
    }
    rc = put_rows(p, &matrix, -1, it, put, ctx);
out:
    ft_free(w);
    return rc;
}

/* The matrix that takes most while it is written: folded, or as it is; turned; as codes; a piece of the file. */
size_t model_save_bytes(const model *m, const model_save_options *opt)
{
    const save_plan p = {.m = (model *)(uintptr_t)m, .opt = opt};
    size_t most = 0;
    for (int64_t i = 0; i < m->n_param; i++) {
        const size_t n = (size_t)tn_count(&m->param[i].t), values = n * sizeof(float);
        const bool coded = opt->quant && opt->quant->writer && opt->quant->writer->means(m, i);
        size_t bytes = n < PIECE_FLOATS ? values : (size_t)PIECE_FLOATS * sizeof(float);
        if (save_folds(&p, i)) bytes += 2 * values;
        if (opt->source.rows) bytes += m->info[i].permute ? values : bytes;
        if (m->info[i].site && m->info[i].site->in_out && m->param[i].t.nd == 2) bytes += values;
        if (coded) bytes += 12 * n; /* measured: its values, blocks and codes, on their way */
        if (bytes > most) most = bytes;
    }
    return most;
}

/* As it stands in the base's file. */
static ft_status put_raw(const save_plan *p, const save_item *it, save_put put, void *ctx)
{
    const io_tensor *t = it->raw;
    int64_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= t->dim[i];
    if (!p->opt->allow_nonfinite && dt_find_nonfinite(t->type, t->data, n) >= 0)
        return save_refuse(p, t->name, "a value that is NaN or Inf");
    return put(ctx, t->data, t->bytes);
}

ft_status save_bytes(save_plan *p, const save_item *it, save_put put, void *ctx)
{
    if (it->part > 0) return save_quant_bytes(p, it, put, ctx);
    if (it->param < 0) return put_raw(p, it, put, ctx);
    if (it->n_stack == 0) return put_param(p, it, it->param, put, ctx);
    for (int i = 0; i < it->n_stack; i++) FT_TRY(put_param(p, it, it->stack[i], put, ctx));
    return FT_OK;
}
