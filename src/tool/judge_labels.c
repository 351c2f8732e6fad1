/* judge_labels.c – what a language model thinks of completions, read off the probabilities of labels behind a template that is
 * filled with them (Zheng et al. 2023): which of two is better, in both orders; or a mark for one.
 *
 * The probabilities are those of `ft score` for the label behind the filled template. Where each label is one token the
 * template is run once for all of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "judge_private.h"

enum {
    GATHER = 64,
    GATHER_TOKENS = 4 * INF_PASS_TOKENS
}; /* questions, tokens before they are run */

/* A filled template: the softmax of its labels goes into `add`, weighted. */
typedef struct question {
    const judge_line *l;
    tok_ids ids[JUDGE_LABELS]; /* with the label behind it */
    int64_t from[JUDGE_LABELS];
    float *logits;                /* of a template that is run once, else NULL */
    float *logprob[JUDGE_LABELS]; /* of the label's tokens */
    void (*take)(judge *j, struct question *q, const double *p);
    int first, second;
} question;

typedef struct asker {
    judge *j;
    question q[GATHER];
    int n;
    int64_t tokens;
} asker;

/* --- the template ------------------------------------------------------------------------------------------------------- */

ft_status judge_prompt(const judge_line *l, str_buf *out)
{
    if (cJSON_IsString(l->prompt)) {
        str_adds(out, l->prompt->valuestring);
        return str_ok(out);
    }
    const bool one = !l->prompt->child->next;
    for (const cJSON *m = l->prompt->child; m; m = m->next) {
        if (!one) str_printf(out, "%s: ", js_get(m, "role")->valuestring);
        str_adds(out, js_get(m, "content")->valuestring);
        if (m->next) str_adds(out, "\n\n");
    }
    return str_ok(out);
}

/* What is put in is not looked at again. */
static void fill(str_buf *out, const char *template, const char *const *holes,
                 const char *const *with)
{
    for (const char *at = template; *at;) {
        int k = 0;
        while (holes[k] && !str_starts(at, holes[k])) k++;
        if (holes[k])
            str_adds(out, with[k]);
        else
            str_addc(out, *at);
        at += holes[k] ? strlen(holes[k]) : 1;
    }
}

/* --- a question, and its ids ---------------------------------------------------------------------------------------------- */

static ft_status user_turn(tool_model *t, const char *text, str_buf *out)
{
    cJSON *list = cJSON_CreateArray();
    const bool ok = list && tool_add_turn(list, "user", text);
    ft_status rc = ok ? tool_chat_text(t, &(chat_input){.messages = list}, out)
                      : ft_fail(FT_EMEM, "out of memory");
    cJSON_Delete(list);
    return rc;
}

/* The label behind a conversation: with the tokens that it has there. */
static ft_status behind_turn(const tool_model *t, const char *turn, const char *label, tok_ids *ids,
                             int64_t *from)
{
    str_buf whole = {0};
    tok_ids head = {0};
    str_adds(&whole, turn);
    str_adds(&whole, label);
    ft_status rc = str_ok(&whole);
    if (rc == FT_OK) rc = tok_encode(t->tok, turn, strlen(turn), false, &head);
    if (rc == FT_OK) rc = tok_encode(t->tok, whole.data, whole.len, false, ids);
    *from = head.n < ids->n ? head.n : ids->n - 1;
    str_free(&whole);
    tok_ids_free(&head);
    return rc;
}

static ft_status add_labels(judge *j, question *q, const char *context)
{
    for (int k = 0; k < j->labels; k++) {
        const char *label = j->label[k];
        FT_TRY(j->opt->chat ? behind_turn(j->t, context, label, &q->ids[k], &q->from[k])
                            : tool_encode_pair(j->t, context, strlen(context), label, strlen(label),
                                               &q->ids[k], &q->from[k]));
        FT_TRY(tool_cut_left(j->t, &q->l->doc, &q->ids[k], &q->from[k]));
    }
    return FT_OK;
}

/* Each label is one token behind the same ones. */
static bool together(const judge *j, const question *q)
{
    const tok_ids *a = &q->ids[0];
    for (int k = 0; k < j->labels; k++) {
        const tok_ids *b = &q->ids[k];
        if (b->n != a->n || q->from[k] != b->n - 1) return false;
        if (memcmp(a->id, b->id, (size_t)(a->n - 1) * sizeof *a->id) != 0) return false;
    }
    return true;
}

static ft_status make_room(judge *j, question *q)
{
    if (together(j, q)) {
        q->logits = ft_alloc((size_t)j->t->m->d.vocab_size, sizeof *q->logits);
        return q->logits ? FT_OK : FT_EMEM;
    }
    for (int k = 0; k < j->labels; k++) {
        q->logprob[k] = ft_alloc((size_t)(q->ids[k].n - q->from[k]), sizeof **q->logprob);
        if (!q->logprob[k]) return FT_EMEM;
    }
    return FT_OK;
}

/* --- many at a time --------------------------------------------------------------------------------------------------------- */

static void forget(asker *a)
{
    for (int i = 0; i < a->n; i++) {
        question *q = &a->q[i];
        for (int k = 0; k < a->j->labels; k++) {
            tok_ids_free(&q->ids[k]);
            ft_free(q->logprob[k]);
        }
        ft_free(q->logits);
        *q = (question){0};
    }
    a->n = 0;
    a->tokens = 0;
}

/* Log-probabilities of the labels, then their softmax. */
static void answer(judge *j, question *q)
{
    double p[JUDGE_LABELS], sum = 0, top = -(double)INFINITY;
    const double lse = q->logits ? inf_lse(q->logits, j->t->m->d.vocab_size) : 0;
    for (int k = 0; k < j->labels; k++) {
        const tok_ids *ids = &q->ids[k];
        p[k] = q->logits ? (double)q->logits[ids->id[ids->n - 1]] - lse : 0;
        for (int64_t i = 0; !q->logits && i < ids->n - q->from[k]; i++)
            p[k] += (double)q->logprob[k][i];
        top = p[k] > top ? p[k] : top;
    }
    for (int k = 0; k < j->labels; k++) sum += p[k] = exp(p[k] - top);
    for (int k = 0; k < j->labels; k++) p[k] /= sum;
    q->take(j, q, p);
}

static ft_status ask_all(asker *a)
{
    int64_t n = 0;
    inf_seq *seq = ft_alloc((size_t)a->n * JUDGE_LABELS + 1, sizeof *seq);
    if (!seq) return FT_EMEM;
    for (int i = 0; i < a->n; i++) {
        question *q = &a->q[i];
        for (int k = 0; k < (q->logits ? 1 : a->j->labels); k++) {
            const int64_t len = q->ids[k].n - (q->logits != NULL);
            seq[n++] = (inf_seq){.id = q->ids[k].id,
                                 .n = len,
                                 .from = q->logits ? len : q->from[k],
                                 .logprob = q->logprob[k],
                                 .logits = q->logits};
        }
    }
    ft_status rc = inf_score(&a->j->t->inf, seq, n);
    for (int i = 0; rc == FT_OK && i < a->n; i++) answer(a->j, &a->q[i]);
    ft_free(seq);
    forget(a);
    return rc;
}

/* with: what goes into the method's holes, the prompt first. */
static ft_status ask(asker *a, question how, const char *const *with)
{
    judge *j = a->j;
    str_buf text = {0}, turn = {0};
    question *q = &a->q[a->n++];
    *q = how;
    fill(&text, j->template, j->method->holes, with);
    ft_status rc = str_ok(&text);
    if (rc == FT_OK && j->opt->chat) rc = user_turn(j->t, text.data ? text.data : "", &turn);
    const char *context = j->opt->chat ? turn.data : text.data;
    if (rc == FT_OK) rc = add_labels(j, q, context ? context : "");
    if (rc == FT_OK) rc = make_room(j, q);
    str_free(&text);
    str_free(&turn);
    FT_TRY(rc);
    for (int k = 0; k < (q->logits ? 1 : j->labels); k++) a->tokens += q->ids[k].n;
    return a->n == GATHER || a->tokens >= GATHER_TOKENS ? ask_all(a) : FT_OK;
}

/* Calls `each` for every line with its prompt, and asks what it left to ask. */
static ft_status over_lines(judge *j,
                            ft_status (*each)(asker *a, judge_line *l, const char *prompt))
{
    asker *a = ft_alloc(1, sizeof *a);
    ft_status rc = a ? FT_OK : FT_EMEM;
    if (a) a->j = j;
    for (int i = 0; rc == FT_OK && i < j->n; i++) {
        str_buf prompt = {0};
        rc = judge_prompt(&j->line[i], &prompt);
        if (rc == FT_OK) rc = each(a, &j->line[i], prompt.data ? prompt.data : "");
        str_free(&prompt);
    }
    if (rc == FT_OK) rc = ask_all(a);
    if (a) forget(a);
    ft_free(a);
    return rc;
}

/* --- pairwise ------------------------------------------------------------------------------------------------------------------ */

/* p[0]: that the first text is the better one. Either order counts half. */
static void take_order(judge *j, question *q, const double *p)
{
    (void)j;
    q->l->score[q->first] += p[0] / 2;
    q->l->score[q->second] += p[1] / 2;
}

static int judged(const judge_line *l)
{
    int n = 0;
    for (int i = 0; i < l->n; i++) n += l->part[i] != NULL;
    return n;
}

static ft_status ask_orders(asker *a, judge_line *l, const char *prompt)
{
    for (int i = 0; i < l->n; i++)
        if (l->part[i]) l->score[i] = judged(l) > 1 ? 0 : 0.5; /* alone it is as good as itself */
    for (int x = 0; x < l->n; x++) {
        for (int y = 0; y < l->n; y++) {
            if (x == y || !l->part[x] || !l->part[y]) continue;
            const char *const with[] = {prompt, l->part[x], l->part[y]};
            FT_TRY(ask(a, (question){.l = l, .take = take_order, .first = x, .second = y}, with));
        }
    }
    return FT_OK;
}

static ft_status pairwise(judge *j)
{
    FT_TRY(over_lines(j, ask_orders));
    for (int i = 0; i < j->n; i++) {
        judge_line *l = &j->line[i];
        const int others = judged(l) - 1;
        for (int k = 0; others > 0 && k < l->n; k++) l->score[k] /= others;
    }
    return FT_OK;
}

static ft_status two_labels(judge *j)
{
    FT_CHECK(j->labels == 2, FT_EUSAGE, "--labels: two are needed, one for each answer");
    return FT_OK;
}

static const char *const pair_holes[] = {"{prompt}", "{first}", "{second}", NULL};
const judge_method judge_pairwise = {.name = "pairwise",
                                     .model = true,
                                     .holes = pair_holes,
                                     .must_hold = pair_holes + 1,
                                     .labels = "1,2",
                                     .open = two_labels,
                                     .score = pairwise};

/* --- rating ---------------------------------------------------------------------------------------------------------------------- */

static double mark(const judge *j, int k)
{
    return strtod(j->label[k], NULL);
}

/* The expected mark, the lowest being −1 and the highest 1. */
static void take_mark(judge *j, question *q, const double *p)
{
    double low = mark(j, 0), high = low, mean = 0;
    for (int k = 0; k < j->labels; k++) {
        const double m = mark(j, k);
        low = m < low ? m : low;
        high = m > high ? m : high;
        mean += p[k] * m;
    }
    q->l->score[q->first] = 2 * (mean - low) / (high - low) - 1;
}

static ft_status ask_marks(asker *a, judge_line *l, const char *prompt)
{
    for (int i = 0; i < l->n; i++) {
        const char *const with[] = {prompt, l->part[i]};
        if (l->part[i]) FT_TRY(ask(a, (question){.l = l, .take = take_mark, .first = i}, with));
    }
    return FT_OK;
}

static ft_status rating(judge *j)
{
    return over_lines(j, ask_marks);
}

static ft_status numbers(judge *j)
{
    bool differ = false;
    for (int k = 0; k < j->labels; k++) {
        char *end;
        const double v = strtod(j->label[k], &end);
        FT_CHECK(end > j->label[k] && end[strspn(end, " ")] == 0 && isfinite(v), FT_EUSAGE,
                 "--labels: \"%s\" is no number", ft_shows(j->label[k]));
        differ = differ || v != mark(j, 0);
    }
    FT_CHECK(differ, FT_EUSAGE, "--labels: two different numbers are needed");
    return FT_OK;
}

static const char *const mark_holes[] = {"{prompt}", "{completion}", NULL};
const judge_method judge_rating = {.name = "rating",
                                   .model = true,
                                   .holes = mark_holes,
                                   .must_hold = mark_holes + 1,
                                   .labels = "1,2,3,4,5,6,7,8,9,10",
                                   .open = numbers,
                                   .score = rating};
