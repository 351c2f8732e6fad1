/* talk.c – a conversation: turns that are kept, each answer that of the whole conversation put through the chat template, as
 * a line of `ft generate` with these messages would get. Without a template each text is continued by itself. */
#include <string.h>

#include "tool_private.h"

struct tool_talk {
    tool_model *t;
    tool_generate_options opt;
    cJSON *messages; /* the system turn first, where there is one; NULL: texts are continued */
};

ft_status tool_talk_open(tool_talk **out, tool_model *t, const tool_generate_options *opt)
{
    ft_status rc = FT_OK;
    *out = NULL;
    tool_talk *k = ft_alloc(1, sizeof *k);
    if (!k) return FT_EMEM;
    *k = (tool_talk){.t = t, .opt = *opt};
    k->opt.system = NULL; /* a turn, from here on */
    if (opt->chat && !(k->messages = cJSON_CreateArray())) rc = ft_fail(FT_EMEM, "out of memory");
    if (rc == FT_OK && k->messages) rc = tool_talk_system(k, opt->system);
    if (rc != FT_OK)
        tool_talk_close(k);
    else
        *out = k;
    return rc;
}

void tool_talk_close(tool_talk *k)
{
    if (!k) return;
    cJSON_Delete(k->messages);
    ft_free(k);
}

bool tool_talk_has_turns(const tool_talk *k)
{
    return k->messages != NULL;
}

static bool has_system(const tool_talk *k)
{
    const cJSON *role = js_get(k->messages->child, "role");
    return role && strcmp(role->valuestring, "system") == 0;
}

ft_status tool_talk_system(tool_talk *k, const char *text)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list && (!text || tool_add_turn(list, "system", text));
    if (!ok) {
        cJSON_Delete(list);
        return ft_fail(FT_EMEM, "out of memory");
    }
    if (has_system(k)) cJSON_DeleteItemFromArray(k->messages, 0);
    while (k->messages->child)
        cJSON_AddItemToArray(list, cJSON_DetachItemFromArray(k->messages, 0));
    cJSON_Delete(k->messages);
    k->messages = list;
    return FT_OK;
}

void tool_talk_reset(tool_talk *k)
{
    if (!tool_talk_has_turns(k)) return;
    const int keep = has_system(k);
    while (cJSON_GetArraySize(k->messages) > keep) cJSON_DeleteItemFromArray(k->messages, keep);
}

/* --- an answer -------------------------------------------------------------------------------------------------- */

typedef struct reply {
    tool_request q;
    tool_text text;
    inf_answer answer;     /* a copy, which a signal does not take away */
    const tool_sink *sink; /* NULL: nothing is shown as it comes */
} reply;

static ft_status told(void *ctx, int64_t prompt, int copy, const inf_answer *a, bool done)
{
    reply *r = ctx;
    (void)prompt;
    (void)copy;
    FT_TRY(tok_ids_push(&r->answer.ids, a->ids.id[a->ids.n - 1]));
    r->answer.stopped = a->stopped;
    r->answer.seconds = a->seconds;
    FT_TRY(tool_text_add(&r->text, a->ids.id, a->ids.n - a->stopped, done));
    if (r->sink) FT_TRY(tool_text_put(&r->text, r->sink));
    return r->text.hit && !done ? FT_END : FT_OK;
}

/* One that is interrupted is what has come of it. */
static ft_status answer(tool_talk *k, reply *r)
{
    inf_answer out = {0};
    inf_sampling s = r->q.s;
    s.stop = tok_stops(k->t->tok, &s.n_stop);
    r->text = (tool_text){.t = k->t, .stop = r->q.stop, .n_stop = r->q.n_stop};
    ft_status rc = inf_generate(&k->t->inf, &r->q.prompt, 1, 1, &s, told, r, &out);
    if (rc == FT_OK) inf_answers_free(&out, 1);
    if (rc == FT_ESIGNAL && ft_stop_take()) {
        ft_error_clear();
        rc = FT_OK;
    }
    if (rc == FT_OK) rc = file_inputs_check();
    if (rc != FT_OK) return rc;
    r->text.whole = true;
    return r->sink ? tool_text_put(&r->text, r->sink) : FT_OK;
}

static ft_status ask(tool_talk *k, reply *r, const char *text)
{
    r->q.s = k->opt.sampling;
    if (!k->messages) return tool_request_text(&r->q, k->t, &k->opt, text);
    FT_CHECK(tool_add_turn(k->messages, "user", text), FT_EMEM, "out of memory");
    return tool_request_messages(&r->q, k->t, &k->opt, k->messages);
}

/* The text whole, or the end of the line that it was shown on. */
static ft_status show(tool_talk *k, reply *r, const tool_sink *out)
{
    str_buf line = {0};
    const str_buf *text = &r->text.text;
    if (k->opt.json)
        tool_write_answer(&line, &r->q, &r->answer, &r->text, text);
    else if (!r->sink)
        str_add(&line, text->data ? text->data : "", text->len);
    bool ended = !k->opt.json && text->len > 0 && text->data[text->len - 1] == '\n';
    if (!k->opt.json && !ended) str_addc(&line, '\n');
    ft_status rc = tool_put(out, &line);
    str_free(&line);
    return rc;
}

ft_status tool_talk_say(tool_talk *k, const char *text, const tool_sink *out)
{
    reply r = {.sink = k->opt.json ? NULL : out};
    const int before = k->messages ? cJSON_GetArraySize(k->messages) : 0;
    ft_status rc = ask(k, &r, text);
    if (rc == FT_OK) rc = answer(k, &r);
    if (rc == FT_OK) rc = show(k, &r, out);
    bool nothing = rc != FT_OK || r.answer.ids.n == 0;
    if (k->messages && !nothing &&
        !tool_add_turn(k->messages, "assistant", r.text.text.data ? r.text.text.data : ""))
        rc = ft_fail(FT_EMEM, "out of memory");
    /* A question without an answer is taken back: turns stay in turn. */
    while (k->messages && (rc != FT_OK || nothing) && cJSON_GetArraySize(k->messages) > before)
        cJSON_DeleteItemFromArray(k->messages, before);
    tool_request_free(&r.q);
    tool_text_free(&r.text);
    tok_ids_free(&r.answer.ids);
    return rc;
}

ft_status tool_talk_save(const tool_talk *k, const char *path)
{
    static const char *const heads[] = {"{\"messages\":", NULL};
    str_buf line = {0};
    FT_CHECK(path[0], FT_EUSAGE, "/save: which file?");
    FT_CHECK(cJSON_GetArraySize(k->messages) > has_system(k), FT_EUSAGE,
             "/save: there is no answer yet");
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    FT_CHECK(kind != PATH_FILE && kind != PATH_LOST, FT_EEXIST,
             "%s: exists already; give another name", ft_shows(path));
    FT_TRY(io_out_file(path, heads, "a conversation"));
    str_adds(&line, "{\"messages\":");
    js_print(&line, k->messages, false);
    str_adds(&line, "}\n");
    ft_status rc = str_ok(&line);
    if (rc == FT_OK) rc = file_write(path, line.data, line.len);
    str_free(&line);
    return rc;
}
