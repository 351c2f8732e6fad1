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

/* --- text as it comes -------------------------------------------------------------------------------------- */

typedef struct streamer {
    const tool_model *t;
    const tool_sink *sink;
    int64_t begin,
        read; /* ids [begin, read) have been printed; decoding starts at begin, for decoders that treat
                            the first token differently */
} streamer;

static bool open_ended(const char *s, size_t n)
{
    if (n == 0) return false;
    if (!utf8_valid(s, n)) return true;
    return n >= 3 && memcmp(s + n - 3, "\xef\xbf\xbd", 3) == 0;
}

static ft_status stream(streamer *s, const int32_t *ids, int64_t n, bool last)
{
    ft_status rc;
    str_buf before = {0}, now = {0};
    FT_TRY_OUT(tool_decode(s->t, ids + s->begin, s->read - s->begin, &before));
    FT_TRY_OUT(tool_decode(s->t, ids + s->begin, n - s->begin, &now));
    FT_TRY_OUT(str_ok(&before));
    FT_TRY_OUT(str_ok(&now));
    if (now.len > before.len && (last || !open_ended(now.data, now.len))) {
        FT_TRY_OUT(s->sink->put(s->sink->ctx, now.data + before.len, now.len - before.len));
        s->begin = s->read;
        s->read = n;
    }
out:
    str_free(&before);
    str_free(&now);
    return rc;
}

/* --- prompts in, texts out ------------------------------------------------------------------------------------ */

enum { ROUND = 128 }; /* lines gathered at most before they are answered */

typedef struct round { /* lines that are answered together */
    tool_model *t;
    const tool_generate_options *opt;
    const tool_sink *out;
    str_buf id[ROUND]; /* JSON text; empty: none */
    tok_ids prompt[ROUND];
    inf_answer answer[ROUND];
    bool done[ROUND];
    int64_t n, shown;
    uint64_t first; /* number of its first line */
    streamer text;  /* of the only one, when it is streamed */
} round;

static ft_status user_turn(tool_model *t, const char *text, tok_ids *out)
{
    cJSON *list = cJSON_CreateArray(), *turn = cJSON_CreateObject();
    bool ok = list && turn && cJSON_AddStringToObject(turn, "role", "user") &&
              cJSON_AddStringToObject(turn, "content", text);
    if (ok && cJSON_AddItemToArray(list, turn)) turn = NULL;
    ft_status rc = ok ? tool_chat_ids(t, &(chat_input){.messages = list}, out)
                      : ft_fail(FT_EMEM, "out of memory");
    cJSON_Delete(turn);
    cJSON_Delete(list);
    return rc;
}

static ft_status prompt_ids(tool_model *t, const tool_generate_options *opt, const char *text,
                            size_t len, tok_ids *out)
{
    if (opt->chat) return user_turn(t, text, out);
    FT_TRY(tool_encode(t, text, len, out));
    if (out->n == 0 && tok_bos(t->tok) >= 0) return tok_ids_push(out, tok_bos(t->tok));
    return FT_OK;
}

static ft_status read_request(tool_model *t, const tool_generate_options *opt, const js_doc *d,
                              str_buf *id, tok_ids *ids)
{
    const char *text;
    size_t len;
    const cJSON *root = d->root;
    if (cJSON_IsString(root))
        return prompt_ids(t, opt, root->valuestring, strlen(root->valuestring), ids);
    if (!cJSON_IsObject(root))
        return js_fail(d, root, FT_EDATA, NULL,
                       "must be an object with prompt or messages, or a string");
    if (js_get(root, "id")) js_print(id, js_get(root, "id"), false);
    const cJSON *messages = js_get(root, "messages");
    FT_TRY(tool_string(d, root, "prompt", &text, &len));
    if (!text == !messages)
        return js_fail(d, root, FT_EDATA, NULL, "needs one of prompt and messages");
    if (text) return prompt_ids(t, opt, text, len, ids);
    chat_input in;
    FT_TRY(chat_read(&in, d, root));
    return tool_chat_ids(t, &in, ids);
}

static void write_json(const round *r, int64_t i, const str_buf *text, str_buf *out)
{
    const inf_answer *a = &r->answer[i];
    str_addc(out, '{');
    if (r->id[i].len > 0) {
        tool_json_key(out, "id");
        str_add(out, r->id[i].data, r->id[i].len);
    }
    tool_json_key(out, "text");
    tool_json_text(out, text->data ? text->data : "", text->len);
    tool_json_key(out, "tokens");
    str_printf(out, "%lld", (long long)a->ids.n);
    tool_json_key(out, "token_ids");
    str_addc(out, '[');
    for (int64_t k = 0; k < a->ids.n; k++) str_printf(out, "%s%d", k ? "," : "", (int)a->ids.id[k]);
    str_addc(out, ']');
    tool_json_key(out, "prompt_tokens");
    str_printf(out, "%lld", (long long)r->prompt[i].n);
    tool_json_key(out, "stop");
    str_adds(out, a->stopped ? "\"token\"" : "\"length\"");
    tool_json_key(out, "seconds");
    str_double(out, a->seconds);
    str_adds(out, "}\n");
}

static ft_status show(round *r, int64_t i)
{
    str_buf text = {0}, line = {0};
    ft_status rc = r->text.sink ? FT_OK : tool_answer_text(r->t, &r->answer[i], &text);
    if (r->opt->json) {
        write_json(r, i, &text, &line);
    } else {
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
    (void)copy;
    if (r->text.sink) FT_TRY(stream(&r->text, a->ids.id, a->ids.n - a->stopped, done));
    r->done[prompt] = done;
    for (; r->shown < r->n && r->done[r->shown]; r->shown++) FT_TRY(show(r, r->shown));
    return FT_OK;
}

/* Answers what has been gathered; the round is empty afterwards. */
static ft_status finish(round *r)
{
    inf_sampling s = r->opt->sampling;
    s.first = r->first;
    if (r->opt->stream && !r->opt->json) r->text = (streamer){.t = r->t, .sink = r->out};
    ft_status rc = tool_generate(r->t, r->prompt, r->n, &s, told, r, r->answer);
    inf_answers_free(r->answer, r->n);
    for (int64_t i = 0; i < r->n; i++) {
        str_free(&r->id[i]);
        tok_ids_free(&r->prompt[i]);
        r->done[i] = false;
    }
    r->first += (uint64_t)r->n;
    r->n = r->shown = 0;
    return rc;
}

static ft_status gather(round *r, line_reader *lines, const char *text, size_t len)
{
    js_doc d;
    FT_TRY(lines_record(lines, text, len, ""));
    FT_TRY(
        js_parse(&d, text, len, lines_name(lines), lines_number(lines), JS_BIG_NUMBERS, FT_EDATA));
    str_buf id = {0};
    tok_ids ids = {0};
    ft_status rc = read_request(r->t, r->opt, &d, &id, &ids);
    if (rc == FT_OK && ids.n == 0)
        rc = js_fail(&d, d.root, FT_EDATA, NULL, "an empty prompt: there is nothing to continue");
    js_close(&d);
    if (rc == FT_OK) {
        r->id[r->n] = id;
        r->prompt[r->n++] = ids;
    } else {
        str_free(&id);
        tok_ids_free(&ids);
    }
    return rc;
}

static ft_status answer_lines(round *r, line_reader *lines)
{
    const char *text;
    size_t len;
    const int64_t most = r->opt->stream ? 1 : ROUND;
    for (;;) {
        if (r->n > 0 && (r->n == most || !lines_ready(lines))) FT_TRY(finish(r));
        ft_status rc = lines_next_filled(lines, &text, &len);
        if (rc == FT_OK) rc = gather(r, lines, text, len);
        if (rc == FT_OK) continue;
        if (rc == FT_ESIGNAL) return rc;
        /* The lines before a bad one are answered all the same; their own failure is the earlier one. */
        char *message = rc == FT_END ? NULL : ft_strdup(ft_error());
        ft_status before = finish(r);
        if (before == FT_OK && rc != FT_END) ft_fail(rc, "%s", message ? message : "");
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
    return FT_OK;
}

ft_status tool_generate_lines(tool_model *t, const tool_generate_options *opt, const tool_sink *out)
{
    line_reader *lines = NULL;
    FT_TRY(check_sampling(&opt->sampling));
    round *r = ft_alloc(1, sizeof *r);
    if (!r) return FT_EMEM;
    *r = (round){.t = t, .opt = opt, .out = out};
    ft_status rc;
    if (opt->prompt) {
        rc = prompt_ids(t, opt, opt->prompt, strlen(opt->prompt), &r->prompt[r->n++]);
        if (rc == FT_OK) rc = finish(r);
    } else {
        rc = lines_open(&lines, opt->data);
        if (rc == FT_OK) rc = answer_lines(r, lines);
        lines_close(lines);
    }
    for (int64_t i = 0; i < r->n; i++) {
        str_free(&r->id[i]);
        tok_ids_free(&r->prompt[i]);
    }
    ft_free(r);
    return rc;
}
