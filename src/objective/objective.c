/* objective.c – the registry of losses. */
#include "ft/objective.h"

#include <math.h>
#include <string.h>

#define X(name) extern const obj_objective obj_##name;
#include "objectives.def"
#undef X
#define X(name) &obj_##name,
static const obj_objective *const rows[] = {
#include "objectives.def"
};
#undef X

const obj_objective *obj_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(rows) ? rows[i] : NULL;
}

const obj_objective *obj_by_name(const char *name)
{
    for (size_t i = 0; name && i < FT_COUNT_OF(rows); i++) {
        if (strcmp(rows[i]->name, name) == 0) return rows[i];
    }
    return NULL;
}

const char *const *obj_names(void)
{
    static const char *names[FT_COUNT_OF(rows) + 1];
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) names[i] = rows[i]->name;
    return names;
}

int obj_metrics(const obj_objective *o)
{
    int n = 0;
    while (o->metrics && o->metrics[n]) n++;
    return n;
}

ft_status obj_names_of(const obj_objective *o, const void *cfg, data_set *train, arena *mem,
                       const char *const **out, int *n)
{
    static const char *const none[] = {NULL};
    const char *const *more = none;
    const int own = obj_metrics(o);
    if (o->names) FT_TRY(o->names(cfg, train, mem, &more));
    for (*n = 0; more[*n];) ++*n;
    const char **all = arena_get(mem, (size_t)(own + *n + 1) * sizeof *all);
    if (!all) return FT_EMEM;
    for (int i = 0; i < own; i++) all[i] = o->metrics[i];
    for (int i = 0; i < *n; i++) all[own + i] = more[i];
    *out = all;
    *n += own;
    return FT_OK;
}

double obj_mean(const obj_stats *s)
{
    return s->loss / s->units + (s->more.weight > 0 ? s->more.sum / s->more.weight : 0);
}

ft_status obj_open(obj_ctx *c, bool weights)
{
    return c->row->open ? c->row->open(c, weights) : FT_OK;
}

void obj_close(obj_ctx *c)
{
    if (c->row && c->row->close) c->row->close(c);
    *c = (obj_ctx){0};
}

void obj_metric_values(const obj_objective *o, const obj_metric *sums, int n, double *out)
{
    for (int i = 0; i < n; i++)
        out[i] = sums[i].weight > 0 ? sums[i].sum / sums[i].weight : (double)NAN;
    if (o->derive) o->derive(out);
}
