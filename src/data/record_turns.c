/* record_turns.c – the turns of a conversation as records have them, to the messages that a chat template takes.
 *
 * Two forms are in use: {"role", "content"} and ShareGPT's {"from", "value"}; a source may name other keys, and other
 * names for who speaks. A message of the first form goes along with all its members, since a template may read any. */
#include "data_private.h"

#include <string.h>

static ft_status out_of_memory(void)
{
    return ft_fail(FT_EMEM, "out of memory");
}

/* Takes `content` over. */
static bool add_turn(cJSON *list, const char *role, cJSON *content)
{
    cJSON *m = cJSON_CreateObject();
    const bool named = m && cJSON_AddStringToObject(m, "role", role);
    if (!named) cJSON_Delete(content);
    if (named && js_add(m, "content", content) && cJSON_AddItemToArray(list, m)) return true;
    cJSON_Delete(m);
    return false;
}

bool data_turn_add(cJSON *list, const char *role, const char *text)
{
    return add_turn(list, role, cJSON_CreateStringReference(text));
}

bool data_turn_own(cJSON *list, const char *role, const char *text)
{
    return add_turn(list, role, cJSON_CreateString(text));
}

cJSON *data_turn_refer(const cJSON *from)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = o != NULL;
    for (const cJSON *m = from->child; ok && m; m = m->next) ok = js_refer(o, m->string, m);
    if (ok) return o;
    cJSON_Delete(o);
    return NULL;
}

static const cJSON *text_of_part(const cJSON *p)
{
    const cJSON *type = js_get(p, "type");
    const cJSON *text = js_get(p, "text") ? js_get(p, "text") : js_get(p, "value");
    const bool is = !type || (cJSON_IsString(type) && !strcmp(type->valuestring, "text"));
    return is && cJSON_IsString(text) ? text : NULL;
}

/* Parts of a list content that are text alone. */
static bool text_only(const cJSON *parts)
{
    const cJSON *p;
    cJSON_ArrayForEach(p, parts) if (!text_of_part(p)) return false;
    return true;
}

/* NULL: out of memory. */
static cJSON *joined_parts(const cJSON *parts)
{
    const cJSON *p;
    str_buf s = {0};
    cJSON_ArrayForEach(p, parts) str_adds(&s, text_of_part(p)->valuestring);
    cJSON *out = !s.failed ? cJSON_CreateString(s.data ? s.data : "") : NULL;
    str_free(&s);
    return out;
}

/* --- a turn of either form ---------------------------------------------------------------------------------------- */
typedef struct turn {
    const cJSON *node, *who, *text;
    const char *who_key, *text_key; /* of the record, for messages */
    const char *role;               /* the speaker's */
    bool share;                     /* from and value */
} turn;

/* What stands in the turn, and under which keys; `share`: where neither form shows, it should have been ShareGPT's. */
static ft_status look(const data_item *it, const cJSON *node, bool share, turn *t)
{
    const char *who = it->src->turn_role, *text = it->src->turn_content;
    *t = (turn){.node = node,
                .share = !who && !js_get(node, "role") && (share || js_get(node, "from"))};
    t->who_key = who ? who : t->share ? "from" : "role";
    t->text_key = text ? text : t->share ? "value" : "content";
    if (!cJSON_IsObject(node)) return data_fail(it, node, NULL, "a message must be an object");
    t->who = data_path(node, t->who_key);
    t->text = data_path(node, t->text_key);
    if (who && !t->who)
        return data_fail(it, node, who, "is not in this turn; role is taken from it");
    if (text && !t->text && !js_get(node, "tool_calls"))
        return data_fail(it, node, text, "is not in this turn; content is taken from it");
    if (t->share && (!cJSON_IsString(t->who) || !cJSON_IsString(t->text)))
        return data_fail(it, node, NULL, "a turn needs the strings %s and %s", t->who_key,
                         t->text_key);
    if (!cJSON_IsString(t->who)) return data_fail(it, node, t->who_key, "a message needs a role");
    return data_role(it, t->who, t->who_key, &t->role);
}

/* The text of a function_call turn, {"name", "arguments"} or a list of them, as tool_calls. */
static ft_status add_calls(const data_item *it, const turn *t, cJSON *list)
{
    js_doc doc = {0};
    ft_status rc = FT_OK;
    cJSON *m = cJSON_CreateObject(), *calls = m ? cJSON_AddArrayToObject(m, "tool_calls") : NULL;
    bool ok = calls && cJSON_AddStringToObject(m, "role", "assistant") &&
              cJSON_AddStringToObject(m, "content", "") && cJSON_AddItemToArray(list, m);
    if (!ok) {
        cJSON_Delete(m);
        return out_of_memory();
    }
    if (cJSON_IsString(t->text))
        rc = js_parse(&doc, t->text->valuestring, strlen(t->text->valuestring), "function_call", 1,
                      JS_BIG_NUMBERS, FT_EDATA);
    if (rc == FT_EMEM) return rc;
    if (rc != FT_OK || !cJSON_IsString(t->text)) {
        return data_fail(it, t->text ? t->text : t->node, t->text_key,
                         "a function_call must be JSON: name and arguments");
    }
    const cJSON *f = cJSON_IsArray(doc.root) ? doc.root->child : doc.root;
    for (; rc == FT_OK && f; f = cJSON_IsArray(doc.root) ? f->next : NULL) {
        cJSON *call = cJSON_CreateObject(), *copy = cJSON_Duplicate(f, true);
        ok = call && cJSON_AddStringToObject(call, "type", "function");
        if (!ok) cJSON_Delete(copy);
        ok = ok && js_add(call, "function", copy);
        if (!ok || !cJSON_AddItemToArray(calls, call)) {
            cJSON_Delete(call);
            rc = out_of_memory();
        }
    }
    js_close(&doc);
    return rc;
}

/* Whether a turn is learned from is said in the turn. */
static ft_status copy_weight(const cJSON *from, const cJSON *list)
{
    static const char *const keys[] = {"weight", "loss_weight", "train"};
    cJSON *m = list->child ? list->child->prev : NULL; /* cJSON: prev of the first is the last */
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++) {
        const cJSON *v = js_get(from, keys[i]);
        if (!v || !m) continue;
        if (!js_add(m, keys[i], cJSON_Duplicate(v, true))) return out_of_memory();
    }
    return FT_OK;
}

/* A text or null without a copy; what it refers to may be a member that goes, but stays in the record. */
static cJSON *shared(const cJSON *v)
{
    return cJSON_IsString(v) ? cJSON_CreateStringReference(v->valuestring)
                             : cJSON_Duplicate(v, true);
}

/* Puts a value (taken over) under our key, in the place of what stood there; the column it came from goes. */
static bool put(cJSON *m, const char *key, const char *column, cJSON *value)
{
    if (column && strcmp(column, key) != 0) cJSON_DeleteItemFromObjectCaseSensitive(m, column);
    return js_put(m, key, value);
}

static ft_status add_message(const data_item *it, const turn *t, cJSON *list)
{
    const data_source *src = it->src;
    if (!t->text && !js_get(t->node, "tool_calls"))
        return data_fail(it, t->node, t->text_key, "a message needs content or tool_calls");
    if (t->text && !cJSON_IsString(t->text) && !cJSON_IsNull(t->text) && !cJSON_IsArray(t->text))
        return data_fail(it, t->text, t->text_key, "must be a string or a list of text parts");
    const bool role = src->turn_role || strcmp(t->role, t->who->valuestring) != 0;
    if (!role && !src->turn_content && !cJSON_IsArray(t->text)) {
        const bool in = cJSON_AddItemReferenceToArray(list, (cJSON *)(uintptr_t)t->node);
        return in ? FT_OK : out_of_memory();
    }
    cJSON *copy = data_turn_refer(t->node);
    if (!copy || !cJSON_AddItemToArray(list, copy)) {
        cJSON_Delete(copy);
        return out_of_memory();
    }
    if (role && !put(copy, "role", src->turn_role, cJSON_CreateString(t->role))) {
        return out_of_memory();
    }
    if (cJSON_IsArray(t->text) && !text_only(t->text))
        return data_fail(it, t->text, t->text_key, "only parts of type text are supported");
    cJSON *text = cJSON_IsArray(t->text) ? joined_parts(t->text) : NULL;
    if (cJSON_IsArray(t->text) && !text) return out_of_memory();
    if (!text && src->turn_content && t->text) text = shared(t->text);
    bool other = text || (src->turn_content && t->text);
    return !other || put(copy, "content", src->turn_content, text) ? FT_OK : out_of_memory();
}

static ft_status copy(const data_item *it, const cJSON *node, bool share, cJSON *list)
{
    turn t;
    FT_TRY(look(it, node, share, &t));
    if (!strcmp(t.role, "function_call")) {
        FT_TRY(add_calls(it, &t, list));
        return copy_weight(node, list);
    }
    if (!t.share) return add_message(it, &t, list);
    if (!data_turn_add(list, t.role, t.text->valuestring)) return out_of_memory();
    return copy_weight(node, list);
}

ft_status data_turn_list(const data_item *it, const cJSON *from, bool share, cJSON *list)
{
    if (!cJSON_IsArray(from))
        return data_fail(it, from, NULL, "must be a list of %s", share ? "turns" : "messages");
    for (const cJSON *m = from->child; m; m = m->next) FT_TRY(copy(it, m, share, list));
    return FT_OK;
}

bool data_turn_is_system(const data_item *it, const cJSON *node)
{
    turn t;
    bool system = node && look(it, node, false, &t) == FT_OK && !strcmp(t.role, "system");
    if (!system) ft_error_clear();
    return system;
}

/* The message of a failed rendering, with the place of the record in front. */
static ft_status not_rendered(const data_item *it, ft_status rc)
{
    if (rc != FT_EDATA) return rc;
    char *why = ft_strdup(ft_error());
    rc = why ? data_fail(it, it->rec, NULL, "%s", why) : FT_EMEM;
    ft_free(why);
    return rc;
}

ft_status data_chat_ids(const data_item *it, const cJSON *messages, const cJSON *tools, bool prompt,
                        tok_ids *out)
{
    const cJSON *vars = js_get(it->rec, "chat_template_kwargs");
    str_buf text = {0};
    const chat_input in = {.messages = messages,
                           .tools = tools,
                           .vars = vars && !cJSON_IsNull(vars) ? vars : NULL,
                           .add_generation_prompt = prompt};
    ft_status rc = not_rendered(it, chat_render(it->d->chat, &in, &text, NULL));
    if (rc == FT_OK) rc = tok_encode(it->d->tok, text.data ? text.data : "", text.len, false, out);
    str_free(&text);
    return rc;
}
