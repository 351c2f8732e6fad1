/* chat_lost.c – what a conversation holds and its rendering does not.
 *
 * A template prints what its author thought of. Where it has no place for calls, a turn that calls a function is rendered
 * as an empty answer, and the model would be trained to answer nothing; where it has none for tools, they are gone. The
 * text of a turn is looked for in the rendering; whether a call is printed is told by changing it: templates write calls in
 * many ways, but one that prints them prints another text then.
 *
 * Templates of reasoning models leave out the reasoning of earlier turns on purpose, as they do when the model answers:
 * that is told, not refused. From the last turn it must not be missing. */
#include "chat_turns.h"

#include <stdio.h>
#include <string.h>

typedef struct text {
    const char *s;
    size_t n;
} text;

static text trimmed(const char *s, size_t n)
{
    while (n && strchr(" \t\r\n", *s)) {
        s++;
        n--;
    }
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    return (text){s, n};
}

static text content_of(const cJSON *m)
{
    const cJSON *c = js_get(m, "content");
    return cJSON_IsString(c) ? trimmed(c->valuestring, strlen(c->valuestring)) : (text){"", 0};
}

/* Moves *at behind the text. */
static bool stands(const turns *t, text x, size_t *at)
{
    const char *hit = str_find(&t->full, *at, x.s, x.n);
    if (hit) *at = (size_t)(hit - t->full.data) + x.n;
    return hit != NULL;
}

/* Printed otherwise than it is written, both ends of it: marks there are printed. */
static bool both_ends_print(turns *t, int i, const cJSON *m)
{
    bool all = true;
    for (int before = 0; all && before < 2; before++) {
        str_buf out = {0};
        cJSON *changed = data_turns_marked(t, m, before == 1);
        all = changed && data_turns_render(t, t->n, false, i, changed, &out) &&
              str_find(&out, 0, TURNS_MARK, strlen(TURNS_MARK));
        cJSON_Delete(changed);
        str_free(&out);
    }
    return all;
}

typedef enum fate { PRINTED, REASONING_LEFT_OUT, LOST } fate;

static fate content_fate(turns *t, int i, const cJSON *m, bool last, size_t *at)
{
    text x = content_of(m), rest = {NULL, 0};
    if (!x.n || stands(t, x, at) || both_ends_print(t, i, m)) return PRINTED;
    for (const char *p = x.s; (p = memmem(p, x.n - (size_t)(p - x.s), "</think>", 8)); p += 8)
        rest = trimmed(p + 8, x.n - (size_t)(p + 8 - x.s));
    if (!last && rest.s && (!rest.n || stands(t, rest, at))) return REASONING_LEFT_OUT;
    return LOST;
}

/* Does the rendering change with this message in place of message i? A template that refuses it looks at it. */
static bool matters(turns *t, int i, const cJSON *changed)
{
    str_buf out = {0};
    bool rendered = data_turns_render(t, t->n, false, i, changed, &out);
    bool same = rendered && out.len == t->full.len &&
                (!out.len || !memcmp(out.data, t->full.data, out.len));
    str_free(&out);
    return !same;
}

static fate reasoning_fate(turns *t, int i, const cJSON *m, bool last)
{
    for (int k = 0; k < TURNS_REASONING; k++) {
        if (!data_turns_reasons(m, k)) continue;
        turns_shown shown = data_told_reasoning(t, i, m, k, last);
        if (shown == TURNS_HIDDEN) return REASONING_LEFT_OUT;
        if (shown == TURNS_SHOWN) continue;
        cJSON *copy = cJSON_Duplicate(m, true);
        if (!copy) {
            t->rc = FT_EMEM;
            return PRINTED;
        }
        cJSON_DeleteItemFromObjectCaseSensitive(copy, data_turns_reasoning[k]);
        bool printed = matters(t, i, copy);
        cJSON_Delete(copy);
        if (!printed) return last ? LOST : REASONING_LEFT_OUT;
    }
    return PRINTED;
}

/* Call number k of the turn with another name, or without its arguments. */
static bool call_matters(turns *t, int i, const cJSON *m, int k, const char *key)
{
    if (data_told_call(t, i, m, k, strcmp(key, "name") != 0)) return true;
    cJSON *copy = cJSON_Duplicate(m, true);
    cJSON *call = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(copy, "tool_calls"), k);
    cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
    cJSON *in = cJSON_IsObject(function) ? function : call;
    const cJSON *old = js_get(in, key);
    bool nothing = copy && (!old || cJSON_IsNull(old) || (!old->child && !cJSON_IsString(old)));
    cJSON *other = cJSON_IsString(old) ? cJSON_CreateString(TURNS_MARK) : cJSON_CreateObject();
    bool yes = nothing;
    if (nothing)
        cJSON_Delete(other);
    else if (js_put(in, key, other))
        yes = matters(t, i, copy);
    else
        t->rc = FT_EMEM;
    cJSON_Delete(copy);
    return yes;
}

static ft_status tell(turns *t, const char *what)
{
    data_item *it = t->it;
    bool error = it->d->on_loss == DATA_LOSS_ERROR;
    ft_status rc = data_fail(it, t->node, NULL, "%s%s", what,
                             error ? "; use a chat template that prints it, or set data.on_loss to "
                                     "\"warn\" or \"drop\""
                                   : "");
    if (error) return rc;
    it->lost = ft_strdup(ft_error());
    ft_error_clear();
    return it->lost ? FT_OK : FT_EMEM;
}

static ft_status turn_lost(turns *t, int i, const cJSON *m, bool last, size_t *at)
{
    char what[300];
    const cJSON *calls = js_get(m, "tool_calls");
    fate f = content_fate(t, i, m, last, at), r = reasoning_fate(t, i, m, last);
    FT_TRY(data_turns_rc(t)); /* then nothing is known */
    t->it->no_reasoning = t->it->no_reasoning || f == REASONING_LEFT_OUT || r == REASONING_LEFT_OUT;
    t->it->empty =
        t->it->empty || (data_turns_assistant(m) && !content_of(m).n && !(calls && calls->child));
    if (f == LOST || r == LOST) {
        const cJSON *c = js_get(m, "content");
        const char *begin = f == LOST && cJSON_IsString(c) ? c->valuestring : "";
        snprintf(what, sizeof what, "turn %d: the chat template does not print %s %s%s%s", i + 1,
                 f == LOST ? "its text" : "its reasoning", *begin ? "(\"" : "",
                 *begin ? ft_show(begin, strlen(begin) < 40 ? strlen(begin) : 40) : "",
                 *begin ? "\")" : "");
        return tell(t, what);
    }
    const cJSON *call = cJSON_IsArray(calls) ? calls->child : NULL;
    for (int k = 0; call && !t->it->lost; k++, call = call->next) {
        const cJSON *function = js_get(call, "function");
        const cJSON *name = js_get(cJSON_IsObject(function) ? function : call, "name");
        if (!cJSON_IsObject(call)) continue;
        bool printed = call_matters(t, i, m, k, "name");
        const bool both = printed && call_matters(t, i, m, k, "arguments");
        FT_TRY(data_turns_rc(t));
        if (both) continue;
        snprintf(what, sizeof what, "turn %d: the chat template does not print %s \"%s\"", i + 1,
                 printed ? "the arguments of its call of" : "its call of",
                 ft_shows(cJSON_IsString(name) ? name->valuestring : "?"));
        FT_TRY(tell(t, what));
    }
    return t->rc;
}

/* The same tools under another name and description. */
static cJSON *other_tools(const cJSON *tools)
{
    static const char *const keys[] = {"name", "description"};
    cJSON *copy = cJSON_Duplicate(tools, true), *tool;
    bool ok = copy != NULL;
    cJSON_ArrayForEach(tool, copy)
    {
        cJSON *f = cJSON_GetObjectItemCaseSensitive(tool, "function");
        if (!cJSON_IsObject(f)) f = tool;
        for (size_t k = 0; ok && k < FT_COUNT_OF(keys); k++) {
            cJSON_DeleteItemFromObjectCaseSensitive(f, keys[k]);
            ok = cJSON_AddStringToObject(f, keys[k], TURNS_MARK) != NULL;
        }
    }
    if (ok) return copy;
    cJSON_Delete(copy);
    return NULL;
}

/* Whether tools are printed is told by changing them: a template may only say that there are some. */
static ft_status tools_lost(turns *t)
{
    const chat_input *in = t->in;
    if (!cJSON_IsArray(in->tools) || !in->tools->child) return FT_OK;
    cJSON *other = other_tools(in->tools);
    if (!other) return FT_EMEM;
    chat_input with = *in;
    with.tools = other;
    t->in = &with;
    bool printed = matters(t, -1, NULL);
    t->in = in;
    cJSON_Delete(other);
    FT_TRY(t->rc);
    return printed ? FT_OK : tell(t, "the chat template never prints the tools of this record");
}

/* What is said to the model and not learned: a system prompt, a question, the answer of a tool. */
static bool is_said(const turns *t, int i, const cJSON *m)
{
    return !data_turns_assistant(m) && !data_turns_supervised(t, i, m) && content_of(m).n > 0;
}

/* The conversation with a mark of its own behind each of these turns. */
static cJSON *all_marked(const turns *t)
{
    cJSON *list = cJSON_CreateArray();
    const cJSON *m = t->messages->child;
    bool ok = list != NULL;
    for (int i = 0; ok && m; i++, m = m->next) {
        if (!is_said(t, i, m)) {
            ok = cJSON_AddItemReferenceToArray(list, (cJSON *)(uintptr_t)m);
            continue;
        }
        str_buf s = {0};
        str_adds(&s, js_get(m, "content")->valuestring);
        str_printf(&s, TURNS_MARK "%d" TURNS_MARK, i);
        cJSON *copy = data_turns_with(m, &s);
        ok = copy && cJSON_AddItemToArray(list, copy);
        if (!ok) cJSON_Delete(copy);
    }
    if (ok) return list;
    cJSON_Delete(list);
    return NULL;
}

/* Names the first of these turns that is not printed. A template that refuses the marks is not asked again. */
static ft_status find_unprinted(turns *t)
{
    str_buf out = {0}, what = {0};
    chat_input in = *t->in;
    cJSON *marked = all_marked(t);
    const cJSON *m = t->messages->child;
    const char *at;
    if (!marked) return FT_EMEM;
    in.messages = marked;
    ft_status rc = chat_render(t->it->d->chat, &in, &out, NULL);
    size_t from = 0;
    for (int i = 0; rc == FT_OK && m && !t->it->unprinted; i++, m = m->next) {
        char mark[40];
        if (!is_said(t, i, m)) continue;
        size_t n = (size_t)snprintf(mark, sizeof mark, TURNS_MARK "%d" TURNS_MARK, i);
        at = str_find(&out, from, mark, n);
        if (at) from = (size_t)(at - out.data) + n;
        if (at || str_find(&out, 0, mark, n) || both_ends_print(t, i, m)) continue;
        const cJSON *role = js_get(m, "role");
        text x = content_of(m);
        str_printf(&what, "turn %d (%s, \"%s\")", i + 1,
                   cJSON_IsString(role) ? ft_shows(role->valuestring) : "?",
                   ft_show(x.s, x.n < 40 ? x.n : 40));
        t->it->unprinted = what.data;
        rc = str_ok(&what);
    }
    cJSON_Delete(marked);
    str_free(&out);
    if (rc == FT_EDATA) {
        ft_error_clear();
        rc = FT_OK;
    }
    return rc == FT_OK ? t->rc : rc;
}

ft_status data_turns_lost(turns *t)
{
    int i = 0, last = -1;
    size_t at = 0;
    for (const cJSON *m = t->messages->child; m; m = m->next, i++)
        if (data_turns_assistant(m)) last = i;
    i = 0;
    ft_status rc = data_told_open(t, last);
    for (const cJSON *m = t->messages->child; rc == FT_OK && m && !t->it->lost; m = m->next, i++)
        if (data_turns_supervised(t, i, m)) rc = turn_lost(t, i, m, i == last, &at);
    data_told_close(t);
    FT_TRY(rc == FT_EMEM ? ft_fail(FT_EMEM, "out of memory") : rc);
    if (!t->it->lost) FT_TRY(tools_lost(t));
    return t->it->lost ? FT_OK : find_unprinted(t);
}
