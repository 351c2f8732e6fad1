/* quant_nibble.c – folders whose linear weights are in the format of dtype_nibble.c, as bitsandbytes keeps NF4: the codes
 * under the parameter's name, the scales beside it; and the same made of a base on load. */
#include "doubles.h"

#include "model/model_private.h"

#include <math.h>

typedef struct nibble_cfg {
    int64_t group_size;
} nibble_cfg;

void nibble_quantise(uint8_t *codes, float *absmax, const float *x, int64_t n)
{
    for (int64_t g = 0; g * NIBBLE_GROUP < n; g++) {
        int64_t first = g * NIBBLE_GROUP, end = first + NIBBLE_GROUP < n ? first + NIBBLE_GROUP : n;
        absmax[g] = 0;
        for (int64_t i = first; i < end; i++) absmax[g] = fmaxf(absmax[g], fabsf(x[i]));
        for (int64_t i = first; i < end; i++) {
            float q = absmax[g] > 0 ? roundf((x[i] / absmax[g] + 1.0f) * 7.5f) : 7.0f;
            uint8_t code = (uint8_t)(q > 15.0f ? 15.0f : q);
            codes[i / 2] =
                (uint8_t)(i % 2 ? (codes[i / 2] & 0xf0) | code : (codes[i / 2] & 15) | code << 4);
        }
    }
}

static ft_status read_keys(const js_doc *d, const cJSON *object, void *cfg)
{
    nibble_cfg *c = cfg;
    return js_get_int(d, object, "group_size", NIBBLE_GROUP, NIBBLE_GROUP, NIBBLE_GROUP,
                      &c->group_size);
}

static ft_status bind(model *m, int64_t i, const void *cfg, bool *done)
{
    nn_param *p = &m->param[i];
    const io_tensor *codes = model_find_tensor(m, i, ""),
                    *scales = model_find_tensor(m, i, ".absmax");
    const int64_t n = tn_count(&p->t);
    (void)cfg;
    *done = scales != NULL;
    if (!scales) return FT_OK;
    FT_CHECK(codes && codes->bytes == (size_t)(n + 1) / 2 && scales->type == &dt_f32 &&
                 scales->bytes == (size_t)((n + NIBBLE_GROUP - 1) / NIBBLE_GROUP) * sizeof(float),
             FT_EDATA, "%s: tensor \"%s\": codes and absmax do not fit its %lld values",
             ft_shows(m->path), p->name, (long long)n);
    nibble_side *side = arena_get(m->mem, sizeof *side);
    if (!side) return FT_EMEM;
    side->absmax = scales->data;
    p->t.type = p->file_type = &dt_nibble;
    p->t.data = (void *)(uintptr_t)codes->data;
    p->t.side = side;
    return FT_OK;
}

static bool means(const model *m, int64_t i)
{
    const nn_site *s = m->info[i].site;
    return s && m->param[i].t.nd == 2 && s->layer >= 0;
}

static ft_status make(model *m, int64_t i, const void *cfg)
{
    nn_param *p = &m->param[i];
    const int64_t n = tn_count(&p->t);
    (void)cfg;
    float *x = m->no_weights ? NULL : ft_alloc((size_t)n, sizeof *x);
    uint8_t *codes = arena_get(m->made, (size_t)(n + 1) / 2);
    float *absmax = arena_get(m->made, (size_t)(n / NIBBLE_GROUP + 1) * sizeof *absmax);
    nibble_side *side = arena_get(m->made, sizeof *side);
    if ((!x && !m->no_weights) || !codes || !absmax || !side) {
        ft_free(x);
        return FT_EMEM;
    }
    if (x) {
        tn_unpack_rows(x, &p->t, 0, tn_rows(&p->t));
        nibble_quantise(codes, absmax, x, n);
    }
    ft_free(x);
    side->absmax = absmax;
    p->t.type = &dt_nibble;
    p->t.row_of = NULL;
    p->t.data = codes;
    p->t.side = side;
    return FT_OK;
}

static const cfg_field fields[] = {
    {.key = "group_size",
     .offset = offsetof(nibble_cfg, group_size),
     .type = CFG_INT,
     .def = "64",
     .low = NIBBLE_GROUP - 1,
     .high = NIBBLE_GROUP + 1},
    CFG_END,
};

const model_quant model_quant_nibble = {.method = "nibbles",
                                        .type = "nibble",
                                        .size = sizeof(nibble_cfg),
                                        .read = read_keys,
                                        .bind = bind,
                                        .make_fields = fields,
                                        .make_size = sizeof(nibble_cfg),
                                        .means = means,
                                        .make = make};
