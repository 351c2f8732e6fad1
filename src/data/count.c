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
    if (f->gives & (DATA_PROMPTS | DATA_ROLLOUTS)) return true; /* rewards read any */
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

void data_note_identity(data_item *it)
{
    it->identity = hash_value(UINT64_C(0xd1b54a32d192ed03), it->raw);
    if (!it->identity) it->identity = 1;
}

static bool place(uint64_t *slot, uint32_t cap, uint64_t id)
{
    uint32_t i = (uint32_t)((id >> 24 & UINT32_MAX) * cap >> 32);
    while (slot[i] && slot[i] != id) i = i + 1 < cap ? i + 1 : 0;
    bool there = slot[i] != 0;
    slot[i] = id;
    return there;
}

/* Eight tenths full on average: a record takes ten bytes. */
static ft_status before(data_seen *s, uint64_t id, bool *there)
{
    const int k = (int)(id >> 60);
    const uint32_t n = s->table[k].n, old = s->table[k].cap;
    if ((uint64_t)n * 20 >= (uint64_t)old * 17) {
        FT_CHECK(old < UINT32_MAX / 2, FT_EDATA, "more records than can be told apart");
        const uint32_t cap = old + old / 5 + 64;
        uint64_t *slot = ft_alloc(cap, sizeof *slot);
        if (!slot) return FT_EMEM;
        for (uint32_t i = 0; i < old; i++)
            if (s->table[k].slot[i]) place(slot, cap, s->table[k].slot[i]);
        ft_free(s->table[k].slot);
        s->table[k].slot = slot;
        s->table[k].cap = cap;
    }
    *there = place(s->table[k].slot, s->table[k].cap, id);
    s->table[k].n += !*there;
    return FT_OK;
}

void data_seen_close(data_seen *s)
{
    for (int k = 0; k < DATA_SEEN; k++) ft_free(s->table[k].slot);
    *s = (data_seen){0};
}

ft_status data_count_item(data_set *d, data_source *s, const data_item *it)
{
    data_source_stats *st = &s->stats;
    bool there = false;
    if (!s->windowed)
        FT_TRY(before(&d->seen, it->identity, &there)); /* of a stream there is no end */
    st->duplicates += there;
    st->empty += it->empty;
    st->same += it->same;
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
    data_seen_close(&d->seen);
    for (int i = 0; i < d->n_sources; i++) data_count_forget(&d->source[i]);
}
