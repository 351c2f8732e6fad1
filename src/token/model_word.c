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
    /* two sets in one index: tokens that begin a word after a 0 byte, those that continue it after a 1 */
    str_buf key = {0};
    ft_status rc = FT_OK;
    for (int64_t id = 0; id < m->vocab.size && rc == FT_OK; id++) {
        tk_span t = m->vocab.by_id[id];
        if (!t.s || t.n == 0) continue;
        str_clear(&key);
        str_addc(&key, 0);
        str_add(&key, t.s, t.n);
        rc = str_ok(&key);
        if (rc == FT_OK) rc = tk_trie_put(&m->trie, key.data, key.len, (int32_t)id);
        if (rc != FT_OK || t.n <= m->prefix.n || memcmp(t.s, m->prefix.s, m->prefix.n) != 0)
            continue;
        str_clear(&key);
        str_addc(&key, 1);
        str_add(&key, t.s + m->prefix.n, t.n - m->prefix.n);
        rc = str_ok(&key);
        if (rc == FT_OK) rc = tk_trie_put(&m->trie, key.data, key.len, (int32_t)id);
    }
    str_free(&key);
    return rc;
}

ft_status tk_wordpiece_encode(const tk_model *m, tk_span word, tk_scratch *x, tok_ids *out)
{
    int64_t chars = 0, mark = out->n;
    (void)x;
    for (size_t i = 0; i < word.n; chars++) {
        int32_t cp;
        i += (size_t)utf8_next(word.s + i, word.n - i, &cp);
    }
    if (chars > m->max_chars) return push_unk(m, out);
    for (size_t at = 0; at < word.n;) {
        int32_t node = tk_trie_step(&m->trie, 0, at ? 1 : 0), id = -1;
        size_t end = at;
        for (size_t k = at; k < word.n && node >= 0; k++) {
            node = tk_trie_step(&m->trie, node, (unsigned char)word.s[k]);
            if (node >= 0 && m->trie.value[node] >= 0) {
                id = m->trie.value[node];
                end = k + 1;
            }
        }
        if (id < 0) {
            out->n = mark;
            return push_unk(m, out);
        }
        FT_TRY(tok_ids_push(out, id));
        at = end;
    }
    return FT_OK;
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
