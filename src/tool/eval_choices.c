/* eval_choices.c – which of several continuations a model finds likeliest, as lm-evaluation-harness 0.4.13 counts it.
 *
 * Questions come with their choices as pairs of a context and what is scored behind it, so that choices may share the
 * context (multiple choice), or the continuation (winogrande); a single one is asked whether it is what the model would
 * have said (lambada). */
#include <math.h>
#include <string.h>

#include "eval_private.h"

enum { QUESTIONS = 64 };

typedef struct question {
    int n, gold;
    int64_t line;
    tok_ids ids[EVAL_MAX_CHOICES];
    int64_t from[EVAL_MAX_CHOICES];
    size_t bytes[EVAL_MAX_CHOICES], chars[EVAL_MAX_CHOICES];
    char *id, *query, *text[EVAL_MAX_CHOICES]; /* for the samples; NULL where none are wanted */
} question;

struct eval_choices {
    tool_model *t;
    eval_task *task;
    question q[QUESTIONS];
    int n;
    int64_t count, right, right_norm, right_bytes, greedy;
    double logprob; /* Σ of the right ones */
};

static void question_free(question *q)
{
    for (int i = 0; i < q->n; i++) {
        tok_ids_free(&q->ids[i]);
        ft_free(q->text[i]);
    }
    ft_free(q->id);
    ft_free(q->query);
    *q = (question){0};
}

/* --- judging ------------------------------------------------------------------------------------------------ */

/* Smallest index of the largest value, as numpy's argmax. */
static int arg_max(const double *v, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

typedef struct verdict {
    double sum[EVAL_MAX_CHOICES];
    int best, best_norm, best_bytes;
    bool greedy; /* every token of the right one is the likeliest */
} verdict;

static verdict judge(const question *q, const inf_seq *seq)
{
    verdict v = {.greedy = true};
    double by_char[EVAL_MAX_CHOICES], by_byte[EVAL_MAX_CHOICES];
    for (int i = 0; i < q->n; i++) {
        for (int64_t k = 0; k < seq[i].n - seq[i].from; k++) v.sum[i] += (double)seq[i].logprob[k];
        by_char[i] = v.sum[i] / (double)(q->chars[i] > 0 ? q->chars[i] : 1);
        by_byte[i] = v.sum[i] / (double)(q->bytes[i] > 0 ? q->bytes[i] : 1);
    }
    v.best = arg_max(v.sum, q->n);
    v.best_norm = arg_max(by_char, q->n);
    v.best_bytes = arg_max(by_byte, q->n);
    const inf_seq *s = &seq[q->gold];
    for (int64_t k = 0; k < s->n - s->from; k++)
        v.greedy = v.greedy && s->best[k] == s->id[s->from + k];
    return v;
}

static void put_verdict(str_buf *s, const char *key, int choice, int gold, const char *hit)
{
    tool_json_key(s, key);
    str_printf(s, "%d", choice);
    tool_json_key(s, hit);
    str_adds(s, choice == gold ? "1" : "0");
}

static ft_status put_sample(const eval_choices *c, const question *q, const verdict *v)
{
    str_buf s = {0};
    eval_sample_open(&s, c->task, q->line, q->id);
    tool_json_key(&s, "query");
    str_json(&s, q->query, strlen(q->query));
    tool_json_key(&s, "choices");
    for (int i = 0; i < q->n; i++) {
        str_adds(&s, i ? ",{" : "[{");
        tool_json_key(&s, "text");
        str_json(&s, q->text[i], strlen(q->text[i]));
        tool_json_key(&s, "logprob");
        tool_json_number(&s, v->sum[i]);
        str_addc(&s, '}');
    }
    str_addc(&s, ']');
    tool_json_key(&s, "gold");
    str_printf(&s, "%d", q->gold);
    if (q->n == 1) { /* there is nothing to choose from: was it what greedy decoding gives? */
        tool_json_key(&s, "acc");
        str_adds(&s, v->greedy ? "1" : "0");
    } else {
        put_verdict(&s, "pred", v->best, q->gold, "acc");
        put_verdict(&s, "pred_norm", v->best_norm, q->gold, "acc_norm");
    }
    ft_status rc = eval_sample_put(c->task, &s);
    str_free(&s);
    return rc;
}

static ft_status take(eval_choices *c, const question *q, const inf_seq *seq)
{
    const verdict v = judge(q, seq);
    c->count++;
    c->right += v.best == q->gold;
    c->right_norm += v.best_norm == q->gold;
    c->right_bytes += v.best_bytes == q->gold;
    c->greedy += v.greedy;
    c->logprob += v.sum[q->gold];
    return c->task->samples ? put_sample(c, q, &v) : FT_OK;
}

static ft_status flush(eval_choices *c)
{
    ft_status rc = FT_OK;
    int64_t n = 0, scored = 0, at = 0;
    inf_seq *seq = ft_alloc(QUESTIONS * EVAL_MAX_CHOICES, sizeof *seq);
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->q[i].n; k++) scored += c->q[i].ids[k].n;
    float *logprob = ft_alloc((size_t)scored + 1, sizeof *logprob);
    int32_t *best = ft_alloc((size_t)scored + 1, sizeof *best);
    FT_TRY_OUT(seq && logprob && best ? FT_OK : FT_EMEM);
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
        FT_TRY_OUT(take(c, &c->q[i], seq + n));
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

/* --- asking ------------------------------------------------------------------------------------------------- */

static ft_status add_choice(eval_choices *c, const js_doc *d, const eval_choice *choice,
                            question *q)
{
    str_buf text = {0};
    int k = q->n++;
    str_adds(&text, c->task->target_delimiter);
    str_adds(&text, choice->target);
    ft_status rc = str_ok(&text);
    q->bytes[k] = strlen(choice->text);
    q->chars[k] = utf8_count(choice->text, q->bytes[k]);
    if (rc == FT_OK && c->task->samples && !(q->text[k] = ft_strdup(choice->text))) rc = FT_EMEM;
    if (rc == FT_OK)
        rc = tool_encode_apart(c->t, choice->context, text.data, &q->ids[k], &q->from[k]);
    if (rc == FT_OK) rc = tool_cut_left(c->t, d, &q->ids[k], &q->from[k]);
    str_free(&text);
    return rc;
}

ft_status eval_choices_ask(eval_choices *c, const js_doc *d, const cJSON *rec, int64_t line,
                           const char *query, const eval_choice *choice, int n, int gold)
{
    question *q = &c->q[c->n++];
    q->gold = gold;
    q->line = line;
    if (c->task->samples) {
        str_buf id = {0};
        if (js_get(rec, "id")) js_print(&id, js_get(rec, "id"), false);
        q->id = ft_strdup(id.data ? id.data : "");
        q->query = ft_strdup(query);
        ft_status rc = str_ok(&id);
        str_free(&id);
        if (rc != FT_OK || !q->id || !q->query) return FT_EMEM;
    }
    for (int i = 0; i < n; i++) FT_TRY(add_choice(c, d, &choice[i], q));
    return c->n == QUESTIONS ? flush(c) : FT_OK;
}

ft_status eval_choices_open(eval_choices **out, tool_model *t, eval_task *task)
{
    *out = ft_alloc(1, sizeof **out);
    if (!*out) return FT_EMEM;
    (*out)->t = t;
    (*out)->task = task;
    return FT_OK;
}

ft_status eval_choices_finish(eval_choices *c)
{
    if (c->n > 0) FT_TRY(flush(c));
    const int64_t acc = c->task->kind == &eval_lambada ? c->greedy : c->right;
    const double n = (double)c->count;
    const struct {
        const char *name;
        double value;
    } known[] = {{"perplexity", exp(-c->logprob / n)},
                 {"acc", (double)acc / n},
                 {"acc_stderr", eval_standard_error(acc, c->count)},
                 {"acc_norm", (double)c->right_norm / n},
                 {"acc_norm_stderr", eval_standard_error(c->right_norm, c->count)},
                 {"acc_bytes", (double)c->right_bytes / n},
                 {"acc_bytes_stderr", eval_standard_error(c->right_bytes, c->count)}};
    for (const char *const *m = c->task->metrics; *m; m++) {
        for (size_t i = 0; i < FT_COUNT_OF(known); i++)
            if (strcmp(*m, known[i].name) == 0)
                FT_TRY(eval_add(c->task, known[i].name, known[i].value));
    }
    return eval_count(c->task, "n", c->count);
}

void eval_choices_close(eval_choices *c)
{
    if (!c) return;
    for (int i = 0; i < c->n; i++) question_free(&c->q[i]);
    ft_free(c);
}

/* --- multiple_choice ---------------------------------------------------------------------------------------- */

static const cfg_field fields[] = {EVAL_FIELDS,
                                   EVAL_RECORDS,
                                   {.key = "target_delimiter",
                                    .type = CFG_STR,
                                    .offset = offsetof(eval_task, target_delimiter),
                                    .def = "\" \"",
                                    .help = "between the query and a choice"},
                                   CFG_END};

static ft_status read_question(void *ctx, const js_doc *d, const cJSON *rec, int64_t line)
{
    eval_choices *c = ctx;
    eval_choice choice[EVAL_MAX_CHOICES];
    const char *query;
    size_t n;
    int64_t gold;
    int k = 0;
    const cJSON *list = js_get(rec, "choices"), *e;
    FT_TRY(tool_string(d, rec, "query", &query, &n));
    if (!query) return js_fail(d, rec, FT_EDATA, "query", "missing");
    int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (count < 2 || count > EVAL_MAX_CHOICES)
        return js_fail(d, list ? list : rec, FT_EDATA, "choices",
                       "must be a list of 2 to %d strings", EVAL_MAX_CHOICES);
    if (!js_get(rec, "gold")) return js_fail(d, rec, FT_EDATA, "gold", "missing");
    FT_TRY(js_get_int(d, rec, "gold", 0, 0, count - 1, &gold));
    cJSON_ArrayForEach(e, list)
    {
        if (!cJSON_IsString(e))
            return js_fail(d, e, FT_EDATA, "choices", "must be a list of strings");
        choice[k++] =
            (eval_choice){.context = query, .target = e->valuestring, .text = e->valuestring};
    }
    return eval_choices_ask(c, d, rec, line, query, choice, count, (int)gold);
}

static ft_status run(tool_model *t, eval_task *task)
{
    eval_choices *c;
    FT_TRY(eval_choices_open(&c, t, task));
    ft_status rc = eval_records(task, read_question, c);
    if (rc == FT_OK) rc = eval_choices_finish(c);
    eval_choices_close(c);
    return rc;
}

static const char *const metrics[] = {
    "acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "acc_bytes", "acc_bytes_stderr", "n", NULL};
static const char *const json[] = {"choices", "gold", NULL};
const eval_kind eval_multiple_choice = {
    .json = json,
    .name = "multiple_choice",
    .help = "the likeliest of several choices, as lm-evaluation-harness scores it",
    .example = "{\"query\": \"The sky is\", \"choices\": [\"blue.\", \"a fish.\"], \"gold\": "
               "0}",
    .fields = fields,
    .metrics = metrics,
    .run = run,
};
