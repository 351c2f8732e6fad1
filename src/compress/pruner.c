/* pruner.c – what the pruners share. A weight that goes becomes 0, and of equal ones the one of the lower index goes first, in
 * the order of [out, in], whatever the orientation in files. Counts are trunc(sparsity · n). */
#include "pruner.h"

#include <math.h>
#include <string.h>

/* --- keys ---------------------------------------------------------------------------------------------------------- */
/* Digits alone, and behind them what `end` is. */
static const char *read_count(const char *s, char end, int64_t *out)
{
    const size_t n = s ? strspn(s, "0123456789") : 0;
    *out = 0;
    if (n < 1 || n > 9 || s[n] != end) return NULL;
    for (size_t i = 0; i < n; i++) *out = 10 * *out + (s[i] - '0');
    return s + n + 1;
}

bool cmp_prune_pattern(const char *pattern, prune_nm *out)
{
    int64_t n, m;
    *out = (prune_nm){0};
    if (strcmp(pattern, "unstructured") == 0) return true;
    if (!read_count(read_count(pattern, ':', &n), '\0', &m) || n < 1 || n >= m) return false;
    *out = (prune_nm){n, m};
    return true;
}

void cmp_prune_check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg)
{
    const prune_cfg *c = cfg;
    prune_nm nm;
    (void)path;
    if (cfg_is_wrong(d, "prune.pattern")) return;
    if (!cmp_prune_pattern(c->pattern, &nm))
        cfg_fail(d, js_get(object, "pattern"), "prune.pattern",
                 "must be \"unstructured\" or \"N:M\", N of M weights kept, N from 1 to M - 1");
    else if (nm.m > 0 && js_get(object, "sparsity"))
        cfg_fail(d, js_get(object, "sparsity"), "prune.sparsity",
                 "the pattern %s says how many weights stay; leave this out", ft_shows(c->pattern));
    else if (c->sparsity >= 1 && !cfg_is_wrong(d, "prune.sparsity"))
        cfg_fail(d, js_get(object, "sparsity"), "prune.sparsity", "must be below 1");
    if (nm.m > 0 && js_get(object, "block_size") && c->block_size % nm.m != 0)
        cfg_fail(d, js_get(object, "block_size"), "prune.block_size", "must be a multiple of %lld",
                 (long long)nm.m);
    if (nm.m > 0 && c->scope && strcmp(c->scope, "global") == 0)
        cfg_fail(d, js_get(object, "scope"), "prune.scope",
                 "the pattern %s compares the weights of a run; leave this out",
                 ft_shows(c->pattern));
}

ft_status cmp_prune_fits(const void *cfg, const model *m, const nn_site *s)
{
    prune_nm nm;
    FT_CHECK(cmp_prune_pattern(((const prune_cfg *)cfg)->pattern, &nm), FT_EINTERNAL, "pattern");
    FT_CHECK(nm.m == 0 || s->in % nm.m == 0, FT_EDATA,
             "%s: tensor \"%s\" has rows of %lld inputs, which are no whole runs of %lld "
             "(prune.pattern)",
             ft_shows(m->path), s->w->name, (long long)s->in, (long long)nm.m);
    return FT_OK;
}

/* --- the least ------------------------------------------------------------------------------------------------------ */
/* Values of |w| are counted by the upper half of their bits, then by the lower one of those at the border. */
enum { HALF = 1 << 16 };
struct prune_count {
    int64_t n[HALF];
    uint32_t upper;
    bool second;
};

static uint32_t bits_of(float x)
{
    uint32_t u;
    x = fabsf(x);
    memcpy(&u, &x, sizeof u);
    return u;
}

void cmp_prune_count(prune_count *c, const float *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = bits_of(w[i]);
        if (!c->second)
            c->n[u >> 16]++;
        else if (u >> 16 == c->upper)
            c->n[u & (HALF - 1)]++;
    }
}

/* Where the k-th lies; k: how many of its place are left. */
static uint32_t place_of(const prune_count *c, int64_t *k)
{
    uint32_t i = 0;
    while (i + 1 < HALF && *k > c->n[i]) *k -= c->n[i++];
    return i;
}

ft_status cmp_prune_find(cmp_prune_each each, void *ctx, int64_t k, prune_cut *out)
{
    prune_count *c = ft_alloc(1, sizeof *c);
    *out = (prune_cut){0};
    if (!c) return FT_EMEM;
    ft_status rc = k > 0 ? each(ctx, c) : FT_OK;
    if (rc == FT_OK && k > 0) {
        *c = (prune_count){.upper = place_of(c, &k), .second = true};
        rc = each(ctx, c);
        const uint32_t u = c->upper << 16 | place_of(c, &k);
        memcpy(&out->value, &u, sizeof u);
        out->ties = k;
    }
    ft_free(c);
    return rc;
}

void cmp_prune_cut(float *w, int64_t n, float value, int64_t *ties)
{
    for (int64_t i = 0; i < n; i++) {
        const float x = fabsf(w[i]);
        if (x < value || (x == value && *ties > 0)) {
            *ties -= x == value;
            w[i] = 0.0f;
        }
    }
}

/* The k-th least of n, from 1 (Hoare): x is turned around. */
static float select_of(float *x, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const float mid = x[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (x[i] < mid) i++;
            while (mid < x[j]) j--;
            if (i > j) break;
            const float t = x[i];
            x[i++] = x[j];
            x[j--] = t;
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
    return x[k - 1];
}

void cmp_prune_least(bool *drop, const float *score, float *least, int64_t n, int64_t k)
{
    int64_t ties = k;
    memset(drop, 0, (size_t)n * sizeof *drop);
    if (k <= 0) return;
    memcpy(least, score, (size_t)n * sizeof *least);
    const float value = select_of(least, n, k);
    for (int64_t i = 0; i < n; i++) ties -= score[i] < value;
    for (int64_t i = 0; i < n; i++) {
        const bool tie = score[i] == value && ties > 0;
        drop[i] = score[i] < value || tie;
        ties -= tie;
    }
}

typedef struct rows_job {
    float *w;
    const float *norm;
    int64_t in, k, run; /* k of each run */
} rows_job;

static void prune_row(void *ctx, int64_t r, int thread)
{
    const rows_job *j = ctx;
    float *w = j->w + r * j->in;
    float *score = pool_scratch(thread, 0, (size_t)(2 * j->in) * sizeof *score);
    bool *drop = pool_scratch(thread, 1, (size_t)j->in * sizeof *drop);
    if (!score || !drop) return;
    for (int64_t i = 0; i < j->in; i++) score[i] = fabsf(w[i]) * (j->norm ? j->norm[i] : 1.0f);
    for (int64_t i = 0; i < j->in; i += j->run)
        cmp_prune_least(drop + i, score + i, score + j->in, j->run, j->k);
    for (int64_t i = 0; i < j->in; i++)
        if (drop[i]) w[i] = 0.0f;
}

ft_status cmp_prune_rows(float *w, const float *norm, int64_t out, int64_t in, int64_t k,
                         prune_nm nm)
{
    rows_job j = {w, norm, in, nm.m > 0 ? nm.m - nm.n : k, nm.m > 0 ? nm.m : in};
    pool_run(prune_row, &j, out);
    FT_CHECK(!pool_failed(), FT_EMEM, "out of memory");
    return FT_OK;
}

/* --- inputs ------------------------------------------------------------------------------------------------------------ */
/* The inputs of all groups of a block in which something is chosen: H as of cmp_hessian_add, and Σ x² of each column. */
typedef struct prune_inputs {
    const cmp_block *b;
    double **h, **square; /* [n_group]; NULL: nothing of it is chosen */
} prune_inputs;

static bool wants(void *ctx, const nn_group *g)
{
    const prune_inputs *p = ctx;
    const int i = cmp_group_number(p->b, g);
    return i >= 0 && p->h[i];
}

static ft_status see(void *ctx, const cmp_pass *p, const nn_group *g, const float *x)
{
    const prune_inputs *all = ctx;
    const int i = cmp_group_number(all->b, g);
    double *square = all->square[i];
    for (int64_t r = 0; r < p->rows; r++, x += g->in)
        for (int64_t k = 0; k < g->in; k++) square[k] += (double)x[k] * (double)x[k];
    return cmp_hessian_add(all->h[i], x - p->rows * g->in, p->rows, g->in);
}

static ft_status look(cmp_block *b, prune_inputs *out)
{
    bool any = false;
    *out = (prune_inputs){.b = b};
    out->h = arena_get(b->mem, (size_t)(b->n_group + 1) * sizeof *out->h);
    out->square = arena_get(b->mem, (size_t)(b->n_group + 1) * sizeof *out->square);
    if (!out->h || !out->square) return FT_EMEM;
    for (int i = 0; i < b->n_group; i++) {
        const int64_t in = b->group[i]->in;
        if (!cmp_group_chosen(b, b->group[i])) continue;
        out->h[i] = arena_get(b->mem, (size_t)(in * in) * sizeof(double));
        out->square[i] = arena_get(b->mem, (size_t)in * sizeof(double));
        if (!out->h[i] || !out->square[i]) return FT_EMEM;
        any = true;
    }
    return any ? cmp_see(b, &(cmp_look){.see = see, .wants = wants, .ctx = out}) : FT_OK;
}

/* Sums of all groups; of one H as f32, its factor and what that is made in; of a matrix values before and after. */
size_t cmp_prune_room(const cmp_block *b, const void *cfg)
{
    size_t sums = 0, group = 0, matrix = 0;
    (void)cfg;
    for (int i = 0; i < b->n_group; i++) {
        const size_t in = (size_t)b->group[i]->in, h = in * in * sizeof(double);
        sums += h;
        group = 2 * h > group ? 2 * h : group;
    }
    for (int i = 0; i < b->n; i++) {
        const size_t out = (size_t)b->linear[i].site->out, in = (size_t)b->linear[i].site->in;
        const size_t bytes = (3 * in + 512) * out * sizeof(float);
        matrix = bytes > matrix ? bytes : matrix;
    }
    return sums + group + matrix;
}

static ft_status of_group(cmp_block *b, const nn_group *g, double *sum, prune_group *p,
                          bool factors, cmp_change prune)
{
    const int64_t in = g->in;
    const size_t mark = arena_mark(b->mem);
    float *h = arena_raw(b->mem, (size_t)(in * in) * sizeof *h);
    float *u = factors ? arena_raw(b->mem, (size_t)(in * in) * sizeof *u) : NULL;
    if (!h || (factors && !u)) return FT_EMEM;
    cmp_hessian_whole(h, sum, in);
    if (factors)
        FT_TRY(cmp_hessian_factor(u, sum, in, p->cfg->damp_percent, NULL, g->site[0].w->name));
    p->h = h;
    p->u = u;
    for (int i = 0; i < g->n; i++) {
        cmp_linear *l = cmp_linear_of(b, &g->site[i]);
        if (l->chosen) FT_TRY(cmp_change_linear(b, l, h, prune, p));
    }
    arena_reset(b->mem, mark);
    return FT_OK;
}

ft_status cmp_prune_block(cmp_block *b, const prune_cfg *cfg, bool factors, cmp_change prune)
{
    prune_inputs in;
    FT_TRY(look(b, &in));
    for (int i = 0; i < b->n_group; i++) {
        prune_group p = {.cfg = cfg, .square = in.square[i]};
        if (in.h[i]) FT_TRY(of_group(b, b->group[i], in.h[i], &p, factors, prune));
    }
    return FT_OK;
}
