/* judge.c – `ft judge`: lines with completions in, the same with scores out, or what scores make of them: pairs, labelled or
 * single completions to train on.
 *
 * Lines are gathered into rounds so that a model is asked much at a time; a line's scores depend on that line alone. */
#include "judge_private.h"

#include <math.h>
#include <string.h>

static const judge_method *const methods[] = {&judge_reward, &judge_match, &judge_pairwise,
                                              &judge_rating};
const char *const tool_judge_methods[] = {"reward", "match", "pairwise", "rating", NULL};

static const judge_method *method_of(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(methods); i++)
        if (strcmp(methods[i]->name, name) == 0) return methods[i];
    return methods[0];
}

bool tool_judge_asks(const char *method, unsigned *how)
{
    const judge_method *m = method_of(method);
    *how = TOOL_TOKENIZER | (m->rewards ? TOOL_REWARD : 0);
    return m->model;
}

/* --- a line in -------------------------------------------------------------------------------------------------- */

static void forget(judge *j)
{
    for (int i = 0; i < j->n; i++) {
        judge_line *l = &j->line[i];
        js_close(&l->doc);
        ft_free(l->text);
        ft_free(l->whole);
        ft_free(l->part);
        ft_free(l->score);
        *l = (judge_line){0};
    }
    j->n = 0;
}

static const char *last_of(const char *text, const char *marker)
{
    const char *last = NULL;
    const size_t n = strlen(marker);
    for (const char *at = text; (at = strstr(at, marker)) != NULL; at++) last = at;
    return last ? last + n : NULL;
}

static ft_status read_prompt(judge_line *l)
{
    const js_doc *d = &l->doc;
    const cJSON *prompt = js_get(d->root, "prompt"), *messages = js_get(d->root, "messages");
    l->prompt = prompt ? prompt : messages;
    if (!l->prompt) return js_fail(d, d->root, FT_EDATA, "prompt", "missing");
    if (cJSON_IsString(l->prompt)) return FT_OK;
    const char *key = prompt ? "prompt" : "messages";
    if (!cJSON_IsArray(l->prompt) || !l->prompt->child)
        return js_fail(d, l->prompt, FT_EDATA, key, "must be a string or a list of messages");
    for (const cJSON *m = l->prompt->child; m; m = m->next)
        if (!cJSON_IsString(js_get(m, "role")) || !cJSON_IsString(js_get(m, "content")))
            return js_fail(d, m, FT_EDATA, key, "each message needs role and content, two strings");
    return FT_OK;
}

static ft_status read_completions(judge *j, judge_line *l)
{
    const js_doc *d = &l->doc;
    const cJSON *list = js_get(d->root, "completions");
    const char *marker = j->opt->response_marker;
    const int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n == 0)
        return js_fail(d, list ? list : d->root, FT_EDATA, "completions",
                       list ? "must be a list of at least one text" : "missing");
    l->whole = ft_alloc((size_t)n, sizeof *l->whole);
    l->part = ft_alloc((size_t)n, sizeof *l->part);
    l->score = ft_alloc((size_t)n, sizeof *l->score);
    if (!l->whole || !l->part || !l->score) return FT_EMEM;
    for (const cJSON *c = list->child; c; c = c->next, l->n++) {
        if (!cJSON_IsString(c)) return js_fail(d, c, FT_EDATA, "completions", "must be texts");
        l->whole[l->n] = c->valuestring;
        l->part[l->n] = marker ? last_of(c->valuestring, marker) : c->valuestring;
        l->score[l->n] = (double)NAN;
        j->left_out += !l->part[l->n];
    }
    j->completions += n;
    return FT_OK;
}

static ft_status read_line(judge *j, const line_reader *lines, const char *text, size_t len)
{
    judge_line *l = &j->line[j->n++];
    *l = (judge_line){.number = (uint64_t)j->lines++};
    FT_TRY(lines_record(lines, text, len, ""));
    l->text = ft_alloc(len + 1, 1);
    if (!l->text) return FT_EMEM;
    memcpy(l->text, text, len);
    FT_TRY(js_parse(&l->doc, l->text, len, lines_name(lines), lines_number(lines),
                    JS_BIG_NUMBERS | JS_RECORD, FT_EDATA));
    if (!cJSON_IsObject(l->doc.root))
        return js_fail(&l->doc, l->doc.root, FT_EDATA, NULL, "must be an object");
    FT_TRY(read_prompt(l));
    return read_completions(j, l);
}

/* --- rounds ------------------------------------------------------------------------------------------------------- */

static ft_status put(judge *j, const str_buf *text)
{
    FT_TRY(str_ok(text));
    if (text->len == 0) return FT_OK;
    return j->file ? file_out_write(j->file, text->data, text->len) : tool_put(j->sink, text);
}

static ft_status finish(judge *j)
{
    str_buf out = {0};
    ft_status rc = j->n > 0 ? j->method->score(j) : FT_OK;
    if (rc == FT_OK)
        rc = file_inputs_check(); /* of weights that changed under it, no score is told */
    for (int i = 0; rc == FT_OK && i < j->n; i++) rc = j->form->write(j, &j->line[i], &out);
    if (rc == FT_OK) rc = put(j, &out);
    str_free(&out);
    forget(j);
    log_progress("judge  %lld lines", (long long)j->lines);
    return rc;
}

static ft_status judge_all(judge *j, line_reader *lines)
{
    const char *text;
    size_t len;
    for (;;) {
        if (j->n == JUDGE_ROUND || (j->n > 0 && !lines_ready(lines))) FT_TRY(finish(j));
        ft_status rc = lines_next(lines, &text, &len);
        if (rc == FT_END) return finish(j);
        FT_TRY(rc);
        FT_TRY(ft_stop());
        if (!lines_blank(text, len)) FT_TRY(read_line(j, lines, text, len));
    }
}

/* --- what it is asked for ----------------------------------------------------------------------------------------- */

ft_status tool_judge_check(const tool_judge_options *o)
{
    const judge_method *m = method_of(o->method);
    const bool pairs = strcmp(o->to, "preference") == 0;
    FT_CHECK(!o->match == (m != &judge_match), FT_EUSAGE, "--match: %s --method match",
             o->match ? "goes with" : "is needed with");
    FT_CHECK(!o->template == !m->holes, FT_EUSAGE, "--template: %s",
             o->template ? "goes with --method pairwise and rating" : "a file is needed");
    FT_CHECK(m->labels || !o->labels, FT_EUSAGE,
             "--labels: goes with --method pairwise and rating");
    FT_CHECK(m->holes || !o->chat, FT_EUSAGE, "--chat: goes with --method pairwise and rating");
    FT_CHECK(pairs || (!o->pairs && isnan(o->min_margin)), FT_EUSAGE,
             "--%s: goes with --to preference", o->pairs ? "pairs" : "min-margin");
    FT_CHECK(isnan(o->threshold) || strcmp(o->to, "unpaired") == 0 ||
                 strcmp(o->to, "completion") == 0,
             FT_EUSAGE, "--threshold: goes with --to unpaired and completion");
    FT_CHECK(!o->response_marker || o->response_marker[0], FT_EUSAGE,
             "--response-marker: must not be empty");
    return FT_OK;
}

static ft_status read_template(judge *j)
{
    size_t n;
    FT_TRY(text_read(&j->template, &n, j->opt->template, 1 << 20));
    FT_CHECK(utf8_valid(j->template, n) && strlen(j->template) == n, FT_EDATA,
             "%s: is not a text in UTF-8", j->opt->template);
    for (int i = 0; j->method->must_hold[i]; i++)
        FT_CHECK(strstr(j->template, j->method->must_hold[i]), FT_EDATA,
                 "%s: the template has no %s", j->opt->template, j->method->must_hold[i]);
    return FT_OK;
}

static ft_status cut_labels(judge *j)
{
    j->words = ft_strdup(j->opt->labels ? j->opt->labels : j->method->labels);
    if (!j->words) return FT_EMEM;
    for (char *at = j->words; at; j->labels++) {
        char *comma = strchr(at, ',');
        if (comma) *comma++ = 0;
        FT_CHECK(at[0], FT_EUSAGE, "--labels: one of them is empty");
        FT_CHECK(j->labels < JUDGE_LABELS, FT_EUSAGE, "--labels: at most %d", JUDGE_LABELS);
        for (int i = 0; i < j->labels; i++)
            FT_CHECK(strcmp(j->label[i], at) != 0, FT_EUSAGE, "--labels: \"%s\" stands twice",
                     ft_shows(at));
        j->label[j->labels] = at;
        at = comma;
    }
    return FT_OK;
}

static ft_status open_file(judge *j)
{
    static const char *const heads[] = {"{\"", NULL};
    const tool_judge_options *o = j->opt;
    const io_input in[] = {{"the data", o->data, false},
                           {"the model", j->t ? j->t->m->path : NULL, false},
                           {"the template", o->template, false}};
    bool there;
    if (!o->out) return FT_OK;
    FT_TRY(io_out_check(o->out, in, (int)FT_COUNT_OF(in)));
    FT_TRY(io_out_file(o->out, heads, "what ft judge --out writes"));
    FT_TRY(io_out_there(o->out, &there));
    FT_CHECK(o->force || !there, FT_EEXIST, "%s: exists already; --force writes over it",
             ft_shows(o->out));
    FT_TRY(file_out_open(&j->file, o->out));
    file_out_keep(j->file);
    return FT_OK;
}

static void tell(const judge *j)
{
    const bool before = ft_error_starved();
    str_buf s = {0};
    str_printf(&s, "judge  %lld line%s, %lld completion%s", (long long)j->lines,
               j->lines == 1 ? "" : "s", (long long)j->completions, j->completions == 1 ? "" : "s");
    if (j->opt->response_marker)
        str_printf(&s, ", %lld without the marker", (long long)j->left_out);
    str_printf(&s, "; %lld kept, %lld dropped", (long long)j->kept, (long long)j->dropped);
    if (!s.failed) log_info("%s", s.data);
    str_free(&s);
    ft_error_forget_since(before);
}

static ft_status run(judge *j)
{
    line_reader *lines;
    if (j->method->holes) FT_TRY(read_template(j));
    if (j->method->labels) FT_TRY(cut_labels(j));
    if (j->method->open) FT_TRY(j->method->open(j));
    FT_TRY(lines_open(&lines, j->opt->data));
    ft_status rc = open_file(j);
    if (rc == FT_OK) rc = judge_all(j, lines);
    lines_close(lines);
    FT_TRY(rc);
    file_out *file = j->file;
    j->file = NULL;
    return file ? file_out_commit(file) : FT_OK;
}

ft_status tool_judge(tool_model *t, const tool_judge_options *opt, const tool_sink *out)
{
    judge *j = ft_alloc(1, sizeof *j);
    if (!j) return FT_EMEM;
    *j = (judge){.t = t,
                 .opt = opt,
                 .sink = out,
                 .method = method_of(opt->method),
                 .form = judge_form_by_name(opt->to)};
    ft_status rc = run(j);
    if (rc == FT_OK) tell(j);
    forget(j);
    file_out_abort(j->file);
    ft_free(j->template);
    ft_free(j->words);
    ft_free(j);
    return rc;
}
