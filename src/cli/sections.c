/* sections.c – the tables of a training config in one list, for help and schema: the sections of ft/train.h, "method" and
 * "objective" once for each of their types. */
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

static int add_types(cli_table out[CLI_TABLES], int n, const train_section *s)
{
    static cfg_field rows[2][TYPES][KEYS];
    bool method = strcmp(s->key, "method") == 0;
    for (int i = 0; i < TYPES && n < CLI_TABLES; i++) {
        const pe_method *m = method ? pe_at(i) : NULL;
        const obj_objective *o = method ? NULL : obj_at(i);
        if (!m && !o) break;
        out[n++] = (cli_table){.section = s->key,
                               .type = m ? m->name : o->name,
                               .help = m ? m->help : o->help,
                               .rows = joined(rows[method][i], s->rows, m ? m->fields : o->fields)};
    }
    return n;
}

int cli_tables(cli_table out[CLI_TABLES])
{
    int n = 0;
    for (const train_section *s = train_sections; s->key && n < CLI_TABLES; s++) {
        if (strcmp(s->key, "method") == 0 || strcmp(s->key, "objective") == 0)
            n = add_types(out, n, s);
        else
            out[n++] = (cli_table){.section = s->key, .help = s->help, .rows = s->rows};
    }
    return n;
}
