/* open.c – a walk before its first step: what the blocks are made of, which of it is changed, how samples are cut into passes,
 * and whether it all fits into memory. */
#include <math.h>
#include <string.h>

#include "compress_private.h"

#define ROOM ((size_t)1 << 40)

/* --- blocks ---------------------------------------------------------------------------------------------------------- */
/* A dry pass of one token meets every product of a block. */
static ft_status list_groups(cmp_walk *w, cmp_block *b)
{
    static const int32_t zero, one = 1;
    const nn_batch batch = {.n_seq = 1, .len = &one, .tokens = 1, .ids = &zero, .pos = &zero};
    int *part = (int *)(uintptr_t)b->part;
    ag_tape *t;
    nn_run r;
    FT_TRY(ag_open(&t, 0));
    w->listing = b;
    ft_status rc = nn_run_open(&r, t, &batch, &w->over, 0);
    const model_pass *p = rc == FT_OK ? model_pass_open(w->m, &r) : NULL;
    tn_tensor *h = p ? ag_new(t, 1, w->m->d.hidden_size) : NULL;
    for (int k = 0; h && k < w->m->layer[b->layer].n_sub; k++) {
        const int before = b->n_group;
        h = model_pass_parts(p, b->layer, k, k + 1, h);
        for (int i = before; i < b->n_group; i++) part[i] = k;
    }
    if (rc == FT_OK) rc = t->status;
    w->listing = NULL;
    ag_close(t);
    return rc;
}

static void sort_linears(cmp_block *b)
{
    for (int i = 1; i < b->n; i++)
        for (int k = i; k > 0 && b->linear[k].site < b->linear[k - 1].site; k--) {
            const cmp_linear l = b->linear[k];
            b->linear[k] = b->linear[k - 1];
            b->linear[k - 1] = l;
        }
}

static ft_status open_shape(cmp_walk *w, int layer)
{
    cmp_block *b = &w->shape[layer];
    int64_t most = 0;
    for (int64_t i = 0; i < w->m->n_site; i++) most += w->m->site[i].layer == layer;
    *b = (cmp_block){.walk = w,
                     .m = w->m,
                     .layer = layer,
                     .linear = arena_get(w->mem, (size_t)(most + 1) * sizeof *b->linear),
                     .group = arena_get(w->mem, (size_t)(most + 1) * sizeof *b->group),
                     .part = arena_get(w->mem, (size_t)(most + 1) * sizeof *b->part)};
    if (!b->linear || !b->group || !b->part) return FT_EMEM;
    FT_TRY(list_groups(w, b));
    sort_linears(b);
    for (int i = 0; i < b->n; i++) {
        cmp_linear *l = &b->linear[i];
        l->chosen = !w->o.chosen || w->o.chosen(w->o.ctx, l->site);
        if (ft_error_starved()) return FT_EMEM; /* then it is not known */
        if (!l->chosen) continue;
        w->chosen[w->n_chosen++] = l->site;
        if (w->o.method->fits) FT_TRY(w->o.method->fits(w->o.cfg, w->m, l->site));
    }
    return FT_OK;
}

static ft_status open_blocks(cmp_walk *w)
{
    const size_t sites = (size_t)w->m->n_site + 1, layers = (size_t)w->m->d.n_layer + 1;
    const size_t params = (size_t)w->m->n_param + 1;
    w->chosen = arena_get(w->mem, sites * sizeof *w->chosen);
    w->shape = arena_get(w->mem, layers * sizeof *w->shape);
    w->own = arena_get(w->mem, sites * sizeof *w->own);
    w->wanted = arena_get(w->mem, sites * sizeof *w->wanted);
    w->lost = arena_get(w->mem, sites * sizeof *w->lost);
    w->whole = arena_get(w->mem, sites * sizeof *w->whole);
    w->zeros = arena_get(w->mem, sites * sizeof *w->zeros);
    w->told = arena_get(w->mem, sites * sizeof *w->told);
    w->file = arena_get(w->mem, layers * sizeof *w->file);
    w->saved = arena_get(w->mem, params * sizeof *w->saved);
    w->over = (nn_overlay){
        .hooks = &cmp_hooks, .ctx = w, .own = arena_get(w->mem, params * sizeof *w->over.own)};
    if (!w->chosen || !w->shape || !w->own || !w->wanted || !w->lost || !w->whole || !w->zeros ||
        !w->told || !w->file || !w->saved || !w->over.own)
        return FT_EMEM;
    for (int i = 0; i < w->m->d.n_layer; i++) FT_TRY(open_shape(w, i));
    return FT_OK;
}

/* --- samples --------------------------------------------------------------------------------------------------------- */
static ft_status take_ids(cmp_walk *w, int32_t *len)
{
    int64_t at = 0;
    for (int64_t i = 0; i < w->o.n_samples; i++) {
        const tok_ids *s = &w->o.sample[i];
        len[i] = (int32_t)s->n;
        for (int64_t k = 0; k < s->n; k++, at++) {
            FT_CHECK(s->id[k] >= 0 && s->id[k] < w->m->d.vocab_size, FT_EDATA,
                     "token id %d is outside the model's vocabulary of %lld", (int)s->id[k],
                     (long long)w->m->d.vocab_size);
            w->ids[at] = s->id[k];
            w->pos[at] = (int32_t)k;
        }
    }
    return FT_OK;
}

/* Whole samples, as many as fit; a longer one has a pass to itself. */
static void cut_passes(cmp_walk *w, const int32_t *len)
{
    int64_t at = 0;
    for (int64_t i = 0; i < w->o.n_samples; at += len[i++]) {
        cmp_pass *p = w->n_pass > 0 ? &w->pass[w->n_pass - 1] : NULL;
        if (!p || p->rows + len[i] > INF_PASS_TOKENS) {
            p = &w->pass[w->n_pass++];
            *p = (cmp_pass){.first = i, .at = at, .len = len + i};
        }
        p->n++;
        p->rows += len[i];
        if (p->rows > w->most) w->most = p->rows;
    }
}

static ft_status open_samples(cmp_walk *w)
{
    for (int64_t i = 0; i < w->o.n_samples; i++) w->tokens += w->o.sample[i].n;
    FT_CHECK(w->tokens > 0, FT_EDATA, "calibration.data: holds no token");
    int32_t *len = arena_get(w->mem, (size_t)w->o.n_samples * sizeof *len);
    w->ids = arena_get(w->mem, (size_t)w->tokens * sizeof *w->ids);
    w->pos = arena_get(w->mem, (size_t)w->tokens * sizeof *w->pos);
    w->pass = arena_get(w->mem, (size_t)w->o.n_samples * sizeof *w->pass);
    if (!len || !w->ids || !w->pos || !w->pass) return FT_EMEM;
    FT_TRY(take_ids(w, len));
    cut_passes(w, len);
    return FT_OK;
}

/* --- memory ------------------------------------------------------------------------------------------------------------ */
static size_t file_bytes(const cmp_linear *l)
{
    size_t bytes = 0;
    return dt_bytes(l->site->w->file_type, l->site->out * l->site->in, &bytes) ? bytes : 0;
}

/* A block's values, what the method makes of it, and what is written of a pruned one. */
static size_t block_bytes(const cmp_walk *w)
{
    const bool codes = w->o.method->writes;
    size_t most = 0;
    for (int i = 0; i < w->m->d.n_layer; i++) {
        const cmp_block *b = &w->shape[i];
        size_t bytes = w->o.method->room ? w->o.method->room(b, w->o.cfg) : 0;
        for (int k = 0; k < b->n; k++) {
            const cmp_linear *l = &b->linear[k];
            bytes += (size_t)l->site->out * (size_t)l->site->in * sizeof(float);
            if (l->chosen && !codes) bytes += file_bytes(l);
        }
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* What the result takes on its way beside what any model's does: of codes, which stand for the weights then, those of a matrix
 * as words and its zeros and scales; of a pruned matrix its values in the work folder, and as rows. */
static size_t result_bytes(const cmp_walk *w)
{
    size_t most = 0;
    model_packed_cfg cfg = {.group_size = 1};
    if (w->o.method->writes) w->o.method->packed(w->o.cfg, &cfg);
    for (int64_t i = 0; i < w->n_chosen; i++) {
        const nn_site *s = w->chosen[i];
        const size_t n = (size_t)s->out * (size_t)s->in;
        const size_t groups = (size_t)(cfg.group_size > 0 ? s->in / cfg.group_size : 1) + 1;
        const size_t codes = 2 * n + 8 * (size_t)s->out * groups;
        const size_t bytes = w->o.method->writes ? codes : n * (sizeof(float) + sizeof(float));
        most = bytes > most ? bytes : most;
    }
    return most;
}

static ft_status plan(cmp_walk *w, size_t beside)
{
    const inf_plan before = *w->o.inf->plan;
    inf_shape shape = {.rows = w->most};
    for (int i = 0; i < w->n_pass; i++)
        if (w->pass[i].n > shape.seqs) shape.seqs = w->pass[i].n;
    w->o.inf->plan->beside += beside;
    w->o.inf->plan->gemm = true;
    const ft_status rc = inf_plan_for(w->o.inf, &shape);
    if (rc != FT_OK) *w->o.inf->plan = before;
    return rc;
}

/* The stream stands in memory where that is enough. */
static ft_status make_room(cmp_walk *w)
{
    const size_t block = block_bytes(w);
    w->o.inf->plan->apart += result_bytes(w);
    const size_t stream = (size_t)w->tokens * (size_t)w->m->d.hidden_size * sizeof(float);
    ft_status rc = plan(w, block + stream);
    const bool in_file = rc == FT_EMEM && w->tokens > 0;
    if (in_file) {
        ft_error_forget();
        rc = plan(w, block);
    }
    if (rc == FT_OK) arena_expect(w->block_mem, block);
    if (rc != FT_OK || w->tokens == 0) return rc;
    return cmp_stream_open(w, in_file);
}

ft_status cmp_walk_open(cmp_walk **out, const cmp_options *o)
{
    cmp_walk *w = ft_alloc(1, sizeof *w);
    *out = NULL;
    if (!w) return FT_EMEM;
    w->o = *o;
    w->m = o->inf->m;
    ft_status rc = arena_open(&w->mem, "a walk over blocks", ROOM);
    if (rc == FT_OK) rc = arena_open(&w->block_mem, "a block", ROOM);
    if (rc == FT_OK) rc = open_blocks(w);
    if (rc == FT_OK && cmp_reads(o->method, o->cfg)) rc = open_samples(w);
    if (rc == FT_OK) rc = make_room(w);
    if (rc != FT_OK)
        cmp_walk_close(w);
    else
        *out = w;
    return rc;
}

void cmp_walk_close(cmp_walk *w)
{
    if (!w) return;
    if (w->state && w->o.method->end) w->o.method->end(w->state);
    for (int64_t i = 0; w->file && i < w->m->d.n_layer; i++)
        if (w->file[i].path) st_close(&w->file[i]);
    cmp_stream_close(w);
    arena_close(w->block_mem);
    arena_close(w->mem);
    ft_free(w);
}

/* --- what there is to tell ------------------------------------------------------------------------------------------------ */
int64_t cmp_tokens(const cmp_walk *w)
{
    return w->tokens;
}

const cmp_dropped *cmp_dropped_of(const cmp_walk *w)
{
    return &w->dropped;
}

arena *cmp_mem(const cmp_walk *w)
{
    return w->mem;
}

int64_t cmp_chosen(const cmp_walk *w, nn_site *const **site)
{
    *site = w->chosen;
    return w->n_chosen;
}
