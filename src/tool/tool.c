/* tool.c – a model opened for use, and the pass over ragged sequences that every tool shares.
 *
 * Sequences are packed one after another without padding; a token attends to its own sequence only and the
 * kernels give every row the same bits whatever else is in the call, so batching is free of consequences. */
#include "ft/tool.h"

#include <math.h>
#include <string.h>

#include "tool_private.h"

/* --- open, close --------------------------------------------------------------------------------------- */

static bool is_model(const char *path)
{
    return path && (dir_exists(path) || file_exists(path));
}

/* The path is as the training config had it, relative to a folder that the adapter does not know: most often one above
 * the adapter's own, or the current one. */
static const char *find_base(const char *adapter, const char *value, arena *a)
{
    enum { UP = 4 };
    const char *dir = adapter;
    for (int i = 0; value[0] != '/' && i < UP; i++) {
        const char *path = path_join(a, dir, value);
        if (is_model(path)) return path;
        dir = path_join(a, dir, "..");
        if (!dir) return NULL;
    }
    return is_model(value) ? value : NULL;
}

static ft_status base_from_config(const char *adapter, const char *text, size_t len,
                                  const char *name, arena *a, const char **base)
{
    ft_status rc;
    js_doc d = {0};
    const char *value;
    FT_TRY(js_parse(&d, text, len, name, 1, JS_ALLOW_NONFINITE, FT_EDATA));
    FT_TRY_OUT(js_get_str(&d, d.root, "base_model_name_or_path", NULL, &value));
    FT_GUARD(value && value[0], FT_EDATA,
             "%s: base_model_name_or_path: names no base; give the model with --base or --model",
             name);
    value = arena_str(a, value);
    FT_GUARD(value, FT_EMEM, "%s: out of memory", name);
    *base = find_base(adapter, value, a);
    FT_GUARD(
        *base, FT_ENOINPUT,
        "%s: base_model_name_or_path: no model at \"%s\" (looked from the adapter's folder and "
        "those above it, and from the current one); give it with --base or --model",
        name, ft_shows(value));
out:
    js_close(&d);
    return rc;
}

ft_status tool_adapter_base(const char *adapter, arena *a, const char **base)
{
    char *text;
    size_t len;
    FT_CHECK(dir_exists(adapter), FT_ENOINPUT, "%s: no such adapter folder", ft_shows(adapter));
    const char *name = path_join(a, adapter, "adapter_config.json");
    FT_CHECK(name, FT_EMEM, "out of memory");
    FT_TRY(file_read(&text, &len, name, (size_t)16 << 20));
    ft_status rc = base_from_config(adapter, text, len, name, a, base);
    ft_free(text);
    return rc;
}

static ft_status has_tokenizer(const tool_model *t, const char *path, bool *out)
{
    const char *kind = NULL;
    if (!t->m->from_gguf) {
        const char *file = path_join(t->mem, path, "tokenizer.json");
        *out = file && file_exists(file);
        return file ? FT_OK : FT_EMEM;
    }
    FT_TRY(gguf_text(t->m->weights.gguf, "tokenizer.ggml.model", t->mem, &kind));
    *out = kind && strcmp(kind, "none") != 0;
    return FT_OK;
}

/* A tokenizer beside the adapter is the one it was trained with, added tokens included. */
static ft_status open_tokenizer(tool_model *t, const char *path, const char *adapter, bool needed)
{
    bool has;
    if (adapter && tok_in_folder(adapter)) return tok_open_over(&t->tok, adapter, path);
    FT_TRY(has_tokenizer(t, path, &has));
    return needed || has ? tok_open(&t->tok, path) : FT_OK;
}

static ft_status open_adapter(tool_model *t, const char *adapter)
{
    int64_t rows;
    FT_TRY(pe_adapter_vocabulary(adapter, t->m, &rows));
    FT_TRY(model_resize_vocabulary(t->m, rows));
    return pe_open_adapter(&t->adapter, t->m, adapter);
}

static ft_status open_parts(tool_model *t, const char *path, const char *adapter, bool need_tok)
{
    if (!path) {
        FT_CHECK(adapter, FT_EUSAGE, "no model given; use --model PATH");
        FT_TRY(tool_adapter_base(adapter, t->mem, &path));
    }
    FT_TRY(model_open(&t->m, &(model_options){.path = path}));
    FT_TRY(open_tokenizer(t, path, adapter, need_tok));
    if (adapter) FT_TRY(open_adapter(t, adapter));
    return ag_open(&t->tape, ft_memory_limit(NULL));
}

ft_status tool_open(tool_model **out, const char *model_path, const char *adapter,
                    bool need_tokenizer)
{
    *out = NULL;
    tool_model *t = ft_alloc(1, sizeof *t);
    if (!t) return FT_EMEM;
    ft_status rc = arena_open(&t->mem, "tokens of a pass", (size_t)1 << 34);
    if (rc == FT_OK) rc = open_parts(t, model_path, adapter, need_tokenizer);
    if (rc != FT_OK)
        tool_close(t);
    else
        *out = t;
    return rc;
}

void tool_close(tool_model *t)
{
    if (!t) return;
    ag_close(t->tape);
    if (t->chat) chat_close(t->chat);
    if (t->adapter) pe_close(t->adapter);
    if (t->tok) tok_close(t->tok);
    if (t->m) model_close(t->m);
    arena_close(t->mem);
    ft_free(t);
}

const nn_overlay *tool_overlay(const tool_model *t)
{
    return t->adapter ? &t->adapter->over : NULL;
}

/* --- text to ids ----------------------------------------------------------------------------------------- */

static bool begins_with_token(const tool_model *t, const char *text, size_t len, int32_t id)
{
    const char *token = id >= 0 ? tok_text(t->tok, id) : NULL;
    size_t n = token ? strlen(token) : 0;
    return n > 0 && n <= len && memcmp(text, token, n) == 0;
}

ft_status tool_encode(const tool_model *t, const char *text, size_t len, tok_ids *out)
{
    FT_CHECK(t->tok, FT_EDATA, "%s: the model has no tokenizer; give token ids", t->m->path);
    int32_t bos = tok_bos(t->tok);
    if (tok_adds_bos(t->tok) && bos >= 0 && !begins_with_token(t, text, len, bos))
        FT_TRY(tok_ids_push(out, bos));
    return tok_encode(t->tok, text, len, false, out);
}

ft_status tool_chat_ids(tool_model *t, const cJSON *messages, tok_ids *out)
{
    str_buf text = {0};
    FT_CHECK(t->tok, FT_EDATA, "%s: the model has no tokenizer", t->m->path);
    if (!t->chat) FT_TRY(chat_open(&t->chat, t->tok));
    ft_status rc = chat_render(t->chat, messages, NULL, true, &text);
    if (rc == FT_OK) rc = tok_encode(t->tok, text.data ? text.data : "", text.len, false, out);
    str_free(&text);
    return rc;
}

/* Python's str.isspace, which str.rstrip() without arguments goes by. */
static bool is_python_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static size_t rstrip_len(const char *s, size_t n)
{
    while (n > 0) {
        size_t at = n - 1;
        int32_t c;
        while (at > 0 && ((unsigned char)s[at] & 0xc0) == 0x80 && n - at < 4) at--;
        if (utf8_next(s + at, n - at, &c) != (int)(n - at) || !is_python_space(c)) break;
        n = at;
    }
    return n;
}

/* An empty context is one token, BOS or else EOS; a continuation that begins with it keeps it there once. */
static ft_status encode_bare_continuation(const tool_model *t, const char *text, size_t len,
                                          tok_ids *out, int64_t *from)
{
    int32_t prefix = tok_bos(t->tok) >= 0 ? tok_bos(t->tok) : tok_eos(t->tok);
    FT_CHECK(prefix >= 0, FT_EDATA,
             "an empty context needs a BOS or EOS token, and the tokenizer has neither");
    int64_t start = out->n;
    FT_TRY(tok_ids_push(out, prefix));
    FT_TRY(tok_encode(t->tok, text, len, false, out));
    if (out->n > start + 1 && out->id[start + 1] == prefix) {
        memmove(out->id + start + 1, out->id + start + 2,
                (size_t)(out->n - start - 2) * sizeof *out->id);
        out->n--;
    }
    *from = start + 1;
    return FT_OK;
}

ft_status tool_encode_pair(const tool_model *t, const char *context, size_t context_len,
                           const char *continuation, size_t continuation_len, tok_ids *out,
                           int64_t *from)
{
    ft_status rc;
    str_buf whole = {0};
    tok_ids head = {0};
    FT_CHECK(t->tok, FT_EDATA, "%s: the model has no tokenizer; give token ids", t->m->path);
    if (context_len == 0)
        return encode_bare_continuation(t, continuation, continuation_len, out, from);
    str_add(&whole, context, context_len);
    str_add(&whole, continuation, continuation_len);
    FT_TRY_OUT(str_ok(&whole));
    FT_TRY_OUT(tool_encode(t, context, rstrip_len(context, context_len), &head));
    FT_TRY_OUT(tool_encode(t, whole.data, whole.len, out));
    *from = head.n;
    if (*from == 0) {
        /* A context of white space only: nothing stands before the continuation, so it is as good as empty. */
        out->n = 0;
        rc = encode_bare_continuation(t, whole.data, whole.len, out, from);
    }
out:
    str_free(&whole);
    tok_ids_free(&head);
    return rc;
}

ft_status tool_cut_left(tool_model *t, const js_doc *d, tok_ids *ids, int64_t *from)
{
    int64_t room = t->m->d.max_position - nn_virtual(tool_overlay(t)) + 1, extra = ids->n - room;
    if (t->m->d.max_position <= 0 || extra <= 0) return FT_OK;
    if (extra >= *from)
        return js_fail(d, d->root, FT_EDATA, "continuation",
                       "%lld tokens, more than the model can hold (%lld)",
                       (long long)(ids->n - *from), (long long)(room - 1));
    if (!t->warned_cut)
        log_warn("%s:%lld: the context is longer than the model can hold (%lld tokens): its "
                 "beginning is cut off, here and in such lines that follow",
                 d->name, (long long)d->line0, (long long)(room - 1));
    t->warned_cut = true;
    memmove(ids->id, ids->id + extra, (size_t)room * sizeof *ids->id);
    ids->n -= extra;
    *from -= extra;
    return FT_OK;
}

/* --- the pass -------------------------------------------------------------------------------------------- */

double tool_lse(const float *logits, int64_t n)
{
    float top = logits[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > top) top = logits[i];
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - (double)top);
    return (double)top + log(sum);
}

static ft_status check_ids(const tool_model *t, const int32_t *id, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        FT_CHECK(id[i] >= 0 && id[i] < t->m->d.vocab_size, FT_EDATA,
                 "token id %d is outside the model's vocabulary of %lld", (int)id[i],
                 (long long)t->m->d.vocab_size);
    return FT_OK;
}

/* One sequence whose first position is `first`, as a run. */
static ft_status begin_one(tool_model *t, nn_run *r, const int32_t *ids, int64_t n, int64_t first,
                           bool bare, unsigned how)
{
    arena_reset(t->mem, 0);
    ag_reset(t->tape);
    int32_t *pos = arena_get(t->mem, (size_t)n * sizeof *pos);
    int32_t *len = arena_get(t->mem, sizeof *len);
    if (!pos || !len) return FT_EMEM;
    for (int64_t i = 0; i < n; i++) pos[i] = (int32_t)(first + i);
    *len = (int32_t)n;
    nn_batch b = {.n_seq = 1, .len = len, .tokens = n, .ids = ids, .pos = pos};
    return nn_run_open(r, t->tape, &b, bare ? NULL : tool_overlay(t), how);
}

ft_status tool_hidden(tool_model *t, const int32_t *id, int64_t n, bool bare, nn_run *run,
                      tn_tensor **hidden)
{
    FT_TRY(check_ids(t, id, n));
    FT_TRY(begin_one(t, run, id, n, 0, bare, 0));
    *hidden = model_hidden(t->m, run);
    return t->tape->status;
}

ft_status tool_step(tool_model *t, nn_cache *cache, const int32_t *id, int64_t n, nn_run *run,
                    tn_tensor **hidden)
{
    FT_TRY(begin_one(t, run, id, n, cache->used, false, n <= KN_GEMV_ROWS ? NN_FEW : 0));
    run->cache = cache;
    *hidden = model_hidden(t->m, run);
    return t->tape->status;
}

/* Rows a sequence takes in a pass: its last token is an input only when its logits are wanted. */
static int64_t seq_rows(const tool_seq *s)
{
    if (s->logits) return s->n;
    return s->from < s->n ? s->n - 1 : 0;
}

typedef struct pass {
    int32_t *ids, *pos, *label, *len, *best;
    int64_t *last; /* rows whose logits are wanted */
    float *logprob;
    int64_t rows, scored, wanted;
    int n_seq;
} pass;

static ft_status make_pass(tool_model *t, pass *p, const tool_seq *seq, int64_t n)
{
    *p = (pass){0};
    for (int64_t i = 0; i < n; i++) p->rows += seq_rows(&seq[i]);
    size_t rows = (size_t)p->rows;
    arena_reset(t->mem, 0);
    p->ids = arena_get(t->mem, rows * sizeof *p->ids);
    p->pos = arena_get(t->mem, rows * sizeof *p->pos);
    p->label = arena_get(t->mem, rows * sizeof *p->label);
    p->best = arena_get(t->mem, rows * sizeof *p->best);
    p->logprob = arena_get(t->mem, rows * sizeof *p->logprob);
    p->len = arena_get(t->mem, (size_t)n * sizeof *p->len);
    p->last = arena_get(t->mem, (size_t)n * sizeof *p->last);
    if (!p->ids || !p->pos || !p->label || !p->best || !p->logprob || !p->len || !p->last)
        return FT_EMEM;
    int64_t row = 0;
    for (int64_t i = 0; i < n; i++) {
        const tool_seq *s = &seq[i];
        int64_t k = seq_rows(s);
        if (k == 0) continue;
        FT_TRY(check_ids(t, s->id, s->n));
        for (int64_t j = 0; j < k; j++, row++) {
            bool scored = j + 1 < s->n && j + 1 >= s->from;
            p->ids[row] = s->id[j];
            p->pos[row] = (int32_t)j;
            p->label[row] = scored ? s->id[j + 1] : -100;
            p->scored += scored;
        }
        p->len[p->n_seq++] = (int32_t)k;
        if (s->logits) p->last[p->wanted++] = row - 1;
    }
    return FT_OK;
}

static ft_status take_results(tool_model *t, const pass *p, nn_run *r, const tn_tensor *hidden,
                              tool_seq *seq, int64_t n)
{
    const float *logprob = p->logprob;
    const int32_t *best = p->best;
    int64_t wanted = 0;
    for (int64_t i = 0; i < n; i++) {
        tool_seq *s = &seq[i];
        int64_t k = s->from < s->n ? s->n - s->from : 0;
        if (k > 0) {
            memcpy(s->logprob, logprob, (size_t)k * sizeof *logprob);
            memcpy(s->best, best, (size_t)k * sizeof *best);
            int64_t bad = kn_find_nonfinite(logprob, k);
            FT_CHECK(
                bad < 0, FT_EDIVERGED,
                "the log-probability of token %lld is not a finite number; the model's weights "
                "hold NaN or Inf, or overflow",
                (long long)(s->from + bad));
            logprob += k;
            best += k;
        }
        if (s->logits)
            FT_TRY(model_logits(t->m, r, hidden, &p->last[wanted++], 1, s->logits, false));
    }
    return FT_OK;
}

static ft_status run_pass(tool_model *t, tool_seq *seq, int64_t n)
{
    pass p;
    nn_run r;
    FT_TRY(make_pass(t, &p, seq, n));
    if (p.rows == 0) return FT_OK;
    nn_batch b = {.n_seq = p.n_seq,
                  .len = p.len,
                  .tokens = p.rows,
                  .ids = p.ids,
                  .pos = p.pos,
                  .label = p.label};
    ag_reset(t->tape);
    FT_TRY(nn_run_open(&r, t->tape, &b, tool_overlay(t), 0));
    tn_tensor *hidden = model_hidden(t->m, &r);
    FT_TRY(t->tape->status);
    if (p.scored > 0) {
        model_loss(t->m, &r, hidden, 0.0f, p.logprob, p.best);
        FT_TRY(t->tape->status);
    }
    return take_results(t, &p, &r, hidden, seq, n);
}

ft_status tool_score(tool_model *t, tool_seq *seq, int64_t n)
{
    for (int64_t first = 0; first < n;) {
        int64_t end = first, rows = 0;
        while (end < n && (end == first || rows + seq_rows(&seq[end]) <= TOOL_PASS_TOKENS))
            rows += seq_rows(&seq[end++]);
        FT_TRY(tool_go_on());
        FT_TRY(run_pass(t, seq + first, end - first));
        first = end;
    }
    return FT_OK;
}
