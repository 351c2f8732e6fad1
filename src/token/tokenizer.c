/* tokenizer.c – the public face: closing, encoding, decoding, questions. */
#include "token_private.h"

/* A word and its ids: text is made of few words (chat records: 98 of 100 are found
 * here, prose: 87), and a model gives a word the same ids always. */
enum { WORDS = 1 << 13, WORD_BYTES = 30, WORD_IDS = 8 };
typedef struct word {
    uint8_t bytes, ids; /* bytes 0: nothing */
    char text[WORD_BYTES];
    int32_t id[WORD_IDS];
} word;

/* What an encode call works with. */
typedef struct work {
    tk_text a, b;
    tk_scratch x;
    tk_steps steps;
    word known[WORDS]; /* by the hash of the text */
} work;
enum { KEEP_BYTES = 1 << 20 }; /* buffers that a long text has made larger go back */

static void work_free(work *w)
{
    tk_text_free(&w->a);
    tk_text_free(&w->b);
    tk_scratch_free(&w->x);
    ft_free(w);
}

static void work_done(const tok_tokenizer *t, work *w)
{
    ft_spare *spare = (ft_spare *)(uintptr_t)&t->spare;
    size_t pieces = (w->a.cap + w->b.cap) * sizeof(tk_piece);
    bool large = w->a.own.cap + w->b.own.cap + pieces > KEEP_BYTES ||
                 w->x.sym_cap * sizeof *w->x.sym > KEEP_BYTES;
    w->a.s = w->b.s = NULL;
    w->a.n_pieces = w->b.n_pieces = 0;
    if (large || !ft_spare_give(spare, w)) work_free(w);
}

static work *work_new(const tok_tokenizer *t)
{
    work *w = ft_spare_take((ft_spare *)(uintptr_t)&t->spare);
    return w ? w : ft_alloc(1, sizeof *w);
}

void tok_close(tok_tokenizer *t)
{
    if (!t) return;
    for (work *w; (w = ft_spare_take(&t->spare));) work_free(w);
    tk_ops_close(&t->normalizers);
    tk_ops_close(&t->pretokenizers);
    tk_ops_close(&t->decoders);
    tk_model_close(&t->model);
    tk_added_close(&t->added);
    arena_close(t->mem);
    ft_free(t->own_json);
    ft_free(t->own_config);
    ft_free(t);
}

static ft_status check_ids(const tok_tokenizer *t, const int32_t *id, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        FT_CHECK(id[i] < t->size && t->text[id[i]].s, FT_EDATA,
                 "%s: post_processor: id %d is not in the vocabulary", name, id[i]);
    }
    return FT_OK;
}

ft_status tk_finish(tok_tokenizer *t, const char *name)
{
    for (int i = 0; i < t->pretokenizers.n; i++) {
        const tk_op *op = &t->pretokenizers.op[i];
        t->wants_head |= op->kind->split == tk_metaspace_split && op->num[0] == 1;
    }
    t->size = t->model.vocab.size;
    for (int64_t i = 0; i < t->added.n; i++) {
        if (t->added.tok[i].id >= t->size) t->size = (int64_t)t->added.tok[i].id + 1;
    }
    FT_CHECK(t->size > 0, FT_EDATA, "%s: the vocabulary is empty", name);
    t->text = arena_get(t->mem, (size_t)t->size * sizeof *t->text);
    if (!t->text) return FT_EMEM;
    for (int64_t i = 0; i < t->model.vocab.size; i++) t->text[i] = t->model.vocab.by_id[i];
    for (int64_t i = 0; i < t->added.n; i++) t->text[t->added.tok[i].id] = t->added.tok[i].text;
    FT_TRY(check_ids(t, t->post.before, t->post.n_before, name));
    return check_ids(t, t->post.after, t->post.n_after, name);
}

/* --- encoding ------------------------------------------------------------------------------------------------- */
/* Raw pieces → normalised text, cut again at the tokens that match after normalising. */
static ft_status normalize_pieces(const tok_tokenizer *t, tk_text *in, tk_text *out)
{
    str_buf one = {0};
    ft_status rc = FT_OK;
    tk_text pieces = {0};
    str_clear(&out->own);
    for (size_t i = 0; i < in->n_pieces; i++) {
        tk_piece p = in->piece[i];
        if (p.id >= 0) {
            tk_add_piece(out, 0, 0, p.id, 0);
            continue;
        }
        str_clear(&one);
        FT_TRY_OUT(tk_normalize(&t->normalizers, (tk_span){in->s + p.from, p.to - p.from}, &one,
                                &p.head, in->steps));
        tk_piece whole = {.from = 0, .to = one.len, .id = -1, .head = p.head};
        pieces.n_pieces = 0;
        if (one.len) tk_added_split(&t->added, true, one.data, &whole, &pieces);
        size_t base = out->own.len;
        str_add(&out->own, one.data, one.len);
        for (size_t k = 0; k < pieces.n_pieces; k++) {
            const tk_piece *q = &pieces.piece[k];
            tk_add_piece(out, base + q->from, base + q->to, q->id, q->head);
        }
    }
    out->s = out->own.data;
    out->n = out->own.len;
    FT_GUARD(!out->failed && !pieces.failed, FT_EMEM, "out of memory for pieces of text");
    rc = str_ok(&out->own);
out:
    str_free(&one);
    tk_text_free(&pieces);
    return rc;
}

static void swap_texts(tk_text *a, tk_text *b)
{
    tk_text t = *a;
    *a = *b;
    *b = t;
    b->n_pieces = 0;
}

FT_WRAPS static size_t word_slot(tk_span s)
{
    uint64_t h = s.n, part;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        memcpy(&part, s.s + i, 8);
        h = (h ^ part) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    part = 0;
    memcpy(&part, s.s + i, s.n - i);
    h = (h ^ part) * 0x9e3779b97f4a7c15u;
    return (size_t)(h >> 40) % WORDS;
}

static ft_status encode_word(const tok_tokenizer *t, work *w, tk_span s, tok_ids *out)
{
    if (s.n == 0 || s.n > WORD_BYTES) return t->model.kind->encode(&t->model, s, &w->x, out);
    word *k = &w->known[word_slot(s)];
    if (k->bytes != s.n || memcmp(k->text, s.s, s.n) != 0) {
        int64_t before = out->n;
        FT_TRY(t->model.kind->encode(&t->model, s, &w->x, out));
        if (out->n - before > WORD_IDS) return FT_OK;
        k->bytes = (uint8_t)s.n;
        k->ids = (uint8_t)(out->n - before);
        memcpy(k->text, s.s, s.n);
        if (k->ids) memcpy(k->id, out->id + before, k->ids * sizeof *k->id);
        return FT_OK;
    }
    for (int i = 0; i < k->ids; i++) FT_TRY(tok_ids_push(out, k->id[i]));
    return FT_OK;
}

static ft_status encode_text(const tok_tokenizer *t, const char *text, size_t len, work *w,
                             tok_ids *out)
{
    tk_text *a = &w->a, *b = &w->b;
    int32_t cp;
    tk_piece all = {.from = 0, .to = len, .id = -1};
    all.head = (uint32_t)utf8_next(text, len, &cp);
    w->steps = tk_steps_of(len);
    a->steps = b->steps = &w->steps;
    a->s = text;
    a->n = len;
    tk_added_split(&t->added, false, text, &all, a);
    FT_CHECK(!a->failed, FT_EMEM,
             "out of memory for pieces of text"); /* the steps tell of their own */
    if (t->normalizers.n || t->added.any_normal) {
        FT_TRY(normalize_pieces(t, a, b));
        swap_texts(a, b);
    }
    for (int i = 0; i < t->pretokenizers.n; i++) {
        FT_TRY(t->pretokenizers.op[i].kind->split(&t->pretokenizers.op[i], a, b));
        swap_texts(a, b);
    }
    for (size_t i = 0; i < a->n_pieces; i++) {
        const tk_piece *p = &a->piece[i];
        if (p->id >= 0) {
            FT_TRY(tok_ids_push(out, p->id));
        } else {
            FT_TRY(encode_word(t, w, (tk_span){a->s + p->from, p->to - p->from}, out));
        }
    }
    return FT_OK;
}

ft_status tok_encode(const tok_tokenizer *t, const char *text, size_t len, bool special,
                     tok_ids *out)
{
    ft_status rc = ft_stop();
    FT_TRY(rc);
    for (int i = 0; i < t->post.n_before && special; i++) {
        FT_TRY(tok_ids_push(out, t->post.before[i]));
    }
    if (len) {
        work *w = work_new(t);
        if (!w) return FT_EMEM;
        rc = encode_text(t, text, len, w, out);
        if (rc == FT_OK)
            work_done(t, w);
        else
            work_free(w);
    }
    for (int i = 0; i < t->post.n_after && special && rc == FT_OK; i++) {
        rc = tok_ids_push(out, t->post.after[i]);
    }
    return rc;
}

/* --- decoding ------------------------------------------------------------------------------------------------- */
/* The library decodes a normalized added token by its normalised text. */
static tk_span decode_text(const tok_tokenizer *t, int32_t id)
{
    tk_span text = t->text[id];
    int64_t at;
    if (t->added.any_normal && t->normalizers.n && map_get(&t->added.index, text.s, text.n, &at) &&
        t->added.tok[at].id == id) {
        return t->added.tok[at].normal;
    }
    return text;
}

static ft_status check_id(const tok_tokenizer *t, int32_t id)
{
    FT_CHECK(id >= 0 && id < t->size && t->text[id].s, FT_EDATA,
             "id %d is not in the vocabulary (0 … %lld)", id, (long long)t->size - 1);
    return FT_OK;
}

static ft_status decode(const tok_tokenizer *t, const int32_t *ids, int64_t n, bool raw,
                        str_buf *out)
{
    tk_steps steps = tk_steps_of((size_t)n);
    tk_list a = {.raw = raw, .steps = &steps}, b = a;
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < n; i++) {
        FT_TRY_OUT(check_id(t, ids[i]));
        tk_span text = decode_text(t, ids[i]);
        if (t->decoders.n == 0 && i > 0) str_addc(&a.text, ' ');
        tk_list_add(&a, text.s, text.n);
    }
    FT_GUARD(!a.failed, FT_EMEM, "out of memory for %lld tokens", (long long)n);
    FT_TRY_OUT(str_ok(&a.text));
    for (int i = 0; i < t->decoders.n && a.n > 0; i++) {
        const tk_op *op = &t->decoders.op[i];
        tk_list_clear(&b);
        FT_TRY_OUT(op->kind->decode(op, &a, &b));
        tk_list swap = a;
        a = b;
        b = swap;
    }
    str_add(out, a.text.data, a.text.len);
    rc = str_ok(out);
out:
    tk_list_free(&a);
    tk_list_free(&b);
    return rc;
}

ft_status tok_decode(const tok_tokenizer *t, const int32_t *ids, int64_t n, str_buf *out)
{
    return decode(t, ids, n, false, out);
}

ft_status tok_decode_bytes(const tok_tokenizer *t, const int32_t *ids, int64_t n, str_buf *out)
{
    const tk_op *op = t->decoders.op;
    if (t->decoders.n != 1 || !op->kind->bytes) return decode(t, ids, n, true, out);
    for (int64_t i = 0; i < n; i++) {
        FT_TRY(check_id(t, ids[i]));
        op->kind->bytes(decode_text(t, ids[i]), out);
    }
    return str_ok(out);
}

/* --- questions ------------------------------------------------------------------------------------------------- */
int64_t tok_size(const tok_tokenizer *t)
{
    return t->size;
}
int32_t tok_bos(const tok_tokenizer *t)
{
    return t->bos;
}
int32_t tok_eos(const tok_tokenizer *t)
{
    return t->eos;
}
int32_t tok_pad(const tok_tokenizer *t)
{
    return t->pad;
}
bool tok_adds_bos(const tok_tokenizer *t)
{
    return t->post.n_before > 0 && t->post.before[0] == t->bos;
}
int32_t tok_id(const tok_tokenizer *t, const char *text, size_t n)
{
    int64_t at;
    if (map_get(&t->added.index, text, n, &at)) return t->added.tok[at].id;
    return tk_vocab_id(&t->model.vocab, text, n);
}
const char *tok_text(const tok_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size ? t->text[id].s : NULL;
}
bool tok_is_special(const tok_tokenizer *t, int32_t id)
{
    int64_t at;
    if (id < 0 || id >= t->size || !t->text[id].s) return false;
    return map_get(&t->added.index, t->text[id].s, t->text[id].n, &at) && t->added.tok[at].special;
}
const int32_t *tok_stops(const tok_tokenizer *t, int *n)
{
    *n = t->n_stops;
    return t->stops;
}
const tok_named *tok_names(const tok_tokenizer *t, int *n)
{
    *n = t->names.n;
    return t->names.v;
}
const tok_named *tok_chat_templates(const tok_tokenizer *t, int *n)
{
    *n = t->templates.n;
    return t->templates.v;
}

void tk_add_stop(tok_tokenizer *t, int64_t id)
{
    if (id < 0 || id >= t->size || t->n_stops == (int)FT_COUNT_OF(t->stops)) return;
    for (int i = 0; i < t->n_stops; i++) {
        if (t->stops[i] == id) return;
    }
    t->stops[t->n_stops++] = (int32_t)id;
}

void tk_template_stops(tok_tokenizer *t)
{
    static const char *const ends[] = {"<|im_end|>",    "<|eot_id|>", "<|eom_id|>",
                                       "<end_of_turn>", "<|end|>",    "<|END_OF_TURN_TOKEN|>",
                                       "<turn|>",       "<|eot|>",    "<|return|>"};
    for (size_t i = 0; i < FT_COUNT_OF(ends); i++) {
        int64_t at;
        bool written = false;
        for (int k = 0; k < t->templates.n; k++) {
            written = written || strstr(t->templates.v[k].text, ends[i]);
        }
        if (!written) continue;
        if (map_get(&t->added.index, ends[i], strlen(ends[i]), &at)) {
            tk_add_stop(t, t->added.tok[at].id);
        }
    }
}

const char *tok_template_file(const tok_tokenizer *t)
{
    return t->template_file;
}

ft_status tok_use_template(tok_tokenizer *t, const char *text, const char *from)
{
    if (t->replaced) {
        t->templates = t->own_templates;
        t->n_stops = t->own_stops;
    }
    t->replaced = text != NULL;
    t->template_file = text && from ? arena_str(t->mem, from) : NULL;
    if (text && from && !t->template_file) return FT_EMEM;
    if (!text) return FT_OK;
    t->own_templates = t->templates;
    t->own_stops = t->n_stops;
    t->templates = (tk_named_list){0};
    FT_TRY(tk_add_named(&t->templates, t->mem, "default", text));
    tk_template_stops(t);
    return FT_OK;
}

/* llama.cpp's list: a GGUF has keys for three ids, and its readers know the others by their text. */
void tk_text_stops(tok_tokenizer *t)
{
    static const char *const ends[] = {"<|eot_id|>",
                                       "<|im_end|>",
                                       "<|end|>",
                                       "<|return|>",
                                       "<|call|>",
                                       "<|flush|>",
                                       "<|calls|>",
                                       "<end_of_turn>",
                                       "<|endoftext|>",
                                       "</s>",
                                       "<|eom_id|>",
                                       "<EOT>",
                                       "_<EOT>",
                                       "[EOT]",
                                       "[EOS]",
                                       "<|end_of_text|>",
                                       "<end_of_utterance>",
                                       "<eos>",
                                       "<turn|>",
                                       "<|tool_response>"};
    /* Where the second and the third are tokens, the first only ends a part of the answer. */
    static const char *const parts[][3] = {{"<|end|>", "<|return|>", "<|call|>"},
                                           {"<|end|>", "<|return|>", "<|calls|>"},
                                           {"<|end|>", "<|call|>", "<|flush|>"},
                                           {"<|end|>", "<|calls|>", "<|flush|>"},
                                           {"</s>", "<|tool_response>", "<|tool_response>"}};
    for (size_t i = 0; i < FT_COUNT_OF(ends); i++) {
        bool inside = false;
        for (size_t k = 0; k < FT_COUNT_OF(parts); k++)
            inside = inside || (strcmp(parts[k][0], ends[i]) == 0 &&
                                tok_id(t, parts[k][1], strlen(parts[k][1])) >= 0 &&
                                tok_id(t, parts[k][2], strlen(parts[k][2])) >= 0);
        if (!inside) tk_add_stop(t, tok_id(t, ends[i], strlen(ends[i])));
    }
}

ft_status tk_set_bos_eos(tok_tokenizer *t, bool bos, bool eos)
{
    t->post = (tk_post){0};
    int32_t *ids = arena_get(t->mem, 2 * sizeof *ids);
    if (!ids) return FT_EMEM;
    ids[0] = t->bos;
    ids[1] = t->eos;
    t->post = (tk_post){.before = ids, .after = ids + 1};
    t->post.n_before = bos && t->bos >= 0;
    t->post.n_after = eos && t->eos >= 0;
    return FT_OK;
}
