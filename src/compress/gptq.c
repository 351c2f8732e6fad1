/* gptq.c – GPTQ (Frantar et al. 2022): weights are quantised column by column, and what is lost at each is made good by the
 * columns that are left, as far as the inputs of calibration tell.
 *
 *   H = Σ x xᵀ, H' = H + damp · mean(diag H) · I, H'⁻¹ = Uᵀ U (hessian.c); for each column i:
 *   ŵ_i = value(code(w_i)), e = (w_i − ŵ_i) / U_ii, w_j −= e · U_ij for all j > i
 *
 * Columns are taken in pieces of at most 128, which begin wherever a group does: what is behind a piece is brought up to date by
 * one product, so that the scale of a group is made of weights that know of all columns before it. With desc_act the columns
 * come in the order of falling H_ii. */
#include <stdlib.h>
#include <string.h>

#include "gptq.h"

enum { PIECE = 128 };

static const cfg_field fields[] = {
    GPTQ_FIELDS,
    {"desc_act", CFG_BOOL, GPTQ_AT(desc_act), .def = "false",
     .help = "columns in the order of falling activation; groups follow it"},
    {"damp_percent", CFG_FLOAT, GPTQ_AT(damp_percent), .def = "0.01", .low = 0, .high = 0.999,
     .low_open = true, .help = "of the mean of H's diagonal, added to it"},
    {"static_groups", CFG_BOOL, GPTQ_AT(static_groups), .def = "false",
     .help = "scales of the weights as they were; groups stay in place with desc_act"},
    {"true_sequential", CFG_BOOL, GPTQ_AT(true_sequential), .def = "true",
     .help = "inside a block, too, inputs come from what is quantised before"},
    CFG_END};

/* --- inputs --------------------------------------------------------------------------------------------------------- */
typedef struct stage { /* groups of a block whose inputs are taken together */
    const cmp_block *b;
    int first, n; /* of its groups */
    double **h;   /* [n] of each; NULL: nothing of it is chosen */
} stage;

static double **of_group(const stage *s, const nn_group *g)
{
    const int i = cmp_group_number(s->b, g) - s->first;
    return i >= 0 && i < s->n ? &s->h[i] : NULL;
}

static bool wants(void *ctx, const nn_group *g)
{
    double **h = of_group(ctx, g);
    return h && *h;
}

static ft_status see(void *ctx, const cmp_pass *p, const nn_group *g, const float *x)
{
    return cmp_hessian_add(*of_group(ctx, g), x, p->rows, g->in);
}

/* --- columns ---------------------------------------------------------------------------------------------------------- */
typedef struct columns { /* of one matrix on its way */
    const gptq_cfg *cfg;
    cmp_grid grid;
    cmp_linear *l;
    const float *u;             /* [in, in] */
    const int32_t *perm;        /* column i of w is column perm[i] of the matrix; NULL: i */
    float *w, *lost;            /* [out, in], [out, PIECE] −e of the piece */
    int64_t in, size, from, to; /* size: of a group; the piece */
} columns;

static void quantise_row(void *ctx, int64_t r, int thread)
{
    const columns *k = ctx;
    const cmp_codes *c = &k->l->codes;
    float *w = k->w + r * k->in, *lost = k->lost + r * PIECE;
    (void)thread;
    for (int64_t i = k->from; i < k->to; i++) {
        const int64_t col = k->perm ? k->perm[i] : i, at = r * c->groups + c->g_idx[col];
        if (!k->cfg->static_groups && i % k->size == 0)
            cmp_grid_of(&k->grid, w + i, k->size, &c->scale[at], &c->zero[at]);
        const float scale = cmp_scale(c->scale[at]), *u = k->u + i * k->in;
        const int q = cmp_code(w[i], scale, c->zero[at], c->bits);
        const float value = cmp_value(scale, q, c->zero[at]), e = (w[i] - value) / u[i];
        for (int64_t j = i + 1; j < k->to; j++) w[j] -= e * u[j];
        c->q[r * k->in + col] = (uint8_t)q;
        k->l->w[r * k->in + col] = value;
        lost[i - k->from] = -e;
    }
}

/* Scales of the weights as they stand in front of everything. */
static void static_grid(void *ctx, int64_t r, int thread)
{
    const columns *k = ctx;
    const cmp_codes *c = &k->l->codes;
    (void)thread;
    for (int64_t g = 0; g < c->groups; g++) {
        const int64_t at = r * c->groups + g;
        cmp_grid_of(&k->grid, k->l->w + r * k->in + g * k->size, k->size, &c->scale[at],
                    &c->zero[at]);
    }
}

static int64_t end_of_piece(const columns *k)
{
    const int64_t group =
        k->size <= PIECE ? PIECE / k->size * k->size : (k->from / k->size + 1) * k->size - k->from;
    const int64_t n = group < PIECE ? group : PIECE;
    return k->from + n < k->in ? k->from + n : k->in;
}

static ft_status quantise(columns *k)
{
    const int64_t out = k->l->site->out, in = k->in;
    for (int64_t i = 0; k->perm && !k->cfg->static_groups && i < in; i++)
        k->l->codes.g_idx[k->perm[i]] = (int32_t)(i / k->size);
    if (k->cfg->static_groups) pool_run(static_grid, k, out);
    for (int64_t r = 0; r < out; r++)
        for (int64_t i = 0; i < in; i++)
            k->w[r * in + i] = k->l->w[r * in + (k->perm ? k->perm[i] : i)];
    for (k->from = 0; k->from < in; k->from = k->to) {
        k->to = end_of_piece(k);
        FT_TRY(cmp_go_on());
        pool_run(quantise_row, k, out);
        FT_TRY(cmp_bring_up(k->w, out, in, k->u, k->from, k->to, k->lost, PIECE));
    }
    return cmp_codes_check(k->l);
}

/* --- a group of linears that share H ------------------------------------------------------------------------------------- */
typedef struct rank { /* of a column by H_ii */
    double h;
    int32_t column;
} rank;

static int by_fall(const void *a, const void *b)
{
    const rank *x = a, *y = b;
    if (x->h != y->h) return x->h < y->h ? 1 : -1;
    return x->column < y->column ? -1 : 1;
}

static ft_status falling(const double *h, int64_t in, arena *mem, int32_t **perm)
{
    rank *r = ft_alloc((size_t)in, sizeof *r);
    *perm = arena_get(mem, (size_t)in * sizeof **perm);
    for (int64_t i = 0; r && i < in; i++) r[i] = (rank){h[i * in + i], (int32_t)i};
    if (r) qsort(r, (size_t)in, sizeof *r, by_fall);
    for (int64_t i = 0; r && *perm && i < in; i++) (*perm)[i] = r[i].column;
    ft_free(r);
    return r && *perm ? FT_OK : FT_EMEM;
}

typedef struct shared { /* what the linears of a group have together */
    const gptq_cfg *cfg;
    const float *h, *u;
    const int32_t *perm;
} shared;

static ft_status change(cmp_block *b, cmp_linear *l, void *ctx)
{
    const shared *s = ctx;
    const int64_t in = l->site->in, out = l->site->out;
    columns k = {.cfg = s->cfg,
                 .grid = gptq_grid(s->cfg),
                 .l = l,
                 .u = s->u,
                 .perm = s->perm,
                 .in = in,
                 .size = in / l->codes.groups};
    k.grid.one_sided = true;
    k.w = arena_raw(b->mem, (size_t)(in * out) * sizeof *k.w);
    k.lost = arena_raw(b->mem, (size_t)(out * PIECE) * sizeof *k.lost);
    if (!k.w || !k.lost) return FT_EMEM;
    cmp_drop_dead(l->w, s->h, out, in);
    return quantise(&k);
}

static ft_status of_shared(cmp_block *b, const gptq_cfg *cfg, const nn_group *g, double *sum)
{
    const int64_t in = g->in;
    const size_t mark = arena_mark(b->mem);
    int32_t *perm = NULL;
    float *h = arena_raw(b->mem, (size_t)(in * in) * sizeof *h);
    float *u = arena_raw(b->mem, (size_t)(in * in) * sizeof *u);
    if (!h || !u) return FT_EMEM;
    cmp_hessian_whole(h, sum, in);
    if (cfg->desc_act) FT_TRY(falling(sum, in, b->mem, &perm));
    FT_TRY(cmp_hessian_factor(u, sum, in, cfg->damp_percent, perm, g->site[0].w->name));
    shared s = {cfg, h, u, perm};
    for (int i = 0; i < g->n; i++) {
        cmp_linear *l = cmp_linear_of(b, &g->site[i]);
        if (l->chosen) FT_TRY(cmp_change_linear(b, l, h, change, &s));
    }
    arena_reset(b->mem, mark);
    return FT_OK;
}

static ft_status run_stage(cmp_block *b, const gptq_cfg *cfg, int first, int n)
{
    const size_t mark = arena_mark(b->mem);
    double **h = arena_get(b->mem, (size_t)n * sizeof *h);
    stage s = {.b = b, .first = first, .n = n, .h = h};
    bool any = false;
    if (!h) return FT_EMEM;
    for (int i = 0; i < n; i++) {
        const nn_group *g = b->group[first + i];
        if (!cmp_group_chosen(b, g)) continue;
        h[i] = arena_get(b->mem, (size_t)(g->in * g->in) * sizeof *h[i]);
        if (!h[i]) return FT_EMEM;
        any = true;
    }
    if (any) FT_TRY(cmp_see(b, &(cmp_look){.see = see, .wants = wants, .ctx = &s}));
    for (int i = 0; i < n; i++)
        if (h[i]) FT_TRY(of_shared(b, cfg, b->group[first + i], h[i]));
    arena_reset(b->mem, mark);
    return FT_OK;
}

static ft_status block(cmp_block *b, const void *cfg, void *state)
{
    const gptq_cfg *c = cfg;
    const int step = c->true_sequential ? 1 : b->n_group;
    (void)state;
    for (int i = 0; i < b->n; i++) /* first: what stages make is dropped behind them */
        if (b->linear[i].chosen)
            FT_TRY(cmp_codes_open(b, &b->linear[i], (int)c->bits, c->group_size));
    for (int i = 0; i < b->n_group; i += step) {
        if (c->true_sequential) FT_TRY(cmp_settle(b, b->part[i]));
        FT_TRY(run_stage(b, c, i, step));
    }
    return FT_OK;
}

/* Codes of all linears; H of a stage; of one group H as f32, its factor and what that is made in; of one matrix the values
 * before, those on their way, and their product with H. */
static size_t room(const cmp_block *b, const void *cfg)
{
    const bool apart = ((const gptq_cfg *)cfg)->true_sequential;
    size_t codes = 0, sums = 0, group = 0, matrix = 0;
    for (int i = 0; i < b->n_group; i++) {
        const size_t in = (size_t)b->group[i]->in, h = in * in * sizeof(double);
        sums = apart ? (h > sums ? h : sums) : sums + h;
        group = 2 * h > group ? 2 * h : group;
    }
    for (int i = 0; i < b->n; i++) {
        const size_t out = (size_t)b->linear[i].site->out, n = out * (size_t)b->linear[i].site->in;
        const size_t bytes = (3 * n + PIECE * out) * sizeof(float);
        codes += n + n / 2;
        matrix = bytes > matrix ? bytes : matrix;
    }
    return codes + sums + group + matrix;
}

const cmp_method cmp_quantizer_gptq = {
    .name = "gptq",
    .help = "column by column, what is lost made good by the columns that are left",
    .paper = "Frantar et al. 2022",
    .fields = fields,
    .cfg_size = sizeof(gptq_cfg),
    .check = gptq_check,
    .calibrated = true,
    .writes = "gptq",
    .packed = gptq_packed,
    .fits = gptq_fits,
    .room = room,
    .block = block,
};
