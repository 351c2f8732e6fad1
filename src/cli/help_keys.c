/* help_keys.c – keys of a training config, as `ft help` shows them: from the tables that read it. */
#include "help.h"

#include "ft/objective.h"

#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 128 };

static void table_title(str_buf *out, const cli_table *t)
{
    str_printf(out, "%s%s%s – %s\n", t->section, t->type ? " " : "", t->type ? t->type : "",
               t->help ? t->help : "");
}

/* One row of a table, found by its path below the section ("quantization.type"); NULL. */
static const cfg_field *row_at(const cfg_field *rows, const char *path)
{
    size_t n = strcspn(path, ".");
    for (; rows && rows->key; rows++) {
        if (strlen(rows->key) != n || memcmp(rows->key, path, n) != 0) continue;
        if (!path[n]) return rows;
        return rows->sub ? row_at(rows->sub, path + n + 1) : NULL;
    }
    return NULL;
}

static void one_row(str_buf *out, const cli_table *t, const cfg_field *row, const char *path,
                    bool shared)
{
    char prefix[2 * KEY_BYTES];
    cfg_field rows[] = { *row, CFG_END };
    size_t n = strlen(path) - strlen(row->key);
    snprintf(prefix, sizeof prefix, "%s.%.*s", t->section, (int)n, path);
    if (shared)
        str_printf(out, "%s – keys of every type\n", t->section);
    else
        table_title(out, t);
    cfg_help(out, rows, prefix);
    if (row->type != CFG_JSON || !row->sub) return;
    size_t end = strlen(prefix);
    snprintf(prefix + end, sizeof prefix - end, "%s.", row->key);
    str_adds(out, "keys where it is an object:\n");
    cfg_help(out, row->sub, prefix);
}

static void keys(str_buf *out, const cli_table *t, const cfg_field *rows)
{
    char prefix[KEY_BYTES];
    snprintf(prefix, sizeof prefix, "%s.", t->section);
    if (rows) cfg_help(out, rows, prefix);
}

/* Of an objective: a config that runs, once its paths are there, and a record of its data. */
static void example(str_buf *out, const cli_table *t)
{
    static const struct {
        unsigned gives;
        const char *format;
    } kinds[] = {{DATA_TOKENS, "completion"},
                 {DATA_PAIRS, "preference"},
                 {DATA_LABELLED, "unpaired"},
                 {DATA_PROMPTS, "prompt"}};
    const obj_objective *o = strcmp(t->section, "objective") == 0 ? obj_by_name(t->type) : NULL;
    data_form f = {0};
    for (size_t k = 0; o && k < FT_COUNT_OF(kinds); k++)
        for (int i = 0; (o->wants & kinds[k].gives) && data_form_at(i, &f); i++)
            if (strcmp(f.name, kinds[k].format) == 0) break;
    if (!f.name) return;
    str_adds(out,
             "\na config:\n{\"model\": {\"path\": \"model\"}, \"method\": {\"type\": \"lora\"}, "
             "\"objective\": ");
    if (o->example)
        str_adds(out, o->example);
    else
        str_printf(out, "{\"type\": \"%s\"}", o->name);
    str_printf(out,
               ", \"data\": {\"train\": \"%s.jsonl\"}, \"output\": {\"dir\": \"out\"}}\n"
               "a line of %s.jsonl:\n%s\n",
               f.name, f.name, f.example);
}

/* The whole section: the keys of every type once, then each type with its own. */
static void whole_section(str_buf *out, const cli_table *t, bool first, arena *mem)
{
    if (t->type && first && t->n_shared > 0) {
        cfg_field *shared = arena_get(mem, ((size_t)t->n_shared + 1) * sizeof *shared);
        if (!shared) return;
        memcpy(shared, t->rows, (size_t)t->n_shared * sizeof *shared);
        str_printf(out, "%s – keys of every type\n", t->section);
        keys(out, t, shared);
    }
    table_title(out, t);
    keys(out, t, t->rows ? t->rows + t->n_shared : NULL);
}

/* What stands behind the name of the section in a key, or behind the last word of that name; else the key. */
static const char *below(const char *section, const char *key)
{
    const char *dot = strchr(section, '.'), *name = section;
    for (;; name = dot + 1, dot = NULL) {
        size_t n = strlen(name);
        if (strncmp(key, name, n) == 0 && key[n] == '.') return key + n + 1;
        if (!dot) return key;
    }
}

/* "optim", "method.lora", "optim.learning_rate", "learning_rate", "method.r". */
int cli_help_key(str_buf *out, const char *key, const cli_table *tables, int n, arena *mem)
{
    int found = 0;
    for (int i = 0; i < n; i++) {
        const cli_table *t = &tables[i];
        bool first = i == 0 || strcmp(t->section, tables[i - 1].section) != 0;
        const char *rest = below(t->section, key);
        const cfg_field *row = row_at(t->rows, rest);
        bool shared = row >= t->rows && row < t->rows + t->n_shared;
        found++;
        bool types = t->type && rest != key && strcmp(rest, "type") == 0;
        if (strcmp(key, t->section) == 0 || types) {
            whole_section(out, t, first, mem);
        } else if (t->type && strcmp(rest, t->type) == 0) {
            table_title(out, t);
            keys(out, t, t->rows);
            example(out, t);
        } else if (row && (first || !shared)) {
            one_row(out, t, row, rest, shared);
        } else {
            found--;
        }
    }
    return found;
}

/* A word may name a verb and a section: "train". */
void cli_help_section(str_buf *out, const char *word, const cli_table *tables, int n, arena *mem)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(tables[i].section, word) != 0) continue;
        str_adds(out, "\nsection of a training config:\n");
        cli_help_key(out, word, tables, n, mem);
        return;
    }
}
