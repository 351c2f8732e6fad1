/* added.c – tokens beside the model's vocabulary, cut out of the text before anything else sees it.
 *
 * Matching is leftmost-longest over the raw text (normalized: false), then over each normalised piece (normalized:
 * true): a pass from the right finds the longest token that begins at each place. */
#include "token_private.h"

/* Ids by the library's rule: a text that the model knows keeps its id, another gets the next free one. Files that
 * are consistent with that, all in practice, keep their ids. */
static ft_status assign_ids(tk_added *tok, int64_t n, const tk_model *m, const char *name)
{
    int64_t next = m->vocab.entries;
    for (int64_t i = 0; i < n; i++) {
        int32_t known = tk_vocab_id(&m->vocab, tok[i].text.s, tok[i].text.n);
        int64_t want = known >= 0 ? known : next;
        if (known < 0) next++;
        FT_CHECK(want <= TK_MAX_ID, FT_EDATA, "%s: too many added tokens", name);
        if (want != tok[i].id) {
            log_warn("%s: added token %s has id %d, the library's rule gives %lld", name,
                     ft_show(tok[i].text.s, tok[i].text.n), tok[i].id, (long long)want);
        }
        tok[i].id = (int32_t)want;
    }
    return FT_OK;
}

/* Drops empty and repeated texts; a repeated text takes over the later flags. Keeps the order. */
static ft_status merge_repeats(tk_added_set *a, tk_added *list, int64_t n)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at;
        if (list[i].text.n == 0) continue;
        if (map_get(&a->index, list[i].text.s, list[i].text.n, &at)) {
            int32_t id = list[at].id;
            list[at] = list[i];
            list[at].id = id;
            continue;
        }
        FT_TRY(map_put(&a->index, list[i].text.s, list[i].text.n, kept));
        list[kept++] = list[i];
    }
    a->tok = list;
    a->n = kept;
    return FT_OK;
}

static ft_status normal_text(tk_added *t, const tk_ops *normalizers, arena *mem, tk_steps *steps)
{
    str_buf out = {0};
    t->normal = t->text;
    if (!t->normalized || normalizers->n == 0) return FT_OK;
    ft_status rc = tk_normalize(normalizers, t->text, &out, NULL, steps);
    if (rc == FT_OK) {
        char *copy = arena_strn(mem, out.data ? out.data : "", out.len);
        t->normal = (tk_span){copy, out.len};
        if (!copy) rc = FT_EMEM;
    }
    str_free(&out);
    return rc;
}

ft_status tk_added_open(tk_added_set *a, tk_added *list, int64_t n, tk_model *m,
                        const tk_ops *normalizers, arena *mem, const char *name)
{
    *a = (tk_added_set){.plain_special = a->plain_special};
    FT_TRY(tk_trie_open(&a->raw));
    FT_TRY(tk_trie_open(&a->normal));
    FT_TRY(merge_repeats(a, list, n));
    FT_TRY(assign_ids(a->tok, a->n, m, name));
    tk_steps steps = tk_steps_of((size_t)a->n);
    for (int64_t i = 0; i < a->n; i++) {
        tk_added *t = &a->tok[i];
        FT_CHECK(t->text.n <= TK_MAX_TOKEN, FT_EDATA, "%s: an added token of %zu bytes is too long",
                 name, t->text.n);
        FT_TRY(normal_text(t, normalizers, mem, &steps));
        tk_span s = t->normalized ? t->normal : t->text;
        if (s.n == 0) continue;
        FT_TRY(tk_trie_put_reversed(t->normalized ? &a->normal : &a->raw, s.s, s.n, (int32_t)i));
        *(t->normalized ? &a->any_normal : &a->any_raw) = true;
    }
    FT_TRY(tk_trie_link(&a->raw));
    return tk_trie_link(&a->normal);
}

void tk_added_close(tk_added_set *a)
{
    map_free(&a->index);
    tk_trie_close(&a->raw);
    tk_trie_close(&a->normal);
}

static bool word_before(const char *s, size_t from, size_t at)
{
    if (at == from) return false;
    size_t prev = from + tk_prev(s + from, at - from);
    int32_t cp;
    utf8_next(s + prev, at - prev, &cp);
    return tk_flags(cp) & TK_RWORD;
}

static bool word_after(const char *s, size_t at, size_t to)
{
    int32_t cp;
    if (at == to) return false;
    utf8_next(s + at, to - at, &cp);
    return tk_flags(cp) & TK_RWORD;
}

static size_t space_left(const char *s, size_t from, size_t at)
{
    while (at > from) {
        size_t prev = from + tk_prev(s + from, at - from);
        int32_t cp;
        utf8_next(s + prev, at - prev, &cp);
        if (!(tk_flags(cp) & TK_SPACE)) break;
        at = prev;
    }
    return at;
}

static size_t space_right(const char *s, size_t at, size_t to)
{
    while (at < to) {
        int32_t cp;
        size_t len = (size_t)utf8_next(s + at, to - at, &cp);
        if (!(tk_flags(cp) & TK_SPACE)) break;
        at += len;
    }
    return at;
}

typedef struct hit { /* the longest token that begins at a place */
    size_t at;
    int32_t tok;
} hit;

/* The places of the piece where one begins, from the right. */
static size_t find_hits(const tk_trie *trie, const char *s, const tk_piece *p, hit **out,
                        ft_status *rc)
{
    size_t n = 0, cap = 0;
    int32_t node = 0;
    for (size_t at = p->to; at > p->from && *rc == FT_OK; at--) {
        node = tk_trie_follow(trie, node, (unsigned char)s[at - 1]);
        int32_t entry = trie->out[node];
        if (entry < 0) continue;
        if (n == cap) {
            cap = cap ? 2 * cap : 64;
            hit *bigger = ft_realloc(*out, cap, sizeof *bigger);
            if (!bigger) *rc = FT_EMEM;
            if (!bigger) break;
            *out = bigger;
        }
        (*out)[n++] = (hit){at - 1, trie->value[entry]};
    }
    return n;
}

void tk_added_split(const tk_added_set *a, bool normalized, const char *s, const tk_piece *p,
                    tk_text *out)
{
    hit *hits = NULL;
    size_t done = p->from, at = p->from, n = 0;
    if (normalized ? a->any_normal : a->any_raw)
        n = find_hits(normalized ? &a->normal : &a->raw, s, p, &hits, &out->rc);
    while (n > 0) {
        const hit *h = &hits[--n];
        if (h->at < at) continue;
        const tk_added *t = &a->tok[h->tok];
        size_t start = h->at, stop = h->at + (normalized ? t->normal : t->text).n;
        at = stop;
        if (t->special && a->plain_special) continue;
        if (t->single_word && (word_before(s, p->from, start) || word_after(s, stop, p->to)))
            continue;
        if (t->lstrip) {
            if (start > done) start = space_left(s, done, start);
        }
        /* what an earlier token swallowed is white space up to `done` */
        if (t->rstrip) stop = space_right(s, stop > done ? stop : done, p->to);
        if (done < start) {
            size_t into = done - p->from;
            tk_add_piece(out, done, start, -1, into < p->head ? p->head - (uint32_t)into : 0);
        }
        tk_add_piece(out, start, stop, t->id, 0);
        done = stop;
    }
    ft_free(hits);
    if (done < p->to) {
        size_t into = done - p->from;
        tk_add_piece(out, done, p->to, -1, into < p->head ? p->head - (uint32_t)into : 0);
    }
}
