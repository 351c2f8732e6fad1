/* score.c – `ft score`: JSON lines in, log-probabilities out, in the same order: the door for evaluation
 * harnesses. By a reward model, rewards.
 *
 * Lines are gathered into passes of bounded tokens, but never waited for: when standard input has nothing more
 * to give, what has come so far is answered, so a program that asks line by line gets its answers. */
#include <math.h>
#include <string.h>

#include "tool_private.h"

typedef struct item {
    str_buf id;  /* JSON text; empty: the line had none */
    char *error; /* of a line that is wrong, with keep_going */
    tok_ids ids;
    int64_t from;
    float *logprob;
    int32_t *best;
    float *logits;
    double reward;
} item;

#define MAX_ITEMS 512
/* Lines gathered before a run: a few passes' worth, so that a pass is rarely left half empty. */
#define GATHER_TOKENS (4 * INF_PASS_TOKENS)

typedef struct scorer {
    tool_model *t;
    const tool_score_options *opt;
    const tool_sink *out;
    item *item; /* [MAX_ITEMS] */
    int64_t n, tokens, wrong;
    bool told; /* the memory of it */
} scorer;

static void item_free(item *it)
{
    str_free(&it->id);
    ft_free(it->error);
    tok_ids_free(&it->ids);
    ft_free(it->logprob);
    ft_free(it->best);
    ft_free(it->logits);
    *it = (item){0};
}

/* --- one line in ------------------------------------------------------------------------------------------- */

static ft_status read_tokens(const js_doc *d, const cJSON *list, item *it, int64_t vocab)
{
    if (!cJSON_IsArray(list)) return js_fail(d, list, FT_EDATA, "tokens", "must be a list of ids");
    const cJSON *e;
    cJSON_ArrayForEach(e, list)
    {
        double v = cJSON_IsNumber(e) ? e->valuedouble : -1;
        if (!(v >= 0 && v < (double)vocab) || v != floor(v))
            return js_fail(d, e, FT_EDATA, "tokens", "not a token id of this model (0 … %lld)",
                           (long long)(vocab - 1));
        FT_TRY(tok_ids_push(&it->ids, (int32_t)v));
    }
    FT_TRY(js_get_int(d, d->root, "start", 1, 1, INT32_MAX, &it->from));
    if (js_get(d->root, "start") && it->from > (int64_t)it->ids.n)
        return js_fail(d, js_get(d->root, "start"), FT_EDATA, "start",
                       "%lld is behind the %zu tokens", (long long)it->from, (size_t)it->ids.n);
    return FT_OK;
}

static ft_status read_pair(scorer *s, const js_doc *d, item *it)
{
    const char *context, *continuation;
    size_t nc, nt;
    FT_TRY(tool_string(d, d->root, "context", &context, &nc));
    FT_TRY(tool_string(d, d->root, "continuation", &continuation, &nt));
    if (!context || !continuation)
        return js_fail(d, d->root, FT_EDATA, context ? "continuation" : "context",
                       "missing; a line with one of context and continuation needs the other");
    FT_TRY(tool_encode_pair(s->t, context, nc, continuation, nt, &it->ids, &it->from));
    return tool_cut_left(s->t, d, &it->ids, &it->from);
}

static const char *const known_keys[] = {"id",    "context", "continuation", "text", "tokens",
                                         "start", NULL};

/* What a line says, once. */
static int kinds(const js_doc *d, bool rewards)
{
    const cJSON *o = d->root;
    const char *a = rewards ? "prompt" : "context", *b = rewards ? "completion" : "continuation";
    return (js_get(o, "text") != NULL) + (js_get(o, "tokens") != NULL) +
           (js_get(o, a) || js_get(o, b)) + (rewards && js_get(o, "messages"));
}

static ft_status check_keys(const js_doc *d, bool rewards)
{
    const cJSON *e;
    const char *const *keys = rewards ? tool_reward_keys : known_keys;
    if (!cJSON_IsObject(d->root)) return js_fail(d, d->root, FT_EDATA, NULL, "must be an object");
    if (kinds(d, rewards) != 1)
        return js_fail(d, d->root, FT_EDATA, NULL, "needs one of: %s; text; tokens",
                       rewards ? "prompt with completion; messages" : "context with continuation");
    cJSON_ArrayForEach(e, d->root)
    {
        bool known = false;
        for (int i = 0; keys[i]; i++) known = known || strcmp(e->string, keys[i]) == 0;
        const char *near = known ? NULL : cfg_nearest(e->string, keys);
        if (!known)
            return js_fail(d, e, FT_EDATA, ft_shows(e->string), "unknown key%s%s%s",
                           near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    }
    if (js_get(d->root, "start") && !js_get(d->root, "tokens"))
        return js_fail(d, js_get(d->root, "start"), FT_EDATA, "start", "belongs to tokens");
    return FT_OK;
}

/* The id as it came: what JS_NUL made of \u0000 is written as it was. */
static void print_id(str_buf *out, const cJSON *id)
{
    str_buf raw = {0};
    js_print(&raw, id, false);
    for (size_t i = 0; i < raw.len; i++) {
        bool nul = i + 1 < raw.len && memcmp(raw.data + i, "\xc0\x80", 2) == 0;
        str_add(out, nul ? "\\u0000" : raw.data + i, nul ? 6 : 1);
        i += nul;
    }
    if (raw.failed) out->failed = true;
    str_free(&raw);
}

static ft_status read_item(scorer *s, const js_doc *d, item *it)
{
    const char *text;
    size_t n;
    const cJSON *id = js_get(d->root, "id");
    if (id) print_id(&it->id, id);
    FT_TRY(str_ok(&it->id));
    FT_TRY(check_keys(d, s->t->m->scores));
    const cJSON *tokens = js_get(d->root, "tokens");
    if (tokens) FT_TRY(read_tokens(d, tokens, it, s->t->m->d.vocab_size));
    if (s->t->m->scores) it->from = INT32_MAX; /* no token is scored */
    if (tokens && s->t->m->scores && it->ids.n == 0)
        return js_fail(d, tokens, FT_EDATA, "tokens", "is empty: there is nothing to reward");
    if (tokens) return FT_OK;
    if (s->t->m->scores) return tool_reward_ids(s->t, d, &it->ids);
    FT_TRY(tool_string(d, d->root, "text", &text, &n));
    if (!text) return read_pair(s, d, it);
    it->from = 1;
    return tool_encode(s->t, text, n, &it->ids);
}

/* Before any work: attention over what a model has no positions for takes the square of it, and says nothing. */
static ft_status check_length(const scorer *s, const js_doc *d, const item *it)
{
    const int64_t holds = s->t->m->d.max_position - nn_virtual(s->t->inf.over);
    const int64_t most = holds + !s->t->m->scores; /* the last of scored ones is no input */
    if (s->t->m->d.max_position <= 0 || it->ids.n <= most) return FT_OK;
    return js_fail(d, d->root, FT_EDATA, NULL, "%lld tokens, more than the model can hold (%lld)",
                   (long long)it->ids.n, (long long)holds);
}

static ft_status item_buffers(scorer *s, item *it)
{
    if (it->from < it->ids.n) {
        it->logprob = ft_alloc((size_t)(it->ids.n - it->from), sizeof *it->logprob);
        it->best = ft_alloc((size_t)(it->ids.n - it->from), sizeof *it->best);
        if (!it->logprob || !it->best) return FT_EMEM;
    }
    if (s->opt->top > 0 && it->ids.n > 0) {
        it->logits = ft_alloc((size_t)s->t->m->d.vocab_size, sizeof *it->logits);
        if (!it->logits) return FT_EMEM;
    }
    return FT_OK;
}

static ft_status read_text(scorer *s, item *it, const line_reader *lines, const char *text,
                           size_t len)
{
    js_doc d;
    FT_TRY(lines_record(lines, text, len, ""));
    FT_TRY(js_parse(&d, text, len, lines_name(lines), lines_number(lines),
                    JS_NUL | JS_BIG_NUMBERS | JS_RECORD, FT_EDATA));
    ft_status rc = read_item(s, &d, it);
    if (rc == FT_OK) rc = check_length(s, &d, it);
    js_close(&d);
    return rc == FT_OK ? item_buffers(s, it) : rc;
}

static ft_status read_line(scorer *s, const line_reader *lines, const char *text, size_t len)
{
    item *it = &s->item[s->n];
    *it = (item){0};
    ft_status rc = read_text(s, it, lines, text, len);
    if (rc == FT_EDATA && s->opt->keep_going) {
        it->error = ft_strdup(ft_error());
        it->ids.n = 0;
        it->from = 1;
        ft_error_clear();
        rc = it->error ? FT_OK : FT_EMEM;
        s->wrong += rc == FT_OK;
    }
    if (rc == FT_OK) {
        s->n++;
        s->tokens += it->ids.n;
    } else {
        item_free(it);
    }
    return rc;
}

/* --- one line out ------------------------------------------------------------------------------------------ */

/* The N best, ties by the smaller id: insertion into a sorted list, N is small. */
static void write_top(str_buf *out, const float *logits, int64_t vocab, int64_t n, int32_t *best)
{
    int64_t have = 0;
    double lse = inf_lse(logits, vocab);
    for (int64_t i = 0; i < vocab; i++) {
        if (have == n && !(logits[i] > logits[best[n - 1]])) continue;
        int64_t at = have < n ? have++ : n - 1;
        while (at > 0 && logits[i] > logits[best[at - 1]]) {
            best[at] = best[at - 1];
            at--;
        }
        best[at] = (int32_t)i;
    }
    tool_json_key(out, "top");
    str_addc(out, '[');
    for (int64_t i = 0; i < have; i++) {
        str_printf(out, "%s[%d,", i ? "," : "", (int)best[i]);
        str_float(out, (float)((double)logits[best[i]] - lse));
        str_addc(out, ']');
    }
    str_addc(out, ']');
}

static void write_per_token(str_buf *out, const item *it, int64_t n)
{
    tool_json_key(out, "token_ids");
    str_addc(out, '[');
    for (int64_t i = 0; i < n; i++)
        str_printf(out, "%s%d", i ? "," : "", (int)it->ids.id[it->from + i]);
    str_addc(out, ']');
    tool_json_key(out, "token_logprobs");
    str_addc(out, '[');
    for (int64_t i = 0; i < n; i++) {
        if (i) str_addc(out, ',');
        str_float(out, it->logprob[i]);
    }
    str_addc(out, ']');
}

static void write_error(str_buf *out, const item *it)
{
    str_printf(out, "{\"id\":%s", it->id.len > 0 ? it->id.data : "null");
    tool_json_key(out, "error");
    tool_json_text(out, it->error, strlen(it->error));
    str_adds(out, "}\n");
}

static void write_id(str_buf *out, const item *it)
{
    str_addc(out, '{');
    if (it->id.len == 0) return;
    tool_json_key(out, "id");
    str_add(out, it->id.data, it->id.len);
}

static void write_reward(str_buf *out, const item *it)
{
    write_id(out, it);
    tool_json_key(out, "tokens");
    str_printf(out, "%lld", (long long)it->ids.n);
    tool_json_key(out, "reward");
    str_float(out, (float)it->reward);
    str_adds(out, "}\n");
}

static void write_item(const scorer *s, str_buf *out, const item *it, int32_t *top)
{
    int64_t n = it->from < it->ids.n ? it->ids.n - it->from : 0;
    double sum = 0;
    bool greedy = true;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)it->logprob[i];
        greedy = greedy && it->best[i] == it->ids.id[it->from + i];
    }
    write_id(out, it);
    tool_json_key(out, "tokens");
    str_printf(out, "%lld", (long long)n);
    tool_json_key(out, "logprob");
    str_double(out, sum);
    tool_json_key(out, "greedy");
    str_adds(out, greedy ? "true" : "false");
    if (s->opt->per_token) write_per_token(out, it, n);
    if (s->opt->top > 0) {
        if (it->logits)
            write_top(out, it->logits, s->t->m->d.vocab_size, s->opt->top, top);
        else
            str_adds(out, ",\"top\":[]");
    }
    str_adds(out, "}\n");
}

static ft_status run_scores(scorer *s)
{
    inf_seq *seq = ft_alloc((size_t)s->n + 1, sizeof *seq);
    if (!seq) return FT_EMEM;
    for (int64_t i = 0; i < s->n; i++) {
        item *it = &s->item[i];
        seq[i] = (inf_seq){.id = it->ids.id,
                           .n = it->ids.n,
                           .from = it->from,
                           .logprob = it->logprob,
                           .best = it->best,
                           .logits = it->logits};
    }
    const ft_status rc = inf_score(&s->t->inf, seq, s->n);
    ft_free(seq);
    return rc;
}

/* Of the lines that are not wrong. */
static ft_status run_rewards(scorer *s)
{
    int64_t n = 0, k = 0;
    tok_ids *seq = ft_alloc((size_t)s->n + 1, sizeof *seq);
    double *reward = ft_alloc((size_t)s->n + 1, sizeof *reward);
    ft_status rc = seq && reward ? FT_OK : FT_EMEM;
    for (int64_t i = 0; rc == FT_OK && i < s->n; i++)
        if (!s->item[i].error) seq[n++] = s->item[i].ids;
    if (rc == FT_OK) rc = inf_reward(&s->t->inf, seq, n, reward);
    for (int64_t i = 0; rc == FT_OK && i < s->n; i++)
        if (!s->item[i].error) s->item[i].reward = reward[k++];
    ft_free(seq);
    ft_free(reward);
    return rc;
}

static ft_status flush(scorer *s)
{
    ft_status rc = FT_OK;
    const bool rewards = s->t->m->scores;
    str_buf text = {0};
    int64_t top_n = s->opt->top > 0 ? s->opt->top : 1;
    int32_t *top = ft_alloc((size_t)top_n, sizeof *top);
    if (!top) rc = FT_EMEM;
    if (rc == FT_OK) rc = rewards ? run_rewards(s) : run_scores(s);
    if (rc == FT_OK)
        rc = file_inputs_check(); /* of weights that changed under it, no number is told */
    for (int64_t i = 0; rc == FT_OK && i < s->n; i++) {
        if (s->item[i].error)
            write_error(&text, &s->item[i]);
        else if (rewards)
            write_reward(&text, &s->item[i]);
        else
            write_item(s, &text, &s->item[i], top);
        if (s->opt->json && !s->told) tool_json_memory(&text, &s->t->plan);
        s->told = true;
    }
    if (rc == FT_OK) rc = tool_put(s->out, &text);
    for (int64_t i = 0; i < s->n; i++) item_free(&s->item[i]);
    s->n = s->tokens = 0;
    ft_free(top);
    str_free(&text);
    return rc;
}

static ft_status score_all(scorer *s, line_reader *lines)
{
    const char *text;
    size_t len;
    for (;;) {
        if (s->n > 0 && (s->n == MAX_ITEMS || s->tokens >= GATHER_TOKENS || !lines_ready(lines)))
            FT_TRY(flush(s));
        ft_status rc = lines_next(lines, &text, &len);
        if (rc == FT_OK && !lines_blank(text, len)) rc = read_line(s, lines, text, len);
        if (rc == FT_OK) continue;
        if (rc == FT_ESIGNAL) return rc;
        /* The lines before a bad one are answered all the same; their own failure is the earlier one. */
        char *message = rc == FT_END ? NULL : ft_strdup(ft_error());
        ft_status before = flush(s);
        if (before == FT_OK && rc != FT_END) rc = ft_fail_again(rc, message);
        ft_free(message);
        if (before != FT_OK) return before;
        return rc == FT_END ? FT_OK : rc;
    }
}

ft_status tool_score_lines(tool_model *t, const tool_score_options *opt, const tool_sink *out)
{
    line_reader *lines;
    scorer s = {.t = t, .opt = opt, .out = out};
    FT_CHECK(opt->top >= 0 && opt->top <= t->m->d.vocab_size, FT_EUSAGE,
             "--top: must be between 0 and the vocabulary of %lld", (long long)t->m->d.vocab_size);
    FT_CHECK(!t->m->scores || !(opt->per_token || opt->top), FT_EUSAGE,
             "%s: is of log-probabilities of tokens, and %s is a reward model",
             opt->top ? "--top" : "--per-token", ft_shows(t->m->path));
    FT_TRY(lines_open(&lines, opt->data));
    s.item = ft_alloc(MAX_ITEMS, sizeof *s.item);
    ft_status rc = s.item ? score_all(&s, lines) : FT_EMEM;
    if (s.wrong > 0)
        log_warn("%s: %lld line%s answered with an error", lines_name(lines), (long long)s.wrong,
                 s.wrong == 1 ? " was" : "s were");
    for (int64_t i = 0; i < s.n; i++) item_free(&s.item[i]);
    ft_free(s.item);
    lines_close(lines);
    return rc;
}
