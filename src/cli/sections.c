/* sections.c – the tables of a training config in one list, for help and schema: the sections of ft/train.h, "method",
 * "objective" and "optim" once for each of their types. */
#include "cli.h"

#include "ft/train.h"

#include <string.h>

enum { TYPES = 24, KEYS = 48 };

/* The section's own keys but `type`, then the type's. Offsets mean nothing here: these rows are only shown. */
static const cfg_field *joined(cfg_field out[KEYS], const cfg_field *head, const cfg_field *rows)
{
    int n = 0;
    for (; head->key; head++) {
        if (strcmp(head->key, "type") != 0 && n + 1 < KEYS) out[n++] = *head;
    }
    for (; rows && rows->key && n + 1 < KEYS; rows++) out[n++] = *rows;
    out[n] = (cfg_field)CFG_END;
    return out;
}

/* Is it the default of the section's `type`? */
static bool is_standard(const cfg_field *head, const char *type)
{
    for (; head->key; head++) {
        size_t n = strlen(type);
        if (strcmp(head->key, "type") == 0)
            return head->def && strlen(head->def) == n + 2 && memcmp(head->def + 1, type, n) == 0;
    }
    return false;
}

/* Row i of each registry of types; false past its end. */
static bool method_at(int i, cli_table *t)
{
    const pe_method *m = pe_at(i);
    if (m) *t = (cli_table){.type = m->name, .help = m->help, .rows = m->fields};
    return m;
}

static bool objective_at(int i, cli_table *t)
{
    const obj_objective *o = obj_at(i);
    if (o) *t = (cli_table){.type = o->name, .help = o->help, .rows = o->fields};
    return o;
}

static bool rule_at(int i, cli_table *t)
{
    const opt_rule *r = opt_rule_at(i);
    if (r) *t = (cli_table){.type = r->name, .help = r->help, .rows = r->fields};
    return r;
}

static const struct {
    const char *section;
    bool (*at)(int i, cli_table *t);
} registries[] = {{"method", method_at}, {"objective", objective_at}, {"optim", rule_at}};

/* A section of the config, or its types; returns how many tables there are then. */
static int add_section(cli_table out[CLI_TABLES], int n, const train_section *s)
{
    static cfg_field rows[FT_COUNT_OF(registries)][TYPES][KEYS];
    for (size_t k = 0; k < FT_COUNT_OF(registries); k++) {
        cli_table t;
        if (strcmp(registries[k].section, s->key) != 0) continue;
        for (int i = 0; i < TYPES && n < CLI_TABLES && registries[k].at(i, &t); i++) {
            t.section = s->key;
            t.standard = is_standard(s->rows, t.type);
            t.rows = joined(rows[k][i], s->rows, t.rows);
            out[n++] = t;
        }
        return n;
    }
    out[n] = (cli_table){.section = s->key, .help = s->help, .rows = s->rows};
    return n + 1;
}

int cli_tables(cli_table out[CLI_TABLES])
{
    int n = 0;
    for (const train_section *s = train_sections; s->key && n < CLI_TABLES; s++)
        n = add_section(out, n, s);
    return n;
}
