/* count.c – what is told of a source beside its samples: keys of its records that nothing reads, records that are equal
 * to an earlier one, empty answers. None of it is an error; all of it is a surprise that `ft check` should show. */
#include "data_private.h"

#include <string.h>

/* --- keys that nothing reads ----------------------------------------------------------------------------------- */
static bool listed(const char *const *keys, const char *key)
{
    while (keys && *keys && strcmp(*keys, key) != 0) keys++;
    return keys && *keys;
}

/* Keys of every record that is rendered by a chat template. */
static const char *const of_chat[] = {"tools", "chat_template_kwargs", NULL};

static bool is_read(const data_item *it, const char *key)
{
    const data_format *f = it->format;
    if (listed(f->keys, key) || listed(f->reads, key)) return true;
    if (!it->chat) return false;
    bool instead = !strcmp(key, "conversations") && !js_get(it->rec, "messages");
    return listed(of_chat, key) || instead;
}

ft_status data_note_keys(data_item *it)
{
    str_buf unread = {0};
    for (const cJSON *k = it->rec->child; k; k = k->next) {
        if (cJSON_IsNull(k) || is_read(it, k->string) || data_is_reached(it, k->string)) continue;
        const char *key = it->view ? data_key_text(it->src, k->string) : k->string;
        str_add(&unread, key, strlen(key) + 1);
    }
    for (const cJSON *k = it->view ? it->raw->child : NULL; k; k = k->next) {
        if (!cJSON_IsNull(k) && data_is_replaced(it, k->string))
            str_add(&unread, k->string, strlen(k->string) + 1);
    }
    ft_status rc = str_ok(&unread);
    if (rc == FT_OK && unread.len) {
        it->unread = unread.data;
        it->unread_len = unread.len;
        return FT_OK;
    }
    str_free(&unread);
    return rc;
}

/* Files may hold any number of names: the rest is counted together. */
enum { UNREAD_MAX = 64 };

static ft_status count_key(data_source *s, const char *key)
{
    data_unread *u = s->unread;
    int n = s->stats.n_unread, i = 0;
    while (i < n && strcmp(u[i].key, key) != 0) i++;
    if (i == n) {
        if (n + 1 >= UNREAD_MAX && strcmp(key, "…") != 0) return count_key(s, "…");
        if (!u && !(u = s->unread = ft_alloc(UNREAD_MAX, sizeof *u))) return FT_EMEM;
        if (!(u[i].key = ft_strdup(key))) return FT_EMEM;
        s->stats.unread = u;
        s->stats.n_unread++;
    }
    u[i].records++;
    return FT_OK;
}

/* --- records that were there before ------------------------------------------------------------------------------- */
FT_WRAPS static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ (h >> 29);
}

FT_WRAPS static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; s && *s; s++) h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return mix(h, 1);
}

/* Equal values have equal hashes: the order of keys says nothing, numbers that no double holds are compared by their
 * digits. The reader bounds the depth. */
FT_WRAPS static uint64_t hash_value(uint64_t seed, const cJSON *v)
{
    uint64_t h = mix(seed, (uint64_t)(v->type & 0xff)), bits;
    if (cJSON_IsString(v)) return hash_text(h, v->valuestring);
    if (cJSON_IsNumber(v)) {
        memcpy(&bits, &v->valuedouble, sizeof bits);
        return v->valuestring ? hash_text(h, v->valuestring) : mix(h, bits);
    }
    uint64_t sum = 0;
    for (const cJSON *c = v->child; c; c = c->next) {
        if (cJSON_IsObject(v))
            sum += mix(hash_text(seed, c->string), hash_value(seed, c));
        else
            h = mix(h, hash_value(seed, c));
    }
    return mix(h, sum);
}

/* Two independent hashes of the record; the second one is never 0. */
void data_note_identity(data_item *it)
{
    it->identity[0] = hash_value(1, it->raw);
    it->identity[1] = hash_value(UINT64_C(0xd1b54a32d192ed03), it->raw) | 1;
}

static bool place(uint64_t (*slot)[2], int64_t cap, const uint64_t id[2])
{
    int64_t i = (int64_t)(id[0] & (uint64_t)(cap - 1));
    while (slot[i][1] && (slot[i][0] != id[0] || slot[i][1] != id[1])) i = (i + 1) & (cap - 1);
    bool there = slot[i][1] != 0;
    slot[i][0] = id[0];
    slot[i][1] = id[1];
    return there;
}

static ft_status before(data_seen *s, const uint64_t id[2], bool *there)
{
    if (2 * s->n >= s->cap) {
        int64_t cap = s->cap ? 2 * s->cap : 1024;
        uint64_t(*slot)[2] = ft_alloc((size_t)cap, sizeof *slot);
        if (!slot) return FT_EMEM;
        for (int64_t i = 0; i < s->cap; i++)
            if (s->slot[i][1]) place(slot, cap, s->slot[i]);
        ft_free(s->slot);
        s->slot = slot;
        s->cap = cap;
    }
    *there = place(s->slot, s->cap, id);
    s->n += !*there;
    return FT_OK;
}

ft_status data_count_item(data_set *d, data_source *s, const data_item *it)
{
    data_source_stats *st = &s->stats;
    bool there = false;
    if (!s->windowed)
        FT_TRY(before(&d->seen, it->identity, &there)); /* of a stream there is no end */
    st->duplicates += there;
    st->empty += it->empty;
    st->merged_borders += it->merged;
    for (size_t i = 0; i < it->unread_len; i += strlen(it->unread + i) + 1)
        FT_TRY(count_key(s, it->unread + i));
    return FT_OK;
}

void data_count_forget(data_source *s)
{
    for (int k = 0; k < s->stats.n_unread; k++) ft_free((char *)(uintptr_t)s->unread[k].key);
    ft_free(s->unread);
    s->unread = NULL;
    s->stats = (data_source_stats){.name = s->stats.name,
                                   .path = s->stats.path,
                                   .weight = s->stats.weight,
                                   .first = s->stats.first};
}

void data_count_close(data_set *d)
{
    ft_free(d->seen.slot);
    d->seen = (data_seen){0};
    for (int i = 0; i < d->n_sources; i++) data_count_forget(&d->source[i]);
}
