/* write_gguf.c – the tokenizer.ggml.* keys: kind gpt2 for byte-level BPE, kind llama for SentencePiece-like BPE.
 *
 * llama.cpp knows pre-tokenizers by name only, and merges of kind llama by score only: what it cannot repeat is
 * refused with the reason. */
#include "token_private.h"

#include <stdio.h>

/* Score of a token that no merge makes: behind every other. */
#define NEVER (-1e9f)

typedef struct columns { /* one entry per id */
    gguf_str *text;
    int32_t *type;
    float *score;
    char (*pad)[16]; /* texts of unused ids */
    str_buf spare;
    int64_t n;
} columns;

static bool is_kind(const tk_op *op, const char *name)
{
    return strcmp(op->kind->name, name) == 0;
}

static bool has_normalizer(const tok_tokenizer *t, const tk_preset *p)
{
    if (!p->normalizer) return t->normalizers.n == 0;
    return t->normalizers.n == 1 && is_kind(t->normalizers.op, "NFC");
}

/* The name llama.cpp knows this pre-tokenizer by: the first row that agrees in most. NULL: none. */
static ft_status find_pre(const tok_tokenizer *t, const char **pre)
{
    arena *mem;
    int best = -1;
    *pre = NULL;
    FT_TRY(arena_open(&mem, "presets", (size_t)64 << 20));
    ft_status rc = FT_OK;
    for (int i = 0; i < tk_n_presets && rc == FT_OK; i++) {
        const tk_preset *p = &tk_presets[i];
        tk_ops ops = {0};
        rc = tk_ops_text(&ops, mem, p->pretokenizer, TK_SPLIT);
        if (rc == FT_OK && tk_ops_equal(&ops, &t->pretokenizers)) {
            int fit = 2 * (p->ignore_merges == t->model.ignore_merges) + has_normalizer(t, p);
            if (fit > best) {
                best = fit;
                *pre = p->pre;
            }
        }
        tk_ops_close(&ops);
    }
    arena_close(mem);
    return rc;
}

/* GGUF knows the texts of added tokens, not how they cut. */
static void warn_flags(const tok_tokenizer *t)
{
    int64_t n = 0, first = -1;
    for (int64_t i = 0; i < t->added.n; i++) {
        const tk_added *a = &t->added.tok[i];
        if (!a->lstrip && !a->rstrip && !a->single_word && tk_same(a->normal, a->text)) continue;
        if (n++ == 0) first = i;
    }
    if (n == 0) return;
    log_warn("GGUF: lstrip, rstrip, single_word and normalized of %lld added tokens, %s first, "
             "have no place in it; beside them it gives other ids than this tokenizer",
             (long long)n, ft_show(t->added.tok[first].text.s, t->added.tok[first].text.n));
}

static ft_status no_place(const char *what, const tk_op *op)
{
    return ft_fail(FT_EDATA,
                   "GGUF: the %s %s has no place in it; export as a Hugging Face folder instead",
                   what, op->kind->name);
}

/* The name of a pre-tokenizer brings the rest along: a normalizer, NFC or none (llama.cpp has none), and what becomes of
 * a word that is a token. */
static ft_status check_byte_steps(const tok_tokenizer *t, const char *pre)
{
    const tk_ops *n = &t->normalizers;
    const tk_preset *p = tk_preset_find(pre);
    for (int i = 0; i < n->n; i++) {
        if (!is_kind(&n->op[i], "NFC")) return no_place("normalizer", &n->op[i]);
    }
    if (p && !has_normalizer(t, p)) {
        log_warn("GGUF: with the pre-tokenizer %s ft reads texts %s NFC, and this tokenizer has%s; "
                 "texts that are not in NFC get other ids",
                 pre, n->n ? "without" : "with", n->n ? " it" : " none");
    }
    if (p && p->ignore_merges != t->model.ignore_merges) {
        log_warn("GGUF: the pre-tokenizer %s is read with ignore_merges %s, and this tokenizer has "
                 "%s; words that are tokens without being merged get other ids",
                 pre, p->ignore_merges ? "true" : "false", p->ignore_merges ? "false" : "true");
    }
    return FT_OK;
}

/* Of the steps of kind llama a GGUF says only whether ▁ stands in front of a text: spaces become ▁ by Replace, after
 * a Prepend or without, or by Metaspace. */
static ft_status check_piece_steps(const tok_tokenizer *t, bool *prefix)
{
    const tk_ops *norm = &t->normalizers, *split = &t->pretokenizers;
    const tk_op *op = norm->op;
    const tk_span piece = {"▁", 3}, space = {" ", 1};
    int at = norm->n > 0 && is_kind(op, "Prepend") && tk_same(op->a, piece), cut = 0;
    bool spaces = at < norm->n && is_kind(&op[at], "Replace") && tk_same(op[at].a, piece) &&
                  !op[at].pattern_is_regex && tk_same(op[at].pattern, space);
    *prefix = at == 1;
    at = spaces ? at + 1 : 0;
    if (at < norm->n) return no_place("normalizer", &norm->op[at]);
    op = split->op;
    if (spaces) { /* cutting at spaces does nothing then */
        cut = split->n > 0 && is_kind(op, "Split") && !op->pattern_is_regex &&
              tk_same(op->pattern, space);
    } else if (split->n > 0 && is_kind(op, "Metaspace") && tk_same(op->a, piece)) {
        cut = 1;
        *prefix = op->num[0] != 2;
        if (*prefix) {
            log_warn("GGUF: llama.cpp doubles a space at the start of a text and sets ▁ after "
                     "special tokens too; there it gives other ids than this tokenizer");
        }
        if (op->on[0]) {
            log_warn("GGUF: the pre-tokenizer Metaspace cuts before each ▁, llama.cpp does not; "
                     "spaces in a row get other ids");
        }
    } else {
        FT_CHECK(split->n > 0, FT_EDATA,
                 "GGUF: no step of this tokenizer turns spaces into ▁, as llama.cpp does; export "
                 "as a Hugging Face folder instead");
    }
    return cut < split->n ? no_place("pre-tokenizer", &op[cut]) : FT_OK;
}

/* Around a text stand BOS and EOS, or nothing. */
static ft_status check_post(const tok_tokenizer *t)
{
    const tk_post *p = &t->post;
    const int32_t *odd = NULL;
    for (int i = p->n_before - 1; i >= 0; i--)
        if (i > 0 || p->before[i] != t->bos) odd = &p->before[i];
    for (int i = p->n_after - 1; i >= 0 && !odd; i--)
        if (i < p->n_after - 1 || p->after[i] != t->eos) odd = &p->after[i];
    FT_CHECK(!odd, FT_EDATA,
             "GGUF: the post-processor puts %s around a text, and only one bos_token before it and "
             "one eos_token after it have a place there; export as a Hugging Face folder instead",
             ft_shows(tok_text(t, *odd)));
    return FT_OK;
}

/* Which kind, and what names it: gpt2 with *pre, or llama with *prefix. */
static ft_status classify(const tok_tokenizer *t, bool *llama, const char **pre, bool *prefix)
{
    FT_CHECK(t->model.kind == &tk_model_kinds[0], FT_EDATA,
             "GGUF: a tokenizer of type %s cannot be written (BPE can)", t->model.kind->name);
    FT_CHECK(t->model.prefix.n == 0 && t->model.suffix.n == 0, FT_EDATA,
             "GGUF: a BPE tokenizer with a subword prefix or word suffix cannot be written");
    FT_CHECK(!t->added.plain_special, FT_EDATA,
             "GGUF: split_special_tokens has no place in it; llama.cpp takes special tokens in a "
             "text by an option of the call");
    FT_TRY(check_post(t));
    warn_flags(t);
    *llama = t->model.byte_fallback;
    if (*llama) return check_piece_steps(t, prefix);
    *pre = t->pre_name;
    if (!*pre) FT_TRY(find_pre(t, pre));
    FT_CHECK(*pre, FT_EDATA,
             "GGUF: llama.cpp has no name for the pre-tokenizer of this tokenizer; export as a "
             "Hugging Face folder instead");
    return check_byte_steps(t, *pre);
}

static void score_merges(const tok_tokenizer *t, columns *c)
{
    const tk_model *m = &t->model;
    for (size_t i = 0; i < m->merge_cap; i++) {
        const tk_merge *e = &m->merge[i];
        if (!e->key) continue;
        float score = -(float)(e->rank + 1);
        if (c->score[e->made] == NEVER || score > c->score[e->made]) c->score[e->made] = score;
    }
}

static bool one_character(tk_span s)
{
    int32_t cp;
    return s.n > 0 && (size_t)utf8_next(s.s, s.n, &cp) == s.n;
}

static bool is_byte_token(const tk_model *m, int64_t id)
{
    for (int b = 0; b < 256; b++) {
        if (m->byte_id[b] == id) return true;
    }
    return false;
}

/* In kind llama an added token is matched in the text before spaces become ▁. */
static void plain_text(columns *c, int64_t id, tk_span s)
{
    size_t from = c->spare.len;
    for (size_t i = 0; i < s.n;) {
        if (s.n - i >= 3 && memcmp(s.s + i, "▁", 3) == 0) {
            str_addc(&c->spare, ' ');
            i += 3;
        } else {
            str_addc(&c->spare, s.s[i++]);
        }
    }
    c->text[id] = (gguf_str){NULL, c->spare.len - from}; /* placed when the buffer stands still */
}

static ft_status fill(const tok_tokenizer *t, columns *c, bool llama)
{
    for (int64_t id = 0; id < c->n; id++) {
        tk_span s = id < t->size ? t->text[id] : (tk_span){0};
        int64_t at;
        if (!s.s) {
            int n = snprintf(c->pad[id], sizeof c->pad[id], "[PAD%lld]", (long long)id);
            c->text[id] = (gguf_str){c->pad[id], (size_t)n};
            c->type[id] = TK_TYPE_UNUSED;
            c->score[id] = -10000;
            continue;
        }
        c->text[id] = (gguf_str){s.s, s.n};
        c->type[id] = TK_TYPE_NORMAL;
        c->score[id] = one_character(s) ? 0 : NEVER;
        if (llama && is_byte_token(&t->model, id)) {
            c->type[id] = TK_TYPE_BYTE;
            c->score[id] = 0;
        }
        if (map_get(&t->added.index, s.s, s.n, &at) && t->added.tok[at].id == id) {
            c->type[id] = t->added.tok[at].special ? TK_TYPE_CONTROL : TK_TYPE_USER;
            if (llama && c->type[id] == TK_TYPE_USER) plain_text(c, id, s);
        }
        if (llama && id == t->model.unk) c->type[id] = TK_TYPE_UNKNOWN;
        if (t->types && id < t->n_types) c->type[id] = (int32_t)t->types[id];
    }
    FT_TRY(str_ok(&c->spare));
    size_t from = 0;
    for (int64_t id = 0; id < c->n; id++) {
        if (c->text[id].s) continue;
        c->text[id].s = c->spare.data ? c->spare.data + from : "";
        from += c->text[id].n;
    }
    if (llama) score_merges(t, c);
    for (int64_t id = 0; t->scores && id < t->n_types; id++) c->score[id] = t->scores[id];
    return FT_OK;
}

/* "left right" in one text; a space inside a part is written as the byte alphabet has it. */
static ft_status put_merges(const tok_tokenizer *t, gguf_writer *w)
{
    const tk_model *m = &t->model;
    str_buf text = {0};
    gguf_str *list = ft_alloc((size_t)m->n_pairs + 1, sizeof *list);
    if (!list) return FT_EMEM;
    for (int64_t i = 0; i < m->n_pairs; i++) {
        tk_span part[2] = {m->vocab.by_id[m->pairs[i].left], m->vocab.by_id[m->pairs[i].right]};
        size_t from = text.len;
        for (int k = 0; k < 2; k++) {
            if (k) str_addc(&text, ' ');
            for (size_t j = 0; j < part[k].n; j++) {
                if (part[k].s[j] == ' ') {
                    str_adds(&text, "Ġ");
                } else {
                    str_addc(&text, part[k].s[j]);
                }
            }
        }
        list[i].n = text.len - from;
    }
    ft_status rc = str_ok(&text);
    size_t from = 0;
    for (int64_t i = 0; i < m->n_pairs && rc == FT_OK; i++) {
        list[i].s = text.data + from;
        from += list[i].n;
    }
    if (rc == FT_OK) gguf_put_strs(w, "tokenizer.ggml.merges", list, m->n_pairs);
    str_free(&text);
    ft_free(list);
    return rc;
}

static void put_id(gguf_writer *w, const char *key, int64_t id)
{
    if (id >= 0) gguf_put_int(w, key, GGUF_U32, id);
}

static void put_specials(const tok_tokenizer *t, gguf_writer *w, bool llama, bool prefix)
{
    bool eos = t->post.n_after > 0 && t->post.after[t->post.n_after - 1] == t->eos;
    put_id(w, "tokenizer.ggml.bos_token_id", t->bos);
    put_id(w, "tokenizer.ggml.eos_token_id", t->eos);
    put_id(w, "tokenizer.ggml.unknown_token_id", llama ? t->model.unk : t->unk);
    put_id(w, "tokenizer.ggml.padding_token_id", t->pad);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", tok_adds_bos(t));
    gguf_put_bool(w, "tokenizer.ggml.add_eos_token", eos);
    gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", llama && prefix);
}

/* The default under tokenizer.chat_template, others under keys that tokenizer.chat_templates lists. */
static ft_status put_templates(const tok_tokenizer *t, gguf_writer *w)
{
    int n = 0;
    gguf_str *names = ft_alloc((size_t)t->templates.n + 1, sizeof *names);
    ft_status rc = names ? FT_OK : FT_EMEM;
    for (int i = 0; i < t->templates.n && rc == FT_OK; i++) {
        const tok_named *one = &t->templates.v[i];
        str_buf key = {0};
        str_adds(&key, "tokenizer.chat_template");
        if (strcmp(one->name, "default") != 0) {
            str_printf(&key, ".%s", one->name);
            names[n++] = (gguf_str){one->name, strlen(one->name)};
        }
        rc = str_ok(&key);
        if (rc == FT_OK) gguf_put_str(w, key.data, one->text, strlen(one->text));
        str_free(&key);
    }
    if (rc == FT_OK && n) gguf_put_strs(w, "tokenizer.chat_templates", names, n);
    ft_free(names);
    return rc;
}

static bool asked(const tok_tokenizer *t, const char *name)
{
    bool yes = false;
    for (int i = 0; i < t->templates.n; i++) yes = yes || strstr(t->templates.v[i].text, name);
    return yes;
}

/* Readers name bos, eos and pad. Where a template asks for a name that would have another text then, all names follow. */
static ft_status put_names(const tok_tokenizer *t, gguf_writer *w)
{
    const struct {
        const char *name;
        int32_t id;
    } rows[] = {{"bos_token", t->bos}, {"eos_token", t->eos}, {"pad_token", t->pad}};
    const char *other = NULL;
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        const char *text = tk_named_text(&t->names, rows[i].name);
        const char *theirs = rows[i].id >= 0 ? tok_text(t, rows[i].id) : NULL;
        bool same = text && theirs ? strcmp(text, theirs) == 0 : text == theirs;
        if (!same && asked(t, rows[i].name)) other = rows[i].name;
    }
    for (int i = 0; i < t->names.n; i++) {
        bool known = false;
        for (size_t k = 0; k < FT_COUNT_OF(rows); k++)
            known = known || strcmp(rows[k].name, t->names.v[i].name) == 0;
        if (!known && asked(t, t->names.v[i].name)) other = t->names.v[i].name;
    }
    if (!other) return FT_OK;
    log_warn(
        "GGUF: what the chat template calls %s has no place in it; ft finds it in a key of its "
        "own, llama.cpp prints what it takes for it",
        ft_shows(other));
    arena *mem;
    FT_TRY(arena_open(&mem, "names", (size_t)64 << 20));
    gguf_str *list = arena_get(mem, ((size_t)t->names.n + 1) * sizeof *list);
    bool ok = list != NULL;
    for (int i = 0; ok && i < t->names.n; i++) {
        const tok_named *v = &t->names.v[i];
        const char *s = arena_printf(mem, "%s=%s", v->name, v->text);
        ok = s != NULL;
        if (ok) list[i] = (gguf_str){s, strlen(s)};
    }
    if (ok) gguf_put_strs(w, TK_GGUF_NAMES, list, t->names.n);
    arena_close(mem);
    return ok ? FT_OK : FT_EMEM;
}

static bool is_in(const int32_t *list, int n, int32_t id)
{
    for (int i = 0; i < n; i++)
        if (list[i] == id) return true;
    return false;
}

static ft_status warn_lost(const tok_tokenizer *t, const tok_tokenizer *found)
{
    str_buf lost = {0};
    for (int i = 0; i < t->n_stops; i++) {
        if (is_in(found->stops, found->n_stops, t->stops[i])) continue;
        const char *text = tok_text(t, t->stops[i]);
        str_printf(&lost, "%s%d (%s)", lost.len ? ", " : "", (int)t->stops[i],
                   ft_shows(text ? text : ""));
    }
    if (lost.len)
        log_warn(
            "GGUF has keys for three end tokens; ft stops at all %d, llama.cpp goes on after %s",
            t->n_stops, lost.data);
    ft_status rc = str_ok(&lost);
    str_free(&lost);
    return rc;
}

/* eot and eom hold the stops after eos; when there are more, those that readers do not know by their text come first. Where
 * a reader would find others than these, the whole list follows, in a key that llama.cpp passes over. */
static ft_status put_stops(const tok_tokenizer *t, gguf_writer *w)
{
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int32_t rest[TK_MAX_STOPS];
    int n = 0;
    tok_tokenizer found = *t; /* only its stops are touched */
    found.n_stops = 0;
    tk_text_stops(&found);
    for (int known = 0; known < 2; known++) {
        for (int i = 0; i < t->n_stops; i++) {
            bool first = t->n_stops <= 3 || !is_in(found.stops, found.n_stops, t->stops[i]);
            if (t->stops[i] != t->eos && first == !known) rest[n++] = t->stops[i];
        }
    }
    for (int i = 0; i < n && i < (int)FT_COUNT_OF(keys); i++) {
        put_id(w, keys[i], rest[i]);
        tk_add_stop(&found, rest[i]);
    }
    tk_add_stop(&found, t->eos);
    tk_template_stops(&found);
    bool same = found.n_stops == t->n_stops;
    for (int i = 0; same && i < found.n_stops; i++)
        same = is_in(t->stops, t->n_stops, found.stops[i]);
    if (same || t->n_stops == 0) return FT_OK;
    gguf_put_i32s(w, TK_GGUF_STOPS, t->stops, t->n_stops);
    return warn_lost(t, &found);
}

ft_status tok_write_gguf(const tok_tokenizer *t, gguf_writer *w, int64_t vocab_size)
{
    bool llama = false, prefix = false;
    const char *pre = NULL;
    columns c = {.n = vocab_size};
    FT_TRY(classify(t, &llama, &pre, &prefix));
    FT_CHECK(vocab_size >= t->size && vocab_size <= TK_MAX_ID, FT_EDATA,
             "GGUF: the tokenizer has %lld ids, the model %lld rows", (long long)t->size,
             (long long)vocab_size);
    ft_status rc = FT_EMEM;
    c.text = ft_alloc((size_t)c.n, sizeof *c.text);
    c.type = ft_alloc((size_t)c.n, sizeof *c.type);
    c.score = ft_alloc((size_t)c.n, sizeof *c.score);
    c.pad = ft_alloc((size_t)c.n, sizeof *c.pad);
    if (c.text && c.type && c.score && c.pad) rc = fill(t, &c, llama);
    if (rc == FT_OK) {
        const char *kind = llama ? "llama" : "gpt2";
        gguf_put_str(w, "tokenizer.ggml.model", kind, strlen(kind));
        if (llama) pre = "default";
        gguf_put_str(w, "tokenizer.ggml.pre", pre, strlen(pre));
        gguf_put_strs(w, "tokenizer.ggml.tokens", c.text, c.n);
        if (llama) gguf_put_f32s(w, "tokenizer.ggml.scores", c.score, c.n);
        gguf_put_i32s(w, "tokenizer.ggml.token_type", c.type, c.n);
        if (!llama) rc = put_merges(t, w);
    }
    if (rc == FT_OK) put_specials(t, w, llama, prefix);
    if (rc == FT_OK) rc = put_stops(t, w);
    if (rc == FT_OK) rc = put_templates(t, w);
    if (rc == FT_OK) rc = put_names(t, w);
    ft_free(c.text);
    ft_free(c.type);
    ft_free(c.score);
    ft_free(c.pad);
    str_free(&c.spare);
    return rc;
}
