/* request.c – a prompt of `ft generate`: from the command line, or a line of JSON with what it wants otherwise. */
#include <math.h>
#include <string.h>

#include "tool_private.h"

void tool_request_free(tool_request *q)
{
    str_free(&q->id);
    str_free(&q->record);
    tok_ids_free(&q->prompt);
    for (int i = 0; i < q->n_stop; i++) ft_free(q->stop[i]);
    ft_free(q->stop);
    *q = (tool_request){0};
}

/* --- turns ---------------------------------------------------------------------------------------------------- */

static cJSON *turn(const char *role, const char *text)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = o && cJSON_AddStringToObject(o, "role", role) &&
              cJSON_AddStringToObject(o, "content", text);
    if (!ok) cJSON_Delete(o);
    return ok ? o : NULL;
}

bool tool_add_turn(cJSON *list, const char *role, const char *text)
{
    cJSON *o = turn(role, text);
    if (o && cJSON_AddItemToArray(list, o)) return true;
    cJSON_Delete(o);
    return false;
}

static bool begins_with_system(const cJSON *messages)
{
    const cJSON *role = js_get(messages ? messages->child : NULL, "role");
    return cJSON_IsString(role) && (strcmp(role->valuestring, "system") == 0 ||
                                    strcmp(role->valuestring, "developer") == 0);
}

/* system NULL: none to be put in front. */
static ft_status chat_ids(tool_model *t, const chat_input *in, const char *system, tok_ids *out)
{
    if (!system) return tool_chat_ids(t, in, out);
    chat_input with = *in;
    cJSON *list = cJSON_CreateArray();
    bool ok = list && tool_add_turn(list, "system", system);
    for (const cJSON *m = in->messages->child; ok && m; m = m->next)
        ok = cJSON_AddItemReferenceToArray(list, (cJSON *)(uintptr_t)m);
    with.messages = list;
    ft_status rc = ok ? tool_chat_ids(t, &with, out) : ft_fail(FT_EMEM, "out of memory");
    cJSON_Delete(list);
    return rc;
}

static ft_status user_turn(tool_model *t, const char *text, const char *system, tok_ids *out)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list && tool_add_turn(list, "user", text);
    ft_status rc = ok ? chat_ids(t, &(chat_input){.messages = list}, system, out)
                      : ft_fail(FT_EMEM, "out of memory");
    cJSON_Delete(list);
    return rc;
}

/* --- where it ends -------------------------------------------------------------------------------------------- */

static ft_status add_stop(tool_request *q, const char *text)
{
    char **more = ft_realloc(q->stop, (size_t)q->n_stop + 1, sizeof *more);
    if (!more) return FT_EMEM;
    q->stop = more;
    q->stop[q->n_stop] = ft_strdup(text);
    if (!q->stop[q->n_stop]) return FT_EMEM;
    q->n_stop++;
    return FT_OK;
}

static ft_status read_stops(tool_request *q, const js_doc *d, const cJSON *v)
{
    const cJSON *e = cJSON_IsArray(v) ? v->child : v;
    for (; e; e = cJSON_IsArray(v) ? e->next : NULL) {
        if (!cJSON_IsString(e) || !e->valuestring[0])
            return js_fail(d, e, FT_EDATA, "stop", "must be a list of strings that are not empty");
        FT_TRY(add_stop(q, e->valuestring));
    }
    return FT_OK;
}

/* Those of the line or else of the options, and the end of a turn that is no token. */
static ft_status set_stops(tool_request *q, tool_model *t, const tool_generate_options *opt,
                           const js_doc *d, bool turns)
{
    const cJSON *own = d ? js_get(d->root, "stop") : NULL;
    const char *end = NULL;
    if (own && !cJSON_IsNull(own)) {
        FT_TRY(read_stops(q, d, own));
    } else {
        for (int i = 0; i < opt->n_stop; i++) FT_TRY(add_stop(q, opt->stop[i]));
    }
    if (turns) FT_TRY(tool_chat_end(t, &end));
    return end ? add_stop(q, end) : FT_OK;
}

/* --- one line ------------------------------------------------------------------------------------------------- */

static ft_status plain_ids(tool_model *t, const char *text, size_t len, tok_ids *out)
{
    FT_TRY(tool_encode(t, text, len, out));
    if (out->n == 0 && tok_bos(t->tok) >= 0) return tok_ids_push(out, tok_bos(t->tok));
    return FT_OK;
}

/* What a line says in the place of options. */
static ft_status read_sampling(tool_request *q, const js_doc *d)
{
    int64_t seed;
    inf_sampling *s = &q->s;
    const cJSON *o = d->root;
    FT_TRY(js_get_int(d, o, "max_new_tokens", s->max_new, 1, 1000000, &s->max_new));
    if (s->max_new < s->min_new)
        return js_fail(d, js_get(o, "max_new_tokens"), FT_EDATA, "max_new_tokens",
                       "is less than --min-new-tokens (%lld)", (long long)s->min_new);
    FT_TRY(js_get_num(d, o, "temperature", s->temperature, &s->temperature));
    if (!(s->temperature >= 0 && s->temperature <= 1e6))
        return js_fail(d, js_get(o, "temperature"), FT_EDATA, "temperature",
                       "must be 0 (greedy) or more");
    FT_TRY(js_get_int(d, o, "seed", (int64_t)s->seed, 0, ((int64_t)1 << 53) - 1, &seed));
    s->seed = (uint64_t)seed;
    return FT_OK;
}

/* Left open at its end. Keys that are to come are not taken over. */
static ft_status record_of(tool_request *q, const cJSON *o, const char *prompt, const char *system)
{
    static const char *const ours[] = {"completions", "samples", "system"};
    str_buf *out = &q->record;
    str_addc(out, '{');
    for (const cJSON *e = o ? o->child : NULL; e; e = e->next) {
        bool skip = false;
        for (int i = 0; i < (system ? 3 : 2); i++) skip = skip || strcmp(e->string, ours[i]) == 0;
        if (skip) continue;
        tool_json_key(out, e->string);
        js_print(out, e, false);
    }
    if (prompt) {
        tool_json_key(out, "prompt");
        tool_json_text(out, prompt, strlen(prompt));
    }
    if (system) {
        tool_json_key(out, "system");
        tool_json_text(out, system, strlen(system));
    }
    return str_ok(out);
}

static ft_status read_ids(tool_request *q, const tool_model *t, const js_doc *d, const cJSON *list)
{
    const cJSON *e;
    const double vocab = (double)t->m->d.vocab_size;
    if (!cJSON_IsArray(list)) return js_fail(d, list, FT_EDATA, "tokens", "must be a list of ids");
    cJSON_ArrayForEach(e, list)
    {
        double v = cJSON_IsNumber(e) ? e->valuedouble : -1;
        if (!(v >= 0 && v < vocab) || v != floor(v))
            return js_fail(d, e, FT_EDATA, "tokens", "not a token id of this model (0 … %.0f)",
                           vocab - 1);
        FT_TRY(tok_ids_push(&q->prompt, (int32_t)v));
    }
    return FT_OK;
}

static ft_status read_object(tool_request *q, tool_model *t, const tool_generate_options *opt,
                             const js_doc *d)
{
    const char *text, *system;
    size_t len = 0, system_len;
    chat_input in = {0};
    const cJSON *root = d->root, *tokens = js_get(root, "tokens");
    const char *key = cJSON_IsArray(js_get(root, "prompt")) ? "prompt" : "messages";
    const cJSON *messages = js_get(root, key);
    if (js_get(root, "id")) js_print(&q->id, js_get(root, "id"), false);
    text = NULL;
    if (strcmp(key, "prompt") != 0) FT_TRY(tool_string(d, root, "prompt", &text, &len));
    FT_TRY(tool_string(d, root, "system", &system, &system_len));
    if (text || messages) tokens = NULL; /* a key of the record's own */
    if ((text != NULL) + (messages != NULL) + (tokens != NULL) != 1)
        return js_fail(d, root, FT_EDATA, NULL, "needs one of prompt, messages and tokens");
    if (messages) FT_TRY(chat_read_key(&in, d, root, key));
    const bool turns = !tokens && (messages || opt->chat), has = begins_with_system(messages);
    if (system && !turns)
        return js_fail(d, js_get(root, "system"), FT_EDATA, "system",
                       "goes with messages, or with --chat, which makes the prompt a user's turn");
    if (system && has)
        return js_fail(d, js_get(root, "system"), FT_EDATA, "system",
                       "the messages begin with a system turn of their own");
    q->used = !system && !has && turns && opt->chat && q->system;
    if (q->used) system = q->system;
    FT_TRY(read_sampling(q, d));
    FT_TRY(set_stops(q, t, opt, d, turns));
    if (opt->samples > 0) FT_TRY(record_of(q, root, NULL, q->used ? system : NULL));
    if (tokens) return read_ids(q, t, d, tokens);
    if (messages) return chat_ids(t, &in, system, &q->prompt);
    if (turns) return user_turn(t, text, system, &q->prompt);
    return plain_ids(t, text, len, &q->prompt);
}

ft_status tool_request_text(tool_request *q, tool_model *t, const tool_generate_options *opt,
                            const char *text)
{
    const char *system = opt->chat ? q->system : NULL;
    q->used = system != NULL;
    FT_TRY(set_stops(q, t, opt, NULL, opt->chat));
    if (opt->samples > 0) FT_TRY(record_of(q, NULL, text, system));
    if (opt->chat) return user_turn(t, text, system, &q->prompt);
    return plain_ids(t, text, strlen(text), &q->prompt);
}

ft_status tool_request_messages(tool_request *q, tool_model *t, const tool_generate_options *opt,
                                const cJSON *messages)
{
    FT_TRY(set_stops(q, t, opt, NULL, true));
    return tool_chat_ids(t, &(chat_input){.messages = messages}, &q->prompt);
}

ft_status tool_request_line(tool_request *q, tool_model *t, const tool_generate_options *opt,
                            const js_doc *d)
{
    if (cJSON_IsString(d->root)) {
        FT_TRY(tool_request_text(q, t, opt, d->root->valuestring));
    } else if (cJSON_IsObject(d->root)) {
        FT_TRY(read_object(q, t, opt, d));
    } else {
        return js_fail(d, d->root, FT_EDATA, NULL,
                       "must be an object with prompt, messages or tokens, or a string");
    }
    if (q->prompt.n == 0)
        return js_fail(d, d->root, FT_EDATA, NULL, "an empty prompt: there is nothing to continue");
    return FT_OK;
}
