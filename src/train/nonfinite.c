/* nonfinite.c – a loss that is no number: the message names what was the first to be none, and what helps against that. */
#include "train_private.h"

#include "ft/kernel.h"

#include <math.h>

static ft_status find_trained(const nn_store *p, str_buf *out)
{
    for (int64_t i = 0; i < p->n && out->len == 0; i++) {
        const float *w = p->w + p->offset[i];
        int64_t at = kn_find_nonfinite(w, tn_count(&p->param[i]->t));
        if (at >= 0)
            str_printf(out, "the trained value %s holds %s", ft_shows(p->param[i]->name),
                       isnan(w[at]) ? "NaN" : "Inf");
    }
    return str_ok(out);
}

/* Weights of the base, then trained values, then the pass over the batch. */
static ft_status look(const train_session *s, const nn_batch *b, str_buf *where, const char **help)
{
    inf_ctx c = {.m = s->m, .tape = s->tape};
    const bool updated = s->state.step > 0;
    *help = "get the model's files again, or another model";
    FT_TRY(inf_find_nonfinite(&c, NULL, where));
    if (where->len > 0) return FT_OK;
    *help = updated ? "a lower learning rate, more warm-up or cleaner data may help"
                    : "no update was made yet, so training starts from it: from method.init_from, "
                      "or from a start that overflows";
    FT_TRY(find_trained(&s->pe->store, where));
    if (where->len > 0) return FT_OK;
    if (!updated)
        *help = "no update was made yet, so the model itself gives it for the tokens of the batch; "
                "try these with `ft score`, and train.precision \"f32\" if that was not used";
    c.over = &s->pe->over;
    return inf_find_nonfinite(&c, b, where);
}

ft_status train_not_finite(const train_session *s, int64_t step, const char *what, double value,
                           const nn_batch *b)
{
    str_buf where = {0};
    const char *help;
    ft_status rc = look(s, b, &where, &help);
    if (rc == FT_OK)
        rc = ft_fail(FT_EDIVERGED, "step %lld: the %s is %s: %s; %s", (long long)step, what,
                     isnan(value) ? "NaN" : "infinite", where.data, help);
    str_free(&where);
    return rc;
}
