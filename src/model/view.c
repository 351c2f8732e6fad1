/* view.c – a parameter as a folder holds it, whatever the model was read from, for who reads models tensor by tensor; what is
 * the same in two models of a family; and the config.json of a model that is made of others. */
#include <stdio.h>
#include <string.h>

#include "save_private.h"

/* --- values ------------------------------------------------------------------------------------------------ */

static ft_status lend(model_view *v, const nn_param *q)
{
    const int64_t i = model_file_param(v->m, q->index);
    v->of[v->n_lent] = i;
    FT_TRY(model_lend(v->m, i, &v->lent[v->n_lent]));
    v->n_lent++;
    return FT_OK;
}

/* What is folded is read as a whole: weight and bias of its site. */
static ft_status lend_all(model_view *v, int64_t i, bool folds)
{
    const nn_site *s = v->m->info[i].site;
    FT_TRY(lend(v, &v->m->param[i]));
    if (!folds) return FT_OK;
    if (s->w->index != i) FT_TRY(lend(v, s->w));
    return s->b && s->b->index != i ? lend(v, s->b) : FT_OK;
}

ft_status model_view_open(model_view *v, model *m, int64_t i, const model_save_options *opt)
{
    static const model_save_options none;
    const save_plan p = {.m = m, .opt = opt ? opt : &none};
    const bool folds = save_folds(&p, i), turned = m->param[i].hf_turned && m->param[i].t.nd == 2;
    *v = (model_view){.m = m};
    v->lent = ft_alloc(FT_COUNT_OF(v->of), sizeof *v->lent);
    if (!v->lent) return FT_EMEM;
    ft_status rc = lend_all(v, i, folds);
    if (rc == FT_OK) v->t = *save_value(&p, &m->param[i]);
    if (rc == FT_OK && (folds || turned)) {
        rc = save_folded(&p, i, &v->values);
        v->t = (tn_tensor){.type = &dt_f32, .nd = v->t.nd, .dim = {v->t.dim[0], v->t.dim[1]}};
    }
    if (rc == FT_OK && turned) {
        rc = save_turn(&v->values, v->t.dim[0], v->t.dim[1]);
        v->t.dim[0] = m->param[i].t.dim[1];
        v->t.dim[1] = m->param[i].t.dim[0];
    }
    if (v->values) v->t.data = v->values;
    if (rc != FT_OK) model_view_close(v);
    return rc;
}

void model_forget(const model *m, int64_t i)
{
    const io_tensor *t = m->weights.n > 0 ? model_find_tensor(m, i, "") : NULL;
    if (t && t->data && t->data == m->param[i].t.data) file_map_forget(t->data, t->bytes);
}

void model_view_close(model_view *v)
{
    if (v->m && v->n_lent > 0) model_forget(v->m, v->of[0]);
    for (int k = 0; k < v->n_lent; k++) model_lend_end(v->m, v->of[k], &v->lent[k]);
    ft_free(v->lent);
    ft_free(v->values);
    *v = (model_view){0};
}

/* --- two models of a family ---------------------------------------------------------------------------------- */

int model_param_layer(const model *m, int64_t i)
{
    return m->info[i].layer;
}

int64_t model_file_param(const model *m, int64_t i)
{
    return m->d.tied && &m->param[i] == m->head->w ? m->embed->w->index : i;
}

int64_t model_param_like(const model *m, int layer, const model *like, int64_t i)
{
    const model_tensor *is = &like->info[i];
    for (int64_t k = 0; k < m->n_param; k++) {
        const model_tensor *t = &m->info[k];
        if (t->layer == layer && t->part == is->part && t->slot == is->slot &&
            t->bias == is->bias && t->expert == is->expert)
            return model_file_param(m, k);
    }
    return -1;
}

/* --- a config ------------------------------------------------------------------------------------------------ */

static void set_count(const model *m, const char *name, int64_t n, str_buf *out)
{
    const model_key key = family_key(m->family, family_find_key(model_frame_keys, name));
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)n);
    js_set_member(out, key.hf, text);
}

/* The kind of each layer, where the config lists them, or tells them by numbers that are others now. */
static ft_status set_types(const model *m, const cJSON *types, const int *layer, int64_t n_layer,
                           str_buf *out)
{
    const bool listed = cJSON_IsArray(types);
    bool moved = n_layer != m->d.n_layer;
    str_buf list = {0};
    for (int64_t i = 0; i < n_layer; i++) moved = moved || layer[i] != i;
    if (!listed && !(moved && m->layer[0].type)) return FT_OK;
    for (int64_t i = 0; i < n_layer; i++) {
        str_adds(&list, i ? ", " : "[");
        if (listed)
            js_print(&list, cJSON_GetArrayItem(types, layer[i]), false);
        else
            str_printf(&list, "\"%s\"", m->layer[layer[i]].type);
    }
    str_addc(&list, ']');
    const ft_status rc = str_ok(&list);
    if (rc == FT_OK) js_set_member(out, "layer_types", list.data);
    str_free(&list);
    return rc;
}

ft_status model_config_shape(const model *m, const int *layer, int64_t n_layer, int64_t vocabulary,
                             bool untie, str_buf *out)
{
    js_doc d = {0};
    FT_TRY(
        js_parse(&d, m->config, strlen(m->config), "config.json", 1, JS_ALLOW_NONFINITE, FT_EDATA));
    str_adds(out, m->config);
    if (n_layer != m->d.n_layer) set_count(m, "layers", n_layer, out);
    if (vocabulary != m->d.vocab_size) set_count(m, "vocab", vocabulary, out);
    ft_status rc = set_types(m, js_get(d.root, "layer_types"), layer, n_layer, out);
    if (untie) js_set_member(out, "tie_word_embeddings", "false");
    if (js_get(d.root, "quantization_config")) js_drop_member(out, "quantization_config");
    js_close(&d);
    return rc == FT_OK ? str_ok(out) : rc;
}
