/* save_types.c – which type each tensor of a .gguf is written in.
 *
 * A type that is asked for is that of every matrix whose rows are whole blocks of it; rows that are not have the next best
 * type of 32 a block, else f16. A mixture of llama.cpp's keeps more bits where rounding costs most. */
#include <string.h>

#include "save_private.h"

/* general.file_type of llama.cpp: the type of most tensors. */
static const struct {
    const char *type;
    int id;
} file_types[] = {{"f32", 0},    {"f16", 1},   {"q4_0", 2},    {"q4_1", 3},    {"q8_0", 7},
                  {"q5_0", 8},   {"q5_1", 9},  {"q2_k", 10},   {"q3_k", 12},   {"q4_k", 15},
                  {"q5_k", 17},  {"q6_k", 18}, {"iq4_nl", 25}, {"iq4_xs", 30}, {"bf16", 32},
                  {"tq1_0", 36}, {"tq2_0", 37}};

static const model_mix mixes[] = {
    {"q4_k_m", "q4_k", "q6_k", NULL, "q6_k", 15},
    {"q5_k_m", "q5_k", "q6_k", NULL, "q6_k", 17},
    {"tq1_0", "tq1_0", "q6_k", "q4_k", NULL, 36}, /* the ends of a ternary model are not ternary */
    {"tq2_0", "tq2_0", "q6_k", "q4_k", NULL, 37},
};

/* For rows that are no whole number of super-blocks; as llama.cpp's tool. */
static const char *const instead[][2] = {{"q2_k", "q4_0"}, {"q3_k", "q4_0"}, {"q4_k", "q5_0"},
                                         {"q5_k", "q5_1"}, {"q6_k", "q8_0"}, {"tq1_0", "q4_0"},
                                         {"tq2_0", "q4_0"}};

const model_mix *model_mix_at(int i)
{
    return i >= 0 && (size_t)i < FT_COUNT_OF(mixes) ? &mixes[i] : NULL;
}

const model_mix *model_mix_by_name(const char *name)
{
    for (size_t i = 0; name && i < FT_COUNT_OF(mixes); i++)
        if (strcmp(mixes[i].name, name) == 0) return &mixes[i];
    return NULL;
}

int save_file_type(const dt_type *t, const model_mix *mix)
{
    if (mix) return mix->file_type;
    for (size_t i = 0; i < FT_COUNT_OF(file_types); i++)
        if (strcmp(file_types[i].type, t->name) == 0) return file_types[i].id;
    return 0;
}

static const dt_type *fitting(const dt_type *t, int64_t cols)
{
    for (size_t i = 0; cols % t->block != 0 && i < FT_COUNT_OF(instead); i++)
        if (strcmp(instead[i][0], t->name) == 0) t = dt_by_name(instead[i][1]);
    return cols % t->block == 0 ? t : &dt_f16;
}

/* Values and what the feed-forward part ends in, in the first and the last eighth of the layers and every third between. */
static bool is_some(const model *m, const model_tensor *info)
{
    const int64_t n = m->d.n_layer, i = info->layer, eighth = n / 8;
    if (!strstr(info->gguf_name, ".attn_v.") && !strstr(info->gguf_name, ".ffn_down")) return false;
    return i < eighth || i >= 7 * n / 8 || (i - eighth) % 3 == 2;
}

static const char *mixed(const model *m, const model_mix *mix, int64_t i, bool untie)
{
    const nn_param *q = &m->param[i];
    const bool embeds = q == m->embed->w;
    if (q == m->head->w || (embeds && m->d.tied && !untie)) return mix->head;
    if (embeds && mix->embed) return mix->embed;
    return mix->some && is_some(m, &m->info[i]) ? mix->some : mix->base;
}

/* Vectors, norms and position tables stay f32. */
static const dt_type *type_of(const model *m, int64_t i, int nd, int64_t cols, const dt_type *asked,
                              const model_mix *mix, bool untie)
{
    if (nd == 1 || (m->info[i].flags & SLOT_F32)) return &dt_f32;
    return fitting(mix ? dt_by_name(mixed(m, mix, i, untie)) : asked, cols);
}

const dt_type *save_tensor_type(const save_plan *p, const save_item *it, const dt_type *asked)
{
    return type_of(p->m, it->param, it->nd, it->dim[it->nd - 1], asked, p->opt->mix, p->untie);
}

/* --- what a file takes -------------------------------------------------------------------------------------------- */
static const dt_type *type_in_gguf(const model *m, int64_t i, const model_save_options *opt)
{
    const tn_tensor *t = &m->param[i].t;
    const bool turned = m->info[i].hf_in_out && !m->param[i].hf_turned && t->nd == 2;
    const dt_type *asked = opt->type ? opt->type : m->has_blocks ? &dt_f16 : m->dtype;
    return type_of(m, i, t->nd, turned ? t->dim[0] : tn_cols(t), asked, opt->mix, false);
}

const dt_type *save_folder_type(const model *m, int64_t i, const model_save_options *opt)
{
    const dt_type *own = m->param[i].file_type;
    if (opt->type) return opt->type;
    if (!m->from_gguf && !m->own && (!m->has_blocks || opt->quant) && own->block == 1) return own;
    return opt->quant ? save_quant_dtype(m) : m->dtype;
}

static double quant_bytes(const model *m, int64_t i, const model_save_options *opt)
{
    const nn_site *s = m->info[i].site;
    model_quant_part part[MODEL_QUANT_PARTS];
    const int n =
        opt->quant->writer->parts(opt->quant_cfg, save_quant_dtype(m), s->out, s->in, part);
    double all = 0;
    for (int k = 0; k < n; k++) {
        size_t bytes = 0;
        if (dt_bytes(part[k].type, part[k].dim[0] * (part[k].nd == 2 ? part[k].dim[1] : 1), &bytes))
            all += (double)bytes;
    }
    return all;
}

double model_saved_bytes(const model *m, const char *path, const model_save_options *opt)
{
    const bool gguf = str_ends(path, ".gguf");
    double all = 0;
    for (int64_t i = 0; i < m->n_param; i++) {
        const dt_type *type = gguf ? type_in_gguf(m, i, opt) : save_folder_type(m, i, opt);
        if (m->d.tied && &m->param[i] == m->head->w) continue;
        if (opt->quant && opt->quant->writer->means(m, i))
            all += quant_bytes(m, i, opt);
        else
            all += (double)tn_count(&m->param[i].t) * (double)type->bytes / (double)type->block;
    }
    return all;
}
