/* model_bpe.c – byte-pair encoding: byte-level and SentencePiece-like.
 *
 * Merging takes the applicable pair of lowest rank, leftmost first, from a binary heap; an entry that no longer
 * fits is skipped when it comes up. Words may be a megabyte long (files without a pre-tokenizer), so nothing
 * here is quadratic, and a word is first cut where no merge can ever reach across: between two characters that
 * are neighbours in no token that a merge makes. Sennrich et al. 2016; order of merges as in the reference library. */
#include "token_private.h"

/* --- the pair table ------------------------------------------------------------------------------------------ */
FT_WRAPS static size_t pair_slot(const tk_model *m, uint64_t key)
{
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    size_t mask = m->merge_cap - 1, i = (size_t)(h >> 30) & mask;
    while (m->merge[i].key && m->merge[i].key != key) i = (i + 1) & mask;
    return i;
}

static const tk_merge *pair_find(const tk_model *m, int32_t left, int32_t right)
{
    if (m->merge_cap == 0) return NULL;
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    const tk_merge *e = &m->merge[pair_slot(m, key)];
    return e->key ? e : NULL;
}

static ft_status pairs_ready(tk_model *m, const char *name)
{
    size_t cap = 16;
    while (cap < (size_t)m->n_pairs * 2) cap *= 2;
    m->merge = ft_alloc(cap, sizeof *m->merge);
    if (!m->merge) return FT_EMEM;
    m->merge_cap = cap;
    str_buf text = {0};
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < m->n_pairs && rc == FT_OK; i++) {
        tk_span a = m->vocab.by_id[m->pairs[i].left], b = m->vocab.by_id[m->pairs[i].right];
        size_t skip = m->prefix.n;
        FT_GUARD(b.n >= skip, FT_EDATA, "%s: merge %lld: %s is shorter than the prefix", name,
                 (long long)i, ft_show(b.s, b.n));
        str_clear(&text);
        str_add(&text, a.s, a.n);
        str_add(&text, b.s + skip, b.n - skip);
        FT_TRY_OUT(str_ok(&text));
        int32_t made = tk_vocab_id(&m->vocab, text.data, text.len);
        FT_GUARD(made >= 0, FT_EDATA, "%s: merge %lld makes %s, which is not in the vocabulary",
                 name, (long long)i, ft_show(text.data, text.len));
        uint64_t key =
            ((uint64_t)(uint32_t)m->pairs[i].left << 32 | (uint32_t)m->pairs[i].right) + 1;
        tk_merge *e = &m->merge[pair_slot(m, key)];
        *e =
            (tk_merge){.key = key, .rank = (int32_t)i, .made = made}; /* the last one listed wins */
    }
out:
    str_free(&text);
    return rc;
}

/* --- seams: pairs of neighbouring characters over which some merge reaches ------------------------------------ */
#define SEAM_BITS 20
FT_WRAPS static size_t seam_of(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (size_t)(h >> (64 - SEAM_BITS));
}

/* plain: one character that stands in the vocabulary as it is. */
typedef struct symbol {
    int32_t id;
    bool plain;
} symbol;

static bool may_merge(const tk_model *m, symbol a, symbol b)
{
    if (!m->seam || !a.plain || !b.plain) return true;
    size_t at = seam_of(a.id, b.id);
    return m->seam[at >> 6] >> (at & 63) & 1;
}

static ft_status seams_ready(tk_model *m, arena *mem)
{
    if (m->prefix.n || m->suffix.n) return FT_OK;
    m->seam = arena_get(mem, ((size_t)1 << SEAM_BITS) / 8);
    if (!m->seam) return FT_EMEM;
    for (int64_t i = 0; i < m->n_pairs; i++) {
        tk_span a = m->vocab.by_id[m->pairs[i].left], b = m->vocab.by_id[m->pairs[i].right];
        if (a.n == 0 || b.n == 0) continue;
        size_t last = tk_prev(a.s, a.n);
        int32_t cp;
        size_t first = (size_t)utf8_next(b.s, b.n, &cp);
        int32_t left = tk_vocab_id(&m->vocab, a.s + last, a.n - last);
        int32_t right = tk_vocab_id(&m->vocab, b.s, first);
        if (left < 0 || right < 0) continue; /* such a character is no plain symbol */
        size_t at = seam_of(left, right);
        m->seam[at >> 6] |= (uint64_t)1 << (at & 63);
    }
    return FT_OK;
}

static ft_status chars_ready(tk_model *m, arena *mem)
{
    m->char_id = arena_get(mem, TK_DIRECT * sizeof *m->char_id);
    if (!m->char_id) return FT_EMEM;
    for (int32_t cp = 0; cp < TK_DIRECT; cp++) {
        char text[4];
        size_t n = (size_t)utf8_put(text, cp);
        m->char_id[cp] = tk_vocab_id(&m->vocab, text, n);
    }
    return FT_OK;
}

ft_status tk_bpe_ready(tk_model *m, arena *mem, const char *name)
{
    FT_TRY(pairs_ready(m, name));
    tk_byte_ids(m);
    m->unk = m->unk_text.s ? tk_vocab_id(&m->vocab, m->unk_text.s, m->unk_text.n) : -1;
    FT_TRY(seams_ready(m, mem));
    return chars_ready(m, mem);
}

/* --- encoding --------------------------------------------------------------------------------------------------
 * A stretch of a word is a list of places, one for each of the symbols that it began with. A symbol has its id at its first
 * place; where it was merged of n, the others are negative, and the second and the last of them are −n: so the neighbours on
 * both sides are found, and four bytes a symbol will do. */
static int32_t behind(const int32_t *s, int32_t at, int32_t n)
{
    return at + 1 < n && s[at + 1] < 0 ? at - s[at + 1] : at + 1;
}

static int32_t before(const int32_t *s, int32_t at)
{
    return s[at - 1] < 0 ? at + s[at - 1] : at - 1;
}

/* Entries are ordered by rank, then by place. */
static ft_status heap_push(tk_scratch *x, uint64_t e)
{
    if (x->heap_n == x->heap_cap) {
        size_t cap = x->heap_cap ? x->heap_cap * 2 : 256;
        uint64_t *bigger = ft_realloc(x->heap, cap, sizeof *bigger);
        if (!bigger) return FT_EMEM;
        x->heap = bigger;
        x->heap_cap = cap;
    }
    size_t i = x->heap_n++;
    for (; i > 0 && e < x->heap[(i - 1) / 2]; i = (i - 1) / 2) x->heap[i] = x->heap[(i - 1) / 2];
    x->heap[i] = e;
    return FT_OK;
}

static uint64_t heap_pop(tk_scratch *x)
{
    const uint64_t top = x->heap[0], e = x->heap[--x->heap_n];
    size_t i = 0;
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= x->heap_n) break;
        if (kid + 1 < x->heap_n && x->heap[kid + 1] < x->heap[kid]) kid++;
        if (x->heap[kid] >= e) break;
        x->heap[i] = x->heap[kid];
        i = kid;
    }
    x->heap[i] = e;
    return top;
}

static uint64_t entry(int32_t rank, int32_t at)
{
    return (uint64_t)(uint32_t)rank << 32 | (uint32_t)at;
}

/* A pair of a rank below `most`. */
static ft_status push_pair(const tk_model *m, tk_scratch *x, int32_t at, int32_t left,
                           int32_t right, int32_t most)
{
    const tk_merge *e = pair_find(m, left, right);
    return e && e->rank < most ? heap_push(x, entry(e->rank, at)) : FT_OK;
}

static int32_t made_by(const tk_model *m, int32_t rank)
{
    const tk_pair p = m->pairs[rank];
    return pair_find(m, p.left, p.right)->made;
}

/* The merge of an entry, if it still fits. */
static ft_status merge_at(const tk_model *m, tk_scratch *x, int32_t n, uint64_t top, int32_t most)
{
    int32_t *s = x->sym;
    const int32_t at = (int32_t)(top & INT32_MAX), rank = (int32_t)(top >> 32);
    if (s[at] < 0) return FT_OK;
    const int32_t right = behind(s, at, n);
    if (right == n) return FT_OK;
    const tk_merge *e = pair_find(m, s[at], s[right]);
    if (!e || (e->rank != rank && e->made != made_by(m, rank))) return FT_OK; /* stale */
    const int32_t end = behind(s, right, n);
    s[at] = e->made;
    s[right] = -1;
    s[at + 1] = s[end - 1] = at - end;
    if (at > 0) {
        const int32_t left = before(s, at);
        FT_TRY(push_pair(m, x, left, s[left], s[at], most));
    }
    return end < n ? push_pair(m, x, at, s[at], s[end], most) : FT_OK;
}

/* The next place from *at on where a pair of this rank stands; n: none. */
static int32_t find_rank(const tk_model *m, const int32_t *s, int32_t n, int32_t at, int32_t rank)
{
    for (; at < n; at++) {
        if (s[at] < 0) continue;
        const int32_t right = behind(s, at, n);
        if (right == n) return n;
        const tk_merge *e = pair_find(m, s[at], s[right]);
        if (e && e->rank == rank) return at;
    }
    return n;
}

/* All merges of a rank below `most`; ahead: pairs of that rank alone are not in the heap but met from left to right, -1: none. */
static ft_status merge_below(const tk_model *m, tk_scratch *x, int32_t n, int32_t most,
                             int32_t ahead)
{
    for (int32_t at = ahead < 0 ? n : 0;;) {
        at = find_rank(m, x->sym, n, at, ahead);
        const uint64_t next = at < n ? entry(ahead, at) : UINT64_MAX;
        if (!x->heap_n && at == n) return FT_OK;
        const bool heap = x->heap_n && x->heap[0] <= next;
        FT_TRY(merge_at(m, x, n, heap ? heap_pop(x) : next, most));
    }
}

static ft_status push_all(const tk_model *m, tk_scratch *x, int32_t n, int32_t most)
{
    x->heap_n = 0;
    for (int32_t i = 0; i + 1 < n; i++) FT_TRY(push_pair(m, x, i, x->sym[i], x->sym[i + 1], most));
    return FT_OK;
}

static int32_t without_gaps(int32_t *s, int32_t n)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++)
        if (s[i] >= 0) s[kept++] = s[i];
    return kept;
}

/* The rank below which about `room` pairs stand, by a sample of them; *ahead: the one before it where that alone has more. */
static int32_t rank_for(const tk_model *m, const int32_t *s, int32_t n, uint32_t *count,
                        int64_t room, int32_t *ahead)
{
    enum { STEP = 8 };
    uint32_t dice = 1;
    int64_t sum = 0;
    memset(count, 0, (size_t)m->n_pairs * sizeof *count);
    for (int32_t i = 0; i + 1 < n; i += 1 + (int32_t)(dice >> 16) % (2 * STEP - 1)) {
        const tk_merge *e = pair_find(m, s[i], s[i + 1]);
        if (e) count[e->rank]++;
        dice = dice * 1103515245u + 12345u;
    }
    *ahead = -1;
    for (int32_t r = 0; r < (int32_t)m->n_pairs; r++) {
        sum += (int64_t)count[r] * STEP;
        if (sum <= room) continue;
        if (sum > (int64_t)count[r] * STEP) return r;
        *ahead = r;
        return r + 1;
    }
    return INT32_MAX;
}

/* Of a long stretch the heap would take twice what its symbols do, so it is merged in rounds, each of the next ranks. */
static ft_status merge_long(const tk_model *m, tk_scratch *x, int32_t *n)
{
    const int64_t room = *n / 16;
    uint32_t *count = ft_alloc((size_t)m->n_pairs + 1, sizeof *count);
    if (!count) return FT_EMEM;
    int32_t most = 0;
    ft_status rc = FT_OK;
    while (rc == FT_OK && most < INT32_MAX) {
        int32_t ahead;
        most = rank_for(m, x->sym, *n, count, room, &ahead);
        rc = push_all(m, x, *n, ahead < 0 ? most : ahead);
        if (rc == FT_OK) rc = merge_below(m, x, *n, most, ahead);
        if (rc != FT_OK) break;
        *n = without_gaps(x->sym, *n);
        int32_t *fit = ft_realloc(x->sym, (size_t)*n, sizeof *fit); /* room for the next heap */
        if (!fit) rc = FT_EMEM;
        if (!fit) break;
        x->sym = fit;
        x->sym_cap = (size_t)*n;
    }
    ft_free(count);
    return rc;
}

/* What is left are the first *n symbols that are not negative. */
static ft_status merge(const tk_model *m, tk_scratch *x, int32_t *n)
{
    enum { LONG = 1 << 18 };
    if (*n > LONG) return merge_long(m, x, n);
    FT_TRY(push_all(m, x, *n, INT32_MAX));
    return merge_below(m, x, *n, INT32_MAX, -1);
}

/* A word on its way: symbols are gathered up to where no merge reaches across. */
typedef struct builder {
    const tk_model *m;
    tk_scratch *x;
    tok_ids *out;
    int32_t n;
    symbol last;
    ft_status rc;
} builder;

static ft_status end_stretch(builder *b)
{
    if (b->n > 1) FT_TRY(merge(b->m, b->x, &b->n));
    for (int32_t i = 0; i < b->n; i++) {
        if (b->x->sym[i] >= 0) FT_TRY(tok_ids_push(b->out, b->x->sym[i]));
    }
    b->n = 0;
    return FT_OK;
}

static void add_symbol(builder *b, int32_t id, bool plain)
{
    tk_scratch *x = b->x;
    const symbol next = {id, plain};
    if (b->rc == FT_OK && b->n && !may_merge(b->m, b->last, next)) b->rc = end_stretch(b);
    if (b->rc != FT_OK) return;
    if ((size_t)b->n == x->sym_cap) {
        size_t cap = x->sym_cap ? x->sym_cap * 2 : 256;
        int32_t *bigger = ft_realloc(x->sym, cap, sizeof *bigger);
        if (!bigger) {
            b->rc = FT_EMEM;
            return;
        }
        x->sym = bigger;
        x->sym_cap = cap;
    }
    x->sym[b->n++] = id;
    b->last = next;
}

/* The text a character is looked up by: with the prefix inside a word, with the suffix at its end. */
static tk_span dress(const tk_model *m, tk_scratch *x, tk_span c, bool first, bool last)
{
    bool before = !first && m->prefix.n, after = last && m->suffix.n;
    if (!before && !after) return c;
    str_clear(&x->text);
    if (before) str_add(&x->text, m->prefix.s, m->prefix.n);
    str_add(&x->text, c.s, c.n);
    if (after) str_add(&x->text, m->suffix.s, m->suffix.n);
    return (tk_span){x->text.data, x->text.len};
}

static bool add_bytes(const tk_model *m, builder *b, tk_span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (m->byte_id[(unsigned char)text.s[i]] < 0) return false;
    }
    for (size_t i = 0; i < text.n; i++) add_symbol(b, m->byte_id[(unsigned char)text.s[i]], false);
    return true;
}

/* Characters of the word → symbols. A pending unknown is added late, as the library does: byte tokens that
 * follow it come first. */
static ft_status symbols(const tk_model *m, tk_span word, builder *b)
{
    bool unk = false;
    for (size_t i = 0; i < word.n && b->rc == FT_OK;) {
        int32_t cp, id;
        size_t len = (size_t)utf8_next(word.s + i, word.n - i, &cp);
        tk_span c = dress(m, b->x, (tk_span){word.s + i, len}, i == 0, i + len == word.n);
        bool plain = c.s == word.s + i;
        id = plain && cp >= 0 && cp < TK_DIRECT ? m->char_id[cp] : tk_vocab_id(&m->vocab, c.s, c.n);
        i += len;
        if (id >= 0) {
            if (unk) add_symbol(b, m->unk, false);
            unk = false;
            add_symbol(b, id, plain);
            continue;
        }
        if (m->byte_fallback && add_bytes(m, b, c)) continue;
        if (!m->unk_text.s) continue;
        FT_CHECK(m->unk >= 0, FT_EDATA, "the unknown token %s is not in the vocabulary",
                 ft_show(m->unk_text.s, m->unk_text.n));
        if (unk && !m->fuse_unk) add_symbol(b, m->unk, false);
        unk = true;
    }
    if (unk) add_symbol(b, m->unk, false);
    return b->rc;
}

ft_status tk_bpe_encode(const tk_model *m, tk_span word, tk_scratch *x, tok_ids *out)
{
    FT_CHECK(word.n < INT32_MAX, FT_EDATA, "a word of %zu bytes is too long", word.n);
    if (m->ignore_merges) {
        int32_t id = tk_vocab_id(&m->vocab, word.s, word.n);
        if (id >= 0) return tok_ids_push(out, id);
    }
    builder b = {.m = m, .x = x, .out = out};
    FT_TRY(symbols(m, word, &b));
    return end_stretch(&b);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */
static ft_status merge_part(tk_model *m, const tk_src *src, const cJSON *at, const char *s,
                            size_t n, int32_t *id)
{
    *id = tk_vocab_id(&m->vocab, s, n);
    if (*id < 0 && n < 256 && memchr(s, 0xc0, n)) { /* U+0000, as the reader writes it */
        char copy[256];
        memcpy(copy, s, n);
        copy[n] = 0;
        *id = tk_vocab_id(&m->vocab, copy, js_nul(copy, n));
    }
    if (*id >= 0) return FT_OK;
    return js_fail(src->doc, at, FT_EDATA, "merges", "%s is not in the vocabulary", ft_show(s, n));
}

/* "left right" or ["left", "right"]. *skip: a version line. */
static ft_status merge_item(tk_model *m, const tk_src *src, const cJSON *item, tk_pair *out,
                            bool *skip)
{
    *skip = false;
    if (cJSON_IsString(item)) {
        const char *s = item->valuestring, *space = strchr(s, ' ');
        if (str_starts(s, "#version")) {
            *skip = true;
            return FT_OK;
        }
        if (!space || strchr(space + 1, ' ')) {
            return js_fail(src->doc, item, FT_EDATA, "merges",
                           "%s is not two tokens with one space", ft_shows(s));
        }
        FT_TRY(merge_part(m, src, item, s, (size_t)(space - s), &out->left));
        return merge_part(m, src, item, space + 1, strlen(space + 1), &out->right);
    }
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left ? left->next : NULL;
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next) {
        return js_fail(src->doc, item, FT_EDATA, "merges", "an entry is not two tokens");
    }
    FT_TRY(merge_part(m, src, item, left->valuestring, strlen(left->valuestring), &out->left));
    return merge_part(m, src, item, right->valuestring, strlen(right->valuestring), &out->right);
}

static ft_status parse_merges(tk_model *m, const tk_src *src, const cJSON *list)
{
    if (!cJSON_IsArray(list)) return js_fail(src->doc, list, FT_EDATA, "merges", "must be a list");
    const cJSON *item;
    size_t n = 0;
    cJSON_ArrayForEach(item, list) n++;
    if (n > INT32_MAX) return js_fail(src->doc, list, FT_EDATA, "merges", "too many");
    m->pairs = ft_alloc(n + 1, sizeof *m->pairs);
    if (!m->pairs) return FT_EMEM;
    int type = list->child ? list->child->type & 0xff : 0;
    cJSON_ArrayForEach(item, list)
    {
        bool skip;
        if ((item->type & 0xff) != type) {
            return js_fail(src->doc, item, FT_EDATA, "merges", "strings and pairs are mixed");
        }
        FT_TRY(merge_item(m, src, item, &m->pairs[m->n_pairs], &skip));
        m->n_pairs += !skip;
    }
    return FT_OK;
}

static ft_status optional_text(const tk_src *src, const cJSON *o, const char *key, tk_span *out)
{
    const char *text = NULL;
    FT_TRY(js_get_str(src->doc, o, key, NULL, &text));
    if (!text) return FT_OK;
    *out = (tk_span){arena_str(src->mem, text), strlen(text)};
    return out->s ? FT_OK : FT_EMEM;
}

ft_status tk_bpe_parse(tk_model *m, const tk_src *src, const cJSON *o)
{
    double dropout = 0;
    const cJSON *vocab = NULL, *merges = NULL, *kid;
    cJSON_ArrayForEach(kid, o)
    {
        if (strcmp(kid->string, "vocab") == 0) vocab = kid;
        if (strcmp(kid->string, "merges") == 0) merges = kid;
    }
    if (!vocab || !merges) {
        return js_fail(src->doc, o, FT_EDATA, "model", "has no vocab or no merges");
    }
    FT_TRY(optional_text(src, o, "unk_token", &m->unk_text));
    FT_TRY(optional_text(src, o, "continuing_subword_prefix", &m->prefix));
    FT_TRY(optional_text(src, o, "end_of_word_suffix", &m->suffix));
    FT_TRY(tk_parse_bool(src, o, "fuse_unk", 0, &m->fuse_unk));
    FT_TRY(tk_parse_bool(src, o, "byte_fallback", 0, &m->byte_fallback));
    FT_TRY(tk_parse_bool(src, o, "ignore_merges", 0, &m->ignore_merges));
    FT_TRY(js_get_num(src->doc, o, "dropout", 0, &dropout));
    if (dropout > 0) log_warn("%s: dropout %g is ignored", src->doc->name, dropout);
    FT_TRY(tk_parse_vocab(&m->vocab, src, vocab));
    FT_TRY(parse_merges(m, src, merges));
    return tk_bpe_ready(m, src->mem, src->doc->name);
}
