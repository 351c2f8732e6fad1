/* generate.c – `ft generate`: continues prompts with a key/value cache, greedily or by sampling.
 *
 * The text is handed on as it comes, but only in whole UTF-8 sequences: a token may end in the middle of one. */
#include <string.h>

#include "tool_private.h"

#define PREFILL_TOKENS                                                                             \
    512 /* rows of one pass over the prompt: bounds the activations of a long one */

void tool_generated_free(tool_generated *g)
{
    tok_ids_free(&g->ids);
    str_free(&g->text);
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
    if (!s->sink) return FT_OK;
    FT_TRY_OUT(tok_decode(s->t->tok, ids + s->begin, s->read - s->begin, &before));
    FT_TRY_OUT(tok_decode(s->t->tok, ids + s->begin, n - s->begin, &now));
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

/* --- the loop ---------------------------------------------------------------------------------------------- */

static bool is_stop(const int32_t *stops, int n, int32_t id)
{
    for (int i = 0; i < n; i++)
        if (stops[i] == id) return true;
    return false;
}

static ft_status next_logits(tool_model *t, nn_cache *cache, const int32_t *ids, int64_t n,
                             float *logits)
{
    nn_run run;
    tn_tensor *hidden;
    for (int64_t at = 0; at < n;) {
        int64_t k = n - at < PREFILL_TOKENS ? n - at : PREFILL_TOKENS;
        FT_TRY(tool_go_on());
        FT_TRY(tool_step(t, cache, ids + at, k, &run, &hidden));
        at += k;
        if (at == n) FT_TRY(model_logits(t->m, &run, hidden, &(int64_t){k - 1}, 1, logits, true));
    }
    return FT_OK;
}

static ft_status generate(tool_model *t, nn_cache *cache, float *logits, const int32_t *prompt,
                          int64_t n, const tool_sampling *s, uint64_t sample, const tool_sink *sink,
                          tool_generated *out)
{
    int n_stops = 0;
    const int32_t *stops = t->tok ? tok_stops(t->tok, &n_stops) : NULL;
    streamer text = {.t = t, .sink = t->tok ? sink : NULL};
    uint64_t key = rng_key(s->seed, 0x73616d706c65u, sample); /* "sample" */
    int32_t id;
    FT_TRY(next_logits(t, cache, prompt, n, logits));
    for (int64_t step = 0; step < s->max_new; step++) {
        if (step > 0) FT_TRY(next_logits(t, cache, &id, 1, logits));
        bool hold = step < s->min_new;
        FT_TRY(tool_sample(logits, t->m->d.vocab_size, s, stops, hold ? n_stops : 0, key,
                           (uint64_t)step, &id));
        FT_TRY(tok_ids_push(&out->ids, id));
        if (is_stop(stops, n_stops, id)) {
            out->stopped = true;
            break;
        }
        FT_TRY(stream(&text, out->ids.id, out->ids.n, false));
    }
    int64_t shown = out->ids.n - out->stopped;
    FT_TRY(stream(&text, out->ids.id, shown, true));
    if (!t->tok || shown == 0) return FT_OK;
    return tok_decode(t->tok, out->ids.id, shown, &out->text);
}

ft_status tool_generate(tool_model *t, const int32_t *prompt, int64_t n, const tool_sampling *s,
                        uint64_t sample, const tool_sink *sink, tool_generated *out)
{
    nn_cache *cache = NULL;
    double start = ft_seconds();
    *out = (tool_generated){0};
    FT_CHECK(n > 0, FT_EDATA, "an empty prompt: there is nothing to continue");
    for (int64_t i = 0; i < n; i++)
        FT_CHECK(prompt[i] >= 0 && prompt[i] < t->m->d.vocab_size, FT_EDATA,
                 "token id %d is outside the model's vocabulary of %lld", (int)prompt[i],
                 (long long)t->m->d.vocab_size);
    tool_sampling within = *s;
    int64_t ahead = nn_virtual(tool_overlay(t)), most = t->m->d.max_position - ahead;
    if (t->m->position) { /* a table of positions has an end; the last token needs none */
        FT_CHECK(n <= most, FT_EDATA, "a prompt of %lld tokens; this model has %lld positions",
                 (long long)n, (long long)most);
        if (within.max_new > most - n + 1) within.max_new = most - n + 1;
    }
    float *logits = ft_alloc((size_t)t->m->d.vocab_size, sizeof *logits);
    ft_status rc = logits ? model_cache_open(&cache, t->m, ahead + n + within.max_new) : FT_EMEM;
    if (rc == FT_OK) rc = generate(t, cache, logits, prompt, n, &within, sample, sink, out);
    if (cache) model_cache_close(cache, t->m);
    ft_free(logits);
    out->seconds = ft_seconds() - start;
    if (rc != FT_OK) tool_generated_free(out);
    return rc;
}

/* --- prompts in, texts out ------------------------------------------------------------------------------------ */

typedef struct request {
    str_buf id; /* JSON text; empty: none */
    tok_ids ids;
} request;

static ft_status user_turn(tool_model *t, const char *text, tok_ids *out)
{
    cJSON *list = cJSON_CreateArray(), *turn = cJSON_CreateObject();
    bool ok = list && turn && cJSON_AddStringToObject(turn, "role", "user") &&
              cJSON_AddStringToObject(turn, "content", text);
    if (ok && cJSON_AddItemToArray(list, turn)) turn = NULL;
    ft_status rc = ok ? tool_chat_ids(t, list, out) : ft_fail(FT_EMEM, "out of memory");
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
                              request *r)
{
    const char *text;
    size_t len;
    const cJSON *root = d->root;
    if (cJSON_IsString(root))
        return prompt_ids(t, opt, root->valuestring, strlen(root->valuestring), &r->ids);
    if (!cJSON_IsObject(root))
        return js_fail(d, root, FT_EDATA, NULL,
                       "must be an object with prompt or messages, or a string");
    if (js_get(root, "id")) js_print(&r->id, js_get(root, "id"), false);
    const cJSON *messages = js_get(root, "messages");
    FT_TRY(tool_string(d, root, "prompt", &text, &len));
    if (!text == !messages)
        return js_fail(d, root, FT_EDATA, NULL, "needs one of prompt and messages");
    if (text) return prompt_ids(t, opt, text, len, &r->ids);
    if (!cJSON_IsArray(messages))
        return js_fail(d, messages, FT_EDATA, "messages", "must be a list");
    return tool_chat_ids(t, messages, &r->ids);
}

static void write_json(str_buf *out, const request *r, const tool_generated *g)
{
    str_addc(out, '{');
    if (r->id.len > 0) {
        tool_json_key(out, "id");
        str_add(out, r->id.data, r->id.len);
    }
    tool_json_key(out, "text");
    tool_json_text(out, g->text.data ? g->text.data : "", g->text.len);
    tool_json_key(out, "tokens");
    str_printf(out, "%lld", (long long)g->ids.n);
    tool_json_key(out, "token_ids");
    str_addc(out, '[');
    for (int64_t i = 0; i < g->ids.n; i++) str_printf(out, "%s%d", i ? "," : "", (int)g->ids.id[i]);
    str_addc(out, ']');
    tool_json_key(out, "prompt_tokens");
    str_printf(out, "%lld", (long long)r->ids.n);
    tool_json_key(out, "stop");
    str_adds(out, g->stopped ? "\"token\"" : "\"length\"");
    tool_json_key(out, "seconds");
    str_double(out, g->seconds);
    str_adds(out, "}\n");
}

static ft_status answer(tool_model *t, const tool_generate_options *opt, const request *r,
                        uint64_t sample, const tool_sink *out)
{
    tool_generated g;
    str_buf text = {0};
    bool streamed = opt->stream && !opt->json;
    FT_TRY(
        tool_generate(t, r->ids.id, r->ids.n, &opt->sampling, sample, streamed ? out : NULL, &g));
    if (opt->json) {
        write_json(&text, r, &g);
    } else {
        if (!streamed) str_add(&text, g.text.data ? g.text.data : "", g.text.len);
        str_addc(&text, '\n');
    }
    ft_status rc = tool_put(out, &text);
    str_free(&text);
    tool_generated_free(&g);
    return rc;
}

static ft_status answer_line(tool_model *t, const tool_generate_options *opt, line_reader *lines,
                             const char *text, size_t len, uint64_t sample, const tool_sink *out)
{
    js_doc d;
    request r = {0};
    FT_TRY(
        js_parse(&d, text, len, lines_name(lines), lines_number(lines), JS_BIG_NUMBERS, FT_EDATA));
    ft_status rc = read_request(t, opt, &d, &r);
    if (rc == FT_OK && r.ids.n == 0)
        rc = js_fail(&d, d.root, FT_EDATA, NULL, "an empty prompt: there is nothing to continue");
    js_close(&d);
    if (rc == FT_OK) rc = answer(t, opt, &r, sample, out);
    str_free(&r.id);
    tok_ids_free(&r.ids);
    return rc;
}

static ft_status check_sampling(const tool_sampling *s)
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
    line_reader *lines;
    const char *text;
    size_t len;
    uint64_t sample = 0;
    FT_TRY(check_sampling(&opt->sampling));
    if (opt->prompt) {
        request r = {0};
        ft_status one = prompt_ids(t, opt, opt->prompt, strlen(opt->prompt), &r.ids);
        if (one == FT_OK) one = answer(t, opt, &r, 0, out);
        tok_ids_free(&r.ids);
        return one;
    }
    FT_TRY(lines_open(&lines, opt->data));
    ft_status rc;
    while ((rc = lines_next_filled(lines, &text, &len)) == FT_OK) {
        rc = answer_line(t, opt, lines, text, len, sample++, out);
        if (rc != FT_OK) break;
    }
    lines_close(lines);
    return rc == FT_END ? FT_OK : rc;
}
