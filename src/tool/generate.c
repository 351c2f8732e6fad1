/* generate.c – `ft generate`: prompts in, texts out.
 *
 * Lines that are there advance together and are answered in their order, each as soon as those before it are. To a
 * terminal the text goes as it comes, but only in whole UTF-8 sequences: a token may end in the middle of one. */
#include <string.h>

#include "tool_private.h"

ft_status tool_generate(tool_model *t, const tok_ids *prompt, int64_t n, const inf_sampling *s,
                        inf_each each, void *ctx, inf_answer *out)
{
    inf_sampling with = *s;
    if (t->tok) with.stop = tok_stops(t->tok, &with.n_stop);
    return inf_generate(&t->inf, prompt, n, 1, &with, each, ctx, out);
}

ft_status tool_answer_text(const tool_model *t, const inf_answer *a, str_buf *out)
{
    int64_t shown = a->ids.n - a->stopped;
    if (!t->tok || shown == 0) return FT_OK;
    return tool_decode(t, a->ids.id, shown, out);
}

/* --- prompts in, texts out ------------------------------------------------------------------------------------ */

enum { ROUND = 128 }; /* lines gathered at most before they are answered */

typedef struct round { /* lines that are answered together */
    tool_model *t;
    const tool_generate_options *opt;
    const tool_sink *out;
    tool_request ask[ROUND];
    tok_ids prompt[ROUND];   /* of ask */
    inf_sampling how[ROUND]; /* likewise */
    inf_answer *answer;      /* [n · copies] */
    tool_text *text;         /* [n · copies] */
    int left[ROUND];         /* copies that are not complete */
    int copies;
    bool stream;
    bool equal, idle; /* told: answers to a prompt are all the same; cuts do nothing */
    int64_t n, shown;
    uint64_t lines; /* that came so far, */
    int64_t made;   /* and requests that were made of them */
} round;

static void write_ids(str_buf *out, const tok_ids *ids)
{
    tool_json_key(out, "token_ids");
    str_addc(out, '[');
    for (int64_t k = 0; k < ids->n; k++) str_printf(out, "%s%d", k ? "," : "", (int)ids->id[k]);
    str_addc(out, ']');
}

static void write_stop(str_buf *out, const inf_answer *a, const tool_text *x)
{
    tool_json_key(out, "stop");
    str_adds(out, x->hit ? "\"string\"" : a->stopped ? "\"token\"" : "\"length\"");
    if (!x->hit) return;
    tool_json_key(out, "stop_string");
    tool_json_text(out, x->hit, strlen(x->hit));
}

void tool_write_answer(str_buf *out, const tool_request *q, const inf_answer *a, const tool_text *x,
                       const str_buf *text)
{
    str_addc(out, '{');
    if (q->id.len > 0) {
        tool_json_key(out, "id");
        str_add(out, q->id.data, q->id.len);
    }
    tool_json_key(out, "text");
    tool_json_text(out, text->data ? text->data : "", text->len);
    tool_json_key(out, "tokens");
    str_printf(out, "%lld", (long long)a->ids.n);
    write_ids(out, &a->ids);
    tool_json_key(out, "prompt_tokens");
    str_printf(out, "%lld", (long long)q->prompt.n);
    write_stop(out, a, x);
    tool_json_key(out, "seconds");
    str_double(out, a->seconds);
    str_adds(out, "}\n");
}

/* The text before the stop string or the stop token. */
static ft_status text_of(const round *r, int64_t at, str_buf *out)
{
    const tool_text *x = &r->text[at];
    if (!x->hit) return tool_answer_text(r->t, &r->answer[at], out);
    str_add(out, x->text.data, x->text.len);
    return str_ok(out);
}

static void write_sample(str_buf *out, const inf_answer *a, const tool_text *x)
{
    str_addc(out, '{');
    write_ids(out, &a->ids);
    tool_json_key(out, "logprobs");
    str_addc(out, '[');
    for (int64_t k = 0; k < a->ids.n; k++) {
        if (k) str_addc(out, ',');
        str_float(out, a->logprob[k]);
    }
    str_addc(out, ']');
    write_stop(out, a, x);
    str_addc(out, '}');
}

/* Records of these texts are read again, by `ft judge` and as data, where a NUL is no character of a text: it is U+FFFD here;
 * the ids tell. */
static void add_text(str_buf *out, const str_buf *text)
{
    str_buf clean = {0};
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i])
            str_addc(&clean, text->data[i]);
        else
            str_adds(&clean, "\xef\xbf\xbd");
    }
    tool_json_text(out, clean.data ? clean.data : "", clean.len);
    out->failed |= clean.failed;
    str_free(&clean);
}

/* The line's own keys with completions and samples. */
static ft_status show_samples(round *r, int64_t i)
{
    str_buf texts = {0}, samples = {0}, text = {0}, *line = &r->ask[i].record;
    ft_status rc = file_inputs_check();
    for (int64_t k = 0, at = i * r->copies; rc == FT_OK && k < r->copies; k++, at++) {
        str_clear(&text);
        rc = text_of(r, at, &text);
        str_addc(&texts, k ? ',' : '[');
        add_text(&texts, &text);
        str_addc(&samples, k ? ',' : '[');
        write_sample(&samples, &r->answer[at], &r->text[at]);
    }
    str_addc(&texts, ']');
    str_addc(&samples, ']');
    if (rc == FT_OK) rc = str_ok(&texts);
    if (rc == FT_OK) rc = str_ok(&samples);
    if (rc == FT_OK) {
        tool_json_key(line, "completions");
        str_add(line, texts.data, texts.len);
        tool_json_key(line, "samples");
        str_add(line, samples.data, samples.len);
        str_adds(line, "}\n");
        rc = tool_put(r->out, line);
    }
    str_free(&texts);
    str_free(&samples);
    str_free(&text);
    return rc;
}

/* Plain answers to lines are told apart by their number. */
static void write_number(const round *r, int64_t i, str_buf *out)
{
    if (!r->opt->prompt)
        str_printf(out, "=== %llu ===\n", (unsigned long long)(r->ask[i].s.first + 1));
}

static ft_status show_one(round *r, int64_t i)
{
    str_buf text = {0}, line = {0};
    ft_status rc = file_inputs_check();
    if (rc == FT_OK && !r->stream) rc = text_of(r, i, &text);
    if (r->opt->json) {
        tool_write_answer(&line, &r->ask[i], &r->answer[i], &r->text[i], &text);
        if (r->ask[i].s.first == 0) tool_json_memory(&line, &r->t->plan);
    } else {
        if (!r->stream) write_number(r, i, &line);
        str_add(&line, text.data ? text.data : "", text.len);
        str_addc(&line, '\n');
    }
    if (rc == FT_OK) rc = str_ok(&text);
    if (rc == FT_OK) rc = tool_put(r->out, &line);
    str_free(&text);
    str_free(&line);
    return rc;
}

static ft_status told(void *ctx, int64_t prompt, int copy, const inf_answer *a, bool done)
{
    round *r = ctx;
    tool_text *x = &r->text[prompt * r->copies + copy];
    if (x->n_stop > 0 || r->stream)
        FT_TRY(tool_text_add(x, a->ids.id, a->ids.n - a->stopped, done));
    if (r->stream) FT_TRY(tool_text_put(x, r->out));
    if (done || x->hit) r->left[prompt]--;
    for (; r->shown < r->n && r->left[r->shown] == 0; r->shown++)
        FT_TRY(r->opt->samples > 0 ? show_samples(r, r->shown) : show_one(r, r->shown));
    if (r->opt->samples > 0)
        log_progress("%lld lines answered", (long long)(r->made - r->n + r->shown));
    return x->hit && !done ? FT_END : FT_OK;
}

static void forget(round *r)
{
    const int64_t all = r->n * r->copies;
    for (int64_t i = 0; r->text && i < all; i++) tool_text_free(&r->text[i]);
    if (r->answer) inf_answers_free(r->answer, all);
    for (int64_t i = 0; i < r->n; i++) tool_request_free(&r->ask[i]);
    ft_free(r->text);
    ft_free(r->answer);
    r->text = NULL;
    r->answer = NULL;
    r->n = r->shown = 0;
}

static ft_status answer(round *r)
{
    str_buf head = {0};
    r->text = ft_alloc((size_t)r->n * (size_t)r->copies, sizeof *r->text);
    r->answer = ft_alloc((size_t)r->n * (size_t)r->copies, sizeof *r->answer);
    if (!r->text || !r->answer) return FT_EMEM;
    for (int64_t i = 0; i < r->n; i++) {
        const tool_request *q = &r->ask[i];
        r->prompt[i] = q->prompt;
        r->how[i] = q->s;
        r->how[i].stop = tok_stops(r->t->tok, &r->how[i].n_stop);
        r->left[i] = r->copies;
        for (int k = 0; k < r->copies; k++)
            r->text[i * r->copies + k] =
                (tool_text){.t = r->t, .stop = q->stop, .n_stop = q->n_stop};
    }
    if (r->stream) write_number(r, 0, &head);
    ft_status rc = tool_put(r->out, &head);
    str_free(&head);
    FT_TRY(rc);
    return inf_generate_own(&r->t->inf, r->prompt, r->how, r->n, r->copies, told, r, r->answer);
}

/* Answers what has been gathered; the round is empty afterwards. */
static ft_status finish(round *r)
{
    ft_status rc = r->n > 0 ? answer(r) : FT_OK;
    forget(r);
    return rc;
}

/* What temperature 0, the likeliest token, leaves without an effect: each told once. */
static void tell_greedy(round *r, const inf_sampling *s)
{
    if (s->temperature > 0) return;
    if (r->copies > 1 && !r->equal)
        log_warn("at temperature 0 the %d answers to a prompt are all the same; --temperature 1 "
                 "makes them differ",
                 r->copies);
    const bool cuts = s->top_k > 0 || s->top_p < 1 || s->min_p > 0;
    if (cuts && !r->idle)
        log_warn(
            "top-k, top-p and min-p have no effect at temperature 0, which takes the likeliest "
            "token; --temperature 1 draws one");
    r->equal |= r->copies > 1;
    r->idle |= cuts;
}

/* The request of a line for its k-th system turn; doc NULL: opt->prompt. *last: there is none after it. */
static ft_status add(round *r, const js_doc *d, int k, bool *last)
{
    const tool_generate_options *opt = r->opt;
    tool_request q = {.s = opt->sampling, .system = tool_systems_turn(opt, r->lines, k)};
    q.s.first = r->lines;
    ft_status rc =
        d ? tool_request_line(&q, r->t, opt, d) : tool_request_text(&q, r->t, opt, opt->prompt);
    *last = !q.used || k + 1 == tool_systems_turns(opt);
    if (rc == FT_OK) tell_greedy(r, &q.s);
    if (rc == FT_OK && r->made++ >= opt->skip)
        r->ask[r->n++] = q;
    else
        tool_request_free(&q);
    return rc;
}

static ft_status add_all(round *r, const js_doc *d)
{
    bool last = false;
    for (int k = 0; !last; k++) {
        if (r->n == ROUND) FT_TRY(finish(r));
        FT_TRY(add(r, d, k, &last));
    }
    r->lines++;
    return FT_OK;
}

static ft_status gather(round *r, line_reader *lines, const char *text, size_t len)
{
    js_doc d;
    FT_TRY(lines_record(lines, text, len, ""));
    FT_TRY(js_parse(&d, text, len, lines_name(lines), lines_number(lines),
                    JS_BIG_NUMBERS | JS_RECORD, FT_EDATA));
    ft_status rc = add_all(r, &d);
    js_close(&d);
    return rc;
}

static ft_status answer_lines(round *r, line_reader *lines)
{
    const char *text;
    size_t len;
    const int64_t most = r->stream ? 1 : ROUND;
    for (;;) {
        if (r->n > 0 && (r->n >= most || !lines_ready(lines))) FT_TRY(finish(r));
        ft_status rc = lines_next(lines, &text, &len);
        if (rc == FT_OK && !lines_blank(text, len)) rc = gather(r, lines, text, len);
        if (rc == FT_OK) continue;
        if (rc == FT_ESIGNAL) return rc;
        /* The lines before a bad one are answered all the same; their own failure is the earlier one. */
        char *message = rc == FT_END ? NULL : ft_strdup(ft_error());
        ft_status before = finish(r);
        if (before == FT_OK && rc != FT_END) rc = ft_fail_again(rc, message);
        ft_free(message);
        if (before != FT_OK) return before;
        return rc == FT_END ? FT_OK : rc;
    }
}

static ft_status check_sampling(const inf_sampling *s)
{
    FT_CHECK(s->max_new >= 1, FT_EUSAGE, "--max-new-tokens: must be at least 1");
    FT_CHECK(s->min_new >= 0 && s->min_new <= s->max_new, FT_EUSAGE,
             "--min-new-tokens: must be between 0 and --max-new-tokens (%lld)",
             (long long)s->max_new);
    FT_CHECK(s->temperature >= 0 && s->temperature <= 1e6, FT_EUSAGE,
             "--temperature: must be 0 (greedy) or more");
    FT_CHECK(s->top_p > 0 && s->top_p <= 1, FT_EUSAGE, "--top-p: must be above 0 and at most 1");
    FT_CHECK(s->top_k >= 0, FT_EUSAGE, "--top-k: must be 0 (all) or more");
    FT_CHECK(s->min_p >= 0 && s->min_p <= 1, FT_EUSAGE, "--min-p: must be between 0 and 1");
    FT_CHECK(s->repetition_penalty > 0, FT_EUSAGE, "--repetition-penalty: must be above 0");
    return FT_OK;
}

ft_status tool_generate_check(const tool_generate_options *opt)
{
    FT_TRY(check_sampling(&opt->sampling));
    FT_CHECK(!opt->system || opt->chat, FT_EUSAGE,
             "--system: goes with --chat; without it a prompt has no turns");
    FT_CHECK(opt->n_systems == 0 || opt->chat, FT_EUSAGE,
             "--systems: goes with --chat; without it a prompt has no turns");
    FT_CHECK(opt->n_systems == 0 || opt->samples > 0, FT_EUSAGE,
             "--systems: goes with --num-samples, whose records tell which one it was");
    FT_CHECK(opt->n_systems == 0 || !opt->system, FT_EUSAGE,
             "--systems: not together with --system");
    FT_CHECK(!opt->cross || opt->n_systems > 0, FT_EUSAGE, "--cross: goes with --systems");
    for (int i = 0; i < opt->n_stop; i++) {
        FT_CHECK(opt->stop[i][0], FT_EUSAGE, "--stop: must not be empty");
        FT_CHECK(utf8_valid(opt->stop[i], strlen(opt->stop[i])), FT_EUSAGE,
                 "--stop: \"%s\" is not UTF-8", ft_shows(opt->stop[i]));
    }
    return FT_OK;
}

ft_status tool_generate_lines(tool_model *t, const tool_generate_options *opt, const tool_sink *out)
{
    line_reader *lines = NULL;
    FT_TRY(tool_generate_check(opt));
    round *r = ft_alloc(1, sizeof *r);
    if (!r) return FT_EMEM;
    *r = (round){.t = t,
                 .opt = opt,
                 .out = out,
                 .copies = opt->samples > 0 ? opt->samples : 1,
                 .stream = opt->stream && !opt->json && opt->samples == 0};
    ft_status rc;
    if (opt->prompt) {
        rc = add_all(r, NULL);
        if (rc == FT_OK) rc = finish(r);
    } else {
        rc = lines_open(&lines, opt->data);
        if (rc == FT_OK) rc = answer_lines(r, lines);
        lines_close(lines);
    }
    forget(r);
    ft_free(r);
    return rc;
}
