/* rtn.c – rounding to the nearest: the groups, scales and codes of GPTQ's quantiser (grid.c) without inputs, and its folder.
 *
 * Symmetric codes of four bits are torchao's symmetric int4, scale max|w| / 7.5, but for the scale's rounding to f16. */
#include <string.h>

#include "gptq.h"

const char *const gptq_formats[] = {"gptq", "gptq_v2", NULL};
static const cfg_field fields[] = {GPTQ_FIELDS, CFG_END};

void gptq_check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg)
{
    const gptq_cfg *c = cfg;
    char key[64];
    (void)path;
    if (c->bits != 2 && c->bits != 3 && c->bits != 4 && c->bits != 8 &&
        !cfg_is_wrong(d, "quantize.bits"))
        cfg_fail(d, js_get(object, "bits"), "quantize.bits", "must be 2, 3, 4 or 8");
    (void)key;
    if (c->group_size == 0 && !cfg_is_wrong(d, "quantize.group_size"))
        cfg_fail(d, js_get(object, "group_size"), "quantize.group_size",
                 "must be a number of inputs, or -1 for the whole row");
}

void gptq_packed(const void *cfg, model_packed_cfg *out)
{
    const gptq_cfg *c = cfg;
    *out = (model_packed_cfg){.bits = c->bits,
                              .group_size = c->group_size,
                              .sym = c->sym,
                              .desc_act = c->desc_act,
                              .v2 = strcmp(c->checkpoint_format, "gptq_v2") == 0,
                              .static_groups = c->static_groups,
                              .true_sequential = c->true_sequential,
                              .damp_percent = c->damp_percent};
}

ft_status gptq_fits(const void *cfg, const model *m, const nn_site *s)
{
    model_packed_cfg p;
    (void)m;
    gptq_packed(cfg, &p);
    return model_packed_fits(model_quant_by_method("gptq"), &p, s->w->name, s->out, s->in);
}

cmp_grid gptq_grid(const gptq_cfg *c)
{
    return (cmp_grid){.bits = (int)c->bits,
                      .sym = c->sym,
                      .least_one = strcmp(c->checkpoint_format, "gptq") == 0};
}

typedef struct rounding {
    cmp_linear *l;
    cmp_grid grid;
} rounding;

static void round_row(void *ctx, int64_t r, int thread)
{
    const rounding *job = ctx;
    const cmp_codes *c = &job->l->codes;
    const int64_t in = job->l->site->in, size = in / c->groups;
    (void)thread;
    for (int64_t g = 0; g < c->groups; g++) {
        const int64_t at = r * c->groups + g;
        float *w = job->l->w + r * in + g * size;
        cmp_grid_of(&job->grid, w, size, &c->scale[at], &c->zero[at]);
        const float scale = cmp_scale(c->scale[at]);
        for (int64_t i = 0; i < size; i++) {
            const int q = cmp_code(w[i], scale, c->zero[at], c->bits);
            c->q[r * in + g * size + i] = (uint8_t)q;
            w[i] = cmp_value(scale, q, c->zero[at]);
        }
    }
}

/* Of the weights alone. */
static ft_status tell_loss(cmp_block *b, cmp_linear *l)
{
    const int64_t n = l->site->out * l->site->in;
    float *before = arena_raw(b->mem, (size_t)n * sizeof *before);
    if (!before) return FT_EMEM;
    FT_TRY(cmp_original(b, l, before));
    l->whole = kn_sum_squares(before, n);
    kn_axpy(before, -1.0f, l->w, n);
    l->lost = kn_sum_squares(before, n);
    return FT_OK;
}

static ft_status block(cmp_block *b, const void *cfg, void *state)
{
    const gptq_cfg *c = cfg;
    (void)state;
    for (int i = 0; i < b->n; i++) {
        rounding job = {&b->linear[i], gptq_grid(c)};
        if (!job.l->chosen) continue;
        FT_TRY(cmp_codes_open(b, job.l, (int)c->bits, c->group_size));
        pool_run(round_row, &job, job.l->site->out);
        FT_TRY(cmp_codes_check(job.l));
        FT_TRY(tell_loss(b, job.l));
    }
    return FT_OK;
}

static size_t room(const cmp_block *b, const void *cfg)
{
    size_t bytes = 0;
    (void)cfg;
    for (int i = 0; i < b->n; i++) /* codes, and the values before */
        if (b->linear[i].chosen)
            bytes += (size_t)b->linear[i].site->out * (size_t)b->linear[i].site->in * 6;
    return bytes;
}

const cmp_method cmp_quantizer_rtn = {
    .name = "rtn",
    .help = "rounding to the nearest, without data",
    .fields = fields,
    .cfg_size = sizeof(gptq_cfg),
    .check = gptq_check,
    .writes = "gptq",
    .packed = gptq_packed,
    .fits = gptq_fits,
    .room = room,
    .block = block,
};
