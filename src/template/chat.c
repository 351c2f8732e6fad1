/* chat.c – a model's chat template applied to messages, as transformers' apply_chat_template does it. */
#include "ft/template.h"

#include <string.h>

struct chat {
    tpl_template *tpl;
    cJSON *special; /* bos_token … as strings */
};

static const char *text_of(const tok_tokenizer *t, int32_t id)
{
    return id >= 0 ? tok_text(t, id) : NULL;
}

static bool add_text(cJSON *o, const char *key, const char *text)
{
    return !text || cJSON_AddStringToObject(o, key, text);
}

ft_status chat_open(chat **out, const tok_tokenizer *t)
{
    const char *text = tok_chat_template(t);
    *out = NULL;
    FT_CHECK(text, FT_EDATA,
             "the model has no chat template; messages need one: add chat_template.jinja "
             "to its folder, or use the completion format");
    chat *c = ft_alloc(1, sizeof *c);
    if (!c) return FT_EMEM;
    ft_status rc = tpl_open(&c->tpl, text, strlen(text), "chat_template");
    c->special = cJSON_CreateObject();
    if (rc == FT_OK && (!c->special || !add_text(c->special, "bos_token", text_of(t, tok_bos(t))) ||
                        !add_text(c->special, "eos_token", text_of(t, tok_eos(t))) ||
                        !add_text(c->special, "pad_token", text_of(t, tok_pad(t))))) {
        rc = ft_fail(FT_EMEM, "out of memory");
    }
    if (rc != FT_OK)
        chat_close(c);
    else
        *out = c;
    return rc;
}

void chat_close(chat *c)
{
    if (!c) return;
    tpl_close(c->tpl);
    cJSON_Delete(c->special);
    ft_free(c);
}

/* Messages as the template sees them: keys whose value is null are left out, and a reasoning text is given
 * under the names templates know (reasoning_content; thinking where there is none). */
static cJSON *prepare(const cJSON *messages)
{
    static const char *const fields[] = {"reasoning_content", "thinking", "reasoning"};
    cJSON *list = cJSON_CreateArray();
    for (const cJSON *m = messages->child; list && m; m = m->next) {
        cJSON *copy = cJSON_CreateObject();
        const cJSON *reasoning = NULL;
        for (size_t i = 0; i < FT_COUNT_OF(fields) && !reasoning; i++) {
            reasoning = js_get(m, fields[i]);
            if (cJSON_IsNull(reasoning)) reasoning = NULL;
        }
        bool ok = copy != NULL;
        if (reasoning && !js_get(m, "thinking")) {
            ok = ok &&
                 cJSON_AddItemReferenceToObject(copy, "thinking", (cJSON *)(uintptr_t)reasoning);
        }
        for (const cJSON *k = m->child; ok && k; k = k->next) {
            const cJSON *v = reasoning && !strcmp(k->string, "reasoning_content") ? reasoning : k;
            if (cJSON_IsNull(v)) continue;
            ok = cJSON_AddItemReferenceToObject(copy, k->string, (cJSON *)(uintptr_t)v);
        }
        if (ok && reasoning && !js_get(copy, "reasoning_content")) {
            ok = cJSON_AddItemReferenceToObject(copy, "reasoning_content",
                                                (cJSON *)(uintptr_t)reasoning);
        }
        if (!ok || !cJSON_AddItemToArray(list, copy)) {
            cJSON_Delete(copy);
            cJSON_Delete(list);
            return NULL;
        }
    }
    return list;
}

static ft_status check_messages(const cJSON *messages)
{
    FT_CHECK(cJSON_IsArray(messages) && messages->child, FT_EDATA,
             "messages must be a list of at least one message");
    for (const cJSON *m = messages->child; m; m = m->next) {
        FT_CHECK(cJSON_IsObject(m), FT_EDATA,
                 "every message must be an object with role and content");
    }
    return FT_OK;
}

ft_status chat_render_spans(const chat *c, const cJSON *messages, const cJSON *tools,
                            bool add_generation_prompt, str_buf *out, tpl_spans *spans)
{
    FT_TRY(check_messages(messages));
    cJSON *vars = cJSON_CreateObject(), *list = prepare(messages);
    bool ok = vars && list;
    if (!ok || !cJSON_AddItemToObject(vars, "messages", list)) cJSON_Delete(list), ok = false;
    ok = ok && (tools ? cJSON_AddItemReferenceToObject(vars, "tools", (cJSON *)(uintptr_t)tools)
                      : cJSON_AddNullToObject(vars, "tools") != NULL);
    ok = ok && cJSON_AddNullToObject(vars, "documents") &&
         cJSON_AddBoolToObject(vars, "add_generation_prompt", add_generation_prompt);
    for (const cJSON *s = c->special->child; ok && s; s = s->next) {
        ok = cJSON_AddItemReferenceToObject(vars, s->string, (cJSON *)(uintptr_t)s);
    }
    ft_status rc =
        ok ? tpl_render_spans(c->tpl, vars, out, spans) : ft_fail(FT_EMEM, "out of memory");
    cJSON_Delete(vars);
    return rc;
}

ft_status chat_render(const chat *c, const cJSON *messages, const cJSON *tools,
                      bool add_generation_prompt, str_buf *out)
{
    return chat_render_spans(c, messages, tools, add_generation_prompt, out, NULL);
}
