/* verb_version.c – what this binary is. */
#include "cli.h"

static ft_status run(const cli_call *c)
{
    if (!c->json) return cli_facts_print();
    cJSON *o = cJSON_CreateObject();
    cli_facts_json(o);
    ft_status rc = o ? cli_out_json(o) : FT_EMEM;
    cJSON_Delete(o);
    return rc;
}

const cli_verb verb_version = {
    .name = "version",
    .help = "version, arithmetic and libraries",
    .usage = "[--json]",
    .needs = CLI_KERNELS,
    .example = "ft version --json",
    .run = run,
};
