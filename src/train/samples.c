/* samples.c – train.sample_prompts: greedy answers to a few prompts after each evaluation, into samples.jsonl.
 *
 * Prompts are read and rendered before step 1, so that a mistake in them stops no run half way. The answers of an evaluation
 * are written together, before its line of the log: an interruption leaves all of them or none, and a resumed run makes them
 * again. They have a tape of their own and leave no mark on anything else. */
#include "train_private.h"

#include "ft/infer.h"

#include <stdio.h>
#include <string.h>

enum { SAMPLE_TOGETHER = 4, SAMPLE_SHOWN = 2, SHOWN_BYTES = 160 };

struct train_sample {
    const char *key, *said; /* "prompt" or "messages", and its value as JSON */
    tok_ids ids;
};

/* --- reading ------------------------------------------------------------------------------------------------------------ */
static ft_status encode_plain(const train_session *s, const char *text, tok_ids *out)
{
    const int32_t bos = tok_bos(s->tok);
    const char *first = bos >= 0 ? tok_text(s->tok, bos) : NULL;
    /* one BOS, whether the text has it or not, as `ft generate` does it */
    if (tok_adds_bos(s->tok) && first && !str_starts(text, first)) FT_TRY(tok_ids_push(out, bos));
    return tok_encode(s->tok, text, strlen(text), false, out);
}

static ft_status encode_chat(const train_session *s, const cJSON *record, tok_ids *out)
{
    chat_input in;
    str_buf text = {0};
    FT_CHECK(s->chat, FT_EDATA, "messages: the model has no chat template");
    FT_TRY(chat_read(&in, &(js_doc){0}, record));
    in.add_generation_prompt = true;
    ft_status rc = chat_render(s->chat, &in, &text, NULL);
    if (rc == FT_OK) rc = tok_encode(s->tok, text.data ? text.data : "", text.len, false, out);
    str_free(&text);
    return rc;
}

/* A text of its own is a user turn where there is a template. */
static ft_status encode_turn(const train_session *s, const char *text, tok_ids *out)
{
    if (!s->chat) return encode_plain(s, text, out);
    cJSON *record = cJSON_CreateObject(), *turn = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(record, "messages");
    bool made = list && turn && cJSON_AddStringToObject(turn, "role", "user") &&
                cJSON_AddStringToObject(turn, "content", text);
    ft_status rc = made && cJSON_AddItemToArray(list, turn) ? FT_OK : FT_EMEM;
    if (rc == FT_OK)
        rc = encode_chat(s, record, out);
    else
        cJSON_Delete(turn);
    cJSON_Delete(record);
    return rc;
}

static ft_status check_ids(const train_session *s, const tok_ids *ids)
{
    FT_CHECK(ids->n > 0, FT_EDATA, "is no token at all");
    for (int64_t i = 0; i < ids->n; i++)
        FT_CHECK(ids->id[i] < s->m->d.vocab_size, FT_EDATA,
                 "token id %d does not exist in the model", (int)ids->id[i]);
    return FT_OK;
}

/* What is wrong with a prompt, at its place: in the config, or in a file of data. */
static ft_status at_place(train_session *s, const js_doc *d, const cJSON *v, ft_status rc)
{
    char why[500];
    if (rc != FT_EDATA) return rc;
    snprintf(why, sizeof why, "%s", ft_error());
    ft_error_clear();
    if (d != &s->cfg.doc.js) return js_fail(d, v, rc, "train.sample_prompts", "%s", why);
    cfg_fail(&s->cfg.doc, v, "train.sample_prompts", "%s", why);
    return cfg_done(&s->cfg.doc);
}

/* Its tokens, and what samples.jsonl says of it: under *key. */
static ft_status read_prompt(const train_session *s, const cJSON *v, train_sample *out,
                             const cJSON **said)
{
    const cJSON *messages = cJSON_IsObject(v) ? js_get(v, "messages") : NULL;
    *said = messages ? messages : cJSON_IsObject(v) ? js_get(v, "prompt") : v;
    out->key = messages ? "messages" : "prompt";
    if (messages)
        FT_TRY(encode_chat(s, v, &out->ids));
    else if (cJSON_IsString(v))
        FT_TRY(encode_turn(s, v->valuestring, &out->ids));
    else if (cJSON_IsString(*said))
        FT_TRY(encode_plain(s, (*said)->valuestring, &out->ids));
    else
        return ft_fail(FT_EDATA,
                       "a prompt is a text, or an object with \"prompt\" or \"messages\"");
    return check_ids(s, &out->ids);
}

static ft_status add_prompt(train_session *s, const js_doc *d, const cJSON *v)
{
    train_sample one = {0};
    const cJSON *said;
    str_buf text = {0};
    ft_status rc = at_place(s, d, v, read_prompt(s, v, &one, &said));
    if (rc == FT_OK) js_print(&text, said, false);
    if (rc == FT_OK) rc = str_ok(&text);
    one.said = rc == FT_OK ? arena_str(s->mem, text.data) : NULL;
    str_free(&text);
    train_sample *more =
        rc == FT_OK ? ft_realloc(s->sample, (size_t)s->n_samples + 1, sizeof one) : NULL;
    if (!more || !one.said) {
        tok_ids_free(&one.ids);
        if (more) s->sample = more;
        return rc == FT_OK ? FT_EMEM : rc;
    }
    s->sample = more;
    s->sample[s->n_samples++] = one;
    return FT_OK;
}

static ft_status add_list(train_session *s, const js_doc *d, const cJSON *list)
{
    const cJSON *v;
    if (!cJSON_IsArray(list))
        return at_place(s, d, list, ft_fail(FT_EDATA, "must be a list of prompts"));
    cJSON_ArrayForEach(v, list) FT_TRY(add_prompt(s, d, v));
    return FT_OK;
}

/* A line of text is a prompt as it stands; of other files a line is JSON. */
static ft_status add_line(train_session *s, const line_reader *r, bool plain, const char *text,
                          size_t len)
{
    js_doc d = {.name = lines_name(r), .line0 = lines_number(r)};
    if (plain) {
        cJSON v = {.type = cJSON_String, .valuestring = arena_strn(s->mem, text, len)};
        FT_CHECK(utf8_valid(text, len), FT_EDATA, "%s:%lld: is not valid UTF-8", d.name,
                 (long long)d.line0);
        return v.valuestring ? add_prompt(s, &d, &v) : FT_EMEM;
    }
    FT_TRY(js_parse(&d, text, len, lines_name(r), lines_number(r), JS_STRICT, FT_EDATA));
    ft_status rc = add_prompt(s, &d, d.root);
    js_close(&d);
    return rc;
}

static ft_status add_lines(train_session *s, const char *path)
{
    const bool plain = str_ends(path, ".txt") || str_ends(path, ".txt.gz");
    line_reader *r;
    const char *text;
    size_t len;
    FT_TRY(lines_open(&r, path));
    ft_status rc;
    while ((rc = lines_next_filled(r, &text, &len)) == FT_OK)
        FT_TRY_OUT(add_line(s, r, plain, text, len));
    if (rc == FT_END) rc = FT_OK;
out:
    lines_close(r);
    return rc;
}

static ft_status add_file(train_session *s, const char *path)
{
    js_doc d = {0};
    char *text = NULL;
    size_t n;
    if (!str_ends(path, ".json")) return add_lines(s, path);
    FT_TRY(file_read(&text, &n, path, (size_t)64 << 20));
    ft_status rc = js_parse(&d, text, n, path, 1, JS_STRICT, FT_EDATA);
    if (rc == FT_OK) rc = add_list(s, &d, d.root);
    js_close(&d);
    ft_free(text);
    return rc;
}

ft_status train_samples_open(train_session *s)
{
    const cJSON *v = s->cfg.train.sample_prompts;
    if (!v || cJSON_IsNull(v)) return FT_OK;
    FT_CHECK(s->tok, FT_ECONFIG, "%s: train.sample_prompts: the model has no tokenizer",
             s->config_name);
    if (cJSON_IsString(v)) {
        const char *path = cfg_path(&s->cfg.doc, v, v->valuestring);
        FT_TRY(path ? add_file(s, path) : FT_EMEM);
    } else {
        FT_TRY(add_list(s, &s->cfg.doc.js, v));
    }
    FT_CHECK(s->n_samples > 0, FT_ECONFIG, "%s: train.sample_prompts: there is no prompt",
             s->config_name);
    return FT_OK;
}

void train_samples_close(train_session *s)
{
    for (int64_t i = 0; i < s->n_samples; i++) tok_ids_free(&s->sample[i].ids);
    ft_free(s->sample);
    ag_close(s->sample_tape);
}

static int64_t longest_prompt(const train_session *s)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < s->n_samples; i++)
        if (s->sample[i].ids.n > longest) longest = s->sample[i].ids.n;
    return longest;
}

ft_status train_samples_fit(const train_session *s, int64_t virtual_rows)
{
    const int64_t longest = longest_prompt(s), most = s->m->d.max_position;
    FT_CHECK(!s->m->position || longest + virtual_rows <= most, FT_ECONFIG,
             "%s: train.sample_prompts: a prompt of %lld tokens; the model has positions for %lld",
             s->config_name, (long long)longest, (long long)(most - virtual_rows));
    return FT_OK;
}

/* Keys and values of the prompts that advance together, and the widest part of a pass over them. */
size_t train_samples_bytes(const train_session *s)
{
    const model *m = s->m;
    int64_t kept = 0, widest = 0, rows = SAMPLE_TOGETHER * longest_prompt(s);
    if (rows == 0) return 0;
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *at = &m->site[i];
        const bool pair = at->role == NN_K || at->role == NN_V || at->role == NN_QKV;
        if (pair) kept += at->out;
        if (at->role != NN_HEAD && at->out > widest) widest = at->out;
    }
    const int64_t all = rows + SAMPLE_TOGETHER * s->cfg.train.sample_max_new_tokens,
                  wide = 8 * m->d.hidden_size + 3 * widest;
    return (size_t)(all * kept + rows * wide + SAMPLE_TOGETHER * m->d.vocab_size) * sizeof(float);
}

/* --- answering ---------------------------------------------------------------------------------------------------------- */
/* Without ids that a padded vocabulary has and the tokenizer lacks. */
static ft_status text_of(const train_session *s, const inf_answer *a, str_buf *out)
{
    tok_ids known = {0};
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < a->ids.n - a->stopped && rc == FT_OK; i++)
        if (tok_text(s->tok, a->ids.id[i])) rc = tok_ids_push(&known, a->ids.id[i]);
    if (rc == FT_OK) rc = tok_decode(s->tok, known.id, known.n, out);
    tok_ids_free(&known);
    return rc;
}

/* A line for the eye. */
static void show(const train_session *s, int64_t i, const str_buf *text)
{
    char said[SHOWN_BYTES + 4];
    size_t n = text->len < SHOWN_BYTES ? text->len : SHOWN_BYTES;
    while (n > 0 && n < text->len && ((unsigned char)text->data[n] & 0xc0) == 0x80) n--;
    for (size_t k = 0; k < n; k++)
        said[k] = text->data[k] == '\n' || text->data[k] == '\t' ? ' ' : text->data[k];
    said[n] = 0;
    log_info("step %lld, sample %lld: %s%s", (long long)s->state.step, (long long)i + 1, said,
             n < text->len ? "..." : "");
}

static ft_status add_answer(const train_session *s, int64_t i, const inf_answer *a, str_buf *out)
{
    const train_sample *p = &s->sample[i];
    str_buf text = {0};
    ft_status rc = text_of(s, a, &text);
    if (rc == FT_OK) rc = str_ok(&text);
    if (rc == FT_OK) {
        str_printf(out, "{\"step\":%lld,\"index\":%lld,\"%s\":", (long long)s->state.step,
                   (long long)i, p->key);
        str_adds(out, p->said);
        str_adds(out, ",\"text\":");
        str_json(out, text.data ? text.data : "", text.len);
        str_printf(out, ",\"tokens\":%lld,\"stop\":\"%s\"}\n", (long long)a->ids.n,
                   a->stopped ? "token" : "length");
        if (i < SAMPLE_SHOWN) show(s, i, &text);
    }
    str_free(&text);
    return rc;
}

static ft_status answer(train_session *s, int64_t first, int64_t n, str_buf *out)
{
    inf_sampling how = INF_SAMPLING_DEFAULT;
    inf_answer a[SAMPLE_TOGETHER] = {0};
    tok_ids prompt[SAMPLE_TOGETHER];
    const inf_ctx c = {.m = s->m, .over = &s->pe->over, .tape = s->sample_tape};
    how.temperature = 0;
    how.max_new = s->cfg.train.sample_max_new_tokens;
    how.stop = tok_stops(s->tok, &how.n_stop);
    for (int64_t i = 0; i < n; i++) prompt[i] = s->sample[first + i].ids;
    log_progress("sampling: %lld of %lld prompts%s", (long long)first, (long long)s->n_samples,
                 train_left_text(s));
    FT_TRY(inf_generate(&c, prompt, n, 1, &how, NULL, NULL, a));
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < n && rc == FT_OK; i++) rc = add_answer(s, first + i, &a[i], out);
    inf_answers_free(a, n);
    return rc;
}

ft_status train_samples_take(train_session *s)
{
    str_buf out = {0};
    ft_status rc = FT_OK;
    if (s->n_samples == 0) return FT_OK;
    FT_TRY(train_before_look(s));
    if (!s->sample_tape) {
        FT_TRY(ag_open(&s->sample_tape, SIZE_MAX / 4));
        s->sample_tape->precision = KN_F32; /* as evaluations, and as `ft generate` says it */
    }
    for (int64_t i = 0; i < s->n_samples && rc == FT_OK; i += SAMPLE_TOGETHER) {
        int64_t left = s->n_samples - i;
        rc = answer(s, i, left < SAMPLE_TOGETHER ? left : SAMPLE_TOGETHER, &out);
    }
    if (rc == FT_OK) rc = train_log_samples(s, &out);
    str_free(&out);
    return rc;
}
