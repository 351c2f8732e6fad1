/* reward_private.h – a reward and what one of a list is; shared by the files of the module. */
#ifndef FT_REWARD_PRIVATE_H
#define FT_REWARD_PRIVATE_H

#include "ft/reward.h"

typedef struct rw_reward rw_reward;

/* What the struct of every reward begins with. */
typedef struct rw_head {
    const char *type, *name;
    double weight;
} rw_head;
#define RW_HEAD(member) offsetof(rw_head, member)
#define RW_HEAD_ROWS                                                                               \
    {.key = "type",                                                                                \
     .type = CFG_STR,                                                                              \
     .offset = RW_HEAD(type),                                                                      \
     .required = true,                                                                             \
     .help = "kind of reward"},                                                                    \
        {.key = "name",                                                                            \
         .type = CFG_STR,                                                                          \
         .offset = RW_HEAD(name),                                                                  \
         .help = "name in logs; default: the type"},                                               \
    {                                                                                              \
        .key = "weight", .type = CFG_FLOAT, .offset = RW_HEAD(weight), .def = "1",                 \
        .low = -RW_MOST, .high = RW_MOST, .help = "factor of the reward in the sum"                \
    }

/* A reward of a list, and of a set once it is open. */
typedef struct rw_one {
    const rw_reward *row;
    void *cfg; /* begins with a rw_head */
    rw_ctx *c;
    void *priv; /* the reward's */
} rw_one;
static inline const rw_head *rw_head_of(const rw_one *r)
{
    return r->cfg;
}

struct rw_reward {
    const char *name, *help;
    const cfg_field *fields; /* RW_HEAD_ROWS and its own */
    size_t cfg_size;
    bool answer;     /* an item without one is 65 */
    bool passes;     /* judge runs on a dry tape too: passes of a model */
    const void *own; /* what tells rows apart that judge alike */
    /* All below may be NULL, except judge. */
    ft_status (*check)(cfg_doc *d, const cJSON *node, const char *key, void *cfg);
    ft_status (*open)(rw_one *r);
    ft_status (*judge)(rw_one *r, const rw_item *item, int64_t n, double *out); /* out [n] */
    void (*close)(rw_one *r);
};

/* The path of a string node as the config means it, absolute; the node's text becomes the same. */
FT_MUST_USE ft_status rw_settle_path(cfg_doc *d, cJSON *node, const char **out);
#endif
