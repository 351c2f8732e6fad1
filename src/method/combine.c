/* combine.c – several LoRA folders as one, as PEFT's add_weighted_adapter makes it (combine_rule.c has the arithmetic). It
 * needs their files alone, no model: what the modules are called and how large they are stands there.
 *
 *   cat:       A = [w₁s₁A₁; w₂s₂A₂; …], B = [B₁, B₂, …]: exact
 *   linear, …: A of the A's weighted by ±√|w s|, B of the B's by √|w s|; their ranks are equal
 *   svd, …:    Σ w s B A or what the rule makes of the s B A, cut to its largest singular values: A = Vᵀ, B = U S
 * A module takes part in what has a pair for it. The scale of the result is 1: what it was is in the factors. One module
 * after another is read, combined and written. */
#include <math.h>
#include <string.h>

#include "combine_private.h"
#include "lora_private.h"
#include "method_private.h"

typedef struct part { /* one of the adapters */
    const char *dir;
    double weight;
    lora_cfg cfg;
    pe_ctx c; /* what reading a config needs */
    pe_file *file;
    int64_t rank; /* the largest */
} part;

typedef struct pair {       /* of a part at a module; a NULL: it has none */
    const io_tensor *a, *b; /* [r, in], [out, r] */
    double scale;           /* without the weight */
    int64_t r;
} pair;

typedef struct place { /* a module */
    const char *path;
    bool table;
    int64_t in, out, sum; /* sum: of the ranks */
    pair *of;             /* [n] */
} place;

typedef struct value { /* a tensor of the result */
    place *at;         /* NULL: it stands as it does in `from` */
    bool is_b;
    const io_tensor *from;
    int from_part;
} value;

typedef struct work {
    const pe_combine *how;
    const combine_kind *kind;
    part *of; /* [n] */
    int n;
    int64_t rank;
    place *place;
    int64_t n_place;
    st_decl *decl;
    int64_t n_decl;
    map_table index; /* path of a place → place; name of a value of its own → −1 − its part */
    arena *mem;
} work;

static const struct {
    const char *a, *b;
} ends[2] = {{".lora_A.weight", ".lora_B.weight"}, {".lora_embedding_A", ".lora_embedding_B"}};
static const char front[] = "base_model.model.";

/* --- what is given ---------------------------------------------------------------------------------------------- */
static ft_status refuse_key(const part *p, const char *key, const char *why)
{
    const js_doc *d = &p->c.adapter;
    return js_fail(d, js_get(d->root, key), FT_EDATA, key, "%s", why);
}

/* What is no sum of factors, or is one on another base. */
static ft_status check_config(const part *p)
{
    const cJSON *root = p->c.adapter.root, *init = js_get(root, "init_lora_weights");
    const char *type;
    FT_TRY(js_get_str(&p->c.adapter, root, "peft_type", "", &type));
    FT_CHECK(strcmp(type, pe_lora.peft_type) == 0, FT_EDATA,
             "%s: is an adapter of type %s; only LoRA's are combined", ft_shows(p->dir),
             ft_shows(type));
    if (cJSON_IsTrue(js_get(root, "use_dora")))
        return refuse_key(p, "use_dora",
                          "is no sum of factors, which could be combined; merge this adapter by "
                          "itself");
    if (cJSON_IsString(init) &&
        (str_starts(init->valuestring, "pissa") || str_starts(init->valuestring, "olora")))
        return refuse_key(p, "init_lora_weights",
                          "its factors are of a base that was changed; convert the adapter to "
                          "plain LoRA when saving it");
    return FT_OK;
}

/* The largest rank, as PEFT counts it: of keys of rank_pattern that match nothing, too. */
static int64_t largest_rank(const lora_cfg *cfg)
{
    const cJSON *e = cJSON_IsObject(cfg->rank_pattern) ? cfg->rank_pattern->child : NULL;
    int64_t r = cfg->r;
    for (; e; e = e->next)
        if (e->valuedouble > (double)r) r = (int64_t)e->valuedouble;
    return r;
}

static ft_status open_part(work *w, part *p, int i)
{
    *p = (part){.dir = w->how->dir[i], .weight = w->how->weight[i]};
    p->c = (pe_ctx){.method = &pe_lora, .mem = w->mem, .cfg = &p->cfg};
    FT_TRY(pe_read_config(&p->c, p->dir));
    FT_TRY(check_config(p));
    FT_TRY(pe_lora_load_config(&p->c, &p->c.adapter));
    p->rank = largest_rank(&p->cfg);
    return pe_file_open(&p->file, p->dir, &pe_format_peft);
}

/* Values that replace the base's, by rules that would have to be told apart for each adapter. */
static ft_status check_alone(const work *w, const char *key, const char *nothing)
{
    int found = 0;
    for (int i = 0; i < w->n; i++) {
        const cJSON *v = js_get(w->of[i].c.adapter.root, key);
        if (pe_is_empty(v) || (cJSON_IsString(v) && strcmp(v->valuestring, nothing) == 0)) continue;
        if (++found > 1)
            return refuse_key(&w->of[i], key,
                              "another of the adapters has it too, and what it holds is not "
                              "combined");
    }
    return FT_OK;
}

/* The adapters' ranks, where they differ: in words. */
static ft_status check_ranks(const work *w)
{
    bool same = true;
    str_buf ranks = {0};
    for (int i = 0; i < w->n; i++) {
        same = same && w->of[i].rank == w->of[0].rank;
        str_printf(&ranks, "%s%s has %lld", i ? ", " : "", ft_shows(w->of[i].dir),
                   (long long)w->of[i].rank);
    }
    const ft_status rc =
        same || w->kind->form != COMBINE_FACTORS
            ? FT_OK
            : ft_fail(FT_EDATA,
                      "--combination-type %s combines adapters of one rank, and %s; \"cat\" and "
                      "the types in svd take any",
                      w->kind->name, ranks.data ? ranks.data : "these differ");
    str_free(&ranks);
    return rc;
}

static int64_t rank_of_result(const work *w)
{
    int64_t sum = 0, most = 0;
    for (int i = 0; i < w->n; i++) {
        sum += w->of[i].rank;
        if (w->of[i].rank > most) most = w->of[i].rank;
    }
    if (w->kind->form == COMBINE_STACK) return sum;
    return w->kind->form == COMBINE_PRODUCTS && w->how->svd_rank > 0 ? w->how->svd_rank : most;
}

/* --- which modules ---------------------------------------------------------------------------------------------- */
static ft_status wrong(const part *p, const io_tensor *t, const char *why)
{
    return ft_fail(FT_EDATA, "%s/adapter_model.safetensors: tensor \"%s\" %s", ft_shows(p->dir),
                   ft_shows(t->name), why);
}

/* A factor's module: the path in its name; false: it is none. */
static bool factor_of(const work *w, const char *name, const char **path, bool *table, bool *is_b)
{
    const size_t n = strlen(name), skip = sizeof front - 1;
    if (!str_starts(name, front)) return false;
    for (int k = 0; k < 4; k++) {
        const char *end = k & 1 ? ends[k / 2].b : ends[k / 2].a;
        if (!str_ends(name, end)) continue;
        *path = arena_strn(w->mem, name + skip, n - skip - strlen(end));
        *table = k / 2;
        *is_b = k & 1;
        return true;
    }
    return false;
}

static ft_status find_place(work *w, const char *path, bool table, place **out)
{
    int64_t i;
    if (map_get(&w->index, path, strlen(path), &i)) {
        *out = &w->place[i];
        return FT_OK;
    }
    *out = &w->place[w->n_place];
    **out = (place){.path = path, .table = table};
    (*out)->of = arena_get(w->mem, (size_t)w->n * sizeof *(*out)->of);
    if (!(*out)->of) return FT_EMEM;
    return map_put(&w->index, path, strlen(path), w->n_place++);
}

static ft_status add_decl(work *w, const char *name, const value *v, int nd, const int64_t *dim)
{
    st_decl *d = &w->decl[w->n_decl++];
    value *copy = arena_get(w->mem, sizeof *copy);
    if (!copy || !name) return FT_EMEM;
    *copy = *v;
    *d = (st_decl){.name = name, .type = &dt_f32, .nd = nd, .user = copy};
    for (int k = 0; k < nd; k++) d->dim[k] = dim[k];
    return FT_OK;
}

/* A copy of what the base has beside the factors, as PEFT saves it of embeddings, is the same in both. */
static bool is_same_copy(const part *p, const io_tensor *t, const part *q, const char *name)
{
    const io_tensor *other = pe_file_find(q->file, name);
    const cJSON *e;
    for (int k = 0; k < 2; k++) cJSON_ArrayForEach(e, (k ? p : q)->cfg.target.modules_to_save)
        {
            if (strstr(name, e->valuestring)) return false;
        }
    return other->type == t->type && other->bytes == t->bytes &&
           memcmp(other->data, t->data, t->bytes) == 0;
}

/* What stands in the place of the base's: a module, a bias, rows of tokens. */
static ft_status keep_value(work *w, int i, const io_tensor *t, const char *name)
{
    int64_t other;
    const part *p = &w->of[i];
    const bool again = map_get(&w->index, name, strlen(name), &other);
    if (again && is_same_copy(p, t, &w->of[-1 - other], name)) return FT_OK;
    if (again)
        return ft_fail(FT_EDATA,
                       "%s and %s both hold \"%s\" in the place of the base's (modules_to_save, a "
                       "bias, tokens): such values are not combined",
                       ft_shows(w->of[-1 - other].dir), ft_shows(p->dir), ft_shows(name));
    if (!str_starts(name, front) || strstr(name, ".lora_")) return wrong(p, t, "is unexpected");
    if (!t->type->unpack) return wrong(p, t, "is of a type that no adapter has");
    if (p->weight != 1.0)
        log_warn("%s: \"%s\" stands in the place of the base's, and has no weight: it is taken as "
                 "it is",
                 ft_shows(p->dir), ft_shows(name));
    FT_TRY(map_put(&w->index, name, strlen(name), -1 - i));
    return add_decl(w, name, &(value){.from = t, .from_part = i}, t->nd, t->dim);
}

static ft_status take_tensor(work *w, int i, const io_tensor *t, const char *name)
{
    const char *path;
    bool table, is_b;
    place *at;
    if (!factor_of(w, name, &path, &table, &is_b)) return keep_value(w, i, t, name);
    if (!path) return FT_EMEM;
    if (t->nd != 2 || !t->type->unpack) return wrong(&w->of[i], t, "is no matrix of numbers");
    FT_TRY(find_place(w, path, table, &at));
    if (is_b)
        at->of[i].b = t;
    else
        at->of[i].a = t;
    return FT_OK;
}

static ft_status take_tensors(work *w)
{
    const io_tensor *t;
    const char *name;
    int64_t count = 0;
    for (int i = 0; i < w->n; i++)
        for (int64_t k = 0; pe_file_at(w->of[i].file, k, &t, &name); k++) count++;
    w->place = arena_get(w->mem, (size_t)(count + 1) * sizeof *w->place);
    w->decl = arena_get(w->mem, (size_t)(count + 1) * sizeof *w->decl);
    if (!w->place || !w->decl) return FT_EMEM;
    for (int i = 0; i < w->n; i++)
        for (int64_t k = 0; pe_file_at(w->of[i].file, k, &t, &name); k++)
            if (name) FT_TRY(take_tensor(w, i, t, name));
    return FT_OK;
}

/* The pair's rank and scale are those of the config, and its shape that of the module in the other adapters. */
static ft_status check_pair(const work *w, place *at, int i)
{
    const part *p = &w->of[i];
    const lora_cfg *cfg = &p->cfg;
    pair *f = &at->of[i];
    double r = (double)cfg->r, alpha = cfg->lora_alpha;
    if (!f->a && !f->b) return FT_OK;
    if (!f->a || !f->b)
        return wrong(p, f->a ? f->a : f->b, "has no counterpart: its other factor is missing");
    ft_status rc = pe_pattern_value(cfg->rank_pattern, at->path, &r);
    if (rc == FT_OK) rc = pe_pattern_value(cfg->alpha_pattern, at->path, &alpha);
    if (rc != FT_OK) return rc == FT_ECONFIG ? FT_EDATA : rc; /* of a file, not of a config */
    f->r = (int64_t)r;
    if (f->a->dim[0] != f->r || f->b->dim[1] != f->r)
        return wrong(p, f->a->dim[0] != f->r ? f->a : f->b,
                     "is not of the rank that adapter_config.json says");
    if (at->sum > 0 && at->in != f->a->dim[1])
        return wrong(p, f->a, "has another width than in the adapters before it");
    if (at->sum > 0 && at->out != f->b->dim[0])
        return wrong(p, f->b, "has another height than in the adapters before it");
    at->in = f->a->dim[1];
    at->out = f->b->dim[0];
    at->sum += f->r;
    f->scale = alpha / (cfg->use_rslora ? sqrt(r) : r);
    return FT_OK;
}

/* Factors are combined value by value: then they are of one shape. */
static ft_status check_shapes(const work *w, const place *at)
{
    const pair *first = NULL;
    for (int i = 0; i < w->n && w->kind->form == COMBINE_FACTORS; i++) {
        const pair *f = &at->of[i];
        if (!f->a) continue;
        if (!first) first = f;
        FT_CHECK(f->r == first->r, FT_EDATA,
                 "--combination-type %s: \"%s\" has rank %lld in %s and %lld in an adapter before "
                 "it; \"cat\" and the types in svd take any",
                 w->kind->name, ft_shows(at->path), (long long)f->r, ft_shows(w->of[i].dir),
                 (long long)first->r);
    }
    return FT_OK;
}

static ft_status check_places(work *w)
{
    FT_CHECK(w->n_place > 0, FT_EDATA, "%s: adapts no module", ft_shows(w->of[0].dir));
    for (int64_t k = 0; k < w->n_place; k++) {
        place *at = &w->place[k];
        for (int i = 0; i < w->n; i++) FT_TRY(check_pair(w, at, i));
        FT_TRY(check_shapes(w, at));
        const char *a = arena_printf(w->mem, "%s%s%s", front, at->path, ends[at->table].a);
        const char *b = arena_printf(w->mem, "%s%s%s", front, at->path, ends[at->table].b);
        FT_TRY(add_decl(w, a, &(value){.at = at}, 2, (int64_t[]){w->rank, at->in}));
        FT_TRY(add_decl(w, b, &(value){.at = at, .is_b = true}, 2, (int64_t[]){at->out, w->rank}));
    }
    return FT_OK;
}

/* --- one module ------------------------------------------------------------------------------------------------- */
static double weighted(const work *w, const place *at, int i)
{
    return w->of[i].weight * at->of[i].scale;
}

/* Its factors of one adapter, as floats: [r, in] and, behind it, [out, r]. */
static ft_status read_pair(const work *w, const place *at, int i, float *a)
{
    const pair *f = &at->of[i];
    FT_TRY(pe_file_values(w->of[i].file, f->a, a));
    return pe_file_values(w->of[i].file, f->b, a + f->r * at->in);
}

static ft_status stack(const work *w, const place *at, float *a, float *b)
{
    int64_t from = 0;
    for (int i = 0; i < w->n; i++) {
        const pair *f = &at->of[i];
        if (!f->a) continue;
        float *x = ft_alloc((size_t)(f->r * (at->in + at->out)), sizeof *x);
        if (!x) return FT_EMEM;
        const ft_status rc = read_pair(w, at, i, x);
        const float *y = x + f->r * at->in;
        for (int64_t k = 0; k < f->r * at->in; k++)
            a[from * at->in + k] = (float)(weighted(w, at, i) * (double)x[k]);
        for (int64_t k = 0; k < f->r * at->out; k++) b[k / f->r * w->rank + from + k % f->r] = y[k];
        from += f->r;
        ft_free(x);
        FT_TRY(rc);
    }
    return FT_OK;
}

/* Values of every adapter at one module, to be combined: task[i] [count], with what names them for DARE's draws. */
typedef struct tasks {
    const float **task;
    float *weight;
    uint64_t key;
    int n;
} tasks;

static void add_task(const work *w, tasks *t, float *x, double weight, int64_t count, int i)
{
    if (w->kind->prune == COMBINE_LARGEST) pe_keep_largest(x, count, w->how->density);
    if (w->kind->prune == COMBINE_RANDOM)
        pe_keep_some(x, count, w->how->density, rng_key(t->key, (uint64_t)i, 0));
    t->weight[t->n] = (float)weight;
    t->task[t->n++] = x;
}

static void combine(const work *w, const tasks *t, float *out, int64_t count)
{
    const combine_sum sum = {.task = t->task,
                             .weight = t->weight,
                             .n = t->n,
                             .elect = w->kind->elect,
                             .frequency = w->how->frequency};
    pe_combine_add(out, &sum, count);
}

static ft_status open_tasks(const work *w, const char *path, const char *what, arena *mem, tasks *t)
{
    *t = (tasks){.key = rng_key_text(rng_key_text(w->how->seed, path), what),
                 .task = arena_get(mem, (size_t)w->n * sizeof *t->task),
                 .weight = arena_get(mem, (size_t)w->n * sizeof *t->weight)};
    return t->task && t->weight ? FT_OK : FT_EMEM;
}

static ft_status combine_factors(const work *w, const place *at, arena *mem, float *a, float *b)
{
    tasks ta, tb;
    int64_t r = 0;
    FT_TRY(open_tasks(w, at->path, "A", mem, &ta));
    FT_TRY(open_tasks(w, at->path, "B", mem, &tb));
    for (int i = 0; i < w->n; i++) {
        const pair *f = &at->of[i];
        if (!f->a) continue;
        r = f->r;
        float *x = arena_get(mem, (size_t)(r * (at->in + at->out)) * sizeof *x);
        if (!x) return FT_EMEM;
        FT_TRY(read_pair(w, at, i, x));
        const double scale = weighted(w, at, i), root = sqrt(fabs(scale));
        add_task(w, &ta, x, scale >= 0 ? root : -root, r * at->in, i);
        add_task(w, &tb, x + r * at->in, root, r * at->out, i);
    }
    combine(w, &ta, a, r * at->in);
    float *narrow = arena_get(mem, (size_t)(r * at->out) * sizeof *narrow);
    if (!narrow) return FT_EMEM;
    combine(w, &tb, narrow, r * at->out);
    for (int64_t k = 0; k < at->out; k++)
        memcpy(b + k * w->rank, narrow + k * r, (size_t)r * sizeof *b);
    return FT_OK;
}

/* --- one module by its product ------------------------------------------------------------------------------------ */
/* A [rank, in] and B [out, rank] of the largest of k singular values: u [out, ldu], vt [k, in]. */
static void take_largest(const work *w, const place *at, const double *u, const double *s,
                         const double *vt, int64_t k, float *a, float *b)
{
    const int64_t r = w->rank < k ? w->rank : k;
    for (int64_t j = 0; j < r * at->in; j++) a[j] = (float)vt[j];
    for (int64_t j = 0; j < at->out; j++)
        for (int64_t c = 0; c < r; c++) b[j * w->rank + c] = (float)(u[j * k + c] * s[c]);
}

/* y [m, n] = x [m, k] · z [k, n], or · zᵀ of z [n, k] */
static void multiply(double *y, const double *x, const double *z, int64_t m, int64_t k, int64_t n,
                     bool turned)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (int64_t c = 0; c < k; c++)
                sum += x[i * k + c] * (turned ? z[j * k + c] : z[c * n + j]);
            y[i * n + j] = sum;
        }
    }
}

/* Σ w s B A is L R, L [out, sum] of the B's and R [sum, in] of the A's: with L = Q₁R₁ and Rᵀ = Q₂R₂ its decomposition is that
 * of the small R₁R₂ᵀ. */
static ft_status decompose_factors(const work *w, const place *at, arena *mem, float *a, float *b)
{
    const int64_t n = at->sum, in = at->in, out = at->out;
    double *l = arena_get(mem, (size_t)(n * out) * sizeof *l);
    double *r = arena_get(mem, (size_t)(n * in) * sizeof *r);
    double *r1 = arena_get(mem, (size_t)(n * n) * sizeof *r1);
    double *r2 = arena_get(mem, (size_t)(n * n) * sizeof *r2);
    double *core = arena_get(mem, (size_t)(n * n) * sizeof *core);
    double *u = arena_get(mem, (size_t)(n * n) * sizeof *u);
    double *s = arena_get(mem, (size_t)n * sizeof *s);
    double *vt = arena_get(mem, (size_t)(n * n) * sizeof *vt);
    double *left = arena_get(mem, (size_t)(n * out) * sizeof *left);
    double *right = arena_get(mem, (size_t)(n * in) * sizeof *right);
    if (!l || !r || !r1 || !r2 || !core || !u || !s || !vt || !left || !right) return FT_EMEM;
    int64_t from = 0;
    for (int i = 0; i < w->n; i++) {
        const pair *f = &at->of[i];
        if (!f->a) continue;
        float *x = arena_get(mem, (size_t)(f->r * (in + out)) * sizeof *x);
        if (!x) return FT_EMEM;
        FT_TRY(read_pair(w, at, i, x));
        const float *y = x + f->r * in;
        for (int64_t k = 0; k < f->r * in; k++)
            r[k % in * n + from + k / in] = weighted(w, at, i) * (double)x[k];
        for (int64_t k = 0; k < f->r * out; k++) l[k / f->r * n + from + k % f->r] = (double)y[k];
        from += f->r;
    }
    FT_TRY(kn_qr(l, r1, l, out, n));
    FT_TRY(kn_qr(r, r2, r, in, n));
    multiply(core, r1, r2, n, n, n, true);
    FT_TRY(kn_svd(u, s, vt, core, n, n));
    multiply(left, l, u, out, n, n, false);
    multiply(right, vt, r, n, n, in, true);
    take_largest(w, at, left, s, right, n, a, b);
    return FT_OK;
}

/* s B A of one adapter. */
static ft_status product(const work *w, const place *at, int i, arena *mem, float *out)
{
    const pair *f = &at->of[i];
    const size_t mark = arena_mark(mem);
    float *x = arena_get(mem, (size_t)(f->r * (at->in + at->out)) * sizeof *x);
    if (!x) return FT_EMEM;
    FT_TRY(read_pair(w, at, i, x));
    const kn_mat a = {.type = &dt_f32, .data = x, .rows = f->r, .cols = at->in};
    kn_gemm_nn(out, at->in, x + f->r * at->in, f->r, &a, at->out, NULL, false);
    for (int64_t k = 0; k < at->in * at->out; k++) out[k] *= (float)f->scale;
    arena_reset(mem, mark);
    return FT_OK;
}

static ft_status decompose_products(const work *w, const place *at, arena *mem, float *a, float *b)
{
    const int64_t count = at->in * at->out, k = at->in < at->out ? at->in : at->out;
    tasks t;
    FT_TRY(open_tasks(w, at->path, "BA", mem, &t));
    double *whole = arena_get(mem, (size_t)count * sizeof *whole);
    double *u = arena_get(mem, (size_t)(k * at->out) * sizeof *u);
    double *s = arena_get(mem, (size_t)k * sizeof *s);
    double *vt = arena_get(mem, (size_t)(k * at->in) * sizeof *vt);
    float *sum = arena_get(mem, (size_t)count * sizeof *sum);
    if (!whole || !u || !s || !vt || !sum) return FT_EMEM;
    for (int i = 0; i < w->n; i++) {
        if (!at->of[i].a) continue;
        float *x = arena_get(mem, (size_t)count * sizeof *x);
        if (!x) return FT_EMEM;
        FT_TRY(product(w, at, i, mem, x));
        add_task(w, &t, x, w->of[i].weight, count, i);
    }
    combine(w, &t, sum, count);
    for (int64_t j = 0; j < count; j++) whole[j] = (double)sum[j];
    FT_TRY(kn_svd(u, s, vt, whole, at->out, at->in));
    take_largest(w, at, u, s, vt, k, a, b);
    return FT_OK;
}

static bool by_factors(const work *w, const place *at)
{
    return w->kind->prune == COMBINE_ALL && at->sum <= (at->in < at->out ? at->in : at->out);
}

static ft_status combine_place(const work *w, const place *at, arena *mem, float *a, float *b)
{
    if (w->kind->form == COMBINE_STACK) return stack(w, at, a, b);
    if (w->kind->form == COMBINE_FACTORS) return combine_factors(w, at, mem, a, b);
    return by_factors(w, at) ? decompose_factors(w, at, mem, a, b)
                             : decompose_products(w, at, mem, a, b);
}

/* Bytes that it takes, result and all. */
static size_t bytes_of(const work *w, const place *at)
{
    const size_t both = (size_t)(at->in + at->out), count = (size_t)(at->in * at->out);
    const size_t least = (size_t)(at->in < at->out ? at->in : at->out), sum = (size_t)at->sum;
    size_t bytes = (size_t)w->rank * both * sizeof(float) + 2 * sum * both * sizeof(float);
    if (w->kind->form != COMBINE_PRODUCTS) return bytes;
    if (by_factors(w, at)) return bytes + 2 * sum * (both + 3 * sum) * sizeof(double);
    bytes += count * ((size_t)w->n + 1) * sizeof(float) + count * sizeof(double);
    return bytes + least * (both + 4 * least) * sizeof(double);
}

static ft_status check_memory(const work *w)
{
    const place *most = &w->place[0];
    for (int64_t k = 1; k < w->n_place; k++)
        if (bytes_of(w, &w->place[k]) > bytes_of(w, most)) most = &w->place[k];
    const ft_grant g = ft_memory_more(bytes_of(w, most));
    FT_CHECK(g.need <= g.limit, FT_EMEM,
             "combining \"%s\" of %d adapters by \"%s\" needs %s of memory, %s grants %s",
             ft_shows(most->path), w->n, w->kind->name, ft_bytes_text(bytes_of(w, most)), g.name,
             ft_bytes_text(g.limit));
    return FT_OK;
}

/* --- writing ---------------------------------------------------------------------------------------------------- */
typedef struct made { /* the module at hand */
    const place *at;
    float *a, *b;
    arena *mem;
} made;

static ft_status make(const work *w, const place *at, made *m)
{
    const int64_t na = w->rank * at->in, nb = w->rank * at->out;
    arena_reset(m->mem, 0);
    *m = (made){.mem = m->mem, .at = at};
    m->a = arena_get(m->mem, (size_t)na * sizeof *m->a);
    m->b = arena_get(m->mem, (size_t)nb * sizeof *m->b);
    if (!m->a || !m->b) return FT_EMEM;
    FT_TRY(combine_place(w, at, m->mem, m->a, m->b));
    FT_CHECK(kn_find_nonfinite(m->a, na) < 0 && kn_find_nonfinite(m->b, nb) < 0, FT_EDIVERGED,
             "what the adapters combine to at \"%s\" is beyond the numbers of f32; take smaller "
             "weights",
             ft_shows(at->path));
    return FT_OK;
}

static ft_status write_kept(const work *w, const st_decl *d, made *m, st_writer *out)
{
    const value *v = d->user;
    size_t n = 1;
    for (int k = 0; k < d->nd; k++) n *= (size_t)d->dim[k];
    arena_reset(m->mem, 0);
    m->at = NULL;
    float *x = arena_get(m->mem, n * sizeof *x);
    if (!x) return FT_EMEM;
    FT_TRY(pe_file_values(w->of[v->from_part].file, v->from, x));
    return st_write(out, x, n * sizeof *x);
}

static ft_status write_tensor(const work *w, int64_t i, made *m, st_writer *out)
{
    const st_decl *d = &w->decl[i];
    const value *v = d->user;
    if (!v->at) return write_kept(w, d, m, out);
    if (v->at != m->at) {
        log_progress("combine: tensor %lld of %lld", (long long)i + 1, (long long)w->n_decl);
        FT_TRY(ft_stop());
        FT_TRY(make(w, v->at, m));
    }
    return st_write(out, v->is_b ? m->b : m->a, (size_t)(d->dim[0] * d->dim[1]) * sizeof(float));
}

static ft_status write_tensors(work *w, const char *path)
{
    st_writer *out = NULL;
    made m = {0};
    FT_TRY(arena_open(&m.mem, "combined module", SIZE_MAX / 4));
    ft_status rc = st_write_open(&out, path, w->decl, w->n_decl, NULL, 0);
    for (int64_t i = 0; rc == FT_OK && i < w->n_decl; i++) rc = write_tensor(w, i, &m, out);
    if (rc == FT_OK)
        rc = st_write_close(out);
    else
        st_write_abort(out);
    arena_close(m.mem);
    return rc;
}

/* --- adapter_config.json ------------------------------------------------------------------------------------------ */
/* Does it name its targets by nothing but a list of names? */
static bool names_alone(const pe_target *t)
{
    return cJSON_IsArray(t->target_modules) && pe_is_empty(t->exclude_modules) &&
           pe_is_empty(t->layers_to_transform) && !t->ensure_weight_tying;
}

static void add_name(cJSON *list, const char *name)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, list)
    {
        if (strcmp(e->valuestring, name) == 0) return;
    }
    cJSON_AddItemToArray(list, cJSON_CreateString(name));
}

/* Names that some adapter has, or, where rules go with them, the paths of the modules. */
static cJSON *target_list(const work *w)
{
    cJSON *list = cJSON_CreateArray();
    bool plain = true;
    for (int i = 0; i < w->n; i++) plain = plain && names_alone(&w->of[i].cfg.target);
    for (int64_t k = 0; !plain && k < w->n_place; k++)
        cJSON_AddItemToArray(list, cJSON_CreateString(w->place[k].path));
    for (int i = 0; plain && i < w->n; i++) {
        const cJSON *e;
        cJSON_ArrayForEach(e, w->of[i].cfg.target.target_modules) add_name(list, e->valuestring);
    }
    return list;
}

/* What one of them says. */
static const cJSON *said(const work *w, const char *key)
{
    for (int i = 0; i < w->n; i++) {
        const cJSON *v = js_get(w->of[i].c.adapter.root, key);
        if (!pe_is_empty(v) && !cJSON_IsFalse(v)) return v;
    }
    return NULL;
}

static cJSON *saved_list(const work *w)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < w->n; i++) {
        const cJSON *e;
        cJSON_ArrayForEach(e, w->of[i].cfg.target.modules_to_save) add_name(list, e->valuestring);
    }
    return list;
}

static const char *bias_of(const work *w)
{
    const char *bias = "none";
    for (int i = 0; i < w->n; i++)
        if (strcmp(w->of[i].cfg.target.bias, "none") != 0) bias = w->of[i].cfg.target.bias;
    return bias;
}

static ft_status write_config(const work *w, const char *dir)
{
    const cJSON *base = js_get(w->of[0].c.adapter.root, "base_model_name_or_path");
    const pe_ctx c = {.method = &pe_lora,
                      .base_name = w->how->base_name      ? w->how->base_name
                                   : cJSON_IsString(base) ? base->valuestring
                                                          : NULL};
    cJSON *o = cJSON_CreateObject(), *saved = saved_list(w);
    js_add(o, "alpha_pattern", cJSON_CreateObject());
    cJSON_AddStringToObject(o, "bias", bias_of(w));
    if (said(w, "ensure_weight_tying")) cJSON_AddTrueToObject(o, "ensure_weight_tying");
    cJSON_AddNullToObject(o, "exclude_modules");
    cJSON_AddBoolToObject(o, "fan_in_fan_out", said(w, "fan_in_fan_out") != NULL);
    cJSON_AddTrueToObject(o, "init_lora_weights");
    cJSON_AddNullToObject(o, "layers_pattern");
    cJSON_AddNullToObject(o, "layers_to_transform");
    cJSON_AddNumberToObject(o, "lora_alpha", (double)w->rank);
    cJSON_AddNumberToObject(o, "lora_dropout", 0);
    pe_put_json(o, "modules_to_save", cJSON_GetArraySize(saved) > 0 ? saved : NULL);
    cJSON_AddNumberToObject(o, "r", (double)w->rank);
    js_add(o, "rank_pattern", cJSON_CreateObject());
    js_add(o, "target_modules", target_list(w));
    if (said(w, "trainable_token_indices"))
        pe_put_json(o, "trainable_token_indices", said(w, "trainable_token_indices"));
    cJSON_AddBoolToObject(o, "use_dora", false);
    cJSON_AddBoolToObject(o, "use_rslora", false);
    cJSON_Delete(saved);
    return pe_write_config(&c, o, dir);
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */
static ft_status run(work *w, const char *dir)
{
    const char *path = path_join(w->mem, dir, "adapter_model.safetensors");
    w->of = arena_get(w->mem, (size_t)w->n * sizeof *w->of);
    if (!path || !w->of) return FT_EMEM;
    for (int i = 0; i < w->n; i++) FT_TRY(open_part(w, &w->of[i], i));
    FT_TRY(pe_combine_notes_check(w->how, w->mem));
    FT_TRY(check_alone(w, "bias", "none"));
    FT_TRY(check_alone(w, "trainable_token_indices", ""));
    FT_TRY(check_ranks(w));
    w->rank = rank_of_result(w);
    FT_TRY(take_tensors(w));
    FT_TRY(check_places(w));
    FT_TRY(check_memory(w));
    if (w->kind->form == COMBINE_PRODUCTS) FT_TRY(kn_linalg_open());
    FT_TRY(write_tensors(w, path));
    FT_TRY(pe_combine_note_write(w->how, dir, w->mem));
    return write_config(w, dir);
}

ft_status pe_combine_adapters(const pe_combine *how, const char *dir, pe_combined *out)
{
    /* as PEFT: one adapter has nothing to be combined with, whatever the type */
    work w = {.how = how, .n = how->n, .kind = pe_combine_kind(how->n == 1 ? "linear" : how->type)};
    FT_CHECK(w.kind, FT_EINTERNAL, "no combination type \"%s\"", how->type);
    FT_TRY(arena_open(&w.mem, "combination", (size_t)4 << 30));
    const ft_status rc = run(&w, dir);
    *out = (pe_combined){.rank = w.rank, .modules = w.n_place};
    for (int i = 0; w.of && i < w.n; i++) {
        pe_file_close(w.of[i].file);
        js_close(&w.of[i].c.adapter);
        ft_free(w.of[i].c.adapter_text);
    }
    map_free(&w.index);
    arena_close(w.mem);
    return rc;
}
