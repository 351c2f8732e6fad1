/* quant_bitnet.c – folders of quant_method "bitnet" whose weights are numbers that are rounded when they are used
 * (linear_class "autobitlinear", online): transformers' form of a model under training (Ma et al. 2024).
 *
 *   y = Ŵ x̂:  Ŵ = γ · min(max(round(W / γ), −1), 1), γ = max(mean|W|, 1e-5);  x̂ in eight bits, a step for each token
 * Meant are the linear layers of the blocks, but for GPT-2's Conv1D. The products read W through dt_fake, so codes of it are
 * nowhere. */
#include "model_private.h"

#include <float.h>
#include <string.h>

#define OFFLINE "packed weights are not read; use the folder that they were packed from"

static const js_key config_keys[] = {
    {"quant_method", JS_READ, NULL, NULL},
    {"linear_class", JS_ONLY, "\"autobitlinear\"", OFFLINE},
    {"quantization_mode", JS_ONLY, "\"online\"", OFFLINE},
    {"use_rms_norm", JS_READ, NULL, NULL},
    {"rms_norm_eps", JS_READ, NULL, NULL},
    {"modules_to_not_convert", JS_ONLY, "null", "all linear layers of the blocks are rounded"},
    {NULL, JS_READ, NULL, NULL},
};

typedef struct bitnet_cfg {
    kn_tokens input;
} bitnet_cfg;

/* What is not said is "bitlinear", and "offline". */
static ft_status must_say(const js_doc *d, const cJSON *o, const char *key, const char *name)
{
    if (cJSON_IsString(js_get(o, key))) return FT_OK; /* the one value that config_keys has */
    return js_fail(d, o, FT_EDATA, name, "is missing: " OFFLINE);
}

static ft_status read_config(const js_doc *d, const cJSON *object, void *cfg)
{
    bitnet_cfg *c = cfg;
    double eps;
    FT_TRY(js_check_keys(d, object, config_keys, FT_EDATA));
    FT_TRY(must_say(d, object, "linear_class", "quantization_config.linear_class"));
    FT_TRY(must_say(d, object, "quantization_mode", "quantization_config.quantization_mode"));
    FT_TRY(js_get_bool(d, object, "use_rms_norm", false, &c->input.norm));
    FT_TRY(js_get_num(d, object, "rms_norm_eps", 1e-6, &eps));
    if (!(eps >= 0 && eps <= (double)FLT_MAX))
        return js_fail(d, js_get(object, "rms_norm_eps"), FT_EDATA,
                       "quantization_config.rms_norm_eps", "must be a number from 0 on, not %g",
                       eps);
    c->input.symmetric = true;
    c->input.eps = (float)eps;
    return FT_OK;
}

static bool is_rounded(const model *m, const nn_site *s)
{
    return s->layer >= 0 && s->role != NN_EMBED && s->role != NN_POSITION && s->role != NN_HEAD &&
           !m->info[s->w->index].hf_in_out;
}

typedef struct job {
    const model *m;
    const tn_tensor *plain; /* [n_site] W as it is */
} job;

static void take_step(void *ctx, int64_t i, int thread)
{
    const job *j = ctx;
    const tn_tensor *w = &j->plain[i];
    static const kn_first_step mean = {
        .mean = true, .factor = 1.0f, .divisor = 1.0f, .least = 1e-5f};
    (void)thread;
    if (w->data) kn_fake_steps(j->m->site[i].w->t.side, w->data, w->dim[0], w->dim[1], &mean);
}

static ft_status round_site(model *m, nn_site *s, const kn_tokens *input)
{
    tn_tensor *w = &s->w->t;
    dt_steps *steps = arena_get(m->mem, sizeof *steps);
    float *step = arena_get(m->mem, sizeof *step);
    nn_fake *fake = arena_get(m->mem, sizeof *fake);
    if (!steps || !step || !fake) return FT_EMEM;
    FT_CHECK(w->type == &dt_f32 || w->type == &dt_f16 || w->type == &dt_bf16, FT_EDATA,
             "%s: tensor \"%s\" holds no numbers (%s), as \"online\" weights are",
             ft_shows(m->path), s->w->name, w->type->name);
    *steps = (dt_steps){
        .type = w->type, .step = step, .group = s->in * s->out, .low = -1.0f, .high = 1.0f};
    *fake = (nn_fake){.on = true, .input = input};
    s->fake = fake;
    w->type = &dt_fake;
    w->side = steps;
    return FT_OK;
}

static ft_status bound(model *m, const void *cfg)
{
    const bitnet_cfg *c = cfg;
    tn_tensor *plain = ft_alloc((size_t)m->n_site + 1, sizeof *plain);
    ft_status rc = plain ? FT_OK : FT_EMEM;
    for (int64_t i = 0; rc == FT_OK && i < m->n_site; i++) {
        if (!is_rounded(m, &m->site[i])) continue;
        plain[i] = m->site[i].w->t;
        rc = round_site(m, &m->site[i], &c->input);
    }
    if (rc == FT_OK && !m->no_weights)
        pool_run(take_step, &(job){.m = m, .plain = plain}, m->n_site);
    ft_free(plain);
    return rc;
}

const model_quant model_quant_bitnet = {
    .method = "bitnet",
    .size = sizeof(bitnet_cfg),
    .read = read_config,
    .bound = bound,
};
