/* value_head.c – v(h) = w·h + b on the policy's last hidden state (after the final norm), as TRL's ValueHead has it without
 * dropout; its file has the names that LLaMA-Factory and TRL's AutoModelForCausalLMWithValueHead give it.
 *
 * The head shares the policy's passes, so it costs no model of its own, and its loss reaches the policy through h. */
#include "value_head.h"

#include "ft/io.h"

#include <string.h>

#define FILE_NAME "value_head.safetensors"
#define WEIGHT "v_head.summary.weight"
#define BIAS "v_head.summary.bias"
const char *const obj_value_files[] = {FILE_NAME, NULL};

static ft_status read_one(const st_file *f, const nn_param *p, bool values)
{
    const io_tensor *t = st_find(f, p->name);
    tn_tensor from = p->t;
    bool fits = t && t->nd == from.nd;
    for (int k = 0; fits && k < from.nd; k++) fits = t->dim[k] == from.dim[k];
    FT_CHECK(t, FT_EDATA, "%s: has no tensor \"%s\": is it a value head?", ft_shows(f->path),
             p->name);
    FT_CHECK(fits, FT_EDATA, "%s: \"%s\" is not [%s%lld]: it is the head of another model",
             ft_shows(f->path), p->name, from.nd == 2 ? "1, " : "", (long long)tn_count(&from));
    FT_CHECK(dt_find_nonfinite(t->type, t->data, tn_count(&from)) < 0, FT_EDATA,
             "%s: \"%s\" holds a NaN or an Inf", ft_shows(f->path), p->name);
    from.type = t->type;
    from.data = (void *)(uintptr_t)t->data;
    if (values) tn_unpack_rows(tn_f32(&p->t), &from, 0, tn_rows(&from));
    return FT_OK;
}

static ft_status read_head(const obj_ctx *c, const char *from, bool values, const value_head *v)
{
    path_kind kind;
    st_file f;
    FT_TRY(path_look(from, &kind));
    const char *path = kind == PATH_FOLDER ? path_join(c->mem, from, FILE_NAME) : from;
    if (!path) return FT_EMEM;
    FT_TRY(st_open(&f, path, c->mem));
    ft_status rc = read_one(&f, v->w, values);
    if (rc == FT_OK) rc = read_one(&f, v->b, values);
    st_close(&f);
    return rc;
}

ft_status obj_value_open(const obj_ctx *c, const char *from, bool values, value_head *out)
{
    FT_TRY(nn_new_param(c->store, WEIGHT, 1, c->m->d.hidden_size, &out->w));
    FT_TRY(nn_new_param(c->store, BIAS, 1, 0, &out->b));
    out->b->hyper.decay_ratio = 0;
    return from ? read_head(c, from, values, out) : FT_OK;
}

tn_tensor *obj_value(nn_run *r, const value_head *v, tn_tensor *h)
{
    int64_t n = 0, *row = ag_meta(r->t, ((size_t)r->supervised + 1) * sizeof *row);
    if (r->t->status != FT_OK) return h;
    for (int64_t i = 0; i < r->tokens; i++)
        if (r->label[i] >= 0) row[n++] = i;
    tn_tensor *x = ag_gather_rows(r->t, h, row, n);
    const ag_rows *before = ag_set_rows(r->t, ag_pick_rows(r->t, row, n));
    tn_tensor *y = ag_linear(r->t, x, &(ag_weight){.w = &v->w->t, .b = &v->b->t}, 1, NULL);
    ag_set_rows(r->t, before);
    return y;
}

ft_status obj_value_save(const obj_ctx *c, const value_head *v, const char *dir)
{
    const nn_param *const p[] = {v->w, v->b};
    st_decl decl[FT_COUNT_OF(p)];
    const void *data[FT_COUNT_OF(p)];
    const size_t mark = arena_mark(c->step_mem);
    const char *path = path_join(c->step_mem, dir, FILE_NAME);
    if (!path) return FT_EMEM;
    for (size_t i = 0; i < FT_COUNT_OF(p); i++) {
        const tn_tensor *t = &p[i]->t;
        decl[i] = (st_decl){.name = p[i]->name, .type = &dt_f32, .nd = t->nd};
        for (int k = 0; k < t->nd; k++) decl[i].dim[k] = t->dim[k];
        data[i] = t->data;
        FT_CHECK(dt_find_nonfinite(&dt_f32, t->data, tn_count(t)) < 0, FT_EDIVERGED,
                 "%s: tensor \"%s\" holds a NaN or an Inf; nothing was written", path, p[i]->name);
    }
    const ft_status rc = st_write_all(path, decl, data, FT_COUNT_OF(p), NULL, 0);
    arena_reset(c->step_mem, mark);
    return rc;
}
