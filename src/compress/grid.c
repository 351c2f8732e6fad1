/* grid.c – whole codes of a group of weights, as GPTQ's reference quantiser has them (Frantar et al. 2022; its quant.py):
 *
 *   low = min(w, 0), high = max(w, 0); sym: high = max(|low|, high), low = −high
 *   scale = (high − low) / (2^bits − 1), zero = 2^(bits−1) or, not sym, round(−low / scale)
 *   q = clamp(round(w / scale) + zero, 0, 2^bits − 1), value scale · (q − zero)
 *
 * The scale is rounded to f16 before codes are taken, as it is in the file. Rounding is to even. In the reference low stays 0 in a
 * symmetric group without a negative weight, whose scale then is half as large and whose upper half is clamped: `one_sided`, for
 * gptq alone, whose files are the reference's. */
#include <math.h>
#include <string.h>

#include "compress_private.h"

enum { SMALLEST_F16 = 1 }; /* 2⁻²⁴ */

float cmp_scale(uint16_t scale)
{
    float f;
    dt_f16.unpack(&f, &scale, 1);
    return f;
}

void cmp_grid_of(const cmp_grid *g, const float *w, int64_t n, uint16_t *scale, uint8_t *zero)
{
    const int most = (1 << g->bits) - 1;
    float low = 0.0f, high = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    if (g->sym) {
        high = -low > high ? -low : high;
        low = low < 0.0f || !g->one_sided ? -high : low;
    }
    if (low == 0.0f && high == 0.0f) {
        low = -1.0f;
        high = 1.0f;
    }
    const float step = (high - low) / (float)most;
    const int middle = (most + 1) / 2;
    const float at = g->sym ? (float)middle : rintf(-low / step);
    dt_f16.pack(scale, &step, 1);
    if (*scale == 0) *scale = SMALLEST_F16;
    *zero = (uint8_t)(at < 0.0f ? 0.0f : at > (float)most ? (float)most : at);
    if (g->least_one && *zero == 0) *zero = 1;
}

int cmp_code(float w, float scale, int zero, int bits)
{
    const float most = (float)((1 << bits) - 1), q = rintf(w / scale) + (float)zero;
    return (int)(q > 0.0f ? (q < most ? q : most) : 0.0f); /* NaN: 0 */
}

ft_status cmp_codes_open(cmp_block *b, cmp_linear *l, int bits, int64_t group_size)
{
    const int64_t in = l->site->in, out = l->site->out;
    const int64_t groups = group_size > 0 ? in / group_size : 1;
    l->codes = (cmp_codes){.bits = bits,
                           .groups = groups,
                           .q = arena_get(b->mem, (size_t)(out * in)),
                           .scale = arena_get(b->mem, (size_t)(out * groups) * sizeof(uint16_t)),
                           .zero = arena_get(b->mem, (size_t)(out * groups)),
                           .g_idx = arena_get(b->mem, (size_t)in * sizeof(int32_t))};
    const cmp_codes *c = &l->codes;
    if (!c->q || !c->scale || !c->zero || !c->g_idx) return FT_EMEM;
    for (int64_t i = 0; i < in; i++) c->g_idx[i] = (int32_t)(i / (in / groups));
    return FT_OK;
}

ft_status cmp_codes_check(const cmp_linear *l)
{
    const cmp_codes *c = &l->codes;
    const int64_t at = dt_find_nonfinite(&dt_f16, c->scale, l->site->out * c->groups);
    FT_CHECK(at < 0, FT_EDIVERGED,
             "\"%s\": the scale of group %lld of output %lld is beyond the range of f16",
             l->site->w->name, (long long)(at % c->groups), (long long)(at / c->groups));
    return FT_OK;
}
