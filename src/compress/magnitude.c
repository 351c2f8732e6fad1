/* magnitude.c – the smallest weights go, by |w| alone and without data: of each matrix, of each row, or of all linears together
 * (Han et al. 2015). N:M: of each run of M inputs of a row. */
#include <string.h>

#include "ft/kernel.h"
#include "pruner.h"

static const char *const scopes[] = {"tensor", "row", "global", NULL};
static const cfg_field fields[] = {PRUNE_FIELDS,
                                   {.key = "scope",
                                    .type = CFG_ENUM,
                                    .offset = PRUNE_AT(scope),
                                    .def = "\"tensor\"",
                                    .choices = scopes,
                                    .help = "weights that are compared with each other"},
                                   CFG_END};

/* Of scope global: where the cut is, and how many that equal it go of each matrix. */
typedef struct global_cut {
    cmp_walk *w;
    nn_site *const *site; /* [n] */
    int64_t n, *ties;
    float value, *values;
} global_cut;

static ft_status each_matrix(void *ctx, prune_count *c)
{
    const global_cut *g = ctx;
    for (int64_t i = 0; i < g->n; i++) {
        FT_TRY(cmp_weights(g->w, g->site[i], g->values));
        cmp_prune_count(c, g->values, g->site[i]->out * g->site[i]->in);
        FT_TRY(ft_stop());
    }
    return FT_OK;
}

static ft_status share_ties(global_cut *g, prune_cut cut)
{
    g->value = cut.value;
    for (int64_t i = 0; i < g->n; i++) {
        const int64_t n = g->site[i]->out * g->site[i]->in;
        int64_t left = cut.ties;
        FT_TRY(cmp_weights(g->w, g->site[i], g->values));
        cmp_prune_cut(g->values, n, cut.value, &left);
        g->ties[i] = cut.ties - left;
        cut.ties = left;
    }
    return FT_OK;
}

static ft_status begin(cmp_walk *w, const void *cfg, void **state)
{
    const prune_cfg *c = cfg;
    global_cut *g = arena_get(cmp_mem(w), sizeof *g);
    int64_t all = 0, most = 0;
    prune_cut cut;
    prune_nm nm;
    *state = g;
    if (!g) return FT_EMEM;
    *g = (global_cut){.w = w};
    if (strcmp(c->scope, "global") != 0 || !cmp_prune_pattern(c->pattern, &nm) || nm.m > 0)
        return FT_OK;
    g->n = cmp_chosen(w, &g->site);
    for (int64_t i = 0; i < g->n; i++) {
        const int64_t n = g->site[i]->out * g->site[i]->in;
        all += n;
        if (n > most) most = n;
    }
    g->ties = arena_get(cmp_mem(w), (size_t)(g->n + 1) * sizeof *g->ties);
    g->values = ft_alloc((size_t)most + 1, sizeof *g->values);
    ft_status rc = g->ties && g->values ? FT_OK : FT_EMEM;
    if (rc == FT_OK)
        rc = cmp_prune_find(each_matrix, g, (int64_t)(c->sparsity * (double)all), &cut);
    if (rc == FT_OK) rc = share_ties(g, cut);
    ft_free(g->values);
    g->values = NULL;
    return rc;
}

static ft_status one_matrix(void *ctx, prune_count *c)
{
    const cmp_linear *l = ctx;
    cmp_prune_count(c, l->w, l->site->out * l->site->in);
    return FT_OK;
}

static ft_status prune(const prune_cfg *c, const global_cut *g, cmp_linear *l)
{
    const int64_t in = l->site->in, out = l->site->out, n = in * out;
    prune_nm nm;
    prune_cut cut = {.value = g->value};
    if (!cmp_prune_pattern(c->pattern, &nm)) return FT_EINTERNAL;
    if (nm.m > 0 || strcmp(c->scope, "row") == 0)
        return cmp_prune_rows(l->w, NULL, out, in, (int64_t)(c->sparsity * (double)in), nm);
    if (g->n == 0) FT_TRY(cmp_prune_find(one_matrix, l, (int64_t)(c->sparsity * (double)n), &cut));
    for (int64_t i = 0; i < g->n; i++)
        if (g->site[i] == l->site) cut.ties = g->ties[i];
    cmp_prune_cut(l->w, n, cut.value, &cut.ties);
    return FT_OK;
}

static ft_status block(cmp_block *b, const void *cfg, void *state)
{
    for (int i = 0; i < b->n; i++) {
        cmp_linear *l = &b->linear[i];
        const int64_t n = l->site->out * l->site->in;
        if (!l->chosen) continue;
        l->whole = kn_sum_squares(l->w, n);
        FT_TRY(prune(cfg, state, l));
        l->lost = l->whole - kn_sum_squares(l->w, n); /* what stays is as it was */
        if (l->lost < 0) l->lost = 0;
    }
    return FT_OK;
}

const cmp_method cmp_pruner_magnitude = {
    .name = "magnitude",
    .help = "the smallest weights, without data",
    .paper = "Han et al. 2015",
    .fields = fields,
    .cfg_size = sizeof(prune_cfg),
    .check = cmp_prune_check,
    .fits = cmp_prune_fits,
    .begin = begin,
    .block = block,
};
