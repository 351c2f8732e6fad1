/* eval_hub.c – well-known benchmarks in the fields that their data sets have on the Hugging Face hub.
 *
 * A row is what lm-evaluation-harness 0.4.13's task says of the same data, without examples in the prompt, and in its own
 * words: Jinja over the record. So query, choices and the right one are data here as they are there (hellaswag,
 * winogrande, piqa, arc_easy and arc_challenge, mmlu_*, lambada_openai; gsm8k's question). */
#include <stdlib.h>
#include <string.h>

#include "eval_private.h"

typedef struct hub hub;
typedef struct hub_row {
    ft_status (*ask)(hub *h, const js_doc *d, const cJSON *rec, int64_t line);
    const char
        *needs; /* keys of a record: a text; KEY[]: a list of texts; KEY=: a text or a number */
    const char *query;   /* what stands before each choice */
    const char *choices; /* a JSON list of texts. shared: of what stands before `target` */
    const char *target;  /* NULL: the choice itself */
    const char *gold;    /* index of the right one */
    bool wikihow;        /* the texts are cleaned as those of WikiHow */
    int exactly;         /* choices; 0: 2 or more */
} hub_row;

enum { QUERY, CHOICES, TARGET, GOLD, N_TEXTS };

struct hub { /* a row at work */
    const hub_row *row;
    const eval_task *task;
    tpl_template *tpl[N_TEXTS]; /* NULL: the row has none */
    eval_choices *choices;
    eval_answers *answers;
};

/* --- a record, checked --------------------------------------------------------------------------------------- */

static const cJSON *below(const cJSON *o, const char *path, size_t n)
{
    char key[64];
    while (o && n > 0) {
        const char *dot = memchr(path, '.', n);
        size_t k = dot ? (size_t)(dot - path) : n;
        if (k >= sizeof key) return NULL;
        memcpy(key, path, k);
        key[k] = '\0';
        o = cJSON_IsObject(o) ? js_get(o, key) : NULL;
        path += k + (dot != NULL);
        n -= k + (dot != NULL);
    }
    return o;
}

static bool all_texts(const cJSON *list)
{
    const cJSON *e;
    if (!cJSON_IsArray(list)) return false;
    cJSON_ArrayForEach(e, list) if (!cJSON_IsString(e)) return false;
    return true;
}

static ft_status check_record(const hub_row *row, const char *task, const js_doc *d,
                              const cJSON *rec)
{
    for (const char *p = row->needs; *p;) {
        size_t n = strcspn(p, " "), k = strcspn(p, " []=");
        bool list = k < n && p[k] == '[', scalar = k < n && p[k] == '=';
        const cJSON *v = below(rec, p, k);
        const char *key = ft_show(p, k);
        if (!v) return js_fail(d, rec, FT_EDATA, key, "missing; a record of %s has it", task);
        if (list ? !all_texts(v) : !cJSON_IsString(v) && !(scalar && cJSON_IsNumber(v)))
            return js_fail(d, v, FT_EDATA, key, "must be %s",
                           list     ? "a list of strings"
                           : scalar ? "a string or a number"
                                    : "a string");
        p += n + (p[n] == ' ');
    }
    return FT_OK;
}

/* --- texts -------------------------------------------------------------------------------------------------- */

/* re.sub("\[.*?\]", ""), then replace("  ", " "): the brackets are what is left of the pages' markup. */
static void clean(const char *text, str_buf *out)
{
    str_buf plain = {0};
    for (const char *p = text; *p;) {
        size_t line = strcspn(p, "\n");
        const char *end = *p == '[' ? memchr(p, ']', line) : NULL;
        if (!end) str_addc(&plain, *p);
        p = end ? end + 1 : p + 1;
    }
    for (const char *p = plain.data ? plain.data : ""; *p; p++) {
        str_addc(out, *p);
        if (p[0] == ' ' && p[1] == ' ') p++;
    }
    out->failed = out->failed || plain.failed;
    str_free(&plain);
}

/* A message of a template names no record. */
static ft_status at_record(ft_status rc, const js_doc *d, const cJSON *rec)
{
    if (rc != FT_EDATA) return rc;
    char *why = ft_strdup(ft_error());
    js_fail(d, rec, rc, NULL, "%s", why ? why : "");
    ft_free(why);
    return rc;
}

static ft_status render(const hub *h, int which, const js_doc *d, const cJSON *rec, str_buf *out)
{
    str_buf text = {0};
    ft_status rc = tpl_render_spans(h->tpl[which], rec, &text, NULL);
    if (rc == FT_OK) rc = str_ok(&text);
    const char *s = text.data ? text.data : "";
    str_clear(out);
    if (rc == FT_OK && h->row->wikihow && which == QUERY)
        clean(s, out);
    else
        str_add(out, s, text.len);
    str_addc(out, '\0');
    str_free(&text);
    return rc == FT_OK ? str_ok(out) : at_record(rc, d, rec);
}

/* The texts of the choices, one after another, each with its NUL. */
static ft_status read_choices(const hub *h, const js_doc *d, const cJSON *rec, str_buf *out, int *n)
{
    js_doc list = {0};
    str_buf json = {0};
    const cJSON *e;
    ft_status rc = render(h, CHOICES, d, rec, &json);
    if (rc == FT_OK)
        rc = js_parse(&list, json.data, strlen(json.data), d->name, 1, JS_NO_POSITIONS, FT_EDATA);
    *n = rc == FT_OK ? cJSON_GetArraySize(list.root) : 0;
    cJSON_ArrayForEach(e, list.root)
    {
        if (h->row->wikihow)
            clean(e->valuestring, out);
        else
            str_adds(out, e->valuestring);
        str_addc(out, '\0');
    }
    js_close(&list);
    str_free(&json);
    if (rc == FT_OK) rc = str_ok(out);
    int exactly = h->row->exactly, low = exactly ? exactly : 2;
    if (rc == FT_OK && (*n < low || *n > (exactly ? exactly : EVAL_MAX_CHOICES)))
        rc = js_fail(d, rec, FT_EDATA, NULL, "has %d choices, and must have %d%s", *n, low,
                     exactly ? "" : " or more");
    return rc;
}

static ft_status read_gold(const hub *h, const js_doc *d, const cJSON *rec, int n, int *gold)
{
    str_buf text = {0};
    char *end;
    ft_status rc = render(h, GOLD, d, rec, &text);
    if (rc == FT_OK) {
        long v = strtol(text.data, &end, 10);
        *gold = (int)v;
        if (end == text.data || *end || v < 0 || v >= n)
            rc = js_fail(d, rec, FT_EDATA, NULL,
                         "its right answer (\"%s\") is none of its %d choices; records of a test "
                         "set whose answers are withheld cannot be judged",
                         ft_shows(text.data), n);
    }
    str_free(&text);
    return rc;
}

static ft_status ask(hub *h, const js_doc *d, const cJSON *rec, int64_t line)
{
    eval_choice choice[EVAL_MAX_CHOICES];
    str_buf query = {0}, target = {0}, texts = {0};
    int n, gold = 0;
    ft_status rc = FT_OK;
    FT_TRY_OUT(render(h, QUERY, d, rec, &query));
    FT_TRY_OUT(read_choices(h, d, rec, &texts, &n));
    FT_TRY_OUT(read_gold(h, d, rec, n, &gold));
    if (h->tpl[TARGET]) FT_TRY_OUT(render(h, TARGET, d, rec, &target));
    const char *p = texts.data;
    for (int i = 0; i < n; i++, p += strlen(p) + 1)
        choice[i] = h->tpl[TARGET] ? (eval_choice){.context = p, .target = target.data, .text = p}
                                   : (eval_choice){.context = query.data, .target = p, .text = p};
    rc = eval_choices_ask(h->choices, d, rec, line, query.data, choice, n, gold);
out:
    str_free(&query);
    str_free(&target);
    str_free(&texts);
    return rc;
}

/* A text without choices: is its end what the model would have said? */
static ft_status ask_end(hub *h, const js_doc *d, const cJSON *rec, int64_t line)
{
    str_buf query = {0}, target = {0};
    ft_status rc = render(h, QUERY, d, rec, &query);
    if (rc == FT_OK) rc = render(h, TARGET, d, rec, &target);
    const eval_choice one = {.context = query.data, .target = target.data, .text = target.data};
    if (rc == FT_OK) rc = eval_choices_ask(h->choices, d, rec, line, query.data, &one, 1, 0);
    str_free(&query);
    str_free(&target);
    return rc;
}

/* The answer is what stands behind the last "####" of the worked one, and so its last number. */
static ft_status ask_number(hub *h, const js_doc *d, const cJSON *rec, int64_t line)
{
    const cJSON *answer = js_get(rec, "answer");
    const char *mark = NULL;
    for (const char *p = answer->valuestring; (p = strstr(p, "####")) != NULL;) mark = p += 4;
    if (!mark || !mark[strcspn(mark, "0123456789")])
        return js_fail(d, answer, FT_EDATA, "answer", "has no \"#### \" with a number behind it");
    str_buf prompt = {0};
    ft_status rc = render(h, QUERY, d, rec, &prompt);
    if (rc == FT_OK) rc = eval_answers_ask(h->answers, d, rec, line, prompt.data, NULL, answer);
    str_free(&prompt);
    return rc;
}

static ft_status each(void *ctx, const js_doc *d, const cJSON *rec, int64_t line)
{
    hub *h = ctx;
    FT_TRY(check_record(h->row, h->task->kind->name, d, rec));
    return h->row->ask(h, d, rec, line);
}

/* --- a task ------------------------------------------------------------------------------------------------- */

static ft_status open_templates(hub *h)
{
    const char *const text[N_TEXTS] = {h->row->query, h->row->choices, h->row->target,
                                       h->row->gold};
    for (int i = 0; i < N_TEXTS; i++)
        if (text[i]) FT_TRY(tpl_open(&h->tpl[i], text[i], strlen(text[i]), h->task->kind->name));
    return FT_OK;
}

static void close_templates(hub *h)
{
    for (int i = 0; i < N_TEXTS; i++) tpl_close(h->tpl[i]);
}

static ft_status run_choices(tool_model *t, eval_task *task)
{
    hub h = {.row = task->kind->row, .task = task};
    task->target_delimiter = " ";
    ft_status rc = open_templates(&h);
    if (rc == FT_OK) rc = eval_choices_open(&h.choices, t, task);
    if (rc == FT_OK) rc = eval_records(task, each, &h);
    if (rc == FT_OK) rc = eval_choices_finish(h.choices);
    eval_choices_close(h.choices);
    close_templates(&h);
    return rc;
}

static ft_status run_number(tool_model *t, eval_task *task)
{
    static const char *const stops[] = {"Question:", "</s>", "<|im_end|>"};
    hub h = {.row = task->kind->row, .task = task};
    cJSON *stop = cJSON_CreateStringArray(stops, FT_COUNT_OF(stops));
    if (!stop) return ft_fail(FT_EMEM, "out of memory");
    task->match = "last_number";
    task->stop = stop;
    ft_status rc = open_templates(&h);
    if (rc == FT_OK) rc = eval_answers_open(&h.answers, t, task);
    if (rc == FT_OK) rc = eval_records(task, each, &h);
    if (rc == FT_OK) rc = eval_answers_finish(h.answers);
    eval_answers_close(h.answers);
    close_templates(&h);
    cJSON_Delete(stop);
    task->stop = NULL;
    return rc;
}

/* --- the rows ----------------------------------------------------------------------------------------------- */

static const cfg_field fields[] = {EVAL_FIELDS, EVAL_RECORDS, CFG_END};
static const cfg_field answer_fields[] = {EVAL_FIELDS,
                                          EVAL_RECORDS,
                                          {.key = "max_new_tokens",
                                           .type = CFG_INT,
                                           .offset = offsetof(eval_task, max_new_tokens),
                                           .def = "256",
                                           .low = 1,
                                           .high = 1e6,
                                           .help = "longest answer"},
                                          CFG_END};

static const char *const lists[] = {"endings", "choices", NULL};

static const char *const normed[] = {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "n", NULL};
static const char *const plain[] = {"acc", "acc_stderr", "n", NULL};
static const char *const end_metrics[] = {"perplexity", "acc", "acc_stderr", "n", NULL};
static const char *const number_metrics[] = {
    "exact_match", "exact_match_stderr", "accuracy", "accuracy_stderr", "n", NULL};

/* WikiHow's titles end a sentence. */
#define TITLES ".strip().replace(' [title]', '. ')"

static const hub_row hellaswag = {
    .ask = ask,
    .needs = "activity_label ctx_a ctx_b endings[] label=",
    .query = "{{ (activity_label + ': ' + ctx_a + ' ' + ctx_b.capitalize())" TITLES " }}",
    .choices =
        "[{% for e in endings %}{{ ', ' if not loop.first }}{{ e" TITLES "|tojson }}{% endfor %}]",
    .gold = "{{ label }}",
    .wikihow = true,
};
const eval_kind eval_hellaswag = {
    .name = "hellaswag",
    .help = "Rowan/hellaswag: how a description goes on",
    .example = "{\"activity_label\": \"Baking\", \"ctx_a\": \"A man stirs the dough.\", "
               "\"ctx_b\": \"he\", \"endings\": [\"puts it into the oven.\", \"reads it "
               "aloud.\", \"paints the wall.\", \"throws it away.\"], \"label\": \"0\"}",
    .fields = fields,
    .metrics = normed,
    .row = &hellaswag,
    .json = lists,
    .run = run_choices,
};

#define BLANK                                                                                      \
    "{% set i = sentence.find('_') %}"                                                             \
    "{{ raise_exception('sentence: has no _ where the options go') if i < 0 }}"
static const hub_row winogrande = {
    .ask = ask,
    .needs = "sentence option1 option2 answer=",
    .query = "{{ sentence }}",
    .choices = BLANK "{{ [sentence[:i] + option1, sentence[:i] + option2]|tojson }}",
    .target = BLANK "{{ sentence[i + 1:].strip() }}",
    .gold = "{{ {'1': 0, '2': 1}[answer|string] }}",
};
const eval_kind eval_winogrande = {
    .name = "winogrande",
    .help = "allenai/winogrande: which option the end of the sentence fits to",
    .example = "{\"sentence\": \"The cup does not fit into the box because the _ is too "
               "small.\", \"option1\": \"cup\", \"option2\": \"box\", \"answer\": \"2\"}",
    .fields = fields,
    .metrics = plain,
    .row = &winogrande,
    .run = run_choices,
};

static const hub_row piqa = {
    .ask = ask,
    .needs = "goal sol1 sol2 label=",
    .query = "Question: {{ goal }}\nAnswer:",
    .choices = "{{ [sol1, sol2]|tojson }}",
    .gold = "{{ label }}",
};
const eval_kind eval_piqa = {
    .name = "piqa",
    .help = "baber/piqa, ybisk/piqa: which of two ways works",
    .example = "{\"goal\": \"Cool a drink.\", \"sol1\": \"Put it on ice.\", \"sol2\": \"Put "
               "it on the stove.\", \"label\": 0}",
    .fields = fields,
    .metrics = normed,
    .row = &piqa,
    .run = run_choices,
};

static const hub_row arc = {
    .ask = ask,
    .needs = "question choices.text[] choices.label[] answerKey=",
    .query = "Question: {{ question }}\nAnswer:",
    .choices = "{{ choices.text|tojson }}",
    .gold = "{{ choices.label.index(answerKey|string) if answerKey|string in choices.label }}",
};
const eval_kind eval_arc = {
    .name = "arc",
    .help = "allenai/ai2_arc, easy and challenge: questions of science",
    .example = "{\"question\": \"What do plants need to grow?\", \"choices\": {\"text\": "
               "[\"Light\", \"Noise\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"A\"}",
    .fields = fields,
    .metrics = normed,
    .row = &arc,
    .json = lists,
    .run = run_choices,
};

static const hub_row mmlu = {
    .ask = ask,
    .needs = "question choices[] answer=",
    .query = "{% if subject %}The following are multiple choice questions (with answers) about "
             "{{ subject.replace('_', ' ') }}.\n\n{% endif %}{{ question.strip() }}\n"
             "A. {{ choices[0] }}\nB. {{ choices[1] }}\nC. {{ choices[2] }}\nD. {{ choices[3] "
             "}}\nAnswer:",
    .choices = "{{ ['A', 'B', 'C', 'D'][:choices|length]|tojson }}",
    .gold = "{{ {'A': 0, 'B': 1, 'C': 2, 'D': 3}[answer] if answer in ['A', 'B', 'C', 'D'] else "
            "answer }}",
    .exactly = 4,
};
const eval_kind eval_mmlu = {
    .name = "mmlu",
    .help = "cais/mmlu: questions of 57 subjects",
    .example = "{\"question\": \"What is 2 + 2?\", \"subject\": \"elementary_mathematics\", "
               "\"choices\": [\"3\", \"4\", \"5\", \"6\"], \"answer\": 1}",
    .fields = fields,
    .metrics = plain,
    .row = &mmlu,
    .json = lists,
    .run = run_choices,
};

static const hub_row lambada = {
    .ask = ask_end,
    .needs = "text",
    .query = "{{ text.split(' ')[:-1]|join(' ') }}",
    .target = "{{ text.split(' ')[-1] }}",
};
const eval_kind eval_lambada = {
    .name = "lambada",
    .help = "EleutherAI/lambada_openai, cimec/lambada: the last word of a passage",
    .example = "{\"text\": \"He opened the door, looked at the rain, and closed the door\"}",
    .fields = fields,
    .metrics = end_metrics,
    .row = &lambada,
    .run = run_choices,
};

static const hub_row gsm8k = {
    .ask = ask_number,
    .needs = "question answer",
    .query = "Question: {{ question }}\nAnswer:",
};
const eval_kind eval_gsm8k = {
    .name = "gsm8k",
    .help = "openai/gsm8k: the last number of a greedy answer to a problem in words",
    .example = "{\"question\": \"Ann has 2 apples and buys 2. How many has she?\", "
               "\"answer\": \"2 + 2 = 4\\n#### 4\"}",
    .fields = answer_fields,
    .metrics = number_metrics,
    .row = &gsm8k,
    .run = run_number,
};
