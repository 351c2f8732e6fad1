/* map.c – byte string → int64, open addressing, power-of-two capacity.  Keys are borrowed: vocabularies of
 * 150,000 entries point into the mapped file or an arena. */
#include "ft/base.h"

#include <string.h>

/* FNV-1a, then mixed: tokens are short and differ in few bits. */
FT_WRAPS static uint32_t hash_bytes(const char *key, size_t len)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)key[i]) * 16777619u;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    return h ^ (h >> 13);
}

static map_slot *find(const map_table *m, const char *key, size_t len, uint32_t hash)
{
    size_t mask = m->cap - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        map_slot *s = &m->slot[i];
        if (!s->key) return s;
        if (s->hash == hash && s->len == len && memcmp(s->key, key, len) == 0) return s;
    }
}

static ft_status grow(map_table *m)
{
    map_table bigger = {.cap = m->cap ? m->cap * 2 : 64};
    bigger.slot = ft_alloc(bigger.cap, sizeof *bigger.slot);
    if (!bigger.slot) return FT_EMEM;
    for (size_t i = 0; i < m->cap; i++) {
        const map_slot *s = &m->slot[i];
        if (s->key) *find(&bigger, s->key, s->len, s->hash) = *s;
    }
    bigger.count = m->count;
    ft_free(m->slot);
    *m = bigger;
    return FT_OK;
}

ft_status map_put(map_table *m, const char *key, size_t len, int64_t value)
{
    FT_CHECK(len <= UINT32_MAX, FT_EDATA, "a key of %zu bytes is too long", len);
    if ((m->count + 1) * 4 > m->cap * 3) FT_TRY(grow(m));
    uint32_t hash = hash_bytes(key, len);
    map_slot *s = find(m, key, len, hash);
    if (!s->key) {
        *s = (map_slot){.key = key, .len = (uint32_t)len, .hash = hash};
        m->count++;
    }
    s->value = value;
    return FT_OK;
}

bool map_get(const map_table *m, const char *key, size_t len, int64_t *value)
{
    if (m->count == 0 || len > UINT32_MAX) return false;
    const map_slot *s = find(m, key, len, hash_bytes(key, len));
    if (!s->key) return false;
    if (value) *value = s->value;
    return true;
}

void map_free(map_table *m)
{
    ft_free(m->slot);
    *m = (map_table){0};
}
