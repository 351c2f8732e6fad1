/* cfg_doc.c – help lines and JSON Schema from the same rows that parse. */
#include "cfg_private.h"

#include <stdio.h>
#include <string.h>

/* Indexed by cfg_type: the word in help, and the schema's type (NULL: see add_type). */
static const struct {
    const char *word, *schema;
} kinds[] = {
    [CFG_BOOL] = {"bool", "boolean"},      [CFG_INT] = {"integer", "integer"},
    [CFG_FLOAT] = {"number", "number"},    [CFG_STR] = {"string", "string"},
    [CFG_PATH] = {"path", "string"},       [CFG_ENUM] = {"choice", "string"},
    [CFG_JSON] = {"json", NULL},           [CFG_AUTO_INT] = {"integer|auto", NULL},
    [CFG_AUTO_BOOL] = {"bool|auto", NULL}, [CFG_TABLE] = {"table", "object"},
};

static bool bounded(const cfg_field *r)
{
    return r->low < r->high;
}

static void help_bounds(str_buf *out, const cfg_field *r)
{
    char low[32], high[32];
    if (!bounded(r)) return;
    json_number(low, r->low);
    json_number(high, r->high);
    if (r->high >= JSON_EXACT_INT)
        str_printf(out, " (%s %s)", r->low_open ? ">" : ">=", low);
    else if (r->low <= -JSON_EXACT_INT)
        str_printf(out, " (<= %s)", high);
    else
        str_printf(out, " (%s%s to %s)", low, r->low_open ? " excluded" : "", high);
}

void cfg_help(str_buf *out, const cfg_field *rows, const char *prefix)
{
    for (const cfg_field *r = rows; r->key; r++) {
        char key[256];
        snprintf(key, sizeof key, "%s%s", prefix ? prefix : "", r->key);
        if (r->type == CFG_TABLE) {
            char inner[260];
            str_printf(out, "  %-28s %-12s %-10s %s\n", key, "table", "", r->help ? r->help : "");
            snprintf(inner, sizeof inner, "%s.", key);
            cfg_help(out, r->sub, inner);
            continue;
        }
        str_printf(out, "  %-28s %-12s %-10s %s", key, kinds[r->type].word,
                   r->required ? "required"
                   : r->def    ? r->def
                               : "-",
                   r->help ? r->help : "");
        help_bounds(out, r);
        for (int i = 0; r->choices && r->choices[i]; i++)
            str_printf(out, "%s%s", i ? " | " : r->type == CFG_ENUM ? ": " : "; ", r->choices[i]);
        str_addc(out, '\n');
    }
}

/* --- schema --------------------------------------------------------------------------------------- */
static void add_bounds(cJSON *s, const cfg_field *r)
{
    if (!bounded(r)) return;
    if (r->low > -JSON_EXACT_INT)
        cJSON_AddNumberToObject(s, r->low_open ? "exclusiveMinimum" : "minimum", r->low);
    if (r->high < JSON_EXACT_INT) cJSON_AddNumberToObject(s, "maximum", r->high);
}

static void add_constant(cJSON *list, const char *key, const char *text)
{
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddStringToObject(entry, key, text);
    cJSON_AddItemToArray(list, entry);
}

/* {"anyOf": [{"type": T, bounds}, {"const": "auto"}]} */
static void add_auto(cJSON *s, const cfg_field *r)
{
    cJSON *any = cJSON_AddArrayToObject(s, "anyOf");
    add_constant(any, "type", r->type == CFG_AUTO_INT ? "integer" : "boolean");
    if (any && any->child) add_bounds(any->child, r);
    add_constant(any, "const", "auto");
}

static void add_table(cJSON *s, const cfg_field *rows)
{
    cJSON *properties = cJSON_AddObjectToObject(s, "properties"), *required = NULL;
    cfg_schema(properties, rows);
    for (const cfg_field *r = rows; r->key; r++) {
        if (!r->required) continue;
        if (!required) required = cJSON_AddArrayToObject(s, "required");
        cJSON_AddItemToArray(required, cJSON_CreateString(r->key));
    }
    cJSON_AddBoolToObject(s, "additionalProperties", false);
}

/* A string, an object of these keys, or a list of either. */
static void add_shapes(cJSON *s, const cfg_field *rows)
{
    cJSON *any = cJSON_AddArrayToObject(s, "anyOf");
    for (int list = 0; list < 2; list++) {
        cJSON *to = any;
        if (list) {
            add_constant(any, "type", "array");
            to = any && any->child
                     ? cJSON_AddArrayToObject(cJSON_AddObjectToObject(any->child->prev, "items"),
                                              "anyOf")
                     : NULL;
        }
        add_constant(to, "type", "string");
        add_constant(to, "type", "object");
        if (to && to->child) add_table(to->child->prev, rows);
    }
}

/* The caller deletes it; NULL: there is none. */
static cJSON *default_of(const cfg_field *r)
{
    js_doc doc;
    if (!r->def ||
        js_parse(&doc, r->def, strlen(r->def), r->key, 1, JS_NO_POSITIONS, FT_EINTERNAL) != FT_OK)
        return NULL;
    cJSON *def = doc.root;
    doc.root = NULL;
    js_close(&doc);
    return def;
}

static void add_default(cJSON *s, const cfg_field *r)
{
    cJSON *def = default_of(r);
    if (def && !cJSON_AddItemToObject(s, "default", def)) cJSON_Delete(def);
}

bool cfg_is_default(const cfg_field *rows, const cJSON *v)
{
    while (rows && rows->key && strcmp(rows->key, v->string) != 0) rows++;
    cJSON *def = rows && rows->key ? default_of(rows) : NULL;
    bool same = def && cJSON_Compare(def, v, true);
    cJSON_Delete(def);
    return same;
}

void cfg_schema(cJSON *properties, const cfg_field *rows)
{
    for (const cfg_field *r = rows; r->key; r++) {
        cJSON *s = cJSON_AddObjectToObject(properties, r->key);
        if (!s) return;
        if (kinds[r->type].schema) cJSON_AddStringToObject(s, "type", kinds[r->type].schema);
        if (r->help) cJSON_AddStringToObject(s, "description", r->help);
        add_default(s, r);
        if (r->type == CFG_TABLE) add_table(s, r->sub);
        if (r->type == CFG_JSON && r->sub) add_shapes(s, r->sub);
        if (r->type == CFG_INT || r->type == CFG_FLOAT) add_bounds(s, r);
        if (r->type == CFG_AUTO_INT || r->type == CFG_AUTO_BOOL) add_auto(s, r);
        cJSON *choices = r->type == CFG_ENUM ? cJSON_AddArrayToObject(s, "enum") : NULL;
        for (int i = 0; choices && r->choices[i]; i++)
            cJSON_AddItemToArray(choices, cJSON_CreateString(r->choices[i]));
    }
}
