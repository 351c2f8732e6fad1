/* command.c – a number that a program of the user's gives: {"type": "command", "argv": ["./judge"], "timeout": 10}.
 *
 * For each completion it reads a line of JSON: the record's own keys, and `completion`, `answer` as text where there is one, `prompt`
 * (the text, where there is no record), `tokens`, `finished`. It answers a line with one number for each, in their order. */
#include "program.h"
#include "reward_private.h"

#include "ft/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct command_cfg {
    rw_head head;
    const cJSON *words;
    double timeout;
    char **argv; /* NULL-terminated */
} command_cfg;

#define AT(member) offsetof(command_cfg, member)
static const char *const shapes[] = {"list of words", NULL};
static const cfg_field fields[] = {RW_HEAD_ROWS,
                                   {.key = "argv",
                                    .type = CFG_JSON,
                                    .offset = AT(words),
                                    .required = true,
                                    .choices = shapes,
                                    .help = "the program, and what it is given; no shell reads it"},
                                   {.key = "timeout",
                                    .type = CFG_FLOAT,
                                    .offset = AT(timeout),
                                    .def = "10",
                                    .low = 0,
                                    .high = 1e6,
                                    .low_open = true,
                                    .help = "seconds that an answer may take"},
                                   CFG_END};

/* A program with a slash is a path, as all paths of a config; other names are looked up in PATH. */
static ft_status check(cfg_doc *d, const cJSON *node, const char *key, void *cfg)
{
    command_cfg *c = cfg;
    const char *at = arena_printf(d->mem, "%s.argv", key);
    const int n = cJSON_IsArray(c->words) ? cJSON_GetArraySize(c->words) : 0;
    int k = 0;
    if (!at) return FT_EMEM;
    if (n == 0) {
        cfg_fail(d, c->words ? c->words : node, at, "must be a list of words, the program first");
        return FT_OK;
    }
    c->argv = arena_get(d->mem, ((size_t)n + 1) * sizeof *c->argv);
    if (!c->argv) return FT_EMEM;
    for (cJSON *w = c->words->child; w; w = w->next, k++) {
        const char *word = cJSON_IsString(w) ? w->valuestring : NULL;
        if (!word || (k == 0 && !word[0])) {
            cfg_fail(d, w, at, word ? "the program has no name" : "each word must be a string");
            return FT_OK;
        }
        if (k == 0 && strchr(word, '/')) FT_TRY(rw_settle_path(d, w, &word));
        c->argv[k] = arena_str(d->mem, word);
        if (!c->argv[k]) return FT_EMEM;
    }
    return FT_OK;
}

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As posix_spawnp looks: in the folders of PATH, of which an empty one is the current one. */
static ft_status find_in_path(const rw_one *r, const char *name)
{
    const char *at = getenv("PATH");
    size_t n;
    for (at = at ? at : "/bin:/usr/bin"; at; at = at[n] ? at + n + 1 : NULL) {
        n = strcspn(at, ":");
        const char *path = arena_printf(r->c->mem, "%.*s/%s", n ? (int)n : 1, n ? at : ".", name);
        if (!path) return FT_EMEM;
        if (is_program(path)) return FT_OK;
    }
    return ft_fail(FT_ENOINPUT,
                   "reward %s: %s: cannot be started: it is in no folder of PATH; one of your own "
                   "is named with a slash, such as ./%s",
                   rw_head_of(r)->name, ft_shows(name), ft_shows(name));
}

static ft_status check_program(const rw_one *r, const char *name)
{
    if (!strchr(name, '/')) return find_in_path(r, name);
    errno = 0;
    if (is_program(name)) return FT_OK;
    return ft_fail(errno == ENOENT || errno == ENOTDIR ? FT_ENOINPUT : FT_EIO,
                   "reward %s: %s: cannot be started: %s", rw_head_of(r)->name, ft_shows(name),
                   errno ? strerror(errno) : "it is no file");
}

/* It is started by the first question: the folder of the run is there then. */
static ft_status open_program(rw_one *r)
{
    const command_cfg *c = r->cfg;
    FT_TRY(check_program(r, c->argv[0]));
    if (r->c->dry) return FT_OK;
    rw_program *p = arena_get(r->c->mem, sizeof *p);
    if (!p) return FT_EMEM;
    *p = (rw_program){.argv = c->argv, .name = c->head.name, .timeout = c->timeout};
    if (r->c->dir) {
        p->errors = path_join(r->c->mem, r->c->dir, RW_ERRORS);
        if (!p->errors) return FT_EMEM;
    }
    r->priv = p;
    return FT_OK;
}

/* A member of the line's object; what the record has of its name goes. value NULL: none. */
static void add(str_buf *line, const char *key, const char *value)
{
    if (!value) return;
    js_drop_member(line, key);
    while (line->len > 0 && line->data[line->len - 1] != '}') line->len--;
    if (line->len > 0) line->len--;
    str_printf(line, "%s\"%s\":%s}", line->len > 1 ? "," : "", key, value);
}

static void add_text(str_buf *line, const char *key, const char *text)
{
    str_buf value = {0};
    if (!text) return;
    str_json(&value, text, strlen(text));
    add(line, key, value.data);
    line->failed |= value.failed;
    str_free(&value);
}

static void write_line(str_buf *out, str_buf *line, const rw_item *it)
{
    char count[32];
    snprintf(count, sizeof count, "%lld", (long long)it->tokens);
    str_clear(line);
    str_adds(line, it->extra ? it->extra : "{}");
    if (!it->extra) add_text(line, "prompt", it->prompt_text);
    add_text(line, "completion", it->text);
    if (it->answers && !it->listed) add_text(line, "answer", it->answers[0]);
    add(line, "tokens", count);
    add(line, "finished", it->finished ? "true" : "false");
    for (size_t i = 0; i < line->len; i++)
        if (line->data[i] == '\n' || line->data[i] == '\r') line->data[i] = ' ';
    str_add(out, line->data ? line->data : "", line->len);
    str_addc(out, '\n');
    out->failed |= line->failed;
}

static ft_status judge(rw_one *r, const rw_item *item, int64_t n, double *out)
{
    str_buf text = {0}, line = {0};
    size_t *at = ft_alloc((size_t)n + 1, sizeof *at);
    int64_t *number = ft_alloc((size_t)n + 1, sizeof *number);
    ft_status rc = at && number ? FT_OK : FT_EMEM;
    for (int64_t i = 0; rc == FT_OK && i < n; i++) {
        number[i] = item[i].line;
        write_line(&text, &line, &item[i]);
        at[i + 1] = text.len;
    }
    if (rc == FT_OK) rc = str_ok(&text);
    if (rc == FT_OK) rc = rw_program_ask(r->priv, out, text.data, at, number, n);
    str_free(&text);
    str_free(&line);
    ft_free(number);
    ft_free(at);
    return rc;
}

static void end_program(rw_one *r)
{
    if (r->priv) rw_program_end(r->priv);
}

const rw_reward rw_reward_command = {.name = "command",
                                     .help = "a number that a program of yours gives",
                                     .fields = fields,
                                     .cfg_size = sizeof(command_cfg),
                                     .check = check,
                                     .open = open_program,
                                     .judge = judge,
                                     .close = end_program};
