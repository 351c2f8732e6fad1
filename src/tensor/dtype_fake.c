/* dtype_fake.c – "fake": numbers as whole codes with a step between them would give them back (Jacob et al. 2018).
 *
 *   value = step · min(max(round(w · (1 / step)), low), high)
 * The reciprocal is rounded first and the product then: torchao's order, on which ties depend. The loops of a level
 * (kern_fake.inc) give the same bits. */
#include "ft/tensor.h"

#include <math.h>

static float given_back(float w, float step, const dt_steps *s)
{
    const float code = nearbyintf(w * (1.0f / step));
    return step * (code < s->low ? s->low : code > s->high ? s->high : code); /* a NaN stays one */
}

static void read(float *dst, const dt_data *src, int64_t first, int64_t n)
{
    const dt_steps *s = src->side;
    dt_read(s->type, dst, &(dt_data){.data = src->data}, first, n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = first + i;
        const int64_t k =
            s->cols ? at / s->cols / s->group * s->cols + at % s->cols : at / s->group;
        dst[i] = given_back(dst[i], s->step[k], s);
    }
}

const dt_type dt_fake = {
    .name = "fake", .gguf_id = -1, .block = 1, .bytes = sizeof(float), .read = read};
