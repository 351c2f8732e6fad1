/* sparsegpt.c – SparseGPT (Frantar & Alistarh 2023): columns are taken one after another, and what is lost where a weight goes
 * is made good by the columns that are left, as GPTQ does (gptq.c: H, its factor U, the update).
 *
 *   of each block of columns, over all rows, trunc(sparsity · count) weights of the least w² / U_jj² go; N:M: of each run of M
 *   inputs of a row, by the weights as they are when the run begins;  e = (w_i − ŵ_i) / U_ii,  w_j −= e · U_ij for j > i */
#include <string.h>

#include "pruner.h"

static const cfg_field fields[] = {PRUNE_FIELDS,
                                   {.key = "damp_percent",
                                    .type = CFG_FLOAT,
                                    .offset = PRUNE_AT(damp_percent),
                                    .def = "0.01",
                                    .low = 0,
                                    .high = 1,
                                    .help = "of the mean of H's diagonal, added to it"},
                                   {.key = "block_size",
                                    .type = CFG_INT,
                                    .offset = PRUNE_AT(block_size),
                                    .def = "128",
                                    .low = 1,
                                    .high = 1 << 20,
                                    .help = "columns whose weights are compared"},
                                   CFG_END};

typedef struct columns { /* of one matrix on its way */
    float *w;            /* [out, in] */
    const float *u;      /* [in, in] */
    float *lost;         /* [out, size] −e */
    bool *drop;          /* [out, size]; N:M: found as the columns come */
    int64_t in, out, size, from, to;
    prune_nm nm;
} columns;

static float score_of(const columns *k, const float *w, int64_t i)
{
    const float u = k->u[i * k->in + i];
    return w[i] * w[i] / (u * u);
}

/* The runs of M of a row, where one begins. */
static void choose_run(const columns *k, const float *w, bool *drop, int64_t i, float *score)
{
    for (int64_t c = 0; c < k->nm.m; c++) score[c] = score_of(k, w, i + c);
    cmp_prune_least(drop, score, score + k->nm.m, k->nm.m, k->nm.m - k->nm.n);
}

static void prune_row(void *ctx, int64_t r, int thread)
{
    const columns *k = ctx;
    float *w = k->w + r * k->in, *lost = k->lost + r * k->size;
    bool *drop = k->drop + r * k->size;
    float *score = pool_scratch(thread, 0, (size_t)(2 * k->nm.m + 1) * sizeof *score);
    if (!score) return;
    for (int64_t i = k->from; i < k->to; i++) {
        const int64_t at = i - k->from;
        const float *u = k->u + i * k->in;
        if (k->nm.m > 0 && i % k->nm.m == 0) choose_run(k, w, drop + at, i, score);
        const float e = drop[at] ? w[i] / u[i] : 0.0f;
        if (drop[at]) w[i] = 0.0f;
        for (int64_t j = i + 1; drop[at] && j < k->to; j++) w[j] -= e * u[j];
        lost[at] = -e;
    }
}

/* Over all rows of the block of columns. */
static ft_status choose(const columns *k, double sparsity)
{
    const int64_t cols = k->to - k->from, n = k->out * cols;
    float *score = ft_alloc((size_t)(2 * n), sizeof *score);
    bool *drop = ft_alloc((size_t)n, sizeof *drop);
    for (int64_t r = 0; score && r < k->out; r++)
        for (int64_t c = 0; c < cols; c++)
            score[r * cols + c] = score_of(k, k->w + r * k->in, k->from + c);
    if (score && drop) {
        cmp_prune_least(drop, score, score + n, n, (int64_t)(sparsity * (double)n));
        for (int64_t r = 0; r < k->out; r++)
            memcpy(k->drop + r * k->size, drop + r * cols, (size_t)cols * sizeof *drop);
    }
    ft_free(score);
    ft_free(drop);
    return score && drop ? FT_OK : FT_EMEM;
}

/* Columns of a block: whole runs of M, of which the default need be no multiple. */
static int64_t block_of(int64_t size, int64_t m, int64_t in)
{
    if (m > 0) size = size > m ? size - size % m : m;
    return size < in ? size : in;
}

static ft_status prune(cmp_block *b, cmp_linear *l, void *ctx)
{
    const prune_group *p = ctx;
    const int64_t in = l->site->in;
    columns k = {.w = l->w, .u = p->u, .in = in, .out = l->site->out};
    if (!cmp_prune_pattern(p->cfg->pattern, &k.nm)) return FT_EINTERNAL;
    const int64_t size = k.size = block_of(p->cfg->block_size, k.nm.m, in);
    k.lost = arena_raw(b->mem, (size_t)(k.out * size) * sizeof *k.lost);
    k.drop = arena_get(b->mem, (size_t)(k.out * size) * sizeof *k.drop);
    if (!k.lost || !k.drop) return FT_EMEM;
    cmp_drop_dead(l->w, p->h, k.out, in);
    for (k.from = 0; k.from < in; k.from = k.to) {
        k.to = k.from + size < in ? k.from + size : in;
        FT_TRY(cmp_go_on());
        if (k.nm.m == 0) FT_TRY(choose(&k, p->cfg->sparsity));
        pool_run(prune_row, &k, k.out);
        FT_CHECK(!pool_failed(), FT_EMEM, "out of memory");
        FT_TRY(cmp_bring_up(k.w, k.out, in, k.u, k.from, k.to, k.lost, size));
    }
    return FT_OK;
}

static ft_status block(cmp_block *b, const void *cfg, void *state)
{
    (void)state;
    return cmp_prune_block(b, cfg, true, prune);
}

const cmp_method cmp_pruner_sparsegpt = {
    .name = "sparsegpt",
    .help = "column by column, what is lost made good by the columns that are left",
    .paper = "Frantar & Alistarh 2023",
    .fields = fields,
    .cfg_size = sizeof(prune_cfg),
    .check = cmp_prune_check,
    .calibrated = true,
    .fits = cmp_prune_fits,
    .room = cmp_prune_room,
    .block = block,
};
