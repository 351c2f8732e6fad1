/* sections.c – the tables of a training config in one list, for help and schema: the sections of ft/train.h, "method",
 * "objective" and "optim" once for each of their types, and so
 * "model.quantization". */
#include "cli.h"

#include "ft/train.h"

#include <string.h>

/* The section's own keys but `type`, then the type's. Offsets mean nothing here: these rows are only shown. */
static ft_status join(cli_table *t, const cfg_field *head, arena *mem)
{
    const cfg_field *r, *own = t->rows;
    size_t n = 0;
    for (r = head; r->key; r++) n++;
    for (r = own; r && r->key; r++) n++;
    cfg_field *out = arena_get(mem, (n + 1) * sizeof *out);
    if (!out) return FT_EMEM;
    t->rows = out;
    for (r = head; r->key; r++) {
        if (strcmp(r->key, "type") != 0) out[t->n_shared++] = *r;
    }
    out += t->n_shared;
    for (r = own; r && r->key; r++) *out++ = *r;
    *out = (cfg_field)CFG_END;
    return FT_OK;
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

static bool quant_at(int i, cli_table *t)
{
    const model_quant *q = model_quant_make_at(i);
    if (q) *t = (cli_table){.type = q->type, .help = q->help, .rows = q->make_fields};
    return q;
}

static const struct {
    const char *section;
    bool (*at)(int i, cli_table *t);
} registries[] = {{"method", method_at}, {"objective", objective_at}, {"optim", rule_at}};

static bool qat_at(int i, cli_table *t)
{
    const pe_qat_row *q = pe_qat_at(i);
    if (q) *t = (cli_table){.type = q->name, .help = q->help, .rows = q->fields};
    return q;
}

/* Keys of a section that are objects of one of several types. */
static const struct {
    const char *section;
    bool (*at)(int i, cli_table *t);
} inner[] = {{"model.quantization", quant_at}, {"model.qat", qat_at}};

static int count_types(size_t registry)
{
    cli_table t;
    int n = 0;
    while (registries[registry].at(n, &t)) n++;
    return n;
}

/* -1: a section without types */
static int registry_of(const char *section)
{
    for (size_t k = 0; k < FT_COUNT_OF(registries); k++)
        if (strcmp(registries[k].section, section) == 0) return (int)k;
    return -1;
}

ft_status cli_tables(const cli_table **out, int *n, arena *mem)
{
    size_t total = 0;
    cli_table one;
    for (const train_section *s = train_sections; s->key; s++) {
        int k = registry_of(s->key);
        total += k < 0 ? 1 : (size_t)count_types((size_t)k);
    }
    for (size_t k = 0; k < FT_COUNT_OF(inner); k++)
        for (int i = 0; inner[k].at(i, &one); i++) total++;
    cli_table *t = arena_get(mem, total * sizeof *t);
    if (!t) return FT_EMEM;
    *out = t;
    *n = (int)total;
    for (const train_section *s = train_sections; s->key; s++) {
        int k = registry_of(s->key), types = k < 0 ? 1 : count_types((size_t)k);
        for (int i = 0; i < types; i++, t++) {
            *t = (cli_table){.help = s->help, .rows = s->rows};
            if (k >= 0) {
                registries[k].at(i, t);
                t->standard = is_standard(s->rows, t->type);
                FT_TRY(join(t, s->rows, mem));
            }
            t->section = s->key;
        }
        for (size_t n_inner = 0; n_inner < FT_COUNT_OF(inner); n_inner++)
            for (int i = 0; str_starts(inner[n_inner].section, s->key) && inner[n_inner].at(i, t);
                 i++, t++)
                t->section = inner[n_inner].section;
    }
    return FT_OK;
}
