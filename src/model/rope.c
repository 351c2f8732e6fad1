/* rope.c – rotary frequencies and their scaling: default, linear, dynamic NTK, llama3, yarn (Peng et al. 2023), longrope (Ding
 * et al. 2024).
 *
 * Frequencies are computed in the order torch does it (f32 exponents, 1/base^e), angles in f32, so that long contexts
 * agree with transformers. Scaling is part of the tables; the kernels know only cos and sin. */
#include "model_private.h"

#include <math.h>
#include <string.h>

static float plain_wave(double theta, int i, int dims)
{
    float exponent = (float)(2 * i) / (float)dims;
    return (float)pow((double)(float)theta, (double)exponent);
}

static float plain_inv(double theta, int i, int dims)
{
    return 1.0f / plain_wave(theta, i, dims);
}

void rope_llama3_divisors(float *out, int half, int head_dim, double theta, double factor,
                          double low, double high, double original)
{
    for (int i = 0; i < half; i++) {
        double wave = 2.0 * M_PI / (double)plain_inv(theta, i, head_dim);
        if (wave > original / low)
            out[i] = (float)factor;
        else if (wave < original / high)
            out[i] = 1.0f;
        else {
            double smooth = (original / wave - low) / (high - low);
            out[i] = (float)(1.0 / ((1.0 - smooth) / factor + smooth));
        }
    }
}

typedef struct rope_keys {
    const js_doc *d;
    const cJSON *o; /* the scaling object, or NULL */
    double factor, original, max_position;
} rope_keys;

static ft_status llama3(model_rope *p, const rope_keys *k, double theta)
{
    double low, high;
    float divisor[MAX_ROPE_HALF];
    FT_TRY(js_get_num(k->d, k->o, "low_freq_factor", 1.0, &low));
    FT_TRY(js_get_num(k->d, k->o, "high_freq_factor", 4.0, &high));
    if (!(high > low))
        return js_fail(k->d, k->o, FT_EDATA, "high_freq_factor", "must be above low_freq_factor");
    rope_llama3_divisors(divisor, p->half, p->head_dim, theta, k->factor, low, high, k->original);
    for (int i = 0; i < p->half; i++) {
        /* transformers' expression in the middle band: (1−s)·inv/f + s·inv */
        p->inv[i] = (float)((double)p->inv[i] / (double)divisor[i]);
    }
    return FT_OK;
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

static ft_status yarn(model_rope *p, const rope_keys *k, double theta)
{
    double fast, slow, attention, mscale, mscale_all, factor = k->factor;
    bool truncate;
    int dims = 2 * p->half;
    FT_TRY(js_get_num(k->d, k->o, "beta_fast", 32.0, &fast));
    FT_TRY(js_get_num(k->d, k->o, "beta_slow", 1.0, &slow));
    FT_TRY(js_get_num(k->d, k->o, "attention_factor", 0.0, &attention));
    FT_TRY(js_get_num(k->d, k->o, "mscale", 0.0, &mscale));
    FT_TRY(js_get_num(k->d, k->o, "mscale_all_dim", 0.0, &mscale_all));
    FT_TRY(js_get_bool(k->d, k->o, "truncate", true, &truncate));
    if (!js_get(k->o, "factor") || cJSON_IsNull(js_get(k->o, "factor")))
        factor = k->max_position / k->original;
    double low = dims * log(k->original / (fast * 2.0 * M_PI)) / (2.0 * log(theta));
    double high = dims * log(k->original / (slow * 2.0 * M_PI)) / (2.0 * log(theta));
    if (truncate) {
        low = floor(low);
        high = ceil(high);
    }
    if (low < 0.0) low = 0.0;
    if (high > dims - 1) high = dims - 1;
    if (low == high) high += 0.001;
    for (int i = 0; i < p->half; i++) {
        float ramp = (float)(((double)i - low) / (high - low));
        ramp = ramp < 0.0f ? 0.0f : ramp > 1.0f ? 1.0f : ramp;
        float inv = p->inv[i], keep = 1.0f - ramp;
        p->inv[i] = inv / (float)factor * (1.0f - keep) + inv * keep;
    }
    if (attention == 0.0) {
        attention = mscale != 0.0 && mscale_all != 0.0
                        ? yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all)
                        : yarn_mscale(factor, 1.0);
    }
    p->mscale = (float)attention;
    return FT_OK;
}

static ft_status linear(model_rope *p, const rope_keys *k, double theta)
{
    (void)theta;
    for (int i = 0; i < p->half; i++) p->inv[i] /= (float)k->factor;
    return FT_OK;
}

/* Frequencies depend on the length of each sequence: rope_dynamic makes them per pass. */
static ft_status dynamic(model_rope *p, const rope_keys *k, double theta)
{
    (void)theta;
    p->dynamic_factor = (float)k->factor;
    return FT_OK;
}

static ft_status read_divisors(const js_doc *d, const cJSON *o, const char *key, int half,
                               float *out)
{
    const cJSON *list = js_get(o, key), *e;
    int i = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != half)
        return js_fail(d, list ? list : o, FT_EDATA, key,
                       "a list of %d numbers is needed, one for each frequency", half);
    cJSON_ArrayForEach(e, list)
    {
        out[i] = (float)e->valuedouble;
        if (!cJSON_IsNumber(e) || !(out[i] > 0) || !isfinite(out[i]))
            return js_fail(d, e, FT_EDATA, key, "entry %d is not a number above 0", i);
        i++;
    }
    return FT_OK;
}

ft_status rope_longrope_divisors(const js_doc *d, const cJSON *o, int half, float *out)
{
    float more[MAX_ROPE_HALF];
    FT_TRY(read_divisors(d, o, "short_factor", half, out));
    FT_TRY(read_divisors(d, o, "long_factor", half, more));
    if (memcmp(out, more, (size_t)half * sizeof *out) != 0)
        return js_fail(d, js_get(o, "long_factor"), FT_EDATA, "long_factor",
                       "differs from short_factor: frequencies that change with the length of a "
                       "sequence are not supported");
    return FT_OK;
}

/* Each frequency has a divisor of its own. */
static ft_status longrope(model_rope *p, const rope_keys *k, double theta)
{
    float divisor[MAX_ROPE_HALF];
    double attention, factor = k->factor;
    FT_TRY(rope_longrope_divisors(k->d, k->o, p->half, divisor));
    FT_TRY(js_get_num(k->d, k->o, "attention_factor", 0.0, &attention));
    for (int i = 0; i < p->half; i++)
        p->inv[i] = 1.0f / (divisor[i] * plain_wave(theta, i, p->head_dim));
    if (!js_get(k->o, "factor") || cJSON_IsNull(js_get(k->o, "factor")))
        factor = k->max_position / k->original;
    if (attention == 0.0)
        attention = factor <= 1.0 ? 1.0 : sqrt(1.0 + log(factor) / log(k->original));
    p->mscale = (float)attention;
    return FT_OK;
}

static const struct {
    const char *name;
    ft_status (*apply)(model_rope *p, const rope_keys *k, double theta);
} scalings[] = {{"linear", linear},
                {"dynamic", dynamic},
                {"llama3", llama3},
                {"yarn", yarn},
                {"longrope", longrope}};

ft_status rope_read(model *m, model_rope *p, int head_dim, const js_doc *d)
{
    const cJSON *config = d->root, *scaling = js_get(config, "rope_scaling");
    const char *type = "default";
    double theta, original, max_position = (double)m->d.max_position;
    rope_keys k = {.d = d, .factor = 1.0, .max_position = max_position};
    if (!cJSON_IsObject(scaling)) scaling = js_get(config, "rope_parameters");
    FT_TRY(js_get_num(d, config, "rope_theta", 10000.0, &theta));
    if (cJSON_IsObject(scaling)) {
        FT_TRY(js_get_num(d, scaling, "rope_theta", theta, &theta));
        FT_TRY(js_get_str(d, scaling, "type", type, &type));
        FT_TRY(js_get_str(d, scaling, "rope_type", type, &type));
        FT_TRY(js_get_num(d, scaling, "factor", 1.0, &k.factor));
        FT_TRY(js_get_num(d, config, "original_max_position_embeddings", max_position, &original));
        FT_TRY(js_get_num(d, scaling, "original_max_position_embeddings", original, &k.original));
        k.o = scaling;
    }
    p->head_dim = head_dim;
    if (p->head_dim % 2 != 0 || p->head_dim / 2 > MAX_ROPE_HALF)
        return js_fail(d, js_get(config, "head_dim"), FT_EDATA, "head_dim",
                       "%d does not fit rotary embedding", p->head_dim);
    if (!(theta > 1.0))
        return js_fail(d, js_get(config, "rope_theta"), FT_EDATA, "rope_theta", "must be above 1");
    if (k.o && (!(k.factor > 0.0) || !(k.original > 0.0)))
        return js_fail(d, k.o, FT_EDATA, "factor",
                       "factor and original_max_position_embeddings must be above 0");
    p->half = p->head_dim / 2;
    p->theta = (float)theta;
    p->mscale = 1.0f;
    p->inv = arena_get(m->mem, (size_t)p->half * sizeof(float));
    if (!p->inv) return FT_EMEM;
    for (int i = 0; i < p->half; i++) p->inv[i] = plain_inv(theta, i, p->head_dim);
    if (strcmp(type, "default") == 0) return FT_OK;
    for (size_t i = 0; i < FT_COUNT_OF(scalings); i++) {
        if (strcmp(scalings[i].name, type) == 0) return scalings[i].apply(p, &k, theta);
    }
    return js_fail(d, scaling, FT_EDATA, "rope_type",
                   "\"%s\" is not known; linear, dynamic, llama3, yarn and longrope are",
                   ft_shows(type));
}

static void table_row(float *cos_row, float *sin_row, const float *inv, int half, int64_t pos,
                      float mscale)
{
    for (int i = 0; i < half; i++) {
        float angle = (float)pos * inv[i];
        cos_row[i] = (float)cos((double)angle) * mscale;
        sin_row[i] = (float)sin((double)angle) * mscale;
    }
}

static ft_status tables(model *m, model_rope *p, int64_t rows)
{
    int half = p->half;
    if (rows <= p->rows) return FT_OK;
    rows = (rows + 255) / 256 * 256;
    float *c = arena_get(m->mem, (size_t)(rows * half) * sizeof(float));
    float *s = arena_get(m->mem, (size_t)(rows * half) * sizeof(float));
    if (!c || !s) return FT_EMEM;
    for (int64_t i = 0; i < rows; i++)
        table_row(c + i * half, s + i * half, p->inv, half, i, p->mscale);
    p->cos = c;
    p->sin = s;
    p->rows = rows;
    return FT_OK;
}

/* base' = base · (f·L/M − (f−1))^(r/(r−2)) for a sequence of L > M positions (M: max_position_embeddings). */
static ft_status own_tables(const model *m, const model_rope *p, nn_run *r, rope_view *v)
{
    ag_tape *t = r->t;
    int half = p->half, dims = 2 * half;
    float *c = ag_keep(t, (size_t)(r->tokens * half) * sizeof(float));
    float *s = ag_keep(t, (size_t)(r->tokens * half) * sizeof(float));
    int32_t *pos = ag_meta(t, (size_t)(r->tokens + 1) * sizeof *pos);
    float inv[MAX_ROPE_HALF];
    if (!c || !s || !pos) return FT_EMEM;
    int64_t row = 0;
    for (int q = 0; q < r->rows->n_seq && !t->dry; q++) {
        int64_t n = r->rows->len[q], length = n > 0 ? r->pos[row + n - 1] + 1 : 0,
                max = m->d.max_position;
        double f = (double)p->dynamic_factor, base = (double)p->theta;
        if (length > max)
            base *= pow(f * (double)length / (double)max - (f - 1.0), (double)dims / (dims - 2));
        for (int i = 0; i < half; i++) inv[i] = plain_inv(base, i, dims);
        for (int64_t i = 0; i < n; i++, row++) {
            table_row(c + row * half, s + row * half, inv, half, r->pos[row], p->mscale);
            pos[row] = (int32_t)row;
        }
    }
    *v = (rope_view){c, s, pos};
    return FT_OK;
}

ft_status rope_open(model *m, model_rope *p, nn_run *r, rope_view *v)
{
    int64_t last = 0;
    if (p->dynamic_factor > 0.0f) return own_tables(m, p, r, v);
    for (int64_t i = 0; i < r->tokens; i++) last = r->pos[i] > last ? r->pos[i] : last;
    FT_TRY(tables(m, p, last + 1));
    *v = (rope_view){p->cos, p->sin, r->pos};
    return FT_OK;
}
