/* residual.c – inits of LoRA that take the first part out of the base: PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024).
 *
 *   PiSSA: W = U S Vᵀ, A₀ = √(S_r/s) V_rᵀ, B₀ = U_r √(S_r/s);  OLoRA: W = Q R, B₀ = Q_r, A₀ = R_r, W as (out, in).
 * Training is on W − s·B₀A₀, which is never made: the base stays as it is, and −s·B₀(A₀ x) is added to its product. So the
 * residual is exact in f32 whatever type W has, and the result needs no other base: it is PEFT's converted LoRA,
 *   A = [A; A₀], B = [B, −B₀], of twice the rank and the same scale.
 * An adapter that was saved without that (PEFT leaves it to the user) becomes one when it is opened: its W is decomposed anew;
 * signs may differ, B₀A₀ does not. pissa_niter_N finds U and V by N power iterations on a random start (Halko et al. 2011). */
#include "ft/method.h"
#include "lora_private.h"
#include "method_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OVER = 8 }; /* columns of a random start beyond the rank */

/* --- words -------------------------------------------------------------------------------------------------------------- */
pe_residual_word pe_residual_of(const cJSON *init, int64_t *iterations)
{
    const char *word = cJSON_IsString(init) ? init->valuestring : "", *digits;
    *iterations = 0;
    if (strcasecmp(word, "pissa") == 0) return PE_PISSA;
    if (strcasecmp(word, "olora") == 0) return PE_OLORA;
    if (!str_starts(word, "pissa_niter_")) return PE_NO_RESIDUAL;
    digits = word + strlen("pissa_niter_");
    if (!*digits || strlen(digits) > 4 || strspn(digits, "0123456789") != strlen(digits))
        return PE_NO_RESIDUAL;
    *iterations = strtol(digits, NULL, 10);
    return PE_PISSA_FAST;
}

/* --- decomposing ------------------------------------------------------------------------------------------------------- */
typedef struct target {
    const nn_site *site;
    lora_slot *slot;
    nn_param *a, *b; /* where the decomposition goes: [r, in], [out, r] */
} target;

typedef struct job {
    const pe_ctx *c;
    target *at; /* [n] */
    int64_t n, iterations;
    pe_residual_word word;
    ft_status *status; /* [n] */
} job;

/* W as (out, in), in double. */
static void take_weight(double *to, const nn_site *s, const tn_tensor *w, float *row)
{
    const int64_t rows = tn_rows(w), cols = tn_cols(w);
    for (int64_t i = 0; i < rows; i++) {
        tn_unpack_rows(row, w, i, 1);
        for (int64_t j = 0; j < cols; j++)
            to[s->in_out ? j * s->in + i : i * cols + j] = (double)row[j];
    }
}

/* A₀ and B₀ of r columns of left [out, k] and rows of right [k, in], each times its factor √(value/s); value NULL: 1. */
static void put_factors(const target *t, const double *left, const double *value,
                        const double *right, int64_t k)
{
    const int64_t r = t->b->t.dim[1], out = t->site->out, in = t->site->in;
    float *a = tn_f32(&t->a->t), *b = tn_f32(&t->b->t);
    for (int64_t l = 0; l < r; l++) {
        const double f = value ? sqrt(value[l] / (double)t->slot->scale) : 1.0;
        for (int64_t j = 0; j < in; j++) a[l * in + j] = (float)(f * right[l * in + j]);
        for (int64_t i = 0; i < out; i++) b[i * r + l] = (float)(f * left[i * k + l]);
    }
}

static void decompose_tile(void *ctx, int64_t tile, int thread)
{
    const job *j = ctx;
    const target *t = &j->at[tile];
    const int64_t out = t->site->out, in = t->site->in, k = out < in ? out : in;
    const tn_tensor *w = nn_value_of(&j->c->over, t->site->w);
    double *all = ft_alloc((size_t)(2 * out * in + k * (k + 1)), sizeof *all);
    float *row = pool_scratch(thread, 0, (size_t)tn_cols(w) * sizeof *row);
    double *value = all, *matrix = all + k;
    /* of Q and R (U and V) one is of the shape of W, the other [k, k] */
    double *left = matrix + out * in, *right = left + out * k;
    j->status[tile] = FT_EMEM;
    if (all && row) {
        take_weight(matrix, t->site, w, row);
        j->status[tile] = j->word == PE_OLORA ? kn_qr(left, right, matrix, out, in)
                                              : kn_svd(left, value, right, matrix, out, in);
    }
    if (j->status[tile] == FT_OK)
        put_factors(t, left, j->word == PE_OLORA ? NULL : value, right, k);
    ft_free(all);
}

/* --- by iterations ------------------------------------------------------------------------------------------------------ */
typedef struct basis {
    float *left, *right;  /* rows: [q, out], [q, in] */
    double *tall, *small; /* [max(out, in), q], [q, q] */
    int64_t q;
} basis;

/* The rows of x [q, n] become orthonormal. */
static ft_status orthonormal(const basis *s, float *x, int64_t n)
{
    for (int64_t i = 0; i < s->q * n; i++) s->tall[i % n * s->q + i / n] = (double)x[i];
    FT_TRY(kn_qr(s->tall, s->small, s->tall, n, s->q));
    for (int64_t i = 0; i < s->q * n; i++) x[i] = (float)s->tall[i % n * s->q + i / n];
    return FT_OK;
}

/* left = right · Wᵀ, or right = left · W */
static void multiply(const basis *s, const nn_site *site, const tn_tensor *w, bool to_left)
{
    const kn_mat m = {.type = w->type,
                      .data = w->data,
                      .side = w->side,
                      .rows = w->dim[0],
                      .cols = w->dim[1],
                      .row_of = w->row_of};
    float *y = to_left ? s->left : s->right;
    const float *x = to_left ? s->right : s->left;
    const int64_t ny = to_left ? site->out : site->in, nx = to_left ? site->in : site->out;
    (to_left == site->in_out ? kn_gemm_nn : kn_gemm_nt)(y, ny, x, nx, &m, s->q, NULL, false);
}

/* W ≈ leftᵀ (left W): of the small matrix left W [q, in] the singular values. */
static ft_status values_of(const target *t, const basis *s)
{
    const int64_t q = s->q, in = t->site->in, out = t->site->out;
    double *all = ft_alloc((size_t)(2 * q * in + q * q + q + out * q), sizeof *all);
    if (!all) return FT_EMEM;
    double *matrix = all, *vt = matrix + q * in, *u = vt + q * in, *value = u + q * q,
           *left = value + q;
    for (int64_t i = 0; i < q * in; i++) matrix[i] = (double)s->right[i];
    ft_status rc = kn_svd(u, value, vt, matrix, q, in);
    for (int64_t i = 0; rc == FT_OK && i < out; i++) {
        for (int64_t l = 0; l < q; l++) {
            double sum = 0.0;
            for (int64_t k = 0; k < q; k++) sum += (double)s->left[k * out + i] * u[k * q + l];
            left[i * q + l] = sum;
        }
    }
    if (rc == FT_OK) put_factors(t, left, value, vt, q);
    ft_free(all);
    return rc;
}

static ft_status iterate(const job *j, const target *t, const basis *s)
{
    const tn_tensor *w = nn_value_of(&j->c->over, t->site->w);
    rng_fill_normal(s->right, s->q * t->site->in, rng_key_text(j->c->seed, t->site->path), 0.0f,
                    1.0f);
    multiply(s, t->site, w, true);
    FT_TRY(orthonormal(s, s->left, t->site->out));
    for (int64_t i = 0; i < j->iterations; i++) {
        multiply(s, t->site, w, false);
        FT_TRY(orthonormal(s, s->right, t->site->in));
        multiply(s, t->site, w, true);
        FT_TRY(orthonormal(s, s->left, t->site->out));
    }
    multiply(s, t->site, w, false);
    return values_of(t, s);
}

static ft_status decompose_fast(const job *j, const target *t)
{
    const int64_t out = t->site->out, in = t->site->in, least = out < in ? out : in;
    const int64_t r = t->b->t.dim[1], q = r + OVER < least ? r + OVER : least;
    const int64_t most = out > in ? out : in;
    basis s = {.q = q,
               .left = ft_alloc((size_t)(q * (out + in)), sizeof *s.left),
               .tall = ft_alloc((size_t)(q * (most + q)), sizeof *s.tall)};
    ft_status rc = s.left && s.tall ? FT_OK : FT_EMEM;
    if (rc == FT_OK) {
        s.right = s.left + q * out;
        s.small = s.tall + q * most;
        rc = iterate(j, t, &s);
    }
    ft_free(s.left);
    ft_free(s.tall);
    return rc;
}

static ft_status decompose(job *j)
{
    FT_TRY(kn_linalg_open());
    j->status = arena_get(j->c->mem, (size_t)(j->n + 1) * sizeof *j->status);
    if (!j->status) return FT_EMEM;
    if (j->word != PE_PISSA_FAST) pool_run(decompose_tile, j, j->n);
    if (pool_failed()) return FT_EMEM;
    for (int64_t i = 0; i < j->n; i++) {
        if (j->word == PE_PISSA_FAST) j->status[i] = decompose_fast(j, &j->at[i]);
        FT_CHECK(j->status[i] == FT_OK, j->status[i],
                 "%s: its weight could not be decomposed: memory is short, or it holds a NaN",
                 j->at[i].site->path);
    }
    return FT_OK;
}

/* --- attaching --------------------------------------------------------------------------------------------------------- */
static void copy_values(nn_param *to, const nn_param *from)
{
    memcpy(tn_f32(&to->t), tn_f32(&from->t), (size_t)tn_count(&to->t) * sizeof(float));
}

static ft_status check_site(const pe_ctx *c, const nn_site *s, int64_t rank)
{
    const tn_tensor *w = &s->w->t;
    const int64_t least = s->out < s->in ? s->out : s->in;
    const lora_cfg *cfg = c->cfg;
    FT_CHECK(w->type->block == 1 && !w->type->read, FT_ECONFIG,
             "method.init_lora_weights: \"%s\" changes the base, and %s is in blocks (%s), which "
             "are not written anew; use true, or a model in f32, bf16 or f16",
             cfg->init_lora_weights->valuestring, s->path, w->type->name);
    FT_CHECK(rank <= least, FT_ECONFIG,
             "method.%s: %lld is above what %s of %lld x %lld can be decomposed into; at most %lld",
             rank == cfg->r ? "r" : "rank_pattern", (long long)rank, s->path, (long long)s->out,
             (long long)s->in, (long long)least);
    return FT_OK;
}

/* For use, not for training. */
static bool is_opened(const pe_ctx *c)
{
    return c->file && !c->load_dir;
}

static ft_status attach_site(pe_ctx *c, const nn_site *s, lora_slot *slot, target *t)
{
    const int64_t r = slot->b->t.dim[1];
    const char *a = arena_printf(c->mem, "%s.lora_A0", s->path),
               *b = arena_printf(c->mem, "%s.lora_B0", s->path);
    if (!a || !b) return FT_EMEM;
    FT_TRY(check_site(c, s, r));
    FT_TRY(nn_new_state(&c->store, a, r, s->in, &slot->a0));
    FT_TRY(nn_new_state(&c->store, b, s->out, r, &slot->b0));
    *t = (target){s, slot, slot->a0, slot->b0};
    if (!is_opened(c)) return FT_OK;
    FT_TRY(nn_new_param(&c->store, slot->a->name, 2 * r, s->in, &slot->joined_a));
    return nn_new_param(&c->store, slot->b->name, s->out, 2 * r, &slot->joined_b);
}

static void post_terms(nn_run *r, const nn_group *g, ag_low_rank *low, int *n)
{
    int64_t col = 0;
    for (int i = 0; i < g->n; col += g->site[i++].out) {
        const lora_slot *slot = nn_slot(r, &g->site[i]);
        if (!slot || !slot->a0) continue;
        low[(*n)++] =
            (ag_low_rank){.a = &slot->a0->t, .b = &slot->b0->t, .scale = -slot->scale, .col = col};
    }
}

static tn_tensor *post(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y)
{
    ag_low_rank low[AG_MAX_GROUP];
    int n = 0;
    post_terms(r, g, low, &n);
    return ag_low_rank_add(r->t, y, x, low, n);
}

static const nn_hooks hooks = {.weight = pe_lora_weight, .post = post, .embed = pe_lora_embed};

/* What threads decompose at a time: matrix and factors in doubles, and as much again as LAPACK works in. */
static size_t decompose_bytes(const job *j)
{
    int64_t most = 0;
    for (int64_t i = 0; i < j->n; i++) {
        const int64_t out = j->at[i].site->out, in = j->at[i].site->in, k = out < in ? out : in;
        const int64_t doubles = 2 * out * in + k * (j->word == PE_OLORA ? k : 5 * k);
        if (doubles > most) most = doubles;
    }
    const int64_t at_once = j->n < pool_threads() ? j->n : pool_threads();
    return j->word == PE_PISSA_FAST ? 0 : (size_t)(at_once * most) * sizeof(double);
}

ft_status pe_residual_attach(pe_ctx *c)
{
    const lora_cfg *cfg = c->cfg;
    job j = {.c = c};
    j.word = pe_residual_of(cfg->init_lora_weights, &j.iterations);
    j.at = arena_get(c->mem, (size_t)(c->m->n_site + 1) * sizeof *j.at);
    if (!j.at) return FT_EMEM;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        lora_slot *slot = nn_slot_of(&c->over, s);
        if (slot && !pe_lora_is_table(s)) FT_TRY(attach_site(c, s, slot, &j.at[j.n++]));
    }
    c->over.hooks = &hooks;
    c->opening = decompose_bytes(&j);
    if (c->dry) return FT_OK;
    FT_TRY(decompose(&j));
    for (int64_t i = 0; !c->file && i < j.n; i++) {
        copy_values(j.at[i].slot->a, j.at[i].a);
        copy_values(j.at[i].slot->b, j.at[i].b);
    }
    return FT_OK;
}

/* --- as a LoRA of twice the rank ------------------------------------------------------------------------------------------ */
/* a [2r, in] = [A; A₀], b [out, 2r] = [B, −B₀]; of a table, which has no second half, zeros. */
static void join(const lora_slot *slot, bool table, float *a, float *b)
{
    const tn_tensor *pa = &slot->a->t, *pb = &slot->b->t;
    const int64_t r = pb->dim[1], rows = pb->dim[0], n = tn_count(pa);
    for (int64_t i = 0; i < rows * 2 * r; i++) {
        const int64_t row = i / (2 * r), k = i % (2 * r);
        const float second = slot->b0 ? -tn_f32(&slot->b0->t)[row * r + k % r] : 0.0f;
        b[i] = k < r ? tn_f32(pb)[row * r + k] : second;
    }
    for (int64_t i = 0; i < 2 * n; i++) {
        const int64_t k = table ? i / (2 * r) * r + i % (2 * r) : i; /* of a table [vocab, 2r] */
        const bool first = table ? i % (2 * r) < r : i < n;
        a[i] = first ? tn_f32(pa)[k] : slot->a0 ? tn_f32(&slot->a0->t)[i - n] : 0.0f;
    }
}

void pe_residual_load(pe_ctx *c)
{
    for (int64_t i = 0; is_opened(c) && i < c->m->n_site; i++) {
        lora_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (!slot || !slot->a0) continue;
        if (!c->dry) join(slot, false, tn_f32(&slot->joined_a->t), tn_f32(&slot->joined_b->t));
        *slot = (lora_slot){.a = slot->joined_a, .b = slot->joined_b, .scale = slot->scale};
        c->over.hooks = &c->method->hooks;
    }
}

bool pe_residual_parts(const pe_ctx *c)
{
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const lora_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (slot && slot->a0) return true;
    }
    return false;
}

static cJSON *doubled(const cJSON *pattern)
{
    cJSON *out = pe_is_null(pattern) ? NULL : cJSON_Duplicate(pattern, true), *e;
    cJSON_ArrayForEach(e, out)
    {
        cJSON_SetNumberHelper(e, 2.0 * e->valuedouble);
    }
    return out;
}

/* Tensors of the result, in the place of those that are trained. */
typedef struct converted {
    pe_entry *entry;
    nn_param *param; /* [2 · n_site] */
    float *values;
    int64_t n, used;
} converted;

static void put(converted *v, const nn_param *was, int64_t rows, int64_t cols)
{
    nn_param *p = &v->param[v->n++];
    *p = *was;
    p->t.dim[0] = rows;
    p->t.dim[1] = cols;
    p->t.data = v->values + v->used;
    v->used += rows * cols;
}

static void convert_site(const pe_ctx *c, converted *v, const nn_site *s, const lora_slot *slot)
{
    const tn_tensor *a = &slot->a->t, *b = &slot->b->t;
    const bool table = pe_lora_is_table(s);
    nn_param *first = &v->param[v->n];
    put(v, slot->a, table ? a->dim[0] : 2 * a->dim[0], table ? 2 * a->dim[1] : a->dim[1]);
    put(v, slot->b, b->dim[0], 2 * b->dim[1]);
    join(slot, table, tn_f32(&first[0].t), tn_f32(&first[1].t));
    for (int64_t i = 0; i < c->entries.n; i++) {
        if (v->entry[i].p == slot->a) v->entry[i].p = &first[0];
        if (v->entry[i].p == slot->b) v->entry[i].p = &first[1];
    }
}

static ft_status convert(const pe_ctx *c, converted *v)
{
    int64_t floats = 0;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const lora_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (slot) floats += 2 * (tn_count(&slot->a->t) + tn_count(&slot->b->t));
    }
    v->entry = ft_alloc((size_t)c->entries.n, sizeof *v->entry);
    v->param = ft_alloc((size_t)c->m->n_site * 2, sizeof *v->param);
    v->values = ft_alloc((size_t)floats, sizeof *v->values);
    if (!v->entry || !v->param || !v->values) return FT_EMEM;
    memcpy(v->entry, c->entries.entry, (size_t)c->entries.n * sizeof *v->entry);
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const lora_slot *slot = nn_slot_of(&c->over, &c->m->site[i]);
        if (slot) convert_site(c, v, &c->m->site[i], slot);
    }
    return FT_OK;
}

ft_status pe_residual_save(const pe_ctx *c, const char *dir)
{
    const lora_cfg *cfg = c->cfg;
    converted v = {0};
    lora_cfg twice = *cfg;
    pe_ctx as = *c;
    cJSON *ranks = doubled(cfg->rank_pattern), *alphas = doubled(cfg->alpha_pattern);
    twice.r = 2 * cfg->r;
    twice.lora_alpha = cfg->lora_alpha * (cfg->use_rslora ? sqrt(2.0) : 2.0);
    twice.rank_pattern = ranks;
    twice.alpha_pattern = alphas;
    twice.init_lora_weights = NULL;
    ft_status rc = convert(c, &v);
    as.cfg = &twice;
    as.entries.entry = v.entry;
    if (rc == FT_OK) rc = pe_lora_write(&as, dir);
    cJSON_Delete(ranks);
    cJSON_Delete(alphas);
    ft_free(v.entry);
    ft_free(v.param);
    ft_free(v.values);
    return rc;
}
