/* fields.c – which field of a record is which: the columns that a source names, records that are known by other keys than
 * ours, and who speaks in a turn.
 *
 * A record whose keys are other ones is looked at through a view: an object with our keys whose members are those of the
 * record. The record itself is not changed, so a message still finds the place of a member in its file; and a .json file
 * is one tree, which all threads read. */
#include "data_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- paths ---------------------------------------------------------------------------------------------------- */
/* The next part of a dotted path. */
static const cJSON *step(const cJSON *at, const char *part, size_t n)
{
    char key[256];
    if (n >= sizeof key) return NULL;
    memcpy(key, part, n);
    key[n] = '\0';
    if (cJSON_IsObject(at)) return js_get(at, key);
    if (!cJSON_IsArray(at) || !n || n > 9 || strspn(key, "0123456789") != n) return NULL;
    return cJSON_GetArrayItem(at, atoi(key));
}

const cJSON *data_path(const cJSON *object, const char *path)
{
    const cJSON *at = cJSON_IsObject(object) ? js_get(object, path) : NULL;
    if (at) return at;
    at = object;
    for (const char *p = path; at && p; p = *p ? p + 1 : NULL) {
        size_t n = strcspn(p, ".");
        at = step(at, p, n);
        p += n;
        if (!*p) return at;
    }
    return NULL;
}

/* --- the view of a record ---------------------------------------------------------------------------------------- */
/* Is this member of the record in the view under another name, or is another one in its place? */
static bool is_moved(const data_source *s, const cJSON *const *from, const char *key)
{
    for (int i = 0; i < s->n_columns; i++) {
        const data_column *c = &s->column[i];
        if (from[i] && (!strcmp(c->path, key) || !strcmp(c->ours, key))) return true;
    }
    return false;
}

static ft_status add_member(data_item *it, int at, const char *key, const cJSON *member)
{
    if (!js_refer(it->view, key, member)) return ft_fail(FT_EMEM, "out of memory");
    it->origin[at] = member;
    return FT_OK;
}

static ft_status not_there(const data_item *it, const data_column *c)
{
    return js_fail(it->doc, it->raw, FT_EDATA, c->path,
                   "is not in this record; %s is taken from it", c->ours);
}

ft_status data_view_open(data_item *it)
{
    const data_source *s = it->src;
    const cJSON *from[DATA_COLUMNS];
    int n = 0;
    it->raw = it->rec;
    if (!s->n_columns) return FT_OK;
    for (int i = 0; i < s->n_columns; i++) {
        from[i] = data_path(it->raw, s->column[i].path);
        if (!from[i] && !s->column[i].optional) return not_there(it, &s->column[i]);
    }
    int members = cJSON_GetArraySize(it->raw) + s->n_columns;
    it->view = cJSON_CreateObject();
    it->origin = ft_alloc((size_t)members + 1, sizeof *it->origin);
    if (!it->view || !it->origin) return ft_fail(FT_EMEM, "out of memory");
    for (int i = 0; i < s->n_columns; i++)
        if (from[i]) FT_TRY(add_member(it, n++, s->column[i].ours, from[i]));
    for (const cJSON *k = it->raw->child; k; k = k->next)
        if (!is_moved(s, from, k->string)) FT_TRY(add_member(it, n++, k->string, k));
    it->rec = it->view;
    return FT_OK;
}

void data_view_close(data_item *it)
{
    cJSON_Delete(it->view);
    ft_free(it->origin);
    it->view = NULL;
    it->origin = NULL;
}

/* The member of the record that a member of the view is. */
static const cJSON *original(const data_item *it, const cJSON *node)
{
    int i = 0;
    if (!it->view) return node;
    if (node == it->view) return it->raw;
    for (const cJSON *k = it->view->child; k; k = k->next, i++)
        if (k == node) return it->origin[i];
    return node;
}

const char *data_key_text(const data_source *s, const char *key)
{
    for (int i = 0; key && i < s->n_columns; i++)
        if (!strcmp(s->column[i].ours, key)) return s->column[i].path;
    return key;
}

ft_status data_fail(const data_item *it, const cJSON *node, const char *key, const char *fmt, ...)
{
    char what[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return js_fail(it->doc, original(it, node), FT_EDATA,
                   it->view ? data_key_text(it->src, key) : key, "%s", what);
}

bool data_is_replaced(const data_item *it, const char *key)
{
    bool ours = false;
    for (int i = 0; i < it->src->n_columns; i++) {
        const data_column *c = &it->src->column[i];
        if (!strcmp(c->path, key)) return false;
        ours = ours || (!strcmp(c->ours, key) && data_path(it->raw, c->path));
    }
    return it->view && ours;
}

bool data_is_reached(const data_item *it, const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; it->view && i < it->src->n_columns; i++) {
        const char *path = it->src->column[i].path;
        if (!strncmp(path, key, n) && path[n] == '.' && !js_get(it->raw, path)) return true;
    }
    return false;
}

/* --- records known by other keys than ours ----------------------------------------------------------------------- */
/* Read as instruction, input and output. */
static const struct known {
    const char *keys[2];
    data_column map[2];
    const char *example;
} known[] = {
    {{"question", "answer"},
     {{"instruction", "question", false}, {"output", "answer", false}},
     "{\"question\": \"What is 2 + 2?\", \"answer\": \"4\"}"},
    {{"prompt", "response"},
     {{"instruction", "prompt", false}, {"output", "response", false}},
     "{\"prompt\": \"What is 2 + 2?\", \"response\": \"4\"}"},
    {{"query", "response"},
     {{"instruction", "query", false}, {"output", "response", false}},
     "{\"query\": \"What is 2 + 2?\", \"response\": \"4\"}"},
    {{"instruction", "response"},
     {{"output", "response", false}, {"input", "context", true}},
     "{\"instruction\": \"Add the numbers.\", \"context\": \"2 and 2\", \"response\": \"4\"}"},
    {{"input", "output"},
     {{"instruction", "input", false}},
     "{\"input\": \"What is 2 + 2?\", \"output\": \"4\"}"},
};

const char *data_known_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(known) ? known[i].example : NULL;
}

void data_known_text(str_buf *out)
{
    for (size_t i = 0; i < FT_COUNT_OF(known); i++)
        str_printf(out, ", %s + %s", known[i].keys[0], known[i].keys[1]);
}

/* The columns of the config, with those of the known record behind: where that names a key that the config takes from
 * somewhere, from there. */
static void add_known(data_source *s, const struct known *k)
{
    data_column all[DATA_COLUMNS];
    int n = 0;
    for (size_t i = 0; i < FT_COUNT_OF(k->map) && k->map[i].ours; i++) {
        all[n] = k->map[i];
        for (int j = 0; j < s->n_columns; j++)
            if (!strcmp(s->column[j].ours, all[n].path)) all[n].path = s->column[j].path;
        n++;
    }
    for (int j = 0; j < s->n_columns && n < DATA_COLUMNS; j++) {
        bool taken = false;
        for (size_t i = 0; i < FT_COUNT_OF(k->map) && k->map[i].ours; i++)
            taken = taken || !strcmp(k->map[i].path, s->column[j].ours) ||
                    !strcmp(k->map[i].ours, s->column[j].ours);
        if (!taken) all[n++] = s->column[j];
    }
    memcpy(s->column, all, (size_t)n * sizeof *all);
    s->n_columns = n;
}

bool data_known(data_source *s, const cJSON *rec)
{
    for (size_t i = 0; i < FT_COUNT_OF(known); i++) {
        if (!js_get(rec, known[i].keys[0]) || !js_get(rec, known[i].keys[1])) continue;
        add_known(s, &known[i]);
        return true;
    }
    return false;
}

/* --- who speaks -------------------------------------------------------------------------------------------------- */
/* function_call is told from the others by what follows: its turn is a call, not text. */
static const char *const roles[][9] = {
    {"system", "system"},
    {"user", "user", "human", "prompter"},
    {"assistant", "assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"},
    {"tool", "tool", "observation", "function_response"},
    {"function_call", "function_call"},
    {"developer", "developer"},
    {"ipython", "ipython"},
};

static const char *const lists[] = {"list of strings", NULL};
#define ROLE(i, k, names)                                                                          \
    {                                                                                              \
        .key = k, .type = CFG_JSON, .offset = (i) * sizeof(const cJSON *), .choices = lists,       \
        .help = "who speaks as it, by default " names                                              \
    }
const cfg_field data_role_fields[] = {
    ROLE(0, "system", "system"),
    ROLE(1, "user", "user, human, prompter"),
    ROLE(2, "assistant", "assistant, gpt, chatgpt, bing, bard, model, bot"),
    ROLE(3, "tool", "tool, observation, function_response"),
    ROLE(4, "function_call", "function_call"),
    ROLE(5, "developer", "developer"),
    ROLE(6, "ipython", "ipython"),
    CFG_END};
#undef ROLE
_Static_assert(FT_COUNT_OF(roles) == DATA_ROLES, "a row a role");

static ft_status add_speaker(data_set *d, data_source *s, const cJSON *node, const char *key,
                             const char *role, const char *name)
{
    for (const data_speaker *p = s->speaker; p; p = p->next) {
        if (strcmp(p->name, name) != 0) continue;
        if (strcmp(p->role, role) != 0)
            cfg_fail(d->cfg, node, key, "roles: \"%s\" speaks as %s already, so it cannot as %s",
                     ft_shows(name), p->role, role);
        return FT_OK;
    }
    data_speaker *new = arena_get(d->mem, sizeof *new);
    if (!new) return FT_EMEM;
    *new = (data_speaker){.name = arena_str(d->mem, name), .role = role, .next = s->speaker};
    if (!new->name) return FT_EMEM;
    s->speaker = new;
    return FT_OK;
}

ft_status data_speakers(data_set *d, data_source *s, const cJSON *const given[DATA_ROLES],
                        const char *key)
{
    const cJSON *name;
    for (size_t i = 0; i < FT_COUNT_OF(roles); i++) {
        for (const char *const *r = roles[i] + 1; !given[i] && *r; r++)
            FT_TRY(add_speaker(d, s, s->node, key, roles[i][0], *r));
    }
    for (size_t i = 0; i < FT_COUNT_OF(roles); i++) {
        if (given[i] && !cJSON_IsArray(given[i]))
            cfg_fail(d->cfg, given[i], key, "roles.%s must be a list of names", roles[i][0]);
        cJSON_ArrayForEach(name, given[i])
        {
            if (cJSON_IsString(name))
                FT_TRY(add_speaker(d, s, name, key, roles[i][0], name->valuestring));
            else
                cfg_fail(d->cfg, name, key, "roles.%s must be a list of names", roles[i][0]);
        }
    }
    return FT_OK;
}

ft_status data_role(const data_item *it, const cJSON *name, const char *key, const char **role)
{
    str_buf all = {0};
    for (const data_speaker *p = it->src->speaker; p; p = p->next) {
        *role = p->role;
        if (!strcmp(p->name, name->valuestring)) return FT_OK;
    }
    for (size_t i = 0; i < FT_COUNT_OF(roles); i++)
        for (const data_speaker *p = it->src->speaker; p; p = p->next)
            if (!strcmp(p->role, roles[i][0]))
                str_printf(&all, "%s%s", all.len ? ", " : "", ft_shows(p->name));
    ft_status rc = data_fail(
        it, name, key, "unknown speaker \"%s\"; known are %s; \"roles\" of the source names others",
        ft_shows(name->valuestring), all.data ? all.data : "none");
    str_free(&all);
    return rc;
}
