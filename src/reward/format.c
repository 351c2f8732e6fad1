/* format.c – 1 for a completion that a pattern matches as a whole, else 0; by default thoughts in one pair of marks and text
 * behind them (the reward of DeepSeek-R1, Guo et al. 2025, as TRL's think_format_reward has it). */
#include "reward_private.h"

#include <string.h>

#define THOUGHTS "<think>(?!.*<think>).*?</think>.*"

typedef struct format_cfg {
    rw_head head;
    const char *pattern;
} format_cfg;

static const cfg_field fields[] = {
    RW_HEAD_ROWS,
    {.key = "pattern",
     .type = CFG_STR,
     .offset = offsetof(format_cfg, pattern),
     .def = "\"" THOUGHTS "\"",
     .help = "must match all of a completion; the dot matches line breaks"},
    CFG_END};

static ft_status check(cfg_doc *d, const cJSON *node, const char *key, void *cfg)
{
    const format_cfg *c = cfg;
    const cJSON *at = js_get(node, "pattern");
    rw_pattern *p = NULL;
    ft_status rc = rw_pattern_open(&p, c->pattern, true, FT_ECONFIG);
    rw_pattern_close(p);
    if (rc != FT_ECONFIG) return rc;
    char *why = ft_strdup(ft_error());
    if (!why) return FT_EMEM;
    ft_error_clear();
    cfg_fail(d, at ? at : node, arena_printf(d->mem, "%s.pattern", key), "%s", why);
    ft_free(why);
    return FT_OK;
}

static ft_status open(rw_one *r)
{
    const format_cfg *c = r->cfg;
    return rw_pattern_open((rw_pattern **)&r->priv, c->pattern, true, FT_ECONFIG);
}

static ft_status judge(rw_one *r, const rw_item *item, int64_t n, double *out)
{
    for (int64_t i = 0; i < n; i++) {
        bool hit;
        FT_TRY(rw_pattern_match(r->priv, item[i].text, strlen(item[i].text), &hit));
        out[i] = hit;
    }
    return FT_OK;
}

static void close(rw_one *r)
{
    rw_pattern_close(r->priv);
}

const rw_reward rw_reward_format = {.name = "format",
                                    .help = "1 where a pattern matches all of a completion",
                                    .fields = fields,
                                    .cfg_size = sizeof(format_cfg),
                                    .check = check,
                                    .open = open,
                                    .judge = judge,
                                    .close = close};
