/* eval_tasks.c – the kinds of evaluation: strided perplexity, multiple choice, generation with matching. */
#include <math.h>
#include <string.h>

#include "eval_private.h"

#define AT(field) offsetof(eval_task, field)
/* clang-format off */
#define COMMON_FIELDS                                                                                         \
    { .key = "name", .type = CFG_STR, .offset = AT(name), .help = "name in results and gates; default: the type" },\
    { .key = "type", .type = CFG_STR, .offset = AT(type), .required = true, .help = "kind of task" },          \
    { .key = "data", .type = CFG_PATH, .offset = AT(data), .required = true, .help = "file of the task" },     \
    { .key = "limit", .type = CFG_INT, .offset = AT(limit), .def = "0", .low = 0, .high = 1e15,                \
      .help = "records to use; 0: all" }
/* clang-format on */

/* --- perplexity ------------------------------------------------------------------------------------------- */

static const cfg_field perplexity_fields[] = {
    COMMON_FIELDS,
    {.key = "max_length",
     .type = CFG_INT,
     .offset = AT(max_length),
     .def = "0",
     .low = 0,
     .high = 1e9,
     .help = "tokens of a window; 0: 1024, or what the model can hold"},
    {.key = "stride",
     .type = CFG_INT,
     .offset = AT(stride),
     .def = "0",
     .low = 0,
     .high = 1e9,
     .help = "tokens a window moves on; 0: max_length"},
    CFG_END};

typedef struct text_parts {
    str_buf *text;
} text_parts;

/* Records of a .jsonl are joined by a blank line, as Hugging Face's example joins its rows. */
static ft_status add_text(void *ctx, const js_doc *d, int64_t index)
{
    text_parts *p = ctx;
    const char *text;
    size_t n;
    FT_TRY(tool_string(d, d->root, "text", &text, &n));
    if (!text) return js_fail(d, d->root, FT_EDATA, "text", "missing");
    if (index > 0) str_adds(p->text, "\n\n");
    str_add(p->text, text, n);
    return FT_OK;
}

static bool is_jsonl(const char *path)
{
    return str_ends(path, ".jsonl") || str_ends(path, ".jsonl.gz");
}

static ft_status read_text(const eval_task *task, str_buf *out)
{
    char *text;
    size_t n;
    if (is_jsonl(task->data)) {
        FT_TRY(eval_lines(task, add_text, &(text_parts){out}));
        return str_ok(out);
    }
    FT_TRY(text_read(&text, &n, task->data, (size_t)1 << 32));
    str_add(out, text, n);
    ft_free(text);
    return str_ok(out);
}

typedef struct windows {
    const tok_ids *ids;
    int64_t max_length, stride;
    int64_t begin, scored_to; /* of the next window; tokens before scored_to are done */
    bool done;
    double nll;
    int64_t tokens;
} windows;

enum { WINDOWS = 64 }; /* in one call of inf_score */

/* Hugging Face's strided windows: a token is scored once, by the first window that holds it; the first token of a
 * window has no context there and is left out when no earlier window had it. */
static int64_t next_windows(windows *w, inf_seq *seq, float *logprob, int32_t *best)
{
    int64_t n = 0, at = 0;
    while (!w->done && n < WINDOWS) {
        int64_t end = w->begin + w->max_length < w->ids->n ? w->begin + w->max_length : w->ids->n;
        int64_t from = w->scored_to > w->begin ? w->scored_to - w->begin : 1;
        seq[n] = (inf_seq){.id = w->ids->id + w->begin,
                           .n = end - w->begin,
                           .from = from,
                           .logprob = logprob + at,
                           .best = best + at};
        if (from < seq[n].n) at += seq[n++].n - from;
        w->scored_to = end;
        w->begin += w->stride;
        w->done = end == w->ids->n;
    }
    return n;
}

static ft_status score_windows(tool_model *t, windows *w)
{
    ft_status rc = FT_OK;
    inf_seq *seq = ft_alloc(WINDOWS, sizeof *seq);
    float *logprob = ft_alloc((size_t)(WINDOWS * w->max_length), sizeof *logprob);
    int32_t *best = ft_alloc((size_t)(WINDOWS * w->max_length), sizeof *best);
    FT_GUARD(seq && logprob && best, FT_EMEM, "%s", ft_error());
    while (!w->done) {
        int64_t n = next_windows(w, seq, logprob, best);
        FT_TRY_OUT(inf_score(&t->inf, seq, n));
        for (int64_t i = 0; i < n; i++) {
            for (int64_t k = 0; k < seq[i].n - seq[i].from; k++)
                w->nll -= (double)seq[i].logprob[k];
            w->tokens += seq[i].n - seq[i].from;
        }
        log_progress("perplexity: %lld of %lld tokens", (long long)w->scored_to,
                     (long long)w->ids->n);
    }
out:
    ft_free(seq);
    ft_free(logprob);
    ft_free(best);
    return rc;
}

static ft_status run_perplexity(tool_model *t, eval_task *task)
{
    ft_status rc;
    str_buf text = {0};
    tok_ids ids = {0};
    windows w = {.ids = &ids, .max_length = task->max_length, .stride = task->stride};
    int64_t most = t->m->d.max_position - nn_virtual(t->inf.over);
    if (w.max_length == 0) w.max_length = most > 0 && most < 1024 ? most : 1024;
    if (w.stride == 0) w.stride = w.max_length;
    FT_CHECK(w.max_length >= 2, FT_ECONFIG, "task %s: max_length must be at least 2", task->name);
    FT_CHECK(
        w.stride <= w.max_length, FT_ECONFIG,
        "task %s: stride %lld is larger than max_length %lld: tokens between the windows would "
        "never be scored",
        task->name, (long long)w.stride, (long long)w.max_length);
    FT_TRY_OUT(read_text(task, &text));
    FT_TRY_OUT(tool_encode(t, text.data ? text.data : "", text.len, &ids));
    FT_GUARD(ids.n >= 2, FT_EDATA, "%s: fewer than two tokens; nothing to score",
             ft_shows(task->data));
    if (w.max_length > ids.n) w.max_length = ids.n;
    FT_TRY_OUT(score_windows(t, &w));
    FT_GUARD(w.tokens > 0, FT_EDATA, "%s: nothing to score", ft_shows(task->data));
    eval_add(task, "perplexity", exp(w.nll / (double)w.tokens));
    eval_add(task, "nll", w.nll / (double)w.tokens);
    eval_count(task, "tokens", w.tokens);
    eval_add(task, "bits_per_byte", w.nll / M_LN2 / (double)text.len);
out:
    str_free(&text);
    tok_ids_free(&ids);
    return rc;
}

static const char *const perplexity_metrics[] = {"perplexity", "nll", "tokens", "bits_per_byte",
                                                 NULL};
const eval_kind eval_perplexity = {
    .name = "perplexity",
    .help = "of a text, in strided windows",
    .fields = perplexity_fields,
    .metrics = perplexity_metrics,
    .run = run_perplexity,
};

/* --- multiple choice ----------------------------------------------------------------------------------------- */

static const cfg_field choice_fields[] = {COMMON_FIELDS,
                                          {.key = "target_delimiter",
                                           .type = CFG_STR,
                                           .offset = AT(target_delimiter),
                                           .def = "\" \"",
                                           .help = "between the query and a choice"},
                                          CFG_END};

enum { MAX_CHOICES = 64, QUESTIONS = 64 };

typedef struct question {
    int n, gold;
    tok_ids ids[MAX_CHOICES];
    int64_t from[MAX_CHOICES];
    size_t bytes[MAX_CHOICES], chars[MAX_CHOICES];
} question;

typedef struct choices {
    tool_model *t;
    eval_task *task;
    question *q; /* [QUESTIONS] */
    int n;
    int64_t count, right, right_norm, right_bytes;
} choices;

static void question_free(question *q)
{
    for (int i = 0; i < q->n; i++) tok_ids_free(&q->ids[i]);
    *q = (question){0};
}

/* Smallest index of the largest value, as numpy's argmax. */
static int arg_max(const double *v, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

static void judge(choices *c, const question *q, const inf_seq *seq)
{
    double sum[MAX_CHOICES], by_char[MAX_CHOICES], by_byte[MAX_CHOICES];
    for (int i = 0; i < q->n; i++) {
        sum[i] = 0;
        for (int64_t k = 0; k < seq[i].n - seq[i].from; k++) sum[i] += (double)seq[i].logprob[k];
        by_char[i] = sum[i] / (double)(q->chars[i] > 0 ? q->chars[i] : 1);
        by_byte[i] = sum[i] / (double)(q->bytes[i] > 0 ? q->bytes[i] : 1);
    }
    c->count++;
    c->right += arg_max(sum, q->n) == q->gold;
    c->right_norm += arg_max(by_char, q->n) == q->gold;
    c->right_bytes += arg_max(by_byte, q->n) == q->gold;
}

static ft_status flush_questions(choices *c)
{
    ft_status rc = FT_OK;
    int64_t n = 0, scored = 0, at = 0;
    inf_seq *seq = ft_alloc(QUESTIONS * MAX_CHOICES, sizeof *seq);
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->q[i].n; k++) scored += c->q[i].ids[k].n;
    float *logprob = ft_alloc((size_t)scored + 1, sizeof *logprob);
    int32_t *best = ft_alloc((size_t)scored + 1, sizeof *best);
    FT_GUARD(seq && logprob && best, FT_EMEM, "%s", ft_error());
    for (int i = 0; i < c->n; i++) {
        for (int k = 0; k < c->q[i].n; k++) {
            const tok_ids *ids = &c->q[i].ids[k];
            int64_t from = c->q[i].from[k] < ids->n ? c->q[i].from[k] : ids->n;
            seq[n++] = (inf_seq){.id = ids->id,
                                 .n = ids->n,
                                 .from = from,
                                 .logprob = logprob + at,
                                 .best = best + at};
            at += ids->n - from;
        }
    }
    FT_TRY_OUT(inf_score(&c->t->inf, seq, n));
    n = 0;
    for (int i = 0; i < c->n; i++) {
        judge(c, &c->q[i], seq + n);
        n += c->q[i].n;
    }
    log_progress("%s: %lld questions", c->task->name, (long long)c->count);
out:
    for (int i = 0; i < c->n; i++) question_free(&c->q[i]);
    c->n = 0;
    ft_free(seq);
    ft_free(logprob);
    ft_free(best);
    return rc;
}

static ft_status read_choice(choices *c, const js_doc *d, const char *query, size_t n,
                             const cJSON *choice, question *q)
{
    str_buf text = {0};
    if (!cJSON_IsString(choice))
        return js_fail(d, choice, FT_EDATA, "choices", "must be a list of strings");
    str_adds(&text, c->task->target_delimiter);
    str_adds(&text, choice->valuestring);
    ft_status rc = str_ok(&text);
    int k = q->n++;
    q->bytes[k] = strlen(choice->valuestring);
    q->chars[k] = utf8_count(choice->valuestring, q->bytes[k]);
    if (rc == FT_OK)
        rc = tool_encode_pair(c->t, query, n, text.data, text.len, &q->ids[k], &q->from[k]);
    if (rc == FT_OK) rc = tool_cut_left(c->t, d, &q->ids[k], &q->from[k]);
    str_free(&text);
    return rc;
}

static ft_status read_question(void *ctx, const js_doc *d, int64_t index)
{
    choices *c = ctx;
    const char *query;
    size_t n;
    int64_t gold;
    const cJSON *list = js_get(d->root, "choices"), *e;
    (void)index;
    FT_TRY(tool_string(d, d->root, "query", &query, &n));
    if (!query) return js_fail(d, d->root, FT_EDATA, "query", "missing");
    int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (count < 2 || count > MAX_CHOICES)
        return js_fail(d, list ? list : d->root, FT_EDATA, "choices",
                       "must be a list of 2 to %d strings", MAX_CHOICES);
    if (!js_get(d->root, "gold")) return js_fail(d, d->root, FT_EDATA, "gold", "missing");
    FT_TRY(js_get_int(d, d->root, "gold", 0, 0, count - 1, &gold));
    question *q = &c->q[c->n++];
    q->gold = (int)gold;
    cJSON_ArrayForEach(e, list) FT_TRY(read_choice(c, d, query, n, e, q));
    return c->n == QUESTIONS ? flush_questions(c) : FT_OK;
}

/* Standard error of a mean of zeros and ones with the sample's variance (n − 1), as lm-evaluation-harness. */
static double standard_error(int64_t right, int64_t n)
{
    double p = (double)right / (double)n;
    return n > 1 ? sqrt(p * (1 - p) / (double)(n - 1)) : 0;
}

static ft_status run_choices(tool_model *t, eval_task *task)
{
    choices c = {.t = t, .task = task, .q = ft_alloc(QUESTIONS, sizeof *c.q)};
    if (!c.q) return FT_EMEM;
    ft_status rc = eval_lines(task, read_question, &c);
    if (rc == FT_OK && c.n > 0) rc = flush_questions(&c);
    for (int i = 0; i < c.n; i++) question_free(&c.q[i]);
    ft_free(c.q);
    if (rc != FT_OK) return rc;
    eval_add(task, "acc", (double)c.right / (double)c.count);
    eval_add(task, "acc_stderr", standard_error(c.right, c.count));
    eval_add(task, "acc_norm", (double)c.right_norm / (double)c.count);
    eval_add(task, "acc_norm_stderr", standard_error(c.right_norm, c.count));
    eval_add(task, "acc_bytes", (double)c.right_bytes / (double)c.count);
    eval_add(task, "acc_bytes_stderr", standard_error(c.right_bytes, c.count));
    eval_count(task, "n", c.count);
    return FT_OK;
}

static const char *const choice_metrics[] = {
    "acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "acc_bytes", "acc_bytes_stderr", "n", NULL};
const eval_kind eval_multiple_choice = {
    .name = "multiple_choice",
    .help = "the likeliest of the choices, as lm-evaluation-harness",
    .fields = choice_fields,
    .metrics = choice_metrics,
    .run = run_choices,
};

/* --- generate -------------------------------------------------------------------------------------------------- */

static const cfg_field generate_fields[] = {
    COMMON_FIELDS,
    {.key = "match",
     .type = CFG_ENUM,
     .offset = AT(match),
     .def = "\"exact\"",
     .choices = tool_match_names,
     .help = "how the output is compared with the answer"},
    {.key = "max_new_tokens",
     .type = CFG_INT,
     .offset = AT(max_new_tokens),
     .def = "256",
     .low = 1,
     .high = 1e6,
     .help = "longest answer"},
    {.key = "stop",
     .type = CFG_JSON,
     .offset = AT(stop),
     .help = "a string or a list of strings: the answer is what stands before the first of them"},
    CFG_END};

typedef struct expected { /* one of the right answers of a record */
    char *text;
    int64_t line;
    int col;
    struct expected *next;
} expected;

enum { ROUND = 64 }; /* records that are answered together */

typedef struct answers {
    tool_model *t;
    eval_task *task;
    const tool_match *match;
    char *name; /* of the file */
    tok_ids prompt[ROUND];
    expected *right[ROUND];
    inf_answer answer[ROUND];
    int64_t n, first, hits; /* records in the round and before it */
} answers;

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

static ft_status any_match(const answers *a, const expected *e, const char *text, size_t n,
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

static void forget_round(answers *a)
{
    inf_answers_free(a->answer, ROUND);
    for (int64_t i = 0; i < ROUND; i++) {
        tok_ids_free(&a->prompt[i]);
        for (expected *e = a->right[i], *next; e; e = next) {
            next = e->next;
            ft_free(e->text);
            ft_free(e);
        }
        a->right[i] = NULL;
    }
    a->n = 0;
}

static ft_status judge_answer(answers *a, int64_t i)
{
    str_buf text = {0};
    bool hit;
    ft_status rc = tool_answer_text(a->t, &a->answer[i], &text);
    if (rc == FT_OK) rc = str_ok(&text);
    const char *s = text.data ? text.data : "";
    if (rc == FT_OK)
        rc = any_match(a, a->right[i], s, cut_at_stops(a->task->stop, s, text.len), &hit);
    if (rc == FT_OK) a->hits += hit;
    str_free(&text);
    return rc;
}

static ft_status answer_round(answers *a)
{
    inf_sampling s = INF_SAMPLING_DEFAULT;
    s.max_new = a->task->max_new_tokens;
    s.first = (uint64_t)a->first;
    FT_TRY(tool_generate(a->t, a->prompt, a->n, &s, NULL, NULL, a->answer));
    for (int64_t i = 0; i < a->n; i++) FT_TRY(judge_answer(a, i));
    a->first += a->n;
    forget_round(a);
    log_progress("%s: %lld of %lld right", a->task->name, (long long)a->hits, (long long)a->first);
    return FT_OK;
}

static ft_status read_expected(const js_doc *d, expected **out)
{
    const cJSON *answer = js_get(d->root, "answer");
    const cJSON *e = cJSON_IsArray(answer) ? answer->child : answer;
    if (!e) return js_fail(d, d->root, FT_EDATA, "answer", "missing");
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

static ft_status read_record(void *ctx, const js_doc *d, int64_t index)
{
    answers *a = ctx;
    chat_input in = {0};
    const char *prompt;
    size_t n;
    const cJSON *messages = js_get(d->root, "messages");
    tok_ids *ids = &a->prompt[a->n];
    (void)index;
    if (!a->name) a->name = ft_strdup(d->name);
    if (!a->name) return FT_EMEM;
    FT_TRY(read_expected(d, &a->right[a->n]));
    FT_TRY(tool_string(d, d->root, "prompt", &prompt, &n));
    if (!prompt == !messages)
        return js_fail(d, d->root, FT_EDATA, NULL, "needs one of prompt and messages");
    if (messages) FT_TRY(chat_read(&in, d, d->root));
    FT_TRY(messages ? tool_chat_ids(a->t, &in, ids) : tool_encode(a->t, prompt, n, ids));
    if (ids->n == 0) return js_fail(d, d->root, FT_EDATA, "prompt", "is empty");
    return ++a->n == ROUND ? answer_round(a) : FT_OK;
}

static ft_status run_generate(tool_model *t, eval_task *task)
{
    answers *a = ft_alloc(1, sizeof *a);
    if (!a) return FT_EMEM;
    *a = (answers){.t = t, .task = task, .match = tool_match_by_name(task->match)};
    ft_status rc = eval_lines(task, read_record, a);
    if (rc == FT_OK && a->n > 0) rc = answer_round(a);
    if (rc == FT_OK) {
        eval_add(task, "accuracy", (double)a->hits / (double)a->first);
        eval_add(task, "accuracy_stderr", standard_error(a->hits, a->first));
        eval_count(task, "n", a->first);
    }
    forget_round(a);
    ft_free(a->name);
    ft_free(a);
    return rc;
}

static const char *const generate_metrics[] = {"accuracy", "accuracy_stderr", "n", NULL};
const eval_kind eval_generate = {
    .name = "generate",
    .help = "greedy answers compared with the right ones",
    .fields = generate_fields,
    .metrics = generate_metrics,
    .run = run_generate,
};
