/* tool.c – a model opened for use, and text to ids as evaluation harnesses want it. */
#include "ft/tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool_private.h"

/* --- open, close --------------------------------------------------------------------------------------- */

static ft_status is_model(const char *path, bool *is)
{
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    *is = kind == PATH_FOLDER || kind == PATH_FILE;
    return FT_OK;
}

/* The path is as the training config had it, relative to a folder that the adapter does not know: most often one above
 * the adapter's own, or the current one. *base NULL: there is none. */
static ft_status find_base(const char *adapter, const char *value, arena *a, const char **base)
{
    enum { UP = 6 }; /* from the checkpoint of a result, two below it */
    const char *dir = adapter;
    bool is = false;
    for (int i = 0; value[0] != '/' && i < UP; i++) {
        *base = path_join(a, dir, value);
        if (!*base) return FT_EMEM;
        FT_TRY(is_model(*base, &is));
        if (is) return FT_OK;
        dir = path_join(a, dir, "..");
        if (!dir) return FT_EMEM;
    }
    FT_TRY(is_model(value, &is));
    *base = is ? value : NULL;
    return FT_OK;
}

static ft_status base_from_config(const char *adapter, const char *text, size_t len,
                                  const char *name, arena *a, const char **base)
{
    ft_status rc;
    js_doc d = {0};
    const char *value, *key = "base_model_name_or_path";
    FT_TRY(js_parse(&d, text, len, name, 1, JS_ALLOW_NONFINITE, FT_EDATA));
    if (!js_get(d.root, "peft_type") && pe_adapter_type(&d)) key = "model_name";
    FT_TRY_OUT(js_get_str(&d, d.root, key, NULL, &value));
    FT_GUARD(value && value[0], FT_EDATA,
             "%s: %s: names no base; give the model with --base or --model", name, key);
    value = arena_str(a, value);
    FT_GUARD(value, FT_EMEM, "%s: out of memory", name);
    FT_TRY_OUT(find_base(adapter, value, a, base));
    FT_GUARD(
        *base, FT_ENOINPUT,
        "%s: %s: no model at \"%s\" (looked from the adapter's folder and "
        "those above it, and from the current one); give it with --base or --model, fetched first "
        "where this is a name on a model hub (ft fetch ORG/NAME --out DIR)",
        name, key, ft_shows(value));
out:
    js_close(&d);
    return rc;
}

ft_status tool_scores(const char *path, arena *a, bool *scores)
{
    const char *name = path_join(a, path, "config.json");
    path_kind kind;
    js_doc d;
    char *text;
    size_t n;
    if (!name) return FT_EMEM;
    FT_TRY(pe_adapter_scores(path, scores));
    FT_TRY(path_look(name, &kind));
    if (*scores || kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &n, name, (size_t)16 << 20));
    const ft_status rc = js_parse(&d, text, n, name, 1, JS_ALLOW_NONFINITE, FT_EDATA);
    if (rc == FT_OK) {
        const cJSON *arch = cJSON_GetArrayItem(js_get(d.root, "architectures"), 0);
        *scores = cJSON_IsString(arch) && str_ends(arch->valuestring, "ForSequenceClassification");
        js_close(&d);
    }
    ft_free(text);
    return rc;
}

ft_status tool_adapter_base(const char *adapter, arena *a, const char **base)
{
    char *text;
    size_t len;
    FT_TRY(io_adapter_exists(adapter));
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
        return tok_in_folder(path, out);
    }
    FT_TRY(gguf_text(t->m->weights.gguf, "tokenizer.ggml.model", t->mem, &kind));
    *out = kind && strcmp(kind, "none") != 0;
    return FT_OK;
}

/* The template that the first adapter with one was trained with, where no tokenizer stands beside it that would have it. */
static ft_status take_template(tool_model *t, const pe_use *use, int n)
{
    for (int i = 0; i < n && t->tok; i++) {
        const char *path = path_join(t->mem, use[i].dir, "chat_template.jinja");
        if (!path) return FT_EMEM;
        path_kind kind;
        bool has;
        FT_TRY(tok_in_folder(use[i].dir, &has));
        if (has) return FT_OK;
        FT_TRY(path_look(path, &kind));
        if (kind != PATH_FILE) continue;
        t->chat_template = path;
        return chat_use(t->tok, path);
    }
    return FT_OK;
}

/* A tokenizer beside the adapter is the one it was trained with, added tokens included. */
static ft_status open_tokenizer(tool_model *t, const char *path, const char *adapter, bool needed)
{
    bool has;
    if (adapter) return tok_open_over(&t->tok, adapter, path);
    FT_TRY(has_tokenizer(t, path, &has));
    return needed || has ? tok_open(&t->tok, path) : FT_OK;
}

/* Codes of the base that an adapter was trained on, by the config that `train` leaves beside it: with other numbers under it
 * the adapter computes something else, a little. NULL: none, or not known. */
static ft_status trained_codes(const tool_model *t, const char *adapter, const char **type)
{
    js_doc d = {0};
    char *text = NULL;
    size_t len;
    const char *path = path_join(t->mem, adapter, "config.resolved.json");
    *type = NULL;
    if (!path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    ft_status rc = file_read(&text, &len, path, (size_t)16 << 20);
    if (rc == FT_OK) rc = js_parse(&d, text, len, path, 1, JS_NO_POSITIONS, FT_EDATA);
    const cJSON *v = js_get(js_get(js_get(d.root, "model"), "quantization"), "type");
    if (rc == FT_OK && cJSON_IsString(v)) *type = arena_str(t->mem, v->valuestring);
    js_close(&d);
    ft_free(text);
    if (rc == FT_EMEM) return rc;
    ft_error_clear(); /* a note of the run, no part of the adapter */
    return FT_OK;
}

static ft_status compare_base(const tool_model *t, const char *adapter)
{
    const char *type;
    str_buf path = {0};
    FT_TRY(trained_codes(t, adapter, &type));
    const bool before = ft_error_starved();
    str_shell(&path, t->m->path, true);
    if (type && !t->m->has_blocks && !path.failed)
        log_warn("%s: was trained on its base in %s, and %s is not quantised: it computes a little "
                 "else than in training; `ft convert %s --type %s --out FOLDER` makes the base "
                 "that it was trained on",
                 ft_shows(adapter), ft_shows(type), ft_shows(t->m->path), path.data,
                 ft_shows(type));
    str_free(&path);
    ft_error_forget_since(before);
    return FT_OK;
}

static ft_status open_adapters(tool_model *t, const pe_use *use, int n)
{
    for (int i = 0; i < n; i++) {
        int64_t rows;
        FT_TRY(compare_base(t, use[i].dir));
        FT_TRY(pe_adapter_vocabulary(use[i].dir, t->m, &rows));
        FT_TRY(model_resize_vocabulary(t->m, rows));
    }
    return n > 0 ? pe_open_adapters(&t->adapter, t->m, use, n) : FT_OK;
}

/* The first adapter that has a tokenizer beside it says how text is read. */
static ft_status with_tokenizer(const pe_use *use, int n, const char **dir)
{
    *dir = NULL;
    for (int i = 0; i < n && !*dir; i++) {
        bool has;
        FT_TRY(tok_in_folder(use[i].dir, &has));
        if (has) *dir = use[i].dir;
    }
    return FT_OK;
}

/* An adapter of a sequence classifier brings the head to a language model. */
static ft_status what_end(const pe_use *use, int n, unsigned how, model_end *end)
{
    bool scores = false;
    for (int i = 0; i < n && !scores; i++) FT_TRY(pe_adapter_scores(use[i].dir, &scores));
    if (!(how & (TOOL_ANY | TOOL_REWARD)))
        *end = MODEL_TOKENS;
    else if (scores)
        *end = MODEL_NEW_REWARD;
    else
        *end = how & TOOL_REWARD ? MODEL_REWARD : MODEL_ANY;
    return FT_OK;
}

/* The head is a file's, not one that was drawn; texts end as they did in training. */
static ft_status check_head(tool_model *t)
{
    const model *m = t->m;
    const bool brought = t->adapter && t->adapter->over.own[m->head->w->index];
    FT_CHECK(
        !m->new_head || brought, FT_EDATA,
        "%s: tensor \"%s\" is missing, in the adapter too: there is nothing that gives a reward",
        ft_shows(m->path), m->head->w->name);
    if (m->scores && brought && t->tok) model_pad_with(t->m, tok_pad(t->tok), tok_eos(t->tok));
    return FT_OK;
}

static ft_status open_parts(tool_model *t, const char *path, const pe_use *use, int n, unsigned how)
{
    if (!path) {
        FT_CHECK(n > 0, FT_EUSAGE, "no model given; use --model PATH");
        FT_TRY(tool_adapter_base(use->dir, t->mem, &path));
    }
    bool adapter;
    const char *beside;
    FT_TRY(io_is_adapter_alone(path, &adapter));
    FT_CHECK(!adapter, FT_EUSAGE,
             "%s: is an adapter, not a model; give it with --adapter (its base is found by itself)",
             ft_shows(path));
    model_options mo = {.path = path};
    FT_TRY(what_end(use, n, how, &mo.end));
    const size_t before = ft_rss();
    FT_TRY(model_open(&t->m, &mo));
    FT_TRY(with_tokenizer(use, n, &beside));
    FT_TRY(open_tokenizer(t, path, beside, how & TOOL_TOKENIZER));
    FT_TRY(take_template(t, use, n));
    const size_t now = ft_rss(), weights = io_weights_rss(&t->m->weights);
    if (now > before + weights) t->opened = now - before - weights;
    FT_TRY(open_adapters(t, use, n));
    FT_TRY(check_head(t));
    nn_overlay *over = t->adapter ? &t->adapter->over : &t->plain;
    FT_TRY(pe_qat_open(&t->qat, n > 0 ? use->dir : path, t->m, over));
    t->inf = (inf_ctx){.m = t->m, .over = t->adapter || t->qat ? over : NULL};
    t->plan.values = (t->adapter ? pe_values_bytes(t->adapter) : 0) + pe_qat_bytes(t->qat);
    t->inf.plan = &t->plan;
    return ag_open(&t->inf.tape, SIZE_MAX / 4);
}

ft_status tool_open_adapters(tool_model **out, const char *model_path, const pe_use *use, int n,
                             unsigned how, const char *precision)
{
    *out = NULL;
    tool_model *t = ft_alloc(1, sizeof *t);
    if (!t) return FT_EMEM;
    ft_status rc = arena_open(&t->mem, "tokens of a pass", (size_t)1 << 34);
    if (rc == FT_OK) rc = open_parts(t, model_path, use, n, how);
    if (rc == FT_OK) t->inf.tape->precision = kn_precision_of(precision ? precision : "f32");
    if (rc != FT_OK)
        tool_close(t);
    else
        *out = t;
    return rc;
}

ft_status tool_open(tool_model **out, const char *model_path, const char *adapter, unsigned how,
                    const char *precision)
{
    const pe_use use = {.dir = adapter, .scale = 1.0};
    return tool_open_adapters(out, model_path, &use, adapter != NULL, how, precision);
}

/* "DIR" or "DIR=SCALE": a number behind the last '=' is a scale. */
ft_status tool_adapter_use(const char *text, arena *mem, pe_use *out)
{
    const char *equals = strrchr(text, '=');
    char *end = NULL;
    double scale = equals ? strtod(equals + 1, &end) : 1.0;
    bool scaled = equals && equals[1] && !*end;
    FT_CHECK(!scaled || isfinite(scale), FT_EUSAGE, "--adapter: \"%s\": \"%s\" must be finite",
             ft_shows(text), ft_shows(equals + 1));
    *out = (pe_use){.dir = arena_strn(mem, text, scaled ? (size_t)(equals - text) : strlen(text)),
                    .scale = scaled ? scale : 1.0};
    if (!out->dir) return FT_EMEM;
    FT_CHECK(out->dir[0], FT_EUSAGE, "--adapter: \"%s\" names no folder", ft_shows(text));
    return FT_OK;
}

ft_status tool_adapter_uses(const char *const *text, int n, arena *mem, pe_use **out)
{
    *out = arena_get(mem, ((size_t)n + 1) * sizeof **out);
    if (!*out) return FT_EMEM;
    for (int i = 0; i < n; i++) FT_TRY(tool_adapter_use(text[i], mem, &(*out)[i]));
    return FT_OK;
}

void tool_close(tool_model *t)
{
    if (!t) return;
    ag_close(t->inf.tape);
    if (t->chat) chat_close(t->chat);
    if (t->adapter) pe_close(t->adapter);
    pe_qat_close(t->qat);
    if (t->tok) tok_close(t->tok);
    if (t->m) model_close(t->m);
    arena_close(t->mem);
    ft_free(t);
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

ft_status tool_decode(const tool_model *t, const int32_t *id, int64_t n, str_buf *out)
{
    tok_ids known = {0};
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < n && rc == FT_OK; i++) {
        if (tok_text(t->tok, id[i])) rc = tok_ids_push(&known, id[i]);
    }
    if (rc == FT_OK) rc = tok_decode(t->tok, known.id, known.n, out);
    tok_ids_free(&known);
    return rc;
}

static ft_status open_chat(tool_model *t)
{
    FT_CHECK(t->tok, FT_EDATA, "%s: the model has no tokenizer", t->m->path);
    return t->chat ? FT_OK : chat_open(&t->chat, t->tok);
}

ft_status tool_use_chat(tool_model *t, const char *given)
{
    if (t->chat) chat_close(t->chat);
    t->chat = NULL;
    t->chat_end = NULL;
    if (!given) given = t->chat_template;
    return t->tok || given ? chat_use(t->tok, given) : FT_OK;
}

ft_status tool_chat(tool_model *t, const chat **out)
{
    int n = 0;
    if (t->tok && !t->chat && tok_chat_templates(t->tok, &n)) FT_TRY(chat_open(&t->chat, t->tok));
    *out = t->chat;
    return FT_OK;
}

ft_status tool_chat_text(tool_model *t, const chat_input *in, str_buf *out)
{
    chat_input with_prompt = *in;
    with_prompt.add_generation_prompt = true;
    FT_TRY(open_chat(t));
    return chat_render(t->chat, &with_prompt, out, NULL);
}

ft_status tool_chat_ids(tool_model *t, const chat_input *in, tok_ids *out)
{
    str_buf text = {0};
    ft_status rc = tool_chat_text(t, in, &text);
    if (rc == FT_OK) rc = tok_encode(t->tok, text.data ? text.data : "", text.len, false, out);
    str_free(&text);
    return rc;
}

/* Is it, or does it begin with, a token that ends an answer by itself? */
static ft_status ends_by_token(const tool_model *t, const char *text, bool *out)
{
    int n_stop;
    const int32_t *stop = tok_stops(t->tok, &n_stop);
    tok_ids ids = {0};
    ft_status rc = tok_encode(t->tok, text, strlen(text), false, &ids);
    *out = false;
    for (int i = 0; i < n_stop && ids.n > 0; i++) *out = *out || stop[i] == ids.id[0];
    tok_ids_free(&ids);
    return rc;
}

/* What the template puts behind an assistant's words, without the white space around it. */
static ft_status end_of_turn(tool_model *t, str_buf *text, char **end)
{
    static const char said[] = "Answer";
    static const char talk[] = "[{\"role\":\"user\",\"content\":\"Question\"},"
                               "{\"role\":\"assistant\",\"content\":\"Answer\"}]";
    js_doc d;
    char *at = NULL;
    *end = NULL;
    FT_TRY(js_parse(&d, talk, sizeof talk - 1, "", 1, JS_NO_POSITIONS, FT_EINTERNAL));
    ft_status rc = chat_render(t->chat, &(chat_input){.messages = d.root}, text, NULL);
    js_close(&d);
    if (rc == FT_EDATA) { /* a template that wants other messages: told where it is used */
        ft_error_clear();
        return FT_OK;
    }
    FT_TRY(rc);
    for (char *p = text->data; p && (p = strstr(p, said)); p++) at = p;
    if (!at) return FT_OK;
    at += strlen(said);
    at += strspn(at, " \t\r\n");
    size_t n = strlen(at);
    while (n > 0 && strchr(" \t\r\n", at[n - 1])) n--;
    at[n] = '\0';
    if (n > 0) *end = at;
    return FT_OK;
}

ft_status tool_chat_end(tool_model *t, const char **end)
{
    str_buf text = {0};
    char *found = NULL;
    bool token = false;
    FT_TRY(open_chat(t));
    if (!t->chat_end) {
        ft_status rc = end_of_turn(t, &text, &found);
        if (rc == FT_OK && found) rc = ends_by_token(t, found, &token);
        if (rc == FT_OK) t->chat_end = arena_str(t->mem, found && !token ? found : "");
        str_free(&text);
        FT_TRY(rc);
        if (!t->chat_end) return FT_EMEM;
    }
    *end = t->chat_end[0] ? t->chat_end : NULL;
    return FT_OK;
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

ft_status tool_encode_apart(const tool_model *t, const char *context, const char *continuation,
                            tok_ids *out, int64_t *from)
{
    tok_ids head = {0};
    size_t n = strlen(context);
    FT_TRY(tool_encode_pair(t, context, n, continuation, strlen(continuation), out, from));
    if (n == 0) return FT_OK;
    ft_status rc = tool_encode(t, context, rstrip_len(context, n), &head);
    if (rc == FT_OK && head.n == *from && head.n > 0 && head.n <= out->n)
        memcpy(out->id, head.id, (size_t)head.n * sizeof *head.id);
    tok_ids_free(&head);
    return rc;
}

ft_status tool_cut_left(tool_model *t, const js_doc *d, tok_ids *ids, int64_t *from)
{
    int64_t room = t->m->d.max_position - nn_virtual(t->inf.over) + 1, extra = ids->n - room;
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
