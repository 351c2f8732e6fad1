/* dtype_k_pack.c – packing of ggml's super-blocks of 256: q2_k, q3_k, q4_k, q5_k, q6_k, to the bytes of llama.cpp's
 * quantize_row_*_ref.
 *
 * A group of 16 or 32 values gets the scale (and minimum) of least squared error, weighted, among those that a handful of
 * trial scales lead to: codes by the trial, then the best scale for these codes. The scales of the groups are then rounded to
 * multiples of one f16 number, and the codes are taken anew with what they became.
 *
 * The bytes hang on the order of f32 sums. Four groups lie side by side, a value of each in a vector, so that each group's
 * sums run in ggml's order and four of them at once. Nothing may be fused. */
#include "ft/tensor.h"
#include "dtype_bits.h"
#include "dtype_k.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline))
#define TINY 1e-15f /* a group or block below counts as zero */
enum { FOURS = QK / 4 };

typedef float four __attribute__((vector_size(16)));
typedef int32_t four_i __attribute__((vector_size(16)));

/* Of four groups of n values. Codes are whole numbers in floats. */
typedef struct quad {
    four scale, min; /* as found: a code c stands for scale · c − min */
    four by, low;    /* the codes found are round((x − low) · by) */
    four d, m;       /* as stored: d · c − m */
} quad;

/* A super-block: value i of groups 4 q … 4 q + 3 at [q n + i]. */
typedef struct block {
    int n; /* 32 or 16 values a group */
    four x[FOURS], code[FOURS];
    quad of[4];
} block;

INLINE four pick(four_i where, four a, four b)
{
    return (four)((where & (four_i)a) | (~where & (four_i)b));
}

INLINE four magnitude(four v)
{
    return (four)((four_i)v & 0x7fffffff);
}

INLINE four splat(float v)
{
    return (four){v, v, v, v};
}

INLINE four clamp(four v, float low, float high)
{
    v = pick(v > low, v, splat(low)); /* of a NaN too */
    return pick(v < high, v, splat(high));
}

/* The nearest whole number, ties to even (|v| ≤ 2²²), from low to high. */
INLINE four code_of(four v, float low, float high)
{
    return clamp(v + 0x1.8p23f - 0x1.8p23f, low, high);
}

INLINE void lay_out(block *b, const float *src, int n)
{
    b->n = n;
    for (int i = 0; i < FOURS; i++) {
        const float *x = src + i / n * 4 * n + i % n;
        b->x[i] = (four){x[0], x[n], x[2 * n], x[3 * n]};
    }
}

/* --- scale and minimum: codes 0 … top ------------------------------------------------------------------------------ */

/* Trial k of 0 … trials has the step (max − min) / (first + k / 10 + top). */
typedef struct trial {
    float top, first;
    int trials;
    bool absolute; /* errors count as they are, not squared */
} trial;

INLINE four affine_code(four x, four low, four by, trial t)
{
    return code_of(by * (x - low), 0, t.top);
}

INLINE four affine_error(const four *code, const four *x, const four *w, int n, four scale,
                         four min, trial t)
{
    four sum = {0};
    for (int i = 0; i < n; i++) {
        const four diff = scale * code[i] + min - x[i];
        sum += w[i] * (t.absolute ? magnitude(diff) : diff * diff);
    }
    return sum;
}

/* w [n]: weights of the values x. A trial starts from the minimum that was the best so far, so min is what is added until the
 * end. A group of one value, not above zero, has a range of 0: nothing is better there than the scale 0. */
INLINE void fit_affine(quad *q, const four *x, const four *w, int n, trial t)
{
    four code[32], max = x[0], sum_w = {0}, sum_x = {0}, min = x[0];
    for (int i = 0; i < n; i++) {
        min = pick(x[i] < min, x[i], min);
        max = pick(x[i] > max, x[i], max);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    q->min = q->low = clamp(min, -INFINITY, 0);
    q->by = t.top / (max - q->min);
    q->scale = 1.0f / q->by;
    for (int i = 0; i < n; i++) code[i] = affine_code(x[i], q->low, q->by, t);
    four error = affine_error(code, x, w, n, q->scale, q->min, t);
    for (int k = 0; k <= t.trials; k++) {
        const four low = q->min, by = (t.first + 0.1f * (float)k + t.top) / (max - low);
        four l = {0}, l2 = {0}, xl = {0};
        for (int i = 0; i < n; i++) {
            code[i] = affine_code(x[i], low, by, t);
            const four wc = w[i] * code[i];
            l += wc;
            l2 += wc * code[i];
            xl += wc * x[i];
        }
        const four det = sum_w * l2 - l * l;
        four scale = (sum_w * xl - sum_x * l) / det, least = (l2 * sum_x - l * xl) / det;
        scale = pick(least > 0, xl / l2, scale); /* a minimum is never above zero */
        least = pick(least > 0, splat(0), least);
        const four err = affine_error(code, x, w, n, scale, least, t);
        const four_i better = (det > 0) & (err < error);
        error = pick(better, err, error);
        q->by = pick(better, by, q->by);
        q->low = pick(better, low, q->low);
        q->scale = pick(better, scale, q->scale);
        q->min = pick(better, least, q->min);
    }
    q->min = -q->min;
}

/* --- scale alone: codes −top … top − 1, weights x² --------------------------------------------------------------------- */

/* The value of largest magnitude in each group, with its sign; the first of several. */
INLINE four largest(const four *x, int n)
{
    four max = {0};
    for (int i = 0; i < n; i++) max = pick(magnitude(x[i]) > magnitude(max), x[i], max);
    return max;
}

/* Σ w x c and Σ w c² of the codes by `by`. */
INLINE void sum_codes(four *code, const four *x, int n, four by, float top, four *xl, four *l2)
{
    four a = {0}, b = {0};
    for (int i = 0; i < n; i++) {
        const four c = code_of(by * x[i], -top, top - 1), w = x[i] * x[i];
        code[i] = c;
        a += w * x[i] * c;
        b += w * c * c;
    }
    *xl = a;
    *l2 = b;
}

/* Nineteen steps around that of the largest value. */
INLINE void fit_scale(quad *q, const four *x, int n, float top)
{
    four code[32], xl, l2;
    const four max = largest(x, n);
    q->low = splat(0);
    q->by = -top / max;
    sum_codes(code, x, n, q->by, top, &xl, &l2);
    q->scale = pick(l2 != 0, xl / l2, splat(0));
    four best = q->scale * xl;
    for (int k = -9; k <= 9; k++) {
        if (k == 0) continue;
        const four by = -(top + 0.1f * (float)k) / max;
        sum_codes(code, x, n, by, top, &xl, &l2);
        const four scale = xl / l2;
        const four_i better = (l2 > 0) & (xl * xl > best * l2);
        best = pick(better, scale * xl, best);
        q->scale = pick(better, scale, q->scale);
        q->by = pick(better, by, q->by);
    }
    q->scale = pick(magnitude(max) < TINY, splat(0), q->scale);
}

/* Of few codes: each in turn moves to where the scale would have it, while that is better. Those found stay in code. */
INLINE void fit_by_turns(quad *q, four *code, const four *x, int n, float top)
{
    four xl, l2;
    const four max = largest(x, n);
    const four_i zero = magnitude(max) < TINY;
    sum_codes(code, x, n, -top / max, top, &xl, &l2);
    for (int pass = 0; pass < 5; pass++) {
        four_i moved = {0};
        for (int i = 0; i < n; i++) {
            const four c = code[i], w = x[i] * x[i], wx = w * x[i];
            const four rest = xl - wx * c, rest2 = l2 - w * c * c;
            const four to = code_of(x[i] * rest2 / rest, -top, top - 1);
            const four with = rest + wx * to, with2 = rest2 + w * to * to;
            const four_i better =
                (rest > 0) & (to != c) & (with2 > 0) & (with * with * l2 > xl * xl * with2);
            code[i] = pick(better, to, c);
            xl = pick(better, with, xl);
            l2 = pick(better, with2, l2);
            moved |= better;
        }
        if (!(moved[0] | moved[1] | moved[2] | moved[3])) break;
    }
    q->scale = pick(~zero & (l2 > 0), xl / l2, splat(0));
    for (int i = 0; i < n; i++) code[i] = pick(zero, splat(-top), code[i]);
}

/* --- stored scales, and codes by them ----------------------------------------------------------------------------------- */

/* The largest of the scales or minima, 0 where none is positive. */
static float most(const float *v, int n)
{
    float max = 0;
    for (int i = 0; i < n; i++)
        if (v[i] > max) max = v[i];
    return max;
}

/* The one of largest magnitude, with its sign. */
static float most_either(const float *v, int n)
{
    float max = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(v[i]) > fabsf(max)) max = v[i];
    return max;
}

static int whole(float v, float low, float high)
{
    return (int)code_of(splat(v), low, high)[0];
}

/* v as a multiple of max / top, a byte as ggml has it. */
static int multiple(float v, float max, float top)
{
    return max > 0 ? (uint8_t)whole(top / max * v, -255, 255) : 0;
}

/* The f16 nearest to v into the block, and what it is. */
static float put_scale(uint8_t at[2], float v)
{
    const uint16_t h = dt_to_f16(v);
    dt_put16(at, h);
    return dt_from_f16(h);
}

/* Group g's scales found and stored. */
#define OF(b, name, g) ((b)->of[(g) / 4].name[(g) % 4])

INLINE void list_scales(const block *b, float *scale, float *min)
{
    for (int g = 0; g < QK / b->n; g++) {
        scale[g] = OF(b, scale, g);
        if (min) min[g] = OF(b, min, g);
    }
}

/* The codes that a search found. */
INLINE void found_codes(block *b, float low, float high)
{
    for (int i = 0; i < FOURS; i++) {
        const quad *q = &b->of[i / b->n];
        b->code[i] = code_of(q->by * (b->x[i] - q->low), low, high);
    }
}

/* The codes low … high by d and m, as bytes in the order of the values, counted from `low`. Where d is 0 those of the search
 * stay, which count for nothing, and are ggml's. */
INLINE void take_codes(uint8_t out[QK], block *b, float low, float high)
{
    const int n = b->n;
    for (int i = 0; i < FOURS; i++) {
        const quad *q = &b->of[i / n];
        const four c = code_of((b->x[i] + q->m) / q->d, low, high);
        const four code = pick(q->d != 0, c, b->code[i]) - low;
        for (int k = 0; k < 4; k++) out[i / n * 4 * n + k * n + i % n] = (uint8_t)(int)code[k];
    }
}

/* Four codes of two bits a byte, of values 32 apart. */
INLINE void put_pairs(uint8_t qs[QK / 4], const uint8_t code[QK])
{
    for (int half = 0; half < 2; half++, code += QK / 2, qs += 32)
        for (int l = 0; l < 32; l++)
            qs[l] = (uint8_t)((code[l] & 3) | (code[l + 32] & 3) << 2 | (code[l + 64] & 3) << 4 |
                              (code[l + 96] & 3) << 6);
}

/* Two codes of four bits a byte, of values `apart` from each other. */
INLINE void put_nibbles(uint8_t qs[QK / 2], const uint8_t code[QK], int apart)
{
    for (int part = 0; part < QK / 2; part += apart, code += 2 * apart, qs += apart)
        for (int l = 0; l < apart; l++)
            qs[l] = (uint8_t)((code[l] & 15) | (code[l + apart] & 15) << 4);
}

/* Bit `bit` of the codes: that of value 32 g + l is bit g of byte l. */
INLINE void put_bits(uint8_t out[QK / 8], const uint8_t code[QK], int bit)
{
    memset(out, 0, QK / 8);
    for (int i = 0; i < QK; i++)
        out[i % 32] = (uint8_t)(out[i % 32] | (code[i] >> bit & 1) << (i / 32));
}

/* --- the formats ------------------------------------------------------------------------------------------------------------ */

static void pack_q2(q2_k_block *out, const float *src)
{
    enum { N = 16, GROUPS = QK / N };
    block b;
    uint8_t code[QK];
    float scale[GROUPS], min[GROUPS];
    lay_out(&b, src, N);
    for (int q = 0; q < GROUPS / 4; q++) {
        four w[N];
        for (int i = 0; i < N; i++) w[i] = magnitude(b.x[q * N + i]);
        fit_affine(&b.of[q], b.x + q * N, w, N, (trial){3, -0.5f, 15, true});
    }
    list_scales(&b, scale, min);
    const float top = most(scale, GROUPS), top_min = most(min, GROUPS);
    const float d = put_scale(out->d, top / 15), dmin = put_scale(out->dmin, top_min / 15);
    for (int g = 0; g < GROUPS; g++) {
        out->scales[g] =
            (uint8_t)(multiple(scale[g], top, 15) | multiple(min[g], top_min, 15) << 4);
        OF(&b, d, g) = d * (float)(out->scales[g] & 15);
        OF(&b, m, g) = dmin * (float)(out->scales[g] >> 4);
    }
    found_codes(&b, 0, 3);
    take_codes(code, &b, 0, 3);
    put_pairs(out->qs, code);
}

static void pack_q3(q3_k_block *out, const float *src)
{
    enum { N = 16, GROUPS = QK / N };
    block b;
    uint8_t code[QK];
    float scale[GROUPS];
    lay_out(&b, src, N);
    for (int q = 0; q < GROUPS / 4; q++) fit_by_turns(&b.of[q], b.code + q * N, b.x + q * N, N, 4);
    list_scales(&b, scale, NULL);
    const float top = most_either(scale, GROUPS), by = -32.0f / top;
    const float d = put_scale(out->d, top != 0 ? 1 / by : 0);
    memset(out->scales, 0, sizeof out->scales);
    for (int g = 0; g < GROUPS; g++) {
        const int s = top != 0 ? whole(by * scale[g], -32, 31) + 32 : 0;
        uint8_t *low = out->scales + g % 8, *high = out->scales + 8 + g % 4;
        *low = (uint8_t)(*low | (s & 15) << (g < 8 ? 0 : 4));
        *high = (uint8_t)(*high | s >> 4 << (2 * (g / 4)));
        OF(&b, d, g) = d * (float)(s - 32);
        OF(&b, m, g) = 0;
    }
    take_codes(code, &b, -4, 3);
    put_pairs(out->qs, code);
    put_bits(out->hmask, code, 2);
}

/* Scales and minima of eight groups in six bits each, and b's d and m by them. */
static void put_eight_scales(block *b, uint8_t s[12], uint8_t d16[2], uint8_t m16[2])
{
    enum { GROUPS = 8 };
    float scale[GROUPS], min[GROUPS];
    list_scales(b, scale, min);
    const float top = most(scale, GROUPS), top_min = most(min, GROUPS);
    const float d = put_scale(d16, top / 63), dmin = put_scale(m16, top_min / 63);
    memset(s, 0, 12);
    for (int g = 0; g < GROUPS; g++) {
        int a = multiple(scale[g], top, 63), m = multiple(min[g], top_min, 63);
        if (a > 63) a = 63;
        if (m > 63) m = 63;
        if (g < 4) {
            s[g] = (uint8_t)a;
            s[g + 4] = (uint8_t)m;
        } else {
            s[g + 4] = (uint8_t)((a & 15) | (m & 15) << 4);
            s[g - 4] = (uint8_t)(s[g - 4] | a >> 4 << 6);
            s[g] = (uint8_t)(s[g] | m >> 4 << 6);
        }
        OF(b, d, g) = d * (float)a;
        OF(b, m, g) = dmin * (float)m;
    }
}

/* Eight groups of 32; a value weighs its magnitude and the group's root mean square. */
INLINE void pack_eight(uint8_t code[QK], uint8_t scales[12], uint8_t d[2], uint8_t dmin[2],
                       const float *src, trial t)
{
    enum { N = 32 };
    block b;
    lay_out(&b, src, N);
    for (int q = 0; q < 2; q++) {
        const four *x = b.x + q * N;
        four w[N], mean = {0};
        for (int i = 0; i < N; i++) mean += x[i] * x[i];
        for (int k = 0; k < 4; k++) mean[k] = sqrtf(mean[k] / N);
        for (int i = 0; i < N; i++) w[i] = mean + magnitude(x[i]);
        fit_affine(&b.of[q], x, w, N, t);
    }
    put_eight_scales(&b, scales, d, dmin);
    found_codes(&b, 0, t.top);
    take_codes(code, &b, 0, t.top);
}

static void pack_q4(q4_k_block *out, const float *src)
{
    uint8_t code[QK];
    pack_eight(code, out->scales, out->d, out->dmin, src, (trial){15, -1.0f, 20, false});
    put_nibbles(out->qs, code, 32);
}

static void pack_q5(q5_k_block *out, const float *src)
{
    uint8_t code[QK];
    pack_eight(code, out->scales, out->d, out->dmin, src, (trial){31, -0.5f, 15, false});
    put_nibbles(out->qs, code, 32);
    put_bits(out->qh, code, 4);
}

static void pack_q6(q6_k_block *out, const float *src)
{
    enum { N = 16, GROUPS = QK / N };
    block b;
    uint8_t code[QK], high[QK];
    float scale[GROUPS];
    memset(out, 0, sizeof *out);
    lay_out(&b, src, N);
    for (int q = 0; q < GROUPS / 4; q++) fit_scale(&b.of[q], b.x + q * N, N, 32);
    list_scales(&b, scale, NULL);
    const float top = most_either(scale, GROUPS), by = -128.0f / top;
    if (fabsf(top) < TINY) return;
    const float d = put_scale(out->d, 1 / by);
    for (int g = 0; g < GROUPS; g++) {
        out->scales[g] = (int8_t)whole(by * scale[g], -128, 127);
        OF(&b, d, g) = d * (float)out->scales[g];
        OF(&b, m, g) = 0;
    }
    found_codes(&b, -32, 31);
    for (int i = 0; i < FOURS; i++) /* ggml's codes of a group of zeros */
        b.code[i] = pick(b.of[i / N].scale == 0, splat(-32), b.code[i]);
    take_codes(code, &b, -32, 31);
    put_nibbles(out->ql, code, 64);
    for (int i = 0; i < QK; i++) high[i] = code[i] >> 4;
    put_pairs(out->qh, high);
}

/* NaN, infinities, and what is far beyond all of these formats, where sums would overflow. */
static bool is_beyond(const float *src)
{
    int bad = 0;
    for (int i = 0; i < QK; i++) bad |= !(fabsf(src[i]) < 0x1p40f);
    return bad;
}

/* The block becomes NaN, for all to see. */
static void poison(void *out, size_t bytes, uint8_t d[2])
{
    memset(out, 0, bytes);
    dt_put16(d, 0x7e00);
}

#define PACK(name)                                                                                 \
    void dt_##name##_k_pack(void *dst, const float *src, int64_t n)                                \
    {                                                                                              \
        name##_k_block *out = dst;                                                                 \
        for (int64_t i = 0; i < n / QK; i++, out++, src += QK) {                                   \
            if (is_beyond(src))                                                                    \
                poison(out, sizeof *out, out->d);                                                  \
            else                                                                                   \
                pack_##name(out, src);                                                             \
        }                                                                                          \
    }
PACK(q2)
PACK(q3)
PACK(q4)
PACK(q5)
PACK(q6)
