/* chat_mask.c – conversations to tokens, and which of them are the assistant's.
 *
 * Most published templates mark nothing, so the turns are found by rendering prefixes of the conversation and
 * comparing: a turn begins where the prefix with the generation prompt ends, and ends where the prefix that
 * includes it ends. Some templates render a turn in another way once it is no longer the last one (reasoning is
 * dropped from history); there, the text of the turn is changed and the renderings are compared instead. When
 * neither says where a turn stands the sample is refused: a wrong mask trains silently on the wrong tokens. */
#include "chat_turns.h"

#include <string.h>

static size_t common(const str_buf *a, const str_buf *b)
{
    size_t n = a->len < b->len ? a->len : b->len, i = 0;
    while (i < n && a->data[i] == b->data[i]) i++;
    while (i > 0 && i < a->len && ((unsigned char)a->data[i] & 0xC0) == 0x80) i--;
    return i;
}

static bool starts(const str_buf *full, const str_buf *with)
{
    return with->len <= full->len && (!with->len || !memcmp(full->data, with->data, with->len));
}

static size_t find_text(const str_buf *in, size_t from, const char *s)
{
    const char *hit = str_find(in, from, s, strlen(s));
    return hit ? (size_t)(hit - in->data) : SIZE_MAX;
}

/* The same where nothing but white space stands before it. */
static size_t behind_space(const str_buf *in, size_t from, const char *s)
{
    const size_t n = strlen(s);
    for (; from + n <= in->len; from++) {
        if (memcmp(in->data + from, s, n) == 0) return from;
        if (!strchr(" \t\r\n", in->data[from])) break;
    }
    return SIZE_MAX;
}

/* After the text that ends at `from`: the end of the turn's mark, or `from` when none follows directly
 * (anywhere: none before `limit`). */
static size_t through_mark(turns *t, size_t from, bool anywhere, size_t limit)
{
    const tok_tokenizer *tok = t->it->d->tok;
    size_t best = SIZE_MAX, best_end = from;
    int n;
    const int32_t *stops = tok_stops(tok, &n);
    for (int i = -1; i < n; i++) {
        int32_t id = i < 0 ? tok_eos(tok) : stops[i];
        const char *s = id >= 0 ? tok_text(tok, id) : NULL;
        if (!s || !*s) continue;
        size_t at = anywhere ? find_text(&t->full, from, s) : behind_space(&t->full, from, s);
        if (at < best && at < limit) {
            best = at;
            best_end = at + strlen(s);
        }
    }
    return best_end;
}

/* Begin (before) or end of the content of message i in the whole rendering. */
static bool by_marking(turns *t, int i, const cJSON *message, bool before, size_t *out)
{
    str_buf other = {0};
    cJSON *changed = data_turns_marked(t, message, before);
    bool found = false;
    if (changed && data_turns_render(t, t->n, false, i, changed, &other)) {
        size_t at = common(&t->full, &other);
        const char *mark = str_find(&other, at, TURNS_MARK, strlen(TURNS_MARK));
        size_t q = mark ? (size_t)(mark - other.data) : 0, rest = q + strlen(TURNS_MARK);
        for (size_t k = at; mark && k < q; k++) { /* only trimmed white space lies between */
            if (!strchr(" \t\r\n", other.data[k])) mark = NULL;
        }
        if (mark) {
            while (before && rest < other.len && at < t->full.len &&
                   other.len - rest > t->full.len - at)
                rest++;
            found = other.len - rest == t->full.len - at &&
                    !memcmp(other.data + rest, t->full.data + at, other.len - rest);
        }
        *out = at;
    }
    cJSON_Delete(changed);
    str_free(&other);
    return found;
}

/* The last place before the end of the content where the text of the generation prompt stands. */
static bool by_prompt_text(turns *t, int i, const cJSON *message, const str_buf *bare,
                           const str_buf *prompt, size_t *out)
{
    size_t end;
    if (!starts(prompt, bare) || prompt->len == bare->len) return false;
    if (!by_marking(t, i, message, false, &end)) return false;
    size_t n = prompt->len - bare->len;
    for (size_t at = end + 1; at-- > n;) {
        if (memcmp(t->full.data + at - n, prompt->data + bare->len, n) != 0) continue;
        *out = at;
        return true;
    }
    return false;
}

static bool turn_begin(turns *t, int i, const cJSON *message, size_t *out)
{
    str_buf prompt = {0}, bare = {0};
    bool found = false;
    if (i > 0 && data_turns_render(t, i, true, 0, NULL, &prompt)) {
        found = starts(&t->full, &prompt);
        *out = prompt.len;
        if (!found && data_turns_render(t, i, false, 0, NULL, &bare) && starts(&t->full, &bare)) {
            *out = common(&t->full, &prompt); /* the prompt goes on otherwise than history does */
            if (*out < bare.len) *out = bare.len;
            found = true;
        }
    }
    found = found || by_marking(t, i, message, true, out) ||
            (prompt.len && by_prompt_text(t, i, message, &bare, &prompt, out));
    str_free(&prompt);
    str_free(&bare);
    return found;
}

static bool turn_end(turns *t, int i, const cJSON *message, size_t begin, size_t *out)
{
    str_buf upto = {0};
    bool found = false;
    if (i + 1 == t->n) {
        *out = t->full.len;
        return true;
    }
    found = data_turns_render(t, i + 1, false, 0, NULL, &upto) && starts(&t->full, &upto) &&
            upto.len > begin;
    *out = upto.len;
    str_free(&upto);
    if (found) return true;
    bool calls = js_get(message, "tool_calls") != NULL;
    size_t limit = SIZE_MAX; /* the end of this turn stands before the next message shown */
    const cJSON *next = calls ? message->next : NULL;
    for (int j = i + 1; next && !by_marking(t, j, next, true, &limit); j++) {
        limit = SIZE_MAX;
        next = next->next;
    }
    if (by_marking(t, i, message, false, out) && *out >= begin) {
        *out = through_mark(t, *out, calls, limit);
        return true;
    }
    *out = through_mark(t, begin, true, limit);
    return calls && *out > begin;
}

/* *again: what was known of some turns turned out wrong, and is forgotten. */
static ft_status try_turns(turns *t, int *count, bool *again)
{
    int i = 0;
    size_t last = 0;
    *count = 0;
    *again = false;
    for (const cJSON *m = t->messages->child; m; m = m->next, i++) {
        size_t begin = 0, end = 0;
        if (!data_turns_supervised(t, i, m)) continue;
        bool known = data_many_span(t, i, m, &begin, &end);
        bool found = known || (turn_begin(t, i, m, &begin) && turn_end(t, i, m, begin, &end));
        FT_TRY(data_turns_rc(t));
        if (!found || begin < last || end <= begin) {
            return data_fail(
                t->it, t->node, NULL,
                "cannot tell where assistant turn %d stands in the rendered text: the chat "
                "template "
                "writes it in another way inside a longer conversation; use a template with "
                "{%% generation %%} blocks, split the conversation, or set "
                "data.assistant_only_loss false",
                i + 1);
        }
        t->span[(*count)++] = (tpl_span){(int64_t)begin, (int64_t)end};
        last = end;
        *again = !known && !data_many_learn(t, i, m, begin, end);
        if (*again) break;
    }
    return FT_OK;
}

static ft_status find_turns(turns *t, int *count)
{
    bool again;
    ft_status rc = data_many_open(t);
    do {
        if (rc == FT_OK) rc = try_turns(t, count, &again);
    } while (rc == FT_OK && again);
    data_many_close(t);
    return rc;
}

/* --- bytes to tokens ------------------------------------------------------------------------------------------ */
/* What is known of the tokens up to a place that the search has come to. */
typedef struct walk {
    const str_buf *text;
    int64_t next;          /* tokens before it are passed */
    int64_t token, begins; /* the last special token passed, and where it stands */
    size_t seen;           /* special tokens are looked for from here on */
    size_t ahead;          /* where number `next` stands, 0: not looked for */
    int misses;
} walk;

enum { MISSES = 16 }; /* special tokens whose text does not stand there: normalizers change it */

/* Goes to the last special token at or before byte `at`: they cut a text, so what is in front of one says nothing of the
 * tokens from there on. */
static void to_special(const data_item *it, walk *w, int64_t at)
{
    for (; w->next < it->ids.n && w->misses < MISSES; w->next++, w->ahead = 0) {
        const tok_tokenizer *tok = it->d->tok;
        int32_t id = it->ids.id[w->next];
        const char *s = tok_is_special(tok, id) ? tok_text(tok, id) : NULL;
        if (!s || !*s) continue;
        if (!w->ahead) w->ahead = find_text(w->text, w->seen, s) + 1;
        if (!w->ahead) {
            w->misses++;
            continue;
        }
        if (w->ahead - 1 > (size_t)at) return;
        w->token = w->next;
        w->begins = (int64_t)w->ahead - 1;
        w->seen = w->ahead - 1 + strlen(s);
    }
}

/* Tokens that end at or before byte `at`: those that the text up to there has in common with the whole. */
static ft_status tokens_before(turns *t, walk *w, int64_t at, int64_t *out)
{
    const data_item *it = t->it;
    tok_match head;
    to_special(it, w, at);
    if (!data_turns_spend(t, (size_t)(at - w->begins))) return data_turns_rc(t);
    const tok_ids with = {.id = it->ids.id + w->token, .n = it->ids.n - w->token};
    FT_TRY(tok_compare(it->d->tok, w->text->data + w->begins, (size_t)(at - w->begins), false,
                       &with, &head));
    *out = w->token + head.same;
    return FT_OK;
}

/* The tokens of spans, which come in the order of the text, while the places of tokens are met one by one. */
typedef struct finder {
    data_item *it;
    const tpl_span *span;
    tpl_span *token; /* [count] of each; n where none was met */
    int count, begun, ended;
    bool merged;
} finder;

static void meet(void *ctx, int64_t k, int64_t from, int64_t to)
{
    finder *f = ctx;
    for (; f->begun < f->count && to > f->span[f->begun].from; f->begun++) {
        f->token[f->begun].from = k;
        f->merged = f->merged || from < f->span[f->begun].from;
    }
    for (; f->ended < f->begun && from >= f->span[f->ended].to; f->ended++)
        f->token[f->ended].to = k;
}

/* By the places of tokens, or where they do not spell the text by tokenizing what stands before each end. */
static ft_status spans_tokens(turns *t, int count, tpl_span *token)
{
    data_item *it = t->it;
    finder f = {.it = it, .span = t->span, .token = token, .count = count};
    bool exact = false;
    for (int i = 0; i < count; i++) token[i] = (tpl_span){it->ids.n, it->ids.n};
    FT_TRY(data_offsets(it->d->tok, t->full.data, t->full.len, &it->ids, meet, &f, &exact));
    if (exact) it->merged = it->merged || f.merged;
    walk w = {.text = &t->full};
    for (int i = 0; !exact && i < count; i++) {
        FT_TRY(tokens_before(t, &w, t->span[i].from, &token[i].from));
        FT_TRY(tokens_before(t, &w, t->span[i].to, &token[i].to));
    }
    return FT_OK;
}

static bool white(data_item *it, int64_t k)
{
    str_buf s = {0};
    if (it->rc == FT_OK) it->rc = tok_decode_bytes(it->d->tok, &it->ids.id[k], 1, &s);
    bool yes = it->rc == FT_OK;
    for (size_t i = 0; i < s.len; i++) yes = yes && strchr(" \t\r\n", s.data[i]);
    str_free(&s);
    return yes && !tok_is_special(it->d->tok, it->ids.id[k]);
}

static bool stops(const tok_tokenizer *tok, int32_t id)
{
    int n;
    const int32_t *stop = tok_stops(tok, &n);
    for (int i = 0; i < n; i++) {
        if (stop[i] == id) return true;
    }
    return id == tok_eos(tok);
}

/* The turn ends with its first token that stops a generation (or else its last special one): white space and
 * whatever the template writes after it is not the model's. */
static int64_t turn_tokens(data_item *it, int64_t from, int64_t to)
{
    const tok_tokenizer *tok = it->d->tok;
    int64_t k = to, first = to;
    bool found = false;
    for (; k > from && (white(it, k - 1) || data_ends_turn(tok, it->ids.id[k - 1])); k--) {
        bool ends = data_ends_turn(tok, it->ids.id[k - 1]);
        if ((ends && !found) || stops(tok, it->ids.id[k - 1])) first = k;
        found = found || ends;
    }
    return first;
}

static ft_status mask_tokens(turns *t, int count)
{
    data_item *it = t->it;
    tpl_span *token = ft_alloc((size_t)count + 1, sizeof *token);
    if (!token) return FT_EMEM;
    ft_status rc = spans_tokens(t, count, token);
    for (int i = 0; rc == FT_OK && i < count; i++) {
        const int64_t to = turn_tokens(it, token[i].from, token[i].to);
        rc = it->rc != FT_OK ? it->rc : data_learn(it, token[i].from, to);
    }
    ft_free(token);
    return rc;
}

/* A conversation that ends with the assistant must end with a token that says so. */
static ft_status add_end(turns *t, bool supervised)
{
    data_item *it = t->it;
    const cJSON *last = cJSON_GetArrayItem(t->messages, t->n - 1);
    int64_t k = it->ids.n;
    int32_t eos = tok_eos(it->d->tok);
    while (k > 0 && white(it, k - 1)) k--;
    FT_TRY(it->rc);
    if (!data_turns_assistant(last) || eos < 0 ||
        (k > 0 && data_ends_turn(it->d->tok, it->ids.id[k - 1]))) {
        return FT_OK;
    }
    it->no_end = true;
    FT_TRY(tok_ids_push(&it->ids, eos));
    return supervised ? data_learn(it, it->ids.n - 1, it->ids.n) : FT_OK;
}

static ft_status make_mask(turns *t, const tpl_spans *marked)
{
    data_item *it = t->it;
    int count = 0;
    bool weights = t->first > 0;
    for (const cJSON *m = t->messages->child; m; m = m->next)
        weights = weights || data_turns_unweighted(m);
    if (!it->d->assistant_only) return data_learn(it, 0, it->ids.n);
    if (marked->n && !weights) {
        t->span = ft_alloc((size_t)marked->n, sizeof *t->span);
        if (!t->span) return FT_EMEM;
        for (; count < marked->n; count++) {
            t->span[count] = marked->v[count];
            size_t end = through_mark(t, (size_t)marked->v[count].to, false, SIZE_MAX);
            size_t gap = (size_t)marked->v[count].to;
            if (end > gap && !strchr(" \t\r\n", t->full.data[gap]))
                t->span[count].to = (int64_t)end;
        }
    } else {
        t->span = ft_alloc((size_t)t->n, sizeof *t->span);
        if (!t->span) return FT_EMEM;
        FT_TRY(find_turns(t, &count));
    }
    return mask_tokens(t, count);
}

/* The message of a failed rendering, with the place of the record in front. */
static ft_status render_fail(const data_item *it, const cJSON *node, ft_status rc)
{
    if (rc != FT_EDATA) return rc;
    char *why = ft_strdup(ft_error());
    rc = why ? data_fail(it, node, NULL, "%s", why) : FT_EMEM;
    ft_free(why);
    return rc;
}

ft_status data_render_chat(data_item *it, const cJSON *node, const chat_input *in, int first)
{
    turns t = {.it = it,
               .node = node,
               .messages = in->messages,
               .in = in,
               .first = first,
               .n = cJSON_GetArraySize(in->messages)};
    tpl_spans marked = {0};
    ft_status rc;
    if (!it->d->chat) {
        return data_fail(it, node, NULL,
                         "the model has no chat template, so conversations cannot be rendered; add "
                         "chat_template.jinja to its folder or use the completion format");
    }
    rc = chat_render(it->d->chat, in, &t.full, &marked);
    if (rc != FT_OK) rc = render_fail(it, node, rc);
    it->chat = true;
    if (rc == FT_OK) rc = data_turns_lost(&t);
    if (rc != FT_OK || (it->lost && it->d->on_loss == DATA_LOSS_DROP)) goto out;
    if (rc == FT_OK) rc = tok_encode(it->d->tok, t.full.data, t.full.len, false, &it->ids);
    if (rc == FT_OK) rc = make_mask(&t, &marked);
    if (rc == FT_OK) {
        const cJSON *last = cJSON_GetArrayItem(in->messages, t.n - 1);
        rc = add_end(&t, !it->d->assistant_only || !data_turns_unweighted(last));
    }
out:
    ft_free(marked.v);
    ft_free(t.span);
    str_free(&t.full);
    return rc;
}
