/* chat.c – a conversation on a terminal: lines that are said, commands that begin with a slash, answers as they come. */
#include "cli.h"

#include <ctype.h>
#include <string.h>

#include "ft/tool.h"

typedef struct chat_room {
    tool_talk *talk;
    cli_editor *editor;
    const tool_sink *out;
    bool quit;
} chat_room;

static ft_status do_reset(chat_room *r, const char *rest)
{
    (void)rest;
    tool_talk_reset(r->talk);
    cli_editor_say(r->editor, "(the conversation begins anew)\n");
    return FT_OK;
}

static ft_status do_system(chat_room *r, const char *rest)
{
    FT_TRY(tool_talk_system(r->talk, *rest ? rest : NULL));
    cli_editor_say(r->editor, *rest ? "(the system turn is set)\n" : "(there is no system turn)\n");
    return FT_OK;
}

static ft_status do_save(chat_room *r, const char *rest)
{
    FT_TRY(tool_talk_save(r->talk, rest));
    cli_editor_say(r->editor, "(saved)\n");
    return FT_OK;
}

static ft_status do_quit(chat_room *r, const char *rest)
{
    (void)rest;
    r->quit = true;
    return FT_OK;
}

static ft_status do_help(chat_room *r, const char *rest);

static const struct {
    const char *name, *argument, *help;
    bool turns; /* of a conversation only */
    ft_status (*run)(chat_room *r, const char *rest);
} commands[] = {
    {"reset", "", "begin the conversation anew", true, do_reset},
    {"system", " [TEXT]", "set the system turn, or take it out", true, do_system},
    {"save", " FILE", "write the conversation as a messages record", true, do_save},
    {"help", "", "this list", false, do_help},
    {"quit", "", "end (so does Ctrl-D; Ctrl-C ends an answer, or clears the line)", false, do_quit},
};

static ft_status do_help(chat_room *r, const char *rest)
{
    str_buf s = {0};
    (void)rest;
    for (size_t i = 0; i < FT_COUNT_OF(commands); i++) {
        if (commands[i].turns && !tool_talk_has_turns(r->talk)) continue;
        str_printf(&s, "/%s%s", commands[i].name, commands[i].argument);
        while (s.len > 0 && s.len < 4096 && strlen(strrchr(s.data, '/')) < 16) str_addc(&s, ' ');
        str_printf(&s, " %s\n", commands[i].help);
    }
    ft_status rc = str_ok(&s);
    if (rc == FT_OK) cli_editor_say(r->editor, s.data);
    str_free(&s);
    return rc;
}

/* A word behind a slash is a command, known or not. */
static ft_status do_command(chat_room *r, char *line)
{
    char *rest = line + strcspn(line, " ");
    size_t n = (size_t)(rest - line);
    rest += strspn(rest, " ");
    for (size_t k = strlen(rest); k > 0 && rest[k - 1] == ' '; k--) rest[k - 1] = '\0';
    for (size_t i = 0; i < FT_COUNT_OF(commands); i++) {
        if (strlen(commands[i].name) != n || memcmp(commands[i].name, line, n) != 0) continue;
        if (commands[i].turns && !tool_talk_has_turns(r->talk)) break;
        return commands[i].run(r, rest);
    }
    return do_help(r, "");
}

static ft_status one_line(chat_room *r, const char *line)
{
    if (line[strspn(line, " ")] == '\0') return FT_OK;
    if (line[0] != '/' || !isalnum((unsigned char)line[1]))
        return tool_talk_say(r->talk, line, r->out);
    char *command = ft_strdup(line + 1);
    if (!command) return FT_EMEM;
    ft_status rc = do_command(r, command);
    ft_free(command);
    return rc;
}

/* What goes wrong with a line is told, and the conversation goes on. */
static ft_status all_lines(chat_room *r)
{
    const char *line;
    while (!r->quit) {
        ft_status rc = cli_editor_line(r->editor, &line);
        if (rc == FT_END) return FT_OK;
        FT_TRY(rc);
        if (!line) continue;
        rc = one_line(r, line);
        if (rc == FT_ESIGNAL || rc == FT_EIO || rc == FT_EINTERNAL) return rc;
        if (rc != FT_OK) cli_error(ft_error());
        ft_error_forget();
    }
    return FT_OK;
}

ft_status cli_chat(tool_model *t, const tool_generate_options *opt, const tool_sink *out)
{
    chat_room r = {.out = out};
    FT_TRY(tool_talk_open(&r.talk, t, opt));
    ft_status rc = cli_editor_open(&r.editor, opt->json);
    if (rc == FT_OK) rc = ft_stop(); /* it came while the model was opened */
    ft_stop_patient(true);
    if (rc == FT_OK)
        log_info("%s; /help lists what can be said beside text",
                 tool_talk_has_turns(r.talk) ? "a chat" : "each line is continued as it is");
    if (rc == FT_OK) rc = all_lines(&r);
    ft_stop_patient(false);
    cli_editor_close(r.editor);
    tool_talk_close(r.talk);
    return rc;
}
