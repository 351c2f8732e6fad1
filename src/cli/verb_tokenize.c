/* verb_tokenize.c – text to ids and back, line by line, with the model's own tokenizer and chat template.
 * Needs no weights. */
#include "cli.h"

#include "ft/io.h"
#include "ft/template.h"

#include <stdio.h>
#include <string.h>

typedef struct options {
    const char *model, *chat_template;
    bool chat, decode, special;
} options;

static const cfg_field flags[] = {
    {"model", CFG_PATH, offsetof(options, model), .required = true,
     .help = "folder or .gguf file with the tokenizer"},
    {"chat", CFG_BOOL, offsetof(options, chat), .def = "false",
     .help = "lines are messages: a JSON array, or an object with messages, tools, "
             "chat_template_kwargs, add_generation_prompt"},
    {"chat_template", CFG_PATH, offsetof(options, chat_template), .choices = chat_names,
     .help = "in place of the model's: the path of a Jinja file, or a name"},
    {"decode", CFG_BOOL, offsetof(options, decode), .def = "false", .help = "ids in, text out"},
    {"special", CFG_BOOL, offsetof(options, special), .def = "false",
     .help = "add BOS and EOS as the tokenizer's post-processor does"},
    CFG_END};

typedef struct job {
    const cli_call *call;
    const options *opt;
    tok_tokenizer *tok;
    chat *chat;
    tok_ids ids;
    str_buf text;
} job;

#define STDIN_NAME "standard input"

/* --- in --------------------------------------------------------------------------------------------- */
static ft_status encode_chat(job *j, const js_doc *doc)
{
    chat_input in = {.messages = doc->root};
    if (cJSON_IsObject(doc->root)) {
        static const char *const known[] = {"messages", "tools", "chat_template_kwargs",
                                            "add_generation_prompt", NULL};
        for (const cJSON *m = doc->root->child; m; m = m->next) {
            int i = 0;
            while (known[i] && strcmp(known[i], m->string) != 0) i++;
            const char *near = known[i] ? NULL : cfg_nearest(m->string, known);
            if (!known[i])
                return js_fail(doc, m, FT_EDATA, m->string, "unknown key%s%s%s",
                               near ? "; did you mean \"" : "", near ? near : "",
                               near ? "\"?" : "");
        }
        FT_TRY(chat_read(&in, doc, doc->root));
        FT_TRY(
            js_get_bool(doc, doc->root, "add_generation_prompt", false, &in.add_generation_prompt));
    } else if (!cJSON_IsArray(doc->root)) {
        return js_fail(doc, doc->root, FT_EDATA, NULL,
                       "must be a list of messages, or an object with messages");
    }
    FT_TRY(chat_render(j->chat, &in, &j->text, NULL));
    FT_TRY(str_ok(&j->text));
    return tok_encode(j->tok, j->text.data ? j->text.data : "", j->text.len, j->opt->special,
                      &j->ids);
}

static ft_status read_id(job *j, const js_doc *doc, const cJSON *node)
{
    double v = node->valuedouble;
    if (!cJSON_IsNumber(node) || v < 0 || v > INT32_MAX || v != (double)(int32_t)v)
        return js_fail(doc, node, FT_EDATA, NULL, "an id is an integer from 0 to %d", INT32_MAX);
    return tok_ids_push(&j->ids, (int32_t)v);
}

static ft_status read_json(job *j, const js_doc *doc)
{
    const cJSON *id;
    if (j->opt->chat) return encode_chat(j, doc);
    if (!j->opt->decode) {
        if (!cJSON_IsString(doc->root))
            return js_fail(doc, doc->root, FT_EDATA, NULL, "a line is a JSON string");
        char *s = doc->root->valuestring;
        return tok_encode(j->tok, s, js_nul(s, strlen(s)), j->opt->special, &j->ids);
    }
    if (!cJSON_IsArray(doc->root))
        return js_fail(doc, doc->root, FT_EDATA, NULL, "a line is an array of ids");
    cJSON_ArrayForEach(id, doc->root) FT_TRY(read_id(j, doc, id));
    return FT_OK;
}

/* Ids separated by spaces. */
static ft_status read_ids(job *j, const char *text, size_t len, int64_t line)
{
    for (size_t i = 0; i < len;) {
        int64_t v = 0;
        size_t start = i;
        if (text[i] == ' ' || text[i] == '\t') {
            i++;
            continue;
        }
        while (i < len && text[i] >= '0' && text[i] <= '9' && v <= INT32_MAX)
            v = 10 * v + (text[i++] - '0');
        FT_CHECK(i > start && v <= INT32_MAX && (i == len || text[i] == ' ' || text[i] == '\t'),
                 FT_EDATA, STDIN_NAME ":%lld:%zu: expected ids separated by spaces, found \"%s\"",
                 (long long)line, start + 1, ft_show(text + start, len - start));
        FT_TRY(tok_ids_push(&j->ids, (int32_t)v));
    }
    return FT_OK;
}

static ft_status read_line(job *j, const char *text, size_t len, int64_t line)
{
    if (j->opt->chat || j->call->json) {
        js_doc doc;
        /* numbers of tool calls become text; in a text U+0000 is a character like any other */
        js_flags how = j->opt->chat ? JS_BIG_NUMBERS : JS_NUL;
        FT_TRY(js_parse(&doc, text, len, STDIN_NAME, line, how, FT_EDATA));
        ft_status rc = read_json(j, &doc);
        js_close(&doc);
        return rc;
    }
    if (j->opt->decode) return read_ids(j, text, len, line);
    return tok_encode(j->tok, text, len, j->opt->special, &j->ids);
}

/* Failures of template and tokenizer do not know where the text came from. */
static ft_status at_line(ft_status rc, int64_t line)
{
    char what[512];
    if (str_starts(ft_error(), STDIN_NAME)) return rc;
    snprintf(what, sizeof what, "%s", ft_error());
    return ft_fail(rc, STDIN_NAME ":%lld: %s", (long long)line, what);
}

/* --- out -------------------------------------------------------------------------------------------- */
/* Text as JSON: bytes that are no UTF-8 (half of a character in the ids) become U+FFFD. */
static void add_json_text(str_buf *out, const char *text, size_t n)
{
    str_buf clean = {0};
    for (size_t i = 0; i < n;) {
        int32_t cp;
        size_t len = (size_t)utf8_next(text + i, n - i, &cp);
        if (cp < 0)
            str_adds(&clean, "\xef\xbf\xbd");
        else
            str_add(&clean, text + i, len);
        i += len;
    }
    out->failed = out->failed || clean.failed;
    str_json(out, clean.data ? clean.data : "", clean.len);
    str_free(&clean);
}

static ft_status write_line(job *j)
{
    bool json = j->call->json;
    str_buf out = {0};
    ft_status rc = FT_OK;
    str_clear(&j->text);
    if (j->opt->decode) {
        FT_TRY_OUT(tok_decode(j->tok, j->ids.id, j->ids.n, &j->text));
        FT_TRY_OUT(str_ok(&j->text));
        if (json)
            add_json_text(&out, j->text.data ? j->text.data : "", j->text.len);
        else
            str_add(&out, j->text.data ? j->text.data : "", j->text.len);
    } else {
        if (json) str_addc(&out, '[');
        for (int64_t i = 0; i < j->ids.n; i++)
            str_printf(&out, "%s%d", i == 0 ? "" : json ? "," : " ", j->ids.id[i]);
        if (json) str_addc(&out, ']');
    }
    str_addc(&out, '\n');
    FT_TRY_OUT(str_ok(&out));
    rc = cli_out(out.data, out.len);
out:
    str_free(&out);
    return rc;
}

static ft_status all_lines(job *j)
{
    line_reader *in;
    const char *text;
    size_t len;
    ft_status rc;
    FT_TRY(lines_open(&in, NULL));
    while ((rc = lines_next(in, &text, &len)) == FT_OK) {
        j->ids.n = 0;
        str_clear(&j->text);
        rc = read_line(j, text, len, lines_number(in));
        if (rc != FT_OK) rc = at_line(rc, lines_number(in));
        if (rc != FT_OK) goto out;
        FT_TRY_OUT(write_line(j));
        if (!lines_ready(in))
            FT_TRY_OUT(cli_flush()); /* nothing more is waiting: the reader may be */
    }
    if (rc == FT_END) rc = FT_OK;
out:
    lines_close(in);
    return rc;
}

static ft_status run(const cli_call *c)
{
    job j = {.call = c, .opt = c->opt};
    ft_status rc;

    FT_CHECK(!(j.opt->chat && j.opt->decode), FT_EUSAGE, "--chat and --decode exclude each other");
    FT_CHECK(!(j.opt->special && j.opt->decode), FT_EUSAGE,
             "--special and --decode exclude each other");
    FT_CHECK(j.opt->chat || !j.opt->chat_template, FT_EUSAGE, "--chat-template: goes with --chat");
    FT_TRY_OUT(tok_open(&j.tok, j.opt->model));
    if (j.opt->chat_template) FT_TRY_OUT(chat_use(j.tok, j.opt->chat_template));
    if (j.opt->chat) FT_TRY_OUT(chat_open(&j.chat, j.tok));
    rc = all_lines(&j);
out:
    tok_ids_free(&j.ids);
    str_free(&j.text);
    if (j.chat) chat_close(j.chat);
    if (j.tok) tok_close(j.tok);
    return rc;
}

const cli_verb verb_tokenize = {
    .name = "tokenize",
    .help = "lines of text to token ids and back",
    .usage = "--model M [--chat | --decode] [--special] [--json] < LINES",
    .more = "Each line of standard input is a text; its ids come out on one line, separated by "
            "spaces.\n"
            "With --json a line in is a JSON string and a line out an array of ids (--decode: the "
            "other way).\n",
    .example = "echo 'some text' | ft tokenize --model model",
    .flags = flags,
    .opt_size = sizeof(options),
    .needs = CLI_TEXT,
    .run = run,
};
