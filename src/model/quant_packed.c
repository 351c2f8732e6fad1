/* quant_packed.c – a folder of GPTQ or AWQ as the base: its codes in rows, as the products read them.
 *
 * In the files a word of 32 bits holds codes of one column of W, or of eight neighbouring rows, and columns follow each other:
 * the codes of a row are apart by the width of the matrix. They are put in order once, when the folder is opened, which costs
 * less than one pass over them; the pages of the file go, so that memory holds the weights once. A module without
 * packed tensors is a float one and bound as any other. */
#include "quant_packed.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- keys ----------------------------------------------------------------------------------------------------------- */

ft_status packed_format(const js_doc *d, const cJSON *object, const char *const *keys,
                        const char *const *names, int *at)
{
    const char *name = NULL, *key = NULL;
    for (; *keys && !name; keys++) {
        key = *keys;
        FT_TRY(js_get_str(d, object, key, NULL, &name));
    }
    *at = 0;
    for (int i = 0; name && names[i]; i++) {
        if (strcasecmp(name, names[i]) != 0) continue;
        *at = i;
        return FT_OK;
    }
    if (!name) return FT_OK;
    return js_fail(d, js_get(object, key), FT_EDATA, "quantization_config",
                   "%s \"%s\" is not read; use a folder of format \"%s\", or the unquantised one",
                   key, ft_shows(name), names[0]);
}

ft_status packed_read(const js_doc *d, const cJSON *object, const packed_layout *l,
                      model_packed_cfg *c)
{
    FT_TRY(js_get_int(d, object, "bits", 0, INT32_MIN, INT32_MAX, &c->bits));
    if (!dt_code_type((int)c->bits) || (l == &packed_awq && c->bits != 4))
        return js_fail(d, js_get(object, "bits"), FT_EDATA, "quantization_config.bits",
                       "must be %s", l == &packed_awq ? "4" : "2, 3, 4 or 8");
    FT_TRY(js_get_int(d, object, "group_size", 128, INT32_MIN, INT32_MAX, &c->group_size));
    if (c->group_size != -1 && c->group_size < 1)
        return js_fail(d, js_get(object, "group_size"), FT_EDATA, "quantization_config.group_size",
                       "must be −1, for whole rows, or positive");
    FT_TRY(js_get_bool(d, object, "desc_act", false, &c->desc_act));
    return js_get_bool(d, object, "sym", true, &c->sym);
}

/* --- the tensors of a matrix ------------------------------------------------------------------------------------------ */

typedef struct binding {
    model *m;
    int64_t i;
    const packed_layout *l;
    packed_size s;
    const io_tensor *codes, *zeros, *scales, *index;
    bool ordered;      /* the groups follow an order of their own, which only the index tells */
    uint8_t *q, *zero; /* what is made of them, in rows */
    char *scale;
    dt_groups *g;
} binding;

static const io_tensor *beside(const binding *k, const char *suffix)
{
    return model_find_beside(k->m, k->i, suffix);
}

static ft_status check_tensor(const binding *k, const io_tensor *t, const char *suffix,
                              const char *types, int nd, const int64_t *dim)
{
    const io_tensor *any = k->codes ? k->codes : k->scales ? k->scales : k->zeros;
    FT_CHECK(t, FT_EDATA, "%s: tensor \"%.*s%s\" is missing, and \"%s\" is there",
             ft_shows(any->file), model_module_length(k->m, k->i), ft_shows(k->m->param[k->i].name),
             suffix, ft_shows(any->name));
    bool fits = t->nd == nd;
    for (int j = 0; fits && j < nd; j++) fits = t->dim[j] == dim[j];
    char want[64];
    snprintf(want, sizeof want, nd == 2 ? "[%lld, %lld]" : "[%lld]", (long long)dim[0],
             nd == 2 ? (long long)dim[1] : 0);
    FT_CHECK(fits, FT_EDATA,
             "%s: tensor \"%s\": its shape does not fit the config, by which it is %s",
             ft_shows(t->file), ft_shows(t->name), want);
    FT_CHECK(strstr(types, t->type->name), FT_EDATA, "%s: tensor \"%s\": dtype %s must be %s",
             ft_shows(t->file), ft_shows(t->name), t->type->name, types);
    return FT_OK;
}

static ft_status check_tensors(const binding *k)
{
    const packed_size *s = &k->s;
    int64_t codes[2], zeros[2];
    const char *unfit = k->l->unfit(s->bits, s->out, s->in);
    FT_CHECK(!unfit, FT_EDATA, "%s: tensor \"%s\": a matrix [%lld, %lld] of %d bits: %s",
             ft_shows(k->codes ? k->codes->file : k->m->path), ft_shows(k->m->param[k->i].name),
             (long long)s->out, (long long)s->in, s->bits, unfit);
    k->l->shape(s, codes, zeros);
    FT_TRY(check_tensor(k, k->codes, ".qweight", "i32", 2, codes));
    FT_TRY(check_tensor(k, k->zeros, ".qzeros", "i32", 2, zeros));
    FT_TRY(
        check_tensor(k, k->scales, ".scales", "f16, bf16, f32", 2, (int64_t[]){s->groups, s->out}));
    return k->index || k->ordered ? check_tensor(k, k->index, ".g_idx", "i32", 1, &s->in) : FT_OK;
}

/* P.bias of a linear layer that has none in its family: some tools write one of zeros. */
static ft_status check_bias(const binding *k)
{
    const io_tensor *t = k->m->info[k->i].site->b ? NULL : beside(k, ".bias");
    if (!t) return FT_OK;
    bool zero = true;
    for (size_t j = 0; j < t->bytes && zero; j++) zero = ((const uint8_t *)t->data)[j] == 0;
    FT_CHECK(zero, FT_EDATA,
             "%s: tensor \"%s\": a layer of this family has no bias, and this one is not zero",
             ft_shows(t->file), ft_shows(t->name));
    return FT_OK;
}

/* Columns of which the order is the groups' own need no list. */
static ft_status read_index(binding *k)
{
    int32_t *group = arena_raw(k->m->made, (size_t)k->s.in * sizeof *group);
    bool plain = true;
    if (!group) return FT_EMEM;
    memcpy(group, k->index->data, (size_t)k->s.in * sizeof *group);
    for (int64_t i = 0; i < k->s.in; i++) {
        FT_CHECK(group[i] >= 0 && group[i] < k->s.groups, FT_EDATA,
                 "%s: tensor \"%s\": [%lld] is %d, which is none of the %lld groups",
                 ft_shows(k->index->file), ft_shows(k->index->name), (long long)i, (int)group[i],
                 (long long)k->s.groups);
        plain = plain && group[i] == i / k->g->size;
    }
    k->g->group = plain ? NULL : group;
    return FT_OK;
}

/* --- codes in rows ---------------------------------------------------------------------------------------------------- */

static unsigned field(const uint8_t *words, packed_spot at, int bits)
{
    uint64_t w = packed_word(words, at.word);
    if (at.shift + bits > 32) w |= (uint64_t)packed_word(words, at.word + at.next) << 32;
    return (unsigned)(w >> at.shift) & ((1u << bits) - 1);
}

static void order_tile(void *ctx, int64_t tile, int thread)
{
    const binding *k = ctx;
    const packed_size *s = &k->s;
    const int64_t o0 = tile * PACKED_ROWS,
                  o1 = s->out - o0 < PACKED_ROWS ? s->out : o0 + PACKED_ROWS;
    const size_t bytes = (size_t)k->scales->type->bytes;
    const char *scales = k->scales->data;
    (void)thread;
    k->l->unpack(k->q, k->codes->data, s, o0, o1);
    for (int64_t o = o0; o < o1; o++) {
        for (int64_t g = 0; g < s->groups; g++) {
            const int64_t at = o * s->groups + g;
            k->zero[at] = (uint8_t)field(k->zeros->data, k->l->zero(s, o, g), s->bits);
            memcpy(k->scale + (size_t)at * bytes, scales + (size_t)(g * s->out + o) * bytes, bytes);
        }
    }
}

/* Memory of what is made; in a plan nothing is. */
static ft_status make(binding *k)
{
    const packed_size *s = &k->s;
    model *m = k->m;
    size_t bytes = 0, groups = 0;
    const bool known = dt_bytes(dt_code_type(s->bits), s->out * s->in, &bytes) &&
                       ft_mul((size_t)s->out, (size_t)s->groups, &groups);
    FT_CHECK(known, FT_EDATA, "%s: tensor \"%s\" is too large", ft_shows(k->codes->file),
             ft_shows(k->codes->name));
    k->q = arena_raw(m->made, bytes);
    k->zero = arena_raw(m->made, groups);
    k->scale = arena_raw(m->made, groups * (size_t)k->scales->type->bytes);
    if (!k->q || !k->zero || !k->scale) return FT_EMEM;
    if (m->no_weights) return FT_OK;
    pool_run(order_tile, k, (s->out + PACKED_ROWS - 1) / PACKED_ROWS);
    file_map_forget(k->codes->data, k->codes->bytes);
    return ft_stop();
}

/* The codes of all matrices take what their files do, but for zeros of a byte each and the ends of arrays. */
static ft_status open_made(model *m)
{
    if (m->made) return FT_OK;
    const size_t files = io_weights_bytes(&m->weights);
    return arena_open(&m->made, "codes in rows", 2 * files + (size_t)m->n_param * 4096);
}

static bool is_packed(const binding *k)
{
    return k->codes || k->zeros || k->scales;
}

ft_status packed_bind(model *m, int64_t i, const model_packed_cfg *c, const packed_layout *l,
                      bool *done)
{
    nn_param *p = &m->param[i];
    const nn_site *site = m->info[i].site;
    binding k = {.m = m, .i = i, .l = l};
    *done = false;
    if (!site || m->info[i].bias || p->t.nd != 2) return FT_OK;
    k.codes = beside(&k, ".qweight");
    k.zeros = beside(&k, ".qzeros");
    k.scales = beside(&k, ".scales");
    k.index = l->indexed ? beside(&k, ".g_idx") : NULL;
    if (!is_packed(&k)) return FT_OK;
    const int64_t size = c->group_size < 0 || c->group_size > site->in ? site->in : c->group_size;
    k.s = (packed_size){(int)c->bits, site->out, site->in, (site->in + size - 1) / size};
    k.ordered = l->indexed && c->desc_act && !c->static_groups && k.s.groups > 1;
    FT_TRY(check_tensors(&k));
    FT_TRY(check_bias(&k));
    FT_TRY(open_made(m));
    k.g = arena_get(m->mem, sizeof *k.g);
    if (!k.g) return FT_EMEM;
    *k.g = (dt_groups){.cols = k.s.in,
                       .groups = k.s.groups,
                       .size = size,
                       .dtype = k.scales->type,
                       .plus = l->plus(c),
                       .rows = k.s.out};
    if (k.index) FT_TRY(read_index(&k));
    FT_TRY(make(&k));
    k.g->scale = k.scale;
    k.g->zero = k.zero;
    model_quant_turned(m, i);
    p->t.type = p->file_type = dt_code_type(k.s.bits);
    p->t.data = k.q;
    p->t.side = k.g;
    *done = true;
    return FT_OK;
}
