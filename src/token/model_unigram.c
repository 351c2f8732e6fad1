/* model_unigram.c – Unigram language model: the best path over all pieces (Kudo 2018), in float64.
 *
 * best[i] is the best segmentation of the first i bytes; candidates are all pieces that end there and begin where a
 * character does. */
#include "token_private.h"

#include <math.h>

#define UNK_PENALTY 10.0

typedef struct tk_best {
    double score;
    int32_t from; /* −1: not reached */
    uint32_t id : 31;
    uint32_t begins : 1; /* a character begins here */
} tk_best;

ft_status tk_unigram_parse(tk_model *m, const tk_src *src, const cJSON *o)
{
    const cJSON *vocab = js_get(o, "vocab"), *item;
    int64_t n = 0, id = 0, unk = -1;
    size_t bytes = 0;
    if (!cJSON_IsArray(vocab)) return js_fail(src->doc, o, FT_EDATA, "vocab", "must be a list");
    cJSON_ArrayForEach(item, vocab)
    {
        const cJSON *text = cJSON_IsArray(item) ? item->child : NULL;
        if (!cJSON_IsString(text) || !cJSON_IsNumber(text->next) || text->next->next) {
            return js_fail(src->doc, item, FT_EDATA, "vocab", "an entry is not [token, score]");
        }
        bytes += strlen(text->valuestring) + 1;
        n++;
    }
    if (n > TK_MAX_ID) return js_fail(src->doc, vocab, FT_EDATA, "vocab", "too many tokens");
    FT_TRY(js_get_int(src->doc, o, "unk_id", -1, -1, INT32_MAX, &unk));
    if (unk >= n) return js_fail(src->doc, o, FT_EDATA, "unk_id", "is not in the vocabulary");
    FT_TRY(tk_parse_bool(src, o, "byte_fallback", 0, &m->byte_fallback));
    FT_TRY(tk_vocab_open(&m->vocab, src->mem, n));
    FT_TRY(tk_trie_open(&m->trie));
    char *text = arena_get(src->mem, bytes + 1);
    m->score = arena_get(src->mem, (size_t)(n + 1) * sizeof *m->score);
    if (!text || !m->score) return FT_EMEM;
    m->min_score = (double)INFINITY;
    cJSON_ArrayForEach(item, vocab)
    {
        size_t len = strlen(item->child->valuestring);
        memcpy(text, item->child->valuestring, len + 1);
        len = js_nul(text, len);
        m->score[id] = item->child->next->valuedouble;
        if (m->score[id] < m->min_score) m->min_score = m->score[id];
        FT_TRY(tk_vocab_put(&m->vocab, (tk_span){text, len}, id));
        if (len) FT_TRY(tk_trie_put(&m->trie, text, len, (int32_t)id));
        text += len + 1;
        id++;
    }
    FT_TRY(tk_trie_link(&m->trie));
    m->vocab.entries = n; /* the library counts duplicates */
    m->unk = (int32_t)unk;
    tk_byte_ids(m);
    return FT_OK;
}

static void offer(tk_best *to, double score, size_t from, int32_t id)
{
    if (to->from >= 0 && !(score > to->score)) return;
    to->score = score;
    to->from = (int32_t)from;
    to->id = (uint32_t)id & INT32_MAX;
}

/* All pieces that end behind the byte at `end` − 1, the earliest first. true: one of them is the character itself. */
static bool offer_pieces(const tk_model *m, tk_best *best, int32_t node, size_t end, size_t begin)
{
    bool single = false;
    for (int32_t x = m->trie.out[node]; x >= 0; x = m->trie.out[m->trie.fail[x]]) {
        int32_t id = m->trie.value[x];
        size_t from = end - m->vocab.by_id[id].n;
        if (!best[from].begins) continue;
        offer(&best[end], m->score[id] + best[from].score, from, id);
        single = single || from == begin;
    }
    return single;
}

static ft_status forward(const tk_model *m, tk_span word, tk_best *best)
{
    int32_t cp, node = 0;
    for (size_t i = 0; i <= word.n; i++) best[i] = (tk_best){.from = -1};
    for (size_t i = 0; i < word.n; i += (size_t)utf8_next(word.s + i, word.n - i, &cp))
        best[i].begins = 1;
    for (size_t i = 0; i < word.n;) {
        size_t len = (size_t)utf8_next(word.s + i, word.n - i, &cp);
        bool single = false;
        for (size_t end = i + 1; end <= i + len; end++) {
            node = tk_trie_follow(&m->trie, node, (unsigned char)word.s[end - 1]);
            single = offer_pieces(m, best, node, end, i);
        }
        if (!single) {
            FT_CHECK(m->unk >= 0, FT_EDATA,
                     "%s is not in the vocabulary, which has no unknown token",
                     ft_show(word.s + i, len));
            offer(&best[i + len], m->min_score - UNK_PENALTY + best[i].score, i, m->unk);
        }
        i += len;
    }
    return FT_OK;
}

/* Emits a stretch of text: its token, its bytes, or the unknown token. */
static ft_status emit(const tk_model *m, tk_span text, tok_ids *out)
{
    int32_t id = tk_vocab_id(&m->vocab, text.s, text.n);
    if (id >= 0) return tok_ids_push(out, id);
    bool bytes = m->byte_fallback;
    for (size_t i = 0; i < text.n && bytes; i++) {
        bytes = m->byte_id[(unsigned char)text.s[i]] >= 0;
    }
    if (!bytes) {
        FT_CHECK(m->unk >= 0, FT_EDATA, "%s is not in the vocabulary, which has no unknown token",
                 ft_show(text.s, text.n));
        return tok_ids_push(out, m->unk);
    }
    for (size_t i = 0; i < text.n; i++) {
        FT_TRY(tok_ids_push(out, m->byte_id[(unsigned char)text.s[i]]));
    }
    return FT_OK;
}

ft_status tk_unigram_encode(const tk_model *m, tk_span word, tk_scratch *x, tok_ids *out)
{
    FT_CHECK(word.n < INT32_MAX, FT_EDATA, "a word of %zu bytes is too long", word.n);
    if (x->best_cap < word.n + 1) {
        tk_best *bigger = ft_realloc(x->best, word.n + 1, sizeof *bigger);
        if (!bigger) return FT_EMEM;
        x->best = bigger;
        x->best_cap = word.n + 1;
    }
    tk_best *best = x->best;
    FT_TRY(forward(m, word, best));
    /* turn the links round: best[from].from = next end */
    int32_t end = (int32_t)word.n, next = -1;
    while (end >= 0) {
        int32_t from = end ? best[end].from : -1;
        best[end].from = next; /* now: the end of the piece that begins here */
        next = end;
        if (end == 0) break;
        FT_CHECK(from >= 0 && from < end, FT_EDATA,
                 "a token of the vocabulary ends inside a character of the text");
        end = from;
    }
    for (int32_t at = 0; at < (int32_t)word.n;) {
        int32_t stop = best[at].from;
        /* neighbouring unknowns are one */
        if (m->unk >= 0 && best[stop].id == (uint32_t)m->unk) {
            while (stop < (int32_t)word.n && best[best[stop].from].id == (uint32_t)m->unk) {
                stop = best[stop].from;
            }
        }
        FT_TRY(emit(m, (tk_span){word.s + at, (size_t)(stop - at)}, out));
        at = stop;
    }
    return FT_OK;
}
