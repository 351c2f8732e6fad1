/* infer_private.h – what the files of this module share: checks, and the cache in pages. */
#ifndef FT_INFER_PRIVATE_H
#define FT_INFER_PRIVATE_H

#include "ft/infer.h"

FT_MUST_USE ft_status inf_check_ids(const inf_ctx *c, const int32_t *id, int64_t n);
/* FT_OK, or FT_ESIGNAL once the program was asked to stop. */
FT_MUST_USE ft_status inf_go_on(void);

/* --- cache.c ------------------------------------------------------------------------------------------------ */
enum { CACHE_ROWS = 32 }; /* positions of a page: a sequence wastes half of one on average */

typedef struct cache_page cache_page;
typedef struct cache_pool { /* all pages of one generation */
    int64_t floats;         /* of a page */
    int64_t used, limit;    /* pages */
} cache_pool;
typedef struct cache_seq {
    cache_page **page;
    int64_t pages, cap;
    int64_t used; /* positions */
} cache_seq;

void cache_pool_open(cache_pool *p, const inf_ctx *c);
void cache_pool_plan(cache_pool *p, const inf_ctx *c); /* its limit: what the plan has for it */
/* Pages of so many positions. */
int64_t cache_pages(int64_t positions);
/* Makes room for `more` positions that this sequence alone may write: 71 past the limit. */
FT_MUST_USE ft_status cache_grow(cache_pool *p, cache_seq *s, int64_t more);
/* A second sequence with the same beginning: the pages are shared until one of the two writes into them. */
FT_MUST_USE ft_status cache_share(cache_seq *to, const cache_seq *from);
void cache_drop(cache_pool *p, cache_seq *s);
/* Where the values of page i lie. */
float *cache_at(const cache_seq *s, int64_t i);
#endif
