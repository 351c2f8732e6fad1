/* quant.c – the table of quantisers, and config.json's quantization_config: which row reads a folder.
 *
 * A folder of a tool that no row knows is refused by that tool's name: its weights would be read as something they
 * are not. */
#include "model_private.h"

#include <string.h>

enum { CHECK_EACH = 64 << 20 }; /* bytes of codes */

#define X(name) extern const model_quant model_quant_##name;
#include "quants.def"
#undef X
#define X(name) &model_quant_##name,
static const model_quant *const rows[] = {
#include "quants.def"
    NULL /* no row may be there at all */
};
#undef X

const model_quant *model_quant_by_type(const char *type)
{
    for (const model_quant *const *q = rows; *q; q++) {
        if ((*q)->type && strcmp((*q)->type, type) == 0) return *q;
    }
    return NULL;
}

const model_quant *model_quant_make_at(int i)
{
    for (const model_quant *const *q = rows; *q; q++) {
        if ((*q)->type && i-- == 0) return *q;
    }
    return NULL;
}

const char *model_quant_output(const model_quant *q)
{
    return !q->writer ? NULL : q->writer->of_base ? q->method : q->type;
}

const model_quant *model_quant_output_at(int i)
{
    for (const model_quant *const *q = rows; *q; q++) {
        if (model_quant_output(*q) && i-- == 0) return *q;
    }
    return NULL;
}

const model_quant *model_quant_by_method(const char *method)
{
    for (const model_quant *const *q = rows; *q; q++) {
        if ((*q)->method && strcmp((*q)->method, method) == 0) return *q;
    }
    return NULL;
}

void model_quant_list(str_buf *out, bool types)
{
    int n = 0;
    for (const model_quant *const *q = rows; *q; q++) {
        const char *name = types ? (*q)->type : (*q)->method;
        if (name) str_printf(out, "%s%s", n++ ? ", " : "", name);
    }
}

void model_quant_turned(model *m, int64_t i)
{
    nn_param *p = &m->param[i];
    nn_site *s = m->info[i].site;
    p->t.dim[0] = s->out;
    p->t.dim[1] = s->in;
    p->hf_turned = p->hf_turned || s->in_out;
    s->in_out = false;
}

static ft_status unknown(const js_doc *d, const cJSON *at, const char *method)
{
    str_buf known = {0};
    model_quant_list(&known, false);
    ft_status rc = js_fail(d, at, FT_EDATA, "quantization_config.quant_method",
                           "weights quantised by \"%s\" cannot be read (%s%s); use the unquantised "
                           "folder or a GGUF",
                           ft_shows(method), known.len ? "those of these can: " : "none can",
                           known.data ? known.data : "");
    str_free(&known);
    return rc;
}

/* A base whose layers have blocks keeps them, all of it: what its maker left whole was left so on purpose. */
bool model_has_blocks(const model *m, const model_quant *q)
{
    for (int64_t i = 0; i < m->n_param; i++) {
        const io_tensor *t = q->means(m, i) ? model_find_tensor(m, i, "") : NULL;
        if (t && t->type->block > 1) return true;
    }
    return false;
}

static bool has_own_blocks(const model *m, const model_quant *q)
{
    for (int64_t i = 0; i < m->n_param; i++)
        if (q->means(m, i) && m->param[i].t.type->block > 1) return true;
    return false;
}

/* Random values of one matrix, which live no longer than it takes to quantise them. */
static ft_status quantise_random(model *m, int64_t i, const model_quant *q, const void *cfg)
{
    arena *own = m->own;
    const size_t bytes = (size_t)tn_count(&m->param[i].t) * sizeof(float);
    ft_status rc = arena_open_flat(&m->own, "values of a matrix", bytes + 64);
    if (rc == FT_OK) rc = model_init_values(m, i);
    if (rc == FT_OK) rc = q->make(m, i, cfg);
    arena_close(m->own);
    m->own = own;
    return rc;
}

/* A matrix of a file, which is mapped no longer than it takes. */
static ft_status quantise_read(model *m, int64_t i, const model_quant *q, const void *cfg)
{
    model_lent lent = {0};
    ft_status rc = m->no_weights ? FT_OK : model_lend(m, i, &lent);
    if (rc == FT_OK) rc = q->make(m, i, cfg);
    model_lend_end(m, i, &lent);
    return rc;
}

/* Will the codes fit, by what those of the first `done` of `all` values took? A plan of the run is made when they are there. */
static ft_status check_room(const model *m, const model_quant *q, double done, double all)
{
    const double more = (double)arena_peak(m->made) / done * (all - done);
    const size_t mapped = io_weights_rss(&m->weights);
    const ft_grant g = ft_memory_ask(&(ft_need){ft_rss() + (size_t)more, mapped, 0, 0});
    FT_CHECK(g.need <= g.limit, FT_EMEM,
             "quantising the model to %s needs %s of memory, %s grants %s", q->type,
             ft_bytes_text(g.need), g.name, ft_bytes_text(g.limit));
    return FT_OK;
}

ft_status model_quantise(model *m, const model_quant *q, const void *cfg)
{
    double all = 0, done = 0;
    size_t checked = 0;
    if (has_own_blocks(m, q)) return FT_OK;
    for (int64_t i = 0; i < m->n_param; i++)
        if (q->means(m, i)) all += (double)tn_count(&m->param[i].t);
    for (int64_t i = 0; i < m->n_param; i++) {
        if (!q->means(m, i)) continue;
        log_progress("quantising to %s: tensor %lld of %lld", q->type, (long long)(i + 1),
                     (long long)m->n_param);
        FT_TRY(ft_stop());
        FT_CHECK(ft_stop_asked() == FT_OK, FT_ETIME, "stopped by the time limit while quantising");
        FT_TRY(m->own ? quantise_random(m, i, q, cfg) : quantise_read(m, i, q, cfg));
        done += (double)tn_count(&m->param[i].t);
        if (m->no_weights || (checked && arena_peak(m->made) - checked < CHECK_EACH)) continue;
        FT_TRY(check_room(m, q, done, all));
        checked = arena_peak(m->made);
    }
    return FT_OK;
}

ft_status model_quant_read(model *m, const js_doc *d)
{
    const cJSON *object = js_get(d->root, "quantization_config");
    const char *method = NULL;
    if (!object || cJSON_IsNull(object)) return FT_OK;
    if (!cJSON_IsObject(object))
        return js_fail(d, object, FT_EDATA, "quantization_config", "must be an object");
    FT_TRY(js_get_str(d, object, "quant_method", NULL, &method));
    if (!method)
        return js_fail(d, object, FT_EDATA, "quantization_config",
                       "has no quant_method, so what the weights are cannot be told; use the "
                       "unquantised folder or a GGUF");
    m->quant = model_quant_by_method(method);
    if (!m->quant) return unknown(d, js_get(object, "quant_method"), method);
    m->quant_cfg = arena_get(m->mem, m->quant->size + 1);
    if (!m->quant_cfg) return FT_EMEM;
    return m->quant->read ? m->quant->read(d, object, m->quant_cfg) : FT_OK;
}
