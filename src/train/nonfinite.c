/* nonfinite.c – a loss that is no number: the message names what was the first to be none. */
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

ft_status train_not_finite(const train_session *s, int64_t step, const char *what, double value,
                           const nn_batch *b)
{
    str_buf where = {0};
    inf_ctx c = {.m = s->m, .over = &s->pe->over, .tape = s->tape};
    ft_status rc = find_trained(&s->pe->store, &where);
    if (rc == FT_OK && where.len == 0) rc = inf_find_nonfinite(&c, b, &where);
    if (rc == FT_OK)
        rc = ft_fail(FT_EDIVERGED,
                     "step %lld: the %s is %s: %s; stopped before an update. A lower learning "
                     "rate, more warm-up or cleaner data may help, unless it is in the base model",
                     (long long)step, what, isnan(value) ? "NaN" : "infinite", where.data);
    str_free(&where);
    return rc;
}
