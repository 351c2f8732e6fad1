/* chat_turns.c – a conversation rendered in part or with a turn changed, and which of its turns are learned. */
#include "chat_turns.h"

#include <string.h>

/* Renderings that find turns or what is lost may take so many bytes, or so many times the conversation. */
enum { BYTES_FREE = 1 << 28, TIMES_FREE = 128, MESSAGE = 256 };

/* Only templates that write each turn in its own way come to the limit. */
bool data_turns_spend(turns *t, size_t bytes)
{
    size_t whole = t->full.len + (size_t)t->n * MESSAGE;
    size_t limit = whole > BYTES_FREE / TIMES_FREE ? whole * TIMES_FREE : BYTES_FREE;
    t->rendered += bytes;
    if (t->rendered <= limit) return true;
    t->rc = data_fail(t->it, t->node, NULL,
                      "a conversation of %d turns takes too long with this chat template, which "
                      "writes them otherwise as it gets longer: split it, or use a template with "
                      "{%% generation %%} blocks",
                      t->n);
    return false;
}

bool data_turns_render(turns *t, int n, bool prompt, int at, const cJSON *changed, str_buf *out)
{
    cJSON *list = cJSON_CreateArray();
    const cJSON *m = t->messages->child;
    bool ok = list != NULL;
    str_clear(out);
    if (t->rc != FT_OK) ok = false;
    for (int i = 0; ok && i < n && m; i++, m = m->next) {
        ok = cJSON_AddItemReferenceToArray(list,
                                           (cJSON *)(uintptr_t)(changed && i == at ? changed : m));
    }
    chat_input in = *t->in;
    in.messages = list;
    in.add_generation_prompt = prompt;
    ft_status rc = ok ? chat_render(t->it->d->chat, &in, out, NULL) : FT_EMEM;
    if (t->rc == FT_OK && rc != FT_OK && rc != FT_EDATA) t->rc = rc;
    cJSON_Delete(list);
    return rc == FT_OK && data_turns_spend(t, out->len + (size_t)n * MESSAGE);
}

ft_status data_turns_rc(const turns *t)
{
    return t->rc == FT_EMEM ? ft_fail(FT_EMEM, "out of memory") : t->rc;
}

cJSON *data_turns_with(const cJSON *message, str_buf *content)
{
    char *fit = content->failed ? NULL : ft_realloc(content->data, content->len + 1, 1);
    cJSON *copy = data_turn_refer(message), *text = fit ? cJSON_CreateStringReference(fit) : NULL;
    if (fit) content->data = fit;
    if (text) {
        text->type &= ~cJSON_IsReference; /* its own from here on */
        *content = (str_buf){0};
    }
    str_free(content);
    if (js_put(copy, "content", text)) return copy;
    cJSON_Delete(copy);
    return NULL;
}

cJSON *data_turns_marked(turns *t, const cJSON *message, bool before)
{
    const cJSON *content = js_get(message, "content");
    str_buf s = {0};
    if (!cJSON_IsString(content)) return NULL;
    if (before) str_adds(&s, TURNS_MARK);
    str_adds(&s, content->valuestring);
    if (!before) str_adds(&s, TURNS_MARK);
    cJSON *copy = data_turns_with(message, &s);
    if (!copy) t->rc = FT_EMEM;
    return copy;
}

bool data_turns_unweighted(const cJSON *m)
{
    const cJSON *w = js_get(m, "weight"), *lw = js_get(m, "loss_weight");
    return (cJSON_IsNumber(w) && w->valuedouble == 0) ||
           (cJSON_IsNumber(lw) && lw->valuedouble == 0) || cJSON_IsFalse(js_get(m, "train"));
}

bool data_turns_assistant(const cJSON *m)
{
    const cJSON *role = js_get(m, "role");
    return cJSON_IsString(role) &&
           (!strcmp(role->valuestring, "assistant") || !strcmp(role->valuestring, "model"));
}

bool data_turns_supervised(const turns *t, int i, const cJSON *m)
{
    if (!t->it->d->assistant_only) return true;
    return data_turns_assistant(m) && i >= t->first && !data_turns_unweighted(m);
}
