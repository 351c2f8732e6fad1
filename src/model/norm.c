/* norm.c – the norms of the frame: before every part and before the head. */
#include "part.h"

static tn_tensor *rms(nn_run *r, const model_norm *n, tn_tensor *x, float eps, const dt_type *type)
{
    return ag_rmsnorm(r->t, x, nn_value(r, n->w), eps, type);
}

static tn_tensor *layer(nn_run *r, const model_norm *n, tn_tensor *x, float eps,
                        const dt_type *type)
{
    return ag_layernorm(r->t, x, nn_value(r, n->w), nn_value(r, n->b), eps, type);
}

const model_norm_rule norm_rms = {.gguf_eps = "attention.layer_norm_rms_epsilon", .forward = rms};
const model_norm_rule norm_layer = {
    .bias = true, .gguf_eps = "attention.layer_norm_epsilon", .forward = layer};
