/* from_gguf.c – the tokenizer inside a GGUF: kinds gpt2 (byte-level BPE) and llama (SentencePiece BPE).
 *
 * Both become the same structures as a tokenizer.json: gpt2 through the presets, llama by the conversion that
 * transformers does (scores → ranked merges), so that what is written back as a folder has the same ids. */
#include "token_private.h"

#include <stdlib.h>

static ft_status read_vocab(tok_tokenizer *t, const gguf_file *f, const char *path)
{
    const gguf_kv *kv = gguf_get(f, "tokenizer.ggml.tokens");
    FT_CHECK(kv && kv->type == GGUF_ARR && kv->elem == GGUF_STR && kv->strs, FT_EDATA,
             "%s: tokenizer.ggml.tokens is missing: the file holds no tokenizer", path);
    FT_CHECK(kv->count <= TK_MAX_ID, FT_EDATA,
             "%s: tokenizer.ggml.tokens: %llu tokens are too many", path,
             (unsigned long long)kv->count);
    FT_TRY(tk_vocab_open(&t->model.vocab, t->mem, (int64_t)kv->count));
    size_t bytes = 0;
    for (uint64_t i = 0; i < kv->count; i++) bytes += kv->strs[i].n + 1;
    char *text = arena_get(t->mem, bytes + 1);
    if (!text) return FT_EMEM;
    for (uint64_t i = 0; i < kv->count; i++) {
        size_t n = kv->strs[i].n;
        if (n) memcpy(text, kv->strs[i].s, n);
        tk_span span = {text, n};
        /* of equal texts the first id counts; the others can only be decoded */
        if (tk_vocab_id(&t->model.vocab, text, n) < 0) {
            FT_TRY(tk_vocab_put(&t->model.vocab, span, (int64_t)i));
        } else {
            t->model.vocab.by_id[i] = span;
        }
        text += n + 1;
    }
    t->model.vocab.entries = t->model.vocab.size;
    FT_TRY(gguf_ints(f, "tokenizer.ggml.token_type", t->mem, &t->types, &t->n_types));
    FT_CHECK(!t->types || t->n_types == t->model.vocab.size, FT_EDATA,
             "%s: tokenizer.ggml.token_type has %lld entries for %lld tokens", path,
             (long long)t->n_types, (long long)t->model.vocab.size);
    return FT_OK;
}

static int64_t type_of(const tok_tokenizer *t, int64_t id)
{
    return t->types ? t->types[id] : TK_TYPE_NORMAL;
}

static ft_status read_added(tok_tokenizer *t, const char *path)
{
    int64_t n = 0;
    tk_vocab *v = &t->model.vocab;
    for (int64_t i = 0; i < v->size; i++) {
        int64_t type = type_of(t, i);
        n += type == TK_TYPE_CONTROL || type == TK_TYPE_USER || type == TK_TYPE_UNKNOWN;
    }
    tk_added *list = arena_get(t->mem, (size_t)(n + 1) * sizeof *list);
    if (!list) return FT_EMEM;
    n = 0;
    for (int64_t i = 0; i < v->size; i++) {
        int64_t type = type_of(t, i);
        if (type != TK_TYPE_CONTROL && type != TK_TYPE_USER && type != TK_TYPE_UNKNOWN) continue;
        if (tk_vocab_id(v, v->by_id[i].s, v->by_id[i].n) != i) continue;
        list[n++] =
            (tk_added){.text = v->by_id[i], .id = (int32_t)i, .special = type != TK_TYPE_USER};
    }
    return tk_added_open(&t->added, list, n, &t->model, &t->normalizers, t->mem, path);
}

/* --- kind gpt2 ------------------------------------------------------------------------------------------------ */
static ft_status read_merges(tk_model *m, const gguf_file *f, const char *path)
{
    const gguf_kv *kv = gguf_get(f, "tokenizer.ggml.merges");
    FT_CHECK(kv && kv->type == GGUF_ARR && kv->elem == GGUF_STR && kv->strs, FT_EDATA,
             "%s: tokenizer.ggml.merges is missing", path);
    FT_CHECK(kv->count < INT32_MAX, FT_EDATA, "%s: tokenizer.ggml.merges: too many", path);
    m->pairs = ft_alloc((size_t)kv->count + 1, sizeof *m->pairs);
    if (!m->pairs) return FT_EMEM;
    for (uint64_t i = 0; i < kv->count; i++) {
        gguf_str s = kv->strs[i];
        const char *space = s.n > 1 ? memchr(s.s + 1, ' ', s.n - 1) : NULL;
        size_t at = space ? (size_t)(space - s.s) : 0;
        FT_CHECK(space, FT_EDATA, "%s: tokenizer.ggml.merges: entry %llu, %s, is not two tokens",
                 path, (unsigned long long)i, ft_show(s.s, s.n));
        tk_pair p = {tk_vocab_id(&m->vocab, s.s, at),
                     tk_vocab_id(&m->vocab, space + 1, s.n - at - 1)};
        FT_CHECK(p.left >= 0 && p.right >= 0, FT_EDATA,
                 "%s: tokenizer.ggml.merges: entry %llu, %s, is not of the vocabulary", path,
                 (unsigned long long)i, ft_show(s.s, s.n));
        m->pairs[m->n_pairs++] = p;
    }
    return FT_OK;
}

static ft_status open_gpt2(tok_tokenizer *t, const gguf_file *f, const char *path, bool *add_bos)
{
    const char *pre = NULL;
    FT_TRY(gguf_text(f, "tokenizer.ggml.pre", t->mem, &pre));
    if (!pre) {
        log_warn("%s: tokenizer.ggml.pre is missing; the pre-tokenizer of GPT-2 is assumed", path);
        pre = "default";
    }
    const tk_preset *preset = tk_preset_find(pre);
    FT_CHECK(
        preset, FT_EDATA,
        "%s: tokenizer.ggml.pre: the pre-tokenizer %s is not known; use the Hugging Face folder "
        "of the model",
        path, ft_shows(pre));
    t->pre_name = preset->pre;
    t->json_normalizer = preset->normalizer;
    t->json_pretokenizer = preset->pretokenizer;
    t->json_decoder = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
                      "\"use_regex\":true}";
    t->model.ignore_merges = preset->ignore_merges;
    *add_bos = preset->add_bos;
    FT_TRY(tk_parse_components(t));
    return read_merges(&t->model, f, path);
}

/* --- kind llama ----------------------------------------------------------------------------------------------- */
typedef struct candidate {
    float score;
    int32_t left, right, left_chars, right_chars;
    int64_t order;
} candidate;

static int by_rank(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left_chars != y->left_chars) return x->left_chars > y->left_chars ? -1 : 1;
    if (x->right_chars != y->right_chars) return x->right_chars > y->right_chars ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int by_parts(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

typedef struct candidates {
    candidate *item;
    size_t n, cap;
} candidates;

/* All ways to make token `id` of two tokens, in the order of their ids. */
static ft_status split_token(const tok_tokenizer *t, int64_t id, candidates *c)
{
    const tk_vocab *v = &t->model.vocab;
    tk_span s = v->by_id[id];
    size_t first = c->n;
    int32_t chars = 0, total = 0, cp;
    for (size_t i = 0; i < s.n; total++) i += (size_t)utf8_next(s.s + i, s.n - i, &cp);
    for (size_t i = 0; i < s.n;) {
        i += (size_t)utf8_next(s.s + i, s.n - i, &cp);
        chars++;
        if (i >= s.n) break;
        int32_t left = tk_vocab_id(v, s.s, i),
                right = left < 0 ? -1 : tk_vocab_id(v, s.s + i, s.n - i);
        if (right < 0) continue;
        if (c->n == c->cap) {
            size_t cap = c->cap ? c->cap * 2 : 4096;
            candidate *bigger = ft_realloc(c->item, cap, sizeof *bigger);
            if (!bigger) return FT_EMEM;
            c->item = bigger;
            c->cap = cap;
        }
        c->item[c->n++] = (candidate){.score = t->scores[id],
                                      .left = left,
                                      .right = right,
                                      .left_chars = chars,
                                      .right_chars = total - chars};
    }
    if (c->n - first > 1) qsort(c->item + first, c->n - first, sizeof *c->item, by_parts);
    return FT_OK;
}

ft_status tk_merges_from_scores(tok_tokenizer *t)
{
    candidates c = {0};
    tk_model *m = &t->model;
    ft_status rc = FT_OK;
    for (int64_t id = 0; id < m->vocab.size; id++) {
        int64_t type = type_of(t, id);
        if (type == TK_TYPE_BYTE || type == TK_TYPE_CONTROL || type == TK_TYPE_UNKNOWN) continue;
        if (m->vocab.by_id[id].n > 512) continue;
        FT_TRY_OUT(split_token(t, id, &c));
    }
    for (size_t i = 0; i < c.n; i++) c.item[i].order = (int64_t)i;
    if (c.n) qsort(c.item, c.n, sizeof *c.item, by_rank);
    FT_GUARD(c.n < INT32_MAX, FT_EDATA, "too many merges");
    m->pairs = ft_alloc(c.n + 1, sizeof *m->pairs);
    FT_GUARD(m->pairs, FT_EMEM, "out of memory for %zu merges", c.n);
    for (size_t i = 0; i < c.n; i++) m->pairs[i] = (tk_pair){c.item[i].left, c.item[i].right};
    m->n_pairs = (int64_t)c.n;
out:
    ft_free(c.item);
    return rc;
}

static ft_status open_llama(tok_tokenizer *t, const gguf_file *f, const char *path)
{
    int64_t n = 0, unk = 0;
    tk_model *m = &t->model;
    FT_TRY(gguf_floats(f, "tokenizer.ggml.scores", t->mem, &t->scores, &n));
    FT_CHECK(t->scores && n == m->vocab.size, FT_EDATA,
             "%s: tokenizer.ggml.scores has %lld entries for %lld tokens", path, (long long)n,
             (long long)m->vocab.size);
    for (int64_t i = 0; i < n; i++) {
        FT_CHECK(t->scores[i] == t->scores[i], FT_EDATA,
                 "%s: tokenizer.ggml.scores: entry %lld is not "
                 "a number",
                 path, (long long)i);
    }
    FT_TRY(gguf_bool(f, "tokenizer.ggml.add_space_prefix", true, &t->add_space_prefix));
    FT_TRY(gguf_int(f, "tokenizer.ggml.unknown_token_id", 0, 0, m->vocab.size - 1, &unk));
    tk_llama_components(t, true);
    m->unk_text = m->vocab.by_id[unk];
    m->fuse_unk = m->byte_fallback = true;
    FT_TRY(tk_parse_components(t));
    return tk_merges_from_scores(t);
}

/* --- both ------------------------------------------------------------------------------------------------------- */
static ft_status read_id(const gguf_file *f, const char *key, const tok_tokenizer *t, int64_t def,
                         int32_t *out)
{
    int64_t v = -1;
    if (def >= t->size) def = -1;
    FT_TRY(gguf_int(f, key, def, -1, INT64_MAX, &v));
    FT_CHECK(v < t->size || v == UINT32_MAX, FT_EDATA,
             "%s: %s: %lld is not in the vocabulary of %lld", f->path, key, (long long)v,
             (long long)t->size);
    *out = v >= t->size ? -1 : (int32_t)v;
    return FT_OK;
}

/* The whole list where the file has one; else eos, eot and eom, and what is known by its text. */
static ft_status read_stops(tok_tokenizer *t, const gguf_file *f)
{
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t *list, n;
    tk_add_stop(t, t->eos);
    FT_TRY(gguf_ints(f, TK_GGUF_STOPS, t->mem, &list, &n));
    for (int64_t i = 0; i < n; i++) {
        FT_CHECK(list[i] >= 0 && list[i] < t->size, FT_EDATA,
                 "%s: " TK_GGUF_STOPS ": %lld is not in the vocabulary of %lld", f->path,
                 (long long)list[i], (long long)t->size);
        tk_add_stop(t, list[i]);
    }
    for (size_t i = 0; i < FT_COUNT_OF(keys) && !list; i++) {
        int32_t id;
        FT_TRY(read_id(f, keys[i], t, -1, &id));
        tk_add_stop(t, id);
    }
    if (!list) tk_text_stops(t);
    tk_template_stops(t);
    return FT_OK;
}

/* tokenizer.chat_template is the default; tokenizer.chat_templates names others, each under a key of its own. */
static ft_status read_templates(tok_tokenizer *t, const gguf_file *f)
{
    const gguf_kv *kv = gguf_get(f, "tokenizer.chat_templates");
    const char *text = NULL;
    FT_TRY(gguf_text(f, "tokenizer.chat_template", t->mem, &text));
    if (text) FT_TRY(tk_add_named(&t->templates, t->mem, "default", text));
    if (!kv || kv->type != GGUF_ARR || kv->elem != GGUF_STR || !kv->strs) return FT_OK;
    for (uint64_t i = 0; i < kv->count; i++) {
        char *name = arena_strn(t->mem, kv->strs[i].s, kv->strs[i].n);
        const char *key = name ? arena_printf(t->mem, "tokenizer.chat_template.%s", name) : NULL;
        if (!key) return FT_EMEM;
        text = NULL;
        FT_TRY(gguf_text(f, key, t->mem, &text));
        FT_CHECK(text, FT_EDATA, "%s: tokenizer.chat_templates names %s, and %s is missing",
                 f->path, ft_shows(name), ft_shows(key));
        FT_TRY(tk_add_named(&t->templates, t->mem, name, text));
    }
    return FT_OK;
}

/* The names that chat templates know the special tokens by: those of bos, eos and pad, if no list says otherwise. */
static ft_status name_specials(tok_tokenizer *t, const gguf_file *f)
{
    const gguf_kv *kv = gguf_get(f, TK_GGUF_NAMES);
    const struct {
        const char *name;
        int32_t id;
    } rows[] = {{"bos_token", t->bos}, {"eos_token", t->eos}, {"pad_token", t->pad}};
    bool list = kv && kv->type == GGUF_ARR && kv->elem == GGUF_STR;
    for (uint64_t i = 0; list && i < kv->count; i++) {
        const char *s = kv->strs[i].s, *end = s + kv->strs[i].n;
        const char *eq = memchr(s, '=', kv->strs[i].n);
        if (!eq) continue;
        char *name = arena_strn(t->mem, s, (size_t)(eq - s)),
             *text = arena_strn(t->mem, eq + 1, (size_t)(end - eq - 1));
        if (!name || !text) return FT_EMEM;
        FT_TRY(tk_add_named(&t->names, t->mem, name, text));
    }
    if (list) return FT_OK;
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        const char *text = rows[i].id >= 0 ? tok_text(t, rows[i].id) : NULL;
        if (text) FT_TRY(tk_add_named(&t->names, t->mem, rows[i].name, text));
    }
    return FT_OK;
}

static ft_status read_specials(tok_tokenizer *t, const gguf_file *f, bool llama, bool add_bos)
{
    bool bos = false, eos = false;
    FT_TRY(read_id(f, "tokenizer.ggml.bos_token_id", t, llama ? 1 : -1, &t->bos));
    FT_TRY(read_id(f, "tokenizer.ggml.eos_token_id", t, llama ? 2 : -1, &t->eos));
    FT_TRY(read_id(f, "tokenizer.ggml.padding_token_id", t, -1, &t->pad));
    FT_TRY(read_id(f, "tokenizer.ggml.unknown_token_id", t, llama ? 0 : -1, &t->unk));
    FT_TRY(gguf_bool(f, "tokenizer.ggml.add_bos_token", llama || add_bos, &bos));
    FT_TRY(gguf_bool(f, "tokenizer.ggml.add_eos_token", false, &eos));
    FT_TRY(tk_set_bos_eos(t, bos, eos));
    FT_TRY(read_templates(t, f));
    FT_TRY(name_specials(t, f));
    return read_stops(t, f);
}

static ft_status load(tok_tokenizer *t, const gguf_file *f, const char *path)
{
    const char *kind = NULL;
    bool add_bos = false;
    FT_TRY(gguf_text(f, "tokenizer.ggml.model", t->mem, &kind));
    FT_CHECK(kind && strcmp(kind, "none") != 0, FT_ENOINPUT,
             "%s: tokenizer.ggml.model is %s: the file holds no tokenizer", path,
             kind ? "none" : "missing");
    bool llama = strcmp(kind, "llama") == 0;
    FT_CHECK(llama || strcmp(kind, "gpt2") == 0, FT_EDATA,
             "%s: tokenizer.ggml.model: the kind %s is not supported (gpt2 and llama are); use the "
             "Hugging Face folder of the model",
             path, ft_shows(kind));
    t->model.kind = &tk_model_kinds[0];
    FT_TRY(read_vocab(t, f, path));
    FT_TRY(llama ? open_llama(t, f, path) : open_gpt2(t, f, path, &add_bos));
    FT_TRY(tk_bpe_ready(&t->model, t->mem, path));
    FT_TRY(read_added(t, path));
    FT_TRY(tk_finish(t, path));
    return read_specials(t, f, llama, add_bos);
}

ft_status tk_load_gguf(tok_tokenizer *t, const char *path)
{
    gguf_file f = {0};
    arena *mem;
    FT_TRY(arena_open(&mem, "a GGUF header", (size_t)512 << 20));
    ft_status rc = gguf_open(&f, path, mem);
    if (rc == FT_OK) {
        rc = load(t, &f, path);
        gguf_close(&f);
    }
    arena_close(mem);
    return rc;
}
