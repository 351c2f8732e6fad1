/* help_compress.c – the topic `compress`: quantisers and pruners, each with its keys, from the rows that read them. */
#include "help.h"

#include "ft/compress.h"
#include "ft/tool.h"

#include <string.h>

static const struct {
    const char *section, *verb;
    const cfg_field *fields, *head;
    const cmp_method *(*at)(int i);
} kinds[] = {
    {"quantize.", "ft quantize", tool_quantize_fields, tool_quantize_head, cmp_quantizer_at},
    {"prune.", "ft prune", tool_prune_fields, tool_prune_head, cmp_pruner_at},
};

const char *cli_compress_name(int i)
{
    for (size_t k = 0; k < FT_COUNT_OF(kinds); k++)
        for (int n = 0; kinds[k].at(n); n++)
            if (i-- == 0) return kinds[k].at(n)->name;
    return NULL;
}

static void of_method(str_buf *out, size_t kind, const cmp_method *m)
{
    str_printf(out, "%s – %s", m->name, m->help);
    if (m->paper) str_printf(out, " (%s)", m->paper);
    str_printf(out, ", of %s\n", kinds[kind].verb);
    cfg_help(out, m->fields, kinds[kind].section);
    str_addc(out, '\n');
}

ft_status cli_compress_print(str_buf *out, const char *entry, arena *mem)
{
    (void)mem;
    for (size_t k = 0; k < FT_COUNT_OF(kinds); k++) {
        if (!entry && kinds[k].at(0)) {
            str_printf(out, "keys of the config of %s:\n", kinds[k].verb);
            cfg_help(out, kinds[k].fields, "");
            str_adds(out, "\nkeys of every type:\n");
            cfg_help(out, kinds[k].head, kinds[k].section);
            str_addc(out, '\n');
        }
        for (int i = 0; kinds[k].at(i); i++)
            if (!entry || strcmp(entry, kinds[k].at(i)->name) == 0)
                of_method(out, k, kinds[k].at(i));
    }
    return str_ok(out);
}
