/* verb_schema.c – JSON Schema of the training config, from the rows that parse it. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static bool any_required(const cfg_field *rows)
{
    for (; rows && rows->key; rows++) {
        if (rows->required) return true;
    }
    return false;
}

static void add_required(cJSON *object, const char *key)
{
    cJSON *list = cJSON_GetObjectItemCaseSensitive(object, "required");
    if (!list) list = cJSON_AddArrayToObject(object, "required");
    cJSON_AddItemToArray(list, cJSON_CreateString(key));
}

/* {"type": "object", "description", "properties", "required", "additionalProperties": false} */
static cJSON *object_schema(const cli_table *t)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "type", "object");
    if (t->help) cJSON_AddStringToObject(o, "description", t->help);
    cJSON *properties = cJSON_AddObjectToObject(o, "properties");
    if (t->type) {
        cJSON *type = cJSON_AddObjectToObject(properties, "type");
        cJSON_AddStringToObject(type, "const", t->type);
        if (!t->standard) add_required(o, "type");
    }
    if (t->rows) cfg_schema(properties, t->rows);
    for (const cfg_field *r = t->rows; r && r->key; r++)
        if (r->required) add_required(o, r->key);
    cJSON_AddBoolToObject(o, "additionalProperties", false);
    return o;
}

/* A key inside a section that is "none" or an object of one of several types. */
static void add_inner(cJSON *properties, const cli_table *t, const char *dot)
{
    char outer[64];
    snprintf(outer, sizeof outer, "%.*s", (int)(dot - t->section), t->section);
    cJSON *section = cJSON_GetObjectItemCaseSensitive(properties, outer);
    cJSON *keys = cJSON_GetObjectItemCaseSensitive(section, "properties");
    cJSON *key = cJSON_GetObjectItemCaseSensitive(keys, dot + 1);
    cJSON *list = cJSON_GetObjectItemCaseSensitive(key, "oneOf");
    if (!list) {
        list = cJSON_AddArrayToObject(key, "oneOf");
        cJSON *none = cJSON_CreateObject();
        cJSON_AddStringToObject(none, "const", "none");
        cJSON_AddItemToArray(list, none);
    }
    cJSON_AddItemToArray(list, object_schema(t));
}

/* A section with types is one of their objects. */
static void add_table(cJSON *root, cJSON *properties, const cli_table *t)
{
    const char *dot = strchr(t->section, '.');
    if (dot) {
        add_inner(properties, t, dot);
        return;
    }
    cJSON *section = cJSON_GetObjectItemCaseSensitive(properties, t->section);
    if (any_required(t->rows) && !section && !t->type) add_required(root, t->section);
    if (!t->type) {
        js_add(properties, t->section, object_schema(t));
        return;
    }
    if (!section) {
        section = cJSON_AddObjectToObject(properties, t->section);
        cJSON_AddArrayToObject(section, "oneOf");
    }
    cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(section, "oneOf"), object_schema(t));
}

static ft_status run(const cli_call *c)
{
    const cli_table *tables;
    str_buf s = {0};
    int n;
    FT_TRY(cli_tables(&tables, &n, c->mem));
    ft_error_clear();
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "$schema", "https://json-schema.org/draft/2020-12/schema");
    cJSON_AddStringToObject(root, "title", "training config of ft " FT_VERSION);
    cJSON_AddStringToObject(root, "type", "object");
    cJSON *properties = cJSON_AddObjectToObject(root, "properties");
    for (int i = 0; i < n; i++) add_table(root, properties, &tables[i]);
    cJSON_AddBoolToObject(root, "additionalProperties", false);
    js_print(&s, root, !c->json);
    str_addc(&s, '\n');
    cJSON_Delete(root);
    ft_status rc = ft_error()[0] ? FT_EMEM : str_ok(&s); /* a part may be missing */
    if (rc == FT_OK) rc = cli_out(s.data, s.len);
    str_free(&s);
    return rc;
}

const cli_verb verb_schema = {
    .name = "schema",
    .help = "JSON Schema of the training config",
    .usage = "[--json]",
    .more = "With --json the schema stands on one line.\n",
    .needs = CLI_JSON,
    .example = "ft schema > ft.schema.json",
    .run = run,
};
