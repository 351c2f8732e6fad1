/* facts.c – what this binary is on this machine, for `ft version` and `ft bench`: version, arithmetic, libraries. The
 * arithmetic is what decides whether two machines give the same bits. */
#include "cli.h"

#include "ft/kernel.h"

#include <histedit.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

enum { FACTS = 13 };
typedef struct fact {
    const char *key, *value;
} fact;

/* Ended by a NULL key. */
static void collect(fact out[FACTS])
{
    static char pcre[64], edit[32];
    int n = 0;
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    snprintf(edit, sizeof edit, "%d.%d", LIBEDIT_MAJOR, LIBEDIT_MINOR);
    out[n++] = (fact){"version", FT_VERSION};
    out[n++] = (fact){"core", kn_core_name(kn_precision_of("auto"))};
    out[n++] = (fact){"simd", kn_level()};
    out[n++] = (fact){"gemm", kn_gemm_name()};
    out[n++] = (fact){"cpu", ft_cpu_name()};
    out[n++] = (fact){"cjson", cJSON_Version()};
    out[n++] = (fact){"zlib", zlibVersion()};
    out[n++] = (fact){"zstd", ZSTD_versionString()};
    out[n++] = (fact){"pcre2", pcre};
    out[n++] = (fact){"utf8proc", utf8proc_version()};
    out[n++] = (fact){"libedit", edit};
    if (kn_library()) out[n++] = (fact){"blas", kn_library()};
    out[n] = (fact){0};
}

ft_status cli_facts_print(void)
{
    fact facts[FACTS];
    collect(facts);
    FT_TRY(cli_printf("ft %s\n", facts[0].value));
    for (int i = 1; facts[i].key; i++)
        FT_TRY(cli_printf("%-9s %s\n", facts[i].key, facts[i].value));
    return cli_printf("%-9s %d\n", "threads", pool_threads());
}

void cli_facts_json(cJSON *o)
{
    fact facts[FACTS];
    collect(facts);
    for (int i = 0; facts[i].key; i++) cJSON_AddStringToObject(o, facts[i].key, facts[i].value);
    cJSON_AddNumberToObject(o, "threads", pool_threads());
}
