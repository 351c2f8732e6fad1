/* verb_version.c – what this binary is: version, arithmetic, libraries. The arithmetic is what decides
 * whether two machines give the same bits. */
#include "cli.h"

#include "ft/kernel.h"

#include <zlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

static ft_status run(const cli_call *c)
{
    char pcre[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    const struct {
        const char *key, *value;
    } facts[] = {
        {"version", FT_VERSION},  {"core", kn_core_name()},         {"simd", kn_level()},
        {"gemm", kn_gemm_name()}, {"cjson", cJSON_Version()},       {"zlib", zlibVersion()},
        {"pcre2", pcre},          {"utf8proc", utf8proc_version()},
    };
    if (!c->json) {
        FT_TRY(cli_printf("ft %s\n", FT_VERSION));
        for (size_t i = 1; i < FT_COUNT_OF(facts); i++)
            FT_TRY(cli_printf("%-9s %s\n", facts[i].key, facts[i].value));
        return cli_printf("%-9s %d\n", "threads", pool_threads());
    }
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < FT_COUNT_OF(facts); i++)
        cJSON_AddStringToObject(o, facts[i].key, facts[i].value);
    cJSON_AddNumberToObject(o, "threads", pool_threads());
    ft_status rc = o ? cli_out_json(o) : FT_EMEM;
    cJSON_Delete(o);
    return rc;
}

const cli_verb verb_version = {
    .name = "version",
    .help = "version, arithmetic and libraries",
    .usage = "[--json]",
    .needs = CLI_KERNELS,
    .run = run,
};
