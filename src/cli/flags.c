/* flags.c – a row of a table as an option: its words, and what stands behind it. */
#include "cli.h"
#include "help.h"

#include <stdio.h>
#include <string.h>

const char *cli_value_word(const cfg_field *r)
{
    static const char *const words[] = {
        [CFG_INT] = "N",  [CFG_AUTO_INT] = "N|auto", [CFG_FLOAT] = "X",
        [CFG_STR] = "S",  [CFG_PATH] = "PATH",       [CFG_AUTO_BOOL] = "true|false",
        [CFG_ENUM] = "T", [CFG_JSON] = "JSON",       [CFG_TABLE] = "",
        [CFG_LIST] = "S",
    };
    const char *w = r->type < FT_COUNT_OF(words) ? words[r->type] : NULL;
    return w ? w : "";
}

void cli_flag_word(char *out, size_t size, const char *key)
{
    snprintf(out, size, "%s", key);
    for (; *out; out++) *out = *out == '_' ? '-' : *out;
}

const char *cli_value_at(const cfg_field *r, int i)
{
    if (r->value) return r->value(i);
    for (int k = 0; r->choices && r->choices[k]; k++)
        if (k == i) return r->choices[k];
    return NULL;
}

void cli_flag_help(str_buf *out, const cfg_field *r)
{
    str_adds(out, r->help ? r->help : "");
    for (int i = 0; cli_value_at(r, i); i++)
        str_printf(out, "%s%s", i ? " | " : ": ", cli_value_at(r, i));
    if (r->type == CFG_LIST)
        str_adds(out, " (repeatable)");
    else if (r->required)
        str_adds(out, " (required)");
    else if (r->def && r->type != CFG_BOOL)
        str_printf(out, " (default %s)", r->def);
}

bool cli_flag_fits(const cli_verb *v, const cfg_field *r)
{
    return strcmp(r->key, "precision") != 0 || (v->needs & CLI_MODEL) == CLI_MODEL;
}

void cli_help_flag(str_buf *out, const cfg_field *r)
{
    char flag[128], line[256];
    const char *value = cli_value_word(r);
    cli_flag_word(flag, sizeof flag, r->key);
    snprintf(line, sizeof line, "--%s%s%s", flag, value[0] ? " " : "", value);
    str_printf(out, "  %-26s ", line);
    cli_flag_help(out, r);
    str_addc(out, '\n');
}
