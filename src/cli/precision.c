/* precision.c – the option --precision of verbs that read a training config: one more --set. */
#include "cli.h"

#include <string.h>

ft_status cli_precision_set(const cli_call *c, const char *const **sets, int *n_sets)
{
    const char **all;
    if (!c->precision) return FT_OK;
    all = arena_get(c->mem, ((size_t)c->n_sets + 1) * sizeof *all);
    char *last = arena_printf(c->mem, "train.precision=\"%s\"", c->precision);
    if (!all || !last) return FT_EMEM;
    if (c->n_sets > 0) memcpy(all, c->sets, (size_t)c->n_sets * sizeof *all);
    all[c->n_sets] = last;
    *sets = all;
    *n_sets = c->n_sets + 1;
    return FT_OK;
}
