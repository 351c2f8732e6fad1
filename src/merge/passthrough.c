/* passthrough.c – one model's tensor, times a scale: layers of several models stacked by slices. */
#include "merge_private.h"

enum { SCALE };
static const merge_param params[] = {
    [SCALE] = {"scale", false, MERGE_EACH, 1, "factor of the tensor"}, {0}};

static void mix(const merge_tensor *t, const merge_rows *r, float *y)
{
    const float s = (float)t->in[0].value[SCALE];
    for (int64_t k = 0; k < r->rows * r->cols; k++) y[k] = s == 1 ? r->x[0][k] : s * r->x[0][k];
}

const merge_method merge_passthrough = {
    .name = "passthrough",
    .help = "layers of one model after another, as they are",
    .params = params,
    .base = MERGE_NO_BASE,
    .least = 1,
    .most = 1,
    .mix = mix,
};
