/* awq.c – AWQ (Lin et al. 2023): inputs that are large are worth more bits, which a scale of the column gives them; what is before
 * the linear layer takes the scale back, so that the float model stays what it is.
 *
 *   s = x̄^r / (w̄^(1−r) + 1e-4), over √(max s · min s);  r = 0, 1/20 … 19/20, the one with the least loss of Q(W · s) / s
 *
 * x̄: mean |x| of a channel; w̄: mean over the rows of |w| / max|w| of its group. Loss: mean squared difference of what attention
 * (q, k, v) or the feed-forward part (gate, up) gives, or of the linear itself (o, down), which for all tokens is
 * tr(Δ H Δᵀ), H = Σ x xᵀ. Then each group's weights are clipped at max|w| · (1 − i/20), i = 0 … 9, by the loss of its own product on
 * some tokens, but for queries and keys. Scales of codes are rounded to f16 before codes are taken, everywhere.
 *
 * What gives a scale back: the norm before q, k, v and before gate, up; v's rows for o, where heads are not shared; up's for
 * down, where a gate multiplies it. Behind a plain activation function (GPT-2's) nothing can, and down is only clipped. All
 * scales of a block are searched before any is applied, as AutoAWQ does. */
#include <math.h>
#include <string.h>

#include "compress_private.h"
#include "ft/kernel.h"

enum { BITS = 4, RATIOS = 20, LIMITS = 10, SHRINK = 20, SAMPLES = 512 };

typedef struct awq_cfg {
    int64_t bits, group_size;
    bool zero_point, duo_scaling, apply_clip;
} awq_cfg;

#define AT(field) offsetof(awq_cfg, field)
static const cfg_field fields[] = {
    {"bits", CFG_INT, AT(bits), .def = "4", .help = "of a code: 4"},
    {"group_size", CFG_INT, AT(group_size), .def = "128", .low = -1, .high = 1 << 22,
     .help = "inputs that share a scale; -1: the whole row"},
    {"zero_point", CFG_BOOL, AT(zero_point), .def = "true",
     .help = "a zero of its own for each group; else it is in the middle of the codes"},
    {"duo_scaling", CFG_BOOL, AT(duo_scaling), .def = "true",
     .help = "scales by inputs and weights; else by inputs alone"},
    {"apply_clip", CFG_BOOL, AT(apply_clip), .def = "true",
     .help = "search how far the weights of a group are cut off"},
    CFG_END};

static void check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg)
{
    const awq_cfg *c = cfg;
    (void)path;
    if (c->bits != BITS && !cfg_is_wrong(d, "quantize.bits"))
        cfg_fail(d, js_get(object, "bits"), "quantize.bits", "must be %d", BITS);
    if (c->group_size == 0 && !cfg_is_wrong(d, "quantize.group_size"))
        cfg_fail(d, js_get(object, "group_size"), "quantize.group_size",
                 "must be a number of inputs, or -1 for the whole row");
}

static void packed(const void *cfg, model_packed_cfg *out)
{
    const awq_cfg *c = cfg;
    *out = (model_packed_cfg){
        .bits = c->bits, .group_size = c->group_size, .zero_point = c->zero_point};
}

static ft_status fits(const void *cfg, const model *m, const nn_site *s)
{
    model_packed_cfg p;
    (void)m;
    packed(cfg, &p);
    return model_packed_fits(model_quant_by_method("awq"), &p, s->w->name, s->out, s->in);
}

/* --- codes of a group ------------------------------------------------------------------------------------------------- */

/* AutoAWQ's: with a zero point scale = max(max − min, 1e-5) / 15 and zero = clamp(−round(min / scale), 0, 15); without scale
 * = max|w| / 7 and the zero 8. */
static void grid_of(const awq_cfg *c, const float *w, int64_t n, uint16_t *scale, uint8_t *zero)
{
    float low = w[0], high = w[0];
    for (int64_t i = 1; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    float range = c->zero_point ? high - low : fmaxf(high, -low);
    if (range < 1e-5f) range = 1e-5f;
    const float step = range / (c->zero_point ? 15.0f : 7.0f);
    dt_f16.pack(scale, &step, 1);
    if (*scale == 0) *scale = 1; /* 2⁻²⁴ */
    const float at = c->zero_point ? -rintf(low / cmp_scale(*scale)) : 8.0f;
    *zero = (uint8_t)(at > 0.0f ? (at < 15.0f ? at : 15.0f) : 0.0f);
}

/* n weights of a group become the values of their codes. */
static void quantise(const awq_cfg *c, float *w, int64_t n)
{
    uint16_t half;
    uint8_t zero;
    grid_of(c, w, n, &half, &zero);
    const float scale = cmp_scale(half);
    for (int64_t i = 0; i < n; i++)
        w[i] = cmp_value(scale, cmp_code(w[i], scale, zero, BITS), zero);
}

/* --- what is known of a group of linears -------------------------------------------------------------------------------- */
typedef struct shared {
    const nn_group *g;
    double *h;     /* [in, in] Σ x xᵀ */
    float *mean;   /* [in] of |x| */
    double *sum;   /* [in] */
    float *sample; /* [n_sample, in] */
    int64_t n_sample;
    float *scale;           /* [in] found; NULL: none */
    int part;               /* whose output tells the loss; −1: the linear's own */
    float *back_w, *back_b; /* of the norm that takes the scale back, [in]; or: */
    cmp_linear *back;       /* its last `in` rows do, NULL */
} shared;

typedef struct awq {
    cmp_block *b;
    const awq_cfg *cfg;
    shared *s;      /* [n_group] */
    float **before; /* [n] values of the linears, as they were */
    int64_t step;   /* between two tokens of the sample */
    float *x;       /* [tokens, hidden] of the group that is kept; kept: which */
    const nn_group *kept;
} awq;

static shared *shared_of(const awq *a, const nn_group *g)
{
    const int i = cmp_group_number(a->b, g);
    return i < 0 ? NULL : &a->s[i];
}

static ft_status see(void *ctx, const cmp_pass *p, const nn_group *g, const float *x)
{
    awq *a = ctx;
    shared *s = shared_of(a, g);
    const int64_t in = g->in;
    for (int64_t t = 0; t < p->rows; t++) {
        const float *row = x + t * in;
        for (int64_t i = 0; i < in; i++) s->sum[i] += (double)fabsf(row[i]);
        if ((p->at + t) % a->step) continue;
        memcpy(s->sample + s->n_sample++ * in, row, (size_t)in * sizeof *row);
    }
    return cmp_hessian_add(s->h, x, p->rows, in);
}

static ft_status keep(void *ctx, const cmp_pass *p, const nn_group *g, const float *x)
{
    awq *a = ctx;
    memcpy(a->x + p->at * g->in, x, (size_t)(p->rows * g->in) * sizeof *x);
    return FT_OK;
}

static bool is_kept(void *ctx, const nn_group *g)
{
    return g == ((const awq *)ctx)->kept;
}

static cmp_linear *of_role(const cmp_block *b, nn_role role)
{
    for (int i = 0; i < b->n; i++)
        if (b->linear[i].site->role == role) return &b->linear[i];
    return NULL;
}

static bool all_chosen(const cmp_block *b, const nn_group *g)
{
    for (int i = 0; i < g->n; i++)
        if (!cmp_linear_of(b, &g->site[i])->chosen) return false;
    return true;
}

/* The linear whose rows are the group's inputs, one by one; NULL. */
static cmp_linear *linear_before(const cmp_block *b, const nn_group *g)
{
    cmp_linear *v = of_role(b, NN_V), *qkv = of_role(b, NN_QKV), *up = of_role(b, NN_UP), *l = NULL;
    if (g->site[0].role == NN_O) l = v ? v : qkv && qkv->site->out == 3 * g->in ? qkv : NULL;
    if (g->site[0].role == NN_DOWN) l = of_role(b, NN_GATE) ? up : NULL;
    return l && l->chosen && (l == qkv || l->site->out == g->in) ? l : NULL;
}

/* What takes a scale of the group's inputs back. */
static ft_status find_back(awq *a, shared *s, bool *found)
{
    cmp_block *b = a->b;
    const nn_role role = s->g->site[0].role;
    const bool mixer = role == NN_Q || role == NN_QKV, feed = role == NN_GATE || role == NN_UP;
    *found = false;
    s->part = mixer ? 0 : feed ? 1 : -1;
    if (!all_chosen(b, s->g)) return FT_OK;
    if (!mixer && !feed) {
        s->back = linear_before(b, s->g);
        *found = s->back != NULL;
        return FT_OK;
    }
    const model_layer *layer = &b->m->layer[b->layer];
    const model_norm *norm = &layer->sub[s->part].norm;
    if (!norm->w || layer->traits & MODEL_PARALLEL) return FT_OK;
    s->back_w = cmp_vector(b, norm->w);
    s->back_b = norm->b ? cmp_vector(b, norm->b) : NULL;
    *found = true;
    return s->back_w && (s->back_b || !norm->b) ? FT_OK : FT_EMEM;
}

static void *room_for(awq *a, int64_t n, size_t size)
{
    return arena_get(a->b->mem, (size_t)n * size);
}

static ft_status look(awq *a)
{
    cmp_block *b = a->b;
    const int64_t tokens = cmp_tokens(b->walk);
    a->step = (tokens + SAMPLES - 1) / SAMPLES;
    for (int i = 0; i < b->n_group; i++) {
        shared *s = &a->s[i];
        const int64_t in = b->group[i]->in;
        *s = (shared){.g = b->group[i]};
        s->h = room_for(a, in * in, sizeof *s->h);
        s->sum = room_for(a, in, sizeof *s->sum);
        s->mean = room_for(a, in, sizeof *s->mean);
        s->sample = room_for(a, SAMPLES * in, sizeof *s->sample);
        if (!s->h || !s->sum || !s->mean || !s->sample) return FT_EMEM;
    }
    FT_TRY(cmp_see(b, &(cmp_look){.see = see, .ctx = a}));
    for (int i = 0; i < b->n_group; i++)
        for (int64_t k = 0; k < b->group[i]->in; k++)
            a->s[i].mean[k] = (float)(a->s[i].sum[k] / (double)tokens);
    return FT_OK;
}

/* --- rows of a matrix, in parallel -------------------------------------------------------------------------------------- */
typedef struct rows {
    const awq_cfg *cfg;
    const float *from, *scale; /* [out, in], [in] */
    float *to;
    int64_t in, size;
} rows;

/* to = Q(from · s) / s */
static void try_row(void *ctx, int64_t r, int thread)
{
    const rows *k = ctx;
    const float *w = k->from + r * k->in;
    float *to = k->to + r * k->in;
    (void)thread;
    for (int64_t i = 0; i < k->in; i++) to[i] = w[i] * k->scale[i];
    for (int64_t i = 0; i < k->in; i += k->size) quantise(k->cfg, to + i, k->size);
    for (int64_t i = 0; i < k->in; i++) to[i] /= k->scale[i];
}

static int64_t group_of(const awq *a, int64_t in)
{
    return a->cfg->group_size > 0 ? a->cfg->group_size : in;
}

static float *before_of(const awq *a, const cmp_linear *l)
{
    return a->before[l - a->b->linear];
}

static void try_scale(const awq *a, const nn_group *g, const float *scale)
{
    for (int i = 0; i < g->n; i++) {
        cmp_linear *l = cmp_linear_of(a->b, &g->site[i]);
        rows k = {a->cfg, before_of(a, l), scale, l->w, g->in, group_of(a, g->in)};
        pool_run(try_row, &k, l->site->out);
    }
}

static void restore(const awq *a, const nn_group *g)
{
    for (int i = 0; i < g->n; i++) {
        cmp_linear *l = cmp_linear_of(a->b, &g->site[i]);
        memcpy(l->w, before_of(a, l), (size_t)(l->site->out * g->in) * sizeof *l->w);
    }
}

/* --- scales ----------------------------------------------------------------------------------------------------------- */

/* Mean over the rows of all linears of |w| / (max|w| of its group + 1e-6). */
static ft_status weight_means(const awq *a, const nn_group *g, float *mean)
{
    const int64_t in = g->in, size = group_of(a, in);
    double *sum = ft_alloc((size_t)in, sizeof *sum);
    int64_t n = 0;
    if (!sum) return FT_EMEM;
    for (int i = 0; i < g->n; i++) {
        const cmp_linear *l = cmp_linear_of(a->b, &g->site[i]);
        const float *w = before_of(a, l);
        n += l->site->out;
        for (int64_t k = 0; k < l->site->out * in; k += size) {
            float most = 0;
            for (int64_t j = 0; j < size; j++) most = fmaxf(most, fabsf(w[k + j]));
            for (int64_t j = 0; j < size; j++)
                sum[k % in + j] += (double)(fabsf(w[k + j]) / (most + 1e-6f));
        }
    }
    for (int64_t k = 0; k < in; k++) mean[k] = (float)(sum[k] / (double)n);
    ft_free(sum);
    return FT_OK;
}

static void scale_of(const awq *a, const shared *s, const float *w_mean, int k, float *scale)
{
    const float ratio = (float)k / RATIOS;
    float low = INFINITY, high = 0;
    for (int64_t i = 0; i < s->g->in; i++) {
        float v = powf(s->mean[i], ratio);
        if (a->cfg->duo_scaling) v /= powf(w_mean[i], 1.0f - ratio) + 1e-4f;
        scale[i] = v > 1e-4f ? v : 1e-4f;
        low = fminf(low, scale[i]);
        high = fmaxf(high, scale[i]);
    }
    const float middle = sqrtf(high * low);
    for (int64_t i = 0; i < s->g->in; i++) {
        scale[i] /= middle;
        if (!isfinite(scale[i])) scale[i] = 1.0f;
    }
}

/* Of the only linear of the group: Σ over all tokens of |Δw x|². */
static ft_status loss_of_linear(const awq *a, const shared *s, const float *h, double *loss)
{
    const cmp_linear *l = cmp_linear_of(a->b, &s->g->site[0]);
    kn_axpy(l->w, -1.0f, before_of(a, l), l->site->out * s->g->in);
    return cmp_hessian_norm(h, l->w, l->site->out, s->g->in, loss);
}

static ft_status search_linear(awq *a, shared *s, const float *tried, double *loss)
{
    const int64_t in = s->g->in;
    float *h = arena_raw(a->b->mem, (size_t)(in * in) * sizeof *h);
    if (!h) return FT_EMEM;
    cmp_hessian_whole(h, s->h, in);
    for (int k = 0; k < RATIOS; k++) {
        try_scale(a, s->g, tried + k * in);
        FT_TRY(loss_of_linear(a, s, h, &loss[k]));
    }
    return FT_OK;
}

/* Of a part of the block, pass by pass. */
typedef struct outputs {
    float *want, *got; /* of a pass */
} outputs;

static ft_status search_pass(awq *a, const shared *s, const cmp_pass *p, const float *tried,
                             const outputs *y, double *loss)
{
    const int64_t in = s->g->in, n = p->rows * in;
    const float *x = a->x + p->at * in;
    restore(a, s->g);
    FT_TRY(cmp_part(a->b, s->part, p, x, y->want));
    for (int k = 0; k < RATIOS; k++) {
        try_scale(a, s->g, tried + k * in);
        FT_TRY(cmp_part(a->b, s->part, p, x, y->got));
        kn_axpy(y->got, -1.0f, y->want, n);
        loss[k] += kn_sum_squares(y->got, n);
    }
    return FT_OK;
}

static ft_status search_part(awq *a, shared *s, const float *tried, double *loss)
{
    const cmp_walk *w = a->b->walk;
    const int64_t in = s->g->in;
    const outputs y = {arena_raw(a->b->mem, (size_t)(w->most * in) * sizeof(float)),
                       arena_raw(a->b->mem, (size_t)(w->most * in) * sizeof(float))};
    a->x = arena_raw(a->b->mem, (size_t)(w->tokens * in) * sizeof *a->x);
    if (!y.want || !y.got || !a->x) return FT_EMEM;
    a->kept = s->g;
    FT_TRY(cmp_see(a->b, &(cmp_look){.see = keep, .wants = is_kept, .ctx = a}));
    for (int i = 0; i < w->n_pass; i++) FT_TRY(search_pass(a, s, &w->pass[i], tried, &y, loss));
    return FT_OK;
}

static ft_status search(awq *a, shared *s)
{
    const int64_t in = s->g->in;
    bool found;
    double loss[RATIOS] = {0};
    FT_TRY(find_back(a, s, &found));
    if (!found) return FT_OK;
    float *best = arena_raw(a->b->mem, (size_t)in * sizeof *best);
    const size_t mark = arena_mark(a->b->mem);
    float *w_mean = arena_raw(a->b->mem, (size_t)in * sizeof *w_mean);
    float *tried = arena_raw(a->b->mem, (size_t)(RATIOS * in) * sizeof *tried);
    if (!best || !w_mean || !tried) return FT_EMEM;
    FT_TRY(weight_means(a, s->g, w_mean));
    for (int k = 0; k < RATIOS; k++) scale_of(a, s, w_mean, k, tried + k * in);
    FT_TRY((s->part < 0 ? search_linear : search_part)(a, s, tried, loss));
    int least = 0;
    for (int k = 1; k < RATIOS; k++)
        if (loss[k] < loss[least]) least = k;
    FT_CHECK(isfinite(loss[least]), FT_EDIVERGED,
             "\"%s\": what the block gives with codes of four bits is no finite number",
             s->g->site[0].w->name);
    memcpy(best, tried + least * in, (size_t)in * sizeof *best);
    s->scale = best;
    restore(a, s->g);
    arena_reset(a->b->mem, mark);
    return FT_OK;
}

static void divide(float *v, const float *scale, int64_t n)
{
    for (int64_t i = 0; v && i < n; i++) v[i] /= scale[i];
}

static ft_status apply(awq *a, const shared *s)
{
    const int64_t in = s->g->in;
    if (!s->scale) return FT_OK;
    for (int i = 0; i < s->g->n; i++) {
        cmp_linear *l = cmp_linear_of(a->b, &s->g->site[i]);
        for (int64_t k = 0; k < l->site->out * in; k++) l->w[k] *= s->scale[k % in];
    }
    divide(s->back_w, s->scale, in);
    divide(s->back_b, s->scale, in);
    if (!s->back) return FT_OK;
    const nn_site *to = s->back->site;
    const int64_t first = to->out - in;
    for (int64_t r = 0; r < in; r++)
        for (int64_t k = 0; k < to->in; k++) s->back->w[(first + r) * to->in + k] /= s->scale[r];
    if (!to->b) return FT_OK;
    float *bias = cmp_vector(a->b, to->b);
    if (!bias) return FT_EMEM;
    divide(bias + first, s->scale, in);
    return FT_OK;
}

/* --- clipping ----------------------------------------------------------------------------------------------------------- */
typedef struct clip {
    const awq_cfg *cfg;
    float *w;                    /* of the matrix */
    int64_t in, at, size;        /* its columns at … at + size */
    float keep;                  /* of max|w| */
    float *lost;                 /* [out, size] Q(clamp(w)) − w */
    float *product;              /* lost · Gram */
    float *error, *best, *limit; /* [out] the least so far, its share, and max|w| */
} clip;

static void clip_row(void *ctx, int64_t r, int thread)
{
    const clip *k = ctx;
    const float *w = k->w + r * k->in + k->at;
    float *to = k->lost + r * k->size, most = 0;
    (void)thread;
    for (int64_t i = 0; i < k->size; i++) most = fmaxf(most, fabsf(w[i]));
    const float limit = most * k->keep;
    k->limit[r] = most;
    for (int64_t i = 0; i < k->size; i++) to[i] = fminf(fmaxf(w[i], -limit), limit);
    quantise(k->cfg, to, k->size);
    for (int64_t i = 0; i < k->size; i++) to[i] -= w[i];
}

static void judge_row(void *ctx, int64_t r, int thread)
{
    const clip *k = ctx;
    double error = 0;
    (void)thread;
    for (int64_t i = 0; i < k->size; i++)
        error += (double)k->lost[r * k->size + i] * (double)k->product[r * k->size + i];
    if (k->keep < 1.0f && !((float)error < k->error[r])) return;
    k->error[r] = (float)error;
    k->best[r] = k->keep;
}

static void cut_row(void *ctx, int64_t r, int thread)
{
    const clip *k = ctx;
    float *w = k->w + r * k->in + k->at;
    const float limit = k->limit[r] * k->best[r];
    (void)thread;
    for (int64_t i = 0; i < k->size; i++) w[i] = fminf(fmaxf(w[i], -limit), limit);
}

static ft_status clip_linear(awq *a, cmp_linear *l, const float *x, int64_t n)
{
    const int64_t out = l->site->out, in = l->site->in, size = group_of(a, in);
    const size_t mark = arena_mark(a->b->mem);
    clip k = {.cfg = a->cfg, .w = l->w, .in = in, .size = size};
    float *gram = arena_raw(a->b->mem, (size_t)(size * size) * sizeof *gram);
    k.lost = arena_raw(a->b->mem, (size_t)(out * size) * sizeof(float));
    k.product = arena_raw(a->b->mem, (size_t)(out * size) * sizeof(float));
    k.error = arena_raw(a->b->mem, (size_t)out * sizeof(float));
    k.best = arena_raw(a->b->mem, (size_t)out * sizeof(float));
    k.limit = arena_raw(a->b->mem, (size_t)out * sizeof(float));
    if (!gram || !k.lost || !k.product || !k.error || !k.best || !k.limit) return FT_EMEM;
    const kn_mat g = {.type = &dt_f32, .data = gram, .rows = size, .cols = size};
    for (k.at = 0; k.at < in; k.at += size) {
        memset(gram, 0, (size_t)(size * size) * sizeof *gram);
        kn_gemm_tn(gram, size, x + k.at, in, size, x + k.at, in, size, n, NULL, 0);
        for (int i = 0; i < LIMITS; i++) {
            k.keep = 1.0f - (float)i / SHRINK;
            pool_run(clip_row, &k, out);
            kn_gemm_nn(k.product, size, k.lost, size, &g, out, NULL, false);
            pool_run(judge_row, &k, out);
        }
        pool_run(cut_row, &k, out);
    }
    arena_reset(a->b->mem, mark);
    return pool_failed() ? FT_EMEM : ft_stop();
}

static bool may_clip(const nn_site *s)
{
    return s->role != NN_Q && s->role != NN_K && s->role != NN_QKV;
}

/* --- a block ------------------------------------------------------------------------------------------------------------ */

typedef struct coding {
    const awq_cfg *cfg;
    cmp_linear *l;
    int64_t size;
} coding;

static void code_row(void *ctx, int64_t r, int thread)
{
    const coding *k = ctx;
    const cmp_codes *c = &k->l->codes;
    float *w = k->l->w;
    (void)thread;
    for (int64_t g = 0; g < c->groups; g++) {
        const int64_t at = r * c->groups + g, first = at * k->size;
        grid_of(k->cfg, w + first, k->size, &c->scale[at], &c->zero[at]);
        const float scale = cmp_scale(c->scale[at]);
        for (int64_t i = first; i < first + k->size; i++) {
            c->q[i] = (uint8_t)cmp_code(w[i], scale, c->zero[at], BITS);
            w[i] = cmp_value(scale, c->q[i], c->zero[at]);
        }
    }
}

/* What is lost of the product of the inputs as they were: columns without their scale, rows with theirs. */
static ft_status tell_loss(awq *a, cmp_linear *l, const shared *s, const float *h)
{
    const int64_t in = l->site->in, out = l->site->out, n = in * out;
    const float *was = before_of(a, l);
    float *lost = arena_raw(a->b->mem, (size_t)n * sizeof *lost);
    if (!lost) return FT_EMEM;
    for (int64_t i = 0; i < n; i++) lost[i] = s->scale ? l->w[i] / s->scale[i % in] : l->w[i];
    for (int k = 0; k < a->b->n_group; k++) {
        const shared *to = &a->s[k];
        const int64_t first = to->back == l ? out - to->g->in : out;
        for (int64_t r = first; r < out; r++)
            for (int64_t i = 0; i < in; i++) lost[r * in + i] *= to->scale[r - first];
    }
    kn_axpy(lost, -1.0f, was, n);
    FT_TRY(cmp_hessian_norm(h, was, out, in, &l->whole));
    return cmp_hessian_norm(h, lost, out, in, &l->lost);
}

static ft_status finish(awq *a, shared *s)
{
    const int64_t in = s->g->in;
    const size_t mark = arena_mark(a->b->mem);
    float *h = arena_raw(a->b->mem, (size_t)(in * in) * sizeof *h);
    if (!h) return FT_EMEM;
    cmp_hessian_whole(h, s->h, in);
    for (int64_t t = 0; s->scale && t < s->n_sample; t++) divide(s->sample + t * in, s->scale, in);
    for (int i = 0; i < s->g->n; i++) {
        cmp_linear *l = cmp_linear_of(a->b, &s->g->site[i]);
        if (!l->chosen) continue;
        if (a->cfg->apply_clip && may_clip(l->site))
            FT_TRY(clip_linear(a, l, s->sample, s->n_sample));
        coding k = {a->cfg, l, group_of(a, in)};
        pool_run(code_row, &k, l->site->out);
        FT_TRY(cmp_codes_check(l));
        FT_TRY(tell_loss(a, l, s, h));
    }
    arena_reset(a->b->mem, mark);
    return FT_OK;
}

static ft_status block(cmp_block *b, const void *cfg, void *state)
{
    awq a = {.b = b, .cfg = cfg};
    (void)state;
    a.s = room_for(&a, b->n_group, sizeof *a.s);
    a.before = room_for(&a, b->n, sizeof *a.before);
    if (!a.s || !a.before) return FT_EMEM;
    for (int i = 0; i < b->n; i++) {
        const size_t n = (size_t)(b->linear[i].site->out * b->linear[i].site->in);
        if (b->linear[i].chosen) FT_TRY(cmp_codes_open(b, &b->linear[i], BITS, a.cfg->group_size));
        a.before[i] = arena_raw(b->mem, n * sizeof(float));
        if (!a.before[i]) return FT_EMEM;
        memcpy(a.before[i], b->linear[i].w, n * sizeof(float));
    }
    FT_TRY(look(&a));
    for (int i = 0; i < b->n_group; i++) FT_TRY(search(&a, &a.s[i]));
    for (int i = 0; i < b->n_group; i++) FT_TRY(apply(&a, &a.s[i]));
    for (int i = 0; i < b->n_group; i++) FT_TRY(finish(&a, &a.s[i]));
    return FT_OK;
}

/* Of all groups H, means and samples; codes and values of all linears as they were; the inputs of a part and two of its outputs;
 * of one group H in f32, of one matrix what is lost of it. */
static size_t room(const cmp_block *b, const void *cfg)
{
    const cmp_walk *w = b->walk;
    const size_t hidden = (size_t)b->m->d.hidden_size;
    size_t all = ((size_t)w->tokens + 2 * (size_t)w->most) * hidden * sizeof(float), most = 0;
    (void)cfg;
    for (int i = 0; i < b->n_group; i++) {
        const size_t in = (size_t)b->group[i]->in;
        all += in * (in * sizeof(double) + (SAMPLES + 8) * sizeof(float));
        most = in * in * sizeof(float) > most ? in * in * sizeof(float) : most;
    }
    all += most;
    most = 0;
    for (int i = 0; i < b->n; i++) {
        const size_t n = (size_t)b->linear[i].site->out * (size_t)b->linear[i].site->in;
        all += n * (sizeof(float) + 1) + n / 2;
        most = 3 * n > most ? 3 * n : most;
    }
    return all + most * sizeof(float);
}

const cmp_method cmp_quantizer_awq = {
    .name = "awq",
    .help = "columns scaled by their inputs, weights clipped, then rounded",
    .paper = "Lin et al. 2023",
    .fields = fields,
    .cfg_size = sizeof(awq_cfg),
    .check = check,
    .calibrated = true,
    .floats = true,
    .writes = "awq",
    .packed = packed,
    .fits = fits,
    .room = room,
    .block = block,
};
