/* vera.c – VeRA (Kopiczko et al. 2024): one pair of random matrices for all layers, frozen; two vectors a layer are trained.
 *
 *   y = base(x) + λ_b ⊙ B[:out] (λ_d ⊙ A[:, :in] dropout(x))
 *
 * λ_d begins as d_initial, λ_b as 0. A [r, widest in] and B [widest out, r] are what PEFT draws from PyTorch's generator of
 * the CPU (mt19937) with projection_prng_key, to the bit: first A, then B, uniform ± √6 / √fan_in. They lie in the adapter
 * (save_projection), or are drawn again. */
#include "ft/method.h"
#include "method_private.h"

#include <math.h>

typedef struct vera_cfg {
    int64_t r, projection_prng_key;
    bool save_projection;
    double d_initial, vera_dropout;
    pe_target target;
} vera_cfg;

typedef struct vera_slot {
    nn_param *d, *b; /* [r], [out] */
    uint64_t key;
} vera_slot;

typedef struct vera { /* c->priv */
    nn_param *a, *b;
} vera;

enum { MAX_RANK = 65536 };
#define MAX_KEY 4294967295
#define AT(member) .key = #member, .offset = offsetof(vera_cfg, member)
static const char *const biases[] = {"none", "all", "vera_only", NULL};
static const cfg_field fields[] = {
    {AT(r), .type = CFG_INT, .def = "256", .low = 1, .high = MAX_RANK, .help = "rank"},
    {AT(projection_prng_key), .type = CFG_INT, .def = "0", .low = 0, .high = MAX_KEY,
     .help = "seed of the frozen matrices, as PyTorch draws them"},
    {AT(save_projection), .type = CFG_BOOL, .def = "true",
     .help = "the frozen matrices are saved with the adapter; else they are drawn again"},
    {AT(d_initial), .type = CFG_FLOAT, .def = "0.1", .low = 0, .low_open = true, .high = 1e9,
     .help = "first value of vera_lambda_d"},
    {AT(vera_dropout), .type = CFG_FLOAT, .def = "0", .low = 0, .high = 0.999,
     .help = "dropout on the input of A"},
    PE_TARGET_MODULES(vera_cfg, target, "\"all-linear\""),
    PE_TARGET_BIAS(vera_cfg, target, biases),
    CFG_END};

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"r", "projection_prng_key", "save_projection", NULL};
    vera_cfg *cfg = ctx;
    pe_check_target(d, object, &cfg->target, settled);
}

/* --- the frozen matrices ------------------------------------------------------------------------------------------- */
/* mt19937 (Matsumoto and Nishimura 1998), seeded as by torch.manual_seed. */
typedef struct twister {
    uint32_t word[624];
    int next;
} twister;

FT_WRAPS static void seed(twister *t, uint32_t key)
{
    t->word[0] = key;
    for (uint32_t i = 1; i < FT_COUNT_OF(t->word); i++)
        t->word[i] = 1812433253u * (t->word[i - 1] ^ t->word[i - 1] >> 30) + i;
    t->next = (int)FT_COUNT_OF(t->word);
}

static void twist(twister *t)
{
    enum { N = FT_COUNT_OF(t->word), M = 397 };
    for (int i = 0; i < N; i++) {
        uint32_t y = (t->word[i] & 0x80000000u) | (t->word[(i + 1) % N] & 0x7fffffffu);
        t->word[i] = t->word[(i + M) % N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    t->next = 0;
}

static uint32_t draw(twister *t)
{
    if (t->next == (int)FT_COUNT_OF(t->word)) twist(t);
    uint32_t y = t->word[t->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Kaiming uniform as PEFT's VeRA has it, gain √2; 24 bits of each word, scaled by one fused multiply-add. */
static void fill(twister *t, const nn_param *p)
{
    const float bound = (float)(sqrt(3.0) * (sqrt(2.0) / sqrt((double)p->t.dim[1])));
    float *x = tn_f32(&p->t);
    for (int64_t i = 0; i < tn_count(&p->t); i++)
        x[i] = fmaf((float)(draw(t) & 0xffffffu) * 0x1p-24f, 2 * bound, -bound);
}

static ft_status attach_projection(pe_ctx *c)
{
    const vera_cfg *cfg = c->cfg;
    vera *v = c->priv;
    int64_t in = 0, out = 0;
    twister t;
    for (int64_t i = 0; i < c->m->n_site; i++) {
        const nn_site *s = &c->m->site[i];
        if (!nn_slot_of(&c->over, s)) continue;
        in = s->in > in ? s->in : in;
        out = s->out > out ? s->out : out;
    }
    FT_TRY(nn_new_state(&c->store, "base_model.vera_A", cfg->r, in, &v->a));
    FT_TRY(nn_new_state(&c->store, "base_model.vera_B", out, cfg->r, &v->b));
    if (!c->dry) {
        seed(&t, (uint32_t)cfg->projection_prng_key);
        fill(&t, v->a);
        fill(&t, v->b);
    }
    if (!cfg->save_projection) return FT_OK;
    FT_TRY(pe_add_entry(c, v->a, v->a->name, false));
    return pe_add_entry(c, v->b, v->b->name, false);
}

/* --- attaching ------------------------------------------------------------------------------------------------------ */
static ft_status attach_site(pe_ctx *c, nn_site *s)
{
    const vera_cfg *cfg = c->cfg;
    vera_slot *slot = arena_get(c->mem, sizeof *slot);
    const char *kb = pe_file_key(c, s->path, ".vera_lambda_b"),
               *kd = pe_file_key(c, s->path, ".vera_lambda_d");
    if (!slot || !kb || !kd) return FT_EMEM;
    FT_TRY(pe_only_linear(c, s));
    FT_TRY(nn_new_param(&c->store, kb, s->out, 0, &slot->b));
    FT_TRY(nn_new_param(&c->store, kd, cfg->r, 0, &slot->d));
    slot->key = rng_key_text(0, s->path);
    for (int64_t i = 0; i < cfg->r && !c->dry; i++) tn_f32(&slot->d->t)[i] = (float)cfg->d_initial;
    c->over.slot[s->index] = slot;
    FT_TRY(pe_add_entry(c, slot->b, kb, false));
    return pe_add_entry(c, slot->d, kd, false);
}

static ft_status attach(pe_ctx *c)
{
    const vera_cfg *cfg = c->cfg;
    c->priv = arena_get(c->mem, sizeof(vera));
    if (!c->priv) return FT_EMEM;
    FT_TRY(pe_attach_target(c, &cfg->target, attach_site));
    return attach_projection(c);
}

static void weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    const pe_ctx *c = r->over->ctx;
    const vera_cfg *cfg = c->cfg;
    const vera *v = c->priv;
    const vera_slot *slot = nn_slot(r, s);
    if (!slot) return;
    w->low = (ag_low_rank){.a = &v->a->t,
                           .b = &v->b->t,
                           .mid = &slot->d->t,
                           .out = &slot->b->t,
                           .width = s->out,
                           .scale = 1.0f,
                           .dropout = r->drops ? (float)cfg->vera_dropout : 0.0f,
                           .key = slot->key};
}

/* --- files ------------------------------------------------------------------------------------------------------------ */
/* Rows of m times v: [rows, cols] of a matrix that may have more columns. */
static float *scaled(const nn_param *m, const nn_param *v, int64_t rows, int64_t cols)
{
    const float *x = tn_f32(&m->t), *by = tn_f32(&v->t);
    float *y = ft_alloc((size_t)(rows * cols), sizeof *y);
    for (int64_t i = 0; y && i < rows; i++)
        for (int64_t j = 0; j < cols; j++) y[i * cols + j] = by[i] * x[i * m->t.dim[1] + j];
    return y;
}

/* W += (λ_b ⊙ B[:out]) (λ_d ⊙ A[:, :in]), transposed where the file holds [in, out]. */
static ft_status fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    const vera_cfg *cfg = c->cfg;
    const vera *v = c->priv;
    const vera_slot *slot = nn_slot_of(&c->over, s);
    (void)b;
    if (!slot) return FT_OK;
    float *left = scaled(v->b, slot->b, s->out, cfg->r),
          *right = scaled(v->a, slot->d, cfg->r, s->in),
          *delta = ft_alloc((size_t)(s->out * s->in), sizeof *delta);
    const kn_mat m = {.type = &dt_f32, .data = right, .rows = cfg->r, .cols = s->in};
    const bool good = left && right && delta;
    if (good) kn_gemm_nn(delta, s->in, left, cfg->r, &m, s->out, NULL, false);
    for (int64_t i = 0; good && i < s->out; i++)
        for (int64_t j = 0; j < s->in; j++)
            w[s->in_out ? j * s->out + i : i * s->in + j] += delta[i * s->in + j];
    ft_free(left);
    ft_free(right);
    ft_free(delta);
    return good ? FT_OK : FT_EMEM;
}

static ft_status save(const pe_ctx *c, const char *dir)
{
    const vera_cfg *cfg = c->cfg;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "d_initial", cfg->d_initial);
    cJSON_AddTrueToObject(o, "init_weights");
    cJSON_AddNumberToObject(o, "projection_prng_key", (double)cfg->projection_prng_key);
    cJSON_AddNumberToObject(o, "r", (double)cfg->r);
    cJSON_AddBoolToObject(o, "save_projection", cfg->save_projection);
    cJSON_AddNumberToObject(o, "vera_dropout", cfg->vera_dropout);
    return pe_save_adapter(c, &cfg->target, o, dir);
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    static const pe_key keys[] = {PE_TARGET_KEYS,
                                  {"r", NULL},
                                  {"projection_prng_key", NULL},
                                  {"save_projection", NULL},
                                  {"vera_dropout", NULL},
                                  {"d_initial", NULL},
                                  {"init_weights", NULL},
                                  {"fan_in_fan_out", NULL},
                                  {NULL, NULL}};
    vera_cfg *cfg = c->cfg;
    const cJSON *o = d->root;
    FT_TRY(pe_check_keys(d, keys));
    FT_TRY(js_get_int(d, o, "r", 256, 1, MAX_RANK, &cfg->r));
    FT_TRY(js_get_int(d, o, "projection_prng_key", 0, 0, MAX_KEY, &cfg->projection_prng_key));
    FT_TRY(js_get_bool(d, o, "save_projection", true, &cfg->save_projection));
    FT_TRY(pe_load_scale(d, "d_initial", 0.1, &cfg->d_initial));
    if (!c->load_dir) FT_TRY(js_get_num(d, o, "vera_dropout", 0.0, &cfg->vera_dropout));
    return pe_load_target(&cfg->target, d);
}

const pe_method pe_vera = {
    .name = "vera",
    .qat = true,
    .help = "two vectors a layer around frozen random matrices; the result is a PEFT adapter",
    .about =
        "One random pair of matrices is shared by all layers and frozen; each layer trains two "
        "vectors that scale it. Take it where many adapters are kept: without the "
        "projection (save_projection false) one is a few hundred kilobytes. It wants a high r "
        "and a learning rate ten times that of LoRA, and a step costs no more than LoRA's of "
        "the same r.",
    .paper = "Kopiczko et al. 2024, VeRA: Vector-based Random Matrix Adaptation",
    .example = "{\"type\": \"vera\", \"r\": 256}",
    .fields = fields,
    .cfg_size = sizeof(vera_cfg),
    .peft_type = "VERA",
    .lacks = (const char *const[]){"exclude_modules", NULL},
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 4e-3, /* of the paper's instruction tuning */
    .check = check,
    .attach = attach,
    .hooks = {.weight = weight},
    .save = save,
    .load_config = load_config,
    .load = pe_load_adapter,
    .fold = fold,
    .unfold = pe_low_rank_unfold,
};
