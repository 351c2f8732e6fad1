/* score_reward.c – the lines that `ft score` reads for a reward model, as ids: of a prompt with its completion and of messages
 * they are those that objective reward trains on. */
#include "tool_private.h"

#include <string.h>

static ft_status encode(const tool_model *t, const char *text, size_t n, bool close, tok_ids *out)
{
    FT_CHECK(t->tok, FT_EDATA, "%s: the model has no tokenizer; give token ids",
             ft_shows(t->m->path));
    return data_plain_ids(t->tok, text, n, close, out);
}

static ft_status encode_turns(tool_model *t, const js_doc *d, const cJSON *list, tok_ids *out)
{
    const chat *template;
    str_buf text = {0};
    FT_TRY(tool_chat(t, &template));
    if (!template)
        return js_fail(d, list, FT_EDATA, NULL,
                       "the model has no chat template, so messages cannot be rendered; give the "
                       "text itself");
    const chat_input in = {.messages = list, .tools = js_get(d->root, "tools")};
    ft_status rc = chat_render(template, &in, &text, NULL);
    if (rc == FT_EDATA) {
        char *why = ft_strdup(ft_error());
        rc = js_fail(d, list, FT_EDATA, NULL, "%s", why ? why : "");
        ft_free(why);
    }
    if (rc == FT_OK) rc = tok_encode(t->tok, text.data ? text.data : "", text.len, false, out);
    str_free(&text);
    return rc;
}

/* Two texts are one, which ends with EOS; two lists of messages are one conversation. */
static ft_status encode_pair(tool_model *t, const js_doc *d, const cJSON *prompt,
                             const cJSON *completion, tok_ids *out)
{
    str_buf text = {0};
    ft_status rc = FT_OK;
    if (cJSON_IsString(prompt) && cJSON_IsString(completion)) {
        str_adds(&text, prompt->valuestring);
        str_adds(&text, completion->valuestring);
        rc = str_ok(&text);
        if (rc == FT_OK) rc = encode(t, text.data ? text.data : "", text.len, true, out);
        str_free(&text);
        return rc;
    }
    if (!cJSON_IsArray(prompt) || !cJSON_IsArray(completion))
        return js_fail(d, prompt ? completion : prompt, FT_EDATA, prompt ? "completion" : "prompt",
                       "prompt and completion must both be texts, or both lists of messages");
    cJSON *all = cJSON_Duplicate(prompt, true);
    for (const cJSON *m = completion->child; rc == FT_OK && m; m = m->next) {
        cJSON *copy = all ? cJSON_Duplicate(m, true) : NULL;
        if (!copy || !cJSON_AddItemToArray(all, copy)) rc = FT_EMEM;
    }
    if (!all) rc = FT_EMEM;
    if (rc == FT_OK) rc = encode_turns(t, d, all, out);
    cJSON_Delete(all);
    return rc;
}

const char *const tool_reward_keys[] = {"id",       "text",  "prompt", "completion",
                                        "messages", "tools", "tokens", NULL};

ft_status tool_reward_ids(tool_model *t, const js_doc *d, tok_ids *out)
{
    const char *text;
    size_t n;
    const cJSON *messages = js_get(d->root, "messages");
    ft_status rc;
    FT_TRY(tool_string(d, d->root, "text", &text, &n));
    if (text)
        rc = encode(t, text, n, false, out);
    else if (messages)
        rc = encode_turns(t, d, messages, out);
    else
        rc = encode_pair(t, d, js_get(d->root, "prompt"), js_get(d->root, "completion"), out);
    FT_TRY(rc);
    if (out->n > 0) return FT_OK;
    return js_fail(d, d->root, FT_EDATA, NULL, "holds no token, and so has no reward");
}
