/* save_lora.c – low-rank changes of a model as a LoRA file of llama.cpp: factors by the names that its tensors have there.
 *
 * The file has one alpha: a tensor's change is alpha / r · B A, r being the columns of its B. What a module has of its own
 * (another alpha, √r in place of r) goes into its B. Rows of B stand as the rows of the base's tensor in a GGUF do. What
 * llama.cpp would read and pass over, or cannot read, is refused. */
#include <math.h>
#include <string.h>

#include "save_private.h"

/* Is there a tensor in the base's GGUF to which llama.cpp adds a LoRA? */
const char *model_lora_refuses(const model *m, const nn_site *s)
{
    if (s == m->position) return "llama.cpp adds nothing to a table of positions";
    if (m->d.tied && s == m->head)
        return "the head is the embedding, and a .gguf has no tensor of its own for it";
    if (m->d.tied && s == m->embed)
        return "the embedding is the head too, where llama.cpp cannot add to it";
    if (m->info[s->w->index].experts > 0) return "experts stand as one tensor in a .gguf";
    return NULL;
}

/* B times `factor`, in the plan's memory. */
static ft_status scaled(save_plan *p, const nn_param *b, double factor, const nn_param **out)
{
    const int64_t n = tn_count(&b->t);
    nn_param *copy = arena_get(p->mem, sizeof *copy);
    float *v = arena_get(p->mem, (size_t)n * sizeof *v);
    if (!copy || !v) return FT_EMEM;
    for (int64_t i = 0; i < n; i++) v[i] = (float)(factor * (double)tn_f32(&b->t)[i]);
    *copy = *b;
    copy->t.data = v;
    *out = copy;
    return FT_OK;
}

static ft_status add_item(save_plan *p, const nn_site *s, const nn_param *factor, const char *end,
                          const dt_type *type)
{
    const model_tensor *info = &p->m->info[s->w->index];
    save_item *it = &p->item[p->n++];
    *it = (save_item){.param = s->w->index,
                      .added = factor,
                      .name = arena_printf(p->mem, "%s%s", info->gguf_name, end),
                      .type = type,
                      .nd = 2,
                      .dim = {factor->t.dim[0], factor->t.dim[1]}};
    return it->name ? FT_OK : FT_EMEM;
}

static ft_status add_site(save_plan *p, const nn_site *s, const model_low_rank *low, float alpha,
                          const dt_type *type)
{
    const model_tensor *info = &p->m->info[s->w->index];
    const double r = (double)low->b->t.dim[1], factor = (double)low->scale * r / (double)alpha;
    const nn_param *b = low->b;
    const char *why = model_lora_refuses(p->m, s);
    FT_CHECK(!why, FT_EDATA,
             "%s: adapts \"%s\": %s; fold it into the model with merge-adapter and convert that",
             ft_shows(p->path), s->path, why);
    /* alpha / r has been rounded on its way here: no factor is meant */
    if (fabs(factor - 1.0) > 1e-6) FT_TRY(scaled(p, b, factor, &b));
    FT_TRY(add_item(p, s, low->a, ".lora_a", type));
    FT_TRY(add_item(p, s, b, ".lora_b", type));
    if (info->permute == 0) return FT_OK;
    save_item *rows = &p->item[p->n - 1];
    rows->order = save_gguf_rows(p->mem, info->permute, info->head_dim);
    return rows->order ? FT_OK : FT_EMEM;
}

/* Without alpha, or with 0, llama.cpp takes B A as it is. */
static float file_alpha(double alpha)
{
    return (float)alpha != 0.0f ? (float)alpha : 1.0f;
}

static ft_status choose(save_plan *p, const model_lora *l, float *alpha)
{
    const model *m = p->m;
    model_low_rank low;
    bool any = false;
    p->n = 0;
    for (int64_t i = 0; i < m->n_site; i++) {
        if (!l->at(l->ctx, &m->site[i], &low)) continue;
        if (!any) *alpha = file_alpha(low.alpha);
        any = true;
        FT_TRY(add_site(p, &m->site[i], &low, *alpha, l->type));
    }
    FT_CHECK(any, FT_EDATA, "%s: adapts no module", ft_shows(p->path));
    return FT_OK;
}

static void put_text(gguf_writer *w, const char *key, const char *text)
{
    gguf_put_str(w, key, text, strlen(text));
}

/* The keys of llama.cpp's converter, in its order. */
static void put_meta(gguf_writer *w, const save_plan *p, const model_lora *l, float alpha)
{
    put_text(w, "general.architecture", p->m->family->gguf_arch);
    put_text(w, "general.type", "adapter");
    put_text(w, "adapter.type", "lora");
    put_text(w, "general.name", path_base(p->path));
    gguf_put_int(w, "general.base_model.count", GGUF_U32, 1);
    put_text(w, "general.base_model.0.name", path_base(p->m->path));
    gguf_put_int(w, "general.file_type", GGUF_U32, save_file_type(l->type, NULL));
    gguf_put_f32(w, "adapter.lora.alpha", alpha);
}

static ft_status put_gguf(void *ctx, const void *data, size_t n)
{
    return gguf_write(ctx, data, n);
}

static ft_status write_once(save_plan *p, const char *path, const model_lora *l, float alpha)
{
    gguf_writer *w;
    FT_TRY(gguf_write_open(&w, path));
    ft_status rc;
    put_meta(w, p, l, alpha);
    for (int64_t i = 0; i < p->n; i++)
        gguf_put_tensor(w, p->item[i].name, p->item[i].type, 2, p->item[i].dim);
    FT_TRY_OUT(gguf_write_header(w));
    for (int64_t i = 0; i < p->n; i++) FT_TRY_OUT(save_bytes(p, &p->item[i], put_gguf, w));
    return gguf_write_close(w);
out:
    gguf_write_abort(w);
    return rc;
}

ft_status model_save_lora(model *m, const char *path, const model_lora *l, model_lora_told *told)
{
    const model_save_options opt = {.type = l->type};
    save_plan p;
    int tries = 0;
    ft_status rc = save_plan_open(&p, m, &opt);
    if (rc == FT_OK) {
        p.path = l->name;
        p.item = arena_get(p.mem, (size_t)(2 * m->n_site + 1) * sizeof *p.item);
        rc = p.item ? choose(&p, l, &told->alpha) : FT_EMEM;
    }
    if (rc == FT_OK) {
        do rc = write_once(&p, path, l, told->alpha);
        while (file_out_again(rc, &tries));
    }
    told->tensors = p.n;
    save_plan_close(&p);
    return rc;
}
