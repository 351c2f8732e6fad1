/* save_quant.c – matrices in a quantiser's codes on their way into a folder: several tensors of one matrix, which is coded when
 * the first of them is written and kept until another matrix is asked for.
 *
 * A folder's tensors stand by type and name, so a matrix is coded twice, once for its floats and once for its bytes; no more
 * than one is in memory at a time. */
#include <string.h>

#include "save_private.h"

const dt_type *save_quant_dtype(const model *m)
{
    const dt_type *type = m->embed->w->file_type;
    return !m->from_gguf && type->pack && type->st_name ? type : m->dtype;
}

static ft_status add_parts(save_plan *p, int64_t param, save_item *out, int *n)
{
    const nn_site *s = p->m->info[param].site;
    model_quant_part part[MODEL_QUANT_PARTS];
    *n = p->opt->quant->writer->parts(p->opt->quant_cfg, save_quant_dtype(p->m), s->out, s->in,
                                      part);
    if (*n == 0) return FT_EMEM;
    for (int k = 0; k < *n; k++) {
        out[k] = (save_item){.param = param,
                             .part = k + 1,
                             .type = part[k].type,
                             .nd = part[k].nd,
                             .dim = {part[k].dim[0], part[k].dim[1]}};
        const char *name = p->m->param[param].name;
        const int length =
            p->opt->quant->writer->of_module ? model_module_length(p->m, param) : (int)strlen(name);
        out[k].name = arena_printf(p->mem, "%.*s%s", length, name, part[k].suffix);
        if (!out[k].name) return FT_EMEM;
    }
    return FT_OK;
}

ft_status save_quant_items(save_plan *p)
{
    const model_quant *q = p->opt->quant;
    save_item *all = arena_get(p->mem, (size_t)p->n * MODEL_QUANT_PARTS * sizeof *all);
    int64_t n = 0;
    if (!all) return FT_EMEM;
    if (q->writer->fits) FT_TRY(q->writer->fits(p->m, p->opt));
    for (int64_t i = 0; i < p->n; i++) {
        int parts = 1;
        if (!p->item[i].added && q->writer->means(p->m, p->item[i].param))
            FT_TRY(add_parts(p, p->item[i].param, all + n, &parts));
        else
            all[n] = p->item[i];
        n += parts;
    }
    p->item = all;
    p->n = n;
    return arena_open(&p->codes, "codes of a matrix", (size_t)1 << 36);
}

static ft_status code(save_plan *p, int64_t param)
{
    const nn_param *q = &p->m->param[param];
    const model_tensor *info = &p->m->info[param];
    tn_tensor src;
    float *w = NULL;
    p->coded = NULL;
    arena_reset(p->codes, 0);
    tn_tensor *out = arena_get(p->codes, sizeof *out);
    if (!out) return FT_EMEM;
    ft_status rc = save_source(p, param, &src, &w);
    if (rc == FT_OK)
        rc = p->opt->quant->writer->code(p->opt->quant_cfg, save_quant_dtype(p->m), &src,
                                         info->hf_in_out && !q->hf_turned, q->name, info->site->out,
                                         info->site->in, p->codes, out);
    ft_free(w);
    if (rc == FT_EDATA && !p->opt->as_given) rc = FT_EDIVERGED; /* a value that is no number */
    if (rc != FT_OK) return rc;
    p->coded = out;
    p->coded_param = param;
    return FT_OK;
}

ft_status save_quant_bytes(save_plan *p, const save_item *it, save_put put, void *ctx)
{
    const void *data = NULL;
    size_t bytes = 0;
    const int64_t n = it->dim[0] * (it->nd == 2 ? it->dim[1] : 1);
    FT_TRY(ft_stop());
    if (!p->coded || p->coded_param != it->param) FT_TRY(code(p, it->param));
    FT_TRY(p->opt->quant->writer->data(p->coded, it->part - 1, p->codes, &data));
    FT_CHECK(dt_bytes(it->type, n, &bytes), FT_EINTERNAL, "\"%s\": size", it->name);
    if (!p->opt->allow_nonfinite && dt_find_nonfinite(it->type, data, n) >= 0)
        return save_refuse(p, it->name, "a value that is NaN or Inf");
    return put(ctx, data, bytes);
}
