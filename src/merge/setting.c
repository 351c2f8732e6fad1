/* setting.c – values of parameters that change with depth and name: a scalar; a gradient, a list that is run through from
 * the first layer of a slice to its last; conditionals {filter, value}, of which the first whose filter is in the tensor's
 * name counts. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "merge_private.h"

/* --- checks ---------------------------------------------------------------------------------------------------- */

static bool is_scalar(const cJSON *v)
{
    return cJSON_IsNumber(v) || cJSON_IsBool(v) || cJSON_IsString(v);
}

static bool fits(const cJSON *v, const merge_param *p)
{
    return p->boolean ? cJSON_IsBool(v) : cJSON_IsNumber(v);
}

static void wrong(merge_recipe *r, const cJSON *v, const char *key, const merge_param *p)
{
    cfg_fail(r->doc, v, key, "must be %s, a list of them, or {filter, value}",
             p->boolean ? "true or false" : "a number");
}

static bool check_scalar(merge_recipe *r, const cJSON *v, const char *key, const merge_param *p)
{
    const bool fit = fits(v, p),
               large = fit && !p->boolean && fabs(v->valuedouble) > (double)FLT_MAX;
    if (!fit)
        wrong(r, v, key, p);
    else if (large)
        cfg_fail(r->doc, v, key, "%g is beyond the numbers of f32", v->valuedouble);
    return fit && !large;
}

/* A scalar or a gradient. */
static void check_plain(merge_recipe *r, const cJSON *v, const char *key, const merge_param *p)
{
    const cJSON *e;
    if (!cJSON_IsArray(v))
        check_scalar(r, v, key, p);
    else if (!v->child)
        cfg_fail(r->doc, v, key, "an empty list sets nothing; leave the key out");
    else
        cJSON_ArrayForEach(e, v) if (!check_scalar(r, e, key, p)) return;
}

static void check_conditional(merge_recipe *r, const cJSON *v, const char *key,
                              const merge_param *p)
{
    const cJSON *e, *value = js_get(v, "value");
    cJSON_ArrayForEach(e, v)
    {
        const bool filter = strcmp(e->string, "filter") == 0;
        if (filter && !cJSON_IsString(e) && !cJSON_IsNull(e))
            cfg_fail(r->doc, e, key, "filter must be a part of tensors' names");
        else if (!filter && strcmp(e->string, "value") != 0)
            cfg_fail(r->doc, e, key, "\"%s\" is unknown; a condition has filter and value",
                     ft_shows(e->string));
    }
    if (value)
        check_plain(r, value, key, p);
    else
        cfg_fail(r->doc, v, key, "a condition needs a value");
}

static void check_setting(merge_recipe *r, const cJSON *v, const char *key, const merge_param *p)
{
    const cJSON *e;
    if (cJSON_IsObject(v))
        check_conditional(r, v, key, p);
    else if (cJSON_IsArray(v) && cJSON_IsObject(v->child))
        cJSON_ArrayForEach(e, v)
        {
            if (cJSON_IsObject(e))
                check_conditional(r, e, key, p);
            else
                wrong(r, e, key, p);
        }
    else
        check_plain(r, v, key, p);
}

static const merge_param *find(const merge_method *m, const char *name)
{
    for (const merge_param *p = m->params; p && p->name; p++)
        if (strcmp(p->name, name) == 0) return p;
    return NULL;
}

static void unknown(merge_recipe *r, const cJSON *v, const char *key)
{
    const char *names[MERGE_VALUES + 1] = {NULL}, *near;
    int n = 0;
    for (const merge_param *p = r->method->params; p && p->name; p++) names[n++] = p->name;
    near = cfg_nearest(v->string, names);
    cfg_fail(r->doc, v, key, "%s has no such parameter%s%s%s", r->method->name,
             near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

void merge_check_parameters(merge_recipe *r, const cJSON *map, const char *path, merge_scope owner)
{
    const cJSON *v;
    if (!map || cJSON_IsNull(map) || !r->method) return;
    if (!cJSON_IsObject(map)) {
        cfg_fail(r->doc, map, path, "must be a map of parameters");
        return;
    }
    cJSON_ArrayForEach(v, map)
    {
        const char *key = arena_printf(r->mem, "%s.%s", path, v->string);
        const merge_param *p = find(r->method, v->string);
        if (!key) cfg_fatal(r->doc, FT_EMEM);
        if (!key) return;
        if (!p)
            unknown(r, v, key);
        else if (owner != MERGE_SHARED && p->scope == MERGE_SHARED)
            cfg_fail(r->doc, v, key,
                     "is no parameter that a model may have; it belongs to the parameters of the "
                     "slice or of the recipe");
        else
            check_setting(r, v, key, p);
    }
}

/* --- values ---------------------------------------------------------------------------------------------------- */

static double number(const cJSON *v)
{
    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : v->valuedouble;
}

/* Numbers between their neighbours; what is true or false at the one before. */
static double gradient(const cJSON *list, double t)
{
    const int n = cJSON_GetArraySize(list);
    const double at = t * (n - 1);
    const int i = (int)at, next = i + 1 < n ? i + 1 : n - 1;
    const cJSON *v = cJSON_GetArrayItem(list, i);
    const double f = at - i;
    if (cJSON_IsBool(v) || next == i) return number(v);
    return (1 - f) * number(v) + f * number(cJSON_GetArrayItem(list, next));
}

static double plain(const cJSON *v, double t)
{
    return cJSON_IsArray(v) ? gradient(v, t) : number(v);
}

static bool applies(const cJSON *condition, const char *tensor)
{
    const cJSON *f = js_get(condition, "filter");
    return !cJSON_IsString(f) || strcmp(f->valuestring, "*") == 0 || strstr(tensor, f->valuestring);
}

static bool evaluate(const cJSON *v, const char *tensor, double t, double *out)
{
    const cJSON *e = v;
    if (is_scalar(v) || (cJSON_IsArray(v) && !cJSON_IsObject(v->child))) {
        *out = plain(v, t);
        return true;
    }
    if (cJSON_IsArray(v)) e = v->child;
    for (; e; e = cJSON_IsArray(v) ? e->next : NULL) {
        if (!applies(e, tensor)) continue;
        *out = plain(js_get(e, "value"), t);
        return true;
    }
    return false;
}

bool merge_look_up(const cJSON *const *map, int n, const merge_param *p, const char *tensor,
                   double t, double *out)
{
    for (int i = 0; i < n; i++) {
        const cJSON *v = map[i] ? js_get(map[i], p->name) : NULL;
        if (v && evaluate(v, tensor, t, out)) return true;
    }
    return false;
}
