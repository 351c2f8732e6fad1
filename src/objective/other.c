/* other.c – a second model over the same batches: the base without the adapter, which costs no second copy; another adapter
 * over it; or a model of its own, mapped from its file.
 *
 * It runs on the policy's tape, before the policy and without a record, so a dry tape counts it too. Its rows are the
 * policy's, but for virtual ones, which each has for itself. */
#include "other.h"

#include "ft/io.h"

#include <string.h>

obj_other obj_other_base(const obj_ctx *c)
{
    return (obj_other){.m = c->m};
}

static int64_t longest_sequence(const obj_ctx *c)
{
    const int64_t train = data_longest_sequence(c->train, c->batch_size);
    const int64_t eval = c->eval ? data_longest_sequence(c->eval, 1) : 0;
    return train > eval ? train : eval;
}

static ft_status open_model(const obj_ctx *c, const char *what, const char *path, bool weights,
                            obj_other *o)
{
    const model_options mo = {.path = path, .no_weights = !weights};
    FT_TRY(model_open(&o->own, &mo));
    const int64_t mine = c->m->d.vocab_size, its = o->own->d.vocab_size;
    FT_CHECK(mine == its, FT_EDATA,
             "%s: %s has a vocabulary of %lld tokens, the model of %lld: both must read the same "
             "ids",
             ft_shows(path), what, (long long)its, (long long)mine);
    o->m = o->own;
    o->bytes += model_bytes(o->m);
    return FT_OK;
}

static ft_status open_adapter(const char *path, obj_other *o)
{
    FT_TRY(pe_open_adapter(&o->adapter, o->m, path));
    o->over = &o->adapter->over;
    const nn_store *s = &o->adapter->store;
    o->bytes += (size_t)(s->count + s->state_count + s->derived_count) * sizeof(float);
    return FT_OK;
}

static ft_status check_positions(const char *what, const char *path, int64_t longest,
                                 const obj_other *o)
{
    const int64_t most = o->m->d.max_position - nn_virtual(o->over);
    FT_CHECK(!o->m->position || longest <= most, FT_EDATA,
             "%s: %s has %lld positions, a sequence has up to %lld tokens; lower data.max_length",
             ft_shows(path), what, (long long)most, (long long)longest);
    return FT_OK;
}

const char *obj_other_reference(const obj_ctx *c, const char *told)
{
    return !told ? c->init_from : strcmp(told, "base") == 0 ? NULL : told;
}

ft_status obj_other_open(const obj_ctx *c, const char *what, const char *path, const char *adapter,
                         int64_t longest, bool weights, obj_other *out)
{
    path_kind kind;
    *out = obj_other_base(c);
    const char *config = path_join(c->mem, path, "adapter_config.json");
    if (!config) return FT_EMEM;
    FT_TRY(path_look(config, &kind));
    if (kind == PATH_FILE && !adapter)
        FT_TRY(open_adapter(path, out));
    else
        FT_TRY(open_model(c, what, path, weights, out));
    if (adapter) FT_TRY(open_adapter(adapter, out));
    return check_positions(what, path, longest > 0 ? longest : longest_sequence(c), out);
}

void obj_other_close(obj_other *o)
{
    pe_close(o->adapter);
    model_close(o->own);
    *o = (obj_other){0};
}

/* --- over a batch ------------------------------------------------------------------------------------------------- */
static int64_t row_in(const nn_run *r, int64_t row)
{
    return r->row_of ? r->row_of[row] : row;
}

static bool predicts_first(const nn_overlay *over)
{
    return over && over->virtual_tokens > 0 && over->virtual_predict;
}

/* [rows of r] the row of q; −1 for virtual ones, but that the last may predict the first token in both. */
static const int64_t *match_rows(const nn_run *r, const nn_run *q, const data_batch *b)
{
    if (!r->row_of && !q->row_of) return NULL;
    const bool both = predicts_first(r->over) && predicts_first(q->over);
    int64_t *row = ag_meta(r->t, (size_t)(r->tokens + 1) * sizeof *row);
    if (!row) return NULL;
    for (int64_t i = 0; i < r->tokens; i++) row[i] = -1;
    for (int64_t i = 0; i < b->in.tokens; i++) {
        row[row_in(r, i)] = row_in(q, i);
        if (both && b->in.pos[i] == 0) row[row_in(r, i) - 1] = row_in(q, i) - 1;
    }
    return row;
}

bool obj_other_see(const obj_other *o, nn_run *r, const data_batch *b, ag_other *out)
{
    ag_tape *t = r->t;
    const bool record = t->record;
    nn_run *q = ag_meta(t, sizeof *q); /* the backward of the loss reads it too */
    if (!q || nn_run_open(q, t, &b->in, o->over, 0) != FT_OK) return false;
    out->x = model_hidden(o->m, q);
    out->head = model_head(o->m, q);
    out->row = match_rows(r, q, b);
    t->record = record;
    ag_set_rows(t, r->rows);
    return t->status == FT_OK;
}

void obj_other_count(const nn_run *r, const data_batch *b, obj_other_pass pass, const void *with)
{
    ag_tape *t = r->t;
    const bool record = t->record;
    const ag_mark mark = ag_enter(t);
    const ft_status rc = pass(with, t, b);
    ag_leave(t, &mark);
    ag_set_rows(t, r->rows);
    t->record = record;
    if (rc != FT_OK) ag_fail(t, rc);
}
