/* model_word.c – WordPiece (greedy longest match from the left) and WordLevel (whole words). */
#include "token_private.h"

static ft_status required_unk(tk_model *m, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "unk_token", NULL, &m->unk_text));
    FT_TRY(tk_parse_vocab(&m->vocab, src, js_get(o, "vocab")));
    m->unk = tk_vocab_id(&m->vocab, m->unk_text.s, m->unk_text.n);
    return FT_OK;
}

static ft_status push_unk(const tk_model *m, tok_ids *out)
{
    FT_CHECK(m->unk >= 0, FT_EDATA, "the unknown token %s is not in the vocabulary",
             ft_show(m->unk_text.s, m->unk_text.n));
    return tok_ids_push(out, m->unk);
}

ft_status tk_wordpiece_parse(tk_model *m, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "continuing_subword_prefix", NULL, &m->prefix));
    if (!js_get(o, "max_input_chars_per_word")) {
        return js_fail(src->doc, o, FT_EDATA, "max_input_chars_per_word", "missing");
    }
    FT_TRY(js_get_int(src->doc, o, "max_input_chars_per_word", 100, 0, INT32_MAX, &m->max_chars));
    FT_TRY(required_unk(m, src, o));
    FT_TRY(tk_trie_open(&m->trie));
    FT_TRY(tk_trie_open(&m->more));
    for (int64_t id = 0; id < m->vocab.size; id++) {
        tk_span t = m->vocab.by_id[id];
        const size_t skip = m->prefix.n;
        if (!t.s || t.n == 0) continue;
        FT_TRY(tk_trie_put(&m->trie, t.s, t.n, (int32_t)id));
        if (t.n <= skip || memcmp(t.s, m->prefix.s, skip) != 0) continue;
        FT_TRY(tk_trie_put_reversed(&m->more, t.s + skip, t.n - skip, (int32_t)id));
    }
    return tk_trie_link(&m->more);
}

/* The longest token that begins the word: its id and end, −1 for none. */
static int32_t first_token(const tk_model *m, tk_span word, size_t *end)
{
    int32_t node = 0, id = -1;
    for (size_t k = 0; k < word.n; k++) {
        node = tk_trie_step(&m->trie, node, (unsigned char)word.s[k]);
        if (node < 0) break;
        if (m->trie.value[node] < 0) continue;
        id = m->trie.value[node];
        *end = k + 1;
    }
    return id;
}

/* x->sym[i]: the longest token that goes on at i, −1 for none. */
static ft_status find_further(const tk_model *m, tk_span word, size_t from, tk_scratch *x)
{
    int32_t node = 0;
    if (x->sym_cap < word.n) {
        int32_t *bigger = ft_realloc(x->sym, word.n, sizeof *bigger);
        if (!bigger) return FT_EMEM;
        x->sym = bigger;
        x->sym_cap = word.n;
    }
    for (size_t at = word.n; at > from; at--) {
        node = tk_trie_follow(&m->more, node, (unsigned char)word.s[at - 1]);
        int32_t entry = m->more.out[node];
        x->sym[at - 1] = entry < 0 ? -1 : m->more.value[entry];
    }
    return FT_OK;
}

ft_status tk_wordpiece_encode(const tk_model *m, tk_span word, tk_scratch *x, tok_ids *out)
{
    int64_t chars = 0, mark = out->n;
    size_t at = 0;
    for (size_t i = 0; i < word.n; chars++) {
        int32_t cp;
        i += (size_t)utf8_next(word.s + i, word.n - i, &cp);
    }
    if (chars > m->max_chars) return push_unk(m, out);
    int32_t id = first_token(m, word, &at);
    if (id >= 0 && at < word.n) FT_TRY(find_further(m, word, at, x));
    while (id >= 0) {
        FT_TRY(tok_ids_push(out, id));
        if (at == word.n) return FT_OK;
        id = x->sym[at];
        if (id >= 0) at += m->vocab.by_id[id].n - m->prefix.n;
    }
    out->n = mark;
    return word.n ? push_unk(m, out) : FT_OK;
}

ft_status tk_wordlevel_parse(tk_model *m, const tk_src *src, const cJSON *o)
{
    return required_unk(m, src, o);
}

ft_status tk_wordlevel_encode(const tk_model *m, tk_span word, tk_scratch *x, tok_ids *out)
{
    (void)x;
    int32_t id = tk_vocab_id(&m->vocab, word.s, word.n);
    return id >= 0 ? tok_ids_push(out, id) : push_unk(m, out);
}
