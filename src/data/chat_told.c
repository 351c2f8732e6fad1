/* chat_told.c – which reasoning and which calls of a conversation its rendering shows, told for many turns at once.
 *
 * Each of them is told by changing it and rendering again (chat_lost.c), which takes turns times text. So all are changed in
 * one rendering, to marks of their own: what has its mark there is printed. And all reasoning that has none is taken away in
 * another: where nothing changes, none of it is. What neither tells is looked at one by one. */
#include "chat_turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const data_turns_reasoning[TURNS_REASONING] = {"reasoning_content", "reasoning",
                                                           "thinking"};
enum { FEW = 8 };

struct turns_told {
    int64_t *
        at; /* [turns + 1] marks of a turn: its reasoning by key, then name and arguments of its calls */
    bool *seen; /* [marks] */
    bool none;  /* reasoning that is not seen, but the last turn's, is not printed */
};

bool data_turns_reasons(const cJSON *m, int key)
{
    const char *s = cJSON_GetStringValue(js_get(m, data_turns_reasoning[key]));
    return s && s[strspn(s, " \t\r\n")];
}

static int reasons(const cJSON *m)
{
    int n = 0;
    for (int k = 0; k < TURNS_REASONING; k++) n += data_turns_reasons(m, k);
    return n;
}

static int calls(const cJSON *m)
{
    const cJSON *v = js_get(m, "tool_calls");
    return cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0;
}

/* Adds mark `id` to the object in place of `key`, as a text or a member. */
static bool mark_member(cJSON *in, const char *key, int64_t id)
{
    char text[48];
    const cJSON *old = js_get(in, key);
    if (!cJSON_IsObject(in) || !old) return true;
    snprintf(text, sizeof text, TURNS_MARK "%lld" TURNS_MARK, (long long)id);
    cJSON *new = cJSON_IsString(old) ? cJSON_CreateString(text) : cJSON_CreateObject();
    if (new && !cJSON_IsString(old) && !cJSON_AddStringToObject(new, text, "")) {
        cJSON_Delete(new);
        new = NULL;
    }
    return js_put(in, key, new);
}

/* The message with all its marks, or (gone) without the reasoning that is not seen. */
static cJSON *changed(const turns_told *k, int i, const cJSON *m, bool gone)
{
    cJSON *copy = cJSON_Duplicate(m, true), *call;
    int64_t id = k->at[i];
    bool ok = copy != NULL;
    for (int r = 0; ok && r < TURNS_REASONING; r++) {
        if (!data_turns_reasons(m, r)) continue;
        if (!gone) ok = mark_member(copy, data_turns_reasoning[r], id);
        if (gone && !k->seen[id])
            cJSON_DeleteItemFromObjectCaseSensitive(copy, data_turns_reasoning[r]);
        id++;
    }
    cJSON *list = gone ? NULL : cJSON_GetObjectItemCaseSensitive(copy, "tool_calls");
    if (!cJSON_IsArray(list)) list = NULL;
    cJSON_ArrayForEach(call, list)
    {
        cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
        cJSON *in = cJSON_IsObject(function) ? function : call;
        ok = ok && mark_member(in, "name", id) && mark_member(in, "arguments", id + 1);
        id += 2;
    }
    if (ok) return copy;
    cJSON_Delete(copy);
    return NULL;
}

/* false: out of memory (t->rc), or the template refuses it. */
static bool render(turns *t, bool gone, int last, str_buf *out)
{
    turns_told *k = t->told;
    cJSON *list = cJSON_CreateArray();
    const cJSON *m = t->messages->child;
    bool ok = list != NULL;
    for (int i = 0; ok && m; i++, m = m->next) {
        bool change = k->at[i + 1] > k->at[i] && !(gone && i == last);
        cJSON *copy = change ? changed(k, i, m, gone) : NULL;
        ok = change ? copy && cJSON_AddItemToArray(list, copy)
                    : cJSON_AddItemReferenceToArray(list, (cJSON *)(uintptr_t)m);
        if (!ok) cJSON_Delete(copy);
    }
    chat_input in = *t->in;
    in.messages = list;
    ft_status rc = ok ? chat_render(t->it->d->chat, &in, out, NULL) : FT_EMEM;
    if (rc != FT_OK && rc != FT_EDATA) t->rc = rc;
    cJSON_Delete(list);
    return rc == FT_OK && data_turns_spend(t, out->len);
}

static void read_marks(turns_told *k, int64_t marks, const str_buf *out)
{
    const size_t n = strlen(TURNS_MARK);
    const char *at = out->data, *end = out->data + out->len;
    while (at && (at = memmem(at, (size_t)(end - at), TURNS_MARK, n))) {
        char *behind;
        long long id = strtoll(at += n, &behind, 10);
        if (behind > at && id >= 0 && id < marks && strncmp(behind, TURNS_MARK, n) == 0)
            k->seen[id] = true;
    }
}

ft_status data_told_open(turns *t, int last)
{
    str_buf out = {0};
    int i = 0, turns_with = 0;
    int64_t marks = 0;
    turns_told *k = t->told = ft_alloc(1, sizeof *k);
    if (!k) return FT_EMEM;
    k->at = ft_alloc((size_t)t->n + 1, sizeof *k->at);
    if (!k->at) return FT_EMEM;
    for (const cJSON *m = t->messages->child; m; m = m->next, i++) {
        bool learned = data_turns_supervised(t, i, m);
        k->at[i] = marks;
        marks += learned ? reasons(m) + 2 * (int64_t)calls(m) : 0;
        turns_with += marks > k->at[i];
    }
    k->at[i] = marks;
    k->seen = ft_alloc((size_t)marks + 1, sizeof *k->seen);
    if (!k->seen) return FT_EMEM;
    if (turns_with <= FEW) return FT_OK;
    if (render(t, false, last, &out)) read_marks(k, marks, &out);
    str_clear(&out);
    if (t->rc == FT_OK && render(t, true, last, &out))
        k->none = out.len == t->full.len && memcmp(out.data, t->full.data, out.len) == 0;
    str_free(&out);
    if (t->rc == FT_OK) ft_error_clear();
    return t->rc;
}

void data_told_close(turns *t)
{
    if (!t->told) return;
    ft_free(t->told->at);
    ft_free(t->told->seen);
    ft_free(t->told);
    t->told = NULL;
}

turns_shown data_told_reasoning(const turns *t, int i, const cJSON *m, int key, bool last)
{
    int64_t id = t->told->at[i];
    for (int r = 0; r < key; r++) id += data_turns_reasons(m, r);
    return t->told->seen[id] ? TURNS_SHOWN : t->told->none && !last ? TURNS_HIDDEN : TURNS_UNKNOWN;
}

bool data_told_call(const turns *t, int i, const cJSON *m, int call, bool arguments)
{
    return t->told->seen[t->told->at[i] + reasons(m) + 2 * (int64_t)call + arguments];
}
