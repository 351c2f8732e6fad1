/* chat.c – a model's chat template applied to messages, as transformers' apply_chat_template does it. */
#include "ft/template.h"

#include <string.h>

enum { DEFAULT, TOOL_USE, N_KINDS };
static const char *const kinds[N_KINDS] = {"default", "tool_use"};

typedef struct entry {
    tpl_template *tpl;
    char *why; /* it does not compile: told when it is needed */
} entry;

struct chat {
    entry kind[N_KINDS];
    cJSON *special; /* bos_token … as strings */
    char *names;    /* of all templates, for a message */
};

/* file: the one the template was read from, where it is not the model's. */
static ft_status open_templates(chat *c, const tok_named *list, int n, const char *file)
{
    str_buf names = {0};
    ft_status rc = FT_OK;
    for (int i = 0; i < n; i++) {
        str_printf(&names, "%s%s", i ? ", " : "", ft_shows(list[i].name));
        for (int k = 0; k < N_KINDS && rc == FT_OK; k++) {
            if (strcmp(list[i].name, kinds[k]) != 0 || c->kind[k].tpl) continue;
            const char *name = file           ? file
                               : k == DEFAULT ? "chat_template"
                                              : "chat_template \"tool_use\"";
            rc = tpl_open(&c->kind[k].tpl, list[i].text, strlen(list[i].text), name);
            if (rc != FT_EDATA || k == DEFAULT) continue;
            c->kind[k].why = ft_strdup(ft_error());
            rc = c->kind[k].why ? FT_OK : FT_EMEM;
            ft_error_clear();
        }
    }
    if (rc == FT_OK) rc = str_ok(&names);
    if (rc == FT_OK && !(c->names = ft_strdup(names.data ? names.data : ""))) rc = FT_EMEM;
    str_free(&names);
    return rc;
}

static ft_status add_special(chat *c, const tok_named *list, int n)
{
    c->special = cJSON_CreateObject();
    bool ok = c->special != NULL;
    for (int i = 0; ok && i < n; i++) {
        ok = cJSON_AddStringToObject(c->special, list[i].name, list[i].text) != NULL;
    }
    return ok ? FT_OK : ft_fail(FT_EMEM, "out of memory");
}

ft_status chat_open(chat **out, const tok_tokenizer *t)
{
    int n, n_names;
    const tok_named *list = tok_chat_templates(t, &n), *names = tok_names(t, &n_names);
    *out = NULL;
    FT_CHECK(n, FT_EDATA,
             "the model has no chat template; messages need one: add chat_template.jinja "
             "to its folder, or use the completion format");
    chat *c = ft_alloc(1, sizeof *c);
    if (!c) return FT_EMEM;
    ft_status rc = open_templates(c, list, n, tok_template_file(t));
    if (rc == FT_OK) rc = add_special(c, names, n_names);
    if (rc != FT_OK)
        chat_close(c);
    else
        *out = c;
    return rc;
}

void chat_close(chat *c)
{
    if (!c) return;
    for (int k = 0; k < N_KINDS; k++) {
        tpl_close(c->kind[k].tpl);
        ft_free(c->kind[k].why);
    }
    cJSON_Delete(c->special);
    ft_free(c->names);
    ft_free(c);
}

static ft_status choose(const chat *c, bool tools, const tpl_template **out)
{
    const entry *e = &c->kind[TOOL_USE];
    if (!tools || (!e->tpl && !e->why)) e = &c->kind[DEFAULT];
    *out = e->tpl;
    if (e->why) return ft_fail_again(FT_EDATA, e->why);
    FT_CHECK(e->tpl, FT_EDATA,
             "the model has several chat templates (%s) and none is \"default\"%s; name one so in "
             "tokenizer_config.json, or write it to chat_template.jinja",
             c->names, c->kind[TOOL_USE].tpl ? ": only records with tools can be rendered" : "");
    return FT_OK;
}

static const char *const fields[] = {"reasoning_content", "thinking", "reasoning"};

/* The template sees it as it is. */
static bool is_prepared(const cJSON *m)
{
    bool is = true;
    for (size_t i = 0; i < FT_COUNT_OF(fields); i++) is = is && !js_get(m, fields[i]);
    for (const cJSON *k = m->child; k; k = k->next) is = is && !cJSON_IsNull(k);
    return is;
}

/* Messages as the template sees them: keys whose value is null are left out, and a reasoning text is given
 * under the names templates know (reasoning_content; thinking where there is none). */
static cJSON *prepare(const cJSON *messages)
{
    cJSON *list = cJSON_CreateArray();
    for (const cJSON *m = messages->child; list && m; m = m->next) {
        if (is_prepared(m)) {
            if (cJSON_AddItemReferenceToArray(list, (cJSON *)(uintptr_t)m)) continue;
            cJSON_Delete(list);
            return NULL;
        }
        cJSON *copy = cJSON_CreateObject();
        const cJSON *reasoning = NULL;
        for (size_t i = 0; i < FT_COUNT_OF(fields) && !reasoning; i++) {
            reasoning = js_get(m, fields[i]);
            if (cJSON_IsNull(reasoning)) reasoning = NULL;
        }
        bool ok = copy != NULL;
        if (reasoning && !js_get(m, "thinking")) {
            ok = ok && js_refer(copy, "thinking", reasoning);
        }
        for (const cJSON *k = m->child; ok && k; k = k->next) {
            const cJSON *v = reasoning && !strcmp(k->string, "reasoning_content") ? reasoning : k;
            if (cJSON_IsNull(v)) continue;
            ok = js_refer(copy, k->string, v);
        }
        if (ok && reasoning && !js_get(copy, "reasoning_content")) {
            ok = js_refer(copy, "reasoning_content", reasoning);
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

/* What apply_chat_template takes as an argument of its own; as a variable it would be lost. */
static ft_status check_vars(const cJSON *vars)
{
    static const char *const arguments[] = {"conversation",
                                            "messages",
                                            "tools",
                                            "chat_template",
                                            "add_generation_prompt",
                                            "continue_final_message",
                                            "tokenize",
                                            "padding",
                                            "truncation",
                                            "max_length",
                                            "return_tensors",
                                            "return_dict",
                                            "return_assistant_tokens_mask",
                                            "sanitize_control_tokens",
                                            "tokenizer_kwargs"};
    if (!vars) return FT_OK;
    FT_CHECK(cJSON_IsObject(vars), FT_EDATA,
             "chat_template_kwargs: must be an object of the template's variables");
    for (size_t i = 0; i < FT_COUNT_OF(arguments); i++) {
        FT_CHECK(!js_get(vars, arguments[i]), FT_EDATA,
                 "chat_template_kwargs: %s is not a variable of the template but an argument of "
                 "the call; it cannot be set here",
                 arguments[i]);
    }
    return FT_OK;
}

ft_status chat_read_key(chat_input *in, const js_doc *d, const cJSON *record, const char *key)
{
    *in = (chat_input){.messages = js_get(record, key),
                       .tools = js_get(record, "tools"),
                       .vars = js_get(record, "chat_template_kwargs")};
    if (!cJSON_IsArray(in->messages)) {
        return js_fail(d, in->messages ? in->messages : record, FT_EDATA, key,
                       "must be a list of messages");
    }
    if (cJSON_IsNull(in->tools)) in->tools = NULL;
    if (cJSON_IsNull(in->vars)) in->vars = NULL;
    if (in->tools && !cJSON_IsArray(in->tools))
        return js_fail(d, in->tools, FT_EDATA, "tools", "must be a list");
    if (in->vars && !cJSON_IsObject(in->vars)) {
        return js_fail(d, in->vars, FT_EDATA, "chat_template_kwargs",
                       "must be an object of the template's variables");
    }
    return FT_OK;
}

ft_status chat_read(chat_input *in, const js_doc *d, const cJSON *record)
{
    return chat_read_key(in, d, record, "messages");
}

/* Members of `from` by reference; those that are there already stay. */
static bool add_all(cJSON *vars, const cJSON *from)
{
    bool ok = true;
    for (const cJSON *v = from ? from->child : NULL; ok && v; v = v->next) {
        if (js_get(vars, v->string)) continue;
        ok = js_refer(vars, v->string, v);
    }
    return ok;
}

ft_status chat_render(const chat *c, const chat_input *in, str_buf *out, tpl_spans *spans)
{
    const tpl_template *tpl;
    FT_TRY(check_messages(in->messages));
    FT_TRY(check_vars(in->vars));
    FT_TRY(choose(c, in->tools != NULL, &tpl));
    cJSON *vars = cJSON_CreateObject(), *list = prepare(in->messages);
    bool ok = js_add(vars, "messages", list);
    ok = ok && (in->tools ? js_refer(vars, "tools", in->tools)
                          : cJSON_AddNullToObject(vars, "tools") != NULL);
    ok = ok && cJSON_AddBoolToObject(vars, "add_generation_prompt", in->add_generation_prompt) &&
         add_all(vars, in->vars) && add_all(vars, c->special) &&
         (js_get(vars, "documents") || cJSON_AddNullToObject(vars, "documents"));
    ft_status rc = ok ? tpl_render_spans(tpl, vars, out, spans) : ft_fail(FT_EMEM, "out of memory");
    cJSON_Delete(vars);
    return rc;
}
