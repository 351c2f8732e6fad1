/* rtn.c – rounding to the nearest: the groups, scales and codes of GPTQ's quantiser (grid.c) without inputs, and its folder.
 *
 * Symmetric codes of four bits are torchao's symmetric int4, scale max|w| / 7.5, but for the scale's rounding to f16; in a group
 * without a negative weight, too, where the reference of GPTQ has another (grid.c). A model that was trained with its weights in
 * such codes brings their steps along (qat.safetensors, P.weight_scale [out, groups]): where bits and groups are the same, they
 * are the scales. */
#include <string.h>

#include "ft/method.h"
#include "gptq.h"

#define NO_DAMPING                                                                                 \
    0.01 /* what a folder of rounded weights says: readers want a number between 0 and 1 there */
const char *const gptq_formats[] = {"gptq", "gptq_v2", NULL};
static const cfg_field fields[] = {GPTQ_FIELDS, CFG_END};

void gptq_check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg)
{
    const gptq_cfg *c = cfg;
    (void)path;
    if (c->bits != 2 && c->bits != 3 && c->bits != 4 && c->bits != 8 &&
        !cfg_is_wrong(d, "quantize.bits"))
        cfg_fail(d, js_get(object, "bits"), "quantize.bits", "must be 2, 3, 4 or 8");
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
                              .damp_percent = c->damp_percent > 0 ? c->damp_percent : NO_DAMPING};
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

/* --- steps that were trained ----------------------------------------------------------------------------------------- */
typedef struct trained {
    pe_steps *steps;
    int64_t n, asked; /* linears that went by them, of so many */
} trained;

/* Bits of the weights' codes by ft_method.json; 0: it tells of none. */
static ft_status trained_bits(const char *dir, arena *mem, int64_t *bits)
{
    pe_note note;
    FT_TRY(pe_note_read(&note, dir, mem));
    const char *type = cJSON_GetStringValue(js_get(note.qat, "weight_dtype"));
    *bits = !type ? 0 : strcmp(type, "int8") == 0 ? 8 : 4;
    pe_note_close(&note);
    return FT_OK;
}

static ft_status begin(cmp_walk *w, const void *cfg, void **state)
{
    const gptq_cfg *c = cfg;
    int64_t bits;
    if (w->m->from_gguf) return FT_OK;
    FT_TRY(trained_bits(w->m->path, w->mem, &bits));
    if (bits == 0) return FT_OK;
    if (bits != c->bits || !c->sym) {
        log_warn("%s: the steps that were trained (" PE_QAT_FILE ") are of symmetric codes of %d "
                 "bits; %scodes of %d bits do not go by them",
                 ft_shows(w->m->path), (int)bits, c->sym ? "" : "asymmetric ", (int)c->bits);
        return FT_OK;
    }
    trained *t = arena_get(w->mem, sizeof *t);
    if (!t) return FT_EMEM;
    *state = t;
    return pe_steps_open(&t->steps, w->m->path);
}

static void end(void *state)
{
    trained *t = state;
    if (t->n > 0) log_info("scales of %lld layers are the steps of " PE_QAT_FILE, (long long)t->n);
    if (t->n < t->asked)
        log_warn("scales of %lld layers are not the steps that were trained: " PE_QAT_FILE
                 " has none of this quantize.group_size",
                 (long long)(t->asked - t->n));
    pe_steps_close(t->steps);
}

/* Into *step [out, groups]; NULL: none, or of other groups. */
static ft_status steps_of(cmp_block *b, trained *t, const cmp_linear *l, float **step)
{
    const int64_t out = l->site->out, groups = l->codes.groups;
    bool found = false;
    *step = NULL;
    if (!t) return FT_OK;
    t->asked++;
    if (!t->steps) return FT_OK;
    float *to = arena_raw(b->mem, (size_t)(out * groups) * sizeof *to);
    if (!to) return FT_EMEM;
    FT_TRY(pe_steps_get(t->steps, l->site->path, out, groups, to, &found));
    t->n += found;
    if (found) *step = to;
    return FT_OK;
}

/* --- rounding ---------------------------------------------------------------------------------------------------------- */
typedef struct rounding {
    cmp_linear *l;
    cmp_grid grid;
    const float *step; /* [out, groups] or NULL */
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
        if (job->step) {
            dt_f16.pack(&c->scale[at], &job->step[at], 1);
            c->zero[at] = (uint8_t)(1 << (c->bits - 1));
        } else {
            cmp_grid_of(&job->grid, w, size, &c->scale[at], &c->zero[at]);
        }
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
    for (int i = 0; i < b->n; i++) {
        rounding job = {.l = &b->linear[i], .grid = gptq_grid(c)};
        if (!job.l->chosen) continue;
        FT_TRY(cmp_codes_open(b, job.l, (int)c->bits, c->group_size));
        float *step;
        FT_TRY(steps_of(b, state, job.l, &step));
        job.step = step;
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
    .steps = true,
    .writes = "gptq",
    .packed = gptq_packed,
    .fits = gptq_fits,
    .room = room,
    .begin = begin,
    .block = block,
    .end = end,
};
