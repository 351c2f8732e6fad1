/* help_compress.c – the topic `compress`: quantisers and pruners, each with its keys, from the rows that read them. */
#include "help.h"

#include "ft/tool.h"

#include <string.h>

static const tool_compress_kind *const kinds[] = {&tool_quantize, &tool_prune};

const char *cli_compress_name(int i)
{
    for (size_t k = 0; k < FT_COUNT_OF(kinds); k++)
        for (int n = 0; kinds[k]->at(n); n++)
            if (i-- == 0) return kinds[k]->at(n)->name;
    return NULL;
}

static void of_method(str_buf *out, const tool_compress_kind *k, const cmp_method *m,
                      const char *section)
{
    str_printf(out, "%s – %s", m->name, m->help);
    if (m->paper) str_printf(out, " (%s)", m->paper);
    str_printf(out, ", of ft %s\n", k->verb);
    cfg_help(out, m->fields, section);
    str_addc(out, '\n');
}

ft_status cli_compress_print(str_buf *out, const char *entry, arena *mem)
{
    for (size_t n = 0; n < FT_COUNT_OF(kinds); n++) {
        const tool_compress_kind *k = kinds[n];
        const char *section = arena_printf(mem, "%s.", k->section);
        if (!section) return FT_EMEM;
        if (!entry) {
            str_printf(out, "keys of the config of ft %s:\n", k->verb);
            cfg_help(out, k->fields, "");
            str_adds(out, "\nkeys of every type:\n");
            cfg_help(out, k->head, section);
            str_addc(out, '\n');
        }
        for (int i = 0; k->at(i); i++)
            if (!entry || strcmp(entry, k->at(i)->name) == 0) of_method(out, k, k->at(i), section);
    }
    return str_ok(out);
}
