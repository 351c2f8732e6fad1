/* nonfinite.c – where a number that is none comes from: a weight of the file, a value laid over it, or the first layer whose
 * result overflows. Asked after a loss or a probability has turned out to be NaN or Inf, and of the weights alone before they
 * are coded or pruned. */
#include <math.h>

#include "ft/infer.h"

enum { ROWS = 64 }; /* of a matrix unpacked at a time */

static const char *kind(float v)
{
    return isnan(v) ? "NaN" : "Inf";
}

/* The first value of a tensor that is none; false: all are numbers. */
static bool find_in(const tn_tensor *t, float *row, float *value)
{
    int64_t cols = tn_cols(t), rows = tn_rows(t);
    for (int64_t i = 0; i < rows; i += ROWS) {
        int64_t n = rows - i < ROWS ? rows - i : ROWS;
        tn_unpack_rows(row, t, i, n);
        int64_t at = kn_find_nonfinite(row, n * cols);
        if (at < 0) continue;
        *value = row[at];
        return true;
    }
    return false;
}

static ft_status find_weight(const inf_ctx *c, str_buf *out)
{
    int64_t widest = 1;
    for (int64_t i = 0; i < c->m->n_param; i++) {
        int64_t cols = tn_cols(nn_value_of(c->over, &c->m->param[i]));
        if (cols > widest) widest = cols;
    }
    float *row = ft_alloc((size_t)(ROWS * widest), sizeof *row), value;
    if (!row) return FT_EMEM;
    ft_status rc = FT_OK;
    for (int64_t i = 0; rc == FT_OK && i < c->m->n_param && out->len == 0; i++) {
        nn_param *p = &c->m->param[i];
        const tn_tensor *t = nn_value_of(c->over, p);
        const bool found = t->data && find_in(t, row, &value);
        if (t == &p->t) model_forget(c->m, i);
        rc = ft_stop();
        if (!found) continue;
        str_printf(out, "the %s %s holds %s", t == &p->t ? "weight" : "trained value",
                   ft_shows(p->name), kind(value));
        if (t == &p->t && c->m->path) str_printf(out, " (%s)", ft_shows(model_param_file(c->m, i)));
    }
    ft_free(row);
    return rc == FT_OK ? str_ok(out) : rc;
}

static void look(void *ctx, const nn_run *r, int layer, const char *part, const tn_tensor *h)
{
    str_buf *out = ctx;
    int64_t at = out->len ? -1 : kn_find_nonfinite(tn_f32(h), tn_count(h));
    if (at < 0) return;
    const char *what = kind(tn_f32(h)[at]);
    if (layer < 0)
        str_printf(out, "the result of the %s is %s", part, what);
    else
        str_printf(out, "the result of the %s of layer %d is %s", part, layer, what);
    str_printf(out, " at token %lld", (long long)(at / tn_cols(h)));
    (void)r;
}

ft_status inf_find_nonfinite(const inf_ctx *c, const nn_batch *b, str_buf *out)
{
    nn_run r;
    FT_TRY(file_inputs_check()); /* written over meanwhile, it is not the model's fault */
    FT_TRY(find_weight(c, out));
    if (out->len > 0 || !b) return FT_OK;
    ag_reset(c->tape);
    FT_TRY(nn_run_open(&r, c->tape, b, c->over, 0));
    r.watch = look;
    r.watch_ctx = out;
    model_hidden(c->m, &r);
    FT_TRY(c->tape->status);
    if (out->len == 0) str_adds(out, "the logits are not finite, all that leads to them is");
    return str_ok(out);
}
