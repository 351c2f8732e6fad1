/* part_feed_forward.c – the two feed-forward layers: glu, down(act(gate x) ⊙ up x), and mlp, down(act(up x)). */
#include "save_private.h"

typedef struct ff_cfg {
    int64_t inner;
    const kn_act *act;
    bool bias;
} ff_cfg;

typedef struct ff {
    nn_group up, down; /* up: gate and up, or the one matrix of an mlp */
} ff;

/* clang-format off */
static const model_key keys[] = {
    {.name = "inner", .hf = "intermediate_size", .gguf = "feed_forward_length", .type = KEY_INT,
     .at = offsetof(ff_cfg, inner), .def = "0", .low = 1, .high = MAX_DIM, .flags = KEY_DERIVED | KEY_NEEDED},
    {.name = "act", .hf = "hidden_act", .type = KEY_ACT, .at = offsetof(ff_cfg, act), .def = "silu"},
    {.name = "ff_bias", .type = KEY_BOOL, .at = offsetof(ff_cfg, bias), .def = "false",
     .gguf_tensor = "blk.0.ffn_gate.bias"},
    {0}
};

enum { UP, DOWN, GATE };
static const model_slot slots[] = {
    [UP] = {"up", SLOT_LINEAR, NN_UP, offsetof(ff, up), 0},
    [DOWN] = {"down", SLOT_LINEAR, NN_DOWN, offsetof(ff, down), SLOT_RESIDUAL},
    [GATE] = {"gate", SLOT_LINEAR, NN_GATE, offsetof(ff, up), 0},
    {0}
};
/* clang-format on */

static ft_status read_cfg(model *m, const model_use *u, const js_doc *d)
{
    ff_cfg *c = u->cfg;
    (void)d;
    if (c->inner == 0) c->inner = 4 * m->d.hidden_size;
    return FT_OK;
}

static model_shape shape(const model *m, const void *cfg, int slot)
{
    const ff_cfg *c = cfg;
    int64_t e = m->d.hidden_size;
    bool down = slot == DOWN;
    return (model_shape){.out = down ? e : c->inner,
                         .in = down ? c->inner : e,
                         .bias = c->bias,
                         .bias_key = "ff_bias"};
}

static ft_status to_gguf(save_meta *k, const void *cfg, const js_doc *d)
{
    const ff_cfg *c = cfg;
    const model *m = k->p->m;
    model_key act = family_key(m->family, family_find_key(keys, "act"));
    (void)d;
    FT_CHECK(c->act == kn_act_by_name(act.def), FT_EDATA,
             "%s: GGUF has no key for another activation than %s; write a folder",
             ft_shows(m->path), act.def);
    return FT_OK;
}

static tn_tensor *glu(const model_call *c, tn_tensor *x, tn_tensor *add)
{
    const ff *p = c->part;
    tn_tensor *u = nn_linear(c->r, &p->up, x, NULL);
    tn_tensor *a = ag_glu(c->r->t, u, ((const ff_cfg *)c->cfg)->act, ag_fed_type(c->r->t));
    ag_drop(c->r->t, u);
    tn_tensor *y = nn_linear(c->r, &p->down, a, add);
    ag_drop(c->r->t, a);
    return y;
}

static tn_tensor *mlp(const model_call *c, tn_tensor *x, tn_tensor *add)
{
    const ff *p = c->part;
    tn_tensor *u = nn_linear(c->r, &p->up, x, NULL);
    tn_tensor *a = ag_act(c->r->t, u, ((const ff_cfg *)c->cfg)->act, ag_fed_type(c->r->t));
    ag_drop(c->r->t, u);
    tn_tensor *y = nn_linear(c->r, &p->down, a, add);
    ag_drop(c->r->t, a);
    return y;
}

static model_flop_count matrices(const model *m, const void *cfg, int n)
{
    return (model_flop_count){.weights = (double)n * (double)m->d.hidden_size *
                                         (double)((const ff_cfg *)cfg)->inner};
}

static model_flop_count glu_flop(const model *m, const void *cfg, double context)
{
    (void)context;
    return matrices(m, cfg, 3);
}

static model_flop_count mlp_flop(const model *m, const void *cfg, double context)
{
    (void)context;
    return matrices(m, cfg, 2);
}

#define BOTH                                                                                       \
    .cfg_size = sizeof(ff_cfg), .size = sizeof(ff), .keys = keys, .slots = slots,                  \
    .read = read_cfg, .shape = shape, .to_gguf = to_gguf
const model_part part_glu = {.name = "glu", BOTH, .forward = glu, .flop = glu_flop};
const model_part part_mlp = {.name = "mlp", BOTH, .forward = mlp, .flop = mlp_flop};
