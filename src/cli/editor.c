/* editor.c – lines from a terminal, with editing and history (libedit).
 *
 * Characters are read here and not by libedit: they are UTF-8 whatever the locale says, a signal is seen while waiting, and
 * Ctrl-C clears the line. The locale that libedit draws by is set for this thread while it draws, and nothing else. */
#include "cli.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 200, HISTORY = 1000 };

struct cli_editor {
    EditLine *el;
    HistoryW *history;
    FILE *out; /* the terminal */
    bool own;  /* opened here */
    locale_t utf8, before;
    str_buf line;
    bool ended, interrupted; /* why a line came to no end */
};

/* --- characters --------------------------------------------------------------------------------------------- */

/* One byte: 1, 0 at the end, −1 for a signal. */
static int next_byte(cli_editor *e, unsigned char *c)
{
    for (;;) {
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&p, 1, POLL_MS);
        if (ft_stop_signal()) {
            e->interrupted = true;
            errno = EINTR;
            return -1;
        }
        if (ready <= 0) continue;
        ssize_t n = read(STDIN_FILENO, c, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        e->ended = n <= 0;
        return n > 0 ? 1 : 0;
    }
}

/* What is no UTF-8 becomes U+FFFD. */
static int next_char(EditLine *el, wchar_t *out)
{
    void *data = NULL;
    unsigned char c[4] = {0};
    el_get(el, EL_CLIENTDATA, &data);
    cli_editor *e = data;
    int got = next_byte(e, &c[0]);
    if (got != 1) return got;
    size_t want = c[0] >= 0xf0 ? 4 : c[0] >= 0xe0 ? 3 : c[0] >= 0xc0 ? 2 : 1, n = 1;
    for (; n < want; n++) {
        got = next_byte(e, &c[n]);
        if (got != 1) return got;
    }
    int32_t cp;
    utf8_next((const char *)c, n, &cp);
    *out = cp < 0 ? 0xfffd : (wchar_t)cp;
    return 1;
}

static wchar_t *prompt(EditLine *el)
{
    static wchar_t text[] = L"> ";
    (void)el;
    return text;
}

/* --- open, close ------------------------------------------------------------------------------------------------- */

static FILE *find_terminal(bool json, bool *own)
{
    *own = false;
    if (!json && isatty(STDOUT_FILENO)) return stdout;
    if (isatty(STDERR_FILENO)) return stderr;
    *own = true;
    return fopen("/dev/tty", "we");
}

static ft_status open_parts(cli_editor *e, bool json)
{
    HistEventW event;
    e->out = find_terminal(json, &e->own);
    FT_CHECK(e->out, FT_EIO, "the terminal cannot be written to");
    e->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!e->utf8) e->utf8 = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (e->utf8) e->before = uselocale(e->utf8);
    e->el = el_init("ft", stdin, e->out, stderr);
    e->history = history_winit();
    FT_CHECK(e->el && e->history, FT_EMEM, "out of memory for the line editor");
    history_w(e->history, &event, H_SETSIZE, HISTORY);
    history_w(e->history, &event, H_SETUNIQUE, 1);
    el_set(e->el, EL_CLIENTDATA, e);
    el_wset(e->el, EL_EDITOR, L"emacs");
    el_wset(e->el, EL_PROMPT, prompt);
    el_wset(e->el, EL_HIST, history_w, e->history);
    el_wset(e->el, EL_GETCFN, next_char);
    el_set(e->el, EL_SIGNAL,
           1); /* a stopped program leaves the terminal as it was, and takes it again */
    return FT_OK;
}

ft_status cli_editor_open(cli_editor **out, bool json)
{
    *out = NULL;
    cli_editor *e = ft_alloc(1, sizeof *e);
    if (!e) return FT_EMEM;
    ft_status rc = open_parts(e, json);
    if (e->utf8) uselocale(e->before);
    if (rc != FT_OK)
        cli_editor_close(e);
    else
        *out = e;
    return rc;
}

void cli_editor_close(cli_editor *e)
{
    if (!e) return;
    if (e->el) el_end(e->el);
    if (e->history) history_wend(e->history);
    if (e->out && e->own) fclose(e->out);
    if (e->utf8) freelocale(e->utf8);
    str_free(&e->line);
    ft_free(e);
}

/* --- lines --------------------------------------------------------------------------------------------------------- */

static ft_status take_line(cli_editor *e, const wchar_t *text, int n)
{
    HistEventW event;
    bool blank = true;
    while (n > 0 && (text[n - 1] == L'\n' || text[n - 1] == L'\r')) n--;
    str_clear(&e->line);
    for (int i = 0; i < n; i++) {
        char c[4];
        blank = blank && text[i] == L' ';
        str_add(&e->line, c, (size_t)utf8_put(c, (int32_t)text[i]));
    }
    if (!blank) history_w(e->history, &event, H_ENTER, text);
    return str_ok(&e->line);
}

ft_status cli_editor_line(cli_editor *e, const char **line)
{
    int n = 0;
    *line = NULL;
    e->ended = e->interrupted = false;
    if (e->utf8) e->before = uselocale(e->utf8);
    const wchar_t *text = el_wgets(e->el, &n);
    ft_status rc = text && n > 0 && !e->interrupted ? take_line(e, text, n) : FT_END;
    if (rc != FT_OK) el_reset(e->el);
    if (e->utf8) uselocale(e->before);
    if (rc == FT_OK) *line = e->line.data ? e->line.data : "";
    if (rc == FT_OK || rc != FT_END) return rc;
    cli_editor_say(e, "\n");
    if (!e->interrupted) return FT_END;
    if (!ft_stop_take()) return ft_stop();
    return FT_OK;
}

void cli_editor_say(cli_editor *e, const char *text)
{
    fputs(text, e->out);
    fflush(e->out);
}
