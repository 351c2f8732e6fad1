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

/* What an encode call works with. text[0] holds pieces of the caller's text, text[i] those that step i − 1 made of them: the
 * normalizers, where there are any, and each pre-tokenizer. What the last one made becomes ids. */
typedef struct work {
    const tok_tokenizer *t;
    tk_text *text; /* [n_text] */
    int n_text;
    bool normalizes;
    tk_scratch x;
    tk_steps steps;
    tok_ids *out;
    const tok_ids *with; /* ids are compared with these, not kept; NULL: kept */
    tok_match *match;
    word known[WORDS]; /* by the hash of the text */
} work;
enum { KEEP_BYTES = 1 << 20 }; /* buffers that a long text has made larger go back */

static void work_free(work *w)
{
    for (int i = 0; i < w->n_text; i++) tk_text_free(&w->text[i]);
    ft_free(w->text);
    tk_scratch_free(&w->x);
    ft_free(w);
}

static void work_done(const tok_tokenizer *t, work *w)
{
    ft_spare *spare = (ft_spare *)(uintptr_t)&t->spare;
    size_t bytes = w->x.sym_cap * sizeof *w->x.sym + w->x.heap_cap * sizeof *w->x.heap;
    for (int i = 0; i < w->n_text; i++)
        bytes += w->text[i].own.cap + w->text[i].cap * sizeof(tk_piece);
    w->text[0].s = NULL;
    if (bytes > KEEP_BYTES || !ft_spare_give(spare, w)) work_free(w);
}

static ft_status pass_on(void *ctx, tk_text *in);

static work *work_new(const tok_tokenizer *t)
{
    work *w = ft_spare_take((ft_spare *)(uintptr_t)&t->spare);
    if (w) return w;
    w = ft_alloc(1, sizeof *w);
    if (!w) return NULL;
    w->t = t;
    w->normalizes = t->normalizers.n || t->added.any_normal;
    const int n = t->pretokenizers.n + w->normalizes + 1;
    w->text = ft_alloc((size_t)n, sizeof *w->text);
    if (!w->text) {
        ft_free(w);
        return NULL;
    }
    w->n_text = n;
    for (int i = 0; i < n; i++)
        w->text[i] = (tk_text){.next = pass_on, .ctx = w, .steps = &w->steps};
    return w;
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
static ft_status normalize_pieces(const tok_tokenizer *t, const tk_text *in, tk_text *out)
{
    for (size_t i = 0; i < in->n_pieces && out->rc == FT_OK; i++) {
        tk_piece p = in->piece[i];
        if (p.id >= 0) {
            tk_add_piece(out, 0, 0, p.id, 0);
            continue;
        }
        if (out->n_pieces == 0) str_clear(&out->own);
        const size_t base = out->own.len;
        FT_TRY(tk_normalize(&t->normalizers, (tk_span){in->s + p.from, p.to - p.from}, &out->own,
                            &p.head, in->steps));
        tk_own_text(out);
        tk_piece whole = {.from = base, .to = out->n, .id = -1, .head = p.head};
        if (whole.to > base) tk_added_split(&t->added, true, out->s, &whole, out);
    }
    return out->rc;
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

static ft_status encode_pieces(work *w, const tk_text *in)
{
    for (size_t i = 0; i < in->n_pieces; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0)
            FT_TRY(tok_ids_push(w->out, p->id));
        else
            FT_TRY(encode_word(w->t, w, (tk_span){in->s + p->from, p->to - p->from}, w->out));
    }
    return FT_OK;
}

static void compare(const tok_ids *with, tok_ids *ids, tok_match *m)
{
    for (int64_t i = 0; i < ids->n; i++, m->n++) {
        if (m->same == m->n && m->n < with->n && with->id[m->n] == ids->id[i]) m->same++;
        m->last = ids->id[i];
    }
    ids->n = 0;
}

/* A batch of text[i] becomes one of text[i + 1], which lies in its text and is handed on before that goes. */
static ft_status pass_on(void *ctx, tk_text *in)
{
    work *w = ctx;
    const int i = (int)(in - w->text);
    tk_text *out = in + 1;
    if (i + 1 == w->n_text) {
        FT_TRY(encode_pieces(w, in));
        if (w->with) compare(w->with, w->out, w->match);
        return FT_OK;
    }
    if (i == 0 && w->normalizes) {
        FT_TRY(normalize_pieces(w->t, in, out));
    } else {
        const tk_op *op = &w->t->pretokenizers.op[i - w->normalizes];
        FT_TRY(op->kind->split(op, in, out));
    }
    return tk_hand_on(out);
}

static ft_status encode_text(work *w, const char *text, size_t len)
{
    int32_t cp;
    tk_piece all = {.from = 0, .to = len, .id = -1};
    all.head = (uint32_t)utf8_next(text, len, &cp);
    w->steps = tk_steps_of(len);
    w->text[0].s = text;
    w->text[0].n = len;
    tk_added_split(&w->t->added, false, text, &all, &w->text[0]);
    return tk_hand_on(&w->text[0]);
}

static ft_status push_all(const int32_t *id, int n, tok_ids *out)
{
    for (int i = 0; i < n; i++) FT_TRY(tok_ids_push(out, id[i]));
    return FT_OK;
}

/* with: what the ids are compared with, match then says how; both NULL: they are kept. */
static ft_status encode(const tok_tokenizer *t, const char *text, size_t len, bool special,
                        tok_ids *out, const tok_ids *with, tok_match *match)
{
    ft_status rc = ft_stop();
    FT_TRY(rc);
    if (special) FT_TRY(push_all(t->post.before, t->post.n_before, out));
    if (len) {
        work *w = work_new(t);
        if (!w) return FT_EMEM;
        w->out = out;
        w->with = with;
        w->match = match;
        rc = encode_text(w, text, len);
        if (rc == FT_OK)
            work_done(t, w);
        else
            work_free(w);
    }
    if (rc == FT_OK && special) rc = push_all(t->post.after, t->post.n_after, out);
    if (rc == FT_OK && with) compare(with, out, match);
    return rc;
}

ft_status tok_encode(const tok_tokenizer *t, const char *text, size_t len, bool special,
                     tok_ids *out)
{
    return encode(t, text, len, special, out, NULL, NULL);
}

ft_status tok_compare(const tok_tokenizer *t, const char *text, size_t len, bool special,
                      const tok_ids *with, tok_match *out)
{
    tok_ids some = {0};
    *out = (tok_match){.last = -1};
    ft_status rc = encode(t, text, len, special, &some, with, out);
    tok_ids_free(&some);
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
    if (raw) {
        str_add(out, a.text.data, a.text.len);
    } else {
        tk_add_lossy(out, a.text.data, a.text.len); /* a .gguf has tokens of any bytes */
    }
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
