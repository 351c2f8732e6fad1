/* eval_answers.c – greedy answers, compared with the right ones. */
#include <math.h>
#include <string.h>

#include "eval_private.h"

typedef struct expected { /* one of the right answers of a record */
    char *text;
    int64_t line;
    int col;
    struct expected *next;
} expected;

enum { ROUND = 64 }; /* records that are answered together */

typedef struct asked { /* of a record, until its answer is there */
    tok_ids prompt;
    expected *right;
    int64_t line;
    char *id, *shown; /* for the samples: members prompt or messages, and answer */
} asked;

struct eval_answers {
    tool_model *t;
    eval_task *task;
    const rw_match *match;
    char *name; /* of the file */
    asked q[ROUND];
    inf_answer answer[ROUND];
    int64_t n, first, hits; /* records in the round and before it */
};

static size_t cut_at_stops(const cJSON *stop, const char *text, size_t n)
{
    const cJSON *e = cJSON_IsArray(stop) ? stop->child : stop;
    for (; e; e = cJSON_IsArray(stop) ? e->next : NULL) {
        const char *s = cJSON_IsString(e) ? e->valuestring : "";
        const char *hit = s[0] ? memmem(text, n, s, strlen(s)) : NULL;
        if (hit) n = (size_t)(hit - text);
    }
    return n;
}

static ft_status any_match(const eval_answers *a, const expected *e, const char *text, size_t n,
                           bool *hit)
{
    *hit = false;
    for (; e && !*hit; e = e->next) {
        ft_status rc = a->match->match(text, n, e->text, hit);
        if (rc == FT_OK) continue;
        char *why = ft_strdup(ft_error());
        ft_fail(rc, "%s:%lld:%d: answer: %s", a->name, (long long)e->line, e->col, why ? why : "");
        ft_free(why);
        return rc;
    }
    return FT_OK;
}

static void forget_round(eval_answers *a)
{
    inf_answers_free(a->answer, ROUND);
    for (int64_t i = 0; i < ROUND; i++) {
        asked *q = &a->q[i];
        tok_ids_free(&q->prompt);
        for (expected *e = q->right, *next; e; e = next) {
            next = e->next;
            ft_free(e->text);
            ft_free(e);
        }
        ft_free(q->id);
        ft_free(q->shown);
        *q = (asked){0};
    }
    a->n = 0;
}

/* stop: "string" where one of the task's ended the text. */
static ft_status put_sample(const eval_answers *a, int64_t i, const char *text, size_t n, bool cut,
                            bool hit)
{
    const asked *q = &a->q[i];
    str_buf s = {0};
    eval_sample_open(&s, a->task, q->line, q->id);
    str_addc(&s, ',');
    str_adds(&s, q->shown);
    tool_json_key(&s, "text");
    tool_json_text(&s, text, n);
    tool_json_key(&s, "stop");
    str_adds(&s, cut ? "\"string\"" : a->answer[i].stopped ? "\"token\"" : "\"length\"");
    tool_json_key(&s, "correct");
    str_adds(&s, hit ? "true" : "false");
    ft_status rc = eval_sample_put(a->task, &s);
    str_free(&s);
    return rc;
}

static ft_status judge_answer(eval_answers *a, int64_t i)
{
    str_buf text = {0};
    bool hit = false;
    ft_status rc = tool_answer_text(a->t, &a->answer[i], &text);
    if (rc == FT_OK) rc = str_ok(&text);
    const char *s = text.data ? text.data : "";
    size_t n = cut_at_stops(a->task->stop, s, text.len);
    if (rc == FT_OK) rc = any_match(a, a->q[i].right, s, n, &hit);
    if (rc == FT_OK && a->task->samples) rc = put_sample(a, i, s, n, n < text.len, hit);
    if (rc == FT_OK) a->hits += hit;
    str_free(&text);
    return rc;
}

static ft_status answer_round(eval_answers *a)
{
    inf_sampling s = INF_SAMPLING_DEFAULT;
    tok_ids prompt[ROUND];
    s.max_new = a->task->max_new_tokens;
    s.first = (uint64_t)a->first;
    for (int64_t i = 0; i < a->n; i++) prompt[i] = a->q[i].prompt;
    FT_TRY(tool_generate(a->t, prompt, a->n, &s, NULL, NULL, a->answer));
    for (int64_t i = 0; i < a->n; i++) FT_TRY(judge_answer(a, i));
    a->first += a->n;
    forget_round(a);
    log_progress("%s: %lld of %lld right", a->task->name, (long long)a->hits, (long long)a->first);
    return FT_OK;
}

static ft_status read_expected(const js_doc *d, const cJSON *answer, expected **out)
{
    const cJSON *e = cJSON_IsArray(answer) ? answer->child : answer;
    if (!e) return js_fail(d, answer, FT_EDATA, "answer", "an empty list: nothing is right");
    for (; e; e = cJSON_IsArray(answer) ? e->next : NULL, out = &(*out)->next) {
        str_buf number = {0};
        if (cJSON_IsNumber(e)) str_double(&number, e->valuedouble);
        const char *s = cJSON_IsString(e) ? e->valuestring : number.data;
        *out = s ? ft_alloc(1, sizeof **out) : NULL;
        if (*out) (*out)->text = ft_strdup(s);
        str_free(&number);
        if (!s) return js_fail(d, e, FT_EDATA, "answer", "must be a string or a list of strings");
        if (!*out || !(*out)->text) return FT_EMEM;
        js_where(d, e, &(*out)->line, &(*out)->col);
    }
    return FT_OK;
}

static ft_status keep_shown(asked *q, const cJSON *rec, const char *prompt,
                            const chat_input *messages, const cJSON *answer)
{
    str_buf s = {0}, id = {0};
    tool_json_key(&s, prompt ? "prompt" : "messages");
    if (prompt)
        str_json(&s, prompt, strlen(prompt));
    else
        js_print(&s, messages->messages, false);
    tool_json_key(&s, "answer");
    js_print(&s, answer, false);
    if (js_get(rec, "id")) js_print(&id, js_get(rec, "id"), false);
    ft_status rc = s.failed || id.failed ? FT_EMEM : FT_OK;
    q->shown = rc == FT_OK ? ft_strdup(s.data) : NULL;
    q->id = rc == FT_OK ? ft_strdup(id.data ? id.data : "") : NULL;
    str_free(&s);
    str_free(&id);
    return q->shown && q->id ? FT_OK : FT_EMEM;
}

ft_status eval_answers_ask(eval_answers *a, const js_doc *d, const cJSON *rec, int64_t line,
                           const char *prompt, const chat_input *messages, const cJSON *answer)
{
    asked *q = &a->q[a->n];
    if (!a->name) a->name = ft_strdup(d->name);
    if (!a->name) return FT_EMEM;
    q->line = line;
    FT_TRY(read_expected(d, answer, &q->right));
    FT_TRY(prompt ? tool_encode(a->t, prompt, strlen(prompt), &q->prompt)
                  : tool_chat_ids(a->t, messages, &q->prompt));
    if (q->prompt.n == 0) return js_fail(d, rec, FT_EDATA, "prompt", "is empty");
    if (a->task->samples) FT_TRY(keep_shown(q, rec, prompt, messages, answer));
    return ++a->n == ROUND ? answer_round(a) : FT_OK;
}

ft_status eval_answers_open(eval_answers **out, tool_model *t, eval_task *task)
{
    *out = ft_alloc(1, sizeof **out);
    if (!*out) return FT_EMEM;
    (*out)->t = t;
    (*out)->task = task;
    (*out)->match = rw_match_by_name(task->match);
    return FT_OK;
}

ft_status eval_answers_finish(eval_answers *a)
{
    if (a->n > 0) FT_TRY(answer_round(a));
    for (const char *const *m = a->task->metrics; *m; m++) {
        if (strcmp(*m, "n") == 0)
            FT_TRY(eval_count(a->task, "n", a->first));
        else if (str_ends(*m, "_stderr"))
            FT_TRY(eval_add(a->task, *m, eval_standard_error(a->hits, a->first)));
        else
            FT_TRY(eval_add(a->task, *m, (double)a->hits / (double)a->first));
    }
    return FT_OK;
}

void eval_answers_close(eval_answers *a)
{
    if (!a) return;
    forget_round(a);
    ft_free(a->name);
    ft_free(a);
}

/* --- generate ----------------------------------------------------------------------------------------------- */

#define AT(field) offsetof(eval_task, field)
static const cfg_field fields[] = {
    EVAL_FIELDS,
    EVAL_RECORDS,
    {.key = "match",
     .type = CFG_ENUM,
     .offset = AT(match),
     .def = "\"exact\"",
     .choices = rw_match_names,
     .help = "how the output is compared with the answer"},
    {.key = "max_new_tokens",
     .type = CFG_INT,
     .offset = AT(max_new_tokens),
     .def = "256",
     .low = 1,
     .high = 1e6,
     .help = "longest answer"},
    EVAL_TEMPLATE,
    {.key = "stop",
     .type = CFG_JSON,
     .offset = AT(stop),
     .help = "a string or a list of strings: the answer is what stands before the first of them"},
    CFG_END};

/* The last turn of the assistant is the right answer, what stands before it the question: *messages is a new list, whose
 * turns are those of the record. */
static ft_status take_last_turn(const js_doc *d, const cJSON *rec, chat_input *in,
                                const cJSON **answer, cJSON **messages)
{
    const cJSON *last = NULL, *turn;
    cJSON_ArrayForEach(turn, in->messages)
    {
        const cJSON *role = js_get(turn, "role");
        if (cJSON_IsString(role) && strcmp(role->valuestring, "assistant") == 0) last = turn;
    }
    *answer = last ? js_get(last, "content") : NULL;
    if (!*answer || !cJSON_IsString(*answer))
        return js_fail(d, rec, FT_EDATA, "answer",
                       "missing, and no assistant turn with a text stands in its place");
    *messages = cJSON_CreateArray();
    for (turn = in->messages->child; turn != last; turn = turn->next)
        if (!*messages || !cJSON_AddItemReferenceToArray(*messages, (cJSON *)(uintptr_t)turn))
            return ft_fail(FT_EMEM, "out of memory");
    in->messages = *messages;
    return *messages ? FT_OK : ft_fail(FT_EMEM, "out of memory");
}

static ft_status read_record(void *ctx, const js_doc *d, const cJSON *rec, int64_t line)
{
    chat_input in = {0};
    const char *prompt;
    size_t n;
    ft_status rc;
    cJSON *before = NULL;
    const cJSON *messages = js_get(rec, "messages"), *answer = js_get(rec, "answer");
    FT_TRY(tool_string(d, rec, "prompt", &prompt, &n));
    if (!prompt == !messages)
        return js_fail(d, rec, FT_EDATA, NULL, "needs one of prompt and messages");
    if (messages) FT_TRY(chat_read(&in, d, rec));
    if (!answer && prompt) return js_fail(d, rec, FT_EDATA, "answer", "missing");
    if (!answer) FT_TRY_OUT(take_last_turn(d, rec, &in, &answer, &before));
    rc = eval_answers_ask(ctx, d, rec, line, prompt, &in, answer);
out:
    cJSON_Delete(before);
    return rc;
}

static ft_status run(tool_model *t, eval_task *task)
{
    eval_answers *a;
    FT_TRY(eval_answers_open(&a, t, task));
    ft_status rc = eval_records(task, read_record, a);
    if (rc == FT_OK) rc = eval_answers_finish(a);
    eval_answers_close(a);
    return rc;
}

static const char *const metrics[] = {"accuracy", "accuracy_stderr", "n", NULL};
static const char *const json[] = {"messages", "tools", NULL};
const eval_kind eval_generate = {
    .json = json,
    .name = "generate",
    .help = "greedy answers compared with the right ones",
    .example = "{\"prompt\": \"2 + 2 =\", \"answer\": \"4\"}",
    .fields = fields,
    .metrics = metrics,
    .run = run,
};
