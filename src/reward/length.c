/* length.c – a soft punishment of length (DAPO, Yu et al. 2025, equation 13; TRL's get_soft_overlong_punishment): 0 up to L − c
 * tokens, (L − c − n)/c up to L, then −1. */
#include "reward_private.h"

typedef struct length_cfg {
    rw_head head;
    int64_t most, cache;
} length_cfg;

#define AT(member) offsetof(length_cfg, member)
static const cfg_field fields[] = {RW_HEAD_ROWS,
                                   {.key = "max_completion_len",
                                    .type = CFG_INT,
                                    .offset = AT(most),
                                    .low = 1,
                                    .high = 1e9,
                                    .required = true,
                                    .help = "tokens beyond which the reward is -1"},
                                   {.key = "soft_punish_cache",
                                    .type = CFG_INT,
                                    .offset = AT(cache),
                                    .low = 0,
                                    .high = 1e9,
                                    .required = true,
                                    .help = "tokens before that, over which it falls from 0"},
                                   CFG_END};

static ft_status check(cfg_doc *d, const cJSON *node, const char *key, void *cfg)
{
    const length_cfg *c = cfg;
    const cJSON *at = js_get(node, "soft_punish_cache");
    if (c->cache > c->most)
        cfg_fail(d, at ? at : node, arena_printf(d->mem, "%s.soft_punish_cache", key),
                 "%lld must be at most max_completion_len (%lld)", (long long)c->cache,
                 (long long)c->most);
    return FT_OK;
}

static ft_status judge(rw_one *r, const rw_item *item, int64_t n, double *out)
{
    const length_cfg *c = r->cfg;
    const int64_t free = c->most - c->cache;
    for (int64_t i = 0; i < n; i++) {
        const int64_t t = item[i].tokens;
        out[i] = t <= free ? 0 : t <= c->most ? (double)(free - t) / (double)c->cache : -1;
    }
    return FT_OK;
}

const rw_reward rw_reward_length = {.name = "length",
                                    .help = "0 down to -1 as a completion nears its longest length",
                                    .fields = fields,
                                    .cfg_size = sizeof(length_cfg),
                                    .check = check,
                                    .judge = judge};
