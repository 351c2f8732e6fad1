/* reward.c – the registry of rewards, the list of a config, and a set of them that judges. */
#include "reward_private.h"

#include "ft/io.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define X(name) extern const rw_reward rw_reward_##name;
#include "rewards.def"
#undef X
#define X(name) &rw_reward_##name,
static const rw_reward *const rows[] = {
#include "rewards.def"
};
#undef X
#define X(name) #name,
static const char *const names[] = {
#include "rewards.def"
    NULL};
#undef X

struct rw_list {
    rw_one *one; /* [n] */
    int n;
};

const char *const rw_shapes[] = {"name", "object", "list of rewards", NULL};

const char *rw_type_at(int i, const char **help, const cfg_field **fields)
{
    if (i < 0 || i >= (int)FT_COUNT_OF(rows)) return NULL;
    if (help) *help = rows[i]->help;
    if (fields) *fields = rows[i]->fields;
    return rows[i]->name;
}

/* --- the list of a config --------------------------------------------------------------------------------------- */

ft_status rw_settle_path(cfg_doc *d, cJSON *node, const char **out)
{
    str_buf text = {0};
    const char *path = cfg_path(d, node, node->valuestring);
    ft_status rc = path ? cfg_absolute(&text, path) : FT_EMEM;
    if (rc == FT_OK) {
        *out = arena_str(d->mem, text.data);
        if (!*out || !cJSON_SetValuestring(node, *out)) rc = ft_fail(FT_EMEM, "out of memory");
    }
    str_free(&text);
    return rc;
}

static ft_status settle_paths(cfg_doc *d, const cJSON *node, const rw_one *r)
{
    for (const cfg_field *f = r->row->fields; f->key; f++) {
        cJSON *value = cJSON_GetObjectItemCaseSensitive(node, f->key);
        if (f->type == CFG_PATH && cJSON_IsString(value) && value->valuestring[0])
            FT_TRY(rw_settle_path(d, value, (const char **)((char *)r->cfg + f->offset)));
    }
    return FT_OK;
}

ft_status rw_check_answers(const rw_list *l, const char *const *answers)
{
    for (int k = 0; l && k < l->n; k++) {
        bool hit;
        const rw_match *m = l->one[k].row->answer ? rw_match_by_name(l->one[k].row->name) : NULL;
        for (int i = 0; m && answers[i]; i++) FT_TRY(m->match("", 0, answers[i], &hit));
    }
    return FT_OK;
}

const char *rw_path_at(const rw_list *l, int i)
{
    for (int k = 0; l && k < l->n; k++)
        for (const cfg_field *f = l->one[k].row->fields; f->key; f++) {
            if (f->type != CFG_PATH) continue;
            const char *path = *(const char *const *)((const char *)l->one[k].cfg + f->offset);
            if (path && i-- == 0) return path;
        }
    return NULL;
}

static const rw_reward *row_of(cfg_doc *d, const cJSON *node, const char *key)
{
    const cJSON *type = cJSON_IsString(node) ? node : js_get(node, "type");
    str_buf known = {0};
    if (!cJSON_IsString(node) && !cJSON_IsObject(node)) {
        cfg_fail(d, node, key, "each reward must be a name or an object");
        return NULL;
    }
    for (size_t i = 0; cJSON_IsString(type) && i < FT_COUNT_OF(rows); i++)
        if (strcmp(type->valuestring, rows[i]->name) == 0) return rows[i];
    for (size_t i = 0; names[i]; i++) str_printf(&known, "%s%s", i ? ", " : "", names[i]);
    const char *near = cJSON_IsString(type) ? cfg_nearest(type->valuestring, names) : NULL;
    cfg_fail(d, type ? type : node, key, "%s%s%s must be one of %s%s%s%s",
             cJSON_IsString(type) ? "\"" : "",
             cJSON_IsString(type) ? ft_shows(type->valuestring) : "type",
             cJSON_IsString(type) ? "\"" : "", known.data ? known.data : "",
             near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    str_free(&known);
    return NULL;
}

/* It stands in the names of logged fields. */
static bool good_name(const char *name)
{
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_-.", *c)) return false;
    return name[0] != 0;
}

static void check_name(cfg_doc *d, const cJSON *node, const char *key, const rw_list *l,
                       const rw_one *r)
{
    const char *name = rw_head_of(r)->name;
    if (!good_name(name))
        cfg_fail(d, node, key, "the name \"%s\" must be of letters, digits, _, - and .",
                 ft_shows(name));
    for (int i = 0; i < l->n; i++)
        if (strcmp(rw_name(l, i), name) == 0)
            cfg_fail(d, node, key, "two rewards are called \"%s\"; give one another name",
                     ft_shows(name));
}

static ft_status read_one(cfg_doc *d, const cJSON *node, const char *key, rw_list *l)
{
    rw_one r = {.row = row_of(d, node, key)};
    if (!r.row) return FT_OK;
    const int before = d->errors;
    r.cfg = arena_get(d->mem, r.row->cfg_size);
    cJSON *named = NULL;
    if (!r.cfg) return FT_EMEM;
    if (cJSON_IsString(node)) {
        named = cJSON_CreateObject();
        if (!cJSON_AddStringToObject(named, "type", node->valuestring)) {
            cJSON_Delete(named);
            return ft_fail(FT_EMEM, "out of memory");
        }
    }
    ft_status rc = cfg_read(d, named ? named : node, key, r.row->fields, r.cfg, NULL);
    cJSON_Delete(named);
    if (rc != FT_OK) return rc;
    rw_head *head = r.cfg;
    if (!head->name) head->name = r.row->name;
    if (cJSON_IsObject(node)) rc = settle_paths(d, node, &r);
    if (rc == FT_OK && r.row->check && d->errors == before) rc = r.row->check(d, node, key, r.cfg);
    check_name(d, node, key, l, &r);
    l->one[l->n++] = r;
    return rc;
}

/* In place of the rewards' own. */
static void read_weights(cfg_doc *d, const cJSON *weights, const char *key, rw_list *l, int given)
{
    const char *at = arena_printf(d->mem, "%.*s_weights", (int)strlen(key) - 1, key);
    const int n = cJSON_IsArray(weights) ? cJSON_GetArraySize(weights) : -1;
    if (n != given) {
        cfg_fail(d, weights, at ? at : key, "must be a list of %d number%s, one for each reward",
                 given, given == 1 ? "" : "s");
        return;
    }
    for (int i = 0; i < n; i++) {
        const cJSON *w = cJSON_GetArrayItem(weights, i);
        if (!cJSON_IsNumber(w) || !(fabs(w->valuedouble) <= RW_MOST))
            cfg_fail(d, w, at ? at : key, "must be a number between -1e9 and 1e9");
        else if (i < l->n)
            ((rw_head *)l->one[i].cfg)->weight = w->valuedouble;
    }
}

ft_status rw_read(rw_list **out, cfg_doc *d, const cJSON *list, const cJSON *weights,
                  const char *key)
{
    const int n = !list ? 0 : cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 1;
    rw_list *l = arena_get(d->mem, sizeof *l);
    if (!l) return FT_EMEM;
    *out = l;
    l->one = arena_get(d->mem, (size_t)(n + 1) * sizeof *l->one);
    if (!l->one) return FT_EMEM;
    if (list && n == 0) cfg_fail(d, list, key, "must name at least one reward");
    if (list && !cJSON_IsArray(list)) FT_TRY(read_one(d, list, key, l));
    for (const cJSON *node = cJSON_IsArray(list) ? list->child : NULL; node; node = node->next)
        FT_TRY(read_one(d, node, key, l));
    if (weights) read_weights(d, weights, key, l, n);
    return FT_OK;
}

bool rw_wants_answer(const rw_list *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->one[i].row->answer) return true;
    return false;
}

int rw_count(const rw_list *l)
{
    return l->n;
}

const char *rw_name(const rw_list *l, int i)
{
    return rw_head_of(&l->one[i])->name;
}

double rw_weight(const rw_list *l, int i)
{
    return rw_head_of(&l->one[i])->weight;
}

/* --- judging ----------------------------------------------------------------------------------------------------- */

struct rw_set {
    rw_one *one; /* [n] */
    int n;
    rw_ctx *c;
};

void rw_close(rw_set *s)
{
    if (!s) return;
    for (int i = 0; i < s->n; i++)
        if (s->one[i].row->close) s->one[i].row->close(&s->one[i]);
    ft_free(s->one);
    ft_free(s);
}

ft_status rw_open(rw_set **out, const rw_list *l, rw_ctx *c)
{
    rw_set *s = ft_alloc(1, sizeof *s);
    ft_status rc = FT_OK;
    if (!s) return FT_EMEM;
    *out = s;
    s->c = c;
    s->one = ft_alloc((size_t)l->n + 1, sizeof *s->one);
    if (!s->one) rc = FT_EMEM;
    for (int i = 0; rc == FT_OK && i < l->n; i++) {
        rw_one *r = &s->one[s->n++];
        *r = l->one[i];
        r->c = c;
        if (r->row->open) rc = r->row->open(r);
    }
    if (rc == FT_OK) return FT_OK;
    rw_close(s);
    *out = NULL;
    return rc;
}

static ft_status check_answers(const rw_one *r, const rw_item *item, int64_t n)
{
    for (int64_t i = 0; r->row->answer && i < n; i++)
        FT_CHECK(item[i].answers, FT_EDATA,
                 "line %lld: no \"answer\", which the reward \"%s\" needs", (long long)item[i].line,
                 rw_head_of(r)->name);
    return FT_OK;
}

ft_status rw_judge(rw_set *s, const rw_item *item, int64_t n, double *out)
{
    ft_status rc = FT_OK;
    double *value = ft_alloc((size_t)n + 1, sizeof *value);
    if (!value) return FT_EMEM;
    for (int k = 0; rc == FT_OK && k < s->n; k++) {
        rw_one *r = &s->one[k];
        memset(value, 0, (size_t)n * sizeof *value);
        if (!s->c->dry) rc = check_answers(r, item, n);
        if (rc == FT_OK && (!s->c->dry || r->row->passes)) rc = r->row->judge(r, item, n, value);
        for (int64_t i = 0; rc == FT_OK && i < n; i++) {
            out[i * s->n + k] = value[i];
            if (!(fabs(value[i]) <= RW_MOST))
                rc = ft_fail(FT_EDIVERGED,
                             "line %lld: the reward \"%s\" is %g, no number between -1e9 and 1e9",
                             (long long)item[i].line, rw_head_of(r)->name, value[i]);
        }
    }
    ft_free(value);
    return rc;
}
