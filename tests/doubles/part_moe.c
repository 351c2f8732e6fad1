/* part_moe.c – a block part of the tests with its family: a router sends each token to the best k of a layer's experts,
 *
 *   f(x) = rmsnorm(Σ_e w_e(x) · down_e(act(gate_e x) ⊙ up_e x)),   w = softmax of the k largest router logits,
 *
 * beside layers of another kind, whose two parts read the same input. What it shows: rows picked per expert, names with
 * %e, one tensor of all experts in a GGUF, layer_types, a parameter without ".weight" that starts at a value of its own. */
#include "doubles.h"
#include "model/part.h"

#include <math.h>
#include <string.h>

/* --- an operation: the k largest of each row, softmax over them, 0 elsewhere -------------------------------------- */
enum { MAX_EXPERTS_USED = 8 };

static void best_k(const float *x, int64_t n, int k, int64_t best[MAX_EXPERTS_USED])
{
    for (int i = 0; i < k; i++) {
        best[i] = -1;
        for (int64_t e = 0; e < n; e++) {
            bool taken = false;
            for (int j = 0; j < i; j++) taken = taken || best[j] == e;
            if (!taken && (best[i] < 0 || x[e] > x[best[i]])) best[i] = e;
        }
    }
}

static void route_forward(ag_tape *t, ag_node *n)
{
    const int *k = n->attr;
    int64_t cols = tn_cols(n->out), best[MAX_EXPERTS_USED];
    if (t->dry) return;
    memset(n->out->data, 0, (size_t)tn_count(n->out) * sizeof(float));
    for (int64_t r = 0; r < tn_rows(n->out); r++) {
        const float *x = tn_f32(n->in[0]) + r * cols;
        float *y = tn_f32(n->out) + r * cols, sum = 0.0f;
        best_k(x, cols, *k, best);
        for (int i = 0; i < *k; i++) sum += y[best[i]] = expf(x[best[i]] - x[best[0]]);
        for (int i = 0; i < *k; i++) y[best[i]] /= sum;
    }
}

static void route_backward(ag_tape *t, ag_node *n)
{
    float *dx = ag_grad(t, n->in[0]);
    int64_t cols = tn_cols(n->out);
    for (int64_t r = 0; dx && r < tn_rows(n->out); r++) {
        const float *y = tn_f32(n->out) + r * cols, *dy = n->out->grad + r * cols;
        float sum = 0.0f;
        for (int64_t c = 0; c < cols; c++) sum += y[c] * dy[c];
        for (int64_t c = 0; c < cols; c++) dx[r * cols + c] += y[c] * (dy[c] - sum);
    }
}

const ag_op ag_op_route = {.name = "route", .forward = route_forward, .backward = route_backward};

static tn_tensor *route(ag_tape *t, tn_tensor *x, int k)
{
    int *attr = ag_meta(t, sizeof *attr);
    if (!attr) return x;
    *attr = k;
    return ag_call(t, &ag_op_route, ag_new(t, tn_rows(x), tn_cols(x)), attr, 1, &x);
}

/* --- the part ------------------------------------------------------------------------------------------------------- */
typedef struct moe_cfg {
    int64_t experts, used, inner;
    const kn_act *act;
} moe_cfg;

typedef struct moe {
    nn_group router, *up, *down; /* of each expert; up: gate and up */
    nn_param *gain;
} moe;

/* clang-format off */
static const model_key keys[] = {
    {.name = "experts", .hf = "num_experts", .gguf = "expert_count", .type = KEY_INT, .at = offsetof(moe_cfg, experts),
     .def = "8", .low = 1, .high = 64},
    {.name = "experts_used", .hf = "num_experts_per_tok", .gguf = "expert_used_count", .type = KEY_INT,
     .at = offsetof(moe_cfg, used), .def = "2", .low = 1, .high = MAX_EXPERTS_USED},
    {.name = "expert_inner", .hf = "moe_intermediate_size", .gguf = "expert_feed_forward_length", .type = KEY_INT,
     .at = offsetof(moe_cfg, inner), .def = "64", .low = 1, .high = 4096},
    {.name = "act", .hf = "hidden_act", .type = KEY_ACT, .at = offsetof(moe_cfg, act), .def = "silu"},
    {0}
};
enum { ROUTER, GATE, UP, DOWN, GAIN };
static const model_slot slots[] = {
    [ROUTER] = {"router", SLOT_LINEAR, NN_LINEAR, offsetof(moe, router), SLOT_F32},
    [GATE] = {"gate", SLOT_LINEAR, NN_GATE, offsetof(moe, up), 0},
    [UP] = {"up", SLOT_LINEAR, NN_UP, offsetof(moe, up), 0},
    [DOWN] = {"down", SLOT_LINEAR, NN_DOWN, offsetof(moe, down), SLOT_RESIDUAL},
    [GAIN] = {"gain", SLOT_PARAM, NN_NORM, offsetof(moe, gain), SLOT_BARE},
    {0}
};
static const model_name names[] = {
    { "embed",            "model.embed_tokens",                         "token_embd" },
    { "attention.q",      "model.layers.%d.self_attn.q_proj",           "blk.%d.attn_q" },
    { "attention.k",      "model.layers.%d.self_attn.k_proj",           "blk.%d.attn_k" },
    { "attention.v",      "model.layers.%d.self_attn.v_proj",           "blk.%d.attn_v" },
    { "attention.o",      "model.layers.%d.self_attn.o_proj",           "blk.%d.attn_output" },
    { "moe.router",       "model.layers.%d.mlp.router",                 "blk.%d.ffn_gate_inp" },
    { "moe.gate",         "model.layers.%d.mlp.experts.%e.gate_proj",   "blk.%d.ffn_gate_exps" },
    { "moe.up",           "model.layers.%d.mlp.experts.%e.up_proj",     "blk.%d.ffn_up_exps" },
    { "moe.down",         "model.layers.%d.mlp.experts.%e.down_proj",   "blk.%d.ffn_down.%e" },
    { "moe.gain",         "model.layers.%d.mlp.gain",                   "blk.%d.ffn_gain" },
    { "glu.gate",         "model.layers.%d.mlp.gate_proj",              "blk.%d.ffn_gate" },
    { "glu.up",           "model.layers.%d.mlp.up_proj",                "blk.%d.ffn_up" },
    { "glu.down",         "model.layers.%d.mlp.down_proj",              "blk.%d.ffn_down" },
    { "norm1",            "model.layers.%d.input_layernorm",            "blk.%d.attn_norm" },
    { "norm2",            "model.layers.%d.post_attention_layernorm",   "blk.%d.ffn_norm" },
    { "norm",             "model.norm",                                 "output_norm" },
    { "head",             "lm_head",                                    "output" },
    { 0 }
};
/* clang-format on */

static ft_status read_cfg(model *m, const model_use *u, const js_doc *d)
{
    const moe_cfg *c = u->cfg;
    (void)m;
    if (c->used <= c->experts) return FT_OK;
    return js_fail(d, js_get(d->root, "num_experts_per_tok"), FT_EDATA, "num_experts_per_tok",
                   "%lld of %lld experts", (long long)c->used, (long long)c->experts);
}

static model_shape shape(const model *m, const void *cfg, int slot)
{
    const moe_cfg *c = cfg;
    int64_t e = m->d.hidden_size;
    int n = (int)c->experts;
    const model_shape shapes[] = {
        [ROUTER] = {.out = n, .in = e},
        [GATE] = {.out = c->inner, .in = e, .experts = n},
        [UP] = {.out = c->inner, .in = e, .experts = n},
        [DOWN] = {.out = e, .in = c->inner, .experts = n},
        [GAIN] = {.in = e},
    };
    return shapes[slot];
}

static bool init(const void *cfg, int slot, float *w, int64_t n, uint64_t key)
{
    (void)cfg;
    (void)key;
    for (int64_t i = 0; slot == GAIN && i < n; i++) w[i] = 0.5f;
    return slot == GAIN;
}

/* Rows that the router sends to expert e; a dry pass cannot know them and takes their share. */
static int64_t rows_of(nn_run *r, const tn_tensor *g, int64_t e, int64_t share, int64_t **out)
{
    int64_t n = 0, cols = tn_cols(g), *row = ag_meta(r->t, (size_t)tn_rows(g) * sizeof *row);
    *out = row;
    for (int64_t i = 0; row && i < tn_rows(g); i++)
        if (r->t->dry ? i < share : tn_f32(g)[i * cols + e] > 0.0f) row[n++] = i;
    return n;
}

static tn_tensor *expert(const model_call *c, tn_tensor *x, tn_tensor *g, int64_t e, tn_tensor *y)
{
    nn_run *r = c->r;
    const moe *p = c->part;
    const moe_cfg *cfg = c->cfg;
    int64_t *row, share = (tn_rows(x) * cfg->used + cfg->experts - 1) / cfg->experts;
    int64_t n = rows_of(r, g, e, share, &row);
    if (n == 0 || r->t->status != FT_OK) return y;
    const ag_rows *all = r->t->rows, *picked;
    tn_tensor *xe = ag_gather_rows(r->t, x, row, n), *ge = ag_gather_rows(r->t, g, row, n);
    picked = ag_pick_rows(r->t, row, n);
    ag_set_rows(r->t, picked);
    tn_tensor *u = ag_glu(r->t, nn_linear(r, &p->up[e], xe, NULL), cfg->act, &dt_f32);
    u = op_weigh(r->t, nn_linear(r, &p->down[e], u, NULL), ge, e);
    ag_set_rows(r->t, all);
    return ag_scatter_rows(r->t, y, u, row);
}

static tn_tensor *forward(const model_call *c, tn_tensor *x, tn_tensor *add)
{
    nn_run *r = c->r;
    const moe *p = c->part;
    const moe_cfg *cfg = c->cfg;
    tn_tensor *g = route(r->t, nn_linear(r, &p->router, x, NULL), (int)cfg->used);
    tn_tensor *y = ag_scale(r->t, x, 0.0f);
    for (int64_t e = 0; e < cfg->experts; e++) y = expert(c, x, g, e, y);
    y = ag_rmsnorm(r->t, y, nn_value(r, p->gain), 1e-6f, &dt_f32);
    return add ? ag_add(r->t, add, y) : y;
}

static model_flop_count flop(const model *m, const void *cfg, double context)
{
    const moe_cfg *c = cfg;
    double e = (double)m->d.hidden_size;
    (void)context;
    return (model_flop_count){.weights = e * (double)c->experts +
                                         3 * e * (double)c->inner * (double)c->used};
}

const model_part part_moe = {
    .name = "moe",
    .cfg_size = sizeof(moe_cfg),
    .size = sizeof(moe),
    .keys = keys,
    .slots = slots,
    .read = read_cfg,
    .shape = shape,
    .init = init,
    .forward = forward,
    .flop = flop,
};

static const model_key_as family_keys[] = {{0}};
const model_family family_double = {
    .model_type = "double",
    .hf_arch = "DoubleForCausalLM",
    .gguf_arch = "double",
    .prefix = "model.",
    .names = names,
    .keys = family_keys,
    .norm = &norm_rms,
    .block = {{.type = "sparse", .part = {&part_attention, &part_moe}},
              {.type = "dense", .part = {&part_attention, &part_glu}, .traits = MODEL_PARALLEL}},
    .gguf_permuted = true,
};
