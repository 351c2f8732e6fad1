/* vocab.c – vocabularies: text ↔ id, by hash and by array; reading {token: id} objects. */
#include "token_private.h"

ft_status tk_vocab_open(tk_vocab *v, arena *mem, int64_t size)
{
    *v = (tk_vocab){.size = size};
    v->by_id = arena_get(mem, (size_t)(size > 0 ? size : 1) * sizeof *v->by_id);
    return v->by_id ? FT_OK : FT_EMEM;
}

ft_status tk_vocab_put(tk_vocab *v, tk_span text, int64_t id)
{
    FT_CHECK(id >= 0 && id < v->size, FT_EINTERNAL, "id %lld outside the vocabulary",
             (long long)id);
    FT_CHECK(text.n <= TK_MAX_TOKEN, FT_EDATA, "token %lld: a text of %zu bytes is too long",
             (long long)id, text.n);
    FT_TRY(map_put(&v->index, text.s, text.n, id));
    v->entries = (int64_t)v->index.count;
    v->by_id[id] = text;
    return FT_OK;
}

int32_t tk_vocab_id(const tk_vocab *v, const char *s, size_t n)
{
    int64_t id;
    return map_get(&v->index, s, n, &id) ? (int32_t)id : -1;
}

/* All texts go into one block: an object of 150,000 entries is walked twice, never searched. */
ft_status tk_parse_vocab(tk_vocab *v, const tk_src *src, const cJSON *o)
{
    const cJSON *item;
    int64_t largest = -1;
    size_t bytes = 0;
    if (!cJSON_IsObject(o)) return js_fail(src->doc, o, FT_EDATA, "vocab", "must be an object");
    cJSON_ArrayForEach(item, o)
    {
        double id = item->valuedouble;
        if (!cJSON_IsNumber(item) || !(id >= 0 && id <= TK_MAX_ID) || id != (double)(int64_t)id) {
            return js_fail(src->doc, item, FT_EDATA, "vocab", "the id of %s is not in 0 … %d",
                           ft_shows(item->string), TK_MAX_ID);
        }
        if ((int64_t)id > largest) largest = (int64_t)id;
        bytes += strlen(item->string) + 1;
    }
    FT_TRY(tk_vocab_open(v, src->mem, largest + 1));
    char *text = arena_get(src->mem, bytes + 1);
    if (!text) return FT_EMEM;
    cJSON_ArrayForEach(item, o)
    {
        size_t n = strlen(item->string);
        memcpy(text, item->string, n + 1);
        n = js_nul(text, n);
        FT_TRY(tk_vocab_put(v, (tk_span){text, n}, (int64_t)item->valuedouble));
        text += n + 1;
    }
    return FT_OK;
}

void tk_byte_ids(tk_model *m)
{
    static const char hex[] = "0123456789ABCDEF";
    for (int b = 0; b < 256; b++) {
        char text[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        m->byte_id[b] = tk_vocab_id(&m->vocab, text, 6);
    }
}
