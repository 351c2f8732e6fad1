/* dora.c – DoRA (Liu et al. 2024): the length of each row of a weight is trained apart from its direction, which LoRA trains.
 *
 *   W' = (m ⊘ n) ⊙ rows of (W + s·BA),  n their lengths, constant in the backward; the bias is not scaled.
 * m (`lora_magnitude_vector`) starts at n. Of an embedding a "row" is a dimension, over the whole vocabulary. While dropout
 * is on, PEFT's form: y = base(x) + (c − 1) ⊙ x̃Wᵀ + c ⊙ s·B(A x̃) with c = m ⊘ n and x̃ = dropout(x).
 *
 * W is frozen, so n costs no pass over W + s·BA:  n² = ‖W‖² + Σ_k B_k (2s (W Aᵀ)_k + s² (B A Aᵀ)_k), with ‖W‖² taken once
 * and products of r rows, once for each state of A and B. All else is lora.c's, files included. */
#include "ft/method.h"
#include "lora_private.h"
#include "method_private.h"

#include <math.h>
#include <string.h>

struct lora_dora {
    double *square; /* [width] of W */
    float *inverse; /* [width] of the lengths of W + s·BA */
};

/* What all sites share: factors as rows, and products with them. */
typedef struct dora_room {
    float *left, *gram, *wa,
        *bg; /* A of a table [r, V]; A Aᵀ [r, r]; A Wᵀ [r, width]; B A Aᵀ [width, r] */
    const nn_site **site; /* [n] those that are adapted */
    int64_t n;
} dora_room;

/* Does a "row" lie along the columns of the stored matrix? */
static bool by_columns(const nn_site *s)
{
    return s->in_out || pe_lora_is_table(s);
}

static int64_t width_of(const nn_site *s)
{
    return pe_lora_is_table(s) ? s->in : s->out;
}

static int64_t length_of(const nn_site *s)
{
    return pe_lora_is_table(s) ? s->out : s->in;
}

static kn_mat mat_of(const tn_tensor *w)
{
    return (kn_mat){.type = w->type,
                    .data = w->data,
                    .side = w->side,
                    .rows = w->dim[0],
                    .cols = w->dim[1],
                    .row_of = w->row_of};
}

/* --- lengths ---------------------------------------------------------------------------------------------------------- */
/* square [width] += those of one stored row. */
static void add_squares(double *square, const nn_site *s, const float *row, int64_t at)
{
    const int64_t cols = by_columns(s) ? width_of(s) : length_of(s);
    double *one = by_columns(s) ? square : square + at;
    for (int64_t j = 0; j < cols; j++)
        one[by_columns(s) ? j : 0] += (double)row[j] * (double)row[j];
}

static void square_tile(void *ctx, int64_t tile, int thread)
{
    const pe_ctx *c = ctx;
    const nn_site *s = ((const dora_room *)c->priv)->site[tile];
    const lora_slot *slot = nn_slot_of(&c->over, s);
    const tn_tensor *w = nn_value_of(&c->over, s->w);
    float *row = pool_scratch(thread, 0, (size_t)tn_cols(w) * sizeof *row);
    for (int64_t i = 0; row && i < tn_rows(w); i++) {
        tn_unpack_rows(row, w, i, 1);
        add_squares(slot->dora->square, s, row, i);
    }
}

/* A as [r, length]: that of a table is kept transposed. */
static const float *rows_of_a(const dora_room *room, const lora_slot *slot, const nn_site *s)
{
    const float *a = tn_f32(&slot->a->t);
    const int64_t n = slot->a->t.dim[0], r = slot->a->t.dim[1];
    if (!pe_lora_is_table(s)) return a;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < r; k++) room->left[k * n + i] = a[i * r + k];
    }
    return room->left;
}

static void site_lengths(const pe_ctx *c, const nn_site *s, const lora_slot *slot)
{
    const dora_room *room = c->priv;
    const int64_t width = width_of(s), n = length_of(s), r = slot->b->t.dim[1];
    const float *a = rows_of_a(room, slot, s), *b = tn_f32(&slot->b->t);
    const kn_mat w = mat_of(nn_value_of(&c->over, s->w)),
                 am = {.type = &dt_f32, .data = a, .rows = r, .cols = n},
                 gram = {.type = &dt_f32, .data = room->gram, .rows = r, .cols = r};
    const double scale = (double)slot->scale;
    (by_columns(s) ? kn_gemm_nn : kn_gemm_nt)(room->wa, width, a, n, &w, r, NULL, false);
    kn_gemm_nt(room->gram, r, a, n, &am, r, NULL, false);
    kn_gemm_nt(room->bg, r, b, r, &gram, width, NULL, false);
    for (int64_t i = 0; i < width; i++) {
        double square = slot->dora->square[i];
        for (int64_t k = 0; k < r; k++)
            square += scale * (double)b[i * r + k] *
                      (2.0 * (double)room->wa[k * width + i] + scale * (double)room->bg[i * r + k]);
        slot->dora->inverse[i] = square > 0.0 ? (float)(1.0 / sqrt(square)) : 0.0f;
    }
}

static void lengths(const pe_ctx *c)
{
    const dora_room *room = c->priv;
    for (int64_t i = 0; !c->dry && i < room->n; i++)
        site_lengths(c, room->site[i], nn_slot_of(&c->over, room->site[i]));
}

/* --- attaching --------------------------------------------------------------------------------------------------------- */
ft_status pe_dora_attach_site(pe_ctx *c, const nn_site *s, lora_slot *slot)
{
    const char *key = pe_file_key(c, s->path, ".lora_magnitude_vector");
    const char *also = pe_file_key(c, s->path, ".lora_magnitude_vector.weight");
    const size_t width = (size_t)width_of(s);
    slot->dora = arena_get(c->mem, sizeof *slot->dora);
    if (!slot->dora || !key || !also) return FT_EMEM;
    slot->dora->square = arena_get(c->mem, width * sizeof *slot->dora->square);
    slot->dora->inverse = arena_get(c->mem, width * sizeof *slot->dora->inverse);
    if (!slot->dora->square || !slot->dora->inverse) return FT_EMEM;
    FT_TRY(nn_new_param(&c->store, key, width_of(s), 0, &slot->m));
    FT_TRY(pe_add_entry(c, slot->m, key, false));
    c->entries.entry[c->entries.n - 1].also = also;
    return FT_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static ft_status make_room(pe_ctx *c, dora_room *room)
{
    int64_t left = 0, rank = 0, product = 0;
    room->site = arena_get(c->mem, (size_t)c->m->n_site * sizeof(nn_site *));
    if (!room->site) return FT_EMEM;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        const lora_slot *slot = nn_slot_of(&c->over, s);
        if (!slot) continue;
        const int64_t r = slot->b->t.dim[1];
        room->site[room->n++] = s;
        rank = larger(rank, r);
        product = larger(product, r * width_of(s));
        if (pe_lora_is_table(s)) left = larger(left, r * length_of(s));
    }
    const int64_t floats[] = {left, rank * rank, product, product};
    float **const at[] = {&room->left, &room->gram, &room->wa, &room->bg};
    for (size_t i = 0; i < FT_COUNT_OF(at); i++) {
        *at[i] = arena_get(c->mem, (size_t)(floats[i] + 1) * sizeof(float));
        if (!*at[i]) return FT_EMEM;
    }
    return FT_OK;
}

/* The lengths that W + s·BA has. */
static void begin_with_lengths(const pe_ctx *c)
{
    const dora_room *room = c->priv;
    for (int64_t i = 0; i < room->n; i++) {
        const lora_slot *slot = nn_slot_of(&c->over, room->site[i]);
        float *m = tn_f32(&slot->m->t);
        for (int64_t k = 0; k < tn_count(&slot->m->t); k++)
            m[k] = slot->dora->inverse[k] > 0.0f ? 1.0f / slot->dora->inverse[k] : 0.0f;
    }
}

/* --- forward ---------------------------------------------------------------------------------------------------------- */
static bool drops(const nn_run *r, const lora_slot *slot)
{
    return r->drops && slot->dropout > 0.0f;
}

/* The bias is added behind the scaling. */
static void weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    const lora_slot *slot = nn_slot(r, s);
    if (!slot || drops(r, slot)) return;
    pe_lora_weight(r, s, w);
    w->b = NULL;
}

static tn_tensor *with_dropout(nn_run *r, const nn_site *s, const lora_slot *slot, tn_tensor *x,
                               tn_tensor *y, const ag_magnitude *m)
{
    const ag_low_rank low = {.a = &slot->a->t, .b = &slot->b->t, .scale = slot->scale};
    ag_weight w = nn_weight(r, s);
    w.b = NULL;
    tn_tensor *dropped = ag_dropout(r->t, x, slot->dropout, slot->key);
    tn_tensor *base = ag_linear(r->t, dropped, &w, 1, NULL);
    tn_tensor *both = ag_low_rank_add(r->t, ag_scale(r->t, base, 1.0f), dropped, &low, 1);
    return ag_magnify_into(r->t, y, both, base, m);
}

static tn_tensor *post(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y)
{
    ag_magnitude m[AG_MAX_GROUP];
    int n = 0;
    int64_t col = 0;
    for (int i = 0; i < g->n; col += g->site[i++].out) {
        const nn_site *s = &g->site[i];
        const lora_slot *slot = nn_slot(r, s);
        if (!slot) continue;
        m[n] = (ag_magnitude){.m = &slot->m->t, .inverse = slot->dora->inverse, .col = col};
        if (drops(r, slot))
            y = with_dropout(r, s, slot, x, y, &m[n]);
        else
            m[n++].b = nn_bias_of(r->over, s);
    }
    if (n == 0) return y;
    tn_tensor *out = ag_magnify(r->t, y, m, n);
    ag_drop(r->t, y);
    return out;
}

static tn_tensor *embed(nn_run *r, const nn_site *s, tn_tensor *h)
{
    const lora_slot *slot = nn_slot(r, s);
    if (!slot) return h;
    const ag_magnitude m = {.m = &slot->m->t, .inverse = slot->dora->inverse};
    return ag_magnify(r->t, pe_lora_embed(r, s, h), &m, 1);
}

static const nn_hooks hooks = {.weight = weight, .post = post, .alone = true, .embed = embed};

ft_status pe_dora_attach(pe_ctx *c)
{
    dora_room *room = c->priv = arena_get(c->mem, sizeof *room);
    if (!room) return FT_EMEM;
    FT_TRY(make_room(c, room));
    c->over.hooks = &hooks;
    if (c->dry) return FT_OK;
    pool_run(square_tile, c, room->n);
    if (pool_failed()) return FT_EMEM;
    if (c->file) return FT_OK; /* A, B and m come from there */
    lengths(c);
    begin_with_lengths(c);
    return FT_OK;
}

ft_status pe_lora_load(pe_ctx *c)
{
    FT_TRY(pe_load_adapter(c));
    pe_residual_load(c);
    if (((const lora_cfg *)c->cfg)->use_dora) lengths(c);
    return FT_OK;
}

ft_status pe_lora_before_step(pe_ctx *c, int64_t step)
{
    (void)step;
    if (((const lora_cfg *)c->cfg)->use_dora) lengths(c);
    return FT_OK;
}

/* --- folding ----------------------------------------------------------------------------------------------------------- */
ft_status pe_dora_fold(const nn_site *s, const lora_slot *slot, float *w)
{
    const int64_t width = width_of(s), n = length_of(s);
    const int64_t rows = by_columns(s) ? n : width, cols = by_columns(s) ? width : n;
    double *square = ft_alloc((size_t)width, sizeof *square);
    if (!square) return FT_EMEM;
    for (int64_t i = 0; i < rows; i++) add_squares(square, s, w + i * cols, i);
    for (int64_t i = 0; i < rows * cols; i++) {
        const int64_t k = by_columns(s) ? i % cols : i / cols;
        const double factor = (double)tn_f32(&slot->m->t)[k] / sqrt(square[k]);
        w[i] = square[k] > 0.0 ? (float)factor * w[i] : 0.0f;
    }
    ft_free(square);
    return FT_OK;
}

/* dm = Σ dw ⊙ w / m, as w is m times rows of length 1; a length of 0 has no direction. */
void pe_dora_unfold(const nn_site *s, const lora_slot *slot, const float *w, float *dw)
{
    const int64_t width = width_of(s), n = length_of(s);
    const int64_t row = by_columns(s) ? 1 : n, step = by_columns(s) ? width : 1;
    const float *m = tn_f32(&slot->m->t);
    for (int64_t k = 0; k < width; k++) {
        const float factor = m[k] * slot->dora->inverse[k];
        double sum = 0;
        for (int64_t i = k * row, j = 0; j < n; j++, i += step) {
            sum += (double)dw[i] * (double)w[i];
            dw[i] *= factor;
        }
        if (m[k] != 0.0f) slot->m->t.grad[k] += (float)(sum / (double)m[k]);
    }
}

static ft_status add(pe_ctx *sum, const pe_ctx *part, double scale)
{
    const js_doc *d = &part->adapter;
    (void)sum;
    (void)scale;
    return js_fail(d, js_get(d->root, "use_dora"), FT_EDATA, "use_dora",
                   "an adapter that sets lengths of weights is neither scaled nor added: merge it, "
                   "and give the result as the model");
}

/* --- the row ------------------------------------------------------------------------------------------------------------ */
static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    const lora_cfg *c = ctx;
    pe_lora_check(d, object, ctx);
    if (!c->use_dora)
        cfg_fail(d, js_get(object, "use_dora"), "method.use_dora",
                 "must be true with method.type \"dora\"; without it the type is \"lora\"");
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    FT_TRY(pe_lora_load_config(c, d));
    if (((const lora_cfg *)c->cfg)->use_dora) return FT_OK;
    return js_fail(d, d->root, FT_EDATA, "use_dora",
                   "is not true: this is a LoRA without trained lengths, which method \"lora\" "
                   "goes on from");
}

static const cfg_field fields[] = {
    PE_LORA_FIELDS,
    PE_DORA_FIELD("true"),
    CFG_END,
};

const pe_method pe_dora = {
    .name = "dora",
    .qat = true,
    .help = "LoRA with trained lengths of each weight's rows; the result is a PEFT adapter",
    .about = "LoRA that trains the length of each row of a weight apart from its direction. Take "
             "it where LoRA of a low rank falls short of full training: at equal r it is as good "
             "or a little better, and merges like any other. A step takes up to a third longer "
             "and more memory. use_dora: true says the same to lora, loraplus and qlora.",
    .paper = "Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank Adaptation",
    .example = "{\"type\": \"dora\", \"r\": 8, \"lora_alpha\": 16}",
    .peft_type = "LORA",
    .result = PE_ADAPTER,
    .fields = fields,
    .cfg_size = sizeof(lora_cfg),
    .files = pe_adapter_files,
    .learning_rate = 2e-4,
    .check = check,
    .attach = pe_lora_attach,
    .before_step = pe_lora_before_step,
    .save = pe_lora_save,
    .load_config = load_config,
    .load = pe_lora_load,
    .fold = pe_lora_fold,
    .unfold = pe_lora_unfold,
    .add = add,
};
