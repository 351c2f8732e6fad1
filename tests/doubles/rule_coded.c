/* rule_coded.c – an update rule of the tests whose state lies in codes: momentum in 8 bits, v = 0.9 v + g, w −= lr (v + decay w).
 * A block is 256 values of one tensor, with its largest magnitude beside it, as 8-bit optimizers have them. */
#include "ft/optim.h"

#include <math.h>

enum { BLOCK = 256 };

typedef struct coded_cfg {
    double momentum;
} coded_cfg;

static const cfg_field fields[] = {
    {.key = "coded_momentum",
     .type = CFG_FLOAT,
     .offset = offsetof(coded_cfg, momentum),
     .def = "0.9",
     .low = 0,
     .high = 1,
     .help = "share of the velocity that stays"},
    CFG_END,
};

static int states(const void *cfg, const tn_tensor *t, opt_state out[OPT_MAX_STATES])
{
    int64_t n = tn_count(t);
    (void)cfg;
    out[0] = (opt_state){"codes", dt_by_name("u8"), 1, {n}};
    out[1] = (opt_state){"absmax", &dt_f32, 1, {(n + BLOCK - 1) / BLOCK}};
    return 2;
}

/* One block: codes are 128 + 127 v/absmax, rounded; 0 is a block that was never written. */
static void update_block(const opt_view *v, const opt_hyper *h, int64_t block)
{
    const coded_cfg *cfg = h->cfg;
    int64_t first = block * BLOCK, n = v->n - first < BLOCK ? v->n - first : BLOCK;
    uint8_t *code = (uint8_t *)v->state[0] + first;
    float *absmax = (float *)v->state[1] + block, velocity[BLOCK], most = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        float old = code[i] ? *absmax * (float)(code[i] - 128) / 127.0f : 0.0f;
        velocity[i] = (float)cfg->momentum * old + (float)h->gscale * v->g[first + i];
        most = fmaxf(most, fabsf(velocity[i]));
    }
    for (int64_t i = 0; i < n; i++) {
        float w = v->w[first + i];
        v->w[first + i] = w - (float)h->lr * (velocity[i] + (float)h->decay * w);
        code[i] = (uint8_t)(128.0f + (most > 0 ? roundf(127.0f * velocity[i] / most) : 0.0f));
    }
    *absmax = most;
}

static void update(const opt_view *v, const opt_hyper *h)
{
    for (int64_t block = 0; block * BLOCK < v->n; block++) update_block(v, h, block);
}

extern const opt_rule opt_coded;
const opt_rule opt_coded = {
    .name = "coded",
    .help = "momentum in 8 bits (tests)",
    .fields = fields,
    .cfg_size = sizeof(coded_cfg),
    .states = states,
    .update = update,
};
