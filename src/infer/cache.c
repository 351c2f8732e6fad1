/* cache.c – keys and values of many sequences in pages of a fixed number of positions.
 *
 * A page serves all layers (model_cache_floats) and knows how many sequences refer to it. Pages are full from left to
 * right, so only the last one of a sequence is ever written; where another sequence refers to it as well, the writer
 * takes a copy first. */
#include "infer_private.h"

#include <string.h>

struct cache_page {
    int refs;
    float value[];
};

void cache_pool_open(cache_pool *p, const inf_ctx *c)
{
    size_t limit = c->cache_limit ? c->cache_limit : ft_memory_limit(NULL) / 4 * 3;
    *p = (cache_pool){.floats = model_cache_floats(c->m, CACHE_ROWS)};
    p->limit = (int64_t)(limit / ((size_t)p->floats * sizeof(float)));
}

void cache_pool_plan(cache_pool *p, const inf_ctx *c)
{
    if (!c->cache_limit)
        p->limit = (int64_t)(c->plan->cache / ((size_t)p->floats * sizeof(float) + 64));
}

int64_t cache_pages(int64_t positions)
{
    return (positions + CACHE_ROWS - 1) / CACHE_ROWS;
}

static ft_status new_page(cache_pool *p, const cache_seq *s, cache_page **out)
{
    size_t bytes = sizeof **out + (size_t)p->floats * sizeof(float);
    *out = NULL;
    FT_CHECK(p->used < p->limit, FT_EMEM,
             "keys and values of a sequence of more than %lld positions pass the limit of %zu MiB; "
             "ask for fewer tokens",
             (long long)(s->pages * CACHE_ROWS), ((size_t)p->limit * bytes) >> 20);
    *out = ft_alloc(1, bytes);
    if (!*out) return FT_EMEM;
    (*out)->refs = 1;
    p->used++;
    return FT_OK;
}

static void release(cache_pool *p, cache_page *page)
{
    if (--page->refs > 0) return;
    ft_free(page);
    p->used--;
}

static ft_status reserve(cache_seq *s, int64_t pages)
{
    if (pages <= s->cap) return FT_OK;
    int64_t cap = pages + s->cap;
    cache_page **page = ft_realloc(s->page, (size_t)cap, sizeof *page);
    if (!page) return FT_EMEM;
    s->page = page;
    s->cap = cap;
    return FT_OK;
}

ft_status cache_grow(cache_pool *p, cache_seq *s, int64_t more)
{
    cache_page *page;
    int64_t pages = cache_pages(s->used + more);
    FT_TRY(reserve(s, pages));
    if (s->used % CACHE_ROWS && s->page[s->pages - 1]->refs > 1) {
        cache_page **last = &s->page[s->pages - 1];
        FT_TRY(new_page(p, s, &page));
        memcpy(page->value, (*last)->value, (size_t)p->floats * sizeof(float));
        release(p, *last);
        *last = page;
    }
    while (s->pages < pages) {
        FT_TRY(new_page(p, s, &page));
        s->page[s->pages++] = page;
    }
    return FT_OK;
}

ft_status cache_share(cache_seq *to, const cache_seq *from)
{
    *to = (cache_seq){0};
    FT_TRY(reserve(to, from->pages));
    for (int64_t i = 0; i < from->pages; i++) {
        to->page[i] = from->page[i];
        to->page[i]->refs++;
    }
    to->pages = from->pages;
    to->used = from->used;
    return FT_OK;
}

void cache_drop(cache_pool *p, cache_seq *s)
{
    for (int64_t i = 0; i < s->pages; i++) release(p, s->page[i]);
    ft_free(s->page);
    *s = (cache_seq){0};
}

float *cache_at(const cache_seq *s, int64_t i)
{
    return s->page[i]->value;
}
