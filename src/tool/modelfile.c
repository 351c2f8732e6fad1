/* modelfile.c – a Modelfile beside a converted model, for `ollama create`: where the weights are, what ends an answer, how is
 * sampled, and the chat template where it is one that is known by a name.
 *
 * Ollama's templates are Go's, so a model's Jinja cannot be copied: it is put to the test beside those of the table. One that
 * renders conversations as one of them does is that one; so is one that only brings a system message of its own where none is
 * given. */
#include <math.h>
#include <string.h>

#include "tool_private.h"

/* A value that is quoted has no escapes: it ends with the last quote of a line. */
static bool put_quoted(str_buf *out, const char *text)
{
    const char *quote = strchr(text, '"') ? "\"\"\"" : "\"";
    if (strstr(text, "\"\"\"")) return false;
    str_printf(out, "%s%s%s", quote, text, quote);
    return true;
}

/* --- parameters ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *hf, *ollama;
    bool whole, sampling; /* sampling: of no effect where the most probable token is taken */
} parameters[] = {{"temperature", "temperature", false, true},
                  {"top_k", "top_k", true, true},
                  {"top_p", "top_p", false, true},
                  {"min_p", "min_p", false, true},
                  {"repetition_penalty", "repeat_penalty", false, false},
                  {"max_new_tokens", "num_predict", true, false}};

static void put_parameters(str_buf *out, const cJSON *config, const char *path)
{
    const bool greedy = cJSON_IsFalse(js_get(config, "do_sample"));
    if (greedy) str_adds(out, "PARAMETER temperature 0\n");
    for (size_t i = 0; i < FT_COUNT_OF(parameters); i++) {
        const cJSON *v = js_get(config, parameters[i].hf);
        if (!v || cJSON_IsNull(v) || (greedy && parameters[i].sampling)) continue;
        const double x = v->valuedouble;
        if (!cJSON_IsNumber(v) || !isfinite(x) || (parameters[i].whole && x != floor(x))) {
            log_warn("%s: %s: is no %s; the Modelfile is without it", ft_shows(path),
                     parameters[i].hf, parameters[i].whole ? "whole number" : "number");
            continue;
        }
        str_printf(out, "PARAMETER %s ", parameters[i].ollama);
        str_double(out, x);
        str_addc(out, '\n');
    }
}

static ft_status read_parameters(str_buf *out, const model *m, arena *mem)
{
    js_doc d = {0};
    char *text = NULL;
    size_t len;
    path_kind kind;
    const char *path = path_join(mem, m->path, "generation_config.json");
    if (!path) return FT_EMEM;
    if (m->from_gguf) return FT_OK;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &len, path, (size_t)16 << 20));
    ft_status rc = js_parse(&d, text, len, path, 1, JS_ALLOW_NONFINITE, FT_EDATA);
    if (rc == FT_OK) put_parameters(out, d.root, path);
    js_close(&d);
    ft_free(text);
    return rc;
}

/* --- stops --------------------------------------------------------------------------------------------------- */

static ft_status put_stop(str_buf *out, const char *text, const char *path)
{
    str_buf line = {0};
    if (put_quoted(&line, text) && !line.failed)
        str_printf(out, "PARAMETER stop %s\n", line.data);
    else
        log_warn("%s: no way to write the stop token %s in a Modelfile; it is without it",
                 ft_shows(path), ft_shows(text));
    out->failed = out->failed || line.failed;
    str_free(&line);
    return str_ok(out);
}

static ft_status put_stops(str_buf *out, const tok_tokenizer *t, const char *path)
{
    int n;
    const int32_t *stop = tok_stops(t, &n);
    for (int i = 0; i < n; i++) {
        str_buf text = {0};
        ft_status rc = FT_OK;
        if (tok_is_special(t, stop[i]))
            str_adds(&text, tok_text(t, stop[i]));
        else
            rc = tok_decode(t, &stop[i], 1, &text);
        if (rc == FT_OK) rc = str_ok(&text);
        if (rc == FT_OK && text.len > 0) rc = put_stop(out, text.data, path);
        str_free(&text);
        FT_TRY(rc);
    }
    return FT_OK;
}

/* --- the template -------------------------------------------------------------------------------------------- */

/* Conversations, %s being a system message in front or nothing. Contents begin and end with letters: Go does not trim. */
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define ASSISTANT(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
static const char *const talks[] = {
    "[%s" USER("What is\\n\\n \\\"it\\\"? <b>é</b>") "]",
    "[%s" USER("One") "," ASSISTANT("Two\\nlines") "," USER("Three") "]",
    "[%s" USER("a") "," ASSISTANT("b") "," USER("c") "," ASSISTANT("d e") "," USER("f") "]",
};
enum { TALKS = FT_COUNT_OF(talks) };
#define MARK "Be brief,\n\nplease."

typedef struct rendering {
    str_buf text;
    bool refused; /* the template raises an exception */
} rendering;

static ft_status render(const tok_tokenizer *t, int talk, const char *system, rendering *out)
{
    str_buf turn = {0}, json = {0};
    js_doc d;
    chat *c;
    *out = (rendering){.refused = false};
    if (system) {
        str_adds(&turn, "{\"role\":\"system\",\"content\":");
        str_json(&turn, system, strlen(system));
        str_adds(&turn, "},");
    }
    const char *hole = strstr(talks[talk], "%s");
    str_add(&json, talks[talk], (size_t)(hole - talks[talk]));
    str_adds(&json, turn.data ? turn.data : "");
    str_adds(&json, hole + 2);
    ft_status rc = turn.failed ? FT_EMEM : str_ok(&json);
    if (rc == FT_OK) rc = chat_open(&c, t);
    if (rc == FT_OK) {
        rc = js_parse(&d, json.data, json.len, "", 1, JS_NO_POSITIONS, FT_EINTERNAL);
        if (rc == FT_OK) {
            const chat_input in = {.messages = d.root, .add_generation_prompt = true};
            rc = chat_render(c, &in, &out->text, NULL);
            js_close(&d);
        }
        chat_close(c);
    }
    if (rc == FT_EDATA) {
        ft_error_clear();
        out->refused = true;
        rc = FT_OK;
    }
    str_free(&turn);
    str_free(&json);
    return rc;
}

static bool same(const rendering *a, const rendering *b)
{
    return !a->refused && !b->refused && a->text.len == b->text.len &&
           (a->text.len == 0 || memcmp(a->text.data, b->text.data, a->text.len) == 0);
}

static ft_status is_same(const tok_tokenizer *t, int talk, const char *system, const rendering *own,
                         bool *yes)
{
    rendering r;
    ft_status rc = render(t, talk, system, &r);
    *yes = rc == FT_OK && same(&r, own);
    str_free(&r.text);
    return rc;
}

/* The model's own: without a system message, and with one. */
typedef struct renderings {
    rendering none[TALKS], some[TALKS];
} renderings;

static ft_status render_all(const tok_tokenizer *t, renderings *own)
{
    ft_status rc = FT_OK;
    for (int i = 0; i < TALKS && rc == FT_OK; i++) {
        rc = render(t, i, NULL, &own->none[i]);
        if (rc == FT_OK) rc = render(t, i, MARK, &own->some[i]);
    }
    return rc;
}

static void free_all(renderings *own)
{
    for (int i = 0; i < TALKS; i++) {
        str_free(&own->none[i].text);
        str_free(&own->some[i].text);
    }
}

/* What the model says where the named template, given a system message, has that; NULL: it does not say such a thing. */
static ft_status own_system(const tok_tokenizer *t, const renderings *own, arena *mem,
                            const char **out)
{
    rendering marked;
    const rendering *bare = &own->none[0];
    *out = NULL;
    ft_status rc = render(t, 0, MARK, &marked);
    const char *at =
        rc == FT_OK && !marked.refused && marked.text.data ? strstr(marked.text.data, MARK) : NULL;
    if (at && !bare->refused && bare->text.data) {
        const size_t front = (size_t)(at - marked.text.data);
        const size_t back = marked.text.len - front - strlen(MARK);
        const size_t n = bare->text.len;
        if (n > front + back && memcmp(bare->text.data, marked.text.data, front) == 0 &&
            memcmp(bare->text.data + n - back, at + strlen(MARK), back) == 0) {
            *out = arena_strn(mem, bare->text.data + front, n - front - back);
            if (!*out) rc = FT_EMEM;
        }
    }
    str_free(&marked.text);
    return rc;
}

/* Does the template that t has now render as the model's? *system: what it needs for that where none is given. */
static ft_status fits(const tok_tokenizer *t, const renderings *own, arena *mem, bool *yes,
                      const char **system)
{
    *system = NULL;
    *yes = true;
    for (int i = 0; i < TALKS && *yes; i++) { /* one that takes no system message is not asked */
        if (!own->some[i].refused) FT_TRY(is_same(t, i, MARK, &own->some[i], yes));
    }
    if (!*yes) return FT_OK;
    for (int tries = 0; tries < 2; tries++) {
        *yes = true;
        for (int i = 0; i < TALKS && *yes; i++) FT_TRY(is_same(t, i, *system, &own->none[i], yes));
        if (*yes || tries > 0) return FT_OK;
        FT_TRY(own_system(t, own, mem, system));
        if (!*system) return FT_OK;
    }
    return FT_OK;
}

static const char *word(const tok_tokenizer *t, int32_t id)
{
    const char *text = id >= 0 ? tok_text(t, id) : NULL;
    return text ? text : "";
}

static ft_status find_name(tok_tokenizer *t, arena *mem, const char **name, const char **system)
{
    renderings own = {0};
    bool yes = false;
    *name = NULL;
    ft_status rc = render_all(t, &own);
    for (int i = 0; rc == FT_OK && chat_names[i] && !yes; i++) {
        rc = tok_use_template(t, chat_named(chat_names[i]), NULL);
        if (rc == FT_OK) rc = fits(t, &own, mem, &yes, system);
        if (yes) *name = chat_names[i];
    }
    free_all(&own);
    return rc;
}

static ft_status put_template(str_buf *out, tok_tokenizer *t, const char *path, arena *mem,
                              const char **name)
{
    int n;
    const char *system = NULL, *why = "the model has no chat template";
    *name = NULL;
    if (t && tok_chat_templates(t, &n)) {
        FT_TRY(find_name(t, mem, name, &system));
        why = "the model's chat template renders as none of those that ft has for Ollama";
    }
    if (!*name) {
        str_printf(out, "# No TEMPLATE: %s.\n", why);
        log_warn("%s: the Modelfile has no TEMPLATE: %s", ft_shows(path), why);
        return str_ok(out);
    }
    const tool_go_words w = {.bos = word(t, tok_bos(t)),
                             .eos = word(t, tok_eos(t)),
                             .adds_bos = tok_adds_bos(t),
                             .system = system};
    str_printf(out, "# the chat template %s\nTEMPLATE \"\"\"", *name);
    if (!tool_go_template(out, *name, &w))
        return ft_fail(FT_EINTERNAL, "no Go template of the name %s", *name);
    str_adds(out, "\"\"\"\n");
    return str_ok(out);
}

/* --- all of it ------------------------------------------------------------------------------------------------ */

static ft_status open_tokenizer(tok_tokenizer **t, const model *m, arena *mem)
{
    const char *kind = NULL;
    bool has;
    *t = NULL;
    if (!m->from_gguf) {
        FT_TRY(tok_in_folder(m->path, &has));
        return has ? tok_open(t, m->path) : FT_OK;
    }
    FT_TRY(gguf_text(m->weights.gguf, "tokenizer.ggml.model", mem, &kind));
    return kind && strcmp(kind, "none") != 0 ? tok_open(t, m->path) : FT_OK;
}

ft_status tool_modelfile(str_buf *out, const model *m, const char *file, arena *mem,
                         const char **name)
{
    tok_tokenizer *t;
    FT_TRY(open_tokenizer(&t, m, mem));
    str_printf(out, "%s\n", io_modelfile[0]);
    if (file)
        str_printf(out, strchr(file, '\n') ? "FROM \"./%s\"\n" : "FROM ./%s\n", file);
    else
        str_adds(out, "FROM .\n");
    ft_status rc = t ? put_stops(out, t, m->path) : FT_OK;
    if (rc == FT_OK) rc = read_parameters(out, m, mem);
    if (rc == FT_OK) rc = put_template(out, t, m->path, mem, name);
    tok_close(t);
    return rc;
}
