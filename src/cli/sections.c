/* sections.c – the tables of a training config in one list, for help and schema. */
#include "cli.h"

#include "ft/optim.h"

int cli_tables(cli_table out[CLI_TABLES])
{
    int n = 0;
    out[n++] =
        (cli_table){.section = "optim", .help = "optimizer and schedule", .rows = opt_fields};
    return n;
}
